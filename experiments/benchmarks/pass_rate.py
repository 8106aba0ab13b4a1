"""The forward and backward pass at the paper's size against plain JAX, PyTorch and matrix products.

    python experiments/benchmarks/pass_rate.py [--rounds N] [--out FILE.json]

All pairs of x + y mod 67, the default Transformer, two CPU cores. Ours runs as the engine does: one
single-threaded device a core and a walker on each. Plain JAX and PyTorch run in a second process
with all threads on one walker. Both are timed in turn, the best of several rounds counts.
"""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from glassgrok.engine.folder import write_json
from glassgrok.experiment import about, command

P, CORES, REPEATS = 67, 2, 4
COTANGENTS = (1.0, -3.0)
MATRIX = (P * P, 128, 512)


@dataclass(frozen=True)
class Options:
    """What to time.

    Attributes:
        rounds: timings of each; the best counts.
        out: JSON file for the numbers.
        compile: whether torch.compile is tried.
        worker: what this process is; set by the script itself.
    """

    rounds: int = 7
    out: Path = Path("figures/benchmarks/pass_rate.json")
    compile: bool = True
    worker: bool = False


def operations() -> dict[str, float]:
    """Multiplications and additions of one forward and backward pass, from the matrix shapes.

    The backward pass of a product costs two of its size.

    Returns:
        factorised: matrix by matrix (dense attention output, MLP, unembedding over the pairs);
        ours: matrices folded first, values mixed at the hidden units (see `factorised.py`).
    """
    n, d, classes, inner, hidden, heads = P * P, 128, P + 1, 128, 512, 4
    factorised = n * (inner * d + 2 * d * hidden + d * classes)
    folded = inner * d * (hidden + classes) + hidden * d * classes
    tables = 2 * P * inner * (hidden + classes)
    ours = n * (2 * heads * (hidden + classes) + hidden * classes) + folded + tables
    return {"factorised": 6.0 * factorised, "ours": 6.0 * ours}


def timed(run) -> float:
    """Seconds of one call."""
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def setting():
    """The task, the model, its parameters and their gradient function."""
    import jax

    import glassgrok as gg

    task = gg.modular("x+y", P, 0.5)
    model = gg.Transformer(P + 1)
    params = jax.jit(model.init)(jax.random.key(0), task.inputs[:1])
    return task, model, params


def gradient_of(observe):
    """params -> ((u, A), gradient) of a System's observe."""
    import jax
    import jax.numpy as jnp

    def run(params):
        values, pull = jax.vjp(lambda q: jnp.stack(observe(q)[:2]), params)
        return values, pull(jnp.array(COTANGENTS))[0]

    return run


def product(length: int):
    """(4489, 128) -> the same after `length` products with a (128, 512) matrix."""
    import jax

    matrix = np.random.default_rng(0).normal(size=MATRIX[1:]).astype(np.float32)

    def run(a):
        # An entry of each result feeds the next product, so that none is dropped.
        return jax.lax.fori_loop(0, length, lambda _, a: a + 1e-20 * (a @ matrix)[:1, :1], a)

    return run


def flat(tree) -> np.ndarray:
    """All leaves as one vector."""
    import jax

    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def ours():
    """Pass and product as the engine runs them; seconds are of one walker-step on all cores."""
    import jax
    import jax.numpy as jnp

    import glassgrok as gg

    task, model, params = setting()
    gradient = gradient_of(gg.network(model, task).observe)
    both = jax.tree.map(lambda a: jnp.stack([a] * CORES), params)

    def repeat(params):
        def again(_, q):
            return jax.tree.map(lambda a, g: a - 1e-9 * g, q, gradient(q)[1])

        return jax.lax.fori_loop(0, REPEATS, again, params)

    passes, products = jax.pmap(repeat), jax.pmap(product(10))
    a = jnp.ones((CORES, *MATRIX[:2]))
    runs = {
        "ours": (lambda: jax.block_until_ready(passes(both)), REPEATS * CORES),
        "product, a thread a device": (lambda: jax.block_until_ready(products(a)), 10 * CORES),
    }
    return runs, {"ours": jax.jit(gradient)(params)}


