"""Labelling sessions that are open on this server, each for all who label that folder with those labels."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from anmok.engine import Engine
from anmok.errors import BadRequest, Busy, Closing
from anmok.labelling import BoxSession, BoxStanding, LabelSession, Served, ServedFinder, Standing
from anmok.labelling.boxes import BOX_STROKES
from anmok.labelling.session import STROKES
from anmok.ui.host import Host
from anmok.ui.keeping import tidy
from anmok.ui.labelling.pictures import Pictures
from anmok.ui.labelling.places import Place, Places
from anmok.ui.labelling.taking import Session, Taker
from anmok.ui.sources import allowance_of

LABELS, BOXES = "labels", "boxes"
_MOST: Final = 12  # sessions at a time
_IDLE: Final = 900.0  # seconds without a word after which one gives way to another
_FRESH: Final = 0.5  # seconds that a verdict is good for: many may look at it


@dataclass(frozen=True, slots=True)
class Wanted:
    """What makes a session: a name of ``Places``, ``labels`` or ``boxes``, the classes, and a served model; "" for
    none: images then come in random order and nothing is measured, or all boxes are drawn by people."""

    place: str
    kind: str
    labels: tuple[str, ...]
    model: str

    @property
    def own(self) -> tuple[str, ...]:
        """What no other session of the place has. Labels may be joined with another model; boxes belong to the model
        that has proposed them."""
        return (self.kind, self.model, *self.labels) if self.kind == BOXES else (self.kind, *self.labels)


@dataclass(slots=True)
class Room:
    """An open session. ``id`` follows from place and labels, so that it is the same after a restart."""

    id: str
    wanted: Wanted
    place: Place
    session: Session
    store: Path
    taker: Taker
    used: float = field(default_factory=time.monotonic)
    _looking: threading.Lock = field(default_factory=threading.Lock)
    _stood: tuple[float, Standing | BoxStanding] | None = None

    def standing(self) -> Standing | BoxStanding:
        """How it stands; one look a moment is enough for all."""
        with self._looking:
            now = time.monotonic()
            if self._stood is None or now - self._stood[0] > _FRESH:
                self._stood = (now, self.session.verdict())
            return self._stood[1]


class Rooms:
    """All of one server. Safe to share between threads."""

    def __init__(self, host: Host) -> None:
        tidy()
        self._engine = host.engine
        self.places = Places(host.root, allowance_of(host))
        self.pictures = Pictures()
        self._lock = threading.Lock()
        self._open: dict[str, Room] = {}
        self._is_closed = False

    def open(self, wanted: Wanted) -> Room:
        """Begins labelling, or joins those who do it already.

        Raises:
            BadRequest: no such folder, or labels that cannot be used.
            BadData: no pictures in it, or a damaged file of strokes.
            Busy: too many sessions are open.
            CannotWrite: the folder cannot be written.
            Closing: the server is shutting down.
        """
        if wanted.kind not in (LABELS, BOXES):
            raise BadRequest(f"kind: want {LABELS} or {BOXES}")
        place = self.places.find(wanted.place)
        room_id = hashlib.sha256(json.dumps([place.name, *wanted.own]).encode()).hexdigest()[:24]
        with self._lock:
            if self._is_closed:
                raise Closing("the server is shutting down")
            room = self._open.get(room_id)
            if room is None:
                self._make_room()
                room = self._open[room_id] = self._begun(room_id, wanted, place)
            room.used = time.monotonic()
            return room

    def find(self, room_id: str) -> Room | None:
        """The open session of that id."""
        with self._lock:
            room = self._open.get(room_id)
            if room is not None:
                room.used = time.monotonic()
            return room

    def close(self) -> None:
        """Ends all of them, for good. Nothing is lost without it."""
        with self._lock:
            self._is_closed = True
            rooms, self._open = list(self._open.values()), {}
        with contextlib.ExitStack() as stack:  # each, whatever others raise
            stack.callback(self.pictures.close)
            for room in rooms:
                stack.callback(room.session.close)

    def _begun(self, room_id: str, wanted: Wanted, place: Place) -> Room:
        store, model = place.store(wanted.own), wanted.model
        session: Session
        if wanted.kind == BOXES:
            finder = ServedFinder(self._engine, model) if model else None
            session = BoxSession.open(place.photos, wanted.labels, store=store, model=finder)
        else:
            looker = Served(self._engine, model) if model else None
            session = LabelSession.open(place.photos, wanted.labels, store=store, model=looker)
        file = store / (BOX_STROKES if wanted.kind == BOXES else STROKES)
        return Room(room_id, wanted, place, session, store, Taker(session, file, place.photos))

    def _make_room(self) -> None:
        if len(self._open) < _MOST:
            return
        oldest = min(self._open.values(), key=lambda room: room.used)
        left = oldest.used + _IDLE - time.monotonic()
        if left > 0:
            raise Busy(f"{_MOST} folders are being labelled on this server already", left)
        del self._open[oldest.id]
        oldest.session.close()


_ROOMS: Final[dict[Engine, Rooms]] = {}
_LOCK: Final = threading.Lock()


def rooms_of(host: Host) -> Rooms:
    """The rooms of that server: the same for its pages in all languages and for its routes. They end with its engine.

    Raises:
        Closing: the engine is shutting down.
    """
    engine = host.engine
    with _LOCK:
        if engine not in _ROOMS:
            rooms = Rooms(host)
            engine.at_close(lambda: _end(engine))
            _ROOMS[engine] = rooms
        return _ROOMS[engine]


def _end(engine: Engine) -> None:
    with _LOCK:
        rooms = _ROOMS.pop(engine, None)
    if rooms is not None:
        rooms.close()
