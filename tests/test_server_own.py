"""Our own dialect on a real socket: every task, exact, alone and in batches, line by line; and whoever leaves."""

from __future__ import annotations

import base64
import contextlib
import io
import itertools
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.client import HTTPConnection
from typing import Any

import numpy as np
import pytest
from PIL import Image as pillow

import anmok.server.engines
from anmok.engine import Limits
from anmok.errors import Busy
from anmok.inputs import Clip, Cue, Item, Prompted, Text
from anmok.load import Model, load, tiny
from anmok.results import Embedding, Failure, Result, Scores
from anmok.server.settings import Key, Served, Settings
from anmok.tasks import (
    Ask,
    Classify,
    Depth,
    Detect,
    Embed,
    Gaze,
    Matting,
    Normals,
    Parse,
    Pointing,
    Pose,
    Segment,
    Track,
)
from anmok.wire import Call, Intake, answers_from_json, call_to_json, result_from_json, result_to_json
from battery import picture
from serving import FAKES, RED_BOX, Reply, Running, png, running, scene

TWO_BOXES = png(scene({"red": (20, 10, 50, 30), "green": (60, 40, 70, 59)}))
PICTURES = [png(picture((20 + i, 30), i)) for i in range(32)]
SECRET, URGENT = "a key of the tests, long enough", "an urgent key of the tests"


def film(frames: int) -> bytes:
    """A GIF in which a red box goes right by five pixels a frame."""
    pictures = [pillow.fromarray(scene({"red": (5 * i, 10, 5 * i + 20, 30)})) for i in range(frames)]
    file = io.BytesIO()
    pictures[0].save(file, "GIF", save_all=True, append_images=pictures[1:], duration=100)
    return file.getvalue()


FILM = film(8)


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running(Settings(models=FAKES[:3])) as found:
        yield found


