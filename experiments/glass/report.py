"""README.md of a folder of results: each claim of Zhang et al. (2025), and what was measured.

    python experiments/glass/report.py [--out FOLDER]

Reads the JSON files that the other scripts of this folder left; a claim without its file is not
decided.
"""

from collections.abc import Callable

import numpy as np
from figure1 import GENERALISING
from figure3 import GOOD

from glassgrok.claims import OPEN, Claim, Paper, command, there, verdict
from glassgrok.experiment import spread

PICTURES = {
    "figure1": "Landscapes of the three tasks (Figure 1)",
    "figure2": "Landscapes at fixed norm (Figure 2)",
    "figure4": "The data sets",
    "figure5": "AdamW on three tasks (Table 1, Figure 5)",
    "figure6": "The weight norm held at 30 (Figure 6)",
    "figure3": "WanD, AdamW and rivals, x + y (Figure 3, Figure 7 of v5)",
    "figure8": "The same, x^2 + y (Figure 8 of v5)",
    "figure7": "Shares of training (Figures 7 and 8 of v5)",
    "ablation": "The parts of WanD",
}


def _runs(found: dict, **wanted) -> list[dict]:
    return [run for run in found["runs"] if all(run[k] == v for k, v in wanted.items())]


def _delay(operation: str) -> Callable:
    def judge(found):
        copies = found["tasks"][operation]
        delays = [copy["delay"] for copy in copies]
        there = [d for d in delays if d is not None]
        ratio = [c["generalised"] / c["memorised"] for c in copies if c["delay"] is not None]
        told = f"delay {spread(delays)} steps"
        told += f", {np.median(ratio):.0f} times the steps to memorise" if ratio else ""
        return told, verdict(len(there) == len(copies) and np.median(ratio) > 3)

    return judge


def _unlearnable(found):
    copies = found["tasks"]["x^3+xy^2+y"]
    best = [copy["best_test_accuracy"] for copy in copies]
    told = f"test accuracy {spread([c['test_accuracy'] for c in copies])} at the end"
    return f"{told}, at best {max(best):.3f}", verdict(max(best) < 0.1)


def _fixed(found):
    ratios = {}
    for run in there(found["runs"]):
        copies = [c for c in run["copies"] if c["delay"] is not None]
        ratio = np.median([c["generalised"] / c["memorised"] for c in copies]) if copies else np.inf
        ratios.setdefault(run["width"], []).append(ratio)
    pairs = there({width: both for width, both in ratios.items() if len(both) == 2})
    told = ", ".join(f"{w}: {a:.1f} (free {b:.1f})" for w, (a, b) in pairs.items())
    told = f"steps to generalise over steps to memorise, by width: {told}"
    return told, verdict(all(held < min(2, free) for held, free in pairs.values()))


def _wand_steps(found):
    wand = _runs(found, method="WanD")[0]
    reached, copies = wand["reached"], wand["copies"]
    good = sum(copy["test_accuracy"] > GOOD for copy in copies)
    told = f"95 % after {spread(reached)} steps, {good} of {len(copies)} seeds at the end"
    there = [r for r in reached if r is not None]
    return told, verdict(good > 0.8 * len(copies) and np.median(there) <= 2000)


def _wand_delay(found):
    def ratio(method):
        run = _runs(found, method=method)[0]
        pairs = zip(run["reached"], run["copies"], strict=True)
        return np.median(there([r / c["memorised"] for r, c in pairs if r is not None]))

    wand, adam = ratio("WanD"), ratio("AdamW")
    told = f"steps to 95 % test over steps to 99 % train: WanD {wand:.1f}, AdamW {adam:.1f}"
    return told, verdict(wand < adam / 2)


def _as_printed(found):
    run = _runs(found, method="WanD as printed")[0]
    good = sum(copy["test_accuracy"] > GOOD for copy in run["copies"])
    best = [copy["best_test_accuracy"] for copy in run["copies"]]
    told = f"{good} of {len(best)} seeds at the end; best on the way {spread(best)}"
    return told, verdict(good > len(best) / 2)


def _norm(found):
    run = _runs(found, method="WanD as printed")[0]
    norms = np.median(np.array(run["curves"]["weight_norm"], float), axis=0)
    steps = np.array(run["step"])
    late = steps >= steps[-1] / 4
    growth = norms[late] ** 2 - norms[0] ** 2
    if (growth <= 0).any():
        return f"it falls below the {norms[0]:.1f} where it began", verdict(False)
    power = np.polyfit(np.log(steps[late]), np.log(growth), 1)[0] / 2
    told = f"{norms[-1]:.0f} at step {steps[-1]:,} (the paper's: about 175); sqrt(|θ|² - |θ_0|²)"
    told += f" grows as steps^{power:.2f}"
    return told, verdict(abs(power - 0.5) < 0.1)


def _high(found):
    run = _runs(found, method="WanD")[0]
    good = [c["weight_norm"] for c in run["copies"] if c["test_accuracy"] > GOOD]
    began = np.median([copy["weight_norm_start"] for copy in run["copies"]])
    told = (
        f"|θ| {spread(good)} where the test accuracy is above {GOOD:.0%}; it began at {began:.1f}"
    )
    return told, verdict(bool(good) and min(good) > 2 * began)


def _held(found):
    told, holds = [], []
    for run in there(_runs(found, method="norm held where it begins")):
        copies = run["copies"]
        good = sum(copy["test_accuracy"] > GOOD for copy in copies)
        accuracy = spread([c["test_accuracy"] for c in copies])
        told.append(f"{run['operation']}: {good} of {len(copies)} seeds, {accuracy}")
        holds.append(good < len(copies) / 2)
    return "WanD with |θ| held where it begins: " + "; ".join(told), verdict(all(holds))


