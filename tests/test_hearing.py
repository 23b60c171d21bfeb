"""Conversations about sounds: nets at toy size, what is refused, the engine, and another process."""

from __future__ import annotations

import functools
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from anmok import Chat, Classify, Clip, Model, Sound, cards
from anmok.engine import Engine, Limits
from anmok.errors import BadMedia, BadRequest, WrongState
from anmok.inputs import Encoded, Frames
from anmok.isolation import Apart
from anmok.load import load, tiny
from anmok.nets.filterbank import filterbank
from anmok.nets.hearing import pieces
from anmok.tasks import Chats, Hears
from asked_sounds import AV, HEARS, HIGH, LOW, RED, A, folder_fixture  # noqa: F401  # a fixture
from battery import picture
from serving import png
from sound_files import tone
from toy_talkers import SHORT, about, script, written

SOUND = Sound((A, 16_000))
PLENTY = 2**30


@functools.cache
def model(name: str) -> Model:
    return tiny(name)


# --- a net at toy size ---------------------------------------------------------------------------------------


def rows_of(net: Any, samples: NDArray[np.float32]) -> torch.Tensor:
    """What the ear makes of a second, by hand, (N, W)."""
    whole = np.zeros(16_000, np.float32)
    whole[: len(samples[:16_000])] = samples[:16_000]
    banks = torch.from_numpy(filterbank(whole * 2**15))[None]  # (1, T, 128)
    rows: torch.Tensor = net.ear.mm_projector_a(net.ear.audio_tower(banks))[0]
    return rows


FILM = Frames((picture((37, 61), 1), picture((52, 30), 2)), (0.0, 1.0))


@pytest.mark.parametrize("way", ["sound", "picture and sound", "film and its sound"])
def test_answers_are_the_readers(way: str) -> None:
    """Greedy, token by token, against the reader on rows that were put together by hand: of a film those of the sound
    follow at once, as the authors join them."""
    talker = model(AV)
    kind: Any = talker.kind
    net, reader = kind._net, kind._parts.reader
    film = Frames(FILM.pictures, FILM.seconds, SOUND)
    shown = {"sound": (SOUND,), "picture and sound": (FILM.pictures[0], SOUND), "film and its sound": (film,)}[way]
    embed = net.get_input_embeddings()
    with torch.inference_mode():
        sights = {
            "sound": [],
            "picture and sound": [kind._eyes.encode(torch.from_numpy(kind.prepare(FILM.pictures[0]).pixels)[None])[0]],
            "film and its sound": [
                kind._frames.film(
                    kind._frames.encode(
                        torch.from_numpy(np.stack([kind.prepare_frame(one).pixels for one in FILM.pictures]))
                    )
                )
            ],
        }[way]
        heard = rows_of(net, np.concatenate(pieces(np.rint(A * 2**15) / 2**15)) if way.startswith("film") else A)
        between = "\n" if way == "picture and sound" else ""
        parts = [
            embed(torch.tensor(reader.ids(["<|im_start|>user\n"]))),
            *sights,
            *([embed(torch.tensor(reader.ids([between])))] if between else []),
            heard,
            embed(torch.tensor(reader.ids(["\nWhat is it? 뭐예요?<|im_end|>\n<|im_start|>assistant"]))),
        ]
        rows = torch.cat(parts)
        wanted: list[int] = []
        while len(wanted) < SHORT.max_tokens and not set(wanted) & kind._parts.ends:
            token = int(net.reader(inputs_embeds=rows[None]).logits[0, -1].argmax())
            wanted.append(token)
            rows = torch.cat([rows, embed(torch.tensor([token]))])
    assert written(talker, about(*shown)).tokens == wanted
    read = script(talker, about(*shown))
    torch.testing.assert_close(read.rows, torch.cat([*sights, heard]), rtol=1e-4, atol=1e-4)


def test_tokens_are_counted() -> None:
    """A second is 98 windows, six patches of them, times eight; a picture or film of four frames is 8."""
    said = [about(SOUND), about(FILM.pictures[0], SOUND), about(Frames(FILM.pictures, FILM.seconds, SOUND)), about()]
    replies = model(AV).run(said, SHORT)
    assert [(one.image_tokens, one.sound_tokens) for one in replies] == [(0, 48), (8, 48), (8, 48), (0, 0)]
    assert replies[0].tokens_in - 48 == replies[3].tokens_in + 1  # a line's end behind the sound


