"""Addresses that are slow, speak TLS in odd ways, or hold something else than pictures."""

from __future__ import annotations

import itertools
import socket
import ssl
import struct
import threading
import time
import tracemalloc
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from address_lines import NAMES, PNG, SHORT, brought, refused
from address_server import ELSEWHERE, NAME, PUBLIC, Network, Script, Server, answer, head, moved, serving
from anmok import addresses
from anmok.addresses import lines
from anmok.errors import AddressRefused, BadMedia

# --- slow ones -----------------------------------------------------------------------------------------------


def dripping(pieces: Iterable[bytes], server_sleeps: float = 0.05) -> Iterator[bytes]:
    for piece in pieces:
        yield piece
        time.sleep(server_sleeps)


def silent(_: str) -> Iterator[bytes]:
    yield b""
    time.sleep(3 * SHORT)


@pytest.mark.parametrize(
    "script",
    [
        silent,
        lambda _: itertools.chain([head("Content-Length: 2056"), PNG[:100]], silent("")),
        lambda _: dripping(itertools.chain([b"HTTP/1.1 200 OK\r\n"], itertools.repeat(b"A"))),
        lambda _: dripping(itertools.chain([head("Content-Length: 2056")], itertools.repeat(b"A"))),
        lambda _: dripping(itertools.chain([head("Transfer-Encoding: chunked")], itertools.repeat(b"1\r\nA\r\n"))),
        lambda _: dripping(itertools.repeat(head(status="100 Continue"))),
        lambda path: dripping([b"", b"", b"", *moved("/0")]),
    ],
    ids=["silent", "stops", "header", "body", "chunks", "continue", "redirects"],
)
def test_slow_answers_end_at_the_deadline(script: Script) -> None:
    with serving(script) as server:
        network = Network(NAMES, server.port)
        started = time.monotonic()
        with pytest.raises((BadMedia, AddressRefused), match="within 0.3 s"):
            addresses.fetch(f"http://{NAME}/0", 10_000, seconds=SHORT, resolve=network.resolve, connect=network.connect)
        took = time.monotonic() - started
    assert SHORT <= took < SHORT + 2  # seconds; the machine may be busy, and none of these ends by itself


def test_a_look_up_that_hangs_ends_at_the_deadline() -> None:
    goes_on = threading.Event()

    def resolve(name: str, port: int) -> list[str]:
        goes_on.wait(20)
        return [PUBLIC]

    network = Network(NAMES)
    try:
        with pytest.raises(BadMedia, match="within 0.3 s"):
            addresses.fetch(f"http://{NAME}/", 10_000, seconds=SHORT, resolve=resolve, connect=network.connect)
    finally:
        goes_on.set()
    assert network.connected == []


def test_look_ups_that_hang_do_not_gather(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "_LOOK_UPS", threading.BoundedSemaphore(1))
    goes_on = threading.Event()
    asked: list[str] = []

    def resolve(name: str, port: int) -> list[str]:
        asked.append(name)
        goes_on.wait(20)
        return []

    try:
        for name in ("one.example.com", "two.example.com"):
            with pytest.raises(BadMedia, match="within 0.2 s"):
                addresses.fetch(f"http://{name}/", 10_000, seconds=0.2, resolve=resolve)
    finally:
        goes_on.set()
    assert asked == ["one.example.com"]


