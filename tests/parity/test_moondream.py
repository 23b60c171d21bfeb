"""Moondream 2 against the published code: vikhyat/moondream at 44146f1, moondream/torch, in float32.

That code was run once on weights and pictures that a formula gives (``noise``, ``picture``), with Pillow where it has a
choice. What it made of them stands here in numbers.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from anmok import geometry
from anmok.geometry import Pixels
from anmok.inputs import Encoded, Prompted
from anmok.models.moondream import Moondream
from anmok.nets import moondream as net
from anmok.nets import moondream_names, moondream_tiles
from anmok.nets.moondream import Config, Places, Sight, Speech
from anmok.nets.moondream_mind import CODEGEN, STARMIE, Phrases, TorchMind, places
from anmok.nets.moondream_tiles import Cutting
from anmok.tasks import Gaze, Pointing, Setup, TextRules
from anmok.wording import Reader

HALF = (0.5, 0.5, 0.5)
PIXELS = Pixels(378, "squash", "lanczos", HALF, HALF)
CONFIG = Config(
    Sight(width=16, depth=27, heads=2, hidden=24, inner=24, cutting=Cutting(most=4)),
    Speech(width=128, depth=2, heads=2, hidden=192, vocabulary=300),
    Places(coordinate=16, bins=64, size=16, sizes=2048, inner=24),
)
QUESTION = (1, 15, 2, 30, 40, 50, 3, 3)
DETECT, POINT = (1, 16, 17, 2), (1, 18, 2)
SMALL, LARGE = (300, 500), (700, 900)  # pictures: one tile, and several


def noise(count: int, seed: int) -> NDArray[np.float64]:
    """(count,) in -1..1: a hash of whole numbers, the same everywhere."""
    x = np.arange(count, dtype=np.uint64) * np.uint64(2654435761) + np.uint64(seed * 40503 + 12345)
    x &= np.uint64(0xFFFFFFFF)
    for shift in (15, 13):
        x ^= x >> np.uint64(shift)
        x = (x * np.uint64(2246822519)) & np.uint64(0xFFFFFFFF)
    return x.astype(np.float64) / 2**31 - 1


def weight(name: str, shape: tuple[int, ...]) -> Tensor:
    x = noise(int(np.prod(shape)), sum(ord(letter) * (i + 1) for i, letter in enumerate(name))).reshape(shape)
    if len(shape) == 1:
        return torch.from_numpy(0.1 * x + name.endswith("weight")).float()
    is_plain = "features" in name or name.endswith(("pos_emb", "wte"))
    return torch.from_numpy((1.0 if is_plain else 3.0 / np.sqrt(shape[-1])) * x).float()


def picture(size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    y, x = np.mgrid[: size_hw[0], : size_hw[1]]
    return np.stack([(x * 3 + y) % 256, (x + y * 2 + 17) % 256, (x * y // 7) % 256], -1).astype(np.uint8)


def letters(text: str) -> tuple[int, ...]:
    """The stand-in for a tokenizer that theirs was run with."""
    return tuple(20 + byte % 250 for byte in text.encode())


@functools.cache
def state() -> dict[str, Tensor]:
    with torch.device("meta"):
        shapes = {name: tuple(one.shape) for name, one in net.Moondream(CONFIG).state_dict().items()}
    return {f"model.{name}": weight(name, shape) for name, shape in shapes.items()}


@functools.cache
def mind() -> TorchMind:
    return TorchMind(moondream_names.filled(CONFIG, state(), torch.float32, "t"), "cpu", torch.float32)


@functools.cache
def rows(size_hw: tuple[int, int]) -> NDArray[np.float32]:
    canvas = geometry.normalise(mind().canvas(picture(size_hw)), PIXELS)
    found: NDArray[np.float32] = mind().see(canvas[None])[0]  # (729, 128)
    return found


def said(memory: Any, prompt: tuple[int, ...], count: int) -> list[int]:
    """The likeliest tokens, one after the other; the mark of an answer is barred after the first."""
    logits, _ = mind().read(memory, mind().words(prompt))
    found = [int(logits.argmax())]
    while len(found) < count:
        logits, _ = mind().read(memory, mind().words(found[-1:]))
        logits[3] = -np.inf
        found.append(int(logits.argmax()))
    return found


# Rows 0, 400 and 728 of the picture, three numbers each, and the mean of all without their signs.
ROWS = {
    SMALL: ([-0.06181, 0.125339, 0.258923, 0.013016, -0.107147, 0.963476, -0.734631, 2.434147, -2.356595], 1.603693),
    LARGE: ([-0.156611, 0.299818, -0.054915, 0.238614, 0.672598, -0.945317, 0.354216, -0.780142, 1.702183], 1.684433),
}
LOGITS = {  # of tokens 0, 1, 77, 150 and 299 after the question, and what is said then
    SMALL: (
        [1.155574, 2.484056, 0.285854, -1.673325, -0.072897],
        [16, 76, 72, 72, 43, 295, 72, 43, 295, 61, 72, 43],
    ),
    LARGE: (
        [1.828143, 3.103802, 0.104554, -1.131344, 0.414794],
        [16, 76, 72, 72, 72, 72, 72, 72, 72, 94, 72, 43],
    ),
}
BOXES = {
    SMALL: [
        [0.858053, 0.135534, 0.860697, 0.145716],
        [0.689434, 0.135534, 0.716816, 0.145716],
        [0.701803, 0.135534, 0.704447, 0.145716],
        [0.689434, 0.135534, 0.716816, 0.145716],
    ],
    LARGE: [[0.858053, 0.135534, 0.860697, 0.145716], *[[0.689434, 0.135534, 0.716816, 0.145716]] * 3],
}
POINTS = {
    SMALL: [(0.546875, 0.140625), (0.703125, 0.140625), (0.703125, 0.140625), (0.671875, 0.140625)],
    LARGE: [(0.859375, 0.140625), (0.859375, 0.140625), (0.671875, 0.140625), (0.671875, 0.140625)],
}
BOTH = pytest.mark.parametrize("size_hw", [SMALL, LARGE], ids=["one tile", "many tiles"])


@BOTH
def test_rows_of_a_picture_equal_the_reference(size_hw: tuple[int, int]) -> None:
    wanted, mean = ROWS[size_hw]
    np.testing.assert_allclose(rows(size_hw)[[0, 400, 728], :3].ravel(), wanted, rtol=1e-4, atol=1e-5)
    assert np.abs(rows(size_hw)).mean() == pytest.approx(mean, rel=1e-5)


@BOTH
def test_answers_equal_the_reference(size_hw: tuple[int, int]) -> None:
    memory = mind().begin(0, rows(size_hw))
    assert mind().length(memory) == 730
    wanted, tokens = LOGITS[size_hw]
    logits, _ = mind().read(mind().copied(memory, 8), mind().words(QUESTION))
    np.testing.assert_allclose(logits[[0, 1, 77, 150, 299]], wanted, rtol=1e-4, atol=1e-5)
    assert said(mind().copied(memory, 0), QUESTION, 12) == tokens


def test_answers_without_a_picture_equal_the_reference() -> None:
    memory = mind().begin(0, None)
    assert said(memory, QUESTION, 12) == [125, 119, 96, 125, 215, 84, 100, 125, 216, 101, 241, 96]


@BOTH
def test_places_equal_the_reference(size_hw: tuple[int, int]) -> None:
    memory = mind().begin(0, rows(size_hw))
    boxes = mind().words((*DETECT, *letters(" cat"), 3))
    found = places(mind(), mind().copied(memory, 0), boxes, 0, 4, has_size=True)
    corners = [
        (one.x - one.width / 2, one.y - one.height / 2, one.x + one.width / 2, one.y + one.height / 2) for one in found
    ]
    np.testing.assert_allclose(corners, BOXES[size_hw], rtol=0, atol=1e-6)
    points = mind().words((*POINT, *letters(" cat"), 3))
    found = places(mind(), mind().copied(memory, 0), points, 0, 4, has_size=False)
    assert [(one.x, one.y) for one in found] == POINTS[size_hw]


GAZES = {  # from an eye there to
    SMALL: {
        (0.0, 0.125): (0.375, 0.53125),
        (0.0, 0.5): (0.859375, 0.140625),
        (0.5, 0.0): (0.546875, 0.140625),
        (0.25, 0.5): (0.859375, 0.140625),
    },
    LARGE: {(0.0, 0.125): (0.546875, 0.140625), (0.25, 0.5): (0.859375, 0.140625)},
}


class Letters(Reader):
    """A tokenizer that is theirs' stand-in."""

    def __init__(self) -> None:
        pass

    def id_of(self, token: str) -> int:
        return 0

    def ids(self, spans: Any) -> list[int]:
        return [one for span in spans for one in letters(span.text)]


