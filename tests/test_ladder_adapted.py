"""Rung 7: the eye adapted first, on toy towers."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from anmok.ladder import Plan, climb
from anmok.ladder.climb import Climbed
from anmok.ladder.dataset import read
from anmok.ladder.grouping import near_copies
from anmok.ladder.report.phrases import phrase
from anmok.ladder.tuning import adapted, recipes
from anmok.load import Adapter, Model, tiny
from anmok.nets.change import Change
from anmok.tasks import Embed
from test_ladder import write

PLAN = Plan("dinov2-s14", shots=(1,), draws=1, rungs=("2", "7"), budget=600)
SPARE = 5


@pytest.fixture(scope="module")
def model() -> Model:
    return tiny("dinov2-s14")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With some pictures that the table of labels does not name, one of them a copy of a labelled one."""
    root = write(tmp_path_factory.mktemp("adapted") / "photos", 40, 60, seed=0)
    labelled = sorted(root.rglob("*.png"))
    lines = [f"{path.relative_to(root).as_posix()},{path.parent.name}" for path in labelled]
    (root.parent / "labels.csv").write_text("image,label\n" + "\n".join(lines) + "\n", encoding="utf-8")
    more = write(root / "more", SPARE, 60, seed=9)
    for path in sorted(more.rglob("*.png"))[SPARE:]:
        path.unlink()
    return root


@pytest.fixture(scope="module")
def climbed(photos: Path, model: Model, tmp_path_factory: pytest.TempPathFactory) -> Climbed:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ANMOK_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(adapted, "_STEPS", (4, 4))
        patch.setattr(recipes, "_STEPS", (4, 4))
        patch.setattr(adapted, "FEWEST_PASSES", 0)
        return climb(read(photos, labels=photos.parent / "labels.csv"), model, PLAN)


def test_the_rung_answers_on_the_same_images_and_says_what_it_learned_from(climbed: Climbed) -> None:
    outcome = climbed.outcome
    assert [step.key for step in outcome.steps] == ["2", "7"]
    step = outcome.step("7")
    assert step.accuracy.n == outcome.data.test
    assert step.labels == outcome.data.pool
    assert step.variant.startswith(f"4 steps on {outcome.data.pool + SPARE} pictures without their labels, then ")
    told = phrase(step.variant, "ko")
    assert told.is_translated
    assert told.text.startswith(f"사진 {outcome.data.pool + SPARE}장으로 라벨 없이 4단계")


def test_the_change_is_the_eyes_and_the_blocks_and_answers_from_its_folder(
    climbed: Climbed, model: Model, tmp_path: Path
) -> None:
    found = climbed.measured.final["7"]
    assert found.change is not None
    first = [name for name in found.change if "stages.block0." in name]
    assert first  # the last two blocks are all that rung 5 moves of a longer tower; the eye moved from the first on
    moved = sum(float(np.abs(array).sum()) for array in found.change.values())
    assert moved > 0
    dataclasses.replace(climbed.best, head=found.head, change=found.change, rung="7").write(tmp_path / "best")
    tuned = model.with_adapter(Adapter.read(tmp_path / "best"))
    paths = [climbed.scene.dataset.paths[i] for i in climbed.scene.test]
    wanted = [climbed.scene.dataset.classes[i] for i in found.predicted[0]]
    assert [tuned.classify(path).label for path in paths] == wanted
    plain, other = (one.run(paths[:1], Embed("features"))[0].vector for one in (model, tuned))
    assert np.abs(plain - other).max() > 1e-6


def test_two_changes_are_one() -> None:
    one, two, three = (torch.full((2, 2), value) for value in (1.0, 2.0, 4.0))
    both = adapted.together(Change(dense={"a": one, "b": two}), Change(dense={"b": three, "c": one}))
    assert {name: float(tensor[0, 0]) for name, tensor in both.dense.items()} == {"a": 1.0, "b": 6.0, "c": 1.0}


def test_near_copies_of_test_pictures_are_found(climbed: Climbed) -> None:
    looked, test = climbed.scene.looked, climbed.scene.test
    assert near_copies(looked, test, dataclasses.replace(looked, indices=np.arange(len(looked.features)))).sum() == len(
        test
    )


def test_a_convolutional_tower_is_left_out_with_the_reason(photos: Path) -> None:
    found = read(photos, labels=photos.parent / "labels.csv")
    outcome = climb(found, tiny("efficientnet-lite2"), dataclasses.replace(PLAN, model="efficientnet-lite2")).outcome
    told = {one.what: one.why for one in outcome.honesty.not_tried}
    assert told["rung 7 (eye adapted first, then last blocks)"].startswith("masked pre-training needs a transformer")


def test_a_budget_leaves_it_out_and_says_how_much_it_would_take(photos: Path, model: Model) -> None:
    found = read(photos, labels=photos.parent / "labels.csv")
    outcome = climb(found, model, dataclasses.replace(PLAN, budget=0)).outcome
    told = {one.what: one.why for one in outcome.honesty.not_tried}
    assert told["rung 7 (eye adapted first, then last blocks)"].startswith("it would take about ")


def test_the_recipe_grows_with_the_pictures() -> None:
    assert [adapted.eye_recipe(n, 0).steps for n in (10, 200, 10_000)] == [60, 250, 800]
