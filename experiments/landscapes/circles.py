"""What keeps groups of walkers apart: the circles of their embeddings, and the S that each finds.

    python experiments/landscapes/circles.py RUN [RUN ...]

RUN is a finished run with umbrella windows on x + y mod p. Its groups come down from random points,
each with windows of its own, and below u = -1 they differ in S by tens of nats, at the same u and
A. Here the spectrum of each group's embedding is told beside its S: the share of the variance at
each frequency (Nanda et al. 2023, section 4.1), and the balance of the two strongest, 0 for one
circle and 1 for two alike. Whether groups with two circles have more volume is judged by their
ranks in their runs, against those of any order. Writes circles.json, circles.md and circles.png;
runs of other names that circles.json holds already stay in it.
"""

from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np
import tyro
from jax.flatten_util import ravel_pytree
from scipy.stats import rankdata

from glassgrok import config as configs
from glassgrok.analysis.representation import fourier_shares
from glassgrok.engine import folder as folders
from glassgrok.engine.export import window_walkers
from glassgrok.experiment import about, command, known_runs, table, write
from glassgrok.landscape import Landscape

ROWS = 24  # of the grid whose S is drawn, at most
DRAWS = 100_000  # orders that the ranks are compared with
TWO = 0.3  # balance of two circles, at least: at p = 13, 80 % most lie near 0.1 or above 0.45
MARKERS = "osD^vP*X<>ph"


@dataclass(frozen=True)
class Options:
    """What to look at.

    Attributes:
        runs: folders of finished runs.
        u: ln train loss below which groups are compared; where a run ends above it, its lowest.
        out: folder for the numbers, the figure and the table.
    """

    runs: tyro.conf.Positional[tuple[Path, ...]]
    u: float = -4.75
    out: Path = Path("figures/landscapes")

    def __post_init__(self):
        if not self.runs:
            raise ValueError("There is no run to look at; give the folder of one.")


def read(path: Path) -> tuple[configs.Config, Landscape]:
    """The config and the landscape of a run.

    Raises:
        ValueError: it has none by umbrella windows, or does not learn x + y.
    """
    config = configs.load(folders.open_run(path) / folders.CONFIG)
    if config.umbrella is None:
        raise ValueError(f"{path} was not sampled with umbrella windows; give one that was.")
    if config.task.operation != "x+y":
        raise ValueError(
            f"{path} learns {config.task.operation}, whose residues need not lie on circles; give "
            "a run on x+y."
        )
    landscape = Landscape.load(path / folders.LANDSCAPE)
    if "gap" in landscape.attributes:
        raise ValueError(f"{path} has a gap between its windows; give a run without one.")
    return config, landscape


def spectra(path: Path, config: configs.Config, rows: np.ndarray, row: int) -> np.ndarray:
    """(G, n, p // 2) shares of each frequency in the embeddings of a rung's walkers, by group.

    Args:
        path, config: of the run.
        rows: (K,) rung of each window.
        row: the rung.
    """
    walkers = window_walkers(path, config)[rows == row]
    system = configs.build_system(config)
    _, unravel = ravel_pytree(system.init(jax.random.key(0)))
    p = config.task.modulus

    def shares(x):
        return fourier_shares(np.asarray(unravel(x)["params"]["embed"]["embedding"])[:p])

    each = np.array([[shares(x) for x in window] for window in walkers])
    groups = each.reshape(len(each), config.umbrella.groups, -1, each.shape[-1])
    return np.moveaxis(groups, 1, 0).reshape(config.umbrella.groups, -1, each.shape[-1])


def balance(shares: np.ndarray) -> np.ndarray:
    """(...) how near the second strongest frequency is to the strongest, above all others' mean."""
    descending = -np.sort(-shares, axis=-1)
    rest = descending[..., 2:].sum(axis=-1) / max(descending.shape[-1] - 2, 1)
    return (descending[..., 1] - rest) / (descending[..., 0] - rest)


def doubled(shares: np.ndarray, p: int) -> bool:
    """Whether one of the two strongest frequencies is twice the other, modulo p up to a sign."""
    one, other = (int(k) for k in np.argsort(shares)[::-1][:2] + 1)
    return any(
        (2 * a - sign * b) % p == 0 for a, b in ((one, other), (other, one)) for sign in (1, -1)
    )


