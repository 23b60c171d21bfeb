"""Pascal VOC's average precision: worked out by hand, and against loops that follow the definition."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from anmok.errors import BadRequest
from anmok.metrics import Annotations, from_images, voc_ap
from anmok.metrics.voc import Points

# Picture, left, top, width, height; and with the score after the picture. tests/test_case_1 of
# github.com/rafaelpadilla/review_object_detection_metrics (MIT licence, copyright 2020 y).
PUBLISHED_TRUTH = """
    1 25 16 38 56, 1 129 123 41 62, 2 123 11 43 55, 2 38 132 59 45, 3 16 14 35 48, 3 123 30 49 44, 3 99 139 47 47,
    4 53 42 40 52, 4 154 43 31 34, 5 59 31 44 51, 5 48 128 34 52, 6 36 89 52 76, 6 62 58 44 67, 7 28 31 55 63, 7
    58 67 50 58
"""
PUBLISHED_DETECTIONS = """
    1 0.88 5 67 31 48, 1 0.7 119 111 40 67, 1 0.8 124 9 49 67, 2 0.71 64 111 64 58, 2 0.54 26 140 60 47, 2 0.74 19
    18 43 35, 3 0.18 109 15 77 39, 3 0.67 86 63 46 45, 3 0.38 160 62 36 53, 3 0.91 105 131 47 47, 3 0.44 18 148 40
    44, 4 0.35 83 28 28 26, 4 0.78 28 68 42 67, 4 0.45 87 89 25 39, 4 0.14 10 155 60 26, 5 0.62 50 38 28 46, 5
    0.44 95 11 53 28, 5 0.95 29 131 72 29, 5 0.23 29 163 72 29, 6 0.45 43 48 74 38, 6 0.84 17 155 29 35, 6 0.43 95
    110 25 42, 7 0.48 16 20 101 88, 7 0.95 33 116 37 49
