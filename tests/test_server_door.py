"""The door of a server: who asks, from where, how much, and what never comes out of it again."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import io
import logging
import re
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from anmok.errors import Busy, Unauthorized
from anmok.server.bodies import parts_of
from anmok.server.callers import Callers
from anmok.server.connections import Connection
from anmok.server.door import OPEN
from anmok.server.logs import configure
from anmok.server.settings import Key, Settings
from anmok.wire import Intake
from serving import FAKES, RED_BOX, Running, ask, running

HOST = b"Host: localhost\r\n"
LAST = b"Connection: close\r\n\r\n"
KEYS = {"all": "k" * 24, "some": "s" * 24, "slow": "l" * 24}
CODE = base64.b64encode(RED_BOX).decode()
PATH = "/models/fake/image-feature-extraction"


def key(name: str, **more: Any) -> Key:
    return Key(name, hashlib.sha256(KEYS[name].encode()).hexdigest(), **more)


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running() as found:
        yield found


@pytest.fixture(scope="module")
def keyed() -> Iterator[Running]:
    keys = (key("all"), key("some", models=("fake",)), key("slow", requests_per_minute=2))
    with running(Settings(models=FAKES, keys=keys)) as found:
        yield found


@pytest.fixture(scope="module")
def narrow() -> Iterator[Running]:
    """Bodies of 20 kB, 30 kB under way at a time, half a second for each."""
    intake = Intake(body_bytes=20_000, image_bytes=10_000)
    with running(Settings(models=FAKES[:1], intake=intake, flight_bytes=30_000, body_seconds=0.5)) as found:
        yield found


def said(port: int, *pieces: bytes, wait: float = 10.0) -> bytes:
    """All that comes back on one connection, until the other side closes it."""
    with contextlib.closing(socket.create_connection(("127.0.0.1", port), timeout=wait)) as line:
        for piece in pieces:
            line.sendall(piece)
        return b"".join(iter(lambda: line.recv(65536), b""))


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def post(length: int | bytes, *lines: bytes) -> bytes:
    """The head of a request whose body has so many bytes, by its own word."""
    told = length if isinstance(length, bytes) else b"%d" % length
    head = (b"POST /run/embed HTTP/1.1", b"Host: localhost", b"Content-Type: application/json", *lines)
    return b"\r\n".join((*head, b"Content-Length: " + told, b"", b""))


def bearer(name: str) -> dict[str, str]:
    return {"authorization": f"Bearer {KEYS[name]}"}


def test_every_defence_of_the_security_page_has_its_test() -> None:
    page = (Path(__file__).parent.parent / "SECURITY.md").read_text(encoding="utf-8")
    rows = [row.split("|")[1:3] for row in page.splitlines() if row.startswith("|") and "::" in row]
    assert len(rows) > 20
    for defence, tests in rows:
        names = re.findall(r"`(test_\w+\.py)::(test_\w+)`", tests)
        assert len(names) == tests.count("::") > 0, defence
        for file, name in names:
            source = (Path(__file__).parent / file).read_text(encoding="utf-8")
            assert re.search(rf"^def {name}\(", source, re.MULTILINE), f"{file}::{name}"


# Where a request comes from


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1:8000", "[::1]", "[::1]:65535", "LocalHost"])
def test_own_names_are_let_in(server: Running, host: str) -> None:
    assert server.get("/info", host=host).status == 200


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example", "localhost."),
        *("[::1", "::1", "0.0.0.0", "localhost:8000:1", "localhost:", "localhost:80a", "localhost@evil.example", ""),
        *("127.1", "2130706433", "[::ffff:127.0.0.1]"),
    ],
)
def test_a_name_that_was_made_to_point_here_is_refused(server: Running, host: str) -> None:
    """DNS rebinding: the browser of somebody on this machine asks as ``evil.example``."""
    refused = server.post("/run/embed", {"model": "fake", "items": [CODE]}, host=host)
    assert (refused.status, refused.json["error"]["code"]) == (421, "bad_request")
    assert "evil" not in refused.body.decode()


def test_no_host_and_two_hosts_are_refused(server: Running) -> None:
    both = (b"Host: evil.example\r\n" + HOST, HOST + b"Host: evil.example\r\n", HOST + HOST)
    for hosts in (b"", *both):
        answer = said(server.port, b"GET /info HTTP/1.1\r\n" + hosts + LAST)
        assert status(answer) == 421, hosts
        assert b"fake" not in answer


def test_an_address_in_the_first_line_changes_nothing(server: Running) -> None:
    own = said(server.port, b"GET http://evil.example/info HTTP/1.1\r\n" + HOST + LAST)
    other = said(server.port, b"GET http://localhost/info HTTP/1.1\r\nHost: evil.example\r\n" + LAST)
    assert (status(own), status(other)) == (200, 421)


def test_another_name_is_let_in_where_the_operator_says_so() -> None:
    with running(Settings(models=FAKES[:1], hosts=("Parts.Factory",))) as server:
        assert [server.get("/info", host=one).status for one in ("parts.factory:80", "localhost", "x.example")] == [
            200,
            200,
            421,
        ]


@pytest.mark.parametrize(
    "origin",
    [
        *("null", "http://evil.example", "http://localhost:1", "https://localhost", "file://", "http://127.0.0.1"),
        *("http://localhost.evil.example", "chrome-extension://abc", "http://[::1]", "http://user@localhost"),
    ],
)
def test_a_page_of_another_origin_is_refused(server: Running, origin: str) -> None:
    refused = server.post(PATH, RED_BOX, host="localhost:8000", origin=origin)
    assert refused.status == 403
    assert "access-control-allow-origin" not in refused.headers


def test_a_page_of_this_server_is_let_in(server: Running) -> None:
    for host in ("localhost:8000", "[::1]:8000"):
        assert server.post(PATH, RED_BOX, host=host, origin=f"http://{host}").status == 200


def test_two_origins_are_refused(server: Running) -> None:
    own = b"Origin: http://localhost\r\n"
    answer = said(server.port, b"GET /info HTTP/1.1\r\n" + HOST + b"Origin: http://evil.example\r\n" + own + LAST)
    assert status(answer) == 421


def test_a_listed_origin_may_ask_and_only_that_one() -> None:
    with running(Settings(models=FAKES[:1], origins=("https://app.example",))) as server:
        fine = server.post(PATH, RED_BOX, origin="https://app.example")
        asked = server.ask("OPTIONS", PATH, origin="https://app.example", access_control_request_method="POST")
        other = server.ask("OPTIONS", PATH, origin="https://x.example", access_control_request_method="POST")
        assert (fine.status, fine.headers["access-control-allow-origin"]) == (200, "https://app.example")
        assert (asked.status, asked.headers["access-control-allow-origin"]) == (200, "https://app.example")
        assert other.status == 400
        assert "access-control-allow-origin" not in other.headers
        assert server.post(PATH, RED_BOX, origin="https://x.example").status == 403


# Keys


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


# Bodies


def test_a_body_over_the_limit_is_refused_by_its_header_alone(narrow: Running) -> None:
    answer = said(narrow.port, post(20_001, b"Connection: close"))
    assert (status(answer), b"20,000 are the limit" in answer) == (413, True)
    for lie in (b"9" * 18, b"0" * 5000 + b"20001"):
        assert status(said(narrow.port, post(lie, b"Connection: close"))) == 413


def test_a_body_in_pieces_is_refused_when_it_grows_over_the_limit(narrow: Running) -> None:
    head = b"POST /run/embed HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n" + LAST
    pieces = [b"1000\r\n" + b"x" * 4096 + b"\r\n"] * 5
    assert status(said(narrow.port, head, *pieces)) == 413


def test_a_length_that_lies_is_no_way_in(narrow: Running) -> None:
    short = said(narrow.port, post(3, b"Connection: close"), b"{}" + b"GET /info HTTP/1.1\r\n" + HOST + LAST)
    assert short.count(b"HTTP/1.1 ") == 1
    assert status(short) == 422
    long = said(narrow.port, post(500, b"Connection: close"), b"{}")  # the rest never comes
    assert status(long) == 408


def test_a_slow_body_is_given_up_and_so_is_its_connection(narrow: Running) -> None:
    started = time.monotonic()
    answer = said(narrow.port, post(500), b"{")
    assert (status(answer), b"connection: close" in answer) == (408, True)
    assert 0.4 < time.monotonic() - started < 5  # half a second, and what a busy machine adds


def test_bodies_under_way_share_a_budget_and_give_it_back(narrow: Running) -> None:
    address = ("127.0.0.1", narrow.port)
    with contextlib.closing(socket.create_connection(address, timeout=10)) as first:
        first.sendall(post(20_000, b"Connection: close") + b" " * 15_000)
        until = time.monotonic() + 0.4
        statuses = []
        while time.monotonic() < until and 429 not in statuses:
            statuses.append(status(said(narrow.port, post(18_000, b"Connection: close"))))
        assert statuses[-1] == 429
        assert ask(narrow.port, "POST", "/run/embed", b"{}", content_type="application/json").status == 422
        assert b" 408 " in first.recv(100)
    time.sleep(0.05)
    full = said(narrow.port, post(18_000, b"Connection: close"), b" " * 18_000)
    assert (status(full), b"no JSON" in full) == (422, True)


def test_announcing_a_body_takes_no_room_from_others(narrow: Running) -> None:
    """Otherwise two idle connections would keep everybody out."""
    lines = [socket.create_connection(("127.0.0.1", narrow.port), timeout=10) for _ in range(8)]
    try:
        for line in lines:
            line.sendall(post(20_000))
        assert narrow.post("/run/embed", {"items": [CODE]}).status == 200
    finally:
        for line in lines:
            line.close()


def test_whoever_leaves_in_the_middle_leaves_nothing_behind(narrow: Running) -> None:
    for _ in range(20):
        with contextlib.closing(socket.create_connection(("127.0.0.1", narrow.port), timeout=10)) as line:
            line.sendall(post(20_000) + b" " * 9_000)
    time.sleep(0.2)
    assert narrow.post("/run/embed", {"items": [CODE]}).status == 200
    assert b"anmok_requests_in_flight 1.0" in narrow.get("/metrics").body


def test_a_body_is_asked_for_only_where_it_is_wanted(keyed: Running, narrow: Running) -> None:
    expecting = b"Expect: 100-continue"
    refused = said(keyed.port, post(2, expecting, b"Connection: close"))
    assert (status(refused), b"100 Continue" in refused) == (401, False)
    large = said(narrow.port, post(20_001, expecting, b"Connection: close"))
    assert (status(large), b"100 Continue" in large) == (413, False)
    fine = said(narrow.port, post(2, expecting, b"Connection: close"), b"{}")
    assert fine.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 422")


# Odd requests


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        b"Content-Length: 4\r\nContent-Length: 5\r\n\r\n12345",
        b"Content-Length: 4, 4\r\n\r\n1234",
        b"Content-Length: +4\r\n\r\n1234",
        b"Content-Length: -4\r\n\r\n1234",
        b"Content-Length: 0x4\r\n\r\n1234",
        b"Content-Length: 99999999999999999999999\r\n\r\n1234",
        b"X-A: b\r\n c\r\nContent-Length: 4\r\n\r\n1234",
        b"X-A: b\x00c\r\nContent-Length: 4\r\n\r\n1234",
        b"X-A: b\rContent-Length: 4\r\n\r\n1234",
    ],
)
def test_two_readings_of_one_request_are_refused(server: Running, head: bytes) -> None:
    """What lets one request hide inside of another behind a proxy: the connection is closed, and nothing answered."""
    hidden = b"GET /version HTTP/1.1\r\n" + HOST + LAST
    answer = said(server.port, b"POST /run/embed HTTP/1.1\r\n" + HOST + head + hidden)
    assert (status(answer), answer.count(b"HTTP/1.1 ")) == (400, 1)
    assert b"version" not in answer


def test_requests_in_a_row_are_answered_in_a_row(server: Running) -> None:
    live = b"GET /livez HTTP/1.1\r\n" + HOST + b"\r\n"
    embedding = post(2) + b"{}"
    answer = said(server.port, live + embedding + live * 50 + b"GET /version HTTP/1.1\r\n" + HOST + LAST)
    assert [int(one[:3]) for one in answer.split(b"HTTP/1.1 ")[1:]] == [200, 422, *[200] * 51]
    assert b'"version"' in answer[-120:]


@pytest.mark.parametrize(
    "path",
    [
        *(
            "//",
            "//info",
            "/./info",
            "/../info",
            "/%2e%2e/info",
            "/info%00",
            "/info%0d%0aX-A:b",
            "/%2e%2e%2f%2e%2e%2fetc/passwd",
        ),
        *(
            "/models/../../etc/passwd",
            "/models/..%2f..%2fetc%2fpasswd/x/y/z/w",
            "/models//",
            "/INFO",
            "/info;x=1",
            "/v1",
        ),
        *("/static/../../../etc/passwd", "/" + "a" * 20_000, "/%ff%fe", "/v2/models//infer", "/run/", "/run/nothing"),
    ],
)
def test_paths_lead_nowhere_else(server: Running, path: str) -> None:
    answer = said(server.port, b"GET " + path.encode() + b" HTTP/1.1\r\n" + HOST + LAST)
    assert status(answer) in (404, 405, 307)
    assert b"root:" not in answer
    assert len(answer) < 1000
    if status(answer) == 307:  # a slash too many
        assert b"location: http://localhost/" in answer


@pytest.mark.parametrize(
    "name", ["..", "%00", "%2e%2e%2f", "a" * 5000, "%f0%9f%92%a5", "fake%20", "fake%0d%0aX-A:b", "con"]
)
def test_names_of_models_are_looked_up_and_nothing_else(server: Running, name: str) -> None:
    for path in (f"/v1/models/{name}", f"/v2/models/{name}", f"/models/{name}/info"):
        answer = said(server.port, f"GET {path} HTTP/1.1\r\n".encode() + HOST + LAST)
        assert status(answer) == 404 or (status(answer) == 307 and name.endswith("2f"))  # to the same without a slash
        assert b"\r\nx-a:" not in answer.lower()
        assert len(answer) < 1000


def test_other_methods_are_refused(server: Running) -> None:
    for method in ("PUT", "DELETE", "PATCH", "TRACE", "OPTIONS", "HEAD"):
        assert server.ask(method, "/run/embed").status == 405, method
    assert server.ask("HEAD", "/info").body == b""
    assert status(said(server.port, b"CONNECT localhost:80 HTTP/1.1\r\n" + HOST + LAST)) in (400, 404, 405)
    assert status(said(server.port, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")) == 400


def test_a_request_id_comes_back_where_it_is_one(server: Running) -> None:
    assert server.get("/livez", x_request_id="line-3.A_7").headers["x-request-id"] == "line-3.A_7"
    for bad in ("a b", "a" * 65, "<script>", "é", "a;b", ""):
        found = server.get("/livez", x_request_id=bad).headers["x-request-id"]
        assert found != bad
        assert len(found) == 16
    refused = server.post("/run/embed", {}, x_request_id="mine")
    assert (refused.headers["x-request-id"], refused.json["error"]["request_id"]) == ("mine", "mine")


@pytest.mark.parametrize(
    ("header", "value", "expected"),
    [
        *(("x_anmok_priority", one, 422) for one in ("11", "x", "1.5", "nan", "1e9", "")),
        *(("x_anmok_deadline", one, 422) for one in ("x", "nan", "inf", "9" * 400, "")),
        *(("x_anmok_deadline", one, 504) for one in ("0", "-1")),
        *(("x_anmok_wait", one, 422) for one in ("maybe", "", "YES")),
    ],
)
def test_headers_of_ours_are_checked(server: Running, header: str, value: str, expected: int) -> None:
    named: dict[str, str] = {header: value}
    assert server.post("/run/embed", {"model": "fake", "items": [CODE]}, **named).status == expected


@pytest.mark.parametrize(
    ("content_type", "names"),
    [
        ("multipart/form-data; boundary=x", ["a"]),
        ('multipart/form-data; charset=utf-8; boundary="x"', ["a"]),
        ("multipart/form-data;BOUNDARY=x ; b=c", ["a"]),
    ],
)
def test_multipart_boundaries(content_type: str, names: Sequence[str]) -> None:
    body = b'--x\r\nContent-Disposition: form-data; filename="b"; name="a"\r\n\r\ndata\r\n--x--\r\n'
    assert [part.name for part in parts_of(body, content_type)] == names


def test_many_parts_with_many_quotes_are_read_in_no_time() -> None:
    """300 parts of 3 kB took three seconds when the standard library read them."""
    part = b'--x\r\nContent-Disposition: form-data; name="a' + b"\\;" * 1500 + b'"\r\n\r\n\r\n'
    started = time.process_time()
    assert len(parts_of(part * 300 + b"--x--\r\n", "multipart/form-data; boundary=x")) == 300
    assert time.process_time() - started < 0.5


# Connections that take their time


@pytest.fixture(scope="module")
def patient() -> Iterator[Running]:
    """A third of a second for a header, and for an answer to be read."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Connection, "header_seconds", 0.3)
        patch.setattr(Connection, "read_seconds", 0.3)
        with running(Settings(models=FAKES[2:3])) as found:
            yield found


