"""Keys of a server: who may ask what, how much, and that keys never come out again."""

from __future__ import annotations

import base64
import hashlib
import io
import logging
import time
from collections.abc import Iterator
from typing import Any

import pytest

from anmok.errors import Busy, Unauthorized
from anmok.server.callers import Callers
from anmok.server.door import OPEN
from anmok.server.logs import configure
from anmok.server.settings import Settings
from door_keys import CODE, KEYS, bearer, key
from serving import FAKES, RED_BOX, Running, running


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running() as found:
        yield found


@pytest.fixture(scope="module")
def keyed() -> Iterator[Running]:
    keys = (key("all"), key("some", models=("fake",)), key("slow", requests_per_minute=2))
    with running(Settings(models=FAKES, keys=keys)) as found:
        yield found


def test_only_live_and_ready_need_no_key(keyed: Running) -> None:
    assert keyed.server is not None
    addresses = {*keyed.server.api.openapi()["paths"], *("/docs", "/openapi.json", "/nothing", "/", "/livez/")}
    names = {"name": "fake", "task": "depth", "version": "1"}
    asked = {address: address.format(**names) for address in addresses}
    open_ones = {address for address, path in asked.items() if keyed.get(path).status != 401}
    assert open_ones == OPEN
    assert {address for address, path in asked.items() if keyed.post(path, {}).status != 401} == OPEN


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer wrong"},
        {"authorization": "Bearer "},
        {"authorization": f"Basic {base64.b64encode(KEYS['all'].encode()).decode()}"},
        {"authorization": KEYS["all"]},
        {"authorization": f"Bearer {KEYS['all']}x"},
        {"authorization": f"Bearer {KEYS['all'][:-1]}"},
        {"authorization": f"Bearer {hashlib.sha256(KEYS['all'].encode()).hexdigest()}"},
        {"authorization": "Bearer wrong", "x-api-key": KEYS["all"]},
        {"x-api-key": ""},
        {"x-api-key": f"Bearer {KEYS['all']}"},
        {"cookie": f"api_key={KEYS['all']}"},
    ],
)
def test_a_wrong_key_is_refused(keyed: Running, headers: dict[str, str]) -> None:
    refused = keyed.get("/info", **headers)
    assert (refused.status, refused.headers["www-authenticate"]) == (401, "Bearer")
    assert not [one for one in (*KEYS.values(), "wrong") if one in refused.body.decode()]


def test_a_key_in_the_address_is_none(keyed: Running) -> None:
    assert keyed.get(f"/info?api_key={KEYS['all']}&key={KEYS['all']}").status == 401


@pytest.mark.parametrize(
    "headers", [bearer("all"), {"authorization": f"bEARER   {KEYS['all']} "}, {"x-api-key": KEYS["all"]}]
)
def test_a_key_is_let_in(keyed: Running, headers: dict[str, str]) -> None:
    assert keyed.get("/info", **headers).status == 200


def test_all_keys_are_compared_whichever_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def compare(a: bytes, b: bytes) -> bool:
        compared.append((a, b))
        return a == b

    monkeypatch.setattr("hmac.compare_digest", compare)
    callers = Callers([key("all"), key("some"), key("slow")])
    assert callers.caller({b"x-api-key": KEYS["all"].encode()}).name == "all"
    assert len(compared) == 3
    with pytest.raises(Unauthorized):
        callers.caller({b"x-api-key": b"none of them"})
    assert len(compared) == 6
    assert {len(a) for a, _ in compared} == {len(b) for _, b in compared} == {32}  # digests: the key's length is hidden


def test_a_key_has_its_own_number_of_requests() -> None:
    now = [0.0]
    callers = Callers([key("slow", requests_per_minute=2), key("all")], lambda: now[0])
    slow, free = ({b"x-api-key": KEYS[name].encode()} for name in ("slow", "all"))
    for _ in range(2):
        callers.caller(slow)
    with pytest.raises(Busy) as refused:
        callers.caller(slow)
    assert refused.value.retry_after == pytest.approx(30.0)
    assert callers.caller(free).name == "all"
    now[0] = 30.0
    assert callers.caller(slow).name == "slow"
    now[0] = 10_000.0  # no more than two are ever saved up
    for _ in range(2):
        callers.caller(slow)
    with pytest.raises(Busy):
        callers.caller(slow)