"""


def boxes(*rows: tuple[float, float, float, float]) -> np.ndarray:
    return np.array(rows, np.float64).reshape(-1, 4)


def scene(seed: int) -> tuple[Annotations, Annotations]:
    """Twenty pictures of whole pixels with doubled, shifted, missed and invented boxes of three classes."""
    rng = np.random.default_rng(seed)
    true, kinds, guesses, guessed, scores = [], [], [], [], []
    for _ in range(20):
        count = int(rng.integers(0, 7))
        corner = rng.integers(0, 60, (count, 2))
        box = np.concatenate([corner, corner + rng.integers(8, 40, (count, 2))], 1)
        kind = rng.integers(0, 3, count)
        copies = rng.permutation(np.repeat(np.arange(count), rng.integers(0, 3, count)))
        wild = np.tile(rng.integers(0, 60, (2, 2)), 2) + np.array([0, 0, 20, 20])
        true.append(box)
        kinds.append(kind)
        guesses.append(np.concatenate([box[copies] + rng.integers(-3, 4, (len(copies), 4)), wild]))
        guessed.append(np.concatenate([kind[copies], rng.integers(0, 3, 2)]))
        scores.append(rng.permutation(1000)[: len(copies) + 2] / 1000 + rng.random() / 1e6)
    names, classes = [f"{i:02}.jpg" for i in range(20)], ["ant", "bee", "cat"]
    truth = from_images(names, classes, true, kinds)
    truth = dataclasses.replace(truth, is_difficult=rng.random(len(truth)) < 0.15)
    return truth, from_images(names, classes, guesses, guessed, scores)


def by_loops(truth: Annotations, found: Annotations, kind: int, iou: float, points: str, edge: int) -> float:
    """The definition, one detection at a time."""
    assert found.scores is not None
    claimed: set[int] = set()
    hits: list[int] = []
    for i in np.argsort(-found.scores, kind="stable"):
        if found.class_ids[i] != kind:
            continue
        best, which = 0.0, -1
        for j in range(len(truth)):
            if truth.class_ids[j] != kind or truth.image_ids[j] != found.image_ids[i]:
                continue
            a, b = found.xyxy[i], truth.xyxy[j]
            wide = min(a[2], b[2]) - max(a[0], b[0]) + edge
            high = min(a[3], b[3]) - max(a[1], b[1]) + edge
            if wide <= 0 or high <= 0:
                continue
            union = sum((c[2] - c[0] + edge) * (c[3] - c[1] + edge) for c in (a, b)) - wide * high
            if wide * high / union > best:
                best, which = wide * high / union, j
        if best >= iou and truth.is_difficult[which]:
            continue
        hits.append(int(best >= iou and which not in claimed))
        if best >= iou:
            claimed.add(which)
    objects = int(((truth.class_ids == kind) & ~truth.is_difficult).sum())
    precision = [sum(hits[: k + 1]) / (k + 1) for k in range(len(hits))]
    recall = [sum(hits[: k + 1]) / objects for k in range(len(hits))]
    if points == "eleven":
        steps = list(zip(precision, recall, strict=True))
        return sum(max([p for p, r in steps if r >= x], default=0) for x in np.linspace(0, 1, 11)) / 11
    return sum(max(precision[k:]) / objects for k in range(len(hits)) if hits[k])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("points", ["all", "eleven"])
@pytest.mark.parametrize(("iou", "edge"), [(0.5, 1), (0.75, 1), (0.5, 0)])
def test_equal_to_loops(seed: int, points: Points, iou: float, edge: int) -> None:
    truth, found = scene(seed)
    ours = voc_ap(truth, found, iou=iou, points=points, is_inclusive=bool(edge))
    theirs = [by_loops(truth, found, kind, iou, points, edge) for kind in range(3)]
    # The same sums of some hundred numbers in another order.
    aps = np.array([one.ap for one in ours.per_class.values()], float)
    np.testing.assert_allclose(aps, theirs, rtol=0, atol=1e-12)
    assert ours.mean_ap == pytest.approx(np.mean(theirs), abs=1e-12)
    assert 0.03 < np.mean(theirs) < 0.95, "a scene that cannot tell right from wrong"


def case() -> tuple[Annotations, Annotations]:
    """Four objects. By score: right, wrong, right, a second time the first, right."""
    truth = from_images(
        ["a", "b"],
        ["cat"],
        [boxes((0, 0, 9, 9), (20, 0, 29, 9)), boxes((0, 0, 9, 9), (50, 50, 59, 59))],
        [np.zeros(2, int), np.zeros(2, int)],
    )
    found = from_images(
        ["b", "a"],
        ["cat"],
        [boxes((0, 0, 9, 9), (30, 30, 39, 39)), boxes((0, 0, 9, 9), (0, 0, 9, 8), (20, 0, 29, 9))],
        [np.zeros(2, int), np.zeros(3, int)],
        [np.array([0.7, 0.8]), np.array([0.9, 0.6, 0.5])],
    )
    return truth, found


def test_by_hand() -> None:
    """Precision 1, 1/2, 2/3, 2/4, 3/5 at recalls 1/4, 1/4, 2/4, 2/4, 3/4."""
    one = voc_ap(*case()).per_class["cat"]
    np.testing.assert_allclose(one.precision, [1, 1 / 2, 2 / 3, 2 / 4, 3 / 5])
    np.testing.assert_allclose(one.recall, [1 / 4, 1 / 4, 2 / 4, 2 / 4, 3 / 4])
    assert one.objects == 4
    assert one.ap == pytest.approx((1 + 2 / 3 + 3 / 5) / 4, abs=1e-15)
    # Recalls 0, 0.1, 0.2 see 1; 0.3, 0.4, 0.5 see 2/3; 0.6, 0.7 see 3/5; three see nothing.
    assert voc_ap(*case(), points="eleven").mean_ap == pytest.approx((3 + 3 * 2 / 3 + 2 * 3 / 5) / 11, abs=1e-15)


def test_difficult_objects_count_neither_way() -> None:
    """Without the first object: both detections of it are gone, and three objects are left."""
    truth, found = case()
    marks = np.array([True, False, False, False])
    for changed in (dataclasses.replace(truth, is_difficult=marks), dataclasses.replace(truth, is_crowd=marks)):
        one = voc_ap(changed, found).per_class["cat"]
        np.testing.assert_allclose(one.precision, [0, 1 / 2, 2 / 3])
        assert one.objects == 3
        assert one.ap == pytest.approx(2 / 3 * 2 / 3, abs=1e-15)


def test_of_two_objects_overlapped_alike_the_first_is_meant() -> None:
    """The second is difficult: read the other way round, the detection would not count."""
    truth = from_images(["a"], ["cat"], [boxes((0, 0, 9, 9), (10, 0, 19, 9))], [np.zeros(2, int)])
    found = from_images(["a"], ["cat"], [boxes((5, 0, 14, 9))], [np.zeros(1, int)], [np.ones(1)])
    for first, value in ((False, 1), (True, 0)):
        marked = dataclasses.replace(truth, is_difficult=np.array([first, not first]))
        assert voc_ap(marked, found, iou=0.3).mean_ap == value


def test_the_last_pixel_belongs_to_the_box() -> None:
    """10 x 10 against 10 x 5 pixels: half of it. Read as half-open boxes it is 4/9."""
    truth = from_images(["a"], ["cat"], [boxes((0, 0, 9, 9))], [np.zeros(1, int)])
    found = from_images(["a"], ["cat"], [boxes((0, 0, 9, 4))], [np.zeros(1, int)], [np.ones(1)])
    assert voc_ap(truth, found, iou=0.5).mean_ap == 1
    assert voc_ap(truth, found, iou=0.5, is_inclusive=False).mean_ap == 0


def test_nothing_there_and_nothing_found() -> None:
    truth = from_images(["a"], ["cat", "dog"], [boxes((0, 0, 9, 9))], [np.zeros(1, int)])
    nothing = from_images(["a"], ["cat"], [boxes()], [np.zeros(0, int)])
    scores = voc_ap(truth, nothing)
    assert (scores.per_class["cat"].ap, scores.per_class["dog"].ap, scores.mean_ap) == (0.0, None, 0.0)
    found = from_images(["a"], ["cat", "elk"], [boxes((0, 0, 9, 9))] * 1, [np.ones(1, int)], [np.ones(1)])
    assert voc_ap(truth, found).unknown_classes == ("elk",)
    empty = from_images(["a"], ["cat"], [boxes()], [np.zeros(0, int)])
    assert voc_ap(empty, nothing).mean_ap is None
    assert json.loads(json.dumps(scores.to_dict()))["per_class"]["cat"]["objects"] == 1


@pytest.mark.parametrize("iou", [0.0, 1.5, -1.0])
def test_a_threshold_that_means_nothing_is_refused(iou: float) -> None:
    with pytest.raises(BadRequest, match="above 0"):
        voc_ap(*case(), iou=iou)
    with pytest.raises(BadRequest, match="points 'ten'"):
        voc_ap(*case(), points="ten")  # type: ignore[arg-type]


def published() -> tuple[Annotations, Annotations]:
    values = [
        np.array([one.split() for one in text.split(",")], float) for text in (PUBLISHED_TRUTH, PUBLISHED_DETECTIONS)
    ]
    pictures = range(1, 8)
    corners = [np.concatenate([rows[:, -4:-2], rows[:, -4:-2] + rows[:, -2:]], 1) for rows in values]
    boxes, ids, scores = (
        [[corners[i][rows[:, 0] == p] for p in pictures] for i, rows in enumerate(values)],
        [[np.zeros(int((rows[:, 0] == p).sum()), int) for p in pictures] for rows in values],
        [values[1][values[1][:, 0] == p, 1] for p in pictures],
    )
    names = [f"{p:05}" for p in pictures]
    truth = from_images(names, ["object"], boxes[0], ids[0])
    return truth, from_images(names, ["object"], boxes[1], ids[1], scores)


# tests/test_eval_pascal.py of the same place
@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ("eleven", {0.1: 0.3333333333, 0.3: 0.2683982683, 0.5: 0.0303030303, 0.75: 0.0}),
        ("all", {0.1: 0.3371980676, 0.3: 0.2456866804, 0.5: 0.0222222222, 0.75: 0.0}),
    ],
)
def test_the_published_example(points: Points, expected: dict[float, float]) -> None:
    truth, found = published()
    assert (len(truth), len(found)) == (15, 24)
    for iou, value in expected.items():
        assert voc_ap(truth, found, iou=iou, points=points).mean_ap == pytest.approx(value, abs=1e-10)
