"""The tables and figures of a paper from one command: the scripts under experiments/, in order."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

SCALES = ("quick", "cpu", "paper")
WITH_DATA = ("omnigrok",)  # papers that need data files
# By SIGINT or SIGTERM, which Python tells as -2 and -15, and scripts that end by themselves as 128
# more.
STOPPED = (-signal.SIGINT, -signal.SIGTERM, 128 + signal.SIGINT, 128 + signal.SIGTERM)


class Step(NamedTuple):
    """One script of a paper.

    Attributes:
        script: its file.
        result: the JSON file it leaves, or None where it must run in any case.
        minutes: what it takes at each of `SCALES`, on two cores and, at the last, on one H100.
        options: of its command line.
        whole: whether it leaves its result at the end alone, so that it need not run once it is
            there; the others keep each finished part, and go on from it.
        cpu: further options at the scale cpu, to stay below 40 minutes.
    """

    script: str
    result: str | None
    minutes: tuple[float, float, float]
    options: tuple[str, ...] = ()
    whole: bool = False
    cpu: tuple[str, ...] = ()


PAPERS = {
    "glass": (
        Step("figure4.py", "figure4", (0.1, 0.1, 0.1), whole=True),
        Step("figure5.py", "figure5", (0.5, 20, 4), whole=True),
        Step("figure6.py", "figure6", (1, 8, 5), whole=True),
        Step("figure3.py", "figure3", (1, 25, 4)),
        Step("figure3.py", "figure8", (1, 25, 4), options=("--operation", "x^2+y")),
        Step("figure7.py", "figure7", (2.5, 34, 14), cpu=("--seeds", "1")),
        Step("ablation.py", "ablation", (2, 39, 13), cpu=("--seeds", "1")),
        Step("figure1.py", "figure1", (4, 40, 600)),
        Step("figure2.py", "figure2", (2, 30, 600), cpu=("--widths", "12", "16")),
        Step("report.py", None, (0.1, 0.1, 0.1)),
    ),
    "omnigrok": (
        Step("figure2_teacher_student.py", "figure2_teacher_student", (0.5, 21, 8)),
        Step("figure3_mnist.py", "figure3_mnist", (0.5, 15, 90)),
        Step("figure3_grokking.py", "figure3_grokking", (0.3, 8, 8)),
        Step("figure3_sizes.py", "figure3_sizes", (0.3, 8, 100)),
        Step("figure8_messiness.py", "figure8_messiness", (0.3, 6, 40), whole=True),
        Step("figure10_mnist_decay.py", "figure10_mnist_decay", (0.3, 14, 30)),
        Step(
            "figure11_mnist_cross_entropy.py",
            "figure11_mnist_cross_entropy",
            (0.4, 5, 90),  # it keeps its map, and draws beside it what figure 3 may get later
        ),
        Step("figure12_mnist_cross_entropy.py", "figure12_mnist_cross_entropy", (0.3, 5, 60)),
        Step("figure4_imdb.py", "figure4_imdb", (1, 7, 600)),
        Step("figure5_qm9.py", "figure5_qm9", (1, 12, 30)),
        Step("figure6_toy.py", "figure6_toy", (0.5, 10, 100), whole=True),
        Step("figure6_trajectory.py", "figure6_trajectory", (0.5, 3, 10)),
        Step(
            "figure7_transformer.py",
            "figure7_transformer",
            (0.2, 30, 3),
            cpu=("--seeds", "1"),
            whole=True,
        ),
        Step("figure9_fractions.py", "figure9_fractions", (0.2, 13, 60), cpu=("--seeds", "1")),
        Step("figure10_transformer_decay.py", "figure10_transformer_decay", (0.2, 10, 60)),
        Step(
            "entropy_goldilocks.py",
            "entropy_teacher",
            (0.5, 17, 60),
            options=("--case", "teacher"),
            whole=True,
        ),
        Step("entropy_goldilocks.py", "entropy_toy", (0.5, 30, 60), ("--case", "toy"), whole=True),
        Step(
            "entropy_goldilocks.py", "entropy_mnist", (1.5, 40, 60), ("--case", "mnist"), whole=True
        ),
        Step("report_omnigrok.py", None, (0.1, 0.1, 0.1)),
    ),
    "kozyrev": (
        Step("claim1_gibbs.py", "claim1_gibbs", (0.3, 1, 3), whole=True),
        Step("claim2_eyring.py", "claim2_eyring", (0.3, 3, 5)),
        Step("claim3_volume.py", "claim3_volume", (0.3, 2, 5), whole=True),
        Step("claim4_walks.py", "claim4_walks", (0.5, 6, 20)),
        Step("claim5_fraction.py", "claim5_fraction", (0.3, 6, 30)),
        Step("claim6_entropy.py", "claim6_entropy", (0.5, 8, 20)),
        Step("claim7_circles.py", "claim7_circles", (0.3, 1, 10), whole=True),
        Step("report_kozyrev.py", None, (0.1, 0.1, 0.1)),
    ),
    "ising": (
        Step("figure1_lattices.py", "figure1", (0.2, 2, 10), whole=True),
        Step("figure5_networks.py", "figure5", (0.2, 9, 5)),
        Step("figure2_sweeps.py", "figure2", (0.3, 7, 5), options=("--sweep", "c")),
        Step("figure2_sweeps.py", "figure3", (0.3, 5, 5), options=("--sweep", "decay")),
        Step("figure2_sweeps.py", "figure4", (0.3, 5, 5), options=("--sweep", "beta")),
        Step("figure2_sweeps.py", "sizes", (0.5, 10, 10), options=("--sweep", "size")),
        Step("figure2_sweeps.py", "variants", (0.5, 7, 8), options=("--sweep", "variant")),
        Step("figure9_dropout.py", "figure9", (0.3, 10, 30)),
        Step("figure11_gradients.py", "figure11", (0.2, 5, 20), whole=True),
        Step("figure13_activations.py", "figure13", (0.2, 0.3, 0.3), whole=True),
        Step("figure16_confidence.py", "figure16", (0.1, 0.1, 0.1)),
        Step("figure18_entropy.py", "figure18", (1.5, 40, 60), whole=True),
        Step("report_ising.py", None, (0.1, 0.1, 0.1)),
    ),
}


def folder_of(paper: str) -> Path:
    """Where the scripts of a paper are.

    Raises:
        ValueError: glassgrok was installed without them.
    """
    folder = Path(__file__).parents[1] / "experiments" / paper
    if not folder.is_dir():
        raise ValueError(
            f"The scripts of {paper} belong at {folder}, but are not there; they come with the "
            "repository and not with the package: install it with 'pip install -e .' from a clone."
        )
    return folder


def finished(step: Step, scale: str, out: Path) -> bool:
    """Whether a script that leaves its result at the end alone has left it.

    Raises:
        ValueError: what is there is of another scale.
    """
    path = out / f"{step.result}.json"
    if step.result is None or not path.is_file():
        return False
    found = json.loads(path.read_text())["scale"]
    if found != scale:
        raise ValueError(
            f"{path} holds results of the scale {found}, not {scale}; give another --out."
        )
    return step.whole


def reproduce(paper: str, scale: str, out: Path, tell=print, data: Path | None = None) -> None:
    """Run the scripts of a paper that have not run yet, one after the other.

    After one that fails, as where its data files are lacking, the others still run.

    Args:
        paper: one of `PAPERS`.
        scale: one of `SCALES`.
        out: folder of the results.
        tell: called with what is going on.
        data: folder of data files; None for what GLASSGROK_DATA names, or a download.

    Raises:
        ValueError: results of another scale are there, scripts failed, or one was stopped.
    """
    folder, steps = folder_of(paper), PAPERS[paper]
    left = [step for step in steps if not finished(step, scale, out)]
    place, failed = SCALES.index(scale), []
    environment = os.environ | ({"GLASSGROK_DATA": str(data)} if data else {})
    expected = sum(step.minutes[place] for step in left)
    machine = "one H100" if scale == "paper" else "two cores"
    tell(f"{len(left)} of {len(steps)} scripts, about {expected:.0f} minutes on {machine}.")
    for number, step in enumerate(left, 1):
        options = [*step.options, *(step.cpu if scale == "cpu" else ())]
        options += ["--scale", scale] if step.result else []
        ahead = sum(other.minutes[place] for other in left[number - 1 :])
        name = " ".join([step.script, *options])
        tell(f"[{number} of {len(left)}] {name}; about {ahead:.0f} minutes left")
        began = time.monotonic()
        command = [sys.executable, str(folder / step.script), *options, "--out", str(out)]
        code = subprocess.run(command, check=False, env=environment).returncode
        if code in STOPPED:
            failed.append(f"{name} was stopped with exit code {code}")
            break
        if code:
            failed.append(f"{name} ended with exit code {code}")
            tell(f"[{number} of {len(left)}] {failed[-1]}; its message is above")
        else:
            tell(f"[{number} of {len(left)}] took {(time.monotonic() - began) / 60:.1f} minutes")
    if failed:
        raise ValueError(
            f"{'; '.join(failed)}. What was finished stays: the same command goes on from there."
        )
