"""Absolute entropy from ensembles that overlap: multistate reweighting of samples in small cells.

Shirts & Chodera (2008), Eq. 11: samples of all ensembles together, each with weight
1 / sum_k N_k exp(f_k - w_k), where f_k = -ln Z_k makes them consistent. The first ensemble is the
uniform measure of the domain, w = 0 and f = 0, so that the weights add up to fractions of it.

An ensemble reaches few of the cells: sums over the others are left out, 18 nats down.
"""

import contextlib
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from scipy import linalg, sparse

TOLERANCE, ROUGH, ROUNDS = 1e-7, 1e-4, 20
ITERATIONS, AGAIN = 100, 40  # to begin with, and from a solution that is nearly right
CUTS = 18.0, 100.0, 1e9  # nats
LEAST = 1e-9  # shares of a cell that are nothing, once the free energies are nearly right
ROWS, WIDTH = 2, 64  # ensembles and cells at a time, for the cache
DAMPING, LEAST_DAMPING = 1e-1, 1e-10  # of the first step, and of Newton's own
ROUNDING = 1e-13  # of a sum, as a part of it


class Counts(NamedTuple):
    """Samples of K ensembles, together, in n cells that hold any.

    Attributes:
        total: (n,) of all ensembles.
        size: (K,) of each ensemble, in all cells; the first is uniform.
        potential: slice of ensembles -> (those, n) w at the middle of the cells, nats.
    """

    total: np.ndarray
    size: np.ndarray
    potential: Callable[[slice], np.ndarray]


class Entries(NamedTuple):
    """ln of ensembles' shares of a cell, where they count, less that of the largest one.

    Neighbouring cells are reached by much the same ensembles: blocks of cells hold each of these.

    Attributes:
        data: (m, WIDTH) ln(N_k e^{f_k - w_k}) less `largest`, of one ensemble in one block.
        row: (m,) the ensemble; rising in each block.
        starts: (blocks + 1,) where each block begins.
        largest: (blocks, WIDTH) of all ensembles when that was sought. The last cell is repeated.
    """

    data: np.ndarray
    row: np.ndarray
    starts: np.ndarray
    largest: np.ndarray


class Solution(NamedTuple):
    """What makes the ensembles consistent.

    Attributes:
        f: (K,) -ln Z_k in nats; f_0 = 0.
        log_weight: (n,) ln of the fraction of the domain that a sample in the cell stands for.
        entries: the ensembles' shares, where they count.
        found: what was solved.
    """

    f: np.ndarray
    log_weight: np.ndarray
    entries: Entries
    found: Counts

    def shares(self, least: float = 0.0) -> sparse.csr_array:
        """(K, n) chance that a sample in the cell comes from each ensemble, if above the least."""
        entries, blocks = self.entries, len(self.entries.largest)
        weight = _blocks(self.log_weight, -np.inf) + entries.largest
        block = np.repeat(np.arange(blocks), np.diff(entries.starts))
        each = np.exp(entries.data + weight[block])
        place, cell = np.nonzero(each > least)
        at = entries.row[place], block[place] * WIDTH + cell
        shape = len(self.f), len(self.log_weight)
        return sparse.csr_array((each[place, cell], at), shape=shape)


def solve(found: Counts, guess: np.ndarray) -> Solution:
    """Free energies by Newton's method, damped, on a convex function.

    It is -ln likelihood of the samples' labels: sum_n ln sum_k N_k e^{f_k - w_k} - sum_k N_k f_k.

    Args:
        found: every ensemble with samples.
        guess: (K,) to begin with, such as that of thermodynamic integration.

    Raises:
        ValueError: an ensemble has no samples.
        FloatingPointError: it did not converge. That it did proves no overlap: ask `overlaps`.
    """
    _refuse_empty(found)
    for cut in CUTS:
        # Where the guess is far off, cells are left out in which an ensemble has its samples, and
        # then there is no end to it.
        with contextlib.suppress(FloatingPointError):
            return _solved(found, guess, cut)
    raise FloatingPointError(_APART)


def expected(found: Counts, f: np.ndarray) -> np.ndarray:
    """(K,) how many of all samples would be each ensemble's, if f were right; then it is `size`."""
    entries = _within_reach(found, f, CUTS[0])
    return _state(entries, found.total, found.size, np.zeros(len(f))).expected


def _solved(found: Counts, guess: np.ndarray, cut: float) -> Solution:
    f, damping = np.array(guess, float) - guess[0], DAMPING
    for _ in range(ROUNDS):
        entries = _within_reach(found, f, cut)
        end = _minimum(entries, found.total, found.size, np.zeros(len(f)), damping)
        f, damping = f + end.moved, end.damping
        # Cells that f now brings within reach were left out if it moved by much.
        if np.abs(end.moved).max() < cut / 4:
            entries.data[:] += end.moved[entries.row, None]
            bottom = (end.bottom + entries.largest).ravel()[: len(found.total)]
            return Solution(f, -bottom, entries, found)
    raise FloatingPointError(_APART)


