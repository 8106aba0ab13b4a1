"""The claims of Liu et al. (2023) on toy addition."""

import numpy as np
from figure6_toy import WALL
from figure6_trajectory import NAME
from omnigrok import as_inverse, plus_minus, power
from scipy import stats
from toy_addition import MAIN, MAP
from toy_paths import LEARNED

from glassgrok.claims import AGREES, DIFFERS, OPEN, Claim, there, verdict

PICTURES = {
    MAP: "Toy addition over weight norm and messiness (Figure 6a, b, d, e)",
    NAME: "The reduced trajectory of toy addition (Figure 6c, f)",
}


def _map(found: dict, name: str, size: int = MAIN) -> np.ndarray:
    """(alpha, messiness)."""
    return np.array(found["maps"][str(size)][name])


def _is_l(found):
    rises = sorted(found["rises"], key=lambda rise: -rise[3])
    told = f"places of the map above {WALL} where it rises: {len(rises)}"
    if rises:
        m, low, high, by, error = rises[0]
        told += f", most from α = {low:.2g} to {high:.2g} at m = {m:g}: ln by "
        told += plus_minus(by, error)
    return told, verdict(not rises)


def _depends(found):
    train, test = (_map(found, f"{kind}_loss") for kind in ("train", "test"))
    m = found["maps"][str(MAIN)]["messiness"]
    column = int(np.argmin(np.abs(np.array(m) - 0.1)))
    beyond = train[:, column] < WALL
    if not beyond.any():
        return f"no norm has a train loss below {WALL} at m = {m[column]:g}", OPEN
    rises = [np.median(values[beyond, column] - values[beyond, 0]) for values in (train, test)]
    told = (
        f"right of the wall, from m = 0 to {m[column]:g}: the train loss rises by {rises[0]:.2g}, "
        f"the test loss by {rises[1]:.2g}"
    )
    return told, verdict(rises[1] > 20 * max(rises[0], 0))


def _critical_norm(found):
    wall = found["walls"][str(MAIN)]
    if len(wall["alpha"]) < 4:
        return "the wall crosses too few rows of the map", OPEN
    told = ", ".join(
        f"{a:.2f} at m = {m:g}" for a, m in zip(wall["alpha"], wall["messiness"], strict=True)
    )
    rank = stats.spearmanr(wall["messiness"], wall["alpha"])
    told = f"α at the wall: {told}; rank correlation {rank.statistic:.2f}"
    if rank.pvalue > 0.05:
        return told, OPEN
    return told, verdict(rank.statistic > 0)


def _leans(found):
    walls = {int(size): wall for size, wall in found["walls"].items()}
    slopes = sorted((n, wall["slope"]) for n, wall in walls.items())
    told = ", ".join(f"{n}: {'none' if s is None else f'{1 / s:.3f}'}" for n, s in slopes)
    told = f"tan θ by pairs that train: {told}"
    if 54 not in walls or any(walls[n]["slope"] is None for n in (MAIN, 54)):
        return told, OPEN
    more, fewer = ([s for s in walls[n]["slopes"] if s is not None] for n in (54, MAIN))
    if min(len(more), len(fewer)) > 1:
        p = stats.ttest_ind(more, fewer, equal_var=False).pvalue
        told += f"; of seeds, one over it differs with p = {p:.2g}"
        if p > 0.05:
            return told, OPEN
    return told, verdict(walls[54]["slope"] > walls[MAIN]["slope"] > 0)


def _connects(found):
    sizes = sorted(int(size) for size in found["maps"])
    lowest = {n: _map(found, "test_loss", n)[:, 0].min() for n in sizes}
    told = ", ".join(f"{n}: {v:.2g}" for n, v in lowest.items())
    told = f"lowest test loss at m = 0, by pairs that train: {told}"
    if not {25, 35, MAIN, 54} <= set(sizes):
        return told, OPEN
    return told, verdict(all((lowest[n] < LEARNED) == (n >= MAIN) for n in sizes))


def _scaled(found: dict, kind: str, way: str) -> list[float]:
    runs = sorted(
        (r["decay"], r["scaled"]) for r in found["runs"] if (r["kind"], r["way"]) == (kind, way)
    )
    return [np.nan if scaled is None else scaled for _, scaled in there(runs)]


