"""Triton kernels for a square of pairs: logits are made in registers and used there; only slopes are written.

A program makes one tile of the square. What it adds up over its tile goes to a place of its own, so that no result
depends on the order in which programs ran. Rows are (n, D) and (m, D), contiguous, in bf16, fp16, or in fp32 that was
rounded to tf32; products are summed in fp32. ``SHAPE`` is (tile rows, tile columns, step, D), D a multiple of the
step. Slopes are the derivatives of the loss by the logits times ``UNIT``, a power of two, which keeps those of fp16
away from zero.

Imported where it is run: Triton comes with torch's builds for CUDA and with no others.
"""

from __future__ import annotations

import triton  # type: ignore[import-not-found,unused-ignore]  # pyright: ignore[reportMissingImports]
import triton.language as tl  # type: ignore[import-not-found,unused-ignore]  # pyright: ignore[reportMissingImports]

UNIT = 16384.0
_UNIT = tl.constexpr(UNIT)  # a kernel may read no other kind of global


@triton.jit  # type: ignore[untyped-decorator,unused-ignore]
def _place(sizes: tl.tuple, ROWS: tl.constexpr, COLUMNS: tl.constexpr) -> tl.tuple:
    """The tile's number, its rows and its columns; those beyond the square are there as well."""
    tiles = tl.cdiv(sizes[0], ROWS)
    down, across = tl.program_id(0) % tiles, tl.program_id(0) // tiles
    row = down * ROWS + tl.arange(0, ROWS)  # (R,)
    column = across * COLUMNS + tl.arange(0, COLUMNS)  # (C,)
    return down, across, row, column


@triton.jit  # type: ignore[untyped-decorator,unused-ignore]
def _products(
    pair: tl.tuple, row: tl.tensor, column: tl.tensor, sizes: tl.tuple, STEP: tl.constexpr, WIDTH: tl.constexpr
) -> tl.tensor:
    """Inner products (R, C). Rows beyond the last are read as the last one."""
    inner = tl.arange(0, STEP)  # (K,)
    left = pair[0] + tl.minimum(row, sizes[0] - 1)[:, None] * WIDTH + inner[None, :]  # (R, K)
    right = pair[1] + tl.minimum(column, sizes[1] - 1)[None, :] * WIDTH + inner[:, None]  # (K, C)
    total = tl.zeros((row.shape[0], column.shape[0]), tl.float32)
    for start in range(0, WIDTH, STEP):
        total = tl.dot(tl.load(left + start), tl.load(right + start), total, input_precision="tf32")
    return total


@triton.jit  # type: ignore[untyped-decorator,unused-ignore]
def _matches(numbers: tl.tuple, row: tl.tensor, column: tl.tensor, sizes: tl.tuple) -> tl.tensor:
    """bool (R, C): pairs of one number."""
    mine = tl.load(numbers[0] + row, mask=row < sizes[0], other=0)
    theirs = tl.load(numbers[1] + column, mask=column < sizes[1], other=0)
    return mine[:, None] == theirs[None, :]


@triton.jit  # type: ignore[untyped-decorator,unused-ignore]
def _write(slopes: tl.tensor, slope: tl.tensor, row: tl.tensor, column: tl.tensor, sizes: tl.tuple) -> None:
    """(R, C) in units, to where they belong. fp32 is rounded to the ten bits that a tensor core reads."""
    valid = (row < sizes[0])[:, None] & (column < sizes[1])[None, :]
    slope = slope * _UNIT
    if slopes.dtype.element_ty == tl.float32:
        slope = ((slope.to(tl.int32, bitcast=True) + 4096) & -8192).to(tl.float32, bitcast=True)
    tl.store(slopes + row[:, None] * sizes[2] + column[None, :], slope.to(slopes.dtype.element_ty), mask=valid)


@triton.jit  # type: ignore[untyped-decorator,unused-ignore]
def _log1p(x: tl.tensor) -> tl.tensor:
    """Of 0 to 1, to 4e-7 of itself: a minimax polynomial. Triton's logarithm is slow, and 1 + x forgets x."""
    high = 0.178472049 + x * (-0.109022858 + x * (0.0449866008 - x * 0.00877894296))
    return x * (1.0 + x * (-0.499981803 + x * (0.332840637 + x * (-0.245368651 + x * high))))


