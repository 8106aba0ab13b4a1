"""V = exact S, no updates: what is measured must be S again. The sharpest test of a kernel.

Under V = S at temperature T the estimate is S + V (1 - 1/T), so that its slope against S tells
1 - 1/T, whatever the grid does between the bins.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from exact_systems import boxed_well_entropy, ln_half_square, sphere_entropy, well_entropy

import glassgrok as gg
from glassgrok.landscape import jackknife, pooled
from glassgrok.sampling.sampler import (
    PRODUCTION,
    STAGES,
    advance,
    build,
    current_landscape,
    finished,
    initialise,
)

D = 40


def start_in(low, high, size=D):
    """A random direction, u = ln(|x|² / 2) uniform."""

    def init(key):
        first, second = jax.random.split(key)
        x = jax.random.normal(first, (size,))
        u = jax.random.uniform(second, (), minval=low, maxval=high)
        return x * jnp.sqrt(2 * jnp.exp(u)) / jnp.linalg.norm(x)

    return init


def hole():
    grid = gg.Grid(gg.Axis("u", -1.0, 0.0, 20))
    system = gg.System(start_in(-1.0, 0.0), ln_half_square, gg.Free())
    return system, grid, well_entropy(grid.axes[0].edges, D), 0.02


def boxed():
    grid = gg.Grid(gg.Axis("u", 1.0, 1.9, 20))
    system = gg.System(start_in(1.0, 1.9), ln_half_square, gg.Box(1.0))
    return system, grid, boxed_well_entropy(grid.axes[0].edges, D, cells=2048), 0.05


def shell():
    grid = gg.Grid(gg.Axis("u", -0.6, -0.1, 20))
    system = gg.System(lambda key: jnp.ones(80), lambda x: (x[0],), gg.Shell(1.0))
    return system, grid, sphere_entropy(grid.axes[0].edges, 80), 0.015


DOMAINS = {"free": hole, "box": boxed, "shell": shell}


def slope(system, grid, exact, dt, integrator="middle", wall=0.3, block=100, steps=5000):
    """Slope of (measured S - exact S) against exact S, its error, share on the grid, acceptance."""
    config = gg.SamplerConfig(
        steps=steps, walkers=256, tile=16, groups=16, dt=dt, friction=0.1, wall=wall,
        integrator=integrator, block=block, ladder_steps=0, audit=0.0,
    )  # fmt: skip
    key = jax.random.key(0)
    program = build(system, grid, config, key)
    state = initialise(program, system, key)._replace(
        stage=STAGES.index(PRODUCTION), entropy=exact, wall=np.array([wall])
    )
    shares = []
    while not finished(state):
        state, report = advance(program, state)
        shares.append(report.on_grid)
    landscape = current_landscape(program, state)

    def fit(groups):
        return np.polyfit(exact, pooled(groups) - exact, 1)[0]

    groups = landscape.groups
    left = [fit(np.delete(groups, g, axis=0)) for g in range(len(groups))]
    return fit(groups), jackknife(np.array(left)), np.mean(shares), landscape.diagnostics.acceptance


@pytest.mark.parametrize("integrator", ["middle", "metropolis"])
@pytest.mark.parametrize("domain", DOMAINS)
def test_the_exact_bias_gives_back_s(domain, integrator):
    system, grid, exact, dt = DOMAINS[domain]()
    assert np.ptp(exact) > 8
    found, error, _, accepted = slope(
        system, grid, exact, dt, integrator, steps=5000 if domain == "free" else 10_000
    )
    assert error < 0.002
    assert abs(found) < 0.01
    assert abs(found) < 5 * error
    assert accepted == 1 if integrator == "middle" else 0.7 < accepted < 1


def test_the_scheme_of_the_paper_does_not():
    """Negative control: T = 1 - c_f / 2, so that all of S is multiplied by it."""
    found, error, _, _ = slope(*hole(), "paper")
    assert error < 0.002
    assert found == pytest.approx(-0.05, abs=0.01)


def test_walkers_beyond_the_edge_are_left_there():
    """A soft wall and short blocks: many walkers spend whole blocks beyond the edge.

    They belong to the equilibrium. Re-seeding them in the bulk empties the slow end of the grid:
    it gave a slope of -0.013.
    """
    found, error, share, _ = slope(*hole(), wall=0.05, block=10)
    assert share < 0.9
    assert error < 0.002
    assert abs(found) < 5 * error


def test_a_wall_alone_that_is_weaker_than_s_loses_the_walkers():
    """S' = 20 a unit of u, 1 nat a bin. V goes on beyond the edge with its slope, and that holds.

    Negative control: a V that is flat in the outermost bins has nothing but the wall there, and
    the walkers sit where wall and S' balance, 1 / (2 wall) = 10 bins off the grid.
    """
    system, grid, exact, dt = hole()
    _, _, share, _ = slope(system, grid, exact, dt, wall=0.05)
    assert share > 0.6
    flat = exact.copy()
    flat[-3:] = flat[-3]
    _, _, share, _ = slope(system, grid, flat, dt, wall=0.05)
    assert share < 0.2
