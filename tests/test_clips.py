"""Clips: which frame comes out, at what time, and what happens with files that are not as they should be.

The colour of a frame is its number, so that every test sees which frame it was given.
"""

from __future__ import annotations

import io
import os
import sys
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

import av
import numpy as np
import pytest
from av.stream import Disposition
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image as pillow

from anmok import clips
from anmok.errors import BadMedia, BadRequest, CannotWrite, MissingDependency
from anmok.files import write_beside

STEP, ROUND = 12, 20  # one number is 12 grey levels: over four times what 4:2:0 and the codecs are off by
TICK = 1e-9  # seconds; frame times are ratios of whole numbers and come out as nearly exact floats
MILLISECOND = 1.001e-3  # Matroska stores whole milliseconds

FINE = (("qmin", "1"), ("qmax", "2"))  # or flat colours drift by more than half a step


def coloured(number: int, height: int = 64, width: int = 64) -> NDArray[np.uint8]:
    """A flat picture whose red and green say its number, below 400."""
    image = np.full((height, width, 3), 128, np.uint8)
    image[..., 0], image[..., 1] = (number % ROUND) * STEP, (number // ROUND) * STEP
    return image


def number(image: NDArray[np.uint8]) -> int:
    red, green = (round(float(image[..., channel].mean()) / STEP) for channel in (0, 1))
    return green * ROUND + red


@dataclass(frozen=True)
class Film:
    """How a test clip is made."""

    codec: str = "libx264"
    pixels: str = "yuv420p"
    rate: Fraction = Fraction(30)
    options: tuple[tuple[str, str], ...] = (("g", "10"), ("bf", "2"))
    rotation: tuple[float, bool, bool] | None = None
    times: tuple[int, ...] | None = None  # thousandths of a second
    container: tuple[tuple[str, str], ...] = ()


def film(path: Path, images: Sequence[NDArray[np.uint8]], how: Film = Film(), form: str = "rgb24") -> Path:
    with av.open(str(path), "w", options=dict(how.container)) as out:
        stream = out.add_stream(how.codec, rate=how.rate, options=dict(how.options))
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = how.pixels
        if how.times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        if how.rotation is not None:
            stream.set_display_rotation(*how.rotation)
        for index, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format=form)
            frame.pts = index
            if how.times is not None:
                frame.pts, frame.time_base = how.times[index], Fraction(1, 1000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def numbered(path: Path, count: int = 30, how: Film = Film()) -> Path:
    images = [coloured(index) for index in range(count)]
    if path.suffix == ".mpg":  # has one timestamp for each 2 kB, so that frames of its own size need more to show
        for index, image in enumerate(images):
            image[..., 2] = np.random.default_rng(index).integers(0, 256, image.shape[:2])
    return film(path, images, how)


def remade(source: Path, target: Path, which: Sequence[int], change: Callable[[bytes], bytes]) -> Path:
    """The clip again, with the packets of the frames of these numbers changed."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = old.streams.video[0]
        copy = new.add_stream_from_template(stream)
        for packet in old.demux(stream):
            if packet.dts is None:
                continue
            assert packet.pts is not None
            if round(packet.pts * packet.time_base * 30) in which:
                other: av.Packet[Any] = av.Packet(change(bytes(packet)))
                other.pts, other.dts, other.duration = packet.pts, packet.dts, packet.duration
                other.time_base, other.is_keyframe = packet.time_base, packet.is_keyframe
                packet = other
            packet.stream = copy
            new.mux(packet)
    return target


def damaged(source: Path, target: Path, which: Sequence[int]) -> Path:
    """Noise in place of these frames."""
    return remade(source, target, which, lambda data: np.random.default_rng(len(data)).bytes(len(data)))


def never(index: int, error: BadMedia) -> None:
    raise AssertionError(f"frame {index} of a sound clip: {error}")


KINDS: dict[str, tuple[Film, float]] = {
    "a.mp4": (Film(), TICK),
    "a.mov": (Film("mpeg4", options=FINE), TICK),
    "a.mkv": (Film(), MILLISECOND),
    "a.webm": (Film("libvpx-vp9", options=(("cpu-used", "8"), ("deadline", "realtime"))), MILLISECOND),
    "a8.webm": (
        Film(
            "libvpx",
            options=(("cpu-used", "8"), ("crf", "4"), ("b", "2M"), ("auto-alt-ref", "1"), ("lag-in-frames", "9")),
        ),
        MILLISECOND,
    ),
    "a.avi": (Film("mpeg4", options=FINE), TICK),
    "a.ts": (Film(), TICK),
    "a.mpg": (Film("mpeg2video", options=(*FINE, ("bf", "2"), ("g", "10"))), TICK),
}


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One clip of 30 frames at 30 frames a second in each container."""
    folder = tmp_path_factory.mktemp("shelf")
    return {name: numbered(folder / name, how=how) for name, (how, _) in KINDS.items()}


SHELF = list(KINDS)


# --- every frame at its own time -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHELF)
def test_every_frame_comes_once_at_its_own_time(name: str, shelf: dict[str, Path]) -> None:
    stills = list(clips.frames(shelf[name], on_broken=never))
    assert [number(still.image) for still in stills] == list(range(30))
    assert [still.index for still in stills] == list(range(30))
    assert [still.seconds for still in stills] == pytest.approx([k / 30 for k in range(30)], abs=KINDS[name][1])


def test_a_picture_is_eight_bit_rgb_and_cannot_be_written_to(shelf: dict[str, Path]) -> None:
    image = next(clips.frames(shelf["a.mp4"])).image
    assert (image.dtype, image.shape) == (np.uint8, (64, 64, 3))
    assert image.flags.c_contiguous
    assert not image.flags.writeable


def test_bytes_and_open_files_are_clips_too(shelf: dict[str, Path]) -> None:
    data = shelf["a.mp4"].read_bytes()
    assert [number(still.image) for still in clips.frames(data)] == list(range(30))
    file = io.BytesIO(b"before" + data)
    file.seek(6)  # the clip begins where the file stands
    assert number(next(clips.frames(str(shelf["a.mkv"]), start=0.5)).image) == 15
    with shelf["a.ts"].open("rb") as opened:
        assert len(list(clips.frames(opened))) == 30
        assert not opened.closed


def test_variable_rate_keeps_its_times(tmp_path: Path) -> None:
    times = (0, 40, 55, 300, 310, 900)
    path = numbered(tmp_path / "v.mp4", 6, Film(times=times))
    stills = list(clips.frames(path))
    assert [number(still.image) for still in stills] == list(range(6))
    assert [still.seconds for still in stills] == pytest.approx([time / 1000 for time in times], abs=TICK)


def test_hidden_frames_of_vp8_are_no_damage(shelf: dict[str, Path], tmp_path: Path) -> None:
    """Encoders send frames ahead that are never shown, in packets of their own: one bit says so (RFC 6386, 9.1)."""
    hide = lambda data: bytes([data[0] & ~0x10]) + data[1:]  # noqa: E731
    path = remade(shelf["a8.webm"], tmp_path / "h.webm", (7, 29), hide)
    stills = list(clips.frames(path, on_broken=never))
    assert [number(still.image) for still in stills] == [k for k in range(30) if k not in (7, 29)]
    assert [still.index for still in stills] == list(range(28))
    assert clips.probe(path).frames == 28


# --- at a rate of the caller's -------------------------------------------------------------------------------


@pytest.mark.parametrize("fps", [0.5, 1, 7, 10, 15, 24, 29.97, 30, 60, 100])
def test_resampling_gives_the_last_frame_at_or_before_each_time(fps: float, shelf: dict[str, Path]) -> None:
    stills = list(clips.frames(shelf["a.mp4"], fps=fps))
    count = int(np.ceil(fps - 1e-6))  # the clip lasts one second
    assert [still.index for still in stills] == list(range(count))
    assert [still.seconds for still in stills] == pytest.approx([k / fps for k in range(count)], abs=TICK)
    assert [number(still.image) for still in stills] == [int(k / fps * 30 + 1e-6) for k in range(count)]


@pytest.mark.parametrize("fps", [3, 10, 20, 50])
def test_resampling_a_variable_rate_goes_by_time(fps: float, tmp_path: Path) -> None:
    times = np.array([0, 40, 55, 300, 310, 900])
    path = numbered(tmp_path / "v.mkv", 6, Film(times=tuple(times)))
    stills = list(clips.frames(path, fps=fps, end=0.95))
    assert len(stills) == int(np.ceil(0.95 * fps - 1e-6)) or stills[-1].seconds >= 0.9
    for still in stills:
        assert number(still.image) == int(np.searchsorted(times, still.seconds * 1000 + 1e-3, side="right")) - 1


def test_resampling_paints_a_repeated_frame_once(shelf: dict[str, Path]) -> None:
    images = [still.image for still in clips.frames(shelf["a.mp4"], fps=300, end=0.1)]
    assert len(images) == 30
    assert len({id(image) for image in images}) == 3


# --- a part of the clip --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHELF)
@pytest.mark.parametrize(("first", "last"), [(0, 5), (1, 2), (7, 23), (10, 11), (19, 30), (29, 30)])
def test_a_part_is_a_slice_of_the_whole(name: str, first: int, last: int, shelf: dict[str, Path]) -> None:
    shy = 1 / 60  # half a frame early, since Matroska rounds
    stills = list(clips.frames(shelf[name], start=max(first / 30 - shy, 0), end=last / 30 - shy, on_broken=never))
    assert [number(still.image) for still in stills] == list(range(first, last))
    assert [still.index for still in stills] == list(range(last - first))
    assert stills[0].seconds == pytest.approx(first / 30, abs=KINDS[name][1])


def test_the_end_is_left_out_and_the_start_is_not(shelf: dict[str, Path]) -> None:
    assert [number(still.image) for still in clips.frames(shelf["a.mp4"], start=0.1, end=0.2)] == [3, 4, 5]


def test_resampling_counts_from_the_start(shelf: dict[str, Path]) -> None:
    stills = list(clips.frames(shelf["a.mp4"], fps=10, start=0.25, end=0.6))
    assert [still.seconds for still in stills] == pytest.approx([0.25, 0.35, 0.45, 0.55], abs=TICK)
    assert [number(still.image) for still in stills] == [7, 10, 13, 16]


@pytest.mark.parametrize("fps", [None, 10])
def test_a_start_behind_the_end_gives_nothing(fps: float | None, shelf: dict[str, Path]) -> None:
    for name in SHELF:
        assert list(clips.frames(shelf[name], start=5, fps=fps)) == []


@pytest.mark.parametrize(
    "times",
    [
        *({"fps": 0}, {"fps": -1}, {"fps": float("nan")}, {"fps": 1e9}, {"start": -1}, {"start": float("nan")}),
        *({"start": 2, "end": 2}, {"end": float("nan")}, {"start": float("inf")}),
    ],
)
def test_times_that_make_no_sense_are_refused_at_once(times: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="fps|start"):
        clips.frames(tmp_path / "not there.mp4", **times)


# --- pixels --------------------------------------------------------------------------------------------------

CORNERS = ((250, 20, 20), (20, 250, 20), (20, 20, 250), (250, 250, 250))


def cornered(height: int, width: int) -> NDArray[np.uint8]:
    """Red, green, blue and white from the top left, row by row."""
    image = np.zeros((height, width, 3), np.uint8)
    image[: height // 2, : width // 2], image[: height // 2, width // 2 :] = CORNERS[:2]
    image[height // 2 :, : width // 2], image[height // 2 :, width // 2 :] = CORNERS[2:]
    return image


@pytest.mark.parametrize(
    ("rotation", "upright", "degrees"),
    [
        ((0.0, False, False), lambda image: image, 0),
        ((90.0, False, False), lambda image: np.rot90(image, 1), 270),
        ((180.0, False, False), lambda image: np.rot90(image, 2), 180),
        ((-90.0, False, False), lambda image: np.rot90(image, -1), 90),
        ((0.0, True, False), np.fliplr, 0),
        ((0.0, False, True), np.flipud, 180),
        ((90.0, True, False), lambda image: np.fliplr(np.rot90(image, 1)), 90),
        ((-90.0, True, False), lambda image: np.fliplr(np.rot90(image, -1)), 270),
        ((91.0, False, False), lambda image: np.rot90(image, 1), 270),
    ],
)
def test_the_display_matrix_is_applied(
    rotation: tuple[float, bool, bool],
    upright: Callable[[NDArray[np.uint8]], NDArray[np.uint8]],
    degrees: int,
    tmp_path: Path,
) -> None:
    stored = cornered(32, 64)
    path = film(tmp_path / "r.mp4", [stored] * 3, Film(rotation=rotation))
    image = next(clips.frames(path)).image
    want = upright(stored)
    assert image.shape == want.shape
    inner = (slice(4, -4, 8), slice(4, -4, 8))  # away from the edges, where 4:2:0 mixes
    assert np.abs(image[inner].astype(int) - want[inner]).max() <= 12  # lossy, and saturated colours suffer most
    facts = clips.probe(path)
    assert (facts.width, facts.height, facts.rotation) == (want.shape[1], want.shape[0], degrees)


@pytest.mark.parametrize(
    ("codec", "pixels", "size"),
    [
        ("libx264", "yuv420p10le", (64, 48)),
        ("libx264", "yuv444p", (33, 47)),
        ("libx264", "yuvj420p", (64, 48)),
        ("libx264", "yuv422p", (33, 46)),
        ("ffv1", "yuv420p", (33, 47)),
        ("ffv1", "bgr0", (5, 3)),
        ("ffv1", "yuv420p16le", (1, 1)),
        ("mpeg4", "yuv420p", (63, 31)),
        ("mjpeg", "yuvj420p", (31, 17)),
        ("ffv1", "gray", (9, 7)),
    ],
)
def test_any_pixel_kind_and_odd_size_becomes_rgb(
    codec: str, pixels: str, size: tuple[int, int], tmp_path: Path
) -> None:
    form = Film(codec, pixels, options=(("color_range", "pc"),) if "yuvj" in pixels else ())
    path = film(tmp_path / "p.mkv", [np.full((*size, 3), (200, 100, 50), np.uint8)] * 3, form)
    stills = list(clips.frames(path))
    assert [still.image.shape for still in stills] == [(*size, 3)] * 3
    want = (124, 124, 124) if pixels == "gray" else (200, 100, 50)
    # 8-bit YUV is off by one or two levels, JPEG and MPEG-4 by a few more
    assert np.abs(stills[0].image.astype(int) - want).max() <= 6


@pytest.mark.parametrize("alpha", [0, 51, 128, 255])
def test_transparency_is_composed_over_white(alpha: int, tmp_path: Path) -> None:
    image = np.full((8, 8, 4), (200, 100, 0, alpha), np.uint8)
    path = film(tmp_path / "t.mov", [image] * 2, Film("qtrle", "argb", options=()), form="rgba")
    got = next(clips.frames(path)).image[0, 0]
    want = [round(value * alpha / 255 + 255 - alpha) for value in (200, 100, 0)]
    assert np.abs(got.astype(int) - want).max() <= 1  # rounding


def test_a_transparent_gif_is_composed_over_white(tmp_path: Path) -> None:
    first = pillow.new("RGBA", (6, 4), (0, 0, 200, 255))
    first.putpixel((0, 0), (0, 0, 0, 0))
    first.save(tmp_path / "t.gif", save_all=True, append_images=[first], duration=100, disposal=2)
    stills = list(clips.frames(tmp_path / "t.gif"))
    assert stills[0].image[0, 0].tolist() == [255, 255, 255]
    assert stills[0].image[2, 2].tolist() == [0, 0, 200]


@pytest.mark.parametrize(
    ("tag", "luma"), [("bt709", (0.2126, 0.0722)), ("smpte170m", (0.299, 0.114)), (None, (0.299, 0.114))]
)
def test_the_colour_matrix_is_the_tagged_one(tag: str | None, luma: tuple[float, float], tmp_path: Path) -> None:
    planes = np.concatenate([np.full(16 * 16, 120), np.full(8 * 8, 90), np.full(8 * 8, 180)]).astype(np.uint8)
    options = () if tag is None else (("colorspace", tag),)
    path = film(tmp_path / "c.mkv", [planes.reshape(24, 16)] * 2, Film("ffv1", options=options), form="yuv420p")
    got = next(clips.frames(path)).image
    red, blue = luma
    y, u, v = (120 - 16) / 219, (90 - 128) / 224, (180 - 128) / 224  # BT.601 and BT.709, limited range
    r, b = y + 2 * (1 - red) * v, y + 2 * (1 - blue) * u
    g = (y - red * r - blue * b) / (1 - red - blue)
    assert np.abs(got[4, 4] - np.array([r, g, b]) * 255).max() <= 2  # integer arithmetic of swscale


def test_frames_that_change_size_come_in_the_size_of_the_first(tmp_path: Path) -> None:
    small = film(tmp_path / "s.ts", [coloured(k, 32, 48) for k in range(5)])
    large = film(tmp_path / "l.ts", [coloured(k, 64, 64) for k in range(5, 10)])
    told: list[str] = []
    joined = small.read_bytes() + large.read_bytes()  # and time starts anew in the middle
    stills = list(clips.frames(joined, on_broken=lambda _, error: told.append(str(error))))
    # MPEG-TS counts its packets: where the count is off, the demultiplexer calls the frame before the seam damaged.
    assert [number(still.image) for still in stills] == [still.index for still in stills] == [0, 1, 2, *range(4, 10)]
    assert told == [f"clip of {len(joined)} bytes: frame 3 (0.100 s): the file or its decoder marks it as damaged"]
    assert {still.image.shape for still in stills} == {(32, 48, 3)}
    assert [still.seconds for still in stills] == pytest.approx([still.index / 30 for still in stills], abs=TICK)


def test_ten_seconds_of_one_pixel(tmp_path: Path) -> None:
    path = film(tmp_path / "1.mkv", [coloured(k, 1, 1) for k in range(300)], Film("ffv1", options=()))
    stills = list(clips.frames(path, fps=5))
    assert [number(still.image) for still in stills] == list(range(0, 300, 6))
    assert clips.probe(path).seconds == pytest.approx(10, abs=MILLISECOND)


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


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
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


# --- facts ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHELF)
def test_the_facts_of_each_container(name: str, shelf: dict[str, Path]) -> None:
    facts = clips.probe(shelf[name])
    assert (facts.width, facts.height, facts.frames, facts.rotation) == (64, 64, 30, 0)
    assert facts.seconds == pytest.approx(1, abs=2 * MILLISECOND)
    assert facts.fps == pytest.approx(30, abs=1e-3)  # a ratio of whole numbers, in Matroska of milliseconds
    assert not facts.is_variable_rate


def test_a_variable_rate_is_seen(tmp_path: Path) -> None:
    for suffix in (".mp4", ".mkv"):
        path = numbered(tmp_path / f"v{suffix}", 6, Film(times=(0, 40, 55, 300, 310, 900)))
        assert clips.probe(path).is_variable_rate
        path = numbered(tmp_path / f"j{suffix}", 6, Film(times=(0, 40, 81, 120, 160, 201)))  # a camera's jitter
        assert not clips.probe(path).is_variable_rate


def test_the_facts_of_pictures(tmp_path: Path) -> None:
    pillow.fromarray(coloured(0, 5, 7)).save(tmp_path / "1.png")
    assert clips.probe(tmp_path, fps=10) == clips.ClipFacts(7, 5, 1, 0.1, 10, False, "images", 0)
    assert clips.probe(np.zeros((50, 3, 4, 3), np.uint8)) == clips.ClipFacts(4, 3, 50, 2, 25, False, "images", 0)
    with pytest.raises(BadRequest, match="read only once"):
        clips.probe(iter([coloured(0)]))


# --- pictures as a clip --------------------------------------------------------------------------------------


def test_a_folder_is_read_in_the_order_of_its_numbers(tmp_path: Path) -> None:
    for index in range(12):
        pillow.fromarray(coloured(index, 4, 6)).save(tmp_path / f"frame_{index}.png")
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / ".hidden.png").write_bytes(b"")
    stills = list(clips.frames(tmp_path, fps=4, start=0.5, end=2.5))
    assert [number(still.image) for still in stills] == list(range(2, 10))
    assert [still.index for still in stills] == list(range(8))
    assert [still.seconds for still in stills] == [k / 4 for k in range(2, 10)]
    assert [still.seconds for still in clips.frames(str(tmp_path))][:3] == [0, 0.04, 0.08]


def test_pictures_come_from_an_iterator_that_reuses_its_buffer() -> None:
    buffer = np.zeros((4, 4, 3), np.uint8)

    def camera() -> Iterator[NDArray[np.uint8]]:
        for index in range(5):
            buffer[:] = coloured(index, 4, 4)
            yield buffer

    stills = list(clips.frames(camera(), fps=10))
    assert [number(still.image) for still in stills] == list(range(5))
    assert not stills[0].image.flags.writeable
    assert buffer.flags.writeable


def test_a_picture_that_is_damaged_or_of_another_size_is_left_out(tmp_path: Path) -> None:
    pictures: list[Any] = [coloured(0, 4, 6), b"no picture", coloured(2, 5, 6), coloured(3, 4, 6)]
    told: list[tuple[int, str]] = []
    stills = list(clips.frames(pictures, on_broken=lambda index, error: told.append((index, str(error)))))
    assert [(still.index, number(still.image)) for still in stills] == [(0, 0), (3, 3)]
    assert [index for index, _ in told] == [1, 2]
    assert told[1][1] == "pictures: frame 2 (0.080 s): 6 x 5, and the clip is 6 x 4"


@pytest.mark.parametrize("pictures", [[], [b"x", b"y"], np.zeros((0, 4, 4, 3), np.uint8)])
def test_no_picture_at_all(pictures: Any) -> None:
    with pytest.raises(BadMedia, match="not one frame in it can be decoded"):
        list(clips.frames(pictures))


# --- writing -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", ["h264", "mpeg4", None])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
@pytest.mark.parametrize(("size", "fps"), [((64, 48), 30.0), ((33, 47), 30000 / 1001), ((1, 1), 24.0), ((50, 31), 0.5)])
def test_what_is_written_can_be_read(
    codec: str | None, suffix: str, size: tuple[int, int], fps: float, tmp_path: Path
) -> None:
    path = tmp_path / f"w{suffix}"
    with clips.Writer(path, size, fps, codec=codec) as clip:
        for index in range(12):
            clip.write(coloured(index, *size))
        assert clip.frames == 12
    assert clip.stored_hw == (size[0] + size[0] % 2, size[1] + size[1] % 2)
    stills = list(clips.frames(path))
    assert [number(still.image[: size[0], : size[1]]) for still in stills] == list(range(12))
    assert [still.image.shape for still in stills] == [(*clip.stored_hw, 3)] * 12
    assert [still.seconds for still in stills] == pytest.approx([k / fps for k in range(12)], abs=MILLISECOND)
    assert clips.probe(path).fps == pytest.approx(fps, rel=1e-3)  # Matroska counts in milliseconds


def test_odd_sizes_are_padded_with_their_own_edge(tmp_path: Path) -> None:
    image = cornered(33, 47)
    with clips.Writer(tmp_path / "w.mp4", (33, 47), 30) as clip:
        clip.write(image)
    got = next(clips.frames(tmp_path / "w.mp4")).image
    assert np.abs(got[33, ::8].astype(int) - got[32, ::8]).max() <= 8  # lossy
    assert np.abs(got[4:12, 4:12].astype(int) - CORNERS[0]).max() <= 8  # nothing has moved, and BT.709 is undone


def test_times_can_be_given(tmp_path: Path) -> None:
    times = (0.0, 0.1, 0.15, 0.5, 1.0)
    with clips.Writer(tmp_path / "v.mp4", (64, 64), 30) as clip:
        for index, seconds in enumerate(times):
            clip.write(coloured(index), seconds=seconds)
    assert [still.seconds for still in clips.frames(tmp_path / "v.mp4")] == pytest.approx(times, abs=2e-5)  # a tick


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf")])
def test_time_goes_forward(seconds: float, tmp_path: Path) -> None:
    with clips.Writer(tmp_path / "v.mp4", (64, 64), 30) as clip:
        clip.write(coloured(0), seconds=0.0)
        with pytest.raises(BadRequest, match="does not come after|has no place"):
            clip.write(coloured(1), seconds=seconds)
    assert len(list(clips.frames(tmp_path / "v.mp4"))) == 1


@pytest.mark.parametrize(
    "image", [np.zeros((64, 63, 3), np.uint8), np.zeros((64, 64), np.uint8), np.zeros((64, 64, 3), np.float32)]
)
def test_a_picture_of_another_shape_is_refused(image: Any, tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="want uint8"), clips.Writer(tmp_path / "v.mp4", (64, 64), 30) as clip:
        clip.write(image)


def test_writers_that_cannot_be(tmp_path: Path) -> None:
    for name, size, fps, codec in [
        ("a.gif", (4, 4), 30.0, None),
        ("a.mp4", (0, 4), 30.0, None),
        ("a.mp4", (4, 4), 0.0, None),
        ("a.mp4", (4, 4), float("nan"), None),
        ("a.mp4", (4, 4), 30.0, "av1"),
        ("a.mov", (4, 4), 30.0, "vp9"),
        ("a.webm", (4, 4), 30.0, "h264"),
    ]:
        with pytest.raises(BadRequest):
            clips.Writer(tmp_path / name, size, fps, codec=codec)
    with pytest.raises(BadRequest, match="with block"):
        clips.Writer(tmp_path / "a.mp4", (64, 64), 30).write(coloured(0))
    assert list(tmp_path.iterdir()) == []


def written(path: Path, images: Sequence[NDArray[np.uint8]], error: Exception | None = None) -> None:
    with write_beside(path) as beside, clips.Writer(beside, (64, 64), 30) as clip:
        for image in images:
            clip.write(image)
        if error is not None:
            raise error


def test_an_exception_or_an_empty_clip_leaves_no_file(tmp_path: Path) -> None:
    path = tmp_path / "w.mp4"
    with pytest.raises(KeyError):
        written(path, [coloured(0)], KeyError("the caller's own"))
    with pytest.raises(BadRequest, match="no picture was written"):
        written(path, [])
    assert list(tmp_path.iterdir()) == []
    written(path, [coloured(7)])
    assert [number(still.image) for still in clips.frames(path)] == [7]


def test_a_full_disk_is_what_write_beside_expects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.BytesIO):
        def write(self, data: Any) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "open", lambda self, mode: Full())
    with pytest.raises(CannotWrite, match="No space left"):
        written(tmp_path / "w.mp4", [coloured(index) for index in range(60)])
    with pytest.raises(CannotWrite, match="No space left"):  # found only when the file is closed
        written(tmp_path / "w.mp4", [coloured(0)])
    assert list(tmp_path.iterdir()) == []
