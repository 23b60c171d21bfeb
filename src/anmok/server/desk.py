"""Between routes and engine: which models a caller may ask, how a request waits, and what is answered in one piece."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, TypeVar

from anyio import CapacityLimiter, to_thread
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from anmok.engine import Engine
from anmok.errors import BadRequest, Refused, UnknownModel
from anmok.inputs import Clip, Conversation
from anmok.results import Failure, Result
from anmok.server.callers import Caller
from anmok.server.door import unless_left
from anmok.server.settings import Served, Settings
from anmok.server.upstreams import Upstreams
from anmok.wire import Call, Intake, WrongField

T = TypeVar("T")

_INLINE = 128 * 2**10  # bytes of a body that is read in the loop itself; a thread costs more than that takes
_LIGHT: Final = frozenset(
    {"classify", "embed", "detect", "point", "pose", "gaze"}
)  # answers written in the loop itself
_LIGHT_ITEMS = 16
_NAMED = re.compile(r"/(?:v2/)?models/([^/]+)")
_WINDOW = 2  # batches of a long list that wait in the engine at a time
_FETCHING, _FOLLOWING = 64, 64  # threads


@dataclass(slots=True)
class Desk:
    """What the routes share."""

    settings: Settings
    engine: Engine
    intake: Intake
    upstreams: Upstreams
    models: dict[str, Served] = field(default_factory=dict)
    is_draining: bool = False
    is_ready: bool = False
    under_way: int = 0  # requests that the door has let in and that are not answered
    # Threads that may wait for others for long: for hosts of addresses, and for models that load or are at work. They
    # have their own number, so that whoever needs a thread for some milliseconds finds one.
    _fetching: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(_FETCHING))
    _following: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(_FOLLOWING))

    def __post_init__(self) -> None:
        self.models = {one.name: one for one in self.settings.models}

    def visible(self, request: Request) -> list[Served]:
        """The models that this caller may ask."""
        caller = _caller(request)
        return [one for one in self.models.values() if caller.may_use(one.name)]

    def served(self, request: Request, name: str) -> Served:
        """The model of that name; one that the caller may not use is not there for him.

        Raises:
            UnknownModel: the message names those that are.
        """
        found = self.models.get(name)
        if found is None or not _caller(request).may_use(name):
            names = ", ".join(one.name for one in self.visible(request)) or "none for this key"
            raise UnknownModel(f"this server has no model called {name[:60]!r}; it has {names}")
        request.state.model = name
        return found

    def chosen(self, request: Request, name: str, task: str) -> Served:
        """The model that a request names; where it names none, the only one with that task.

        Raises:
            UnknownModel: no such model.
            WrongField: none is named, and there is not exactly one.
        """
        if name:
            return self.served(request, name)
        found = [one for one in self.visible(request) if task in one.card.tasks]
        if len(found) != 1:
            names = ", ".join(one.name for one in found) or f"none that does {task}"
            raise WrongField("model", f"is missing; this server has {names}")
        return self.served(request, found[0].name)

    def check_room(self, path: str, caller: Caller | None) -> None:
        """Where the address names the model, a request that would find no room is refused before it is read. Of models
        that the caller may not use he learns nothing here either.

        Raises:
            Busy: it would.
        """
        named = _NAMED.match(path)
        if named is not None and (caller or Caller()).may_use(named[1]):
            self.engine.check_room(named[1])

    def elsewhere(self, request: Request, name: str) -> str | None:
        """The name of a model that another engine runs, where the caller may use it; None where it is none of them."""
        caller = _caller(request)
        if name in self.models or name not in self.upstreams.names() or not caller.may_use(name):
            return None
        request.state.model = name
        return name

    def names_elsewhere(self, request: Request) -> list[str]:
        """Of the models that other engines run, those that this caller may ask."""
        caller = _caller(request)
        return [name for name in self.upstreams.names() if name not in self.models and caller.may_use(name)]

    async def read(self, request: Request, reader: Callable[[bytes], T]) -> T:
        """The request's body through ``reader``; a long one, or one that may bring addresses, in a thread."""
        body: bytes = request.scope["state"]["body"]
        if self.intake.fetch is not None:
            return await to_thread.run_sync(reader, body, limiter=self._fetching)
        return reader(body) if len(body) <= _INLINE else await run_in_threadpool(reader, body)

    async def write(self, call: Call, writer: Callable[[], T]) -> T:
        """What ``writer`` makes of answers to ``call``; maps and masks in a thread."""
        if call.ask.task in _LIGHT and len(call.items) <= _LIGHT_ITEMS:
            return writer()
        return await run_in_threadpool(writer)

    async def answers(self, request: Request, one: Served, call: Call) -> list[Result | Failure]:
        """One answer per item. Whoever leaves takes his request with him.

        Raises:
            AnmokError: as ``Engine.submit``, and what its future carries.
            Gone: the client left.
        """
        how = _manner(request, one, is_waiting=self.settings.wait_for_load)
        future = self.engine.submit(
            one.name,
            call.items,
            call.ask,
            priority=how.priority,
            deadline=how.deadline,
            wait_for_load=how.wait_for_load,
        )
        waiting: asyncio.Future[list[Result | Failure]] = asyncio.wrap_future(future)
        request.state.trace.watch(future, one.name, call.ask.task)
        return await unless_left(request.receive, waiting)  # cancels the request in the engine where it is still there

    async def streamed(self, request: Request, one: Served, call: Call) -> AsyncIterator[Result | Failure]:
        """The answers one by one, in order, as they come: frames of a clip, words of one conversation, or items of a
        long list."""
        how = _manner(request, one, is_waiting=self.settings.wait_for_load)
        if len(call.items) == 1 and isinstance(call.items[0], Clip | Conversation):
            return self._pieces(one, call, how)
        return self._items(one, call, how)

    def _pieces(self, one: Served, call: Call, how: Manner) -> AsyncIterator[Result]:
        """Priority and deadline mean nothing here: a stream is in no queue."""
        [item] = call.items
        assert isinstance(item, Clip | Conversation)
        pieces = self.engine.stream(one.name, item, call.ask, wait_for_load=how.wait_for_load)

        async def pulled() -> AsyncIterator[Result]:
            with contextlib.closing(pieces):
                while (piece := await to_thread.run_sync(next, pieces, None, limiter=self._following)) is not None:
                    yield piece

        return pulled()

    async def _items(self, one: Served, call: Call, how: Manner) -> AsyncIterator[Result | Failure]:
        size = self.settings.limits.batch_items
        items = iter(call.items)
        waiting: list[asyncio.Future[list[Result | Failure]]] = []

        def ahead() -> None:
            while len(waiting) < _WINDOW and (batch := list(islice(items, size))):
                future = self.engine.submit(
                    one.name,
                    batch,
                    call.ask,
                    priority=how.priority,
                    deadline=how.deadline,
                    wait_for_load=how.wait_for_load,
                )
                waiting.append(asyncio.wrap_future(future))

        refused: Refused | None = None
        try:
            ahead()
            while waiting:
                for answer in await waiting.pop(0):
                    yield answer
                try:
                    if refused is None:
                        ahead()
                except Refused as error:  # told after the answers to what was let in before
                    refused = error
            if refused is not None:
                raise refused
        finally:
            for future in waiting:
                future.cancel()


