"""A run in its folder: training, trained starts, sampling; stopped and resumed at any block.

What a block computes depends on nothing but the config, the state and the global step, so when
checkpoints are made, and how often a run was interrupted, changes no bit of the results.
"""

import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import jax

from glassgrok import config as configs
from glassgrok.config import Config
from glassgrok.engine import devices as engine_devices
from glassgrok.engine import folder as folders
from glassgrok.engine import processes, stages, warm
from glassgrok.engine.checkpoint import Checkpoints
from glassgrok.engine.session import Job, Progress, Session, Signals, refuse_changes
from glassgrok.sampling import sampler


def prepare(
    config: Config,
    kind: Literal["train", "sample"] = "sample",
    devices: int | None = None,
    spread: engine_devices.Spread = "jit",
) -> Job:
    """Build task, network and grid.

    Args:
        config: of the run.
        kind: whether only to train, or to sample too.
        devices: number of devices for the walkers, None for as many as divide the tiles.
        spread: how they share the work; see `Devices`.

    Returns:
        A Job.

    Raises:
        ValueError: parts of the config do not fit together, or there are fewer devices.
    """
    if kind == "train" and config.training is None:
        raise ValueError("The config has no training section; add one, or use 'sample'.")
    task = configs.build_task(config)
    model = configs.build_model(config, task)
    system = configs.build_system(config)
    if kind == "sample":
        engine_devices.choose(config.tiles, devices, spread)
    return Job(config, task, model, system, configs.build_grid(config), devices, spread, kind)


def run(
    folder: Path,
    config: Config,
    resume: bool = False,
    kind: Literal["train", "sample"] = "sample",
    devices: int | None = None,
    spread: engine_devices.Spread | None = None,
    overwrite: bool = False,
    checkpoint_seconds: float = 60.0,
    keep: int = 2,
    command: str = "",
    on_progress: Callable[[Progress], Any] | None = None,
) -> Path:
    """Run a job to its end, or go on with one.

    Args:
        folder: the run folder; nothing is written outside it.
        config: of the run; of a resumed run what its config.yaml holds, where sampler.steps (with
            umbrella windows umbrella.steps) alone may have been changed. A finished run that is
            given more of them goes on.
        resume: go on with the run in the folder instead of starting one. One that is finished is
            left as it is.
        kind: "train", or "sample" for training and landscape; a resumed run keeps its own.
        devices: number of devices for the walkers, None for as many as divide the tiles.
        spread: how they share the work, see `Devices`; "jit" if not given, and of a resumed run
            what it began with.
        overwrite: replace a run that is in the folder.
        checkpoint_seconds: time between two checkpoints; it does not change the results.
        keep: how many of the latest checkpoints stay.
        command: what was typed, for provenance.json.
        on_progress: called after each block.

    Returns:
        The folder, with training.nc and, of a sampling run, landscape.nc.

    Raises:
        ValueError: the config cannot work, or the folder is not what it should be.
        OSError: something could not be written.
        FloatingPointError: every walker became NaN.
        Stopped: by SIGINT or SIGTERM, with all saved.
    """
    folder = Path(folder)
    if resume:
        known = folders.read_provenance(folders.open_run(folder))
        changes(folder, config)  # before anything is built
        kind, spread = known["job"], _same_spread(folder, spread, known["spread"])
    job = prepare(config, kind, devices, spread or "jit")
    if not processes.alike(json.dumps([configs.plain(config), kind, devices, spread])):
        raise ValueError(
            "The processes of the run were given different configs or options; start all of them "
            "with the same ones."
        )
    if not resume:
        processes.lead(lambda: _create(folder, job, command, overwrite))
    with ExitStack() as stack, Signals() as signals:
        processes.lead(lambda: stack.enter_context(folders.lock(folder)))
        if resume:
            processes.lead(lambda: _adopt(folder, config))
            if finished(folder):
                return folder
        session = Session(folder, job, signals, checkpoint_seconds, keep, on_progress)
        keys = jax.random.split(jax.random.key(config.seed), 3)
        if config.training is not None:
            steps = config.training.steps
            session.led("train", steps, lambda: stages.train(session, keys[0]))
        if kind == "sample":
            starts = None
            if config.trained_starts:
                steps = len(config.trained_starts) * stages.START_STEPS
                session.led("starts", steps, lambda: stages.train_starts(session, keys[1]))
                starts = stages.restored_starts(session, keys[1])
            measure = stages.sample if config.umbrella is None else stages.sample_windows
            measure(session, keys[2], starts)
        processes.lead(lambda: session.record(finished=True))
    return folder


