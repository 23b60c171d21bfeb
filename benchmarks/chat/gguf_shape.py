"""The SmolVLM of random weights as llama.cpp reads one: a GGUF of the language model and one of the tower, ``mmproj``.

The weights are those of :mod:`benchmarks.chat.shapes`, rounded to eight bits in blocks of 32 (Q8_0), as the makers of
llama.cpp publish this model. The vocabulary is SmolLM2's with names added up to the size of SmolVLM's.

Source of the names of keys and tensors: github.com/ggml-org/llama.cpp, conversion/smolvlm.py and tools/mtmd/clip.cpp,
and the package ``gguf``, which has them as constants.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.chat import shapes

TEXT, TOWER = "text.gguf", "mmproj.gguf"
IMAGE_TOKEN = "<image>"
NAMED = {  # as SmolVLM has them
    49152: "<global-img>",
    49153: "<row_1_col_1>",
    49189: "<fake_token_around_image>",
    shapes.IMAGE: IMAGE_TOKEN,
}

_COPIED = ("tokenizer.ggml.tokens", "tokenizer.ggml.token_type", "tokenizer.ggml.merges")
_CONTROL, _UNUSED = 3, 5  # kinds of token in GGUF
_TEXT_NAMES = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_TOWER_NAMES = {
    "layer_norm1": "ln1",
    "layer_norm2": "ln2",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.out_proj": "attn_out",
    "mlp.fc1": "ffn_up",
    "mlp.fc2": "ffn_down",
}


def write(vocabulary: Path, folder: Path) -> None:
    """Both files into a folder; ``vocabulary`` is a GGUF of SmolLM2.

    Raises:
        OSError: there is no place for 280 MB.
    """
    net = shapes.smolvlm()
    folder.mkdir(parents=True, exist_ok=True)
    _write_text(net, vocabulary, folder / TEXT)
    _write_tower(net, folder / TOWER)


def _write_text(net: Any, vocabulary: Path, to: Path) -> None:
    from gguf import GGUFWriter, LlamaFileType

    config, file = net.config.text_config, GGUFWriter(to, "llama")
    file.add_block_count(config.num_hidden_layers)
    file.add_context_length(config.max_position_embeddings)
    file.add_embedding_length(config.hidden_size)
    file.add_feed_forward_length(config.intermediate_size)
    file.add_head_count(config.num_attention_heads)
    file.add_head_count_kv(config.num_key_value_heads)
    file.add_rope_freq_base(config.rope_parameters["rope_theta"])
    file.add_rope_dimension_count(config.head_dim)
    file.add_layer_norm_rms_eps(config.rms_norm_eps)
    file.add_vocab_size(config.vocab_size)
    file.add_file_type(LlamaFileType.MOSTLY_Q8_0)
    _add_vocabulary(file, vocabulary, config.vocab_size)
    text = net.model.text_model
    _add(file, "token_embd.weight", text.embed_tokens.weight)
    _add(file, "output_norm.weight", text.norm.weight)
    _add(file, "output.weight", net.lm_head.weight)
    for i, layer in enumerate(text.layers):
        for name, there in _TEXT_NAMES.items():
            weight = layer.get_submodule(name).weight
            if there in ("attn_q", "attn_k"):
                weight = _turned(weight, config.head_dim)
            _add(file, f"blk.{i}.{there}.weight", weight)
    _finish(file)


def _write_tower(net: Any, to: Path) -> None:
    from gguf import GGUFWriter, LlamaFileType, VisionProjectorType

    config, file = net.config.vision_config, GGUFWriter(to, "clip")
    file.add_type("mmproj")
    file.add_file_type(LlamaFileType.MOSTLY_Q8_0)
    file.add_clip_has_vision_encoder(True)
    file.add_clip_projector_type(VisionProjectorType.IDEFICS3)
    file.add_vision_projection_dim(net.config.text_config.hidden_size)
    file.add_vision_image_size(config.image_size)
    file.add_vision_preproc_image_size(config.image_size)  # so a picture is two tiles: whole, and its one slice
    file.add_vision_patch_size(config.patch_size)
    file.add_vision_embedding_length(config.hidden_size)
    file.add_vision_feed_forward_length(config.intermediate_size)
    file.add_vision_block_count(config.num_hidden_layers)
    file.add_vision_head_count(config.num_attention_heads)
    file.add_vision_attention_layernorm_eps(config.layer_norm_eps)
    file.add_vision_projector_scale_factor(net.config.scale_factor)
    file.add_vision_image_mean([0.5] * 3)
    file.add_vision_image_std([0.5] * 3)
    file.add_vision_use_gelu(True)
    tower = net.model.vision_model
    _add(file, "v.patch_embd.weight", tower.embeddings.patch_embedding.weight)
    _add(file, "v.patch_embd.bias", tower.embeddings.patch_embedding.bias)
    _add(file, "v.position_embd.weight", tower.embeddings.position_embedding.weight, is_exact=True)
    for kind in ("weight", "bias"):
        _add(file, f"v.post_ln.{kind}", getattr(tower.post_layernorm, kind))
        for i, layer in enumerate(tower.encoder.layers):
            for name, there in _TOWER_NAMES.items():
                _add(file, f"v.blk.{i}.{there}.{kind}", getattr(layer.get_submodule(name), kind))
    _add(file, "mm.model.fc.weight", net.model.connector.modality_projection.proj.weight)
    _finish(file)


def _add_vocabulary(file: Any, path: Path, size: int) -> None:
    """SmolLM2's tokens, those round a picture, and names for the others, of which a random net may say any."""
    from gguf import GGUFReader

    read = GGUFReader(path)
    tokens, kinds, merges = (list(read.fields[key].contents()) for key in _COPIED)
    for i in range(len(tokens), size):
        tokens.append(NAMED.get(i, f"<|unused_{i}|>"))
        kinds.append(_CONTROL if i in NAMED else _UNUSED)
    file.add_tokenizer_model("gpt2")
    file.add_tokenizer_pre("smollm")
    file.add_token_list(tokens)
    file.add_token_types(kinds)
    file.add_token_merges(merges)
    file.add_bos_token_id(1)
    file.add_eos_token_id(2)
    file.add_unk_token_id(0)
    file.add_pad_token_id(2)
    file.add_add_bos_token(False)
    file.add_add_space_prefix(False)


def _turned(weight: torch.Tensor, width: int) -> torch.Tensor:
    """(out, in) -> (out, in), within each head the two halves that turn together side by side: llama.cpp's order."""
    out, within = weight.shape
    halves = weight.reshape(out // width, 2, width // 2, within)  # (heads, 2, width / 2, in)
    return halves.transpose(1, 2).reshape(out, within)  # (out, in)


def _add(file: Any, name: str, weight: torch.Tensor, is_exact: bool = False) -> None:
    """A matrix in eight bits; vectors, the patches' filter and what has to be exact in float32."""
    from gguf import GGMLQuantizationType, quants

    values: NDArray[np.float32] = weight.detach().contiguous().numpy()
    if values.ndim != 2 or is_exact:
        file.add_tensor(name, values)
        return
    kind = GGMLQuantizationType.Q8_0
    file.add_tensor(name, quants.quantize(values, kind), raw_dtype=kind)


def _finish(file: Any) -> None:
    file.write_header_to_file()
    file.write_kv_data_to_file()
    file.write_tensors_to_file()
    file.close()


if __name__ == "__main__":
    write(Path(sys.argv[1]), Path(sys.argv[2]))
