"""What the figures of toy addition share: sizes, the landscape on disk, its surface."""

import json
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import xarray as xr
from omnigrok import Options, teller

import glassgrok as gg
from glassgrok.analysis.reduced_flow import Surface, surface
from glassgrok.models import MLP
from glassgrok.tasks import addition

MAP = "figure6_toy"
MAIN = 45  # train examples of the map; the path runs on it
SEED = 0
NOISE = 0.2  # of ln loss at a point of the map of one seed, where a flow would rest


class Size(NamedTuple):
    """A scale: width of the decoder, steps, the grid of the map, and that of the other sizes."""

    width: int
    steps: int
    alphas: tuple[float, ...]
    messiness: tuple[float, ...]
    few_alphas: tuple[float, ...]
    few_messiness: tuple[float, ...]
    sizes: tuple[int, ...]


def _evenly(low: float, high: float, count: int) -> tuple[float, ...]:
    return tuple(np.round(np.linspace(low, high, count), 4).tolist())


def _in_ratio(low: float, high: float, count: int) -> tuple[float, ...]:
    return tuple(np.round(np.geomspace(low, high, count), 3).tolist())


# The authors have 54 for 55, so that one example is left to test.
SIZES = {
    "quick": Size(12, 60, _in_ratio(0.5, 6, 4), _evenly(0, 0.2, 4), _in_ratio(0.5, 6, 4),
                  _evenly(0, 0.2, 4), (MAIN,)),
    "cpu": Size(100, 4000, _in_ratio(0.7, 6, 10), (0, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2),
                _in_ratio(1.2, 5, 6), _evenly(0, 0.1, 5), (25, 35, MAIN, 54)),
    "paper": Size(200, 15_000, _in_ratio(0.4, 9, 21), _evenly(0, 0.2, 21), _in_ratio(0.4, 9, 21),
                  _evenly(0, 0.2, 21), (25, 35, MAIN, 54)),
}  # fmt: skip


def model_of(scale: str) -> MLP:
    """The decoder, 2-width-width-30, with LeakyReLU of slope 0.2 as in the authors' code."""
    width = SIZES[scale].width
    return MLP((width, width, 30), "leaky_relu", slope=0.2)


@cache
def task_of() -> gg.Supervised:
    """i + j of ten digits; m = 0 is an exact line, as in the paper and not as in its code."""
    return addition(noise=0.0)


def fit_config(scale: str, tangent: bool = True) -> gg.FitConfig:
    """Adam as in the authors' code: betas 0.9 and 0.99, the rate 1e-2 cut to a fifth twice."""
    steps = SIZES[scale].steps
    return gg.FitConfig(
        steps=steps,
        beta2=0.99,
        decay_every=-(-steps // 3),
        decay_factor=0.2,
        hold_norm=True,
        tangent=tangent,
        records=20,
        block=steps,
    )


def initial_norm(scale: str) -> float:
    """w0 = |w| of the decoder at alpha = 1, the mean of its square over draws.

    A layer of fan-in n has (n + 1) m numbers, uniform within 1/sqrt(n): each m (n + 1) / (3 n).
    """
    widths = (2, *model_of(scale).features)
    return float(np.sqrt(sum(m * (n + 1) / (3 * n) for n, m in pairwise(widths))))


def landscape(options: Options, size: int) -> xr.Dataset:
    """The reduced losses over (scale, messiness, seed) of one train size, resumable."""
    of = SIZES[options.scale]
    main = size == MAIN
    found = gg.reduced_landscape(
        model_of(options.scale),
        task_of(),
        of.alphas if main else of.few_alphas,
        [size],
        of.messiness if main else of.few_messiness,
        options.copies,
        config=fit_config(options.scale),
        key=jax.random.key(SEED),
        folder=options.out / f"{MAP}.runs" / f"{options.scale}_{size}",
        learning_rate=1e-2,
        on_progress=teller(f"N = {size}"),
    )
    return found.isel(size=0)


def kept(out: Path, scale: str) -> dict:
    """What figure6_toy.py left.

    Raises:
        ValueError: it is not there, or of another scale.
    """
    path = out / f"{MAP}.json"
    if not path.is_file():
        raise ValueError(f"{path} is not there; run figure6_toy.py with the same --out first.")
    found = json.loads(path.read_text())
    if found["scale"] != scale:
        raise ValueError(f"{path} is of the scale {found['scale']}, not {scale}; run it again.")
    return found


def surface_of(found: dict) -> Surface:
    """The surface of the map that `kept` read."""
    grid = found["maps"][str(MAIN)]
    axes = {"scale": grid["alpha"], "messiness": grid["messiness"]}
    names = ("train_loss", "test_loss")
    losses = {name: (tuple(axes), np.array(grid[name])) for name in names}
    return surface(xr.Dataset(losses, axes), found["initial_norm"], NOISE / found["seeds"] ** 0.5)
