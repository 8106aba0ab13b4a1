"""The claims of Liu et al. (2023) on the transformer on modular addition."""

import numpy as np
from figure7_transformer import CASES
from omnigrok import as_inverse, power

from glassgrok.claims import OPEN, Claim, there, verdict
from glassgrok.experiment import spread

FIGURE7, FIGURE9, FIGURE10 = (
    "figure7_transformer",
    "figure9_fractions",
    "figure10_transformer_decay",
)
PICTURES = {
    FIGURE7: "The transformer, left free and held (Figure 7)",
    FIGURE9: "The transformer over norm and train share (Figure 9)",
    FIGURE10: "Time to generalise against weight decay, transformer (Figure 10)",
}
PAPER = 113  # p


def _norms(found):
    copies = found["cases"][CASES[0]]["copies"]
    peak = [c["norm_peak"] / c["norm_start"] for c in copies]
    end = [c["norm_end"] / c["norm_start"] for c in copies]
    told = f"over the first |θ|: highest {spread(peak)}, at the end {spread(end)}; "
    told += (
        f"highest at step {spread([c['peak_step'] for c in copies])}, memorised at "
        f"{spread([c['memorised'] for c in copies])}, generalised at "
        f"{spread([c['generalised'] for c in copies])}"
    )
    between = all(
        c["generalised"] is not None and c["memorised"] is not None
        and c["memorised"] <= c["peak_step"] < c["generalised"]
        for c in copies
    )  # fmt: skip
    return told, verdict(between and min(peak) > 1.02 and max(end) < 1)


def _delay(copies: list[dict]) -> list[float | None]:
    whole = (c["generalised"] is not None and c["memorised"] is not None for c in copies)
    return [
        c["generalised"] / c["memorised"] if w else None for c, w in zip(copies, whole, strict=True)
    ]


def _held(found):
    free, held = (_delay(found["cases"][case]["copies"]) for case in CASES)
    last = spread([c["test_accuracy"] for c in found["cases"][CASES[1]]["copies"]])
    told = f"steps to generalise over steps to memorise: held {spread(held)}, free {spread(free)}"
    told += f"; held, the test accuracy ends at {last}"
    if None in free + held:
        return told, OPEN
    return told, verdict(max(held) < 2 and np.median(held) < np.median(free) / 2)


def _several(found: dict, name: str) -> list[str]:
    return [f"{shape['fraction']:.0%}" for shape in found["shapes"] if not shape[name]]


def _train_is_l(found):
    rise = {s["fraction"]: s["highest_rise"] for s in found["shapes"]}
    worst = max(rise, key=rise.get)
    told = f"largest rise from one norm to the next {rise[worst]:.2f}, with {worst:.0%} in training"
    return told, verdict(not _several(found, "L"))


def _test_is_u(found):
    no = _several(found, "U")
    places = [s["alpha_of_minimum"] for s in found["shapes"] if s["U"]]
    told = f"a minimum inside at {len(places)} of {len(found['shapes'])} shares"
    told += f", at alpha {spread(places)}" if places else ""
    return told + (f"; not at {', '.join(no)}" if no else ""), verdict(not no)


def _critical(found):
    (below, above), p = found["critical"], found["size"]["modulus"]
    if above is None:
        return f"p = {p}: no share generalised", OPEN
    told = f"p = {p}: " + ("at or below" if below is None else f"between {below:.1%} and")
    told += f" {above:.1%}"
    if p != PAPER:
        return f"{told}; the paper has p = {PAPER}", OPEN
    return told, verdict((below or 0) <= 0.27 and above >= 0.23)


def _told(law: dict) -> str:
    return f"k = {law['power']:.2f} ± {law['error']:.2f} over {law['decades']:.1f} decades of γ"


def _law(found):
    """Over all decays, and over those that let it memorise nearly as fast as the smallest does."""
    runs = sorted(there(found["runs"]), key=lambda run: run["weight_decay"])
    times = [np.median([np.inf if t is None else t for t in run["memorised"]]) for run in runs]
    mild = [run for run, t in zip(runs, times, strict=True) if t < 1.25 * times[0]]
    laws = [power([r["weight_decay"] for r in some], [r["generalised"] for r in some])
            for some in (runs, mild)]  # fmt: skip
    if None in laws:
        return "too few generalised", OPEN
    told = f"{_told(laws[1])} up to {mild[-1]['weight_decay']:g}"
    if len(mild) < len(runs):
        told += f"; {_told(laws[0])}, where the largest slow down memorising too"
    if laws[1]["decades"] < 1:
        return told, OPEN
    return told, as_inverse(laws[1])


CLAIMS = (
    Claim("the norm rises, is highest while the transformer overfits, and ends below its start",
          (FIGURE7,), _norms),
    Claim("held at alpha = 0.8 the delay is largely gone", (FIGURE7,), _held),
    Claim("the transformer's reduced train loss is an L up to alpha = 4", (FIGURE9,), _train_is_l),
    Claim("its reduced test loss is a U", (FIGURE9,), _test_is_u),
    Claim("its critical train share is about 25 %", (FIGURE9,), _critical),
    Claim("the transformer generalises after t ~ γ^-k steps with k = 1", (FIGURE10,), _law,
          late=True),
)  # fmt: skip
