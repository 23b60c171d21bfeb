"""Sapiens (2024): a plain vision transformer for pictures of people, and heads that bring its map back to pixels.

Architecture: R. Khirodkar et al., "Sapiens: Foundation for Human Vision Models" (ECCV 2024, arXiv:2408.12569) and
github.com/facebookresearch/sapiens at 3e829ac; the transformer of K. He et al., "Masked Autoencoders Are Scalable
Vision Learners" (CVPR 2022, arXiv:2111.06377), without a class token. Modules carry the names of the published
checkpoints, but for the head, which is called ``head`` for every task. Inference only: dropout is left out.

Pose and normals were trained with two rows of zeros around the picture (``padding=2``), parts and depth without:
the map has the same size, and every patch sees pixels that lie two further up and left.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from anmok.errors import BadRequest


@dataclass(frozen=True)
class Config:
    """``size_hw`` is that of the pictures, ``patch`` the side of a patch and ``padding`` the zeros on each side, all
    in pixels; ``width`` is D; ``up`` holds the channels of the layers that double the map, ``mix`` those of the
    1 x 1 layers after them, and ``outputs`` is the number of channels at the end."""

    size_hw: tuple[int, int]
    patch: int
    padding: int
    width: int
    depth: int
    heads: int
    up: tuple[int, ...]
    mix: tuple[int, ...]
    outputs: int

    @property
    def grid_hw(self) -> tuple[int, int]:
        """Patches down and across."""
        height, width = ((side + 2 * self.padding - self.patch) // self.patch + 1 for side in self.size_hw)
        return height, width


SIZES: Mapping[str, tuple[int, int, int]] = {  # (width, depth, heads)
    "0.3b": (1024, 24, 16),
    "0.6b": (1280, 32, 16),
    "1b": (1536, 40, 24),
    "2b": (1920, 48, 32),
}
_POSE = ((768,) * 2, (768,) * 2)
_DENSE = ((768,) * 3, (768,) * 3)
HEADS: Mapping[str, tuple[int, tuple[int, ...], tuple[int, ...], int]] = {  # (padding, up, mix, outputs)
    "pose17": (2, *_POSE, 17),
    "pose133": (2, *_POSE, 133),
    "pose308": (2, *_POSE, 308),
    "parts": (0, *_DENSE, 28),
    "depth": (0, (384,) * 4, (384,) * 2, 1),
    "normals": (2, *_DENSE, 3),
}


def published(head: str, size: str) -> Config:
    """The configuration of a published checkpoint: a key of ``HEADS`` and one of ``SIZES``."""
    width, depth, heads = SIZES[size]
    padding, up, mix, outputs = HEADS[head]
    return Config((1024, 768), 16, padding, width, depth, heads, up, mix, outputs)


def toy(head: str) -> Config:
    """The head of a published checkpoint, narrow, over a small transformer and pictures of 64 x 48 pixels."""
    padding, up, mix, outputs = HEADS[head]
    return Config((64, 48), 16, padding, 32, 2, 2, (16,) * len(up), (16,) * len(mix), outputs)


class Attention(nn.Module):
    """Every patch looks at every patch."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.heads = config.heads
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.proj = nn.Linear(config.width, config.width)

    def forward(self, x: Tensor) -> Tensor:
        packed = self.qkv(x).unflatten(-1, (3, self.heads, -1))  # (B, T, 3, heads, D/heads)
        q, k, v = packed.permute(2, 0, 3, 1, 4)  # each (B, heads, T, D/heads)
        x = functional.scaled_dot_product_attention(q, k, v)  # (B, heads, T, D/heads)
        y: Tensor = self.proj(x.transpose(1, 2).flatten(2))  # (B, T, D)
        return y


class FeedForward(nn.Module):
    """Four times as wide, GELU, and back."""

    def __init__(self, width: int) -> None:
        super().__init__()
        widen = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU())
        self.layers = nn.Sequential(widen, nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)  # (B, T, D)
        return y


class Layer(nn.Module):
    """Attention and feed-forward, each on the normalised stream and added to it."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.ln1 = nn.LayerNorm(config.width, eps=1e-6)
        self.attn = Attention(config)
        self.ln2 = nn.LayerNorm(config.width, eps=1e-6)
        self.ffn = FeedForward(config.width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln1(x))
        y: Tensor = x + self.ffn(self.ln2(x))  # (B, T, D)
        return y


class Backbone(nn.Module):
    """Pictures (B, 3, H, W) of the configured size -> a map (B, D, h, w), normalised."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        projection = nn.Conv2d(3, config.width, config.patch, config.patch, config.padding)
        self.patch_embed = nn.ModuleDict({"projection": projection})
        height, width = config.grid_hw
        self.pos_embed = nn.Parameter(torch.zeros(1, height * width, config.width))
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.depth))
        self.ln1 = nn.LayerNorm(config.width, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        if tuple(x.shape[2:]) != self.config.size_hw:
            raise BadRequest(f"this net sees pictures of {self.config.size_hw}, not of {tuple(x.shape[2:])}")
        x = self.patch_embed["projection"](x)  # (B, D, h, w)
        x = x.flatten(2).transpose(1, 2) + self.pos_embed  # (B, T, D)
        for layer in self.layers:
            x = layer(x)  # (B, T, D)
        x = self.ln1(x).transpose(1, 2)  # (B, D, T)
        return x.reshape(*x.shape[:2], *self.config.grid_hw)  # (B, D, h, w)


class Head(nn.Module):
    """A map (B, D, h, w) -> (B, outputs, h * 2**len(up), w * 2**len(up)), without a last activation."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        up: list[nn.Module] = []
        inputs = config.width
        for channels in config.up:
            up += [
                nn.ConvTranspose2d(inputs, channels, 4, 2, 1, bias=False),
                nn.InstanceNorm2d(channels),
                nn.SiLU(inplace=True),
            ]
            inputs = channels
        mix: list[nn.Module] = []
        for channels in config.mix:
            mix += [nn.Conv2d(inputs, channels, 1), nn.InstanceNorm2d(channels), nn.SiLU(inplace=True)]
            inputs = channels
        self.deconv_layers = nn.Sequential(*up)
        self.conv_layers = nn.Sequential(*mix)
        self.final_layer = nn.Conv2d(inputs, config.outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.deconv_layers(x)  # (B, C, 4h, 4w) for pose, 8 for parts and normals, 16 for depth
        y: Tensor = self.final_layer(self.conv_layers(x))  # (B, outputs, ...)
        return y


class Sapiens(nn.Module):
    """Pictures (B, 3, H, W), ImageNet-normalised RGB -> heat maps, class scores, depth or normals, as configured."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.backbone = Backbone(config)
        self.head = Head(config)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.backbone(x))  # (B, outputs, ...)
        return y


_PUBLISHED = (("decode_head.conv_seg.", "head.final_layer."), ("decode_head.", "head."))


def rename(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The published names -> this net's. A name of neither kind is kept, for strict loading to refuse."""
    return {_renamed(name): tensor for name, tensor in state.items()}


def _renamed(name: str) -> str:
    for prefix, ours in _PUBLISHED:
        if name.startswith(prefix):
            return ours + name.removeprefix(prefix)
    return name
