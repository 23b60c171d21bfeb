"""Pixels of clips: orientation, kinds, colours, transparency and sizes that change."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as pillow

from anmok import clips
from filmed_clips import MILLISECOND, TICK, Film, coloured, cornered, film, number


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
