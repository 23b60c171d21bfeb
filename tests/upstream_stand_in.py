"""A stand-in for an engine: no model, but the wire forms of vLLM and LMDeploy on a real socket, and their bad days.

The forms follow the servers' own response classes (vllm/entrypoints/openai, lmdeploy/serve/openai/protocol.py, 2026);
they were written down from those, not recorded from a running engine, which needs a GPU.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from dataclasses import dataclass, field
from typing import Any

WORDS = ("A ", "red ", "square", ".")
USAGE = {"prompt_tokens": 9, "total_tokens": 13, "completion_tokens": 4}
SECRET = "/srv/weights/secret-place"  # what an engine's errors may name, and no caller may read
_TICK = 0.05  # seconds between two pieces of a slow stream


@dataclass(frozen=True)
class Seen:
    """One request as it came in."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def content(self) -> Any:
        return json.loads(self.body)


@dataclass
class StandIn:
    """One engine. ``mood`` says how it answers; it can be set at any time.

    ``left`` is set with the time, on ``time.monotonic``, when a client leaves in the middle of an answer.
    """

    kind: str = "vllm"
    models: tuple[str, ...] = ("tiny-vl",)
    key: str = ""
    mood: str = "well"
    port: int = 0
    seen: list[Seen] = field(default_factory=list)
    left_at: float = 0.0
    left: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> StandIn:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def asked(self) -> list[Seen]:
        """The requests that were no checks."""
        return [one for one in self.seen if one.method == "POST"]

    def start(self) -> None:
        """Listen, on the port of the last time if there was one."""
        ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run(ready)), daemon=True)
        self._thread.start()
        assert ready.wait(5)

    def stop(self) -> None:
        """Gone, with every connection, as a process that was killed."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._end.set)
            self._thread.join(5)

    async def _run(self, ready: threading.Event) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        await self._end.wait()
        server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while True:
                await self._answer(await _request(reader), reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def _answer(self, seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.seen.append(seen)
        if self.key and seen.path != "/health" and seen.headers.get("authorization") != f"Bearer {self.key}":
            await _send(writer, 401, {"error": {"message": f"Unauthorized {self.key}"}})
        elif seen.path == "/health":
            await _send(
                writer, 503 if self.mood == "sick" else 200, b"" if self.kind == "vllm" else {"status": "healthy"}
            )
        elif seen.path == "/v1/models":
            rows = [{"id": name, "object": "model", "created": 1, "owned_by": self.kind} for name in self.models]
            await _send(writer, 200, {"object": "list", "data": rows})
        elif self.mood in _BAD:
            await self._bad(seen, writer)
        elif seen.path == "/v1/embeddings":
            row = {"index": 0, "object": "embedding", "embedding": [0.5, -0.25]}
            await _send(writer, 200, {"object": "list", "data": [row], "model": self.models[0], "usage": USAGE})
        elif self.mood == "silent":
            await self._wait_for_leaving(reader, 30)
        elif seen.content.get("stream"):
            await self._stream(seen, reader, writer)
        else:
            await _send(writer, 200, self._whole(seen), "set-cookie: session=abc; Path=/\r\n")

    async def _bad(self, seen: Seen, writer: asyncio.StreamWriter) -> None:
        status, body, headers = _BAD[self.mood]
        if self.mood == "refuses" and self.kind == "lmdeploy":
            body = {"object": "error", "type": "invalid_request_error", "code": 400, "param": None} | body["error"]
        await _send(writer, status, body, headers)

    def _whole(self, seen: Seen) -> dict[str, Any]:
        if seen.path == "/v1/completions":
            choice: dict[str, Any] = {"index": 0, "text": "".join(WORDS), "logprobs": None, "finish_reason": "stop"}
            return self._frame("cmpl-1", "text_completion", [choice]) | {"usage": USAGE}
        message: dict[str, Any] = {"role": "assistant", "content": "".join(WORDS)}
        if seen.content.get("tools"):
            call = {"name": "look", "arguments": '{"at": "left"}'}
            message = {"role": "assistant", "content": None}
            message["tool_calls"] = [{"id": "chatcmpl-tool-1", "type": "function", "function": call}]
        reason = "tool_calls" if "tool_calls" in message else "stop"
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reason}
        return self._frame("chatcmpl-1", "chat.completion", [choice]) | {"usage": USAGE}

    def _frame(self, name: str, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {"id": name, "object": kind, "created": 1, "model": self.models[0], "choices": choices}

    def _events(self, seen: Seen) -> list[bytes]:
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}, *({"content": word} for word in WORDS)]
        if seen.content.get("tools"):
            begin = {"index": 0, "id": "t1", "type": "function", "function": {"name": "look", "arguments": ""}}
            more = [{"index": 0, "function": {"arguments": piece}} for piece in ('{"at":', ' "left"}')]
            deltas = [{"role": "assistant"}, *({"tool_calls": [one]} for one in (begin, *more))]
        frames = [[{"index": 0, "delta": delta, "finish_reason": None}] for delta in deltas]
        frames.append([{"index": 0, "delta": {}, "finish_reason": "stop"}])
        rows = [self._frame("chatcmpl-1", "chat.completion.chunk", choices) for choices in frames]
        if (seen.content.get("stream_options") or {}).get("include_usage"):
            rows.append(self._frame("chatcmpl-1", "chat.completion.chunk", []) | {"usage": USAGE})
        return [b"data: " + json.dumps(row).encode() + b"\n\n" for row in rows]

    async def _stream(self, seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        events = self._events(seen)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n")
        writer.write(b"x-engine-host: inside\r\ntransfer-encoding: chunked\r\n\r\n")
        if self.mood == "slow":
            while not await self._wait_for_leaving(reader, _TICK):
                _chunk(writer, events[1])
            return
        if self.mood == "halves":
            raw = b"".join(events) + b"data: [DONE]\n\n"
            events = [raw[i : i + 37] for i in range(0, len(raw), 37)]
        if self.mood == "dies":
            events = [*events[:2], events[2][:20]]
        if self.mood == "trips":
            error = {"message": f"cannot open {SECRET}", "type": "server_error", "code": 500, "param": None}
            flat = {"object": "error"} | error if self.kind == "lmdeploy" else {"error": error}
            events = [*events[:2], b"data: " + json.dumps(flat).encode() + b"\n\n"]
        for event in events:
            _chunk(writer, event)
            await writer.drain()
            await asyncio.sleep(0.002)
        if self.mood == "dies":
            writer.transport.abort()
            return
        if self.mood not in ("halves", "stops"):
            _chunk(writer, b"data: [DONE]\n\n")
        _chunk(writer, b"")
        await writer.drain()

    async def _wait_for_leaving(self, reader: asyncio.StreamReader, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            if await asyncio.wait_for(reader.read(1), seconds) == b"":
                self.left_at = time.monotonic()
                self.left.set()
                return True
        return False


_BAD: dict[str, tuple[int, Any, str]] = {
    "fails": (500, {"error": {"message": f"CUDA error, see {SECRET}", "type": "InternalServerError", "code": 500}}, ""),
    "full": (503, {"error": {"message": SECRET}}, "retry-after: 7\r\n"),
    "locked": (401, {"error": {"message": SECRET}}, ""),
    "busy": (429, {"error": {"message": "too many", "type": "rate_limit_error", "code": 429}}, "retry-after: 3\r\n"),
    "refuses": (400, {"error": {"message": "max_tokens is\ntoo large", "type": "BadRequestError", "code": 400}}, ""),
    "details": (422, {"detail": [{"loc": ["body"], "msg": SECRET}]}, ""),
    "redirects": (307, b"", "location: http://127.0.0.1:9/elsewhere\r\n"),
    "page": (200, b"<html>sign in</html>", "content-type: text/html\r\n"),
    "zipped": (200, b"\x1f\x8b", "content-encoding: gzip\r\ncontent-type: application/json\r\n"),
    "endless": (200, b"[" + b"1," * 600_000 + b"1]", "content-type: application/json\r\n"),
    "wide": (200, {}, "x-wide: " + "w" * 200_000 + "\r\n"),
}


async def _request(reader: asyncio.StreamReader) -> Seen:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, path, _ = head[0].split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    return Seen(method, path, headers, await reader.readexactly(int(headers.get("content-length", 0))))


def _chunk(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(b"%x\r\n%s\r\n" % (len(data), data))


async def _send(writer: asyncio.StreamWriter, status: int, body: Any, headers: str = "") -> None:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    kind = "" if "content-type" in headers else "content-type: application/json\r\n"
    head = f"HTTP/1.1 {status} X\r\n{kind}{headers}content-length: {len(data)}\r\n\r\n"
    writer.write(head.encode("latin-1") + data)
    await writer.drain()
