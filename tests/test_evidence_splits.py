from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anmok.errors import BadData, BadRequest
from anmok.evidence.draws import short_classes, support_draws
from anmok.evidence.groups import straddling
from anmok.evidence.splits import Split, folds, seal


def _side(split: Split) -> np.ndarray:
    """(n,) whether an image is in the test set."""
    side = np.zeros(split.test.size + split.pool.size, dtype=bool)
    side[split.test] = True
    return side


def test_single_images_hit_the_share_exactly() -> None:
    labels = np.repeat(["a", "b", "c"], [100, 40, 10])
    split = seal(labels, seed=0)
    assert np.unique(labels[split.test], return_counts=True)[1].tolist() == [30, 12, 3]
    assert sorted(np.r_[split.test, split.pool]) == list(range(150))
    assert (split.share, split.warnings) == (0.3, ())


def test_a_seed_repeats_itself_and_another_does_not() -> None:
    labels = np.repeat([0, 1], 100)
    assert (seal(labels, seed=5).test == seal(labels, seed=5).test).all()
    assert not np.array_equal(seal(labels, seed=5).test, seal(labels, seed=6).test)


def test_every_group_has_the_same_chance() -> None:
    labels, groups = np.random.default_rng(0).integers(0, 3, 300), np.repeat(np.arange(60), 5)
    chosen = np.zeros(60)
    for seed in range(100):
        chosen[np.unique(groups[seal(labels, groups, seed=seed).test])] += 1
    assert chosen.mean() / 100 == pytest.approx(0.3, abs=0.01)
    assert 0.3 - 0.2 < chosen.min() / 100 < chosen.max() / 100 < 0.3 + 0.2


def test_runs_of_solar_cells() -> None:
    rng = np.random.default_rng(0)
    groups = np.arange(2_223) // 50
    labels = (rng.random(2_223) < rng.beta(1, 1, groups.max() + 1)[groups]).astype(int)
    for seed in range(10):
        split = seal(labels, groups, seed=seed)
        assert straddling(groups, _side(split)).size == 0
        for c in (0, 1):
            assert np.mean(_side(split)[labels == c]) == pytest.approx(0.3, abs=0.04)


def test_the_margin_may_ask_for_more_but_not_for_more_than_half() -> None:
    labels = np.repeat([0, 1], 500)
    assert seal(labels, images=100, seed=0).test.size == 300
    assert seal(labels, images=420, seed=0).test.size == 420
    split = seal(labels, images=5_000, seed=0)
    assert (split.test.size, split.share) == (500, 0.5)
    assert split.warnings == ("the margin asks for 5000 test images, half of all are 500",)


def test_a_class_in_one_group_stays_in_the_pool_and_is_named() -> None:
    labels = np.array(["a"] * 20 + ["b"] * 20 + ["rare"])
    for seed in range(20):
        split = seal(labels, seed=seed)
        assert 40 in split.pool
        assert len(split.warnings) == 1
        assert split.warnings[0].startswith("classes not in the test set: rare;")


def test_large_groups_are_said() -> None:
    labels, groups = np.tile([0, 1], 50), np.repeat([0, 1], [60, 40])
    for seed in range(5):
        split = seal(labels, groups, seed=seed)
        assert split.test.size == 40
        assert split.warnings == ("the groups are so large that testing got 40 %, not 30 %",)


@pytest.mark.parametrize(
    ("labels", "groups", "what"),
    [
        ([0, 0, 0], None, "1 classes"),
        ([0, 1, 0], [5, 5, 5], "1 groups"),
        ([0, 0, 1, 1], [0, 0, 1, 1], "finer groups"),
        ([], None, "at least one image"),
        ([0, 1], [0], "one group per image"),
    ],
)
def test_impossible_splits_are_refused(labels: list[int], groups: list[int] | None, what: str) -> None:
    with pytest.raises(BadData, match=what):
        seal(labels, groups, seed=0)


@pytest.mark.parametrize("share", [0.0, 0.6, -1.0])
def test_shares_outside_are_refused(share: float) -> None:
    with pytest.raises(BadRequest):
        seal([0, 1, 0, 1], share=share, seed=0)


@st.composite
def _data(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, int]:
    """Labels and groups of uneven sizes, groups of one or of several classes; a seed."""
    n_groups, n_classes = draw(st.integers(4, 40)), draw(st.integers(2, 5))
    seed, is_mixed = draw(st.integers(0, 2**20)), draw(st.booleans())
    rng = np.random.default_rng(seed)
    groups = np.repeat(rng.permutation(n_groups), rng.integers(1, 9, n_groups))
    labels = rng.integers(0, n_classes, groups.size)
    if not is_mixed:
        labels = rng.integers(0, n_classes, n_groups)[groups]
    return labels, groups, seed


def _groups_of(labels: np.ndarray, groups: np.ndarray, c: int) -> int:
    return np.unique(groups[labels == c]).size


@given(_data())
@settings(max_examples=80)
def test_seal_keeps_groups_whole_and_classes_on_both_sides(data: tuple[np.ndarray, np.ndarray, int]) -> None:
    labels, groups, seed = data
    classes = np.unique(labels)
    if classes.size < 2 or all(_groups_of(labels, groups, c) < 2 for c in classes):
        with pytest.raises(BadData):
            seal(labels, groups, seed=seed)
        return
    split = seal(labels, groups, seed=seed)
    side = _side(split)
    assert straddling(groups, side).size == 0
    assert 0 < split.test.size < labels.size
    for c in classes:
        if _groups_of(labels, groups, c) >= 2 and not split.warnings:
            assert 0 < side[labels == c].sum() < np.sum(labels == c)
    largest = np.bincount(groups).max()
    assert abs(split.test.size - split.share * labels.size) <= max(largest, 2) * classes.size


