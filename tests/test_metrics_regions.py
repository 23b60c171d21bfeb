"""Masks and clips: cases worked out by hand, and DAVIS 2017's own evaluation as recorded by
``tests/golden/record_davis.py``."""

from __future__ import annotations

import json
import weakref
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from anmok.errors import BadRequest
from anmok.geometry import Rle
from anmok.metrics import (
    TrackScores,
    boundary_f,
    confusion,
    davis_scores,
    label_map_scores,
    region_iou,
    track_scores,
)
from anmok.metrics.regions import contour, dilated
from anmok.metrics.video import over_time
from golden import record_davis as record
from golden.record_davis import CASES

Bools = NDArray[np.bool_]


def square(size: int, top: int, left: int, side: int) -> Bools:
    mask = np.zeros((size, size), np.bool_)
    mask[top : top + side, left : left + side] = True
    return mask


@pytest.fixture(scope="module")
def recorded() -> dict[str, NDArray[np.float64]]:
    with np.load(record.FILE) as values:
        return dict(values)


@pytest.mark.parametrize("name", CASES)
def test_clips_are_judged_as_davis_does(name: str, recorded: dict[str, NDArray[np.float64]]) -> None:
    """To the last bit: counts of pixels are whole numbers, and they are divided in the same order."""
    truth, found = record.clip(CASES[name])
    ours = track_scores(truth, found)
    np.testing.assert_array_equal(np.stack([ours.j_frames, ours.f_frames]), recorded[f"{name}, frames"])
    over = [[one.mean, one.recall, one.decay] for one in (ours.j, ours.f)]
    # numpy sums a mean in another order where the array lies otherwise in memory.
    np.testing.assert_allclose(over, recorded[f"{name}, over time"], rtol=0, atol=1e-14)
    assert ours.jf == (ours.j.mean + ours.f.mean) / 2


@pytest.mark.parametrize("name", [name for name in CASES if name != "video"])
def test_void_and_another_bound(name: str, recorded: dict[str, NDArray[np.float64]]) -> None:
    truth, found = record.clip(CASES[name])
    void = record.void(CASES[name])
    pairs = list(zip(truth[1:-1], found[1:-1], strict=True))
    measured = [[region_iou(*pair, void) for pair in pairs], [boundary_f(*pair, void) for pair in pairs]]
    np.testing.assert_array_equal(measured, recorded[f"{name}, void"])
    np.testing.assert_array_equal([boundary_f(*pair, bound=3) for pair in pairs], recorded[f"{name}, bound 3"])


def test_the_recording_tells_right_from_wrong(recorded: dict[str, NDArray[np.float64]]) -> None:
    means = np.array([recorded[f"{name}, frames"].mean(1) for name in CASES])  # (clips, 2)
    assert means.min() < 0.3
    assert means.max() > 0.9
    assert np.abs(means[:, 0] - means[:, 1]).min() > 1e-3


def test_j_by_hand() -> None:
    a, b = square(40, 10, 10, 10), square(40, 10, 15, 10)
    assert region_iou(a, b) == 50 / 150
    assert region_iou(a, a) == 1
    assert region_iou(a, ~a) == 0
    nothing = np.zeros_like(a)
    assert (region_iou(nothing, nothing), region_iou(a, nothing)) == (1, 0)
    assert region_iou(a, b, void=square(40, 0, 15, 30)) == 0, "what they share is void"
    assert region_iou(Rle.of(a), Rle.of(b).to_coco()) == 50 / 150


def test_the_contour_lies_half_a_pixel_to_the_upper_left() -> None:
    mask = square(6, 2, 2, 2)
    rows = ["......", ".###..", ".#.#..", ".###..", "......", "......"]
    assert contour(mask).tolist() == [[letter == "#" for letter in row] for row in rows]
    assert not contour(np.ones((5, 7), np.bool_)).any(), "the frame is no contour"


