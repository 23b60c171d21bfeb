"""Depth Anything 3: depth of a picture, with the camera that took it or with metres where its lens is known.

The any-view cards answer relative depth, how sure they are of it, and the camera's intrinsics. The mono and metric
cards answer depth with the sky put behind everything else; the metric one in metres where the ask says the focal
length. Pictures are asked one by one here: what the any-view net finds in several views at once has no ask yet.

Source: H. Lin et al., "Depth Anything 3: Recovering the Visual Space from Any Views" (2025, arXiv:2511.10647);
preprocessing as in github.com/ByteDance-Seed/Depth-Anything-3, ``utils/io/input_processor.py``, metres as in its
``utils/alignment.py``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch.nn import functional

from anmok import geometry
from anmok.geometry import Frame, Pixels
from anmok.inputs import Encoded
from anmok.nets import depth_anything3
from anmok.nets.depth_anything3 import PUBLISHED, TINY, AnyView, AnyViewConfig, OneView, OneViewConfig, with_far_sky
from anmok.nets.dino_views import PATCH
from anmok.results import DepthMap
from anmok.tasks import Depth, Setup

Array = NDArray[np.float32]

# The metric net answers metres as a camera with this focal length, in pixels of what the net sees, would measure them.
FOCAL = 300.0
_SHARPNESS = -0.75  # OpenCV's cubic
_TINY_SIZE = 112  # pixels


class DepthAnything3:
    """States hold the answer at the size that the net sees: ``depth`` (h, w), and of an any-view card ``confidence``
    (h, w), larger than 1, and ``intrinsics`` (3, 3)."""

    def __init__(self, setup: Setup, net: AnyView | OneView) -> None:
        self._setup = setup
        self._is_metric = _architecture(setup) == "metric"
        self._device = torch.device(setup.device)
        self._dtype = getattr(torch, setup.dtype)
        self._net = net.eval().to(self._device, self._dtype)

    @classmethod
    def from_files(cls, setup: Setup) -> DepthAnything3:
        net = _net(PUBLISHED[setup.kind])
        depth_anything3.fill(net, load_file(setup.files["model.safetensors"]), setup.name)
        return cls(setup, net)

    @classmethod
    def tiny(cls, setup: Setup, seed: int) -> DepthAnything3:
        torch.manual_seed(seed)
        small = dataclasses.replace(setup, pixels=dataclasses.replace(setup.pixels, size=_TINY_SIZE))
        return cls(small, _net(TINY[_architecture(setup)]))

    @property
    def nbytes(self) -> int:
        return sum(tensor.numel() * tensor.element_size() for tensor in self._net.state_dict().values())

    def prepare(self, image: NDArray[np.uint8]) -> geometry.View:
        return view(image, self._setup.pixels)

    def encode(self, batch: Array) -> Mapping[str, Array]:
        """(B, 3, h, w), sides of whole patches, each picture a scene of its own."""
        with torch.inference_mode():
            images = torch.from_numpy(batch).to(self._device, self._dtype)
            if isinstance(self._net, OneView):
                return {"depth": with_far_sky(self._net(images)).float().cpu().numpy()}  # (B, h, w)
            scene = self._net(images[:, None], None, needs_rays=False)  # one view each: (B, 1, ...)
            found = {
                "depth": scene.depth,  # (B, 1, h, w)
                "confidence": scene.confidence,  # (B, 1, h, w)
                "intrinsics": scene.cameras.intrinsics,  # (B, 1, 3, 3)
            }
            return {name: value[:, 0].float().cpu().numpy() for name, value in found.items()}

    def depth(self, states: Sequence[Encoded], ask: Depth) -> list[DepthMap]:
        """Relative depth, but for a metric card that is told the focal length: that answers in metres.

        A focal length also gives the intrinsics; an any-view card estimates them where there is none.
        """
        return [self._answer(state, ask) for state in states]

    def _answer(self, state: Encoded, ask: Depth) -> DepthMap:
        frame = state.place
        whole = {name: _enlarged(state.maps[name], frame) for name in ("depth", "confidence") if name in state.maps}
        depth, confidence = whole["depth"], whole.get("confidence")  # (H, W)
        if ask.focal_px is None:
            estimated = state.maps.get("intrinsics")
            intrinsics = None if estimated is None else _to_image(np.asarray(estimated, np.float32), frame)
            return DepthMap(depth, "depth", confidence, intrinsics)
        intrinsics = _centred(ask.focal_px, frame.size_hw)
        if not self._is_metric:
            return DepthMap(depth, "depth", confidence, intrinsics)
        seen = ask.focal_px * float(np.mean(frame.scale_xy))  # pixels of what the net saw
        return DepthMap(depth * np.float32(seen / FOCAL), "metric", confidence, intrinsics)


def view(image: NDArray[np.uint8], pixels: Pixels) -> geometry.View:
    """A picture (H, W, 3) as the net takes it: the long side brought to ``pixels.size``, then each side to the nearest
    multiple of 14 pixels, and at least 14, which of a ribbon the reference does not see to. Nothing is cut off, so
    the picture is stretched by up to half a patch."""
    height, width = image.shape[:2]
    ratio = pixels.size / max(height, width)
    first = (max(1, round(height * ratio)), max(1, round(width * ratio)))
    size = (_whole_patches(first[0]), _whole_patches(first[1]))
    canvas = resampled(resampled(image, first), size)  # (h, w, 3)
    frame = Frame((size[1] / width, size[0] / height), (0.0, 0.0), (height, width))
    return geometry.View(geometry.normalise(canvas, pixels), frame)


def resampled(image: NDArray[np.uint8], size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """A picture (H, W, 3) at another size: the mean over each new pixel's area, or where a side grows, cubic.

    The numbers are those of OpenCV 5's ``INTER_AREA`` and ``INTER_CUBIC``, up to the rounding of ties.
    """
    height, width = image.shape[:2]
    if size_hw == (height, width):
        return image
    weigh = _cubic if size_hw[0] > height or size_hw[1] > width else _areas
    values: NDArray[Any] = image  # bytes, then float32
    for axis in (1, 0):  # in OpenCV's order, so that sums round as they do there
        if size_hw[axis] != image.shape[axis]:
            cells, weights = weigh(image.shape[axis], size_hw[axis])
            values = _summed(values, cells, weights, axis)  # the new size along this axis
    # Of a picture halved both ways, whose values are quarters, OpenCV rounds a half up; elsewhere to even.
    shift = 0.125 if (height, width) == (2 * size_hw[0], 2 * size_hw[1]) else 0.0
    return np.asarray(np.clip(np.rint(values + np.float32(shift)), 0, 255), np.uint8)


def _summed(values: NDArray[Any], cells: NDArray[np.intp], weights: Array, axis: int) -> Array:
    """Along an axis, the weighted sum of a few old cells for each new one; ``cells`` and ``weights`` (new, few)."""
    shape = (-1, 1, 1) if axis == 0 else (1, -1, 1)
    total: Array = np.take(values, cells[:, 0], axis) * weights[:, 0].reshape(shape)
    for tap in range(1, cells.shape[1]):
        total += np.take(values, cells[:, tap], axis) * weights[:, tap].reshape(shape)
    return total


def _areas(old: int, new: int) -> tuple[NDArray[np.intp], Array]:
    """How much of each new cell every old one covers, (new, few)."""
    ratio = old / new
    low = np.arange(new)[:, None] * ratio  # (new, 1)
    cells = np.floor(low + 1e-9).astype(np.intp) + np.arange(int(np.ceil(ratio)) + 1)  # (new, few)
    covered = np.minimum(cells + 1, low + ratio) - np.maximum(cells, low)
    return cells.clip(0, old - 1), np.asarray(covered.clip(0) / ratio, np.float32)


def _cubic(old: int, new: int) -> tuple[NDArray[np.intp], Array]:
    """The four old cells around each new one's centre and their weights (new, 4); beyond the edge the edge goes on.

    Source: R. Keys, "Cubic convolution interpolation for digital image processing" (1981).
    """
    centre = (np.arange(new)[:, None] + 0.5) * (old / new) - 0.5  # (new, 1)
    cells = np.floor(centre).astype(np.intp) + np.arange(-1, 3)  # (new, 4)
    far, a = np.abs(cells - centre), _SHARPNESS
    inner = ((a + 2) * far - (a + 3)) * far**2 + 1
    outer = ((far - 5) * far + 8) * far * a - 4 * a
    return cells.clip(0, old - 1), np.where(far <= 1, inner, outer).astype(np.float32)


def _whole_patches(side: int) -> int:
    """To the nearest multiple of a patch, the larger of two that are equally near."""
    return max(PATCH, (side + PATCH // 2) // PATCH * PATCH)


def _enlarged(values: NDArray[np.generic], frame: Frame) -> Array:
    """A map (h, w) of the canvas at the size of the caller's picture, which lies on all of it."""
    maps = torch.tensor(np.asarray(values, np.float32))[None, None]  # (1, 1, h, w)
    whole: Array = functional.interpolate(maps, size=frame.size_hw, mode="bilinear")[0, 0].numpy()  # (H, W)
    return whole


def _to_image(intrinsics: Array, frame: Frame) -> Array:
    """Intrinsics (3, 3) in pixels of the canvas to those in pixels of the caller's picture."""
    scale_x, scale_y = frame.scale_xy
    return np.asarray(intrinsics / np.asarray([[scale_x], [scale_y], [1.0]]), np.float32)


def _centred(focal: float, size_hw: tuple[int, int]) -> Array:
    """Intrinsics (3, 3) of a camera whose axis goes through the middle of its picture, in its pixels."""
    height, width = size_hw
    return np.asarray([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]], np.float32)


def _net(config: AnyViewConfig | OneViewConfig) -> AnyView | OneView:
    return AnyView(config) if isinstance(config, AnyViewConfig) else OneView(config)


def _architecture(setup: Setup) -> str:
    return setup.kind.partition("-")[0]
