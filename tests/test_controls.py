"""Controls that never see a pixel, and the groups that stop them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from anmok.errors import BadData
from anmok.evidence.controls import beating, control, guesses, metadata_controls
from anmok.evidence.leaks import find_leaks, recommend
from anmok.evidence.leaks_groups import jumps, sessions
from anmok.evidence.metadata import Column, collect, is_sorted_by, original, stem
from anmok.evidence.splits import folds
from anmok.media import Facts
from audit_samples import series


def fact(taken: str = "", camera: str = "", size: int = 1000) -> Facts:
    return Facts("0", size, 640, 480, "JPEG", taken, camera)


def column(values: list[float], kind: str = "sequence") -> Column:
    return Column("number", kind, np.array(values, dtype=np.float64)[:, None])  # type: ignore[arg-type]


def test_numbers_come_from_the_file_name_and_not_from_the_folder() -> None:
    metadata = collect(["run7/a3_b12.png", "run7/a3_b2.png", "run7/a4_b5.png"], ["x", "y", "x"])
    number, first = metadata.column("number"), metadata.column("first_number")
    assert number is not None
    assert first is not None
    assert number.values[:, 0].tolist() == [1.0, 0.0, 0.5]
    assert first.values[:, 0].tolist() == [0.25, 0.25, 1.0]
    assert metadata.column("folder") is None, "one folder for all says nothing"


def test_class_and_split_folders_are_no_metadata() -> None:
    names = ["train/cat/s1/1.jpg", "train/dog/s1/2.jpg", "test/cat/s2/3.jpg", "test/dog/s2/4.jpg"]
    metadata = collect(names, ["cat", "dog", "cat", "dog"])
    assert metadata.folder.tolist() == [0, 0, 1, 1]


def test_a_missing_value_lies_apart_and_a_mostly_missing_column_is_dropped() -> None:
    times = ["2024:05:01 10:00:00", "2024:05:01 10:00:05", ""]
    metadata = collect(["a.jpg", "b.jpg", "c.jpg"], ["x", "y", "x"], [fact(time) for time in times])
    time = metadata.column("time")
    assert time is not None
    assert time.values[:, 0].tolist() == [0.0, 1.0, -1.0]
    assert np.isnan(metadata.taken).tolist() == [False, False, True]
    late = collect(["a.jpg", "b.jpg", "c.jpg"], ["x", "y", "x"], [fact(time) for time in ("", "", times[0])])
    assert late.column("time") is None


@pytest.mark.parametrize("name", ["IMG_20240501_100005.jpg", "2024-05-01T10-00-05.jpg", "x 20240501100005.png"])
def test_a_time_in_the_name_counts_where_exif_has_none(name: str) -> None:
    metadata = collect([name, "IMG_20240501_100000.jpg"], ["a", "b"])
    assert metadata.taken[0] - metadata.taken[1] == 5.0


def test_roboflow_names_lead_back_to_their_original() -> None:
    first, second = "a/cat_7_jpg.rf.0f3c92aa11.jpg", "a/cat_7_jpg.rf.99aa0b1c2d.jpg"
    assert original(first) == original(second) == "cat_7.jpg"
    assert stem(first) == "cat_7"
    names = [first, second, "a/cat_8_jpg.rf.0000000000.jpg", "train/x/cat_7.jpg", "test/x/cat_7.jpg"]
    origin = collect(names, ["x", "x", "y", "x", "x"]).origin
    assert origin[0] == origin[1]
    assert np.unique(origin).size == 4, "the same name in two folders is no sign of one original"


def test_the_class_name_in_the_file_name_counts_as_whole_words_only() -> None:
    names = ["cat-01.jpg", "category-02.jpg", "my Cat 3.jpg", "dog_4.jpg", "dog 5.jpg", "hotdog6.jpg"]
    metadata = collect(names, ["cat", "dog", "cat", "dog", "dog", "dog"])
    spelt = metadata.column("label_in_name")
    assert spelt is not None
    assert spelt.kind == "naming"
    assert spelt.values[:, 0].tolist() == [1.0, 0.0, 1.0, 2.0, 2.0, 0.0]


def test_an_order_by_class_is_seen_through() -> None:
    listed_by_split = np.repeat([0, 1, 2, 0, 1, 2], 10)
    assert is_sorted_by(listed_by_split, np.arange(60.0))
    assert not is_sorted_by(listed_by_split, np.arange(60.0) % 10)
    assert not is_sorted_by(np.repeat(np.arange(12) % 2, 9), np.arange(108.0)), "six stretches of each class"
    numbers = np.random.default_rng(0).permutation(40)
    listed = collect([f"{i}.jpg" for i in numbers], ["a"] * 20 + ["b"] * 20)
    assert [column.name for column in listed.columns] == ["number"], "by file name the order is the number again"


def test_lengths_must_agree() -> None:
    with pytest.raises(BadData, match="2 names, 1 labels"):
        collect(["a.jpg", "b.jpg"], ["x"])


def test_five_neighbours_vote_and_all_of_a_tie_count() -> None:
    seen = np.array([[0.0], [1.0], [2.0], [4.0], [5.0], [6.0]])
    labels = np.array([0, 0, 0, 1, 1, 1])
    asked = np.array([[0.2], [5.8], [3.0]])
    assert guesses(column([]), seen, labels, asked, 2)[:2].tolist() == [0, 1]
    more = np.array([0, 0, 0, 1, 1, 1, 1])
    tied = guesses(column([]), np.vstack([seen, [[99.0]]]), more, asked[2:], 2)
    assert tied.tolist() == [1], "three against three within reach: the commoner class of all seen"


def test_identical_values_vote_together() -> None:
    seen, labels = np.repeat([[0.0], [1.0]], 10, axis=0), np.array([0] * 7 + [1] * 3 + [1] * 10)
    assert guesses(column([]), seen, labels, np.array([[0.0], [1.0]]), 2).tolist() == [0, 1]


def test_a_category_never_seen_gets_the_majority() -> None:
    seen, labels = np.array([[0.0], [0.0], [1.0], [1.0], [1.0]]), np.array([1, 1, 0, 0, 0])
    answer = guesses(column([], "category"), seen, labels, np.array([[0.0], [1.0], [7.0]]), 2)
    assert answer.tolist() == [1, 0, 0]


def test_a_number_that_is_the_label_is_found_and_noise_is_not() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 300)
    fold = folds(labels, None, 5, 0)
    telling = control(column((labels + rng.random(300) / 10).tolist()), labels, fold)
    assert telling.accuracy.value > 0.99
    assert telling.p < 1e-20
    empty = control(column(rng.random(300).tolist()), labels, fold)
    assert empty.excess < 0.07
    assert empty.p > 0.01
    assert beating([telling, empty]) == (telling,)


def test_a_control_refuses_columns_of_another_length() -> None:
    with pytest.raises(BadData, match="one row per image"):
        control(column([0.0, 1.0]), [0, 1, 0], [0, 1, 0])


def test_no_labels_to_tell_apart_gives_no_control() -> None:
    metadata = collect([f"{i}.jpg" for i in range(9)], ["a"] * 9)
    assert metadata_controls(metadata, np.zeros(9, dtype=int), seed=0) == ()


def test_labels_at_random_leak_nothing() -> None:
    found = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        labels = np.where(rng.random(200) < 0.3, "b", "a").tolist()
        facts = [fact(size=int(size)) for size in rng.integers(1000, 90_000, 200)]
        metadata = collect([f"IMG_{i:04d}.jpg" for i in range(200)], labels, facts)
        found += bool(find_leaks(metadata, np.unique(labels, return_inverse=True)[1], None, seed=seed).leaking)
    assert found <= 1


def test_the_number_of_a_series_gives_the_label_away_and_groups_stop_it() -> None:
    data = series()
    report = find_leaks(collect(data.names, data.labels, data.facts), data.code, None, seed=0)
    assert report.curable == ("number",)
    strongest = report.strongest
    assert strongest is not None
    assert strongest.name == "number"
    assert strongest.excess > 0.08
    best = report.recommended
    assert best is not None
    assert best.is_enough
    assert best.control_accuracy_random == strongest.accuracy.value
    assert best.control_accuracy_grouped - strongest.majority < strongest.excess / 3
    after = next(one for one in report.grouped if one.name == "number")
    assert after.p > 0.05


def test_jumps_of_the_file_size_find_the_parts_without_a_label() -> None:
    data = series()
    metadata = collect(data.names, data.labels, data.facts)
    number = metadata.column("number")
    assert number is not None
    group = jumps(metadata, number.values[:, 0], 3.0)
    assert group is not None
    assert abs(np.unique(group).size - 40) <= 6
    starts = np.flatnonzero(np.diff(group)) + 1
    true = np.flatnonzero(np.diff(data.part)) + 1
    assert np.mean([np.abs(true - start).min() <= 1 for start in starts]) > 0.9


def test_without_file_sizes_the_shortest_run_that_is_enough_is_proposed() -> None:
    data = series(parts=60, size=30, has_sizes=False)
    report = find_leaks(collect(data.names, data.labels), data.code, None, seed=0)
    [scheme] = report.schemes
    assert scheme.name in ("runs of 32", "runs of 64")
    assert scheme.is_enough
    assert scheme.n_groups >= 20
    assert "consecutive files" in scheme.description_en
    assert "연속된 파일" in scheme.description_ko


def test_files_numbered_class_by_class_are_no_series() -> None:
    names = [f"{i:03d}.jpg" for i in range(200)]
    labels = ["cat"] * 90 + ["dog"] * 110
    report = find_leaks(collect(names, labels), np.array([0] * 90 + [1] * 110), None, seed=0)
    assert report.leaking[0] == "number"
    assert report.class_ordered == ("number",)
    assert report.curable == ()
    assert report.strongest is None
    assert report.recommended is None


def test_names_that_spell_the_label_are_told_apart_from_leaks() -> None:
    rng = np.random.default_rng(1)
    code = rng.integers(0, 2, 120)
    names = [f"{('cat', 'dog')[c]}_{rng.integers(10**6):06d}.jpg" for c in code]
    report = find_leaks(collect(names, [("cat", "dog")[c] for c in code]), code, None, seed=0)
    assert report.naming == ("label_in_name",)
    assert report.curable == ()


def test_groups_of_the_user_that_are_too_small_are_not_believed() -> None:
    data = series()
    metadata = collect(data.names, data.labels, data.facts)
    pairs = find_leaks(metadata, data.code, np.arange(data.code.size) // 2, seed=0)
    assert pairs.still_leaking == ("number",)
    assert pairs.recommended is not None
    parts = find_leaks(metadata, data.code, data.part, seed=0)
    assert parts.still_leaking == ()
    assert parts.schemes == ()


def test_a_pause_starts_a_session() -> None:
    taken = np.array([0.0, 50.0, 5000.0, np.nan, 5060.0, np.nan])
    group = sessions(taken, 600)
    assert group[0] == group[1]
    assert group[2] == group[4] != group[0]
    assert np.unique(group).size == 4


def test_sessions_are_proposed_where_the_time_leaks() -> None:
    rng = np.random.default_rng(5)
    session = np.repeat(np.arange(30), 12)
    code = (rng.random(360) < rng.beta(0.2, 0.2, 30)[session]).astype(int)
    start = datetime(2024, 1, 1, tzinfo=UTC)
    minutes = session * 120.0 + np.tile(np.arange(12), 30) / 6
    taken = [f"{start + timedelta(minutes=minute):%Y:%m:%d %H:%M:%S}" for minute in minutes]
    shuffled = rng.permutation(360)
    names = ["".join(rng.choice(list("abcdefgh"), 7)) + ".jpg" for _ in shuffled]
    facts = [fact(taken[i]) for i in shuffled]
    metadata = collect(names, [str(code[i]) for i in shuffled], facts)
    report = find_leaks(metadata, code[shuffled], None, seed=0)
    assert report.curable == ("time",)
    best = recommend(report.schemes)
    assert best is not None
    assert best.family == "sessions"
    assert best.n_groups == 30


def test_a_folder_that_tells_the_label_becomes_the_group() -> None:
    rng = np.random.default_rng(4)
    folder = rng.integers(0, 24, 480)
    code = (rng.random(480) < rng.beta(0.2, 0.2, 24)[folder]).astype(int)
    names = [f"lot{'abcdefghijklmnopqrstuvwx'[f]}/{i}.jpg" for i, f in enumerate(folder)]
    report = find_leaks(collect(names, [str(c) for c in code]), code, None, seed=0)
    assert report.curable == ("folder",)
    assert report.recommended is not None
    assert report.recommended.name == "folders"
    assert report.recommended.n_groups == 24
