"""The rules of the engine by themselves, with time that passes when it is told to."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from PIL import Image as pillow

from anmok.engine import Busy, Engine, Limits
from anmok.engine.encodings import Encodings
from anmok.engine.pacing import Company, Pace
from anmok.engine.queueing import Queue
from anmok.engine.residency import Resident, victims
from anmok.engine.tickets import Ticket, payload
from anmok.errors import BadRequest
from anmok.inputs import Clip, Prompted, Text
from anmok.tasks import Classify
from watched_models import Clock, Stable, held, picture, png

ASKS = tuple(Classify((name,)) for name in ("a", "b", "c"))


def measured(batch: float, items: int = 1) -> Pace:
    pace = Pace()
    for _ in range(3):
        pace.record(items, batch)
    return pace


def test_a_batch_is_as_large_as_its_time_allows() -> None:
    limits = Limits(batch_items=32, batch_seconds=0.5)
    assert Pace().size(limits) == 4  # nothing was measured yet
    assert Pace().size(Limits(batch_items=2)) == 2
    assert measured(0.001).size(limits) == 32
    assert measured(0.05).size(limits) == 10
    assert measured(0.4, items=8).size(limits) == 10
    assert measured(3.0).size(limits) == 1


def priced(fixed: float, slope: float, sizes: tuple[int, ...]) -> Pace:
    pace = Pace()
    for size in (1, *sizes):
        pace.record(size, fixed + slope * size)
    return pace


@pytest.mark.parametrize(
    ("fixed", "slope", "size"),
    [
        (0.0, 0.05, 10),  # 0.5 s
        (0.1, 0.05, 8),  # 0.1 + 8 x 0.05 = 0.5
        (0.6, 0.1, 6),  # longer than a batch should be, but half of it is the pass itself
        (0.6, 0.01, 32),  # the next picture costs next to nothing
        (0.0, 3.0, 1),
    ],
)
def test_a_pass_that_costs_much_is_shared_by_many(fixed: float, slope: float, size: int) -> None:
    pace = priced(fixed, slope, (1, 2, 4, 2, 3, 4) * 4)
    assert pace.size(Limits(batch_items=32, batch_seconds=0.5)) == size


@pytest.mark.parametrize(
    ("fixed", "slope", "enough"), [(0.0, 0.05, 1), (0.004, 0.01, 4), (0.007, 0.008, 9), (0.6, 0.1, 6), (0.6, 0.01, 32)]
)
def test_from_where_on_larger_batches_bring_little(fixed: float, slope: float, enough: int) -> None:
    pace = priced(fixed, slope, (1, 2, 4, 2, 3, 4) * 4)
    assert pace.enough(Limits(batch_items=32, batch_seconds=0.5)) == enough


def test_where_small_batches_look_dear_larger_ones_are_tried() -> None:
    """A pass of 0.6 s and 0.01 s for each picture: batches of one would serve 1.6 a second, those of 32 serve 35."""
    limits, pace = Limits(batch_items=32, batch_seconds=0.5), Pace()
    for _ in range(3):
        pace.record(1, 0.61)
    sizes = []
    for _ in range(6):
        size = pace.size(limits)
        pace.record(size, 0.6 + 0.01 * size)
        sizes.append(size)
    assert sizes[0] == 2
    assert sizes[-1] == 32


def test_the_first_batch_warms_up_and_counts_no_longer_than_until_the_second() -> None:
    pace = Pace()
    pace.record(1, 4.0)
    assert pace.item_seconds == 4.0
    pace.record(2, 0.2)
    assert (pace.batch_seconds, pace.item_seconds) == pytest.approx((0.2, 0.1), rel=1e-12)
    pace.record(2, 0.4)
    assert pace.batch_seconds == pytest.approx(0.2 + 0.3 * 0.2, rel=1e-12)
    assert pace.item_seconds == pytest.approx(0.1 + 0.3 * 0.1, rel=1e-12)


def test_nobody_waits_longer_than_a_share_of_a_batch_or_the_bound() -> None:
    limits = Limits(wait_share=0.2, wait_seconds=0.02)
    assert Pace().patience(limits) == 0.0
    assert measured(0.05).patience(limits) == pytest.approx(0.01, rel=1e-12)
    assert measured(5.0).patience(limits) == 0.02


def test_an_idle_queue_waits_for_nobody() -> None:
    limits, pace, company = Limits(), measured(0.1), Company()
    assert company.wait(pace, limits, arrived=5.0, waiting=1, now=5.0) == 0.0  # nothing has happened yet
    company.leave(answered=8, waiting=0, now=5.0)
    assert company.wait(pace, limits, arrived=5.101, waiting=1, now=5.101) == 0.0  # all have gone


def test_a_single_caller_never_waits() -> None:
    limits, pace, company = Limits(), measured(0.1), Company()
    for moment in range(20):
        company.leave(answered=1, waiting=0, now=float(moment))
        assert company.wait(pace, limits, arrived=moment + 0.001, waiting=1, now=moment + 0.001) == 0.0


def test_after_a_batch_the_first_waits_for_the_others_and_no_longer() -> None:
    limits, pace, company = Limits(wait_share=0.2, wait_seconds=1.0), measured(0.1), Company()
    company.leave(answered=6, waiting=2, now=10.0)
    wait = company.wait(pace, limits, arrived=10.001, waiting=3, now=10.001)
    assert wait == pytest.approx(0.02, rel=1e-9)
    wait = company.wait(pace, limits, arrived=10.001, waiting=7, now=10.011)
    assert wait == pytest.approx(0.01, rel=1e-9)  # counted from its arrival
    assert company.wait(pace, limits, arrived=10.001, waiting=8, now=10.012) == 0.0  # they are all here
    assert company.wait(pace, limits, arrived=10.001, waiting=3, now=10.022) == 0.0  # long enough
    wait = company.wait(pace, limits, arrived=9.9, waiting=3, now=10.001)
    assert wait == pytest.approx(0.019, rel=1e-9)  # one that came during the last batch: counted from its end


@given(
    batch=st.floats(1e-6, 10),
    share=st.floats(0, 1),
    most=st.floats(0, 1),
    answered=st.integers(1, 100),
    waiting=st.integers(1, 100),
    delay=st.floats(0, 20),
)
@settings(max_examples=200)
def test_waiting_is_bounded_whatever_happens(
    batch: float, share: float, most: float, answered: int, waiting: int, delay: float
) -> None:
    limits, pace, company = Limits(wait_share=share, wait_seconds=most), measured(batch), Company()
    company.leave(answered, 0, 100.0)
    wait = company.wait(pace, limits, 100.0 + delay, waiting, 100.0 + delay)
    # `arrived + patience - now` at 100 s is rounded to the spacing of doubles there.
    assert 0.0 <= wait <= min(most, share * batch) + 1e-12 * 100


class Slow:
    """A loader of models that take a time of the clock for each item."""

    def __init__(self, stable: Stable, clock: Clock, seconds: float) -> None:
        self.stable = stable
        self.clock = clock
        self.seconds = seconds

    def __call__(self, name: str) -> Any:
        model: Any = self.stable(name)
        run = model.run

        def slow(items: Any, ask: Any) -> Any:
            self.clock.now += self.seconds * len(items)
            return run(items, ask)

        model.run = slow
        return model


def test_a_full_queue_says_how_long_what_waits_will_take() -> None:
    """0.5 s each were measured: six waiting and half of the one in work take 3.25 s."""
    clock, stable = Clock(), Stable()
    with Engine(2**30, Slow(stable, clock, 0.5), limits=Limits(queue_items=7), clock=clock) as engine:
        for _ in range(3):
            engine.run("fake", [picture(0)], ASKS[0])
        assert engine.status().models[0].batch_seconds == {"classify": pytest.approx(0.5, rel=1e-9)}
        with held(stable["fake"], engine):
            engine.submit("fake", [picture(0)] * 6, ASKS[0])
            with pytest.raises(Busy, match=r"try again in 3\.2 s") as refused:
                engine.submit("fake", [picture(0)], ASKS[0])
            assert refused.value.retry_after == pytest.approx(3.25, rel=1e-9)


def test_the_worker_waits_for_who_was_just_answered_and_goes_when_they_are_there() -> None:
    clock, stable = Clock(), Stable()
    # The clock stands still unless the model works: nobody's patience ends by itself.
    limits = Limits(batch_seconds=60.0, wait_share=5.0, wait_seconds=60.0)
    with Engine(2**30, Slow(stable, clock, 0.5), limits=limits, clock=clock) as engine:
        engine.run("fake", [picture(0), picture(1)], ASKS[0])
        first = engine.submit("fake", [picture(0)], ASKS[0])
        with pytest.raises(TimeoutError):
            first.result(0.05)
        second = engine.submit("fake", [picture(1)], ASKS[0])
        assert len(first.result(10)) == len(second.result(10)) == 1
        assert [count for count, _ in stable["fake"].seen] == [2, 2]


def test_bounds_make_sense() -> None:
    for wrong in ({"queue_items": 0}, {"batch_items": 0}, {"lanes": 0}, {"wait_seconds": -1.0}, {"batch_seconds": 0.0}):
        with pytest.raises(BadRequest, match=next(iter(wrong))):
            Limits(**wrong)  # type: ignore[arg-type]
    with pytest.raises(BadRequest):
        Limits(stay_seconds=float("nan"))


def test_the_bytes_that_an_item_keeps_in_memory() -> None:
    array = np.zeros((4, 5, 3), np.uint8)
    assert payload(b"12345") == 5
    assert payload(array) == 60
    assert payload(pillow.fromarray(array)) == 60
    assert payload(Text("안목")) == 6
    assert payload(Prompted(b"12345", points=((1, 1, 1),))) == 5
    assert payload(Clip([array, array])) == 120
    assert payload(Clip(b"123")) == 3
    assert payload("cat.jpg") == 1024  # not read yet


RESIDENTS = st.lists(
    st.builds(
        Resident,
        name=st.uuids().map(str),
        nbytes=st.integers(1, 100),
        used=st.floats(0, 100),
        loaded=st.floats(0, 100),
        is_held=st.booleans(),
    ),
    max_size=8,
)


@given(residents=RESIDENTS, needed=st.integers(1, 200), budget=st.integers(1, 300))
@settings(max_examples=300)
def test_who_goes_makes_room_and_may_go_and_nobody_goes_for_nothing(
    residents: list[Resident], needed: int, budget: int
) -> None:
    going = victims(residents, needed, budget, now=100.0, stay_seconds=10.0)
    free = [one for one in residents if not one.is_held and one.loaded <= 90.0]
    total = sum(one.nbytes for one in residents)
    if going is None:
        assert total - sum(one.nbytes for one in free) + needed > budget
        return
    gone = [one for one in residents if one.name in going]
    assert all(one in free for one in gone)
    left = total - sum(one.nbytes for one in gone) + needed
    assert left <= budget
    assert all(left + one.nbytes > budget for one in gone)


def test_the_least_recently_used_goes_first_and_a_needless_one_stays() -> None:
    old, middle, new = (
        Resident(name, size, used, 0.0) for name, size, used in (("a", 10, 1), ("b", 90, 2), ("c", 10, 3))
    )
    assert victims([new, old, middle], 5, 110, now=50, stay_seconds=0) == ["a"]
    assert victims([new, old, middle], 80, 110, now=50, stay_seconds=0) == ["b"]  # without `a`, which would not do
    assert victims([new, old, middle], 0, 110, now=50, stay_seconds=0) == []
    assert victims([new, old, middle], 5, 110, now=50, stay_seconds=60) is None


def test_the_encodings_keep_to_their_bytes_and_forget_the_oldest() -> None:
    with Stable()("fake") as model:
        size = 48 * 4  # float32 features of the fake
        cache = Encodings(3 * size)
        data = [png(seed) for seed in range(5)]
        for one in data[:3]:
            cache.states(model, [one])
        cache.states(model, [data[0]])  # used again: not the oldest any more
        cache.states(model, data[3:4])
        assert (len(cache), cache.nbytes, cache.hits, cache.misses) == (3, 3 * size, 1, 4)
        cache.states(model, [data[0], data[2], data[3]])
        assert (cache.hits, cache.misses) == (4, 4)
        cache.states(model, [data[1]])
        assert cache.misses == 5
        [state, array, text] = cache.states(model, [data[1], picture(0), Text("red")])
        assert state.features.base is None  # type: ignore[union-attr]  # not a view of its batch
        assert not state.features.flags.writeable  # type: ignore[union-attr]
        assert isinstance(array, np.ndarray)
        assert text == Text("red")
        small = Encodings(size - 1)
        small.states(model, data)
        assert (len(small), small.nbytes) == (0, 0)


def test_encodings_of_two_models_are_kept_apart() -> None:
    with Stable()("fake") as one, Stable()("fake-sigmoid") as other:
        cache = Encodings(2**20)
        [first], [second] = (cache.states(model, [png(0)]) for model in (one, other))
        assert (first.maker, second.maker) == (one.maker, other.maker)  # type: ignore[union-attr]
        assert (cache.hits, cache.misses) == (0, 2)


def test_nothing_is_kept_unless_it_is_asked_for() -> None:
    with Stable()("fake") as model:
        cache = Encodings(0)
        data = io.BytesIO(png(0)).getvalue()
        assert cache.states(model, [data]) == [data]
        assert (len(cache), cache.misses) == (0, 0)


class QueueMachine(RuleBasedStateMachine):
    """The queue against a plain list that is sorted anew each time."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = Queue()
        self.number = 0
        self.waiting: list[Ticket] = []

    @rule(ask=st.sampled_from(ASKS), size=st.integers(1, 5), ahead=st.integers(-3, 3))
    def put(self, ask: Classify, size: int, ahead: int) -> None:
        self.number += 1
        rank = (self.number - 4.0 * ahead, self.number)
        items = [Text(f"{self.number}/{i}") for i in range(size)]
        ticket = Ticket("fake", items, ask, rank, float(self.number), None, 0)
        self.queue.put(ticket)
        self.waiting.append(ticket)

    @precondition(lambda self: self.waiting)
    @rule(pick=st.integers(0, 1000))
    def remove(self, pick: int) -> None:
        ticket = self.waiting.pop(pick % len(self.waiting))
        self.queue.remove(ticket)
        self.queue.remove(ticket)  # a second time changes nothing

    @precondition(lambda self: self.waiting)
    @rule(size=st.integers(1, 7))
    def take(self, size: int) -> None:
        first = min(self.waiting, key=lambda one: one.rank)
        assert self.queue.head() is first
        alike = sorted((one for one in self.waiting if one.ask == first.ask), key=lambda one: one.rank)
        expected = [item for one in alike for item in list(one.items)[one.taken :]][:size]
        assert self.queue.like(first) == sum(one.left for one in alike)
        batch = self.queue.take(first, size)
        assert batch.items == expected
        assert batch.size == len(expected)
        assert [part.items for part in batch.parts] == [
            tuple(part.ticket.items[part.start : part.start + len(part.items)]) for part in batch.parts
        ]
        self.waiting = [one for one in self.waiting if one.left]

    @invariant()
    def counts_agree(self) -> None:
        assert self.queue.items == sum(one.left for one in self.waiting)
        assert len(self.queue) == len(self.waiting)
        assert set(self.queue) == set(self.waiting)
        assert (self.queue.head() is None) == (not self.waiting)


TestQueue = QueueMachine.TestCase
TestQueue.settings = settings(max_examples=60, stateful_step_count=30)
