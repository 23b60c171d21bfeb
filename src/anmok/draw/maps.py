"""Values of every pixel as colours: depth, normals, parts, opacity."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image as pillow

from anmok.draw import colours
from anmok.media import Image
from anmok.results import AnomalyMap, DepthMap, Matte, NormalMap, PartMap

_OPACITY = 0.6  # of a part's colour over its pixels
_SQUARE = 16  # pixels of the chequered ground behind a matte


def depth(result: DepthMap, image: Image) -> pillow.Image:
    """Near is bright."""
    return pillow.fromarray(colours.scale(result.nearness))


def normals(result: NormalMap, image: Image) -> pillow.Image:
    """Red is right, green is up, blue is near; grey where there is no direction."""
    return pillow.fromarray(np.clip(result.normals * 127.5 + 128, 0, 255).astype(np.uint8))


def parts(result: PartMap, image: Image) -> pillow.Image:
    """Each part in its own colour over the picture; what is no part stays as it is."""
    table = np.asarray([colours.colour(max(i - 1, 0)) for i in range(len(result.names))], np.float32)
    is_part = result.parts > 0  # (H, W)
    canvas = image.copy()
    canvas[is_part] = (image[is_part] * (1 - _OPACITY) + table[result.parts[is_part]] * _OPACITY).astype(np.uint8)
    return pillow.fromarray(canvas)


def matte(result: Matte, image: Image) -> pillow.Image:
    """What stands in front, on a chequered ground."""
    alpha = result.alpha[:, :, None]  # (H, W, 1)
    return pillow.fromarray((image * alpha + _chequered(result.size_hw) * (1 - alpha)).astype(np.uint8))


def anomaly(result: AnomalyMap, image: Image) -> pillow.Image:
    """The stranger, the brighter and the less of the picture is seen; the strangest pixel of all is full."""
    return heat(image, result.map, float(result.map.max()))


def heat(image: Image, values: NDArray[np.float32], highest: float) -> pillow.Image:
    """Values (H, W) from 0 to ``highest`` over a picture, so that several pictures share one scale."""
    share = np.clip(values / max(highest, 1e-12), 0, 1)  # (H, W)
    cover = (_OPACITY * share**0.5)[:, :, None]
    return pillow.fromarray((image * (1 - cover) + colours.scale(share) * cover).astype(np.uint8))


def _chequered(size_hw: tuple[int, int]) -> NDArray[np.float32]:
    rows, columns = (np.arange(side) // _SQUARE for side in size_hw)
    light = np.add.outer(rows, columns) % 2 == 0  # (H, W)
    return np.where(light, np.float32(204), np.float32(153))[:, :, None]
