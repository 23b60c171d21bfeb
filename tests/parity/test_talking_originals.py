"""Checkpoints in their authors' layout, from files to answers: token by token, those of the authors' own forward pass
(written down in ``vlm_originals``), at prompts as the authors' code writes them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import tiny_eyes
from anmok import Conversation, Model, Turn
from anmok.errors import BadWeights
from anmok.inputs import Text
from anmok.models.talking import Talks
from anmok.nets import vlm_names
from anmok.nets.eyes.square import PAD, SquareRules, squared
from anmok.nets.toys import tokenizer_of_bytes
from parity.vlm_originals import INTERNLM2, MED, QWEN2, SMALL, Chat, Med, chat
from toy_talkers import FIRST, SECOND, about, loaded, script, setup, written

Files = dict[str, Path]
TOWER = "openai/clip-vit-large-patch14-336"
INTERN = ["<img>", "</img>", "<IMG_CONTEXT>", "<|im_start|>", "<|im_end|>", "<s>"]
WORDS = 320


def saved(
    folder: Path, content: dict[str, Any], state: dict[str, Tensor], special: list[str], bos: str = "<s>"
) -> Files:
    """As the authors publish it: no template for pictures, none of transformers' files for the processor."""
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, folder / "model.safetensors")
    texts = {
        "config.json": json.dumps(content),
        "tokenizer.json": tokenizer_of_bytes({token: 256 + i for i, token in enumerate(special)}),
        "tokenizer_config.json": json.dumps(
            {"bos_token": bos or None, "eos_token": special[-2], "chat_template": "{{ messages[0]['content'] }}"}
        ),
        "preprocessor_config.json": json.dumps({"crop_size": 448, "size": 448, "do_center_crop": True}),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return {path.name: path for path in folder.iterdir()}


def spelled(text: str, special: list[str]) -> list[int]:
    """Ids of a text: its special tokens, and the bytes of all else."""
    from anmok.wording import Reader

    return Reader(tokenizer_of_bytes({token: 256 + i for i, token in enumerate(special)}), "toy").ids([text])


def follows(talker: Model, said: Conversation, logits: Callable[[list[int]], Tensor], words: int) -> None:
    """Eight tokens, each the likeliest after those before it."""
    ids, told = list(script(talker, said).ids), written(talker, said, 8)
    for token, ours in zip(told.tokens, told.logits, strict=True):
        with torch.inference_mode():
            theirs = logits(ids).numpy()
        assert token == int(theirs.argmax())
        assert np.abs(ours[:words] - theirs[:words]).max() <= 2e-4 * np.abs(theirs).max()
        ids.append(token)


@pytest.mark.parametrize("reader", [INTERNLM2, QWEN2], ids=["internlm2", "qwen2"])
def test_internvl_answers_as_its_authors_have_it(reader: dict[str, Any], tmp_path: Path) -> None:
    content = chat(SMALL, {**reader, "vocab_size": WORDS}, max_dynamic_patch=4)
    original = tiny_eyes.alive(Chat(content))
    bos = "<s>" if reader is INTERNLM2 else ""
    talker = loaded(saved(tmp_path, content, original.state_dict(), INTERN, bos), "internvl_chat")
    kind: Any = talker.kind
    said = about(FIRST, SECOND, question="Which?")
    pixels = torch.from_numpy(np.concatenate([kind.prepare(one).pixels for one in (FIRST, SECOND)]))
    image = kind._parts.reader.id_of("<IMG_CONTEXT>")
    follows(talker, said, lambda ids: original(torch.tensor([ids]), pixels, image)[0, -1], WORDS)
    slots = [f"<img>{'<IMG_CONTEXT>' * (4 * len(kind.prepare(one).pixels))}</img>\n" for one in (FIRST, SECOND)]
    prompt = f"{bos}<|im_start|>user\n{''.join(slots)}Which?<|im_end|>\n<|im_start|>assistant\n"
    assert list(script(talker, said).ids) == spelled(prompt, INTERN)


def med(folder: Path, monkeypatch: pytest.MonkeyPatch, **more: Any) -> tuple[Files, Med]:
    monkeypatch.setitem(vlm_names.TOWERS, TOWER, tiny_eyes.CLIP_TOWER)  # type: ignore[arg-type]
    special = ["<s>", "</s>", *(f"[{i}]" for i in range(WORDS - 258))]
    original = tiny_eyes.alive(Med())
    files = saved(folder, MED | {"vocab_size": WORDS} | more, original.published(), special)
    files["tokenizer_config.json"].write_text(json.dumps({"bos_token": "<s>", "eos_token": "</s>"}))
    return files, original


def test_llava_med_answers_as_its_authors_have_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, original = med(tmp_path, monkeypatch)
    talker = loaded(files, "llava_mistral")
    kind: Any = talker.kind
    prepared = kind.prepare(FIRST).pixels
    assert np.array_equal(prepared, PAD.levels.numbers(squared(FIRST, SquareRules(16, "pad", PAD.levels))))
    said = about(FIRST, question="What?")
    ids = script(talker, said).ids
    assert ids.count(WORDS) == 16  # behind the vocabulary
    at = ids.index(WORDS)

    def logits(ids: list[int]) -> Tensor:
        return original(ids[:at], ids[at + 16 :], torch.from_numpy(prepared)[None])[0, -1]

    follows(talker, said, logits, WORDS)


def test_llava_meds_turns_are_as_its_code_writes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, _ = med(tmp_path, monkeypatch)
    talker = loaded(files, "llava_mistral")
    turns = (
        Turn("system", (Text("Be kind."),)),
        Turn("user", (FIRST, Text("What?"))),
        Turn("assistant", (Text("A cat."),)),
        Turn("user", (Text("Sure?"),)),
    )
    special = ["<s>", "</s>", *(f"[{i}]" for i in range(WORDS - 258)), "<image>"]
    prompt = f"<s>[INST] <<SYS>>\nBe kind.\n<</SYS>>\n\n{'<image>' * 16}\nWhat? [/INST] A cat. </s>[INST] Sure? [/INST]"
    assert list(script(talker, Conversation(turns)).ids) == spelled(prompt, special)


def test_llava_is_read_with_the_turns_of_vicuna(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same tensors but for the reader, whose names are those of Mistral."""
    files, original = med(tmp_path, monkeypatch, model_type="llava_llama")
    talker = loaded(files, "llava_llama")
    special = ["<s>", "</s>", *(f"[{i}]" for i in range(WORDS - 258)), "<image>"]
    prompt = f"<s>USER: {'<image>' * 16}\nWhat? ASSISTANT:"
    said = about(FIRST, question="What?")
    assert list(script(talker, said).ids) == spelled(prompt, special)
    prepared = torch.from_numpy(talker.kind.prepare(FIRST).pixels)[None]  # type: ignore[attr-defined]
    follows(talker, said, lambda ids: original(ids[:7], ids[23:], prepared)[0, -1], WORDS)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"image_aspect_ratio": "anyres"}, "image_aspect_ratio 'anyres'; want 'pad'"),
        ({"mm_projector_type": "linear"}, "mm_projector_type 'linear'"),
        ({"vocab_size": WORDS + 3}, "tokenizer.json has 320 tokens, and config.json 323"),
    ],
    ids=["tiles", "another projector", "other words"],
)
def test_what_these_eyes_do_not_do_is_refused(
    change: dict[str, Any], fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, _ = med(tmp_path, monkeypatch, **change)
    with pytest.raises(BadWeights, match=f"llava_mistral: .*{fault}") as told:
        Talks.from_files(setup("llava_mistral", files))
    assert "\n" not in str(told.value)


def test_internvl_that_lacks_what_its_net_is_made_of_is_refused(tmp_path: Path) -> None:
    content = chat(SMALL, {**QWEN2, "vocab_size": WORDS})
    files = saved(tmp_path, content, tiny_eyes.alive(Chat(content)).state_dict(), INTERN)
    del content["vision_config"]
    files["config.json"].write_text(json.dumps(content))
    with pytest.raises(BadWeights, match="internvl_chat: config.json lacks 'vision_config'"):
        Talks.from_files(setup("internvl_chat", files))
