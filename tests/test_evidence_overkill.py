from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from anmok.errors import BadData, BadRequest
from anmok.evidence.intervals import wilson
from anmok.evidence.overkill import claimable, compare, measure, threshold
from benchmark_code import benchmark

simulate = benchmark("simulate_trust")
GOOD = np.arange(1000) / 1000.0  # scores of good images, all different


def _good(n: int) -> np.ndarray:
    return np.zeros(n, dtype=bool)


def test_the_two_promises_are_told_apart() -> None:
    average, sure = threshold(GOOD, _good(1000), 0.01), threshold(GOOD, _good(1000), 0.01, 0.95)
    assert (average.promise, average.allowed, average.needed) == ("on average", 9, 99)
    assert average.value == pytest.approx(0.990)
    # 4 of 1,000 is the most whose exact bound (0.915 %) lies below 1 %; 5 have 1.05 %
    assert (sure.promise, sure.allowed, sure.needed) == ("with confidence", 4, 299)
    assert sure.reachable == pytest.approx(stats.beta.ppf(0.95, 5, 996))
    assert sure.value == pytest.approx(0.995)


def test_too_few_good_images_promise_nothing_but_say_what_they_could() -> None:
    few = threshold(GOOD[:50], _good(50), 0.01)
    assert (few.promise, few.value, few.reachable) == ("none", 0.049, pytest.approx(1 / 51))
    sure = threshold(GOOD[:200], _good(200), 0.01, 0.95)
    assert (sure.promise, sure.allowed) == ("none", 0)
    assert sure.reachable == pytest.approx(1 - 0.05 ** (1 / 200))


def test_defects_do_not_move_the_threshold() -> None:
    scores, defect = np.concatenate([GOOD, [5.0, 6.0]]), np.arange(1002) >= 1000
    assert threshold(scores, defect, 0.02).value == threshold(GOOD, _good(1000), 0.02).value


@pytest.mark.parametrize(("groups", "size", "icc"), [(400, 1, 0.0), (60, 10, 0.4)], ids=["single", "grouped"])
def test_the_promised_overkill_holds(groups: int, size: int, icc: float) -> None:
    # 95 % wanted with confidence; the share of exact draws that fail more than 18 of 200 is below 1 %
    held, mean = simulate.overkill_kept(groups, size, icc, 0.95, 200)
    assert held >= 0.91
    if size == 1:
        held, mean = simulate.overkill_kept(groups, size, icc, None, 400)
        assert 0.4 < held < 0.7  # on average is right half of the time
        assert mean == pytest.approx(0.05, abs=0.003)


def test_groups_make_the_confident_threshold_higher() -> None:
    rng = np.random.default_rng(0)
    scores, group = np.repeat(rng.standard_normal(100), 20), np.repeat(np.arange(100), 20)
    grouped, plain = threshold(scores, _good(2000), 0.05, 0.95, group), threshold(scores, _good(2000), 0.05, 0.95)
    assert grouped.value > plain.value
    assert grouped.effective_n < 200 < plain.effective_n


def test_what_the_threshold_does_on_the_test() -> None:
    scores = np.concatenate([np.linspace(0, 1, 200), np.linspace(0.9, 2, 50)])
    defect = np.arange(250) >= 200
    found = measure(scores, defect, 0.99)
    assert (found.n_alarmed, found.n_missed) == (2, 5)
    assert found.missed.interval.low == pytest.approx(wilson(5, 50).low)
    assert found.overkill.interval.high == pytest.approx(wilson(2, 200).high)
    with pytest.raises(BadData, match="some of both kinds"):
        measure(scores[:200], defect[:200], 0.99)


def test_sixteen_defects_in_eight_hundred_photos_are_not_enough() -> None:
    claim = claimable(np.zeros(16, dtype=bool), 800)
    assert not claim.is_shown
    assert claim.reason == "too few defects"
    assert claim.upper == claim.smallest == pytest.approx(0.1707, abs=1e-4)
    assert (claim.least_defects, claim.least_photos) == (59, 2950)
    assert (claim.needed_defects, claim.needed_photos) == (59, 2950)


@pytest.mark.parametrize(
    ("missed", "of", "reason"), [(4, 200, "shown"), (8, 100, "too many missed"), (2, 80, "not enough to tell")]
)
def test_what_a_claim_lacks(missed: int, of: int, reason: str) -> None:
    claim = claimable(np.arange(of) < missed, 10 * of)
    assert claim.reason == reason
    assert claim.is_shown is (reason == "shown")
    assert (claim.needed_defects is None) is (reason == "too many missed")


def test_defects_photographed_ten_times_count_once() -> None:
    missed, group = np.zeros(160, dtype=bool), np.repeat(np.arange(16), 10)
    claim = claimable(missed, 8000, groups=group)
    assert claim.effective_defects == pytest.approx(16)
    assert claim.reason == "too few defects"
    assert claim.least_defects == 590


def test_detectors_are_compared_on_the_same_defects() -> None:
    first, second = np.arange(300) < 60, np.arange(300) < 15
    found = compare((first, second), seed=0)
    assert found.gain == pytest.approx(0.15)
    assert found.interval.low > 0.1


def test_scores_that_cannot_be_used_are_refused() -> None:
    with pytest.raises(BadRequest, match=r"0\.01 for 1 %"):
        threshold(GOOD, _good(1000), 1.0)
    with pytest.raises(BadData, match="no good development image"):
        threshold(GOOD, ~_good(1000), 0.01)
    with pytest.raises(BadData, match="score 3 is not a finite number"):
        threshold(np.where(np.arange(9) == 3, np.nan, 0.0), _good(9), 0.01)
    with pytest.raises(BadData, match="want"):
        claimable(np.zeros(900, dtype=bool), 800)
