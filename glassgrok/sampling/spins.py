"""Wang-Landau on a spin lattice, whose g(E) is known exactly: the schedule put to the test."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from glassgrok.sampling.wang_landau import Fill, Schedule
from glassgrok.tasks.ising import energies, neighbours, random_spins, stacked

BLOCK = 500  # steps between two returns to the host, where S is summed in float64
FILL = 0.05  # share of the steps that the fill takes, at least
STEPS = 1000  # of each walker, at least


class SpinLandscape(NamedTuple):
    """What Wang-Landau found.

    Attributes:
        energies: (k,) int64, E of the levels, from -2 L² in steps of 4.
        entropy: (k,) float64, ln g(E), normalised to 2^(L²) configurations in all; NaN where no
            walker came.
        visits: (k,) int64.
        flips: (c,) int64, attempted flips of all walkers together at some times.
        history: (c, k) float64, the entropy at those times.
        filled: attempted flips when the fill ended.
    """

    energies: np.ndarray
    entropy: np.ndarray
    visits: np.ndarray
    flips: np.ndarray
    history: np.ndarray
    filled: int


def _block(key, spins, bins, table, factors):
    """BLOCK single flips of each walker in the shared V = table, which grows on the way.

    Args:
        key: a JAX key.
        spins: (L * L, W) int8.
        bins: (W,) int32, the level of each walker.
        table: (k,) float32, S so far.
        factors: (BLOCK,) float32, nats that one visit adds at each step.

    Returns:
        spins, bins, what was added to S (k,) and the visits (k,) int32.
    """
    sites, walkers = spins.shape
    around, lanes = jnp.asarray(neighbours(int(sites**0.5))), jnp.arange(walkers)
    where, luck = jax.random.split(key)
    chosen = jax.random.randint(where, (BLOCK, walkers), 0, sites)
    # ln u of the acceptance; 1 - u is never 0.
    allowed = jnp.log1p(-jax.random.uniform(luck, (BLOCK, walkers)))

    def step(state, now):
        spins, bins, added, visits = state
        site, limit, factor = now
        own = spins[site, lanes]
        field = sum(spins[one[site], lanes] for one in around)
        # dE = 2 s h is a multiple of 4, the distance of the levels.
        target = bins + (own * field).astype(jnp.int32) // 2
        # What is added in a block is small, and summed apart so that float32 loses none of it.
        rise = (table[target] - table[bins]) + (added[target] - added[bins])
        flip = limit < -rise
        spins = spins.at[site, lanes].set(jnp.where(flip, -own, own))
        bins = jnp.where(flip, target, bins)
        seen = jnp.zeros_like(visits).at[bins].add(1)
        return (spins, bins, added + factor * seen.astype(jnp.float32), visits + seen), None

    start = spins, bins, jnp.zeros_like(table), jnp.zeros(table.shape, jnp.int32)
    return jax.lax.scan(step, start, (chosen, allowed, factors))[0]


def wang_landau_spins(
    size: int = 8, flips: int = 10_000_000, walkers: int = 64, seed: int = 0, records: int = 20
) -> SpinLandscape:
    """ln g(E) of the L x L Ising model from walkers that share one S.

    A visit adds f / walkers: f = 1 nat until the grid is filled (`Fill`), then f decays as k / t,
    where k is the number of levels (Belardinelli and Pereyra, 2007); `Schedule` for both.

    Args:
        size: L.
        flips: attempted single flips of all walkers together.
        walkers: how many share S.
        seed: of everything random.
        records: how many times the entropy is kept, evenly in ln(flips).

    Returns:
        A SpinLandscape.

    Raises:
        ValueError: too few flips.
    """
    steps = -(-flips // (walkers * BLOCK)) * BLOCK
    if walkers < 1 or steps < STEPS:
        raise ValueError(
            f"{flips} flips of {walkers} walkers make {steps} steps each, but Wang-Landau needs "
            f"at least {STEPS}; raise flips or lower walkers."
        )
    start, run = jax.random.split(jax.random.key(seed))
    spins = random_spins(start, walkers, size)
    levels = np.arange(-2 * size**2, 2 * size**2 + 1, 4)
    bins = jnp.asarray((energies(stacked(spins)) + 2 * size**2) // 4, jnp.int32)
    table, visits = np.zeros(len(levels)), np.zeros(len(levels), np.int64)
    fill, advance, known = Fill.begin(0, table.shape), jax.jit(_block), {}
    kept = set(np.unique(np.geomspace(STEPS, steps, records) // BLOCK * BLOCK).astype(int))
    for step in range(0, steps, BLOCK):
        ended = np.inf if fill.ended < 0 else fill.ended
        schedule = Schedule(f0=1.0, t_rise=0, t_fall=ended, t_decay=len(levels))
        factors = [schedule(t) / walkers for t in range(step, step + BLOCK)]
        key = jax.random.fold_in(run, step)
        spins, bins, added, seen = advance(
            key, spins, bins, jnp.float32(table - table.max()), jnp.float32(factors)
        )
        table, seen = table + np.asarray(added, np.float64), np.asarray(seen, np.int64)
        visits += seen
        now = step + BLOCK
        fill = fill.watch(now, seen, np.ones(table.shape, bool), FILL * steps, 0.5)
        if now in kept:
            known[now] = normalised(table, visits, size)
    return SpinLandscape(
        energies=levels,
        entropy=normalised(table, visits, size),
        visits=visits,
        flips=walkers * np.array(list(known)),
        history=np.array(list(known.values())),
        filled=walkers * fill.ended,
    )


def normalised(table: np.ndarray, visits: np.ndarray, size: int) -> np.ndarray:
    """S shifted so that all levels together hold 2^(L²) configurations; NaN where none came."""
    table = np.where(visits > 0, table, -np.inf)
    shift = size**2 * np.log(2) - np.logaddexp.reduce(table)
    return np.where(visits > 0, table + shift, np.nan)


def deviation(entropy: np.ndarray, counts: np.ndarray) -> float:
    """RMS of ln g over the levels that exist, with their mean aligned, in nats.

    Args:
        entropy: (k,) as `SpinLandscape.entropy`.
        counts: (k,) g(E) as `density_of_states` gives it.

    Returns:
        The RMS; NaN where a level that exists was never visited.
    """
    there = counts > 0
    return float(np.std(entropy[there] - np.log(counts[there].astype(np.float64))))
