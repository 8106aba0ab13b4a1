"""Networks taken out of a run: they are where they are said to be, and load."""

import jax
import numpy as np
import pytest
from flax import serialization
from runs import CONFIG, stop_at

from glassgrok import cli
from glassgrok import config as configs
from glassgrok.engine import export
from glassgrok.engine.run import run
from glassgrok.engine.session import Stopped


@pytest.fixture(scope="module")
def place(whole):
    """Where some walkers of the run are."""
    position, group, _ = export._walkers(whole, CONFIG)
    system = configs.build_system(CONFIG)
    flat = export.flatten(system, configs.build_grid(CONFIG), jax.random.key(0))
    return np.median([flat.observe(x)[0] for x in position], axis=0), group


def test_the_model_loads_what_is_exported(whole, place, tmp_path, capsys):
    (u, a), group = place
    assert np.bincount(group).tolist() == [2] * 8  # 16 walkers in 8 groups
    file = tmp_path / "networks.msgpack"
    words = ["export", str(whole), "--u", str(u), "--a", str(a), "--count", "2", "--out", str(file)]
    assert cli.main(words) == 0
    assert "2 networks of step 1,500" in capsys.readouterr().out
    found = serialization.msgpack_restore(file.read_bytes())
    system, grid = configs.build_system(CONFIG), configs.build_grid(CONFIG)
    assert len(set(found["group"])) == 2
    for i in range(2):
        params = jax.tree.map(lambda leaf, i=i: leaf[i], found["params"])
        seen = system.observe(params)[:2]
        told = found["ln_loss"][i], found["test_accuracy"][i]
        np.testing.assert_allclose(seen, told, atol=1e-4)
        assert abs(seen[0] - u) <= grid.axes[0].width
        assert abs(seen[1] - a) <= grid.axes[1].width


def test_where_no_walker_is_a_sentence_tells(whole, tmp_path, capsys):
    file = tmp_path / "networks.msgpack"
    assert cli.main(["export", str(whole), "--u", "-30", "--a", "0.5", "--out", str(file)]) == 2
    assert "0 of the 16 walkers" in capsys.readouterr().err
    assert not file.exists()


def test_a_run_without_walkers_is_refused(tmp_path, capsys):
    folder = tmp_path / "run"
    with pytest.raises(Stopped):
        run(folder, CONFIG, on_progress=stop_at("ladder", 1))
    for step in (folder / "checkpoints" / "sample").iterdir():
        (step / "_CHECKPOINT_METADATA").unlink(missing_ok=True)
        step.rename(step.with_name("gone"))
    assert cli.main(["export", str(folder), "--u", "-1", "--a", "0.5"]) == 2
    assert "has no walkers that sample yet" in capsys.readouterr().err
