from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score

from anmok.errors import BadData, BadRequest
from anmok.evidence.intervals import (
    Interval,
    accuracy,
    balanced_accuracy,
    design_effect,
    likeness,
    macro_f1,
    metric_interval,
    wilson,
)

RNG = np.random.default_rng(7)
_START = RNG.bit_generator.state


@pytest.fixture(autouse=True)
def _the_same_data_in_any_order() -> None:
    """Each test begins with a fresh generator, whichever tests ran before it in this process."""
    RNG.bit_generator.state = _START


def test_wilson_matches_published_values() -> None:
    # Newcombe (1998), "Two-sided confidence intervals for the single proportion", table I
    for correct, n, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611)):
        got = wilson(correct, n)
        assert (got.low, got.high) == pytest.approx((low, high), abs=5e-5)
    assert wilson(29, 29).high == 1.0
    assert wilson(29, 29).low == pytest.approx(1 - wilson(0, 29).high)


def test_wilson_takes_fractions_and_other_levels() -> None:
    assert wilson(8.0, 10.0) == wilson(8, 10)
    assert wilson(20.4, 25.5).half_width < wilson(20, 25).half_width
    assert wilson(8, 10, 0.9).half_width < wilson(8, 10, 0.99).half_width
    assert Interval(0.2, 0.5).half_width == pytest.approx(0.15)


@pytest.mark.parametrize(("correct", "n", "level"), [(1, 0, 0.9), (3, 2, 0.9), (-1, 2, 0.9), (1, 2, 1.0)])
def test_wilson_refuses_nonsense(correct: int, n: int, level: float) -> None:
    with pytest.raises(BadRequest):
        wilson(correct, n, level)


def test_design_effect_of_copies_is_their_number() -> None:
    answers = RNG.random(400) < 0.7
    assert design_effect(np.repeat(answers, 5), np.repeat(np.arange(400), 5)) == pytest.approx(5, rel=1e-12)


def test_design_effect_matches_kish_for_known_correlation() -> None:
    # 1 + (m - 1) ICC: beta-binomial groups of 10 with ICC 0.2 give 2.8
    rate = RNG.beta(0.5 * 4, 0.5 * 4, 4_000)
    group = np.repeat(np.arange(4_000), 10)
    assert design_effect(RNG.random(40_000) < rate[group], group) == pytest.approx(2.8, rel=0.05)


def test_design_effect_is_one_for_independent_images_and_never_less() -> None:
    answers = RNG.random(500) < 0.6
    assert design_effect(answers, np.arange(500)) == 1.0
    assert design_effect(answers, None) == 1.0
    # groups that are balanced on purpose would give less than 1
    assert design_effect(np.tile([0.0, 1.0], 50), np.repeat(np.arange(50), 2)) == 1.0


def test_design_effect_of_constant_answers_is_the_worst_case() -> None:
    assert design_effect(np.ones(100), np.repeat(np.arange(10), 10)) == pytest.approx(10)
    assert design_effect(np.ones(100), np.zeros(100)) == pytest.approx(100)


def test_careful_effect_doubts_independence_seen_in_three_errors() -> None:
    correct, group = np.ones(1_000), np.repeat(np.arange(20), 50)
    correct[[0, 100, 200]] = 0  # one error in each of three groups out of twenty
    assert design_effect(correct, group) < 1.2
    assert 15 < likeness(correct, 1 - correct, group).careful(0.95) < 25


def test_accuracy_of_single_images_is_plain_wilson() -> None:
    correct = RNG.random(777) < 0.83
    for groups in (None, np.arange(777), RNG.permutation(777) + 10**6):
        got = accuracy(correct, groups)
        assert got.interval == wilson(float(got.value * 777), 777)
        assert (got.n, got.effective_n, got.value) == (777, 777.0, correct.mean())


def test_accuracy_of_runs_is_worth_fewer_images() -> None:
    runs = np.arange(2_223) // 50
    rate = RNG.beta(3, 1, runs.max() + 1)
    got = accuracy(RNG.random(2_223) < rate[runs], runs)
    assert got.n == 2_223
    assert runs.max() < got.effective_n < 1_000
    assert got.interval.half_width > 2 * wilson(got.value * 2_223, 2_223).half_width


def test_accuracy_without_an_error_counts_groups() -> None:
    got = accuracy(np.ones(1_000), np.repeat(np.arange(20), 50))
    assert got.effective_n == pytest.approx(20)
    assert got.interval.low == pytest.approx(wilson(20, 20).low)
    assert accuracy(np.ones(30)).interval.low == pytest.approx(wilson(30, 30).low)


def test_accuracy_of_one_group_knows_next_to_nothing() -> None:
    got = accuracy(RNG.random(500) < 0.8, np.zeros(500))
    assert got.effective_n == pytest.approx(1)
    assert got.interval.low < 0.25


def test_accuracy_adds_the_variance_of_support_draws() -> None:
    image = RNG.random(2_000)
    rates = np.array([0.70, 0.80, 0.90])
    got = accuracy(image < rates[:, None])
    # three draws with standard deviation 0.1: 4.303 * 0.1 / sqrt(3) = 0.248 on both sides
    assert got.value == pytest.approx(0.8, abs=0.02)
    assert 0.20 < got.interval.half_width < 0.27
    many = accuracy(image < np.tile(rates, 7)[:, None])
    assert many.interval.half_width < 0.05


