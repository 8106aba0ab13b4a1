"""What umbrella windows say: S as ln of the fraction of the domain, and how far to believe it."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.sparse import csgraph, csr_array
from scipy.special import logsumexp

from glassgrok.grid import Grid
from glassgrok.landscape import LOST, Landscape, Umbrella, jackknife
from glassgrok.sampling import mbar
from glassgrok.sampling.gaps import (
    CHANCE,
    OUT,
    OVERLAP,
    Gap,
    Parted,
    chance,
    in_one_part,
    on_the_same_side,
    place,
    stop_where_windows_part,
)
from glassgrok.sampling.mean_force import Forces, Moments, divergence, forces
from glassgrok.sampling.sums import HALVES, Sampled
from glassgrok.sampling.sweep import Rungs
from glassgrok.sampling.windows import FREE, Windows, across

ELSEWHERE, SURE = 8.0, 5.0  # -ln of the share of a window's samples that can be its own, if so few
# are left; and by so many errors of its free energy
TOLD = 4  # rungs at which S' of two starts is compared where S is not
ASIDE = 3.0  # standard deviations of A at a rung that its columns reach, at least


class _Said(NamedTuple):
    """What some groups say by themselves.

    Attributes:
        whole: (rungs,) of the way down that windows know whole.
        kept: cells that hold samples.
        force: free energies by integration, and the curl.
        solved: all windows at once.
        overlap: (1 + E,) of neighbours, the uniform draws first, to be compared with 1/2.
        entropy, error: over the grid.
        groups: their pseudovalues.
        halves: of the counted time, likewise.
        f, f_error: (K,) free energies of whole windows, of those that lie across a gap's end too.
        ln_z: (R,) ln of the mean of e^-w over the domain, of those rungs.
        ln_z_without: (G, R) the same without each group in turn.
    """

    whole: np.ndarray
    kept: np.ndarray
    force: Forces
    solved: mbar.Solution
    overlap: np.ndarray
    entropy: np.ndarray
    error: np.ndarray
    groups: np.ndarray
    halves: np.ndarray
    f: np.ndarray
    f_error: np.ndarray
    ln_z: np.ndarray
    ln_z_without: np.ndarray


def estimate(
    grid: Grid,
    sampled: Sampled,
    rungs: Rungs,
    names: tuple[str, ...],
    starts: tuple[str, ...],
    **told,
) -> Landscape:
    """The Landscape of the first start's groups, with errors from leaving out one at a time.

    The groups of each other start are solved by themselves, as witnesses. Where windows of the
    first start's part, all is of those that reach farthest along the grid.

    Args:
        grid: the bins.
        sampled: all windows.
        rungs: on the way down.
        names: of the extras.
        starts: (G,) what each group started from, alike ones side by side.
        **told: fields of Umbrella that are not estimated.

    Raises:
        FloatingPointError: windows of the first start's groups do not overlap.
    """
    members = {name: [g for g, own in enumerate(starts) if own == name] for name in starts}
    first, *others = members

    def solved(part: Sampled, gap: Gap | None) -> _Said:
        return _solved(grid, part, rungs, gap, members[first])

    everything = sampled
    sampled, gap, said = in_one_part(grid, everything, members[first], solved)
    witnesses = {name: _witnesses(grid, everything, rungs, gap, members[name]) for name in others}
    attributes = {
        f"{LOST}{name}": f"{why} {_by_force(everything, gap, members, name, first)}"
        for name, (_, why) in witnesses.items()
        if why
    }
    if gap is not None:
        attributes |= {"gap": [gap.low, gap.high, gap.overlap]}
    windows, sums = sampled.windows, sampled.sums
    counts, size, values = (
        a[:, members[first]].sum(axis=(0, 1)) for a in (sums.counts, sums.size, sums.values)
    )
    bins = _bins(grid, sampled, gap, np.arange(len(counts)))
    visits = np.bincount(bins[bins >= 0], counts[bins >= 0], grid.size).astype(np.int64)
    extras = sums.extras[:, members[first]].sum(axis=1)[:, said.kept]
    mean, balance = values / size[:, None], sums.balance[members[first]]
    off, off_error = divergence(windows, mean, said.f, balance)
    work, work_error, constant = _by_work(rungs.ln_z[said.whole], said, sampled.relative)
    whole, ln_z, zero = np.flatnonzero(said.whole), said.ln_z, 0.0
    if sampled.relative:
        zero = np.nanmin(said.entropy)
        if len(whole) and np.isfinite(constant).all():
            attributes |= {"constant": [float(zero + constant[0]), constant[1]]}
        whole, ln_z = whole[1:], ln_z[1:] - ln_z[:1]  # from which all are measured
    means = _means(bins[said.kept], grid, said.solved, counts[said.kept], extras)
    return Landscape(
        grid=grid,
        entropy=said.entropy - zero,
        entropy_error=said.error,
        visits=visits.reshape(grid.shape),
        groups=said.groups - zero,
        starts=(first,) * len(members[first]),
        extras=dict(zip(names, means, strict=True)),
        normalised=not sampled.relative,
        umbrella=Umbrella(
            halves=said.halves - zero,
            witnesses=np.concatenate(
                [np.zeros((0, *grid.shape)), *(groups - zero for groups, _ in witnesses.values())]
            ),
            witness_starts=np.array(starts[len(members[first]) :], dtype=object),
            center=windows.center,
            stiffness=windows.stiffness,
            mean=mean,
            row=windows.row,
            column=windows.column,
            dt=windows.dt,
            free_energy=said.f,
            free_energy_error=said.f_error,
            integral=said.force.total,
            integral_error=said.force.total_error,
            curl=said.force.curl,
            curl_error=said.force.curl_error,
            divergence=off,
            divergence_error=off_error,
            rung_u=rungs.mean[whole, 0],
            rung_ln_z=ln_z,
            work=work,
            work_error=work_error,
            pairs=sampled.pairs,
            overlap=said.overlap[1:],
            weakest=_weakest(sampled.joined, said.overlap * _scale(sampled)),
            accepted=sampled.accepted,
            **told,
        ),
        attributes=attributes,
    )


def _scale(sampled: Sampled) -> np.ndarray:
    """(1 + E,) by what overlaps of neighbours, the uniform measure first, are to be multiplied.

    A column can cover no more than its share of a window that is free along A.
    """
    columns = max(sampled.windows.column.max() + 1, 1)
    return np.append(1.0, np.where(across(sampled.windows, sampled.pairs), columns, 1.0))


def _by_work(ln_z: np.ndarray, said: _Said, relative: bool) -> tuple:
    """(R,) nats that ln Z of each rung is higher by, by the work of coming down, and errors.

    The mean of each group's ln Z, as the windows' is one of groups in their basins, so that what
    basins differ by does not enter. NaN where the work of a group is not known.

    Args:
        ln_z: (R, G) of each group, by its work.
        said: what the windows say.
        relative: whether that is up to a constant.

    Returns:
        They; and the first one and its error, from which the others are measured, and which is
        none of them, where windows say nothing absolute.
    """
    without = np.array([np.delete(ln_z, g, axis=1).mean(axis=1) for g in range(ln_z.shape[1])])
    more, without = ln_z.mean(axis=1) - said.ln_z, without - said.ln_z_without
    if not relative or not len(more):
        return more, jackknife(without), (0.0, 0.0)
    first = float(more[0]), float(jackknife(without[:, 0]))
    return (more - more[0])[1:], jackknife(without - without[:, :1])[1:], first


def _whole(windows: Windows, rungs: Rungs) -> np.ndarray:
    """(R,) which rungs of the way down the windows know whole, and not a part of their A alone."""
    held = windows.column != FREE
    free = np.isin(np.arange(len(rungs.slope)), windows.row[~held])
    if not held.any():
        return free
    low, high = windows.center[held, 1].min(), windows.center[held, 1].max()
    reach = ASIDE * rungs.spread
    return free | ((rungs.mean[:, 1] - reach > low) & (rungs.mean[:, 1] + reach < high))


def _witnesses(grid: Grid, sampled: Sampled, rungs, gap, members) -> tuple[np.ndarray, str]:
    """(n, ...) pseudovalues of groups that S is not made of; NaN where nothing follows, and why.

    They may be in the wrong place altogether, which is no fault of the landscape.
    """
    try:
        if gap is not None:
            sampled, gap = on_the_same_side(sampled, members, gap)
        return _solved(grid, sampled, rungs, gap, members).groups, ""
    except (ValueError, FloatingPointError) as error:
        return np.full((len(members), *grid.shape), np.nan), str(error)


def _by_force(
    sampled: Sampled, gap: Gap | None, members: dict[str, list[int]], name: str, other: str
) -> str:
    """S' that walkers of two starts feel at a few rungs, where no S follows, in words."""
    windows = np.arange(len(sampled.windows.row)) if gap is None else gap.windows
    rows = np.unique(sampled.windows.row[windows])
    rows = rows[np.linspace(0, len(rows) - 1, min(TOLD, len(rows))).round().astype(int)]
    told = []
    for row in rows:
        own, there = (_force(sampled, members[start], row) for start in (name, other))
        if own and there:
            told.append(f"{own} (where {there})")
    return f"Its walkers feel S' = {', '.join(told)} for those from {other}." if told else ""


