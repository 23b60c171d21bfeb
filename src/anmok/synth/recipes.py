"""What is to be made: kinds, sizes, contrasts, and what a camera does to it. Values only."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from typing import Literal, TypeAlias, get_args

from anmok.errors import BadRequest

Kind: TypeAlias = Literal["scratch", "crack", "dent", "stain", "hole", "missing", "extra", "thread", "print", "chip"]
Range: TypeAlias = tuple[float, float]
Inside: TypeAlias = Literal["part", "everywhere"]

KINDS: tuple[Kind, ...] = get_args(Kind)
DRAWING = 1  # goes into every digest; raised when the same recipe and seed would draw other pixels
_MOST_DEFECTS = 50


@dataclass(frozen=True, slots=True)
class Camera:
    """What happens to the whole picture once its defects are there. Nothing moves, so masks stay exact.

    ``light``: how much brighter one side may be than the other, as a share. ``exposure``: a factor on everything.
    ``blur``: sigma in pixels. ``noise``: standard deviation as a share of full scale. ``jpeg``: quality, or None.
    ``occlusion``: the chance of something in front; of each defect at least ``least_visible`` stays in sight.
    """

    light: Range = (0.0, 0.2)
    exposure: Range = (0.9, 1.1)
    blur: Range = (0.0, 0.8)
    noise: Range = (0.0, 0.015)
    jpeg: Range | None = (75, 95)
    occlusion: float = 0.0
    least_visible: float = 0.5

    def __post_init__(self) -> None:
        _check_range("camera: light", self.light, 0, 1)
        _check_range("camera: exposure", self.exposure, 0.1, 10)
        _check_range("camera: blur", self.blur, 0, 50)
        _check_range("camera: noise", self.noise, 0, 1)
        if self.jpeg is not None:
            _check_range("camera: jpeg", self.jpeg, 1, 100)
        _check_range("camera: occlusion", (self.occlusion, 1.0), 0, 1)
        _check_range("camera: least_visible", (self.least_visible, 1.0), 0, 1)


@dataclass(frozen=True, slots=True)
class Recipe:
    """How defects are made. Two recipes that are equal have the same ``digest``, and make the same pictures.

    ``kinds`` take turns. ``area``: of one defect, as a share of the picture. ``contrast``: the mean change inside its
    mask, of the channel that changes most, as a share of full scale; parts that are taken away or added keep the
    contrast that they have, but never fall below the lower end. ``defects``: how many in one picture, all of one
    kind; (0, 0) leaves every picture as it is. ``controls``: the share of pictures that get no defect and go through
    the same camera: without them a model may learn the camera for the defect. ``label`` names the class of defect
    pictures, and stands for the kind where it is empty. ``inside``: on the part, or anywhere in the picture.
    ``licence`` is that of the good pictures, and goes into the table.
    """

    kinds: tuple[Kind, ...] = KINDS
    area: Range = (0.0005, 0.03)
    contrast: Range = (0.08, 0.35)
    defects: tuple[int, int] = (1, 1)
    controls: float = 0.0
    label: str = ""
    good_label: str = "good"
    inside: Inside = "part"
    camera: Camera | None = None
    licence: str = ""

    def __post_init__(self) -> None:
        unknown = [kind for kind in self.kinds if kind not in KINDS]
        if unknown or not self.kinds or len(set(self.kinds)) < len(self.kinds):
            raise BadRequest(f"kinds {', '.join(self.kinds) or 'none'}: want some of {', '.join(KINDS)}, each once")
        _check_range("area", self.area, 0, 0.5)
        if self.area[0] <= 0:
            raise BadRequest(f"area {self.area}: the lower end must be above 0, a share of the picture")
        _check_range("contrast", self.contrast, 0, 1)
        _check_range("defects", self.defects, 0, _MOST_DEFECTS)
        _check_range("controls", (self.controls, 1.0), 0, 1)
        if self.inside not in get_args(Inside):
            raise BadRequest(f"inside {self.inside!r}: want {' or '.join(get_args(Inside))}")
        for name, label in (("label", self.label or "none"), ("good_label", self.good_label)):
            check_label(name, label)

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits that differ where any value differs."""
        text = json.dumps({"drawing": DRAWING, **asdict(self)}, sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class Pasting:
    """How objects are pasted. ``scale``: their size against the size they were cut at. ``least_left``: an object of
    which a smaller share stays in sight is dropped. ``edge``: sigma in pixels of the softened rim. ``licence``: of
    the pictures."""

    count: tuple[int, int] = (1, 3)
    scale: Range = (0.5, 1.5)
    is_flipped: bool = True
    least_left: float = 0.2
    edge: float = 0.7
    licence: str = ""

    def __post_init__(self) -> None:
        _check_range("count", self.count, 0, _MOST_DEFECTS)
        _check_range("scale", self.scale, 0.01, 20)
        _check_range("least_left", (self.least_left, 1.0), 0, 1)
        _check_range("edge", (self.edge, 50.0), 0, 50)

    @property
    def digest(self) -> str:
        """As that of a recipe."""
        text = json.dumps({"drawing": DRAWING, "pasting": asdict(self)}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def check_label(name: str, label: str) -> None:
    """A label becomes a folder.

    Raises:
        BadRequest: it is empty, hidden, or leads elsewhere.
    """
    is_sound = label.strip() == label and label and not label.startswith(".") and label.isprintable()
    if not is_sound or any(sign in label for sign in '/\\:*?"<>|'):
        raise BadRequest(f"{name} {label!r}: it names a folder; want letters, digits, spaces, - and _")


def _check_range(name: str, values: Range, least: float, most: float) -> None:
    low, high = values
    if not (math.isfinite(low) and math.isfinite(high) and least <= low <= high <= most):
        raise BadRequest(f"{name} {low}..{high}: want two numbers in order between {least} and {most}")
