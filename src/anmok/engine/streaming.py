"""Clips and conversations through the engine piece by piece: in the books like any request, and at the net's own door
between batches.

A stream runs in its caller's thread. It holds its model in memory, and the model's lock for one frame or word at a
time, so that requests of others go on in between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, Final, TypeVar, cast

from anmok.engine.answering import Caught
from anmok.engine.books import Books
from anmok.engine.encodings import Encodings
from anmok.engine.keeping import Keeper
from anmok.engine.lines import Line
from anmok.engine.tickets import Ticket
from anmok.errors import BadMedia, Closing
from anmok.inputs import Clip, Conversation
from anmok.load import Model

OnBroken = Callable[[int, BadMedia], None]  # frame, reason

_END: Final = object()


P = TypeVar("P")


class Pieces(Iterator[P]):
    """What the model says of a ticket's one item, piece by piece. Whoever does not read to the end calls ``close``
    (``contextlib.closing`` does): until then the model is held.

    The ticket is in the books, and the line counts one item in work for it; both end with this.
    """

    def __init__(
        self,
        line: Line,
        ticket: Ticket,
        books: Books,
        keeper: Keeper,
        encodings: Encodings,
        on_broken: OnBroken | None,
    ) -> None:
        [self._item] = ticket.items
        self._line = line
        self._ticket = ticket
        self._books = books
        self._keeper = keeper
        self._encodings = encodings
        self._on_broken = on_broken
        self._stream: Iterator[Any] | None = None
        self._is_over = False

    def __next__(self) -> P:
        if self._is_over:
            raise StopIteration
        piece: Any = _END
        try:
            if self._ticket.is_settled:
                raise Closing("the engine shut down before the stream's end")
            if self._stream is None:
                self._stream = self._streamed()
            piece = _next(self._stream, self._line.name)
        finally:
            if piece is _END:
                self._end("answered")
        if piece is _END:
            raise StopIteration
        return cast(P, piece)

    def close(self) -> None:
        """Ends the work."""
        self._end("cancelled")

    def _streamed(self) -> Iterator[Any]:
        model = present(self._line, self._books, self._keeper)
        [item] = self._encodings.states(model, [self._item])
        assert isinstance(item, Clip | Conversation)
        yield from model.stream(item, self._ticket.ask, on_broken=self._on_broken)

    def _end(self, how: str) -> None:
        with self._books.lock:
            if self._is_over:
                return
            self._is_over = True
            self._line.running -= 1
            self._line.used = self._keeper.now()
            self._books.settle(self._ticket, how)
            self._books.changed.notify_all()
        self._stream = None  # closes what reads the clip


def present(line: Line, books: Books, keeper: Keeper) -> Model:
    """The model, once it is in memory.

    Raises:
        AnmokError: it cannot be loaded, or the engine closes.
    """
    future: Future[None] = Future()
    with books.lock:
        keeper.wanted(line, future)
    future.result()
    with books.lock:
        if line.model is None:
            raise Closing("the engine is shutting down")
        return line.model


def _next(stream: Iterator[Any], name: str) -> Any:
    caught = Caught()
    with caught:
        return next(stream, _END)
    if isinstance(caught.error, KeyboardInterrupt | SystemExit):
        raise caught.error
    raise caught.told(name, "the model failed in a stream")
