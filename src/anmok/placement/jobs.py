"""What is placed, and what is thought of the models that stand on one device together."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from anmok.engine import Limits
from anmok.placement.costs import Cost
from anmok.placement.devices import Device
from anmok.placement.simulating import Stream, simulate

_SEARCH = 4000  # requests in a simulation that only compares
_SLOPE = 4.0  # in the guess: at half load an answer takes five times as long as alone


@dataclass(frozen=True, slots=True)
class Load:
    """One task of a model: requests of one item per second, the p99 that is wanted in seconds, and the cost on the
    device that was measured."""

    task: str
    rate: float
    wanted: float
    cost: Cost


@dataclass(frozen=True, slots=True)
class Job:
    """One model with all its tasks. ``weights_bytes`` is what the engine sets aside for it, ``working_bytes`` what
    its batches need beside that."""

    name: str
    weights_bytes: int
    working_bytes: int
    loads: tuple[Load, ...] = ()

    @property
    def nbytes(self) -> int:
        return self.weights_bytes + self.working_bytes

    @property
    def rate(self) -> float:
        return sum(one.rate for one in self.loads)

    def need(self, device: Device, limits: Limits) -> float:
        """The share of the device's time that all its requests take in full batches: above 1 is too much for it."""
        return sum(one.rate / one.cost.scaled(device.slowness).capacity(limits) for one in self.loads)


@dataclass(frozen=True, slots=True)
class Share:
    """So much of a job's requests, from above 0 to 1."""

    job: Job
    part: float = 1.0

    def streams(self, device: Device) -> list[Stream]:
        """One for each task that anybody asks for, at the cost on that device."""
        return [
            Stream(self.job.name, one.task, one.rate * self.part, one.cost.scaled(device.slowness))
            for one in self.job.loads
            if one.rate > 0
        ]

    @property
    def wanted(self) -> list[float]:
        """The p99 of each stream, in seconds."""
        return [one.wanted for one in self.job.loads if one.rate > 0]


def shares(job: Job, on: Sequence[Device]) -> list[Share]:
    """A job on one or several devices: each takes as much as it is faster."""
    speeds = [1 / one.slowness for one in on]
    return [Share(job, speed / sum(speeds)) for speed in speeds]


@dataclass(slots=True)
class Judge:
    """Whether shares fit on a device, and how well. ``reserve`` is the share of memory that is left free.

    ``ratio`` simulates, and remembers what it found: it is the worst p99 over the p99 that was wanted.
    """

    limits: Limits
    reserve: float
    seed: int = 0
    _known: dict[tuple[float, frozenset[Share]], float] = field(default_factory=dict)

    def room(self, device: Device) -> int:
        """Bytes that models and their batches may take."""
        return int(device.memory_bytes * (1 - self.reserve))

    def used(self, held: Iterable[Share]) -> int:
        """Bytes, with a batch of every model at work at once."""
        return sum(one.job.nbytes for one in held)

    def load(self, device: Device, held: Iterable[Share]) -> float:
        return sum(one.job.need(device, self.limits) * one.part for one in held)

    def fits(self, device: Device, held: Sequence[Share]) -> bool:
        """Memory, and a load below 1: with more than that a queue only grows."""
        return self.used(held) <= self.room(device) and self.load(device, held) < 1

    def guess(self, device: Device, held: Sequence[Share]) -> float:
        """Quick, and good for an order only: time alone, times what waiting adds at this load."""
        load = self.load(device, held)
        if load >= 1:
            return math.inf
        alone = [one.cost.scaled(device.slowness).seconds(1) / one.wanted for share in held for one in share.job.loads]
        return max(alone, default=0.0) * (1 + _SLOPE * load / (1 - load))

    def ratio(self, device: Device, held: Sequence[Share]) -> float:
        key = device.slowness, frozenset(held)
        if key not in self._known:
            self._known[key] = self.grown(device, held, 1.0)
        return self._known[key]

    def grown(self, device: Device, held: Sequence[Share], growth: float) -> float:
        """The ratio with all rates times ``growth``, not remembered."""
        streams = [replace(one, rate=one.rate * growth) for share in held for one in share.streams(device)]
        if not streams:
            return 0.0
        wanted = [value for share in held for value in share.wanted]
        waits = simulate(streams, self.limits, requests=_SEARCH, seed=self.seed).waits
        # Some may have had no request at all in that time; that says nothing against the placement.
        found = [one.quantile(0.99) / want for one, want in zip(waits, wanted, strict=True) if len(one.seconds)]
        return max(found, default=0.0)


Placement = Mapping[str, tuple[int, ...]]  # from the name of a job to the numbers of the devices that it is on


def held_by(placement: Placement, jobs: Sequence[Job], on: Sequence[Device]) -> list[list[Share]]:
    """What each device holds."""
    held: list[list[Share]] = [[] for _ in on]
    for job in jobs:
        where = placement.get(job.name, ())
        for number, share in zip(where, shares(job, [on[number] for number in where]), strict=True):
            held[number].append(share)
    return held
