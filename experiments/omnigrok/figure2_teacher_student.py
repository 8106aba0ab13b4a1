"""Figure 2 of Omnigrok (Liu et al. 2023): a teacher and a student, both tanh MLPs 5-100-100-5.

    python experiments/omnigrok/figure2_teacher_student.py [--scale quick | cpu | paper]

(a) the reduced losses against alpha, as the authors find them (Adam, then back to the norm) and
with Adam on the gradient along the sphere; (b) accuracies at alpha = 2 and 0.5 and three weight
decays; (c) steps to 95 % accuracy against weight decay, and k of t ~ gamma^-k. An example counts as
right where its squared error, the mean over its components, is below the threshold: 0.01 in the
paper, 0.001 in the authors' code; both are run. Steps: the paper says 100,000, the code of (a)
10,000. Each finished part is added to the JSON file, and one that is there is not repeated.
"""

import time
from dataclasses import replace
from functools import cache

import jax
import matplotlib.pyplot as plt
import numpy as np
from omnigrok import (
    FLOOR,
    LEVEL,
    Options,
    power,
    rounded,
    steps_to,
    teller,
    test_curve,
    train_curve,
)

import glassgrok as gg
from glassgrok.engine.startup import cores, split_cpu
from glassgrok.experiment import about, command, known_runs, spread, table, write

NAME, SEED, RATE = "figure2_teacher_student", 0, 3e-4
# Reduced losses: alphas, steps. Dynamics: steps, decays of the sweep at alpha = 2.
SCALES = {"quick": (0.3, 1.0, 3.0), "cpu": 11, "paper": 21}
LANDSCAPE_STEPS = {"quick": 30, "cpu": 10_000, "paper": 100_000}
STEPS = {"quick": 60, "cpu": 100_000, "paper": 100_000}
DECAYS = {"quick": (0.03, 1.0), "cpu": 6, "paper": 12}
SHOWN = (0.0, 0.03, 1.0)  # weight decays of (b)
LARGE, SMALL = 2.0, 0.5  # alpha of (b)
THRESHOLDS = {"code": 0.001, "paper": 0.01}
KINDS = {"authors": False, "tangent": True}
COLOURS = ("#0072B2", "#009E73", "#D55E00")


def net(scale: str) -> gg.MLP:
    """The student, and the teacher."""
    return gg.MLP((8, 8, 5) if scale == "quick" else (100, 100, 5), "tanh")


@cache
def task_of(scale: str) -> gg.Supervised:
    """100 examples that train and 100 that test."""
    return gg.teacher_student(net(scale), seed=SEED)


def _spread_evenly(number, low: float, high: float) -> list[float]:
    if isinstance(number, tuple):
        return list(number)
    return np.round(np.geomspace(low, high, number), 4).tolist()


def landscape(options: Options, kind: str) -> dict:
    """The record of one kind of reduced losses."""
    began, model = time.perf_counter(), net(options.scale)
    seeds = 2 * options.copies  # they cost less than the dynamics, and an error needs many
    config = gg.FitConfig(
        steps=LANDSCAPE_STEPS[options.scale],
        optimizer="adam",
        hold_norm=True,
        tangent=KINDS[kind],
        records=20,
        block=5000,
        tile=12 if options.scale == "quick" else None,
    )
    found = gg.reduced_landscape(
        model,
        task_of(options.scale),
        _spread_evenly(SCALES[options.scale], 0.1, 10),
        seeds=seeds,
        config=config,
        key=jax.random.key(SEED + 1),
        learning_rate=RATE,
        on_progress=teller(f"reduced losses, {kind}"),
    ).squeeze(("size", "messiness"))
    losses = {name: found[name].values for name in ("train_loss", "test_loss")}
    scales = found["scale"].values
    return {
        "part": f"landscape, {kind}",
        "steps": config.steps,
        "seeds": seeds,
        "scale": scales.tolist(),
        "norm": rounded(found["weight_norm"].values),
        **{name: rounded(values) for name, values in losses.items()},
        "train_curve": train_curve(scales, losses["train_loss"]),
        "test_curve": test_curve(scales, losses["test_loss"]),
        "seconds": time.perf_counter() - began,
        "provenance": about(NAME, SEED),
    }