class Nearby(NamedTuple):
    """A solution made ready for others near it.

    Attributes:
        solution: of all counts.
        back: (n, K) chance that a sample in the cell comes from each ensemble, without the least.
        inverse: (K - 1,) -> (K - 1,), divides by the Hessian for one sample; f_0 stays.
    """

    solution: Solution
    back: sparse.csr_array
    inverse: Callable


class Replicate(NamedTuple):
    """As `Solution`, of other counts in the same cells; no weight where there are none."""

    f: np.ndarray
    log_weight: np.ndarray
    found: Counts


def nearby(solution: Solution) -> Nearby:
    """What `solve_again` needs, which is the same for all replicates."""
    found = solution.found
    hessian = _state(solution.entries, found.total, found.size, np.zeros(len(solution.f))).hessian
    inverse = _inverse_of(hessian / found.total.sum(), LEAST_DAMPING)
    return Nearby(solution, solution.shares(LEAST).T.tocsr(), inverse)


def solve_again(near: Nearby, total: np.ndarray, size: np.ndarray) -> Replicate:
    """The same ensembles from other counts in the same cells, such as of fewer groups.

    From the shares of the first solution, and mostly with its Hessian, which is nearly that of
    these; to `ROUGH`, which is far below what the counts tell.

    Args:
        near: what `nearby` made of the solution of all counts.
        total: (n,) of all ensembles, possibly 0.
        size: (K,) of each ensemble.

    Raises:
        ValueError, FloatingPointError: as `solve`.
    """
    first = near.solution
    found = first.found._replace(total=total, size=size)
    _refuse_empty(found)
    seen = np.flatnonzero(total)
    back, counts = near.back[seen], total[seen]
    times, moved = size / first.found.size, np.zeros(len(size))

    def state(moved):
        """The function less that of the first solution, and each cell's sum over what it was."""
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            ratio = back @ (times * np.exp(moved))
            return float(counts @ np.log(ratio) - size @ moved), ratio

    value, ratio = state(moved)
    for _ in range(AGAIN):
        grown = times * np.exp(moved)
        expected = grown * (back.T @ (counts / ratio))
        gradient = expected - size
        if np.abs(gradient / size).max() < ROUGH:
            log_weight = np.zeros(len(total))
            log_weight[seen] = first.log_weight[seen] - np.log(ratio)
            return Replicate(first.f + moved, log_weight, found)
        tried = moved - np.append(0.0, near.inverse(gradient[1:] / counts.sum()))
        after = state(tried)
        if not after[0] < value:
            break
        moved, (value, ratio) = tried, after
    return _solved_again(first, found, moved)


def _solved_again(first: Solution, found: Counts, moved: np.ndarray) -> Replicate:
    """As `solve_again`, where the Hessian of the first solution is of no use."""
    more = np.log(found.size / first.found.size)
    start = moved + more
    end = _minimum(first.entries, found.total, found.size, start, DAMPING, ROUGH, AGAIN)
    bottom = (end.bottom + first.entries.largest).ravel()[: len(found.total)]
    return Replicate(first.f + end.moved - more, np.where(found.total > 0, -bottom, 0.0), found)


def _refuse_empty(found: Counts) -> None:
    if not (found.size > 0).all():
        k = int(np.argmin(found.size))
        raise ValueError(f"Ensemble {k} of {len(found.size)} has no samples; sample all of them.")


_APART = (
    "The free energies of the ensembles did not converge, so neighbours do not overlap; give more "
    "levels, or windows between them."
)


def _within_reach(found: Counts, f: np.ndarray, cut: float) -> Entries:
    """Entries no more than `cut` below the largest of their cell, or of their ensemble.

    The latter are not needed in the end, but an ensemble whose f is far off must not lose its own.
    """
    parts = [slice(k, k + ROWS) for k in range(0, len(f), ROWS)]
    largest = np.full((_count(found.total), WIDTH), -np.inf)
    for part in parts:
        logs = _logs(found, f, part)
        np.maximum(largest, logs.max(axis=0), out=largest)
    kept = []
    for part in parts:
        logs = _logs(found, f, part)
        own = logs.max(axis=2)
        near = own > own.max(axis=1, keepdims=True) - cut
        logs -= largest
        row, block = np.nonzero(near | (logs.max(axis=2) > -cut))
        kept.append((logs[row, block], row + part.start, block))
    data, row, block = (np.concatenate(each) for each in zip(*kept, strict=True))
    order = np.argsort(block, kind="stable")
    starts = np.searchsorted(block[order], np.arange(len(largest) + 1))
    return Entries(data[order], row[order], starts, largest)


def _logs(found: Counts, f: np.ndarray, part: slice) -> np.ndarray:
    """(ensembles, blocks, WIDTH) ln(N_k e^{f_k - w_k}); the last cell fills up the last block."""
    w = found.potential(part)
    logs = np.empty((len(w), _count(found.total) * WIDTH))
    offset = np.log(found.size[part]) + f[part]
    np.subtract(offset[:, None], w, out=logs[:, : w.shape[1]])
    logs[:, w.shape[1] :] = logs[:, [w.shape[1] - 1]]
    return logs.reshape(len(w), -1, WIDTH)


