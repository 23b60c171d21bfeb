"""Boxes: overlap, suppression and frames, against plain loops and shapes drawn at a known place."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from anmok.geometry import Pixels, area, clipped, from_cxcywh, iou, nms, to_xywh, view

MEAN, STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)


def boxes(count: int, seed: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 80, (count, 2))
    return np.concatenate([corner, corner + rng.uniform(0.1, 40, (count, 2))], 1).astype(np.float32)


def slow_iou(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    wide = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    high = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    both = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - wide * high
    return float(wide * high / both)


def slow_nms(xyxy: NDArray[np.float32], scores: NDArray[np.float32], least: float, ids: NDArray[np.int64]) -> list[int]:
    kept: list[int] = []
    for i in np.argsort(-scores, kind="stable").tolist():
        if all(ids[i] != ids[j] or slow_iou(xyxy[i], xyxy[j]) <= least for j in kept):
            kept.append(i)
    return kept


def test_overlap_equals_a_plain_loop() -> None:
    a, b = boxes(30, 0), boxes(20, 1)
    wanted = np.asarray([[slow_iou(x, y) for y in b] for x in a])
    np.testing.assert_allclose(iou(a, b), wanted, rtol=0, atol=1e-6)
    assert iou(np.zeros((1, 4)), np.zeros((1, 4))).tolist() == [[0.0]]
    assert iou(a[:0], b).shape == (0, 20)


@given(st.integers(0, 10_000), st.integers(0, 60), st.sampled_from([0.0, 0.3, 0.5, 0.7, 1.0]))
@settings(max_examples=60)
def test_suppression_equals_a_plain_loop(seed: int, count: int, least: float) -> None:
    rng = np.random.default_rng(seed)
    xyxy, ids = boxes(count, seed), rng.integers(0, 3, count)
    scores = rng.integers(0, 10, count).astype(np.float32) / 10  # with ties
    assert nms(xyxy, scores, least, ids).tolist() == slow_nms(xyxy, scores, least, ids)
    one_class = np.zeros(count, np.int64)
    assert nms(xyxy, scores, least).tolist() == slow_nms(xyxy, scores, least, one_class)


def test_forms_of_boxes() -> None:
    assert from_cxcywh(np.asarray([[10.0, 20.0, 4.0, 6.0]])).tolist() == [[8, 17, 12, 23]]
    assert to_xywh(np.asarray([[8.0, 17.0, 12.0, 23.0]])).tolist() == [[8, 17, 4, 6]]
    assert area(np.asarray([[8.0, 17.0, 12.0, 23.0], [5.0, 5.0, 1.0, 9.0]])).tolist() == [24, 0]
    assert clipped(np.asarray([[-5.0, 2.0, 90.0, 70.0]]), (60, 80)).tolist() == [[0, 2, 80, 60]]


@pytest.mark.parametrize("fit", ["squash", "pad", "short"])
@given(st.integers(20, 300), st.integers(20, 300), st.data())
@settings(max_examples=30)
def test_a_square_is_where_it_was_drawn(fit: str, height: int, width: int, data: st.DataObject) -> None:
    """Drawn in the picture, found on the canvas, and back within half a pixel of the canvas."""
    left = data.draw(st.integers(0, width - 12))
    top = data.draw(st.integers(0, height - 12))
    image = np.zeros((height, width, 3), np.uint8)
    image[top : top + 12, left : left + 12] = 255
    seen = view(image, Pixels(160, fit, "bilinear", MEAN, STD, longest=400))  # type: ignore[arg-type]
    bright = np.nonzero(seen.pixels[0] > 0.0)  # at least half white
    xyxy = np.asarray([[bright[1].min(), bright[0].min(), bright[1].max() + 1, bright[0].max() + 1]], np.float32)
    back = seen.frame.boxes_to_image(xyxy)[0]
    tolerance = 0.5 / np.asarray(seen.frame.scale_xy * 2) + 0.5  # of the canvas, and of the picture
    assert (np.abs(back - (left, top, left + 12, top + 12)) <= tolerance).all()
    again = seen.frame.boxes_to_image(seen.frame.boxes_to_canvas(back[None]))[0]
    np.testing.assert_allclose(again, back, rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("size_hw", "wanted"),
    [((480, 640), (800, 1066)), ((640, 480), (1066, 800)), ((300, 1200), (333, 1333)), ((100, 2000), (67, 1333))],
)
def test_the_short_side_is_bounded_by_the_long_one(size_hw: tuple[int, int], wanted: tuple[int, int]) -> None:
    """DETR's sizes: 800 at the short side, 1333 at most at the long one."""
    seen = view(np.zeros((*size_hw, 3), np.uint8), Pixels(800, "short", "bilinear", MEAN, STD, longest=1333))
    assert seen.pixels.shape == (3, *wanted)


def test_what_padding_adds_is_zero() -> None:
    seen = view(np.full((30, 60, 3), 200, np.uint8), Pixels(64, "pad", "bilinear", (0.485, 0.456, 0.406), STD))
    assert seen.pixels.shape == (3, 64, 64)
    assert (seen.pixels[:, 32:] == 0).all()
    assert (seen.pixels[:, :32] != 0).all()
