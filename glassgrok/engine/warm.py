"""A warm start: V, dt and walls of one run for another of the same task, model and grid."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from glassgrok import config as configs
from glassgrok.config import Config
from glassgrok.engine import folder as folders
from glassgrok.engine.checkpoint import Checkpoints
from glassgrok.landscape import Landscape
from glassgrok.potential import of_entropy
from glassgrok.sampling.state import LADDER, Warm

SAME = ("task", "model", "grid")  # sections that both runs must have alike


class Found(NamedTuple):
    """What was found in a run folder.

    Attributes:
        warm: what its walkers had come to.
        step: where they were.
    """

    warm: Warm
    step: int


def read(path: Path, config: Config) -> Found:
    """Read what a run with `config` may take over from the run in a folder, which stays as it is.

    Raises:
        ValueError: there is none, it is of something else, or it has no V or landscape yet.
    """
    folders.open_run(path)
    theirs = folders.recorded_config(path)
    _compare(path, theirs, configs.plain(config))
    if theirs.get("umbrella") is not None:
        return _of_windows(path, config)
    latest = Checkpoints(path / folders.CHECKPOINTS / "sample", keep=None).latest()
    if latest is None:
        raise ValueError(f"{path} holds no checkpoint of a landscape; go on with that run first.")
    if latest.about["stage"] == LADDER:
        raise ValueError(
            f"The run in {path} has no V yet, since it is in its ladder at step {latest.step:,}; "
            "go on with it first."
        )
    return Found(Warm(*(latest.tree[f".{name}"] for name in Warm._fields)), latest.step)


def _of_windows(path: Path, config: Config) -> Found:
    """V = S of umbrella windows, no deeper than the run may go, also where nothing was seen."""
    if not (path / folders.LANDSCAPE).exists():
        raise ValueError(
            f"The run in {path} has no landscape yet; go on with it first: glassgrok resume {path}."
        )
    landscape = Landscape.load(path / folders.LANDSCAPE)
    u = landscape.grid.axes[0].centers
    V = of_entropy(landscape.entropy, u, config.sampler.depth)
    # The first block of the adaptation measures dt and walls; this dt is safe until then.
    warm = Warm(V, float(landscape.umbrella.dt.min()), np.zeros(len(landscape.grid.axes)))
    return Found(warm, int(landscape.attributes["walker_steps"]))


def _compare(path: Path, theirs: dict, ours: dict) -> None:
    for name, axis in ours["grid"].items():
        other = theirs["grid"][name]
        if axis != other:
            raise ValueError(
                f"A warm start needs the same grid, but {name} goes {_span(other)} in {path} and "
                f"{_span(axis)} here; change the axis here, or leave out --warm-start."
            )
    for name, (one, other) in configs.differences(theirs, ours).items():
        if name.startswith(SAME):
            raise ValueError(
                f"A warm start needs the same task and model, but {name} is {configs.show(one)} "
                f"in {path} and {configs.show(other)} here; change it here, or leave out "
                "--warm-start."
            )


def _span(axis: dict) -> str:
    return "from {low:g} to {high:g} in {bins} bins".format(**axis)
