"""Keypoints: PCK and OKS by hand, and COCO's ten numbers against pycocotools."""

from __future__ import annotations

import contextlib
import io
import json
import math
from collections.abc import Sequence
from dataclasses import astuple
from typing import Any

import numpy as np
import pytest

from anmok.errors import BadRequest
from anmok.metrics import COCO_SIGMAS, People, Poses, box_sizes, head_sizes, keypoint_ap, oks, pck


def people(seed: int, kinds: int = 17) -> tuple[list[People], list[Poses]]:
    """Ten pictures: people of all sizes, some without a labelled keypoint, some crowds; poses near, doubled, wild."""
    rng = np.random.default_rng(seed)
    truth, found = [], []
    for _ in range(10):
        count = int(rng.integers(0, 5))
        corner, sides = rng.uniform(0, 100, (count, 2)), rng.uniform(10, 200, (count, 2))
        box = np.concatenate([corner, corner + sides], 1)
        places = corner[:, None] + rng.random((count, kinds, 2)) * sides[:, None]  # (N, K, 2)
        seen = 1.0 * rng.integers(0, 3, (count, kinds, 1)) * (rng.random((count, 1, 1)) > 0.2)
        truth.append(People(np.concatenate([places, seen], 2), box, sides.prod(1) * 0.6, rng.random(count) < 0.1))
        copies = np.repeat(np.arange(count), rng.integers(0, 3, count))
        near = places[copies] + rng.normal(0, 0.06, (len(copies), kinds, 2)) * sides[copies, None]
        guess = np.concatenate([near, rng.uniform(0, 300, (1, kinds, 2))])
        found.append(Poses(guess, rng.integers(0, 10, len(guess)) / 10))
    return truth, found


def by_pycocotools(truth: Sequence[People], found: Sequence[Poses], sigmas: Sequence[float]) -> tuple[list[float], Any]:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    rows, guesses = [], []
    for image, (true, ours) in enumerate(zip(truth, found, strict=True), 1):
        crowd = true.is_crowd if true.is_crowd is not None else np.zeros(len(true.areas), np.bool_)
        for points, box, area, is_crowd in zip(true.keypoints, true.xyxy, true.areas, crowd, strict=True):
            row = {"id": len(rows) + 1, "image_id": image, "category_id": 1, "keypoints": points.ravel().tolist()}
            row |= {"bbox": [*box[:2], *(box[2:] - box[:2])], "area": area, "iscrowd": int(is_crowd)}
            rows.append(row | {"num_keypoints": int((points[:, 2] > 0).sum())})
        for points, score in zip(ours.keypoints, ours.scores, strict=True):
            flat = np.insert(points, 2, 1, axis=1).ravel().tolist()
            guesses.append({"image_id": image, "category_id": 1, "keypoints": flat, "score": score})
    with contextlib.redirect_stdout(io.StringIO()):
        gt: Any = COCO()
        images = [{"id": i} for i in range(1, len(truth) + 1)]
        gt.dataset = {"info": {}, "images": images, "annotations": rows, "categories": [{"id": 1, "name": "person"}]}
        gt.createIndex()
        run = COCOeval(gt, gt.loadRes(guesses), "keypoints")
        run.params.kpt_oks_sigmas = np.array(sigmas)
        run.evaluate()
        run.accumulate()
        run.summarize()
    return list(run.stats), run


@pytest.mark.parametrize(("seed", "kinds"), [(0, 17), (1, 17), (2, 17), (3, 5)])
def test_the_ten_numbers_equal_pycocotools(seed: int, kinds: int) -> None:
    truth, found = people(seed, kinds)
    sigmas = COCO_SIGMAS if kinds == 17 else (0.05, 0.02, 0.1, 0.03, 0.08)
    ours = [-1.0 if value is None else value for value in astuple(keypoint_ap(truth, found, sigmas))]
    theirs, _ = by_pycocotools(truth, found, sigmas)
    # Both compute in float64; means of the same cells in another order.
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)
    assert 0.05 < theirs[0] < 0.95, "people that cannot tell right from wrong"


@pytest.mark.parametrize("seed", range(3))
def test_oks_equals_pycocotools(seed: int) -> None:
    truth, found = people(seed)
    _, run = by_pycocotools(truth, found, COCO_SIGMAS)
    compared = 0
    for image, (true, ours) in enumerate(zip(truth, found, strict=True), 1):
        theirs = np.asarray(run.ious[image, 1])
        if theirs.size:
            order = np.argsort(-ours.scores, kind="stable")
            # float64, sums of 17 terms in another order
            np.testing.assert_allclose(oks(true, ours.keypoints)[order], theirs, rtol=0, atol=1e-13)
            compared += theirs.size
    assert compared > 20


