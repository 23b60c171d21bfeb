"""COCO's evaluation: numbers worked out by hand, and every number against pycocotools."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import sys
from typing import Any

import numpy as np
import pytest

from anmok.errors import BadData, BadRequest, MissingDependency
from anmok.geometry import Rle
from anmok.metrics import Annotations, CocoScores, coco_ap, from_images

# Both libraries compute in float64 and take means of up to 10^5 of the same cells, in another order.
ATOL = 1e-12
TWELVE = (
    *("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large"),
    *("ar1", "ar10", "ar100", "ar_small", "ar_medium", "ar_large"),
)


def boxes(*rows: tuple[float, float, float, float]) -> np.ndarray:
    return np.array(rows, np.float64).reshape(-1, 4)


def scene(seed: int, *, with_masks: bool = False) -> tuple[Annotations, Annotations]:
    """Truth and detections of 15 pictures and 4 classes: shifted, doubled, missed, invented, with tied scores, crowds,
    a class that nobody detects and one that is only detected."""
    rng = np.random.default_rng(seed)
    size = 160
    truth: dict[str, list[Any]] = {"boxes": [], "ids": [], "masks": []}
    found: dict[str, list[Any]] = {"boxes": [], "ids": [], "scores": [], "masks": []}
    for _ in range(15):
        count = int(rng.integers(0, 9))
        corner, sides = rng.uniform(0, 50, (count, 2)), rng.uniform(4, 105, (count, 2)).round(1)
        true, ids = np.concatenate([corner, corner + sides], 1), rng.integers(0, 4, count)
        copies = rng.permutation(np.repeat(np.arange(count), rng.integers(0, 3, count)))
        near = true[copies] + rng.normal(0, 4, (len(copies), 4))
        wild = np.repeat(rng.uniform(0, 60, (3, 2)), 2, 0).reshape(3, 4) + np.array([0, 0, 30, 40])
        guess = np.concatenate([near, wild])
        guess[:, 2:] = np.maximum(guess[:, 2:], guess[:, :2] + 1)
        truth["boxes"].append(true)
        truth["ids"].append(ids)
        found["boxes"].append(guess)
        found["ids"].append(np.concatenate([np.minimum(ids[copies], 2), rng.integers(1, 5, 3)]))
        found["scores"].append(rng.integers(0, 20, len(guess)) / 20)
        for name, these in (("truth", true), ("found", guess)):
            (truth if name == "truth" else found)["masks"].append([ellipse(box, size) for box in these])
    names, classes = [f"{i}.jpg" for i in range(15)], ["ant", "bee", "cat", "dog", "elk"]
    sizes = [(size, size)] * 15
    masks = (truth["masks"], found["masks"]) if with_masks else (None, None)
    true = from_images(names, classes[:4], truth["boxes"], truth["ids"], None, sizes, masks[0])
    crowd = rng.random(len(true)) < 0.1
    true = dataclasses.replace(true, is_crowd=crowd)
    return true, from_images(names, classes, found["boxes"], found["ids"], found["scores"], sizes, masks[1])


def ellipse(box: np.ndarray, size: int) -> np.ndarray:
    y, x = np.mgrid[:size, :size] + 0.5
    half = np.maximum((box[2:] - box[:2]) / 2, 1)
    centre = (box[2:] + box[:2]) / 2
    mask = ((x - centre[0]) / half[0]) ** 2 + ((y - centre[1]) / half[1]) ** 2 <= 1
    mask[size // 2, size // 2] = True  # never empty
    return np.asarray(mask)


def by_pycocotools(truth: Annotations, found: Annotations, kind: str) -> tuple[list[float], Any]:
    """The twelve numbers of the original, and its evaluation."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def rows(one: Annotations) -> list[dict[str, Any]]:
        answer = []
        for i in range(len(one)):
            x1, y1, x2, y2 = one.xyxy[i].tolist()
            row: dict[str, Any] = {"image_id": int(one.image_ids[i]), "category_id": int(one.class_ids[i]) + 1}
            if one.scores is not None:
                row["score"] = float(one.scores[i])
            else:
                row |= {"id": i + 1, "area": float(one.areas[i]), "iscrowd": int(one.is_crowd[i])}
            if kind == "segm":
                assert one.masks is not None
                row["segmentation"] = one.masks[i]
            if kind == "bbox" or one.scores is None:
                row["bbox"] = [x1, y1, x2 - x1, y2 - y1]
            answer.append(row)
        return answer

    with contextlib.redirect_stdout(io.StringIO()):
        gt: Any = COCO()
        gt.dataset = {
            "info": {},
            "images": [{"id": i, "height": s[0], "width": s[1]} for i, s in enumerate(truth.sizes_hw) if s],
            "annotations": rows(truth),
            "categories": [{"id": i + 1, "name": name} for i, name in enumerate(truth.classes)],
        }
        gt.createIndex()
        judge: Any = COCOeval
        run = judge(gt, gt.loadRes([row for row in rows(found) if row["category_id"] <= len(truth.classes)]), kind)
        run.evaluate()
        run.accumulate()
        run.summarize()
    return list(run.stats), run


