"""The ears of Gemma 3n and Gemma 4: what is counted and refused, which cards have them, clips with their sound."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from anmok import Chat, Classify, Clip, Model, Sound, cards
from anmok.errors import BadMedia, BadRequest, BadWeights, WrongState
from anmok.inputs import Encoded, Frames
from anmok.load import tiny
from anmok.nets import gemma3n
from anmok.nets.families import family_of
from anmok.nets.hearing_gemma import (
    GEMMA3N_MEL,
    GEMMA3N_TOKENS,
    GEMMA4_MEL,
    GEMMA4_TOKENS,
    Gemma3nEars,
    Gemma4Ears,
    log_mel,
    tokens,
)
from anmok.tasks import Hears
from published_gemma3n import content
from sound_files import filmed, tone
from toy_talkers import FIRST, SECOND, about, model

KINDS = ["gemma3n", "gemma4_hears"]
SECOND_OF_SOUND = Sound((tone(440), 16_000))
SHORT = Chat(max_tokens=4)


def ears(kind: str) -> Any:
    found: Any = model(kind).kind
    return found._ears


def rows_of(talker: Model, sound: Sound) -> NDArray[Any]:
    source: Any = talker.listen(sound).source
    assert isinstance(source, Encoded)
    found: NDArray[Any] = source.maps["rows"]
    return found


# Counts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "seconds", "windows", "count"),
    [
        ("gemma3n", 1, 97, 7),
        ("gemma3n", 30, 2997, 188),
        ("gemma4", 0.02, 1, 1),
        ("gemma4", 1, 99, 25),
        ("gemma4", 30, 2999, 750),
    ],
)
def test_tokens_follow_from_the_length(family: str, seconds: float, windows: int, count: int) -> None:
    """As the makers have it: 6.25 and 25 a second."""
    rules = {"gemma3n": GEMMA3N_MEL, "gemma4": GEMMA4_MEL}[family]
    assert rules.windows(round(seconds * 16_000)) == windows
    assert tokens(family, windows) == count


def test_slots_are_what_the_published_processors_write() -> None:
    soft = "<audio_soft_token>"
    assert GEMMA3N_TOKENS.slot(2) == f"\n\n<start_of_audio>{soft}{soft}<end_of_audio>\n\n"
    assert GEMMA4_TOKENS.slot(2) == "<|audio><|audio|><|audio|><audio|>"
    assert family_of("gemma3n", "a").slots["sound"] == soft
    assert family_of("gemma4_hears", "a").slots["sound"] == "<|audio|>"


def test_tokens_of_replies_are_counted() -> None:
    """The toy of Gemma 3n makes 12 of every sound, as the published one makes 188."""
    half = Sound((tone(440, 0.5), 16_000))
    said = [about(SECOND_OF_SOUND), about(half), about(FIRST, SECOND_OF_SOUND, half), about(FIRST), about()]
    told = {kind: [(one.image_tokens, one.sound_tokens) for one in model(kind).run(said, SHORT)] for kind in KINDS}
    assert told["gemma3n"] == [(0, 12), (0, 12), (4, 24), (4, 0), (0, 0)]
    assert told["gemma4_hears"] == [(0, 25), (0, 13), (60, 38), (60, 0), (0, 0)]


def test_what_the_tower_makes_is_counted() -> None:
    """A net that folds sounds by less than is foretold."""
    told, _ = content()
    told["audio_config"] = {**told["audio_config"], "conf_reduction_factor": 2}
    other = Gemma3nEars(gemma3n._made(told), {})
    with pytest.raises(BadWeights, match="gemma3n: its tower made 13 rows of a sound, and 7 were foretold"):
        other.encode(torch.from_numpy(other.prepare(tone(440)))[None])


# Limits ------------------------------------------------------------------------------------------------------


def test_half_a_minute_is_the_most() -> None:
    assert (Gemma4Ears.rate, Gemma4Ears.seconds, Gemma3nEars.rate) == (16_000, 30, 16_000)
    whole = dict(content()[0])
    del whole["audio_soft_tokens_per_image"]
    published = Gemma3nEars(gemma3n._made(whole), {})
    for one in (ears("gemma4_hears"), published):
        assert one.seconds == 30
        assert len(one.prepare(np.full(480_000, 0.1, np.float32))) in (2999, 2997)
        for prepare in (one.prepare, one.prepare_track):
            with pytest.raises(BadRequest, match="over 30 s of it, which are the most at once: give start and end"):
                prepare(np.full(480_001, 0.1, np.float32))
    with torch.inference_mode():
        rows = published.encode(torch.from_numpy(published.prepare(np.full(480_000, 0.1, np.float32)))[None])
    assert rows.shape == (1, 188, 32)


def test_longer_sounds_are_refused_and_parts_are_chosen() -> None:
    talker = model("gemma3n")
    long = Sound((tone(440, 3), 16_000))
    with pytest.raises(BadRequest, match="over 1.92 s of sound, which are the most at once: give start and end"):
        talker.run([about(long)], SHORT)
    part = dataclasses.replace(long, start=1.0, end=2.0)
    np.testing.assert_array_equal(rows_of(talker, part), rows_of(talker, Sound((tone(440, 3)[16_000:32_000], 16_000))))
    with pytest.raises(BadMedia, match="nothing but silence"):
        talker.listen(Sound((np.zeros(9_000), 16_000)))
    with pytest.raises(BadRequest, match="5 sounds for .*, which hears 4 in a conversation"):
        talker.run([about(*[SECOND_OF_SOUND] * 5)], SHORT)


@pytest.mark.parametrize("kind", KINDS)
def test_shorter_than_a_window_is_one_window(kind: str) -> None:
    one = ears(kind)
    short = np.full(10, 0.5, np.float32)
    assert one.prepare(short).shape == (1, 128)
    np.testing.assert_array_equal(one.prepare(short), one.prepare(np.pad(short, (0, 90))))
    assert np.abs(one.prepare(short) - one.prepare(2 * short)).max() > 0.5


def test_rules_are_what_the_files_say() -> None:
    told = {"min_frequency": 60, "max_frequency": 7000.0, "preemphasis": 0.5, "mel_floor": 0.1, "hop_length": 160}
    rules = GEMMA3N_MEL.of(told)
    assert (rules.lowest, rules.highest, rules.emphasis, rules.floor) == (60.0, 7000.0, 0.5, 0.1)
    assert GEMMA3N_MEL.of({"feature_extractor": told, "size": 3, "mel_floor": 5}) == rules
    assert GEMMA3N_MEL.of({"size": {"height": 768}, "mel_floor": None}) == GEMMA3N_MEL
    assert log_mel(np.zeros(16_000, np.float32), rules).max() == pytest.approx(np.log(0.1))
    for key, wrong in (("sampling_rate", 8000), ("frame_length", 400), ("dither", 0.1), ("per_bin_mean", [0.0])):
        with pytest.raises(BadWeights, match=f"preprocessor_config.json: {key} of its sounds is ") as fault:
            GEMMA3N_MEL.of({key: wrong})
        assert "\n" not in str(fault.value)


# Cards -------------------------------------------------------------------------------------------------------


def test_cards_hear_if_their_nets_do() -> None:
    hearing = {one.name for one in cards("chat", is_hidden=True) if one.family == "gemma" and one.has_ears}
    assert hearing == {"gemma3n-e2b", "gemma3n-e4b", "gemma4-e2b", "gemma4-e4b"}
    for name in (*hearing, "gemma3-4b", "gemma4-26b-a4b", "gemma4-31b"):
        kind = tiny(name).kind
        assert (kind.most_sounds if isinstance(kind, Hears) else 0) == (4 if name in hearing else 0), name


def test_those_of_gemma4_without_an_ear_say_so() -> None:
    with pytest.raises(BadRequest, match="1 sound for gemma4-31b, which hears none"):
        tiny("gemma4-31b").run([about(SECOND_OF_SOUND)], SHORT)


# Beside pictures and clips, and again ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_sound_is_heard_the_same_whatever_is_beside_it(kind: str) -> None:
    talker = model(kind)
    other = Sound((tone(1000, 1.7), 16_000))
    alone = rows_of(talker, SECOND_OF_SOUND)
    [state] = talker._looker.states([about(other, SECOND_OF_SOUND)])
    beside = [np.asarray(one.source.maps["rows"]) for one in state.sounds]  # type: ignore[union-attr]
    np.testing.assert_array_equal(beside[1], alone)
    length = min(len(beside[0]), len(alone))
    assert np.abs(beside[0][:length] - alone[:length]).max() > 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_a_sound_is_heard_once(kind: str) -> None:
    talker = model(kind)
    state = talker.listen(SECOND_OF_SOUND)
    first = talker.chat(FIRST, SECOND_OF_SOUND, "Which?", max_tokens=4)
    assert talker.chat(FIRST, state, "Which?", max_tokens=4).text == first.text
    [seen] = talker.encode([SECOND])
    with pytest.raises(WrongState, match="that of a picture, not of a sound"):
        talker.chat(Sound(seen), "?")


@pytest.mark.parametrize("name", ["gemma3n-e2b", "gemma4-e2b"])
def test_labels_are_answers_about_a_picture_and_a_sound(name: str) -> None:
    talker, sounds = tiny(name), (SECOND_OF_SOUND, Sound((tone(90), 16_000)))
    told = [talker.run([about(FIRST, one)], Classify(("a dog", "a siren")))[0].scores for one in sounds]
    assert float(told[0].sum()) == pytest.approx(1)
    assert abs(float(told[0][0] - told[1][0])) > 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_streams_say_what_whole_answers_say(kind: str) -> None:
    """Also where questions begin alike; and what was read is measured, though the last layers keep no keys."""
    talker = model(kind)
    said = [*(about(SECOND_OF_SOUND, question=one) for one in ("a", "b")), about(FIRST)] * 2
    streamed = ["".join(piece.text for piece in talker.stream(one, SHORT)) for one in said]
    assert streamed == [talker.run([one], SHORT)[0].text for one in said]
    a_kind: Any = talker.kind
    short, long = (a_kind._speaker.begin([a_kind._script(one)]) for one in talker._looker.states(said[1:3]))
    assert short.nbytes != long.nbytes > 0


def test_a_clip_with_its_sound(tmp_path: Path) -> None:
    """To Gemma 4; the sound stands behind the frames, and half a minute of it is the most."""
    pytest.importorskip("av")
    talker = model("gemma4_hears")
    red = np.full((48, 64, 3), (255, 0, 0), np.uint8)
    filmed(tmp_path / "clip.mp4", [red] * 10, tone(700, 1, 48_000))
    clip = Clip(tmp_path / "clip.mp4", has_sound=True)
    seen, both = talker.watch(Clip(tmp_path / "clip.mp4")), talker.watch(clip)
    assert seen.sound is None
    assert both.sound is not None
    reply = talker.chat(clip, "What?", max_tokens=3)
    assert reply.sound_tokens in (25, 26, 27)  # a codec's first block is longer than the tone
    assert reply.image_tokens == talker.chat(Clip(tmp_path / "clip.mp4"), "What?", max_tokens=3).image_tokens > 0
    assert reply.text == talker.chat(both, "What?", max_tokens=3).text
    film = Frames((FIRST,), (0.0,), Sound((tone(700, 31), 16_000)))
    with pytest.raises(BadRequest, match="over 30 s of it, which are the most at once"):
        talker.run([about(film)], SHORT)


def test_gemma3n_takes_sounds_and_no_clips() -> None:
    with pytest.raises(BadRequest, match="1 clip for .*, which takes none: show it single frames"):
        model("gemma3n").run([about(Clip("gone.mp4", has_sound=True))], SHORT)