def is_cut_off(line: socket.socket, drop: bytes) -> bool:
    """Whether the other side ends a connection that gets a drop every 50 ms, for ten seconds at most."""
    try:
        for _ in range(200):
            line.sendall(drop)
            time.sleep(0.05)
    except OSError:  # a broken pipe or a reset, as it happens
        return True
    return False


@pytest.mark.parametrize("head", [b"", b"G", b"GET /livez HTTP/1.1\r\n", b"GET /livez HTTP/1.1\r\n" + HOST])
def test_a_header_that_does_not_come_is_given_up(patient: Running, head: bytes) -> None:
    started = time.monotonic()
    assert said(patient.port, head) == b""
    assert 0.2 < time.monotonic() - started < 5


def test_a_header_that_drips_is_given_up_all_the_same(patient: Running) -> None:
    started = time.monotonic()
    with contextlib.closing(socket.create_connection(("127.0.0.1", patient.port), timeout=10)) as line:
        line.sendall(b"GET /livez HTTP/1.1\r\nX-A: ")
        assert is_cut_off(line, b"a")
    assert time.monotonic() - started < 5


def test_a_connection_that_was_answered_does_not_stay_for_empty_lines(patient: Running) -> None:
    with contextlib.closing(socket.create_connection(("127.0.0.1", patient.port), timeout=10)) as line:
        line.sendall(b"GET /livez HTTP/1.1\r\n" + HOST + b"\r\n")
        assert b"200 OK" in line.recv(1000)
        assert is_cut_off(line, b"\r\n")


