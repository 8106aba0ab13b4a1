"""What tests of runs share."""

import os
import signal
from dataclasses import replace

from glassgrok.config import AxisConfig, Config, GridConfig, ModelConfig, TaskConfig
from glassgrok.sampling.config import SamplerConfig, UmbrellaConfig

CONFIG = Config(
    task=TaskConfig(modulus=5),
    model=ModelConfig(d_model=8, heads=2, d_head=4, d_mlp=16),
    training=None,
    grid=GridConfig(AxisConfig(-4.0, -0.25, 10), AxisConfig(0.0, 1.0, 5)),
    umbrella=None,
    sampler=SamplerConfig(steps=1500, walkers=16, tile=2, groups=8, block=50, ladder_steps=100),
)

WINDOWS = UmbrellaConfig(
    groups=4,
    witnesses=2,
    steps=200,
    block=20,
    rung_steps=400,
    spread_steps=200,
    level_steps=80,
    spread=1.0,
    draws=256,
    columns=3,
    tile=12,  # networks as small as these take a sixth less time than in tiles of 4
)
WITH_WINDOWS = replace(
    CONFIG,
    umbrella=WINDOWS,
    trained_starts=("memorising",),
    # So low that several rungs have columns, however a machine rounds.
    grid=GridConfig(AxisConfig(-0.8, 0.4, 12), AxisConfig(0.0, 1.0, 5)),
)


def stop_at(stage, count, number=signal.SIGTERM):
    """An on_progress that sends this process a signal after so many blocks of a stage."""
    seen = []

    def on_progress(now):
        seen.append(now.stage)
        if seen.count(stage) == count:
            os.kill(os.getpid(), number)

    return on_progress
