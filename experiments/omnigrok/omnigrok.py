"""What the scripts of this folder share: options, progress, and what L, U and 1/gamma mean."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr
from scipy import stats

from glassgrok.claims import AGREES, DIFFERS, OPEN
from glassgrok.experiment import Seeded
from glassgrok.fitting import Progress

SEEDS = {"quick": 2, "cpu": 3, "paper": 5}
LEVEL = 0.95  # of accuracy, at which a network has overfitted or generalised
FLOOR = 1e-5  # added to losses before their logarithm, as in the authors' code
SMALL = 0.05  # of ln loss: a rise or a well below it is none
HIDDEN = 0.3  # of an exponent: what its errors may hide where it is called 1


@dataclass(frozen=True)
class Options(Seeded):
    """What to run.

    Attributes:
        scale: quick for seconds, cpu for minutes on two cores, paper for the paper's size.
        seeds: independent runs of each point; 2, 3 and 5 for quick, cpu and paper if not given.
        out: folder for the numbers, the figure and the table.
    """

    out: Path = Path("figures/omnigrok")

    @property
    def copies(self) -> int:
        """How many runs there are of each point."""
        return self.seeds_of(SEEDS)


def teller(name: str, every: float = 10.0) -> Callable[[Progress], None]:
    """A callback that prints how far a fit is, at most once in so many seconds."""
    last = [time.monotonic()]

    def tell(progress: Progress) -> None:
        if time.monotonic() - last[0] > every or progress.done == progress.total:
            last[0] = time.monotonic()
            print(f"{name}: {progress}", flush=True)

    return tell


def steps_to(history: xr.Dataset, name: str, level: float = LEVEL) -> list[int | None]:
    """For each run the first recorded step at which a metric is at least `level`."""
    found = history["step"].where(history[name] >= level).min("step").values
    return [None if np.isnan(step) else int(step) for step in found]


def _ln(losses) -> np.ndarray:
    return np.log(np.asarray(losses, float) + FLOOR)


def mean_and_error(values: np.ndarray) -> tuple[float, float]:
    """Mean over the seeds and its standard error, NaN for one seed."""
    n = len(values)
    return float(values.mean()), float(values.std(ddof=1) / n**0.5) if n > 1 else float("nan")


def plus_minus(value: float, error: float) -> str:
    """A number with its error, where there are seeds to tell it."""
    return f"{value:.2f}" + ("" if error is None or np.isnan(error) else f" ± {error:.2f}")


def train_curve(scales, losses) -> dict:
    """Whether a reduced train loss is an L: non-increasing in alpha, within the error over seeds.

    The steps from each alpha to the next are compared within each seed, as ln(loss + 1e-5). A step
    is a rise where it is larger than 0.05 and a one-sided t-test over the seeds finds it so at 5 %
    for all steps together.

    Args:
        scales: (a,) alpha, rising.
        losses: (a, seeds).

    Returns:
        rises: what rises, [from, to, by, error] each; rises_from: the alpha at which the first one
        begins, or None; falls: ln of the loss at the smallest alpha over the lowest one.
    """
    logs = _ln(losses)
    steps = np.diff(logs, axis=0)
    rises = []
    for i, step in enumerate(steps):
        mean, error = mean_and_error(step)
        # With one seed there is no error to judge by.
        if mean > SMALL and (len(step) == 1 or _significant(mean, error, len(step), len(steps))):
            rises.append([float(scales[i]), float(scales[i + 1]), mean, error])
    return {
        "rises": rises,
        "rises_from": rises[0][0] if rises else None,
        "falls": float(logs[0].mean() - logs.mean(1).min()),
    }


def _significant(mean: float, error: float, seeds: int, tests: int = 1) -> bool:
    return error == 0 or stats.t.sf(mean / error, seeds - 1) < 0.05 / tests


def test_curve(scales, losses) -> dict:
    """Whether a reduced test loss is a U, and where its minimum is.

    For each seed the minimum of ln(loss + 1e-5) over ln alpha is that of the parabola through the
    lowest point and its neighbours.

    Args:
        scales: (a,) alpha, rising, at least 3.
        losses: (a, seeds).

    Returns:
        minimum, error: mean of alpha at the minimum over the seeds, geometric, and its standard
        error (that of log10 alpha times ln 10 alpha); left, right: [ln of the loss at the first
        and the last alpha over the minimum, its error]; interior: whether both are above 0.05 and,
        with several seeds, above 0 by a one-sided t-test at 5 %.
    """
    logs, x = _ln(losses), np.log(np.asarray(scales, float))
    places = []
    for curve in logs.T:
        i = int(np.clip(curve.argmin(), 1, len(x) - 2))
        a, b, _ = np.polyfit(x[i - 1 : i + 2], curve[i - 1 : i + 2], 2)
        vertex = -b / (2 * a) if a > 0 else x[curve.argmin()]
        places.append(np.clip(vertex, x[i - 1], x[i + 1]))
    place, error = mean_and_error(np.array(places))
    sides = [mean_and_error(logs[end] - logs.min(0)) for end in (0, -1)]
    n = logs.shape[1]
    interior = all(mean > SMALL and (n == 1 or _significant(mean, wide, n)) for mean, wide in sides)
    return {
        "minimum": float(np.exp(place)),
        "error": float(np.exp(place) * error),
        "left": list(sides[0]),
        "right": list(sides[1]),
        "interior": bool(interior),
    }


# pytest takes names like this for tests.
test_curve.__test__ = False


def power(decays, steps) -> dict | None:
    """k of t ~ gamma^-k: least squares of ln t on ln gamma, each seed with a factor of its own.

    Args:
        decays: (g,) gamma, positive.
        steps: (g, seeds) t; None or NaN where it never came.

    Returns:
        power: k; error: the larger of its standard error in the fit and that of the slopes of the
        seeds by themselves; points, decades: how many t there are, and over which range of gamma;
        None with fewer than 3.
    """
    t = np.array(steps, float)
    x = np.broadcast_to(np.log(np.asarray(decays, float))[:, None], t.shape)
    there = np.isfinite(t)
    several = [s for s in range(t.shape[1]) if there[:, s].sum() > 1]
    count = sum(int(there[:, s].sum()) for s in several)
    if count < 3 or count - len(several) < 2:
        return None
    dx, dy, slopes, used = [], [], [], []
    for s in several:
        own, y = x[there[:, s], s], np.log(t[there[:, s], s])
        dx.append(own - own.mean())
        dy.append(y - y.mean())
        slopes.append((dx[-1] @ dy[-1]) / (dx[-1] @ dx[-1]))
        used.extend(own)
    dx, dy = np.concatenate(dx), np.concatenate(dy)
    slope = (dx @ dy) / (dx @ dx)
    left = count - len(several) - 1
    fit = np.sqrt(np.sum((dy - slope * dx) ** 2) / left / (dx @ dx)) if left else np.nan
    between = mean_and_error(np.array(slopes))[1]
    error = np.nanmax([fit, between]) if np.isfinite([fit, between]).any() else np.nan
    return {
        "power": float(-slope),
        "error": float(error),
        "points": count,
        "decades": float((max(used) - min(used)) / np.log(10)),
    }


def as_inverse(law: dict | None) -> str:
    """Whether k of `power` is 1, to 0.1 or to three of its errors where these are larger.

    Not decided where there is no fit, or where three errors are so large that they hide much.
    """
    if law is None:
        return OPEN
    if abs(law["power"] - 1) >= max(0.1, 3 * law["error"]):
        return DIFFERS
    return AGREES if 3 * law["error"] < HIDDEN else OPEN


def rounded(values, digits: int = 4):
    """Nested lists of numbers with so many significant digits, None where there is none."""
    if np.ndim(values):
        return [rounded(v, digits) for v in values]
    return float(f"{float(values):.{digits}g}") if np.isfinite(values) else None
