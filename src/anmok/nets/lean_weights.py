"""The matrices of a lean language model, kept the way this processor multiplies fastest: all of float32, or fewer bits.

One row at a time, the time goes into fetching the weights, so fewer bits are faster: ``Eight``, ``Four``, ``Pair``.
Many rows at a time, it goes into arithmetic, for which their kernels are slow ones: for prompts there is ``Twin``, or
``lean_bytes``.

``Eight`` has one scale a row; ``Four`` and ``Pair``, the forms that GGUF's bits fit in, a scale and an offset for each
32 weights of a row, which are rounded to bfloat16.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from typing import Final, Literal, Protocol, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

Kind: TypeAlias = Literal["float32", "bfloat16", "int8", "int4"]
Wide: TypeAlias = Literal["float32", "bfloat16"]
Then: TypeAlias = Literal["gelu", "gelu-tanh", "gelu-quick"]  # what is done to the sums

GROUP: Final = 32  # weights that share a scale; that of GGUF
_PACKED_FOR: Final = 64  # rows that oneDNN lays a weight out for; as good for one row as a layout for one
WORDS_AT_ONCE: Final = 4096  # of a vocabulary, that are widened or narrowed together
_OUT: Final = 8  # numbers of a row that stand out
_STEPS: Final = 15  # between the least and the greatest number of four bits
_MULTIPLE: Final = 16  # the kernel of 4 bits wants so many rows of a weight, that of 8 so many columns, or a multiple
# By torch's own names: by those of `torch.ops` a call takes a microsecond more, and a token has a hundred of them.
_times_bytes: Final = torch._int_mm  # pyright: ignore[reportPrivateImportUsage]
_times_eight: Final = torch._weight_int8pack_mm  # pyright: ignore[reportPrivateImportUsage]
_times_four: Final = torch._weight_int4pack_mm_for_cpu  # pyright: ignore[reportPrivateImportUsage]
FUSED: Final[dict[Then | None, tuple[str, str]]] = {  # by oneDNN, into a multiplication
    "gelu": ("gelu", "none"),
    "gelu-tanh": ("gelu", "tanh"),
}
_THEN: Final[dict[Then, Callable[[Tensor], Tensor]]] = {
    "gelu": functional.gelu,
    "gelu-tanh": lambda x: functional.gelu(x, approximate="tanh"),
    "gelu-quick": lambda x: x * torch.sigmoid(1.702 * x),
}


class Matrix(Protocol):
    """What stands for a weight (N, K)."""

    dtype: torch.dtype  # of the rows that it takes and gives

    def __call__(self, rows: Tensor) -> Tensor:
        """(T, K) to (T, N)."""
        ...

    @property
    def nbytes(self) -> int: ...


class Gate(Matrix, Protocol):
    """One whose upper half decides how much of the lower passes."""

    def gated(self, rows: Tensor) -> Tensor:
        """(T, K) to (T, N / 2): SiLU of the upper half, times the lower."""
        ...


class Float:
    """float32 (N, K), laid out by oneDNN where torch has it: on processors of AMD that is twice as fast as what
    ``linear`` calls."""

    dtype = torch.float32

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        self.nbytes = _nbytes(weight, bias)
        self._is_laid = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        self._weight, self._bias = _laid(weight) if self._is_laid else weight.contiguous(), bias

    def __call__(self, rows: Tensor) -> Tensor:
        multiply = _times if self._is_laid else functional.linear
        return multiply(rows, self._weight, self._bias)  # (T, N)

    def gated(self, rows: Tensor) -> Tensor:
        """(T, K) to (T, N / 2)."""
        return _gated(self(rows))


class Twin:
    """bfloat16 (N, K), laid out by oneDNN where it multiplies bfloat16: ``linear`` would do that in each call, which
    takes 1.2 times as long for 64 rows, 1.8 times for one. Of a gate, both halves lie apart, so that SiLU and product
    are part of the multiplication, before the sums are rounded; so are a bias and, but for the quick one, the GELU that
    comes ``then``."""

    dtype = torch.bfloat16

    def __init__(self, weight: Tensor, is_gate: bool = False, bias: Tensor | None = None) -> None:
        whole = weight.to(torch.bfloat16)
        self._is_laid = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()  # type: ignore[no-untyped-call]
        self._parts = [_laid(one) if self._is_laid else one for one in whole.chunk(2 if is_gate else 1)]
        self._bias = None if bias is None else bias.to(torch.bfloat16)
        self.nbytes = _nbytes(whole, self._bias)

    def __call__(self, rows: Tensor, then: Then | None = None) -> Tensor:
        made = [self._times(rows, one, then) for one in self._parts]
        return made[0] if len(made) == 1 else torch.cat(made, 1)  # (T, N)

    def gated(self, rows: Tensor) -> Tensor:
        """(T, K) to (T, N / 2)."""
        gate, up = self._parts
        if not self._is_laid:
            return functional.silu(functional.linear(rows, gate)).mul_(functional.linear(rows, up))  # (T, N / 2)
        opened = _times(rows, gate, None, ("swish", ""))  # (T, N / 2)
        made: Tensor = torch.ops.mkldnn._linear_pointwise.binary(rows, opened, up, None, "mul")  # (T, N / 2)
        return made

    def _times(self, rows: Tensor, part: Tensor, then: Then | None) -> Tensor:
        if self._is_laid and then in FUSED:
            return _times(rows, part, self._bias, FUSED[then])  # (T, N)
        made = _times(rows, part, self._bias) if self._is_laid else functional.linear(rows, part, self._bias)  # (T, N)
        return made if then is None else then_of(made, then)


def then_of(sums: Tensor, then: Then) -> Tensor:
    """What is done to the sums, by itself."""
    return _THEN[then](sums)


def _laid(weight: Tensor) -> Tensor:
    made: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), _PACKED_FOR)
    return made


def _times(rows: Tensor, laid: Tensor, bias: Tensor | None = None, then: tuple[str, str] = ("none", "")) -> Tensor:
    made: Tensor = torch.ops.mkldnn._linear_pointwise(rows, laid, bias, then[0], [], then[1])  # (T, N)
    return made


def _gated(both: Tensor) -> Tensor:
    gate, up = both.chunk(2, 1)  # (T, N / 2)
    return functional.silu(gate).mul_(up)


class Aside(nn.Module):
    """A module whose weights lie in forms that no ``state_dict`` has."""

    @property
    def nbytes(self) -> int:
        raise NotImplementedError


class Laid(Aside):
    """What stands for a ``Linear`` of float32: the same sums in less time, on processors of AMD in half of it; or near
    ones, by bfloat16. It takes and gives float32, and its weight is told by form alone, for nets that ask for it."""

    def __init__(self, linear: nn.Linear, kind: Literal["float32", "bfloat16"] = "float32") -> None:
        super().__init__()
        weight = linear.weight.detach()
        bias = None if linear.bias is None else linear.bias.detach()
        self.weight = torch.empty_like(weight, device="meta")
        self.matrix: Matrix = Twin(weight, bias=bias) if kind == "bfloat16" else Float(weight.float(), bias)

    def forward(self, rows: Tensor) -> Tensor:
        """(..., K) to (..., N)."""
        flat = rows.reshape(-1, rows.shape[-1]).to(self.matrix.dtype)  # (T, K)
        return self.matrix(flat).view(*rows.shape[:-1], len(self.weight)).to(rows.dtype)  # (..., N)

    @property
    def nbytes(self) -> int:
        return self.matrix.nbytes


def lay_out(net: nn.Module, kind: Literal["float32", "bfloat16"] = "float32", but: nn.Module | None = None) -> int:
    """Puts ``Laid`` in the place of all ``Linear`` of float32 in a net that is used and not trained, those in the part
    ``but`` left out, and in parts that say ``stays_exact``; how many."""
    left_out = stays_exact(net) | (set() if but is None else set(but.modules()))
    places = [
        (parent, name, one)
        for parent in net.modules()
        if parent not in left_out
        for name, one in parent.named_children()
        if type(one) is nn.Linear and one.weight.dtype == torch.float32 and one.weight.device.type == "cpu"
    ]
    for parent, name, one in places:
        setattr(parent, name, Laid(one, kind))
    return len(places)


def stays_exact(net: nn.Module) -> set[nn.Module]:
    """All in a net that says of itself, or lies in what says, that near is not good enough."""
    return {one for part in net.modules() if getattr(part, "stays_exact", False) for one in part.modules()}


def laid_nbytes(net: nn.Module) -> int:
    """Of the weights that lie where no ``state_dict`` has them."""
    return sum(one.nbytes for one in net.modules() if isinstance(one, Aside))


def multiplies_bfloat16() -> bool:
    """Whether this processor has instructions for it: AVX-512 BF16 or AMX. Without, it takes longer than float32."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def multiplies_bytes() -> bool:
    """Whether this processor has instructions for bytes (AVX-512 VNNI) and oneDNN uses them. Without, sums of two
    products overflow sixteen bits."""
    is_told = torch.backends.mkldnn.is_available() and torch.cpu._is_vnni_supported()  # type: ignore[no-untyped-call]
    return is_told and _adds_bytes()


