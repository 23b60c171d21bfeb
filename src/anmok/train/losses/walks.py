"""The one walk over all squares of pairs: what the sums of a loss and its gradients are, whoever makes a square.

Torch's own products (``tiles``) and Triton's kernels (``fused``) hand over how a square is made; the order of squares,
what is added up of them and in what precision is here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

import torch
from torch import Tensor

Square: TypeAlias = tuple[slice, slice]
Part: TypeAlias = tuple[Tensor, Tensor, Tensor | None]


def squares(count: int, other: int, chunk: int, across: int | None = None) -> Iterator[Square]:
    """Row by row, as slices of at most ``chunk`` rows and as many columns, or ``across`` of these."""
    width = across or chunk
    for row in range(0, count, chunk):
        for column in range(0, other, width):
            yield slice(row, min(row + chunk, count)), slice(column, min(column + width, other))


def fine(like: Tensor) -> torch.dtype:
    """The dtype in which sums of this tensor's numbers are kept: double where its device has it."""
    return torch.float64 if like.device.type != "mps" else like.dtype


def normalisers(
    like: Tensor,
    counts: tuple[int, int],
    sides: tuple[int, int],
    part: Callable[[Square], Part],
) -> tuple[Tensor, Tensor, Tensor]:
    """Of rows (n,) and columns (m,) the logarithms of the sums of exponentials, and what positives (n,) add up to.

    Args:
        like: its device; its dtype where the device has no float64.
        counts: n and m.
        sides: of a square, down and across.
        part: of one square the same three, (rows,), (columns,) and (rows,); the last is None without positives.
    """
    rows = like.new_full(counts[:1], -torch.inf, dtype=fine(like))
    columns = like.new_full(counts[1:], -torch.inf, dtype=fine(like))
    matched = torch.zeros_like(rows)
    for row, column in squares(*counts, *sides):
        by_row, by_column, by_match = part((row, column))
        rows[row] = torch.logaddexp(rows[row], by_row)
        columns[column] = torch.logaddexp(columns[column], by_column)
        if by_match is not None:
            matched[row] += by_match
    return rows, columns, matched


def add_gradients(
    totals: tuple[Tensor, Tensor] | None,
    pair: tuple[Tensor, Tensor],
    chunk: int,
    slope: Callable[[Square], Tensor | None],
    unit: float = 1.0,
) -> None:
    """Makes every square, and adds its part to the gradients by images and texts, in place.

    Args:
        totals: of images (n, d) and texts (m, d), not yet scaled; None where nobody asked for them.
        pair: images (n, D) and texts (m, D), as ``slope`` is multiplied by them; zeros from d on.
        chunk: side of a square.
        slope: the derivatives of a square by its logits, (rows, columns), times 1 / ``unit``; it is used up before the
            next one is made. None where ``totals`` are.
        unit: see ``slope``.
    """
    images, texts = pair
    for rows, columns in squares(len(images), len(texts), chunk):
        made = slope((rows, columns))
        if made is None or totals is None:
            continue
        width = totals[0].shape[1]
        _add_product(totals[0][rows], made, texts[columns, :width], unit)
        _add_product(totals[1][columns], made.T, images[rows, :width], unit)


def _add_product(into: Tensor, left: Tensor, right: Tensor, factor: float) -> None:
    """``into`` (a, c) += factor * left (a, b) @ right (b, c); of halves the sums are in the dtype of ``into``."""
    if left.dtype == into.dtype:
        into.addmm_(left, right, alpha=factor)
    else:
        torch.addmm(into, left, right, out_dtype=into.dtype, alpha=factor, out=into)