@given(st.integers(0, 10_000), st.integers(2, 6))
@settings(max_examples=60)
def test_seal_of_pure_groups_misses_by_less_than_the_largest_group(seed: int, n_classes: int) -> None:
    rng = np.random.default_rng(seed)
    group_class = np.repeat(np.arange(n_classes), 8)
    groups = np.repeat(np.arange(group_class.size), rng.integers(1, 12, group_class.size))
    labels = group_class[groups]
    split = seal(labels, groups, seed=seed)
    for c in range(n_classes):
        sizes = np.bincount(groups[labels == c])
        missed = abs(int(np.sum(labels[split.test] == c)) - 0.3 * sizes.sum())
        assert missed <= sizes.max() / 2 + 1e-9
        assert 0 < np.sum(labels[split.test] == c) < sizes.sum()


@given(_data(), st.integers(2, 4))
@settings(max_examples=60)
def test_folds_keep_groups_whole_and_sizes_even(data: tuple[np.ndarray, np.ndarray, int], k: int) -> None:
    labels, groups, seed = data
    fold = folds(labels, groups, k, seed)
    assert straddling(groups, fold).size == 0
    sizes = np.bincount(fold, minlength=k)
    assert sizes.min() > 0
    assert sizes.max() - sizes.min() <= 2 * np.bincount(groups).max() + np.unique(labels).size
    assert (fold == folds(labels, groups, k, seed)).all()


def test_folds_of_single_images_are_even_in_every_class() -> None:
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [53, 27, 4]))
    fold = folds(labels, None, 5, 0)
    table = np.array([np.bincount(fold[labels == c], minlength=5) for c in range(3)])
    assert (table.max(axis=1) - table.min(axis=1)).tolist() == [1, 1, 1]
    assert np.ptp(table.sum(axis=0)) <= 1
    assert not np.array_equal(fold, folds(labels, None, 5, 1))


def test_folds_refuse_what_cannot_be_filled() -> None:
    with pytest.raises(BadData, match="fewer folds"):
        folds([0, 1, 0, 1], [0, 0, 1, 1], 3, 0)
    with pytest.raises(BadRequest):
        folds([0, 1], None, 1, 0)


def test_draws_are_nested_and_balanced() -> None:
    labels = np.random.default_rng(0).integers(0, 4, 200)
    found = support_draws(labels, seed=0)
    assert {n: d.shape for n, d in found.items()} == {n: (10, 4 * n) for n in (1, 2, 4, 8, 16)}
    for n, table in found.items():
        for draw in range(10):
            assert np.unique(table[draw]).size == 4 * n
            assert np.bincount(labels[table[draw]]).tolist() == [n] * 4
            assert set(found[1][draw]) <= set(table[draw]) <= set(found[16][draw])
    assert len({tuple(sorted(row)) for row in found[2]}) == 10
    assert all(np.array_equal(found[n], support_draws(labels, seed=0)[n]) for n in found)


def test_small_classes_give_all_they_have_and_are_named() -> None:
    labels = ["a"] * 20 + ["b"] * 3
    found = support_draws(labels, (2, 8), 4, seed=0)
    assert found[8].shape == (4, 11)
    assert all(set(row[-3:]) == {20, 21, 22} for row in found[8])
    assert short_classes(labels, 8) == {"b": 3}
    assert short_classes(labels, 2) == {}


def test_draws_take_one_image_of_each_group_first() -> None:
    labels, groups = np.repeat([0, 1], 60), np.arange(120) // 10
    for row in support_draws(labels, (6, 12), 5, seed=0, groups=groups)[6]:
        assert np.bincount(groups[row]).tolist() == [1] * 12
    for row in support_draws(labels, (6, 12), 5, seed=0, groups=groups)[12]:
        assert np.bincount(groups[row]).tolist() == [2] * 12


def test_every_image_has_the_same_chance_to_be_drawn() -> None:
    labels = np.repeat([0, 1], 20)
    drawn = np.bincount(support_draws(labels, (5,), 2_000, seed=0)[5].ravel(), minlength=40) / 2_000
    assert drawn.min() > 0.21
    assert drawn.max() < 0.29


@given(_data(), st.lists(st.integers(1, 9), min_size=1, max_size=4), st.integers(1, 4))
@settings(max_examples=80)
def test_draws_hold_what_they_promise(data: tuple[np.ndarray, np.ndarray, int], shots: list[int], draws: int) -> None:
    labels, groups, seed = data
    found = support_draws(labels, shots, draws, seed=seed, groups=groups)
    has = np.bincount(labels)
    for n in shots:
        assert found[n].shape == (draws, int(np.minimum(has, n).sum()))
        for row in found[n]:
            assert np.bincount(labels[row], minlength=has.size).tolist() == np.minimum(has, n).tolist()
            assert np.unique(row).size == row.size
            for c in np.unique(labels):
                taken = groups[row[labels[row] == c]]
                used = np.unique(taken).size
                assert used == min(n, _groups_of(labels, groups, c), taken.size)
    small, large = min(shots), max(shots)
    assert all(set(a) <= set(b) for a, b in zip(found[small], found[large], strict=True))


def test_draws_refuse_nonsense() -> None:
    with pytest.raises(BadRequest):
        support_draws([0, 1], (0,), seed=0)
    with pytest.raises(BadRequest):
        support_draws([0, 1], (1,), 0, seed=0)
    with pytest.raises(BadData):
        support_draws([], seed=0)
