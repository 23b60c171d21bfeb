"""The state of a box session: what was proposed for each image, and what people made of it. A replay of its strokes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np

from anmok.labelling.streams import Stream, Streams
from anmok.results import Detections

Corners: TypeAlias = tuple[float, float, float, float]
State = Literal["proposed", "accepted", "rejected", "moved", "added"]
Line = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Box:
    """One box: ``xyxy`` in pixels of the upright picture, its label, the model's score (1 where a person drew it), and
    what has become of it. ``proposal`` is where the model had put it, None for a box that a person drew."""

    id: str
    xyxy: Corners
    label: str
    score: float
    state: State
    proposal: Corners | None = None
    proposed_label: str = ""


@dataclass(frozen=True, slots=True)
class Proposed:
    """What the model found in an image of ``size_hw``, once and for all."""

    size_hw: tuple[int, int]
    boxes: tuple[Box, ...]


@dataclass(frozen=True, slots=True)
class BoxStroke:
    """What one person did to one image: to one of its boxes, or ``done`` with all of them."""

    number: int
    by: str
    seconds: float
    line: Line


class BoxBook:
    """Who did what to which box. The first proposals for an image stay; an undo takes back one stroke.

    Args:
        numbers: of the images in the folder, by name.
        streams: what each image is for.
    """

    def __init__(self, numbers: Mapping[str, int], streams: Streams) -> None:
        self._numbers = numbers
        self._streams = streams
        self.proposed: dict[int, Proposed] = {}
        self.by_person: dict[str, list[BoxStroke]] = {}
        self._on: dict[int, list[BoxStroke]] = {}  # strokes that stand, in order
        self._done: dict[int, list[str]] = {}  # image -> who said done, as often as it stands
        self._counts: Counter[tuple[str, Stream]] = Counter()
        self._added: Counter[int] = Counter()  # boxes ever drawn, so that no id comes twice

    def apply(self, line: Line) -> BoxStroke | None:
        """Replays a line. Returns the stroke that it made, or took back."""
        if line["do"] == "undo":
            mine = self.by_person.get(str(line["by"]))
            return self._take_back(mine.pop()) if mine else None
        number = self._numbers.get(str(line["image"]), -1)
        if line["do"] == "proposals":
            if number >= 0:
                self.proposed.setdefault(number, proposed_of(line))
            return None
        stroke = BoxStroke(number, str(line["by"]), float(line["seconds"]), line)
        self.by_person.setdefault(stroke.by, []).append(stroke)
        if number < 0:
            return stroke
        self._on.setdefault(number, []).append(stroke)
        self._added[number] += line["do"] == "add"
        if line["do"] == "done":
            self._done.setdefault(number, []).append(stroke.by)
            self._counts[stroke.by, self._streams.of[number]] += 1
        return stroke

    def by_whom(self, number: int) -> Collection[str]:
        """Who is done with this image."""
        return self._done.get(number, ())

    def counts(self, by: str) -> tuple[int, int]:
        """Images that this person is done with: teaching, measuring."""
        return self._counts[by, "teach"], self._counts[by, "measure"]

    @property
    def done(self) -> Collection[int]:
        """Images that somebody is done with."""
        return self._done.keys()

    def boxes(self, number: int) -> tuple[Box, ...]:
        """All boxes of an image as they are now, rejected ones too. Being done accepts what is left."""
        found = {box.id: box for box in self.proposed[number].boxes} if number in self.proposed else {}
        for stroke in self._on.get(number, []):
            _change(found, stroke.line)
        return tuple(found.values())

    def next_id(self, number: int) -> str:
        """Of the next box that somebody draws."""
        return f"a{self._added[number]}"

    def _take_back(self, stroke: BoxStroke) -> BoxStroke:
        if stroke.number < 0:
            return stroke
        self._on[stroke.number].remove(stroke)
        if stroke.line["do"] == "done":
            self._done[stroke.number].remove(stroke.by)
            if not self._done[stroke.number]:
                del self._done[stroke.number]
            self._counts[stroke.by, self._streams.of[stroke.number]] -= 1
        return stroke


def proposals_line(name: str, found: Detections) -> dict[str, Any]:
    """What the model found, as a line of the file; hundredths of a pixel are enough."""
    return {
        "do": "proposals",
        "image": name,
        "size": [int(side) for side in found.size_hw],
        "boxes": found.xyxy.astype(np.float64).round(2).tolist(),
        "labels": list(found.names),
        "scores": found.scores.astype(np.float64).round(4).tolist(),
    }


def proposed_of(line: Line) -> Proposed:
    """Back from the file."""
    height, width = line["size"]
    boxes = [
        Box(f"p{i}", _corners(xyxy), str(label), float(score), "proposed", _corners(xyxy), str(label))
        for i, (xyxy, label, score) in enumerate(zip(line["boxes"], line["labels"], line["scores"], strict=True))
    ]
    return Proposed((int(height), int(width)), tuple(boxes))


def _change(found: dict[str, Box], line: Line) -> None:
    do = line["do"]
    if do == "done":
        found |= {box.id: replace(box, state="accepted") for box in found.values() if box.state == "proposed"}
    elif do == "add":
        found[line["box"]] = Box(line["box"], _corners(line["xyxy"]), line["label"], 1.0, "added")
    elif line["box"] in found:
        box = found[line["box"]]
        if do == "move":
            state: State = "added" if box.proposal is None and box.state != "rejected" else "moved"
            moved = _corners(line["xyxy"])
            found[box.id] = replace(box, xyxy=moved, label=line["label"], score=1.0, state=state)
        else:
            state = "rejected" if do == "reject" else "added" if box.proposal is None else "accepted"
            found[box.id] = replace(box, state=state)


def _corners(values: Any) -> Corners:
    left, top, right, bottom = (float(value) for value in values)
    return left, top, right, bottom