def _time(kind: str, name: str):
    def judge(found):
        known = found["predicted"][kind]
        times = _scaled(found, kind, "Eq. 6 from C")
        told = [f"{level}: {k[name]:.2f}" for level, k in known.items() if name in k]
        if not told:
            return "no wall on this map", OPEN
        measured = ", ".join("never" if np.isnan(t) else f"{t:.2f}" for t in times)
        told = f"t η γ by the formula, by the train loss of the wall {'; '.join(told)}"
        told += f"; Eq. 6: {measured}"
        first = next(k[name] for k in known.values() if name in k)
        return told, verdict(all(abs(t / first - 1) < 0.25 for t in times))

    return judge


def _network(found):
    ratios = []
    known = {r["kind"] for r in there(found["runs"]) if r["way"] == "network from C"}
    kinds = there([k for k in found["predicted"] if k in known])
    for kind in kinds:
        pair = (_scaled(found, kind, way) for way in ("network from C", "Eq. 6 from C"))
        ratios += [net / path for net, path in zip(*pair, strict=True)]
    each = ", ".join("never" if np.isnan(r) else f"{r:.2f}" for r in ratios)
    told = f"time of the network over that of Eq. 6, {', then '.join(kinds)}: {each}"
    return told, verdict(all(0.8 < r < 1.25 for r in ratios))


def _law(way: str):
    def judge(found):
        told, laws = [], []
        for kind in found["predicted"]:
            runs = [r for r in found["runs"] if (r["kind"], r["way"]) == (kind, way)]
            if not runs:
                continue
            times = [[None if r["scaled"] is None else r["scaled"] / r["decay"]] for r in runs]
            law = power([r["decay"] for r in runs], times)
            told.append(f"{kind}: " + (_words(law) if law else "too few generalised"))
            laws.append(law)
        words = [as_inverse(law) for law in there(laws)]
        word = next((w for w in (DIFFERS, OPEN) if w in words), AGREES)
        return "; ".join(told), word

    return judge


def _words(law: dict) -> str:
    return f"k = {law['power']:.2f} ± {law['error']:.2f}"


def _descends(found):
    counts = {
        kind: [
            r["descents"]
            for r in found["runs"]
            if (r["kind"], r["way"]) == (kind, "Eq. 6 from A")
        ]
        for kind in found["predicted"]
    }  # fmt: skip
    there([count for each in counts.values() for count in each])
    told = "; ".join(f"{kind}: {', '.join(map(str, each))}" for kind, each in counts.items())
    several = any(count > 1 for each in counts.values() for count in each)
    return f"descents of the test loss by more than 10 %, from A: {told}", verdict(several)


def _free(found):
    runs = there([r for r in found["runs"] if r["kind"] == "AdamW"])
    good = sum(r["generalised"] is not None for r in runs)
    best = min(r["test_loss"][-1] for r in runs)
    return f"{good} of {len(runs)} runs; lowest test loss at the end {best:.2g}", verdict(good > 0)


CLAIMS = (
    Claim("toy addition: the reduced train loss is an L at each messiness", (MAP,), _is_l),
    Claim("there the test loss depends strongly on the messiness, the train loss weakly", (MAP,),
          _depends),
    Claim("a messy representation needs a larger norm (Eq. 2)", (MAP,), _critical_norm),
    Claim("more pairs lean the wall less: θ of 55 (54 here) is below that of 45", (MAP,), _leans),
    Claim("with 45 and 55 pairs (54 here) there is a generalising solution, with 25 and 35 none",
          (MAP,), _connects),
    Claim("where ln w and m yield alike, t = (L + h tan θ) / (η γ)", (NAME,),
          _time("κ = 1", "paper")),
    Claim("so it is with equal rates, as Eq. 6 stands", (NAME,), _time("equal rates", "paper")),
    Claim("with a slow representation t = (L + κ h tan θ) / (η γ), κ = η_D / (η_R w²) (our "
          "formula)", (NAME,), _time("κ = 30", "with_kappa")),
    Claim("by Eq. 6 the time goes as γ^-k with k = 1", (NAME,), _law("Eq. 6 from C")),
    Claim("a network whose direction is trained follows Eq. 6 (our question)", (NAME,), _network),
    Claim("its time goes as γ^-k with k = 1", (NAME,), _law("network from C")),
    Claim("the test loss descends several times on the way from A", (NAME,), _descends),
    Claim("with all of the representation trained it generalises too (AdamW)", (NAME,), _free),
)  # fmt: skip
