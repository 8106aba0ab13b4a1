"""Figures 11 and 12 of Hutchison and Yevick (2025): gradients of single examples, and their PCA.

    python experiments/ising/figure11_gradients.py [--scale quick | cpu | paper]

Needs the networks that figure5_networks.py leaves. The gradient of one example with respect to a
weight matrix is an outer product h δ, so that the scalar products of all gradients are products of
those of h and of δ, and their principal components follow without the gradients themselves.
"""

import time

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from figure5_networks import load_snapshots
from ising_common import Options, lattices_of, net_of, rounded
from ising_nets import each_loss, layers

from glassgrok.experiment import about, command, table, write

EXAMPLES = {"quick": 40, "cpu": 1000, "paper": 4000}
SHARE = 0.9  # of the variance
EVERY = {"quick": 1, "cpu": 2, "paper": 1}  # snapshots, which are 500 epochs apart
WINDOW = 5  # consecutive epochs that are averaged
SHOWN = 0.16  # of all epochs: 4,000 of 25,000, where Figure 11 is
DOTS = 600


def factors(net, params: list, inputs, labels) -> list[tuple]:
    """Of each matrix h (n, in) and δ (n, out): the gradient of example i is h_i δ_i."""
    count = len(labels)
    shifts = [jnp.zeros((count, w.shape[1])) for w in params]

    def loss(shifts):
        # A shift of what goes into a layer has the gradient δ.
        now = inputs
        for k, (weights, shift) in enumerate(zip(params, shifts, strict=True)):
            now = now @ weights + shift
            if k < len(params) - 1:
                now = jax.nn.relu(now) if net.activation == "relu" else jnp.tanh(now)
        return each_loss(net, now, labels).sum()

    before = [inputs, *layers(net, params, inputs)[:-1]]
    return list(zip(before, jax.grad(loss)(shifts), strict=True))


def products(before, delta):
    """(n, n) scalar products of the centred gradients."""
    both = (before @ before.T) * (delta @ delta.T)
    both = both - both.mean(0) - both.mean(1)[:, None] + both.mean()
    return (both + both.T) / 2


def components(values: np.ndarray, share: float = SHARE) -> int:
    """How many of the largest eigenvalues make up a share of their sum; 0 where all vanish."""
    values = np.sort(np.clip(values, 0, None))[::-1]
    if values.sum() <= 0:
        return 0
    return int(np.searchsorted(np.cumsum(values), share * values.sum()) + 1)


def averaged(counts: np.ndarray) -> np.ndarray:
    """Running mean over `WINDOW` consecutive epochs along the first axis."""
    kernel = np.ones(min(WINDOW, len(counts)))
    return np.stack(
        [np.convolve(c, kernel, "same") / np.convolve(np.ones_like(c), kernel, "same")
         for c in np.asarray(counts, float).T], axis=1
    )  # fmt: skip


def main(options: Options) -> None:
    """Reduce the gradients at all epochs, draw and write."""
    began, net = time.perf_counter(), net_of(options.scale)
    epochs, snapshots = load_snapshots(options)
    rng, sets = np.random.default_rng(0), {}
    for name in ("train", "random"):
        known = lattices_of(options.scale)[name]
        chosen = rng.permutation(len(known.labels))[: EXAMPLES[options.scale]]
        sets[name] = jnp.asarray(known.inputs[chosen]), jnp.asarray(known.labels[chosen])

    @jax.jit
    def gram(params, inputs, labels):
        return [products(*pair) for pair in factors(net, params, inputs, labels)]

    counts = {name: [] for name in sets}
    shown = int(np.argmin(np.abs(epochs - SHOWN * epochs[-1])))
    every = range(0, len(snapshots), EVERY[options.scale])
    for i in every:
        params = snapshots[i]
        for name, (inputs, labels) in sets.items():
            found = [np.asarray(g) for g in gram(params, inputs, labels)]
            counts[name].append([components(np.linalg.eigvalsh(g)) for g in found])
            if i == shown and name == "random":
                dots = [_plane(g) for g in found]
                right = np.asarray(jnp.argmax(layers(net, params, inputs)[-1], -1) == labels)
        print(f"epoch {epochs[i]:,}: {counts['random'][-1]} of the test set", flush=True)
    epoch, epochs = int(epochs[shown]), epochs[list(every)]
    results = {
        "provenance": about("figure11", 0),
        "seconds": round(time.perf_counter() - began, 1),
        "epoch": epochs.tolist(),
        "examples": EXAMPLES[options.scale],
        "components": counts,
        "averaged": {name: rounded(averaged(c).T) for name, c in counts.items()},
    }
    page = draw(epochs, counts, dots, right, epoch)
    write(options.out, "figure11", options.scale, results, page, text_of(results))
    plt.close(page)


