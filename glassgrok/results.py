"""What a run leaves to look at: its pictures and its summary in words."""

from pathlib import Path

import matplotlib
import xarray as xr
from matplotlib.figure import Figure

from glassgrok import config as configs
from glassgrok import plots
from glassgrok.analysis import describe_comparison, report
from glassgrok.engine import folder
from glassgrok.landscape import Landscape

matplotlib.use("Agg")  # a run may have no screen


def conclude(path: Path) -> None:
    """Draw, write and print what came out."""
    pictures = draw(path)
    text = summary(path) + f"\nResults are in {path}; pictures: {', '.join(map(str, pictures))}."
    folder.write_text(path / folder.SUMMARY, text + "\n")
    print(text)


def _results(path: Path):
    """Landscape and training of a run, None where there is none yet."""
    landscape = history = None
    if (path / folder.LANDSCAPE).exists():
        landscape = Landscape.load(path / folder.LANDSCAPE)
    if (path / folder.TRAINING).exists():
        try:
            history = xr.load_dataset(path / folder.TRAINING, engine="h5netcdf")
        except (OSError, ValueError, KeyError) as error:
            raise ValueError(f"{path / folder.TRAINING} is damaged ({error}); run again.") from None
    return landscape, history


def summary(path: Path) -> str:
    """The results of a run in words, whatever there is of them."""
    landscape, history = _results(path)
    if landscape is not None:
        return report.summary(landscape, history)
    if history is not None:
        return "\n".join(report.describe_training(history))
    return "There are no results yet."


def draw(path: Path) -> list[Path]:
    """Draw what there is; returns the pictures."""
    landscape, history = _results(path)
    figures = {}
    if landscape is not None:
        figures["landscape.png"] = plots.landscape_figure(landscape, history)
    if history is not None:
        figure = Figure(figsize=(12, 4.5), layout="constrained", dpi=100)
        left, right = figure.subplots(1, 2)
        plots.training_curves(history, left)
        plots.weight_norm(history, right)
        figures["training.png"] = figure
    for name, figure in figures.items():
        folder.replace_with(path / name, lambda part, f=figure: f.savefig(part, format="png"))
    return [path / name for name in figures]


def compared(first: Path, second: Path, out: Path) -> list[str]:
    """Draw the differences of two runs' landscapes; returns them in words."""
    one, two = (Landscape.load(path / folder.LANDSCAPE) for path in (first, second))
    theirs = (configs.plain(configs.load(path / folder.CONFIG)) for path in (first, second))
    changed = [
        f"{name} {configs.show(a)} and {configs.show(b)}"
        for name, (a, b) in configs.differences(*theirs).items()
    ]
    lines = [f"The runs have {'; '.join(changed) or 'equal configs'}."]
    lines += describe_comparison(one, two)
    figure = plots.comparison_figure(one, two, (str(first), str(second)))
    folder.replace_with(out, lambda part: figure.savefig(part, format="png"))
    return [*lines, f"Picture: {out}."]


def unfinished(path: Path) -> str:
    """How far a run got."""
    lines = folder.read_metrics(path)
    if not lines:
        where = "it has hardly begun"
    else:
        last = lines[-1]
        total = f" of {last['total']:,}" if last["total"] else ""
        where = f"it got to step {last['step']:,}{total} in {last['stage']}"
        if last.get("coverage"):
            where += f", coverage {last['coverage']:.0%} of the grid"
    return (
        f"The run in {path} is not finished: {where}. Go on with 'glassgrok resume {path}', unless "
        "it is running now."
    )
