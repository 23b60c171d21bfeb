"""What a client sees when something goes wrong behind the door: addresses, models, hubs and disks."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import resource
import signal
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NoReturn

import pytest

from anmok.errors import AddressRefused, BadMedia
from anmok.models.fake import Fake
from anmok.server.settings import Served, Settings
from bomb_files import png_of_21_kilobytes
from served_apart import VECTORS, server_fixture, serving  # noqa: F401  # a fixture
from serving import FAKES, RED_BOX, Running, ask, running, until_ready

CODE = base64.b64encode(RED_BOX).decode()


# Addresses in requests


def address_requests(address: str) -> list[tuple[str, dict[str, Any]]]:
    part = {"type": "image_url", "image_url": {"url": address}}
    return [
        ("/run/embed", {"model": "fake", "items": [address]}),
        ("/run/depth", {"model": "fake-places", "items": [{"image": address}]}),
        ("/models/fake-places/depth-estimation", {"inputs": address}),
        ("/v1/embeddings", {"model": "fake", "input": [{"image": address}]}),
        ("/v1/embeddings", {"model": "fake", "modality": "image", "input": address}),
        ("/v1/embeddings", {"model": "fake", "messages": [{"role": "user", "content": [part]}]}),
        (
            "/v2/models/fake/infer",
            {"inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "data": [address]}]},
        ),
    ]


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/a.png", "https://example.com/a.png", "HTTP://[::1]/a"])
def test_without_the_flag_no_address_is_looked_up(
    server: Running, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_up: list[Any] = []
    real = socket.getaddrinfo

    def look_up(host: Any, *rest: Any, **named: Any) -> Any:
        if host != "127.0.0.1" or rest[:1] != (server.port,):  # the test's own way to the server
            looked_up.append(host)
        return real(host, *rest, **named)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    for path, body in address_requests(address):
        reply = server.post(path, body)
        assert (reply.status, b"opens no addresses" in reply.body) == (422, True), (path, reply.body)
    assert looked_up == []


@pytest.mark.parametrize(
    "address",
    [
        "/etc/passwd",
        "file:///etc/passwd",
        "FILE://localhost/etc/passwd",
        "ftp://127.0.0.1/a",
        "gopher://x/",
        "\\\\x\\y",
    ],
)
def test_no_path_and_no_other_scheme_is_opened(server: Running, open_to_addresses: Running, address: str) -> None:
    for one in (server, open_to_addresses):
        for path, body in address_requests(address):
            reply = one.post(path, body)
            assert reply.status == 422, (path, reply.body)
            assert b"root:" not in reply.body


@pytest.fixture(scope="module")
def open_to_addresses() -> Iterator[Running]:
    with running(Settings(models=FAKES, allow_urls=True)) as found:
        yield found


@pytest.mark.parametrize(
    "address",
    [
        *(
            "http://127.0.0.1:8080/",
            "http://169.254.169.254/latest/meta-data/",
            "http://10.0.0.1/",
            "http://[::1]:443/",
        ),
        *(
            "http://[64:ff9b::7f00:1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://0x7f.1/",
            "http://localhost/",
            "http://100.64.0.1/",
        ),
    ],
)
def test_a_private_address_is_refused_in_one_sentence(open_to_addresses: Running, address: str) -> None:
    for path, body in address_requests(address):
        reply = open_to_addresses.post(path, body)
        assert reply.status == 422, (path, reply.body)
        error = reply.json["error"]
        said = error["message"] if isinstance(error, dict) else error
        assert 10 < len(said) < 200
        assert "\n" not in said
    code = open_to_addresses.post("/run/embed", {"model": "fake", "items": [address]}).json["error"]["code"]
    assert code == "address_refused"


def test_what_an_address_brings_is_let_in_as_any_other_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(url: str, limit: int) -> bytes:
        if "large" in url:
            return bytes(limit + 1)
        if "private" in url:
            raise AddressRefused("the address is not public")
        if "bomb" in url:
            return png_of_21_kilobytes()
        if "gone" in url:
            raise BadMedia("the address answers 404 instead of a file")
        return RED_BOX

    monkeypatch.setattr("anmok.addresses.fetch", fetch)
    with running(Settings(models=FAKES[:1], allow_urls=True)) as one:
        names = ("fine", "large", "private", "bomb", "gone")
        replies = [
            one.post("/v1/embeddings", {"model": "fake", "input": [{"image": f"https://a.example/{name}"}]})
            for name in names
        ]
    assert [reply.status for reply in replies] == [200, 422, 422, 422, 422]


# Models


def test_a_model_that_raises_says_nothing_of_why(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> NoReturn:
        raise RuntimeError("/home/someone/secret.py says no")

    monkeypatch.setattr(Fake, "encode", broken)
    body = {"model": "fake", "items": [CODE]}
    own = server.post("/run/embed", body)
    replies = [
        server.post(VECTORS, RED_BOX),
        server.post("/v1/embeddings", {"model": "fake", "input": [{"image": CODE}]}),
    ]
    lines = server.post("/run/embed", body, accept="application/x-ndjson")
    assert [reply.status for reply in replies] == [500, 500]
    assert own.json["answers"][0]["error"] == "ModelFailed"
    for reply in (own, lines, *replies):
        assert not [word for word in (b"/home", b"secret", b"RuntimeError", b"Traceback") if word in reply.body]
    monkeypatch.undo()
    assert server.post(VECTORS, RED_BOX).status == 200


def test_a_model_that_cannot_be_loaded_is_503_with_a_time_to_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub of the tests is an address where nobody listens."""
    monkeypatch.setenv("ANMOK_CACHE", str(tmp_path))
    with running(Settings(models=(FAKES[0], Served.of("siglip2-b16-256")), is_lazy=True)) as one:
        replies = [one.post("/models/siglip2-b16-256", {"inputs": "a"}) for _ in range(2)]
        assert [reply.status for reply in replies] == [503, 503]
        assert {reply.headers["retry-after"] for reply in replies} == {"5"}
        assert {reply.json["error"] for reply in replies} == {
            "the model's weights cannot be fetched now; try again later"
        }
        assert one.post(VECTORS, RED_BOX).status == 200
        assert one.get("/readyz").status == 200


