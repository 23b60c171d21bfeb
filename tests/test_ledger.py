"""The books: what counts as another opening of a test set, and what does not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from anmok.errors import BadData
from anmok.ladder import ledger

OPENING = ledger.Opening(
    plan="p1",
    model="fake",
    split="s1",
    labels_train=70,
    labels_test=30,
    labels_to_choose=70,
    seconds=1.0,
    rungs=("1", "2"),
    at="2026-01-01T00:00:00Z",
)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("ANMOK_CACHE", str(tmp_path))
    return "d" * 32


def test_the_first_plan_is_one_opening_and_the_same_plan_a_replay(data: str) -> None:
    assert ledger.count(data, "p1") == ledger.Count(1, False)
    ledger.record(data, OPENING)
    ledger.record(data, OPENING)
    assert ledger.count(data, "p1") == ledger.Count(1, True)
    assert len(ledger.ledger_path(data).read_text(encoding="utf-8").splitlines()) == 1


def test_another_split_of_the_same_data_is_another_opening(data: str) -> None:
    ledger.record(data, OPENING)
    ledger.record(data, replace(OPENING, plan="p2", split="s2"))
    assert ledger.count(data, "p3") == ledger.Count(3, False)
    assert ledger.count(data, "p1") == ledger.Count(2, True)


def test_other_data_have_their_own_books(data: str) -> None:
    ledger.record(data, OPENING)
    assert ledger.count("e" * 32, "p1") == ledger.Count(1, False)


def test_a_damaged_line_is_named(data: str) -> None:
    ledger.record(data, OPENING)
    with ledger.ledger_path(data).open("a", encoding="utf-8") as file:
        file.write('{"plan": "p')
    with pytest.raises(BadData, match=r"jsonl: line 2 is damaged"):
        ledger.count(data, "p1")
