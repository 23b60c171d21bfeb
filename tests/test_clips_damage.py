"""Clips that are damaged, none at all, or too much."""

from __future__ import annotations

import io
import os
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import av
import numpy as np
import pytest
from av.stream import Disposition
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image as pillow

from anmok import clips
from anmok.errors import BadMedia, BadRequest, MissingDependency
from filmed_clips import FINE, KINDS, SHELF, TICK, Film, coloured, damaged, film, number, numbered


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One clip of 30 frames at 30 frames a second in each container."""
    folder = tmp_path_factory.mktemp("shelf")
    return {name: numbered(folder / name, how=how) for name, (how, _) in KINDS.items()}


# --- damage --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", [(5,), (0,), (10,), (28,), (29,), (24, 25), (27, 29), (3, 12, 21)])
def test_a_damaged_frame_is_told_of_and_the_numbers_stay_true(which: tuple[int, ...], tmp_path: Path) -> None:
    whole = numbered(tmp_path / "w.mp4", how=Film("mpeg4", options=(*FINE, ("g", "1"))))
    path = damaged(whole, tmp_path / "d.mp4", which)
    told: list[tuple[int, str]] = []
    stills = list(clips.frames(path, on_broken=lambda index, error: told.append((index, str(error)))))
    assert [index for index, _ in told] == list(which)
    assert [still.index for still in stills] == [k for k in range(30) if k not in which]
    assert [number(still.image) for still in stills] == [still.index for still in stills]
    assert [still.seconds for still in stills] == pytest.approx([still.index / 30 for still in stills], abs=TICK)
    assert told[0][1] == f"{path}: frame {which[0]} ({which[0] / 30:.3f} s): Invalid data found when processing input"


@pytest.mark.parametrize("which", [(5,), (0,), (10,), (28,), (29,), (24, 25), (27, 29), (3, 12, 21)])
@pytest.mark.parametrize("between", ["0", "2"])
def test_frames_that_lean_on_a_damaged_one_may_go_with_it(which: tuple[int, ...], between: str, tmp_path: Path) -> None:
    """H.264 gives up until the next key frame where the first of a group is lost; nothing else is lost."""
    whole = numbered(tmp_path / "w.mp4", how=Film(options=(("g", "10"), ("bf", between), ("sc_threshold", "0"))))
    path = damaged(whole, tmp_path / "d.mp4", which)
    told: list[int] = []
    stills = list(clips.frames(path, on_broken=lambda index, _: told.append(index)))
    assert set(which) <= set(told)
    assert {index // 10 for index in told} <= {index // 10 for index in which} | {index // 10 - 1 for index in which}
    assert sorted(told + [still.index for still in stills]) == list(range(30))
    assert [still.seconds for still in stills] == pytest.approx([still.index / 30 for still in stills], abs=TICK)


def test_without_somebody_to_tell_a_damaged_frame_is_left_out(tmp_path: Path) -> None:
    path = damaged(numbered(tmp_path / "w.mkv"), tmp_path / "d.mkv", (0,))
    assert 0 not in [still.index for still in clips.frames(path)]


def test_at_a_rate_the_frame_before_stands_in_for_a_damaged_one(tmp_path: Path) -> None:
    whole = numbered(tmp_path / "w.mp4", how=Film(options=(("g", "1"),)))
    path = damaged(whole, tmp_path / "d.mp4", (0, 7, 29))
    told: list[int] = []
    stills = list(clips.frames(path, fps=30, on_broken=lambda index, _: told.append(index)))
    assert len(told) == 3
    assert [still.index for still in stills] == list(range(1, 30))  # nothing is on the screen before the second
    assert [number(still.image) for still in stills] == [*range(1, 7), 6, *range(8, 29), 28]


def test_nothing_decodes(tmp_path: Path) -> None:
    path = damaged(numbered(tmp_path / "w.mp4"), tmp_path / "d.mp4", range(30))
    told: list[int] = []
    with pytest.raises(BadMedia, match=r"d\.mp4: not one frame in it can be decoded \(Invalid data"):
        list(clips.frames(path, on_broken=lambda index, _: told.append(index)))
    assert told == list(range(30))
    with pytest.raises(BadMedia, match="none of the first 30 frames can be decoded"):
        clips.probe(path)


def test_a_file_cut_short_gives_what_is_there_and_says_so(tmp_path: Path) -> None:
    path = numbered(tmp_path / "w.mp4", 100, Film(container=(("movflags", "faststart"),)))
    data = path.read_bytes()
    told: list[str] = []
    stills = list(clips.frames(data[: len(data) * 2 // 3], on_broken=lambda _, error: told.append(str(error))))
    assert 20 < len(stills) < 90
    assert [number(still.image) for still in stills] == list(range(len(stills)))
    assert "the file is cut short: " in told[-1]


@pytest.mark.parametrize("name", ["a.mkv", "a.ts", "a.webm", "a.mpg"])
def test_other_containers_cut_short_give_what_is_there(name: str, shelf: dict[str, Path]) -> None:
    data = shelf[name].read_bytes()
    stills = list(clips.frames(data[: len(data) * 3 // 5]))
    assert 0 < len(stills) < 30
    assert [number(still.image) for still in stills] == [round(still.seconds * 30) for still in stills]


# --- no clips ------------------------------------------------------------------------------------------------


def only_sound(path: Path) -> Path:
    with av.open(str(path), "w") as out:
        stream = out.add_stream("aac", rate=8000)
        assert isinstance(stream, av.AudioStream)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def sound_with_a_cover(path: Path) -> Path:
    with av.open(str(path), "w", format="mp4") as out:
        sound = out.add_stream("aac", rate=8000)
        cover = out.add_stream("mjpeg", rate=1)
        assert isinstance(sound, av.AudioStream)
        assert isinstance(cover, av.VideoStream)
        sound.layout = "mono"
        cover.height = cover.width = 16
        cover.pix_fmt = "yuvj420p"
        cover.disposition = Disposition.attached_pic
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        packets = [*sound.encode(frame), *sound.encode(None)]
        out.mux([*cover.encode(av.VideoFrame.from_ndarray(coloured(3, 16, 16))), *cover.encode(None)])
        out.mux(packets)
    return path


def no_frames(path: Path) -> Path:
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=30)
        assert isinstance(stream, av.VideoStream)
        stream.height = stream.width = 64
        stream.pix_fmt = "yuv420p"
        out.start_encoding()
    return path


PLAYLIST = "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:1,\na.ts\n#EXT-X-ENDLIST\n"
SESSION = "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"
NO_CLIPS: dict[str, Callable[[Path], Any]] = {
    "text.mp4": lambda path: path.write_text("not a clip at all\n" * 100),
    "noise.mkv": lambda path: path.write_bytes(np.random.default_rng(0).bytes(20_000)),
    "playlist.m3u8": lambda path: path.write_text(PLAYLIST),
    "playlist.mp4": lambda path: path.write_text(PLAYLIST),
    "concat.txt": lambda path: path.write_text("ffconcat version 1.0\nfile a.ts\n"),
    "session.sdp": lambda path: path.write_text(SESSION),
    "picture.png": lambda path: pillow.new("RGB", (8, 8)).save(path),
    "sound.m4a": only_sound,
    "cover.m4a": sound_with_a_cover,
    "nothing.mp4": no_frames,
    "nothing.mkv": no_frames,
    "half.mp4": lambda path: path.write_bytes(numbered(path).read_bytes()[:-400]),
    "empty.mp4": lambda path: path.write_bytes(b""),
    "pipe.mp4": lambda path: os.mkfifo(path),
    "folder.mp4": lambda path: path.mkdir(),
    "absent.mp4": lambda path: None,
}


@pytest.mark.parametrize("name", NO_CLIPS)
def test_what_is_no_clip_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    numbered(tmp_path / "a.ts", 5)  # what the lists point at is there, and must not be opened
    path = tmp_path / name
    NO_CLIPS[name](path)
    for read in (clips.probe, lambda path: list(clips.frames(path))):
        with pytest.raises(BadMedia) as caught:
            read(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)


def test_even_a_format_that_names_other_files_gets_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second lock: were such a format ever let in, libav still cannot open a file by name."""
    numbered(tmp_path / "a.ts", 5)
    path = tmp_path / "concat.txt"
    path.write_text("ffconcat version 1.0\nfile a.ts\n")
    monkeypatch.chdir(tmp_path)  # where libav looks for what has no folder
    monkeypatch.setattr("anmok.clips.opening._DEMUXERS", "mpegts,concat,hls")
    with pytest.raises(BadMedia):
        list(clips.frames(path))