@cache
def _adds_bytes() -> bool:
    """By trying it: oneDNN does without instructions where ``ONEDNN_MAX_CPU_ISA`` says so."""
    rows, weight = torch.full((512, 64), 255, dtype=torch.uint8), torch.full((64, 64), 127, dtype=torch.int8)
    laid = torch.ops.onednn.qlinear_prepack(weight, list(rows.shape))
    scale, zeros = torch.ones(64), torch.zeros(64, dtype=torch.int64)
    made = torch.ops.onednn.qlinear_pointwise(
        rows, 1.0, 128, laid, scale, zeros, None, 1.0, 0, torch.float32, "none", [], ""
    )  # (512, 64)
    return bool((made == 127 * 127 * 64).all()) and bool((_times_bytes(weight, weight) == 127 * 127 * 64).all())


class Eight:
    """int8 (N, K) and one scale a row."""

    dtype = torch.bfloat16

    def __init__(self, weight: Tensor) -> None:
        self._more = -weight.shape[1] % _MULTIPLE  # zeros at the end: the kernel reads so many numbers together
        self._weight, scale = narrowed(functional.pad(weight, (0, self._more)))
        self._scale = scale.to(torch.bfloat16)

    def __call__(self, rows: Tensor) -> Tensor:
        if self._more:
            rows = functional.pad(rows, (0, self._more))
        made: Tensor = _times_eight(rows, self._weight, self._scale)  # (T, N)
        return made

    def gated(self, rows: Tensor) -> Tensor:
        """(T, K) to (T, N / 2)."""
        return _gated(self(rows))

    @property
    def nbytes(self) -> int:
        return _nbytes(self._weight, self._scale)