def _force(sampled: Sampled, members: list[int], row: int) -> str:
    """S', the mean force in the mean over a rung's windows, and u; empty where none was seen."""
    windows, sums = sampled.windows, sampled.sums
    own = np.flatnonzero(windows.row == row)
    size, values = (a[:, members].sum(axis=0)[:, own] for a in (sums.size, sums.values[..., 0]))
    seen = (size > 0).all(axis=1)
    if not seen.any():
        return ""
    u = values[seen] / size[seen]
    slope = (windows.stiffness[own, 0] * (u - windows.center[own, 0])).mean(axis=1)
    error = f"{np.std(slope, ddof=1) / np.sqrt(len(slope)):.0f}" if len(slope) > 1 else "?"
    return f"{slope.mean():.0f} ± {error} at u {u.mean():.3g}"


def _solved(
    grid: Grid, sampled: Sampled, rungs: Rungs, gap: Gap | None, members: list[int]
) -> _Said:
    """What some groups say, and with each of them left out.

    Raises:
        FloatingPointError: windows do not overlap.
    """
    both = tuple(range(HALVES))
    kept, force, found, cut = examine(sampled, members)
    solved = mbar.solve(found, np.append(0.0, force.total + cut))
    overlap = mbar.overlaps(solved, sampled.joined)
    stop_where_windows_part(sampled, overlap * _scale(sampled), OVERLAP)
    near, bins = mbar.nearby(solved), _bins(grid, sampled, gap, kept)
    whole = _whole(sampled.windows, rungs)
    if gap is not None:  # and not a part of their u
        row = sampled.windows.row
        whole &= np.isin(np.arange(len(whole)), np.setdiff1d(row, row[cut > 0]))

    def again(chosen, halves=both) -> mbar.Replicate | None:
        one = sampled.of(chosen, halves)
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
            surface(again(members, (half,))),
            np.array([surface(again(some, (half,))) for some in others]),
        )
        for half in both
    ]
    f = np.array([np.nan * force.total if one is None else one.f[1:] - cut for one in without])
    held = _held(rungs.center[whole], rungs.stiffness[whole], sampled.cells.middles(kept)[:, 0])
    return _Said(
        whole=whole,
        kept=kept,
        force=force,
        solved=solved,
        overlap=overlap,
        entropy=entropy,
        error=jackknife(missing),
        groups=_pseudovalues(entropy, missing),
        halves=np.array(halves),
        f=solved.f[1:] - cut,
        f_error=jackknife(f),
        ln_z=held(solved),
        ln_z_without=np.array([held(one) for one in without]),
    )


