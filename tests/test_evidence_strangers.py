"""Scores of strangeness, the area under their curve, and which images to label next."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special, stats

from anmok.errors import BadData, BadRequest
from anmok.evidence import ood, strangeness
from anmok.evidence.choosing import COPY, next_to_label, unit_rows
from anmok.evidence.ranking import auroc, delong_variance
from benchmark_code import benchmark

simulate = benchmark("simulate_trust")


def _clouds(classes: int, each: int, apart: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), each)
    return (apart * rng.standard_normal((classes, 16)))[labels] + rng.standard_normal((labels.size, 16)), labels


def test_the_area_is_that_of_mann_and_whitney() -> None:
    rng = np.random.default_rng(0)
    low, high = rng.integers(0, 9, 40).astype(float), rng.integers(3, 12, 25).astype(float)
    found = auroc(low, high)
    assert found.value == pytest.approx(stats.mannwhitneyu(high, low).statistic / 1000)
    pairs = (high[:, None] > low) + 0.5 * (high[:, None] == low)
    by_hand = pairs.mean(axis=1).var(ddof=1) / 25 + pairs.mean(axis=0).var(ddof=1) / 40
    assert delong_variance(low, high) == pytest.approx(by_hand)


@pytest.mark.parametrize(
    ("sizes", "shift", "per_group", "icc"),
    [((30, 30), 0.5, 1, 0.0), ((200, 16), 2.0, 1, 0.0), ((20, 200), 4.0, 1, 0.0), ((200, 200), 1.0, 10, 0.4)],
)
def test_the_interval_of_the_area_holds(sizes: tuple[int, int], shift: float, per_group: int, icc: float) -> None:
    # 95 % wanted; 240 repeats have a standard deviation of 1.4 points
    assert simulate.auroc_coverage(sizes, shift, 240, per_group, icc) >= 0.91


def test_perfect_separation_of_few_is_no_certainty() -> None:
    found = auroc(np.arange(10.0), np.arange(10.0) + 20)
    assert found.value == 1.0
    assert 0.7 < found.interval.low < 0.9
    assert found.interval.high == 1.0
    many = auroc(np.arange(1000.0), np.arange(1000.0) + 2000)
    assert many.interval.low > 0.99
    # a hundred photos of ten parts are ten
    ids = np.repeat(np.arange(10), 10)
    grouped = auroc(np.arange(100.0), np.arange(100.0) + 200, (ids, ids + 10))
    assert grouped.interval.low == pytest.approx(found.interval.low, abs=0.05)


def test_the_distance_is_to_the_kth_neighbour() -> None:
    angle = np.deg2rad([0, 10, 20, 30])
    known = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    far = strangeness.knn_distance(known, [[1.0, 0.0]], k=3)
    assert far[0] == pytest.approx(2 * np.sin(np.deg2rad(10)))
    assert strangeness.knn_distance(known, 5 * known[:1], k=1)[0] == pytest.approx(0, abs=1e-7)  # lengths do not matter


def test_scores_of_logits() -> None:
    logits = np.array([[2.0, 0.0, -1.0]])
    assert strangeness.from_logits(logits, "mcm")[0] == pytest.approx(1 - special.softmax(logits[0])[0])
    assert strangeness.from_logits(logits, "energy", 2.0)[0] == pytest.approx(-2 * special.logsumexp(logits[0] / 2))
    assert strangeness.from_logits(logits, "max_logit")[0] == -2
    with pytest.raises(BadRequest, match="mcm, energy or max_logit"):
        strangeness.from_logits(logits, "msp")  # type: ignore[arg-type]


@pytest.mark.parametrize(("n", "width"), [(50, 200), (300, 20)], ids=["few images", "many images"])
def test_the_mahalanobis_distance_agrees_with_scikit_learn(n: int, width: int) -> None:
    from sklearn.covariance import LedoitWolf

    rng = np.random.default_rng(0)
    rows, labels = rng.standard_normal((n, width)) @ rng.standard_normal((width, width)), rng.integers(0, 3, n)
    found = strangeness.Mahalanobis.fitted(rows, labels)
    shrunk = LedoitWolf(assume_centered=True).fit(rows - found.means[labels])
    assert found.shrinkage == pytest.approx(shrunk.shrinkage_)
    away = 3 * rng.standard_normal((7, 1, width)) - found.means  # (7, 3, F)
    wanted = np.einsum("mcf,fg,mcg->mc", away, shrunk.precision_, away).min(axis=1)
    assert found.distance(away[:, 0] + found.means[0]) == pytest.approx(wanted, rel=1e-6)


def test_the_cut_lets_as_many_pass_as_it_says() -> None:
    rows, labels = _clouds(4, 500, 1.0)
    known = np.arange(2000) % 2 == 0
    cut = ood.threshold(strangeness.knn_scorer(rows[known]), labels[known])
    assert np.mean(cut.scores > cut.value) == pytest.approx(0.05, abs=0.002)
    fresh = strangeness.knn_distance(rows[known], rows[~known])
    assert np.mean(fresh > cut.value) == pytest.approx(0.05, abs=0.025)
    few = ood.threshold(strangeness.knn_scorer(rows[:12]), np.zeros(12, int))
    assert (few.value, few.needed) == (np.inf, 19)


def test_near_strangers_are_harder_than_far_ones() -> None:
    rows, labels = _clouds(5, 60, 0.7)
    far = 6 + np.random.default_rng(9).standard_normal((80, 16))
    for scorer in (strangeness.knn_scorer(rows), strangeness.mahalanobis_scorer(rows, labels)):
        near = ood.near(scorer, labels)
        assert set(near.by_class) == set(range(5))
        assert 0.55 < near.auroc < 0.97
        assert near.interval.low < near.auroc < near.interval.high
        assert near.by_class[near.hardest].auroc.value == min(one.auroc.value for one in near.by_class.values())
    inside = ood.held_out(strangeness.mahalanobis_scorer(rows, labels), labels)
    outside = strangeness.Mahalanobis.fitted(rows, labels).distance(far)
    found = ood.detection(inside, outside)
    assert found.auroc.value > 0.99
    assert found.fpr95.value < 0.02
    assert (found.n_known, found.n_strange) == (300, 80)


def test_a_left_out_class_has_no_column() -> None:
    rows, labels = _clouds(3, 40, 2.0)
    logits = np.eye(3)[labels] * 9  # columns of their own classes
    near = ood.near(strangeness.logit_scorer(logits, labels, "max_logit"), labels)
    assert near.auroc == 1.0  # the column of the stranger would have made it the surest of all
    assert rows.shape == (120, 16)


def test_strangers_that_cannot_be_judged_are_refused() -> None:
    rows, labels = _clouds(2, 20, 1.0)
    with pytest.raises(BadData, match="needs three"):
        ood.near(strangeness.knn_scorer(rows), labels)
    with pytest.raises(BadData, match="two groups"):
        ood.held_out(strangeness.knn_scorer(rows), labels, np.zeros(40))
    with pytest.raises(BadData, match="the same model's"):
        strangeness.knn_distance(rows, rows[:, :3])
    with pytest.raises(BadData, match="no class has two images"):
        strangeness.Mahalanobis.fitted(np.eye(3), [0, 1, 2])
    with pytest.raises(BadRequest, match="5 %"):
        ood.threshold(strangeness.knn_scorer(rows), labels, rejected=0.0)


def test_chosen_images_teach_more_than_random_ones() -> None:
    """Balanced accuracy over eight classes, four of them rare, after 40 labels, mean over 20 seeds."""
    both = [[simulate.chosen_accuracy(seed, is_random) for is_random in (False, True)] for seed in range(20)]
    chosen, drawn = np.mean(both, axis=0)
    assert chosen - drawn > 0.1
    assert np.mean([a > b for a, b in both]) >= 0.8


@pytest.mark.parametrize("has_model", [False, True])
def test_no_two_chosen_images_are_near_copies(has_model: bool) -> None:
    rng = np.random.default_rng(0)
    rows = np.repeat(rng.standard_normal((30, 24)), 8, axis=0) + 0.02 * rng.standard_normal((240, 24))
    done = np.zeros(240, dtype=bool)
    done[:8] = True  # all of the first picture
    chance = special.softmax(rows[:, :4], axis=1) if has_model else None
    found = next_to_label(rows, chance, done, 50, seed=0)
    assert sorted(found // 8) == list(range(1, 30))  # one of each other picture, and no more
    unit = unit_rows((rows - rows.mean(axis=0)).astype(np.float32))
    assert np.triu(unit[found] @ unit[found].T, 1).max() < COPY


def test_the_choice_is_the_same_for_the_same_seed_and_leaves_out_what_is_labelled() -> None:
    rows, labels = _clouds(4, 50, 1.0)
    done = np.arange(200) % 3 == 0
    chance = special.softmax(rows[:, :4], axis=1)
    found = next_to_label(rows, chance, done, seed=5)
    assert np.array_equal(found, next_to_label(rows, chance, done, seed=5))
    assert found.size == 20
    assert np.unique(found).size == 20
    assert not done[found].any()
    assert np.unique(labels[next_to_label(rows, None, np.zeros(200, bool), 4, seed=0)]).size == 4  # one typical of each


def test_more_than_there_are_gives_all_there_are() -> None:
    rows, _ = _clouds(3, 5, 1.0)
    assert sorted(next_to_label(rows, None, np.zeros(15, bool), 99, seed=0)) == list(range(15))
    assert next_to_label(rows, None, np.ones(15, bool), 99, seed=0).size == 0
    with pytest.raises(BadRequest, match="at least 1"):
        next_to_label(rows, None, np.zeros(15, bool), 0)
    with pytest.raises(BadData, match="is_labelled"):
        next_to_label(rows, None, np.zeros(14, bool))
