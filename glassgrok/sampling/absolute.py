"""What umbrella windows say: S as ln of the fraction of the domain, and how far to believe it."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.sparse import csgraph, csr_array
from scipy.special import logsumexp

from glassgrok.grid import Grid
from glassgrok.landscape import LOST, Landscape, Umbrella, jackknife
from glassgrok.sampling import mbar
from glassgrok.sampling.cells import Cells
from glassgrok.sampling.mean_force import Forces, Moments, divergence, forces
from glassgrok.sampling.sweep import Rungs
from glassgrok.sampling.windows import FREE, Windows, across

OVERLAP = 0.003  # less between neighbours is a gap
ELSEWHERE, SURE = 8.0, 5.0  # -ln of the share of a window's samples that can be its own, if so few
# are left; and by so many errors of its free energy
CHANCE = 1e-4  # so is a smaller chance that neighbours exchange
HALVES = 2
ASIDE = 3.0  # standard deviations of A at a rung that its columns reach, at least


class Sums(NamedTuple):
    """What is kept of the windows, by half of the counted time and group.

    Attributes:
        counts: (2, G, cells) samples of all windows.
        size: (2, G, K) samples of each window.
        values: (2, G, K, axes) sums of the collective variables.
        gap: (2, G, E, 2, 3) sums of w_j - w_i, of its square and of the chance to accept the
            other, of the samples of i and those of j.
        extras: (X, G, cells) sums of each extra.
        balance: (G, K, 3) sums of both sides of the mean force along u, see `restrained.balance`.
    """

    counts: np.ndarray
    size: np.ndarray
    values: np.ndarray
    gap: np.ndarray
    extras: np.ndarray
    balance: np.ndarray

    @classmethod
    def empty(cls, groups: int, windows: Windows, pairs, cells: Cells, extras: int) -> "Sums":
        """Nothing seen yet."""
        (count, axes), size = windows.center.shape, int(np.prod(cells.shape))
        return cls(
            np.zeros((HALVES, groups, size), np.int64),
            np.zeros((HALVES, groups, count), np.int64),
            np.zeros((HALVES, groups, count, axes)),
            np.zeros((HALVES, groups, len(pairs), 2, 3)),
            np.zeros((extras, groups, size)),
            np.zeros((groups, count, 3)),
        )

    def add(self, windows: Windows, pairs, cells: Cells, seen: np.ndarray, half: int, group: int):
        """Count (K, steps, axes + X) values of one group's walkers, in the order of windows."""
        axes = windows.center.shape[1]
        values, extras = seen[..., :axes].astype(np.float64), seen[..., axes:]
        touched, place, times = np.unique(
            cells.index(values), return_inverse=True, return_counts=True
        )
        self.counts[half, group, touched] += times
        for sums, extra in zip(self.extras[:, group], np.moveaxis(extras, -1, 0), strict=True):
            sums[touched] += np.bincount(place.ravel(), extra.ravel(), len(touched))
        self.size[half, group] += values.shape[1]
        self.values[half, group] += values.sum(axis=1)
        for side in range(2):
            at = values[pairs[:, side]]
            one, other = (windows.potential(pairs[:, k], at) for k in range(2))
            gap = other - one
            accepted = np.exp(np.minimum(gap if side else -gap, 0.0))
            moments = [gap.sum(axis=1), (gap**2).sum(axis=1), accepted.sum(axis=1)]
            self.gap[half, group, :, side] += np.stack(moments, axis=-1)


class _Part(NamedTuple):
    """The sums of some groups, in some half or in both, with their uniform draws.

    Attributes:
        counts: (cells,), the uniform draws among them.
        size: (1 + K,), the uniform draws first.
        gap: (E, 2, 3).
        points: (n,) cells of the uniform draws.
    """

    counts: np.ndarray
    size: np.ndarray
    gap: np.ndarray
    points: np.ndarray


class _Said(NamedTuple):
    """What some groups say by themselves.

    Attributes:
        kept: cells that hold samples.
        force: free energies by integration, and the curl.
        solved: all windows at once.
        overlap: (1 + E,) of neighbours, the uniform draws first, to be compared with 1/2.
        entropy, error: over the grid.
        groups: their pseudovalues.
        halves: of the counted time, likewise.
        f_error: (K,).
        ln_z: (R,) ln of the mean of e^-w over the domain, of rungs of the way down.
        ln_z_without: (G, R) the same without each group in turn.
    """

    kept: np.ndarray
    force: Forces
    solved: mbar.Solution
    overlap: np.ndarray
    entropy: np.ndarray
    error: np.ndarray
    groups: np.ndarray
    halves: np.ndarray
    f_error: np.ndarray
    ln_z: np.ndarray
    ln_z_without: np.ndarray


