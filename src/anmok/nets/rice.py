"""RICE-ViT, the tower of LLaVA-OneVision 1.5: pictures of any shape, each patch told its line and column.

Source: Xie et al., "Region-based Cluster Discrimination for Visual Representation Learning" (ICCV 2025,
arXiv:2507.20025), and the code that lmms-lab publishes with LLaVA-OneVision-1.5 (``modeling_llavaonevision1_5``). Names
and sums are that code's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

_TURNS = 10_000.0
_EPS = 1e-5  # of the layers' norms, whatever the configuration says


@dataclass(frozen=True, slots=True)
class Sizes:
    """``merge`` x ``merge`` patches become one row of ``outputs``."""

    width: int = 1024
    inner: int = 4096
    depth: int = 24
    heads: int = 16
    patch: int = 14
    merge: int = 2
    outputs: int = 2560
    eps: float = 1e-5

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Sizes:
        """What the tower's part of a ``config.json`` says; what it leaves out is as published with the 4B."""
        names = {
            "width": "hidden_size",
            "inner": "intermediate_size",
            "depth": "depth",
            "heads": "num_heads",
            "patch": "patch_size",
            "merge": "spatial_merge_size",
            "outputs": "text_hidden_size",
            "eps": "layer_norm_eps",
        }
        return cls(**{ours: content[theirs] for ours, theirs in names.items() if content.get(theirs) is not None})


class Patches(nn.Module):
    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, sizes.width, sizes.patch, sizes.patch, bias=False)

    def forward(self, patches: Tensor) -> Tensor:
        """(B, P, 3 * patch * patch) to (B, P, C)."""
        return functional.linear(patches.to(self.proj.weight.dtype), self.proj.weight.flatten(1))


class Attention(nn.Module):
    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self._heads = sizes.heads
        self.qkv, self.proj = nn.Linear(sizes.width, 3 * sizes.width), nn.Linear(sizes.width, sizes.width)

    def forward(self, rows: Tensor, turns: Tensor) -> Tensor:
        """Rows (B, N, C) at angles (N, d / 2)."""
        parts = self.qkv(rows).unflatten(-1, (3, self._heads, -1))  # (B, N, 3, H, d)
        asked, keys, values = parts.permute(2, 0, 3, 1, 4)  # (B, H, N, d) each
        told = functional.scaled_dot_product_attention(turned(asked, turns), turned(keys, turns), values)
        made: Tensor = self.proj(told.transpose(1, 2).flatten(2))  # (B, N, C)
        return made


class Widened(nn.Module):
    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(sizes.width, sizes.inner), nn.Linear(sizes.inner, sizes.width)

    def forward(self, rows: Tensor) -> Tensor:
        made: Tensor = self.fc2(functional.gelu(self.fc1(rows)))
        return made


class Layer(nn.Module):
    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(sizes.width, _EPS), nn.LayerNorm(sizes.width, _EPS)
        self.attn, self.mlp = Attention(sizes), Widened(sizes)

    def forward(self, rows: Tensor, turns: Tensor) -> Tensor:
        rows = rows + self.attn(self.norm1(rows), turns)
        made: Tensor = rows + self.mlp(self.norm2(rows))
        return made


class Merger(nn.Module):
    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self._merged = sizes.width * sizes.merge**2
        self.ln_q = nn.LayerNorm(sizes.width, sizes.eps)
        self.mlp = nn.Sequential(
            nn.Linear(self._merged, self._merged), nn.GELU(), nn.Linear(self._merged, sizes.outputs)
        )

    def forward(self, rows: Tensor) -> Tensor:
        """(B, P, C) to (B, P / merge ** 2, outputs), those of one token being beside each other."""
        made: Tensor = self.mlp(self.ln_q(rows).reshape(len(rows), -1, self._merged))
        return made


class Rice(nn.Module):
    """The tower, filled at random."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = sizes
        half = sizes.width // sizes.heads // 2
        self.patch_embed = Patches(sizes)
        self.class_embedding = nn.Parameter(torch.zeros(sizes.width))
        self.class_pos_emb = nn.Parameter(torch.zeros(1, half))
        self.pre_layernorm = nn.LayerNorm(sizes.width, sizes.eps)
        self.blocks = nn.ModuleList(Layer(sizes) for _ in range(sizes.depth))
        self.merger = Merger(sizes)

    def forward(self, patches: Tensor, rows: int, columns: int) -> Tensor:
        """Pictures of one shape to what stands for them.

        Args:
            patches: (B, rows * columns, 3 * patch * patch), those of one token beside each other.
            rows: of patches in a picture, a multiple of ``merge``.
            columns: as well.

        Returns:
            (B, rows * columns / merge ** 2, outputs), line by line.
        """
        seen = self.patch_embed(patches)  # (B, P, C)
        first = self.class_embedding.expand(len(seen), 1, -1)  # (B, 1, C)
        states = self.pre_layernorm(torch.cat([first, seen], 1))  # (B, 1 + P, C)
        turns = torch.cat([self.class_pos_emb.float(), self.angles(rows, columns)])  # (1 + P, d / 2)
        for block in self.blocks:
            states = block(states, turns)
        made: Tensor = self.merger(states[:, 1:])
        return made

    def angles(self, rows: int, columns: int) -> Tensor:
        """Of each patch, by its line and its column: float32 (P, d / 2)."""
        half, merge, device = self.class_pos_emb.shape[1], self.sizes.merge, self.class_pos_emb.device
        share = torch.arange(0, half, 2, dtype=torch.float32, device=device) / half  # (d / 4,)
        lattice = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
        places = torch.stack(lattice, -1).reshape(rows // merge, merge, columns // merge, merge, 2)
        ordered = places.transpose(1, 2).reshape(-1, 2).to(device)  # (P, 2)
        return (ordered[..., None] / _TURNS**share).flatten(1)  # (P, d / 2)


def turned(rows: Tensor, turns: Tensor) -> Tensor:
    """(B, H, N, d), each pair of numbers that lie half of d apart turned by its angle of ``turns`` (N, d / 2)."""
    first, second = rows.float().chunk(2, -1)  # (B, H, N, d / 2) each
    cosine, sine = turns.cos(), turns.sin()
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], -1).to(rows.dtype)
