"""Thousands of damaged requests in all dialects: each is answered or refused in words, and nothing leaks."""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException, RemoteDisconnected
from typing import Any

import pytest

from anmok.server.settings import Settings
from anmok.wire import Intake
from damaged_requests import CANARY, FORMATS, REPEATED, Sent, case, flipped, photo, valid
from serving import FAKES, Running, running

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # what it says of damaged files; refused they are
LEAKS = (b"/home", b"/work", b"/tmp", b"/usr/", b"site-packages", b"Traceback", b'File "', b".py", b" at 0x", b"anmok.")
ON_PURPOSE = (501, 503, 504, 507)


# What must hold


def wrong(sent: Sent, status: int, headers: dict[str, str], body: bytes) -> str:
    """What is wrong with an answer; empty where nothing is."""
    if status >= 500 and status not in ON_PURPOSE:
        return f"status {status}"
    leaks = [leak for leak in LEAKS if leak in body]
    if status >= 400 and leaks:
        return f"{leaks} in {body[:300]!r}"
    if CANARY.encode() in body and not any(CANARY in str(key) for key in _keys(sent.body)):
        return f"repeats what was sent: {body[:300]!r}"
    if "x-request-id" not in headers:
        return "no request id"
    if status >= 400:
        error = json.loads(body)["error"]
        said = error["message"] if isinstance(error, dict) else error
        if not said or "\n" in said or len(said) > 500:
            return f"no sentence: {body[:300]!r}"
    return ""


def _keys(value: Any) -> Iterator[Any]:
    """The keys of JSON; texts as well where they stand for a name that may be repeated."""
    if isinstance(value, dict):
        for key, one in value.items():
            yield key
            if key in REPEATED:
                yield one
            yield from _keys(one)
    elif isinstance(value, list):
        for one in value:
            yield from _keys(one)


class Client:
    """One connection that is opened again where the server closed it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.line = HTTPConnection("127.0.0.1", port, timeout=60)

    def ask(self, sent: Sent) -> tuple[int, dict[str, str], bytes]:
        headers = {"content-type": sent.kind} if sent.kind else {}
        for _ in range(2):
            try:
                self.line.request("POST", sent.path, sent.data, headers | dict(sent.headers))
                answer = self.line.getresponse()
                return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
            except (RemoteDisconnected, ConnectionError, HTTPException):
                self.line.close()
        raise AssertionError(f"no answer to {sent}")


class Heard(logging.Handler):
    """Errors that the server logs: each is a case that nobody thought of. Pillow logs some of its own."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.partition(".")[0] == "PIL":
            return
        self.lines.append(f"{record.getMessage()} {record.exc_info[1]!r}" if record.exc_info else record.getMessage())


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    intake = Intake(body_bytes=4_000_000, image_bytes=1_000_000, clip_bytes=1_000_000)
    with running(Settings(models=FAKES, intake=intake)) as found:
        yield found


def failures(server: Running, numbers: range) -> list[str]:
    client, found = Client(server.port), []
    heard = Heard()
    logging.getLogger().addHandler(heard)
    try:
        for number in numbers:
            sent = case(number)
            before = len(heard.lines)
            problem = wrong(sent, *client.ask(sent))
            problem = problem or "; ".join(heard.lines[before:])
            if problem:
                found.append(f"case {number} {sent.path}: {problem}")
    finally:
        logging.getLogger().removeHandler(heard)
        client.line.close()
    return found


def test_what_is_damaged_was_fine_before(server: Running) -> None:
    client = Client(server.port)
    for sent in valid():
        status, _, body = client.ask(sent)
        assert status in (200, 501), (sent.path, body[:300])
    client.line.close()


@pytest.mark.parametrize("part", range(5))
def test_damaged_requests_are_refused_in_words(server: Running, part: int) -> None:
    assert failures(server, range(part * 300, (part + 1) * 300)) == []


@pytest.mark.slow
@pytest.mark.parametrize("part", range(10))
def test_ten_thousand_damaged_requests_are_refused_in_words(server: Running, part: int) -> None:
    assert failures(server, range(1500 + part * 850, 1500 + (part + 1) * 850)) == []


@pytest.mark.parametrize("form", FORMATS)
def test_damaged_pictures_are_refused_or_read(server: Running, form: str) -> None:
    client = Client(server.port)
    rng = random.Random(form)
    statuses = []
    for _ in range(60):
        sent = Sent("/models/fake/image-feature-extraction", "", flipped(photo(form), rng))
        answer = client.ask(sent)
        assert wrong(sent, *answer) == "", sent
        statuses.append(answer[0])
    client.line.close()
    assert set(statuses) <= {200, 413, 422}
    assert statuses.count(422) > 5
