"""The ladder from photos to a verdict, on coloured squares and the model without weights."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as pillow

import anmok
from anmok.errors import BadData, BadRequest, WrongState
from anmok.evidence.metadata import collect
from anmok.ladder import Plan, climb
from anmok.ladder.climb import Climbed
from anmok.ladder.dataset import Dataset, read
from anmok.ladder.show import predictions, thumbnails

COLOURS = {"red": (200, 60, 60), "green": (60, 200, 60), "blue": (60, 60, 200)}
PER_CLASS = 50
PLAN = Plan("fake", shots=(1, 2, 4), draws=3)


def square(colour: tuple[int, int, int], rng: np.random.Generator, noise: float) -> pillow.Image:
    pixels = np.asarray(colour) + rng.normal(0, noise, (24, 24, 3))
    return pillow.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def write(root: Path, per_class: int, noise: float, seed: int) -> Path:
    rng = np.random.default_rng(seed)
    names = rng.permutation(per_class * len(COLOURS))  # file numbers that do not give the label away
    for k, (name, colour) in enumerate(COLOURS.items()):
        (root / name).mkdir(parents=True)
        for i in range(per_class):
            shift = rng.normal(0, 60, 3)
            moved = tuple(int(v) for v in np.clip(np.asarray(colour) + shift, 0, 255))
            square((moved[0], moved[1], moved[2]), rng, noise).save(root / name / f"{names[k * per_class + i]:05d}.png")
    return root


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("ladder") / "photos", PER_CLASS, 25, seed=0)


@pytest.fixture
def climbed(photos: Path) -> Climbed:
    return climb(read(photos), anmok.load("fake"), PLAN)


def test_every_rung_answers_on_the_same_sealed_images(climbed: Climbed) -> None:
    outcome = climbed.outcome
    assert [step.key for step in outcome.steps] == ["0a", "0b", "1", "2", "3"]
    assert outcome.data.pool + outcome.data.test == 3 * PER_CLASS
    assert outcome.data.test == pytest.approx(0.3 * 3 * PER_CLASS, abs=3)
    assert {step.accuracy.n for step in outcome.steps} == {outcome.data.test}
    assert set(climbed.scene.pool).isdisjoint(climbed.scene.test)


def test_labels_are_charged_to_the_rungs_that_used_them(climbed: Climbed) -> None:
    outcome = climbed.outcome
    assert [outcome.step(key).labels for key in ("0a", "0b")] == [0, 0]
    assert {outcome.step(key).labels for key in ("1", "2", "3")} == {outcome.data.pool}
    assert [step.labels for step in outcome.curve if step.key == "2"] == [3, 6, 12]
    assert {step.draws for step in outcome.curve} == {3}


def test_colours_are_easy_and_controls_fail(climbed: Climbed) -> None:
    outcome = climbed.outcome
    assert outcome.step("2").accuracy.value > 0.85
    controls = {control.name: control for control in outcome.controls}
    assert controls["majority"].accuracy.value == pytest.approx(1 / 3, abs=0.04)
    assert controls["grey image"].accuracy.value == pytest.approx(1 / 3, abs=0.04)
    assert controls["shuffled labels"].accuracy.value < 0.6
    assert outcome.leak is None


def test_zero_shot_head_equals_the_model_itself(climbed: Climbed) -> None:
    """The rung is measured on cached features; the user will run the model. They must say the same."""
    scene = climbed.scene
    paths = [scene.dataset.paths[i] for i in scene.test]
    ask = anmok.Classify(scene.dataset.classes)
    labels = [scores.label for scores in anmok.load("fake").run(paths, ask)]
    expected = [scene.dataset.classes[k] for k in climbed.measured.final["0b"].predicted[0]]
    assert labels == expected


def test_the_winner_is_written_and_runs(climbed: Climbed, tmp_path: Path) -> None:
    climbed.best.write(tmp_path / "best")
    model = anmok.load(str(tmp_path / "best"))
    scene = climbed.scene
    paths = [scene.dataset.paths[i] for i in scene.test]
    labels = [scores.label for scores in model.run(paths, anmok.Classify())]
    chosen = climbed.measured.final[climbed.outcome.recommendation.key]
    assert labels == [scene.dataset.classes[k] for k in chosen.predicted[0]]
    with pytest.raises(WrongState):
        anmok.load("fake-sigmoid").with_adapter(climbed.best)


def test_predictions_are_enough_to_compute_every_accuracy_again(climbed: Climbed) -> None:
    table = predictions(climbed).to_pydict()
    rows = np.asarray([(r, s) for r, s in zip(table["rung"], table["shots"], strict=True)])
    is_right = np.asarray(table["pred"]) == np.asarray(table["label"])
    for step in (*climbed.outcome.steps, *climbed.outcome.curve):
        shots = str(-1 if step.shots is None else step.shots)
        mine = is_right[(rows[:, 0] == step.key) & (rows[:, 1] == shots)]
        assert mine.mean() == pytest.approx(step.accuracy.value, abs=1e-9)
        assert len(mine) == step.draws * climbed.outcome.data.test


def test_thumbnails_are_small_jpegs(climbed: Climbed) -> None:
    found = thumbnails(climbed)
    assert all(data[:2] == b"\xff\xd8" and len(data) < 20_000 for data in found.values())


def test_the_same_plan_is_one_opening_and_another_plan_counts(photos: Path) -> None:
    dataset, model = read(photos), anmok.load("fake")
    plan = dataclasses.replace(PLAN, margin=0.021)
    first = climb(dataset, model, plan).outcome.honesty
    again = climb(dataset, model, plan).outcome.honesty
    other = climb(dataset, model, dataclasses.replace(plan, margin=0.03)).outcome.honesty
    assert (first.is_replay, again.is_replay, other.is_replay) == (False, True, False)
    assert again.openings == first.openings
    assert other.openings == first.openings + 1


def test_a_climb_is_the_same_twice(photos: Path) -> None:
    model = anmok.load("fake")
    one, two = (climb(read(photos), model, PLAN).outcome for _ in range(2))
    assert [s.accuracy for s in one.steps] == [s.accuracy for s in two.steps]
    assert one.recommendation == two.recommendation
    assert one.comparisons == two.comparisons


def test_few_images_give_a_development_estimate(tmp_path: Path) -> None:
    outcome = climb(read(write(tmp_path / "few", 12, 25, seed=1)), anmok.load("fake"), PLAN).outcome
    assert outcome.is_development
    assert outcome.honesty.openings == 0
    assert outcome.curve == ()
    assert outcome.step("2").accuracy.n == 36


def test_copies_never_lie_on_both_sides(tmp_path: Path) -> None:
    root = write(tmp_path / "copies", 40, 25, seed=2)
    for path in list(root.rglob("*.png"))[:30]:
        (path.parent / f"copy-of-{path.name}").write_bytes(path.read_bytes())
    scene = climb(read(root), anmok.load("fake"), PLAN).scene
    by_hash = {i: facts.sha256 for i, facts in enumerate(scene.looked.facts)}
    assert {by_hash[i] for i in scene.pool}.isdisjoint({by_hash[i] for i in scene.test})


def test_own_test_folder_answers_whole_and_its_copies_leave_the_pool(photos: Path, tmp_path: Path) -> None:
    test = write(tmp_path / "test", 10, 25, seed=3)
    leaked = next((photos / "red").iterdir())
    (test / "red" / "leak.png").write_bytes(leaked.read_bytes())
    scene = climb(read(photos, test=test), anmok.load("fake"), PLAN).scene
    assert len(scene.test) == 31
    assert len(scene.pool) == 3 * PER_CLASS - 1
    assert any("copy or group-mate" in warning for warning in scene.warnings)


def test_the_same_image_under_two_labels_is_left_out(photos: Path, tmp_path: Path) -> None:
    root = write(tmp_path / "twice", 40, 25, seed=4)
    source = next((root / "red").iterdir())
    (root / "blue" / "x.png").write_bytes(source.read_bytes())
    scene = climb(read(root), anmok.load("fake"), PLAN).scene
    assert len(scene.labels) == 119
    assert any("under two labels" in warning for warning in scene.warnings)


def test_runs_of_numbers_that_give_the_label_away_are_found_and_grouped(tmp_path: Path) -> None:
    """As in the solar cells: long runs of one class, so the file number alone predicts the label."""
    rng = np.random.default_rng(5)
    number = 0
    for name in ("red", "blue"):
        (tmp_path / name).mkdir()
    for run in range(60):
        name = ("red", "blue")[run % 2] if run % 7 else "red"
        tint = rng.normal(0, 70, 3)  # what the neighbours share besides the label
        for _ in range(16):
            colour = np.clip(np.asarray(COLOURS[name]) * 0.3 + 90 + tint, 0, 255)
            shade = (int(colour[0]), int(colour[1]), int(colour[2]))
            square(shade, rng, 40).save(tmp_path / name / f"cell{number:04d}.png")
            number += 1
    outcome = climb(read(tmp_path), anmok.load("fake"), PLAN).outcome
    assert outcome.leak is not None
    assert outcome.leak.control_random.value > outcome.leak.majority + 0.1
    assert outcome.leak.control_grouped.value < outcome.leak.control_random.value - 0.05
    assert outcome.leak.group_split.value < outcome.leak.random_split.value
    assert outcome.data.groups <= 121


def test_a_folder_that_is_the_label_is_no_control(photos: Path) -> None:
    """One folder per class, under whatever name, is how the labels came about: guessing by it says nothing."""
    renamed = dataclasses.replace(read(photos), classes=("rouge", "vert", "bleu"))
    names = [control.name for control in climb(renamed, anmok.load("fake"), PLAN).outcome.controls]
    assert "metadata: number" in names
    assert "metadata: folder" not in names
    assert renamed.labels is not None
    classes = [renamed.classes[label] for label in renamed.labels]
    assert collect(renamed.names, classes).column("folder") is None
    mixed = [classes[-1], *classes[1:]]  # now one folder holds two classes, and may have a say
    assert collect(renamed.names, mixed).column("folder") is not None


def test_near_duplicates_know_their_labels(tmp_path: Path) -> None:
    root = write(tmp_path / "pairs", 40, 25, seed=7)
    source = next((root / "red").iterdir())
    pixels = np.asarray(pillow.open(source)).copy()
    pixels[0, 0] ^= 1  # other bytes, the same picture
    pillow.fromarray(pixels).save(root / "blue" / "99999.png")
    outcome = climb(read(root), anmok.load("fake"), PLAN).outcome
    [pair] = [pair for pair in outcome.duplicates if pair.is_conflict]
    labels = {outcome.data.names[pair.first]: pair.first_label, outcome.data.names[pair.second]: pair.second_label}
    classes = {name: outcome.data.classes[label] for name, label in labels.items() if label is not None}
    assert classes == {f"red/{source.name}": "red", "blue/99999.png": "blue"}


def shuffled(dataset: Dataset, seed: int) -> Dataset:
    assert dataset.labels is not None
    labels: NDArray[np.int64] = np.random.default_rng(seed).permutation(dataset.labels)
    return dataclasses.replace(dataset, labels=labels)


def test_labels_of_pure_noise_are_not_useful(photos: Path) -> None:
    outcome = climb(shuffled(read(photos), 6), anmok.load("fake"), PLAN).outcome
    assert not outcome.recommendation.is_useful
    assert outcome.step("2").accuracy.interval.low < 0.45


def test_labels_that_no_text_tower_reads_leave_the_learned_rungs(photos: Path) -> None:
    dataset = dataclasses.replace(read(photos), classes=("꽹과리", "쉐리프", "멜로쟝"))
    outcome = climb(dataset, anmok.load("fake"), PLAN).outcome
    assert [step.key for step in outcome.steps] == ["0a", "0b", "1", "2", "3"]  # the fake model reads Korean


def test_plans_that_make_no_sense_are_refused() -> None:
    with pytest.raises(BadRequest, match="shots"):
        Plan("fake", shots=(4, 2))
    with pytest.raises(BadRequest, match="margin"):
        Plan("fake", margin=0.0)
    with pytest.raises(BadRequest, match="groups"):
        Plan("fake", groups="some")


def test_no_labels_is_said(photos: Path) -> None:
    dataset = dataclasses.replace(read(photos), labels=None)
    with pytest.raises(BadData, match="no labels"):
        climb(dataset, anmok.load("fake"), PLAN)
