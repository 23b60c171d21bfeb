"""What a client sees when something goes wrong behind the door: bombs, signals, models, hubs and disks."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import resource
import signal
import socket
import struct
import subprocess
import threading
import time
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from PIL import Image as pillow

from anmok.errors import AddressRefused, BadMedia
from anmok.models.fake import Fake
from anmok.server.settings import Served, Settings
from serving import FAKES, RED_BOX, Reply, Running, ask, program, running, until_ready

CODE = base64.b64encode(RED_BOX).decode()
VECTORS = "/models/fake/image-feature-extraction"
MIB = 2**20


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running() as found:
        yield found


# Bombs


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *more: bytes) -> bytes:
    """Black and white, one bit per pixel, without ever being in memory."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    pixels = zlib.compress(bytes((1 + (width + 7) // 8) * height), 9)
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(more) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def jpeg_said_to_be(width: int, height: int) -> bytes:
    """A small file with another size in its header."""
    file = io.BytesIO()
    pillow.new("L", (8, 8)).save(file, "JPEG")
    data = bytearray(file.getvalue())
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def gif(frames: int) -> bytes:
    """Frames of one pixel, 15 bytes each."""
    head = b"GIF89a" + struct.pack("<HH", 1, 1) + b"\x80\0\0\0\0\0\xff\xff\xff"
    return head + (b"\x2c\0\0\0\0\1\0\1\0\0\x02\x02\x44\x01\0") * frames + b"\x3b"


def zip_in_webp() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", bytes(50_000_000))
    data = file.getvalue()
    return b"RIFF" + struct.pack("<I", len(data) + 12) + b"WEBPVP8 " + struct.pack("<I", len(data)) + data


def tiff_said_to_be(width: int, height: int) -> bytes:
    file = io.BytesIO()
    pillow.fromarray(np.zeros((9, 9), np.uint8)).save(file, "TIFF")
    data = file.getvalue()
    for tag, value in ((256, width), (257, height)):
        at = data.index(struct.pack("<H", tag), 8)
        data = data[: at + 2] + struct.pack("<HII", 4, 1, value) + data[at + 12 :]
    return data


@contextlib.contextmanager
def serving(*words: str, **environment: Any) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """``program``, listening, whose log is read: a pipe that nobody empties stops whoever writes into it."""
    with program(*words, **environment) as (process, port):
        lines = process.stderr
        assert lines is not None
        threading.Thread(target=lambda: [*lines], daemon=True).start()
        until = time.monotonic() + 10
        while outcome(port, "GET", "/livez") == "refused":  # it has an address before it listens there
            assert time.monotonic() < until
            time.sleep(0.02)
        yield process, port


BOMBS = {
    "png of 177 Mpx in 21 kB": png(13_300, 13_300),
    "png just over the limit": png(50_000, 1_001),
    "png with 100 MB of text": png(9, 9, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(100 * MIB), 9))),
    "png with 100 MB of profile": png(9, 9, chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(100 * MIB), 9))),
    "jpeg of 4 Gpx": jpeg_said_to_be(65_500, 65_500),
    "tiff of 10 Gpx": tiff_said_to_be(100_000, 100_000),
    "zip in webp": zip_in_webp(),
}


@pytest.fixture(scope="module")
def apart() -> Iterator[tuple[int, int]]:
    """A server in a process of its own, which is warm: its id and its port."""
    with serving("fake", "fake-places") as (process, port):
        until_ready(port)
        for path in (VECTORS, "/models/fake-places/depth-estimation"):
            ask(port, "POST", path, RED_BOX)
        yield process.pid, port