class Gate:
    """Models that wait: for ``loads`` before they are there, for ``opens`` before a batch or frame, once they were
    asked for more than ``start`` items or frames. ``asked`` is set when one waits."""

    def __init__(self, start: int = 0) -> None:
        self.loads, self.opens, self.asked = threading.Event(), threading.Event(), threading.Event()
        self.loads.set()
        self.count = 0
        self.start = start

    def load(self, name: str, **settings: Any) -> Model:
        assert self.loads.wait(20)
        model = load(name, **settings)
        for verb in ("classify", "embed", "detect"):
            if verb in model.card.tasks:
                setattr(model.kind, verb, self._held(getattr(model.kind, verb)))
        if "track" in model.card.tasks:
            follow = model.kind.follow
            model.kind.follow = lambda ask: self._session(follow(ask))
        return model

    def _session(self, session: Any) -> Any:
        session.step = self._held(session.step)
        return session

    def _held(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def held(*given: Any) -> Any:
            self.count += len(given[0]) if isinstance(given[0], list) else 1
            if self.count > self.start:
                self.asked.set()
                assert self.opens.wait(20)
            return call(*given)

        return held


@contextlib.contextmanager
def gated(gate: Gate, settings: Settings) -> Iterator[Running]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(anmok.server.engines, "load", gate.load)
        with running(settings) as found:
            try:
                yield found
            finally:
                gate.opens.set()
                gate.loads.set()


def same(one: Result, other: Result) -> bool:
    """Every number and every label of it."""
    return type(one) is type(other) and result_to_json(one) == result_to_json(other)


ASKED: dict[str, tuple[str, Ask[Any, Any], list[Item]]] = {
    "classify": ("fake", Classify(("red", "blue"), templates=("a {}", "{} thing"), top_k=1), [RED_BOX, TWO_BOXES]),
    "depth": ("fake-places", Depth(), [RED_BOX, TWO_BOXES]),
    "detect": ("fake-places", Detect(("green", "red"), threshold=0.25), [RED_BOX, TWO_BOXES]),
    "embed": ("fake", Embed("features"), [RED_BOX, Text("빨간 상자")]),
    "gaze": ("fake-places", Gaze(), [RED_BOX, Prompted(TWO_BOXES, boxes=((20, 10, 50, 30), (60, 40, 70, 59)))]),
    "matte": ("fake-places", Matting(), [RED_BOX, TWO_BOXES]),
    "normals": ("fake-places", Normals(), [RED_BOX]),
    "parse": ("fake-places", Parse(), [TWO_BOXES]),
    "point": ("fake-places", Pointing(("green", "red"), top_k=1), [RED_BOX, TWO_BOXES]),
    "pose": ("fake-places", Pose(), [RED_BOX, Prompted(RED_BOX, boxes=((20, 10, 50, 30),))]),
    "segment": ("fake-places", Segment(candidates=3), [Prompted(TWO_BOXES, points=((65, 50, 1),))]),
    "track": ("fake-places", Track(every=2), [Clip(FILM, end=0.5, cues=(Cue(0, 7, box=(0, 10, 20, 30)),))]),
}


def asked(task: str) -> tuple[Call, list[Result]]:
    """The call, and its answers in this process."""
    name, ask, items = ASKED[task]
    if task == "embed":  # a text has no features of its own
        ask = Embed()
    return Call(ask, tuple(items), name), list(load(name).run(items, ask))


def as_parts(content: dict[str, Any]) -> tuple[bytes, str]:
    """The same request as multipart: pictures and clips as parts of their own."""
    files: dict[str, bytes] = {}

    def part(value: str) -> dict[str, str]:
        name = f"file{len(files)}"
        files[name] = base64.b64decode(value)
        return {"part": name}

    def moved(item: Any) -> Any:
        if isinstance(item, str):
            return part(item)
        return {key: part(one) if key in ("image", "clip") else one for key, one in item.items()}

    request = json.dumps({**content, "items": [moved(item) for item in content["items"]]}).encode()
    return multipart({"request": request, **files})


def multipart(files: dict[str, bytes]) -> tuple[bytes, str]:
    rows = [
        b'--b0\r\ncontent-disposition: form-data; name="%s"; filename="x.bin"\r\n\r\n%s\r\n' % (name.encode(), data)
        for name, data in files.items()
    ]
    return b"".join(rows) + b"--b0--\r\n", "multipart/form-data; boundary=b0"


@pytest.mark.parametrize("task", ASKED)
def test_every_task_answers_as_the_model_does_in_python(server: Running, task: str) -> None:
    """JSON and multipart byte for byte the same, and exactly what ``Model.run`` gives."""
    call, expected = asked(task)
    plain = server.post(f"/run/{task}", call_to_json(call))
    body, kind = as_parts(call_to_json(call))
    parts = server.post(f"/run/{task}", body, content_type=kind)
    assert (plain.status, parts.status) == (200, 200)
    assert plain.body == parts.body
    assert plain.json["model"] == call.model
    for one, other in zip(answers_from_json(task, plain.json), expected, strict=True):
        assert same(one, other)


def test_files_without_a_request_are_the_items(server: Running) -> None:
    body, kind = multipart({"image": RED_BOX})
    reply = server.post("/run/depth", body, content_type=kind)  # one model here has depth
    assert same(answers_from_json("depth", reply.json)[0], load("fake-places").run([RED_BOX], Depth())[0])
    body, kind = multipart({"request": b'{"model": "fake-places", "ask": {"labels": ["red"]}}', "clip": FILM})
    reply = server.post("/run/track", body, content_type=kind)
    assert len(reply.json["answers"][0]["frames"]) == 8


def test_a_picture_that_cannot_be_read_leaves_its_place_to_a_failure(server: Running) -> None:
    files = [RED_BOX, b"nothing of the kind", TWO_BOXES]
    items = [base64.b64encode(one).decode() for one in files]
    reply = server.post("/run/embed", {"model": "fake", "items": items})
    first, failure, last = answers_from_json("embed", reply.json)
    expected = load("fake").run([RED_BOX, TWO_BOXES], Embed())
    assert same(first, expected[0])
    assert same(last, expected[1])
    assert isinstance(failure, Failure)
    assert "not an image that anmok reads" in str(failure.error)


WRONG: dict[str, tuple[str, Any, int, str | None, str]] = {
    "label": (
        "detect",
        {"model": "fake-places", "ask": {"labels": ["a", 3]}, "items": ["AA=="]},
        422,
        "ask.labels[1]",
        "ask.labels[1]: want a text, got a number",
    ),
    "key of the ask": (
        "detect",
        {"ask": {"lables": ["a"]}, "items": ["AA=="]},
        422,
        "ask",
        "ask: unknown key 'lables'; did you mean 'labels'?",
    ),
    "item": ("embed", {"items": ["AA==", "?"]}, 422, "items[1]", "items[1]: want base64"),
    "point": (
        "segment",
        {"items": [{"image": "AA==", "points": [[1, 2, 3]]}]},
        422,
        "items[0].points[0][2]",
        "items[0].points[0][2]: want 0 or 1",
    ),
    "no items": ("embed", {"items": []}, 422, "items", "items: give at least one"),
    "no model": ("embed", {"items": ["AA=="]}, 422, "model", "model: is missing; this server has fake, fake-sigmoid"),
    "unknown model": ("embed", {"model": "nobody", "items": ["AA=="]}, 404, None, "this server has no model called"),
    "task": (
        "embed",
        {"model": "fake-places", "items": ["AA=="]},
        501,
        None,
        "fake-places does not embed; it can detect, segment",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_errors_name_the_field(server: Running, name: str) -> None:
    task, body, status, field, message = WRONG[name]
    reply = server.post(f"/run/{task}", body, x_request_id="my-own.1")
    error = reply.json["error"]
    assert (reply.status, error.get("field"), error["request_id"]) == (status, field, "my-own.1")
    assert error["message"].startswith(message)


def test_what_is_not_json_is_refused_before_it_is_read(server: Running) -> None:
    reply = server.post("/run/embed", b"items=1", content_type="application/x-www-form-urlencoded")
    assert (reply.status, reply.json["error"]["code"]) == (415, "bad_request")
    reply = server.post("/run/embed", b'{"items": [', content_type="application/json")
    assert reply.json["error"]["message"].startswith("the body is no JSON (line 1, column")
    assert server.post("/run/nothing", {}).status == 404
    assert server.get("/run/embed").status == 405


def tiny_or_fake(name: str, **settings: Any) -> Model:
    return load(name, **settings) if name.startswith("fake") else tiny(name)


def test_alone_and_in_a_batch_of_32_agree() -> None:
    """One request after the other, 32 at the same time, and all in one request: a fake and a real net, tiny."""
    net = "siglip2-b16-256"
    settings = Settings(models=(Served.of("fake"), Served.of(net)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(anmok.server.engines, "load", tiny_or_fake)
        with running(settings) as server:
            for name in ("fake", net):
                for ask in (Classify(("red", "blue", "a cat")), Embed()):
                    alone = [answer for one in PICTURES for answer in _answers(server, name, ask, [one])]
                    together = _answers(server, name, ask, PICTURES)
                    with ThreadPoolExecutor(32) as pool:
                        waiting = [pool.submit(_answers, server, name, ask, [one]) for one in PICTURES]
                        at_once = [future.result()[0] for future in waiting]
                    for one, two, three in zip(alone, together, at_once, strict=True):
                        _check_near(one, two)
                        _check_near(one, three)
            assert server.server is not None
            largest = {one.name: one.largest for one in server.server.desk.engine.status().models}
            assert largest["fake"] > 1
            assert largest[net] == 32
            counts = server.get("/metrics").body.decode()
            rows = re.findall(r'anmok_batch_size_(sum|count)\{[^}]*model="siglip2-b16-256"[^}]*\} ([\d.]+)', counts)
            total = {kind: sum(float(value) for one, value in rows if one == kind) for kind in ("sum", "count")}
            assert total["sum"] == 3 * 32 * 2
            assert total["count"] < total["sum"]  # requests went together


def _answers(server: Running, name: str, ask: Ask[Any, Any], pictures: list[bytes]) -> list[Result]:
    reply = server.post(f"/run/{ask.task}", call_to_json(Call(ask, tuple(pictures), name)))
    assert reply.status == 200, reply.body
    return answers_from_json(ask.task, reply.json)


def _check_near(one: Result, other: Result) -> None:
    if isinstance(one, Scores):
        assert isinstance(other, Scores)
        assert [label for label, _ in one.top()] == [label for label, _ in other.top()]
        np.testing.assert_allclose(one.scores, other.scores, rtol=0, atol=1e-5)  # the promise of design.md
    else:
        assert isinstance(one, Embedding)
        assert isinstance(other, Embedding)
        np.testing.assert_allclose(one.vector, other.vector, rtol=0, atol=1e-5)  # the promise of design.md


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
        _check_near(one, other)


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


def test_a_deadline_is_answered_with_504() -> None:
    gate = Gate()
    body = call_to_json(Call(Embed(), (RED_BOX,), "fake"))
    with gated(gate, Settings(models=(Served.of("fake"),))) as server, ThreadPoolExecutor(1) as pool:
        other = pool.submit(server.post, "/run/embed", body)
        assert gate.asked.wait(10)
        late = server.post("/run/embed", body, x_anmok_deadline="0.05")
        assert (late.status, late.json["error"]["code"]) == (504, "expired")
        for wrong, status in (("-1", 504), ("soon", 422), ("nan", 422)):
            assert server.post("/run/embed", body, x_anmok_deadline=wrong).status == status
        gate.opens.set()
        assert other.result().status == 200
        assert server.post("/run/embed", body, x_anmok_deadline="20").status == 200


def test_who_does_not_wait_for_a_load_is_told_when_to_come_back() -> None:
    gate = Gate()
    gate.opens.set()
    gate.loads.clear()
    body = call_to_json(Call(Embed(), (RED_BOX,), "fake"))
    with (
        gated(gate, Settings(models=(Served.of("fake"),), is_lazy=True)) as server,
        ThreadPoolExecutor(1) as pool,
    ):
        hasty = server.post("/run/embed", body, x_anmok_wait="no")
        assert (hasty.status, hasty.json["error"]["code"]) == (503, "loading")
        assert 1 <= int(hasty.headers["retry-after"]) <= 5  # what a load is guessed to take
        patient = pool.submit(server.post, "/run/embed", body)
        assert server.post("/run/embed", body, x_anmok_wait="perhaps").status == 422
        gate.loads.set()
        assert patient.result().status == 200
        assert server.post("/run/embed", body, x_anmok_wait="no").status == 200


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


def test_a_key_may_ask_for_its_own_priority_and_no_more() -> None:
    keys = (Key.of(SECRET, "team"), replace(Key.of(URGENT, "urgent"), priority=5))
    body = call_to_json(Call(Embed(), (RED_BOX,), "fake"))
    with running(Settings(models=(Served.of("fake"),), keys=keys)) as server:

        def ask(key: str, priority: str) -> Reply:
            return server.post("/run/embed", body, x_api_key=key, x_anmok_priority=priority)

        assert [ask(SECRET, level).status for level in ("-3", "0", "1")] == [200, 200, 422]
        assert [ask(URGENT, level).status for level in ("5", "6")] == [200, 422]
        message = ask(SECRET, "1").json["error"]["message"]
        assert message == "x-anmok-priority: 1 is more than this key may ask for"
        assert ask(URGENT, "0.5").status == 422
