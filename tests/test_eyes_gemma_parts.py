"""Gemma 3's pan and scan: crops and pixels of the published processor, its words, and the answers of transformers' net
to what that processor makes of a long picture."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil
from transformers.models.gemma3.processing_gemma3 import Gemma3Processor

from anmok import Chat, Conversation, Model, Text, Turn
from anmok.errors import BadWeights
from anmok.nets.eyes.gemma import GEMMA3, Gemma3, Gemma3Rules, PanAndScan
from anmok.nets.eyes.levels import HALF
from battery import picture
from toy_talkers import about, between, checkpoint, loaded, script, written

USUAL = {
    "pan_and_scan_min_crop_size": 256,
    "pan_and_scan_max_num_crops": 4,
    "pan_and_scan_min_ratio_to_activate": 1.2,
}
SMALL = {"do_pan_and_scan": True, **USUAL, "pan_and_scan_min_crop_size": 8}
LONG, TALL, SQUARE = picture((12, 61), 1), picture((40, 17), 2), picture((30, 31), 3)


def published(side: int, **told: Any) -> Gemma3ImageProcessorPil:
    size = {"height": side, "width": side}
    return Gemma3ImageProcessorPil(size=size, image_mean=HALF, image_std=HALF, **told)


def eyes(rules: Gemma3Rules) -> Gemma3:
    net: Any = SimpleNamespace(config=SimpleNamespace(mm_tokens_per_image=4))
    return Gemma3(net, rules)


def test_crops_are_those_of_the_published_rule_whatever_the_shape() -> None:
    processor, rng = published(896), np.random.default_rng(0)
    sizes = np.exp(rng.uniform(np.log(200), np.log(4000), (400, 2))).astype(int).tolist()
    counts = set()
    for smallest, most, ratio in ((256, 4, 1.2), (300, 3, 1.0), (100, 7, 2.5), (256, 1, 1.2)):
        looker = eyes(Gemma3Rules(896, GEMMA3.levels, PanAndScan(smallest, most, ratio)))
        for height, width in sizes:
            image = np.broadcast_to(np.uint8(0), (height, width, 3))
            wanted = processor.pan_and_scan(image.transpose(2, 0, 1), smallest, most, ratio)
            assert [one.shape for one in looker._crops(image)] == [(*one.shape[1:], 3) for one in wanted]
            rows, columns = looker._rules.grid((height, width))
            assert rows * columns == len(wanted)
            counts.add((rows, columns))
    assert counts >= {(0, 0), (1, 1), (1, 2), (1, 4), (2, 1), (4, 1), (7, 1)}


@pytest.mark.parametrize("size_hw", [(300, 1210), (1100, 512), (600, 600), (250, 2000), (257, 1025)])
def test_pixels_of_picture_and_crops_equal_the_published_processor(size_hw: tuple[int, int]) -> None:
    image = picture(size_hw, 1)
    told = published(896, do_pan_and_scan=True, **USUAL)(images=image, return_tensors="np")
    got = eyes(Gemma3Rules.of({"do_pan_and_scan": True})).prepare(image)
    np.testing.assert_array_equal(got, told["pixel_values"])
    crops = {(300, 1210): 4, (1100, 512): 2, (600, 600): 0, (250, 2000): 0, (257, 1025): 4}[size_hw]
    assert len(got) == 1 + crops
    assert told["num_crops"].tolist() == [crops]


@pytest.mark.parametrize("image", [LONG, TALL, SQUARE], ids=["four", "two", "none"])
def test_the_words_around_crops_are_the_published_ones(image: np.ndarray) -> None:
    looker = eyes(Gemma3Rules.of({"size": {"height": 32, "width": 32}, **SMALL}))
    told = published(32, **SMALL)(images=image, return_tensors="np")
    made = Gemma3Processor.__new__(Gemma3Processor)
    made.full_image_sequence = f"\n\n<start_of_image>{'<image_soft_token>' * 4}<end_of_image>\n\n"
    size_hw = (image.shape[0], image.shape[1])
    assert looker.slot(size_hw) == made.replace_image_token(told, 0)
    assert looker.slot(size_hw).count("<image_soft_token>") == 4 * len(looker.prepare(image))


def talking(folder: Path, **more: Any) -> Model:
    files = checkpoint("gemma3", folder)
    facts = json.loads(files["preprocessor_config.json"].read_text())
    files["preprocessor_config.json"].write_text(json.dumps({**facts, **more}))
    return loaded(files, "gemma3")


def test_answers_are_those_of_the_net_with_the_processors_pixels(tmp_path: Path) -> None:
    talker = talking(tmp_path, **SMALL)
    said = Conversation((Turn("user", (LONG, Text("And?"), SQUARE, TALL, Text("Which?"))),))
    ours = written(talker, said, 8)
    ids = torch.tensor([script(talker, said).ids])  # (1, S)
    told = published(32, **SMALL)(images=[LONG, SQUARE, TALL], return_tensors="pt")
    assert told["num_crops"].tolist() == [4, 0, 2]
    net: Any = talker.kind._net  # type: ignore[attr-defined]
    is_picture = (ids == net.config.image_token_id).long()
    assert int(is_picture.sum()) == 4 * len(told["pixel_values"]) == 4 * 9
    with torch.inference_mode():
        found = net.generate(
            ids,
            pixel_values=told["pixel_values"],
            token_type_ids=is_picture,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=8,
            pad_token_id=0,
            output_logits=True,
            return_dict_in_generate=True,
        )
    assert ours.tokens == found.sequences[0, ids.shape[1] :].tolist()
    theirs = torch.cat(found.logits).numpy()
    assert np.abs(ours.logits - theirs).max() <= 1e-4 * np.abs(theirs).max()


def test_a_picture_that_is_not_long_is_answered_as_without(tmp_path: Path) -> None:
    parts, plain = talking(tmp_path / "parts", **SMALL), talking(tmp_path / "plain")
    assert written(parts, about(SQUARE)).tokens == written(plain, about(SQUARE)).tokens
    [long] = parts.run([about(LONG)], Chat(2))
    [short] = plain.run([about(LONG)], Chat(2))
    assert (long.image_tokens, short.image_tokens) == (20, 4)


def test_a_batch_of_long_and_short_pictures_equals_its_parts(tmp_path: Path) -> None:
    talker, ask = talking(tmp_path, **SMALL), Chat(6)
    said = [about(one) for one in (LONG, SQUARE, TALL, LONG[:, ::-1])]
    alone = [talker.run([one], ask)[0].text for one in said]
    assert [reply.text for reply in talker.run(said, ask)] == alone
    first, last = (written(talker, said[i], 1).logits for i in (0, 3))
    assert np.abs(first - last).max() > 1e-3  # of the same shape, mirrored


def test_what_a_file_says_of_crops_is_read_or_refused() -> None:
    assert Gemma3Rules.of({"do_pan_and_scan": None, **USUAL}).parts is None
    nothing = dict.fromkeys(USUAL)  # as published with the weights
    assert Gemma3Rules.of({"do_pan_and_scan": True, **nothing}).parts == PanAndScan() == PanAndScan(256, 4, 1.2)
    assert Gemma3Rules.of(SMALL).parts == PanAndScan(8, 4, 1.2)
    for wrong in (0, "large"):
        with pytest.raises(BadWeights, match="pan and scan by .*; want numbers from 1 up"):
            Gemma3Rules.of({**SMALL, "pan_and_scan_min_crop_size": wrong})


def test_a_card_that_asks_for_crops_gets_them_of_the_published_files(tmp_path: Path) -> None:
    """Which leave them off."""
    files = checkpoint("gemma3", tmp_path)
    facts = json.loads(files["preprocessor_config.json"].read_text())
    nothing = {"do_pan_and_scan": None, "pan_and_scan_max_num_crops": None, "pan_and_scan_min_crop_size": 8}
    files["preprocessor_config.json"].write_text(json.dumps({**facts, **nothing}))
    said = between(LONG, SQUARE)
    told, plain = loaded(files, "gemma3_crops"), loaded(files, "gemma3")
    assert [one.run([said], Chat(2))[0].image_tokens for one in (told, plain)] == [24, 8]
    files["preprocessor_config.json"].write_text(json.dumps({**facts, **SMALL}))
    asked = loaded(files, "gemma3")  # by its own file
    assert written(told, said).tokens == written(asked, said).tokens
    assert np.array_equal(written(told, said).logits, written(asked, said).logits)
