"""Figure 3 of Zhang et al. (2025), and 8 of v5: WanD against AdamW and other optimizers.

    python experiments/glass/figure3.py [--scale quick | cpu | paper] [--only NAME ...]
    python experiments/glass/figure3.py --operation x^2+y
    python experiments/glass/figure3.py --draw

p = 67, half of the examples train, full batch. Each finished method is added to the JSON file, and
one that is there already is not repeated. At the end it draws the figure and writes the table.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Literal, NamedTuple

import jax
import matplotlib.pyplot as plt
import numpy as np
import optax
import tyro
import xarray as xr
from glass import RATES, Options, measured, model_of, modulus_of, trained

import glassgrok as gg
from glassgrok.experiment import about, command, known_runs, spread, table, write
from glassgrok.optimizers import WandConfig, orthograd
from glassgrok.plots.training import TEST, TRAIN
from glassgrok.training import optimizer_of

SEED, GOOD = 0, 0.95  # of test accuracy at the end
NAMES = {"x+y": "figure3", "x^2+y": "figure8"}
STEPS = {"quick": 40, "cpu": 4000, "paper": 4000}
THIN = 2  # records of a curve that is kept; what is measured comes from all
CURVES = ("train_accuracy", "test_accuracy", "weight_norm", "ln_train_loss")


def grokfast(config, learning_rate, weight_decay, key, alpha=0.98, lamb=2.0):
    """AdamW on g + lamb EMA_alpha(g); Lee et al. (2024, Grokfast), Algorithm 2."""
    average = optax.ema(alpha, debias=False)

    def update(gradient, state, params=None):
        slow, state = average.update(gradient, state)
        return jax.tree.map(lambda g, s: g + lamb * s, gradient, slow), state

    amplified = optax.GradientTransformation(average.init, update)
    return optax.chain(amplified, optimizer_of(config, learning_rate, weight_decay, key))


def langevin(config, learning_rate, weight_decay, key, temperature=1e-7):
    """SGLD on the mean loss: -eta grad L + sqrt(2 eta T) xi; Welling and Teh (2011)."""
    noise = optax.add_noise(2 * learning_rate * temperature, 0.0, key)
    return optax.chain(optimizer_of(config, learning_rate, weight_decay, key), noise)


def orthogonal(config, learning_rate, weight_decay, key):
    """Adam on gradients without their part along the weights; Prieto et al. (2025)."""
    return optax.chain(orthograd(), optimizer_of(config, learning_rate, weight_decay, key))


class Method(NamedTuple):
    """How an optimizer is called for.

    Attributes:
        config: fields of TrainingConfig.
        optimizer: in place of the one that the config names.
    """

    config: dict
    optimizer: Callable = optimizer_of


PRINTED = WandConfig(scheme="paper", max_kick=None, anneal=0.0, beta=1000.0)
SGD = {"optimizer": "sgd", "learning_rate": 0.1, "momentum": 0.9, "weight_decay": 0.0}
# Appendix B.3 gives WanD this learning rate for both tasks.
WAND = {"optimizer": "wand", "learning_rate": 3e-3, "weight_decay": 0.0}
METHODS = {
    "WanD": Method(WAND),
    "AdamW": Method({}),
    "WanD as printed": Method(WAND | {"wand": PRINTED}),
    "WanD, 0.005": Method(WAND | {"learning_rate": 5e-3}),
    "Adam": Method({"weight_decay": 0.0}),
    "Grokfast": Method({}, grokfast),
    "OrthoGrad": Method({"weight_decay": 0.0}, orthogonal),
    "SGD momentum": Method(SGD),
    "SGLD": Method(SGD, langevin),
}
COLOURS = dict(
    zip(
        METHODS,
        (
            "#D55E00",
            "#0072B2",
            "#E69F00",
            "#56B4E9",
            "#009E73",
            "#F0E442",
            "#CC79A7",
            "#999999",
            "black",
        ),
        strict=True,
    )
)  # fmt: skip


@dataclass(frozen=True)
class Choice(Options):
    """What to run.

    Attributes:
        only: names of methods; all of them if not given.
        operation: what is learned.
        draw: run nothing, only draw what is there.
    """

    only: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME ...")] = field(default=())
    operation: Literal["x+y", "x^2+y"] = "x+y"
    draw: bool = False


def config_of(options: Options, operation: str, method: Method) -> gg.TrainingConfig:
    """The learning rate of Table 1, unless the method has its own."""
    named = {
        "steps": STEPS[options.scale],
        "seeds": options.copies,
        "learning_rate": RATES[operation],
        "record": "linear",
        "records": min(201, STEPS[options.scale] + 1),
    }
    return gg.TrainingConfig(**(named | method.config))


def run(
    options: Options,
    operation: str,
    name: str,
    method: Method,
    fraction: float = 0.5,
    curves: tuple[str, ...] = CURVES,
) -> dict:
    """Train all seeds of a method on some share of the examples: its record."""
    task = gg.modular(operation, modulus_of(options.scale), fraction)
    config, model = config_of(options, operation, method), model_of(options.scale)
    history = trained(model, task, config, name, SEED, optimizer=method.optimizer)
    return {
        "method": name,
        "operation": operation,
        "train_fraction": fraction,
        "learning_rate": config.learning_rate,
        "weight_decay": config.weight_decay,
        "steps": config.steps,
        "seconds": history.attrs["seconds"],
        "copies": measured(history),
        "reached": [copy["generalised"] for copy in measured(history, GOOD)],
        "step": history["step"].values[::THIN].tolist(),
        "curves": {c: np.round(history[c].values[::THIN], 3).T.tolist() for c in curves},
        "provenance": about("figure3", SEED),
    }


def outcome(record: dict) -> list[str]:
    """How many seeds generalise; test accuracy; steps to memorise, and to 95 % of the test set."""
    copies = record["copies"]
    return [
        f"{sum(copy['test_accuracy'] > GOOD for copy in copies)} of {len(copies)}",
        spread([copy["test_accuracy"] for copy in copies]),
        spread([copy["memorised"] for copy in copies]),
        spread(record["reached"]),
    ]


def row(record: dict) -> list:
    """A line of the table."""
    copies = record["copies"]
    return [
        record["method"],
        f"{record['learning_rate']:g}, {record['weight_decay']:g}",
        *outcome(record),
        spread([copy["generalised"] for copy in copies]),
        spread([copy["weight_norm"] for copy in copies]),
        *_costs(record),
    ]


def _costs(record: dict) -> list[str]:
    """ms of a step and seconds to 99% test accuracy of one network, and what it ran on."""
    copies = record["copies"]
    step = record["seconds"] / record["steps"] / len(copies)
    reached = [step * c["generalised"] for c in copies if c["generalised"] is not None]
    about = record["provenance"]
    machine = f"{len(copies)} on {', '.join(sorted(set(about['devices'])))}"
    took = f"{np.median(reached):.2g}" if reached else "never"
    if 0 < len(reached) < len(copies):
        took += f", of {len(reached)}"
    return [f"{1000 * step:.2g}", took, machine]


def curve(record: dict, name: str) -> xr.DataArray:
    """(step, copy) of what was recorded."""
    return xr.DataArray(np.array(record["curves"][name], float).T, dims=("step", "copy"))


def accuracies(axes, record: dict) -> None:
    """Train and test accuracy of each seed, thin, and of the median one."""
    for name, colour, label in (
        ("train_accuracy", TRAIN, "train"),
        ("test_accuracy", TEST, "test"),
    ):
        values = curve(record, name)
        axes.plot(record["step"], values, color=colour, linewidth=0.5, alpha=0.5)
        axes.plot(record["step"], values.median("copy"), color=colour, linewidth=1.8, label=label)
    axes.set(title=record["method"], xlabel="training step", ylabel="accuracy", ylim=(-0.02, 1.02))
    axes.legend(frameon=False, loc="lower right")


def draw(records: list[dict]):
    """WanD and AdamW in full, and all methods in one picture."""
    page, axes = plt.subplots(2, 3, figsize=(13, 7.5), layout="constrained")
    found = {record["method"]: record for record in records}
    for place, method in zip(axes[0, :2], ("WanD", "AdamW"), strict=True):
        if method in found:
            accuracies(place, found[method])
        else:
            place.set_axis_off()
    norm, path, test, loss = axes[0, 2], *axes[1]
    for method, record in found.items():
        # SGD with and without noise lie on each other.
        style = {"color": COLOURS[method], "label": method}
        style |= {"linestyle": "--"} if method == "SGLD" else {}
        median = {name: curve(record, name).median("copy") for name in CURVES}
        norm.plot(record["step"], median["weight_norm"], **style)
        test.plot(record["step"], median["test_accuracy"], **style)
        loss.plot(record["step"], median["ln_train_loss"], **style)
        path.plot(median["weight_norm"], median["test_accuracy"], **style)
    norm.set(xlabel="training step", ylabel="weight norm |θ|")
    path.set(xlabel="weight norm |θ|", ylabel="test accuracy")
    test.set(xlabel="training step", ylabel="test accuracy, median of the seeds")
    loss.set(xlabel="training step", ylabel="ln train loss")
    page.legend(*norm.get_legend_handles_labels(), loc="outside lower center", ncols=7)
    return page


def main(choice: Choice) -> None:
    """Run what is not there yet, draw and write."""
    unknown = [method for method in choice.only if method not in METHODS]
    if unknown:
        raise ValueError(f"There is no method {unknown[0]!r}; choose of: {', '.join(METHODS)}.")
    name = NAMES[choice.operation]
    records = {record["method"]: record for record in known_runs(choice.out, name, choice.scale)}
    for method in () if choice.draw else choice.only or METHODS:
        if method not in records:
            records[method] = run(choice, choice.operation, method, METHODS[method])
            finish(choice, name, list(records.values()))
    if not records:
        raise ValueError(f"{choice.out / name}.json has no runs in it; run without --draw first.")
    finish(choice, name, list(records.values()))


def finish(choice: Choice, name: str, records: list[dict]) -> None:
    """The numbers, the figure and the table of the methods that are there."""
    p, steps = modulus_of(choice.scale), records[0]["steps"]
    header = (
        f"# WanD and other optimizers, {choice.operation} mod {p}\n\n{steps:,} full-batch steps; "
        f"median (range) over the seeds. Success: test accuracy above {GOOD:.0%} at the end. "
        "Memorised: first recorded step with 99% train accuracy. ms of a step, and seconds to 99% "
        "of the test set for those that get there: wall time, with compiling, over the number of "
        "seeds, which run side by side; so compare them where machine and number are the same.\n\n"
    )
    text = header + table(
        ["optimizer", "learning rate, decay", "success", "test accuracy", "memorised", "95% test",
         "99% test", "weight norm", "ms", "seconds", "seeds on"],
        [row(record) for record in records],
    )  # fmt: skip
    page = draw(records)
    write(
        choice.out, name, choice.scale, {"operation": choice.operation, "runs": records}, page, text
    )
    plt.close(page)


if __name__ == "__main__":
    command(main, Choice, __doc__)
