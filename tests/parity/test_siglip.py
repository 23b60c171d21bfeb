"""The siglip model file against transformers' SiglipModel on shared random weights: sigmoid, bias and padding."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image as pillow
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor, nn
from transformers import SiglipConfig, SiglipImageProcessorPil, SiglipModel

from anmok import pairing
from anmok.errors import BadWeights
from anmok.geometry import Pixels
from anmok.inputs import Encoded, Text
from anmok.models import siglip
from anmok.tasks import Classify, Embed, Setup, TextRules

SIZE, CONTEXT = 48, 64
LABELS = ("A photo of a Cat.", "two dogs, sleeping", "도표")
CORPUS = ["a photo of a cat", "two dogs sleeping on a sofa", "이것은 도표 입니다"] * 8
PAD, END = 0, 1


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """BPE on bytes. Its own rules for padding and for a token in front are ones that SigLIP must not follow."""
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trained.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<pad>", "<eos>", "<bos>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    trained.train_from_iterator(CORPUS, trainer)
    trained.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 2)])
    trained.enable_padding(length=7)
    return trained


@pytest.fixture
def published(tokenizer: Tokenizer, tmp_path: Path) -> tuple[SiglipModel, Path]:
    """A checkpoint as the hub has them, with a temperature like theirs."""
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    text = {**sizes, "vocab_size": 400, "max_position_embeddings": CONTEXT}
    config = SiglipConfig(
        text_config={**text, "bos_token_id": None, "eos_token_id": None},
        vision_config={**sizes, "image_size": SIZE, "patch_size": 16},
    )
    net = SiglipModel(config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in net.parameters():  # matrices so wide that pictures and texts are told apart
            parameter.normal_(1.0 if parameter.dim() == 1 else 0.0, 0.5, generator=generator)
        net.logit_scale.fill_(float(np.log(100.0)))
        net.logit_bias.fill_(18.0)  # so that no score is near 0 or 1
    save_file(net.state_dict(), tmp_path / "model.safetensors")
    # Published files leave out what equals the defaults of the class, such as the ids of CLIP's tokenizer.
    content = {
        "model_type": "siglip",
        "text_config": {**text, "model_type": "siglip_text_model"},
        "vision_config": {**sizes, "image_size": SIZE, "patch_size": 16, "model_type": "siglip_vision_model"},
    }
    (tmp_path / "config.json").write_text(json.dumps(content))
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    named = {"eos_token": "<eos>", "pad_token": {"content": "<pad>", "lstrip": False}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(named))
    reference: SiglipModel = nn.Module.eval(net)
    return reference, tmp_path


def setup(folder: Path) -> Setup:
    pixels = Pixels(SIZE, "squash", "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    rules = TextRules(("{}",), context=CONTEXT, is_lowercased=True, is_padded=True)
    files = {path.name: path for path in folder.iterdir()}
    return Setup("siglip-test", "vit-tiny", pixels, rules, "sigmoid", ("en", "ko"), files=files)


def pictures() -> list[NDArray[np.uint8]]:
    rng = np.random.default_rng(3)
    sizes = ((48, 48), (61, 83), (200, 70), (1, 1))
    return [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]


def padded(tokenizer: Tokenizer, texts: list[str]) -> Tensor:
    """Canonical texts as the net was trained on them: tokens, one end, and padding to the whole context."""
    bare = Tokenizer.from_str(tokenizer.to_str())
    bare.no_padding()
    rows = [[*bare.encode(text, add_special_tokens=False).ids, END] for text in texts]
    return torch.tensor([row + [PAD] * (CONTEXT - len(row)) for row in rows])


def answers(model: siglip.Siglip, images: list[NDArray[np.uint8]], ask: Classify) -> NDArray[np.float32]:
    features = model.encode(np.stack([model.prepare(image).pixels for image in images]))["features"]  # (B, F)
    states = [Encoded("", {"features": row}) for row in features]
    return np.stack([one.scores for one in model.classify(states, ask)])  # (B, K)


def test_scores_are_the_sigmoid_of_transformers_logits(
    published: tuple[SiglipModel, Path], tokenizer: Tokenizer
) -> None:
    net, folder = published
    ids = padded(tokenizer, ["a photo of a cat", "two dogs sleeping", "도표"])
    look = SiglipImageProcessorPil(size={"height": SIZE, "width": SIZE})
    seen = look([pillow.fromarray(image) for image in pictures()], return_tensors="pt")
    with torch.inference_mode():
        wanted = net(**seen, input_ids=ids).logits_per_image
    model = siglip.Siglip.from_files(setup(folder))
    assert model.temperature == pytest.approx(100.0)
    assert model.bias == pytest.approx(18.0)
    scores = answers(model, pictures(), Classify(LABELS))
    assert np.ptp(wanted.sigmoid().numpy()) > 0.5
    np.testing.assert_allclose(scores, wanted.sigmoid().numpy(), rtol=0, atol=1e-5)
    assert not np.allclose(scores.sum(1), 1.0, atol=0.05)  # no softmax


def test_vectors_equal_transformers_embeddings(published: tuple[SiglipModel, Path], tokenizer: Tokenizer) -> None:
    net, folder = published
    model = siglip.Siglip.from_files(setup(folder))
    batch = np.stack([model.prepare(one).pixels for one in pictures()])
    with torch.inference_mode():
        images = net.get_image_features(pixel_values=torch.from_numpy(batch)).pooler_output.numpy()
        texts = net.get_text_features(input_ids=padded(tokenizer, ["two dogs sleeping"])).pooler_output
    features = model.encode(batch)["features"]
    np.testing.assert_allclose(features, images, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(features @ model.projection, features)
    got = model.embed([Text("Two dogs, sleeping!")], Embed())[0]
    np.testing.assert_allclose(got.vector, pairing.unit(texts[0].numpy()), rtol=0, atol=1e-6)


def test_a_text_is_cut_so_that_its_end_stays(published: tuple[SiglipModel, Path]) -> None:
    reader = siglip.Siglip.from_files(setup(published[1]))._reader
    row = reader.ids("cat " * 100, CONTEXT, is_lowercased=True, is_padded=True)
    assert (len(row), row[-1], row.count(END), row.count(PAD)) == (CONTEXT, END, 1, 0)
    short = reader.ids("cat", CONTEXT, is_lowercased=True, is_padded=True)
    assert (len(short), short.count(END), short[-1]) == (CONTEXT, 1, PAD)
    assert reader.ids("cat", CONTEXT, is_lowercased=True, is_padded=False) == short[: short.index(END) + 1]
    assert 2 not in row + short  # what tokenizer.json would add by itself


def test_padding_is_seen(published: tuple[SiglipModel, Path]) -> None:
    """Were it not, forgetting it would go unnoticed."""
    padded_setup = setup(published[1])
    bare_setup = replace(padded_setup, text=replace(padded_setup.text, is_padded=False))
    vectors = [
        siglip.Siglip.from_files(one).embed([Text("a cat")], Embed())[0].vector for one in (padded_setup, bare_setup)
    ]
    assert np.abs(vectors[0] - vectors[1]).max() > 0.01


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("This is a photo of a Cat.", "this is a photo of a cat"),
        ("  a\tclose-up   of_an “orange” ", "a closeup of an “orange”"),
        ("고양이, 개!", "고양이 개"),
        ("...", ""),
    ],
)
def test_texts_are_brought_to_the_published_form(text: str, wanted: str) -> None:
    assert siglip.canonical(text) == wanted


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"eos_token": "<eos>"}, "pad_token is None, which tokenizer.json does not have"),
        ({"eos_token": {"content": "</s>"}, "pad_token": "<pad>"}, "eos_token is '</s>', which"),
    ],
)
def test_a_tokenizer_without_end_or_padding_is_refused(
    published: tuple[SiglipModel, Path], content: dict[str, Any], said: str
) -> None:
    (published[1] / "tokenizer_config.json").write_text(json.dumps(content))
    with pytest.raises(BadWeights, match=said):
        siglip.Siglip.from_files(setup(published[1]))


def test_weights_and_configs_that_do_not_fit_are_refused(published: tuple[SiglipModel, Path]) -> None:
    net, folder = published
    state = net.state_dict()
    del state["logit_bias"]
    save_file(state, folder / "model.safetensors")
    with pytest.raises(BadWeights, match="1 missing .logit_bias"):
        siglip.Siglip.from_files(setup(folder))
    (folder / "config.json").write_text(json.dumps({"model_type": "siglip2"}))
    with pytest.raises(BadWeights, match=r"config\.json is of a 'siglip2', not of a siglip"):
        siglip.Siglip.from_files(setup(folder))
