"""What the scripts of this folder share: walkers, the Fokker-Planck equation, fits, a network.

Kozyrev (2024), Eq. 1: dξ = sqrt(2θ) dw - grad f dt. The middle scheme with c_f = 1 draws the
velocity anew at every step, and is that equation with a time step h = dt²/2 (Leimkuhler and
Matthews 2013). At any c_f a walker without a force diffuses as Eq. 1 does in the time

    h = dt² (2 - c_f) / (2 c_f)

a step; so that is the time in which runs of different friction are compared.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sparse
import scipy.sparse.linalg  # noqa: F401
import xarray as xr
from flax import linen as nn
from scipy.special import ndtri
from scipy.stats import chi2

from glassgrok.domains import Free
from glassgrok.dynamics import middle_step
from glassgrok.engine.folder import write_json
from glassgrok.training import init_training, optimizer_of, steps_to, training_blocks

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#777777"


@dataclass(frozen=True)
class Options:
    """What to run.

    Attributes:
        scale: quick for seconds, cpu for minutes on a core, paper for more samples and seeds.
        out: folder for the numbers, the figure and the table.
    """

    scale: Literal["quick", "cpu", "paper"] = "cpu"
    out: Path = Path("figures/kozyrev")


def keep(options: Options, name: str, runs: list[dict]) -> None:
    """The runs so far, for `known_runs`; `write` adds what follows from them, and the picture."""
    options.out.mkdir(parents=True, exist_ok=True)
    write_json(options.out / f"{name}.json", {"scale": options.scale, "runs": runs})


# --- walkers ------------------------------------------------------------------------------------


class Walkers(NamedTuple):
    """Many walkers at once; v and x are (walkers, D)."""

    x: jax.Array
    v: jax.Array


def keys_of(seed: int) -> Iterator:
    """As many keys as are asked for."""
    first = jax.random.key(seed)
    return (jax.random.fold_in(first, i) for i in count())


def at_rest(x, key, kT: float) -> Walkers:
    """Walkers at x with velocities of the temperature kT."""
    x = jnp.asarray(x, jnp.float32)
    return Walkers(x, jnp.sqrt(jnp.float32(kT)) * jax.random.normal(key, x.shape))


def overdamped_time(dt: float, friction: float) -> float:
    """Time of Eq. 1 that one step stands for: dt² (2 - c_f) / (2 c_f)."""
    return dt**2 * (2 - friction) / (2 * friction)


def effective_friction(dt: float, friction: float) -> float:
    """The γ with kT/γ as diffusion constant: (2/dt) tanh(γ' dt/2) where c_f = 1 - e^(-γ' dt)."""
    return dt / overdamped_time(dt, friction)


@lru_cache
def stretch(potential: Callable, kernel: Callable = middle_step, gone=None) -> Callable:
    """One compiled program that moves all walkers; the same for the same arguments.

    Args:
        potential: (x, shape) -> f of one walker, where shape is any pytree of numbers.
        kernel: of `glassgrok.dynamics`.
        gone: (x, shape) -> bool, where a walker leaves for good; none leaves if not given.

    Returns:
        (walkers, alive, key, steps, shape, dt, friction, kT) -> (walkers, alive, exposure): alive
        is (walkers,) bool, exposure the sum over steps of the walkers that were alive before each.
    """
    force = jax.grad(lambda x, shape: -potential(x, shape))

    def one(x, v, noise, shape, dt, friction, kT):
        return kernel(x, v, force(x, shape), noise, dt, friction, kT, Free())

    @jax.jit
    def run(walkers, alive, key, steps, shape, dt, friction, kT):
        def body(step, carry):
            (x, v), alive, exposure = carry
            exposure = exposure + jnp.sum(alive, dtype=jnp.int32)
            noise = jax.random.normal(jax.random.fold_in(key, step), x.shape)
            x, v = jax.vmap(one, (0, 0, 0, *[None] * 4))(x, v, noise, shape, dt, friction, kT)
            if gone is not None:
                alive = alive & ~jax.vmap(gone, (0, None))(x, shape)
            return Walkers(x, v), alive, exposure

        return jax.lax.fori_loop(0, steps, body, (walkers, alive, jnp.int32(0)))

    return run


# --- the Fokker-Planck equation on a grid ---------------------------------------------------------


def generator(f: np.ndarray, spacing: tuple[float, ...], theta: float) -> sparse.csc_array:
    """A of dp/dt = A p for the masses of cells, with the fluxes of Chang and Cooper (1970).

    The rate from a cell to its neighbour is theta/dx² B((f' - f)/theta), B(z) = z/(e^z - 1).
    Columns add up to zero: the mass is conserved, and exp(-f/theta) stationary up to rounding.

    Args:
        f: potential at the middles of the cells, any number of axes.
        spacing: width of the cells along each.
        theta: temperature.
    """
    place = np.arange(f.size).reshape(f.shape)
    rows, columns, rates = [], [], []
    for axis, dx in enumerate(spacing):
        low = [slice(None)] * f.ndim
        high = list(low)
        low[axis], high[axis] = slice(None, -1), slice(1, None)
        a, b = place[tuple(low)].ravel(), place[tuple(high)].ravel()
        rise = (f.ravel()[b] - f.ravel()[a]) / theta
        for source, target, z in ((a, b, rise), (b, a, -rise)):
            near = np.abs(z) < 1e-8
            bernoulli = np.where(near, 1 - z / 2, z / np.expm1(np.where(near, 1.0, z)))
            rate = theta / dx**2 * bernoulli
            rows += [target, source]
            columns += [source, source]
            rates += [rate, -rate]
    entries = np.concatenate(rates), (np.concatenate(rows), np.concatenate(columns))
    return sparse.csc_array(entries, shape=(f.size, f.size))


def evolve(matrix: sparse.csc_array, mass: np.ndarray, duration: float, steps: int) -> np.ndarray:
    """p at the end of dp/dt = A p, by SDIRK2 of Alexander (1977): second order and L-stable."""
    share = 1 - 1 / math.sqrt(2)
    delta = duration / steps
    solve = sparse.linalg.splu(sparse.eye_array(len(mass), format="csc") - share * delta * matrix)
    for _ in range(steps):
        first = matrix @ solve.solve(mass)
        mass = solve.solve(mass + (1 - share) * delta * first)
    return mass


def symmetric(matrix: sparse.csc_array, f: np.ndarray, theta: float) -> sparse.csc_array:
    """The same eigenvalues from a symmetric matrix: e^(f/2θ) A e^(-f/2θ); detailed balance."""
    half = (f.ravel() - f.min()) / (2 * theta)
    entries = matrix.tocoo()
    data = entries.data * np.exp(half[entries.row] - half[entries.col])
    return sparse.csc_array((data, (entries.row, entries.col)), shape=matrix.shape)


def slow_rates(matrix: sparse.csc_array, f: np.ndarray, theta: float, many: int = 2) -> np.ndarray:
    """The smallest relaxation rates, ascending; without an absorbing cell the first is 0."""
    even = symmetric(matrix, f, theta)
    even = (even + even.T) / 2
    found = sparse.linalg.eigsh(even, many, sigma=1e-6, which="LM", return_eigenvectors=False)
    return np.sort(-found)


def without(matrix: sparse.csc_array, keep: np.ndarray) -> sparse.csc_array:
    """The generator where walkers that enter a cell outside of `keep` are gone."""
    index = np.flatnonzero(keep.ravel())
    return matrix[index][:, index]


# --- fits and tests -------------------------------------------------------------------------------


class Line(NamedTuple):
    """y = intercept + slope x.

    Attributes:
        slope, slope_error, intercept, intercept_error: with one standard error.
        aic: n ln(rss/n) + 2 k, k = 3 with the variance; of unweighted fits alone.
        scatter: root mean square deviation over n - 2.
    """

    slope: float
    slope_error: float
    intercept: float
    intercept_error: float
    aic: float
    scatter: float


def line(x, y, error=None) -> Line:
    """Least squares; the errors come from `error` of y if given, else from the scatter."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    weight = np.ones_like(y) if error is None else 1 / np.asarray(error, float) ** 2
    design = np.stack([x, np.ones_like(x)], axis=1)
    covariance = np.linalg.inv(design.T @ (weight[:, None] * design))
    slope, intercept = covariance @ design.T @ (weight * y)
    rss = float(np.sum((y - intercept - slope * x) ** 2))
    scatter = math.sqrt(rss / max(len(x) - 2, 1))
    if error is None:
        covariance = covariance * scatter**2
    aic = len(x) * math.log(max(rss, 1e-300) / len(x)) + 2 * 3
    bars = np.sqrt(np.diag(covariance))
    return Line(float(slope), float(bars[0]), float(intercept), float(bars[1]), aic, scatter)


def score(probability: float) -> float:
    """The z of a normal variable that is exceeded with this probability."""
    return float(-ndtri(min(max(probability, 1e-300), 1 - 1e-16)))


def pearson(counts: np.ndarray, expected: np.ndarray, least: float = 10.0) -> tuple[float, int]:
    """χ² of independent counts, cells below `least` expected pooled; and its degrees of freedom."""
    counts, expected = counts.ravel().astype(float), expected.ravel()
    small = expected < least
    pooled = expected[small].sum()
    seen, wanted = counts[~small], expected[~small]
    if pooled > least:
        seen, wanted = np.append(seen, counts[small].sum()), np.append(wanted, pooled)
    return float(np.sum((seen - wanted) ** 2 / wanted)), len(wanted) - 1


def chi_score(value: float, freedom: int) -> float:
    """χ² as a normal score."""
    return score(chi2.sf(value, freedom))


def measured(value: float, error: float) -> str:
    """1.234 ± 0.005, with two digits of the error."""
    if not np.isfinite(error) or error <= 0:
        return f"{value:.4g}"
    if abs(value) < 1e-3 and error < 1e-3:
        return f"{value:.2e} ± {error:.0e}"
    digits = max(0, 1 - math.floor(math.log10(error)))
    return f"{value:.{digits}f} ± {error:.{digits}f}"


# --- a small network that groks -------------------------------------------------------------------


class Adder(nn.Module):
    """One embedding for both numbers, added, a ReLU layer, an unembedding without bias.

    As the toy of Liu et al. (2022), with the initial spreads of Nanda et al. (2023). It reads the
    tokens as a bag, so that one matrix product serves all pairs.

    Attributes:
        vocabulary: p + 1; "=" is never read.
        d_model: length of the embedding.
        d_hidden: units of the layer.
    """

    vocabulary: int
    d_model: int = 32
    d_hidden: int = 64

    @nn.compact
    def __call__(self, tokens):
        """Tokens (..., 3) int -> logits (..., vocabulary)."""

        def spread(size):
            return nn.initializers.normal(1 / math.sqrt(size))

        shape = (self.vocabulary, self.d_model)
        embedding = self.param("embedding", spread(self.d_model), shape)
        hidden = self.param("hidden", spread(self.d_model), (self.d_model, self.d_hidden))
        bias = self.param("bias", nn.initializers.zeros, (self.d_hidden,))
        bag = sum(jax.nn.one_hot(tokens[..., i], self.vocabulary) for i in (0, 1))
        active = nn.relu(bag @ (embedding @ hidden) + bias.reshape((1,) * (bag.ndim - 1) + (-1,)))
        shape = (self.d_hidden, self.vocabulary)
        return active @ self.param("unembed", spread(self.d_hidden), shape)


MODULUS = {"quick": 7, "cpu": 31, "paper": 67}
SIZES = {"quick": (8, 16), "cpu": (32, 64), "paper": (128, 256)}  # embedding and hidden units
MEMORISED, GENERALISED = 0.99, 0.95  # of train and of test accuracy


def adder_of(scale: str) -> Adder:
    """The network of a scale."""
    return Adder(MODULUS[scale] + 1, *SIZES[scale])


def step_or_none(value) -> int | None:
    """A step, None for NaN."""
    return None if np.isnan(value) else int(value)


def arrivals(history: xr.Dataset) -> list[dict]:
    """For each copy the first recorded steps with `MEMORISED` and `GENERALISED` accuracy."""
    memorised = steps_to(history, "train_accuracy", MEMORISED).values
    generalised = steps_to(history, "test_accuracy", GENERALISED).values
    return [
        {
            "seed": int(history["seed"][i]),
            "learning_rate": float(history["learning_rate"][i]),
            "weight_decay": float(history["weight_decay"][i]),
            "memorised": step_or_none(memorised[i]),
            "generalised": step_or_none(generalised[i]),
            "best_test_accuracy": float(history["test_accuracy"][:, i].max()),
        }
        for i in range(history.sizes["copy"])
    ]


def until_all_generalise(model, task, config, seed: int, optimizer=optimizer_of) -> list[dict]:
    """`arrivals` of all copies; training ends where each has arrived, or at config.steps."""
    state, parts = init_training(model, task, config, jax.random.key(seed), optimizer), []
    for _, part in training_blocks(model, task, config, state, optimizer=optimizer):
        parts.append(part)
        found = arrivals(xr.concat(parts, "step"))
        if all(None not in (run["memorised"], run["generalised"]) for run in found):
            break
    return found
