"""Figure 6 of Omnigrok at its quick scale, where its walls lie, and what the judges say of it."""

import json

import figure6_toy
import figure6_trajectory
import jax
import jax.numpy as jnp
import judges_toy
import numpy as np
import optax
import pytest
import toy_addition
import toy_paths
import xarray as xr
from omnigrok import Options

from glassgrok.claims import AGREES, DIFFERS, OPEN

pytestmark = pytest.mark.usefixtures("promotion")


def test_map_and_trajectory(tmp_path):
    options = Options("quick", out=tmp_path)
    path = figure6_trajectory.Options("quick", out=tmp_path)
    with pytest.raises(ValueError, match=r"figure6_toy.json is not there; run figure6_toy.py"):
        figure6_trajectory.main(path)
    figure6_toy.main(options)
    found = json.loads((tmp_path / "figure6_toy.json").read_text())
    grid = found["maps"]["45"]
    assert np.shape(grid["test_loss"]) == (4, 4)
    assert found["unprojected"]["projected"] == [row[0] for row in grid["train_loss"]]
    figure6_trajectory.main(path)
    first = json.loads((tmp_path / "figure6_trajectory.json").read_text())
    ways = [(r["kind"], r["way"]) for r in first["runs"]]
    assert len(ways) == len(set(ways)) == 10
    figure6_trajectory.main(path)  # nothing is run again
    again = json.loads((tmp_path / "figure6_trajectory.json").read_text())
    assert again["runs"] == first["runs"]
    for name in ("figure6_toy", "figure6_trajectory"):
        assert (tmp_path / f"{name}.png").stat().st_size > 10_000
        assert "nan" not in (tmp_path / f"{name}.md").read_text()
    with pytest.raises(ValueError, match="is of the scale quick, not cpu"):
        figure6_trajectory.main(figure6_trajectory.Options("cpu", out=tmp_path))
    for claim in judges_toy.CLAIMS:
        told, word = claim.judge(*(json.loads((tmp_path / f"{s}.json").read_text())
                                   for s in claim.sources))  # fmt: skip
        assert told
        assert word in (AGREES, DIFFERS, OPEN)


def test_the_wall_of_a_known_loss():
    alphas, m = np.geomspace(1, 8, 12), np.linspace(0, 0.2, 5)
    x = np.log(alphas)[:, None]
    losses = {
        "train_loss": 0.02 * np.exp(-5 * (x - np.log(2) - 1.5 * m[None])),
        "test_loss": np.exp(20 * m[None] - 4 + 0 * x),
    }
    axes = {"scale": alphas, "messiness": m}
    found = xr.Dataset({n: (tuple(axes), v) for n, v in losses.items()}, axes)
    wall = figure6_toy.lean(found)
    assert wall["foot"] == pytest.approx(2, rel=1e-6)
    assert wall["tan_theta"] == pytest.approx(1 / 1.5, rel=1e-6)
    none = figure6_toy.lean(found.assign(train_loss=found["train_loss"] * 0 + 1))
    assert none["foot"] is None


def test_a_rise_is_told_from_noise():
    alphas, m, draw = np.geomspace(1, 8, 10), np.linspace(0, 0.2, 9), np.random.default_rng(0)
    axes = {"scale": alphas, "messiness": m, "seed": [0, 1, 2]}

    def rises(logs, seeds=3):
        found = xr.Dataset({"train_loss": (tuple(axes), np.exp(logs))}, axes)
        return figure6_toy.rises(found.isel(seed=slice(seeds)))

    logs = 0.2 * draw.normal(size=(10, 9, 3))
    assert not rises(logs)
    assert rises(logs, seeds=1)  # one seed has no error to judge by
    logs[5:, 4] += 1.5
    ((at, low, high, by, error),) = rises(logs)
    assert (at, low, high) == (m[4], alphas[4], alphas[5])
    assert abs(by - 1.5) < 5 * error
    assert error == pytest.approx(0.2 * np.sqrt(2 / 3), rel=0.2)
    assert not rises(logs - 10)  # all fit
    logs[5:, 4, 1:] -= 1.5
    logs[5:, 4, 0] += 3.0
    assert not rises(logs)  # one seed of three


def test_a_network_moves_by_equation_6():
    """After one step norm and messiness are where dw/dt and dm/dt lead."""
    model, losses = toy_addition.model_of("quick"), toy_paths.losses_of("quick")
    decoder = model.init(jax.random.key(0), jnp.zeros((1, 2)))
    begin = toy_paths.Moving(
        decoder, jnp.float32(0.1), optax.scale_by_adam(0.9, 0.99).init(decoder)
    )
    decay, ratio, w = 0.01, 0.002, optax.tree.norm(decoder)
    # Each number is uniform within a = 1/sqrt(fan in), and its square varies by 4 a^4 / 45.
    layers = ((2, 12), (12, 12), (12, 30))
    spread = np.sqrt(sum((n + 1) * m * 4 / 45 / n**2 for n, m in layers))
    assert abs(float(w) ** 2 - toy_addition.initial_norm("quick") ** 2) < 5 * spread
    _, row = toy_paths.make_advance("quick", 1)(begin, np.float32(decay), np.float32(ratio))

    def scaled(norm, m):
        return losses(jax.tree.map(lambda p: p * norm / w, decoder), m)[0]

    slope = jax.grad(scaled, argnums=(0, 1))(w, jnp.float32(0.1))
    moved = w - toy_paths.RATE * (slope[0] + decay * w)
    assert float(row[0]) == pytest.approx(float(moved) / toy_addition.initial_norm("quick"), 1e-5)
    assert float(row[1]) == pytest.approx(0.1 - toy_paths.RATE * ratio * float(slope[1]), 1e-5)


def test_judges_tell_agreement_from_disagreement():
    maps = {str(n): {"test_loss": [[v, 1.0]]} for n, v in
            ((25, 0.9), (35, 0.5), (45, 0.05), (54, 0.01))}  # fmt: skip
    assert judges_toy._connects({"maps": maps})[1] == AGREES
    maps["35"]["test_loss"] = [[0.01, 1.0]]
    assert judges_toy._connects({"maps": maps})[1] == DIFFERS
    walls = {n: {"slope": s, "slopes": [s - 0.1, s, s + 0.1]} for n, s in (("45", 3), ("54", 4))}
    assert judges_toy._leans({"walls": walls})[1] == AGREES
    walls["54"]["slopes"] = [1.0, 4.0, 7.0]
    assert judges_toy._leans({"walls": walls})[1] == OPEN
    walls["54"] = {"slope": 2.0, "slopes": [2.0]}
    assert judges_toy._leans({"walls": walls})[1] == DIFFERS
    walls["54"]["slope"] = None
    assert judges_toy._leans({"walls": walls})[1] == OPEN
    known = {"0.02": {"paper": 1.0, "with_kappa": 0.4}, "0.05": {"why_not": "none"}}
    runs = [{"kind": "equal rates", "way": "Eq. 6 from C", "decay": d, "scaled": 0.42}
            for d in (1e-5, 1e-4)]  # fmt: skip
    found = {"predicted": {"equal rates": known}, "runs": runs}
    assert judges_toy._time("equal rates", "paper")(found)[1] == DIFFERS
    assert judges_toy._time("equal rates", "with_kappa")(found)[1] == AGREES
