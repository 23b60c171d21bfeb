"""Asks about places in the picture: boxes, points, masks, tracks, depth, people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from anmok.errors import BadRequest
from anmok.results import (
    DepthMap,
    Detections,
    Gazes,
    Keypoints,
    Masks,
    Matte,
    NormalMap,
    PartMap,
    Points,
    Tracked,
    Tracks,
)
from anmok.tasks.asks import Ask, check_labels

Phrases = tuple[tuple[str, ...], ...]


def _set_words(ask: Detect | Segment | Track) -> None:
    """Checks labels and phrases; lists become tuples, so that equal asks are equal values."""
    labels, phrases = ask.labels, ask.phrases
    if labels is not None:
        labels = check_labels(labels)
        object.__setattr__(ask, "labels", labels)
    if phrases is None:
        return
    if any(isinstance(group, str) for group in phrases):
        raise BadRequest("phrases: want a group of words for each label, not a word by itself")
    groups = tuple(tuple(group) for group in phrases)
    if labels is None or len(groups) != len(labels):
        raise BadRequest("phrases: give one group of words per label")
    if not all(group and all(words.strip() for words in group) for group in groups):
        raise BadRequest("phrases: each label needs at least one, and none may be empty")
    object.__setattr__(ask, "phrases", groups)


def _check_share(name: str, value: float | None) -> None:
    if value is not None and not 0.0 <= value <= 1.0:
        raise BadRequest(f"{name} {value}: must lie between 0 and 1")


def _check_top(top_k: int | None) -> None:
    if top_k is not None and top_k < 1:
        raise BadRequest(f"top_k {top_k}: must be at least 1")


@dataclass(frozen=True, slots=True)
class Detect(Ask[Detections, Detections]):
    """Where are they?

    ``labels`` are the caller's own classes and what ``class_ids`` count in. A model that reads text finds them by
    their names, or by ``phrases``: for each label the words to look for, any of which counts as the label (synonyms,
    plurals, another language). A model with a closed set takes its own classes, all of them with ``labels=None``.
    ``threshold`` and ``nms`` (the IoU above which a box of the same class goes) take the card's where ``None``.
    """

    task: ClassVar[str] = "detect"
    labels: tuple[str, ...] | None = None
    phrases: Phrases | None = None
    threshold: float | None = None
    nms: float | None = None
    top_k: int | None = None

    def __post_init__(self) -> None:
        _set_words(self)
        _check_share("threshold", self.threshold)
        _check_share("nms", self.nms)
        _check_top(self.top_k)


@dataclass(frozen=True, slots=True)
class Pointing(Ask[Points, Points]):
    """Where is the middle of each?

    ``labels`` are words or phrases (``"the leftmost screw"``), each of which may name any number of things; they are
    what ``class_ids`` count in. ``threshold`` leaves out what scores below.

    Raises:
        BadRequest: no labels, an empty one, or one twice; a threshold that is no share; ``top_k`` below 1.
    """

    task: ClassVar[str] = "point"
    labels: tuple[str, ...]
    threshold: float | None = None
    top_k: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", check_labels(self.labels))
        _check_share("threshold", self.threshold)
        _check_top(self.top_k)


@dataclass(frozen=True, slots=True)
class Everything:
    """How masks of all that is in a picture are found: a grid of points, and what is kept of their masks.

    The defaults are those of segment-anything's automatic mask generator (Kirillov et al., 2023).
    """

    points_per_side: int = 32
    predicted_iou: float = 0.88  # the model's own estimate
    stability: float = 0.95  # IoU of the masks cut at +1 and at -1
    nms: float = 0.7  # IoU of boxes
    min_area: int = 0  # pixels of the caller's picture

    def __post_init__(self) -> None:
        if not 1 <= self.points_per_side <= 128:
            raise BadRequest(f"points_per_side {self.points_per_side}: want 1 to 128")
        for name in ("predicted_iou", "stability", "nms"):
            _check_share(name, getattr(self, name))


@dataclass(frozen=True, slots=True)
class Segment(Ask[Masks, Masks]):
    """Which pixels are it?

    Of a ``Prompted`` picture: the objects that its points, boxes or mask mean. Of a plain picture: the ``labels``
    (models that read text; ``phrases`` as in ``Detect``), or with ``labels=None`` everything. ``candidates=3`` gives
    the three readings of one prompt (part, thing, whole), best first.
    """

    task: ClassVar[str] = "segment"
    labels: tuple[str, ...] | None = None
    phrases: Phrases | None = None
    threshold: float | None = None
    candidates: int = 1
    everything: Everything = Everything()

    def __post_init__(self) -> None:
        _set_words(self)
        _check_share("threshold", self.threshold)
        if self.candidates not in (1, 3):
            raise BadRequest(f"candidates {self.candidates}: want 1 or 3")


@dataclass(frozen=True, slots=True)
class Track(Ask[Tracks, Tracked]):
    """Where do they go? What to follow stands in the clip's cues, or in ``labels`` for models that read text.

    With labels, every ``every`` frames (and where a track was lost) the clip is searched again; a find belongs to
    a track where their masks overlap by ``match`` (IoU), and is a new object otherwise.
    """

    task: ClassVar[str] = "track"
    labels: tuple[str, ...] | None = None
    phrases: Phrases | None = None
    threshold: float | None = None
    every: int = 20
    match: float = 0.5

    def __post_init__(self) -> None:
        _set_words(self)
        _check_share("threshold", self.threshold)
        _check_share("match", self.match)
        if self.every < 1:
            raise BadRequest(f"every {self.every}: must be at least 1 frame")


@dataclass(frozen=True, slots=True)
class Depth(Ask[DepthMap, DepthMap]):
    """How far is everything? ``focal_px`` is the camera's focal length in pixels of the caller's picture, for models
    whose metres depend on it."""

    task: ClassVar[str] = "depth"
    focal_px: float | None = None

    def __post_init__(self) -> None:
        if self.focal_px is not None and not 0 < self.focal_px < 1e6:
            raise BadRequest(f"focal_px {self.focal_px}: must lie above 0")


@dataclass(frozen=True, slots=True)
class Pose(Ask[Keypoints, Keypoints]):
    """Where are people's joints? ``threshold`` is what a point needs to be drawn, ``person`` what the detector needs
    to call something a person."""

    task: ClassVar[str] = "pose"
    threshold: float = 0.3
    person: float = 0.5

    def __post_init__(self) -> None:
        _check_share("threshold", self.threshold)
        _check_share("person", self.person)


@dataclass(frozen=True, slots=True)
class Gaze(Ask[Gazes, Gazes]):
    """Where does everybody look?

    Of a ``Prompted`` picture: each of its boxes is a face, whose middle stands for the eyes; or its one point is an
    eye (with a box beside it, that of this face). Of a plain picture: all faces that are found, and ``face`` is what
    the model needs to call something a face.
    """

    task: ClassVar[str] = "gaze"
    face: float = 0.5

    def __post_init__(self) -> None:
        _check_share("face", self.face)


@dataclass(frozen=True, slots=True)
class Parse(Ask[PartMap, PartMap]):
    """Which part of a body, or of clothing, is every pixel?"""

    task: ClassVar[str] = "parse"


@dataclass(frozen=True, slots=True)
class Normals(Ask[NormalMap, NormalMap]):
    """Which way does every surface face?"""

    task: ClassVar[str] = "normals"


@dataclass(frozen=True, slots=True)
class Matting(Ask[Matte, Matte]):
    """What stands in front, and how opaque is it?"""

    task: ClassVar[str] = "matte"