LEARNABLE = ("x+y", "x^2+y")


def _of_landscapes(found: dict, told: str, holds: bool | None, names=LEARNABLE) -> tuple[str, str]:
    """A verdict on landscapes at p of the scale, if they are in equilibrium."""
    converged = all(found["cases"][name]["converged"] for name in names)
    told = f"p = {found['size']['modulus']}: {told}"
    if not converged:
        return f"{told}; not converged", OPEN
    return told, OPEN if holds is None else verdict(holds)


def _words(found: dict, fields: dict[str, str], good: str, bad: str) -> tuple[str, str]:
    """Whether all verdicts are `good`; `fields` has how each of them is told."""
    cases = {name: found["cases"][name] for name in LEARNABLE}
    verdicts = [case[field]["verdict"] for case in cases.values() for field in fields]
    told = ", ".join(
        f"{name} " + " and ".join(how.format(case[f]["verdict"]) for f, how in fields.items())
        for name, case in cases.items()
    )
    holds = None
    if all(v == good for v in verdicts):
        holds = True
    elif bad in verdicts:
        holds = False
    return _of_landscapes(found, told, holds)


def _walls(found):
    fields = {"barrier": "{}", "canonical_barrier": "{} at fixed temperature"}
    return _words(found, fields, "NONE", "BARRIER")


def _jumps(found):
    return _words(found, {"transition": "{}"}, "CONTINUOUS", "FIRST ORDER")


def _advantages(found):
    told, holds = [], []
    for name in LEARNABLE:
        most = there(found["cases"][name]["largest"])
        (value, error), u = most["A"], most["u"]
        told.append(f"{name} {value:.2f} ± {f'{error:.1g}' if error is not None else '?'} in A")
        nats, wrong = most["nats"]
        least = "" if nats is not None else "at least "
        nats = most["nats_at_least"] if nats is None else nats
        if nats is not None and wrong is not None:
            told[-1] += f", {least}{nats:.1f} ± {wrong:.1f} nats"
        told[-1] += f", at u {u:.1f}"
        spare = value + most["training_A"] - most["range"][1]  # over the seed with the highest A
        holds.append(None if error is None else spare > 2 * error)
    return _of_landscapes(found, "; ".join(told), None if None in holds else all(holds))


def _equilibrium(found):
    """A of all networks at the lowest train loss that is known."""
    told, holds = [], []
    for name in LEARNABLE:
        (value, error), u = (found["cases"][name][field] for field in ("lowest_A", "lowest_u"))
        known = error is not None
        told.append(f"{name} A {value:.2f} ± {f'{error:.2f}' if known else '?'} at u {u:.1f}")
        holds.append(known and value - 2 * error > GENERALISING)
    return _of_landscapes(found, ", ".join(told), all(holds))


def _shrinks(found, held):
    cases = {"x+y": found["cases"]["x+y"]} | held["cases"]
    each = {name: there(case["largest"])["A"][0] for name, case in cases.items()}
    free = each.pop("x+y")
    told = f"free {free:.2f} in A; " + ", ".join(f"{n} {a:.2f}" for n, a in each.items())
    both = {"size": found["size"], "cases": cases}
    return _of_landscapes(both, told, max(each.values()) < free / 2, cases)


def _unlearned_states(found):
    name = "x^3+xy^2+y"
    value, error = found["cases"][name]["lowest_A"]
    told = f"A {value} ± {error} in equilibrium at the lowest loss"
    return _of_landscapes(found, told, None, (name,))


CLAIMS = (
    Claim("x + y groks: it generalises long after it memorises", ("figure5",), _delay("x+y")),
    Claim("x^2 + y groks, and later", ("figure5",), _delay("x^2+y")),
    Claim("x^3 + x y^2 + y is memorised and never learned", ("figure5",), _unlearnable),
    Claim("with the norm held at 30 grokking is gone, at each width", ("figure6",), _fixed),
    Claim("WanD generalises within 2,000 steps (with what it lacks, see below)", ("figure3",),
          _wand_steps),
    Claim("as printed, beta = 1,000, it stays there to step 4,000 (our question)", ("figure3",),
          _as_printed),
    Claim("WanD largely eliminates the delay", ("figure3",), _wand_delay),
    Claim("its norm grows as the square root of the steps, by free diffusion", ("figure3",), _norm),
    Claim("it finds generalising solutions of high norm", ("figure3",), _high),
    Claim("the growing norm is what lets it (our question)", ("ablation",), _held),
    Claim(f"in equilibrium networks that fit generalise (A above {GENERALISING})", ("figure1",),
          _equilibrium, late=True),
    Claim("no entropy barrier between memorising and generalising", ("figure1",), _walls),
    Claim("the equilibrium curve is continuous", ("figure1",), _jumps),
    Claim("a large high-entropy advantage where it groks", ("figure1",), _advantages),
    Claim("a much smaller one at a fixed norm", ("figure1", "figure2"), _shrinks),
    Claim("states of the unlearnable task with a test accuracy near 20 %", ("figure1",),
          _unlearned_states),
)  # fmt: skip
PAPER = Paper(
    "glass", "report.py", "Grokking as glass relaxation (Zhang et al. 2025)", CLAIMS, PICTURES
)


if __name__ == "__main__":
    command(PAPER, __doc__)
