"""The claims of Liu et al. (2023) on MNIST, for the report on the paper."""

import numpy as np
from digit_maps import zone
from digits import reached
from figure3_grokking import GENERALISED, MEMORISED
from figure12_mnist_cross_entropy import late, plateau
from judges_teacher import rises_told
from omnigrok import as_inverse, plus_minus

from glassgrok.claims import OPEN, Claim, there, verdict
from glassgrok.experiment import spread

PICTURES = {
    "figure3_mnist": "MNIST: reduced landscapes (Figures 3a to 3c)",
    "figure3_grokking": "MNIST: grokking from a large norm (Figure 3d)",
    "figure3_sizes": "MNIST: steps to generalise against data size (Figure 3e)",
    "figure8_messiness": "MNIST: messy images (Figure 8)",
    "figure10_mnist_decay": "MNIST: steps to generalise against weight decay (Figure 10b)",
    "figure11_mnist_cross_entropy": "MNIST: reduced landscapes with cross-entropy (Figure 11)",
    "figure12_mnist_cross_entropy": "MNIST: training with cross-entropy (Figure 12)",
}


def _few(found: dict) -> tuple[str, dict]:
    """The slice of the fewest images."""
    size = min(found["slices"], key=int)
    return size, found["slices"][size]


def _loss_is_l(found):
    size, here = _few(found)
    curve = here["train_curve"]
    told = f"N = {size}: ln(loss + 1e-5) falls by {curve['falls']:.2f} and rises "
    return told + rises_told(curve), verdict(not curve["rises"] and curve["falls"] > 1)


def _loss_is_u(found):
    size, here = _few(found)
    curve = here["test_curve"]
    sides = [plus_minus(*pair) for pair in (curve["left"], curve["right"])]
    told = (
        f"N = {size}: least at alpha {plus_minus(curve['minimum'], curve['error'])}; ln of its "
        f"ends over that {sides[0]} and {sides[1]}"
    )
    return told, verdict(curve["interior"])


def _gap(here: dict) -> np.ndarray:
    return np.array(here["test_error"]) - np.array(here["train_error"])


def _truer_for_few(found):
    few, many = (found["slices"][n] for n in sorted(found["slices"], key=int))
    sizes = sorted(found["slices"], key=int)
    gaps = [float(_gap(here)[-3:].mean()) for here in (few, many)]
    told = ", ".join(f"N = {n}: {g:.3f}" for n, g in zip(sizes, gaps, strict=True))
    return f"test error less train error, mean of alpha above 4: {told}", verdict(
        gaps[0] > 2 * gaps[1]
    )


def _large_norm(found):
    a, b = found["points"]["A"], found["points"]["B"]
    told = (
        f"N = {a['size']}: train error {a['train_error']:.3f} to {b['train_error']:.3f}, test "
        f"{a['test_error']:.3f} to {b['test_error']:.3f} (alpha 1 to {b['alpha']:.2g})"
    )
    return told, verdict(b["train_error"] < 0.02 and b["test_error"] > 1.5 * a["test_error"])


def _many_images(found):
    b, c = found["points"]["B"], found["points"]["C"]
    told = (
        f"alpha {b['alpha']:.2g}: test error {b['test_error']:.3f} at N = {b['size']}, "
        f"{c['test_error']:.3f} at N = {c['size']:,}"
    )
    return told, verdict(c["test_error"] < b["test_error"] / 2)


def _critical(found):
    tips = {level: tip for level, tip in found["critical_size"].items() if tip is not None}
    told = ", ".join(
        f"{float(level):.0%}: N = {tip['size']:.0f} (alpha {tip['alpha']:.2g})"
        for level, tip in tips.items()
    )
    best = np.array(found["test_error"]).min(0)
    falls = bool((np.diff(best) < 0).all())
    return f"tips of the contours of test error: {told or 'none'}", verdict(bool(tips) and falls)


def _groks(found):
    told, ratios = [], {}
    for alpha in (8.0, 1.0):
        some = there([r for r in found["runs"] if r["columns"]["scale"] == alpha])
        seen = [reached(r, MEMORISED, "train_accuracy") for r in some]
        then = [reached(r, GENERALISED) for r in some]
        told.append(f"alpha {alpha:g}: memorised {spread(seen)}, generalised {spread(then)}")
        ratios[alpha] = [t / s for s, t in zip(seen, then, strict=True) if s and t]
    holds = all(ratios.values()) and min(ratios[8.0]) > 10 and max(ratios[1.0]) < 3
    return "; ".join(told) + " steps", verdict(holds)


def _sizes(found):
    level = 0.7
    times = {r["columns"]["size"]: reached(r, level) for r in there(found["runs"])}
    told = ", ".join(
        f"{n:,}: " + ("never" if t is None else f"{t:.0f}") for n, t in sorted(times.items())
    )
    came = [t for _, t in sorted(times.items()) if t is not None]
    holds = len(came) > 3 and came[0] == max(came) and came[0] > 2 * came[-1]
    return f"steps to {level:.0%} test accuracy by N: {told}", verdict(holds)


