"""Requests at random through the engine's own policy, without a model and without a clock that runs.

What is simulated is what ``anmok.engine`` does: one queue per model, in the order of arrival; one worker per model (or
``lanes``), which takes micro-batches of one task under the very ``Pace`` and ``Company`` that the engine uses; one
door, which turns requests away when ``queue_items`` are in. Requests of one item come as a Poisson process. Requests
for one task of a model have equal asks, so they go into one batch.

Models on one device share it evenly: of ``n`` batches at work each goes at a speed of 1 / n (processor sharing). A
device that does better than that, since small batches leave it half idle, answers sooner than is said here.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from anmok.engine import Limits
from anmok.engine.pacing import Company, Pace
from anmok.placement.costs import Cost

_INSTANT: Final = 1e-9  # seconds; a wait that is shorter is over
_WARM: Final = 0.1  # of the time, of which nothing is counted
_RARE: Final = 150  # requests at least of the rarest stream, as far as ``_LONGEST`` allows
_LONGEST: Final = 20  # times the requests that were asked for
_BATCHES: Final = 40  # times the longest batch, at least


@dataclass(frozen=True, slots=True)
class Stream:
    """Requests for one task of one model: ``rate`` per second, each of one item."""

    model: str
    task: str
    rate: float
    cost: Cost


@dataclass(frozen=True, slots=True)
class Waits:
    """Seconds from arrival to answer of each counted request of one stream, float64 (N,), sorted; infinite where the
    door turned it away. ``batch`` is the mean number of items in its batches."""

    seconds: NDArray[np.float64]
    batch: float

    def quantile(self, share: float) -> float:
        """The smallest time within which that share was answered; nan where nothing came."""
        count = len(self.seconds)
        return float(self.seconds[min(count - 1, math.ceil(share * count) - 1)]) if count else math.nan

    @property
    def refused(self) -> float:
        """The share that was turned away."""
        return float(np.isinf(self.seconds).mean()) if len(self.seconds) else 0.0


@dataclass(frozen=True, slots=True)
class Simulated:
    """One device. ``busy`` is the share of the time in which at least one batch was at work."""

    waits: tuple[Waits, ...]  # as the streams
    busy: float


@dataclass(slots=True, eq=False)
class _Line:
    """One model: the queues of its streams, as arrival times and numbers of requests."""

    queues: dict[int, deque[tuple[float, int]]] = field(default_factory=dict)
    paces: dict[int, Pace] = field(default_factory=dict)
    company: Company = field(default_factory=Company)
    running: int = 0  # batches
    wakes: float = math.inf

    @property
    def waiting(self) -> int:
        return sum(len(queue) for queue in self.queues.values())


@dataclass(frozen=True, slots=True, eq=False)
class _Batch:
    line: _Line
    stream: int
    members: list[tuple[float, int]]
    started: float


def simulate(streams: Sequence[Stream], limits: Limits, *, requests: int, seed: int) -> Simulated:
    """One device through about so many requests; more where the rarest stream or the longest batch needs them.

    Args:
        streams: all with a rate above 0; the costs are those of this device.
        limits: of the engine.
        requests: of all streams together.
        seed: the same gives the same arrivals, stream by stream, whatever else is on the device.
    """
    return _Run(streams, limits, seed, horizon(streams, limits, requests)).simulated()


def horizon(streams: Sequence[Stream], limits: Limits, requests: int) -> float:
    """Seconds for which requests come in a simulation."""
    total = sum(one.rate for one in streams)
    rarest = min(one.rate for one in streams)
    longest = max(one.cost.seconds(one.cost.batch(limits)) for one in streams)
    return max(requests / total, min(_RARE / rarest, _LONGEST * requests / total), _BATCHES * longest)


def counted(times: NDArray[np.float64], horizon: float) -> NDArray[np.bool_]:
    """Which of the requests that came at these times count: not those of the first tenth, when queues fill up."""
    return times >= _WARM * horizon


def arrivals(streams: Sequence[Stream], horizon: float, seed: int) -> list[NDArray[np.float64]]:
    """When the requests of each stream come, float64 (N,), seconds, sorted: a Poisson process each.

    Each stream has random numbers of its own, so that placements are compared on the same arrivals.
    """
    found = []
    for one, random in zip(streams, _random(streams, seed), strict=True):
        count = random.poisson(one.rate * horizon)
        found.append(np.sort(random.uniform(0, horizon, count)))
    return found


def _random(streams: Sequence[Stream], seed: int) -> list[np.random.Generator]:
    return [np.random.default_rng([seed, *f"{one.model}/{one.task}".encode()]) for one in streams]


class _Run:
    """Events in the order of time. ``virtual`` grows by the work that each batch at hand was given: a batch is done
    when it has grown by what the batch takes alone."""

    def __init__(self, streams: Sequence[Stream], limits: Limits, seed: int, horizon: float) -> None:
        self._streams = streams
        self._limits = limits
        self._horizon = horizon
        self._times = arrivals(streams, horizon, seed)
        self._random = _random(streams, seed + 1)
        rows = [(time, stream, k) for stream, times in enumerate(self._times) for k, time in enumerate(times.tolist())]
        self._arrivals = sorted(rows)  # time, stream, number within the stream
        self._next = 0
        self._lines = {one.model: _Line() for one in streams}
        for index, one in enumerate(streams):
            self._lines[one.model].queues[index] = deque()
            self._lines[one.model].paces[index] = Pace()
        self._at_work: list[tuple[float, int, _Batch]] = []  # by virtual end
        self._number = 0
        self._now = self._virtual = self._busy = 0.0
        self._inside = 0  # items that were let in and are not answered
        self._seconds = [np.full(len(times), math.inf) for times in self._times]
        self._batches = [[0, 0] for _ in streams]  # batches and items

    def simulated(self) -> Simulated:
        while self._step():
            pass
        waits = []
        for times, seconds, (batches, items) in zip(self._times, self._seconds, self._batches, strict=True):
            kept = np.sort(seconds[counted(times, self._horizon)])
            waits.append(Waits(kept, items / batches if batches else 0.0))
        return Simulated(tuple(waits), self._busy / self._now if self._now else 0.0)

    def _step(self) -> bool:
        """The next event; False when there is none."""
        arrives = self._arrivals[self._next][0] if self._next < len(self._arrivals) else math.inf
        ends = math.inf
        if self._at_work:
            ends = self._now + max(0.0, self._at_work[0][0] - self._virtual) * len(self._at_work)
        waking = min(self._lines.values(), key=lambda line: line.wakes)
        now = min(arrives, ends, waking.wakes)
        if now == math.inf:
            return False
        if self._at_work:
            self._virtual += (now - self._now) / len(self._at_work)
            self._busy += now - self._now
        self._now = now
        if now == ends:
            self._end()
        elif now == arrives:
            self._arrive()
        else:
            self._start(waking)
        return True

    def _arrive(self) -> None:
        time, stream, number = self._arrivals[self._next]
        self._next += 1
        if self._inside >= self._limits.queue_items:
            return  # its time stays infinite
        self._inside += 1
        line = self._lines[self._streams[stream].model]
        line.queues[stream].append((time, number))
        self._start(line)

    def _start(self, line: _Line) -> None:
        """As the engine's worker: the request that came first, and those like it; or a little patience."""
        line.wakes = math.inf
        while line.running < self._limits.lanes:
            heads = [(queue[0][0], stream) for stream, queue in line.queues.items() if queue]
            if not heads:
                return
            arrived, stream = min(heads)
            queue, pace = line.queues[stream], line.paces[stream]
            size = pace.size(self._limits)
            if len(queue) < size:
                wait = line.company.wait(pace, self._limits, arrived, line.waiting, self._now)
                if wait > _INSTANT:
                    line.wakes = self._now + wait
                    return
            members = [queue.popleft() for _ in range(min(size, len(queue)))]
            self._begin(_Batch(line, stream, members, self._now))

    def _begin(self, batch: _Batch) -> None:
        cost = self._streams[batch.stream].cost
        work = cost.seconds(len(batch.members))
        if cost.spread:
            work *= math.exp(cost.spread * self._random[batch.stream].standard_normal())
        self._number += 1
        heapq.heappush(self._at_work, (self._virtual + work, self._number, batch))
        batch.line.running += 1

    def _end(self) -> None:
        self._virtual, _, batch = heapq.heappop(self._at_work)
        line, size = batch.line, len(batch.members)
        line.running -= 1
        self._inside -= size
        line.paces[batch.stream].record(size, self._now - batch.started)
        line.company.leave(size, line.waiting, self._now)
        for arrived, number in batch.members:
            self._seconds[batch.stream][number] = self._now - arrived
        self._batches[batch.stream][0] += 1
        self._batches[batch.stream][1] += size
        self._start(line)
