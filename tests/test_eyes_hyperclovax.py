"""How HyperCLOVA X SEED Vision looks: its tiles, what of them stays, and its checkpoint.

The recorded pixels are those of NAVER's ``HCXVisionImageProcessor``; the counts of tokens those of its
``determine_anyres_num_vision_patches`` with 81 queries, tiles of 378 and at most nine of them.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, SiglipVisionConfig, SiglipVisionModel

from anmok.errors import BadWeights
from anmok.nets.eyes import anyres
from anmok.nets.eyes.hyperclovax import (
    CANVAS,
    HyperClova,
    HyperClovaFrames,
    HyperClovaRules,
    Sight,
    canvases,
    connector_config,
    parted,
    unpadded,
)
from anmok.nets.eyes.levels import CLIP_MEAN, CLIP_STD, HALF, Levels
from anmok.nets.honeybee import CAbstractor
from anmok.nets.pretrained import filled

TILE, WIDTH, OUT = 28, 16, 20
TOWER = {
    "model_type": "siglip_vision_model",
    "hidden_size": WIDTH,
    "intermediate_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": TILE,
    "patch_size": 4,
}
TEXT = {"vocab_size": 40, "hidden_size": OUT, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
CONFIG: dict[str, Any] = {
    "model_type": "hyperclovax_vlm",
    "vision_config": TOWER,
    "text_config": TEXT,
    "mm_projector_type": "cabstractor",
    "use_nth_layer": -2,
    "anyres": True,
    "unpad": True,
    "max_num_grids": 9,
    "use_1x1_grid": True,
    "num_queries_vis_abstractor_image": 9,
    "num_queries_vis_abstractor_video_slow": 9,
    "num_queries_vis_abstractor_video_fast": 1,
    "proj_pos_emb": True,
    "proj_prenorm": False,
}
RULES = HyperClovaRules.of(CONFIG, {})
PUBLISHED = HyperClovaRules(378, canvases(9, 378, has_one=True), Levels(HALF, HALF))
SIZES = [(28, 28), (57, 100), (100, 57), (84, 84), (1, 1), (3, 200), (200, 3), (13, 99)]


@functools.cache
def checkpoint() -> dict[str, Tensor]:
    """As the hub has it: SigLIP whole, with its head and its last layer, and a Llama."""
    torch.manual_seed(5)
    tower = SiglipVisionModel(SiglipVisionConfig(**TOWER))
    projector = CAbstractor(connector_config(CONFIG))
    language = LlamaForCausalLM(LlamaConfig(**TEXT))
    state = {f"vision_model.vision_model.{key}": one for key, one in tower.state_dict().items()}
    state["vision_model.vision_model.embeddings.position_ids"] = torch.arange(49)[None]
    state |= {f"mm_projector.{key}": one for key, one in projector.state_dict().items()}
    state |= {f"language_model.{key}": one for key, one in language.state_dict().items()}
    return {key: one.detach().clone() for key, one in (state | {"image_newline": torch.randn(OUT)}).items()}


@functools.cache
def sight() -> Sight:
    return Sight.filled(CONFIG, parted(checkpoint())[0], torch.float32, "card")


def picture(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(3).integers(0, 256, (height, width, 3), np.uint8)


def encoded(eyes: HyperClova, image: NDArray[np.uint8]) -> Tensor:
    with torch.inference_mode():
        return eyes.encode(torch.from_numpy(eyes.prepare(image))[None])[0]


def spread(values: NDArray[np.float32], count: int = 8) -> list[float]:
    return values.ravel()[np.linspace(0, values.size - 1, count).astype(int)].tolist()


def test_pixels_are_the_published_processors() -> None:
    found = HyperClova(sight(), RULES).prepare(picture(57, 100))
    assert found.shape == (9, 3, 28, 28)  # the whole picture, then two rows of four
    assert found.dtype == np.float32
    assert spread(found) == pytest.approx(
        [-0.003922, -0.686275, 0.105882, -0.435294, 0.011765, 0.584314, -0.490196, -0.003922], abs=1e-6
    )
    assert (float(found.mean()), float(found.std())) == pytest.approx((-0.000139, 0.41217), abs=1e-5)


def test_pixels_follow_mean_filter_and_canvases() -> None:
    rules = HyperClovaRules(28, canvases(9, 28, has_one=False), Levels(CLIP_MEAN, CLIP_STD, "bilinear"), 9, 9, 1)
    found = HyperClova(sight(), rules).prepare(picture(90, 40))
    assert found.shape == (9, 3, 28, 28)
    assert spread(found) == pytest.approx(
        [-0.011255, 0.718667, -0.011196, 0.325729, -0.361617, -0.011196, -1.039398, -0.001333], abs=1e-6
    )
    assert (float(found.mean()), float(found.std())) == pytest.approx((0.163289, 0.656574), abs=1e-5)


def test_the_whole_picture_comes_first_and_the_padding_is_grey() -> None:
    image = np.full((28, 56, 3), 255, np.uint8)
    tiles = HyperClova(sight(), RULES).prepare(image)
    assert tiles.shape == (3, 3, 28, 28)  # one row of two
    assert (tiles[0, :, 7:21] == 1).all()
    assert tiles[0, :, :7] == pytest.approx(127 / 255 * 2 - 1, abs=1e-6)
    assert tiles[0, :, 21:] == pytest.approx(127 / 255 * 2 - 1, abs=1e-6)
    assert (tiles[1:] == 1).all()


def test_tiles_lie_row_by_row() -> None:
    image = np.zeros((56, 84, 3), np.uint8)
    for row in range(2):
        for column in range(3):
            image[28 * row : 28 * row + 28, 28 * column : 28 * column + 28] = 40 * (3 * row + column)
    tiles = HyperClova(sight(), RULES).prepare(image)
    wanted = np.asarray([40 * number / 255 * 2 - 1 for number in range(6)])
    assert tiles.shape[0] == 7
    np.testing.assert_allclose(tiles[1:].min((1, 2, 3)), wanted, atol=1e-6)
    np.testing.assert_allclose(tiles[1:].max((1, 2, 3)), wanted, atol=1e-6)


@pytest.mark.parametrize(
    ("size_hw", "count"),
    [
        ((378, 378), 171),  # 81 + 9 lines of 9 and their ends
        ((100, 100), 171),
        ((480, 640), 347),
        ((640, 480), 351),
        ((1080, 1920), 675),
        ((720, 1280), 675),
        ((1134, 1134), 837),
        ((3000, 4000), 669),
        ((200, 1000), 221),
    ],
)
def test_published_counts_of_tokens(size_hw: tuple[int, int], count: int) -> None:
    assert HyperClova(sight(), PUBLISHED, "i").slot(size_hw) == "i" * count


def test_the_canvases_are_all_grids_of_at_most_nine() -> None:
    grids = [(height // 378, width // 378) for height, width in PUBLISHED.canvases]
    assert len(grids) == 23
    assert grids == sorted(
        {(rows, columns) for rows in range(1, 10) for columns in range(1, 10) if rows * columns <= 9}
    )
    assert canvases(9, 378, has_one=False) == PUBLISHED.canvases[1:]


def test_padding_is_taken_off_without_rounding() -> None:
    """410 * (9 / 246) is a little less than 15 in floating point. The published net takes 14 columns; transformers'
    LLaVA-NeXT, which rounds first, would take 16."""
    assert int(410 * (9 / 246)) == 14
    assert unpadded((246, 410), (9, 18)) == (9, 14)
    assert anyres.unpadded((246, 410), (9, 18)) == (9, 16)
    assert HyperClova(sight(), PUBLISHED, "i").slot((246, 410)).count("i") == 216
    assert HyperClova(sight(), PUBLISHED, "i").slot((792, 440)).count("i") == 486


@pytest.mark.parametrize("size_hw", SIZES)
@pytest.mark.parametrize("is_unpadded", [True, False])
def test_rows_are_as_many_as_image_tokens(size_hw: tuple[int, int], is_unpadded: bool) -> None:
    rules = HyperClovaRules(TILE, RULES.canvases, RULES.levels, 9, 9, 1, is_unpadded=is_unpadded)
    eyes = HyperClova(sight(), rules, "<i>")
    rows = encoded(eyes, picture(*size_hw))
    assert eyes.slot(size_hw) == "<i>" * len(eyes.packed(rows, size_hw))


def test_lines_run_over_tiles_and_end_with_the_learned_one() -> None:
    """Two tiles side by side of 3 x 3 tokens: three lines of six, each with its end, after the whole picture."""
    rows = torch.arange(27.0)[:, None].expand(27, OUT)
    packed = HyperClova(sight(), RULES).packed(rows, (28, 56))
    ends = [9 + 6, 9 + 13, 9 + 20]
    assert packed.shape == (9 + 21, OUT)
    torch.testing.assert_close(packed[ends], sight().image_newline.expand(3, -1))
    numbers = [number for number in range(30) if number not in ends]
    line = [9, 10, 11, 18, 19, 20]
    assert packed[numbers, 0].tolist() == [*range(9), *line, *(n + 3 for n in line), *(n + 6 for n in line)]


def test_padding_is_not_among_the_rows() -> None:
    """A picture of 9 x 84 lies on a row of three tiles: of its three lines of tokens the middle one is left."""
    eyes = HyperClova(sight(), RULES)
    rows = torch.arange(36.0)[:, None].expand(36, OUT)
    packed = eyes.packed(rows, (9, 84))
    assert packed.shape == (9 + 10, OUT)
    assert packed[9:18, 0].tolist() == [12, 13, 14, 21, 22, 23, 30, 31, 32]


def test_rows_are_those_of_the_whole_tower() -> None:
    """The tower that was cut off gives what transformers' whole SigLIP has in its last hidden state but one."""
    state = checkpoint()
    tower = SiglipVisionModel(SiglipVisionConfig(**TOWER)).eval()
    named = {key.removeprefix("vision_model.vision_model."): one for key, one in state.items()}
    tower.load_state_dict({key: named[key] for key in tower.state_dict()})
    projector = CAbstractor(connector_config(CONFIG)).eval()
    projector.load_state_dict({key: state[f"mm_projector.{key}"] for key in projector.state_dict()})
    eyes = HyperClova(sight(), RULES)
    pixels = torch.from_numpy(eyes.prepare(picture(57, 100)))
    with torch.inference_mode():
        seen = tower(pixels, output_hidden_states=True).hidden_states[-2]
        wanted = projector(seen).flatten(0, 1)
        found = eyes.encode(pixels[None])[0]
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
    assert float(wanted.std()) > 0.01


