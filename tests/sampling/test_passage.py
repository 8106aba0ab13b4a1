"""First passages against diffusion, whose mean time from a wall to a point is exact."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import glassgrok as gg
from glassgrok.sampling.passage import Passage, first_passage

# u and A are coordinates of a box with walls at 0 and 20; A from 0 on.
LONG, LEVEL, FRICTION, DT = 20.0, 15.0, 0.5, 0.5
SYSTEM = gg.System(
    lambda key: jnp.zeros(2), lambda x: (x[0] - 1.0, x[1] + 0.5 * LONG), gg.Box(0.5 * LONG)
)
GRID = gg.Grid(gg.Axis("u", -12.0, 10.0, 8), gg.Axis("a", 0.0, LONG, 8))
AT_WALL = jnp.array([0.0, -0.5 * LONG])


def expected(friction: float) -> float:
    """Steps from a reflecting wall to an absorbing point: L²/2D, L longer by Milne's 1.46 paths.

    D = dt² (1/c - 1/2) a step; the mean free path is sqrt(D per time) sqrt(time constant).
    """
    diffusion = DT**2 * (1 / friction - 0.5)
    path = np.sqrt(diffusion * (1 / friction - 0.5))
    return (LEVEL + 1.46 * path) ** 2 / (2 * diffusion)


def passed(friction=FRICTION, **how) -> Passage:
    given = {"level": LEVEL, "steps": 12_000, "dt": DT, "walkers": 256, "tile": 64}
    return first_passage(
        SYSTEM, GRID, AT_WALL, jax.random.key(1), friction=friction, block=500, **(given | how)
    )


def test_diffusion_takes_as_long_as_it_should():
    steps = passed().steps
    assert np.isfinite(steps).all()
    error = steps.std() / np.sqrt(len(steps))
    assert error < 0.06 * steps.mean()
    assert abs(steps.mean() - expected(FRICTION)) < 3 * error
    # Control: with other friction the time is another one.
    assert abs(steps.mean() - expected(0.3)) > 5 * error


def test_a_potential_that_pulls_back_holds_walkers():
    downhill = np.tile(np.linspace(0, 20, 8), (8, 1))
    found = passed(V=downhill, steps=1_000)
    assert found.passed == 0
    tau, low, high = found.time_constant()
    assert (tau, high) == (np.inf, np.inf)
    assert low == pytest.approx(256 * found.limit / 3.689, rel=1e-3)  # -ln .025


def test_the_time_constant_of_exponential_passages():
    random, inside = np.random.default_rng(0), 0
    for _ in range(400):
        steps = random.exponential(100.0, 16)
        steps[steps > 150] = np.nan
        _, low, high = Passage(steps, 150, np.zeros((1, 16, 2))).time_constant()
        inside += low < 100 < high
    assert 0.92 < inside / 400 < 0.99


@pytest.mark.parametrize(
    ("how", "message"),
    [({"tile": 7}, "whole tiles"), ({"level": -1.0}, "not below the level -1")],
)
def test_what_cannot_be_is_refused(how, message):
    with pytest.raises(ValueError, match=message):
        passed(**how)
