"""Depth: every measure by hand, every alignment undone, every protocol's limits."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import numpy as np
import pytest

from anmok.errors import BadRequest
from anmok.metrics import depth_scores, mean_depth_scores
from anmok.metrics.depth import Align

# Sums of a few thousand float64 values.
TIGHT = 1e-9


def room(seed: int = 0) -> np.ndarray:
    """Depths (30, 40) between 1 and 9 metres."""
    return np.random.default_rng(seed).uniform(1, 9, (30, 40))


def test_every_measure_by_hand() -> None:
    """d / t is 1.2, 1.25 (not below 1.25) and 1/2."""
    truth, found = np.array([[1.0, 4.0, 2.0]]), np.array([[1.2, 5.0, 1.0]])
    one = depth_scores(found, truth)
    assert one.abs_rel == pytest.approx((0.2 + 0.25 + 0.5) / 3, abs=TIGHT)
    assert one.sq_rel == pytest.approx((0.04 / 1 + 1 / 4 + 1 / 2) / 3, abs=TIGHT)
    assert one.rmse == pytest.approx(math.sqrt((0.04 + 1 + 1) / 3), abs=TIGHT)
    logs = [math.log(1.2), math.log(1.25), math.log(0.5)]
    assert one.rmse_log == pytest.approx(math.sqrt(sum(x * x for x in logs) / 3), abs=TIGHT)
    assert one.log10 == pytest.approx(sum(abs(x) for x in logs) / 3 / math.log(10), abs=TIGHT)
    spread = sum(x * x for x in logs) / 3 - (sum(logs) / 3) ** 2
    assert one.si_log == pytest.approx(100 * math.sqrt(spread), abs=TIGHT)
    assert (one.delta1, one.delta2, one.delta3) == (1 / 3, 2 / 3, 2 / 3)
    assert (one.pixels, one.scale, one.shift) == (3, 1.0, 0.0)
    assert json.loads(json.dumps(one.to_dict()))["pixels"] == 3


def test_perfect_is_perfect() -> None:
    one = depth_scores(room(), room())
    assert (one.abs_rel, one.rmse, one.si_log, one.delta1) == (0, 0, 0, 1)


def test_si_log_ignores_scale() -> None:
    one = depth_scores(3 * room(), room())
    assert one.si_log == pytest.approx(0, abs=1e-6)  # the square root of a rounding error
    assert one.rmse_log == pytest.approx(math.log(3), abs=TIGHT)


@pytest.mark.parametrize(
    ("align", "made"),
    [
        ("median", lambda t: 0.25 * t),
        ("depth", lambda t: 0.25 * t + 0.5),
        ("depth", lambda t: -2 * t + 30),
        ("disparity", lambda t: 7 / t + 0.3),
        ("disparity", lambda t: 0.01 / t - 0.5),
    ],
)
def test_an_alignment_undoes_what_it_allows(align: Align, made: Callable[[np.ndarray], np.ndarray]) -> None:
    truth = room()
    found = made(truth)
    one = depth_scores(found, truth, align=align)
    assert one.abs_rel == pytest.approx(0, abs=1e-7)
    assert one.delta1 == 1
    assert one.scale is not None
    assert one.shift is not None
    goal = 1 / truth if align == "disparity" else truth
    np.testing.assert_allclose(found * one.scale + one.shift, goal, rtol=0, atol=1e-7)
    wrong: Align = "none" if align == "median" else "median"
    assert depth_scores(np.abs(found) + 0.1, truth, align=wrong).abs_rel > 0.05


@pytest.mark.parametrize("align", ["depth", "disparity"])
def test_the_fit_is_the_least_squares_one(align: Align) -> None:
    """Against numpy's own solver, on a prediction that no scale and shift makes right."""
    truth, found = room(1), room(2) + room(1)
    if align == "disparity":
        found = 1 / found
    goal = (1 / truth if align == "disparity" else truth).ravel()
    matrix = np.stack([found.ravel(), np.ones(found.size)], 1)
    scale, shift = np.linalg.lstsq(matrix, goal, rcond=None)[0]
    one = depth_scores(found, truth, align=align)
    assert (one.scale, one.shift) == (pytest.approx(scale, rel=1e-9), pytest.approx(shift, rel=1e-9))