def test_a_machine_without_threads_keeps_its_look_ups(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(lines, "_LOOK_UPS", threading.BoundedSemaphore(1))
    monkeypatch.setattr(threading.Thread, "start", start)
    for _ in range(2):
        with pytest.raises(BadMedia, match="cannot be reached"):
            addresses.fetch(f"http://{NAME}/", 10, seconds=0.2, resolve=lambda *_: [PUBLIC])


def test_a_connection_gets_the_time_that_is_left() -> None:
    given: list[float] = []

    def connect(address: str, port: int, seconds: float) -> socket.socket:
        given.append(seconds)
        raise TimeoutError

    with pytest.raises(BadMedia, match="cannot be reached"):
        addresses.fetch(f"http://{NAME}/", 10, seconds=8, resolve=lambda *_: [PUBLIC, ELSEWHERE], connect=connect)
    assert 3 < given[0] <= 4  # half of it for the first of two
    assert 7 < given[1] <= 8


# --- TLS -----------------------------------------------------------------------------------------------------


@pytest.fixture
def secure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server with a certificate for NAME, which this process trusts."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
    with serving(lambda path: moved(path[1:]) if path.startswith("/http") else answer(PNG), tmp_path) as server:
        yield server


def fetched(url: str, server: Server) -> bytes:
    network = Network({**NAMES, "other.example.com": [PUBLIC]}, server.port)
    return addresses.fetch(url, 10_000, resolve=network.resolve, connect=network.connect)


def test_a_certificate_for_the_name_is_taken(secure: Server) -> None:
    assert fetched(f"https://{NAME}/a", secure) == PNG
    assert b"\r\nHost: pictures.example.com\r\n" in secure.asked[0]


@pytest.mark.parametrize("host", ["other.example.com", "cdn.example.com", PUBLIC])
def test_a_certificate_for_another_name_is_not(host: str, secure: Server) -> None:
    with pytest.raises(BadMedia, match="no valid certificate for its name"):
        fetched(f"https://{host}/a", secure)
    assert secure.asked == []


def test_a_certificate_of_nobody_known_is_not(secure: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(BadMedia, match="no valid certificate for its name"):
        fetched(f"https://{NAME}/a", secure)
    assert secure.asked == []


def test_old_versions_of_tls_are_not_spoken(secure: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    contexts: list[ssl.SSLContext] = []
    make = ssl.create_default_context

    def kept() -> ssl.SSLContext:
        contexts.append(make())
        return contexts[-1]

    monkeypatch.setattr(ssl, "create_default_context", kept)
    fetched(f"https://{NAME}/a", secure)
    [context] = contexts
    assert context.check_hostname
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2


def test_no_way_down_from_https_to_http(secure: Server) -> None:
    assert fetched(f"https://{NAME}/https://{NAME}/b", secure) == PNG
    with pytest.raises(AddressRefused, match="from https to http"):
        fetched(f"https://{NAME}/http://{NAME}/b", secure)


def test_tls_with_a_server_that_speaks_none() -> None:
    def answers(listener: socket.socket) -> None:
        line, _ = listener.accept()
        with line:
            line.sendall(head(status="400 Bad Request"))
            line.recv(65_536)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answers, args=(listener,))
        thread.start()
        network = Network(NAMES, listener.getsockname()[1])
        with pytest.raises(BadMedia, match="cannot be reached, or broke off"):
            addresses.fetch(f"https://{NAME}/a", 10, resolve=network.resolve, connect=network.connect)
        thread.join(20)


def test_a_handshake_that_hangs_ends_at_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        network = Network(NAMES, listener.getsockname()[1])
        with pytest.raises(BadMedia, match="within 0.3 s"):
            addresses.fetch(f"https://{NAME}/", 10, seconds=SHORT, resolve=network.resolve, connect=network.connect)


# --- content -------------------------------------------------------------------------------------------------


def box(kind: bytes) -> bytes:
    return struct.pack(">I", 24) + kind + b"isom" + bytes(600)


@pytest.mark.parametrize(
    "body",
    [
        *(b"\xff\xd8\xff\xe0", PNG, b"GIF89a", b"BM\0\0", b"II*\0", b"MM\0*", b"II+\0", b"RIFF\0\0\0\0WEBPVP8 "),
        *(
            b"RIFF\0\0\0\0AVI LIST",
            b"P6 2 2 255\n",
            b"P4\n1 1\n",
            box(b"ftyp"),
            box(b"moov"),
            b"\x1aE\xdf\xa3",
            b"OggS",
        ),
        *(b"\0\0\x01\xba", 4 * (b"G" + bytes(187)), 4 * (bytes(4) + b"G" + bytes(187))),
    ],
)
def test_pictures_and_clips_are_let_in(body: bytes) -> None:
    assert addresses.is_media(body[:512])
    assert brought(lambda _: answer(body)) == body


@pytest.mark.parametrize(
    "body",
    [
        *(
            b"",
            b"<!doctype html>",
            b'{"secret": 1}',
            b"root:x:0:0:",
            b"PK\x03\x04",
            b"\x1f\x8b\x08",
            b"%PDF-1.7",
            b"\x7fELF",
        ),
        *(
            b"P6",
            b"P7\n",
            b"PNG",
            b"RIFF\0\0\0\0WAVE",
            b"#EXTM3U\n",
            b"G" + bytes(300),
            b"G",
            b"<svg xmlns=",
            b"\x80\x04",
        ),
        *(b"-----BEGIN", b"ami-id\nhostname\n", b"Paris", b"GIF", bytes(600)),
    ],
)
def test_anything_else_is_not(body: bytes) -> None:
    assert not addresses.is_media(body[:512])
    assert refused(lambda _: answer(body)) == "what lies at the address is no picture or clip that anmok reads"


def test_the_rest_of_what_is_no_picture_is_not_read() -> None:
    endless = itertools.chain([head()], itertools.repeat(b"<html>" * 1000))
    assert "no picture or clip" in refused(lambda _: endless, limit=10**9)


def test_the_caller_may_judge_by_the_first_bytes() -> None:
    seen: list[bytes] = []

    def takes_all(first: bytes) -> bool:
        seen.append(first)
        return True

    with serving(lambda _: answer(b"<" + PNG)) as server:
        network = Network(NAMES, server.port)
        for sniff in (None, takes_all):
            got = addresses.fetch(
                f"http://{NAME}/", 10_000, sniff=sniff, resolve=network.resolve, connect=network.connect
            )
            assert got == b"<" + PNG
    assert seen == [(b"<" + PNG)[:512]]


def test_memory_is_bounded_by_the_limit() -> None:
    noise = zlib.compress(bytes(1)) * 1000
    endless = itertools.chain([head(), PNG], itertools.repeat(noise))
    tracemalloc.start()
    try:
        assert "larger than 1,000,000" in refused(lambda _: endless, limit=1_000_000)
        assert tracemalloc.get_traced_memory()[1] < 4_000_000  # bytes: the file, a copy, and the test's own server
    finally:
        tracemalloc.stop()
