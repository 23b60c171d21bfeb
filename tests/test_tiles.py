"""Tiles: where they lie, what a model makes of them, and the rung that learns from them."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from anmok.catalogue import card
from anmok.engine import Engine
from anmok.errors import BadMedia, BadRequest, BadWeights, Unsupported, WrongState
from anmok.ladder import Plan, climb
from anmok.ladder.climb import Climbed
from anmok.ladder.dataset import read
from anmok.ladder.next_labels import next_images
from anmok.ladder.report.phrases import spoken
from anmok.ladder.rungs import tiled
from anmok.ladder.rungs.fitting import Material, fit, predict
from anmok.ladder.rungs.order import place
from anmok.ladder.tiling import possible
from anmok.load import Adapter, Head, Model, Tiled, load, own, tiny
from anmok.load.answerers import built
from anmok.load.closely import TILES, Closely, margin_of
from anmok.results import Scores
from anmok.tasks import Classify, Embed
from anmok.tiles import MOST, Tiling, cut, joined

SIDE = 192  # of the drawn photos; `fake` sees 32 and tells the colours of 4 x 4 cells


@given(st.integers(1, 900), st.integers(1, 900), st.integers(1, 300), st.data())
@settings(max_examples=80)
def test_tiles_cover_the_photo_and_share_what_was_asked(
    height: int, width: int, size: int, data: st.DataObject
) -> None:
    tiling = Tiling(size, data.draw(st.integers(0, size // 2)))
    corners = tiling.corners(height, width)
    assert len(corners) == len(set(corners)) == tiling.count(height, width) == tiling.count(width, height)
    for axis, side in ((0, width), (1, height)):
        starts = sorted({corner[axis] for corner in corners})
        assert starts[0] <= 0
        assert starts[-1] + size >= side
        if side > size:
            assert (starts[0], starts[-1]) == (0, side - size)
            assert all(a + size - b >= tiling.overlap for a, b in itertools.pairwise(starts))
            # One tile fewer would not do.
            assert (len(starts) - 1) * (size - tiling.overlap) + tiling.overlap < side


def test_places_of_tiles() -> None:
    assert Tiling(260, 43).corners(640, 640)[:4] == ((0, 0), (190, 0), (380, 0), (0, 190))
    assert Tiling(100, 0).corners(100, 200) == ((0, 0), (100, 0))
    assert Tiling(100, 0).corners(40, 99) == ((0, -30),)  # one tile, the photo in the middle of it


@pytest.mark.parametrize(("size", "overlap"), [(0, 0), (10, 6), (10, -1)])
def test_tiles_that_are_none(size: int, overlap: int) -> None:
    with pytest.raises(BadRequest, match="tiles of"):
        Tiling(size, overlap)


def test_a_tile_is_cut_as_it_is_and_mirrored_beyond_the_photo() -> None:
    photo = np.arange(6 * 5 * 3, dtype=np.uint8).reshape(6, 5, 3)
    assert np.array_equal(cut(photo, (1, 2), 3), photo[2:5, 1:4])
    beyond = cut(photo, (0, 0), 2, margin=2)
    assert beyond.shape == (6, 6, 3)
    assert np.array_equal(beyond[2:4, 2:4], photo[:2, :2])
    assert np.array_equal(beyond[1], beyond[2])
    assert np.array_equal(beyond[0], beyond[3])
    assert np.array_equal(beyond[:, 1], beyond[:, 2])
    assert np.unique(cut(photo[:1, :1], (-3, -3), 7), axis=0).shape == (1, 7, 3)  # one pixel, again and again


def test_joined_is_whole_strongest_and_mean() -> None:
    tiles = np.asarray([[1, -4], [3, 0], [2, 1]], np.float32)
    assert joined(np.asarray([7, 8], np.float32), tiles).tolist() == [7, 8, 3, 1, 2, -1]


def test_finer_tiles_down_to_what_the_model_sees() -> None:
    assert [one.size for one in possible(1024, 260)] == [559, 384, 293, 236]
    assert [one.count(1024, 1024) for one in possible(1024, 260)] == [4, 9, 16, 25]
    assert [one.count(768, 1024) for one in possible(1024, 260)] == [4, 9, 12, 20]
    assert [one.overlap for one in possible(640, 260)] == [58, 40]
    assert possible(400, 260) == []


@pytest.fixture(scope="module")
def model() -> Model:
    return tiny("efficientnet-lite2")


def _photo(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def _adapter(model: Model, tiling: Tiling, seed: int = 0) -> Adapter:
    width = len(model.embed(_photo(9, 9), space="features").vector)
    weight = np.random.default_rng(seed).normal(size=(2, 3 * width)).astype(np.float32)
    head = Head(weight, np.asarray([0.1, -0.1], np.float32))
    return Adapter(model.card.name, model.maker, ("good", "defect"), "T tiles", head=Tiled(head, tiling))


def test_a_model_looks_at_the_whole_and_at_every_tile(model: Model) -> None:
    tiling = Tiling(300, 50)
    closely = model.with_adapter(_adapter(model, tiling))
    photo = _photo(400, 700)
    [state] = closely.encode([photo])
    margin = margin_of(tiling, model.card.pixels)
    assert margin == 21  # 300 / 0.875 = 343 pixels are shown, of which 300 are seen
    parts = [cut(photo, corner, 300, margin) for corner in tiling.corners(400, 700)]
    assert len(parts) == 6
    each = np.stack([one.vector for one in model.run(parts, Embed("features"))])
    whole = model.embed(photo, space="features").vector
    np.testing.assert_allclose(np.asarray(state.maps[TILES], np.float32), joined(whole, each), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(closely.embed(photo, space="features").vector, whole, rtol=1e-5, atol=1e-5)
    assert state.place.size_hw == (400, 700)


def test_alone_or_among_others_and_in_any_size(model: Model) -> None:
    closely = model.with_adapter(_adapter(model, Tiling(300, 50)))
    photos = [_photo(400, 700), _photo(1, 1), _photo(400, 700, seed=1), _photo(500, 90), _photo(299, 301)]
    together = closely.run(photos, closely.adapter.complete(Classify()))  # type: ignore[union-attr]
    for photo, answer in zip(photos, together, strict=True):
        alone = closely.classify(photo)
        assert alone.labels == answer.labels
        np.testing.assert_allclose(alone.scores, answer.scores, atol=1e-5)
    turned = closely.classify(photos[0])
    assert closely.classify(photos[0], ["good", "defect"]).labels == turned.labels
    with pytest.raises(Unsupported, match="those of its head alone"):
        closely.classify(photos[0], ["cat", "dog"])
    fake = load("fake")
    reads = fake.with_adapter(_adapter(fake, Tiling(300, 50)))
    whole = fake.classify(photos[0], ["red", "blue"])  # the text tower, by the whole photo
    assert reads.classify(photos[0], ["red", "blue"]).scores.tolist() == whole.scores.tolist()


def test_states_are_not_taken_for_those_of_the_model_that_looks_once(model: Model) -> None:
    adapter = _adapter(model, Tiling(300, 50))
    closely, finer = model.with_adapter(adapter), model.with_adapter(_adapter(model, Tiling(200, 50)))
    [state] = model.encode([_photo(400, 400)])
    for other in (closely, finer):
        with pytest.raises(WrongState):
            other.run([state], adapter.complete(Classify()))
    assert closely.maker != finer.maker


def test_more_tiles_than_anybody_waits_for_are_refused(model: Model) -> None:
    closely = model.with_adapter(_adapter(model, Tiling(10, 0)))
    with pytest.raises(BadMedia, match=r"would be 441 tiles.*make the photo smaller"):
        closely.classify(_photo(210, 205))
    assert MOST < 441


def test_a_card_that_cuts_nothing_away_needs_no_margin(model: Model) -> None:
    assert margin_of(Tiling(300, 50), card("fake").pixels) == 0
    closely = Closely("it", model.kind, Tiling(300, 50), model.card.pixels)
    assert closely.nbytes == model.kind.nbytes


def test_the_head_is_read_back_as_it_was(model: Model, tmp_path: Path) -> None:
    adapter = _adapter(model, Tiling(300, 50))
    adapter.write(tmp_path / "best")
    again = Adapter.read(tmp_path / "best")
    assert again.tiling == Tiling(300, 50)
    photo = _photo(700, 500)
    first, second = model.with_adapter(adapter).classify(photo), model.with_adapter(again).classify(photo)
    assert first.scores.tolist() == second.scores.tolist()
    assert isinstance(adapter.head, Tiled)
    odd = {**adapter.head.tensors(), "weight": np.zeros((2, 10), np.float32)}
    with pytest.raises(BadWeights, match="weight"):
        built(odd, {"kind": "tiles", **adapter.head.settings()})


def _features(n: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Joined features of photos whose defect moves three features of one tile among nine, and nothing of the whole."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    tiles = rng.normal(size=(n, 9, 12)).astype(np.float32)
    bad = np.flatnonzero(labels)
    tiles[bad, rng.integers(0, 9, len(bad)), :3] += 5
    whole = rng.normal(size=(n, 12)).astype(np.float32)
    return np.stack([joined(a, b) for a, b in zip(whole, tiles, strict=True)]), labels.astype(np.int64)


def test_the_rung_finds_what_a_single_tile_shows() -> None:
    rows, labels = _features(200, seed=0)
    material = Material(rows, labels, np.arange(200), 2, None)
    found = fit("T", material, np.arange(200))
    assert found.chosen_from == 5
    assert found.variant.startswith(("strongest and mean of the tiles", "whole, strongest and mean of the tiles"))
    fresh, wanted = _features(400, seed=1)
    whole = fit("2", dataclasses.replace(material, features=rows[:, :12]), np.arange(200)).head
    assert (predict(found.head, fresh) == wanted).mean() > 0.97
    assert abs((predict(whole, fresh[:, :12]) == wanted).mean() - 0.5) < 0.1
    few = fit("T", material, np.arange(4))
    assert (few.chosen_from, few.variant) == (1, "strongest and mean of the tiles, C = 0.01")


def test_what_a_head_does_not_read_weighs_nothing() -> None:
    rows, labels = _features(60, seed=2)
    for name, run in tiled.heads(rows, labels, 2, can_choose=True):
        head = run(np.arange(60))
        read = np.abs(head.weight).sum(0).reshape(3, 12).any(1)
        assert read.tolist() == {"mean": [0, 0, 1], "stro": [0, 1, 1], "whol": [1, 1, 1]}[name[:4]]


def _drawn(root: Path, each: int, side: int, seed: int) -> Path:
    """Plates in uneven light; a defect is a bright spot of 8 pixels, which is 2 % of what one cell of the whole shows,
    and a quarter of a small tile."""
    rng = np.random.default_rng(seed)
    for name in ("good", "defect"):
        (root / name).mkdir(parents=True)
        for _ in range(each):
            light = Image.fromarray(rng.normal(130, 5, (5, 5)).astype(np.float32)).resize((side, side))
            plate = np.asarray(light) + rng.normal(0, 4, (side, side))  # (H, W)
            if name == "defect":
                x, y = rng.integers(0, side - 8, 2)
                plate[y : y + 8, x : x + 8] += 110
            grey = plate.clip(0, 255).astype(np.uint8)
            Image.fromarray(grey).save(root / name / f"{rng.integers(10**8):08}.png", compress_level=1)
    return root


PLAN = Plan("fake", shots=(4,), draws=2, rungs=("0a", "1", "2", "T"), budget=600)


@pytest.fixture(scope="module")
def climbed(tmp_path_factory: pytest.TempPathFactory) -> Climbed:
    root = _drawn(tmp_path_factory.mktemp("tiles") / "parts", 55, SIDE, seed=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ANMOK_CACHE", str(tmp_path_factory.mktemp("cache")))
        first = climb(read(root), load("fake"), PLAN)
        again = climb(read(root), load("fake"), PLAN)
        assert again.outcome.step("T").accuracy == first.outcome.step("T").accuracy
        return first


def test_small_flaws_in_large_photos_are_found_by_tiles_and_recommended(climbed: Climbed) -> None:
    outcome = climbed.outcome
    assert [step.key for step in outcome.steps] == ["0a", "1", "2", "T"]
    assert outcome.step("T").accuracy.value > outcome.step("2").accuracy.value + 0.2
    assert outcome.step("T").ms_per_image == pytest.approx(50 * outcome.step("2").ms_per_image)  # 7 x 7 and the whole
    assert outcome.step("T").variant.endswith("tiles of 32 pixels")
    assert outcome.recommendation.key == "T"
    assert {(step.key, step.shots) for step in outcome.curve} >= {("T", 4), ("2", 4)}
    assert outcome.honesty.development is not None
    assert outcome.honesty.development.value > 0.8


def test_the_winner_answers_from_paths_as_the_rung_did(climbed: Climbed, tmp_path: Path) -> None:
    climbed.best.write(tmp_path / "best")
    loaded = load(str(tmp_path / "best"))
    paths = [climbed.scene.dataset.paths[i] for i in climbed.scene.test]
    wanted = [climbed.scene.dataset.classes[i] for i in climbed.measured.final["T"].predicted[0]]
    assert [answer.label for answer in loaded.run(paths, climbed.best.complete(Classify()))] == wanted


def test_a_server_and_a_card_of_its_own_answer_as_the_folder_does(
    climbed: Climbed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANMOK_CARDS", str(tmp_path / "cards"))
    climbed.best.write(tmp_path / "best")
    paths = [climbed.scene.dataset.paths[i] for i in climbed.scene.test[:5]]
    wanted = load(str(tmp_path / "best")).run(paths, Classify())
    with Engine(10**8, load, names={"best": str(tmp_path / "best")}) as engine:
        served = engine.run("best", paths, Classify())
    own.from_folder(tmp_path / "best", own.Naming("plates"))
    carded = load("plates").run(paths, Classify())
    part = load("plates").classify(paths[0], ["defect"])
    assert part.labels == ("defect",)
    for one, other, third in zip(wanted, served, carded, strict=True):
        assert isinstance(other, Scores)
        assert one.labels == other.labels == third.labels
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)
        np.testing.assert_allclose(one.scores, third.scores, atol=1e-5)


def test_what_to_label_next_is_asked_of_the_tiles(climbed: Climbed, tmp_path: Path) -> None:
    climbed.best.write(tmp_path / "best")
    folder = _drawn(tmp_path / "more", 3, SIDE, seed=5)
    (folder / "good").rename(folder / "a")
    (folder / "defect").rename(folder / "b")
    loaded = load(str(tmp_path / "best"))
    chosen = next_images(folder, loaded, count=4)
    assert [one.guess for one in chosen.images] == [loaded.classify(folder / one.image).label for one in chosen.images]
    assert len(chosen.images) == 4


def test_photos_that_show_everything_are_not_cut(tmp_path: Path) -> None:
    root = _drawn(tmp_path / "small", 8, 60, seed=1)
    told = {one.what: one.why for one in climb(read(root), load("fake"), PLAN).outcome.honesty.not_tried}
    assert told["rung T (tiles)"] == "photos of 60 pixels on the longer side; tiles are for 64 or more"
    assert spoken("rung T (tiles)", "ko") == "방법 T(타일로 나누어 보기)"
    assert spoken(told["rung T (tiles)"], "ko") == "사진의 긴 변이 60픽셀임. 타일은 64픽셀 이상일 때 씀"


def test_no_time_for_tiles_says_how_much_it_would_take(tmp_path: Path) -> None:
    root = _drawn(tmp_path / "large", 6, SIDE, seed=2)
    plan = dataclasses.replace(PLAN, budget=0)
    outcome = climb(read(root), load("fake"), plan).outcome
    told = {one.what: one.why for one in outcome.honesty.not_tried}
    assert told["rung T (tiles)"].startswith("it would take about ")
    assert "--budget" in told["rung T (tiles)"]
    assert [step.key for step in outcome.steps] == ["0a", "1", "2"]


def test_few_photos_are_cross_fitted(tmp_path: Path) -> None:
    outcome = climb(read(_drawn(tmp_path / "few", 20, SIDE, seed=3)), load("fake"), PLAN).outcome
    assert outcome.is_development
    assert outcome.step("T").accuracy.n == 40
    assert outcome.step("T").accuracy.value > outcome.step("2").accuracy.value


def test_tiles_cost_more_than_any_rung_that_looks_once() -> None:
    assert place("T") > max(place(key) for key in ("1", "2", "3", "5", "6"))
