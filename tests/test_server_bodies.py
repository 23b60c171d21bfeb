"""Bodies and connections of a server: counted, given their time, and never without bound."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import uvicorn

from anmok.server.bodies import parts_of
from anmok.server.connections import Connection
from anmok.server.settings import Settings
from anmok.wire import Intake
from door_keys import CODE, HOST, LAST, key, post, said, status
from serving import FAKES, Running, ask, running


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
