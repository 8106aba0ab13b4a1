"""One, four and eight devices, in processes of their own."""

import json

import pytest
import spreads


@pytest.mark.slow  # five runs of a network, and eight devices on few cores
@pytest.mark.timeout(1800)
def test_any_number_of_devices_gives_the_same_bits(tmp_path, monkeypatch):
    monkeypatch.delenv("XLA_FLAGS")  # not the two devices of the tests' own process
    monkeypatch.delenv("NPROC")
    options = spreads.Options(steps=2000, jit=(1, 4, 8), partitioned=(4,), out=tmp_path)
    assert spreads.main(options) == 0
    rows = json.loads((tmp_path / "spreads.json").read_text())["rows"]
    assert [(row["spread"], row["devices"]) for row in rows] == [
        ("jit", 1), ("jit", 4), ("jit", 8), ("pmap", 4), ("shard_map", 4)
    ]  # fmt: skip
    assert all(row["steps"] == 2000 and row["different"] == [] for row in rows)
