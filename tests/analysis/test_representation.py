"""Circles and sums of angles: constructions whose spectrum is known, and noise, which has none."""

import numpy as np
import pytest

from glassgrok.analysis import representation as rep

P, WIDTH = 31, 40
FREQUENCIES = (3, 7, 12)
AMPLITUDES = (2.0, 1.0, 0.5)
X, Y = (axis.ravel() for axis in np.meshgrid(np.arange(P), np.arange(P), indexing="ij"))
LABELS = (X + Y) % P
ALL = np.ones(P * P, bool)


def angle(k, x):
    return 2 * np.pi * k * x / P


def circles(seed: int = 0) -> np.ndarray:
    """Three circles in orthogonal planes of a random orientation, and a mean."""
    turned = np.linalg.qr(np.random.default_rng(seed).normal(size=(WIDTH, WIDTH)))[0]
    x, points = np.arange(P), np.full((P, WIDTH), 0.3)
    for i, (k, a) in enumerate(zip(FREQUENCIES, AMPLITUDES, strict=True)):
        points = points + a * np.outer(np.cos(angle(k, x)), turned[2 * i])
        points = points + a * np.outer(np.sin(angle(k, x)), turned[2 * i + 1])
    return points


def noise(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(P, WIDTH))


def test_circles_have_their_spectrum_and_lie_in_order():
    points = circles()
    shares = rep.fourier_shares(points)
    wanted = np.zeros(P // 2)
    wanted[np.array(FREQUENCIES) - 1] = np.square(AMPLITUDES) / np.sum(np.square(AMPLITUDES))
    np.testing.assert_allclose(shares, wanted, atol=1e-12)
    assert rep.key_frequencies(shares, 0.99).tolist() == list(FREQUENCIES)
    assert rep.key_frequencies(shares, 0.9).tolist() == [3, 7]
    for k in FREQUENCIES:
        assert rep.roundness(points, k) == pytest.approx(1, abs=1e-9)
        turn = np.roll(rep.circle(points, k), -1) / rep.circle(points, k)
        np.testing.assert_allclose(turn, np.exp(1j * angle(k, 1)), atol=1e-9)
    np.testing.assert_allclose(rep.principal(points).shares[:6].sum(), 1, atol=1e-12)


def test_adding_one_turns_the_circles():
    found = rep.shift(circles(), 6)
    assert found.explained == pytest.approx(1, abs=1e-9)
    np.testing.assert_allclose(found.moduli, 1, atol=1e-9)
    assert sorted(np.round(found.turns, 9)) == [-12, -7, -3, 3, 7, 12]


def test_residues_out_of_order_have_the_circle_but_not_the_shift():
    """The same points under another naming: as round, but adding one is no turn."""
    points = circles()[np.random.default_rng(1).permutation(P)]
    assert rep.principal(points).shares[:6].sum() == pytest.approx(1, abs=1e-12)
    assert rep.shift(points, 6).explained < 0.2
    assert max(rep.roundness(points, k) for k in range(1, P // 2 + 1)) < 0.8


def test_noise_has_no_circle():
    """Without leaving each residue out, noise in more dimensions than residues shows circles."""
    round_, explained, shares = [], [], []
    for seed in range(40):
        points = noise(seed)
        round_.append(rep.roundness(points, 5))
        explained.append(rep.shift(points, 6).explained)
        shares.append(rep.fourier_shares(points))
        centred = points - points.mean(axis=0)
        naive = centred @ (centred.T @ np.exp(1j * angle(5, np.arange(P))))
        turned = np.abs(np.mean(naive * np.exp(-1j * angle(5, np.arange(P)))))
        assert turned / np.sqrt(np.mean(np.abs(naive) ** 2)) > 0.6
    # |mean of P random phases|² has the mean 1/P and as large a spread.
    squared = np.square(round_)
    assert abs(squared.mean() - 1 / P) < 5 * (1 / P) / np.sqrt(40) + 0.5 / P
    assert max(explained) < 0.2
    off = np.mean(shares, axis=0) - 1 / (P // 2)
    bar = np.std(shares, axis=0, ddof=1) / np.sqrt(40)
    assert (np.abs(off) < 5 * bar).all()
    assert len(rep.key_frequencies(shares[0])) > 10
    assert rep.gini(shares[0]) < 0.3 < rep.gini(rep.fourier_shares(circles()))


def test_gini_of_known_shares():
    assert rep.gini(np.ones(10)) == pytest.approx(0)
    assert rep.gini(np.eye(10)[0]) == pytest.approx(0.9)


def sums(strength: float = 2.0) -> np.ndarray:
    """sum_k cos(2π k (x + y - c)/p), and a logit for "=" that is always low."""
    c = np.arange(P)
    rows = sum(np.cos(angle(k, (X + Y)[:, None] - c)) for k in FREQUENCIES)
    return np.concatenate([strength * rows, np.full((P * P, 1), -9.0)], axis=1)


def test_logits_of_sums_are_kept_by_restriction_and_lost_by_exclusion():
    logits = sums()
    shares = rep.sum_shares(logits)
    np.testing.assert_allclose(shares[np.array(FREQUENCIES) - 1], 1 / 3, atol=1e-12)
    assert shares.sum() == pytest.approx(1)
    np.testing.assert_allclose(rep.restricted(logits, FREQUENCIES), logits, atol=1e-9)
    left = rep.excluded(logits, FREQUENCIES)
    np.testing.assert_allclose(left, np.broadcast_to(logits.mean(axis=0), left.shape), atol=1e-9)
    uniform = np.log(P + np.exp(-9.0))
    assert rep.cross_entropy(left, LABELS, ALL) == pytest.approx(uniform, abs=1e-6)
    assert rep.cross_entropy(logits, LABELS, ALL) < uniform - 1
    part = rep.cross_entropy(rep.restricted(logits, FREQUENCIES[:2]), LABELS, ALL)
    assert rep.cross_entropy(logits, LABELS, ALL) < part < uniform


def test_logits_that_know_no_sum_are_the_other_way_round():
    """A table that was memorised, without order: exclusion leaves it, restriction loses it."""
    random = np.random.default_rng(0)
    logits = random.normal(size=(P * P, P))
    labels = random.integers(0, P, P * P)
    logits[np.arange(P * P), labels] += 8
    full = rep.cross_entropy(logits, labels, ALL)
    assert rep.cross_entropy(rep.excluded(logits, FREQUENCIES), labels, ALL) < full + 0.2
    assert rep.cross_entropy(rep.restricted(logits, FREQUENCIES), labels, ALL) > full + 2
    # p - 1 of p² - 1 directions over pairs are functions of x + y.
    assert rep.sum_shares(logits).sum() == pytest.approx(1 / (P + 1), rel=0.2)
    # A function of x - y has no part along x + y either.
    other = np.cos(angle(3, (X - Y)[:, None] - np.arange(P)))
    assert rep.sum_shares(other).sum() == pytest.approx(0, abs=1e-12)


def test_an_even_modulus_counts_its_last_frequency_once():
    x = np.arange(8)
    points = np.stack([np.cos(np.pi * x), np.cos(np.pi * x / 4), np.sin(np.pi * x / 4)], axis=1)
    np.testing.assert_allclose(rep.fourier_shares(points), [0.5, 0, 0, 0.5], atol=1e-12)
    a, b = (axis.ravel() for axis in np.meshgrid(x, x, indexing="ij"))
    logits = np.stack([np.cos(np.pi * (a + b)), np.cos(np.pi * (a + b) / 4)], axis=1)
    np.testing.assert_allclose(rep.sum_shares(logits), [1 / 3, 0, 0, 2 / 3], atol=1e-12)


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="have 30 rows"):
        rep.restricted(np.zeros((30, 5)), (1,))
    with pytest.raises(ValueError, match="from 1 to p // 2 = 15, but is 16"):
        rep.excluded(np.zeros((P * P, P)), (16,))
    with pytest.raises(ValueError, match="from 1 to p // 2 = 15, but is 0"):
        rep.circle(circles(), 0)
    with pytest.raises(ValueError, match="between 1 and 15"):
        rep.shift(circles(), 16)
    with pytest.raises(ValueError, match=r"its shape is \(2, 4\)"):
        rep.fourier_shares(np.zeros((2, 4)))