def _bins(grid: Grid, sampled: Sampled, gap: Gap | None, cells: np.ndarray) -> np.ndarray:
    """(n,) the bins that cells lie in, -1 beyond those that are known."""
    bins = sampled.cells.bins(grid, cells)
    return bins if gap is None else gap.whole(grid, bins)


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


def _potential(sampled: Sampled, middles: np.ndarray) -> Callable[[slice], np.ndarray]:
    """w of some ensembles, the first of which is uniform or as a window, at cells.

    It is a sum over the axes, along each of which cells have few middles.
    """
    windows = sampled.windows
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
            if sampled.relative and start == 0:
                w[0] += table[sampled.first, place]
        return w

    return rows


def _forces(sampled: Sampled, members: list[int]) -> Forces:
    """Free energies by integration and curls, with errors from leaving out one group at a time."""
    pairs, cells = sampled.pairs, sampled.cells

    def moments(chosen) -> Moments:
        part = sampled.of(chosen)
        return Moments(part.gap, cells.middles(part.points))

    others = ([h for h in members if h != g] for g in members)
    left = [moments(some) for some in others]
    return forces(sampled.windows, pairs, moments(members), left, sampled.first)


def examine(sampled: Sampled, members: list[int]) -> tuple:
    """Whether free energies can follow: also where a run is half done, and not when all is spent.

    Args:
        sampled: windows.
        members: groups that it is asked of.

    Returns:
        The cells that hold samples; what the mean forces say; what is to be solved; and (K,) what
        free energies are higher by in it, where windows count in part.

    Raises:
        Parted: windows do not overlap, or hold their walkers where they do not belong.
        FloatingPointError: they hold none.
    """
    windows, whole = sampled.windows, sampled.of(members)
    if not whole.size.all():
        at = place(windows, int(np.argmin(whole.size[1:])))
        raise FloatingPointError(
            f"No sample of the window at {at} counts; give windows more steps, or lower settle."
        )
    stop_where_windows_part(
        sampled, np.append(1.0, chance(windows, sampled.pairs, whole.gap)), CHANCE
    )
    kept = np.flatnonzero(whole.counts)
    middles = sampled.cells.middles(kept)
    force = _forces(sampled, members)
    found = mbar.Counts(whole.counts[kept], whole.size, _potential(sampled, middles))
    cut = -np.log(whole.share)
    f = force.total + cut
    _stop_where_windows_are_elsewhere(windows, middles, found, f, force.total_error)
    return kept, force, found, cut


