"""Pictures to canvases and points back, the arithmetic of pixels, and difference hashes."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image as pillow

from anmok.errors import BadRequest
from anmok.geometry import Filter, Fit, Pixels, difference_hash, fit, flip, normalise, prepare, resized

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def pixels(size: int = 8, how: Fit = "squash", crop: float = 1.0, name: Filter = "bilinear") -> Pixels:
    return Pixels(size, how, name, MEAN, STD, crop)


def noise(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def smooth(height: int = 96, width: int = 120) -> NDArray[np.uint8]:
    """Broad waves, different from left to right."""
    y, x = np.mgrid[0:height, 0:width] / 30.0
    waves = 127 + 60 * np.sin(x + 0.7 * y) + 60 * np.sin(2.3 * x - y)
    return np.repeat(waves.astype(np.uint8)[:, :, None], 3, axis=2)


@pytest.mark.parametrize(
    ("how", "crop", "shape", "scale", "offset"),
    [
        ("squash", 1.0, (40, 20), (0.4, 0.2), (0.0, 0.0)),
        ("crop", 1.0, (40, 20), (0.4, 0.4), (0.0, -4.0)),
        ("crop", 1.0, (20, 40), (0.4, 0.4), (-4.0, 0.0)),
        ("crop", 0.5, (20, 20), (0.8, 0.8), (-4.0, -4.0)),
        ("crop", 0.875, (20, 21), (9 / 21, 0.45), (0.0, 0.0)),
        ("pad", 1.0, (40, 20), (0.2, 0.2), (0.0, 0.0)),
        ("pad", 1.0, (20, 40), (0.2, 0.2), (0.0, 0.0)),
        ("pad", 1.0, (8, 8), (1.0, 1.0), (0.0, 0.0)),
    ],
)
def test_frames(
    how: Fit, crop: float, shape: tuple[int, int], scale: tuple[float, float], offset: tuple[float, float]
) -> None:
    canvas, frame = fit(noise(*shape), pixels(8, how, crop))
    assert canvas.shape == (8, 8, 3)
    assert canvas.dtype == np.uint8
    assert frame.scale_xy == pytest.approx(scale)
    assert frame.offset_xy == offset
    assert frame.size_hw == shape


def test_crop_keeps_the_centre() -> None:
    image = np.zeros((8, 24, 3), np.uint8)
    image[:, 8:16] = 200
    canvas, _ = fit(image, pixels(8, "crop"))
    assert (canvas == 200).all()


def test_pad_fills_right_and_bottom_with_the_mean() -> None:
    canvas, _ = fit(np.full((4, 8, 3), 10, np.uint8), pixels(8, "pad"))
    assert (canvas[:4] == 10).all()
    assert (canvas[4:] == np.round(np.asarray(MEAN) * 255)).all()
    assert np.abs(normalise(canvas, pixels())[:, 4:]).max() < 0.01


@settings(max_examples=200)
@given(
    st.sampled_from(["crop", "squash", "pad"]),
    st.integers(1, 70),
    st.integers(1, 70),
    st.integers(1, 40),
    st.sampled_from([1.0, 0.875, 0.6]),
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=5),
)
def test_the_frame_is_an_exact_inverse(
    how: Fit, height: int, width: int, size: int, crop: float, shares: list[tuple[float, float]]
) -> None:
    canvas, frame = fit(np.zeros((height, width, 3), np.uint8), pixels(size, how, crop))
    assert canvas.shape == (size, size, 3)
    points = np.asarray(shares) * (width, height)
    assert np.abs(frame.to_image(frame.to_canvas(points)) - points).max() <= 1e-3


@settings(max_examples=100)
@given(st.sampled_from(["crop", "squash", "pad"]), st.integers(1, 70), st.integers(1, 70))
def test_points_off_the_picture_are_clipped_to_it(how: Fit, height: int, width: int) -> None:
    _, frame = fit(np.zeros((height, width, 3), np.uint8), pixels(16, how))
    back = frame.to_image(np.asarray([[-1e4, -1e4], [1e4, 1e4]]))
    assert back.tolist() == [[0, 0], [width, height]]


def test_a_mark_lies_where_the_frame_says() -> None:
    for how in ("crop", "squash", "pad"):
        image = np.zeros((60, 80, 3), np.uint8)
        image[28:32, 38:42] = 255  # centred on (40, 30)
        canvas, frame = fit(image, pixels(40, how))
        rows, columns = np.nonzero(canvas[:, :, 0] > 130)
        centre = np.asarray([columns.mean() + 0.5, rows.mean() + 0.5])
        assert np.abs(frame.to_canvas(np.asarray([40.0, 30.0])) - centre).max() <= 0.6


def test_normalise_by_hand() -> None:
    canvas = np.zeros((2, 3, 3), np.uint8)
    canvas[1, 2] = (255, 128, 64)
    out = normalise(canvas, pixels())
    assert out.shape == (3, 2, 3)
    assert out.dtype == np.float32
    for channel, value in enumerate((255, 128, 64)):
        assert out[channel, 1, 2] == pytest.approx((value / 255 - MEAN[channel]) / STD[channel], abs=1e-6)
        assert out[channel, 0, 0] == pytest.approx(-MEAN[channel] / STD[channel], abs=1e-6)


@pytest.mark.parametrize("name", ["bilinear", "bicubic", "lanczos", "nearest"])
def test_prepare_equals_the_arithmetic_of_pillow(name: Filter) -> None:
    image = noise(37, 53)
    short, long = round(16 / 0.875), int(round(16 / 0.875) * 53 / 37)
    resized = pillow.fromarray(image).resize((long, short), getattr(pillow.Resampling, name.upper()))
    top, left = (short - 16) // 2, (long - 16) // 2
    cut = np.asarray(resized.crop((left, top, left + 16, top + 16)), np.float64)
    want = ((cut / 255 - MEAN) / STD).transpose(2, 0, 1)
    got = prepare(image, pixels(16, "crop", 0.875, name))
    assert got.shape == (3, 16, 16)
    assert np.abs(got - want).max() <= 1e-5


def test_a_picture_of_the_right_size_is_not_touched() -> None:
    image = noise(8, 8)
    for how in ("crop", "squash", "pad"):
        assert np.array_equal(fit(image, pixels(8, how))[0], image)


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (3, 200)])
def test_extreme_shapes_have_canvases(shape: tuple[int, int]) -> None:
    for how in ("crop", "squash", "pad"):
        assert fit(noise(*shape), pixels(8, how))[0].shape == (8, 8, 3)


@pytest.mark.parametrize(
    "wrong",
    [
        {"fit": "zoom"},
        {"filter": "box"},
        {"size": 0},
        {"crop": 0.0},
        {"crop": 1.1},
        {"std": (0.2, 0.0, 0.2)},
    ],
)
def test_impossible_pixels_are_refused(wrong: dict[str, object]) -> None:
    plain: dict[str, object] = {"size": 8, "fit": "crop", "filter": "bilinear", "mean": MEAN, "std": STD}
    with pytest.raises(BadRequest, match="pixels: "):
        Pixels(**(plain | wrong))  # type: ignore[arg-type]


def test_flip_mirrors_left_to_right_and_back() -> None:
    image = noise(4, 6)
    assert np.array_equal(flip(image)[:, 0], image[:, -1])
    assert np.array_equal(flip(flip(image)), image)
    assert flip(image).flags.c_contiguous


def bits(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> int:
    return (difference_hash(a) ^ difference_hash(b)).bit_count()


def test_difference_hash_of_what_is_known() -> None:
    assert difference_hash(np.full((20, 20, 3), 90, np.uint8)) == 0  # nothing is darker than its neighbour
    ramp = np.repeat(np.arange(90, dtype=np.uint8)[None, :, None], 40, axis=0).repeat(3, axis=2)
    assert difference_hash(ramp) == 2**64 - 1  # every cell is
    assert difference_hash(flip(ramp)) == 0


def test_difference_hash_knows_a_copy_and_not_a_mirror_image() -> None:
    image = smooth()
    smaller = np.asarray(pillow.fromarray(image).resize((60, 48)))
    brighter = np.clip(image.astype(int) + 8, 0, 255).astype(np.uint8)
    assert bits(image, image) == 0
    assert bits(image, smaller) <= 2
    assert bits(image, brighter) <= 2
    assert bits(image[:, 2:], image[:, :-2]) <= 10  # shifted by two pixels of 120
    assert bits(image, flip(image)) >= 20
    assert bits(noise(64, 64), noise(64, 64, 1)) >= 16


@pytest.mark.parametrize("shape", [(1, 200_000), (200_000, 1)])
def test_the_middle_of_a_very_long_strip_is_cut_out_without_enlarging_all_of_it(shape: tuple[int, int]) -> None:
    image = np.zeros((*shape, 3), np.uint8)
    long = int(np.argmax(shape))
    image[(slice(None),) * long + (slice(99_999, 100_001),)] = 255  # the two pixels in the middle
    tracemalloc.start()
    canvas, frame = fit(image, Pixels(224, "crop", "bicubic", (0.5,) * 3, (0.5,) * 3, crop=0.875))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert canvas.shape == (224, 224, 3)
    assert canvas.min() == 255  # each of the two is 256 pixels wide on the canvas, less bicubic's reach of half that
    assert peak < 10_000_000
    middle = frame.to_canvas(np.asarray([[shape[1] / 2, shape[0] / 2]]))
    np.testing.assert_allclose(middle, [[112, 112]], atol=1)
    np.testing.assert_allclose(frame.to_image(middle), [[shape[1] / 2, shape[0] / 2]], atol=1e-2)


def test_a_strip_is_cut_as_a_less_long_one_is() -> None:
    rng = np.random.default_rng(5)
    rules = Pixels(16, "crop", "bilinear", (0.5,) * 3, (0.5,) * 3)
    for shape in ((3, 500), (500, 3), (20, 2000)):
        image = rng.integers(0, 256, (*shape, 3), np.uint8)
        canvas, frame = fit(image, rules)
        height, width = (
            (16, int(16 * shape[1] / shape[0])) if shape[0] < shape[1] else (int(16 * shape[0] / shape[1]), 16)
        )
        whole, _ = resized(image, (height, width), "bilinear")
        top, left = -round(frame.offset_xy[1]), -round(frame.offset_xy[0])
        wanted = whole[top : top + 16, left : left + 16].astype(np.int16)
        assert np.abs(wanted - canvas).max() <= 1  # the same places, rounded once more or less
