"""Answers of every family, at toy size: token by token, those of transformers' ``generate`` on the same net."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, processors
from transformers import LlavaProcessor, PreTrainedTokenizerFast
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

from anmok import Conversation, Model
from anmok.inputs import Frames
from anmok.nets.families import FAMILIES, VICUNA
from anmok.nets.number_words import in_words
from toy_talkers import (
    FIRST,
    LOOK,
    SECOND,
    WATCH,
    about,
    between,
    checkpoint,
    loaded,
    model,
    native,
    read_anew,
    script,
    stretched,
    written,
)

MOST = 8


def same(talker: Model, said: Conversation, tolerance: float = 1e-4) -> None:
    ours, theirs = written(talker, said, MOST), native(talker, said, MOST)
    assert ours.tokens == theirs.tokens
    away = np.abs(ours.logits - theirs.logits).max()
    assert away <= tolerance * np.abs(theirs.logits).max()
    assert theirs.logits.std() > 0.01


@pytest.mark.parametrize("kind", FAMILIES)
def test_words_are_answered_as_transformers_does(kind: str) -> None:
    same(model(kind), about(question="안녕하세요? 🌈 What is your name?"))
    same(model(kind), about().then("So.", "Sure?"))


@pytest.mark.parametrize("kind", LOOK)
def test_pictures_are_answered_as_transformers_does(kind: str) -> None:
    same(model(kind), about(FIRST))
    same(model(kind), between(FIRST, SECOND))
    same(model(kind), about(SECOND).then("So.", "And this?", FIRST).then("A cat.", "Sure?"))
    nothing, one = (written(model(kind), said).logits[0] for said in (about(), about(FIRST)))
    assert np.abs(nothing - one).max() > 1e-3  # it looks


@pytest.mark.parametrize("kind", WATCH)
def test_clips_are_answered_as_transformers_does(kind: str) -> None:
    same(model(kind), about(Frames((FIRST, SECOND, FIRST), (0.0, 1.0, 2.5))))
    same(model(kind), about(Frames((SECOND,), (0.0,))).then("So.", "Sure?"))


@pytest.mark.parametrize("kind", [*LOOK, "llama", "gemma2"])
def test_half_precision_is_that_of_transformers(kind: str, tmp_path: Path) -> None:
    """Read from files, as transformers reads them: positions turn by angles of full precision."""
    talker = loaded(checkpoint(kind, tmp_path), kind, "bfloat16")
    net: Any = talker.kind._net  # type: ignore[attr-defined]
    turning = [tensor.dtype for name, tensor in net.named_buffers() if name.endswith("inv_freq")]
    assert set(map(str, turning)) <= {"torch.float32"}
    assert {str(one.dtype) for one in net.parameters()} == {"torch.bfloat16"}
    said = about(FIRST) if kind in LOOK else about()
    ours, theirs = written(talker, said, 1), native(talker, said, 1)
    assert np.abs(ours.logits - theirs.logits).max() <= 0.02 * np.abs(theirs.logits).max()


def test_what_a_tokenizer_puts_before_a_prompt_is_there(tmp_path: Path) -> None:
    """LLaVA 1.5's template does not begin with ``<s>``; its tokenizer does, and its weights know no text without."""
    files = checkpoint("llava", tmp_path)
    facts: Any = Tokenizer.from_file(str(files["tokenizer.json"]))
    facts.add_special_tokens(["<s>"])
    begin = facts.token_to_id("<s>")
    facts.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", begin)])
    facts.save(str(files["tokenizer.json"]))
    files["tokenizer_config.json"].write_text(json.dumps({"bos_token": "<s>", "eos_token": "<|im_end|>"}))
    del files["chat_template.jinja"]
    talker = loaded(files, "llava")
    reader = PreTrainedTokenizerFast(
        tokenizer_object=facts, bos_token="<s>", extra_special_tokens={"image_token": "<image>"}
    )
    processor = LlavaProcessor(
        LlavaImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}),
        reader,
        patch_size=4,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=VICUNA,
    )
    content = [{"type": "image", "image": FIRST}, {"type": "text", "text": "What is it?"}]
    theirs = processor.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=True, add_generation_prompt=True, return_dict=True
    )
    ours = script(talker, about(FIRST, question="What is it?")).ids
    assert list(ours) == list(np.ravel(theirs["input_ids"]))
    assert ours[0] == begin
    assert ours.count(begin) == 1


