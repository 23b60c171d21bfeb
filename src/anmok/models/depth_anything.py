"""Depth Anything V2: how far everything is, from one picture, relative or in metres.

Source: Yang et al., "Depth Anything V2" (NeurIPS 2024, arXiv:2406.09414), github.com/DepthAnything/Depth-Anything-V2;
the net is transformers'.

The relative models give disparity (larger is nearer) of unknown scale and shift: one over it is no depth. The metric
ones give metres, up to 20 (indoor) or 80 (outdoor).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional
from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation

from anmok import geometry
from anmok.errors import BadWeights
from anmok.geometry import View
from anmok.inputs import Encoded
from anmok.nets.pretrained import configured, filled
from anmok.results import DepthMap
from anmok.tasks import Depth, Setup

Array = NDArray[np.float32]

PATCH = 14
_TINY_SIZE = 70  # pixels
_TINY_BACKBONE = {
    "model_type": "dinov2",
    "image_size": _TINY_SIZE,
    "patch_size": PATCH,
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "out_indices": [1, 2, 3, 4],
    "reshape_hidden_states": False,
}
TINY: dict[str, Any] = {
    "reassemble_hidden_size": 32,
    "neck_hidden_sizes": [8, 16, 24, 32],
    "fusion_hidden_size": 16,
    "head_hidden_size": 8,
}


class DepthAnything:
    def __init__(self, setup: Setup, net: nn.Module) -> None:
        self._setup = setup
        self._device = torch.device(setup.device)
        self._dtype = getattr(torch, setup.dtype)
        self._is_metric = setup.kind.startswith("metric")
        self._net = net.eval().to(self._device, self._dtype)

    @classmethod
    def from_files(cls, setup: Setup) -> DepthAnything:
        content = json.loads(setup.files["config.json"].read_text(encoding="utf-8"))
        config = configured(DepthAnythingConfig, content, setup.name)
        if (config.depth_estimation_type == "metric") != setup.kind.startswith("metric"):
            raise BadWeights(f"{setup.name}: config.json says {config.depth_estimation_type}, the card does not")
        state = load_file(setup.files["model.safetensors"])
        dtype = getattr(torch, setup.dtype)
        return cls(setup, filled(DepthAnythingForDepthEstimation, config, state, dtype, setup.name))

    @classmethod
    def tiny(cls, setup: Setup, seed: int) -> DepthAnything:
        torch.manual_seed(seed)
        small = dataclasses.replace(setup, pixels=dataclasses.replace(setup.pixels, size=_TINY_SIZE))
        kind, farthest = ("metric", 20) if setup.kind.startswith("metric") else ("relative", 1)
        config = DepthAnythingConfig(
            **TINY, backbone_config=dict(_TINY_BACKBONE), depth_estimation_type=kind, max_depth=farthest
        )
        return cls(small, DepthAnythingForDepthEstimation(config))

    @property
    def nbytes(self) -> int:
        return sum(tensor.numel() * tensor.element_size() for tensor in self._net.state_dict().values())

    def prepare(self, image: NDArray[np.uint8]) -> View:
        size = canvas_size(image.shape[0], image.shape[1], self._setup.pixels.size)
        canvas, frame = geometry.resized(image, size, self._setup.pixels.filter)  # (h, w, 3)
        return View(geometry.normalise(canvas, self._setup.pixels), frame)

    def encode(self, batch: Array) -> dict[str, Array]:
        """(B, 3, h, w) to ``depth`` (B, h, w), on the canvas: the answer but for its size."""
        with torch.inference_mode():
            pixels = torch.from_numpy(batch).to(self._device, self._dtype)
            depth: Array = self._net(pixel_values=pixels).predicted_depth.float().cpu().numpy()  # (B, h, w)
        return {"depth": depth}

    def depth(self, states: Sequence[Encoded], ask: Depth) -> list[DepthMap]:
        """In the picture's own size, by bicubic interpolation as transformers' processor does it (the authors' code
        takes bilinear); what that overshoots below 0 is 0."""
        return [self._answer(state) for state in states]

    def _answer(self, state: Encoded) -> DepthMap:
        raw = torch.from_numpy(np.array(state.maps["depth"], np.float32))  # (h, w)
        size = state.place.size_hw
        large = functional.interpolate(raw[None, None], size=size, mode="bicubic", align_corners=False)[0, 0]  # (H, W)
        return DepthMap(large.clamp(min=0).numpy(), "metric" if self._is_metric else "disparity")


def canvas_size(height: int, width: int, size: int) -> tuple[int, int]:
    """(h, w) in whole patches: scaled as little as possible so that one side becomes ``size``, shape kept.

    Source: transformers, models/dpt/image_processing_pil_dpt.py (keep_aspect_ratio); a side never gets less than a
    patch, which there it can.
    """
    by_height, by_width = size / height, size / width
    scale = by_width if abs(1 - by_width) < abs(1 - by_height) else by_height
    return _patches(height * scale), _patches(width * scale)


def _patches(side: float) -> int:
    return max(PATCH, round(side / PATCH) * PATCH)
