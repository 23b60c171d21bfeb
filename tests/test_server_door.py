"""The door of a server: from where a request may come, and what a request may look like."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from anmok.server.settings import Settings
from door_keys import CODE, HOST, LAST, PATH, post, said, status
from serving import FAKES, RED_BOX, Running, running


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running() as found:
        yield found


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
