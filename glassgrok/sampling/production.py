"""From frozen-bias samples of independent groups to S and its error bars."""

from typing import NamedTuple

import numpy as np

from glassgrok.engine.walkers import Samples
from glassgrok.grid import Axis, Grid
from glassgrok.landscape import Diagnostics, Joint, Landscape, jackknife, pooled
from glassgrok.sampling.config import SamplerConfig
from glassgrok.sampling.state import AUDIT, Production

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


def add(
    production: Production,
    samples: Samples,
    segment: int,
    config: SamplerConfig,
    reference: np.ndarray,
    hard: tuple[int, Axis] | None,
) -> Production:
    """Count a block's samples to its segment; the audit counts in nothing else.

    Args:
        production: the sums so far.
        samples: of a block, leading axes (tiles, steps, tile); tile t belongs to group t mod G.
        segment: index of the segment, `AUDIT` for the one with half the time step.
        config: of the run.
        reference: (bins,) as `estimate` takes it.
        hard: index of the extra that is the hard form of the second variable, and its axis.
    """
    groups, bins = config.groups, len(reference)
    tiles, _, tile = samples.bin.shape
    group = np.broadcast_to((np.arange(tiles) % groups)[:, None, None], samples.bin.shape)
    inside = samples.bin < bins
    index, group = samples.bin[inside], group[inside]
    weight = np.exp(samples.bias[inside].astype(np.float64) - reference[index])
    cell = group * bins + index

    def summed(weights=None):
        return np.bincount(cell, weights, groups * bins).reshape(groups, bins)

    visits, sums = production.visits.copy(), production.weight.copy()
    visits[segment] += summed().astype(np.int64)
    sums[segment] += summed(weight)
    production = production._replace(visits=visits, weight=sums)
    if segment == AUDIT:
        return production
    measured = samples.extras[inside].astype(np.float64)
    extras, joint = production.extras.copy(), production.joint
    for i in range(measured.shape[1]):
        extras[:, i] += summed(weight * measured[:, i])
    if hard is not None:
        joint = _with_hard(joint, group, index, weight, measured[:, hard[0]], hard[1])
    walker = np.broadcast_to(np.arange(tiles * tile).reshape(tiles, 1, tile), inside.shape)[inside]
    seen = production.seen.reshape(-1, bins).copy()
    seen[walker, index] = True
    end, trips = _travelled(production, samples.values.min(axis=1), samples.values.max(axis=1))
    return production._replace(
        extras=extras,
        joint=joint,
        seen=seen.reshape(production.seen.shape),
        accepted=production.accepted + int(samples.accepted.sum()),
        steps=production.steps + samples.bin.size,
        end=end,
        trips=trips,
    )


def _with_hard(joint, group, index, weight, value, axis: Axis) -> np.ndarray:
    """Joint sums with the bin of the hard form; a value beyond its axis has none."""
    _, _, bins, hard = joint.shape
    there = (value >= axis.low) & (value <= axis.high)
    place = np.floor((value[there] - axis.low) / axis.width).astype(int)
    place = np.minimum(place, axis.bins - 1)  # the upper end belongs to the axis
    group, index, weight = group[there], index[there], weight[there]
    joint = joint.copy()
    flat = joint.reshape(-1)  # NumPy adds ten times as fast by one index as by four
    for kind, each in enumerate((weight, weight**2)):
        np.add.at(flat, ((2 * group + kind) * bins + index) * hard + place, each)
    return joint


def _travelled(production: Production, lowest: np.ndarray, highest: np.ndarray):
    """Which end each walker visited last, and how often it has changed.

    A block is looked at as a whole: a walker that saw both ends in one counts one change.

    Args:
        production: the sums so far.
        lowest, highest: (tiles, tile, axes) range of each walker in the block.
    """
    low, high = lowest < production.low, highest > production.high
    arrived = np.where(production.end == 0, high, np.where(production.end == 1, low, False))
    end = np.where(low & ~high, 0, np.where(high & ~low, 1, production.end))
    end = np.where(low & high, np.where(production.end >= 0, 1 - production.end, 0), end)
    return end.astype(np.int8), production.trips + arrived


def add_heat(production: Production, heat: np.ndarray, groups: int) -> Production:
    """Add a look at the thermometer, (tiles, tile, 2, 4); walkers that are NaN do not count."""
    known = np.where(np.isfinite(heat).all(axis=(2, 3), keepdims=True), heat, 0.0)
    each = known.sum(axis=1, dtype=np.float64)
    summed = np.stack([each[g::groups].sum(axis=0) for g in range(groups)])
    return production._replace(heat=production.heat + summed)


