"""What ensembles at many temperatures say: S as ln of the fraction of the domain, and ln Z."""

from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp

from glassgrok.grid import Grid
from glassgrok.landscape import jackknife
from glassgrok.sampling import mbar
from glassgrok.sampling.sweep import Levels

FINE = 0.3  # nats that beta L changes by inside a fine bin; S errs by FINE²/24
MARGIN, TAIL = 1.0, 8.0  # of u beyond the grid and the uniform draws; below few dimensions
OVERLAP = 0.03  # less between neighbours is a gap


class Tempered(NamedTuple):
    """What the ensembles say; K levels without the uniform measure, G groups.

    Attributes:
        grid: the bins.
        entropy: over the grid, ln of the fraction of the domain in the bin; NaN where no sample is.
        entropy_error: its standard error, leaving out one group at a time.
        replicates: (G, ...) `entropy` without each group.
        own: (G, ...) `entropy` from each group alone.
        starts: (G,) what each group started from.
        beta: (K,) of the levels.
        energy: (K,) <L>, and energy_error its standard error.
        u: (K,) <u>.
        log_z: (K,) ln Z(beta), of the domain's uniform measure, and log_z_error.
        integral: (K,) ln Z by thermodynamic integration, and integral_error.
        overlap: (K,) of each ensemble with the one before; 1/2 for the same.
        accepted: (K - 1,) share of exchanges between neighbours.
        trips: round trips from the hottest to the coldest level, of all walkers.
        walker_steps: of sweep and levels together.
    """

    grid: Grid
    entropy: np.ndarray
    entropy_error: np.ndarray
    replicates: np.ndarray
    own: np.ndarray
    starts: tuple[str, ...]
    beta: np.ndarray
    energy: np.ndarray
    energy_error: np.ndarray
    u: np.ndarray
    log_z: np.ndarray
    log_z_error: np.ndarray
    integral: np.ndarray
    integral_error: np.ndarray
    overlap: np.ndarray
    accepted: np.ndarray
    trips: int
    walker_steps: int

    def fraction(self, u_below: float = np.inf, a_above: float = -np.inf) -> tuple[float, float]:
        """ln of the fraction of the domain with u <= `u_below` and A >= `a_above`.

        Args:
            u_below: ln train loss; what lies beyond the grid does not count.
            a_above: test accuracy.

        Returns:
            It and its standard error, in nats; bins count whose middle is inside.
        """
        axes = self.grid.axes
        inside = axes[0].centers <= u_below
        if len(axes) == 2:
            inside = inside[:, None] & (axes[1].centers >= a_above)

        def total(entropy):
            return logsumexp(np.where(inside & np.isfinite(entropy), entropy, -np.inf))

        value, left = total(self.entropy), np.array([total(one) for one in self.replicates])
        return float(value), float(jackknife(left)) if np.isfinite(left).all() else np.nan


class Sums(NamedTuple):
    """What is kept of the levels: histograms of each group, and moments of L.

    Attributes:
        fine: (G, K, n) counts along u; joint: (G, n, m) counts of fine bins by bins of the grid.
        energy: (G, K, 2) sums of L and L²; u: (G, K) of u.
    """

    fine: np.ndarray
    joint: np.ndarray
    energy: np.ndarray
    u: np.ndarray


def fine_edges(grid: Grid, levels: Levels, uniform) -> np.ndarray:
    """Edges along u so fine that beta L hardly changes inside, and that the grid's are among them.

    Where a level spends its time beta L is about its heat, plus fluctuations of its root.
    """
    axis = grid.axes[0]
    steep = np.maximum(levels.beta * np.exp(levels.u), 1.0)
    width = axis.width / np.ceil(axis.width * steep.max() / FINE)
    # Few degrees of freedom come far below their mean.
    margin = max(MARGIN, TAIL / np.sqrt(steep[-1]))
    bottom = min(axis.low, float(levels.u.min()), float(uniform[:, 0].min())) - margin
    top = max(float(uniform[:, 0].max()), axis.high) + MARGIN
    first, last = (np.ceil(abs(end - axis.low) / width) for end in (bottom, top))
    return axis.low + width * np.arange(-first, last + 1)


