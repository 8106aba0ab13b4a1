"""The compiled programs of a tile of runs: draw, advance by any number of steps, measure."""

from collections.abc import Callable
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


class Programs(NamedTuple):
    """The compiled programs of a tile.

    Attributes:
        init: runs -> FitState.
        advance: (data, state, runs, count) -> FitState, `count` steps on.
        measure: (data, params, runs) -> each of `METRICS`, (tile,).
    """

    init: Callable
    advance: Callable
    measure: Callable


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
    # Floats and whole numbers as JAX keeps them: float64 would be warned of and cut.
    return jax.tree.map(
        lambda leaf: jnp.asarray(leaf, jax.dtypes.canonicalize_dtype(np.asarray(leaf).dtype)),
        {"pool": pool, "test": held_out},
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


def make_programs(model, task: Supervised, config: FitConfig, largest: int, key) -> Programs:
    """Compile-once programs for tiles of one width.

    Args:
        model: a Flax Linen module, inputs -> outputs.
        task: the examples.
        config: how they are fitted.
        largest: of the train sets of all runs.
        key: a JAX key; run i draws from it folded with its seed.

    Returns:
        The Programs.

    Raises:
        ValueError: the outputs do not fit the targets.
    """
    init_key, batch_key = jax.random.split(key)
    chunk = min(TOGETHER, largest)

    def outputs(params, inputs, targets, messiness):
        if task.prepare is not None:
            inputs = task.prepare(inputs, targets, messiness)
        return model.apply(params, inputs)

    def scores(params, examples, places, messiness):
        inputs, targets = jax.tree.map(lambda leaf: leaf[places], examples)
        return example_scores(task, outputs(params, inputs, targets, messiness), targets)

    first = jax.tree.map(lambda leaf: jnp.asarray(leaf[:1]), (task.inputs, task.targets))

    def draw(key):
        inputs = first[0] if task.prepare is None else task.prepare(*first, jnp.float32(1))
        return model.init(key, inputs)

    shape = jax.eval_shape(lambda k: outputs(draw(k), *first, jnp.float32(1)), init_key)
    check_outputs(task, shape.shape[1:])

    def init(run):
        params = draw(jax.random.fold_in(init_key, run["seed"]))
        params = jax.tree.map(lambda p: p * run["scale"].astype(p.dtype), params)
        return params, optimizer_of(config, 0.0, 0.0, 1.0).init(params), optax.tree.norm(params)

    def init_tile(runs):
        # One after the other: the program of one draw compiles faster than that of many.
        return FitState(jnp.int32(0), *jax.lax.map(init, runs))

    def batch(step, run):
        if config.batch is None or config.batch >= largest:
            place = jnp.arange(largest, dtype=jnp.int32)
            return jnp.minimum(place, run["size"] - 1), place < run["size"]
        place = jnp.arange(config.batch, dtype=jnp.int32)
        own = jax.random.fold_in(jax.random.fold_in(batch_key, run["seed"]), step)
        drawn = jax.random.randint(own, (config.batch,), 0, run["size"])
        small = run["size"] <= config.batch
        whole = jnp.minimum(place, run["size"] - 1)
        return jnp.where(small, whole, drawn), jnp.where(small, place < run["size"], True)

    def one_step(data, step, params, optimizer_state, radius, run):
        if config.batch is None or config.batch >= largest:
            # All of them in their order: no gather, and one product for all runs of a tile.
            examples = jax.tree.map(lambda leaf: leaf[:largest], data["pool"])
            places, counts = slice(None), jnp.arange(largest, dtype=jnp.int32) < run["size"]
        else:
            examples = data["pool"]
            places, counts = batch(step, run)
        weights = counts.astype(jnp.float32) / jnp.sum(counts.astype(jnp.float32))

        def loss(params):
            return jnp.sum(weights * scores(params, examples, places, run["messiness"])[0])

        gradient = jax.grad(loss)(params)
        rate = run["learning_rate"]
        if config.decay_every is not None:
            rate = rate * config.decay_factor ** (step // config.decay_every).astype(jnp.float32)
        # Optax's Adam raises a float to an integer power, which strict promotion refuses.
        with jax.numpy_dtype_promotion("standard"):
            chain = optimizer_of(config, rate, run["weight_decay"], radius)
            updates, optimizer_state = chain.update(gradient, optimizer_state, params)
        return optax.apply_updates(params, updates), optimizer_state

    def advance(data, state, runs, count):
        step = jax.vmap(one_step, in_axes=(None, None, 0, 0, 0, 0))

        def body(_, state):
            moved = step(data, *state, runs)
            return FitState(state.step + 1, *moved, state.radius)

        return jax.lax.fori_loop(0, count, body, state)

    def averages(params, examples, begin, available, most, run):
        count = min(most if config.evaluate is None else config.evaluate, most)
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
        pool, size = data["pool"], run["size"]
        train = averages(params, pool, jnp.int32(0), size, largest, run)
        if data["test"] is None:
            n = task.size
            test = averages(params, pool, size, n - size, n - 1, run)
        else:
            n = len(data["test"][1])
            test = averages(params, data["test"], jnp.int32(0), jnp.int32(n), n, run)
        return {
            "train_loss": train[0],
            "test_loss": test[0],
            "train_accuracy": train[1],
            "test_accuracy": test[1],
            "weight_norm": optax.tree.norm(params),
        }

    def measure(data, params, runs):
        return jax.vmap(measure_one, in_axes=(None, 0, 0))(data, params, runs)

    return Programs(jax.jit(init_tile), jax.jit(advance), jax.jit(measure))
