"""The ledger: an append-only file per data set that counts how often its test set was opened.

It lies in the cache, beside no report, so that deleting a report does not make a test set fresh again.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

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
    made: str = ""  # where made pictures came from
    writer: str = ""  # the language model that described the classes
    calls: int = 0  # of it
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Count:
    openings: int  # different plans that tested on these data, under any split, the present one included
    is_replay: bool


def ledger_path(data_hash: str) -> Path:
    return cache_dir() / "ledger" / f"{data_hash[:16]}.jsonl"


def count(data_hash: str, plan: str) -> Count:
    """How the books stand if the plan is carried out now. The same plan on the same split is counted once.

    Another split of the same data is another opening too: its test images were learnt from, or tested on, before,
    and drawing splits until one pleases is a choice like any other.
    """
    plans = _plans(ledger_path(data_hash))
    return Count(len(plans | {plan}), plan in plans)


def record(data_hash: str, opening: Opening) -> None:
    """Appends one line; a replay is not written again.

    Raises:
        CannotWrite: a verdict whose opening cannot be recorded would not be honest.
    """
    if count(data_hash, opening.plan).is_replay:
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


def _plans(path: Path) -> set[str]:
    """The digests of all plans that stand in the books."""
    if not path.is_file():
        return set()
    plans = set()
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            plans.add(str(json.loads(line)["plan"]))
        except (ValueError, TypeError, KeyError):  # no UTF-8, no JSON, or not a line of ours
            raise BadData(
                f"{path}: line {number} is damaged, so nobody knows how often this test set was opened; "
                "mend the line, or delete it and count one opening more yourself"
            ) from None
    return plans
