"""Umbrella windows along A: columns drawn apart at each rung, and brought up from trained networks.

1. `spread`: at the lowest rung the witnesses, which begin at trained networks, are drawn apart.
2. `level`: rung by rung from there up, each random group is drawn apart from where it came down,
   which is as near to equilibrium as it has been; witnesses take their columns along. Each group
   leaves a starting point in every window.
3. `warm`: above the columns witnesses go on up, one walker of each group.

What came down lags behind equilibrium in one sense, what comes up in the other.
"""

import jax
import numpy as np

from glassgrok.engine.restrained import Restraint
from glassgrok.engine.walkers import Walkers
from glassgrok.sampling.apparatus import (
    Apparatus,
    at_rest,
    hold,
    spread_out,
    tiled,
    time_step,
    untiled,
)
from glassgrok.sampling.sweep import Laying, Rungs, appended, beyond_the_jump, moved
from glassgrok.sampling.windows import Windows

GAIN = 0.5  # share of a newly measured slope of S along u, which is noisy
APART = 3.0  # times a rung's own slope, at most; or walkers that lag behind are pulled ever harder
BEYOND = 4  # columns beyond each end of the grid: where S is steep a mean lies off its center
MOST = 64  # columns
JOINED = 2  # rungs of the grid that have a window free along A, which joins those above to columns
RAMP = 8  # parts of the first half of a level, in which columns are drawn apart
PARTS = (0.25, 0.25)  # of its steps, after that: the slopes are measured in each


def columns(apparatus: Apparatus, rungs: Rungs) -> tuple[np.ndarray, float]:
    """Centers along A, and their stiffness.

    They lie evenly; the means of their windows closer where S is concave, and less so where it is
    convex by less than the stiffness.
    """
    grid, wanted = apparatus.grid, apparatus.config.columns
    if len(grid.axes) == 1 or wanted == 0:
        return np.zeros(0), 0.0
    axis = grid.axes[1]
    if wanted == "auto":
        natural = np.median(rungs.spread[inside(apparatus, rungs)])
        # Where A has two phases its spread is that between them: no wider than a bin.
        apart = np.clip(natural, axis.width / MOST, axis.width)
        wanted = int(np.clip(np.ceil((axis.high - axis.low) / apart) + 1, 2, MOST))
    apart = (axis.high - axis.low) / (wanted - 1)
    return axis.low + apart * np.arange(-BEYOND, wanted + BEYOND), 2 / apart**2


def inside(apparatus: Apparatus, rungs: Rungs) -> np.ndarray:
    """Numbers of the rungs with columns: on the grid, and below the jump if there is one.

    Above it columns would stay in the phase that they come from, which is not in equilibrium
    there. No gaps, also where a mean is noisy; the last one at least.
    """
    below = rungs.mean[:, 0] < apparatus.grid.axes[0].high
    first = int(np.argmax(below)) if below.any() else len(below) - 1
    return np.arange(max(first, beyond_the_jump(rungs)), len(below))


def begin(apparatus: Apparatus, laying: Laying, key) -> tuple[Laying, str]:
    """The witnesses where they start; and what is to be done: "windows", "spread" or "level"."""
    rungs, trained = laying.rungs, apparatus.trained()
    count = 1 + len(columns(apparatus, rungs)[0])
    if count == 1 and not trained.any():
        every = [rungs.window(r) for r in range(len(rungs.slope))]
        return laying._replace(windows=appended(laying.windows, every)), "windows"
    laying = laying._replace(
        slope=np.full((2, count), rungs.slope[-1]),
        walkers=_none(rungs.position.shape[-1], count),
        done=0,
    )
    if not trained.any():
        return laying, "level"
    known, names = dict(apparatus.starts), apparatus.walker_starts()
    starts = [known[name] for name in names if name != "random"]
    position = np.stack([np.stack(starts)] * count, axis=1)
    return laying._replace(
        walkers=at_rest(apparatus.flat, position, key), begun=_looked(apparatus, position)
    ), "spread"


