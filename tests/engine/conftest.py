"""One run left in peace, for all tests that run and resume."""

import os
from pathlib import Path

import pytest
from runs import CONFIG

from glassgrok.engine.run import run


@pytest.fixture(scope="session")
def programs():
    """Where compiled programs are kept."""
    return Path(os.environ["JAX_COMPILATION_CACHE_DIR"])


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """The run of `runs.CONFIG` in one process on two devices."""
    return run(tmp_path_factory.mktemp("whole") / "run", CONFIG)
