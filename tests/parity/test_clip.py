"""The clip model file against transformers' own path: shared random weights, a tokenizer trained here."""

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
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor, nn
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPTextModelWithProjection,
    PreTrainedTokenizerFast,
)

from anmok import pairing
from anmok.errors import BadWeights
from anmok.geometry import Pixels
from anmok.inputs import Encoded, Text
from anmok.models import clip
from anmok.nets import clip_resnet
from anmok.tasks import Classify, Embed, Setup, TextRules

SIZE = 64
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
LABELS = ("a photo of a cat", "a diagram", "two dogs, sleeping on a red sofa in the sun", "CAT")
CORPUS = [*LABELS, "a photo of a dog on the grass", "the quick brown fox jumps over the lazy dog"] * 8
START, END = 49406, 49407  # as in the published vocabulary, whose text towers look for them


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """A byte-level BPE with CLIP's normalising, splitting and special tokens, and a few merges."""
    trained = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    trained.normalizer = normalizers.Lowercase()
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=600, initial_alphabet=alphabet, end_of_word_suffix="</w>", show_progress=False
    )
    trained.train_from_iterator(CORPUS, trainer)
    content = json.loads(trained.to_str())
    content["model"]["vocab"] |= {clip.START: START, clip.END: END}
    whole = Tokenizer.from_str(json.dumps(content))
    whole.add_special_tokens([clip.START, clip.END])
    whole.post_processor = processors.TemplateProcessing(
        single=f"{clip.START} $A {clip.END}", special_tokens=[(clip.START, START), (clip.END, END)]
    )
    return whole


def config(activation: str) -> CLIPConfig:
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
    both = {**sizes, "hidden_act": activation, "projection_dim": 48}
    return CLIPConfig(text_config=both, vision_config={**both, "image_size": SIZE, "patch_size": 16}, projection_dim=48)


def randomised(net: nn.Module) -> nn.Module:
    """Weights so wide that every part of the net matters, the published temperature's like."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            parameter.normal_(std=0.2, generator=generator)
            if name == "logit_scale":
                parameter.fill_(3.1)
    return nn.Module.eval(net)


def setup(folder: Path, kind: str = "vit-tiny") -> Setup:
    pixels = Pixels(SIZE, "crop", "bicubic", MEAN, STD)
    files = {path.name: path for path in folder.iterdir()}
    rules = TextRules(("{}",), context=77)
    return Setup("clip-test", kind, pixels, rules, "softmax", ("en",), files=files)


def pictures() -> list[NDArray[np.uint8]]:
    rng = np.random.default_rng(3)
    return [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in ((64, 64), (61, 83), (200, 70), (1, 1))]


def logits(model: clip.Clip, images: list[NDArray[np.uint8]], ask: Classify) -> NDArray[np.float32]:
    features = model.encode(np.stack([model.prepare(image).pixels for image in images]))["features"]  # (B, F)
    cosines = pairing.unit(features @ model.projection) @ model.text_vectors(ask).T  # (B, K)
    return np.asarray(model.temperature * cosines + model.bias, np.float32)


def reference(net: CLIPModel, tokenizer: Tokenizer, images: list[NDArray[np.uint8]]) -> Tensor:
    """What transformers' processor and model make of them: logits (B, K)."""
    look = CLIPImageProcessorPil(
        size={"shortest_edge": SIZE},
        crop_size={"height": SIZE, "width": SIZE},
        image_mean=MEAN,
        image_std=STD,
    )
    read = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=clip.END, eos_token=clip.END, bos_token=clip.START
    )
    seen = look([pillow.fromarray(image) for image in images], return_tensors="pt")
    said = read(list(LABELS), padding="max_length", truncation=True, max_length=77, return_tensors="pt")
    with torch.inference_mode():
        wanted: Tensor = net(**seen, **said).logits_per_image
    return wanted


def write_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """With settings for padding and cutting, as some published files have them, that must not be followed."""
    set_up = Tokenizer.from_str(tokenizer.to_str())
    set_up.enable_padding(length=9)
    set_up.enable_truncation(max_length=5)
    set_up.save(str(folder / "tokenizer.json"))


@pytest.fixture(params=["quick_gelu", "gelu"])
def published(request: pytest.FixtureRequest, tokenizer: Tokenizer, tmp_path: Path) -> Any:
    """A checkpoint in transformers' layout, with the position ids that old ones carry along."""
    net = randomised(CLIPModel(config(request.param)))
    assert isinstance(net, CLIPModel)
    state = {**net.state_dict(), "text_model.embeddings.position_ids": torch.arange(77)[None]}
    save_file({key: tensor.contiguous() for key, tensor in state.items()}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(net.config.to_dict()))
    write_tokenizer(tokenizer, tmp_path)
    return net, tmp_path


