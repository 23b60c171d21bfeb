"""What comes back from an engine: whole or piece by piece, counted, with errors in OpenAI's shape and no more of them.

An answer of 200 passes as it is. Of a 4xx only its message passes; of a 5xx nothing. A stream passes event by event,
as the events come; one that breaks ends with an event that says so, which OpenAI's clients raise as an ``APIError``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Final, NoReturn

import httpx2

from anmok.errors import Refused
from anmok.server.proxy.limits import Caps

_DONE: Final = re.compile(rb"(?:^|[\r\n])data: ?\[DONE\]")
_EVENT: Final = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_ERROR_BYTES = 65_536
_LONGEST = 500  # letters of an engine's message
_TYPE: Final = re.compile(r"[A-Za-z_]{1,60}")
_NOT_NOW = (503, 529)
_MAX_WAIT = 300.0  # seconds that an engine may ask a caller to wait


class EngineFailed(Refused):
    """The engine behind a model could not answer, or answered what cannot be passed on."""

    status = 502


class EngineSilent(Refused):
    """The engine behind a model did not answer in time."""

    status = 504


class Reply:
    """An answer on its way: ``async for piece in reply`` under ``async with reply``.

    Leaving it early, or a client that leaves, closes the connection to the engine, which ends its work there.
    """

    def __init__(
        self,
        status: int,
        headers: Mapping[str, str],
        pieces: AsyncGenerator[bytes],
        close: Callable[[], Awaitable[None]],
    ) -> None:
        self.status = status
        self.headers = dict(headers)
        self._pieces = pieces
        self._close = close
        self._closing: asyncio.Future[None] | None = None

    async def __aenter__(self) -> Reply:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._pieces

    async def aclose(self) -> None:
        """Done with it. May be called twice; the closing goes on where the caller is cancelled meanwhile."""
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._end())
        await asyncio.shield(self._closing)

    async def _end(self) -> None:
        await self._close()
        with contextlib.suppress(RuntimeError):  # somebody is still waiting for its next piece, and gets an error
            await self._pieces.aclose()


class Incoming:
    """One response of an engine, read under the caps. ``first`` is called once, when its first byte is here."""

    def __init__(self, response: httpx2.Response, caps: Caps, ends: float | None, first: Callable[[], None]) -> None:
        self._response = response
        self._caps = caps
        self._ends = ends  # time.monotonic()
        self._first = first
        self._raw = response.aiter_raw()
        self._count = 0

    async def next(self) -> bytes:
        """The next bytes; empty at the end.

        Raises:
            EngineFailed: the connection broke, or there is too much of it.
            EngineSilent: nothing comes any more.
        """
        try:
            async with asyncio.timeout(None if self._ends is None else self._ends - time.monotonic()):
                piece = await anext(self._raw)
        except StopAsyncIteration:
            return b""
        except (TimeoutError, httpx2.TimeoutException):
            raise EngineSilent("the engine behind this model stopped in the middle of its answer") from None
        except (httpx2.HTTPError, httpx2.StreamError):
            raise EngineFailed("the engine behind this model broke off in the middle of its answer") from None
        if piece and not self._count:
            self._first()
        self._count += len(piece)
        if self._count > self._caps.answer_bytes:
            raise EngineFailed("the engine behind this model answered more than this server passes on")
        return piece

    async def whole(self, limit: int | None = None) -> bytes:
        """All of it; with ``limit``, no more than is needed to see that it is longer."""
        pieces = [await self.next()]
        while pieces[-1] and (limit is None or sum(map(len, pieces)) <= limit):
            pieces.append(await self.next())
        return b"".join(pieces)

    async def events(self) -> AsyncGenerator[bytes]:
        """A stream of events. Whole ones pass as they came and when they came; half of one waits for its rest.

        A break is one more event, with the error. After an error, also one of the engine's own, nothing comes: no
        ``[DONE]``.
        """
        held = bytearray()
        is_done = has_failed = False
        try:
            while piece := await self.next():
                searched = max(0, len(held) - 3)
                held += piece
                end = max((found.end() for found in _EVENT.finditer(held, searched)), default=0)
                if len(held) - end > self._caps.event_bytes:
                    raise EngineFailed("the engine behind this model sent an event that is too long")
                if end and not is_done and not has_failed:
                    ready, has_failed = _until_error(bytes(held[:end]))
                    is_done = _DONE.search(ready) is not None
                    yield ready
                del held[:end]
            if not is_done and not has_failed:
                raise EngineFailed("the engine behind this model ended its answer before it was complete")
        except (EngineFailed, EngineSilent) as error:
            if not is_done and not has_failed:
                yield _event(error)


def check(response: httpx2.Response, *, is_stream: bool) -> bool:
    """Whether a response of 200 is a stream of events, and not one piece of JSON.

    Raises:
        EngineFailed: it is neither, or compressed although nobody asked for that.
    """
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise EngineFailed("the engine behind this model compressed its answer")
    if kind == "text/event-stream" and is_stream:
        return True
    if kind != "application/json":
        raise EngineFailed("the engine behind this model answered something that is no JSON")
    return False


def refused(status: int, headers: Mapping[str, str]) -> None:
    """Raise what a status that is not passed on means for the caller.

    Raises:
        Refused: 503; with the wait that the engine asks for.
        EngineFailed: any other of 5xx, a redirect, or a refusal of our own key, which is not the caller's.
    """
    if status in _NOT_NOW:
        raise Refused("the engine behind this model takes no requests now", wait_of(headers) or 5.0)
    if status in (401, 403):
        raise EngineFailed("the engine behind this model does not let this server in", 60.0)
    if not (status == 200 or 400 <= status < 500):
        raise EngineFailed(f"the engine behind this model failed (status {status})", 5.0)


def public_error(status: int, body: bytes) -> bytes:
    """The body of a 4xx in OpenAI's shape, of which an engine's own has only its message, type and parameter."""
    try:
        content = json.loads(body)
    except ValueError:
        content = None
    return json.dumps({"error": _error(content, status)}, ensure_ascii=False).encode("utf-8", "replace")


def wait_of(headers: Mapping[str, str]) -> float | None:
    """``Retry-After`` in seconds, where it is a sensible number of them."""
    text = headers.get("retry-after", "")
    return min(float(text), _MAX_WAIT) if text.isascii() and text.isdecimal() and len(text) < 7 else None


async def error_of(incoming: Incoming, status: int) -> bytes:
    """The body that a caller gets for a 4xx."""
    body = await incoming.whole(_ERROR_BYTES)
    return public_error(status, body if len(body) <= _ERROR_BYTES else b"")


def unreachable(error: Exception) -> NoReturn:
    """Raise what it means that a request got no response."""
    if isinstance(error, httpx2.TimeoutException | TimeoutError):
        raise EngineSilent("the engine behind this model did not answer in time", 5.0) from None
    raise EngineFailed("the engine behind this model broke off before it answered", 5.0) from None


def _error(content: object, status: int) -> dict[str, Any]:
    """Of vLLM's ``{"error": {...}}``, and of LMDeploy's and SGLang's flat ``{"object": "error", ...}``."""
    found = content if isinstance(content, dict) else {}
    if isinstance(found.get("error"), dict):
        found = found["error"]
    message, kind, parameter = found.get("message"), found.get("type"), found.get("param")
    if status >= 500 or not isinstance(message, str) or not message.strip():
        message = f"the engine behind this model refused the request (status {status})"
        message = "the engine behind this model failed" if status >= 500 else message
    is_type = isinstance(kind, str) and _TYPE.fullmatch(kind) is not None
    return {
        "message": " ".join(message.split())[:_LONGEST],
        "type": kind if is_type else "server_error" if status >= 500 else "invalid_request_error",
        "param": parameter[:100] if isinstance(parameter, str) else None,
        "code": "engine_failed" if status >= 500 else "engine_refused",
    }


def _event(error: Refused) -> bytes:
    content = {"message": str(error), "type": "server_error", "param": None, "code": "engine_failed"}
    return b"data: " + json.dumps({"error": content}).encode() + b"\n\n"


def _until_error(events: bytes) -> tuple[bytes, bool]:
    """The events up to the first that is an error, that one rewritten; and whether there was one.

    A quote inside a text is escaped, so that the bytes ``"error"`` are a key or a value of the event itself.
    """
    if b'"error"' not in events:
        return events, False
    start = 0
    for found in _EVENT.finditer(events):
        try:
            content = json.loads(events[start : found.end()].strip().removeprefix(b"data:"))
        except ValueError:
            content = None
        if isinstance(content, dict) and (isinstance(content.get("error"), dict) or content.get("object") == "error"):
            code = (content.get("error") or content).get("code")
            error = _error(content, code if type(code) is int else 500)
            return events[:start] + b"data: " + json.dumps({"error": error}).encode() + b"\n\n", True
        start = found.end()
    return events, False
