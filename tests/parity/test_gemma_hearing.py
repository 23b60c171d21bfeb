"""The ears of Gemma 3n and Gemma 4 against transformers: the mel bands of their feature extractors, and the logits of
their whole nets, which are given sounds as those extractors make them, on shared random weights."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import Gemma3nAudioFeatureExtractor, Gemma4AudioFeatureExtractor, Gemma4Processor

from anmok import Chat, Conversation, Model, Sound, Text, Turn, clips
from anmok.models.talking import Talks
from anmok.nets import toys
from anmok.nets.families import family_of
from anmok.nets.hearing_gemma import GEMMA3N_MEL, GEMMA4_MEL, MelRules, log_mel, tokens
from published_gemma3n import their_net
from sound_files import tone, wav
from toy_talkers import FIRST, about, gemma4, loaded, model, model_of, script, setup

Samples = NDArray[np.float32]

EXTRACTORS: dict[str, tuple[Any, MelRules]] = {
    "gemma3n": (Gemma3nAudioFeatureExtractor, GEMMA3N_MEL),
    "gemma4": (Gemma4AudioFeatureExtractor, GEMMA4_MEL),
}
KINDS = ["gemma3n", "gemma4_hears"]
MOST = 3
LONGEST = 480_000


@functools.cache
def noisy(values: int) -> Samples:
    noise = np.random.default_rng(values).normal(0, 0.01, values)
    found: Samples = (tone(440, values / 16_000)[:values] + noise).astype(np.float32)
    return found


def theirs(family: str, sounds: Sequence[Samples]) -> tuple[Tensor, Tensor]:
    """Bands (B, T, 128) and which of them are there, bool (B, T)."""
    told = EXTRACTORS[family][0]()(list(sounds), return_tensors="pt")
    return told["input_features"], told["input_features_mask"]


# Bands -------------------------------------------------------------------------------------------------------

LENGTHS = [1, 100, 160, 161, 320, 321, 512, 513, 640, 641, 1000, 16_000, 48_123, LONGEST - 1, LONGEST]


@pytest.mark.parametrize("is_silent", [False, True], ids=["noisy", "silent"])
@pytest.mark.parametrize("family", EXTRACTORS)
def test_bands_are_the_feature_extractors(family: str, is_silent: bool) -> None:
    """Of every length (here to the last bit); none of a sound that is shorter than a window."""
    rules = EXTRACTORS[family][1]
    for length in LENGTHS:
        sound = np.zeros(length, np.float32) if is_silent else noisy(length)
        bands, is_there = theirs(family, [sound])
        found = log_mel(sound, rules)
        count = int(is_there.sum())
        assert found.shape == (count, 128) == (rules.windows(length), 128)
        assert found.dtype == np.float32
        assert bool(is_there[0, :count].all())
        np.testing.assert_allclose(found, bands[0, :count].numpy(), rtol=0, atol=1e-6)
    assert (rules.windows(LONGEST), tokens(family, rules.windows(LONGEST))) == {
        "gemma3n": (2997, 188),
        "gemma4": (2999, 750),
    }[family]


@pytest.mark.parametrize("family", EXTRACTORS)
def test_what_is_longer_they_cut_off(family: str) -> None:
    """After half a minute, unsaid; here it is refused (``test_hearing_gemma``)."""
    bands, is_there = theirs(family, [noisy(LONGEST + 16_000)])
    found = log_mel(noisy(LONGEST + 16_000)[:LONGEST], EXTRACTORS[family][1])
    assert int(is_there.sum()) == len(found)
    np.testing.assert_allclose(found, bands[0].numpy(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("rate", [8000, 22_050, 44_100, 48_000])
def test_sounds_of_other_rates(rate: int) -> None:
    """440 Hz is at the same band, whatever the rate of the file: 549.6 mel, of 2840 in 129 parts, the 24th."""
    pytest.importorskip("av")
    samples = clips.heard(wav(tone(440, 1.5, rate), rate), clips.Wanted(16_000, 30))
    for family, (_, rules) in EXTRACTORS.items():
        found = log_mel(samples, rules)
        bands, is_there = theirs(family, [samples])
        np.testing.assert_allclose(found, bands[0][is_there[0]].numpy(), rtol=0, atol=1e-6)
        loudest = int(np.bincount(found.argmax(1)).argmax())
        assert loudest in {"gemma3n": (17, 18, 19), "gemma4": (23, 24, 25)}[family]


def test_gemma4_counts_tokens_as_its_processor_does() -> None:
    counter: Any = Gemma4Processor._compute_audio_num_tokens
    like: Any = type("Like", (), {"feature_extractor": Gemma4AudioFeatureExtractor(), "audio_seq_length": 750})()
    for length in (*range(150, 2000, 37), *LENGTHS):
        assert tokens("gemma4", GEMMA4_MEL.windows(length)) == counter(like, np.zeros(length), 16_000)


# Answers -----------------------------------------------------------------------------------------------------


def played(values: int) -> Sound:
    return Sound((noisy(values), 16_000))


A, B, SHORT = played(16_000), played(9_321), played(77)
SAID: dict[str, Conversation] = {
    "sound": about(A),
    "short": about(SHORT),
    "picture, sound": about(FIRST, B),
    "sound, picture": about(A, FIRST),
    "two sounds": Conversation((Turn("user", (A, Text("and then"), played(15_999), Text("Which?"))),)),
    "later": about(FIRST).then("A cat.", "And this?", B).then("So.", "Sure?"),
}


def given(talker: Model, said: Conversation) -> tuple[Tensor, dict[str, Any]]:
    """Ids (1, S), pixels, and the sounds as the published extractor makes them, several of one batch."""
    kind: Any = talker.kind
    family = kind._ears._family
    ids = torch.tensor([script(talker, said).ids])  # (1, S)
    told: dict[str, Any] = {}
    made = [torch.from_numpy(kind.prepare(np.asarray(one)).pixels) for one in said.pictures]
    if made:
        told = {"pixel_values": torch.stack(made)} if family == "gemma3n" else gemma4(made, kind._eyes._rules.patch)
    samples = [np.asarray(one.source[0], np.float32) for one in said.sounds]  # type: ignore[index]
    least = EXTRACTORS[family][1].shortest  # of what is shorter they make nothing
    bands, is_there = theirs(family, [np.pad(one, (0, max(0, least - len(one)))) for one in samples])
    return ids, {**told, "input_features": bands, "input_features_mask": is_there}


def answered(net: Any, talker: Model, said: Conversation, most: int = MOST) -> tuple[list[int], NDArray[np.float32]]:
    """By transformers' net, which reads everything again for each token: the tokens, and logits (most, V)."""
    ids, told = given(talker, said)
    logits: list[NDArray[np.float32]] = []
    with torch.inference_mode():
        for _ in range(most):
            logits.append(net(ids, **told).logits[0, -1].float().numpy())
            ids = torch.cat([ids, torch.tensor([[int(logits[-1].argmax())]])], 1)  # (1, S + 1)
    return ids[0, -most:].tolist(), np.stack(logits)


