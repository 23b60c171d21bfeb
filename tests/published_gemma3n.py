"""Gemma 3n at toy size beside transformers' own net: the same tensors under the names of the hub, our tower handed to
it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from torch import Tensor, nn
from transformers import Gemma3nConfig, Gemma3nForConditionalGeneration
from transformers.models.gemma3n import modeling_gemma3n

from anmok.nets import gemma3n, toys
from anmok.nets.families import family_of
from anmok.nets.mobilenet_v5 import PLANS, MobileNetV5

KIND = "gemma3n"


class Handed(nn.Module):
    """Our tower as transformers calls its own."""

    def __init__(self) -> None:
        super().__init__()
        self.timm_model = MobileNetV5(PLANS["toy"])

    def forward(self, pixel_values: Tensor, **_: Any) -> Any:
        return SimpleNamespace(last_hidden_state=self.timm_model(pixel_values))


def content() -> tuple[dict[str, Any], dict[str, Any]]:
    """The toy's ``config.json`` and ``preprocessor_config.json``."""
    toy = toys.toy(KIND, family_of(KIND, KIND), 0)
    net: Any = toy.net
    told, facts = gemma3n._toy(net.config.vocab_size, min(toy.ends))
    return dict(told), dict(facts)


def published(net: Any) -> dict[str, Tensor]:
    """The toy's tensors under the names of the hub."""
    state = {f"model.language_model.{k.removeprefix('model.')}": v for k, v in net.reader.state_dict().items()}
    state.pop("model.language_model.lm_head.weight")
    for name, tensor in net.sight.state_dict().items():
        state[f"model.{name.replace('tower.', 'vision_tower.timm_model.', 1)}"] = tensor
    state |= {f"model.audio_tower.{name}": tensor for name, tensor in net.ear.state_dict().items()}
    return {name: tensor.clone() for name, tensor in state.items()}


def their_net(ours: Any, sound: int, monkeypatch: pytest.MonkeyPatch) -> Any:
    """transformers' net of the tensors of ours. ``sound`` is the id of the token that stands for sounds."""
    told, _ = content()
    made = modeling_gemma3n.AutoModel.from_config

    def of(config: Any) -> Any:
        return Handed() if config.model_type == "gemma3n_vision" else made(config)

    monkeypatch.setattr(modeling_gemma3n, "AutoModel", SimpleNamespace(from_config=of))
    config = Gemma3nConfig(
        text_config=told["text_config"],
        vision_config=modeling_gemma3n.Gemma3nVisionConfig(**told["vision_config"]),
        audio_config=told["audio_config"],
        audio_soft_tokens_per_image=told["audio_soft_tokens_per_image"],
        vision_soft_tokens_per_image=4,
        image_token_id=256,
        audio_token_id=sound,
    )
    net: Any = Gemma3nForConditionalGeneration(config)
    missing, extra = net.load_state_dict(published(ours), strict=False)
    assert (missing, extra) == (["lm_head.weight"], [])
    net.tie_weights()
    return net.eval()
