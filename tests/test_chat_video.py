"""Conversations about clips: in Python, the engine, another process, over HTTP, on the command line and the page."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
from numpy.typing import NDArray
from openai import OpenAI

from anmok import Chat, Clip, Conversation, Cue, Encoded, Model, Piece, Reply, clips
from anmok.catalogue import card
from anmok.engine import Engine, Limits
from anmok.errors import BadMedia, BadRequest, WrongState
from anmok.inputs import Frames
from anmok.isolation import Apart
from anmok.load import load, tiny
from anmok.server.settings import Served, Settings
from anmok.tasks import Chats, Watches
from anmok.wire import Call, Intake, call_from_json, call_to_json, chat, result_from_json, result_to_json
from anmok.wire.refusals import WrongField
from command_line import anmok, fine
from serving import Running, png, running

WATCHES = "fake-talk-video"
RED, GREEN, BLUE = (np.full((48, 64, 3), colour, np.uint8) for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255)))
PLENTY = 2**30


def filmed(path: Path, *images: NDArray[np.uint8], each: int = 20, fps: float = 10) -> Path:
    with clips.Writer(path, images[0].shape[:2], fps) as out:
        for image in images:
            for _ in range(each):
                out.write(image)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``clip.mp4``: red, green and blue, two seconds each; ``odd.webm``: one frame; ``stills``: blue, then red."""
    found = tmp_path_factory.mktemp("clips")
    filmed(found / "clip.mp4", RED, GREEN, BLUE)
    filmed(found / "odd.webm", GREEN, each=1, fps=7)
    (found / "red.png").write_bytes(png(RED))
    (found / "stills").mkdir()
    for number, image in enumerate((BLUE, BLUE, RED)):
        (found / "stills" / f"frame_{number}.png").write_bytes(png(image))
    (found / "broken.mp4").write_bytes((found / "clip.mp4").read_bytes()[:300])
    return found


@pytest.fixture(scope="module")
def model() -> Model:
    return load(WATCHES, device="cpu")


@pytest.fixture(scope="module")
def film(folder: Path) -> bytes:
    return (folder / "clip.mp4").read_bytes()


def seconds(*times: float) -> Any:
    return pytest.approx(list(times))


# --- in Python -----------------------------------------------------------------------------------------------


def test_what_happens(model: Model, folder: Path) -> None:
    reply = model.chat(Clip(folder / "clip.mp4"), "What happens?")
    assert reply.text == "I see 8 frames of red then green then blue. Question 1: What happens?"
    assert [list(one) for one in reply.frames] == [seconds(0.3, 1.1, 1.8, 2.6, 3.3, 4.1, 4.8, 5.6)]
    # 13 bytes in threes, a turn of 2, eight frames of 4.
    assert (reply.tokens_in, reply.image_tokens) == (5 + 2 + 32, 32)
    pieces = list(model.stream(Conversation.about(Clip(folder / "clip.mp4"), question="What happens?"), Chat()))
    assert pieces[-1].reply is not None
    assert (pieces[-1].reply.text, pieces[-1].reply.frames) == (reply.text, reply.frames)


def test_beside_pictures_and_in_later_turns(model: Model, folder: Path) -> None:
    said = Conversation.about(RED, Clip(folder / "stills"), BLUE, question="Which?", system="Be kind.")
    [reply] = model.run([said.then("That one.", "And?", Clip(folder / "odd.webm"))], Chat())
    told = "I see red, 3 frames of blue then red, blue, 1 frames of green. Question 2: And?"
    assert reply.text == f"Be kind. {told}"
    assert [list(one) for one in reply.frames] == [seconds(0, 0.04, 0.08), [0]]
    assert reply.image_tokens == 3 * 16 - 16 + 4 * 4


@pytest.mark.parametrize(
    ("cut", "text"),
    [
        ({"fps": 1}, "6 frames of red then green then blue"),
        ({"fps": 0.5}, "3 frames of red then green then blue"),
        ({"fps": 30}, "8 frames of red then green then blue"),
        ({"start": 2, "end": 4}, "8 frames of green"),
        ({"start": 3.5, "fps": 2}, "5 frames of green then blue"),
        ({"end": 0.2}, "2 frames of red"),
    ],
)
def test_a_clip_may_say_what_of_it_is_meant(model: Model, folder: Path, cut: dict[str, float], text: str) -> None:
    assert model.chat(Clip(folder / "clip.mp4", **cut), "?").text == f"I see {text}. Question 1: ?"  # type: ignore[arg-type]


