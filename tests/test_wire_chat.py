"""OpenAI's chat dialect: what is read of a request, and how an answer goes out."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types import CompletionUsage
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from anmok import Chat, Conversation, Text
from anmok.errors import AnmokError, BadMedia, BadRequest
from anmok.results import Embedding, Failure, Piece, Reply
from anmok.results.talk import Count
from anmok.wire import Call, Intake, call_from_json, call_to_json, chat, result_from_json
from anmok.wire.refusals import WrongField
from wire_samples import CODE, PICTURE, corrupted

INTAKE = Intake()
SMALL = Intake(items=2, turns=3, image_bytes=100)
DATA = f"data:image/png;base64,{CODE}"
SHOWN = {"type": "image_url", "image_url": {"url": DATA, "detail": "low"}}
BODY: dict[str, Any] = {
    "model": "m",
    "messages": [
        {"role": "developer", "content": "Be short."},
        {"role": "user", "content": [{"type": "text", "text": "What is it?"}, SHOWN], "name": "ann"},
        {"role": "assistant", "content": None},
        {"role": "assistant", "content": "A cat."},
        {"role": "user", "content": "Sure?"},
        {"role": "user", "content": "Really?"},
    ],
    "max_completion_tokens": 7,
    "max_tokens": 9,
    "temperature": 0.5,
    "top_p": 0.9,
    "seed": 3,
    "stop": "\n\n",
    "stream": True,
    "stream_options": {"include_usage": True},
    "n": 1,
    "presence_penalty": 0,
    "tools": None,
    "user": "me",
    "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object", "b": 1}}},
}


def said(call: Call) -> Conversation:
    [item] = call.items
    assert isinstance(item, Conversation)
    return item


def test_a_whole_request() -> None:
    call = chat.chat_call(BODY, INTAKE)
    one = said(call)
    assert [turn.role for turn in one.turns] == ["system", "user", "assistant", "user"]
    assert one.system == "Be short."
    assert one.turns[1].parts == (Text("What is it?"), PICTURE)
    assert [turn.text for turn in one.turns[2:]] == ["\nA cat.", "Sure?\nReally?"]
    assert call.ask == Chat(7, 0.5, 0.9, 3, ("\n\n",), '{"type":"object","b":1}')
    assert (call.model, call.is_streamed, call.has_usage, call.ignored) == ("m", True, True, ("user",))


def test_what_is_left_out() -> None:
    call = chat.chat_call({"messages": [{"role": "user", "content": "a"}], "stop": None, "stream": None}, INTAKE)
    assert call.ask == Chat()
    assert (call.model, call.is_streamed, call.has_usage) == ("", False, False)
    for form in ({"type": "text"}, None):
        assert chat.chat_call({**BODY, "response_format": form}, INTAKE).ask.schema is None  # type: ignore[attr-defined]
    anything = chat.chat_call({**BODY, "response_format": {"type": "json_object"}}, INTAKE).ask
    assert anything == Chat(7, 0.5, 0.9, 3, ("\n\n",), '{"type":"object"}')


def with_message(message: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "a"}, message]}


WRONG: dict[str, tuple[Any, str, str]] = {
    "list": ([], "body", "want an object, got a list"),
    "no messages": ({}, "messages", "is missing"),
    "messages": ({"messages": "hi"}, "messages", "want a list, got a text"),
    "no message": (with_message(3), "messages[1]", "want an object, got a number"),
    "no role": (with_message({"content": "a"}), "messages[1].role", "is missing"),
    "role": (with_message({"role": "tool", "content": "a"}), "messages[1].role", "want system, developer, user, assi"),
    "no content": (with_message({"role": "user"}), "messages[1].content", "is missing"),
    "content": (with_message({"role": "user", "content": 3}), "messages[1].content", "want a text, got a number"),
    "empty": (with_message({"role": "user", "content": ""}), "messages[1]", "user's turn: nothing is said in it"),
    "no parts": (with_message({"role": "user", "content": []}), "messages[1]", "user's turn: nothing is said in it"),
    "kind": (
        with_message({"role": "user", "content": [{"type": "refusal"}]}),
        "messages[1].content[0].type",
        "want text or image_url or video_url",
    ),
    "picture of the system": (
        with_message({"role": "system", "content": [SHOWN]}),
        "messages[1]",
        "system's turn: pictures are the user's to show",
    ),
    "address": (
        with_message({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://a/b.png"}}]}),
        "messages[1].content[0].image_url.url",
        "this server opens no addresses",
    ),
    "file": (
        with_message({"role": "user", "content": [{"type": "image_url", "image_url": "file:///etc/passwd"}]}),
        "messages[1].content[0].image_url.url",
        "want base64",
    ),
    "too many": (
        with_message({"role": "user", "content": [SHOWN] * 3}),
        "messages",
        "3 pictures and clips; 2 are the limit",
    ),
    "too long": ({"messages": [{"role": "user", "content": "a"}] * 4}, "messages", "4 values; 3 are the limit"),
    "too large": (
        with_message({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "A" * 200}}]}),
        "messages[1].content[0].image_url.url",
        "about 150 bytes; 100 are the limit",
    ),
    "tools": ({**BODY, "tools": [{"type": "function"}]}, "tools", "this server does not do that; leave it out"),
    "logprobs": ({**BODY, "logprobs": True}, "logprobs", "this server does not do that; leave it out"),
    "penalty": ({**BODY, "frequency_penalty": 0.5}, "frequency_penalty", "this server does not do that"),
    "tool calls": (
        with_message({"role": "assistant", "tool_calls": [{"id": "a"}]}),
        "messages[1]",
        "this server calls no tools",
    ),
    "n": ({**BODY, "n": 2}, "n", "want 1: one answer to a request"),
    "key": ({**BODY, "max_token": 2}, "body", "unknown key 'max_token'; did you mean 'max_tokens'?"),
    "stop": ({**BODY, "stop": [3]}, "stop[0]", "want a text, got a number"),
    "stream": ({**BODY, "stream": "yes"}, "stream", "want true or false, got a text"),
    "schema": ({**BODY, "response_format": {"type": "json_schema"}}, "response_format.json_schema", "is missing"),
    "form": ({**BODY, "response_format": {"type": "xml"}}, "response_format.type", "want text or json_object or"),
    "half a letter": (with_message({"role": "user", "content": "\ud800"}), "messages[1].content", "half a surrogate"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_requests_are_told_where_and_what(name: str) -> None:
    body, field, message = WRONG[name]
    with pytest.raises(WrongField) as caught:
        chat.chat_call(body, SMALL if name.startswith("too") else INTAKE)
    assert caught.value.field == field
    assert str(caught.value).startswith(f"{field}: {message}")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({**BODY, "temperature": 3}, "temperature 3.0: must lie between 0 and 2"),
        ({**BODY, "max_completion_tokens": 0}, "max_tokens 0: want at least 1"),
        ({**BODY, "stop": ["a"] * 17}, "stop: 16 texts"),
        ({"messages": []}, "conversation: the user says nothing in it"),
        ({"messages": [{"role": "system", "content": "a"}]}, "conversation: the user says nothing in it"),
        (with_message({"role": "assistant", "content": "b"}), "the last turn is the assistant's"),
        (with_message({"role": "system", "content": "b"}), "a system turn stands at the beginning"),
    ],
)
def test_wrong_conversations_are_told(body: Any, message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        chat.chat_call(body, INTAKE)


@given(st.data())
def test_no_malformed_request_breaks_anything(data: st.DataObject) -> None:
    body = corrupted(BODY, data.draw)
    with contextlib.suppress(AnmokError):  # and nothing else
        assert isinstance(chat.chat_call(body, INTAKE).ask, Chat)


REPLY = Reply("한 🌈", "length", 20, 3, 16, 0.5, 1.0)
CALL = chat.chat_call(BODY, INTAKE)


def test_an_answer_in_one_piece() -> None:
    assert chat.completion(REPLY, CALL, "chatcmpl-1", 99) == {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 99,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "한 🌈", "refusal": None},
                "finish_reason": "length",
                "logprobs": None,
            }
        ],
        "usage": {
            "prompt_tokens": 20,
            "completion_tokens": 3,
            "total_tokens": 23,
            "prompt_tokens_details": {"image_tokens": 16},
        },
    }
    with pytest.raises(BadMedia, match="no image"):
        chat.completion(Failure("conversation", BadMedia("no image")), CALL, "", 0)
    with pytest.raises(BadRequest, match="Embedding is no reply"):
        chat.completion(Embedding(np.ones(3, np.float32), "image"), CALL, "", 0)


def events(data: bytes) -> list[Any]:
    rows = data.decode().split("\n\n")
    assert rows.pop() == ""
    assert all(row.startswith("data: ") for row in rows)
    return ["[DONE]" if row == "data: [DONE]" else json.loads(row.removeprefix("data: ")) for row in rows]


def test_an_answer_as_events() -> None:
    first = events(chat.chunks(Piece("한"), CALL, "c", 9, is_first=True))
    assert [row["choices"][0]["delta"] for row in first] == [{"role": "assistant", "content": ""}, {"content": "한"}]
    assert {(row["id"], row["object"], row["created"], row["model"], row["usage"]) for row in first} == {
        ("c", "chat.completion.chunk", 9, "m", None)
    }
    *last, usage, done = events(chat.chunks(Piece(" 🌈", REPLY), CALL, "c", 9, is_first=False))
    assert [(row["choices"][0]["delta"], row["choices"][0]["finish_reason"]) for row in last] == [
        ({"content": " 🌈"}, None),
        ({}, "length"),
    ]
    assert (usage["choices"], usage["usage"]["total_tokens"], done) == ([], 23, "[DONE]")
    plain = chat.chat_call({"messages": [{"role": "user", "content": "a"}], "stream": True}, INTAKE)
    [end, done] = events(chat.chunks(Piece("", REPLY), plain, "c", 9, is_first=False))
    assert ("usage" in end, end["choices"][0]["finish_reason"], done) == (False, "length", "[DONE]")
    [wrong] = events(chat.broken_off(BadRequest("a\nb")))
    assert (wrong["error"]["message"], wrong["error"]["type"]) == ("a b", "invalid_request_error")


@pytest.mark.parametrize("unknown", ["tokens_in", "tokens_out"])
def test_counts_that_a_vendor_did_not_give_are_no_noughts(unknown: Count) -> None:
    """The client's own types take an answer without ``usage``, but none with a part of it."""
    known = {"tokens_in": REPLY.tokens_in, "tokens_out": REPLY.tokens_out, unknown: 0}
    told = Reply("한 🌈", "length", known["tokens_in"], known["tokens_out"], unknown=(unknown, "image_tokens"))
    whole = chat.completion(told, CALL, "chatcmpl-1", 99)
    assert "usage" not in whole
    assert ChatCompletion.model_validate(whole).usage is None
    *last, done = events(chat.chunks(Piece("", told), CALL, "c", 9, is_first=False))
    assert [row["choices"][0]["finish_reason"] for row in last] == ["length"]  # and no chunk for the counts
    assert (last[0]["usage"], done) == (None, "[DONE]")
    assert ChatCompletionChunk.model_validate(last[0]).usage is None


