from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from anmok.errors import BadData, BadRequest
from anmok.evidence.compare import trial
from anmok.evidence.costs import Costs
from anmok.evidence.exact import exact_lower, exact_upper, images_to_claim, least_images, rule_of_three
from anmok.evidence.intervals import accuracy
from anmok.evidence.mix import mix_of
from anmok.evidence.verdict import Candidate, Word, recommend
from benchmark_code import benchmark

MISS = Costs(np.array([[0.0, 1.0], [50.0, 0.0]]), np.array([0.98, 0.02]))  # good, defect
simulate = benchmark("simulate_trust")


def _answers(good: int, alarms: int, defects: int, missed: int) -> tuple[np.ndarray, np.ndarray]:
    """(n,) truth and answers of a test with so many false alarms and misses."""
    truth = np.repeat([0, 1], [good, defects])
    answer = truth.copy()
    answer[:alarms] = 1
    answer[good : good + missed] = 0
    return truth, answer


def test_the_expected_cost_is_counted_at_the_prevalence() -> None:
    truth, answer = _answers(100, 5, 50, 10)
    found = MISS.expected(truth, answer)
    assert found.cost.value == pytest.approx(0.98 * 0.05 + 0.02 * 0.2 * 50)
    of_test = Costs(MISS.matrix).expected(truth, answer)  # the mix of the test: a third defects
    assert of_test.cost.value == pytest.approx((5 + 500) / 150)
    assert (found.constant, found.constant_cost) == (1, pytest.approx(0.98))  # 0.02 * 50 is more
    assert (of_test.constant, of_test.constant_cost) == (1, pytest.approx(2 / 3))
    miss = found.by_class[1]
    assert miss is not None
    assert miss.cost.interval.low == pytest.approx(50 * accuracy(np.arange(50) < 10).interval.low)


def test_no_miss_among_few_defects_is_no_proof() -> None:
    truth, answer = _answers(784, 0, 16, 0)
    found = MISS.expected(truth, answer).cost
    assert found.value == 0
    # Wilson's upper bound of 0 of 16 is 19.4 %, at a fiftieth of the images and 50 each
    assert found.interval.high == pytest.approx(0.194, abs=0.01)
    assert found.interval.low == 0


@pytest.mark.parametrize(
    ("defects", "missed", "alarmed"), [(16, 0.1, 0.02), (16, 0.02, 0.01), (100, 0.2, 0.1)], ids=str
)
def test_the_interval_holds_the_true_cost(defects: int, missed: float, alarmed: float) -> None:
    # 95 % wanted; 150 repeats have a standard deviation of 1.8 points
    assert simulate.cost_coverage(defects, 300, missed, alarmed, 150) >= 0.92


