"""Models that other engines run, vLLM and LMDeploy above all: their names, their health, and requests passed to them.

    upstreams = Upstreams([Upstream.parse("vllm://gpu:8000?key_env=VLLM_KEY")])
    await upstreams.start()
    response = await upstreams.respond(request.receive, "chat/completions", body, model="qwen3-vl", request_id="a1")

One event loop throughout. See ``docs/engines.md`` for how such an engine is started.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from anmok.errors import Busy, Closing, Refused, UnknownModel
from anmok.server.door import left
from anmok.server.proxy import Caps, Condition, EngineFailed, EngineSilent, Reply, Upstream
from anmok.server.proxy.asking import INLINE, Asked, Fetch, asked
from anmok.server.proxy.engine import Engine, Unreachable

__all__ = ["Caps", "Condition", "EngineFailed", "EngineSilent", "Passing", "Reply", "Upstream", "Upstreams"]


class Passing(StreamingResponse):
    """A reply as a response: it is closed when it was sent, and when the client left before or meanwhile."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply, reply.status, reply.headers)
        self._reply = reply

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._reply.aclose()


class Upstreams:
    """The engines of a server. Where several have a model, the one with the fewest requests in flight is asked.

    ``fetch`` brings what is at an http(s) address in a request, at most so many bytes, guarded against addresses that
    are not public; without it such requests are refused. ``period`` is the seconds between two checks of an engine.
    """

    def __init__(
        self,
        upstreams: Sequence[Upstream],
        *,
        caps: Caps | None = None,
        fetch: Fetch | None = None,
        period: float = 5.0,
    ) -> None:
        self._caps = caps or Caps()
        self._fetch = fetch
        self._period = period
        self._engines = [Engine(one, f"{one.kind}-{i}", self._caps) for i, one in enumerate(upstreams)]
        self._watches: list[asyncio.Task[None]] = []
        self._is_open = False

    async def start(self) -> None:
        """Check every engine once, at the same time, and from now on by itself. One that is down is no error."""
        self._is_open = True
        for engine in self._engines:
            engine.open()
        await asyncio.gather(*(engine.check() for engine in self._engines))
        self._watches = [asyncio.create_task(engine.watch(self._period)) for engine in self._engines]

    async def close(self) -> None:
        """Close all connections, those in use too."""
        self._is_open = False
        for watch in self._watches:
            watch.cancel()
        await asyncio.gather(*self._watches, return_exceptions=True)
        self._watches = []
        for engine in self._engines:
            await engine.close()

    def names(self) -> list[str]:
        """The models that can be asked for, sorted; also those of an engine that is down for now."""
        return sorted({name for engine in self._engines for name in engine.names})

    def status(self) -> list[Condition]:
        """How each engine is, in the order given."""
        return [engine.condition() for engine in self._engines]

    async def send(self, route: str, body: bytes, *, model: str, request_id: str) -> Reply:
        """Pass a request on to an engine that has ``model``, under that engine's name for it.

        Cancelling this ends the request at the engine, as closing the reply does. Whether it streams, the body says.

        Args:
            route: ``chat/completions``, ``completions`` or ``embeddings``, with or without ``/v1/``.
            body: the JSON as it came. What its ``model`` says gives way to ``model``.
            model: one of ``names``; whether the caller may use it was checked before.
            request_id: goes with it in ``x-request-id``, made unique.

        Raises:
            BadRequest, BadMedia: the body may not pass; the message names the key.
            UnknownModel: no engine has it.
            Refused: its engines are down, or full (``Busy``), or failed (``EngineFailed``, ``EngineSilent``).
        """
        if not self._is_open:
            raise Closing("the server is shutting down", 5.0)
        route = route.removeprefix("/").removeprefix("v1/")
        request = await self._read(route, body)
        tried: list[Engine] = []
        while True:
            engine = self._chosen(model, tried)
            try:
                return await engine.ask(route, request, model=model, request_id=request_id)
            except Unreachable:
                tried.append(engine)

    async def respond(
        self, receive: Receive, route: str, body: bytes, *, model: str, request_id: str
    ) -> Passing | None:
        """As ``send``, for a client of ours: ``None`` where it leaves before the answer begins, and the engine stops.

        ``receive`` is the request's own; its body was read, so that only ``http.disconnect`` can come.
        """
        sending = asyncio.ensure_future(self.send(route, body, model=model, request_id=request_id))
        leaving = asyncio.ensure_future(left(receive))
        response: Passing | None = None
        try:
            await asyncio.wait((sending, leaving), return_when=asyncio.FIRST_COMPLETED)
            if not leaving.done():
                response = Passing(sending.result())
            return response
        finally:
            leaving.cancel()
            if response is None:
                await asyncio.shield(asyncio.ensure_future(_dropped(sending)))

    async def _read(self, route: str, body: bytes) -> Asked:
        if len(body) <= INLINE and self._fetch is None:
            return asked(route, body, self._caps)
        return await asyncio.to_thread(asked, route, body, self._caps, self._fetch)

    def _chosen(self, model: str, tried: Sequence[Engine]) -> Engine:
        having = [engine for engine in self._engines if model in engine.names]
        if not having and all(engine.names for engine in self._engines):
            raise UnknownModel(f"no engine behind this server has a model called {model[:60]!r}")
        able = [engine for engine in having if engine.is_up and engine not in tried]
        if not able:
            raise Refused(f"the engine of {model[:60]!r} is not there; it is asked again by itself", self._period)
        free = [engine for engine in able if engine.in_flight < self._caps.in_flight]
        if not free:
            raise Busy(f"the engine of {model[:60]!r} has {self._caps.in_flight} requests in flight, and takes no more")
        return min(free, key=lambda engine: (engine.in_flight, engine.last_asked))


async def _dropped(sending: asyncio.Future[Reply]) -> None:
    """End a request that nobody waits for, also where its answer came at the same moment."""
    sending.cancel()
    await asyncio.wait((sending,))
    if not sending.cancelled() and sending.exception() is None:
        await sending.result().aclose()
