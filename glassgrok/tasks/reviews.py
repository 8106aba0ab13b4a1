"""Film reviews as rows of word numbers: the IMDb task of Liu et al. (2023, Omnigrok)."""

import io
import os
import re
import tarfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from glassgrok.tasks.files import VARIABLE, read
from glassgrok.tasks.supervised import Supervised

TABLE, ARCHIVE = "aclImdb_50k.tsv.gz", "aclImdb_v1.tar.gz"
SHUFFLE = 0  # seed of the order of the file, which is sorted by kind
# Common English words that tell nothing, as in the authors' code. Those with an apostrophe are left
# out: words are compared without theirs, so that "dont" counts and "its" does not.
_STOP = """
a about above after again against ain all am an and any are aren as at be because been before
being below between both but by can couldn d did didn do does doesn doing don down during each
few for from further had hadn has hasn have haven having he her here hers herself him himself
his how i if in into is isn it its itself just ll m ma me mightn more most mustn my myself needn
no nor not now o of off on once only or other our ours ourselves out over own re s same shan she
should shouldn so some such t than that the their theirs them themselves then there these they
this those through to too under until up ve very was wasn we were weren what when where which
while who whom why will with won wouldn y you your yours yourself yourselves
"""
STOP_WORDS = frozenset(_STOP.split())


