"""Checkpoints of every family that talks, as folders: what is read out of them, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from anmok import Chat
from anmok.errors import BadWeights
from anmok.models.talking import Talks
from anmok.nets import toys
from anmok.nets.eyes.square import PAD, SquareRules, squared
from anmok.nets.families import FAMILIES
from toy_talkers import FIRST, LOOK, SHORT, about, adapter, checkpoint, loaded, model, setup, written

Files = dict[str, Path]


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_checkpoint_answers_as_what_was_saved_in_it(kind: str, tmp_path: Path) -> None:
    files = checkpoint(kind, tmp_path)
    said = about(*([FIRST] if kind in LOOK else []))
    model(kind).kind._speaker._memory.clear()  # type: ignore[attr-defined]
    wanted = written(model(kind), said)
    told = written(loaded(files, kind), said)
    assert told.tokens == wanted.tokens
    assert np.allclose(told.logits, wanted.logits, atol=1e-5)

    state = load_file(files["model.safetensors"])
    name = next(key for key in state if key.endswith("self_attn.o_proj.weight"))
    short = {key: tensor for key, tensor in state.items() if key != name}
    for faulty, fault in ((short, "1 missing"), (state | {"model.extra": torch.zeros(1)}, "1 left over")):
        save_file(faulty, files["model.safetensors"], {"format": "pt"})
        with pytest.raises(BadWeights, match=f"{kind}: the weights do not fit the net: {fault}") as told_of:
            Talks.from_files(setup(kind, files))
        assert "\n" not in str(told_of.value)


def refused(files: Files, kind: str, fault: str) -> None:
    with pytest.raises(BadWeights, match=fault) as told:
        Talks.from_files(setup(kind, files))
    assert str(told.value).startswith(f"{kind}: ")
    assert "\n" not in str(told.value)


def written_over(files: Files, name: str, content: Any) -> None:
    files[name].write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


def test_weights_lie_in_as_many_files_as_they_like(tmp_path: Path) -> None:
    files = checkpoint("llava", tmp_path)
    state = load_file(files.pop("model.safetensors"))
    for number in range(3):
        path = tmp_path / f"model-0000{number + 1}-of-00003.safetensors"
        save_file(dict(list(state.items())[number::3]), path, {"format": "pt"})
        files[path.name] = path
    assert written(loaded(files, "llava"), about(FIRST)).tokens == written(model("llava"), about(FIRST)).tokens
    files["other.safetensors"] = files["model-00001-of-00003.safetensors"]
    refused(files, "llava", "has .*, which another file has as well")
    del files["other.safetensors"]
    written_over(files, "model-00002-of-00003.safetensors", "no tensors")
    refused(files, "llava", "model-00002-of-00003.safetensors cannot be read")


def test_a_model_without_a_template_was_not_made_to_chat(tmp_path: Path) -> None:
    files = checkpoint("qwen2", tmp_path)
    source = files.pop("chat_template.jinja").read_text()
    refused(files, "qwen2", "no chat template, so it was not made to chat")
    settings = json.loads(files["tokenizer_config.json"].read_text())
    wanted = written(model("qwen2"), about()).tokens
    several = [{"name": "tool_use", "template": "nothing"}, {"name": "default", "template": source}]
    for found in (source, several):  # where older checkpoints have it
        written_over(files, "tokenizer_config.json", settings | {"chat_template": found})
        assert written(loaded(files, "qwen2"), about()).tokens == wanted
    written_over(files, "tokenizer_config.json", settings | {"chat_template": several[:1]})
    refused(files, "qwen2", "no chat template")
    files["chat_template.json"] = tmp_path / "chat_template.json"
    written_over(files, "chat_template.json", {"chat_template": source})
    assert written(loaded(files, "qwen2"), about()).tokens == wanted
    written_over(files, "chat_template.json", {"chat_template": "{% if %}"})
    refused(files, "qwen2", "chat template cannot be read")


def test_a_template_without_a_place_for_pictures_is_told_of(tmp_path: Path) -> None:
    files = checkpoint("llava_next", tmp_path)
    written_over(files, "chat_template.jinja", "{% for m in messages %}{{ m['content'][-1]['text'] }}{% endfor %}")
    talker = loaded(files, "llava_next")
    assert talker.run([about()], SHORT)[0].tokens_out == SHORT.max_tokens
    with pytest.raises(BadWeights, match="llava_next: its template has 0 places for 1 pictures") as told:
        talker.run([about(FIRST)], SHORT)
    assert "\n" not in str(told.value)


def test_an_answer_has_to_end(tmp_path: Path) -> None:
    """By whichever of its files says so; the family's own tokens end it as well."""
    files = checkpoint("mistral", tmp_path)
    told = written(model("mistral"), about(), 8).tokens
    config = json.loads(files["config.json"].read_text())
    said = {key: value for key, value in config.items() if key != "eos_token_id"}
    written_over(files, "config.json", said)
    written_over(files, "generation_config.json", {})
    written_over(files, "tokenizer_config.json", {})
    refused(files, "mistral", "no token ends its answers: eos_token_id is missing")
    places = (
        ("generation_config.json", {"eos_token_id": [999, told[3]]}),
        ("config.json", said | {"eos_token_id": told[3]}),
    )
    for name, content in places:
        before = files[name].read_text()
        written_over(files, name, content)
        [reply] = loaded(files, "mistral").run([about()], Chat(8))
        assert (reply.finish, reply.tokens_out) == ("stop", told.index(told[3]) + 1)
        written_over(files, name, before)


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("config.json", "{", "config.json is no JSON"),
        ("config.json", "[]", "config.json holds no object"),
        ("config.json", {"model_type": "bert"}, "config.json is of a 'bert', which is none of"),
        ("tokenizer.json", "{}", "not a tokenizer.json"),
        ("preprocessor_config.json", {"resample": 77}, "resample 77 is no filter"),
    ],
    ids=["no json", "a list", "another family", "no tokenizer", "an unknown filter"],
)
def test_files_that_are_damaged_are_named(name: str, content: Any, fault: str, tmp_path: Path) -> None:
    files = checkpoint("llava", tmp_path)
    written_over(files, name, content)
    with pytest.raises(BadWeights, match=fault) as told:
        Talks.from_files(setup("llava", files))
    assert "\n" not in str(told.value)
    del files[name]
    if name == "tokenizer.json":
        refused(files, "llava", "tokenizer.json is missing")


