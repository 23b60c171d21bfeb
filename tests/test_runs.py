"""Masks as runs: there and back, COCO's form, and how large they are."""

from __future__ import annotations

import json
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from pycocotools import mask as coco

from anmok.errors import BadRequest
from anmok.geometry import Rle
from anmok.results import Masks

MASKS = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=23))


def disc(size_hw: tuple[int, int], centre_xy: tuple[float, float], radius: float) -> NDArray[np.bool_]:
    y, x = np.ogrid[: size_hw[0], : size_hw[1]]
    return np.asarray((x - centre_xy[0]) ** 2 + (y - centre_xy[1]) ** 2 < radius**2)


@given(MASKS)
@settings(max_examples=200)
def test_a_mask_comes_back_and_is_cocos(mask: NDArray[np.bool_]) -> None:
    rle = Rle.of(mask)
    np.testing.assert_array_equal(rle.mask(), mask)
    assert rle.area == int(mask.sum())
    theirs = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert rle.to_coco() == {"size": list(mask.shape), "counts": theirs["counts"].decode()}
    assert Rle.from_coco(rle.to_coco()) == rle
    assert Rle.from_coco({"size": theirs["size"], "counts": theirs["counts"]}) == rle
    if mask.any():
        left, top, right, bottom = (int(side) for side in rle.xyxy)
        assert mask[top:bottom, left:right].sum() == mask.sum()
        np.testing.assert_array_equal(rle.crop(), mask[top:bottom, left:right])
        assert coco.toBbox(theirs).tolist() == [left, top, right - left, bottom - top]
    else:
        assert rle.xyxy == (0, 0, 0, 0)


@given(MASKS, st.randoms(use_true_random=False))
@settings(max_examples=100)
def test_overlap_is_counted_pixel_by_pixel(mask: NDArray[np.bool_], random: object) -> None:
    other = np.roll(mask, 1, axis=1) if mask.shape[1] > 1 else ~mask
    union = int((mask | other).sum())
    wanted = int((mask & other).sum()) / union if union else 0.0
    assert Rle.of(mask).iou(Rle.of(other)) == pytest.approx(wanted, abs=1e-12)


def test_plain_runs_are_read() -> None:
    mask = disc((20, 30), (12, 9), 6)
    flat = mask.T.ravel()
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    assert Rle.from_coco({"size": [20, 30], "counts": runs}) == Rle.of(mask)


def test_a_thousand_masks_of_a_large_picture_are_small() -> None:
    rng = np.random.default_rng(0)
    size = (1080, 1920)
    rles = tuple(
        Rle.of(disc(size, (rng.uniform(0, 1920), rng.uniform(0, 1080)), rng.uniform(5, 250))) for _ in range(1000)
    )
    masks = Masks(rles, np.ones(1000, np.float32), np.full(1000, -1), (), size)
    text = masks.to_json()
    assert len(text) < 5_000_000
    back = [Rle.from_coco(one["rle"]) for one in json.loads(text)["masks"][:50]]
    assert back == list(rles[:50])


@pytest.mark.parametrize(
    "content",
    [
        {"size": [4, 4]},
        {"size": [4, 4], "counts": [3, 4]},
        {"size": [4, 4], "counts": [20, -4]},
        {"size": [0, 4], "counts": []},
        {"size": [4, 4], "counts": "\x7f"},
        {"size": [4, 4], "counts": "o" * 40},
        {"size": "large", "counts": []},
        {"size": [10**9, 10**9], "counts": [10**18]},
    ],
)
def test_what_is_no_mask_is_refused(content: dict[str, object]) -> None:
    with pytest.raises(BadRequest, match="mask"):
        Rle.from_coco(content)


def test_pieces_that_do_not_fit_are_refused() -> None:
    with pytest.raises(BadRequest, match="does not lie in a picture"):
        Rle((4, 4), (2, 2, 3, 1), np.asarray([3], "<u4").tobytes())
    with pytest.raises(BadRequest, match="do not fill a box of 2"):
        Rle((4, 4), (0, 0, 2, 1), np.asarray([3], "<u4").tobytes())
    with pytest.raises(BadRequest, match=r"want bool \(H, W\)"):
        Rle.of(np.zeros((3, 3), np.uint8))  # type: ignore[arg-type]
    with pytest.raises(BadRequest, match="cannot be compared"):
        Rle.of(np.ones((3, 3), np.bool_)).iou(Rle.of(np.ones((3, 4), np.bool_)))


@pytest.mark.parametrize(
    "counts",
    [
        [2**62] * 4 + [4],  # of which the sum, in 64 bits, is 4
        [10**30],
        [-1, 5],
        [[4]],
        "o" * 12 + "O",
    ],
)
def test_runs_that_no_picture_holds_are_refused(counts: object) -> None:
    with pytest.raises(BadRequest):
        Rle.from_coco({"size": [2, 2], "counts": counts})
    with pytest.raises(BadRequest):
        Rle.from_coco({"size": [float("inf"), 2], "counts": [4]})


def test_a_few_letters_do_not_claim_gigabytes() -> None:
    side = 65_536
    tracemalloc.start()
    rle = Rle.from_coco({"size": [side, side], "counts": [side * side - 3, 3]})
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (rle.box_xywh, rle.area) == ((side - 1, side - 3, 1, 3), 3)
    assert peak < 1_000_000  # bytes; whole it would be four billion


def test_coco_runs_make_the_same_value_as_the_mask() -> None:
    rng = np.random.default_rng(3)
    for share in (0.0, 0.02, 0.3, 0.7, 1.0):
        for _ in range(20):
            height, width = rng.integers(1, 9, 2)
            mask = rng.random((height, width)) < share
            flat = mask.T.ravel()
            cut = np.flatnonzero(np.diff(flat)) + 1
            runs = np.diff([0, *cut, flat.size]).tolist()
            runs = [0, *runs] if flat[0] else runs
            split = [part for run in runs for part in ([run] if run < 2 else [1, 0, run - 1])]  # empty runs between
            for counts in (runs, split):
                assert Rle.from_coco({"size": [int(height), int(width)], "counts": counts}) == Rle.of(mask)