def test_the_rate_that_a_model_learned_at(folder: Path) -> None:
    slow = load(WATCHES, device="cpu")
    slow.kind.usual_fps = 1.0
    assert [list(one) for one in slow.chat(Clip(folder / "clip.mp4"), "?").frames] == [seconds(0, 1, 2, 3, 4, 5)]
    slow.kind.usual_fps = 2.0  # twelve would be too many
    assert len(slow.chat(Clip(folder / "clip.mp4"), "?").frames[0]) == 8
    slow.close()


def test_forms_of_a_clip_answer_alike(model: Model, folder: Path, film: bytes) -> None:
    images = [image for image in (RED, GREEN, BLUE) for _ in range(20)]
    forms: list[Any] = [folder / "clip.mp4", str(folder / "clip.mp4"), film, images, np.stack(images)]
    replies = model.run([Conversation.about(Clip(one), question="?") for one in forms], Chat())
    assert len({reply.text for reply in replies}) == 1
    assert [reply.frames for reply in replies[:3]] == [replies[0].frames] * 3


def test_what_is_watched_once_answers_many_questions(model: Model, folder: Path) -> None:
    watched = model.watch(Clip(folder / "clip.mp4", fps=1))
    assert all(isinstance(state, Encoded) for state in watched.pictures)
    assert list(watched.seconds) == seconds(0, 1, 2, 3, 4, 5)
    fresh = model.run([Conversation.about(Clip(folder / "clip.mp4", fps=1), question=text) for text in "ab"], Chat())
    again = model.run([Conversation.about(watched, question=text) for text in "ab"], Chat())
    assert [(one.text, one.frames) for one in again] == [(one.text, one.frames) for one in fresh]
    for one, other in zip(model.watch(Clip(folder / "clip.mp4", fps=1)).pictures, watched.pictures, strict=True):
        assert isinstance(one, Encoded)
        assert isinstance(other, Encoded)
        np.testing.assert_array_equal(one.maps["colour"], other.maps["colour"])
    stranger = Frames((Encoded("somebody", {"colour": np.zeros(3)}),), (0.0,))
    with pytest.raises(WrongState, match="this state was made by somebody"):
        model.chat(stranger, "?")


def test_frames_that_somebody_else_chose(model: Model, folder: Path) -> None:
    reply = model.chat(Frames((RED, folder / "red.png", png(BLUE)), (1.0, 7.5, 60.0)), "?")
    assert reply.text == "I see 3 frames of red then blue. Question 1: ?"
    assert reply.frames == ((1.0, 7.5, 60.0),)


def test_a_frame_is_prepared_in_a_way_of_its_own_and_one_at_a_time(folder: Path) -> None:
    """The net gets sixteen at the most; the picture of a frame is let go of before the next one is read."""
    watching = load(WATCHES, device="cpu")
    kind, sizes, asked = watching.kind, [], 0

    def prepare_frame(image: NDArray[np.uint8]) -> Any:
        nonlocal asked
        asked += 1
        return kind.prepare(np.zeros_like(image))

    def encode(batch: NDArray[np.float32]) -> Any:
        sizes.append(len(batch))
        return type(kind).encode(kind, batch)

    kind.prepare_frame, kind.encode, kind.most_frames = prepare_frame, encode, 40
    said = Conversation.about(RED, Clip(folder / "clip.mp4"), question="?")
    assert watching.run([said], Chat())[0].text == "I see red, 40 frames of black. Question 1: ?"
    assert (asked, sizes) == (40, [16, 16, 8, 1])
    watching.close()


@pytest.mark.parametrize("name", [one.name for one in (card("fake-talk"), card("fake-talk-text"), card(WATCHES))])
def test_more_than_a_model_takes_is_refused_before_anything_is_opened(name: str) -> None:
    talker = tiny(name)
    assert isinstance(talker.kind, Chats)
    most = talker.kind.most_clips if isinstance(talker.kind, Watches) else 0
    takes = f"takes {most} in a conversation" if most else "takes none: (it only reads|show it single frames)"
    gone = [Clip("gone.mp4")] * (most + 1)
    with pytest.raises(BadRequest, match=f"{most + 1} clips? for {name}, which {takes}"):
        talker.run([Conversation.about("gone.png", *gone, question="?")] if most else [about(gone[0])], Chat())
    if not most:
        with pytest.raises(BadRequest, match=f"1 clip for {name}, which {takes}"):
            talker.watch(gone[0])
        return
    frames = Frames(("gone.png",) * (talker.kind.most_frames + 1), tuple(range(talker.kind.most_frames + 1)))
    with pytest.raises(BadRequest, match=f"9 frames for {name}, which takes 8 of a clip"):
        talker.run([about(frames)], Chat())