def test_oks_by_hand() -> None:
    """Two labelled points of three: one right, one off by the distance at which the similarity is exp(-1/2)."""
    sigmas, area = (0.05, 0.1, 0.1), 400.0
    true = People(
        np.array([[[10, 10, 2], [20, 20, 1], [30, 30, 0]]], float), np.array([[0.0, 0, 20, 20]]), np.array([area])
    )
    off = 2 * 0.1 * math.sqrt(area)
    found = np.array([[[10, 10], [20 + off, 20], [999, 999]]], float)
    assert oks(true, found, sigmas)[0, 0] == pytest.approx((1 + math.exp(-0.5)) / 2, abs=1e-12)


def test_the_sigmas_are_those_of_coco() -> None:
    from pycocotools.cocoeval import Params

    np.testing.assert_allclose(COCO_SIGMAS, Params(iouType="keypoints").kpt_oks_sigmas, rtol=1e-15)


def test_nobody_there_and_nobody_found() -> None:
    none = Poses(np.zeros((0, 17, 2)), np.zeros(0))
    empty = People(np.zeros((0, 17, 3)), np.zeros((0, 4)), np.zeros(0))
    someone = people(0)[0][:3]
    assert keypoint_ap([empty], [none]).ap is None
    assert keypoint_ap(someone, [none] * 3).ap == 0
    assert oks(empty, np.zeros((2, 17, 2))).shape == (2, 0)
    assert json.loads(json.dumps(keypoint_ap([empty], [none]).to_dict()))["ap75"] is None


def test_pck_by_hand() -> None:
    """Sizes 10 and 20, so that 2 and 4 pixels are allowed, the limit included. One point is not labelled."""
    truth = np.zeros((2, 3, 2))
    found = np.array([[[2, 0], [2.01, 0], [0, 0]], [[0, 4], [3, 3], [np.nan, 0]]])
    labelled = np.array([[True, True, True], [True, True, False]])
    one = pck(found, truth, labelled, np.array([10.0, 20.0]), alpha=0.2)
    assert one.per_keypoint == (1.0, 0.0, 1.0)  # (3, 3) is 4.24 away
    assert (one.pooled, one.mean, one.points) == (3 / 5, pytest.approx(2 / 3), 5)
    assert pck(found, truth, labelled, np.array([10.0, 20.0]), alpha=0.3).pooled == 1
    nothing = pck(found, truth, np.zeros_like(labelled), np.array([10.0, 20.0]))
    assert (nothing.pooled, nothing.mean, nothing.per_keypoint) == (None, None, (None, None, None))
    assert json.loads(json.dumps(one.to_dict()))["per_keypoint"] == [1, 0, 1]


def test_sizes() -> None:
    xyxy = np.array([[0, 0, 30, 40], [5, 5, 6, 5]], float)
    assert box_sizes(xyxy).tolist() == [40, 1]
    np.testing.assert_allclose(head_sizes(xyxy), [30, 0.6])


def test_what_does_not_fit_is_refused() -> None:
    truth, found = people(0)
    with pytest.raises(BadRequest, match="10 true pictures, 9 found"):
        keypoint_ap(truth, found[1:])
    with pytest.raises(BadRequest, match=r"\[17\] keypoints and 5 sigmas"):
        keypoint_ap(truth, found, (0.1,) * 5)
    with pytest.raises(BadRequest, match="17 true keypoints"):
        oks(truth[0], np.zeros((1, 5, 2)))
    with pytest.raises(BadRequest, match=r"want \(N, K, 3\)"):
        People(np.zeros((1, 17, 2)), np.zeros((1, 4)), np.zeros(1))
    with pytest.raises(BadRequest, match=r"want \(M, K, 2\)"):
        Poses(np.zeros((1, 17, 3)), np.zeros(1))
    with pytest.raises(BadRequest, match="not a number"):
        Poses(np.full((1, 17, 2), np.nan), np.zeros(1))
    square = np.zeros((1, 3, 2))
    with pytest.raises(BadRequest, match="above 0"):
        pck(square, square, np.ones((1, 3), np.bool_), np.zeros(1))
    with pytest.raises(BadRequest, match=r"want \(N, K, 2\)"):
        pck(square, square, np.ones((1, 2), np.bool_), np.ones(1))
    with pytest.raises(BadRequest, match="not a number among the labelled"):
        pck(square * np.nan, square, np.ones((1, 3), np.bool_), np.ones(1))
