"""What sessions of labels and of boxes have in common: a folder, a file of strokes, a thread behind, and an end."""

from __future__ import annotations

import math
import threading
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from anmok.errors import BadRequest
from anmok.labelling.background import Background
from anmok.labelling.photos import Photos
from anmok.labelling.strokes import StrokeFile


class _Shown(Protocol):
    """An image as ``next`` gives it."""

    @property
    def id(self) -> str: ...


class Sitting:
    """Opened once, shared between threads under its lock, and closed at the end of a ``with`` block."""

    def __init__(self, photos: Photos, labels: tuple[str, ...], by: str, file: StrokeFile, behind: Background) -> None:
        self._photos, self._labels, self._by = photos, labels, checked_name(by)
        self._file, self._behind = file, behind
        self._lock = threading.RLock()

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes, in the order of their keys."""
        return self._labels

    def settled(self, seconds: float) -> bool:
        """Waits until the model has looked at everything, and learnt from everything; False where it has not in that
        time."""
        return self._behind.wait(seconds)

    def photo(self, task: _Shown | str) -> Path:
        """Where the image of a task lies.

        Raises:
            BadRequest: an unknown id.
            Forbidden: meanwhile somebody put a link there that leads out of the folder.
        """
        return self._photos.path(self._number(task))

    def close(self) -> None:
        """Ends the thread behind it and lets go of the file. Nothing is lost without it."""
        self._behind.close()
        with self._lock:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _number(self, task: _Shown | str) -> int:
        return self._photos.find(task if isinstance(task, str) else task.id)

    def _who(self, by: str) -> str:
        """Whose stroke it is."""
        return checked_name(by or self._by)


def checked_seconds(seconds: float) -> float:
    """The same.

    Raises:
        BadRequest: not a time.
    """
    if not (math.isfinite(seconds) and seconds >= 0):
        raise BadRequest(f"seconds {seconds}: want how long the answer took")
    return seconds


def checked_name(by: str) -> str:
    """The same without blanks around it.

    Raises:
        BadRequest: no name that can be shown.
    """
    if not by.strip() or len(by) > 64 or not by.isprintable():
        raise BadRequest(f"by {by[:40]!r}: want a short name of who answers")
    return by.strip()
