"""Models that come and go: loads beside the request path, the budget, pinning, and loads that fail."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from anmok.engine import Busy, DoesNotFit, Engine, Expired, Limits, Loading, ModelFailed
from anmok.errors import UnknownModel, WeightsUnavailable
from anmok.tasks import Classify, Detect
from watched_models import ASK, PLENTY, Clock, Stable, held, label, of, picture, png, threads, until

SIZES = {"fake": 40, "fake-sigmoid": 40, "fake-places": 40, "fake-grounded": 100}
IN_TURN = Limits(stay_seconds=0.0, room_seconds=0.3)
FIND = Detect(("red",))


@pytest.fixture
def stable() -> Iterator[Stable]:
    yield Stable(SIZES)
    assert threads() == set()


def states(engine: Engine) -> dict[str, str]:
    return {one.name: one.state for one in engine.status().models}


def test_requests_wait_while_their_model_loads_and_others_do_not(stable: Stable) -> None:
    with Engine(PLENTY, stable) as engine:
        engine.load("fake").result(10)
        stable.door.clear()
        waiting = [engine.submit("fake-sigmoid", [picture(seed)], ASK) for seed in range(3)]
        until(lambda: states(engine)["fake-sigmoid"] == "loading")
        assert label(engine.run("fake", [picture(1)], ASK)[0]) == "green"  # meanwhile
        assert not any(future.done() for future in waiting)
        stable.door.set()
        assert [label(future.result(10)[0]) for future in waiting] == ["red", "green", "blue"]
        assert stable.loads == ["fake", "fake-sigmoid"]


def test_who_does_not_want_to_wait_is_told_when_to_come_back(stable: Stable) -> None:
    stable.door.clear()
    with Engine(PLENTY, stable) as engine:
        for _ in range(3):
            with pytest.raises(Loading, match="fake is being loaded; try again in") as refused:
                engine.submit("fake", [picture(0)], ASK, wait_for_load=False)
            assert refused.value.status == 503
            assert 1.0 <= refused.value.retry_after <= 5.0
        assert engine.status().items == 0
        stable.door.set()
        engine.load("fake").result(10)
        assert label(engine.run("fake", [picture(2)], ASK, wait_for_load=False)[0]) == "blue"
        assert stable.loads == ["fake"]


def test_a_deadline_is_kept_though_the_load_hangs(stable: Stable) -> None:
    stable.door.clear()
    with Engine(PLENTY, stable) as engine:
        with pytest.raises(Expired):
            engine.run("fake", [picture(0)], ASK, deadline=0.02)
        stable.door.set()


def test_a_load_that_fails_answers_all_who_wait_and_is_not_tried_again_at_once(stable: Stable) -> None:
    clock = Clock()
    with Engine(PLENTY, stable, limits=Limits(retry_seconds=5.0), clock=clock) as engine:
        stable.door.clear()
        stable.error = WeightsUnavailable("the hub cannot be reached")
        futures = [engine.submit("fake", [picture(0)], ASK) for _ in range(3)]
        load = engine.load("fake")
        stable.door.set()
        errors = [future.exception(10) for future in (*futures, load)]
        assert [str(error) for error in errors] == ["the hub cannot be reached"] * 4
        assert len({id(error) for error in errors}) == 4  # a traceback is written on each
        with pytest.raises(WeightsUnavailable):
            engine.submit("fake", [picture(0)], ASK)
        assert stable.loads == ["fake"]
        assert (states(engine), engine.status().items) == ({"fake": "failed"}, 0)
        stable.error = None
        clock.now += 5.0
        assert label(engine.run("fake", [picture(2)], ASK)[0]) == "blue"
        assert stable.loads == ["fake", "fake"]


def test_an_operator_who_loads_again_is_not_put_off(stable: Stable, caplog: pytest.LogCaptureFixture) -> None:
    with Engine(PLENTY, stable) as engine:
        stable.error = RuntimeError("CUDA error at /secret/path")
        error = engine.load("fake").exception(10)
        assert isinstance(error, ModelFailed)
        assert "secret" not in str(error)
        assert "secret" in caplog.text
        stable.error = None
        engine.load("fake").result(10)
        assert states(engine) == {"fake": "ready"}
        engine.load("fake").result(0)  # there already


def test_the_least_recently_used_model_goes(stable: Stable) -> None:
    with Engine(100, stable, limits=IN_TURN) as engine:
        engine.run("fake", [picture(0)], ASK)
        engine.run("fake-sigmoid", [picture(0)], ASK)
        engine.run("fake", [picture(0)], ASK)
        engine.run("fake-places", [picture(0)], FIND)
        assert states(engine) == {"fake": "ready", "fake-sigmoid": "absent", "fake-places": "ready"}
        assert stable["fake-sigmoid"].is_closed
        assert not stable["fake"].is_closed
        assert engine.status().model_bytes == 80
        assert of(engine, "fake-sigmoid").evictions == 1
        until(lambda: threads() <= {"anmok-fake-0", "anmok-fake-places-0"})
        assert label(engine.run("fake-sigmoid", [picture(1)], ASK)[0]) == "green"  # it comes back
        assert stable.loads.count("fake-sigmoid") == 2


def test_room_is_made_before_the_load_where_the_size_is_known(stable: Stable) -> None:
    with Engine(50, stable, limits=IN_TURN) as engine:
        for name in ("fake", "fake-sigmoid", "fake"):
            engine.load(name).result(10)
        assert stable.closed == [set(), set(), {"fake", "fake-sigmoid"}]


def test_pinned_models_stay(stable: Stable) -> None:
    with Engine(100, stable, limits=IN_TURN) as engine:
        engine.pin("fake").result(10)
        engine.run("fake-sigmoid", [picture(0)], ASK)
        engine.run("fake-places", [picture(0)], FIND)
        assert states(engine) == {"fake": "ready", "fake-sigmoid": "absent", "fake-places": "ready"}
        engine.pin("fake-places").result(10)
        with pytest.raises(DoesNotFit, match="fake-sigmoid needs 40 bytes; .* 100, of which pinned models hold 80"):
            engine.run("fake-sigmoid", [picture(0)], ASK)
        engine.pin("fake", is_pinned=False).result(0)
        engine.load("fake-sigmoid").result(10)
        assert states(engine)["fake"] == "absent"


def test_a_model_that_was_just_loaded_is_not_sent_away(stable: Stable) -> None:
    clock = Clock()
    with Engine(100, stable, limits=Limits(stay_seconds=10.0, room_seconds=60.0), clock=clock) as engine:
        engine.load("fake").result(10)
        clock.now += 6
        engine.load("fake-sigmoid").result(10)
        third = engine.submit("fake-places", [picture(0)], FIND)
        until(lambda: states(engine)["fake-places"] == "waiting")
        with pytest.raises(TimeoutError):
            third.result(0.15)
        clock.now += 4  # of the first its ten seconds are over
        assert len(third.result(10)) == 1
        assert states(engine) == {"fake": "absent", "fake-sigmoid": "ready", "fake-places": "ready"}


def test_a_model_at_work_is_not_sent_away(stable: Stable) -> None:
    with Engine(100, stable, limits=IN_TURN) as engine:
        engine.load("fake").result(10)
        engine.pin("fake-sigmoid").result(10)
        with held(stable["fake"], engine) as first:
            with pytest.raises(Loading, match="the models that hold them are at work"):
                engine.run("fake-places", [picture(0)], FIND)
            assert not first.done()
            waiting = engine.submit("fake", [picture(1)], ASK)
        assert label(waiting.result(10)[0]) == "green"
        engine.load("fake-places").result(10)  # now it has no work
        assert states(engine)["fake"] == "absent"


def test_a_model_larger_than_the_budget_is_refused_in_one_sentence(stable: Stable) -> None:
    with Engine(90, stable, limits=IN_TURN) as engine:
        engine.run("fake", [picture(0)], ASK)
        with pytest.raises(DoesNotFit) as refused:
            engine.run("fake-grounded", [picture(0)], FIND)
        assert str(refused.value) == "fake-grounded needs 100 bytes; the budget for models is 90"
        assert stable["fake-grounded"].is_closed
        assert states(engine) == {"fake": "ready", "fake-grounded": "failed"}  # nobody went for nothing
        loads = list(stable.loads)
        engine.pin("fake").result(10)
        engine.pin("fake-sigmoid").result(10)
        error = engine.load("fake-places").exception(10)
        assert "90, of which pinned models hold 80" in str(error)
        assert stable.loads[len(loads) :] == ["fake-sigmoid", "fake-places"]
        assert isinstance(engine.load("fake-places").exception(10), DoesNotFit)
        assert stable.loads[len(loads) :] == ["fake-sigmoid", "fake-places"]  # its size is known by now


def test_a_card_says_how_large_its_model_will_be(stable: Stable) -> None:
    with Engine(2**20, stable) as engine:
        error = engine.load("dinov2-s14").exception(10)
        assert isinstance(error, DoesNotFit)
        assert stable.loads == []


def test_unloading_waits_for_nobody_and_breaks_nothing(stable: Stable) -> None:
    with Engine(PLENTY, stable) as engine:
        engine.unload("fake")  # not there
        engine.pin("fake").result(10)
        with held(stable["fake"], engine), pytest.raises(Busy, match="fake has work"):
            engine.unload("fake")
        until(lambda: engine.status().items == 0)
        engine.unload("fake")
        assert states(engine) == {"fake": "absent"}
        assert stable["fake"].is_closed
        stable.door.clear()
        waiting = engine.submit("fake", [picture(1)], ASK)
        with pytest.raises(Loading, match="is being loaded; unload it afterwards"):
            engine.unload("fake")
        stable.door.set()
        assert label(waiting.result(10)[0]) == "green"
        with pytest.raises(UnknownModel):
            engine.unload("fakke")


def test_two_models_that_do_not_fit_side_by_side_take_turns(stable: Stable) -> None:
    """Many callers of both: all are answered, and a model is loaded a few times, not once per request."""
    asks: dict[str, Any] = {"fake": ASK, "fake-sigmoid": Classify(("red", "green"))}
    others = threading.active_count()  # of whatever ran before in this process
    with Engine(50, stable, limits=Limits(stay_seconds=0.1, room_seconds=20.0)) as engine:
        futures = [(seed, engine.submit(name, [png(seed)], asks[name])) for seed in range(40) for name in asks]
        for _, future in futures:
            assert len(future.result(20)) == 1
        assert 2 <= len(stable.loads) <= 6
        assert threading.active_count() < others + 11