def estimate(
    grid: Grid,
    windows: Windows,
    uniform: np.ndarray,
    pairs: np.ndarray,
    cells: Cells,
    sums: Sums,
    rungs: Rungs,
    names: tuple[str, ...],
    starts: tuple[str, ...],
    **told,
) -> Landscape:
    """The Landscape of the first start's groups, with errors from leaving out one at a time.

    The groups of each other start are solved by themselves, as witnesses.

    Args:
        grid, windows: as sampled.
        uniform: (draws, axes) values at uniform points.
        pairs: (E, 2) neighbours.
        cells: of the counts.
        sums: of the windows.
        rungs: on the way down.
        names: of the extras.
        starts: (G,) what each group started from, alike ones side by side.
        **told: fields of Umbrella that are not estimated.

    Raises:
        FloatingPointError: windows of the first start's groups do not overlap.
    """
    members = {name: [g for g, own in enumerate(starts) if own == name] for name in starts}
    first, *others = members
    whole = _whole(windows, rungs)
    given = windows, uniform, pairs, cells, sums
    way = rungs.center[whole], rungs.stiffness[whole]
    said = _solved(grid, *given, way, members[first])
    witnesses = {name: _witnesses(grid, *given, way, members[name]) for name in others}
    lost = {f"{LOST}{name}": why for name, (_, why) in witnesses.items() if why}
    joined, scale = _scale(windows, pairs)
    counts, size, values = (
        a[:, members[first]].sum(axis=(0, 1)) for a in (sums.counts, sums.size, sums.values)
    )
    bins = cells.bins(grid, np.arange(len(counts)))
    visits = np.bincount(bins[bins >= 0], counts[bins >= 0], grid.size).astype(np.int64)
    extras = sums.extras[:, members[first]].sum(axis=1)[:, said.kept]
    mean, balance = values / size[:, None], sums.balance[members[first]]
    off, off_error = divergence(windows, mean, said.solved.f[1:], balance)
    work, work_error = _by_work(rungs.ln_z[whole], said)
    means = _means(bins[said.kept], grid, said.solved, counts[said.kept], extras)
    return Landscape(
        grid=grid,
        entropy=said.entropy,
        entropy_error=said.error,
        visits=visits.reshape(grid.shape),
        groups=said.groups,
        starts=(first,) * len(members[first]),
        extras=dict(zip(names, means, strict=True)),
        normalised=True,
        umbrella=Umbrella(
            halves=said.halves,
            witnesses=np.concatenate(
                [np.zeros((0, *grid.shape)), *(groups for groups, _ in witnesses.values())]
            ),
            witness_starts=np.array(starts[len(members[first]) :], dtype=object),
            center=windows.center,
            stiffness=windows.stiffness,
            mean=mean,
            row=windows.row,
            column=windows.column,
            dt=windows.dt,
            free_energy=said.solved.f[1:],
            free_energy_error=said.f_error,
            integral=said.force.total,
            integral_error=said.force.total_error,
            curl=said.force.curl,
            curl_error=said.force.curl_error,
            divergence=off,
            divergence_error=off_error,
            rung_u=rungs.mean[whole, 0],
            rung_ln_z=said.ln_z,
            work=work,
            work_error=work_error,
            pairs=pairs,
            overlap=said.overlap[1:],
            weakest=_weakest(joined, said.overlap * scale),
            **told,
        ),
        attributes=lost,
    )


