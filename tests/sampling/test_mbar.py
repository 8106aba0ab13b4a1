"""Multistate reweighting, against a system whose every free energy is known."""

import numpy as np
import pytest

from glassgrok.sampling.mbar import Histograms, free_energies, log_weights, overlaps

BETA = np.array([0.0, 1.0, 3.0, 10.0, 30.0])
EDGES = np.linspace(0.0, 1.0, 401)
X = (EDGES[1:] + EDGES[:-1]) / 2


def exact_log_z(beta):
    """Of w = beta x on a uniform x in [0, 1]."""
    hot = np.where(beta > 0, beta, 1.0)
    return np.where(beta > 0, np.log(-np.expm1(-hot) / hot), 0.0)


def drawn(counts, seed=0, beta=BETA) -> Histograms:
    random = np.random.default_rng(seed)
    rows = []
    for b, n in zip(beta, counts, strict=True):
        y = random.random(n)
        x = y if b == 0 else -np.log1p(y * np.expm1(-b)) / b
        rows.append(np.histogram(x, EDGES)[0])
    return Histograms(np.array(rows), beta[:, None] * X)


def test_free_energies_are_those_of_the_integrals():
    found = [-free_energies(drawn([2000] * 5, seed)) for seed in range(30)]
    off = np.mean(found, axis=0) - exact_log_z(BETA)
    error = np.std(found, axis=0) / np.sqrt(30)
    assert off[0] == 0
    assert (np.abs(off[1:]) < 4 * error[1:]).all()
    assert error[-1] < 0.01


def test_ensembles_may_have_few_or_many_samples():
    f = free_energies(drawn([300, 20_000, 500, 4000, 1000]))
    np.testing.assert_allclose(-f, exact_log_z(BETA), atol=0.2)
    # A sample's weights add up to the whole of the first, uniform one.
    found = drawn([300, 20_000, 500, 4000, 1000])
    weight = np.exp(log_weights(found, f))
    assert (weight * found.counts.sum(axis=0)).sum() == pytest.approx(1, abs=1e-6)


def test_a_guess_far_off_ends_at_the_same():
    found = drawn([2000] * 5)
    far = free_energies(found, np.array([0.0, 30.0, -50.0, 200.0, 10.0]))
    np.testing.assert_allclose(far, free_energies(found), atol=1e-6)


def test_thousands_of_nats_do_not_overflow():
    found = drawn([2000] * 5)
    high = found._replace(potential=found.potential + 5000 * np.arange(5)[:, None])
    np.testing.assert_allclose(
        free_energies(high) - 5000 * np.arange(5), free_energies(found), atol=1e-5
    )


def test_the_overlap_is_half_for_the_same_and_nothing_for_the_distant():
    beta = np.array([0.0, 0.0, 1.0, 2000.0])
    found = drawn([5000] * 4, beta=beta)
    seen = overlaps(found, -exact_log_z(beta))
    assert seen[0] == pytest.approx(0.5)
    assert 0.4 < seen[1] < 0.5
    assert seen[2] < 0.03


def test_an_ensemble_without_samples_is_refused():
    found = drawn([2000] * 5)
    found.counts[2] = 0
    with pytest.raises(ValueError, match="Ensemble 2 of 5 has no samples"):
        free_energies(found)