def test_answers_do_not_depend_on_batch_mates() -> None:
    other = Sound((tone(1000, 0.4), 16_000))
    said = [about(SOUND), about(FILM), about(other), about(SOUND).then("A beep.", "Sure?"), about()]
    together = model(AV).run(said, SHORT)
    alone = [model(AV).run([one], SHORT)[0] for one in said]
    assert [one.text for one in together] == [one.text for one in alone]
    logits = [model(AV).kind._speaker.begin([script(model(AV), one)]).logits for one in (said[0], said[2])]  # type: ignore[attr-defined]
    assert float(np.abs(logits[0] - logits[1]).max()) > 1e-3


def test_a_sound_is_heard_once_and_remembered() -> None:
    """As a state, and as the beginning of a prompt."""
    talker = tiny(AV)
    kind: Any = talker.kind
    state = talker.listen(SOUND)
    assert isinstance(state.source, Encoded)
    assert state.source.maps["rows"].shape == (48, 32)
    assert not state.source.maps["rows"].flags.writeable
    first = talker.chat(SOUND, "What is it?", max_tokens=3)
    kind._ears = None  # nothing more is heard
    kind._ears = type("Slots", (), {"slot": staticmethod(lambda count: "<audio>" * count)})
    assert talker.chat(state, "What is it?", max_tokens=3).text == first.text
    list(talker.stream(about(state, question="a"), SHORT))
    again = script(talker, about(state, question="b"))
    _, known = kind._speaker._recalled(again)
    assert known > 48
    with pytest.raises(WrongState, match="this state was made by videollama2.1-7b-av@.* listen again"):
        model(HEARS).listen(state)


def test_labels_are_answers_about_a_sound() -> None:
    scores = model(AV).run([about(SOUND)], Classify(("a dog", "a siren")))[0]
    assert float(scores.scores.sum()) == pytest.approx(1)
    other = model(AV).run([about(Sound((tone(90), 16_000)))], Classify(("a dog", "a siren")))[0]
    assert abs(float(scores.scores[0] - other.scores[0])) > 1e-6


def test_a_clips_sound_track_is_heard_in_eight_pieces() -> None:
    """Of 18 seconds two begin every second one, and the last two seconds are not heard; of one second, eight times the
    whole."""
    track = np.arange(18 * 16_000, dtype=np.float32)
    assert [int(one[0]) for one in pieces(track)] == [2 * 16_000 * number for number in range(8)]
    assert {len(one) for one in pieces(track)} == {32_000}
    assert [len(one) for one in pieces(track[:16_000])] == [16_000] * 8
    assert [int(one[0]) for one in pieces(track[: 3 * 16_000])] == [2000 * number for number in range(8)]


def test_a_clip_with_its_sound(folder: Path) -> None:
    talker = model(AV)
    seen, both = talker.watch(Clip(folder / "clip.mp4")), talker.watch(Clip(folder / "clip.mp4", has_sound=True))
    assert seen.sound is None
    assert both.sound is not None
    assert len(both.pictures) == 4
    whole = Clip(folder / "clip.mp4", has_sound=True)
    reply = talker.chat(whole, "What?", max_tokens=3)
    assert (reply.image_tokens, reply.sound_tokens, len(reply.frames)) == (8, 48, 1)
    assert reply.text == talker.chat(both, "What?", max_tokens=3).text


def test_a_model_hears_if_its_card_says_so() -> None:
    for one in cards("chat", is_hidden=True):
        if one.family in ("videollama2", "fake", "phi", "llava"):
            kind = model(one.name).kind
            assert isinstance(kind, Chats)
            assert (isinstance(kind, Hears) and kind.most_sounds > 0) == one.has_ears, one.name


# --- what is refused -----------------------------------------------------------------------------------------


def test_those_that_do_not_hear_say_who_does() -> None:
    deaf = load("fake-talk-video", device="cpu")
    for said in (about(Sound(b"never opened")), about(Clip("gone.mp4", has_sound=True))):
        with pytest.raises(BadRequest, match="1 sound for fake-talk-video, which hears none .*gemma3n-e2b"):
            deaf.run([said], Chat())
    with pytest.raises(BadRequest, match="which hears none"):
        deaf.listen(SOUND)
    with pytest.raises(BadRequest, match="2 sounds for .*, which hears 1 in a conversation"):
        model(AV).run([about(SOUND).then("A beep.", "And this?", SOUND)], Chat())
    film = Frames(FILM.pictures, FILM.seconds, SOUND)
    with pytest.raises(BadRequest, match="2 sounds for"):
        model(AV).run([about(film, SOUND)], Chat())


