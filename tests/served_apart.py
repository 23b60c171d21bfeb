"""A server in a process of its own, and what became of a request to it."""

from __future__ import annotations

import contextlib
import io
import struct
import subprocess
import threading
import time
import zipfile
import zlib
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException
from typing import Any

import numpy as np
import pytest
from PIL import Image as pillow

from serving import RED_BOX, Running, program, running

VECTORS = "/models/fake/image-feature-extraction"
MIB = 2**20


@pytest.fixture(name="server", scope="module")
def server_fixture() -> Iterator[Running]:
    with running() as found:
        yield found


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *more: bytes) -> bytes:
    """Black and white, one bit per pixel, without ever being in memory."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    pixels = zlib.compress(bytes((1 + (width + 7) // 8) * height), 9)
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(more) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def jpeg_said_to_be(width: int, height: int) -> bytes:
    """A small file with another size in its header."""
    file = io.BytesIO()
    pillow.new("L", (8, 8)).save(file, "JPEG")
    data = bytearray(file.getvalue())
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def zip_in_webp() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", bytes(50_000_000))
    data = file.getvalue()
    return b"RIFF" + struct.pack("<I", len(data) + 12) + b"WEBPVP8 " + struct.pack("<I", len(data)) + data


def tiff_said_to_be(width: int, height: int) -> bytes:
    file = io.BytesIO()
    pillow.fromarray(np.zeros((9, 9), np.uint8)).save(file, "TIFF")
    data = file.getvalue()
    for tag, value in ((256, width), (257, height)):
        at = data.index(struct.pack("<H", tag), 8)
        data = data[: at + 2] + struct.pack("<HII", 4, 1, value) + data[at + 12 :]
    return data


@contextlib.contextmanager
def serving(*words: str, **environment: Any) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """``program``, listening, whose log is read: a pipe that nobody empties stops whoever writes into it."""
    with program(*words, **environment) as (process, port):
        lines = process.stderr
        assert lines is not None
        threading.Thread(target=lambda: [*lines], daemon=True).start()
        until = time.monotonic() + 10
        while outcome(port, "GET", "/livez") == "refused":  # it has an address before it listens there
            assert time.monotonic() < until
            time.sleep(0.02)
        yield process, port


BOMBS = {
    "png of 177 Mpx in 21 kB": png(13_300, 13_300),
    "png just over the limit": png(50_000, 1_001),
    "png with 100 MB of text": png(9, 9, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(100 * MIB), 9))),
    "png with 100 MB of profile": png(9, 9, chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(100 * MIB), 9))),
    "jpeg of 4 Gpx": jpeg_said_to_be(65_500, 65_500),
    "tiff of 10 Gpx": tiff_said_to_be(100_000, 100_000),
    "zip in webp": zip_in_webp(),
}


def outcome(port: int, method: str = "POST", path: str = VECTORS) -> str:
    """A status; ``refused`` where no byte of an answer came, ``cut`` where some did."""
    line = HTTPConnection("127.0.0.1", port, timeout=30)
    answer = None
    try:
        line.request(method, path, RED_BOX if method == "POST" else None, {"connection": "close"})
        answer = line.getresponse()
        answer.read()
    except (OSError, HTTPException):
        return "refused" if answer is None else "cut"
    finally:
        line.close()
    return str(answer.status)
