"""Texts, pictures that were encoded, and pictures with what was pointed at in them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from anmok.errors import BadRequest
from anmok.geometry import Frame, Rle
from anmok.media import Source

Box: TypeAlias = tuple[float, float, float, float]  # xyxy, pixels of the caller's picture
Sign: TypeAlias = Literal[0, 1]  # 1: this is it; 0: this is not
Point: TypeAlias = tuple[float, float, Sign]  # x, y in pixels of the caller's picture


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of text. A bare ``str`` is always the path of a picture."""

    text: str


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """What a model made of one picture or sound, once, so that many asks can share it. Immutable.

    ``maker`` names card, revision, preprocessing and dtype; another model refuses the state with ``WrongState``.
    ``maps`` are the arrays that the family needs, without the batch axis; ``frame`` leads from them to the caller's
    pixels where an answer has a place in the picture.
    """

    maker: str
    maps: Mapping[str, NDArray[np.generic]]
    frame: Frame | None = None

    @property
    def features(self) -> NDArray[np.float32]:
        """float32 (F,): what heads are trained on, of a model that embeds."""
        found: NDArray[np.float32] = self.maps["features"]  # type: ignore[assignment]
        return found

    @property
    def nbytes(self) -> int:
        return int(sum(array.nbytes for array in self.maps.values()))

    @property
    def place(self) -> Frame:
        """The frame, of a state that has one."""
        if self.frame is None:
            raise BadRequest("this state does not say where it lies in its picture: encode the picture again")
        return self.frame


@dataclass(frozen=True, slots=True, eq=False)
class Prompted:
    """A picture with what was pointed at in it.

    All coordinates are pixels of the caller's picture. ``points`` of one item belong to one object; every box of
    ``boxes`` is an object of its own (without points, or with the points shared by a single box). ``mask`` is a
    first guess, an ``Rle`` (a bool array (H, W) becomes one). ``exemplars`` are boxes around things to find more of
    (1) or to leave out (0), for models that take them. Lists and arrays of numbers become tuples.
    """

    image: Source | Encoded
    points: tuple[Point, ...] = ()
    boxes: tuple[Box, ...] = ()
    mask: Rle | None = None
    exemplars: tuple[tuple[Box, Sign], ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "points", _points(self.points))
        object.__setattr__(self, "boxes", tuple(_box(box) for box in each(self.boxes, "boxes")))
        object.__setattr__(self, "exemplars", tuple(_exemplar(one) for one in each(self.exemplars, "exemplars")))
        object.__setattr__(self, "mask", _mask(self.mask))
        if self.points and len(self.boxes) > 1:
            raise BadRequest("prompt: points go with one box; ask for several objects in several items")


@dataclass(frozen=True, slots=True)
class Cue:
    """What was pointed at in one frame of a clip: this object is here.

    ``frame`` counts from 0 in the clip as it is read (after ``fps``, ``start`` and ``end``). A later cue for the
    same object corrects it. ``points``, ``box`` and ``mask`` are as in ``Prompted``.
    """

    frame: int
    object_id: int = 1
    points: tuple[Point, ...] = ()
    box: Box | None = None
    mask: Rle | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "points", _points(self.points))
        object.__setattr__(self, "box", None if self.box is None else _box(self.box))
        object.__setattr__(self, "mask", _mask(self.mask))
        if self.frame < 0 or self.object_id < 0:
            raise BadRequest(f"cue: frame {self.frame} and object {self.object_id} must not be negative")
        if not (self.points or self.box is not None or self.mask is not None):
            raise BadRequest(f"cue for object {self.object_id}: give points, a box or a mask")
        if self.mask is not None and (self.points or self.box is not None):
            raise BadRequest(f"cue for object {self.object_id}: a mask says all; leave points and box out")


def each(values: Iterable[object], name: str) -> list[Any]:
    try:
        return list(values)
    except TypeError:
        raise BadRequest(f"{name}: want a list of them, not {values!r}") from None


def _points(points: Iterable[object]) -> tuple[Point, ...]:
    return tuple(_point(point) for point in each(points, "points"))


def _point(point: Any) -> Point:
    try:
        x, y, sign = (float(value) for value in point)
    except (TypeError, ValueError, OverflowError):
        raise BadRequest(f"point {point!r}: want three numbers: x, y and 1 (this is it) or 0 (this is not)") from None
    if not (np.isfinite(x) and np.isfinite(y)):
        raise BadRequest(f"point ({x}, {y}): not a place in a picture")
    return x, y, _sign(sign, f"point ({x}, {y})")


def _sign(sign: Any, name: str) -> Sign:
    if sign not in (0, 1):
        raise BadRequest(f"{name}: its sign is 1 (this is it) or 0 (this is not), not {sign}")
    return 1 if sign else 0


def _box(box: Any) -> Box:
    try:
        left, top, right, bottom = (float(value) for value in box)
    except (TypeError, ValueError, OverflowError):
        raise BadRequest(f"box {box!r}: want four numbers: left, top, right, bottom") from None
    if not np.isfinite((left, top, right, bottom)).all() or right <= left or bottom <= top:
        raise BadRequest(f"box {(left, top, right, bottom)}: want left, top, right, bottom with some area")
    return left, top, right, bottom


def _exemplar(exemplar: Any) -> tuple[Box, Sign]:
    try:
        box, sign = exemplar
    except (TypeError, ValueError):
        raise BadRequest(f"exemplar {exemplar!r}: want a box and 1 (more of it) or 0 (none of it)") from None
    found = _box(box)
    return found, _sign(sign, f"exemplar {found}")


def _mask(mask: object) -> Rle | None:
    if mask is None or isinstance(mask, Rle):
        return mask
    if not isinstance(mask, np.ndarray):
        raise BadRequest(f"mask: want an Rle or a bool array (H, W), not {type(mask).__name__}")
    return Rle.of(mask)
