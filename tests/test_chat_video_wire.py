"""Questions about clips over the wire: OpenAI's dialect, our own, and OpenAI's client."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import OpenAI

from anmok import Chat, Clip, Conversation, Piece, Reply
from anmok.errors import BadRequest
from anmok.inputs import Frames
from anmok.server.settings import Served, Settings
from anmok.wire import Call, Intake, call_from_json, call_to_json, chat, result_from_json, result_to_json
from anmok.wire.refusals import WrongField
from asked_clips import BLUE, GREEN, RED, WATCHES, about, film_fixture, folder_fixture, seconds  # noqa: F401  # fixtures
from serving import Running, png, running


def asked(*parts: Any, question: str = "?") -> list[Any]:
    return [{"role": "user", "content": [*parts, {"type": "text", "text": question}]}]


def address(data: bytes, kind: str = "video/mp4") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def video(data: bytes, **cut: Any) -> dict[str, Any]:
    return {"type": "video_url", "video_url": {"url": address(data)}, **cut}


def test_a_request_of_openais_dialect() -> None:
    call = chat.chat_call({"messages": asked(video(b"data", fps=2, start=1, end=3), video(b"more"))}, Intake())
    [said] = call.items
    assert isinstance(said, Conversation)
    first, second = said.clips
    assert (first.source, first.fps, first.start, first.end) == (b"data", 2, 1, 3)  # type: ignore[union-attr]
    assert (second.source, second.fps, second.start, second.end) == (b"more", None, 0, None)  # type: ignore[union-attr]
    bare = {"type": "video_url", "video_url": base64.b64encode(b"data").decode()}
    stills = ",".join(base64.b64encode(one).decode() for one in (b"one", b"two"))
    parts = [bare, {"type": "video_url", "video_url": {"url": f"data:video/jpeg;base64,{stills}"}}]
    [said] = chat.chat_call({"messages": asked(*parts)}, Intake()).items
    assert [one.source for one in said.clips] == [b"data", [b"one", b"two"]]  # type: ignore[union-attr]
    fetched: list[tuple[str, int]] = []

    def fetch(where: str, limit: int) -> bytes:
        fetched.append((where, limit))
        return b"brought"

    part = {"type": "video_url", "video_url": {"url": "https://a.example/b.mp4"}}
    [said] = chat.chat_call({"messages": asked(part)}, Intake(clip_bytes=77, fetch=fetch)).items
    assert ([one.source for one in said.clips], fetched) == ([b"brought"], [("https://a.example/b.mp4", 77)])  # type: ignore[union-attr]


SMALL = Intake(items=2, stills=2, clip_bytes=100, image_bytes=50)
PLACE = "messages[0].content[0].video_url"
WRONG: dict[str, tuple[Any, str, str]] = {
    "nothing": ({"type": "video_url"}, "messages[0].content[0].video_url", "is missing"),
    "no url": ({"type": "video_url", "video_url": {}}, f"{PLACE}.url", "is missing"),
    "number": ({"type": "video_url", "video_url": {"url": 3}}, f"{PLACE}.url", "want base64"),
    "path": ({"type": "video_url", "video_url": {"url": "file:///etc/a.mp4"}}, f"{PLACE}.url", "want base64"),
    "address": (
        {"type": "video_url", "video_url": {"url": "http://a/b.mp4"}},
        f"{PLACE}.url",
        "this server opens no addresses; send the video itself as base64",
    ),
    "large": (video(b"0" * 200), f"{PLACE}.url", "about 201 bytes; 100 are the limit"),
    "stills": (
        {"type": "video_url", "video_url": {"url": "data:video/jpeg;base64,YQ==,YQ==,YQ=="}},
        f"{PLACE}.url",
        "3 frames; 2 are the limit",
    ),
    "large still": (
        {"type": "video_url", "video_url": {"url": "data:video/jpeg;base64,YQ==," + "A" * 80}},
        f"{PLACE}.url",
        "about 60 bytes; 50 are the limit",
    ),
    "no still": (
        {"type": "video_url", "video_url": {"url": "data:video/jpeg;base64,YQ==,"}},
        f"{PLACE}.url",
        "the file is empty",
    ),
    "fps": (video(b"data", fps="fast"), "messages[0].content[0].fps", "want a number"),
    "no fps": (video(b"data", fps=0), "messages[0]", "clip: fps 0.0 must lie above 0"),
    "span": (video(b"data", start=3, end=3), "messages[0]", "clip: start 3.0 and end 3.0 span no time"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_clips_are_told_where_and_what(name: str) -> None:
    part, place, message = WRONG[name]
    with pytest.raises(WrongField) as caught:
        chat.chat_call({"messages": asked(part)}, SMALL)
    assert (caught.value.field, str(caught.value)[: len(f"{place}: {message}")]) == (place, f"{place}: {message}")


def test_clips_count_among_what_is_shown_and_are_the_users() -> None:
    with pytest.raises(WrongField, match="messages: 3 pictures and clips; 2 are the limit"):
        chat.chat_call({"messages": asked(*[video(b"data")] * 3)}, SMALL)
    with pytest.raises(WrongField, match="system's turn: pictures are the user's to show"):
        chat.chat_call({"messages": [{"role": "system", "content": [video(b"data")]}, *asked()]}, Intake())


def test_our_own_dialect_has_clips_in_turns() -> None:
    said = about(Clip(b"data", fps=2.0, end=3.5), b"photo", Clip([b"one", b"two"], start=1.0))
    call = Call(Chat(), (said,), "m")
    content = json.loads(json.dumps(call_to_json(call)))
    assert content["items"][0]["turns"][0]["parts"][0] == {"clip": "ZGF0YQ==", "fps": 2, "end": 3.5}
    assert repr(call_from_json("chat", content, Intake())) == repr(call)
    [named] = call_from_json(
        "chat",
        {"items": [{"turns": [{"role": "user", "parts": [{"clip": {"part": "film"}}]}]}]},
        Intake(),
        {"film": b"bytes"},
    ).items
    assert [one.source for one in named.clips] == [b"bytes"]  # type: ignore[union-attr]
    turns = [{"role": "user", "parts": [{"clip": "ZGF0YQ==", "cues": []}]}]
    with pytest.raises(BadRequest, match=r"parts\[0\]: unknown key 'cues'; want clip, fps, start, end"):
        call_from_json("chat", {"items": [{"turns": turns}]}, Intake())
    with pytest.raises(BadRequest, match="Frames have no wire form; send the clip"):
        call_to_json(Call(Chat(), (about(Frames((b"a",), (0.0,))),)))
    reply = Reply("hi", "stop", 3, 2, 1, 0.5, 1.0, ((0.25, 1 / 3), (2.0,)))
    for result in (reply, Piece("hi", reply)):
        again = result_from_json("chat", json.loads(json.dumps(result_to_json(result))))
        found = again.reply if isinstance(again, Piece) else again
        assert isinstance(found, Reply)
        assert found.frames == reply.frames


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running(Settings(models=tuple(Served.of(name) for name in (WATCHES, "fake-talk")))) as found:
        yield found


def test_the_openai_client_asks_about_a_clip(server: Running, film: bytes) -> None:
    with OpenAI(base_url=f"{server.address}/v1", api_key="none", max_retries=0) as client:
        create: Any = client.chat.completions.create
        picture = {"type": "image_url", "image_url": {"url": address(png(RED), "image/png")}}
        answer = create(model=WATCHES, messages=asked(video(film, fps=1), picture, question="뭐예요?"))
        assert (
            answer.choices[0].message.content == "I see 6 frames of red then green then blue, red. Question 1: 뭐예요?"
        )
        assert [list(one) for one in answer.frames] == [seconds(0, 1, 2, 3, 4, 5)]
        assert answer.usage.prompt_tokens_details.image_tokens == 6 * 4 + 16
        *_, last = pieces = list(create(model=WATCHES, messages=asked(video(film, fps=1)), stream=True))
        assert "".join(one.choices[0].delta.content or "" for one in pieces).startswith("I see 6 frames of red")
        assert [list(one) for one in last.frames] == [seconds(0, 1, 2, 3, 4, 5)]
        assert not hasattr(create(model=WATCHES, messages=asked(picture)), "frames")
        stills = ",".join(base64.b64encode(png(one)).decode() for one in (GREEN, BLUE))
        part = {"type": "video_url", "video_url": {"url": f"data:video/jpeg;base64,{stills}"}}
        told = create(model=WATCHES, messages=asked(part)).choices[0].message.content
        assert told == "I see 2 frames of green then blue. Question 1: ?"
        for is_streamed in (False, True):
            with pytest.raises(openai.UnprocessableEntityError, match="1 clip for fake-talk, which takes none"):
                create(model="fake-talk", messages=asked(video(film)), stream=is_streamed)
            with pytest.raises(openai.UnprocessableEntityError, match="not a clip that anmok reads"):
                create(model=WATCHES, messages=asked(video(b"no clip")), stream=is_streamed)


def test_our_own_routes_take_clips(server: Running, film: bytes) -> None:
    body = call_to_json(Call(Chat(), (about(Clip(film)),), WATCHES))
    whole = server.post("/run/chat", body)
    [answer] = whole.json["answers"]
    assert answer["text"] == "I see 8 frames of red then green then blue. Question 1: ?"
    assert answer["frames"] == [seconds(0.3, 1.1, 1.8, 2.6, 3.3, 4.1, 4.8, 5.6)]
    rows = server.post("/run/chat", body, accept="application/x-ndjson").body.splitlines()
    assert json.loads(rows[-1])["reply"]["frames"] == answer["frames"]