def test_a_prompt_that_begins_so_already_is_left_alone(tmp_path: Path) -> None:
    files = checkpoint("llava", tmp_path)
    content = json.loads(files["tokenizer.json"].read_text())
    tokenizer: Any = Tokenizer.from_str(json.dumps(content))
    begin = tokenizer.token_to_id("<|im_start|>")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|im_start|> $A", special_tokens=[("<|im_start|>", begin)]
    )
    tokenizer.save(str(files["tokenizer.json"]))
    files["tokenizer_config.json"].write_text(json.dumps({"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}))
    assert script(loaded(files, "llava"), about(FIRST)).ids == script(model("llava"), about(FIRST)).ids


@pytest.mark.parametrize("kind", ["phi3", "phi4_multimodal"])
@pytest.mark.parametrize("bound", [20, 64, 400], ids=["from the first", "within the answer", "never"])
def test_an_answer_that_grows_long_is_read_anew(kind: str, bound: int, tmp_path: Path) -> None:
    """Phi-4-multimodal does not in transformers 5.24: its ``generate`` then goes on with the last token alone."""
    talker = loaded(stretched(kind, tmp_path, bound), kind)
    net: Any = FAMILIES[kind].made()
    net = net.from_pretrained(tmp_path).eval()
    said = about(FIRST) if kind in LOOK else about(question="What is it? 뭐예요? Tell me!!")
    length = len(script(talker, said).ids)
    assert 20 < length < 64 < length + 20
    ours, theirs = written(talker, said, 20), read_anew(net, talker, said, 20)
    assert ours.tokens == theirs.tokens
    assert np.abs(ours.logits - theirs.logits).max() <= 1e-4 * np.abs(theirs.logits).max()


def test_smolvlm_is_told_of_a_clip_as_its_processor_tells() -> None:
    """Whose chat template, as published with the weights, knows pictures only."""
    from transformers.models.smolvlm.processing_smolvlm import SmolVLMProcessor
    from transformers.video_utils import VideoMetadata

    talker = model("smolvlm")
    kind: Any = talker.kind
    processor = SmolVLMProcessor.__new__(SmolVLMProcessor)  # without its part for videos, which wants torchvision
    processor.image_seq_len, processor.image_token = 4, "<image>"
    processor.fake_image_token, processor.global_image_token = "<fake_token_around_image>", "<global-img>"
    seconds = (0.0, 1.0, 62.0)
    metadata = VideoMetadata(total_num_frames=63, fps=1.0, duration=62.0, frames_indices=[0, 1, 62])
    given = {"pixel_values": np.zeros((1, 3, 3, 16, 16)), "video_metadata": [metadata]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("transformers.models.smolvlm.processing_smolvlm.num2words", in_words, raising=False)
        theirs = processor.replace_video_token(given, 0)
    said = about(Frames((FIRST, SECOND, FIRST), seconds), question="What?")
    ids = kind._parts.reader.ids([f"<|im_start|>user\n {theirs}"])
    assert list(script(talker, said).ids[: len(ids)]) == ids


def test_numbers_are_said_as_they_are_in_english() -> None:
    told = {0: "zero", 9: "nine", 12: "twelve", 20: "twenty", 21: "twenty-one", 64: "sixty-four", 99: "ninety-nine"}
    assert {number: in_words(number) for number in told} == told
    assert len({in_words(number) for number in range(100)}) == 100
    assert in_words(100) == "100"


def test_internvl_is_told_of_a_clip_as_its_processor_tells() -> None:
    from transformers import InternVLProcessor

    talker = model("internvl")
    processor = InternVLProcessor.__new__(InternVLProcessor)
    processor.image_seq_length, processor.image_token = 4, "<IMG_CONTEXT>"
    processor.start_image_token, processor.end_image_token = "<img>", "</img>"
    theirs = processor.replace_video_token({"pixel_values_videos": [np.zeros((2, 3, 16, 16))]}, 0)
    said = about(Frames((FIRST, SECOND), (0.0, 1.0)), question="What?")
    kind: Any = talker.kind
    assert list(script(talker, said).ids) == kind._parts.reader.ids(
        [f"<|im_start|>user\n{theirs}What?<|im_end|>\n<|im_start|>assistant"]
    )
