"""The eyes of Qwen2-VL, 2.5-VL, 3-VL, EXAONE 4.5 and HyperCLOVA X SEED Think against transformers: the same patches,
the same rows and places, and the same logits whatever is in the cache already."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    DynamicCache,
    Exaone4_5_Config,
    Exaone4_5_ForConditionalGeneration,
    HyperCLOVAXVisionV2Config,
    HyperCLOVAXVisionV2ForConditionalGeneration,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessorPil,
    Qwen2VLProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

import tiny_eyes
from anmok.errors import BadMedia
from anmok.nets.eyes.levels import HALF, Levels
from anmok.nets.eyes.qwen import QWEN2, QWEN3, Prompt, Qwen, QwenRules, smart_size, together
from anmok.nets.eyes.reading import Language

IMAGE = 300
TINY = QwenRules(4, Levels(HALF, HALF), 8 * 8, 48 * 48)
SIZES_HW = (*tiny_eyes.SIZES_HW, (28, 28), (2, 399), (5000, 60))
PLACES = {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [2, 2, 2]}
SHARED_TOWER = {"depth": 3, "num_heads": 2, "patch_size": 4, "spatial_merge_size": 2, "temporal_patch_size": 2}
WIDE_TOWER = {
    **SHARED_TOWER,
    "hidden_size": 16,
    "intermediate_size": 24,
    "out_hidden_size": 24,
    "window_size": 16,
    "fullatt_block_indexes": [1],
}


def tiny_net(kind: str) -> Any:
    ids = {"image_token_id": IMAGE, "video_token_id": 301}
    text = {**tiny_eyes.READER, "rope_parameters": PLACES}
    plain = {**tiny_eyes.READER, "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0}}
    if kind == "qwen2":
        tower = {**SHARED_TOWER, "embed_dim": 16, "hidden_size": 24, "mlp_ratio": 2}
        return Qwen2VLForConditionalGeneration(Qwen2VLConfig(vision_config=tower, text_config=text, **ids))
    if kind == "qwen2.5":
        return Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(vision_config=WIDE_TOWER, text_config=text, **ids))
    if kind == "qwen3":
        tower = {
            **SHARED_TOWER,
            "hidden_size": 16,
            "intermediate_size": 24,
            "out_hidden_size": 24,
            "num_position_embeddings": 16,
            "deepstack_visual_indexes": [0, 1],
        }
        text |= {"head_dim": 12, "num_hidden_layers": 3, "rope_parameters": PLACES | {"mrope_interleaved": True}}
        return Qwen3VLForConditionalGeneration(Qwen3VLConfig(vision_config=tower, text_config=text, **ids))
    if kind == "exaone":
        tower = {**WIDE_TOWER, "num_key_value_heads": 1}
        text = plain | {"model_type": "exaone4", "sliding_window": 12, "sliding_window_pattern": 2}
        return Exaone4_5_ForConditionalGeneration(Exaone4_5_Config(vision_config=tower, text_config=text, **ids))
    tower = {**WIDE_TOWER, "model_type": "qwen2_5_vl_vision"}
    text = plain | {"model_type": "hyperclovax", "embedding_multiplier": 1.5, "logits_scaling": 0.25}
    config = HyperCLOVAXVisionV2Config(vision_config=tower, text_config=text, tie_word_embeddings=False, **ids)
    return HyperCLOVAXVisionV2ForConditionalGeneration(config)


KINDS = ("qwen2", "qwen2.5", "qwen3", "exaone", "hyperclovax")


@pytest.fixture(scope="module", params=KINDS)
def net(request: pytest.FixtureRequest) -> Any:
    return tiny_eyes.alive(tiny_net(request.param))


@pytest.fixture(scope="module")
def any_net() -> Any:
    return tiny_eyes.alive(tiny_net("qwen2"))


@pytest.mark.parametrize("size_hw", SIZES_HW, ids=str)
@pytest.mark.parametrize(
    "content",
    [
        {"min_pixels": 3136, "max_pixels": 1_000_000},
        {
            "size": {"shortest_edge": 65536, "longest_edge": 2**21},
            "patch_size": 16,
            "image_mean": HALF,
            "image_std": HALF,
        },
    ],
    ids=["qwen2", "qwen3"],
)
def test_patches_are_those_of_transformers(any_net: Any, content: dict[str, Any], size_hw: tuple[int, int]) -> None:
    theirs = tiny_eyes.by_processor(Qwen2VLImageProcessorPil(**content), size_hw)
    rules = QwenRules.of(content)
    eyes = Qwen(any_net, rules)
    ours = eyes.prepare(tiny_eyes.picture(size_hw))
    assert ours.dtype == np.float32
    assert np.array_equal(eyes.patches(torch.from_numpy(ours)[None]).numpy(), theirs["pixel_values"])
    _, height, width = theirs["image_grid_thw"][0].tolist()
    assert eyes.grid(size_hw) == (height // 2, width // 2)


def test_published_rules_are_what_the_files_say() -> None:
    assert QwenRules.of({"min_pixels": 3136, "max_pixels": 12845056}) == QWEN2
    three = {"size": {"longest_edge": 16777216, "shortest_edge": 65536}, "patch_size": 16}
    assert QwenRules.of(three | {"image_mean": HALF, "image_std": HALF}) == QWEN3


def test_strips_are_refused_by_name() -> None:
    assert smart_size((10, 2000), QWEN2) == (28, 812)
    with pytest.raises(BadMedia, match=r"2001 x 10 pixels.*200 times"):
        smart_size((10, 2001), QWEN2)


@pytest.mark.parametrize("size_hw", [(16, 16), (9, 31), (40, 13), (1, 1), (3, 150), (300, 200)], ids=str)
def test_rows_and_slot_are_those_of_transformers(net: Any, size_hw: tuple[int, int]) -> None:
    eyes = Qwen(net, TINY)
    one = torch.from_numpy(eyes.prepare(tiny_eyes.picture(size_hw)))
    batch = torch.stack([one, one.flip(2)])
    grid = torch.tensor([[1, one.shape[1] // 4, one.shape[2] // 4]])
    with torch.inference_mode():
        rows = eyes.encode(batch)
        alone = torch.cat([eyes.encode(each[None]) for each in batch])
        theirs = net.model.get_image_features(eyes.patches(one[None]), grid, return_dict=True)
    assert torch.allclose(rows, alone, atol=1e-5)
    assert torch.allclose(rows[0, :, :24], theirs.pooler_output[0], atol=1e-5)
    deep = [layer[0] for layer in getattr(theirs, "deepstack_features", None) or []]
    assert rows.shape[2] == 24 * (1 + len(deep))
    for number, layer in enumerate(deep, 1):
        assert torch.allclose(rows[0, :, 24 * number : 24 * (number + 1)], layer, atol=1e-5)
    assert rows[0].std() > 0.1 or rows.shape[1] == 1
    processor = Qwen2VLProcessor.__new__(Qwen2VLProcessor)  # without its part for videos, which wants torchvision
    processor.image_processor, processor.image_token = Qwen2VLImageProcessorPil(), "<|image_pad|>"
    expanded = processor.replace_image_token({"image_grid_thw": grid.numpy()}, 0)
    assert eyes.slot(size_hw) == expanded
    assert eyes.slot(size_hw).count("<|image_pad|>") == len(eyes.packed(rows[0], size_hw))


def written(eyes: Qwen, sizes: tuple[tuple[int, int], ...]) -> list[int]:
    """Text, and after each picture text again."""
    ids = [7, 8, 9]
    for number, size_hw in enumerate(sizes):
        ids += [IMAGE] * eyes.slot(size_hw).count("<|image_pad|>") + [20 + number, 21, 22]
    return ids


class Asked:
    """One prompt, by transformers' whole net and by its parts."""

    def __init__(self, net: Any, sizes: tuple[tuple[int, int], ...]) -> None:
        self.net, self.eyes = net, Qwen(net, TINY)
        self.ids = torch.tensor(written(self.eyes, sizes))
        shown = [torch.from_numpy(self.eyes.prepare(tiny_eyes.picture(one)))[None] for one in sizes]
        self.patches = [self.eyes.patches(one) for one in shown]
        self.grids = torch.tensor([[1, one.shape[2] // 4, one.shape[3] // 4] for one in shown])
        with torch.inference_mode():
            packed = [self.eyes.packed(self.eyes.encode(one)[0], size) for one, size in zip(shown, sizes, strict=True)]
        rows = torch.cat(packed) if packed else torch.zeros(0, 24)
        self.prompt = Prompt(self.ids == IMAGE, sizes, rows)

    @property
    def embeds(self) -> torch.Tensor:
        rows = Language.of(self.net).embedded(self.ids).clone()
        rows[self.prompt.is_picture] = self.prompt.rows[:, :24]
        return rows[None]

    def native(self, more: list[int]) -> torch.Tensor:
        """Logits of all tokens, with those that follow the prompt."""
        ids = torch.tensor([[*self.ids.tolist(), *more]])
        given = {"pixel_values": torch.cat(self.patches), "image_grid_thw": self.grids} if len(self.patches) else {}
        if self.net.config.model_type.startswith("qwen"):
            given["mm_token_type_ids"] = (ids == IMAGE).int()
            self.net.model.rope_deltas = None
        with torch.inference_mode():
            logits: torch.Tensor = self.net(input_ids=ids, **given).logits
        return logits


TURNS = [(), ((9, 31),), ((16, 16), (40, 13))]


@pytest.mark.parametrize("sizes", TURNS, ids=["no picture", "one", "two"])
def test_logits_are_those_of_transformers_in_any_portions(net: Any, sizes: tuple[tuple[int, int], ...]) -> None:
    """The prompt in two portions that part within a picture, then three tokens one by one."""
    asked, answer = Asked(net, sizes), [40, 41, 42]
    language, eyes, cache = Language.of(net), asked.eyes, DynamicCache(config=net.config.text_config)
    kept = 5 if sizes else 2
    told = []
    with torch.inference_mode():
        first = {"position_ids": None} | eyes.extras(asked.prompt, 0)
        head = Prompt(
            asked.prompt.is_picture[:kept], sizes, asked.prompt.rows[: int((asked.ids[:kept] == IMAGE).sum())]
        )
        start = {name: cut(value, kept, len(head.rows)) for name, value in first.items() if value is not None}
        told.append(language.model(inputs_embeds=asked.embeds[:, :kept], cache=cache, **start).last_hidden_state)
        rest = eyes.extras(asked.prompt, kept)
        told.append(language.model(inputs_embeds=asked.embeds[:, kept:], cache=cache, **rest).last_hidden_state)
        place = eyes.next_position(asked.prompt)
        for number, token in enumerate(answer):
            row = language.embedded(torch.tensor([[token]]))
            where = torch.tensor([[place + number]])
            told.append(language.model(inputs_embeds=row, cache=cache, position_ids=where).last_hidden_state)
        ours = language.logits(torch.cat(told, dim=1))
    native = asked.native(answer)
    assert native.std() > 0.1
    assert torch.allclose(ours, native, atol=2e-4 * float(native.abs().max()))


def cut(value: Any, kept: int, rows: int) -> Any:
    """The extras of the first tokens only."""
    return [layer[:rows] for layer in value] if isinstance(value, list) else value[..., :kept]


@pytest.mark.parametrize("sizes", TURNS, ids=["no picture", "one", "two"])
def test_places_are_those_of_transformers(net: Any, sizes: tuple[tuple[int, int], ...]) -> None:
    asked = Asked(net, sizes)
    length = len(asked.ids)
    if not net.config.model_type.startswith("qwen"):
        assert asked.eyes.extras(asked.prompt) == {}
        assert asked.eyes.next_position(asked.prompt) == length
        return
    places, delta = net.model.get_rope_index(asked.ids[None], (asked.ids == IMAGE).int()[None], asked.grids)
    assert torch.equal(asked.eyes.extras(asked.prompt)["position_ids"], places)
    assert asked.eyes.next_position(asked.prompt) == length + int(delta)


def test_a_batch_padded_on_its_left_answers_as_each_alone(net: Any) -> None:
    asked = [Asked(net, sizes) for sizes in TURNS]
    longest = max(len(one.ids) for one in asked)
    language = Language.of(net)
    rows = torch.zeros(len(asked), longest, 24)
    mask = torch.zeros(len(asked), longest, dtype=torch.long)
    for number, one in enumerate(asked):
        rows[number, longest - len(one.ids) :], mask[number, longest - len(one.ids) :] = one.embeds[0], 1
    extras = together([one.eyes.extras(one.prompt) for one in asked], longest)
    if not extras:
        extras = {"position_ids": (mask.cumsum(1) - 1).clamp(min=0)}
    with torch.inference_mode():
        states = language.model(inputs_embeds=rows, attention_mask=mask, **extras).last_hidden_state
        ours = language.logits(states[:, -1])
    for number, one in enumerate(asked):
        native = one.native([])[0, -1]
        assert torch.allclose(ours[number], native, atol=2e-4 * float(native.abs().max()))


def test_published_numbers_of_tokens(any_net: Any) -> None:
    """Qwen2-VL: a picture of 224 x 224 pixels is 64 tokens."""
    eyes = Qwen(any_net, QWEN2)
    assert eyes.slot((224, 224)) == "<|image_pad|>" * 64
    assert Qwen(any_net, QWEN3).slot((1024, 1024)).count("<|image_pad|>") == 32 * 32
