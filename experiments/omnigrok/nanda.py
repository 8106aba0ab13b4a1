"""What the figures of modular addition share: the transformer of Nanda et al. (2023), mod p."""

import math
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import xarray as xr

import glassgrok as gg
from glassgrok.training import init_training, training_blocks

SEED = 0


class Size(NamedTuple):
    """p, d_model (a quarter of the MLP), the share that trains, the learning rate."""

    modulus: int
    width: int
    fraction: float
    rate: float


# A smaller modulus needs a larger share; a larger learning rate saves time.
SIZES = {
    "quick": Size(7, 16, 0.6, 3e-3),
    "cpu": Size(31, 64, 0.6, 3e-3),
    "faster": Size(113, 128, 0.3, 3e-3),  # the paper's but for its rate: Figure 7 at the scale cpu
    "paper": Size(113, 128, 0.3, 1e-3),
}


def model_of(scale: str) -> gg.Transformer:
    """The transformer of a scale."""
    p, d, *_ = SIZES[scale]
    return gg.Transformer(p + 1, d_model=d, heads=4, d_head=d // 4, d_mlp=4 * d)


def task_of(scale: str, fraction: float | None = None) -> gg.Task:
    """x + y mod p, split by the seed; `fraction` of the scale if not given."""
    size = SIZES[scale]
    return gg.modular("x+y", size.modulus, size.fraction if fraction is None else fraction, SEED)


def described(scale: str, split: bool = True) -> str:
    """The task, the network and its training in words, for the head of a table."""
    p, d, share, rate = SIZES[scale]
    told = f", {share:.0%} of the pairs train" if split else ""
    return (
        f"x + y mod {p}{told}; one layer, d_model {d}, 4 heads, MLP {4 * d}; AdamW, learning rate "
        f"{rate:g}, full batch"
    )


def initial_norm(model: gg.Transformer) -> float:
    """Expected w0 = |θ| at alpha = 1: sqrt(V + 3 + 5 d + 2 d_mlp), where the heads fill d.

    The squares of an array of variance 1/d sum to its other dimension: V of the embedding, 3 of
    the positions, 4 d of attention, 2 d_mlp of the MLP; the unembedding, of variance 1/V, adds d.
    """
    inner = model.heads * model.d_head
    squares = model.vocabulary + model.context + 3 * inner + inner + 2 * model.d_mlp + model.d_model
    return math.sqrt(squares)


def trained(
    model, task, config, name: str, done: Callable[[xr.Dataset], bool] = lambda part: False
) -> xr.Dataset:
    """The history of all copies with the seconds it took; tells how far it is.

    Args:
        name: for the lines on the terminal.
        done: given the last measured step, whether training may end before config.steps.
    """
    began, parts = time.perf_counter(), []
    state = init_training(model, task, config, jax.random.key(SEED))
    for _, part in training_blocks(model, task, config, state):
        if not part.sizes["step"]:
            continue
        parts.append(part)
        last, spent = part.isel(step=-1), time.perf_counter() - began
        told = ", ".join(f"{a:.2f}" for a in last["test_accuracy"].values[:6])
        print(f"{name}: step {int(last['step']):,}, test {told}, {spent:.0f} s", flush=True)
        if done(last):
            break
    return xr.concat(parts, "step").assign_attrs(seconds=time.perf_counter() - began)
