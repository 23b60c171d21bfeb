"""From what is served, at which rates, and what was measured, to a placement with the p99 that is to be expected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from anmok.catalogue import Card
from anmok.engine import Limits
from anmok.errors import BadData, BadRequest
from anmok.placement.advice import Unplaced, headroom, remedies
from anmok.placement.costs import LOOSE, Measured, check_reach, fitted
from anmok.placement.devices import Device
from anmok.placement.jobs import Job, Judge, Load, Share, held_by
from anmok.placement.reading import Rate
from anmok.placement.searching import place
from anmok.placement.simulating import Simulated, simulate

_RUNS = 8
_STUDENT = 2.365  # 97.5 % of Student's t with 7 degrees of freedom
_FEW = 100  # requests below which a p99 is the slowest of them


@dataclass(frozen=True, slots=True)
class Offer:
    """One ``[[model]]`` of a ``serve.toml``: the name that callers say, its ``name =`` there, and the card."""

    name: str
    target: str
    card: Card


@dataclass(frozen=True, slots=True)
class Settings:
    """How to plan. ``reserve`` is the share of each device's memory that is left free; ``requests`` is about how many
    each of the eight simulations of a device has, from which the p99 is told."""

    limits: Limits = field(default_factory=Limits)
    reserve: float = 0.1
    seed: int = 0
    requests: int = 6000

    def __post_init__(self) -> None:
        if not 0 <= self.reserve < 1:
            raise BadRequest(f"--reserve {self.reserve:g}: want a share from 0 to below 1")
        if self.seed < 0:
            raise BadRequest(f"--seed {self.seed}: must not be negative")
        if self.requests < 1:
            raise BadRequest(f"requests {self.requests}: must be at least 1")


@dataclass(frozen=True, slots=True)
class Expected:
    """One task of a model on one device. ``rate`` is what of its requests comes here. Seconds from arrival to answer:
    ``p50``, ``p99`` and the ends ``low`` and ``high`` of the 95 % interval of that p99 over the simulated runs; all
    are infinite where more than one request in a hundred is turned away. ``counted`` is the least number of requests
    that one of the runs had."""

    model: str
    task: str
    rate: float
    wanted: float
    p50: float
    p99: float
    low: float
    high: float
    refused: float
    batch: float  # items in one, on average
    counted: int


@dataclass(frozen=True, slots=True)
class Planned:
    """One device: what it holds, and how it fares. ``load`` is the share of its time that the requests take in full
    batches; ``headroom`` the factor by which all rates may grow until a p99 is missed or a queue only grows, None
    where nothing is asked."""

    device: Device
    held: tuple[Share, ...]
    expected: tuple[Expected, ...]
    weights_bytes: int
    working_bytes: int
    room_bytes: int
    load: float
    busy: float
    headroom: float | None


@dataclass(frozen=True, slots=True)
class Plan:
    """``notes`` say what the figures rest on, and what is to be known before they are believed."""

    planned: tuple[Planned, ...]
    unplaced: tuple[Unplaced, ...]
    notes: tuple[str, ...]
    settings: Settings

    @property
    def ratio(self) -> float:
        """The worst p99 over the p99 that was wanted; 0 where nothing is asked."""
        return max((one.p99 / one.wanted for each in self.planned for one in each.expected), default=0.0)


def wishes(offers: Sequence[Offer], rates: Sequence[Rate]) -> tuple[Rate, ...]:
    """The rates, and one of 0 for each model of which nothing is said: it takes memory all the same.

    Raises:
        BadData: a task that a model does not have, or that is not one of single pictures.
    """
    cards = {one.name: one.card for one in offers}
    for rate in rates:
        can = _plannable(cards[rate.model])
        if rate.task not in can:
            raise BadData(f"{rate.model}, {rate.task}: a plan is for tasks of single pictures: {', '.join(can) or '-'}")
    silent = [one for one in offers if all(rate.model != one.name for rate in rates)]
    missing = next((one.name for one in silent if not _plannable(one.card)), None)
    if missing is not None:
        raise BadData(f"{missing}: has no task of single pictures, which is what a plan is for; take it out")
    return (*rates, *(Rate(one.name, _plannable(one.card)[0], 0.0, 1.0) for one in silent))


def known(offer: Offer, wish: Rate, measured: Sequence[Measured]) -> Measured | None:
    """What was measured of that, under the served name or that of the card."""
    for name in (offer.name, offer.target):
        for one in measured:
            if (one.model, one.task, one.pixels) == (name, wish.task, wish.pixels):
                return one
    return None


def plan(
    offers: Sequence[Offer],
    rates: Sequence[Rate],
    measured: Sequence[Measured],
    on: Sequence[Device],
    settings: Settings,
) -> Plan:
    """The best placement that was found, simulated at length.

    Args:
        offers: what is served.
        rates: of their requests.
        measured: of each model and task in ``wishes(offers, rates)``.
        on: the devices.
        settings: see there.

    Raises:
        BadData: something was not measured, or not in batches as large as the engine takes.
    """
    wanted = wishes(offers, rates)
    found = {(offer.name, wish.task): _found(offer, wish, measured) for offer, wish in _pairs(offers, wanted)}
    jobs = [_job(offer, wanted, found, settings.limits) for offer in offers]
    judge = Judge(settings.limits, settings.reserve, settings.seed)
    placement = place(jobs, on, judge)
    held = held_by(placement, jobs, on)
    planned = tuple(_planned(device, shared, judge, settings.requests) for device, shared in zip(on, held, strict=True))
    cards = {one.name: one.card for one in offers}
    out = [job for job in jobs if not placement[job.name]]
    unplaced = tuple(remedies(job, cards[job.name], list(zip(on, held, strict=True)), judge) for job in out)
    notes = (*_about(found, on), *_silent(offers, rates), *_rare(planned))
    return Plan(planned, unplaced, notes, settings)


def _plannable(card: Card) -> list[str]:
    return [task for task in card.tasks if task != "track"]


def _pairs(offers: Sequence[Offer], wanted: Sequence[Rate]) -> list[tuple[Offer, Rate]]:
    return [(offer, wish) for offer in offers for wish in wanted if wish.model == offer.name]


def _found(offer: Offer, wish: Rate, measured: Sequence[Measured]) -> Measured:
    one = known(offer, wish, measured)
    if one is None:
        width, height = wish.pixels
        raise BadData(f"{offer.name}, {wish.task} at {width}x{height}: was not measured")
    return one


def _job(offer: Offer, wanted: Sequence[Rate], found: Mapping[tuple[str, str], Measured], limits: Limits) -> Job:
    """The engine sets aside what the card says before it knows better, so that has to fit as well."""
    loads, working, weights = [], 0, offer.card.params * limits.parameter_bytes
    for wish in (one for one in wanted if one.model == offer.name):
        one = found[offer.name, wish.task]
        cost = fitted(one)
        check_reach(one, cost, limits)
        loads.append(Load(wish.task, wish.rate, wish.wanted, cost))
        working = max(working, one.working_bytes(limits.batch_items))
        weights = max(weights, one.weights_bytes)
    return Job(offer.name, weights, working, tuple(loads))


def _planned(device: Device, held: Sequence[Share], judge: Judge, requests: int) -> Planned:
    streams = [stream for share in held for stream in share.streams(device)]
    wanted = [value for share in held for value in share.wanted]
    runs: list[Simulated] = []
    if streams:
        seeds = range(judge.seed + 1, judge.seed + 1 + _RUNS)  # not the one that the search has chosen by
        runs = [simulate(streams, judge.limits, requests=requests, seed=seed) for seed in seeds]
    expected = []
    for index, (stream, want) in enumerate(zip(streams, wanted, strict=True)):
        waits = [run.waits[index] for run in runs if len(run.waits[index].seconds)]
        p99, half = _mean([one.quantile(0.99) for one in waits])
        p50, _ = _mean([one.quantile(0.5) for one in waits])
        refused, batch = (_mean(values)[0] for values in ([w.refused for w in waits], [w.batch for w in waits]))
        counted = min(len(run.waits[index].seconds) for run in runs)
        span = p99 - half, p99 + half
        row = Expected(stream.model, stream.task, stream.rate, want, p50, p99, *span, refused, batch, counted)
        expected.append(row)
    return Planned(
        device,
        tuple(held),
        tuple(expected),
        sum(one.job.weights_bytes for one in held),
        sum(one.job.working_bytes for one in held),
        judge.room(device),
        judge.load(device, held),
        float(np.mean([run.busy for run in runs])) if runs else 0.0,
        headroom(device, held, judge),
    )


def _mean(values: Sequence[float]) -> tuple[float, float]:
    """And half of its 95 % interval; 0 where one value is infinite, which the mean is then as well."""
    if not values or not np.isfinite(values).all():
        return float("inf") if values else float("nan"), 0.0
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return float(np.mean(values)), _STUDENT * deviation / len(values) ** 0.5


def _about(found: Mapping[tuple[str, str], Measured], on: Sequence[Device]) -> list[str]:
    """What was measured where, and how well a line fits it."""
    notes = []
    factors = ", ".join(dict.fromkeys(f"{one.kind} times {one.slowness:g}" for one in on if one.slowness != 1))
    taken = f"taken for {factors}" if factors else "taken as they are for every device of the plan"
    for words in dict.fromkeys(one.device for one in found.values()):
        notes.append(f"the times are of {words}; {taken}" + ("" if factors else " (--scale says otherwise)"))
    for (name, task), one in found.items():
        residual = fitted(one).residual
        if residual > LOOSE:
            notes.append(f"{name}, {task}: a + c * items misses a measured batch by {100 * residual:.0f} %")
        if any(timing.working_bytes is None for timing in one.timings):
            notes.append(f"{name}, {task}: what its batches need beside the weights is not known and counts as nothing")
    return notes


def _silent(offers: Sequence[Offer], rates: Sequence[Rate]) -> list[str]:
    names = [one.name for one in offers if all(rate.model != one.name for rate in rates)]
    return [f"{', '.join(names)}: no rate is given; placed by memory alone"] if names else []


def _rare(planned: Sequence[Planned]) -> list[str]:
    return [
        f"{one.model}, {one.task}: only {one.counted} requests of it in each simulation of {each.device.name}, too few "
        "for its p99"
        for each in planned
        for one in each.expected
        if one.counted < _FEW
    ]
