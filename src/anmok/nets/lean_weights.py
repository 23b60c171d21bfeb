"""The matrices of a lean language model, kept the way this processor multiplies fastest: all of float32, or fewer bits.

One row at a time, the time goes into fetching the weights, so fewer bits are faster. Many rows at a time, it goes
into arithmetic, for which the kernels of few bits are the slow ones: from ``_MANY`` rows on, a bfloat16 twin works.

The 8-bit form has one scale a row, the 4-bit form (of GGUF's Q4_0 and Q4_1 too) a scale and an offset for each 32
weights of a row, which are rounded to bfloat16.
"""

from __future__ import annotations

from typing import Final, Literal, Protocol, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

Kind: TypeAlias = Literal["float32", "bfloat16", "int8", "int4"]

GROUP: Final = 32  # weights that share a scale; that of GGUF
_MANY: Final = 16  # rows, from which on bfloat16 is faster than 4 or 8 bits
_PACKED_FOR: Final = 64  # rows that oneDNN lays float32 out for; as good for one row as a layout for one
_STEPS: Final = 15  # between the least and the greatest number of four bits
_MULTIPLE: Final = 16  # the kernel of 4 bits wants so many rows, or a multiple


class Matrix(Protocol):
    """What stands for a weight (N, K)."""

    dtype: torch.dtype  # of the rows that it takes and gives

    def __call__(self, rows: Tensor) -> Tensor:
        """(T, K) to (T, N)."""
        ...

    @property
    def nbytes(self) -> int: ...


class Float:
    """float32 or bfloat16 (N, K). float32 is laid out by oneDNN where torch has it: on processors of AMD that is twice
    as fast as what ``linear`` calls."""

    def __init__(self, weight: Tensor) -> None:
        self.dtype = weight.dtype
        self.nbytes = weight.numel() * weight.element_size()
        self._is_packed = weight.dtype == torch.float32 and torch.backends.mkldnn.is_available()
        reorder = torch.ops.mkldnn._reorder_linear_weight if self._is_packed else torch.Tensor.contiguous
        self._weight: Tensor = reorder(weight.contiguous(), *((_PACKED_FOR,) if self._is_packed else ()))

    def __call__(self, rows: Tensor) -> Tensor:
        if not self._is_packed:
            return functional.linear(rows, self._weight)  # (T, N)
        made: Tensor = torch.ops.mkldnn._linear_pointwise(rows, self._weight, None, "none", [], "")  # (T, N)
        return made


class Eight:
    """int8 (N, K) and one scale a row. With ``is_for_many``, a bfloat16 twin of the whole."""

    dtype = torch.bfloat16

    def __init__(self, weight: Tensor, is_for_many: bool = True) -> None:
        self._weight, scale = narrowed(weight)
        self._scale = scale.to(torch.bfloat16)
        self._twin = weight.to(torch.bfloat16) if is_for_many else None

    def __call__(self, rows: Tensor) -> Tensor:
        if self._twin is not None and len(rows) >= _MANY:
            return functional.linear(rows, self._twin)  # (T, N)
        made: Tensor = torch.ops.aten._weight_int8pack_mm(rows, self._weight, self._scale)  # (T, N)
        return made

    @property
    def nbytes(self) -> int:
        return _nbytes(self._weight, self._scale, self._twin)


