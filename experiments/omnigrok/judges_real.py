"""The claims of Liu et al. (2023) on reviews and molecules, for the report on the paper."""

import figure4_imdb
import figure5_qm9
import numpy as np
from size_maps import nearest

from glassgrok.claims import OPEN, Claim, verdict

PICTURES = {
    figure4_imdb.NAME: "An LSTM on IMDb reviews (Figure 4)",
    figure5_qm9.NAME: "A graph network on QM9 (Figure 5)",
}


def _largest(found: dict) -> dict:
    return found["shapes"][-1]


def _run(found: dict, **wanted) -> dict:
    return next(r for r in found["outcomes"] if all(r[k] == v for k, v in wanted.items()))


def _reviews_part(found):
    small, large = nearest(found["shapes"], 1000), _largest(found)
    told = ", ".join(f"{s['apart']:.2f} at {s['size']:,} reviews" for s in (small, large))
    told = f"test error less train error, at most over alpha: {told}"
    return told, verdict(small["apart"] > 0.1 and large["apart"] < small["apart"] / 2)


def _reviews_u(found):
    large = _largest(found)
    train, test = large["train_shape"], large["test_shape"]
    # What a difference of two errors on so many reviews can be by chance.
    chance = np.sqrt(2 * test["least"] * (1 - test["least"]) / found["plan"]["held_out"])
    arms = (large["train_minimum"]["left"], train["rise"], test["left"], test["right"])
    told = (
        f"{large['size']:,} reviews: least train error {arms[0]:.3f} below the smallest alpha and "
        f"{arms[1]:.2f} below alpha {train['to']:.2g}; least test error {arms[2]:.3f} and "
        f"{arms[3]:.2f} below the ends (± {chance:.3f})"
    )
    return told, verdict(min(arms) > 2 * chance)


def _told_of(run: dict) -> str:
    told = f"alpha {run['alpha']:g}, decay {run['weight_decay']:g}: "
    if run["fitted"] is None:
        return told + f"never overfits; test accuracy at best {run['best_test']:.3f}"
    told += f"overfits at step {run['fitted']:,}, test accuracy {run['test_when_fitted']:.3f} then"
    told += f", later up to {run['rise_after']:.3f} more"
    return told + (f" (half of it at step {run['half_of_rise']:,})" if run["half_of_rise"] else "")


def _reviews_grok(found):
    run = _run(found, alpha=6, weight_decay=1)
    if run["fitted"] is None:
        return _told_of(run), OPEN
    late = run["half_of_rise"] is not None and run["half_of_rise"] > 3 * run["fitted"]
    return _told_of(run), verdict(run["rise_after"] > 0.05 and late)


def _reviews_standard(found):
    run = _run(found, alpha=1, weight_decay=0)
    if run["fitted"] is None:
        return _told_of(run), OPEN
    return _told_of(run), verdict(run["rise_after"] < 0.05)


def _reviews_cause(found):
    free, decayed = (_run(found, alpha=6, weight_decay=decay) for decay in (0, 1))
    if None in (free["fitted"], decayed["fitted"]):
        return _told_of(free), OPEN
    return _told_of(free), verdict(free["rise_after"] < decayed["rise_after"] / 2)


def _molecules_part(found):
    small, large = nearest(found["shapes"], 100), nearest(found["shapes"], 3000)
    told = ", ".join(
        f"{np.exp(s['apart_above']):.3g} at {s['size']:,} molecules" for s in (small, large)
    )
    told = f"test loss over train loss, at most for alpha > 1: {told}"
    return told, verdict(small["apart_above"] > max(1, 2 * large["apart_above"]))


def _molecules_u(found):
    large = nearest(found["shapes"], 3000)
    train, test = large["train_minimum"], large["test_shape"]
    told = (
        f"{large['size']:,} molecules: train loss least at alpha {train['alpha']:.2g}, test loss "
        f"at {test['alpha']:.2g}; at alpha 10 they are {np.exp(train['right']):.2g} and "
        f"{np.exp(test['right']):.2g} times as large"
    )
    return told, verdict(train["interior"] and test["interior"])


def _molecules_small_l(found):
    small = nearest(found["shapes"], 100)
    rise = small["train_shape"]
    told = (
        f"{small['size']:,} molecules: least train loss at alpha {rise['from']:.2g}, "
        f"{np.exp(rise['rise']):.2g} times as large at {rise['to']:.2g}"
    )
    return told, verdict(rise["rise"] < 0.5)


def _steps(run: dict) -> str:
    train, test = (
        "never" if run[f"{kind}_learned"] is None else f"at step {run[f'{kind}_learned']:,}"
        for kind in ("train", "test")
    )
    return f"train loss below a tenth of the variance {train}, test loss {test}"


def _molecules_drop(found):
    run = _run(found, alpha=3, size=100)
    told = (
        f"it falls {run['drop']:.3g} times in a doubling of steps from step {run['drop_at']:,}, "
        f"{run['test_least']:.2g} a0⁶ at least"
    )
    return told, verdict(run["drop"] > 3 and 3e3 < run["drop_at"] < 3e4)


def _molecules_norm(found):
    run = _run(found, alpha=3, size=100)
    start, end = run["norm"]
    told = (
        f"norm {start:.3g} at the start and {end:.3g} at the end, while the test loss falls to "
        f"{run['test_least']:.2g} a0⁶"
    )
    return told, verdict(end < 0.9 * start)


def _molecules_late(found):
    run = _run(found, alpha=3, size=100)
    train, test = run["train_learned"], run["test_learned"]
    if train is None:
        return _steps(run), OPEN
    return _steps(run), verdict(test is None or test > 3 * train)


def _molecules_standard(found):
    run = _run(found, alpha=1, size=100)
    train, test = run["train_learned"], run["test_learned"]
    if None in (train, test):
        return _steps(run), OPEN
    return _steps(run), verdict(test < 3 * train)


REVIEWS, MOLECULES = (figure4_imdb.NAME,), (figure5_qm9.NAME,)
CLAIMS = (
    Claim("IMDb: train and test error part with 1,000 reviews, and not with many", REVIEWS,
          _reviews_part),
    Claim("IMDb: with many reviews both errors are a U in alpha", REVIEWS, _reviews_u, late=True),
    Claim("IMDb: alpha = 6 with decay 1 overfits early and generalises late", REVIEWS,
          _reviews_grok, late=True),
    Claim("IMDb: alpha = 1 without decay gains little after it has overfitted", REVIEWS,
          _reviews_standard, late=True),
    Claim("IMDb: it is the decay that makes the large start generalise (our question)", REVIEWS,
          _reviews_cause, late=True),
    Claim("QM9: train and test loss part for alpha > 1 with 100 molecules, less with 3,000",
          MOLECULES, _molecules_part),
    Claim("QM9: with 3,000 molecules both losses are a U in alpha", MOLECULES, _molecules_u),
    Claim("QM9: with 100 molecules the train loss is an L, non-increasing in alpha", MOLECULES,
          _molecules_small_l),
    Claim("QM9: alpha = 3 without decay: the test loss drops sharply near 10^4 steps", MOLECULES,
          _molecules_drop),
    Claim("QM9: alpha = 1 does not grok", MOLECULES, _molecules_standard),
    Claim("QM9: at alpha = 3 the train set is learned long before the test set (our question)",
          MOLECULES, _molecules_late),
    Claim("QM9: the test loss of that run falls because its weight norm does: an implicit "
          "regularisation", MOLECULES, _molecules_norm),
)  # fmt: skip
