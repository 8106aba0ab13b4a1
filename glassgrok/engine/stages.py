"""The stages of a run: training, trained starts, sampling; each from its last checkpoint on."""

import io
from collections.abc import Callable

import jax
import numpy as np
import xarray as xr

from glassgrok.engine import folder as folders
from glassgrok.engine import processes
from glassgrok.engine.checkpoint import Checkpoints
from glassgrok.engine.session import Decision, Job, Session
from glassgrok.sampling import apparatus as umbrella_apparatus
from glassgrok.sampling import sampler, umbrella
from glassgrok.sampling.starts import trained_starts
from glassgrok.training import copies, init_training, training_blocks

LINES = 1000  # of metrics.jsonl for each phase, at most; thinned by steps, not by the clock
START_STEPS = 600  # updates of each trained start
WARM = "warm"  # phase whose checkpoint is what a run takes over from another


def train(session: Session, key) -> None:
    """Train, from the last checkpoint if there is one; leaves training.nc."""
    path = session.folder / folders.TRAINING
    if path.exists():
        return
    config, job = session.config.training, session.job
    with session.checkpoints("train") as checkpoints:
        state, parts = init_training(job.model, job.task, config, key), []
        restored = session.restore(checkpoints, "train", {"state": state, "history": 0})
        if restored is not None:
            state = restored["state"]
            parts = [xr.load_dataset(io.BytesIO(restored["history"].tobytes()), engine="h5netcdf")]
        blocks = training_blocks(job.model, job.task, config, state, session.config.accuracy_slope)
        while not parts or parts[0]["step"].values[-1] < config.steps:
            state, part = next(blocks)
            parts = [xr.concat([*parts, part], "step")]
            step = int(state.step)
            row = part.mean("copy").isel(step=-1) if part.sizes["step"] else None
            values = {} if row is None else {n: float(row[n]) for n in part.data_vars}
            count, keep = len(copies(config)["seed"]), row is not None
            session.tell("train", "train", step, config.steps, count, values, keep)
            done = parts[0]["step"].values[-1] == config.steps
            # The last two blocks may end at the same step; the second is the one to keep.
            # Of the last block `led` asks, when all is written.
            decision = session.decide_together() if step < config.steps else Decision(done, 0)
            if decision.save:
                data = np.frombuffer(parts[0].to_netcdf(engine="h5netcdf"), np.uint8)
                tree = {"state": state, "history": data}
                session.save(checkpoints, step, tree, {}, training_steps=step)
            if decision.signal:
                session.stop(checkpoints.wait, decision.signal, "train", step, config.steps)
        checkpoints.wait()
        data = parts[0].to_netcdf(engine="h5netcdf")
        folders.replace_with(path, lambda part: part.write_bytes(data))


def train_starts(session: Session, key) -> None:
    """Train a memorising and a generalising network, unless that is done."""
    job, which = session.job, session.config.trained_starts
    total = len(which) * START_STEPS

    def on_block(done):
        session.tell("starts", "starts", done, total, 1, {}, keep=done == total)
        if number := session.decide_together().signal:
            session.stop(lambda: None, number, "starts", done, total)

    with session.checkpoints("starts") as checkpoints:
        if session.restore(checkpoints, "starts", _shapes(job, which, key)) is None:
            starts = trained_starts(
                job.model, job.task, job.system.domain, key, START_STEPS, which, on_block
            )
            session.save(checkpoints, total, starts, {})
            checkpoints.wait()


def _shapes(job: Job, which: tuple[str, ...], key) -> dict:
    return dict.fromkeys(which, jax.tree.map(lambda _: 0, jax.eval_shape(job.system.init, key)))


def restored_starts(session: Session, key) -> dict:
    """The networks that were trained to start from."""
    which = session.config.trained_starts
    with session.checkpoints("starts") as checkpoints:
        starts = session.restore(checkpoints, "starts", _shapes(session.job, which, key))
    # A restored dict is sorted, but which group starts where depends on the order.
    return {name: starts[name] for name in which}


