"""README.md of a folder of results: each claim of Omnigrok (Liu et al. 2023), and how it stands.

    python experiments/omnigrok/report_omnigrok.py [--out FOLDER]

Reads the JSON files that the other scripts of this folder left; a claim without its file is not
decided.
"""

from dataclasses import dataclass
from pathlib import Path

import judges_mnist
import judges_real
import judges_teacher
import judges_toy
import judges_transformer

from glassgrok.claims import report
from glassgrok.experiment import command

# In the order of the paper's figures.
JUDGES = (judges_teacher, judges_mnist, judges_real, judges_toy, judges_transformer)


@dataclass(frozen=True)
class Options:
    """Where the results are.

    Attributes:
        out: folder of the numbers, where README.md is written.
    """

    out: Path = Path("figures/omnigrok")


def main(options: Options) -> None:
    """Write README.md."""
    claims = [claim for judges in JUDGES for claim in judges.CLAIMS]
    pictures = {name: heading for judges in JUDGES for name, heading in judges.PICTURES.items()}
    title = "Omnigrok (Liu et al. 2023)"
    report(options.out, "experiments/omnigrok/report_omnigrok.py", title, claims, pictures)


if __name__ == "__main__":
    command(main, Options, __doc__)
