"""Conversations about clips: in Python, the engine, another process, and on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from anmok import Chat, Clip, Conversation, Cue, Encoded, Model, Reply
from anmok.catalogue import card
from anmok.engine import Engine, Limits
from anmok.errors import BadMedia, BadRequest, WrongState
from anmok.inputs import Frames
from anmok.isolation import Apart
from anmok.load import load, tiny
from anmok.tasks import Chats, Watches
from asked_clips import BLUE, GREEN, RED, WATCHES, about, film_fixture, folder_fixture, seconds  # noqa: F401  # fixtures
from command_line import anmok, fine
from serving import png

PLENTY = 2**30


@pytest.fixture(scope="module")
def model() -> Model:
    return load(WATCHES, device="cpu")


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