def _scale(windows: Windows, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of ensembles, the uniform one first, and by what their overlaps are to be multiplied.

    A column can cover no more than its share of a window that is free along A.
    """
    columns = max(windows.column.max() + 1, 1)
    joined = np.concatenate([[[0, 1]], 1 + pairs])
    return joined, np.append(1.0, np.where(across(windows, pairs), columns, 1.0))


def _by_work(ln_z: np.ndarray, said: _Said) -> tuple[np.ndarray, np.ndarray]:
    """(R,) nats that ln Z of each rung is higher by, by the work of coming down, and errors.

    The mean of each group's ln Z, as the windows' is one of groups in their basins, so that what
    basins differ by does not enter. NaN where the work of a group is not known.

    Args:
        ln_z: (R, G) of each group, by its work.
        said: what the windows say.
    """
    groups = range(ln_z.shape[1])
    without = np.array([np.delete(ln_z, g, axis=1).mean(axis=1) for g in groups])
    return ln_z.mean(axis=1) - said.ln_z, jackknife(without - said.ln_z_without)


def _whole(windows: Windows, rungs: Rungs) -> np.ndarray:
    """(R,) which rungs of the way down the windows know whole, and not a part of their A alone."""
    held = windows.column != FREE
    free = np.isin(np.arange(len(rungs.slope)), windows.row[~held])
    if not held.any():
        return free
    low, high = windows.center[held, 1].min(), windows.center[held, 1].max()
    reach = ASIDE * rungs.spread
    return free | ((rungs.mean[:, 1] - reach > low) & (rungs.mean[:, 1] + reach < high))


def _witnesses(grid: Grid, windows, uniform, pairs, cells, sums, way, members) -> tuple:
    """(n, ...) pseudovalues of groups that S is not made of; NaN where nothing follows, and why.

    They may be in the wrong place altogether, which is no fault of the landscape.
    """
    try:
        return _solved(grid, windows, uniform, pairs, cells, sums, way, members).groups, ""
    except (ValueError, FloatingPointError) as error:
        return np.full((len(members), *grid.shape), np.nan), str(error)


def _solved(
    grid: Grid, windows, uniform, pairs, cells, sums: Sums, way: tuple, members: list[int]
) -> _Said:
    """What some groups say, and with each of them left out; of `way`, center and stiffness, ln Z.

    Raises:
        FloatingPointError: windows do not overlap.
    """
    drawn, both = cells.index(uniform), list(range(HALVES))
    kept, force, found = examine(windows, uniform, pairs, cells, sums, members)
    solved = mbar.solve(found, np.append(0.0, force.total))
    joined, scale = _scale(windows, pairs)
    overlap = mbar.overlaps(solved, joined)
    _stop_where_windows_part(windows, joined, overlap * scale, OVERLAP)
    near, bins = mbar.nearby(solved), cells.bins(grid, kept)

    def again(chosen, halves=both) -> mbar.Replicate | None:
        one = _part(sums, drawn, chosen, halves)
        try:
            return mbar.solve_again(near, one.counts[kept], one.size)
        except (ValueError, FloatingPointError):
            return None  # too few samples to join their windows

    def surface(one: mbar.Solution | mbar.Replicate | None) -> np.ndarray:
        if one is None:
            return np.full(grid.shape, np.nan)
        return _summed(bins, _volumes(one), grid.size).reshape(grid.shape)

    others = [[h for h in members if h != g] for g in members]
    without = [again(some) for some in others]
    entropy, missing = surface(solved), np.array([surface(one) for one in without])
    halves = [
        _pseudovalues(
            surface(again(members, [half])),
            np.array([surface(again(some, [half])) for some in others]),
        )
        for half in both
    ]
    f = np.array([np.nan * force.total if one is None else one.f[1:] for one in without])
    held = _held(*way, cells.middles(kept)[:, 0])
    return _Said(
        kept=kept,
        force=force,
        solved=solved,
        overlap=overlap,
        entropy=entropy,
        error=jackknife(missing),
        groups=_pseudovalues(entropy, missing),
        halves=np.array(halves),
        f_error=jackknife(f),
        ln_z=held(solved),
        ln_z_without=np.array([held(one) for one in without]),
    )


def _volumes(one: mbar.Solution | mbar.Replicate) -> np.ndarray:
    """(n,) ln of the fraction of the domain in each cell."""
    with np.errstate(divide="ignore"):
        return np.log(one.found.total) + one.log_weight


def _held(center: np.ndarray, stiffness: np.ndarray, u: np.ndarray) -> Callable:
    """A solution, or None, -> (R,) ln of the mean of e^-w over the domain, w of restraints of u.

    Args:
        center, stiffness: (R,).
        u: (n,) of the cells.
    """
    values, place = np.unique(u, return_inverse=True)
    w = stiffness[:, None] * (values - center[:, None]) ** 2 / 2

    def held(one) -> np.ndarray:
        if one is None:
            return np.full(len(w), np.nan)
        log = _summed(place, _volumes(one), len(values))
        return logsumexp(np.where(np.isnan(log), -np.inf, log) - w, axis=1)

    return held


def _pseudovalues(whole: np.ndarray, without: np.ndarray) -> np.ndarray:
    """S + (G - 1)(mean_h S_-h - S_-g), what each group adds: their mean is S.

    Efron's (1982, section 2) G S - (G - 1) S_-g has the mean S + (G - 1)(S - mean_h S_-h), without
    the bias of S. In a bin that one group alone saw near its upper edge that is tens of nats,
    which raise the bin above its whole row in all sums. Without group g these have the mean S_-g
    up to S - mean_h S_-h, the same for all g, so that the jackknife's error is exact.

    Args:
        whole: (...) S.
        without: (G, ...) S without each group in turn; NaN where nothing is left, and then the
            others alone count.
    """
    known = np.isfinite(without)
    count = known.sum(0)
    mean = np.where(known, without, 0.0).sum(0) / np.maximum(count, 1)
    return whole + (count - 1) * (mean - without)


def _part(sums: Sums, drawn: np.ndarray, chosen: list[int], halves: list[int]) -> _Part:
    """What some groups saw, with their share of the uniform draws, whose cells are given."""
    points = np.concatenate([drawn[g :: sums.counts.shape[1]] for g in chosen])
    pick = np.ix_(halves, chosen)
    counts, size, gap = (a[pick].sum(axis=(0, 1)) for a in (sums.counts, sums.size, sums.gap))
    counts = counts + np.bincount(points, minlength=len(counts))
    return _Part(counts, np.append(len(points), size), gap, points)


def _means(bins, grid: Grid, solved: mbar.Solution, counts, extras) -> list[np.ndarray]:
    """Means of extras, given their sums over cells, over the bins that these lie in.

    Uniform draws, of which none were taken, have no say.
    """
    inside = (bins >= 0) & (counts > 0)
    log = (np.log(solved.found.total) + solved.log_weight)[inside]
    bins, counts = bins[inside], counts[inside]
    weight = np.exp(log - _summed(bins, log, grid.size)[bins])
    seen = np.bincount(bins, minlength=grid.size) > 0
    means = [np.bincount(bins, weight * extra[inside] / counts, grid.size) for extra in extras]
    return [np.where(seen, mean, np.nan).reshape(grid.shape) for mean in means]


def _potential(windows: Windows, middles: np.ndarray) -> Callable[[slice], np.ndarray]:
    """w of some ensembles, the first of which is uniform, at cells.

    It is a sum over the axes, along each of which cells have few middles.
    """
    count, along = len(windows.row), []
    for i in range(middles.shape[1]):
        one = windows._replace(center=windows.center[:, [i]], stiffness=windows.stiffness[:, [i]])
        values, place = np.unique(middles[:, i], return_inverse=True)
        along.append((one.potential(np.arange(count), values[None, :, None]), place))

    def rows(part: slice) -> np.ndarray:
        start, stop, _ = part.indices(1 + count)
        w = np.zeros((stop - start, len(middles)))
        held = slice(max(start, 1) - 1, stop - 1)
        for table, place in along:
            w[max(1 - start, 0) :] += np.take(table[held], place, axis=1)
        return w

    return rows


def _forces(windows: Windows, pairs, sums: Sums, cells: Cells, drawn, members: list[int]) -> Forces:
    """Free energies by integration and curls, with errors from leaving out one group at a time."""

    def moments(chosen) -> Moments:
        part = _part(sums, drawn, chosen, list(range(HALVES)))
        return Moments(part.gap / part.size[1:][pairs][..., None], cells.middles(part.points))

    others = ([h for h in members if h != g] for g in members)
    return forces(windows, pairs, moments(members), [moments(some) for some in others])


def examine(
    windows: Windows,
    uniform: np.ndarray,
    pairs: np.ndarray,
    cells: Cells,
    sums: Sums,
    members: list[int],
) -> tuple[np.ndarray, Forces, mbar.Counts]:
    """Whether free energies can follow: also where a run is half done, and not when all is spent.

    Args:
        windows, uniform, pairs, cells, sums: as of `estimate`.
        members: groups that it is asked of.

    Returns:
        The cells that hold samples, what the mean forces say, and what is to be solved.

    Raises:
        FloatingPointError: windows do not overlap, or hold their walkers where they do not belong.
    """
    drawn, both = cells.index(uniform), list(range(HALVES))
    whole = _part(sums, drawn, members, both)
    _stop_where_there_is_a_gap(windows, pairs, whole)
    kept = np.flatnonzero(whole.counts)
    middles = cells.middles(kept)
    force = _forces(windows, pairs, sums, cells, drawn, members)
    found = mbar.Counts(whole.counts[kept], whole.size, _potential(windows, middles))
    _stop_where_windows_are_elsewhere(windows, middles, found, force.total, force.total_error)
    return kept, force, found


def _stop_where_there_is_a_gap(windows: Windows, pairs: np.ndarray, part: _Part) -> None:
    """Where samples of no two neighbours could be each other's there is nothing to solve."""
    joined = np.concatenate([[[0, 1]], 1 + pairs])
    chance = np.append(1.0, _chance(windows, pairs, part))
    _stop_where_windows_part(windows, joined, chance, CHANCE)


def _chance(windows: Windows, pairs: np.ndarray, part: _Part) -> np.ndarray:
    """(E,) about the chance that neighbours exchange.

    e^(-d²/4) where they lie d widths apart, with <w_j - w_i>_i - <w_j - w_i>_j for d²: of two
    Gaussians of equal width it is that, and it knows nothing of the difference of their free
    energies. Of a window that is free along A and a column, alike along u, the mean chance that
    each accepts the other's samples.
    """
    moments = part.gap / part.size[1:][pairs][..., None]
    squared = np.maximum(moments[:, 0, 0] - moments[:, 1, 0], 0.0)
    return np.where(
        across(windows, pairs), np.sqrt(moments[..., 2].prod(axis=1)), np.exp(-squared / 4)
    )


def _stop_where_windows_part(windows: Windows, joined, overlap: np.ndarray, least: float) -> None:
    """Across a gap free energies would be whatever the solution began with."""
    size = 1 + len(windows.row)
    near = joined[overlap >= least]
    graph = csr_array((np.ones(len(near)), (near[:, 0], near[:, 1])), shape=(size, size))
    _, label = csgraph.connected_components(graph, directed=False)
    if (label == label[0]).all():
        return
    beyond = label[joined] != label[0]
    cut = np.flatnonzero(beyond[:, 0] != beyond[:, 1])
    edge = cut[np.argmax(overlap[cut])] if len(cut) else 0
    one, other = (_place(windows, k - 1) for k in joined[edge])
    raise FloatingPointError(
        f"Windows at {one} hardly overlap with those at {other} ({overlap[edge]:.2g}, where "
        f"{least:g} is needed), so that nothing absolute follows beyond: set a smaller spread, "
        "a larger rigidity, more columns, or more rung_steps and level_steps."
    )


def _stop_where_windows_are_elsewhere(
    windows: Windows, middles, found: mbar.Counts, f: np.ndarray, error: np.ndarray
) -> None:
    """Where a soft window's equilibrium is another phase, and its walkers have not gone there.

    Free energies by integration do not know of that phase. With them such a window claims the
    samples of others there, which are left with next to none: nothing makes these consistent.
    """
    left = np.log(mbar.expected(found, np.append(0.0, f))[1:] / found.size[1:])
    left = left + SURE * np.nan_to_num(error)
    robbed = int(np.argmin(left))
    if left[robbed] > -ELSEWHERE:
        return
    away = windows.stiffness[robbed] * (middles - windows.mean[robbed]) ** 2
    there = int(np.argmin(away.sum(axis=1)))
    felt = windows.potential(np.arange(len(f)), middles[[[there]]])[:, 0]
    soft = int(np.argmax(np.log(found.size[1:]) + f - felt))
    raise FloatingPointError(
        f"The walkers of the window at {_place(windows, soft)} stay there, but its restraint is so "
        f"soft that in equilibrium they would be near {_place(windows, robbed)}, so that no free "
        "energies are consistent: set a larger rigidity."
    )


def _weakest(joined: np.ndarray, overlap: np.ndarray) -> float:
    """The smallest overlap on the widest ways: on the tree that has the largest ones."""
    size = joined.max() + 1
    length = 1 - np.log(np.clip(overlap, 1e-300, 1.0))  # above 0, or it would be no edge
    graph = csr_array((length, (joined[:, 0], joined[:, 1])), shape=(size, size))
    return float(np.exp(1 - csgraph.minimum_spanning_tree(graph).data.max()))


def _place(windows: Windows, k: int) -> str:
    if k < 0:
        return "the top"
    held = windows.mean[k][windows.stiffness[k] > 0]
    return "(" + ", ".join(f"{value:.3g}" for value in held) + ")"


def _summed(place: np.ndarray, log: np.ndarray, size: int) -> np.ndarray:
    """(size,) logsumexp of the entries at each place, NaN where none is; -1 is nowhere."""
    inside = (place >= 0) & (log > -np.inf)
    place, log = place[inside], log[inside]
    top = np.full(size, -np.inf)
    np.maximum.at(top, place, log)
    total = np.bincount(place, np.exp(log - top[place]), size)
    return np.where(total > 0, top + np.log(np.where(total > 0, total, 1.0)), np.nan)
