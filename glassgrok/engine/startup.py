"""JAX made ready for a run, before it looks for devices."""

import os
from contextlib import suppress

import jax
from platformdirs import user_cache_path


def keep_compiled() -> None:
    """Keep compiled programs in the user's cache folder, unless JAX was told of another one."""
    if jax.config.jax_compilation_cache_dir is None:
        folder = str(user_cache_path("glassgrok") / "compiled")
        jax.config.update("jax_compilation_cache_dir", folder)
        # Many small programs take seconds together; JAX would keep only large ones.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def split_cpu(tiles: int, wanted: int | None = None) -> None:
    """Make one JAX device of each core, or as many as are wanted.

    Args:
        tiles: of walkers, which must divide among the devices.
        wanted: number of devices; None for as many cores as divide the tiles.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if "xla_cpu_multi_thread_eigen" not in flags:
        # Devices keep all cores busy; threads inside each matrix product would fight for them. On
        # one device too, where threads would round otherwise than several devices do.
        os.environ["XLA_FLAGS"] = f"{flags} --xla_cpu_multi_thread_eigen=false".strip()
    if "xla_force_host_platform_device_count" in flags:
        return
    parts = wanted or max(n for n in range(1, cores() + 1) if tiles % n == 0)
    if parts > cores():
        # With fewer threads than partitions, programs that wait for each other never end.
        os.environ.setdefault("NPROC", str(4 * parts))
    with suppress(RuntimeError):  # JAX has looked already: called from a running program
        jax.config.update("jax_num_cpu_devices", parts)
