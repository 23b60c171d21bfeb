"""Phi-4-multimodal with both adapters beside its weights: what it says of pictures, of sounds, of both and of neither,
against transformers' own net, to whose weights the adapter that the authors take for each was added beforehand."""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor
from transformers import Phi4MultimodalFeatureExtractor

import toy_talkers
from anmok import Chat, Classify, Conversation, Model, Sound, Text, Turn
from anmok.errors import BadRequest, BadWeights
from anmok.nets import toys
from anmok.nets.adapters_beside import Adapted, put_beside
from anmok.nets.families import FAMILIES
from battery import picture
from sound_files import tone
from toy_talkers import about, checkpoint, loaded, script

KIND = "phi4_multimodal"
PHOTO, OTHER = picture((70, 120), 3), picture((40, 60), 4)
RATE = 16_000
TOLD = 5  # tokens
SCALES = {"vision": 1.5, "speech": 0.75}  # lora_alpha / r


@functools.cache
def sound(seconds: float = 0.9) -> NDArray[np.float32]:
    return tone(440, seconds) + np.random.default_rng(1).normal(0, 0.01, round(seconds * RATE)).astype(np.float32)


HEARD = Sound((sound(), RATE))
ASKED = {
    "picture": about(PHOTO),
    "two pictures": about(PHOTO, OTHER),
    "sound": about(HEARD),
    "picture, sound": about(PHOTO, HEARD),
    "sound, picture": about(HEARD, PHOTO),
    "between words": Conversation((Turn("user", (HEARD, Text("What is said?"), PHOTO, Text("And here?"))),)),
    "words": about(),
}


def adapter(name: str) -> dict[str, Tensor]:
    """Of rank 3 beside every matrix of the language model."""
    generator = torch.Generator().manual_seed(len(name) + ord(name[0]))
    tensors = {}
    for key, weight in toy_net().named_parameters():
        if key.startswith("model.layers.") and key.endswith("proj.weight"):
            layer = "base_model.model." + key.removesuffix(".weight")
            tensors[f"{layer}.lora_A.weight"] = torch.randn(3, weight.shape[1], generator=generator) * 0.3
            tensors[f"{layer}.lora_B.weight"] = torch.randn(weight.shape[0], 3, generator=generator) * 0.3
    return tensors


def toy_net() -> Any:
    return toys.toy(KIND, FAMILIES[KIND], 0).net


def in_files(folder: Path) -> dict[str, Path]:
    files = checkpoint(KIND, folder)
    for name, scale in SCALES.items():
        save_file(adapter(name), folder / f"{name}-lora" / "adapter_model.safetensors")
        told = {"peft_type": "LORA", "r": 3, "lora_alpha": 3 * scale}
        (folder / f"{name}-lora" / "adapter_config.json").write_text(json.dumps(told), encoding="utf-8")
    return files


@functools.cache
def talker() -> Model:
    with tempfile.TemporaryDirectory() as folder:
        return loaded(in_files(Path(folder)), KIND)


@functools.cache
def theirs(name: str) -> Any:
    """transformers' net, with that adapter added to its weights; without a name as it is."""
    net = toy_net()
    if name:
        tensors, weights = adapter(name), dict(net.named_parameters())
        with torch.no_grad():
            for key in [one for one in tensors if "lora_A" in one]:
                change = tensors[key.replace("lora_A", "lora_B")] @ tensors[key] * SCALES[name]
                weights[key.removeprefix("base_model.model.").replace(".lora_A", "")] += change
    mark = talker().kind._parts.reader.id_of("<|endoftext11|>")  # type: ignore[attr-defined]
    net.model.embed_tokens_extend.audio_token_id = net.config.audio_config.audio_token_id = mark
    for layer in net.model.embed_tokens_extend.image_embed.img_processor.encoder.layers:
        layer.self_attn.is_causal = False
    return net


