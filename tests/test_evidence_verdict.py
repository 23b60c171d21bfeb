from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from anmok.errors import BadData, BadRequest
from anmok.evidence.compare import Contrast, paired
from anmok.evidence.intervals import Interval
from anmok.evidence.power import images_to_settle
from anmok.evidence.verdict import Candidate, Recommendation, Word, judge, recommend

BASE = Contrast(
    name_a="A",
    name_b="B",
    gain=0.05,
    interval=Interval(0.02, 0.08),
    interval90=Interval(0.025, 0.075, 0.9),
    p=0.001,
    p_adjusted=0.002,
    disagreement=0.1,
    n_images=400,
    n_groups=400,
    n_draws=1,
    design_effect=1.0,
    image_variance=(0.1 - 0.05**2) / 400,
    draw_variance=0.0,
)


def _contrast(gain: float, half: float, half90: float) -> Contrast:
    return replace(
        BASE,
        gain=gain,
        interval=Interval(gain - half, gain + half),
        interval90=Interval(gain - half90, gain + half90, 0.9),
    )


@pytest.mark.parametrize(
    ("gain", "half", "half90", "word"),
    [
        (0.05, 0.03, 0.025, Word.BETTER),
        (-0.05, 0.03, 0.025, Word.WORSE),
        (0.05, 0.05, 0.04, Word.CANNOT_TELL),  # touches 0
        (0.002, 0.008, 0.007, Word.SAME),
        (-0.002, 0.009, 0.0079, Word.SAME),
        (0.006, 0.003, 0.0025, Word.SAME),  # surely above 0, and surely below what matters
        (0.009, 0.008, 0.007, Word.CANNOT_TELL),  # surely above 0, perhaps above the margin
        (0.01, 0.009, 0.008, Word.BETTER),
        (0.0, 0.0125, 0.0105, Word.CANNOT_TELL),
    ],
)
def test_words(gain: float, half: float, half90: float, word: Word) -> None:
    verdict = judge(_contrast(gain, half, half90), 0.01)
    assert verdict.word is word
    assert verdict.margin == 0.01
    assert word is Word.CANNOT_TELL or verdict.images_needed is None


def test_images_needed_is_the_closed_form() -> None:
    assert judge(_contrast(0.02, 0.03, 0.025)).images_needed == pytest.approx(
        images_to_settle(0.02, 0.1, design_effect=(0.1 - 0.05**2) / (0.1 - 0.02**2)), abs=1
    )
    unsure = replace(_contrast(0.0, 0.03, 0.025), image_variance=0.1 / 400)
    assert judge(unsure, 0.01).images_needed == images_to_settle(0.01, 0.1) == 7_847


def test_images_needed_grows_with_groups_and_draws() -> None:
    plain = replace(_contrast(0.02, 0.03, 0.025), image_variance=(0.1 - 0.02**2) / 400)
    one = judge(plain).images_needed
    assert one == images_to_settle(0.02, 0.1) == 1_960
    assert judge(replace(plain, image_variance=3 * plain.image_variance)).images_needed == pytest.approx(3 * one, abs=3)
    half_spent = 0.5 * (0.02 / 2.801585) ** 2
    assert judge(replace(plain, draw_variance=half_spent)).images_needed == pytest.approx(2 * one, abs=3)


def test_images_alone_do_not_settle_what_the_draws_leave_open() -> None:
    assert judge(replace(_contrast(0.02, 0.03, 0.025), draw_variance=0.01**2)).images_needed is None
    # with so many images only a gain at the margin is still open
    many = replace(_contrast(0.0099, 0.003, 0.0025), n_images=40_000, image_variance=0.1 / 40_000)
    assert judge(many).word is Word.CANNOT_TELL
    assert judge(many).images_needed is None


def test_images_needed_without_a_disagreement() -> None:
    verdict = judge(paired(np.ones(40), np.ones(40), seed=0))
    assert verdict.word is Word.CANNOT_TELL
    assert verdict.images_needed == images_to_settle(0.01, 0.01)


