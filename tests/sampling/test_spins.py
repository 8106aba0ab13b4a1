"""Wang-Landau on the Ising lattice against its exact g(E)."""

import numpy as np
import pytest

from glassgrok.sampling.spins import deviation, normalised, wang_landau_spins
from glassgrok.tasks.ising import density_of_states


def test_wang_landau_finds_the_density_of_states_of_8x8():
    energies, counts = density_of_states(8)
    found = wang_landau_spins(flips=10_000_000, seed=1)
    np.testing.assert_array_equal(found.energies, energies)
    assert found.visits.sum() == found.flips[-1] >= 10_000_000
    np.testing.assert_array_equal(np.isfinite(found.entropy), counts > 0)
    assert deviation(found.entropy, counts) < 0.04
    # The first look after the fill, where f has not fallen yet, is much worse.
    first = found.history[np.searchsorted(found.flips, found.filled)]
    assert deviation(first, counts) > 0.2
    # Absolute, as all levels together are all configurations.
    ground = found.entropy[0] - np.log(2)
    assert abs(ground) < 0.15


def test_levels_that_nobody_reached_have_no_entropy():
    table = normalised(np.array([1.0, 5.0, 1.0]), np.array([3, 0, 3]), 3)
    np.testing.assert_allclose(table, [8 * np.log(2), np.nan, 8 * np.log(2)])
    assert np.isnan(deviation(table, np.array([1, 1, 1], np.uint64)))


def test_too_few_flips_are_refused():
    with pytest.raises(ValueError, match="make 500 steps each, but Wang-Landau needs"):
        wang_landau_spins(flips=100, walkers=10)
