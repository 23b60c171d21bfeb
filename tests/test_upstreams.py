"""Other engines behind the server: what passes, who leaves, and what breaks."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import httpx2
import openai
import pytest

from anmok.server.proxy.answers import Incoming
from anmok.server.upstreams import Caps, Upstream, Upstreams
from engine_front import (
    CALLERS_KEY,
    ENGINES_KEY,
    HELLO,
    Front,
    data_address,
    looking,
    picture,
    plain,
    started,
    streaming,
    unheard,
    until,
)
from upstream_stand_in import SECRET, USAGE, WORDS, StandIn


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
    with httpx2.stream("POST", f"{front.url}/chat/completions", json=streaming(), trust_env=False) as response:
        times = [time.monotonic() - begun for _, _ in zip(range(5), response.iter_raw(), strict=False)]
    assert times[-1] - times[0] > 0.1  # had they been gathered, they would have come at once
    seconds = front.upstreams.status()[0].seconds_to_first_byte
    assert seconds is not None
    assert 0 < seconds < 2


def test_half_events_wait_for_their_rest(both: tuple[StandIn, Front]) -> None:
    engine, front = both
    engine.mood = "halves"
    with httpx2.stream("POST", f"{front.url}/chat/completions", json=streaming(), trust_env=False) as response:
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
    with httpx2.stream("POST", f"{front.url}/chat/completions", json=streaming(), trust_env=False) as response:
        next(response.iter_raw())
    left = time.monotonic()
    assert engine.left.wait(2)
    assert engine.left_at - left < 1
    assert until(lambda: front.upstreams.status()[0].in_flight == 0)


def test_a_client_that_leaves_before_the_answer_ends_it_too(both: tuple[StandIn, Front]) -> None:
    engine, front = both
    engine.mood = "silent"
    with pytest.raises(httpx2.ReadTimeout):
        httpx2.post(f"{front.url}/chat/completions", json=plain(), timeout=0.3, trust_env=False)
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
    text = front.post(streaming()).text
    assert "[DONE]" not in text
    assert SECRET not in text
    for line in text.split("\n\n")[:-1]:
        json.loads(line.removeprefix("data: "))  # no half of an event
    assert until(lambda: front.upstreams.status()[0].in_flight == 0)


def test_a_client_that_leaves_at_the_moment_of_the_answer_leaves_nothing_behind() -> None:
    async def ask() -> None:
        upstreams = Upstreams([Upstream.parse(f"vllm://127.0.0.1:{engine.port}")])
        await upstreams.start()
        body = json.dumps(streaming()).encode()

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
                await response({"type": "http"}, leaves_after(0), unheard)
            assert upstreams.status()[0].in_flight == 0
        await upstreams.close()

    completion = json.dumps({"model": "tiny-vl", "prompt": "a"}).encode()
    with StandIn() as engine:
        asyncio.run(ask())


def test_silence_in_mid_stream_and_before_it_have_an_end() -> None:
    caps = Caps(total_seconds=0.3)
    with StandIn(mood="slow") as engine, started(engine, caps=caps) as front:
        text = front.post(streaming()).text
        assert json.loads(text.split("\n\n")[-2].removeprefix("data: "))["error"]["code"] == "engine_failed"
        engine.mood = "silent"
        answer = front.post(plain())
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
    body = streaming() if is_stream else plain()
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
        answer = front.post(streaming())
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
