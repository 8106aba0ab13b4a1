"""The landscape step on a GPU: walker-steps/s against walkers and precision, PyTorch beside it.

    python experiments/benchmarks/gpu_throughput.py [--scale quick | paper] [--out FOLDER]

1. What the card reaches: a large matrix product in each precision, a copy.
2. The step of umbrella windows of x + y mod 67 and mod 13 against the number of walkers, all in one
   tile, and the forward and backward pass alone.
3. The same pass in PyTorch, eager and compiled, one walker and many (vmap).
4. By how much u and the direction of its gradient are off in each precision, at several u, against
   float64.

Everything is timed in one process, the best of several rounds. Leaves gpu_throughput.json and .md.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

import glassgrok as gg
from glassgrok import system as systems
from glassgrok.engine import flat as flats
from glassgrok.engine import restrained
from glassgrok.engine.folder import write_json
from glassgrok.engine.restrained import Restraint
from glassgrok.engine.walkers import Walkers
from glassgrok.experiment import about, command

# The name that JAX knows each by; "float32" is what the engine uses on a CPU.
PRECISIONS = {"float32": "highest", "3 x TF32": "TF32_TF32_F32_X3", "TF32": "TF32_TF32_F32"}
P13 = dict(d_model=32, heads=4, d_head=8, d_mlp=64)
TINY = dict(d_model=8, heads=2, d_head=4, d_mlp=16)
# name -> modulus, widths, steps of a block, walkers of each row
SIZES = {
    "quick": {"p7": (7, TINY, 5, (1, 4))},
    "paper": {
        "p67": (67, {}, 10, (1, 16, 128)),
        "p13": (13, P13, 50, (64, 1024, 16384)),
    },
}
MATRIX = {"quick": 128, "paper": 8192}
LEVELS = {"quick": (-0.5,), "paper": (-2.0, -8.0, -15.0)}
TORCH = {"quick": (1, 2), "paper": (1, 64)}
COTANGENTS = (1.0, -3.0)


@dataclass(frozen=True)
class Options:
    """What to time.

    Attributes:
        scale: quick for a test, paper for a GPU.
        rounds: timings of each; the best counts.
        torch: whether PyTorch is timed too.
        out: folder for the numbers.
    """

    scale: Literal["quick", "paper"] = "paper"
    rounds: int = 5
    torch: bool = True
    out: Path = Path("figures/benchmarks")


def best(run: Callable, rounds: int) -> float:
    """Seconds of the fastest of several calls, after one that compiles."""
    run()
    found = []
    for _ in range(rounds):
        began = time.perf_counter()
        run()
        found.append(time.perf_counter() - began)
    return min(found)


def known() -> dict[str, str]:
    """The precisions that the device has; TF32 is a GPU's."""
    return PRECISIONS if jax.default_backend() == "gpu" else {"float32": "highest"}


def ceilings(options: Options) -> dict:
    """FLOP/s of a product of random matrices in each precision, bytes/s of a copy."""
    n = MATRIX[options.scale]
    a, b = jax.random.normal(jax.random.key(0), (2, n, n))
    found = {}
    for name, precision in known().items():
        product = jax.jit(lambda a, b, precision=precision: jnp.matmul(a, b, precision=precision))
        found[name] = 2 * n**3 / best(lambda p=product: p(a, b).block_until_ready(), options.rounds)
    long = jnp.arange(4 * n * n, dtype=jnp.float32)
    copied = jax.jit(lambda a: a + 1)
    seconds = best(lambda: copied(long).block_until_ready(), options.rounds)
    return {"flop_per_second": found, "bytes_per_second": 2 * long.nbytes / seconds}


def flat_system(modulus: int, widths: dict, precision: str):
    """The flat system whose products have some precision."""
    task, model = gg.modular("x+y", modulus, 0.5), gg.Transformer(modulus + 1, **widths)
    systems.exact_products = jax.default_matmul_precision(precision)
    grid = gg.Grid(gg.Axis("ln_loss", -8, 2, 40), gg.Axis("test_accuracy", 0, 1, 20))
    return flats.flatten(gg.network(model, task), grid, jax.random.key(0))


