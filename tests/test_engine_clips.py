"""While a clip is being read nobody waits behind it: whole answers and streamed ones, in the engine and the server."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from anmok import Chat, Clip, Conversation, Reply
from anmok.engine import Engine, Expired, Limits, ModelStatus, working
from anmok.geometry import View
from anmok.load import Model, load
from anmok.models.fake_talk import FakeTalk
from anmok.results import Failure
from anmok.server.settings import Served, Settings
from serving import png, running

WATCHES = "fake-talk-video"
PLENTY = 2**30
RED, BLUE = (np.full((48, 64, 3), colour, np.uint8) for colour in ((255, 0, 0), (0, 0, 255)))
PLAIN = Conversation.about(RED, question="?")
CLIP = Conversation.about(Clip([RED, BLUE]), question="?")
TOLD = "I see 2 frames of red then blue. Question 1: ?"
ASK = Chat()


class Gate:
    """Frames of clips wait here before they are prepared, as if each took its time to be decoded."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.opened = threading.Event()
        self.reached = threading.Semaphore(0)  # once for each frame
        ready = FakeTalk.prepare_frame

        def slow(kind: FakeTalk, image: NDArray[np.uint8]) -> View:
            self.reached.release()
            assert self.opened.wait(20)
            return ready(kind, image)

        patch.setattr(FakeTalk, "prepare_frame", slow)

    def wait(self, count: int) -> None:
        for _ in range(count):
            assert self.reached.acquire(timeout=10)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    found = Gate(monkeypatch)
    yield found
    found.opened.set()


def text(answers: Future[Any]) -> str:
    [answer] = answers.result(10)
    assert isinstance(answer, Reply)
    return answer.text


def status(engine: Engine) -> ModelStatus:
    [found] = engine.status().models
    return found


@pytest.mark.parametrize("cache_bytes", [0, 10_000])
def test_others_are_answered_while_clips_are_read(gate: Gate, cache_bytes: int) -> None:
    with Engine(PLENTY, limits=Limits(cache_bytes=cache_bytes)) as engine:
        clips = [engine.submit(WATCHES, [CLIP], ASK) for _ in range(2)]
        gate.wait(1)
        for _ in range(3):
            assert text(engine.submit(WATCHES, [PLAIN], ASK)) == "I see red. Question 1: ?"
        assert not any(one.done() for one in clips)
        assert (status(engine).running_items, engine.status().items) == (2, 2)
        gate.opened.set()
        assert [text(one) for one in clips] == [TOLD, TOLD]
        assert (status(engine).running_items, engine.status().items, status(engine).answered) == (0, 0, 5)


def test_of_one_batch_those_without_a_clip_go_ahead(gate: Gate) -> None:
    with Engine(PLENTY) as engine:
        engine.load(WATCHES).result(10)
        first = engine.submit(WATCHES, [PLAIN], ASK)
        both = [engine.submit(WATCHES, [one], ASK) for one in (CLIP, PLAIN)]
        assert text(first) == text(both[1])
        gate.opened.set()
        assert text(both[0]) == TOLD


def test_of_many_clips_some_are_read_at_once_and_all_are_answered(gate: Gate) -> None:
    with Engine(PLENTY, limits=Limits(batch_items=1)) as engine:
        clips = [engine.submit(WATCHES, [CLIP], ASK) for _ in range(9)]
        gate.wait(4)
        assert not gate.reached.acquire(timeout=0.3)  # the other five stand in line
        assert text(engine.submit(WATCHES, [PLAIN], ASK)) == "I see red. Question 1: ?"
        gate.opened.set()
        assert [text(one) for one in clips] == [TOLD] * 9
    assert not [one for one in threading.enumerate() if one.name.startswith(f"anmok-{WATCHES}")]


def test_deadlines_and_leaving_hold_in_that_line(gate: Gate) -> None:
    with Engine(PLENTY, limits=Limits(batch_items=1)) as engine:
        begun = [engine.submit(WATCHES, [CLIP], ASK) for _ in range(4)]
        gate.wait(4)
        late = engine.submit(WATCHES, [CLIP], ASK, deadline=0.2)
        left = engine.submit(WATCHES, [CLIP], ASK)
        with pytest.raises(Expired):
            late.result(10)  # at its time, though no reader is free
        assert left.cancel()
        gate.opened.set()
        assert [text(one) for one in begun] == [TOLD] * 4
        engine.run(WATCHES, [CLIP], ASK)
        found = status(engine)
        assert (found.expired, found.cancelled, found.answered, found.items) == (1, 1, 5, 5)  # items: those two not
        assert found.running_items == 0


def test_an_engine_that_closes_waits_for_no_clip_in_line(gate: Gate) -> None:
    engine = Engine(PLENTY, limits=Limits(batch_items=1))
    clips = [engine.submit(WATCHES, [CLIP], ASK) for _ in range(6)]
    gate.wait(4)
    engine.close(drain=False, seconds=0.2)
    assert all("shut" in str(one.exception(10)) for one in clips)


