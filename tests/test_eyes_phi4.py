"""Phi-4-multimodal: crops, masks and counts against the published rules, rows and logits against transformers' net, and
the adapter without which it sees little."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image as pillow
from torch import Tensor, nn
from transformers import DynamicCache, Phi4MultimodalConfig, Phi4MultimodalForCausalLM

from anmok.errors import BadRequest, BadWeights
from anmok.nets.adapters_in import folded, parted
from anmok.nets.eyes.phi4 import PHI4, Phi4, Phi4Rules, with_row_places
from battery import picture

SIZE, PATCH = 56, 14  # of the toy: crops of 4 x 4 patches, 2 x 2 tokens
TOKEN = "<|endoftext10|>"
NARROW = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4}
IMAGE = 90  # the image token
SMALL = Phi4Rules(SIZE, 6, PHI4.levels)


@cache
def net(attention: str = "sdpa") -> Any:
    vision = {**NARROW, "hidden_size": 16, "image_size": SIZE, "crop_size": SIZE, "patch_size": PATCH}
    audio = {"hidden_size": 16, "intermediate_size": 16, "num_blocks": 1, "num_attention_heads": 2}
    audio |= {"ext_pw_out_channel": 16, "depthwise_separable_out_channel": 16, "nemo_conv_channels": 8}
    config = Phi4MultimodalConfig(
        **NARROW,
        num_key_value_heads=2,
        vocab_size=100,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        vision_config={**vision, "image_token_id": IMAGE},
        audio_config={**audio, "audio_token_id": 91},
    )
    made: Any = Phi4MultimodalForCausalLM._from_config(config, attn_implementation=attention)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(0.0, 0.2, generator=generator)
    return made.eval()


def reference() -> Any:
    """The same with attention written out, which has no shortcut for pictures that fill their crops."""
    return net("eager")


def eyes() -> Phi4:
    return Phi4(net(), SMALL)


def full() -> Phi4:
    """With the published sizes, for what needs no net."""
    looker = Phi4(net(), PHI4)
    looker._side = 16
    return looker


# By a script of the rules in transformers' image_processing_phi4_multimodal.py, apart from ours: size (H, W) of the
# picture; crops, pixels and patches (rows, columns); tokens.
LAYOUTS = [
    ((448, 448), (1, 1), (448, 448), (32, 32), 545),
    ((480, 640), (2, 2), (672, 896), (48, 64), 1065),
    ((1080, 1920), (3, 5), (1260, 2240), (90, 160), 3918),
    ((100, 100), (1, 1), (448, 448), (32, 32), 545),
    ((3000, 4000), (3, 4), (1344, 1792), (96, 128), 3393),
    ((448, 449), (1, 2), (448, 449), (32, 33), 561),
    ((2000, 300), (5, 1), (2240, 336), (160, 24), 1313),
    ((600, 9000), (1, 15), (448, 6720), (32, 480), 4129),
    ((12000, 9000), (4, 3), (1792, 1344), (128, 96), 3409),
    ((64, 40), (1, 1), (448, 280), (32, 20), 449),
    ((10, 440), (1, 1), (10, 448), (1, 32), 290),
]


@pytest.mark.parametrize(("size_hw", "grid", "image", "patches", "tokens"), LAYOUTS)
def test_crops_patches_and_tokens_are_as_published(
    size_hw: tuple[int, int], grid: tuple[int, int], image: tuple[int, int], patches: tuple[int, int], tokens: int
) -> None:
    lay = full().layout(size_hw)
    assert (lay.grid_hw, lay.image_hw, lay.patches_hw) == (grid, image, patches)
    assert full().slot(size_hw) == TOKEN * tokens


def test_a_picture_has_at_most_36_crops() -> None:
    rng = np.random.default_rng(0)
    sizes = np.exp(rng.uniform(4, 9.5, (300, 2))).astype(int).tolist()
    crops = [full().layout((height, width)).crops for height, width in sizes if 0.03 < height / width < 30]
    assert max(crops) == 36
    assert min(crops) == 1


def test_what_is_too_thin_is_refused_in_one_line() -> None:
    with pytest.raises(BadRequest, match="a picture of 440 x 5 is too thin for this model: cut it into parts"):
        full().layout((5, 440))
    assert full().layout((1, 1)).image_hw == (448, 448)


class Published:
    """Pixels, mask and size of one picture as the published processor hands them to the net, by plain loops."""

    def __init__(self, image: NDArray[np.uint8], size: int, most: int) -> None:
        lay = Phi4(net(), Phi4Rules(size, most, PHI4.levels)).layout((image.shape[0], image.shape[1]))
        rows, columns = lay.grid_hw
        small = pillow.fromarray(image).resize(lay.image_hw[::-1], pillow.Resampling.BILINEAR)
        canvas = pillow.new("RGB", (columns * size, rows * size), (255, 255, 255))
        canvas.paste(small, (0, 0))
        numbers = (torch.from_numpy(np.asarray(canvas).copy()).permute(2, 0, 1).float() / 255 - 0.5) / 0.5
        tiles = [nn.functional.interpolate(numbers[None], (size, size), mode="bicubic", antialias=False)[0]]
        mask = torch.ones(rows * size // PATCH, columns * size // PATCH)
        low, right = ((rows * size - small.height) // PATCH, (columns * size - small.width) // PATCH)
        if low:
            mask[-low:] = 0
        if right:
            mask[:, -right:] = 0
        masks, side = [torch.ones(size // PATCH, size // PATCH)], size // PATCH
        for i in range(rows):
            for j in range(columns):
                tiles.append(numbers[:, i * size : (i + 1) * size, j * size : (j + 1) * size])
                masks.append(mask[i * side : (i + 1) * side, j * side : (j + 1) * side])
        self.pixels, self.mask = torch.stack(tiles), torch.stack(masks)  # (1 + crops, ...)
        self.size = torch.tensor([rows * size, columns * size])


def together(some: list[Published]) -> dict[str, Tensor]:
    """The inputs of one call of the net; what a picture has fewer crops is filled up."""
    most = max(len(one.pixels) for one in some)
    pixels = [torch.cat([one.pixels, torch.zeros(most - len(one.pixels), *one.pixels.shape[1:])]) for one in some]
    masks = [torch.cat([one.mask, torch.ones(most - len(one.mask), *one.mask.shape[1:])]) for one in some]
    sizes = torch.stack([one.size for one in some])
    return {
        "image_pixel_values": torch.stack(pixels),
        "image_attention_mask": torch.stack(masks),
        "image_sizes": sizes,
    }


SIZES = [(61, 83), (40, 30), (1, 1), (200, 35), (57, 113), (300, 400), (7, 301), (56, 112)]


@pytest.mark.parametrize("size_hw", [(61, 83), (480, 640), (300, 40)])
def test_pixels_are_those_of_the_published_arithmetic(size_hw: tuple[int, int]) -> None:
    image = picture(size_hw, 1)
    wanted = Published(image, 448, 36)
    tiles = torch.from_numpy(Phi4(net()).prepare(image))
    hidden = torch.isnan(tiles[:, 0, ::PATCH, ::PATCH])
    assert torch.equal(~hidden, wanted.mask.bool())
    assert torch.equal(torch.isnan(tiles).flatten(1).sum(1), hidden.flatten(1).sum(1) * PATCH**2 * 3)
    torch.testing.assert_close(torch.nan_to_num(tiles, nan=1.0), wanted.pixels, rtol=0, atol=3e-6)


def test_rows_are_those_of_the_net() -> None:
    """Several sizes in one call of the net, each by itself here, and two of as many crops but other shapes at once."""
    looker, images = eyes(), [picture(size_hw, seed) for seed, size_hw in enumerate(SIZES)]
    counts = [looker.slot(size_hw).count(TOKEN) for size_hw in SIZES]
    assert len(set(counts)) > 4
    ids = torch.full((1, sum(counts)), IMAGE)
    told = together([Published(image, SIZE, 6) for image in images])
    with torch.inference_mode():
        wanted = reference().model.embed_tokens_extend(ids, torch.zeros(1, len(ids[0]), 32), **told)[0].split(counts)
        for image, rows, size_hw in zip(images, wanted, SIZES, strict=True):
            seen = looker.encode(torch.from_numpy(looker.prepare(image)[None]))
            assert seen.shape[2] == 32
            torch.testing.assert_close(looker.packed(seen[0], size_hw), rows, rtol=0, atol=2e-5)
    assert wanted[0].std() > 0.1


def test_pictures_of_other_shapes_share_a_batch() -> None:
    """As many crops in other grids, with other parts hidden."""
    looker, sizes = eyes(), [(57, 100), (100, 57), (90, 60)]
    tiles = [looker.prepare(picture(size_hw, seed)) for seed, size_hw in enumerate(sizes)]
    assert {len(one) for one in tiles} == {5}
    assert len({looker.layout(size_hw).patches_hw for size_hw in sizes}) == 3
    with torch.inference_mode():
        batch = looker.encode(torch.from_numpy(np.stack(tiles)))
        for row, one in zip(batch, tiles, strict=True):
            alone = looker.encode(torch.from_numpy(one[None]))[0]
            torch.testing.assert_close(row, alone, rtol=0, atol=1e-5)


def test_patches_of_a_filled_crop_see_forwards_as_well() -> None:
    """Where nothing is hidden there is no mask, and transformers' own tower would then look backwards alone."""
    looker, size_hw = eyes(), (56, 112)
    tiles = torch.from_numpy(looker.prepare(picture(size_hw, 0))[None])
    assert not torch.isnan(tiles).any()
    changed = tiles.clone()
    changed[:, 1, :, -PATCH:, -PATCH:] += 1.0  # the last patch of the first crop
    with torch.inference_mode():
        rows, others = looker.encode(tiles)[0], looker.encode(changed)[0]
    moved = (rows - others).abs().amax(1).reshape(3, 2, 2)
    assert (moved[1] > 1e-3).all()
    assert (moved[[0, 2]] == 0).all()