def test_pictures_do_not_depend_on_batch_mates() -> None:
    eyes = HyperClova(sight(), RULES)
    pixels = torch.from_numpy(np.stack([eyes.prepare(picture(57, 100)), eyes.prepare(picture(60, 100))]))
    with torch.inference_mode():
        together, alone = eyes.encode(pixels), torch.cat([eyes.encode(one[None]) for one in pixels])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)


def test_a_film_is_canvases_of_nine() -> None:
    """108 frames are 12 canvases of 81 + 8 * 9 tokens; with the words around them NAVER counts 1856."""
    frames = HyperClovaFrames(sight(), PUBLISHED, "v")
    assert frames.film_slot(108) == "v" * 12 * (81 + 8 * 9)
    assert frames.film_slot(108).count("v") == 1836
    assert frames.film_slot(1) == frames.slot((10, 10)) == "v" * 81
    assert frames.film_slot(10) == "v" * (81 + 8 * 9 + 81)
    ends = HyperClovaRules(378, PUBLISHED.canvases, PUBLISHED.levels, has_slow_ends=True)
    assert HyperClovaFrames(sight(), ends, "v").film_slot(20) == "v" * (2 * 81 + 18 * 9)
    assert HyperClovaFrames(sight(), ends, "v").film_slot(1) == "v" * 81


