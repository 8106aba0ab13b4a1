"""Claim 7 of Kozyrev (2024): after grokking the residues lie on circles, and adding is a shift.

    python experiments/kozyrev/claim7_circles.py [--scale quick | cpu | paper]

x + y mod p by AdamW. Along the run: Fourier spectrum and principal components of the embedding, how
well x -> x + 1 is a linear map of it, and restricted and excluded loss as in Nanda et al. (2023).
"""

import time

import jax
import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from kozyrev import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    Adder,
    Options,
    arrivals,
    measured,
)

import glassgrok as gg
from glassgrok.analysis import representation as rep
from glassgrok.experiment import about, command, spread, table, write
from glassgrok.training import init_training, training_blocks

SEED, FRACTION, RATE = 2, 0.4, 1e-2
MODULUS = {"quick": 7, "cpu": 43, "paper": 113}
SIZES = {"quick": (8, 16), "cpu": (32, 64), "paper": (128, 512)}
SEEDS = {"quick": 2, "cpu": 8, "paper": 8}
STEPS = {"quick": 40, "cpu": 3000, "paper": 20_000}
EVERY = {"quick": 20, "cpu": 60, "paper": 100}
KEPT = 0.9  # of the spectrum at the end: its key frequencies
CIRCLES = 3  # pairs of principal components in which the shift is sought


def looked_at(params, model, task: gg.Task, logits_of, copy: int) -> dict:
    """Embedding (p, d) and logits (p², p + 1) of one copy, in float64."""
    one = jax.tree.map(lambda leaf: leaf[copy], params)
    embedding = np.asarray(one["params"]["embedding"], float)[:-1]
    return {"embedding": embedding, "logits": np.asarray(logits_of(one), float)}


