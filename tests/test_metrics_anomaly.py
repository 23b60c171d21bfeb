"""Image and pixel measures against brute force: every pair, every threshold."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.ndimage import label

from anmok.errors import BadRequest
from anmok.metrics import aupro, auroc, average_precision, pixel_scores


def every_pair(scores: np.ndarray, strange: np.ndarray) -> float:
    bad, good = scores[strange][:, None], scores[~strange][None]
    return float(((bad > good) + 0.5 * (bad == good)).mean())


def every_threshold(maps: list[np.ndarray], truths: list[np.ndarray], limit: float) -> float:
    """AUPRO as its definition reads: at each distinct score all regions and all good pixels are counted anew."""
    regions = []
    for found, truth in zip(maps, truths, strict=True):
        numbers, count = label(truth, np.ones((3, 3)))
        regions += [found[numbers == k] for k in range(1, count + 1)]
    good = np.concatenate([found[~truth] for found, truth in zip(maps, truths, strict=True)])
    cuts = np.unique(np.concatenate([found.ravel() for found in maps]))[::-1]
    x = np.asarray([0.0, *((good >= cut).mean() for cut in cuts)])
    y = np.asarray([0.0, *(np.mean([(region >= cut).mean() for region in regions]) for cut in cuts)])
    dense = np.unique(np.concatenate([x[x <= limit], [limit]]))
    area = 0.0
    for left, right in itertools.pairwise(dense):
        start = y[np.flatnonzero(x == left)[-1]]
        behind = np.flatnonzero(x > left)[0]
        share = (right - left) / (x[behind] - left)
        end = start + share * (y[behind] - start)
        area += (right - left) * (start + end) / 2
    return area / limit


@pytest.mark.parametrize("levels", [3, 20, 10**6])  # many ties, some, none
def test_auroc_counts_every_pair(levels: int) -> None:
    rng = np.random.default_rng(levels)
    strange = np.arange(200) < 60
    scores = rng.integers(0, levels, 200) / levels + 0.2 * strange * rng.random(200).round(1)
    assert auroc(scores, strange) == pytest.approx(every_pair(scores, strange), abs=1e-12)
    from sklearn.metrics import average_precision_score, roc_auc_score

    assert auroc(scores, strange) == pytest.approx(roc_auc_score(strange, scores), abs=1e-12)
    assert average_precision(scores, strange) == pytest.approx(average_precision_score(strange, scores), abs=1e-12)


def test_auroc_at_its_ends() -> None:
    strange = np.asarray([False, False, True, True])
    assert auroc([0, 1, 2, 3], strange) == 1
    assert auroc([3, 2, 1, 0], strange) == 0
    assert auroc([1, 1, 1, 1], strange) == 0.5
    with pytest.raises(BadRequest, match="0 of 2 are strange"):
        auroc([1, 2], [False, False])
    with pytest.raises(BadRequest, match="finite"):
        auroc([1, np.nan], [False, True])


@pytest.mark.parametrize("limit", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("levels", [4, 10**6])
def test_aupro_counts_every_threshold(limit: float, levels: int) -> None:
    rng = np.random.default_rng(levels)
    truths = [np.zeros((12, 15), np.bool_) for _ in range(4)]
    truths[0][2:5, 2:9] = True
    truths[0][8, 8] = True
    truths[1][0:2, 0:2] = True
    truths[1][2, 2] = True  # touches by its corner: one region
    maps = [np.floor(levels * (rng.random((12, 15)) + 0.6 * truth)) / levels for truth in truths]
    assert aupro(maps, truths, limit) == pytest.approx(every_threshold(maps, truths, limit), abs=1e-12)
    found = pixel_scores(maps, truths, limit)
    assert found.regions == 3
    assert found.aupro == aupro(maps, truths, limit)
    scores, strange = np.concatenate([one.ravel() for one in maps]), np.concatenate([one.ravel() for one in truths])
    assert found.auroc == pytest.approx(auroc(scores, strange), abs=1e-12)
    assert found.ap == pytest.approx(average_precision(scores, strange), abs=1e-12)


def test_aupro_at_its_ends_and_small_regions_count_as_large_ones() -> None:
    truth = np.zeros((10, 10), np.bool_)
    truth[0:4, 0:5] = True
    truth[9, 9] = True
    assert aupro([truth * 1.0], [truth]) == pytest.approx(1.0)
    large = truth.copy()
    large[9, 9] = False
    # The small region shares its score with all good pixels: at 30 % of these, 30 % of it is found.
    assert aupro([large * 1.0], [truth]) == pytest.approx(0.5 + 0.5 * 0.15)
    assert aupro([1.0 - truth], [truth]) == pytest.approx(0.0)


def test_pictures_without_a_flaw_or_of_another_size_are_told() -> None:
    clean = np.zeros((4, 4), np.bool_)
    found = pixel_scores([np.ones((4, 4))], [clean])
    assert (found.auroc, found.ap, found.aupro, found.regions) == (None, None, None, 0)
    with pytest.raises(BadRequest, match="0 strange regions"):
        aupro([np.ones((4, 4))], [clean])
    with pytest.raises(BadRequest, match="want two of one size"):
        pixel_scores([np.ones((4, 5))], [clean])
    with pytest.raises(BadRequest, match="limit 0"):
        aupro([np.ones((4, 4))], [clean], 0)