def test_accuracy_of_identical_draws_is_that_of_one() -> None:
    correct = RNG.random(300) < 0.7
    assert accuracy(np.tile(correct, (5, 1))).effective_n == pytest.approx(300)


@pytest.mark.parametrize("correct", [[], [[]], [0.5, 1.5], [0.5, np.nan], np.ones((2, 2, 2))])
def test_accuracy_refuses_what_is_no_answer_table(correct: object) -> None:
    with pytest.raises(BadData):
        accuracy(correct)  # type: ignore[arg-type]


def test_accuracy_refuses_groups_of_another_length() -> None:
    with pytest.raises(BadData, match="one group per image"):
        accuracy(np.ones(4), np.zeros(3))


def test_metrics_match_scikit_learn() -> None:
    truth = RNG.integers(0, 6, 500)
    predicted = np.where(RNG.random(500) < 0.6, truth, RNG.integers(0, 9, 500))
    assert macro_f1(truth, predicted) == pytest.approx(f1_score(truth, predicted, average="macro"))
    inside = np.where(predicted > 5, 0, predicted)
    assert balanced_accuracy(truth, inside) == pytest.approx(balanced_accuracy_score(truth, inside))
    names = np.array(list("abcdefghi"))
    assert macro_f1(names[truth], names[predicted]) == macro_f1(truth, predicted)


def test_balanced_accuracy_weighs_classes_alike() -> None:
    assert balanced_accuracy([0] * 90 + [1] * 10, [0] * 100) == 0.5
    with pytest.raises(BadData):
        balanced_accuracy([0, 1], [0])


def test_metric_interval_of_balanced_classes_is_near_wilson() -> None:
    truth = np.tile([0, 1], 300)
    predicted = np.where(RNG.random(600) < 0.8, truth, 1 - truth)
    got, plain = metric_interval(balanced_accuracy, truth, predicted), accuracy(truth == predicted).interval
    assert got.low == pytest.approx(plain.low, abs=0.006)
    assert got.high == pytest.approx(plain.high, abs=0.006)


def test_metric_interval_hangs_on_the_small_class() -> None:
    truth = np.r_[np.zeros(570, int), np.ones(30, int)]
    predicted = np.where(RNG.random(600) < 0.8, truth, 1 - truth)
    got = metric_interval(balanced_accuracy, truth, predicted)
    assert got.half_width > 2 * accuracy(truth == predicted).interval.half_width


def test_metric_interval_is_not_fooled_by_perfection() -> None:
    truth = np.tile([0, 1], 25)
    got = metric_interval(macro_f1, truth, truth)
    assert got.high == 1.0
    assert got.low == pytest.approx(wilson(50, 50).low)


def test_metric_interval_feels_groups_and_repeats_itself() -> None:
    group = np.repeat(np.arange(30), 20)
    truth = RNG.integers(0, 3, 600)
    rate = RNG.beta(2, 1, 30)[group]
    predicted = np.where(RNG.random(600) < rate, truth, (truth + 1) % 3)
    single = metric_interval(macro_f1, truth, predicted, resamples=300)
    grouped = metric_interval(macro_f1, truth, predicted, group, resamples=300)
    assert grouped.half_width > 1.7 * single.half_width
    assert grouped == metric_interval(macro_f1, truth, predicted, group, resamples=300)
    # Where Wilson's floor is the wider at both ends the seed has no say; in these data the bootstrap decides one.
    assert grouped != metric_interval(macro_f1, truth, predicted, group, resamples=300, seed=1)


def test_metric_interval_survives_a_class_in_one_group() -> None:
    truth = np.array([0] * 40 + [1] * 10 + [2] * 10)
    group = np.r_[np.arange(40), np.full(10, 40), np.full(10, 41)]
    got = metric_interval(balanced_accuracy, truth, truth, group, resamples=100)
    assert 0.3 < got.low < 0.95
    assert metric_interval(balanced_accuracy, truth, truth, np.zeros(60), resamples=100).low < 0.3


def test_metric_interval_resamples_within_strata() -> None:
    # a metric that only counts the classes cannot vary when the classes are the strata
    truth = np.repeat([0, 1], [30, 70])

    def share(real: np.ndarray, guess: np.ndarray) -> float:
        return float(real.mean())

    within = metric_interval(share, truth, truth, resamples=200)
    across = metric_interval(share, truth, truth, strata=np.zeros(100), resamples=200)
    # the class-wise Wilson interval is all that is left within; across, the share varies by 0.3 * 0.7 / 100
    assert within.half_width <= across.half_width
    assert across.half_width == pytest.approx(1.98 * np.sqrt(0.21 / 100), rel=0.15)
    with pytest.raises(BadData, match="one stratum per image"):
        metric_interval(share, truth, truth, strata=[0, 1])


def test_metric_interval_refuses_a_metric_that_is_no_share() -> None:
    with pytest.raises(BadRequest, match="between 0 and 1"):
        metric_interval(lambda truth, predicted: 3.0, [0, 1], [0, 1])
