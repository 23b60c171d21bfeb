"""The two losses that bring pictures and texts into one space: CLIP's softmax over a batch, SigLIP's sigmoid a pair.

Sources: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision" (ICML 2021,
arXiv:2103.00020); Zhai et al., "Sigmoid Loss for Language Image Pre-Training" (ICCV 2023, arXiv:2303.15343). Several
positives a row: Yang et al., "Unified Contrastive Learning in Image-Text-Label Space" (CVPR 2022, arXiv:2204.03610).

``chunk`` sets the memory, never the value: squares of so many pairs are computed at a time, forward and backward, and
memory is O(N d). Left to itself it suits the device. ``chunk=None`` is the dense form with its N x N logits, which the
tests hold the other to.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from anmok.errors import BadRequest
from anmok.train.losses.pairs import Chunk, Positives
from anmok.train.losses.tiles import SigmoidSum, SoftmaxSums, exact, suited


def clip_loss(
    images: Tensor, texts: Tensor, scale: Tensor | float, groups: Tensor | None = None, chunk: Chunk | None = "auto"
) -> Tensor:
    """The mean of the cross-entropies of each image among all texts and of each text among all images, ().

    Args:
        images: unit rows (N, d), float64, float32, bf16 or fp16; halves are summed in float32.
        texts: the same, in any of these dtypes; text i is image i's.
        scale: the factor on the cosines, () or (1,): the exponential, not the logarithm that is learned.
        groups: int (N,). Pairs of one number are positives of each other, each with the same share of the target;
            for texts that occur more than once, such as names of classes.
        chunk: pairs on a side of what is computed at a time, "auto" for the device's own choice, or None for the
            dense form.

    Raises:
        BadRequest: shapes or dtypes that do not belong together.
    """
    given = images, texts
    images, texts, factor, _ = checked(images, texts, scale, 0.0, groups, chunk)
    if chunk is None:
        return _dense_softmax(images, texts, factor, groups)
    positives = Positives() if groups is None else Positives(groups=(groups, groups))
    rows, columns, matched = SoftmaxSums.apply(images, texts, factor, positives, suited(*given, chunk))  # type: ignore[no-untyped-call]
    share = 1.0 if groups is None else 1 / counts(groups, groups).to(matched.dtype)  # of a positive in its row's target
    loss: Tensor = ((rows + columns) / 2 - matched * share).mean()
    return loss.to(images.dtype)


def siglip_loss(
    images: Tensor,
    texts: Tensor,
    scale: Tensor | float,
    bias: Tensor | float,
    groups: Tensor | None = None,
    chunk: Chunk | None = "auto",
) -> Tensor:
    """Minus the log likelihood of all N^2 pairs, positive or not, divided by N, ().

    Arguments as for ``clip_loss``; ``bias`` is added to the scaled cosines. The paper begins at ``scale=10`` and
    ``bias=-10``.

    Raises:
        BadRequest: shapes or dtypes that do not belong together.
    """
    given = images, texts
    images, texts, factor, offset = checked(images, texts, scale, bias, groups, chunk)
    if chunk is None:
        return _dense_sigmoid(images, texts, factor, offset, groups)
    positives = Positives() if groups is None else Positives(groups=(groups, groups))
    way = suited(*given, chunk, has_gradients=needs_gradients(images, texts, factor, offset))
    total: Tensor = SigmoidSum.apply(images, texts, factor, offset, positives, way)  # type: ignore[no-untyped-call]
    loss: Tensor = total / len(images)
    return loss


def counts(groups: Tensor, among: Tensor) -> Tensor:
    """How often each number of ``groups`` (n,) occurs in ``among`` (m,): (n,)."""
    known, _, often = torch.unique(among, return_inverse=True, return_counts=True)
    found: Tensor = often[torch.searchsorted(known, groups)]
    return found


def needs_gradients(*tensors: Tensor) -> bool:
    return torch.is_grad_enabled() and any(one.requires_grad for one in tensors)


def checked(
    images: Tensor,
    texts: Tensor,
    scale: Tensor | float,
    bias: Tensor | float,
    groups: Tensor | None,
    chunk: Chunk | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The four in one dtype, float32 or float64.

    Raises:
        BadRequest: as the losses say.
    """
    if images.ndim != 2 or images.shape != texts.shape or not len(images):
        raise BadRequest(f"images {tuple(images.shape)} and texts {tuple(texts.shape)} must both be (N, d), N >= 1")
    if not (images.is_floating_point() and texts.is_floating_point()):
        raise BadRequest(f"images are {images.dtype} and texts {texts.dtype}: both must be floating")
    if groups is not None and (groups.shape != images.shape[:1] or groups.is_floating_point()):
        raise BadRequest(f"groups {groups.dtype} {tuple(groups.shape)} must be integers ({len(images)},)")
    if chunk not in (None, "auto") and not (isinstance(chunk, int) and chunk >= 1):
        raise BadRequest(f'chunk is {chunk!r}: at least 1, "auto", or None for the dense form')
    wide = torch.promote_types(torch.promote_types(images.dtype, texts.dtype), torch.float32)
    factor, offset = (torch.as_tensor(one, dtype=wide, device=images.device).reshape(()) for one in (scale, bias))
    return images.to(wide), texts.to(wide), factor, offset


def _dense_softmax(images: Tensor, texts: Tensor, scale: Tensor, groups: Tensor | None) -> Tensor:
    with exact(images):
        logits = (images * scale) @ texts.T  # (N, N)
    if groups is None:
        target = torch.arange(len(images), device=images.device)  # (N,)
    else:
        same = (groups[:, None] == groups).to(logits.dtype)  # (N, N)
        target = same / same.sum(1, keepdim=True)
    return (functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)) / 2


def _dense_sigmoid(images: Tensor, texts: Tensor, scale: Tensor, bias: Tensor, groups: Tensor | None) -> Tensor:
    with exact(images):
        logits = (images * scale) @ texts.T + bias  # (N, N)
    numbers = torch.arange(len(images), device=images.device) if groups is None else groups
    sign = 2 * (numbers[:, None] == numbers).to(logits.dtype) - 1  # (N, N)
    return -functional.logsigmoid(sign * logits).sum() / len(images)