@pytest.mark.parametrize("name", ["http://127.0.0.1:9/a.mp4", "concat:a.ts|b.ts", "file:a.mp4", "pipe:0", "a\0.mp4"])
def test_an_address_is_only_a_path(name: str) -> None:
    with pytest.raises(BadMedia, match="no such file|cannot be read"):
        list(clips.frames(name))


@pytest.mark.parametrize("source", [b"", b"x", io.BytesIO(b"")])
def test_bytes_that_are_no_clip(source: Any) -> None:
    with pytest.raises(BadMedia):
        list(clips.frames(source))


def test_a_stream_that_cannot_be_sought_in_is_refused() -> None:
    class Stream(io.BytesIO):
        def seekable(self) -> bool:
            return False

    with pytest.raises(BadMedia, match="cannot be sought in"):
        list(clips.frames(Stream(b"x")))


@pytest.mark.parametrize("source", [3, None, 2.5, pillow.new("RGB", (3, 3)), np.zeros((4, 4, 3), np.uint8)])
def test_what_is_nothing_of_the_kind(source: Any) -> None:
    with pytest.raises(BadRequest, match="is no clip"):
        clips.frames(source)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_damage_crashes(data: st.DataObject, shelf: dict[str, Path]) -> None:
    """Bytes are changed anywhere: a frame comes at a finite time, or ``BadMedia``."""
    content = bytearray(shelf[data.draw(st.sampled_from(SHELF))].read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=8)):
        content[place] = data.draw(st.integers(0, 255))
    last = -1.0
    try:
        for still in clips.frames(bytes(content)):
            assert np.isfinite(still.seconds)
            assert still.seconds > last
            last = still.seconds
        assert np.isfinite(clips.probe(bytes(content)).seconds)
    except BadMedia:
        pass


