"""From smooth to hard accuracy: samples of a known joint density, biased along the smooth one."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from glassgrok.analysis import effective_samples, hard_landscape
from glassgrok.analysis.rows import log_sum
from glassgrok.grid import Axis, Grid
from glassgrok.landscape import Joint, Landscape, pooled

ROWS, BINS, GROUPS = 5, 20, 8
GRID = Grid(Axis("ln_loss", -5.0, 0.0, ROWS), Axis("smooth_accuracy", 0.0, 1.0, BINS))
STEEP, STRETCH, SPREAD = 20.0, 1.3, 0.04


def entropy(a):
    """The true S(a) of every row, up to 10 nats a row."""
    return -STEEP * (a - 0.5) ** 2


def hard_of(a):
    """The mean of h at a: confident networks are surer than their smooth accuracy says."""
    return 0.5 + STRETCH * (a - 0.5)


def exact():
    """(rows, bins) ln of the integral of e^S P(h in bin | a) over a, h clipped to [0, 1]."""
    a = (np.arange(20_000) + 0.5) / 20_000
    edges = np.concatenate([[-np.inf], GRID.axes[1].edges[1:-1], [np.inf]])
    share = np.diff(norm.cdf((edges - hard_of(a)[:, None]) / SPREAD), axis=1)
    return np.log(np.exp(entropy(a)) @ share / len(a)) + 10 * np.arange(ROWS)[:, None]


def draw(rng, number, slope=0.0, spread=SPREAD):
    """Row, a, h and ln weight of samples; V = S + slope a, so that density is e^(-slope a)."""
    row = rng.integers(ROWS, size=number)
    a = rng.uniform(size=number)
    if slope:
        a = -np.log1p(a * np.expm1(-slope)) / slope
    h = np.clip(hard_of(a) + spread * rng.normal(size=number), 0, 1)
    return row, a, h, entropy(a) + 10 * row + slope * a


def place(values):
    return np.minimum((values * BINS).astype(int), BINS - 1)


def landscape(samples) -> Landscape:
    """Of the samples of each group: the smooth S and the joint sums, as production keeps them."""
    shape = (ROWS, BINS, BINS)
    weight, square = np.zeros((2, GROUPS, np.prod(shape)))
    visits = np.zeros((ROWS, BINS), int)
    for g, (row, a, h, v) in enumerate(samples):
        cell = np.ravel_multi_index((row, place(a), place(h)), shape)
        weight[g] = np.bincount(cell, np.exp(v), weight.shape[1])
        square[g] = np.bincount(cell, np.exp(2 * v), weight.shape[1])
        np.add.at(visits, (row, place(a)), 1)
    with np.errstate(divide="ignore"):
        cells, squares = np.log(GROUPS * weight), np.log(GROUPS**2 * square)
    cells, squares = (
        np.where(np.isfinite(x), x, np.nan).reshape(-1, *shape) for x in (cells, squares)
    )
    groups = log_sum(cells, -1)
    zero = np.nanmin(pooled(groups))
    return Landscape(
        GRID,
        pooled(groups) - zero,
        np.where(visits > 0, 0.1, np.nan),
        visits,
        groups - zero,
        ("memorising", "generalising") * (GROUPS // 2),
        {"test_accuracy": np.zeros((ROWS, BINS))},
        joint=Joint("test_accuracy", cells - zero, squares - 2 * zero),
        attributes={"seed": 3},
    )


def groups_of(seed, number=12_000, clump=1, **kwargs):
    """The samples of each group; with clumps they come in several copies, as of a slow walker."""
    rng = np.random.default_rng(seed)
    every = [draw(rng, number // clump, **kwargs) for _ in range(GROUPS)]
    return [tuple(np.repeat(x, clump) for x in samples) for samples in every]


def deviation(found, data):
    """S minus the truth where it is known, the constant taken off with the effective samples."""
    off = found - exact()
    known = np.isfinite(off)
    return np.where(known, off - np.average(off[known], weights=data.visits[known]), np.nan)


@pytest.mark.parametrize("clump", [1, 4])
def test_the_hard_entropy_within_its_errors(clump):
    """Student's t of 7 degrees of freedom has a spread of 1.18; the bars are honest if z has."""
    scores, wrong = [], []
    for seed in range(8):
        data = landscape(groups_of(seed, clump=clump))
        hard = hard_landscape(data)
        scores.append(deviation(hard.entropy, hard) / hard.entropy_error)
        wrong.append(deviation(data.entropy, hard) / hard.entropy_error)
    known = np.isfinite(scores)
    assert known.mean() > 0.9
    spread = np.std(np.array(scores)[known])
    assert 0.7 < spread < 1.5
    assert abs(np.mean(np.array(scores)[known])) < 0.2
    assert 2 * spread > 1.5  # errors half as large would be noticed
    assert np.nanmedian(hard.entropy_error) < 0.25
    # Negative control: the smooth S in place of the hard one is off by many error bars.
    assert np.nanstd(wrong) > 10


def test_a_bias_with_a_slope_changes_nothing():
    """The weights belong to the samples, not to S: V may be anything."""
    data = landscape(groups_of(0, number=40_000, slope=3.0))
    hard = hard_landscape(data)
    z = deviation(hard.entropy, hard) / hard.entropy_error
    assert 0.7 < np.nanstd(z) < 1.5
    assert np.isfinite(z).mean() > 0.9


