"""What goes wrong with models that somebody else runs: each is one line of the right class, and ends."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from anmok import Chat, Conversation
from anmok.errors import AnmokError, BadData, BadRequest, Busy, Loading, Refused, TooMuch, Unauthorized
from remote_vendor import (  # noqa: F401  # a fixture
    DOORS,
    GEMINI,
    HUGGINGFACE,
    KEY,
    OPENAI,
    Answer,
    Vendor,
    Write,
    answer,
    event,
    gemini,
    openai,
    opened,
    set_up,
    there_fixture,
    vendor,
)

SAID = Conversation.about(question="What is it?")
JSON = "application/json"
ALL_DOORS = pytest.mark.parametrize("door", DOORS)


def failed(door: str, ask: Chat | None = None) -> AnmokError:
    """What the one question raises, whole and streamed alike."""
    model = opened(door)
    with pytest.raises(AnmokError) as first:
        model.run([SAID], ask or Chat())
    with pytest.raises(AnmokError) as second:
        list(model.stream(SAID, ask or Chat()))
    assert (type(first.value), str(first.value)) == (type(second.value), str(second.value))
    message = str(first.value)
    assert "\n" not in message
    assert len(message) < 420
    assert KEY not in message
    return first.value


def openai_error(message: str, kind: str, code: str | None = None) -> bytes:
    return json.dumps({"error": {"message": message, "type": kind, "param": None, "code": code}}, indent=2).encode()


def google_error(code: int, message: str, status: str, reason: str = "") -> bytes:
    details = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": "googleapis.com"}]
    error = {"code": code, "message": message, "status": status, "details": details if reason else []}
    return json.dumps({"error": error}, indent=2).encode()


LONG_OPENAI = (
    "This model's maximum context length is 128000 tokens. However, your messages resulted in 1000012 tokens. "
    "Please reduce the length of the messages."
)
LONG_GEMINI = "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)."
NO_PROVIDER = "The requested model 'a/b' is not supported by any provider you have enabled."
DOCUMENTED: list[tuple[str, int, bytes, type[AnmokError], str]] = [
    (
        OPENAI,
        401,
        openai_error(f"Incorrect API key provided: {KEY}.", "invalid_request_error", "invalid_api_key"),
        Unauthorized,
        "wants an API key, or another; set ANMOK_OPENAI_API_KEY",
    ),
    (OPENAI, 403, openai_error("Country not supported", "request_forbidden"), Unauthorized, "wants an API key"),
    (
        OPENAI,
        404,
        openai_error("The model `eyes-1` does not exist", "invalid_request_error", "model_not_found"),
        BadRequest,
        "no model 'eyes-1' there, or the address is not the API's .The model `eyes-1` does not exist",
    ),
    (OPENAI, 413, b"", TooMuch, "larger than it takes .no reason given.; show fewer or smaller pictures"),
    (
        OPENAI,
        429,
        openai_error("You exceeded your current quota", "insufficient_quota", "insufficient_quota"),
        Busy,
        "too many requests, or the quota is used up .You exceeded your current quota.; try later",
    ),
    (
        OPENAI,
        400,
        openai_error(LONG_OPENAI, "invalid_request_error", "context_length_exceeded"),
        BadRequest,
        "the conversation has 1,000,012 tokens and the model reads 128,000; shorten it, or leave pictures out",
    ),
    (
        OPENAI,
        400,
        openai_error("Unsupported value: 'temperature' does not support 0 with this model.", "invalid_request_error"),
        BadRequest,
        "'temperature' does not support 0 .*a model that takes none is asked with temperature 1",
    ),
    (
        OPENAI,
        400,
        openai_error("Invalid schema for response_format 'answer'", "invalid_request_error"),
        BadRequest,
        "answered 400 .Invalid schema for response_format 'answer'",
    ),
    (OPENAI, 500, openai_error("The server had an error", "server_error"), Refused, "answered 500 .The server had"),
    (OPENAI, 503, b"<html>\n<h1>overloaded</h1>", Refused, "answered 503 .<html> <h1>overloaded</h1>"),
    (
        GEMINI,
        400,
        google_error(400, "API key not valid. Please pass a valid API key.", "INVALID_ARGUMENT", "API_KEY_INVALID"),
        Unauthorized,
        "wants an API key, or another; set ANMOK_GEMINI_API_KEY",
    ),
    (GEMINI, 403, google_error(403, "no", "PERMISSION_DENIED"), Unauthorized, "wants an API key"),
    (
        GEMINI,
        404,
        google_error(404, "models/eyes-1 is not found for API version v1beta", "NOT_FOUND"),
        BadRequest,
        "no model 'eyes-1' there, .*is not found for API version v1beta",
    ),
    (
        GEMINI,
        400,
        google_error(400, LONG_GEMINI, "INVALID_ARGUMENT"),
        BadRequest,
        "the conversation has 1,200,000 tokens and the model reads 1,048,576; shorten it",
    ),
    (
        GEMINI,
        400,
        google_error(400, "User location is not supported for the API use.", "FAILED_PRECONDITION"),
        BadRequest,
        "answered 400 .User location is not supported",
    ),
    (GEMINI, 429, google_error(429, "Quota exceeded", "RESOURCE_EXHAUSTED"), Busy, "used up .Quota exceeded"),
    (GEMINI, 503, google_error(503, "The model is overloaded.", "UNAVAILABLE"), Refused, "answered 503 .The model is"),
    (HUGGINGFACE, 401, b'{"error":"Invalid username or password."}', Unauthorized, "set ANMOK_HUGGINGFACE_API_KEY"),
    (
        HUGGINGFACE,
        402,
        b'{"error":"You have depleted your monthly included credits. Purchase pre-paid credits to continue."}',
        Busy,
        "no credit is left for this key .You have depleted your monthly included credits",
    ),
    (
        HUGGINGFACE,
        400,
        openai_error(NO_PROVIDER, "invalid_request_error", "model_not_supported"),
        BadRequest,
        "Hugging Face does not run this model for you .The requested model 'a/b' .*settings/inference-providers",
    ),
    (
        HUGGINGFACE,
        503,
        b'{"error":"Model a/b is currently loading","estimated_time":33.5}',
        Loading,
        "the model is not in memory there yet; ask again in 34 s",
    ),
    (HUGGINGFACE, 429, b'{"error":"Rate limit reached."}', Busy, "used up .Rate limit reached"),
    (HUGGINGFACE, 500, b"", Refused, "answered 500 .no reason given"),
]


@pytest.mark.parametrize(("door", "status", "body", "kind", "said"), DOCUMENTED)
def test_what_a_vendor_refuses_is_told_in_one_line(
    door: str,
    status: int,
    body: bytes,
    kind: type[AnmokError],
    said: str,
    there: Vendor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_up(monkeypatch, door, there.root)
    there.says(Answer(body, status, JSON))
    with pytest.raises(kind, match=said):
        raise failed(door)
    assert type(failed(door)) is kind


@ALL_DOORS
def test_it_is_told_how_long_to_wait(door: str, there: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    set_up(monkeypatch, door, there.root)
    for given, wanted in (("7", 7.0), ("999999", 3600.0), ("soon", 20.0), ("", 20.0), ("-1", 20.0), ("9" * 400, 20.0)):
        there.says(Answer(b"{}", 429, JSON, {"retry-after": given}))
        error = failed(door)
        assert isinstance(error, Busy)
        assert error.retry_after == wanted


@ALL_DOORS
def test_no_key_and_no_picture_follows_a_redirect(door: str, there: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    set_up(monkeypatch, door, there.root)
    with vendor() as elsewhere:
        elsewhere.says(answer(door, ["Thank you."]))
        there.says(Answer(b"", 307, JSON, {"location": f"{elsewhere.root}/v1/chat/completions"}))
        error = failed(door)
        assert type(error) is Refused
        assert "answered 307: it moves on to another address, which a key does not follow" in str(error)
        assert elsewhere.asked == []


def cut(data: bytes, words: int) -> bytes:
    """The beginning of an answer, up to so many events."""
    return b"".join(one + b"\n\n" for one in data.replace(b"\r\n", b"\n").split(b"\n\n")[:words])


NO_CHUNKS = [
    b"data: [1]\n\n",
    b"data: {\n\n",
    b'data: "x"\n\n',
    b'data: {"choices": [3], "candidates": [3]}\n\n',
    b'data: {"choices": {"a": 1}, "candidates": {"a": 1}}\n\n',
    event({"choices": [{"delta": {"content": 7}}], "candidates": [{"content": {"parts": [7]}}]}),
    b"data: " + b"[" * 100_000 + b"\n\n",
]


@ALL_DOORS
@pytest.mark.parametrize("data", NO_CHUNKS, ids=range(len(NO_CHUNKS)))
def test_what_is_no_answer_of_this_api(door: str, data: bytes, there: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    set_up(monkeypatch, door, there.root)
    there.says(data)
    assert type(failed(door)) is BadData


@ALL_DOORS
@pytest.mark.parametrize("words", [0, 1, 2])
def test_an_answer_that_breaks_off(door: str, words: int, there: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    set_up(monkeypatch, door, there.root)
    there.says(cut(answer(door, ["It ", "is ", "red."]), words))
    error = failed(door)
    assert type(error) is Refused
    assert "the answer broke off before its end; ask again" in str(error)


@ALL_DOORS
def test_an_error_in_the_middle_of_an_answer(door: str, there: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    set_up(monkeypatch, door, there.root)
    broken = event({"error": {"message": "out of memory", "type": "server_error", "code": 503}})
    there.says(cut(answer(door, ["It ", "is ", "red."]), 2) + broken)
    pieces = opened(door).stream(SAID, Chat())
    told = []
    with pytest.raises(Refused, match=r"answered 50\d .*out of memory"):
        told.extend(piece.text for piece in pieces)
    assert told == ["It "]


def withheld_openai(why: str = "stop", **delta: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": None}
    return event({"choices": [choice]}) + event({"choices": [{"index": 0, "delta": {}, "finish_reason": why}]})


@pytest.mark.parametrize(
    ("door", "data", "kind", "said"),
    [
        (OPENAI, withheld_openai(refusal="I can't help with faces."), BadRequest, "will not answer this .I can't help"),
        (OPENAI, openai(["No"], why="content_filter"), BadRequest, "will not answer this .its filter"),
        (OPENAI, openai([""], why="tool_calls"), BadData, "it wants to call a tool"),
        (OPENAI, openai(["x"], why="error"), Refused, "failed in the middle"),
        (HUGGINGFACE, openai(["No"], why="content_filter"), BadRequest, "will not answer this"),
        (GEMINI, gemini(["No"], why="SAFETY"), BadRequest, "will not answer this .SAFETY"),
        (GEMINI, gemini([""], why="RECITATION"), BadRequest, "will not answer this .RECITATION"),
        (GEMINI, gemini([""], why="MALFORMED_RESPONSE"), Refused, "failed in the middle .* .MALFORMED_RESPONSE"),
        (GEMINI, event({"promptFeedback": {"blockReason": "OTHER"}}), BadRequest, "will not answer this .OTHER"),
    ],
)
def test_an_answer_that_is_kept_back(
    door: str, data: bytes, kind: type[AnmokError], said: str, there: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_up(monkeypatch, door, there.root)
    there.says(data)
    with pytest.raises(kind, match=said):
        raise failed(door)


@pytest.mark.parametrize("why", ["stop", "eos_token", "stop_sequence", "end_turn"])
def test_ends_by_other_names(why: str, there: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    set_up(monkeypatch, OPENAI, there.root)
    there.says(openai(["It is red."], why=why))
    assert opened(OPENAI).run([SAID], Chat())[0].finish == "stop"


@pytest.mark.parametrize("usage", [{}, {"prompt_tokens": "7", "completion_tokens": -1}, {"prompt_tokens": True}])
def test_counts_that_are_none_are_unknown(usage: Any, there: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    set_up(monkeypatch, OPENAI, there.root)
    there.says(openai(["Hm."], usage=usage))
    [reply] = opened(OPENAI).run([SAID], Chat())
    assert (reply.tokens_in, reply.tokens_out) == (0, 0)
    assert {"tokens_in", "tokens_out"} <= set(reply.unknown)


@ALL_DOORS
def test_nobody_there_and_nothing_said(door: str, there: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    set_up(monkeypatch, door, "http://127.0.0.1:9")
    error = failed(door)
    assert type(error) is Refused
    assert "127.0.0.1:9: no answer (ConnectError); is the server up?" in str(error)
    set_up(monkeypatch, door, there.root)
    monkeypatch.setenv("ANMOK_REMOTE_SECONDS", "0.3")

    def silent(write: Write) -> None:
        write(cut(answer(door, ["It ", "is"]), 2))
        time.sleep(1.5)

    there.says(Answer(silent))
    began = time.monotonic()
    error = failed(door)
    assert type(error) is Refused
    assert "no answer (" in str(error)
    assert time.monotonic() - began < 5


@ALL_DOORS
def test_an_endless_answer_ends(door: str, there: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    set_up(monkeypatch, door, there.root)
    word = "word " * 20_000
    whole = answer(door, [word])
    first = whole.index(b"data:", 6) if door == GEMINI else whole.index(word.encode()[:20]) and whole.index(b"data:", 6)
    one = cut(whole[first:], 1).replace(b'"finishReason": "STOP"', b'"finishReason": ""')

    def endless(write: Write) -> None:
        for _ in range(1000):
            write(one)

    there.says(Answer(endless))
    with pytest.raises(Refused, match="too long|more than 4,194,304 letters"):
        list(opened(door).stream(SAID, Chat()))
    assert there.broken.wait(10)


def test_the_hub_knows_who_runs_a_model(there: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants
    from huggingface_hub.hf_api import InferenceProviderMapping
    from huggingface_hub.inference._providers import _common

    set_up(monkeypatch, HUGGINGFACE, there.root, "a/b")
    monkeypatch.delenv("ANMOK_HUGGINGFACE_BASE_URL")
    known = InferenceProviderMapping(
        provider="together", hf_model_id="a/b", providerId="b-turbo", status="live", task="conversational"
    )
    monkeypatch.setitem(_common.HARDCODED_MODEL_INFERENCE_MAPPING["together"], "a/b", known)
    monkeypatch.setattr(constants, "INFERENCE_PROXY_TEMPLATE", there.root + "/{provider}")
    monkeypatch.setenv("ANMOK_HUGGINGFACE_PROVIDER", "together")
    there.says(openai(["It is red."]))
    assert opened(HUGGINGFACE).run([SAID], Chat())[0].text == "It is red."
    [asked] = there.asked
    assert (asked.path, asked.body["model"]) == ("/together/v1/chat/completions", "b-turbo")
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    for provider, kind, said in (
        ("groq", Refused, "no answer .ConnectError.; is the hub up"),  # it asks the hub, which no test reaches
        ("nobody", BadRequest, "Hugging Face does not run this model for you .*nobody.*settings/inference-providers"),
    ):
        monkeypatch.setenv("ANMOK_HUGGINGFACE_PROVIDER", provider)
        with pytest.raises(kind, match=said):
            raise failed(HUGGINGFACE)
    monkeypatch.delenv("ANMOK_HUGGINGFACE_PROVIDER")
    monkeypatch.setenv("ANMOK_HUGGINGFACE_API_KEY", "sk-of-somebody-else")
    with pytest.raises(BadRequest, match=r"does not run this model for you .*non-Hugging Face API key"):
        raise failed(HUGGINGFACE)
    assert len(there.asked) == 1
