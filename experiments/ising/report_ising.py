"""README.md of a folder of results: each claim of Hutchison and Yevick (2025) and what was found.

    python experiments/ising/report_ising.py [--out FOLDER]

Reads the JSON files that the other scripts of this folder left; a claim without its file is not
decided.
"""

from itertools import pairwise

import numpy as np
from figure1_lattices import TABLE_2
from figure9_dropout import gap
from figure16_confidence import DEEP
from ising_common import late, plateau

from glassgrok.claims import OPEN, Claim, Paper, command, there, verdict
from glassgrok.experiment import spread

PICTURES = {
    "figure1": "Lattices, their energies, and the density of states (Figure 1, Tables 1 and 2)",
    "figure5": "The default network (Figures 5 to 8)",
    "figure2": "Scale of the first weights (Figure 2)",
    "figure3": "Weight decay (Figure 3)",
    "figure4": "Inverse temperature (Figure 4)",
    "sizes": "Depth and width",
    "variants": "What the paper leaves open",
    "figure9": "Dropout (Figures 9 and 10)",
    "figure11": "Gradients of single examples (Figures 11 and 12)",
    "figure13": "Hidden activations (Figures 13 to 15) and confusion",
    "figure16": "Mean of P_max - P_second (Figures 16 and 17)",
    "figure18": "Is the sparse network of low entropy?",
}


def _table_2(found):
    counts = np.array(found["inversions"]["counts"])
    mean, sd = counts.mean(0), counts.std(0, ddof=1)
    if counts[0].sum() != sum(TABLE_2):
        return "lattices of another size", OPEN
    off = (np.array(TABLE_2) - mean) / sd
    told = ", ".join(f"{m:.0f} ± {s:.0f}" for m, s in zip(mean, sd, strict=True))
    return f"{told}; the paper is {np.abs(off).max():.1f} deviations off at most", verdict(
        bool(np.all(np.abs(off) < 3))
    )


def _moved(flips: str, share: float):
    def judge(found):
        kept = np.array(found["inversions"][f"kept_{flips}"])
        return f"{kept.mean():.3f} ± {kept.std(ddof=1):.3f} keep it", verdict(
            abs(kept.mean() - share) < 0.02
        )

    return judge


def _density(found):
    density = found["density"]
    finals = [run["final"] for run in density["runs"]]
    told = f"RMS {spread(finals)} nats after {density['flips']:,} flips"
    return told, verdict(np.median(finals) < 0.04)


def _default(name: str, wanted: float):
    def judge(found):
        runs = there([r for r in found["runs"] if r["run"]["decay"] > 0])
        values = [late(r, f"{name}_accuracy") for r in runs]
        return f"{spread(values)} in {len(values)} networks", verdict(
            abs(np.median(values) - wanted) <= 0.03
        )

    return judge


def _bare(found):
    runs = [r for r in found["runs"] if r["run"]["decay"] == 0]
    if not runs:
        return "no such run", OPEN
    ends = {name: [late(r, f"{name}_accuracy") for r in runs] for name in ("random", "inverted")}
    right = abs(np.median(ends["random"]) - 0.55) < 0.03
    right &= abs(np.median(ends["inverted"]) - 0.46) < 0.03
    told = f"{spread(ends['random'])} and {spread(ends['inverted'])}, {len(runs)} networks"
    return told, verdict(bool(right))


def _delay(found):
    runs = there([r for r in found["runs"] if r["run"]["decay"] > 0])
    told = [r["generalised"]["random"] for r in runs]
    early = spread([r["memorised"] for r in runs])
    return f"memorised at epoch {early}, 75 % of the random test set at {spread(told)}", verdict(
        all(t is not None and t > 3 * r["memorised"] for t, r in zip(told, runs, strict=True))
    )


def _sparse(found):
    runs = there([r for r in found["runs"] if r["run"]["decay"] > 0])
    small = [[np.mean([m[i] for m in r["layers"]["small"][1:-1]]) for i in (0, -1)] for r in runs]
    before, after = np.median(small, axis=0)
    told = f"share below 0.01: {before:.2f} at first, {after:.2f} in the end"
    return told, verdict(bool(after > 0.3))


