"""How VideoLLaMA2 looks: pictures that stand still, clips that do not, and its checkpoint.

Which frames are shown was recorded from the authors' ``frame_sample``.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image as pillow
from torch import Tensor
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    CLIPVisionModel,
    MistralConfig,
    MistralForCausalLM,
    SiglipImageProcessorPil,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from anmok.errors import BadWeights
from anmok.nets import stc
from anmok.nets.eyes.videollama2 import (
    TOWERS,
    Sight,
    VideoLlama2,
    VideoLlama2Frames,
    frame_numbers,
    parted,
    rules_of,
    tower_config,
)
from anmok.nets.pretrained import filled

WIDTH, OUT, SIZE = 16, 20, 30
SIDES = {"hidden_size": WIDTH, "intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2}
CLIP = {"model_type": "clip_vision_model", "image_size": SIZE, "patch_size": 6, "projection_dim": 8} | SIDES
SIGLIP = {"model_type": "siglip_vision_model", "image_size": 32, "patch_size": 6} | SIDES  # 32 / 6 leaves a rest
TEXT = {"vocab_size": 40, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
TEXT |= {"hidden_size": OUT, "num_key_value_heads": 1}


def config_of(tower: dict[str, Any], kind: str) -> dict[str, Any]:
    return {
        "mm_vision_tower": tower,
        "mm_vision_select_layer": -2,
        "mm_projector_type": kind,
        "hidden_size": OUT,
        "num_frames": 4,
    }


OLD, NEW = config_of(CLIP, "stc_connector"), config_of(SIGLIP, "stc_connector_v35")
BOTH = {"2.0": OLD, "2.1": NEW}


def whole_tower(config: dict[str, Any]) -> CLIPVisionModel | SiglipVisionModel:
    tower = config["mm_vision_tower"]
    if tower["model_type"] == "clip_vision_model":
        return CLIPVisionModel(CLIPVisionConfig(**tower)).eval()
    return SiglipVisionModel(SiglipVisionConfig(**tower)).eval()


@functools.cache
def checkpoint(version: str) -> dict[str, Tensor]:
    """As the hub has it: the tower whole, with the prefix of transformers 4, and a Mistral."""
    torch.manual_seed(5)
    config = BOTH[version]
    connector = stc.connector(config["mm_projector_type"], WIDTH, OUT)
    state = MistralForCausalLM(MistralConfig(**TEXT)).state_dict()
    tower = whole_tower(config).state_dict()
    state |= {f"model.vision_tower.vision_tower.vision_model.{key}": one for key, one in tower.items()}
    state |= {f"model.mm_projector.{key}": one for key, one in connector.state_dict().items()}
    return {key: one.detach().clone() for key, one in state.items()}


@functools.cache
def sight(version: str) -> Sight:
    return Sight.filled(BOTH[version], parted(checkpoint(version))[0], torch.float32, "card")


def picture(height: int, width: int, seed: int = 3) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def padded(image: NDArray[np.uint8], mean: tuple[float, ...]) -> pillow.Image:
    """As the authors' ``expand2square`` does it."""
    height, width = image.shape[:2]
    side = max(height, width)
    square = pillow.new("RGB", (side, side), tuple(int(value * 255) for value in mean))
    square.paste(pillow.fromarray(image), ((side - width) // 2, (side - height) // 2))
    return square


@pytest.mark.parametrize("size_hw", [(40, 71), (71, 40), (30, 30), (1, 50), (1, 1), (300, 200)])
@pytest.mark.parametrize("version", BOTH)
def test_pixels_are_transformers_of_the_padded_picture(version: str, size_hw: tuple[int, int]) -> None:
    image = picture(*size_hw)
    [found] = VideoLlama2(sight(version), rules_of(BOTH[version], "card")).prepare(image)
    if version == "2.0":
        processor: Any = CLIPImageProcessorPil(size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE})
    else:
        processor = SiglipImageProcessorPil(size={"height": 32, "width": 32})
    wanted = processor(padded(image, processor.image_mean), return_tensors="np")["pixel_values"][0]
    assert np.array_equal(found, wanted)


@pytest.mark.parametrize("version", BOTH)
def test_pixels_can_be_those_of_the_authors_inference(version: str) -> None:
    """Which does not pad: the middle of the picture with CLIP, all of it squeezed with SigLIP."""
    image = picture(40, 71)
    [found] = VideoLlama2(sight(version), rules_of(BOTH[version], "card", is_padded=False)).prepare(image)
    if version == "2.0":
        processor: Any = CLIPImageProcessorPil(size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE})
    else:
        processor = SiglipImageProcessorPil(size={"height": 32, "width": 32})
    wanted = processor(pillow.fromarray(image), return_tensors="np")["pixel_values"][0]
    np.testing.assert_allclose(found, wanted, atol=1e-6)


