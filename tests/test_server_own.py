"""Our own dialect on a real socket: every task, exact, alone and in batches; deadlines, loads and priorities."""

from __future__ import annotations

import base64
import json
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

import anmok.server.engines
from anmok.inputs import Clip, Cue, Item, Prompted, Text
from anmok.load import Model, load, tiny
from anmok.results import Failure, Result
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
from anmok.wire import Call, answers_from_json, call_to_json
from own_dialect import FILM, PICTURES, Gate, check_near, gated, same, server_fixture  # noqa: F401  # a fixture
from serving import RED_BOX, Reply, Running, png, running, scene

TWO_BOXES = png(scene({"red": (20, 10, 50, 30), "green": (60, 40, 70, 59)}))
SECRET, URGENT = "a key of the tests, long enough", "an urgent key of the tests"


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
                        check_near(one, two)
                        check_near(one, three)
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
