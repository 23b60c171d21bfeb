"""Files that are large beside their pixels: what Pillow and libav would keep of them is counted before they see it."""

from __future__ import annotations

import io
import itertools
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as pillow

from anmok import clips, media
from anmok.errors import BadMedia
from bomb_files import (
    ANIMATED,
    WEBP_FRAME,
    WEBP_PIXEL,
    canvas,
    changed,
    chunk,
    fragment_that_promises,
    gif,
    grey_tiff,
    jpeg,
    mp4,
    mp4_that_promises,
    png,
    tiff,
    watched,
    webp,
)

LIMIT = 100.0  # MB, of issue 4
PARTS = "too many or too large parts beside its pixels"
TURNED = (0x0112, 3, 1, b"\6\0")


def numbers(count: int) -> bytes:
    """So many 16-bit numbers that Python has no ready objects for."""
    return b"\xff\x7f" * count


def segments_of_exif(exif: bytes) -> list[bytes]:
    return [
        b"\xff\xe1" + struct.pack(">H", 8 + len(part)) + b"Exif\0\0" + part
        for part in (exif[place : place + 65_000] for place in range(0, len(exif), 65_000))
    ]


EXIF = tiff(TURNED, (0x9999, 3, 7_000_000, numbers(7_000_000)))
# Without the counting, the megabytes that each took beside the file are behind it.
PICTURES: dict[str, bytes] = {
    "png, empty chunks": png(1, 1, chunk(b"prVt", b"") * 2_500_000),  # 305
    "png, empty chunks behind": png(1, 1)[:-12] + chunk(b"prVt", b"") * 2_500_000 + chunk(b"IEND", b""),  # 305
    "png, texts": png(1, 1, *(chunk(b"tEXt", b"%x\0" % number) for number in range(500_000))),  # 81
    "png, long text": png(1, 1, chunk(b"iTXt", b"a\0\0\0\0\0" + b"x" * 30_000_000)),  # 150
    "png, exif": png(1, 1, chunk(b"eXIf", EXIF)),  # 1,490
    "png, orientation": png(1, 1, chunk(b"eXIf", tiff((0x0112, 3, 15_000_000, numbers(15_000_000))))),  # 850
    "webp, frames": webp(canvas(1, 1, ANIMATED), (b"ANIM", bytes(6)), *[WEBP_FRAME] * 600_000),  # 88
    "webp, exif": webp(canvas(1, 1, 8), WEBP_PIXEL, (b"EXIF", EXIF)),  # 1,490
    "jpeg, segments": jpeg((8, 8), b"\xff\xe5\0\2" * 7_500_000),  # 1,030
    "jpeg, comments": jpeg((8, 8), b"\xff\xfe\0\2" * 7_500_000),  # 546
    "jpeg, fill bytes": jpeg((8, 8), b"\xff\xff\xff\xe5\0\2" * 5_000_000),  # 687
    "jpeg, junk between": jpeg((8, 8), b"\xff\xe5\0\2\0" * 6_000_000),  # 823
    "jpeg, restarts": jpeg((8, 8), b"\xff\xe5\0\2" + b"\xff\xd0" * 20 + b"\xff\xe5\0\2" * 7_000_000),  # 960
    "jpeg, frame headers": jpeg(
        (8, 8), *[b"\xff\xc0" + struct.pack(">HBHHB", 63_008, 8, 8, 8, 3) + b"\1\x22\0" * 21_000] * 450
    ),  # 838
    "jpeg, exif": jpeg((8, 8), *segments_of_exif(EXIF)),  # 1,490
    "gif, comments": gif(1, 1, 1, b"!\xfe\1a\0" * 500_000),  # few, and time that grows with the square
    "gif, one long comment": gif(1, 1, 1, b"!\xfe" + (b"\xff" + b"a" * 255) * 100_000 + b"\0"),  # over five minutes
    "tiff, strips": grey_tiff(
        1, 7_000_000, (273, 3, 7_000_000, b"\x08\0" * 7_000_000), (278, 3, 1, b"\1\0"), (279, 3, 1, b"\1\0")
    ),  # 2,310
    "tiff, strips as bytes": grey_tiff(
        1, 7_000_000, (273, 1, 7_000_000, b"\x08" * 7_000_000), (278, 3, 1, b"\1\0"), (279, 3, 1, b"\1\0")
    ),  # 2,216
    "tiff, tiles": grey_tiff(
        7000,
        7000,
        *((322, 3, 1, b"\1\0"), (323, 3, 1, b"\1\0"), (325, 3, 1, b"\1\0")),
        (324, 3, 5_000_000, b"\x08\0" * 5_000_000),
    ),  # 1,690
    "tiff, packed strips": grey_tiff(
        1,
        7_000_000,
        *((273, 3, 7_000_000, b"\x08\0" * 7_000_000), (279, 3, 7_000_000, b"\1\0" * 7_000_000), (278, 3, 1, b"\1\0")),
        packing=8,
    ),  # 254
    "tiff, numbers": grey_tiff(
        10, 10, (273, 4, 1, b"\x08\0\0\0"), TURNED, (0x9999, 3, 7_000_000, numbers(7_000_000))
    ),  # 45
}


