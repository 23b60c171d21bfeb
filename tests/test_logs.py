"""The server's log: one line a thing, and in it no key, no picture, no query string and no path."""

from __future__ import annotations

import base64
import io
import json
import logging
import secrets
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from anmok.errors import BadRequest
from anmok.server import logs
from anmok.server.logs import configure, redacted

log = logging.getLogger("anmok.server")
BASE64 = base64.b64encode(bytes(range(256))).decode()


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """Loggers belong to the process: all that ``configure`` sets is set back."""
    names = ["", "anmok", "uvicorn", "uvicorn.error", "uvicorn.access"]
    kept = [(one := logging.getLogger(name), one.level, one.propagate, one.disabled) for name in names]
    yield
    logging.captureWarnings(False)
    root = kept[0][0]
    for handler in [one for one in root.handlers if isinstance(one, logs.Lines)]:
        root.removeHandler(handler)
    for logger, level, propagate, disabled in kept:
        logger.setLevel(level)
        logger.propagate, logger.disabled = propagate, disabled


def written(level: str = "INFO", form: logs.Form = "json") -> io.StringIO:
    stream = io.StringIO()
    configure(level, form, stream)
    return stream


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_request_is_one_line_of_json() -> None:
    stream = written()
    facts = {"request_id": "4f", "route": "/models/{name}", "model": "mini", "status": 200, "ms": 3.25, "bytes": 0}
    log.info("request", extra={"facts": facts | {"key": "team-a"}})
    [line] = lines(stream)
    moment = line.pop("time")
    assert line == {"level": "INFO", "logger": "anmok.server", "event": "request", **facts, "key": "team-a"}
    assert len(moment) == len("2026-11-25T18:47:48.123Z")
    assert moment.endswith("Z")


def test_ids_stay_and_a_key_in_their_place_goes() -> None:
    stream = written()
    ids = {"request_id": secrets.token_hex(16), "trace_id": "123e4567-e89b-12d3-a456-426614174000"}
    log.info("request", extra={"facts": ids})
    log.info("request", extra={"facts": {"request_id": KEYS[0], "model": secrets.token_hex(16)}})
    kept, gone = lines(stream)
    assert {name: kept[name] for name in ids} == ids
    assert (gone["request_id"], gone["model"]) == (logs.GONE, logs.GONE)


def test_text_for_a_terminal() -> None:
    stream = written(form="text")
    log.warning("slow", extra={"facts": {"model": "mini", "note": "two\nlines \x1b[31m"}})
    [line] = stream.getvalue().splitlines()
    assert line.split(" ", 1)[1] == r"WARNING slow model=mini note=two\nlines \x1b[31m"


def test_a_line_cannot_be_forged() -> None:
    stream = written()
    log.info('a\n{"level": "ERROR"}', extra={"facts": {"level": "ERROR", "model": "x\ny"}})
    [line] = lines(stream)
    assert line["level"] == "INFO"
    assert line["model"] == "x\ny"


KEYS = [
    secrets.token_urlsafe(32) + "aB3",
    secrets.token_hex(32),
    secrets.token_hex(16),
    "sk-proj-abcdefghijklmnop",
    "hf_abcdefghijklmnopqrst",
    "ghp_abcdefghijklmnopqrstuvwxyz",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abcdefghijk",
]
NAMED = [
    "Authorization: Bearer {}",
    "authorization: {}",
    '{{"api_key": "{}"}}',
    "api-key={}",
    "x-api-key: {}",
    "token='{}'",
    "HF_TOKEN={}",
    "password = {}",
    "Bearer {}",
]


@pytest.mark.parametrize("key", KEYS, ids=range(len(KEYS)))
def test_what_looks_like_a_key_goes(key: str) -> None:
    assert key not in redacted(f"no such key {key}, sorry")
    assert key not in redacted(f"({key})")
    assert redacted(f"no such key {key}, sorry") == f"no such key {logs.GONE}, sorry"


@pytest.mark.parametrize("place", NAMED)
def test_what_is_called_a_key_goes(place: str) -> None:
    """Whatever it looks like: these have no digits."""
    assert "correcthorse" not in redacted(place.format("correcthorse"))


@pytest.mark.parametrize(
    "text",
    [
        "uvicorn running on http://127.0.0.1:8000",
        "the queue is full (1024 items waiting); try again in 3.2 s",
        "grounding-dino-tiny does not depth; it can detect, segment and 17 tokens more",
        "request 123e4567-e89b-12d3-a456-426614174000",
        "test_a_very_long_name_of_a_function_that_has_a_2_in_it",
        "siglip2-so400m-p14-384 is being loaded; try again in 5 s",
        "Möchten Sie? 예: 고양이",
    ],
)
def test_what_is_none_stays(text: str) -> None:
    assert redacted(text, has_paths=False) == text


