"""Two forced CPU devices and strict JAX, set before anything imports JAX."""

import atexit
import os
import shutil
import tempfile

# Without NPROC several collective programs in flight hang for ever on machines with few cores.
os.environ["NPROC"] = "16"
os.environ["XLA_FLAGS"] = (
    "--xla_force_host_platform_device_count=2 --xla_cpu_multi_thread_eigen=false"  # as in a run
)
# Most of the time of the tests is that of compiling, and they compile the same programs again and
# again, and so do the processes that they start: each program is kept, for as long as this process
# lives. Workers do not share a folder: JAX writes to it without a lock, or with one that makes it
# read all of the folder at each program.
os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="glassgrok-tests-")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"

import jax
import matplotlib
import pytest

atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
matplotlib.use("Agg")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")


@pytest.fixture
def promotion():
    """Scripts run with JAX as it comes, and Optax needs that."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.fixture(scope="module")
def one_device():
    """Where nothing depends on their number: a CPU device compiles each program for itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "local_devices", lambda: jax.devices()[:1])
        yield