def twelve(scores: CocoScores) -> list[float]:
    values = [getattr(scores, name) for name in TWELVE]
    return [-1.0 if value is None else value for value in values]


@pytest.mark.parametrize("seed", range(4))
def test_boxes_equal_pycocotools(seed: int) -> None:
    truth, found = scene(seed)
    ours = coco_ap(truth, found)
    theirs, run = by_pycocotools(truth, found, "bbox")
    np.testing.assert_allclose(twelve(ours), theirs, rtol=0, atol=ATOL)
    assert ours.unknown_classes == ("elk",)
    assert 0.05 < theirs[0] < 0.95, "a scene that cannot tell right from wrong"
    for i, name in enumerate(truth.classes):
        cells = run.eval["precision"][:, :, i, 0, 2]
        assert ours.per_class[name].ap == pytest.approx(cells[cells > -1].mean(), abs=ATOL)
        assert ours.per_class[name].ap50 == pytest.approx(cells[0].mean(), abs=ATOL)
        assert ours.per_class[name].ap75 == pytest.approx(cells[5].mean(), abs=ATOL)
        assert ours.per_class[name].ar100 == pytest.approx(run.eval["recall"][:, i, 0, 2].mean(), abs=ATOL)


@pytest.mark.parametrize("seed", range(2))
def test_masks_equal_pycocotools(seed: int) -> None:
    truth, found = scene(seed, with_masks=True)
    ours = coco_ap(truth, found, "masks")
    theirs, _ = by_pycocotools(truth, found, "segm")
    np.testing.assert_allclose(twelve(ours), theirs, rtol=0, atol=ATOL)
    assert ours.kind == "masks"
    assert abs(theirs[0] - twelve(coco_ap(truth, found))[0]) > 1e-3, "masks and boxes would say the same"


def test_of_each_class_a_hundred_per_picture_count() -> None:
    """The right one ranks 101st of 150, or first: pycocotools says the same, and 0 and not 0."""
    for place, is_found in ((100, False), (99, True)):
        truth = from_images(["a"], ["cat"], [boxes((0, 0, 50, 50))], [np.array([0])], None, [(99, 99)])
        guesses = np.tile([60.0, 60, 90, 90], (150, 1))
        guesses[place] = (0, 0, 50, 50)
        found = from_images(["a"], ["cat"], [guesses], [np.zeros(150, int)], [np.linspace(1, 0, 150)])
        ours = coco_ap(truth, found)
        np.testing.assert_allclose(twelve(ours), by_pycocotools(truth, found, "bbox")[0], rtol=0, atol=ATOL)
        assert (ours.ar100 == 1) == is_found
        assert ours.ar10 == 0


def test_one_of_two_found_and_one_invented() -> None:
    """Precision 1 up to a recall of 0.5: 51 of the 101 recalls. The invented one comes later and takes nothing."""
    truth = from_images(["a.jpg"], ["cat"], [boxes((0, 0, 50, 50), (60, 60, 99, 99))], [np.array([0, 0])])
    found = from_images(
        ["a.png"], ["cat"], [boxes((0, 0, 50, 50), (60, 0, 99, 30))], [np.array([0, 0])], [np.array([0.9, 0.8])]
    )
    scores = coco_ap(truth, found)
    assert scores.ap == pytest.approx(51 / 101, abs=ATOL)
    assert scores.ap50 == pytest.approx(51 / 101, abs=ATOL)
    assert (scores.ar1, scores.ar10, scores.ar100) == (0.5, 0.5, 0.5)
    assert scores.ap_small is None, "no small object is there"
    assert scores.ap_medium == pytest.approx(51 / 101, abs=ATOL)
    assert json.loads(json.dumps(scores.to_dict()))["per_class"]["cat"]["ar100"] == 0.5


def test_an_overlap_of_four_fifths_reaches_seven_of_ten_thresholds() -> None:
    """IoU 0.8: right at 0.50, 0.55 ... 0.80."""
    truth = from_images(["a"], ["cat"], [boxes((0, 0, 100, 100))], [np.array([0])])
    found = from_images(["a"], ["cat"], [boxes((0, 0, 100, 80))], [np.array([0])], [np.array([0.5])])
    scores = coco_ap(truth, found)
    assert scores.ap == pytest.approx(0.7, abs=ATOL)
    assert (scores.ap50, scores.ap75) == (pytest.approx(1, abs=ATOL), pytest.approx(1, abs=ATOL))