def _none(size: int, count: int) -> Walkers:
    empty = np.zeros((0, count, size), np.float32)
    key = np.asarray(jax.random.key_data(jax.random.key(0)))
    return Walkers(empty, empty, np.zeros((0, count, *key.shape), key.dtype))


def _looked(apparatus: Apparatus, position: np.ndarray) -> np.ndarray:
    """(groups, n, axes) collective variables."""
    shape = position.shape[:2]
    devices, tile = spread_out(apparatus, shape[0] * shape[1])
    found = devices.gather(apparatus.look(devices.scatter(tiled(position, devices, tile))))
    return untiled(found, shape)


def spread(apparatus: Apparatus, laying: Laying) -> tuple[Laying, bool]:
    """One block of drawing the witnesses apart; and whether it was the last."""
    part, block = laying.done + 1, apparatus.config.block
    ramp = max(1, round(apparatus.config.spread_steps / 2 / block))
    r, ways = len(laying.rungs.slope) - 1, np.ones(len(laying.walkers.position), int)
    goal = _held(apparatus, laying, r, ways)
    now = _on_the_way(goal, laying.begun, part / ramp)
    now = now._replace(dt=np.full_like(now.dt, _time_step(apparatus, laying, r, now)))
    walkers, values, step = hold(apparatus, laying.walkers, now, block, laying.step)
    laying = moved(laying, walkers, values, step)._replace(done=part)
    if part > ramp:
        laying = _learned(laying, r, ways, goal, values)
    return laying, part >= 2 * ramp


def _on_the_way(goal: Restraint, begun: np.ndarray, share: float) -> Restraint:
    center = begun + (goal.center - begun) * np.float32(min(share, 1.0))
    return goal._replace(center=center)


def _time_step(apparatus: Apparatus, laying: Laying, r: int, held: Restraint) -> float:
    found = time_step(apparatus, laying.walkers.position, held, laying.step)
    return min(found, laying.rungs.dt[r])


def _held(apparatus: Apparatus, laying: Laying, r: int, ways: np.ndarray) -> Restraint:
    """(groups, n) restraints of columns, whose mean u shall be that of the rung; no dt yet.

    `ways` tells of each group whether it came down, 0, or comes up, 1: slopes are theirs.
    """
    rungs, count, axes = laying.rungs, laying.slope.shape[1], laying.rungs.mean.shape[1]
    stiffness, center = np.zeros((2, count, axes)), np.zeros((2, count, axes))
    stiffness[..., 0] = rungs.stiffness[r]
    center[..., 0] = rungs.mean[r, 0] - laying.slope / rungs.stiffness[r]
    if count > 1:
        center[:, 1:, 1], stiffness[:, 1:, 1] = columns(apparatus, rungs)
    none = np.zeros((len(ways), count), np.float32)
    return Restraint(center[ways].astype(np.float32), stiffness[ways].astype(np.float32), none)


def _learned(laying: Laying, r: int, ways: np.ndarray, held: Restraint, values) -> Laying:
    """The slope along u is what the restraints balance."""
    slope, own = laying.slope.copy(), laying.rungs.slope[r]
    for way in np.unique(ways):
        groups = ways == way
        u = np.nanmean(values[groups, ..., 0].astype(np.float64), axis=(0, 1))
        center, stiffness = (array[groups][0, :, 0] for array in held[:2])
        slope[way] += GAIN * (stiffness * (u - center) - slope[way])
        slope[way] = np.clip(slope[way], *sorted((own / APART, own * APART)))
    return laying._replace(slope=slope)


# --- up -------------------------------------------------------------------------------------------


