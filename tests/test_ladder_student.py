"""The last rung on toy nets: a teacher chosen on the pool, pictures without a label, and a folder that answers."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from anmok.errors import UnknownModel
from anmok.evidence.calibration import softmax
from anmok.ladder import Plan, climb
from anmok.ladder.beside import Beside
from anmok.ladder.climb import Climbed
from anmok.ladder.dataset import Dataset, read
from anmok.ladder.evaluate import Price
from anmok.ladder.features import look
from anmok.ladder.measure import price_of
from anmok.ladder.rungs.fitting import fit
from anmok.ladder.tuning import lessons, timing
from anmok.ladder.tuning.ground import Ground
from anmok.ladder.tuning.skipped import Skipped
from anmok.ladder.tuning.spare import Spare, spare_pictures
from anmok.ladder.tuning.student import climb_student
from anmok.ladder.tuning.teacher import teach
from anmok.load import Adapter, Model, tiny
from command_line import anmok
from test_ladder import write

PLAN = Plan("efficientnet-lite2", shots=(1,), draws=1, rungs=("1", "2", "S"), budget=600)
SPARE = 12  # of each class, without a label


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """60 photos of each of three classes; a table labels all but twelve of each. A copy of a labelled one lies beside
    them without a label."""
    folder = write(tmp_path_factory.mktemp("student") / "photos", 60, 30, seed=0)
    paths = [path for one in sorted(folder.iterdir()) for path in sorted(one.iterdir())]
    with (folder.parent / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(("image", "label"))
        table.writerows((p.relative_to(folder), p.parent.name) for i, p in enumerate(paths) if i % 60 >= SPARE)
    return read(folder, labels=folder.parent / "labels.csv")


@pytest.fixture(scope="module")
def teacher() -> Model:
    return tiny("efficientnet-lite2")


@pytest.fixture(scope="module")
def climbed(dataset: Dataset, teacher: Model, tmp_path_factory: pytest.TempPathFactory) -> Climbed:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ANMOK_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(lessons, "_STEPS", (24, 24))
        return climb(dataset, teacher, PLAN, beside=Beside(student=tiny("resnet-18", 1)))


def ground_of(climbed: Climbed, teacher: Model) -> Ground:
    scene = climbed.scene
    return Ground(teacher, scene, climbed.measured.material, scene.held(), Price(1, 1), PLAN)


def test_pictures_without_a_label_are_kept_apart(dataset: Dataset, climbed: Climbed) -> None:
    assert len(dataset.spare) == 3 * SPARE
    assert set(dataset.spare).isdisjoint(dataset.paths)
    assert climbed.scene.dataset.spare == dataset.spare
    assert climbed.outcome.data.pool + climbed.outcome.data.test == 3 * (60 - SPARE)
    fewer = dataset.keep(np.arange(100))
    assert fewer.spare == dataset.spare


def test_a_student_answers_on_the_same_images_at_its_own_price(climbed: Climbed) -> None:
    outcome, found = climbed.outcome, climbed.measured.final["S"]
    assert [step.key for step in outcome.steps] == ["1", "2", "S"]
    step = outcome.step("S")
    assert step.rung == "distilled student"
    assert step.accuracy.n == outcome.data.test
    assert step.labels == outcome.data.pool
    assert step.accuracy.value >= 0.6  # three colours in noise; a third by chance
    assert found.student is not None
    assert step.variant.startswith("resnet-18 taught by rung ") or "no step was better" in step.variant
    assert step.variant.endswith("unlabelled images")
    net = sum(p.numel() for p in found.student.kind.trunk().parameters()) * 4 / 1e6
    assert net <= step.megabytes < net + 0.05  # the net once, and a head of three rows
    assert step.megabytes < outcome.step("2").megabytes
    told = {one.what: one.why for one in outcome.honesty.not_tried}
    assert "no search by a text" in told["what the student can no longer do"]


def test_its_folder_answers_as_its_rung_did(climbed: Climbed, tmp_path: Path) -> None:
    assert climbed.student is not None
    climbed.student.write(tmp_path / "student")
    loaded = Adapter.read(tmp_path / "student")
    assert loaded.base == "resnet-18"
    assert loaded.licences == {"weights": "apache-2.0", "images": "", "teacher": "apache-2.0"}
    model = tiny("resnet-18", 1).with_adapter(loaded)
    paths = [climbed.scene.dataset.paths[i] for i in climbed.scene.test]
    found = climbed.measured.final["S"]
    wanted = [climbed.scene.dataset.classes[i] for i in found.predicted[0]]
    assert [model.classify(path).label for path in paths] == wanted


def test_the_teacher_is_the_best_on_the_judging_rows_and_answers_out_of_fold(climbed: Climbed, teacher: Model) -> None:
    ground, material = ground_of(climbed, teacher), climbed.measured.material
    taught = teach(ground, climbed.measured.final, Spare((), np.zeros((0, material.features.shape[1]), np.float32)))
    judging = ground.judging
    hits = {}
    for key in ("1", "2"):
        logits = fit(key, material, ground.teaching).head.logits(material.features[judging])
        hits[key] = np.mean(logits.argmax(1) == material.labels[judging])
    assert taught.accuracy >= max(hits.values())
    assert taught.accuracy == np.mean(taught.logits[judging].argmax(1) == material.labels[judging])
    assert len(taught.audited) == len(material.labels)
    # On what it learned from, the same head would be right more often than it is out of fold.
    learned = fit("2", material, ground.teaching).head.logits(material.features[ground.teaching])
    inside = np.mean(learned.argmax(1) == material.labels[ground.teaching])
    outside = np.mean(taught.logits[ground.teaching].argmax(1) == material.labels[ground.teaching])
    assert outside < inside
    # And its chances are right on average: as sure as it is often right.
    sure = softmax(taught.logits).max(1).mean()
    assert sure == pytest.approx(np.mean(taught.logits.argmax(1) == material.labels), abs=0.08)


def test_a_copy_of_a_test_picture_teaches_nothing(
    climbed: Climbed, teacher: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANMOK_CACHE", str(tmp_path / "cache"))
    scene = climbed.scene
    copies = []
    for rows, name in ((scene.test, "test.png"), (scene.pool, "pool.png")):
        copies.append(tmp_path / name)
        shutil.copy(scene.dataset.paths[rows[0]], copies[-1])
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    spare = (*scene.dataset.spare[:3], *copies, broken)
    moved = dataclasses.replace(scene, dataset=dataclasses.replace(scene.dataset, spare=spare))
    found = spare_pictures(dataclasses.replace(ground_of(climbed, teacher), scene=moved))
    assert list(found.paths) == [*spare[:3], copies[1]]
    np.testing.assert_allclose(found.features, look(found.paths, teacher).features)


def test_labels_that_are_mostly_wrong_are_left_out(
    climbed: Climbed, teacher: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANMOK_CACHE", str(tmp_path))
    monkeypatch.setattr(lessons, "_STEPS", (4, 4))
    ground = ground_of(climbed, teacher)
    blind = dataclasses.replace(
        ground,
        material=ground.material.shuffled(),
        student=tiny("resnet-18", 1),
        plan=dataclasses.replace(PLAN, seed=5),
    )
    found = climb_student(blind, {}, 600, price_of)
    assert not isinstance(found, Skipped)
    assert "36 unlabelled images left out: their labels would be right too seldom" in found.step.variant


def test_why_there_is_none(dataset: Dataset, climbed: Climbed, teacher: Model, tmp_path: Path) -> None:
    ground = ground_of(climbed, teacher)

    def why(changed: Ground, seconds: float = 600) -> str:
        found = climb_student(changed, climbed.measured.final, seconds, price_of)
        assert isinstance(found, Skipped)
        return found.why

    material = ground.material
    few = dataclasses.replace(climbed.scene, pool=climbed.scene.pool[:60])
    assert why(dataclasses.replace(ground, scene=few)) == "it wants 100 labelled images to learn from; 60 are there"
    same = dataclasses.replace(ground, plan=dataclasses.replace(PLAN, student="efficientnet-lite2"))
    fitting = dataclasses.replace(same, model=teacher)
    assert why(fitting) == "efficientnet-lite2 is the model of this ladder already; name another by --student"
    unknown = dataclasses.replace(ground, plan=dataclasses.replace(PLAN, student="efficientnet-lite9"))
    assert "efficientnet-lite9" in why(unknown)
    assert len(material.labels) == len(ground.paths)
    late = dataclasses.replace(ground, student=tiny("resnet-18", 1))
    assert why(late, seconds=0).startswith("it would take about ")


def test_without_its_weights_the_usual_student_is_left_out(
    climbed: Climbed, teacher: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANMOK_CACHE", str(tmp_path))
    found = climb_student(ground_of(climbed, teacher), climbed.measured.final, 600, price_of)
    assert found == Skipped("S", "the student's weights are not here: anmok pull efficientnet-lite0")


def test_a_climb_without_time_for_its_student_ends_without_it(
    dataset: Dataset, teacher: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANMOK_CACHE", str(tmp_path))
    hurried = dataclasses.replace(PLAN, rungs=("1", "S"), budget=0.0, student="resnet-18")
    found = climb(dataset, teacher, hurried, beside=Beside(student=tiny("resnet-18", 1)))
    assert [step.key for step in found.outcome.steps] == ["1"]
    assert found.student is None
    told = {one.what: one.why for one in found.outcome.honesty.not_tried}
    assert told["rung S (distilled student)"].startswith("it would take about ")


def test_a_student_that_cannot_be_loaded_is_told_of_and_the_climb_goes_on(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANMOK_CACHE", str(tmp_path / "cache"))
    words = ["ladder", str(dataset.root), "--labels", str(dataset.root.parent / "labels.csv"), "--model", "fake"]
    done = anmok(*words, "--student", "resnet-18", "--out", str(tmp_path / "report"))
    assert done.code == 0, done.err
    report = json.loads((tmp_path / "report" / "report.json").read_text(encoding="utf-8"))
    told = {one["what"]: one["why"] for one in report["honesty"]["not_tried"]}
    assert "resnet-18" in told["rung S (distilled student)"]
    assert "S" not in {step["key"] for step in report["steps"]}
    assert not (tmp_path / "report" / "student").exists()


def test_a_short_budget_moves_the_last_blocks_alone(climbed: Climbed, monkeypatch: pytest.MonkeyPatch) -> None:
    ground = dataclasses.replace(ground_of(climbed, tiny("resnet-18", 1)), price=Price(1, 1))
    monkeypatch.setattr(timing, "step_seconds", lambda _, how, recipe: 0.1 if how.kind == "full" else 0.001)
    teaching = ground.teaching
    whole, recipe = lessons.choice(ground, teaching, 3600)  # type: ignore[misc]
    assert (whole.kind, recipe.steps) == ("full", len(teaching) * 30 // 16)
    part, recipe = lessons.choice(ground, teaching, 20)  # type: ignore[misc]
    assert (part.kind, recipe.steps) == ("last", len(teaching) * 30 // 32)
    assert lessons.choice(ground, teaching, 0.1) == "it would take about 3 seconds: --budget 1m"


def test_a_student_that_nobody_knows_is_refused_before_anything_is_looked_at(dataset: Dataset, tmp_path: Path) -> None:
    table = dataset.root.parent / "labels.csv"
    words = ["ladder", str(dataset.root), "--labels", str(table), "--model", "fake", "--out", str(tmp_path / "report")]
    done = anmok(*words, "--student", "efficientnet-lite9")
    assert done.code == UnknownModel.exit_code
    assert "efficientnet-lite9" in done.err
    assert not (tmp_path / "report").exists()