def dynamics(options: Options, source: str, seed: int) -> dict:
    """The record of runs of one seed that are free, with one threshold."""
    began, model = time.perf_counter(), net(options.scale)
    task = replace(task_of(options.scale), tolerance=THRESHOLDS[source])
    sweep = _spread_evenly(DECAYS[options.scale], 0.03, 1)
    steps, cases = STEPS[options.scale], []
    # The small ones generalise within 1,000 steps, and 100,000 would be spent on waiting.
    for alpha, decays, most in (
        (SMALL, list(SHOWN), min(steps, 10_000)),
        (LARGE, sorted({*SHOWN, *sweep}), steps),
    ):
        tile = len(decays) if options.scale == "quick" else None
        config = gg.FitConfig(steps=most, records=400, block=10_000, tile=tile)
        runs = {"scale": alpha, "weight_decay": decays, "seed": seed, "learning_rate": RATE}
        tell = teller(f"dynamics, threshold of the {source}, seed {seed}, alpha {alpha:g}")
        history = gg.fit(model, task, config, runs, jax.random.key(SEED + 1), tell).history
        cases += [_of_run(history.isel(run=i), alpha, d, seed) for i, d in enumerate(decays)]
    return {
        "part": f"dynamics, {source}, seed {seed}",
        "source": source,
        "threshold": THRESHOLDS[source],
        "steps": steps,
        "cases": cases,
        "seconds": time.perf_counter() - began,
        "provenance": about(NAME, SEED),
    }


def _of_run(own, alpha: float, decay: float, seed: int) -> dict:
    """What is kept of a run."""
    train, test = (steps_to(own.expand_dims("run"), f"{n}_accuracy")[0] for n in ("train", "test"))
    copy = {
        "seed": seed,
        "overfitted": train,
        "generalised": test,
        "norm_then": _norm_at(own, test),
        "train_accuracy": rounded(own["train_accuracy"].values[-1]),
        "test_accuracy": rounded(own["test_accuracy"].values[-1]),
        "best_test_accuracy": rounded(own["test_accuracy"].values.max()),
    }
    record = {"scale": alpha, "weight_decay": decay, "copies": [copy]}
    if decay in SHOWN:
        thin = own.isel(step=slice(None, None, 3))
        record |= {
            "step": thin["step"].values.tolist(),
            "curves": {n: [rounded(thin[f"{n}_accuracy"].values, 3)] for n in ("train", "test")},
        }
    return record


def merged(runs: list[dict]) -> dict[str, dict]:
    """Name -> part, where the seeds of the dynamics are put together and fitted."""
    parts = {run["part"]: run for run in runs if "source" not in run}
    for source in THRESHOLDS:
        seeds = [run for run in runs if run.get("source") == source]
        if not seeds:
            continue
        cases = []
        for same in zip(*(run["cases"] for run in seeds), strict=True):
            case = same[0] | {"copies": [copy for one in same for copy in one["copies"]]}
            if "curves" in case:
                names = case["curves"]
                case["curves"] = {n: [c for one in same for c in one["curves"][n]] for n in names}
            cases.append(case)
        swept = [c for c in cases if c["scale"] == LARGE and c["weight_decay"] > 0]
        fits = {
            name: power(
                [c["weight_decay"] for c in swept],
                [[copy[name] for copy in c["copies"]] for c in swept],
            )
            for name in ("overfitted", "generalised")
        }
        part = f"dynamics, {source}"
        parts[part] = seeds[0] | {
            "part": part, "seeds": len(seeds), "cases": cases, "power": fits,
        }  # fmt: skip
    return parts


def _norm_at(own, step: int | None) -> float | None:
    return None if step is None else rounded(own["weight_norm"].sel(step=step).values)