def level(apparatus: Apparatus, laying: Laying, key) -> tuple[Laying, bool]:
    """Draw columns apart at the next rung up, and leave windows; and whether it was the last."""
    rungs, config, trained = laying.rungs, apparatus.config, apparatus.trained()
    there, ways, count = inside(apparatus, rungs), trained.astype(int), laying.slope.shape[1]
    r = int(there[-1 - laying.done])
    position = np.stack([rungs.position[r]] * count, axis=1)
    fresh = at_rest(apparatus.flat, position, jax.random.fold_in(key, laying.done))
    # In the order of the groups: witnesses are the last.
    walkers = Walkers(*(np.concatenate(both) for both in zip(fresh, laying.walkers, strict=True)))
    slope = np.stack([np.full(count, rungs.slope[r]), laying.slope[1]])
    laying = laying._replace(walkers=walkers, slope=slope)
    goal = _held(apparatus, laying, r, ways)
    begun = goal.center.copy()
    begun[~trained] = _looked(apparatus, position)
    for part in range(RAMP if count > 1 else 0):
        now = _on_the_way(goal, begun, (part + 1) / RAMP)
        laying, _, _ = _kept(apparatus, laying, r, now, config.level_steps / 2 / RAMP)
    for part in PARTS:
        goal = _held(apparatus, laying, r, ways)
        laying, held, values = _kept(apparatus, laying, r, goal, part * config.level_steps)
        laying = _learned(laying, r, ways, held, values)
    mean = np.nanmean(values[~trained].astype(np.float64), axis=(0, 1))
    own = (array[0] for array in held)
    places = np.moveaxis(laying.walkers.position, 1, 0)
    rows = [
        Windows(c, k, dt, r, n - 1, m, x)
        for n, (c, k, dt, m, x) in enumerate(zip(*own, mean, places, strict=True))
    ]
    if r in there[JOINED:] and count > 1:
        rows = rows[1:]  # two phases of A would mix there as the walkers happened to come down
    done = laying.done + 1
    return laying._replace(
        windows=appended(laying.windows, rows),
        walkers=Walkers(*(array[trained] for array in laying.walkers)),
        done=0 if done == len(there) else done,
    ), done == len(there)


def _kept(apparatus: Apparatus, laying: Laying, r: int, wanted: Restraint, steps: float):
    """Hold all columns at a rung: (laying, restraints with their dt, values)."""
    dt = _time_step(apparatus, laying, r, wanted)
    held = wanted._replace(dt=np.full_like(wanted.dt, dt))
    steps = max(apparatus.config.block, round(steps))
    walkers, values, step = hold(apparatus, laying.walkers, held, steps, laying.step)
    return moved(laying, walkers, values, step), held, values


def warm(apparatus: Apparatus, laying: Laying) -> tuple[Laying, bool]:
    """Take one witness of each group a rung up, above the columns; and whether it was the last.

    What came down is as good there, and closer to equilibrium: it stays where it was.
    """
    rungs, trained = laying.rungs, apparatus.trained()
    r = int(inside(apparatus, rungs)[0]) - 1 - laying.done
    if r < 0:
        return laying, True
    row = rungs.window(r)
    if trained.any():
        alone = Walkers(*(array[:, :1] for array in laying.walkers))
        laying = laying._replace(walkers=alone, slope=laying.slope[:, :1])
        ways, steps = np.ones(trained.sum(), int), apparatus.config.level_steps
        for part in (0.5, 0.5):
            wanted = _held(apparatus, laying, r, ways)
            laying, held, values = _kept(apparatus, laying, r, wanted, part * steps)
            laying = _learned(laying, r, ways, held, values)
        position = np.concatenate([rungs.position[r], laying.walkers.position[:, 0]])
        row = row._replace(position=position, dt=min(rungs.dt[r], held.dt.min()))
    windows = appended(laying.windows, [row])
    return laying._replace(windows=windows, done=laying.done + 1), r == 0


def laid(laying: Laying) -> Windows:
    """All windows, from the top, the free one of each rung first."""
    windows = laying.windows
    order = np.lexsort((windows.column, windows.row))
    return Windows(*(field[order] for field in windows))
