"""The layers of a lean language model: those that read a few rows at a time, and those for prompts.

Where a processor multiplies bytes fastest, a prompt is read in another frame of reference, in which no number of a row
stands out (``rotations``): rows are turned as they come in, what reads a norm's rows reads turned ones, what is added
to them is turned, and at the end they are turned back. Keys and values are the same in both.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from anmok.nets.lean_bytes import STEPS, Bytes, Rows
from anmok.nets.lean_weights import Gate, Kind, Matrix, Wide, matrix, multiplies_bfloat16, multiplies_bytes
from anmok.nets.rotations import Rotation

_MOST: Final = 2**31  # bytes of layers in float32 beside those of few bits
_BLOCK: Final = 32  # numbers of a row that are turned together in front of `down`
MANY: Final = 12  # rows; up to here those of few bits are about as fast, and from 14 on slower by an eighth


@dataclass(frozen=True, slots=True)
class Sizes:
    """``width`` is W, ``heads`` times ``head`` that of all queries; ``context`` the most tokens of a conversation."""

    width: int
    heads: int
    kv_heads: int
    head: int
    inner: int
    vocabulary: int
    context: int
    epsilon: float

    @property
    def weights(self) -> int:
        """Of one block, without its norms."""
        attention = 2 * (self.heads + self.kv_heads) * self.head
        return self.width * (attention + 3 * self.inner)


@dataclass(frozen=True, slots=True)
class Weights:
    """Of one block, float32. Rows of queries and keys lie so that what is rotated together is adjacent; norms are (W,),
    matrices (N, K)."""

    norm: Tensor
    qkv: Tensor
    out: Tensor
    second_norm: Tensor
    gate_up: Tensor
    down: Tensor
    qkv_bias: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Layer:
    """One block, in forms that multiply. Norms are (W,); where they are part of the matrices, what is left of them
    is the steps () that a code of a number of 1 counts."""

    norm: Tensor
    qkv: Matrix
    out: Matrix
    second_norm: Tensor
    gate_up: Gate
    down: Matrix
    qkv_bias: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Layers:
    """All of them, and the frame of reference that they read in, if it is another."""

    each: tuple[Layer, ...]
    rotation: Rotation | None = None

    @property
    def nbytes(self) -> int:
        return sum(kind.nbytes for one in self.each for kind in (one.qkv, one.out, one.gate_up, one.down))


def layer_of(weights: Weights, kind: Kind) -> Layer:
    """In the form asked for."""
    return Layer(
        weights.norm,
        matrix(weights.qkv, kind),
        matrix(weights.out, kind),
        weights.second_norm,
        matrix(weights.gate_up, kind, is_gate=True),
        matrix(weights.down, kind),
        weights.qkv_bias,
    )


def for_prompts(each: Iterable[Weights], sizes: Sizes, few: Layers) -> Layers:
    """For many rows at a time, by what this processor multiplies fastest; ``few`` are the layers of few bits.

    Rows of a norm become bytes of one step, if they can, those in front of the other two matrices bytes of a step for
    each (``Rows``). Without instructions for bytes prompts are read by bfloat16, or by float32 where bfloat16 has none
    and takes longer. Where that would take too much room, ``few`` read prompts as well.
    """
    wide: Wide = "bfloat16" if multiplies_bfloat16() else "float32"
    if multiplies_bytes():
        rotation = Rotation(sizes.width)
        return Layers(tuple(_turned(one, rotation, wide) for one in each), rotation)
    if wide == "float32" and 4 * sizes.weights * len(few.each) > _MOST:
        return few
    return Layers(tuple(layer_of(one, wide) for one in each))


def _turned(weights: Weights, rotation: Rotation, wide: Wide) -> Layer:
    steps = torch.tensor(STEPS)
    out = Rows(rotation.of(weights.out.T).T, wide)
    down = Rows(rotation.of(weights.down.T).T, wide, _BLOCK)
    return Layer(
        steps,
        Bytes(rotation.of(weights.norm * weights.qkv), gives=torch.float32),
        out,
        steps,
        Bytes(rotation.of(weights.second_norm * weights.gate_up), is_gate=True, gives=down.dtype),
        down,
        weights.qkv_bias,
    )
