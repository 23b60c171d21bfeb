"""All pairs of N images and N texts, a square of them at a time: losses and their gradients in memory O(N d).

No N x N matrix is ever kept. Both gradients have closed forms, so autograd has nothing to store per pair:

- the sigmoid loss is a sum over pairs, so a square's share of the gradients is added up while its logits are there;
- the softmax loss needs the normaliser of a whole row or column before any gradient, so the forward pass gathers
  these alone (two vectors) and the backward pass computes the logits once more.

What comes in has one dtype, float32 or float64; the callers bring halves up to it, so that products of bf16 are
summed in fp32. Where ``Settings.product`` says so, squares are the work of ``fused``; everything else is here.

Idea of tiling a contrastive loss: Cheng et al., "Breaking the Memory Barrier: Near Infinite Batch Size Scaling for
Contrastive Loss" (2024, arXiv:2410.17243). This is our own, in plain torch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from anmok.train.losses import fused, walks
from anmok.train.losses.pairs import Chunk, Positives, Settings, Sums
from anmok.train.losses.walks import Part, Square

CHUNK = 1024  # on a CPU: 4 MB of logits stay in its cache
_CUDA, _FUSED = 4096, 8192  # on CUDA: a square must take longer than to launch it; two of 64 MB, one of 128 to 256
_SOFT = 40.0  # beyond it softplus(x) is x, also in float64 but for 1e-17


def suited(images: Tensor, texts: Tensor, chunk: Chunk, *, has_gradients: bool = True) -> Settings:
    """How these rows (N, d), in the dtype in which they were given, are best gone over on their device."""
    product = fused.product(images, texts)
    own = _FUSED if product is not None else _CUDA if images.is_cuda else CHUNK
    side = own if chunk == "auto" else chunk
    if product is not None:
        side = min(side, fused.LARGEST)
    return Settings(side, product, has_gradients)


def add_sigmoid(
    sums: Sums,
    pair: tuple[Tensor, Tensor],
    factors: tuple[Tensor, Tensor],
    positives: Positives,
    settings: Settings,
) -> None:
    """Adds the pairs of images (n, d) and texts (m, d) to ``sums``, in place; ``factors`` are scale and bias."""
    if settings.product is not None:
        fused.add_sigmoid(sums, pair, factors, positives, settings)
        return
    (images, texts), (scale, bias) = pair, factors

    def slope(square: Square) -> Tensor | None:
        rows, columns = square
        offset = bias.repeat(columns.stop - columns.start)  # (columns,): a vector is added within the product
        logits = torch.addmm(offset, images[rows] * scale, texts[columns].T)  # (rows, columns)
        mine = positives.within(rows, columns, images.device)
        if mine is not None:  # a positive pair costs what a negative one of the opposite logit does
            logits = torch.where(mine, -logits, logits)
        sums.loss += functional.softplus(logits, threshold=_SOFT).sum()
        if sums.totals is None:
            return None
        made = logits.sigmoid_()
        if mine is not None:
            made = torch.where(mine, -made, made)
        sums.bias += made.sum()
        return made

    walks.add_gradients(sums.totals, pair, settings.chunk, slope)


class SigmoidSum(torch.autograd.Function):
    """The sum of the sigmoid loss over all pairs, ()."""

    @staticmethod
    def forward(
        ctx: Any, images: Tensor, texts: Tensor, scale: Tensor, bias: Tensor, positives: Positives, settings: Settings
    ) -> Tensor:
        sums = Sums.zero(images, texts, has_gradients=settings.has_gradients)
        with exact(images):
            add_sigmoid(sums, (images, texts), (scale, bias), positives, settings)
        if sums.images is not None:
            ctx.save_for_backward(sums.images, sums.texts, scale, sums.by_scale(images), sums.bias)
        return sums.loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor | None, ...]:
        return *sigmoid_gradients(given, *ctx.saved_tensors), None, None


def sigmoid_gradients(
    given: Tensor, by_images: Tensor, by_texts: Tensor, scale: Tensor, by_scale: Tensor, by_bias: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """By images (n, d), texts (m, d), scale () and bias (), from the sums and the gradient () of their sum."""
    factor = given * scale
    return by_images * factor, by_texts * factor, by_scale * given, by_bias * given


class SoftmaxSums(torch.autograd.Function):
    """What the softmax loss is made of: three vectors, in double precision where the device has it.

    ``rows`` (n,) and ``columns`` (m,) are the logarithms of the sums of exponentials of the logits over texts and
    over images; ``matched`` (n,) is the sum of each image's positive logits. A difference of a normaliser and a
    logit of 100 each is a loss of 1e-6 in a net that has learned: hence the precision, and hence the logits of the
    positives come from the same products as the normalisers.
    """

    @staticmethod
    def forward(
        ctx: Any, images: Tensor, texts: Tensor, scale: Tensor, positives: Positives, settings: Settings
    ) -> tuple[Tensor, Tensor, Tensor]:
        with exact(images):
            work = fused.softmax_sums if settings.product is not None else _softmax_sums
            rows, columns, matched = work((images, texts), scale, positives, settings)
        ctx.save_for_backward(images, texts, scale, rows.to(images.dtype), columns.to(images.dtype))
        ctx.positives, ctx.settings = positives, settings
        return rows, columns, matched

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_row: Tensor, by_column: Tensor, by_match: Tensor) -> tuple[Tensor | None, ...]:
        images, texts, scale, *normalisers = ctx.saved_tensors
        given = by_row.to(images.dtype), by_column.to(images.dtype), by_match.to(images.dtype)
        work = fused.softmax_gradients if ctx.settings.product is not None else _softmax_gradients
        with exact(images):
            found = work((images, texts), scale, ctx.positives, ctx.settings, tuple(normalisers), given)
        return *found, None, None


def _softmax_sums(
    pair: tuple[Tensor, Tensor], scale: Tensor, positives: Positives, settings: Settings
) -> tuple[Tensor, Tensor, Tensor]:
    images, texts = pair

    def part(square: Square) -> Part:
        row, column = square
        logits = (images[row] * scale) @ texts[column].T  # (row, column)
        mine = positives.within(row, column, images.device)
        matched = None if mine is None else torch.where(mine, logits, 0).sum(1)
        return _normaliser(logits, 1), _normaliser(logits, 0), matched

    return walks.normalisers(images, (len(images), len(texts)), (settings.chunk, settings.chunk), part)


def _softmax_gradients(
    pair: tuple[Tensor, Tensor],
    scale: Tensor,
    positives: Positives,
    settings: Settings,
    normalisers: tuple[Tensor, Tensor],
    given: tuple[Tensor, Tensor, Tensor],
) -> tuple[Tensor, Tensor, Tensor]:
    (images, texts), (rows, columns) = pair, normalisers
    totals = torch.zeros_like(images), torch.zeros_like(texts)

    def slope(square: Square) -> Tensor:
        row, column = square
        logits = (images[row] * scale) @ texts[column].T  # (row, column)
        made = (logits - rows[row, None]).exp_().mul_(given[0][row, None])
        made += logits.sub_(columns[column]).exp_().mul_(given[1][column])
        mine = positives.within(row, column, images.device)
        if mine is not None:
            made += torch.where(mine, given[2][row, None], 0)
        return made

    walks.add_gradients(totals, pair, settings.chunk, slope)
    return totals[0] * scale, totals[1] * scale, (images * totals[0]).sum()


def exact(tensor: Tensor) -> torch.autocast:
    """Autocast off: it would round the logits to eight bits."""
    return torch.autocast(tensor.device.type, enabled=False)


def _normaliser(logits: Tensor, dimension: int) -> Tensor:
    """The log of the sum of exponentials, over one of two dimensions of (r, c): the largest one apart from the rest."""
    fine = walks.fine(logits)
    top = logits.amax(dimension, keepdim=True)
    rest = (logits - top).exp_().sum(dimension)  # at least 1
    return top.squeeze(dimension).to(fine) + rest.to(fine).log()