def _inactive(found):
    ends = [layer[-1] for layer in found["strong"]]
    told = ", ".join(f"{end:.2f}" for end in ends)
    told = f"neurons above 5 % of the most active one, first to last hidden layer: {told}"
    return told, verdict(min(ends) < 0.75)


def _ordered(labels: tuple[str, ...], falling: bool):
    """Grokking delay along the values of a sweep; those that never generalise come last."""

    def judge(found):
        told, order = [], []
        for label in labels:
            own = [r for r in found["runs"] if r["label"] == label]
            if not own:
                continue
            gaps = [gap(r) for r in own]
            told.append(f"{label}: {spread(gaps)}")
            order.append(np.median([np.inf if g is None else g for g in gaps]))
        if len(order) < 2 or np.isinf(order).all():
            return "too few that generalise", OPEN
        right = all(a >= b if falling else a <= b for a, b in pairwise(order))
        return "gap " + "; ".join(told), verdict(right)

    return judge


def _no_grokking(found):
    own = there([r for r in found["runs"] if r["label"] == "c = 1"])
    at = [(r["memorised"], r["generalised"]["random"], plateau(r, "random_accuracy")) for r in own]
    told = f"memorised {spread([m for m, _, _ in at])}, generalised {spread([g for _, g, _ in at])}"
    early = all(g is not None and g <= max(m or 0, 1) * 1.5 for m, g, _ in at)
    return told, verdict(early)


def _likewise(label: str):
    def judge(found):
        own = [r for r in found["runs"] if r["label"] == label]
        gaps, ends = [gap(r) for r in own], [late(r, "random_accuracy") for r in own]
        told = f"gap {spread(gaps)} epochs, random test accuracy {spread(ends)} in the end"
        if not own:
            return "no such run", OPEN
        return told, verdict(all(g is not None and g > 1000 for g in gaps))

    return judge


def _optimizer(found):
    ends = {
        label: spread([late(r, "random_accuracy") for r in found["runs"] if r["label"] == label])
        for label in ("as the paper", "AdamW", "AdamW, decay 0.3")
    }
    return "; ".join(f"{label}: {end}" for label, end in ends.items()), OPEN


def _dropout(found):
    gaps = {}
    for record in found["runs"]:
        gaps.setdefault(record["run"]["drop"], []).append(gap(record))
    told = "; ".join(f"p = {p:g}: {spread(g)}" for p, g in sorted(gaps.items()))
    free = [g for g in gaps[0.0] if g is not None]
    with_it = [g for g in gaps[0.04] if g is not None]
    right = with_it and (not free or np.median(with_it) < 0.5 * np.median(free))
    return f"gap between memorising and generalising: {told}", verdict(bool(right))


def _above(found):
    told, right = [], True
    for p in sorted({r["run"]["drop"] for r in there(found["runs"])}):
        own = [r for r in found["runs"] if r["run"]["drop"] == p]
        lead = []
        for r in own:
            train, test = (np.array(r["curves"][f"{n}_accuracy"]) for n in ("train", "random"))
            lead.append(float((train - test).max()))
        told.append(f"p = {p:g}: {np.median(lead):.2f}")
        right &= p < 0.055 or bool(np.median(lead) < 0.25)
    return "largest lead of train over test accuracy, " + "; ".join(told), verdict(right)


def _components(found):
    epoch, last = np.array(found["epoch"]), found["epoch"][-1]
    told, means = [], {}
    for name in ("train", "random"):
        mean = means[name] = np.mean(found["averaged"][name], axis=0)
        at = [int(np.argmin(np.abs(epoch - share * last))) for share in (0.0, 0.16, 0.32, 1.0)]
        told.append(f"{name} " + ", ".join(f"{mean[i]:.0f}" for i in at))
    # The paper says it of the train set: from the plateau up to a peak, then down.
    train, early = means["train"], int(np.argmin(np.abs(epoch - 0.16 * last)))
    best = early + int(np.argmax(train[early:]))
    when = ", ".join(f"{epoch[i]:,}" for i in at)
    told = f"mean over matrices at epochs {when}: " + "; ".join(told)
    told += f"; train peaks at {epoch[best]:,} ({train[best]:.0f})"
    rises = train[best] > 1.1 * train[early] and epoch[best] > 0.25 * last
    return told, verdict(bool(rises and train[-1] < 0.7 * train[best]))


