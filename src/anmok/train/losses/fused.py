"""Squares of pairs on CUDA: a Triton kernel makes the slopes of a square, and cuBLAS multiplies them by the rows.

Of a square of logits nothing but its slopes is written, in the dtype of the products, and the square is used before
the next one is made. bf16 and fp16 rows go to the tensor cores as they are: their products are exact, the sums are
fp32. fp32 rows do so only where torch was allowed TF32 (``torch.set_float32_matmul_precision("high")``), and are then
rounded to it, where a tensor core would cut them off. Slopes are rounded to the dtype of the rows, as every gradient
by such rows will be; loss and gradients by scale and bias are added up from those that were not rounded.

The idea of fusing the loss with its products: Cheng et al., 2024, arXiv:2410.17243. This is our own.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from anmok.train.losses import walks
from anmok.train.losses.pairs import Positives, Settings, Sums
from anmok.train.losses.walks import Part, Square

LARGEST = 16384  # side of a square: kernels count in 32 bits
_ACROSS = 8  # chunks of columns at once where no slopes are kept


@dataclass(frozen=True, slots=True)
class _Tile:
    rows: int
    columns: int
    step: int
    warps: int
    depth: int  # steps under way at a time
    registers: int | None = None  # a thread may have

    def stages(self, operand: Tensor) -> int:
        """The depth, or less where a multiprocessor has less memory."""
        if not operand.is_cuda:
            return self.depth
        limit: int = getattr(torch.cuda.get_device_properties(operand.device), "shared_memory_per_block_optin", 98304)
        return max(2, min(self.depth, limit // ((self.rows + self.columns) * self.step * operand.itemsize)))


# Measured on an H200, one square of 8,192, D = 512. What a loss does with a tile beside its product takes as long as
# that, so two programs share a multiprocessor: hence at most 128 registers, or half as many rows.
_HALF = {
    "sigmoid_square": _Tile(128, 128, 64, 8, 3, 128),
    "softmax_parts": _Tile(64, 128, 64, 4, 3),
    "softmax_square": _Tile(64, 128, 64, 4, 3),
}
_SINGLE = {name: _Tile(128, 128, 32, 8, 3, 128) for name in _HALF}


def product(images: Tensor, texts: Tensor) -> torch.dtype | None:
    """What kernels would multiply these rows in, or None where torch's own products are to be taken."""
    if not images.is_cuda or not _has_kernels(images.device):
        return None
    if images.dtype == texts.dtype and images.dtype in (torch.bfloat16, torch.float16):
        return images.dtype
    is_single = torch.promote_types(torch.promote_types(images.dtype, texts.dtype), torch.float32) == torch.float32
    return torch.float32 if is_single and torch.backends.cuda.matmul.fp32_precision == "tf32" else None


@lru_cache
def _has_kernels(device: torch.device) -> bool:
    """Triton is there, and the card multiplies bf16 and TF32 (Ampere and later). AMD's was never tried."""
    is_nvidia = torch.version.cuda is not None and torch.cuda.get_device_capability(device) >= (8, 0)
    return is_nvidia and importlib.util.find_spec("triton") is not None


def add_sigmoid(
    sums: Sums, pair: tuple[Tensor, Tensor], factors: tuple[Tensor, Tensor], positives: Positives, settings: Settings
) -> None:
    """Adds the pairs of images (n, d) and texts (m, d), fp32, to ``sums``, in place; ``factors`` are scale and bias."""
    from anmok.train.losses.kernels import UNIT, sigmoid_square

    work = _Work.of(sigmoid_square, pair, torch.stack(factors), positives, settings)
    slopes = work.slopes() if sums.images is not None else None
    found = torch.zeros(3, dtype=torch.float64, device=work.images.device)

    def slope(square: Square) -> Tensor | None:
        parts = torch.zeros(3, work.tiles(*square), device=work.images.device)
        work.run(square, slopes, parts)
        found.add_(parts.sum(1, dtype=torch.float64))
        return None if slopes is None else _within(slopes, square)

    walks.add_gradients(sums.totals, work.pair, settings.chunk, slope, 1 / UNIT)
    sums.loss += found[0]
    sums.bias += found[1]
    sums.scale = found[2] if sums.scale is None else sums.scale + found[2]


def softmax_sums(
    pair: tuple[Tensor, Tensor], scale: Tensor, positives: Positives, settings: Settings
) -> tuple[Tensor, Tensor, Tensor]:
    """Normalisers of rows (n,) and columns (m,), and the sums of positive logits (n,), all float64."""
    from anmok.train.losses.kernels import softmax_parts

    images, texts = pair
    work = _Work.of(softmax_parts, pair, scale[None], positives, settings)

    def part(square: Square) -> Part:
        height, width = (one.stop - one.start for one in square)
        by_row = images.new_empty(3, _blocks(width, work.tile.columns), height)
        by_column = images.new_empty(2, _blocks(height, work.tile.rows), width)
        work.run(square, (by_row, by_column))
        return _joined(by_row), _joined(by_column), by_row[2].sum(0, dtype=torch.float64)

    sides = settings.chunk, _ACROSS * settings.chunk
    return walks.normalisers(images, (len(images), len(texts)), sides, part)


