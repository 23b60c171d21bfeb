"""A server on a real socket, inside this process or as the installed program, and pictures to send to it."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as pillow

from anmok.server.app import Server, build
from anmok.server.running import listening, serve
from anmok.server.settings import Served, Settings

FAKES = tuple(Served.of(name) for name in ("fake", "fake-sigmoid", "fake-places", "fake-grounded"))


@dataclass(frozen=True)
class Reply:
    """A whole response."""

    status: int
    headers: dict[str, str]  # names in lower case
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Running:
    """A server that listens. ``server`` is there where it runs in this process."""

    port: int
    server: Server | None = None
    control_port: int = 0

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        """A dict or list goes as JSON; ``x_request_id="a"`` is the header ``x-request-id``."""
        return ask(self.port, method, path, body, **headers)

    def get(self, path: str, **headers: str) -> Reply:
        return self.ask("GET", path, None, **headers)

    def post(self, path: str, body: Any = None, **headers: str) -> Reply:
        return self.ask("POST", path, body, **headers)


def ask(port: int, method: str, path: str, body: Any = None, **headers: str) -> Reply:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    if isinstance(body, dict | list):
        body = json.dumps(body).encode()
        sent = {"content-type": "application/json"} | sent
    with contextlib.closing(HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.request(method, path, body, sent)
        response: HTTPResponse = connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        return Reply(response.status, found, response.read())


@contextlib.contextmanager
def running(settings: Settings | None = None) -> Iterator[Running]:
    """A server in a thread of this process, with all fakes where nothing is said; ready when the block begins."""
    settings = settings or Settings(models=FAKES)
    server = build(settings)
    with contextlib.ExitStack() as stack:
        main = stack.enter_context(listening("127.0.0.1", 0))
        control = stack.enter_context(listening("127.0.0.1", 0)) if settings.control_port else None
        if settings.page is not None:
            from anmok.server.pages import add_page

            add_page(server, f"http://127.0.0.1:{main.getsockname()[1]}")
        stop = threading.Event()
        thread = threading.Thread(target=lambda: asyncio.run(serve(server, main, control, stop)), daemon=True)
        thread.start()
        stack.callback(_stopped, server, thread, stop)
        found = Running(main.getsockname()[1], server, control.getsockname()[1] if control else 0)
        deadline = time.monotonic() + 30
        while not server.desk.is_ready:
            assert time.monotonic() < deadline, "the server did not start"
            assert thread.is_alive(), "the server ended at the start"
            time.sleep(0.01)
        yield found


def _stopped(server: Server, thread: threading.Thread, stop: threading.Event) -> None:
    stop.set()
    thread.join(30)
    server.close(seconds=5)
    assert not thread.is_alive()


@contextlib.contextmanager
def program(*words: str, cwd: Path | None = None, **environment: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """``anmok serve words...`` as its users run it, and the port that it took; stopped at the end."""
    command = [sys.executable, "-m", "anmok", "serve", *words, "--port", "0"]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, encoding="utf-8", cwd=cwd, env={**os.environ, **environment}
    )
    try:
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            match = re.search(r"http://[^ ]*:(\d+) serves", line)
            if match:
                yield process, int(match[1])
                break
        else:
            raise AssertionError("".join(lines))
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.communicate(timeout=20)


def until_ready(port: int, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if ask(port, "GET", "/readyz").status == 200:
                return
        time.sleep(0.05)
    raise AssertionError("the server did not get ready")


def scene(things: dict[str, tuple[int, int, int, int]], size_hw: tuple[int, int] = (60, 80)) -> NDArray[np.uint8]:
    """Coloured boxes (left, top, right, bottom) on black."""
    colours = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "white": (255, 255, 255)}
    image = np.zeros((*size_hw, 3), np.uint8)
    for colour, (left, top, right, bottom) in things.items():
        image[top:bottom, left:right] = colours[colour]
    return image


def png(image: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    pillow.fromarray(image).save(file, "PNG")
    return file.getvalue()


RED_BOX = png(scene({"red": (20, 10, 50, 30)}))
