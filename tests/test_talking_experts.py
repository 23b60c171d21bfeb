"""InternVL 3.5 with experts for a reader, and InternVL 3 with InternLM3: the same family, other readers inside, from
the files of a checkpoint to what transformers' own net answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import InternVLConfig, InternVLForConditionalGeneration

import tiny_eyes
from anmok.nets import toys
from anmok.nets.families import FAMILIES
from toy_talkers import FIRST, SECOND, about, between, checkpoint, loaded, native, written

EXPERTS = {"model_type": "qwen3_moe", "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
READERS: dict[str, dict[str, Any]] = {
    "qwen3_moe": {**EXPERTS, "head_dim": 8},
    "internlm3": {"model_type": "internlm3", "head_dim": 8},
}


@pytest.mark.parametrize("reader", READERS)
def test_internvl_answers_with_another_reader(reader: str, tmp_path: Path) -> None:
    files = checkpoint("internvl", tmp_path)
    content = json.loads(files["config.json"].read_text())
    kept = {"vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"}
    kept |= {"num_key_value_heads", "max_position_embeddings", "pad_token_id", "eos_token_id"}
    text = {name: value for name, value in content["text_config"].items() if name in kept}
    content["text_config"] = {**text, **READERS[reader]}
    config = InternVLConfig.from_dict(content)
    net = tiny_eyes.alive(InternVLForConditionalGeneration(config))
    net.save_pretrained(tmp_path)
    talker = loaded(files, "internvl")
    ours: Any = talker.kind._net  # type: ignore[attr-defined]
    assert ours.config.text_config.model_type == reader
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            assert torch.equal(tensor, ours.state_dict()[name]), name
    for said in (about(), about(FIRST), between(FIRST, SECOND)):
        told, theirs = written(talker, said, 6), native(talker, said, 6)
        assert told.tokens == theirs.tokens
        assert np.abs(told.logits - theirs.logits).max() <= 1e-4 * np.abs(theirs.logits).max()
    assert toys.toy("internvl", FAMILIES["internvl"], 0).net.config.text_config.model_type == "qwen2"
