"""What was said on the page, and an answer pulled out of the engine without holding up the server's loop."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from anyio import CapacityLimiter, to_thread

from anmok import media
from anmok.engine.streaming import Pieces
from anmok.errors import AnmokError, BadMedia, TooMuch
from anmok.inputs import Clip, Conversation, Part, Role, Sound, Text, Turn
from anmok.results import Piece
from anmok.ui.host import Host
from anmok.ui.senses import kind_of

_BETWEEN: Final = 0.05  # seconds between two sights of an answer, and two looks at whether it is to stop
_SILENT: Final = 1.0


@dataclass(frozen=True, slots=True)
class Said:
    """One turn: words, and the files of the pictures, videos and sounds that came with them. ``has_sound``: the videos
    are played with their sound tracks. ``start`` and ``end`` are seconds of the videos and sounds. ``is_failed``: of a
    question whose answer broke off, and of what there is of the answer: seen on the page, and told to no model."""

    role: Role
    text: str
    pictures: tuple[str, ...] = ()
    sounds: tuple[str, ...] = ()
    has_sound: bool = False
    start: float = 0.0
    end: float | None = None
    is_failed: bool = False

    @property
    def has_time(self) -> bool:
        """Whether something in it has a beginning and an end."""
        return bool(self.sounds) or any(map(is_video, self.pictures))


def failed(asked: Sequence[Said], text: str) -> tuple[Said, ...]:
    """The conversation whose last question has ``text`` for an answer, and no more, because something went wrong."""
    *before, question = asked
    return (*before, replace(question, is_failed=True), Said("assistant", text, is_failed=True))


def retried(turns: Sequence[Said]) -> tuple[Said, ...]:
    """The conversation of ``failed`` as it was when the question was asked."""
    *before, question, _ = turns
    return (*before, replace(question, is_failed=False))


def told(turns: Sequence[Said]) -> tuple[Said, ...]:
    """What a model is told of it."""
    return tuple(one for one in turns if not one.is_failed)


def conversation_of(host: Host, turns: Sequence[Said], system: str) -> Conversation:
    """What the model is asked, with the bytes of what is shown, so that the engine knows what it has seen.

    Raises:
        BadRequest: nothing is said in it, or the seconds of a video or sound span no time.
        BadMedia: a file is no longer there.
        TooMuch: a file that is larger than what is let in.
    """
    first = [Turn("system", (Text(system),))] if (system or "").strip() else []
    return Conversation((*first, *(Turn(one.role, _parts(host, one)) for one in turns)))


def _parts(host: Host, said: Said) -> tuple[Part, ...]:
    limits = host.intake
    parts: list[Part] = []
    for path in map(Path, said.pictures):
        if is_video(path.name):
            data = _read(path, limits.clip_bytes)
            parts.append(Clip(data, start=said.start, end=said.end, has_sound=said.has_sound))
        else:
            parts.append(_read(path, limits.image_bytes))
    heard = (Sound(_read(Path(path), limits.sound_bytes), said.start, said.end) for path in said.sounds)
    return (*parts, *heard, Text(said.text))


def named(said: Said, error: AnmokError) -> AnmokError:
    """The same error with the name of the picture that it is about: a model is shown bytes, which have none."""
    for path in said.pictures:
        if is_video(path):
            continue
        try:
            media.read(Path(path))
        except AnmokError as found:
            return found
    return error


def is_video(path: str) -> bool:
    """By its name, as the browser chose it."""
    return kind_of(path) == "video"


def _read(path: Path, limit: int) -> bytes:
    try:
        if path.stat().st_size > limit:
            raise TooMuch(f"{path.name}: {limit:,} bytes are the limit")
        return path.read_bytes()
    except OSError:
        raise BadMedia(f"{path.name}: it is no longer here; clear the conversation and show it again") from None


class Halt(threading.Event):
    """Set where somebody has had enough of an answer; ``is_dropped``: of the whole conversation."""

    is_dropped = False


class Stops:
    """Who has had enough of an answer. One answer at a time for each visitor; a new one ends the one before."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[str, Halt] = {}

    @contextlib.contextmanager
    def until(self, visitor: str) -> Iterator[Halt]:
        """An event that is set when this visitor stops the answer that is written meanwhile."""
        mine = Halt()
        self.stop(visitor, is_dropped=True)  # its last words would stand in place of the new question
        with self._lock:
            self._running[visitor] = mine
        try:
            yield mine
        finally:
            with self._lock:
                if self._running.get(visitor) is mine:
                    del self._running[visitor]

    def stop(self, visitor: str, *, is_dropped: bool = False) -> None:
        with self._lock:
            running = self._running.get(visitor)
        if running is not None:
            running.is_dropped |= is_dropped  # for good: a question asked afterwards brings nothing back
            running.set()


async def grown(pieces: Pieces[Any], stopped: threading.Event, limiter: CapacityLimiter) -> AsyncIterator[Piece]:
    """The pieces as they come, those that come close together as one; none after ``stopped`` is set, whatever the model
    is at. Where the model is silent, an empty piece every second. Lets go of the model at the end, also where nobody
    reads on.

    Args:
        pieces: of the engine; they are waited for in threads.
        stopped: set by whoever has had enough.
        limiter: of those threads; a number of their own, so that whoever needs a thread for some milliseconds finds
            one.
    """
    text, shown = "", time.monotonic()
    with contextlib.closing(pieces):
        while not stopped.is_set():
            pulling = asyncio.ensure_future(to_thread.run_sync(next, pieces, None, limiter=limiter))
            while not (await asyncio.wait({pulling}, timeout=_BETWEEN))[0]:
                if text or time.monotonic() - shown >= _SILENT:
                    yield Piece(text)
                    text, shown = "", time.monotonic()
                if stopped.is_set():
                    pulling.add_done_callback(_heard)
                    return
            try:
                piece = pulling.result()
            except AnmokError:
                if text:  # what was written until then is to be seen
                    yield Piece(text)
                raise
            if piece is None:
                return
            text += piece.text
            if piece.reply is not None or time.monotonic() - shown >= _BETWEEN:
                yield Piece(text, piece.reply)
                text, shown = "", time.monotonic()
        if text:
            yield Piece(text)


def _heard(pulling: asyncio.Future[Any]) -> None:
    """Whatever became of a piece that nobody waits for."""
    if not pulling.cancelled():
        pulling.exception()
