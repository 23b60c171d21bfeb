"""Any detector with any segmenter: text to masks, and text to tracks.

Source: Ren et al., "Grounded SAM: Assembling Open-World Models for Diverse Visual Tasks" (2024, arXiv:2401.14159),
github.com/IDEA-Research/Grounded-SAM-2. The detector's boxes become the segmenter's prompts; in a clip the detector
looks again every few frames and where a track was lost. Unlike there, finds and tracks are matched one to one by
assignment (Hungarian method), not greedily, and a lost object that is found again keeps its number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from anmok.errors import BadRequest
from anmok.geometry import Frame, Rle, View
from anmok.inputs import Cue, Encoded, Prompted
from anmok.results import Detections, Masks, Tracked
from anmok.tasks import Detect, Detects, Encoder, Follows, Segment, Segments, Session, Setup, Track

Array = NDArray[np.float32]
Picture = NDArray[np.uint8]  # (H, W, 3)

_FRAME = "frame"  # scale and offset (4,) of a part's canvas, beside its maps
_PARTS = ("detector", "segmenter")


class _Detector(Encoder, Detects, Protocol):
    @property
    def nbytes(self) -> int: ...


class _Segmenter(Encoder, Segments, Protocol):
    @property
    def nbytes(self) -> int: ...


class Grounded:
    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self.detector: _Detector = setup.parts["detector"]
        self.segmenter: _Segmenter = setup.parts["segmenter"]
        if not isinstance(self.detector, Detects) or not isinstance(self.segmenter, Segments):
            raise BadRequest(f"{setup.name}: want a detector that detects and a segmenter that segments")

    @classmethod
    def from_files(cls, setup: Setup) -> Grounded:
        return cls(setup)

    @classmethod
    def tiny(cls, setup: Setup, seed: int) -> Grounded:
        return cls(setup)

    @property
    def nbytes(self) -> int:
        return self.detector.nbytes + self.segmenter.nbytes

    @property
    def vocabulary(self) -> tuple[str, ...]:
        return self.detector.vocabulary

    def prepare(self, image: Picture) -> View:
        """The picture as it is: each part has a canvas of its own, made in ``encode``."""
        frame = Frame((1.0, 1.0), (0.0, 0.0), (int(image.shape[0]), int(image.shape[1])))
        return View(np.ascontiguousarray(image.transpose(2, 0, 1)), frame)  # uint8 (3, H, W)

    def encode(self, batch: NDArray[np.uint8]) -> dict[str, NDArray[np.generic]]:
        """uint8 (B, 3, H, W) to the maps of both parts under ``detector.`` and ``segmenter.``."""
        rows = [self._maps(np.ascontiguousarray(image.transpose(1, 2, 0))) for image in batch]
        return {name: np.stack([row[name] for row in rows]) for name in rows[0]}

    def detect(self, states: Sequence[Encoded], ask: Detect) -> list[Detections]:
        return self.detector.detect([_part(state, "detector") for state in states], ask)

    def segment(self, states: Sequence[Encoded | Prompted], ask: Segment) -> list[Masks]:
        return [self._segmented(state, ask) for state in states]

    def follow(self, ask: Track) -> _Session:
        if not isinstance(self.segmenter, Follows):
            raise BadRequest(f"{self._setup.name}: its segmenter does not track; take a sam2 or edgetam model for it")
        return _Session(self, ask, self.segmenter.follow(Track()))

    def masked(self, state: Encoded, found: Detections) -> Masks:
        """A mask for each box, in the order of the boxes, with the boxes' classes and scores."""
        prompt = Prompted(_part(state, "segmenter"), boxes=tuple(tuple(box) for box in _areas(found.xyxy).tolist()))
        [cut] = self.segmenter.segment([prompt], Segment())
        return Masks(cut.rles, found.scores, found.class_ids, found.labels, found.size_hw, found.read_as)

    def _segmented(self, state: Encoded | Prompted, ask: Segment) -> Masks:
        if isinstance(state, Prompted):
            whole = state.image
            assert isinstance(whole, Encoded)
            inner = Prompted(_part(whole, "segmenter"), state.points, state.boxes, state.mask, state.exemplars)
            return self.segmenter.segment([inner], ask)[0]
        if ask.labels is None and not self.detector.vocabulary:
            return self.segmenter.segment([_part(state, "segmenter")], ask)[0]
        [found] = self.detect([state], Detect(ask.labels, ask.phrases, ask.threshold))
        if not len(found):
            return Masks.none(found.labels, found.size_hw, found.read_as)
        return self.masked(state, found)

    def _maps(self, image: Picture) -> dict[str, NDArray[np.generic]]:
        maps: dict[str, NDArray[np.generic]] = {}
        for name, part in zip(_PARTS, (self.detector, self.segmenter), strict=True):
            view = part.prepare(image)
            maps |= {f"{name}.{key}": array[0] for key, array in part.encode(view.pixels[None]).items()}
            maps[f"{name}.{_FRAME}"] = np.asarray([*view.frame.scale_xy, *view.frame.offset_xy], np.float64)
        return maps


