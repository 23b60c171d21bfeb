"""``Engine``: requests in, futures out. One queue and one worker per model, one door, one budget.

One lock guards all that changes; it is never held while a model works, a model loads or a future is resolved.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from itertools import count
from types import TracebackType
from typing import Any, TypeVar

from anmok.catalogue import Card, card, cards
from anmok.engine.books import Books, refuse
from anmok.engine.deadlines import Reaper
from anmok.engine.encodings import Encodings
from anmok.engine.keeping import Keeper, Loader, refuse_loads
from anmok.engine.limits import Limits
from anmok.engine.lines import EngineStatus, Line, Named
from anmok.engine.streaming import OnBroken, Pieces, present
from anmok.engine.tickets import Ticket, held, payload
from anmok.engine.working import Batched, Crew
from anmok.errors import BadRequest, Closing, Expired, Loading, Unsupported
from anmok.inputs import Clip, Conversation, Item
from anmok.load import Model, card_of, load
from anmok.results import Failure, Result
from anmok.tasks import Ask

R = TypeVar("R", bound=Result)
P = TypeVar("P")

_LEVELS = 10  # of priority, up and down


class Engine:
    """What a server keeps: loaded models, queues, budgets. Safe to share between threads.

    Args:
        budget_bytes: for the weights of all models together.
        loader: from a name to a model; ``functools.partial(load, device="cuda")`` for other settings.
        limits: all other bounds.
        clock: seconds that only grow.
        names: what is served under a name of its own: ``{"best": "./report/best"}``, or as ``Named`` with the share
            of the queue that it may take up. All cards have theirs.
        observe: is told of each batch, in the worker's thread; for metrics.
    """

    def __init__(
        self,
        budget_bytes: int,
        loader: Loader = load,
        *,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.monotonic,
        names: Mapping[str, str | Named] | None = None,
        observe: Callable[[Batched], None] | None = None,
    ) -> None:
        self._limits = limits or Limits()
        self._clock = clock
        named = {name: Named(one) if isinstance(one, str) else one for name, one in (names or {}).items()}
        self._targets = {name: (one, card_of(one.target)) for name, one in named.items()}
        self._is_closing = False
        self._ends: list[Callable[[], None]] = []
        self._lines: dict[str, Line] = {}
        self._numbers = count()
        self._books = Books(self._limits)
        self._encodings = Encodings(self._limits.cache_bytes)
        self._reaper = Reaper(self._books, clock)
        self._crew = Crew(self._books, self._limits, clock, self._encodings, observe)
        self._keeper = Keeper(budget_bytes, loader, self._limits, clock, self._books.changed, self._lines)
        self._keeper.serve = self._crew.serve
        self._keeper.dropped = self._books.dropped

    def submit(
        self,
        name: str,
        items: Sequence[Item],
        ask: Ask[R, Any],
        *,
        priority: int = 0,
        deadline: float | None = None,
        wait_for_load: bool = True,
    ) -> Future[list[R | Failure]]:
        """Puts a request into the model's queue. Cancelling the future takes it out again.

        Args:
            name: of a card, or of those the engine was given.
            items: as for ``Model.run``. Arrays must not change before the answer is there; open files are read now.
            ask: the question.
            priority: -10 to 10; higher goes first, and each level is worth some seconds of waiting.
            deadline: seconds from now; what no worker has taken by then is answered with ``Expired``.
            wait_for_load: False refuses with ``Loading`` where the model is not there yet, and begins to load it.

        Returns:
            One answer per item, in order; a ``Failure`` stands where one could not be had. Its exception is
            ``Expired``, ``Closing``, or whatever kept the model from being loaded.

        Raises:
            UnknownModel: no such name.
            Unsupported: the model does not have that task.
            BadRequest: an ask that cannot be compared, or a priority out of range.
            BadMedia: an open file that cannot be read.
            TooMuch: more than the queue can ever hold.
            Busy: the queue is full.
            Loading: see ``wait_for_load``.
            Closing: the engine is shutting down.
        """
        line = self._line(name)
        _check(line.card, ask, priority)
        if deadline is not None and not deadline > 0:
            raise Expired(f"{name}: the deadline had passed before the request came")
        ticket = self._ticket(name, items, ask, priority, deadline)
        if not ticket.size:
            ticket.future.set_result([])
            return ticket.future
        self._books.watch(ticket)
        with self._books.lock:
            self._admit(line, ticket, wait_for_load)
        return ticket.future

    def run(
        self,
        name: str,
        items: Sequence[Item],
        ask: Ask[R, Any],
        *,
        priority: int = 0,
        deadline: float | None = None,
        wait_for_load: bool = True,
    ) -> list[R | Failure]:
        """``submit``, and waits for the answers. Raises what the future would."""
        future = self.submit(name, items, ask, priority=priority, deadline=deadline, wait_for_load=wait_for_load)
        try:
            return future.result()
        finally:
            future.cancel()  # for whoever is interrupted while he waits

    def stream(
        self,
        name: str,
        item: Clip | Conversation,
        ask: Ask[Any, P],
        *,
        on_broken: OnBroken | None = None,
        wait_for_load: bool = True,
    ) -> Pieces[P]:
        """Piece by piece, frames or words, as ``Model.stream`` gives them, in the caller's thread. Read to the end, or
        close it.

        Raises:
            UnknownModel, Unsupported, BadRequest, TooMuch, Busy, Loading, Closing: as ``submit``, at once.
            AnmokError: from the iterator, whatever keeps the model from being loaded, or the item from being read.
        """
        line = self._line(name)
        _check(line.card, ask, 0)
        if not isinstance(item, Clip | Conversation):
            raise BadRequest("stream: want a clip or a conversation: anmok.Clip('clip.mp4')")
        ticket = self._ticket(name, [item], ask, 0, None)
        with self._books.lock:
            self._check_open()
            self._check_door(line, ticket)
            if not wait_for_load:
                self._check_loaded(line)
            self._books.enter(line, ticket)
            line.running += 1  # the model stays while somebody reads
        return Pieces(line, ticket, self._books, self._keeper, self._encodings, on_broken)

    @contextlib.contextmanager
    def lend(self, name: str) -> Iterator[Model]:
        """The model itself, for work that is no request, such as a climb; it stays in memory meanwhile, and requests
        are answered in between. Waits until it is loaded.

        Raises:
            UnknownModel, Closing: as ``submit``.
            AnmokError: whatever keeps it from being loaded.
        """
        line = self._line(name)
        with self._books.lock:
            self._check_open()
            line.running += 1
        try:
            yield present(line, self._books, self._keeper)
        finally:
            with self._books.lock:
                line.running -= 1
                line.used = self._clock()
                self._books.changed.notify_all()

    def add(self, name: str, target: str) -> None:
        """Another name, from now on, for a card, or the folder of an adapter or a memory.

        Raises:
            BadRequest: the name is taken.
            UnknownModel, BadData: there is no such thing.
        """
        its_card = card_of(target)
        with self._books.lock:
            if name in self._targets or name in self._lines or name in {one.name for one in cards(is_hidden=True)}:
                raise BadRequest(f"{name} is taken; choose another name")
            self._targets[name] = (Named(target), its_card)

    def load(self, name: str) -> Future[None]:
        """Begins to load a model; the future is done when it is there, and carries the error where it will not be."""
        line = self._line(name)
        future: Future[None] = Future()
        with self._books.lock:
            self._check_open()
            line.error = None  # an operator who asks again means it
            self._keeper.wanted(line, future)
        return future

    def pin(self, name: str, *, is_pinned: bool = True) -> Future[None]:
        """Keeps a model in memory, whatever else needs the room; loads it where it is not there."""
        line = self._line(name)
        with self._books.lock:
            line.is_pinned = is_pinned
            self._books.changed.notify_all()
        if is_pinned:
            return self.load(name)
        future: Future[None] = Future()
        future.set_result(None)
        return future

    def unload(self, name: str) -> None:
        """Sends a model away, pinned or not; one that is not there changes nothing.

        Raises:
            Busy: it has work.
            Loading: it is being loaded.
        """
        line = self._line(name)
        with self._books.lock:
            model = self._keeper.unload(line)
            line.is_pinned = False
        if model is not None:
            model.close()

    def status(self) -> EngineStatus:
        """A snapshot. Asking loads nothing."""
        with self._books.lock:
            return EngineStatus(
                models=tuple(line.status() for line in self._lines.values()),
                items=self._books.door.items,
                nbytes=self._books.door.nbytes,
                rejected=self._books.door.rejected,
                budget_bytes=self._keeper.budget_bytes,
                model_bytes=self._keeper.model_bytes,
                cached_states=len(self._encodings),
                cached_bytes=self._encodings.nbytes,
                cache_hits=self._encodings.hits,
                cache_misses=self._encodings.misses,
                is_closing=self._is_closing,
            )

    def at_close(self, end: Callable[[], None]) -> None:
        """``end`` is called once, when the engine has closed, in the thread that closes it: it ends what asks the
        engine by itself, which waits for no answer any more. The last one comes first, and each whatever others raise.

        Raises:
            Closing: the engine is shutting down.
        """
        with self._books.lock:
            self._check_open()
            self._ends.append(end)

    def close(self, *, drain: bool = True, seconds: float = 30.0) -> None:
        """Takes no more requests, answers those it has (``drain``) or refuses what no worker has begun, and ends.

        What is not answered after ``seconds`` is refused with ``Closing``. Afterwards no thread of the engine is
        left, but for those that are stuck in a model or in a load: these are daemons and hold up nobody. Last come
        the ends of ``at_close``, which take their own time.
        """
        ends = time.monotonic() + seconds
        with self._books.lock:
            self._is_closing = True
            while drain and self._books.open and time.monotonic() < ends:
                self._books.changed.wait(ends - time.monotonic())
            waiting = [ticket for ticket in self._books.waiting() if self._books.settle(ticket, "refused")]
            models, threads = self._dismissed()
        refuse(waiting, Closing("the engine is shutting down"))
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, ends - time.monotonic()))
        with self._books.lock:
            stuck = [ticket for ticket in list(self._books.open) if self._books.settle(ticket, "refused")]
            loads = [future for line in self._lines.values() for future in line.loads]
            for line in self._lines.values():
                line.loads = []
            at_close, self._ends = self._ends, []
        error = Closing("the engine shut down before the model answered")
        refuse(stuck, error)
        refuse_loads(loads, error)
        for model in models:
            model.close()
        with contextlib.ExitStack() as stack:
            for end in at_close:
                stack.callback(end)

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(drain=error is None)

    def _dismissed(self) -> tuple[list[Model], list[threading.Thread]]:
        """Tells all threads to end; returns what is to be closed and whom to wait for. With the lock."""
        models = self._keeper.end()
        self._reaper.end()
        reapers = [self._reaper.thread] if self._reaper.thread is not None else []
        return models, [*self._crew.threads, *self._keeper.threads, *reapers]

    def _line(self, name: str) -> Line:
        """The name is looked up before anything is started: a misspelt one costs nothing."""
        with self._books.lock:
            if name in self._lines:
                return self._lines[name]
        named, one = self._targets.get(name) or (Named(name), card(name))
        with self._books.lock:
            fresh = Line(name, named.target, one, threading.Condition(self._books.lock), share=named.share)
            return self._lines.setdefault(name, fresh)

    def _ticket(
        self, name: str, items: Sequence[Item], ask: Ask[Any, Any], priority: int, deadline: float | None
    ) -> Ticket:
        now = self._clock()
        kept = tuple(held(item) for item in items)
        rank = (now - priority * self._limits.level_seconds, next(self._numbers))
        late = None if deadline is None else now + deadline
        return Ticket(name, kept, ask, rank, now, late, sum(payload(item) for item in kept))

    def check_room(self, name: str) -> None:
        """Whether a request to that model would find room now, before anything is made of it; any name will do.

        Raises:
            Busy: there is none.
        """
        with self._books.lock:
            line = self._lines.get(name)
            if line is not None and line.state == "ready":
                self._check_time(line)

    def _check_door(self, line: Line, ticket: Ticket) -> None:
        self._check_time(line)
        self._books.door.check_share(line.name, line.share, line.queue.items + line.running, ticket.size)
        self._books.door.check(ticket, lambda: max(one.backlog(self._limits) for one in self._lines.values()))

    def _check_time(self, line: Line) -> None:
        """Where a batch waits already, which a model may always keep."""
        largest = max((pace.size(self._limits) for pace in line.paces.values()), default=self._limits.batch_items)
        if line.queue.items >= largest:
            self._books.door.check_time(line.name, line.backlog(self._limits))

    def _check_open(self) -> None:
        if self._is_closing:
            raise Closing("the engine is shutting down", 5.0)

    def _check_loaded(self, line: Line) -> None:
        """Begins to load a model that is not there. With the lock."""
        if line.state != "ready":
            self._keeper.want(line)
            after = line.until_loaded(self._clock())
            raise Loading(f"{line.name} is being loaded; try again in {after:.0f} s", after)

    def _admit(self, line: Line, ticket: Ticket, wait_for_load: bool) -> None:
        """With the lock."""
        self._check_open()
        self._check_door(line, ticket)
        if not wait_for_load:
            self._check_loaded(line)
        elif line.state != "ready":
            self._keeper.want(line)
        if ticket.deadline is not None:
            self._reaper.watch(ticket.deadline)
        self._books.accept(line, ticket)


def _check(one: Card, ask: Ask[Any, Any], priority: int) -> None:
    if not -_LEVELS <= priority <= _LEVELS:
        raise BadRequest(f"priority {priority}: must lie between -{_LEVELS} and {_LEVELS}")
    if ask.task not in one.tasks:
        raise Unsupported(f"{one.name} does not {ask.task}; it can {', '.join(one.tasks)}")
    try:
        hash(ask)
    except TypeError:
        raise BadRequest(f"{ask.task}: an ask holds tuples and numbers; this one holds a list or an array") from None
