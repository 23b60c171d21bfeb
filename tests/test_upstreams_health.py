"""Other engines that are down, back, full, or several; and their addresses."""

from __future__ import annotations

import asyncio
import json
import logging
import time

import httpx2
import openai
import pytest

from anmok.errors import AnmokError, BadRequest, Busy, UnknownModel
from anmok.server.upstreams import Caps, Upstream, Upstreams
from engine_front import CALLERS_KEY, ENGINES_KEY, HELLO, Front, plain, started, streaming, until
from upstream_stand_in import StandIn

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
        assert front.post(plain()).status_code == 200


def test_an_engine_that_is_there_but_not_well_is_down() -> None:
    with StandIn("lmdeploy", mood="sick") as engine, started(engine) as front:
        assert until(lambda: front.upstreams.status()[0].failures >= 3)
        assert front.post(plain()).status_code == 503  # its models were never told
        engine.mood = "well"
        assert until(lambda: front.upstreams.status()[0].is_up)
        assert front.post(plain()).status_code == 200
        with pytest.raises(openai.NotFoundError):
            front.client.chat.completions.create(model="other", messages=HELLO)


def test_of_two_engines_the_one_with_less_to_do_is_asked_and_a_dead_one_is_passed_over() -> None:
    with StandIn() as first, StandIn("lmdeploy") as second, started(first, second, period=60) as front:
        first.mood = "slow"
        with httpx2.stream("POST", f"{front.url}/chat/completions", json=streaming(), trust_env=False) as response:
            pieces = response.iter_raw()  # held: the stream ends with its iterator
            next(pieces)
            busy, free = (first, second) if first.asked else (second, first)
            for _ in range(3):
                free.mood = "well"
                assert front.post(plain()).status_code == 200
            assert (len(busy.asked), len(free.asked)) == (1, 3)
        first.mood = "well"
        second.stop()  # not noticed yet: the next check is a minute away
        for _ in range(3):
            assert front.post(plain()).status_code == 200


def test_a_full_engine_takes_no_more() -> None:
    async def ask() -> None:
        upstreams = Upstreams([Upstream.parse(f"vllm://127.0.0.1:{engine.port}")], caps=Caps(in_flight=1))
        await upstreams.start()
        body = json.dumps(streaming()).encode()
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
        assert front.post(plain()).status_code == 200
        engine.mood = "locked"
        assert front.post(plain()).status_code == 502
        engine.stop()
        assert until(lambda: not front.upstreams.status()[0].is_up)
        assert ENGINES_KEY not in repr(front.upstreams.status())
    assert "engine is down" in caplog.text
    assert ENGINES_KEY not in caplog.text
    assert CALLERS_KEY not in caplog.text


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
