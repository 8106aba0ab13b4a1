"""Eq. 6 of Omnigrok on landscapes whose paths are known."""

import numpy as np
import pytest
import xarray as xr

from glassgrok.analysis.reduced_flow import descents, flow, surface, time_to_generalise, wall

STEEP, LEAN, FOOT = 20.0, 0.5, np.log(2.0)
MESSY = 0.2


def ramp(norm=3.0):
    """ln l = -STEEP (ln alpha - FOOT - LEAN m) and ln test = 20 m - 5: its wall is straight."""
    alphas, m = np.geomspace(1.5, 8.0, 12), np.linspace(0, 0.3, 7)
    x = np.log(alphas)[:, None]
    train = np.exp(-STEEP * (x - FOOT - LEAN * m[None]))
    test = np.exp(20 * m[None] - 5 + 0 * x)
    losses = {"train_loss": train, "test_loss": test}
    grid = {"scale": alphas, "messiness": m}
    return surface(xr.Dataset({k: (tuple(grid), v) for k, v in losses.items()}, grid), norm)


def test_far_from_the_wall_the_norm_decays_and_nothing_else():
    found = flow(ramp(), 7.0, MESSY, 0.01, 0.5, 1e-4, level=1e-9, most=0.2)
    wanted = 7.0 * np.exp(-0.5 * 0.01 * found["time"])
    np.testing.assert_allclose(found["alpha"], wanted, rtol=1e-3)
    np.testing.assert_allclose(found["messiness"], MESSY, rtol=1e-3)
    assert np.isnan(found.attrs["generalised"])


@pytest.mark.parametrize("ratio", [1.0, 30.0])
def test_the_slide_along_the_wall_takes_the_time_of_the_formula(ratio):
    """ratio: η_R w² / η_D, which is 1 / κ."""
    plane, end, rate, contour = ramp(), 0.02, 0.1, 1e-3
    middle = FOOT + LEAN * (MESSY + end) / 2 - np.log(contour) / STEEP
    held = (plane.norm * np.exp(middle)) ** 2
    # The path is held at this contour if γ w² = STEEP l (1 + LEAN² ratio) there.
    decay = contour * STEEP * (1 + LEAN**2 * ratio) / held
    level = np.exp(20 * end - 5)
    found = flow(plane, 7.0, MESSY, decay, rate, rate * ratio / held, level=level)
    along = wall(plane, 7.0, MESSY, contour, end)
    assert np.tan(along.theta) == pytest.approx(1 / LEAN, rel=1e-4)
    assert along.height == pytest.approx(MESSY - end)
    predicted = time_to_generalise(along, decay, rate, 1 / ratio)
    # For an exponential wall the algebra is exact, but w² changes by 9 % to both sides.
    assert found.attrs["generalised"] == pytest.approx(predicted, rel=0.02)
    naive = time_to_generalise(along, decay, rate)
    assert (abs(naive / predicted - 1) > 0.2) == (ratio > 1)


def test_time_goes_as_one_over_rate_and_decay():
    plane = ramp()
    slow, fast = (
        flow(plane, 3.0, MESSY, decay, rate, rate, level=0.03).attrs["generalised"]
        for decay, rate in ((1e-4, 0.1), (1e-4, 0.2))
    )
    assert slow == pytest.approx(2 * fast, rel=1e-3)


def test_the_wall_is_a_contour():
    plane = ramp()
    along = wall(plane, 3.0, MESSY, 1e-2)
    losses = plane.losses(np.log(along.alpha), along.messiness)[0]
    np.testing.assert_allclose(losses, 1e-2, rtol=1e-6)
    with pytest.raises(ValueError, match="does not fall through 1e\\+30"):
        wall(plane, 3.0, MESSY, 1e30)


def test_refuses_what_it_cannot_follow():
    plane = ramp()
    with pytest.raises(ValueError, match="The path begins at alpha 9"):
        flow(plane, 9.0, MESSY, 0.1)
    with pytest.raises(ValueError, match="positive decay"):
        flow(plane, 3.0, MESSY, 0.0)
    coarse = {"scale": [1.0, 2.0], "messiness": [0.0, 1.0]}
    two = xr.Dataset({n: (tuple(coarse), np.ones((2, 2))) for n in ("train_loss", "test_loss")})
    with pytest.raises(ValueError, match="4 scales"):
        surface(two.assign_coords(coarse), 1.0)


@pytest.mark.parametrize(
    ("values", "count"),
    [
        ([5, 4, 2, 1], 1),
        ([1, 2, 3], 0),
        ([3, 1, 2, 0.5, 4], 2),
        ([1, 3, 1, 3, 1], 2),
        ([3, 1, 1.05, 1, 0.9], 1),  # a rise of 5 % is none
        ([2, 2, 2], 0),
    ],
)
def test_descents(values, count):
    assert descents(np.array(values)) == count