def measures(seen: dict, task: gg.Task, keys: np.ndarray) -> dict[str, float]:
    """Of one copy at one step."""
    embedding, logits = seen["embedding"], seen["logits"]
    shares = rep.fourier_shares(embedding)
    components = min(2 * CIRCLES, len(embedding) // 2)
    kept, left = rep.restricted(logits, keys), rep.excluded(logits, keys)
    everything = np.ones(len(logits), bool)
    return {
        "frequencies": len(rep.key_frequencies(shares, KEPT)),
        "gini": rep.gini(shares),
        "key_share": float(shares[keys - 1].sum()),
        "principal": float(rep.principal(embedding).shares[:components].sum()),
        "shift": rep.shift(embedding, components).explained,
        "roundness": float(np.mean([rep.roundness(embedding, k) for k in keys])),
        "sum_share": float(rep.sum_shares(logits).sum()),
        "train": rep.cross_entropy(logits, task.labels, task.train),
        "test": rep.cross_entropy(logits, task.labels, task.test),
        "restricted": rep.cross_entropy(kept, task.labels, everything),
        "excluded": rep.cross_entropy(left, task.labels, task.train),
    }


def shuffled(embedding: np.ndarray, components: int, many: int = 200) -> list[float]:
    """Explained shift of the same points under other namings of the residues: what chance gives."""
    random = np.random.default_rng(SEED)
    return [
        rep.shift(embedding[random.permutation(len(embedding))], components).explained
        for _ in range(many)
    ]


def first_below(steps: np.ndarray, values: np.ndarray, share: float = 0.5) -> int | None:
    """The first step from which a loss stays below a share of its largest value."""
    high = np.flatnonzero(values >= share * values.max())[-1]
    return int(steps[high + 1]) if high + 1 < len(steps) else None


def main(options: Options) -> None:
    """Train, look, draw and write."""
    began, scale = time.perf_counter(), options.scale
    p, seeds = MODULUS[scale], SEEDS[scale]
    model, task = Adder(p + 1, *SIZES[scale]), gg.modular("x+y", p, FRACTION)
    config = gg.TrainingConfig(
        steps=STEPS[scale], learning_rate=RATE, seeds=seeds, record="linear",
        records=STEPS[scale] // 10 + 1, block=EVERY[scale],
    )  # fmt: skip
    state, parts = init_training(model, task, config, jax.random.key(SEED)), []
    logits_of = jax.jit(lambda params: model.apply(params, task.inputs))
    snapshots = [[looked_at(state.params, model, task, logits_of, i) for i in range(seeds)]]
    steps = [0]
    for now, part in training_blocks(model, task, config, state):
        parts.append(part)
        if int(now.step) > steps[-1]:
            steps.append(int(now.step))
            snapshots.append(
                [looked_at(now.params, model, task, logits_of, i) for i in range(seeds)]
            )
    steps, found = np.array(steps), arrivals(xr.concat(parts, "step"))
    copies = [judged(steps, [s[i] for s in snapshots], task, found[i]) for i in range(seeds)]
    print(f"{len(steps)} looks, generalised {spread([c['generalised'] for c in copies])}")
    results = {
        "provenance": about("claim7_circles", SEED),
        "modulus": p,
        "steps": steps.tolist(),
        "copies": copies,
        "seconds": time.perf_counter() - began,
    }
    page = draw(results, [s[0]["embedding"] for s in (snapshots[0], snapshots[-1])])
    write(options.out, "claim7_circles", scale, results, page, text(results, scale))
    plt.close(page)


def judged(steps: np.ndarray, seen: list[dict], task: gg.Task, arrival: dict) -> dict:
    """The measures of one copy over all looks, and what they tell."""
    keys = rep.key_frequencies(rep.fourier_shares(seen[-1]["embedding"]), KEPT)
    curves = {}
    for one in seen:
        for name, value in measures(one, task, keys).items():
            curves.setdefault(name, []).append(value)
    curves = {name: np.array(values) for name, values in curves.items()}
    memorised = arrival["memorised"] or steps[-1]
    before = int(np.searchsorted(steps, memorised))
    before = min(before, len(steps) - 1)
    components = min(2 * CIRCLES, len(seen[-1]["embedding"]) // 2)
    chance = shuffled(seen[-1]["embedding"], components)
    turn = rep.shift(seen[-1]["embedding"], components)
    return arrival | {
        "keys": keys.tolist(),
        "turns": np.round(np.sort(np.abs(turn.turns)), 3).tolist(),
        "moduli": np.round(turn.moduli, 3).tolist(),
        "shift_by_chance": [float(np.mean(chance)), float(np.std(chance)), float(np.max(chance))],
        "start": {name: float(values[0]) for name, values in curves.items()},
        "memory": {name: float(values[before]) for name, values in curves.items()},
        "end": {name: float(values[-1]) for name, values in curves.items()},
        "halved": {n: first_below(steps, curves[n]) for n in ("restricted", "test")},
        "curves": {name: [float(f"{v:.4g}") for v in values] for name, values in curves.items()},
    }


def draw(found: dict, embeddings: list[np.ndarray]):
    """Spectrum, circles, shift and losses."""
    page, axes = plt.subplots(2, 3, figsize=(13, 8), layout="constrained")
    copy, steps, p = found["copies"][0], np.array(found["steps"]), found["modulus"]
    k = np.arange(1, p // 2 + 1)
    for place, embedding, name in zip(axes[0, :2], embeddings, ("At the start", "At the end"),
                                      strict=True):  # fmt: skip
        place.bar(k, rep.fourier_shares(embedding), color=BLUE)
        place.set(title=f"{name}: spectrum of the embedding", xlabel="frequency k",
                  ylabel="share of the variance")  # fmt: skip
    key = copy["keys"][0]
    at, reached = rep.circle(embeddings[1], key), rep.roundness(embeddings[1], key)
    at = at / np.mean(at * np.exp(-2j * np.pi * key * np.arange(p) / p)) * reached
    inverse = pow(key, -1, p)  # the residue that one turn of the angle 2π/p stands for
    order = inverse * np.arange(p + 1) % p
    axes[0, 2].plot(at.real[order], at.imag[order], color=GREY, linewidth=0.8)
    axes[0, 2].plot(at.real, at.imag, "o", color=ORANGE, markersize=4)
    for x in order[: -1 : max(1, p // 14)]:
        axes[0, 2].annotate(str(x), (1.16 * at.real[x], 1.16 * at.imag[x]), ha="center",
                            va="center", fontsize=8)  # fmt: skip
    axes[0, 2].set(title=f"Residues in the plane of k = {key}", aspect="equal",
                   xlim=(-1.5, 1.5), ylim=(-1.5, 1.5))  # fmt: skip
    for one in found["copies"]:
        first = one is copy
        style = {"linewidth": 1.6 if first else 0.6, "alpha": 1 if first else 0.6}
        for name, colour, label in (("shift", GREEN, "x → x + 1 explained"),
                                    ("key_share", BLUE, "share of the key frequencies"),
                                    ("sum_share", ORANGE, "logits: share of x + y")):  # fmt: skip
            axes[1, 0].plot(steps, one["curves"][name], color=colour, **style,
                            label=label if first else None)  # fmt: skip
        for name, colour in (("train", BLUE), ("test", ORANGE), ("restricted", GREEN),
                             ("excluded", GREY)):  # fmt: skip
            axes[1, 1].plot(steps, np.maximum(one["curves"][name], 1e-7), color=colour, **style,
                            label=name if first else None)  # fmt: skip
        axes[1, 2].plot(steps, one["curves"]["frequencies"], color=BLUE, **style)
    axes[1, 0].axhline(0, color="black", linewidth=0.6)
    axes[1, 0].set(xlabel="training step", ylabel="share", ylim=(-0.4, 1.05),
                   title="Thick: the copy above")  # fmt: skip
    axes[1, 1].set(xlabel="training step", ylabel="loss, nats", yscale="log", title="Losses")
    axes[1, 2].set(xlabel="training step", ylabel=f"frequencies with {KEPT:.0%} of the variance",
                   ylim=(0, p // 2 + 1), title="Frequencies in the embedding")  # fmt: skip
    if copy["generalised"]:
        for place in axes[1]:
            place.axvline(copy["generalised"], color="black", linewidth=0.6, linestyle=":")
    axes[1, 0].legend(frameon=False, fontsize=9, loc="lower right")
    axes[1, 1].legend(frameon=False)
    return page


def text(found: dict, scale: str) -> str:
    """The tables."""
    names = {
        "frequencies": f"frequencies with {KEPT:.0%} of the variance",
        "gini": "Gini coefficient of the spectrum",
        "principal": f"variance in {2 * CIRCLES} principal components",
        "shift": "x → x + 1 explained there, left out",
        "roundness": "roundness at the key frequencies",
        "sum_share": "share of the logits that goes as x + y",
        "train": "train loss",
        "test": "test loss",
        "restricted": "restricted loss",
        "excluded": "excluded loss (train)",
    }

    def told(name, when):
        values = np.array([copy[when][name] for copy in found["copies"]])
        return measured(values.mean(), values.std(ddof=1) / np.sqrt(len(values)))

    rows = [[label, *(told(name, when) for when in ("start", "memory", "end"))]
            for name, label in names.items()]  # fmt: skip
    each = [
        [copy["seed"], copy["memorised"] or "never", copy["generalised"] or "never",
         ", ".join(map(str, copy["keys"])), ", ".join(f"{t:.2f}" for t in copy["turns"]),
         f"{copy['end']['shift']:.3f}",
         f"{copy['shift_by_chance'][0]:.3f}, at most {copy['shift_by_chance'][2]:.3f}",
         *(copy["halved"][n] or "never" for n in ("restricted", "test"))]
        for copy in found["copies"]
    ]  # fmt: skip
    return (
        f"# Circles\n\nx + y mod {found['modulus']}, {FRACTION:.0%} train, AdamW, learning rate "
        f"{RATE:g}, weight decay 1, {STEPS[scale]:,} steps. Mean ± standard error over "
        f"{len(found['copies'])} seeds. Key frequencies: the fewest with {KEPT:.0%} of the "
        "variance of the last embedding.\n\n"
        + table(["measure", "at the start", "memorised", "at the end"], rows)
        + "\nOf each seed. Turns: angles of the eigenvalues of x → x + 1 over 2π/p, whole numbers "
        "on circles. By chance: the same points, residues renamed, 200 times. Halved: the step "
        "from which restricted and test loss stay below half of their largest value.\n\n"
        + table(["seed", "memorised", "generalised", "key frequencies", "turns", "shift explained",
                 "by chance", "restricted halved", "test halved"], each)
    )  # fmt: skip


if __name__ == "__main__":
    command(main, Options, __doc__)
