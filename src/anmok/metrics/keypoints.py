"""Keypoints: the share of correct ones (PCK), object keypoint similarity (OKS), and COCO's AP over it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anmok.errors import BadRequest
from anmok.metrics.coco import evaluator, mean

Floats = NDArray[np.floating]
# How far annotators differ, in shares of the object's size, for COCO's 17 keypoints from nose to right ankle.
# Source: cocodataset.org, keypoint evaluation.
_HEAD, _ARMS, _LEGS = (0.026, 0.025, 0.025, 0.035, 0.035), (0.079, 0.072, 0.062), (0.107, 0.087, 0.089)
COCO_SIGMAS = (*_HEAD, *(sigma for pair in zip(_ARMS + _LEGS, _ARMS + _LEGS, strict=True) for sigma in pair))
_EPSILON = float(np.spacing(1))  # keeps an area of 0 from dividing


@dataclass(frozen=True, eq=False, slots=True)
class People:
    """The true people of one picture.

    ``keypoints`` (N, K, 3): x, y in pixels, and 0 not labelled, 1 labelled but hidden, 2 visible. ``xyxy`` (N, 4) and
    ``areas`` (N,), square pixels, of the person, which decide how far a keypoint may be off. ``is_crowd`` bool (N,).
    """

    keypoints: Floats
    xyxy: Floats
    areas: Floats
    is_crowd: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        count = len(self.keypoints)
        is_sound = self.keypoints.ndim == 3 and self.keypoints.shape[2] == 3 and self.areas.shape == (count,)
        if not is_sound or self.xyxy.shape != (count, 4):
            shapes = self.keypoints.shape, self.xyxy.shape, self.areas.shape
            raise BadRequest(f"People: want (N, K, 3), (N, 4) and (N,), got {shapes}")


@dataclass(frozen=True, eq=False, slots=True)
class Poses:
    """The found people of one picture: ``keypoints`` (M, K, 2) in pixels, ``scores`` (M,).

    Of a ``Keypoints`` result: ``Poses(people.xy, people.box_scores)``.
    """

    keypoints: Floats
    scores: Floats

    def __post_init__(self) -> None:
        shape = self.keypoints.shape
        if len(shape) != 3 or shape[2] != 2 or self.scores.shape != shape[:1]:
            raise BadRequest(f"Poses: want (M, K, 2) and (M,), got {shape} and {self.scores.shape}")
        if not (np.isfinite(self.keypoints).all() and np.isfinite(self.scores).all()):
            raise BadRequest("Poses: not a number among the values")


@dataclass(frozen=True, slots=True)
class KeypointScores:
    """COCO's ten numbers for keypoints, from 0 to 1; ``None`` where the truth has nobody of that size.

    Means over the OKS thresholds 0.50, 0.55 ... 0.95 with twenty people per picture; medium is 32 x 32 to 96 x 96
    pixels.
    """

    ap: float | None
    ap50: float | None
    ap75: float | None
    ap_medium: float | None
    ap_large: float | None
    ar: float | None
    ar50: float | None
    ar75: float | None
    ar_medium: float | None
    ar_large: float | None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class PckScores:
    """``pooled`` is the share over all labelled points, ``per_keypoint`` (K) over those of one kind (``None`` where
    none is labelled), ``mean`` the mean of the latter."""

    alpha: float
    pooled: float | None
    mean: float | None
    per_keypoint: tuple[float | None, ...]
    points: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"per_keypoint": list(self.per_keypoint)}


def pck(found: Floats, truth: Floats, labelled: NDArray[np.bool_], sizes: Floats, alpha: float = 0.2) -> PckScores:
    """The share of keypoints that lie within ``alpha`` times the size of their object from the true place.

    Args:
        found: (N, K, 2), pixels.
        truth: (N, K, 2), pixels.
        labelled: bool (N, K): points that have a true place.
        sizes: (N,), pixels: ``box_sizes`` for PCK, ``head_sizes`` for PCKh.
        alpha: 0.2 is usual for boxes, 0.5 for heads.

    Raises:
        BadRequest: arrays that do not fit each other, or a size that is not positive.

    Source: Yang and Ramanan, "Articulated Human Detection with Flexible Mixtures of Parts" (TPAMI 2013); Andriluka et
    al., "2D Human Pose Estimation: New Benchmark and State of the Art Analysis" (CVPR 2014), PCKh.
    """
    shape = truth.shape
    if (
        len(shape) != 3
        or shape[2] != 2
        or found.shape != shape
        or labelled.shape != shape[:2]
        or len(sizes) != shape[0]
    ):
        shapes = found.shape, shape, labelled.shape, sizes.shape
        raise BadRequest(f"pck: want (N, K, 2), (N, K, 2), (N, K) and (N,), got {shapes}")
    if not (np.asarray(sizes) > 0).all() or alpha <= 0:
        raise BadRequest("pck: sizes and alpha must be above 0")
    far = np.linalg.norm(np.where(labelled[..., None], found - truth, 0), axis=-1)  # (N, K)
    if not np.isfinite(far).all():
        raise BadRequest("pck: not a number among the labelled points")
    right = labelled & (far <= alpha * sizes[:, None])
    counts, hits = labelled.sum(0), right.sum(0)  # (K,)
    shares = [float(hit / count) if count else None for hit, count in zip(hits, counts, strict=True)]
    known = [share for share in shares if share is not None]
    total = int(counts.sum())
    pooled = int(hits.sum()) / total if total else None
    return PckScores(alpha, pooled, float(np.mean(known)) if known else None, tuple(shares), total)


def box_sizes(xyxy: Floats) -> Floats:
    """The longer side of each box (N, 4): (N,)."""
    return np.asarray((xyxy[:, 2:] - xyxy[:, :2]).max(1))


def head_sizes(xyxy: Floats) -> Floats:
    """0.6 times the diagonal of each head box (N, 4): (N,), as MPII has it."""
    return np.asarray(0.6 * np.linalg.norm(xyxy[:, 2:] - xyxy[:, :2], axis=1))


def oks(truth: People, found: Floats, sigmas: Sequence[float] = COCO_SIGMAS) -> NDArray[np.float64]:
    """Object keypoint similarity of every found pose (M, K, 2) with every true one: (M, N), from 0 to 1.

    The mean over the labelled keypoints of exp(-d^2 / (2 area (2 sigma)^2)). For a person without labelled keypoints
    d is how far a point lies outside of the box made three times as wide and high, as COCO does.

    Raises:
        BadRequest: arrays that do not fit each other.
    """
    kinds = truth.keypoints.shape[1]
    if found.ndim != 3 or found.shape[1:] != (kinds, 2) or len(sigmas) != kinds:
        raise BadRequest(f"oks: {kinds} true keypoints, found {found.shape}, {len(sigmas)} sigmas")
    visible = np.asarray(truth.keypoints[:, :, 2] > 0)  # (N, K)
    offset = found[:, None] - truth.keypoints[None, :, :, :2]  # (M, N, K, 2)
    low, high = truth.xyxy[:, None, :2], truth.xyxy[:, None, 2:]  # (N, 1, 2)
    outside = np.maximum(2 * low - high - found[:, None], 0) + np.maximum(found[:, None] - 2 * high + low, 0)
    is_bare = np.asarray(~visible.any(1))  # (N,)
    squared = (np.where(is_bare[:, None, None], outside, offset) ** 2).sum(-1)  # (M, N, K)
    spread = (2 * np.asarray(sigmas)) ** 2 * 2 * (truth.areas[:, None] + _EPSILON)  # (N, K)
    counts = visible | is_bare[:, None]
    near = np.where(counts, np.exp(-squared / spread), 0).sum(-1)  # (M, N)
    return np.asarray(near / np.maximum(counts.sum(-1), 1), np.float64)


def keypoint_ap(
    truth: Sequence[People], found: Sequence[Poses], sigmas: Sequence[float] = COCO_SIGMAS
) -> KeypointScores:
    """COCO's evaluation of keypoints, by faster-coco-eval.

    Args:
        truth: the people of each picture.
        found: the poses of each picture, in the same order.
        sigmas: one per keypoint.

    Raises:
        BadRequest: not as many pictures, or not as many keypoints.
        MissingDependency: faster-coco-eval is not installed.
    """
    if len(truth) != len(found):
        raise BadRequest(f"keypoints: {len(truth)} true pictures, {len(found)} found; want the same")
    kinds = {one.keypoints.shape[1] for one in truth} | {one.keypoints.shape[1] for one in found}
    if kinds - {len(sigmas)}:
        raise BadRequest(f"keypoints: {sorted(kinds)} keypoints and {len(sigmas)} sigmas; want the same")
    library = evaluator()
    rows = [row for i, people in enumerate(truth, 1) for row in _people(i, people)]
    if not rows:
        return KeypointScores(*[None] * 10)
    for i, row in enumerate(rows, 1):
        row["id"] = i  # 0 would mean "unmatched"
    images = [{"id": i, "height": 1, "width": 1} for i in range(1, len(truth) + 1)]
    gt = library.COCO({"images": images, "annotations": rows, "categories": [{"id": 1, "name": "person"}]})
    dt = gt.loadRes([row for i, poses in enumerate(found, 1) for row in _poses(i, poses)])
    run = library.COCOeval_faster(
        gt, dt, iouType="keypoints", print_function=_silent, kpt_oks_sigmas=np.asarray(sigmas, np.float64)
    )
    run.evaluate()
    run.accumulate()
    cells = [run.eval["precision"][..., 0, :, 0], run.eval["recall"][..., 0, :, 0]]  # (T, R, A) and (T, A)
    return KeypointScores(*(value for one in cells for value in _five(one)))


def _five(cells: NDArray[np.float64]) -> list[float | None]:
    """Over all thresholds, at 0.50, at 0.75, of the medium ones, of the large ones."""
    everyone = cells[..., 0]
    return [mean(everyone), mean(everyone[0]), mean(everyone[5]), mean(cells[..., 1]), mean(cells[..., 2])]


def _people(image: int, people: People) -> list[dict[str, Any]]:
    crowd = people.is_crowd if people.is_crowd is not None else np.zeros(len(people.areas), np.bool_)
    return [
        {
            "image_id": image,
            "category_id": 1,
            "keypoints": points.reshape(-1).astype(np.float64).tolist(),
            "num_keypoints": int(np.count_nonzero(points[:, 2] > 0)),
            "bbox": [*box[:2], *(box[2] - box[0], box[3] - box[1])],
            "area": area,
            "iscrowd": int(is_crowd),
        }
        for points, box, area, is_crowd in zip(
            people.keypoints,
            people.xyxy.astype(float).tolist(),
            people.areas.astype(float).tolist(),
            crowd,
            strict=True,
        )
    ]


def _poses(image: int, poses: Poses) -> list[dict[str, Any]]:
    flat = np.concatenate([poses.keypoints, np.ones((*poses.keypoints.shape[:2], 1))], axis=2)  # (M, K, 3)
    return [
        {"image_id": image, "category_id": 1, "keypoints": row.reshape(-1).tolist(), "score": float(score)}
        for row, score in zip(flat, poses.scores, strict=True)
    ]


def _silent(*_: object) -> None:
    """The library tells its steps; we answer with a value."""
