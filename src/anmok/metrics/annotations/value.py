"""What all annotation formats come down to: boxes of pictures, with classes and, for detections, scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from anmok.errors import BadData, BadRequest
from anmok.geometry import Rle
from anmok.media import SUFFIXES

Mask: TypeAlias = NDArray[np.bool_] | Rle | Mapping[str, Any]  # bool (H, W), our runs, or COCO's {"size", "counts"}


@dataclass(frozen=True, eq=False, slots=True)
class Annotations:
    """Boxes of a set of pictures: ground truth, or detections where ``scores`` are there.

    ``files`` (I) names every picture, those without a box too; a name that came from a label file has no suffix.
    ``sizes_hw`` (I) is ``None`` where the format does not say. The rows (N) are in the order of the source:
    ``xyxy`` float64 (N, 4), pixels of the picture as the file numbers them, right and lower edge exclusive but for
    VOC's own files (see ``read_voc``); ``image_ids`` and ``class_ids`` int64 (N,), indices into ``files`` and
    ``classes``; ``scores`` float64 (N,); ``is_crowd`` (COCO: a region of many) and ``is_difficult`` (VOC) bool
    (N,); ``areas`` float64 (N,), square pixels, of the mask where the source says so. ``masks`` are COCO RLEs (N).
    ``dropped`` has a line for each row of the source that could not be kept.
    """

    files: tuple[str, ...]
    sizes_hw: tuple[tuple[int, int] | None, ...]
    classes: tuple[str, ...]
    xyxy: NDArray[np.float64]
    image_ids: NDArray[np.int64]
    class_ids: NDArray[np.int64]
    scores: NDArray[np.float64] | None
    is_crowd: NDArray[np.bool_]
    is_difficult: NDArray[np.bool_]
    areas: NDArray[np.float64]
    masks: tuple[dict[str, Any], ...] | None = None
    dropped: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        count = len(self.image_ids)
        rows = {"xyxy": (count, 4), "image_ids": (count,), "class_ids": (count,), "areas": (count,)}
        rows |= {"is_crowd": (count,), "is_difficult": (count,)} | ({} if self.scores is None else {"scores": (count,)})
        for name, shape in rows.items():
            array = getattr(self, name)
            if array.shape != shape:
                raise BadRequest(f"Annotations.{name}: want shape {shape}, got {array.shape}")
            if not np.isfinite(array).all():
                raise BadRequest(f"Annotations.{name}: not a number among the values")
            array = array.copy()
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        if len(self.sizes_hw) != len(self.files) or (self.masks is not None and len(self.masks) != count):
            raise BadRequest("Annotations: one size per picture and one mask per row")
        for name, ids, limit in (("image", self.image_ids, self.files), ("class", self.class_ids, self.classes)):
            if count and not (ids.min() >= 0 and ids.max() < len(limit)):
                raise BadRequest(f"Annotations.{name}_ids: want indices below {len(limit)}")

    def __len__(self) -> int:
        return len(self.image_ids)

    def to_dict(self) -> dict[str, Any]:
        """Plain values: the pictures, and the rows with their names spelled out."""
        rows = [
            {"file": self.files[image], "label": self.classes[kind], "xyxy": box}
            for image, kind, box in zip(self.image_ids, self.class_ids, self.xyxy.tolist(), strict=True)
        ]
        for name, values in (("score", self.scores), ("mask", self.masks)):
            if values is not None:
                for row, value in zip(rows, values, strict=True):
                    row[name] = value if isinstance(value, dict) else float(value)
        return {"files": list(self.files), "classes": list(self.classes), "rows": rows, "dropped": list(self.dropped)}


class Row(NamedTuple):
    """One box as a reader found it: the label, corners in pixels, and what else the format says."""

    label: str
    xyxy: tuple[float, float, float, float]
    score: float | None = None
    is_crowd: bool = False
    is_difficult: bool = False
    area: float | None = None
    mask: dict[str, Any] | None = None


@dataclass(slots=True)
class Builder:
    """Collects what a reader finds, and refuses or lists what makes no sense."""

    labels: list[str] = field(default_factory=list)  # in the order that the format gives; else sorted at the end
    is_ordered: bool = False
    _images: dict[str, int] = field(default_factory=dict)
    _sizes: list[tuple[int, int] | None] = field(default_factory=list)
    _rows: list[tuple[int, Row]] = field(default_factory=list)
    _dropped: list[str] = field(default_factory=list)

    def picture(self, where: str, file: str, size_hw: tuple[int, int] | None) -> int:
        """A new picture, and its index.

        Raises:
            BadData: the name is empty or there twice, or the size is not positive.
        """
        if not file or file in self._images:
            raise BadData(f"{where}: picture {file!r} is " + ("there twice" if file else "a name without letters"))
        if size_hw is not None and min(size_hw) < 1:
            raise BadData(f"{where}: picture of {size_hw[1]} x {size_hw[0]} pixels; want at least one")
        self._images[file] = len(self._sizes)
        self._sizes.append(size_hw)
        return self._images[file]

    def size_of(self, image: int) -> tuple[int, int] | None:
        """(height, width) of a picture that was added."""
        return self._sizes[image]

    def add(self, where: str, image: int, row: Row) -> None:
        """One box of a picture. True boxes without area are left out and listed; detections keep theirs.

        Raises:
            BadData: coordinates or a score that are not finite, or a detection turned inside out.
        """
        x1, y1, x2, y2 = row.xyxy
        if not np.isfinite([*row.xyxy, row.score or 0.0, row.area or 0.0]).all():
            raise BadData(f"{where}: a coordinate or score of {row.label!r} is not a finite number")
        if row.score is not None and (x2 < x1 or y2 < y1):
            raise BadData(f"{where}: box ({x1:g}, {y1:g}, {x2:g}, {y2:g}) ends before it starts; is it xywh?")
        if row.score is None and (x2 <= x1 or y2 <= y1):
            self.drop(f"{where}: {row.label!r} without area: ({x1:g}, {y1:g}, {x2:g}, {y2:g})")
            return
        self._rows.append((image, row))

    def drop(self, line: str) -> None:
        """Note something that was left out."""
        self._dropped.append(line)

    def done(self) -> Annotations:
        """The value.

        Raises:
            BadData: two classes share a name, or some rows have a score, or a mask, and some have none.
        """
        rows = [row for _, row in self._rows]
        seen = {row.label for row in rows}
        classes = self.labels if self.is_ordered else sorted(seen | set(self.labels))
        number = {label: i for i, label in enumerate(classes)}
        if len(number) < len(classes):
            raise BadData(f"annotations: two classes are called {max(classes, key=classes.count)!r}")
        xyxy = np.array([row.xyxy for row in rows], np.float64).reshape(-1, 4)  # (N, 4)
        sides = xyxy[:, 2:] - xyxy[:, :2]
        areas = [np.nan if row.area is None else row.area for row in rows]
        return Annotations(
            files=tuple(self._images),
            sizes_hw=tuple(self._sizes),
            classes=tuple(classes),
            xyxy=xyxy,
            image_ids=np.array([image for image, _ in self._rows], np.int64),
            class_ids=np.array([number[row.label] for row in rows], np.int64),
            scores=np.array(scores, np.float64) if (scores := _all_or_none("score", rows)) else None,
            is_crowd=np.array([row.is_crowd for row in rows], np.bool_),
            is_difficult=np.array([row.is_difficult for row in rows], np.bool_),
            areas=np.where(np.isnan(areas), sides.prod(1), areas) if rows else np.zeros(0),
            masks=tuple(masks) if (masks := _all_or_none("mask", rows)) else None,
            dropped=tuple(self._dropped),
        )


def from_images(
    files: Sequence[str],
    classes: Sequence[str],
    boxes: Sequence[NDArray[np.floating]],
    class_ids: Sequence[NDArray[np.integer]],
    scores: Sequence[NDArray[np.floating]] | None = None,
    sizes_hw: Sequence[tuple[int, int] | None] | None = None,
    masks: Sequence[Sequence[Mask]] | None = None,
) -> Annotations:
    """Annotations from one array per picture: what models and loops have at hand.

    Args:
        files: names of the pictures (I).
        classes: names that ``class_ids`` index.
        boxes: xyxy (n, 4) per picture, pixels.
        class_ids: integers (n,) per picture.
        scores: (n,) per picture; ``None`` for ground truth.
        sizes_hw: sizes of the pictures, which masks and relative formats need.
        masks: n masks per picture.

    Raises:
        BadRequest: the arrays do not fit each other, or a box is turned inside out.
    """
    counts = [len(one) for one in boxes]
    columns = [class_ids, *(column for column in (scores, masks) if column is not None)]
    if len(counts) != len(files) or any([len(one) for one in column] != counts for column in columns):
        raise BadRequest("annotations: want one array per picture, and as many ids, scores and masks as boxes")
    xyxy = np.concatenate([np.zeros((0, 4)), *(np.asarray(one, np.float64).reshape(-1, 4) for one in boxes)])
    if (xyxy[:, 2:] < xyxy[:, :2]).any():
        raise BadRequest("annotations: a box ends before it starts; want xyxy, the corners")
    runs = None if masks is None else tuple(coco_rle(mask) for image in masks for mask in image)
    return Annotations(
        files=tuple(files),
        sizes_hw=tuple(sizes_hw) if sizes_hw is not None else (None,) * len(files),
        classes=tuple(classes),
        xyxy=xyxy,
        image_ids=np.repeat(np.arange(len(files)), counts),
        class_ids=_joined(class_ids, np.int64),
        scores=None if scores is None else _joined(scores, np.float64),
        is_crowd=np.zeros(len(xyxy), np.bool_),
        is_difficult=np.zeros(len(xyxy), np.bool_),
        areas=np.maximum(xyxy[:, 2:] - xyxy[:, :2], 0).prod(1)
        if runs is None
        else np.array([Rle.from_coco(one).area for one in runs], np.float64),
        masks=runs,
    )


def coco_rle(mask: Mask) -> dict[str, Any]:
    """Any form of a mask as ``{"size": [H, W], "counts": ...}``.

    Raises:
        BadRequest: neither bool (H, W) nor runs.
    """
    if isinstance(mask, Mapping):
        return dict(mask)
    return (mask if isinstance(mask, Rle) else Rle.of(mask)).to_coco()


def bool_mask(mask: Mask) -> NDArray[np.bool_]:
    """Any form of a mask as bool (H, W).

    Raises:
        BadRequest: neither bool (H, W) nor runs.
    """
    if isinstance(mask, Rle):
        return mask.mask()
    if isinstance(mask, Mapping):
        return Rle.from_coco(dict(mask)).mask()
    if mask.ndim != 2 or mask.dtype != np.bool_:
        raise BadRequest(f"mask: want bool (H, W), got {mask.dtype} {mask.shape}; write mask > 0")
    return mask


def picture_key(file: str) -> str:
    """What names one picture in all formats: its path without the suffix of a picture, with forward slashes."""
    path = PurePosixPath(file.replace("\\", "/"))
    return str(path.with_suffix("")) if path.suffix.lower() in SUFFIXES else str(path)


def _all_or_none(name: str, rows: Sequence[Row]) -> list[Any] | None:
    values = [getattr(row, name) for row in rows]
    have = sum(value is not None for value in values)
    if have not in (0, len(values)):
        raise BadData(f"annotations: {have} of {len(values)} rows have a {name}; give all of them one, or none")
    return values if have else None


def _joined(parts: Sequence[NDArray[Any]], dtype: type) -> NDArray[Any]:
    return np.concatenate([np.zeros(0, dtype), *(np.asarray(part, dtype).reshape(-1) for part in parts)]).astype(dtype)