def test_the_state_of_a_picture_is_no_sound() -> None:
    talker = load(HEARS, device="cpu")
    [seen] = talker.encode([np.zeros((4, 4, 3), np.uint8)])
    with pytest.raises(WrongState, match="that of a picture, not of a sound: listen to the sound"):
        talker.chat(Sound(seen), "?")
    with pytest.raises(BadRequest, match=r"their sound is an anmok.Sound, not bytes"):
        Frames((seen,), (0.0,), b"sound")  # type: ignore[arg-type]


def test_a_model_that_hears_and_does_not_see_says_so() -> None:
    with pytest.raises(BadRequest, match="1 picture for phi4-multimodal-speech, .* it only reads and hears"):
        model("phi4-multimodal-speech").chat("gone.png", "?")


def test_sounds_that_are_none(folder: Path) -> None:
    talker = load(HEARS, device="cpu")
    with pytest.raises(BadRequest, match="over 5 s of sound, which are the most at once: give start and end"):
        talker.chat(Sound((tone(300, 6), 16_000)), "?")
    assert "300 Hz" in talker.chat(Sound((tone(300, 6), 16_000), start=2, end=4), "?").text
    with pytest.raises(BadMedia, match="nothing but silence"):
        talker.chat(Sound((np.zeros(999), 16_000)), "?")
    bad, good = talker.map([about(Sound(b"x")), about(Sound(folder / "low.wav"))], Chat())
    assert type(bad.error) is BadMedia  # type: ignore[union-attr]
    assert good.text == "I see a tone of 300 Hz. Question 1: What is it? 뭐예요?"  # type: ignore[union-attr]


# --- the engine, and another process -------------------------------------------------------------------------


def test_the_engine_hears_a_sound_once(folder: Path) -> None:
    heard = 0

    def counted(name: str, **settings: Any) -> Model:
        found = load(name, **settings)
        prepare: Any = found.kind.prepare_sound

        def prepare_sound(samples: Any, *, is_of_clip: bool) -> Any:
            nonlocal heard
            heard += 1
            return prepare(samples, is_of_clip=is_of_clip)

        found.kind.prepare_sound = prepare_sound
        return found

    film = (folder / "clip.mp4").read_bytes()
    with Engine(PLENTY, loader=counted, limits=Limits(cache_bytes=10_000)) as engine:
        said = about(Sound(LOW), png(RED), question="a")
        for question in ("a", "b"):
            [reply] = engine.run(HEARS, [about(Sound(LOW), png(RED), question=question)], Chat())
            assert reply.text == f"I see a tone of 300 Hz, red. Question 1: {question}"  # type: ignore[union-attr]
        assert heard == 1
        *_, last = engine.stream(HEARS, said, Chat())
        assert (last.reply.sound_tokens, heard) == (8, 1)  # type: ignore[union-attr]
        engine.run(HEARS, [about(Sound(LOW, end=0.5))], Chat())  # another part is another sound
        assert heard == 2
        for has_sound in (False, True, True):
            [reply] = engine.run(HEARS, [about(Clip(film, has_sound=has_sound), question="?")], Chat())
        assert reply.text == "I see 8 frames of red with a tone of 700 Hz. Question 1: ?"  # type: ignore[union-attr]
        assert heard == 3
        [reply] = engine.run(HEARS, [about(Sound(io.BytesIO(HIGH)), question="?")], Chat())
        assert "1000 Hz" in reply.text  # type: ignore[union-attr]
    with Engine(PLENTY, limits=Limits(queue_bytes=5000)) as engine:
        for one in (Sound(LOW), Sound((A, 16_000))):
            with pytest.raises(BadRequest, match="bytes"):
                engine.submit(HEARS, [about(one)], Chat())


def test_in_another_process_it_says_the_same(folder: Path) -> None:
    here = load(HEARS, device="cpu")
    state = here.listen(Sound(LOW))
    shown = [
        about(Sound(folder / "low.wav"), Sound((A, 16_000), end=0.5)),
        about(state),
        about(Sound(io.BytesIO(HIGH))),
    ]
    shown.append(about(Clip(folder / "clip.mp4", has_sound=True)))
    with Apart(device="cpu") as apart, apart(HEARS) as there:
        theirs = there.run(shown, Chat())
    shown[2] = about(Sound(HIGH))
    assert [one.text for one in theirs] == [one.text for one in here.run(shown, Chat())]
    assert [one.sound_tokens for one in theirs] == [16, 8, 8, 8]