def temperatures(heat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Configurational temperature <w . grad V> / <div w> of each quarter, and its standard error.

    Args:
        heat: (G, 2, 4) both sides, summed over samples of each group.

    Returns:
        (4,) and (4,); NaN where there is nothing, or where <div w> is not known to be positive.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        left = np.stack([np.delete(heat, g, axis=0).sum(axis=0) for g in range(len(heat))])
        error = jackknife(left[:, 0] / left[:, 1])
        rise, divergence = heat.sum(axis=0)
        value = rise / divergence
    known = np.isfinite(value) & np.isfinite(error) & (divergence > 5 * jackknife(left[:, 1]))
    return np.where(known, value, np.nan), np.where(known, error, np.nan)


def landscape(
    grid: Grid,
    reference: np.ndarray,
    production: Production,
    names: tuple[str, ...],
    hard: str | None,
    starts: tuple[str, ...],
    filled: bool,
    dt: float,
    integrator: str,
) -> Landscape:
    """The Landscape of the samples; smallest entropy 0.

    Args:
        grid: the bins.
        reference: (bins,) as `estimate` takes it.
        production: the sums.
        names: of the extras.
        hard: name of the extra that the joint sums are over, or None.
        starts: (G,) what each group started from.
        filled: whether the fill had ended.
        dt: time step of the production.
        integrator: "middle", "paper" or "metropolis"; see `dynamics`.
    """
    visits, weight = production.visits[:AUDIT].sum(axis=0), production.weight[:AUDIT].sum(axis=0)
    result = estimate(reference, visits, weight)
    sampled = np.isfinite(result.entropy)
    zero = result.entropy[sampled].min() if sampled.any() else 0.0

    def surfaces(sums):
        """ln volume of each group, from (..., G, bins) sums of weights."""
        with np.errstate(divide="ignore"):
            found = reference + np.log(sums) + np.log(len(visits)) - zero
        found = np.where(np.isfinite(found) & sampled, found, np.nan)
        return found.reshape(*sums.shape[:-1], *grid.shape)

    temperature, temperature_error = temperatures(production.heat)
    omega = np.where(production.omega > 0, production.omega, np.nan)
    diagnostics = Diagnostics(
        segments=surfaces(production.weight[:AUDIT]),
        half_step=surfaces(production.weight[AUDIT]),
        walkers=production.seen.sum(axis=(0, 1), dtype=np.int32).reshape(grid.shape),
        trips=np.stack(
            [(production.trips[g :: len(visits)] // 2).sum(axis=(0, 1)) for g in range(len(visits))]
        ),
        filled=bool(filled),
        dt=float(dt),
        omega_dt=omega * dt,
        temperature=temperature,
        temperature_error=temperature_error,
        acceptance=production.accepted / max(production.steps, 1),
        rescued=int(production.rescued),
        integrator=integrator,
    )
    total = np.where(sampled, weight.sum(axis=0), np.nan)
    return Landscape(
        grid=grid,
        entropy=(result.entropy - zero).reshape(grid.shape),
        entropy_error=result.error.reshape(grid.shape),
        visits=visits.sum(axis=0).reshape(grid.shape),
        groups=np.where(sampled, result.groups - zero, np.nan).reshape(-1, *grid.shape),
        starts=starts,
        extras={
            name: (production.extras[:, i].sum(axis=0) / total).reshape(grid.shape)
            for i, name in enumerate(names)
        },
        diagnostics=diagnostics,
        joint=None if hard is None else _joint(grid, reference - zero, production.joint, hard),
    )


def _joint(grid: Grid, reference: np.ndarray, sums: np.ndarray, name: str) -> Joint:
    """ln of the joint sums of each group, on the scale of `Landscape.groups`."""
    scale = reference[:, None] + np.log(len(sums))
    with np.errstate(divide="ignore"):
        weight, square = scale + np.log(sums[:, 0]), 2 * scale + np.log(sums[:, 1])
    # Where float32 lost the squares, the cell counts as one sample.
    square = np.where(sums[:, 1] > 0, square, 2 * weight)
    shape = (len(sums), *grid.shape, sums.shape[-1])
    known = sums[:, 0] > 0
    return Joint(
        name,
        np.where(known, weight, np.nan).reshape(shape),
        np.where(known, square, np.nan).reshape(shape),
    )
