"""Clips through the engine frame by frame, and the share of the queue that each model has."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from anmok.engine import Busy, Closing, DoesNotFit, Engine, Expired, Limits, ModelStatus, Named, TooMuch
from anmok.errors import BadMedia, BadRequest, UnknownModel, Unsupported
from anmok.inputs import Clip, Cue
from anmok.load import Model, load
from anmok.tasks import Classify, Detect, Track

PLENTY = 2**30
RED = Detect(("red",))
FOLLOW = Track(("red",))


def frame(left: int) -> NDArray[np.uint8]:
    image = np.zeros((48, 64, 3), np.uint8)
    image[10:30, left : left + 12] = (255, 0, 0)
    return image


def moving(frames: int = 5) -> Clip:
    return Clip([frame(4 * i) for i in range(frames)])


def status(engine: Engine, name: str = "fake-places") -> ModelStatus:
    return next(one for one in engine.status().models if one.name == name)


def test_a_stream_gives_what_the_model_gives() -> None:
    with Engine(PLENTY) as engine, load("fake-places") as model:
        ours = list(engine.stream("fake-places", moving(), FOLLOW))
        theirs = list(model.stream(moving(), FOLLOW))
        assert [piece.frame for piece in ours] == [0, 1, 2, 3, 4]
        for one, other in zip(ours, theirs, strict=True):
            assert one.to_dict() == other.to_dict()
        stills = [found.xyxy.tolist() for found in engine.stream("fake-places", moving(), RED)]
        assert stills == [[[4.0 * i, 10.0, 4.0 * i + 12, 30.0]] for i in range(5)]
        assert status(engine).running_items == 0
        assert (status(engine).requests, status(engine).answered) == (2, 2)
        assert engine.status().items == 0


def test_a_stream_that_is_closed_lets_go_of_its_model_and_its_place() -> None:
    with Engine(PLENTY) as engine:
        with contextlib.closing(engine.stream("fake-places", moving(50), FOLLOW)) as pieces:
            assert next(pieces).frame == 0
            assert status(engine).running_items == 1
            assert engine.status().items == 1
            with pytest.raises(Busy, match="fake-places has work"):
                engine.unload("fake-places")
        assert list(pieces) == []
        assert status(engine).running_items == 0
        assert status(engine).cancelled == 1
        pieces.close()  # twice changes nothing
        assert engine.status().items == 0
        engine.unload("fake-places")


def test_one_that_is_never_begun_can_be_closed_too() -> None:
    with Engine(PLENTY) as engine:
        pieces = engine.stream("fake-places", moving(), FOLLOW)
        assert status(engine).state == "absent"
        pieces.close()
        assert (engine.status().items, status(engine).running_items) == (0, 0)


def test_stills_are_answered_in_between() -> None:
    with Engine(PLENTY) as engine, contextlib.closing(engine.stream("fake-places", moving(20), FOLLOW)) as pieces:
        next(pieces)
        [found] = engine.run("fake-places", [frame(8)], RED)
        assert found.to_dict()["detections"][0]["box"] == [8.0, 10.0, 20.0, 30.0]
        assert next(pieces).frame == 1


def test_what_cannot_be_streamed_is_refused_at_once() -> None:
    with Engine(PLENTY, limits=Limits(queue_bytes=1000)) as engine:
        with pytest.raises(UnknownModel):
            engine.stream("fakke", moving(), FOLLOW)
        with pytest.raises(Unsupported, match="fake does not track"):
            engine.stream("fake", moving(), FOLLOW)
        with pytest.raises(BadRequest, match="want a clip"):
            engine.stream("fake-places", frame(0), FOLLOW)  # type: ignore[arg-type]
        with pytest.raises(TooMuch):
            engine.stream("fake-places", moving(), FOLLOW)
        assert engine.status().items == 0


def test_errors_on_the_way_end_the_stream_and_its_place() -> None:
    with Engine(PLENTY) as engine:
        for clip, kind in (
            (Clip(b"no clip"), BadMedia),
            (Clip([frame(0)], cues=(Cue(7, 1, ((1, 1, 1),)),)), BadRequest),
        ):
            pieces = engine.stream("fake-places", clip, FOLLOW)
            with pytest.raises(kind):
                list(pieces)
            assert engine.status().items == 0
            assert status(engine).running_items == 0
    with Engine(1) as engine:
        pieces = engine.stream("fake-places", moving(), FOLLOW)
        with pytest.raises(DoesNotFit):
            next(pieces)
        assert engine.status().items == 0


def test_an_engine_that_closes_ends_its_streams() -> None:
    engine = Engine(PLENTY)
    pieces = engine.stream("fake-places", moving(50), FOLLOW)
    next(pieces)
    closing = threading.Thread(target=engine.close, kwargs={"drain": True, "seconds": 0.3})
    closing.start()
    closing.join(10)
    with pytest.raises(Closing):
        list(pieces)
    with pytest.raises(Closing):
        engine.stream("fake-places", moving(), FOLLOW)


def test_a_model_takes_no_more_than_its_share_of_the_queue() -> None:
    """Two callers of one model fill its half; the other model still has room."""
    door = threading.Event()

    class Held(Model):
        def run(self, items: Any, ask: Any) -> Any:
            assert door.wait(10)
            return super().run(items, ask)

    def loader(name: str) -> Model:
        model = load(name)
        return Held(model.card, model.kind, model._setup)

    ask = Classify(("red", "blue"))
    names = {"a": Named("fake", share=0.5), "b": "fake-sigmoid"}
    with Engine(PLENTY, loader, limits=Limits(queue_items=8), names=names) as engine:
        first = engine.submit("a", [frame(0)] * 2, ask)
        second = engine.submit("a", [frame(0)] * 2, ask)
        with pytest.raises(Busy, match=r"the share of the queue that a has is full \(4 items\)"):
            engine.submit("a", [frame(0)], ask)
        with pytest.raises(TooMuch, match="at most 4 for a"):
            engine.submit("a", [frame(0)] * 5, ask)
        other = engine.submit("b", [frame(0)] * 4, ask)
        with pytest.raises(Busy, match="the queue is full"):
            engine.submit("b", [frame(0)], ask)
        with pytest.raises(Expired):
            engine.submit("a", [frame(0)], ask, deadline=-1.0)
        assert engine.status().rejected == 2
        door.set()
        assert [len(future.result(10)) for future in (first, second, other)] == [2, 2, 4]
        deadline = time.monotonic() + 10
        while engine.status().items:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert len(engine.run("a", [frame(0)] * 4, ask)) == 4


def test_a_queue_that_would_take_too_long_takes_nobody_else() -> None:
    """0.2 s a picture as measured, one at a time: with 1 s of work waiting the next request is refused at once."""
    door = threading.Event()
    door.set()

    class Slow(Model):
        def run(self, items: Any, ask: Any) -> Any:
            assert door.wait(10)
            time.sleep(0.2 * len(items))
            return super().run(items, ask)

    def loader(name: str) -> Model:
        model = load(name)
        return Slow(model.card, model.kind, model._setup)

    ask = Classify(("red", "blue"))
    with Engine(PLENTY, loader, limits=Limits(queue_seconds=0.9, batch_items=1, batch_seconds=0.1)) as engine:
        for _ in range(3):
            engine.run("fake", [frame(0)], ask)
        engine.check_room("fake")
        door.clear()
        waiting = [engine.submit("fake", [frame(0)], ask) for _ in range(5)]  # one is in work
        with pytest.raises(Busy, match=r"fake has work for (0\.9|1\.\d) s; try again in 0\.\d s"):
            engine.submit("fake", [frame(0)], ask)
        with pytest.raises(Busy):
            engine.check_room("fake")
        engine.check_room("fake-sigmoid")  # others are not held up, nor names that nobody has
        engine.check_room("nobody")
        assert engine.status().rejected == 2
        door.set()
        assert [len(future.result(10)) for future in waiting] == [1] * 5


def test_a_model_that_is_lent_stays_and_answers_meanwhile() -> None:
    with Engine(PLENTY) as engine:
        with engine.lend("fake-places") as model:
            assert model.kind is not None
            with pytest.raises(Busy, match="fake-places has work"):
                engine.unload("fake-places")
            [found] = engine.run("fake-places", [frame(8)], RED)
            assert len(found) == 1
        engine.unload("fake-places")
        with pytest.raises(UnknownModel), engine.lend("fakke"):
            pass
    with pytest.raises(Closing), engine.lend("fake-places"):
        pass
