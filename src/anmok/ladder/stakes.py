"""What errors cost, in the user's words: a table, a prevalence, or the overkill that can be borne."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from anmok.errors import BadData, BadRequest
from anmok.evidence.costs import Costs
from anmok.ladder.dataset import read_text

if TYPE_CHECKING:
    from anmok.ladder.prepare import Scene

Shares = tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class Stakes:
    """``costs``: (what the image shows, what the model says, what that costs) for each pair. ``prevalence``: how
    common each class is where the model will work. ``max_overkill``: the share of images of the class ``good`` that
    may be called something else."""

    costs: tuple[tuple[str, str, float], ...] = ()
    prevalence: Shares = ()
    max_overkill: float | None = None
    good: str = ""

    def __post_init__(self) -> None:
        if self.max_overkill is None:
            if not self.costs and not self.prevalence:
                raise BadRequest("nothing at stake: give --costs, --prevalence or --max-overkill")
            return
        if self.costs or self.prevalence:
            raise BadRequest("--max-overkill ranks by the defects missed, whatever they cost: drop the other option")
        if not 0 < self.max_overkill < 1:
            raise BadRequest(f"--max-overkill {self.max_overkill:g}: want a share between 0 and 1, such as 1%")
        if not self.good:
            raise BadRequest("--max-overkill needs --good NAME: the class of the good parts")


@dataclass(frozen=True, slots=True, eq=False)
class Resolved:
    """The same in class numbers. ``costs`` or ``at_most``; ``good`` may be known with costs as well, else None."""

    costs: Costs | None
    at_most: float | None
    good: int | None


def resolved(stakes: Stakes, scene: Scene) -> Resolved:
    """For the classes of these images; before the test set is opened.

    Raises:
        BadRequest: a class that the images do not have, or one that the table or the prevalence leaves out.
        BadData: too few images of a kind that the question is about.
    """
    classes = scene.dataset.classes
    good = None if not stakes.good else _number(stakes.good, classes, "--good")
    tested = np.bincount(scene.labels[scene.test], minlength=len(classes))  # (K,)
    taught = np.bincount(scene.labels[scene.pool], minlength=len(classes))  # (K,)
    if good is not None and (tested[good] == 0 or taught[good] == 0 or tested.sum() == tested[good]):
        raise BadData(
            f"--good {stakes.good}: the test needs good images and others, and so do the images to learn from"
        )
    if stakes.max_overkill is not None:
        return Resolved(None, stakes.max_overkill, good)
    share = _prevalence(stakes.prevalence, classes)
    given = None if share is None else np.asarray(share)
    costs = Costs(np.asarray(_matrix(stakes.costs, classes)), given)
    absent = [] if share is None else [n for n, s, m in zip(classes, share, tested, strict=True) if s > 0 and m == 0]
    if absent:
        raise BadData(f"no test image of {absent[0]}, which will come: label some, or give it a prevalence of 0")
    return Resolved(costs, None, good)


def read_costs(table: Path) -> tuple[tuple[str, str, float], ...]:
    """A CSV file: the first line names the answers, the first column what the image shows.

    Raises:
        BadData: the file is missing, no UTF-8 table, or a cell is no number.
    """
    text = read_text(table, "a row for each class, a column for each answer")
    delimiter = max((",", ";", "\t"), key=text.partition("\n")[0].count)
    rows = [
        row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if any(c.strip() for c in row)
    ]
    answers = [cell.strip() for cell in rows[0][1:]] if rows else []
    if len(answers) < 2 or len(rows) < 3:
        raise BadData(f"{table}: want a first line such as truth,good,defect and a line of costs for each class")
    found = []
    for row in rows[1:]:
        if len(row) != len(answers) + 1:
            raise BadData(f"{table}: the line of {row[0].strip()} has {len(row) - 1} costs for {len(answers)} answers")
        found += [(row[0].strip(), said, _cost(cell, table)) for said, cell in zip(answers, row[1:], strict=True)]
    return tuple(found)


def read_prevalence(text: str) -> Shares:
    """``defect=0.02,good=0.98``, or in per cent: ``defect=2%,good=98%``. Raises `BadRequest`."""
    found = []
    for part in text.split(","):
        name, equals, share = part.rpartition("=")
        if not equals or not name.strip():
            raise BadRequest(f"--prevalence {text}: want defect=0.02,good=0.98")
        found.append((name.strip(), read_share(share, "--prevalence")))
    return tuple(found)


def read_share(text: str, option: str) -> float:
    """``1%`` or ``0.01``. Raises `BadRequest`."""
    number = text.strip()
    try:
        share = float(number.removesuffix("%")) / (100 if number.endswith("%") else 1)
    except ValueError:
        raise BadRequest(f"{option} {text}: want a share such as 0.01 or 1%") from None
    if not 0 <= share <= 1:
        raise BadRequest(f"{option} {text}: want a share from 0 to 1; write 1% for one per cent")
    return share


def _number(name: str, classes: Sequence[str], where: str) -> int:
    if name not in classes:
        raise BadRequest(f"{where}: no class {name!r} among the images; they have {', '.join(classes[:5])}")
    return list(classes).index(name)


def _prevalence(given: Shares, classes: Sequence[str]) -> list[float] | None:
    if not given:
        return None
    by_class = {_number(name, classes, "--prevalence"): share for name, share in given}
    missing = [name for k, name in enumerate(classes) if k not in by_class]
    if missing:
        raise BadRequest(f"--prevalence says nothing of {missing[0]}: give every class its share, 0 if it never comes")
    if sum(by_class.values()) <= 0:
        raise BadRequest("--prevalence: every share is 0; some class has to come")
    return [by_class[k] for k in range(len(classes))]


def _matrix(given: tuple[tuple[str, str, float], ...], classes: Sequence[str]) -> list[list[float]]:
    """Truth by answer; without a table every mistake costs 1."""
    size = len(classes)
    if not given:
        return [[0.0 if i == j else 1.0 for j in range(size)] for i in range(size)]
    table = [[math.nan] * size for _ in range(size)]
    for truth, said, cost in given:
        table[_number(truth, classes, "--costs")][_number(said, classes, "--costs")] = cost
    gaps = [(classes[i], classes[j]) for i in range(size) for j in range(size) if math.isnan(table[i][j])]
    if gaps:
        raise BadRequest(
            f"--costs: no cost of the answer {gaps[0][1]} to an image of {gaps[0][0]}; add it to the table"
        )
    return table


def _cost(cell: str, table: Path) -> float:
    try:
        cost = float(cell.strip())
    except ValueError:
        raise BadData(f"{table}: {cell.strip()[:20]!r} is no number") from None
    if not math.isfinite(cost):
        raise BadData(f"{table}: {cell.strip()} is no cost that can be reckoned with")
    return cost
