"""Axis, Grid, Landscape: the entropy S on a grid, and the potential V made of it."""

from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import xarray as xr


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


def _padded(table, axes: int, numpy):
    """The table with one more row on each side of each axis, continued linearly."""
    for i in range(axes):
        first, second = (numpy.take(table, numpy.array([k]), i) for k in (0, 1))
        last, before = (numpy.take(table, numpy.array([k]), i) for k in (-1, -2))
        table = numpy.concatenate([2 * first - second, table, 2 * last - before], i)
    return table


def interpolate(grid: Grid, table, wall, values):
    """V(u, A): a quadratic B-spline over the bins, continued beyond the grid.

    The coefficients are the table itself: V and the force are continuous, linear tables are
    reproduced exactly, and a bend of the table is rounded off (samples are weighted with the V they
    felt, so this costs no accuracy). From the outermost bins on V is linear, with the slope it has
    there, so that walkers feel the force that balances the entropy; beyond the edge a wall of
    `wall` nats times the squared distance in bins is added (the role of Zhang et al. 2025, Eq. 6).

    Args:
        grid: the grid.
        table: V over the grid, in nats.
        wall: (axes,) nats at one bin beyond the edge of each axis.
        values: (axes,) the point.

    Returns:
        V, a scalar in nats; its exact gradient is what the walkers feel.
    """
    table = _padded(table, len(grid.axes), jnp)
    cells, weights = [], []
    total = 0.0
    for axis, height, value in zip(grid.axes, wall, values, strict=True):
        place = (value - axis.low) / axis.width - 0.5
        cell = jnp.clip(jnp.round(place), 0, axis.bins - 1)
        cells.append(cell.astype(jnp.int32))
        # Beyond the edge the weights go on linearly: the parabolas would cancel there, and round.
        part = jnp.clip(place - cell, -0.5, 0.5)
        over = place - cell - part
        weights.append(
            (
                0.5 * (0.5 - part) ** 2 - over * (0.5 - part),
                0.75 - part**2 - 2 * over * part,
                0.5 * (0.5 + part) ** 2 + over * (0.5 + part),
            )
        )
        beyond = jnp.maximum(-0.5 - place, 0.0) + jnp.maximum(place - (axis.bins - 0.5), 0.0)
        total = total + height * beyond**2
    for sides in product(range(3), repeat=len(cells)):
        weight = 1.0
        for each, side in zip(weights, sides, strict=True):
            weight = weight * each[side]
        index = tuple(cell + side for cell, side in zip(cells, sides, strict=True))
        total = total + weight * table[index]
    return total


def bin_maximum(grid: Grid, table: np.ndarray) -> np.ndarray:
    """The largest of V at the centre, the edges and the corners of each bin, in float64.

    Samples are weighted with exp(V - this), which neither overflows nor loses the samples that
    matter, however steep V is.
    """
    fine = _padded(np.asarray(table, np.float64), len(grid.axes), np)
    for i, axis in enumerate(grid.axes):
        rows = [np.take(fine, np.arange(k, k + axis.bins), i) for k in range(3)]
        before, here, after = rows
        middle = (before + 6 * here + after) / 8
        fine = np.maximum(np.maximum((before + here) / 2, (here + after) / 2), middle)
    return fine


@dataclass(frozen=True)
class Landscape:
    """The measured entropy.

    Attributes:
        grid: the bins.
        entropy: float64 over the grid, nats: ln of the parameter volume whose (u, a) falls in the
            bin. NaN where not sampled. If `normalised`, ln of the fraction of the whole domain;
            else up to one constant, the smallest bin at 0.
        entropy_error: one standard error of `entropy`, from independent groups of walkers.
        visits: int64, production samples in the bin.
        groups: (G, ...) what each independent group contributes: entropy = ln mean_g exp(groups_g),
            where NaN, a group that saw nothing, counts as exp(-inf).
        starts: (G,) what each group started from.
        extras: name -> mean over the bin of another observable (a network's hard accuracies).
        normalised: whether the constant is absolute.
        attributes: provenance, for the file.
    """

    grid: Grid
    entropy: np.ndarray
    entropy_error: np.ndarray
    visits: np.ndarray
    groups: np.ndarray
    starts: tuple[str, ...]
    extras: dict[str, np.ndarray] = field(default_factory=dict)
    normalised: bool = False
    attributes: dict = field(default_factory=dict)

    def to_xarray(self) -> xr.Dataset:
        """The landscape as a labelled dataset; coordinates are the bin centres."""
        names = [axis.name for axis in self.grid.axes]
        nats = {"units": "nat"}
        variables = {
            "entropy": (names, self.entropy, nats | {"long_name": "Boltzmann entropy S"}),
            "entropy_error": (names, self.entropy_error, nats | {"long_name": "standard error"}),
            "visits": (names, self.visits, {"long_name": "production samples"}),
            "groups": (["group", *names], self.groups, nats | {"long_name": "S of each group"}),
        }
        variables |= {f"mean_{name}": (names, value) for name, value in self.extras.items()}
        coordinates = {axis.name: axis.centers for axis in self.grid.axes}
        coordinates["start"] = ("group", np.array(self.starts, dtype=object))
        edges = {f"{a.name}_range": np.array([a.low, a.high]) for a in self.grid.axes}
        attributes = edges | {"normalised": int(self.normalised)} | self.attributes
        return xr.Dataset(variables, coordinates, attributes)

    def save(self, path) -> None:
        """Write the landscape as NetCDF; a file of that name appears whole or not at all."""
        path = Path(path)
        partial = path.with_name(path.name + ".partial")
        self.to_xarray().to_netcdf(partial, engine="h5netcdf")
        partial.replace(path)

    @classmethod
    def load(cls, path) -> "Landscape":
        """Read what `save` wrote.

        Raises:
            ValueError: there is no such file, or it is not a landscape.
        """
        if not Path(path).is_file():
            raise ValueError(f"There is no landscape at {path}; give the path of a landscape.nc.")
        try:
            with xr.open_dataset(path, engine="h5netcdf") as file:
                return cls._from_xarray(file.load())
        except Exception as error:
            raise ValueError(
                f"{path} is not a landscape that glassgrok saved ({error}); give the path of a "
                "landscape.nc."
            ) from error

    @classmethod
    def _from_xarray(cls, data: xr.Dataset) -> "Landscape":
        names = data["entropy"].dims
        axes = [Axis(n, *map(float, data.attrs.pop(f"{n}_range")), data.sizes[n]) for n in names]
        normalised = bool(data.attrs.pop("normalised"))
        return cls(
            grid=Grid(*axes),
            entropy=data["entropy"].values,
            entropy_error=data["entropy_error"].values,
            visits=data["visits"].values,
            groups=data["groups"].values,
            starts=tuple(str(start) for start in data["start"].values),
            extras={
                str(n).removeprefix("mean_"): data[n].values
                for n in data.data_vars
                if str(n).startswith("mean_")
            },
            normalised=normalised,
            attributes=dict(data.attrs),
        )

    def with_attributes(self, **attributes) -> "Landscape":
        """The same landscape with more provenance."""
        return replace(self, attributes=self.attributes | attributes)