def model_of(size_hw: tuple[int, int]) -> tuple[Moondream, Encoded]:
    """The family's own file on that net, and what it sees of the picture."""
    phrases = Phrases(0, 0, 3, ((1, 15, 2), (3, 3)), {}, (DETECT, (3,)), (POINT, (3,)))
    setup = Setup("t", "2b", PIXELS, TextRules(), "softmax", ("en",))
    model = Moondream(setup, mind(), Letters(), phrases)
    state = Encoded("t", {"rows": rows(size_hw)}, model.prepare(np.zeros((*size_hw, 3), np.uint8)).frame)
    return model, state


@BOTH
def test_points_equal_the_reference_in_pixels(size_hw: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anmok.models.moondream.MOST", 4)  # theirs was asked for so many
    model, state = model_of(size_hw)
    [found] = model.point([state], Pointing(("cat",)))
    height, width = size_hw
    # Theirs are shares of the picture, in the order of the walk; ours are pixels, the surest first.
    wanted = np.asarray([(x * width, y * height) for x, y in POINTS[size_hw]], np.float32)  # (4, 2)
    assert sorted(map(tuple, found.xy.tolist())) == sorted(map(tuple, wanted.tolist()))
    assert (np.diff(found.scores) <= 0).all()


@BOTH
def test_a_gaze_equals_the_reference(size_hw: tuple[int, int]) -> None:
    model, state = model_of(size_hw)
    height, width = size_hw
    # Theirs takes the place of the eye in bfloat16, which holds these exactly.
    for (x, y), (right, down) in GAZES[size_hw].items():
        [found] = model.gaze([Prompted(state, points=((x * width, y * height, 1),))], Gaze())
        assert found.targets[0].tolist() == pytest.approx((right * width, down * height))
        assert found.is_inside.tolist() == [True]


# Of 4 x 14 pixels of overlap and 12 tiles at most: the tiling; three sums over the levels of the whole and the tiles,
# of the whole and the last tile with weights 1, 2 ... 97, 1, 2 ..., and of all.
CROPS = {
    (1, 1): ((1, 1), 119020128, 119020128, 4858056),
    (300, 500): ((1, 1), 2662019245, 2662019245, 108651230),
    (378, 379): ((1, 1), 2660779831, 2660779831, 108528660),
    (379, 380): ((3, 3), 2660683029, 2633601074, 541482228),
    (645, 645): ((3, 3), 2669408480, 2676491408, 544888460),
    (700, 900): ((3, 4), 2673130822, 2681401437, 708806526),
    (1000, 400): ((6, 2), 2673026014, 2684341884, 708959275),
    (391, 2000): ((1, 6), 2670635166, 2674228612, 381599611),
    (1200, 1500): ((3, 3), 2673992899, 2676782613, 545581588),
    (2500, 390): ((7, 1), 2672730888, 2673507571, 436323882),
    (5000, 400): ((10, 1), 2673309448, 2667361835, 599916084),
}


@pytest.mark.parametrize("size_hw", CROPS, ids=lambda size: "x".join(map(str, size)))
def test_pictures_are_cut_as_published(size_hw: tuple[int, int]) -> None:
    tiling, first, last, total = CROPS[size_hw]
    cutting = Cutting()
    assert moondream_tiles.tiling(size_hw, cutting) == tiling
    canvas = torch.tensor(moondream_tiles.canvas(picture(size_hw), cutting)).permute(2, 0, 1)[None]
    whole, tiles = moondream_tiles.tiles(canvas, cutting)
    assert tiles.shape == (1, *tiling, 3, 378, 378)
    each = [one.permute(1, 2, 0).numpy().astype(np.int64) for one in (whole[0], *tiles.flatten(0, 2))]
    weights = (np.arange(each[0].size) % 97 + 1).reshape(each[0].shape)
    assert int((each[0] * weights).sum()) == first
    assert int((each[-1] * weights).sum()) == last
    assert sum(int(one.sum()) for one in each) == total


# Every kind of name in moondream/torch/weights.py, with the name that it has today.
OLDER = {
    "vision_encoder.encoder.model.visual.patch_embed.linear.{}": "vision.patch_emb.{}",
    "vision_encoder.encoder.model.visual.norm.{}": "vision.post_ln.{}",
    "vision_encoder.encoder.model.visual.blocks.N.norm1.{}": "vision.blocks.N.ln1.{}",
    "vision_encoder.encoder.model.visual.blocks.N.norm2.{}": "vision.blocks.N.ln2.{}",
    "vision_encoder.encoder.model.visual.blocks.N.attn.qkv.{}": "vision.blocks.N.attn.qkv.{}",
    "vision_encoder.encoder.model.visual.blocks.N.attn.proj.{}": "vision.blocks.N.attn.proj.{}",
    "vision_encoder.encoder.model.visual.blocks.N.mlp.fc1.{}": "vision.blocks.N.mlp.fc1.{}",
    "vision_encoder.encoder.model.visual.blocks.N.mlp.fc2.{}": "vision.blocks.N.mlp.fc2.{}",
    "vision_encoder.projection.mlp.fc1.{}": "vision.proj_mlp.fc1.{}",
    "vision_encoder.projection.mlp.fc2.{}": "vision.proj_mlp.fc2.{}",
    "text_model.transformer.h.N.ln.{}": "text.blocks.N.ln.{}",
    "text_model.transformer.h.N.mixer.Wqkv.{}": "text.blocks.N.attn.qkv.{}",
    "text_model.transformer.h.N.mixer.out_proj.{}": "text.blocks.N.attn.proj.{}",
    "text_model.transformer.h.N.mlp.fc1.{}": "text.blocks.N.mlp.fc1.{}",
    "text_model.transformer.h.N.mlp.fc2.{}": "text.blocks.N.mlp.fc2.{}",
    "text_model.lm_head.ln.{}": "text.post_ln.{}",
    "text_model.lm_head.linear.{}": "text.lm_head.{}",
    "region_model.coordinate_encoder.{}": "region.coord_encoder.{}",
    "region_model.coordinate_decoder.fc1.{}": "region.coord_decoder.fc1.{}",
    "region_model.coordinate_decoder.fc2.{}": "region.coord_decoder.fc2.{}",
    "region_model.size_encoder.{}": "region.size_encoder.{}",
    "region_model.size_decoder.fc1.{}": "region.size_decoder.fc1.{}",
    "region_model.size_decoder.fc2.{}": "region.size_decoder.fc2.{}",
}
SINGLE = {
    "vision_encoder.encoder.model.visual.pos_embed": "vision.pos_emb",
    "text_model.transformer.embd.wte.weight": "text.wte",
    "region_model.coordinate_features.weight": "region.coord_features",
    "region_model.size_features.weight": "region.size_features",
}


def older(config: Config) -> dict[str, str]:
    """The whole table for a net: older names, today's."""
    names = dict(SINGLE)
    for theirs, ours in OLDER.items():
        count = config.sight.depth if ours.startswith("vision") else config.speech.depth
        for number in range(count if ".N." in ours else 1):
            for part in ("weight", "bias"):
                old, new = (one.replace(".N.", f".{number}.").format(part) for one in (theirs, ours))
                names[old] = new
    return names


@pytest.mark.parametrize("mark", ["", "._orig_mod"], ids=["plain", "compiled"])
def test_the_older_names_fill_the_net(mark: str) -> None:
    wanted = {name.removeprefix("model."): tensor for name, tensor in state().items()}
    given = {
        name.replace("_model", f"_model{mark}") if mark else name: wanted[ours].T
        if ours.endswith("features")
        else wanted[ours]
        for name, ours in older(CONFIG).items()
    }
    assert len(given) == len(wanted)
    found = moondream_names.filled(CONFIG, given, torch.float32, "t").state_dict()
    for name, tensor in wanted.items():
        assert torch.equal(found[name], tensor), name


def written(folder: Path, tensors: dict[str, Tensor], tokenizer: dict[str, int]) -> Setup:
    """Files as they are published, of a net at toy size."""
    from tokenizers import Tokenizer, decoders, models

    said = {
        "vision": {"enc_dim": 32, "enc_n_layers": 2, "enc_n_heads": 2, "enc_ff_dim": 48, "proj_inner_dim": 64},
        "text": {"dim": 64, "n_layers": 2, "n_heads": 2, "ff_dim": 96, "vocab_size": 320, "max_context": 512},
        "region": {
            "coord_feat_dim": 16,
            "coord_out_dim": 64,
            "size_feat_dim": 16,
            "size_out_dim": 128,
            "inner_dim": 48,
        },
    }
    said["vision"] |= {"crop_size": 84, "overlap_margin": 1}
    (folder / "config.json").write_text(json.dumps({"model_type": "moondream1", "config": said}), encoding="utf-8")
    made = Tokenizer(models.BPE(tokenizer, []))
    made.decoder = decoders.ByteLevel()
    made.save(str(folder / "tokenizer.json"))
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors")
    files = {path.name: path for path in folder.iterdir()}
    return Setup("moondream2", "2b", PIXELS, TextRules(), "softmax", ("en",), files=files)


def test_each_layout_goes_with_its_own_tokenizer(tmp_path: Path) -> None:
    from anmok.errors import BadWeights

    torch.manual_seed(0)
    toy = net.Moondream(net.TINY)
    new = toy.state_dict()
    old = {name: new[ours].T if ours.endswith("features") else new[ours] for name, ours in older(net.TINY).items()}
    end = {"<|endoftext|>": 0} | {chr(97 + i): i + 1 for i in range(26)}
    stale = {f"x{i}": i for i in range(50256)} | {"<|endoftext|>": 50256}
    for name, tensors, tokenizer, phrases in (("new", new, end, STARMIE), ("old", old, stale, CODEGEN)):
        (tmp_path / name).mkdir()
        model = Moondream.from_files(written(tmp_path / name, tensors, tokenizer))
        assert model._phrases is phrases
        assert model.encode(np.zeros((1, 3, 84, 84), np.float32))["rows"].shape == (1, 36, 64)
        assert model.nbytes == sum(one.numel() * 4 for one in new.values())
        other = end if tokenizer is stale else stale
        (tmp_path / f"{name} mixed").mkdir()
        with pytest.raises(BadWeights, match="tokenizer.json is not the one that the weights go with"):
            Moondream.from_files(written(tmp_path / f"{name} mixed", tensors, other))
