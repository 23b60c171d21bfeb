"""Locked-image tuning on pairs whose map is known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from anmok.errors import BadData, BadRequest
from anmok.train.locked import Locked, Locking, locked, ridge
from anmok.train.recipe import Recipe

Array = NDArray[np.float32]
RECIPE = Recipe(steps=150, rate=2e-3, batch=256, precision="float32")


def unit(rows: NDArray[np.floating]) -> Array:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def pairs(count: int, noise: float, seed: int = 0, *, is_bent: bool = False) -> tuple[Array, Array, Array]:
    """Pictures (N, 24), their texts (N, 16), and where the true map takes the texts. ``is_bent``: no linear map."""
    true = np.random.default_rng(99).normal(size=(16, 24)) / 4
    rng = np.random.default_rng(seed)
    texts = rng.normal(size=(count, 16))
    bent = np.abs(texts) if is_bent else texts
    clean = bent @ true
    return unit(clean + noise * rng.normal(size=clean.shape)), unit(texts), unit(clean)


def hits(model: Locked, images: Array, texts: Array) -> float:
    """How often a picture's own text is the nearest."""
    return float((model.logits(images, texts).argmax(1) == np.arange(len(images))).mean())


def test_ridge_without_noise_is_the_map() -> None:
    rng = np.random.default_rng(0)
    texts, true = rng.normal(size=(200, 5)), rng.normal(size=(5, 3))
    weight, bias = ridge(texts, texts @ true + 2.0, 1e-9)
    assert np.abs(weight - true).max() < 1e-5
    assert np.abs(bias - 2.0).max() < 1e-5


def test_a_known_map_is_found_and_holds_for_new_pairs() -> None:
    images, texts, _ = pairs(600, noise=0.3)
    model = locked(images, texts, Locking(RECIPE))
    new_images, new_texts, clean = pairs(200, noise=0.3, seed=1)
    assert hits(model, new_images, new_texts) > 0.9  # chance is 0.005
    assert float((model.vectors(new_texts) * clean).sum(1).mean()) > 0.93
    assert np.allclose(np.linalg.norm(model.vectors(new_texts), axis=1), 1, atol=1e-5)
    assert model.curve.losses[-1] < 0.7 * model.curve.losses[0]


def test_shuffled_pairs_teach_nothing() -> None:
    images, texts, _ = pairs(600, noise=0.3)
    model = locked(images[np.random.default_rng(5).permutation(600)], texts, Locking(RECIPE))
    new_images, new_texts, _ = pairs(200, noise=0.3, seed=1)
    assert hits(model, new_images, new_texts) < 0.05


def test_a_second_layer_learns_what_a_line_cannot() -> None:
    images, texts, _ = pairs(1500, noise=0.05, is_bent=True)
    new_images, new_texts, _ = pairs(100, noise=0.05, seed=1, is_bent=True)
    recipe = Recipe(steps=300, rate=1e-2, batch=256, precision="float32")
    straight, bent = (locked(images, texts, Locking(recipe, hidden=hidden)) for hidden in (0, 128))
    assert hits(straight, new_images, new_texts) < 0.2
    assert hits(bent, new_images, new_texts) > 0.5


def test_the_scale_and_the_bias_make_chances() -> None:
    images, texts, _ = pairs(600, noise=0.3)
    model = locked(images, texts, Locking(RECIPE))
    logits = model.logits(images[:50], texts[:50])
    is_pair = np.eye(50, dtype=bool)
    assert logits[is_pair].mean() > logits[~is_pair].mean() + 5
    cosines = unit(images[:50]) @ model.vectors(texts[:50]).T
    assert np.allclose(logits, cosines * model.scale + model.offset, atol=1e-4)


def test_the_same_seed_gives_the_same_map_bit_for_bit() -> None:
    images, texts, _ = pairs(80, noise=0.3)
    recipes = [Recipe(5, 1e-3, 32, seed=seed, precision="float32") for seed in (0, 0, 1)]
    models = [locked(images, texts, Locking(recipe, hidden=8)) for recipe in recipes]
    assert np.array_equal(models[0].weight, models[1].weight)
    assert np.array_equal(models[0].inner, models[1].inner)
    assert not np.array_equal(models[0].weight, models[2].weight)


def test_lengths_of_rows_do_not_matter() -> None:
    images, texts, _ = pairs(80, noise=0.3)
    locking = Locking(Recipe(5, 1e-3, 32, precision="float32"))
    plain, long = locked(images, texts, locking), locked(3 * images, 7.0 * texts, locking)
    assert np.abs(plain.weight - long.weight).max() < 1e-4


def test_equal_texts_are_no_negatives_of_each_other() -> None:
    # 20 captions for 400 pictures: were they negatives, a pair's own logit would be pushed down 19 times
    texts = np.repeat(pairs(20, 0.0)[1], 20, axis=0)
    images, _, _ = pairs(20, 0.0)
    images = unit(np.repeat(images, 20, axis=0) + 0.05 * np.random.default_rng(0).normal(size=(400, 24)))
    knowing = locked(images, texts, Locking(RECIPE))
    denying = locked(images, texts, Locking(RECIPE), groups=np.arange(400))
    own = [float(np.diag(model.logits(images, texts)).mean()) for model in (knowing, denying)]
    assert own[0] > 0 > own[1]


@pytest.mark.parametrize(
    ("images", "texts", "said"),
    [
        (np.ones((3, 4)), np.ones((2, 4)), "pairs are needed"),
        (np.ones((1, 4)), np.ones((1, 4)), "two at least"),
        (np.ones((2, 4)), np.array([[1.0, 2], [0, 0]]), "texts: row 1 is zero"),
        (np.array([[1.0, np.nan], [1, 1]]), np.ones((2, 4)), "images: row 0 is zero or not a number"),
        (np.ones(4), np.ones((2, 4)), "rows \\(N, D\\) are needed"),
    ],
)
def test_rows_that_cannot_teach_are_refused(images: Array, texts: Array, said: str) -> None:
    with pytest.raises(BadData, match=said):
        locked(images, texts)


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(BadRequest, match="positive ridge"):
        Locking(ridge=0)
    with pytest.raises(BadRequest, match="groups"):
        locked(*pairs(4, 0.1)[:2], groups=np.arange(3))