def test_only_valid_pixels_count() -> None:
    """No measurement, not finite, at or beyond a limit, or masked: none of them is looked at, whatever is predicted."""
    truth = np.array([[2.0, 0.0, -1.0, np.nan, np.inf, 80.0, 0.001, 5.0, 3.0]])
    found = np.array([[2.0, 9.0, 9.0, 9.0, np.nan, 9.0, 9.0, np.inf, 6.0]])
    valid = np.array([[True] * 7 + [False, True]])
    one = depth_scores(found, truth, valid=valid, max_depth=80)
    assert (one.pixels, one.abs_rel) == (2, 0.5)
    with pytest.raises(BadRequest, match="not finite at a valid pixel"):
        depth_scores(found, truth, max_depth=80)


def test_the_prediction_is_clipped_to_the_range() -> None:
    truth = np.array([[2.0, 4.0]])
    one = depth_scores(np.array([[-3.0, 99.0]]), truth, min_depth=1, max_depth=8)
    assert one.abs_rel == pytest.approx(((2 - 1) / 2 + (8 - 4) / 4) / 2, abs=TIGHT)
    assert depth_scores(np.array([[2.0, 99.0]]), truth).abs_rel == pytest.approx(95 / 8, abs=TIGHT)


def test_a_disparity_of_nothing_is_the_far_end() -> None:
    """A pixel whose fitted disparity is negative does not become a negative or endless depth."""
    truth, found = np.array([[1.0, 1.0, 8.0, 8.0]]), np.array([[1.0, 1.0, 0.4, -0.4]])
    near, far = (depth_scores(found, truth, align="disparity", max_depth=top) for top in (None, 100))
    assert near.scale is not None
    assert near.shift is not None
    assert -0.4 * near.scale + near.shift < 0, "the case that this is about"
    assert near.abs_rel < far.abs_rel
    assert np.isfinite(list(far.to_dict().values())).all()


def test_a_flat_prediction_has_scores_too() -> None:
    truth = room()
    one = depth_scores(np.full_like(truth, 3), truth, align="depth")
    assert (one.scale, one.shift) == (0, pytest.approx(truth.mean()))
    assert np.isfinite(list(one.to_dict().values())).all()


def test_the_mean_weighs_pictures_alike() -> None:
    small, large = depth_scores(1.1 * room()[:1], room()[:1]), depth_scores(1.3 * room(), room())
    both = mean_depth_scores([small, large])
    assert both.abs_rel == pytest.approx((0.1 + 0.3) / 2, abs=TIGHT)
    assert (both.delta1, both.pixels, both.scale) == (0.5, 40 + 1200, None)
    with pytest.raises(BadRequest, match="no picture"):
        mean_depth_scores([])


def test_float32_does_not_lose_digits() -> None:
    truth = room()
    one = depth_scores((1.01 * truth).astype(np.float32), truth.astype(np.float32))
    assert one.abs_rel == pytest.approx(0.01, abs=1e-6)  # a float32 has seven digits


def test_what_makes_no_sense_is_refused() -> None:
    truth = room()
    with pytest.raises(BadRequest, match="want the same size"):
        depth_scores(truth[:5], truth)
    with pytest.raises(BadRequest, match="want the same size"):
        depth_scores(truth, truth, valid=np.ones((2, 2), np.bool_))
    with pytest.raises(BadRequest, match="no valid pixel"):
        depth_scores(truth, 0 * truth)
    with pytest.raises(BadRequest, match="0 < min_depth < max_depth"):
        depth_scores(truth, truth, min_depth=0)
    with pytest.raises(BadRequest, match="0 < min_depth < max_depth"):
        depth_scores(truth, truth, max_depth=1e-4)
    with pytest.raises(BadRequest, match="no scale makes a depth"):
        depth_scores(-truth, truth, align="median")
    with pytest.raises(BadRequest, match="want none, median"):
        depth_scores(truth, truth, align="affine")  # type: ignore[arg-type]
