"""InternVL and LLaVA-Med as their authors have them, written down a second time after the published code.

Source: github.com/OpenGVLab/InternVL (internvl_chat: modeling_intern_vit, modeling_internlm2, modeling_internvl_chat),
github.com/microsoft/LLaVA-Med (llava_arch).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

import tiny_eyes

VISION = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 4,
    "layer_norm_eps": 1e-6,
    "drop_path_rate": 0.1,
    "use_flash_attn": True,
}
SMALL = {**VISION, "norm_type": "layer_norm", "qkv_bias": True, "qk_normalization": False}  # InternViT-300M
LARGE = {**VISION, "norm_type": "rms_norm", "qkv_bias": False, "qk_normalization": True}  # InternViT-6B
READER = {
    "vocab_size": 320,
    "hidden_size": 24,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
    "rope_theta": 1_000_000,
    "tie_word_embeddings": False,
    "bias": False,
    "use_cache": True,
    "max_length": 20,
}
INTERNLM2 = {**READER, "architectures": ["InternLM2ForCausalLM"], "rope_scaling": {"type": "dynamic", "factor": 2.0}}
QWEN2 = {**READER, "architectures": ["Qwen2ForCausalLM"], "use_sliding_window": False}


def chat(vision: dict[str, Any], reader: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A ``config.json`` as published."""
    return {
        "model_type": "internvl_chat",
        "vision_config": vision,
        "llm_config": reader,
        "downsample_ratio": 0.5,
        "dynamic_image_size": True,
        "force_image_size": 16,
        "max_dynamic_patch": 12,
        "min_dynamic_patch": 1,
        "ps_version": "v2",
        "select_layer": -1,
        "use_thumbnail": True,
        **more,
    }


class RMS(nn.Module):
    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(width)), eps

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps))


class VisionAttention(nn.Module):
    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.heads, width = config["num_attention_heads"], config["hidden_size"]
        self.qkv = nn.Linear(width, 3 * width, bias=config["qkv_bias"])
        self.proj = nn.Linear(width, width)
        if config["qk_normalization"]:
            self.q_norm, self.k_norm = RMS(width, config["layer_norm_eps"]), RMS(width, config["layer_norm_eps"])

    def forward(self, x: Tensor) -> Tensor:
        count, length, width = x.shape
        q, k, v = self.qkv(x).reshape(count, length, 3, width).unbind(2)
        if hasattr(self, "q_norm"):
            q, k = self.q_norm(q), self.k_norm(k)
        split = [part.reshape(count, length, self.heads, -1).transpose(1, 2) for part in (q, k, v)]
        mixed = functional.scaled_dot_product_attention(*split).transpose(1, 2).reshape(count, length, width)
        return self.proj(mixed)


class VisionLayer(nn.Module):
    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        width, eps = config["hidden_size"], config["layer_norm_eps"]
        norm = nn.LayerNorm if config["norm_type"] == "layer_norm" else RMS
        self.attn = VisionAttention(config)
        self.mlp = nn.ModuleDict(
            {
                "fc1": nn.Linear(width, config["intermediate_size"]),
                "fc2": nn.Linear(config["intermediate_size"], width),
            }
        )
        self.norm1, self.norm2 = norm(width, eps=eps), norm(width, eps=eps)
        self.ls1, self.ls2 = nn.Parameter(torch.ones(width)), nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x)) * self.ls1
        return x + self.mlp["fc2"](functional.gelu(self.mlp["fc1"](self.norm2(x)))) * self.ls2


class Vision(nn.Module):
    """InternViT."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        width, patch, side = config["hidden_size"], config["patch_size"], config["image_size"] // config["patch_size"]
        embeddings = nn.Module()
        embeddings.class_embedding = nn.Parameter(torch.zeros(1, 1, width))
        embeddings.patch_embedding = nn.Conv2d(3, width, patch, patch)
        embeddings.position_embedding = nn.Parameter(torch.zeros(1, side**2 + 1, width))
        self.embeddings = embeddings
        self.encoder = nn.ModuleDict(
            {"layers": nn.ModuleList(VisionLayer(config) for _ in range(config["num_hidden_layers"]))}
        )

    def forward(self, pixels: Tensor) -> Tensor:
        e: Any = self.embeddings
        x = e.patch_embedding(pixels).flatten(2).transpose(1, 2)
        x = torch.cat([e.class_embedding.expand(len(x), 1, -1), x], 1) + e.position_embedding
        for layer in self.encoder["layers"]:
            x = layer(x)
        return x


class ReaderAttention(nn.Module):
    """InternLM2: in one matrix, for each key its queries, itself, its value."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        width, self.heads, self.keys = (
            config["hidden_size"],
            config["num_attention_heads"],
            config["num_key_value_heads"],
        )
        self.size, self.theta = width // self.heads, config["rope_theta"]
        self.wqkv = nn.Linear(width, (self.heads + 2 * self.keys) * self.size, bias=config["bias"])
        self.wo = nn.Linear(width, width, bias=config["bias"])

    def forward(self, x: Tensor) -> Tensor:
        count, length, width = x.shape
        shared = self.heads // self.keys
        told = self.wqkv(x).reshape(count, length, self.keys, shared + 2, self.size)
        q = told[..., :shared, :].reshape(count, length, self.heads, self.size).transpose(1, 2)
        k, v = told[..., -2, :].transpose(1, 2), told[..., -1, :].transpose(1, 2)
        q, k = self.turned(q), self.turned(k)
        k, v = k.repeat_interleave(shared, 1), v.repeat_interleave(shared, 1)
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.wo(mixed.transpose(1, 2).reshape(count, length, width))

    def turned(self, x: Tensor) -> Tensor:
        speeds = 1 / self.theta ** (torch.arange(0, self.size, 2) / self.size)
        angles = (torch.arange(x.shape[2])[:, None] * speeds).repeat(1, 2)
        left, right = x.chunk(2, -1)
        return x * angles.cos() + torch.cat([-right, left], -1) * angles.sin()


