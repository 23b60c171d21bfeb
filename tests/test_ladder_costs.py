"""The ladder where errors have a price: what is ranked, what is shipped, and what may be claimed."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import anmok
from anmok.errors import BadData, BadRequest
from anmok.evidence.costs import Costs
from anmok.ladder import Plan, climb, verdicts
from anmok.ladder.climb import Climbed
from anmok.ladder.dataset import read
from anmok.ladder.pricing import Ranking
from anmok.ladder.report import answers, render_page, verdict
from anmok.ladder.stakes import Stakes, read_costs, read_prevalence, read_share
from command_line import answered, fine
from drawn_defects import draw

PLAN = Plan("fake", shots=(1,), draws=1, rungs=("0a", "1", "2"))
COSTS = Stakes((("good", "good", 0), ("good", "scratch", 1), ("scratch", "good", 50), ("scratch", "scratch", 0)),
               (("good", 0.98), ("scratch", 0.02)), good="good")  # fmt: skip
OVERKILL = Stakes(max_overkill=0.05, good="good")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("plates") / "photos", {"good": 420, "scratch": 54})


@pytest.fixture(scope="module")
def by_costs(photos: Path) -> Climbed:
    return climb(read(photos), anmok.load("fake"), dataclasses.replace(PLAN, stakes=COSTS))


@pytest.fixture(scope="module")
def by_overkill(photos: Path) -> Climbed:
    return climb(read(photos), anmok.load("fake"), dataclasses.replace(PLAN, stakes=OVERKILL))


def shipped(climbed: Climbed, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Class numbers of the test photos, and what the artefact says of them once it is loaded anew."""
    climbed.best.write(folder / "best")
    scene = climbed.scene
    found = anmok.load(str(folder / "best")).run([scene.dataset.paths[i] for i in scene.test], anmok.Classify())
    return scene.labels[scene.test], np.array([scene.dataset.classes.index(str(one.label)) for one in found])


def test_the_artefact_costs_what_the_report_says(by_costs: Climbed, tmp_path: Path) -> None:
    truth, said = shipped(by_costs, tmp_path)
    costs = Costs(np.array([[0.0, 1], [50, 0]]), np.array([0.98, 0.02]))
    priced = by_costs.outcome.priced
    assert priced is not None
    chosen = priced.rung(by_costs.outcome.recommendation.key)
    assert costs.expected(truth, said, by_costs.scene.held().groups).cost == chosen.value
    by_hand = 0.98 * (said[truth == 0] == 1).mean() + 0.02 * 50 * (said[truth == 1] == 0).mean()
    assert chosen.value.value == pytest.approx(by_hand)
    assert (priced.constant, priced.constant_cost) == ("scratch", pytest.approx(0.98))
    assert priced.margin == pytest.approx(0.0098)  # one per cent of what it costs without a model


def test_rungs_are_ranked_by_cost_and_the_costs_decide_what_is_useful(by_costs: Climbed, photos: Path) -> None:
    outcome = by_costs.outcome
    assert outcome.priced is not None
    costs = {one.key: one.value.value for one in outcome.priced.rungs}
    assert outcome.recommendation.key == min(costs, key=lambda key: costs[key]) == "2"
    assert outcome.recommendation.is_useful
    assert costs["2"] < 0.5 * costs["1"]
    [over] = [one for one in outcome.priced.savings if one.key == "2"]
    assert over.word == "BETTER"
    assert over.low < over.saved < over.high
    assert over.saved == pytest.approx(costs[over.against] - costs["2"])
    plain = climb(read(photos), anmok.load("fake"), PLAN).outcome
    assert plain.priced is None
    assert [step.accuracy for step in plain.steps] == [step.accuracy for step in outcome.steps]


