"""What would help: how much rates may grow, and what a model that does not fit needs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from anmok.catalogue import Card, cards
from anmok.placement.devices import Device
from anmok.placement.jobs import Job, Judge, Share
from anmok.placement.searching import ways

_STEPS = 8  # of a bisection: to 1 in 256
_NEARLY, _LEAST, _MOST = 0.99, 0.01, 100.0
_NAMED = 3


@dataclass(frozen=True, slots=True)
class Unplaced:
    """A model that is on no device: why, and what would let it in."""

    model: str
    reason: str
    remedies: tuple[str, ...]


def headroom(device: Device, held: Sequence[Share], judge: Judge) -> float | None:
    """The factor by which all rates on the device may grow: until a p99 is missed, or the device cannot keep up.

    Below 1 they have to fall; 0 where a single request takes too long. None where nothing is asked. Two digits,
    rounded down; 100 at most.
    """
    load = judge.load(device, held)
    if load <= 0:
        return None
    low, high = _LEAST, min(_MOST, _NEARLY / load)
    if judge.grown(device, held, low) > 1:
        return 0.0
    if judge.grown(device, held, high) <= 1:
        return _rounded_down(high)
    for _ in range(_STEPS):
        middle = math.sqrt(low * high) if high > 2 * low else (low + high) / 2
        if judge.grown(device, held, middle) > 1:
            high = middle
        else:
            low = middle
    return _rounded_down(low)


def remedies(job: Job, card: Card, held: Sequence[tuple[Device, Sequence[Share]]], judge: Judge) -> Unplaced:
    """Why a job is on none of these devices, and what would help."""
    on = [device for device, _ in held]
    room = max(judge.room(device) for device in on)
    smaller = _smaller(card, room)
    if job.nbytes > room:
        size = job.nbytes / (1 - judge.reserve)
        advice = [f"a device of {size / 1e9:.1f} GB"]
        return Unplaced(job.name, _need(job, room, "the largest device has room for"), (*advice, *smaller))
    if not ways(job, on, judge):
        need = min(job.need(device, judge.limits) for device in on)
        most = job.rate * sum(1 / job.need(device, judge.limits) for device in on if job.nbytes <= judge.room(device))
        advice = [f"at most {_rounded_down(most):g} requests per second in all", "more devices"]
        return Unplaced(job.name, f"takes all the time of {need:.1f} devices at full batches", (*advice, *smaller))
    return Unplaced(job.name, "fits on a device of its own, and none is left", (*_beside(job, held, judge), *smaller))


def _beside(job: Job, held: Sequence[tuple[Device, Sequence[Share]]], judge: Judge) -> list[str]:
    """Where it would fit beside the others, with more memory or a lower rate."""
    lacks = {device: judge.used(shared) + job.nbytes - judge.room(device) for device, shared in held}
    advice = []
    device, lack = min(lacks.items(), key=lambda pair: pair[1])
    if lack > 0:
        advice.append(f"{lack / (1 - judge.reserve) / 1e9:.2f} GB more memory on {device.name}")
    free = [
        (job.rate * (1 - judge.load(device, shared)) / job.need(device, judge.limits), device)
        for device, shared in held
        if lacks[device] <= 0 and job.rate > 0
    ]
    most, device = max(free, key=lambda pair: pair[0], default=(0.0, device))
    if most > 0:
        advice.append(f"below {_rounded_down(most):g} requests per second it fits on {device.name}")
    return [*advice, "another device"]


def _smaller(card: Card, room: int) -> list[str]:
    """Cards that do the same with fewer parameters, the largest of them first, its own family before others."""
    if not card.params:
        return []
    same = [
        one
        for one in cards()
        if 0 < one.params < card.params and one.memory_bytes <= room and set(card.tasks) <= set(one.tasks)
    ]
    same = [one for one in same if not one.is_retired]
    same.sort(key=lambda one: (one.family != card.family, -one.params))
    return [f"a smaller model: {', '.join(one.name for one in same[:_NAMED])}"] if same else []


def _need(job: Job, room: int, what: str) -> str:
    working = f" and {job.working_bytes / 1e9:.2f} GB for its batches" if job.working_bytes else ""
    return f"needs {job.weights_bytes / 1e9:.2f} GB{working}; {what} {room / 1e9:.2f} GB"


def _rounded_down(value: float) -> float:
    if value <= 0:
        return 0.0
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.floor(value / unit + 1e-9) * unit:.6g}")