class Four:
    """Four bits (N, K) with a scale and an offset for every 32 of a row.

    ``codes`` uint8 (N, K) from 0 to 15, ``scale`` and ``least`` float32 (N, K / 32): codes * scale + least. N is a
    multiple of 16 and K of 32; ``is_four`` says whether a shape is.
    """

    dtype = torch.bfloat16

    def __init__(self, codes: Tensor, scale: Tensor, least: Tensor) -> None:
        self._weight: Tensor = torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes.int(), 1)
        offset = least + (_STEPS + 1) / 2 * scale  # the kernel counts from 8
        self._scales = torch.stack((scale.T, offset.T), 2).to(torch.bfloat16).contiguous()  # (K / 32, N, 2)

    @classmethod
    def of(cls, weight: Tensor) -> Four:
        """Of float32 (N, K), by the least and the greatest of each 32."""
        groups = weight.view(len(weight), -1, GROUP)  # (N, K / 32, 32)
        least, most = groups.aminmax(dim=2)  # (N, K / 32)
        scale = (most - least) / _STEPS
        codes = (groups - least[..., None]) / scale.clamp_min(torch.finfo(torch.float32).tiny)[..., None]
        return cls(codes.round().to(torch.uint8).flatten(1), scale, least)

    def __call__(self, rows: Tensor) -> Tensor:
        made: Tensor = _times_four(rows, self._weight, GROUP, self._scales)  # (T, N)
        return made

    def gated(self, rows: Tensor) -> Tensor:
        """(T, K) to (T, N / 2)."""
        return _gated(self(rows))

    @property
    def nbytes(self) -> int:
        return _nbytes(self._weight, self._scales)


def narrowed(rows: Tensor) -> tuple[Tensor, Tensor]:
    """float32 (T, K) as int8 (T, K) from -127 to 127 and what a step of each row is worth, float32 (T,)."""
    scale = rows.abs().amax(1).clamp_min(torch.finfo(torch.float32).tiny) / 127  # (T,)
    return (rows / scale[:, None]).round_().to(torch.int8), scale