def sample(session: Session, key, starts) -> None:
    """Sample, from the last checkpoint if there is one; leaves landscape.nc."""
    job, config = session.job, session.config.sampler
    program = sampler.build(job.system, job.grid, config, key, starts, job.devices, job.spread)
    total = config.total_steps
    with session.checkpoints("sample") as checkpoints:
        state = sampler.initialise(program, job.system, key, _warm(session))
        restored = _restored(session, checkpoints, state)
        _same_for_all(checkpoints, restored and (restored.stage, restored.step))
        if restored is not None:
            state = restored._replace(walkers=program.devices.scatter(restored.walkers))
            state = sampler.reopen(program, state)
        while not sampler.finished(state):
            before = state.stage
            state, report = sampler.advance(program, state)
            turned = state.stage != before
            values = report._asdict()
            stage = values.pop("stage")
            keep = turned or _thin(state.step, config.block, total)
            session.tell("sample", stage, values.pop("step"), total, config.walkers, values, keep)

            def kept(state=state):
                tree = state._replace(walkers=program.devices.gather(state.walkers))
                return tree, sampler.described(state), state.step * config.walkers

            _end_block(session, checkpoints, (stage, state.step, total), turned, kept)
        checkpoints.wait()
    landscape = sampler.current_landscape(program, state)
    _write(session, landscape.with_attributes(walker_steps=state.step * config.walkers))


def _end_block(session: Session, checkpoints: Checkpoints, place, turned: bool, kept: Callable):
    """Save and stop, where that is wanted.

    Args:
        session, checkpoints: of the run.
        place: stage, step and steps in all.
        turned: whether the stage has ended.
        kept: () -> what to save, what to tell of it, and the walker-steps so far.
    """
    stage, step, total = place
    decision = session.decide_together()
    if turned or decision.save:
        tree, about, done = kept()
        session.save(checkpoints, step, tree, about, walker_steps=done)
    if decision.signal:
        session.stop(checkpoints.wait, decision.signal, stage, step, total)


def _write(session: Session, landscape) -> None:
    """Leave landscape.nc."""
    named = landscape.with_attributes(task=session.job.task.name, seed=session.config.seed)

    def write():
        with folders.writing(session.folder / folders.LANDSCAPE):
            named.save(session.folder / folders.LANDSCAPE)

    processes.lead(write)


def sample_windows(session: Session, key, starts) -> None:
    """Sample with umbrella windows, from the last checkpoint if any; leaves landscape.nc."""
    job, config, keys = session.job, session.config.umbrella, jax.random.split(key, 2)
    apparatus = umbrella_apparatus.build(
        job.system, job.grid, config, keys[0], starts, job.devices, job.spread
    )
    with session.checkpoints("sample") as checkpoints:
        found = _restored(session, checkpoints, umbrella.BLANK)
        _same_for_all(checkpoints, found and (found.stage, found.laying.step, found.block))
        if found is None:
            state = umbrella.initialise(apparatus, keys[0])
        else:
            state = umbrella.restored(apparatus, found)
        for now, report in umbrella.advance(apparatus, state, keys[1]):
            turned, state, values = now.stage != state.stage, now, report._asdict()
            stage, step, total = (values.pop(name) for name in ("stage", "step", "total"))
            session.tell("sample", stage, step, total, 1, values, keep=True)

            def kept(state=state, step=step):
                return umbrella.on_host(apparatus, state), umbrella.described(config, state), step

            _end_block(session, checkpoints, (stage, step, total), turned, kept)
        checkpoints.wait()
    _write(session, umbrella.current_landscape(apparatus, state))


def _same_for_all(checkpoints: Checkpoints, place) -> None:
    if not processes.alike(f"{place}"):
        raise ValueError(
            f"The processes found different checkpoints in {checkpoints.path}; wait until the "
            "file system shows all of them the same, and resume again."
        )


def _restored(session: Session, checkpoints: Checkpoints, state):
    """The latest state; the others read when the first process has removed what is damaged."""
    found = []
    processes.lead(lambda: found.append(session.restore(checkpoints, "sample", state)))
    return found[0] if found else session.restore(checkpoints, "sample", state)


def _warm(session: Session) -> sampler.Warm | None:
    """What the run took over from another when its folder was made."""
    if session.config.warm_start is None:
        return None
    with session.checkpoints(WARM) as checkpoints:
        found = session.restore(checkpoints, WARM, sampler.Warm(0, 0, 0))
    if found is None:
        raise ValueError(
            f"{checkpoints.path} holds no V to start from; restore the folder from a copy, or "
            "start again with --overwrite."
        )
    return found


def _thin(step: int, block: int, total: int) -> bool:
    """Whether a block gets a line: the same ones however often the run was interrupted."""
    every = block * max(1, total // (block * LINES))
    return step // every != (step - block) // every or step >= total
