"""How well a score tells strange pictures, pixels and regions from good ones: exact, ties and all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from anmok.errors import BadRequest

Array = NDArray[np.float64]
Bools = NDArray[np.bool_]

FPR_LIMIT = 0.3


@dataclass(frozen=True, slots=True)
class PixelScores:
    """``auroc`` and ``ap`` over all pixels of all pictures alike; ``aupro`` counts every region alike, whatever its
    size. Each is ``None`` where the pictures have no such pixels."""

    auroc: float | None
    ap: float | None
    aupro: float | None
    regions: int

    def to_dict(self) -> dict[str, float | int | None]:
        return {"auroc": self.auroc, "ap": self.ap, "aupro": self.aupro, "regions": self.regions}


def auroc(scores: ArrayLike, is_strange: ArrayLike) -> float:
    """The chance that a strange one has the higher score than a good one; a tie is worth one half.

    Args:
        scores: (n,), larger is stranger.
        is_strange: bool (n,).

    Raises:
        BadRequest: one kind only, shapes that differ, or a score that is no number.
    """
    values, strange = _checked(scores, is_strange)
    order = np.argsort(values, kind="stable")  # (n,)
    ordered = values[order]
    first = np.searchsorted(ordered, ordered, side="left")
    last = np.searchsorted(ordered, ordered, side="right")
    ranks = (first + last + 1) / 2  # (n,) from 1; equal scores share the mean of theirs
    many = int(strange.sum())
    total = float(ranks[strange[order]].sum()) - many * (many + 1) / 2
    return total / (many * (strange.size - many))


def average_precision(scores: ArrayLike, is_strange: ArrayLike) -> float:
    """The mean precision over the strange ones, from the highest score down; equal scores are taken at once.

    Raises:
        BadRequest: as `auroc`.
    """
    values, strange = _checked(scores, is_strange)
    order = np.argsort(-values, kind="stable")
    ends = _ends(values[order])  # (t,) last place of each distinct score
    hits = np.cumsum(strange[order])[ends]  # (t,)
    precision = hits / (ends + 1)
    return float((np.diff(hits, prepend=0) * precision).sum() / hits[-1])


def aupro(maps: Sequence[NDArray[np.floating]], truths: Sequence[Bools], limit: float = FPR_LIMIT) -> float:
    """The area under the per-region overlap: of each region the share that is found, meaned over all regions, against
    the share of good pixels that are called strange, up to ``limit`` of these, divided by ``limit``.

    Every distinct score is a threshold; the curve between two is straight. Regions are 8-connected. Good pixels of
    strange pictures count as those of good pictures do.

    Args:
        maps: scores (H, W) of each picture.
        truths: its strange pixels, bool (H, W); none in a good picture.
        limit: in (0, 1].

    Source: Bergmann et al., "The MVTec Anomaly Detection Dataset" (IJCV 2021).

    Raises:
        BadRequest: shapes that differ, no strange or no good pixel at all, or a limit outside (0, 1].
    """
    if not 0 < limit <= 1:
        raise BadRequest(f"limit {limit}: want a share of good pixels above 0 and at most 1, such as 0.3")
    values, weights, count = _pooled(maps, truths)
    if count == 0 or not (weights == 0).any():
        good = int((weights == 0).sum())
        raise BadRequest(f"{count} strange regions, {good} good pixels: want at least one of both")
    return _Steps.of(values, weights).overlap(count, limit)


def pixel_scores(
    maps: Sequence[NDArray[np.floating]], truths: Sequence[Bools], limit: float = FPR_LIMIT
) -> PixelScores:
    """All three of maps (H, W) and their strange pixels, bool (H, W).

    Raises:
        BadRequest: as `aupro`, but for pictures without strange or good pixels.
    """
    values, weights, count = _pooled(maps, truths)
    strange = weights > 0
    if not strange.any() or strange.all():
        return PixelScores(None, None, None, count)
    steps = _Steps.of(values, weights)  # millions of pixels: sorted once for all three
    return PixelScores(steps.auroc(), steps.average_precision(), steps.overlap(count, limit), count)


def regions_of(truth: Bools) -> tuple[NDArray[np.int64], int]:
    """The 8-connected regions of a mask: their numbers int64 (H, W) from 1, 0 elsewhere, and how many there are."""
    from scipy import ndimage

    found: Any = ndimage.label(truth, np.ones((3, 3), np.int8))
    return found[0].astype(np.int64), int(found[1])


@dataclass(frozen=True, slots=True, eq=False)
class _Steps:
    """From the highest score down, at each distinct one: good and strange pixels at or above it, and the sum of these
    ones' weights. Float64 (t,) each."""

    good: Array
    strange: Array
    covered: Array

    @classmethod
    def of(cls, values: Array, weights: Array) -> _Steps:
        order = np.argsort(-values, kind="stable")  # (P,)
        ends = _ends(values[order])  # (t,)
        sorted_weights = weights[order]
        strange = np.cumsum(sorted_weights > 0)[ends]
        return cls((ends + 1 - strange).astype(np.float64), strange.astype(np.float64), np.cumsum(sorted_weights)[ends])

    def auroc(self) -> float:
        """The area under the steps, whose slopes count ties as one half."""
        x, y = np.concatenate([[0.0], self.good]), np.concatenate([[0.0], self.strange])
        return float((np.diff(x) * (y[1:] + y[:-1]) / 2).sum() / (x[-1] * y[-1]))

    def average_precision(self) -> float:
        precision = self.strange / (self.good + self.strange)
        return float((np.diff(self.strange, prepend=0) * precision).sum() / self.strange[-1])

    def overlap(self, count: int, limit: float) -> float:
        rate = np.concatenate([[0.0], self.good / self.good[-1]])  # (t + 1,)
        return _area(rate, np.concatenate([[0.0], self.covered / count]), limit) / limit


