"""Folders that were looked through for searching: in the background, for all visitors, and a few of them in memory."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from weakref import WeakKeyDictionary

from anmok.catalogue import Card
from anmok.engine import Engine
from anmok.engine.answering import Caught
from anmok.errors import AnmokError, BadData, BadRequest, Busy
from anmok.index import Index, Served, build
from anmok.labelling.photos import Photos
from anmok.ui.page import Page
from anmok.ui.sessions import Sessions
from anmok.ui.sources import Source

_KEPT: Final = 4  # folders; one of 50,000 photos takes up to 150 MB
_AT_ONCE: Final = 2  # that are looked through; others wait
_MOST: Final = 8  # under way or waiting
_BEHIND: Final = -5  # priority: those who ask at this moment go first
_FRESH: Final = 30.0  # seconds after which a folder is looked through again: of what is known, that reads no file

Key = tuple[str, str]  # folder, served model


@dataclass(slots=True, eq=False)
class Shelf:
    """One folder as one model sees it. Its thread writes, everybody reads; each field changes at one stroke.

    ``index``: what can be searched; ``error``: what kept it from being made; ``ended``: one of the two is there.
    """

    source: Source
    done: int = 0
    total: int = 0
    index: Index | None = None
    error: AnmokError | None = None
    made: float = 0.0
    ended: threading.Event = field(default_factory=threading.Event)

    def found(self) -> Index:
        """What can be searched. Raises what kept it from being made."""
        if self.error is not None:
            raise self.error
        assert self.index is not None
        return self.index

    def name_of(self, path: Path) -> str:
        """A photo's name for people: its way below the folder."""
        return path.relative_to(self.source.folder.resolve()).as_posix()


class Shelves:
    """All of one server. Safe to share between threads."""

    def __init__(self, engine: Engine, *, kept: int = _KEPT, fresh: float = _FRESH) -> None:
        self._engine = engine
        self._kept = kept
        self._fresh = fresh
        self._lock = threading.Lock()
        self._turns = threading.Semaphore(_AT_ONCE)
        self._shelves: OrderedDict[Key, Shelf] = OrderedDict()

    def __len__(self) -> int:
        """How many are in memory."""
        with self._lock:
            return len(self._shelves)

    def open(self, source: Source, name: str, card: Card) -> Shelf:
        """Begins to look through a folder, or joins those who wait for it; what was looked through a moment ago is
        returned as it is.

        Args:
            source: the folder.
            name, card: of the served model.

        Raises:
            Busy: enough folders are under way.
        """
        key = (str(source.folder.resolve()), name)
        with self._lock:
            known = self._shelves.get(key)
            if known is not None and self._is_good(known):
                self._shelves.move_to_end(key)
                return known
            if sum(not one.ended.is_set() for one in self._shelves.values()) >= _MOST:
                raise Busy("as many folders as this server takes are being looked through; try again later", 15.0)
            shelf = self._shelves[key] = Shelf(source)
            self._shelves.move_to_end(key)
            self._make_room()
        served = Served(self._engine, name, card, priority=_BEHIND)
        threading.Thread(target=self._fill, args=(shelf, served), name="anmok-search", daemon=True).start()
        return shelf

    def _is_good(self, shelf: Shelf) -> bool:
        if not shelf.ended.is_set():
            return True
        return shelf.error is None and time.monotonic() - shelf.made < self._fresh

    def _make_room(self) -> None:
        """The longest unused goes first. Whoever searches in it at this moment holds it himself."""
        over = [key for key, one in self._shelves.items() if one.ended.is_set()]
        for key in over[: max(0, len(self._shelves) - self._kept)]:
            del self._shelves[key]

    def _fill(self, shelf: Shelf, served: Served) -> None:
        def report(done: int, total: int) -> None:
            shelf.done, shelf.total = done, total

        caught = Caught()
        with self._turns, caught:
            photos = _photos(shelf.source)
            shelf.total = len(photos)
            shelf.index = build([photos.root / name for name in photos.names], served, progress=report)
        if caught.error is not None:
            shelf.error = caught.told(shelf.source.called, "the folder could not be looked through")
        shelf.made = time.monotonic()
        shelf.ended.set()


def _photos(source: Source) -> Photos:
    """What lies in the folder itself: links that lead out of it are left out."""
    try:
        return Photos(source.folder)
    except BadData:  # names a folder of this machine
        raise BadRequest(f"{source.called}: there are no photos in it (JPEG, PNG, WEBP ...)") from None


_ALL: WeakKeyDictionary[Sessions, Shelves] = WeakKeyDictionary()
_ALL_LOCK: Final = threading.Lock()


def shelves_of(page: Page) -> Shelves:
    """Of the server that has that page: the same in all languages."""
    with _ALL_LOCK:
        return _ALL.setdefault(page.sessions, Shelves(page.host.engine))