def test_whoever_leaves_that_line_lets_go_of_the_clip_at_once(gate: Gate) -> None:
    with Engine(PLENTY, limits=Limits(batch_items=1)) as engine:
        begun = [engine.submit(WATCHES, [CLIP], ASK) for _ in range(4)]
        gate.wait(4)
        left = [engine.submit(WATCHES, [CLIP], ASK) for _ in range(3)]
        line = engine._lines[WATCHES]
        ends = time.monotonic() + 10
        while len(line.aside) < 3 and time.monotonic() < ends:
            time.sleep(0.01)
        assert (len(line.aside), status(engine).running_items) == (3, 7)
        assert all(one.cancel() for one in left)
        assert (len(line.aside), status(engine).running_items, engine.status().items) == (0, 4, 4)
        gate.opened.set()
        assert [text(one) for one in begun] == [TOLD] * 4
        assert status(engine).running_items == 0


def test_in_that_line_too_whoever_is_due_goes_first(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(working, "_READERS", 1)
    order: list[int] = []
    with Engine(PLENTY, limits=Limits(batch_items=1)) as engine:
        engine.submit(WATCHES, [CLIP], ASK)
        gate.wait(1)
        asked = [engine.submit(WATCHES, [CLIP], ASK, priority=level) for level in (0, 1, 2)]
        for level, one in enumerate(asked):
            one.add_done_callback(lambda _, level=level: order.append(level))
        line = engine._lines[WATCHES]
        ends = time.monotonic() + 10
        while len(line.aside) < 3 and time.monotonic() < ends:
            time.sleep(0.01)
        gate.opened.set()
        assert [text(one) for one in asked] == [TOLD] * 3
    assert order == [2, 1, 0]


def test_a_closing_engine_refuses_that_line_before_it_waits_for_what_is_being_read(gate: Gate) -> None:
    engine = Engine(PLENTY, limits=Limits(batch_items=1))
    clips = [engine.submit(WATCHES, [CLIP], ASK) for _ in range(6)]
    gate.wait(4)
    with ThreadPoolExecutor(1) as pool:
        closing = pool.submit(engine.close, drain=False, seconds=20.0)
        refused, _ = wait(clips[4:], 5)
        assert ["shutting down" in str(one.exception()) for one in refused] == [True] * 2
        assert not closing.done()
        gate.opened.set()
        closing.result(15)


def test_a_clip_that_cannot_be_read_fails_alone(gate: Gate) -> None:
    gate.opened.set()
    broken = Conversation.about(Clip(b"no clip"), question="?")
    with Engine(PLENTY) as engine:
        bad, good = engine.run(WATCHES, [broken, CLIP], ASK)
    assert isinstance(bad, Failure)
    assert isinstance(good, Reply)
    assert good.text == TOLD


@pytest.mark.parametrize("is_streamed", [False, True])
def test_a_server_answers_others_while_it_reads_a_clip(gate: Gate, is_streamed: bool) -> None:
    stills = ",".join(base64.b64encode(png(one)).decode() for one in (RED, BLUE))
    shown = {"type": "video_url", "video_url": {"url": f"data:video/jpeg;base64,{stills}"}}
    question = {"type": "text", "text": "?"}
    with running(Settings(models=(Served.of(WATCHES),))) as server, ThreadPoolExecutor(1) as pool:

        def post(content: list[Any], **more: Any) -> Any:
            body = {"model": WATCHES, "messages": [{"role": "user", "content": content}], **more}
            return server.post("/v1/chat/completions", body)

        slow = pool.submit(post, [shown, question], stream=is_streamed)
        gate.wait(1)
        plain = post([question]).json["choices"][0]["message"]["content"]
        assert plain == "Question 1: ?"
        assert server.get("/livez").status == 200
        assert not slow.done()
        gate.opened.set()
        assert slow.result(20).status == 200


def test_a_streamed_answer_is_read_in_its_callers_thread(gate: Gate) -> None:
    with Engine(PLENTY) as engine, ThreadPoolExecutor(1) as pool:
        slow = pool.submit(lambda: list(engine.stream(WATCHES, CLIP, ASK)))
        gate.wait(1)
        assert text(engine.submit(WATCHES, [PLAIN], ASK)) == "I see red. Question 1: ?"
        assert not slow.done()
        gate.opened.set()
        reply = slow.result(10)[-1].reply
        assert reply is not None
        assert reply.text == TOLD


def test_the_net_is_held_for_no_frame_that_is_still_being_read(gate: Gate) -> None:
    model: Model = load(WATCHES, device="cpu")
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(model.run, [CLIP], ASK)
        gate.wait(1)
        assert model.run([PLAIN], ASK)[0].text == "I see red. Question 1: ?"
        gate.opened.set()
        assert slow.result(10)[0].text == TOLD