def _clusters(found):
    epoch = np.array(found["epoch"])
    told, values = [], []
    for share in (0.2, 0.4, 0.68, 1.0):
        i = int(np.argmin(np.abs(epoch - share * epoch[-1])))
        values.append(found["between"]["random"][-1][i])
        told.append(f"{values[-1]:.2f} at {epoch[i]:,}")
    told = "variance between classes over all, last hidden layer, test set: " + ", ".join(told)
    return told, verdict(values[-1] > 2 * values[0])


def _by_one(found):
    one = found["confusion"]["random"][-1]
    return f"{one['by_one']:.3f} of the errors are by one class", verdict(one["by_one"] > 0.9)


def _two(found):
    early, end = found["confusion"]["inverted 2"]
    told = f"{early['accuracy']:.3f} at epoch {early['epoch']:,}, {end['accuracy']:.3f} at the end"
    right = abs(early["accuracy"] - 0.55) < 0.03 and abs(end["accuracy"] - 0.85) < 0.03
    return told, verdict(bool(right))


def _even(found):
    early, plain = (found["confusion"][name][0] for name in ("inverted 2", "random"))
    told = f"n = 2, epoch {early['epoch']:,}: higher {early['higher']:.3f}, lower "
    told += f"{early['lower']:.3f}; random test set: {plain['higher']:.3f}, {plain['lower']:.3f}"
    return told, verdict(2 / 3 < early["higher"] / early["lower"] < 3 / 2)


def _similar(found):
    told, excess = [], []
    for name, flips in (("inverted 2", 2), ("inverted", 5)):
        early = found["confusion"][name][0]
        # Of both shares, which come from about as many lattices.
        error = (2 * early["old"] * (1 - early["old"]) / early["left"]) ** 0.5
        told.append(
            f"n = {flips}: {early['old']:.3f}, control {early['control']:.3f} ± {error:.3f}"
        )
        excess.append((early["old"] - early["control"]) / error)
    text = f"taken for their old class at epoch {early['epoch']:,}, and lattices that never "
    return text + "trained, inverted likewise; " + "; ".join(told), verdict(max(excess) < 3)


def _dips(found):
    own = found["dips"]["default"]
    told = f"depth {spread([d['depth'] for d in own])} at epoch {spread([d['epoch'] for d in own])}"
    return told, verdict(all(d["depth"] > DEEP for d in own))


def _everywhere(found):
    grokked, dipped = 0, 0
    for dips in found["dips"].values():
        for d in dips:
            if d["memorised"] is None or d["generalised"] is None:
                continue
            if d["generalised"] > 1.5 * d["memorised"]:
                grokked += 1
                dipped += d["depth"] > DEEP
    return f"{dipped} of {grokked} networks that grok have it", verdict(dipped == grokked > 0)


def _hotter(found):
    known = {k: [d["epoch"] for d in v] for k, v in found["dips"].items() if k.startswith("β")}
    told = "; ".join(f"{k}: {spread(v)}" for k, v in known.items())
    ends = [np.median([e for e in v if e is not None]) for v in known.values() if any(v)]
    if len(ends) < 2:
        return told or "no runs", OPEN
    return f"epoch of the dip, {told}", verdict(bool(np.all(np.diff(ends) > 0)))


def _vanishes(found):
    known = {k: [d["depth"] for d in v] for k, v in found["dips"].items() if k.startswith("c =")}
    told = "depth " + "; ".join(f"{k}: {spread(v)}" for k, v in known.items())
    return told, verdict(np.median(known["c = 1"]) < DEEP < np.median(known["c = 7"]))


def _entropy(found):
    told = found["landscapes"]["sparsity"]
    if not told["decay_over_none"]:
        return "not both were sampled", OPEN
    lowest = told["decay_over_none"][0]
    most = "at most " * lowest["bound"]
    text = (
        f"at u = {lowest['u']:.2f} S at the sparsity of networks with decay, less that at "
        f"{lowest['of'][1]:.2f} of those without: {most}{lowest['difference']:+.1f} ± "
        f"{lowest['error']:.1f} nats"
    )
    if lowest["bound"]:
        text += f", as at {lowest['of'][0]:.2f}, the nearest sampled"
    if not told["converged"]:
        return text + "; not converged", OPEN
    return text, verdict(lowest["difference"] < -3 * lowest["error"])


