"""The C-Abstractor: fewer tokens of a picture, each of which still lies where it lay.

Architecture: J. Cha et al., "Honeybee: Locality-enhanced Projector for Multimodal LLM" (CVPR 2024, arXiv:2312.06742;
github.com/khanrc/honeybee), in the form of HyperCLOVA X SEED Vision (the public one is in vLLM,
``hyperclovax_vision.py``), which pools one and the same map to more or to fewer queries. Modules carry the names of the
published checkpoints.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from anmok.errors import BadWeights
from anmok.nets.projectors import as_map, as_rows, mlp
from anmok.nets.regstage import RegStage

_NORM_EPSILON = 1e-6


@dataclass(frozen=True)
class Config:
    """``tokens`` of ``width`` come from the tower, ``queries`` of ``outputs`` leave. ``depth`` blocks lie before the
    pooling and after it, ``layers`` at the end.

    Raises:
        BadWeights: tokens or queries that are no square.
    """

    tokens: int
    width: int
    queries: int
    outputs: int
    depth: int = 3
    layers: int = 2
    has_positions: bool = True
    has_norm: bool = False

    def __post_init__(self) -> None:
        for name, count in (("tokens", self.tokens), ("queries", self.queries)):
            if count < 1 or math.isqrt(count) ** 2 != count:
                raise BadWeights(f"C-Abstractor: {count} {name} are no square number")


class CAbstractor(nn.Module):
    """``forward`` is ``pooled`` after ``mapped``; one map can be pooled several times."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        places = torch.zeros(1, config.tokens, config.width)
        self.pos_emb = nn.Parameter(nn.init.normal_(places, std=0.02)) if config.has_positions else None
        self.prenorm = nn.LayerNorm(config.width, eps=_NORM_EPSILON) if config.has_norm else None
        stages = [RegStage(config.depth, config.width, config.width) for _ in range(2)]
        # The pooling has no weights, but a number in the names.
        self.net = nn.Sequential(stages[0], nn.Identity(), stages[1])
        self.readout = mlp(config.layers, config.width, config.outputs, nn.SiLU)

    def forward(self, rows: Tensor) -> Tensor:
        """Tokens (B, N, C) of square pictures to queries (B, Q, D)."""
        return self.pooled(self.mapped(rows), self.config.queries)

    def mapped(self, rows: Tensor) -> Tensor:
        """Tokens (B, N, C) to the map (B, C, h, h) that is pooled."""
        if self.prenorm is not None:
            rows = self.prenorm(rows)
        if self.pos_emb is not None:
            rows = rows + self.pos_emb  # (B, N, C)
        mapped: Tensor = self.net[0](as_map(rows))  # (B, C, h, h)
        return mapped

    def pooled(self, mapped: Tensor, queries: int) -> Tensor:
        """The map (B, C, h, h) to that many queries (B, Q, D), a square number."""
        side = math.isqrt(queries)
        small = self.net[2](functional.adaptive_avg_pool2d(mapped, side))  # (B, C, q, q)
        rows: Tensor = self.readout(as_rows(small))  # (B, Q, D)
        return rows
