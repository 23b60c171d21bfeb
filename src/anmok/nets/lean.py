"""Language models of the Llama kind, read with as few steps as torch allows: the fast way to chat on a processor.

The same sums as transformers' ``LlamaForCausalLM``, one conversation at a time. What goes together is one matrix
(queries, keys and values; gate and up), the memory is one array (``lean_memory``), a rotation is one complex product,
and none of the time goes into modules. In float32 the logits are those of transformers; with fewer bits
(``lean_weights``) they are near, a token takes a third of the time and less, and prompts have layers of their own
(``lean_layers``).

Architecture: H. Touvron et al., "LLaMA" (2023, arXiv:2302.13971); grouped heads: J. Ainslie et al., "GQA" (EMNLP 2023).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import torch
from torch import Tensor, nn

from anmok.errors import BadRequest, Unsupported
from anmok.nets.lean_attention import attend_by_heads
from anmok.nets.lean_blocks import Exactly, InBlocks, Prompt
from anmok.nets.lean_bytes import coded, put
from anmok.nets.lean_layers import MANY, Layer, Layers, Sizes, Weights, for_prompts, layer_of
from anmok.nets.lean_memory import Memory, Spare
from anmok.nets.lean_tables import Plain, Table
from anmok.nets.lean_tower import lay_out_blocks
from anmok.nets.lean_weights import (
    Kind,
    Matrix,
    last_matrix,
    lay_out,
    multiplies_bfloat16,
    multiplies_bytes,
)

_AT_ONCE: Final = 1024  # tokens of a prompt that are read together
_ROTATIONS: Final = ("default", "linear", "llama3")  # whose angles do not depend on the length of the text


class Lean:
    """A language model that reads rows into a memory. ``read`` is for one caller at a time, on the processor."""

    def __init__(
        self, sizes: Sizes, table: Table, layers: tuple[Layers, Layers], norm: Tensor, head: Matrix, angles: Tensor
    ) -> None:
        """``layers`` for few rows and for many, which may be the same; ``angles`` complex64 (context, head / 2), of
        length one or what the rotation scales by."""
        self.sizes = sizes
        self._table, self._head = table, head
        self._few, self._many = layers
        self._angles = angles
        self._spare = Spare()
        root = sizes.width**0.5
        self._norms, self._norms_of_many = (
            [(root * one.norm, root * one.second_norm) for one in kind.each] for kind in layers
        )
        self._norm = root * norm
        # |x| and this make a right angle: the third side is sqrt(sum of squares + W * epsilon).
        self._side = torch.tensor((sizes.width * sizes.epsilon) ** 0.5)

    @classmethod
    def of(cls, net: nn.Module, weights: Kind = "float32") -> Lean:
        """Of transformers' ``LlamaForCausalLM``, or of a net with such a language model in it, as SmolVLM's has.
        float32 is exact; the other kinds of weights are near. The net's table of words is shared, all else is copied.

        Raises:
            Unsupported: a net of another kind; ``unfit`` says why.
        """
        return _of(cls, net, weights)

    @property
    def nbytes(self) -> int:
        """Of all weights."""
        layers = self._few.nbytes + (self._many.nbytes if self._many is not self._few else 0)
        return layers + self._head.nbytes + self._table.nbytes

    def memory(self) -> Memory:
        """An empty one."""
        return Memory(len(self._few.each), self.sizes, self._spare)

    def embedded(self, ids: Tensor) -> Tensor:
        """int64 (T,) to float32 (T, W)."""
        return self._table(ids)

    @torch.inference_mode()
    def read(self, rows: Tensor, memory: Memory) -> Tensor:
        """What follows the memory, ids int64 (T,) or vectors float (T, W), to logits float32 (V,) of what comes next.

        Raises:
            BadRequest: nothing to read, or vectors of another width.
            TooMuch: the conversation is longer than the model was made for.
        """
        x = self._table(rows) if rows.dim() == 1 else rows.float()  # (T, W)
        if x.dim() != 2 or not len(x) or x.shape[1] != self.sizes.width:
            raise BadRequest(f"rows: want at least one of {self.sizes.width} numbers, got {tuple(rows.shape)}")
        memory.room(len(x))
        for part in torch.split(x, _AT_ONCE):
            last = (self._through if len(part) > 1 else self._step)(part, memory)  # (1, W)
        return self._head(self._normed(last, self._norm, self._head.dtype))[0].float()  # (V,)

    def _through(self, x: Tensor, memory: Memory) -> Tensor:
        """(T, W), past all layers and into the memory, to what becomes of the last row (1, W)."""
        count, past = len(x), memory.length
        layers, norms = (self._many, self._norms_of_many) if count >= MANY else (self._few, self._norms)
        rows, turns = memory.room(count), self._turns(past, count)
        # Of each layer keys above values (2 * kv heads, T, head) and (2 * kv heads, past + T, head).
        own, kept = (rows[:, :, start : past + count].unbind(0) for start in (past, 0))
        prompt = self._prompt(layers.each[0], count, past)
        x = x.clone() if layers.rotation is None else layers.rotation.of(x)  # (T, W)
        for i, (layer, (norm, second)) in enumerate(zip(layers.each, norms, strict=True)):
            mixed = layer.qkv(self._normed(x, norm, layer.qkv.dtype))  # (T, (heads + 2 * kv heads) * head)
            prompt.turn(mixed if layer.qkv_bias is None else mixed + layer.qkv_bias, turns)
            own[i].copy_(prompt.fresh)
            if layer is layers.each[-1]:  # whose other rows nobody asks for
                x, made = x[-1:], prompt.attended_last(kept[i])  # (1, W), (1, heads * head)
            else:
                made = prompt.attended(kept[i])  # (T, heads * head)
            self._finished(layer, x, made, second)
        memory.length = past + count
        return x if layers.rotation is None else layers.rotation.back(x)

    def _prompt(self, layer: Layer, count: int, past: int) -> Prompt:
        """How the rows of a prompt attend, by what its layers are of."""
        if layer.out.dtype == torch.bfloat16 and multiplies_bfloat16():
            # Biases are what makes scores of hundreds, as in Qwen2.
            return InBlocks(self.sizes, count, past, may_be_loud=layer.qkv_bias is not None)
        return Exactly(self.sizes, count, past)

    def _step(self, x: Tensor, memory: Memory) -> Tensor:
        """The same for one row (1, W), which all time goes into: each step less is a step less in every layer."""
        past, kv_heads, desk = memory.length, self.sizes.kv_heads, memory.desk
        rows, turns = memory.room(1), self._turns(past, 1)[0]
        spots = rows[:, :, past].unbind(0)  # (2 * kv heads, head)
        keys = rows[:, :kv_heads, : past + 1].transpose(2, 3).unbind(0)  # (kv heads, head, S)
        values = rows[:, kv_heads:, : past + 1].unbind(0)  # (kv heads, S, head)
        x = desk.row.copy_(x)
        for i, layer in enumerate(self._few.each):
            norm, second = self._norms[i]
            mixed = layer.qkv(torch.mul(x, norm, out=desk.normed[layer.qkv.dtype]))  # (1, N)
            torch.div(mixed, desk.length(), out=desk.mixed)  # the norm's, after the sums as good as before
            if layer.qkv_bias is not None:
                desk.mixed += layer.qkv_bias
            torch.mul(desk.pairs, turns, out=desk.turned)
            spots[i].copy_(desk.fresh)
            # The heads of a group are as good as so many queries of one head. Of one row, two products are faster than
            # `scaled_dot_product_attention`.
            torch.bmm(torch.bmm(desk.queries, keys[i]).softmax(-1), values[i], out=desk.made)
            x += layer.out(desk.attended[layer.out.dtype].copy_(desk.whole))
            normed = torch.mul(x / desk.length(), second, out=desk.normed[layer.gate_up.dtype])
            x += layer.down(layer.gate_up.gated(normed).to(layer.down.dtype))
        memory.length = past + 1
        return x

    def _finished(self, layer: Layer, x: Tensor, made: Tensor, second: Tensor) -> None:
        """Adds to ``x`` (T, W) what attention made (T, heads * head), and then what the MLP makes of it."""
        put(layer.out, made, x)
        passed = layer.gate_up.gated(self._normed(x, second, layer.gate_up.dtype))  # (T, inner)
        put(layer.down, passed, x)

    def _normed(self, x: Tensor, gain: Tensor, dtype: torch.dtype) -> Tensor:
        """RMS norm of (T, W); ``gain`` has the square root of W in it. As bytes, they are codes."""
        length = torch.linalg.vector_norm(x, dim=1, keepdim=True).hypot(self._side)  # (T, 1)
        if dtype == torch.uint8:
            return coded(x * (gain / length))
        normed: Tensor = (x / length).mul_(gain).to(dtype)
        return normed

    def _turns(self, past: int, count: int) -> Tensor:
        """complex64 (T, heads + 2 * kv heads, head / 2): angles of keys and of queries, which it scales for attention
        by the way; values stay as they are."""
        turns = torch.ones(
            count, self.sizes.heads + 2 * self.sizes.kv_heads, self.sizes.head // 2, dtype=torch.complex64
        )
        turns[:, : self.sizes.heads + self.sizes.kv_heads] = self._angles[past : past + count, None]
        turns[:, : self.sizes.heads] *= self.sizes.head**-0.5
        return turns


def adjacent(weight: Tensor, head: int) -> Tensor:
    """Rows (heads * head, ...) whose halves of each head are rotated together, side by side: 0, head / 2, 1, ..."""
    halves = weight.view(-1, 2, head // 2, *weight.shape[1:])  # (heads, 2, head / 2, ...)
    return halves.transpose(1, 2).flatten(0, 2)


def angles(frequencies: Tensor, context: int, scale: float = 1.0) -> Tensor:
    """complex64 (context, head / 2) of frequencies (head / 2,) in radians a token."""
    turned = torch.outer(torch.arange(context, dtype=torch.float32), frequencies.float())  # (context, head / 2)
    return torch.polar(torch.full_like(turned, scale), turned)


def unfit(net: nn.Module) -> str:
    """Why a net cannot be read this way, in half a sentence; empty where it can."""
    whole: Any = net
    model = _language(whole)
    layers = getattr(model, "layers", ())
    if not len(layers) or not hasattr(whole, "lm_head"):
        return "it has no layers under `model`, or no `lm_head`"
    block, config = next(iter(layers)), model.config
    if not hasattr(block.self_attn, "q_proj") or not hasattr(block.mlp, "gate_proj"):
        return "its layers are not those of Llama"
    if hasattr(block.self_attn, "q_norm") or hasattr(block, "pre_feedforward_layernorm"):
        return "it has norms that Llama has not"
    kind = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    if kind not in _ROTATIONS or not hasattr(getattr(model, "rotary_emb", None), "inv_freq"):
        return f"its positions are of the kind {kind!r}"
    if config.hidden_act not in ("silu", "swish"):
        return f"its layers use {config.hidden_act}"
    if any(one != "full_attention" for one in getattr(config, "layer_types", None) or ()) or _window(config):
        return "it attends in a window"
    biased = (block.self_attn.o_proj, block.mlp.gate_proj, block.mlp.down_proj, whole.lm_head)
    return "it has biases that Llama has not" if any(one.bias is not None for one in biased) else ""


def lay_out_senses(net: nn.Module, senses: str = "") -> int:
    """Lays out all of a net beside its language model, where it has one apart: towers and what joins them, by bfloat16
    where the processor has instructions for it, else exactly. ``senses`` is the path of what holds them, where that
    is within the language model (``Family.senses``). How many ``Linear`` these were; 0 where none are."""
    whole, language = (net.get_submodule(senses), None) if senses else _apart(net)
    if whole is None:
        return 0
    if not multiplies_bfloat16():
        return lay_out(whole, "float32", but=language)
    blocks = 0
    for part in whole.children():
        if part is not language:
            blocks += lay_out_blocks(part)
            attend_by_heads(part)
    return blocks + lay_out(whole, "bfloat16", but=language)


def nearness() -> str:
    """By what senses that are laid out see, as states of theirs are marked; empty where that is exact."""
    if not multiplies_bfloat16():
        return ""
    return "~int8" if multiplies_bytes() else "~bfloat16"


def _apart(net: Any) -> tuple[nn.Module | None, nn.Module | None]:
    """What holds the senses of a net, and the language model in it that is none of them."""
    if hasattr(net, "reader"):  # a net of our own, put together from two
        return net, net.reader
    model, language = getattr(net, "model", None), _language(net)
    return (None, None) if model is language else (model, language)


def _language(net: Any) -> Any:
    """The stack of layers, of a language model or of one that sees as well."""
    model = getattr(net, "model", None)
    return getattr(model, "language_model", None) or getattr(model, "text_model", None) or model


def _window(config: Any) -> bool:
    return bool(getattr(config, "sliding_window", None)) and getattr(config, "use_sliding_window", True)


def _of(kind: type[Lean], net: nn.Module, weights: Kind) -> Lean:
    reason = unfit(net)
    if reason:
        raise Unsupported(f"{type(net).__name__} cannot be read as a lean model: {reason}; read it with transformers")
    whole: Any = net
    model = _language(whole)
    config = model.config
    heads = config.num_attention_heads
    sizes = Sizes(
        config.hidden_size,
        heads,
        config.num_key_value_heads,
        getattr(config, "head_dim", None) or config.hidden_size // heads,
        config.intermediate_size,
        whole.lm_head.weight.shape[0],
        config.max_position_embeddings,
        config.rms_norm_eps,
    )
    with torch.inference_mode():
        few = Layers(tuple(layer_of(one, weights) for one in _weights(model, sizes.head)))
        many = for_prompts(_weights(model, sizes.head), sizes, few) if weights in ("int8", "int4") else few
        top = last_matrix(whole.lm_head.weight.float(), weights)
        turns = angles(model.rotary_emb.inv_freq, sizes.context, model.rotary_emb.attention_scaling)
        return kind(sizes, Plain(model.embed_tokens.weight), (few, many), model.norm.weight.float(), top, turns)


def _weights(model: Any, head: int) -> Iterator[Weights]:
    """Of each block in turn."""
    for block in model.layers:
        attention, mlp = block.self_attn, block.mlp
        three = (attention.q_proj, attention.k_proj, attention.v_proj)
        has_bias = attention.q_proj.bias is not None
        yield Weights(
            block.input_layernorm.weight.float(),
            _joined([one.weight for one in three], head),
            attention.o_proj.weight.float(),
            block.post_attention_layernorm.weight.float(),
            torch.cat((mlp.gate_proj.weight, mlp.up_proj.weight)).float(),
            mlp.down_proj.weight.float(),
            _joined([one.bias for one in three], head) if has_bias else None,
        )


def _joined(three: list[Tensor], head: int) -> Tensor:
    q, k, v = (one.float() for one in three)
    return torch.cat((adjacent(q, head), adjacent(k, head), v))
