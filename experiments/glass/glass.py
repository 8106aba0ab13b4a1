"""What the scripts of this folder share: the tasks, seeds trained side by side, what is written."""

import json
import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import jax
import numpy as np
import xarray as xr
from matplotlib.figure import Figure

import glassgrok as gg
from glassgrok.engine.folder import provenance, replace_with, write_text
from glassgrok.training import steps_to

# Table 1 of Zhang et al. (2025): operation -> learning rate, with weight decay 1.
RATES = {"x+y": 3e-3, "x^2+y": 5e-3, "x^3+xy^2+y": 1e-2}
SEEDS = {"quick": 2, "cpu": 2, "paper": 8}
LEVEL = 0.99  # of accuracy, at which a network has memorised or generalised
EXPLAINED = (
    f"median (range) over them. Memorised, generalised: first recorded step with {LEVEL:.0%} train "
    "or test accuracy; delay: between them. The rest at the end.\n\n"
)


@dataclass(frozen=True)
class Options:
    """What to run.

    Attributes:
        scale: quick for a small network in seconds, cpu for p = 67 with few seeds, paper with 8.
        seeds: networks trained side by side; 2, 2 and 8 for quick, cpu and paper if not given.
        out: folder for the numbers, the figure and the table.
    """

    scale: Literal["quick", "cpu", "paper"] = "cpu"
    seeds: int | None = None
    out: Path = Path("figures/glass")

    def __post_init__(self):
        if self.seeds is not None and self.seeds < 1:
            raise SystemExit(f"--seeds must be at least 1, but is {self.seeds}; give some.")

    @property
    def copies(self) -> int:
        """How many networks there are of each kind."""
        return SEEDS[self.scale] if self.seeds is None else self.seeds


def modulus_of(scale: str) -> int:
    """p of the paper, or a small one."""
    return 7 if scale == "quick" else 67


def model_of(scale: str, width: int = 128) -> gg.Transformer:
    """The transformer of the paper with d_model = width, or one an eighth as wide."""
    d = width // 8 if scale == "quick" else width
    return gg.Transformer(modulus_of(scale) + 1, d_model=d, heads=4, d_head=d // 4, d_mlp=4 * d)


def trained(model, task, config: gg.TrainingConfig, name: str, seed: int = 0, **how) -> xr.Dataset:
    """The history of all copies, with the seconds it took; tells how far it is.

    Args:
        name: for the lines on the terminal.
        seed: of the initial parameters.
        how: as `glassgrok.train` takes it.
    """
    began = time.perf_counter()

    def tell(state, part):
        last = part.isel(step=-1) if part.sizes["step"] else None
        if last is not None:
            accuracy = np.round(last["test_accuracy"].values, 3)
            spent = time.perf_counter() - began
            print(f"{name}: step {int(last['step']):,}, test {accuracy}, {spent:.0f} s", flush=True)

    history = gg.train(model, task, config, jax.random.key(seed), on_block=tell, **how).history
    return history.assign_attrs(seconds=time.perf_counter() - began)


def measured(history: xr.Dataset, level: float = LEVEL) -> list[dict]:
    """For each copy: steps to `level` of train and test accuracy, None if never; the end."""
    memorised = steps_to(history, "train_accuracy", level).values
    generalised = steps_to(history, "test_accuracy", level).values
    last = history.isel(step=-1)
    return [
        {
            "seed": int(history["seed"][i]),
            "memorised": _step(memorised[i]),
            "generalised": _step(generalised[i]),
            "delay": _step(generalised[i] - memorised[i]),
            "best_test_accuracy": float(history["test_accuracy"][:, i].max()),
            "train_accuracy": float(last["train_accuracy"][i]),
            "test_accuracy": float(last["test_accuracy"][i]),
            "ln_train_loss": float(last["ln_train_loss"][i]),
            "weight_norm_start": float(history["weight_norm"][0, i]),
            "weight_norm": float(last["weight_norm"][i]),
        }
        for i in range(history.sizes["copy"])
    ]


def _step(value) -> int | None:
    return None if np.isnan(value) else int(value)


def spread(values: list) -> str:
    """Median and range of the numbers there are, and how many are missing."""
    there = [v for v in values if v is not None]
    if not there:
        return "never"
    text = f"{np.median(there):.4g} ({min(there):.4g} to {max(there):.4g})"
    return text + (f", {len(values) - len(there)} of {len(values)} never" if None in values else "")


def about(name: str, seed: int) -> dict:
    """What made a result, for the file with its numbers."""
    all_of_it = provenance(name, seed, " ".join(sys.argv))
    kept = ("command", "seed", "versions", "git_commit", "platform", "cpu_count")
    devices = [f"{d.platform} {d.device_kind}" for d in jax.devices()]
    return {n: all_of_it[n] for n in kept} | {"devices": devices}


def known_runs(options: Options, name: str) -> list[dict]:
    """The records that NAME.json holds already.

    Raises:
        SystemExit: they are of another scale.
    """
    path = options.out / f"{name}.json"
    if not path.is_file():
        return []
    known = json.loads(path.read_text())
    if known["scale"] != options.scale:
        raise SystemExit(
            f"{path} holds runs of the scale {known['scale']}, not {options.scale}; give another "
            "--out, or remove it."
        )
    return known["runs"]


def write(options: Options, name: str, results: dict, figure: Figure, text: str) -> None:
    """NAME.json, NAME.png and NAME.md."""
    options.out.mkdir(parents=True, exist_ok=True)
    told = json.dumps({"scale": options.scale, **results}, indent=1)
    # A list of numbers on one line: a curve has hundreds.
    told = re.sub(r"\[\s+([^][{}]*?)\s+\]", lambda m: f"[{' '.join(m[1].split())}]", told)
    write_text(options.out / f"{name}.json", told + "\n")
    write_text(options.out / f"{name}.md", text)
    replace_with(
        options.out / f"{name}.png", lambda partial: figure.savefig(partial, dpi=100, format="png")
    )
    print(f"Wrote {name}.json, {name}.md and {name}.png to {options.out}.")


def table(header: list[str], rows: list[list]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]

    def cell(value) -> str:
        return str(value).replace("|", "\\|")  # as of a norm, which would end the cell

    return "\n".join("| " + " | ".join(map(cell, line)) + " |" for line in lines) + "\n"