def test_pictures_go() -> None:
    assert redacted(f"body data:image/png;base64,{BASE64} end") == "body data:image/png;base64,<344 characters> end"
    wrapped = base64.encodebytes(bytes(range(256))).decode()
    assert not any(line in redacted(wrapped) for line in wrapped.split())
    assert "PNG" not in redacted(repr(b"\x89PNG\r\n\x1a\n" + bytes(range(128, 200))))
    assert redacted("A" * 99) != ""
    assert redacted("A" * 101) == "<101 characters>"


def test_query_strings_and_passwords_in_addresses_go() -> None:
    text = redacted("GET https://me:secret@example.org/cat.jpg?sig=abc&n=1 took 2 s; /run/embed?q=cat")
    assert text == f"GET https://{logs.GONE}@example.org/cat.jpg?{logs.GONE} took 2 s; /run/embed?{logs.GONE}"


@pytest.mark.parametrize("level", ["INFO", "WARNING"])
def test_no_path_between_info_and_warning(level: str) -> None:
    stream = written()
    log.log(getattr(logging, level), "read %s and '%s'", "/home/user/photos/cat.jpg", r"C:\photos\cat.jpg")
    assert lines(stream)[0]["event"] == "read <path> and '<path>'"


def test_paths_at_error_for_the_operator() -> None:
    stream = written("DEBUG")
    log.error("cannot read %s", "/etc/anmok/serve.toml")
    log.debug("cannot read %s", "/etc/anmok/serve.toml")
    assert {line["event"] for line in lines(stream)} == {"cannot read /etc/anmok/serve.toml"}


def test_a_traceback_at_error_alone_and_without_keys() -> None:
    stream = written()
    try:
        raise ValueError(f"bad body {BASE64} from Bearer correcthorse")
    except ValueError:
        log.exception("request failed")
        log.warning("went on", exc_info=True)
    failed, went_on = lines(stream)
    assert "Traceback" in failed["exception"]
    assert "ValueError: bad body <344 characters> from Bearer <redacted>" in failed["exception"]
    assert went_on["exception"] == "ValueError"
    assert BASE64[:50] not in stream.getvalue()


def test_long_lines_are_cut_and_keep_no_half_key() -> None:
    stream = written()
    key = secrets.token_hex(32)
    log.error("x " * 985 + key)  # cut in its middle
    log.error("request", extra={"facts": {"model": "y " * 85 + key}})
    for line in lines(stream):
        text = line.get("model", line["event"])
        assert text.endswith("...")
        assert key[:8] not in text


def test_a_line_that_cannot_be_written_keeps_its_content() -> None:
    stream = written()
    [handler] = [one for one in logging.getLogger().handlers if isinstance(one, logs.Lines)]
    handler.handle(log.makeRecord(log.name, logging.INFO, "", 0, "two %s %s", ("correcthorse",), None))
    [line] = lines(stream)
    assert line["event"] == "a log line could not be written"
    assert "correcthorse" not in stream.getvalue()


def test_a_closed_stream_stops_nobody() -> None:
    stream = written()
    stream.close()
    log.info("request")


def test_libraries_speak_from_warning_on_and_ours_from_the_level_on() -> None:
    stream = written("DEBUG")
    logging.getLogger("httpx2").info("HTTP Request: GET https://example.org/?token=x")
    logging.getLogger("httpx2").warning("slow")
    log.debug("seen")
    assert [line["event"] for line in lines(stream)] == ["slow", "seen"]
    stream = written("warning")
    log.info("unseen")
    logging.getLogger("uvicorn.error").info("unseen")
    assert stream.getvalue() == ""


def test_uvicorn_goes_the_same_way_without_its_lines_of_requests() -> None:
    logging.getLogger("uvicorn.error").addHandler(logging.NullHandler())
    logging.getLogger("uvicorn.error").setLevel(logging.NOTSET)  # servers of other tests may have said less
    stream = written()
    logging.getLogger("uvicorn.access").info('127.0.0.1 - "GET /?key=x HTTP/1.1" 200')
    logging.getLogger("uvicorn.error").info("Started server process [%d]", 12)
    assert [line["event"] for line in lines(stream)] == ["Started server process [12]"]


def test_warnings_are_lines() -> None:
    stream = written()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(False)  # pytest has put its own in place since
        logging.captureWarnings(True)
        warnings.warn("an old file", UserWarning, stacklevel=1)
        logging.captureWarnings(False)
    [line] = lines(stream)
    assert line["logger"] == "py.warnings"
    assert "an old file" in line["event"]
    assert __file__ not in line["event"]


def test_twice_is_once() -> None:
    written()
    stream = written()
    log.info("request")
    assert len(lines(stream)) == 1


def test_standard_error_by_default(capsys: pytest.CaptureFixture[str]) -> None:
    configure("INFO", "text")
    log.info("request")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.endswith("INFO    request\n")
    assert sys.stderr is not None


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(BadRequest, match="log level 'LOUD': want one of DEBUG, INFO, WARNING, ERROR"):
        configure("LOUD")