def step_row(flat, steps: int, walkers: int, rounds: int) -> dict:
    """Walker-steps/s of blocks of a window run, and of passes alone, all walkers in one tile."""
    keys = jax.random.split(jax.random.key(1), (1, walkers))
    size = (1, walkers, flat.size)
    position = 0.01 * jax.random.normal(jax.random.key(2), size)
    shape = (1, walkers)
    restraint = Restraint(
        jnp.zeros((*shape, 2)), jnp.ones((*shape, 2)), jnp.full(shape, 1e-6, jnp.float32)
    )
    config = gg.UmbrellaConfig(block=steps, omega_dt=0.3)
    stretch = restrained.stretch(flat, steps, config.friction, config.every)
    run = jax.jit(stretch, donate_argnums=0)
    held = [Walkers(position, jnp.zeros(size), jax.random.key_data(keys))]

    def block():
        held[0], values = run(held[0], restraint, np.int32(0))
        jax.block_until_ready(values)

    def gradient(x):
        values, pull, _ = jax.vjp(flat.observe, x, has_aux=True)
        return pull(jnp.ones_like(values))[0]

    def again(_, x):
        return x - 1e-9 * jax.vmap(gradient)(x)

    passes = jax.jit(lambda x: jax.lax.fori_loop(0, steps, again, x))
    began = time.perf_counter()
    whole = best(block, rounds)
    alone = best(lambda: passes(held[0].position[0]).block_until_ready(), rounds)
    spent = time.perf_counter() - began - (whole + alone) * rounds
    return {
        "walkers": walkers,
        "parameters": flat.size,
        "walker_steps_per_second": walkers * steps / whole,
        "passes_per_second": walkers * steps / alone,
        # A block has two more passes than steps, half kicks at both ends.
        "not_the_pass": 1 - alone * (steps + 2) / steps / whole,
        "compile_seconds": spent,
    }


def trained_points(levels: tuple, scale: str) -> dict[float, dict]:
    """Parameters where AdamW without decay first gets to some u."""
    modulus, widths, *_ = next(iter(SIZES[scale].values()))
    task, model = gg.modular("x+y", modulus, 0.5), gg.Transformer(modulus + 1, **widths)
    systems.exact_products = jax.default_matmul_precision("highest")
    system, adam = gg.network(model, task), optax.adam(1e-3)

    @jax.jit
    def some(params, state):
        def body(carry, _):
            params, state = carry
            u, gradient = jax.value_and_grad(lambda p: system.observe(p)[0])(params)
            gradient = jax.tree.map(lambda g: g * jnp.exp(u), gradient)
            with jax.numpy_dtype_promotion("standard"):
                updates, state = adam.update(gradient, state, params)
            return (optax.apply_updates(params, updates), state), u

        (params, state), u = jax.lax.scan(body, (params, state), length=10)
        return params, state, u[-1]

    params = system.init(jax.random.key(3))
    state, found = adam.init(params), {}
    for _ in range(3000):
        params, state, u = some(params, state)
        for level in levels:
            if u < level and level not in found:
                found[level] = params
        if len(found) == len(levels):
            break
    return found


def precision_table(options: Options) -> list[dict]:
    """Errors of u and of the direction of its gradient, against float64."""
    modulus, widths, *_ = next(iter(SIZES[options.scale].values()))
    points, rows = trained_points(LEVELS[options.scale], options.scale), []

    def at(params, precision):
        task, model = gg.modular("x+y", modulus, 0.5), gg.Transformer(modulus + 1, **widths)
        systems.exact_products = jax.default_matmul_precision(precision)
        observe = gg.network(model, task).observe
        with jax.numpy_dtype_promotion("standard"):
            u, gradient = jax.jit(jax.value_and_grad(lambda p: observe(p)[0]))(params)
        return float(u), np.concatenate([np.ravel(g) for g in jax.tree.leaves(gradient)])

    for params in points.values():
        with jax.enable_x64(True):
            wide = jax.tree.map(lambda a: jnp.asarray(np.asarray(a, np.float64)), params)
            u, exact = at(wide, "highest")
        for name, precision in known().items():
            there, gradient = at(params, precision)
            gradient = gradient.astype(np.float64)
            length, right = np.linalg.norm(gradient), np.linalg.norm(exact)
            apart = np.linalg.norm(gradient / length - exact / right)
            rows.append(
                {
                    "u": u,
                    "precision": name,
                    "u_error": there - u,
                    "length_error": float(length / right - 1),
                    "angle": float(2 * np.arcsin(apart / 2)),
                }
            )
    return rows