def test_the_recommendation_follows_the_worth_and_not_the_accuracy(by_costs: Climbed) -> None:
    scene, measured = by_costs.scene, by_costs.measured
    size = len(scene.test)
    worth = {key: np.full((1, size), 1.0 if key == "0a" else 0.2) for key in measured.final}
    by = Ranking(worth, np.zeros((1, size)), np.arange(size), None, 0.01)
    judged = verdicts.recommendation(measured, scene, PLAN, by)
    assert (judged.recommendation.key, judged.recommendation.is_decided) == ("0a", True)
    assert verdicts.recommendation(measured, scene, PLAN).recommendation.key == "2"
    assert judged.comparisons == verdicts.recommendation(measured, scene, PLAN).comparisons


def test_the_artefact_keeps_to_the_threshold_that_the_report_names(by_overkill: Climbed, tmp_path: Path) -> None:
    truth, said = shipped(by_overkill, tmp_path)
    priced = by_overkill.outcome.priced
    assert priced is not None
    chosen = priced.rung(by_overkill.outcome.recommendation.key)
    assert chosen.missed is not None
    assert chosen.overkill is not None
    assert chosen.value == chosen.missed
    assert chosen.missed.value == pytest.approx((said[truth == 1] == 0).mean())
    assert chosen.overkill.value == pytest.approx((said[truth == 0] == 1).mean())
    assert priced.promise == "with confidence"
    assert priced.good_images == 420 - (truth == 0).sum()
    assert priced.reachable is not None
    assert priced.reachable <= 0.05


def test_the_threshold_never_sees_the_test(photos: Path, tmp_path: Path) -> None:
    plan = dataclasses.replace(PLAN, stakes=OVERKILL)
    found = []
    for seed in (1, 2):
        test = draw(tmp_path / str(seed), {"good": 40, "scratch": 40}, seed)
        found.append(climb(read(photos, test=test), anmok.load("fake"), plan))
    assert found[0].best.decision == found[1].best.decision
    assert found[0].outcome.priced != found[1].outcome.priced


def test_sixteen_defects_are_not_enough_and_it_says_so(by_costs: Climbed) -> None:
    assert by_costs.outcome.priced is not None
    claim = by_costs.outcome.priced.claim
    assert claim is not None
    assert (claim.defects, claim.is_shown, claim.reason) == (16, False, "too few defects")
    assert claim.smallest == pytest.approx(1 - 0.05 ** (1 / 16))
    assert claim.least_defects == 59
    first, second = verdict(by_costs.outcome)
    assert first.startswith("Use rung 2 (linear head): by what errors cost you, it costs ")
    assert f"16 defects in {claim.photos} test photos are too few to claim much" in second
    assert "even with none missed it could be 17.1 %" in second
    assert "takes 59 defects with none missed" in second
    assert "불량이 16장뿐이어서" in verdict(by_costs.outcome, "ko")[1]


def test_one_per_cent_needs_more_good_images_than_there_are(photos: Path) -> None:
    outcome = climb(read(photos), anmok.load("fake"), dataclasses.replace(PLAN, stakes=dataclasses.replace(
        OVERKILL, max_overkill=0.002))).outcome  # fmt: skip
    assert outcome.priced is not None
    assert outcome.priced.promise == "none"
    assert outcome.priced.good_needed == 499
    assert "too few to promise an overkill of at most 0.2 %" in verdict(outcome)[1]


@pytest.mark.parametrize("lang", ["en", "ko"])
@pytest.mark.parametrize("which", ["by_costs", "by_overkill"])
def test_the_page_has_every_price(which: str, lang: Any, request: pytest.FixtureRequest) -> None:
    outcome = request.getfixturevalue(which).outcome
    page = render_page(outcome, {}, lang)
    text = re.sub(r"\s+", " ", re.sub(r"<style.*?</style>|<[^>]+>", " ", page, flags=re.DOTALL))
    assert not re.search(r"\bNone\b|\bnan\b|\bTrue\b|\bFalse\b|Undefined|[{}]", text)
    assert page.count("<caption") == page.count("<table")
    said = answers(outcome, lang)
    assert len(said) == 5
    assert verdict(outcome, lang)[0] in said[0][1]
    assert ("What errors cost" if lang == "en" else "오류의 비용") in text


