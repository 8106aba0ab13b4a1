"""Absolute entropy from ensembles that overlap: multistate reweighting of samples in small cells.

Shirts & Chodera (2008), Eq. 11: samples of all ensembles together, each with weight
1 / sum_k N_k exp(f_k - w_k), where f_k = -ln Z_k makes them consistent. The first ensemble is the
uniform measure of the domain, w = 0 and f = 0, so that the weights add up to fractions of it.

An ensemble reaches few of the cells: sums over the others are left out, 18 nats down.
"""

import contextlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import splu

TOLERANCE, ROUGH, ROUNDS = 1e-7, 1e-4, 20
ITERATIONS, AGAIN = 100, 40  # to begin with, and from a solution that is nearly right
CUTS = 18.0, 100.0, 1e9  # nats
LEAST = 1e-9  # shares of a cell that are nothing, once the free energies are nearly right
ROWS = 64  # ensembles at a time, for memory


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


class Solution(NamedTuple):
    """What makes the ensembles consistent.

    Attributes:
        f: (K,) -ln Z_k in nats; f_0 = 0.
        log_weight: (n,) ln of the fraction of the domain that a sample in the cell stands for.
        entries: ln(N_k e^{f_k - w_k}) where it counts.
        found: what was solved.
    """

    f: np.ndarray
    log_weight: np.ndarray
    entries: "Entries"
    found: Counts

    def shares(self) -> sparse.csr_array:
        """(K, n) chance that a sample in the cell comes from each ensemble."""
        each = np.exp(self.entries.data + self.log_weight[self.entries.column])
        return self.entries._replace(data=each).matrix(self.found)