def others(compiled: bool):
    """Plain JAX, PyTorch and the product with all threads on one walker."""
    import jax
    import jax.numpy as jnp
    import torch
    import torch_step

    from glassgrok import system

    task, model, params = setting()
    system.applies = lambda *_: False  # the generic path
    plain = jax.jit(gradient_of(system.network(model, task).observe))
    torch.set_num_threads(CORES)
    network = torch_step.Transformer(P + 1)
    torch_step.load(network, jax.tree.map(np.asarray, params["params"]))
    eager = torch_step.make_pass(network, task, COTANGENTS)
    answers = {"plain JAX": plain(params)}
    answers["PyTorch"] = np.array(eager()), {"params": torch_step.gradients(network)}
    products, a = jax.jit(product(10)), jnp.ones(MATRIX[:2])
    runs = {
        "plain JAX": (lambda: jax.block_until_ready(plain(params)), 1),
        "PyTorch": (eager, 1),
        "product, all threads": (lambda: jax.block_until_ready(products(a)), 10),
    }
    if compiled:
        fast = torch_step.make_pass(network, task, COTANGENTS, compiled=True)
        try:
            answers["PyTorch, compiled"] = (
                np.array(fast()),
                {"params": torch_step.gradients(network)},
            )
            runs["PyTorch, compiled"] = (fast, 1)
        except Exception as error:  # no C++ compiler, for one
            print("torch.compile failed: " + str(error).strip()[:300], file=sys.stderr)
    return runs, answers


def serve(options: Options) -> None:
    """The second process: answers once, then one timing of everything for each line of input."""
    runs, answers = others(options.compile)
    warm = {name: timed(run) for name, (run, _) in runs.items()}
    packed = {name: [np.asarray(v).tolist(), flat(g).tolist()] for name, (v, g) in answers.items()}
    print(json.dumps({"answers": packed, "first": warm}), flush=True)
    for _ in sys.stdin:
        print(json.dumps({n: timed(run) / count for n, (run, count) in runs.items()}), flush=True)


def measure(options: Options) -> dict:
    """Time both processes in turn.

    Returns:
        JSON: seconds (best and median) of each, errors against ours, ratios and shares.
    """
    command = [
        sys.executable,
        __file__,
        "--worker",
        "--compile" if options.compile else "--no-compile",
    ]
    clean = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=clean
    ) as other:
        # Not both at once: the other has only just loaded when this one compiles.
        theirs = json.loads(other.stdout.readline())
        runs, answers = ours()
        seconds = {}
        for run, _ in runs.values():
            run()
        for _ in range(options.rounds):
            row = {name: timed(run) / count for name, (run, count) in runs.items()}
            other.stdin.write("\n")
            other.stdin.flush()
            for name, value in (row | json.loads(other.stdout.readline())).items():
                seconds.setdefault(name, []).append(value)
        other.stdin.close()
    values, gradient = (np.asarray(answers["ours"][0]), flat(answers["ours"][1]))
    errors = {
        name: {
            "values": float(np.linalg.norm(np.array(v) - values) / np.linalg.norm(values)),
            "gradient": float(np.linalg.norm(np.array(g) - gradient) / np.linalg.norm(gradient)),
        }
        for name, (v, g) in theirs["answers"].items()
    }
    return summary(seconds, errors)


def summary(seconds: dict, errors: dict) -> dict:
    """Ratios and shares of the best and of the median times."""
    flop = 2.0 * np.prod(MATRIX)
    results = {"errors": errors, "operations": operations()}
    for kind, choose in {"best": min, "median": np.median}.items():
        s = {name: float(choose(times)) for name, times in seconds.items()}
        rate = {n: flop / t for n, t in s.items() if n.startswith("product")}
        top = max(rate.values())
        results[kind] = {
            "seconds_per_walker_step": {n: t for n, t in s.items() if n not in rate},
            "matrix_rate": rate,
            "times_faster": {
                n: t / s["ours"] for n, t in s.items() if n != "ours" and n not in rate
            },
            "share_of_matrix_rate": {n: f / s["ours"] / top for n, f in operations().items()},
        }
    return results


def main(options: Options) -> None:
    """Measure, check that all compute the same, print and write."""
    if options.worker:
        serve(options)
        return
    os.environ["XLA_FLAGS"] = (
        f"--xla_cpu_multi_thread_eigen=false --xla_force_host_platform_device_count={CORES}"
    )
    results = measure(options)
    for name, error in results["errors"].items():
        print(
            f"{name} against ours: values {error['values']:.1e}, gradient {error['gradient']:.1e}"
        )
        if max(error.values()) > 1e-4:
            sys.exit(f"{name} computes something else than ours: {error}.")
    for kind in ("best", "median"):
        print(kind, json.dumps(results[kind], indent=1))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(options.out, {"provenance": about("pass_rate", 0), "results": results})


if __name__ == "__main__":
    command(main, Options, __doc__)
