"""First passages in a run's landscape: under its frozen V, and at a temperature."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from glassgrok import config as configs
from glassgrok.analysis.thermodynamics import microcanonical_beta
from glassgrok.engine import folder as folders
from glassgrok.landscape import Landscape
from glassgrok.potential import of_entropy
from glassgrok.sampling.passage import Passage, first_passage
from glassgrok.sampling.starts import trained_starts

FLAT, CANONICAL = WAYS = ("frozen V = S", "canonical")


def passages(
    path: Path,
    u: float,
    level: float,
    start: Literal["memorising", "generalising"] = "memorising",
    steps: int = 20_000,
    walkers: int = 16,
    seed: int = 0,
    on_block: Callable[[str, int, int], Any] | None = None,
) -> tuple[dict[str, Passage], dict]:
    """How long walkers take from a trained start to A >= level.

    Args:
        path: folder of a finished run that samples.
        u: at which the canonical ensemble has its weight: beta = S'(u) e^-u.
        level: of the smooth test accuracy.
        start: which network they begin at.
        steps: at most.
        walkers: a multiple of 4.
        seed: of the network's training and of the noise.
        on_block: called with the way, the steps done and the walkers that have passed.

    Returns:
        The Passage of each of `WAYS`, and what they were driven by: beta and both time steps.

    Raises:
        ValueError: there is no landscape yet, or S does not say what beta belongs to u.
    """
    config = configs.load(folders.open_run(path) / folders.CONFIG)
    landscape = Landscape.load(path / folders.LANDSCAPE)
    system, grid = configs.build_system(config), configs.build_grid(config)
    beta, row = _beta(landscape, u)
    train, *keys = jax.random.split(jax.random.key(seed), 3)
    params = trained_starts(
        configs.build_model(config, task := configs.build_task(config)),
        task,
        system.domain,
        train,
        which=(start,),
    )[start]
    table = of_entropy(landscape.entropy, grid.axes[0].centers, config.sampler.depth)
    slowest, there = _time_steps(landscape, row)
    ways = {
        FLAT: {"V": table, "dt": slowest},
        CANONICAL: {"beta": beta, "dt": there},
    }
    found = {}
    for (name, how), key in zip(ways.items(), keys, strict=True):

        def told(done, passed, name=name):
            if on_block is not None:
                on_block(name, done, passed)

        found[name] = first_passage(
            system, grid, params, key, level=level, steps=steps, walkers=walkers,
            on_block=told, **how,
        )  # fmt: skip
    return found, {"beta": beta, "dt": {FLAT: slowest, CANONICAL: there}}


def _beta(landscape: Landscape, u: float) -> tuple[float, int]:
    """beta = S'(u) e^-u of the row nearest to u, and its number."""
    axis = landscape.grid.axes[0]
    if not axis.low <= u <= axis.high:
        raise ValueError(
            f"u = {u:g} lies outside the grid, which goes from {axis.low:g} to {axis.high:g}; give "
            "another --u."
        )
    row = int(np.argmin(np.abs(axis.centers - u)))
    beta = float(microcanonical_beta(landscape)[0][row])
    if not beta > 0:
        raise ValueError(
            f"S does not rise with the loss at u = {u:g}, or was not sampled there, so that no "
            "temperature has its weight there; give another --u."
        )
    return beta, row


def _time_steps(landscape: Landscape, row: int) -> tuple[float, float]:
    """dt that is small enough everywhere, and at a row."""
    if landscape.umbrella is None:
        return (landscape.diagnostics.dt,) * 2
    dt, mean = landscape.umbrella.dt, landscape.umbrella.mean[:, 0]
    near = np.abs(mean - landscape.grid.axes[0].centers[row]) <= 1
    return float(dt.min()), float(dt[near].min() if near.any() else dt.min())


def describe(found: dict[str, Passage], start: str, level: float) -> list[str]:
    """The passages in words, a line each."""
    lines = []
    for name, one in found.items():
        tau, low, high = one.time_constant()
        took = f"time constant {tau:,.0f} ({low:,.0f} to {high:,.0f}) steps"
        if not one.passed:
            took = f"time constant above {low:,.0f} steps"
        u, a = np.nanmedian(one.values[-1], axis=0)
        lines.append(
            f"{name}: {one.passed} of {len(one.steps)} walkers came from {start} to A >= "
            f"{level:g} within {one.limit:,} steps, {took}; at the end u {u:.2f}, A {a:.2f}."
        )
    return lines
