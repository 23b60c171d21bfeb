"""EfficientNet-Lite: features of pictures, and the probabilities of the 1,000 ImageNet classes. The eye of `mini`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from anmok import geometry, pairing
from anmok.errors import BadWeights, Unsupported
from anmok.inputs import Encoded, Text
from anmok.nets import efficientnet_lite, patch_maps
from anmok.nets.trunk import Trunk, of_efficientnet
from anmok.results import Embedding
from anmok.tasks import Embed, Setup

CONFIGS = {"lite0": efficientnet_lite.LITE0, "lite2": efficientnet_lite.LITE2}


class EfficientNet:
    """features: the 1,280 pooled channels, as the published classifier sees them."""

    def __init__(
        self,
        setup: Setup,
        net: efficientnet_lite.EfficientNetLite,
        source: Callable[[], efficientnet_lite.EfficientNetLite],
    ) -> None:
        self._setup = setup
        self._source = source  # the net before folding, made anew for whoever trains it
        # A copy: folding takes the batch norms apart, the classifier's own weights stay as published.
        self.class_weight = net.classifier.weight.detach().numpy().copy()  # (1000, F)
        self.class_bias = net.classifier.bias.detach().numpy().copy()  # (1000,)
        self._device = torch.device(setup.device)
        self._dtype = getattr(torch, setup.dtype)
        folded = efficientnet_lite.fold(net.eval())
        self._net = folded.to(self._device, self._dtype)

    @classmethod
    def from_files(cls, setup: Setup) -> EfficientNet:
        return cls(setup, _published(setup), lambda: _published(setup))

    @classmethod
    def tiny(cls, setup: Setup, seed: int) -> EfficientNet:
        def made() -> efficientnet_lite.EfficientNetLite:
            torch.manual_seed(seed)
            return efficientnet_lite.EfficientNetLite(efficientnet_lite.TINY)

        return cls(setup, made(), made)

    def trunk(self) -> Trunk:
        return of_efficientnet(efficientnet_lite.unfolded(self._source()))

    def tuned(self, change: Callable[[Trunk], None]) -> EfficientNet:
        """The classifier of the 1,000 classes stays as it was published."""
        net = efficientnet_lite.unfolded(self._source())
        change(of_efficientnet(net))
        return EfficientNet(self._setup, net, lambda: net)

    @property
    def nbytes(self) -> int:
        return sum(tensor.numel() * tensor.element_size() for tensor in self._net.state_dict().values())

    def prepare(self, image: NDArray[np.uint8]) -> geometry.View:
        return geometry.view(image, self._setup.pixels)

    def encode(self, batch: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """(B, 3, H, W) to (B, F)."""
        with torch.inference_mode():
            pixels = torch.from_numpy(batch).to(self._device, self._dtype)
            features: NDArray[np.float32] = self._net.features(pixels).float().cpu().numpy()
        return {"features": features}

    def patches(self, batch: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """(B, 3, H, W) to patches of two middle stages (B, H/8, W/8, C), and the last map."""
        with torch.inference_mode():
            pixels = torch.from_numpy(batch).to(self._device, self._dtype)
            maps = patch_maps.of_efficientnet(self._net, pixels)  # (B, h, w, C), (B, H/32, W/32, F)
        patches, cells = (one.float().cpu().contiguous().numpy() for one in maps)
        return {"patches": patches, "cells": cells, "features": cells.mean((1, 2))}

    def embed(self, states: Sequence[Encoded | Text], ask: Embed) -> list[Embedding]:
        if any(isinstance(state, Text) for state in states):
            raise Unsupported(f"{self._setup.name} has no text tower: it embeds pictures only")
        rows = np.stack([state.features for state in states if isinstance(state, Encoded)])  # (B, F)
        if ask.space == "image":
            rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
        return [Embedding(row, ask.space) for row in rows]

    def probabilities(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """features (N, F) to the chances of the ImageNet classes (N, 1000)."""
        logits = pairing.product(features, self.class_weight.T) + self.class_bias
        raised = np.exp(logits - logits.max(1, keepdims=True))
        return np.asarray(raised / raised.sum(1, keepdims=True), np.float32)


def _published(setup: Setup) -> efficientnet_lite.EfficientNetLite:
    net = efficientnet_lite.EfficientNetLite(CONFIGS[setup.kind])
    state = efficientnet_lite.rename(load_file(setup.files["weights.safetensors"]))
    try:
        net.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise BadWeights(f"{setup.name}: the weights do not fit the net ({error})") from None
    return net
