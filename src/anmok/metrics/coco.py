"""COCO's average precision and recall for boxes and masks, computed by faster-coco-eval."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from anmok.errors import BadData, BadRequest, MissingDependency
from anmok.metrics.annotations.value import Annotations
from anmok.metrics.pairing import Paired, paired

_AREAS = {"all": 0, "small": 1, "medium": 2, "large": 3}  # up to 32 x 32 pixels, up to 96 x 96, above
_LIMITS = {1: 0, 10: 1, 100: 2}  # detections per picture and class that count
_AT_50, _AT_75 = 0, 5  # among the thresholds 0.50, 0.55 ... 0.95


@dataclass(frozen=True, slots=True)
class ClassScores:
    """One class of ``CocoScores``; ``None`` where the ground truth has no such object."""

    ap: float | None
    ap50: float | None
    ap75: float | None
    ar100: float | None


@dataclass(frozen=True, slots=True)
class CocoScores:
    """COCO's twelve numbers, from 0 to 1; ``None`` where the ground truth has no object of that size.

    ``ap`` is the mean over the IoU thresholds 0.50, 0.55 ... 0.95 and over the classes. ``ar1``, ``ar10`` and
    ``ar100`` are the mean recall with that many detections per picture and class. ``unknown_classes`` were detected,
    but the ground truth does not have them: they do not count.
    """

    kind: Literal["boxes", "masks"]
    ap: float | None
    ap50: float | None
    ap75: float | None
    ap_small: float | None
    ap_medium: float | None
    ap_large: float | None
    ar1: float | None
    ar10: float | None
    ar100: float | None
    ar_small: float | None
    ar_medium: float | None
    ar_large: float | None
    per_class: Mapping[str, ClassScores]
    unknown_classes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def coco_ap(truth: Annotations, found: Annotations, kind: Literal["boxes", "masks"] = "boxes") -> CocoScores:
    """COCO's evaluation of detections.

    A box of a crowd takes any number of detections without counting them; VOC's "difficult" counts as any other.
    Equal scores are ranked in the order of the pictures, and within a picture in that of the detections.

    Args:
        truth: the boxes, or masks, that are there.
        found: the detections with scores.
        kind: what is compared.

    Raises:
        BadData: pictures that do not fit each other, or masks asked for and not there.
        BadRequest: detections without scores.
        MissingDependency: faster-coco-eval is not installed.

    Source: Lin et al., "Microsoft COCO: Common Objects in Context" (ECCV 2014), and cocoapi's cocoeval.py.
    """
    if kind not in ("boxes", "masks"):
        raise BadRequest(f"kind {kind!r}: want boxes or masks")
    library = evaluator()
    pairs = paired(truth, found)
    if kind == "masks" and ((truth.masks is None and len(truth)) or (found.masks is None and len(found))):
        raise BadData("masks: the ground truth and the detections both need them; read them with masks=True")
    if kind == "masks":
        _check_sizes(truth, found, pairs)
    gt = library.COCO(_truth(truth, kind))
    dt = gt.loadRes(_found(found, pairs, kind))
    run = library.COCOeval_faster(gt, dt, iouType="bbox" if kind == "boxes" else "segm", print_function=_silent)
    run.evaluate()
    run.accumulate()
    precision, recall = run.eval["precision"], run.eval["recall"]  # (T, R, K, A, M) and (T, K, A, M)
    return CocoScores(
        kind,
        ap=mean(precision[:, :, :, 0, 2]),
        ap50=mean(precision[_AT_50, :, :, 0, 2]),
        ap75=mean(precision[_AT_75, :, :, 0, 2]),
        **{f"ap_{name}": mean(precision[:, :, :, area, 2]) for name, area in _AREAS.items() if area},
        **{f"ar{limit}": mean(recall[:, :, 0, column]) for limit, column in _LIMITS.items()},
        **{f"ar_{name}": mean(recall[:, :, area, 2]) for name, area in _AREAS.items() if area},
        per_class={
            label: ClassScores(
                mean(precision[:, :, i, 0, 2]),
                mean(precision[_AT_50, :, i, 0, 2]),
                mean(precision[_AT_75, :, i, 0, 2]),
                mean(recall[:, i, 0, 2]),
            )
            for i, label in enumerate(truth.classes)
        },
        unknown_classes=pairs.unknown_classes,
    )


def evaluator() -> Any:
    """faster-coco-eval, or the sentence that installs it.

    Raises:
        MissingDependency: it is not installed.
    """
    try:
        import faster_coco_eval
    except ImportError:
        raise MissingDependency("COCO's evaluation needs faster-coco-eval: pip install 'anmok[spatial]'") from None
    return faster_coco_eval


def mean(cells: NDArray[np.float64]) -> float | None:
    """Of the cells that are defined; COCO marks the others with -1."""
    defined = np.atleast_1d(cells)[np.atleast_1d(cells) > -1]
    return float(defined.mean()) if defined.size else None


def _truth(truth: Annotations, kind: str) -> dict[str, Any]:
    boxes = _xywh(truth)
    rows: list[dict[str, Any]] = [
        {
            "id": i + 1,  # 0 would mean "unmatched"
            "image_id": int(truth.image_ids[i]) + 1,
            "category_id": int(truth.class_ids[i]) + 1,
            "bbox": boxes[i],
            "area": float(truth.areas[i]),
            "iscrowd": int(truth.is_crowd[i]),
        }
        for i in range(len(truth))
    ]
    if kind == "masks" and truth.masks is not None:
        for row, mask in zip(rows, truth.masks, strict=True):
            row["segmentation"] = mask
    sizes = [size or (1, 1) for size in truth.sizes_hw]  # of no account for boxes
    if kind == "masks":
        sizes = _mask_sizes(truth)
    return {
        "images": [{"id": i + 1, "height": height, "width": width} for i, (height, width) in enumerate(sizes)],
        "annotations": rows,
        "categories": [{"id": i + 1, "name": name} for i, name in enumerate(truth.classes)],
    }


def _found(found: Annotations, pairs: Paired, kind: str) -> list[dict[str, Any]]:
    boxes = _xywh(found)
    rows: list[dict[str, Any]] = []
    for i, row in enumerate(pairs.rows.tolist()):
        one: dict[str, Any] = {
            "image_id": int(pairs.image_ids[i]) + 1,
            "category_id": int(pairs.class_ids[i]) + 1,
            "score": float(pairs.scores[i]),
        }
        # With a box beside the mask its area would be taken for that of the mask.
        if kind == "masks" and found.masks is not None:
            one["segmentation"] = found.masks[row]
        else:
            one["bbox"] = boxes[row]
        rows.append(one)
    return rows


def _xywh(annotations: Annotations) -> list[list[float]]:
    xyxy = annotations.xyxy
    rows: list[list[float]] = np.concatenate([xyxy[:, :2], xyxy[:, 2:] - xyxy[:, :2]], axis=1).tolist()
    return rows


def _mask_sizes(truth: Annotations) -> list[tuple[int, int]]:
    """Of the pictures, or of their masks where the pictures do not say."""
    sizes = [size or (1, 1) for size in truth.sizes_hw]
    for image, mask in zip(truth.image_ids.tolist(), truth.masks or (), strict=True):
        sizes[image] = mask["size"][0], mask["size"][1]
    return sizes


def _check_sizes(truth: Annotations, found: Annotations, pairs: Paired) -> None:
    """Masks of two sizes share no pixel, and the library would say so without a word."""
    if truth.masks is None or found.masks is None:
        return
    sizes = {image: mask["size"] for image, mask in zip(truth.image_ids.tolist(), truth.masks, strict=True)}
    for image, row in zip(pairs.image_ids.tolist(), pairs.rows.tolist(), strict=True):
        ours, theirs = found.masks[row]["size"], sizes.get(image, found.masks[row]["size"])
        if list(ours) != list(theirs):
            raise BadData(f"{truth.files[image]}: true masks of {list(theirs)}, found ones of {list(ours)} (H, W)")


def _silent(*_: object) -> None:
    """The library tells its steps; we answer with a value."""
