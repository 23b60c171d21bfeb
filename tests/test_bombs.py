"""Bombs: files that are small, or let in by their size, and large in memory. All end below 100 MB beside the file."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from pathlib import Path

import pytest

from anmok import media
from anmok.errors import BadMedia
from bomb_files import (
    ANIMATED,
    LONG,
    WEBP_FRAME,
    WEBP_PIXEL,
    avif,
    bmp,
    canvas,
    changed,
    chunk,
    gif,
    grey_tiff,
    ico,
    jpeg,
    mp4,
    mp4_that_promises,
    png,
    png_of_21_kilobytes,
    tiff,
    watched,
    webp,
)

LIMIT = 100.0  # MB, of issue 4


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(100_000_000))
    return file.getvalue()


ZEROS = zlib.compress(bytes(100_000_000), 9)  # 97 kB
A_MILLION = zlib.compress(b"a" * 1_000_000, 9)
OVER = "over the limit of 50,000,000 pixels"
NOT_READ = "not an image that anmok reads"
PICTURES: dict[str, tuple[bytes, str]] = {
    "png of 21 kB": (png_of_21_kilobytes(), f"13300 x 13300 is {OVER}"),
    "png without its pixels": (png(7000, 7000, pixels=b""), "damaged"),
    "png with too many pixels": (png(1, 1, pixels=bytes(100_000_000)), "(1, 1, 3)"),
    "png zTXt": (png(1, 1, chunk(b"zTXt", b"a\0\0" + ZEROS)), "damaged"),
    "png iTXt": (png(1, 1, chunk(b"iTXt", b"a\0\1\0\0\0" + ZEROS)), "damaged"),
    "png iCCP": (png(1, 1, chunk(b"iCCP", b"a\0\0" + ZEROS)), "damaged"),
    "png of many zTXt": (png(1, 1, *(chunk(b"zTXt", b"%d\0\0" % n + A_MILLION) for n in range(100))), "damaged"),
    "png of 63 zTXt": (png(1, 1, *(chunk(b"zTXt", b"%d\0\0" % n + A_MILLION) for n in range(63))), "(1, 1, 3)"),
    "apng of 2^31 frames": (png(1, 1, chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0))), "(1, 1, 3)"),
    "webp and a zip": (webp(WEBP_PIXEL) + zipped(), "(1, 1, 3)"),
    "zip in a webp": (webp(canvas(1, 1), WEBP_PIXEL, (b"ZIP ", zipped())), "(1, 1, 3)"),
    "webp that declares 4 GB": (webp(WEBP_PIXEL, declared=LONG - 9), "damaged"),
    "webp with a huge canvas": (webp(canvas(60_000, 60_000), WEBP_PIXEL), "BadMedia"),
    "webp animation, huge canvas": (
        webp(canvas(60_000, 60_000, ANIMATED), (b"ANIM", bytes(6)), WEBP_FRAME),
        "BadMedia",
    ),
    "webp of 10^5 frames": (webp(canvas(1, 1, ANIMATED), (b"ANIM", bytes(6)), *[WEBP_FRAME] * 100_000), "(1, 1, 3)"),
    "webp with huge pixels": (webp((b"VP8L", b"\x2f" + struct.pack("<I", 0x0FFFFFFF) + bytes(10))), "BadMedia"),
    "gif of 10^6 frames": (gif(1, 1, 1_000_000), "(1, 1, 3)"),
    "gif with a huge canvas": (gif(65_535, 65_535, 1), f"65535 x 65535 is {OVER}"),
    "gif with a huge frame": (
        gif(1, 1, 0, b"," + bytes(4) + struct.pack("<HH", 65_535, 65_535) + b"\0\2\2\x44\1\0"),
        "damaged",
    ),
    "tiff of 2^31 x 2^31": (grey_tiff(2**31, 2**31, (273, 4, 1, b"\x08\0\0\0")), OVER),
    "tiff with a huge strip": (
        grey_tiff(10, 10, (273, 4, 1, b"\x08\0\0\0"), (278, 4, 1, b"\xff" * 4), (279, 4, 1, b"\xff" * 4)),
        "(10, 10, 3)",
    ),
    "tiff that unpacks to 100 MB": (
        tiff(
            *((tag, 4, 1, struct.pack("<I", value)) for tag, value in ((256, 10), (257, 10), (258, 8), (259, 8))),
            *((tag, 4, 1, struct.pack("<I", value)) for tag, value in ((262, 1), (273, 122), (277, 1), (278, 10))),
            (279, 4, 1, struct.pack("<I", len(ZEROS))),
            behind=ZEROS,
        ),
        "(10, 10, 3)",
    ),
    "jpeg of 65535 x 65535": (jpeg((65_535, 65_535)), f"65535 x 65535 is {OVER}"),
    "jpeg, progressive": (jpeg((65_535, 65_535), kind="progressive"), f"65535 x 65535 is {OVER}"),
    "jpeg with 30 MB of profile": (
        jpeg((8, 8), *[b"\xff\xe2\xff\xffICC_PROFILE\0\1\1" + bytes(65_519)] * 450),
        "(8, 8, 3)",
    ),
    "ppm of 60000 x 60000": (b"P6 60000 60000 255\n", f"60000 x 60000 is {OVER}"),
    "ppm without its pixels": (b"P6 7000 7000 255\n", "damaged"),
    "ppm in words": (b"P3 7000 7000 255\n" + b"1 " * 100, "damaged"),
    "ppm of 16 bits": (b"P5 7000 7000 65535\n", "damaged"),
    "ppm with a long number": (b"P6 " + b"9" * 10_000_000, "damaged"),
    "bmp of 60000 x 60000": (bmp(60_000, 60_000), f"60000 x 60000 is {OVER}"),
    "bmp without its pixels": (bmp(7000, 7000), "damaged"),
    "ico of 65535 pictures": (ico(65_535), NOT_READ),
    "fits": (b"SIMPLE  =                    T".ljust(80) + b"END".ljust(2800), NOT_READ),
    "avif of 16384 x 16384": (avif(16_384, 16_384), f"16384 x 16384 is {OVER}"),
    "avif of 60000 x 60000": (avif(60_000, 60_000), "BadMedia"),
    "zip": (zipped(), NOT_READ),
}
CLIPS: dict[str, tuple[bytes, str]] = {
    "gif of 10^6 frames": (gif(1, 1, 1_000_000), "more than 1,000 frames"),
    "gif with a huge canvas": (gif(65_535, 65_535, 1), "BadMedia"),
    "mp4 of 10^6 frames": (mp4_that_promises(1_000_000), "BadMedia"),
    "mp4 of 65535 x 65535": (changed(mp4(), b"mp4v", 24, b"\xff" * 4), "3"),  # the stream itself says 16 x 16
    "matroska of nothing": (b"\x1aE\xdf\xa3" + b"\x01" + b"\xff" * 7, "BadMedia"),
}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, float]]:
    return watched(tmp_path_factory.mktemp("pictures"), {name: data for name, (data, _) in PICTURES.items()}, "read")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, float]]:
    files = {name: data for name, (data, _) in CLIPS.items()}
    return watched(tmp_path_factory.mktemp("clips"), files, "frames", ANMOK_MAX_FRAMES="1000")


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_takes_little_memory(name: str, pictures: dict[str, tuple[str, float]]) -> None:
    outcome, extra = pictures[name]
    assert PICTURES[name][1] in outcome
    assert extra < LIMIT


@pytest.mark.parametrize("name", CLIPS)
def test_a_clip_takes_little_memory(name: str, clips: dict[str, tuple[str, float]]) -> None:
    outcome, extra = clips[name]
    assert CLIPS[name][1] in outcome
    assert extra < LIMIT


def test_without_a_limit_a_million_frames_come_one_by_one(tmp_path: Path) -> None:
    [(outcome, extra)] = watched(tmp_path, {"gif": gif(1, 1, 1_000_000)}, "frames").values()
    assert outcome == "2000"
    assert extra < LIMIT


def test_the_facts_of_a_million_frames_take_little_memory(tmp_path: Path) -> None:
    [(outcome, extra)] = watched(tmp_path, {"gif": gif(1, 1, 1_000_000)}, "probe").values()
    assert "frames=1000000" in outcome
    assert extra < LIMIT


def test_the_watcher_sees_memory(tmp_path: Path) -> None:
    """A picture that is allowed and large, so that the other numbers mean something."""
    side = 4000
    rows = zlib.compress(bytes((1 + 3 * side) * side), 9)
    data = png(side, side, chunk(b"IDAT", rows)).replace(chunk(b"IDAT", zlib.compress(bytes(4), 9)), b"")
    [(outcome, extra)] = watched(tmp_path, {"png": data}, "read").values()
    assert outcome == "(4000, 4000, 3)"
    assert extra > 3 * side * side / 1e6  # MB: the answer alone


def test_the_bomb_of_the_issue() -> None:
    data = png_of_21_kilobytes()
    assert 20_000 < len(data) < 23_000
    with pytest.raises(BadMedia, match="13300 x 13300 is over the limit of 50,000,000 pixels"):
        media.read(data)
