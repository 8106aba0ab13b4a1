"""Tiles of walkers on the devices of one or many processes.

Each process holds the tiles of its own devices. What the host must know of all walkers is gathered
on every process, and each of them then computes the same.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from typing import Any, Literal, get_args

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

AXIS = "devices"
SPLIT, SAME = PartitionSpec(AXIS), PartitionSpec()
Spread = Literal["jit", "pmap", "shard_map"]


class Devices:
    """The devices that a run uses, and how tiles of walkers are spread over them.

    `Parts` below is what lies on the local devices: for "jit" a list with one pytree a device, for
    the others one pytree of sharded arrays; each with a leading axis of length 1 a device.

    Args:
        local: the devices of this process.
        tiles: tiles of walkers in all, a multiple of the number of devices of all processes.
        spread: "jit" runs the same one-device program on each device: any number of devices gives
            the same bits, but each device compiles for itself. "pmap" and "shard_map", the same
            bits as each other, compile one partitioned program: 2, 4, ... devices give the same
            bits, but one device, for which XLA compiles otherwise, gives others.
    """

    def __init__(self, local: tuple, tiles: int, spread: Spread = "jit"):
        self.local, self.tiles, self.spread = local, tiles, spread

    # --- host arrays, sharded arrays, Parts ---------------------------------------------------

    def scatter(self, tree):
        """Host arrays (tiles, ...) -> sharded arrays (local devices, tiles / devices, ...)."""
        share = self.tiles // jax.process_count()
        first, count = jax.process_index() * share, len(self.local)

        def place(array):
            array = np.asarray(array)[first : first + share]
            rows = array.reshape(count, share // count, *array.shape[1:])
            return jax.device_put(rows, self._sharding)

        return jax.tree.map(place, tree)

    def gather(self, tree):
        """Sharded arrays (local devices, tiles / devices, ...) -> host arrays (tiles, ...)."""

        def merged(array):
            host = np.asarray(array)
            return host.reshape(host.shape[0] * host.shape[1], *host.shape[2:])

        return allgather(jax.tree.map(merged, tree))

    def pick(self, array, walkers: np.ndarray) -> np.ndarray:
        """Some walkers of a sharded array, (n,) indices into all of them -> host array (n, ...)."""
        rows = int(np.prod(array.shape[:3]))
        mine = walkers - jax.process_index() * rows
        here = np.where((mine >= 0) & (mine < rows), mine, 0)
        found = np.asarray(array[np.unravel_index(here, array.shape[:3])])
        return allgather(found[None])[
            walkers // rows % jax.process_count(), np.arange(len(walkers))
        ]

    def place(self, rows: np.ndarray):
        """A host array with one row for each local device -> Parts."""
        return self.split(jax.device_put(rows, self._sharding))

    def split(self, tree):
        """Sharded arrays -> Parts."""
        if self.spread != "jit":
            return tree
        leaves, structure = jax.tree.flatten(tree)
        shards = [self._shards(leaf) for leaf in leaves]
        return [structure.unflatten(part) for part in zip(*shards, strict=True)]

    def join(self, parts):
        """Parts -> sharded arrays."""
        if self.spread != "jit":
            return parts
        return jax.tree.map(lambda *shards: self._joined(shards, self._sharding), *parts)

    def share(self, tree):
        """Host arrays, the same for all devices -> what `each` takes as shared."""
        if self.spread != "jit":
            return jax.device_put(tree, NamedSharding(self._mesh, SAME))
        return [jax.device_put(tree, device) for device in self.local]

    # --- programs ------------------------------------------------------------------------------

    def each(self, run: Callable, mapped: int, shared: int, donate: tuple[int, ...] = ()):
        """Compile `run` for each device on its own tiles.

        Args:
            run: takes `mapped` arguments that each device has its own of, then `shared` ones.
            mapped, shared: how many.
            donate: which of the first may be overwritten.

        Returns:
            The same function of Parts, and of what `share` makes or scalars. Its results are
            Parts, a tuple of them where `run` returns a tuple.
        """
        if self.spread == "pmap":
            axes = (0,) * mapped + (None,) * shared
            return jax.pmap(
                run, AXIS, in_axes=axes, devices=list(self.local), donate_argnums=donate
            )

        def one(*given):
            own = jax.tree.map(lambda a: a[0], given[:mapped])
            return jax.tree.map(lambda a: a[None], run(*own, *given[mapped:]))

        if self.spread == "shard_map":
            specs = (SPLIT,) * mapped + (SAME,) * shared
            # Zeros made inside would have to be marked as varying over the devices.
            spread = jax.shard_map(
                one, mesh=self._mesh, in_specs=specs, out_specs=SPLIT, check_vma=False
            )
            return jax.jit(spread, donate_argnums=donate)
        # Where walkers would be dropped as unused, so would the device that they are on.
        compiled = jax.jit(one, donate_argnums=donate, keep_unused=True)
        return _Each(compiled, self.local)

    def map(self, run: Callable, shared: int = 0) -> Callable:
        """Compile `run` for sharded arrays of walkers; the last `shared` arguments go to all.

        It may return an array or a NamedTuple of arrays.
        """
        each = self.each(run, 1, shared)
        return lambda walkers, *rest: self.join(each(self.split(walkers), *map(self.share, rest)))

    def total(self, counts):
        """Parts of integer counts (1, ...) -> Parts, each with their sum over all processes."""
        parts = counts if self.spread == "jit" else self._shards(counts)
        every = self._joined(parts, NamedSharding(self._everywhere, SPLIT))
        shards = self._shards(self._psum(every))
        return shards if self.spread == "jit" else self._joined(shards, self._sharding)

    @cached_property
    def _psum(self):
        summed = partial(jax.lax.psum, axis_name=AXIS)
        return jax.jit(
            jax.shard_map(
                summed, mesh=self._everywhere, in_specs=SPLIT, out_specs=SPLIT, check_vma=False
            )
        )

    @cached_property
    def _mesh(self) -> Mesh:
        return Mesh(np.array(self.local), (AXIS,))

    @cached_property
    def _everywhere(self) -> Mesh:
        """The devices of all processes, each of which uses as many as this one."""
        found = []
        for process in range(jax.process_count()):
            own = [device for device in jax.devices() if device.process_index == process]
            found += own[: len(self.local)]
        return Mesh(np.array(found), (AXIS,))

    @cached_property
    def _sharding(self) -> NamedSharding:
        return NamedSharding(self._mesh, SPLIT)

    def _shards(self, array) -> list:
        """What each local device holds, in their order."""
        held = {shard.device: shard.data for shard in array.addressable_shards}
        return [held[device] for device in self.local]

    def _joined(self, shards, sharding: NamedSharding):
        shape = (sharding.mesh.size * shards[0].shape[0], *shards[0].shape[1:])
        return jax.make_array_from_single_device_arrays(shape, sharding, list(shards))


class _Each:
    """A program that every device compiles and runs for itself, all at the same time."""

    def __init__(self, run: Callable, devices: tuple):
        self._run, self._devices, self._compiled = run, devices, False

    def __call__(self, *given):
        calls = [
            partial(self._run, *(arg[i] if isinstance(arg, list) else arg for arg in given))
            for i in range(len(self._devices))
        ]
        # JAX does not wait for the results.
        found = [call() for call in calls] if self._compiled else self._first(calls)
        several = type(found[0]) is tuple  # and not one NamedTuple
        return tuple(map(list, zip(*found, strict=True))) if several else found

    def _first(self, calls: list) -> list:
        self._run.trace(*calls[0].args)  # once, and not in each thread
        # A GPU finds its kernels by trying. The first puts what it found into JAX's cache, whose
        # keys name no GPU, so that the others take the same and round alike.
        alone = 0 if self._devices[0].platform == "cpu" else 1
        found = [call() for call in calls[:alone]]
        with ThreadPoolExecutor(len(calls)) as pool:
            found += pool.map(lambda call: call(), calls[alone:])
        self._compiled = True
        return found


def allgather(tree) -> Any:
    """Host arrays of each process -> those of all processes, joined along the first axis.

    All travel as one line of bytes: a collective of JAX costs about 10 ms, whatever it carries.
    """
    if jax.process_count() == 1:
        return tree
    leaves, structure = jax.tree.flatten(jax.tree.map(np.ascontiguousarray, tree))
    lines = [leaf.reshape(-1).view(np.uint8) for leaf in leaves]
    every = multihost_utils.process_allgather(np.concatenate(lines)[None], tiled=True)
    parts = np.split(np.asarray(every), np.cumsum([len(line) for line in lines])[:-1], axis=1)
    joined = [
        np.ascontiguousarray(part)
        .reshape(-1)
        .view(leaf.dtype)
        .reshape(len(every) * leaf.shape[0], *leaf.shape[1:])
        for part, leaf in zip(parts, leaves, strict=True)
    ]
    return structure.unflatten(joined)


def choose(tiles: int, count: int | None = None, spread: Spread = "jit") -> Devices:
    """Use as many local devices as divide the tiles evenly, or exactly `count` in each process.

    Raises:
        ValueError: there are fewer than `count` devices, the tiles do not divide among them and
            the processes, or there is no such way to spread.
    """
    if spread not in get_args(Spread):
        raise ValueError(f"spread must be one of {', '.join(get_args(Spread))}, but is {spread!r}.")
    processes, local = jax.process_count(), jax.local_devices()
    if tiles % processes:
        raise ValueError(
            f"{processes} processes are here, but {tiles} tiles of walkers cannot be shared evenly "
            "among them; change the number of processes, or walkers and tile (of umbrella windows "
            "groups, witnesses or copies)."
        )
    own = tiles // processes
    if count is None:
        count = max(n for n in range(1, len(local) + 1) if own % n == 0)
    if not 1 <= count <= len(local) or own % count:
        raise ValueError(
            f"{count} devices were asked for, but {len(local)} are here and {own} tiles of "
            "walkers must divide evenly among them; change devices, or walkers and tile (of "
            "umbrella windows groups, witnesses or copies)."
        )
    return Devices(tuple(local[:count]), tiles, spread)