def test_logits_equal_transformers(published: Any, tokenizer: Tokenizer) -> None:
    net, folder = published
    model = clip.Clip.from_files(setup(folder))
    wanted = reference(net, tokenizer, pictures()).numpy()
    got = logits(model, pictures(), Classify(LABELS))
    assert np.ptp(wanted) > 1.0  # the weights do tell these pictures and texts apart
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-5)
    states = [
        Encoded("", {"features": row})
        for row in model.encode(np.stack([model.prepare(one).pixels for one in pictures()]))["features"]
    ]
    scores = np.stack([one.scores for one in model.classify(states, Classify(LABELS))])
    np.testing.assert_allclose(scores, torch.tensor(wanted).softmax(1).numpy(), rtol=0, atol=1e-5)


def test_features_are_taken_before_the_projection(published: Any) -> None:
    net, folder = published
    model = clip.Clip.from_files(setup(folder))
    batch = np.stack([model.prepare(one).pixels for one in pictures()])
    with torch.inference_mode():
        wanted = net.vision_model(pixel_values=torch.from_numpy(batch)).pooler_output.numpy()
    np.testing.assert_allclose(model.encode(batch)["features"], wanted, rtol=0, atol=1e-6)
    assert model.projection.shape == (64, 48)


def test_texts_do_not_see_each_other_or_their_padding(published: Any) -> None:
    model = clip.Clip.from_files(setup(published[1]))
    long = "a cat " * 60  # cut at 77 tokens
    together = model.embed([Text("a cat"), Text(long)], Embed())
    alone = [model.embed([Text(text)], Embed())[0] for text in ("a cat", long)]
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_allclose(one.vector, other.vector, rtol=0, atol=1e-6)


def test_a_long_text_keeps_its_end(published: Any, tokenizer: Tokenizer) -> None:
    net, folder = published
    model = clip.Clip.from_files(setup(folder))
    ids = tokenizer.encode("a cat " * 60).ids
    cut = torch.tensor([[*ids[:76], END]])
    with torch.inference_mode():
        wanted = net.get_text_features(input_ids=cut).pooler_output[0].numpy()
    got = model.embed([Text("a cat " * 60)], Embed())[0].vector
    np.testing.assert_allclose(got, pairing.unit(wanted), rtol=0, atol=1e-6)


def test_bfloat16_stays_close(published: Any) -> None:
    exact = clip.Clip.from_files(setup(published[1]))
    half = clip.Clip.from_files(replace(setup(published[1]), dtype="bfloat16"))
    batch = np.stack([exact.prepare(one).pixels for one in pictures()])
    cosines = (pairing.unit(exact.encode(batch)["features"]) * pairing.unit(half.encode(batch)["features"])).sum(1)
    assert 0.99 < cosines.min() < 1.0
    assert half.nbytes == exact.nbytes // 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"vision_model.post_layernorm.bias": None}, "1 missing .vision_model.post_layernorm.bias"),
        ({"vision_model.extra": torch.ones(2)}, "1 left over .vision_model.extra"),
        ({"logit_scale": torch.ones(3)}, "1 of another shape .logit_scale"),
    ],
)
def test_weights_that_do_not_fit_are_refused(published: Any, change: dict[str, Tensor | None], said: str) -> None:
    net, folder = published
    state = {key: value for key, value in {**net.state_dict(), **change}.items() if value is not None}
    save_file(state, folder / "model.safetensors")
    with pytest.raises(BadWeights, match=said):
        clip.Clip.from_files(setup(folder))


def test_another_kind_of_config_is_refused(published: Any) -> None:
    (published[1] / "config.json").write_text(json.dumps({"model_type": "siglip"}))
    with pytest.raises(BadWeights, match=r"config\.json is of a 'siglip', not of a clip"):
        clip.Clip.from_files(setup(published[1]))


def test_another_tokenizer_is_refused(published: Any) -> None:
    Tokenizer(models.WordLevel({"cat": 0}, "cat")).save(str(published[1] / "tokenizer.json"))
    with pytest.raises(BadWeights, match="not CLIP's tokenizer"):
        clip.Clip.from_files(setup(published[1]))


LAYER = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "self_attn.out_proj": "attn.out_proj",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}


def to_openai(state: dict[str, Tensor], tower: str, prefix: str) -> dict[str, Tensor]:
    """The layers of one tower under OpenAI's names: query, key and value in one."""
    named: dict[str, Tensor] = {}
    start = f"{tower}.encoder.layers."
    for key in [key for key in state if key.startswith(start)]:
        index, rest = key.removeprefix(start).split(".", 1)
        module, kind = rest.rsplit(".", 1)
        here = f"{prefix}transformer.resblocks.{index}."
        if module == "self_attn.q_proj":
            parts = [state[key.replace("q_proj", f"{letter}_proj")] for letter in "qkv"]
            named[f"{here}attn.in_proj_{kind}"] = torch.cat(parts)
        elif module in LAYER:
            named[f"{here}{LAYER[module]}.{kind}"] = state[key]
    return named