def about(*shown: Any, question: str = "?") -> Conversation:
    return Conversation.about(*shown, question=question)


def test_what_does_not_talk_watches_nothing() -> None:
    with pytest.raises(BadRequest, match="1 clip for fake, which takes none"):
        load("fake", device="cpu").watch(Clip("gone.mp4"))


def test_what_cannot_be_read_is_told_in_a_line(model: Model, folder: Path) -> None:
    for source in ("gone.mp4", folder / "broken.mp4", b"", b"no clip", folder / "red.png", [b"no picture"]):
        with pytest.raises(BadMedia) as caught:
            model.chat(Clip(source), "?")
        assert len(str(caught.value).splitlines()) == 1
    with pytest.raises(BadRequest, match="it is over after 6 s, so nothing is left from 7 s on"):
        model.chat(Clip(folder / "clip.mp4", start=7), "?")
    with pytest.raises(BadRequest, match="cues say what track is to follow"):
        model.watch(Clip(folder / "clip.mp4", cues=(Cue(0, box=(0, 0, 1, 1)),)))
    items = [about(Clip(one)) for one in (folder / "broken.mp4", folder / "odd.webm")]
    bad, good = model.map(items, Chat())
    assert isinstance(good, Reply)
    assert type(bad.error) is BadMedia  # type: ignore[union-attr]


# --- the engine, and another process -------------------------------------------------------------------------


def test_the_engine_watches_a_clip_once(film: bytes) -> None:
    reads = 0

    def counted(name: str, **settings: Any) -> Model:
        found = load(name, **settings)
        prepare = found.kind.prepare_frame

        def prepare_frame(image: NDArray[np.uint8]) -> Any:
            nonlocal reads
            reads += 1
            return prepare(image)

        found.kind.prepare_frame = prepare_frame
        return found

    with Engine(PLENTY, loader=counted, limits=Limits(cache_bytes=10_000)) as engine:
        said = about(Clip(film), png(RED), question="a")
        [first] = engine.run(WATCHES, [said], Chat())
        assert isinstance(first, Reply)
        [second] = engine.run(WATCHES, [said.then(first.text, "b")], Chat())
        assert isinstance(second, Reply)
        assert second.text == "I see 8 frames of red then green then blue, red. Question 2: b"
        assert (second.frames, reads) == (first.frames, 8)
        *_, last = engine.stream(WATCHES, said, Chat())
        assert last.reply is not None
        assert (last.reply.text, last.reply.frames, reads) == (first.text, first.frames, 8)
        engine.run(WATCHES, [about(Clip(film, fps=1))], Chat())  # another cut is another clip
        assert reads == 14
        engine.run(WATCHES, [about(Clip([png(RED), png(BLUE)]))] * 2, Chat())
        assert reads == 16
        status = engine.status()
        assert (status.cached_states, status.cache_hits) == (4, 4)
        assert status.cached_bytes == (8 + 1 + 6 + 2) * 12
    with Engine(PLENTY, loader=counted, limits=Limits(cache_bytes=0)) as engine:
        [plain] = engine.run(WATCHES, [said], Chat())
        assert isinstance(plain, Reply)
        assert (plain.text, plain.frames) == (first.text, first.frames)


def test_the_engine_refuses_before_it_reads_and_counts_the_bytes(film: bytes) -> None:
    with Engine(PLENTY) as engine:
        bad, good = engine.run(WATCHES, [about(*[Clip(film)] * 3), about(Clip(film))], Chat())
        assert "3 clips for fake-talk-video, which takes 2 in a conversation" in str(bad.error)  # type: ignore[union-attr]
        assert isinstance(good, Reply)
        [blind] = engine.run("fake-talk", [about(Clip(b"no clip"))], Chat())
        assert "1 clip for fake-talk, which takes none" in str(blind.error)  # type: ignore[union-attr]
        frames = Frames((RED, png(BLUE)), (0.0, 2.0))
        [chosen] = engine.run(WATCHES, [about(frames, Clip([RED, BLUE]))], Chat())
        assert isinstance(chosen, Reply)
        assert chosen.frames == ((0.0, 2.0), (0.0, 0.04))
    with Engine(PLENTY, limits=Limits(queue_bytes=5000)) as engine:
        for shown in (Clip(b"0" * 6000), Clip([b"0" * 3000] * 2), Frames((RED, RED), (0.0, 1.0))):
            with pytest.raises(BadRequest, match="bytes"):
                engine.submit(WATCHES, [about(shown)], Chat())