def test_logits_with_our_rows_are_those_of_the_net_with_pixels() -> None:
    looker, image, size_hw = eyes(), picture((61, 83), 1), (61, 83)
    count = looker.slot(size_hw).count(TOKEN)
    ids = torch.cat([torch.arange(3, 9), torch.full((count,), IMAGE), torch.arange(20, 30)])[None]  # (1, S)
    with torch.inference_mode():
        wanted = reference()(input_ids=ids, **together([Published(image, SIZE, 6)])).logits
        embeds = net().get_input_embeddings()(ids)
        seen = looker.encode(torch.from_numpy(looker.prepare(image)[None]))[0]
        embeds[ids == IMAGE] = looker.packed(seen, size_hw)
        got = net()(inputs_embeds=embeds).logits
        blank = net()(input_ids=ids).logits
    torch.testing.assert_close(got, wanted, rtol=0, atol=5e-5)
    assert (blank - wanted).abs().max() > 0.05


def test_rules_are_read_from_the_processors_file() -> None:
    assert Phi4Rules.of({}) == PHI4
    published = {"dynamic_hd": 36, "size": {"height": 448, "width": 448}, "resample": 3, "image_mean": [0.5, 0.5, 0.5]}
    assert Phi4Rules.of(published) == PHI4
    assert Phi4Rules.of({"dynamic_hd": 12, "size": {"height": 224, "width": 224}}) == Phi4Rules(224, 12, PHI4.levels)


