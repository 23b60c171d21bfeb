"""The client: many connections that are kept busy, or requests at a set rate whatever comes back.

    python -m benchmarks.serve.load plan.json      # prints one JSON object; see ``Plan`` and ``Outcome``

It runs in a process of its own and says how much processor time it took, for on a small machine it takes that from
the server. Requests are written out before the clock starts; answers are parsed by httptools and kept for one
request in each kind, not decoded.
"""

from __future__ import annotations

import asyncio
import base64
import gc
import json
import resource
import sys
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httptools
import numpy as np
import uvloop

_WARM_SECONDS = 1.0  # at least; and until every client has had an answer
_WARM_MOST = 20.0
_ROUNDS = 1  # answers for every client, at least, or the window is made longer, up to so many times:
_LONGER = 4
_GRACE = 60.0  # seconds after the end for what is still under way
_CONNECTIONS = 3000  # of an open loop, at most
_FIRST_THIRD = 1 / 3


@dataclass(frozen=True, slots=True)
class Plan:
    """``requests`` is a folder of whole HTTP requests, ``000.http`` and on, asked in turn. ``rate`` above 0 is an open
    loop of that many requests per second, Poisson; otherwise ``clients`` ask again as soon as they have an answer."""

    port: int
    requests: str
    clients: int = 1
    seconds: float = 10.0
    rate: float = 0.0
    is_warm: bool = False  # nothing is to be left out at the start


@dataclass(slots=True)
class Outcome:
    """Seconds throughout. ``samples`` are the first answers to each request, base64, by its number.

    ``sent`` counts every request of the window, ``held`` those of an open loop for which there was no connection,
    ``lost`` those whose connection ended before the answer, ``unanswered`` those still without one at the very end,
    ``unhinted`` the refusals (429, 503) without Retry-After. ``points`` are (sent at, seconds, status).
    """

    rate: float = 0.0
    p50: float = 0.0
    p90: float = 0.0
    p99: float = 0.0
    statuses: dict[str, int] = field(default_factory=dict)
    sent: int = 0
    held: int = 0
    lost: int = 0
    unanswered: int = 0
    unhinted: int = 0
    client_share: float = 0.0  # of one core, spent by the client
    started: float = 0.0  # on the clock of the machine, when the window began
    samples: dict[str, str] = field(default_factory=dict)
    points: list[tuple[float, float, int]] = field(default_factory=list)


class Connection(asyncio.Protocol):
    """One connection, kept alive, with at most one request under way."""

    def __init__(self, done: Callable[[Connection, int, bool, bytes], None]) -> None:
        self._done = done
        self.number = -1  # of the request under way; -1 where there is none
        self.sent_at = 0.0
        self.transport: Any = None
        self._status = 0
        self._has_hint = False
        self._parts: list[bytes] = []
        self._parser = httptools.HttpResponseParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def ask(self, number: int, request: bytes) -> None:
        self.number, self.sent_at = number, time.perf_counter()
        self._parts, self._has_hint = [], False
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._has_hint |= name.lower() == b"retry-after"

    def on_body(self, body: bytes) -> None:
        self._parts.append(body)

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        is_last = not self._parser.should_keep_alive()
        self._parser = httptools.HttpResponseParser(self)
        if is_last:
            self.transport.close()
        self._done(self, status, self._has_hint, b"".join(self._parts))

    def connection_lost(self, error: Exception | None) -> None:
        if self.number >= 0:
            self._done(self, 0, False, b"")

    @property
    def is_open(self) -> bool:
        return self.transport is not None and not self.transport.is_closing()


