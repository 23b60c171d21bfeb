"""One engine: its connections, whether it is well, which models it has, and how much it was given."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import secrets
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Final

import httpx2

from anmok.errors import Refused
from anmok.server.proxy import answers
from anmok.server.proxy.address import Upstream, is_name
from anmok.server.proxy.answers import EngineFailed, Incoming, Reply
from anmok.server.proxy.asking import Asked
from anmok.server.proxy.limits import Caps

log: Final = logging.getLogger("anmok.server")

FAILURES = 3  # checks in a row, after which an engine is down
_CHECK_SECONDS = 3.0
_CHECK_BYTES = 2**20
_MODELS = 1000
_KEEP_SECONDS = 4.0  # an idle connection; vLLM's and LMDeploy's own end is at 5
_WEIGHT = 0.2  # of a new first byte in the running mean
_JSON = "application/json"


class Unreachable(Refused):
    """No connection came about, so that nothing was sent: another engine may be asked."""


@dataclass(frozen=True, slots=True)
class Condition:
    """How an engine is. ``label`` is for metrics and callers, ``place`` for the log; seconds are ``None`` before the
    first."""

    label: str
    place: str
    is_up: bool
    failures: int
    models: tuple[str, ...]
    in_flight: int
    seconds_since_check: float | None
    seconds_to_first_byte: float | None


class Engine:
    """One of the engines behind this server."""

    def __init__(self, upstream: Upstream, label: str, caps: Caps) -> None:
        self.upstream = upstream
        self.label = label
        self.in_flight = 0
        self.last_asked = 0.0  # time.monotonic()
        self._caps = caps
        self._client: httpx2.AsyncClient | None = None
        self._models: dict[str, str] = {upstream.alias: upstream.model} if upstream.alias else {}
        self._is_up = False
        self._failures = 0
        self._checked: float | None = None
        self._first_byte: float | None = None

    @property
    def is_up(self) -> bool:
        return self._is_up

    @property
    def names(self) -> tuple[str, ...]:
        """The models that can be asked for, also while the engine is down."""
        return tuple(self._models)

    def condition(self) -> Condition:
        since = None if self._checked is None else time.monotonic() - self._checked
        place = self.upstream.place
        first = self._first_byte
        return Condition(self.label, place, self._is_up, self._failures, self.names, self.in_flight, since, first)

    def open(self) -> None:
        """Connections are made when they are needed; no proxy, redirect, cookie or ``.netrc`` has a say in them."""
        caps, key = self._caps, self.upstream.key
        self._client = httpx2.AsyncClient(
            headers={"accept-encoding": "identity", "user-agent": "anmok"}
            | ({"authorization": f"Bearer {key}"} if key else {}),
            timeout=httpx2.Timeout(
                connect=caps.connect_seconds,
                read=caps.read_seconds,
                write=caps.write_seconds,
                pool=caps.connect_seconds,
            ),
            limits=httpx2.Limits(
                max_connections=caps.in_flight + 4, max_keepalive_connections=32, keepalive_expiry=_KEEP_SECONDS
            ),
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            trust_env=False,
            follow_redirects=False,
        )

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()

    async def watch(self, period: float) -> None:
        """Check for ever, each ``period`` seconds, a little sooner or later so that engines are not checked at once."""
        while True:
            await asyncio.sleep(period * random.uniform(0.8, 1.2))
            await self.check()

    async def check(self) -> None:
        """Ask for its health and its models, and note what came of it."""
        try:
            async with asyncio.timeout(_CHECK_SECONDS):
                if self.upstream.health:
                    await self._got(self.upstream.health)
                models = self._offered(_listed(await self._got(f"{self.upstream.base}/models")))
        except (httpx2.HTTPError, httpx2.StreamError, TimeoutError, Refused) as error:
            self._note_failure(str(error) if isinstance(error, Refused) else type(error).__name__)
            return
        finally:
            self._checked = time.monotonic()
        if not self._is_up:
            log.info("engine is up", extra={"facts": {"engine": self.label, "place": self.upstream.place}})
        self._models, self._is_up, self._failures = models, True, 0

    async def ask(self, route: str, asked: Asked, *, model: str, request_id: str) -> Reply:
        """Send a request. It counts as in flight until the reply is closed.

        Raises:
            Unreachable: there was no connection, and nothing was sent.
            EngineFailed: it broke off, failed, or answered what is not passed on.
            EngineSilent: it did not answer in time.
            Refused: it takes no requests now.
        """
        work = _Work(self)
        self.last_asked = time.monotonic()
        started = time.perf_counter()
        ends = None if self._caps.total_seconds is None else self.last_asked + self._caps.total_seconds
        reply: Reply | None = None
        try:
            body = await asked.body_for(self._models[model] or model)
            work.response = response = await self._sent(route, body, request_id, is_stream=asked.is_stream)
            incoming = Incoming(response, self._caps, ends, lambda: self._note_first(time.perf_counter() - started))
            reply = await _reply(work, response, incoming, is_stream=asked.is_stream)
            return reply
        finally:
            if reply is None:  # also where the caller left: the engine must stop
                await asyncio.shield(asyncio.ensure_future(work.end()))

    async def _sent(self, route: str, body: bytes, request_id: str, *, is_stream: bool) -> httpx2.Response:
        client = self._opened()
        headers = {
            "content-type": _JSON,
            "accept": "text/event-stream" if is_stream else _JSON,
            "x-request-id": f"{request_id}-{secrets.token_hex(4)}",  # vLLM makes it the name of the work: never twice
        }
        request = client.build_request("POST", f"{self.upstream.base}/{route}", content=body, headers=headers)
        try:
            async with asyncio.timeout(self._caps.total_seconds):
                return await client.send(request, stream=True)
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout) as error:
            self._note_failure(type(error).__name__)
            raise Unreachable("the engine behind this model cannot be reached", 5.0) from None
        except (httpx2.HTTPError, TimeoutError) as error:
            self._note_failure(type(error).__name__)
            answers.unreachable(error)

    def _offered(self, names: list[str]) -> dict[str, str]:
        upstream = self.upstream
        if not upstream.alias:
            return {name: name for name in names if is_name(name)}
        if upstream.model or len(names) == 1:
            return {upstream.alias: upstream.model or names[0]}
        raise EngineFailed(f"it has {len(names)} models; say which one is {upstream.alias!r} with &model=NAME")

    async def _got(self, address: str) -> bytes:
        """The body of a 200.

        Raises:
            EngineFailed: another status, or more than a list of models has.
        """
        async with self._opened().stream("GET", address, timeout=_CHECK_SECONDS) as response:
            if response.status_code != 200:
                raise EngineFailed(f"its check answered with status {response.status_code}")
            body = bytearray()
            async for piece in response.aiter_raw():
                body += piece
                if len(body) > _CHECK_BYTES:
                    raise EngineFailed("its check answered without end")
            return bytes(body)

    def _opened(self) -> httpx2.AsyncClient:
        if self._client is None:
            raise EngineFailed("the engines are not started")
        return self._client

    def _note_failure(self, reason: str) -> None:
        self._failures += 1
        is_first = not self._models and self._failures == 1  # at the start
        if is_first or (self._is_up and self._failures >= FAILURES):
            self._is_up = False
            facts = {"engine": self.label, "place": self.upstream.place, "reason": reason}
            log.warning("engine is down", extra={"facts": facts})

    def _note_first(self, seconds: float) -> None:
        mean = self._first_byte
        self._first_byte = seconds if mean is None else mean + _WEIGHT * (seconds - mean)


class _Work:
    """One request in flight, counted once in and once out."""

    def __init__(self, engine: Engine) -> None:
        self.response: httpx2.Response | None = None
        self._engine = engine
        self._is_over = False
        engine.in_flight += 1

    async def end(self) -> None:
        if self._is_over:
            return
        self._is_over = True
        self._engine.in_flight -= 1
        if self.response is not None:
            await self.response.aclose()


async def _reply(work: _Work, response: httpx2.Response, incoming: Incoming, *, is_stream: bool) -> Reply:
    status = response.status_code
    answers.refused(status, response.headers)
    if status == 200 and answers.check(response, is_stream=is_stream):
        headers = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}
        return Reply(status, headers, incoming.events(), work.end)
    wait = None if status == 200 else answers.wait_of(response.headers)
    body = await (incoming.whole() if status == 200 else answers.error_of(incoming, status))
    await work.end()  # the engine is free, whenever the caller has taken the bytes
    headers = {"content-type": _JSON} | ({} if wait is None else {"retry-after": str(int(wait))})
    return Reply(status, headers, _one(body), work.end)


async def _one(piece: bytes) -> AsyncGenerator[bytes]:
    yield piece


def _listed(body: bytes) -> list[str]:
    """The names in an answer to ``/v1/models``.

    Raises:
        EngineFailed: it is no such answer, or names none.
    """
    try:
        content: Any = json.loads(body)
    except (ValueError, RecursionError):
        content = None
    rows = content.get("data") if isinstance(content, dict) else None
    rows = rows[:_MODELS] if isinstance(rows, list) else []
    names = [row["id"] for row in rows if isinstance(row, dict) and isinstance(row.get("id"), str)]
    if not names:
        raise EngineFailed("it lists no models")
    return names
