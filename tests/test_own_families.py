"""HyperCLOVA X SEED Vision and VideoLLaMA2 at toy size, from a picture or a clip to words: against what transformers'
reader writes by itself, and from files as the hub has them."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from anmok import Chat, Conversation, Model
from anmok.catalogue import card
from anmok.errors import BadWeights
from anmok.geometry import Pixels
from anmok.inputs import Frames
from anmok.models.talking import Talks
from anmok.nets import toys
from anmok.nets.families import FAMILIES, family_of
from anmok.nets.own_families import OWN_FAMILIES
from anmok.tasks import Setup, TextRules
from battery import picture
from toy_talkers import SHORT, script, written

FIRST, SECOND = picture((37, 61), 1), picture((52, 30), 2)
PIXELS = Pixels(16, "squash", "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def about(*shown: Any) -> Conversation:
    return Conversation.about(*shown, question="What is it? 뭐예요?")


CLIP = Frames((FIRST, SECOND, FIRST), (0.0, 1.0, 2.0))
SAID = {
    "picture": about(FIRST),
    "clip": about(CLIP),
    "words": about(),
    "later": about(FIRST).then("A cat.", "And now? 그리고?"),
}
# Of FIRST (37 x 61), and of a clip of three frames. HyperCLOVA X: 4 for the whole picture, two lines of four with their
# ends; a slow frame of 4 and two fast ones. VideoLLaMA2: 4 frames of 4 x 4 patches, with padding and without.
TOKENS = {"hyperclovax_vlm": (14, 6), "videollama2_mistral": (27, 27), "videollama2_qwen2": (8, 8)}
TOKENS["videollama2_qwen2_av"] = TOKENS["videollama2_qwen2"]


def setup(kind: str, files: dict[str, Path] | None = None) -> Setup:
    return Setup(kind, kind, PIXELS, TextRules(), "softmax", ("en",), files=files or {})


def loaded(kind: str, files: dict[str, Path]) -> Model:
    return Model(card("fake-talk"), Talks.from_files(setup(kind, files)), setup(kind))


@functools.cache
def model(kind: str) -> Model:
    return Model(card("fake-talk"), Talks.tiny(setup(kind), 0), setup(kind))


@pytest.mark.parametrize("kind", OWN_FAMILIES)
@pytest.mark.parametrize("said", SAID)
def test_answers_are_the_readers(kind: str, said: str) -> None:
    """Greedy, token by token: the reader is given all rows at once and no cache."""
    talker = model(kind)
    read = script(talker, SAID[said])
    net: Any = talker.kind._net  # type: ignore[attr-defined]
    ids = torch.tensor(read.ids)
    rows = net.get_input_embeddings()(ids.masked_fill(read.is_picture, 0)).detach().clone()
    if read.rows is not None:
        rows[read.is_picture] = read.rows
    wanted: list[int] = []
    with torch.inference_mode():
        while len(wanted) < SHORT.max_tokens and not set(wanted) & talker.kind._parts.ends:  # type: ignore[attr-defined]
            token = int(net.reader(inputs_embeds=rows[None]).logits[0, -1].argmax())
            wanted.append(token)
            rows = torch.cat([rows, net.get_input_embeddings()(torch.tensor([token]))])
    assert written(talker, SAID[said]).tokens == wanted
    assert len(wanted) > 1


@pytest.mark.parametrize("kind", OWN_FAMILIES)
def test_tokens_of_pictures_and_clips_are_counted(kind: str) -> None:
    replies = model(kind).run([about(FIRST), about(CLIP), about()], SHORT)
    assert tuple(one.image_tokens for one in replies) == (*TOKENS[kind], 0)


@pytest.mark.parametrize("kind", OWN_FAMILIES)
def test_answers_do_not_depend_on_batch_mates(kind: str) -> None:
    said = [SAID["later"], SAID["picture"], SAID["clip"], SAID["words"], about(SECOND)]
    together = [one.text for one in model(kind).run(said, SHORT)]
    assert together == [model(kind).run([one], SHORT)[0].text for one in said]


@pytest.mark.parametrize("kind", OWN_FAMILIES)
def test_answers_depend_on_what_is_shown(kind: str) -> None:
    """By their logits: at toy size the likeliest word is often the same."""
    talker: Any = model(kind)
    logits = [talker.kind._speaker.begin([script(talker, one)]).logits for one in (about(FIRST), about(SECOND))]
    assert float(np.abs(logits[0] - logits[1]).max()) > 1e-3
    back = Frames((SECOND, FIRST, SECOND), CLIP.seconds)
    films = [talker.kind._speaker.begin([script(talker, one)]).logits for one in (about(CLIP), about(back))]
    assert float(np.abs(films[0] - films[1]).max()) > 1e-3


def files_of(kind: str, folder: Path) -> dict[str, Path]:
    """The toy under the names of the hub. VideoLLaMA2's tokenizer does not know the marks of pictures and clips."""
    family = family_of(kind, kind)
    toy = toys.toy(kind, family, 0)
    net: Any = toy.net
    content, facts = family.own.toy(net.config.vocab_size, min(toy.ends))  # type: ignore[union-attr]
    state = dict(net.reader.state_dict())
    if kind == "hyperclovax_vlm":
        state = {f"language_model.{key}": one for key, one in state.items()}
        state |= {
            key.replace("vision_model.", "vision_model.vision_model."): one
            for key, one in net.sight.state_dict().items()
        }
    else:
        state |= {
            "model." + key.replace("vision_tower.", "vision_tower.vision_tower.vision_model."): one
            for key, one in net.sight.state_dict().items()
        }
    if family.hearing is not None:  # published with a classifier that nobody asks
        state |= {f"model.{key}": one for key, one in net.ear.state_dict().items()}
        state["model.audio_tower.predictor.weight"] = torch.ones(3, 16)
    save_file({key: one.clone() for key, one in state.items()}, folder / "model.safetensors")
    tokenizer = json.loads(toy.tokenizer)
    known = {} if family.own is None else dict.fromkeys(family.own.added)
    tokenizer["added_tokens"] = [one for one in tokenizer["added_tokens"] if one["content"] not in known]
    for number, one in enumerate(tokenizer["added_tokens"]):
        one["id"] = 256 + number
    end = next(one["id"] for one in tokenizer["added_tokens"] if one["content"] == "<|im_end|>")
    written = {
        "config.json": {**content, "eos_token_id": end},
        "preprocessor_config.json": facts,
        "tokenizer.json": tokenizer,
        "tokenizer_config.json": {"eos_token": "<|im_end|>", "chat_template": toy.template},
    }
    for name, one in written.items():
        (folder / name).write_text(json.dumps(one), encoding="utf-8")
    return {path.name: path for path in folder.iterdir()}


