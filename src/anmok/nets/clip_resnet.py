"""CLIP's ResNet image towers, and its checkpoint's text tower under transformers' names.

Architecture: A. Radford et al., "Learning Transferable Visual Models From Natural Language Supervision"
(ICML 2021, arXiv:2103.00020), section 2.4; github.com/openai/CLIP, ``clip/model.py`` (MIT). Modules carry
the names of that checkpoint's ``visual.*``. A ResNet but for: a stem of three convolutions and an average
pool; strides that average before they drop (anti-aliasing); and attention instead of the last average pool.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from anmok.errors import BadRequest, BadWeights

EXPANSION = 4  # a bottleneck's output channels over its inner ones
HEAD_WIDTH = 64  # channels of one attention head


@dataclass(frozen=True)
class Config:
    """``depths`` are the blocks of the four stages, ``width`` the channels of the stem's last convolution,
    ``resolution`` the side of the images in pixels (a multiple of 32), ``dimension`` the embedding's
    length."""

    depths: tuple[int, int, int, int]
    width: int
    resolution: int
    dimension: int


RN50 = Config(depths=(3, 4, 6, 3), width=64, resolution=224, dimension=1024)
RN101 = Config(depths=(3, 4, 23, 3), width=64, resolution=224, dimension=512)
RN50X4 = Config(depths=(4, 6, 10, 6), width=80, resolution=288, dimension=640)
RN50X16 = Config(depths=(6, 8, 18, 8), width=96, resolution=384, dimension=768)
RN50X64 = Config(depths=(3, 15, 36, 10), width=128, resolution=448, dimension=1024)
TINY = Config(depths=(2, 1, 1, 1), width=4, resolution=64, dimension=16)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1; a stride averages after the 3x3 and before the shortcut's 1x1."""

    def __init__(self, inputs: int, inner: int, stride: int) -> None:
        super().__init__()
        outputs = inner * EXPANSION
        self.stride = stride
        self.conv1 = nn.Conv2d(inputs, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        is_same = stride == 1 and inputs == outputs
        self.downsample = (
            None if is_same else nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
        )

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu_(self.bn1(self.conv1(x)))  # (B, inner, H, W)
        y = functional.relu_(self.bn2(self.conv2(y)))  # (B, inner, H, W)
        y = self.bn3(self.conv3(self._pooled(y)))  # (B, outputs, H/s, W/s)
        if self.downsample is not None:
            x = self.downsample(self._pooled(x))  # (B, outputs, H/s, W/s)
        return functional.relu_(y.add_(x))

    def _pooled(self, x: Tensor) -> Tensor:
        return x if self.stride == 1 else functional.avg_pool2d(x, self.stride)  # (B, C, H/s, W/s)


class AttentionPool2d(nn.Module):
    """The mean of the map asks the map and itself; the answer is the embedding."""

    def __init__(self, side: int, width: int, heads: int, dimension: int) -> None:
        super().__init__()
        self.heads = heads
        self.positional_embedding = nn.Parameter(torch.randn(side**2 + 1, width) / width**0.5)
        self.k_proj = nn.Linear(width, width)
        self.q_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.c_proj = nn.Linear(width, dimension)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(2).transpose(1, 2)  # (B, h*w, D)
        x = torch.cat([x.mean(1, keepdim=True), x], dim=1)  # (B, 1 + h*w, D)
        x = x + self.positional_embedding
        q = self._split(self.q_proj(x[:, :1]))  # (B, heads, 1, D/heads)
        k = self._split(self.k_proj(x))  # (B, heads, 1 + h*w, D/heads)
        v = self._split(self.v_proj(x))  # (B, heads, 1 + h*w, D/heads)
        x = functional.scaled_dot_product_attention(q, k, v)  # (B, heads, 1, D/heads)
        y: Tensor = self.c_proj(x.flatten(1))  # (B, dimension)
        return y

    def _split(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)  # (B, heads, T, D/heads)


class ClipResNet(nn.Module):
    """Images (B, 3, resolution, resolution) -> embeddings (B, dimension), not normalised."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.conv1 = nn.Conv2d(3, width // 2, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width // 2)
        self.conv2 = nn.Conv2d(width // 2, width // 2, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width // 2)
        self.conv3 = nn.Conv2d(width // 2, width, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.layer1 = _stage(width, width, config.depths[0], stride=1)
        self.layer2 = _stage(4 * width, 2 * width, config.depths[1], stride=2)
        self.layer3 = _stage(8 * width, 4 * width, config.depths[2], stride=2)
        self.layer4 = _stage(16 * width, 8 * width, config.depths[3], stride=2)
        channels = 32 * width
        self.attnpool = AttentionPool2d(config.resolution // 32, channels, channels // HEAD_WIDTH, config.dimension)

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, 3, resolution, resolution) -> (B, dimension).

        Raises ``BadRequest`` for another size: the positions of the attention pool are learned for this one.
        """
        side = self.config.resolution
        if x.shape[-2:] != (side, side):
            raise BadRequest(
                f"images of {x.shape[-2]} x {x.shape[-1]} pixels, where this tower reads {side} x {side}: resize them"
            )
        x = functional.relu_(self.bn1(self.conv1(x)))  # (B, width/2, H/2, W/2)
        x = functional.relu_(self.bn2(self.conv2(x)))  # (B, width/2, H/2, W/2)
        x = functional.relu_(self.bn3(self.conv3(x)))  # (B, width, H/2, W/2)
        x = functional.avg_pool2d(x, 2)  # (B, width, H/4, W/4)
        x = self.layer1(x)  # (B, 4*width, H/4, W/4)
        x = self.layer2(x)  # (B, 8*width, H/8, W/8)
        x = self.layer3(x)  # (B, 16*width, H/16, W/16)
        x = self.layer4(x)  # (B, 32*width, H/32, W/32)
        y: Tensor = self.attnpool(x)  # (B, dimension)
        return y


def _stage(inputs: int, inner: int, depth: int, stride: int) -> nn.Sequential:
    first = Bottleneck(inputs, inner, stride)
    return nn.Sequential(first, *(Bottleneck(inner * EXPANSION, inner, stride=1) for _ in range(depth - 1)))


_TEXT = {
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
}
_TEXT_LAYER = {
    "ln_1": "layer_norm1",
    "attn.out_proj": "self_attn.out_proj",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_NO_TOWER = ("logit_scale", "input_resolution", "context_length", "vocab_size")


def split_openai_state(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """An OpenAI CLIP state dict -> the image tower's and the text tower's.

    The first is everything under ``visual.``, without that prefix. The second has the names of
    transformers' ``CLIPTextModelWithProjection`` (5.x): the joint query, key and value projection is split
    in three, and the text projection, stored for ``x @ w``, is transposed for a linear layer.
    ``logit_scale``, which belongs to neither tower, and the three sizes that are stored beside the weights
    are left out.

    Raises ``BadWeights`` for a name that such a checkpoint does not have.
    """
    visual: dict[str, Tensor] = {}
    text: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if name.startswith("visual."):
            visual[name.removeprefix("visual.")] = tensor
        elif name not in _NO_TOWER:
            text |= _text_entries(name, tensor)
    return visual, text


def _text_entries(name: str, tensor: Tensor) -> dict[str, Tensor]:
    if name == "text_projection":
        return {"text_projection.weight": tensor.T.contiguous()}  # (dimension, width)
    if name in _TEXT:
        return {_TEXT[name]: tensor}
    parts = name.split(".")
    if parts[:2] == ["transformer", "resblocks"]:
        prefix = f"text_model.encoder.layers.{parts[2]}."
        module, kind = ".".join(parts[3:-1]), parts[-1]
        if module in _TEXT_LAYER:
            return {f"{prefix}{_TEXT_LAYER[module]}.{kind}": tensor}
        if module == "attn" and kind in ("in_proj_weight", "in_proj_bias"):
            end = kind.removeprefix("in_proj_")
            thirds = zip("qkv", tensor.chunk(3), strict=True)  # 3 x (width, width) or 3 x (width,)
            return {f"{prefix}self_attn.{letter}_proj.{end}": third.clone() for letter, third in thirds}
    raise BadWeights(f"{name!r} is no name of an OpenAI CLIP checkpoint: convert the original file")
