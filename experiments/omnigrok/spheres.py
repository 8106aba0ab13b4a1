"""What landscapes on spheres tell at one train loss: fractions that fit, and their test loss."""

from collections.abc import Callable

import numpy as np
from scipy.interpolate import PchipInterpolator

from glassgrok.landscape import Landscape, jackknife

REACHED = 3  # spheres that reach the lowest loss told
LACKS = -3.0  # ln of the share of the networks told of that may lie below the grid, about
RARE = -5.0  # ln of the fraction of a sphere that has the highest one, at most
STEP = 0.01  # of ln train loss, to which the losses told of are rounded


def fits(landscape: Landscape, levels: list[float]) -> list[tuple[float, float]]:
    """ln of the fraction of a sphere with ln train loss <= u, and its error, for each level u.

    Between edges of bins it follows S' of the windows, see `_risen`. NaN below `_end`.

    Raises:
        ValueError: S is up to a constant.
    """
    if not landscape.normalised:
        raise ValueError(
            "S of a sphere is known on one side of a gap between windows, so that no fraction "
            "follows; sample it with a larger rigidity, or more steps."
        )
    groups = landscape.groups
    left = [landscape.pool(np.delete(groups, g, axis=0)) for g in range(len(groups))]
    whole = _below(landscape, landscape.entropy, levels)
    errors = jackknife(np.array([_below(landscape, s, levels) for s in left]))
    return list(zip(whole, errors, strict=True))


def _totals(entropy: np.ndarray) -> np.ndarray:
    """ln of the fraction below the upper edge of each bin."""
    return np.logaddexp.accumulate(np.where(np.isfinite(entropy), entropy, -np.inf))


def _below(landscape: Landscape, entropy: np.ndarray, levels: list[float]) -> np.ndarray:
    total, risen = _totals(entropy), _risen(landscape)
    known = np.isfinite(total)
    if not known.any():
        return np.full(len(levels), np.nan)
    edges = landscape.grid.axes[0].edges[1:][known]
    found = np.interp(risen(levels), risen(edges), total[known], left=np.nan)
    return np.where(np.array(levels) >= _end(landscape), found, np.nan)


def _risen(landscape: Landscape) -> Callable:
    """u -> the integral of S' that the windows measure, as it rises; beyond them S' stays.

    Where S' is in the hundreds S bends by tens of nats within a bin.
    """
    windows = landscape.umbrella
    u, first = np.unique(windows.mean[:, 0], return_index=True)
    slope = np.maximum((windows.stiffness * (windows.mean - windows.center))[first, 0], 1.0)
    integral = PchipInterpolator(u, slope).antiderivative()

    def risen(x):
        inside = np.clip(x, u[0], u[-1])
        return integral(inside) + (x - inside) * np.where(x > inside, slope[-1], slope[0])

    return risen


def _end(landscape: Landscape) -> float:
    """The lowest u that is told of: there the lowest bin holds at most e^`LACKS` of what fits.

    inf where there is none.
    """
    total, edges = _totals(landscape.entropy), landscape.grid.axes[0].edges[1:]
    known = np.isfinite(total)
    if not known.any():
        return np.inf
    return float(np.interp(total[known][0] - LACKS, total[known], edges[known], right=np.inf))


def mean_test_losses(landscape: Landscape, levels: list[float]) -> np.ndarray:
    """Mean ln test loss in equilibrium of all networks with at most each train loss.

    NaN where most of these lie in bins that uniform draws alone have seen, which tell no test loss.
    """
    values = landscape.extras["ln_test_loss"]
    known = np.isfinite(values) & np.isfinite(landscape.entropy)
    told = _totals(np.where(known, landscape.entropy, -np.inf))
    mean, means = np.nan, np.full(len(values), np.nan)
    for i in np.flatnonzero(np.isfinite(told)):
        # e^S underflows where S is below -745, shares of a total do not.
        new = np.exp(landscape.entropy[i] - told[i]) if known[i] else 0.0
        mean = values[i] if new == 1 else mean + new * (values[i] - mean) if new else mean
        means[i] = mean
    with np.errstate(invalid="ignore"):
        means[told - _totals(landscape.entropy) < np.log(0.5)] = np.nan
    found = np.interp(levels, landscape.grid.axes[0].edges[1:], means)
    return np.where(np.array(levels) >= _end(landscape), found, np.nan)


def levels_of(spheres: list[Landscape]) -> list[float]:
    """Train losses that are told, from the lowest that three spheres reach upwards.

    On none of the spheres that reach one do more than e^-5 of its networks have it, so that none
    has it by saying nothing; where there are no such losses none are told.
    """
    ends = np.array([_end(sphere) for sphere in spheres])
    rare = np.array([_where(sphere, RARE) for sphere in spheres])
    low = np.sort(ends)[min(REACHED, len(ends)) - 1]
    high = np.where(rare >= ends, rare, ends - STEP).min()
    # Rounded inwards: S' can be 1,000 per nat, so that a page must tell the very loss.
    low, high = np.ceil(low / STEP), np.floor(high / STEP)
    if not (np.isfinite(low) and low <= high):
        return []
    return (np.unique(np.round(np.linspace(low, high, 3))) * STEP).round(6).tolist()


def _where(landscape: Landscape, fraction: float) -> float:
    """The highest edge of a bin below which ln of the fraction of a sphere is at most that."""
    rare = np.sum(_totals(landscape.entropy) <= fraction)
    return float(landscape.grid.axes[0].edges[rare])
