import json
import time
from dataclasses import replace

import jax
import numpy as np
import pytest
import xarray as xr
from flax import linen as nn

from glassgrok.fitting import FitConfig
from glassgrok.reduced import reduced_landscape
from glassgrok.tasks.supervised import Supervised

DRAW = np.random.default_rng(1)
X = DRAW.normal(size=(30, 4)).astype(np.float32)
TRUTH = np.array([1.0, -2.0, 0.5, 0.0], np.float32)
TASK = Supervised("a plane", X[:20], X[:20] @ TRUTH, X[20:], X[20:] @ TRUTH)
CONFIG = FitConfig(steps=400, hold_norm=True, tangent=True, records=6, tile=4)
HOW = {"sizes": (10, 20), "seeds": 2, "config": CONFIG, "learning_rate": 0.02}


class Plane(nn.Module):
    @nn.compact
    def __call__(self, x):
        return x @ self.param("w", nn.initializers.normal(0.5), (x.shape[1], 1))


def landscape(scales=(0.5, 1.0, 2.0), **changes):
    return reduced_landscape(Plane(), TASK, scales, **(HOW | changes))


@pytest.fixture(scope="module")
def found():
    return landscape()


def test_the_lowest_loss_on_each_sphere_is_found(found):
    assert dict(found.sizes) == {"scale": 3, "size": 2, "messiness": 1, "seed": 2}
    norm = found["weight_norm"]
    np.testing.assert_allclose(norm / norm.sel(scale=1.0), found["scale"] * (norm > 0), rtol=1e-4)
    for scale in (0.5, 2.0):
        for size, seed in ((10, 0), (20, 1)):
            point = found.sel(scale=scale, size=size, seed=seed).squeeze()
            best, w = _lowest(X[:size], float(point["weight_norm"]))
            assert point["train_loss"] == pytest.approx(best, rel=2e-3)
            assert point["test_loss"] == pytest.approx(_loss(X[20:], w), rel=2e-2)
    for name in ("train_loss", "test_loss"):
        assert (found[f"best_{name}"] <= found[name]).all()


def test_adam_rests_elsewhere_where_it_sees_the_radial_gradient(found):
    size = {"size": 10, "seed": 0}
    other = landscape((0.5,), sizes=(10,), seeds=1, config=replace(CONFIG, tangent=False))
    best = found["train_loss"].sel(scale=0.5, **size)
    assert float(other["train_loss"].squeeze()) > 1.05 * float(best.squeeze())


def _loss(x, w):
    return np.mean((x @ (w - TRUTH)) ** 2)


def _lowest(x, radius):
    """Least squares on a sphere: (A + mu) w = A w*, where mu is what gives that norm."""
    a = (x.T @ x).astype(float) / len(x)
    low, high = -np.linalg.eigvalsh(a)[0] + 1e-9, 1e4
    for _ in range(200):
        mu = (low + high) / 2
        w = np.linalg.solve(a + mu * np.eye(4), a @ TRUTH)
        low, high = (mu, high) if np.linalg.norm(w) > radius else (low, mu)
    return _loss(x, w), w


def test_it_goes_on_where_it_was(found, tmp_path):
    folder = tmp_path / "map"

    def stop(progress):
        # The last of three tiles has begun, so that one is done: it shall be on disk.
        if progress.done > 2 / 3 * progress.total:
            for _ in range(1000):
                if any(folder.glob("runs_*.nc")):
                    break
                time.sleep(0.01)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        landscape(folder=folder, on_progress=stop)
    there = sorted(folder.glob("runs_*.nc"))
    assert 0 < len(there) < 3
    times = [path.stat().st_mtime_ns for path in there]
    told = []
    again = landscape(folder=folder, on_progress=told.append)
    xr.testing.assert_equal(again, found)
    assert [path.stat().st_mtime_ns for path in there] == times
    assert told[-1].total == 400 * (12 - 4 * len(there))
    done = landscape(folder=folder, on_progress=pytest.fail)
    assert done.equals(found)
    _tell(folder, seconds=1000.0)
    assert landscape(folder=folder).attrs["seconds"] == pytest.approx(3000, abs=500)
    _tell(folder)
    with pytest.raises(ValueError, match="is of another version of glassgrok"):
        landscape(folder=folder)


def _tell(folder, **attributes):
    for path in folder.glob("runs_*.nc"):
        part = xr.load_dataset(path)
        part.attrs = attributes
        part.to_netcdf(path, engine="h5netcdf")


def test_another_landscape_in_the_folder_is_refused(tmp_path):
    scales = (0.5, 1.0, 2.0, 3.0)  # as wide a tile as that of the others
    small = {"folder": tmp_path / "map", "sizes": (10,), "seeds": 1, "scales": scales}
    config = replace(CONFIG, steps=3)
    landscape(**small, config=config)
    for changes, said in [
        ({"config": replace(config, steps=4)}, "config.steps 3, not 4"),
        ({"scales": (0.5, 1.0)}, "scale"),
        ({"key": jax.random.key(1)}, "key"),
        ({"learning_rate": 0.1}, "learning_rate"),
    ]:
        with pytest.raises(ValueError, match=said):
            landscape(**({**small, "config": config} | changes))
    other = replace(TASK, targets=TASK.targets + 1)
    with pytest.raises(ValueError, match="examples"):
        reduced_landscape(Plane(), other, **(HOW | {**small, "config": config}))
    landscape(**small, config=replace(config, block=1))  # changes no number
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("dear")
    with pytest.raises(ValueError, match="holds something else"):
        landscape(folder=tmp_path / "other", config=config)
    assert json.loads((tmp_path / "map" / "landscape.json").read_text())["task"] == "a plane"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"scales": ()}, "scales must be different numbers"),
        ({"scales": (1.0, 1.0)}, "scales must be different numbers"),
        ({"sizes": (0,)}, "size is 0"),
        ({"seeds": 0}, "seeds must be a whole number from 1"),
        ({"scales": (-1.0,)}, "scale must be positive"),
    ],
)
def test_grids_that_cannot_be_are_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        landscape(**changes)