def todo(options: Options) -> dict[str, tuple]:
    """Part -> how it is made, the seeds one after the other."""
    parts = {f"landscape, {kind}": (landscape, kind) for kind in KINDS}
    for seed in range(options.copies):
        for source in THRESHOLDS:
            parts[f"dynamics, {source}, seed {seed}"] = (dynamics, source, seed)
    return parts


def finish(options: Options, runs: list[dict]) -> None:
    """The numbers, the picture and the tables of what is there."""
    parts = merged(runs)
    page = draw(parts)
    text = "# A teacher and a student\n\nMedian (range) over seeds of the student.\n\n" + "\n".join(
        _curves(part) if "landscape" in name else _cases(part) for name, part in parts.items()
    )
    fits = {name: part["power"] for name, part in parts.items() if "power" in part}
    write(options.out, NAME, options.scale, {"power": fits, "runs": runs}, page, text)
    plt.close(page)


def _curves(part: dict) -> str:
    """The table of reduced losses."""
    how = {
        "landscape, authors": "Adam, then back to the norm, as in the authors' code",
        "landscape, tangent": "Adam on the gradient along the sphere",
    }[part["part"]]
    low = part["test_curve"]
    head = (
        f"Reduced losses after {part['steps']:,} steps, {part['seeds']} seeds; {how}. Test loss "
        f"lowest at alpha = {low['minimum']:.2f} ± {low['error']:.2f}.\n\n"
    )
    rows = [
        [f"{alpha:.3g}", spread(train), spread(test)]
        for alpha, train, test in zip(
            part["scale"], part["train_loss"], part["test_loss"], strict=True
        )
    ]
    return head + table(["alpha", "train loss", "test loss"], rows)


def told(fit: dict | None) -> str:
    """A power of gamma in words."""
    if fit is None:
        return "not measured"
    return f"{fit['power']:.3f} ± {fit['error']:.3f} over {fit['decades']:.2f} decades"


def _cases(part: dict) -> str:
    """The table of steps to 95 %."""
    head = (
        f"AdamW, {part['steps']:,} steps (at alpha = {SMALL:g} 10,000 at most), "
        f"{part['seeds']} seeds, threshold {part['threshold']} "
        f"(of the {part['part'].split(', ')[1]}). k of t ~ gamma^-k at alpha = {LARGE:g}: steps to "
        f"{LEVEL:.0%} test accuracy {told(part['power']['generalised'])}; to {LEVEL:.0%} train "
        f"accuracy {told(part['power']['overfitted'])}.\n\n"
    )
    rows = [
        [
            f"{case['scale']:g}",
            f"{case['weight_decay']:g}",
            *[
                spread([copy[name] for copy in case["copies"]])
                for name in ("overfitted", "generalised", "norm_then", "test_accuracy")
            ],
        ]
        for case in part["cases"]
    ]
    header = ["alpha", "weight decay", "95% train", "95% test", "norm then", "test at the end"]
    return head + table(header, rows)


def draw(parts: dict):
    """(a) reduced losses, (b) accuracies, (c) steps and norm against weight decay."""
    page, axes = plt.subplots(2, 3, figsize=(14, 8), layout="constrained")
    _draw_losses(axes[0, 0], parts)
    shown = parts.get("dynamics, code") or parts.get("dynamics, paper")
    if shown is not None:
        for place, alpha in ((axes[0, 1], LARGE), (axes[1, 1], SMALL)):
            _draw_accuracies(place, shown, alpha)
        _draw_norms(axes[1, 0], shown)
    for place, source in ((axes[0, 2], "code"), (axes[1, 2], "paper")):
        if f"dynamics, {source}" in parts:
            _draw_steps(place, parts[f"dynamics, {source}"], source)
    return page


