"""What is no picture, too large or damaged is refused in one line, and nothing else is ever raised."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image as pillow

from anmok import media
from anmok.errors import BadMedia
from image_files import RED, encoded, is_form, solid


def png_with_size(width: int, height: int) -> bytes:
    """A header that promises so many pixels, and no pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


# --- what is refused -----------------------------------------------------------------------------------------


def test_a_truncated_file_is_damaged(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / "half.jpg"
    data = encoded(pillow.fromarray(rng.integers(0, 255, (64, 64, 3), np.uint8)), "JPEG")
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(BadMedia, match="half.jpg: the image is damaged"):
        media.read(path)


@pytest.mark.parametrize(
    ("content", "phrase"),
    [(b"", "the file is empty"), (b"this is a text, not a picture\n" * 9, "not an image that anmok reads")],
)
def test_what_is_no_image_is_refused_by_name(tmp_path: Path, content: bytes, phrase: str) -> None:
    path = tmp_path / "x.jpg"
    path.write_bytes(content)
    for source in (path, str(path)):
        with pytest.raises(BadMedia, match=f"x.jpg: {phrase}"):
            media.read(source)
    with pytest.raises(BadMedia, match="no|empty"):
        media.read(io.BytesIO(content))


@pytest.mark.parametrize("form", ["ICO", "TGA", "PCX", "EPS", "PDF"])
def test_other_formats_are_refused_though_pillow_knows_them(form: str) -> None:
    data = encoded(solid("RGB", RED, (16, 16)), form)
    with pytest.raises(BadMedia, match="not an image that anmok reads"):
        media.read(data)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF"])
def test_the_allowed_formats_are_read(form: str) -> None:
    image = media.read(encoded(solid("RGB", (0, 128, 0), (16, 24)), form))
    assert image.shape == (24, 16, 3)
    assert np.abs(image.astype(int) - (0, 128, 0)).max() <= 6


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadMedia, match="nothing.png: no such file"):
        media.read(tmp_path / "nothing.png")
    with pytest.raises(BadMedia, match="cannot be read"):
        media.read(tmp_path)
    with pytest.raises(BadMedia, match="no such file"):
        media.facts(tmp_path / "nothing.png")
    with pytest.raises(BadMedia, match="cannot be read"):
        media.read("a\0b.png")


# --- the limit -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [8_000, 12_000, 60_000])
def test_too_many_pixels_are_refused_from_the_header(side: int) -> None:
    # 64, 144 and 3,600 Mpx: below, around and beyond the limits at which Pillow itself warns and refuses.
    with pytest.raises(BadMedia, match=f"{side} x {side} is over the limit of 50,000,000 pixels"):
        media.read(png_with_size(side, side))


def test_the_limit_is_configurable(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(solid("RGB", RED, (10, 10)))
    monkeypatch.setenv("ANMOK_MAX_PIXELS", "100")
    assert media.max_pixels() == 100
    assert media.read(data).shape == (10, 10, 3)
    assert media.read(np.zeros((10, 10), np.uint8)).shape == (10, 10, 3)
    monkeypatch.setenv("ANMOK_MAX_PIXELS", "99")
    for source in (data, np.zeros((10, 10), np.uint8), solid("RGB", RED, (10, 10))):
        with pytest.raises(BadMedia, match="over the limit of 99 pixels"):
            media.read(source)
    monkeypatch.delenv("ANMOK_MAX_PIXELS")
    assert media.max_pixels() == 50_000_000


def test_a_raised_limit_goes_beyond_that_of_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    """The header passes, and then the missing pixels are what is wrong."""
    monkeypatch.setenv("ANMOK_MAX_PIXELS", "1000000000")
    with pytest.raises(BadMedia, match="the image is damaged"):
        media.read(png_with_size(300_000, 1_000))


@pytest.mark.parametrize("text", ["0", "-5", "many", "1e6", "12.5"])
def test_a_limit_that_is_no_number_is_said_to_be_so(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANMOK_MAX_PIXELS", text)
    with pytest.raises(BadMedia, match="must be a whole number of pixels above 0"):
        media.max_pixels()


# --- anything may come in ------------------------------------------------------------------------------------

MAGICS = [
    encoded(solid("RGB", RED, (9, 9)), form) for form in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")
]


NOISY = pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # what Pillow thinks of broken EXIF


def reads_or_says_why(data: bytes) -> None:
    try:
        image, _ = media.decode_with_facts(data, "fuzz")
    except BadMedia as error:
        assert str(error).startswith("fuzz: ")  # noqa: PT017 (either outcome is right)
        assert "\n" not in str(error)  # noqa: PT017
    else:
        assert is_form(image)


@NOISY
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=400))
@example(b"\x00")
@example(b"P5 2 1 65535\n")
@example(b"P6 0 0 255\n")
def test_random_bytes_never_raise_anything_but_bad_media(data: bytes) -> None:
    reads_or_says_why(data)


@NOISY
@settings(max_examples=250, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(MAGICS),
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=8),
    st.integers(0, 40),
)
def test_damaged_pictures_never_raise_anything_but_bad_media(
    data: bytes, changes: list[tuple[int, int]], cut: int
) -> None:
    broken = bytearray(data)
    for place, value in changes:
        broken[place % len(broken)] = value
    reads_or_says_why(bytes(broken[: len(broken) - cut]))
