"""Clips whose frames are numbered by their colour, in every kind of file, whole and damaged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from anmok.errors import BadMedia

STEP, ROUND = 12, 20  # one number is 12 grey levels: over four times what 4:2:0 and the codecs are off by
TICK = 1e-9  # seconds; frame times are ratios of whole numbers and come out as nearly exact floats
MILLISECOND = 1.001e-3  # Matroska stores whole milliseconds
FINE = (("qmin", "1"), ("qmax", "2"))  # or flat colours drift by more than half a step


def coloured(number: int, height: int = 64, width: int = 64) -> NDArray[np.uint8]:
    """A flat picture whose red and green say its number, below 400."""
    image = np.full((height, width, 3), 128, np.uint8)
    image[..., 0], image[..., 1] = (number % ROUND) * STEP, (number // ROUND) * STEP
    return image


def number(image: NDArray[np.uint8]) -> int:
    red, green = (round(float(image[..., channel].mean()) / STEP) for channel in (0, 1))
    return green * ROUND + red


@dataclass(frozen=True)
class Film:
    """How a test clip is made."""

    codec: str = "libx264"
    pixels: str = "yuv420p"
    rate: Fraction = Fraction(30)
    options: tuple[tuple[str, str], ...] = (("g", "10"), ("bf", "2"))
    rotation: tuple[float, bool, bool] | None = None
    times: tuple[int, ...] | None = None  # thousandths of a second
    container: tuple[tuple[str, str], ...] = ()


def film(path: Path, images: Sequence[NDArray[np.uint8]], how: Film = Film(), form: str = "rgb24") -> Path:
    with av.open(str(path), "w", options=dict(how.container)) as out:
        stream = out.add_stream(how.codec, rate=how.rate, options=dict(how.options))
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = how.pixels
        if how.times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        if how.rotation is not None:
            stream.set_display_rotation(*how.rotation)
        for index, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format=form)
            frame.pts = index
            if how.times is not None:
                frame.pts, frame.time_base = how.times[index], Fraction(1, 1000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def numbered(path: Path, count: int = 30, how: Film = Film()) -> Path:
    images = [coloured(index) for index in range(count)]
    if path.suffix == ".mpg":  # has one timestamp for each 2 kB, so that frames of its own size need more to show
        for index, image in enumerate(images):
            image[..., 2] = np.random.default_rng(index).integers(0, 256, image.shape[:2])
    return film(path, images, how)


def remade(source: Path, target: Path, which: Sequence[int], change: Callable[[bytes], bytes]) -> Path:
    """The clip again, with the packets of the frames of these numbers changed."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = old.streams.video[0]
        copy = new.add_stream_from_template(stream)
        for packet in old.demux(stream):
            if packet.dts is None:
                continue
            assert packet.pts is not None
            if round(packet.pts * packet.time_base * 30) in which:
                other: av.Packet[Any] = av.Packet(change(bytes(packet)))
                other.pts, other.dts, other.duration = packet.pts, packet.dts, packet.duration
                other.time_base, other.is_keyframe = packet.time_base, packet.is_keyframe
                packet = other
            packet.stream = copy
            new.mux(packet)
    return target


def damaged(source: Path, target: Path, which: Sequence[int]) -> Path:
    """Noise in place of these frames."""
    return remade(source, target, which, lambda data: np.random.default_rng(len(data)).bytes(len(data)))


def never(index: int, error: BadMedia) -> None:
    raise AssertionError(f"frame {index} of a sound clip: {error}")


KINDS: dict[str, tuple[Film, float]] = {
    "a.mp4": (Film(), TICK),
    "a.mov": (Film("mpeg4", options=FINE), TICK),
    "a.mkv": (Film(), MILLISECOND),
    "a.webm": (Film("libvpx-vp9", options=(("cpu-used", "8"), ("deadline", "realtime"))), MILLISECOND),
    "a8.webm": (
        Film(
            "libvpx",
            options=(("cpu-used", "8"), ("crf", "4"), ("b", "2M"), ("auto-alt-ref", "1"), ("lag-in-frames", "9")),
        ),
        MILLISECOND,
    ),
    "a.avi": (Film("mpeg4", options=FINE), TICK),
    "a.ts": (Film(), TICK),
    "a.mpg": (Film("mpeg2video", options=(*FINE, ("bf", "2"), ("g", "10"))), TICK),
}

SHELF = list(KINDS)

CORNERS = ((250, 20, 20), (20, 250, 20), (20, 20, 250), (250, 250, 250))


def cornered(height: int, width: int) -> NDArray[np.uint8]:
    """Red, green, blue and white from the top left, row by row."""
    image = np.zeros((height, width, 3), np.uint8)
    image[: height // 2, : width // 2], image[: height // 2, width // 2 :] = CORNERS[:2]
    image[height // 2 :, : width // 2], image[height // 2 :, width // 2 :] = CORNERS[2:]
    return image
