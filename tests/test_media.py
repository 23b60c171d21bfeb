"""The media policy, row by row and with numbers: modes, frames, orientation, sources."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as pillow
from PIL import ImageCms

from anmok import media
from anmok.errors import BadMedia
from image_files import BLUE, GREEN, RED, encoded, is_form, solid


def gradient(height: int = 6, width: int = 4) -> NDArray[np.uint8]:
    """No two pixels alike, so that every turn shows."""
    return np.arange(height * width * 3, dtype=np.uint8).reshape(height, width, 3) * 3


# --- modes ---------------------------------------------------------------------------------------------------


def test_palette_becomes_rgb() -> None:
    picture = solid("RGB", (10, 200, 30)).convert("P", palette=pillow.Palette.ADAPTIVE)
    image = media.read(encoded(picture))
    assert is_form(image)
    assert (image == (10, 200, 30)).all()


def test_transparent_palette_entry_is_composed_over_white() -> None:
    picture = pillow.new("P", (4, 2))
    picture.putpalette([0, 0, 0, 200, 10, 20])
    picture.putdata([0, 1, 0, 1] * 2)
    image = media.read(encoded(picture, transparency=0))
    assert (image[:, 0] == 255).all()
    assert (image[:, 1] == (200, 10, 20)).all()


def test_one_bit_becomes_black_and_white() -> None:
    picture = pillow.new("1", (2, 1))
    picture.putdata([0, 1])
    assert media.read(encoded(picture)).tolist() == [[[0, 0, 0], [255, 255, 255]]]


def test_grey_stands_in_all_three_channels() -> None:
    assert (media.read(encoded(solid("L", 77))) == 77).all()


@pytest.mark.parametrize(
    ("mode", "colour", "want"),
    [
        ("RGBA", (255, 0, 0, 0), (255, 255, 255)),
        ("RGBA", (255, 0, 0, 255), (255, 0, 0)),
        ("RGBA", (0, 100, 200, 128), (127, 177, 227)),
        ("LA", (0, 0), (255, 255, 255)),
        ("LA", (40, 255), (40, 40, 40)),
        ("LA", (0, 51), (204, 204, 204)),
    ],
)
def test_transparency_is_composed_over_white(mode: str, colour: tuple[int, ...], want: tuple[int, int, int]) -> None:
    image = media.read(encoded(solid(mode, colour)))
    assert np.abs(image.astype(int) - want).max() <= 1


def test_transparent_colour_of_rgb_png_is_white() -> None:
    picture = pillow.new("RGB", (2, 1), RED)
    picture.putpixel((1, 0), BLUE)
    assert media.read(encoded(picture, transparency=BLUE)).tolist() == [[list(RED), [255, 255, 255]]]


@pytest.mark.parametrize(("value", "want"), [(65535, 255), (257, 1), (256, 0), (0, 0), (25700, 100)])
def test_sixteen_bit_grey_is_divided_by_257(value: int, want: int) -> None:
    picture = pillow.fromarray(np.full((3, 4), value, np.uint16))
    assert (media.read(encoded(picture)) == want).all()
    assert (media.read(encoded(picture, "TIFF")) == want).all()
    assert (media.read(np.full((3, 4), value, np.uint16)) == want).all()


def test_sixteen_bit_ppm_is_divided_by_257() -> None:
    data = b"P5 2 1 65535\n" + np.asarray([65535, 257], ">u2").tobytes()
    assert media.read(data).tolist() == [[[255] * 3, [1] * 3]]


@pytest.mark.parametrize("value", [-1, 70_000])
def test_thirty_two_bit_integers_beyond_sixteen_bits_are_refused(value: int) -> None:
    picture = pillow.fromarray(np.full((2, 2), value, np.int32))
    with pytest.raises(BadMedia, match="32-bit pixels have no known range"):
        media.read(encoded(picture, "TIFF"))


def test_floating_point_tiff_is_refused() -> None:
    picture = pillow.fromarray(np.full((2, 2), 0.5, np.float32))
    with pytest.raises(BadMedia, match="floating-point pixels have no known range"):
        media.read(encoded(picture, "TIFF"))


def test_cmyk_jpeg_becomes_rgb() -> None:
    image = media.read(encoded(solid("CMYK", (0, 255, 255, 0), (16, 16)), "JPEG", quality=95))
    assert is_form(image)
    assert np.abs(image.astype(int) - RED).max() <= 6


def test_ycbcr_becomes_rgb() -> None:
    # Compressed: Pillow 12.3 does not read what it wrote without.
    image = media.read(encoded(solid("RGB", RED, (16, 16)).convert("YCbCr"), "TIFF", compression="tiff_lzw"))
    assert np.abs(image.astype(int) - RED).max() <= 2


def test_lab_becomes_rgb() -> None:
    lab = ImageCms.createProfile("LAB")
    to_lab = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), lab, "RGB", "LAB")
    picture = ImageCms.applyTransform(solid("RGB", (200, 30, 40)), to_lab)
    assert picture is not None
    image = media.read(encoded(picture, "TIFF"))
    assert np.abs(image.astype(int) - (200, 30, 40)).max() <= 4


# --- several pictures in one file ----------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["GIF", "WEBP", "TIFF", "PNG"])
def test_of_many_frames_the_first_is_read(form: str) -> None:
    frames = [solid("RGB", colour, (16, 16)) for colour in (RED, GREEN, BLUE)]
    options = {"lossless": True} if form == "WEBP" else {}
    data = encoded(frames[0], form, save_all=True, append_images=frames[1:], **options)
    assert getattr(pillow.open(io.BytesIO(data)), "n_frames", 1) == 3
    assert np.abs(media.read(data).astype(int) - RED).max() <= 2


def test_of_a_stereo_jpeg_the_first_picture_is_read() -> None:
    left, right = solid("RGB", GREEN, (16, 16)), solid("RGB", BLUE, (16, 16))
    data = encoded(left, "MPO", save_all=True, append_images=[right])
    assert pillow.open(io.BytesIO(data)).format == "MPO"
    assert np.abs(media.read(data).astype(int) - GREEN).max() <= 2


# --- orientation ---------------------------------------------------------------------------------------------

# How a camera that writes this tag stored an upright picture: the inverse of what a viewer has to do.
STORED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, -1),
}


@pytest.mark.parametrize("tag", range(1, 9))
@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_every_exif_orientation_is_turned_upright(tag: int, form: str) -> None:
    upright = gradient()
    exif = pillow.Exif()
    exif[0x0112] = tag
    data = encoded(pillow.fromarray(np.ascontiguousarray(STORED[tag](upright))), form, exif=exif)
    assert np.array_equal(media.read(data), upright)


def test_orientation_of_sixteen_bit_and_of_open_pictures() -> None:
    exif = pillow.Exif()
    exif[0x0112] = 6
    deep = np.rot90(np.arange(6, dtype=np.uint16).reshape(2, 3) * 257, 1)
    image = media.read(encoded(pillow.fromarray(np.ascontiguousarray(deep)), exif=exif))
    assert image[:, :, 0].tolist() == [[0, 1, 2], [3, 4, 5]]
    with pillow.open(io.BytesIO(encoded(pillow.fromarray(np.rot90(gradient(), 1)), exif=exif))) as picture:
        assert np.array_equal(media.read(picture), gradient())


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("exif", [b"Exif\x00\x00", b"Exif\x00\x00II*\x00\xff\xff\xff\xff", b"nonsense"])
def test_broken_exif_in_a_sound_picture_does_no_harm(exif: bytes) -> None:
    data = encoded(solid("RGB", RED, (16, 16)), "JPEG", exif=exif)
    image, facts = media.decode_with_facts(data, "x.jpg")
    assert image.shape == (16, 16, 3)
    assert (facts.taken, facts.camera) == ("", "")


# --- sources -------------------------------------------------------------------------------------------------


def test_all_kinds_of_source_give_the_same_pixels(tmp_path: Path) -> None:
    want = gradient()
    path = tmp_path / "g.png"
    pillow.fromarray(want).save(path)
    with path.open("rb") as file:
        assert np.array_equal(media.read(file), want)
    for source in (path, str(path), path.read_bytes(), io.BytesIO(path.read_bytes()), want):
        assert np.array_equal(media.read(source), want)


def test_a_picture_of_the_caller_stays_open_and_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "g.png"
    pillow.fromarray(gradient()).convert("RGBA").save(path)
    with pillow.open(path) as picture:
        first, second = media.read(picture), media.read(picture)
        assert np.array_equal(first, second)
        assert picture.mode == "RGBA"
        assert picture.getpixel((0, 0)) == (0, 3, 6, 255)


def test_a_closed_or_truncated_picture_of_the_caller_is_bad_media(tmp_path: Path) -> None:
    path = tmp_path / "g.png"
    pillow.fromarray(gradient()).save(path)
    picture = pillow.open(path)
    picture.close()
    with pytest.raises(BadMedia, match="g.png"):
        media.read(picture)
    data = encoded(pillow.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)), "JPEG")
    with pytest.raises(BadMedia, match="damaged"):
        media.read(pillow.open(io.BytesIO(data[:1500])))


def test_arrays_are_not_kept_but_copied_or_left_alone() -> None:
    array = gradient()
    before = array.copy()
    media.read(array[:, ::-1])
    assert np.array_equal(array, before)
    assert media.read(array[:, ::-1]).flags.c_contiguous


@pytest.mark.parametrize(
    ("shape", "want"),
    [((4, 6), (4, 6, 3)), ((4, 6, 1), (4, 6, 3)), ((1, 1), (1, 1, 3)), ((4, 6, 4), (4, 6, 3))],
)
def test_arrays_of_every_allowed_shape(shape: tuple[int, ...], want: tuple[int, ...]) -> None:
    for kind in (np.uint8, np.uint16):
        image = media.read(np.full(shape, np.iinfo(kind).max, kind))
        assert image.shape == want
        assert (image == 255).all()


def test_an_array_with_alpha_is_composed_over_white() -> None:
    array = np.zeros((2, 2, 4), np.uint8)
    array[..., 3] = 51
    assert (media.read(array) == 204).all()


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int64, np.bool_, np.int8])
def test_arrays_of_other_types_are_refused(kind: type[np.generic]) -> None:
    with pytest.raises(BadMedia, match=f"array of dtype {np.dtype(kind)}: want uint8 or uint16"):
        media.read(np.zeros((4, 4, 3), kind))


@pytest.mark.parametrize("shape", [(3,), (4, 4, 2), (4, 4, 5), (1, 4, 4, 3), (0, 4, 3), (4, 0), ()])
def test_arrays_of_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(BadMedia, match="array of shape"):
        media.read(np.zeros(shape, np.uint8))


def test_what_is_no_source_at_all_is_refused() -> None:
    with pytest.raises(BadMedia, match="int"):
        media.read(7)  # type: ignore[arg-type]


# --- facts and folders ---------------------------------------------------------------------------------------


def test_facts_of_a_photo(tmp_path: Path) -> None:
    exif = pillow.Exif()
    exif[0x0110] = "Camera 1\0"
    exif.get_ifd(0x8769)[0x9003] = "2024:05:06 07:08:09"
    path = tmp_path / "p.jpg"
    solid("RGB", RED, (20, 10)).save(path, exif=exif)
    facts = media.facts(path)
    assert (facts.width, facts.height, facts.format) == (20, 10, "JPEG")
    assert (facts.taken, facts.camera) == ("2024:05:06 07:08:09", "Camera 1")
    assert facts.bytes == path.stat().st_size
    assert facts == media.decode_with_facts(path.read_bytes(), "p.jpg")[1]
    assert len(facts.sha256) == 64


def test_find_is_stable_recursive_and_leaves_hidden_files_out(tmp_path: Path) -> None:
    for name in (
        "b/2.PNG",
        "b/1.jpg",
        "a.webp",
        ".hidden.png",
        "b/.thumbs/3.png",
        "notes.txt",
        "c.png/inner.gif",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    found = [path.relative_to(tmp_path).as_posix() for path in media.find(tmp_path)]
    assert found == ["a.webp", "b/1.jpg", "b/2.PNG", "c.png/inner.gif"]