# --- limits --------------------------------------------------------------------------------------------------


def test_the_pixel_limit_holds_before_decoding(shelf: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANMOK_MAX_PIXELS", str(64 * 64))
    assert len(list(clips.frames(shelf["a.mp4"]))) == 30
    monkeypatch.setenv("ANMOK_MAX_PIXELS", str(64 * 64 - 1))
    with pytest.raises(BadMedia, match=r"64 x 64 is over the limit of 4,095 pixels; .* ANMOK_MAX_PIXELS"):
        list(clips.frames(shelf["a.mp4"]))


def test_the_frame_limit(shelf: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANMOK_MAX_FRAMES", "30")
    assert len(list(clips.frames(shelf["a.mkv"]))) == 30
    monkeypatch.setenv("ANMOK_MAX_FRAMES", "29")
    with pytest.raises(BadMedia, match=r"a\.mp4: more than 29 frames; .* ANMOK_MAX_FRAMES"):
        next(clips.frames(shelf["a.mp4"]))  # from the header
    stills = clips.frames(shelf["a.mkv"])
    assert len([next(stills) for _ in range(29)]) == 29
    with pytest.raises(BadMedia, match="more than 29 frames"):  # Matroska does not say it in advance
        next(stills)
    assert len(list(clips.frames(shelf["a.mp4"], fps=10))) == 10
    monkeypatch.setenv("ANMOK_MAX_FRAMES", "many")
    with pytest.raises(BadMedia, match="ANMOK_MAX_FRAMES is 'many'"):
        clips.frames(shelf["a.mp4"])


def test_memory_does_not_grow_with_the_clip(tmp_path: Path) -> None:
    peaks = []
    for count in (50, 500):
        path = film(tmp_path / f"{count}.mp4", [coloured(k % 400) for k in range(count)], Film("mpeg4", options=()))
        tracemalloc.start()
        assert sum(1 for _ in clips.frames(path)) == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # 450 more pictures are 5.5 MB; even 450 forgotten frames, of 136 bytes without what libav holds, would show.
    assert peaks[1] - peaks[0] < 20_000


def test_closing_early_closes_the_file(shelf: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[IO[Any]] = []
    really = Path.open

    def noted(self: Path, *rest: Any) -> IO[Any]:
        file = really(self, *rest)
        if self == shelf["a.mp4"]:  # threads of other tests may read what they like
            opened.append(file)
        return file

    monkeypatch.setattr(Path, "open", noted)
    stills = clips.frames(shelf["a.mp4"])
    next(stills)
    assert [file.closed for file in opened] == [False]
    stills.close()
    assert [file.closed for file in opened] == [True]


def test_without_pyav_the_message_says_what_to_install(
    shelf: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingDependency, match=r"pip install 'anmok\[video\]'"):
        next(clips.frames(shelf["a.mp4"]))
    with pytest.raises(MissingDependency, match=r"pip install 'anmok\[video\]'"):
        clips.Writer(tmp_path / "a.mp4", (4, 4), 30)
    assert len(list(clips.frames(np.zeros((3, 2, 2, 3), np.uint8)))) == 3  # pictures need none
