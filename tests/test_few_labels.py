"""Tip-Adapter, CLIP-Adapter and CLAP against their formulas, on features without pictures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import check_grad

from anmok.ladder.rungs import clap, clip_adapter, tip
from anmok.ladder.rungs.support import FEW, Support
from anmok.load import Answerer, Head

Array = NDArray[np.float32]
WIDTH, CLASSES = 20, 3


def blobs(shots: int, seed: int = 0, *, is_viewed: bool = False) -> Support:
    """Classes around fixed centres; the images of a seed are others than those of the next."""
    centres = np.random.default_rng(9).normal(0, 1, (CLASSES, WIDTH))
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(CLASSES), shots)
    features = (centres[labels] + rng.normal(0, 1.2, (len(labels), WIDTH))).astype(np.float32)
    flipped = features + rng.normal(0, 0.1, features.shape).astype(np.float32) if is_viewed else None
    return Support(features, labels, np.arange(len(labels)), CLASSES, flipped)


def names(seed: int = 1) -> Head:
    """A text side that knows little."""
    rng = np.random.default_rng(seed)
    texts = rng.normal(size=(CLASSES, 6)).astype(np.float32)
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    projection = rng.normal(0, 0.3, (WIDTH, 6)).astype(np.float32)
    return Head(texts * 10.0, np.zeros(CLASSES, np.float32), projection=projection, is_normalised=True)


def share_right(answerer: Answerer, support: Support) -> float:
    return float((answerer.logits(support.features).argmax(1) == support.labels).mean())


def test_one_vote_each_where_classes_are_equal_and_equal_classes_otherwise() -> None:
    even, setting = blobs(4), tip.PUBLISHED
    np.testing.assert_array_equal(tip.cached(even, names(), setting, 0).values, np.eye(CLASSES)[even.labels])
    uneven = even.part(np.array([0, 1, 2, 3, 4, 8, 9]))  # 4, 1 and 2 images
    values = tip.cached(uneven, names(), setting, 0).values
    np.testing.assert_allclose(values.sum(0), [7 / 3] * 3, rtol=1e-6)
    np.testing.assert_allclose(values[:4, 0], 7 / 12, rtol=1e-6)


def test_a_common_class_is_not_louder() -> None:
    """The same picture ten times in one class, once in the other: at an equal distance both say the same."""
    rows = np.zeros((11, WIDTH), np.float32)
    rows[:10, 0], rows[10, 1] = 1.0, 1.0
    support = Support(rows, np.array([0] * 10 + [1]), np.arange(11), 2)
    silent = Head(np.zeros((2, WIDTH), np.float32), np.zeros(2, np.float32), is_normalised=True)
    between = np.zeros((1, WIDTH), np.float32)
    between[0, :2] = 1.0
    logits = tip.cached(support, silent, tip.MEASURED, 0).logits(between)[0]
    assert abs(logits[0] - logits[1]) < 1e-5
    assert logits[0] > 1.0


@pytest.mark.parametrize("shots", [1, FEW - 1])
def test_nothing_is_chosen_from_too_few(shots: int) -> None:
    assert tip.choose(blobs(shots), names(), 0) == tip.Chosen(tip.MEASURED, 1)
    assert tip.choose(blobs(shots), names(), 0, tip.PUBLISHED).setting == tip.PUBLISHED


def test_nothing_is_chosen_from_too_few_groups() -> None:
    """Thirty pictures, but of five objects: folds would show the same object on both sides."""
    support = blobs(10)
    assert tip.choose(replace(support, groups=np.arange(30) % 5), names(), 0).compared == 1
    assert tip.choose(support, names(), 0).compared == len(tip.GRID)


def test_what_is_chosen_is_right_most_often_in_the_folds() -> None:
    support, zero_shot = blobs(12), names()
    chosen = tip.choose(support, zero_shot, 0)

    def hits(setting: tip.Setting) -> int:
        total = 0
        for train, held in support.inner_folds(0):
            cache = tip.cached(support.part(train), zero_shot, setting, 0)
            total += (cache.logits(support.features[held]).argmax(1) == support.labels[held]).sum()
        return total

    found = {setting: hits(setting) for setting in tip.GRID}
    assert found[chosen.setting] == max(found.values())
    assert len(set(found.values())) > 3  # there was something to choose


def test_random_labels_choose_nothing_that_helps() -> None:
    """Chosen and fitted on noise, the cache is at chance on fresh images: nothing leaks into the choice."""
    right = []
    for seed in range(20):
        support = blobs(12, seed)
        noise = np.random.default_rng(seed).permutation(support.labels)
        mixed = replace(support, labels=noise)
        silent = replace(names(), weight=np.zeros_like(names().weight))
        cache = tip.cached(mixed, silent, tip.choose(mixed, silent, seed).setting, seed)
        right.append(share_right(cache, blobs(40, 100 + seed)))
    assert abs(np.mean(right) - 1 / 3) < 0.08


def test_the_cache_beats_names_that_know_little_and_learned_keys_beat_the_cache() -> None:
    support, fresh, zero_shot = blobs(8, is_viewed=True), blobs(200, 7), names()
    cache = tip.cached(support, zero_shot, tip.MEASURED, 0)
    learned = tip.with_learned_keys(support, zero_shot, tip.MEASURED, 0)
    assert share_right(zero_shot, fresh) < 0.5
    assert share_right(cache, fresh) > 0.75
    assert share_right(learned, fresh) > share_right(cache, fresh) - 0.01
    assert share_right(learned, support) > 0.95
    assert learned.keys.shape == cache.keys.shape


@pytest.mark.parametrize("setting", [tip.MEASURED, tip.PUBLISHED])
def test_learned_keys_have_the_right_gradient(setting: tip.Setting) -> None:
    support, zero_shot = blobs(3), names()
    start = tip.cached(support, zero_shot, setting, 0)
    rows = zero_shot.rows(support.features) if setting.is_projected else support.features / 5
    problem = tip.Problem(start, rows, zero_shot.logits(support.features), support.labels, 0.3)
    point = problem.start + np.random.default_rng(0).normal(0, 0.1, problem.start.shape)
    assert check_grad(lambda x: problem(x)[0], lambda x: problem(x)[1], point) < 1e-5


def test_a_large_class_gives_no_more_keys_than_may_travel() -> None:
    support = blobs(tip.MOST + 10)
    cache = tip.cached(support, names(), tip.MEASURED, 0)
    assert len(cache.keys) == CLASSES * tip.MOST
    np.testing.assert_array_equal(cache.keys, tip.cached(support, names(), tip.MEASURED, 0).keys)
    assert not np.array_equal(cache.keys, tip.cached(support, names(), tip.MEASURED, 1).keys)


def test_the_bottleneck_has_the_right_gradient() -> None:
    support, zero_shot = blobs(4), names()
    rng = np.random.default_rng(0)
    start = rng.normal(0, 1, (6, 2)), rng.normal(0, 1, (2, 6))
    problem = clip_adapter.Problem(zero_shot.rows(support.features).astype(float), support.labels, zero_shot, start)
    assert check_grad(lambda x: problem(x)[0], lambda x: problem(x)[1], problem.start) < 1e-5


def test_the_bottleneck_learns_and_keeps_to_its_seed() -> None:
    support, zero_shot = blobs(10, is_viewed=True), names()
    one, same, other = (clip_adapter.bottleneck(support, zero_shot, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.down, same.down)
    assert not np.array_equal(one.down, other.down)
    assert one.down.shape == (6, 1)
    wide = replace(zero_shot, weight=np.eye(CLASSES, WIDTH, dtype=np.float32) * 10, projection=None)
    assert share_right(clip_adapter.bottleneck(support, wide, 0), support) > share_right(wide, support) + 0.2


def test_clap_has_the_right_gradient_and_holds_by_what_names_know() -> None:
    support, zero_shot = blobs(4), names()
    problem = clap.Problem(zero_shot.rows(support.features), support.labels, zero_shot)
    point = problem.start + np.random.default_rng(0).normal(0, 0.2, problem.start.shape)
    assert check_grad(lambda x: problem(x)[0], lambda x: problem(x)[1], point) < 1e-5
    logits = zero_shot.logits(support.features).astype(float)
    chances = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    own = [chances[support.labels == k, k].mean() for k in range(CLASSES)]
    np.testing.assert_allclose(problem.holds, own, rtol=1e-4)


def test_clap_leaves_a_class_without_images_at_its_name_and_fits_the_others() -> None:
    support, zero_shot = blobs(10), names()
    some = support.part(np.flatnonzero(support.labels != 2))
    head = clap.clap(some, zero_shot)
    # Its images are gone, but it still pushes back as the wrong answer: it turns a little, the others turn more.
    turned = 1 - (head.weight * zero_shot.weight).sum(1) / 100
    assert turned[2] < min(turned[0], turned[1])
    np.testing.assert_allclose(np.linalg.norm(head.weight, axis=1), 10.0, rtol=1e-5)
    assert share_right(clap.clap(support, zero_shot), support) > share_right(zero_shot, support) + 0.2
