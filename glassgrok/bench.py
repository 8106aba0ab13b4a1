"""`glassgrok bench`: how fast a config runs on this machine, and how long the whole job takes."""

import math
import time
from dataclasses import replace
from typing import NamedTuple

import jax

from glassgrok import config as configs
from glassgrok.config import Config
from glassgrok.engine.devices import Spread
from glassgrok.engine.stages import START_STEPS
from glassgrok.sampling.timing import Timing, measure, measure_windows, tiles
from glassgrok.training import TrainingConfig, block_length, copies, init_training, make_block

TRAINING_STEPS = 5  # of the block that is timed
WORDS = {
    "passes": "forward and backward pass",
    "noise": "noise",
    "rest": "V, kick, drift, what is written down",
    "sums": "visits summed over devices, V grown",
    "host": "counting and reports between blocks",
}


class Bench(NamedTuple):
    """What `bench` found.

    Attributes:
        sampling: of the config as it is.
        tiles: tile -> walker-steps/s, where they were tried.
        training_seconds: estimate for the training and the trained starts, 0 without any.
        sampling_seconds: estimate for the sampling, with what is compiled; NaN of umbrella windows,
            which take as many steps as walkers need to explore.
    """

    sampling: Timing
    tiles: dict[int, float]
    training_seconds: float
    sampling_seconds: float


def bench(
    config: Config,
    devices: int | None = None,
    spread: Spread = "jit",
    rounds: int = 3,
    try_tiles: bool = False,
) -> Bench:
    """Time some blocks of a run; nothing is written.

    Args:
        config: of the run.
        devices, spread: as `run` takes them.
        rounds: timings of each part; the best counts.
        try_tiles: whether to time other sizes of tile as well.

    Raises:
        ValueError: parts of the config do not fit together, or there are fewer devices.
    """
    system, grid = configs.build_system(config), configs.build_grid(config)
    windows, how = config.umbrella is not None, config.umbrella or config.sampler

    def timed(how) -> Timing:
        if windows:
            starts = len(config.trained_starts)
            return measure_windows(system, grid, how, starts, devices, spread, rounds)
        return measure(system, grid, how, devices, spread, rounds)

    found = timed(how)
    rates = {}
    for tile in tiles(how, found.devices) if try_tiles else ():
        rates[tile] = (found if tile == how.tile else timed(replace(how, tile=tile))).rate
    seconds = math.nan if windows else how.total_steps * found.step + found.compilation
    return Bench(found, rates, _training_seconds(config), seconds)


def _training_seconds(config: Config) -> float:
    """Estimate for training and trained starts, from a few steps of the training."""
    if config.training is None and not config.trained_starts:
        return 0.0
    task = configs.build_task(config)
    model = configs.build_model(config, task)
    training = config.training or TrainingConfig()
    few = replace(training, steps=max(TRAINING_STEPS, training.warmup + 1), block=TRAINING_STEPS)
    state = init_training(model, task, few, jax.random.key(0))
    block = make_block(model, task, few)
    seconds = []
    for _ in range(2):  # the first one compiles
        began = time.perf_counter()
        state, _ = jax.block_until_ready(block(state))
        seconds.append(time.perf_counter() - began)
    each = seconds[1] / block_length(few)
    starts = START_STEPS * len(config.trained_starts) / len(copies(few)["seed"])
    return each * (starts + (0 if config.training is None else config.training.steps))


def describe(config: Config, found: Bench) -> list[str]:
    """The numbers in words.

    Args:
        config: of the run.
        found: as `bench` returns.

    Returns:
        The lines.
    """
    one, how = found.sampling, config.umbrella or config.sampler
    devices = "device" if one.devices == 1 else "devices"
    lines = [
        f"{one.parameters:,} parameters; {one.walkers:,} walkers in tiles of {how.tile} on "
        f"{one.devices} {devices} ({jax.devices()[0].device_kind}).",
        f"{one.rate:,.4g} walker-steps/s, of which",
        *(f"  {share:6.1%}  {WORDS[name]}" for name, share in one.shares.items() if share),
        f"Compiling took {one.compilation:.1f} s.",
    ]
    if config.umbrella is not None:
        lines.append(
            f"A million walker-steps: about {_span(1e6 / one.rate)}; the training: "
            f"{_span(found.training_seconds)}. Windows take as many steps as walkers need to "
            "explore each rung; figures/landscapes tells how many some runs took."
        )
    else:
        total = found.training_seconds + found.sampling_seconds
        lines.append(
            f"The whole job: about {_span(total)} for {how.total_steps * one.walkers:,} "
            f"walker-steps ({_span(found.sampling_seconds)}) and the training "
            f"({_span(found.training_seconds)})."
        )
    if found.tiles:
        best = max(found.tiles, key=found.tiles.get)
        told = ", ".join(f"{tile}: {rate:,.4g}" for tile, rate in found.tiles.items())
        option = "umbrella" if config.umbrella is not None else "sampler"
        lines.append(f"Walker-steps/s by size of tile: {told}; --{option}.tile {best} is fastest.")
    return lines


def plain(found: Bench) -> dict:
    """The numbers as JSON."""
    one = found.sampling
    more = {"walker_steps_per_second": one.rate, "shares": one.shares}
    seconds = found.sampling_seconds
    return found._asdict() | {
        "sampling": one._asdict() | more,
        "sampling_seconds": None if math.isnan(seconds) else seconds,
    }


def _span(seconds: float) -> str:
    """1 h 02 min, 3 min 20 s or 4.5 s."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60:,} h {minutes % 60:02d} min"
