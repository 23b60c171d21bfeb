"""Phi-4-multimodal's ear against transformers: the log-mel bands of its feature extractor, and the tokens that its own
``generate`` writes about them, on shared random weights."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from transformers import Phi4MultimodalFeatureExtractor

from anmok import Chat, Conversation, Model, Sound
from anmok.errors import BadWeights
from anmok.load import tiny
from anmok.nets.checkpoints import Checkpoint, tensors
from anmok.nets.families import FAMILIES
from anmok.nets.hearing_phi4 import Phi4Ears, log_mel, tokens
from sound_files import tone

NAME = "phi4-multimodal-speech"
SHORT = Chat(max_tokens=6)


@functools.cache
def noisy(seconds: float) -> NDArray[np.float32]:
    return tone(440, seconds) + np.random.default_rng(1).normal(0, 0.01, round(seconds * 16_000)).astype(np.float32)


def theirs(sound: NDArray[np.float32]) -> Any:
    return Phi4MultimodalFeatureExtractor()(sound, sampling_rate=16_000, return_tensors="pt")


@functools.cache
def model() -> Model:
    return tiny(NAME)


@pytest.mark.parametrize("seconds", [0.025, 0.4, 2.0])
def test_bands_are_the_feature_extractors(seconds: float) -> None:
    """Logarithms in float32, where the order of sums shows in the sixth digit."""
    known, found = theirs(noisy(seconds)), log_mel(noisy(seconds))
    np.testing.assert_allclose(found, known["audio_input_features"][0].numpy(), atol=2e-4)
    assert (found.dtype, len(found)) == (np.float32, 1 + (round(seconds * 16_000) - 400) // 160)
    assert tokens(len(found)) == int(known["audio_embed_sizes"][0])


def test_a_tone_lies_in_its_band() -> None:
    """440 Hz is 549.6 mel; 80 bands as far as 7690 Hz, 2801.5 mel, begin every 34.6 mel, so it is at the 15th."""
    assert np.bincount(log_mel(tone(440)).argmax(1)).argmax() in (14, 15)
    assert log_mel(np.zeros(400, np.float32)).max() == 0


@pytest.mark.parametrize("seconds", [0.3, 2.0])
def test_answers_are_the_nets_own(seconds: float) -> None:
    talker = model()
    kind: Any = talker.kind
    sound = noisy(seconds)
    [state] = talker._looker.states([Conversation.about(Sound((sound, 16_000)), question="What?")])
    script = kind._script(state)
    known = theirs(sound)
    count = int(known["audio_embed_sizes"][0])
    assert int(script.is_picture.sum()) == count == len(script.rows)
    net = kind._net
    mark = kind._parts.reader.id_of("<|endoftext11|>")
    net.model.embed_tokens_extend.audio_token_id = net.config.audio_config.audio_token_id = mark
    ids = torch.tensor([script.ids])
    with torch.inference_mode():
        wanted: list[int] = []
        while len(wanted) < SHORT.max_tokens and not set(wanted) & kind._parts.ends:
            whole = torch.cat([ids, torch.tensor([wanted], dtype=torch.long)], 1)
            logits = net(
                input_ids=whole,
                audio_input_features=known["audio_input_features"],
                audio_embed_sizes=known["audio_embed_sizes"],
            ).logits[0, -1]
            if not wanted:
                first = logits
            wanted.append(int(logits.argmax()))
    run = kind._speaker.begin([script])
    np.testing.assert_allclose(run.logits[0], first.numpy(), atol=2e-4)
    told = [int(np.argmax(run.logits[0]))]
    while len(told) < len(wanted):
        run.step(told[-1:])
        told.append(int(np.argmax(run.logits[0])))
    assert told == wanted


def test_answers_do_not_depend_on_batch_mates() -> None:
    said = [Conversation.about(Sound((noisy(one), 16_000)), question="?") for one in (0.3, 1.1)]
    said.append(Conversation.about(question="Hello"))
    together = model().run(said, SHORT)
    assert [one.text for one in together] == [model().run([one], SHORT)[0].text for one in said]
    assert [one.sound_tokens for one in together] == [4, 14, 0]


def test_the_adapter_by_which_it_hears_is_folded_in(tmp_path: Any) -> None:
    """And not the one by which it sees, though the checkpoint has both."""
    net: Any = model().kind._net  # type: ignore[attr-defined]
    state = {key: one.clone() for key, one in net.state_dict().items() if key != "lm_head.weight"}
    layer = "model.layers.0.self_attn.o_proj"
    down, up = torch.randn(2, 32), torch.randn(32, 2)
    wanted = state[f"{layer}.weight"] + up @ down * 2
    state[f"{layer}.base_layer.weight"] = state.pop(f"{layer}.weight")
    state |= {f"{layer}.lora_A.speech.weight": down, f"{layer}.lora_B.speech.weight": up}
    state |= {f"{layer}.lora_A.vision.weight": torch.ones(2, 32), f"{layer}.lora_B.vision.weight": torch.ones(32, 2)}
    save_file({**state, "lm_head.weight": net.state_dict()["lm_head.weight"].clone()}, tmp_path / "a.safetensors")
    content = {
        **net.config.to_dict(),
        "speech_lora": {"r": 2, "lora_alpha": 4},
        "vision_lora": {"r": 2, "lora_alpha": 4},
    }
    read = tensors([tmp_path / "a.safetensors"], "card")
    found = Checkpoint(content, {}, read, "card", "phi4_multimodal_speech")
    assert found.family is FAMILIES["phi4_multimodal_speech"]
    made, _ = found.filled(None, {}, torch.float32)
    torch.testing.assert_close(made.state_dict()[f"{layer}.weight"], wanted)
    with pytest.raises(BadWeights, match="the adapter that belongs to these weights is missing"):
        Checkpoint(
            content, {}, {key: one for key, one in read.items() if "lora" not in key}, "card", found.kind
        ).filled(None, {}, torch.float32)


def test_short_sounds_are_made_a_window_long() -> None:
    ears = Phi4Ears(model().kind._net)  # type: ignore[attr-defined]
    assert ears.prepare(np.full(10, 0.5, np.float32)).shape == (1, 80)
    assert (ears.rate, ears.seconds, ears.slot(2)) == (16_000, 300, "<|endoftext11|>" * 2)
