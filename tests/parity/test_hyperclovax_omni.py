"""HyperCLOVA X SEED Omni against the makers' code and against transformers, on shared random weights.

The codes are what OmniServe's ``cosyvoice.py`` and ``ta_tok.py`` (as of December 2025, with transformers' SigLIP) make
of drawn weights; rows of pictures and sounds are compared with what transformers' processors and towers make in the
order of OmniServe.
"""

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
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import WhisperFeatureExtractor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from anmok import Conversation, Model, Sound, Text, Turn
from anmok.catalogue import card
from anmok.errors import BadWeights
from anmok.geometry import Pixels
from anmok.models.talking import Talks
from anmok.nets import hyperclovax_omni, toys
from anmok.nets.families import family_of
from anmok.nets.hyperclovax_omni import AUDIO_TOKEN, IMAGE_TOKEN, OMNI, Ears, Eyes
from anmok.nets.picture_codes import PictureCodes
from anmok.nets.pretrained import fill
from anmok.nets.speech_codes import Sizes, SpeechCodes, log_mel, pieces
from anmok.tasks import Setup, TextRules
from battery import picture
from golden.record_repvit import drawn
from published_talkers import PUBLISHED
from toy_talkers import SHORT, about, script, written

KIND = "hyperclovax_omni"
FIRST, SECOND = picture((37, 61), 1), picture((52, 90), 2)
Samples = NDArray[np.float32]


def listed(numbers: str) -> list[int]:
    return [*map(int, numbers.split())]


HEARD = {
    16_000: listed("165 162 162 162 165 162 165 165 165 162 82 81 2349 162 162 162 162 189 162 189 189 81 162 108 27"),
    24_321: listed(
        "165 162 162 162 165 162 166 165 166 162 81 81 2349 162 162 2349 162 162 2349 81 162 2349 162 "
        "2268 2268 2268 81 0 0 81 81 162 0 81 810 108 27 729"
    ),
}
STATES = {
    16_000: [0.12142, -0.85435, -0.37299, 0.19677, 0.1341, 0.12557, -0.89117, 0.64023],
    24_321: [0.11817, -0.54798, -0.33152, 0.30989, 1.08118, 0.18558, 0.08418, 0.66672],
}
SEEN = {
    True: [
        listed("29 30 2 5 16 16 29 62 12 52 21 51 52 7 62 18 5 34 10 2 46 21 18 18 50 16 52 21 52 50 31 29 62 7 5 2"),
        listed("6 21 2 50 50 23 16 52 57 2 21 9 39 2 16 43 43 21 39 29 21 57 16 5 39 16 16 57 7 5 63 23 63 21 50 21"),
    ],
    False: [
        listed("7 30 2 5 16 57 2 62 12 52 21 51 52 7 62 18 5 3 10 3 46 52 18 18 52 16 52 21 52 50 29 7 62 7 5 2"),
        listed("6 21 2 50 50 23 57 52 21 2 21 10 39 2 16 43 50 21 39 29 21 57 16 52 48 16 16 62 7 5 2 23 30 21 50 21"),
    ],
}


def sound(length: int) -> Samples:
    """A rising tone with noise, (N,)."""
    noise = np.random.default_rng(7).normal(0, 0.05, length)
    times = np.arange(length) / 16_000
    return (0.4 * np.sin(2 * np.pi * (200 + 300 * times) * times) + noise).astype(np.float32)


def drawn_net(net: nn.Module) -> nn.Module:
    shapes = {name: tuple(one.shape) for name, one in net.state_dict().items()}
    return fill(net, {name: torch.from_numpy(one) for name, one in drawn(shapes).items()}, torch.float32, "drawn")


@functools.cache
def speech() -> Any:
    net: Any = drawn_net(SpeechCodes(Sizes(width=128, depth=2, heads=2)))
    net.quantizer["_codebook"]["project_down"].weight.data *= 6
    return net