def test_a_film_has_slow_rows_at_slow_places() -> None:
    frames = HyperClovaFrames(sight(), RULES, "v")
    with torch.inference_mode():
        pixels = torch.stack([torch.from_numpy(frames.prepare(picture(30 + n, 50))) for n in range(CANVAS + 2)])
        rows = frames.encode(pixels)
        film = frames.film(rows)
    assert pixels.shape == (11, 3, 28, 28)
    assert rows.shape == (11, 9 + 1, OUT)
    assert len(film) == len(frames.film_slot(11)) == 9 + 8 + 9 + 1
    assert torch.equal(film[:9], rows[0, :9])
    assert torch.equal(film[9:17], rows[1:9, 9])
    assert torch.equal(film[17:26], rows[9, :9])
    assert torch.equal(film[26:], rows[10, 9:])
    assert torch.equal(frames.packed(rows[3], (33, 50)), rows[3])


def test_a_frame_is_the_whole_pictures_tile() -> None:
    frames, eyes = HyperClovaFrames(sight(), RULES), HyperClova(sight(), RULES)
    image = picture(57, 100)
    assert np.array_equal(frames.prepare(image), eyes.prepare(image)[0])
    with torch.inference_mode():
        slow = frames.encode(torch.from_numpy(frames.prepare(image))[None])[0, :9]
    torch.testing.assert_close(slow, encoded(eyes, image)[:9], rtol=1e-5, atol=1e-6)


