"""The file that a followed clip leaves: a JSON object a line, which a killed run goes on from.

The first line says what was asked; each further one is a frame (``Tracked.to_dict``), a frame that could not be
decoded (``broken``), or the place where a killed run went on (``resumed_at``); the last says that the end was reached.
However long the clip, one line is in memory.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from anmok.errors import BadData, BadRequest
from anmok.files import cannot_write
from anmok.inputs import Clip
from anmok.results import Tracked
from anmok.tasks import Track

VERSION = 1


@dataclass(slots=True)
class Standing:
    """What an earlier run of the same question left. All numbers are as of ``last``, where it is to be gone on."""

    is_done: bool = False
    last: Tracked | None = None  # nothing to go on from: None
    end: int = 0  # bytes of the file up to there
    frames: int = 0
    seen: list[int] = field(default_factory=list)  # objects, in order of appearance
    broken: list[int] = field(default_factory=list)


class Log:
    """The file, written line by line. Nothing is there before the first frame is. Use it in a ``with`` block."""

    def __init__(self, path: Path, head: dict[str, Any], standing: Standing) -> None:
        self._path = path
        self._head = head
        self._standing = standing
        self._file: TextIO | None = None
        self._told = len(standing.broken)

    def __enter__(self) -> Log:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            with cannot_write(self._path):
                self._file.close()

    def frame(self, piece: Tracked, broken: Sequence[int]) -> None:
        """A frame, after those of ``broken`` (all so far) that no line tells of yet."""
        self._write(*({"broken": number} for number in broken[self._told :]), piece.to_dict())
        self._told = len(broken)

    def done(self, frames: int, broken: Sequence[int]) -> None:
        """The end of the clip."""
        self._write({"done": True, "frames": frames, "broken": list(broken)})

    def _write(self, *records: dict[str, Any]) -> None:
        with cannot_write(self._path):
            file, last = self._file, self._standing.last
            if file is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                if last is not None:
                    os.truncate(self._path, self._standing.end)
                file = self._file = self._path.open("w" if last is None else "a", encoding="utf-8", newline="\n")
                print(_text(self._head if last is None else {"resumed_at": last.frame}), file=file)
            for record in records:
                print(_text(record), file=file, flush=True)


def _text(record: dict[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False)


def head(clip: Clip, ask: Track, maker: str) -> dict[str, Any]:
    """What must be the same for a run to be gone on with."""
    question = {"threshold": ask.threshold, "every": ask.every, "match": ask.match, "phrases": ask.phrases}
    content = {
        "anmok": "track",
        "version": VERSION,
        "clip": _identity(clip),
        "model": maker,
        "labels": ask.labels,
        "ask": question,
        "span": [clip.fps, clip.start, clip.end],
        "cues": [repr(cue) for cue in clip.cues],
    }
    plain: dict[str, Any] = json.loads(json.dumps(content))  # tuples become lists, as in the file
    return plain


def standing(path: Path, wanted: dict[str, Any], stride: int) -> Standing:
    """How far an earlier run came: to its last frame with something in sight, of those whose number is a multiple of
    ``stride``.

    Raises:
        BadRequest: the file is another question's, or no such file at all.
    """
    found, seen, broken, last = Standing(), dict[int, None](), list[int](), None
    if not path.exists() or not path.stat().st_size:
        return found
    try:
        for count, (end, record) in enumerate(_records(path)):
            if count == 0 and record != wanted:
                raise BadRequest(f"{path} holds the track of another clip, model or question: {_REMEDY}")
            if "broken" in record and "done" not in record:
                broken.append(record["broken"])
            if "frame" in record:
                found.frames += 1
                seen.update(dict.fromkeys(one["id"] for one in record["objects"]))
                if record["frame"] % stride == 0 and any(one["area"] for one in record["objects"]):
                    last = end, record, found.frames, len(seen), len(broken)
            found.is_done = bool(record.get("done"))
    except (BadData, KeyError, TypeError) as error:
        raise BadRequest(f"{path} is no file that `anmok track` wrote: {_REMEDY}") from error
    found.seen, found.broken = list(seen), broken
    if found.is_done or last is None:
        return found if found.is_done else Standing()
    labels = tuple(wanted["labels"] or ())
    return Standing(False, _piece(last[1], labels), last[0], last[2], found.seen[: last[3]], broken[: last[4]])


def read(path: Path) -> Iterator[Tracked]:
    """The frames of a file that ``follow`` wrote, one by one.

    Raises:
        BadData: it is no such file, or a line before the last is damaged.
    """
    labels: tuple[str, ...] = ()
    for _, record in _records(path):
        if "anmok" in record:
            labels = tuple(record.get("labels") or ())
        elif "frame" in record:
            yield _piece(record, labels)


_REMEDY = "choose another name, or write over it by --fresh"


def _piece(record: dict[str, Any], labels: tuple[str, ...]) -> Tracked:
    """Without labels of the question, those of the model stand in the lines."""
    named = dict.fromkeys(one["label"] for one in record["objects"] if "label" in one)
    return Tracked.from_dict(record, labels or tuple(named))


def _records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Every whole line with the number of bytes up to its end; the last of a killed run may be cut off."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise BadData(f"{path}: cannot be read ({error.strerror})") from None
    end, count = 0, 0
    with file:
        for line in file:
            end += len(line)
            count += 1
            if count > 1 and not line.endswith(b"\n"):
                return
            record = _parsed(line)
            if record is None or (count == 1 and record.get("anmok") != "track"):
                raise BadData(f"{path}, line {count}: not a file that `anmok track` wrote, or damaged")
            yield end, record
    if count == 0:
        raise BadData(f"{path}: not a file that `anmok track` wrote")


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _identity(clip: Clip) -> str:
    """Name, size and time of the last change: enough to tell clips apart without reading an hour of video."""
    if not isinstance(clip.source, str | Path):
        raise BadRequest("follow: the clip must be a file or a folder of pictures")
    path = Path(clip.source)
    if not path.exists():
        raise BadRequest(f"{path}: no such file or folder")
    parts = sorted(path.iterdir()) if path.is_dir() else [path]
    facts = [part.stat() for part in parts]
    changed = max((one.st_mtime_ns for one in facts), default=0)
    return f"{path.name} {len(parts)} {sum(one.st_size for one in facts)} {changed}"
