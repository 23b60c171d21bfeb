"""A server in a process of its own, and what became of a request to it."""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException
from typing import Any

import pytest

from serving import RED_BOX, Running, program, running

VECTORS = "/models/fake/image-feature-extraction"


@pytest.fixture(name="server", scope="module")
def server_fixture() -> Iterator[Running]:
    with running() as found:
        yield found


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
