"""A block of steps on all devices: stretches of steps, and between them sums of the visits."""

from collections.abc import Callable

import numpy as np

from glassgrok.engine.devices import Devices
from glassgrok.engine.flat import FlatSystem
from glassgrok.engine.walkers import Drive, Samples, Walkers, stretch
from glassgrok.grid import Grid


def block(
    devices: Devices,
    flat: FlatSystem,
    grid: Grid,
    integrator: str,
    size: tuple[int, int],
    steps: int,
    sync: int,
) -> Callable:
    """Compile a block.

    While V grows, the visits of all devices are summed (psum of int32) every `sync` steps and V
    grows by them; a frozen V needs no sum, and the block is one stretch. The host only hands out
    work: it does not wait before the block is done.

    Args:
        devices: where the walkers are.
        flat, grid, integrator: as `walkers.stretch` takes them.
        size: (tiles, tile), of all walkers.
        steps: of the block, a multiple of sync.
        sync: steps between two sums.

    Returns:
        (walkers, drive, start) -> (walkers, samples): walkers sharded, those given are used up;
        start the global step; samples of all walkers as host arrays.
    """
    run = devices.each(stretch(flat, grid, integrator), mapped=3, shared=4, donate=(0, 1))
    samples = Samples.empty(flat, grid, (size[0], steps, size[1]))
    nothing = np.zeros((len(devices.local), grid.size), np.int32)

    def go(walkers: Walkers, drive: Drive, start: int) -> tuple[Walkers, Samples]:
        length = sync if drive.deposit > 0 else steps
        parts, room = devices.split(walkers), devices.split(devices.scatter(samples))
        visits, shared = devices.place(nothing), devices.share(drive)
        for done in range(0, steps, length):
            parts, room, counts = run(
                parts, room, visits, shared, np.int32(start), np.int32(done), np.int32(length)
            )
            if done + length < steps:
                visits = devices.total(counts)
        return devices.join(parts), devices.gather(devices.join(room))

    return go
