"""Learning curves of tuned rungs, and how far a climb is told to be."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

import sample_outcome as sample
from anmok.evidence.draws import support_draws
from anmok.evidence.intervals import accuracy
from anmok.ladder import Plan, climb
from anmok.ladder.dataset import read
from anmok.ladder.evaluate import Evaluated
from anmok.ladder.plan import DEFAULT_BUDGET
from anmok.ladder.report import render_page
from anmok.ladder.tally import Tally
from anmok.ladder.tuning import few, recipes, rung
from anmok.ladder.tuning.ground import Ground
from anmok.ladder.tuning.skipped import Skipped
from anmok.load import tiny
from conftest import write_photos
from tuned_ground import ground_of


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    return ground_of(tmp_path_factory.mktemp("few"), Plan("efficientnet-lite2"))


def supports(ground: Ground, shots: tuple[int, ...] = (4, 16), draws: int = 5) -> dict[int, np.ndarray]:
    material = ground.material
    return dict(support_draws(material.labels, shots, draws, seed=0, groups=material.groups))


def made(ground: Ground, seconds: float = 1.0) -> Evaluated:
    """An answer without a run: every picture by its first label."""
    from anmok.ladder.evaluate import tuned_step

    predicted = np.zeros((1, len(ground.tested)), np.int64)
    variant, size = "100 % of the way", (len(ground.paths), 100)
    step = tuned_step("5", variant, (ground.held, ground.price), predicted, seconds, size)
    return Evaluated(step, predicted, predicted == ground.held.labels, None, None, 5)


def test_last_blocks_are_tuned_on_the_first_draws_of_the_others(
    ground: Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANMOK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(recipes, "_STEPS", (2, 2))
    monkeypatch.setattr(few, "DRAWS", 2)
    drawn = supports(ground, (1, 4, 16))  # three images are fewer groups than folds
    found = few.climb_few(ground, drawn, {"5": made(ground)}, 600.0)
    assert [one.step.shots for one in found] == [16]  # four images a class cannot teach and judge
    [one] = found
    assert (one.step.draws, one.step.labels, one.predicted.shape) == (2, 48, (2, len(ground.tested)))
    assert one.step.accuracy == accuracy(one.correct, ground.held.groups)
    again = rung.climb_one("5", few._of_rows(ground, drawn[16][1]), 600.0)
    assert isinstance(again, Evaluated)
    np.testing.assert_array_equal(again.predicted[0], one.predicted[1])
    assert not list((tmp_path / "cache" / "training").glob("*"))


def test_nothing_but_the_drawn_images_teaches_or_judges(ground: Ground) -> None:
    rows = supports(ground)[16][0]
    small = few._of_rows(ground, rows)
    assert sorted(small.paths) == sorted(ground.paths[i] for i in rows)
    assert len(small.teaching) + len(small.judging) == 48
    assert small.tested == ground.tested
    names = dict(zip(ground.paths, ground.material.labels.tolist(), strict=True))
    assert [names[path] for path in small.paths] == small.material.labels.tolist()
    other = few._of_rows(ground, supports(ground)[16][1])
    assert len({ground.checkpoints, small.checkpoints, other.checkpoints}) == 3


def test_no_time_no_curve_and_one_left_out_leaves_its_number_of_labels_out(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, int]] = []

    def answer(key: str, drawn: Ground, seconds: float) -> Evaluated | Skipped:
        asked.append((key, len(drawn.paths)))
        return Skipped(key, "it wants more") if len(drawn.paths) < 20 else made(drawn)

    monkeypatch.setattr(few, "climb_one", answer)
    final = {"2": made(ground), "3e": made(ground, seconds=5.0), "5": made(ground)}
    assert few.climb_few(ground, supports(ground), final, 0.0) == []
    found = few.climb_few(ground, supports(ground), final, 600.0)
    assert [(one.step.shots, one.step.draws) for one in found] == [(16, 3), (16, 3)]
    assert [key for key, _ in asked].count("2") == 0
    asked.clear()
    few.climb_few(ground, supports(ground), final, 16.0)  # half of it is less than three prompts of five seconds take
    assert {key for key, _ in asked} == {"5"}


def test_what_was_left_out_with_all_labels_has_no_curve(ground: Ground) -> None:
    assert few.climb_few(ground, supports(ground), {"2": made(ground)}, 600.0) == []


def test_the_report_says_that_tuned_rungs_have_fewer_draws() -> None:
    plain = sample.sample()
    assert "average over the first" not in render_page(plain, {})
    whole = dataclasses.replace(plain.steps[-1], key="5", rung="last blocks")
    tuned = dataclasses.replace(plain.curve[-1], key="5", rung="last blocks", draws=3)
    outcome = dataclasses.replace(plain, steps=(*plain.steps, whole), curve=(*plain.curve, tuned))
    page = render_page(outcome, {})
    assert "Tuned rungs (5) are the average over the first 3 of these draws" in page
    korean = render_page(outcome, {}, "ko").replace("\N{WORD JOINER}", "")
    assert "모델을 조정하는 방법(5)은 그중 처음 3번만" in korean


@pytest.mark.parametrize(("budget", "last"), [(DEFAULT_BUDGET, []), (DEFAULT_BUDGET + 1, [("few labels", 4, 5)])])
def test_few_labels_are_a_piece_of_a_climb_with_a_budget(
    budget: float, last: list[tuple[str, int, int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANMOK_CACHE", str(tmp_path / "cache"))
    photos = write_photos(tmp_path / "photos", 52, ("red", "blue"))  # enough for a test set
    told: list[tuple[str, int, int]] = []
    plan = Plan("fake", shots=(1,), draws=1, rungs=("1", "2"), budget=budget)
    climb(read(photos), tiny("fake"), plan, progress=lambda *stage: told.append(stage))
    pieces = [one for one in told if one[0].startswith("rung ") or one[0] == "few labels"]
    total = 4 + len(last)
    first = [("rung 1", 0, total), ("rung 1", 1, total), ("rung 2", 2, total), ("rung 2", 3, total)]
    assert pieces == first + last
    assert told[-1] == ("verdict", 0, 1)


def test_a_climb_is_never_told_to_be_done_while_a_rung_is_worked_on() -> None:
    told: list[tuple[str, int, int]] = []
    plan = Plan("mini", rungs=("1", "2", "T", "5"), budget=600.0)
    tally = Tally.of(lambda *stage: told.append(stage), plan, learned=2, supports=3)
    assert tally.total == 2 * 4 + 2 + 1  # T and 5, and few labels of the tuned
    for key in (*["1"] * 4, *["2"] * 4, "T", "5"):
        tally.begins(key)
        tally.ends()
    tally.begins_few()
    tally.ends()
    assert all(done < total for _, done, total in told)
    assert (told[0], told[-1]) == (("rung 1", 0, 11), ("few labels", 10, 11))
    tally.begins("6")  # more than was foreseen
    assert told[-1][1] < told[-1][2]
    tally.compares()
    assert told[-1] == ("verdict", 0, 1)
    assert Tally.of(None, Plan("mini", rungs=("1",)), 1, 0).total == 1