# Long conversations ----------------------------------------------------------------------------------------


def long_net(has_places: bool) -> Any:
    """Turns by other angles from the 17th token on, where the published net does from the 4,097th."""
    config = Phi4MultimodalConfig.from_dict(net().config.to_dict())
    config.max_position_embeddings, config.original_max_position_embeddings = 128, 16
    config.rope_parameters = {
        "rope_type": "longrope",
        "rope_theta": 10_000.0,
        "partial_rotary_factor": 1.0,
        "factor": 8.0,
        "original_max_position_embeddings": 16,
        "short_factor": [1.0] * 4,
        "long_factor": [4.0, 3.0, 2.0, 1.5],
    }
    made: Any = Phi4MultimodalForCausalLM(config).eval()
    made.load_state_dict(net().state_dict())
    if has_places:
        assert with_row_places(made) == with_row_places(made) == 16
    return made


def beside(made: Any, short: Tensor, long: Tensor) -> Tensor:
    """Logits (V) after the shorter of two prompts that are read together."""
    gap = long.shape[1] - short.shape[1]
    ids = torch.cat([nn.functional.pad(short, (gap, 0)), long])  # (2, T)
    there = torch.ones_like(ids)
    there[0, :gap] = 0
    places = (there.cumsum(1) - 1).clamp(min=0)
    with torch.inference_mode():
        last: Tensor = made(ids, attention_mask=there, position_ids=places).logits[0, -1]
    return last


