"""Which patches belong to the thing in the picture and which to the ground that it lies on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Bools = NDArray[np.bool_]

_SMALLEST, _LARGEST = 0.1, 0.9  # of a picture: a thing beyond these fills it, or is not one
_EDGE_LEAST = 0.7  # of the patches on the frame must be ground
_BINS = 256


@dataclass(frozen=True, slots=True, eq=False)
class Foreground:
    """A direction in the space of patches, and where along it the thing begins.

    ``centre`` (D,) and ``axis`` (D,): a patch is of the thing where (patch - centre) @ axis > ``cut``.
    """

    centre: Array
    axis: Array
    cut: float

    def mask(self, patches: Array) -> Bools:
        """Patches (h, w, D) to bool (h, w), one patch wider on every side: what sticks out of a thing is of it."""
        inside = (patches - self.centre) @ self.axis > self.cut  # (h, w)
        if not inside.any():
            return np.ones(inside.shape, np.bool_)  # a picture of nothing we know: look at all of it
        return _wider(inside)


def foreground(pictures: Sequence[Array]) -> Foreground | None:
    """From the patches (h, w, D) of good pictures; ``None`` where there is no ground to tell from a thing.

    The first principal component of the patches, cut where the two halves of its histogram differ most (Otsu). The
    side that lies less on the frame of the pictures is the thing. It counts only where it covers 10 to 90 % of the
    pictures and 70 % of the patches on their frames are ground: a texture fills its picture.

    Source: the masking of AnomalyDINO (Damm et al., WACV 2025), after Oquab et al., "DINOv2" (TMLR 2024). There the
    component is found anew in each picture and cut at a fixed value that suits DINOv2; here it is found once, on the
    good pictures, so that a defect cannot move it.
    """
    rows = np.concatenate([one.reshape(-1, one.shape[-1]) for one in pictures])  # (n, D)
    centre = rows.mean(0)  # (D,)
    centred = (rows - centre).astype(np.float64)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    axis = vectors[:, -1].astype(np.float32)  # (D,)
    along = centred @ axis  # (n,)
    cut = _otsu(along)
    maps = [((one - centre) @ axis).astype(np.float64) > cut for one in pictures]  # (h, w) each
    frame = np.concatenate([_frame(one) for one in maps])
    if frame.mean() > 0.5:
        axis, cut = -axis, -cut
        maps, frame = [~one for one in maps], ~frame
    covered = float(np.mean([one.mean() for one in maps]))
    if not _SMALLEST <= covered <= _LARGEST or 1 - frame.mean() < _EDGE_LEAST:
        return None
    return Foreground(centre.astype(np.float32), axis, float(cut))


def _otsu(values: NDArray[np.float64]) -> float:
    """The cut with the largest variance between its two sides (Otsu, 1979)."""
    counts, edges = np.histogram(values, _BINS)
    middles = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)[:-1].astype(np.float64)  # (bins - 1,)
    above = counts.sum() - below
    sums = np.cumsum(counts * middles)
    means = sums[:-1] / np.maximum(below, 1), (sums[-1] - sums[:-1]) / np.maximum(above, 1)
    between = below * above * (means[0] - means[1]) ** 2
    return float(edges[1 + int(between.argmax())])


def _frame(mask: Bools) -> Bools:
    return np.concatenate([mask[0], mask[-1], mask[1:-1, 0], mask[1:-1, -1]])


def _wider(mask: Bools) -> Bools:
    grown = np.pad(mask, 1)
    rows = grown[:-2] | grown[1:-1] | grown[2:]  # (h, w + 2)
    return np.asarray(rows[:, :-2] | rows[:, 1:-1] | rows[:, 2:])
