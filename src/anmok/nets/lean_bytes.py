"""Matrices of eight bits for many rows of eight bits: faster than bfloat16 where a processor has instructions.

Rows are codes: a byte counts steps from 128, with the same step for all rows. That takes rows of mean square 1, as they
come out of a norm, and turned (``rotations``), so that none of their numbers stands out; of a normal distribution, one
in 16,000 lies beyond the last step and is cut to it.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor

from anmok.nets.lean_weights import FUSED, Then, narrowed, then_of

_MIDDLE: Final = 128  # the code of zero
_MOST: Final = 4.0  # the number of the last code, in standard deviations
_STEP: Final = _MOST / 127
_PACKED_FOR: Final = 512  # rows that oneDNN lays a weight out for; as good for others
STEPS: Final = 1 / _STEP  # that a number of 1 counts


def coded(steps: Tensor) -> Tensor:
    """float32, times ``STEPS``, to codes uint8 of the same shape. What is given is used up."""
    return steps.add_(_MIDDLE + 0.5).clamp_(1, 255).to(torch.uint8)


class Bytes:
    """int8 (N, K) and one scale a row, for codes uint8 (T, K). Of a gate, both halves lie apart, and SiLU is part of
    the multiplication, as are a bias and GELU."""

    dtype = torch.uint8

    def __init__(
        self, weight: Tensor, is_gate: bool = False, bias: Tensor | None = None, gives: torch.dtype = torch.bfloat16
    ) -> None:
        self._gives = gives
        count = 2 if is_gate else 1
        biases = count * (None,) if bias is None else bias.float().chunk(count)
        self._parts = [_Part(one, other) for one, other in zip(weight.float().chunk(count), biases, strict=True)]

    @property
    def nbytes(self) -> int:
        return sum(one.nbytes for one in self._parts)

    def __call__(self, rows: Tensor, then: Then | None = None) -> Tensor:
        made = [one.times(rows, self._gives, then) for one in self._parts]
        return made[0] if len(made) == 1 else torch.cat(made, 1)  # (T, N)

    def gated(self, rows: Tensor) -> Tensor:
        """(T, K) to (T, N / 2)."""
        gate, up = self._parts
        return gate.times(rows, self._gives, None, ("swish", "")).mul_(up.times(rows, self._gives))  # (T, N / 2)


class _Part:
    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        codes, self._scale = narrowed(weight)
        self._laid: Any = torch.ops.onednn.qlinear_prepack(codes, [_PACKED_FOR, codes.shape[1]])
        self._zeros = torch.zeros(len(codes), dtype=torch.int64)
        self._bias = bias
        others = (self._scale, self._zeros) if bias is None else (self._scale, self._zeros, bias)
        self.nbytes = codes.nbytes + sum(one.nbytes for one in others)

    def times(
        self, rows: Tensor, gives: torch.dtype, then: Then | None = None, post: tuple[str, str] = ("none", "")
    ) -> Tensor:
        post = FUSED.get(then, post)
        weight = (self._laid, self._scale, self._zeros, self._bias)
        made: Tensor = torch.ops.onednn.qlinear_pointwise(
            rows, _STEP, _MIDDLE, *weight, 1.0, 0, gives, post[0], [], post[1]
        )  # (T, N)
        return made if then is None or then in FUSED else then_of(made, then)
