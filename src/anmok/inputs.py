"""What varies per item. What is shared by a whole call is an ask (``tasks.py``)."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image as pillow

from anmok.errors import BadRequest
from anmok.geometry import Frame, Rle
from anmok.media import Source

__all__ = [
    "Box",
    "Clip",
    "Conversation",
    "Cue",
    "Encoded",
    "Frames",
    "Item",
    "Part",
    "Point",
    "Prompted",
    "Role",
    "Shown",
    "Sign",
    "Source",
    "Text",
    "Turn",
]

Box: TypeAlias = tuple[float, float, float, float]  # xyxy, pixels of the caller's picture
Sign: TypeAlias = Literal[0, 1]  # 1: this is it; 0: this is not
Point: TypeAlias = tuple[float, float, Sign]  # x, y in pixels of the caller's picture
Role: TypeAlias = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of text. A bare ``str`` is always the path of a picture."""

    text: str


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """What a model made of one picture, once, so that many asks can share it. Immutable.

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
        object.__setattr__(self, "boxes", tuple(_box(box) for box in _each(self.boxes, "boxes")))
        object.__setattr__(self, "exemplars", tuple(_exemplar(one) for one in _each(self.exemplars, "exemplars")))
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


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """A moving picture: a video file, its bytes, a folder of numbered images, or pictures in order.

    ``fps=None`` takes every frame as it is; otherwise frames are taken at that rate by time. ``start`` and ``end``
    are seconds. ``cues`` point at what is to be followed.
    """

    source: Path | str | bytes | Sequence[Source]
    fps: float | None = None
    start: float = 0.0
    end: float | None = None
    cues: tuple[Cue, ...] = field(default=())

    def __post_init__(self) -> None:
        if self.fps is not None and not 0 < self.fps <= 1000:
            raise BadRequest(f"clip: fps {self.fps} must lie above 0 and not over 1000")
        if self.start < 0 or (self.end is not None and self.end <= self.start):
            raise BadRequest(f"clip: start {self.start} and end {self.end} span no time")


@dataclass(frozen=True, slots=True, eq=False)
class Frames:
    """What is shown of a clip: pictures in order, and when each of them is to be seen.

    ``seconds`` count from the beginning of the clip, and grow from one picture to the next. A model that watches makes
    it of a ``Clip`` (``Model.watch``), with a state for each picture; whoever knows better which frames matter hands in
    his own.

    Raises:
        BadRequest: no picture, not one time for each, or times that do not grow from 0 on.
    """

    pictures: tuple[Source | Encoded, ...]
    seconds: tuple[float, ...]

    def __post_init__(self) -> None:
        pictures, times = _each(self.pictures, "frames"), _each(self.seconds, "frames: seconds")
        if not pictures or len(pictures) != len(times):
            raise BadRequest(f"frames: {len(pictures)} pictures and {len(times)} times; want a time for each picture")
        try:
            seconds = tuple(float(one) for one in times)
        except (TypeError, ValueError):
            seconds = (-1.0,)
        if not (seconds[0] >= 0 and seconds[-1] < np.inf and all(a < b for a, b in pairwise(seconds))):
            raise BadRequest("frames: seconds are counted from the beginning of the clip, and grow")
        object.__setattr__(self, "pictures", tuple(pictures))
        object.__setattr__(self, "seconds", seconds)

    @property
    def nbytes(self) -> int:
        """Of its states."""
        return sum(one.nbytes for one in self.pictures if isinstance(one, Encoded))


Shown: TypeAlias = Source | Encoded | Clip | Frames  # in a turn: a picture, or a moving one
Part: TypeAlias = Text | Shown


@dataclass(frozen=True, slots=True, eq=False)
class Turn:
    """What one side says: words, pictures and clips, in their order.

    A list becomes a tuple, and one part by itself a tuple of it. Texts side by side become one, a line each. Text is
    brought to Unicode's composed form (NFC), which means the same: tokenizers were trained on it, and Hangul in letters
    of its own (NFD, as file names of macOS have it) would cost several times the tokens.

    Raises:
        BadRequest: no such role, nothing said, or a picture that is not the user's.
    """

    role: Role
    parts: tuple[Part, ...]

    def __post_init__(self) -> None:
        if self.role not in get_args(Role):
            raise BadRequest(f"turn: its role is {', '.join(get_args(Role))}, not {str(self.role)[:40]!r}")
        if isinstance(self.parts, str):
            raise BadRequest(f"{self.role}'s turn: a text is anmok.Text('...'); a bare one would be a picture's path")
        is_one = isinstance(self.parts, Text | Encoded | Clip | Frames | bytes | Path | np.ndarray | pillow.Image)
        is_one = is_one or callable(getattr(self.parts, "read", None))  # an open file, which would give its lines
        given = (self.parts,) if is_one else _each(self.parts, f"{self.role}'s turn")
        object.__setattr__(self, "parts", _merged(tuple(_part(part, self.role) for part in given)))
        if self.role != "user" and self.shown:
            raise BadRequest(f"{self.role}'s turn: pictures are the user's to show")
        # An answer that was stopped before its first word may be empty.
        if self.role != "assistant" and not self.shown and not self.text.strip():
            raise BadRequest(f"{self.role}'s turn: nothing is said in it")

    @property
    def text(self) -> str:
        """All its words, without what is shown."""
        return "\n".join(part.text for part in self.parts if isinstance(part, Text))

    @property
    def shown(self) -> tuple[Shown, ...]:
        """All that are no words."""
        return tuple(part for part in self.parts if not isinstance(part, Text))


@dataclass(frozen=True, slots=True, eq=False)
class Conversation:
    """What was said until now; the last word is the user's, and the model answers it.

    Turns of one side in a row are joined: the templates of LLaVA 1.5 and Gemma refuse them, those of SmolVLM and
    InternVL would take them, and joined all read the same. So what a model file gets is an optional ``system`` turn,
    then ``user`` and ``assistant`` by turns, from ``user`` to ``user``.

    Raises:
        BadRequest: no turn of the user, ``system`` elsewhere than at the beginning, or an answer first or last.
    """

    turns: tuple[Turn, ...]

    def __post_init__(self) -> None:
        given = _each(self.turns, "conversation")
        if not all(isinstance(turn, Turn) for turn in given):
            raise BadRequest("conversation: want turns, as anmok.Turn('user', anmok.Text('...'))")
        joined: list[Turn] = []
        for turn in given:
            if joined and joined[-1].role == turn.role:
                turn = Turn(turn.role, joined.pop().parts + turn.parts)
            joined.append(turn)
        object.__setattr__(self, "turns", tuple(joined))
        _check_order([turn.role for turn in joined])

    @classmethod
    def about(cls, *shown: Shown, question: str, system: str = "") -> Conversation:
        """A question about pictures and clips, or about none."""
        first = (Turn("system", (Text(system),)),) if system else ()
        return cls((*first, Turn("user", (*shown, Text(question)))))

    def then(self, answer: str, question: str, *shown: Shown) -> Conversation:
        """The same, with what the model said and what the user says to that."""
        said = (Turn("assistant", (Text(answer),)), Turn("user", (*shown, Text(question))))
        return Conversation((*self.turns, *said))

    @property
    def system(self) -> str:
        """What the model was told to be; empty where nothing was."""
        return self.turns[0].text if self.turns[0].role == "system" else ""

    @property
    def shown(self) -> tuple[Shown, ...]:
        """Pictures and clips, in their order."""
        return tuple(one for turn in self.turns for one in turn.shown)

    @property
    def pictures(self) -> tuple[Source | Encoded, ...]:
        """Those that stand still."""
        return tuple(one for one in self.shown if not isinstance(one, Clip | Frames))

    @property
    def clips(self) -> tuple[Clip | Frames, ...]:
        """Those that move. A model file gets ``Frames`` of states alone."""
        return tuple(one for one in self.shown if isinstance(one, Clip | Frames))

    def with_shown(self, shown: Sequence[Shown]) -> Conversation:
        """The same with others in the places of what is shown, as many as it has."""
        rest = iter(shown)
        return Conversation(
            tuple(
                Turn(turn.role, tuple(part if isinstance(part, Text) else next(rest) for part in turn.parts))
                for turn in self.turns
            )
        )


Item: TypeAlias = Source | Text | Encoded | Prompted | Clip | Conversation


def _part(part: Any, role: str) -> Part:
    if isinstance(part, Text):
        if not isinstance(part.text, str):
            raise BadRequest(f"{role}'s turn: Text holds a text, not {type(part.text).__name__}")
        return Text(unicodedata.normalize("NFC", part.text))
    if isinstance(part, Prompted | Turn | Conversation | Cue) or part is None:
        raise BadRequest(f"{role}'s turn: it holds Text, pictures and clips, not {type(part).__name__}")
    if isinstance(part, Clip) and part.cues:
        raise BadRequest(f"{role}'s turn: cues say what track is to follow; leave them out of the clip")
    found: Part = part
    return found


def _merged(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """Texts side by side as one."""
    merged: list[Part] = []
    for part in parts:
        before = merged[-1] if merged else None
        if isinstance(part, Text) and isinstance(before, Text):
            merged[-1] = Text(f"{before.text}\n{part.text}")
        else:
            merged.append(part)
    return tuple(merged)


def _check_order(roles: Sequence[str]) -> None:
    if "user" not in roles:
        raise BadRequest("conversation: the user says nothing in it")
    if "system" in roles[1:]:
        raise BadRequest("conversation: a system turn stands at the beginning, not between the others")
    if roles[-1] != "user":
        raise BadRequest("conversation: the last turn is the assistant's, so there is nothing to answer")
    if roles[roles[0] == "system"] != "user":
        raise BadRequest("conversation: the user begins, not the assistant")


def _each(values: Iterable[object], name: str) -> list[Any]:
    try:
        return list(values)
    except TypeError:
        raise BadRequest(f"{name}: want a list of them, not {values!r}") from None


def _points(points: Iterable[object]) -> tuple[Point, ...]:
    return tuple(_point(point) for point in _each(points, "points"))


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
