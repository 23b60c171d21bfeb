"""A model that runs in another process, as whoever asks it sees it."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar, cast

import numpy as np
from PIL import Image as pillow

from anmok import media
from anmok.catalogue import Card
from anmok.errors import BadMedia, BadRequest, Closing, Unsupported
from anmok.inputs import Clip, Conversation, Encoded, Frames, Item, Prompted, Sound, Source, Text
from anmok.isolation.channel import Channel, Lost
from anmok.isolation.codec import packed
from anmok.isolation.process import Order, Process, read
from anmok.isolation.supervising import TRIES, Worker
from anmok.load import Adapter, Model
from anmok.load.model import OnBroken
from anmok.results import Result
from anmok.tasks import Ask

R = TypeVar("R", bound=Result)
P = TypeVar("P")

_PLAIN = (str, bytes, Text, Encoded)


class Elsewhere(Model):
    """Answers ``run``, ``stream`` and ``encode`` as the model itself would, to the last bit.

    What needs the net in this process (``map``, ``towers``, ``with_adapter``) is ``Unsupported``. There is no
    ``kind``, so that an engine keeps no encodings of it: with ``Limits.cache_bytes`` above 0 every picture is encoded
    again.
    """

    def __init__(self, card: Card, adapter: Adapter | None, worker: Worker, order: Order) -> None:
        facts = worker.keep(order)
        self.card = card
        self.adapter = adapter
        self.kind = None
        self.maker = str(facts["maker"])
        self._nbytes = int(str(facts["nbytes"]))
        self._worker = worker
        self._order = order
        self._is_closed = False

    def run(self, items: Sequence[Item], ask: Ask[R, Any]) -> list[R]:
        """As ``Model.run``. A process that dies of it is given one more try, in the next process; not where every
        question is paid for.

        Raises:
            WorkerDied: that one died too, or it takes too long until the next one starts.
        """
        question = ([_portable(item) for item in items], ask)
        return cast("list[R]", self._ask("run", question, is_copied=False))

    def encode(self, images: Sequence[Source]) -> list[Encoded]:
        """As ``Model.encode``; the states come over into this process."""
        return cast("list[Encoded]", self._ask("encode", [_portable(one) for one in images], is_copied=True))

    def stream(self, item: Clip | Conversation, ask: Ask[Any, P], *, on_broken: OnBroken | None = None) -> Iterator[P]:
        """As ``Model.stream``. It is not begun again: where the process dies, so does the stream.

        Raises:
            WorkerDied: the process died.
        """
        portable = _portable(item)
        self._hold()
        with contextlib.ExitStack() as undo:
            undo.callback(self._worker.release)
            begun = self._worker.call(self._order, lambda process: _begun(process, self._order, portable, ask))
            undo.pop_all()  # the stream holds it from here on
        return _Pieces(self._worker, self._order, *begun, on_broken)

    @property
    def memory_bytes(self) -> int:
        """Of the weights as they are loaded, in their process."""
        return self._nbytes

    def close(self) -> None:
        """Lets go of the weights. The process goes with the last of its models, once what it is at is done."""
        if self._is_closed:
            return
        self._is_closed = True
        self._worker.forget(self._order)
        if self._worker.release():
            self._worker.join()

    def __repr__(self) -> str:
        return f"Elsewhere({self.card.name!r})"

    def _opened(self) -> Any:
        """The parts of ``Model`` that go on from here need the net.

        Raises:
            Unsupported: always.
        """
        raise Unsupported(f"{self.card.name} runs in a process of its own, which answers run, stream and encode alone")

    def _hold(self) -> None:
        if self._is_closed:
            raise BadRequest(f"{self.card.name} was closed; load it again")
        if not self._worker.hold():
            raise Closing(f"{self.card.name}: the server is shutting down")

    def _ask(self, what: str, value: object, *, is_copied: bool) -> Any:
        words = {"do": what, "key": self._order.key}
        tries = 1 if self.card.is_billed else TRIES
        self._hold()
        try:
            return self._worker.call(self._order, lambda process: process.ask(words, value, is_copied=is_copied), tries)
        finally:
            self._worker.release()


class _Pieces(Iterator[Any]):
    """The stream, pulled piece by piece: the process works on the next one when it is asked for."""

    def __init__(
        self, worker: Worker, order: Order, process: Process, channel: Channel, on_broken: OnBroken | None
    ) -> None:
        self._worker = worker
        self._order = order
        self._process = process
        self._channel: Channel | None = channel
        self._on_broken = on_broken

    def __next__(self) -> Any:
        if self._channel is None:
            raise StopIteration
        is_going_on = False
        try:
            piece, is_going_on = self._pulled(self._channel)
        finally:
            if not is_going_on:
                self.close()
        if not is_going_on:
            raise StopIteration
        return piece

    def close(self) -> None:
        """Ends the work; the process sees that the channel is closed."""
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()
            self._worker.release()

    def __del__(self) -> None:
        self.close()

    def _pulled(self, channel: Channel) -> tuple[Any, bool]:
        try:
            channel.send({"do": "next", "key": self._order.key}, packed(None))
            answer = read(*channel.receive(), is_copied=False)
        except Lost as error:
            raise self._worker.died(self._order, self._worker.bury(self._process, error)) from None
        if isinstance(answer, Exception):
            raise answer
        piece, is_going_on, broken = answer
        for frame, reason in broken:
            if self._on_broken is not None:
                self._on_broken(frame, BadMedia(reason))
        return piece, is_going_on


def _begun(process: Process, order: Order, item: object, ask: Ask[Any, Any]) -> tuple[Process, Channel]:
    """A channel on which the stream has been opened."""
    channel = process.open()
    answer: Any = Lost("nothing yet")
    try:
        channel.send({"do": "stream", "key": order.key}, packed((item, ask)))
        answer = read(*channel.receive(), is_copied=False)
    finally:
        if isinstance(answer, Exception):
            channel.close()
    if isinstance(answer, Exception):
        raise answer
    return process, channel


def _bytes_of(sound: Any) -> Any:
    """What an open file holds, and anything else as it is."""
    if not callable(getattr(sound, "read", None)):
        return sound
    try:
        return bytes(sound.read())
    except (OSError, ValueError, TypeError) as error:
        raise BadMedia(f"{media.describe(sound)}: cannot be read ({error})") from None


def _portable(item: Any) -> Any:
    """The item as it can be sent. What only this process can read, it reads: open files, PIL images, odd arrays.

    Raises:
        BadMedia: it cannot be read.
    """
    if isinstance(item, Prompted):
        return dataclasses.replace(item, image=_portable(item.image))
    if isinstance(item, Conversation):
        return item.with_shown([_portable(one) for one in item.shown])
    if isinstance(item, Frames):
        pictures = tuple(_portable(one) for one in item.pictures)
        return dataclasses.replace(item, pictures=pictures, sound=_portable(item.sound))
    if isinstance(item, Sound):
        return dataclasses.replace(item, source=_bytes_of(item.source))
    if isinstance(item, Clip):
        is_many = isinstance(item.source, list | tuple)
        source = [_portable(one) for one in cast("Sequence[Source]", item.source)] if is_many else item.source
        return dataclasses.replace(item, source=cast("Sequence[Source]", source))
    if isinstance(item, np.ndarray):
        return item if item.dtype.kind in "biuf" else media.read(item)
    if isinstance(item, pillow.Image) or callable(getattr(item, "read", None)):
        return media.read(item)
    return item