# Codes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", HEARD)
def test_codes_of_sounds_are_cosyvoices(length: int) -> None:
    with torch.inference_mode():
        states = speech().encoder(log_mel(torch.from_numpy(sound(length)))[None]).numpy().ravel()
        codes = speech()(torch.from_numpy(sound(length)))
    np.testing.assert_allclose(states[np.linspace(0, states.size - 1, 8).astype(int)], STATES[length], atol=3e-5)
    assert codes.tolist() == HEARD[length]


@pytest.mark.parametrize("is_round", SEEN)
def test_codes_of_pictures_are_ta_toks(is_round: bool) -> None:
    tower = {"model_type": "siglip_vision_model", "hidden_size": 48, "intermediate_size": 64, "num_attention_heads": 4}
    tower |= {"num_hidden_layers": 3, "image_size": 24, "patch_size": 4}
    net = drawn_net(PictureCodes.made({"tower": tower, "codes": 64, "width": 12, "l2_normalized": is_round}))
    pixels = np.random.default_rng(3).uniform(0, 1, (2, 3, 24, 24)).astype(np.float32)
    with torch.inference_mode():
        codes = net(torch.from_numpy(2 * pixels - 1))
    assert codes.tolist() == SEEN[is_round]


def test_long_sounds_are_cut_after_80_seconds() -> None:
    """An end of less than a tenth of a second goes with the piece before."""
    lengths = {80: [80.0], 80.05: [80.05], 80.1: [80.0, 0.1], 200: [80.0, 80.0, 40.0]}
    for seconds, wanted in lengths.items():
        assert [len(one) / 16_000 for one in pieces(torch.zeros(round(seconds * 16_000)))] == wanted


@pytest.mark.parametrize("length", [1600, 16_000, 23_457])
def test_bands_are_whispers(length: int) -> None:
    whisper = WhisperFeatureExtractor(feature_size=128, chunk_length=2)
    known = whisper(sound(length), sampling_rate=16_000, return_tensors="pt").input_features[0]
    found = log_mel(torch.from_numpy(np.pad(sound(length), (0, 32_000 - length))))
    torch.testing.assert_close(found, known, rtol=0, atol=1e-4)  # logarithms in float32


# Rows --------------------------------------------------------------------------------------------------------


