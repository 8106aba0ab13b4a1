"""README.md of a folder of results: each claim of Omnigrok (Liu et al. 2023), and how it stands.

    python experiments/omnigrok/report_omnigrok.py [--out FOLDER]

Reads the JSON files that the other scripts of this folder left; a claim without its file is not
decided.
"""

import judges_entropy
import judges_mnist
import judges_real
import judges_teacher
import judges_toy
import judges_transformer

from glassgrok.claims import Paper, command

# In the order of the paper's figures.
JUDGES = (
    judges_teacher, judges_mnist, judges_real, judges_toy, judges_transformer, judges_entropy
)  # fmt: skip
CLAIMS = tuple(claim for judges in JUDGES for claim in judges.CLAIMS)
PICTURES = {name: heading for judges in JUDGES for name, heading in judges.PICTURES.items()}
PAPER = Paper("omnigrok", "report_omnigrok.py", "Omnigrok (Liu et al. 2023)", CLAIMS, PICTURES)


if __name__ == "__main__":
    command(PAPER, __doc__)