def _advantage(found):
    told = found["landscapes"]["A"]
    row, trained = told["rows"][0], told["trained"]
    text = (
        f"at u = {row['u']:.2f} A = {row['mean']:.3f} ± {row['error']:.3f} in equilibrium; trained "
        f"without decay {trained['0']:.3f}, with it {trained['0.005']:.3f}"
    )
    if not told["converged"]:
        return text + "; not converged", OPEN
    return text, verdict(row["mean"] > trained["0"])


CLAIMS = (
    Claim("Table 2: 40, 1214, 1409, 1337 lattices a class after 5 inversions", ("figure1",),
          _table_2),
    Claim("52 % change their class after 5 inversions", ("figure1",), _moved("5", 0.48)),
    Claim("80 % keep it after 2", ("figure1",), _moved("2", 0.80)),
    Claim("Wang-Landau finds ln g(E) of the lattice (our question)", ("figure1",), _density),
    Claim("the default network memorises early and generalises late", ("figure5",), _delay),
    Claim("random test set: 0.83 in the end", ("figure5",), _default("random", 0.83)),
    Claim("5 spins inverted: 0.79", ("figure5",), _default("inverted", 0.79)),
    Claim("without decay 0.55 and 0.46, for ever", ("figure5",), _bare),
    Claim("many weights between hidden layers approach zero", ("figure5",), _sparse, late=True),
    Claim("a substantial fraction of the neurons becomes inactive", ("figure13",),
          _inactive, late=True),
    Claim("the delay grows with c", ("figure2",),
          _ordered(("c = 4", "c = 7", "c = 10"), False)),
    Claim("no grokking from PyTorch's own first weights, c = 1", ("figure2",), _no_grokking),
    Claim("the delay falls with weight decay", ("figure3",),
          _ordered(("decay 0", "decay 0.00025", "decay 0.0005", "decay 0.001"),
                   True)),
    Claim("a hotter softmax, lower β, shortens it", ("figure4",),
          _ordered(("β = 0.3", "β = 1", "β = 3"), False)),
    Claim("it grows with depth", ("sizes",),
          _ordered(("2 layers of 48", "3 layers of 48", "4 layers of 48", "5 layers of 48"),
                   False)),
    Claim("it grows with width", ("sizes",),
          _ordered(("4 layers of 24", "4 layers of 48", "4 layers of 96"), False)),
    Claim("the same with MSE", ("variants",), _likewise("MSE")),
    Claim("the same with tanh", ("variants",), _likewise("tanh")),
    Claim("which optimizer: Adam with L2, or AdamW (not told)", ("variants",), _optimizer),
    Claim("dropout of 0.04 is enough to take the delay away", ("figure9",), _dropout),
    Claim("above 0.05 train and test accuracy rise together", ("figure9",), _above),
    Claim("gradients of the train set need most components during grokking", ("figure11",),
          _components, late=True),
    Claim("classes become clusters of activations", ("figure13",), _clusters),
    Claim("errors are by one class", ("figure13",), _by_one),
    Claim("2 spins inverted: 0.55 while it overfits, 0.85 in the end", ("figure13",), _two),
    Claim("while it overfits errors go up and down alike", ("figure13",), _even, late=True),
    Claim("while it overfits it does not take an inverted lattice for what it was", ("figure13",),
          _similar),
    Claim("P_max - P_second dips during grokking", ("figure16",), _dips),
    Claim("the dip is there wherever there is grokking", ("figure16",), _everywhere),
    Claim("it comes earlier in a hotter softmax", ("figure16",), _hotter),
    Claim("it vanishes with small c", ("figure16",), _vanishes),
    Claim("the sparse network is of low entropy", ("figure18",), _entropy),
    Claim("generalising networks are of high entropy (Zhang et al.)", ("figure18",), _advantage),
)  # fmt: skip
PAPER = Paper(
    "ising",
    "report_ising.py",
    "Grokking in the Ising model (Hutchison and Yevick 2025)",
    CLAIMS,
    PICTURES,
)


if __name__ == "__main__":
    command(PAPER, __doc__)
