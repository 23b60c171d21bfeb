"""Attention of many rows by bfloat16 on a processor: of a tower's rows head by head, of a prompt's block by block.

All heads at once make scores that no cache holds; those of one head are 2 MB for 1,024 patches, and stay there. And
their exponentials are taken as they are, without the greatest of a row taken off first; only where the sums show that
these left the range of bfloat16, it is done again by softmax. What both bring is in the first token of ``python -m
benchmarks chat``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

_NAME: Final = "anmok_heads"
# Of scores (..., S) weights, and the sums (...) that they still have to be divided by.
_Shares: TypeAlias = Callable[[Tensor], tuple[Tensor, Tensor | None]]
_SAFE: Final = (1e-30, 1e30)  # such sums lost nothing that counts, and times values of ten million are in range
_AT_ONCE: Final = 2**20  # scores that are made together
_BLOCK: Final = 128  # queries of a prompt whose scores are computed together
_FEWEST: Final = 128  # rows from which on it is worth it


def attend_by_heads(tower: nn.Module) -> bool:
    """Makes a transformers tower attend so, if it attends by ``scaled_dot_product_attention``; whether it does."""
    config: Any = getattr(tower, "config", None)
    if getattr(config, "_attn_implementation", None) != "sdpa":
        return False
    from transformers import AttentionInterface, AttentionMaskInterface  # there already, where such a tower is
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(_NAME, _attended)
    AttentionMaskInterface.register(_NAME, sdpa_mask)
    config._attn_implementation = _NAME
    return True


def by_heads(query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
    """(B, H, T, D), (B, H, S, D) and (B, H, S, E) to bfloat16 (B, T, H, E): every row sees every other."""
    batch, heads, count, width = query.shape
    q = (query * scaling).to(torch.bfloat16).reshape(-1, count, width)  # (B * H, T, D)
    k = key.to(torch.bfloat16).reshape(batch * heads, -1, width).transpose(1, 2)  # (B * H, D, S)
    v = value.to(torch.bfloat16).reshape(batch * heads, -1, value.shape[-1])  # (B * H, S, E)
    made = torch.empty(batch, count, heads, v.shape[-1], dtype=torch.bfloat16)
    for b in range(batch):  # each by itself, so that a picture does not depend on the others
        own = slice(b * heads, (b + 1) * heads)
        _head_by_head(q[own], k[own], v[own], made[b])
    return made


def attended(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    """bfloat16 (T, H, D) each, the queries scaled, to (T, H * D): every row sees every other, or those that a mask (1,
    T, T) lets it."""
    count, heads, width = query.shape
    if mask is not None or count < _FEWEST:
        q, k, v = (one.transpose(0, 1)[None] for one in (query, key, value))  # (1, H, T, D)
        seen = functional.scaled_dot_product_attention(q, k, v, mask, scale=1.0)  # (1, H, T, D)
        return seen[0].transpose(0, 1).reshape(count, heads * width)
    made = torch.empty_like(query, memory_format=torch.contiguous_format)
    _head_by_head(query.transpose(0, 1), key.permute(1, 2, 0), value.transpose(0, 1), made)
    return made.view(count, heads * width)


def in_blocks(queries: Tensor, kept: Tensor, may_be_loud: bool = False) -> Tensor:
    """Causal attention: scaled queries float32 (T, heads, head) of the last T of S tokens, and keys above values (2 *
    kv heads, S, head), to bfloat16 (T, heads * head). Of 512 tokens in a third of the time of torch's own, which
    multiplies in float32 here. ``_BLOCK`` queries together see no tokens beyond the last of them. Where scores
    ``may_be_loud``, nothing is tried that large ones forbid.
    """
    made = torch.empty(len(queries), queries[0].numel(), dtype=torch.bfloat16)
    into = made.view(queries.shape)
    if may_be_loud or len(queries) < _FEWEST:
        _blocks(queries, kept, into, _softmax)
    else:
        _safely(lambda shares: _blocks(queries, kept, into, shares))
    return made


def _safely(attend: Callable[[_Shares], list[Tensor]]) -> None:
    """Attends by exponentials as they are, and again by softmax where a sum of those it gives is out of range."""
    least, most = torch.cat(attend(_raised), -1).aminmax()
    if not _SAFE[0] < float(least) <= float(most) < _SAFE[1]:  # or is not a number
        attend(_softmax)


def _raised(scores: Tensor) -> tuple[Tensor, Tensor | None]:
    return scores, scores.exp_().sum(-1)


def _softmax(scores: Tensor) -> tuple[Tensor, Tensor | None]:
    return scores.softmax(-1), None


def _divided(mixed: Tensor, total: Tensor | None, into: Tensor) -> list[Tensor]:
    """(..., E) by its sums (...), if any, into the same; all sums."""
    if total is None:
        into.copy_(mixed)
        return []
    torch.div(mixed, total.view(*mixed.shape[:-1], 1), out=into)
    return [total]


def _blocks(queries: Tensor, kept: Tensor, into: Tensor, shares: _Shares) -> list[Tensor]:
    """``in_blocks``, into (T, heads, head); all sums that were divided by, each (kv heads, group * n)."""
    count, kv_heads, head = len(queries), len(kept) // 2, kept.shape[2]
    keys, values = kept.to(torch.bfloat16).chunk(2)  # (kv heads, S, head)
    before, after = (one.view(count, kv_heads, -1, head).permute(1, 2, 0, 3) for one in (queries, into))
    seen, totals = kept.shape[1] - count, []
    for some, made in zip(torch.split(before, _BLOCK, 2), torch.split(after, _BLOCK, 2), strict=True):
        shape = some.shape  # (kv heads, group, n, head)
        seen += shape[2]
        here = torch.empty(shape, dtype=torch.bfloat16).copy_(some)  # (kv heads, group, n, head)
        scores = torch.bmm(here.view(kv_heads, -1, head), keys[:, :seen].transpose(1, 2))  # (kv heads, group * n, seen)
        own = scores.view(*shape[:3], seen)[..., seen - shape[2] :]  # (kv heads, group, n, n)
        own.add_(_unseen()[: shape[2], : shape[2]])  # faster than masked_fill_
        weights, total = shares(scores)
        mixed = torch.bmm(weights, values[:, :seen])  # (kv heads, group * n, head)
        totals += _divided(mixed.view(shape), total, made)
    return totals


@cache
def _unseen() -> Tensor:
    """Of a block's own tokens, those behind each."""
    return torch.full((_BLOCK, _BLOCK), -torch.inf, dtype=torch.bfloat16).triu_(1)


def _head_by_head(queries: Tensor, keys: Tensor, values: Tensor, into: Tensor) -> None:
    """Scaled queries (H, T, D), keys (H, D, S) and values (H, S, E): what becomes of them goes into (T, H, E)."""

    def attend(shares: _Shares) -> list[Tensor]:
        each = zip(queries, keys, values, into.unbind(1), strict=True)
        return [total for one in each for total in _one_head(*one, shares)]

    _safely(attend)


def _one_head(query: Tensor, key: Tensor, value: Tensor, into: Tensor, shares: _Shares) -> Iterator[Tensor]:
    """(T, D), (D, S) and (S, E) into (T, E); all sums that were divided by, each (n,)."""
    rows = max(1, _AT_ONCE // key.shape[1])
    for some, made in zip(torch.split(query, rows), torch.split(into, rows), strict=True):
        weights, total = shares(some @ key)  # (n, S), (n,)
        yield from _divided(weights @ value, total, made)


def _attended(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **rest: Any
) -> tuple[Tensor, None]:
    """transformers' way to ask for attention."""
    sees_all = attention_mask is None and not rest.get("is_causal", getattr(module, "is_causal", True))
    is_used = not (torch.is_grad_enabled() and query.requires_grad)  # and not trained
    is_plain = is_used and sees_all and key.shape[:2] == query.shape[:2] and not rest.get("dropout")
    if not is_plain or query.shape[2] < _FEWEST or query.device.type != "cpu":
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        return sdpa_attention_forward(module, query, key, value, attention_mask, **rest)
    scaling = rest.get("scaling")
    made = by_heads(query, key, value, query.shape[-1] ** -0.5 if scaling is None else scaling)
    return made.to(query.dtype), None
