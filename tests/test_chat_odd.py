"""What people send to a model that talks and nobody meant: each has a defined answer, or one line that says why not,
the same in Python, on the command line and over HTTP."""

from __future__ import annotations

import base64
import io
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as pillow

from anmok import AnmokError, Chat, Clip, Conversation, Model, Text, Turn
from anmok.errors import BadMedia, BadRequest
from anmok.load import load
from anmok.server.settings import Served, Settings
from asked_clips import BLUE, RED, WATCHES, filmed
from command_line import anmok
from serving import Running, png, running


@pytest.fixture(scope="module")
def model() -> Model:
    return load(WATCHES, device="cpu")


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running(Settings(models=(Served.of(WATCHES), Served.of("fake-talk-text")))) as found:
        yield found


def flat(width: int, height: int, form: str, mode: str) -> bytes:
    file = io.BytesIO()
    pillow.new(mode, (width, height), "red" if mode == "RGB" else 0).save(file, form)
    return file.getvalue()


def part(data: bytes, kind: str = "image") -> dict[str, Any]:
    url = f"data:{kind}/x;base64,{base64.b64encode(data).decode()}"
    return {"type": f"{kind}_url", f"{kind}_url": {"url": url}}


@dataclass(frozen=True)
class Answered:
    """How one thing was answered on one of the three ways."""

    text: str = ""
    error: str = ""


def in_python(model: Model, said: Callable[[], Conversation]) -> Answered:
    try:
        return Answered(model.run([said()], Chat())[0].text)
    except AnmokError as error:
        told = str(error)
    assert len(told.splitlines()) == 1
    return Answered(error=told)


def by_command(*words: str, name: str = WATCHES) -> Answered:
    done = anmok("chat", name, *words)
    if done.code == 0:
        return Answered(done.out.removesuffix("\n"))
    assert len(done.lines) == 1
    return Answered(error=done.lines[0].removeprefix("error: "))


def over_http(server: Running, messages: list[Any], name: str = WATCHES) -> Answered:
    reply = server.post("/v1/chat/completions", {"model": name, "messages": messages})
    if reply.status == 200:
        return Answered(reply.json["choices"][0]["message"]["content"])
    assert reply.status in (400, 413, 422), reply.body
    assert len(reply.json["error"]["message"].splitlines()) == 1
    return Answered(error=reply.json["error"]["message"])


def user(*content: Any) -> list[Any]:
    return [{"role": "user", "content": list(content) if content else ""}]


