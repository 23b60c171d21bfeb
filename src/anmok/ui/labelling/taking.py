"""Strokes of a page on their way to the disk: in their order, and each once, however often it is sent."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, TypeAlias

from anmok.errors import AnmokError, BadMedia, BadRequest
from anmok.labelling import BoxSession, BoxTask, LabelSession, Task
from anmok.labelling.box_book import Corners

Session: TypeAlias = LabelSession | BoxSession

_CLIENTS: Final = 256  # pages of browsers whose last stroke is remembered
_OURS: Final = "n"  # begins what a page calls a box until it is told its id


@dataclass(frozen=True, slots=True)
class Said:
    """One stroke of a page. ``number`` counts them; ``deed`` is ``answer`` for labels, ``accept``, ``reject``,
    ``move``, ``add`` or ``done`` for boxes, and ``undo`` for both. ``box`` is the box's id, and for one that the page
    has drawn itself ``n`` and the number of that stroke; ``xyxy`` is in pixels of the upright image."""

    number: int
    deed: str
    image: str = ""
    answer: str = ""
    seconds: float = 0.0
    box: str = ""
    xyxy: Corners = (0.0, 0.0, 0.0, 0.0)
    label: str = ""


@dataclass(slots=True)
class Written:
    """What became of some strokes: all up to ``number`` are done with; ``undone`` has the image that comes back by
    an undo; ``named`` has the ids of boxes that were drawn; ``refused`` says of strokes that could not be taken why."""

    number: int
    undone: list[tuple[int, Task | BoxTask]] = field(default_factory=list)
    named: dict[str, str] = field(default_factory=dict)
    refused: list[tuple[int, AnmokError]] = field(default_factory=list)


@dataclass(slots=True)
class _Client:
    """A page in a browser: its last stroke that is done with, and its names for boxes."""

    number: int = -1
    named: dict[str, str] = field(default_factory=dict)


class Taker:
    """Of one session.

    Args:
        session: takes the strokes.
        file: where it keeps them.
        photos: its folder.
    """

    def __init__(self, session: Session, file: Path, photos: Path) -> None:
        self._session = session
        self._file = file
        self._photos = photos
        self._lock = threading.Lock()
        self._clients: OrderedDict[str, _Client] = OrderedDict()

    def write(self, by: str, client: str, strokes: Sequence[Said], before: Sequence[Said] | None = None) -> Written:
        """Takes strokes, and returns when they are on the disk.

        Args:
            by: who labels.
            client: a page in somebody's browser, which numbers its strokes.
            strokes: with growing numbers.
            before: where these may have been sent already, to a server that was killed: the last ones that it had
                answered for.

        Raises:
            CannotWrite: the disk refuses; what came before is kept, and the rest has to be sent again.
        """
        with self._lock:
            known = self._clients.get(client)
            if known is None:
                known = self._clients[client] = self._recalled(by, strokes, before)
            self._clients.move_to_end(client)
            while len(self._clients) > _CLIENTS:
                self._clients.popitem(last=False)
            written = Written(known.number)
            for one in strokes:
                if one.number > known.number:
                    self._take(by, one, known, written)
                    written.number = known.number = one.number
            written.named = dict(known.named)
            return written

    def _take(self, by: str, one: Said, known: _Client, written: Written) -> None:
        task: Task | BoxTask | None
        try:
            if isinstance(self._session, LabelSession):
                task = _label(self._session, by, one)
            else:
                task = _box(self._session, by, replace(one, box=known.named.get(one.box, one.box)))
        except (BadRequest, BadMedia) as error:
            written.refused.append((one.number, error))
            return
        if one.deed == "undo" and task is not None:
            written.undone.append((one.number, task))
        if one.deed == "add" and isinstance(task, BoxTask):
            known.named[f"{_OURS}{one.number}"] = task.boxes[-1].id

    def _recalled(self, by: str, strokes: Sequence[Said], before: Sequence[Said] | None) -> _Client:
        """What a server before this one has taken of a page that is new to us: as many of ``strokes`` as stand at the
        file's end, behind ``before``."""
        if before is None:
            return _Client()
        lines = _lines(self._file, by)
        wanted = [*before, *strokes]
        for taken in range(len(strokes), -1, -1):
            whole = wanted[: len(before) + taken]
            tail = lines[len(lines) - len(whole) :]
            if whole and len(tail) == len(whole) and all(map(self._is_same, whole, tail)):
                named = {
                    f"{_OURS}{one.number}": str(line["box"])
                    for one, line in zip(whole, tail, strict=True)
                    if one.deed == "add"
                }
                return _Client(whole[-1].number, named)
        return _Client()

    def _is_same(self, one: Said, line: dict[str, Any]) -> bool:
        if one.deed != line.get("do"):
            return False
        if one.deed == "undo":
            return True
        is_answer = one.answer == line.get("answer", "") and abs(one.seconds - float(line["seconds"])) < 1e-3
        return is_answer and self._name(one.image) == line.get("image")

    def _name(self, image: str) -> str:
        try:
            return self._session.photo(image).relative_to(self._photos.resolve()).as_posix()
        except AnmokError:
            return ""


def _label(session: LabelSession, by: str, one: Said) -> Task | None:
    match one.deed:
        case "answer":
            session.answer(one.image, one.answer, by=by, seconds=one.seconds)
            return None
        case "undo":
            return session.undo(by=by)
        case _:
            raise BadRequest("do: want answer or undo")


def _box(session: BoxSession, by: str, one: Said) -> BoxTask:
    match one.deed:
        case "accept":
            return session.accept(one.image, one.box, by=by, seconds=one.seconds)
        case "reject":
            return session.reject(one.image, one.box, by=by, seconds=one.seconds)
        case "move":
            return session.move(one.image, one.box, one.xyxy, label=one.label, by=by, seconds=one.seconds)
        case "add":
            return session.add(one.image, one.xyxy, one.label, by=by, seconds=one.seconds)
        case "done":
            return session.done(one.image, by=by, seconds=one.seconds)
        case "undo":
            return session.undo(by=by)
        case _:
            raise BadRequest("do: want accept, reject, move, add, done or undo")


def _lines(file: Path, by: str) -> list[dict[str, Any]]:
    """This person's strokes, in order."""
    found: list[dict[str, Any]] = []
    for raw in file.read_bytes().split(b"\n"):
        try:
            line = json.loads(raw)
        except ValueError:  # torn, or the end
            continue
        if isinstance(line, dict) and line.get("by") == by:
            found.append(line)
    return found