@pytest.mark.parametrize("margin", [0.0, 1.0, -0.1, float("nan")])
def test_refuses_a_margin_that_is_no_share(margin: float) -> None:
    with pytest.raises(BadRequest, match="one point"):
        judge(BASE, margin)


def _rungs(*right: int, n: int = 2_000) -> list[Candidate]:
    """Rungs that have the first ``right`` of ``n`` images right, the cheapest first."""
    order = np.arange(n)
    return [Candidate(f"rung{k}", float(k), order < count) for k, count in enumerate(right)]


def _named(found: Recommendation) -> tuple[str, str, bool]:
    return found.name, found.best_name, found.is_decided


def test_recommends_the_cheapest_that_is_as_good() -> None:
    found = recommend(_rungs(1_000, 1_400, 1_600, 1_605, 1_610), None, 0.02, seed=0)
    assert _named(found) == ("rung2", "rung4", True)
    assert [s.is_good_enough for s in found.standings] == [False, False, True, True, True]
    assert [v.word for v in found.verdicts] == [Word.BETTER, Word.BETTER, Word.SAME, Word.SAME]
    # each rung is held against the cheapest one that was not beaten yet
    assert [v.contrast.name_a for v in found.verdicts] == ["rung0", "rung1", "rung2", "rung2"]
    assert found.standings[2].shortfall == pytest.approx(10 / 2_000)
    assert 10 / 2_000 < found.standings[2].worst_shortfall < 0.02
    assert found.images_needed is None
    assert "rung2 is the cheapest shown to lack at most 2 points" in found.reason


def test_staying_on_the_cheapest_rung_is_an_outcome() -> None:
    found = recommend(_rungs(1_600, 1_500, 1_400), None, 0.02, seed=0)
    assert _named(found) == ("rung0", "rung0", True)
    assert [v.word for v in found.verdicts] == [Word.WORSE, Word.WORSE]


def test_cost_decides_the_order_not_the_caller() -> None:
    rungs = _rungs(1_400, 1_600, 1_602)
    assert recommend(rungs[::-1], None, 0.02, seed=0) == recommend(rungs, None, 0.02, seed=0)


def test_says_so_when_it_cannot_decide() -> None:
    rng = np.random.default_rng(0)
    rungs = [Candidate(str(k), k, rng.random(60) < p) for k, p in enumerate((0.5, 0.78, 0.8))]
    found = recommend(rungs, None, 0.01, seed=0)
    assert not found.is_decided
    assert found.name == next(s.name for s in found.standings if s.shortfall <= 0.01)
    assert found.reason.startswith("undecided")
    assert found.images_needed is None or found.images_needed > 60


def test_images_to_decide_follow_the_formula() -> None:
    # A and B differ on 2 % both ways: n = (1.645 + 0.842)^2 * 0.04 / 0.01^2 = 2,473 images show B no worse
    a, b = np.ones(500), np.ones(500)
    a[:10], b[10:20] = 0, 0
    found = recommend([Candidate("A", 0, a), Candidate("B", 1, b)], None, 0.01, seed=0)
    assert _named(found) == ("A", "A", False)
    assert found.images_needed == pytest.approx(2_473, abs=3)


def test_a_rung_alone_is_recommended() -> None:
    found = recommend(_rungs(10, n=20), None, seed=0)
    assert _named(found) == ("rung0", "rung0", True)
    assert found.verdicts == ()


def test_groups_make_it_harder_to_decide() -> None:
    a, b = np.ones(2_000), np.ones(2_000)
    a[:40], b[40:80] = 0, 0  # one run each
    rungs = [Candidate("A", 0, a), Candidate("B", 1, b)]
    assert recommend(rungs, None, 0.01, seed=0).is_decided
    assert not recommend(rungs, np.arange(2_000) // 40, 0.01, seed=0).is_decided


def test_refuses_what_cannot_be_ranked() -> None:
    with pytest.raises(BadRequest, match="no rung"):
        recommend([], None, seed=0)
    with pytest.raises(BadData, match="same images"):
        recommend([Candidate("A", 0, np.ones(3)), Candidate("B", 1, np.ones(4))], None, seed=0)
