"""Multistate reweighting, against a system whose every free energy is known."""

from typing import NamedTuple

import numpy as np
import pytest
from scipy.optimize import root
from scipy.special import logsumexp, softmax

from glassgrok.sampling.mbar import Counts, nearby, overlaps, solve, solve_again

BETA = np.array([0.0, 1.0, 3.0, 10.0, 30.0])
EDGES = np.linspace(0.0, 1.0, 401)
X = (EDGES[1:] + EDGES[:-1]) / 2


class Drawn(NamedTuple):
    counts: np.ndarray  # (K, n) of each ensemble
    potential: np.ndarray  # (K, n)

    def found(self) -> Counts:
        kept = self.counts.sum(axis=0) > 0
        potential = self.potential[:, kept]
        size = self.counts.sum(axis=1)
        return Counts(self.counts.sum(axis=0)[kept], size, lambda part: potential[part])


def exact_log_z(beta):
    """Of w = beta x on a uniform x in [0, 1]."""
    hot = np.where(beta > 0, beta, 1.0)
    return np.where(beta > 0, np.log(-np.expm1(-hot) / hot), 0.0)


def drawn(counts, seed=0, beta=BETA) -> Drawn:
    random = np.random.default_rng(seed)
    rows = []
    for b, n in zip(beta, counts, strict=True):
        y = random.random(n)
        x = y if b == 0 else -np.log1p(y * np.expm1(-b)) / b
        rows.append(np.histogram(x, EDGES)[0])
    return Drawn(np.array(rows), beta[:, None] * X)


def free_energies(samples: Drawn, guess=None) -> np.ndarray:
    return solve(samples.found(), np.zeros(len(samples.counts)) if guess is None else guess).f


def test_free_energies_are_those_of_the_integrals():
    found = [-free_energies(drawn([2000] * 5, seed)) for seed in range(30)]
    off = np.mean(found, axis=0) - exact_log_z(BETA)
    error = np.std(found, axis=0) / np.sqrt(30)
    assert off[0] == 0
    assert (np.abs(off[1:]) < 4 * error[1:]).all()
    assert error[-1] < 0.01


def test_ensembles_may_have_few_or_many_samples():
    found = drawn([300, 20_000, 500, 4000, 1000]).found()
    solved = solve(found, np.zeros(5))
    np.testing.assert_allclose(-solved.f, exact_log_z(BETA), atol=0.2)
    # The weights of all samples add up to the whole of the first, uniform one.
    assert (np.exp(solved.log_weight) * found.total).sum() == pytest.approx(1, abs=1e-6)
    # Each sample comes from one of the ensembles, and as many from each as it has.
    np.testing.assert_allclose(solved.shares().sum(axis=0), 1, atol=1e-9)
    np.testing.assert_allclose(solved.shares() @ found.total, found.size, rtol=1e-5)


def test_a_guess_far_off_ends_at_the_same():
    samples = drawn([2000] * 5)
    far = free_energies(samples, np.array([0.0, 30.0, -50.0, 200.0, 10.0]))
    np.testing.assert_allclose(far, free_energies(samples), atol=1e-6)


SLOPE = 200.0  # of S along u: it holds the windows' samples 33 nats above their lowest w


def windows_in_a_plane(seed=0, samples=400) -> Drawn:
    """A grid of windows and the uniform measure, on cells of a plane where S is steep."""
    random = np.random.default_rng(seed)
    middle = (np.arange(45) + 0.5) / 45
    u, a = (axis.ravel() for axis in np.meshgrid(middle, middle, indexing="ij"))
    at = np.array([(x, y) for x in np.linspace(-0.3, 0.7, 11) for y in np.linspace(0, 1, 7)])
    w = 300 * (u - at[:, :1]) ** 2 + 150 * (a - at[:, 1:]) ** 2
    w = np.concatenate([np.zeros((1, len(u))), w])
    chance = softmax(SLOPE * u - w, axis=1)
    return Drawn(np.array([random.multinomial(samples, p) for p in chance]), w)


def smallest(samples: Drawn) -> np.ndarray:
    """f where the gradient is 0, with every entry of every cell, from the exact f."""
    counts, size, w = samples.counts.sum(axis=0), samples.counts.sum(axis=1), samples.potential
    log = SLOPE * np.repeat((np.arange(45) + 0.5) / 45, 45)

    def gradient(f):
        share = softmax(np.log(size)[:, None] + np.append(0.0, f)[:, None] - w, axis=0)
        expected = share @ counts
        hessian = np.diag(expected) - (share * counts) @ share.T
        return (expected - size)[1:], hessian[1:, 1:]

    exact = logsumexp(log) - logsumexp(log - w, axis=1)
    found = root(gradient, exact[1:], jac=True, tol=1e-12)
    assert np.abs(found.fun).max() < 1e-6
    return np.append(0.0, found.x)


