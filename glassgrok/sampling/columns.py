"""Umbrella windows along A: columns that go down from the jump, and up from trained networks.

1. `spread`: walkers are drawn apart along A, those of random groups at the first rung below the
   jump, where they still move, those of trained ones at the lowest, where they were trained to.
2. `level`: rung by rung random groups take their columns down, while trained ones take theirs up,
   and each leaves a starting point in every window. What cools falls out of equilibrium late and
   from above, what was trained begins out of it: the two enclose what equilibrium is.
3. `warm`: above the columns trained groups go on up, one walker each.
"""

import numpy as np

from glassgrok.engine.restrained import Restraint
from glassgrok.engine.walkers import Walkers
from glassgrok.sampling.apparatus import Apparatus, at_rest, hold, time_step
from glassgrok.sampling.sweep import Laying, Rungs, appended, beyond_the_jump, moved
from glassgrok.sampling.windows import FREE, Windows

GAIN = 0.5  # share of a newly measured slope of S along u, which is noisy
APART = 3.0  # times a rung's own slope, at most; or walkers that lag behind are pulled ever harder
BEYOND = 4  # columns beyond each end of the grid: where S is steep a mean lies off its center
MOST = 64  # columns
JOINED = 2  # rungs of the grid that have a window free along A, which joins those above to columns
PARTS = (0.25, 0.25, 0.5)  # of the steps at a level; after each the slopes are measured


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


def begin(apparatus: Apparatus, laying: Laying, key) -> tuple[Laying, bool]:
    """Each group's walkers where it starts; and whether there is nothing to draw apart."""
    rungs, trained = laying.rungs, apparatus.trained()
    count = 1 + len(columns(apparatus, rungs)[0])
    if count == 1 and not trained.any():
        every = [rungs.window(r) for r in range(len(rungs.slope))]
        return laying._replace(windows=appended(laying.windows, every)), True
    first = inside(apparatus, rungs)[0]
    position = np.stack([rungs.position[first]] * count, axis=1)
    for g in np.flatnonzero(trained):
        position[g] = dict(apparatus.starts)[apparatus.group_starts()[g]]
    ends = rungs.slope[[first, -1]]
    return laying._replace(
        walkers=at_rest(apparatus, position, key),
        begun=apparatus.devices.gather(apparatus.look(apparatus.devices.scatter(position))),
        slope=np.repeat(ends[:, None], count, axis=1),
        done=0,
    ), False


# --- along A --------------------------------------------------------------------------------------


def spread(apparatus: Apparatus, laying: Laying) -> tuple[Laying, bool]:
    """One block of drawing the columns apart, at both ends; and whether it was the last."""
    part, block = laying.done + 1, apparatus.config.block
    ramp = max(1, round(apparatus.config.spread_steps / 2 / block))
    ends = _ends(apparatus, laying.rungs, 0)
    goal = _held(apparatus, laying, ends)
    share = np.float32(min(part / ramp, 1.0))
    now = goal._replace(center=laying.begun + (goal.center - laying.begun) * share)
    now = _with_time_steps(apparatus, laying, now, ends)
    walkers, values, step = hold(apparatus, laying.walkers, now, block, laying.step)
    laying = moved(laying, walkers, step)._replace(done=part)
    if part > ramp:
        laying = _learned(apparatus, laying, goal, values, ends)
    return laying, part >= 2 * ramp


def _ends(apparatus: Apparatus, rungs: Rungs, level: int) -> tuple[int, int]:
    """The rungs where a level has those that go down and those that go up."""
    there = inside(apparatus, rungs)
    return int(there[level]), int(there[-1 - level])


def _held(apparatus: Apparatus, laying: Laying, ends: tuple[int, int]) -> Restraint:
    """(G, n) restraints of the columns, whose mean u shall be that of their rung; no dt yet."""
    rungs, count, axes = laying.rungs, laying.slope.shape[1], laying.rungs.mean.shape[1]
    stiffness, center = np.zeros((2, count, axes)), np.zeros((2, count, axes))
    for way, r in enumerate(ends):
        stiffness[way, :, 0] = rungs.stiffness[r]
        center[way, :, 0] = rungs.mean[r, 0] - laying.slope[way] / rungs.stiffness[r]
        if count > 1:
            center[way, 1:, 1], stiffness[way, 1:, 1] = columns(apparatus, rungs)
    way = apparatus.trained().astype(int)
    none = np.zeros((len(way), count), np.float32)
    return Restraint(center[way].astype(np.float32), stiffness[way].astype(np.float32), none)


def _with_time_steps(apparatus: Apparatus, laying: Laying, held: Restraint, ends) -> Restraint:
    """With one dt for all that go down, one for all that go up."""
    dt = np.zeros_like(held.dt)
    for way, groups in enumerate(_ways(apparatus)):
        if groups.any():
            some = Restraint(*(array[groups] for array in held))
            found = time_step(apparatus, laying.walkers.position[groups], some, laying.step)
            dt[groups] = min(found, laying.rungs.dt[ends[way]])
    return held._replace(dt=dt)