@pytest.mark.parametrize("line", [b"X-A: " + b"a" * 1000 + b"\r\n", b"a" * 1000])
def test_a_header_without_end_is_refused(patient: Running, line: bytes) -> None:
    with contextlib.closing(socket.create_connection(("127.0.0.1", patient.port), timeout=10)) as connection:
        sent, answer = 0, b""
        with contextlib.suppress(OSError):
            connection.sendall(b"GET /livez HTTP/1.1\r\nX-B: ")
            for _ in range(20_000):
                connection.sendall(line)
                sent += len(line)
        with contextlib.suppress(OSError):
            answer = connection.recv(1000)
    assert sent < 15_000_000  # what the sockets hold between the two
    assert answer == b"" or status(answer) == 431  # it gets lost where the client was still sending


def test_a_large_header_is_told_so(patient: Running) -> None:
    half = b"X-A: " + b"a" * 32_000 + b"\r\n"
    with contextlib.closing(socket.create_connection(("127.0.0.1", patient.port), timeout=10)) as line:
        line.sendall(b"GET /livez HTTP/1.1\r\n" + HOST + half)
        time.sleep(0.1)
        line.sendall(half + half)
        answer = line.recv(1000)
    assert (status(answer), b"too_much" in answer) == (431, True)


def test_an_answer_that_nobody_reads_is_broken_off() -> None:
    """What is on its way is more than the sockets hold between the two."""
    assert asyncio.run(_read(pause=0.5, each=0)) < 15_000_000


def test_a_reader_that_is_merely_slow_gets_all_of_it() -> None:
    """The watch looks for progress, not for an end."""
    assert asyncio.run(_read(pause=0, each=0.002)) > 20_000_000


async def _read(*, pause: float, each: float) -> int:
    """The bytes that come of an answer of 20 MB, read after a pause, with another one behind each piece; the watch
    looks every 100 ms."""

    class Watched(Connection):
        read_seconds = 0.1

    server = uvicorn.Server(uvicorn.Config(_large, lifespan="off", log_config=None, http=Watched))
    listener = socket.create_server(("127.0.0.1", 0))
    serving = asyncio.create_task(server.serve([listener]))
    reader, writer = await asyncio.open_connection(*listener.getsockname(), limit=2**16)
    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    size = len(await reader.read(100))
    await asyncio.sleep(pause)
    with contextlib.suppress(ConnectionError):
        while chunk := await reader.read(2**18):
            size += len(chunk)
            await asyncio.sleep(each)
    writer.close()
    server.should_exit = True
    await serving
    return size


async def _large(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(20):
        await send({"type": "http.response.body", "body": b"a" * 1_000_000, "more_body": True})
    await send({"type": "http.response.body", "body": b""})
