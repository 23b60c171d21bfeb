"""The ledger: an append-only file per data set that counts how often its test set was opened.

It lies in the cache, beside no report, so that deleting a report does not make a test set fresh again.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from anmok.errors import BadData, CannotWrite
from anmok.weights import cache_dir


@dataclass(frozen=True, slots=True)
class Opening:
    """What one opening of the test set was for."""

    plan: str  # digest of plan, data and split
    model: str
    split: str
    labels_train: int
    labels_test: int
    labels_to_choose: int
    seconds: float
    rungs: tuple[str, ...]
    at: str  # UTC


@dataclass(frozen=True, slots=True)
class Count:
    openings: int  # different plans that saw this test set, the present one included
    is_replay: bool


def ledger_path(data_hash: str) -> Path:
    return cache_dir() / "ledger" / f"{data_hash[:16]}.jsonl"


def count(data_hash: str, split: str, plan: str) -> Count:
    """How the books stand if the plan is carried out now. The same plan on the same split is counted once."""
    plans = {row["plan"] for row in _rows(ledger_path(data_hash)) if row["split"] == split}
    return Count(len(plans | {plan}), plan in plans)


def record(data_hash: str, opening: Opening) -> None:
    """Appends one line; a replay is not written again.

    Raises:
        CannotWrite: a verdict whose opening cannot be recorded would not be honest.
    """
    if count(data_hash, opening.split, opening.plan).is_replay:
        return
    path = ledger_path(data_hash)
    line = json.dumps(asdict(opening), ensure_ascii=False) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:  # one write below a page: whole lines even from two processes
            file.write(line)
    except OSError as error:
        raise CannotWrite(f"{path}: the opening of the test set cannot be recorded ({error.strerror})") from None


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _rows(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            raise BadData(f"{path}: line {number} is damaged; the openings of this test set are not known") from None
    return rows