def test_f_by_hand() -> None:
    """One column of eight: moved by the radius it is found, by one more it is not."""
    a = np.zeros((100, 100), np.bool_)
    a[:, 50:] = True  # the contour is column 49
    radius = 2  # ceil(0.008 x 141.4)
    for off, value in ((0, 1), (radius, 1), (radius + 1, 0)):
        assert boundary_f(a, np.roll(a, off, 1) & (np.arange(100) >= 50)) == value
    b = a.copy()
    b[:50, 40:] = True  # upper half ten columns off
    # Found: column 39 in rows 0-49 and row 49 from 40 to 49 (11 with the corner counted once). Right are those in
    # rows 50-99 of column 49 and those of row 49 within two columns. True: column 49, rows 48-99 are near.
    found, true = contour(b), contour(a)
    near = [
        int(np.count_nonzero(one & np.asarray(ndimage.binary_dilation(other, disk(radius)), np.bool_)))
        for one, other in ((found, true), (true, found))
    ]
    precision, recall = near[0] / found.sum(), near[1] / 100
    assert boundary_f(a, b) == pytest.approx(2 * precision * recall / (precision + recall), abs=1e-15)
    assert recall == 0.53, "rows 47 to 99: two above the step"


def test_f_of_nothing() -> None:
    a, nothing = square(40, 10, 10, 10), np.zeros((40, 40), np.bool_)
    assert (boundary_f(nothing, nothing), boundary_f(a, nothing), boundary_f(nothing, a)) == (1, 0, 0)


def disk(radius: int) -> Bools:
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return np.asarray(x * x + y * y <= radius * radius)


@pytest.mark.parametrize("radius", [0, 1, 2, 3, 5, 8, 13, 40])
@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (30, 1), (33, 47)])
def test_dilation_is_that_of_scipy(radius: int, shape: tuple[int, int]) -> None:
    mask = np.random.default_rng(radius).random(shape) < 0.03
    mask[0, 0] = True
    np.testing.assert_array_equal(dilated(mask, radius), ndimage.binary_dilation(mask, disk(radius)))


def test_mean_iou_by_hand() -> None:
    """Class 0: 4 of 5; class 1: 1 of 3; class 2: only called; class 3: nowhere. One pixel is ignored."""
    truth = np.array([[0, 0, 0, 0], [1, 1, 1, 255]])
    found = np.array([[0, 0, 0, 0], [0, 1, 2, 7]])
    matrix = confusion(truth, found, 4)
    assert matrix.tolist() == [[4, 0, 0, 0], [1, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    scores = label_map_scores(matrix)
    assert scores.per_class == (4 / 5, 1 / 3, 0.0, None)
    assert scores.mean_iou == pytest.approx((4 / 5 + 1 / 3 + 0) / 3, abs=1e-15)
    assert (scores.accuracy, scores.mean_accuracy) == (5 / 7, pytest.approx((1 + 1 / 3) / 2, abs=1e-15))
    assert json.loads(json.dumps(scores.to_dict()))["per_class"][3] is None
    twice = label_map_scores(matrix + confusion(truth, found, 4))
    assert twice == scores, "two pictures that are the same"


def test_maps_that_do_not_fit_are_refused() -> None:
    one = np.zeros((3, 4), np.uint8)
    with pytest.raises(BadRequest, match="want the same size"):
        confusion(one, one[:2], 2)
    with pytest.raises(BadRequest, match="want whole numbers, got uint8 and float64"):
        confusion(one, one.astype(float), 2)  # type: ignore[arg-type]
    with pytest.raises(BadRequest, match="prediction has classes 5 to 5, want 0 to 1"):
        confusion(one, one + 5, 2)
    with pytest.raises(BadRequest, match="truth has classes 255 to 255"):
        confusion(one + 255, one, 2, ignore=None)
    with pytest.raises(BadRequest, match=r"\(K, K\)"):
        label_map_scores(np.zeros((2, 3), int))
    empty = label_map_scores(confusion(one + 255, one, 2))
    assert (empty.mean_iou, empty.accuracy, empty.mean_accuracy) == (None, None, None)


@pytest.mark.parametrize("bad", [np.zeros((3, 4)), np.zeros((3, 4, 1), np.bool_), np.zeros((3, 5), np.bool_)])
def test_masks_that_do_not_fit_are_refused(bad: Bools) -> None:
    with pytest.raises(BadRequest, match=r"want bool \(H, W\)|want the same"):
        boundary_f(np.zeros((3, 4), np.bool_), bad)


@pytest.mark.parametrize("bound", [0.0, -1.0, float("nan")])
def test_a_bound_that_means_nothing_is_refused(bound: float) -> None:
    with pytest.raises(BadRequest, match="must be above 0"):
        boundary_f(square(9, 2, 2, 4), square(9, 2, 2, 4), bound=bound)


def test_decay_is_the_first_quarter_less_the_last() -> None:
    """Of eight frames: 1, 3, 4, 6, 8 are the edges (1, 2.75, 4.5, 6.25, 8 rounded), both ends included."""
    frames = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2])
    one = over_time(frames)
    assert one.mean == pytest.approx(0.55, abs=1e-15)
    assert one.recall == 4 / 8, "a half is not above a half"
    assert one.decay == pytest.approx((0.9 + 0.8 + 0.7) / 3 - (0.4 + 0.3 + 0.2) / 3, abs=1e-15)