@dataclass
class _Session:
    """Two memories: the segmenter's of how the objects look, and this one of what they are."""

    model: Grounded
    ask: Track
    inner: Session
    classes: dict[int, int] = field(default_factory=dict)  # by object; -1: pointed at, not found yet, without a name
    places: dict[int, Rle] = field(default_factory=dict)  # where each was seen last
    is_lost: dict[int, bool] = field(default_factory=dict)
    has_looked: bool = False  # the first frame may be broken
    read_as: tuple[str, ...] = ()  # what the detector was given for each label

    def step(self, frame: int, seconds: float, image: Picture, cues: Sequence[Cue]) -> Tracked:
        """What is followed is followed first, so that finds are held against where it is on this very frame: against
        the frame before, all that moves by more than its own size would be found anew each time."""
        for cue in cues:
            self.classes.setdefault(cue.object_id, -1)
        piece = self._followed(frame, seconds, image, cues) if self.classes else None
        found = self._look(image) if self._is_due(frame) else []
        if found:  # the frame once more, with what is new on it
            named = [Cue(frame, number, mask=rle) for number, rle in found]
            piece = self._followed(frame, seconds, image, named)
        size = (int(image.shape[0]), int(image.shape[1]))
        labels = self.ask.labels or self.model.vocabulary
        if piece is None:
            return Tracked(frame, seconds, np.zeros(0, np.int64), Masks.none(labels, size, self.read_as))
        ids = np.asarray([self.classes[number] for number in piece.ids.tolist()], np.int64)
        masks = Masks(piece.masks.rles, piece.masks.scores, ids, labels, size, self.read_as)
        return Tracked(frame, seconds, piece.ids, masks)

    def _followed(self, frame: int, seconds: float, image: Picture, cues: Sequence[Cue]) -> Tracked:
        piece = self.inner.step(frame, seconds, image, cues)
        for number, rle in zip(piece.ids.tolist(), piece.masks.rles, strict=True):
            self.is_lost[number] = not rle.counts
            if rle.counts:
                self.places[number] = rle
        return piece

    def _is_due(self, frame: int) -> bool:
        if self.ask.labels is None and not self.model.vocabulary:
            return False
        # A lost object is looked for four times as often, not in every frame: it may be gone for good.
        soon = max(1, self.ask.every // 4)
        is_key = frame % self.ask.every == 0 or not self.has_looked
        return is_key or (any(self.is_lost.values()) and frame % soon == 0)

    def _look(self, image: Picture) -> list[tuple[int, Rle]]:
        """Finds that no track covers: new objects, and lost ones that are back, with their masks."""
        self.has_looked = True
        view = self.model.prepare(image)
        maps = {name: array[0] for name, array in self.model.encode(view.pixels[None]).items()}
        state = Encoded("", maps, view.frame)
        [found] = self.model.detect([state], Detect(self.ask.labels, self.ask.phrases, self.ask.threshold))
        self.read_as = found.read_as
        if not len(found):
            return []
        masks = self.model.masked(state, found)
        kept = [i for i, rle in enumerate(masks.rles) if rle.counts]
        seen = {number: rle for number, rle in self.places.items() if not self.is_lost[number]}
        taken = matched([masks.rles[i] for i in kept], list(seen.values()), self.ask.match)
        numbers = list(seen)
        for place, track in taken.items():
            if self.classes[numbers[track]] < 0:  # now it is known what was pointed at
                self.classes[numbers[track]] = int(masks.class_ids[kept[place]])
        return [
            (self._number(masks.rles[i], int(masks.class_ids[i])), masks.rles[i])
            for place, i in enumerate(kept)
            if place not in taken
        ]

    def _number(self, rle: Rle, kind: int) -> int:
        """Of the lost object of that class that was seen nearest to here, else a new one."""
        lost = [number for number, gone in self.is_lost.items() if gone and self.classes[number] == kind]
        if lost:
            number = min(lost, key=lambda one: _distance(self.places.get(one), rle))
            self.is_lost[number] = False
            return number
        number = max(self.classes, default=0) + 1
        self.classes[number] = kind
        return number


def matched(finds: Sequence[Rle], tracks: Sequence[Rle], least: float) -> dict[int, int]:
    """The finds that belong to a track, each with its track: pairs of the largest total IoU, one to one, each of at
    least ``least``."""
    if not finds or not tracks:
        return {}
    overlap = np.asarray([[find.iou(track) for track in tracks] for find in finds])  # (N, M)
    rows, columns = linear_sum_assignment(-overlap)
    pairs = zip(rows.tolist(), columns.tolist(), strict=True)
    return {row: column for row, column in pairs if overlap[row, column] >= least}


def _part(state: Encoded, name: str) -> Encoded:
    """The state that a part made, out of the state of the whole."""
    sx, sy, ox, oy = (float(value) for value in state.maps[f"{name}.{_FRAME}"])
    maps = {key.removeprefix(f"{name}."): array for key, array in state.maps.items() if key.startswith(f"{name}.")}
    del maps[_FRAME]
    return Encoded("", maps, Frame((sx, sy), (ox, oy), state.place.size_hw))


def _areas(xyxy: Array) -> Array:
    """Boxes (N, 4) that all have some area: a flat one grows by a thousandth of a pixel."""
    grown = xyxy.copy()
    grown[:, 2:] = np.maximum(grown[:, 2:], grown[:, :2] + 1e-3)
    return grown


def _distance(place: Rle | None, other: Rle) -> float:
    """Between the centres of two masks, in pixels; without a place it is endless."""
    if place is None:
        return float("inf")
    a, b = np.asarray(place.xyxy), np.asarray(other.xyxy)
    return float(np.linalg.norm((a[:2] + a[2:] - b[:2] - b[2:]) / 2))
