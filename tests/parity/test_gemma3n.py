"""Gemma 3n at toy size: token by token what transformers' net answers, its tower handed to it; the tower by numbers
that timm gave once; names and sizes as published; and what else every family is asked for."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from anmok import Chat, Conversation, Model
from anmok.errors import BadWeights
from anmok.models.talking import Talks
from anmok.nets import gemma3n, toys
from anmok.nets.families import family_of
from anmok.nets.mobilenet_v5 import PLANS, MobileNetV5
from battery import picture
from published_gemma3n import KIND, content, published, their_net
from toy_talkers import FIRST, SECOND, SHORT, about, between, loaded, model, model_of, script, setup, written

MOST = 8


# The tower ---------------------------------------------------------------------------------------------------

# Of the names and shapes of ``timm.create_model("mobilenetv5_300m_enc")``, timm 1.0.31, sorted, one a line.
NAMES = "4a724e591a0cd00160206e8bd2b99e8447c3b9dc56d72fff7dc54f13a1ca5753"
# What its ``MobileNetV5Encoder`` of the toy's blocks gave for pixels of so many a side: the first six numbers, the sum.
TOLD = {
    32: ([0.201551, 0.920671, 1.885002, 2.067041, 1.799023, 1.472434], -11.687290),
    64: ([0.171513, -1.096442, 1.117019, 2.418344, 2.927673, 1.297279], 22.511306),
    96: ([-0.182208, 0.128367, 1.783991, 1.838399, 1.45682, 2.71987], 25.348999),
    80: ([-0.263563, 1.519711, -0.875775, 2.421833, 3.49966, 2.00351], 39.946789),
    33: ([0.302928, 0.840955, 1.24061, 2.212285, 1.895132, 1.156423], 19.403059),
    47: ([-0.620327, 2.595126, -0.529927, 1.012206, 2.376349, 1.236723], 18.336983),
}


def test_names_of_the_tower_are_those_of_timm() -> None:
    with torch.device("meta"):
        net = MobileNetV5(PLANS["mobilenetv5_300m_enc"])
    listed = "\n".join(f"{name} {tuple(one.shape)}" for name, one in sorted(net.state_dict().items()))
    assert hashlib.sha256(listed.encode()).hexdigest() == NAMES
    assert sum(one.numel() for one in net.parameters()) == 294_126_912


@pytest.mark.parametrize("side", TOLD)
def test_numbers_of_the_tower_are_those_of_timm(side: int) -> None:
    net = MobileNetV5(PLANS["toy"])
    generator, shapes = torch.Generator().manual_seed(0), net.state_dict()
    net.load_state_dict(
        {
            name: torch.randn(shapes[name].shape, generator=generator) * 0.2 + float(shapes[name].dim() == 1)
            for name in sorted(shapes)
        }
    )
    pixels = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(side))
    with torch.inference_mode():
        maps = net(pixels)
    numbers, whole = TOLD[side]
    assert maps.shape == (2, 16, 2, 2)
    assert maps.flatten()[:6].tolist() == pytest.approx(numbers, abs=2e-5)
    assert float(maps.double().sum()) == pytest.approx(whole, abs=1e-3)


# Beside transformers' net ------------------------------------------------------------------------------------


@pytest.fixture
def theirs(monkeypatch: pytest.MonkeyPatch) -> Any:
    """transformers' net of the toy's tensors."""
    kind: Any = model(KIND).kind
    return their_net(kind._net, kind._sound, monkeypatch)


def answered(net: Any, said: Conversation) -> tuple[list[int], Any]:
    """By transformers' ``generate``, greedily, given our ids and our pixels."""
    ids = torch.tensor([script(model(KIND), said).ids])
    kind: Any = model(KIND).kind
    made = [torch.from_numpy(kind.prepare(np.asarray(one)).pixels) for one in said.shown]
    with torch.inference_mode():
        found = net.generate(
            ids,
            **({"pixel_values": torch.stack(made)} if made else {}),
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=MOST,
            pad_token_id=0,
            output_logits=True,
            return_dict_in_generate=True,
        )
    return found.sequences[0, ids.shape[1] :].tolist(), torch.cat(found.logits).numpy()


SAID = [
    about(question="안녕하세요? 🌈 What is your name?"),
    about().then("So.", "Sure?"),
    about(FIRST),
    between(FIRST, SECOND),
    about(SECOND).then("So.", "And this?", FIRST).then("A cat.", "Sure?"),
]


@pytest.mark.parametrize("said", SAID, ids=["words", "turns", "picture", "pictures", "later"])
def test_it_answers_as_transformers_does(said: Conversation, theirs: Any) -> None:
    ours, (tokens, logits) = written(model(KIND), said, MOST), answered(theirs, said)
    assert ours.tokens == tokens
    assert np.abs(ours.logits - logits).max() <= 1e-4 * np.abs(logits).max()
    assert logits.std() > 0.01


def test_words_that_stand_for_pictures_and_sounds_are_read_from_their_own_tables(theirs: Any) -> None:
    """All of the vocabulary; the ends of pictures are among them."""
    kind: Any = model(KIND).kind
    ids = torch.arange(kind._net.config.vocab_size)[None]
    with torch.inference_mode():
        wanted = theirs(ids).logits
        rows = kind._net.embedded(ids)
        plain = kind._net.get_input_embeddings()(ids)
        got = kind._net.reader(inputs_embeds=rows, per_layer_inputs=kind._net.per_layer(ids)).logits
        without = kind._net.reader(inputs_embeds=rows).logits
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-4)
    differs = (rows != plain).any(-1)[0]
    assert differs[256:].all()
    assert not differs[:256].any()
    assert (without - wanted).abs().max() > 0.01


