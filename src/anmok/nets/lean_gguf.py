"""A GGUF file of the Llama kind as a lean model, with its four bits kept: they are never widened and narrowed again.

Q4_0, Q4_1, Q4_K and Q8_0 lie in the forms of ``lean_weights`` number by number; the scales alone are rounded, to
bfloat16. Other numbers of bits become 8 bits with one scale a row, unpacked floats become bfloat16.

Source: ggml-org/ggml, docs/gguf.md (names and keys) and src/ggml-common.h (how blocks lie).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anmok.errors import BadWeights, Unsupported
from anmok.nets.gguf_reading import reading
from anmok.nets.lean import Lean, angles
from anmok.nets.lean_layers import Layer, Layers, Sizes, Weights, for_prompts
from anmok.nets.lean_tables import Blocks, Plain, Table
from anmok.nets.lean_weights import (
    GROUP,
    WORDS_AT_ONCE,
    Eight,
    Four,
    Gate,
    Matrix,
    Pair,
    Twin,
    is_four,
    last_matrix,
    last_of,
    multiplies_bfloat16,
)

_FLOATS: Final = ("F32", "F16", "BF16")
_FOURS: Final = ("Q4_0", "Q4_1", "Q4_K")
_SUPER: Final = 256  # weights in a block of Q4_K


def opened(path: Path, file: Any = None) -> Lean:
    """The model in a file; ``file`` is its reader, where somebody has opened it already.

    Raises:
        MissingDependency: gguf is not installed.
        BadWeights: no GGUF file, or one that is cut off.
        Unsupported: a model of another kind than Llama.
    """
    try:
        file = file or reading(path, path.name)
    except (OSError, ValueError, IndexError) as error:
        raise BadWeights(f"{path} is no GGUF file, or damaged ({error}); get it again") from None
    facts = {name: field.contents() for name, field in file.fields.items() if not name.startswith("tokenizer.")}
    tensors = {one.name: one for one in file.tensors}
    try:
        with torch.inference_mode():
            return _built(_sizes(facts, tensors, path), facts, tensors)
    except KeyError as error:
        raise BadWeights(f"{path} lacks {error}; get the file again") from None


def _sizes(facts: Mapping[str, Any], tensors: Mapping[str, Any], path: Path) -> Sizes:
    kind, scaling = facts["general.architecture"], facts.get("llama.rope.scaling.type", "none")
    if kind != "llama" or scaling not in ("none", "linear") or "blk.0.attn_q.bias" in tensors:
        what = f"a model of the kind {kind!r}" if kind != "llama" else f"positions scaled by {scaling!r}, or biases"
        raise Unsupported(f"{path} holds {what}; the lean reader knows plain Llama")
    if "blk.0.ffn_gate_inp.weight" in tensors:
        raise Unsupported(f"{path} holds a mixture of experts; the lean reader knows plain Llama")
    heads, width = facts["llama.attention.head_count"], facts["llama.embedding_length"]
    return Sizes(
        width,
        heads,
        facts.get("llama.attention.head_count_kv", heads),
        facts.get("llama.attention.key_length", width // heads),
        facts["llama.feed_forward_length"],
        int(tensors["token_embd.weight"].shape[1]),
        facts["llama.context_length"],
        facts["llama.attention.layer_norm_rms_epsilon"],
    )


def _built(sizes: Sizes, facts: Mapping[str, Any], tensors: Mapping[str, Any]) -> Lean:
    parts = [{name: tensors[f"blk.{i}.{name}.weight"] for name in _PARTS} for i in range(facts["llama.block_count"])]
    few = Layers(tuple(_layer(one) for one in parts))
    matrices = [kind for one in few.each for kind in (one.qkv, one.out, one.gate_up, one.down)]
    is_good = multiplies_bfloat16() and all(isinstance(one, Twin) for one in matrices)  # for prompts as it is
    many = few if is_good else for_prompts(map(_weights, parts), sizes, few)
    words = tensors["token_embd.weight"]
    head = _last(tensors.get("output.weight", words))
    norm, turns = _plain(tensors["output_norm.weight"]), _angles(sizes, facts, tensors)
    return Lean(sizes, _table(words), (few, many), norm, head, turns)


def _layer(part: Mapping[str, Any]) -> Layer:
    """As the file has it."""
    return Layer(
        _plain(part["attn_norm"]),
        _matrix([part["attn_q"], part["attn_k"], part["attn_v"]]),  # rotated pairs are adjacent in the file
        _matrix([part["attn_output"]]),
        _plain(part["ffn_norm"]),
        _matrix([part["ffn_gate"], part["ffn_up"]], is_gate=True),
        _matrix([part["ffn_down"]]),
    )


def _weights(part: Mapping[str, Any]) -> Weights:
    """Widened."""
    return Weights(
        _plain(part["attn_norm"]),
        _wide([part["attn_q"], part["attn_k"], part["attn_v"]]),
        _wide([part["attn_output"]]),
        _plain(part["ffn_norm"]),
        _wide([part["ffn_gate"], part["ffn_up"]]),
        _wide([part["ffn_down"]]),
    )


_PARTS: Final = (
    "attn_norm",
    "attn_q",
    "attn_k",
    "attn_v",
    "attn_output",
    "ffn_norm",
    "ffn_gate",
    "ffn_up",
    "ffn_down",
)


def _angles(sizes: Sizes, facts: Mapping[str, Any], tensors: Mapping[str, Any]) -> Tensor:
    places = torch.arange(0, sizes.head, 2, dtype=torch.float32) / sizes.head  # (head / 2,)
    frequencies = 1 / facts.get("llama.rope.freq_base", 10_000.0) ** places
    if facts.get("llama.rope.scaling.type", "none") == "linear":
        frequencies = frequencies / facts["llama.rope.scaling.factor"]
    if "rope_freqs.weight" in tensors:  # Llama 3.1 and later: what each is divided by
        frequencies = frequencies / _plain(tensors["rope_freqs.weight"])
    return angles(frequencies, sizes.context)


def _matrix(parts: Sequence[Any], is_gate: bool = False) -> Gate:
    """Tensors of the file, one above the other."""
    kinds = {one.tensor_type.name for one in parts}
    rows, columns = sum(int(one.shape[1]) for one in parts), int(parts[0].shape[0])
    if kinds <= set(_FOURS) and is_four((rows, columns)):
        return Four(*_fours(parts))
    if kinds == {"Q8_0"} and is_four((rows, columns)):
        eights = [_eight(one) for one in parts]
        return Pair(torch.cat([one for one, _ in eights]), torch.cat([one for _, one in eights]))
    whole = torch.cat([_plain(one) for one in parts])  # (N, K)
    return Twin(whole, is_gate) if kinds <= set(_FLOATS) else Eight(whole)


def _wide(parts: Sequence[Any]) -> Tensor:
    """The same as float32 (N, K)."""
    if not {one.tensor_type.name for one in parts} <= set(_FOURS):
        return torch.cat([_plain(one) for one in parts])
    codes, scale, least = _fours(parts)
    return (codes.view(*scale.shape, GROUP) * scale[..., None]).add_(least[..., None]).flatten(1)


def _fours(parts: Sequence[Any]) -> tuple[Tensor, Tensor, Tensor]:
    """Codes (N, K), scales and offsets (N, K / 32)."""
    codes, scale, least = (np.concatenate(some) for some in zip(*map(_four, parts), strict=True))
    return torch.from_numpy(codes), torch.from_numpy(scale), torch.from_numpy(least)


def _last(words: Any) -> Matrix:
    if words.tensor_type.name in _FLOATS:
        return last_matrix(_plain(words), "bfloat16")
    starts = range(0, len(words.data), WORDS_AT_ONCE)
    return last_of(_widened(words.data[start : start + WORDS_AT_ONCE], words.tensor_type) for start in starts)


def _table(words: Any) -> Table:
    return Blocks(*_eight(words)) if words.tensor_type.name == "Q8_0" else Plain(_plain(words).to(torch.bfloat16))


def _eight(tensor: Any) -> tuple[Tensor, Tensor]:
    """Codes int8 (N, K) and scales (N, K / 32) of Q8_0."""
    scale, codes = _split(tensor, 2 + GROUP, 2)
    return torch.from_numpy(codes.view(np.int8).reshape(len(codes), -1)), torch.from_numpy(scale[..., 0].copy())


def _plain(tensor: Any) -> Tensor:
    """Its numbers, float32."""
    return _widened(tensor.data, tensor.tensor_type)


def _widened(data: Any, kind: Any) -> Tensor:
    from gguf.quants import dequantize

    return torch.from_numpy(np.array(dequantize(data, kind), np.float32))


def _four(tensor: Any) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]:
    """Codes (N, K), scales and offsets (N, K / 32)."""
    if tensor.tensor_type.name == "Q4_K":
        return _super(tensor)
    has_least = tensor.tensor_type.name == "Q4_1"
    scales, packed = _split(tensor, (4 if has_least else 2) + GROUP // 2, 4 if has_least else 2)
    codes = np.concatenate((packed & 15, packed >> 4), 2).reshape(len(packed), -1)  # (N, K)
    scale = scales[..., 0]
    return _three(codes, scale, scales[..., 1] if has_least else -8 * scale)


def _three(codes: Any, scale: Any, least: Any) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]:
    return codes.astype(np.uint8), scale.astype(np.float32), least.astype(np.float32)


def _super(tensor: Any) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]:
    """Blocks of 256 with scales and offsets of six bits for each 32."""
    scales, rest = _split(tensor, _SUPER // 2 + 16, 4)
    small, packed = rest[..., :12].astype(np.int32), rest[..., 12:]  # (N, K / 256, 12), (N, K / 256, 128)
    low, middle, high = small[..., :4], small[..., 4:8], small[..., 8:]
    by = np.concatenate((low & 63, high & 15 | low >> 6 << 4), 2)  # (N, K / 256, 8)
    less = np.concatenate((middle & 63, high >> 4 | middle >> 6 << 4), 2)
    halves = packed.reshape(*packed.shape[:2], 4, GROUP)
    codes = np.stack((halves & 15, halves >> 4), 3).reshape(len(packed), -1)  # (N, K)
    scale, least = scales[..., :1] * by, -scales[..., 1:] * less  # (N, K / 256, 8)
    return _three(codes, scale.reshape(len(packed), -1), least.reshape(len(packed), -1))


def _split(tensor: Any, block: int, head: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Of each block of so many bytes the float16 numbers at its head, float32 (N, blocks, head / 2), and the rest."""
    blocks = np.ascontiguousarray(tensor.data).reshape(len(tensor.data), -1, block)
    numbers = np.ascontiguousarray(blocks[..., :head]).view(np.float16).astype(np.float32)
    return numbers, np.ascontiguousarray(blocks[..., head:])