@pytest.mark.parametrize("off", [0.0, 5.0, 30.0])
def test_the_smallest_value_is_found_from_any_guess(off):
    """Of windows in a plane, many of which reach no more than a few blocks of cells."""
    samples = windows_in_a_plane()
    wanted = smallest(samples)
    guess = wanted + off * np.random.default_rng(1).normal(size=len(wanted))
    solved = solve(samples.found(), guess)
    assert off > 5 or solved.entries.data.size < 0.7 * samples.potential.size
    np.testing.assert_allclose(solved.f, wanted, atol=1e-5)


def test_other_counts_in_the_same_cells_need_no_new_beginning():
    one, other = drawn([2000] * 5, 0), drawn([1500] * 5, 1)
    both = Drawn(one.counts + other.counts, one.potential)
    kept = both.counts.sum(axis=0) > 0
    solved = solve(both.found(), np.zeros(5))
    again = solve_again(nearby(solved), one.counts.sum(axis=0)[kept], one.counts.sum(axis=1))
    np.testing.assert_allclose(again.f, free_energies(one), atol=1e-3)
    assert np.abs(again.f - solved.f).max() > 0.01


def test_counts_that_the_first_hessian_does_not_fit_are_solved_too():
    samples, other = windows_in_a_plane(0), windows_in_a_plane(1, 100)
    both = Drawn(samples.counts + other.counts, other.potential)
    kept = both.counts.sum(axis=0) > 0
    near = nearby(solve(both.found(), smallest(both)))
    counts = other.counts.sum(axis=0)[kept], other.counts.sum(axis=1)
    astray = solve_again(near._replace(inverse=lambda step: -step), *counts)
    straight = solve_again(near, *counts)
    wanted = smallest(other)
    for again in (straight, astray):
        np.testing.assert_allclose(again.f, wanted, atol=2e-3)
    seen = counts[0] > 0
    np.testing.assert_allclose(astray.log_weight[seen], straight.log_weight[seen], atol=2e-3)
    assert (astray.log_weight[~seen] == 0).all()


def test_thousands_of_nats_do_not_overflow():
    samples = drawn([2000] * 5)
    high = samples._replace(potential=samples.potential + 5000 * np.arange(5)[:, None])
    np.testing.assert_allclose(
        free_energies(high, 5000.0 * np.arange(5)) - 5000 * np.arange(5),
        free_energies(samples),
        atol=1e-5,
    )


def test_entries_out_of_reach_change_nothing():
    """Two hundred ensembles, each of which reaches a few cells: as solved with every entry."""
    center = np.linspace(0, 1, 200)
    random = np.random.default_rng(0)
    potential = np.concatenate([[0 * X], 1e5 * (X - center[:, None]) ** 2 / 2])
    weight = np.exp(-potential)
    counts = np.array([random.multinomial(500, w / w.sum()) for w in weight])
    sparse = solve(Drawn(counts, potential).found(), np.zeros(201))
    assert sparse.entries.data.size < 0.3 * 201 * 400
    f = sparse.f
    for _ in range(5):  # the equation itself, with every entry: it stays where it is
        bottom = np.log(np.exp(np.log(500) + f[:, None] - potential).sum(axis=0))
        f = -np.log((counts.sum(axis=0) * np.exp(-potential - bottom)).sum(axis=1))
    np.testing.assert_allclose(f - f[0], sparse.f, atol=1e-5)
    exact = -np.log(weight.mean(axis=1))
    assert np.abs(sparse.f - exact).max() < 0.5


def test_the_overlap_is_half_for_the_same_and_nothing_for_the_distant():
    beta = np.array([0.0, 0.0, 1.0, 2000.0])
    found = drawn([5000] * 4, beta=beta).found()
    solved = solve(found, -exact_log_z(beta))
    seen = overlaps(solved, np.array([[0, 1], [1, 2], [2, 3]]))
    assert seen[0] == pytest.approx(0.5)
    assert 0.4 < seen[1] < 0.5
    assert seen[2] < 0.03


def test_an_ensemble_without_samples_is_refused():
    samples = drawn([2000] * 5)
    samples.counts[2] = 0
    with pytest.raises(ValueError, match="Ensemble 2 of 5 has no samples"):
        free_energies(samples)
