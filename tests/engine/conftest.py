"""Programs compiled once, and one run left in peace, for all tests that run and resume."""

from contextlib import contextmanager

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache
from runs import CONFIG

from glassgrok.engine.run import run


@contextmanager
def kept(folder):
    """Programs are fetched from a folder, where one has compiled them already."""
    settings = {
        "jax_compilation_cache_dir": str(folder),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in settings}
    for name, value in settings.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    yield {name.upper(): str(value) for name, value in settings.items()}
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


@pytest.fixture(scope="session")
def programs(tmp_path_factory):
    return tmp_path_factory.mktemp("programs")


@pytest.fixture(scope="module")
def cache(programs):
    """Resumed runs need not compile again what the first one compiled."""
    with kept(programs) as settings:
        yield settings


@pytest.fixture(scope="session")
def whole(programs, tmp_path_factory):
    """The run of `runs.CONFIG` in one process on two devices."""
    with kept(programs):
        return run(tmp_path_factory.mktemp("whole") / "run", CONFIG)
