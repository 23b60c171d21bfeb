"""Questions about sounds over the wire and on the command line."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI

from anmok import Chat, Clip, Conversation, Reply, Sound
from anmok.errors import BadRequest
from anmok.server.settings import Served, Settings
from anmok.wire import Call, Intake, call_from_json, call_to_json, chat, result_from_json, result_to_json
from anmok.wire.refusals import WrongField
from asked_sounds import HEARS, HIGH, LOW, A, folder_fixture  # noqa: F401  # a fixture
from command_line import anmok, fine
from serving import Running, running
from toy_talkers import about

# --- over the wire -------------------------------------------------------------------------------------------


def coded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def audio(data: bytes, form: str = "wav", **cut: Any) -> dict[str, Any]:
    return {"type": "input_audio", "input_audio": {"data": coded(data), "format": form}, **cut}


def asked(*parts: Any, question: str = "?") -> list[Any]:
    return [{"role": "user", "content": [*parts, {"type": "text", "text": question}]}]


def test_a_request_of_openais_dialect() -> None:
    film = {"type": "video_url", "video_url": {"url": coded(b"film")}, "has_sound": True}
    call = chat.chat_call({"messages": asked(audio(b"data", start=1, end=3), audio(b"more", "mp3"), film)}, Intake())
    [said] = call.items
    assert isinstance(said, Conversation)
    assert [(one.source, one.start, one.end) for one in said.sounds] == [(b"data", 1, 3), (b"more", 0, None)]
    assert said.clips[0].has_sound  # type: ignore[union-attr]


PLACE = "messages[0].content[0].input_audio"
WRONG: dict[str, tuple[Any, str, str]] = {
    "nothing": ({"type": "input_audio"}, PLACE, "is missing"),
    "no data": ({"type": "input_audio", "input_audio": {"format": "wav"}}, f"{PLACE}.data", "is missing"),
    "no format": ({"type": "input_audio", "input_audio": {"data": coded(b"a")}}, f"{PLACE}.format", "want"),
    "format": (audio(b"a", "midi"), f"{PLACE}.format", "want wav or mp3 or"),
    "base64": ({"type": "input_audio", "input_audio": {"data": "?", "format": "wav"}}, f"{PLACE}.data", "want base64"),
    "address": (
        {"type": "input_audio", "input_audio": {"data": "http://a.example/a.wav", "format": "wav"}},
        f"{PLACE}.data",
        "addresses are not opened",
    ),
    "large": (audio(b"0" * 101), f"{PLACE}.data", "bytes; 100 are the limit"),
    "times": (audio(b"a", start=3, end=2), "messages[0]", "start 3.* and end 2.* span no time"),
    "key": (
        {"type": "input_audio", "input_audio": {"data": coded(b"a"), "format": "wav", "x": 1}},
        PLACE,
        "unknown key",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_the_dialect_does_not_have_is_refused(case: str) -> None:
    part, place, text = WRONG[case]
    with pytest.raises(WrongField, match=text) as caught:
        chat.chat_call({"messages": asked(part)}, Intake(sound_bytes=100))
    assert str(caught.value).startswith(place)


def test_sounds_are_counted_before_they_are_decoded() -> None:
    with pytest.raises(WrongField, match="3 pictures and clips; 2 are the limit"):
        chat.chat_call({"messages": asked(*[audio(b"a")] * 3)}, Intake(items=2))


def test_our_own_dialect() -> None:
    said = about(Sound(b"data", 1, 3), Clip(b"film", has_sound=True), Sound(b"more"))
    content = call_to_json(Call(Chat(), (said,), "m"))
    first, clip, second, _ = content["items"][0]["turns"][0]["parts"]
    assert first == {"sound": coded(b"data"), "start": 1, "end": 3}
    assert (clip, second) == ({"clip": coded(b"film"), "has_sound": True}, {"sound": coded(b"more")})
    [back] = call_from_json("chat", json.loads(json.dumps(content)), Intake()).items
    assert [(one.source, one.start, one.end) for one in back.sounds] == [(b"data", 1, 3), (b"more", 0, None)]  # type: ignore[union-attr]
    for source in ((A, 16_000), "a.wav"):
        with pytest.raises(BadRequest, match="has no wire form; give the bytes of the sound file"):
            call_to_json(Call(Chat(), (about(Sound(source)),)))
    with pytest.raises(WrongField, match=r"items\[0\].turns\[0\].parts\[0\].sound: about 99"):
        call_from_json("chat", call_to_json(Call(Chat(), (about(Sound(b"0" * 99)),))), Intake(sound_bytes=50))


def test_replies_go_and_come_with_their_sounds() -> None:
    reply = Reply("a", "stop", 9, 2, 0, sound_tokens=8)
    back = result_from_json("chat", json.loads(json.dumps(result_to_json(reply))))
    assert back.sound_tokens == 8  # type: ignore[attr-defined]
    assert "sound_tokens" not in Reply("a", "stop", 9, 2).to_dict()
    with pytest.raises(BadRequest, match="tokens are counted from 0"):
        Reply("a", "stop", 9, 2, 5, sound_tokens=5)


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running(Settings(models=(Served(HEARS, HEARS),))) as found:
        yield found


def test_openais_client(server: Running) -> None:
    client = OpenAI(base_url=f"{server.address}/v1", api_key="none")
    answer = client.chat.completions.create(model=HEARS, messages=asked(audio(LOW), question="What?"))
    assert answer.choices[0].message.content == "I see a tone of 300 Hz. Question 1: What?"
    assert answer.usage.prompt_tokens_details.audio_tokens == 8  # type: ignore[union-attr]
    pieces_ = client.chat.completions.create(model=HEARS, messages=asked(audio(HIGH), question="?"), stream=True)
    assert "".join(one.choices[0].delta.content or "" for one in pieces_) == "I see a tone of 1000 Hz. Question 1: ?"


# --- on the command line -------------------------------------------------------------------------------------


def test_on_the_command_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    done = fine("chat", HEARS, "red.png", "What?", "--sound", "low.wav")
    assert done.out == "I see red, a tone of 300 Hz. Question 1: What?\n"
    assert "tokens in (16 for pictures, 8 for sounds)" in done.err
    done = fine("chat", HEARS, "clip.mp4", "What?", "--with-sound", "--json")
    answer = json.loads(done.out)
    assert answer["text"] == "I see 8 frames of red with a tone of 700 Hz. Question 1: What?"
    assert (answer["image_tokens"], answer["sound_tokens"]) == (32, 8)
    for told, text in (
        (("fake-talk", "?", "--sound", "low.wav"), "which hears none"),
        ((HEARS, "?", "--sound", "gone.wav"), "gone.wav: no such file; --sound takes"),
        ((HEARS, "?", "--with-sound"), "--with-sound is for clips, and there is none"),
        ((HEARS, "?", "--sound", "red.png"), "red.png: not a sound that anmok reads"),
    ):
        done = anmok("chat", *told)
        assert done.code in (2, 3)
        assert text in done.err
