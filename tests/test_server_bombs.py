"""Small files that would be large, and JSON of millions of values: refused before they take memory."""

from __future__ import annotations

import base64
import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bomb_files import chunk, grey_tiff, jpeg, png, png_of_21_kilobytes, webp
from served_apart import VECTORS, serving
from serving import RED_BOX, Reply, ask, until_ready

LONG = zlib.compress(bytes(100 * 2**20), 9)


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", bytes(50_000_000))
    return file.getvalue()


BOMBS = {
    "png of 177 Mpx in 21 kB": png_of_21_kilobytes(),
    "png just over the limit": png(50_000, 1_001, depth=1, colours=0, pixels=bytes((1 + 50_000 // 8) * 1_001)),
    "png with 100 MB of text": png(1, 1, chunk(b"zTXt", b"a\0\0" + LONG)),
    "png with 100 MB of profile": png(1, 1, chunk(b"iCCP", b"a\0\0" + LONG)),
    "jpeg of 4 Gpx": jpeg((65_500, 65_500)),
    "tiff of 10 Gpx": grey_tiff(100_000, 100_000),
    "zip in webp": webp((b"VP8 ", zipped())),
}


def gif(frames: int) -> bytes:
    """Frames of one pixel, 15 bytes each."""
    head = b"GIF89a" + struct.pack("<HH", 1, 1) + b"\x80\0\0\0\0\0\xff\xff\xff"
    return head + (b"\x2c\0\0\0\0\1\0\1\0\0\x02\x02\x44\x01\0") * frames + b"\x3b"


@pytest.fixture(scope="module")
def apart() -> Iterator[tuple[int, int]]:
    """A server in a process of its own, which is warm: its id and its port."""
    with serving("fake", "fake-places") as (process, port):
        until_ready(port)
        for path in (VECTORS, "/models/fake-places/depth-estimation"):
            ask(port, "POST", path, RED_BOX)
        yield process.pid, port


def memory(pid: int) -> int:
    """The most bytes that the process has ever held."""
    [line] = [one for one in Path(f"/proc/{pid}/status").read_text().splitlines() if one.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


def requests_with(bomb: bytes) -> list[tuple[str, Any, str]]:
    code = base64.b64encode(bomb).decode()
    tensor = {"name": "image", "shape": [1], "datatype": "BYTES", "data": [code]}
    config = '<View><Image name="i" value="$i"/><RectangleLabels name="l" toName="i"><Label value="red"/></RectangleLabels></View>'  # noqa: E501
    task = {"id": 1, "data": {"i": f"data:image/png;base64,{code}"}}
    part = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{code}"}}
    head = b'--e\r\nContent-Disposition: form-data; name="image"\r\n\r\n'
    return [
        (VECTORS, bomb, "application/octet-stream"),
        ("/models/fake-places/depth-estimation", {"inputs": code}, "application/json"),
        ("/run/embed", {"model": "fake", "items": [code]}, "application/json"),
        (
            "/run/track",
            {"ask": {"labels": ["red"]}, "model": "fake-places", "items": [{"clip": code}]},
            "application/json",
        ),
        ("/run/embed", head + bomb + b"\r\n--e--\r\n", "multipart/form-data; boundary=e"),
        ("/v1/embeddings", {"model": "fake", "input": [f"data:image/png;base64,{code}"]}, "application/json"),
        ("/v1/embeddings", {"model": "fake", "messages": [{"role": "user", "content": [part]}]}, "application/json"),
        ("/v2/models/fake/infer", {"inputs": [tensor], "parameters": {"task": "embed"}}, "application/json"),
        ("/label-studio/fake-places/predict", {"tasks": [task], "label_config": config}, "application/json"),
    ]


def is_refused(reply: Reply) -> bool:
    """By its status, or in the place of its answer where a dialect has one for each picture."""
    if reply.status in (413, 422):
        return True
    rows = reply.json.get("answers", reply.json.get("results", [])) if reply.status == 200 else []
    return bool(rows) and not any(row.get("vector") or row.get("frames") or row.get("result") for row in rows)


def test_bombs_are_refused_by_every_dialect_and_take_no_memory(apart: tuple[int, int]) -> None:
    pid, port = apart
    before = memory(pid)
    let_in = []
    for name, bomb in BOMBS.items():
        for path, body, kind in requests_with(bomb):
            reply = ask(port, "POST", path, body, content_type=kind)
            if not is_refused(reply):
                let_in.append((name, path, reply.status, reply.body[:200]))
    assert let_in == []
    assert memory(pid) - before < 100_000_000


def test_a_picture_of_a_million_frames_is_one_picture(apart: tuple[int, int]) -> None:
    pid, port = apart
    before = memory(pid)
    assert ask(port, "POST", VECTORS, gif(1_000_000)).status == 200
    assert memory(pid) - before < 100_000_000


@pytest.mark.parametrize("piece", [b"[],", b"{},", b'"ab",', b"0,", b"[["])
def test_json_of_millions_of_values_is_refused_before_it_is_read(apart: tuple[int, int], piece: bytes) -> None:
    """20 MB of ``[],`` would be 450 MB of lists, and take seconds."""
    pid, port = apart
    before = memory(pid)
    body = b'{"items":[' + piece * (20_000_000 // len(piece))
    for path in ("/run/embed", "/v1/embeddings", "/v2/models/fake/infer", "/predict", "/models/fake"):
        reply = ask(port, "POST", path, body, content_type="application/json")
        assert reply.status == 413, (path, reply.body[:200])
    assert memory(pid) - before < 100_000_000