def test_few_images_are_priced_without_a_claim(tmp_path: Path) -> None:
    few = draw(tmp_path / "few", {"good": 50, "scratch": 30})
    for stakes in (COSTS, OVERKILL):
        outcome = climb(read(few), anmok.load("fake"), dataclasses.replace(PLAN, stakes=stakes)).outcome
        assert outcome.is_development
        assert outcome.priced is not None
        assert outcome.priced.rung("2").value.n == (80 if stakes is COSTS else 30)
        assert verdict(outcome)[0].startswith("Too few labels for a verdict")


def test_what_is_typed_is_read(tmp_path: Path) -> None:
    table = tmp_path / "costs.csv"
    table.write_text("truth;좋음;나쁨\n좋음;0;1\n나쁨;50;-0.5\n", encoding="utf-8")
    assert read_costs(table) == (("좋음", "좋음", 0), ("좋음", "나쁨", 1), ("나쁨", "좋음", 50), ("나쁨", "나쁨", -0.5))
    assert read_prevalence("a=2%, b=0.98") == (("a", 0.02), ("b", 0.98))
    assert read_share("0.5%", "--max-overkill") == pytest.approx(0.005)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda: Stakes(), "nothing at stake"),
        (lambda: Stakes(max_overkill=0.01), "--good"),
        (lambda: Stakes(max_overkill=1.0, good="good"), "between 0 and 1"),
        (lambda: dataclasses.replace(COSTS, max_overkill=0.01), "drop the other"),
        (lambda: read_prevalence("good"), "defect=0.02"),
        (lambda: read_share("a lot", "--max-overkill"), "0.01 or 1%"),
        (lambda: read_share("3", "--max-overkill"), "from 0 to 1"),
    ],
)
def test_stakes_that_make_no_sense_are_refused(wrong: Any, said: str) -> None:
    with pytest.raises(BadRequest, match=re.escape(said)):
        wrong()


@pytest.mark.parametrize(
    ("stakes", "said"),
    [
        (Stakes(max_overkill=0.01, good="fine"), "no class 'fine'"),
        (dataclasses.replace(COSTS, prevalence=(("good", 1.0),)), "says nothing of scratch"),
        (dataclasses.replace(COSTS, costs=COSTS.costs[:3]), "no cost of the answer scratch"),
        (dataclasses.replace(COSTS, costs=(*COSTS.costs[:2], ("scratch", "good", 0), COSTS.costs[3])), "costs no more"),
    ],
)
def test_stakes_of_other_classes_are_refused_before_the_test_is_opened(photos: Path, stakes: Stakes, said: str) -> None:
    plan = dataclasses.replace(PLAN, stakes=stakes, seed=77)
    with pytest.raises(BadRequest, match=said):
        climb(read(photos), anmok.load("fake"), plan)


def test_tables_that_are_none_are_refused(tmp_path: Path) -> None:
    for content, said in {
        "a,b\n": "first line",
        "t,a,b\na,0\nb,1,0\n": "1 costs for 2",
        "t,a,b\na,0,x\nb,1,0\n": "no number",
    }.items():
        (tmp_path / "c.csv").write_text(content)
        with pytest.raises(BadData, match=said):
            read_costs(tmp_path / "c.csv")


def test_the_command_ships_a_decision_that_classify_obeys(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "costs.csv").write_text("truth,good,scratch\ngood,0,1\nscratch,50,0\n")
    ran = fine(
        "ladder", str(photos), "--model", "fake", "--out", "report",
        "--costs", "costs.csv", "--prevalence", "good=98%,scratch=2%",
    )  # fmt: skip
    assert "What errors cost" in ran.out
    assert '[decision]\n"kind" = "costs"' in (tmp_path / "report/best/anmok.toml").read_text()
    rows = answered("classify", str(photos / "good"), "--head", "report/best")
    likeliest = [row["scores"][0]["label"] for row in rows]
    labels = [row["label"] for row in rows]
    assert labels.count("scratch") > likeliest.count("scratch")
