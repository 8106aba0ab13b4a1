"""Axis and Grid: the bins of one or two collective variables."""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np


@dataclass(frozen=True)
class Axis:
    """`bins` equal bins of a collective variable from `low` to `high`.

    Raises:
        ValueError: low is not below high, or there are fewer than two bins.
    """

    name: str
    low: float
    high: float
    bins: int

    def __post_init__(self):
        if not -np.inf < self.low < self.high < np.inf:
            raise ValueError(
                f"The axis {self.name} must run upwards between finite ends, but goes from "
                f"{self.low} to {self.high}; swap or change the two."
            )
        if self.bins < 2:
            raise ValueError(f"The axis {self.name} needs at least 2 bins, but has {self.bins}.")

    @property
    def width(self) -> float:
        """Width of a bin, in the units of the variable."""
        return (self.high - self.low) / self.bins

    @property
    def centers(self) -> np.ndarray:
        """(bins,) the middle of each bin."""
        return self.low + self.width * (np.arange(self.bins) + 0.5)

    @property
    def edges(self) -> np.ndarray:
        """(bins + 1,) the edges of the bins."""
        return np.linspace(self.low, self.high, self.bins + 1)


class Grid:
    """One or two axes; `gg.Grid(gg.Axis("ln_loss", -10, 1.5, bins=60), ...)`.

    Raises:
        ValueError: no axis, or more than two.
    """

    def __init__(self, *axes: Axis):
        if len(axes) not in (1, 2):
            raise ValueError(f"A Grid has one or two axes, but was given {len(axes)}.")
        if len({axis.name for axis in axes}) < len(axes):
            raise ValueError(f"Both axes have the name {axes[0].name}; give each its own name.")
        self.axes = axes

    def __repr__(self):
        return f"Grid{self.axes}"

    def __eq__(self, other):
        return isinstance(other, Grid) and self.axes == other.axes

    def __hash__(self):
        return hash(self.axes)

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of bins along each axis."""
        return tuple(axis.bins for axis in self.axes)

    @property
    def size(self) -> int:
        """Number of bins in all."""
        return int(np.prod(self.shape))

    def bin(self, values):
        """Flat index of the bin that holds `values`, and whether they lie on the grid at all.

        Args:
            values: (axes,) a point. Not finite counts as off the grid.

        Returns:
            An int32 index, 0 where the point is off the grid, and a bool.
        """
        index, inside = jnp.int32(0), jnp.bool_(True)
        for axis, value in zip(self.axes, values, strict=True):
            # The upper end belongs to the grid: a smooth accuracy saturates at exactly 1.
            inside &= (value >= axis.low) & (value <= axis.high)
            cell = jnp.floor((value - axis.low) / axis.width)
            cell = jnp.clip(jnp.where(jnp.isfinite(cell), cell, 0), 0, axis.bins - 1)
            index = index * axis.bins + cell.astype(jnp.int32)
        return jnp.where(inside, index, 0), inside
