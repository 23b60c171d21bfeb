"""Resizing that returns its own inverse, and what a card says of its pixels. Pure numpy and Pillow."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image as pillow

from anmok.errors import BadRequest

Fit = Literal["crop", "squash", "pad", "short"]
Filter = Literal["bilinear", "bicubic", "lanczos", "nearest"]

_STRIP = 64  # canvases: a picture that would be longer is cut before it is resized

_FILTERS = {
    "bilinear": pillow.Resampling.BILINEAR,
    "bicubic": pillow.Resampling.BICUBIC,
    "lanczos": pillow.Resampling.LANCZOS,
    "nearest": pillow.Resampling.NEAREST,
}


@dataclass(frozen=True, slots=True)
class Pixels:
    """How a set of weights wants its pictures. It belongs to the weights, not to the architecture.

    ``fit="crop"`` brings the short side to ``round(size / crop)`` and cuts the centre; ``"squash"`` ignores the
    aspect ratio; ``"pad"`` brings the long side to ``size`` and fills the rest (bottom, right) with the mean;
    ``"short"`` brings the short side to ``size``, or the long side to ``longest`` where that would be passed, and
    cuts nothing.
    """

    size: int
    fit: Fit
    filter: Filter
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    crop: float = 1.0
    longest: int = 0  # pixels, with fit="short"; 0 means no bound

    def __post_init__(self) -> None:
        if self.fit not in ("crop", "squash", "pad", "short") or self.filter not in _FILTERS:
            raise BadRequest(f"pixels: unknown fit {self.fit!r} or filter {self.filter!r}")
        if self.size < 1 or not 0 < self.crop <= 1 or min(self.std) <= 0:
            raise BadRequest("pixels: size must be positive, crop in (0, 1], std above 0")

    @property
    def key(self) -> str:
        """Twelve letters that tell one preprocessing from another. What a card does not use does not count, so that
        features computed before a field was added stay good."""
        used = [f"{one.name}={getattr(self, one.name)!r}" for one in fields(self) if one.name != "longest"]
        used += [f"longest={self.longest}"] if self.longest else []
        return hashlib.sha256(f"Pixels({', '.join(used)})".encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class Frame:
    """Where the canvas lies in the picture: canvas = picture * scale + offset, both as (x, y)."""

    scale_xy: tuple[float, float]
    offset_xy: tuple[float, float]
    size_hw: tuple[int, int]  # of the caller's picture

    def to_image(self, points_xy: NDArray[np.floating]) -> NDArray[np.float32]:
        """Points (..., 2) on the canvas to points in the caller's pixels, clipped to the picture."""
        scaled = (points_xy - np.asarray(self.offset_xy)) / np.asarray(self.scale_xy)
        return np.asarray(np.clip(scaled, 0, (self.size_hw[1], self.size_hw[0])), np.float32)

    def boxes_to_image(self, xyxy: NDArray[np.floating]) -> NDArray[np.float32]:
        """Boxes (N, 4) on the canvas to boxes in the caller's pixels, clipped to the picture."""
        return self.to_image(xyxy.reshape(-1, 2, 2)).reshape(-1, 4)

    def boxes_to_canvas(self, xyxy: NDArray[np.floating]) -> NDArray[np.float32]:
        """Boxes (N, 4) in the caller's pixels to boxes on the canvas."""
        return self.to_canvas(xyxy.reshape(-1, 2, 2)).reshape(-1, 4)

    def to_canvas(self, points_xy: NDArray[np.floating]) -> NDArray[np.float32]:
        """Points (..., 2) in the caller's pixels to points on the canvas."""
        return np.asarray(points_xy * np.asarray(self.scale_xy) + np.asarray(self.offset_xy), np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """A picture as a net takes it, float32 (3, h, w), with the frame that leads back to the caller's pixels.

    A model that cuts what it needs out of the picture later keeps the levels as they are, uint8 (3, H, W).
    """

    pixels: NDArray[Any]
    frame: Frame


def resized(image: NDArray[np.uint8], size_hw: tuple[int, int], name: Filter) -> tuple[NDArray[np.uint8], Frame]:
    """A picture (H, W, 3) brought to (h, w, 3) whatever its shape, with the frame that leads back."""
    height, width = image.shape[:2]
    scale = (size_hw[1] / width, size_hw[0] / height)
    return _resize(image, size_hw, name), Frame(scale, (0.0, 0.0), (height, width))


def fit(image: NDArray[np.uint8], pixels: Pixels) -> tuple[NDArray[np.uint8], Frame]:
    """A picture (H, W, 3) brought to the canvas (size, size, 3), or (h, w, 3) with ``fit="short"``, with the frame
    that leads back."""
    new_h, new_w = _target(image.shape[0], image.shape[1], pixels)
    if pixels.fit == "crop" and max(new_h, new_w) > _STRIP * pixels.size:
        return _middle(image, (new_h, new_w), pixels)
    small, frame = resized(image, (new_h, new_w), pixels.filter)  # (new_h, new_w, 3)
    if (new_h, new_w) == (pixels.size, pixels.size) or pixels.fit == "short":
        return small, frame
    if pixels.fit == "pad":
        fill = np.round(np.asarray(pixels.mean) * 255).astype(np.uint8)
        canvas = np.empty((pixels.size, pixels.size, 3), np.uint8)
        canvas[:] = fill
        canvas[:new_h, :new_w] = small
        return canvas, frame
    top, left = (new_h - pixels.size) // 2, (new_w - pixels.size) // 2
    canvas = small[top : top + pixels.size, left : left + pixels.size]  # (size, size, 3)
    return canvas, Frame(frame.scale_xy, (-float(left), -float(top)), frame.size_hw)


def normalise(canvas: NDArray[np.uint8], pixels: Pixels) -> NDArray[np.float32]:
    """uint8 (H, W, 3) to float32 (3, H, W): (value / 255 - mean) / std."""
    slope = (1.0 / (255.0 * np.asarray(pixels.std))).astype(np.float32)
    shift = (-np.asarray(pixels.mean) / np.asarray(pixels.std)).astype(np.float32)
    out = np.ascontiguousarray(canvas.transpose(2, 0, 1)).astype(np.float32)  # (3, H, W); bytes are moved, not floats
    out *= slope[:, None, None]
    out += shift[:, None, None]
    return out


def prepare(image: NDArray[np.uint8], pixels: Pixels) -> NDArray[np.float32]:
    """The pixels of ``view``, for models whose answers have no place in the picture."""
    return view(image, pixels).pixels


def view(image: NDArray[np.uint8], pixels: Pixels) -> View:
    """``fit`` then ``normalise``: float32 (3, size, size), or (3, h, w) with ``fit="short"``.

    What ``fit="pad"`` adds is exactly zero, as where a picture is padded after it was normalised.
    """
    canvas, frame = fit(image, pixels)
    values = normalise(canvas, pixels)  # (3, size, size)
    if pixels.fit == "pad":
        new_h, new_w = _target(image.shape[0], image.shape[1], pixels)
        values[:, new_h:] = 0.0
        values[:, :, new_w:] = 0.0
    return View(values, frame)


def flip(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Mirrored left to right, (H, W, 3)."""
    return np.ascontiguousarray(image[:, ::-1])


def difference_hash(image: NDArray[np.uint8]) -> int:
    """64-bit dHash: whether each cell of a 9 x 8 grey thumbnail is darker than its right neighbour.

    Source: N. Krawetz, "Kind of Like That" (2013).
    """
    grey = pillow.fromarray(image).convert("L").resize((9, 8), pillow.Resampling.BOX)
    cells = np.asarray(grey).astype(np.int16)  # (8, 9)
    bits = (cells[:, 1:] > cells[:, :-1]).ravel()  # (64,)
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def _target(height: int, width: int, pixels: Pixels) -> tuple[int, int]:
    if pixels.fit == "squash":
        return pixels.size, pixels.size
    if pixels.fit == "pad":
        ratio = pixels.size / max(height, width)
        return max(1, int(height * ratio + 0.5)), max(1, int(width * ratio + 0.5))
    if pixels.fit == "short":
        return _short_side(height, width, pixels)
    short = round(pixels.size / pixels.crop)
    # The long side is cut to a whole number, as the published CLIP preprocessing does.
    if height <= width:
        return short, int(short * width / height)
    return int(short * height / width), short


def _short_side(height: int, width: int, pixels: Pixels) -> tuple[int, int]:
    """As DETR's transforms do (facebookresearch/detr, datasets/transforms.py), where the long side is cut to a whole
    number; a strip thinner than the canvas would allow keeps one pixel."""
    short, long = min(height, width), max(height, width)
    wanted = float(pixels.size)
    if pixels.longest and wanted * long / short > pixels.longest:
        wanted = pixels.longest * short / long
    side, other = max(1, round(wanted)), max(1, int(wanted * long / short))
    return (side, other) if height <= width else (other, side)


def _middle(image: NDArray[np.uint8], new_hw: tuple[int, int], pixels: Pixels) -> tuple[NDArray[np.uint8], Frame]:
    """As ``fit="crop"`` has it, but only the part that is kept is made: a strip of 1 x 20,000 pixels would be enlarged
    to gigabytes. A level may differ by one."""
    height, width = image.shape[:2]
    scale = np.asarray((new_hw[1] / width, new_hw[0] / height))
    corner = np.asarray(((new_hw[1] - pixels.size) // 2, (new_hw[0] - pixels.size) // 2))
    right, bottom = np.minimum((corner + pixels.size) / scale, (width, height)).tolist()
    box = (*(corner / scale).tolist(), right, bottom)
    small = pillow.fromarray(image).resize((pixels.size, pixels.size), _FILTERS[pixels.filter], box=box)
    offset = (-float(corner[0]), -float(corner[1]))
    return np.asarray(small), Frame((float(scale[0]), float(scale[1])), offset, (height, width))


def _resize(image: NDArray[np.uint8], size_hw: tuple[int, int], name: Filter) -> NDArray[np.uint8]:
    if image.shape[:2] == size_hw:
        return image
    resized = pillow.fromarray(image).resize((size_hw[1], size_hw[0]), _FILTERS[name])
    return np.asarray(resized)  # (new_h, new_w, 3)
