"""The graph network that predicts a molecule's polarizability in Liu et al. (2023, Omnigrok)."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from glassgrok.models.mlp import torch_uniform


def torch_dense(features: int, inputs: int, name: str) -> nn.Dense:
    """A dense layer that begins as PyTorch's: all of it U(-1/√inputs, 1/√inputs)."""
    init = torch_uniform(inputs)
    return nn.Dense(features, kernel_init=init, bias_init=init, name=name)


class EdgeConvolution(nn.Module):
    """x_i' = W x_i + Σ_j h(e_ij)ᵀ x_j + b over the neighbours j; Gilmer et al. (2017).

    As NNConv of PyTorch Geometric with its defaults: h is a net with one hidden ReLU layer from the
    features of a bond to a matrix, messages are summed, W begins as U(-1/√in, 1/√in), b as 0. A
    bond is one of a few kinds, so that h has as many values and is computed once for all molecules.

    Attributes:
        features: width of the result.
        hidden: width of h's hidden layer.
    """

    features: int
    hidden: int = 32

    @nn.compact
    def __call__(self, x, adjacency):
        """x (..., A, F), adjacency (..., K, A, A) float, one layer a kind -> (..., A, features)."""
        kinds, inputs = adjacency.shape[-3], x.shape[-1]
        bonds = jnp.eye(kinds, dtype=x.dtype)
        hidden = nn.relu(torch_dense(self.hidden, kinds, "edge_hidden")(bonds))
        matrices = torch_dense(inputs * self.features, self.hidden, "edge_output")(hidden)
        matrices = matrices.reshape(kinds, inputs, self.features)
        neighbours = jnp.einsum("...kij,...jf->...ikf", adjacency, x)
        messages = jnp.einsum("...ikf,kfo->...io", neighbours, matrices)
        root = nn.Dense(self.features, kernel_init=torch_uniform(inputs), name="root")
        return root(x) + messages


class GraphNetwork(nn.Module):
    """Two edge-conditioned convolutions, the sum over atoms, one hidden layer, one number.

    Attributes:
        widths: of the convolutions; 32 and 16 in the paper's code.
        edge_hidden: width of the hidden layer of their edge nets; 32.
        hidden: width of the last hidden layer; 32.
        kinds: number of kinds of bonds.
    """

    widths: tuple[int, ...] = (32, 16)
    edge_hidden: int = 32
    hidden: int = 32
    kinds: int = 4

    @nn.compact
    def __call__(self, molecules):
        """`tasks.molecules.Graphs` of (..., A) atoms -> (...) numbers."""
        x = molecules.atoms
        # One layer a kind of bond; 0, no bond, is in none of them.
        adjacency = jax.nn.one_hot(molecules.bonds - 1, self.kinds, dtype=x.dtype, axis=-3)
        for layer, width in enumerate(self.widths):
            convolution = EdgeConvolution(width, self.edge_hidden, name=f"convolution_{layer}")
            x = nn.relu(convolution(x, adjacency))
        pooled = jnp.where(molecules.real[..., None], x, 0).sum(axis=-2)
        x = nn.relu(torch_dense(self.hidden, self.widths[-1], "hidden")(pooled))
        return torch_dense(1, self.hidden, "output")(x)[..., 0]
