"""Absolute entropy of low losses: umbrella windows from the whole domain down.

1. Uniform draws give S where random points lie.
2. `sweep` puts windows along u, down to the lowest u of the grid, and `columns` on the grid along A
   too. Each holds its walkers by a harmonic restraint, and overlaps with its neighbours.
3. All windows run at once, `copies` walkers of each group in each; neighbours are exchanged between
   blocks. S follows from all samples together (`mbar`), as ln of the fraction of the domain.

Groups that began at random points make S. Those that began at the other end, memorising and
generalising, are its witnesses: they tell whether this was long enough.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import numpy as np

from glassgrok.engine.devices import Devices
from glassgrok.engine.startup import cores
from glassgrok.engine.walkers import Walkers
from glassgrok.grid import Grid
from glassgrok.landscape import Landscape
from glassgrok.sampling import absolute, columns, sweep
from glassgrok.sampling.apparatus import (
    Apparatus,
    at_rest,
    build,
    spread_out,
    stop_where_too_many_are_lost,
    tiled,
    uniform_values,
    untiled,
)
from glassgrok.sampling.cells import Cells, cells_of
from glassgrok.sampling.config import UmbrellaConfig
from glassgrok.sampling.gaps import in_one_part
from glassgrok.sampling.sums import HALVES, Sampled, Sums
from glassgrok.sampling.sweep import Laying, Rungs, least_explored
from glassgrok.sampling.windows import Windows, neighbours
from glassgrok.system import System

STAGES = ("cool", "spread", "level", "warm", "windows", "done")
COOL, SPREAD, LEVEL, WARM, WINDOWS, DONE = STAGES
FLATTEST = 1e-6  # least share of a parameter in |grad u|² that counts, in units of all alike


class Places(NamedTuple):
    """Which window each walker is in, and who came from which end; K windows of M walkers, E pairs.

    Walkers stay on their device; what is exchanged are their windows.

    Attributes:
        window: (K, M).
        ends: (axes, K, M) the end that a walker saw last: 0 the first, 1 the last, -1 none.
        trips: (axes,) round trips of all walkers.
        accepted, tried: (E,) exchanges between each pair.
    """

    window: np.ndarray
    ends: np.ndarray
    trips: np.ndarray
    accepted: np.ndarray
    tried: np.ndarray

    def holders(self) -> np.ndarray:
        """(K, M) the walker in each window."""
        return np.argsort(self.window, axis=0)


class UmbrellaState(NamedTuple):
    """All that a run needs to go on.

    Attributes:
        stage: index into STAGES.
        uniform: (draws, axes) collective variables at uniform points.
        laying: how far the windows are laid; later they alone, without walkers.
        walkers: Walkers of the windows, in tiles spread over the devices; saved as (K, M).
        factor: (D,) of each parameter in the field whose divergence gives S'; see
            `restrained.balance`.
        places: where they are.
        sums: what is kept of them.
        block: blocks done with all windows.
        settled, blocks: which of them are not counted, and how many were meant to be done when the
            first was.
        rescued: walkers that were lost and began again.
        known: (2,) u that S would be known between by what was seen half-way; infinite without a
            gap, and before; NaN where it would be known nowhere.
    """

    stage: int
    uniform: np.ndarray
    laying: Laying
    walkers: Walkers
    factor: np.ndarray
    places: Places
    sums: Sums
    block: int
    settled: int
    blocks: int
    rescued: int
    known: np.ndarray


class Report(NamedTuple):
    """What a rung or a block showed.

    Attributes:
        stage: "cool", "spread", "level", "warm" or "windows".
        step: walker-steps done in all.
        total: walker-steps in all, 0 while it is not known how many windows there will be.
        rungs, windows: found so far.
        u_low: lowest mean u of a window or rung.
        slope, dt: S'(u) and the time step at the last rung. Where walkers are dragged the first
            rises while they go down, and the second falls.
        coverage: share of the grid's bins that were seen, 0 before all windows run.
        accepted: share of the exchanges, of the pair with the fewest.
        trips: round trips in u.
        above, below: u that S would be known between by what was seen half-way, None where windows
            do not part, and before.
        parted: whether by that S would be known nowhere.
    """

    stage: str
    step: int
    total: int
    rungs: int
    windows: int
    u_low: float
    slope: float
    dt: float
    coverage: float
    accepted: float
    trips: int
    above: float | None = None
    below: float | None = None
    parted: bool = False


class Plan(NamedTuple):
    """What follows from where the windows lie.

    Attributes:
        windows: without positions.
        sets, pairs: of `neighbours`, apart and together.
        cells: that samples are counted in.
        walkers: of each window.
        devices, tile: how the walkers are spread.
    """

    windows: Windows
    sets: list[np.ndarray]
    pairs: np.ndarray
    cells: Cells
    walkers: int
    devices: Devices
    tile: int


def _blank(kind):
    return kind(*(np.zeros(0) for _ in kind._fields))


# The structure of a state, where nothing is known yet.
BLANK = UmbrellaState(
    stage=0,
    uniform=np.zeros(0),
    laying=_blank(Laying)._replace(
        rungs=_blank(Rungs), walkers=_blank(Walkers), windows=_blank(Windows)
    ),
    walkers=_blank(Walkers),
    factor=np.zeros(0),
    places=_blank(Places),
    sums=_blank(Sums),
    block=0,
    settled=0,
    blocks=0,
    rescued=0,
    known=np.array([-np.inf, np.inf]),
)


def initialise(apparatus: Apparatus, key) -> UmbrellaState:
    """Draw uniform points.

    Raises:
        ValueError: the system cannot be sampled.
    """
    draw, lay = jax.random.split(key)
    uniform = uniform_values(apparatus, draw)
    return BLANK._replace(uniform=uniform, laying=sweep.begin(apparatus, uniform, lay))


def finished(state: UmbrellaState) -> bool:
    """Whether the run is complete."""
    return STAGES[state.stage] == DONE


def on_host(apparatus: Apparatus, state: UmbrellaState) -> UmbrellaState:
    """The state to be saved: all its walkers gathered on the host."""
    if STAGES[state.stage] not in (WINDOWS, DONE) or not state.block:
        return state
    plan = plan_of(apparatus, state)
    return state._replace(walkers=_untiled(plan, plan.devices.gather(state.walkers)))


def restored(apparatus: Apparatus, state: UmbrellaState) -> UmbrellaState:
    """What `on_host` saved, to go on with; one that was at its end where config has more steps."""
    if STAGES[state.stage] not in (WINDOWS, DONE) or not state.block:
        return state
    stage = DONE if state.block >= _blocks(apparatus.config) else WINDOWS
    plan = plan_of(apparatus, state)
    walkers = _scattered(plan, state.walkers)
    return state._replace(stage=STAGES.index(stage), walkers=walkers)


def described(config: UmbrellaConfig, state: UmbrellaState) -> dict:
    """How far a run has come, as JSON, to tell what `steps` it can still end with."""
    return {"stage": STAGES[state.stage], "step": state.block * config.block}


def advance(
    apparatus: Apparatus, state: UmbrellaState, key
) -> Iterator[tuple[UmbrellaState, Report]]:
    """Go on to the end: yields the state after each rung and each block.

    Args:
        apparatus: the system and how.
        state: as `initialise` or an earlier `advance` left it; walkers spread over the devices.
        key: of the run, the same each time.

    Raises:
        ValueError: the walkers do not come down to the grid's lower end.
        FloatingPointError: walkers became NaN.
    """
    keys = jax.random.split(key, 3)
    while STAGES[state.stage] in (COOL, SPREAD, LEVEL, WARM):
        before = state.laying.walker_steps
        state = _lay(apparatus, state, keys[0])
        if state.laying.walker_steps > before:  # levels that are known already take no time
            yield state, _report(apparatus, state, None)
    plan = plan_of(apparatus, state)
    if STAGES[state.stage] == WINDOWS and state.block == 0:
        state = _begin_windows(apparatus, state, plan, keys[1])
    seeds = np.asarray(jax.random.key_data(keys[2])).tolist()
    factor = plan.devices.share(state.factor)
    while not finished(state):
        random = np.random.default_rng([*seeds, state.block])
        state = _block(apparatus, state, plan, factor, random)
        yield state, _report(apparatus, state, plan)


def _lay(apparatus: Apparatus, state: UmbrellaState, key) -> UmbrellaState:
    """One rung, part or level; and on to the next stage after the last."""
    stage, laying = STAGES[state.stage], state.laying
    if stage == COOL:
        laying, last = sweep.cool(apparatus, state.uniform, laying, key)
        if last:
            laying, stage = columns.begin(apparatus, laying, key)
    elif stage == SPREAD:
        laying, last = columns.spread(apparatus, laying)
        if last:
            laying, stage = laying._replace(done=0), LEVEL
    elif stage == LEVEL:
        laying, last = columns.level(apparatus, laying, key)
        stage = WARM if last else LEVEL
    else:
        laying, last = columns.warm(apparatus, laying)
        stage = WINDOWS if last else WARM
    return state._replace(stage=STAGES.index(stage), laying=laying)


def plan_of(apparatus: Apparatus, state: UmbrellaState) -> Plan:
    """Neighbours, cells and devices for the windows that were laid."""
    windows, walkers = columns.laid(state.laying), len(apparatus.walker_starts())
    windows = windows._replace(position=np.zeros((len(windows.row), 0)))
    devices, tile = spread_out(apparatus, len(windows.row) * walkers)
    sets = neighbours(windows)
    return Plan(
        windows=windows,
        sets=sets,
        pairs=np.concatenate([*sets, np.zeros((0, 2), int)]),
        cells=cells_of(apparatus.grid, windows, state.uniform),
        walkers=walkers,
        devices=devices,
        tile=tile,
    )


def _begin_windows(apparatus: Apparatus, state: UmbrellaState, plan: Plan, key) -> UmbrellaState:
    """All walkers of each window."""
    count, axes = plan.windows.center.shape
    walkers, laying = plan.walkers, state.laying
    start = at_rest(apparatus.flat, columns.laid(laying).position, key)
    rungs = laying.rungs._replace(position=np.zeros(0))
    windows = laying.windows._replace(position=np.zeros((len(laying.windows.row), 0)))
    pairs, spread = np.zeros(len(plan.pairs)), _scattered(plan, start)
    return state._replace(
        laying=laying._replace(rungs=rungs, walkers=_blank(Walkers), windows=windows),
        walkers=spread,
        factor=_factor(apparatus, plan, spread),
        settled=int(np.ceil(apparatus.config.settle * _blocks(apparatus.config))),
        blocks=_blocks(apparatus.config),
        places=Places(
            np.tile(np.arange(count)[:, None], (1, walkers)),
            np.full((axes, count, walkers), -1),
            np.zeros(axes, np.int64),
            pairs,
            pairs,
        ),
        sums=Sums.empty(
            len(apparatus.group_starts()),
            plan.windows,
            plan.pairs,
            plan.cells,
            len(apparatus.flat.extras),
        ),
    )


def _factor(apparatus: Apparatus, plan: Plan, walkers: Walkers) -> np.ndarray:
    """(D,) what makes all parameters count alike in the mean force.

    By themselves those of the largest slopes would, and these are the first to be in equilibrium.
    """
    shares = plan.devices.gather(apparatus.shares(walkers.position))
    # Of whole tiles: what fills the last ones depends on the number of devices.
    whole = len(plan.windows.row) * plan.walkers // plan.tile
    shares = np.nanmean(shares[:whole].astype(np.float64), axis=0)
    return (1 / np.maximum(shares * len(shares), FLATTEST)).astype(np.float32)


def _scattered(plan: Plan, tree):
    """(K, M, ...) -> tiles on the devices."""
    return plan.devices.scatter(tiled(tree, plan.devices, plan.tile))


def _untiled(plan: Plan, tree):
    """(tiles, tile, ...) -> (K, M, ...)."""
    return untiled(tree, (len(plan.windows.row), plan.walkers))


def _blocks(config: UmbrellaConfig) -> int:
    return -(-config.steps // config.block)


def _block(apparatus: Apparatus, state: UmbrellaState, plan: Plan, factor, random) -> UmbrellaState:
    """One block of all windows, counted, and exchanges after it."""
    config, devices = apparatus.config, plan.devices
    axes = plan.windows.center.shape[1]
    restraint = plan.windows.restraint(state.places.window)
    held = devices.split(_scattered(plan, restraint))
    step = np.int32(state.block * config.block)
    walkers, values = apparatus.run(devices.split(state.walkers), held, step)
    seen = {"values": devices.join(values)}
    if state.block >= state.settled:
        seen["balance"] = devices.join(apparatus.balance(walkers, held, factor, step))
    seen = devices.gather(seen)
    seen = _untiled(plan, seen | {"values": np.moveaxis(seen["values"], 2, 1)})
    values = seen["values"]
    healthy = np.isfinite(values[..., :axes]).all(axis=(2, 3))
    state = state._replace(walkers=devices.join(walkers), block=state.block + 1)
    if not healthy.all():
        stop_where_too_many_are_lost(healthy, restraint)
        walkers, rescued = _rescued(plan, state, healthy), int((~healthy).sum())
        state = state._replace(walkers=walkers, rescued=state.rescued + rescued)
    if state.block > state.settled:
        _count(config, state, plan, values, seen["balance"], healthy)
    # Told while there is time to do something about it.
    if state.block == (state.settled + state.blocks) // 2:
        state = state._replace(known=_known(apparatus, plan, state))
    places = exchange(state.places, plan, state.block - 1, values[:, :, -1, :axes], random)
    stage = DONE if state.block >= _blocks(config) else WINDOWS
    return state._replace(places=places, stage=STAGES.index(stage))


def _known(apparatus: Apparatus, plan: Plan, state: UmbrellaState) -> np.ndarray:
    """(2,) u that S would be known between, NaN where nothing would be.

    So few samples need not say what all do, so that this is told and stops nothing.
    """
    groups = list(range(apparatus.config.groups))
    sampled, examine = _sampled(plan, state), lambda part, _: absolute.examine(part, groups)
    try:
        _, gap, _ = in_one_part(apparatus.grid, sampled, groups, examine)
    except FloatingPointError:
        return np.full(2, np.nan)
    return BLANK.known if gap is None else np.array([gap.low, gap.high])


def _sampled(plan: Plan, state: UmbrellaState) -> Sampled:
    """What was seen so far."""
    accepted = state.places.accepted / np.maximum(state.places.tried, 1)
    return Sampled(plan.windows, state.uniform, plan.pairs, plan.cells, state.sums, accepted)


def _count(
    config: UmbrellaConfig, state: UmbrellaState, plan: Plan, values, balance, healthy
) -> None:
    """Add what a block that has been done gave.

    A run that is given more steps later has them in its second half.
    """
    since = state.block - 1 - state.settled
    half = min(since * HALVES // (state.blocks - state.settled), HALVES - 1)
    holder, whole = state.places.holders(), healthy.all(axis=0)

    def add(group: int) -> None:
        for m in range(group * config.copies, (group + 1) * config.copies):
            if whole[m]:
                seen, both = values[holder[:, m], m], balance[holder[:, m], m]
                state.sums.add(plan.windows, plan.pairs, plan.cells, seen, half, group)
                known = np.isfinite(both).all(axis=1, keepdims=True)
                state.sums.balance[group] += np.where(known, both, 0.0)

    # A group's sums are its own, and NumPy lets other threads work.
    with ThreadPoolExecutor(cores()) as pool:
        list(pool.map(add, range(plan.walkers // config.copies)))


def exchange(places: Places, plan: Plan, turn: int, values: np.ndarray, random) -> Places:
    """Neighbours of one set exchange, with chance min(1, e^-(rise of the sum of their w)).

    Args:
        places: so far.
        plan: the windows and their neighbours.
        turn: which set, counted round and round.
        values: (K, M, axes) of each walker, where it is now; where NaN it stays.
        random: of numpy.
    """
    if not plan.sets:
        return places
    turn %= len(plan.sets)
    first = sum(len(pairs) for pairs in plan.sets[:turn])
    pairs, holder = plan.sets[turn], places.holders()
    one, other = holder[pairs[:, 0]], holder[pairs[:, 1]]
    group = np.arange(holder.shape[1])[None]
    rise = 0.0
    for walker, here, there in ((one, 0, 1), (other, 1, 0)):
        at = values[walker, group].astype(np.float64)
        felt, then = (plan.windows.potential(pairs[:, k], at) for k in (here, there))
        rise = rise + then - felt
    swapped = np.log(random.random(rise.shape)) < -rise
    window, accepted, tried = (a.copy() for a in (places.window, places.accepted, places.tried))
    window[one, group] = np.where(swapped, pairs[:, 1:], pairs[:, :1])
    window[other, group] = np.where(swapped, pairs[:, :1], pairs[:, 1:])
    accepted[first : first + len(pairs)] += swapped.sum(axis=1)
    tried[first : first + len(pairs)] += swapped.shape[1]
    return _with_trips(places._replace(window=window, accepted=accepted, tried=tried), plan)


def _with_trips(places: Places, plan: Plan) -> Places:
    """A round trip: the first row (column), the last one, the first again."""
    ends, trips = places.ends.copy(), places.trips.copy()
    for i, place in enumerate((plan.windows.row, plan.windows.column)[: len(trips)]):
        at = place[places.window]
        first, last = at == max(place.min(), 0), at == place.max()
        if place.max() <= 0:
            continue
        trips[i] += (first & (ends[i] == 1)).sum()
        ends[i][last & (ends[i] == 0)] = 1
        ends[i][first] = 0
    return places._replace(ends=ends, trips=trips)


def _rescued(plan: Plan, state: UmbrellaState, healthy: np.ndarray) -> Walkers:
    """Walkers that were lost begin again where one is that is held nearby, of the same group."""
    host = _untiled(plan, plan.devices.gather(state.walkers))
    x, v = (np.array(a) for a in host[:2])
    for walker, group in np.argwhere(~healthy):
        center = plan.windows.center[state.places.window[:, group]]
        scale = np.sqrt(plan.windows.stiffness[state.places.window[walker, group]])
        distance = (((center - center[walker]) * scale) ** 2).sum(axis=1)
        donor = int(np.argmin(np.where(healthy[:, group], distance, np.inf)))
        x[walker, group], v[walker, group] = x[donor, group], -v[donor, group]
    return _scattered(plan, host._replace(position=x, velocity=v))


def _report(apparatus: Apparatus, state: UmbrellaState, plan: Plan | None) -> Report:
    laying, rungs, config = state.laying, state.laying.rungs, apparatus.config
    u = np.concatenate([laying.windows.mean[:, 0], rungs.mean[-1:, 0]])
    told = Report(
        stage=STAGES[state.stage],
        step=laying.walker_steps,
        total=0,
        rungs=len(rungs.slope),
        windows=len(laying.windows.row),
        u_low=float(u.min()) if len(u) else laying.center,
        slope=float(rungs.slope[-1]) if len(rungs.slope) else 0.0,
        dt=float(rungs.dt[-1]) if len(rungs.slope) else 0.0,
        coverage=0.0,
        accepted=1.0,
        trips=0,
    )
    if plan is None:
        return told
    each, places = config.block * state.places.window.size, state.places
    bins = plan.cells.bins(apparatus.grid, np.flatnonzero(state.sums.counts.any(axis=(0, 1))))
    share = places.accepted[places.tried > 0] / places.tried[places.tried > 0]
    above, below = (float(u) if np.isfinite(u) else None for u in state.known)
    return told._replace(
        stage=WINDOWS,
        step=laying.walker_steps + state.block * each,
        total=laying.walker_steps + _blocks(config) * each,
        windows=len(plan.windows.row),
        coverage=len(np.unique(bins[bins >= 0])) / apparatus.grid.size,
        accepted=float(share.min(initial=1.0)),
        trips=int(places.trips[0]),
        above=above,
        below=below,
        parted=bool(np.isnan(state.known).any()),
    )


def current_landscape(apparatus: Apparatus, state: UmbrellaState) -> Landscape:
    """The landscape from all windows.

    Raises:
        FloatingPointError: neighbouring windows do not overlap.
    """
    plan, places, rungs = plan_of(apparatus, state), state.places, state.laying.rungs
    steps = state.block * apparatus.config.block * int(places.window.size)
    return absolute.estimate(
        apparatus.grid,
        _sampled(plan, state),
        rungs,
        apparatus.flat.extras,
        starts=apparatus.group_starts(),
        trips=places.trips,
        rescued=state.rescued,
    ).with_attributes(
        walker_steps=state.laying.walker_steps + steps,
        families=int(rungs.families[-1]),
        replaced_while_laid=int(state.laying.lost),
        explored=list(least_explored(rungs)),
        **({"crowd": rungs.crowd()} if apparatus.config.crowd > 1 else {}),
    )


def umbrella(
    system: System,
    grid: Grid,
    config: UmbrellaConfig,
    key,
    starts: dict[str, Any] | None = None,
    devices: int | None = None,
    on_block: Callable[[UmbrellaState, Report], Any] | None = None,
) -> Landscape:
    """Measure S absolutely, from the uniform measure down to the lowest u of the grid.

    Args:
        system: what to sample.
        grid: the bins; its lowest u is where the windows end.
        config: how.
        key: jax.random.key(seed); the same key gives the same landscape, bit for bit.
        starts: name -> params of trained points that groups of witnesses start from.
        devices: number of devices, None for as many as divide the groups.
        on_block: called with the state and the report after each rung and each block.

    Returns:
        The Landscape, normalised: S is ln of the fraction of the whole domain. Where windows part,
        of one side alone, and up to a constant unless the uniform measure is there.

    Raises:
        ValueError: system and grid do not fit together, or the walkers do not come down to the
            grid's lower end.
        FloatingPointError: walkers became NaN, or neighbouring windows do not overlap.
    """
    shape, draw, run = jax.random.split(key, 3)
    apparatus = build(system, grid, config, shape, starts, devices)
    state = initialise(apparatus, draw)
    for now, report in advance(apparatus, state, run):
        state = now
        if on_block:
            on_block(state, report)
    return current_landscape(apparatus, state)
