"""Which frames of a clip a model is shown, and what finding them costs. The colour of a frame is its number."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image as pillow

import anmok.clips.sampling as sampling
from anmok import clips
from anmok.clips.decoding import Moment
from anmok.errors import BadMedia, BadRequest
from filmed_clips import KINDS, Film, coloured, damaged, film, number, numbered, remade

SLACK = 1.1e-3  # seconds; Matroska rounds to milliseconds


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One clip of 30 frames at 30 frames a second in each container."""
    folder = tmp_path_factory.mktemp("shelf")
    return {name: numbered(folder / name, how=how) for name, (how, _) in KINDS.items()}


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A minute and 40 seconds at 4 frames a second, a key frame every 5 seconds."""
    how = Film(rate=4, options=(("g", "20"), ("bf", "0"), ("sc_threshold", "0")))  # type: ignore[arg-type]
    return numbered(tmp_path_factory.mktemp("long") / "a.mp4", 400, how)


def shown(source: Any, most: int, **cut: Any) -> list[int]:
    stills = list(clips.sampled(source, most, **cut))
    assert [still.index for still in stills] == list(range(len(stills)))
    seconds = [still.seconds for still in stills]
    assert seconds == sorted(set(seconds))
    return [number(still.image) for still in stills]


@pytest.mark.parametrize("name", list(KINDS))
def test_frames_lie_in_the_middles_of_equal_parts(name: str, shelf: dict[str, Path]) -> None:
    assert shown(shelf[name], 1) == [15]
    assert shown(shelf[name], 3) == [5, 15, 25]
    stills = list(clips.sampled(shelf[name], 5))
    assert [number(still.image) for still in stills] == [3, 9, 15, 21, 27]
    assert [still.seconds for still in stills] == pytest.approx(
        [k / 30 for k in (3, 9, 15, 21, 27)], abs=KINDS[name][1]
    )
    assert shown(shelf[name], 30) == list(range(30))
    assert shown(shelf[name], 64) == list(range(30))  # no frame comes twice


@pytest.mark.parametrize("name", ["a.mp4", "a.webm", "a.avi", "a.ts"])
@pytest.mark.parametrize(("fps", "found"), [(0.5, [0]), (1, [0]), (3, [0, 10, 20]), (29.97, None), (100, None)])
def test_a_rate_is_kept_as_far_as_the_model_takes_it(
    name: str, fps: float, found: Sequence[int] | None, shelf: dict[str, Path]
) -> None:
    assert shown(shelf[name], 64, fps=fps) == (list(range(30)) if found is None else found)
    assert shown(shelf[name], 64, usual=fps) == (list(range(30)) if found is None else found)
    assert shown(shelf[name], 64, fps=3, usual=fps) == [0, 10, 20]
    assert shown(shelf[name], 2, fps=3) == [7, 22]  # more than it takes: evenly


def test_a_part_of_a_clip(shelf: dict[str, Path]) -> None:
    assert shown(shelf["a.mp4"], 2, start=0.5) == [18, 26]
    assert shown(shelf["a.mp4"], 2, end=0.4) == [3, 9]
    assert shown(shelf["a.mp4"], 8, start=0.5, end=0.6) == [15, 16, 17]
    assert shown(shelf["a.mp4"], 8, fps=10, start=0.5, end=0.75) == [15, 18, 21]
    assert shown(shelf["a.mp4"], 8, end=900) == shown(shelf["a.mp4"], 8)


def test_variable_rates_go_by_time(tmp_path: Path) -> None:
    path = numbered(tmp_path / "v.mp4", 6, Film(times=(0, 40, 55, 300, 310, 900)))
    seconds = clips.probe(path).seconds
    middles = [(k + 0.5) * seconds / 4 for k in range(4)]
    found = list(
        dict.fromkeys(int(np.searchsorted([0, 0.04, 0.055, 0.3, 0.31, 0.9], at, "right")) - 1 for at in middles)
    )
    assert shown(path, 4) == found
    assert len(found) > 1


@pytest.mark.parametrize("rate", [1, 7, 23.976, 59.94, 240])
def test_odd_rates(rate: float, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with clips.Writer(path, (64, 64), rate, codec="mpeg4") as out:
        for index in range(12):
            out.write(coloured(index * 20))
    found = [value // 20 for value in shown(path, 4)]
    assert found == [1, 4, 7, 10]
    assert list(clips.sampled(path, 4))[-1].seconds == pytest.approx(10 / rate, rel=1e-3)


@pytest.mark.parametrize("name", ["a.mp4", "a.webm", "a.avi", "a.mkv", "a.ts"])
def test_a_clip_of_one_frame(name: str, tmp_path: Path) -> None:
    path = numbered(tmp_path / name, 1, KINDS[name][0])
    for cut in ({}, {"fps": 2}, {"usual": 100.0}):
        [still] = clips.sampled(path, 8, **cut)
        assert (number(still.image), still.seconds) == (0, 0)


def test_a_moving_gif_and_its_bytes(tmp_path: Path) -> None:
    first, *rest = [pillow.fromarray(coloured(k * 30)) for k in range(4)]
    first.save(tmp_path / "a.gif", save_all=True, append_images=rest, duration=500, loop=0)
    assert shown((tmp_path / "a.gif").read_bytes(), 2) == [30, 90]


@pytest.mark.parametrize("form", ["folder", "list", "array", "bytes"])
def test_pictures_are_all_shown_as_far_as_they_go(form: str, tmp_path: Path) -> None:
    images = [coloured(k) for k in range(12)]
    for k, image in enumerate(images):
        pillow.fromarray(image).save(tmp_path / f"frame_{k}.png")
    files = [tmp_path / f"frame_{k}.png" for k in range(12)]
    forms = {
        "folder": tmp_path,
        "list": files,
        "array": np.stack(images),
        "bytes": [file.read_bytes() for file in files],
    }
    source: Any = forms[form]
    assert shown(source, 12) == list(range(12))
    assert shown(source, 4) == [1, 4, 7, 10]
    assert [still.seconds for still in clips.sampled(source, 4)] == pytest.approx([1 / 25, 4 / 25, 7 / 25, 10 / 25])
    # Of pictures ``fps`` is their own rate, and what a model learned at is nothing to them.
    assert [still.seconds for still in clips.sampled(source, 3, fps=2, usual=1)] == [1, 3, 5]
    assert shown(source, 64, usual=1) == list(range(12))
    assert shown(source, 64, fps=4, start=1, end=2) == [4, 5, 6, 7]
    with pytest.raises(BadRequest, match="it is over after 3 s, so nothing is left from 4 s on"):
        list(clips.sampled(source, 8, fps=4, start=4))


def test_only_pictures_that_are_shown_are_opened(tmp_path: Path) -> None:
    pillow.fromarray(coloured(7)).save(tmp_path / "7.png")
    files = [tmp_path / ("7.png" if k % 5 == 2 else "gone.png") for k in range(20)]
    assert shown(files, 4) == [7, 7, 7, 7]
    assert shown([files[0], files[2]], 4) == [7]  # one that cannot be read is left out
    with pytest.raises(BadMedia, match=r"not one of its pictures can be shown \(.*gone.png: no such file"):
        list(clips.sampled(files[:2], 4))


# --- what it costs -------------------------------------------------------------------------------------------


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds of each frame that is decoded."""
    taken: list[float] = []

    def counted(file: Any, start: float) -> Any:
        for moment in moments(file, start):
            taken.append(moment.seconds)
            yield moment

    moments = sampling.moments
    monkeypatch.setattr(sampling, "moments", counted)
    return taken


