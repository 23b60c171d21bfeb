"""Matrices of eight bits for many rows of eight bits: faster than bfloat16 where a processor has instructions.

Rows are codes: a byte counts steps from 128. What comes out of a norm has mean square 1, and turned (``rotations``)
none of its numbers stands out, so one step does for all rows; of a normal distribution, one number in 16,000 lies
beyond the last step and is cut to it. Other rows have steps of their own, by the greatest number of each (``Rows``).
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor

from anmok.nets.lean_weights import FUSED, Matrix, Then, Twin, Wide, matrix, narrowed, then_of
from anmok.nets.rotations import hadamard

_MIDDLE: Final = 128  # the code of zero
_MOST: Final = 4.0  # the number of the last code, in standard deviations
_LAST: Final = 127  # steps from zero
_STEP: Final = _MOST / _LAST
_PACKED_FOR: Final = 512  # rows that oneDNN lays a weight out for; as good for others
_MANY: Final = 256  # rows; to make codes of them saves 3 % of the time from 128 on, 6 % here, and they are less near
_TOP: Final = torch.tensor(_MIDDLE, dtype=torch.uint8, device="cpu")  # of a number, torch would make one each time
_BITS: Final = {  # the whole number of as many bits, that of all but the sign, and that which is 2 ** -100
    torch.bfloat16: (torch.int16, torch.tensor(2**15 - 1, dtype=torch.int16, device="cpu"), 27 << 7),
    torch.float32: (torch.int32, torch.tensor(2**31 - 1, dtype=torch.int32, device="cpu"), 27 << 23),
}
STEPS: Final = 1 / _STEP  # that a number of 1 counts


def coded(steps: Tensor) -> Tensor:
    """float32, times ``STEPS``, to codes uint8 of the same shape. What is given is used up."""
    return _bytes(steps.clamp_(-_LAST, _LAST))


def _bytes(steps: Tensor) -> Tensor:
    """Steps from -127 to 127 to codes. It takes a fifth of the time to make int8 of them first."""
    return steps.round_().to(torch.int8).view(torch.uint8).bitwise_xor_(_TOP)  # which adds 128


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


class Rows:
    """The same for rows of any size (T, K) to (T, N), each of which becomes codes of a step of its own; turned before,
    one block after the other, as some of their numbers may stand out. Few rows are read by bfloat16, where that has
    instructions as well."""

    def __init__(self, weight: Tensor, kind: Wide, most: int = 1) -> None:
        """Blocks have ``most`` numbers, or as many as their width lets them."""
        self._width = len(weight)
        self._few = Twin(weight) if kind == "bfloat16" else None
        self.dtype = torch.float32 if self._few is None else self._few.dtype
        self._block = min(weight.shape[1] & -weight.shape[1], most)
        turn = hadamard(self._block)
        self._turn = matrix(turn, kind) if self._block > 1 else None
        self._steps = torch.tensor(_LAST - 1, dtype=self.dtype)  # one less than there are, since it is rounded
        self._part = _Part((weight.float().reshape(-1, self._block) @ turn).view(weight.shape), None)

    @property
    def nbytes(self) -> int:
        return self._part.nbytes + (0 if self._few is None else self._few.nbytes)

    def __call__(self, rows: Tensor) -> Tensor:
        """To float32. What is given may be used up."""
        made = torch.zeros(len(rows), self._width)  # (T, N)
        self.onto(made, rows)
        return made

    def onto(self, x: Tensor, rows: Tensor) -> None:
        """Adds the same to ``x``, float32 (T, N)."""
        if self._few is not None and len(rows) < _MANY:
            x += self._few(rows)
            return
        if self._turn is not None:
            rows = self._turn(rows.view(-1, self._block)).view(rows.shape)  # (T, K)
        steps = self._steps / _most(rows)  # (T, 1)
        x.addcdiv_(self._part.times(_bytes(rows.mul_(steps)), torch.float32, step=1.0), steps.float())


def put(weight: Matrix, rows: Tensor, x: Tensor) -> None:
    """Adds what becomes of rows (T, K), which may be used up, to ``x``, float32 (T, N)."""
    if isinstance(weight, Rows):
        weight.onto(x, rows.to(weight.dtype))
    else:
        x += weight(rows.to(weight.dtype))


def _most(rows: Tensor) -> Tensor:
    """The greatest amount in each of the rows (T, K), (T, 1), of zeros a tiny one: by their bits, which takes a third
    of the time of ``abs`` where they are bfloat16."""
    whole, bits, least = _BITS[rows.dtype]
    return rows.view(whole).bitwise_and(bits).amax(1, keepdim=True).clamp_min_(least).view(rows.dtype)


class _Part:
    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        codes, self._scale = narrowed(weight)
        self._laid: Any = torch.ops.onednn.qlinear_prepack(codes, [_PACKED_FOR, codes.shape[1]])
        self._zeros = torch.zeros(len(codes), dtype=torch.int64)
        self._bias = bias
        others = (self._scale, self._zeros) if bias is None else (self._scale, self._zeros, bias)
        self.nbytes = codes.nbytes + sum(one.nbytes for one in others)

    def times(
        self,
        rows: Tensor,
        gives: torch.dtype,
        then: Then | None = None,
        post: tuple[str, str] = ("none", ""),
        step: float = _STEP,
    ) -> Tensor:
        post = FUSED.get(then, post)
        weight = (self._laid, self._scale, self._zeros, self._bias)
        made: Tensor = torch.ops.onednn.qlinear_pointwise(
            rows, step, _MIDDLE, *weight, 1.0, 0, gives, post[0], [], post[1]
        )  # (T, N)
        return made if then is None or then in FUSED else then_of(made, then)
