"""Patches of every family that shows them, a model with a memory, and the memory as a folder."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import anmok
from anmok import draw
from anmok.errors import BadData, BadRequest, BadWeights, Unsupported, WrongState
from anmok.inspecting import limit, remember
from anmok.load import Bank, load, tiny
from anmok.results import AnomalyMap
from anmok.tasks import Inspect
from drawn_parts import array, part

RNG = np.random.default_rng(0)
GOOD = [array(part(np.random.default_rng(seed))[0]) for seed in range(12)]


def bank(model: anmok.Model, size: int = 0, method: str = "nearest") -> Bank:
    close = model.inspector(size)
    patches = [state.maps["patches"] for state in close.encode(GOOD)]
    memory = remember(patches[:6], method, seed=0)  # type: ignore[arg-type]
    normals = np.sort([memory.judge(one).score for one in patches[6:]])
    return Bank(model.card.name, model.maker, close.card.pixels.size, memory, 6, limit(normals, 0.2), normals)


@pytest.mark.parametrize(
    ("name", "grid", "channels"),
    [
        ("efficientnet-lite2", (33, 33), None),
        ("dinov2-s14", None, 32),
        ("dinov2-s14-reg", None, 32),
        ("dinov3-s16", None, 32),
        ("dinov3-convnext-tiny", None, 32),
        ("clip-b32", (4, 4), 32),
        ("clip-rn50", (28, 28), 96),
        ("mini", (33, 33), None),
        ("fake", (16, 16), 3),
    ],
)
def test_families_show_patches_and_the_same_features(
    name: str, grid: tuple[int, int] | None, channels: int | None
) -> None:
    model = tiny(name)
    side = model.card.pixels.size
    batch = np.random.default_rng(1).normal(size=(3, 3, side, side)).astype(np.float32)
    maps = model.kind.patches(batch)
    rows, columns = maps["patches"].shape[1:3]
    assert (rows, columns) == (grid or (rows, rows))
    assert rows > 1
    assert channels in (None, maps["patches"].shape[3])
    np.testing.assert_allclose(maps["features"], model.kind.encode(batch)["features"], rtol=1e-5, atol=1e-5)
    alone = np.concatenate([model.kind.patches(batch[i : i + 1])["patches"] for i in range(3)])
    np.testing.assert_allclose(maps["patches"], alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["efficientnet-lite2", "dinov2-s14", "clip-b32", "fake"])
def test_a_patch_lies_where_its_pixels_do(name: str) -> None:
    """What changes in one corner of the picture changes that corner of the map most, in all four."""
    model = tiny(name)
    side = model.card.pixels.size
    plain = np.zeros((1, 3, side, side), np.float32)
    before = model.kind.patches(plain)["patches"][0]
    for top in (0, 1):
        for left in (0, 1):
            other = plain.copy()
            rows = slice(0, side // 4) if top == 0 else slice(-(side // 4), None)
            columns = slice(0, side // 4) if left == 0 else slice(-(side // 4), None)
            other[:, :, rows, columns] = RNG.normal(size=(1, 3, side // 4, side // 4)) * 3
            moved = np.abs(model.kind.patches(other)["patches"][0] - before).sum(2)
            half = moved.shape[0] // 2
            quarters = [moved[:half, :half], moved[:half, -half:], moved[-half:, :half], moved[-half:, -half:]]
            assert int(np.argmax([one.mean() for one in quarters])) == 2 * top + left


def test_the_cells_of_a_convolutional_net_average_to_its_features() -> None:
    batch = np.random.default_rng(1).normal(size=(2, 3, 96, 96)).astype(np.float32)
    maps = tiny("efficientnet-lite2").kind.patches(batch)
    assert maps["cells"].shape[:3] == (2, 3, 3)
    assert maps["patches"].shape[:3] == (2, 12, 12)
    np.testing.assert_allclose(maps["cells"].mean((1, 2)), maps["features"], atol=1e-6)


def test_a_larger_canvas_gives_finer_patches() -> None:
    assert tiny("fake").inspector(64).encode(GOOD[:1])[0].maps["patches"].shape == (32, 32, 3)
    assert tiny("dinov2-s14").inspector(280).encode(GOOD[:1])[0].maps["patches"].shape[:2] == (20, 20)
    assert tiny("clip-b32").inspector(256).encode(GOOD[:1])[0].maps["patches"].shape[:2] == (4, 4)
    with pytest.raises(BadRequest, match="between 32 and 1024"):
        tiny("fake").inspector(5000)


@pytest.mark.parametrize("method", ["nearest", "coreset"])
def test_a_flaw_is_found_where_it_was_drawn(method: str) -> None:
    model = tiny("fake")
    inspector = model.inspector(bank=bank(model, 64, method))
    picture, mask = part(np.random.default_rng(99), "blob")
    [good, bad] = inspector.run([GOOD[8], array(picture)], Inspect())
    assert bad.size_hw == (96, 96)
    assert array(mask)[bad.peak_xy[1], bad.peak_xy[0]] == 255
    assert bad.score > 2 * good.score
    assert (good.is_strange, bad.is_strange) == (False, True)
    assert bad.p_value == pytest.approx(1 / 7)
    assert inspector.run([array(picture)], Inspect(threshold=1e9))[0].is_strange is False


def test_a_model_with_a_memory_answers_nothing_else_and_refuses_strange_states() -> None:
    model = tiny("fake")
    inspector = model.inspector(bank=bank(model))
    with pytest.raises(Unsupported, match="does not classify"):
        inspector.classify(GOOD[0], ["a", "b"])
    with pytest.raises(WrongState, match="made by"):
        inspector.run(model.encode(GOOD[:1]), Inspect())
    with pytest.raises(Unsupported, match="does not inspect"):
        model.inspect(GOOD[0])
    with pytest.raises(WrongState, match="holds patches of"):
        tiny("fake-sigmoid").inspector(bank=bank(model))
    with pytest.raises(Unsupported, match="shows no patches"):
        tiny("fake-places").inspector()
    with pytest.raises(BadRequest, match="threshold -1"):
        Inspect(threshold=-1)


def test_alone_or_in_a_batch_of_other_sizes() -> None:
    model = tiny("fake")
    inspector = model.inspector(bank=bank(model))
    pictures = [*GOOD[:3], GOOD[3][:50, :31], np.full((1, 1, 3), 7, np.uint8)]
    together = inspector.run(pictures, Inspect())
    for picture, one in zip(pictures, together, strict=True):
        alone = inspector.inspect(picture)
        assert one.size_hw == picture.shape[:2]
        assert one.score == pytest.approx(alone.score, abs=1e-6)
        np.testing.assert_allclose(one.map, alone.map, atol=1e-6)


@pytest.mark.parametrize("has_ground", [False, True])
def test_a_memory_survives_its_folder(tmp_path: Path, has_ground: bool) -> None:
    model = load("fake")
    kept = bank(model, 64)
    if has_ground:
        from anmok.inspecting import Foreground

        ground = Foreground(np.full(3, 0.1, np.float32), np.asarray([1, 0, 0], np.float32), -0.2)
        kept = dataclasses.replace(kept, memory=dataclasses.replace(kept.memory, foreground=ground))
    kept.write(tmp_path / "bank")
    again = load(str(tmp_path / "bank"))
    assert again.card.tasks == ("inspect",)
    for picture in (GOOD[9], array(part(np.random.default_rng(5), "cut")[0])):
        here, there = model.inspector(bank=kept).inspect(picture), again.inspect(picture)
        assert (here.score, here.threshold, here.p_value) == (there.score, there.threshold, there.p_value)
        assert (here.map == there.map).all()
    assert Bank.read(tmp_path / "bank").limit == kept.limit


def test_a_damaged_memory_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "bank"
    bank(load("fake")).write(folder)
    tensors = load_file(folder / "memory.safetensors")
    save_file({**tensors, "rows": tensors["rows"][0]}, folder / "memory.safetensors")
    with pytest.raises(BadWeights, match="do not fit each other"):
        load(str(folder))
    (folder / "memory.safetensors").write_bytes(b"nothing")
    with pytest.raises(BadWeights, match="cannot be read"):
        load(str(folder))
    text = (folder / "anmok.toml").read_text()
    (folder / "anmok.toml").write_text(text.replace('method = "nearest"', 'method = "farthest"'))
    bank(load("fake")).write(tmp_path / "other")
    (folder / "memory.safetensors").write_bytes((tmp_path / "other" / "memory.safetensors").read_bytes())
    with pytest.raises(BadRequest, match="farthest"):
        load(str(folder))
    (folder / "anmok.toml").write_text(text.replace("size =", "sise ="))
    with pytest.raises(BadData, match="not a memory"):
        load(str(folder))
    with pytest.raises(BadData, match="no memory in it"):
        Bank.read(tmp_path / "nowhere")


def test_the_result_is_checked_and_drawn() -> None:
    values = np.zeros((20, 30), np.float32)
    values[4, 7] = 2
    result = AnomalyMap(0.5, values, 0.4, 0.02)
    assert json.loads(result.to_json())["peak"] == [7, 4]
    assert result.facts()["is_strange"] is True
    assert AnomalyMap(0.5, values).is_strange is None
    picture = np.asarray(draw.plot(result, np.full((20, 30, 3), 100, np.uint8)))
    assert (picture[10, 10] == 100).all()
    assert np.abs(picture[4, 7].astype(int) - 100).max() > 60
    with pytest.raises(BadRequest, match="want a number"):
        AnomalyMap(float("nan"), values)
    with pytest.raises(BadRequest, match="want \\(H, W\\)"):
        AnomalyMap(0.5, values[0])