def empty(grid: Grid, groups: int, levels: int, edges: np.ndarray) -> Sums:
    fine = len(edges) + 1  # with what lies beyond the ends
    other = grid.axes[1].bins + 1 if len(grid.axes) == 2 else 0
    return Sums(
        np.zeros((groups, levels, fine), np.int32),
        np.zeros((groups, fine, other), np.int64),
        np.zeros((groups, levels, 2)),
        np.zeros((groups, levels)),
    )


def count(sums: Sums, grid: Grid, edges, values, level) -> None:
    """Add a block's samples, values (K, steps, G, axes) of walkers at `level` (K, G)."""
    u = values[..., 0].astype(np.float64)
    place = np.searchsorted(edges, u, side="right")
    other = _column(grid, values)
    loss = np.exp(u)
    moments = np.stack([loss.sum(axis=1), (loss**2).sum(axis=1)], axis=-1)
    for g in range(level.shape[1]):
        flat = level[:, None, g] * sums.fine.shape[2] + place[:, :, g]
        _tally(sums.fine[g], flat)
        sums.energy[g, level[:, g]] += moments[:, g]
        sums.u[g, level[:, g]] += u[:, :, g].sum(axis=1)
        if other is not None:
            flat = place[:, :, g] * sums.joint.shape[2] + other[:, :, g]
            _tally(sums.joint[g], flat)


def _tally(counts: np.ndarray, flat: np.ndarray) -> None:
    """Count flat indices, of which a block touches few."""
    touched, times = np.unique(flat, return_counts=True)
    counts.reshape(-1)[touched] += times.astype(counts.dtype)


def _column(grid: Grid, values: np.ndarray):
    """Bin along A, the number of bins where it is beyond the axis; None without A."""
    if len(grid.axes) == 1:
        return None
    axis = grid.axes[1]
    column = np.floor((values[..., 1] - axis.low) / axis.width).astype(np.int64)
    # The last bin holds its upper end, since a smooth accuracy saturates at exactly 1.
    column = np.where(values[..., 1] == np.float32(axis.high), axis.bins - 1, column)
    return np.where((column >= 0) & (column < axis.bins), column, axis.bins)


def estimate(grid: Grid, levels: Levels, uniform, edges, sums: Sums, **told) -> Tempered:
    """The Tempered of all groups, with errors from leaving out one at a time.

    Args:
        grid, levels: as sampled.
        uniform: (draws, axes) values at uniform points.
        edges: of the fine bins.
        sums: of the levels.
        **told: fields of Tempered that are not estimated.

    Raises:
        FloatingPointError: neighbouring ensembles do not overlap.
    """
    groups = len(sums.fine)
    middles = np.concatenate([[edges[0]], (edges[1:] + edges[:-1]) / 2, [edges[-1]]])
    potential = np.concatenate(
        [np.zeros((1, len(middles))), levels.beta[:, None] * np.exp(middles)]
    )
    drawn = [_draws_of(grid, edges, uniform[g::groups]) for g in range(groups)]

    def solve(chosen):
        fine = sum(drawn[g][0] for g in chosen), sums.fine[chosen].sum(axis=0)
        found = mbar.Histograms(np.concatenate([fine[0][None], fine[1]]), potential)
        energy = sums.energy[chosen].sum(axis=0) / fine[1].sum(axis=1)[:, None]
        integral = _integral(levels.beta, energy, fine[0], middles)
        f = mbar.free_energies(found, np.concatenate([[0.0], -integral]))
        joint = sum(drawn[g][1] for g in chosen) + sums.joint[chosen].sum(axis=0)
        entropy = _surface(grid, edges, found, f, joint)
        return entropy, -f[1:], energy[:, 0], integral, found, f

    everyone = list(range(groups))
    entropy, log_z, energy, integral, found, f = solve(everyone)
    overlap = mbar.overlaps(found, f)
    _stop_where_levels_part(overlap, levels)
    left = [solve([h for h in everyone if h != g]) for g in everyone]
    own = np.array([solve([g])[0] for g in everyone])
    errors = [jackknife(np.array([one[i] for one in left])) for i in range(4)]
    return Tempered(
        grid=grid,
        entropy=entropy,
        entropy_error=errors[0],
        replicates=np.array([one[0] for one in left]),
        own=own,
        beta=levels.beta,
        energy=energy,
        energy_error=errors[2],
        u=sums.u.sum(axis=0) / sums.fine.sum(axis=(0, 2)),
        log_z=log_z,
        log_z_error=errors[1],
        integral=integral,
        integral_error=errors[3],
        overlap=overlap,
        **told,
    )


