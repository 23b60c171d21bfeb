"""One line for each thing that happened, on standard error: JSON for programs, text for a terminal.

What a line may hold is decided here, for our own loggers and for those of libraries alike: no keys, no pictures and no
query strings at any level; no paths of files between INFO and WARNING; tracebacks at ERROR alone, where the operator
needs them, and never on the way to a client.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final, Literal, TextIO, TypeAlias

from anmok.errors import BadRequest

Form: TypeAlias = Literal["json", "text"]

LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR")
_OURS = ("anmok", "uvicorn")  # loggers that follow ``level``; all others speak from WARNING on
_LONGEST, _LONGEST_FACT, _DEEPEST = 2000, 200, 60  # characters of a message and of a fact, lines of a traceback

GONE: Final = "<redacted>"
_NAMED = re.compile(
    r"""(?i)\b(authorization|x-api-key|api[_-]?key|[a-z]*_?token|secret|password|passwd)(["']?\s*[:=]\s*["']?)"""
    r"""(?:(?:bearer|basic)\s+)?[^\s"',;&)}\]]+"""
)
_BEARER = re.compile(r"(?i)\b(bearer)\s+[\w.~+/=-]{8,}")
_PREFIXED = re.compile(r"\b(?:sk|pk|rk|hf|gh[pousr]|github_pat|xox[abpr]|glpat|AKIA|AIza)[-_]?[\w-]{16,}")
_JWT = re.compile(r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*")
_BASE64 = re.compile(  # in one piece, or in lines as mail has them
    r"(?:[A-Za-z0-9+/_-]{60,}(?:\r?\n|\\r\\n|\\n))+[A-Za-z0-9+/_-]*={0,2}|[A-Za-z0-9+/_-]{100,}={0,2}"
)
_BYTES = re.compile(r"(?:\\(?:x[0-9a-f]{2}|[rnt])[^\\\n]{0,8}){6,}")  # as ``repr`` writes bytes that are no text
_TOKEN = re.compile(r"(?<![\w-])[\w-]{32,}(?![\w-])")
_USER = re.compile(r"(?<=://)[^\s/@]+@")
_QUERY = re.compile(r"(?<=[\w/.}])\?[\w.%+\[\]-]+=[^\s\"'<>]*")
_IDS: Final = frozenset({"request_id", "trace_id"})
_ID = re.compile(r"[0-9a-f-]{1,36}")  # hexadecimal as a key may be; another form of a caller's own may be a key
_LAST_WORD = re.compile(r"[\w+/=.~-]*$")
_PATH = re.compile(r"(?<![\w/:.<>])(?:[A-Za-z]:\\[^\s'\",;]+|(?:/[^\s/'\",;:()]+){2,}/?)")


def configure(level: str = "INFO", form: Form = "json", stream: TextIO | None = None) -> None:
    """Sends the lines of this process, ours and the libraries', to one place in one form. May be called again.

    uvicorn's lines of requests are switched off, for the door writes its own; its others come the same way. It has to
    be started with ``log_config=None``.

    Args:
        level: ``DEBUG``, ``INFO``, ``WARNING`` or ``ERROR``, for anmok and uvicorn; libraries speak from WARNING on.
        form: ``json`` or ``text``.
        stream: standard error where none is given.

    Raises:
        BadRequest: no such level.
    """
    if level.upper() not in LEVELS:
        raise BadRequest(f"log level {level[:40]!r}: want one of {', '.join(LEVELS)}")
    root = logging.getLogger()
    for old in [handler for handler in root.handlers if isinstance(handler, Lines)]:
        root.removeHandler(old)
    handler = Lines(sys.stderr if stream is None else stream)
    handler.setFormatter(_Json() if form == "json" else _Text())
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    for name in _OURS:
        logging.getLogger(name).setLevel(level.upper())
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    logging.getLogger("uvicorn.access").disabled = True
    logging.captureWarnings(True)


def redacted(text: str, *, has_paths: bool = True) -> str:
    """The text without whatever looks like a key, a password, a query string or a picture.

    A key is seen by its name, its prefix or its looks: 32 or more letters, digits, ``-`` and ``_`` that are either
    all hexadecimal or mixed of digits, small and capital letters.

    Args:
        text: anything.
        has_paths: whether absolute paths of files may stay.
    """
    text = _JWT.sub(GONE, _BASE64.sub(_counted, _BYTES.sub(_counted, text)))
    text = _NAMED.sub(rf"\1\2{GONE}", _BEARER.sub(rf"\1 {GONE}", text))
    text = _TOKEN.sub(_judged, _PREFIXED.sub(GONE, text))
    text = _QUERY.sub(f"?{GONE}", _USER.sub(f"{GONE}@", text))
    return text if has_paths else _PATH.sub("<path>", text)


def _counted(match: re.Match[str]) -> str:
    return f"<{len(match[0])} characters>"


def _judged(match: re.Match[str]) -> str:
    found = match[0]
    has_digit = any(c.isdigit() for c in found)
    is_mixed = has_digit and any(c.islower() for c in found) and any(c.isupper() for c in found)
    is_hexadecimal = all(c in "0123456789abcdefABCDEF" for c in found)
    return GONE if is_mixed or is_hexadecimal else found


class Lines(logging.StreamHandler[TextIO]):
    """Writes lines; what cannot be written is told of without its content."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """The standard one prints the arguments of the line, whatever they hold."""
        line = {"time": _time(record), "level": "ERROR", "event": "a log line could not be written"}
        try:
            self.stream.write(json.dumps({**line, "logger": record.name}) + self.terminator)
        except (OSError, ValueError):  # standard error is closed or its disk is full: there is nowhere to say so
            return


class _Form(logging.Formatter):
    """What a record says, apart from how it is written."""

    def message(self, record: logging.LogRecord) -> str:
        has_paths = not logging.INFO <= record.levelno < logging.ERROR
        return redacted(_cut(record.getMessage(), _LONGEST), has_paths=has_paths)

    def facts(self, record: logging.LogRecord) -> Iterator[tuple[str, Any]]:
        """What was handed over as ``extra={"facts": {...}}``."""
        given = getattr(record, "facts", None)
        for name, value in (given if isinstance(given, Mapping) else {}).items():
            is_id = name in _IDS and _ID.fullmatch(str(value)) is not None
            if is_id or value is None or isinstance(value, bool | int | float):
                yield name, value
            else:
                yield name, redacted(_cut(str(value), _LONGEST_FACT))

    def trace(self, record: logging.LogRecord) -> str:
        """The traceback, or below ERROR the class of the exception alone."""
        if not record.exc_info or record.exc_info[0] is None:
            return ""
        if record.levelno < logging.ERROR:
            return record.exc_info[0].__name__
        lines = self.formatException(record.exc_info).splitlines()[-_DEEPEST:]
        return redacted("\n".join(_cut(line, _LONGEST) for line in lines))


class _Json(_Form):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {"time": _time(record), "level": record.levelname, "logger": record.name}
        line["event"] = self.message(record)
        line.update((name, value) for name, value in self.facts(record) if name not in line)
        trace = self.trace(record)
        if trace:
            line["exception"] = trace
        return json.dumps(line)  # ASCII: whatever standard error can write, this can be read back


class _Text(_Form):
    def format(self, record: logging.LogRecord) -> str:
        said = " ".join([self.message(record), *(f"{name}={value}" for name, value in self.facts(record))])
        line = f"{_time(record)} {record.levelname:<7} {_plain(said)}"
        trace = self.trace(record)
        return "\n".join([line, *(_plain(one) for one in trace.splitlines())]) if trace else line


def _cut(text: str, longest: int) -> str:
    """No more than that, and no first half of a word: it might be one of a key that is no longer known as one."""
    if len(text) <= longest:
        return text
    return _LAST_WORD.sub("", text[:longest]) + "..."


def _plain(text: str) -> str:
    """On one line, without what a terminal would obey."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _time(record: logging.LogRecord) -> str:
    """UTC, ISO 8601, milliseconds."""
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
