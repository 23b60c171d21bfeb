"""BEATs: a transformer that hears, here for its tokens.

Architecture: S. Chen et al., "BEATs: Audio Pre-Training with Acoustic Tokenizers" (ICML 2023, arXiv:2212.09058;
github.com/microsoft/unilm/tree/master/beats), as VideoLLaMA2.1-AV carries it. Modules carry the names of the published
checkpoints; the classifier of 527 sounds is left out.

The net sees a filterbank as a picture of 16 x 16 patches, time going down. Places count twice: by a convolution over
all tokens, and by a table of distances, the same for all layers, whose weight each query sets for itself.
"""

from __future__ import annotations

import math
import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

MEAN, STD = 15.41663, 6.55582  # of filterbanks
PATCH: Final = 16
_NEAR_ZERO: Final = 1e-6
_GATES: Final = 8  # two gates, four values added up to each
_SHARED: Final = re.compile(r"^encoder\.layers\.(?!0\.)\d+\.self_attn\.relative_attention_bias\.")


@dataclass(frozen=True)
class Config:
    """``patch`` is the width of a patch's first embedding, ``kernel`` and ``groups`` are the convolution's over places;
    ``buckets`` hold distances up to ``farthest``."""

    width: int = 768
    inner: int = 3072
    depth: int = 12
    heads: int = 12
    patch: int = 512
    kernel: int = 128
    groups: int = 16
    buckets: int = 320
    farthest: int = 800


class PlaceConv(nn.Module):
    """A convolution over places, its weight stored as a length for each place and a direction."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.groups, self.padding = config.groups, config.kernel // 2
        self.weight_g = nn.Parameter(torch.ones(1, 1, config.kernel))
        self.weight_v = nn.Parameter(torch.randn(config.width, config.width // config.groups, config.kernel))
        self.bias = nn.Parameter(torch.zeros(config.width))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, L) to (B, C, L)."""
        squares = self.weight_v.float().square().sum((0, 1), keepdim=True)  # (1, 1, K)
        weight = self.weight_g * (self.weight_v * torch.rsqrt(squares + _NEAR_ZERO)).to(self.weight_v.dtype)
        y = functional.conv1d(x, weight, self.bias, padding=self.padding, groups=self.groups)
        return y[..., : x.shape[-1]]  # an even kernel gives one more


class Attention(nn.Module):
    """Of each token to all, with a bias by distance; the first layer's table is everybody's."""

    def __init__(self, config: Config, is_first: bool) -> None:
        super().__init__()
        self.heads = config.heads
        self.k_proj = nn.Linear(config.width, config.width)
        self.v_proj = nn.Linear(config.width, config.width)
        self.q_proj = nn.Linear(config.width, config.width)
        self.out_proj = nn.Linear(config.width, config.width)
        self.grep_linear = nn.Linear(config.width // config.heads, _GATES)
        self.grep_a = nn.Parameter(torch.ones(1, config.heads, 1, 1))
        if is_first:
            self.relative_attention_bias = nn.Embedding(config.buckets, config.heads)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """(B, L, C) and the bias (heads, L, L) to (B, L, C)."""
        q, k, v = (self._split(layer(x)) for layer in (self.q_proj, self.k_proj, self.v_proj))  # (B, H, L, c)
        gates = self.grep_linear(q).reshape(*q.shape[:3], 2, _GATES // 2).sum(-1).sigmoid()  # (B, H, L, 2)
        weight = gates[..., :1] * (gates[..., 1:] * self.grep_a - 1) + 2  # (B, H, L, 1)
        y = functional.scaled_dot_product_attention(q, k, v, attn_mask=weight * bias)  # (B, H, L, c)
        z: Tensor = self.out_proj(y.transpose(1, 2).flatten(2))  # (B, L, C)
        return z

    def _split(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:2], self.heads, -1).transpose(1, 2)  # (B, H, L, c)


class Layer(nn.Module):
    """Norms come after; what went in is weighed by the depth (DeepNorm)."""

    def __init__(self, config: Config, is_first: bool) -> None:
        super().__init__()
        self.kept = (2 * config.depth) ** 0.25
        self.self_attn = Attention(config, is_first)
        self.self_attn_layer_norm = nn.LayerNorm(config.width)
        self.fc1 = nn.Linear(config.width, config.inner)
        self.fc2 = nn.Linear(config.inner, config.width)
        self.final_layer_norm = nn.LayerNorm(config.width)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        x = self.self_attn_layer_norm(self.kept * x + self.self_attn(x, bias))  # (B, L, C)
        inner = self.fc2(functional.gelu(self.fc1(x)))
        y: Tensor = self.final_layer_norm(self.kept * x + inner)  # (B, L, C)
        return y


class Encoder(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.pos_conv = nn.Sequential(OrderedDict({"0": PlaceConv(config)}))
        self.layers = nn.ModuleList(Layer(config, is_first=not index) for index in range(config.depth))
        self.layer_norm = nn.LayerNorm(config.width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, C) to (B, L, C)."""
        placed = functional.gelu(self.pos_conv(x.transpose(1, 2))).transpose(1, 2)  # (B, L, C)
        x = self.layer_norm(x + placed)
        table: Tensor = self.layers[0].self_attn.relative_attention_bias.weight  # type: ignore[union-attr, assignment]
        bias = table[buckets(x.shape[1], self.config).to(table.device)].permute(2, 0, 1)  # (H, L, L)
        for layer in self.layers:
            x = layer(x, bias)
        return x


class Beats(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.post_extract_proj = nn.Linear(config.patch, config.width)
        self.patch_embedding = nn.Conv2d(1, config.patch, PATCH, PATCH, bias=False)
        self.encoder = Encoder(config)
        self.layer_norm = nn.LayerNorm(config.patch)

    def forward(self, banks: Tensor) -> Tensor:
        """Filterbanks (B, T, bands) to tokens (B, L, C), the bands of each 16 windows side by side."""
        shares = ((banks - MEAN) / (2 * STD)).to(self.layer_norm.weight.dtype)
        patches = self.patch_embedding(shares[:, None]).flatten(2).transpose(1, 2)  # (B, L, patch)
        tokens: Tensor = self.encoder(self.post_extract_proj(self.layer_norm(patches)))  # (B, L, C)
        return tokens


def buckets(length: int, config: Config) -> Tensor:
    """Which row of the table each distance has, int64 (L, L): near ones each their own, far ones by their logarithm;
    those ahead in the second half."""
    half = config.buckets // 2
    exact = half // 2
    places = torch.arange(length)
    ahead = places[None, :] - places[:, None]  # (L, L)
    distance = ahead.abs()
    scale = (half - exact) / math.log(config.farthest / exact)
    far = exact + (torch.log(distance.clamp(min=1).float() / exact) * scale).long()  # (L, L)
    found = torch.where(distance < exact, distance, far.clamp(max=half - 1))
    return found + (ahead > 0) * half


def kept(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Of a published checkpoint's tensors those that ``Beats`` has: the table of distances once, no classifier."""
    return {key: one for key, one in state.items() if not (_SHARED.match(key) or key.startswith("predictor."))}
