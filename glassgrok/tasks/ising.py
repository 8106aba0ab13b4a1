"""Lattices of the two-dimensional Ising model, to be told apart by their energy."""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

SWEEPS = 100  # of one cooling
TRIES = 50  # coolings at most


class Lattices(NamedTuple):
    """Labelled configurations of L x L spins.

    Attributes:
        spins: (n, L, L) int8, -1 or 1.
        energies: (n,) int32, E in units of the coupling.
        labels: (n,) int32, the energy interval of each, 0 for the lowest.
    """

    spins: np.ndarray
    energies: np.ndarray
    labels: np.ndarray

    @property
    def inputs(self) -> np.ndarray:
        """(n, L * L) float32, the spins as a network takes them."""
        return self.spins.reshape(len(self.spins), -1).astype(np.float32)


def energies(spins):
    """E = -sum of s_i s_j over nearest neighbours, periodic; Hutchison and Yevick (2025).

    Args:
        spins: (..., L, L) of -1 and 1, L at least 3.

    Returns:
        (...) int32.
    """
    bonds = sum(spins * np.roll(spins, 1, axis) for axis in (-2, -1))
    return -bonds.sum((-2, -1), dtype=np.int32)


def levels(size: int) -> np.ndarray:
    """The energies that the data cover: from one inverted spin up to 4, in steps of 4.

    Args:
        size: L.

    Returns:
        (k,) int64, ascending; -120 to 4 for L = 8.

    Raises:
        ValueError: size is below 3, where neighbours coincide.
    """
    if size < 3:
        raise ValueError(
            f"size is {size}, but a periodic lattice needs at least 3 spins a side; raise it."
        )
    return np.arange(8 - 2 * size**2, 5, 4)


def intervals(size: int, classes: int = 4) -> list[np.ndarray]:
    """The energies of each class, as equal in number as can be; Table 1 for 8 x 8 and four.

    Args:
        size: L.
        classes: number of intervals.

    Raises:
        ValueError: there are fewer energies than classes.
    """
    known = levels(size)
    if not 1 <= classes <= len(known):
        raise ValueError(
            f"{classes} classes of the {len(known)} energies of a lattice of {size} x {size} "
            "cannot be made; change classes or size."
        )
    return np.array_split(known, classes)


def labels_of(energy: np.ndarray, size: int, classes: int = 4) -> np.ndarray:
    """The class of each energy; what lies beyond either end belongs to the last one there.

    Args:
        energy: (n,) int.
        size: L.
        classes: number of intervals.

    Returns:
        (n,) int32.
    """
    tops = [part[-1] for part in intervals(size, classes)[:-1]]
    return np.searchsorted(tops, energy).astype(np.int32)


def neighbours(size: int) -> np.ndarray:
    """(4, L * L) int64: the sites around each site, row by row."""
    sites = np.arange(size**2).reshape(size, size)
    return np.stack([np.roll(sites, by, axis).ravel() for by in (1, -1) for axis in (0, 1)])


def colours(size: int) -> list[np.ndarray]:
    """Which sites may be updated at once: no two neighbours share a colour.

    Returns:
        Two or three arrays of sites; two, a checkerboard, where L is even.
    """
    line = np.arange(size) % 2
    if size % 2:
        line[-1] = 2
    many = 2 + size % 2
    colour = ((line[:, None] + line) % many).ravel()
    return [np.flatnonzero(colour == k) for k in range(many)]


def sweep(key, spins, beta):
    """Metropolis on all spins: each is proposed with probability 1/2 and flips with min(1, e^-βdE).

    The sites of one colour do not feel each other, so that each colour is a product of single
    flips, each in detailed balance. If all were proposed, all would flip together where beta is
    small, sweep after sweep.

    Args:
        key: a JAX key.
        spins: (L * L, n) int8. Sites come first: twenty times faster on a CPU.
        beta: (n,) or scalar, the inverse temperature of each lattice.

    Returns:
        (L * L, n) int8.
    """
    size = math.isqrt(len(spins))
    chance, around = jax.random.uniform(key, spins.shape), neighbours(size)
    beta = jnp.broadcast_to(jnp.float32(beta), spins.shape[1:])[None]
    for sites in colours(size):
        own, field = spins[sites], sum(spins[one[sites]] for one in around)
        rise = (2 * own * field).astype(jnp.float32)
        flip = 2 * chance[sites] < jnp.minimum(1.0, jnp.exp(-beta * rise))
        spins = spins.at[sites].set(jnp.where(flip, -own, own))
    return spins


def random_spins(key, count: int, size: int):
    """(L * L, count) int8, each spin by itself -1 or 1: infinite temperature."""
    return jax.random.rademacher(key, (size**2, count), jnp.int8)


def stacked(spins) -> np.ndarray:
    """(L * L, n) as (n, L, L)."""
    size = math.isqrt(len(spins))
    return np.ascontiguousarray(np.asarray(spins).T).reshape(-1, size, size)