def test_a_long_prompt_beside_it_moves_no_answer() -> None:
    short, long = torch.arange(3, 15)[None], torch.arange(20, 44)[None]
    theirs, ours = long_net(has_places=False), long_net(has_places=True)
    for ids in (short, long):
        with torch.inference_mode():
            torch.testing.assert_close(ours(ids).logits, theirs(ids).logits, rtol=0, atol=1e-5)
    with torch.inference_mode():
        alone = theirs(short).logits[0, -1]
    torch.testing.assert_close(beside(ours, short, long), alone, rtol=0, atol=1e-5)
    assert (beside(theirs, short, long) - alone).abs().max() > 1e-3  # why it has to be done


def test_what_grows_past_the_bound_has_to_be_read_anew() -> None:
    made, ids = long_net(has_places=True), torch.arange(3, 23)[None]
    cache = DynamicCache(config=made.config)
    with torch.inference_mode():
        wanted = [made(ids[:, :end]).logits[0, -1] for end in range(14, 21)]
        got = [made(ids[:, :14], cache=cache).logits[0, -1]]
        for end in range(15, 21):
            place = torch.tensor([[end - 1]])
            got.append(made(ids[:, end - 1 : end], position_ids=place, cache=cache).logits[0, -1])
    away = [float((a - b).abs().max()) for a, b in zip(got, wanted, strict=True)]
    assert max(away[:3]) < 1e-5  # 14, 15 and 16 tokens
    assert min(away[3:]) > 1e-3
    assert with_row_places(net()) == 0


# The adapter -----------------------------------------------------------------------------------------------

TARGETS = r".*layers\.\d+\.(self_attn\.(qkv_proj|o_proj)|mlp\.(gate_up_proj|down_proj))"
PLAIN = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "bias": "none"}


def matrices(rank: int = 4) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A layer (6, 5) and one that is left alone; and the first one's adapter."""
    generator = torch.Generator().manual_seed(0)
    state = {"a.weight": torch.randn(6, 5, generator=generator), "b.weight": torch.randn(3, 5, generator=generator)}
    low = torch.randn(rank, 5, generator=generator)
    high = torch.randn(6, rank, generator=generator)
    prefix = "base_model.model.a"
    return state, {f"{prefix}.lora_A.weight": low, f"{prefix}.lora_B.weight": high}


