"""The file of strokes: one JSON line each, appended and on the disk before anybody is told that it was taken.

Nothing in it is ever rewritten, and everything else is a replay of it. Several processes may write to one file: each
takes the file's lock, reads what the others added, and appends a whole line. Where a process was killed within a line,
the next writer closes that line and notes how many bytes were lost; nobody had been told that they were kept.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from anmok.errors import BadData, BadRequest
from anmok.files import cannot_write

if sys.platform != "win32":
    import fcntl

FORMAT = 1
Line = dict[str, Any]
_TORN = "torn"
_PLAIN = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)  # no child holds it; Windows leaves line ends alone
_START = b'{"do": "begin"'


class StrokeFile:
    """``header`` is the first line: what a session is about. Not safe between threads: the session has a lock.

    Args:
        path: of the file; made where it is missing, with its folder.
        header: written into a new file; an old file must hold the same.

    Raises:
        BadData: the file is damaged where somebody had been told that a line was kept.
        BadRequest: the file was begun with another header.
        CannotWrite: the disk refuses.
    """

    def __init__(self, path: Path, header: Mapping[str, Any]) -> None:
        self.path = path
        self.torn = 0  # lines that a kill cut off
        self._offset = 0  # bytes that were replayed
        self._number = 0  # lines
        self._waiting = b""  # a line that is no JSON, until the next one says that it was torn
        with cannot_write(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | _PLAIN, 0o666)
            self._reader = path.open("rb")
        with ExitStack() as stack:
            stack.callback(self.close)
            self._fresh = self._begun({"do": "begin", "format": FORMAT, **header})
            stack.pop_all()  # it went well: the file stays open

    def read(self) -> list[Line]:
        """What was added since the last time, by whomever. A line that is still being written waits."""
        fresh, self._fresh = self._fresh, []
        return fresh + self._grown()

    def append(self, lines: Sequence[Mapping[str, Any]]) -> list[Line]:
        """Puts lines behind all others and returns when they are on the disk.

        Returns:
            what was added since the last time, these lines included, in the order of the file.

        Raises:
            CannotWrite: the disk refuses. Where it took the lines but would not say that they are safe, they count
                when they are read back.
        """
        with cannot_write(self.path), _alone(self._descriptor):
            fresh = self.read()
            self._close_torn()
            self._write(b"".join(_encoded(line) for line in lines))
        return fresh + self.read()

    def close(self) -> None:
        """Lets go of the file."""
        self._reader.close()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _begun(self, header: Line) -> list[Line]:
        with cannot_write(self.path), _alone(self._descriptor):
            self._check_start()
            lines = self._grown()
            self._close_torn()
            if not lines:
                self._write(_encoded({**header, "at": now()}))
                _flush_folder(self.path.parent)
            lines += self._grown()
        self._check(lines[0] if lines else {}, header)
        return lines[1:]

    def _check_start(self) -> None:
        """A file that is not ours is left as it is."""
        start = self._reader.read(len(_START)).partition(b"\n")[0]
        if not _START.startswith(start):
            raise BadData(f"{self.path}: is no file of strokes; give another store")

    def _check(self, found: Line, wanted: Line) -> None:
        if found.get("do") != "begin" or found.get("format") != FORMAT:
            raise BadData(f"{self.path}: not begun by this version of anmok; give another store")
        for key, value in wanted.items():
            if found.get(key) != value:
                raise BadRequest(
                    f"{self.path}: begun with {key} {found.get(key)!r}, now {value!r}: take another folder"
                )

    def _grown(self) -> list[Line]:
        if os.fstat(self._descriptor).st_size <= self._offset:
            return []
        self._reader.seek(self._offset)
        whole, newline, _ = self._reader.read().rpartition(b"\n")
        self._offset += len(whole) + len(newline)
        return [line for raw in whole.split(b"\n") if (line := self._parsed(raw)) is not None] if newline else []

    def _parsed(self, raw: bytes) -> Line | None:
        self._number += 1
        line = _decoded(raw)
        if line is None:
            self._waiting += raw + b"\n"
            return None
        if line.get("do") == _TORN:
            self.torn += 1
            self._waiting = b""
            return None
        if self._waiting:
            raise BadData(f"{self.path}: line {self._number - 1} is damaged; mend it from a copy, or delete the line")
        return line

    def _close_torn(self) -> None:
        """With the lock: nobody is writing, so what has no line end will never get one."""
        self._reader.seek(self._offset)
        rest = self._reader.read()
        lost = len(self._waiting) + len(rest)
        note = _encoded({"do": _TORN, "bytes": lost, "at": now()})
        if rest and _decoded(rest) is not None and not self._waiting:
            self._write(b"\n")  # whole but for its end: it counts
        elif rest:
            self._write(b"\n" + note)
        elif self._waiting:  # the last writer was killed before its own note
            self._write(note)

    def _write(self, data: bytes) -> None:
        while data:  # more than one turn only where the disk is all but full
            data = data[os.write(self._descriptor, data) :]
        os.fsync(self._descriptor)


def now() -> str:
    """UTC, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _encoded(line: Mapping[str, Any]) -> bytes:
    return json.dumps(line, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def _decoded(raw: bytes) -> Line | None:
    try:
        line = json.loads(raw)
    except ValueError:  # no JSON, or no UTF-8
        return None
    return line if isinstance(line, dict) else None


@contextmanager
def _alone(descriptor: int) -> Iterator[None]:
    """No other process writes meanwhile. Windows has no such lock: there, one process at a time."""
    if sys.platform == "win32":
        yield
        return
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def _flush_folder(folder: Path) -> None:
    """The name of a new file is on the disk too."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
