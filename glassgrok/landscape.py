"""The Landscape: the measured entropy S on a grid, with its errors, and its file."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xarray as xr

from glassgrok.grid import Axis, Grid

LOST = "lost_"  # and a start: attribute that tells why no S follows from its witnesses


class Diagnostics(NamedTuple):
    """How a landscape was sampled; `analysis.convergence` judges it.

    G groups, K segments of the counted production in the order of time, and S in nats up to a
    constant of each surface, NaN where nothing was seen.

    Attributes:
        segments: (K, G, ...) S of each group in each segment, as `Landscape.groups`.
        half_step: (G, ...) S of each group with half the time step, all NaN if not run.
        walkers: (...) int32, how many walkers visited the bin.
        trips: (G, axes) int64, round trips of a group's walkers between the lowest and the highest
            fifth of what V brings walkers to, along each axis.
        filled: whether adaptation saw the mask of reachable bins stop growing.
        dt: time step.
        omega_dt: (4,) dt times the largest frequency of V, in each quarter of the first axis from
            low to high; NaN where no walker was.
        temperature, temperature_error: (4,) configurational temperature in each quarter, 1 if dt
            is small enough, and its standard error; NaN where not measured.
        acceptance: share of accepted steps; 1 for an integrator that accepts all.
        rescued: walkers that were lost and re-seeded in the production.
        integrator: which kernel moved the walkers.
    """

    segments: np.ndarray
    half_step: np.ndarray
    walkers: np.ndarray
    trips: np.ndarray
    filled: bool
    dt: float
    omega_dt: np.ndarray
    temperature: np.ndarray
    temperature_error: np.ndarray
    acceptance: float
    rescued: int
    integrator: str


class Umbrella(NamedTuple):
    """How umbrella windows sampled a landscape: K windows, E pairs of neighbours, G groups.

    Of a landscape that is not normalised free energies are relative to that of one window, and
    those of rungs to the first one, which is left out.

    Attributes:
        halves: (2, G, ...) S of each group in each half of the counted time, as
            `Landscape.groups`.
        witnesses: (W, ...) S that groups say which started from trained networks, each start by
            itself; no part of `Landscape.entropy`. As `Landscape.groups`.
        witness_starts: (W,) what each started from.
        center, stiffness: (K, axes) of the restraints, stiffness in nats per unit squared.
        mean: (K, axes) of the collective variables in each window.
        row, column: (K,) number of the rung, from the uniform measure down, and along A; -1 where
            A is not held.
        dt: (K,) time steps.
        free_energy, free_energy_error: (K,) -ln of the mean of e^-w over the domain.
        integral, integral_error: (K,) the same by thermodynamic integration along neighbours.
        curl, curl_error: (L,) what its mean forces add up to on ways around, nats.
        divergence, divergence_error: (R,) nats that S at each rung, from the first on, would be
            higher by with the divergence of grad u for the mean force of the restraints.
        rung_u: (D,) mean u of rungs of the way down, of those that windows know whole.
        rung_ln_z: (D,) ln of the mean of e^-w over the domain, w of each of them.
        work, work_error: (D,) nats that it would be higher by, by the work of each group on its way
            in the mean; see `sampling.sweep`. NaN where that was not measured.
        pairs: (E, 2) neighbours, as indices of windows.
        overlap: (E,) of each pair; 1/2 where they are the same.
        weakest: the smallest overlap on the best way from the uniform measure to any window.
        accepted: (E,) share of the exchanges between them.
        trips: (axes,) round trips of all walkers between the first and the last windows.
        rescued: walkers that were lost and began again.
    """

    halves: np.ndarray
    witnesses: np.ndarray
    witness_starts: np.ndarray
    center: np.ndarray
    stiffness: np.ndarray
    mean: np.ndarray
    row: np.ndarray
    column: np.ndarray
    dt: np.ndarray
    free_energy: np.ndarray
    free_energy_error: np.ndarray
    integral: np.ndarray
    integral_error: np.ndarray
    curl: np.ndarray
    curl_error: np.ndarray
    divergence: np.ndarray
    divergence_error: np.ndarray
    rung_u: np.ndarray
    rung_ln_z: np.ndarray
    work: np.ndarray
    work_error: np.ndarray
    pairs: np.ndarray
    overlap: np.ndarray
    weakest: float
    accepted: np.ndarray
    trips: np.ndarray
    rescued: int


class Joint(NamedTuple):
    """Joint sums over the second variable's bins a and those of its hard form h, for reweighting.

    Attributes:
        name: of the hard form, one of the extras.
        weight: (G, nu, na, nh) ln of each group's volume in the cell, normalised as `groups`.
        square: (G, nu, na, nh) ln of the sum of the squared sample weights, on the same scale.
    """

    name: str
    weight: np.ndarray
    square: np.ndarray


def pooled(groups: np.ndarray) -> np.ndarray:
    """ln mean_g exp(S_g) over all groups.

    Args:
        groups: (G, ...) nats; NaN where a group saw nothing, which counts as no volume.

    Returns:
        (...) nats; NaN where no group saw anything.
    """
    filled = np.where(np.isnan(groups), -np.inf, groups)
    total = np.logaddexp.reduce(filled, axis=0) - np.log(max(len(groups), 1))
    return np.where(np.isfinite(total), total, np.nan)


def averaged(groups: np.ndarray) -> np.ndarray:
    """mean S_g over the n of G groups that saw something, and ln n/G for those that did not.

    A sample of a group by itself stands for G times the volume that one of all groups does.

    Args:
        groups: (G, ...) nats, each an estimate of S by itself; NaN where it saw nothing.

    Returns:
        (...) nats; NaN where no group saw anything.
    """
    seen = np.isfinite(groups)
    many = np.maximum(seen.sum(axis=0), 1)
    mean = np.where(seen, groups, 0.0).sum(axis=0) / many + np.log(many / max(len(groups), 1))
    return np.where(seen.any(axis=0), mean, np.nan)


def jackknife(replicates: np.ndarray) -> np.ndarray:
    """Standard error of a statistic by leaving out one group at a time.

    se^2 = (G - 1)/G sum_g (t_g - mean t)^2, t_g the statistic without group g; Efron (1982), Eq.
    3.1. All groups count everywhere: having seen nothing of a bin is information too.

    Args:
        replicates: (G, ...) the statistic without each group in turn.

    Returns:
        (...) standard error; NaN where a replicate is NaN, or there are fewer than two.
    """
    if len(replicates) < 2:
        return np.full(np.shape(replicates)[1:], np.nan)
    return np.sqrt(len(replicates) - 1) * np.std(replicates, axis=0)


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
        groups: (G, ...) what each independent group says, NaN where it saw nothing; of umbrella
            windows the jackknife's pseudovalues. See `pool`.
        starts: (G,) what each group started from.
        extras: name -> mean over the bin of another observable (a network's hard accuracies).
        normalised: whether the constant is absolute.
        diagnostics: how a frozen production sampled it, or None.
        umbrella: how umbrella windows did, or None.
        joint: what reweighting to hard accuracy needs, or None.
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
    diagnostics: Diagnostics | None = None
    umbrella: Umbrella | None = None
    joint: Joint | None = None
    attributes: dict = field(default_factory=dict)

    def pool(self, groups: np.ndarray) -> np.ndarray:
        """(...) the entropy that (G, ...) groups make up, nats; NaN where none saw anything.

        Groups that sampled with the same V add up their volumes. If `normalised`, or of umbrella
        windows, each is what it adds to S, so that the mean of all but one is S without that one,
        and they are `averaged`.
        """
        apart = self.normalised or self.umbrella is not None
        return (averaged if apart else pooled)(groups)

    def difference(self, bin1, bin2) -> tuple[float, float]:
        """S(bin2) - S(bin1) and its standard error, from leaving out one group at a time.

        Bins that the same samples connect err together, so the error of their difference is
        smaller than their two bars would say, and that of distant bins larger.

        Args:
            bin1, bin2: indices over the grid, (i,) or (i, j); of a 1-D landscape also i.

        Returns:
            The difference and its error in nats; NaN where a bin was not sampled, and an error of
            NaN where a group is the only one that saw a bin.

        Raises:
            ValueError: a bin is not on the grid.
        """
        one, two = (self._index(bin) for bin in (bin1, bin2))
        pair = np.stack([self.groups[(..., *one)], self.groups[(..., *two)]], axis=1)
        left = [self.pool(np.delete(pair, g, axis=0)) for g in range(len(pair))]
        value = float(self.entropy[two] - self.entropy[one])
        return value, float(jackknife(np.diff(np.reshape(left, (-1, 2)))[:, 0]))

    def fraction(self, u_below: float = np.inf, a_above: float = -np.inf) -> tuple[float, float]:
        """ln of the fraction of the domain with u <= `u_below` and A >= `a_above`.

        Args:
            u_below: ln train loss; what lies beyond the grid does not count.
            a_above: test accuracy.

        Returns:
            It and its standard error, in nats; bins count whose middle is inside.

        Raises:
            ValueError: the landscape is not normalised, or no bin there was sampled.
        """
        value, left = self._fraction(u_below, a_above)
        return value, float(jackknife(left))

    def fractions(self, u_below: float = np.inf, a_above: float = -np.inf) -> np.ndarray:
        """What each group adds to `fraction`, whose mean it is: pseudovalues of the jackknife.

        Groups that are held in basins of their own differ by far more than a nat. Then the mean
        volume counts, ln mean_g exp, as Machta (2010) weighs runs by theirs, and the mean of ln is
        below it.

        Args:
            u_below, a_above: as of `fraction`.

        Returns:
            (G,) nats.

        Raises:
            ValueError: as of `fraction`.
        """
        value, left = self._fraction(u_below, a_above)
        return value + (len(left) - 1) * (left.mean() - left)

    def _fraction(self, u_below: float, a_above: float) -> tuple[float, np.ndarray]:
        """`fraction`, and the same without each group in turn."""
        if "gap" in self.attributes and not self.normalised:
            raise ValueError(
                "S of this landscape is known on one side of a gap between windows alone, up to "
                "a constant: give them more steps, a larger rigidity or a smaller spread."
            )
        if not self.normalised:
            raise ValueError(
                "Only differences of this landscape's S mean anything; sample it with umbrella "
                "windows, which give S absolutely."
            )
        axes = self.grid.axes
        inside = axes[0].centers <= u_below
        if len(axes) == 2:
            inside = inside[:, None] & (axes[1].centers >= a_above)
        inside &= np.isfinite(self.entropy)
        if not inside.any():
            raise ValueError(
                f"No bin with u <= {u_below:g} and A >= {a_above:g} was sampled; ask for a larger "
                "part of the grid."
            )

        def total(entropy):
            return np.logaddexp.reduce(np.where(np.isfinite(entropy), entropy, -np.inf)[inside])

        left = [self.pool(np.delete(self.groups, g, axis=0)) for g in range(len(self.groups))]
        return float(total(self.entropy)), np.array([total(s) for s in left])

    def with_witnesses(self) -> "Landscape":
        """The same with its witnesses among the groups, for what compares groups by their start.

        Without those that no S follows from; see `lost_witnesses`.
        """
        found = self.umbrella
        if found is None:
            return self
        known = [f"{LOST}{start}" not in self.attributes for start in found.witness_starts]
        if not any(known):
            return self
        starts = tuple(str(start) for start in found.witness_starts[known])
        groups = np.concatenate([self.groups, found.witnesses[known]])
        return replace(self, groups=groups, starts=self.starts + starts)

    def lost_witnesses(self) -> dict[str, str]:
        """Start -> why no S follows from the witnesses that began there."""
        found = self.attributes.items()
        return {name.removeprefix(LOST): why for name, why in found if name.startswith(LOST)}

    def _index(self, bin) -> tuple[int, ...]:
        index = tuple(int(i) for i in np.atleast_1d(bin))
        shape = self.grid.shape
        if len(index) != len(shape) or any(
            not 0 <= i < n for i, n in zip(index, shape, strict=True)
        ):
            raise ValueError(
                f"There is no bin {index}: the grid has {' x '.join(map(str, shape))} bins, "
                "counted from 0."
            )
        return index

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
        for kind, found in (("diagnostic", self.diagnostics), ("umbrella", self.umbrella)):
            for name, value in ({} if found is None else found._asdict()).items():
                variables[f"{kind}_{name}"] = (_dimensions(names)[kind][name], value)
        if self.joint is not None:
            dims = ["group", *names, "hard"]
            meaning = {"long_name": f"with {self.joint.name} along hard"}
            variables["joint_weight"] = (dims, self.joint.weight, nats | meaning)
            variables["joint_square"] = (dims, self.joint.square, nats | meaning)
        coordinates = {axis.name: axis.centers for axis in self.grid.axes}
        coordinates["start"] = ("group", np.array(self.starts, dtype=object))
        edges = {f"{a.name}_range": np.array([a.low, a.high]) for a in self.grid.axes}
        attributes = edges | {"normalised": int(self.normalised)} | self.attributes
        if self.joint is not None:
            attributes["joint_name"] = self.joint.name
        return xr.Dataset(variables, coordinates, attributes)

    def save(self, path) -> None:
        """Write the landscape as NetCDF; a file of that name appears whole or not at all."""
        path = Path(path)
        partial = path.with_name(path.name + ".partial")
        data = self.to_xarray()
        # Most bins of the large arrays are NaN.
        packed = {name: {"zlib": True} for name in data.data_vars if data[name].ndim > 2}
        data.to_netcdf(partial, engine="h5netcdf", encoding=packed)
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
        joint_name = data.attrs.pop("joint_name", None)
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
            diagnostics=_record(data, "diagnostic", Diagnostics),
            umbrella=_record(data, "umbrella", Umbrella),
            joint=None
            if joint_name is None
            else Joint(joint_name, data["joint_weight"].values, data["joint_square"].values),
            attributes=dict(data.attrs),
        )

    def with_attributes(self, **attributes) -> "Landscape":
        """The same landscape with more provenance."""
        return replace(self, attributes=self.attributes | attributes)


def _dimensions(names) -> dict[str, dict[str, list[str]]]:
    """Dimensions of each field of Diagnostics and of Umbrella."""
    diagnostic = {
        "segments": ["segment", "group", *names],
        "half_step": ["group", *names],
        "walkers": [*names],
        "trips": ["group", "axis"],
        "omega_dt": ["quarter"],
        "temperature": ["quarter"],
        "temperature_error": ["quarter"],
    }
    umbrella = {name: ["window"] for name in Umbrella._fields} | {
        "halves": ["half", "group", *names],
        "witnesses": ["witness", *names],
        "witness_starts": ["witness"],
        "center": ["window", "variable"],
        "stiffness": ["window", "variable"],
        "mean": ["window", "variable"],
        "curl": ["loop"],
        "curl_error": ["loop"],
        "divergence": ["rung"],
        "divergence_error": ["rung"],
        "rung_u": ["rung_down"],
        "rung_ln_z": ["rung_down"],
        "work": ["rung_down"],
        "work_error": ["rung_down"],
        "pairs": ["pair", "side"],
        "overlap": ["pair"],
        "accepted": ["pair"],
        "trips": ["axis"],
        "rescued": [],
        "weakest": [],
    }
    numbers = {key: [] for key in ("filled", "dt", "acceptance", "rescued", "integrator")}
    return {"diagnostic": diagnostic | numbers, "umbrella": umbrella}


def _record(data: xr.Dataset, kind: str, record):
    """Diagnostics or Umbrella, None if the file has none."""
    if f"{kind}_{record._fields[0]}" not in data:
        return None
    values = [data[f"{kind}_{name}"].values for name in record._fields]
    return record(*(value if value.ndim else value.item() for value in values))
