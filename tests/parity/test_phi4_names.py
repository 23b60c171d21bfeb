"""Phi-4-multimodal as its authors publish it: every name of the layout, the configuration, and answers that are those
of the same weights in transformers' layout."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import Phi4MultimodalConfig, Phi4MultimodalForCausalLM

from anmok.catalogue import card
from anmok.errors import BadWeights
from anmok.models.talking import Talks
from anmok.nets import phi4_names, toys
from anmok.nets.adapters_in import parted
from anmok.nets.families import FAMILIES
from anmok.nets.phi4_names import phi4_config, phi4_state
from anmok.nets.pretrained import configured
from toy_talkers import FIRST, SECOND, about, adapter, between, checkpoint, loaded, setup, written

KIND = "phi4_multimodal"
EAR = {
    "activation": "swish",
    "activation_checkpointing": {"interval": 1, "module": "transformer", "offload": False},
    "attention_dim": 1024,
    "attention_heads": 16,
    "batch_norm": False,
    "bias_in_glu": True,
    "causal": True,
    "chunk_size": -1,
    "cnn_layer_norm": True,
    "conv_activation": "swish",
    "conv_glu_type": "swish",
    "depthwise_multiplier": 1,
    "depthwise_seperable_out_channel": 1024,
    "dropout_rate": 0.0,
    "encoder_embedding_config": {"input_size": 80},
    "ext_pw_kernel_size": 1,
    "ext_pw_out_channel": 1024,
    "input_layer": "nemo_conv",
    "input_size": 80,
    "kernel_size": 3,
    "left_chunk": 18,
    "linear_units": 1536,
    "nemo_conv_settings": {"conv_channels": 1024},
    "num_blocks": 24,
    "relative_attention_bias_args": {"t5_bias_max_distance": 500, "type": "t5"},
    "time_reduction": 8,
}
SIGHT = {
    "crop_size": 448,
    "embedding_cls": "tune_image",
    "hd_transform_order": "sub_glb",
    "image_token_compression_cls": "avg_pool_2d",
    "projection_cls": "mlp",
    "use_hd_transform": True,
    "with_learnable_separator": True,
}
# As published; the factors of its positions are as many, and other numbers.
PUBLISHED: dict[str, Any] = {
    "architectures": ["Phi4MMForCausalLM"],
    "attention_bias": False,
    "audio_processor": {"config": EAR, "name": "cascades"},
    "auto_map": {"AutoModelForCausalLM": "modeling_phi4mm.Phi4MMForCausalLM"},
    "bos_token_id": 199_999,
    "embd_layer": {
        "audio_embd_layer": {"compression_rate": 8, "downsample_rate": 1, "projection_cls": "mlp"},
        "embedding_cls": "image_audio",
        "image_embd_layer": SIGHT,
    },
    "eos_token_id": 199_999,
    "full_attn_mod": 1,
    "hidden_act": "silu",
    "hidden_size": 3072,
    "intermediate_size": 8192,
    "lm_head_bias": False,
    "max_position_embeddings": 131_072,
    "mlp_bias": False,
    "model_type": "phi4mm",
    "num_attention_heads": 24,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "original_max_position_embeddings": 4096,
    "pad_token_id": 199_999,
    "partial_rotary_factor": 0.75,
    "rms_norm_eps": 1e-05,
    "rope_scaling": {"type": "longrope", "short_factor": [1.0] * 48, "long_factor": [1.0 + i for i in range(48)]},
    "rope_theta": 10_000.0,
    "sliding_window": 262_144,
    "speech_lora": {"dp": 0.01, "layer": "layers.*", "lora_alpha": 640, "r": 320},
    "tie_word_embeddings": True,
    "vision_lora": {"dp": 0.0, "layer": "layers.*", "lora_alpha": 512, "r": 256},
    "vocab_size": 200_064,
}
LORA = ("self_attn.qkv_proj", "self_attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj")


def theirs(name: str) -> str:
    """A name of transformers' layout in that of the authors."""
    sound = re.sub(r"\.(up|down)_proj_for_(vision_)?speech\.", _projection, name)
    if "audio_embed.encoder" in sound:
        sound = sound.replace(".gate_up_proj.", ".net.0.linear.").replace(".down_proj.", ".net.2.")
        sound = re.sub(r"self_attn\.([qkv])_proj\.", r"self_attn.linear_\1.", sound)
        return sound.replace("self_attn.o_proj.", "self_attn.linear_out.")
    sight = sound.replace("img_projection_up.", "img_projection.0.").replace(
        "img_projection_down.", "img_projection.2."
    )
    sight = sight.replace("global_img_feature_extensor", "glb_GN").replace("sub_img_feature_extensor", "sub_GN")
    if any(f"{layer}.weight" in sight for layer in LORA) and sight.startswith("model.layers."):
        return sight.replace(".weight", ".base_layer.weight")
    return sight