@pytest.mark.parametrize("version", BOTH)
def test_rows_are_the_connectors_of_the_whole_towers_states(version: str) -> None:
    state, config = checkpoint(version), BOTH[version]
    named = {key.removeprefix("model.vision_tower.vision_tower.vision_model."): one for key, one in state.items()}
    tower = whole_tower(config)
    tower.load_state_dict({key: named[key] for key in tower.state_dict()})
    connector = stc.connector(config["mm_projector_type"], WIDTH, OUT).eval()
    connector.load_state_dict({key: state[f"model.mm_projector.{key}"] for key in connector.state_dict()})
    eyes = VideoLlama2(sight(version), rules_of(config, "card"))
    pixels = torch.from_numpy(eyes.prepare(picture(40, 71)))
    with torch.inference_mode():
        frames = pixels.expand(4, -1, -1, -1)  # as the authors do it, before the tower
        seen = tower(frames, output_hidden_states=True).hidden_states[-2][:, int(version == "2.0") :]
        wanted = connector(seen[None])
        found = eyes.encode(pixels[None])
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
    assert seen.shape == (4, 25, WIDTH)
    assert float(wanted.std()) > 0.001


@pytest.mark.parametrize(("version", "count"), [("2.0", 3 * 3 * 3), ("2.1", 2 * 2 * 2)])
def test_rows_are_as_many_as_image_tokens(version: str, count: int) -> None:
    eyes = VideoLlama2(sight(version), rules_of(BOTH[version], "card"))
    with torch.inference_mode():
        rows = eyes.encode(torch.from_numpy(eyes.prepare(picture(40, 71)))[None])[0]
    assert rows.shape == (count, OUT)
    assert eyes.slot((40, 71)) == "<image>" * count
    assert eyes.packed(rows, (40, 71)) is rows


def test_published_counts_of_tokens() -> None:
    old = {"mm_vision_tower": "openai/clip-vit-large-patch14-336", "mm_projector_type": "stc_connector"}
    new = {"mm_vision_tower": "google/siglip-so400m-patch14-384", "mm_projector_type": "stc_connector_v35"}
    assert VideoLlama2(sight("2.0"), rules_of(old, "x"), "i").slot((9, 9)) == "i" * 845
    assert VideoLlama2(sight("2.0"), rules_of(old | {"num_frames": 16}, "x"), "i").slot((9, 9)) == "i" * 1521
    assert VideoLlama2(sight("2.0"), rules_of(new | {"num_frames": 16}, "x"), "i").slot((9, 9)) == "i" * 1352
    assert VideoLlama2Frames(sight("2.0"), rules_of(old, "x"), "v").film_slot(16) == "v" * 1521


@pytest.mark.parametrize("version", BOTH)
def test_a_picture_is_a_clip_in_which_nothing_happens(version: str) -> None:
    rules = rules_of(BOTH[version], "card")
    eyes, frames = VideoLlama2(sight(version), rules), VideoLlama2Frames(sight(version), rules)
    image = picture(40, 71)
    pixels = torch.from_numpy(frames.prepare(image))[None]
    with torch.inference_mode():
        seen = frames.encode(pixels.expand(4, -1, -1, -1))
        film, still = frames.film(seen), eyes.encode(torch.from_numpy(eyes.prepare(image))[None])[0]
        torch.testing.assert_close(film, still, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(frames.film(seen[:1]), still, rtol=1e-5, atol=1e-6)
    assert len(film) == frames.film_slot(4).count("<video>") == frames.slot((40, 71)).count("<video>")


def test_the_order_of_frames_matters() -> None:
    frames = VideoLlama2Frames(sight("2.0"), rules_of(OLD, "card"))
    pixels = torch.stack([torch.from_numpy(frames.prepare(picture(40, 71, seed))) for seed in range(4)])
    with torch.inference_mode():
        seen = frames.encode(pixels)
        forth, back = frames.film(seen), frames.film(seen.flip(0))
    assert len(forth) == frames.film_slot(4).count("<video>")
    assert float((forth - back).abs().max()) > 1e-3


def test_short_clips_show_some_frames_twice() -> None:
    frames = VideoLlama2Frames(sight("2.1"), rules_of(NEW, "card"))
    pixels = torch.stack([torch.from_numpy(frames.prepare(picture(40, 71, seed))) for seed in range(3)])
    with torch.inference_mode():
        seen = frames.encode(pixels)
        assert torch.equal(frames.film(seen), frames.film(seen[[0, 1, 1, 2]]))
        assert torch.equal(frames.film(seen[:1]), frames.film(seen[[0, 0, 0, 0]]))
    assert frames.film_slot(1) == frames.film_slot(4) == "<video>" * 8
    assert frames.film_slot(6) == "<video>" * 12
    assert frames.most == 4


def test_pictures_do_not_depend_on_batch_mates() -> None:
    eyes = VideoLlama2(sight("2.0"), rules_of(OLD, "card"))
    pixels = torch.from_numpy(np.stack([eyes.prepare(picture(40, 71, seed)) for seed in range(3)]))
    with torch.inference_mode():
        together, alone = eyes.encode(pixels), torch.cat([eyes.encode(one[None]) for one in pixels])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("count", "wanted", "numbers"),
    [
        (1, 8, [0] * 8),
        (2, 16, [0] * 8 + [1] * 8),
        (3, 8, [0, 0, 1, 1, 1, 1, 2, 2]),
        (8, 8, [0, 1, 2, 3, 4, 5, 6, 7]),
        (9, 8, [1, 2, 3, 4, 5, 6, 7, 8]),
        (31, 16, [1, 3, 5, 7, 8, 10, 12, 14, 16, 18, 20, 22, 23, 25, 27, 29]),
        (100, 8, [6, 19, 31, 43, 56, 68, 80, 93]),
        (257, 16, [8 + 16 * number for number in range(16)]),
    ],
)
def test_frames_are_the_authors(count: int, wanted: int, numbers: list[int]) -> None:
    assert list(frame_numbers(count, wanted)) == numbers


