"""Pictures and clips of coloured squares on grey, which the fakes answer exactly; clips without loss."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image as pillow

from anmok.models.fake_places import COLOURS

Picture = NDArray[np.uint8]
Square = tuple[str, int, int]  # colour, left, top
SIDE = 10  # pixels of a square


def scene(*squares: Square, size_hw: tuple[int, int] = (48, 64), ground: str = "grey") -> Picture:
    """(H, W, 3): squares of ten pixels, the later over the earlier."""
    image = np.full((*size_hw, 3), COLOURS[ground], np.uint8)
    for colour, left, top in squares:
        image[top : top + SIDE, left : left + SIDE] = COLOURS[colour]
    return image


def square_mask(left: int, top: int, size_hw: tuple[int, int] = (48, 64)) -> NDArray[np.bool_]:
    mask = np.zeros(size_hw, np.bool_)
    mask[top : top + SIDE, left : left + SIDE] = True
    return mask


def save(path: Path, image: Picture) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pillow.fromarray(image).save(path)
    return path


def walk(count: int, step: int = 2) -> list[Picture]:
    """A red square walks right and a blue one left, there and back."""
    there = [(step * t) % 80 for t in range(count)]
    shifts = [min(one, 80 - one) for one in there]  # 0 to 40
    return [scene(("red", 4 + shift, 5), ("blue", 50 - shift, 30)) for shift in shifts]


def film(path: Path, stills: Sequence[Picture], times: Sequence[int] | None = None, broken: Sequence[int] = ()) -> Path:
    """A .mov of PNG frames, 25 a second or at ``times`` (milliseconds); those of ``broken`` cannot be decoded."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("png", rate=25)
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width = stills[0].shape[:2]
        stream.pix_fmt = "rgb24"
        stream.codec_context.time_base = Fraction(1, 1000)
        for index, image in enumerate(stills):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.time_base, frame.pts = Fraction(1, 1000), 40 * index if times is None else times[index]
            for packet in stream.encode(frame):
                out.mux(_damaged(packet) if index in broken else packet)
        out.mux(stream.encode(None))
    return path


def _damaged(packet: av.Packet[av.VideoStream]) -> av.Packet[av.VideoStream]:
    damaged: av.Packet[av.VideoStream] = av.Packet(b"no picture at all")
    damaged.stream, damaged.time_base, damaged.duration = packet.stream, packet.time_base, packet.duration
    damaged.pts, damaged.dts, damaged.is_keyframe = packet.pts, packet.dts, True
    return damaged