def test_decay_of_a_long_clip_does_not_wrap() -> None:
    """At 1000 frames the quarters are far beyond 256."""
    frames = np.linspace(1, 0, 1000)
    assert over_time(frames).decay == pytest.approx(0.75, abs=1e-3)


def test_the_first_and_the_last_frame_do_not_count() -> None:
    """Lost in both, perfect between; ``None`` is a frame without a mask."""
    a = square(40, 10, 10, 10)
    scores = track_scores([a] * 5, [None, a, a, a, None])
    assert (scores.j.mean, scores.f.mean, scores.jf, len(scores.j_frames)) == (1, 1, 1, 3)
    assert track_scores([a] * 5, [a, a, None, a, a]).j_frames.tolist() == [1, 0, 1]


def test_frames_are_read_one_by_one() -> None:
    """However long the clip is, no more than three masks of it are alive: measured, last, and next."""
    alive: list[weakref.ref[Bools]] = []
    most = 0

    def frames() -> Iterator[Bools]:
        nonlocal most
        for number in range(50):
            mask = square(20, 2, 2, 5 + number % 3)
            alive.append(weakref.ref(mask))
            most = max(most, sum(one() is not None for one in alive))
            yield mask

    truth = square(20, 2, 2, 5)
    assert len(track_scores([truth] * 50, frames()).j_frames) == 48
    assert most <= 3


def test_clips_that_do_not_fit_are_refused() -> None:
    a = square(40, 10, 10, 10)
    with pytest.raises(BadRequest, match="the found masks end after 3 frames"):
        track_scores([a] * 4, [a] * 3)
    with pytest.raises(BadRequest, match="the true masks end after 3 frames"):
        track_scores([a] * 3, [a] * 4)
    for count in (0, 1, 2):
        with pytest.raises(BadRequest, match=f"{count} frames; the first and the last do not count"):
            track_scores([a] * count, [a] * count)
    with pytest.raises(BadRequest, match="no object"):
        davis_scores({})


def test_objects_count_alike_whatever_their_length() -> None:
    a, b = square(40, 10, 10, 10), square(40, 10, 15, 10)
    long, short = track_scores([a] * 12, [a] * 12), track_scores([a] * 3, [b] * 3)
    assert isinstance(long, TrackScores)
    all_of_them = davis_scores({"dog 1": long, "dog 2": short})
    assert all_of_them.j.mean == pytest.approx((1 + 1 / 3) / 2, abs=1e-15)
    assert all_of_them.j.recall == 0.5
    assert all_of_them.jf == pytest.approx((long.jf + short.jf) / 2, abs=1e-15)
    value = json.loads(json.dumps(all_of_them.to_dict()))
    assert list(value["per_object"]) == ["dog 1", "dog 2"]
    assert value["per_object"]["dog 2"]["j_frames"] == [1 / 3]
