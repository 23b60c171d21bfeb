"""LLaVA-OneVision 1.5 at toy size: the tower by numbers that its authors' code gave once, names and sizes as published,
answers that are those of transformers' reader, and what else every family is asked for."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from anmok import Chat, Conversation
from anmok.errors import BadMedia, BadWeights
from anmok.models.talking import Talks
from anmok.nets import onevision15, toys
from anmok.nets.eyes.qwen import QwenRules, patched
from anmok.nets.families import family_of
from anmok.nets.rice import Rice, Sizes
from battery import picture
from toy_talkers import FIRST, SECOND, SHORT, about, between, loaded, model, script, setup, written

KIND = "llavaonevision1_5"
MOST = 8

# Of the names and shapes of the authors' ``RiceTransformerPretrainedModel`` of the published size, sorted, one a line.
NAMES = "76209a946ba8d96849e4ce630c99916d32402260d96f2a4d1944f547c6bf445b"
# What that class of the toy's sizes gave for two pictures of so many patches, one by one: the first six numbers, the
# sum. (Given both at once it takes the rows of the second from one place too early.)
TOLD = {
    (2, 2): ([-2.473571, -0.406188, -2.029199, 2.348887, -2.799899, 0.659853], -4.847996),
    (4, 6): ([-1.754016, 1.331577, -1.09103, 0.73208, -0.816427, 0.116766], -17.907567),
    (8, 2): ([-2.504922, 0.684708, -2.080857, 1.707673, -1.451464, 3.938418], -9.574381),
    (6, 10): ([-1.627696, -0.525889, -0.254069, 0.131157, -2.012964, 3.107315], 41.718363),
}
TOY = Sizes(16, 24, 2, 2, 4, 2, 32)


def test_names_of_the_tower_are_the_published_ones() -> None:
    with torch.device("meta"):
        net = Rice(Sizes.of({}))
    listed = "\n".join(f"{name} {tuple(one.shape)}" for name, one in sorted(net.state_dict().items()))
    assert hashlib.sha256(listed.encode()).hexdigest() == NAMES
    assert sum(one.numel() for one in net.parameters()) == 330_186_272


@pytest.mark.parametrize("grid", TOLD)
def test_numbers_of_the_tower_are_those_of_the_authors(grid: tuple[int, int]) -> None:
    net = Rice(TOY)
    generator, shapes = torch.Generator().manual_seed(0), net.state_dict()
    state = {}
    for name in sorted(shapes):
        is_norm = shapes[name].dim() == 1 and "norm" in name and name.endswith("weight")
        state[name] = torch.randn(shapes[name].shape, generator=generator) * 0.3 + float(is_norm)
    net.load_state_dict(state)
    rows, columns = grid
    seed = torch.Generator().manual_seed(rows * 100 + columns)
    pixels = torch.rand(2, 3, rows * 4, columns * 4, generator=seed) * 2 - 1
    patches = patched(pixels[:, None], QwenRules.of({"patch_size": 4, "temporal_patch_size": 1}))
    with torch.inference_mode():
        seen = net(patches.reshape(2, rows * columns, -1), rows, columns)
    numbers, whole = TOLD[grid]
    assert seen.shape == (2, rows * columns // 4, 32)
    assert seen.flatten()[:6].tolist() == pytest.approx(numbers, abs=2e-5)
    assert float(seen.double().sum()) == pytest.approx(whole, abs=1e-3)


@pytest.mark.parametrize("size_hw", [(61, 83), (480, 640), (30, 400), (5, 7), (2000, 3000)])
def test_pixels_and_tokens_are_those_of_qwens_processor(size_hw: tuple[int, int]) -> None:
    image = picture(size_hw, 1)
    told: dict[str, Any] = {"patch_size": 14, "merge_size": 2, "temporal_patch_size": 1}
    limits = {"shortest_edge": 56 * 56, "longest_edge": 1_003_520}
    processor = Qwen2VLImageProcessorPil(**told, size=limits)
    wanted = processor(images=image, return_tensors="pt")
    with torch.device("meta"):
        eyes = onevision15.Eyes(Rice(Sizes.of({})), {**told, "size": limits, "temporal_patch_size": 2})
    prepared = torch.from_numpy(eyes.prepare(image))
    grid = [1, prepared.shape[1] // 14, prepared.shape[2] // 14]
    assert wanted["image_grid_thw"].tolist() == [grid]
    torch.testing.assert_close(
        patched(prepared[None, None], QwenRules.of(told)), wanted["pixel_values"], rtol=0, atol=0
    )
    assert eyes.slot(size_hw) == "<|image_pad|>" * (grid[1] * grid[2] // 4)
    with pytest.raises(BadMedia, match="no more than 200 times as long as wide"):
        eyes.prepare(picture((3, 900), 1))


SAID = [
    about(question="안녕하세요? 🌈 What is your name?"),
    about(FIRST),
    between(FIRST, SECOND),
    about(SECOND).then("So.", "And this?", FIRST).then("A cat.", "Sure?"),
]


@pytest.mark.parametrize("said", SAID, ids=["words", "picture", "pictures", "later"])
def test_answers_are_the_readers(said: Conversation) -> None:
    """Greedy, token by token: the reader is given all rows at once, of pictures that were seen one by one, and no
    cache."""
    talker: Any = model(KIND)
    read = script(talker, said)
    net = talker.kind._net
    rows = net.get_input_embeddings()(torch.tensor(read.ids).masked_fill(read.is_picture, 0)).detach().clone()
    if said.shown:
        prepared = [torch.from_numpy(talker.kind.prepare(np.asarray(one)).pixels) for one in said.shown]
        with torch.inference_mode():
            seen = [net.sight(*_patches(one)).flatten(0, 1) for one in prepared]
        rows[read.is_picture] = torch.cat(seen)
    tokens, logits = [], []
    with torch.inference_mode():
        while len(tokens) < MOST and not set(tokens) & talker.kind._parts.ends:
            logits.append(net.reader(inputs_embeds=rows[None]).logits[0, -1].numpy())
            tokens.append(int(logits[-1].argmax()))
            rows = torch.cat([rows, net.get_input_embeddings()(torch.tensor(tokens[-1:]))])
    told = written(talker, said, MOST)
    assert told.tokens == tokens
    assert np.abs(told.logits - np.stack(logits)).max() <= 1e-4 * np.abs(logits).max()
    assert len(tokens) > 1


def _patches(prepared: Tensor) -> tuple[Tensor, int, int]:
    rules = QwenRules.of({"patch_size": 4, "temporal_patch_size": 1})
    return patched(prepared[None, None], rules)[None], prepared.shape[1] // 4, prepared.shape[2] // 4


def test_answers_do_not_depend_on_batch_mates() -> None:
    alone = [model(KIND).run([one], SHORT)[0] for one in SAID]
    for order in ([0, 1, 2, 3], [3, 1, 0, 2]):
        together = model(KIND).run([SAID[i] for i in order], SHORT)
        assert [one.text for one in together] == [alone[i].text for i in order]
    assert alone[0].image_tokens == 0
    assert alone[2].image_tokens == alone[3].image_tokens > alone[1].image_tokens > 0
    other = [written(model(KIND), about(one)).logits[0] for one in (FIRST, SECOND)]
    assert np.abs(other[0] - other[1]).max() > 1e-3


def files_of(folder: Path, sight: str, reader: str) -> dict[str, Path]:
    """The toy under the names of the hub, of which there are two sorts."""
    toy: Any = toys.toy(KIND, family_of(KIND, KIND), 0)
    told, facts = onevision15._toy(toy.net.config.vocab_size, min(toy.ends))
    state = {f"{sight}{name}": one.clone() for name, one in toy.net.sight.state_dict().items()}
    for name, one in toy.net.reader.state_dict().items():
        state[name if name.startswith("lm_head") else f"{reader}{name.removeprefix('model.')}"] = one.clone()
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    texts = {
        "config.json": json.dumps(told),
        "preprocessor_config.json": json.dumps({**facts, "patch_size": 4, "merge_size": 2, "temporal_patch_size": 1}),
        "tokenizer.json": toy.tokenizer,
        "chat_template.jinja": toy.template,
        "tokenizer_config.json": json.dumps({"eos_token": "<|im_end|>"}),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return {path.name: path for path in folder.iterdir()}


@pytest.mark.parametrize(("sight", "reader"), [("visual.", "model."), ("model.visual.", "model.language_model.")])
def test_a_checkpoint_answers_as_what_was_saved_in_it(sight: str, reader: str, tmp_path: Path) -> None:
    files = files_of(tmp_path, sight, reader)
    wanted, told = written(model(KIND), about(FIRST)), written(loaded(files, KIND), about(FIRST))
    assert told.tokens == wanted.tokens
    np.testing.assert_allclose(told.logits, wanted.logits, atol=1e-5)
    state = load_file(files["model.safetensors"])
    for name in (f"{sight}class_pos_emb", f"{reader}norm.weight"):
        save_file({k: v for k, v in state.items() if k != name}, files["model.safetensors"], {"format": "pt"})
        with pytest.raises(BadWeights, match=f"{KIND}: the weights do not fit the net: 1 missing"):
            Talks.from_files(setup(KIND, files))
    save_file({**state, "extra": torch.ones(1)}, files["model.safetensors"], {"format": "pt"})
    with pytest.raises(BadWeights, match="1 left over"):
        Talks.from_files(setup(KIND, files))


@pytest.mark.parametrize("part", ["vision_config", "text_config"])
def test_a_configuration_without_its_parts_is_refused(part: str, tmp_path: Path) -> None:
    files = files_of(tmp_path, "visual.", "model.")
    content = json.loads(files["config.json"].read_text())
    del content[part]
    files["config.json"].write_text(json.dumps(content))
    with pytest.raises(BadWeights, match=f"{KIND}: config.json lacks '{part}'"):
        Talks.from_files(setup(KIND, files))


def test_half_precision_is_near_and_a_stream_says_what_the_whole_says() -> None:
    exact = written(model(KIND), about(FIRST), 1).logits
    half = written(model(KIND, "bfloat16"), about(FIRST), 1).logits
    assert 0 < np.abs(half - exact).max() <= 0.05 * np.abs(exact).max()
    [reply] = model(KIND).run([about(FIRST)], Chat(12))
    assert "".join(piece.text for piece in model(KIND).stream(about(FIRST), Chat(12))) == reply.text
