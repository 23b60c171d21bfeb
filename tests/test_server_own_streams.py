"""Our own dialect line by line: clips, long lists, and who leaves before the end."""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from typing import Any

import pytest

from anmok.engine import Limits
from anmok.errors import Busy
from anmok.inputs import Clip, Cue, Item
from anmok.load import load
from anmok.results import Failure
from anmok.server.settings import Served, Settings
from anmok.tasks import (
    Classify,
    Detect,
    Embed,
    Track,
)
from anmok.wire import Call, Intake, call_to_json, result_from_json
from own_dialect import FILM, PICTURES, Gate, check_near, gated, same, server_fixture  # noqa: F401  # a fixture
from serving import RED_BOX, Running, running


@contextlib.contextmanager
def streamed(server: Running, task: str, call: Call, **headers: str) -> Iterator[Any]:
    """A response whose lines are read as they come."""
    sent = {"content-type": "application/json", "accept": "application/x-ndjson"} | headers
    with contextlib.closing(HTTPConnection("127.0.0.1", server.port, timeout=20)) as connection:
        connection.request("POST", f"/run/{task}", json.dumps(call_to_json(call)), sent)
        yield connection.getresponse()


def test_frames_come_line_by_line() -> None:
    """The first three are here while the model still waits with the fourth."""
    gate = Gate(start=3)
    ask, clip = Track(("red",)), Clip(FILM)
    with (
        gated(gate, Settings(models=(Served.of("fake-places"),))) as server,
        streamed(server, "track", Call(ask, (clip,), "fake-places")) as response,
    ):
        assert (response.status, response.headers["content-type"]) == (200, "application/x-ndjson")
        lines = [response.readline() for _ in range(3)]
        assert gate.asked.wait(10)
        assert not gate.opens.is_set()
        gate.opens.set()
        lines += list(response)
    pieces = [result_from_json("track", json.loads(line)) for line in lines]
    expected = list(load("fake-places").stream(clip, ask))
    assert len(pieces) == len(expected) == 8
    assert all(same(one, other) for one, other in zip(pieces, expected, strict=True))


def test_a_clip_is_asked_frame_by_frame_for_any_task(server: Running) -> None:
    with streamed(server, "detect", Call(Detect(("red",)), (Clip(FILM),), "fake-places")) as response:
        boxes = [json.loads(line)["detections"][0]["box"] for line in response]
    assert boxes == [[5 * i, 10, 5 * i + 20, 30] for i in range(8)]


def test_a_long_list_comes_line_by_line() -> None:
    """300 pictures, one of which is none and has a sentence in its place. The first lines are here while most of the
    pictures still wait."""
    gate = Gate(start=16)
    settings = Settings(models=(Served.of("fake"),), intake=Intake(items=300), limits=Limits(batch_items=8))
    pictures: list[Item] = [PICTURES[i % 32] for i in range(300)]
    expected = load("fake").run(pictures, Embed())
    pictures[99] = b"nothing of the kind"
    with (
        gated(gate, settings) as server,
        streamed(server, "embed", Call(Embed(), tuple(pictures), "fake")) as response,
    ):
        lines = [response.readline() for _ in range(8)]
        assert gate.asked.wait(10)
        gate.opens.set()
        lines += list(response)
    answers = [result_from_json("embed", json.loads(line)) for line in lines]
    assert len(answers) == 300
    assert isinstance(answers.pop(99), Failure)
    del expected[99]
    for one, other in zip(answers, expected, strict=True):
        check_near(one, other)


def test_a_list_that_meets_a_full_queue_keeps_what_was_answered() -> None:
    """Five batches of which the third finds no room: two are told, and then why there are no more."""
    settings = Settings(models=(Served.of("fake"),), limits=Limits(batch_items=2))
    with running(settings) as server, pytest.MonkeyPatch.context() as patch:
        assert server.server is not None
        engine = server.server.desk.engine
        submit, sent = engine.submit, itertools.count(1)

        def full(*given: Any, **how: Any) -> Any:
            if next(sent) > 2:
                raise Busy("the queue is full", 1.0)
            return submit(*given, **how)

        patch.setattr(engine, "submit", full)
        with streamed(server, "embed", Call(Embed(), tuple(PICTURES[:10]), "fake")) as response:
            lines = [json.loads(line) for line in response]
    assert response.status == 200
    assert ["vector" in line for line in lines[:-1]] == [True] * 4
    assert lines[-1]["error"]["code"] == "busy"


