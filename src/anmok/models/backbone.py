"""Small ImageNet classifiers without their last layer: ViT-Ti, ResNet-18, MobileViT.

Source: Dosovitskiy et al., "An Image is Worth 16x16 Words" (ICLR 2021, arXiv:2010.11929); He et al., "Deep Residual
Learning for Image Recognition" (CVPR 2016, arXiv:1512.03385); Mehta and Rastegari, "MobileViT: Light-weight,
General-purpose, and Mobile-friendly Vision Transformer" (ICLR 2022, arXiv:2110.02178).
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import nn
from transformers import (
    MobileViTConfig,
    MobileViTForImageClassification,
    PreTrainedConfig,
    PreTrainedModel,
    ResNetConfig,
    ResNetForImageClassification,
    ViTConfig,
    ViTForImageClassification,
)

from anmok import geometry, pairing
from anmok.errors import Unsupported
from anmok.inputs import Encoded, Text
from anmok.nets import trunk
from anmok.nets.pretrained import configured, filled
from anmok.nets.trunk import Trunk
from anmok.results import Embedding
from anmok.tasks import Embed, Setup

Array = NDArray[np.float32]


class Architecture(NamedTuple):
    """``net`` is the classifier as published, of which the tower called ``tower`` is kept; ``trunk`` reads its
    features out."""

    config: type[PreTrainedConfig]
    net: type[PreTrainedModel]
    tower: str
    trunk: Callable[[nn.Module], Trunk]


# By the first word of a card's kind, which is the ``model_type`` of its config.json.
NETS: Mapping[str, Architecture] = {
    "vit": Architecture(ViTConfig, ViTForImageClassification, "vit", trunk.of_vit),
    "resnet": Architecture(ResNetConfig, ResNetForImageClassification, "resnet", trunk.of_resnet),
    "mobilevit": Architecture(MobileViTConfig, MobileViTForImageClassification, "mobilevit", trunk.of_mobilevit),
}
TINY: Mapping[str, Mapping[str, Any]] = {
    "vit": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64},
    "resnet": {"embedding_size": 8, "hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1], "layer_type": "basic"},
    "mobilevit": {
        "hidden_sizes": [8, 12, 16],
        "neck_hidden_sizes": [8, 8, 8, 12, 16, 16, 32],
        "num_attention_heads": 2,
        "hidden_dropout_prob": 0.0,
        "initializer_range": 0.2,  # through so many thin layers the usual 0.02 would carry nothing
    },
}


class Backbone:
    """features: the class token of a ViT after its last layer norm; of the others the mean of the last map."""

    def __init__(self, setup: Setup, tower: nn.Module) -> None:
        self._setup = setup
        self._device = torch.device(setup.device)
        self._dtype = getattr(torch, setup.dtype)
        self._tower = tower.eval().requires_grad_(False)
        self._net = self._chained(copy.deepcopy(tower)).to(self._device, self._dtype)

    @classmethod
    def from_files(cls, setup: Setup) -> Backbone:
        found = NETS[_architecture(setup)]
        content = json.loads(setup.files["config.json"].read_text(encoding="utf-8"))
        published = configured(found.config, content, setup.name)
        state = load_file(setup.files["model.safetensors"])
        whole = filled(found.net, published, state, torch.float32, setup.name)
        return cls(setup, getattr(whole, found.tower))

    @classmethod
    def tiny(cls, setup: Setup, seed: int) -> Backbone:
        torch.manual_seed(seed)
        found = NETS[_architecture(setup)]
        net = found.net(found.config(**TINY[_architecture(setup)]))
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():  # MobileViT's begin near zero
            for module in net.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.weight.uniform_(0.8, 1.2, generator=generator)
        return cls(setup, getattr(net, found.tower))

    @property
    def nbytes(self) -> int:
        return sum(tensor.numel() * tensor.element_size() for tensor in self._net.state_dict().values())

    def trunk(self) -> Trunk:
        return self._chained(copy.deepcopy(self._tower))

    def tuned(self, change: Callable[[Trunk], None]) -> Backbone:
        tower = copy.deepcopy(self._tower)
        change(self._chained(tower))
        return Backbone(self._setup, tower)

    def prepare(self, image: NDArray[np.uint8]) -> geometry.View:
        return geometry.view(image, self._setup.pixels)

    def encode(self, batch: Array) -> dict[str, Array]:
        """(B, 3, H, W) to (B, F)."""
        with torch.inference_mode():
            pixels = torch.from_numpy(batch).to(self._device, self._dtype)
            features: Array = self._net(pixels).float().cpu().numpy()  # (B, F)
        return {"features": features}

    def embed(self, states: Sequence[Encoded | Text], ask: Embed) -> list[Embedding]:
        if any(isinstance(state, Text) for state in states):
            raise Unsupported(f"{self._setup.name} has no text tower: it embeds pictures only")
        rows = np.stack([state.features for state in states if isinstance(state, Encoded)])  # (B, F)
        return [Embedding(row, ask.space) for row in (pairing.unit(rows) if ask.space == "image" else rows)]

    def _chained(self, tower: nn.Module) -> Trunk:
        """The stages of that very tower: what changes them changes it."""
        return NETS[_architecture(self._setup)].trunk(tower)


def _architecture(setup: Setup) -> str:
    return setup.kind.partition("-")[0]