def test_far_apart_frames_are_found_by_their_key_frames(long: Path, decoded: list[float]) -> None:
    assert shown(long, 4) == [50, 150, 250, 350]
    assert len(decoded) <= 4 * 22  # at most from one key frame to the next, of 400
    decoded.clear()
    assert shown(long, 100) == [4 * k + 2 for k in range(100)]
    assert len(decoded) <= 400  # near ones in one go


def test_without_key_frames_a_clip_is_decoded_from_end_to_end_about_once(tmp_path: Path, decoded: list[float]) -> None:
    how = Film(rate=4, options=(("g", "1000"), ("bf", "0"), ("sc_threshold", "0")))  # type: ignore[arg-type]
    path = numbered(tmp_path / "a.mp4", 400, how)
    assert shown(path, 8) == [25, 75, 125, 175, 225, 275, 325, 375]
    assert len(decoded) < 700


def test_too_many_frames_to_decode(tmp_path: Path, long: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANMOK_MAX_FRAMES", "60")
    with pytest.raises(BadMedia, match="over 60 frames would have to be decoded; give start and end"):
        list(clips.sampled(long, 100))
    assert len(shown(long, 100, end=10)) == 40
    assert shown(long, 2, start=95) == [385, 395]
    monkeypatch.setenv("ANMOK_MAX_FRAMES", "")
    monkeypatch.setattr(sampling, "MOST_DECODED", 70)
    with pytest.raises(BadMedia, match="over 70 frames"):
        list(clips.sampled(long, 100))


def test_too_long(long: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "MOST_SECONDS", 36.0)
    with pytest.raises(BadRequest, match=r"clip: 0.0 hours; 0.01 are the most in a conversation: give start and end"):
        clips.sampled(long, 8)
    assert shown(long, 1, start=20, end=40) == [120]


def test_memory_does_not_grow_with_the_clip(tmp_path: Path) -> None:
    def peak(seconds: int) -> int:
        path = tmp_path / f"{seconds}.mp4"
        with clips.Writer(path, (240, 320), 10, codec="mpeg4") as out:
            for index in range(seconds * 10):
                out.write(coloured(index % 400, 240, 320))
        tracemalloc.start()
        for _ in clips.sampled(path, 8):
            pass
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    short, many = peak(3), peak(60)
    assert many < short + 2 * 240 * 320 * 3


# --- what is broken ------------------------------------------------------------------------------------------


def test_damage_is_left_out(shelf: dict[str, Path], tmp_path: Path) -> None:
    path = damaged(shelf["a.avi"], tmp_path / "d.avi", [14, 15, 16])
    assert shown(path, 30) == [k for k in range(30) if k not in (14, 15, 16)]
    assert shown(path, 1) == [13]  # in the middle the screen still has what came before the damage


def test_cut_short(long: Path, tmp_path: Path) -> None:
    """What there is of it is looked at, evenly."""
    whole, cut = tmp_path / "whole.mp4", tmp_path / "cut.mp4"
    film(whole, [coloured(k) for k in range(100)], Film(container=(("movflags", "faststart"),)))
    data = whole.read_bytes()
    cut.write_bytes(data[: len(data) * 2 // 3])
    there = [number(still.image) for still in clips.frames(cut)]
    found = shown(cut, 10)
    assert 10 < len(there) < 100
    assert len(found) == 10
    assert set(found) <= set(there)
    assert np.diff(found).max() <= np.ceil(len(there) / 10) + 1
    with pytest.raises(BadMedia, match="cut short"):
        clips.sampled(long.read_bytes()[:2000], 4)  # its table stands at the end


@pytest.mark.parametrize(
    "data", [b"", b"no clip", b"\x00" * 4000, b"RIFF\x00\x00\x00\x00AVI LIST", b"\x1aE\xdf\xa3" * 9]
)
def test_what_is_no_clip_is_told_in_a_line(data: bytes) -> None:
    with pytest.raises(BadMedia) as caught:
        list(clips.sampled(data, 4))
    assert len(str(caught.value).splitlines()) == 1


def test_noise_in_place_of_every_frame(shelf: dict[str, Path], tmp_path: Path) -> None:
    path = remade(shelf["a.mov"], tmp_path / "n.mov", range(30), lambda data: b"\x00" * len(data))
    with pytest.raises(BadMedia):
        list(clips.sampled(path, 4))


def test_what_makes_no_sense(shelf: dict[str, Path]) -> None:
    with pytest.raises(BadRequest, match="clip: it is over after 1 s, so nothing is left from 2 s on"):
        clips.sampled(shelf["a.mp4"], 4, start=2)
    for start, end in ((math.nan, None), (math.inf, None), (-1.0, None), (1.0, 1.0), (0.0, math.nan)):
        with pytest.raises(BadRequest, match="span no time"):
            clips.sampled(shelf["a.mp4"], 4, start=start, end=end)
    with pytest.raises(BadRequest, match="from an iterator"):
        list(clips.sampled(iter([coloured(1)]), 4))
    with pytest.raises(BadMedia, match="not one of its pictures"):
        list(clips.sampled([], 4))
    with pytest.raises(BadMedia, match="no such file"):
        clips.sampled("gone.mp4", 4)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    times=st.lists(st.floats(0, 200), min_size=1, max_size=12).map(sorted),
    keys=st.sets(st.integers(0, 199)),
    broken=st.sets(st.integers(0, 199), max_size=30),
)
def test_jumps_change_nothing(
    times: list[float], keys: set[int], broken: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """200 frames, one a second, entered at key frames: what is on the screen is what whoever reads on sees there."""
    landings = sorted({0} | keys)

    def moments(file: Any, start: float) -> Any:
        first = max(key for key in landings if key <= start)
        for second in range(first, 200):
            yield Moment(float(second), second + 1.0, None if second in broken else second, "noise")  # type: ignore[arg-type]

    monkeypatch.setattr(sampling, "moments", moments)

    class Named:
        name = "a clip"

    screen = sampling._Screen(Named())  # type: ignore[arg-type]
    for at in times:
        moment = screen.at(at)
        sound = [second for second in range(200) if second <= at + SLACK and second not in broken]
        if moment is not None:
            assert sound
            assert moment.seconds == sound[-1]
        else:  # nothing decodes between the key frame where it was entered, and the time
            key = max(key for key in landings if key <= at + SLACK)
            assert not sound or sound[-1] < key
