"""Reviews as rows of word numbers, from a table or an archive made here."""

import io
import os
import tarfile
from importlib import import_module

import numpy as np
import pytest

from glassgrok.tasks.files import VARIABLE

reviews = import_module("glassgrok.tasks.reviews")  # the name in glassgrok.tasks is a function

real = pytest.mark.skipif(VARIABLE not in os.environ, reason=f"{VARIABLE} names no folder")


def texts(count):
    """Sentences of a made-up language, and the kind of each: every third is good."""
    kinds = np.array([i % 3 == 0 for i in range(count)], np.int32)
    return [
        f"blik {'mun' if kind else 'tak'} only{chr(97 + i)}" for i, kind in enumerate(kinds)
    ], kinds


def test_words_lose_punctuation_digits_and_case():
    assert reviews.words("Don't MISS it! 10/10 <br />Great-ish, 2x.\tOk") == [
        "dont", "miss", "it", "br", "greatish", "x", "ok",
    ]  # fmt: skip


def test_the_vocabulary_is_the_most_frequent_words_that_are_no_stop_words():
    known = reviews.vocabulary(["the zug zug bel", "bel zug tir the the", "tir"], 2)
    assert known == {"zug": 1, "bel": 2}  # of bel and tir, twice each, bel came first


def test_rows_are_padded_on_the_left_and_keep_the_first_words():
    known = {"a": 1, "b": 2, "c": 3}
    rows = reviews.numbered(["b x c", "a b c a", "", "x"], known, 3)
    np.testing.assert_array_equal(rows, [[0, 2, 3], [1, 2, 3], [0, 0, 0], [0, 0, 0]])


def test_a_quarter_of_each_kind_is_held_back_and_the_train_set_names_the_words():
    said, kinds = texts(24)
    task = reviews.review_task(said, kinds, 24, length=5)
    assert task.inputs.shape == (18, 5)
    assert task.test_inputs.shape == (6, 5)
    assert (task.targets.sum(), task.test_targets.sum()) == (6, 2)
    # The last word of each text is its own: the vocabulary knows those of the train set alone.
    assert (task.inputs > 0).sum(axis=1).tolist() == [3] * 18
    assert (task.test_inputs > 0).sum(axis=1).tolist() == [2] * 6
    again = reviews.review_task(said, kinds, 24, length=5)
    np.testing.assert_array_equal(task.inputs, again.inputs)
    other = reviews.review_task(said, kinds, 24, length=5, seed=1)
    assert (task.inputs != other.inputs).any()


def test_reviews_that_follow_can_be_the_test_set():
    said, kinds = texts(24)
    quarter = reviews.review_task(said, kinds, 12, length=4)
    task = reviews.review_task(said, kinds, 12, length=4, held_out=10)
    np.testing.assert_array_equal(task.inputs, quarter.inputs)
    np.testing.assert_array_equal(task.test_targets, kinds[12:22])


@pytest.mark.parametrize(("size", "held_out"), [(25, None), (20, 5), (0, None)])
def test_more_reviews_than_there_are_are_refused(size, held_out):
    with pytest.raises(ValueError, match="reviews were asked for, but there are 24"):
        reviews.review_task(*texts(24), size, held_out=held_out)


def test_a_split_with_an_empty_side_is_refused():
    with pytest.raises(ValueError, match="raise size"):
        reviews.review_task(*texts(24), 1)


def test_the_table_and_the_archive_are_the_same_reviews(tmp_path, monkeypatch):
    rows = [
        (part, kind, number, f"{part} {kind} {number}")
        for part in ("train", "test")
        for kind in ("pos", "neg")
        for number in (10, 9, 1)
    ]
    table = "".join(f"{part}\t{kind}\t{number}\t7\t{text}\n" for part, kind, number, text in rows)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        names = [(f"aclImdb/{p}/{k}/{n}_7.txt", text) for p, k, n, text in reversed(rows)]
        for name, text in [*names, ("aclImdb/train/unsup/0_0.txt", "x"), ("aclImdb/README", "y")]:
            member = tarfile.TarInfo(name)
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    contents = {reviews.TABLE: table.encode(), reviews.ARCHIVE: packed.getvalue()}
    monkeypatch.setattr(reviews, "read", lambda name, data: contents[name])
    of_archive = reviews.labelled_reviews(tmp_path)
    (tmp_path / reviews.TABLE).touch()
    of_table = reviews.labelled_reviews(tmp_path)
    assert of_table[0] == of_archive[0]
    assert sorted(of_table[0]) == sorted(row[3] for row in rows)
    np.testing.assert_array_equal(of_table[1], of_archive[1])
    assert of_table[1].tolist() == ["pos" in text for text in of_table[0]]


@real
def test_the_real_reviews():
    said, kinds = reviews.labelled_reviews()
    assert len(said) == 50_000
    assert kinds.sum() == 25_000
    # The order is random: the good ones among the first 1000 are 500 within 5 sigma of 15.8.
    assert abs(kinds[:1000].sum() - 500) < 79
    task = reviews.review_task(said, kinds, 4000)
    assert task.inputs.shape == (3000, 500)
    assert task.inputs.max() == 1000
    # Counting which words are there tells the kinds apart: texts and kinds belong together.
    bags = [
        np.stack([np.bincount(row, minlength=1001)[1:] > 0 for row in rows])
        for rows in (task.inputs, task.test_inputs)
    ]
    good, bad = (np.log(0.01 + bags[0][task.targets == kind].mean(axis=0)) for kind in (1, 0))
    right = (bags[1] @ (good - bad) > 0) == task.test_targets
    assert right.mean() > 0.75