def _projection(found: re.Match[str]) -> str:
    return f".audio_projection.{'vision' if found[2] else 'speech'}.{0 if found[1] == 'up' else 2}."


def test_every_name_of_the_published_layout_finds_its_place() -> None:
    config = configured(Phi4MultimodalConfig, phi4_config(PUBLISHED), KIND)
    with torch.device("meta"):
        net: Any = Phi4MultimodalForCausalLM(config)
        low = torch.empty(256, 8)
    wanted = {name: tensor for name, tensor in net.state_dict().items() if name != "lm_head.weight"}
    published: dict[str, Tensor] = {theirs(name): tensor for name, tensor in wanted.items()}
    changed = [name for name in published if name not in wanted]
    assert len(published) == len(wanted) == 1535
    assert len(changed) == 128 + 24 * 16 + 4 + 2 + 8
    for layer in range(32):
        for part in LORA:
            for name in ("vision", "speech"):
                published |= {f"model.layers.{layer}.{part}.lora_{side}.{name}.weight": low for side in "AB"}
    weights, seeing = parted(phi4_state(published), "vision")
    assert weights.keys() == wanted.keys()
    assert all(weights[name] is tensor for name, tensor in wanted.items())
    assert len(seeing) == 32 * 4 * 2
    count = sum(one.numel() for one in net.parameters())
    assert count == card("phi4-multimodal-speech").params  # its adapter is added
    widths = sum(sum(net.get_submodule(f"model.layers.0.{part}").weight.shape) for part in LORA)
    assert count + 32 * widths * (256 + 320) == card("phi4-multimodal").params  # both stay beside


def test_the_published_configuration_is_that_of_the_net() -> None:
    """By the defaults of transformers, which are the published sizes where ``config.json`` does not say them."""
    ours, usual = configured(Phi4MultimodalConfig, phi4_config(PUBLISHED), KIND), Phi4MultimodalConfig()
    names = ("vision_config", "audio_config")
    for name in names:
        told, wanted = getattr(ours, name).to_dict(), getattr(usual, name).to_dict()
        assert {key for key in wanted if told[key] != wanted[key]} == (
            set() if name == "vision_config" else {"bias_max_distance"}
        )
    assert ours.audio_config.bias_max_distance == 500
    assert (ours.num_attention_heads, ours.num_key_value_heads, ours.tie_word_embeddings) == (24, 8, True)
    assert ours.rope_parameters["rope_type"] == "longrope"
    assert ours.rope_parameters["partial_rotary_factor"] == 0.75
    assert (ours.sliding_window, ours.vision_lora["r"], ours.speech_lora["r"]) == (262_144, 256, 320)
    assert phi4_config(PUBLISHED, 77)["vision_config"]["image_token_id"] == 77


def original(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, Path], dict[str, Path]]:
    """The toy with an adapter, as transformers has it and as its authors would publish it."""
    native = checkpoint(KIND, folder / "native")
    net: Any = toys.toy(KIND, FAMILIES[KIND], 0).net
    adapter(net, folder / "other", 0.1)
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        native[f"vision-lora/{name}"] = folder / "other" / name

    config = net.config
    monkeypatch.setattr(phi4_names, "TOWER", {name: getattr(config.vision_config, name) for name in phi4_names.TOWER})
    ear = {theirs: getattr(config.audio_config, ours) for theirs, ours in phi4_names._EAR_FIELDS.items()}
    ear["nemo_conv_settings"] = {"conv_channels": config.audio_config.nemo_conv_channels}
    ear["relative_attention_bias_args"] = {"t5_bias_max_distance": config.audio_config.bias_max_distance}
    content = {name: getattr(config, name) for name in PUBLISHED if hasattr(config, name)}
    content |= {
        "model_type": "phi4mm",
        "rope_scaling": None,
        "audio_processor": {"config": ear},
        "embd_layer": {
            "audio_embd_layer": {"downsample_rate": config.audio_config.downsample_rate},
            "image_embd_layer": {**SIGHT, "crop_size": config.vision_config.crop_size},
        },
        "vision_lora": {"r": 2, "lora_alpha": 4, "dp": 0.0},
        "speech_lora": {"r": 2, "lora_alpha": 4, "dp": 0.0},
    }
    state = load_file(native["model.safetensors"])
    published = {theirs(name): tensor for name, tensor in state.items()}
    for key, tensor in load_file(folder / "other" / "adapter_model.safetensors").items():
        layer, _, side = key.removeprefix("base_model.model.").removesuffix(".weight").rpartition(".")
        published[f"{layer}.{side}.vision.weight"] = tensor
        published[f"{layer}.{side}.speech.weight"] = torch.ones_like(tensor)  # is not for pictures
    (folder / "theirs").mkdir()
    save_file(published, folder / "theirs" / "model.safetensors", {"format": "pt"})
    (folder / "theirs" / "config.json").write_text(json.dumps(content))
    beside = {name: path for name, path in native.items() if not name.startswith("vision-lora/")}
    told = {"model.safetensors", "config.json"}
    return native, {**beside, **{name: folder / "theirs" / name for name in told}}