def solve(found: Counts, guess: np.ndarray) -> Solution:
    """Free energies by Newton's method on a convex function.

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
    logs = _within_reach(found, f, CUTS[0])
    each = np.exp(logs.data - _bottom(logs)[logs.column])
    return np.bincount(logs.row, each * found.total[logs.column], len(found.size))


def _bottom(logs: "Entries") -> np.ndarray:
    """(n,) ln of the sum of each cell."""
    top = np.maximum.reduceat(logs.data, logs.starts)
    return top + np.log(np.add.reduceat(np.exp(logs.data - top[logs.column]), logs.starts))


def _solved(found: Counts, guess: np.ndarray, cut: float) -> Solution:
    f = np.array(guess, float) - guess[0]
    for _ in range(ROUNDS):
        logs, before = _within_reach(found, f, cut), f
        f, bottom, logs = _newton(found, logs, f)
        # Cells that f now brings within reach were left out if it moved by much.
        if np.abs(f - before).max() < cut / 4:
            return Solution(f, -bottom, logs, found)
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
    share = solution.shares()
    share.data[share.data < LEAST] = 0.0
    share.eliminate_zeros()
    divided, samples = _inverse_of(solution.found.total, share), solution.found.total.sum()
    return Nearby(solution, share.T.tocsr(), lambda step: divided(step * samples))


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
        if not np.isfinite(value):
            break
        grown = times * np.exp(moved)
        expected = grown * (back.T @ (counts / ratio))
        gradient = expected - size
        if np.abs(gradient / size).max() < ROUGH:
            log_weight = np.zeros(len(total))
            log_weight[seen] = first.log_weight[seen] - np.log(ratio)
            return Replicate(first.f + moved, log_weight, found)
        for tried in _steps_again(near, back, counts, size, moved, grown, expected, ratio):
            after = state(tried)
            if after[0] < value:
                break
        moved, (value, ratio) = tried, after
    raise FloatingPointError(_APART)


def _steps_again(near: Nearby, back, counts, size, moved, grown, expected, ratio):
    """As `_after`, with the Hessian of the first solution before all."""
    yield moved - np.append(0.0, near.inverse((expected - size)[1:] / counts.sum()))
    share = sparse.csr_array((back * (1 / ratio)[:, None] * grown[None, :]).T)
    yield from _after(counts, share, moved, expected, size)


def _refuse_empty(found: Counts) -> None:
    if not (found.size > 0).all():
        k = int(np.argmin(found.size))
        raise ValueError(f"Ensemble {k} of {len(found.size)} has no samples; sample all of them.")


_APART = (
    "The free energies of the ensembles did not converge, so neighbours do not overlap; give more "
    "levels, or windows between them."
)


class Entries(NamedTuple):
    """ln(N_k e^{f_k - w_k}) where it counts, column by column."""

    data: np.ndarray
    row: np.ndarray
    column: np.ndarray
    starts: np.ndarray

    def matrix(self, found: Counts) -> sparse.csr_array:
        shape = len(found.size), len(found.total)
        ends = np.append(self.starts, len(self.data))
        return sparse.csc_array((self.data, self.row, ends), shape=shape).tocsr()


def _within_reach(found: Counts, f: np.ndarray, cut: float) -> Entries:
    """Entries no more than `cut` below the largest of their cell, or of their ensemble.

    The latter are not needed in the end, but an ensemble whose f is far off must not lose its own.
    """
    largest = np.full(len(found.total), -np.inf)
    offset = np.log(found.size) + f
    parts = [slice(k, k + ROWS) for k in range(0, len(f), ROWS)]
    for part in parts:
        logs = offset[part, None] - found.potential(part)
        np.maximum(largest, logs.max(axis=0), out=largest)
    kept = []
    for part in parts:
        logs = offset[part, None] - found.potential(part)
        own = logs.max(axis=1, keepdims=True)
        row, column = np.nonzero((logs > largest - cut) | (logs > own - cut))
        kept.append((logs[row, column], row + part.start, column))
    data, row, column = (np.concatenate(each) for each in zip(*kept, strict=True))
    order = np.argsort(column, kind="stable")
    data, row, column = data[order], row[order], column[order]
    return Entries(data, row, column, np.searchsorted(column, np.arange(len(found.total))))


def _newton(found: Counts, logs: Entries, f):
    """(f, ln of the sum of each cell, the entries) where the function is smallest."""
    total, size = found.total, found.size

    def state(tried, before, logs):
        logs = logs._replace(data=logs.data + (tried - before)[logs.row])
        bottom = _bottom(logs)
        return float(total @ bottom - size @ tried), bottom, logs

    value, bottom, logs = state(f, f, logs)
    for _ in range(ITERATIONS):
        each = np.exp(logs.data - bottom[logs.column])
        expected = np.bincount(logs.row, each * total[logs.column], len(size))
        gradient = expected - size
        if np.abs(gradient / size).max() < TOLERANCE:
            return f, bottom, logs
        share = logs._replace(data=each).matrix(found)
        for tried in _after(total, share, f, expected, size):
            after = state(tried, f, logs)
            if after[0] < value:
                break
        f, (value, bottom, logs) = tried, after
    raise FloatingPointError(_APART)


def _after(total: np.ndarray, share: sparse.csr_array, f, expected: np.ndarray, size: np.ndarray):
    """Where to try next, the best guess first.

    Far from the end Newton's step may be too long, or there may be none; the equation iterated
    always helps, if slowly.
    """
    with contextlib.suppress(RuntimeError):  # a singular Hessian
        step = np.append(0.0, _inverse_of(total, share)((expected - size)[1:]))
        yield f - step
        yield f - step / 4
    iterated = np.log(np.maximum(expected, 1e-300) / size)
    yield f - iterated + iterated[0]


def _inverse_of(total: np.ndarray, share: sparse.csr_array) -> Callable:
    """(K - 1,) -> (K - 1,): divides by the Hessian; f_0 stays."""
    weighted = sparse.csr_array(share * total[None, :])
    hessian = sparse.diags_array(share @ total) - weighted @ share.T
    ridge = 1e-10 * total.sum() * sparse.eye_array(share.shape[0] - 1)
    return splu(sparse.csc_array(sparse.csc_array(hessian)[1:, 1:] + ridge)).solve


def overlaps(solution: Solution, pairs: np.ndarray) -> np.ndarray:
    """(E,) how much the ensembles of each pair overlap: 1/2 where they are the same.

    The chance that a sample of one, with as many of the other, is taken for the other's; Klimovich,
    Shirts & Mobley (2015) ask for 0.03 of neighbours.

    Args:
        solution: of `solve`.
        pairs: (E, 2) indices of ensembles.
    """
    found = solution.found
    density = sparse.csr_array(solution.shares() * (1 / found.size)[:, None])
    result = []
    for one, other in pairs:
        a, b = density[[one]], density[[other]]
        product, both = (a * b).tocsr(), (a + b).tocsr()
        place = product.indices
        value = product.data / both[[0]].toarray()[0][place]
        result.append(float(found.total[place] @ value))
    return np.array(result)
