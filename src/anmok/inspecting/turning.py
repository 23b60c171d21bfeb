"""Pictures turned about their middle, for parts that lie on the belt in any direction."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image as pillow

Image = NDArray[np.uint8]
ANGLES = tuple(range(0, 360, 45))


def turned(image: Image, degrees: int) -> Image:
    """(H, W, 3) turned counter-clockwise, of the same size. What comes in at the corners is the picture mirrored at its
    edges, and not black, which would be remembered as good."""
    if degrees % 360 == 0:
        return image
    height, width = image.shape[:2]
    if degrees % 180 == 0:
        return np.ascontiguousarray(image[::-1, ::-1])
    if degrees % 90 == 0 and height == width:
        return np.ascontiguousarray(np.rot90(image, degrees // 90 % 4))
    room_y, room_x = height // 2 + 1, width // 2 + 1
    wide = np.pad(image, ((room_y, room_y), (room_x, room_x), (0, 0)), mode="symmetric")
    spun = pillow.fromarray(wide).rotate(degrees, pillow.Resampling.BILINEAR)
    return np.asarray(spun)[room_y : room_y + height, room_x : room_x + width]
