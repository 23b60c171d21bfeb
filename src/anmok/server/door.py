"""The one door of a server, before any route: who asks, from where, how much, and what became of it.

A body is read here, whole, within a limit for one request and a budget for all that are under way; the routes get
bytes. Everything that is refused here costs no more than its headers.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from anmok.errors import AnmokError, BadRequest, Busy, Closing, Forbidden, ModelFailed, Refused, TooMuch
from anmok.server.callers import Caller, Callers
from anmok.server.refusing import TooSlow, WrongHost, refusal
from anmok.server.settings import Settings
from anmok.server.tracing import RequestTrace, Tracing

if TYPE_CHECKING:  # the page is optional, and brings all of gradio
    from anmok.server.visitors import Visitors

T = TypeVar("T")

log: Final = logging.getLogger("anmok.server")

OPEN = frozenset({"/livez", "/readyz", "/health", "/healthz", "/ping", "/v2/health/live", "/v2/health/ready"})
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})
_LOOK_SECONDS = 0.5
_PORT = re.compile(r":[0-9]{1,5}$")
_SINGLE = (b"host", b"origin")  # who reads the first of two and who the last must not be led to disagree
_WHOLE = frozenset({"/metrics"})  # names every model, so that a key for some of them is not enough


class Counts(Protocol):
    """Who is told what became of a request."""

    def answered(self, route: str, model: str, status: int, seconds: float) -> None: ...

    def rejected(self, reason: str) -> None: ...

    def entered(self) -> None: ...

    def left(self) -> None: ...


class Room(Protocol):
    """Who knows whether there is room for a request, before its body is read."""

    is_draining: bool
    under_way: int  # requests that were let in and are not answered; health does not count

    def check_room(self, path: str, caller: Caller | None) -> None: ...


class Gone(Exception):
    """The client left; there is nobody to answer."""


async def left(receive: Receive) -> None:
    """Returns when the client has left. The body was read, so that nothing else can come."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def unless_left(receive: Receive, waiting: asyncio.Future[T]) -> T:
    """What is waited for; it is cancelled where the client leaves before.

    Raises:
        Gone: he did.
    """
    leaving = asyncio.ensure_future(left(receive))
    try:
        await asyncio.wait((waiting, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done():
            raise Gone
        return waiting.result()
    finally:
        leaving.cancel()
        waiting.cancel()


class Door:
    """ASGI middleware around the application."""

    def __init__(self, app: ASGIApp, settings: Settings, counts: Counts, desk: Room, tracing: Tracing) -> None:
        self._app = app
        self._settings = settings
        self._counts = counts
        self._tracing = tracing
        self._desk = desk
        self._callers = Callers(settings.keys)
        self.visitors: Visitors | None = None  # of the page, where there is one
        self._hosts = _LOCAL_HOSTS | {host.lower() for host in settings.hosts}
        self._origins = frozenset(origin.lower().rstrip("/") for origin in settings.origins)
        self._in_flight = 0  # bytes of bodies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        visit = _Visit(scope, send)
        self._counts.entered()
        visit.state["trace"] = self._tracing.begin(scope["method"], visit.headers)
        try:
            await self._admitted(visit, receive)
        except Gone:
            visit.status = 499  # as nginx notes it; nobody receives it
        except AnmokError as error:
            await self._refused(visit, error)
        finally:
            self._in_flight -= visit.reserved
            self._counts.left()
            self._told(visit)

    async def _admitted(self, visit: _Visit, receive: Receive) -> None:
        scope, headers, state = visit.scope, visit.headers, visit.state
        self._check_place(scope, headers)
        scope["state"] = state
        if self.visitors is not None and self.visitors.covers(scope["path"]):
            receive = self._until_drained(receive)
            state["caller"] = caller = self._visitor(self.visitors, scope["path"], headers)
            if caller is None:
                page = self._settings.page
                where = f"{page.prefix if page else ''}{self.visitors.login}"
                await RedirectResponse(where, 303)(scope, receive, visit.send)
                return
        elif scope["path"] not in OPEN:
            state["caller"] = caller = self._callers.caller(headers)
            if caller.models and scope["path"] in _WHOLE:
                raise Forbidden("this address is for keys that may use all models")
            if self._desk.is_draining:
                raise Closing("the server is shutting down", 5.0)
        is_counted = scope["path"] not in OPEN
        self._desk.under_way += is_counted
        try:
            if scope["method"] not in ("GET", "HEAD", "OPTIONS"):
                self._desk.check_room(scope["path"], state["caller"])
                state["body"] = await self._body(visit, receive)
            await self._app(scope, receive, visit.send)
        finally:
            self._desk.under_way -= is_counted

    def _visitor(self, visitors: Visitors, path: str, headers: dict[bytes, bytes]) -> Caller | None:
        """Whoever looks at the page; None for one who has to show a key first.

        Raises:
            Unauthorized: the same, for what lies below the page.
        """
        if path == visitors.login or not self._callers.are_known:
            return Caller()
        known = visitors.caller(headers)
        if known is None and b"text/html" not in headers.get(b"accept", b""):
            return self._callers.caller(headers)  # programs may use the page's addresses too, with a key
        return known

    def _until_drained(self, receive: Receive) -> Receive:
        """The page's streams last as long as somebody looks; the server's end is the end of them."""

        async def received() -> Message:
            waiting = asyncio.ensure_future(receive())
            try:
                while not (await asyncio.wait({waiting}, timeout=_LOOK_SECONDS))[0]:
                    if self._desk.is_draining:
                        return {"type": "http.disconnect"}
                return waiting.result()
            finally:
                waiting.cancel()

        return received

    def _check_place(self, scope: Scope, headers: dict[bytes, bytes]) -> None:
        """A page of somebody else's in the user's browser can reach this machine's own addresses: its ``Origin`` gives
        it away, and its ``Host`` where a name was made to point here.

        Raises:
            WrongHost: not one of this server's names.
            Forbidden: a page from another origin.
        """
        names = [name for name, _ in scope["headers"]]
        if any(names.count(name) > 1 for name in _SINGLE):
            raise WrongHost("the request has more than one Host or Origin")
        host = headers.get(b"host", b"").decode("latin-1").lower()
        bare = _PORT.sub("", host)
        if (self._settings.is_loopback or self._settings.hosts) and bare not in self._hosts:
            raise WrongHost("this server is not called that; --allow-host lets another name in")
        origin = headers.get(b"origin", b"").decode("latin-1").lower()
        if origin and origin.partition("://")[2] != host and origin not in self._origins:
            raise Forbidden("pages of other origins are not let in; --allow-origin does that")

    async def _body(self, visit: _Visit, receive: Receive) -> bytes:
        """All of it. Room is taken for what has come, not for what was announced: announcing costs nothing.

        Raises:
            TooMuch: over the limit.
            Busy: the bodies under way leave no room now.
            TooSlow: it takes too long.
            Gone: the client left.
        """
        limit = min(self._settings.intake.body_bytes, self._settings.flight_bytes)
        told = visit.headers.get(b"content-length", b"").lstrip(b"0")[:20]  # no more digits than 64 bits have
        if told.isdigit():
            self._check_size(int(told), limit)
            self._check_room(int(told))
        try:
            async with asyncio.timeout(self._settings.body_seconds):
                return await self._read(visit, receive, limit)
        except TimeoutError:
            raise TooSlow(f"the body was not here after {self._settings.body_seconds:g} s") from None

    async def _read(self, visit: _Visit, receive: Receive, limit: int) -> bytes:
        chunks, size, is_more = [], 0, True
        while is_more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Gone
            chunk = message.get("body", b"")
            is_more = message.get("more_body", False)
            size += len(chunk)
            self._check_size(size, limit)
            self._check_room(len(chunk))
            self._in_flight += len(chunk)
            visit.reserved = size
            chunks.append(chunk)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _check_size(self, size: int, limit: int) -> None:
        if size > limit:
            raise TooMuch(f"the body has {size:,} bytes or more; {limit:,} are the limit")

    def _check_room(self, nbytes: int) -> None:
        if self._in_flight + nbytes > self._settings.flight_bytes:
            raise Busy("the bodies of other requests fill the memory that is set aside for them", 1.0)

    async def _refused(self, visit: _Visit, error: AnmokError) -> None:
        visit.state["error"] = error
        if visit.status:  # the answer had begun: all that is left is to break it off
            raise error
        await refusal(visit.scope["path"], error, visit.request_id)(visit.scope, _nothing, visit.send)

    def _told(self, visit: _Visit) -> None:
        seconds = time.perf_counter() - visit.started
        route = getattr(visit.scope.get("route"), "path", "")
        model = str(visit.state.get("model", ""))
        self._counts.answered(route, model, visit.status, seconds)
        error = visit.state.get("error")
        trace: RequestTrace = visit.state["trace"]
        trace.end(route, visit.status, type(error).__name__.lower() if error else "")
        if isinstance(error, Refused):
            self._counts.rejected(type(error).__name__.lower())
        if not log.isEnabledFor(logging.INFO):
            return
        caller = visit.state.get("caller")
        facts = {
            "request_id": visit.request_id,
            "method": visit.scope["method"],
            "route": route,
            "model": model,
            "status": visit.status,
            "ms": round(seconds * 1000, 2),
            "bytes": visit.reserved,
            "key": caller.name if caller else "",
        }
        if trace.trace_id:
            facts["trace_id"] = trace.trace_id
        log.info("request", extra={"facts": facts})


class _Visit:
    """One request on its way through the door."""

    __slots__ = ("_send", "headers", "request_id", "reserved", "scope", "started", "state", "status")

    def __init__(self, scope: Scope, send: Send) -> None:
        self.scope = scope
        self.started = time.perf_counter()
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        given = self.headers.get(b"x-request-id", b"")
        self.request_id = given.decode() if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        self.reserved = 0
        self.status = 0
        self.state: dict[str, Any] = {"request_id": self.request_id, "model": "", "caller": None, "body": b""}
        self._send = send

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message = {**message, "headers": [*message["headers"], (b"x-request-id", self.request_id.encode())]}
        await self._send(message)


async def _nothing() -> Message:
    return {"type": "http.disconnect"}


def broken(error: Exception, request_id: str) -> AnmokError:
    """What a client is told of an error that is not one of ours; the log has all of it."""
    if isinstance(error, RecursionError):
        return BadRequest("the body is nested too deep")
    log.error("request failed", exc_info=error, extra={"facts": {"request_id": request_id}})
    return ModelFailed("the server could not answer; its log says why")