def test_nothing_found_is_zero_and_nothing_there_is_none() -> None:
    truth = from_images(["a", "b"], ["cat"], [boxes((0, 0, 9, 9)), boxes()], [np.array([0]), np.array([], int)])
    nothing = from_images(["a"], ["cat"], [boxes()], [np.array([], int)], [np.array([])])
    assert (coco_ap(truth, nothing).ap, coco_ap(truth, nothing).ar100) == (0.0, 0.0)
    empty = from_images(["a"], ["cat"], [boxes()], [np.array([], int)])
    found = from_images(["a"], ["cat"], [boxes((0, 0, 9, 9))], [np.array([0])], [np.array([0.5])])
    assert coco_ap(empty, found).ap is None
    assert coco_ap(empty, nothing).ap is None
    assert coco_ap(from_images(["a"], [], [boxes()], [np.array([], int)]), found).unknown_classes == ("cat",)


def test_pictures_are_matched_by_name() -> None:
    """By path without suffix, or by file name where the folders differ; the order does not matter."""
    two = [boxes((0, 0, 50, 50)), boxes((10, 10, 90, 90))]
    ids, scores = [np.array([0]), np.array([0])], [np.array([0.9]), np.array([0.8])]
    truth = from_images(["val/a.jpg", "val/b.jpg"], ["cat"], two, ids)
    assert coco_ap(truth, from_images(["val/b", "val/a"], ["cat"], two[::-1], ids, scores)).ap == pytest.approx(1)
    assert coco_ap(truth, from_images(["b.png", "a.png"], ["cat"], two[::-1], ids, scores)).ap == pytest.approx(1)
    assert coco_ap(truth, from_images(["val/a", "val/b"], ["cat"], two[::-1], ids, scores)).ap == pytest.approx(0)


def test_classes_are_matched_by_name() -> None:
    """Both sides number their classes as they like; one that the truth does not have is left out."""
    two, ids = [boxes((0, 0, 50, 50), (50, 50, 99, 99))], [np.array([0, 1])]
    truth = from_images(["a"], ["cat", "dog"], two, ids)
    found = from_images(["a"], ["ant", "dog", "cat"], two, [np.array([2, 1])], [np.ones(2)])
    assert coco_ap(truth, found).ap == pytest.approx(1)
    wrong = from_images(["a"], ["ant", "dog", "cat"], two, [np.array([0, 1])], [np.ones(2)])
    scores = coco_ap(truth, wrong)
    assert (scores.per_class["cat"].ap, scores.per_class["dog"].ap) == (0, pytest.approx(1))
    assert scores.unknown_classes == ("ant",)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["c"], "detections for 'c': the ground truth does not list the picture"),
        (["b/a"], "detections for 'b/a'"),
        (["b/a.jpg", "b/a.png"], "two pictures share a name"),
    ],
)
def test_a_picture_without_truth_is_refused(files: list[str], message: str) -> None:
    truth = from_images(["a/a.jpg", "c/a.jpg"], ["cat"], [boxes((0, 0, 9, 9))] * 2, [np.array([0])] * 2)
    count = len(files)
    found = from_images(
        files, ["cat"], [boxes((0, 0, 9, 9))] * count, [np.array([0])] * count, [np.array([0.9])] * count
    )
    with pytest.raises(BadData, match=message):
        coco_ap(truth, found)


def test_what_is_missing_is_said() -> None:
    truth = from_images(["a"], ["cat"], [boxes((0, 0, 9, 9))], [np.array([0])])
    with pytest.raises(BadRequest, match="needs a score"):
        coco_ap(truth, truth)
    found = from_images(["a"], ["cat"], [boxes((0, 0, 9, 9))], [np.array([0])], [np.array([0.9])])
    with pytest.raises(BadRequest, match="want boxes or masks"):
        coco_ap(truth, found, "keypoints")  # type: ignore[arg-type]
    with pytest.raises(BadData, match="masks=True"):
        coco_ap(truth, found, "masks")


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    truth = from_images(["a"], ["cat"], [boxes((0, 0, 9, 9))], [np.array([0])])
    with pytest.raises(MissingDependency, match=r"pip install 'anmok\[spatial\]'"):
        coco_ap(truth, truth)


def test_masks_of_two_sizes_are_refused() -> None:
    one, ids = [boxes((5, 3, 30, 20))], [np.array([0])]
    truth = from_images(["a"], ["cat"], one, ids, None, None, [[np.ones((30, 40), np.bool_)]])
    found = from_images(["a"], ["cat"], one, ids, [np.ones(1)], None, [[np.ones((40, 30), np.bool_)]])
    with pytest.raises(BadData, match=r"a: true masks of \[30, 40\], found ones of \[40, 30\]"):
        coco_ap(truth, found, "masks")


def test_masks_come_in_three_forms() -> None:
    mask = np.zeros((30, 40), np.bool_)
    mask[3:20, 5:30] = True
    forms = [mask, Rle.of(mask), Rle.of(mask).to_coco()]
    one = [boxes((5, 3, 30, 20))]
    for form in forms:
        truth = from_images(["a"], ["cat"], one, [np.array([0])], None, [(30, 40)], [[form]])
        assert truth.areas.tolist() == [17 * 25]
        found = dataclasses.replace(truth, scores=np.array([0.5]))
        assert coco_ap(truth, found, "masks").ap == pytest.approx(1, abs=ATOL)
