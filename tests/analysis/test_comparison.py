"""Two landscapes against each other: noise agrees, a tilt or a missing basin does not."""

from dataclasses import replace

import numpy as np
import pytest
from landscapes import gaussian_rows, landscape

import glassgrok as gg
from glassgrok.analysis import describe_comparison
from glassgrok.plots import comparison_figure

ROWS, NOISE = 12, 0.3
TRUE = gaussian_rows(np.linspace(0.8, 0.4, ROWS))
SHOWN = np.where(TRUE.max(1, keepdims=True) - 8 < TRUE, TRUE, np.nan)


def measured(seed: int, entropy=SHOWN, normalised=False) -> gg.Landscape:
    """Six groups of S with independent noise in each bin, and a constant of its own."""
    rng = np.random.default_rng(seed)
    groups = entropy + NOISE * rng.normal(size=(6, *entropy.shape))
    if not normalised:
        groups += rng.normal(scale=30.0)
    made = landscape(groups)
    made = replace(made, normalised=normalised, entropy=made.pool(groups) if normalised else
                   made.entropy)  # fmt: skip
    error = np.std(groups, axis=0, ddof=1) / np.sqrt(6)
    return replace(made, entropy_error=error)


def test_scores_of_equal_landscapes_are_normal():
    z = [gg.compare(measured(2 * k), measured(2 * k + 1)) for k in range(40)]
    for name in ("S", "S(u)", "mean A", "S at fixed u"):
        scores = np.array([found[name].z for found in z])
        scores = scores[np.isfinite(scores)]
        # Independent ones: 40 x 12 rows at least; the variance of z^2 is 2.
        assert abs(np.mean(scores**2) - 1) < 5 * np.sqrt(2 / (40 * ROWS))
    assert np.mean([found["S(u)"].agreement.passed for found in z]) > 0.9


def test_a_tilt_a_shift_of_the_ridge_and_a_constant():
    one = measured(0)
    tilted = measured(1, SHOWN + 0.5 * np.arange(ROWS)[:, None])
    found = gg.compare(one, tilted)
    assert not found["S(u)"].agreement.passed
    slope = np.polyfit(np.arange(ROWS), found["S(u)"].off, 1)[0]
    assert abs(slope - 0.5) < 0.05
    assert found["mean A"].agreement.passed
    assert found["S at fixed u"].agreement.passed
    moved = measured(2, gaussian_rows(np.linspace(0.8, 0.4, ROWS) - 0.05))
    assert not gg.compare(one, moved)["mean A"].agreement.passed
    same = [measured(seed, normalised=True) for seed in (3, 4)]
    assert gg.compare(*same)["S"].agreement.passed
    other = replace(same[1], groups=same[1].groups + 1.0, entropy=same[1].entropy + 1.0)
    assert not gg.compare(same[0], other)["S"].agreement.passed
    # A constant means nothing where one of the two does not know it.
    assert gg.compare(same[0], replace(other, normalised=False))["S"].agreement.passed


def test_only_bins_of_both_count():
    half = SHOWN.copy()
    half[:6] = np.nan
    found = gg.compare(measured(0), measured(1, half))
    assert np.isnan(found["S"].off[:6]).all()
    assert np.isfinite(found["S(u)"].off[6:]).all()
    assert found["S(u)"].agreement.passed


def test_in_words_and_in_a_picture():
    tilted = measured(1, SHOWN + 2.0 * np.arange(ROWS)[:, None])
    lines = describe_comparison(measured(0), tilted)
    assert "the mean difference of S is taken away" in lines[0]
    assert lines[1].startswith("  S DISAGREES: rms ")
    assert lines[3].startswith("  mean A agrees: rms ")
    figure = comparison_figure(measured(0), tilted, ("one", "two"))
    assert [axes.get_ylabel() for axes in figure.axes[:3]] == [
        "test accuracy (smooth)", "test accuracy (smooth)", "$S(u)$ of two - that of one (nat)"
    ]  # fmt: skip


def test_what_cannot_be_compared_is_refused():
    one = measured(0)
    with pytest.raises(ValueError, match="on the same grid can be compared"):
        gg.compare(one, landscape(np.zeros((6, ROWS, 39))))
    with pytest.raises(ValueError, match="has 1 group, but errors need 2"):
        gg.compare(one, replace(one, groups=one.groups[:1]))
    with pytest.raises(ValueError, match="no sampled bin in common"):
        gg.compare(one, replace(one, entropy=np.full_like(one.entropy, np.nan)))
