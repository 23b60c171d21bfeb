"""Eight visitors at once on one server of its own: every stroke in its own book, and memory that does not grow."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from gradio_client import Client, handle_file

from conftest import write_photos
from serving import Running, png, scene
from ui_page import line, until, zip_of

TESTS = Path(__file__).parent
VISITORS, STROKES = 8, 50
MIB = 2**20


@dataclass(frozen=True)
class Own:
    """A server in a process of its own."""

    page: Running
    pid: int

    @property
    def rss(self) -> int:
        """Bytes of memory that it holds."""
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
        [line] = [one for one in status.splitlines() if one.startswith("VmRSS:")]
        return int(line.split()[1]) * 1024


@contextlib.contextmanager
def own(root: Path) -> Iterator[Own]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "browser.labelled", str(port), str(root)]
    process = subprocess.Popen(command, cwd=TESTS, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "listening\n"
        yield Own(Running(port), process.pid)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()


def rounds(server: Own, visit: Callable[[int], Any], count: int) -> list[int]:
    """Bytes of memory before the first round of all visitors, and after each."""
    memory = [server.rss]
    with ThreadPoolExecutor(VISITORS) as pool:
        for _ in range(count):
            list(pool.map(visit, range(VISITORS)))
            memory.append(server.rss)
    print("MiB:", *(f"{one / MIB:.0f}" for one in memory))
    return memory


# --- Label ------------------------------------------------------------------------------------------------------


@dataclass
class Labeller:
    """A page as its script talks to the server. The first six have a folder each; the last two share one."""

    page: Running
    number: int

    def __post_init__(self) -> None:
        self.folder = f"set{min(self.number, VISITORS - 2)}"
        self.name = f"visitor {self.number}"
        self.sent: list[tuple[str, str]] = []
        self.seconds: list[float] = []

    def work(self) -> None:
        """Fifty strokes, each with the picture that it is about."""
        wanted = {"place": self.folder, "kind": "labels", "labels": ["red", "blue"], "model": "fake"}
        room = self.page.post("/ui/label/open", wanted).json["room"]
        by = self.name.replace(" ", "%20")
        for _ in range(STROKES):
            [task] = self.page.get(f"/ui/label/{room}/next?by={by}&count=1").json["tasks"]
            assert self.page.get(f"/ui/label/{room}/pictures/{task['id']}").status == 200
            answer = ("red", "blue")[(len(self.sent) + self.number) % 2]
            stroke = {"n": len(self.sent), "do": "answer", "image": task["id"], "answer": answer, "seconds": 1.0}
            self.sent.append((task["id"], answer))
            started = time.perf_counter()
            told = self.page.post(
                f"/ui/label/{room}/strokes", {"by": self.name, "client": self.name, "strokes": [stroke]}
            )
            self.seconds.append(time.perf_counter() - started)
            assert told.json["saved"] == stroke["n"], told.body


@pytest.mark.slow
def test_eight_labellers_write_their_own_books_and_memory_stands_still(tmp_path: Path) -> None:
    from anmok.labelling.photos import Photos

    for number in range(VISITORS - 1):
        write_photos(tmp_path / f"set{number}", 120, ("red", "blue"))
    with own(tmp_path) as server:
        labellers = [Labeller(server.page, number) for number in range(VISITORS)]
        memory = rounds(server, lambda number: labellers[number].work(), 2)
    for one in labellers:
        photos = Photos(tmp_path / one.folder)
        names = dict(zip(photos.ids, photos.names, strict=True))
        [file] = (tmp_path / one.folder).glob(".anmok/labels-*/strokes.jsonl")
        lines = [json.loads(text) for text in file.read_text(encoding="utf-8").splitlines()[1:]]
        mine = [(line["image"], line["answer"]) for line in lines if line["by"] == one.name]
        assert mine == [(names[image], answer) for image, answer in one.sent]
        others = {line["by"] for line in lines} - {one.name}
        assert others <= ({"visitor 6", "visitor 7"} if one.number >= VISITORS - 2 else set())
    seconds = sorted(second for one in labellers for second in one.seconds)
    print(f"a stroke, eight at once: p50 {seconds[400] * 1000:.0f} ms, p95 {seconds[760] * 1000:.0f} ms")
    assert len(seconds) == 2 * VISITORS * STROKES
    assert memory[2] - memory[1] < 16 * MIB


# --- Try, Audit, Climb ------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_eight_visitors_of_the_other_tabs_leave_no_memory_behind(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    with own(root) as server:
        visitors = [_Visitor(server.page, tmp_path / str(number), number) for number in range(VISITORS)]
        memory = rounds(server, lambda number: visitors[number].come(), 4)
    assert memory[4] - memory[3] < 24 * MIB


class _Visitor:
    """Tries a picture, audits predictions and climbs on a zip, and gets what is his."""

    def __init__(self, page: Running, place: Path, number: int) -> None:
        self._page, self._place, self._number = page, place, number
        folder = line(place, images=30 + 6 * number, seed=number)
        self._audited = zip_of(folder, place / f"set{number}.zip")
        photos = write_photos(place / f"climb{number}", 4 + number, ("red", "blue"))
        self._climbed = zip_of(photos, place / f"climb{number}.zip")
        (place / "one.png").write_bytes(png(scene({"red": (5, 5, 15 + 4 * number, 15)})))

    def come(self) -> None:
        made = Client(f"{self._page.address}/ui/en/", verbose=False, download_files=str(self._place / "got"))
        with contextlib.closing(made) as client:
            self._try(client)
            self._audit(client)
            self._climb(client)

    def _try(self, client: Client) -> None:
        picture = handle_file(str(self._place / "one.png"))
        answer = client.predict(picture, "fake-places", "red", True, 0.3, api_name="/try_detect")
        assert f"5, 5, {15 + 4 * self._number}, 15" in answer[3]

    def _audit(self, client: Client) -> None:
        told, packed = handle_file(str(self._place / "told.csv")), handle_file(str(self._audited))
        _, file, shell, _ = client.predict(told, "", packed, None, 1, 3, "", "", None, 0, api_name="/audit_go")
        assert f"set{self._number}" in shell
        path = Path(file["value"] if isinstance(file, dict) else file)
        assert json.loads(path.read_text(encoding="utf-8"))["data"]["images"] == 30 + 6 * self._number

    def _climb(self, client: Client) -> None:
        packed = handle_file(str(self._climbed))
        key, *_ = client.predict(None, packed, None, "fake", "zero_shot", 1.0, 0, api_name="/climb_start")
        told: dict[str, Any] = {}

        def is_over() -> bool:
            told.update(client.predict(key, api_name="/climb_watch"))
            return told["state"] in ("done", "failed", "stopped")

        until(is_over, time.sleep, 600)
        assert told["state"] == "done", told
