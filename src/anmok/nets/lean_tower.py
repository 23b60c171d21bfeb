"""The blocks of a tower of CLIP's kind, read with as few steps as torch allows where a processor multiplies bfloat16,
and in part by bytes where it multiplies those faster.

transformers' block is a dozen modules, and what goes from one to the next is written and read again as float32. Here
queries, keys and values are one matrix, bias and GELU (but for CLIP's quick one) are part of the multiplication, a
picture goes through by itself, so that what it leaves lies in the cache, and its heads attend one after the other. Only
the sum that runs past the blocks stays float32. What reads the rows of a norm, seven of twelve products, takes codes of
turned rows (``lean_bytes``): turned, whatever stands out in a row stands out no more. ``python -m benchmarks chat
--models smolvlm-256m`` shows what that brings to the first token.

Architecture: A. Dosovitskiy et al., "An Image is Worth 16x16 Words" (ICLR 2021, arXiv:2010.11929).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from anmok.errors import Unsupported
from anmok.nets.lean_attention import attended
from anmok.nets.lean_bytes import STEPS, Bytes, coded
from anmok.nets.lean_weights import Aside, Float, Then, Twin, multiplies_bytes, stays_exact
from anmok.nets.rotations import Spread

# Those of transformers whose blocks are of this form, and nothing beside it.
_BLOCKS: Final = frozenset(
    {"CLIPEncoderLayer", "Idefics2EncoderLayer", "Idefics3EncoderLayer", "SiglipEncoderLayer", "SmolVLMEncoderLayer"}
)
_SCALED: Final = "InternVLVisionLayer"  # the same with other names, and two factors a number
_LINEARS: Final = 6  # of a block
_THEN: Final[dict[str, Then]] = {"gelu": "gelu", "gelu_pytorch_tanh": "gelu-tanh", "quick_gelu": "gelu-quick"}


@dataclass(frozen=True, slots=True)
class Parts:
    """Of a block, whatever it calls them. ``gains`` (W,) are factors of what attention and the layers add."""

    attention: Any
    norms: tuple[Any, Any]
    out: nn.Linear
    layers: Any
    then: Then
    gains: tuple[Tensor | None, Tensor | None] = (None, None)


class Block(Aside):
    """One block: attention and two layers, each behind a norm and beside a sum that runs past."""

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        attention = parts.attention
        self._heads = int(attention.num_heads)
        # The scale of the scores is that of the queries.
        plain = [_plain(one) for one in (attention.q_proj, attention.k_proj, attention.v_proj)]
        plain[0] = (float(attention.scale) * plain[0][0], float(attention.scale) * plain[0][1])
        qkv = torch.cat([one for one, _ in plain]), torch.cat([one for _, one in plain])  # (3 W, W), (3 W,)
        self._first, self._qkv = _behind(parts.norms[0], *qkv)
        self._out = _twin(parts.out, parts.gains[0])
        self._second, self._up = _behind(parts.norms[1], *_plain(parts.layers.fc1))
        self._then: Then = parts.then
        self._down = _twin(parts.layers.fc2, parts.gains[1])

    @property
    def nbytes(self) -> int:
        """Of matrices and norms."""
        matrices = (self._qkv, self._out, self._up, self._down)
        return self._first.nbytes + self._second.nbytes + sum(one.nbytes for one in matrices)

    def forward(self, rows: Tensor, mask: Tensor | None = None) -> Tensor:
        """float32 (B, T, W) to the same; a mask is (B, 1, T, T)."""
        rows = rows.contiguous()  # patches come out of a convolution with their numbers far apart
        made = torch.empty_like(rows)
        for i, x in enumerate(rows):
            self._read(x, made[i], None if mask is None else mask[i])
        return made

    def _called(self, hidden_states: Tensor, attention_mask: Tensor | None = None, **rest: Any) -> Tensor:
        """The same as transformers calls it, which hands down what no such block reads, but for one thing: CLIP's texts
        go through blocks of the same class.

        Raises:
            Unsupported: rows are to see those before them alone.
        """
        if rest.get("is_causal"):
            raise Unsupported("blocks laid out for pictures were asked to read a text; lay out the tower alone")
        made: Tensor = self(hidden_states, attention_mask)
        return made

    def _read(self, x: Tensor, into: Tensor, mask: Tensor | None) -> None:
        """One picture (T, W)."""
        q, k, v = self._qkv(self._first(x)).view(len(x), 3, self._heads, -1).unbind(1)  # (T, H, D)
        torch.add(x, self._out(attended(q, k, v, mask)), out=into)
        into += self._down(self._up(self._second(into), self._then))


def lay_out_blocks(net: nn.Module) -> int:
    """Puts ``Block`` in the place of all blocks of such towers in a net of float32 that is used and not trained; how
    many ``Linear`` these had. A block stays where it is, under its class, as transformers takes down what it gives by
    that; its insides are another's."""
    left_out = stays_exact(net)
    places: list[tuple[Any, Parts]] = [
        (one, parts) for one in net.modules() if one not in left_out and (parts := _parts(one)) is not None
    ]
    for block, parts in places:
        lean = Block(parts)
        for name in [*dict(block.named_children()), *dict(block.named_parameters(recurse=False))]:
            delattr(block, name)
        block.lean = lean
        block.forward = lean._called
    return _LINEARS * len(places)


