"""Tip-Adapter, CLIP-Adapter and CLAP against their formulas, on features without pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import check_grad, minimize

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


def known(seed: int = 0) -> tuple[Support, Head]:
    """Names that are always right, and features beside them that are noise: images can only do harm."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(CLASSES), 12)
    features = rng.normal(0, 6.0, (len(labels), WIDTH)).astype(np.float32)
    features[:, :CLASSES] = 4.0 * np.eye(CLASSES)[labels] + rng.normal(0, 0.8, (len(labels), CLASSES))
    names_alone = np.eye(CLASSES, dtype=np.float32)
    zero_shot = Head(
        names_alone,
        np.zeros(CLASSES, np.float32),
        projection=np.eye(WIDTH, CLASSES, dtype=np.float32),
        is_normalised=True,
    )
    return Support(features, labels, np.arange(len(labels)), CLASSES), zero_shot


def in_folds(support: Support, zero_shot: Head, chosen: tip.Chosen) -> int:
    """Hits in the folds inside the support, worked out the long way."""
    total = 0
    for train, held in support.inner_folds(0):
        made = tip.answerer(support.part(train), zero_shot, chosen, 0)
        total += int((made.logits(support.features[held]).argmax(1) == support.labels[held]).sum())
    return total


@pytest.mark.parametrize("choose", [tip.choose, tip.choose_learned])
def test_where_images_do_harm_the_names_answer_alone(choose: Callable[..., tip.Chosen]) -> None:
    support, zero_shot = known()
    shouting = tip.Setting(30.0, 1.0, is_projected=False)
    chosen = choose(support, zero_shot, 0, shouting)
    assert in_folds(support, zero_shot, tip.Chosen(shouting, 1)) < 30
    assert in_folds(support, zero_shot, tip.Chosen(tip.SILENT, 1)) == 36
    assert in_folds(support, zero_shot, chosen) == 36


def test_silence_ships_the_names_and_says_so() -> None:
    support, zero_shot = known()
    silent = tip.Chosen(tip.SILENT, 25)
    assert tip.answerer(support, zero_shot, silent, 0) is zero_shot
    assert str(silent) == "alpha = 0: in the folds the images brought nothing"


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("choose", [tip.choose, tip.choose_learned])
def test_no_choice_is_below_the_names_or_the_usual_in_the_folds(choose: Callable[..., tip.Chosen], seed: int) -> None:
    support, zero_shot = blobs(8, seed), names(seed)
    found = in_folds(support, zero_shot, choose(support, zero_shot, 0))
    assert found >= in_folds(support, zero_shot, tip.Chosen(tip.SILENT, 1))
    assert found >= in_folds(support, zero_shot, tip.Chosen(tip.MEASURED, 1))


def test_learned_keys_are_never_chosen_below_keys_that_stay() -> None:
    support, zero_shot = blobs(8, 3), names(3)
    still, learned = tip.choose(support, zero_shot, 0), tip.choose_learned(support, zero_shot, 0)
    assert in_folds(support, zero_shot, learned) >= in_folds(support, zero_shot, still)
    assert learned.compared > still.compared


def uneven(seed: int) -> Support:
    """Two classes that lie over one another, nine images of one for each of the other."""
    rng = np.random.default_rng(seed)
    labels = np.repeat([0, 1], [900, 100])
    features = rng.normal(0, 1.0, (1000, WIDTH)).astype(np.float32)
    features[:, 0] += 0.5 * labels
    return Support(features, labels, np.arange(1000), 2)


def test_keys_learn_how_common_the_classes_are() -> None:
    """More images than keys: learned from as many of each class, they would call half of all the rare one."""
    support, fresh = uneven(0), uneven(1)
    silent = Head(np.zeros((2, WIDTH), np.float32), np.zeros(2, np.float32), is_normalised=True)
    learned = tip.with_learned_keys(support, silent, tip.MEASURED, 0)
    assert len(learned.keys) == 2 * tip.MOST
    assert share_right(learned, fresh) > 0.8
    alike = tip.with_learned_keys(support.thinned(tip.MOST, 0), silent, tip.MEASURED, 0)
    assert share_right(alike, fresh) < 0.7


def test_learning_in_the_span_of_few_images_is_the_same() -> None:
    support, zero_shot = blobs(2), names()  # six images and six keys of width 20
    narrow = tip.with_learned_keys(support, zero_shot, tip.MEASURED, 0)
    start = tip.cached(support, zero_shot, tip.MEASURED, 0)
    rows = support.features / np.linalg.norm(support.features, axis=1, keepdims=True)
    problem = tip.Problem(start, rows, zero_shot.logits(support.features), support.labels, 0.01 / 2)
    found = minimize(problem, problem.start, jac=True, method="L-BFGS-B", options={"maxiter": 40, "ftol": 1e-9})
    np.testing.assert_allclose(narrow.keys.ravel(), found.x, atol=2e-3)
    assert np.abs(narrow.keys - start.keys).max() > 0.05
