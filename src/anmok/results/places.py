"""Things with a place in the picture: boxes, points and masks, in the pixels of the caller's picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anmok.errors import BadRequest, MissingDependency
from anmok.geometry import Rle
from anmok.results.basic import Result, frozen

Indices = NDArray[np.integer] | NDArray[np.bool_] | Sequence[int]


@dataclass(frozen=True, eq=False, slots=True)
class Detections(Result):
    """Boxes, best score first.

    ``xyxy`` is float32 (N, 4): left, top, right, bottom in pixels of the caller's picture, inside it. ``scores`` is
    float32 (N,) in [0, 1]; ``class_ids`` int64 (N,) counts in ``labels``, which are the caller's own where the ask
    gave some and the model's otherwise. ``read_as`` is what the text tower was given for each label.
    """

    xyxy: NDArray[np.float32]
    scores: NDArray[np.float32]
    class_ids: NDArray[np.int64]
    labels: tuple[str, ...]
    size_hw: tuple[int, int]
    read_as: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        count = len(self.scores)
        object.__setattr__(self, "xyxy", frozen(self.xyxy, (count, 4), "Detections.xyxy"))
        object.__setattr__(self, "scores", frozen(self.scores, (count,), "Detections.scores"))
        object.__setattr__(
            self, "class_ids", checked_ids(self.class_ids, count, len(self.labels), 0 if self.labels else -1)
        )
        check_boxes(self.xyxy, self.size_hw)
        check_reading(self.labels, self.read_as)

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, keep: Indices) -> Detections:
        """Those of an index array or a mask (N,)."""
        index = _index(keep)
        parts = self.xyxy[index], self.scores[index], self.class_ids[index]
        return Detections(*parts, self.labels, self.size_hw, self.read_as)

    @classmethod
    def none(cls, labels: tuple[str, ...], size_hw: tuple[int, int], read_as: tuple[str, ...] = ()) -> Detections:
        """Nothing found."""
        empty = np.zeros(0, np.float32)
        return cls(np.zeros((0, 4), np.float32), empty, np.zeros(0, np.int64), labels, size_hw, read_as)

    @property
    def names(self) -> tuple[str, ...]:
        """The label of each box (N); empty text where it has none."""
        return tuple(self.labels[i] if i >= 0 else "" for i in self.class_ids)

    def to_dict(self) -> dict[str, Any]:
        rows = zip(self.names, self.scores.tolist(), self.xyxy.tolist(), strict=True)
        answer: dict[str, Any] = {
            "size": list(self.size_hw),
            "detections": [{"label": label, "score": score, "box": box} for label, score, box in rows],
        }
        return answer | reading(self.labels, self.read_as)

    def to_supervision(self) -> Any:
        """As ``supervision.Detections``.

        Raises:
            MissingDependency: supervision is not installed.
        """
        return _supervision().Detections(
            xyxy=self.xyxy.copy(),
            confidence=self.scores.copy(),
            class_id=self.class_ids.astype(int),
            data={"class_name": np.asarray(self.names, dtype=object)},
        )


@dataclass(frozen=True, eq=False, slots=True)
class Points(Result):
    """The middle of each thing, best score first.

    ``xy`` is float32 (N, 2): x and y in pixels of the caller's picture, inside it. ``scores`` is float32 (N,) in
    [0, 1]; ``class_ids`` int64 (N,) counts in ``labels``, which are the caller's own. ``read_as`` is what the model
    was given for each label.

    Raises:
        BadRequest: shapes that do not go together, a point outside the picture, or a number that is no label's.
    """

    xy: NDArray[np.float32]
    scores: NDArray[np.float32]
    class_ids: NDArray[np.int64]
    labels: tuple[str, ...]
    size_hw: tuple[int, int]
    read_as: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        count = len(self.scores)
        object.__setattr__(self, "xy", frozen(self.xy, (count, 2), "Points.xy"))
        object.__setattr__(self, "scores", frozen(self.scores, (count,), "Points.scores"))
        object.__setattr__(self, "class_ids", checked_ids(self.class_ids, count, len(self.labels), 0))
        check_points(self.xy, self.size_hw, "Points.xy")
        check_reading(self.labels, self.read_as)

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, keep: Indices) -> Points:
        """Those of an index array or a mask (N,)."""
        index = _index(keep)
        parts = self.xy[index], self.scores[index], self.class_ids[index]
        return Points(*parts, self.labels, self.size_hw, self.read_as)

    @classmethod
    def none(cls, labels: tuple[str, ...], size_hw: tuple[int, int], read_as: tuple[str, ...] = ()) -> Points:
        """Nothing found."""
        empty = np.zeros(0, np.float32)
        return cls(np.zeros((0, 2), np.float32), empty, np.zeros(0, np.int64), labels, size_hw, read_as)

    @property
    def names(self) -> tuple[str, ...]:
        """The label of each point (N)."""
        return tuple(self.labels[i] for i in self.class_ids)

    def to_dict(self) -> dict[str, Any]:
        rows = zip(self.names, self.scores.tolist(), self.xy.tolist(), strict=True)
        answer: dict[str, Any] = {
            "size": list(self.size_hw),
            "points": [{"label": label, "score": score, "point": point} for label, score, point in rows],
        }
        return answer | reading(self.labels, self.read_as)


@dataclass(frozen=True, eq=False, slots=True)
class Masks(Result):
    """Binary masks as runs: best score first, or box after box where boxes were given.

    ``rles`` are N masks of the caller's picture; ``scores`` float32 (N,) in [0, 1] is the model's own estimate (of
    the mask's IoU, or of the label); ``class_ids`` int64 (N,) counts in ``labels``, and is -1 for a mask without a
    name.
    """

    rles: tuple[Rle, ...]
    scores: NDArray[np.float32]
    class_ids: NDArray[np.int64]
    labels: tuple[str, ...]
    size_hw: tuple[int, int]
    read_as: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        count = len(self.rles)
        object.__setattr__(self, "scores", frozen(self.scores, (count,), "Masks.scores"))
        object.__setattr__(self, "class_ids", checked_ids(self.class_ids, count, len(self.labels)))
        if any(one.size_hw != self.size_hw for one in self.rles):
            raise BadRequest(f"Masks.rles: all want the picture's size {self.size_hw}")
        check_reading(self.labels, self.read_as)

    def __len__(self) -> int:
        return len(self.rles)

    def __getitem__(self, keep: Indices) -> Masks:
        """Those of an index array or a mask (N,)."""
        index = np.asarray(keep)
        index = np.flatnonzero(index) if index.dtype == np.bool_ else index.astype(np.int64)
        rles = tuple(self.rles[i] for i in index)
        return Masks(rles, self.scores[index], self.class_ids[index], self.labels, self.size_hw, self.read_as)

    @classmethod
    def none(cls, labels: tuple[str, ...], size_hw: tuple[int, int], read_as: tuple[str, ...] = ()) -> Masks:
        """Nothing found."""
        return cls((), np.zeros(0, np.float32), np.zeros(0, np.int64), labels, size_hw, read_as)

    @property
    def xyxy(self) -> NDArray[np.float32]:
        """The box around each mask, float32 (N, 4)."""
        return np.asarray([one.xyxy for one in self.rles], np.float32).reshape(-1, 4)

    @property
    def names(self) -> tuple[str, ...]:
        """The label of each mask (N); empty text where it has none."""
        return tuple(self.labels[i] if i >= 0 else "" for i in self.class_ids)

    def dense(self) -> NDArray[np.bool_]:
        """bool (N, H, W): large; one byte per pixel and mask."""
        if not self.rles:
            return np.zeros((0, *self.size_hw), np.bool_)
        return np.stack([one.mask() for one in self.rles])  # (N, H, W)

    def to_dict(self) -> dict[str, Any]:
        rows = zip(self.rles, self.names, self.scores.tolist(), strict=True)
        answer: dict[str, Any] = {
            "size": list(self.size_hw),
            "masks": [
                {"score": score, "box": list(rle.xyxy), "area": rle.area, "rle": rle.to_coco()}
                | ({"label": name} if name else {})
                for rle, name, score in rows
            ],
        }
        return answer | reading(self.labels, self.read_as)

    def to_supervision(self) -> Any:
        """As ``supervision.Detections`` with dense masks.

        Raises:
            MissingDependency: supervision is not installed.
        """
        return _supervision().Detections(
            xyxy=self.xyxy.copy(),
            mask=self.dense(),
            confidence=self.scores.copy(),
            class_id=self.class_ids.astype(int),
            data={"class_name": np.asarray(self.names, dtype=object)},
        )


def checked_ids(class_ids: NDArray[np.integer], count: int, classes: int, least: int = -1) -> NDArray[np.int64]:
    """An int64 copy (N,) that nobody can write to; -1, where it is allowed, is what has no name."""
    ids = np.array(class_ids, dtype=np.int64)
    if ids.shape != (count,) or (count and (ids.min() < least or ids.max() >= classes)):
        raise BadRequest(f"class_ids: want {count} numbers from {least} to {classes - 1}")
    ids.flags.writeable = False
    return ids


def _index(keep: Indices) -> NDArray[Any]:
    """What numpy picks by; of nothing it would make floats, which pick nothing but an error."""
    index = np.asarray(keep)
    return index if index.size else index.astype(np.int64)


def check_boxes(xyxy: NDArray[np.float32], size_hw: tuple[int, int]) -> None:
    """Every box has its corners in order and lies in the picture."""
    height, width = size_hw
    is_ordered = bool((xyxy[:, 2:] >= xyxy[:, :2]).all())
    if not is_ordered or (xyxy < 0).any() or (xyxy > (width, height, width, height)).any():
        raise BadRequest(f"boxes: want left, top, right, bottom inside a picture of {width} x {height}")


def check_points(xy: NDArray[np.float32], size_hw: tuple[int, int], what: str) -> None:
    """Every point (..., 2) lies in the picture."""
    if (xy < 0).any() or (xy > (size_hw[1], size_hw[0])).any():
        raise BadRequest(f"{what}: a point lies outside the picture")


def check_reading(labels: tuple[str, ...], read_as: tuple[str, ...]) -> None:
    """What was read is known of every label or of none."""
    if read_as and len(read_as) != len(labels):
        raise BadRequest(f"read_as: one reading per label, or none; got {len(read_as)} for {len(labels)} labels")


def reading(labels: tuple[str, ...], read_as: tuple[str, ...]) -> dict[str, Any]:
    """What a translating model says of its labels; nothing where it read them as they are."""
    if not read_as or read_as == labels:
        return {}
    return {"read_as": dict(zip(labels, read_as, strict=True))}


def _supervision() -> Any:
    try:
        import supervision
    except ModuleNotFoundError:
        raise MissingDependency("to_supervision needs supervision: pip install 'anmok[spatial]'") from None
    return supervision
