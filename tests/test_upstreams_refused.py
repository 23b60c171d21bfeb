"""What does not pass to other engines."""

from __future__ import annotations

import base64
import json
from typing import Any

import openai
import pytest

from anmok.errors import BadRequest
from anmok.server.proxy import keys
from anmok.server.proxy.asking import asked
from anmok.server.upstreams import Caps
from engine_front import chat_of, data_address, looking, picture, plain, started
from upstream_stand_in import StandIn


@pytest.mark.parametrize("key", sorted(keys.REFUSED))
def test_keys_that_make_an_engine_run_or_load_things_are_refused_by_name(key: str) -> None:
    for route in keys.ROUTES:
        with pytest.raises(BadRequest, match=f"^{key}: is not passed to an engine: ") as caught:
            chat_of({key: "x"}, route)
        assert len(str(caught.value)) < 200
        chat_of({key: None}, route)  # a client that writes out its defaults


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
            chat_of({"messages": messages})


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
        chat_of({"messages": [{"role": "user", "content": [part]}]})


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
        chat_of(more)


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
        chat_of({"messages": looking({"url": data_address(picture())})})
    monkeypatch.delenv("ANMOK_MAX_PIXELS")
    header = bytearray(picture())
    header[16:24] = (13_300).to_bytes(4, "big") * 2  # width and height of a PNG
    with pytest.raises(BadRequest, match="over the limit of|not a picture"):
        chat_of({"messages": looking({"url": data_address(bytes(header))})})
    many: Any = [{"role": "user", "content": [{"type": "image_url", "image_url": data_address(picture())}] * 4}]
    with pytest.raises(BadRequest, match="more than 3 pictures"):
        asked("chat/completions", json.dumps(plain() | {"messages": many}).encode(), Caps(images=3))
    with pytest.raises(BadRequest, match="are the limit"):
        asked("chat/completions", json.dumps(plain() | {"messages": many}).encode(), Caps(image_bytes=20))


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