def memory(pid: int) -> int:
    """The most bytes that the process has ever held."""
    [line] = [one for one in Path(f"/proc/{pid}/status").read_text().splitlines() if one.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


def requests_with(bomb: bytes) -> list[tuple[str, Any, str]]:
    code = base64.b64encode(bomb).decode()
    tensor = {"name": "image", "shape": [1], "datatype": "BYTES", "data": [code]}
    config = '<View><Image name="i" value="$i"/><RectangleLabels name="l" toName="i"><Label value="red"/></RectangleLabels></View>'  # noqa: E501
    task = {"id": 1, "data": {"i": f"data:image/png;base64,{code}"}}
    part = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{code}"}}
    head = b'--e\r\nContent-Disposition: form-data; name="image"\r\n\r\n'
    return [
        (VECTORS, bomb, "application/octet-stream"),
        ("/models/fake-places/depth-estimation", {"inputs": code}, "application/json"),
        ("/run/embed", {"model": "fake", "items": [code]}, "application/json"),
        (
            "/run/track",
            {"ask": {"labels": ["red"]}, "model": "fake-places", "items": [{"clip": code}]},
            "application/json",
        ),
        ("/run/embed", head + bomb + b"\r\n--e--\r\n", "multipart/form-data; boundary=e"),
        ("/v1/embeddings", {"model": "fake", "input": [f"data:image/png;base64,{code}"]}, "application/json"),
        ("/v1/embeddings", {"model": "fake", "messages": [{"role": "user", "content": [part]}]}, "application/json"),
        ("/v2/models/fake/infer", {"inputs": [tensor], "parameters": {"task": "embed"}}, "application/json"),
        ("/label-studio/fake-places/predict", {"tasks": [task], "label_config": config}, "application/json"),
    ]


def is_refused(reply: Reply) -> bool:
    """By its status, or in the place of its answer where a dialect has one for each picture."""
    if reply.status in (413, 422):
        return True
    rows = reply.json.get("answers", reply.json.get("results", [])) if reply.status == 200 else []
    return bool(rows) and not any(row.get("vector") or row.get("frames") or row.get("result") for row in rows)


def test_bombs_are_refused_by_every_dialect_and_take_no_memory(apart: tuple[int, int]) -> None:
    pid, port = apart
    before = memory(pid)
    let_in = []
    for name, bomb in BOMBS.items():
        for path, body, kind in requests_with(bomb):
            reply = ask(port, "POST", path, body, content_type=kind)
            if not is_refused(reply):
                let_in.append((name, path, reply.status, reply.body[:200]))
    assert let_in == []
    assert memory(pid) - before < 100_000_000


def test_a_picture_of_a_million_frames_is_one_picture(apart: tuple[int, int]) -> None:
    pid, port = apart
    before = memory(pid)
    assert ask(port, "POST", VECTORS, gif(1_000_000)).status == 200
    assert memory(pid) - before < 100_000_000


@pytest.mark.parametrize("piece", [b"[],", b"{},", b'"ab",', b"0,", b"[["])
def test_json_of_millions_of_values_is_refused_before_it_is_read(apart: tuple[int, int], piece: bytes) -> None:
    """20 MB of ``[],`` would be 450 MB of lists, and take seconds."""
    pid, port = apart
    before = memory(pid)
    body = b'{"items":[' + piece * (20_000_000 // len(piece))
    for path in ("/run/embed", "/v1/embeddings", "/v2/models/fake/infer", "/predict", "/models/fake"):
        reply = ask(port, "POST", path, body, content_type="application/json")
        assert reply.status == 413, (path, reply.body[:200])
    assert memory(pid) - before < 100_000_000


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
            return BOMBS["png of 177 Mpx in 21 kB"]
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


# Signals


def outcome(port: int, method: str = "POST", path: str = VECTORS) -> str:
    """A status; ``refused`` where no byte of an answer came, ``cut`` where some did."""
    line = HTTPConnection("127.0.0.1", port, timeout=30)
    answer = None
    try:
        line.request(method, path, RED_BOX if method == "POST" else None, {"connection": "close"})
        answer = line.getresponse()
        answer.read()
    except (OSError, HTTPException):
        return "refused" if answer is None else "cut"
    finally:
        line.close()
    return str(answer.status)


def test_whoever_was_let_in_before_a_sigterm_is_answered() -> None:
    found: Counter[str] = Counter()
    with serving("fake") as (process, port):
        until_ready(port)
        is_over = threading.Event()

        def client() -> None:
            while not is_over.is_set():
                found[outcome(port)] += 1

        threads = [threading.Thread(target=client) for _ in range(8)]
        for thread in threads:
            thread.start()
        time.sleep(0.7)
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        code = process.wait(30)
        seconds = time.monotonic() - started
        is_over.set()
        for thread in threads:
            thread.join()
    assert code == 0
    assert seconds < 15  # of 30 that it may take: there was little to answer
    assert set(found) <= {"200", "503", "refused"}
    assert found["200"] > 20
    assert found["refused"] > 0


def test_a_slow_model_answers_what_it_has_after_the_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Fake.encode

    def slow(self: Fake, batch: Any) -> Any:
        time.sleep(0.4)
        return real(self, batch)

    monkeypatch.setattr(Fake, "encode", slow)
    replies: list[str] = []
    with running(Settings(models=FAKES[:1])) as one:
        threads = [threading.Thread(target=lambda: replies.append(outcome(one.port))) for _ in range(4)]
        for thread in threads:
            thread.start()
        time.sleep(0.2)
    for thread in threads:
        thread.join()
    assert replies == ["200"] * 4
    assert outcome(one.port) == "refused"


def test_whoever_comes_while_answers_are_under_way_is_told_to_go_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over connections of his own: a socket that is closed at once tells a balancer nothing."""
    going = threading.Event()
    real = Fake.encode

    def slow(self: Fake, batch: Any) -> Any:
        assert going.wait(20)
        return real(self, batch)

    monkeypatch.setattr(Fake, "encode", slow)
    replies: list[str] = []
    with running(Settings(models=FAKES[:1], control_port=1)) as one:
        thread = threading.Thread(target=lambda: replies.append(outcome(one.port)))
        thread.start()
        time.sleep(0.2)
        assert ask(one.control_port, "POST", "/drain").status == 200
        time.sleep(0.3)  # three ticks
        assert [one.get(path).status for path in ("/livez", "/readyz")] == [200, 503]
        late = one.post(VECTORS, RED_BOX)
        assert (late.status, late.headers["retry-after"]) == (503, "5")
        going.set()
        thread.join()
    assert replies == ["200"]


def test_while_it_drains_new_requests_are_told_to_go_elsewhere(server: Running) -> None:
    assert server.server is not None
    server.server.desk.is_draining = True
    try:
        reply = server.post(VECTORS, RED_BOX)
        assert (reply.status, reply.headers["retry-after"]) == (503, "5")
        assert [server.get(path).status for path in ("/livez", "/readyz", "/v2/health/ready")] == [200, 503, 503]
    finally:
        server.server.desk.is_draining = False


def test_a_second_interrupt_waits_for_nobody() -> None:
    with serving("fake") as (process, port):
        until_ready(port)
        with contextlib.closing(socket.create_connection(("127.0.0.1", port))) as line:
            line.sendall(b"POST /run/embed HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{")  # for 30 s
            time.sleep(0.2)
            process.send_signal(signal.SIGINT)
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(1.0)
            process.send_signal(signal.SIGINT)
            assert process.wait(15) == 0
