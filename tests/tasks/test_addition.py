"""Toy addition: pairs, labels and the representation between a line and noise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from glassgrok.models import Adder
from glassgrok.tasks import addition
from glassgrok.tasks.addition import digits


def test_every_pair_once_and_one_template_for_each_answer():
    task = addition()
    assert task.inputs.shape == (55, 2)
    assert len({tuple(pair) for pair in task.inputs}) == 55
    assert (task.inputs[:, 0] <= task.inputs[:, 1]).all()
    assert (np.diff(task.inputs.sum(axis=1)) < 0).any()  # in random order
    sums, templates = task.inputs.sum(axis=1), {}
    for total, target in zip(sums % 10, task.targets, strict=True):
        templates.setdefault(total, target)
        np.testing.assert_array_equal(templates[total], target)
    assert len({template.tobytes() for template in templates.values()}) == 10
    apart = addition(wrap=False)
    assert len({target.tobytes() for target in apart.targets}) == 19


def test_templates_are_standard_normal():
    values = np.unique(addition(40, wrap=False).targets, axis=0)
    assert values.shape == (79, 30)
    count = values.size
    assert abs(values.mean()) < 5 / np.sqrt(count)
    assert abs(values.var() - 1) < 5 * np.sqrt(2 / count)
    # No example that counts as right is nearer to another template.
    gaps = ((values[:, None] - values[None]) ** 2).mean(axis=-1)
    near = np.sort(gaps[np.triu_indices(79, 1)])
    assert abs(near.mean() - 2) < 0.1


def test_the_messiness_of_a_run_is_between_line_and_random():
    task, ends = addition(noise=0.0), digits(noise=0.0)
    seen = jax.jit(task.prepare)(task.inputs, task.targets, jnp.float32(0))
    # On the line only the sum is seen.
    np.testing.assert_allclose(seen[:, 0], task.inputs.sum(axis=1) * 2 / 9 - 2, atol=1e-5)
    np.testing.assert_array_equal(seen[:, 1], 0)
    messy = task.prepare(task.inputs, task.targets, jnp.float32(0.3))
    held = 0.3 * ends.random + 0.7 * ends.line
    wanted = held[task.inputs[:, 0]] + held[task.inputs[:, 1]]
    np.testing.assert_allclose(messy, wanted, rtol=1e-5, atol=1e-6)
    assert np.abs(ends.random).max() <= 1
    assert np.abs(digits().line[:, 1]).max() <= 0.3
    assert np.abs(digits().line[:, 1]).max() > 0.1


def test_an_adder_begins_as_the_frozen_representation():
    free, frozen, ends = addition(frozen=False), addition(), digits()
    decoder = nn.Dense(30)
    model = Adder(decoder, ends.at(np.float32(0.4)))
    params = model.init(jax.random.key(0), free.inputs)
    found = model.apply(params, free.inputs)
    alone = decoder.apply(
        {"params": params["params"]["decoder"]},
        frozen.prepare(frozen.inputs, frozen.targets, jnp.float32(0.4)),
    )
    np.testing.assert_allclose(found, alone, atol=1e-5)
    slope = jax.grad(lambda p: jnp.sum(model.apply(p, free.inputs) ** 2))(params)
    assert np.abs(slope["params"]["representation"]).min() > 0


@pytest.mark.parametrize(("base", "noise"), [(1, 0.3), (10, -1.0), (10, np.nan)])
def test_refuses(base, noise):
    with pytest.raises(ValueError, match="base must be at least 2 and noise at least 0"):
        addition(base, noise=noise)
