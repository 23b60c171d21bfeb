"""EfficientNet-Lite: features of pictures, and the probabilities of the 1,000 ImageNet classes. The eye of `mini`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from anmok import geometry, pairing
from anmok.errors import BadWeights, Unsupported
from anmok.inputs import Encoded, Text
from anmok.nets import efficientnet_lite
from anmok.results import Embedding
from anmok.tasks import Embed, Setup

CONFIGS = {"lite2": efficientnet_lite.LITE2}


class EfficientNet:
    """features: the 1,280 pooled channels, as the published classifier sees them."""

    def __init__(self, setup: Setup, net: efficientnet_lite.EfficientNetLite) -> None:
        self._setup = setup
        # A copy: folding takes the batch norms apart, the classifier's own weights stay as published.
        self.class_weight = net.classifier.weight.detach().numpy().copy()  # (1000, F)
        self.class_bias = net.classifier.bias.detach().numpy().copy()  # (1000,)
        self._device = torch.device(setup.device)
        self._dtype = getattr(torch, setup.dtype)
        folded = efficientnet_lite.fold(net.eval())
        self._net = folded.to(self._device, self._dtype)

    @classmethod
    def from_files(cls, setup: Setup) -> EfficientNet:
        net = efficientnet_lite.EfficientNetLite(CONFIGS[setup.kind])
        state = efficientnet_lite.rename(load_file(setup.files["weights.safetensors"]))
        try:
            net.load_state_dict(state, strict=True)
        except RuntimeError as error:
            raise BadWeights(f"{setup.name}: the weights do not fit the net ({error})") from None
        return cls(setup, net)

    @classmethod
    def tiny(cls, setup: Setup, seed: int) -> EfficientNet:
        torch.manual_seed(seed)
        return cls(setup, efficientnet_lite.EfficientNetLite(efficientnet_lite.TINY))

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
