"""What families share that see the frames of a clip together: frames of one shape, and clips that were seen already."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from anmok.nets.eyes.levels import Canvas, Levels

T = TypeVar("T")

Frame = NDArray[np.uint8]  # (3, h, w)
_KEPT: Final = 2  # clips
_MOST_KEPT: Final = 2**30  # bytes of both, beyond which the last alone stays


class LastReels(Generic[T]):
    """The last two clips as they were seen, or the last one where two are large: who asks ten questions about one has
    it seen once. Not for several threads at a time."""

    def __init__(self) -> None:
        self._kept: OrderedDict[bytes, T] = OrderedDict()

    def of(self, frames: Sequence[Frame], told: Sequence[float], look: Callable[[], T]) -> T:
        """What ``look`` makes of these frames (3, h, w), or made of them; ``told`` are their times, and what else it
        follows from."""
        key = _mark(frames, told)
        found = self._kept.pop(key, None)
        self._kept[key] = look() if found is None else found
        while len(self._kept) > _KEPT or (len(self._kept) > 1 and sum(map(_nbytes, self._kept.values())) > _MOST_KEPT):
            self._kept.popitem(last=False)
        return self._kept[key]


def _nbytes(seen: object) -> int:
    """Of the tensors in it."""
    if isinstance(seen, Tensor):
        return seen.nbytes
    return sum(map(_nbytes, seen)) if isinstance(seen, tuple) else 0


def kept(image: Canvas) -> Frame:
    """Levels (H, W, 3) as they are kept, (3, H, W)."""
    return np.ascontiguousarray(image.transpose(2, 0, 1))


def canvases(frames: Sequence[Frame], size_hw: tuple[int, int], levels: Levels) -> NDArray[np.uint8]:
    """Frames (3, h, w) of whatever shapes brought to one: (F, H, W, 3). By Pillow's filter, as pictures are;
    transformers' video processors have torchvision's, of which 2 values in 1,000 differ, by a level or two of 255 (four
    frames of DAVIS)."""
    return np.stack([levels.resized(frame.transpose(1, 2, 0), size_hw) for frame in frames])


def _mark(frames: Sequence[Frame], told: Sequence[float]) -> bytes:
    mark = hashlib.blake2b(repr(tuple(told)).encode(), digest_size=16)
    for frame in frames:
        mark.update(repr(frame.shape).encode())
        mark.update(frame.tobytes())
    return mark.digest()
