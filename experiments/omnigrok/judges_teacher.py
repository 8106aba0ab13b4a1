"""The claims of Liu et al. (2023) on a teacher and a student, for the report on the paper."""

import numpy as np
from figure2_teacher_student import LARGE, NAME, SHOWN, SMALL, merged
from omnigrok import as_inverse

from glassgrok.claims import OPEN, Claim, verdict
from glassgrok.experiment import spread

PICTURES = {NAME: "A teacher and a student (Figure 2)"}


def _part(found: dict, name: str) -> dict:
    return merged(found["runs"])[name]


def _case(found: dict, source: str, alpha: float, decay: float) -> list[dict]:
    """The seeds of one alpha and weight decay."""
    cases = _part(found, f"dynamics, {source}")["cases"]
    return next(c for c in cases if (c["scale"], c["weight_decay"]) == (alpha, decay))["copies"]


def rises_told(curve: dict) -> str:
    """Where a reduced train loss rises, in words."""
    rises = [
        f"from alpha {a:.2g} to {b:.2g} by {by:.2f} ± {e:.2f}" for a, b, by, e in curve["rises"]
    ]
    return "; ".join(rises) or "nowhere"


def _is_l(found):
    curve = _part(found, "landscape, authors")["train_curve"]
    told = f"ln(loss + 1e-5) falls by {curve['falls']:.2f} and rises {rises_told(curve)}"
    return told, verdict(not curve["rises"] and curve["falls"] > 1)


def _is_l_along(found):
    curve = _part(found, "landscape, tangent")["train_curve"]
    told = f"ln(loss + 1e-5) falls by {curve['falls']:.2f} and rises {rises_told(curve)}"
    return told, verdict(not curve["rises"] and curve["falls"] > 1)


def _is_u(found):
    curve = _part(found, "landscape, authors")["test_curve"]
    sides = [f"{value:.2f} ± {error:.2f}" for value, error in (curve["left"], curve["right"])]
    told = (
        f"lowest at alpha {curve['minimum']:.2f} ± {curve['error']:.2f}; ln of the ends over "
        f"that {sides[0]} and {sides[1]}"
    )
    return told, verdict(curve["interior"])


def _near_one(found):
    kinds = {"authors": "as the authors do", "tangent": "along the sphere"}
    curves = {kind: _part(found, f"landscape, {kind}")["test_curve"] for kind in kinds}
    told = [f"{curves[k]['minimum']:.2f} ± {curves[k]['error']:.2f} {kinds[k]}" for k in kinds]
    holds = all(0.5 < curve["minimum"] < 2 for curve in curves.values())
    return "alpha of the minimum: " + ", ".join(told), verdict(holds)


def _found_lowest(found):
    """Whether Adam and a rescaling find the minimum on the sphere."""
    losses = [
        np.median(np.array(_part(found, f"landscape, {kind}")["train_loss"], float), axis=1)
        for kind in ("authors", "tangent")
    ]
    scales = np.array(_part(found, "landscape, authors")["scale"])
    ratio = losses[0] / losses[1]
    worth = losses[0] > 1e-4  # below that both have ended early
    if not worth.any():
        return "no alpha with a train loss above 1e-4", OPEN
    worst = int(np.argmax(np.where(worth, ratio, 0)))
    told = (
        f"train loss as the authors do over that along the sphere, where above 1e-4: at most "
        f"{ratio[worst]:.2f}, at alpha {scales[worst]:.2g}"
    )
    return told, verdict(ratio[worst] < 1.1)


def _large(found):
    told, held = [], []
    for source in ("code", "paper"):
        none, small, large = (_case(found, source, LARGE, decay) for decay in SHOWN)
        times = [[c["generalised"] for c in copies] for copies in (none, small, large)]
        late = [c["generalised"] / c["overfitted"] if c["generalised"] else np.inf for c in small]
        told.append(
            f"threshold of the {source}: gamma 0 {spread(times[0])}, 0.03 {spread(times[1])}, 1 "
            f"{spread(times[2])} steps to 95% test"
        )
        fast = None not in times[2] and None not in times[1]
        held.append(
            all(t is None for t in times[0])
            and fast
            and min(late) > 3
            and max(times[2]) < min(times[1]) / 3
        )
    word = verdict(held[0]) if held[0] == held[1] else OPEN
    return "; ".join(told), word


def _small(found):
    times = [[c["generalised"] for c in _case(found, "code", SMALL, decay)] for decay in SHOWN]
    train = [[c["overfitted"] for c in _case(found, "code", SMALL, decay)] for decay in SHOWN]
    told = ", ".join(f"gamma {d:g} {spread(t)}" for d, t in zip(SHOWN, times, strict=True))
    every = [t for group in times for t in group]
    if None in every:
        return f"steps to 95% test: {told}", verdict(False)
    late = max(t / s for a, b in zip(times, train, strict=True) for t, s in zip(a, b, strict=True))
    told += f"; at most {late:.1f} times those to 95% train"
    return f"steps to 95% test: {told}", verdict(late < 3)


def _same_for_train(found):
    fit = _part(found, "dynamics, code")["power"]["overfitted"]
    if fit is None:
        return "too few runs", OPEN
    told = f"steps to 95% train ~ gamma^-k, k = {fit['power']:.3f} ± {fit['error']:.3f}"
    return told, verdict(abs(fit["power"]) < 0.1)


def _inverse(found):
    told, words = [], []
    for source in ("code", "paper"):
        fit = _part(found, f"dynamics, {source}")["power"]["generalised"]
        if fit is None:
            return "too few runs", OPEN
        told.append(
            f"{fit['power']:.3f} ± {fit['error']:.3f} with the threshold of the {source} over "
            f"{fit['decades']:.2f} decades of gamma"
        )
        words.append(as_inverse(fit))
    word = words[0] if words[0] == words[1] else OPEN
    return "t ~ gamma^-k, k = " + "; ".join(told), word


SOURCE = (NAME,)
CLAIMS = (
    Claim("LU: the reduced train loss of the student is non-increasing in alpha", SOURCE, _is_l),
    Claim("its test loss has an interior minimum, the Goldilocks zone", SOURCE, _is_u),
    Claim("that minimum is at alpha near 1", SOURCE, _near_one),
    Claim("at alpha = 2 without decay it never generalises, with a small one late (it groks), "
          "with a large one fast", SOURCE, _large),
    Claim("at alpha = 0.5 it generalises fast whatever the decay", SOURCE, _small),
    Claim("the steps to overfit do not depend on the decay", SOURCE, _same_for_train),
    Claim("the steps to generalise are as 1/gamma", SOURCE, _inverse),
    Claim("Adam and a rescaling find the lowest train loss on the sphere (our question)", SOURCE,
          _found_lowest),
    Claim("along the sphere the train loss is non-increasing too (our question)", SOURCE,
          _is_l_along),
)  # fmt: skip