def words(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation and digits; Omnigrok's code."""
    return re.sub(r"[^\w\s]|\d", "", text.lower()).split()


def vocabulary(texts: Sequence[str], size: int = 1000) -> dict[str, int]:
    """The `size` most frequent words that are no stop words, numbered from 1 on.

    Args:
        texts: of the train set alone.
        size: how many words at most.

    Returns:
        word -> number, the most frequent first; of equally frequent ones the earlier.
    """
    counts = Counter(w for text in texts for w in words(text) if w not in STOP_WORDS)
    return {word: i for i, (word, _) in enumerate(counts.most_common(size), 1)}


def numbered(texts: Sequence[str], known: dict[str, int], length: int) -> np.ndarray:
    """Texts as rows of word numbers.

    Args:
        texts: to be numbered.
        known: word -> number; other words are left out.
        length: of a row. Of a longer text the first words are kept; a shorter one is padded with 0
            on its left, so that a network reads its last word last.

    Returns:
        (texts, length) int32.
    """
    rows = np.zeros((len(texts), length), np.int32)
    for row, text in zip(rows, texts, strict=True):
        kept = [known[w] for w in words(text) if w in known][:length]
        row[length - len(kept) :] = kept
    return rows


def _held_back(kinds: np.ndarray, share: float, rng) -> np.ndarray:
    """(n,) bool: a random `share` of each kind."""
    held = np.zeros(len(kinds), bool)
    for kind in np.unique(kinds):
        places = rng.permutation(np.flatnonzero(kinds == kind))
        held[places[: round(share * len(places))]] = True
    return held


def review_task(
    texts: Sequence[str],
    kinds: np.ndarray,
    size: int,
    length: int = 500,
    known_words: int = 1000,
    held_out: int | None = None,
    seed: int = 0,
) -> Supervised:
    """Is a review good or bad? The first `size` of labelled texts, as Omnigrok prepares them.

    Args:
        texts, kinds: the reviews and 1 for good, 0 for bad ones, in the order in which `size`
            takes them.
        size: reviews of the run; a quarter of each kind is held back for the test, as in the paper.
        length: of the rows of word numbers; 500 in the paper.
        known_words: size of the vocabulary, which the train set alone decides; 1000 in the paper.
        held_out: test on that many of the reviews that follow instead of on the quarter, which at
            small sizes is too few to tell much; the train set stays what it is.
        seed: of the split.

    Returns:
        A Supervised task: (n, length) int32 inputs, 0 where there is no word, and a
        binary cross-entropy on (n,) float32 targets.

    Raises:
        ValueError: there are fewer texts than are asked for, or a side of the split is empty.
    """
    wanted = size + (held_out or 0)
    if not 0 < wanted <= len(texts):
        raise ValueError(
            f"{wanted:,} reviews were asked for, but there are {len(texts):,}; change size or "
            "held_out."
        )
    kinds = np.asarray(kinds)
    held = _held_back(kinds[:size], 0.25, np.random.default_rng(seed))
    train = np.flatnonzero(~held)
    test = np.flatnonzero(held) if held_out is None else np.arange(size, wanted)
    if not (len(train) and len(test)):
        raise ValueError(
            f"{size} reviews leave {len(train)} to train on and {len(test)} to test on; raise size."
        )
    known = vocabulary([texts[i] for i in train], known_words)

    def rows(places):
        return numbered([texts[i] for i in places], known, length)

    return Supervised(
        name=f"IMDb reviews, {size:,} of {length} words",
        inputs=rows(train),
        targets=kinds[train].astype(np.float32),
        test_inputs=rows(test),
        test_targets=kinds[test].astype(np.float32),
        loss="binary_cross_entropy",
    )


def _of_table(content: bytes) -> list[tuple[str, str, int, str]]:
    """(part, kind, number, text) of a table with the columns split, label, id, rating, text."""
    lines = content.decode().rstrip("\n").split("\n")
    cells = (line.split("\t") for line in lines)
    return [(part, kind, int(number), text) for part, kind, number, _, text in cells]


def _of_archive(content: bytes) -> list[tuple[str, str, int, str]]:
    """The same of the archive as Maas et al. packed it: aclImdb/PART/KIND/NUMBER_RATING.txt."""
    found = []
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        for member in archive:
            place = re.fullmatch(r"aclImdb/(test|train)/(neg|pos)/(\d+)_\d+\.txt", member.name)
            if place:
                text = archive.extractfile(member).read().decode()
                found.append((place[1], place[2], int(place[3]), text))
    return found


def labelled_reviews(data: Path | None = None) -> tuple[list[str], np.ndarray]:
    """The 50,000 labelled reviews of Maas et al. (2011), in a fixed random order.

    The files are sorted by part and kind, and the one that Omnigrok read was in an order of its
    own: this one is numpy's `default_rng(0).permutation` of the rows sorted by (part, kind,
    number), train and test parts together as in the paper.

    Args:
        data: folder with aclImdb_50k.tsv.gz or aclImdb_v1.tar.gz; else the one that the variable
            GLASSGROK_DATA names; else the second is downloaded into the user's cache.

    Returns:
        The texts, and (n,) int32 kinds, 1 for good and 0 for bad ones.

    Raises:
        ValueError: the file is not there, or is another one.
    """
    folder = data or os.environ.get(VARIABLE)
    if folder is not None and (Path(folder) / TABLE).is_file():
        found = _of_table(read(TABLE, data))
    else:
        found = _of_archive(read(ARCHIVE, data))
    found.sort(key=lambda row: row[:3])
    order = np.random.default_rng(SHUFFLE).permutation(len(found))
    kinds = np.array([found[i][1] == "pos" for i in order], np.int32)
    return [found[i][3] for i in order], kinds


def reviews(
    size: int = 1000,
    length: int = 500,
    known_words: int = 1000,
    held_out: int | None = None,
    data: Path | None = None,
    seed: int = 0,
) -> Supervised:
    """IMDb reviews, good or bad; Liu et al. (2023, Omnigrok), Figure 4 and appendix A.

    Args:
        size, length, known_words, held_out, seed: as of `review_task`.
        data: folder with the file, as of `labelled_reviews`.

    Returns:
        A Supervised task.

    Raises:
        ValueError: as `labelled_reviews` and `review_task`.
    """
    texts, kinds = labelled_reviews(data)
    return review_task(texts, kinds, size, length, known_words, held_out, seed)