def test_a_checkpoint_is_read_whole() -> None:
    """Every tensor of the published names has a home, but those after the layer that is read."""
    state = checkpoint()
    mine, words = parted(state)
    assert not mine.keys() & words.keys()
    assert len(mine) + len(words) == len(state)
    language = filled(LlamaForCausalLM, LlamaConfig(**TEXT), words, torch.float32, "card")
    assert torch.equal(language.lm_head.weight, state["language_model.lm_head.weight"])
    found = {f"language_model.{key}": one for key, one in language.state_dict().items()}
    found |= {
        key.replace("vision_model.", "vision_model.vision_model."): one for key, one in sight().state_dict().items()
    }
    left = {key for key in state if key not in found or not torch.equal(found[key], state[key])}
    unread = ("encoder.layers.2.", "head.", "post_layernorm.", "embeddings.position_ids")
    assert {key for key in left if not key.removeprefix("vision_model.vision_model.").startswith(unread)} == set()
    assert found.keys() <= state.keys()
    assert len(sight().vision_model.encoder.layers) == 2


def test_checkpoints_without_the_inner_prefix_are_read_too() -> None:
    state = {key.replace("vision_model.vision_model.", "vision_model."): one for key, one in checkpoint().items()}
    read = Sight.filled(CONFIG, parted(state)[0], torch.float32, "card")
    assert all(torch.equal(one, sight().state_dict()[key]) for key, one in read.state_dict().items())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"image_newline": None}, "missing .image_newline"),
        ({"mm_projector.pos_emb": torch.zeros(1, 48, WIDTH)}, "of another shape .mm_projector.pos_emb"),
        ({"vision_model.vision_model.encoder.layers.0.mlp.fc1.bias": None}, "missing .encoder.layers.0.mlp.fc1.bias"),
        ({"audio_model.conv.weight": torch.zeros(1)}, "left over .audio_model.conv.weight"),
    ],
)
def test_checkpoints_that_do_not_fit_are_refused(change: dict[str, Tensor | None], said: str) -> None:
    state = {key: one for key, one in (checkpoint() | change).items() if one is not None}
    with pytest.raises(BadWeights, match=f"card: the weights do not fit the net: 1 {said}"):
        Sight.filled(CONFIG, parted(state)[0], torch.float32, "card")


def test_the_first_revisions_configuration_is_read_as_well() -> None:
    old = {key: one for key, one in CONFIG.items() if not key.startswith(("num_queries", "text_config"))}
    old |= {"num_queries_vis_abstractor": 9, "language_config": TEXT}
    rules = HyperClovaRules.of(old, {"possible_resolutions": [[28, 56], [56, 28]], "image_mean": [0.1, 0.2, 0.3]})
    assert connector_config(old) == connector_config(CONFIG)
    assert (rules.queries, rules.slow, rules.fast) == (9, 81, 9)
    assert rules.canvases == ((28, 56), (56, 28))
    assert rules.levels == Levels((0.1, 0.2, 0.3), HALF)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"anyres": False}, "want anyres"),
        ({"mm_projector_type": "mlp"}, "mm_projector_type 'cabstractor'"),
        ({"num_queries_vis_abstractor_image": 8}, "want squares"),
        ({"possible_resolutions": [[28, 30]]}, "whole tiles of 28"),
    ],
)
def test_configurations_of_other_nets_are_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(BadWeights, match=said):
        HyperClovaRules.of(CONFIG | change, {})


@pytest.mark.parametrize(
    ("change", "layer", "said"),
    [
        ({"model_type": "dinov2"}, -2, "its vision tower is a 'dinov2'"),
        ({}, -4, "layer -4 of a vision tower that has 3"),
    ],
)
def test_towers_that_are_not_known_are_refused(change: dict[str, Any], layer: int, said: str) -> None:
    config = CONFIG | {"vision_config": TOWER | change, "use_nth_layer": layer}
    with pytest.raises(BadWeights, match=f"card: {said}"):
        Sight.filled(config, parted(checkpoint())[0], torch.float32, "card")


def test_bfloat16_sees_nearly_the_same() -> None:
    low = Sight.filled(CONFIG, parted(checkpoint())[0], torch.bfloat16, "card")
    assert {one.dtype for one in low.state_dict().values()} == {torch.bfloat16}
    image = picture(57, 100)
    found, wanted = encoded(HyperClova(low, RULES), image), encoded(HyperClova(sight(), RULES), image)
    assert found.dtype == torch.bfloat16
    assert float(torch.cosine_similarity(found.float().flatten(), wanted.flatten(), 0)) > 0.99
    assert HyperClova(low, RULES).packed(found, (57, 100)).dtype == torch.bfloat16
