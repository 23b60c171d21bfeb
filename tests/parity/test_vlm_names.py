"""Checkpoints in their authors' layout become transformers' nets: nothing is missing or left over, and the answers
are those of the authors' own forward pass."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import (
    InternVLConfig,
    InternVLForConditionalGeneration,
    LlavaConfig,
    LlavaForConditionalGeneration,
)

import tiny_eyes
from anmok.errors import BadWeights
from anmok.nets.eyes.internvl import INTERNVL
from anmok.nets.pretrained import configured, filled
from anmok.nets.vlm_names import TOWERS, internvl_config, internvl_rules, internvl_state, llava_config, llava_state
from parity.vlm_originals import INTERNLM2, LARGE, MED, QWEN2, SMALL, Chat, Med, chat


@pytest.mark.parametrize("vision", [SMALL, LARGE], ids=["300M", "6B"])
@pytest.mark.parametrize("reader", [INTERNLM2, {**INTERNLM2, "bias": True}, QWEN2], ids=["internlm2", "bias", "qwen2"])
def test_internvl_answers_as_its_authors_have_it(vision: dict[str, Any], reader: dict[str, Any]) -> None:
    content = chat(vision, reader)
    original = tiny_eyes.alive(Chat(content))
    config = configured(InternVLConfig, internvl_config(content, image_id=300), "card")
    state = internvl_state(original.state_dict(), content)
    net = filled(InternVLForConditionalGeneration, config, state, torch.float32, "card")
    assert set(state) == set(net.state_dict())
    ids = torch.tensor([[5, 6, *([300] * 8), 7, 8, 9]])
    pixels = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        theirs = original(ids, pixels, 300)
        ours = net(input_ids=ids, pixel_values=pixels).logits
    assert theirs.std() > 0.1
    assert torch.allclose(ours, theirs, atol=1e-4 * float(theirs.abs().max()))


def test_internvl_rules_and_numbers_as_published() -> None:
    content = chat(SMALL, INTERNLM2, force_image_size=448)
    assert internvl_rules(content) == INTERNVL
    assert internvl_rules(content | {"dynamic_image_size": False}).most == 1
    assert internvl_rules(content | {"max_dynamic_patch": 6}).most == 6
    assert internvl_config(content)["image_token_id"] == 92546
    assert internvl_config(chat(SMALL, QWEN2))["image_token_id"] == 151667


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (chat(SMALL, INTERNLM2, ps_version="v1"), "ps_version 'v1'"),
        (chat(SMALL, INTERNLM2 | {"architectures": ["Phi3ForCausalLM"]}), "reader is Phi3ForCausalLM"),
        (chat(SMALL, INTERNLM2 | {"rope_pos_id_version": "v2pe_rnd"}), "v2pe_rnd"),
        (chat(SMALL, QWEN2 | {"architectures": ["Qwen3ForCausalLM"]}), "<IMG_CONTEXT> has to be given"),
    ],
    ids=["transposed patches", "another reader", "other places", "no number"],
)
def test_internvl_of_another_kind_is_refused(content: dict[str, Any], said: str) -> None:
    with pytest.raises(BadWeights, match=said):
        internvl_config(content)


def test_internvl_with_a_tensor_too_many_or_too_few_is_refused() -> None:
    content = chat(SMALL, INTERNLM2)
    config = configured(InternVLConfig, internvl_config(content, image_id=300), "card")
    state = internvl_state(tiny_eyes.alive(Chat(content)).state_dict(), content)
    gate = "model.language_model.layers.1.mlp.gate_proj.weight"
    without = {name: tensor for name, tensor in state.items() if name != gate}
    for faulty, said in ((without, "1 missing"), (state | {"vision_model.extra": torch.zeros(1)}, "1 left over")):
        with pytest.raises(BadWeights, match=said):
            filled(InternVLForConditionalGeneration, config, faulty, torch.float32, "card")


def test_llava_med_answers_as_its_authors_have_it() -> None:
    original = tiny_eyes.alive(Med())
    config = configured(LlavaConfig, llava_config(MED, tiny_eyes.CLIP_TOWER), "card")
    state = llava_state(original.published())
    net = filled(LlavaForConditionalGeneration, config, state, torch.float32, "card")
    assert set(state) == set(net.state_dict())
    assert (config.image_token_id, config.text_config.vocab_size) == (320, 384)
    pixels = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    ids = torch.tensor([[1, 5, 6, *([320] * 16), 7, 8]])
    with torch.inference_mode():
        theirs = original([1, 5, 6], [7, 8], pixels)
        ours = net(input_ids=ids, pixel_values=pixels).logits
    assert theirs.std() > 0.1
    assert torch.allclose(ours[..., :320], theirs, atol=1e-4 * float(theirs.abs().max()))
    assert (ours.argmax(-1) < 320).all()  # a token that was added is never the likeliest


def test_llava_med_as_published() -> None:
    """32,000 tokens become 32,064, of which <image> is the first and <pad> the second; the tower is CLIP-L/14-336."""
    content = llava_config(MED | {"vocab_size": 32000})
    assert content["text_config"]["vocab_size"] == 32064
    assert (content["image_token_id"], content["pad_token_id"]) == (32000, 32001)
    assert content["vision_config"] == TOWERS["openai/clip-vit-large-patch14-336"]
    config = configured(LlavaConfig, content, "card")
    assert (config.vision_config.image_size, config.vision_feature_layer) == (336, -2)
    assert config.vision_feature_select_strategy == "default"
    assert llava_config(MED | {"mm_vision_select_feature": "cls_patch"})["vision_feature_select_strategy"] == "full"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model_type": "llava_mpt"}, "llava_mpt"),
        ({"mm_projector_type": "linear"}, "'linear'; want 'mlp2x_gelu'"),
        ({"mm_use_im_start_end": True}, "mm_use_im_start_end"),
        ({"mm_vision_tower": "somebody/else"}, "somebody/else"),
    ],
    ids=["another reader", "another projector", "tokens around pictures", "another tower"],
)
def test_llava_of_another_kind_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(BadWeights, match=said):
        llava_config(MED | change)