def openai_text(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        **to_openai(state, "text_model", ""),
        "token_embedding.weight": state["text_model.embeddings.token_embedding.weight"],
        "positional_embedding": state["text_model.embeddings.position_embedding.weight"],
        "ln_final.weight": state["text_model.final_layer_norm.weight"],
        "ln_final.bias": state["text_model.final_layer_norm.bias"],
        "text_projection": state["text_projection.weight"].T.contiguous(),
    }


def openai_vision(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        **to_openai(state, "vision_model", "visual."),
        "visual.class_embedding": state["vision_model.embeddings.class_embedding"],
        "visual.conv1.weight": state["vision_model.embeddings.patch_embedding.weight"],
        "visual.positional_embedding": state["vision_model.embeddings.position_embedding.weight"],
        **{f"visual.ln_pre.{end}": state[f"vision_model.pre_layrnorm.{end}"] for end in ("weight", "bias")},
        **{f"visual.ln_post.{end}": state[f"vision_model.post_layernorm.{end}"] for end in ("weight", "bias")},
        "visual.proj": state["visual_projection.weight"].T.contiguous(),
    }


def write_openai(folder: Path, state: dict[str, Tensor], tokenizer: Tokenizer) -> None:
    save_file({key: tensor.contiguous() for key, tensor in state.items()}, folder / clip.OPENAI_FILE)
    write_tokenizer(tokenizer, folder)


def test_openai_names_give_the_same_vit(tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = clip.vit_config(width=128, depth=2, patch=16, size=SIZE, text_width=64)
    monkeypatch.setitem(clip.VITS, "vit-tiny", small)
    net = randomised(CLIPModel(small))
    assert isinstance(net, CLIPModel)
    state = net.state_dict()
    both = {**openai_text(state), **openai_vision(state), "logit_scale": state["logit_scale"]}
    write_openai(tmp_path, both, tokenizer)
    model = clip.Clip.from_files(setup(tmp_path))
    wanted = reference(net, tokenizer, pictures()).numpy()
    np.testing.assert_allclose(logits(model, pictures(), Classify(LABELS)), wanted, rtol=0, atol=1e-5)
    del both["visual.ln_post.bias"]
    write_openai(tmp_path, both, tokenizer)
    with pytest.raises(BadWeights, match="1 missing"):
        clip.Clip.from_files(setup(tmp_path))


def test_openai_names_give_the_same_resnet(
    tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(clip.RESNETS, "resnet-tiny", clip_resnet.TINY)
    monkeypatch.setattr(clip, "RESNET_TEXT_WIDTH", 64)
    vision = randomised(clip_resnet.ClipResNet(clip_resnet.TINY))
    text = randomised(CLIPTextModelWithProjection(clip.text_config(64, clip_resnet.TINY.dimension)))
    visual = {f"visual.{key}": tensor for key, tensor in vision.state_dict().items()}
    scale = torch.tensor(3.1)
    whole = {**visual, **openai_text(text.state_dict()), "logit_scale": scale}
    write_openai(tmp_path, whole, tokenizer)
    model = clip.Clip.from_files(setup(tmp_path, "resnet-tiny"))
    ids = [tokenizer.encode(label).ids for label in LABELS]
    with torch.inference_mode():
        batch = torch.from_numpy(np.stack([model.prepare(one).pixels for one in pictures()]))
        seen = nn.functional.normalize(vision(batch))  # (B, D)
        read = torch.cat([text(input_ids=torch.tensor([row])).text_embeds for row in ids])  # (K, D)
        wanted = scale.exp() * seen @ nn.functional.normalize(read).T  # (B, K)
    np.testing.assert_allclose(logits(model, pictures(), Classify(LABELS)), wanted, rtol=0, atol=1e-5)
    del whole["visual.attnpool.c_proj.bias"]
    write_openai(tmp_path, whole, tokenizer)
    with pytest.raises(BadWeights, match="do not fit the net"):
        clip.Clip.from_files(setup(tmp_path, "resnet-tiny"))


def test_published_kinds_have_their_configurations() -> None:
    """The cards in OpenAI's layout name kinds whose sizes stand in the model file."""
    from anmok.catalogue import cards

    kinds = {one.kind for one in cards() if one.family == "clip" and clip.OPENAI_FILE in one.source.files}
    assert kinds <= {*clip.VITS, *clip.RESNETS}
    assert len(kinds) == 5
