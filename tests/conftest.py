"""Two forced CPU devices and strict JAX, set before anything imports JAX."""

import os

# Without NPROC several collective programs in flight hang for ever on machines with few cores.
os.environ["NPROC"] = "16"
os.environ["XLA_FLAGS"] = (
    "--xla_force_host_platform_device_count=2 --xla_cpu_multi_thread_eigen=false"  # as in a run
)

import jax

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")
