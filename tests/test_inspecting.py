"""Memories of patches against naive forms of the same formulas, and thresholds against their promise."""

from __future__ import annotations

import numpy as np
import pytest

from anmok.errors import BadData, BadRequest
from anmok.inspecting import (
    Foreground,
    Memory,
    coreset,
    distances,
    foreground,
    harmonic,
    limit,
    nearest,
    p_values,
    prompts,
    remember,
    strangeness,
    top_mean,
    turned,
    windows,
)
from anmok.pairing import unit


def rows(count: int, width: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)


def naive_distances(queries: np.ndarray, memory: np.ndarray) -> np.ndarray:
    return ((queries[:, None].astype(np.float64) - memory[None].astype(np.float64)) ** 2).sum(2)


@pytest.mark.parametrize("count", [1, 3, 7])
@pytest.mark.parametrize("size", [7, 300, 5000])  # fewer rows than a piece, and more
def test_the_nearest_rows_are_those_of_every_pair(count: int, size: int) -> None:
    queries, memory = rows(40, 9, 0), rows(size, 9, 1)
    every = naive_distances(queries, memory)
    found, places = nearest(queries, memory, count)
    assert places.tolist() == np.argsort(every, axis=1)[:, :count].tolist()
    np.testing.assert_allclose(found, np.sort(every, axis=1)[:, :count], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(distances(queries, memory), every, rtol=1e-4, atol=1e-4)


def test_a_patch_that_is_remembered_is_no_distance_away() -> None:
    memory = rows(500, 30, 0)
    found, places = nearest(memory[100:130], memory)
    assert found[:, 0].max() == 0
    assert places[:, 0].tolist() == list(range(100, 130))


def test_more_neighbours_than_rows_are_refused() -> None:
    with pytest.raises(BadRequest, match="8 neighbours among 7 rows"):
        nearest(rows(2, 3, 0), rows(7, 3, 1), 8)
    with pytest.raises(BadRequest, match="same number of columns"):
        distances(rows(2, 3, 0), rows(7, 4, 1))


def test_the_coreset_is_the_greedy_choice() -> None:
    memory = rows(200, 8, 3)
    first = int(np.random.default_rng(5).integers(200))
    every = naive_distances(memory, memory)
    taken = [first]
    while len(taken) < 20:
        taken.append(int(every[:, taken].min(1).argmax()))
    assert coreset(memory, 20, seed=5, projected=0).tolist() == sorted(taken)


def test_a_coreset_covers_better_than_chance_and_takes_no_row_twice() -> None:
    rng = np.random.default_rng(0)
    memory = np.concatenate([rng.normal(0, 0.1, (990, 40)), rng.normal(6, 0.1, (10, 40))]).astype(np.float32)
    taken = coreset(memory, 50, seed=0)
    assert len(set(taken.tolist())) == 50
    random = rng.permutation(990)[:50]
    covered, uncovered = (np.sqrt(naive_distances(memory, memory[kept]).min(1)).max() for kept in (taken, random))
    assert covered < 1.2
    assert uncovered > 30
    assert coreset(np.zeros((4, 3), np.float32), 4, seed=0).tolist() == [0, 1, 2, 3]


def test_anomalydino_is_one_minus_the_cosine_and_the_mean_of_the_top_percent() -> None:
    good, strange = rows(3 * 100, 12, 0).reshape(3, 10, 10, 12), rows(400, 12, 1).reshape(20, 20, 12)
    memory = remember(list(good), seed=0)
    judged = memory.judge(strange)
    naive = 1 - (unit(strange.reshape(-1, 12)) @ unit(memory.rows).T).max(1)
    np.testing.assert_allclose(judged.distances.ravel(), naive, atol=2e-4)  # rows are kept in half precision
    assert judged.score == pytest.approx(float(np.sort(judged.distances.ravel())[-4:].mean()), abs=1e-6)
    assert judged.distances.shape == (20, 20)
    assert (memory.seen, len(memory.rows)) == (300, 300)


def test_patchcore_is_its_equation() -> None:
    memory = Memory("coreset", rows(60, 7, 0), 600)
    patches = rows(5 * 6, 7, 9).reshape(5, 6, 7)
    judged = memory.judge(patches)
    every = np.sqrt(naive_distances(patches.reshape(-1, 7), memory.rows))
    worst = int(every.min(1).argmax())
    row = int(every[worst].argmin())
    around = np.argsort(naive_distances(memory.rows[row][None], memory.rows)[0])[:9]
    softmax = np.exp(every[worst, around]) / np.exp(every[worst, around]).sum()
    weight = 1 - softmax[around.tolist().index(row)]
    np.testing.assert_allclose(judged.distances.ravel(), every.min(1), rtol=1e-6)
    assert judged.score == pytest.approx(weight * every[worst].min(), rel=1e-6)


def test_patchcore_of_far_patches_stays_a_number() -> None:
    memory = Memory("coreset", rows(20, 4, 0), 20)
    judged = memory.judge(rows(6, 4, 1).reshape(2, 3, 4) * 1e4)
    assert np.isfinite(judged.score)
    assert judged.score > 1e4


def test_a_large_memory_is_thinned_and_says_from_what() -> None:
    pictures = [rows(100, 5, seed).reshape(10, 10, 5) for seed in range(4)]
    assert (len(remember(pictures, seed=0, largest=150).rows), remember(pictures, seed=0, largest=150).seen) == (
        150,
        400,
    )
    assert len(remember(pictures, "coreset", seed=0).rows) == 40
    with pytest.raises(BadData, match="at least one good picture"):
        remember([], seed=0)
    with pytest.raises(BadRequest, match="coreset share 2"):
        remember(pictures, "coreset", seed=0, share=2)


def test_a_strange_patch_is_found_where_it_is() -> None:
    rng = np.random.default_rng(0)
    good = [rng.normal(1, 0.05, (8, 8, 6)).astype(np.float32) for _ in range(5)]
    strange = rng.normal(1, 0.05, (8, 8, 6)).astype(np.float32)
    strange[2, 5, :3] *= -1
    for method in ("nearest", "coreset"):
        judged = remember(good, method, seed=0).judge(strange)  # type: ignore[arg-type]
        assert np.unravel_index(judged.distances.argmax(), (8, 8)) == (2, 5)
        assert judged.score > 10 * remember(good, method, seed=0).judge(good[0]).score  # type: ignore[arg-type]


def scene(rng: np.random.Generator, is_flawed: bool = False) -> np.ndarray:
    patches = rng.normal(0, 0.1, (12, 12, 5)).astype(np.float32)
    patches[3:9, 3:9, 0] += 5
    if is_flawed:
        patches[0, 0, 1] += 9  # on the ground
    return patches


def test_the_ground_is_told_from_the_thing_and_not_judged() -> None:
    rng = np.random.default_rng(0)
    good = [scene(rng) for _ in range(4)]
    ground = foreground(good)
    assert ground is not None
    mask = ground.mask(scene(rng))
    assert mask[2:10, 2:10].all()  # one patch wider than the thing
    assert mask.sum() == 64
    flawed = scene(rng, is_flawed=True)
    assert remember(good, seed=0).judge(flawed).distances[0, 0] > 0.05
    assert remember(good, seed=0, ground=ground).judge(flawed).distances[0, 0] == 0


def test_a_texture_has_no_ground() -> None:
    rng = np.random.default_rng(0)
    assert foreground([rng.normal(size=(10, 10, 4)).astype(np.float32) for _ in range(3)]) is None
    nothing = Foreground(np.zeros(2, np.float32), np.asarray([1, 0], np.float32), 5.0)
    assert nothing.mask(np.zeros((3, 3, 2), np.float32)).all()


def test_the_top_mean_takes_one_value_at_least() -> None:
    assert top_mean(np.arange(50.0)) == 49
    assert top_mean(np.arange(300.0)) == 298
    assert top_mean(np.arange(10.0), 0.5) == 7


def test_the_limit_keeps_its_promise_on_average() -> None:
    rng = np.random.default_rng(0)
    for n, overkill in ((19, 0.05), (60, 0.1), (39, 0.05)):
        called = []
        for _ in range(4000):
            scores = rng.normal(size=n + 1)
            called.append(scores[-1] > limit(scores[:-1], overkill).threshold)
        assert float(np.mean(called)) <= overkill + 0.012
        assert float(np.mean(called)) >= overkill - 1 / (n + 1) - 0.012


def test_few_good_pictures_promise_no_less_than_one_in_n_plus_one() -> None:
    four = limit([0.4, 0.1, 0.3, 0.2], 0.05)
    assert (four.threshold, four.smallest, four.is_reachable, four.normals) == (0.4, 0.2, False, 4)
    assert limit(np.arange(19.0), 0.05).is_reachable
    assert limit(np.arange(19.0), 0.05).threshold == 18
    assert limit(np.arange(99.0), 0.05).threshold == 94
    with pytest.raises(BadData, match="at least one"):
        limit([], 0.05)
    with pytest.raises(BadRequest, match="overkill 1"):
        limit([1.0], 1)


def test_p_values_count_good_pictures_that_are_as_strange() -> None:
    assert p_values([0.0, 2.0, 2.5, 9.0], [1.0, 2.0, 3.0]).tolist() == [1.0, 0.75, 0.5, 0.25]


def test_pictures_are_turned_without_black_corners() -> None:
    image = np.full((40, 60, 3), 90, np.uint8)
    for angle in range(0, 360, 45):
        assert turned(image, angle).shape == (40, 60, 3)
        assert turned(image, angle).min() >= 89
    square = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    assert (turned(turned(square, 90), 270) == square).all()
    assert (turned(square, 90) == np.rot90(square)).all()
    assert (turned(square, 180) == square[::-1, ::-1]).all()


def test_words_say_good_and_bad_of_the_thing() -> None:
    good, bad = prompts("bottle")
    assert len(good) == len(set(good)) == len(bad) == 28
    assert all("bottle" in sentence for sentence in (*good, *bad))
    with pytest.raises(BadRequest, match="needs a name"):
        prompts(" ")


def test_strangeness_is_a_chance_that_follows_the_texts() -> None:
    texts = np.asarray([[1.0, 0.0], [0.0, 1.0]], np.float32)
    chances = strangeness(np.asarray([[1, 0], [0, 1], [0.70710678, 0.70710678]], np.float32), texts)
    np.testing.assert_allclose(chances, [0.0, 1.0, 0.5], atol=1e-6)


def test_windows_and_their_harmonic_mean() -> None:
    cells = np.arange(12, dtype=np.float32).reshape(3, 4, 1)
    views = windows(cells, 2)
    assert views[:, :, 0].tolist() == [[2.5, 3.5, 4.5], [6.5, 7.5, 8.5]]
    spread = harmonic(np.asarray([[1.0, 0.5], [1.0, 1.0]]), (3, 3), 2)
    assert spread[0, 0] == 1
    assert spread[0, 2] == 0.5
    assert spread[0, 1] == pytest.approx(2 / 3)
    assert spread[1, 1] == pytest.approx(0.8)
