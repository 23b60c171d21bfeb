"""Which model goes where: all ways are tried where there are few of them, else the large ones first and then better.

Best is: the fewest models left out, of those the ones with the fewest requests; then the smallest worst p99 over the
p99 that is wanted (two digits of it: a simulation knows no more); then the least memory, and the fullest device as
empty as can be. A model is put on several devices only where one cannot keep up with it, or where its p99 is missed
on one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import combinations, product
from typing import Final, TypeAlias

from anmok.placement.devices import Device
from anmok.placement.jobs import Job, Judge, Placement, held_by, shares

_EXACT_JOBS, _EXACT_DEVICES = 6, 4
_ROUNDS: Final = 20  # of improvements by hand
Where: TypeAlias = tuple[int, ...]
Score: TypeAlias = tuple[int, float, float, int, float]


def place(jobs: Sequence[Job], on: Sequence[Device], judge: Judge) -> dict[str, Where]:
    """Numbers of devices by the name of a job; an empty tuple for one that does not fit."""
    small = len(jobs) <= _EXACT_JOBS and len(on) <= _EXACT_DEVICES
    search = _Exact(jobs, on, judge).best if small else _Improving(jobs, on, judge).best
    return _spread_out(search(), jobs, on, judge)


def score(placement: Placement, jobs: Sequence[Job], on: Sequence[Device], judge: Judge) -> Score:
    """The smaller the better; see the top of this module."""
    held = held_by(placement, jobs, on)
    ratio = max((judge.ratio(device, shared) for device, shared in zip(on, held, strict=True)), default=0.0)
    return (*_left_out(placement, jobs), rounded(ratio), *_memory(placement, jobs, on, judge))


def rounded(value: float) -> float:
    """To two digits."""
    return float(f"{value:.2g}")


def ways(job: Job, on: Sequence[Device], judge: Judge) -> list[Where]:
    """Every smallest set of devices that can keep up with the job and hold it, were they all its own."""
    found: list[Where] = []
    for count in range(1, len(on) + 1):
        for where in combinations(range(len(on)), count):
            if any(set(smaller) <= set(where) for smaller in found):
                continue
            parts = shares(job, [on[number] for number in where])
            if all(judge.fits(on[number], [part]) for number, part in zip(where, parts, strict=True)):
                found.append(where)
    return found


def _left_out(placement: Placement, jobs: Sequence[Job]) -> tuple[int, float]:
    out = [job for job in jobs if not placement.get(job.name)]
    return len(out), sum(job.rate for job in out)


def _memory(placement: Placement, jobs: Sequence[Job], on: Sequence[Device], judge: Judge) -> tuple[int, float]:
    used = [judge.used(shared) for shared in held_by(placement, jobs, on)]
    return sum(used), max(one / device.memory_bytes for one, device in zip(used, on, strict=True))


class _Exact:
    """All placements, but for those that cannot be better than the best so far, and one of each kind of equal ones."""

    def __init__(self, jobs: Sequence[Job], on: Sequence[Device], judge: Judge) -> None:
        self._jobs = sorted(jobs, key=lambda job: -job.nbytes)  # what does not fit is seen early
        self._on = on
        self._judge = judge
        self._ways = {job.name: [*ways(job, on, judge), ()] for job in jobs}
        self._best: tuple[Score, dict[str, Where]] | None = None
        self._seen: set[tuple[object, ...]] = set()

    def best(self) -> dict[str, Where]:
        self._try({}, 0)
        assert self._best is not None  # leaving all of them out is always possible
        return self._best[1]

    def _try(self, chosen: dict[str, Where], index: int) -> None:
        if index == len(self._jobs):
            self._judge_all(chosen)
            return
        job = self._jobs[index]
        for where in self._ways[job.name]:
            tried = {**chosen, job.name: where}
            held = held_by(tried, self._jobs, self._on)
            if not all(self._judge.fits(self._on[number], held[number]) for number in where):
                continue
            if self._best is not None and _left_out(tried, self._jobs[: index + 1])[0] > self._best[0][0]:
                continue
            self._try(tried, index + 1)

    def _judge_all(self, chosen: dict[str, Where]) -> None:
        held = held_by(chosen, self._jobs, self._on)
        alike = tuple(
            sorted(
                (device.kind, device.memory_bytes, device.slowness, tuple((s.job.name, s.part) for s in shared))
                for device, shared in zip(self._on, held, strict=True)
            )
        )
        if alike in self._seen:
            return
        self._seen.add(alike)
        out = _left_out(chosen, self._jobs)
        if self._best is not None and out > self._best[0][:2]:
            return
        is_tie = self._best is not None and out == self._best[0][:2]
        limit = self._best[0][2] if self._best is not None and is_tie else math.inf
        worst = 0.0
        order = sorted(range(len(self._on)), key=lambda n: -self._judge.guess(self._on[n], held[n]))
        for number in order:
            worst = max(worst, self._judge.ratio(self._on[number], held[number]))
            if rounded(worst) > limit:
                return
        found = (*out, rounded(worst), *_memory(chosen, self._jobs, self._on, self._judge))
        if self._best is None or found < self._best[0]:
            self._best = found, chosen


class _Improving:
    """First fit, the most demanding first; then one model is moved or two change places, as long as that helps.

    The guess of the judge leads; nothing is simulated.
    """

    def __init__(self, jobs: Sequence[Job], on: Sequence[Device], judge: Judge) -> None:
        largest, fastest = max(judge.room(one) for one in on), min(on, key=lambda one: one.slowness)
        self._jobs = sorted(jobs, key=lambda job: -max(job.nbytes / largest, job.need(fastest, judge.limits)))
        self._on = on
        self._judge = judge

    def best(self) -> dict[str, Where]:
        found: dict[str, Where] = {job.name: () for job in self._jobs}
        for job in self._jobs:
            found = self._moved(found, job)
        for _ in range(_ROUNDS):
            better = self._better(found)
            if better is None:
                break
            found = better
        return found

    def _moved(self, placement: dict[str, Where], job: Job) -> dict[str, Where]:
        """With the job where it does least harm; as it was where it fits nowhere."""
        tried = [{**placement, job.name: where} for where in self._options(placement, job)]
        return min((one for one in tried if self._is_possible(one)), key=self._score, default=placement)

    def _options(self, placement: dict[str, Where], job: Job) -> Iterator[Where]:
        """Each device alone; else, the emptiest so many of those that have the room."""
        rest = {**placement, job.name: ()}
        held = held_by(rest, self._jobs, self._on)
        free = [
            number
            for number, device in enumerate(self._on)
            if self._judge.used(held[number]) + job.nbytes <= self._judge.room(device)
        ]
        free.sort(key=lambda number: self._judge.load(self._on[number], held[number]))
        for count in range(1, len(free) + 1):
            options = [(number,) for number in free] if count == 1 else [tuple(sorted(free[:count]))]
            fitting = [where for where in options if self._is_possible({**rest, job.name: where})]
            if fitting:
                yield from fitting
                return

    def _better(self, placement: dict[str, Where]) -> dict[str, Where] | None:
        """The best neighbour, where it is better. Where all have a place, only what is on the worst device moves."""
        movers = self._jobs
        if all(placement.values()):
            held = held_by(placement, self._jobs, self._on)
            worst = max(range(len(self._on)), key=lambda number: self._judge.guess(self._on[number], held[number]))
            movers = [share.job for share in held[worst]]
        near = [self._moved(placement, job) for job in movers]
        for one, other in product(movers, self._jobs):
            if placement[one.name] != placement[other.name]:
                swapped = {**placement, one.name: placement[other.name], other.name: placement[one.name]}
                near += [swapped] if self._is_possible(swapped) else []
        scores = [self._score(one) for one in near]
        best = min(range(len(near)), key=scores.__getitem__, default=None)
        return near[best] if best is not None and scores[best] < self._score(placement) else None

    def _is_possible(self, placement: dict[str, Where]) -> bool:
        held = held_by(placement, self._jobs, self._on)
        return all(self._judge.fits(device, shared) for device, shared in zip(self._on, held, strict=True))

    def _score(self, placement: dict[str, Where]) -> Score:
        held = held_by(placement, self._jobs, self._on)
        guesses = [self._judge.guess(device, shared) for device, shared in zip(self._on, held, strict=True)]
        memory = _memory(placement, self._jobs, self._on, self._judge)
        # The sum as well: a move that helps a device other than the worst is a step on the way.
        return (*_left_out(placement, self._jobs), rounded(max(guesses)) + 1e-6 * sum(guesses), *memory)


def _spread_out(found: dict[str, Where], jobs: Sequence[Job], on: Sequence[Device], judge: Judge) -> dict[str, Where]:
    """One more device for a model of the worst device, as long as a p99 is missed and that makes it better."""
    while True:
        now = score(found, jobs, on, judge)
        if now[2] <= 1:
            return found
        held = held_by(found, jobs, on)
        worst = max(range(len(on)), key=lambda number: judge.ratio(on[number], held[number]))
        tried = [
            {**found, share.job.name: tuple(sorted((*found[share.job.name], number)))}
            for share in held[worst]
            for number in range(len(on))
            if number not in found[share.job.name]
        ]
        fitting = [one for one in tried if all(map(judge.fits, on, held_by(one, jobs, on)))]
        best = min(fitting, key=lambda one: score(one, jobs, on, judge), default=None)
        if best is None or score(best, jobs, on, judge) >= now:
            return found
        found = best
