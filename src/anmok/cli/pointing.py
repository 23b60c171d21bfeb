"""What is typed to point at something: ``120,80``, ``120,80,0``, ``2:120,80@30``, ``10,20,200,300``."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from anmok.errors import BadRequest
from anmok.geometry import Rle
from anmok.inputs import Box, Cue, Point, Prompted

_NUMBER = r"-?\d+(?:\.\d+)?"
_POINT = re.compile(rf"(?:(\d+):)?({_NUMBER}),({_NUMBER})(?:,([01]))?(?:@(\d+))?")
_BOX = re.compile(rf"(?:(\d+):)?({_NUMBER}),({_NUMBER}),({_NUMBER}),({_NUMBER})(?:@(\d+))?")
_MASK = re.compile(r"(?:(\d+):)?(.+?)(?:@(\d+))?")
_HALF = 128  # of 255: from here on a pixel of a mask's picture counts


def prompt_of(image: Path, points: list[str], boxes: list[str], mask: Path | None) -> Prompted | None:
    """Everything that was pointed at in one picture; None where nothing was."""
    if not points and not boxes and mask is None:
        return None
    return Prompted(image, points_of(points), boxes_of(boxes), None if mask is None else mask_of(mask))


def points_of(texts: list[str]) -> tuple[Point, ...]:
    """``x,y`` (this is it) or ``x,y,0`` (this is not), pixels of the picture."""
    return tuple(_point(_still("--point", text))[1] for text in texts)


def boxes_of(texts: list[str]) -> tuple[Box, ...]:
    """``left,top,right,bottom``, pixels of the picture."""
    return tuple(_box(_still("--box", text))[1] for text in texts)


def mask_of(path: Path) -> Rle:
    """A mask from a picture: what is brighter than half."""
    from anmok import media

    return Rle.of(np.asarray(media.read(path)[..., 0] >= _HALF))


def cues_of(points: list[str], boxes: list[str], masks: list[str]) -> tuple[Cue, ...]:
    """``[object:]...[@frame]`` each, object 1 and frame 0 unless said; points of an object in a frame are one cue."""
    gathered: dict[tuple[int, int], list[Point]] = {}
    boxed: dict[tuple[int, int], Box] = {}
    for text in points:
        place, point = _point(text)
        gathered.setdefault(place, []).append(point)
    for text in boxes:
        place, box = _box(text)
        if place in boxed:
            raise BadRequest(f"--box {text}: object {place[0]} has a box in frame {place[1]} already; write 2:...")
        boxed[place] = box
    cues = [
        Cue(frame, one, tuple(gathered.get((one, frame), ())), boxed.get((one, frame)))
        for one, frame in dict.fromkeys((*gathered, *boxed))
    ]
    for text in masks:
        found = _MASK.fullmatch(text)
        if found is None:
            raise BadRequest(f"--mask {text!r}: want a picture, such as cat.png (2:cat.png@30 in a clip)")
        one, path, frame = found.groups()
        cues.append(Cue(int(frame or 0), int(one or 1), mask=mask_of(Path(path))))
    return tuple(cues)


def _still(option: str, text: str) -> str:
    if ":" in text or "@" in text:
        raise BadRequest(f"{option} {text}: objects and frames (2:...@30) are for clips, and this is a picture")
    return text


def _point(text: str) -> tuple[tuple[int, int], Point]:
    found = _POINT.fullmatch(text.replace(" ", ""))
    if found is None:
        raise BadRequest(
            f"--point {text}: want x,y, such as 120,80 (120,80,0 for what it is not; 2:120,80@30 in a clip)"
        )
    one, x, y, sign, frame = found.groups()
    return (int(one or 1), int(frame or 0)), (float(x), float(y), 0 if sign == "0" else 1)


def _box(text: str) -> tuple[tuple[int, int], Box]:
    found = _BOX.fullmatch(text.replace(" ", ""))
    if found is None:
        raise BadRequest(
            f"--box {text}: want left,top,right,bottom, such as 10,20,200,300 (2:10,20,200,300@30 in a clip)"
        )
    one, *sides, frame = found.groups()
    left, top, right, bottom = (float(side) for side in sides)
    return (int(one or 1), int(frame or 0)), (left, top, right, bottom)
