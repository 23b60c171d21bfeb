"""A model without weights that knows where colours are: exact answers for tests of CLI, pictures and server.

A thing is a connected patch of one colour. It is found by the colour's name, followed by its colour, and people are
red, all face, and look at the largest blue thing. Depth is brightness, parts are colours, what is colourful stands in
front.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from anmok import bodies, geometry, words
from anmok.errors import BadRequest
from anmok.geometry import Frame, Rle, View
from anmok.inputs import Cue, Encoded, Point, Prompted
from anmok.results import DepthMap, Detections, Gazes, Keypoints, Masks, Matte, NormalMap, PartMap, Points, Tracked
from anmok.tasks import Depth, Detect, Gaze, Matting, Normals, Parse, Pointing, Pose, Segment, Setup, Track

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]

COLOURS: dict[str, tuple[int, int, int]] = {
    "black": (0, 0, 0),
    "white": (255, 255, 255),
    "grey": (128, 128, 128),
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "yellow": (255, 255, 0),
}
_NAMES = tuple(COLOURS)
_TABLE = np.asarray(list(COLOURS.values()), np.float32)  # (C, 3)
_MOST = 50  # things in one picture
_RELIEF = 64  # pixels that white stands above black
_JOINTS = ("centre", "top left", "top right", "bottom left", "bottom right")
_EDGES = ((0, 1), (0, 2), (0, 3), (0, 4))


class FakePlaces:
    vocabulary: tuple[str, ...] = ()

    def __init__(self, setup: Setup) -> None:
        self._setup = setup

    @classmethod
    def from_files(cls, setup: Setup) -> FakePlaces:
        return cls(setup)

    @classmethod
    def tiny(cls, setup: Setup, seed: int) -> FakePlaces:
        return cls(setup)

    @property
    def nbytes(self) -> int:
        return _TABLE.nbytes

    def prepare(self, image: NDArray[np.uint8]) -> View:
        """The picture in its own size: the frame changes nothing."""
        frame = Frame((1.0, 1.0), (0.0, 0.0), (int(image.shape[0]), int(image.shape[1])))
        return View(geometry.normalise(image, self._setup.pixels), frame)

    def encode(self, batch: Array) -> dict[str, NDArray[np.generic]]:
        """(B, 3, H, W) to ``colours`` int8 (B, H, W) and ``grey`` float32 (B, H, W) in [0, 1]."""
        pixels = np.moveaxis(batch * 0.5 + 0.5, 1, -1)  # (B, H, W, 3)
        return {"colours": _nearest(pixels * 255).astype(np.int8), "grey": pixels.mean(-1)}

    def detect(self, states: Sequence[Encoded], ask: Detect) -> list[Detections]:
        if ask.labels is None:
            raise BadRequest(f"{self._setup.name} needs labels to look for, as red,blue")
        return [self._detected(state, ask.labels, ask) for state in states]

    def point(self, states: Sequence[Encoded], ask: Pointing) -> list[Points]:
        return [self._dotted(state, ask) for state in states]

    def segment(self, states: Sequence[Encoded | Prompted], ask: Segment) -> list[Masks]:
        return [self._segmented(state, ask) for state in states]

    def follow(self, ask: Track) -> _Session:
        return _Session(self, ask)

    def depth(self, states: Sequence[Encoded], ask: Depth) -> list[DepthMap]:
        return [DepthMap(10.0 - 9.0 * np.asarray(state.maps["grey"], np.float32), "metric") for state in states]

    def parse(self, states: Sequence[Encoded], ask: Parse) -> list[PartMap]:
        return [PartMap(np.asarray(state.maps["colours"], np.int16), _NAMES) for state in states]

    def normals(self, states: Sequence[Encoded], ask: Normals) -> list[NormalMap]:
        return [NormalMap(_slopes(np.asarray(state.maps["grey"], np.float32))) for state in states]

    def matte(self, states: Sequence[Encoded], ask: Matting) -> list[Matte]:
        return [Matte((np.asarray(state.maps["colours"], np.int16) > 2).astype(np.float32)) for state in states]

    def pose(self, states: Sequence[Encoded | Prompted], ask: Pose) -> list[Keypoints]:
        return [self._posed(state) for state in states]

    def gaze(self, states: Sequence[Encoded | Prompted], ask: Gaze) -> list[Gazes]:
        return [self._gazed(state, ask) for state in states]

    def things(self, state: Encoded, label: str) -> list[Mask]:
        """The patches (H, W) of the colour that the label names; none where it names no colour."""
        [english] = words.english((label,), self._setup.languages)
        named = [index for index, name in enumerate(_NAMES) if name in english.lower()]
        colours = np.asarray(state.maps["colours"])
        return _patches(colours == named[0]) if named else []

    def _detected(self, state: Encoded, labels: tuple[str, ...], ask: Detect) -> Detections:
        size = state.place.size_hw
        groups = ask.phrases or tuple((label,) for label in labels)
        found = [(i, patch) for i, group in enumerate(groups) for one in group for patch in self.things(state, one)]
        if not found:
            return Detections.none(labels, size)
        rles = [Rle.of(patch) for _, patch in found]
        xyxy = np.asarray([rle.xyxy for rle in rles], np.float32)  # (N, 4)
        scores = np.asarray([rle.area for rle in rles], np.float32) / geometry.area(xyxy)  # (N,)
        ids = np.asarray([i for i, _ in found])
        keep = geometry.nms(xyxy, scores, 0.5 if ask.nms is None else ask.nms, ids)
        keep = keep[scores[keep] >= (ask.threshold or 0.0)][: ask.top_k]
        return Detections(xyxy, scores, ids, labels, size)[keep]

    def _dotted(self, state: Encoded, ask: Pointing) -> Points:
        """The middles of what is detected."""
        found = self._detected(state, ask.labels, Detect(ask.labels, threshold=ask.threshold, top_k=ask.top_k))
        return Points(bodies.middles(found.xyxy), found.scores, found.class_ids, found.labels, found.size_hw)

    def _segmented(self, state: Encoded | Prompted, ask: Segment) -> Masks:
        if isinstance(state, Prompted):
            return _prompted(state, ask.candidates)
        size = state.place.size_hw
        if ask.labels is None:
            colours = np.asarray(state.maps["colours"])
            found = [(-1, patch) for index in range(len(_NAMES)) for patch in _patches(colours == index)]
        else:
            groups = ask.phrases or tuple((label,) for label in ask.labels)
            found = [(i, patch) for i, group in enumerate(groups) for one in group for patch in self.things(state, one)]
        found = sorted(found, key=lambda one: -int(one[1].sum()))[:_MOST]
        ids = np.asarray([i for i, _ in found], np.int64)
        return Masks(tuple(Rle.of(m) for _, m in found), np.ones(len(found), np.float32), ids, ask.labels or (), size)

    def _posed(self, state: Encoded | Prompted) -> Keypoints:
        encoded = bodies.encoded(state)
        size = encoded.place.size_hw
        if isinstance(state, Prompted) and state.boxes:
            xyxy = geometry.clipped(np.asarray(state.boxes, np.float32), size)
        else:
            rles = [Rle.of(patch) for patch in self.things(encoded, "red")]
            xyxy = np.asarray([rle.xyxy for rle in rles], np.float32).reshape(-1, 4)
        left, top, right, bottom = xyxy.T  # (N,) each
        centre = ((left + right) / 2, (top + bottom) / 2)
        joints = (centre, (left, top), (right, top), (left, bottom), (right, bottom))
        xy = np.stack([np.stack(joint, -1) for joint in joints], 1).astype(np.float32)  # (N, 5, 2)
        ones = np.ones(len(xyxy), np.float32)
        return Keypoints(xy, np.ones(xy.shape[:2], np.float32), xyxy, ones, _JOINTS, _EDGES, size)

    def _gazed(self, state: Encoded | Prompted, ask: Gaze) -> Gazes:
        encoded, people = bodies.encoded(state), bodies.looking(state)
        size = encoded.place.size_hw
        if people is None:
            faces = self._detected(encoded, ("red",), Detect(("red",), threshold=ask.face)).xyxy
            people = bodies.middles(faces), faces
        eyes, faces = people
        seen = [Rle.of(patch).xyxy for patch in self.things(encoded, "blue")[:1]]
        count, is_inside = len(eyes), np.full(len(eyes), bool(seen))
        target = bodies.middles(np.asarray(seen or [(0, 0, 0, 0)], np.float32))  # (1, 2)
        return Gazes(eyes, np.repeat(target, count, 0), is_inside, is_inside.astype(np.float32), faces, size)


@dataclass
class _Session:
    """Each object keeps its colour; its patch is the one nearest to where it was last."""

    model: FakePlaces
    ask: Track
    colours: dict[int, int] = field(default_factory=dict)  # by object
    classes: dict[int, int] = field(default_factory=dict)  # by object, of those that were found by name
    places: dict[int, tuple[float, float]] = field(default_factory=dict)
    has_looked: bool = False  # the first frame may be broken

    def step(self, frame: int, seconds: float, image: NDArray[np.uint8], cues: Sequence[Cue]) -> Tracked:
        view = self.model.prepare(image)
        maps = {name: array[0] for name, array in self.model.encode(view.pixels[None]).items()}
        state = Encoded("", maps, view.frame)
        for cue in cues:
            self._take(cue.object_id, _cued(state, cue), state)
        if self.ask.labels is not None and (frame % self.ask.every == 0 or not self.has_looked):
            self._find(state, self.ask.labels)
            self.has_looked = True
        masks = {one: self._patch(state, one) for one in self.colours}
        scores = np.asarray([mask.any() for mask in masks.values()], np.float32)
        rles = tuple(Rle.of(mask) for mask in masks.values())
        labels = self.ask.labels or ()
        # What was pointed at has no class; it stands under the first, where there are any.
        kinds = np.asarray([self.classes.get(one, -1) for one in masks], np.int64)
        ids = np.asarray(list(masks), np.int64)
        return Tracked(frame, seconds, ids, Masks(rles, scores, kinds, labels, view.frame.size_hw))

    def _take(self, one: int, mask: Mask, state: Encoded) -> None:
        if mask.any():
            self.colours[one] = int(np.bincount(np.asarray(state.maps["colours"])[mask]).argmax())
            self.places[one] = _centre(mask)

    def _find(self, state: Encoded, labels: tuple[str, ...]) -> None:
        known = [self._patch(state, one) for one in self.colours]
        for kind, label in enumerate(labels):
            for patch in self.model.things(state, label):
                if not any((patch & mask).any() for mask in known):
                    number = max(self.colours, default=0) + 1
                    self.classes[number] = kind
                    self._take(number, patch, state)

    def _patch(self, state: Encoded, one: int) -> Mask:
        patches = _patches(np.asarray(state.maps["colours"]) == self.colours[one])
        if not patches:
            return np.zeros(state.place.size_hw, np.bool_)
        was = np.asarray(self.places[one])
        nearest = min(patches, key=lambda patch: float(np.linalg.norm(np.asarray(_centre(patch)) - was)))
        self.places[one] = _centre(nearest)
        return nearest


def _nearest(pixels: Array) -> NDArray[np.int64]:
    """(..., 3) in 0..255 to the index of the nearest colour (...)."""
    distances = [((pixels - colour) ** 2).sum(-1) for colour in _TABLE]
    return np.asarray(np.argmin(np.stack(distances), axis=0))


def _marked(mask: Mask) -> tuple[NDArray[np.int32], int]:
    """The number of its patch for every pixel (H, W), 0 outside; and how many patches there are."""
    marks, count = cast("tuple[NDArray[np.int32], int]", ndimage.label(mask))
    return marks, count


def _patches(mask: Mask) -> list[Mask]:
    """Connected patches (H, W) of a mask, the largest first."""
    marks, count = _marked(mask)
    sizes = np.bincount(marks.ravel(), minlength=count + 1)[1:]
    return [marks == i + 1 for i in np.argsort(-sizes, kind="stable")[:_MOST]]


def _centre(mask: Mask) -> tuple[float, float]:
    y, x = np.nonzero(mask)
    return float(x.mean()), float(y.mean())


def _prompted(prompt: Prompted, candidates: int) -> Masks:
    state = bodies.encoded(prompt)
    size = state.place.size_hw
    boxes = prompt.boxes or (None,)
    masks = [_cued_mask(state, prompt.points, box, prompt.mask) for box in boxes]
    if candidates == 3:
        wider = [np.asarray(ndimage.binary_dilation(mask), np.bool_) for mask in masks]
        masks = [one for mask, more in zip(masks, wider, strict=True) for one in (mask, more, np.ones_like(mask))]
    scores = np.tile(np.asarray([0.9, 0.8, 0.7], np.float32)[:candidates], len(boxes))
    return Masks(tuple(Rle.of(mask) for mask in masks), scores, np.full(len(masks), -1), (), size)


def _cued(state: Encoded, cue: Cue) -> Mask:
    return _cued_mask(state, cue.points, cue.box, cue.mask)


def _cued_mask(
    state: Encoded, points: tuple[Point, ...], box: tuple[float, float, float, float] | None, guess: Rle | None
) -> Mask:
    """The patch under the points that say yes, without those that say no; or the largest patch in the box."""
    if guess is not None:
        return guess.mask()
    colours = np.asarray(state.maps["colours"])
    height, width = colours.shape
    mask = np.zeros((height, width), np.bool_)
    if box is not None:
        left, top, right, bottom = (round(v) for v in geometry.clipped(np.asarray(box), (height, width)).tolist())
        inside = np.zeros_like(mask)
        inside[top : max(bottom, top + 1), left : max(right, left + 1)] = True
        frame = np.bincount(colours[0]).argmax()  # what the picture's upper edge is made of
        patches = _patches(inside & (colours != frame)) or [inside]
        mask |= patches[0]
    for x, y, sign in sorted(points, key=lambda point: -point[2]):  # those that say yes first
        row, column = min(int(y), height - 1), min(int(x), width - 1)
        marks, _ = _marked(colours == colours[row, column])
        patch = marks == marks[row, column]
        mask = mask | patch if sign else mask & ~patch
    return mask


def _slopes(grey: Array) -> Array:
    """Brightness as height: normals (H, W, 3), x right, y up, z near."""
    dy, dx = (np.gradient(grey, axis=axis) if grey.shape[axis] > 1 else np.zeros_like(grey) for axis in (0, 1))
    raw = np.stack([-_RELIEF * dx, _RELIEF * dy, np.ones_like(grey)], -1)  # (H, W, 3)
    return np.asarray(raw / np.linalg.norm(raw, axis=-1, keepdims=True), np.float32)
