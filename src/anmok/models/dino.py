"""DINOv2 and DINOv3: features of pictures, learned without any label or text.

Source: Oquab et al., "DINOv2: Learning Robust Visual Features without Supervision" (TMLR 2024,
arXiv:2304.07193); Darcet et al., "Vision Transformers Need Registers" (ICLR 2024, arXiv:2309.16588); Siméoni
et al., "DINOv3" (2025, arXiv:2508.10104).
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import nn
from transformers import (
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    DINOv3ConvNextConfig,
    DINOv3ConvNextModel,
    DINOv3ViTConfig,
    DINOv3ViTModel,
    PreTrainedConfig,
    PreTrainedModel,
)

from anmok import geometry, pairing
from anmok.errors import Unsupported
from anmok.inputs import Encoded, Text
from anmok.nets import patch_maps
from anmok.nets.pretrained import configured, filled
from anmok.nets.trunk import Trunk, of_dino
from anmok.results import Embedding
from anmok.tasks import Embed, Setup

Array = NDArray[np.float32]

# By the first word of a card's kind, which is the ``model_type`` of its config.json.
NETS: Mapping[str, tuple[type[PreTrainedConfig], type[PreTrainedModel]]] = {
    "dinov2": (Dinov2Config, Dinov2Model),
    "dinov2_with_registers": (Dinov2WithRegistersConfig, Dinov2WithRegistersModel),
    "dinov3_vit": (DINOv3ViTConfig, DINOv3ViTModel),
    "dinov3_convnext": (DINOv3ConvNextConfig, DINOv3ConvNextModel),
}
_NARROW = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
TINY: Mapping[str, Mapping[str, Any]] = {
    # Positions for 8 x 8 patches, of which a picture has 16 x 16: interpolated, as the published ones are.
    "dinov2": {**_NARROW, "image_size": 112, "patch_size": 14},
    "dinov2_with_registers": {**_NARROW, "image_size": 112, "patch_size": 14, "num_register_tokens": 2},
    "dinov3_vit": {**_NARROW, "intermediate_size": 64, "patch_size": 32, "num_register_tokens": 2},
    "dinov3_convnext": {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]},
}
_CONVNEXT_STRIDE = 32  # pixels of a cell of its last map


class Dino:
    """features: the class token after the last layer norm; of a ConvNeXt the mean of its last map."""

    def __init__(self, setup: Setup, net: nn.Module) -> None:
        self._setup = setup
        self._device = torch.device(setup.device)
        self._dtype = getattr(torch, setup.dtype)
        self._net = net.eval().to(self._device, self._dtype)

    @classmethod
    def from_files(cls, setup: Setup) -> Dino:
        config, net = NETS[_architecture(setup)]
        content = json.loads(setup.files["config.json"].read_text(encoding="utf-8"))
        published = configured(config, content, setup.name)
        state = load_file(setup.files["model.safetensors"])
        return cls(setup, filled(net, published, state, getattr(torch, setup.dtype), setup.name))

    @classmethod
    def tiny(cls, setup: Setup, seed: int) -> Dino:
        torch.manual_seed(seed)
        config, net = NETS[_architecture(setup)]
        return cls(setup, net(config(**TINY[_architecture(setup)])))

    @property
    def nbytes(self) -> int:
        return sum(tensor.numel() * tensor.element_size() for tensor in self._net.state_dict().values())

    def trunk(self) -> Trunk:
        return of_dino(copy.deepcopy(self._net).float().cpu(), self._setup.pixels.size)

    def tuned(self, change: Callable[[Trunk], None]) -> Dino:
        net = copy.deepcopy(self._net).float().cpu()
        change(of_dino(net, self._setup.pixels.size))
        return Dino(self._setup, net)

    def prepare(self, image: NDArray[np.uint8]) -> geometry.View:
        return geometry.view(image, self._setup.pixels)

    def encode(self, batch: Array) -> dict[str, Array]:
        """(B, 3, H, W) to (B, F)."""
        with torch.inference_mode():
            pixels = torch.from_numpy(batch).to(self._device, self._dtype)
            features: Array = self._net(pixel_values=pixels).pooler_output.float().cpu().numpy()  # (B, F)
        return {"features": features}

    def patches(self, batch: Array) -> dict[str, Array]:
        """(B, 3, H, W) to patch tokens after the last layer norm (B, h, w, F)."""
        patch = getattr(self._net.config, "patch_size", _CONVNEXT_STRIDE)
        with torch.inference_mode():
            found = self._net(pixel_values=torch.from_numpy(batch).to(self._device, self._dtype))
            maps = patch_maps.of_tokens(found.last_hidden_state, (batch.shape[2], batch.shape[3]), patch)
            patches, features = (one.float().cpu().contiguous().numpy() for one in (maps, found.pooler_output))
        return {"patches": patches, "features": features}

    def embed(self, states: Sequence[Encoded | Text], ask: Embed) -> list[Embedding]:
        if any(isinstance(state, Text) for state in states):
            raise Unsupported(f"{self._setup.name} has no text tower: it embeds pictures only")
        rows = np.stack([state.features for state in states if isinstance(state, Encoded)])  # (B, F)
        return [Embedding(row, ask.space) for row in (pairing.unit(rows) if ask.space == "image" else rows)]


def _architecture(setup: Setup) -> str:
    return setup.kind.partition("-")[0]