def torch_rows(options: Options) -> list[dict]:
    """Passes/s of PyTorch in full float32: plain, compiled, and many walkers with vmap."""
    import torch
    import torch_step
    from torch.func import functional_call, grad, vmap
    from torch.nn import functional as F

    modulus, widths, *_ = next(iter(SIZES[options.scale].values()))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    task = gg.modular("x+y", modulus, 0.5)
    torch.manual_seed(0)
    model = torch_step.Transformer(modulus + 1, **widths).to(device)
    tokens, labels = (torch.tensor(a, device=device).long() for a in (task.inputs, task.labels))
    train, test = (torch.tensor(np.flatnonzero(a), device=device) for a in (task.train, task.test))

    def energy(parameters):
        logits = functional_call(model, parameters, (tokens,))
        u = F.cross_entropy(logits[train], labels[train]).log()
        own = logits.gather(1, labels[:, None])
        wrong = logits.scatter(1, labels[:, None], -1e30).amax(dim=1, keepdim=True)
        a = torch.sigmoid(7.0 * (own - wrong)[test]).mean()
        return COTANGENTS[0] * u + COTANGENTS[1] * a

    def wait(found):
        if device == "cuda":
            torch.cuda.synchronize()
        return found

    rows = []
    for walkers in TORCH[options.scale]:
        parameters = {n: torch.stack([p.detach()] * walkers) for n, p in model.named_parameters()}
        plain = vmap(grad(energy))
        for name, run in (("eager", plain), ("compiled", torch.compile(plain))):
            try:
                seconds = best(lambda run=run, q=parameters: wait(run(q)), options.rounds)
            except Exception as error:  # no compiler, for one
                print(f"PyTorch, {name}: {str(error).strip()[:300]}")
                continue
            rows.append({"how": name, "walkers": walkers, "passes_per_second": walkers / seconds})
    return rows


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def told(results: dict) -> str:
    """The numbers as a page."""
    tops = results["ceilings"]
    text = ["# The landscape step on a GPU\n", f"{', '.join(results['devices'])}\n"]
    rates = [f"{name} {rate / 1e12:.1f}" for name, rate in tops["flop_per_second"].items()]
    text.append(
        f"Product of large matrices, TFLOP/s: {', '.join(rates)}. Copy: "
        f"{tops['bytes_per_second'] / 1e12:.2f} TB/s.\n"
    )
    text.append(
        table(
            ["model", "precision", "walkers", "walker-steps/s", "passes/s", "not the pass"],
            [
                [
                    row["name"],
                    row["precision"],
                    f"{row['walkers']:,}",
                    f"{row['walker_steps_per_second']:,.0f}",
                    f"{row['passes_per_second']:,.0f}",
                    f"{row['not_the_pass']:.0%}",
                ]
                for row in results["steps"]
            ],
        )
    )
    if results["torch"]:
        text.append(
            table(
                ["PyTorch", "walkers", "passes/s"],
                [
                    [row["how"], f"{row['walkers']}", f"{row['passes_per_second']:,.0f}"]
                    for row in results["torch"]
                ],
            )
        )
    text.append(
        table(
            ["u", "precision", "error of u", "of |grad u|", "angle to grad u (rad)"],
            [
                [
                    f"{row['u']:.2f}",
                    row["precision"],
                    f"{row['u_error']:.1e}",
                    f"{row['length_error']:.1e}",
                    f"{row['angle']:.1e}",
                ]
                for row in results["precision"]
            ],
        )
    )
    return "\n".join(text)


def main(options: Options) -> None:
    """Time everything; write after each part, so that a run that is cut off leaves what it has."""
    results = {"ceilings": ceilings(options), "steps": [], "torch": [], "precision": []}
    results["devices"] = [f"{d.platform} {d.device_kind}" for d in jax.local_devices()]
    options.out.mkdir(parents=True, exist_ok=True)

    def write():
        made = {"provenance": about("gpu_throughput", 0), "results": results}
        write_json(options.out / "gpu_throughput.json", made)
        (options.out / "gpu_throughput.md").write_text(told(results))

    results["precision"] = precision_table(options)
    write()
    for name, (modulus, widths, steps, counts) in SIZES[options.scale].items():
        for precision, named in known().items():
            flat = flat_system(modulus, widths, named)
            for walkers in counts:
                row = step_row(flat, steps, walkers, options.rounds)
                results["steps"].append({"name": name, "precision": precision} | row)
                print(name, precision, json.dumps(row), flush=True)
                write()
    if options.torch:
        results["torch"] = torch_rows(options)
        write()
    print(told(results))


if __name__ == "__main__":
    command(main, Options, __doc__)