class Four:
    """Four bits (N, K) with a scale and an offset for every 32 of a row, and the bfloat16 twin.

    ``codes`` uint8 (N, K) from 0 to 15, ``scale`` and ``least`` float32 (N, K / 32): codes * scale + least. N is a
    multiple of 16 and K of 32; ``is_four`` says whether a shape is.
    """

    dtype = torch.bfloat16

    def __init__(self, codes: Tensor, scale: Tensor, least: Tensor) -> None:
        self._weight: Tensor = torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes.int(), 1)
        offset = least + (_STEPS + 1) / 2 * scale  # the kernel counts from 8
        self._scales = torch.stack((scale.T, offset.T), 2).to(torch.bfloat16).contiguous()  # (K / 32, N, 2)
        whole = codes.view(*scale.shape, GROUP) * scale[..., None] + least[..., None]  # (N, K / 32, 32)
        self._twin = whole.flatten(1).to(torch.bfloat16)  # (N, K)

    @classmethod
    def of(cls, weight: Tensor) -> Four:
        """Of float32 (N, K), by the least and the greatest of each 32."""
        groups = weight.view(len(weight), -1, GROUP)  # (N, K / 32, 32)
        least, most = groups.aminmax(dim=2)  # (N, K / 32)
        scale = (most - least) / _STEPS
        codes = (groups - least[..., None]) / scale.clamp_min(torch.finfo(torch.float32).tiny)[..., None]
        return cls(codes.round().to(torch.uint8).flatten(1), scale, least)

    def __call__(self, rows: Tensor) -> Tensor:
        if len(rows) >= _MANY:
            return functional.linear(rows, self._twin)  # (T, N)
        made: Tensor = torch.ops.aten._weight_int4pack_mm_for_cpu(rows, self._weight, GROUP, self._scales)  # (T, N)
        return made

    @property
    def nbytes(self) -> int:
        return _nbytes(self._weight, self._scales, self._twin)


def narrowed(rows: Tensor) -> tuple[Tensor, Tensor]:
    """float32 (T, K) as int8 (T, K) from -127 to 127 and what a step of each row is worth, float32 (T,)."""
    scale = rows.abs().amax(1).clamp_min(torch.finfo(torch.float32).tiny) / 127  # (T,)
    return (rows / scale[:, None]).round_().to(torch.int8), scale


def is_four(shape: torch.Size | tuple[int, ...]) -> bool:
    """Whether a weight of that shape has a form of four bits."""
    return shape[0] % _MULTIPLE == 0 and shape[1] % GROUP == 0


def last_matrix(weight: Tensor, kind: Kind) -> Matrix:
    """That of the logits (V, W), of which one row at a time is asked: never fewer than 8 bits, and without a twin."""
    return matrix(weight, kind) if kind in ("float32", "bfloat16") else Eight(weight, is_for_many=False)


def matrix(weight: Tensor, kind: Kind) -> Matrix:
    """A float32 weight (N, K) in the form asked for; in 8 bits where its shape has none of 4."""
    if kind == "float32":
        return Float(weight.float())
    if kind == "bfloat16":
        return Float(weight.to(torch.bfloat16))
    return Four.of(weight.float()) if kind == "int4" and is_four(weight.shape) else Eight(weight.float())


class Table(Protocol):
    """The vectors of the words."""

    def __call__(self, ids: Tensor) -> Tensor:
        """int64 (T,) to float32 (T, W)."""
        ...

    @property
    def nbytes(self) -> int: ...


class Plain:
    """As the net has it (V, W), shared with the net."""

    def __init__(self, weight: Tensor) -> None:
        self._weight = weight.detach()

    def __call__(self, ids: Tensor) -> Tensor:
        return functional.embedding(ids, self._weight).float()  # (T, W)

    @property
    def nbytes(self) -> int:
        return _nbytes(self._weight)


class Blocks:
    """GGUF's Q8_0: int8 (V, W) and a float32 scale for every 32 of a row (V, W / 32)."""

    def __init__(self, codes: Tensor, scale: Tensor) -> None:
        self._codes, self._scale = codes, scale

    def __call__(self, ids: Tensor) -> Tensor:
        groups = self._codes[ids].view(len(ids), -1, GROUP) * self._scale[ids][..., None]  # (T, W / 32, 32)
        return groups.flatten(1)  # (T, W)

    @property
    def nbytes(self) -> int:
        return _nbytes(self._codes, self._scale)


def _nbytes(*tensors: Tensor | None) -> int:
    return sum(one.numel() * one.element_size() for one in tensors if one is not None)
