"""The mean force of the restraints: free energies by integrating it, and whether it has a curl.

<w_j - w_i> in the window i is the mean force along the way to the window j. In equilibrium it is a
gradient: what it adds up to on a way back to where it began is nothing but noise. Where walkers
lag, or keep a basin that others do not, ways along u and along A disagree. And it is the mean of a
divergence, which knows nothing of the restraint.
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_array, vstack
from scipy.special import logsumexp

from glassgrok.landscape import jackknife
from glassgrok.sampling.windows import FREE, Windows, across


class Moments(NamedTuple):
    """What some groups saw along E pairs of neighbours.

    Attributes:
        gap: (E, 2, 3) means of w_j - w_i, of its square and of the chance to accept the other's
            sample, of samples of i and of j.
        points: (n, axes) uniform draws; none where free energies are relative to a window's.
    """

    gap: np.ndarray
    points: np.ndarray


class Forces(NamedTuple):
    """What follows from the mean forces, with errors from leaving out one group at a time.

    Attributes:
        total, total_error: (K,) free energies by integration, nats.
        curl, curl_error: (L,) what the forces add up to around each of `loops`, nats.
    """

    total: np.ndarray
    total_error: np.ndarray
    curl: np.ndarray
    curl_error: np.ndarray


def forces(
    windows: Windows, pairs: np.ndarray, whole: Moments, without: list[Moments], first: int = 0
) -> Forces:
    """Free energies and curls of all groups, and their errors.

    Args:
        windows: K of them.
        pairs: (E, 2) neighbours.
        whole: of all groups.
        without: of all but one of them, for each.
        first: the window whose free energy is 0 where there are no uniform draws.
    """
    around = loops(windows, pairs)

    def both(found: Moments) -> tuple[np.ndarray, np.ndarray]:
        rise = rises(windows, pairs, found.gap)
        return _integral(windows, pairs, rise, found.points, first), around @ rise

    (total, curl), left = both(whole), [both(found) for found in without]
    return Forces(
        total=total,
        total_error=jackknife(np.array([f for f, _ in left])),
        curl=curl,
        curl_error=jackknife(np.array([c for _, c in left])),
    )


def rises(windows: Windows, pairs: np.ndarray, gap: np.ndarray) -> np.ndarray:
    """(E,) f_j - f_i of neighbours.

    From i to j along (1 - t) w_i + t w_j: df/dt = <w_j - w_i>, and d²f/dt² = - its variance, a
    cubic Hermite piece. Between a window that is free along A and a column the ratio of the chances
    to accept one's samples as the other's; Bennett (1976), Eq. 5.
    """
    mean, variance = gap[..., 0], np.maximum(gap[..., 1] - gap[..., 0] ** 2, 0.0)
    rise = mean.sum(axis=1) / 2 + (variance[:, 1] - variance[:, 0]) / 12
    chance = np.maximum(gap[..., 2], 1e-30)
    return np.where(across(windows, pairs), np.log(chance[:, 1] / chance[:, 0]), rise)


def divergence(
    windows: Windows, mean: np.ndarray, f: np.ndarray, balance: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(R,) nats that S at each rung would be higher by with the divergence form, and errors.

    Both forms of S' are the same in equilibrium at the temperature 1, whatever the restraint is.
    Walkers that are dragged, or that too large a time step heats, do not balance them.

    Columns of a rung count with what S(u, A), e^(w - f) at their means, has at one u.

    Args:
        windows: K.
        mean: (K, axes) of the collective variables in each.
        f: (K,) free energies.
        balance: (G, K, 3) sums of X . grad w, div X and X . grad u, see `restrained.balance`.
    """
    rungs, place = np.unique(windows.row, return_inverse=True)
    held = windows.column != FREE
    # A free window is told by its rung's columns already, where there are any.
    used = held | ~np.isin(windows.row, windows.row[held])
    u, slope = mean[:, 0], windows.stiffness[:, 0] * (mean[:, 0] - windows.center[:, 0])
    felt = windows.potential(np.arange(len(f)), mean[:, None])[:, 0]
    weight = np.zeros((len(rungs), len(f)))
    for r in range(len(rungs)):
        own = (place == r) & used
        log = felt[own] - f[own] - slope[own] * (u[own] - u[own].mean())
        weight[r, own] = np.exp(log - logsumexp(log))
    size = balance[..., 2].mean(axis=0)
    size = np.where(size > 0, size, np.nan)  # nothing follows where no walker has a slope
    off = np.where(used, (balance[..., 1] - balance[..., 0]) / size, 0.0) @ weight.T
    width = np.diff(weight @ u)
    steps = (off[:, 1:] + off[:, :-1]) / 2 * width
    total = np.cumsum(np.pad(steps, ((0, 0), (1, 0))), axis=1)
    error = np.std(total, axis=0, ddof=1) / np.sqrt(len(total))
    return total.mean(axis=0), error


