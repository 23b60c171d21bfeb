"""The reader of addresses over real sockets: redirects, slow and endless answers, compression, TLS."""

from __future__ import annotations

import gzip
import itertools
import socket
from collections.abc import Callable, Iterator

import pytest

from address_lines import NAMES, PNG, brought, chunked, refused
from address_server import ELSEWHERE, NAME, PUBLIC, Network, Script, answer, head, moved, serving
from anmok import addresses
from anmok.errors import AddressRefused, BadMedia

# --- what is brought -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "script",
    [
        lambda _: answer(PNG),
        lambda _: answer(PNG, "Content-Encoding: identity", status="200 "),
        lambda _: [head(), PNG],  # until the line ends
        lambda _: chunked([PNG[:1], PNG[1:700], PNG[700:]]),
        lambda _: [head(status="100 Continue"), *answer(PNG)],
        lambda _: [bytes([one]) for one in b"".join(answer(PNG[:200]))],
    ],
    ids=["length", "identity", "end", "chunks", "continue", "drops"],
)
def test_a_file_comes_whole(script: Script) -> None:
    assert PNG.startswith(brought(script))
    assert len(brought(script)) in (len(PNG), 200)


def test_what_is_asked() -> None:
    with serving(lambda _: answer(PNG)) as server:
        network = Network(NAMES, server.port)
        url = "http://\ud55c\uad6d.example.com:8080/a%20b/\uc548.png?q=1#fragment"
        assert addresses.fetch(url, 10_000, resolve=network.resolve, connect=network.connect) == PNG
    first, *rest = server.asked[0].decode("ascii").split("\r\n")
    assert first == "GET /a%20b/%EC%95%88.png?q=1 HTTP/1.1"
    assert dict(line.split(": ", 1) for line in rest if line) == {
        "Host": "xn--3e0b707e.example.com:8080",
        "User-Agent": "anmok",
        "Accept": "image/*, video/*, */*;q=0.1",
        "Accept-Encoding": "identity",
        "Connection": "close",
    }
    assert network.connected == [(PUBLIC, 8080)]


def test_proxies_and_cookies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with serving(lambda path: moved("/b") if path == "/a" else answer(PNG)) as server:
        network = Network(NAMES, server.port)
        addresses.fetch(f"http://{NAME}/a", 10_000, resolve=network.resolve, connect=network.connect)
    assert network.connected == [(PUBLIC, 80)] * 2
    assert all(b"ookie" not in one and b"uthorization" not in one and b"eferer" not in one for one in server.asked)


def test_the_next_address_is_tried_where_one_does_not_answer() -> None:
    tried: list[str] = []

    def connect(address: str, port: int, seconds: float) -> socket.socket:
        tried.append(address)
        if address == PUBLIC:
            raise ConnectionRefusedError
        return socket.create_connection(("127.0.0.1", server.port), seconds)

    with serving(lambda _: answer(PNG)) as server:
        got = addresses.fetch(
            f"http://{NAME}/", 10_000, resolve=lambda *_: [PUBLIC, PUBLIC, ELSEWHERE], connect=connect
        )
    assert (got, tried) == (PNG, [PUBLIC, ELSEWHERE])


def test_dial_reaches_an_address_and_closes_what_it_does_not_reach() -> None:
    with serving(lambda _: answer(PNG)) as server, addresses.dial("127.0.0.1", server.port, 5) as line:
        assert line.getpeername() == ("127.0.0.1", server.port)
        line.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert line.recv(8) == b"HTTP/1.1"
    with pytest.raises(OSError):
        addresses.dial("127.0.0.1", server.port, 5)


# --- redirects -----------------------------------------------------------------------------------------------


def hops(*locations: str) -> Callable[[str], list[bytes]]:
    """/0 leads to the first location, /1 to the second; any other path is the picture."""

    def script(path: str) -> list[bytes]:
        step = path.strip("/")
        return moved(locations[int(step)]) if step.isdecimal() and int(step) < len(locations) else answer(PNG)

    return script


def follow(script: Script, url: str = f"http://{NAME}/0") -> tuple[bytes | str, Network]:
    with serving(script) as server:
        network = Network(NAMES, server.port)
        try:
            return addresses.fetch(url, 10_000, resolve=network.resolve, connect=network.connect), network
        except AddressRefused as refusal:
            return str(refusal), network


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
def test_a_redirect_is_followed_and_looked_up_anew(status: str) -> None:
    got, network = follow(lambda path: answer(PNG) if path == "/b" else moved("http://cdn.example.com:8080/b", status))
    assert got == PNG
    assert network.looked_up == [NAME, "cdn.example.com"]
    assert network.connected == [(PUBLIC, 80), (ELSEWHERE, 8080)]


