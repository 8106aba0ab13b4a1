"""Figure 10a and c of Liu et al. (2023): steps to generalise against weight decay, x + y mod p.

    python experiments/omnigrok/figure10_transformer_decay.py [--scale quick | cpu | paper]

AdamW, full batch, the initial norm as it is drawn. The exponent k of t ~ γ^-k
is fitted for each seed, over the decays at which it generalised. Each finished decay is added to
the JSON file, and one that is there already is not repeated.
"""

import time

import matplotlib.pyplot as plt
import numpy as np
from nanda import (
    SEED,
    SIZES,
    described,
    model_of,
    task_of,
    trained,
)
from omnigrok import LEVEL, Options, power, rounded, steps_to

import glassgrok as gg
from glassgrok.experiment import about, command, known_runs, spread, table, write

NAME = "figure10_transformer_decay"
DECAYS = {
    "quick": (1.0, 3.0),
    "cpu": (0.1, 0.2, 0.4, 0.8, 1.6, 3.2),
    "paper": (0.03, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4),
}
# Steps times decay: how long a run may take, if it never generalises.
PATIENCE = {"quick": 200, "cpu": 2500, "paper": 15_000}
LONGEST = {"quick": 200, "cpu": 16_000, "paper": 300_000}


def config_of(options: Options, decay: float) -> gg.TrainingConfig:
    """How one decay is trained."""
    steps = min(LONGEST[options.scale], round(PATIENCE[options.scale] / min(decay, 1)))
    rate = SIZES[options.scale].rate
    return gg.TrainingConfig(
        steps=steps, learning_rate=rate, weight_decay=decay, seeds=options.copies
    )


def run(options: Options, decay: float) -> dict:
    """Train all seeds until each has generalised."""
    history = trained(
        model_of(options.scale),
        task_of(options.scale),
        config_of(options, decay),
        f"decay {decay:g}",
        lambda last: bool((last["test_accuracy"] >= LEVEL).all()),
    )
    few = history.isel(step=np.unique(np.linspace(0, history.sizes["step"] - 1, 150).astype(int)))
    return {
        "weight_decay": decay,
        "memorised": steps_to(history, "train_accuracy"),
        "generalised": steps_to(history, "test_accuracy"),
        "steps": int(history["step"][-1]),
        "step": few["step"].values.tolist(),
        "median": {n: rounded(few[n].median("copy")) for n in ("train_accuracy", "test_accuracy")},
        "seconds": history.attrs["seconds"],
        "provenance": about(NAME, SEED),
    }


def draw(records: list[dict], fitted: dict | None):
    """Steps against decay with the fit, and accuracy over steps for each decay."""
    page, (left, right) = plt.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    decays = np.array([r["weight_decay"] for r in records])
    kinds = (("memorised", "#0072B2", "train", "s"), ("generalised", "#D55E00", "test", "o"))
    for name, colour, told, mark in kinds:
        values = np.array([r[name] for r in records], float)
        left.loglog(decays, values, mark, color=colour, markersize=4, alpha=0.6)
        left.loglog([], [], mark, color=colour, label=f"{LEVEL:.0%} {told} accuracy")
    if fitted is not None:
        times = np.array([r["generalised"] for r in records], float)
        there = np.isfinite(times)
        middle = np.log(times[there]).mean()
        away = np.log(decays) - np.broadcast_to(np.log(decays)[:, None], times.shape)[there].mean()
        for k, style in ((fitted["power"], "-"), (1.0, ":")):
            colour = "#D55E00" if style == "-" else "black"
            left.loglog(decays, np.exp(middle - k * away), style, color=colour, label=f"γ^-{k:.2f}")
    left.set(xlabel="weight decay γ", ylabel="training step")
    left.legend(frameon=False)
    colours = plt.colormaps["viridis"](np.linspace(0, 0.9, len(records)))
    for record, colour in zip(records, colours, strict=True):
        step, label = np.array(record["step"]) + 1, f"γ = {record['weight_decay']:g}"
        right.plot(step, record["median"]["test_accuracy"], color=colour, label=label)
        right.plot(step, record["median"]["train_accuracy"], ":", color=colour)
    right.set(xscale="log", xlabel="training step + 1", ylabel="accuracy (dotted: train)")
    right.legend(frameon=False, fontsize=8)
    return page


def finish(options: Options, records: list[dict]) -> None:
    """The numbers, the picture and the table of what is there."""
    records = sorted(records, key=lambda r: r["weight_decay"])
    fitted = power([r["weight_decay"] for r in records], [r["generalised"] for r in records])
    told = "No fit: too few generalised."
    if fitted is not None:
        told = (
            f"t ~ γ^-k with k = {fitted['power']:.2f} ± {fitted['error']:.2f} over "
            f"{fitted['decades']:.1f} decades of γ."
        )
    text = (
        f"# Steps to generalise against weight decay\n\n{described(options.scale)}; median "
        f"(range) over {len(records[0]['generalised'])} seeds of the first recorded step with "
        f"{LEVEL:.0%} accuracy. {told}\n\n"
    ) + table(
        ["weight decay", "memorised", "generalised", "γ times steps", "steps at most"],
        [
            [
                f"{r['weight_decay']:g}",
                spread(r["memorised"]),
                spread(r["generalised"]),
                spread([None if t is None else t * r["weight_decay"] for t in r["generalised"]]),
                f"{config_of(options, r['weight_decay']).steps:,}",
            ]
            for r in records
        ],
    )
    results = {
        "provenance": records[0]["provenance"],
        "seconds": sum(r["seconds"] for r in records),
        "size": SIZES[options.scale]._asdict(),
        "level": LEVEL,
        "law": fitted,
        "runs": records,
    }
    page = draw(records, fitted)
    write(options.out, NAME, options.scale, results, page, text)
    plt.close(page)


def main(options: Options) -> None:
    """Run what is not there yet, the quickest first; draw and write."""
    records = known_runs(options.out, NAME, options.scale)
    there = {r["weight_decay"] for r in records}
    for decay in sorted(set(DECAYS[options.scale]) - there, reverse=True):
        began = time.perf_counter()
        records.append(run(options, decay))
        print(f"decay {decay:g} took {time.perf_counter() - began:.0f} s", flush=True)
        finish(options, records)
    finish(options, records)


if __name__ == "__main__":
    command(main, Options, __doc__)
