"""A memorising and a generalising network, inside the domain."""

import jax
import numpy as np

from glassgrok.domains import Box
from glassgrok.models import Transformer
from glassgrok.sampling.starts import trained_starts
from glassgrok.system import network
from glassgrok.tasks import modular


def test_both_fit_the_train_set_and_only_one_is_right_on_the_rest():
    task = modular("x+y", 5, 0.6)
    model = Transformer(6, d_model=16, heads=2, d_head=8, d_mlp=32)
    domain, told = Box(1.5), []
    system = network(model, task, domain)
    found = trained_starts(model, task, domain, jax.random.key(0), 500, on_block=told.append)
    assert list(found) == ["memorising", "generalising"]
    assert told == list(range(100, 1001, 100))
    for name, params in found.items():
        u, _, extras = system.observe(params)
        assert float(u) < -2
        assert float(extras["train_accuracy"]) == 1
        assert float(extras["test_accuracy"]) == (name == "generalising")
        assert all(np.abs(leaf).max() <= 1.5 for leaf in jax.tree.leaves(params))
    again = trained_starts(model, task, domain, jax.random.key(0), 500, ("generalising",))
    for one, other in zip(
        *map(jax.tree.leaves, (again["generalising"], found["generalising"])), strict=True
    ):
        np.testing.assert_array_equal(one, other)