def test_what_the_hard_landscape_is():
    data = landscape(groups_of(0))
    hard = hard_landscape(data)
    assert [axis.name for axis in hard.grid.axes] == ["ln_loss", "test_accuracy"]
    np.testing.assert_array_equal(hard.grid.axes[1].edges, data.grid.axes[1].edges)
    known = np.isfinite(hard.entropy)
    np.testing.assert_allclose(pooled(hard.groups)[known], hard.entropy[known], atol=1e-9)
    assert np.nanmin(hard.entropy) == 0
    assert hard.visits.dtype == np.int64
    np.testing.assert_array_equal(hard.visits, np.rint(effective_samples(data)))
    np.testing.assert_array_equal(known, effective_samples(data) >= 30)
    assert (hard.starts, hard.attributes, hard.extras) == (data.starts, {"seed": 3}, {})
    assert (hard.joint, hard.diagnostics, hard.normalised) == (None, None, False)
    # No bar is shorter than the effective samples allow.
    floor = 0.5 / np.sqrt(effective_samples(data)[known])
    assert (hard.entropy_error[known] >= floor * (1 - 1e-12)).all()


def test_a_hard_accuracy_that_is_the_smooth_one():
    """The same S, and the errors of the sampler."""
    samples = [(row, a, a, v) for row, a, _, v in groups_of(0)]
    data = landscape(samples)
    hard = hard_landscape(data)
    np.testing.assert_allclose(hard.entropy, data.entropy, atol=1e-9)
    np.testing.assert_allclose(hard.groups, data.groups, atol=1e-9)


def test_effective_samples_by_hand():
    samples = groups_of(0, number=900)
    found = effective_samples(landscape(samples))
    row, _, h, v = (np.concatenate(x) for x in zip(*samples, strict=True))
    by_hand = np.zeros((ROWS, BINS))
    for i in range(ROWS):
        for j in range(BINS):
            weight = np.exp(v[(row == i) & (place(h) == j)])
            by_hand[i, j] = weight.sum() ** 2 / (weight**2).sum() if len(weight) else 0
    np.testing.assert_allclose(found, by_hand, rtol=1e-9)
    counts = np.histogram2d(row, h, (ROWS, BINS), [(0, ROWS), (0, 1)])[0]
    assert (found < counts * (1 + 1e-9)).all()
    assert (found < 0.99 * counts).any()


def test_bins_without_samples_are_nan_and_have_none():
    data = landscape([tuple(x[(s[2] < 0.62)] for x in s) for s in groups_of(0)])
    hard = hard_landscape(data)
    assert (effective_samples(data)[:, 14:] == 0).all()
    assert np.isnan(hard.entropy[:, 14:]).all()
    assert np.isnan(hard.groups[:, :, 14:]).all()
    assert (hard.visits[:, 14:] == 0).all()


def test_too_few_effective_samples_are_refused():
    """A smooth accuracy that is far from the hard one: the weights run over 60 nats at each h."""
    data = landscape(groups_of(0, number=3000, slope=60.0, spread=0.3))
    with pytest.raises(
        ValueError,
        match=r"accuracy test_accuracy: in [45] of 5 rows .* fewer than 30 effective samples "
        r"\(the median row has .*\); sample with a steeper smooth accuracy.*longer in production",
    ):
        hard_landscape(data)
    # It is the effective samples that are few: there are thousands in those rows.
    assert data.visits.sum() / ROWS > 4000
    assert np.isfinite(hard_landscape(data, least=0.0).entropy).any()


@pytest.mark.parametrize(("bad", "refused"), [(2, False), (3, True)])
def test_more_than_half_of_the_rows_decide(bad, refused):
    data = landscape(groups_of(0))
    square = data.joint.square.copy()
    square[:, :bad] += 20.0
    data = replace(data, joint=data.joint._replace(square=square))
    if refused:
        with pytest.raises(ValueError, match="in 3 of 5 rows"):
            hard_landscape(data)
    else:
        known = np.isfinite(hard_landscape(data).entropy).any(axis=1)
        assert known.tolist() == [False, False, True, True, True]


@pytest.mark.parametrize("function", [hard_landscape, effective_samples])
def test_a_landscape_that_cannot_be_reweighted(function):
    data = landscape(groups_of(0, number=500))
    with pytest.raises(ValueError, match=r"no joint sums .* sample a system that reports"):
        function(replace(data, joint=None))
    one = Landscape(
        Grid(GRID.axes[0]), data.entropy[:, 0], data.entropy_error[:, 0], data.visits[:, 0],
        data.groups[..., 0], data.starts,
    )  # fmt: skip
    with pytest.raises(ValueError, match="one over ln_loss alone"):
        function(one)


def test_an_empty_landscape_stays_empty():
    data = landscape(groups_of(0, number=500))
    joint = data.joint._replace(
        weight=data.joint.weight * np.nan, square=data.joint.square * np.nan
    )
    hard = hard_landscape(replace(data, joint=joint))
    assert np.isnan(hard.entropy).all()
    assert (hard.visits == 0).all()


def test_the_file(tmp_path):
    hard = hard_landscape(landscape(groups_of(0)))
    hard.save(tmp_path / "hard.nc")
    again = Landscape.load(tmp_path / "hard.nc")
    np.testing.assert_array_equal(again.entropy, hard.entropy)
    assert again.grid == hard.grid
    assert again.joint is None
