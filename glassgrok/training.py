"""Optax training of many copies of a network at once, in blocks that can be saved and resumed."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr

from glassgrok.domains import Free
from glassgrok.optimizers import WandConfig, rescale, wand
from glassgrok.system import network
from glassgrok.tasks.task import Task

# name -> what it is, in the order of the columns; all are of the parameters before the step.
METRICS = {
    "ln_train_loss": "ln of the train loss in nats",
    "ln_test_loss": "ln of the test loss in nats",
    "train_accuracy": "train accuracy",
    "test_accuracy": "test accuracy",
    "smooth_test_accuracy": "smooth test accuracy",
    "weight_norm": "L2 norm of all parameters",
}
WAND = WandConfig()


@dataclass(frozen=True)
class TrainingConfig:
    """How a network is trained: full batch, mean cross-entropy; Nanda et al. (2023) by default.

    Attributes:
        optimizer: "adamw", "sgd" with heavy-ball momentum, or "wand", whose dt is the learning
            rate; weight decay is decoupled in all (Zhang et al. give WanD none: set it to 0).
        steps: updates of each copy.
        learning_rate: one, or several that are crossed with the rest.
        weight_decay: likewise; a step shrinks the parameters by learning_rate * weight_decay.
        beta1, beta2: memory of Adam's two moments.
        momentum: memory of SGD's heavy ball.
        wand: the rest of WanD.
        warmup: steps over which the learning rate rises linearly, from 0 at the first.
        norm: L2 norm of all parameters, held from the start on: one, or several that are crossed
            with the rest; None leaves it free.
        seeds: initial parameters drawn for each combination, the same for all combinations.
        record: whether the recorded steps lie evenly in ln(step) or in step.
        records: how many steps are recorded; a log scale has fewer where its first ones coincide.
        scale: Omnigrok's alpha, a factor on all initial parameters.
        block: steps between two returns to the host, at most.

    Raises:
        ValueError: a field is out of range, or has no effect beside the others.
    """

    optimizer: Literal["adamw", "sgd", "wand"] = "adamw"
    steps: int = 10_000
    learning_rate: float | tuple[float, ...] = 1e-3
    weight_decay: float | tuple[float, ...] = 1.0
    beta1: float = 0.9
    beta2: float = 0.98
    momentum: float = 0.0
    wand: WandConfig = WAND
    warmup: int = 10
    norm: float | tuple[float, ...] | None = None
    seeds: int = 1
    record: Literal["log", "linear"] = "log"
    records: int = 400
    scale: float = 1.0
    block: int = 200

    def __post_init__(self):
        self._check_choices()
        self._check_ranges()
        if self.norm is not None and self.scale != 1:
            raise ValueError(
                f"With norm {self.norm} held fixed the scale {self.scale} has no effect; "
                "multiply the norm instead and leave scale at 1."
            )
        if self.optimizer != "sgd" and self.momentum != 0:
            instead = "set beta1" if self.optimizer == "adamw" else "set wand.friction"
            raise ValueError(
                f"momentum {self.momentum} has no effect on {self.optimizer}; {instead}, or choose "
                "sgd."
            )
        if self.optimizer != "wand" and self.wand != WAND:
            raise ValueError(
                f"The fields of wand have no effect on {self.optimizer}; choose wand, or leave "
                "them out."
            )

    def _check_choices(self):
        known = {"optimizer": ("adamw", "sgd", "wand"), "record": ("log", "linear")}
        for name, choices in known.items():
            value = getattr(self, name)
            if value not in choices:
                raise ValueError(f"{name} is {value!r}, but must be one of: {', '.join(choices)}.")

    def _check_ranges(self):
        lowest = {"steps": 1, "seeds": 1, "block": 1, "records": 2, "warmup": 0, "weight_decay": 0}
        for name in (*lowest, "learning_rate", "scale", "norm", "beta1", "beta2", "momentum"):
            value = getattr(self, name)
            each = _several(value)
            if name in lowest:
                right = all(lowest[name] <= v < math.inf for v in each)
                wanted = f"at least {lowest[name]} and finite"
            elif name in ("learning_rate", "scale", "norm"):
                right, wanted = all(0 < v < math.inf for v in each), "positive and finite"
            else:
                right, wanted = all(0 <= v < 1 for v in each), "at least 0 and below 1"
            if not right or not (each or value is None):
                raise ValueError(f"{name} must be {wanted}, but is {value}; change it.")


def _several(values) -> tuple[float, ...]:
    if isinstance(values, (tuple, list)):
        return tuple(values)
    return () if values is None else (values,)


class TrainingState(NamedTuple):
    """All that the next step needs; a pytree of arrays, to be saved as it is.

    Attributes:
        step: int32 scalar, the updates done.
        params: the parameters, each leaf with a leading axis over the copies.
        optimizer_state: what Optax keeps, likewise.
    """

    step: jax.Array
    params: Any
    optimizer_state: Any


class Training(NamedTuple):
    """What training gave.

    Attributes:
        history: `METRICS` over (step, copy); seed, learning_rate and weight_decay of each copy.
        params: the final parameters, each leaf with a leading axis over the copies.
    """

    history: xr.Dataset
    params: Any


def copies(config: TrainingConfig) -> dict[str, np.ndarray]:
    """Which copies are trained: every learning rate, weight decay and norm with every seed.

    Returns:
        learning_rate, weight_decay, norm where one is held (float32) and seed (int32), each
        (copies,); the learning rate varies slowest and the seed fastest.
    """
    values = {name: _several(getattr(config, name)) for name in ("learning_rate", "weight_decay")}
    if config.norm is not None:
        values["norm"] = _several(config.norm)
    *columns, seed = zip(*product(*values.values(), range(config.seeds)), strict=True)
    grid = {name: np.array(c, np.float32) for name, c in zip(values, columns, strict=True)}
    return grid | {"seed": np.array(seed, np.int32)}


def recorded_steps(config: TrainingConfig) -> np.ndarray:
    """The steps whose metrics are kept: 0, config.steps, and between them as `record` says.

    Returns:
        Sorted unique int64; at most `records` of them.
    """
    if config.record == "linear":
        spread = np.linspace(0, config.steps, config.records)
    else:
        spread = np.append(0, np.geomspace(1, config.steps, config.records - 1))
    spread[-1] = config.steps
    return np.unique(np.round(spread).astype(np.int64))


def optimizer_of(config: TrainingConfig, learning_rate, weight_decay, key):
    """What `config.optimizer` names, as a chain of Optax transformations; the norm is left free.

    Args:
        config: how the network is trained.
        learning_rate, weight_decay: of one copy; may be traced.
        key: a JAX key, of the noise of an optimizer that has some; used by `init` alone.

    Returns:
        An Optax transformation whose `update` may be given the train loss as `value`, and
        `test_accuracy`, which an optimizer that generalises fairly leaves alone.
    """
    if config.optimizer == "wand":
        options = config.wand.options(config.steps)
        links = [
            wand(learning_rate, key=key, **options),
            optax.add_decayed_weights(-learning_rate * weight_decay),
        ]
    else:
        adam = config.optimizer == "adamw"
        b1, b2 = config.beta1, config.beta2
        links = [
            optax.scale_by_adam(b1, b2) if adam else optax.trace(config.momentum),
            optax.add_decayed_weights(weight_decay),
            optax.scale_by_learning_rate(learning_rate),
        ]
    return optax.chain(*links)


def init_training(
    model, task: Task, config: TrainingConfig, key, optimizer: Callable = optimizer_of
) -> TrainingState:
    """The state at step 0: parameters as the model draws them, times `scale` or put at `norm`.

    Args:
        model: a Flax Linen module, inputs -> logits.
        task: the examples.
        config: how they are trained.
        key: a JAX key; seed i draws from the i-th of its `jax.random.split`.
        optimizer: (config, learning_rate, weight_decay, key) -> an Optax transformation, instead
            of the one that the config names.

    Returns:
        A TrainingState of all copies.
    """
    system, grid = network(model, task, Free()), copies(config)

    def init(drawn):
        key, norm = drawn
        params = jax.tree.map(lambda p: config.scale * p, system.init(key))
        params = params if norm is None else rescale(params, norm)
        # Apart from the draws of the parameters, which take the key itself.
        return params, optimizer(config, 0.0, 0.0, jax.random.fold_in(key, 1)).init(params)

    drawn = jax.random.split(key, config.seeds)[grid["seed"]], grid.get("norm")
    # One after the other: the program of one copy compiles twice as fast as that of many.
    return TrainingState(jnp.int32(0), *jax.jit(lambda drawn: jax.lax.map(init, drawn))(drawn))


def block_length(config: TrainingConfig) -> int:
    """Steps of a block: at most config.block, and all blocks of a run are equally long."""
    measured = config.steps + 1  # the final parameters are measured too
    return math.ceil(measured / math.ceil(measured / config.block))


def make_block(
    model,
    task: Task,
    config: TrainingConfig,
    accuracy_slope: float = 7.0,
    optimizer: Callable = optimizer_of,
) -> Callable:
    """One compiled program that advances all copies by `block_length(config)` steps.

    Each step minimises L = exp(u), u = ln of the mean train cross-entropy, from one forward and
    one backward pass over all examples. Once config.steps updates are done it measures but no
    longer moves, so that every block of a run is the same program.

    Args:
        model: a Flax Linen module, inputs -> logits.
        task: the examples and their split.
        config: how they are trained.
        accuracy_slope: steepness of the smooth accuracy; 7 in Zhang et al. (2025).
        optimizer: as of `init_training`.

    Returns:
        A jitted TrainingState -> (TrainingState, metrics); metrics maps each name of `METRICS` to
        (block, copies), row i measured at step state.step + i, before its update. Rows beyond
        config.steps repeat the last.

    Raises:
        ValueError: accuracy_slope is not positive, or the task has no test examples.
    """
    system = network(model, task, Free(), accuracy_slope)
    grid, unused = copies(config), jax.random.key(0)

    def loss(params):
        u, a, extras = system.observe(params)
        norm = optax.tree.norm(params)
        known = extras | {"ln_train_loss": u, "smooth_test_accuracy": a, "weight_norm": norm}
        return jnp.exp(u), {name: known[name] for name in METRICS}

    def advance(step, params, optimizer_state, learning_rate, weight_decay, norm):
        (value, metrics), gradient = jax.value_and_grad(loss, has_aux=True)(params)
        warm = jnp.minimum(step.astype(jnp.float32) / max(config.warmup, 1), 1.0)
        rate = learning_rate * warm if config.warmup else learning_rate
        # Optax's Adam raises a float to an integer power, which strict promotion refuses.
        with jax.numpy_dtype_promotion("standard"):
            chain = optax.with_extra_args_support(optimizer(config, rate, weight_decay, unused))
            known = {"value": value, "test_accuracy": metrics["test_accuracy"]}
            updates, optimizer_state = chain.update(gradient, optimizer_state, params, **known)
        params = optax.apply_updates(params, updates)
        return params if norm is None else rescale(params, norm), optimizer_state, metrics

    def body(state, _):
        *moved, metrics = jax.vmap(advance, in_axes=(None, 0, 0, 0, 0, 0))(
            *state, grid["learning_rate"], grid["weight_decay"], grid.get("norm")
        )
        following = TrainingState(state.step + 1, *moved)
        going = state.step < config.steps
        return jax.tree.map(lambda new, old: jnp.where(going, new, old), following, state), metrics

    return jax.jit(lambda state: jax.lax.scan(body, state, length=block_length(config)))


def training_blocks(
    model,
    task: Task,
    config: TrainingConfig,
    state: TrainingState,
    accuracy_slope: float = 7.0,
    optimizer: Callable = optimizer_of,
) -> Iterator[tuple[TrainingState, xr.Dataset]]:
    """Train on from `state`, block after block.

    Every state that comes out is a plain pytree of arrays. To resume, save it together with the
    parts so far (as NumPy arrays, with Orbax, ...), restore it into the structure of
    `init_training(...)`, and pass it here with the same model, task and config: what follows is
    bit-equal to a run that was never interrupted. The run is complete once a part holds the step
    config.steps. `xarray.concat(parts, "step")` joins the parts.

    Args:
        model: a Flax Linen module, inputs -> logits.
        task: the examples and their split.
        config: how they are trained.
        state: from `init_training`, or from an earlier block.
        accuracy_slope: steepness of the smooth accuracy; 7 in Zhang et al. (2025).
        optimizer: as of `init_training`.

    Yields:
        The state after a block, and the metrics of the recorded steps within it.

    Raises:
        ValueError: the state is of another number of copies or beyond config.steps, and as
            `make_block`.
    """
    grid = copies(config)
    held, first = len(jax.tree.leaves(state.params)[0]), int(state.step)
    if held != len(grid["seed"]) or first > config.steps:
        raise ValueError(
            f"The state holds {held} copies at step {first}, but the config trains "
            f"{len(grid['seed'])} copies for {config.steps} steps; resume with the config that "
            "the state was made with."
        )
    advance = make_block(model, task, config, accuracy_slope, optimizer)
    wanted = recorded_steps(config)
    length = block_length(config)
    for start in range(first, config.steps + 1, length):
        state, metrics = advance(state)
        steps = wanted[(wanted >= start) & (wanted < start + length)]
        rows = {name: np.asarray(metrics[name])[steps - start] for name in METRICS}
        yield state, _history(task, config, steps, rows)


def _history(task: Task, config: TrainingConfig, steps, rows) -> xr.Dataset:
    """The metrics of `steps` as a labelled dataset."""
    return xr.Dataset(
        {
            name: (("step", "copy"), rows[name], {"units": "1", "long_name": METRICS[name]})
            for name in METRICS
        },
        {"step": ("step", steps, {"units": "1", "long_name": "training step"})}
        | {name: ("copy", value, {"units": "1"}) for name, value in copies(config).items()},
        {"task": task.name, "optimizer": config.optimizer, "record": config.record},
    )


def train(
    model,
    task: Task,
    config: TrainingConfig,
    key,
    accuracy_slope: float = 7.0,
    on_block: Callable[[TrainingState, xr.Dataset], Any] | None = None,
    optimizer: Callable = optimizer_of,
) -> Training:
    """Train all copies from their initial parameters to the end; `training_blocks` in one call.

    Args:
        model: a Flax Linen module, inputs -> logits.
        task: the examples and their split.
        config: how they are trained.
        key: a JAX key, for the initial parameters.
        accuracy_slope: steepness of the smooth accuracy; 7 in Zhang et al. (2025).
        on_block: called after each block with the state and the metrics recorded in it.
        optimizer: as of `init_training`.

    Returns:
        A Training: the history over (step, copy), and the final parameters.

    Raises:
        ValueError: as `make_block`.
    """
    start, parts = init_training(model, task, config, key, optimizer), []
    for state, part in training_blocks(model, task, config, start, accuracy_slope, optimizer):
        parts.append(part)
        if on_block is not None:
            on_block(state, part)
    return Training(xr.concat(parts, "step"), state.params)


def steps_to(history: xr.Dataset, name: str = "test_accuracy", level: float = 0.99) -> xr.DataArray:
    """The first recorded step at which a metric has risen to `level`.

    Args:
        history: as `train` returns.
        name: one of `METRICS`.
        level: in the units of the metric.

    Returns:
        (copy,) float64 steps; NaN for a copy that never got there.

    Raises:
        ValueError: the history has no such metric.
    """
    if name not in history:
        raise ValueError(
            f"The history has no metric {name!r}; choose one of: {', '.join(history.data_vars)}."
        )
    return history["step"].where(history[name] >= level).min("step")