def test_three_redirects_are_followed_and_not_four() -> None:
    got, network = follow(hops("/1", "2", f"//{NAME}/3"))
    assert (got, len(network.connected)) == (PNG, 4)
    got, network = follow(hops("/1", "/2", "/3", "/4"))
    assert (got, len(network.connected)) == ("the address is redirected more than 3 times", 4)


@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.1/",
        "http://127.0.0.1:8080/admin",
        "http://127.1/",
        "http://2130706433/",
        "http://[::1]/",
        "http://[::ffff:169.254.169.254]/",
        "http://169.254.169.254/latest/meta-data/",
        "//169.254.169.254/latest/",
        "//localhost/",
        "http://inside.example.com/",
        "http://unknown.example.com/",
        "http://metadata.google.internal/",
        f"http://user@{NAME}/",
        f"http://{NAME}:22/",
        f"http://{NAME}:6379/",
        "file:///etc/passwd",
        "ftp://cdn.example.com/",
        "gopher://127.0.0.1/",
        "data:image/png;base64,AAAA",
        "http:\\\\127.0.0.1\\",
        "/\\127.0.0.1/",
        f"http://{NAME}\\@127.0.0.1/",
        "http://exa mple.com/",
        "http://\u00b2130706433/",
        "http://b\u00fccher.example.com/",  # not in its xn-- form
        "http://a.example.com\x0b/",
        "/" + 5000 * "a",
    ],
)
@pytest.mark.parametrize("before", [0, 2])
def test_redirects_that_lead_astray_are_not_followed(location: str, before: int) -> None:
    steps = [f"/{step + 1}" for step in range(before)]
    got, network = follow(hops(*steps, location))
    assert isinstance(got, str)
    assert got.startswith("the address ")
    assert network.connected == [(PUBLIC, 80)] * (before + 1)


def test_redirects_of_other_letters_stay_with_the_host() -> None:
    got, network = follow(
        lambda path: answer(PNG) if path == "/%EC%95%88" else moved("/\uc548".encode().decode("latin-1"))
    )
    assert (got, network.connected) == (PNG, [(PUBLIC, 80)] * 2)


def test_a_redirect_to_nowhere_or_to_two_places_is_none() -> None:
    assert refused(lambda _: answer(b"", status="302 Found")) == "the address answers with a redirect to nowhere"
    assert "nowhere" in refused(lambda _: answer(b"", "Location: /a", "Location: /b", status="302 Found"))


# --- names that change what they lead to ---------------------------------------------------------------------


def test_a_name_is_looked_up_once_and_its_answer_is_kept_to() -> None:
    """DNS rebinding: the second answer would be the loopback, and nobody asks for it."""
    answers = iter([[PUBLIC], ["127.0.0.1"]])
    with serving(lambda _: answer(PNG)) as server:
        network = Network(NAMES, server.port)
        got = addresses.fetch(
            f"http://{NAME}/", 10_000, resolve=lambda name, port: next(answers), connect=network.connect
        )
    assert got == PNG
    assert network.connected == [(PUBLIC, 80)]
    assert next(answers) == ["127.0.0.1"]  # still there


def test_a_name_that_changes_between_redirects_is_checked_again() -> None:
    answers = iter([[PUBLIC], ["127.0.0.1"]])
    with serving(hops(f"http://{NAME}/1")) as server:
        network = Network(NAMES, server.port)
        with pytest.raises(AddressRefused, match="not lead to a public host"):
            addresses.fetch(f"http://{NAME}/0", 10_000, resolve=lambda *_: next(answers), connect=network.connect)
    assert network.connected == [(PUBLIC, 80)]


# --- answers that are too much -------------------------------------------------------------------------------


def test_the_limit_is_exact() -> None:
    assert brought(lambda _: answer(PNG), limit=len(PNG)) == PNG
    for script in (lambda _: answer(PNG), lambda _: [head(), PNG], lambda _: chunked([PNG])):
        assert refused(script, limit=len(PNG) - 1) == "the file at the address is larger than 2,055 bytes"


def test_a_large_file_is_refused_by_its_header() -> None:
    sent: list[bytes] = []

    def script(path: str) -> Iterator[bytes]:
        yield head("Content-Length: 99999999999")
        for _ in range(100_000):
            sent.append(PNG)
            yield PNG

    assert "larger than 10,000 bytes" in refused(script)
    assert len(sent) < 50_000  # what fits into the buffers of a socket