def _ways(apparatus: Apparatus) -> tuple[np.ndarray, np.ndarray]:
    """(G,) which groups go down, and which up."""
    trained = apparatus.trained()
    return ~trained, trained


def _learned(apparatus: Apparatus, laying: Laying, held: Restraint, values, ends) -> Laying:
    """The slope along u is what the restraints balance."""
    slope = laying.slope.copy()
    for way, groups in enumerate(_ways(apparatus)):
        if groups.any():
            u = np.nanmean(values[groups, ..., 0].astype(np.float64), axis=(0, 1))
            center, stiffness = (array[groups][0, :, 0] for array in held[:2])
            slope[way] += GAIN * (stiffness * (u - center) - slope[way])
            own = laying.rungs.slope[ends[way]]
            slope[way] = np.clip(slope[way], *sorted((own / APART, own * APART)))
    return laying._replace(slope=slope)


# --- down and up ----------------------------------------------------------------------------------


def level(apparatus: Apparatus, laying: Laying) -> tuple[Laying, bool]:
    """Hold the columns at a rung each way, and leave windows; and whether it was the last."""
    there = inside(apparatus, laying.rungs)
    ends = _ends(apparatus, laying.rungs, laying.done)
    laying, held, values = _settled(apparatus, laying, ends)
    down, up = _ways(apparatus)
    mean = np.nanmean(values[down].astype(np.float64), axis=(0, 1))
    own = (array[down][0] for array in held)
    rows = [
        Windows(c, k, dt, ends[0], n - 1, m, x)
        for n, (c, k, dt, m, x) in enumerate(
            zip(*own, mean, np.moveaxis(laying.walkers.position, 1, 0), strict=True)
        )
    ]
    dt_up = held.dt[up][0, 0] if up.any() else np.inf
    laying = laying._replace(
        windows=appended(laying.windows, rows),
        dt_up=np.append(laying.dt_up, dt_up),
        done=laying.done + 1,
    )
    last = laying.done == len(there)
    return (_met(apparatus, laying) if last else laying), last


def _settled(apparatus: Apparatus, laying: Laying, ends: tuple[int, int]):
    """Hold the walkers, first to learn the slopes there: (laying, restraints, values)."""
    config = apparatus.config
    for part in PARTS:
        wanted = _held(apparatus, laying, ends)
        held = _with_time_steps(apparatus, laying, wanted, ends)
        steps = max(config.block, round(part * config.level_steps))
        walkers, values, step = hold(apparatus, laying.walkers, held, steps, laying.step)
        laying = _learned(apparatus, moved(laying, walkers, step), held, values, ends)
    return laying, held, values


def _met(apparatus: Apparatus, laying: Laying) -> Laying:
    """The windows with the points that those left there who went up; they left them in reverse."""
    windows, trained, count = laying.windows, apparatus.trained(), laying.slope.shape[1]
    size = len(laying.dt_up), count
    position = windows.position.reshape(*size, *windows.position.shape[1:])
    position[:, :, trained] = position[::-1][:, :, trained]
    dt = np.minimum(windows.dt.reshape(size), laying.dt_up[::-1, None]).ravel()
    windows = windows._replace(dt=dt, position=position.reshape(windows.position.shape))
    if count > 1:  # two phases of A would mix there as the walkers happened to come down
        kept = (windows.column != FREE) | (windows.row < windows.row.min() + JOINED)
        windows = Windows(*(field[kept] for field in windows))
    alone = Walkers(*(array[:, :1].copy() for array in laying.walkers))
    alone.position[~trained, 0] = position[0, 0, ~trained]  # they wait where the others come to
    slope = np.repeat(laying.slope[1:, :1], 2, axis=0)
    return laying._replace(windows=windows, walkers=alone, slope=slope, done=0)


def warm(apparatus: Apparatus, laying: Laying) -> tuple[Laying, bool]:
    """Take one walker of each trained group a rung up, above the columns; and if it was the last.

    What came down is as good there, and closer to equilibrium: it stays where it was.
    """
    rungs, trained = laying.rungs, apparatus.trained()
    r = inside(apparatus, rungs)[0] - 1 - laying.done
    if r < 0:
        return laying, True
    row = rungs.window(r)
    if trained.any():
        laying, held, _ = _settled(apparatus, laying, (r, r))
        position = rungs.position[r].copy()
        position[trained] = laying.walkers.position[trained, 0]
        row = row._replace(position=position, dt=min(rungs.dt[r], held.dt.min()))
    windows = appended(laying.windows, [row])
    return laying._replace(windows=windows, done=laying.done + 1), r == 0


def laid(laying: Laying) -> Windows:
    """All windows, from the top, the free one of each rung first."""
    windows = laying.windows
    order = np.lexsort((windows.column, windows.row))
    return Windows(*(field[order] for field in windows))
