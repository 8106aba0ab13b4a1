"""README.md of a folder of results: each claim of Zhang et al. (2025), and what was measured.

    python experiments/glass/report.py [--out FOLDER]

Reads the JSON files that the other scripts of this folder left; a claim without its file is not
decided.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tyro
from figure3 import GOOD
from glass import spread, table

from glassgrok.engine.folder import write_text

AGREES, DIFFERS, OPEN = "agrees", "**disagrees**", "not decided"
PICTURES = {
    "figure4": "The data sets",
    "figure5": "AdamW on three tasks (Table 1, Figure 5)",
    "figure6": "The weight norm held at 30 (Figure 6)",
    "figure3": "WanD, AdamW and rivals, x + y (Figure 3, Figure 7 of v5)",
    "figure8": "The same, x^2 + y (Figure 8 of v5)",
    "figure7": "Shares of training (Figures 7 and 8 of v5)",
    "ablation": "The parts of WanD",
}


@dataclass(frozen=True)
class Options:
    """Where the results are.

    Attributes:
        out: folder of the numbers, where README.md is written.
    """

    out: Path = Path("figures/glass")


class Claim(NamedTuple):
    """One line of the report.

    Attributes:
        text: what the paper says.
        source: name of the JSON file that tells.
        judge: its contents -> (what was measured, `AGREES` or `DIFFERS`).
    """

    text: str
    source: str
    judge: Callable[[dict], tuple[str, str]]


def _verdict(holds: bool) -> str:
    return AGREES if holds else DIFFERS


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
        return told, _verdict(len(there) == len(copies) and np.median(ratio) > 3)

    return judge


def _unlearnable(found):
    copies = found["tasks"]["x^3+xy^2+y"]
    best = [copy["best_test_accuracy"] for copy in copies]
    told = f"test accuracy {spread([c['test_accuracy'] for c in copies])} at the end"
    return f"{told}, at best {max(best):.3f}", _verdict(max(best) < 0.1)


def _fixed(found):
    ratios = {}
    for run in found["runs"]:
        copies = [c for c in run["copies"] if c["delay"] is not None]
        ratio = np.median([c["generalised"] / c["memorised"] for c in copies]) if copies else np.inf
        ratios.setdefault(run["width"], []).append(ratio)
    told = ", ".join(f"{w}: {a:.1f} (free {b:.1f})" for w, (a, b) in ratios.items())
    told = f"steps to generalise over steps to memorise, by width: {told}"
    return told, _verdict(all(held < min(2, free) for held, free in ratios.values()))


def _wand_steps(found):
    wand = _runs(found, method="WanD")[0]
    reached, copies = wand["reached"], wand["copies"]
    good = sum(copy["test_accuracy"] > GOOD for copy in copies)
    told = f"95 % after {spread(reached)} steps, {good} of {len(copies)} seeds at the end"
    there = [r for r in reached if r is not None]
    return told, _verdict(good > 0.8 * len(copies) and np.median(there) <= 2000)


def _wand_delay(found):
    def ratio(method):
        run = _runs(found, method=method)[0]
        pairs = zip(run["reached"], run["copies"], strict=True)
        return np.median([r / c["memorised"] for r, c in pairs if r is not None])

    wand, adam = ratio("WanD"), ratio("AdamW")
    told = f"steps to 95 % test over steps to 99 % train: WanD {wand:.1f}, AdamW {adam:.1f}"
    return told, _verdict(wand < adam / 2)


def _as_printed(found):
    run = _runs(found, method="WanD as printed")[0]
    good = sum(copy["test_accuracy"] > GOOD for copy in run["copies"])
    best = [copy["best_test_accuracy"] for copy in run["copies"]]
    told = f"{good} of {len(best)} seeds at the end; best on the way {spread(best)}"
    return told, _verdict(good > len(best) / 2)


def _norm(found):
    run = _runs(found, method="WanD as printed")[0]
    norms = np.median(np.array(run["curves"]["weight_norm"], float), axis=0)
    steps = np.array(run["step"])
    late = steps >= steps[-1] / 4
    growth = norms[late] ** 2 - norms[0] ** 2
    power = np.polyfit(np.log(steps[late]), np.log(growth), 1)[0] / 2
    told = f"{norms[-1]:.0f} at the end; sqrt(|θ|² - |θ_0|²) grows as steps^{power:.2f}"
    return told, _verdict(abs(power - 0.5) < 0.1)


def _high(found):
    run = _runs(found, method="WanD")[0]
    good = [c["weight_norm"] for c in run["copies"] if c["test_accuracy"] > GOOD]
    began = np.median([copy["weight_norm_start"] for copy in run["copies"]])
    told = (
        f"|θ| {spread(good)} where the test accuracy is above {GOOD:.0%}; it began at {began:.1f}"
    )
    return told, _verdict(bool(good) and min(good) > 2 * began)


def _held(found):
    told = []
    for run in _runs(found, method="norm held where it begins"):
        copies = run["copies"]
        good = sum(copy["test_accuracy"] > GOOD for copy in copies)
        accuracy = spread([c["test_accuracy"] for c in copies])
        told.append(f"{run['operation']}: {good} of {len(copies)} seeds, {accuracy}")
        holds = good < len(copies) / 2
    return "WanD with |θ| held where it begins: " + "; ".join(told), _verdict(holds)


CLAIMS = (
    Claim("x + y groks: it generalises long after it memorises", "figure5", _delay("x+y")),
    Claim("x^2 + y groks, and later", "figure5", _delay("x^2+y")),
    Claim("x^3 + x y^2 + y is memorised and never learned", "figure5", _unlearnable),
    Claim("with the norm held at 30 grokking is gone, at each width", "figure6", _fixed),
    Claim("WanD generalises within 2,000 steps (with what it lacks, see below)", "figure3",
          _wand_steps),
    Claim("WanD as printed does, at the end of 4,000 steps", "figure3", _as_printed),
    Claim("WanD largely eliminates the delay", "figure3", _wand_delay),
    Claim("its norm grows as by free diffusion, as the square root of the steps", "figure3", _norm),
    Claim("it finds generalising solutions of high norm", "figure3", _high),
    Claim("the growing norm is what lets it (our question)", "ablation", _held),
)  # fmt: skip
LANDSCAPES = (
    "no entropy barrier between memorising and generalising (Figure 1)",
    "the equilibrium curve generalises and is continuous (Figure 1)",
    "a large high-entropy advantage where it groks, a small one at norm 30 (Figures 1, 2)",
    "states of the unlearnable task with a test accuracy near 20 %",
)


def judged(out: Path) -> list[list[str]]:
    """Rows of the table of claims."""
    rows = []
    for claim in CLAIMS:
        path = out / f"{claim.source}.json"
        measured, verdict = f"no {claim.source}.json here", OPEN
        if path.is_file():
            try:
                measured, verdict = claim.judge(json.loads(path.read_text()))
            except (KeyError, IndexError, UnboundLocalError):
                measured = f"{claim.source}.json lacks the runs for it"
        rows.append([claim.text, measured, verdict])
    return rows + [[text, "needs the landscape at p = 67", OPEN] for text in LANDSCAPES]


def made_by(out: Path) -> str:
    """On what machines, at which scale."""
    found = []
    for name in PICTURES:
        path = out / f"{name}.json"
        if path.is_file():
            known = json.loads(path.read_text())
            about = known.get("provenance") or known["runs"][0]["provenance"]
            devices = ", ".join(sorted(set(about["devices"])))
            found.append(f"`{name}` at scale {known['scale']} on {devices}")
    return "; ".join(found) + "."


def main(options: Options) -> None:
    """Write README.md."""
    if not any((options.out / f"{name}.json").is_file() for name in PICTURES):
        sys.exit(f"{options.out} holds no results; run the scripts of this folder first.")
    parts = [
        "# Grokking as glass relaxation (Zhang et al. 2025)\n",
        "Written by `python experiments/glass/report.py` from the numbers in this folder. Values "
        "are the median (range) over seeds.\n",
        table(["claim", "measured", "verdict"], judged(options.out)),
        made_by(options.out) + "\n",
    ]
    for name, title in PICTURES.items():
        path = options.out / f"{name}.md"
        if path.is_file():
            body = path.read_text().split("\n", 1)[1].strip()
            parts.append(f"## {title}\n\n{body}\n\n![{title}]({name}.png)\n")
    write_text(options.out / "README.md", "\n".join(parts))
    print(f"Wrote {options.out / 'README.md'}.")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
