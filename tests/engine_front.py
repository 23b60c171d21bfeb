"""A server of ours in front of a stand-in of another engine, and what is sent through it."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import openai
import uvicorn
from PIL import Image as pillow

from anmok.errors import AnmokError
from anmok.server.proxy.asking import asked
from anmok.server.upstreams import Caps, Upstream, Upstreams
from anmok.wire import openai as shape
from upstream_stand_in import StandIn

CALLERS_KEY = "sk-the-callers-own-key-0123456789"
ENGINES_KEY = "engine-key-9876543210"
HELLO: list[Any] = [{"role": "user", "content": "What is this?"}]


class Front:
    """The least of a server: OpenAI's routes over ``Upstreams``, on a socket, with a thread for its loop."""

    def __init__(self, *addresses: str, **options: Any) -> None:
        parsed = [Upstream.parse(one, {"ENGINE_KEY": ENGINES_KEY}) for one in addresses]
        settings: dict[str, Any] = {"period": 0.1} | options
        self.upstreams = Upstreams(parsed, **settings)
        self._server = uvicorn.Server(
            uvicorn.Config(self._app, "127.0.0.1", 0, log_level="error", ws="none", lifespan="on", interface="asgi3")
        )
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    def __enter__(self) -> Front:
        self._thread.start()
        assert until(lambda: self._server.started)
        port = self._server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/v1"
        self._http = httpx2.Client(trust_env=False)
        self.client = openai.OpenAI(base_url=self.url, api_key=CALLERS_KEY, max_retries=0, http_client=self._http)
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()
        self._server.should_exit = True
        self._thread.join(5)

    def post(self, body: dict[str, Any] | bytes, route: str = "chat/completions") -> httpx2.Response:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self._http.post(f"{self.url}/{route}", content=data)

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await self.upstreams.start()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await self.upstreams.close()
            await send({"type": "lifespan.shutdown.complete"})
            return
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message["body"]
            if not message["more_body"]:
                break
        if scope["path"] == "/v1/models":
            listed = shape.models([(name, 0) for name in self.upstreams.names()])
            await _send(send, 200, json.dumps(listed).encode())
            return
        try:
            content = json.loads(body)
            model = content["model"] if isinstance(content, dict) else ""
            response = await self.upstreams.respond(receive, scope["path"], body, model=model, request_id="r-1")
        except AnmokError as error:
            await _send(send, error.status, json.dumps(shape.error_body(error)).encode())
            return
        if response is not None:
            await response(scope, receive, send)


async def unheard(message: Any) -> None:
    await asyncio.sleep(0)


async def _send(send: Callable[[Any], Awaitable[None]], status: int, body: bytes) -> None:
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def until(condition: Callable[[], bool], seconds: float = 5.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.01)
    return False


def picture(form: str = "PNG") -> bytes:
    file = io.BytesIO()
    pillow.new("RGB", (5, 4), (200, 10, 10)).save(file, form)
    return file.getvalue()


def data_address(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def looking(address: Any, **more: Any) -> list[dict[str, Any]]:
    """A conversation with one picture."""
    parts = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": address, **more}]
    return [{"role": "user", "content": parts}]


@contextmanager
def started(*engines: StandIn, query: str = "", **options: Any) -> Iterator[Front]:
    with Front(*(f"{one.kind}://127.0.0.1:{one.port}{query}" for one in engines), **options) as front:
        yield front


def plain() -> dict[str, Any]:
    return {"model": "tiny-vl", "messages": HELLO}


def streaming() -> dict[str, Any]:
    return plain() | {"stream": True}


def chat_of(more: dict[str, Any], route: str = "chat/completions") -> None:
    start: dict[str, Any] = {"chat/completions": {"messages": HELLO}, "completions": {"prompt": "a"}}.get(
        route, {"input": "a"}
    )
    asked(route, json.dumps({"model": "a"} | start | more).encode(), Caps())
