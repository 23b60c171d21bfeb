"""What an artefact answers where the likeliest label is not the cheapest, and how sure it says that it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import special

import anmok
from anmok.errors import BadData
from anmok.evidence.costs import Costs
from anmok.load import Adapter, Decision, Head, Model, logits_of, odds_against
from anmok.results import Scores
from anmok.wire.answers import result_from_json, result_to_json

MATRIX = ((0.0, 1.0, 2.0), (50.0, 0.0, 3.0), (8.0, 4.0, 0.0))
LABELS = ("good", "scratch", "stain")


def rows(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 3, (400, 3))


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (24, 24, 3), dtype=np.uint8)


def adapted(name: str, temperature: float, decision: Decision | None) -> Model:
    model = anmok.load(name)
    return model.with_adapter(
        Adapter(name, model.maker, LABELS, "0b", temperature=temperature, decision=decision, templates=("a {}",))
    )


def test_the_cheapest_answer_is_that_of_the_costs() -> None:
    prevalence, learned = np.array([0.9, 0.07, 0.03]), np.array([0.4, 0.4, 0.2])
    chance = special.softmax(rows(), axis=1)
    decision = Decision("costs", MATRIX, tuple(prevalence / learned))
    wanted = Costs(np.asarray(MATRIX), prevalence).decide(chance, learned)
    assert decision.answers(rows()).tolist() == wanted.tolist()
    assert (wanted != chance.argmax(1)).mean() > 0.1  # or the test would say nothing


def test_an_alarm_is_raised_above_the_threshold_alone() -> None:
    chance = special.softmax(rows(), axis=1)
    against = odds_against(rows(), 0)
    assert against == pytest.approx(np.log((1 - chance[:, 0]) / chance[:, 0]), abs=1e-9)
    answers = Decision("overkill", good=0, alarm_above=1.5).answers(rows())
    assert ((answers != 0) == (against > 1.5)).all()
    assert (answers[answers != 0] == 1 + chance[answers != 0, 1:].argmax(1)).all()


@pytest.mark.parametrize("scoring", ["softmax", "sigmoid"])
def test_logits_come_back_from_scores(scoring: str) -> None:
    logits = rows()[0]
    values = special.softmax(logits) if scoring == "softmax" else special.expit(logits)
    found = logits_of(Scores(LABELS, values.astype(np.float32), scoring))  # type: ignore[arg-type]
    assert found - found[0] == pytest.approx(logits - logits[0], abs=1e-5)


@pytest.mark.parametrize("name", ["fake", "fake-sigmoid"])
def test_a_text_tower_answers_at_the_artefacts_temperature(name: str) -> None:
    [plain] = adapted(name, 1.0, None).run([picture(0)], anmok.Classify())
    [warm] = adapted(name, 2.0, None).run([picture(0)], anmok.Classify())
    assert warm.scoring == "softmax"
    assert warm.scores == pytest.approx(special.softmax(logits_of(plain) / 2), abs=1e-6)


def test_a_decision_changes_the_label_and_not_the_scores() -> None:
    ask = anmok.Classify()
    [plain] = adapted("fake", 1.0, None).run([picture(1)], ask)
    worst = LABELS[int(plain.scores.argmin())]
    decision = Decision("costs", MATRIX, tuple(1e9 if label == worst else 1e-9 for label in LABELS))
    [decided] = adapted("fake", 1.0, decision).run([picture(1)], ask)
    assert (plain.label, decided.label) == (LABELS[int(plain.scores.argmax())], worst)
    assert decided.scores == pytest.approx(plain.scores, abs=1e-6)
    again = result_from_json("classify", result_to_json(decided))
    assert isinstance(again, Scores)
    assert again.label == worst
    [abstained] = adapted("fake", 1.0, decision).run([picture(1)], anmok.Classify(threshold=0.999999))
    assert abstained.label is None


@pytest.mark.parametrize(
    "decision",
    [Decision("costs", MATRIX, (1.0, 0.1, 2.5)), Decision("overkill", good=1, alarm_above=-0.25), None],
)
def test_an_artefact_keeps_its_decision(tmp_path: Path, decision: Decision | None) -> None:
    head = Head(np.eye(3, dtype=np.float32), np.zeros(3, np.float32))
    Adapter("fake", "m", LABELS, "2", head=head, temperature=1.75, decision=decision).write(tmp_path / "best")
    again = Adapter.read(tmp_path / "best")
    assert (again.temperature, again.decision) == (1.75, decision)
    [scores] = again.classify(np.array([[3.0, 1.0, 0.0]], np.float32), anmok.Classify(LABELS))
    assert scores.scores == pytest.approx(special.softmax(np.array([3.0, 1.0, 0.0]) / 1.75), abs=1e-6)


def test_an_older_artefact_is_read_as_it_was(tmp_path: Path) -> None:
    Adapter("fake", "m", LABELS, "0b").write(tmp_path / "best")
    manifest = tmp_path / "best" / "anmok.toml"
    lines = [line for line in manifest.read_text().splitlines() if not line.startswith("temperature")]
    manifest.write_text("\n".join(lines))
    assert Adapter.read(tmp_path / "best").is_plain


@pytest.mark.parametrize(
    "damage",
    [
        'kind = "overkill"\ngood = "dent"\nalarm_above = 1',
        'kind = "luck"',
        'kind = "costs"\nmatrix = [[0]]\nweights = [1]',
    ],
)
def test_a_decision_about_other_labels_is_refused(tmp_path: Path, damage: str) -> None:
    Adapter("fake", "m", LABELS, "0b").write(tmp_path / "best")
    with (tmp_path / "best" / "anmok.toml").open("a") as file:
        file.write(f"\n[decision]\n{damage}\n")
    with pytest.raises(BadData, match="not an anmok adapter"):
        Adapter.read(tmp_path / "best")