@pytest.mark.parametrize(
    "script",
    [
        lambda _: itertools.chain([head(), PNG], itertools.repeat(bytes(10_000))),
        lambda _: chunked(itertools.chain([PNG], itertools.repeat(bytes(10_000)))),
        lambda _: itertools.chain([head("Transfer-Encoding: chunked")], itertools.repeat(b"1\r\n\xff\r\n")),
        lambda _: [head("Transfer-Encoding: chunked"), b"-1\r\n", *[bytes(10_000)] * 100],
        lambda _: itertools.chain(
            [head("Transfer-Encoding: chunked")], itertools.repeat(b"1;" + 9000 * b"x" + b"\r\nA\r\n")
        ),
        lambda _: itertools.chain([*chunked([PNG])][:-1], [b"0\r\n"], itertools.repeat(b"A: b\r\n")),
    ],
    ids=["endless", "endless chunks", "tiny chunks", "negative chunk", "chunk extensions", "endless trailer"],
)
def test_endless_bodies_end(script: Script) -> None:
    message = refused(script)
    assert "larger than 10,000 bytes" in message or "more than is let in" in message or "broke off" in message


@pytest.mark.parametrize(
    "script",
    [
        lambda _: itertools.chain([b"HTTP/1.1 200 OK\r\n"], itertools.repeat(b"A: " + 1000 * b"b" + b"\r\n")),
        lambda _: [b"HTTP/1.1 200 OK\r\n", b"A: " + 100_000 * b"b", b"\r\n\r\n", PNG],
        lambda _: [head(*[f"A{n}: b" for n in range(101)]), PNG],
        lambda _: itertools.repeat(head(status="100 Continue")),
        lambda _: [1_000_000 * b"H"],
    ],
    ids=["endless header", "long line", "many lines", "endless continue", "no header"],
)
def test_endless_headers_end(script: Script) -> None:
    message = refused(script)
    assert "more than is let in" in message or "broke off" in message


@pytest.mark.parametrize(
    "script",
    [
        lambda _: [],
        lambda _: [b"220 mail.example.com ESMTP\r\n"],
        lambda _: [b"SSH-2.0-OpenSSH\r\n"],
        lambda _: [b"HTTP/1.1 9999999 OK\r\n\r\n"],
        lambda _: [b"HTTP/3.0 200 OK\r\n\r\n", PNG],
        lambda _: [*answer(PNG)[:1], PNG[:-1]],
        lambda _: [*chunked([PNG])][:2],
        lambda _: [head("Transfer-Encoding: chunked"), b"zz\r\n", PNG],
    ],
    ids=["nothing", "mail", "ssh", "status", "version", "one byte short", "no last chunk", "no chunk"],
)
def test_what_is_no_whole_answer_is_not_taken(script: Script) -> None:
    assert refused(script) == "the host of the address cannot be reached, or broke off"


@pytest.mark.parametrize(
    "status", ["204 No Content", "206 Partial Content", "304 Not Modified", "404 Not Found", "500 X"]
)
def test_only_200_is_a_file(status: str) -> None:
    assert refused(lambda _: answer(PNG, status=status)) == f"the address answers {status[:3]} instead of a file"


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        network = Network(NAMES, listener.getsockname()[1])
    with pytest.raises(BadMedia, match="cannot be reached"):
        addresses.fetch(f"http://{NAME}/", 10_000, resolve=network.resolve, connect=network.connect)


# --- compressed answers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("coding", ["gzip", "GZIP", "deflate", "br", "zstd", "x-gzip", "identity, gzip", "chunked"])
def test_a_compressed_answer_is_refused_and_never_unpacked(coding: str) -> None:
    bomb = gzip.compress(bytes(20_000_000))  # 20 kB
    assert "compressed file" in refused(lambda _: answer(bomb, f"Content-Encoding: {coding}"), limit=100_000)


@pytest.mark.parametrize("coding", ["gzip, chunked", "gzip", "chunked, gzip", "identity\r\nTransfer-Encoding: gzip"])
def test_a_compressed_transfer_is_refused(coding: str) -> None:
    assert "compressed file" in refused(lambda _: [head(f"Transfer-Encoding: {coding}"), gzip.compress(PNG)])


def test_a_bomb_that_does_not_say_so_is_only_its_bytes() -> None:
    bomb = gzip.compress(bytes(20_000_000))
    assert "no picture or clip" in refused(lambda _: answer(bomb), limit=100_000)
