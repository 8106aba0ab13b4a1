"""Ising lattices: Metropolis against exact g(E), the energies of Table 1, inverted spins."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from glassgrok.tasks import ising

# Beale (1996): the lowest levels, and E = 0, of 8 x 8 spins.
BEALE = {-128: 2, -124: 0, -120: 128, -116: 256, -112: 4672, -108: 17920, 0: 2627978003957146636}


def in_equilibrium(size, beta, lattices=4000, sweeps=100):
    """(n, L, L) after so many sweeps from random spins."""

    def step(spins, key):
        return ising.sweep(key, spins, beta), None

    start, run = jax.random.split(jax.random.key(0))
    spins = ising.random_spins(start, lattices, size)
    keys = jax.random.split(run, sweeps)
    return ising.stacked(jax.jit(lambda s: jax.lax.scan(step, s, keys)[0])(spins))


def p_value(seen, chance):
    """Of chi squared over the levels where at least ten are expected, the rest put together."""
    expected = seen.sum() * chance / chance.sum()
    often = expected > 10
    told, wanted = (np.append(x[often], x[~often].sum()) for x in (seen, expected))
    return stats.chisquare(told[wanted > 0], wanted[wanted > 0]).pvalue


def weights(energies, counts, beta):
    lowered = -beta * (energies - energies.min())
    return counts.astype(float) * np.exp(lowered)


def test_density_of_states_of_8x8_is_beales():
    energies, counts = ising.density_of_states(8)
    found = dict(zip(energies.tolist(), counts.tolist(), strict=True))
    assert {e: found[e] for e in BEALE} == BEALE
    assert sum(found.values()) == 2**64
    np.testing.assert_array_equal(counts, counts[::-1])


@pytest.mark.parametrize("size", [3, 4])
def test_density_of_states_is_what_enumeration_gives(size):
    spins = np.array(list(product((-1, 1), repeat=size**2)), np.int8).reshape(-1, size, size)
    found, counts = np.unique(ising.energies(spins), return_counts=True)
    energies, exact = ising.density_of_states(size)
    np.testing.assert_array_equal(energies[exact > 0], found)
    np.testing.assert_array_equal(exact[exact > 0], counts)


@pytest.mark.parametrize(("size", "beta"), [(4, 0.3), (5, 0.35), (8, 0.4)])
def test_metropolis_reaches_the_gibbs_measure(size, beta):
    energies, counts = ising.density_of_states(size)
    seen = ising.energies(in_equilibrium(size, beta))
    chance = weights(energies, counts, beta)
    mean = (chance * energies).sum() / chance.sum()
    spread = np.sqrt((chance * (energies - mean) ** 2).sum() / chance.sum())
    assert abs(seen.mean() - mean) < 4 * spread / np.sqrt(len(seen))
    histogram = (seen[:, None] == energies).sum(0)
    assert p_value(histogram, chance) > 1e-4
    assert p_value(histogram, weights(energies, counts, 1.1 * beta)) < 1e-6  # control


@pytest.mark.parametrize("size", [4, 5, 8])
def test_no_two_sites_of_a_colour_are_neighbours(size):
    around, groups = ising.neighbours(size), ising.colours(size)
    np.testing.assert_array_equal(np.sort(np.concatenate(groups)), np.arange(size**2))
    for sites in groups:
        assert not np.isin(around[:, sites], sites).any()


def test_training_lattices_are_those_of_table_1():
    found = ising.ising_lattices(seed=3)
    ends = [(part[0], part[-1]) for part in ising.intervals(8)]
    assert ends == [(-120, -92), (-88, -60), (-56, -28), (-24, 4)]
    levels, counts = np.unique(found.energies, return_counts=True)
    np.testing.assert_array_equal(levels, ising.levels(8))
    assert set(counts) == {125}
    np.testing.assert_array_equal(found.energies, ising.energies(found.spins))
    np.testing.assert_array_equal(np.bincount(found.labels), [1000] * 4)
    assert found.inputs.shape == (4000, 64)


def test_lattices_of_one_energy_are_equally_likely():
    # The magnetisations of 4 x 4 lattices of each energy, against all 65,536 of them.
    spins = np.array(list(product((-1, 1), repeat=16)), np.int8)
    energy, magnet = ising.energies(spins.reshape(-1, 4, 4)), np.abs(spins.sum(1))
    found = ising.ising_lattices(4, per_class=4000)
    seen = np.abs(found.spins.sum((1, 2)))
    values = []
    for level in ising.levels(4):
        chance = np.bincount(magnet[energy == level], minlength=17)
        observed = np.bincount(seen[found.energies == level], minlength=17)
        assert not observed[chance == 0].any()
        if (chance > 0).sum() > 1:
            values.append(p_value(observed[chance > 0], chance[chance > 0]))
    assert min(values) > 1e-3 / len(values)


def test_inverted_lattices_are_labelled_anew():
    found = ising.ising_lattices(4, per_class=500)
    assert not np.array_equal(found.spins, ising.ising_lattices(4, per_class=500, seed=1).spins)
    changed = ising.inverted(found, 3, seed=1)
    np.testing.assert_array_equal((changed.spins != found.spins).sum((1, 2)), 3)
    np.testing.assert_array_equal(changed.energies, ising.energies(changed.spins))
    np.testing.assert_array_equal(changed.labels, ising.labels_of(changed.energies, 4))
    same = ising.inverted(found, 0)
    np.testing.assert_array_equal(same.spins, found.spins)
    np.testing.assert_array_equal(same.labels, found.labels)


def test_energies_beyond_the_ends_belong_to_the_last_classes():
    energies = np.array([-128, -120, -92, -88, -60, -56, -28, -24, 4, 128])
    np.testing.assert_array_equal(ising.labels_of(energies, 8), [0, 0, 0, 1, 1, 2, 2, 3, 3, 3])


def test_what_cannot_be_is_refused(monkeypatch):
    with pytest.raises(ValueError, match="size is 2, but a periodic lattice needs at least 3"):
        ising.ising_lattices(2)
    with pytest.raises(ValueError, match="9 classes of the 8 energies of a lattice of 4 x 4"):
        ising.intervals(4, 9)
    with pytest.raises(ValueError, match="per_class must be at least 1, but is 0"):
        ising.ising_lattices(4, per_class=0)
    with pytest.raises(ValueError, match="between 0 and 16, the number of spins, but is 17"):
        ising.inverted(ising.Lattices(np.ones((1, 4, 4), np.int8), None, None), 17)
    with pytest.raises(ValueError, match="size must be 3 to 8"):
        ising.density_of_states(9)
    monkeypatch.setattr(ising, "levels", lambda size: np.array([-31, -29, -27, -25]))  # odd: none
    monkeypatch.setattr(ising, "TRIES", 1)
    with pytest.raises(ValueError, match="8 of 8 lattices of 4 x 4 spins did not come"):
        ising.ising_lattices(4, per_class=2)


def test_cold_spins_stay_aligned():
    spins = jnp.ones((16, 3), jnp.int8)
    np.testing.assert_array_equal(ising.sweep(jax.random.key(0), spins, 100.0), spins)
