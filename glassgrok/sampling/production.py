"""From frozen-bias samples of independent groups to S and its error bars."""

from typing import NamedTuple

import numpy as np

from glassgrok.grid import Grid
from glassgrok.landscape import Landscape, pooled

SEEN_BY = 2  # a bin is reported when so many groups have visited it


class Estimate(NamedTuple):
    """S over flat bins.

    Attributes:
        entropy, error: (bins,) nats, NaN where not sampled; S up to one constant.
        groups: (G, bins) the share of each group: entropy = ln mean_g exp(groups_g), where a
            group that saw nothing counts as exp(-inf) and is stored as NaN.
    """

    entropy: np.ndarray
    error: np.ndarray
    groups: np.ndarray


def estimate(reference: np.ndarray, visits: np.ndarray, weight: np.ndarray) -> Estimate:
    """S_b = ln sum over samples in b of exp V(sample), pooled; error by leaving out one group.

    Under the frozen V the density of samples is exp(S - V), so each sample stands for exp(V) of
    volume. The weights are summed per sample, never taken at the bin's centre, where V may differ
    by tens of nats. Each leave-one-out surface is aligned to the pooled one (least squares,
    weighted with the visits), since only differences of S mean anything.

    Args:
        reference: (bins,) V that the weights are relative to, nats.
        visits: (G, bins) samples of each group.
        weight: (G, bins) sum of exp(V - reference) of each group.

    Returns:
        An Estimate; bins that fewer than `SEEN_BY` groups visited are NaN.
    """
    groups = len(visits)
    seen = (weight > 0).sum(axis=0) >= min(SEEN_BY, groups)
    with np.errstate(divide="ignore"):
        log_weight = np.log(weight)
    share = np.where(weight > 0, reference + log_weight + np.log(groups), np.nan)
    whole = np.where(seen, pooled(share), np.nan)
    importance = visits.sum(axis=0)
    error = np.full(whole.shape, np.nan)
    if groups > 1 and seen.any():
        left_out = np.stack([pooled(np.delete(share, g, axis=0))[seen] for g in range(groups)])
        shift = left_out - whole[seen]
        shift = shift - np.average(shift, axis=1, weights=importance[seen])[:, None]
        spread = np.sqrt((groups - 1) / groups * (shift**2).sum(axis=0))
        # Groups that happen to agree in a bin do not know it: its samples allow 1/sqrt(n) at best.
        # Half of that, so that the bar of an ordinary bin is not biased upwards.
        error[seen] = np.maximum(spread, 0.5 / np.sqrt(importance[seen]))
    return Estimate(whole, error, share)


def landscape(
    grid: Grid,
    reference: np.ndarray,
    visits: np.ndarray,
    weight: np.ndarray,
    extras: np.ndarray,
    names: tuple[str, ...],
    starts: tuple[str, ...],
) -> Landscape:
    """The Landscape of G groups; smallest entropy 0.

    Args:
        grid: the bins.
        reference: (bins,) as `estimate` takes it.
        visits, weight: (G, bins) as `estimate` takes them.
        extras: (G, E, bins) weighted sums of the extras.
        names: (E,) their names.
        starts: (G,) what each group started from.
    """
    result = estimate(reference, visits, weight)
    sampled = np.isfinite(result.entropy)
    zero = result.entropy[sampled].min() if sampled.any() else 0.0
    total = np.where(sampled, weight.sum(axis=0), np.nan)
    return Landscape(
        grid=grid,
        entropy=(result.entropy - zero).reshape(grid.shape),
        entropy_error=result.error.reshape(grid.shape),
        visits=visits.sum(axis=0).reshape(grid.shape),
        groups=np.where(sampled, result.groups - zero, np.nan).reshape(-1, *grid.shape),
        starts=starts,
        extras={
            name: (extras[:, i].sum(axis=0) / total).reshape(grid.shape)
            for i, name in enumerate(names)
        },
    )
