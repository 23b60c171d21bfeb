"""Sounds out of files and arrays: what is heard of them, and what is refused."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from anmok import Sound
from anmok.clips import Wanted, heard
from anmok.errors import AnmokError, BadMedia, BadRequest, MissingDependency
from anmok.inputs import Clip, Conversation, Encoded, Frames, Turn
from sound_files import filmed, recorded, tone, wav

WANTED = Wanted(16_000, 30.0)
A = tone(440)


def loudest(samples: NDArray[np.float32], rate: int = 16_000) -> float:
    """The frequency with the most energy, Hz."""
    return float(np.abs(np.fft.rfft(samples * np.hanning(len(samples)))).argmax() * rate / len(samples))


def test_a_file_of_16_bits_is_heard_to_the_last_one(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(wav(A))
    wanted = np.rint(A * 32767) / 32768
    for source in (wav(A), tmp_path / "a.wav", str(tmp_path / "a.wav"), io.BytesIO(wav(A))):
        found = heard(source, WANTED)
        assert (found.dtype, found.shape) == (np.float32, (16_000,))
        assert np.array_equal(found, wanted.astype(np.float32))


def test_channels_are_averaged_and_rates_changed() -> None:
    """The way of the library's filter is felt at both ends."""
    two = np.stack([tone(440, 1, 44_100), tone(1000, 1, 44_100)], 1)
    wanted = (tone(440) + tone(1000)) / 2
    for source in (wav(two, 44_100), (two, 44_100)):
        found = heard(source, WANTED)
        assert found.shape == (16_000,)
        np.testing.assert_allclose(found[200:-200], wanted[200:-200], atol=1e-4)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16, np.int32])
def test_arrays_are_heard_as_they_are(dtype: Any) -> None:
    full = np.iinfo(dtype).max + 1 if np.issubdtype(dtype, np.integer) else 1
    found = heard(((A * full).astype(dtype), 16_000), WANTED)
    np.testing.assert_allclose(found, A, atol=1 / 2**15)
    assert np.array_equal(found, heard((np.stack([(A * full).astype(dtype)] * 3, 1), 16_000), WANTED))


@pytest.mark.parametrize(("name", "codec"), [("a.m4a", "aac"), ("a.mp3", "libmp3lame"), ("a.flac", "flac")])
def test_compressed_files(tmp_path: Path, name: str, codec: str) -> None:
    path = recorded(tmp_path / name, np.concatenate([tone(440, 1, 48_000), tone(1000, 1, 48_000)]), codec=codec)
    found = heard(path, WANTED)
    assert abs(len(found) - 32_000) < 1200
    assert loudest(found[1000:15_000]) == pytest.approx(440, abs=2)
    assert loudest(found[17_000:31_000]) == pytest.approx(1000, abs=2)
    part = heard(path, WANTED, start=1.2, end=1.7)
    assert part.shape == (8000,)
    # Entered in the middle it lies off by up to half a value, which is 0.2 of a turn of 1000 Hz in radians.
    np.testing.assert_allclose(part, found[19_200:27_200], atol=0.1)


def test_the_sound_of_a_clip(tmp_path: Path) -> None:
    path = filmed(tmp_path / "a.mp4", [np.full((32, 32, 3), 90, np.uint8)] * 20, tone(700, 2, 48_000))
    assert loudest(heard(path, WANTED)[1000:30_000]) == pytest.approx(700, abs=2)


def test_a_part_is_cut_out_exactly() -> None:
    data = wav(np.arange(48_000) % 1000 / 1000)
    whole = heard(data, WANTED)
    assert np.array_equal(heard(data, WANTED, start=1.5, end=2.25), whole[24_000:36_000])
    assert np.array_equal(heard(data, WANTED, start=2.5), whole[40_000:])
    assert np.array_equal(heard((whole, 16_000), WANTED, start=0.5, end=9), whole[8000:])
    assert heard(data, Wanted(16_000, 1.0), start=1, end=2).shape == (16_000,)
    assert heard(wav(tone(440, 1.2)), Wanted(16_000, 1.0)).shape == (16_000,)  # what encoders add


def test_nothing_is_cut_off_unsaid() -> None:
    for source in (wav(tone(440, 2)), (tone(440, 2), 16_000)):
        with pytest.raises(BadRequest, match="over 1 s of sound, which are the most at once: give start and end"):
            heard(source, Wanted(16_000, 1.0))
        with pytest.raises(BadRequest, match="over 1 s"):
            heard(source, Wanted(16_000, 1.0), start=0.1, end=1.9)


def header(at: int, value: int, size: int) -> bytes:
    data = bytearray(wav(A))
    data[at : at + size] = value.to_bytes(size, "little")
    return bytes(data)