def test_clips_that_wait_hold_up_nobody_else() -> None:
    """More of them than a server has threads for what takes milliseconds (40)."""
    gate = Gate()
    call = Call(Track(("red",)), (Clip(FILM),), "fake-places")
    with gated(gate, Settings(models=(Served.of("fake-places"),))) as server:
        waiting = [_sent(server, "track", call, "accept: application/x-ndjson") for _ in range(45)]
        try:
            _until(lambda: bool(_status(server).running_items == 45), 10)
            assert server.post("/run/track", {"model": "x" * 200_000}).status == 422  # so long a body has a thread
            assert _status(server).answered == 0
        finally:
            for one in waiting:
                one.close()


def test_a_stream_that_cannot_begin_has_its_status(server: Running) -> None:
    with streamed(server, "track", Call(Track(("red",)), (Clip(b"no clip"),), "fake-places")) as response:
        assert response.status == 422
        assert json.loads(response.read())["error"]["code"] == "bad_media"
    cue = Cue(99, 1, box=(0, 0, 9, 9))  # found out only at the end
    with streamed(server, "track", Call(Track(), (Clip(FILM, cues=(cue,)),), "fake-places")) as response:
        lines = [json.loads(line) for line in response]
    assert response.status == 200
    assert len(lines) == 9
    assert lines[-1]["error"]["message"].startswith("cue at frame 99")


def _sent(server: Running, task: str, call: Call, *headers: str) -> socket.socket:
    """A request on a socket that does not wait for its answer."""
    body = json.dumps(call_to_json(call)).encode()
    lines = [f"POST /run/{task} HTTP/1.1", "host: 127.0.0.1", "content-type: application/json", *headers]
    head = "\r\n".join([*lines, f"content-length: {len(body)}", "", ""])
    connection = socket.create_connection(("127.0.0.1", server.port))
    connection.sendall(head.encode() + body)
    return connection


def _until(holds: Callable[[], bool], seconds: float = 1.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _status(server: Running) -> Any:
    assert server.server is not None
    [one] = server.server.desk.engine.status().models
    return one


def test_who_leaves_takes_his_request_with_him() -> None:
    """Within a second, while a request of somebody else's keeps the model."""
    gate = Gate()
    call = Call(Classify(("red", "blue")), (RED_BOX,), "fake")
    with gated(gate, Settings(models=(Served.of("fake"),))) as server, ThreadPoolExecutor(1) as pool:
        other = pool.submit(server.post, "/run/embed", {"model": "fake", "items": call_to_json(call)["items"]})
        assert gate.asked.wait(10)
        leaver = _sent(server, "classify", call)
        _until(lambda: _status(server).queued == 1, 10)
        leaver.close()
        _until(lambda: bool(_status(server).cancelled == 1 and _status(server).queued == 0))
        gate.opens.set()
        assert other.result().status == 200
        assert (_status(server).answered, _status(server).items) == (1, 1)  # the net never saw the other


@pytest.mark.parametrize("start", [0, 2])
def test_who_leaves_a_stream_ends_it(start: int) -> None:
    """Before the first line, and after the second."""
    gate = Gate(start)
    call = Call(Track(("red",)), (Clip(FILM),), "fake-places")
    with gated(gate, Settings(models=(Served.of("fake-places"),))) as server:
        leaver = _sent(server, "track", call, "accept: application/x-ndjson")
        assert gate.asked.wait(10)
        if start:
            assert b'"frame": 0' in leaver.recv(10**6)
        leaver.close()
        time.sleep(0.1)  # the frame in work is finished whatever happens; the server sees the leaving meanwhile
        gate.opens.set()
        _until(lambda: bool(_status(server).running_items == 0), 10)
        assert gate.count <= start + 2
        assert (_status(server).cancelled, _status(server).answered) == (1, 0)


def test_a_clip_line_by_line_reads_the_headers_too() -> None:
    gate = Gate()
    gate.loads.clear()
    call = Call(Track(("red",)), (Clip(FILM),), "fake-places")
    with gated(gate, Settings(models=(Served.of("fake-places"),), is_lazy=True)) as server:
        with streamed(server, "track", call, **{"x-anmok-wait": "no"}) as response:
            assert response.status == 503
            assert json.loads(response.read())["error"]["code"] == "loading"
        with streamed(server, "track", call, **{"x-anmok-wait": "perhaps"}) as response:
            assert response.status == 422
        assert _status(server).running_items == 0