@dataclass(frozen=True, slots=True)
class Manner:
    """How a request waits."""

    priority: int
    deadline: float | None
    wait_for_load: bool


def _manner(request: Request, one: Served, *, is_waiting: bool) -> Manner:
    """From the headers ``x-anmok-priority``, ``x-anmok-deadline`` (seconds) and ``x-anmok-wait`` (yes or no).

    Raises:
        BadRequest: one of them makes no sense, or the key may not ask for that priority.
    """
    headers = request.headers
    priority, deadline = headers.get("x-anmok-priority"), headers.get("x-anmok-deadline")
    wait = headers.get("x-anmok-wait")
    if priority is None and deadline is None and wait is None:
        return Manner(one.priority, one.deadline, is_waiting)
    level = one.priority if priority is None else _number("x-anmok-priority", priority, whole=True)
    caller = _caller(request)
    if level > max(caller.priority, one.priority):
        raise BadRequest(f"x-anmok-priority: {level:g} is more than this key may ask for")
    seconds = one.deadline if deadline is None else _number("x-anmok-deadline", deadline, whole=False)
    if wait is not None and wait not in ("yes", "no"):
        raise BadRequest("x-anmok-wait: want yes or no")
    return Manner(int(level), seconds, is_waiting if wait is None else wait == "yes")


def _number(name: str, text: str, *, whole: bool) -> float:
    try:
        number = float(text) if len(text) <= 12 else float("nan")
    except ValueError:
        number = float("nan")
    if not -1e6 < number < 1e6 or (whole and number != int(number)):
        raise BadRequest(f"{name}: want a {'whole ' if whole else ''}number")
    return number


def _caller(request: Request) -> Caller:
    caller: Caller | None = request.scope["state"]["caller"]
    return caller or Caller()


def raised(results: Sequence[Result | Failure]) -> list[Result]:
    """The answers of a dialect that has no place for a ``Failure``.

    Raises:
        AnmokError: what the first of them failed with.
    """
    for result in results:
        if isinstance(result, Failure):
            raise result.error
    return list(results)
