"""How far to trust one answer: what the climb says of it, against the statistics by hand and the shipped artefact."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import anmok
import sample_outcome as sample
from anmok.evidence import calibration, conformal, strangeness
from anmok.ladder import Plan, climb
from anmok.ladder.aside import Aside, Asides
from anmok.ladder.climb import Climbed
from anmok.ladder.dataset import read
from anmok.ladder.report import render_page, report_json
from anmok.ladder.report.trust_words import Answering, rounded_up
from anmok.ladder.trusting import _neighbours, trust
from anmok.ladder.zero_shot import text_side
from drawn_defects import draw

PLAN = Plan("fake", shots=(1,), draws=1, rungs=("0a", "2"))
COUNTS = {"good": 150, "scratch": 120, "stain": 120}


@pytest.fixture(scope="module")
def climbed(tmp_path_factory: pytest.TempPathFactory) -> Climbed:
    return climb(read(draw(tmp_path_factory.mktemp("plates") / "p", COUNTS, spread=9)), anmok.load("fake"), PLAN)


@pytest.fixture(scope="module")
def asides(climbed: Climbed) -> Asides:
    model = anmok.load("fake")
    return Asides(climbed.scene, model, text_side(model, climbed.scene.dataset.classes, PLAN), PLAN, climbed.measured)


def aside_of(asides: Asides, key: str) -> Aside:
    found = asides.of(key)
    assert isinstance(found, Aside)
    return found


def visible(page: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<style.*?</style>|<[^>]+>", " ", page, flags=re.DOTALL))


def test_the_temperature_is_that_of_answers_out_of_fold_and_is_shipped(climbed: Climbed, asides: Asides) -> None:
    assert climbed.outcome.recommendation.key == "2"
    aside = aside_of(asides, "2")
    found = climbed.outcome.trust
    assert found is not None
    assert found.calibration is not None
    assert (found.source, found.images) == ("cross-fitted", climbed.outcome.data.pool)
    assert found.calibration.temperature == pytest.approx(calibration.temperature(aside.logits, aside.labels))
    assert climbed.best.temperature == found.calibration.temperature != 1.0
    assert (aside.logits.argmax(1) == aside.labels).mean() < 1.0  # out of fold, so not all of them are right


def test_calibration_is_told_on_the_sealed_test(climbed: Climbed) -> None:
    found, held = climbed.outcome.trust, climbed.scene.held()
    assert found is not None
    assert found.calibration is not None
    logits = climbed.measured.final["2"].logits
    assert logits is not None
    for one, heat in ((found.calibration.before, 1.0), (found.calibration.after, found.calibration.temperature)):
        wanted = calibration.reliability(calibration.softmax(logits, heat), held.labels, held.groups)
        assert one.ece == pytest.approx(wanted.ece)
        assert one.by_chance == pytest.approx(wanted.ece_by_chance[1])
        assert sum(bar.images for bar in one.bars) == climbed.outcome.data.test
        assert one.interval.low <= one.ece <= one.interval.high


def test_sets_hold_what_they_were_measured_to_hold(climbed: Climbed, asides: Asides) -> None:
    found, aside, held = climbed.outcome.trust, aside_of(asides, "2"), climbed.scene.held()
    assert found is not None
    assert found.sets is not None
    assert found.calibration is not None
    logits, heat = climbed.measured.final["2"].logits, found.calibration.temperature
    assert logits is not None
    cut = conformal.quantile(
        1 - calibration.softmax(aside.logits, heat)[np.arange(len(aside.labels)), aside.labels], 0.1
    )
    sets = 1 - calibration.softmax(logits, heat) <= cut
    assert found.sets.covered.value == pytest.approx(sets[np.arange(len(sets)), held.labels].mean())
    assert found.sets.mean_size == pytest.approx(sets.sum(1).mean())
    assert not found.sets.is_proven
    assert found.sets.range.low < 0.9 < found.sets.range.high
    assert abs(found.sets.covered.value - 0.9) < 0.1


def test_the_artefact_abstains_as_it_was_measured(climbed: Climbed, tmp_path: Path) -> None:
    found, scene = climbed.outcome.trust, climbed.scene
    assert found is not None
    assert found.abstaining is not None
    told = found.abstaining
    assert told.threshold is not None
    assert told.answered is not None
    assert told.errors is not None
    climbed.best.write(tmp_path / "best")
    paths = [scene.dataset.paths[i] for i in scene.test]
    answers = anmok.load(str(tmp_path / "best")).run(paths, anmok.Classify(threshold=told.threshold))
    said = [one.label for one in answers]
    truth = [scene.dataset.classes[k] for k in scene.labels[scene.test]]
    given = [(a, b) for a, b in zip(said, truth, strict=True) if a is not None]
    assert len(given) / len(said) == pytest.approx(told.answered.value)
    assert np.mean([a != b for a, b in given]) == pytest.approx(told.errors.value)
    assert 0 < told.answered.value < 1
    assert (told.curve[-1].coverage, told.curve[-1].risk) == (
        1.0,
        pytest.approx(1 - climbed.outcome.step("2").accuracy.value),
    )


def test_kinds_left_out_are_strangers(climbed: Climbed) -> None:
    found = climbed.outcome.trust
    assert found is not None
    assert found.strangers is not None
    assert found.strangers.near is not None
    assert found.strangers.interval is not None
    assert found.strangers.interval.low < found.strangers.near < found.strangers.interval.high
    assert found.strangers.near > 0.55
    assert found.strangers.hardest in COUNTS
    assert found.strangers.limit is not None


def test_distances_are_those_of_the_tenth_neighbour() -> None:
    rng = np.random.default_rng(3)
    rows = rng.random((60, 8)).astype(np.float32)
    known, asked = np.arange(40), np.arange(40, 60)
    centred = rows - rows.mean(0)
    wanted = strangeness.knn_distance(centred[known], centred[asked])
    assert _neighbours(rows)(known, asked) == pytest.approx(wanted, abs=1e-5)


def test_a_rung_that_learned_nothing_may_promise(climbed: Climbed, asides: Asides) -> None:
    aside = aside_of(asides, "0a")
    assert aside.source == "nothing learned"
    chosen = climbed.measured.final["0a"]
    found = trust(chosen, aside, climbed.scene.held(), climbed.measured.material, climbed.scene.dataset.classes)
    assert found.sets is not None
    assert found.sets.is_proven


def test_tuned_rungs_use_what_judged_them_or_say_why_not(climbed: Climbed, asides: Asides) -> None:
    """The head of a tuned rung whose tower did not move in the end, and one that no image was kept aside from."""
    linear = climbed.measured.final["2"]
    final = {
        "5": dataclasses.replace(linear, step=dataclasses.replace(linear.step, key="5")),
        "3e": dataclasses.replace(linear, step=dataclasses.replace(linear.step, key="3e")),
    }
    seen = dataclasses.replace(asides, measured=dataclasses.replace(climbed.measured, final=final), _known={})
    judged = aside_of(seen, "5")
    assert judged.source == "kept aside"
    assert 0.15 < len(judged.labels) / climbed.outcome.data.pool < 0.25
    why = seen.of("3e")
    assert isinstance(why, str)
    found = trust(final["3e"], why, climbed.scene.held(), climbed.measured.material, climbed.scene.dataset.classes)
    outcome = dataclasses.replace(climbed.outcome, trust=dataclasses.replace(found, key="2"))
    assert found.calibration is None
    assert "cannot be trusted" not in visible(render_page(outcome, {}))
    assert "is not known: what it says of images that it did not learn from is not known" in visible(
        render_page(outcome, {})
    )


def test_without_a_sealed_test_everything_is_cross_fitted(tmp_path: Path) -> None:
    outcome = climb(read(draw(tmp_path / "few", {"good": 40, "scratch": 40})), anmok.load("fake"), PLAN).outcome
    assert outcome.is_development
    assert outcome.trust is not None
    assert outcome.trust.sets is not None
    assert outcome.trust.sets.covered.n == 80
    assert "development estimate" in Answering(outcome, "en").source()


@pytest.mark.parametrize(
    ("lang", "title"), [("en", "How far to trust one answer"), ("ko", "답 하나를 얼마나 믿을 수 있나")]
)
def test_the_page_has_a_section_that_can_be_read(climbed: Climbed, lang: Any, title: str) -> None:
    outcome = dataclasses.replace(climbed.outcome, follow_up="anmok classify new.jpg --head report/best")
    page = render_page(outcome, {}, lang)
    section = page[page.index('<section id="trust"') :]
    section = section[: section.index("</section>")]
    assert title in section
    assert section.count("<svg") == 2
    assert outcome.trust is not None
    assert outcome.trust.abstaining is not None
    threshold = outcome.trust.abstaining.threshold
    assert threshold is not None
    assert f"--threshold {rounded_up(threshold)}" in section
    text = visible(section)
    assert not re.search(r"\bNone\b|\bnan\b|\binf\b|Undefined|[{}]", text)
    first = visible(section.partition("</h2>")[2].partition("</p>")[0])
    assert not re.search("calibrat|conformal|ECE|AUROC|temperature|보정|온도", first)  # no jargon to begin with


def test_thresholds_are_written_so_that_they_keep_the_promise() -> None:
    assert (rounded_up(0.7701), rounded_up(0.77), rounded_up(0.99999)) == ("0.771", "0.770", "1.000")


def test_an_older_outcome_is_shown_and_a_newer_one_only_adds(climbed: Climbed) -> None:
    old, new = json.loads(report_json(sample.sample())), json.loads(report_json(climbed.outcome))
    assert (old["trust"], old["priced"], old["format"]) == (None, None, "anmok.ladder/1")
    assert old.keys() == new.keys()
    assert new["trust"]["calibration"]["temperature"] == climbed.best.temperature
    assert "climb again" in visible(render_page(sample.sample(), {}))
    without = dataclasses.replace(climbed.outcome, trust=None)
    assert math.isfinite(without.seconds)
    assert Answering(without, "en").line() == ""