def _stop_where_levels_part(overlap: np.ndarray, levels: Levels) -> None:
    """Across a gap ln Z would be whatever the solution began with."""
    k = int(np.argmin(overlap))
    if overlap[k] < OVERLAP:
        beta = np.concatenate([[0.0], levels.beta])
        raise FloatingPointError(
            f"The ensembles at beta = {beta[k]:.4g} and {beta[k + 1]:.4g} hardly overlap "
            f"({overlap[k]:.2g}, where {OVERLAP:g} is needed), so that nothing absolute follows "
            "below them: set a smaller spread or more level_steps; a first-order jump between them "
            "is not crossed."
        )


def _draws_of(grid: Grid, edges: np.ndarray, values: np.ndarray):
    """Histograms of uniform draws, as those of `Sums`."""
    place = np.searchsorted(edges, values[:, 0], side="right")
    fine = np.bincount(place, minlength=len(edges) + 1)
    other = _column(grid, values)
    if other is None:
        return fine, np.zeros((len(edges) + 1, 0), np.int64)
    columns = grid.axes[1].bins + 1
    flat = np.bincount(place * columns + other, minlength=(len(edges) + 1) * columns)
    return fine, flat.reshape(-1, columns)


def _integral(beta: np.ndarray, energy: np.ndarray, uniform: np.ndarray, middles) -> np.ndarray:
    """(K,) ln Z = ln <e^{-beta_1 L}>_uniform - int beta <L> d ln beta, by cubic Hermite pieces.

    Their slopes are d(beta <L>)/d ln beta = beta <L> - beta² Var L.
    """
    first = logsumexp(-beta[0] * np.exp(middles), b=uniform) - np.log(uniform.sum())
    x, y = np.log(beta), beta * energy[:, 0]
    slope = y - beta**2 * np.maximum(energy[:, 1] - energy[:, 0] ** 2, 0.0)
    step = np.diff(x)
    pieces = step * (y[1:] + y[:-1]) / 2 + step**2 * (slope[:-1] - slope[1:]) / 12
    return first - np.concatenate([[0.0], np.cumsum(pieces)])


def _surface(grid: Grid, edges, found: mbar.Histograms, f, joint) -> np.ndarray:
    """S over the grid from the weights of the fine bins."""
    weight = mbar.log_weights(found, f)
    axis = grid.axes[0]
    middles = (edges[1:] + edges[:-1]) / 2
    row = np.full(len(weight), -1)
    row[1:-1] = np.floor((middles - axis.low) / axis.width)
    counts = joint[:, :-1] if joint.shape[1] else found.counts.sum(axis=0)[:, None]
    entropy = np.full((axis.bins, counts.shape[1]), np.nan)
    with np.errstate(divide="ignore"):
        each = np.log(counts) + weight[:, None]
    for r in range(axis.bins):
        here = each[row == r]
        total = np.logaddexp.reduce(here, axis=0)
        entropy[r] = np.where(np.isfinite(total), total, np.nan)
    return entropy.reshape(grid.shape)
