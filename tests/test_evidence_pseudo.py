"""Labels that a model gave, looked at before anything learns from them: figures worked out by hand, and drawn data."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from anmok.errors import BadData, BadRequest
from anmok.evidence.intervals import wilson
from anmok.evidence.pseudo import CONFIDENCES, audit_pseudo

CLASSES, EACH = 5, 80


def chances(said: list[int], sure: list[float], classes: int = 2) -> NDArray[np.float64]:
    rows = np.repeat((1 - np.array(sure))[:, None] / (classes - 1), classes, 1)
    rows[np.arange(len(said)), said] = sure
    return rows


def test_precision_is_counted_overall_and_above_each_confidence() -> None:
    # 100 answers: 60 sure ones of which 57 are right, 40 unsure ones of which 20 are.
    truth = np.zeros(100, np.int64)
    said = [0] * 57 + [1] * 3 + [0] * 20 + [1] * 20
    found = audit_pseudo(chances(said, [0.92] * 60 + [0.6] * 40), truth, wanted=0.8)
    assert found.precision.value == 0.77
    assert found.precision.interval == wilson(77, 100, 0.95)
    by_cut = {cut.confidence: cut for cut in found.cuts}
    assert [by_cut[c].count for c in CONFIDENCES] == [100, 100, 60, 60, 60, 0]
    assert by_cut[0.7].share == 0.6
    assert by_cut[0.7].precision is not None
    assert by_cut[0.7].precision.value == 0.95
    assert by_cut[0.95].precision is None
    assert found.chosen == by_cut[0.7]  # 0.95 with 0.83 at the lower end; all of them reach 0.65
    assert by_cut[0.7].precision.interval.low == pytest.approx(0.836, abs=0.02)


def test_too_few_right_ones_are_refused() -> None:
    said = [0] * 60 + [1] * 40
    found = audit_pseudo(chances(said, [0.9] * 100), np.zeros(100, np.int64))
    assert found.chosen is None
    assert audit_pseudo(chances(said, [0.9] * 100), np.zeros(100, np.int64), wanted=0.45).chosen == found.cuts[0]


def test_pictures_that_belong_together_count_for_less() -> None:
    said = [0] * 90 + [1] * 10
    alone = audit_pseudo(chances(said, [0.9] * 100), np.zeros(100, np.int64), wanted=0.8)
    grouped = audit_pseudo(
        chances(said, [0.9] * 100), np.zeros(100, np.int64), np.repeat(np.arange(10), 10), wanted=0.8
    )
    assert alone.precision.value == grouped.precision.value == 0.9
    assert alone.precision.interval.low > 0.8 > grouped.precision.interval.low
    assert grouped.chosen is None


def drawn(seed: int, swapped: float, *, to: int | None = 3) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Out-of-fold answers of nearest means on overlapping clouds, 30 % of class 2 labelled otherwise."""
    rng = np.random.default_rng(seed)
    truth = np.repeat(np.arange(CLASSES), EACH)
    rows = np.eye(CLASSES)[truth] * 3.2 + rng.normal(size=(len(truth), CLASSES))
    labels = truth.copy()
    moved = rng.permutation(np.flatnonzero(truth == 2))[: round(swapped * EACH)]
    others = np.array([0, 1, 3, 4])
    labels[moved] = to if to is not None else rng.choice(others, len(moved))
    fold, answered = rng.permutation(len(truth)) % 5, np.zeros((len(truth), CLASSES))
    for k in range(5):
        means = np.stack([rows[(fold != k) & (labels == c)].mean(0) for c in range(CLASSES)])  # (K, F)
        held = rows[fold == k]
        logits = -0.5 * ((held[:, None] - means[None]) ** 2).sum(2)  # (h, K)
        raised = np.exp(logits - logits.max(1, keepdims=True))
        answered[fold == k] = raised / raised.sum(1, keepdims=True)
    return answered, labels


def test_a_poisoned_class_is_caught_where_its_labels_went() -> None:
    found = [audit_pseudo(*drawn(seed, 0.3)) for seed in range(40)]
    assert sum(3 in one.doubtful for one in found) == 40  # labelled 3, though they show 2
    assert all(set(one.doubtful) <= {2, 3} for one in found)
    doubt = found[0].classes[3]
    assert doubt.labelled is not None
    assert doubt.labelled_elsewhere is not None
    # 24 of the 104 images under the label 3 are strangers; nearly all are answered 2.
    assert doubt.labelled.value == pytest.approx(0.25, abs=0.05)
    assert doubt.labelled.interval.low > 0.14
    assert doubt.labelled_elsewhere.value == pytest.approx(0.057, abs=0.01)
    assert doubt.labelled_elsewhere.interval.high < 0.11


def test_a_poisoned_class_is_caught_by_its_answers_where_its_labels_went_everywhere() -> None:
    found = [audit_pseudo(*drawn(seed, 0.3, to=None)) for seed in range(40)]
    assert sum(2 in one.doubtful for one in found) >= 38


def test_clean_labels_are_not_doubted() -> None:
    found = [audit_pseudo(*drawn(seed, 0.0)) for seed in range(200)]
    assert sum(bool(one.doubtful) for one in found) <= 6
    assert np.mean([one.precision.value for one in found]) == pytest.approx(0.96, abs=0.02)


def test_the_interval_holds_the_truth_and_the_chosen_cut_keeps_its_word() -> None:
    """Half of a large draw is audited, the other half says how right its labels are."""
    kept = held = 0
    for seed in range(200):
        answered, labels = drawn(seed, 0.0)
        half = np.random.default_rng(seed).permutation(len(labels))
        mine, new = half[:200], half[200:]
        found = audit_pseudo(answered[mine], labels[mine], wanted=0.9)
        if found.chosen is None:
            continue
        sure = answered[new].max(1) >= found.chosen.confidence
        kept += 1
        held += bool(np.mean(answered[new][sure].argmax(1) == labels[new][sure]) >= 0.9 - 0.02)
    assert kept >= 150
    assert held / kept > 0.95


def test_what_is_no_table_is_refused() -> None:
    with pytest.raises(BadData, match=r"want \(n, K\) and \(n,\)"):
        audit_pseudo(np.zeros((3, 2)), np.zeros(2))
    with pytest.raises(BadRequest, match="want a share between 0 and 1"):
        audit_pseudo(np.ones((1, 2)), np.zeros(1), wanted=1.0)
