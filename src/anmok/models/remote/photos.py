"""Pictures as they travel: small enough, made anew of their pixels, and as text inside of JSON."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image as pillow

from anmok import geometry
from anmok.errors import TooMuch
from anmok.geometry import Frame, Pixels, View
from anmok.inputs import Conversation, Encoded

_QUALITY: Final = 92  # of a JPEG, with whole colours: letters stay sharp
_SMALL: Final = 256 * 256  # pixels, up to which a PNG costs little and loses nothing
_MOST_BYTES: Final = 14 * 2**20  # of all pictures of a conversation: 19 MiB as text, and Gemini takes 20 MB in all
_PNG: Final = b"\x89PNG"


@dataclass(frozen=True, slots=True)
class Photo:
    """A file, ready to go."""

    kind: str  # image/jpeg or image/png
    data: bytes

    @property
    def text(self) -> str:
        """In base64."""
        return base64.b64encode(self.data).decode("ascii")

    @property
    def address(self) -> str:
        return f"data:{self.kind};base64,{self.text}"


def shrunk(image: NDArray[np.uint8], pixels: Pixels) -> View:
    """A picture (H, W, 3) as levels (3, h, w) with no side over ``pixels.size``; a smaller one is left as it is."""
    height, width = image.shape[:2]
    scale = min(1.0, pixels.size / max(height, width))
    if scale == 1.0:
        return View(_first(image), Frame((1.0, 1.0), (0.0, 0.0), (height, width)))
    small, frame = geometry.resized(image, (_side(height, scale), _side(width, scale)), pixels.filter)  # (h, w, 3)
    return View(_first(small), frame)


def files(batch: NDArray[Any]) -> dict[str, NDArray[np.generic]]:
    """uint8 (B, 3, h, w) to ``file`` uint8 (B, N) and ``length`` int64 (B,): the bytes, with zeros after the end."""
    made = [_written(levels.transpose(1, 2, 0)) for levels in batch]  # (h, w, 3) each
    table = np.zeros((len(made), max(len(data) for data in made)), np.uint8)  # (B, N)
    for row, data in zip(table, made, strict=True):
        row[: len(data)] = np.frombuffer(data, np.uint8)
    return {"file": table, "length": np.asarray([len(data) for data in made], np.int64)}


def photo(state: Encoded) -> Photo:
    """The file of a state of ``files``."""
    data = state.maps["file"][: int(state.maps["length"])].tobytes()
    return Photo("image/png" if data.startswith(_PNG) else "image/jpeg", data)


def check_size(state: Conversation) -> None:
    """All pictures of a conversation go in one request.

    Raises:
        TooMuch: they are too large together.
    """
    count = sum(int(cast(Encoded, one).maps["length"]) for one in state.pictures)
    if count > _MOST_BYTES:
        raise TooMuch(
            f"the pictures of this conversation have {count / 1e6:.0f} MB together, and {_MOST_BYTES / 1e6:.0f} MB are "
            "the most that goes out in one request; show fewer"
        )


def _written(image: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    picture = pillow.fromarray(np.ascontiguousarray(image))
    if image.shape[0] * image.shape[1] <= _SMALL:
        picture.save(file, "PNG")
    else:
        picture.save(file, "JPEG", quality=_QUALITY, subsampling=0)
    return file.getvalue()


def _first(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(image.transpose(2, 0, 1))  # (3, h, w)


def _side(length: int, scale: float) -> int:
    return max(1, round(length * scale))
