"""Pieces that were photographed twice, and good pictures that belong together: who may judge whom, and for how many a
limit may speak."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from anmok.errors import BadData
from anmok.inspecting import remember
from anmok.ladder.inspecting import InspectPlan, climb_parts, read_parts
from anmok.ladder.inspecting.banking import PLAIN, banked
from anmok.ladder.inspecting.rungs import Bench, all_good, defect_scores, with_defects
from anmok.ladder.inspecting.sight import Sight, see
from anmok.ladder.inspecting.verdicts import _more_than
from anmok.load import load
from drawn_parts import part


@pytest.fixture(scope="module")
def sight(tmp_path_factory: pytest.TempPathFactory) -> Sight:
    """0 to 7 good, 9 to 11 with a cut; 8 is a copy of 0."""
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(3)
    paths = []
    for number in range(12):
        paths.append(folder / f"{number:02d}.png")
        part(rng, "cut" if number > 7 else "")[0].save(paths[-1])
    paths[8].write_bytes(paths[0].read_bytes())
    return see(paths, load("fake"), 64, "")


def bench(sight: Sight, groups: list[int]) -> Bench:
    features = np.random.default_rng(0).normal(size=(12, 5)).astype(np.float32)
    rows = np.arange(12)
    return Bench(sight, features, np.asarray(groups), rows[:8], rows[8:], rows[6:8], seed=0)


def test_group_mates_count_once_in_a_promise(sight: Sight) -> None:
    """Eight shots of four pieces speak for four pieces: one of each is judged, by a memory of the other three."""
    groups = np.asarray([0, 0, 1, 1, 2, 2, 3, 3, 4, 5, 6, 7])
    bank = banked(sight.model, sight, np.arange(8), groups, PLAIN)
    assert len(bank.normals) == 4
    assert bank.limit is not None
    assert (bank.limit.smallest, bank.limit.is_reachable) == (0.2, False)
    assert bank.pictures == 8
    possible = []
    for index in range(8):
        others = [sight.rows(i) for i in range(8) if i // 2 != index // 2]
        possible.append(remember(others, seed=0).judge(sight.rows(index)).score)
    for score in bank.normals:
        assert np.abs(np.asarray(possible) - score).min() < 1e-7


def test_a_defect_is_not_judged_by_a_memory_of_its_own_piece(sight: Sight) -> None:
    """Picture 8 shows the piece of picture 0, and 9 that of none that is known."""
    table = bench(sight, [0, 1, 2, 3, 4, 5, 6, 7, 0, 8, 9, 10])
    everything = all_good(table, "nearest", lambda: None)
    assert everything.memory is not None
    scores = defect_scores(table, everything.memory)
    apart = remember([sight.rows(i) for i in range(1, 8)], seed=0)
    assert scores[0] == pytest.approx(apart.judge(sight.rows(8)).score, abs=1e-7)
    assert scores[1] == pytest.approx(everything.memory.judge(sight.rows(9)).score, abs=1e-7)
    assert scores[0] > 1e-5
    assert everything.memory.judge(sight.rows(8)).score < 1e-6


def test_defects_whose_labels_are_not_used_change_nothing(sight: Sight) -> None:
    """A4 at one label: the features of the other defects of the pool are not looked at."""
    plain = bench(sight, list(range(12)))
    known = all_good(plain, "nearest", lambda: None)
    assert known.memory is not None
    scores = defect_scores(plain, known.memory)
    one = with_defects(plain, known, scores, 1, 4).scores
    differs = np.zeros((4, 4), np.bool_)  # which defect was moved, which of 4 draws answers otherwise
    for row, index in enumerate(range(8, 12)):
        differs[row] = (with_defects(moved(plain, index), known, scores, 1, 4).scores != one).any(1)
    assert differs.sum(0).tolist() == [1, 1, 1, 1]  # each draw knows one defect, and no other
    assert with_defects(plain, known, scores, None, 1).memory is known.memory


def moved(table: Bench, index: int) -> Bench:
    features = table.features.copy()
    features[index] += 30
    return Bench(table.sight, features, table.groups, table.good, table.defects, table.test, table.seed)


def test_pairs_by_name_by_the_last_underscore_and_by_a_table(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for folder, good, bad in (("same", "{}", "{}"), ("ends", "{}_temp", "{}_test"), ("odd", "a{}", "b{}")):
        for kind, name in (("good", good), ("bad", bad)):
            (tmp_path / folder / kind).mkdir(parents=True)
            for number in range(3):
                part(rng)[0].save(tmp_path / folder / kind / f"{name.format(number)}.png")
    for folder in ("same", "ends"):
        parts = read_parts(tmp_path / folder, is_paired=True)
        assert parts.dataset.groups is not None
        pieces = {
            int(group): {path.stem[0] for path in np.asarray(parts.dataset.paths)[parts.dataset.groups == group]}
            for group in parts.dataset.groups
        }
        assert sorted(pieces.values(), key=min) == [{"0"}, {"1"}, {"2"}]
        assert read_parts(tmp_path / folder).dataset.groups is None
    with pytest.raises(BadData, match="no defect has the file name"):
        read_parts(tmp_path / "odd", is_paired=True)
    table = tmp_path / "odd.csv"
    rows = [f"good/a{i}.png,good,piece {i}" for i in range(3)] + [f"bad/b{i}.png,bad,piece {2 - i}" for i in range(3)]
    table.write_text("image,label,group\n" + "\n".join(rows) + "\n")
    told = read_parts(tmp_path / "odd", table=table, is_paired=True)
    assert told.dataset.groups is not None
    by_name = dict(zip(told.dataset.names, told.dataset.groups.tolist(), strict=True))
    assert [by_name[f"good/a{i}.png"] == by_name[f"bad/b{2 - i}.png"] for i in range(3)] == [True] * 3
    assert int(told.is_defect.sum()) == 3
    with pytest.raises(BadData, match="no picture is labelled fine"):
        read_parts(tmp_path / "odd", "fine", table=table)


def test_no_split_divides_a_pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANMOK_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(1)
    for kind, flaw in (("good", ""), ("cut", "cut")):
        (tmp_path / "p" / kind).mkdir(parents=True)
        for number in range(50):
            part(rng, flaw, 48)[0].save(tmp_path / "p" / kind / f"{number:02d}.png")
    plan = InspectPlan("fake", size=32, shots=(1,), draws=1, rungs=("A1",))
    found = climb_parts(read_parts(tmp_path / "p", is_paired=True), load("fake"), plan)
    assert found.scene is not None
    names = np.asarray(found.scene.dataset.names)
    stems = [{Path(name).stem for name in names[rows]} for rows in (found.scene.pool, found.scene.test)]
    assert stems[0] & stems[1] == set()
    assert found.outcome.data.grouping == "yours, and near-duplicates"


def test_an_estimate_below_what_was_tested_is_none() -> None:
    assert (_more_than(None, 5), _more_than(1, 29), _more_than(29, 29), _more_than(30, 29)) == (None, None, None, 30)
