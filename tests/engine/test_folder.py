import errno
import json
import os

import pytest
from runs import WITH_WINDOWS

from glassgrok.config import plain
from glassgrok.engine import folder
from glassgrok.engine.run import changes


@pytest.fixture
def about():
    return folder.provenance("sample", 3, "glassgrok sample /home/me/a.yaml --out runs/a")


@pytest.fixture
def run(tmp_path, about):
    return folder.create(tmp_path / "run", "seed: 3\n", about)


def test_create_and_open(run):
    assert folder.open_run(run) == run
    assert {entry.name for entry in run.iterdir()} == {"config.yaml", "provenance.json"}


def test_provenance_names_no_machine_and_no_folder(about):
    assert about["command"] == "glassgrok sample a.yaml --out runs/a"
    assert {"python", "jax", "flax", "optax", "orbax-checkpoint", "glassgrok"} <= set(
        about["versions"]
    )
    assert not any(word.startswith("/") for word in json.dumps(about).replace('"', " ").split())


def test_never_overwrites_a_run_unasked(run, about):
    (run / "notes.txt").write_text("mine")
    (run / "landscape.nc").write_text("old")
    with pytest.raises(ValueError, match="--overwrite"):
        folder.create(run, "seed: 4\n", about)
    assert (run / "landscape.nc").read_text() == "old"
    folder.create(run, "seed: 4\n", about, overwrite=True)
    assert not (run / "landscape.nc").exists()
    assert (run / "notes.txt").read_text() == "mine"
    assert (run / "config.yaml").read_text() == "seed: 4\n"


def test_never_overwrites_what_is_no_run(tmp_path, about):
    (tmp_path / "thesis.tex").write_text("years")
    with pytest.raises(ValueError, match=r"not a glassgrok run and holds thesis\.tex"):
        folder.create(tmp_path, "seed: 4\n", about, overwrite=True)
    with pytest.raises(ValueError, match="is a file"):
        folder.create(tmp_path / "thesis.tex", "seed: 4\n", about, overwrite=True)
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.tex"]


def test_an_empty_folder_may_be_used(tmp_path, about):
    assert folder.open_run(folder.create(tmp_path, "seed: 4\n", about)) == tmp_path


def test_half_emptied_by_a_kill_while_overwriting(run, about):
    (run / "config.yaml").unlink()
    with pytest.raises(ValueError, match="not a glassgrok run"):
        folder.open_run(run)
    folder.create(run, "seed: 4\n", about, overwrite=True)
    assert folder.open_run(run) == run


@pytest.mark.parametrize("what", ["absent", "file", "empty"])
def test_open_says_what_is_there(tmp_path, what):
    path = tmp_path / what
    if what == "file":
        path.write_text("")
    if what == "empty":
        path.mkdir()
    says = {"absent": "no folder", "file": "is a file", "empty": "holds nothing"}[what]
    with pytest.raises(ValueError, match=says):
        folder.open_run(path)


def test_one_process_at_a_time(run):
    with (
        folder.lock(run),
        pytest.raises(ValueError, match="Another process works in"),
        folder.lock(run),
    ):
        pass
    with folder.lock(run):
        pass


def test_metrics_are_cut_back_to_the_restored_step(run):
    for phase, step in [("train", 10), ("sample", 10), ("sample", 20), ("sample", 30)]:
        folder.append_metrics(run, {"phase": phase, "step": step, "u": float("nan")})
    with open(run / "metrics.jsonl", "a") as file:
        file.write('{"phase": "sample", "st')  # killed in the middle of a line
    folder.truncate_metrics(run, "sample", 20)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [(line["phase"], line["step"]) for line in lines] == [
        ("train", 10),
        ("sample", 10),
        ("sample", 20),
    ]
    assert lines[0]["u"] is None


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (errno.ENOSPC, r"\(No space left on device\); make room there and try again\.$"),
        (errno.EROFS, r"\(Read-only file system\); make the folder writable and try again\.$"),
        (errno.EIO, r"\(Input/output error\); see to it and try again\.$"),
    ],
)
def test_a_failed_write_leaves_the_old_file(run, number, told):
    def broken(partial):
        partial.write_text("half")
        raise OSError(number, os.strerror(number))

    with pytest.raises(OSError, match=r"config\.yaml could not be written " + told):
        folder.replace_with(run / "config.yaml", broken)
    assert (run / "config.yaml").read_text() == "seed: 3\n"
    assert {entry.name for entry in run.iterdir()} == {"config.yaml", "provenance.json"}


def test_a_full_disk_under_the_metrics(run):
    (run / "metrics.jsonl").symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"metrics\.jsonl could not be written \(No space left"):
        folder.append_metrics(run, {"phase": "train", "step": 10})


def test_a_full_disk_under_a_new_run(tmp_path, about, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(folder.os, "fsync", full)
        with pytest.raises(OSError, match=r"could not be written \(No space left"):
            folder.create(tmp_path / "new", "seed: 4\n", about)
    assert not list((tmp_path / "new").iterdir())
    folder.create(tmp_path / "new", "seed: 4\n", about)


def test_a_folder_that_cannot_be_made(tmp_path, about, monkeypatch):
    def protected(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(folder.Path, "mkdir", protected)
    with pytest.raises(OSError, match=r"new could not be written \(Read-only"):
        folder.create(tmp_path / "new", "seed: 4\n", about)


def test_a_run_of_a_newer_version(run):
    values = folder.read_provenance(run)
    values["versions"]["glassgrok"] = "99.1"
    folder.write_json(run / "provenance.json", values)
    with pytest.raises(ValueError, match=r"made by glassgrok 99\.1, but this is .*; upgrade"):
        folder.open_run(run)


def test_a_run_that_had_fewer_fields(run):
    about, recorded = folder.read_provenance(run), plain(WITH_WINDOWS)
    del recorded["umbrella"]["crowd"]
    about |= {"config": recorded, "git_commit": "0123456789abcdef"}
    (run / folder.PROVENANCE).write_text(json.dumps(about))
    told = "had no umbrella.crowd; go on with that one, commit 0123456789, or start another run"
    with pytest.raises(ValueError, match=told):
        changes(run, WITH_WINDOWS)


def test_a_run_that_did_not_record_its_config(run):
    with pytest.raises(ValueError, match="does not hold the config"):
        folder.recorded_config(run)