@pytest.mark.parametrize(("config", "scale"), [(PLAIN, 2.0), ({**PLAIN, "use_rslora": True}, 4.0)])
def test_an_adapter_is_added_to_its_weights(config: dict[str, Any], scale: float) -> None:
    state, adapter = matrices()
    before = state["a.weight"].clone()
    whole = folded(state, adapter, config, "phi")
    low, high = adapter.values()
    torch.testing.assert_close(whole["a.weight"], before + scale * (high @ low), rtol=0, atol=1e-6)
    assert whole["b.weight"] is state["b.weight"]
    assert torch.equal(state["a.weight"], before)
    half = folded({key: one.bfloat16() for key, one in state.items()}, adapter, config, "phi")["a.weight"]
    assert half.dtype == torch.bfloat16
    assert torch.equal(half, (before.bfloat16().float() + scale * (high @ low)).bfloat16())


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # peft's old name
def test_a_net_with_its_adapter_folded_in_equals_peft() -> None:
    """All the layers that the published ``vision-lora`` changes, through peft's own files."""
    import peft

    source = Phi4MultimodalForCausalLM(net().config).eval()
    source.load_state_dict(net().state_dict())
    with_lora: Any = peft.get_peft_model(source, peft.LoraConfig(r=4, lora_alpha=8, target_modules=TARGETS))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in with_lora.named_parameters():
            if "lora_" in name:
                parameter.normal_(0.0, 0.2, generator=generator)
    ids = torch.arange(3, 40)[None]
    config = json.loads(json.dumps(with_lora.peft_config["default"].to_dict(), default=list))
    adapter = peft.get_peft_model_state_dict(with_lora)
    assert len(adapter) == 2 * 4 * 3
    plain = Phi4MultimodalForCausalLM(net().config).eval()
    plain.load_state_dict(folded(net().state_dict(), adapter, config, "phi"))
    with torch.inference_mode():
        wanted, got, bare = with_lora(input_ids=ids).logits, plain(ids).logits, net()(ids).logits
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-4)
    assert (bare - wanted).abs().max() > 0.1


def test_a_checkpoint_that_holds_its_adapters_is_taken_apart() -> None:
    state, adapter = matrices()
    low, high = adapter.values()
    held = {
        "a.base_layer.weight": state["a.weight"],
        "a.lora_A.vision.weight": low,
        "a.lora_B.vision.weight": high,
        "a.lora_A.speech.weight": torch.ones(7, 5),
        "a.lora_B.speech.weight": torch.ones(6, 7),
        "b.weight": state["b.weight"],
    }
    weights, own = parted(held, "vision")
    assert set(weights) == {"a.weight", "b.weight"}
    assert set(own) == {"a.lora_A.vision.weight", "a.lora_B.vision.weight"}
    whole = folded(weights, own, PLAIN, "phi")
    torch.testing.assert_close(whole["a.weight"], folded(state, adapter, PLAIN, "phi")["a.weight"], rtol=0, atol=0)
    with pytest.raises(BadWeights, match="the adapter that belongs to these weights is missing"):
        folded(*parted({"a.weight": state["a.weight"]}, "vision"), PLAIN, "phi")


def test_an_adapter_that_is_missing_or_does_not_fit_is_refused() -> None:
    state, adapter = matrices()
    (first, low), (second, high) = adapter.items()
    faults: list[tuple[dict[str, Tensor] | None, dict[str, Any], str]] = [
        (None, PLAIN, "phi: the adapter that belongs to these weights is missing: fetch its folder as well"),
        ({}, PLAIN, "is missing"),
        ({first: low}, PLAIN, "has half of what it does to a"),
        (
            {first: low, second: high[:5]},
            PLAIN,
            r"a: an adapter of \(5, 4\) and \(4, 5\) does not fit weights \(6",
        ),
        ({first: low, second: high}, {**PLAIN, "r": 3}, "does not fit weights"),
        ({first.replace("a.", "c."): low, second.replace("a.", "c."): high}, PLAIN, "changes c, which these weights"),
        (
            {**adapter, "base_model.model.a.bias": low[0]},
            PLAIN,
            "model.a.bias, which is no matrix of a LoRA",
        ),
        (adapter, {**PLAIN, "use_dora": True}, "another sort of adapter"),
        (adapter, {**PLAIN, "bias": "all"}, "another sort of adapter"),
        (adapter, {**PLAIN, "rank_pattern": {"a": 2}}, "another sort of adapter"),
        (adapter, {"peft_type": "LORA"}, "has no r or no lora_alpha"),
    ]
    for given, config, message in faults:
        with pytest.raises(BadWeights, match=message):
            folded(state, given, config, "phi")
