"""Small cells of (u, A), in which samples of all windows are counted together."""

from typing import NamedTuple

import numpy as np

from glassgrok.grid import Axis, Grid
from glassgrok.sampling.windows import Windows

FINE = 0.9  # nats that S changes by across a cell; it errs by FINE²/24 along each axis
TAIL = 8.0  # standard deviations of the outermost window that still have cells


class Cells(NamedTuple):
    """Cells that fill the grid's bins, and go on beyond it.

    Attributes:
        edges: for each axis. What lies beyond the last ones counts to the outermost cells.
    """

    edges: tuple[np.ndarray, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of cells along each axis."""
        return tuple(len(edges) - 1 for edges in self.edges)

    def index(self, values: np.ndarray) -> np.ndarray:
        """(...) flat index of the cell that (..., axes) values lie in."""
        index = np.zeros(values.shape[:-1], np.int64)
        for i, (edges, count) in enumerate(zip(self.edges, self.shape, strict=True)):
            place = np.searchsorted(edges, values[..., i], side="right") - 1
            index = index * count + np.clip(place, 0, count - 1)
        return index

    def middles(self, index: np.ndarray) -> np.ndarray:
        """(n, axes) the middles of some cells."""
        places = np.unravel_index(index, self.shape)
        middles = [(edges[1:] + edges[:-1]) / 2 for edges in self.edges]
        return np.stack([m[p] for m, p in zip(middles, places, strict=True)], axis=-1)

    def bins(self, grid: Grid, index: np.ndarray) -> np.ndarray:
        """(n,) flat index of the grid's bin that cells lie in, -1 beyond it."""
        inside, flat = np.ones(len(index), bool), np.zeros(len(index), np.int64)
        for axis, values in zip(grid.axes, self.middles(index).T, strict=True):
            bin = np.floor((values - axis.low) / axis.width).astype(np.int64)
            inside &= (bin >= 0) & (bin < axis.bins)
            flat = flat * axis.bins + bin
        return np.where(inside, flat, -1)


def cells_of(grid: Grid, windows: Windows, uniform: np.ndarray) -> Cells:
    """Cells so small that S hardly changes across one, by what the windows found of its slope."""
    edges = []
    for i, axis in enumerate(grid.axes):
        stiffness = windows.stiffness[:, i]
        held = stiffness > 0
        mean, slope = (
            windows.mean[held, i],
            (stiffness * (windows.mean[:, i] - windows.center[:, i])),
        )
        # A window's walkers come as far as its width, where S' is otherwise.
        steep = np.abs(slope[held]) + np.sqrt(stiffness[held])
        width = 1 / np.sqrt(stiffness[held])
        low = min((mean - TAIL * width).min(initial=axis.low), uniform[:, i].min(), axis.low)
        high = max((mean + TAIL * width).max(initial=axis.high), uniform[:, i].max(), axis.high)
        edges.append(_edges(axis, low, high, mean, width, steep))
    return Cells(tuple(edges))


def _edges(axis: Axis, low, high, mean, width, steep) -> np.ndarray:
    """Each bin of the axis, and as many more as reach from low to high, in equal parts."""
    first = -int(np.ceil((axis.low - low) / axis.width))
    last = axis.bins + int(np.ceil((high - axis.high) / axis.width))
    found = []
    for k in range(first, last):
        left = axis.low + k * axis.width
        near = (mean + 3 * width > left) & (mean - 3 * width < left + axis.width)
        most = steep[near].max(initial=1 / axis.width)
        parts = int(np.ceil(axis.width * most / FINE))
        found.append(left + axis.width * np.arange(parts) / parts)
    return np.append(np.concatenate(found), axis.low + last * axis.width)
