"""Small molecules as graphs, and a number of each: the QM9 task of Liu et al. (2023, Omnigrok)."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from glassgrok.tasks.files import read
from glassgrok.tasks.supervised import Supervised

TABLE, REFUSED = "qm9_small_MolPropPred.csv", "qm9_uncharacterized.txt"
ELEMENTS = ("H", "C", "N", "O", "F")
BONDS = ("SINGLE", "DOUBLE", "TRIPLE", "AROMATIC")
HYBRIDS = ("SP", "SP2", "SP3")
FEATURES = len(ELEMENTS) + len(HYBRIDS) + 3


class Graphs(NamedTuple):
    """Molecules of up to A atoms; a pytree of arrays.

    Attributes:
        atoms: (n, A, 11) float32, of each atom: which of H, C, N, O, F; atomic number; whether it
            is aromatic; whether it is sp, sp2, sp3; number of H bound to it. 0 where there is none.
        bonds: (n, A, A) int8, symmetric: 0 where there is no bond, else 1 + its place in `BONDS`.
        real: (n, A) bool, whether there is an atom.
    """

    atoms: Any
    bonds: Any
    real: Any


def _chemistry():
    """RDKit, or a sentence on where to get it."""
    try:
        from rdkit import Chem
    except ImportError:
        raise ValueError(
            "Molecules are read by RDKit, which is not installed; install it with "
            "pip install 'glassgrok[molecules]'."
        ) from None
    return Chem


def _graph(chemistry, smiles: str) -> tuple[np.ndarray, np.ndarray]:
    """Features (a, 11) and bonds (a, a) of one molecule, hydrogens included."""
    molecule = chemistry.MolFromSmiles(smiles)
    if molecule is None:
        raise ValueError(f"RDKit makes no molecule of {smiles!r}; mend the file, or leave it out.")
    molecule = chemistry.AddHs(molecule)
    size = molecule.GetNumAtoms()
    atoms, bonds = np.zeros((size, FEATURES), np.float32), np.zeros((size, size), np.int8)
    for i, atom in enumerate(molecule.GetAtoms()):
        symbol, hybrid = atom.GetSymbol(), atom.GetHybridization().name
        if symbol not in ELEMENTS:
            raise ValueError(
                f"{smiles!r} holds the element {symbol}, but the features are of "
                f"{', '.join(ELEMENTS)} alone; leave it out."
            )
        atoms[i, ELEMENTS.index(symbol)] = 1
        atoms[i, 5], atoms[i, 6] = atom.GetAtomicNum(), atom.GetIsAromatic()
        if hybrid in HYBRIDS:
            atoms[i, 7 + HYBRIDS.index(hybrid)] = 1
        atoms[i, 10] = atom.GetTotalNumHs(includeNeighbors=True)
    for bond in molecule.GetBonds():
        i, j = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
        bonds[i, j] = bonds[j, i] = 1 + BONDS.index(bond.GetBondType().name)
    return atoms, bonds


def graphs(smiles: Sequence[str], size: int | None = None) -> Graphs:
    """Molecules as graphs with all their hydrogens.

    Features and kinds of bonds are those of PyTorch Geometric's QM9. Its own reader leaves the
    aromatic, sp, sp2 and sp3 ones at zero (its issue 8370); here RDKit finds them.

    Args:
        smiles: one string a molecule.
        size: A, the number of atoms they are padded to; None: that of the largest.

    Returns:
        Graphs of n molecules.

    Raises:
        ValueError: RDKit is not installed, a string is no molecule of these elements, or one has
            more than `size` atoms.
    """
    chemistry = _chemistry()
    each = [_graph(chemistry, one) for one in smiles]
    largest = max(len(atoms) for atoms, _ in each)
    size = largest if size is None else size
    if largest > size:
        raise ValueError(f"A molecule has {largest} atoms, but size is {size}; raise it.")
    padded = Graphs(
        np.zeros((len(each), size, FEATURES), np.float32),
        np.zeros((len(each), size, size), np.int8),
        np.zeros((len(each), size), bool),
    )
    for n, (atoms, bonds) in enumerate(each):
        count = len(atoms)
        padded.atoms[n, :count] = atoms
        padded.bonds[n, :count, :count] = bonds
        padded.real[n, :count] = True
    return padded


def molecule_task(
    everything: Graphs, values: np.ndarray, size: int | None = None, seed: int = 0
) -> Supervised:
    """Predict a number from a molecule; a random half is held back for the test.

    Args:
        everything, values: the molecules and the number of each, in the order in which `size`
            takes them.
        size: molecules of the run, train and test together; None: all.
        seed: of the split.

    Returns:
        A Supervised task with `Graphs`, padded to the largest of its molecules, and mean squared
        error; size // 2 examples train.

    Raises:
        ValueError: there are fewer molecules than that, or fewer than two.
    """
    size = len(values) if size is None else size
    if not 2 <= size <= len(values):
        raise ValueError(
            f"size must be at least 2 and at most the {len(values):,} molecules there are, but is "
            f"{size:,}; change it."
        )
    widest = int(everything.real[:size].sum(axis=1).max())
    cut = Graphs(
        everything.atoms[:, :widest],
        everything.bonds[:, :widest, :widest],
        everything.real[:, :widest],
    )
    values = np.asarray(values, np.float32)
    order = np.random.default_rng(seed).permutation(size)
    train, test = np.sort(order[: size // 2]), np.sort(order[size // 2 :])
    return Supervised(
        name=f"{size:,} molecules of QM9",
        inputs=Graphs(*(array[train] for array in cut)),
        targets=values[train],
        test_inputs=Graphs(*(array[test] for array in cut)),
        test_targets=values[test],
        loss="mse",
    )


def _refused(text: str) -> set[int]:
    """The ids of the table of molecules whose geometry is inconsistent."""
    first = (line.split()[:1] for line in text.splitlines())
    return {int(word) for words in first for word in words if word.isdigit()}


def polarizabilities(table: str, refused: str) -> tuple[list[str], np.ndarray]:
    """Molecules and their isotropic polarizability, in the order of their ids.

    Args:
        table: CSV with the columns mol_id (as gdb_7), smiles and alpha; repeats are dropped.
        refused: the table of ids that are dropped.

    Returns:
        SMILES of n molecules, and (n,) float32 polarizabilities in a0³.
    """
    rows = {int(row["mol_id"].split("_")[1]): row for row in csv.DictReader(io.StringIO(table))}
    kept = [rows[i] for i in sorted(rows.keys() - _refused(refused))]
    return [row["smiles"] for row in kept], np.array([row["alpha"] for row in kept], np.float32)


def labelled_molecules(count: int | None = None, data: Path | None = None):
    """The first molecules of the file by id as graphs, and their isotropic polarizability.

    Args:
        count: how many; None: all, which takes RDKit half a minute.
        data: folder with qm9_small_MolPropPred.csv and qm9_uncharacterized.txt; else the one that
            the variable GLASSGROK_DATA names.

    Returns:
        Graphs, and (count,) float32 polarizabilities in a0³.

    Raises:
        ValueError: a file is not there or is another one, it holds fewer molecules, or RDKit is not
            installed.
    """
    table, refused = (read(name, data).decode() for name in (TABLE, REFUSED))
    smiles, values = polarizabilities(table, refused)
    if count is not None and count > len(smiles):
        raise ValueError(
            f"{count:,} molecules were asked for, but {TABLE} holds {len(smiles):,} that are "
            "characterized; ask for fewer."
        )
    return graphs(smiles[:count]), values[:count]


def molecules(size: int = 100, data: Path | None = None, seed: int = 0) -> Supervised:
    """Isotropic polarizability (a0³) of molecules of QM9; Liu et al. (2023, Omnigrok), Figure 5.

    The first `size` molecules by id, half of them for the test, as in the paper. The file holds a
    random 11 % of QM9, so that the first ones are larger molecules than those of the paper.

    Args:
        size: molecules of the run, train and test together.
        data: folder of the files, as of `labelled_molecules`.
        seed: of the split.

    Returns:
        A Supervised task.

    Raises:
        ValueError: as `labelled_molecules` and `molecule_task`.
    """
    return molecule_task(*labelled_molecules(size, data), size, seed)
