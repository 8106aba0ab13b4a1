"""What the scripts of this folder share: the tasks, seeds trained side by side, what is written."""

import time
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
import xarray as xr

import glassgrok as gg
from glassgrok.experiment import Seeded
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
class Options(Seeded):
    """What to run.

    Attributes:
        scale: quick for a small network in seconds, cpu for p = 67 with few seeds, paper with 8.
        seeds: networks trained side by side; 2, 2 and 8 for quick, cpu and paper if not given.
        out: folder for the numbers, the figure and the table.
    """

    out: Path = Path("figures/glass")

    @property
    def copies(self) -> int:
        """How many networks there are of each kind."""
        return self.seeds_of(SEEDS)


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
