"""What a claim is worth: copies, group-mates, neighbours, luck."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from anmok.errors import BadData, BadRequest
from anmok.evidence.audit import audit, needed
from anmok.evidence.audit_copies import find_copies, look, own_parts
from anmok.evidence.audit_rows import gather
from anmok.evidence.audit_surviving import estimated, measured, standing
from anmok.evidence.controls import guesses
from anmok.evidence.intervals import Estimate, wilson
from anmok.evidence.metadata import collect
from anmok.evidence.power import winners_curse
from anmok.evidence.predictions import Predictions
from anmok.evidence.readers import read_predictions
from anmok.evidence.splits import folds
from audit_samples import noise, rows_of, series, write_csv, write_pictures

TWO = ("bad", "good")


def predictions(
    names: list[str],
    labels: list[str] | None,
    predicted: list[str],
    split: list[str] | None = None,
    group: list[str] | None = None,
    claimed: float | None = None,
) -> Predictions:
    parts = (None if part is None else tuple(part) for part in (labels, split, group))
    own, sides, groups = parts
    return Predictions(tuple(names), tuple(predicted), own, None, sides, groups, claimed, "table", "0" * 64)


def answers(code: NDArray[np.intp], accuracy: float, seed: int = 5) -> NDArray[np.intp]:
    """Right with the same probability whatever the neighbours."""
    rng = np.random.default_rng(seed)
    return np.where(rng.random(code.size) < accuracy, code, 1 - code)


def random_sides(n: int, share: float = 0.3, seed: int = 0) -> list[str]:
    return np.where(np.random.default_rng(seed).random(n) < share, "test", "train").tolist()


def test_a_model_that_repeats_its_neighbours_falls_to_the_group_wise_control() -> None:
    data = series()
    side = np.array(random_sides(data.code.size))
    number = collect(data.names, data.labels, data.facts).column("number")
    assert number is not None
    test = side == "test"
    predicted = np.full(data.code.size, -1)
    predicted[test] = guesses(number, number.values[~test], data.code[~test], number.values[test], 2)
    rows = rows_of(data.code, predicted, side.tolist())
    index = np.flatnonzero(test)
    left = estimated(rows, index, number, data.part, 0)["accuracy"]
    grouped = []
    for seed in range(3):
        fold = folds(data.code, data.part, 5, seed)
        for part in range(5):
            held = fold == part
            guess = guesses(number, number.values[~held], data.code[~held], number.values[held], 2)
            grouped.append(np.mean(guess == data.code[held]))
    assert np.mean(predicted[test] == data.code[test]) > 0.75
    assert left.value == pytest.approx(np.mean(grouped), abs=0.03)
    assert left.interval.low < np.mean(grouped) < left.interval.high
    assert left.effective_n < index.size / 3


def test_a_model_to_which_neighbours_mean_nothing_keeps_its_accuracy() -> None:
    data = series()
    number = collect(data.names, data.labels, data.facts).column("number")
    assert number is not None
    side = random_sides(data.code.size)
    rows = rows_of(data.code, answers(data.code, 0.85), side)
    index = np.flatnonzero(rows.is_tested)
    before = measured(rows, index, None, 0)
    after = estimated(rows, index, number, data.part, 0)
    for name in ("accuracy", "balanced_accuracy", "macro_f1"):
        assert after[name].value == pytest.approx(before[name].value, abs=0.025)
        assert after[name].interval.low < before[name].value < after[name].interval.high


def test_random_split_of_a_series_is_found_and_the_claim_falls() -> None:
    data = series(parts=90, size=20)
    side = random_sides(data.code.size)
    near = np.array([data.code[data.part == part].mean() > 0.5 for part in data.part])  # what the part is mostly
    repeats = np.random.default_rng(1).random(data.code.size) < 0.8
    predicted = np.where(repeats, near, answers(data.code, 0.7)).astype(int)
    found = audit(None, predictions(data.names, data.labels, [TWO[p] for p in predicted], side), tried=1)
    assert found.basis == "estimated"
    assert found.word == "FALLS"
    assert found.leaks.strongest is not None
    assert found.leaks.strongest.name == "number"
    assert found.scheme is not None
    assert found.scheme.family == "runs"
    assert found.straddling == np.unique(found.group).size
    [part] = found.parts
    assert part.code == "neighbours"
    assert part.points < -0.05
    assert found.claimed + part.points == pytest.approx(found.surviving["accuracy"].value)


def test_a_leak_that_no_groups_stop_leaves_nothing_to_tell() -> None:
    data = series(parts=12, size=60)
    predicted = [TWO[p] for p in answers(data.code, 0.9)]
    found = audit(None, predictions(data.names, data.labels, predicted, random_sides(data.code.size)))
    assert found.leaks.curable == ("number",)
    assert found.leaks.recommended is None
    assert (found.basis, found.word, found.surviving) == ("none", "CANNOT TELL", {})


def test_a_split_by_groups_is_measured_and_stands() -> None:
    data = series(parts=60)
    group = [f"m{part}" for part in data.part]
    side = np.where(data.part % 3 == 0, "test", "train").tolist()
    predicted = [TWO[p] for p in answers(data.code, 0.9)]
    found = audit(None, predictions(data.names, data.labels, predicted, side, group))
    assert found.basis == "measured"
    assert found.parts == ()
    assert found.straddling == 0
    assert found.scheme is None
    assert found.surviving["accuracy"].value == found.computed["accuracy"].value
    assert found.word == "STANDS"
    assert found.needed is None


def test_test_images_with_group_mates_in_training_do_not_count() -> None:
    rng = np.random.default_rng(0)
    n = 400
    code = rng.integers(0, 2, n)
    group = np.arange(n) // 2
    side = np.where(group < 60, np.where(np.arange(n) % 2, "test", "train"), np.where(group < 120, "test", "train"))
    right = np.where(group < 60, 1.0, 0.7)  # learnt by heart where the mate was seen
    predicted = np.where(rng.random(n) < right, code, 1 - code)
    names = [f"{'abcdefghij'[i % 10]}{'klmnopqrst'[i // 10 % 10]}{'uvwx'[i // 100]}.png" for i in range(n)]
    found = audit(
        None,
        predictions(
            names,
            [TWO[c] for c in code],
            [TWO[p] for p in predicted],
            side.tolist(),
            [str(g) for g in group],
        ),
    )
    assert found.basis == "measured"
    assert found.standing.has_mate.sum() == 60
    assert found.surviving["accuracy"].n == 120
    assert found.straddling == 60
    clean = (group >= 60) & (side == "test")
    assert found.surviving["accuracy"].value == pytest.approx(np.mean(predicted[clean] == code[clean]))
    [part] = found.parts
    assert (part.code, part.images) == ("mates", 60)
    assert part.points == pytest.approx(found.surviving["accuracy"].value - found.claimed)


def test_without_clean_images_the_group_itself_is_the_control() -> None:
    rng = np.random.default_rng(0)
    code = rng.integers(0, 2, 200)
    names = [f"{rng.integers(10**9):09d}.png" for _ in code]
    group = [str(i // 4) for i in range(200)]
    side = ["test" if i % 2 else "train" for i in range(200)]
    found = audit(None, predictions(names, [TWO[c] for c in code], [TWO[c] for c in answers(code, 0.9)], side, group))
    assert found.standing.is_clean.sum() == 0
    assert found.basis == "estimated"
    assert found.word == "CANNOT TELL"
    assert found.surviving["accuracy"].value == pytest.approx(found.claimed, abs=0.03)


def test_choosing_among_models_costs_what_luck_gives() -> None:
    rng = np.random.default_rng(0)
    code = rng.integers(0, 2, 300)
    names = [f"{rng.integers(10**9):09d}.png" for _ in code]
    given = predictions(names, [TWO[c] for c in code], [TWO[c] for c in answers(code, 0.8)], ["test"] * 300)
    one, ten = audit(None, given), audit(None, given, tried=10)
    curse = winners_curse(10, 300, one.surviving["accuracy"].value, 0.7)
    assert 0.02 < curse < 0.05
    assert ten.surviving["accuracy"].value == pytest.approx(one.surviving["accuracy"].value - curse)
    assert ten.parts[-1].code == "tried"
    assert ten.surviving["accuracy"].interval.low == pytest.approx(one.surviving["accuracy"].interval.low - curse)


def test_a_stated_accuracy_that_the_rows_do_not_give_is_a_part_of_its_own() -> None:
    rng = np.random.default_rng(0)
    code = rng.integers(0, 2, 400)
    names = [f"{rng.integers(10**9):09d}.png" for _ in code]
    labels, answered = [TWO[c] for c in code], [TWO[c] for c in answers(code, 0.8)]
    found = audit(None, predictions(names, labels, answered, ["test"] * 400, claimed=0.95))
    assert found.claimed == 0.95
    assert found.word == "FALLS"
    assert found.parts[0].code == "file"
    assert found.parts[0].points == pytest.approx(found.computed["accuracy"].value - 0.95)


def test_a_small_test_set_asks_for_more_labels() -> None:
    code = np.arange(50) % 2
    names = [f"{chr(97 + i % 26)}{chr(97 + i // 26)}.png" for i in range(50)]
    predicted = np.where(np.arange(50) < 45, code, 1 - code)
    found = audit(None, predictions(names, [TWO[c] for c in code], [TWO[p] for p in predicted], ["test"] * 50))
    assert found.word == "CANNOT TELL"
    assert found.needed is not None
    assert found.needed.half_width == pytest.approx(0.03)
    assert 300 < found.needed.more < 350, "384 in all give 90 % +- 3"
    assert found.needed.groups == 0


def test_labels_needed_count_the_groups() -> None:
    group = np.repeat(np.arange(10), 10)
    rows = rows_of(np.zeros(100, dtype=int), np.zeros(100, dtype=int), ["test"] * 100)
    where = standing(rows, None, group)
    alone = needed(Estimate(0.9, wilson(90, 100), 100, 100.0), 0.03, None, where)
    tied = needed(Estimate(0.9, wilson(18, 20), 100, 20.0), 0.03, group, where)
    assert alone is not None
    assert tied is not None
    assert (alone.more + 100) * 5 == pytest.approx(tied.more + 100, abs=5)
    assert tied.groups == -(-tied.more // 10)
    assert needed(Estimate(0.9, wilson(900, 1000), 1000, 1000.0), 0.03, None, where) is None


def test_folds_know_who_was_held_out_with_whom() -> None:
    code = np.arange(200) % 2
    names = [f"{i * 7919 % 1000:04d}.png" for i in range(200)]
    fold = [str(i % 5) for i in range(200)]
    by_five = [str(i % 25) for i in range(200)]
    across = [str(i // 25) for i in range(200)]
    answered = [TWO[c] for c in answers(code, 0.9)]
    labels = [TWO[c] for c in code]
    whole = audit(None, predictions(names, labels, answered, fold, by_five))
    torn = audit(None, predictions(names, labels, answered, fold, across))
    assert whole.standing.tested.size == torn.standing.tested.size == 200
    assert whole.straddling == 0
    assert whole.standing.is_clean.all()
    assert torn.straddling == 8
    assert not torn.standing.is_clean.any()


def test_an_unknown_split_counts_as_random_where_there_is_a_leak() -> None:
    data = series(parts=90, size=20)
    predicted = [TWO[p] for p in answers(data.code, 0.9)]
    found = audit(None, predictions(data.names, data.labels, predicted))
    assert not found.rows.has_split
    assert [note.code for note in found.notes] == ["no_split"]
    assert found.basis == "estimated"
    assert found.surviving["accuracy"].effective_n < 1800


def test_copies_in_training_are_found_and_taken_out(tmp_path: Path) -> None:
    names = [f"{split}/{name}/{i:02d}.png" for split in ("train", "test") for name in TWO for i in range(40)]
    rng = np.random.default_rng(0)
    order = rng.permutation(len(names))  # so that no file name says anything
    write_pictures(tmp_path, [names[i] for i in order])
    for i in range(10):
        there = np.asarray(Image.open(tmp_path / f"train/bad/{i:02d}.png"))
        copy = Image.fromarray(np.clip(there * 1.1, 0, 255).astype(np.uint8)).resize((52, 52))
        copy.save(tmp_path / f"test/bad/{i:02d}.png")
    (tmp_path / "test/good/00.png").write_bytes((tmp_path / "train/good/00.png").read_bytes())
    tested = [name for name in names if name.startswith("test")]
    wrong = {f"test/good/{i:02d}.png" for i in range(10, 20)}
    predicted = [("good" if "bad" in name else "bad") if name in wrong else name.split("/")[1] for name in tested]
    path = write_csv(tmp_path / "p.csv", ("image", "pred"), list(zip(tested, predicted, strict=True)))
    found = audit(tmp_path, read_predictions(path))
    assert found.copies is not None
    assert found.copies.n_found == 11
    assert found.standing.has_copy.sum() == 11
    assert found.surviving["accuracy"].n == 69
    assert found.claimed == pytest.approx(70 / 80)
    assert found.surviving["accuracy"].value == pytest.approx(59 / 69)
    assert [part.code for part in found.parts] == ["copies"]
    assert found.rows.side.tolist().count("train") == 80


def test_pictures_under_one_camera_are_no_copies() -> None:
    shared = noise(1, 32)[:, :, 0].astype(float)  # what the place looks like, 32 x 32
    alone = [0.3 * (noise(seed, 32)[:, :, 0].astype(float) - 128) for seed in range(10, 210)]
    thumbs = np.clip(np.stack([shared * 0.7 + 40 + own for own in alone]), 0, 255).astype(np.uint8)
    thumbs[199] = np.clip(thumbs[0] * 1.05 + 3, 0, 255).astype(np.uint8)
    flat = thumbs.reshape(200, -1).astype(float)
    plain = np.corrcoef(flat)
    own = own_parts(thumbs)
    likeness = own @ own.T
    others = np.triu(np.ones((200, 200), dtype=bool), 1)
    others[0, 199] = False
    assert plain[others].mean() > 0.7
    assert likeness[others].max() < 0.9
    assert likeness[0, 199] > 0.97
    np.testing.assert_allclose(np.linalg.norm(own, axis=1), 1, atol=1e-5)


def test_flat_pictures_are_copies_of_nothing_but_their_own_bytes(tmp_path: Path) -> None:
    for i, level in enumerate((200, 200, 201)):
        Image.fromarray(np.full((20, 20, 3), level, dtype=np.uint8)).save(tmp_path / f"{i}.png")
    copies = find_copies(look([tmp_path / f"{i}.png" for i in range(3)]))
    assert copies.group.tolist() == [0, 0, 1]


def test_damaged_images_are_left_out_and_said(tmp_path: Path) -> None:
    names = [f"{name}/{i:02d}.png" for i in range(20) for name in TWO]
    write_pictures(tmp_path, names)
    (tmp_path / "bad" / "07.png").write_bytes(b"no picture")
    rows = [(name, name.split("/")[0]) for name in names]
    found = audit(tmp_path, read_predictions(write_csv(tmp_path / "p.csv", ("image", "pred"), rows)))
    note = next(note for note in found.notes if note.code == "unreadable")
    assert note.values[0] == 1
    assert "07.png" in str(note.values[1])
    assert found.standing.tested.size == 39
    for name in names:
        (tmp_path / name).write_bytes(b"no picture")
    with pytest.raises(BadData, match="none of the 40 images can be read"):
        audit(tmp_path, read_predictions(tmp_path / "p.csv"))


def test_rows_are_matched_labelled_and_noted(tmp_path: Path) -> None:
    write_pictures(tmp_path, ["cat/1.png", "cat/2.png", "dog/3.png", "dog/4.png"])
    given = predictions(["4", "1", "3"], None, ["1", "0", ""])
    rows = gather(tmp_path, given, None)
    assert rows.names == ("cat/1.png", "cat/2.png", "dog/3.png", "dog/4.png")
    assert rows.label.tolist() == [0, 0, 1, 1]
    assert rows.predicted.tolist() == [0, -1, -1, 1]
    assert rows.side.tolist() == ["test", "train", "test", "test"]
    assert {note.code for note in rows.notes} == {"unlisted_train", "class_numbers", "no_answer"}


def test_a_label_against_its_folder_is_said(tmp_path: Path) -> None:
    write_pictures(tmp_path, ["cat/1.png", "dog/2.png"])
    rows = gather(tmp_path, predictions(["1.png", "2.png"], ["cat", "cat"], ["cat", "cat"]), None)
    note = next(note for note in rows.notes if note.code == "labels_differ")
    assert note.values == (1, "dog/2.png")
    assert rows.label.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (predictions(["1"], None, ["a"]), "no labels"),
        (predictions(["1"], ["a"], ["b"]), "no predicted class"),
        (predictions(["1"], ["a"], ["a"], ["train"]), "only training rows"),
        (predictions(["1", "2"], ["a", "b"], ["a", "b"], ["test", ""]), "1 images have no split"),
    ],
)
def test_predictions_that_cannot_be_judged_say_why(given: Predictions, says: str) -> None:
    with pytest.raises(BadData, match=says):
        gather(None, given, None)


def test_every_image_needs_a_group_where_there_are_any() -> None:
    given = predictions(["a/1.jpg", "a/2.jpg"], ["x", "y"], ["x", "y"])
    rows = gather(None, given, {"1.jpg": "p", "/data/a/2.jpg": "p"})
    assert rows.group is not None
    assert rows.group.tolist() == [0, 0]
    with pytest.raises(BadData, match=r"1 of 2 images have none \(a/2.jpg\)"):
        gather(None, given, {"1.jpg": "p"})


def test_margin_and_tried_are_checked() -> None:
    given = predictions(["1"], ["a"], ["a"])
    for margin, tried in ((0.0, 1), (0.6, 1), (0.03, 0)):
        with pytest.raises(BadRequest, match="want a margin"):
            audit(None, given, margin=margin, tried=tried)


BLOCKED = """
import importlib.abc, sys
class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "sklearn", "transformers"):
            raise ImportError(f"{name} must not be needed")
sys.meta_path.insert(0, Refuse())
from pathlib import Path
from anmok.evidence.audit import audit
from anmok.evidence.readers import read_predictions
from anmok.evidence.schema import verdict
found = audit(None, read_predictions(Path(sys.argv[1])))
print(verdict(found)["verdict"], found.surviving["accuracy"].n)
"""


def test_an_audit_needs_neither_torch_nor_scikit_learn(tmp_path: Path) -> None:
    rows = [(f"{i * 37 % 101:03d}.png", "ab"[i % 2], "ab"[i % 2], "test") for i in range(60)]
    path = write_csv(tmp_path / "p.csv", ("image", "label", "pred", "split"), rows)
    ran = subprocess.run(
        [sys.executable, "-c", BLOCKED, str(path)], capture_output=True, text=True, encoding="utf-8", check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split() == ["CANNOT", "TELL", "60"]
