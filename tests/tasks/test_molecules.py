"""Molecules as graphs."""

import os
import sys
from importlib import import_module

import numpy as np
import pytest

from glassgrok.tasks.files import VARIABLE

molecules = import_module("glassgrok.tasks.molecules")  # the name in glassgrok.tasks is a function

real = pytest.mark.skipif(VARIABLE not in os.environ, reason=f"{VARIABLE} names no folder")
CASES = ("C", "C#N", "c1ccccc1", "CO")


@pytest.fixture(scope="module")
def graphs():
    pytest.importorskip("rdkit")
    return molecules.graphs(CASES)


def test_prussic_acid_is_as_by_hand(graphs):
    order = np.argsort(-graphs.atoms[1, :, 5])[:3]  # N, C, H
    np.testing.assert_array_equal(
        graphs.atoms[1, order],
        # H  C  N  O  F  Z  aromatic  sp sp2 sp3  hydrogens
        [
            [0, 0, 1, 0, 0, 7, 0, 1, 0, 0, 0],
            [0, 1, 0, 0, 0, 6, 0, 1, 0, 0, 1],
            [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0],
        ],
    )
    np.testing.assert_array_equal(
        graphs.bonds[1][np.ix_(order, order)], [[0, 3, 0], [3, 0, 1], [0, 1, 0]]
    )


def test_hydrogens_are_there_and_padding_is_nought(graphs):
    assert graphs.real.sum(axis=1).tolist() == [5, 3, 12, 6]
    assert graphs.atoms.shape == (4, 12, 11)
    assert not graphs.atoms[~graphs.real].any()
    outside = ~(graphs.real[:, :, None] & graphs.real[:, None, :])
    assert not graphs.bonds[outside].any()
    np.testing.assert_array_equal(graphs.bonds, graphs.bonds.transpose(0, 2, 1))
    # Each bond counted from both ends: 4 C-H; a triple and C-H; 6 aromatic and 6 C-H; 5 single.
    counts = [np.bincount(bonds.ravel(), minlength=5)[1:] // 2 for bonds in graphs.bonds]
    np.testing.assert_array_equal(counts, [[4, 0, 0, 0], [1, 0, 1, 0], [6, 0, 0, 6], [5, 0, 0, 0]])


def test_benzene_is_aromatic_and_sp2(graphs):
    carbons = graphs.atoms[2, graphs.atoms[2, :, 5] == 6]
    np.testing.assert_array_equal(carbons, [[0, 1, 0, 0, 0, 6, 1, 0, 1, 0, 1]] * 6)


def test_methane_has_four_hydrogens_and_is_sp3(graphs):
    assert graphs.atoms[0, 0].tolist() == [0, 1, 0, 0, 0, 6, 0, 0, 0, 1, 4]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("smiles", "match"), [("C(", "makes no molecule"), ("CCl", "holds the element Cl")]
)
def test_what_is_no_such_molecule_is_refused(smiles, match):
    pytest.importorskip("rdkit")
    with pytest.raises(ValueError, match=match):
        molecules.graphs([smiles])


def test_a_molecule_that_is_too_large_is_refused():
    pytest.importorskip("rdkit")
    with pytest.raises(ValueError, match="has 5 atoms, but size is 4"):
        molecules.graphs(["C"], size=4)


def test_without_rdkit_a_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "rdkit", None)
    with pytest.raises(ValueError, match="pip install 'glassgrok\\[molecules\\]'"):
        molecules.graphs(["C"])


def some(count):
    """Graphs of 1, 2, 3, 1, ... atoms, told apart by their first feature."""
    atoms = np.zeros((count, 4, 11), np.float32)
    atoms[:, 0, 0] = np.arange(count)
    real = np.arange(4) < (np.arange(count) % 3 + 1)[:, None]
    return molecules.Graphs(atoms, np.zeros((count, 4, 4), np.int8), real)


def test_half_of_the_molecules_is_held_back():
    task = molecules.molecule_task(some(20), np.arange(20) + 100, 11)
    assert task.inputs.atoms.shape == (5, 3, 11)  # no molecule has four atoms
    assert task.test_inputs.bonds.shape == (6, 3, 3)
    for inputs, targets in ((task.inputs, task.targets), (task.test_inputs, task.test_targets)):
        np.testing.assert_array_equal(inputs.atoms[:, 0, 0] + 100, targets)
    everyone = sorted([*task.targets, *task.test_targets])
    assert everyone == list(range(100, 111))
    other = molecules.molecule_task(some(20), np.arange(20) + 100, 11, seed=1)
    assert set(other.targets) != set(task.targets)


@pytest.mark.parametrize("size", [1, 21])
def test_sizes_that_cannot_be_are_refused(size):
    with pytest.raises(ValueError, match="at most the 20 molecules there are"):
        molecules.molecule_task(some(20), np.zeros(20), size)


def test_repeats_and_refused_ids_are_dropped():
    table = "mol_id,smiles,alpha\ngdb_9,CC,2\ngdb_4,C,1.5\ngdb_9,CC,2\ngdb_11,CO,3\ngdb_58,N,4\n"
    refused = "=====\n# Index  SMILES\n=====\n   11   CO   CO  1.0\n   12   N   N  1.0\n====\n"
    smiles, values = molecules.polarizabilities(table, refused)
    assert smiles == ["C", "CC", "N"]
    assert values.tolist() == [1.5, 2, 4]


@real
def test_the_real_molecules():
    pytest.importorskip("rdkit")
    table, refused = (
        molecules.read(name).decode() for name in (molecules.TABLE, molecules.REFUSED)
    )
    assert len(molecules._refused(refused)) == 3054
    assert len(molecules.polarizabilities(table, refused)[0]) == 14_715 - 323
    task = molecules.molecules(200)
    assert len(task.targets) == len(task.test_targets) == 100
    assert 20 < task.targets.min() < task.targets.max() < 100
    # Polarizability grows with the number of electrons, if graphs and values belong together.
    electrons = task.inputs.atoms[..., 5].sum(axis=1)
    assert np.corrcoef(electrons, task.targets)[0, 1] > 0.7
    with pytest.raises(ValueError, match="15,000 molecules were asked for"):
        molecules.molecules(15_000)
