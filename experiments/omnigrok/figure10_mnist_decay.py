"""Figures 10b and 10d of Liu et al. (2023): steps to generalise on MNIST against weight decay.

    python experiments/omnigrok/figure10_mnist_decay.py [--scale quick | cpu | paper]

ReLU network 784-200-200-10 at alpha = 9, the first 1,000 images, MSE, batches of 200, AdamW. Each
finished run is added to the JSON file, and one that is there already is not repeated.
"""

import matplotlib.pyplot as plt
import numpy as np
from digits import Options, fit_cases, reached, run, task_of
from omnigrok import power

import glassgrok as gg
from glassgrok.experiment import spread, table, write

NAME = "figure10_mnist_decay"
LEVEL = 0.8  # of test accuracy; the paper does not say which
LEVELS = (0.7, LEVEL, 0.85)
RANGE = 0.1, 1.0  # of weight decay, where the paper finds t ~ 1 / gamma
DECAYS = {
    "quick": (0.1, 0.3, 1.0),
    "cpu": (1.0, 0.3, 0.1, 0.55, 0.17, 0.05, 3.0),
    "paper": (0.0, *np.round(np.geomspace(1e-4, 10, 16), 6).tolist()),
}
SEEDS = {"quick": 1, "cpu": 2, "paper": 4}


def cases(scale: str) -> list[tuple[gg.FitConfig, dict]]:
    """Each weight decay with each seed; at the scale cpu for as long as it should take."""
    found = []
    for seed in range(SEEDS[scale]):
        for decay in DECAYS[scale]:
            if scale == "quick":
                config = gg.FitConfig(steps=60, batch=20, records=12)
            elif scale == "cpu":
                steps = int(np.clip(2500 / decay, 4000, 30_000))
                config = gg.FitConfig(steps=steps, batch=200, records=160, evaluate=2500)
            else:
                config = gg.FitConfig(steps=100_000, batch=200, records=300)
            size = 60 if scale == "quick" else 1000
            found.append(
                (config, {"scale": 9.0, "size": size, "weight_decay": decay, "seed": seed})
            )
    return found


def exponent(records: list[dict], level: float) -> dict | None:
    """k of t ~ gamma^-k over weight decays within `RANGE`, where enough runs reach the level."""
    decays = sorted({r["columns"]["weight_decay"] for r in records})
    decays = [decay for decay in decays if RANGE[0] <= decay <= RANGE[1]]
    seeds = max(r["columns"]["seed"] for r in records) + 1
    times = {
        (r["columns"]["weight_decay"], r["columns"]["seed"]): reached(r, level) for r in records
    }
    return power(decays, [[times.get((decay, seed)) for seed in range(seeds)] for decay in decays])


def draw(records: list[dict]):
    """t against gamma, and the curves of test accuracy."""
    page, (left, right) = plt.subplots(1, 2, figsize=(12, 4.5), layout="constrained")
    decays = sorted({r["columns"]["weight_decay"] for r in records})
    colours = dict(zip(decays, plt.cm.viridis(np.linspace(0, 0.9, len(decays))), strict=True))
    for level, marker in zip(LEVELS, "vos", strict=True):
        pairs = [(r["columns"]["weight_decay"], reached(r, level)) for r in records]
        pairs = [(g, t) for g, t in pairs if t is not None and g > 0]
        if pairs:
            left.plot(*np.array(pairs).T, marker, alpha=0.7, label=f"test accuracy {level:.0%}")
            if level == LEVEL:
                g = np.array(RANGE)
                within = [np.log(t * d) for d, t in pairs if g[0] <= d <= g[1]]
                left.plot(g, np.exp(np.mean(within)) / g, "k--", linewidth=1, label="t ∝ 1/γ")
    left.set(xscale="log", yscale="log", xlabel="weight decay γ", ylabel="training steps t")
    if left.lines:
        left.legend(frameon=False)
    for record in sorted(records, key=lambda r: r["columns"]["weight_decay"]):
        decay = record["columns"]["weight_decay"]
        how = {"color": colours[decay], "label": f"γ = {decay:g}"}
        if record["columns"]["seed"]:
            how["label"] = None
        right.plot(record["step"], record["test_accuracy"], **how)
        right.plot(record["step"], record["train_accuracy"], color=colours[decay], linestyle=":")
    right.axhline(LEVEL, color="grey", linewidth=0.5)
    right.set(
        xscale="log", xlabel="training step", ylabel="accuracy (train dotted)", xlim=(1, None)
    )
    right.legend(frameon=False, fontsize=8)
    return page


def line(decay: float, records: list[dict]) -> list:
    """A row of the table."""
    some = [r for r in records if r["columns"]["weight_decay"] == decay]
    times = [spread([reached(r, level) for r in some]) for level in LEVELS]
    last = spread([r["test_accuracy"][-1] for r in some])
    memorised = spread([reached(r, 0.99, "train_accuracy") for r in some])
    return [f"{decay:g}", some[0]["config"]["steps"], memorised, *times, last, len(some)]


def main(options: Options) -> None:
    """Run what is not there yet, draw and write."""

    def finish(records):
        found = {str(level): exponent(records, level) for level in LEVELS}
        told = "; ".join(
            f"{e['power']:.2f} ± {e['error']:.2f} to {float(level):.0%} ({e['points']} runs)"
            for level, e in found.items()
            if e
        )
        header = ["weight decay", "steps", "99 % train"]
        header += [f"{level:.0%} test" for level in LEVELS]
        decays = sorted({r["columns"]["weight_decay"] for r in records})
        text = (
            "# Steps to generalise on MNIST against weight decay\n\nalpha = 9, "
            f"{records[0]['columns']['size']:,} train images, median (range) over seeds. k of t "
            f"~ gamma^-k for gamma from {RANGE[0]} to {RANGE[1]}: {told or 'none yet'}.\n\n"
        ) + table([*header, "test accuracy at the end", "seeds"],
                  [line(decay, records) for decay in decays])  # fmt: skip
        page = draw(records)
        results = {"exponents": found, "level": LEVEL, "runs": records}
        write(options.out, NAME, options.scale, results, page, text)
        plt.close(page)

    fit_cases(options, NAME, task_of(options), cases(options.scale), finish)


if __name__ == "__main__":
    run(main, __doc__)
