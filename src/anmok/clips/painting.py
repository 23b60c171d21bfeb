"""From a decoded frame to a picture: uint8 (H, W, 3), RGB, upright, all of one size."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from anmok.errors import BadMedia
from anmok.media import Image, max_pixels

if TYPE_CHECKING:
    from av.buffer import Buffer
    from av.video.frame import VideoFrame

_HALF_TURN = 180
_RIGHT_ANGLE = 90


class Painter:
    """Turns the frames of one clip into pictures. The first frame fixes the size."""

    def __init__(self) -> None:
        from av.video.reformatter import VideoReformatter

        self._scaler = VideoReformatter()  # kept: making one for every frame costs more than the conversion
        self._size: tuple[int, int] | None = None  # width, height as stored
        self._translucent: dict[str, bool] = {}  # pixel format -> has it an alpha channel
        self._matrices: dict[int, tuple[int, int, int, int]] = {}  # rotation -> display matrix

    def picture(self, frame: VideoFrame) -> Image:
        """uint8 (H, W, 3), RGB, upright, not writeable.

        Raises:
            BadMedia: the frame alone is over the pixel limit, or libswscale cannot convert it.
        """
        from av.error import FFmpegError

        if frame.width * frame.height > max_pixels():
            raise BadMedia(f"{frame.width} x {frame.height} is over the limit of {max_pixels():,} pixels")
        self._size = self._size or (frame.width, frame.height)
        form = "rgba" if self._has_alpha(frame) else "rgb24"
        try:
            converted = self._scaler.reformat(frame, width=self._size[0], height=self._size[1], format=form)
            pixels = unpacked(converted, len(form.removesuffix("24")))  # (h, w, 3 | 4), as stored
        except (FFmpegError, ValueError) as error:
            raise BadMedia(f"pixels of kind {frame.format.name} cannot be converted ({error})") from None
        if form == "rgba":
            pixels = over_white(pixels)  # (h, w, 3)
        image = np.ascontiguousarray(turned(pixels, self._matrix(frame)))  # (H, W, 3)
        image.setflags(write=False)
        return image

    def _matrix(self, frame: VideoFrame) -> tuple[int, int, int, int]:
        # Looking at the side data ties a frame into a cycle that lives on until the garbage collector comes by,
        # with all its pixels. The number of degrees alone does not; mirrored or not, a stream stays as it began.
        if frame.rotation not in self._matrices:
            self._matrices[frame.rotation] = display_matrix(frame)
        return self._matrices[frame.rotation]

    def _has_alpha(self, frame: VideoFrame) -> bool:
        name = frame.format.name
        if name not in self._translucent:
            parts = frame.format.components
            self._translucent[name] = frame.format.has_palette or any(part.is_alpha for part in parts)
        return self._translucent[name]


def unpacked(frame: VideoFrame, channels: int) -> NDArray[np.uint8]:
    """A packed frame as uint8 (h, w, channels): a view that keeps the frame alive, a copy where rows are padded."""
    plane = frame.planes[0]
    rows = np.frombuffer(memoryview(plane), dtype=np.uint8).reshape(frame.height, plane.line_size)
    return rows[:, : frame.width * channels].reshape(frame.height, frame.width, channels)


def over_white(pixels: NDArray[np.uint8]) -> Image:
    """uint8 (H, W, 4) over white: uint8 (H, W, 3), rounded to nearest."""
    alpha = pixels[..., 3:].astype(np.uint16)  # (H, W, 1)
    mixed = pixels[..., :3] * alpha + 255 * (255 - alpha)  # at most 255 * 255, fits 16 bits
    return ((mixed + 127) // 255).astype(np.uint8)


def display_matrix(frame: VideoFrame) -> tuple[int, int, int, int]:
    """(a, b, c, d) of the frame: a stored place (x, y) is shown at (a x + c y, b x + d y), in 16.16 fixed point."""
    found = frame.side_data.get("DISPLAYMATRIX") if len(frame.side_data) else None
    if found is None:
        return 1, 0, 0, 1
    numbers = np.frombuffer(bytes(cast("Buffer", found)), dtype=np.int32)  # (9,), native byte order
    a, b, c, d = (int(numbers[place]) for place in (0, 1, 3, 4))
    return a, b, c, d


def turned(pixels: NDArray[np.uint8], matrix: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    """The stored picture (h, w, ...) as it is to be shown: one of the eight ways to lay a rectangle down."""
    a, b, c, d = matrix
    if abs(b) + abs(c) > abs(a) + abs(d):
        pixels, a, d = np.swapaxes(pixels, 0, 1), c, b  # (w, h, ...)
    return pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]


def quarter_turns(matrix: tuple[int, int, int, int]) -> int:
    """By how many degrees the stored picture is turned clockwise to stand upright: 0, 90, 180 or 270.

    Of a mirrored picture it is the turn that comes after mirroring left to right.
    """
    a, b, c, d = matrix
    if a * d - b * c < 0:
        a, b = -a, -b
    if abs(b) + abs(c) > abs(a) + abs(d):
        return _RIGHT_ANGLE if b > 0 else _HALF_TURN + _RIGHT_ANGLE
    return 0 if a > 0 else _HALF_TURN
