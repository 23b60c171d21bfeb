"""The control port: what an operator does, and that no page in a browser does it for him."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from anmok.server.settings import Settings
from serving import FAKES, Reply, Running, ask, running


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running(Settings(models=FAKES, control_port=1, is_lazy=True)) as found:
        yield found


def control(server: Running, method: str, path: str, **headers: str) -> Reply:
    return ask(server.control_port, method, path, None, **headers)


def states(server: Running) -> dict[str, str]:
    return {row["name"]: row["state"] for row in control(server, "GET", "/status").json["models"]}


def test_models_come_and_go(server: Running) -> None:
    assert control(server, "POST", "/load/fake").json == {"model": "fake", "state": "ready"}
    assert states(server)["fake"] == "ready"
    assert control(server, "POST", "/unload/fake").json == {"model": "fake", "state": "absent"}
    assert states(server)["fake"] == "absent"
    assert control(server, "POST", "/load/fake-sigmoid?pin=true").status == 200
    [row] = [one for one in control(server, "GET", "/status").json["models"] if one["name"] == "fake-sigmoid"]
    assert row["is_pinned"]


def test_metrics_are_here_as_well(server: Running) -> None:
    assert b"anmok_model_loaded" in control(server, "GET", "/metrics").body


@pytest.mark.parametrize("path", ["/load/fake", "/unload/fake", "/drain", "/status"])
def test_control_is_not_on_the_port_that_others_reach(server: Running, path: str) -> None:
    assert server.post(path).status == 404


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://localhost"},
        {"origin": "null"},
        {"origin": ""},
        {"sec_fetch_site": "same-origin"},
        {"sec_fetch_site": "none"},
        {"host": "evil.example"},
        {"host": "localhost.evil.example:8001"},
        {"host": "127.0.0.1:8001@evil.example"},
        {"host": ""},
        {"host": "[::1"},
    ],
)
def test_a_page_on_this_machine_is_refused(server: Running, headers: dict[str, str]) -> None:
    """Also by a name that was made to point here."""
    before = states(server)
    for path in ("/load/fake", "/unload/fake-sigmoid", "/drain"):
        refused = control(server, "POST", path, **headers)
        assert (refused.status, refused.json["error"]["code"]) == (403, "forbidden")
    assert control(server, "GET", "/status", **headers).status == 403
    assert states(server) == before
    assert server.get("/readyz").status == 200


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8001", "127.0.0.1", "[::1]", "[::1]:8001"])
def test_programs_on_this_machine_are_let_in(server: Running, host: str) -> None:
    assert control(server, "GET", "/status", host=host).status == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/load/nobody", 404),
        ("POST", "/load/" + "n" * 5000, 404),
        ("POST", "/unload/..%2f..", 404),
        ("POST", "/load/fake?pin=perhaps", 422),
        ("GET", "/load/fake", 405),
        ("GET", "/docs", 404),
        ("GET", "/openapi.json", 404),
        ("POST", "/run/embed", 404),
        ("DELETE", "/status", 405),
    ],
)
def test_what_is_not_there_is_said_in_a_sentence(server: Running, method: str, path: str, status: int) -> None:
    refused = control(server, method, path)
    assert refused.status == status
    assert 10 < len(refused.json["error"]["message"]) < 300
    assert b"perhaps" not in refused.body


def test_draining_is_the_end() -> None:
    with running(Settings(models=FAKES[:1], control_port=1)) as one:
        assert control(one, "POST", "/drain").json == {"status": "draining"}
        assert one.server is not None
        assert one.server.desk.is_draining


def test_without_a_port_there_is_no_control() -> None:
    with running(Settings(models=FAKES[:1])) as one:
        assert one.control_port == 0
        assert one.post("/drain").status == 404