def _same_spread(folder: Path, spread: str | None, before: str) -> str:
    """What the run began with, since it rounds as that does."""
    if spread not in (None, before):
        raise ValueError(
            f"The run in {folder} began with --spread {before}, and {spread} would round "
            "otherwise; leave the option out."
        )
    return before


def finished(folder: Path) -> bool:
    """Whether the run in the folder has come to its end, and what it found is there."""
    known = folders.read_provenance(folder)
    found = folders.TRAINING if known["job"] == "train" else folders.LANDSCAPE
    return bool(known["finished"]) and (Path(folder) / found).exists()


def changes(folder: Path, config: Config) -> dict[str, tuple[Any, Any]]:
    """What of a run's config is to be changed.

    Args:
        folder: of the run.
        config: what it shall go on with.

    Returns:
        Dotted field -> its value so far, its value now.

    Raises:
        ValueError: it may not be changed; the sentence says what to do.
    """
    recorded, now = folders.recorded_config(folder), configs.plain(config)
    if new := configs.newer(recorded, now):
        commit = folders.read_provenance(folder).get("git_commit")
        raise ValueError(
            f"{folder} is of another version of glassgrok, which had no {new[0]}; go on with that "
            f"one{f', commit {commit[:10]}' if commit else ''}, or start another run with --out."
        )
    found = configs.differences(recorded, now)
    refuse_changes(f"{folder} began with", "is now to have", found, config.changeable)
    return found


def _check_steps(folder: Path, config: Config, before: int) -> None:
    """Say so if the run has come too far to end with the config's steps."""
    about = Checkpoints(folder / folders.CHECKPOINTS / "sample", keep=None).about()
    if about is None:
        return
    if config.umbrella is None:
        least = sampler.least_steps(config.sampler, about["stage"], about["step"], about["began"])
        steps, short = config.sampler.steps, config.sampler.total_steps < least
    else:
        least = about["step"] + config.umbrella.block
        steps, short = config.umbrella.steps, config.umbrella.steps < least
    if short:
        raise ValueError(
            f"{config.changeable} cannot be changed from {before:,} to {steps:,}: the run in "
            f"{folder} has done {about['step']:,}; give at least {least:,}."
        )


def _create(folder: Path, job: Job, command: str, overwrite: bool) -> None:
    """Make the folder, with all that the run needs of others."""
    plain, kept = configs.plain(job.config), None
    about = folders.provenance(job.kind, job.config.seed, command)
    about |= {"config": plain, "changes": [], "warm_start": None, "spread": job.spread}
    about["notes"] = list(job.task.notes)
    if job.kind == "sample" and job.config.warm_start is not None:
        kept = warm.read(Path(job.config.warm_start), job.config)
        about["warm_start"] = {"run": plain["warm_start"], "step": kept.step}

    def fill(path: Path) -> None:
        if kept is not None:
            with Checkpoints(path / folders.CHECKPOINTS / stages.WARM) as checkpoints:
                checkpoints.save(kept.step, kept.warm, {"config": plain})

    folders.create(folder, configs.dump(job.config), about, overwrite, fill)


def _adopt(folder: Path, config: Config) -> None:
    """Let the run in the folder have the config's steps from now on."""
    found = changes(folder, config)
    if config.changeable in found:
        _check_steps(folder, config, found[config.changeable][0])
    if configs.load(folder / folders.CONFIG) != config:
        folders.write_text(folder / folders.CONFIG, configs.dump(config))
    if not found:
        return
    about = folders.read_provenance(folder)
    made = [{"field": field, "from": old, "to": new} for field, (old, new) in found.items()]
    about |= {"config": configs.plain(config), "changes": about["changes"] + made}
    about["finished"] &= about["job"] == "train"  # whose steps are others
    folders.write_json(folder / folders.PROVENANCE, about)
