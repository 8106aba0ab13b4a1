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
        f, bottom, logs = _newton(found, logs, f, TOLERANCE, ITERATIONS)
        # Cells that f now brings within reach were left out if it moved by much.
        if np.abs(f - before).max() < cut / 4:
            return Solution(f, -bottom, logs, found)
    raise FloatingPointError(_APART)


def solve_again(
    solution: Solution, inverse: Callable, total: np.ndarray, size: np.ndarray
) -> Solution:
    """The same ensembles from other counts in the same cells, such as of fewer groups.

    With the Hessian of the first solution, which is nearly that of these; to `ROUGH`, which is far
    below what the counts tell.

    Args:
        solution: of all counts.
        inverse: its `inverse`.
        total: (n,) of all ensembles, possibly 0.
        size: (K,) of each ensemble.

    Raises:
        ValueError, FloatingPointError: as `solve`.
    """
    found = solution.found._replace(total=total, size=size)
    _refuse_empty(found)
    changed = np.log(size / solution.found.size)
    logs = solution.entries._replace(data=solution.entries.data + changed[solution.entries.row])
    f, bottom, logs = _newton(found, logs, solution.f, ROUGH, AGAIN, inverse)
    return Solution(f, -bottom, logs, found)


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


def _newton(found: Counts, logs: Entries, f, tolerance: float, iterations: int, inverse=None):
    """(f, ln of the sum of each cell, the entries) where the function is smallest.

    `inverse` of a Hessian nearby, where there is one, saves most of the work.
    """
    total, size = found.total, found.size

    def state(tried, before, logs):
        logs = logs._replace(data=logs.data + (tried - before)[logs.row])
        bottom = _bottom(logs)
        return float(total @ bottom - size @ tried), bottom, logs

    value, bottom, logs = state(f, f, logs)
    for _ in range(iterations):
        each = np.exp(logs.data - bottom[logs.column])
        expected = np.bincount(logs.row, each * total[logs.column], len(size))
        gradient = expected - size
        if np.abs(gradient / size).max() < tolerance:
            return f, bottom, logs
        for tried in _steps(found, logs._replace(data=each), f, expected, inverse):
            after = state(tried, f, logs)
            if after[0] < value:
                break
        f, (value, bottom, logs) = tried, after
    raise FloatingPointError(_APART)


def _steps(found: Counts, shares: Entries, f: np.ndarray, expected: np.ndarray, inverse):
    """Where to try next, the best guess first."""
    gradient = expected - found.size
    if inverse is not None:
        yield f - np.append(0.0, inverse(gradient[1:] / found.total.sum()))
    step = np.append(0.0, _inverse_of(found, shares)(gradient[1:]))
    # Far from the end a step may be too long; the equation iterated always helps, if slowly.
    yield f - step
    yield f - step / 4
    iterated = np.log(np.maximum(expected, 1e-300) / found.size)
    yield f - iterated + iterated[0]


def inverse(solution: Solution) -> Callable:
    """(K - 1,) -> (K - 1,): divides by the Hessian at the solution, for one sample; f_0 stays."""
    entries = solution.entries
    each = np.exp(entries.data + solution.log_weight[entries.column])
    divided = _inverse_of(solution.found, entries._replace(data=each))
    return lambda gradient: divided(gradient * solution.found.total.sum())


def _inverse_of(found: Counts, shares: Entries) -> Callable:
    share = shares.matrix(found)
    weighted = sparse.csr_array(share * found.total[None, :])
    hessian = sparse.diags_array(share @ found.total) - weighted @ share.T
    ridge = 1e-10 * found.total.sum() * sparse.eye_array(len(found.size) - 1)
    inner = sparse.csc_array(sparse.csc_array(hessian)[1:, 1:] + ridge)
    return splu(inner).solve


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
