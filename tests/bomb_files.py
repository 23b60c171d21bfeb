"""Small files that would be large in memory, and a watcher that says how much memory reading them took.

The watcher is this file run as a program: it reads each file in a process of its own, forked from one that has
everything imported, so that the peak is that of this one reading.
"""

from __future__ import annotations

import io
import itertools
import json
import os
import resource
import signal
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

MB = 1_000_000
LONG = 0xFFFFFFFF
_PATIENCE = 120  # seconds for one file, on whatever machine; the slowest takes one


# --- pictures ------------------------------------------------------------------------------------------------


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, *between: bytes, depth: int = 8, colours: int = 2, pixels: bytes = bytes(4)) -> bytes:
    """Chunks ``between`` header and pixels. The four bytes are the whole of a picture of one RGB pixel."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, 0))
    tail = chunk(b"IDAT", zlib.compress(pixels, 9)) + chunk(b"IEND", b"")
    return b"".join([b"\x89PNG\r\n\x1a\n", header, *between, tail])


def repeated(row: bytes, times: int) -> bytes:
    """So many rows, without having them all."""
    packer = zlib.compressobj(9)
    return b"".join([*(packer.compress(row) for _ in range(times)), packer.flush()])


def png_of_21_kilobytes() -> bytes:
    """The one of the issue: 13,300 x 13,300 pixels of one bit."""
    side = 13_300
    whole = chunk(b"IDAT", repeated(bytes(1 + (side + 7) // 8), side))
    return png(side, side, whole, depth=1, colours=0).replace(chunk(b"IDAT", zlib.compress(bytes(4), 9)), b"")


def webp(*chunks: tuple[bytes, bytes], declared: int | None = None) -> bytes:
    body = b"".join(kind + struct.pack("<I", len(one)) + one + bytes(len(one) % 2) for kind, one in chunks)
    return b"RIFF" + struct.pack("<I", 4 + len(body) if declared is None else declared) + b"WEBP" + body


def canvas(width: int, height: int, flags: int = 0) -> tuple[bytes, bytes]:
    sides = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    return b"VP8X", bytes([flags, 0, 0, 0]) + sides


# One transparent pixel, as libwebp writes it; and the same as a frame of an animation.
WEBP_PIXEL = (b"VP8L", bytes.fromhex("2f00000010071011118888fe07"))
WEBP_FRAME = (b"ANMF", bytes(16) + b"VP8L" + struct.pack("<I", 13) + WEBP_PIXEL[1] + b"\0")
ANIMATED = 2


def gif(width: int, height: int, frames: int, *before: bytes) -> bytes:
    """Every frame is one pixel, 10 ms long."""
    head = b"GIF89a" + struct.pack("<HH", width, height) + b"\x80\0\0" + bytes(3) + b"\xff\xff\xff"
    frame = b"!\xf9\4\0\1\0\0\0" + b"," + bytes(4) + struct.pack("<HH", 1, 1) + b"\0" + b"\2\2\x44\1\0"
    return b"".join([head, *before, frame * frames, b";"])


def tiff(*tags: tuple[int, int, int, bytes], behind: bytes = b"") -> bytes:
    """Tags as (tag, kind, count, bytes), with little end first; ``behind`` comes after them."""
    place = 8 + 2 + 12 * len(tags) + 4
    entries, data = b"", b""
    for tag, kind, count, value in tags:
        is_long = len(value) > 4
        held = struct.pack("<I", place + len(data)) if is_long else value.ljust(4, b"\0")
        entries += struct.pack("<HHI", tag, kind, count) + held
        data += value if is_long else b""
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + data + behind


def grey_tiff(width: int, height: int, *tags: tuple[int, int, int, bytes], packing: int = 1) -> bytes:
    one = [(256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, packing), (262, 3, 1), (277, 3, 1)]
    whole = [(tag, kind, 1, struct.pack("<I", value)) for tag, kind, value in one]
    return tiff(*sorted([*whole, *tags]), behind=bytes(100))


def jpeg(size: tuple[int, int] = (8, 8), *before: bytes, kind: str = "baseline") -> bytes:
    """A sound picture of 8 x 8 with another size in its frame header, and segments ``before`` its own."""
    from PIL import Image as pillow

    stream = io.BytesIO()
    pillow.new("RGB", (8, 8)).save(stream, "JPEG", progressive=kind == "progressive")
    data = bytearray(stream.getvalue())
    frame = data.index(b"\xff\xc2" if kind == "progressive" else b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", *size)
    return b"".join([data[:2], *before, data[2:]])


def bmp(width: int, height: int) -> bytes:
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, *[0] * 6)


def ico(pictures: int) -> bytes:
    return b"\0\0\1\0" + struct.pack("<H", pictures) + struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, 100, 22) * pictures


def avif(width: int, height: int) -> bytes:
    from PIL import Image as pillow

    stream = io.BytesIO()
    pillow.new("RGB", (64, 64)).save(stream, "AVIF")
    data = bytearray(stream.getvalue())
    place = data.index(b"ispe") + 8
    data[place : place + 8] = struct.pack(">II", width, height)
    return bytes(data)


# --- clips ---------------------------------------------------------------------------------------------------


def mp4(*, is_fragmented: bool = False) -> bytes:
    """Three frames of 16 x 16, as libav writes them."""
    import av
    import numpy as np
    from av.video.stream import VideoStream

    stream = io.BytesIO()
    options = {"movflags": "frag_keyframe+empty_moov+default_base_moof"} if is_fragmented else {}
    with av.open(stream, "w", format="mp4", options=options) as container:
        video = container.add_stream("mpeg4", rate=25)
        assert isinstance(video, VideoStream)
        video.width, video.height, video.pix_fmt = 16, 16, "yuv420p"
        for _ in range(3):
            container.mux(video.encode(av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")))
        container.mux(video.encode(None))
    return stream.getvalue()


def changed(data: bytes, box: bytes, place: int, value: bytes) -> bytes:
    """The clip with other bytes at a place in the first box of that name."""
    start = data.index(box) + 4 + place
    return data[:start] + value + data[start + len(value) :]


def mp4_that_promises(samples: int) -> bytes:
    """A file of 1 kB whose tables, without an entry of their own for each, speak of so many frames."""
    data = changed(mp4(), b"stsz", 4, struct.pack(">II", 1, samples))
    data = changed(data, b"stsc", 12, struct.pack(">I", samples))
    return changed(data, b"stts", 8, struct.pack(">I", samples))


def fragment_that_promises(samples: int) -> bytes:
    def box(kind: bytes, *parts: bytes) -> bytes:
        return struct.pack(">I", 8 + sum(map(len, parts))) + kind + b"".join(parts)

    run = box(b"trun", struct.pack(">III", 1, samples, 0))
    head = box(b"tfhd", struct.pack(">IIIII", 0x020038, 1, 512, 1, 0x02000000))
    data = mp4(is_fragmented=True)
    return data[: data.index(b"moof") - 4] + box(b"moof", box(b"mfhd", bytes(8)), box(b"traf", head, run))


# --- the watcher ---------------------------------------------------------------------------------------------


def watched(folder: Path, files: dict[str, bytes], how: str, **environment: str) -> dict[str, tuple[str, float]]:
    """What came of reading each file, and the megabytes that it took beside the file itself.

    ``how``: "read" for ``media.read``, "facts" for ``media.decode_with_facts``, "probe" for ``clips.probe``, or
    "frames" for the first 2,000 of ``clips.frames``.
    """
    for name, data in files.items():
        (folder / name).write_bytes(data)
    done = subprocess.run(
        [sys.executable, __file__, how, *(str(folder / name) for name in files)],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
        env={**os.environ, **environment},
    )
    return {name: (outcome, extra) for name, outcome, extra in map(json.loads, done.stdout.splitlines())}


def _readers() -> dict[str, Callable[[bytes], object]]:
    import av  # noqa: F401

    from anmok import clips, media

    media.read(png(1, 1))  # Pillow finds its plug-ins, once
    return {
        "read": lambda data: media.read(data).shape,
        "facts": lambda data: media.decode_with_facts(data, "it")[0].shape,
        "probe": clips.probe,
        "frames": lambda data: sum(1 for _ in itertools.islice(clips.frames(data), 2000)),
    }


def _watch(reader: Callable[[bytes], object], path: Path) -> None:
    from anmok.errors import AnmokError

    child = os.fork()
    if child:
        if os.waitpid(child, 0)[1]:
            raise RuntimeError(f"{path.name}: the reader died")
        return
    signal.alarm(_PATIENCE)
    data = path.read_bytes()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        outcome = str(reader(data))
    except AnmokError as error:
        outcome = f"{type(error).__name__}: {error}"
    extra = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / MB  # the kernel counts in KiB
    print(json.dumps([path.name, outcome, extra]), flush=True)
    os._exit(0)


if __name__ == "__main__":
    chosen = _readers()[sys.argv[1]]
    for one in sys.argv[2:]:
        _watch(chosen, Path(one))