@triton.jit  # type: ignore[untyped-decorator,unused-ignore]
def sigmoid_square(
    pair: tl.tuple,
    numbers: tl.tuple,
    factors: tl.tensor,
    slopes: tl.tensor,
    sums: tl.tensor,
    sizes: tl.tuple,
    SHAPE: tl.constexpr,
) -> None:
    """To ``sums`` (3, tiles): the loss, the slopes, the slopes times the products. To ``slopes`` unless it is None.

    ``factors`` (2,) are scale and bias; ``sizes`` n, m and the width of ``slopes``.
    """
    _down, _across, row, column = _place(sizes, SHAPE[0], SHAPE[1])
    products = _products(pair, row, column, sizes, SHAPE[2], SHAPE[3])
    logits = products * tl.load(factors) + tl.load(factors + 1)
    valid = (row < sizes[0])[:, None] & (column < sizes[1])[None, :]
    mine = _matches(numbers, row, column, sizes)
    logits = tl.where(mine, -logits, logits)  # a positive pair costs what a negative one of the opposite logit does
    logits = tl.where(valid, logits, -1e30)  # costs nothing
    small = tl.exp(-tl.abs(logits))
    loss = tl.maximum(logits, 0.0) + _log1p(small)
    share = 1.0 / (1.0 + small)
    slope = tl.where(logits >= 0, share, small * share)
    slope = tl.where(mine, -slope, slope)
    tiles = tl.num_programs(0)
    mark = sums + tl.program_id(0)
    tl.store(mark, tl.sum(loss))
    if slopes is not None:
        tl.store(mark + tiles, tl.sum(slope))
        tl.store(mark + 2 * tiles, tl.sum(slope * products))
        _write(slopes, slope, row, column, sizes)


@triton.jit  # type: ignore[untyped-decorator,unused-ignore]
def softmax_parts(
    pair: tl.tuple, numbers: tl.tuple, factors: tl.tensor, parts: tl.tuple, sizes: tl.tuple, SHAPE: tl.constexpr
) -> None:
    """Of each row and column of the tile the largest logit, and the sum of exponentials beside it.

    To ``parts``: (3, tiles across, n) of the rows, the third the sum of the positives' logits, and
    (2, tiles down, m) of the columns.
    """
    down, across, row, column = _place(sizes, SHAPE[0], SHAPE[1])
    logits = _products(pair, row, column, sizes, SHAPE[2], SHAPE[3]) * tl.load(factors)
    valid = (row < sizes[0])[:, None] & (column < sizes[1])[None, :]
    mine = _matches(numbers, row, column, sizes) & valid
    matched = tl.sum(tl.where(mine, logits, 0.0), 1)  # (R,)
    logits = tl.where(valid, logits, -1e30)  # infinity would make a row of nothing else no number
    top = tl.max(logits, 1)  # (R,)
    rest = tl.sum(tl.exp(logits - top[:, None]), 1)  # (R,)
    n, m = sizes[0], sizes[1]
    mark, step = parts[0] + across * n + row, tl.cdiv(m, SHAPE[1]) * n
    tl.store(mark, top, mask=row < n)
    tl.store(mark + step, rest, mask=row < n)
    tl.store(mark + 2 * step, matched, mask=row < n)
    top = tl.max(logits, 0)  # (C,)
    rest = tl.sum(tl.exp(logits - top[None, :]), 0)  # (C,)
    mark = parts[1] + down * m + column
    tl.store(mark, top, mask=column < m)
    tl.store(mark + tl.cdiv(n, SHAPE[0]) * m, rest, mask=column < m)


@triton.jit  # type: ignore[untyped-decorator,unused-ignore]
def softmax_square(
    pair: tl.tuple,
    numbers: tl.tuple,
    factors: tl.tensor,
    vectors: tl.tuple,
    outputs: tl.tuple,
    sizes: tl.tuple,
    SHAPE: tl.constexpr,
) -> None:
    """To ``outputs``: the slopes, and (tiles,) the sums of slopes times products.

    ``vectors``: normalisers (n,) of rows and (m,) of columns, the gradients by both, and that by the positives (n,).
    """
    _down, _across, row, column = _place(sizes, SHAPE[0], SHAPE[1])
    products = _products(pair, row, column, sizes, SHAPE[2], SHAPE[3])
    logits = products * tl.load(factors)
    is_row, is_column = row < sizes[0], column < sizes[1]
    rows = tl.load(vectors[0] + row, mask=is_row, other=1e30)
    columns = tl.load(vectors[1] + column, mask=is_column, other=1e30)
    by_row = tl.load(vectors[2] + row, mask=is_row, other=0.0)
    by_column = tl.load(vectors[3] + column, mask=is_column, other=0.0)
    by_match = tl.load(vectors[4] + row, mask=is_row, other=0.0)
    slope = tl.exp(logits - rows[:, None]) * by_row[:, None] + tl.exp(logits - columns[None, :]) * by_column[None, :]
    slope += tl.where(_matches(numbers, row, column, sizes), by_match[:, None], 0.0)
    slope = tl.where(is_row[:, None] & is_column[None, :], slope, 0.0)
    tl.store(outputs[1] + tl.program_id(0), tl.sum(slope * products))
    _write(outputs[0], slope, row, column, sizes)