@functools.cache
def known(said: Conversation) -> tuple[list[int], NDArray[np.float32]]:
    """By transformers, greedily and reading everything again for each token: tokens, and logits (T, V)."""
    kind: Any = talker().kind
    shown = [np.asarray(one) for one in said.pictures]
    told: dict[str, Tensor] = {}
    if shown:
        made = [torch.from_numpy(kind.prepare(one).pixels) for one in shown]
        told |= toy_talkers.inputs(kind, made, [one.shape[:2] for one in shown], is_clip=False)
    if said.sounds:
        heard = [one.source[0] for one in said.sounds]  # type: ignore[index]
        found = Phi4MultimodalFeatureExtractor()(heard, sampling_rate=RATE, return_tensors="pt")
        told |= {key: found[key] for key in ("audio_input_features", "audio_embed_sizes")}
    net = theirs("vision" if shown else "speech" if said.sounds else "")
    ids = torch.tensor([script(talker(), said).ids])
    logits = []
    with torch.inference_mode():
        for _ in range(TOLD):
            logits.append(net(input_ids=ids, **told).logits[0, -1].numpy())
            ids = torch.cat([ids, torch.tensor([[int(logits[-1].argmax())]])], 1)  # (1, S + 1)
    return ids[0, -TOLD:].tolist(), np.stack(logits)


def followed(said: Conversation, tokens: Sequence[int], *, is_kept: bool = False) -> NDArray[np.float32]:
    """Our logits (T, V) along these tokens, from what is remembered on."""
    kind: Any = talker().kind
    run = kind._speaker.begin([script(talker(), said)])
    logits = [run.logits[0]]
    for token in tokens[:-1]:
        run.step([token])
        logits.append(run.logits[0])
    if is_kept:
        kind._speaker.remember(run)
    return np.stack(logits)


def forget() -> Any:
    kind: Any = talker().kind
    kind._speaker._memory.clear()
    return kind


@pytest.mark.parametrize("name", ASKED)
def test_each_is_answered_as_transformers_does(name: str) -> None:
    forget()
    tokens, logits = known(ASKED[name])
    np.testing.assert_allclose(followed(ASKED[name], tokens), logits, rtol=0, atol=2e-4 * np.abs(logits).max())


def test_adapters_and_projections_change_the_answer() -> None:
    """Else the test above would prove little. The sound by itself is what the others' ways would say otherwise."""
    said = script(talker(), ASKED["sound"])
    both = script(talker(), ASKED["sound, picture"])
    assert (said.way, both.way, script(talker(), ASKED["words"]).way) == ("speech", "vision", "")
    [alone], heard = said.seen, both.seen[0]
    assert alone.rows.shape == heard.rows.shape == (11, 32)
    assert float((alone.rows - heard.rows).abs().max()) > 0.1
    kind = forget()
    logits = {}
    for way in ("speech", "vision", ""):
        run = kind._speaker.begin([type(said)(said.ids, said.seen, said.image_ids, way)])
        logits[way] = run.logits[0]
    assert np.abs(logits["speech"] - logits["vision"]).max() > 0.1
    assert np.abs(logits["speech"] - logits[""]).max() > 0.1


def test_a_sound_after_a_picture_goes_on_from_there() -> None:
    """The adapter is the same, so what was read of the picture is not read again."""
    kind = forget()
    first = about(PHOTO)
    before = followed(first, known(first)[0], is_kept=True)
    then = first.then("Yes.", "And this?", HEARD)
    tokens, logits = known(then)
    length = len(script(talker(), first).ids)
    assert kind._speaker._recalled(script(talker(), then))[1] >= length - 2
    forget()
    followed(first, known(first)[0], is_kept=True)
    np.testing.assert_allclose(followed(then, tokens), logits, rtol=0, atol=2e-4 * np.abs(logits).max())
    assert np.abs(before[0] - logits[0]).max() > 0.01


@pytest.mark.parametrize("shown", [(HEARD,), ()], ids=["a sound first", "words first"])
def test_a_picture_after_what_was_read_in_another_way_has_all_read_again(shown: tuple[Sound, ...]) -> None:
    kind = forget()
    first = about(*shown)
    followed(first, known(first)[0], is_kept=True)
    then = first.then("Yes.", "And this?", PHOTO)
    assert kind._speaker._recalled(script(talker(), then)) == (None, 0)
    tokens, logits = known(then)
    np.testing.assert_allclose(followed(then, tokens), logits, rtol=0, atol=2e-4 * np.abs(logits).max())
    assert kind._speaker._recalled(script(talker(), first))[1] > 10  # and the first is still there for who comes back


