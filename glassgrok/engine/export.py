"""Networks from a place in the landscape: walkers of a run's last checkpoint, as parameters."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import serialization

from glassgrok import config as configs
from glassgrok.engine import folder as folders
from glassgrok.engine.checkpoint import Checkpoints
from glassgrok.engine.flat import flatten

TILE = 64  # networks evaluated at once
POSITION, WINDOW = ".walkers.position", ".places.window"


class Networks(NamedTuple):
    """n networks near a place in the landscape, nearest first within each round of the groups.

    Attributes:
        params: the model's parameters, with a leading axis of n.
        values: (n, axes) ln train loss and smooth test accuracy of each.
        group: (n,) which independent group it is of; those of one group may be related.
        step: walker-steps, or steps, of the run at the checkpoint.
    """

    params: Any
    values: np.ndarray
    group: np.ndarray
    step: int


def networks(path: Path, u: float, a: float, count: int) -> Networks:
    """Choose walkers within a bin of a place, of as many groups as there are.

    Args:
        path: folder of a run that samples.
        u, a: ln train loss and smooth test accuracy.
        count: how many.

    Returns:
        The Networks.

    Raises:
        ValueError: the run has no walkers yet, or fewer than `count` are there.
    """
    config = configs.load(path / folders.CONFIG)
    system, grid = configs.build_system(config), configs.build_grid(config)
    flat = flatten(system, grid, jax.random.key(0))
    position, group, step = _walkers(path, config)

    def observed(x):
        return flat.observe(x)[0]

    values = np.asarray(jax.lax.map(observed, position, batch_size=TILE), np.float64)
    widths = np.array([axis.width for axis in grid.axes])
    away = np.abs(values - np.array([u, a])) / widths
    distance = np.where(np.isfinite(away).all(axis=1), away.max(axis=1), np.inf)
    near = np.flatnonzero(distance <= 1)
    if len(near) < count:
        best = values[np.argmin(distance)]
        raise ValueError(
            f"{len(near)} of the {len(values)} walkers in {path} are within a bin "
            f"({widths[0]:.3g} and {widths[1]:.3g}) of u = {u:g} and A = {a:g}, and {count} are "
            f"wanted; the nearest is at {best[0]:.2f} and {best[1]:.2f}. Ask for fewer, or for "
            "another place."
        )
    near = near[np.argsort(distance[near])]
    turn = np.array([np.sum(group[near[:i]] == group[k]) for i, k in enumerate(near)])
    chosen = near[np.argsort(turn, kind="stable")][:count]
    params = jax.vmap(flat.unravel)(position[chosen])
    return Networks(jax.tree.map(np.asarray, params), values[chosen], group[chosen], step)


def window_walkers(path: Path, config: configs.Config) -> np.ndarray:
    """(K, M, D) where a run's walkers are in each umbrella window, without the witnesses.

    Those of a group, `copies`, lie side by side.

    Raises:
        ValueError: the run has no walkers in windows yet.
    """
    found = _sampled(path)
    many = config.umbrella.groups * config.umbrella.copies
    held = np.argsort(found.tree[WINDOW], axis=0)[:, :many]
    return np.take_along_axis(found.tree[POSITION][:, :many], held[..., None], axis=0)


def _walkers(path: Path, config: configs.Config) -> tuple[np.ndarray, np.ndarray, int]:
    """(n, D) positions in the last checkpoint, (n,) groups, and its step."""
    found = _sampled(path)
    position = found.tree[POSITION]
    if config.umbrella is None:  # tiles x walkers of a tile
        group = np.repeat(np.arange(len(position)) % config.sampler.groups, position.shape[1])
    else:  # windows x walkers of the groups, without the witnesses, which are not in equilibrium
        own = np.repeat(np.arange(config.umbrella.groups), config.umbrella.copies)
        position = position[:, : len(own)]
        group = np.tile(own, len(position))
    return position.reshape(-1, position.shape[-1]), group, found.step


def _sampled(path: Path):
    """The last checkpoint, if walkers sample there."""
    where = path / folders.CHECKPOINTS / "sample"
    found = None
    if where.is_dir():
        with Checkpoints(where, keep=None) as checkpoints:
            found = checkpoints.latest()
    if not found or not found.tree.get(POSITION, np.zeros(0)).size:
        raise ValueError(
            f"{path} has no walkers that sample yet; go on with 'glassgrok resume {path}'."
        )
    return found


def write(path: Path, found: Networks) -> None:
    """Save networks, to be read with `flax.serialization.msgpack_restore`.

    Raises:
        OSError: it could not be written.
    """
    state = serialization.to_state_dict(found.params)
    content = {
        "params": state,
        "ln_loss": found.values[:, 0],
        "test_accuracy": found.values[:, 1],
        "group": found.group,
        "step": int(found.step),
    }
    data = serialization.msgpack_serialize(content)
    folders.replace_with(path, lambda partial: partial.write_bytes(data))