def _draw_losses(place, parts: dict) -> None:
    for name, line in (("landscape, authors", "-"), ("landscape, tangent", ":")):
        if name not in parts:
            continue
        part = parts[name]
        for kind, colour in (("train", "#D55E00"), ("test", "#555555")):
            values = np.array(part[f"{kind}_loss"], float)
            label = kind
            if kind == "train":  # as the authors draw it: what is lower has ended early or late
                values, label = values + FLOOR, "train + 1e-5"
            label += "" if line == "-" else ", along the sphere"
            place.plot(part["scale"], np.median(values, 1), line, color=colour, label=label)
            if line == "-":
                edge = values.min(1), values.max(1)
                place.fill_between(part["scale"], *edge, color=colour, alpha=0.2, linewidth=0)
    place.set(xscale="log", yscale="log", xlabel="alpha = w / w_0", ylabel="mean squared error")
    place.set_title("reduced losses", loc="left")
    place.legend(frameon=False, fontsize=9)


def _draw_accuracies(place, part: dict, alpha: float) -> None:
    cases = [c for c in part["cases"] if c["scale"] == alpha and "curves" in c]
    for case, colour in zip(cases, COLOURS, strict=True):
        for kind, line in (("train", "--"), ("test", "-")):
            for copy, values in enumerate(case["curves"][kind]):
                label = f"{kind}, gamma = {case['weight_decay']:g}" if copy == 0 else None
                place.plot(
                    case["step"], values, line, color=colour, label=label, linewidth=0.9, alpha=0.8
                )
    place.set(xscale="symlog", xlabel="training step", ylabel="accuracy", ylim=(-0.03, 1.03))
    place.set_xlim(0)
    place.set_title(f"alpha = {alpha:g}, threshold {part['threshold']:g}", loc="left")
    place.legend(frameon=False, fontsize=8, loc="upper left" if alpha > 1 else "center right")


def _swept(part: dict) -> list[dict]:
    return [c for c in part["cases"] if c["scale"] == LARGE and c["weight_decay"] > 0]


def _draw_steps(place, part: dict, source: str) -> None:
    names = (("overfitted", "#D55E00", "train"), ("generalised", "#555555", "test"))
    for name, colour, kind in names:
        points = [(c["weight_decay"], copy[name]) for c in _swept(part) for copy in c["copies"]]
        points = np.array([p for p in points if p[1] is not None], float)
        if not len(points):
            continue
        fit = part["power"][name]
        label = f"95% {kind}" + (f", k = {fit['power']:.2f} ± {fit['error']:.2f}" if fit else "")
        place.plot(*points.T, "o", color=colour, markersize=4, label=label)
        if fit:
            decays = np.unique(points[:, 0])
            middle = np.exp(np.mean(np.log(points[:, 1]) + fit["power"] * np.log(points[:, 0])))
            place.plot(decays, middle * decays ** -fit["power"], color=colour, linewidth=0.8)
    if place.lines:
        place.set(xscale="log", yscale="log")
        place.legend(frameon=False, fontsize=9)
    place.set(xlabel="weight decay gamma", ylabel="training steps")
    place.set_title(
        f"t ~ gamma^-k, threshold {part['threshold']:g} ({source})", loc="left", fontsize=11
    )


def _draw_norms(place, part: dict) -> None:
    points = [(c["weight_decay"], k["norm_then"]) for c in _swept(part) for k in c["copies"]]
    points = np.array([p for p in points if p[1] is not None], float)
    if not len(points):
        place.text(0.5, 0.5, "no run came there", ha="center", transform=place.transAxes)
        return
    place.plot(*points.T, "o", color="#555555", markersize=4)
    place.set(xscale="log", xlabel="weight decay gamma", ylabel="weight norm")
    place.set_title(f"norm at 95% test, alpha = {LARGE:g}", loc="left")


def main(options: Options) -> None:
    """Run the parts that are not there yet, draw and write."""
    runs = known_runs(options.out, NAME, options.scale)
    left = [how for part, how in todo(options).items() if part not in {r["part"] for r in runs}]
    for make, *what in left:
        runs.append(make(options, *what))
        finish(options, runs)
    if not left:
        finish(options, runs)


if __name__ == "__main__":
    split_cpu(cores())  # a device for each core, each with runs of its own
    command(main, Options, __doc__)