def nested_tiff(*pointers: int) -> bytes:
    """Seven million numbers among the EXIF tags; ``pointers`` lead to them, after one that leads out of the file."""
    tags = [(256, 4, 10), (257, 4, 10), (258, 3, 8), (262, 3, 1), (273, 4, 8), (278, 4, 10), (279, 4, 100)]
    place = 8 + 2 + 12 * (len(tags) + 1 + len(pointers)) + 4
    entries = [*tags, (34_665, 4, 2**31), *((pointer, 4, place) for pointer in pointers)]
    deeper = struct.pack("<HHHIII", 1, 0x9999, 3, 7_000_000, place + 18, 0)
    values = [(tag, kind, 1, struct.pack("<I", value)) for tag, kind, value in entries]
    return tiff(*values, behind=deeper + numbers(7_000_000))


PICTURES |= {f"tiff, numbers behind {tag}": nested_tiff(tag) for tag in (34_665, 34_853)}  # 361
CLIPS: dict[str, bytes] = {
    "table": mp4_that_promises(50_000_000),  # 3,640
    "small fields": changed(mp4_that_promises(50_000_000), b"stsz", -4, b"stz2"),
    "fragment": fragment_that_promises(50_000_000),  # 1,845
    "in a box of free space": mp4().replace(b"moov", b"free") + mp4_that_promises(50_000_000)[28:],
    "behind an odd box": struct.pack(">I", 12) + bytes(8) + mp4_that_promises(50_000_000),
    "hidden by an overlap": mp4() + struct.pack(">I", 40) + b"wide" + bytes(4) + b"stsz" + mp4_that_promises(5 * 10**7),
    "compressed": mp4() + struct.pack(">I", 28) + b"moov" + struct.pack(">I", 20) + b"cmov\0\0\0\x0cdcomzlib",
}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, float]]:
    return watched(tmp_path_factory.mktemp("pictures"), PICTURES, "facts")


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, float]]:
    return watched(tmp_path_factory.mktemp("clips"), CLIPS, "frames")


@pytest.mark.parametrize("name", PICTURES)
def test_what_is_beside_the_pixels_takes_little_memory(name: str, pictures: dict[str, tuple[str, float]]) -> None:
    outcome, extra = pictures[name]
    assert PARTS in outcome or "bytes of EXIF" in outcome
    assert extra < LIMIT


@pytest.mark.parametrize("name", CLIPS)
def test_what_tables_promise_takes_no_memory(name: str, tables: dict[str, tuple[str, float]]) -> None:
    outcome, extra = tables[name]
    assert "its tables promise" in outcome or "its tables are compressed" in outcome
    assert extra < LIMIT


