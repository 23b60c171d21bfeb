"""How many images would settle a question, and what is said where that is more than anybody labels."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

import sample_outcome as sample
from anmok.evidence.compare import trial
from anmok.evidence.overkill import Claim
from anmok.evidence.verdict import judge
from anmok.ladder.outcome import Comparison, Outcome
from anmok.ladder.outcome_trust import Priced, PricedRung
from anmok.ladder.report import answers, render, render_page, report_json, verdict
from anmok.ladder.report.figures import Lang
from anmok.ladder.report.priced_words import Pricing
from anmok.ladder.report.sentences import next_steps
from anmok.ladder.settling import MOST, settling
from anmok.ladder.verdicts import compared
from test_report_readers import textile

SAID = {
    "en": "it would take more than 100,000 test images, so it is not to be settled by labelling more",
    "ko": "테스트 이미지가 100,000장 넘게 필요하므로 라벨을 더 붙여서 가릴 일이 아닙니다",
}


def beyond() -> Outcome:
    """Rungs so near to one another that no test set will tell them apart."""
    made = textile()
    told = replace(made.recommendation, images_needed=None, is_out_of_reach=True)
    near = Comparison("3", "1", "CANNOT TELL", 0.0099, -0.009, 0.049, 0.2, 0.1, None, is_out_of_reach=True)
    return replace(made, recommendation=told, comparisons=(made.comparisons[0], near))


@pytest.mark.parametrize(
    ("images", "told"),
    [
        (None, (None, False)),
        (1, (1, False)),
        (MOST, (MOST, False)),
        (MOST + 1, (None, True)),
        (61_234_567, (None, True)),
    ],
)
def test_numbers_are_told_up_to_a_hundred_thousand(images: int | None, told: tuple[int | None, bool]) -> None:
    assert settling(images) == told


def test_millions_by_the_formula_become_out_of_reach() -> None:
    """Large groups of images that answer alike: the formula multiplies by what a group is worth."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(12), 400)
    one, other = (np.repeat(rng.random(12) < share, 400) for share in (0.6, 0.5))
    contrast = trial([("1", one), ("2", other)], groups, seed=0).contrasts([("1", "2")])[0]
    raw = judge(replace(contrast, gain=0.001), 0.001).images_needed
    assert raw is not None
    assert raw > 1_000_000
    found = compared(judge(replace(contrast, gain=0.001), 0.001))
    assert (found.word, found.images_needed, found.is_out_of_reach) == ("CANNOT TELL", None, True)


@pytest.mark.parametrize("lang", ["en", "ko"])
def test_the_verdict_says_that_labels_will_not_settle_it(lang: Lang) -> None:
    first, second = verdict(beyond(), lang)
    assert SAID[lang] in first + second
    assert SAID[lang] not in " ".join(verdict(textile(), lang))


@pytest.mark.parametrize("lang", ["en", "ko"])
def test_page_terminal_and_advice_say_it_too(lang: Lang) -> None:
    short = {"en": "more than 100,000", "ko": "100,000장"}[lang]
    page, plain = render_page(beyond(), {}, lang), render_page(textile(), {}, lang)
    assert page.count(short) >= 3  # verdict, ladder, all comparisons
    assert plain.count(short) == 0
    printed = io.StringIO()
    render(beyond(), Console(file=printed, width=400, color_system=None), lang)
    line = next(line for line in printed.getvalue().splitlines() if line.startswith("3 "))
    assert short in line
    advice = " ".join(action.words for action in next_steps(beyond(), lang))
    assert "--margin" in advice
    assert "--margin" not in " ".join(action.words for action in next_steps(textile(), lang))


def test_a_winner_that_may_be_no_better_than_a_cheaper_rung_says_it() -> None:
    made = textile()
    told = replace(made.recommendation, is_decided=True, is_useful=True, images_needed=None)
    near = replace(made.comparisons[0], images_needed=None, is_out_of_reach=True)
    told_of = answers(replace(made, recommendation=told, comparisons=(near, made.comparisons[1])))
    text = " ".join(answer for _, answer in told_of)
    assert f"Whether it beats the cheaper rung 1 we CANNOT TELL; {SAID['en']}." in text


def test_report_json_holds_no_absurd_number() -> None:
    told = json.loads(report_json(beyond()))
    assert told["recommendation"]["images_needed"] is None
    assert told["recommendation"]["is_out_of_reach"] is True
    assert [one["is_out_of_reach"] for one in told["comparisons"]] == [False, True]
    assert json.loads(report_json(sample.sample()))["recommendation"]["is_out_of_reach"] is False


@pytest.mark.parametrize(("lang", "said"), [("en", "more than 100,000 test photos"), ("ko", "100,000장 넘게")])
def test_defects_that_would_show_a_claim_are_capped_too(lang: Lang, said: str) -> None:
    claim = Claim(False, "not enough to tell", 0.05, 100, 100.0, 4, 5000, 0.09, 0.03, 59, 2_400, 3950, 99_000)
    rung = PricedRung("2", sample.estimate(0.04), None, None)
    priced = Priced("overkill", 0.01, (rung,), (), (), good="flawless", at_most=0.01, claim=claim)

    def told(one: Claim) -> str:
        return Pricing(textile(), replace(priced, claim=one), "open", lang).claimed()

    assert said not in told(claim)
    assert "99,000" in told(claim)
    far = told(replace(claim, needed_defects=3_000_000, needed_photos=123_000_000))
    assert said in far
    assert "000,000" not in far
