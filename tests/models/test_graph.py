"""The graph network against its equations, edge by edge in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from glassgrok.models.graph import EdgeConvolution, GraphNetwork
from glassgrok.tasks.molecules import Graphs

MODEL = GraphNetwork(widths=(5, 3), edge_hidden=6, hidden=4)


def drawn(count=6, size=7, seed=0):
    """Random graphs of 2 to `size` atoms with random features."""
    rng = np.random.default_rng(seed)
    real = np.arange(size) < rng.integers(2, size + 1, (count, 1))
    atoms = rng.normal(size=(count, size, 11)).astype(np.float32) * real[..., None]
    upper = np.triu(rng.integers(0, 5, (count, size, size)) * (rng.random((size, size)) < 0.6), 1)
    bonds = (upper + upper.transpose(0, 2, 1)) * real[:, :, None] * real[:, None, :]
    return Graphs(atoms, bonds.astype(np.int8), real)


@pytest.fixture(scope="module")
def params():
    shapes = jax.eval_shape(MODEL.init, jax.random.key(0), drawn())
    rng = np.random.default_rng(2)
    return jax.tree.map(lambda leaf: rng.normal(0, 0.4, leaf.shape).astype(leaf.dtype), shapes)


apply = jax.jit(MODEL.apply)


def relu(x):
    return np.maximum(x, 0)


def dense(params, x):
    return x @ params["kernel"] + params["bias"]


def by_hand(params, atoms, bonds, real):
    """One molecule in float64: NNConv of PyTorch Geometric over its list of directed edges."""
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params["params"])
    there = np.flatnonzero(real)
    x = atoms[there].astype(float)
    edges = [(i, j, np.eye(4)[bonds[i, j] - 1]) for i in there for j in there if bonds[i, j]]
    for name in ("convolution_0", "convolution_1"):
        layer = params[name]
        out = dense(layer["root"], x)
        for i, j, features in edges:
            matrix = dense(layer["edge_output"], relu(dense(layer["edge_hidden"], features)))
            out[i] += x[j] @ matrix.reshape(x.shape[1], -1)
        x = relu(out)
    return dense(params["output"], relu(dense(params["hidden"], x.sum(axis=0))))[0]


def test_numbers_are_those_of_the_equations(params):
    graphs = drawn()
    found = np.asarray(apply(params, graphs))
    wanted = [by_hand(params, *molecule) for molecule in zip(*graphs, strict=True)]
    assert found.shape == (6,)
    np.testing.assert_allclose(found, wanted, rtol=2e-5)


def test_the_order_of_atoms_does_not_matter(params):
    graphs = drawn()
    order = np.random.default_rng(1).permutation(7)
    moved = Graphs(
        graphs.atoms[:, order], graphs.bonds[:, order][:, :, order], graphs.real[:, order]
    )
    first = np.asarray(apply(params, graphs))
    np.testing.assert_allclose(apply(params, moved), first, rtol=1e-5)
    # Moving the atoms without their bonds does matter.
    torn = Graphs(graphs.atoms[:, order], graphs.bonds, graphs.real[:, order])
    assert np.abs(np.asarray(apply(params, torn)) - first).max() > 1e-2


def test_padding_does_not_matter(params):
    graphs = drawn()
    wider = Graphs(
        np.pad(graphs.atoms, ((0, 0), (0, 3), (0, 0))),
        np.pad(graphs.bonds, ((0, 0), (0, 3), (0, 3))),
        np.pad(graphs.real, ((0, 0), (0, 3))),
    )
    first = np.asarray(apply(params, graphs))
    np.testing.assert_allclose(apply(params, wider), first, rtol=1e-5)
    # That it is padding must be told: the convolutions' bias makes something of nothing.
    untold = wider._replace(real=np.ones_like(wider.real))
    assert np.abs(np.asarray(apply(params, untold)) - first).max() > 1e-2


def test_kinds_of_bonds_matter(params):
    graphs = drawn()
    other = graphs._replace(bonds=np.where(graphs.bonds == 1, 2, graphs.bonds).astype(np.int8))
    first, second = (np.asarray(apply(params, each)) for each in (graphs, other))
    assert np.abs(first - second).max() > 1e-3


def test_it_has_the_parameters_of_the_papers_code():
    shapes = jax.eval_shape(GraphNetwork().init, jax.random.key(0), drawn(2))["params"]
    counts = {name: sum(p.size for p in jax.tree.leaves(part)) for name, part in shapes.items()}
    edge = 4 * 32 + 32
    assert counts == {
        "convolution_0": edge + 32 * 352 + 352 + 11 * 32 + 32,
        "convolution_1": edge + 32 * 512 + 512 + 32 * 16 + 16,
        "hidden": 16 * 32 + 32,
        "output": 33,
    }


def test_a_convolution_begins_as_in_pytorch_geometric():
    x, adjacency = jnp.zeros((2, 11)), jnp.zeros((4, 2, 2))
    params = EdgeConvolution(32).init(jax.random.key(0), x, adjacency)["params"]
    assert not params["root"]["bias"].any()
    for name, width in (("root", 11), ("edge_hidden", 4), ("edge_output", 32)):
        kernel = np.asarray(params[name]["kernel"]).ravel()
        bound = 1 / np.sqrt(width)
        assert np.abs(kernel).max() < bound
        error = np.sqrt(4 / 45 / kernel.size) * bound**2
        assert abs(np.mean(kernel**2) - bound**2 / 3) < 5 * error
    for name in ("edge_hidden", "edge_output"):
        assert params[name]["bias"].any()
