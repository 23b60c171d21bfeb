"""Gemma 3 and 4: pixels and counts against the published processors, rows and logits against transformers' nets."""

from __future__ import annotations

import itertools
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import (
    DynamicCache,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma4Config,
    Gemma4ForConditionalGeneration,
)
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil
from transformers.models.gemma4.image_processing_pil_gemma4 import (
    Gemma4ImageProcessorPil,
    get_aspect_ratio_preserving_size,
)

from anmok.errors import BadRequest, BadWeights
from anmok.nets.eyes.gemma import GEMMA3, Gemma3, Gemma3Rules, Gemma4, Gemma4Rules, arguments
from anmok.nets.eyes.levels import HALF, Levels
from battery import picture

IMAGE = 299  # the image token
SIZES = [(61, 83), (480, 640), (1300, 700), (7, 301), (203, 5), (2, 4), (896, 896)]
NARROW = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4}
LAYERS = ["sliding_attention", "full_attention"] * 2
TEXT = {**NARROW, "vocab_size": 300, "num_key_value_heads": 2, "head_dim": 8, "layer_types": LAYERS}


def filled(net: Any, seed: int = 0) -> Any:
    """Numbers everywhere: as built, half of Gemma's tensors are zeros or ones."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_(0.0, 0.2, generator=generator)
    return net.eval()


@cache
def gemma3() -> Any:
    vision = {**NARROW, "hidden_size": 16, "num_hidden_layers": 2, "image_size": 32, "patch_size": 4}
    text = {**TEXT, "sliding_window": 12, "query_pre_attn_scalar": 8}
    marks = {"image_token_index": IMAGE, "boi_token_index": 298, "eoi_token_index": 297}
    config = Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4, **marks)
    return filled(Gemma3ForConditionalGeneration(config))


@cache
def gemma4(is_small: bool) -> Any:
    """As E2B: looked up in every layer, the last two without keys of their own, pictures seen backwards; or as 31B:
    pictures seen both ways."""
    vision = {**NARROW, "num_hidden_layers": 2, "num_key_value_heads": 4, "head_dim": 8, "position_embedding_size": 512}
    small = {"hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 300, "num_kv_shared_layers": 2}
    large = {"hidden_size_per_layer_input": 0, "use_bidirectional_attention": "vision"}
    text = {**TEXT, "sliding_window": 12, "global_head_dim": 8, **(small if is_small else large)}
    marks = {"image_token_id": IMAGE, "video_token_id": 296, "audio_token_id": 295}
    config = Gemma4Config(text_config=text, vision_config=vision, audio_config=None, **marks)
    return filled(Gemma4ForConditionalGeneration(config))


def eyes3() -> Gemma3:
    return Gemma3(gemma3(), Gemma3Rules(32, GEMMA3.levels))


def eyes(name: str) -> Gemma3 | Gemma4:
    return eyes3() if name == "gemma3" else Gemma4(net_of(name), Gemma4Rules(70))


def net_of(name: str) -> Any:
    return gemma3() if name == "gemma3" else gemma4(name == "gemma4 small")


# Pixels and counts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size_hw", SIZES)
def test_pixels_of_gemma3_equal_the_published_processor(size_hw: tuple[int, int]) -> None:
    image = picture(size_hw, 1)
    side = {"height": 896, "width": 896}
    published = Gemma3ImageProcessorPil(size=side, image_mean=HALF, image_std=HALF)
    wanted = published(images=image, return_tensors="np")["pixel_values"][0]
    np.testing.assert_array_equal(Gemma3(gemma3()).prepare(image), wanted)
    assert wanted.shape == (3, 896, 896)


@pytest.mark.parametrize("budget", [70, 280])
@pytest.mark.parametrize("size_hw", SIZES)
def test_pixels_of_gemma4_equal_the_published_processor(size_hw: tuple[int, int], budget: int) -> None:
    image = picture(size_hw, 1)
    told = Gemma4ImageProcessorPil(max_soft_tokens=budget)(images=image, return_tensors="np")
    looker = Gemma4(gemma4(False), Gemma4Rules(budget))
    pixels = looker.prepare(image)
    rows, columns = pixels.shape[1] // 16, pixels.shape[2] // 16
    patches = pixels.reshape(3, rows, 16, columns, 16).transpose(1, 3, 2, 4, 0).reshape(rows * columns, 768)
    np.testing.assert_array_equal(patches, told["pixel_values"][0, : len(patches)])
    assert not told["pixel_values"][0, len(patches) :].any()
    assert told["image_position_ids"][0, len(patches) - 1].tolist() == [columns - 1, rows - 1]
    assert looker.slot(size_hw).count("<|image|>") == told["num_soft_tokens_per_image"][0] <= budget


# Pixels and tokens of pictures (H, W) at a budget, by the published rule.
GEMMA4_SIZES = [
    ((480, 640), 280, (672, 912), 266),
    ((480, 640), 1120, (1344, 1824), 1064),
    ((1080, 1920), 70, (288, 528), 66),
    ((2000, 50), 280, (5040, 96), 210),
    ((1, 5000), 70, (48, 3360), 70),
    ((1, 1), 140, (528, 528), 121),
]


@pytest.mark.parametrize(("size_hw", "budget", "wanted", "tokens"), GEMMA4_SIZES)
def test_sizes_of_gemma4(size_hw: tuple[int, int], budget: int, wanted: tuple[int, int], tokens: int) -> None:
    rules = Gemma4Rules(budget)
    assert rules.size(size_hw) == wanted
    assert Gemma4(gemma4(False), rules).slot(size_hw) == f"<|image>{'<|image|>' * tokens}<image|>"


def test_sizes_of_gemma4_follow_the_published_rule_whatever_the_shape() -> None:
    rng = np.random.default_rng(0)
    for height, width in np.exp(rng.uniform(0, 9, (300, 2))).astype(int).tolist():
        for budget in (70, 560):
            wanted = get_aspect_ratio_preserving_size(height, width, 16, budget * 9, 3)
            assert Gemma4Rules(budget).size((height, width)) == wanted


def test_gemma3_takes_as_many_tokens_whatever_the_picture() -> None:
    config = Gemma3Config()
    assert (config.mm_tokens_per_image, config.vision_config.model_type) == (256, "siglip_vision_model")
    soft = "<image_soft_token>"
    assert eyes3().slot((3, 500)) == f"\n\n<start_of_image>{soft * 4}<end_of_image>\n\n"


# Rows ------------------------------------------------------------------------------------------------------


def test_rows_of_gemma3_are_those_of_the_net() -> None:
    looker, images = eyes3(), [picture((40, 50), seed) for seed in range(2)]
    batch = torch.from_numpy(np.stack([looker.prepare(image) for image in images]))
    with torch.inference_mode():
        rows = looker.encode(batch)
        wanted = gemma3().get_image_features(pixel_values=batch).pooler_output
    assert rows.shape == (2, 4, 32)
    torch.testing.assert_close(rows, wanted, rtol=0, atol=0)
    torch.testing.assert_close(looker.packed(rows[0], (40, 50)), wanted[0], rtol=0, atol=0)
    assert (rows[0] - rows[1]).abs().max() > 0.01


def test_rows_of_gemma4_are_those_of_the_net_with_what_the_published_processor_gives() -> None:
    """Which fills each picture up to the budget; here nothing is filled up."""
    looker, images = eyes("gemma4 large"), [picture((61, 83), seed) for seed in range(2)] + [picture((120, 30), 2)]
    told = Gemma4ImageProcessorPil(max_soft_tokens=70)(images=images, return_tensors="pt")
    with torch.inference_mode():
        wanted = net_of("gemma4 large").get_image_features(told["pixel_values"], told["image_position_ids"])
        pair = looker.encode(torch.from_numpy(np.stack([looker.prepare(image) for image in images[:2]])))
        tall = looker.encode(torch.from_numpy(looker.prepare(images[2])[None]))[0]
    for got, rows, size_hw in zip([*pair, tall], wanted.pooler_output, [(61, 83)] * 2 + [(120, 30)], strict=True):
        packed = looker.packed(got, size_hw)
        assert len(packed) == looker.slot(size_hw).count("<|image|>")
        torch.testing.assert_close(packed, rows, rtol=0, atol=2e-5)


# What the language model is told ---------------------------------------------------------------------------


class Prompt:
    """Two pictures between words: the ordinary inputs of a net, and the rows that ours puts in their place."""

    def __init__(self, name: str) -> None:
        self.net, looker = net_of(name), eyes(name)
        self.images = [picture((40, 60), 1), picture((200, 20), 2)]
        sizes = [(40, 60), (200, 20)]
        pieces = [torch.arange(5, 12)]
        rows = []
        with torch.inference_mode():
            for image, size_hw in zip(self.images, sizes, strict=True):
                seen = looker.encode(torch.from_numpy(looker.prepare(image)[None]))[0]
                rows.append(looker.packed(seen, size_hw))
                pieces += [torch.full((len(rows[-1]),), IMAGE), torch.arange(20, 29)]
            self.ids = torch.cat(pieces)[None]  # (1, S)
            embeds = self.net.get_input_embeddings()(self.ids)
            embeds[self.ids == IMAGE] = torch.cat(rows)
        self.embeds = embeds
        self.starts = [7, 7 + len(rows[0]) + 9]  # of the pictures

    def ordinary(self) -> Tensor:
        """Logits (1, S, V) of the net with pixels."""
        is_picture = (self.ids == IMAGE).long()
        inputs: dict[str, Any]
        if isinstance(self.net, Gemma3ForConditionalGeneration):
            pixels = torch.from_numpy(np.stack([eyes3().prepare(image) for image in self.images]))
            inputs = {"pixel_values": pixels, "token_type_ids": is_picture}
        else:
            told = Gemma4ImageProcessorPil(max_soft_tokens=70)(images=self.images, return_tensors="pt")
            inputs = {"pixel_values": told["pixel_values"], "image_position_ids": told["image_position_ids"]}
            inputs["mm_token_type_ids"] = is_picture
        with torch.inference_mode():
            return self.net(input_ids=self.ids, **inputs).logits


NAMES = ["gemma3", "gemma4 large", "gemma4 small"]


@pytest.mark.parametrize("name", NAMES)
def test_rows_and_arguments_give_the_logits_of_the_net_with_pixels(name: str) -> None:
    prompt = Prompt(name)
    wanted = prompt.ordinary()
    told = arguments(prompt.net, prompt.ids)
    with torch.inference_mode():
        got = prompt.net(inputs_embeds=prompt.embeds, **told).logits
    assert wanted.std() > 0.1
    torch.testing.assert_close(got, wanted, rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", ["gemma3", "gemma4 large"])
def test_without_them_the_net_sees_backwards_alone_and_says_nothing(name: str) -> None:
    prompt = Prompt(name)
    wanted = prompt.ordinary()
    assert set(arguments(prompt.net, prompt.ids)) == {{"gemma3": "token_type_ids"}.get(name, "mm_token_type_ids")}
    with torch.inference_mode():
        got = prompt.net(inputs_embeds=prompt.embeds).logits
    before = prompt.starts[0]
    torch.testing.assert_close(got[:, :before], wanted[:, :before], rtol=0, atol=2e-5)
    assert (got[:, before:] - wanted[:, before:]).abs().max() > 0.05
    assert (got[0, -1] - wanted[0, -1]).abs().max() > 0.005  # and so the first word of the answer moves


def test_without_them_the_small_gemma4_finds_no_token_behind_a_picture() -> None:
    prompt = Prompt("gemma4 small")
    assert set(arguments(prompt.net, prompt.ids)) == {"mm_token_type_ids", "per_layer_inputs"}
    with pytest.raises(RuntimeError), torch.inference_mode():
        prompt.net(inputs_embeds=prompt.embeds)


@pytest.mark.parametrize("name", NAMES)
def test_a_cache_filled_in_parts_and_steps_gives_the_same(name: str) -> None:
    """The first picture, then the second in a part of its own, then word by word."""
    prompt = Prompt(name)
    wanted = prompt.ordinary()
    length = prompt.ids.shape[1]
    cuts = [0, prompt.starts[1] - 3, length - 4, length - 3, length - 2, length - 1, length]
    cache = DynamicCache(config=prompt.net.config.get_text_config())
    parts = []
    with torch.inference_mode():
        for seen, end in itertools.pairwise(cuts):
            told = arguments(prompt.net, prompt.ids[:, :end], seen)
            is_step = end - seen == 1
            assert (set(told) <= {"per_layer_inputs"}) == is_step
            fresh = prompt.embeds[:, seen:end]
            parts.append(prompt.net(inputs_embeds=fresh, cache=cache, use_cache=True, **told).logits)
    torch.testing.assert_close(torch.cat(parts, 1), wanted, rtol=0, atol=3e-5)


@pytest.mark.parametrize("name", NAMES)
def test_padding_at_the_left_changes_nothing(name: str) -> None:
    prompt = Prompt(name)
    wanted = prompt.ordinary()
    ids = torch.nn.functional.pad(prompt.ids, (6, 0))  # (1, 6 + S)
    embeds = torch.nn.functional.pad(prompt.embeds, (0, 0, 6, 0))
    mask = (torch.arange(ids.shape[1]) >= 6).long()[None]
    places = (mask.cumsum(1) - 1).clamp(min=0)
    cache = DynamicCache(config=prompt.net.config.get_text_config())
    with torch.inference_mode():
        told = arguments(prompt.net, ids[:, :-1])
        first = prompt.net(
            inputs_embeds=embeds[:, :-1], attention_mask=mask[:, :-1], position_ids=places[:, :-1], cache=cache, **told
        ).logits
        told = arguments(prompt.net, ids, ids.shape[1] - 1)
        last = prompt.net(
            inputs_embeds=embeds[:, -1:], attention_mask=mask, position_ids=places[:, -1:], cache=cache, **told
        ).logits
    torch.testing.assert_close(torch.cat([first[:, 6:], last], 1), wanted, rtol=0, atol=3e-5)


def test_a_picture_that_is_cut_in_two_is_refused() -> None:
    prompt = Prompt("gemma3")
    for seen in (prompt.starts[0], prompt.starts[0] + 4, 0, prompt.ids.shape[1]):
        arguments(prompt.net, prompt.ids, seen)
    with pytest.raises(BadRequest, match="a picture is half in the cache"):
        arguments(prompt.net, prompt.ids, prompt.starts[0] + 1)


def test_rules_are_read_from_the_processors_file() -> None:
    assert Gemma3Rules.of({}) == GEMMA3
    read = Gemma3Rules.of({"size": {"height": 512, "width": 512}, "resample": 3, "image_mean": [0, 0, 0]})
    assert read == Gemma3Rules(512, Levels((0.0, 0.0, 0.0), HALF, "bicubic"))
    assert Gemma4Rules.of({}) == Gemma4Rules() == Gemma4Rules.of({"do_normalize": False, "resample": 3})
    assert Gemma4Rules.of({"max_soft_tokens": 1120}).budget == 1120
    with pytest.raises(BadWeights, match="is no square"):
        Gemma3Rules.of({"size": {"height": 512, "width": 500}})
    with pytest.raises(BadWeights, match="max_soft_tokens 100; want one of"):
        Gemma4Rules.of({"max_soft_tokens": 100})
