"""A picture tower that sees a part of its patches, and a small decoder that paints the rest: masked auto-encoding.

Source: He et al., "Masked Autoencoders Are Scalable Vision Learners" (CVPR 2022, arXiv:2111.06377): most patches are
left out before the first block, a narrow decoder gets the others' tokens with one learned token in all empty places
and fixed sine positions, and the loss is the squared error on the left-out patches, each brought to mean 0 and
variance 1. Ours works on a ``Trunk`` of any transformer tower, so that what it learns is a change of that tower.

Registers and the class token go through both nets. The trunk's readout has no part in it: the decoder has a norm of
its own, and the features are read out as before.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from anmok.errors import BadRequest, Unsupported
from anmok.nets.trunk import Trunk

_FLOOR = 1e-6  # of a patch's variance


class MaskedNet(nn.Module):
    """A trunk (shared, not copied) and its decoder.

    Raises:
        Unsupported: a convolutional trunk: an empty place is a value like any other to a convolution, and whoever
            fills it with grey teaches the tower pictures that do not exist.
    """

    def __init__(self, trunk: Trunk, *, width: int = 128, depth: int = 2, heads: int = 4) -> None:
        super().__init__()
        self.trunk = trunk
        self.patch = patch_of(trunk)
        trunk.stages[-1].requires_grad_(False)  # nothing flows to the readout
        seen = _width(trunk, self.patch)
        self.norm = nn.LayerNorm(seen)
        self.narrow = nn.Linear(seen, width)
        self.empty = nn.Parameter(torch.zeros(width))
        nn.init.normal_(self.empty, std=0.02)
        layer = {"dim_feedforward": 4 * width, "dropout": 0.0, "activation": "gelu"}
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(width, heads, **layer, batch_first=True, norm_first=True)  # type: ignore[arg-type]
            for _ in range(depth)
        )
        self.paint = nn.Linear(width, 3 * self.patch**2)

    def grid(self, pixels: Tensor) -> tuple[int, int]:
        """Patches down and across of pictures (B, 3, H, W).

        Raises:
            BadRequest: sides that are no multiples of the patch.
        """
        height, width = pixels.shape[-2:]
        if height % self.patch or width % self.patch:
            raise BadRequest(f"pictures of {width} x {height} pixels do not divide into patches of {self.patch}")
        return height // self.patch, width // self.patch

    def seen(self, pixels: Tensor, kept: Tensor) -> Tensor:
        """What the tower makes of the kept patches alone.

        Args:
            pixels: (B, 3, H, W), as the tower takes them.
            kept: int64 (B, K), numbers of patches row by row, different in each row.

        Returns:
            (B, prefix + K, D): class token and registers first, where the tower has them.
        """
        stages = list(self.trunk.stages)
        rows, columns = self.grid(pixels)
        tokens = stages[0](pixels)  # (B, prefix + P, D), every patch by itself
        prefix = tokens.shape[1] - rows * columns
        x = torch.cat([tokens[:, :prefix], _picked(tokens[:, prefix:], kept)], dim=1)  # (B, prefix + K, D)
        for stage in stages[1:-1]:
            x = _attended(stage, x, kept)
        return x

    def painted(self, pixels: Tensor, kept: Tensor) -> Tensor:
        """Every patch as the decoder paints it, (B, P, 3 patch^2), in the scale of ``normalised``."""
        rows, columns = self.grid(pixels)
        x = self.narrow(self.norm(self.seen(pixels, kept)))  # (B, prefix + K, width)
        prefix = x.shape[1] - kept.shape[1]
        place = kept[:, :, None].expand(-1, -1, x.shape[2])  # (B, K, width)
        full = self.empty.to(x.dtype).expand(len(x), rows * columns, -1).scatter(1, place, x[:, prefix:])
        full = full + sine_positions(rows, columns, x.shape[2], x.device).to(x.dtype)  # (B, P, width)
        x = torch.cat([x[:, :prefix], full], dim=1)  # (B, prefix + P, width)
        for block in self.blocks:
            x = block(x)
        painted: Tensor = self.paint(x[:, prefix:])  # (B, P, 3 patch^2)
        return painted

    def forward(self, pixels: Tensor, kept: Tensor) -> Tensor:
        """The mean squared error on the patches that are not kept, ()."""
        wanted = normalised(patches(pixels, self.patch).float())  # (B, P, 3 patch^2)
        error = (self.painted(pixels, kept).float() - wanted).square().mean(-1)  # (B, P)
        is_hidden = torch.ones_like(error).scatter(1, kept, 0.0)
        return (error * is_hidden).sum() / is_hidden.sum()


def patches(pixels: Tensor, size: int) -> Tensor:
    """(B, 3, H, W) to patches row by row, (B, P, 3 size^2), channel after channel in each."""
    batch, channels, height, width = pixels.shape
    parts = pixels.reshape(batch, channels, height // size, size, width // size, size)  # (B, 3, h, size, w, size)
    return parts.permute(0, 2, 4, 1, 3, 5).reshape(batch, -1, channels * size**2)  # (B, h w, 3 size^2)


def normalised(values: Tensor) -> Tensor:
    """Patches (B, P, V), each with mean 0 and variance 1; a patch of one colour is zeros."""
    centred = values - values.mean(-1, keepdim=True)
    return centred / (values.var(-1, keepdim=True) + _FLOOR).sqrt()


def sine_positions(rows: int, columns: int, width: int, device: torch.device) -> Tensor:
    """Fixed positions of a grid, row by row, (rows columns, width): half the width for each direction."""
    if width % 4:
        raise BadRequest(f"a decoder {width} wide: sine positions want a multiple of 4")
    steps = torch.arange(width // 4, device=device, dtype=torch.float32)
    waves = torch.exp(-math.log(10_000.0) * steps / (width // 4))  # (width / 4,)
    down, across = (torch.arange(n, device=device)[:, None] * waves for n in (rows, columns))  # (n, width / 4)
    vertical, horizontal = (torch.cat([one.sin(), one.cos()], 1) for one in (down, across))  # (n, width / 2)
    both = [vertical[:, None].expand(-1, columns, -1), horizontal[None].expand(rows, -1, -1)]
    return torch.cat(both, dim=2).flatten(0, 1)  # (rows columns, width)


def patch_of(trunk: Trunk) -> int:
    """Pixels on a side of a patch.

    Raises:
        Unsupported: the trunk is no transformer over patches.
    """
    convolutions = [one for one in trunk.stages[0].modules() if isinstance(one, nn.Conv2d)]
    is_cut = len(convolutions) == 1 and convolutions[0].kernel_size == convolutions[0].stride
    if not is_cut or not any("attn" in name or "attention" in name for name, _ in trunk.named_modules()):
        raise Unsupported(
            "masked pre-training needs a transformer tower (CLIP's, SigLIP's or DINO's ViT): a convolution cannot "
            "leave patches out; tune the last blocks of this model instead"
        )
    return int(convolutions[0].kernel_size[0])


def _width(trunk: Trunk, patch: int) -> int:
    convolution = next(one for one in trunk.stages[0].modules() if isinstance(one, nn.Conv2d))
    return int(convolution.out_channels)


def _picked(tokens: Tensor, kept: Tensor) -> Tensor:
    """(B, P, D) to (B, K, D)."""
    return tokens.gather(1, kept[:, :, None].expand(-1, -1, tokens.shape[2]))


def _attended(stage: nn.Module, x: Tensor, kept: Tensor) -> Tensor:
    """One block. Rotary positions are those of the kept patches, row by row."""
    block: Any = stage
    if not hasattr(block, "cos"):
        plain: Tensor = block(x)  # (B, prefix + K, D)
        return plain
    turn = (block.cos[kept][:, None], block.sin[kept][:, None])  # (B, 1, K, head)
    turned: Tensor = block.layer(x, position_embeddings=turn)  # (B, prefix + K, D)
    return turned
