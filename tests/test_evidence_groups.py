from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from anmok.errors import BadData, BadRequest
from anmok.evidence.groups import duplicate_groups, merge_groups, run_groups, straddling


def _unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def _arc(*degrees: float) -> np.ndarray:
    """Unit vectors of the plane."""
    angle = np.radians(np.array(degrees))
    return np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)


def _hashes(*bits: int) -> np.ndarray:
    """Hashes with so many of the low bits set."""
    return np.array([(1 << b) - 1 for b in bits], dtype=np.uint64)


def _same(n: int) -> np.ndarray:
    return np.zeros(n, dtype=np.uint64)


def test_both_likenesses_are_needed() -> None:
    unit = _arc(0, 1, 40, 41)
    assert duplicate_groups(unit, _same(4)).group.tolist() == [0, 0, 1, 1]
    assert duplicate_groups(unit, _hashes(0, 6, 0, 7)).group.tolist() == [0, 0, 1, 2]
    assert duplicate_groups(unit, _hashes(0, 7, 0, 7), hash_distance=7).group.tolist() == [0, 0, 1, 1]
    assert duplicate_groups(unit, _same(4), cosine=0.9999).group.tolist() == [0, 1, 2, 3]


def test_pairs_are_listed_nearest_first() -> None:
    found = duplicate_groups(_arc(0, 3, 90, 91), _hashes(0, 2, 0, 0))
    assert [(i, j, d) for i, j, _, d in found.pairs] == [(2, 3, 0), (0, 1, 2)]
    assert found.pairs[1][2] == pytest.approx(np.cos(np.radians(3)), abs=1e-6)
    assert found.n_found == 2


def test_a_chain_is_no_group() -> None:
    # neighbours 10 degrees apart are duplicates (0.985), those 20 degrees apart are not (0.940)
    chain = _arc(*range(0, 100, 10))
    found = duplicate_groups(chain, _same(10), largest_share=1.0)
    assert len(found.pairs) == 9
    assert np.bincount(found.group).max() == 2
    cosines = chain @ chain.T
    same = found.group[:, None] == found.group
    assert cosines[same].min() >= 0.97


def test_no_group_takes_more_than_its_share() -> None:
    unit = _unit(1 + 0.01 * np.random.default_rng(0).standard_normal((100, 8)))
    found = duplicate_groups(unit, _same(100))
    assert np.bincount(found.group).max() <= 5
    assert found.n_found == len(found.pairs) == 100 * 99 // 2
    assert np.bincount(duplicate_groups(unit, _same(100), largest_share=1.0).group).max() == 100


def test_same_bytes_stay_together_whatever_else() -> None:
    rng = np.random.default_rng(0)
    unit, bits = _unit(rng.standard_normal((60, 16))), rng.integers(0, 2**62, 60).astype(np.uint64)
    sha = [f"{i}" for i in range(30)] + ["copy"] * 30
    found = duplicate_groups(unit, bits, sha=sha)
    assert np.unique(found.group[30:]).size == 1
    assert np.unique(found.group).size == 31
    assert [(i, j) for i, j, _, _ in found.pairs] == [(30, j) for j in range(31, 60)]


def test_copies_count_towards_the_share() -> None:
    # 40 images: two may be together; a file with a copy fills its group
    unit = _unit(np.random.default_rng(1).standard_normal((40, 16)))
    unit[2] = unit[0]
    sha = ["a", "a", *map(str, range(38))]
    bits = np.random.default_rng(1).integers(0, 2**62, 40).astype(np.uint64)
    bits[2] = bits[0]
    group = duplicate_groups(unit, bits, sha=sha).group
    assert group[0] == group[1] != group[2]


def test_planted_duplicates_are_found_among_many() -> None:
    rng = np.random.default_rng(0)
    unit = _unit(rng.standard_normal((3_000, 64)))
    bits = rng.integers(0, 2**63, 3_000).astype(np.uint64)
    unit[2_000:2_500] = _unit(unit[:500] + 0.01 * rng.standard_normal((500, 64)))
    bits[2_000:2_500] = bits[:500] ^ np.uint64(0b101)
    found = duplicate_groups(unit, bits)
    assert {(i, j) for i, j, _, _ in found.pairs} == {(i, i + 2_000) for i in range(500)}
    assert (found.group[:500] == found.group[2_000:2_500]).all()
    assert np.unique(found.group).size == 2_500


