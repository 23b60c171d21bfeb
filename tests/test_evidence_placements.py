"""AUROC as a mean over pictures: equal to the pairs, with intervals that hold, and contrasts that do not cry wolf."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from anmok.errors import BadData, BadRequest
from anmok.evidence.placements import auroc_of_draws, linear, placements, ranking_trial
from anmok.evidence.ranking import delong_variance
from anmok.evidence.verdict import Word, judge, recommend_from
from anmok.metrics import auroc


def drawn(rng: np.random.Generator, value: float, defects: int, good: int) -> tuple[np.ndarray, np.ndarray]:
    truth = np.arange(defects + good) < defects
    return rng.normal(size=defects + good) + truth * np.sqrt(2) * norm.ppf(value), truth


def test_the_mean_of_the_placements_of_either_kind_is_the_auroc() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random(80) < 0.3
    scores = np.stack([rng.normal(size=80).round(1) + truth, rng.normal(size=80)])
    placed, flat = placements(scores, truth), linear(scores, truth)
    for row, straight, values in zip(placed, flat, scores, strict=True):
        wanted = auroc(values, truth)
        assert row[truth].mean() == pytest.approx(wanted, abs=1e-12)
        assert row[~truth].mean() == pytest.approx(wanted, abs=1e-12)
        assert straight.mean() == pytest.approx(wanted, abs=1e-12)


def test_their_variance_is_delongs() -> None:
    scores, truth = drawn(np.random.default_rng(1), 0.8, 60, 140)
    ours = linear(scores, truth)[0]
    by_kind = sum(ours[kind].var(ddof=1) * kind.sum() for kind in (truth, ~truth)) / truth.size**2
    assert by_kind == pytest.approx(delong_variance(scores[~truth], scores[truth]), rel=1e-9)


@pytest.mark.parametrize(("value", "defects", "good"), [(0.7, 40, 60), (0.95, 15, 60), (0.99, 40, 40)])
def test_the_interval_of_several_draws_holds(value: float, defects: int, good: int) -> None:
    rng = np.random.default_rng(3)
    held = []
    for _ in range(150):
        truth = np.arange(defects + good) < defects
        shared, shift = rng.normal(size=truth.size), truth * np.sqrt(2) * norm.ppf(value)
        # Draws differ in noise of their own, on top of what the pictures share.
        scores = np.stack([shift + 0.9 * shared + np.sqrt(1 - 0.81) * rng.normal(size=truth.size) for _ in range(4)])
        interval = auroc_of_draws(scores, truth).interval
        held.append(interval.low <= value <= interval.high)
    assert np.mean(held) >= 0.93


def test_a_perfect_ranking_of_few_is_not_sure() -> None:
    scores, truth = np.arange(20.0), np.arange(20) >= 15
    found = auroc_of_draws(scores, truth)
    assert found.value == 1
    assert found.interval.high == 1
    assert 0.6 < found.interval.low < 0.9


def test_equal_rankings_are_seldom_told_apart_and_a_gain_is_found() -> None:
    rng = np.random.default_rng(0)
    apart, found = [], []
    for _ in range(60):
        truth = np.arange(160) < 60
        shared, base = rng.normal(size=160), truth * np.sqrt(2) * norm.ppf(0.75)
        first, second = (base + 0.7 * shared + 0.7 * rng.normal(size=160) for _ in range(2))
        better = truth * np.sqrt(2) * norm.ppf(0.95) + 0.7 * shared + 0.7 * rng.normal(size=160)
        tried = ranking_trial([("a", first), ("b", second), ("c", better)], truth, None, seed=0, resamples=1000)
        [same] = tried.contrasts([("a", "b")])
        [gain] = tried.contrasts([("a", "c")])
        apart.append(judge(same, 0.02).word in (Word.BETTER, Word.WORSE))
        found.append(judge(gain, 0.02).word is Word.BETTER)
    assert np.mean(apart) <= 0.07
    assert np.mean(found) >= 0.9


def test_the_resampled_gain_varies_as_delong_says() -> None:
    rng = np.random.default_rng(5)
    scores, truth = drawn(rng, 0.8, 80, 120)
    tried = ranking_trial([("a", np.zeros(200)), ("b", scores)], truth, None, seed=0)
    gain = tried.gain("a", "b")
    assert gain.value == pytest.approx(auroc(scores, truth) - 0.5)
    width = gain.interval(0.95).half_width
    exact = 1.96 * delong_variance(scores[~truth], scores[truth]) ** 0.5
    assert exact < width < 1.6 * exact  # the made-up pictures widen it


def test_the_cheapest_of_equal_rankings_is_recommended() -> None:
    rng = np.random.default_rng(2)
    scores, truth = drawn(rng, 0.97, 150, 300)
    rankings = [("dear", scores), ("cheap", scores + 1e-3 * rng.normal(size=450)), ("poor", rng.normal(size=450))]
    tried = ranking_trial(rankings, truth, None, seed=0)
    found = recommend_from({"dear": 100.0, "cheap": 1.0, "poor": 0.0}, tried, 0.03)
    assert (found.name, found.is_decided) == ("cheap", True)


def test_one_kind_alone_is_refused() -> None:
    with pytest.raises(BadData, match="0 defects among 3"):
        linear([1, 2, 3], [False] * 3)
    with pytest.raises(BadData, match="finite"):
        linear([1, np.inf, 3], [False, True, True])
    with pytest.raises(BadRequest, match="different names"):
        ranking_trial([("a", [1, 2]), ("a", [1, 2])], [True, False], None, seed=0)
