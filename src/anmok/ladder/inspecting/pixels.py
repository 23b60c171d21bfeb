"""How well the maps show the flaws that masks mark, with an interval over pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anmok.evidence.intervals import Interval, group_numbers, t_quantile, z_quantile
from anmok.ladder.inspecting.outcome import PixelFigures
from anmok.ladder.inspecting.parts import read_mask
from anmok.load.inspector import spread
from anmok.metrics import pixel_scores
from anmok.metrics.anomaly import FPR_LIMIT, regions_of

Array = NDArray[np.float32]
Bools = NDArray[np.bool_]
Double = NDArray[np.float64]

SIDE = 192  # pixels a side at which masks and maps are compared
_THRESHOLDS, _RESAMPLES = 400, 1000


def pixel_figures(
    maps: Sequence[Array],
    masks: Sequence[Path | None],
    is_defect: Bools,
    groups: NDArray[np.int64],
    *,
    canvas: int,
    seed: int,
) -> PixelFigures | None:
    """Of test pictures with their patch maps (h, w), smoothed on the ``canvas`` of the model as the memory that is
    written smooths them; defects without a mask are left out. ``None`` where no flaw is marked."""
    kept = [i for i, mask in enumerate(masks) if mask is not None or not is_defect[i]]
    if not any(masks[i] is not None for i in kept):
        return None
    shown = [spread(maps[i], canvas, (SIDE, SIDE)) for i in kept]
    truths = []
    for i in kept:
        mask = masks[i]
        truths.append(np.zeros((SIDE, SIDE), np.bool_) if mask is None else read_mask(mask, (SIDE, SIDE)))
    found = pixel_scores(shown, truths)
    interval = None
    if found.aupro is not None:
        interval = aupro_interval(shown, truths, groups[kept], found.aupro, seed)
    return PixelFigures(found.auroc, found.ap, found.aupro, interval, found.regions, SIDE)


def aupro_interval(
    maps: Sequence[Array], truths: Sequence[Bools], groups: NDArray[np.int64], value: float, seed: int
) -> Interval:
    """95 %, by drawing whole groups of pictures again, good and strange ones apart; percentiles, widened by Student's
    quantile for few groups with a flaw. The curve is taken at 400 thresholds, which are fixed."""
    good = np.concatenate([one[~truth] for one, truth in zip(maps, truths, strict=True)])
    levels = 1 - np.linspace(0, min(1.0, 1.2 * FPR_LIMIT), _THRESHOLDS)
    cuts = np.asarray(np.quantile(good, levels), np.float64)  # (T,) downwards
    rates = np.stack([_above(one[~truth], cuts) for one, truth in zip(maps, truths, strict=True)])  # (I, T) pixels
    sizes = np.asarray([(~truth).sum() for truth in truths], np.float64)
    overlaps, regions = _overlaps(maps, truths, cuts)  # (I, T), (I,)
    numbers = group_numbers(groups, len(maps))
    has_flaw = np.bincount(numbers, regions) > 0  # (G,)
    rng = np.random.default_rng(seed)
    samples = []
    for _ in range(_RESAMPLES):
        times = np.zeros(len(has_flaw))
        for kind in (np.flatnonzero(has_flaw), np.flatnonzero(~has_flaw)):
            if kind.size:
                times += np.bincount(rng.choice(kind, kind.size), minlength=len(times))
        weight = times[numbers]  # (I,)
        x = np.concatenate([[0.0], weight @ rates / max(float(weight @ sizes), 1.0)])
        y = np.concatenate([[0.0], weight @ overlaps / max(float(weight @ regions), 1e-9)])
        samples.append(_clipped(x, y))
    freedom = max(int(has_flaw.sum()) - 1, 1)
    stretch = t_quantile(0.95, freedom) / z_quantile(0.95)
    centre = float(np.mean(samples))
    low, high = value + (np.quantile(samples, [0.025, 0.975]) - centre) * stretch
    return Interval(float(max(low, 0.0)), float(min(high, 1.0)))


def _above(values: NDArray[np.floating], cuts: Double) -> Double:
    """(T,) how many values lie at or above each cut."""
    return (values.size - np.searchsorted(np.sort(values), cuts, side="left")).astype(np.float64)


def _overlaps(maps: Sequence[Array], truths: Sequence[Bools], cuts: Double) -> tuple[Double, Double]:
    """Of each picture the sum over its regions of the found share, at each cut, and the number of its regions."""
    sums, counts = np.zeros((len(maps), len(cuts))), np.zeros(len(maps))
    for i, (found, truth) in enumerate(zip(maps, truths, strict=True)):
        numbers, here = regions_of(truth)  # (h, w)
        counts[i] = here
        for region in range(1, here + 1):
            inside = found[numbers == region]
            sums[i] += _above(inside, cuts) / inside.size
    return sums, counts


def _clipped(x: Double, y: Double) -> float:
    """The area up to the limit, as a share of it."""
    end = float(np.interp(FPR_LIMIT, x, y))
    is_inside = x <= FPR_LIMIT
    x, y = np.append(x[is_inside], FPR_LIMIT), np.append(y[is_inside], end)
    return float((np.diff(x) * (y[1:] + y[:-1]) / 2).sum() / FPR_LIMIT)
