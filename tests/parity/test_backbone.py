"""The backbone model file against transformers' classifiers on shared random weights, from files as the hub names them,
and its preprocessing against transformers' own."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image as pillow
from safetensors.torch import save_file
from torch import Tensor, nn

from anmok.catalogue import card
from anmok.errors import BadWeights, Unsupported
from anmok.inputs import Encoded, Text
from anmok.models import backbone
from anmok.tasks import Embed, Setup, TextRules

CARDS = {"vit": "vit-ti16", "resnet": "resnet-18", "mobilevit": "mobilevit-s"}
SIZES: Mapping[str, Mapping[str, Any]] = {
    "vit": {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 96},
    "resnet": {"embedding_size": 8, "hidden_sizes": [8, 16, 24, 40], "depths": [2, 1, 2, 1], "layer_type": "basic"},
    "mobilevit": {
        "hidden_sizes": [16, 24, 32],
        "neck_hidden_sizes": [8, 8, 16, 16, 24, 24, 40],
        "num_attention_heads": 4,
    },
}
# How the published ViT spells what transformers has renamed since: (now, then).
PUBLISHED = (
    (r"^vit\.layers\.", "vit.encoder.layer."),
    (r"attention\.q_proj", "attention.attention.query"),
    (r"attention\.k_proj", "attention.attention.key"),
    (r"attention\.v_proj", "attention.attention.value"),
    (r"attention\.o_proj", "attention.output.dense"),
    (r"mlp\.fc1", "intermediate.dense"),
    (r"mlp\.fc2", "output.dense"),
)


def spelled(state: Mapping[str, Tensor], architecture: str) -> dict[str, Tensor]:
    named = {}
    for key, tensor in state.items():
        for now, then in PUBLISHED if architecture == "vit" else ():
            key = re.sub(now, then, key)
        named[key] = tensor.contiguous()
    return named


def reference(architecture: str) -> nn.Module:
    """The whole classifier of seven classes."""
    found = backbone.NETS[architecture]
    net = found.net(found.config(**SIZES[architecture], num_labels=7))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in (*net.named_parameters(), *net.named_buffers()):
            if tensor.dim() > 1:  # as large as keeps a map's size through any number of layers
                tensor.normal_(0.0, (2 / tensor[0].numel()) ** 0.5, generator=generator)
            elif tensor.dtype == torch.float32:
                middle = 1.0 if name.endswith(("weight", "running_var")) else 0.0
                tensor.uniform_(middle - 0.2, middle + 0.2, generator=generator)
    return net.eval()


def write(folder: Path, architecture: str, net: nn.Module) -> Setup:
    save_file(spelled(net.state_dict(), architecture), folder / "model.safetensors")
    content = {"model_type": architecture, **SIZES[architecture], "id2label": {str(i): str(i) for i in range(7)}}
    (folder / "config.json").write_text(json.dumps(content))
    one = card(CARDS[architecture])
    files = {path.name: path for path in folder.iterdir()}
    return Setup("backbone-test", one.kind, one.pixels, TextRules(), "softmax", (), files=files)


def pictures() -> list[NDArray[np.uint8]]:
    rng = np.random.default_rng(3)
    return [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in ((112, 112), (300, 333), (200, 70), (1, 1))]


@pytest.mark.parametrize("architecture", list(backbone.NETS))
def test_features_equal_what_transformers_gives_its_classifier(architecture: str, tmp_path: Path) -> None:
    net: Any = reference(architecture)
    model = backbone.Backbone.from_files(write(tmp_path, architecture, net))
    seen = np.stack([model.prepare(image).pixels for image in pictures()])  # (4, 3, H, W)
    with torch.inference_mode():
        # Blue first, as the published processor of MobileViT hands it over.
        pixels = torch.from_numpy(seen).flip(1) if architecture == "mobilevit" else torch.from_numpy(seen)
        wanted = net(pixel_values=pixels).logits.numpy()
    got = model.encode(seen)["features"]
    last = next(layer for layer in net.classifier.modules() if isinstance(layer, nn.Linear))
    logits = got @ last.weight.detach().numpy().T + last.bias.detach().numpy()
    scale = np.abs(wanted).max()
    assert np.std(wanted, axis=0).max() > 1e-3 * scale  # the weights do tell the pictures apart
    np.testing.assert_allclose(logits, wanted, rtol=0, atol=1e-5 * scale)
    states = [Encoded("", {"features": row}) for row in got]
    plain = np.stack([one.vector for one in model.embed(states, Embed("features"))])
    np.testing.assert_array_equal(plain, got)
    unit = np.stack([one.vector for one in model.embed(states, Embed())])
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, rtol=0, atol=1e-6)


def theirs(architecture: str, image: pillow.Image) -> NDArray[np.float32]:
    from transformers.models.convnext.image_processing_pil_convnext import ConvNextImageProcessorPil
    from transformers.models.mobilevit.image_processing_pil_mobilevit import MobileViTImageProcessorPil
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    # What the three repositories' preprocessor_config.json say.
    half, mean, std = [0.5] * 3, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    made: dict[str, Any] = {
        "vit": lambda: ViTImageProcessorPil(size={"height": 224, "width": 224}, image_mean=half, image_std=half),
        "resnet": lambda: ConvNextImageProcessorPil(
            size={"shortest_edge": 224}, crop_pct=0.875, resample=3, image_mean=mean, image_std=std
        ),
        "mobilevit": lambda: MobileViTImageProcessorPil(
            size={"shortest_edge": 288}, crop_size={"height": 256, "width": 256}, resample=2
        ),
    }
    pixels: NDArray[np.float32] = made[architecture]()(image, return_tensors="np")["pixel_values"][0]
    return pixels[::-1] if architecture == "mobilevit" else pixels


@pytest.mark.parametrize("architecture", list(backbone.NETS))
@pytest.mark.parametrize("size_hw", [(300, 400), (257, 333), (640, 480)])
def test_pixels_equal_what_transformers_prepares(architecture: str, size_hw: tuple[int, int], tmp_path: Path) -> None:
    model = backbone.Backbone.from_files(write(tmp_path, architecture, reference(architecture)))
    y, x = np.mgrid[0 : size_hw[0], 0 : size_hw[1]]
    smooth = np.stack([x % 256, (x + 2 * y) % 256, (y // 2) % 256], -1).astype(np.uint8)
    wanted = theirs(architecture, pillow.fromarray(smooth))
    got = model.prepare(smooth).pixels
    assert got.shape == wanted.shape
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-5)


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    setup = write(tmp_path, "resnet", reference("resnet"))
    state = spelled(reference("resnet").state_dict(), "resnet")
    state["resnet.embedder.embedder.convolution.weight"] = torch.zeros(8, 3, 3, 3)
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(BadWeights, match="1 of another shape"):
        backbone.Backbone.from_files(setup)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit"}))
    with pytest.raises(BadWeights, match="config.json is of a 'vit', not of a resnet"):
        backbone.Backbone.from_files(setup)


def test_a_text_is_refused(tmp_path: Path) -> None:
    model = backbone.Backbone.from_files(write(tmp_path, "vit", reference("vit")))
    with pytest.raises(Unsupported, match="backbone-test has no text tower"):
        model.embed([Text("a cat")], Embed())