def loops(windows: Windows, pairs: np.ndarray) -> csr_array:
    """(L, E) ways around: 1 where one takes a pair as it is, -1 backwards.

    The smallest ones: around each square of two rungs and two columns; and down from a free window
    to the next one, aside to the columns, up, and back. Then all of these between two columns, or
    beside the free windows, together: what is small in each adds up there.
    """
    steps = {(i, j): (e, 1) for e, (i, j) in enumerate(pairs.tolist())}
    steps |= {(j, i): (e, -1) for (i, j), (e, _) in steps.items()}
    taken = [
        (column, [steps[step] for step in pairwise(way)])
        for column, way in _ways(windows, pairs)
        if all(step in steps for step in pairwise(way))
    ]
    edge, sign = np.array([step for _, way in taken for step in way], int).reshape(-1, 2).T
    rows = np.repeat(np.arange(len(taken)), [len(way) for _, way in taken])
    small = csr_array((sign, (rows, edge)), shape=(len(taken), len(pairs)))
    columns, strip = np.unique([column for column, _ in taken], return_inverse=True)
    whole = (np.ones(len(taken), int), (strip, np.arange(len(taken))))
    strips = csr_array(whole, shape=(len(columns), len(taken)))
    return vstack([small, strips @ small], format="csr")


def _ways(windows: Windows, pairs: np.ndarray) -> list[tuple[int, list[int]]]:
    """Column and windows in the order of each smallest loop, -1 where none is there."""
    places = zip(windows.row.tolist(), windows.column.tolist(), strict=True)
    place = {at: k for k, at in enumerate(places)}
    beside = dict(pairs[across(windows, pairs)].tolist())
    ways = []
    for (row, column), k in place.items():
        if column != FREE:
            places = [(row + 1, column), (row + 1, column + 1), (row, column + 1)]
        else:
            below = place.get((row + 1, FREE))
            if k not in beside or below not in beside:
                continue
            first, last = (int(windows.column[beside[at]]) for at in (below, k))
            aside = range(first, last, 1 if first < last else -1)
            columns = [(row + 1, c) for c in (*aside, last)]
            places = [(row + 1, FREE), *columns, (row, last)]
        ways.append((column, [k, *(place.get(at, -1) for at in places), k]))
    return ways


def _integral(windows: Windows, pairs, rise: np.ndarray, points: np.ndarray, zero: int):
    """(K,) free energies, from the uniform measure to the first window and on along neighbours."""
    f = np.full(len(windows.row), np.nan)
    first = windows.potential(np.array([0]), points[None])[0]
    f[0] = np.log(len(points)) - logsumexp(-first) if len(points) else 0.0
    for k, before, edge, sign in tree(windows, pairs):
        f[k] = f[before] + sign * rise[edge]
    return f if len(points) else f - f[zero]


def tree(windows: Windows, pairs: np.ndarray) -> list[tuple[int, int, int, int]]:
    """(window, the one before, pair, sign) from the first on, breadth first; free ones first."""
    steps, known = [], {0}
    along = [(k, *pair) for k, pair in enumerate(pairs.tolist())]
    free = [e for e in along if windows.column[e[1]] == FREE and windows.column[e[2]] == FREE]
    for allowed in (free, along):
        grown = True
        while grown:
            grown = False
            for edge, i, j in allowed:
                for k, before, sign in ((j, i, 1), (i, j, -1)):
                    if before in known and k not in known:
                        known.add(k)
                        steps.append((k, before, edge, sign))
                        grown = True
    return steps