def test_what_a_processor_does_may_lie_in_its_own_file(tmp_path: Path) -> None:
    files = checkpoint("smolvlm", tmp_path)
    facts = json.loads(files.pop("preprocessor_config.json").read_text())
    files["processor_config.json"] = tmp_path / "processor_config.json"
    written_over(files, "processor_config.json", {"image_processor": facts, "image_seq_len": 4})
    assert written(loaded(files, "smolvlm"), about(FIRST)).tokens == written(model("smolvlm"), about(FIRST)).tokens


def test_llava_pads_though_its_file_says_crop(tmp_path: Path) -> None:
    """As it was trained, so that the ends of a long picture are seen."""
    files = checkpoint("llava", tmp_path)
    cut = {"size": {"shortest_edge": 16}, "crop_size": {"height": 16, "width": 16}, "do_center_crop": True}
    written_over(files, "preprocessor_config.json", cut)
    assert SquareRules.of(cut).way == "crop"
    kind: Any = loaded(files, "llava").kind
    wanted = PAD.levels.numbers(squared(FIRST, SquareRules(16, "pad", PAD.levels)))
    assert np.array_equal(kind.prepare(FIRST).pixels, wanted)


def test_hyperclova_x_think_is_known_by_the_name_in_its_own_file(tmp_path: Path) -> None:
    """Which transformers does not look up."""
    kind = "hyperclovax_vision_v2"
    files = checkpoint(kind, tmp_path)
    content = json.loads(files["config.json"].read_text(encoding="utf-8"))
    written_over(files, "config.json", {**content, "model_type": "vlm"})
    assert written(loaded(files, kind), about(FIRST)).tokens == written(model(kind), about(FIRST)).tokens


# Phi-4's adapter ---------------------------------------------------------------------------------------------


def test_phi4_sees_by_its_adapter_or_not_at_all(tmp_path: Path) -> None:
    files = checkpoint("phi4_multimodal", tmp_path)
    plain = written(loaded(files, "phi4_multimodal"), about(FIRST)).logits
    assert np.allclose(plain, written(model("phi4_multimodal"), about(FIRST)).logits, atol=1e-4)
    net: Any = toys.toy("phi4_multimodal", FAMILIES["phi4_multimodal"], 0).net
    other = tmp_path / "other"
    changes = adapter(net, other, 0.1)
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        files[f"vision-lora/{name}"] = other / name
    files["speech-lora/adapter_model.safetensors"] = other / "adapter_model.safetensors"  # is left alone
    told = written(loaded(files, "phi4_multimodal"), about(FIRST)).logits
    assert np.abs(told[0] - plain[0]).max() > 0.05

    state = load_file(files["model.safetensors"])  # as if it had been added before
    assert changes.keys() <= state.keys()
    save_file(
        {**state, **{name: state[name] + change for name, change in changes.items()}},
        tmp_path / "whole.safetensors",
        {"format": "pt"},
    )
    whole = {**checkpoint("phi4_multimodal", tmp_path / "again"), "model.safetensors": tmp_path / "whole.safetensors"}
    assert np.allclose(told, written(loaded(whole, "phi4_multimodal"), about(FIRST)).logits, atol=1e-4)

    del files["vision-lora/adapter_model.safetensors"]
    refused(files, "phi4_multimodal", "the adapter that belongs to these weights is missing")


def test_phi4_may_hold_its_adapter_among_its_weights(tmp_path: Path) -> None:
    files = checkpoint("phi4_multimodal", tmp_path)
    net: Any = toys.toy("phi4_multimodal", FAMILIES["phi4_multimodal"], 0).net
    changes = adapter(net, tmp_path / "other", 0.1)
    state = load_file(files["model.safetensors"])
    for key, tensor in load_file(tmp_path / "other" / "adapter_model.safetensors").items():
        layer, _, side = key.removeprefix("base_model.model.").removesuffix(".weight").rpartition(".")
        state[f"{layer}.{side}.vision.weight"] = tensor
    for name in changes:
        state[name.replace(".weight", ".base_layer.weight")] = state.pop(name)
    save_file(state, files["model.safetensors"], {"format": "pt"})
    files = {name: path for name, path in files.items() if not name.startswith("vision-lora/")}
    config = json.loads(files["config.json"].read_text())
    written_over(files, "config.json", config | {"vision_lora": {"r": 2, "lora_alpha": 4, "dp": 0.0}})
    held = written(loaded(files, "phi4_multimodal"), about(FIRST)).logits

    beside = checkpoint("phi4_multimodal", tmp_path / "beside")
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        beside[f"vision-lora/{name}"] = tmp_path / "other" / name
    assert np.allclose(held, written(loaded(beside, "phi4_multimodal"), about(FIRST)).logits, atol=1e-4)