def _plane(gram: np.ndarray) -> np.ndarray:
    """(n, 2) the projections on the two largest components."""
    values, vectors = np.linalg.eigh(gram)
    return vectors[:, -2:][:, ::-1] * np.sqrt(np.clip(values[-2:][::-1], 0, None))


def peak(results: dict, name: str) -> tuple[int, float, float]:
    """Epoch and height of the most components on average over matrices, and what is at the end."""
    mean = np.mean(results["averaged"][name], axis=0)
    best = int(np.argmax(mean))
    return results["epoch"][best], float(mean[best]), float(mean[-1])


def text_of(results: dict) -> str:
    """Components at some epochs."""
    epoch = np.array(results["epoch"])
    rows = []
    for share in (0.02, 0.16, 0.4, 0.5, 0.6, 0.68, 1.0):
        i = int(np.argmin(np.abs(epoch - share * epoch[-1])))
        told = [
            " ".join(f"{c[i]:.0f}" for c in results["averaged"][n]) for n in ("train", "random")
        ]
        rows.append([f"{epoch[i]:,}", *told])
    peaks = {name: peak(results, name) for name in ("train", "random")}
    told = "; ".join(
        f"{name}: most at epoch {e:,} ({m:.0f}), {z:.0f} at the end" for name, (e, m, z) in
        peaks.items()
    )  # fmt: skip
    return (
        "# Components of the gradients of single examples\n\nHow many principal components make "
        f"{SHARE:.0%} of the variance of the gradients of {results['examples']} examples, for each "
        f"weight matrix from the first to the last, mean over {WINDOW} epochs that follow each "
        f"other. Mean over the matrices, {told}.\n\n"
        + table(["epoch", "train set", "random test set"], rows)
    )


def draw(epochs, counts: dict, dots: list, right: np.ndarray, epoch: int):
    """Gradients of the test examples in a plane above, numbers of components below."""
    page = plt.figure(figsize=(14, 8), layout="constrained")
    above, below = page.subfigures(2, 1)
    for k, (place, points) in enumerate(zip(above.subplots(1, len(dots)), dots, strict=True)):
        for of, colour, label in ((right, "#0072B2", "right"), (~right, "#D55E00", "wrong")):
            cut = points[of][:DOTS]
            place.scatter(*cut.T, s=3, color=colour, alpha=0.6, label=label)
        place.set_title(f"matrix {k + 1}", fontsize=10)
        place.set(xticks=[], yticks=[], xlabel="component 1")
    above.axes[0].set_ylabel("component 2")
    above.axes[-1].legend(frameon=False, fontsize=8, markerscale=3)
    above.suptitle(f"gradients of test examples at epoch {epoch:,}", fontsize=11)
    titles = {"train": "train set", "random": "random test set"}
    for place, (name, values) in zip(below.subplots(1, 2), counts.items(), strict=True):
        for k, curve in enumerate(averaged(values).T):
            place.plot(epochs, curve, label=f"matrix {k + 1}")
        place.set(xlabel="epoch", ylabel=f"components for {SHARE:.0%}", title=titles[name])
        place.legend(frameon=False, fontsize=8)
    return page


if __name__ == "__main__":
    command(main, Options, __doc__)
