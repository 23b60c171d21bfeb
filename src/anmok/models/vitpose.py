"""ViTPose and ViTPose++: the 17 points of COCO of every person, each cut out by its box.

Source: Y. Xu et al., "ViTPose: Simple Vision Transformer Baselines for Human Pose Estimation" (NeurIPS 2022,
arXiv:2204.12484) and "ViTPose++: Vision Transformer for Generic Body Pose Estimation" (TPAMI 2023,
arXiv:2212.04246). The nets are transformers'; cutting and reading of the maps follow its image processor.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import VitPoseConfig, VitPoseForPoseEstimation

from anmok import bodies, people
from anmok.geometry import View
from anmok.inputs import Encoded, Prompted
from anmok.nets import heatmaps
from anmok.nets.pretrained import configured, filled
from anmok.results import Keypoints
from anmok.tasks import Pose, Setup

Array = NDArray[np.float32]

_SIGMA = 0.8  # of the blur before a peak is read, in pixels of the map
_COCO = 0  # the expert of ViTPose++ that knows this set of points
_NARROW = {
    "model_type": "vitpose_backbone",
    "image_size": [64, 48],
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "out_indices": [2],
}
TINY: Mapping[str, Mapping[str, Any]] = {
    "simple": {"num_labels": 17, "use_simple_decoder": True, "backbone_config": _NARROW},
    "classic": {"num_labels": 17, "use_simple_decoder": False, "backbone_config": _NARROW},
    "plus": {
        "num_labels": 17,
        "use_simple_decoder": False,
        "backbone_config": {**_NARROW, "num_experts": 3, "part_features": 8},
    },
}


class VitPose:
    """The first word of ``kind`` names the decoder, or the mixture of experts of ViTPose++."""

    def __init__(self, setup: Setup, net: nn.Module) -> None:
        self._device = torch.device(setup.device)
        self._dtype: torch.dtype = getattr(torch, setup.dtype)
        self._net = net.eval().to(self._device, self._dtype)
        config: Any = net.config
        backbone = config.backbone_config
        self._has_experts = backbone.num_experts > 1
        height, width = backbone.image_size
        pixels = setup.pixels
        self._style = heatmaps.Style((height, width), pixels.mean, pixels.std, edge="cut", sigma=_SIGMA)
        self._detector: bodies.Finder = setup.parts["detector"]

    @classmethod
    def from_files(cls, setup: Setup) -> VitPose:
        content = json.loads(setup.files["config.json"].read_text(encoding="utf-8"))
        config = configured(VitPoseConfig, content, setup.name)
        state = load_file(setup.files["model.safetensors"])
        return cls(setup, filled(VitPoseForPoseEstimation, config, state, getattr(torch, setup.dtype), setup.name))

    @classmethod
    def tiny(cls, setup: Setup, seed: int) -> VitPose:
        torch.manual_seed(seed)
        return cls(setup, VitPoseForPoseEstimation(VitPoseConfig(**TINY[setup.kind.partition("-")[0]])))

    @property
    def nbytes(self) -> int:
        return sum(tensor.numel() * tensor.element_size() for tensor in self._net.state_dict().values())

    def prepare(self, image: NDArray[np.uint8]) -> View:
        return bodies.pictured(image)

    def encode(self, batch: Array) -> dict[str, NDArray[np.generic]]:
        return bodies.kept(batch)

    def pose(self, states: Sequence[Encoded | Prompted], ask: Pose) -> list[Keypoints]:
        return bodies.posed(states, ask, self._detector, people.COCO, self._locate)

    def _locate(self, found: Sequence[bodies.Person]) -> tuple[Array, Array]:
        return heatmaps.located(found, self._style, self._maps, part=16)

    def _maps(self, batch: Array) -> Tensor:
        """(B, 3, H, W) to heat maps (B, K, h, w)."""
        with torch.inference_mode():
            pixels = torch.from_numpy(batch).to(self._device, self._dtype)
            experts = torch.full((len(batch),), _COCO, device=self._device) if self._has_experts else None
            maps: Tensor = self._net(pixels, dataset_index=experts).heatmaps
        return maps