def _pooled(maps: Sequence[NDArray[np.floating]], truths: Sequence[Bools]) -> tuple[Array, Array, int]:
    """All pixels' scores (P,), and of each strange one 1 / the area of its region, 0 of a good one; and the number of
    regions."""
    if len(maps) != len(truths) or not maps:
        raise BadRequest(f"{len(maps)} maps and {len(truths)} masks: want one mask for each map, and at least one")
    values, weights, count = [], [], 0
    for found, truth in zip(maps, truths, strict=True):
        if found.shape != truth.shape or found.ndim != 2:
            raise BadRequest(f"map {found.shape} and mask {truth.shape}: want two of one size (H, W)")
        numbers, here = regions_of(truth)  # (H, W)
        areas = np.bincount(numbers.ravel(), minlength=here + 1).astype(np.float64)
        weight = np.where(numbers > 0, 1.0 / np.maximum(areas[numbers], 1), 0.0)  # (H, W)
        values.append(np.asarray(found, np.float64).ravel())
        weights.append(weight.ravel())
        count += here
    return np.concatenate(values), np.concatenate(weights), count


def _area(rate: Array, overlap: Array, limit: float) -> float:
    """Under the polygon, up to ``limit``; where the curve passes it between two thresholds, up to there."""
    inside = int(np.searchsorted(rate, limit, side="right"))  # points up to the limit
    x, y = rate[:inside], overlap[:inside]
    if inside < rate.size and rate[inside - 1] < limit:
        share = (limit - rate[inside - 1]) / (rate[inside] - rate[inside - 1])
        cut = overlap[inside - 1] + share * (overlap[inside] - overlap[inside - 1])
        x, y = np.append(x, limit), np.append(y, cut)
    return float((np.diff(x) * (y[1:] + y[:-1]) / 2).sum())


def _ends(ordered: Array) -> NDArray[np.int64]:
    return np.asarray(np.flatnonzero(np.append(np.diff(ordered) != 0, True)))


def _checked(scores: ArrayLike, is_strange: ArrayLike) -> tuple[Array, Bools]:
    values, strange = np.asarray(scores, np.float64), np.asarray(is_strange, np.bool_)
    if values.ndim != 1 or values.shape != strange.shape or not np.isfinite(values).all():
        raise BadRequest(f"scores {values.shape}, labels {strange.shape}: want two (n,) arrays of finite numbers")
    if not strange.any() or strange.all():
        raise BadRequest(f"{int(strange.sum())} of {strange.size} are strange: want at least one of both kinds")
    return values, strange