class ReaderLayer(nn.Module):
    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        width, inner = config["hidden_size"], config["intermediate_size"]
        self.attention = ReaderAttention(config)
        self.feed_forward = nn.ModuleDict(
            {
                "w1": nn.Linear(width, inner, bias=False),
                "w3": nn.Linear(width, inner, bias=False),
                "w2": nn.Linear(inner, width, bias=False),
            }
        )
        self.attention_norm, self.ffn_norm = RMS(width, config["rms_norm_eps"]), RMS(width, config["rms_norm_eps"])

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x))
        y, parts = self.ffn_norm(x), self.feed_forward
        return x + parts["w2"](functional.silu(parts["w1"](y)) * parts["w3"](y))


class InternLM2(nn.Module):
    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.model = nn.ModuleDict(
            {
                "tok_embeddings": nn.Embedding(config["vocab_size"], config["hidden_size"]),
                "layers": nn.ModuleList(ReaderLayer(config) for _ in range(config["num_hidden_layers"])),
                "norm": RMS(config["hidden_size"], config["rms_norm_eps"]),
            }
        )
        self.output = nn.Linear(config["hidden_size"], config["vocab_size"], bias=False)

    def get_input_embeddings(self) -> nn.Module:
        return self.model["tok_embeddings"]

    def forward(self, inputs_embeds: Tensor) -> Tensor:
        x = inputs_embeds
        for layer in self.model["layers"]:
            x = layer(x)
        return self.output(self.model["norm"](x))


class Chat(nn.Module):
    """InternVLChatModel: vision_model, mlp1, language_model."""

    def __init__(self, content: dict[str, Any]) -> None:
        super().__init__()
        reader = content["llm_config"]
        self.vision_model = Vision(content["vision_config"])
        if reader["architectures"] == ["InternLM2ForCausalLM"]:
            self.language_model: nn.Module = InternLM2(reader)
        else:
            known = {name: value for name, value in reader.items() if name not in ("bias", "max_length")}
            self.language_model = Qwen2ForCausalLM(Qwen2Config(**known))
        width = content["vision_config"]["hidden_size"] * 4
        self.mlp1 = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, reader["hidden_size"]),
            nn.GELU(),
            nn.Linear(reader["hidden_size"], reader["hidden_size"]),
        )

    def rows(self, pixels: Tensor) -> Tensor:
        x = self.vision_model(pixels)[:, 1:]
        count, length, width = x.shape
        side = int(length**0.5)
        x = x.reshape(count, side, side // 2, width * 2).permute(0, 2, 1, 3)
        x = x.reshape(count, side // 2, side // 2, width * 4).permute(0, 2, 1, 3)
        return self.mlp1(x.reshape(count, -1, width * 4))

    def forward(self, ids: Tensor, pixels: Tensor, image_id: int) -> Tensor:
        embedded: Any = self.language_model.get_input_embeddings()  # type: ignore[operator]
        rows = embedded(ids).clone()
        rows[ids == image_id] = self.rows(pixels).flatten(0, 1)
        told = self.language_model(inputs_embeds=rows)
        return told if isinstance(told, Tensor) else told.logits


MED = {
    "model_type": "llava_mistral",
    "mm_vision_tower": "openai/clip-vit-large-patch14-336",
    "mm_projector_type": "mlp2x_gelu",
    "mm_vision_select_layer": -2,
    "mm_vision_select_feature": "patch",
    "mm_use_im_start_end": False,
    "mm_hidden_size": 16,
    "image_aspect_ratio": "pad",
    **{name: value for name, value in READER.items() if name not in ("bias", "max_length")},
    "sliding_window": None,
}


class Med(nn.Module):
    """LlavaMistralForCausalLM: a Mistral with a tower and a projector in its model."""

    def __init__(self) -> None:
        super().__init__()
        own = {name: value for name, value in MED.items() if not name.startswith(("mm_", "image_", "model_"))}
        self.reader = MistralForCausalLM(MistralConfig(**own))
        self.tower = CLIPVisionModel(CLIPVisionConfig(**tiny_eyes.CLIP_TOWER))
        self.projector = nn.Sequential(nn.Linear(16, 24), nn.GELU(), nn.Linear(24, 24))

    def published(self) -> dict[str, Tensor]:
        """The state dict as the authors' class writes it."""
        tower = {f"model.vision_tower.vision_tower.vision_model.{k}": v for k, v in self.tower.state_dict().items()}
        projector = {f"model.mm_projector.{k}": v for k, v in self.projector.state_dict().items()}
        ids = {"model.vision_tower.vision_tower.vision_model.embeddings.position_ids": torch.arange(17)[None]}
        return {**self.reader.state_dict(), **tower, **projector, **ids}

    def forward(self, before: list[int], after: list[int], pixels: Tensor) -> Tensor:
        told: Any = self.tower(pixels, output_hidden_states=True).hidden_states
        rows = self.projector(told[-2][:, 1:])
        embedded = self.reader.get_input_embeddings()
        parts = [embedded(torch.tensor([before])), rows, embedded(torch.tensor([after]))]
        logits: Tensor = self.reader(inputs_embeds=torch.cat(parts, 1)).logits
        return logits