# --- and nothing that people have is refused -----------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        png(1, 1) + bytes(50_000_000),  # behind the end
        png(1, 1) + b"\xff" * 1000,
        png(1, 1, *[chunk(b"tEXt", b"Comment\0" + b"a" * 1000)] * 1000),
        png(1, 1, chunk(b"caBX", bytes(20_000_000))),  # signed provenance
        webp(WEBP_PIXEL) + b"\xff" * 40_000_000,
        webp(canvas(1, 1, ANIMATED), (b"ANIM", bytes(6)), *[WEBP_FRAME] * 20_000),
        gif(1, 1, 100_000, b"!\xff\x0bNETSCAPE2.0\3\1\0\0\0"),
        gif(1, 1, 1, b"!\xff\x0bXMP DataXMP" + b"\x40" * 65 * 2000 + b"\0"),
        gif(1, 1, 1, b"!\xfe" + (b"\xff" + b"a" * 255) * 1000 + b"\0"),
        jpeg((8, 8), *[b"\xff\xe2\xff\xffICC_PROFILE\0\1\1" + bytes(65_519)] * 100),
        jpeg((8, 8), *[b"\xff\xed\xff\xff" + bytes(65_533)] * 100, *segments_of_exif(tiff(TURNED))),
        jpeg((8, 8)) + bytes(40_000_000),  # a motion photo
        jpeg((8, 8)) + b"\xff\xc0\0\x40" * 5_000_000,
    ],
    ids=range(13),
)
def test_what_people_have_is_read(data: bytes) -> None:
    assert media.read(data).shape[2] == 3


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("is_big", [False, True])
def test_a_scan_of_twenty_thousand_strips_is_read(order: str, is_big: bool) -> None:
    stream = io.BytesIO()
    image = np.arange(20_000 * 2, dtype=np.uint8).reshape(20_000, 2)
    options = {"big_tiff": is_big, "tiffinfo": {278: 1}, "byteorder": order}
    pillow.fromarray(image).save(stream, "TIFF", **options)
    assert (media.read(stream.getvalue())[:, :, 0] == image).all()


def test_an_orientation_that_is_no_number_turns_nothing() -> None:
    for kind, value in ((2, b"6\0"), (3, numbers(1)), (5, struct.pack("<II", 6, 1)), (7, b"\6")):
        data = jpeg((8, 8), *segments_of_exif(tiff((0x0112, kind, 1, value))))
        assert media.read(data).shape == (8, 8, 3)


SMALL = [jpeg((8, 8)), png(1, 1), gif(1, 1, 1), webp(WEBP_PIXEL), grey_tiff(1, 1, (273, 4, 1, bytes(4)))]


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # what Pillow thinks of tags that are not there
@pytest.mark.parametrize("data", SMALL, ids=range(len(SMALL)))
def test_a_header_cut_anywhere_is_damaged_or_read_and_nothing_worse(data: bytes) -> None:
    for end in range(1, len(data), 3):
        outcome = outcome_of(partial(media.read, data[:end]))
        assert PARTS not in outcome
        assert "damaged" in outcome or "not an image" in outcome or outcome.startswith("[")  # the pixels


def test_uncompressed_sound_of_a_camera_is_no_promise(tmp_path: Path) -> None:
    """One entry per sample of sound, 2.4 million in 5 MB; libav keeps one for each chunk."""
    import av
    from av.audio.stream import AudioStream
    from av.video.stream import VideoStream

    path = tmp_path / "camera.mov"
    with av.open(path, "w", format="mov") as container:
        video, sound = container.add_stream("mpeg4", rate=25), container.add_stream("pcm_s16le", rate=48_000)
        assert isinstance(video, VideoStream)
        assert isinstance(sound, AudioStream)
        video.width, video.height, video.pix_fmt, sound.layout = 16, 16, "yuv420p", "mono"
        container.mux(video.encode(av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")))
        container.mux(video.encode(None))
        for second in range(50):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 48_000), np.int16), format="s16", layout="mono")
            frame.rate, frame.pts = 48_000, second * 48_000
            container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    data = path.read_bytes()
    assert struct.pack(">I", 50 * 48_000) in data  # the table's count
    assert len(list(clips.frames(path))) == 1
    # The same table without the words that say what it is of counts in full.
    with pytest.raises(BadMedia, match="its tables promise 2,4"):
        list(clips.frames(data.replace(b"sowt", b"sowx")))


def test_many_frames_in_a_large_file_are_let_in() -> None:
    data = mp4_that_promises(1_200_000)
    assert f"{len(data)} bytes, and its tables promise 1,200,000" in outcome_of(lambda: list(clips.frames(data)))
    padded = data + struct.pack(">I", 80_000_008) + b"mdat" + bytes(80_000_000)
    assert "promise" not in outcome_of(lambda: list(itertools.islice(clips.frames(padded), 3)))


def outcome_of(reading: Callable[[], object]) -> str:
    try:
        return str(reading())
    except BadMedia as error:
        return str(error)