class Pair:
    """Eight bits (N, K) with a scale for every 32 of a row, as two times four. Nearer than ``Eight``, and slower where
    fetching the weights is fast.

    ``codes`` int8 (N, K), ``scale`` float32 (N, K / 32): Q8_0 of GGUF, to the last bit but for the rounded scale.
    """

    dtype = torch.bfloat16

    def __init__(self, codes: Tensor, scale: Tensor) -> None:
        counted = codes.to(torch.int16) + 128  # from 0 to 255
        high, low = (counted >> 4).to(torch.uint8), (counted & 15).to(torch.uint8)
        self._high = Four(high, 16 * scale, -128 * scale)
        self._low = Four(low, scale, torch.zeros_like(scale))

    def __call__(self, rows: Tensor) -> Tensor:
        return self._high(rows).float() + self._low(rows)  # (T, N)

    def gated(self, rows: Tensor) -> Tensor:
        """(T, K) to (T, N / 2)."""
        return _gated(self(rows))

    @property
    def nbytes(self) -> int:
        return self._high.nbytes + self._low.nbytes


class Apart:
    """int8 (V, W) and one scale a row, for the matrix that tells words apart: single rows, which become int8 as well
    but for the few numbers that stand out in them. Those meet their columns in bfloat16, kept beside the rest. Less
    time than ``Eight`` or ``Pair``, and nearer, since the logits are float32; but only where a processor multiplies
    bytes without sums that overflow.

    Source: T. Dettmers et al., "LLM.int8()" (NeurIPS 2022, arXiv:2208.07339), for numbers that stand out.
    """

    dtype = torch.float32

    def __init__(self, parts: Iterable[Tensor]) -> None:
        """Of float32 (n, W), one above the other: a vocabulary is large, and what becomes of it small."""
        codes, scales, columns = [], [], []
        for part in parts:
            code, scale = narrowed(part)
            codes.append(code)
            scales.append(scale)
            columns.append((part / scale[:, None]).to(torch.bfloat16).T)  # (W, n)
        self._weight, self._scale = torch.cat(codes), torch.cat(scales)  # (V, W), (V,)
        self._columns = torch.cat(columns, 1)  # (W, V)

    def __call__(self, rows: Tensor) -> Tensor:
        out = rows.abs().amax(0).topk(min(_OUT, rows.shape[1])).indices  # (8,)
        codes, scale = narrowed(rows.index_fill(1, out, 0))
        made: Tensor = _times_bytes(codes, self._weight.T).float().mul_(scale[:, None])  # (T, V)
        return made.addmm_(rows[:, out], self._columns.index_select(0, out).float()).mul_(self._scale)

    @property
    def nbytes(self) -> int:
        return _nbytes(self._weight, self._scale, self._columns)


def is_four(shape: torch.Size | tuple[int, ...]) -> bool:
    """Whether a weight of that shape has a form of four bits."""
    return shape[0] % _MULTIPLE == 0 and shape[1] % GROUP == 0


def last_matrix(weight: Tensor, kind: Kind) -> Matrix:
    """That of the logits (V, W), of which one row at a time is asked: never fewer than 8 bits."""
    if kind in ("float32", "bfloat16"):
        return matrix(weight, kind)
    return last_of(one.float() for one in torch.split(weight, WORDS_AT_ONCE))


def last_of(parts: Iterable[Tensor]) -> Matrix:
    """The same in 8 bits, of float32 (n, W), one above the other."""
    return Apart(parts) if multiplies_bytes() else Eight(torch.cat(list(parts)))


def matrix(weight: Tensor, kind: Kind, is_gate: bool = False) -> Gate:
    """A float32 weight (N, K) in the form asked for; in 8 bits where its shape has none of 4."""
    if kind == "float32":
        return Float(weight.float())
    if kind == "bfloat16":
        return Twin(weight, is_gate)
    return Four.of(weight.float()) if kind == "int4" and is_four(weight.shape) else Eight(weight.float())


def _nbytes(*tensors: Tensor | None) -> int:
    return sum(one.numel() * one.element_size() for one in tensors if one is not None)