def written(talker: Model, said: Conversation, most: int = MOST) -> tuple[list[int], NDArray[np.float32]]:
    """By us, on through what ends an answer."""
    kind: Any = talker.kind
    run = kind._speaker.begin([script(talker, said)])
    found, logits = [], []
    for _ in range(most):
        logits.append(run.logits[0])
        found.append(int(run.logits[0].argmax()))
        run.step(found[-1:])
    return found, np.stack(logits)


@pytest.fixture
def their(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """transformers' whole net of the toy's tensors; for Gemma 4 it is what ours is made of."""
    kind: Any = model(request.param).kind
    return their_net(kind._net, kind._sound, monkeypatch) if request.param == "gemma3n" else kind._net


@pytest.mark.parametrize("name", SAID)
@pytest.mark.parametrize(("kind", "their"), [(one, one) for one in KINDS], indirect=["their"], ids=KINDS)
def test_answers_are_the_nets_own(kind: str, their: Any, name: str) -> None:
    tokens_, logits = answered(their, model(kind), SAID[name])
    ours, our_logits = written(model(kind), SAID[name])
    assert logits.std() > 0.01
    assert np.abs(our_logits - logits).max() <= 1e-4 * np.abs(logits).max()
    assert ours == tokens_
    other = answered(their, model(kind), about(played(8_000)), 1)[1] if name == "sound" else None
    if other is not None:  # what is heard matters
        assert np.abs(other[0] - logits[0]).max() > 1e-3 * np.abs(logits[0]).max()


def test_several_sounds_of_gemma4_are_heard_as_a_padded_batch_of_theirs() -> None:
    said = Conversation((Turn("user", (A, Text("and"), B, Text("and"), SHORT, Text("Which?"))),))
    _, logits = answered(model("gemma4_hears").kind._net, model("gemma4_hears"), said, 1)  # type: ignore[attr-defined]
    ours = written(model("gemma4_hears"), said, 1)[1]
    assert np.abs(ours - logits).max() <= 1e-4 * np.abs(logits).max()


@pytest.mark.parametrize(("kind", "their"), [("gemma3n", "gemma3n")], indirect=["their"])
def test_rows_of_gemma3n_end_as_theirs_do(kind: str, their: Any) -> None:
    """What is shorter than the longest is filled up with the last word that stands for sounds."""
    [state] = model(kind)._looker.states([about(A)])
    rows = torch.from_numpy(np.array(state.sounds[0].source.maps["rows"]))  # type: ignore[union-attr]
    bands, is_there = theirs("gemma3n", [noisy(16_000)])
    with torch.inference_mode():
        wanted = their.model.get_audio_features(bands, ~is_there).pooler_output[0]
        blank = their.model.embed_audio(input_ids=torch.tensor([[their.config.text_config.vocab_size - 1]]))[0, 0]
    assert (len(rows), len(wanted)) == (12, 7)
    torch.testing.assert_close(rows[:7], wanted, rtol=0, atol=1e-5)
    torch.testing.assert_close(rows[7:], blank.expand(5, -1), rtol=0, atol=1e-5)


# Batches, half precision, files ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_answers_do_not_depend_on_batch_mates(kind: str) -> None:
    """Nor do the logits, of conversations of several lengths with blanks at the left of the shorter ones."""
    talker, said = model(kind), [*SAID.values(), about(), about(FIRST)]
    together = talker.run(said, Chat(MOST))
    alone = [talker.run([one], Chat(MOST))[0] for one in said]
    assert [one.text for one in together] == [one.text for one in alone]
    assert [one.sound_tokens for one in together] == [one.sound_tokens for one in alone]
    a_sound: Any = talker.kind
    scripts = [script(talker, one) for one in said]
    logits = a_sound._speaker.begin(scripts).logits
    singly = np.concatenate([a_sound._speaker.begin([one]).logits for one in scripts])
    assert len({len(one.ids) for one in scripts}) > 4
    assert np.abs(logits - singly).max() <= 1e-5 * np.abs(singly).max()
    assert np.abs(logits[0] - logits[2]).max() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_is_near(kind: str) -> None:
    talker = model_of(Talks.tiny(setup(kind, dtype="bfloat16"), 0), kind, "bfloat16")
    a_net: Any = talker.kind
    assert {str(one.dtype) for one in a_net._net.parameters()} == {"torch.bfloat16"}
    half, whole = written(talker, SAID["sound"], 1)[1], written(model(kind), SAID["sound"], 1)[1]
    assert 0 < np.abs(half - whole).max() <= 0.05 * np.abs(whole).max()


def test_a_checkpoint_of_gemma4_with_an_ear_is_known_by_its_configuration(tmp_path: Path) -> None:
    """Where ``processor_config.json`` says how sounds are prepared."""
    kind = "gemma4_hears"
    toy = toys.toy(kind, family_of(kind, kind), 0)
    net: Any = toy.net
    net.save_pretrained(tmp_path)
    texts = {
        "tokenizer.json": toy.tokenizer,
        "chat_template.jinja": toy.template,
        "tokenizer_config.json": json.dumps({"eos_token": "<|im_end|>"}),
        "processor_config.json": json.dumps(
            {
                "image_processor": dict(toy.facts),
                "feature_extractor": json.loads(Gemma4AudioFeatureExtractor().to_json_string()),
            }
        ),
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    files = {path.name: path for path in tmp_path.iterdir()}
    wanted, logits = written(model(kind), SAID["picture, sound"])
    found = loaded(files, "gemma4")
    assert getattr(found.kind, "most_sounds", 0) == 4
    tokens_, our_logits = written(found, SAID["picture, sound"])
    assert tokens_ == wanted
    np.testing.assert_allclose(our_logits, logits, atol=1e-5)
