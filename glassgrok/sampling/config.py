"""SamplerConfig: every choice of a sampling run, with defaults that work."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

# Trained networks that groups may start from.
STARTS = ("memorising", "generalising")
# What the ladder's V is expected to be wrong by, in nats.
FILL = 5.0
# Between two actions of the thermostat on windows: the share of the velocity that is forgotten, and
# radians of the stiffest direction, both at most. With pi radians it would never forget.
FORGOTTEN, HALF_PERIOD = 0.1, 2.5


class Layout(NamedTuple):
    """The parts of a production in the order of time, in steps.

    Attributes:
        settling: not counted yet.
        counted: what S comes from.
        audit: with half the time step.
    """

    settling: int
    counted: int
    audit: int


@dataclass(frozen=True)
class SamplerConfig:
    """How S is sampled.

    Attributes:
        steps: steps of each walker in all: ladder, adaptation and production.
        walkers: number of walkers; they share one S.
        tile: walkers that run side by side on one device; results do not depend on the number of
            devices as long as this stays the same. Divides walkers.
        groups: independent groups that the error bars come from; divides walkers / tile.
        dt: time step, or "auto": from the stiffness of V(u, A) where the walkers are, measured
            again and again during adaptation, and for the last time when production begins.
        omega_dt: what "auto" aims at: dt times the frequency of the stiffest direction. In a well
            where all directions are equally stiff 0.2 costs 1 % of S', and the error falls with
            the square; above 0.4 walkers break.
        friction: c_f, the share of the velocity forgotten in each step.
        integrator: "middle"; "paper" for Eq. 5 of Zhang et al. as printed (which samples the wrong
            temperature; to reproduce and compare); "metropolis", exact for any dt at twice the
            price (to audit).
        ladder_steps: steps of each ladder level; 0 starts from V = 0, plain Wang-Landau.
        ladder_ratio: beta of a level over beta of the one before.
        f0: nats that all walkers together deposit in one step, at most, or "auto": `FILL` nats for
            each bin of the grid until the decay begins.
        rise: share of the adaptation (of its coarse part and of the rest, each for itself) in which
            f rises to f0.
        fall: share of it that the fill takes, at least: f stays at f0.
        quiet: the fill ends only when, for this share of `fall`, next to no new bins were reached
            and all that were are visited alike; 0 to end it at `fall` in any case, as in Eq. 3.
        decay: after the fill f decays like decay / (t - end of fill + decay). With rise, fall and
            decay all equal to t_WL and quiet 0 this is Eq. 3 of Zhang et al.
        coarse: share of the adaptation at its start in which a visit raises its whole row of u, all
            values of A alike; 0 for none, as in the papers.
        depth: V falls no deeper than this below the largest of its row of u, in nats: walkers need
            not go where at one loss the volume is e^-depth of that of the ridge.
        kernel: width of a deposit in bins (standard deviation), at most 1.5: a wider one would
            relax fine structure too slowly.
        wall: nats at one bin beyond the edge of the grid, on top of V's own slope there, or "auto":
            as stiff as dt allows, at most 50.
        production: share of the steps that run with V frozen; S comes from these alone.
        settle: share of the production that is not counted yet: the walkers still remember the V
            that moved with them.
        audit: share of the production, at its end, that runs with half the time step, to compare.
        sync: steps between two sums of the visits over all walkers and devices.
        block: steps between two looks of the host; a multiple of sync.

    Raises:
        ValueError: a value that cannot work, said in a sentence.
    """

    steps: int = 30_000
    walkers: int = 64
    tile: int = 8
    groups: int = 8
    dt: float | Literal["auto"] = "auto"
    omega_dt: float = 0.15
    friction: float = 0.01
    integrator: Literal["middle", "paper", "metropolis"] = "middle"
    ladder_steps: int = 200
    ladder_ratio: float = 2.0
    f0: float | Literal["auto"] = "auto"
    rise: float = 0.02
    fall: float = 0.5
    quiet: float = 0.3
    decay: float = 0.05
    coarse: float = 0.5
    depth: float = 30.0
    kernel: float = 1.0
    wall: float | Literal["auto"] = "auto"
    production: float = 0.5
    settle: float = 0.25
    audit: float = 0.1
    sync: int = 10
    block: int = 100

    def __post_init__(self):
        for name in ("steps", "walkers", "tile", "groups", "sync", "block"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, but is {getattr(self, name)}.")
        for name in ("ladder_steps", "rise"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must not be negative, but is {getattr(self, name)}.")
        for name, low, high in [
            ("omega_dt", 0.0, 1.0),
            ("friction", 0.0, 1.0),
            ("production", 0.0, 1.0),
            ("fall", 0.0, float("inf")),
            ("depth", 0.0, float("inf")),
            ("decay", 0.0, float("inf")),
            ("ladder_ratio", 1.0, float("inf")),
        ]:
            if not low < getattr(self, name) < high:
                raise ValueError(
                    f"{name} must lie between {low:g} and {high:g}, both excluded, but is "
                    f"{getattr(self, name)}."
                )
        for name, high in (
            ("coarse", 1),
            ("settle", 0.5),
            ("audit", 0.4),
            ("quiet", 0.9),
            ("kernel", 1.5),
        ):
            if not 0 <= getattr(self, name) <= high:
                raise ValueError(
                    f"{name} must lie between 0 and {high}, but is {getattr(self, name)}."
                )
        for name in ("dt", "f0", "wall"):
            value = getattr(self, name)
            if value != "auto" and not (isinstance(value, (int, float)) and 0 < value < 1e30):
                raise ValueError(f'{name} must be positive or "auto", but is {value!r}.')
        if self.dt == "auto" and self.ladder_steps == 0:
            raise ValueError(
                'dt="auto" needs the ladder\'s V, but ladder_steps is 0; give dt a number or '
                "ladder_steps a positive one."
            )
        if self.integrator not in ("middle", "paper", "metropolis"):
            raise ValueError(
                f'integrator must be "middle", "paper" or "metropolis", but is {self.integrator!r}.'
            )
        if self.walkers < self.groups:
            raise ValueError(
                f"There must be at least one walker in each group, but {self.walkers} walkers "
                f"cannot make {self.groups} groups; raise walkers or lower groups."
            )
        if self.walkers % self.tile:
            raise ValueError(
                f"tile must divide walkers, but {self.walkers} walkers do not fill tiles of "
                f"{self.tile}; change one of them."
            )
        if (self.walkers // self.tile) % self.groups:
            raise ValueError(
                f"groups must divide the number of tiles, but {self.walkers} walkers in tiles of "
                f"{self.tile} make {self.walkers // self.tile} tiles for {self.groups} groups; "
                "lower tile or groups."
            )
        least = 2 if self.ladder_steps else 1
        if self.total_steps - self.production_steps < least * self.block:
            raise ValueError(
                f"steps must leave at least {least} blocks of {self.block} steps before the "
                f"production, but {self.steps} steps with production {self.production} do not; "
                "raise steps, or lower production or block."
            )
        if self.layout(self.production_steps).counted < self.block:
            raise ValueError(
                f"production has {self.production_steps} steps, of which settle = {self.settle} "
                f"and audit = {self.audit} leave none to count; raise steps or production, or "
                "lower settle, audit or block."
            )
        if self.block % self.sync:
            raise ValueError(
                f"block must be a multiple of sync, but they are {self.block} and {self.sync}."
            )

    @property
    def tiles(self) -> int:
        """Number of tiles."""
        return self.walkers // self.tile

    @property
    def total_steps(self) -> int:
        """Steps of each walker in all, rounded up to whole blocks."""
        return -(-self.steps // self.block) * self.block

    @property
    def production_steps(self) -> int:
        """Steps of the frozen production, whole blocks."""
        return max(1, round(self.steps * self.production / self.block)) * self.block

    def layout(self, length: int) -> Layout:
        """How a production of `length` steps, whole blocks, is divided."""
        settling = round(self.settle * length / self.block) * self.block
        audit = round(self.audit * length / self.block) * self.block
        return Layout(settling, length - settling - audit, audit)


@dataclass(frozen=True)
class UmbrellaConfig:
    """How umbrella windows are laid and sampled.

    Attributes:
        groups: independent groups, each with walkers in every window; S is what they say.
        copies: walkers of each group in every window. On a GPU many are as fast as few.
        witnesses: more such groups for each trained start. They begin far from equilibrium, so S
            is not made of them: where they agree with the others, that was long enough.
        steps: of each walker once all windows are laid.
        settle: share of them that is not counted.
        block: steps between two exchanges.
        rung_steps: of each rung on the way down, where S' and the widths come from.
        explored: share of the variance of u, 1/(k - S''), that each walker must go through in the
            second half of these steps. Where it goes through less the walkers are dragged, and S'
            is too large: they are held there once more, each time for twice as many steps.
        patience: times that this is done at one rung, at most.
        spread_steps: of the witnesses' columns while they are drawn apart along A at the lowest
            rung; half of them at rest there.
        level_steps: of all columns at each rung, half of them while those of the groups that came
            down are drawn apart there.
        spread: distance of rungs, in standard deviations of u under the restraint.
        rigidity: stiffness of rungs in units of S', at least, above a jump and in it. Where S'
            falls steeply rungs get more as soon as they find it. Without a jump 2 is enough.
        rungs: at most.
        columns: windows along A on each rung of the grid, 0 for none, or "auto": as many as their
            widths ask for.
        draws: uniform points of the domain.
        friction: c_f, the share of the velocity forgotten in a step; the thermostat does what
            several steps forget at once, see `every`.
        omega_dt: dt times the largest frequency found at a rung. Where all directions are equally
            stiff S errs by its square/12; of a network few are: at p = 13 S' is with 1.0 what it
            is with 0.5, within errors of some 3 % (figures/landscapes/relaxation.md).
        sweepers: walkers that go down for each one of a group. All of a group's are drawn again
            from rung to rung by their work, if rung_steps are at least 8 blocks; the more there
            are, the rarer a basin may be that holds most of the volume. With one of each group, or
            fewer blocks, the work is not measured, which a converged run asks for.
        crowd: each of them is there so many times from where S' has fallen to 0.8 of its peak to
            where it is 0.3 of what it was beyond the jump, or to the end, and then once again:
            there walkers part into basins, which they do not leave below. At p = 13 and 80 % of
            the pairs four of twelve groups of 32 found those that hold nearly all volume
            (figures/landscapes). Noise in S' before the peak may switch it on early, which costs
            time only.
        tile: walkers that run side by side on one device. On a processor 2 to 8 are equally fast.
    """

    groups: int = 8
    copies: int = 1
    witnesses: int = 3
    steps: int = 4_000
    settle: float = 0.2
    block: int = 50
    rung_steps: int = 600
    explored: float = 0.5
    patience: int = 3
    spread_steps: int = 4_000
    level_steps: int = 200
    spread: float = 1.5
    rigidity: float = 4.0
    rungs: int = 400
    columns: int | Literal["auto"] = "auto"
    draws: int = 4096
    friction: float = 0.01
    omega_dt: float = 0.15
    sweepers: int = 4
    crowd: int = 1
    tile: int = 4

    def __post_init__(self):
        counts = ("steps", "block", "rung_steps", "spread_steps", "level_steps", "rungs")
        for name in (*counts, "draws", "sweepers", "crowd", "tile", "copies"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, but is {getattr(self, name)}.")
        for name in ("groups", "witnesses"):
            if getattr(self, name) < 2:
                raise ValueError(
                    f"{name} must be at least 2 for errors, but is {getattr(self, name)}."
                )
        if not 0 <= self.settle < 1:
            raise ValueError(f"settle must be from 0 to below 1, but is {self.settle}.")
        if self.patience < 0:
            raise ValueError(f"patience must not be negative, but is {self.patience}.")
        if not 0 <= self.explored < 1:
            raise ValueError(f"explored must be from 0 to below 1, but is {self.explored}.")
        for name in ("spread", "rigidity"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(
                    f"{name} must be above 0 and finite, but is {getattr(self, name)}."
                )
        for name in ("omega_dt", "friction"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(
                    f"{name} must lie between 0 and 1, both excluded, but is {getattr(self, name)}."
                )
        if self.columns != "auto" and not 0 <= self.columns != 1:
            raise ValueError(f'columns must be "auto", 0 or at least 2, but is {self.columns!r}.')
        if self.crowd > 1 and (self.rung_steps < 8 * self.block or self.sweepers == 1):
            raise ValueError(
                f"crowd {self.crowd} needs walkers that are drawn again: at least 2 sweepers and 8 "
                f"blocks of {self.block} steps a rung, but there are {self.sweepers} and "
                f"{self.rung_steps} steps; raise sweepers or rung_steps, or lower block or crowd."
            )
        if self.draws < 10 * self.groups * self.copies:
            raise ValueError(
                f"draws must be at least ten for each of {self.groups * self.copies} walkers of "
                f"a window, but are {self.draws}."
            )
        if self.steps < 10 * self.block:
            raise ValueError(
                f"steps must be at least 10 blocks of {self.block}, but are {self.steps}."
            )
        counted = round((1 - self.settle) * self.steps / self.block)
        if counted < 2:
            raise ValueError(
                f"settle must leave at least two blocks of {self.block} steps to count, but "
                f"{self.settle} of {self.steps} leaves {counted}; lower settle or block, or raise "
                "steps."
            )

    @property
    def every(self) -> int:
        """Steps from one action of the thermostat to the next; see `restrained.stretch`.

        A divisor of `block`, within which a tenth of the velocity is forgotten and the stiffest
        direction goes through less than half a period.
        """
        most = min(FORGOTTEN / self.friction, HALF_PERIOD / self.omega_dt)
        return max(k for k in range(1, self.block + 1) if self.block % k == 0 and k <= max(1, most))
