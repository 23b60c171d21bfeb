"""The page inside a server: who sees it, with keys and without, and that the server's end is not held up by it."""

from __future__ import annotations

import contextlib
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from anmok.errors import BadData, BadRequest, Busy, Forbidden, Unauthorized
from anmok.server.callers import Caller, Callers
from anmok.server.settings import Key, PageSettings, Served, Settings, read_settings
from anmok.server.taking import take
from anmok.server.visitors import Visitors
from command_line import first_climb
from serving import Running, running

SECRET, OTHER = "correct horse battery", "another key of some length"
KEYS = (Key.of(SECRET, "all"), Key("some", Key.of(OTHER).sha256, models=("fake",), requests_per_minute=2))
MODELS = (Served.of("fake"), Served.of("fake-places"))
HTML = "text/html,application/xhtml+xml"


@pytest.fixture(scope="module")
def keyed() -> Iterator[Running]:
    with running(Settings(models=MODELS, keys=KEYS, page=PageSettings())) as found:
        yield found


def visit(found: Running, secret: str) -> str:
    """The cookie for that key."""
    reply = found.post("/ui/login", f"key={secret.replace(' ', '+')}".encode())
    assert (reply.status, reply.headers["location"]) == (303, "./")
    cookie, _, attributes = reply.headers["set-cookie"].partition(";")
    assert {"httponly", "samesite=strict"} <= {one.strip().lower() for one in attributes.split(";")}
    return cookie


def test_the_page_asks_for_a_key_once(keyed: Running) -> None:
    reply = keyed.get("/ui/en/", accept=HTML)
    assert (reply.status, reply.headers["location"]) == (303, "/ui/login")
    assert keyed.get("/ui/en/config", accept="application/json").status == 401
    assert keyed.get("/ui/login").status == 200
    assert keyed.post("/ui/login", b"key=nobody+has+this+one").status == 401
    cookie = visit(keyed, SECRET)
    assert keyed.get("/ui/en/", accept=HTML, cookie=cookie).status == 200
    assert keyed.get("/ui/ko/config", cookie=cookie).json["title"]
    assert keyed.get("/ui/en/config", authorization=f"Bearer {SECRET}").status == 200


def test_the_cookie_opens_the_page_and_nothing_else(keyed: Running) -> None:
    cookie = visit(keyed, SECRET)
    for path in ("/info", "/v1/models", "/metrics", "/models/fake", "/uix", "/ui-/en/", "/docs"):
        assert keyed.get(path, cookie=cookie).status == 401, path
    for wrong in ("anmok-entered=", "anmok-entered=x", 'anmok-entered="', "other=1", "=;=", "a" * 4000):
        assert keyed.get("/ui/en/config", cookie=wrong).status == 401, wrong


def test_looking_uses_up_no_requests_of_a_key(keyed: Running) -> None:
    cookie = visit(keyed, OTHER)
    assert [keyed.get("/ui/en/config", cookie=cookie).status for _ in range(5)] == [200] * 5


def test_a_page_of_another_origin_is_not_let_in(keyed: Running) -> None:
    cookie = visit(keyed, SECRET)
    assert keyed.get("/ui/en/config", cookie=cookie, origin="http://evil.example").status == 403
    assert keyed.post("/ui/login", f"key={SECRET}".encode(), origin="http://evil.example").status == 403


def test_without_keys_everybody_on_this_machine_looks() -> None:
    with running(Settings(models=MODELS[:1], page=PageSettings())) as found:
        assert found.get("/ui/en/", accept=HTML).status == 200
        assert found.get("/ui").headers["location"] == "ui/en/"
        assert found.get("/ui/login").status == 404
        assert found.get("/info").status == 200


def test_an_open_page_does_not_hold_up_the_end() -> None:
    ends: list[float] = []
    with running(Settings(models=MODELS[:1], page=PageSettings(), drain_seconds=20.0)) as found:
        line = socket.create_connection(("127.0.0.1", found.port), timeout=20)
        line.sendall(b"GET /ui/en/gradio_api/heartbeat/abc HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert line.recv(100).startswith(b"HTTP/1.1 200")
        threading.Timer(0.0, lambda: ends.append(time.monotonic())).start()
    assert time.monotonic() - ends[0] < 10
    with contextlib.closing(line):
        pass


def test_visitors_come_and_go() -> None:
    now = [0.0]
    visitors = Visitors("/ui", Callers(KEYS), lambda: now[0])
    token = visitors.enter(OTHER)
    cookie = {b"cookie": f"a=b; anmok-entered={token}".encode()}
    caller = visitors.caller(cookie)
    assert caller is not None
    assert (caller.name, caller.may_use("fake"), caller.may_use("fake-places")) == ("some", True, False)
    with pytest.raises(Unauthorized):
        visitors.enter("wrong")
    now[0] += 12 * 3600 + 1
    assert visitors.caller(cookie) is None
    for _ in range(30):
        visitors.enter(SECRET)
    with pytest.raises(Busy):
        visitors.enter(SECRET)


def test_which_addresses_are_the_page_s() -> None:
    below, at_root = Visitors("/ui", Callers(())), Visitors("", Callers(()))
    paths = ["/ui", "/ui/", "/ui/login", "/ui/en/", "/ui/ko/gradio_api/x", "/uix", "/", "/en/", "/ui/fr/", "/v1/models"]
    assert [path for path in paths if below.covers(path)] == paths[:5]
    paths = ["/", "/login", "/en/x", "/info", "/models/en/"]
    assert [path for path in paths if at_root.covers(path)] == paths[:3]


def test_the_page_in_serve_toml(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    file = tmp_path / "serve.toml"
    file.write_text('[page]\npath = "/look"\nfolder = "./photos"\nprefix = "/tools"\n', encoding="utf-8")
    assert read_settings(file).page == PageSettings("/look", str(tmp_path / "photos"), "/tools")
    file.write_text('[page]\nfolder = "./none"\n', encoding="utf-8")
    with pytest.raises(BadData, match="no such folder"):
        read_settings(file)
    file.write_text('[page]\nfolders = "a"\n', encoding="utf-8")
    with pytest.raises(BadData, match="did you mean 'folder'"):
        read_settings(file)


def test_a_winner_is_served_from_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platformdirs.user_data_dir", lambda name: str(tmp_path / name))
    climbed = first_climb(tmp_path)
    assert climbed.code == 0
    with running(Settings(models=MODELS[:1])) as found:
        assert found.server is not None
        desk = found.server.desk
        with pytest.raises(Forbidden):
            take(desk, Caller("some", frozenset({"fake"})), "parts", tmp_path / "report" / "best")
        where = take(desk, None, "parts", tmp_path / "report" / "best")
        assert where == tmp_path / "anmok" / "served" / "parts"
        shutil.rmtree(tmp_path / "report")
        photo = next((tmp_path / "many" / "red").iterdir()).read_bytes()
        reply = found.post("/models/parts", photo)
        assert (reply.status, reply.json[0]["label"]) == (200, "red")
        assert [one["name"] for one in found.get("/info").json["models"]] == ["fake", "parts"]
        assert 'anmok_requests_total{model="parts"' in found.get("/metrics").body.decode()
        for taken in ("parts", "fake", "mini"):
            with pytest.raises(BadRequest, match="is taken"):
                take(desk, None, taken, where)
        assert not (tmp_path / "anmok" / "served" / "mini").exists()