def words(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def test_a_picture_that_is_spoken_of_but_not_there(model: Model, server: Running) -> None:
    """A question is answered as it stands; what looks like a place for a picture is letters; a part without its picture
    is an error."""
    for text in ("What is in the picture?", "<image>\nWhat is it?", "<|image_pad|> [IMG] <video>"):
        told = Answered(f"Question 1: {text}")
        assert in_python(model, lambda text=text: Conversation.about(question=text)) == told  # type: ignore[misc]
        assert by_command("--", text) == told
        assert over_http(server, user(words(text))) == told
    for kind in ("image", "video"):
        lost: list[Any] = [{"type": f"{kind}_url"}, {"type": f"{kind}_url", f"{kind}_url": {}}]
        for one in lost:
            assert "is missing" in over_http(server, user(one, words("?"))).error
        empty = {"type": f"{kind}_url", f"{kind}_url": {"url": ""}}
        assert "the file is empty" in over_http(server, user(empty, words("?"))).error
    assert "the file is empty" in in_python(model, lambda: Conversation.about(b"", question="?")).error
    assert "gone.png: no such file" in by_command("gone.png", "?").error


def test_more_pictures_than_a_model_takes(model: Model, server: Running, tmp_path: Path) -> None:
    told = Answered(error=f"5 pictures for {WATCHES}, which takes 4 in a conversation")
    assert in_python(model, lambda: Conversation.about(*[RED] * 5, question="?")) == told
    spread = Conversation.about(RED, RED, RED, question="?").then(
        "a", "?", RED, RED
    )  # over the turns they count as well
    assert in_python(model, lambda: spread) == told
    (tmp_path / "a.png").write_bytes(png(RED))
    assert by_command(*[str(tmp_path / "a.png")] * 5, "?") == told
    assert over_http(server, user(*[part(png(RED))] * 5, words("?"))) == told
    blind = over_http(server, user(part(png(RED)), words("?")), "fake-talk-text")
    assert blind == Answered(error="1 picture for fake-talk-text, which takes none: it only reads")


def test_twenty_megapixels(model: Model, server: Running, tmp_path: Path) -> None:
    """They are looked at: the limit is 50, and stands in the header."""
    data = flat(5000, 4000, "JPEG", "RGB")
    told = Answered("I see red. Question 1: What?")
    assert in_python(model, lambda: Conversation.about(data, question="What?")) == told
    (tmp_path / "a.png").write_bytes(data)
    assert by_command(str(tmp_path / "a.png"), "What?") == told
    assert over_http(server, user(part(data), words("What?"))) == told


def test_over_fifty_megapixels(model: Model, server: Running) -> None:
    data = flat(8000, 6251, "PNG", "1")
    told = "8000 x 6251 is over the limit of 50,000,000 pixels; make it smaller"
    assert told in in_python(model, lambda: Conversation.about(data, question="?")).error
    assert told in over_http(server, user(part(data), words("?"))).error


@pytest.mark.parametrize("text", ["", " ", "\n\t", "\u3000", "\u00a0\u2003"])
def test_nothing_is_asked(model: Model, server: Running, text: str) -> None:
    """Nothing at all is an error; a picture without words, or after the words, is a question."""
    nothing = "user's turn: nothing is said in it"
    assert in_python(model, lambda: Conversation.about(question=text)).error == nothing
    assert by_command("--", text).error == nothing
    assert over_http(server, user(words(text))).error.endswith((nothing, "the text is empty"))
    assert in_python(model, lambda: Conversation((Turn("user", (RED,)),))).text == "I see red. Question 1."
    assert over_http(server, user(part(png(RED)))).text == "I see red. Question 1."


def test_longer_than_the_context(model: Model, server: Running, tmp_path: Path, monkeypatch: Any) -> None:
    text = "word " * 5000
    told = "the conversation has 8,336 tokens and the model reads 4,096; shorten it, or leave pictures out"
    assert in_python(model, lambda: Conversation.about(question=text)).error == told
    assert over_http(server, user(words(text))).error == told
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    assert "tokens and the model reads 4,096" in by_command("-").error
    shown = in_python(model, lambda: Conversation.about(RED, Clip([RED, RED]), question=text)).error
    assert shown.startswith("the conversation has 8,360 tokens, 24 of them for pictures, and the model reads 4,096")


@pytest.mark.parametrize("role", ["tool", "User", "function", "", "<|im_start|>", "system\nuser", "x" * 500])
def test_unknown_roles(server: Running, role: str) -> None:
    with pytest.raises(BadRequest, match="turn: its role is system, user, assistant, not") as caught:
        Turn(role, (Text("a"),))  # type: ignore[arg-type]
    assert len(str(caught.value)) < 120
    assert len(str(caught.value).splitlines()) == 1
    reply = over_http(server, [*user(words("a")), {"role": role, "content": "b"}])
    assert reply.error.startswith("messages[1].role: want system, developer, user, assistant")
    own = server.post("/run/chat", {"model": WATCHES, "items": [{"turns": [{"role": role, "parts": [{"text": "a"}]}]}]})
    assert own.status == 422
    assert own.json["error"]["message"].startswith("items[0].turns[0].role: want system or user or assistant")


def test_a_broken_video(model: Model, server: Running, tmp_path: Path) -> None:
    """Of all shapes. What is damaged in part is answered for what there is of it: ``test_chat_video_sampling``."""
    whole = filmed(tmp_path / "whole.mp4", RED, BLUE).read_bytes()
    wrongs = {
        "empty": b"",
        "words": b"this is no video",
        "picture": png(RED),
        "cut": whole[:400],
        "head alone": whole[:32],
        "zeros": bytes(len(whole)),
        "mirrored": whole[::-1],
    }
    for name, data in wrongs.items():
        with pytest.raises((BadMedia, BadRequest)) as caught:
            model.chat(Clip(data), "?")
        assert len(str(caught.value).splitlines()) == 1, name
        assert over_http(server, user(part(data, "video"), words("?"))).error
        (tmp_path / "a.mp4").write_bytes(data)
        assert by_command(str(tmp_path / "a.mp4"), "?").error.startswith(str(tmp_path / "a.mp4"))
    assert over_http(server, user(part(whole, "video"), words("?"))).text.startswith("I see 8 frames of red then blue.")


TEXTS = {
    "hangul": "이게 뭐예요?",
    "emoji": "What is 👩‍👩‍👧‍👦🏳️‍🌈 here?",
    "right to left": "מה זה? مرحبا \u200f\u202bאבג\u202c",
    "both ways": "Is it עברית or عربى, 한국어?",
    "odd letters": "a\u0301\u0323 ﬁ ① \ue000 \ud7ff ḍ̇",
}


@pytest.mark.parametrize("name", TEXTS)
def test_letters_of_all_kinds_come_back_whole(model: Model, server: Running, name: str) -> None:
    """In whole characters, in pieces as well, in the composed form and otherwise as they were."""
    text = TEXTS[name]
    told = Answered(f"Question 1: {unicodedata.normalize('NFC', text)}")
    assert in_python(model, lambda: Conversation.about(question=text)) == told
    assert over_http(server, user(words(text))) == told
    pieces = [piece.text for piece in model.stream(Conversation.about(question=text), Chat())]
    assert "".join(pieces) == told.text
    assert not any("\ufffd" in piece for piece in pieces)


def test_hangul_in_letters_of_its_own_costs_no_more(model: Model, server: Running) -> None:
    apart, whole = (unicodedata.normalize(form, TEXTS["hangul"]) for form in ("NFD", "NFC"))
    assert len(apart) > len(whole)
    first, second = model.run([Conversation.about(question=text) for text in (apart, whole)], Chat())
    assert (first.text, first.tokens_in, first.tokens_out) == (second.text, second.tokens_in, second.tokens_out)
    assert by_command(apart) == by_command(whole) == over_http(server, user(words(apart))) == Answered(second.text)


def test_half_a_character_is_refused(server: Running) -> None:
    reply = server.post(
        "/v1/chat/completions",
        b'{"model": "fake-talk-video", "messages": [{"role": "user", "content": "\\ud800"}]}',
        content_type="application/json",
    )
    assert reply.status == 422
    assert reply.json["error"]["message"] == "the body is no JSON (not UTF-8)"
