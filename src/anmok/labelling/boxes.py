"""`BoxSession`: a model proposes boxes, people accept, move, reject or draw them, one key at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from anmok import geometry
from anmok.errors import BadData, BadRequest
from anmok.labelling.box_book import Box, BoxBook, Corners
from anmok.labelling.box_standing import BoxStanding, box_standing
from anmok.labelling.photos import Photos, checked_labels
from anmok.labelling.proposing import Finder, Proposer, finder_of
from anmok.labelling.sitting import Sitting, checked_seconds
from anmok.labelling.streams import Stream, Streams
from anmok.labelling.strokes import Line, StrokeFile, now
from anmok.labelling.turns import Turns
from anmok.load import Model
from anmok.metrics.annotations import from_results, write_coco, write_voc, write_yolo
from anmok.results import Detections
from anmok.tasks import Detect

Form = Literal["coco", "yolo", "voc"]
BOX_STROKES = "boxes.jsonl"
_AHEAD = 64  # images among which the doubtful come first


@dataclass(frozen=True, slots=True)
class BoxTask:
    """An image whose boxes are to be judged. ``size_hw`` and ``boxes`` are there when ``is_ready``: before that the
    model has not looked at it yet."""

    id: str
    path: str
    stream: Stream
    is_ready: bool
    size_hw: tuple[int, int]
    boxes: tuple[Box, ...]


class BoxSession(Sitting):
    """Boxes of one folder, by one or several people; an image goes to one person. Safe to share between threads.

    One image in three measures how good the proposals are; of the others the doubtful ones come first. Every stroke is
    on the disk before the call returns.
    """

    def __init__(self, photos: Photos, ask: Detect, file: StrokeFile, *, by: str, finder: Finder, seed: int) -> None:
        """Use `open`."""
        assert ask.labels is not None
        self._streams = Streams(photos.names, seed, has_shared=False)
        self._proposer = Proposer(photos, self._streams, ask)
        super().__init__(photos, ask.labels, by, file, self._proposer.background)
        self._book = BoxBook(photos.number, self._streams)
        self._turns = Turns(self._streams, self._book)
        self._turns.broken = self._proposer.broken
        self._take(file.read())
        self._proposer.start(finder, lambda number: number not in self._book.proposed, self._keep)

    @classmethod
    def open(
        cls,
        folder: Path,
        labels: Sequence[str],
        *,
        store: Path,
        by: str = "a",
        model: str | Model | Finder | None = None,
        seed: int = 0,
    ) -> BoxSession:
        """Begins a session, or goes on with the one in ``store``. Proposals that were made once stay as they are.

        Args:
            folder, store, by, seed: as for `LabelSession.open`.
            labels: what the boxes are of; what the model is asked for.
            model: a card's name, a loaded model, ``ServedFinder(engine, name)``, or None: people draw all boxes. It
                stays the same for the whole session, since proposals of two models have no common precision.

        Raises:
            BadData, BadRequest, UnknownModel, CannotWrite: as `LabelSession.open`.
        """
        checked = checked_labels(labels)
        finder, photos = finder_of(model), Photos(Path(folder))
        header = {"kind": "boxes", "labels": list(checked), "model": finder.name, "seed": seed}
        file = StrokeFile(Path(store) / BOX_STROKES, header)
        return cls(photos, Detect(checked), file, by=by, finder=finder, seed=seed)

    def next(self, count: int = 1, *, by: str = "") -> list[BoxTask]:
        """What this person is shown next, at most ``count``; the same again until it is done."""
        if count < 1:
            raise BadRequest(f"count {count}: want at least 1")
        with self._lock:
            self._take(self._file.read())
            numbers = self._turns.next(self._who(by), count, self._doubtful())
            return [self._task(number) for number in numbers]

    def accept(self, task: BoxTask | str, box: str, *, by: str = "", seconds: float = 0.0) -> BoxTask:
        """This box is right. Returns the image as it is now, as all strokes do.

        Raises:
            BadRequest: an unknown image or box, or an image that the model has not looked at yet.
            CannotWrite: the disk refuses; nothing has changed.
        """
        return self._stroke(task, {"do": "accept", "box": box}, by, seconds)

    def reject(self, task: BoxTask | str, box: str, *, by: str = "", seconds: float = 0.0) -> BoxTask:
        """There is no such thing here. Raises as `accept`."""
        return self._stroke(task, {"do": "reject", "box": box}, by, seconds)

    def move(
        self, task: BoxTask | str, box: str, xyxy: Corners, *, label: str = "", by: str = "", seconds: float = 0.0
    ) -> BoxTask:
        """The box belongs here, in pixels of the upright picture; with ``label`` it is also called otherwise.

        Raises:
            BadRequest: as `accept`; or a box outside the picture or without area, or an unknown label.
            CannotWrite: the disk refuses; nothing has changed.
        """
        return self._stroke(task, {"do": "move", "box": box, "xyxy": list(xyxy), "label": label}, by, seconds)

    def add(self, task: BoxTask | str, xyxy: Corners, label: str, *, by: str = "", seconds: float = 0.0) -> BoxTask:
        """Here is one that the model has missed. Raises as `move`."""
        return self._stroke(task, {"do": "add", "xyxy": list(xyxy), "label": label}, by, seconds)

    def done(self, task: BoxTask | str, *, by: str = "", seconds: float = 0.0) -> BoxTask:
        """The image is complete; proposals that nobody touched are right. Raises as `accept`."""
        return self._stroke(task, {"do": "done"}, by, seconds)

    def undo(self, *, by: str = "") -> BoxTask:
        """Takes back this person's last stroke; its image comes next again.

        Raises:
            BadRequest: there is none.
            CannotWrite: the disk refuses.
        """
        who = self._who(by)
        with self._lock:
            self._take(self._file.read())
            mine = self._book.by_person.get(who)
            if not mine:
                raise BadRequest(f"nothing to undo: {who} has no strokes here")
            last = mine[-1]
            self._take(self._file.append([{"do": "undo", "by": who, "at": now()}]))
            if last.number < 0:
                raise BadRequest(f"{last.line['image']}: is not in the folder any more; the stroke was taken back")
            return self._task(last.number)

    def results(self) -> dict[str, Detections]:
        """The kept boxes of every image that is done, by its path below the folder; scores are 1."""
        with self._lock:
            self._take(self._file.read())
            return {self._photos.names[i]: self._detections(i) for i in sorted(self._book.done)}

    def export(self, folder: Path, form: str = "coco") -> int:
        """Writes the boxes of all images that are done, and returns their number.

        Args:
            folder: where ``annotations.json`` (coco), ``labels/`` (yolo) or an XML file per image (voc) go.
            form: ``coco``, ``yolo`` or ``voc``.

        Raises:
            BadRequest: another form.
            BadData: nothing is done yet.
            CannotWrite: the disk refuses.
        """
        if form not in get_args(Form):
            raise BadRequest(f"form {form!r}: want {', '.join(get_args(Form))}")
        found = self.results()
        if not found:
            raise BadData("no image is done yet: there is nothing to export")
        whole = from_results(list(found), list(found.values()), has_scores=False)
        if form == "coco":
            write_coco(whole, folder / "annotations.json")
        else:
            (write_yolo if form == "yolo" else write_voc)(whole, folder)
        return len(whole)

    def verdict(self) -> BoxStanding:
        """How it stands."""
        with self._lock:
            self._take(self._file.read())
            return box_standing(self._book, self._streams, self._photos, self._proposer, self._file.torn)

    def _stroke(self, task: BoxTask | str, line: Line, by: str, seconds: float) -> BoxTask:
        number, who = self._number(task), self._who(by)
        rest = {"by": who, "seconds": round(checked_seconds(seconds), 3), "at": now()}
        with self._lock:
            self._take(self._file.read())
            whole = {**self._checked(number, line), "image": self._photos.names[number], **rest}
            self._take(self._file.append([whole]))
            return self._task(number)

    def _checked(self, number: int, line: Line) -> Line:
        """The line with its box inside the picture and its label filled in."""
        name = self._photos.names[number]
        if number not in self._book.proposed:
            raise BadRequest(f"{name}: the model has not looked at it yet; ask for the task again")
        if line["do"] == "done":
            return {**line, "stream": self._streams.of[number]}
        boxes = {box.id: box for box in self._book.boxes(number)}
        if line["do"] == "add":
            line = {**line, "box": self._book.next_id(number)}
        elif line["box"] not in boxes:
            raise BadRequest(f"{name}: has no box {line['box'][:40]!r}")
        if line["do"] in ("accept", "reject"):
            return line
        label = line["label"] or boxes[line["box"]].label if line["box"] in boxes else line["label"]
        if label not in self._labels:
            raise BadRequest(f"label {label[:40]!r}: want {', '.join(self._labels)}")
        return {**line, "label": label, "xyxy": self._inside(number, line["xyxy"])}

    def _inside(self, number: int, xyxy: Sequence[float]) -> list[float]:
        height, width = self._book.proposed[number].size_hw
        corners = np.asarray(xyxy, np.float64)
        if corners.shape != (4,) or not np.isfinite(corners).all():
            raise BadRequest(f"box {tuple(xyxy)}: want left, top, right, bottom in pixels")
        left, top, right, bottom = (float(side) for side in np.clip(corners, 0, [width, height, width, height]))
        if right - left < 1e-3 or bottom - top < 1e-3:
            raise BadRequest(f"box {tuple(xyxy)}: covers nothing of a picture of {width} x {height} pixels")
        return [round(side, 2) for side in (left, top, right, bottom)]

    def _keep(self, lines: Sequence[Mapping[str, Any]]) -> None:
        with self._lock:
            self._take(self._file.append(lines))

    def _take(self, lines: Sequence[Line]) -> None:
        """Replays what is new. With the lock."""
        for line in lines:
            stroke = self._book.apply(line)
            if stroke is None or stroke.number < 0:
                continue
            if line["do"] == "undo":
                self._turns.again(stroke.by, stroke.number)
            elif line["do"] == "done":
                self._turns.done(stroke.by, stroke.number)

    def _doubtful(self) -> list[int]:
        """Of the next teaching images, those first on which the model is least sure of a box."""
        proposed, done = self._book.proposed, self._book.done
        ready = islice((i for i in self._streams.teach if i in proposed and i not in done), _AHEAD)
        return sorted(ready, key=lambda i: -max((_doubt(box.score) for box in proposed[i].boxes), default=0.0))

    def _task(self, number: int) -> BoxTask:
        proposed = self._book.proposed.get(number)
        return BoxTask(
            self._photos.ids[number],
            self._photos.names[number],
            self._streams.of[number],
            is_ready=proposed is not None,
            size_hw=(0, 0) if proposed is None else proposed.size_hw,
            boxes=self._book.boxes(number),
        )

    def _detections(self, number: int) -> Detections:
        kept = [box for box in self._book.boxes(number) if box.state != "rejected"]
        size = self._book.proposed[number].size_hw
        xyxy = np.asarray([box.xyxy for box in kept], np.float32).reshape(-1, 4)
        ids = np.asarray([self._labels.index(box.label) for box in kept], np.int64)
        return Detections(geometry.clipped(xyxy, size), np.ones(len(kept), np.float32), ids, self._labels, size)


def _doubt(score: float) -> float:
    """1 at a score of one half, 0 where the model is sure."""
    return 1 - abs(2 * score - 1)
