"""Models that somebody else runs: what goes out, and what comes back."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import logging
import threading
import time
from typing import Any

import numpy as np
import pytest
from PIL import Image as pillow

import anmok.models.remote as remote
from anmok import Chat, Conversation, wire
from anmok.errors import AnmokError, BadRequest, TooMuch
from anmok.models.remote import photos
from anmok.results import Reply
from battery import picture
from remote_samples import ALL_DOORS, RED, SAID, facts, forget_keys
from remote_vendor import (  # noqa: F401  # a fixture
    GEMINI,
    HUGGINGFACE,
    KEY,
    OPENAI,
    Answer,
    Vendor,
    Write,
    answer,
    gemini,
    openai,
    opened,
    set_up,
    there_fixture,
)


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    forget_keys(monkeypatch)


# What goes out --------------------------------------------------------------------------------------------


def sent(door: str, body: dict[str, Any]) -> bytes:
    """The first picture of a request."""
    if door == GEMINI:
        data: str = body["contents"][0]["parts"][0]["inlineData"]["data"]
    else:
        url = next(one for one in body["messages"] if one["role"] == "user")["content"][0]["image_url"]["url"]
        data = url.partition(",")[2]
    return base64.b64decode(data, validate=True)


@ALL_DOORS
def test_a_conversation_goes_out_in_the_vendors_shape(
    door: str, there: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_up(monkeypatch, door, there.root)
    there.says(answer(door, ["It is ", "빨간 ", "🌈."]))
    stops = tuple(f"stop {i}" for i in range(6))
    schema = {"type": "object", "properties": {"colour": {"type": "string"}}}
    ask = Chat(77, 0.25, 0.9, 2**40 + 5, stops, json.dumps(schema))
    [reply] = opened(door).run([SAID], ask)
    assert (reply.text, reply.finish) == ("It is 빨간 🌈.", "stop")
    [asked] = there.asked
    url = f"data:image/png;base64,{base64.b64encode(sent(door, asked.body)).decode()}"
    form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}
    if door == GEMINI:
        assert asked.path == "/v1beta/models/eyes-1:streamGenerateContent?alt=sse"
        assert asked.headers["x-goog-api-key"] == KEY
        data = {"mimeType": "image/png", "data": url.partition(",")[2]}
        assert asked.body == {
            "systemInstruction": {"parts": [{"text": "Be short."}]},
            "contents": [
                {"role": "user", "parts": [{"inlineData": data}, {"text": "뭐예요?"}]},
                {"role": "model", "parts": [{"text": "A box."}]},
                {"role": "user", "parts": [{"text": "Sure? 🌈"}]},
            ],
            "generationConfig": {
                "maxOutputTokens": 77,
                "temperature": 0.25,
                "topP": 0.9,
                "seed": (2**40 + 5) % 2**31,
                "stopSequences": list(stops[:5]),
                "responseMimeType": "application/json",
                "responseJsonSchema": schema,
            },
        }
        return
    assert asked.path == "/v1/chat/completions"
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    # The hub's client turns the schema into the form that its own servers want.
    hubs = {"type": "json_object", "value": schema}
    assert asked.body == {
        "model": "eyes-1",
        "messages": [
            {"role": "system", "content": "Be short."},
            {
                "role": "user",
                "content": [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "뭐예요?"}],
            },
            {"role": "assistant", "content": "A box."},
            {"role": "user", "content": "Sure? 🌈"},
        ],
        "max_tokens": 77,
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.25,
        "top_p": 0.9,
        "seed": 2**40 + 5,
        "stop": list(stops[:4]),
        "response_format": hubs if door == HUGGINGFACE else form,
    }


@ALL_DOORS
def test_what_stands_at_its_default_is_left_to_the_vendor(
    door: str, there: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_up(monkeypatch, door, there.root)
    there.says(answer(door, ["Hi."]))
    opened(door).run([Conversation.about(question="Hello")], Chat(5, temperature=1.0))
    [asked] = there.asked
    if door == GEMINI:
        assert asked.body["generationConfig"] == {"maxOutputTokens": 5, "temperature": 1.0}
    else:
        assert set(asked.body) == {"model", "messages", "max_tokens", "stream", "stream_options"}
        assert asked.body["messages"] == [{"role": "user", "content": "Hello"}]


def test_openai_itself_gets_the_new_name_of_the_longest_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    bodies: list[Any] = []
    monkeypatch.setattr(remote.openai, "events", lambda server, route, body: bodies.append((server, body)) or iter(()))
    monkeypatch.setenv("ANMOK_OPENAI_MODEL", "eyes-1")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-theirs")
    with pytest.raises(AnmokError, match="broke off"):
        opened(OPENAI).run([Conversation.about(question="Hello")], Chat(5))
    [(server, body)] = bodies
    assert (server.address, server.headers) == ("https://api.openai.com/v1", {"authorization": "Bearer sk-theirs"})
    assert body["max_completion_tokens"] == 5
    assert "max_tokens" not in body


def test_a_picture_goes_out_small_and_with_nothing_else_of_its_file(
    there: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_up(monkeypatch, OPENAI, there.root)
    there.says(answer(OPENAI, ["Hm."]))
    exif = pillow.Exif()
    exif[0x0110], exif[0x8825] = "SecretCam 3000", {1: "N", 2: (37.0, 33.0, 0.0)}
    small, large = picture((61, 83), 1), picture((300, 5000), 2)
    files = []
    for image in (small, large):
        file = io.BytesIO()
        pillow.fromarray(image).save(file, "PNG", exif=exif, comment=b"SecretCam")
        files.append(file.getvalue())
    assert b"SecretCam" in files[0]
    model = opened(OPENAI)
    for data in files:
        model.run([Conversation.about(data, question="?")], Chat())
    first, second = (sent(OPENAI, asked.body) for asked in there.asked)
    with pillow.open(io.BytesIO(first)) as shown:
        assert (shown.format, len(shown.getexif())) == ("PNG", 0)
        np.testing.assert_array_equal(np.asarray(shown), small)  # whole, and as it was
    with pillow.open(io.BytesIO(second)) as shown:
        assert (shown.format, shown.size, len(shown.getexif())) == ("JPEG", (2048, 123), 0)
        wanted = pillow.fromarray(large).resize((2048, 123), pillow.Resampling.LANCZOS)
        difference = np.abs(np.asarray(shown).astype(int) - np.asarray(wanted).astype(int))
        assert difference.mean() < 2.5
    assert b"SecretCam" not in first + second


def test_pictures_are_bounded_together(there: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    set_up(monkeypatch, OPENAI, there.root)
    there.says(answer(OPENAI, ["Hm."]))
    noise = [np.random.default_rng(i).integers(0, 256, (900, 900, 3), np.uint8) for i in range(16)]
    files = photos.files(np.stack([image.transpose(2, 0, 1) for image in noise[:2]]))
    assert files["file"].dtype == np.uint8
    assert files["file"].shape == (2, int(files["length"].max()))
    with pytest.raises(
        TooMuch, match=r"the pictures of this conversation have \d+ MB together, and 15 MB are the most"
    ):
        opened(OPENAI).run([Conversation.about(*noise, question="?")], Chat())
    with pytest.raises(BadRequest, match="17 pictures for openai-chat, which takes 16"):
        opened(OPENAI).run([Conversation.about(*[RED] * 17, question="?")], Chat())
    assert there.asked == []


# What comes back ------------------------------------------------------------------------------------------


@ALL_DOORS
def test_counts_are_the_vendors_and_what_he_does_not_say_is_unknown(
    door: str, there: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_up(monkeypatch, door, there.root)
    there.says(answer(door, ["A ", "red ", "box."]))
    seen, read = opened(door).run([Conversation.about(RED, question="?"), Conversation.about(question="?")], Chat())
    if door == GEMINI:  # thoughts are made and paid for; and it counts what pictures took
        assert facts(seen) == (265, 29, 258, ())
    else:
        assert facts(seen) == (1117, 9, 0, ("image_tokens",))
        assert seen.to_dict()["unknown"] == ["image_tokens"]
        assert facts(read) == (1117, 9, 0, ())  # no picture, so none of its tokens
    assert "unknown" not in read.to_dict()
    assert 0 < seen.seconds_to_first <= seen.seconds < 30


@ALL_DOORS
def test_words_come_as_they_are_said(door: str, there: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    set_up(monkeypatch, door, there.root)
    goes_on = threading.Event()
    whole = answer(door, ["It is ", "red."])
    cut = whole.rindex(b"data:", 0, whole.index(b"red."))

    def slowly(write: Write) -> None:
        write(whole[:cut])
        assert goes_on.wait(20)
        write(whole[cut:])

    there.says(Answer(slowly))
    pieces = opened(door).stream(SAID, Chat())
    assert next(pieces).text == "It is "
    goes_on.set()
    rest = list(pieces)
    assert [one.text for one in rest] == ["red.", ""]
    assert rest[-1].reply is not None
    assert rest[-1].reply.text == "It is red."


@ALL_DOORS
def test_an_answer_that_was_cut_off_says_so(door: str, there: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    set_up(monkeypatch, door, there.root)
    there.says(answer(door, ["It is"], why="length"))
    [reply] = opened(door).run([SAID], Chat(2))
    assert (reply.text, reply.finish) == ("It is", "length")


@ALL_DOORS
def test_a_stop_text_that_the_vendor_was_not_told_ends_the_answer_here(
    door: str, there: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_up(monkeypatch, door, there.root)
    there.says(answer(door, ["It is r", "e", "d. And", " more."]))
    [reply] = opened(door).run([SAID], Chat(stop=("1", "2", "3", "4", "5", "red")))
    assert (reply.text, reply.finish) == ("It is ", "stop")
    assert facts(reply) == (0, 0, 0, ("tokens_in", "tokens_out", "image_tokens"))


@ALL_DOORS
def test_who_leaves_ends_the_work_there(door: str, there: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    set_up(monkeypatch, door, there.root)
    whole = answer(door, ["word "] * 3)
    cut = whole.index(b"data:", whole.index(b"word ")) if door != GEMINI else whole.rindex(b"data:")

    def endlessly(write: Write) -> None:
        write(whole[:cut])
        ends = time.monotonic() + 20
        while time.monotonic() < ends:
            write(b": a comment keeps the line open\n\n" * 200)
            time.sleep(0.01)

    there.says(Answer(endlessly))
    with contextlib.closing(opened(door).stream(SAID, Chat())) as pieces:  # type: ignore[type-var]
        assert next(pieces).text == "word "
    assert there.broken.wait(10)


def test_a_server_that_does_not_stream_is_understood(there: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    set_up(monkeypatch, OPENAI, there.root)
    message = {"role": "assistant", "content": "It is red.", "refusal": None, "annotations": []}
    whole = {
        "object": "chat.completion",
        "model": "eyes-1",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25},
    }
    there.says(Answer(json.dumps(whole).encode(), kind="application/json"))
    [reply] = opened(OPENAI).run([Conversation.about(question="?")], Chat())
    assert (reply.text, facts(reply)) == ("It is red.", (20, 5, 0, ()))


def test_another_model_than_the_one_asked_for_is_told(
    there: Vendor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "anmok")
    for asks, is_told in (("eyes-1", False), ("eyes-1-2026-08-06", False), ("eyes-2", True)):
        set_up(monkeypatch, OPENAI, there.root, asks)
        there.says(openai(["Hm."]))
        caplog.clear()
        opened(OPENAI).run([Conversation.about(question="?")], Chat())
        assert bool(caplog.records) == is_told
    assert "asked for eyes-2, and eyes-1-2026-08-06 answers" in caplog.text
    set_up(monkeypatch, GEMINI, there.root, "models/eyes-2")
    there.says(gemini(["Hm."]))
    opened(GEMINI).run([Conversation.about(question="?")], Chat())
    assert "asked for models/eyes-2, and eyes-1 answers" in caplog.text
    assert there.asked[-1].path.startswith("/v1beta/models/eyes-2:")


def test_several_are_asked_at_a_time_and_answered_in_order(there: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    set_up(monkeypatch, OPENAI, there.root)
    busy, most, lock = [0], [0], threading.Lock()
    together = threading.Barrier(4)

    def counted(number: int) -> Answer:
        def say(write: Write) -> None:
            with lock:
                busy[0] += 1
                most[0] = max(most[0], busy[0])
            if number < 4:
                together.wait(10)
            question = there.asked[number].body["messages"][0]["content"]
            with lock:
                busy[0] -= 1
            write(openai([f"{question}!"]))

        return Answer(say)

    there.says(*(counted(number) for number in range(9)))
    said = [Conversation.about(question=f"q{number}") for number in range(9)]
    assert [reply.text for reply in opened(OPENAI).run(said, Chat())] == [f"q{number}!" for number in range(9)]
    assert most[0] == 4


def test_nobody_waits_for_anothers_answer(there: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    set_up(monkeypatch, OPENAI, there.root)
    goes_on = threading.Event()

    def late(write: Write) -> None:
        assert goes_on.wait(20)
        write(openai(["late"]))

    there.says(Answer(late), openai(["soon"]))
    model = opened(OPENAI)
    first: list[str] = []
    thread = threading.Thread(target=lambda: first.extend(one.text for one in model.stream(SAID, Chat())))
    thread.start()
    while not there.asked:
        time.sleep(0.01)
    assert model.run([SAID], Chat())[0].text == "soon"
    assert first == []
    goes_on.set()
    thread.join(20)
    assert "".join(first) == "late"


def test_what_is_unknown_is_nothing_and_comes_through_the_wire() -> None:
    reply = Reply("a", "stop", 5, 2, unknown=("image_tokens",))
    content = json.loads(json.dumps(wire.result_to_json(reply)))
    again = wire.result_from_json("chat", content)
    assert isinstance(again, Reply)
    assert (again.unknown, again.image_tokens) == (("image_tokens",), 0)
    for unknown in (("tokens_in",), ("seconds",)):
        with pytest.raises(BadRequest, match="Reply.unknown: want names of counts that are 0"):
            Reply("a", "stop", 5, 2, unknown=unknown)  # type: ignore[arg-type]