def _stop_where_windows_are_elsewhere(
    windows: Windows, middles, found: mbar.Counts, f: np.ndarray, error: np.ndarray
) -> None:
    """Where a soft window's equilibrium is another phase, and its walkers have not gone there.

    Free energies by integration do not know of that phase. With them such a window claims the
    samples of others there, which are left with next to none: nothing makes these consistent. What
    lies above both and what lies below both may be, each by itself.

    Raises:
        Parted: there is such a window.
    """
    with np.errstate(divide="ignore"):  # of the worst nothing is left
        left = np.log(mbar.expected(found, np.append(0.0, f))[1:] / found.size[1:])
    left = left + SURE * np.nan_to_num(error)
    robbed = int(np.argmin(left))
    if left[robbed] > -ELSEWHERE:
        return
    away = windows.stiffness[robbed] * (middles - windows.mean[robbed]) ** 2
    there = int(np.argmin(away.sum(axis=1)))
    felt = windows.potential(np.arange(len(f)), middles[[[there]]])[:, 0]
    soft = int(np.argmax(np.log(found.size[1:]) + f - felt))
    row, (first, last) = windows.row, np.sort(windows.row[[soft, robbed]])
    side = np.where(row < first, 0, np.where(row > last, 1, OUT))
    raise Parted(
        f"The walkers of the window at {place(windows, soft)} stay there, but its restraint is so "
        f"soft that in equilibrium they would be near {place(windows, robbed)}, so that no free "
        "energies are consistent: set a larger rigidity.",
        np.append(0, side),
        float(np.exp(left[robbed])),
    )


def _weakest(joined: np.ndarray, overlap: np.ndarray) -> float:
    """The smallest overlap on the widest ways: on the tree that has the largest ones."""
    size = joined.max() + 1
    length = 1 - np.log(np.clip(overlap, 1e-300, 1.0))  # above 0, or it would be no edge
    graph = csr_array((length, (joined[:, 0], joined[:, 1])), shape=(size, size))
    return float(np.exp(1 - csgraph.minimum_spanning_tree(graph).data.max()))


def _summed(place: np.ndarray, log: np.ndarray, size: int) -> np.ndarray:
    """(size,) logsumexp of the entries at each place, NaN where none is; -1 is nowhere."""
    inside = (place >= 0) & (log > -np.inf)
    place, log = place[inside], log[inside]
    top = np.full(size, -np.inf)
    np.maximum.at(top, place, log)
    total = np.bincount(place, np.exp(log - top[place]), size)
    return np.where(total > 0, top + np.log(np.where(total > 0, total, 1.0)), np.nan)