def test_in_another_process_it_says_the_same(model: Model, folder: Path, film: bytes) -> None:
    from PIL import Image as pillow

    shown = [about(Clip(folder / "clip.mp4", fps=1), Clip(film)), about(Clip([pillow.fromarray(RED), BLUE]), RED)]
    shown.append(about(Frames((RED, folder / "red.png", png(BLUE)), (0.0, 1.0, 2.0))))
    shown.append(about(model.watch(Clip(film, fps=2, end=2))))
    with Apart(device="cpu") as apart, apart(WATCHES) as there:
        ours, theirs = model.run(shown, Chat()), there.run(shown, Chat())
        assert [(one.text, one.frames) for one in theirs] == [(one.text, one.frames) for one in ours]
        *_, last = there.stream(shown[0], Chat())
        assert last.reply is not None
        assert (last.reply.text, last.reply.frames) == (ours[0].text, ours[0].frames)
        with pytest.raises(BadRequest, match="3 clips for fake-talk-video"):
            there.run([about(*[Clip(film)] * 3)], Chat())
        with pytest.raises(BadMedia, match="no such file"):
            there.run([about(Clip("gone.mp4"))], Chat())


# --- over the wire -------------------------------------------------------------------------------------------


def address(data: bytes, kind: str = "video/mp4") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def asked(*parts: Any, question: str = "?") -> list[Any]:
    return [{"role": "user", "content": [*parts, {"type": "text", "text": question}]}]


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


# --- on the command line -------------------------------------------------------------------------------------


def test_the_command_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    done = fine("chat", WATCHES, "clip.mp4", "What happens?")
    assert done.out == "I see 8 frames of red then green then blue. Question 1: What happens?\n"
    assert done.lines[-1] == "note: clip.mp4: 8 frames shown, from 0.3 s to 5.6 s"
    done = fine("chat", WATCHES, "stills", "red.png", "odd.webm", "?", "--json", "--fps", "2")
    assert json.loads(done.out)["text"] == "I see 3 frames of blue then red, red, 1 frames of green. Question 1: ?"
    assert json.loads(done.out)["frames"] == [[0.0, 0.5, 1.0], [0.0]]
    assert done.lines[-2:] == [
        "note: stills: 3 frames shown, from 0.0 s to 1.0 s",
        "note: odd.webm: 1 frame shown, at 0.0 s",
    ]
    assert fine("chat", WATCHES, "clip.mp4", "?", "--start", "4", "--end", "5").out.startswith(
        "I see 8 frames of blue."
    )


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("fake-talk", "clip.mp4", "?"), 2, "1 clip for fake-talk, which takes none: show it single frames"),
        ((WATCHES, "broken.mp4", "?"), 3, "broken.mp4: not a clip that anmok reads"),
        ((WATCHES, "gone.mp4", "?"), 3, "gone.mp4: no such file"),
        (
            (WATCHES, "clip.mp4"),
            2,
            'clip.mp4 is a file: end with the question, anmok chat fake-talk-video clip.mp4 "What',
        ),
        ((WATCHES, "stills"), 2, "stills is a folder: end with the question"),
        ((WATCHES, "red.png", "?", "--fps", "1"), 2, "--fps, --start and --end are for clips, and there is none"),
        ((WATCHES, "red.png", "?", "--start", "-1"), 2, "--fps, --start and --end are for clips, and there is none"),
        ((WATCHES, "clip.mp4", "?", "--fps", "0"), 2, "clip: fps 0.0 must lie above 0"),
        ((WATCHES, "clip.mp4", "?", "--start", "9"), 2, "it is over after 6 s, so nothing is left from 9 s on"),
        ((WATCHES, *["clip.mp4"] * 3, "?"), 2, "3 clips for fake-talk-video, which takes 2 in a conversation"),
    ],
)
def test_what_cannot_be_answered_is_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], code: int, message: str
) -> None:
    monkeypatch.chdir(folder)
    done = anmok("chat", *words)
    assert (done.code, done.out) == (code, "")
    assert done.err.startswith("error: ")
    assert message in done.err
    assert len(done.lines) == 1
