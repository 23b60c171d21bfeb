"""A GGUF file keeps its bits, and gives the logits of transformers with the same weights unpacked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Type
from gguf.quants import dequantize, quantize

from anmok.errors import BadWeights, Unsupported
from anmok.nets import lean_layers
from anmok.nets.lean_gguf import opened
from anmok.nets.lean_weights import Four, Twin, multiplies_bfloat16, multiplies_bytes

WIDTH, INNER, HEADS, KV, LAYERS, WORDS, HEAD = 256, 512, 4, 2, 2, 96, 64


def shapes() -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {"token_embd": (WORDS, WIDTH), "output_norm": (WIDTH,)}
    for i in range(LAYERS):
        part = {
            "attn_norm": (WIDTH,),
            "attn_q": (HEADS * HEAD, WIDTH),
            "attn_k": (KV * HEAD, WIDTH),
            "attn_v": (KV * HEAD, WIDTH),
            "attn_output": (WIDTH, HEADS * HEAD),
            "ffn_norm": (WIDTH,),
            "ffn_gate": (INNER, WIDTH),
            "ffn_up": (INNER, WIDTH),
            "ffn_down": (WIDTH, INNER),
        }
        found |= {f"blk.{i}.{name}": shape for name, shape in part.items()}
    return found


def packed(array: Any, kind: Type, rng: np.random.Generator) -> Any:
    if kind != Type.Q4_K:
        return quantize(array, kind)
    blocks = rng.integers(0, 256, (len(array), array.shape[1] // 256, 144), dtype=np.uint8)  # which gguf cannot write
    blocks[..., :4] = np.array([1e-3, 5e-3], np.float16).view(np.uint8)
    return blocks.reshape(len(array), -1)


def written(
    path: Path, kind: Type, more: dict[str, Any] | None = None, kinds: dict[str, Type] | None = None
) -> dict[str, Any]:
    """The file; its weights unpacked. ``kinds`` of tensors that are of another."""
    rng = np.random.default_rng(0)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(LAYERS)
    writer.add_context_length(512)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10_000.0)
    for key, value in (more or {}).items():
        writer.add_string(key, value)
    plain = {}
    for name, shape in shapes().items():
        array = rng.normal(0, 0.05, shape).astype(np.float32) if len(shape) == 2 else rng.uniform(0.5, 1.5, shape)
        array = array.astype(np.float32)
        if len(shape) == 1:
            writer.add_tensor(f"{name}.weight", array)
            plain[name] = array
        else:
            as_kept = Type.Q8_0 if name == "token_embd" and kind != Type.F16 else kind
            as_kept = (kinds or {}).get(name.split(".")[-1], as_kept)
            data = packed(array, as_kept, rng)
            writer.add_tensor(f"{name}.weight", data, raw_dtype=as_kept)
            plain[name] = dequantize(data, as_kept)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return plain


def reference(plain: dict[str, Any]) -> Any:
    """transformers' net; in GGUF the rows that are rotated together are adjacent, there half a head apart."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=WORDS,
        hidden_size=WIDTH,
        intermediate_size=INNER,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=KV,
        max_position_embeddings=512,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
    )
    net = LlamaForCausalLM(config).eval()
    names = {
        "attn_norm": "input_layernorm",
        "attn_q": "self_attn.q_proj",
        "attn_k": "self_attn.k_proj",
        "attn_v": "self_attn.v_proj",
        "attn_output": "self_attn.o_proj",
        "ffn_norm": "post_attention_layernorm",
        "ffn_gate": "mlp.gate_proj",
        "ffn_up": "mlp.up_proj",
        "ffn_down": "mlp.down_proj",
    }
    state = {"model.embed_tokens.weight": plain["token_embd"], "model.norm.weight": plain["output_norm"]}
    for i in range(LAYERS):
        for short, long in names.items():
            array = plain[f"blk.{i}.{short}"]
            if short in ("attn_q", "attn_k"):
                array = array.reshape(-1, HEAD // 2, 2, WIDTH).swapaxes(1, 2).reshape(array.shape)
            state[f"model.layers.{i}.{long}.weight"] = array
    state["lm_head.weight"] = state["model.embed_tokens.weight"]
    net.load_state_dict({name: torch.tensor(array) for name, array in state.items()}, strict=True)
    return net


@pytest.mark.parametrize("has_bytes", [True, False])
@pytest.mark.parametrize("kind", [Type.Q4_0, Type.Q4_1, Type.Q4_K, Type.Q8_0, Type.F16], ids=lambda one: one.name)
def test_the_logits_are_those_of_the_weights_unpacked(
    tmp_path: Path, kind: Type, has_bytes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not has_bytes:
        monkeypatch.setattr(lean_layers, "multiplies_bytes", lambda: False)
    net = reference(written(tmp_path / "a.gguf", kind))
    lean = opened(tmp_path / "a.gguf")
    ids = torch.randint(0, WORDS, (60,), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        want = net(input_ids=ids[None]).logits[0]
    memory = lean.memory()
    # The prompt by bytes or by bfloat16, which is what the following, by the file's own bits, goes on from. Bytes round
    # to 127 steps a row, and random weights have no direction in which that would show less.
    for start, end in ((0, 50), (50, 58), (58, 59), (59, 60)):
        got = lean.read(ids[start:end], memory)
        assert float((got - want[end - 1]).norm() / want[end - 1].norm()) < (0.045 if has_bytes else 0.02)
    assert lean.sizes.context == 512


def test_four_bits_take_the_room_of_four_bits(tmp_path: Path) -> None:
    """Codes, two scales a group, and the layers for prompts; the words in eight bits, as a table and as the last
    matrix."""
    written(tmp_path / "a.gguf", Type.Q4_1)
    weights = LAYERS * sum(np.prod(s) for n, s in shapes().items() if n.startswith("blk.0") and len(s) == 2)
    words = WORDS * WIDTH
    rest = weights * (0.5 + 4 / 32) + words * (1 + 4 / 32) + words * (1 + 2) + WORDS * 4
    wide = 2 if multiplies_bfloat16() else 4
    if not multiplies_bytes():
        assert opened(tmp_path / "a.gguf").nbytes <= rest + wide * weights
        return
    rows = (HEADS + 2 * KV) * HEAD + 2 * INNER  # of what reads the rows of a norm: bytes, a scale and the code of zero
    others = WIDTH * HEADS * HEAD + WIDTH * INNER  # the same, and bfloat16 for few rows
    layer = rows * (WIDTH + 4 + 8) + 2 * WIDTH * (4 + 8) + others * (3 if multiplies_bfloat16() else 1)
    assert opened(tmp_path / "a.gguf").nbytes == rest + LAYERS * layer


def test_a_file_of_several_kinds_has_layers_for_prompts(tmp_path: Path) -> None:
    """Attention as floats does not make floats of the rest."""
    plain = written(tmp_path / "a.gguf", Type.Q4_0, kinds={"attn_q": Type.F16, "attn_k": Type.F16, "attn_v": Type.F16})
    net, lean = reference(plain), opened(tmp_path / "a.gguf")
    assert isinstance(lean._few.each[0].qkv, Twin)
    assert isinstance(lean._few.each[0].down, Four)
    assert lean._many is not lean._few
    assert not isinstance(lean._many.each[0].down, Four)
    ids = torch.randint(0, WORDS, (60,), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        want = net(input_ids=ids[None]).logits[0, -1]
    assert float((lean.read(ids, lean.memory()) - want).norm() / want.norm()) < 0.045


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "no.gguf").write_bytes(b"GGUF and then nothing of the kind")
    with pytest.raises(BadWeights, match=r"no\.gguf is no GGUF file, or damaged"):
        opened(tmp_path / "no.gguf")
    with pytest.raises(BadWeights, match=r"none\.gguf is no GGUF file"):
        opened(tmp_path / "none.gguf")
    whole = tmp_path / "a.gguf"
    written(whole, Type.Q4_0)
    (tmp_path / "half.gguf").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(BadWeights, match=r"half\.gguf is no GGUF file, or damaged"):
        opened(tmp_path / "half.gguf")
    written(tmp_path / "yarn.gguf", Type.Q4_0, {"llama.rope.scaling.type": "yarn"})
    with pytest.raises(Unsupported, match="positions scaled by 'yarn'"):
        opened(tmp_path / "yarn.gguf")
    writer = gguf.GGUFWriter(tmp_path / "gemma.gguf", "gemma")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(Unsupported, match="a model of the kind 'gemma'"):
        opened(tmp_path / "gemma.gguf")


@pytest.mark.weights
def test_smollm2_reads_a_real_text_as_it_does_in_float32() -> None:
    """What four bits kept as they are cost: bfloat16 between the layers, and nothing else."""
    from anmok.catalogue import card
    from anmok.nets import gguf_files
    from anmok.weights import fetch
    from anmok.wording import Reader

    small = card("smollm2-135m")
    path = next(iter(fetch(small.source, licence=small.licence).values()))
    whole = gguf_files.opened(path, torch.float32, "smollm2")
    text = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    ids = torch.tensor(Reader(whole.tokenizer, "smollm2").ids([text])[:120])
    lean = opened(path)
    memory = lean.memory()
    with torch.inference_mode():
        want = whole.net.eval()(input_ids=ids[None]).logits[0].log_softmax(-1)
    got = torch.stack([lean.read(ids[i : i + 1], memory) for i in range(len(ids))]).log_softmax(-1)
    # In nats; the last matrix gives bfloat16 where bytes have no instructions.
    assert float((want.exp() * (want - got)).sum(-1).mean()) < (0.003 if multiplies_bytes() else 0.004)
    assert float((got.argmax(-1) == want.argmax(-1)).float().mean()) > 0.93
    ends = range(20, 120, 5)
    again = torch.stack([lean.read(ids[:end], lean.memory()) for end in ends]).log_softmax(-1)  # (20, V)
    last = want[[end - 1 for end in ends]]
    assert float((last.exp() * (last - again)).sum(-1).mean()) < (0.015 if multiplies_bytes() else 0.005)