def test_rows_of_pictures_are_those_of_transformers(theirs: Any) -> None:
    kind: Any = model(KIND).kind
    pixels = torch.from_numpy(np.stack([kind.prepare(one).pixels for one in (FIRST, SECOND)]))
    with torch.inference_mode():
        wanted = theirs.model.get_image_features(pixels).pooler_output
        got = kind._eyes.encode(pixels)
    assert got.shape == (2, 4, 32)
    torch.testing.assert_close(got, wanted, rtol=0, atol=0)
    assert (got[0] - got[1]).abs().max() > 0.01


@pytest.mark.parametrize("size_hw", [(61, 83), (480, 640), (7, 301), (768, 768)])
def test_pixels_are_those_of_the_published_processor(size_hw: tuple[int, int]) -> None:
    """SigLIP's, by the values that Gemma 3n's file has."""
    image = picture(size_hw, 1)
    processor = SiglipImageProcessorPil(
        size={"height": 768, "width": 768}, image_mean=[0.5] * 3, image_std=[0.5] * 3, resample=2, do_normalize=False
    )
    sight: Any = SimpleNamespace(tokens=256)
    eyes = gemma3n.Eyes(sight, {"image_mean": [0.5] * 3, "image_seq_length": 256, "do_convert_rgb": None})
    wanted = processor(images=image, return_tensors="np")["pixel_values"][0]
    np.testing.assert_array_equal(eyes.prepare(image), wanted)
    soft = "<image_soft_token>" * 256
    assert eyes.slot(size_hw) == f"\n\n<start_of_image>{soft}<end_of_image>\n\n"
    assert gemma3n.Eyes(sight, {"size": {"height": 512, "width": 512}}).prepare(image).shape == (3, 512, 512)


# Batches, streams, files -------------------------------------------------------------------------------------


def test_answers_do_not_depend_on_batch_mates() -> None:
    alone = [model(KIND).run([one], SHORT)[0] for one in SAID]
    for order in ([0, 1, 2, 3, 4], [3, 1, 4, 0, 2]):
        together = model(KIND).run([SAID[i] for i in order], SHORT)
        assert [one.text for one in together] == [alone[i].text for i in order]
    assert [one.image_tokens for one in alone] == [0, 0, 4, 8, 8]
    assert len({one.text for one in alone}) > 1


def test_half_precision_is_that_of_transformers(theirs: Any) -> None:
    talker = model_of(Talks.tiny(setup(KIND, dtype="bfloat16"), 0), KIND, "bfloat16")
    kind: Any = talker.kind
    assert {str(one.dtype) for one in kind._net.parameters()} == {"torch.bfloat16"}
    ours = written(talker, about(FIRST), 1).logits
    _, logits = answered(theirs, about(FIRST))
    assert np.abs(ours[0] - logits[0]).max() <= 0.05 * np.abs(logits[0]).max()


def files_of(folder: Path) -> dict[str, Path]:
    """The toy as it lies on the hub: with keys and values of layers that take those of others."""
    toy = toys.toy(KIND, family_of(KIND, KIND), 0)
    told, facts = content()
    state = published(toy.net)
    for name in ("k_proj", "v_proj"):
        state[f"model.language_model.layers.3.self_attn.{name}.weight"] = torch.ones(16, 32)
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    texts = {
        "config.json": json.dumps(told),
        "preprocessor_config.json": json.dumps(facts),
        "tokenizer.json": toy.tokenizer,
        "chat_template.jinja": toy.template,
        "tokenizer_config.json": json.dumps({"eos_token": "<|im_end|>"}),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return {path.name: path for path in folder.iterdir()}


def test_a_checkpoint_answers_as_what_was_saved_in_it(tmp_path: Path) -> None:
    files = files_of(tmp_path)
    wanted, told = written(model(KIND), about(FIRST)), written(loaded(files, KIND), about(FIRST))
    assert told.tokens == wanted.tokens
    np.testing.assert_allclose(told.logits, wanted.logits, atol=1e-5)

    state = load_file(files["model.safetensors"])
    seeing = "model.vision_tower.timm_model.msfa.norm.weight"
    reading = "model.language_model.layers.0.self_attn.k_proj.weight"
    hearing = "model.audio_tower.conformer.0.norm.weight"
    for name in (seeing, reading, hearing):
        save_file({k: v for k, v in state.items() if k != name}, files["model.safetensors"], {"format": "pt"})
        with pytest.raises(BadWeights, match=f"{KIND}: the weights do not fit the net: 1 missing") as fault:
            Talks.from_files(setup(KIND, files))
        assert "\n" not in str(fault.value)
    save_file({**state, "model.extra": torch.ones(1)}, files["model.safetensors"], {"format": "pt"})
    with pytest.raises(BadWeights, match="1 left over"):
        Talks.from_files(setup(KIND, files))


def test_what_its_configuration_cannot_mean_is_refused(tmp_path: Path) -> None:
    files = files_of(tmp_path)
    told, _ = content()
    for change, fault in (
        (
            {"vision_config": {"architecture": "resnet50"}},
            "its vision tower is 'resnet50'; want 'mobilenetv5_300m_enc'",
        ),
        ({"text_config": None}, "config.json lacks 'text_config'"),
    ):
        files["config.json"].write_text(json.dumps({k: v for k, v in {**told, **change}.items() if v is not None}))
        with pytest.raises(BadWeights, match=f"{KIND}: .*{fault}"):
            Talks.from_files(setup(KIND, files))


def test_a_stream_says_what_the_whole_answer_says() -> None:
    talker: Model = model(KIND)
    [reply] = talker.run([about(FIRST)], Chat(12))
    assert "".join(piece.text for piece in talker.stream(about(FIRST), Chat(12))) == reply.text