def test_tokens_of_pictures_that_a_vendor_did_not_tell_are_left_out() -> None:
    told = dataclasses.replace(REPLY, image_tokens=0, unknown=("image_tokens",))
    usage = chat.completion(told, CALL, "chatcmpl-1", 99)["usage"]
    assert usage == {"prompt_tokens": 20, "completion_tokens": 3, "total_tokens": 23}
    *_, chunk, _ = events(chat.chunks(Piece("", told), CALL, "c", 9, is_first=False))
    assert chunk["usage"] == usage
    assert CompletionUsage.model_validate(usage).prompt_tokens_details is None


def test_our_own_dialect_has_turns() -> None:
    turns = [
        {"role": "system", "parts": [{"text": "s"}]},
        {"role": "user", "parts": [CODE, {"text": "a"}, {"part": "second"}]},
    ]
    body = {"model": "m", "ask": {"max_tokens": 3, "stop": ["x"]}, "items": [{"turns": turns}]}
    call = call_from_json("chat", body, INTAKE, {"second": b"more"})
    assert call.ask == Chat(3, stop=("x",))
    assert said(call).pictures == (PICTURE, b"more")
    again = call_from_json("chat", json.loads(json.dumps(call_to_json(call))), INTAKE)
    assert repr(again) == repr(call)
    assert base64.b64decode(call_to_json(call)["items"][0]["turns"][1]["parts"][2]) == b"more"


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"turns": 3}, r"items\[0\].turns: want a list, got a number"),
        ({"turns": [], "text": "a"}, r"items\[0\]: unknown key 'turns'; want text"),
        ({"turns": [], "x": "a"}, r"items\[0\]: unknown key 'x'; want turns"),
        ({"turns": []}, "conversation: the user says nothing in it"),
        ({"turns": [3]}, r"items\[0\].turns\[0\]: want an object, got a number"),
        ({"turns": [{"role": "user"}]}, r"items\[0\].turns\[0\].parts: is missing"),
        ({"turns": [{"role": "tool", "parts": []}]}, r"items\[0\].turns\[0\].role: want system or user or assistant"),
        (
            {"turns": [{"role": "user", "parts": [], "x": 1}]},
            r"items\[0\].turns\[0\]: unknown key 'x'; want role, parts",
        ),
        ({"turns": [{"role": "user", "parts": [{"text": 3}]}]}, r"parts\[0\].text: want a text, got a number"),
        ({"turns": [{"role": "user", "parts": ["/etc/passwd"]}]}, r"parts\[0\]: want base64 of the file itself"),
        (
            {"turns": [{"role": "user", "parts": [CODE] * 3}]},
            "items: 3 pictures and clips in the turns; 2 are the limit",
        ),
        ({"turns": [{"role": "user", "parts": []}] * 4}, r"items\[0\].turns: 4 values; 3 are the limit"),
    ],
)
def test_wrong_turns_are_told(item: Any, message: str) -> None:
    with pytest.raises(BadRequest, match=f"{message}"):
        call_from_json("chat", {"items": [item]}, Intake(items=2, turns=3))


@pytest.mark.parametrize(
    "content",
    [
        {"text": "a", "finish": "stop", "tokens_in": 1},
        {"text": 3, "finish": "stop", "tokens_in": 1, "tokens_out": 1, "image_tokens": 0},
        {"piece": 3},
        {"piece": "a", "reply": {"text": "a"}},
        {"piece": "a", "reply": 3},
    ],
)
def test_what_is_no_answer_is_told_so(content: Any) -> None:
    with pytest.raises(BadRequest):
        result_from_json("chat", content)
