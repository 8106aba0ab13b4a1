"""The compiled programs of a tile of runs: draw, advance by any number of steps, measure."""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from glassgrok.fit_runs import FitConfig
from glassgrok.losses import check_outputs, example_scores
from glassgrok.optimizers import fixed_norm
from glassgrok.tasks.supervised import Supervised

TOGETHER = (
    1000  # examples that are measured at a time, so that a long test set needs no more memory
)


class FitState(NamedTuple):
    """All that the next step of a tile needs.

    Attributes:
        step: int32 scalar, the updates done.
        params: the parameters, each leaf with a leading axis over the runs of the tile.
        optimizer_state: what Optax keeps, likewise.
        radius: (runs,) L2 norm of the initial parameters.
    """

    step: jax.Array
    params: Any
    optimizer_state: Any
    radius: jax.Array


def optimizer_of(config: FitConfig, learning_rate, weight_decay, radius):
    """What `config.optimizer` names, as a chain of Optax transformations.

    Args:
        config: how networks are fitted.
        learning_rate, weight_decay, radius: of one run; may be traced. Only used where config.clip,
            the decay or hold_norm ask for them.

    Returns:
        An Optax transformation.
    """
    decay = optax.add_decayed_weights(weight_decay)
    adam = optax.scale_by_adam(config.beta1, config.beta2)
    clip = [] if config.clip is None else [optax.clip_by_global_norm(config.clip)]
    links = {"adamw": [adam, decay], "adam": [decay, adam], "sgd": [decay]}[config.optimizer]
    held = [fixed_norm(radius)] if config.hold_norm else []
    along = [optax.stateless(_along_sphere)] if config.tangent else []
    return optax.chain(*along, *clip, *links, optax.scale_by_learning_rate(learning_rate), *held)


def _along_sphere(gradient, params):
    """g - w (w . g) / |w|²: what of a gradient lies in the sphere about 0."""
    share = optax.tree.vdot(params, gradient) / optax.tree.vdot(params, params)
    return jax.tree.map(lambda g, p: g - share.astype(p.dtype) * p, gradient, params)


class Kind(NamedTuple):
    """What of a task is compiled into its programs; see `Supervised`.

    Attributes:
        loss, tolerance, labelled, prepare: of the task.
        pool: examples in the pool.
        test: examples held out, or None where they are the rest of the pool.
    """

    loss: str
    tolerance: float | None
    labelled: bool
    prepare: Callable | None
    pool: int
    test: int | None


def kind_of(task: Supervised) -> Kind:
    """The Kind of a task."""
    test = None if task.test_targets is None else len(task.test_targets)
    return Kind(task.loss, task.tolerance, task.labelled, task.prepare, task.size, test)


class Programs(NamedTuple):
    """The compiled programs of a tile.

    Attributes:
        init: (key, data, runs) -> FitState.
        advance: (key, data, state, runs, count) -> FitState, `count` steps on.
        measure: (data, params, runs) -> each of `METRICS`, (tile,).
    """

    init: Callable
    advance: Callable
    measure: Callable


def programs_of(model, task: Supervised, config: FitConfig, largest: int) -> Programs:
    """The programs of tiles, the same ones where they were made before.

    Args:
        model: a Flax Linen module, inputs -> outputs.
        task: the examples.
        config: how they are fitted.
        largest: of the train sets of all runs.

    Returns:
        The Programs. The key they take is of all runs; each draws from it folded with its seed.

    Raises:
        ValueError: the outputs do not fit the targets.
    """
    kind = kind_of(task)
    first = jax.tree.map(lambda leaf: np.asarray(leaf[:1]), (task.inputs, task.targets))
    shape = jax.eval_shape(
        lambda key, examples: _outputs(model, kind, _draw(model, kind, key, examples), *examples),
        jax.random.key(0),
        _as_jax(first),
    )
    check_outputs(task, shape.shape[1:])
    # Lengths and records are the host's matter.
    compiled = replace(config, steps=1, records=2, record="log", block=1, tile=None)
    try:
        hash((model, kind))
    except TypeError:  # as of a module with a list among its fields
        return _programs.__wrapped__(model, kind, compiled, largest)
    return _programs(model, kind, compiled, largest)


def device_data(task: Supervised, largest: int) -> dict:
    """The arrays of a task on the device: pool, and test set where it has one of its own.

    Args:
        task: the examples.
        largest: of the train sets; a pool with a test set of its own is cut there.
    """
    pool = (task.inputs, task.targets)
    if task.test_inputs is not None:
        pool = jax.tree.map(lambda leaf: leaf[:largest], pool)
        held_out = (task.test_inputs, task.test_targets)
    else:
        held_out = None
    return _as_jax({"pool": pool, "test": held_out})


def _as_jax(tree):
    """Arrays of the kinds that JAX keeps; it would warn of float64 and cut it."""
    return jax.tree.map(
        lambda leaf: jnp.asarray(leaf, jax.dtypes.canonicalize_dtype(np.asarray(leaf).dtype)), tree
    )