class Run:
    """One plan under way."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._requests = [file.read_bytes() for file in sorted(Path(plan.requests).glob("*.http"))]
        self._next = 0
        self._idle: deque[Connection] = deque()
        self._open = 0
        self._busy = 0
        self._answered = 0
        self._is_over = False
        self._lost = self._held = self._sent = self._unhinted = 0
        self._points: list[tuple[float, float, int]] = []
        self._samples: dict[int, bytes] = {}
        self._starts: set[asyncio.Task[None]] = set()
        self._all: list[Connection] = []

    async def outcome(self) -> Outcome:
        if self._plan.rate:
            began, ended, spent = await self._open_loop()
        else:
            began, ended, spent = await self._closed_loop()
        deadline = time.perf_counter() + _GRACE
        while self._busy and time.perf_counter() < deadline:
            await asyncio.sleep(0.01)
        for connection in self._all:
            connection.transport.close()
        return self._summed(began, ended, spent)

    async def _closed_loop(self) -> tuple[float, float, float]:
        for _ in range(self._plan.clients):
            await self._connected()
        for connection in list(self._idle):
            self._ask(connection)
        self._idle.clear()
        if not self._plan.is_warm:
            first, start = self._answered, time.perf_counter()
            while time.perf_counter() - start < _WARM_SECONDS or (
                self._answered - first < self._plan.clients and time.perf_counter() - start < _WARM_MOST
            ):
                await asyncio.sleep(0.01)
        began, before, start = time.perf_counter(), _processor_seconds(), self._answered
        await asyncio.sleep(self._plan.seconds)
        while self._answered - start < _ROUNDS * self._plan.clients and time.perf_counter() - began < _LONGER * (
            self._plan.seconds
        ):
            await asyncio.sleep(0.01)
        self._is_over = True
        return began, time.perf_counter(), _processor_seconds() - before

    async def _open_loop(self) -> tuple[float, float, float]:
        chance = np.random.default_rng(0)
        began, before = time.perf_counter(), _processor_seconds()
        due, end = began, began + self._plan.seconds
        while (now := time.perf_counter()) < end:
            while due <= now:
                due += float(chance.exponential(1 / self._plan.rate))
                self._start()
            await asyncio.sleep(max(0.0, min(due, end) - time.perf_counter()))
        self._is_over = True
        return began, time.perf_counter(), _processor_seconds() - before

    def _start(self) -> None:
        """One request of an open loop, over a connection that is free or a new one."""
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open:
                self._ask(connection)
                return
            self._open -= 1  # the server has ended it meanwhile
        if self._open >= _CONNECTIONS:
            self._held += 1
            return
        task = asyncio.get_running_loop().create_task(self._start_anew())
        self._starts.add(task)
        task.add_done_callback(self._starts.discard)

    async def _start_anew(self) -> None:
        if await self._connected() and self._idle:
            self._ask(self._idle.pop())

    async def _connected(self) -> bool:
        self._open += 1
        loop = asyncio.get_running_loop()
        try:
            _, connection = await loop.create_connection(lambda: Connection(self._done), "127.0.0.1", self._plan.port)
        except OSError:
            self._open -= 1
            self._lost += 1
            return False
        self._idle.append(connection)
        self._all.append(connection)
        return True

    def _ask(self, connection: Connection) -> None:
        number = self._next % len(self._requests)
        self._next += 1
        self._sent += 1
        self._busy += 1
        connection.ask(number, self._requests[number])

    def _done(self, connection: Connection, status: int, has_hint: bool, body: bytes) -> None:
        number, connection.number = connection.number, -1
        self._busy -= 1
        now = time.perf_counter()
        self._points.append((connection.sent_at, now - connection.sent_at, status))
        self._answered += 1
        if status == 0:
            self._lost += 1
        elif status in (429, 503) and not has_hint:
            self._unhinted += 1
        elif status == 200:
            self._samples.setdefault(number, body)
        if not connection.is_open:
            self._open -= 1
            if not self._plan.rate and not self._is_over:
                self._again()
        elif self._plan.rate or self._is_over:
            self._idle.append(connection)
        else:
            self._ask(connection)

    def _again(self) -> None:
        """A client of a closed loop whose connection has ended opens another."""
        task = asyncio.get_running_loop().create_task(self._start_anew())
        self._starts.add(task)
        task.add_done_callback(self._starts.discard)

    def _summed(self, began: float, ended: float, spent: float) -> Outcome:
        inside = [point for point in self._points if began <= point[0] + point[1] <= ended or self._plan.rate]
        good = sorted((sent + took, took) for sent, took, status in inside if status == 200)
        out = Outcome(sent=self._sent, held=self._held, lost=self._lost, unhinted=self._unhinted)
        out.unanswered = self._busy
        out.statuses = {str(code): count for code, count in sorted(Counter(p[2] for p in inside).items())}
        out.client_share = spent / (ended - began)
        out.started = time.time() - (time.perf_counter() - began)
        if good:
            out.rate = steady_rate([done for done, _ in good], ended - began)
            out.p50, out.p90, out.p99 = (float(q) for q in np.percentile([took for _, took in good], (50, 90, 99)))
        out.samples = {str(number): base64.b64encode(body).decode() for number, body in self._samples.items()}
        out.points = [(round(sent - began, 4), round(took, 5), status) for sent, took, status in self._points]
        return out


def steady_rate(times: list[float], window: float) -> float:
    """Answers per second of a server that may answer in bursts, over a window of so many seconds.

    A window of a few bursts would be off by up to one of them. So the count is taken from the longest pause in the
    first third of the answers to the longest in the last third: between two ends of bursts. Where these are less
    than a third of the window apart there were too few answers for that, and it is the plain count.
    """
    if len(times) < 6:
        return len(times) / window
    pauses = np.diff(times)
    third = max(1, int(len(pauses) * _FIRST_THIRD))
    first = int(np.argmax(pauses[:third]))
    last = len(pauses) - third + int(np.argmax(pauses[-third:]))
    apart = times[last] - times[first]
    return (last - first) / apart if apart >= window / 3 else len(times) / window


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    plan = Plan(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 2 * _CONNECTIONS), most))
    gc.freeze()
    gc.disable()  # of a few seconds; a collection would stand as latency of the server
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        json.dump(asdict(runner.run(Run(plan).outcome())), sys.stdout)


if __name__ == "__main__":
    main()
