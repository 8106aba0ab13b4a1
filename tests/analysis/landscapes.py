"""Landscapes whose answer is known, for the tests beside this file."""

import numpy as np

from glassgrok.analysis.rows import row_entropy
from glassgrok.grid import Axis, Grid
from glassgrok.landscape import Landscape, pooled
from glassgrok.sampling import production

SD = 0.07
STARTS = ("memorising", "generalising") * 3


def landscape(groups, starts=STARTS, extras=None) -> Landscape:
    """A landscape over u in [-8, 0] and A in [0, 1] with these (G, nu, nA) group entropies."""
    groups = np.asarray(groups, float)
    _, rows, columns = groups.shape
    grid = Grid(Axis("ln_loss", -8.0, 0.0, rows), Axis("test_accuracy", 0.0, 1.0, columns))
    entropy = pooled(groups)
    visits = np.isfinite(groups).sum(0) * 1000
    error = np.where(visits > 0, 0.5, np.nan)
    return Landscape(grid, entropy, error, visits, groups, starts, extras or {})


def gaussian_rows(means, bins=40) -> np.ndarray:
    """(nu, bins) S = -(A - mean)^2 / 2 SD^2 + 40 nats a row."""
    centers = Axis("test_accuracy", 0.0, 1.0, bins).centers
    means = np.asarray(means, float)
    return 40 * np.arange(len(means))[:, None] - (centers - means[:, None]) ** 2 / (2 * SD**2)


def six(entropy) -> np.ndarray:
    return np.repeat(np.asarray(entropy, float)[None], 6, axis=0)


def noisy(rng, rows=400, noise=0.1, groups=6):
    """Rows of one Gaussian with independent noise, and the exact error of their mean.

    To first order mean A = sum w A with w ~ e^S, so var = sum_A w^2 (A - mean)^2 noise^2 / G.
    """
    entropy = gaussian_rows(np.full(rows, 0.5))
    centers = Axis("test_accuracy", 0.0, 1.0, 40).centers
    weights = np.exp(entropy[0] - row_entropy(entropy[0]))
    exact = noise * np.sqrt(((weights * (centers - 0.5)) ** 2).sum() / groups)
    return entropy + noise * rng.normal(size=(groups, *entropy.shape)), exact


def sampled(
    rng, rows=400, rate=10.0, clump=1.0, tail=1.2, groups=8
) -> tuple[Landscape, np.ndarray]:
    """A landscape from few samples of heavy-tailed weight, and its true (rows, 24) S.

    Args:
        rng: of numpy.
        rows: all of them a Gaussian in A around 0.5, of standard deviation 0.1.
        rate: samples of a group in a bin, on average.
        clump: variance of a group's rate, in units of its mean squared; samples come in clusters.
        tail: standard deviation of ln weight.
        groups: every second one of a start.
    """
    grid = Grid(Axis("ln_loss", -8.0, 0.0, rows), Axis("test_accuracy", 0.0, 1.0, 24))
    entropy = 0 * grid.axes[0].centers[:, None] - 50 * (grid.axes[1].centers - 0.5) ** 2
    uneven = rate * np.exp(rng.normal(size=grid.size) - 0.5)
    visits = rng.poisson(uneven * rng.gamma(1 / clump, clump, (groups, grid.size)))
    each = np.exp(tail * rng.normal(size=visits.sum()) - tail**2 / 2)
    bins = np.repeat(np.arange(visits.size), visits.ravel())
    weight = np.bincount(bins, each, visits.size).reshape(visits.shape)
    starts = ("memorising", "generalising") * (groups // 2)
    reference = entropy.ravel() - np.log(uneven)
    found = production.estimate(reference, visits, weight)
    surfaces = [array.reshape(-1, *grid.shape) for array in found]
    counts = visits.sum(0).reshape(grid.shape)
    made = Landscape(grid, surfaces[0][0], surfaces[1][0], counts, surfaces[2], starts)
    return made, entropy