def test_too_many_requests_are_told_when_to_come_back(keyed: Running) -> None:
    """Before the body is read: a caller who is over his limit costs nothing."""
    replies = [keyed.post("/v1/embeddings", {"model": "fake", "input": "red"}, **bearer("slow")) for _ in range(3)]
    assert [reply.status for reply in replies] == [200, 200, 429]
    assert 20 <= int(replies[2].headers["retry-after"]) <= 31  # two a minute: one every 30 s
    assert replies[2].json["error"]["type"] == "rate_limit_error"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/run/detect", {"model": "fake-places", "ask": {"labels": ["red"]}, "items": [CODE]}),
        ("POST", "/models/fake-places", RED_BOX),
        ("POST", "/models/fake-places/depth-estimation", RED_BOX),
        ("POST", "/models/fake-places/pipeline/depth-estimation", RED_BOX),
        ("POST", "/models/fake-places/v1/chat/completions", {"messages": []}),
        ("GET", "/models/fake-places", None),
        ("GET", "/models/fake-places/info", None),
        ("GET", "/models/fake-places/health", None),
        ("GET", "/v1/models/fake-places", None),
        ("POST", "/v1/embeddings", {"model": "fake-sigmoid", "input": "red"}),
        ("POST", "/v1/chat/completions", {"model": "fake-places", "messages": []}),
        ("GET", "/v2/models/fake-places", None),
        ("GET", "/v2/models/fake-places/ready", None),
        ("GET", "/v2/models/fake-places/versions/1", None),
        ("POST", "/v2/models/fake-places/infer", {"inputs": []}),
        ("POST", "/v2/models/fake-places/versions/1/infer", {"inputs": []}),
        ("GET", "/label-studio/fake-places/health", None),
        ("GET", "/label-studio/fake-places/versions", None),
        ("POST", "/label-studio/fake-places/predict", {"tasks": [], "label_config": "<View/>"}),
        ("POST", "/label-studio/fake-places/setup", {"project": "1"}),
        ("POST", "/label-studio/fake-places/train", {}),
    ],
)
def test_a_model_of_others_is_not_there(keyed: Running, method: str, path: str, body: Any) -> None:
    """The same words as for a name that nobody has, whatever the dialect."""
    refused = keyed.ask(method, path, body, **bearer("some"))
    assert refused.status == 404
    unknown = path.replace("fake-places", "nobody-has")
    body = {**body, "model": "nobody-has"} if isinstance(body, dict) and "model" in body else body
    same = keyed.ask(method, unknown, body, **bearer("some"))
    model = "fake-sigmoid" if "/v1/emb" in path else "fake-places"
    assert same.body.replace(b"nobody-has", model.encode())[:80] == refused.body[:80]
    assert refused.body.count(b"fake-") <= 1  # the name that was asked for, and none else


def test_a_busy_model_of_others_is_not_there_either(keyed: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(name: str) -> None:
        raise Busy(f"{name} has work for 9 s")

    assert keyed.server is not None
    monkeypatch.setattr(keyed.server.desk.engine, "check_room", full)
    asked = [keyed.post("/models/fake-places", b"", **bearer(name)).status for name in ("some", "all")]
    assert asked == [404, 429]


def test_lists_show_only_what_a_key_may_use(keyed: Running) -> None:
    for path in ("/info", "/models", "/v1/models", "/docs"):
        mine, all_of_it = keyed.get(path, **bearer("some")), keyed.get(path, **bearer("all"))
        assert (mine.status, all_of_it.status) == (200, 200)
        assert b"fake-places" in all_of_it.body
        assert b"fake-places" not in mine.body, path


def test_metrics_name_all_models_and_are_for_keys_that_may_use_them(keyed: Running) -> None:
    refused = keyed.get("/metrics", **bearer("some"))
    assert (refused.status, b"fake-places" in refused.body) == (403, False)
    assert keyed.get("/metrics", **bearer("all")).status == 200


def test_a_priority_above_that_of_the_key_is_refused(keyed: Running) -> None:
    body = {"model": "fake", "items": [CODE]}
    levels = [keyed.post("/run/embed", body, **bearer("all"), x_anmok_priority=one).status for one in ("-3", "0", "1")]
    assert levels == [200, 200, 422]


def test_keys_are_in_no_log_no_metric_and_no_answer(keyed: Running) -> None:
    stream = io.StringIO()
    root = logging.getLogger()
    before, level, handlers = root.level, logging.getLogger("anmok").level, list(root.handlers)
    configure("DEBUG", "json", stream)
    try:
        replies = [
            keyed.get("/info", **bearer("all")),
            keyed.get("/info", x_api_key=KEYS["some"]),
            keyed.get(f"/nothing/{KEYS['all']}?key={KEYS['all']}", **bearer("all")),
            keyed.post("/run/embed", {"model": KEYS["all"][:5], "items": 3}, **bearer("all")),
            keyed.get("/info", authorization="Bearer not-a-key-of-this-server"),
            keyed.get("/metrics", **bearer("all")),
            keyed.get("/openapi.json", **bearer("all")),
        ]
        time.sleep(0.05)
    finally:
        root.handlers[:] = handlers
        root.setLevel(before)
        logging.getLogger("anmok").setLevel(level)
    written = stream.getvalue()
    assert written.count('"request"') >= len(replies)
    everything = written + "".join(reply.body.decode() + str(reply.headers) for reply in replies)
    hashes = [hashlib.sha256(one.encode()).hexdigest() for one in KEYS.values()]
    assert not [one for one in (*KEYS.values(), *hashes, "not-a-key-of-this-server") if one in everything]
