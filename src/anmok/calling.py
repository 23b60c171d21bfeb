"""Asking somebody else's server with a key: one POST, an answer read under bounds, its refusals as our own errors.

No redirect is followed, since a key and pictures would go along to wherever it leads. A key stands in headers alone:
not in an address, a message or a ``repr``. What the server says of an error is cut to one line, with the key struck
out of it.
"""

from __future__ import annotations

import contextlib
import json
import re
import ssl
import time
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final
from urllib.parse import urlsplit

from anmok.errors import (
    AnmokError,
    BadData,
    BadRequest,
    Busy,
    Loading,
    MissingDependency,
    Refused,
    TooMuch,
    Unauthorized,
)

MIB: Final = 2**20
_CONNECT: Final = 10.0  # seconds
_REASON: Final = 200  # letters of a server's own words in an error
_ERROR_BYTES: Final = 65_536
_LONGEST_WAIT: Final = 3600.0  # seconds that a server may ask us to wait
_DONE: Final = b"[DONE]"
# "This model's maximum context length is 128000 tokens. However, your messages resulted in 1000012 tokens" (OpenAI,
# vLLM); "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)" (Gemini).
_CONTEXT: Final = re.compile(
    r"maximum context length is (?P<most>\d+) tokens\D+?(?P<has>\d+) tokens"
    r"|input token count \(?(?P<count>\d+)\)? exceeds the maximum number of tokens allowed \(?(?P<allowed>\d+)"
)
_LOADING: Final = re.compile(r"\b(currently|still) loading\b|is loading\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Server:
    """A server at ``address``, below which its routes are, the model to ask there, and the headers that open it.

    ``secret`` is the key as it stands in ``headers``, so that it can be struck out of whatever the server says;
    ``remedy`` is what to do where it wants another one. ``silence`` are seconds until the first and between any two
    bytes, ``seconds`` those of a whole answer, ``most_bytes`` its size.

    Raises:
        BadRequest: the address is none, or holds a user, a password or a query.
    """

    address: str
    model: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    secret: str = field(default="", repr=False)
    remedy: str = "name the variable that holds it"
    silence: float = 120.0
    seconds: float = 600.0
    most_bytes: int = 16 * MIB

    def __post_init__(self) -> None:
        if not is_address(self.address):
            raise BadRequest("want an address such as https://host/v1, without user, password or query")

    @property
    def place(self) -> str:
        """Host and port: what errors and logs say of the server."""
        return urlsplit(self.address).netloc


def is_address(text: str) -> bool:
    """Whether it is an http or https address without user, password, query or anything that is no letter of one."""
    try:
        parts = urlsplit(text)
        is_whole = parts.scheme in ("http", "https") and bool(parts.hostname) and not parts.query
        _ = parts.port
    except ValueError:
        return False
    return is_whole and "@" not in text and "#" not in text and text.isprintable() and " " not in text


def whole(server: Server, route: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """The one JSON object that the server answers with.

    Raises:
        Refused: nobody there, too slow, broken off, or overloaded (``Busy``, ``Loading``).
        Unauthorized: a key is wanted, or another one.
        BadRequest: what the server finds wrong with the request.
        BadData: an answer that is no JSON object.
        MissingDependency: no httpx2.
    """
    with _answered(server, route, body, "application/json") as (_, pieces):
        return _object(b"".join(pieces), server.place)


def events(server: Server, route: str, body: Mapping[str, Any]) -> Generator[dict[str, Any], None, None]:
    """The JSON objects of a stream of server-sent events, as they come, up to ``[DONE]`` or the end of the line.

    Closing the iterator closes the connection, which ends the work there. A server that does not stream gives its one
    object. An empty ``route`` asks the server's address itself.

    Raises:
        AnmokError: as ``whole``, also for an error in the middle of the stream.
    """
    with _answered(server, route, body, "text/event-stream") as (kind, pieces):
        if kind == "application/json":
            yield _object(b"".join(pieces), server.place)
            return
        for data in _data(pieces):
            if data.strip() == _DONE:
                return
            content = _object(data, server.place)
            if content.get("error"):
                raise refused(server, _status(content), data)
            yield content


def refused(server: Server, status: int, said: bytes, retry_after: str = "") -> AnmokError:
    """What a status other than 200 means, in one line.

    Args:
        server: that answered.
        status: of HTTP, or of an error in a stream.
        said: the body.
        retry_after: the header of that name.
    """
    place, message = server.place, told(server, said)
    found = _CONTEXT.search(message)
    if found is not None and status < 500:
        has, most = (int(found[a] or found[b]) for a, b in (("has", "count"), ("most", "allowed")))
        return BadRequest(
            f"the conversation has {has:,} tokens and the model reads {most:,}; shorten it, or leave pictures out"
        )
    if status in (401, 403) or (status == 400 and b"API_KEY_INVALID" in said):
        return Unauthorized(f"{place}: wants an API key, or another; {server.remedy}")
    reason = f"({message or 'no reason given'})"
    if status == 402:
        return Busy(f"{place}: no credit is left for this key {reason}; pay, or wait for the next month", _LONGEST_WAIT)
    if status == 429:
        return Busy(
            f"{place}: too many requests, or the quota is used up {reason}; try later", _wait(retry_after, 20.0)
        )
    if status == 404:
        return BadRequest(f"{place}: no model {server.model!r} there, or the address is not the API's {reason}")
    if status == 413:
        return TooMuch(f"{place}: the request is larger than it takes {reason}; show fewer or smaller pictures")
    if status == 503 and _LOADING.search(message):
        wait = _wait(retry_after, _estimated(said))
        return Loading(f"{place}: the model is not in memory there yet; ask again in {wait:.0f} s", wait)
    if 300 <= status < 400:
        return Refused(f"{place}: answered {status}: it moves on to another address, which a key does not follow")
    if 400 <= status < 500 and status != 408:
        return BadRequest(f"{place}: answered {status} {reason}")
    return Refused(f"{place}: answered {status} {reason}", _wait(retry_after, 5.0))


def told(server: Server, said: bytes) -> str:
    """The server's own words on an error, in one line, without the key."""
    text = said.decode("utf-8", "replace")
    with contextlib.suppress(ValueError, RecursionError):
        text = _message(json.loads(text)) or text
    if server.secret:
        text = text.replace(server.secret, "***")
    line = " ".join(text.split())
    return "".join(letter for letter in line if letter.isprintable())[:_REASON].strip()


@contextlib.contextmanager
def _answered(
    server: Server, route: str, body: Mapping[str, Any], accept: str
) -> Iterator[tuple[str, Iterator[bytes]]]:
    """The kind of an answer of 200, and its bytes while they come."""
    try:
        import httpx2
    except ImportError:
        raise MissingDependency("a model on a server needs httpx2: pip install 'anmok[remote]'") from None
    until = time.monotonic() + server.seconds
    timeout = httpx2.Timeout(server.silence, connect=min(_CONNECT, server.silence))
    headers = {"content-type": "application/json", "accept": accept, "accept-encoding": "identity"}
    data = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
    url = f"{server.address.rstrip('/')}/{route}" if route else server.address
    try:
        client = httpx2.Client(timeout=timeout, follow_redirects=False, verify=_trusted())
        with client, client.stream("POST", url, content=data, headers={**headers, **server.headers}) as reply:
            if reply.status_code != 200:
                raise refused(server, reply.status_code, _first(reply.iter_raw()), reply.headers.get("retry-after", ""))
            kind = reply.headers.get("content-type", "").partition(";")[0].strip().lower()
            yield kind, _bounded(reply.iter_bytes(), server, until)
    except (httpx2.HTTPError, httpx2.StreamError) as error:
        raise Refused(f"{server.place}: no answer ({type(error).__name__}); is the server up?", 5.0) from None


@cache
def _trusted() -> ssl.SSLContext:
    """Whom TLS is checked against. Read once: that takes longer than a request to a near server."""
    import httpx2

    return httpx2.create_ssl_context()


def _bounded(pieces: Iterable[bytes], server: Server, until: float) -> Iterator[bytes]:
    count = 0
    for piece in pieces:
        count += len(piece)
        if count > server.most_bytes or time.monotonic() > until:
            raise Refused(f"{server.place}: its answer is too long or too slow in coming; try again", 5.0)
        yield piece


def _first(pieces: Iterable[bytes]) -> bytes:
    """As much of an error's body as can say something."""
    found = b""
    for piece in pieces:
        found += piece
        if len(found) > _ERROR_BYTES:
            break
    return found


def _data(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The data of each event; comments, which keep a line open, and all other fields are left out."""
    held, lines = b"", []
    for piece in pieces:
        *ready, held = (held + piece).split(b"\n")
        for line in ready:
            line = line.removesuffix(b"\r")
            if line.startswith(b"data:"):
                lines.append(line[5:])
            elif not line and lines:
                yield b"\n".join(lines)
                lines = []
    if held.startswith(b"data:"):
        lines.append(held[5:])
    if lines:
        yield b"\n".join(lines)


def _object(data: bytes, place: str) -> dict[str, Any]:
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise BadData(f"{place}: its answer is no JSON object, so it is no server of this API")
    return content


def _message(content: Any) -> str:
    """Of ``{"error": {"message": ..}}``, ``{"error": ".."}``, ``{"message": ..}``, or a list of such."""
    if isinstance(content, list):
        return _message(content[0]) if content else ""
    if not isinstance(content, dict):
        return ""
    error = content.get("error", content.get("message", content.get("detail")))
    return error if isinstance(error, str) else _message(error)


def _status(content: Mapping[str, Any]) -> int:
    """Of an error in the middle of a stream, which may say one of its own."""
    error = content["error"]
    codes = [error.get("code"), error.get("status")] if isinstance(error, dict) else []
    return next((code for code in codes if type(code) is int and 400 <= code < 600), 500)


def _wait(text: str, otherwise: float) -> float:
    """``Retry-After`` in seconds, where it is a sensible number of them."""
    is_number = text.isascii() and text.isdecimal() and len(text) < 7
    return min(float(text), _LONGEST_WAIT) if is_number else otherwise


def _estimated(said: bytes) -> float:
    """The seconds that a server gives for loading a model; 20 where it gives none."""
    try:
        return min(max(float(json.loads(said)["estimated_time"]), 1.0), _LONGEST_WAIT)
    except (ValueError, RecursionError, TypeError, KeyError):
        return 20.0
