"""The upper rungs, from photos to a folder that answers as the rung did, on toy nets."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from anmok.cli.ladder import _seconds
from anmok.errors import BadRequest, Unsupported
from anmok.ladder import Plan, climb
from anmok.ladder.climb import Climbed
from anmok.ladder.dataset import read
from anmok.ladder.rungs.order import RUNGS, TUNED, place
from anmok.ladder.tuning import recipes
from anmok.load import Adapter, Model, tiny
from anmok.tasks import Embed
from test_ladder import write

PLAN = Plan("efficientnet-lite2", shots=(1,), draws=1, rungs=("1", "2", "5"), budget=600)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("tuning") / "photos", 50, 60, seed=0)


@pytest.fixture(scope="module")
def model() -> Model:
    return tiny("efficientnet-lite2")


@pytest.fixture(scope="module")
def climbed(photos: Path, model: Model, tmp_path_factory: pytest.TempPathFactory) -> Climbed:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ANMOK_CACHE", str(tmp_path_factory.mktemp("cache")))
        return climb(read(photos), model, PLAN)


def test_last_blocks_answer_on_the_same_images_and_cost_all_labels(climbed: Climbed) -> None:
    outcome = climbed.outcome
    assert [step.key for step in outcome.steps] == ["1", "2", "5"]
    step = outcome.step("5")
    assert step.rung == "last blocks"
    assert step.accuracy.n == outcome.data.test
    assert step.labels == outcome.data.pool
    assert step.seconds > 0
    assert 0 < step.head_megabytes < 1
    assert outcome.honesty.labels_to_choose == outcome.data.pool
    assert any(comparison.key == "5" or comparison.against == "5" for comparison in outcome.comparisons)


def test_what_was_left_out_is_said(climbed: Climbed) -> None:
    told = {one.what: one.why for one in climbed.outcome.honesty.not_tried}
    names = (
        "4 (LoRA), 4a (DoRA), 4b (bottleneck adapters), 6 (full fine-tuning), 7 (eye adapted first, then last blocks)"
    )
    assert told[f"rungs {names}, S (distilled student)"].endswith("--budget 2h")


def test_a_tuned_winner_answers_from_its_folder_as_its_rung_did(climbed: Climbed, model: Model, tmp_path: Path) -> None:
    found = climbed.measured.final["5"]
    change = found.change or {}
    assert (len(change) > 0) == (not found.step.variant.startswith("no step was better"))
    best = dataclasses.replace(climbed.best, head=found.head, change=found.change, rung="5 last blocks")
    best.write(tmp_path / "best")
    loaded = Adapter.read(tmp_path / "best")
    tuned = model.with_adapter(loaded)
    paths = [climbed.scene.dataset.paths[i] for i in climbed.scene.test]
    answers = [tuned.classify(path) for path in paths]
    wanted = [climbed.scene.dataset.classes[i] for i in found.predicted[0]]
    assert [answer.label for answer in answers] == wanted
    assert tuned.maker != model.maker
    plain = model.run(paths[:2], Embed("features"))[0].vector
    moved = tuned.run(paths[:2], Embed("features"))[0].vector
    assert np.abs(plain - moved).max() > 1e-6


@pytest.mark.parametrize("key", ["4", "4a", "4b", "6"])
def test_every_way_to_tune_is_a_rung(
    key: str, photos: Path, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANMOK_CACHE", str(tmp_path))
    monkeypatch.setattr(recipes, "_STEPS", (4, 4))
    monkeypatch.setattr(recipes, "FEWEST_PASSES", 0)
    monkeypatch.setitem(RUNGS, "6", RUNGS["6"]._replace(fewest=8))
    plan = dataclasses.replace(PLAN, rungs=("2", key))
    outcome = climb(read(photos), model, plan).outcome
    assert [step.key for step in outcome.steps] == ["2", key]
    assert outcome.step(key).variant.endswith(("4 steps", "better"))
    assert not list((tmp_path / "training").glob("*"))  # nothing is left of a climb that came to its end


def test_a_budget_leaves_rungs_out_and_says_how_much_it_would_take(photos: Path, model: Model) -> None:
    outcome = climb(read(photos), model, dataclasses.replace(PLAN, budget=0)).outcome
    assert [step.key for step in outcome.steps] == ["1", "2"]
    why = next(one.why for one in outcome.honesty.not_tried if one.what == "rung 5 (last blocks)")
    assert why.startswith("it would take about ")
    assert "--budget" in why


def test_few_images_are_too_few_to_tune_on(model: Model, tmp_path: Path) -> None:
    outcome = climb(read(write(tmp_path / "few", 12, 25, seed=1)), model, PLAN).outcome
    told = {one.what: one.why for one in outcome.honesty.not_tried}
    assert told["rung 5 (last blocks)"] == "too few images for a test set of their own"


def test_judging_and_teaching_share_no_group(climbed: Climbed, model: Model) -> None:
    from anmok.ladder.evaluate import Price
    from anmok.ladder.tuning.ground import Ground

    ground = Ground(model, climbed.scene, climbed.measured.material, climbed.scene.held(), Price(1, 1), PLAN)
    groups = climbed.measured.material.groups
    assert set(groups[ground.judging]).isdisjoint(groups[ground.teaching])
    assert len(ground.judging) + len(ground.teaching) == len(groups)
    assert len(ground.judging) == pytest.approx(len(groups) / 5, abs=3)


def test_recipes_are_cut_in_proportion() -> None:
    whole = recipes.recipe_of("5", 1000, seed=0)
    assert (whole.steps, whole.batch, whole.check_every) == (375, 32, 31)
    short = recipes.shortened(whole, 100)
    assert (short.steps, short.check_every, short.rate) == (100, 8, whole.rate)
    assert recipes.recipe_of("4", 10, seed=0).steps == 60
    assert recipes.recipe_of("4", 100_000, seed=0).steps == 600


def test_every_rung_has_a_place_and_tuned_ones_are_rungs() -> None:
    assert set(TUNED) <= set(RUNGS)
    assert [place(key) for key in ("0a", "1", "3", "3a", "4", "6")] == sorted(
        place(key) for key in ("0a", "1", "3", "3a", "4", "6")
    )


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("1.5m", 90), ("2h", 7200), ("2 H", 7200)])
def test_a_budget_is_a_time(text: str, seconds: float) -> None:
    assert _seconds(text) == seconds


@pytest.mark.parametrize("text", ["soon", "-1", "2 days", ""])
def test_other_words_are_no_time(text: str) -> None:
    with pytest.raises(BadRequest, match="want a time such as 90s, 20m or 2h"):
        _seconds(text)


def test_a_model_that_only_embeds_classifies_by_its_head_alone(climbed: Climbed, model: Model) -> None:
    with_head = model.with_adapter(
        dataclasses.replace(climbed.best, head=climbed.measured.final["2"].head, change=None)
    )
    path = climbed.scene.dataset.paths[0]
    assert with_head.classify(path).label in ("blue", "green", "red")
    with pytest.raises(Unsupported, match="no text tower for other labels: it knows blue, green, red"):
        with_head.classify(path, ["cat", "dog"])
