"""Calibration, conformal sets and abstention."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy import special

from anmok.errors import BadData, BadRequest
from anmok.evidence import abstain, calibration, conformal
from anmok.evidence.intervals import wilson
from benchmark_code import benchmark

simulate = benchmark("simulate_trust")


def _sixty() -> tuple[np.ndarray, np.ndarray]:
    """(60, 4) logits that are 1.7 times too far apart, and labels: the data of the recorded values."""
    rng = np.random.default_rng(7)
    logits = np.round(rng.standard_normal((60, 4)) * 2, 3)
    below = special.softmax(logits, axis=1).cumsum(axis=1)
    labels = (rng.random((60, 1)) > below).sum(axis=1).clip(0, 3)
    return np.round(logits * 1.7, 3), labels


def test_the_figures_agree_with_other_packages() -> None:
    logits, labels = _sixty()
    found = calibration.reliability(calibration.softmax(logits), labels, bins=1)
    # sklearn.metrics.log_loss(labels, softmax(logits), labels=range(4)), scikit-learn 1.x
    assert found.nll == pytest.approx(0.6663565932774147, abs=1e-9)
    # netcal.metrics.ECE(1).measure(softmax(logits), labels), netcal 1.4.0
    assert found.ece == pytest.approx(0.06349554247072176, abs=1e-9)
    one_hot = np.eye(4)[labels]
    assert found.brier == pytest.approx(((calibration.softmax(logits) - one_hot) ** 2).sum(axis=1).mean(), abs=1e-12)
    # crepes.ConformalClassifier().fit(hinge(...)).predict_set(confidence=0.9, smoothing=False), crepes 0.9.1
    sets = conformal.calibrate(calibration.softmax(logits), labels, 0.1).sets(calibration.softmax(logits))
    assert sets.sum() == 97


@pytest.mark.parametrize("heat", [0.5, 1.0, 3.0])
def test_the_temperature_is_found(heat: float) -> None:
    logits, labels = simulate.classified(np.random.default_rng(0), 4000, heat)
    assert calibration.temperature(logits, labels) == pytest.approx(heat, rel=0.06)
    best = calibration.temperature(logits, labels)

    def loss(at: float) -> float:
        return calibration.reliability(calibration.softmax(logits, at), labels).nll

    assert loss(best) < min(loss(0.97 * best), loss(1.03 * best))


def test_the_temperature_stays_within_its_bounds_and_at_one_for_few() -> None:
    rows, labels = np.eye(3)[np.arange(60) % 3], np.arange(60) % 3
    assert calibration.temperature(rows, labels) == pytest.approx(calibration.COLDEST)  # always right: surer is better
    assert calibration.temperature(rows, (labels + 1) % 3) == pytest.approx(calibration.HOTTEST)
    assert calibration.temperature(rows[:29], labels[:29]) == 1.0
    few = calibration.refit(rows[:29], labels[:29])
    assert not few.is_fitted
    assert few.after is few.before


def test_a_refit_mends_what_can_be_mended() -> None:
    logits, labels = simulate.classified(np.random.default_rng(1), 1500, 3.0)
    found = calibration.refit(logits, labels, np.arange(1500) // 3)
    assert found.temperature == pytest.approx(3.0, rel=0.1)
    assert found.before.is_shown_wrong
    assert found.before.ece > 0.15
    assert found.before.overconfidence > 0.15
    assert found.after.ece < 0.06
    assert found.after.nll < found.before.nll - 0.2


def test_bins_hold_equally_many_and_equal_confidences_share_one() -> None:
    logits, labels = simulate.classified(np.random.default_rng(2), 900, 1.0)
    bins = calibration.reliability(calibration.softmax(logits), labels).bins
    assert [one.n for one in bins] == [60] * 15
    assert all(a.high < b.low for a, b in pairwise(bins))
    same = np.tile([0.7, 0.3], (50, 1))
    [only] = calibration.reliability(same, np.arange(50) % 2).bins
    assert (only.n, only.accuracy) == (50, 0.5)


@pytest.mark.parametrize("heat", [1.0, 1.3, 2.0])
def test_the_interval_of_the_ece_holds_the_truth(heat: float) -> None:
    held, shown = simulate.ece_coverage(200, heat, 60)
    assert held >= 0.9
    assert shown <= 0.15 if heat == 1.0 else shown > 0.1


def test_groups_make_chance_larger() -> None:
    logits, labels = simulate.classified(np.random.default_rng(3), 60, 1.0)
    rows, truth, group = np.repeat(logits, 10, axis=0), np.repeat(labels, 10), np.repeat(np.arange(60), 10)
    alone = calibration.reliability(calibration.softmax(rows), truth)
    grouped = calibration.reliability(calibration.softmax(rows), truth, group)
    assert alone.is_shown_wrong  # six hundred images would tell, but they are sixty
    assert not grouped.is_shown_wrong


RANGES = {  # per cent, 5 to 95 of 100 calibration sets: the table in the reference of the recipes
    20: (78.4, 98.2, 86.1, 99.7),
    50: (82.6, 96.0, 90.9, 99.3),
    100: (84.8, 94.5, 91.1, 98.0),
    200: (86.4, 93.3, 92.3, 97.3),
    500: (87.7, 92.1, 93.3, 96.5),
    1000: (88.4, 91.5, 93.8, 96.1),
}


@pytest.mark.parametrize("n", RANGES)
def test_the_range_of_what_is_really_covered(n: int) -> None:
    found = [conformal.coverage_range(n, miss) for miss in (0.1, 0.05)]
    assert [round(100 * x, 1) for one in found for x in (one.low, one.high)] == list(RANGES[n])


def test_the_quantile_counts_the_image_to_come() -> None:
    assert conformal.quantile(np.arange(1, 20), 0.1) == 18
    assert conformal.quantile(np.arange(1, 10), 0.1) == 9
    assert conformal.quantile(np.arange(1, 9), 0.1) == np.inf
    assert (conformal.least_per_class(0.1), conformal.least_per_class(0.05)) == (9, 19)


def test_the_scores_are_those_of_the_papers() -> None:
    rows = np.array([[0.1, 0.5, 0.05, 0.2, 0.01, 0.08, 0.06]])
    assert conformal.scores(rows, "lac", None)[0, :2] == pytest.approx([0.9, 0.5])
    mass = [0.8, 0.5, 0.99, 0.7, 1.0, 0.88, 0.94]
    assert conformal.scores(rows, "aps", None)[0] == pytest.approx(mass)
    penalty = [0, 0, 0.01, 0, 0.02, 0, 0]  # the sixth and the seventh
    assert conformal.scores(rows, "raps", None)[0] == pytest.approx(np.add(mass, penalty))
    drawn = conformal.scores(np.repeat(rows, 4000, axis=0), "aps", np.random.default_rng(0))
    assert drawn[:, 3].mean() == pytest.approx(0.6, abs=0.005)  # half of its own 0.2 is taken off


@pytest.mark.parametrize("kind", ["lac", "aps", "raps"])
def test_sets_cover_as_promised_and_within_the_range(kind: conformal.Kind) -> None:
    covered, inside, size = simulate.set_coverage(kind, 100, 0.1, 60)
    assert covered == pytest.approx(0.9, abs=0.015)
    assert inside >= 0.8  # 0.9 wanted
    assert 1 < size < 3


def test_too_few_calibration_images_leave_nothing_out() -> None:
    logits, labels = simulate.classified(np.random.default_rng(0), 8, 1.0)
    found = conformal.calibrate(calibration.softmax(logits), labels, 0.1)
    assert found.sets(calibration.softmax(logits)).all()
    assert (found.coverage.low, found.coverage.high) == (1.0, 1.0)


def test_groups_widen_the_range() -> None:
    logits, labels = simulate.classified(np.random.default_rng(0), 40, 1.0)
    rows, truth, group = np.repeat(logits, 10, axis=0), np.repeat(labels, 10), np.repeat(np.arange(40), 10)
    alone = conformal.calibrate(calibration.softmax(rows), truth)
    grouped = conformal.calibrate(calibration.softmax(rows), truth, groups=group)
    assert np.array_equal(alone.thresholds, grouped.thresholds)
    assert grouped.coverage.half_width > 2 * alone.coverage.half_width


def test_every_class_keeps_its_promise_or_is_named() -> None:
    rng = np.random.default_rng(0)
    truth = rng.choice(3, 3000, p=[0.7, 0.28, 0.02])
    logits = 1.5 * np.eye(3)[truth] * np.array([3.0, 1.0, 0.5])[truth][:, None] + rng.standard_normal((3000, 3))
    chance, rows = calibration.softmax(logits), np.arange(1500)
    common = conformal.calibrate(chance[rows], truth[rows])
    by_class = conformal.calibrate_by_class(chance[rows], truth[rows])
    assert by_class.fallbacks == ()
    test = np.arange(1500, 3000)
    plain = conformal.report(common.sets(chance[test]), chance[test], truth[test])
    own = conformal.report(by_class.sets(chance[test]), chance[test], truth[test])
    assert plain.by_class[1] is not None
    assert own.by_class[1] is not None
    # the common threshold is paid for by the middle class; its own lets it cover what was promised, within its range
    assert plain.by_class[1].value < 0.8
    assert own.by_class[1].interval.low < 0.9 < own.by_class[1].interval.high + 0.03
    assert by_class.coverage.low < common.coverage.low
    few = np.concatenate([rows[truth[rows] != 2], np.flatnonzero(truth == 2)[:8]])
    short = conformal.calibrate_by_class(chance[few], truth[few])
    assert short.fallbacks == (2,)
    assert short.thresholds[2] == conformal.calibrate(chance[few], truth[few]).thresholds[2]
    assert short.thresholds[1] != short.thresholds[2]


def test_the_weaker_promises_have_names() -> None:
    logits, labels = simulate.classified(np.random.default_rng(0), 200, 1.0)
    chance = calibration.softmax(logits)
    split, refitted = conformal.calibrate(chance, labels), conformal.calibrate(chance, labels, is_out_of_fold=True)
    assert (split.guarantee, split.floor) == ("split", pytest.approx(0.9))
    assert (refitted.guarantee, refitted.floor) == ("none", 0.0)
    fresh, truth = simulate.classified(np.random.default_rng(1), 4000, 1.0)
    test = calibration.softmax(fresh)
    cross = conformal.cross_conformal(np.stack([test] * 5), chance, labels, np.arange(200) % 5)
    assert cross.guarantee == "cross"
    assert cross.floor == pytest.approx(1 - 0.2 - 2 * 0.9 * 0.8 / 41)
    # the models of the folds are one here, and cross-conformal is then split conformal on all
    assert np.array_equal(cross.sets, split.sets(test))
    assert conformal.report(cross.sets, test, truth).covered.value == pytest.approx(0.9, abs=0.04)


def test_the_report_of_sets_counts_them() -> None:
    sets = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 1, 0]], dtype=bool)
    found = conformal.report(sets, np.full((4, 3), 1 / 3), np.array([0, 1, 2, 2]))
    assert found.covered.value == 0.5
    assert found.mean_size == 1.0
    assert found.sizes == (0.25, 0.5, 0.25, 0.0)
    assert found.single.value == 0.5
    assert found.single_accuracy is not None
    assert found.single_accuracy.value == 0.5
    assert [one.value for one in found.by_class if one] == [1.0, 1.0, 0.0]


def test_the_curve_of_risk_and_coverage() -> None:
    found = abstain.risk_coverage([0.9, 0.8, 0.7, 0.6], [True, True, False, True])
    assert found.risk.tolist() == pytest.approx([0, 0, 1 / 3, 1 / 4])
    assert found.coverage.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert found.aurc == pytest.approx((1 / 3 + 1 / 4) / 4)
    assert found.best_aurc == pytest.approx(1 / 16)
    flat = abstain.risk_coverage(np.ones(10), np.arange(10) < 7)
    assert (flat.aurc, flat.random_aurc) == (pytest.approx(0.3), 0.3)  # one confidence tells nothing


def test_the_errors_among_the_answered_are_kept() -> None:
    kept, promised, answered = simulate.abstention_kept(400, 0.05, 120)
    assert kept >= 0.92
    assert promised > 0.9
    assert answered > 0.3


def test_a_confidence_that_says_nothing_is_promised_nothing() -> None:
    promised = 0
    for seed in range(120):
        rng = np.random.default_rng(seed)
        promised += abstain.threshold(rng.random(300), rng.random(300) > 0.101, 0.1).is_promised
    assert promised <= 12  # 5 % wanted; 13 of 120 happen once in 200 runs
    none = abstain.threshold(np.arange(20) / 20, np.ones(20, dtype=bool), 0.01)
    assert (none.is_promised, none.needed) == (False, 437)  # log(0.0125) / log(0.99)


def test_what_is_answered_on_the_test() -> None:
    sure, right = np.linspace(0, 1, 100), np.arange(100) >= 30
    found = abstain.measure(sure, right, 0.2)
    assert found.coverage.value == pytest.approx(0.8)
    assert found.error is not None
    assert found.error.interval.high == pytest.approx(wilson(10, 80).high)
    assert abstain.measure(sure, right, 2.0).error is None


def test_what_cannot_be_used_is_refused() -> None:
    logits, labels = _sixty()
    with pytest.raises(BadData, match="softmax"):
        conformal.calibrate(logits - logits.min(), labels)
    with pytest.raises(BadRequest, match=r"0\.1 for 90 % coverage"):
        conformal.coverage_range(100, 0)
    with pytest.raises(BadRequest, match="lac, aps or raps"):
        conformal.calibrate(calibration.softmax(logits), labels, kind="margin")  # type: ignore[arg-type]
    with pytest.raises(BadData, match="labels from 0 to 9"):
        calibration.temperature(logits, np.arange(60) % 10)
    with pytest.raises(BadRequest, match="temperature"):
        calibration.softmax(logits, 0)
    with pytest.raises(BadData, match="want"):
        abstain.risk_coverage([0.5], [1])