def test_a_batch_may_hold_all_of_them() -> None:
    said, ask = list(ASKED.values()), Chat(TOLD)
    together = talker().run(said, ask)
    assert [one.text for one in together] == [talker().run([one], ask)[0].text for one in said]
    assert [one.sound_tokens for one in together] == [0, 0, 11, 11, 11, 11, 0]
    scripts = [script(talker(), one) for one in said]
    run = forget()._speaker.begin(scripts)
    for row, one in enumerate(said):
        _, logits = known(one)
        np.testing.assert_allclose(run.logits[row], logits[0], rtol=0, atol=2e-4 * np.abs(logits[0]).max())


def test_labels_are_weighed_against_the_same_adapter() -> None:
    """What the net would say without the picture is asked of the net that sees, without the sound of that which hears,
    not of another."""
    kind = forget()
    read: list[Any] = []
    weighed = kind._likelihood.weighed

    def told(blind: Any, said: Any, answers: Any) -> Any:
        read.extend((blind, said))
        return weighed(blind, said, answers)

    kind._likelihood.weighed = told
    try:
        asked = [about(PHOTO), about(HEARD).then("A", "What?", PHOTO), about(HEARD)]
        states = talker()._looker.states(asked)
        found = kind.classify(states, Classify(labels=("cat", "dog", "a red ball")))
    finally:
        del kind._likelihood.weighed
    assert [one.way for one in read] == ["vision"] * 4 + ["speech"] * 2
    assert [len(one.seen) for one in read] == [0, 1, 1, 2, 0, 1]
    assert torch.equal(read[2].seen[0].rows, read[3].seen[0].rows)  # the sound, as it is beside a picture
    assert [np.sum(one.scores) for one in found] == pytest.approx([1, 1, 1], abs=1e-5)


@pytest.mark.slow
def test_a_sound_of_more_windows_than_the_tower_takes_at_once() -> None:
    """500 tokens; what is longer it hears in parts."""
    said = about(Sound((sound(41.0), RATE)))
    tokens, logits = known(said)
    forget()
    np.testing.assert_allclose(followed(said, tokens), logits, rtol=0, atol=1e-3 * np.abs(logits).max())


def test_both_adapters_are_wanted(tmp_path: Path) -> None:
    for name in SCALES:
        files = in_files(tmp_path / name)
        del files[f"{name}-lora/adapter_model.safetensors"]
        said = f"{KIND}: {name}: the adapter that belongs to these weights is missing"
        with pytest.raises(BadWeights, match=said):
            loaded(files, KIND)


def test_adapters_that_do_not_fit_are_refused() -> None:
    net = toy_net()
    tensors = adapter("vision")
    wrong = {key: one[:, :4] if "lora_A" in key else one for key, one in tensors.items()}
    for given, config, why in (
        (wrong, {"r": 3, "lora_alpha": 3}, "does not fit weights"),
        (tensors, {"r": 3, "lora_alpha": 3, "use_dora": True}, "another sort of adapter"),
        ({"model.layers.9.mlp.lora_A.weight": torch.zeros(3, 4)}, {"r": 3, "lora_alpha": 3}, "half of what it does"),
    ):
        with pytest.raises(BadWeights, match=why):
            put_beside(net, {"vision": (given, config)}, "card")
    assert not any(isinstance(one, Adapted) for one in net.modules())


def test_adapters_count_as_memory() -> None:
    plain = sum(one.numel() for one in toy_net().parameters())
    low = sum(one.numel() for name in SCALES for one in adapter(name).values())
    assert talker().kind.nbytes >= 4 * (plain + low)  # type: ignore[attr-defined]


def test_more_than_one_sound_is_refused() -> None:
    with pytest.raises(BadRequest, match="2 sounds for .*which hears 1 in a conversation"):
        talker().run([about(HEARD, HEARD)], Chat(1))