# Hubs and disks


@contextlib.contextmanager
def hub(content: bytes | None) -> Iterator[str]:
    """A hub that has this for every file, or that takes connections and says nothing at all."""
    if content is None:
        with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as silent:
            yield f"http://127.0.0.1:{silent.getsockname()[1]}"
        return

    weights = content

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b"{}" if self.path.endswith(".json") else weights
            self.send_response(404 if self.path.startswith("/api/") else 200)
            self.send_header("X-Repo-Commit", "a" * 40)
            self.send_header("ETag", f'"{hashlib.sha1(body).hexdigest()}"')
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                with contextlib.suppress(OSError):  # whoever has no room hangs up
                    self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def places(tmp_path: Path, url: str) -> dict[str, Any]:
    return {"ANMOK_CACHE": str(tmp_path), "HF_HOME": str(tmp_path), "HF_ENDPOINT": url, "HF_HUB_DISABLE_XET": "1"}


def test_a_hub_that_hangs_holds_up_nobody_else(tmp_path: Path) -> None:
    with hub(None) as url, serving("fake", "siglip2-b16-256", **places(tmp_path, url)) as (process, port):
        until = time.monotonic() + 20
        while ask(port, "POST", VECTORS, RED_BOX, x_anmok_wait="no").status != 200:
            assert time.monotonic() < until
            time.sleep(0.1)
        assert [ask(port, "GET", path).status for path in ("/livez", "/readyz", "/v2/health/ready")] == [200, 503, 503]
        started = time.monotonic()
        reply = ask(port, "POST", "/models/siglip2-b16-256", {"inputs": "a"}, x_anmok_wait="no")
        assert (reply.status, "retry-after" in reply.headers) == (503, True)
        assert time.monotonic() - started < 2  # at once, on a machine with much else to do
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def test_a_full_disk_is_told_in_a_sentence(tmp_path: Path) -> None:
    """The disk of this process ends after 100 kB of a file; the weights have a million."""
    with hub(bytes(1_000_000)) as url:
        words = ("fake", "siglip2-b16-256", "--lazy")
        with serving(*words, **places(tmp_path, url)) as (process, port):
            until_ready(port)
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (100_000, 100_000))
            reply = ask(port, "POST", "/models/siglip2-b16-256", {"inputs": "a"})
            assert (reply.status, reply.json["error"]) == (507, "the server's disk is full or read-only")
            assert ask(port, "POST", VECTORS, RED_BOX).status == 200