@pytest.mark.parametrize("kind", OWN_FAMILIES)
def test_checkpoints_are_read_from_files(kind: str, tmp_path: Path) -> None:
    talker, toy = loaded(kind, files_of(kind, tmp_path)), model(kind)
    mine, wanted = talker.kind._net.state_dict(), toy.kind._net.state_dict()  # type: ignore[attr-defined]
    assert mine.keys() == wanted.keys()
    # All but the last norm of the tower, which nobody reads.
    assert all(torch.equal(one, wanted[key]) for key, one in mine.items() if "post_layernorm" not in key)
    for one in talker.kind._net.parameters():  # type: ignore[attr-defined]
        one.data = one.data.clone()  # aligned as the toy's, where a file's are not: sums come in the same order
    for said in ("picture", "clip"):
        read, known = script(talker, SAID[said]), script(toy, SAID[said])
        assert int(read.is_picture.sum()) == len(read.rows) == TOKENS[kind][said == "clip"]  # type: ignore[arg-type]
        torch.testing.assert_close(read.rows, known.rows, rtol=0, atol=0)
        assert len(written(talker, SAID[said]).tokens) > 1


@pytest.mark.parametrize("kind", ["videollama2_mistral", "videollama2_qwen2", "videollama2_qwen2_av"])
def test_marks_stand_behind_the_vocabulary(kind: str, tmp_path: Path) -> None:
    """The table of words has no rows for them, and does not need any."""
    files = files_of(kind, tmp_path)
    reader = loaded(kind, files).kind._parts.reader  # type: ignore[attr-defined]
    count = 256 + len(json.loads(files["tokenizer.json"].read_text())["added_tokens"])
    assert [reader.id_of("<image>"), reader.id_of("<video>")] == [count, count + 1]
    assert reader.ids(["a<image>"]) == [reader.ids(["a"])[0], count]


