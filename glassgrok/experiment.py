"""What the scripts under experiments/ share: their numbers, tables and pictures on disk."""

import json
import math
import re
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import jax
import numpy as np
import tyro
from matplotlib.figure import Figure

from glassgrok.engine.folder import provenance, replace_with, write_text
from glassgrok.engine.session import Stopped
from glassgrok.landscape import Landscape


@dataclass(frozen=True)
class Seeded:
    """What the options of scripts that train several seeds share.

    Attributes:
        scale: quick, cpu or paper; `SCALES` of `reproduce`.
        seeds: networks trained side by side; as many as the script has by itself if not given.
        out: folder for the numbers, the figure and the table.
    """

    scale: Literal["quick", "cpu", "paper"] = "cpu"
    seeds: int | None = None
    out: Path = Path("figures")

    def __post_init__(self):
        if self.seeds is not None and self.seeds < 1:
            raise ValueError(f"--seeds must be at least 1, but is {self.seeds}; give some.")

    def seeds_of(self, usual: dict[str, int]) -> int:
        """How many there are: those asked for, or `usual` at this scale."""
        return usual[self.scale] if self.seeds is None else self.seeds


def command(main: Callable, options: type, description: str) -> None:
    """The command line of a script: main(options).

    It ends with exit code 2 and a sentence where something is refused, and with 128 + the number of
    the signal where one stopped it.

    Args:
        main: what to run.
        options: dataclass of its options, with their help in its docstring.
        description: docstring of the script.
    """
    try:
        main(tyro.cli(options, description=description))
    except (ValueError, OSError, FloatingPointError) as error:
        end, text = 2, str(error)
    except (Stopped, KeyboardInterrupt) as stop:
        number = stop.signal if isinstance(stop, Stopped) else signal.SIGINT
        end, text = 128 + number, "Stopped; the same command goes on from what is saved."
    else:
        return
    print(text, file=sys.stderr)
    raise SystemExit(end)


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


def known_runs(out: Path, name: str, scale: str, seed: int | None = None) -> list[dict]:
    """The records under "runs" that OUT/NAME.json holds already, so that they need not run again.

    Args:
        out, name, scale: as of `write`.
        seed: of all of them, where a script has one seed.

    Raises:
        ValueError: they are of another scale or seed.
    """
    path = out / f"{name}.json"
    if not path.is_file():
        return []
    known = json.loads(path.read_text())
    if known["scale"] != scale:
        raise ValueError(
            f"{path} holds runs of the scale {known['scale']}, not {scale}; give another "
            "--out, or remove it."
        )
    if seed is None:
        return known["runs"]
    others = {run["provenance"]["seed"] for run in known["runs"]} - {seed}
    if others:
        raise ValueError(
            f"{path} holds runs of the seed {others.pop()}, not {seed}; give another --out, or "
            "remove it."
        )
    return known["runs"]


def kept_landscape(path: Path, how: str, measure: Callable[[], Landscape]) -> Landscape:
    """The landscape of a file, measured first where there is none yet.

    Args:
        path: of the file; its attributes tell `how`, and the `seconds` that it took.
        how: all that it was measured with.
        measure: does it.

    Raises:
        ValueError: what is there was measured otherwise.
    """
    if not path.is_file():
        began = time.monotonic()
        found = measure()
        path.parent.mkdir(parents=True, exist_ok=True)
        found.with_attributes(seconds=time.monotonic() - began, how=how).save(path)
        print(f"{path.stem}: {time.monotonic() - began:.0f} s", flush=True)
    found = Landscape.load(path)
    if found.attributes["how"] != how:
        raise ValueError(
            f"{path} was measured with other settings; remove it, or give another --out."
        )
    return found


def telling(name: str, every: float = 10.0) -> Callable:
    """An `on_block` of `umbrella` that prints how far it is, at most once in so many seconds."""
    last = [time.monotonic()]

    def tell(state, report) -> None:
        if time.monotonic() - last[0] > every:
            last[0] = time.monotonic()
            of = f" of {report.total:,}" if report.total else ""
            found = f"{report.rungs} rungs, {report.windows} windows down to u {report.u_low:.2f}"
            print(f"{name}: {report.stage}, {found}, step {report.step:,}{of}", flush=True)

    return tell


def write(out: Path, name: str, scale: str, results: dict, figure: Figure, text: str) -> None:
    """NAME.json with the scale and the results, NAME.png and NAME.md, in the folder `out`."""
    out.mkdir(parents=True, exist_ok=True)
    told = json.dumps(_finite({"scale": scale, **results}), indent=1, allow_nan=False)
    # A list of numbers on one line: a curve has hundreds.
    told = re.sub(r"\[\s+([^][{}]*?)\s+\]", lambda m: f"[{' '.join(m[1].split())}]", told)
    write_text(out / f"{name}.json", told + "\n")
    write_text(out / f"{name}.md", text)
    replace_with(
        out / f"{name}.png", lambda partial: figure.savefig(partial, dpi=100, format="png")
    )
    print(f"Wrote {name}.json, {name}.md and {name}.png to {out}.")


def _finite(value):
    """The same with None for numbers that are not finite, which JSON does not have."""
    if isinstance(value, dict):
        return {name: _finite(v) for name, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def table(header: list[str], rows: list[list]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]

    def cell(value) -> str:
        return str(value).replace("|", "\\|")  # as of a norm, which would end the cell

    return "\n".join("| " + " | ".join(map(cell, line)) + " |" for line in lines) + "\n"
