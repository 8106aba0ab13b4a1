"""What laying windows and sampling them share: compiled programs, and walkers that are held."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from glassgrok.domains import Free
from glassgrok.engine import devices as engine_devices
from glassgrok.engine import restrained
from glassgrok.engine.devices import Devices
from glassgrok.engine.flat import FlatSystem, examine, flatten
from glassgrok.engine.probes import survey
from glassgrok.engine.restrained import Restraint
from glassgrok.engine.walkers import Walkers
from glassgrok.grid import Grid
from glassgrok.sampling.config import UmbrellaConfig
from glassgrok.sampling.starts import points_of
from glassgrok.system import System

LOST = 0.1  # share of the walkers that may become NaN in one stretch
PROBED = 16  # walkers whose stiffness decides dt


class Apparatus(NamedTuple):
    """What is sampled and how, with its programs.

    Attributes:
        flat, grid, config: the system, the bins and how.
        devices: how tiles of walkers are spread.
        run: a block of steps of walkers; see `restrained.stretch`.
        look: positions -> collective variables.
        stiffness: see `restrained.stiffness`.
        balance, shares: see `restrained.balance` and `restrained.shares`.
        draw: (n, m) keys -> (n, m, D) uniform points of the domain.
        starts: (name, (D,) point) of trained points.
    """

    flat: FlatSystem
    grid: Grid
    config: UmbrellaConfig
    devices: Devices
    run: Callable
    look: Callable
    stiffness: Callable
    balance: Callable
    shares: Callable
    draw: Callable
    starts: tuple[tuple[str, np.ndarray], ...]

    def group_starts(self) -> tuple[str, ...]:
        """What each group starts from: random points, then each trained start."""
        names = (name for name, _ in self.starts)
        return ("random",) * self.config.groups + tuple(
            name for name in names for _ in range(self.config.witnesses)
        )

    def walker_starts(self) -> tuple[str, ...]:
        """What each of the M walkers of a window starts from; those of a group side by side."""
        return tuple(name for name in self.group_starts() for _ in range(self.config.copies))

    def trained(self) -> np.ndarray:
        """(M,) whether a walker is a witness, that starts from a trained point."""
        return np.array(self.walker_starts()) != "random"


def build(
    system: System,
    grid: Grid,
    config: UmbrellaConfig,
    key,
    starts: dict[str, Any] | None = None,
    devices: int | None = None,
    spread: engine_devices.Spread = "jit",
) -> Apparatus:
    """Prepare.

    Args:
        system, grid, config: what to sample, where and how.
        key: a JAX key, for the shapes of the parameters only.
        starts: name -> params of trained points that groups of witnesses start from.
        devices: number of devices, or None for as many as divide the walkers of a window.
        spread: how they share the work; see `Devices`.

    Raises:
        ValueError: the domain has no uniform measure, or the system cannot be sampled.
    """
    if isinstance(system.domain, Free):
        raise ValueError(
            "Free space has no uniform measure that S could be a fraction of; give the system a "
            "Box or a Shell."
        )
    flat = flatten(system, grid, key)
    walkers = (config.groups + config.witnesses * len(starts or {})) * config.copies
    chosen = engine_devices.choose(walkers, devices, spread)

    stretch = restrained.stretch(flat, config.block, config.friction, config.every)
    example = np.zeros(flat.size, np.float32)
    draw = jax.vmap(lambda key: flat.domain.draw(key, example))
    return Apparatus(
        flat=flat,
        grid=grid,
        config=config,
        devices=chosen,
        run=chosen.each(stretch, mapped=2, shared=1, donate=(0,)),
        look=chosen.map(restrained.look(flat)),
        stiffness=restrained.stiffness(flat),
        balance=chosen.each(restrained.balance(flat), mapped=2, shared=2),
        shares=chosen.map(restrained.shares(flat)),
        draw=jax.jit(lambda keys: jax.lax.map(draw, keys)),
        starts=points_of(flat, starts),
    )


def uniform_points(apparatus: Apparatus, count: int, key) -> np.ndarray:
    """(M, count, D) points of the domain."""
    walkers = len(apparatus.walker_starts())
    return np.asarray(apparatus.draw(jax.random.split(key, (walkers, count))))


def uniform_values(apparatus: Apparatus, key) -> np.ndarray:
    """(draws, axes) collective variables at uniform points of the domain.

    Raises:
        ValueError: they are mostly not finite, or do not vary, or have no gradient.
    """
    config, found, walkers = apparatus.config, [], len(apparatus.walker_starts())
    each = min(32, -(-config.draws // walkers))
    examined = apparatus.devices.map(survey(apparatus.flat))
    for k, part in enumerate(jax.random.split(key, -(-config.draws // (each * walkers)))):
        points = apparatus.devices.scatter(uniform_points(apparatus, each, part))
        if k == 0:
            seen = apparatus.devices.gather(examined(points))
            examine(apparatus.grid, *(a.reshape(-1, a.shape[-1]) for a in seen))
        found.append(apparatus.devices.gather(apparatus.look(points)))
    values = np.concatenate(found, axis=1).astype(np.float64)
    values = values.reshape(-1, values.shape[-1])
    asked, values = len(values), values[np.isfinite(values).all(axis=1)]
    if len(values) < asked / 2 or not np.ptp(values[:, 0]) > 0:
        raise ValueError(
            f"{len(values)} of {asked} random points of the domain have a finite "
            f"{apparatus.grid.axes[0].name}, and it must differ between them; correct observe, or "
            "the domain."
        )
    return values


def at_rest(flat: FlatSystem, position: np.ndarray, key) -> Walkers:
    """Walkers (tiles, tile) at positions, with thermal velocities and streams of noise."""
    size = position.shape[-1]
    velocity, noise = jax.random.split(key)

    @jax.jit
    def thrown(positions, keys):
        def one(x, key):
            return flat.domain.tangent(x, jax.random.normal(key, x.shape))

        return jax.lax.map(lambda each: one(*each), (positions, keys))

    points = position.reshape(-1, size)
    v = np.asarray(thrown(points, jax.random.split(velocity, len(points))))
    streams = np.asarray(jax.random.key_data(jax.random.split(noise, len(points))))
    shape = position.shape[:2]
    return Walkers(position, v.reshape(position.shape), streams.reshape(*shape, -1))


def time_step(apparatus: Apparatus, position: np.ndarray, restraint: Restraint, step: int) -> float:
    """dt at some walkers, (groups, n, D), under their restraints; infinite where w is flat."""
    count = position.shape[0] * position.shape[1]
    chosen = np.linspace(0, count - 1, min(count, PROBED)).round().astype(int)
    # Of other groups each time: the last axis of the two is that of columns.
    chosen = (chosen + step * position.shape[1]) % count
    flat = [np.reshape(a, (count, *np.shape(a)[2:]))[chosen] for a in (position, *restraint)]
    sizes = apparatus.stiffness(flat[0], Restraint(*flat[1:]), jax.random.key(step))
    # The first process's: what each found for itself might be rounded otherwise, and dt with it.
    sizes = engine_devices.allgather(np.asarray(sizes)[None])[0]
    if not np.isfinite(sizes).any():
        raise FloatingPointError(
            f"The forces on all walkers near u = {restraint.center.ravel()[0]:.3g} are not finite, "
            "so that no time step is small enough; set a smaller rigidity, or correct observe."
        )
    largest = np.max(sizes, where=np.isfinite(sizes), initial=0.0)
    return apparatus.config.omega_dt / np.sqrt(largest) if largest > 0 else np.inf


def hold(apparatus: Apparatus, walkers: Walkers, restraint: Restraint, steps: int, step: int):
    """As `lead`, under the same restraints for so many steps, rounded up to blocks."""
    return lead(apparatus, walkers, [restraint] * -(-steps // apparatus.config.block), step)


def lead(apparatus: Apparatus, walkers: Walkers, restraints: list[Restraint], step: int):
    """A block under each of some restraints: (host walkers, values (groups, steps, n, axes), step).

    The walkers stay on their devices till the end. Those that were lost then begin again where
    another of their group is.
    """
    config, shape = apparatus.config, walkers.position.shape[:2]
    devices, tile = spread_out(apparatus, shape[0] * shape[1])
    parts = devices.split(devices.scatter(tiled(walkers, devices, tile)))
    last, seen = None, []
    for restraint in restraints:
        if restraint is not last:
            last, held = restraint, devices.split(devices.scatter(tiled(restraint, devices, tile)))
        parts, values = apparatus.run(parts, held, np.int32(step))
        seen.append(devices.join(values))
        step += config.block
    host, seen = devices.gather((devices.join(parts), seen))
    host, values = untiled((host, np.moveaxis(np.concatenate(seen, axis=1), 2, 1)), shape)
    values = np.moveaxis(values, 1, 2)[..., : len(apparatus.grid.axes)]
    healthy = np.isfinite(values).all(axis=(1, 3))
    if not healthy.all():
        stop_where_too_many_are_lost(healthy, restraint)
        host = _replaced(host, healthy)
    return host, values, step


def spread_out(apparatus: Apparatus, count: int) -> tuple[Devices, int]:
    """Devices for so many walkers, and how many of them are in a tile."""
    chosen, tile = apparatus.devices, min(apparatus.config.tile, count)
    devices = len(chosen.local) * jax.process_count()
    return Devices(chosen.local, -(-count // (tile * devices)) * devices, chosen.spread), tile


def tiled(tree, devices: Devices, tile: int):
    """(m, n, ...) -> (tiles, tile, ...); the last tiles hold walkers once more, to fill devices."""
    shape = devices.tiles, tile

    def one(array):
        flat = array.reshape(-1, *array.shape[2:])
        return flat[np.arange(np.prod(shape)) % len(flat)].reshape(*shape, *flat.shape[1:])

    return jax.tree.map(one, tree)


def untiled(tree, shape: tuple[int, int]):
    """(tiles, tile, ...) -> (m, n, ...)."""

    def one(array):
        flat = array.reshape(-1, *array.shape[2:])
        return flat[: shape[0] * shape[1]].reshape(*shape, *flat.shape[1:])

    return jax.tree.map(one, tree)


def _replaced(host: Walkers, healthy: np.ndarray) -> Walkers:
    position, velocity = host.position.copy(), host.velocity.copy()
    for group, walker in np.argwhere(~healthy):
        near = np.argwhere(healthy)
        near = near[near[:, 0] == group] if healthy[group].any() else near
        donor = tuple(near[np.argmin(np.abs(near[:, 1] - walker))])
        position[group, walker], velocity[group, walker] = (
            host.position[donor],
            -host.velocity[donor],
        )
    return host._replace(position=position, velocity=velocity)


def stop_where_too_many_are_lost(healthy: np.ndarray, restraint: Restraint) -> None:
    """One walker in a long run may break; many at once have a cause that goes on."""
    lost = ~healthy
    if lost.sum() > max(1, LOST * lost.size):
        place = tuple(np.argwhere(lost)[0])
        raise FloatingPointError(
            f"{lost.sum()} of {lost.size} walkers became NaN, one of them near u = "
            f"{restraint.center[place][0]:.3g} with a time step of {restraint.dt[place]:.3g}; set "
            "a smaller omega_dt."
        )
