"""Requests that wait in the engine: order, deadlines, leaving, admission, and the end."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future
from typing import Any, cast

import pytest

from anmok.engine import (
    Busy,
    Closing,
    Engine,
    Expired,
    Limits,
    TooMuch,
)
from anmok.results import Scores
from anmok.tasks import Classify
from watched_models import ASK, NAMES, PLENTY, Clock, Stable, held, label, of, picture, png, threads, until, warmed


@pytest.fixture
def stable() -> Stable:
    return Stable()


@pytest.fixture
def engine(stable: Stable) -> Iterator[Engine]:
    with warmed(stable) as made:
        yield made


def test_higher_priority_goes_first_equal_keeps_its_order_and_waiting_counts(stable: Stable) -> None:
    clock = Clock()
    with Engine(PLENTY, stable, limits=Limits(batch_items=1, level_seconds=2.0), clock=clock) as engine:
        engine.load("fake").result(10)
        with held(stable["fake"], engine):
            sent = [("old low", -1), ("plain a", 0), ("plain b", 0)]
            futures = [engine.submit("fake", [picture(0)], Classify((name,)), priority=p) for name, p in sent]
            clock.now += 1.0
            futures.append(engine.submit("fake", [picture(0)], Classify(("urgent",)), priority=3))
            clock.now += 1.5  # 2.5 s after the old one: more than its one level is worth
            futures.append(engine.submit("fake", [picture(0)], Classify(("late",)), priority=0))
        for future in futures:
            future.result(10)
    order = [ask.labels[0] for _, ask in stable["fake"].seen[1:]]  # type: ignore[attr-defined]
    assert order == ["urgent", "plain a", "plain b", "old low", "late"]


def test_a_large_request_lets_others_have_their_turn(stable: Stable) -> None:
    with Engine(PLENTY, stable, limits=Limits(batch_items=8, batch_seconds=60.0, level_seconds=5.0)) as engine:
        engine.load("fake").result(10)
        with held(stable["fake"], engine):
            large = engine.submit("fake", [picture(seed) for seed in range(30)], ASK)
            urgent = engine.submit("fake", [picture(0)], Classify(("urgent",)), priority=1)
        assert [label(answer) for answer in large.result(10)] == [NAMES[seed % 3] for seed in range(30)]
        urgent.result(10)
        assert [count for count, _ in stable["fake"].seen[1:]] == [1, 8, 8, 8, 6]


def test_a_deadline_is_kept_while_the_worker_is_stuck(engine: Engine, stable: Stable) -> None:
    with held(stable["fake"], engine):
        late = engine.submit("fake", [picture(1)], ASK, deadline=0.02)
        patient = engine.submit("fake", [picture(2)], ASK, deadline=60)
        with pytest.raises(Expired, match="fake: the deadline passed"):
            late.result(5)
        assert of(engine, "fake").queued == 1
    assert label(patient.result(10)[0]) == "blue"
    assert sum(count for count, _ in stable["fake"].seen) == 2  # the net never saw it
    assert of(engine, "fake").expired == 1


def test_an_earlier_deadline_wakes_who_sleeps_towards_a_later_one(engine: Engine, stable: Stable) -> None:
    with held(stable["fake"], engine):
        engine.submit("fake", [picture(1)], ASK, deadline=60)
        time.sleep(0.05)
        soon = engine.submit("fake", [picture(1)], ASK, deadline=0.02)
        with pytest.raises(Expired):
            soon.result(5)


def test_late_work_is_dropped_when_it_is_taken(stable: Stable) -> None:
    clock = Clock()
    with Engine(PLENTY, stable, clock=clock) as engine:
        engine.run("fake", [picture(0)], ASK, deadline=20)
        time.sleep(0.05)  # the reaper of deadlines now sleeps for 20 real seconds, and what follows is the worker's
        stable["fake"].seen.clear()
        with held(stable["fake"], engine):
            late = engine.submit("fake", [picture(1)], ASK, deadline=30)
            clock.now += 31
        with pytest.raises(Expired):
            late.result(10)
        assert len(stable["fake"].seen) == 1


def test_a_caller_who_leaves_takes_his_request_with_him(engine: Engine, stable: Stable) -> None:
    with held(stable["fake"], engine) as first:
        futures = [engine.submit("fake", [png(seed)], ASK) for seed in range(4)]
        assert futures[1].cancel()
        status = engine.status()
        assert (status.items, status.models[0].queued) == (4, 3)  # three, and the one at the door
        assert futures[0].cancel()
        assert first.cancel()  # in work: its answer will be thrown away
        assert engine.status().items == 2
    assert [label(future.result(10)[0]) for future in futures[2:]] == ["blue", "red"]
    for future in (first, futures[0], futures[1]):
        with pytest.raises(CancelledError):
            future.result(10)
    assert [count for count, _ in stable["fake"].seen] == [1, 2]
    assert of(engine, "fake").cancelled == 3
    assert not futures[2].cancel()  # it is answered


def test_an_interrupted_run_leaves_nothing_behind(
    engine: Engine, stable: Stable, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(self: Any, timeout: float | None = None) -> None:
        raise KeyboardInterrupt

    with held(stable["fake"], engine):
        with monkeypatch.context() as patch:
            patch.setattr(Future, "result", interrupted)
            with pytest.raises(KeyboardInterrupt):
                engine.run("fake", [picture(1)], ASK)
        assert engine.status().items == 1  # the one at the door


def test_a_future_does_not_keep_what_was_sent_in(engine: Engine, stable: Stable) -> None:
    item = picture(1)
    gone = weakref.ref(item)
    future = engine.submit("fake", [item], ASK)
    future.result(10)
    stable["fake"].items.clear()
    del item
    until(lambda: gone() is None)
    assert future.done()


def test_nothing_of_a_request_waits_for_the_collector_of_circles(engine: Engine, stable: Stable) -> None:
    """Beside a net it comes by once in thousands of requests, and a map of depth has some megabytes."""
    engine.run("fake", [picture(1)], ASK)
    gc.collect()
    gc.disable()
    try:
        future = engine.submit("fake", [picture(1)], ASK)
        future.result(10)
        gone = weakref.ref(future)
        del future
        until(lambda: gone() is None)
    finally:
        gc.enable()


def test_the_rest_of_a_large_request_is_dropped_when_its_caller_leaves(stable: Stable) -> None:
    with Engine(PLENTY, stable, limits=Limits(batch_items=2)) as engine:
        engine.load("fake").result(10)
        stable["fake"].door.clear()
        future = engine.submit("fake", [picture(seed) for seed in range(9)], ASK)
        assert stable["fake"].arrived.acquire(timeout=10)
        assert future.cancel()
        assert engine.status().items == 0
        stable["fake"].door.set()
        engine.run("fake", [picture(0)], ASK)
        assert [count for count, _ in stable["fake"].seen] == [2, 1]


def test_a_full_queue_says_when_to_come_back(stable: Stable) -> None:
    with Engine(PLENTY, stable, limits=Limits(queue_items=6, queue_bytes=10_000)) as engine:
        engine.load("fake").result(10)
        engine.run("fake", [picture(0)], ASK)
        with held(stable["fake"], engine):
            kept = engine.submit("fake", [picture(seed, size_hw=(4, 4)) for seed in range(5)], ASK)
            with pytest.raises(Busy, match="queue is full") as refused:
                engine.submit("fake", [picture(0)], ASK)
            assert (refused.value.status, refused.value.retry_after) == (429, 0.1)  # a fake is soon done
            kept.cancel()
            full = engine.submit("fake", [bytes(7_000)], ASK)
            with pytest.raises(Busy):
                engine.submit("fake", [bytes(3_000)], ASK)
            assert engine.status().rejected == 2
            full.cancel()
            with pytest.raises(TooMuch, match="7 items"):
                engine.submit("fake", [picture(0)] * 7, ASK)
            with pytest.raises(TooMuch, match="bytes"):
                engine.submit("fake", [bytes(10_001)], ASK)
        assert TooMuch.status == 413


def test_draining_answers_all_and_leaves_no_thread(stable: Stable) -> None:
    engine = Engine(PLENTY, stable)
    stable.door.clear()
    futures = [engine.submit("fake", [picture(seed)], ASK, deadline=60) for seed in range(5)]
    closing = threading.Thread(target=engine.close)
    closing.start()
    until(lambda: engine.status().is_closing)
    with pytest.raises(Closing):
        engine.submit("fake", [picture(0)], ASK)
    with pytest.raises(Closing):
        engine.load("fake")
    stable.door.set()
    closing.join(10)
    assert [label(future.result(0)[0]) for future in futures] == [NAMES[seed % 3] for seed in range(5)]
    assert threads() == set()
    assert stable["fake"].is_closed
    engine.close()  # a second time changes nothing


def test_what_lives_on_an_engine_ends_once_and_behind_it(stable: Stable) -> None:
    engine, told = Engine(PLENTY, stable), list[int]()

    def broken() -> None:
        told.append(-1)
        raise OSError("no room left")

    engine.at_close(lambda: told.append(len(threads())))
    engine.at_close(broken)
    engine.load("fake").result(10)
    assert threads() != set()
    with pytest.raises(OSError, match="no room left"):
        engine.close()
    assert told == [-1, 0]  # the last one first, and each whatever others raise
    engine.close()
    assert len(told) == 2
    with pytest.raises(Closing):
        engine.at_close(told.clear)


def test_closing_at_once_refuses_what_waits_and_answers_what_is_in_work(stable: Stable) -> None:
    engine = Engine(PLENTY, stable)
    engine.load("fake").result(10)
    with held(stable["fake"], engine) as first:
        waiting = engine.submit("fake", [picture(1)], ASK)
        threading.Timer(0.05, stable["fake"].door.set).start()
        engine.close(drain=False)
    assert isinstance(first.result(0)[0], Scores)
    with pytest.raises(Closing):
        waiting.result(0)
    assert threads() == set()


def test_a_stuck_model_and_a_stuck_load_do_not_hold_up_the_end(stable: Stable) -> None:
    engine = Engine(PLENTY, stable)
    engine.load("fake").result(10)
    with held(stable["fake"], engine) as first:
        stable.door.clear()
        waiting = engine.submit("fake-sigmoid", [picture(1)], ASK)
        load = engine.load("fake-sigmoid")
        until(lambda: stable.loads == ["fake", "fake-sigmoid"])
        engine.close(seconds=0.05)
        for future in (first, waiting, load):
            with pytest.raises(Closing):
                cast("Future[Any]", future).result(0)
        stable.door.set()
    until(lambda: threads() == set())
    assert stable["fake-sigmoid"].is_closed
    assert engine.status().items == 0
