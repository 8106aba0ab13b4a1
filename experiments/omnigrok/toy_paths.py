"""Networks of toy addition on their way: by Eq. 6 of Liu et al. (2023), and trained by AdamW."""

import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from omnigrok import rounded
from toy_addition import MAIN, SEED, fit_config, initial_norm, model_of, task_of

import glassgrok as gg
from glassgrok.models import Adder
from glassgrok.tasks.addition import addition, digits

LEARNED = 0.1  # test loss below which a network has generalised
FROM_C = 5.0, 0.06  # alpha and m, within the overfitting region
RATE = 4.0  # η_D, a step
TURN = 4e-4  # Adam's rate for the direction, the last of the map's
LONGEST = {"quick": 0.05, "cpu": 3.0, "paper": 6.0}  # in units of 1 / (η γ)
ADAMW_STEPS = {"quick": 200, "cpu": 6000, "paper": 200_000}


class Moving(NamedTuple):
    """A network on its way: decoder, messiness or representation, Adam's moments."""

    decoder: dict
    place: jax.Array
    moments: optax.OptState


def settled(scale: str) -> Moving:
    """The network that the map has at C, and where it is."""
    alpha, messiness = FROM_C
    runs = {"scale": alpha, "size": MAIN, "messiness": messiness, "learning_rate": 1e-2}
    key = jax.random.key(SEED)
    found = gg.fit(model_of(scale), task_of(), fit_config(scale), runs, key).params
    decoder = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), found)
    return Moving(decoder, jnp.float32(messiness), optax.scale_by_adam(0.9, 0.99).init(decoder))


def losses_of(scale: str):
    """(decoder, m) -> train and test loss."""
    task, model = task_of(), model_of(scale)
    inputs, targets = jnp.asarray(task.inputs), jnp.asarray(task.targets)

    def losses(decoder, messiness):
        outputs = model.apply(decoder, task.prepare(inputs, targets, messiness))
        each = jnp.mean((outputs - targets) ** 2, axis=1)
        return jnp.mean(each[:MAIN]), jnp.mean(each[MAIN:])

    return losses


def make_advance(scale: str, steps: int):
    """(Moving, γ, η_R / η_D) -> Moving `steps` later, and its alpha, m, train and test loss."""
    losses, norm_at_one = losses_of(scale), initial_norm(scale)
    adam = optax.scale_by_adam(0.9, 0.99)

    def one(_, state, decay, ratio):
        slope, turn = jax.grad(lambda *p: losses(*p)[0], argnums=(0, 1))(*state[:2])
        norm = optax.tree.norm(state.decoder)
        radial = optax.tree.vdot(slope, state.decoder) / norm
        along = jax.tree.map(lambda g, p: g - p * radial / norm, slope, state.decoder)
        update, moments = adam.update(along, state.moments)
        turned = jax.tree.map(lambda p, u: p - TURN * u, state.decoder, update)
        wanted = norm - RATE * (radial + decay * norm)
        grown = wanted / optax.tree.norm(turned)
        m = jnp.clip(state.place - RATE * ratio * turn, 0.0, 1.0)
        return Moving(jax.tree.map(lambda p: p * grown, turned), m, moments)

    @jax.jit
    def advance(state, decay, ratio):
        state = jax.lax.fori_loop(0, steps, lambda i, s: one(i, s, decay, ratio), state)
        alpha = optax.tree.norm(state.decoder) / norm_at_one
        return state, jnp.stack([alpha, state.place, *losses(*state[:2])])

    return advance


def measured(scale: str, decay: float, ratio: float, begin: Moving, advance, steps: int) -> dict:
    """One network from C until it has generalised, or for too long."""
    most = LONGEST[scale] / (RATE * decay)
    state, rows, began = begin, [], time.perf_counter()
    for step in range(steps, int(most) + steps, steps):
        state, row = advance(state, np.float32(decay), np.float32(ratio))
        rows.append([step, *np.asarray(row).tolist()])
        if rows[-1][-1] < LEARNED:
            break
    reached = rows[-1][0] if rows[-1][-1] < LEARNED else None
    return {
        "generalised": reached,
        "scaled": None if reached is None else reached * RATE * decay,
        "seconds": time.perf_counter() - began,
        **_columns(rows, ("step", "alpha", "messiness", "train_loss", "test_loss")),
    }


def _columns(rows: list, names: tuple[str, ...], most: int = 200) -> dict:
    """Columns of at most `most` rows, rounded."""
    few = np.array(rows)[np.unique(np.linspace(0, len(rows) - 1, most).astype(int))]
    return {n: rounded(few[:, i]) for i, n in enumerate(names)}


class Free(NamedTuple):
    """A network of which all is trained: decoder and representation, and AdamW's state."""

    params: dict
    state: optax.OptState


def make_free(scale: str, steps: int):
    """AdamW on decoder and representation, decay on the decoder alone, learning rate 1e-3.

    Returns:
        (alpha, messiness) -> Free, where it begins; and (Free, γ) -> Free `steps` later, with its
        alpha, train and test loss.
    """
    task, ends = addition(noise=0.0, frozen=False), digits(noise=0.0)
    model = Adder(model_of(scale), ends.line)
    inputs, targets = jnp.asarray(task.inputs), jnp.asarray(task.targets)
    drawn = model.init(jax.random.key(SEED), inputs)["params"]
    decayed = {name: jax.tree.map(lambda _, n=name: n == "decoder", drawn[name]) for name in drawn}

    def chain(decay):
        return optax.adamw(1e-3, 0.9, 0.98, weight_decay=decay, mask=decayed)

    def begin(alpha, messiness):
        decoder = jax.tree.map(lambda p: p * alpha, drawn["decoder"])
        held = jnp.asarray(ends.at(np.float32(messiness)))
        params = {"decoder": decoder, "representation": held}
        return Free(params, chain(0.0).init(params))

    def losses(params):
        each = jnp.mean((model.apply({"params": params}, inputs) - targets) ** 2, axis=1)
        return jnp.mean(each[:MAIN]), jnp.mean(each[MAIN:])

    def one(_, free, decay):
        slope = jax.grad(lambda p: losses(p)[0])(free.params)
        updates, state = chain(decay).update(slope, free.state, free.params)
        return Free(optax.apply_updates(free.params, updates), state)

    @jax.jit
    def advance(free, decay):
        free = jax.lax.fori_loop(0, steps, lambda i, f: one(i, f, decay), free)
        alpha = optax.tree.norm(free.params["decoder"]) / initial_norm(scale)
        return free, jnp.stack([alpha, *losses(free.params)])

    return begin, advance


def freely(scale: str, decay: float, free: Free, advance, steps: int) -> dict:
    """Train all of a network until it has generalised, or for too long."""
    rows = []
    for step in range(steps, ADAMW_STEPS[scale] + 1, steps):
        free, row = advance(free, np.float32(decay))
        rows.append([step, *np.asarray(row).tolist()])
        if rows[-1][-1] < LEARNED:
            break
    return {
        "generalised": rows[-1][0] if rows[-1][-1] < LEARNED else None,
        **_columns(rows, ("step", "alpha", "train_loss", "test_loss")),
    }