@partial(jax.jit, static_argnames="size")
def _cool(key, targets, size: int):
    """Cool all lattices together, each until its energy is its target; start anew until all are.

    Among lattices in equilibrium those of one energy are equally likely whatever the temperature,
    so that stopping there takes a fair one.
    """
    count, right = len(targets), neighbours(size)[[0, 1]]
    # Down to where one inverted spin is more than is usual at this size.
    ladder = jnp.asarray(np.linspace(0, np.log(size**2) / 6, SWEEPS), jnp.float32)

    def missed(spins):
        bonds = sum(spins * spins[one] for one in right)
        return -bonds.sum(0, dtype=jnp.int32) != targets

    def going(state):
        time, _, waiting = state
        return (time < SWEEPS * TRIES) & waiting.any()

    def step(state):
        time, spins, waiting = state
        now = jax.random.fold_in(key, time)
        moved = jax.lax.cond(
            time % SWEEPS == 0,
            lambda: random_spins(now, count, size),
            lambda: sweep(now, spins, ladder[time % SWEEPS]),
        )
        spins = jnp.where(waiting, moved, spins)
        return time + 1, spins, waiting & missed(spins)

    start = jnp.zeros((size**2, count), jnp.int8), jnp.ones(count, bool)
    _, spins, waiting = jax.lax.while_loop(going, step, (jnp.int32(0), *start))
    return spins, waiting


def ising_lattices(size: int = 8, per_class: int = 1000, classes: int = 4, seed: int = 0):
    """Lattices with uniformly distributed energies in each class; Hutchison and Yevick (2025).

    Each begins at random spins and is cooled by Metropolis updates until it has the energy meant
    for it. The energies of a class are given out evenly.

    Args:
        size: L.
        per_class: lattices of each class.
        classes: number of energy intervals.
        seed: of everything random.

    Returns:
        Lattices, the classes one after the other.

    Raises:
        ValueError: size or classes cannot be, or some energy was never met.
    """
    parts = intervals(size, classes)
    if per_class < 1:
        raise ValueError(f"per_class must be at least 1, but is {per_class}; raise it.")
    targets = np.concatenate([np.sort(np.resize(part, per_class)) for part in parts])
    spins, waiting = _cool(jax.random.key(seed), np.int32(targets), size)
    if bool(waiting.any()):
        raise ValueError(
            f"{int(waiting.sum())} of {len(targets)} lattices of {size} x {size} spins did not "
            f"come to their energy in {TRIES} coolings; give a smaller size."
        )
    found = stacked(spins)
    return Lattices(found, energies(found), labels_of(targets, size, classes))


def inverted(lattices: Lattices, flips: int, classes: int = 4, seed: int = 0) -> Lattices:
    """The same lattices with `flips` spins of each inverted, labelled anew.

    Args:
        lattices: as `ising_lattices` returns.
        flips: different spins of each lattice that are inverted; 5 and 2 in the paper.
        classes: number of energy intervals.
        seed: of which spins.

    Raises:
        ValueError: there are not so many spins.
    """
    count, size = lattices.spins.shape[:2]
    if not 0 <= flips <= size**2:
        raise ValueError(
            f"flips must lie between 0 and {size**2}, the number of spins, but is {flips}."
        )
    first = np.arange(size**2) < flips
    chosen = np.random.default_rng(seed).permuted(np.tile(first, (count, 1)), axis=1)
    spins = np.where(chosen.reshape(lattices.spins.shape), -lattices.spins, lattices.spins)
    energy = energies(spins)
    return Lattices(spins, energy, labels_of(energy, size, classes))


def density_of_states(size: int) -> tuple[np.ndarray, np.ndarray]:
    """The exact number of configurations of each energy, site by site with a transfer matrix.

    Counts are kept for each first row up to rotations, mirror images and a flip of all spins.

    Args:
        size: L, 3 to 8: the numbers must fit into 64 bits.

    Returns:
        E from -2 L² in steps of 4, int64, and g(E), uint64, both (L² + 1,).

    Raises:
        ValueError: another size.
    """
    if not 3 <= size <= 8:
        raise ValueError(f"size must be 3 to 8, so that g(E) fits into 64 bits, but is {size}.")
    rows, bonds = np.arange(2**size), 2 * size**2
    bits = (rows[:, None] >> np.arange(size)) & 1
    first, copies = np.unique(_representatives(bits), return_counts=True)
    broken = (bits != np.roll(bits, 1, axis=1)).sum(1)
    # counts[first row, latest row, number of broken bonds]
    counts = np.zeros((len(first), len(rows), bonds + 1), np.uint64)
    counts[np.arange(len(first)), first, broken[first]] = copies
    for _ in range(size - 1):
        for site in range(size):
            counts = _next_site(counts, bits, site)
    total = np.zeros(bonds + 1, np.uint64)
    for start, part in zip(first, counts, strict=True):
        for row, seam in enumerate((bits != bits[start]).sum(1)):
            total[seam:] += part[row, : bonds + 1 - seam]
    return np.arange(-bonds, bonds + 1, 4), total[::2]


def _representatives(bits: np.ndarray) -> np.ndarray:
    """The smallest of all rows that a row becomes by symmetry."""
    size = bits.shape[1]
    weight = 1 << np.arange(size)
    turned = [np.roll(way, by, axis=1) for way in (bits, bits[:, ::-1]) for by in range(size)]
    return np.min([[row @ weight, (1 - row) @ weight] for row in turned], axis=(0, 1))


def _next_site(counts: np.ndarray, bits: np.ndarray, site: int) -> np.ndarray:
    """Replace the spin of a column by that of the next row, and count the bonds it breaks."""
    size, grown = bits.shape[1], np.zeros_like(counts)
    for row in range(len(bits)):
        for old in (0, 1):
            above = (row & ~(1 << site)) | (old << site)
            more = int(old != bits[row, site])
            if site > 0:
                more += int(bits[row, site] != bits[row, site - 1])
            if site == size - 1:
                more += int(bits[row, site] != bits[row, 0])
            grown[:, row, more:] += counts[:, above, : counts.shape[2] - more]
    return grown