def _parts(block: Any) -> Parts | None:
    """Those of a block that can be read so; None for another."""
    kind = type(block).__name__
    if hasattr(block, "lean") or (kind not in _BLOCKS and kind != _SCALED):
        return None
    if kind == _SCALED:
        attention, norms = block.attention, (block.layernorm_before, block.layernorm_after)
        out, gains = attention.projection_layer, (block.lambda_1.detach(), block.lambda_2.detach())
        fits = type(attention.q_norm) is type(attention.k_norm) is nn.Identity
    else:
        attention, norms = block.self_attn, (block.layer_norm1, block.layer_norm2)
        out, gains = attention.out_proj, (None, None)
        fits = True
    then = _THEN.get(block.mlp.config.hidden_act)
    fits &= not attention.is_causal and all(type(one) is nn.LayerNorm for one in norms)
    fits &= all(one.dtype == torch.float32 and one.device.type == "cpu" for one in block.parameters())
    return Parts(attention, norms, out, block.mlp, then, gains) if fits and then is not None else None


def _plain(linear: nn.Linear) -> tuple[Tensor, Tensor]:
    """Weight (N, K) and bias (N,), of zeros where there is none."""
    weight = linear.weight.detach()
    return weight, weight.new_zeros(len(weight)) if linear.bias is None else linear.bias.detach()


def _twin(linear: nn.Linear, gain: Tensor | None = None) -> Twin:
    weight, bias = _plain(linear)
    return Twin(weight, bias=bias) if gain is None else Twin(gain[:, None] * weight, bias=gain * bias)


class _Normed:
    """float32 (T, W) to bfloat16."""

    def __init__(self, norm: nn.LayerNorm) -> None:
        self._weight, self._bias, self._epsilon = norm.weight.detach(), norm.bias.detach(), norm.eps
        self.nbytes = self._weight.nbytes + self._bias.nbytes

    def __call__(self, x: Tensor) -> Tensor:
        return functional.layer_norm(x, self._weight.shape, self._weight, self._bias, self._epsilon).to(torch.bfloat16)


class _Coded:
    """float32 (T, W) to codes of turned rows; the norm's weight and bias are part of the matrix that reads them."""

    def __init__(self, norm: nn.LayerNorm, spread: Spread) -> None:
        self._signs, self._epsilon = STEPS * spread.signs, norm.eps
        self._block = Float(spread.block)
        self._size = len(spread.block)
        self.nbytes = self._signs.nbytes + self._block.nbytes

    def __call__(self, x: Tensor) -> Tensor:
        normed = functional.layer_norm(x, self._signs.shape, self._signs, None, self._epsilon)  # (T, W)
        return coded(self._block(normed.view(-1, self._size))).view(x.shape)


def _behind(norm: nn.LayerNorm, weight: Tensor, bias: Tensor) -> tuple[_Normed | _Coded, Twin | Bytes]:
    """A norm and the matrix (N, W) behind it, in the forms that are fastest here."""
    width = weight.shape[1]
    if not (multiplies_bytes() and Spread.fits(width)):
        return _Normed(norm), Twin(weight, bias=bias)
    spread = Spread(width)
    gain, shift = norm.weight.detach(), norm.bias.detach()
    return _Coded(norm, spread), Bytes(spread.of(gain * weight), bias=bias + weight @ shift)
