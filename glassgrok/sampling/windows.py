"""Where umbrella windows lie, and which of them are neighbours."""

from typing import NamedTuple

import numpy as np

from glassgrok.engine.restrained import Restraint, potential

FREE = -1  # the column of a rung that is held along u alone


class Windows(NamedTuple):
    """K windows: rungs along u, from the uniform measure down, and on them columns along A.

    Attributes:
        center: (K, axes) of the restraint.
        stiffness: (K, axes) nats per unit squared.
        dt: (K,) time step.
        row: (K,) number of the rung, from the top.
        column: (K,) number along A, `FREE` where A is not held.
        mean: (K, axes) of the collective variables, as far as is known.
        position: (K, M, D) where each walker begins.
    """

    center: np.ndarray
    stiffness: np.ndarray
    dt: np.ndarray
    row: np.ndarray
    column: np.ndarray
    mean: np.ndarray
    position: np.ndarray

    def restraint(self, index: np.ndarray) -> Restraint:
        """The restraints of some windows, for the device."""
        fields = (self.center, self.stiffness, self.dt)
        return Restraint(*(field[index].astype(np.float32) for field in fields))

    def potential(self, index: np.ndarray, values: np.ndarray) -> np.ndarray:
        """(n, m) w in nats of some windows (n,), each at (n, m, axes) values."""
        one = Restraint(self.center[index, None], self.stiffness[index, None], self.dt[index, None])
        return potential(one, values)


def neighbours(windows: Windows) -> list[np.ndarray]:
    """Pairs of neighbours (E, 2) in sets, in each of which a window appears once.

    Along u, from even rungs down and from odd ones; along A likewise; each free window with the
    column whose A is nearest to its own.
    """
    places = zip(windows.row.tolist(), windows.column.tolist(), strict=True)
    place = {at: k for k, at in enumerate(places)}
    down, along, aside = [], [], []
    for (row, column), k in place.items():
        if (row + 1, column) in place:
            down.append((k, place[row + 1, column]))
        if column != FREE and (row, column + 1) in place:
            along.append((k, place[row, column + 1]))
        if column != FREE:
            continue
        same = np.flatnonzero((windows.row == row) & (windows.column != FREE))
        if len(same):
            distance = np.abs(windows.mean[same, 1] - windows.mean[k, 1])
            aside.append((k, same[np.argmin(distance)]))
    down, along = (np.array(pairs, int).reshape(-1, 2) for pairs in (down, along))
    even, first = windows.row[down[:, 0]] % 2 == 0, windows.column[along[:, 0]] % 2 == 0
    sets = [down[even], along[first], down[~even], along[~first]]
    sets.append(np.array(aside, int).reshape(-1, 2))
    return [pairs for pairs in sets if len(pairs)]


def across(windows: Windows, pairs: np.ndarray) -> np.ndarray:
    """(E,) whether a pair is of a window that is free along A and a column."""
    return (windows.column[pairs] == FREE).sum(axis=1) == 1
