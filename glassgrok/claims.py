"""The report on a paper: each of its claims, what was measured, and whether they agree."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from glassgrok import experiment
from glassgrok.engine.folder import write_text
from glassgrok.experiment import table

AGREES, DIFFERS, OPEN = "agrees", "**disagrees**", "not decided"
NOTES = "notes.md"  # by hand, on the results that it lies beside: what differs and why


class Claim(NamedTuple):
    """One line of the report.

    Attributes:
        text: what the paper says.
        sources: names of the JSON files that tell.
        judge: their contents -> (what was measured, `AGREES`, `DIFFERS` or `OPEN`).
        late: whether the rule was set, or changed, when the numbers were known already: its word is
            told, and decides nothing until other numbers are there.
    """

    text: str
    sources: tuple[str, ...]
    judge: Callable[..., tuple[str, str]]
    late: bool = False


class Paper(NamedTuple):
    """What a report is of.

    Attributes:
        name: of its folders under experiments/ and figures/.
        script: file that writes the report.
        title: of the page.
        claims: its first table.
        pictures: name of a result -> its heading, in the order of the page; NAME.json, NAME.md and
            NAME.png are as `experiment.write` leaves them.
    """

    name: str
    script: str
    title: str
    claims: Sequence[Claim]
    pictures: dict[str, str]


@dataclass(frozen=True)
class Options:
    """Where the results are.

    Attributes:
        out: folder of the numbers, where README.md is written; figures/ and the paper's name if not
            given.
    """

    out: Path | None = None


def verdict(holds: bool) -> str:
    """The word for a claim that was decided."""
    return AGREES if holds else DIFFERS


def there(found):
    """What a judge needs, if there is any of it: runs, a fit.

    Raises:
        KeyError: there is none; the claim is not decided then.
    """
    if found is None or not len(found):
        raise KeyError("runs are lacking")
    return found


def judged(out: Path, claims: Sequence[Claim]) -> list[list[str]]:
    """Rows of the table of claims: text, what was measured, verdict.

    A claim whose files are not in `out`, or lack the runs for it, is not decided; nor is one by
    runs of the scale quick, which are there to see that all works.
    """
    rows = []
    for claim in claims:
        paths = [out / f"{name}.json" for name in claim.sources]
        lacking = [path.name for path in paths if not path.is_file()]
        measured, word = f"no {' and no '.join(lacking)} here", OPEN
        if not lacking:
            found = [json.loads(path.read_text()) for path in paths]
            try:
                measured, word = claim.judge(*found)
            except (KeyError, IndexError, StopIteration):
                measured = f"{paths[-1].name} lacks the runs for it"
            if word != OPEN and any(one["scale"] == "quick" for one in found):
                measured, word = f"{measured} ({word}, at scale quick)", OPEN
        if claim.late and word != OPEN:
            measured, word = f"{measured} ({word}, by a rule set after the numbers)", OPEN
        rows.append([claim.text, measured, word])
    return rows


def _made_by(out: Path, names: Sequence[str]) -> list[list[str]]:
    """Rows of the table of results: scale, machines, minutes of all that was run for it."""
    rows = []
    for name in names:
        path = out / f"{name}.json"
        if not path.is_file():
            continue
        known = json.loads(path.read_text())
        parts = [*known.get("runs", []), *known.get("cases", {}).values()]
        parts = [part for part in parts if isinstance(part, dict)]
        abouts = [part.get("provenance") or part.get("machine") for part in (known, *parts)]
        sets = {tuple(about["devices"]) for about in abouts if about}
        where = sorted(f"{len(some)} × {some[0]}" for some in sets)
        rows.append([f"`{name}`", known["scale"], ", ".join(where), _minutes(known, parts)])
    return rows


def _minutes(known: dict, parts: list[dict]) -> str:
    """Of a result's parts and of what it holds beside them, if that is not their sum already.

    Parts that ran side by side each hold the same time, that of all.
    """
    own, each = known.get("seconds", 0.0), sum({part.get("seconds", 0.0) for part in parts})
    total = own if abs(own - each) < 0.02 * own else own + each
    return f"{total / 60:.1f}" if total else ""


def report(paper: Paper, out: Path | None = None) -> None:
    """Write OUT/README.md: the table of claims, what made the results, OUT/notes.md, the pictures.

    Args:
        paper: what it is of.
        out: folder of the results; the paper's own under figures/ if not given.

    Raises:
        ValueError: there is no result.
    """
    out, names = Path("figures") / paper.name if out is None else out, list(paper.pictures)
    if not any((out / f"{name}.json").is_file() for name in names):
        raise ValueError(f"{out} holds no results; run the scripts of that paper first.")
    parts = [
        f"# {paper.title}\n",
        f"Written by `python experiments/{paper.name}/{paper.script}` from the numbers in this "
        "folder. Values are the median (range) over seeds.\n",
        table(["claim", "measured", "verdict"], judged(out, paper.claims)),
        table(["result", "scale", "made on", "minutes"], _made_by(out, names)),
    ]
    if (notes := out / NOTES).is_file():
        parts.append(notes.read_text())
    for name, heading in paper.pictures.items():
        path = out / f"{name}.md"
        if path.is_file():
            body = path.read_text().split("\n", 1)[1].strip()
            parts.append(f"## {heading}\n\n{body}\n\n![{heading}]({name}.png)\n")
    write_text(out / "README.md", "\n".join(parts))
    print(f"Wrote {out / 'README.md'}.")


def command(paper: Paper, description: str) -> None:
    """The command line of a script that writes a report; `description` is its docstring."""
    experiment.command(lambda options: report(paper, options.out), Options, description)
