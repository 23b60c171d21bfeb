"""Requests passed to other engines: OpenAI's own clients, a server around ``Upstreams``, a stand-in; real sockets."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import logging
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import openai
import pytest
import uvicorn
from PIL import Image as pillow

from anmok.errors import AnmokError, BadRequest, Busy, UnknownModel
from anmok.server.proxy import keys
from anmok.server.proxy.answers import Incoming
from anmok.server.proxy.asking import asked
from anmok.server.upstreams import Caps, Upstream, Upstreams
from anmok.wire import openai as shape
from upstream_stand_in import SECRET, USAGE, WORDS, StandIn

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


async def _unheard(message: Any) -> None:
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


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[StandIn, Front]]:
    with StandIn(key=ENGINES_KEY) as engine, Front(f"vllm://127.0.0.1:{engine.port}?key_env=ENGINE_KEY") as front:
        yield engine, front


@pytest.fixture
def both(pair: tuple[StandIn, Front]) -> tuple[StandIn, Front]:
    """An engine in a good mood, and a server before it."""
    engine, front = pair
    engine.mood = "well"
    engine.seen.clear()
    engine.left.clear()
    assert until(lambda: front.upstreams.status()[0].is_up)
    return pair


@contextmanager
def started(*engines: StandIn, query: str = "", **options: Any) -> Iterator[Front]:
    with Front(*(f"{one.kind}://127.0.0.1:{one.port}{query}" for one in engines), **options) as front:
        yield front


# What passes


def test_a_chat_passes_byte_for_byte_with_the_engines_key_and_not_the_callers(both: tuple[StandIn, Front]) -> None:
    engine, front = both
    answer = front.client.chat.completions.create(model="tiny-vl", messages=HELLO, temperature=0.5)
    assert answer.choices[0].message.content == "".join(WORDS)
    assert answer.usage is not None
    assert answer.usage.total_tokens == 13
    [seen] = engine.asked
    assert seen.path == "/v1/chat/completions"
    assert seen.headers["authorization"] == f"Bearer {ENGINES_KEY}"
    assert seen.headers["x-request-id"].startswith("r-1-")
    assert CALLERS_KEY not in str(seen.headers)
    body = b'{ "model":"tiny-vl",\n "messages" : [{"role":"user","content":"\\u00e9 \xc3\xa9"}], "seed": 1e2 }'
    assert front.post(body).status_code == 200
    assert engine.asked[1].body == body
    assert "cookie" not in engine.asked[1].headers  # the first answer brought one
    assert seen.headers["x-request-id"] != engine.asked[1].headers["x-request-id"]


def test_models_of_the_engine_are_listed(both: tuple[StandIn, Front]) -> None:
    assert [one.id for one in both[1].client.models.list()] == ["tiny-vl"]


def test_a_stream_keeps_usage_and_done(both: tuple[StandIn, Front]) -> None:
    _, front = both
    stream = front.client.chat.completions.create(
        model="tiny-vl",
        messages=HELLO,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    assert "".join(one.choices[0].delta.content or "" for one in chunks if one.choices) == "".join(WORDS)
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.model_dump(exclude_none=True) == USAGE
    raw = front.post({"model": "tiny-vl", "messages": HELLO, "stream": True})
    assert raw.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert raw.text.endswith("data: [DONE]\n\n")
    assert "x-engine-host" not in raw.headers


def test_a_stream_comes_as_it_is_made_and_its_first_byte_is_timed(both: tuple[StandIn, Front]) -> None:
    engine, front = both
    engine.mood = "slow"  # a piece each 50 ms, without end
    begun = time.monotonic()
    with httpx2.stream("POST", f"{front.url}/chat/completions", json=_streaming(), trust_env=False) as response:
        times = [time.monotonic() - begun for _, _ in zip(range(5), response.iter_raw(), strict=False)]
    assert times[-1] - times[0] > 0.1  # had they been gathered, they would have come at once
    seconds = front.upstreams.status()[0].seconds_to_first_byte
    assert seconds is not None
    assert 0 < seconds < 2


def test_half_events_wait_for_their_rest(both: tuple[StandIn, Front]) -> None:
    engine, front = both
    engine.mood = "halves"
    with httpx2.stream("POST", f"{front.url}/chat/completions", json=_streaming(), trust_env=False) as response:
        pieces = list(response.iter_raw())
    assert b"".join(pieces).count(b"data: ") == len(WORDS) + 3  # the role, the words, the reason, [DONE]
    assert b"".join(pieces).endswith(b"data: [DONE]\n\n")


def test_tool_calls_pass_whole_and_streamed(both: tuple[StandIn, Front]) -> None:
    engine, front = both
    tool: Any = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
    ask: Any = {"model": "tiny-vl", "messages": HELLO, "tools": [tool]}
    [call] = front.client.chat.completions.create(**ask).choices[0].message.tool_calls or []
    assert call.type == "function"
    assert (call.function.name, call.function.arguments) == ("look", '{"at": "left"}')
    assert engine.asked[0].content["tools"] == [tool]
    deltas = [one.choices[0].delta for one in front.client.chat.completions.create(**ask, stream=True) if one.choices]
    pieces = [piece.function for delta in deltas for piece in delta.tool_calls or []]
    assert "".join(piece.arguments or "" for piece in pieces if piece) == '{"at": "left"}'
    answered: Any = [*HELLO, {"role": "assistant", "content": None, "tool_calls": [call.model_dump()]}]
    answered.append({"role": "tool", "tool_call_id": call.id, "content": "a wall"})
    assert front.client.chat.completions.create(model="tiny-vl", messages=answered).choices[0].finish_reason == "stop"


def test_a_picture_passes_as_it_came(both: tuple[StandIn, Front]) -> None:
    engine, front = both
    address = data_address(picture("JPEG"), "image/jpeg")
    messages: Any = looking({"url": address, "detail": "low"})
    front.client.chat.completions.create(model="tiny-vl", messages=messages)
    assert engine.asked[0].content["messages"] == messages


def test_completions_and_embeddings_pass(both: tuple[StandIn, Front]) -> None:
    _, front = both
    assert front.client.completions.create(model="tiny-vl", prompt="A").choices[0].text == "".join(WORDS)
    vector = front.client.embeddings.create(model="tiny-vl", input=["a"], encoding_format="float").data[0].embedding
    assert vector == [0.5, -0.25]


def test_the_asynchronous_client_with_many_at_once(both: tuple[StandIn, Front]) -> None:
    _, front = both

    async def ask() -> list[str]:
        async with (
            httpx2.AsyncClient(trust_env=False) as http,
            openai.AsyncOpenAI(base_url=front.url, api_key=CALLERS_KEY, max_retries=0, http_client=http) as client,
        ):

            async def one() -> str:
                stream = await client.chat.completions.create(model="tiny-vl", messages=HELLO, stream=True)
                return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

            return await asyncio.gather(*(one() for _ in range(16)))

    assert asyncio.run(ask()) == ["".join(WORDS)] * 16
    assert until(lambda: front.upstreams.status()[0].in_flight == 0)


# Who leaves, and who breaks


def test_a_client_that_leaves_a_stream_ends_it_at_the_engine(both: tuple[StandIn, Front]) -> None:
    engine, front = both
    engine.mood = "slow"
    with httpx2.stream("POST", f"{front.url}/chat/completions", json=_streaming(), trust_env=False) as response:
        next(response.iter_raw())
    left = time.monotonic()
    assert engine.left.wait(2)
    assert engine.left_at - left < 1
    assert until(lambda: front.upstreams.status()[0].in_flight == 0)


def test_a_client_that_leaves_before_the_answer_ends_it_too(both: tuple[StandIn, Front]) -> None:
    engine, front = both
    engine.mood = "silent"
    with pytest.raises(httpx2.ReadTimeout):
        httpx2.post(f"{front.url}/chat/completions", json=_plain(), timeout=0.3, trust_env=False)
    left = time.monotonic()
    assert engine.left.wait(2)
    assert engine.left_at - left < 1
    assert until(lambda: front.upstreams.status()[0].in_flight == 0)


@pytest.mark.parametrize("mood", ["dies", "stops", "trips", "trips lmdeploy"])
def test_an_engine_that_breaks_in_mid_stream_ends_with_an_error(
    both: tuple[StandIn, Front], mood: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, front = both
    engine.mood, _, kind = mood.partition(" ")
    monkeypatch.setattr(engine, "kind", kind or "vllm")
    stream = front.client.chat.completions.create(model="tiny-vl", messages=HELLO, stream=True)
    words: list[str | None] = []
    with pytest.raises(openai.APIError, match="the engine behind this model") as caught:
        words.extend(chunk.choices[0].delta.content for chunk in stream)
    assert words[:2] == ["", "A "]  # what came before the break came through
    assert caught.value.code == "engine_failed"
    text = front.post(_streaming()).text
    assert "[DONE]" not in text
    assert SECRET not in text
    for line in text.split("\n\n")[:-1]:
        json.loads(line.removeprefix("data: "))  # no half of an event
    assert until(lambda: front.upstreams.status()[0].in_flight == 0)


def test_a_client_that_leaves_at_the_moment_of_the_answer_leaves_nothing_behind() -> None:
    async def ask() -> None:
        upstreams = Upstreams([Upstream.parse(f"vllm://127.0.0.1:{engine.port}")])
        await upstreams.start()
        body = json.dumps(_streaming()).encode()

        def leaves_after(seconds: float) -> Callable[[], Awaitable[dict[str, Any]]]:
            async def receive() -> dict[str, Any]:
                await asyncio.sleep(seconds)
                return {"type": "http.disconnect"}

            return receive

        for i in range(30):  # an answer begins after one to two milliseconds
            receive = leaves_after(i * 2e-4)
            response = await upstreams.respond(receive, "completions", completion, model="tiny-vl", request_id="a")
            assert response is None or response.status_code == 200
            response = await upstreams.respond(receive, "chat/completions", body, model="tiny-vl", request_id="a")
            if response is not None:
                await response({"type": "http"}, leaves_after(0), _unheard)
            assert upstreams.status()[0].in_flight == 0
        await upstreams.close()

    completion = json.dumps({"model": "tiny-vl", "prompt": "a"}).encode()
    with StandIn() as engine:
        asyncio.run(ask())


def test_silence_in_mid_stream_and_before_it_have_an_end() -> None:
    caps = Caps(total_seconds=0.3)
    with StandIn(mood="slow") as engine, started(engine, caps=caps) as front:
        text = front.post(_streaming()).text
        assert json.loads(text.split("\n\n")[-2].removeprefix("data: "))["error"]["code"] == "engine_failed"
        engine.mood = "silent"
        answer = front.post(_plain())
        assert (answer.status_code, answer.json()["error"]["type"]) == (504, "server_error")


@pytest.mark.parametrize(
    ("mood", "status"),
    [
        *(("fails", 502), ("locked", 502), ("full", 503), ("redirects", 502), ("page", 502), ("zipped", 502)),
        *(("endless", 502), ("wide", 502), ("details", 422)),
    ],
)
@pytest.mark.parametrize("is_stream", [False, True])
def test_what_is_not_passed_on(both: tuple[StandIn, Front], mood: str, status: int, is_stream: bool) -> None:
    engine, front = both
    engine.mood = mood
    body = _streaming() if is_stream else _plain()
    if mood == "endless":
        with StandIn(mood=mood) as other, started(other, caps=Caps(answer_bytes=10**6)) as small:
            answer = small.post(body)
    else:
        answer = front.post(body)
    assert answer.status_code == status
    assert SECRET not in answer.text
    assert ENGINES_KEY not in answer.text
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    if mood != "details":
        assert "the engine behind this model" in answer.json()["error"]["message"]


@pytest.mark.parametrize("kind", ["vllm", "lmdeploy"])
def test_of_a_4xx_its_message_passes(kind: str) -> None:
    with StandIn(kind, mood="refuses") as engine, started(engine) as front:
        with pytest.raises(openai.BadRequestError) as caught:
            front.client.chat.completions.create(model="tiny-vl", messages=HELLO)
        assert caught.value.message.count("max_tokens is too large") == 1
        assert caught.value.code == "engine_refused"
        engine.mood = "busy"
        answer = front.post(_streaming())
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "3")


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\r"])
def test_events_are_found_wherever_a_piece_ends(end: bytes) -> None:
    events = [b'data: {"i": %d, "t": "\\n\\n"}' % i for i in range(3)] + [b": still here", b"data: [DONE]"]
    raw = b"".join(event + end for event in events)

    async def passed(size: int) -> list[bytes]:
        async def pieces() -> AsyncIterator[bytes]:
            for i in range(0, len(raw), size):
                yield raw[i : i + size]

        incoming = Incoming(httpx2.Response(200, content=pieces()), Caps(), None, lambda: None)
        return [piece async for piece in incoming.events()]

    for size in range(1, len(raw) + 1):
        found = asyncio.run(passed(size))
        assert b"".join(found) == raw
        assert all(piece.endswith(end) for piece in found)
        assert size > 1 or len(found) == len(events)  # none waits for the next


def test_an_event_without_end_is_cut_off() -> None:
    async def passed() -> list[bytes]:
        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(1000):
                yield b"x" * 100

        incoming = Incoming(httpx2.Response(200, content=pieces()), Caps(event_bytes=5000), None, lambda: None)
        return [piece async for piece in incoming.events()]

    [only] = asyncio.run(passed())
    assert "too long" in json.loads(only.removeprefix(b"data: "))["error"]["message"]


# Down, back, and several


def test_down_and_back_by_itself() -> None:
    with StandIn() as engine, started(engine) as front:
        engine.stop()
        assert until(lambda: not front.upstreams.status()[0].is_up)
        assert front.upstreams.status()[0].failures >= 3
        begun = time.monotonic()
        with pytest.raises(openai.InternalServerError) as caught:
            front.client.chat.completions.create(model="tiny-vl", messages=HELLO)
        assert caught.value.status_code == 503
        assert time.monotonic() - begun < 1  # it was known, and not tried
        assert front.upstreams.names() == ["tiny-vl"]
        engine.start()
        assert until(lambda: front.upstreams.status()[0].is_up)
        assert front.post(_plain()).status_code == 200


def test_an_engine_that_is_there_but_not_well_is_down() -> None:
    with StandIn("lmdeploy", mood="sick") as engine, started(engine) as front:
        assert until(lambda: front.upstreams.status()[0].failures >= 3)
        assert front.post(_plain()).status_code == 503  # its models were never told
        engine.mood = "well"
        assert until(lambda: front.upstreams.status()[0].is_up)
        assert front.post(_plain()).status_code == 200
        with pytest.raises(openai.NotFoundError):
            front.client.chat.completions.create(model="other", messages=HELLO)


def test_of_two_engines_the_one_with_less_to_do_is_asked_and_a_dead_one_is_passed_over() -> None:
    with StandIn() as first, StandIn("lmdeploy") as second, started(first, second, period=60) as front:
        first.mood = "slow"
        with httpx2.stream("POST", f"{front.url}/chat/completions", json=_streaming(), trust_env=False) as response:
            pieces = response.iter_raw()  # held: the stream ends with its iterator
            next(pieces)
            busy, free = (first, second) if first.asked else (second, first)
            for _ in range(3):
                free.mood = "well"
                assert front.post(_plain()).status_code == 200
            assert (len(busy.asked), len(free.asked)) == (1, 3)
        first.mood = "well"
        second.stop()  # not noticed yet: the next check is a minute away
        for _ in range(3):
            assert front.post(_plain()).status_code == 200


def test_a_full_engine_takes_no_more() -> None:
    async def ask() -> None:
        upstreams = Upstreams([Upstream.parse(f"vllm://127.0.0.1:{engine.port}")], caps=Caps(in_flight=1))
        await upstreams.start()
        body = json.dumps(_streaming()).encode()
        async with await upstreams.send("/v1/chat/completions", body, model="tiny-vl", request_id="a"):
            with pytest.raises(Busy, match="takes no more"):
                await upstreams.send("/v1/chat/completions", body, model="tiny-vl", request_id="b")
        async with asyncio.timeout(2):  # left by breaking off: the engine's work ends all the same
            async with await upstreams.send("/v1/chat/completions", body, model="tiny-vl", request_id="c") as reply:
                async for piece in reply:
                    assert piece.startswith(b"data: {")
                    break
            await reply.aclose()
        assert upstreams.status()[0].in_flight == 0
        with pytest.raises(UnknownModel):
            await upstreams.send("/v1/chat/completions", body, model="nobody", request_id="d")
        await upstreams.close()
        with pytest.raises(AnmokError, match="shutting down"):
            await upstreams.send("/v1/chat/completions", body, model="tiny-vl", request_id="e")

    with StandIn(mood="slow") as engine:
        asyncio.run(ask())


def test_an_alias_hides_the_engines_own_name() -> None:
    with StandIn(models=("/srv/weights/qwen",)) as engine:
        with started(engine) as front:
            assert front.upstreams.names() == []  # a path is no name
        with started(engine, query="?as=chat") as front:
            assert front.upstreams.names() == ["chat"]
            assert front.post({"model": "chat", "messages": HELLO, "seed": 7}).status_code == 200
            [seen] = engine.asked
            assert seen.content == {"model": "/srv/weights/qwen", "messages": HELLO, "seed": 7}


def test_no_proxy_of_the_environment_and_no_key_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    caplog.set_level(logging.DEBUG)
    with StandIn(key=ENGINES_KEY) as engine, Front(f"vllm://127.0.0.1:{engine.port}?key_env=ENGINE_KEY") as front:
        assert front.post(_plain()).status_code == 200
        engine.mood = "locked"
        assert front.post(_plain()).status_code == 502
        engine.stop()
        assert until(lambda: not front.upstreams.status()[0].is_up)
        assert ENGINES_KEY not in repr(front.upstreams.status())
    assert "engine is down" in caplog.text
    assert ENGINES_KEY not in caplog.text
    assert CALLERS_KEY not in caplog.text


# What does not pass


@pytest.mark.parametrize("key", sorted(keys.REFUSED))
def test_keys_that_make_an_engine_run_or_load_things_are_refused_by_name(key: str) -> None:
    for route in keys.ROUTES:
        with pytest.raises(BadRequest, match=f"^{key}: is not passed to an engine: ") as caught:
            _asked({key: "x"}, route)
        assert len(str(caught.value)) < 200
        _asked({key: None}, route)  # a client that writes out its defaults


def test_no_key_is_both_passed_and_refused() -> None:
    assert frozenset().union(*keys.ROUTES.values()).isdisjoint(keys.REFUSED)


@pytest.mark.parametrize(
    "address",
    [
        *("http://169.254.169.254/latest", "https://example.com/cat.png", "HTTP://example.com/cat.png"),
        *("file:///etc/passwd", "/etc/passwd", "./cat.png", "cat.png", "data:text/plain;base64,aGk=", "data:,hi"),
        *("data:image/png,hi", "ftp://example.com/cat.png", base64.b64encode(picture()).decode(), ""),
        *(" data:image/png;base64,aGk=", "data:image/png;base64,!!", data_address(b"no picture at all"), 7, ["x"]),
    ],
)
def test_addresses_that_an_engine_would_open_are_refused(address: Any) -> None:
    for messages in (looking({"url": address}), looking(address)):
        with pytest.raises(BadRequest, match=r"^messages\[0\]\.content\[1\]\.image_url"):
            _asked({"messages": messages})


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "", "data": "/etc/passwd"}},
        {"type": "image_url", "image_url": {"url": data_address(picture()), "data": "/etc/passwd"}},
        {"type": "image_url", "image_url": data_address(picture()), "uuid": "somebody-elses"},
        {"type": "image", "image": "/etc/passwd"},
        {"type": "image_data", "image_data": {"data": "/etc/passwd"}},
        {"type": "video_url", "video_url": {"url": "file:///etc/passwd"}},
        {"type": "time_series", "time_series": "/etc/passwd"},
        {"type": "image_embeds", "image_embeds": "AAAA"},
        {"type": "prompt_embeds", "data": "AAAA"},
        {"type": "text", "text": "hi", "image_url": "http://127.0.0.1/"},
        {"type": "text", "text": {"image_url": "http://127.0.0.1/"}},
        {"image_url": "http://127.0.0.1/"},
        "http://127.0.0.1/",
    ],
)
def test_parts_that_an_engine_would_read_otherwise_are_refused(part: Any) -> None:
    with pytest.raises(BadRequest, match=r"^messages\[0\]\.content\[0\]"):
        _asked({"messages": [{"role": "user", "content": [part]}]})


@pytest.mark.parametrize(
    ("more", "place"),
    [
        ({"n": 1000}, "n"),
        ({"stream": "yes"}, "stream"),
        ({"tempreature": 1}, "tempreature: .* did you mean 'temperature'"),
        ({"tools": [{"type": "mcp", "server_url": "http://127.0.0.1"}]}, r"tools\[0\]\.type"),
        ({"tools": [{"type": "function", "function": {"name": "x" * 300_000}}]}, "tools: more than 262,144"),
        ({"response_format": {"type": "structural_tag"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema", "json_schema": {"x": "y" * 70_000}}}, "response_format: more"),
        ({"chat_template_kwargs": {"tokenize": True}}, "chat_template_kwargs"),  # CVE-2025-62426
        ({"chat_template_kwargs": {"enable_thinking": "{{ 1 }}"}}, "chat_template_kwargs"),
        ({"stream_options": {"x": 1}}, "stream_options"),
        ({"messages": "hi"}, "messages"),
        ({"messages": [{"role": "user", "content": "hi", "image": "/etc/passwd"}]}, r"messages\[0\]"),
        ({"messages": [{"role": "user", "content": {"image_url": "x"}}]}, r"messages\[0\]\.content"),
    ],
)
def test_values_that_do_not_pass(more: dict[str, Any], place: str) -> None:
    with pytest.raises(BadRequest, match=f"^{place}"):
        _asked(more)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "no JSON"),
        (b"[]", "want an object"),
        (b'{"model":"a","model":"b","messages":[]}', "same key twice"),
        (b'{"model":"a","messages":[{"role":"user","content":"x","content":[{"type":"image"}]}]}', "same key twice"),
        (json.dumps({"model": "a", "messages": []}).encode("utf-16"), "no UTF-8"),
        (b'{"model":"a","seed":NaN}', "no JSON"),
        (b"[" * 100_000, "nested too deep"),
        (b'{"model":"a","x":"' + b"y" * 2000 + b'"}', "are the limit"),
    ],
)
def test_bodies_that_two_readers_may_read_differently_are_refused(body: bytes, message: str) -> None:
    caps = Caps(body_bytes=1000 if message == "are the limit" else 10**6)
    with pytest.raises(BadRequest, match=message):
        asked("chat/completions", body, caps)


@pytest.mark.parametrize(
    ("value", "is_good"),
    [
        *(("a", True), (["a", "b"], True), ([1, 2], True), ([[1], [2]], True), ({"image": "/x"}, False)),
        *(
            ([{"a": 1}], False),
            ([True], False),
            ([["a"]], False),
            ([[1.5]], False),
            (["a"] * 3000, False),
            (7.5, False),
        ),
    ],
)
def test_inputs_are_texts_or_tokens(value: Any, is_good: bool) -> None:
    for route, key in (("embeddings", "input"), ("completions", "prompt")):
        body = json.dumps({"model": "a", key: value}).encode()
        if is_good:
            assert asked(route, body, Caps()).body is body
        else:
            with pytest.raises(BadRequest, match=f"^{key}"):
                asked(route, body, Caps())


def test_a_bomb_is_seen_in_its_header(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANMOK_MAX_PIXELS", "19")
    with pytest.raises(BadRequest, match="5 x 4 is over the limit of 19 pixels"):
        _asked({"messages": looking({"url": data_address(picture())})})
    monkeypatch.delenv("ANMOK_MAX_PIXELS")
    header = bytearray(picture())
    header[16:24] = (13_300).to_bytes(4, "big") * 2  # width and height of a PNG
    with pytest.raises(BadRequest, match="over the limit of|not a picture"):
        _asked({"messages": looking({"url": data_address(bytes(header))})})
    many: Any = [{"role": "user", "content": [{"type": "image_url", "image_url": data_address(picture())}] * 4}]
    with pytest.raises(BadRequest, match="more than 3 pictures"):
        asked("chat/completions", json.dumps(_plain() | {"messages": many}).encode(), Caps(images=3))
    with pytest.raises(BadRequest, match="are the limit"):
        asked("chat/completions", json.dumps(_plain() | {"messages": many}).encode(), Caps(image_bytes=20))


def test_with_urls_allowed_the_picture_is_fetched_here_and_put_in() -> None:
    fetched: list[tuple[str, int]] = []

    def fetch(address: str, limit: int) -> bytes:
        fetched.append((address, limit))
        return picture("JPEG")

    with StandIn() as engine, started(engine, fetch=fetch, caps=Caps(image_bytes=5000)) as front:
        messages: Any = looking({"url": "https://example.com/cat.png"})
        front.client.chat.completions.create(model="tiny-vl", messages=messages, extra_body={"seed": 3})
        [seen] = engine.asked
        part = seen.content["messages"][0]["content"][1]
        assert part["image_url"] == {"url": data_address(picture("JPEG"), "image/jpeg")}
        assert seen.content["seed"] == 3
        assert fetched == [("https://example.com/cat.png", 5000)]
        bad: Any = looking({"url": "file:///etc/passwd"})
        with pytest.raises(openai.UnprocessableEntityError, match="paths and other addresses are not opened"):
            front.client.chat.completions.create(model="tiny-vl", messages=bad)
        assert len(engine.asked) == 1


# Addresses of engines


@pytest.mark.parametrize(
    ("address", "base", "health"),
    [
        ("vllm://gpu", "http://gpu:8000/v1", "http://gpu:8000/health"),
        ("lmdeploy://gpu", "http://gpu:23333/v1", "http://gpu:23333/health"),
        ("sglang://10.0.0.7:1/", "http://10.0.0.7:1/v1", "http://10.0.0.7:1/health"),
        ("vllms://gpu:8443/a/v1", "https://gpu:8443/a/v1", "https://gpu:8443/a/health"),
        ("vllm+https://gpu", "https://gpu:8000/v1", "https://gpu:8000/health"),
        ("openais://api.example.com/v1", "https://api.example.com:443/v1", ""),
        ("vllm://[::1]:9", "http://[::1]:9/v1", "http://[::1]:9/health"),
    ],
)
def test_addresses(address: str, base: str, health: str) -> None:
    upstream = Upstream.parse(address, {})
    assert (upstream.base, upstream.health, upstream.key) == (base, health, "")


@pytest.mark.parametrize(
    "address",
    [
        *("http://gpu", "gpu:8000", "vllm://", "vllm://gpu:99999", "vllm://user:hunter2@gpu", "vllm://gpu#x"),
        *(
            "vllm://gpu/../x",
            "vllm://gpu?key=hunter2",
            "vllm://gpu?as=a&as=b",
            "vllm://gpu?model=a",
            "vllm://gpu?as=/x",
        ),
        *("vllm://gpu?key_env=hunter2-secret", "vllm://gpu?key_env=NOT_SET", "vllm://g pu", "vllm://gpu\r\nx", ""),
    ],
)
def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(BadRequest, match="^engine: ") as caught:
        Upstream.parse(address, {})
    assert "hunter2" not in str(caught.value)


def test_the_key_comes_from_the_environment_and_is_not_shown() -> None:
    upstream = Upstream.parse("vllm://gpu?key_env=ENGINE_KEY", {"ENGINE_KEY": ENGINES_KEY + "\n"})
    assert upstream.key == ENGINES_KEY
    assert ENGINES_KEY not in f"{upstream} {upstream!r} {upstream.place}"
    assert upstream.place == "vllm://gpu:8000"
    with pytest.raises(BadRequest, match="holds no key"):
        Upstream.parse("vllm://gpu?key_env=ENGINE_KEY", {"ENGINE_KEY": "two\nlines"})


def _plain() -> dict[str, Any]:
    return {"model": "tiny-vl", "messages": HELLO}


def _streaming() -> dict[str, Any]:
    return _plain() | {"stream": True}


def _asked(more: dict[str, Any], route: str = "chat/completions") -> None:
    start: dict[str, Any] = {"chat/completions": {"messages": HELLO}, "completions": {"prompt": "a"}}.get(
        route, {"input": "a"}
    )
    asked(route, json.dumps({"model": "a"} | start | more).encode(), Caps())
