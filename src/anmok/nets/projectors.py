"""What lies between a vision tower and a language model in the LLaVA family: layers on each token by itself.

Source: ``build_vision_projector`` of H. Liu et al., "Visual Instruction Tuning" (2023, arXiv:2304.08485;
github.com/haotian-liu/LLaVA) and of LLaVA-NeXT (github.com/LLaVA-VL/LLaVA-NeXT), which name the kinds in
``mm_projector_type`` of ``config.json``. Modules carry the names of the published checkpoints.
"""

from __future__ import annotations

import re
from typing import Final, TypeVar

from torch import Tensor, nn

from anmok.errors import BadWeights

N = TypeVar("N", bound=nn.Module)

_SHOWN: Final = 3  # names in a message
_MLP: Final = re.compile(r"mlp([1-9]\d?)x_(?:res([1-9]\d?)x_)?gelu")


class Residual(nn.Module):
    """A norm, and two layers beside it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.pre_norm = nn.LayerNorm(width)
        self.proj = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))

    def forward(self, x: Tensor) -> Tensor:
        normed = self.pre_norm(x)
        y: Tensor = normed + self.proj(normed)  # not to x: so it was trained
        return y


class Pooler(nn.Module):
    """Four neighbours become one token."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv_pool = nn.Conv2d(inputs, outputs, kernel_size=2, stride=2)
        self.proj = nn.Sequential(nn.GELU(), nn.Linear(outputs, outputs))

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) to (B, N', C'), N a square number."""
        pooled = self.conv_pool(as_map(x))  # (B, C', h // 2, w // 2)
        y: Tensor = self.proj(as_rows(pooled))  # (B, N', C')
        return y


def projector(kind: str, inputs: int, outputs: int) -> nn.Module:
    """The projector of that name: tokens (B, N, inputs) to (B, N, outputs); ``pooler`` leaves a quarter of them.

    Args:
        kind: ``linear``, ``identity``, ``pooler``, ``mlp2x_gelu`` with any number of layers for the 2, or
            ``mlp2x_res1x_gelu`` with residual layers behind them.
        inputs: width of the tower.
        outputs: width of the language model.

    Raises:
        BadWeights: no such kind, or an identity between two widths.
    """
    if kind == "linear":
        return nn.Linear(inputs, outputs)
    if kind == "pooler":
        return Pooler(inputs, outputs)
    if kind == "identity":
        if inputs != outputs:
            raise BadWeights(f"mm_projector_type 'identity': the widths {inputs} and {outputs} are not the same")
        return nn.Identity()
    if found := _MLP.fullmatch(kind):
        layers = list(mlp(int(found[1]), inputs, outputs, nn.GELU))
        return nn.Sequential(*layers, *(Residual(outputs) for _ in range(int(found[2] or 0))))
    raise BadWeights(f"mm_projector_type {kind!r}: want linear, identity, pooler, mlpNx_gelu or mlpNx_resMx_gelu")


def mlp(depth: int, inputs: int, outputs: int, activation: type[nn.Module]) -> nn.Sequential:
    """``depth`` linear layers with an activation between them; all but the first are as wide as what comes out."""
    layers: list[nn.Module] = [nn.Linear(inputs, outputs)]
    for _ in range(1, depth):
        layers += [activation(), nn.Linear(outputs, outputs)]
    return nn.Sequential(*layers)


def as_map(rows: Tensor) -> Tensor:
    """Tokens (B, N, C) of a square picture, row by row, as a map (B, C, h, h)."""
    side = round(rows.shape[1] ** 0.5)
    return rows.transpose(1, 2).reshape(len(rows), -1, side, side)  # (B, C, h, h)


def as_rows(grid: Tensor) -> Tensor:
    """A map (B, C, h, w) as tokens (B, h w, C), row by row."""
    return grid.flatten(2).transpose(1, 2)  # (B, h w, C)
