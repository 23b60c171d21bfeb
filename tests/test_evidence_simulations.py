"""The promises of `anmok.evidence`, by simulation; ``benchmarks/simulate_evidence.py`` has the full sizes."""

from __future__ import annotations

import numpy as np
import pytest

from anmok.evidence.groups import duplicate_groups, merge_groups, straddling
from anmok.evidence.intervals import accuracy
from anmok.evidence.power import images_to_settle
from anmok.evidence.splits import seal
from anmok.evidence.verdict import Word
from benchmark_code import benchmark

simulate = benchmark("simulate_evidence")
Images, Pair = simulate.Images, simulate.Pair


@pytest.mark.parametrize(
    "images",
    [
        Images(120),
        Images(8, 50),
        Images(20, 50, 0.05),
        Images(44, 50, 0.4),
        Images(44, 15, 0.4, is_uneven=True),
    ],
    ids=str,
)
@pytest.mark.parametrize("p", [0.8, 0.95])
def test_accuracy_covers_whatever_the_groups(images: object, p: float) -> None:
    # 400 repeats have a standard deviation of 1.1 points; the benchmark has the full table
    assert simulate.accuracy_coverage(images, p, 400).share >= 0.93


def test_accuracy_is_no_wider_than_needed() -> None:
    single = simulate.accuracy_coverage(Images(300), 0.8, 50)
    assert single.width == pytest.approx(single.binomial_width, rel=0.02)
    # images that do not know their group pay little for having one
    grouped = simulate.accuracy_coverage(Images(44, 50), 0.8, 100)
    assert grouped.width < 1.3 * grouped.binomial_width


@pytest.mark.parametrize("draws", [3, 10])
def test_accuracy_covers_over_support_draws(draws: int) -> None:
    found = simulate.accuracy_coverage(Images(300), 0.8, 200, draws=draws)
    assert found.share >= 0.93
    assert simulate.accuracy_coverage(Images(30, 10, 0.2), 0.8, 200, draws=draws).share >= 0.91


@pytest.mark.parametrize(("n", "p", "least", "textbook"), [(50, 0.99, 0.90, 0.45), (20, 0.95, 0.91, 0.68)])
def test_wilson_covers_where_the_textbook_fails(n: int, p: float, least: float, textbook: float) -> None:
    wilson, plain = simulate.wilson_coverage(n, p, 20_000)
    assert wilson > least
    assert plain < textbook


def test_metric_interval_covers() -> None:
    assert simulate.metric_coverage(Images(150), 0.7, 40) >= 0.875


@pytest.mark.parametrize(
    "pair",
    [
        Pair(0.0, 0.1, Images(200)),
        Pair(0.0, 0.1, Images(10, 30, 0.2)),
        Pair(0.0, 0.2, Images(44, 50, 0.4)),
        Pair(0.0, 0.2, Images(200), draws=3, draw_sd=0.03),
    ],
    ids=["single images", "ten groups", "runs", "three draws"],
)
def test_a_against_a_is_not_better(pair: object) -> None:
    # 2.5 % wanted; more than 10 of 120 then happen once in a thousand suites
    assert simulate.words(pair, 120)[Word.BETTER] <= 10 / 120


def test_a_planted_gain_is_found_as_often_as_tabled() -> None:
    n = images_to_settle(0.05, 0.1)
    said = simulate.words(Pair(0.05, 0.1, Images(n)), 150)
    assert said[Word.BETTER] == pytest.approx(0.8, abs=0.1)
    assert said[Word.WORSE] == 0


def test_a_gain_of_the_margin_is_not_called_same() -> None:
    assert simulate.words(Pair(0.01, 0.02, Images(600)), 100)[Word.SAME] <= 0.1


def test_recommendations_are_seldom_wrong_and_cost_little() -> None:
    rising = simulate.choices([0.70, 0.77, 0.80], 400, 20)
    assert rising.wrong <= 3 / 20
    assert rising.regret < 0.015
    flat = simulate.choices([0.8, 0.8, 0.8], 400, 20)
    assert flat.better <= 3 / 20
    assert flat.regret == 0


def test_labels_of_pure_noise_teach_nothing() -> None:
    better, covered = simulate.noise_labels(200, 40)
    assert better <= 4 / 40
    assert covered >= 0.85


def test_duplicates_across_a_split_are_caught_and_kept_together() -> None:
    # 150 pictures, each with a near-copy; a one-nearest-neighbour "model" finds the copy, labels are noise
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((150, 32))
    x = np.concatenate([rows, rows + 0.02 * rng.standard_normal((150, 32))])
    unit = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
    bits = np.tile(rng.integers(0, 2**63, 150).astype(np.uint64), 2)
    y = np.tile(rng.integers(0, 2, 150), 2)

    def score(groups: np.ndarray | None) -> tuple[np.ndarray, float, float]:
        split = seal(y, groups, seed=0)
        nearest = split.pool[(unit[split.test] @ unit[split.pool].T).argmax(axis=1)]
        interval = accuracy(y[nearest] == y[split.test], groups if groups is None else groups[split.test]).interval
        return np.isin(np.arange(300), split.test), interval.low, interval.high

    found = duplicate_groups(unit, bits)
    side, low, _ = score(None)
    assert straddling(found.group, side).size > 30
    assert low > 0.65  # the leak passes for skill
    side, low, high = score(merge_groups(found.group, np.arange(300)))
    assert straddling(found.group, side).size == 0
    assert low < 0.5 < high