@pytest.mark.parametrize("kind", OWN_FAMILIES)
@pytest.mark.parametrize("shown", [(FIRST,), (CLIP,)], ids=["picture", "clip"])
def test_the_templates_here_have_a_place_for_what_is_shown(kind: str, shown: Any, tmp_path: Path) -> None:
    """For checkpoints that come without one; after the authors' code."""
    files = files_of(kind, tmp_path)
    told = json.loads(files["tokenizer_config.json"].read_text())
    files["tokenizer_config.json"].write_text(json.dumps({"eos_token": told["eos_token"], "bos_token": "<s>"}))
    talker: Any = loaded(kind, files)
    said = Conversation.about(*shown, question="What?", system="Be brief.").then("A cat.", "Why?")
    spans = talker.kind._parts.template.spans(said, ["#"])
    wanted = {
        "hyperclovax_vlm": (
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user (vector)\n#<|im_end|>\n"
            "<|im_start|>user\nWhat?<|im_end|>\n<|im_start|>assistant\nA cat.<|im_end|>\n"
            "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n"
        ),
        "videollama2_mistral": (
            "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\n#\nWhat? [/INST] A cat.</s>[INST] Why? [/INST]"
        ),
        "videollama2_qwen2": (
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n#\nWhat?<|im_end|>\n"
            "<|im_start|>assistant\nA cat.<|im_end|>\n<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n"
        ),
    }
    assert "".join(span.text for span in spans) == wanted[kind.removesuffix("_av")]
    assert talker.run([said], Chat(max_tokens=2))[0].tokens_out in (1, 2)


def test_the_checkpoint_says_how_many_frames_it_knows() -> None:
    assert model("videollama2_mistral").kind.most_frames == 4  # type: ignore[attr-defined]
    assert model("hyperclovax_vlm").kind.most_frames == 108  # type: ignore[attr-defined]


def test_rows_of_ours_are_no_rows_of_transformers() -> None:
    assert not OWN_FAMILIES.keys() & FAMILIES.keys()
    with pytest.raises(BadWeights, match="config.json is of a 'gpt5', which is none of .* hyperclovax_vlm, "):
        family_of("gpt5", "card")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"text_config": {"model_type": "rwkv"}},
            "its language model is a 'rwkv'; want one of hyperclovax, llama, ",
        ),
        ({"vision_config": {"model_type": "dinov2"}}, "its vision tower is a 'dinov2'"),
        ({"num_queries_vis_abstractor_image": 9}, None),
    ],
)
def test_configurations_that_do_not_fit_are_refused(change: dict[str, Any], said: str | None, tmp_path: Path) -> None:
    files = files_of("hyperclovax_vlm", tmp_path)
    content = json.loads(files["config.json"].read_text()) | change
    files["config.json"].write_text(json.dumps(content))
    if said is None:  # the abstractor has no weights for how many queries it gives
        assert loaded("hyperclovax_vlm", files).run([about(FIRST)], SHORT)[0].image_tokens == 9 + 4 * 7
        return
    with pytest.raises(BadWeights, match=f"hyperclovax_vlm: {said}"):
        loaded("hyperclovax_vlm", files)


def test_a_key_that_lacks_is_named(tmp_path: Path) -> None:
    files = files_of("hyperclovax_vlm", tmp_path)
    content = json.loads(files["config.json"].read_text())
    del content["vision_config"]
    files["config.json"].write_text(json.dumps(content))
    with pytest.raises(BadWeights, match="hyperclovax_vlm: config.json lacks 'vision_config'"):
        loaded("hyperclovax_vlm", files)
