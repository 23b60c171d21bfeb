"""Weights on a hub: the true huggingface_hub talks to a small hub on this machine."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants

from anmok.catalogue.sources import LICENCES, HubSource
from anmok.errors import BadWeights, CannotWrite, LicenceRequired, WeightsUnavailable
from anmok.weights import fetch, is_fetched, revision_of

MIT = LICENCES["mit"]
OLD, NEW = "a" * 40, "b" * 40
NET = b"\x08weights\xff" * 5000
SOURCE = HubSource("owner/net", ("model.safetensors", "sub/config.json"))


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@dataclass
class Hub:
    """What a hub has to say to ``hf_hub_download``: HEAD and GET of /owner/name/resolve/revision/file."""

    commits: dict[str, dict[str, bytes]]
    main: str = OLD
    refusal: tuple[int, str] | None = None  # status and X-Error-Code of every answer
    stated: dict[str, str] = field(default_factory=dict)  # sha256 of large files, told as their tag
    asked: list[str] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    url: str = ""

    def serve(self, request: BaseHTTPRequestHandler) -> None:
        if request.path.startswith("/api/"):  # what else the client may like to know
            request.send_error(404)
            return
        self.asked.append(f"{request.command} {request.path}")
        self.tokens.add(request.headers.get("Authorization", ""))
        revision, file = request.path.removeprefix("/owner/net/resolve/").split("/", 1)
        commit = self.main if revision == "main" else revision
        content = self.commits.get(commit, {}).get(file)
        if self.refusal is not None or content is None:
            status, code = self.refusal or (
                404,
                "EntryNotFound" if commit in self.commits else "RevisionNotFound",
            )
            request.send_response(status)
            request.send_header("X-Error-Code", code)
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        request.send_response(200)
        request.send_header("X-Repo-Commit", commit)
        request.send_header("ETag", f'"{self.stated.get(file, hashlib.sha1(content).hexdigest())}"')
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        if request.command == "GET":
            request.wfile.write(content)


@pytest.fixture
def hub() -> Iterator[Hub]:
    served = Hub({OLD: {"model.safetensors": NET, "sub/config.json": b"{}"}})

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.serve(self)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        served.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield served
        server.shutdown()
        thread.join()


def point(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """huggingface_hub reads its environment when it is imported, which was long ago."""
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hub: Hub) -> Path:
    monkeypatch.setenv("ANMOK_CACHE", str(tmp_path / "anmok"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    point(monkeypatch, hub.url)
    return tmp_path


def locked(place: Path, name: str = "owner--net.json") -> dict[str, object]:
    content: dict[str, object] = json.loads((place / "anmok" / "locks" / name).read_text())
    return content


def test_the_first_pull_locks_what_it_found(place: Path, hub: Hub) -> None:
    seen: list[tuple[str, int, int]] = []
    assert not is_fetched(SOURCE)
    found = fetch(SOURCE, licence=MIT, progress=lambda *step: seen.append(step))
    assert found["model.safetensors"].read_bytes() == NET
    assert found["sub/config.json"].read_bytes() == b"{}"
    assert found["sub/config.json"].parent.parent == found["model.safetensors"].parent
    assert ("model.safetensors", len(NET), len(NET)) in seen
    assert revision_of(SOURCE, found) == OLD  # the commit, where the source named none
    lock = locked(place)
    assert (lock["origin"], lock["revision"]) == ("owner/net", OLD)
    entries = lock["entries"]
    assert isinstance(entries, dict)
    assert {name: (one["size"], one["sha256"]) for name, one in entries.items()} == {
        "model.safetensors": (len(NET), digest(NET)),
        "sub/config.json": (2, digest(b"{}")),
    }
    assert is_fetched(SOURCE)


def test_what_is_here_is_used_without_asking(place: Path, hub: Hub) -> None:
    found = fetch(SOURCE, licence=MIT)
    hub.asked.clear()
    assert fetch(SOURCE, licence=MIT) == found
    assert hub.asked == []


def test_a_branch_that_moves_does_not_move_us(place: Path, hub: Hub) -> None:
    fetch(SOURCE, licence=MIT)
    hub.commits[NEW] = {"model.safetensors": NET[::-1], "sub/config.json": b"[]"}
    hub.main = NEW
    shutil.rmtree(place / "hf")
    assert fetch(SOURCE, licence=MIT)["model.safetensors"].read_bytes() == NET
    assert locked(place)["revision"] == OLD


def test_files_of_two_commits_are_never_mixed(place: Path, hub: Hub) -> None:
    fetch(HubSource("owner/net", ("sub/config.json",)), licence=MIT)
    (place / "anmok" / "locks" / "owner--net.json").unlink()
    hub.commits[NEW] = {"model.safetensors": NET, "sub/config.json": b"[]"}
    hub.main = NEW
    assert fetch(SOURCE, licence=MIT)["sub/config.json"].read_bytes() == b"[]"


def test_a_file_that_a_card_asks_for_later_joins_the_lock(place: Path, hub: Hub) -> None:
    fetch(HubSource("owner/net", ("sub/config.json",)), licence=MIT)
    fetch(SOURCE, licence=MIT)
    entries = locked(place)["entries"]
    assert isinstance(entries, dict)
    assert sorted(entries) == ["model.safetensors", "sub/config.json"]


def test_a_commit_is_asked_for_as_it_is(place: Path, hub: Hub) -> None:
    hub.commits[NEW] = {"model.safetensors": b"new"}
    source = HubSource("owner/net", ("model.safetensors",), NEW)
    assert fetch(source, licence=MIT)["model.safetensors"].read_bytes() == b"new"
    assert not any("/main/" in line for line in hub.asked)
    assert locked(place, f"owner--net@{NEW}.json")["revision"] == NEW


def test_a_file_of_another_repository_stands_beside(place: Path, hub: Hub) -> None:
    hub.commits[NEW] = {"tokenizer.json": b"words"}
    source = HubSource(SOURCE.repo, SOURCE.files, OLD, HubSource("owner/net", ("tokenizer.json",), NEW))
    assert not is_fetched(source)
    found = fetch(source, licence=MIT)
    assert list(found) == ["model.safetensors", "sub/config.json", "tokenizer.json"]
    assert found["tokenizer.json"].read_bytes() == b"words"
    assert revision_of(source, found) == OLD
    assert locked(place, f"owner--net@{NEW}.json")["revision"] == NEW
    assert is_fetched(source)
    found["tokenizer.json"].unlink()
    assert not is_fetched(source)


@pytest.mark.parametrize("content", [NET[::-1], NET[:-1]], ids=["same size", "cut short"])
def test_a_file_that_is_not_the_locked_one_is_refused(place: Path, hub: Hub, content: bytes) -> None:
    file = fetch(SOURCE, licence=MIT)["model.safetensors"]
    file.resolve().write_bytes(content)
    os.utime(file, ns=(1, 1))
    with pytest.raises(BadWeights) as caught:
        fetch(SOURCE, licence=MIT)
    message = str(caught.value)
    assert "not the file of the first pull" in message
    assert str(file) in message
    assert str(place / "anmok" / "locks" / "owner--net.json") in message
    assert "\n" not in message


def test_another_content_under_the_locked_commit_is_refused(place: Path, hub: Hub) -> None:
    fetch(SOURCE, licence=MIT)
    shutil.rmtree(place / "hf")
    hub.commits[OLD]["model.safetensors"] = NET[::-1]
    with pytest.raises(BadWeights, match="not the file of the first pull"):
        fetch(SOURCE, licence=MIT)


def test_a_lock_that_was_edited_is_refused(place: Path, hub: Hub) -> None:
    fetch(SOURCE, licence=MIT)
    (place / "anmok" / "locks" / "owner--net.json").write_text("{")
    assert not is_fetched(SOURCE)
    with pytest.raises(BadWeights, match=r"is damaged .* delete it and pull again"):
        fetch(SOURCE, licence=MIT)


def test_a_large_file_that_came_damaged_is_not_kept(place: Path, hub: Hub) -> None:
    hub.stated["model.safetensors"] = digest(NET[::-1])
    with pytest.raises(BadWeights, match="came damaged; pull again"):
        fetch(SOURCE, licence=MIT)
    assert not (place / "anmok" / "locks").exists()
    hub.stated["model.safetensors"] = digest(NET)
    assert fetch(SOURCE, licence=MIT)["model.safetensors"].read_bytes() == NET


@pytest.mark.parametrize("name", ["pytorch_model.bin", "net.pt", "net.pth", "x.pkl", "model.py", "a.ckpt", "README"])
def test_kinds_that_may_run_code_are_never_asked_for(hub: Hub, name: str) -> None:
    with pytest.raises(BadWeights, match="may run code when it is opened"):
        fetch(HubSource("owner/net", ("model.safetensors", name)), licence=MIT)
    assert hub.asked == []


def test_a_token_goes_along(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    fetch(SOURCE, licence=MIT)
    assert hub.tokens == {"Bearer hf_secret"}


@pytest.mark.parametrize(
    ("refusal", "kind", "words"),
    [
        ((403, "GatedRepo"), LicenceRequired, "is gated: ask for access at URL/owner/net, then set HF_TOKEN"),
        ((401, "RepoNotFound"), WeightsUnavailable, "there is no URL/owner/net, or it is private"),
        ((404, "RevisionNotFound"), WeightsUnavailable, "has no model.safetensors at the wanted revision"),
        ((404, "EntryNotFound"), WeightsUnavailable, "has no model.safetensors at the wanted revision"),
        ((503, ""), WeightsUnavailable, "URL answers 503"),
    ],
)
def test_what_the_hub_refuses_is_said_in_one_line_and_at_once(
    place: Path, hub: Hub, refusal: tuple[int, str], kind: type[Exception], words: str
) -> None:
    hub.refusal = refusal
    start = time.perf_counter()
    with pytest.raises(kind) as caught:
        fetch(SOURCE, licence=MIT)
    assert time.perf_counter() - start < 5
    assert words.replace("URL", hub.url) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (place / "anmok" / "locks").exists()


def test_a_site_that_is_no_hub_is_recognised(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    original = BaseHTTPRequestHandler.send_header

    def send(self: BaseHTTPRequestHandler, keyword: str, value: str) -> None:
        if keyword != "X-Repo-Commit":
            original(self, keyword, value)

    monkeypatch.setattr(BaseHTTPRequestHandler, "send_header", send)
    with pytest.raises(WeightsUnavailable, match="does not answer like a hub; check HF_ENDPOINT"):
        fetch(SOURCE, licence=MIT)


def closed_port() -> int:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port: int = closed.getsockname()[1]
    return port


def test_a_hub_that_is_not_there_is_given_up_in_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    port = closed_port()
    point(monkeypatch, f"http://user:secret@127.0.0.1:{port}")
    start = time.perf_counter()
    with pytest.raises(WeightsUnavailable) as caught:
        fetch(SOURCE, licence=MIT)
    assert time.perf_counter() - start < 10
    message = str(caught.value)
    for part in (
        "owner/net: model.safetensors",
        f"http://127.0.0.1:{port}",
        "anmok pull",
        "HF_ENDPOINT",
        "`mini`",
    ):
        assert part in message
    assert "secret" not in message
    assert "\n" not in message


def test_a_hub_that_never_answers_is_given_up_in_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anmok.weights.hub._ANSWER_WITHIN", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        point(monkeypatch, f"http://127.0.0.1:{silent.getsockname()[1]}")
        start = time.perf_counter()
        with pytest.raises(WeightsUnavailable, match="cannot be reached"):
            fetch(SOURCE, licence=MIT)
        assert time.perf_counter() - start < 3


def test_a_cache_folder_of_the_hub_that_cannot_be_written(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "file").write_text("x")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(place / "file" / "hf"))
    with pytest.raises(CannotWrite, match="set HF_HOME to a folder"):
        fetch(SOURCE, licence=MIT)


def test_the_environment_of_huggingface_hub_holds(place: Path, hub: Hub) -> None:
    """HF_ENDPOINT and HF_HOME: a fresh process pulls. HF_HUB_OFFLINE: it has that file and lacks the rest."""
    code = (
        "import sys\n"
        "from anmok.catalogue.sources import LICENCES, HubSource\n"
        "from anmok.weights import fetch\n"
        "print(fetch(HubSource('owner/net', (sys.argv[1],)), licence=LICENCES['mit'])[sys.argv[1]])\n"
    )
    environment = {**os.environ, "HF_HOME": str(place / "home"), "HF_ENDPOINT": hub.url}
    environment.pop("HF_HUB_CACHE", None)

    def pull(name: str, **more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", code, name]
        return subprocess.run(command, env={**environment, **more}, capture_output=True, text=True, check=False)

    first = pull("sub/config.json")
    assert Path(first.stdout.strip()).is_relative_to(place / "home")
    assert first.stderr == ""
    shutil.rmtree(place / "anmok")  # a copied HF_HOME without our lock is locked as it is
    again = pull("sub/config.json", HF_HUB_OFFLINE="1", HF_ENDPOINT=f"http://127.0.0.1:{closed_port()}")
    assert again.stdout == first.stdout
    assert locked(place)["revision"] == OLD
    absent = pull("model.safetensors", HF_HUB_OFFLINE="1")
    assert "model.safetensors is not on this machine and HF_HUB_OFFLINE is set" in absent.stderr