def softmax_gradients(
    pair: tuple[Tensor, Tensor],
    scale: Tensor,
    positives: Positives,
    settings: Settings,
    normalisers: tuple[Tensor, Tensor],
    given: tuple[Tensor, Tensor, Tensor],
) -> tuple[Tensor, Tensor, Tensor]:
    """By images (n, d), texts (m, d) and scale (), from the gradients by what ``softmax_sums`` returns."""
    from anmok.train.losses.kernels import UNIT, softmax_square

    work = _Work.of(softmax_square, pair, scale[None], positives, settings)
    slopes, totals = work.slopes(), tuple(torch.zeros_like(one) for one in pair)
    peak = torch.cat(given).abs().max().clamp_min(torch.finfo(torch.float32).tiny)  # slopes of up to 3 fit into fp16
    by_row, by_column, by_match = (one / peak for one in given)
    by_scale = torch.zeros((), dtype=torch.float64, device=scale.device)

    def slope(square: Square) -> Tensor:
        row, column = square
        parts = scale.new_empty(work.tiles(row, column))
        vectors = normalisers[0][row], normalisers[1][column], by_row[row], by_column[column], by_match[row]
        work.run(square, vectors, (slopes, parts))
        by_scale.add_(parts.sum(dtype=torch.float64))
        return _within(slopes, square)

    walks.add_gradients((totals[0], totals[1]), work.pair, settings.chunk, slope, 1 / UNIT)
    factor = scale * peak
    return totals[0].mul_(factor), totals[1].mul_(factor), (by_scale * peak).to(scale.dtype)


@dataclass(frozen=True, slots=True, eq=False)
class _Work:
    """One batch as a kernel reads it."""

    kernel: Any
    images: Tensor  # (n, D) in the dtype of the products, zeros from d on
    texts: Tensor  # (m, D)
    factors: Tensor  # fp32
    numbers: tuple[Tensor, Tensor]
    tile: _Tile
    stages: int
    chunk: int

    @classmethod
    def of(
        cls, kernel: Any, pair: tuple[Tensor, Tensor], factors: Tensor, positives: Positives, settings: Settings
    ) -> _Work:
        assert settings.product is not None
        tile = (_SINGLE if settings.product == torch.float32 else _HALF)[kernel.__name__]
        images, texts = (_operand(one, settings.product, tile.step) for one in pair)
        numbers = positives.numbers(len(images), len(texts), images.device)
        return cls(kernel, images, texts, factors.float(), numbers, tile, tile.stages(images), settings.chunk)

    @property
    def pair(self) -> tuple[Tensor, Tensor]:
        return self.images, self.texts

    def slopes(self) -> Tensor:
        """Room for those of one square. A row begins where cuBLAS likes it to."""
        height, width = min(self.chunk, len(self.images)), min(self.chunk, len(self.texts))
        return self.images.new_empty(height, width + -width % 16)

    def tiles(self, rows: slice, columns: slice) -> int:
        down, across = rows.stop - rows.start, columns.stop - columns.start
        return _blocks(down, self.tile.rows) * _blocks(across, self.tile.columns)

    def run(self, square: tuple[slice, slice], *outputs: Any) -> None:
        """One program a tile. ``outputs`` follow the factors in the kernel's arguments."""
        rows, columns = square
        width = min(self.chunk, len(self.texts))
        sizes = rows.stop - rows.start, columns.stop - columns.start, width + -width % 16
        pair, numbers = (self.images[rows], self.texts[columns]), (self.numbers[0][rows], self.numbers[1][columns])
        tile = self.tile
        with torch.cuda.device_of(self.images):  # type: ignore[no-untyped-call]
            self.kernel[(self.tiles(rows, columns),)](
                pair,
                numbers,
                self.factors,
                *outputs,
                sizes,
                SHAPE=(tile.rows, tile.columns, tile.step, self.images.shape[1]),
                num_warps=tile.warps,
                num_stages=self.stages,
                maxnreg=tile.registers,
            )


def _within(slopes: Tensor, square: Square) -> Tensor:
    """Of the room for a square's slopes what this one fills, (rows, columns)."""
    rows, columns = square
    return slopes[: rows.stop - rows.start, : columns.stop - columns.start]


def _blocks(count: int, size: int) -> int:
    return (count + size - 1) // size


def _operand(rows: Tensor, product: torch.dtype, step: int) -> Tensor:
    """Rows (n, d) to (n, D), D the next multiple of ``step``; fp32 to the nearest TF32."""
    wide = functional.pad(rows, (0, -rows.shape[1] % step)).to(product)  # (n, D)
    if product != torch.float32:
        return wide.contiguous()
    rounded: Tensor = wide.contiguous().view(torch.int32).add(4096).bitwise_and_(-8192).view(torch.float32)
    return rounded


def _joined(parts: Tensor) -> Tensor:
    """The logarithm of sums of exponentials over tiles, float64 (n,), from (2 or more, tiles, n): top and rest."""
    top = parts[0].amax(0)  # (n,)
    rest = (parts[0] - top).exp_().mul_(parts[1]).sum(0, dtype=torch.float64)  # (n,): 1, exact, and more
    return top.double() + rest.log()