def test_duplicate_groups_refuses_what_it_cannot_read() -> None:
    with pytest.raises(BadData, match="unit rows"):
        duplicate_groups(np.full((2, 4), 2, np.float32), _same(2))
    with pytest.raises(BadData, match="uint64"):
        duplicate_groups(_arc(0, 1), np.zeros(2, np.int64))
    with pytest.raises(BadData, match="digests"):
        duplicate_groups(_arc(0, 1), _same(2), sha=["a"])
    with pytest.raises(BadRequest, match="out of range"):
        duplicate_groups(_arc(0, 1), _same(2), cosine=1.5)


@given(st.integers(2, 40), st.integers(0, 10_000), st.sampled_from([0.05, 0.2, 1.0]))
@settings(max_examples=60)
def test_every_two_of_a_group_are_duplicates(n: int, seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    unit, bits = _unit(rng.standard_normal((n, 3))), _hashes(*rng.integers(0, 9, n))
    sha = [str(i) for i in rng.integers(0, 2 * n, n)]
    found = duplicate_groups(unit, bits, sha=sha, largest_share=share)
    cosines, apart = unit @ unit.T, np.bitwise_count(bits[:, None] ^ bits)
    names = np.array(sha)
    first = np.array([sha.index(name) for name in sha])  # the copy whose picture stands for all
    alike = (cosines >= 0.97 - 1e-6) & (apart <= 6) | (names[:, None] == names)
    same = found.group[:, None] == found.group
    assert alike[first][:, first][same].all()
    assert same[names[:, None] == names].all()
    sizes = np.bincount(found.group)
    largest_file = max(np.unique(names, return_counts=True)[1])
    assert sizes.max() <= max(int(share * n), 2, largest_file)
    # numbered by first appearance
    assert np.unique(found.group, return_index=True)[1].tolist() == sorted(
        np.unique(found.group, return_index=True)[1].tolist()
    )


def test_runs_of_neighbours() -> None:
    runs = run_groups(np.arange(2_223), 50)
    assert np.bincount(runs).tolist().count(51) + np.bincount(runs).tolist().count(50) == 44
    assert (np.diff(runs) >= 0).all()
    shuffled = np.random.default_rng(0).permutation(2_223)
    assert (run_groups(shuffled, 50) == runs[shuffled]).all()


def test_runs_follow_numbers_inside_names() -> None:
    names = ["cell10.png", "cell9.png", "cell1.png", "cell2.png"]
    assert run_groups(names, 2).tolist() == [1, 1, 0, 0]
    assert run_groups(["x²", "x1", "x10", "x9"], 1).tolist() == [3, 0, 2, 1]
    assert run_groups([3, 3, 3, 1], 2).tolist() == [0, 0, 0, 0]
    assert run_groups([5, 1, 2], 10).tolist() == [0, 0, 0]
    assert run_groups([], 10).tolist() == []
    with pytest.raises(BadRequest):
        run_groups([1], 0)


@given(st.lists(st.integers(0, 50), min_size=1, max_size=60), st.integers(1, 20))
@settings(max_examples=60)
def test_runs_keep_order_and_ties(numbers: list[int], length: int) -> None:
    runs, array = run_groups(numbers, length), np.array(numbers)
    order = np.argsort(array, kind="stable")
    assert (np.diff(runs[order]) >= 0).all()
    assert all(np.unique(runs[array == number]).size == 1 for number in numbers)
    assert sorted(set(runs.tolist())) == list(range(runs.max() + 1))


def test_merging_joins_chains() -> None:
    assert merge_groups([0, 0, 1, 2], [7, 8, 8, 9]).tolist() == [0, 0, 0, 1]
    assert merge_groups(["x", "y"], ["p", "q"]).tolist() == [0, 1]
    with pytest.raises(BadData):
        merge_groups([0, 1], [0])


_IDS = hnp.arrays(np.int64, 25, elements=st.integers(0, 12))


@given(_IDS, _IDS)
@settings(max_examples=60)
def test_merging_is_the_finest_common_coarsening(a: np.ndarray, b: np.ndarray) -> None:
    merged = merge_groups(a, b)
    for part in (a, b):
        assert all(np.unique(merged[part == i]).size == 1 for i in part)
    assert (merged == merge_groups(b, a)).all()
    assert (merge_groups(merged, a) == merged).all()
    reach = (a[:, None] == a) | (b[:, None] == b)
    for _ in range(5):
        reach = reach @ reach
    assert (reach == (merged[:, None] == merged)).all()


def test_straddling_groups_are_named() -> None:
    assert straddling([4, 4, 5, 5, 6], ["test", "pool", "pool", "pool", "test"]).tolist() == [4]
    assert straddling(["a", "b"], [0, 1]).tolist() == []
    with pytest.raises(BadData):
        straddling([1, 2], [0])
