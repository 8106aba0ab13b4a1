import shutil
import subprocess
import sys
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest

from glassgrok.engine.checkpoint import Checkpoints


class Inner(NamedTuple):
    key: Any
    position: Any


class State(NamedTuple):
    step: int
    dt: float
    on: bool
    inner: Inner
    entropy: Any
    visits: Any
    nothing: Any
    total: Any


def state(step):
    rng = np.random.default_rng(step)
    return State(
        step=step,
        dt=0.1 + step / 3,
        on=True,
        inner=Inner(
            rng.integers(0, 2**32, (4, 2), np.uint32), rng.normal(size=(4, 3)).astype(np.float32)
        ),
        entropy=rng.normal(size=(120, 130)) * 1e300,
        visits=rng.integers(0, 2**62, 7),
        nothing=np.zeros((0, 3), np.float32),
        total=np.float64(1 / 3),
    )


def same(one, two):
    assert type(one) is type(two)
    if isinstance(one, tuple):
        assert all(same(a, b) for a, b in zip(one, two, strict=True))
        return True
    if isinstance(one, np.ndarray):
        assert (one.dtype, one.shape) == (two.dtype, two.shape)
        return one.tobytes() == two.tobytes()
    return one == two


@pytest.fixture
def folder(tmp_path):
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(step, state(step), {"mark": step})
        checkpoints.wait()
        assert checkpoints.steps() == [2, 3]
    return tmp_path / "checkpoints"


def largest(folder, step):
    files = [f for f in (folder / str(step)).rglob("*") if f.is_file()]
    return max(files, key=lambda f: f.stat().st_size)


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def test_everything_comes_back_with_its_type(folder):
    with Checkpoints(folder) as checkpoints:
        restored = checkpoints.restore(state(0))
    assert (restored.step, restored.about) == (3, {"mark": 3})
    assert same(restored.tree, state(3))


def test_nothing_to_restore(tmp_path):
    with Checkpoints(tmp_path / "none") as checkpoints:
        assert checkpoints.restore(state(0)) is None


def test_what_is_saved_is_what_it_was_at_the_call(tmp_path):
    values = np.zeros(100_000)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {"jax": jnp.arange(3), "values": values})
        values += 1
        checkpoints.wait()
        tree = checkpoints.restore({"jax": 0, "values": 0}).tree
    assert not tree["values"].any()
    assert tree["jax"].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "damage", ["flip", "truncate", "remove", "state", "about", "about/metadata"]
)
def test_a_damaged_checkpoint_falls_back_to_the_one_before(folder, capsys, damage):
    path = largest(folder, 3)
    if damage == "flip":
        flip(path)
    elif damage == "truncate":
        path.write_bytes(path.read_bytes()[:10])
    elif damage == "remove":
        path.unlink()
    elif damage in ("state", "about"):
        shutil.rmtree(folder / "3" / damage)
    else:
        (folder / "3" / damage).unlink()
    with Checkpoints(folder) as checkpoints:
        restored = checkpoints.restore(state(0))
        assert same(restored.tree, state(2))
        checkpoints.save(3, state(3))  # the damaged one is out of the way
        checkpoints.wait()
        assert checkpoints.restore(state(0)).step == 3
    assert "step 3" in capsys.readouterr().err


def test_what_a_killed_save_left_is_no_checkpoint(folder):
    half = folder / "4.orbax-checkpoint-tmp"
    shutil.copytree(folder / "3" / "about", half / "about")
    with Checkpoints(folder) as checkpoints:
        assert checkpoints.restore(state(0)).step == 3
        checkpoints.save(4, state(4))
        checkpoints.wait()
        assert same(checkpoints.restore(state(0)).tree, state(4))
    assert not half.exists()


def test_a_reader_changes_nothing(folder, capsys):
    """Another process may be writing the half one, and may want the damaged one looked at."""
    half = folder / "4.orbax-checkpoint-tmp"
    shutil.copytree(folder / "3" / "about", half / "about")
    flip(largest(folder, 3))
    before = sorted(folder.rglob("*"))
    reader = Checkpoints(folder, keep=None)
    assert reader.about() == {"mark": 3}
    found = reader.latest()
    assert (found.step, found.tree[".dt"]) == (2, state(2).dt)
    assert "step 3" in capsys.readouterr().err
    assert sorted(folder.rglob("*")) == before
    assert Checkpoints(folder.parent / "none", keep=None).latest() is None
    assert not (folder.parent / "none").exists()


def test_as_many_stay_as_were_wanted(tmp_path):
    with Checkpoints(tmp_path, keep=3) as checkpoints:
        for step in range(5):
            checkpoints.save(step, state(step))
        checkpoints.wait()
        assert checkpoints.steps() == [2, 3, 4]


def test_all_damaged(folder):
    for step in (2, 3):
        flip(largest(folder, step))
    with Checkpoints(folder) as checkpoints:
        with pytest.raises(ValueError, match=r"None of the checkpoints \[3, 2\]"):
            checkpoints.restore(state(0))
        assert checkpoints.steps() == [2, 3]  # for whoever knows better


def test_another_structure_is_refused(folder):
    with (
        Checkpoints(folder) as checkpoints,
        pytest.raises(ValueError, match="another version of glassgrok"),
    ):
        checkpoints.restore({"step": 0})


def test_a_failed_write_is_told(tmp_path):
    with Checkpoints(tmp_path / "c") as checkpoints:
        checkpoints.save(1, {"x": np.zeros(3)})
        checkpoints.wait()
        checkpoints.save(2, {"x": np.array([object()])})
        with pytest.raises(OSError, match="could not be written"):
            checkpoints.wait()


FULL = """
import resource, sys
from pathlib import Path
import numpy as np
from glassgrok.engine.checkpoint import Checkpoints

resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, 12_000))
many = {f"a{i}": np.random.default_rng(i).normal(size=9000) for i in range(80)}
try:
    with Checkpoints(Path(sys.argv[1])) as checkpoints:
        checkpoints.save(1, many)
        checkpoints.wait()
except OSError as error:
    print(error)
"""


def test_nothing_but_a_sentence_where_many_arrays_find_no_room(tmp_path):
    folder = str(tmp_path / "c")
    done = subprocess.run(
        [sys.executable, "-c", FULL, folder],
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    assert done.stderr == ""
    assert "could not be written" in done.stdout
    assert "(File too large)" in done.stdout
    assert not list((tmp_path / "c").iterdir())
