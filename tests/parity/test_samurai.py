"""The filter, the choice of masks and the choice of memories against what the authors' SAMURAI answers, recorded
with ``tests/golden/record_samurai.py``; and what theirs does not do: several objects, a fresh start, an empty mask."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from anmok.errors import BadRequest
from anmok.nets.samurai import Motion, Rules, Samurai, boxes, overlaps, predicted, started, updated
from golden.record_samurai import (
    ALPHAS,
    FILE,
    FRAMES,
    HISTORIES,
    LENGTH,
    SIDE,
    SLOTS,
    STEPS,
    Array,
    drifting,
    history,
    is_measured,
    offers,
)

WANTED = np.load(FILE)


def enlarged(masks: np.ndarray) -> Tensor:
    """(3, s, s) to (3, S, S), as SAM 2 brings its masks to the size of its picture."""
    return functional.interpolate(torch.from_numpy(masks)[None], (SIDE, SIDE), mode="bilinear", align_corners=False)[0]


def followed(selector: Samurai, key: int, shown: range) -> Array:
    """The recorded columns for these offers: index, stable frames, IoU, overlap, mean."""
    rows, all_offers = [], offers()
    for frame in shown:
        offer = all_offers[frame]
        masks = enlarged(offer.masks if offer.score > selector.visible else np.full_like(offer.masks, -1024))
        index = selector.choose(key, masks, torch.from_numpy(offer.ious))
        track = selector.track(key)
        assert track.motion is not None
        overlap = -1 if track.overlap is None else track.overlap
        selector.note(key, frame, offer.score, float(offer.ious[index]))
        rows.append([index, track.stable, offer.ious[index], overlap, *track.motion.mean])
    return np.array(rows)


def fresh(alpha: float = 0.15) -> Samurai:
    selector = Samurai(Rules(alpha=alpha))
    selector.restart(0, frame=0)
    return selector


def test_the_filter_is_theirs() -> None:
    measured = drifting()
    motion = started(measured[0])
    means, covariances = [], []
    for step in range(STEPS):
        motion = predicted(motion)
        if is_measured(step):
            motion = updated(motion, measured[step])
        means.append(motion.mean)
        covariances.append(motion.covariance)
    # Double precision both, solved in another order: means are up to 800 pixels, covariances to 100.
    np.testing.assert_allclose(means, WANTED["means"], rtol=0, atol=1e-10)
    np.testing.assert_allclose(covariances[::10], WANTED["covariances"], rtol=0, atol=1e-10)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_masks_are_chosen_as_theirs_are(alpha: float) -> None:
    got, wanted = followed(fresh(alpha), 0, range(FRAMES)), WANTED[f"chosen-{alpha}"]
    np.testing.assert_array_equal(got[:, :3], wanted[:, :3])
    # As above.
    np.testing.assert_allclose(got[:, 3:], wanted[:, 3:], rtol=0, atol=1e-10)
    # All three branches were walked, and the filter did overrule the IoU.
    stable, before = wanted[:, 1], np.concatenate([[0], wanted[:-1, 1]])
    assert {int(n) for n in before} == set(range(16))
    assert ((before == 15) & (stable == 0)).any()
    assert ((before > 0) & (before < 15) & (stable == 0)).any()
    best = np.array([offer.ious.argmax() for offer in offers()])
    assert (best != wanted[:, 0]).sum() >= 3


def test_the_weight_matters() -> None:
    assert (WANTED["chosen-0.15"][:, 0] != WANTED["chosen-0.25"][:, 0]).any()


@pytest.mark.parametrize("seed", range(HISTORIES))
def test_memories_are_chosen_as_theirs_are(seed: int) -> None:
    selector, wanted = fresh(), WANTED[f"recalled-{seed}"]
    for now, past in zip(range(1, LENGTH), history(seed), strict=True):
        row = [-1] * SLOTS
        for slot, frame in selector.recall(0, now, SLOTS):
            if frame > 0:  # the first frame is there by its cue
                row[slot - 1] = frame
        np.testing.assert_array_equal(row, wanted[now - 1], err_msg=f"frame {now}")
        selector.track(0).overlap = past.overlap
        selector.note(0, now, past.score, past.iou)


def test_what_is_left_out_is_not_asked_for_again() -> None:
    """What lets a stream drop memories: each list is within the one before and the newest frame."""
    for seed in range(HISTORIES):
        selector, before = fresh(), {0}
        for now, past in zip(range(1, LENGTH), history(seed), strict=True):
            asked = {frame for _, frame in selector.recall(0, now, SLOTS)}
            assert asked <= before | {now - 1}
            selector.track(0).overlap = past.overlap
            selector.note(0, now, past.score, past.iou)
            # Answered once more, as a correction does: nothing changes for this frame.
            assert {frame for _, frame in selector.recall(0, now, SLOTS)} == asked
            before = asked


def test_an_object_that_starts_later_is_followed_alike() -> None:
    selector = fresh()
    alone = followed(selector, 0, range(30))
    early = [selector.recall(0, now, SLOTS) for now in range(1, 30)]
    other = Samurai(Rules())
    other.restart(7, frame=50)
    for frame, offer in zip(range(50, 80), offers(), strict=False):
        other.choose(7, enlarged(offer.masks), torch.from_numpy(offer.ious))
        assert other.track(7).stable == alone[frame - 50, 1]
        other.note(7, frame, offer.score, float(alone[frame - 50, 2]))
    late = [other.recall(7, now, SLOTS) for now in range(51, 80)]
    assert [[(slot, frame - 50) for slot, frame in row] for row in late] == early


def test_objects_do_not_know_each_other() -> None:
    both = fresh()
    both.restart(1, frame=0)
    rows: dict[int, list[Array]] = {0: [], 1: []}
    for frame in range(40):
        rows[0].append(followed(both, 0, range(frame, frame + 1)))
        rows[1].append(followed(both, 1, range(frame + 40, frame + 41)))
    np.testing.assert_array_equal(np.concatenate(rows[0]), followed(fresh(), 0, range(40)))
    np.testing.assert_array_equal(np.concatenate(rows[1])[:, :2], followed(fresh(), 0, range(40, 80))[:, :2])


def test_a_cue_starts_the_filter_afresh_and_keeps_the_memories() -> None:
    selector = fresh()
    followed(selector, 0, range(30))
    good = list(selector.track(0).good)
    selector.restart(0, frame=30)
    assert (selector.track(0).motion, selector.track(0).stable) == (None, 0)
    assert selector.track(0).good == good
    assert len(good) > 10
    selector.forget(0)
    selector.restart(0, frame=0)
    np.testing.assert_array_equal(followed(selector, 0, range(60)), followed(fresh(), 0, range(60)))


def test_boxes_and_overlaps() -> None:
    masks = torch.full((3, 8, 8), -1.0)
    masks[0, 2:5, 1:8] = 1.0
    masks[2, 0, 0] = 1.0
    np.testing.assert_array_equal(boxes(masks), [[1, 2, 7, 4], [0, 0, 0, 0], [0, 0, 0, 0]])
    others = np.array([[0.0, 0, 4, 4], [2, 2, 6, 6], [0, 0, 0, 0], [9, 9, 12, 12]])
    np.testing.assert_allclose(overlaps(np.array([0.0, 0, 4, 4]), others), [1, 4 / 28, 0, 0], rtol=1e-6)


def test_an_object_that_is_never_found_gives_numbers_all_the_same() -> None:
    """Empty masks for long, then a line of one pixel's height: no division by nothing."""
    selector, empty = fresh(), torch.full((3, SIDE, SIDE), -1.0)
    line = empty.clone()
    line[:, 5, 10:40] = 1.0
    for frame in range(60):
        masks = empty if frame % 30 < 20 else line
        selector.choose(0, masks, torch.tensor([0.6, 0.5, 0.4]))
        selector.note(0, frame, 1.0, 0.6)
        motion = selector.track(0).motion
        assert motion is not None
        assert np.isfinite(motion.mean).all()
        assert np.isfinite(motion.covariance).all()


def test_a_box_without_height_still_has_some_uncertainty() -> None:
    flat = updated(predicted(Motion(np.zeros(8), np.zeros((8, 8)))), np.array([3.0, 4, 9, 10]))
    assert np.isfinite(flat.mean).all()
    assert flat.mean[0] == pytest.approx(6 * 0.5, abs=0.1)  # a prediction and a measurement, equally sure


def test_odd_rules_are_refused() -> None:
    with pytest.raises(BadRequest, match=r"alpha 1.5: .* between 0 and 1"):
        Rules(alpha=1.5)
    with pytest.raises(BadRequest, match="want 1 or more"):
        Rules(stable_frames=0)
