"""Two forced CPU devices and strict JAX, set before anything imports JAX."""

import os

# Without NPROC several collective programs in flight hang for ever on machines with few cores.
os.environ["NPROC"] = "16"
os.environ["XLA_FLAGS"] = (
    "--xla_force_host_platform_device_count=2 --xla_cpu_multi_thread_eigen=false"  # as in a run
)

import jax
import matplotlib
import pytest

matplotlib.use("Agg")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")


@pytest.fixture
def promotion():
    """Scripts run with JAX as it comes, and Optax needs that."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield
