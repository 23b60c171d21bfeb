"""The blocks of a tower of CLIP's kind, read with as few steps as torch allows where the processor multiplies bfloat16.

transformers' block is a dozen modules, and what goes from one to the next is written and read again as float32. Here
queries, keys and values are one matrix, bias and GELU are part of the multiplication, a picture goes through by itself,
so that what it leaves lies in the cache, and its heads attend one after the other. Only the sum that runs past the
blocks stays float32. ``python -m benchmarks chat --models smolvlm-256m`` shows what that brings to the first token.

Architecture: A. Dosovitskiy et al., "An Image is Worth 16x16 Words" (ICLR 2021, arXiv:2010.11929).
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from anmok.nets.lean_attention import attended
from anmok.nets.lean_weights import Aside, Then, Twin, stays_exact

# Those of transformers whose blocks are of this form, and nothing beside it.
_BLOCKS: Final = frozenset(
    {"CLIPEncoderLayer", "Idefics2EncoderLayer", "Idefics3EncoderLayer", "SiglipEncoderLayer", "SmolVLMEncoderLayer"}
)
_LINEARS: Final = 6  # of a block
_THEN: Final[dict[str, Then]] = {"gelu": "gelu", "gelu_pytorch_tanh": "gelu-tanh", "quick_gelu": "gelu-quick"}


class Block(Aside):
    """One block: attention and two layers, each behind a norm and beside a sum that runs past."""

    def __init__(self, block: Any, then: Then) -> None:
        super().__init__()
        attention, inner = block.self_attn, block.mlp
        self._heads = int(attention.num_heads)
        norms = (block.layer_norm1, block.layer_norm2)
        self._norms = [(one.weight.detach(), one.bias.detach(), float(one.eps)) for one in norms]
        # The scale of the scores is that of the queries.
        three = (attention.q_proj, attention.k_proj, attention.v_proj)
        scales = (float(attention.scale), 1.0, 1.0)
        weight = torch.cat([scale * one.weight.detach() for one, scale in zip(three, scales, strict=True)])  # (3 W, W)
        bias = torch.cat([scale * one.bias.detach() for one, scale in zip(three, scales, strict=True)])  # (3 W,)
        self._qkv = Twin(weight, bias=bias)
        self._out = _twin(attention.out_proj)
        self._up = _twin(inner.fc1)
        self._then: Then = then
        self._down = _twin(inner.fc2)

    @property
    def nbytes(self) -> int:
        """Of matrices and norms."""
        norms: int = sum(weight.nbytes + bias.nbytes for weight, bias, _ in self._norms)
        return norms + sum(one.nbytes for one in (self._qkv, self._out, self._up, self._down))

    def forward(self, rows: Tensor, mask: Tensor | None = None) -> Tensor:
        """float32 (B, T, W) to the same; a mask is (B, 1, T, T)."""
        rows = rows.contiguous()  # patches come out of a convolution with their numbers far apart
        made = torch.empty_like(rows)
        for i, x in enumerate(rows):
            self._read(x, made[i], None if mask is None else mask[i])
        return made

    def _called(self, hidden_states: Tensor, attention_mask: Tensor | None = None, **_: Any) -> Tensor:
        """The same as transformers calls it, which hands down what no such block reads."""
        made: Tensor = self(hidden_states, attention_mask)
        return made

    def _read(self, x: Tensor, into: Tensor, mask: Tensor | None) -> None:
        """One picture (T, W)."""
        q, k, v = self._qkv(_normed(x, self._norms[0])).view(len(x), 3, self._heads, -1).unbind(1)  # (T, H, D)
        torch.add(x, self._out(attended(q, k, v, mask)), out=into)
        into += self._down(self._up(_normed(into, self._norms[1]), self._then))


def lay_out_blocks(net: nn.Module) -> int:
    """Puts ``Block`` in the place of all blocks of such towers in a net of float32 that is used and not trained; how
    many ``Linear`` these had. A block stays where it is, under its class, as transformers takes down what it gives by
    that; its insides are another's."""
    left_out = stays_exact(net)
    places: list[tuple[Any, Then]] = [
        (one, then) for one in net.modules() if one not in left_out and (then := _fits(one)) is not None
    ]
    for block, then in places:
        lean = Block(block, then)
        for name, _ in list(block.named_children()):
            delattr(block, name)
        block.lean = lean
        block.forward = lean._called
    return _LINEARS * len(places)


def _fits(block: Any) -> Then | None:
    """What such a block does between its two layers; None for another kind."""
    if type(block).__name__ not in _BLOCKS or not hasattr(block, "self_attn"):
        return None
    is_plain = all(one.dtype == torch.float32 and one.device.type == "cpu" for one in block.parameters())
    is_causal = getattr(block.self_attn, "is_causal", True)
    return _THEN.get(block.mlp.config.hidden_act) if is_plain and not is_causal else None


def _twin(linear: nn.Linear) -> Twin:
    return Twin(linear.weight.detach(), bias=linear.bias.detach())


def _normed(x: Tensor, norm: tuple[Tensor, Tensor, float]) -> Tensor:
    """float32 (T, W) to bfloat16."""
    weight, bias, epsilon = norm
    return functional.layer_norm(x, weight.shape, weight, bias, epsilon).to(torch.bfloat16)