BROKEN: dict[str, tuple[Any, type[AnmokError], str]] = {
    "empty": (b"", BadMedia, "sound of 0 bytes: the file is empty"),
    "text": (b"no sound at all, but long enough " * 20, BadMedia, "not a sound that anmok reads .wav, mp3, .*Invalid"),
    "no samples": (wav(A)[:44], BadMedia, "nothing in it can be decoded"),
    "silent": (wav(np.zeros(1600, np.float32)), BadMedia, "nothing but silence in it"),
    "silent array": ((np.zeros(1600), 16_000), BadMedia, "nothing but silence in it"),
    "gone": ("/gone.wav", BadMedia, "/gone.wav: no such file; a sound is a local path"),
    "folder": (Path(__file__).parent, BadMedia, "not a file"),
    "channels": (header(22, 99, 2), BadMedia, "in 99 channels; want up to 384,000 in 8"),
    "rate": (header(24, 700_000, 4), BadMedia, "700,000 values a second in 1 channels"),
    "playlist": (b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile:///etc/hosts\n", BadMedia, "not a sound"),
    "many channels": ((np.ones((100, 9)), 16_000), BadRequest, "9 channels; want .N, channels. with 8"),
    "cube": ((np.ones((2, 2, 2)), 16_000), BadRequest, "want an array"),
    "slow": ((A, 10), BadRequest, "want 1,000 to 384,000 values a second, not 10"),
    "holes": ((np.full(99, np.nan), 16_000), BadMedia, "some of its values are no numbers"),
    "bytes": ((np.full(99, 3, np.uint8), 16_000), BadRequest, "array of uint8; want floats"),
    "steps as floats": ((A * 2**15, 16_000), BadRequest, "floats lie between -1 and 1, these far beyond: divide"),
    "nothing": (None, BadRequest, "want a file, its bytes, or samples with their rate, not NoneType"),
    "one value": ((np.ones(1, np.float32), 384_000), BadRequest, "sound: too short to be heard"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_no_sound_is_refused_in_one_line(case: str) -> None:
    source, kind, text = BROKEN[case]
    with pytest.raises(kind, match=text) as caught:
        heard(source, WANTED)
    assert len(str(caught.value).splitlines()) == 1


def test_a_clip_without_a_sound_track(tmp_path: Path) -> None:
    from anmok import clips

    with clips.Writer(tmp_path / "mute.mp4", (32, 32), 10) as out:
        out.write(np.zeros((32, 32, 3), np.uint8))
    with pytest.raises(BadMedia, match=r"mute.mp4: no sound in it"):
        heard(tmp_path / "mute.mp4", WANTED)


def test_times() -> None:
    with pytest.raises(BadRequest, match="it is over before 3 s, so nothing is left to hear"):
        heard(wav(A), WANTED, start=3)
    for start in (2.0**53, 1e300):  # further than libav counts
        with pytest.raises(BadRequest, match="so nothing is left to hear"):
            heard(wav(A), WANTED, start=start)
    for start, end in ((1, 1), (-1, None), (float("nan"), None), (0, float("inf")), (0, float("nan"))):
        with pytest.raises(BadRequest, match="span no time"):
            heard(wav(A), WANTED, start=start, end=end)
        with pytest.raises(BadRequest, match="span no time"):
            Sound(b"x", start, end)
        with pytest.raises(BadRequest, match="span no time"):
            Clip(b"x", start=start, end=end)


@pytest.mark.parametrize("source", [wav(A), (A, 16_000)], ids=["file", "array"])
def test_a_part_of_less_than_a_value_is_none(source: Any) -> None:
    with pytest.raises(BadRequest, match="too short to be heard"):
        heard(source, WANTED, end=1e-5)
    assert heard(source, WANTED, end=2 / 16_000).shape == (2,)


def test_damage_in_the_middle_is_left_out(tmp_path: Path) -> None:
    path = recorded(tmp_path / "a.flac", tone(440, 2, 48_000), codec="flac")
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 500] = bytes(500)
    found = heard(bytes(data), WANTED)
    assert 16_000 < len(found) < 32_000
    assert loudest(found[:8000]) == pytest.approx(440, abs=3)


def test_without_pyav_arrays_of_the_right_rate_are_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.setitem(sys.modules, "av.audio.frame", None)
    assert np.array_equal(heard((A, 16_000), WANTED), A)
    with pytest.raises(MissingDependency, match=r"sound needs a package: pip install 'anmok\[video\]'"):
        heard(wav(A), WANTED)
    with pytest.raises(MissingDependency, match=r"another rate needs a package: pip install 'anmok\[video\]'"):
        heard((A, 8000), WANTED)


@pytest.mark.data
def test_recorded_sounds() -> None:
    """ESC-10: 5.001 seconds each but for three, at 44,100 values a second, in Vorbis."""
    data = Path(os.environ.get("ANMOK_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
    files = sorted((data / "esc10").rglob("*.ogg"))
    assert len(files) == 79
    found = [heard(path, WANTED) for path in files]
    odd = [len(one) for one in found if not 79_000 < len(one) < 81_000]
    assert sorted(odd) == [58_305, 112_013, 115_845]
    assert all(0.08 < np.abs(one).max() <= 1 for one in found)


# --- as a part of a turn -------------------------------------------------------------------------------------


def test_a_sound_is_a_part_of_the_users_turn() -> None:
    sound, picture = Sound(b"a", 1, 2), np.zeros((4, 4, 3), np.uint8)
    said = Conversation.about(picture, sound, Clip(b"b"), question="What?")
    assert said.shown == (picture, sound, said.clips[0])
    assert (said.sounds, len(said.pictures)) == ((sound,), 1)
    assert Conversation((Turn("user", sound),)).sounds == (sound,)  # type: ignore[arg-type]
    with pytest.raises(BadRequest, match="assistant's turn: pictures are the user's to show"):
        Turn("assistant", (sound,))


def test_samples_come_with_their_rate() -> None:
    for source in (A, [0.1, 0.2], (A,), (A, 16_000, 1)):
        with pytest.raises(BadRequest, match=r"samples and|samples come with their rate"):
            Sound(source)  # type: ignore[arg-type]
    assert Sound((A, 16_000)).nbytes == 0
    assert Sound(Encoded("x", {"rows": np.zeros((3, 4), np.float32)})).nbytes == 48


def test_pictures_have_no_sound_track() -> None:
    with pytest.raises(BadRequest, match="pictures have no sound track"):
        Clip([b"one", b"two"], has_sound=True)
    state = Encoded("x", {"rows": np.zeros((3, 4), np.float32)})
    assert Frames((state,), (0.0,), Sound(state)).nbytes == 96
