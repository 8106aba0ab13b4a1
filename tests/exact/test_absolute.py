"""Absolute entropy from ensembles at many temperatures, against volumes that are known."""

from functools import cache
from math import lgamma, log, pi

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from exact_systems import PLANE, designed_case, designed_entropy
from scipy.special import erf

import glassgrok as gg
from glassgrok.sampling import tempering
from glassgrok.sampling.config import TemperingConfig
from glassgrok.sampling.tempering import temper

KEY = jax.random.key(0)


def well(d: int) -> gg.System:
    """u = ln(|x|²/2) in the box of half width 1."""
    return gg.System(
        lambda key: jax.random.normal(key, (d,)) / 10,
        lambda x: (jnp.log(jnp.sum(x**2) / 2),),
        gg.Box(1.0),
    )


def exact_log_z(d: int, beta: np.ndarray) -> np.ndarray:
    """ln of the mean of exp(-beta |x|²/2) over the box."""
    return d * (np.log(2 * pi / beta) / 2 + np.log(erf(np.sqrt(beta / 2))) - log(2))


def ball(d: int, u):
    """ln of the fraction of the box with |x|²/2 < e^u, where that ball lies inside."""
    return d / 2 * log(pi) - lgamma(d / 2 + 1) + d / 2 * (u + log(2)) - d * log(2)


@cache
def run(d: int, steps: int, seed: int = 0):
    grid = gg.Grid(gg.Axis("u", -4.0, log(d / 6) + 0.2, 20))
    config = TemperingConfig(groups=16, steps=steps, level_steps=200)
    return temper(well(d), grid, config, jax.random.key(seed))


@pytest.mark.parametrize(
    ("d", "steps", "largest"), [(2, 4000, 0.25), (10, 4000, 0.25), (60, 2000, 0.8)]
)
def test_the_fraction_is_absolute(d, steps, largest):
    """The error is that of all levels together: one number, so z < 4 of 15 degrees of freedom."""
    found = run(d, steps)
    for name in ("log_z", "integral"):
        off = getattr(found, name)[-1] - exact_log_z(d, found.beta[-1:])[0]
        error = getattr(found, f"{name}_error")[-1]
        assert error < largest
        assert abs(off) < 4 * error, name
    value, error = found.fraction(u_below=-2.0)
    edges = found.grid.axes[0].edges
    below = edges[np.searchsorted(found.grid.axes[0].centers, -2.0)]
    wanted = ball(d, below) + np.log1p(-np.exp(ball(d, edges[0]) - ball(d, below)))
    assert abs(value - wanted) < 4 * error
    assert found.overlap.min() > 0.1
    assert found.accepted.min() > 0.05  # of 320 tries: no level is cut off


@pytest.mark.slow  # six runs; each of the others looks at one
def test_errors_hold_over_seeds():
    """z of ln Z at the last level: the mean of 6 is 0 and its spread about 1."""
    z = []
    for seed in range(6):
        found = run(10, 4000, seed)
        off = found.log_z[-1] - exact_log_z(10, found.beta[-1:])[0]
        z.append(off / found.log_z_error[-1])
    assert abs(np.mean(z)) < 4 / np.sqrt(6)
    assert np.sqrt(np.mean(np.square(z))) < 2


def test_two_variables():
    """S(u, a) = k u + c(a) in the box, up to the constant of its map from |y| to u."""
    case = designed_case("control", "", None)
    config = TemperingConfig(groups=8, steps=3000, level_steps=200, omega_dt=0.1)
    found = temper(case.system, PLANE, config, KEY)
    exact = designed_entropy("control")
    known = np.isfinite(found.entropy_error) & (found.entropy_error < 0.5)
    assert known.mean() > 0.4
    off = (found.entropy - exact)[known]
    assert np.std(off) < 0.5
    score = (off - off.mean()) / found.entropy_error[known]
    assert np.sqrt(np.mean(score**2)) < 2


def test_exchanges_that_are_always_accepted_are_wrong(monkeypatch):
    """The negative control."""
    exchange = tempering._exchange

    def always(levels, *rest):
        return exchange(levels._replace(beta=0 * levels.beta), *rest)

    monkeypatch.setattr(tempering, "_exchange", always)
    found = run.__wrapped__(10, 4000)
    off = found.log_z[-1] - exact_log_z(10, found.beta[-1:])[0]
    assert abs(off) > 6 * found.log_z_error[-1]
