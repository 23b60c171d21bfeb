"""Many callers at once, who leave, are late and send bad pictures: each accepted request is answered exactly once."""

from __future__ import annotations

import dataclasses
import random
import threading
import time
from collections import Counter
from concurrent.futures import CancelledError, Future
from typing import Any

import pytest

from anmok.engine import Busy, Engine, Expired, Limits, Loading
from anmok.results import Detections, Failure, Scores
from anmok.tasks import Classify, Detect
from watched_models import NAMES, Stable, label, png, threads, until

CALLERS, REQUESTS = 20, 15
PICTURES = [png(seed) for seed in range(12)]
ASKS = {
    "fake": (Classify(NAMES), Classify(NAMES[::-1])),
    "fake-sigmoid": (Classify(NAMES),),
    "fake-places": (Detect(NAMES), Detect(NAMES[:1])),
}
LIMITS = Limits(queue_items=150, batch_items=8, stay_seconds=0.05, room_seconds=20.0, cache_bytes=1000)


class Caller(threading.Thread):
    """Sends what its own seed says, one request after the other, and notes what became of each."""

    def __init__(self, engine: Engine, seed: int) -> None:
        super().__init__(name=f"caller-{seed}")
        self.engine = engine
        self.random = random.Random(seed)
        self.outcomes: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.done: Counter[int] = Counter()  # calls of each future's callback
        self.futures: list[tuple[Future[Any], list[int | None], Any]] = []

    def run(self) -> None:
        for number in range(REQUESTS):
            self.send(number)
            if self.random.random() < 0.2:
                time.sleep(self.random.random() * 0.01)
        for future, pictures, ask in self.futures:
            self.note(future, pictures, ask)

    def send(self, number: int) -> None:
        chance = self.random.random
        name = self.random.choice(list(ASKS))
        ask = self.random.choice(ASKS[name])
        pictures = [
            None if chance() < 0.1 else self.random.randrange(12) for _ in range(self.random.choice((1, 1, 3, 11)))
        ]
        items = [b"no picture" if one is None else PICTURES[one] for one in pictures]
        try:
            future = self.engine.submit(
                name,
                items,
                ask,
                priority=self.random.randrange(-2, 3),
                deadline=self.random.choice((None, None, 0.002, 30.0)),
                wait_for_load=chance() < 0.9,
            )
        except (Busy, Loading) as error:
            self.outcomes[type(error).__name__] += 1
            return
        future.add_done_callback(lambda _: self.done.update([number]))
        self.futures.append((future, pictures, ask))
        if chance() < 0.25:
            threading.Timer(chance() * 0.05, future.cancel).start()

    def note(self, future: Future[Any], pictures: list[int | None], ask: Any) -> None:
        try:
            answers = future.result(30)
        except (CancelledError, Expired) as error:
            self.outcomes[type(error).__name__] += 1
            return
        self.outcomes["answered"] += 1
        fits = [self.fits(answer, one, ask) for answer, one in zip(answers, pictures, strict=True)]
        if not all(fits):
            self.wrong.append(f"{ask}: {pictures}")

    @staticmethod
    def fits(answer: Any, one: int | None, ask: Any) -> bool:
        """The right answer to this very picture."""
        if one is None:
            return isinstance(answer, Failure)
        if isinstance(answer, Scores):
            return answer.labels == ask.labels and label(answer) == NAMES[one % 3]
        found = isinstance(answer, Detections) and {answer.labels[i] for i in answer.class_ids}
        return found is not False and found <= {NAMES[one % 3]}


@pytest.mark.parametrize(("seed", "lanes", "budget"), [(1, 1, 100), (2, 2, 70), (3, 1, 1000)])
def test_every_accepted_request_is_answered_exactly_once(seed: int, lanes: int, budget: int) -> None:
    stable = Stable({"fake": 40, "fake-sigmoid": 40, "fake-places": 60})
    others = set(threading.enumerate())  # of whatever ran before in this process
    with Engine(budget, stable, limits=dataclasses.replace(LIMITS, lanes=lanes)) as engine:
        callers = [Caller(engine, 1000 * seed + number) for number in range(CALLERS)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join(60)
        until(lambda: all(one.name.startswith("anmok") for one in set(threading.enumerate()) - others))  # timers
        status = engine.status()
    assert [caller.wrong for caller in callers] == [[]] * CALLERS
    outcomes = sum((caller.outcomes for caller in callers), Counter())
    assert outcomes.total() == CALLERS * REQUESTS
    accepted = sum(len(caller.futures) for caller in callers)
    assert all(set(caller.done.values()) <= {1} for caller in callers)
    assert sum(caller.done.total() for caller in callers) == accepted
    models = status.models
    assert sum(one.requests for one in models) == accepted
    assert sum(one.answered + one.expired + one.cancelled + one.refused for one in models) == accepted
    assert outcomes["answered"] > CALLERS  # the rest of the mixture is worth nothing if nobody is answered
    assert (status.items, status.nbytes, status.cached_bytes <= 1000) == (0, 0, True)
    assert [(one.queued, one.queued_items, one.running_items) for one in models] == [(0, 0, 0)] * len(models)
    assert threads() == set()