def _chosen(count: int, available):
    """(count,) int32 places of `available` evenly spread, and 0 or 1 for whether each counts.

    Where fewer than `count` are available each comes once, and the rest does not count.
    """
    place, n = jnp.arange(count, dtype=jnp.uint32), jnp.asarray(available).astype(jnp.uint32)
    # place * n // count without an overflow.
    spread = place * (n // count) + place * (n % count) // count
    few = n <= count
    counts = jnp.where(few, place < n, True)
    return jnp.where(few, jnp.minimum(place, n - 1), spread).astype(jnp.int32), counts


def _draw(model, kind: Kind, key, examples):
    """Initial parameters, at alpha = 1."""
    first, messiness = jax.tree.map(lambda leaf: leaf[:1], examples), jnp.float32(1)
    inputs = first[0] if kind.prepare is None else kind.prepare(*first, messiness)
    return model.init(key, inputs)


def _outputs(model, kind: Kind, params, inputs, targets, messiness=1.0):
    if kind.prepare is not None:
        inputs = kind.prepare(inputs, targets, jnp.float32(messiness))
    return model.apply(params, inputs)


@lru_cache(maxsize=16)
def _drawing(model, kind: Kind) -> Callable:
    """The program (key, data, runs) -> initial parameters of a tile, and their norms.

    Of the Kind `prepare` alone matters.
    """

    def init(key, data, run):
        own = jax.random.fold_in(jax.random.split(key)[0], run["seed"])
        params = _draw(model, kind, own, data["pool"])
        params = jax.tree.map(lambda p: p * run["scale"].astype(p.dtype), params)
        return params, optax.tree.norm(params)

    # One after the other: the program of one draw compiles faster than that of many.
    return jax.jit(lambda key, data, runs: jax.lax.map(lambda run: init(key, data, run), runs))


@lru_cache(maxsize=16)
def _programs(model, kind: Kind, config: FitConfig, largest: int) -> Programs:
    full = config.batch is None or config.batch >= largest
    start = jax.jit(jax.vmap(optimizer_of(config, 0.0, 0.0, 1.0).init))
    drawn = kind._replace(loss="", tolerance=None, labelled=False, pool=0, test=None)
    try:
        draw = _drawing(model, drawn)
    except TypeError:
        draw = _drawing.__wrapped__(model, drawn)

    def init(key, data, runs):
        params, radius = draw(key, data, runs)
        # Zeros that no argument went into are tied to no device, and the next program would be
        # compiled twice: for them, and for what comes back.
        return jax.device_put(FitState(np.int32(0), params, start(params), radius), radius.device)

    def scores(params, examples, places, messiness):
        inputs, targets = jax.tree.map(lambda leaf: leaf[places], examples)
        outputs = _outputs(model, kind, params, inputs, targets, messiness)
        return example_scores(kind, outputs, targets)

    def batch(key, step, run):
        """Places in the pool, and 0 or 1 for whether each counts."""
        if full:  # all in their order: no gather, and one product for all runs of a tile
            return slice(None, largest), jnp.arange(largest, dtype=jnp.int32) < run["size"]
        place = jnp.arange(config.batch, dtype=jnp.int32)
        own = jax.random.fold_in(jax.random.split(key)[1], run["seed"])
        drawn = jax.random.randint(jax.random.fold_in(own, step), (config.batch,), 0, run["size"])
        small = run["size"] <= config.batch
        whole = jnp.minimum(place, run["size"] - 1)
        return jnp.where(small, whole, drawn), jnp.where(small, place < run["size"], True)

    def one_step(key, data, step, params, optimizer_state, radius, run):
        places, counts = batch(key, step, run)
        weights = counts.astype(jnp.float32) / jnp.sum(counts.astype(jnp.float32))

        def loss(params):
            return jnp.sum(weights * scores(params, data["pool"], places, run["messiness"])[0])

        gradient = jax.grad(loss)(params)
        rate = run["learning_rate"]
        if config.decay_every is not None:
            rate = rate * config.decay_factor ** (step // config.decay_every).astype(jnp.float32)
        # Optax's Adam raises a float to an integer power, which strict promotion refuses.
        with jax.numpy_dtype_promotion("standard"):
            chain = optimizer_of(config, rate, run["weight_decay"], radius)
            updates, optimizer_state = chain.update(gradient, optimizer_state, params)
        return optax.apply_updates(params, updates), optimizer_state

    def advance(key, data, state, runs, count):
        step = jax.vmap(one_step, in_axes=(None, None, None, 0, 0, 0, 0))

        def body(_, state):
            moved = step(key, data, *state, runs)
            return FitState(state.step + 1, *moved, state.radius)

        return jax.lax.fori_loop(0, count, body, state)

    def averages(params, examples, begin, available, most, run):
        """Mean loss and accuracy over some of the `available` examples from `begin` on."""
        count = min(config.evaluate or most, most)
        chunk = min(TOGETHER, count)
        pieces = -(-count // chunk)
        places, counts = _chosen(count, available)
        short = pieces * chunk - count
        places = jnp.pad(places, (0, short)).reshape(pieces, chunk) + begin
        counts = jnp.pad(counts, (0, short)).reshape(pieces, chunk)

        def piece(both):
            losses, right = scores(params, examples, both[0], run["messiness"])
            return jnp.stack([jnp.sum(jnp.where(both[1], v, 0.0)) for v in (losses, right)])

        sums = jnp.sum(jax.lax.map(piece, (places, counts)), axis=0)
        return sums / jnp.sum(counts.astype(jnp.float32))

    def measure_one(data, params, run):
        pool, size, beginning = data["pool"], run["size"], jnp.int32(0)
        train = averages(params, pool, beginning, size, largest, run)
        if kind.test is None:
            test = averages(params, pool, size, kind.pool - size, kind.pool - 1, run)
        else:
            held = data["test"]
            test = averages(params, held, beginning, jnp.int32(kind.test), kind.test, run)
        return {
            "train_loss": train[0],
            "test_loss": test[0],
            "train_accuracy": train[1],
            "test_accuracy": test[1],
            "weight_norm": optax.tree.norm(params),
        }

    def measure(data, params, runs):
        return jax.vmap(measure_one, in_axes=(None, 0, 0))(data, params, runs)

    return Programs(init, jax.jit(advance), jax.jit(measure))