@pytest.mark.parametrize("version", BOTH)
def test_a_checkpoint_is_read_whole(version: str) -> None:
    """Every tensor of the published names has a home, but those after the layer that is read."""
    state = checkpoint(version)
    mine, words = parted(state)
    assert len(mine) + len(words) == len(state)
    language = filled(MistralForCausalLM, MistralConfig(**TEXT), words, torch.float32, "card")
    found = dict(language.state_dict())
    for key, one in sight(version).state_dict().items():
        found["model." + key.replace("vision_tower.", "vision_tower.vision_tower.vision_model.")] = one
    left = {key for key in state if key not in found or not torch.equal(found[key], state[key])}
    unread = ("encoder.layers.2.", "head.", "post_layernorm.")
    prefix = "model.vision_tower.vision_tower.vision_model."
    assert {key for key in left if not key.removeprefix(prefix).startswith(unread)} == set()
    assert found.keys() <= state.keys()
    assert len(sight(version).vision_tower.encoder.layers) == 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model.mm_projector.sampler.0.bias": None}, "missing .mm_projector.sampler.0.bias"),
        ({"model.mm_projector.s3.weight": torch.zeros(1)}, "left over .mm_projector.s3.weight"),
        ({"model.mm_projector.readout.0.bias": torch.zeros(3)}, "of another shape .mm_projector.readout.0.bias"),
    ],
)
def test_checkpoints_that_do_not_fit_are_refused(change: dict[str, Tensor | None], said: str) -> None:
    state = {key: one for key, one in (checkpoint("2.0") | change).items() if one is not None}
    with pytest.raises(BadWeights, match=f"card: the weights do not fit the net: 1 {said}"):
        Sight.filled(OLD, parted(state)[0], torch.float32, "card")


def test_unknown_towers_are_refused() -> None:
    with pytest.raises(BadWeights, match="card: mm_vision_tower 'eva-clip': want one of openai/clip"):
        tower_config({"mm_vision_tower": "eva-clip"}, "card")


@pytest.mark.parametrize(
    ("name", "params", "patches"),
    [("openai/clip-vit-large-patch14-336", 303_507_456, 576), ("google/siglip-so400m-patch14-384", 428_225_600, 729)],
)
def test_towers_are_as_large_as_the_published_ones(name: str, params: int, patches: int) -> None:
    kind, content = (
        (CLIPVisionModel, CLIPVisionConfig) if "clip-vit" in name else (SiglipVisionModel, SiglipVisionConfig)
    )
    with torch.device("meta"):
        tower = kind(content(**TOWERS[name]))
    assert sum(one.numel() for one in tower.parameters()) == params
    assert rules_of({"mm_vision_tower": name, "mm_projector_type": "stc_connector"}, "x").side ** 2 == patches


def test_bfloat16_sees_nearly_the_same() -> None:
    low = Sight.filled(OLD, parted(checkpoint("2.0"))[0], torch.bfloat16, "card")
    assert {one.dtype for one in low.state_dict().values()} == {torch.bfloat16}
    rules = rules_of(OLD, "card")
    pixels = torch.from_numpy(VideoLlama2(low, rules).prepare(picture(40, 71)))[None]
    with torch.inference_mode():
        found, wanted = VideoLlama2(low, rules).encode(pixels), VideoLlama2(sight("2.0"), rules).encode(pixels)
    assert found.dtype == torch.bfloat16
    assert float(torch.cosine_similarity(found.float().flatten(), wanted.flatten(), 0)) > 0.99
