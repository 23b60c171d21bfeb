"""The dino model file against transformers' nets on shared random weights, from files as the hub names them."""

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
from safetensors.torch import save_file
from torch import Tensor, nn

from anmok.errors import BadWeights, Unsupported
from anmok.geometry import Pixels
from anmok.inputs import Encoded, Text
from anmok.models import dino
from anmok.tasks import Embed, Setup, TextRules

SIZE = 112
# How the published checkpoints spell what transformers has renamed since: (now, then).
PUBLISHED = {
    "dinov2": (
        (r"attention\.q_proj", "attention.attention.query"),
        (r"attention\.k_proj", "attention.attention.key"),
        (r"attention\.v_proj", "attention.attention.value"),
        (r"attention\.o_proj", "attention.output.dense"),
    ),
    "dinov3_vit": ((r"^model\.layer", "layer"),),
    "dinov3_convnext": ((r"^model\.stages", "stages"),),
}
PUBLISHED["dinov2_with_registers"] = PUBLISHED["dinov2"]
SIZES: Mapping[str, Mapping[str, Any]] = {
    "dinov2": {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 196},
    "dinov2_with_registers": {
        "hidden_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": 196,
        "num_register_tokens": 4,
    },
    "dinov3_vit": {
        "hidden_size": 48,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_register_tokens": 4,
    },
    "dinov3_convnext": {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 2, 1]},
}


def spelled(state: Mapping[str, Tensor], architecture: str) -> dict[str, Tensor]:
    named = {}
    for key, tensor in state.items():
        for now, then in PUBLISHED[architecture]:
            key = re.sub(now, then, key)
        named[key] = tensor.contiguous()
    return named


def reference(architecture: str) -> nn.Module:
    config, kind = dino.NETS[architecture]
    net = kind(config(**SIZES[architecture]))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_(0.5 if parameter.dim() == 1 else 0.0, 0.3, generator=generator)
    return nn.Module.eval(net)


def write(folder: Path, architecture: str, net: nn.Module) -> Setup:
    save_file(spelled(net.state_dict(), architecture), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": architecture, **SIZES[architecture]}))
    files = {path.name: path for path in folder.iterdir()}
    pixels = Pixels(SIZE, "squash", "bilinear", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    return Setup("dino-test", f"{architecture}-tiny", pixels, TextRules(), "softmax", (), files=files)


def batch(model: dino.Dino) -> NDArray[np.float32]:
    rng = np.random.default_rng(3)
    sizes = ((112, 112), (61, 83), (200, 70), (1, 1))
    images = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
    return np.stack([model.prepare(image).pixels for image in images])


@pytest.mark.parametrize("architecture", list(dino.NETS))
def test_features_equal_transformers(architecture: str, tmp_path: Path) -> None:
    net = reference(architecture)
    model = dino.Dino.from_files(write(tmp_path, architecture, net))
    seen = batch(model)
    with torch.inference_mode():
        wanted = net(pixel_values=torch.from_numpy(seen)).pooler_output.numpy()
    got = model.encode(seen)["features"]
    assert np.std(wanted, axis=0).max() > 0.05  # the weights do tell the pictures apart
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-5)
    states = [Encoded("", {"features": row}) for row in got]
    plain = np.stack([one.vector for one in model.embed(states, Embed("features"))])
    np.testing.assert_array_equal(plain, got)
    unit = np.stack([one.vector for one in model.embed(states, Embed())])
    np.testing.assert_allclose(unit, got / np.linalg.norm(got, axis=1, keepdims=True), rtol=0, atol=1e-6)


@pytest.mark.parametrize("architecture", ["dinov2", "dinov2_with_registers", "dinov3_vit"])
def test_features_are_the_normalised_class_token(architecture: str, tmp_path: Path) -> None:
    net = reference(architecture)
    model = dino.Dino.from_files(write(tmp_path, architecture, net))
    seen = batch(model)
    with torch.inference_mode():
        tokens = net(pixel_values=torch.from_numpy(seen)).last_hidden_state.numpy()
    np.testing.assert_allclose(model.encode(seen)["features"], tokens[:, 0], rtol=0, atol=1e-5)


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    setup = write(tmp_path, "dinov3_vit", reference("dinov3_vit"))
    state = spelled(reference("dinov3_vit").state_dict(), "dinov3_vit")
    state["embeddings.register_tokens"] = torch.zeros(1, 5, 48)
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(BadWeights, match="1 of another shape .embeddings.register_tokens"):
        dino.Dino.from_files(setup)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "dinov2"}))
    with pytest.raises(BadWeights, match="config.json is of a 'dinov2', not of a dinov3_vit"):
        dino.Dino.from_files(setup)


def test_a_text_is_refused(tmp_path: Path) -> None:
    model = dino.Dino.from_files(write(tmp_path, "dinov2", reference("dinov2")))
    with pytest.raises(Unsupported, match="dino-test has no text tower"):
        model.embed([Text("a cat")], Embed())
