"""A system in which u is seven times steeper at the edge of the grid than in its middle.

A wall as stiff as the time step allows in the middle breaks the dynamics at the edge: walkers are
heated there, and S comes out wrong by nats with error bars of hundredths. Regression test.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import glassgrok as gg


def exact(edges_u, edges_a):
    """ln volume of (x, y) in [-1, 1]² in each bin, for u = x + 2x³ and a = y + y³."""

    def length(edges, a, b):
        t = np.linspace(-1, 1, 200_001)
        return np.diff(np.interp(edges, a * t + b * t**3, t))

    return np.log(length(edges_u, 1.0, 2.0))[:, None] + np.log(length(edges_a, 1.0, 1.0))[None]


# The longer one takes half a minute to say the same.
@pytest.mark.parametrize("dt", [pytest.param(0.04, marks=pytest.mark.slow), 0.02])
def test_entropy_is_right_within_its_error(dt):
    system = gg.System(
        lambda key: jnp.zeros(10),
        lambda x: (x[0] + 2 * x[0] ** 3, x[1] + x[1] ** 3),
        gg.Box(1.0),
    )
    grid = gg.Grid(gg.Axis("u", -2.5, 2.5, 16), gg.Axis("a", -1.6, 1.6, 12))
    config = gg.SamplerConfig(steps=30_000, tile=4, groups=16, dt=dt, ladder_steps=0, friction=0.03)
    landscape = gg.sample(system, grid, config, jax.random.key(1))
    assert landscape.visits.min() > 400  # else the bounds below mean nothing
    difference = landscape.entropy - exact(grid.axes[0].edges, grid.axes[1].edges)
    difference -= np.average(difference, weights=landscape.visits)
    # 16 groups: Student's t of 15 degrees of freedom, as the normal z of the same probability.
    z = stats.norm.isf(stats.t.sf(np.abs(difference) / landscape.entropy_error, 15))
    assert np.sqrt(np.mean(difference**2)) < 0.1
    assert z.max() < 5
    assert np.sqrt(np.mean(z**2)) < 1.5
