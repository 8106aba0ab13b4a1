"""Spreading tiles of walkers over devices with pmap."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from glassgrok.engine.walkers import Walkers


class Devices(NamedTuple):
    """The devices that a run uses.

    Attributes:
        devices: them.
        tiles: tiles of walkers in all, a multiple of their number.
    """

    devices: tuple
    tiles: int

    def scatter(self, walkers: Walkers) -> Walkers:
        """Host arrays (tiles, ...) -> sharded arrays (devices, tiles / devices, ...)."""
        count = len(self.devices)
        sharding = NamedSharding(
            Mesh(np.array(self.devices), ("devices",)), PartitionSpec("devices")
        )

        def place(array):
            array = np.asarray(array)
            return jax.device_put(array.reshape(count, -1, *array.shape[1:]), sharding)

        return jax.tree.map(place, walkers)

    def gather(self, tree):
        """Sharded arrays (devices, tiles / devices, ...) -> host arrays (tiles, ...)."""

        def fetch(array):
            host = np.asarray(array)
            return host.reshape(self.tiles, *host.shape[2:])

        return jax.tree.map(fetch, tree)

    def spread(self, run: Callable) -> Callable:
        """Compile `run(walkers, drive)` for all devices; drive goes to each, walkers are reused."""
        return jax.pmap(
            run,
            axis_name="devices",
            in_axes=(0, None),
            out_axes=(0, 0, None),
            devices=list(self.devices),
            donate_argnums=0,
        )

    def each(self, run: Callable, shared: int = 0) -> Callable:
        """Compile `run` for each device on its own tiles; the last `shared` arguments go to all."""
        return jax.pmap(run, in_axes=(0, *[None] * shared), devices=list(self.devices))


def choose(tiles: int, count: int | None = None) -> Devices:
    """Use as many local devices as divide the tiles evenly, or exactly `count`.

    Raises:
        ValueError: there are fewer than `count` devices, or the tiles do not divide among them.
    """
    local = jax.local_devices()
    if count is None:
        count = max(n for n in range(1, len(local) + 1) if tiles % n == 0)
    if not 1 <= count <= len(local) or tiles % count:
        raise ValueError(
            f"{count} devices were asked for, but {len(local)} are here and {tiles} tiles of "
            "walkers must divide evenly among them; change devices, walkers or tile."
        )
    return Devices(tuple(local[:count]), tiles)