def _count(cells: np.ndarray) -> int:
    """The number of blocks that cells fill."""
    return -(-len(cells) // WIDTH)


def _blocks(values: np.ndarray, beyond: float) -> np.ndarray:
    """(blocks, WIDTH) of (n,), filled up with what is given."""
    left = _count(values) * WIDTH - len(values)
    return np.append(values, np.full(left, beyond)).reshape(-1, WIDTH)


class _State(NamedTuple):
    """The function where f has moved to.

    Attributes:
        value: less that of the cells' largest entries.
        rounding: how far the value may be off.
        bottom: (blocks, WIDTH) ln of the sum of each cell, less `Entries.largest`.
        expected: (K,) as of `expected`; the gradient is that less `size`.
        hessian: (K, K).
    """

    value: float
    rounding: float
    bottom: np.ndarray
    expected: np.ndarray
    hessian: np.ndarray


def _state(entries: Entries, total: np.ndarray, size: np.ndarray, moved: np.ndarray) -> _State:
    counts, bottom = _blocks(total, 0.0), np.empty_like(entries.largest)
    expected, hessian = np.zeros(len(size)), np.zeros((len(size), len(size)))
    for block, (start, stop) in enumerate(pairwise(entries.starts)):
        row = entries.row[start:stop]
        share = entries.data[start:stop] + moved[row, None]
        top = share.max(axis=0)
        share -= top
        np.exp(share, out=share)
        below = share.sum(axis=0)
        bottom[block] = top + np.log(below)
        root = np.sqrt(counts[block])
        share *= root / below
        expected[row] += share @ root
        # hessian[np.ix_(row, row)] -= ... would take longer than all the rest.
        place = (row[:, None] * len(size) + row).ravel()
        np.subtract.at(hessian.ravel(), place, (share @ share.T).ravel())
    hessian.flat[:: len(size) + 1] += expected
    parts = counts * bottom, size * moved
    rounding = ROUNDING * sum(np.abs(part).sum() for part in parts)
    return _State(parts[0].sum() - parts[1].sum(), rounding, bottom, expected, hessian)


class _End(NamedTuple):
    """Where the function is smallest.

    Attributes:
        moved: (K,) how far f is from that of the entries.
        bottom: (blocks, WIDTH) as of `_State`.
        damping: of the last step.
    """

    moved: np.ndarray
    bottom: np.ndarray
    damping: float


def _minimum(
    entries: Entries,
    total: np.ndarray,
    size: np.ndarray,
    start: np.ndarray,
    damping: float,
    tolerance: float = TOLERANCE,
    iterations: int = ITERATIONS,
) -> _End:
    """Newton's method, damped as in Levenberg (1944), from `start` on; there f_0 stays.

    An ensemble whose f is so far off that next to no sample would be its own has no curvature to
    speak of, and Newton's step is without end. With damping mu it is at most 1/mu nats, or so, and
    mu rises and falls as the step keeps what it promised; Moré (1978).

    Raises:
        FloatingPointError: it did not converge.
    """
    moved, state = start, _state(entries, total, size, start)
    for _ in range(iterations):
        gradient = state.expected - size
        if np.abs(gradient / size).max() < tolerance:
            return _End(moved, state.bottom, damping)
        inverse = _inverse_of(state.hessian, damping * size[1:] + ROUNDING * total.sum())
        step = -np.append(0.0, inverse(gradient[1:]))
        promised = -step @ (gradient + state.hessian @ step / 2)
        after = _state(entries, total, size, moved + step)
        kept = (state.value - after.value + after.rounding) / promised
        if kept > 0:
            moved, state = moved + step, after
        damping = max(damping * _changed(kept), LEAST_DAMPING)
    raise FloatingPointError(_APART)


def _changed(kept: float) -> float:
    """By what to change the damping, if that much of the promised gain was real."""
    if not kept > 0:
        return 8.0
    if kept < 0.25:
        return 4.0
    return 0.02 if kept > 0.9 else 0.1 if kept > 0.75 else 1.0


def _inverse_of(hessian: np.ndarray, ridge: np.ndarray | float) -> Callable:
    """(K - 1,) -> (K - 1,): divides by the Hessian; f_0 stays."""
    factor = linalg.cho_factor(hessian[1:, 1:] + np.diag(np.broadcast_to(ridge, len(hessian) - 1)))
    return lambda step: linalg.cho_solve(factor, step)


def overlaps(solution: Solution, pairs: np.ndarray) -> np.ndarray:
    """(E,) how much the ensembles of each pair overlap: 1/2 where they are the same.

    The chance that a sample of one, with as many of the other, is taken for the other's; Klimovich,
    Shirts & Mobley (2015) ask for 0.03 of neighbours.

    Args:
        solution: of `solve`.
        pairs: (E, 2) indices of ensembles.
    """
    found = solution.found
    density = sparse.csr_array(solution.shares(LEAST) * (1 / found.size)[:, None])
    result = []
    for one, other in pairs:
        a, b = density[[one]], density[[other]]
        product, both = (a * b).tocsr(), (a + b).tocsr()
        place = product.indices
        value = product.data / both[[0]].toarray()[0][place]
        result.append(float(found.total[place] @ value))
    return np.array(result)