def setup(files: dict[str, Path] | None = None) -> Setup:
    pixels = Pixels(16, "squash", "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    return Setup(KIND, KIND, pixels, TextRules(), "softmax", ("en",), files=files or {})


@functools.cache
def model() -> Model:
    return Model(card("fake-talk"), Talks.tiny(setup(), 0), setup())


def net_of(talker: Model) -> Any:
    return talker.kind._net  # type: ignore[attr-defined]


def as_omniserve_hears(net: Any, samples: Samples) -> Tensor:
    """Rows (M, W), in the order of ``_process_audio``; half a minute is a second at toy size."""
    tower, whisper = net.ear.audio_model, WhisperFeatureExtractor(feature_size=128, chunk_length=1)
    chunks = [samples[at : at + 16_000] for at in range(0, len(samples), 16_000)]
    told = whisper(chunks, sampling_rate=16_000, return_attention_mask=True, padding="max_length", return_tensors="pt")
    before, after = tower._get_feat_extract_output_lengths(told.attention_mask.sum(-1))
    mask = torch.zeros(len(chunks), 1, 50, 50)
    for number, count in enumerate(before.tolist()):
        mask[number, :, :, count:] = float("-inf")
    heard = tower(told.input_features, attention_mask=mask).last_hidden_state
    kept = torch.cat([one[:count] for one, count in zip(heard, after.tolist(), strict=True)])
    projector = net.ear.audio_projector
    rows: Tensor = projector.fc2(nn.functional.gelu(projector.fc1(kept)))
    return rows


@pytest.mark.parametrize("length", [1600, 1761, 8000, 16_000, 16_161, 16_480, 16_481, 40_123])
def test_rows_of_sounds_are_those_of_omniserve(length: int) -> None:
    net = net_of(model())
    ears = Ears(net)
    with torch.inference_mode():
        found = ears.encode(torch.from_numpy(ears.prepare(sound(length)))[None])[0]
        wanted = as_omniserve_hears(net, sound(length))
        codes = net.ear.discrete_audio_model(torch.from_numpy(sound(length)))
        words = net.get_input_embeddings()(codes + 32)
    assert len(found) == len(words) + len(wanted)
    torch.testing.assert_close(found, torch.cat([words, wanted]), rtol=1e-4, atol=2e-5)
    slot = ears.slot(len(found))
    said = slot.partition("<|discrete_audio_end|>")
    assert [one.count(AUDIO_TOKEN) for one in said] == [len(words), 0, len(wanted)]
    assert f'"{len(words) / 25:.2f}s"' in slot


def test_there_are_as_many_codes_as_rows_or_one_more() -> None:
    """Which is how they are told apart; of all lengths within four windows, and where a piece ends."""
    net = net_of(model())
    with torch.inference_mode():
        for length in [*range(1600, 2240, 7), *range(15_900, 16_700, 13)]:
            samples = torch.from_numpy(sound(length))
            codes, rows = net.ear.discrete_audio_model(samples), net.ear.rows(samples)
            assert len(codes) - len(rows) in (0, 1)
            assert len(codes) == -(-(length // 160) // 4)


@pytest.mark.parametrize("image", [FIRST, SECOND, picture((200, 90), 3)], ids=["small", "wide", "large"])
def test_rows_of_pictures_are_those_of_omniserve(image: NDArray[np.uint8]) -> None:
    net = net_of(model())
    facts = hyperclovax_omni._toy(300, 1)[1]
    eyes = Eyes(net, facts)
    told = Qwen2VLImageProcessorPil(size={"shortest_edge": facts["min_pixels"], "longest_edge": facts["max_pixels"]})(
        image, return_tensors="pt"
    )
    with torch.inference_mode():
        found = eyes.encode(torch.from_numpy(eyes.prepare(image))[None])[0]
        seen = net.sight.vision_model(told.pixel_values, told.image_grid_thw).pooler_output
        rows = net.sight.mm_projector(seen)
        lines = -(-256 // eyes.prepare(image).shape[2])
        square = eyes.prepare(image)[:, -lines:]
        pixels = torch.from_numpy(square.reshape(3, -1)[:, :256].reshape(1, 3, 16, 16))
        words = net.get_input_embeddings()(net.sight.discrete_vision_model(pixels)[0] + 64)
    torch.testing.assert_close(found[:16], words, rtol=0, atol=0)
    torch.testing.assert_close(found[16:], rows, rtol=1e-4, atol=2e-5)
    assert eyes.slot((image.shape[0], image.shape[1])).count(IMAGE_TOKEN) == len(found)


def test_the_squashed_picture_is_pillows() -> None:
    told = {"min_pixels": 784, "max_pixels": 784}, {"size": {"shortest_edge": 784, "longest_edge": 784}}
    prepared, again = (Eyes(net_of(model()), one).prepare(SECOND) for one in told)  # (3, 28 + 10, 28)
    assert prepared.shape == (3, 28 + 10, 28)
    np.testing.assert_array_equal(again, prepared)  # whichever words the file has
    known = np.asarray(Image.fromarray(SECOND).resize((16, 16), Image.Resampling.BICUBIC), np.float32) / 255
    found = prepared[:, 28:].reshape(3, -1)[:, :256].reshape(3, 16, 16)
    np.testing.assert_allclose(found, 2 * known.transpose(2, 0, 1) - 1, atol=1e-6)


# Whole -------------------------------------------------------------------------------------------------------


def heard(length: int) -> Sound:
    return Sound((sound(length), 16_000))


SAID = {
    "picture": about(FIRST),
    "sound": about(heard(20_000)),
    "both": about(FIRST, heard(3000), SECOND),
    "words": about(),
    "later": about(FIRST).then("A cat.", "And now? 그리고?"),
}


@pytest.mark.parametrize("said", SAID)
def test_answers_are_the_readers(said: str) -> None:
    """Greedy, token by token: transformers' Llama is given all rows at once and no cache."""
    talker, net = model(), net_of(model())
    read = script(talker, SAID[said])
    ids = torch.tensor(read.ids)
    rows = net.get_input_embeddings()(ids).detach().clone()
    if read.rows is not None:
        rows[read.is_picture] = read.rows
    wanted: list[int] = []
    with torch.inference_mode():
        while len(wanted) < SHORT.max_tokens and not set(wanted) & talker.kind._parts.ends:  # type: ignore[attr-defined]
            wanted.append(int(net.reader(inputs_embeds=rows[None]).logits[0, -1].argmax()))
            rows = torch.cat([rows, net.get_input_embeddings()(torch.tensor(wanted[-1:]))])
    assert written(talker, SAID[said]).tokens == wanted
    assert len(wanted) > 1


def test_tokens_are_counted() -> None:
    """FIRST is 28 x 56 to the tower: 16 codes and two rows. 20,000 values are 125 windows: 32 codes and 31 rows."""
    replies = model().run([SAID["picture"], SAID["sound"], SAID["words"]], SHORT)
    assert [(one.image_tokens, one.sound_tokens) for one in replies] == [(18, 0), (0, 63), (0, 0)]


def test_answers_do_not_depend_on_batch_mates() -> None:
    said = [*SAID.values(), about(SECOND)]
    together = [one.text for one in model().run(said, SHORT)]
    assert together == [model().run([one], SHORT)[0].text for one in said]


def test_answers_depend_on_what_is_shown_and_heard() -> None:
    kind: Any = model().kind

    def logits(*shown: Any) -> Any:
        return kind._speaker.begin([script(model(), about(*shown))]).logits

    for one, other in ((FIRST, picture((37, 61), 9)), (heard(16_000), Sound((-sound(16_000)[::-1], 16_000)))):
        assert float(np.abs(logits(one) - logits(other)).max()) > 1e-3


# Checkpoints -------------------------------------------------------------------------------------------------


def files_of(folder: Path, more: dict[str, Tensor] | None = None, without: Sequence[str] = ()) -> dict[str, Path]:
    """The toy under the names of the hub, with what is left out."""
    toy = toys.toy(KIND, OMNI, 0)
    net: Any = toy.net
    content, facts = hyperclovax_omni._toy(net.config.vocab_size, min(toy.ends))
    state = {f"model.language_model.{key}": one for key, one in net.reader.state_dict().items()}
    state |= {f"model.{key}": one for part in (net.sight, net.ear) for key, one in part.state_dict().items()}
    left = ["decoder.post_layernorm.weight", "decode_task_layer.0.bias", "bottleneck.out_linear.weight"]
    left += ["scale_layer.shift", "encoder.encoder.layers.2.mlp.fc1.bias", "encoder.head.probe"]
    state |= {f"model.discrete_vision_model.{key}": torch.ones(1) for key in left}
    state |= {"model.video_audio_compressor.query": torch.ones(2), **(more or {})}
    state = {key: one.clone() for key, one in state.items() if key not in without}
    save_file(state, folder / "model.safetensors")
    told = {
        "config.json": {**content, "model_type": "vlm"},
        "preprocessor_config.json": facts,
        "tokenizer.json": json.loads(toy.tokenizer),
        "tokenizer_config.json": {"eos_token": "<|im_end|>", "chat_template": "{{ 'not this one' }}"},
    }
    for name, one in told.items():
        (folder / name).write_text(json.dumps(one), encoding="utf-8")
    return {path.name: path for path in folder.iterdir()}


def loaded(files: dict[str, Path]) -> Model:
    return Model(card("fake-talk"), Talks.from_files(setup(files)), setup())


def test_checkpoints_are_read_from_files(tmp_path: Path) -> None:
    """Under the ``model_type`` that Think 32B has as well; the context is the makers', whatever the file says."""
    talker = loaded(files_of(tmp_path))
    mine, wanted = net_of(talker).state_dict(), net_of(model()).state_dict()
    assert mine.keys() == wanted.keys()
    assert all(torch.equal(one, wanted[key]) for key, one in mine.items() if "post_layernorm" not in key)
    assert net_of(talker).config.max_position_embeddings == 32_768
    for said in ("picture", "sound"):
        rows, known = (script(one, SAID[said]).rows for one in (talker, model()))
        torch.testing.assert_close(rows, known, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("more", "without", "said"),
    [
        ({"model.drawer.weight": torch.ones(1)}, (), r"1 left over \(model.drawer.weight\)"),
        ({f"a.{i}": torch.ones(1) for i in range(5)}, (), r"5 left over \(a.0, a.1, a.2\)"),
        ({}, ("model.mm_projector.bias",), r"1 missing \(mm_projector.bias\)"),
        ({}, ("model.audio_projector.fc1.bias",), r"1 missing \(audio_projector.fc1.bias\)"),
        ({}, ("model.discrete_audio_model.encoder.conv1.bias",), "1 missing"),
        ({"model.audio_model.conv3.bias": torch.ones(1)}, (), r"1 left over \(conv3.bias\)"),
    ],
)
def test_checkpoints_that_do_not_fit_are_refused(
    more: dict[str, Tensor], without: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    with pytest.raises(BadWeights, match=f"{KIND}: .*{said}"):
        loaded(files_of(tmp_path, more, without))


def test_a_configuration_without_a_part_is_refused(tmp_path: Path) -> None:
    files = files_of(tmp_path)
    told = json.loads(files["config.json"].read_text())
    del told["vision_config"]
    files["config.json"].write_text(json.dumps(told))
    with pytest.raises(BadWeights, match=f"{KIND}: config.json lacks 'vision_config'"):
        loaded(files)


def test_there_are_as_many_tensors_as_published() -> None:
    """What others counted in the published files. Of TA-Tok's 527 are left out: the tower's last layer and head (27),
    the half that makes features of codes (64 of its tower, 6 of its layers) and two constants."""
    with torch.device("meta"):
        net: Any = family_of(KIND, KIND).own.made(PUBLISHED["hyperclovax-omni-8b"])  # type: ignore[union-attr]
    parts = net.reader, net.sight.vision_model, net.sight.mm_projector, net.ear.audio_model, net.ear.audio_projector
    assert [len(one.state_dict()) for one in parts] == [327, 390, 2, 487, 4]
    assert len(net.ear.discrete_audio_model.state_dict()) == 102
    assert len(net.sight.discrete_vision_model.state_dict()) == 527 - 27 - 64 - 6 - 2
    published = Eyes(net, {})
    assert published.slot((1000, 1000)).count(IMAGE_TOKEN) == 729 + 36 * 36
    assert published.slot((4000, 3000)).count(IMAGE_TOKEN) == 729 + 59 * 44


def test_turns_are_the_published_ones(tmp_path: Path) -> None:
    """Whatever template the files bring; without thinking aloud, as the makers advise."""
    talker: Any = loaded(files_of(tmp_path))
    said = Conversation((Turn("system", (Text("Be brief."),)), *about(FIRST, heard(1600), question="What?").turns))
    spans = talker.kind._parts.template.spans(said.then("A cat.", "Why?"), ["#", "~"])
    assert "".join(span.text for span in spans) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n"
        '<|mime_start|>{"id": "image_00", "type": "image/jpeg", "filename": "image.jpg"}<|mime_end|>\n#\n'
        '<|mime_start|>{"id": "audio_00", "type": "audio/mpeg", "filename": "user_query.wav"}<|mime_end|>\n~\n'
        "What?<|im_end|>\n<|im_start|>assistant\nA cat.<|im_end|>\n<|im_start|>user\nWhy?<|im_end|>\n"
        "<|im_start|>assistant\n<think>\n\n</think>\n\n"
    )
    slot = talker.kind._eyes.slot((37, 61))
    assert slot == (
        f"<|discrete_image_start|>{IMAGE_TOKEN * 16}<|discrete_image_end|>\n"
        f"<|image_start|>{IMAGE_TOKEN * 2}<|image_end|>"
    )
