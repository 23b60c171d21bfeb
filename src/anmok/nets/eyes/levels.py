"""From the levels of a picture to the numbers that a tower was trained on, bit for bit as transformers makes them.

transformers multiplies each level by 1 / 255 in double precision, rounds to float32, and takes off mean and std in
float32. A level is one of 256, so a table of 256 rows holds all that can come out; looking it up is exact, and
quicker than the arithmetic.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from anmok import geometry
from anmok.errors import BadWeights
from anmok.geometry import Filter

CLIP_MEAN: Final = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD: Final = (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
IMAGENET_STD: Final = (0.229, 0.224, 0.225)
HALF: Final = (0.5, 0.5, 0.5)

Triple = tuple[float, float, float]
Canvas = NDArray[np.uint8]

_FILTERS: Final[Mapping[int, Filter]] = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}  # Pillow's numbers


@dataclass(frozen=True, slots=True)
class Levels:
    """Which filter resizes, and what is done to the levels after that."""

    mean: Triple
    std: Triple
    filter: Filter = "bicubic"
    scale: float = 1 / 255

    @classmethod
    def of(cls, content: Mapping[str, Any], default: Levels) -> Levels:
        """What a ``preprocessor_config.json`` says; what it leaves out is as in ``default``.

        Raises:
            BadWeights: a filter that Pillow does not number, or no three channels.
        """
        number = content.get("resample")
        if number is not None and number not in _FILTERS:
            raise BadWeights(f"preprocessor_config.json: resample {number!r} is no filter; want one of {[*_FILTERS]}")
        if content.get("do_normalize") is False:
            mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
        else:
            mean = _triple(content.get("image_mean") or default.mean)
            std = _triple(content.get("image_std") or default.std)
        scale = content.get("rescale_factor") or default.scale
        return cls(mean, std, default.filter if number is None else _FILTERS[number], float(scale))

    def resized(self, image: Canvas, size_hw: tuple[int, int]) -> Canvas:
        """(H, W, 3) to (h, w, 3), whatever its shape."""
        return geometry.resized(image, size_hw, self.filter)[0]

    def numbers(self, canvas: Canvas) -> NDArray[np.float32]:
        """Levels (..., h, w, 3) to float32 (..., 3, h, w)."""
        table = self._table()  # (3, 256)
        numbers = np.empty((*canvas.shape[:-3], 3, *canvas.shape[-3:-1]), np.float32)
        for channel in range(3):
            np.take(table[channel], canvas[..., channel], out=numbers[..., channel, :, :])
        return numbers

    def _table(self) -> NDArray[np.float32]:
        shares = (np.arange(256, dtype=np.float64) * self.scale).astype(np.float32)  # (256,)
        mean, std = np.asarray(self.mean, np.float32), np.asarray(self.std, np.float32)
        return np.asarray((shares - mean[:, None]) / std[:, None])  # (3, 256)


def tiles_of(canvas: Canvas, size: int) -> Canvas:
    """A canvas of whole tiles (R * size, C * size, 3) cut row by row: (R * C, size, size, 3)."""
    rows, columns = canvas.shape[0] // size, canvas.shape[1] // size
    cut = canvas.reshape(rows, size, columns, size, 3).transpose(0, 2, 1, 3, 4)  # (R, C, size, size, 3)
    return cut.reshape(rows * columns, size, size, 3)


def _triple(values: Any) -> Triple:
    listed = [float(value) for value in values]
    if len(listed) != 3:
        raise BadWeights(f"preprocessor_config.json: {len(listed)} values of mean or std; want three")
    return listed[0], listed[1], listed[2]