def looked_at(path: Path, u: float) -> dict:
    """What each group of a run holds at a train loss, and S of its rows."""
    config, landscape = read(path)
    axis, mean = landscape.grid.axes[0], landscape.umbrella.mean[:, 0]
    low = max(u, axis.edges[1])  # the lowest row at least
    row = landscape.umbrella.row[np.argmin(np.abs(mean - low))]
    shares = spectra(path, config, landscape.umbrella.row, row)
    edges = axis.edges[1:][:: max(1, axis.bins // ROWS)]
    return {
        "run": path.name,
        "provenance": about("circles", 0),
        "modulus": config.task.modulus,
        "train_fraction": config.task.train_fraction,
        "u": float(low),
        "entropy": landscape.fractions(u_below=low).tolist(),
        "shares": shares.mean(axis=1).tolist(),
        # Of each walker by itself: one circle each of two kinds would be two in the mean.
        "balance": balance(shares).mean(axis=1).tolist(),
        "levels": edges.tolist(),
        "curves": [landscape.fractions(u_below=float(edge)).tolist() for edge in edges],
    }


def advantage(run: dict) -> float | None:
    """Mean S of a run's groups with two circles less that of the others; None without either."""
    two, entropy = np.array(run["balance"]) > TWO, np.array(run["entropy"])
    if two.all() or not two.any():
        return None
    return float(entropy[two].mean() - entropy[~two].mean())


def chance(found: list[dict], random: np.random.Generator) -> float:
    """That the groups with two circles rank as high in S within their runs, in any order of them.

    Wilcoxon's sum of ranks, each as a share of its run, of runs that have both kinds.
    """
    total, drawn = 0.0, np.zeros(DRAWS)
    for run in found:
        if advantage(run) is None:
            continue
        two, rank = np.array(run["balance"]) > TWO, rankdata(run["entropy"])
        rank = rank / (len(rank) + 1)
        total += rank[two].sum()
        drawn += random.permuted(np.tile(rank, (DRAWS, 1)), axis=1)[:, two].sum(axis=1)
    return float((1 + np.sum(drawn >= total - 1e-9)) / (1 + DRAWS))


def draw(found: list[dict]):
    """S against balance at one loss, and S of all groups against the loss."""
    page, (left, right) = plt.subplots(1, 2, figsize=(14, 5.6), layout="constrained")
    shade = plt.get_cmap("viridis")
    for run, marker in zip(found, cycle(MARKERS), strict=False):
        lag = np.array(run["entropy"]) - np.max(run["entropy"])
        label = f"{run['run']}, u <= {run['u']:g}"
        left.scatter(run["balance"], lag, marker=marker, s=45, label=label)
        curves = np.array(run["curves"])
        below = curves - curves.max(axis=1, keepdims=True)
        for group, own in zip(below.T, run["balance"], strict=True):
            right.plot(run["levels"], group, color=shade(np.clip(own, 0, 1)), lw=1)
    left.set(
        xlabel="balance of the two strongest frequencies of the embedding",
        ylabel="ln fraction of the box, less the run's best group (nat)",
    )
    left.legend(frameon=False, fontsize=9, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=3)
    right.set(xlabel="ln train loss u (nat)", ylabel="the same below u, all runs")
    right.invert_xaxis()
    colours = plt.cm.ScalarMappable(plt.Normalize(0, 1), shade)
    page.colorbar(colours, ax=right, label="balance")
    return page


def told(found: list[dict]) -> str:
    """The page."""
    rows = []
    for run in found:
        order = np.argsort(run["entropy"])[::-1]
        for place, g in enumerate(order):
            shares = np.array(run["shares"][g])
            strong = np.argsort(shares)[::-1][:3]
            spectrum = ", ".join(f"{k + 1}: {shares[k]:.2f}" for k in strong)
            rows.append(
                [
                    run["run"] if place == 0 else "",
                    f"{run['u']:g}" if place == 0 else "",
                    f"{run['entropy'][g]:.1f}",
                    spectrum,
                    f"{run['balance'][g]:.2f}",
                    "yes" if doubled(shares, run["modulus"]) else "no",
                ]
            )
    text = (
        "# What keeps groups apart: the circles of their embeddings\n\n"
        "Groups of each run, the best first: ln of the fraction of the box at most at the train "
        "loss u, the three strongest frequencies of their embeddings with their shares of the "
        "variance, and the balance of the first two, 0 for one circle and 1 for two alike.\n\n"
    )
    heads = ["run", "u", "ln fraction", "frequencies and shares", "balance", "k and 2k"]
    more = ", ".join(
        f"{run['run']} {gain:+.1f}" for run in found if (gain := advantage(run)) is not None
    )
    return (
        text
        + table(heads, rows)
        + f"\nMean of groups with two circles (balance above {TWO:g}) less that of the others, in "
        f"nats: {more or 'no run has both'}. Chance that any order of the groups in their runs "
        f"ranks the former as high: {chance(found, np.random.default_rng(0)):.2g}. The limit was "
        "set on runs at p = 7, 9 and 13.\n"
    )


def main(options: Options) -> None:
    """Look at all runs, draw and write."""
    new = {path.name: looked_at(path, options.u) for path in options.runs}
    kept = {run["run"]: run for run in known_runs(options.out, "circles", "cpu")}
    found = list((kept | new).values())
    page, results = draw(found), {"provenance": about("circles", 0), "runs": found}
    write(options.out, "circles", "cpu", results, page, told(found))
    plt.close(page)


if __name__ == "__main__":
    command(main, Options, __doc__)
