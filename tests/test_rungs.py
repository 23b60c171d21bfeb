"""The rungs against closed forms and scikit-learn, on features without pictures."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import check_grad
from sklearn.linear_model import LogisticRegression

from anmok.ladder.rungs import closed_form, linear
from anmok.ladder.rungs.fitting import Material, Towers, fit, predict
from anmok.ladder.rungs.prolip import _Problem, prolip

Array = NDArray[np.float32]


def blobs(n: int, width: int, classes: int, apart: float, seed: int = 0) -> tuple[Array, NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    centres = rng.normal(0, apart, (classes, width))
    labels = np.arange(n) % classes
    return (centres[labels] + rng.normal(0, 1, (n, width))).astype(np.float32), labels


@pytest.mark.parametrize(("n", "width"), [(40, 200), (300, 20)])
@pytest.mark.parametrize("strength", [1e-3, 1e-1])
def test_logistic_equals_scikit_learn(n: int, width: int, strength: float) -> None:
    features, labels = blobs(n, width, 4, 0.5)
    head = linear.logistic(linear.standardise(features), labels, 4, strength)
    rows = (features - features.mean(0)) / features.std(0)
    theirs = LogisticRegression(C=strength, max_iter=5000, tol=1e-10).fit(rows.astype(np.float64), labels)
    np.testing.assert_allclose(head.weight, theirs.coef_, atol=2e-3 * np.abs(theirs.coef_).max())
    # The intercepts of a softmax are known up to a constant.
    np.testing.assert_allclose(head.bias - head.bias.mean(), theirs.intercept_ - theirs.intercept_.mean(), atol=2e-3)


def test_a_class_without_images_never_wins() -> None:
    features, labels = blobs(60, 10, 3, 2.0)
    keep = labels != 1
    head = linear.logistic(linear.standardise(features[keep]), labels[keep], 3, 0.1)
    assert 1 not in predict(head, features)


def test_gda_equals_its_formula() -> None:
    features, labels = blobs(50, 8, 3, 1.0)
    rows = features / np.linalg.norm(features, axis=1, keepdims=True)
    means = np.stack([rows[labels == k].mean(0) for k in range(3)])
    centred = rows - means[labels]
    n, width = rows.shape
    covariance = centred.T @ centred / (n - 1)
    precision = width * np.linalg.inv((n - 1) * covariance + np.trace(covariance) * np.eye(width))
    head = closed_form.gda(features, labels, 3)
    np.testing.assert_allclose(head.weight, means @ precision, rtol=1e-3)
    np.testing.assert_allclose(head.bias, -0.5 * np.einsum("kf,fg,kg->k", means, precision, means), rtol=1e-3)


def test_gda_is_the_same_in_the_span_and_in_the_whole_space() -> None:
    features, labels = blobs(30, 29, 3, 1.0)
    wide = np.concatenate([features, np.zeros((30, 20), np.float32)], 1)  # more features than images: Woodbury
    narrow = closed_form.gda(features, labels, 3).logits(features)
    np.testing.assert_allclose(closed_form.gda(wide, labels, 3).logits(wide) * 29 / 49, narrow, rtol=1e-3)


def test_prototype_is_the_nearest_mean_by_cosine() -> None:
    features, labels = blobs(30, 5, 3, 3.0)
    rows = features / np.linalg.norm(features, axis=1, keepdims=True)
    means = np.stack([rows[labels == k].mean(0) for k in range(3)])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    np.testing.assert_array_equal(
        predict(closed_form.prototype(features, labels, 3), features), (rows @ means.T).argmax(1)
    )


def towers(width: int, classes: int, seed: int = 1) -> Towers:
    rng = np.random.default_rng(seed)
    texts = rng.normal(size=(classes, 6)).astype(np.float32)
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    return Towers(texts, rng.normal(0, 0.3, (width, 6)).astype(np.float32), 10.0, 0.0)


def test_prolip_has_the_right_gradient() -> None:
    rng = np.random.default_rng(0)
    rows, start = rng.normal(size=(7, 4)), rng.normal(size=(7, 6))
    problem = _Problem(rows, start, rng.normal(size=(3, 6)), np.arange(7) % 3, 0.25)
    point = rng.normal(size=problem.size)
    assert problem.size == 4 * 2  # three texts differ in two directions
    assert check_grad(lambda x: problem(x)[0], lambda x: problem(x)[1], point) < 1e-5


def test_prolip_moves_little_under_a_strong_penalty_and_learns_under_a_weak_one() -> None:
    features, labels = blobs(60, 20, 3, 1.0)
    side = towers(20, 3)
    args = (features, labels, side.texts, side.projection, side.temperature)
    stiff, free = prolip(*args, shots=1e-9), prolip(*args, shots=1e3)
    assert stiff.projection is not None
    np.testing.assert_allclose(stiff.projection, side.projection, atol=1e-4)
    assert (predict(free, features) == labels).mean() > 0.95


def test_prolip_leaves_the_map_alone_where_all_labels_read_alike() -> None:
    features, labels = blobs(30, 20, 3, 1.0)
    side = towers(20, 3)
    alike = np.repeat(side.texts[:1], 3, 0)
    np.testing.assert_array_equal(prolip(features, labels, alike, side.projection, 1.0, 10).projection, side.projection)


def test_prolip_reaches_a_minimum_that_noise_does_not_move() -> None:
    """Features of another machine differ in the last digits; the head must not."""
    features, labels = blobs(60, 20, 3, 1.0)
    side = towers(20, 3)
    other = features * (1 + 1e-6 * np.random.default_rng(3).normal(size=features.shape)).astype(np.float32)
    one, two = (prolip(rows, labels, side.texts, side.projection, 10.0, 16) for rows in (features, other))
    assert one.projection is not None
    assert two.projection is not None
    assert np.abs(one.projection - side.projection).max() > 0.05
    np.testing.assert_allclose(one.projection, two.projection, atol=1e-3)


def test_cross_modal_head_uses_names_when_images_are_few() -> None:
    rng = np.random.default_rng(2)
    texts = np.eye(6, dtype=np.float32)[:4]
    labels = np.arange(400) % 4
    features = (texts[labels] + rng.normal(0, 0.35, (400, 6)) + 0.5).astype(np.float32)
    one_each = np.arange(4)
    head = linear.cross_modal(features[one_each], labels[one_each], texts, np.eye(6, dtype=np.float32))
    alone = linear.logistic(linear.standardise(features[one_each]), labels[one_each], 4, linear.FIXED_STRENGTH)
    assert (predict(head, features) == labels).mean() > (predict(alone, features) == labels).mean() + 0.03


@pytest.mark.parametrize("rung", ["1", "2", "3"])
def test_choices_see_the_support_alone(rung: str) -> None:
    """Changing everything outside the support set changes nothing."""
    features, labels = blobs(120, 12, 3, 1.0)
    support = np.arange(48)
    first = Material(features, labels, np.arange(120), 3, towers(12, 3))
    spoilt = features.copy()
    spoilt[48:] = 1e3
    second = Material(spoilt, labels, np.arange(120), 3, towers(12, 3))
    one, two = fit(rung, first, support), fit(rung, second, support)
    assert one.variant == two.variant
    np.testing.assert_array_equal(one.head.weight, two.head.weight)


def test_shuffled_labels_land_at_chance() -> None:
    features, labels = blobs(900, 12, 3, 1.0)
    material = Material(features[:600], labels[:600], np.arange(600), 3, None).shuffled()
    head = fit("2", material, np.arange(600)).head
    assert (predict(head, features[600:]) == labels[600:]).mean() == pytest.approx(1 / 3, abs=0.15)