def test_groups_widen_the_interval_of_the_class_that_they_are_of() -> None:
    truth, answer = _answers(300, 15, 40, 8)
    group = np.concatenate([np.arange(300), 300 + np.arange(40) // 8])  # five photographed defects, all or none missed
    plain, grouped = MISS.expected(truth, answer).cost, MISS.expected(truth, answer, group).cost
    assert grouped.interval.half_width > 1.8 * plain.interval.half_width
    assert grouped.effective_n < 0.5 * plain.effective_n


def test_a_matrix_the_wrong_way_round_and_other_mistakes_are_told() -> None:
    with pytest.raises(BadRequest, match="rows are what the image shows"):
        Costs(np.array([[0, 1], [0, 50]]))
    with pytest.raises(BadRequest, match="truth by answer"):
        Costs(np.zeros((2, 3)))
    with pytest.raises(BadRequest, match="prevalence"):
        Costs(MISS.matrix, np.array([1.0, -1.0]))
    with pytest.raises(BadData, match="no test image of class 1"):
        MISS.expected([0, 0, 0], [0, 1, 0])
    with pytest.raises(BadData, match="class numbers from 0 to 1"):
        MISS.expected([0, 1], [0, 2])
    with pytest.raises(BadRequest, match="a margin of 60"):
        MISS.compare([0, 1], ([0, 1], [0, 1]), margin=60, seed=0)


def test_decisions_are_the_cheapest_by_expectation() -> None:
    chance = np.array([[0.99, 0.01], [0.981, 0.019], [0.98, 0.02], [0.5, 0.5]])
    # an alarm costs 1 * p(good), silence 50 * p(defect): alarm from 1 / 51 = 1.96 % up
    assert MISS.decide(chance).tolist() == [0, 0, 1, 1]
    # learned on halves: the odds of a defect shrink from 1 to 2 / 98
    assert MISS.decide(np.array([[0.5, 0.5], [0.505, 0.495], [0.6, 0.4]]), [1, 1]).tolist() == [1, 1, 0]
    even = Costs(1 - np.eye(3))
    rows = np.random.default_rng(0).dirichlet(np.ones(3), 200)
    assert np.array_equal(even.decide(rows), rows.argmax(axis=1))
    with pytest.raises(BadData, match="softmax"):
        even.decide(rows * 3)


def test_decisions_cost_less_than_the_likeliest_class() -> None:
    rng = np.random.default_rng(3)
    chance = rng.beta(0.3, 3, 4000)
    truth = (rng.random(4000) < chance).astype(int)
    rows = np.stack([1 - chance, chance], axis=1)
    costs = Costs(MISS.matrix)
    by_cost, likeliest = costs.decide(rows), rows.argmax(axis=1)
    saving = costs.compare(truth, (likeliest, by_cost), margin=0.1, seed=0)
    assert saving.verdict.word is Word.BETTER
    assert saving.saved == pytest.approx(
        costs.expected(truth, likeliest).cost.value - costs.expected(truth, by_cost).cost.value
    )
    assert saving.interval.low < saving.saved < saving.interval.high


def test_equal_weights_give_the_plain_comparison_back() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random((3, 240)) < 0.7, rng.random((3, 240)) < 0.8
    group = np.repeat(np.arange(60), 4)
    one = mix_of(np.zeros(240, int), None, [1.0])
    plain = trial([("a", a), ("b", b)], group, seed=1).contrasts([("a", "b")])[0]
    mixed = trial([("a", a), ("b", b)], group, seed=1, mix=one).contrasts([("a", "b")])[0]
    assert mixed.gain == pytest.approx(plain.gain, abs=1e-12)
    assert mixed.design_effect == pytest.approx(plain.design_effect, rel=1e-9)
    assert mixed.disagreement == pytest.approx(plain.disagreement, rel=1e-9)
    assert mixed.interval.low == pytest.approx(plain.interval.low, abs=2e-3)


def test_a_saving_is_that_of_the_classes_at_their_prevalence() -> None:
    truth, first = _answers(400, 40, 200, 40)
    _, second = _answers(400, 80, 200, 10)
    saving = MISS.compare(truth, (first, second), margin=0.02, seed=0)
    assert saving.saved == pytest.approx(0.02 * 50 * 30 / 200 - 0.98 * 40 / 400)
    # in closed form: within each class, with two made-up images in the heavier one
    good, defect = 0.1 * 0.9 / 400, 0.15 * 0.85 / 200
    made_up = 2 * (50 * 0.02 / 200) ** 2
    half = 1.96 * np.sqrt(0.98**2 * good + good * 0 + (50 * 0.02) ** 2 * defect + made_up)
    assert saving.interval.half_width == pytest.approx(half, rel=0.05)


def test_no_disagreement_among_few_defects_is_no_proof_of_sameness() -> None:
    truth, answer = _answers(784, 8, 16, 0)
    saving = MISS.compare(truth, (answer, answer), margin=0.1, seed=0)
    assert saving.verdict.word is Word.CANNOT_TELL
    # two made-up defects, one each way
    assert saving.interval.half_width == pytest.approx(1.96 * 2**0.5 * 0.02 * 50 / 16, rel=0.05)
    many, same = _answers(784, 8, 400, 0)
    assert MISS.compare(many, (same, same), margin=0.1, seed=0).verdict.word is Word.SAME


def test_a_against_an_equal_a_is_not_cheaper() -> None:
    words = simulate.cost_words(30, 300, 0.1, 0.05, 120)
    assert words[Word.BETTER] <= 9 / 120
    assert words[Word.SAME] == 0


def test_rungs_are_ranked_by_cost_and_not_by_accuracy() -> None:
    truth, cheap = _answers(2000, 10, 400, 100)  # 95 % right, but misses a quarter
    _, dear = _answers(2000, 300, 400, 4)  # 87 % right, misses 1 %
    by_cost = MISS.recommend(truth, [("cheap", 0, cheap), ("dear", 1, dear)], margin=0.02, seed=0)
    assert by_cost.name == "dear"
    assert by_cost.is_decided
    assert "shown to cost at most 0.02 more" in by_cost.reason
    plain = recommend([Candidate("cheap", 0, truth == cheap), Candidate("dear", 1, truth == dear)], None, 0.02, seed=0)
    assert plain.name == "cheap"


def test_exact_bounds_agree_with_clopper_and_pearson() -> None:
    both = stats.binomtest(3, 40).proportion_ci(0.90, "exact")
    assert exact_lower(3, 40) == pytest.approx(both.low, abs=1e-9)
    assert exact_upper(3, 40) == pytest.approx(both.high, abs=1e-9)
    assert exact_upper(0, 16) == pytest.approx(1 - 0.05 ** (1 / 16))
    assert rule_of_three(1000) == pytest.approx(3 / 1000, rel=0.004)
    assert (exact_lower(0, 9), exact_upper(9, 9)) == (0, 1)
    with pytest.raises(BadRequest):
        exact_upper(5, 4)


def test_how_many_images_a_claim_takes() -> None:
    assert [least_images(k, 0.05) for k in range(4)] == [59, 93, 124, 153]  # the usual table of 95 % / 95 %
    assert least_images(0, 0.01) == 299
    assert images_to_claim(0.0, 0.05) == 59
    n = images_to_claim(0.02, 0.05)
    assert n is not None
    seen = np.random.default_rng(0).binomial(n, 0.02, 4000)
    shown = np.mean([exact_upper(int(k), n) < 0.05 + 1e-9 for k in seen])
    assert 0.8 <= shown + 0.02 < 0.9
    assert images_to_claim(0.05, 0.05) is None
    assert images_to_claim(0.04999, 0.05) is None