def _alike(found):
    told = (
        f"rank correlation {found['spearman']:.3f}; test loss at most {found['mismatch']:.2f} "
        "times the train loss"
    )
    return told, verdict(found["spearman"] > 0.9 and found["mismatch"] < 3)


def _weakly(found):
    told = (
        f"median spread of the test loss over m {found['test_of_m']:.2g}, over alpha "
        f"{found['test_of_alpha']:.2g}; of ln(loss + 1e-5) {found['test_ln_of_m']:.2f} and "
        f"{found['test_ln_of_alpha']:.2f}: m = 0 is solved exactly"
    )
    holds = all(found[f"{k}_of_m"] < 0.2 * found[f"{k}_of_alpha"] for k in ("train", "test"))
    return told, verdict(holds)


def _path(found):
    train, test = (np.array(found["path"][kind]) for kind in ("train", "test"))
    ratio = test / train
    told = f"test over train loss along A, B, C: {ratio.min():.2f} to {ratio.max():.2f}"
    return told, verdict(ratio.max() < 3)


def _inverse(found):
    shape = found["exponents"][str(found["level"])]
    if shape is None:
        return "too few runs", OPEN
    others = {v: e for v, e in found["exponents"].items() if e and v != str(found["level"])}
    told = f"t ~ gamma^-k, k = {shape['power']:.2f} ± {shape['error']:.2f} to {found['level']:.0%}"
    told += "".join(
        f"; {e['power']:.2f} ± {e['error']:.2f} to {float(v):.0%}" for v, e in others.items()
    )
    return told, as_inverse(shape)


def _wider(mse, found):
    told, holds = [], []
    for size, here in found["slices"].items():
        if int(size) not in mse["size"]:
            continue
        error = np.array(mse["test_error"])[:, mse["size"].index(int(size))]
        widths = [z["to"] / z["from"] for z in (here["zone"], zone(np.array(mse["alpha"]), error))]
        told.append(f"N = {size}: {widths[0]:.3g} and {widths[1]:.3g}")
        holds.append(widths[0] > widths[1])
    told = f"upper over lower end, with it and with MSE: {'; '.join(told)}"
    # One seed: sizes that contradict each other decide nothing.
    return told, verdict(all(holds)) if len(set(holds)) == 1 else OPEN


def _plateau(found):
    levels = [plateau(r) for r in there(found["runs"])]
    told = f"test accuracy once memorised {spread(levels)}"
    known = [v for v in levels if v is not None]
    return told, verdict(bool(known) and min(known) > 0.25 and max(known) < 0.45)


def _late(found):
    best = max(there(found["runs"]), key=lambda r: max(r["test_accuracy"]))
    told = (
        f"best {max(best['test_accuracy']):.3f}, with weight decay "
        f"{best['columns']['weight_decay']:g}; half risen at step {late(best) or 0:.0f}, memorised "
        f"at {reached(best, MEMORISED, 'train_accuracy') or 0:.0f}"
    )
    return told, verdict(abs(max(best["test_accuracy"]) - 0.75) < 0.05)


CLAIMS = (
    Claim("MNIST: for few images the reduced train loss is an L", ("figure3_mnist",), _loss_is_l),
    Claim("MNIST: for few images the reduced test loss is a U", ("figure3_mnist",), _loss_is_u),
    Claim("MNIST: LU holds truer for smaller data", ("figure3_mnist",), _truer_for_few),
    Claim("MNIST: from A to B the train error stays low, the test error rises",
          ("figure3_mnist",), _large_norm),
    Claim("MNIST: from B to C, with more images, the test error falls",
          ("figure3_mnist",), _many_images),
    Claim("MNIST: there is a critical data size, the tip of a thumb", ("figure3_mnist",),
          _critical),
    Claim("MNIST groks from alpha = 8 and not from 1", ("figure3_grokking",), _groks),
    Claim("MNIST: steps to generalise grow rapidly near a critical size", ("figure3_sizes",),
          _sizes),
    Claim("messy MNIST: train and test loss behave alike", ("figure8_messiness",), _alike),
    Claim("messy MNIST: both depend very weakly on m", ("figure8_messiness",), _weakly, late=True),
    Claim("messy MNIST: a path A to B to C shows no grokking", ("figure8_messiness",), _path),
    Claim("MNIST: t ~ 1 / gamma for gamma from 0.1 to 1", ("figure10_mnist_decay",), _inverse),
    Claim("cross-entropy has a wider Goldilocks zone than MSE",
          ("figure3_mnist", "figure11_mnist_cross_entropy"), _wider, late=True),
    Claim("cross-entropy, alpha = 100, N = 200: a plateau at 30 to 40 % test accuracy",
          ("figure12_mnist_cross_entropy",), _plateau),
    Claim("and a late rise to about 75 %", ("figure12_mnist_cross_entropy",), _late),
)  # fmt: skip