def test_answers_are_those_of_the_same_weights_in_the_other_layout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    native, published = original(tmp_path, monkeypatch)
    assert not load_file(native["model.safetensors"]).keys() >= load_file(published["model.safetensors"]).keys()
    one, other = loaded(native, KIND), loaded(published, KIND)
    for said in (about(), about(FIRST), between(FIRST, SECOND)):
        wanted, told = written(one, said), written(other, said)
        assert told.tokens == wanted.tokens
        assert np.abs(told.logits - wanted.logits).max() <= 1e-5 * np.abs(wanted.logits).max()
    plain = written(loaded(checkpoint(KIND, tmp_path / "plain"), KIND), about(FIRST)).logits
    assert np.abs(plain[0] - written(other, about(FIRST)).logits[0]).max() > 0.05  # it sees by its adapter


def test_the_adapter_by_which_it_hears_is_taken_where_the_card_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    native, published = original(tmp_path, monkeypatch)
    net: Any = loaded(published, "phi4_multimodal_speech").kind._net  # type: ignore[attr-defined]
    name = "model.layers.0.self_attn.o_proj.weight"
    wanted = load_file(native["model.safetensors"])[name] + 4.0  # ones times ones, of rank 2, twice
    torch.testing.assert_close(net.state_dict()[name], wanted, rtol=0, atol=1e-5)


def test_what_its_weights_lack_or_have_too_much_of_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, published = original(tmp_path, monkeypatch)
    state = load_file(published["model.safetensors"])
    name = next(key for key in state if key.endswith("feed_forward_in.net.2.weight"))
    short = {key: tensor for key, tensor in state.items() if key != name}
    blind = {key: tensor for key, tensor in state.items() if "lora" not in key}
    for faulty, fault in (
        (short, "1 missing .*feed_forward_in.down_proj.weight"),
        ({**state, "model.embed_tokens_extend.image_embed.more": torch.ones(1)}, "1 left over"),
        (blind, "the adapter that belongs to these weights is missing"),
    ):
        save_file(faulty, published["model.safetensors"], {"format": "pt"})
        with pytest.raises(BadWeights, match=f"{KIND}: .*{fault}"):
            Talks.from_files(setup(KIND, published))


@pytest.mark.parametrize(
    ("part", "name", "value", "fault"),
    [
        ("sight", "hd_transform_order", "glb_sub", "hd_transform_order 'glb_sub': no net here does that"),
        ("sight", "use_hd_transform", False, "use_hd_transform False: no net here does that"),
        ("whole", "lm_head_bias", True, "lm_head_bias: no net here does that"),
    ],
)
def test_what_no_net_here_does_is_refused(part: str, name: str, value: Any, fault: str) -> None:
    content = json.loads(json.dumps(PUBLISHED))
    (content["embd_layer"]["image_embd_layer"] if part == "sight" else content)[name] = value
    with pytest.raises(BadWeights, match=fault):
        phi4_config(content)


def test_a_configuration_without_its_parts_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, published = original(tmp_path, monkeypatch)
    content = json.loads(published["config.json"].read_text())
    del content["embd_layer"]
    published["config.json"].write_text(json.dumps(content))
    with pytest.raises(BadWeights, match=f"{KIND}: config.json lacks 'embd_layer'"):
        Talks.from_files(setup(KIND, published))
