"""What a server that is told to end still answers."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from typing import Any

import pytest

from anmok.models.fake import Fake
from anmok.server.settings import Settings
from served_apart import VECTORS, outcome, server_fixture, serving  # noqa: F401  # a fixture
from serving import FAKES, RED_BOX, Running, ask, running, until_ready


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
