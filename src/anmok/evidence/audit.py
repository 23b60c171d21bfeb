"""What a claimed accuracy is worth. Needs predictions, at best the images; no model, no torch, and trusts
nobody.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from anmok.errors import BadData, BadRequest
from anmok.evidence.audit_copies import find_copies, look
from anmok.evidence.audit_rows import Note, Rows, gather
from anmok.evidence.audit_surviving import (
    MIN_CLEAN,
    MIN_CLEAN_GROUPS,
    Basis,
    Standing,
    estimated,
    measured,
    shifted,
    standing,
)
from anmok.evidence.groups import DuplicateGroups, merge_groups, straddling
from anmok.evidence.intervals import Estimate, accuracy
from anmok.evidence.leaks import GroupScheme, LeakReport, find_leaks
from anmok.evidence.metadata import Column, collect
from anmok.evidence.power import images_for_half_width, winners_curse
from anmok.evidence.predictions import Predictions
from anmok.media import Facts

Word = Literal["STANDS", "FALLS", "CANNOT TELL"]

_SMALLEST_HALF_WIDTH = 0.005  # nobody labels more images than half a point either way takes
_RHO = 0.7  # how alike models tried on one data set answer; the table of the winner's curse uses the same


@dataclass(frozen=True, slots=True)
class Part:
    """One reason of the difference: ``points`` as a share, negative where it takes away; ``images``
    concerned.
    """

    code: Literal["file", "copies", "mates", "neighbours", "tried"]
    points: float
    images: int


@dataclass(frozen=True, slots=True)
class Needed:
    """Labels that would settle the question: about ``more`` further test images, in new groups where there
    are any.
    """

    more: int
    groups: int
    half_width: float


@dataclass(frozen=True, slots=True, eq=False)
class Audit:
    """Everything the audit found. ``claimed`` is what was said; ``computed`` what the rows give, with the
    interval that a reader who knows nothing of groups would give it. ``surviving``: by metric; empty where
    ``basis`` is "none". ``group``: (n,) over ``rows``, what was held together; None where every image
    stands alone.
    """

    rows: Rows
    predictions: Predictions
    margin: float
    tried: int
    seed: int
    claimed: float
    computed: Mapping[str, Estimate]
    surviving: Mapping[str, Estimate]
    basis: Basis
    parts: tuple[Part, ...]
    standing: Standing
    copies: DuplicateGroups | None
    sha256: tuple[str, ...] | None
    leaks: LeakReport
    group: NDArray[np.intp] | None
    has_own_groups: bool
    straddling: int
    word: Word
    needed: Needed | None
    notes: tuple[Note, ...]

    @property
    def scheme(self) -> GroupScheme | None:
        """The proposed groups, where there was a need for them."""
        return self.leaks.recommended


@dataclass(frozen=True, slots=True, eq=False)
class _Evidence:
    """What is known of the images before any prediction is looked at."""

    rows: Rows
    facts: tuple[Facts, ...] | None
    copies: DuplicateGroups | None
    columns: Mapping[str, Column]
    leaks: LeakReport
    group: NDArray[np.intp] | None


def audit(
    images: Path | None,
    predictions: Predictions,
    *,
    margin: float = 0.03,
    tried: int = 1,
    seed: int = 0,
    groups: Mapping[str, str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Audit:
    """Judge predictions on the images that they name.

    images: their folder; None where only the predictions are at hand (no copies, no file sizes, no times
    then). margin: how far below the claim an accuracy may lie and the claim still stand, as a share. tried:
    how many models or settings were compared on the same test images before this one was taken. groups: image
    -> group, what belongs together as the user knows; it goes before a group column of the predictions.
    progress: ``(done, total)`` images.

    Raises `BadData` where predictions and images do not belong together or no test row has a label;
    `BadRequest` for a margin outside (0, 0.5) or ``tried`` below 1; `BadMedia` where no image at all can be
    read.
    """
    if not 0 < margin < 0.5 or tried < 1:
        raise BadRequest(f"margin {margin}, tried {tried}: want a margin like 0.03 and at least one model tried")
    evidence = _evidence(gather(images, predictions, groups), seed, progress)
    rows = evidence.rows
    where = standing(rows, None if evidence.copies is None else evidence.copies.group, evidence.group)
    computed = measured(rows, where.tested, None, seed)
    claimed = computed["accuracy"].value if predictions.claimed is None else predictions.claimed
    surviving, basis, parts = _surviving(evidence, where, computed["accuracy"].value, seed)
    if predictions.claimed is not None:
        parts = (Part("file", computed["accuracy"].value - claimed, where.tested.size), *parts)
    if tried > 1 and surviving:
        surviving, part = _after_choosing(surviving, tried)
        parts = (*parts, part)
    straddlers = straddling(evidence.group, rows.side) if evidence.group is not None and rows.has_split else ()
    first = surviving.get("accuracy")
    return Audit(
        rows=rows,
        predictions=predictions,
        margin=margin,
        tried=tried,
        seed=seed,
        claimed=claimed,
        computed=computed,
        surviving=surviving,
        basis=basis,
        parts=tuple(part for part in parts if part.images),
        standing=where,
        copies=evidence.copies,
        sha256=None if evidence.facts is None else tuple(fact.sha256 for fact in evidence.facts),
        leaks=evidence.leaks,
        group=evidence.group,
        has_own_groups=rows.group is not None,
        straddling=len(straddlers),
        word=_word(first, claimed, margin),
        needed=needed(first, max(first.value - claimed + margin, claimed - first.value), evidence.group, where)
        if first is not None
        else None,
        notes=rows.notes,
    )


def needed(estimate: Estimate, distance: float, group: NDArray[np.intp] | None, where: Standing) -> Needed | None:
    """How many more test images bring the interval to +- ``distance``; None where it is there already.

    Counted at the design effect found: images in groups tell less each. group: (n,) over all rows.
    """
    half_width = min(max(distance, _SMALLEST_HALF_WIDTH), 0.49)
    effect = estimate.n / max(estimate.effective_n, 1.0)
    more = math.ceil(images_for_half_width(estimate.value, half_width) * effect) - estimate.n
    if more <= 0:
        return None
    n_groups = 0 if group is None else math.ceil(more * np.unique(group[where.tested]).size / where.tested.size)
    return Needed(more, n_groups if n_groups < more else 0, half_width)


def _evidence(rows: Rows, seed: int, progress: Callable[[int, int], None] | None) -> _Evidence:
    facts, copies = None, None
    if rows.paths is not None:
        looks = look(rows.paths, progress)
        if len(looks.unreadable) == len(rows.paths):
            raise BadData(f"none of the {len(rows.paths)} images can be read; the first: {looks.unreadable[0][1]}")
        copies = find_copies(looks)
        facts = tuple(fact for fact in looks.facts if fact is not None)
        if looks.unreadable:
            kept = np.setdiff1d(np.arange(len(rows.names)), [i for i, _ in looks.unreadable])
            rows = rows.keep(kept, Note("unreadable", (len(looks.unreadable), looks.unreadable[0][1])))
            copies = DuplicateGroups(copies.group[kept], _renumbered(copies.pairs, kept), copies.n_found)
    known = np.flatnonzero(rows.label >= 0)
    labels = [rows.classes[i] if i >= 0 else "" for i in rows.label]
    metadata = collect(rows.names, labels, facts)
    part = metadata.keep(known)
    own = None if rows.group is None else rows.group[known]
    leaks = find_leaks(part, rows.label[known], own, seed=seed)
    columns = {column.name: column for column in metadata.columns}
    if rows.group is not None:
        columns["group"] = Column("group", "category", rows.group[:, None].astype(np.float64))
    parts = [] if rows.group is None else [rows.group]
    if leaks.recommended is not None:
        parts.append(_spread(leaks.recommended.group, known, len(rows.names)))
    if copies is not None and np.unique(copies.group).size < copies.group.size:
        parts.append(copies.group)
    group = reduce(merge_groups, parts) if parts else None
    return _Evidence(rows, facts, copies, columns, leaks, group)


def _surviving(
    evidence: _Evidence, where: Standing, before: float, seed: int
) -> tuple[dict[str, Estimate], Basis, tuple[Part, ...]]:
    """What is left of accuracy ``before``, and why."""
    rows, group = evidence.rows, evidence.group
    uncopied = where.tested[~where.has_copy]
    n_copies = where.tested.size - uncopied.size
    strongest = evidence.leaks.strongest
    if group is None and strongest is not None and evidence.columns[strongest.name].kind == "sequence":
        return {}, "none", ()
    if rows.has_split or strongest is None:
        clean = where.tested[where.is_clean]
        if clean.size == where.tested.size or _is_enough(clean, group):
            after_copies = _accuracy(rows, uncopied) if uncopied.size else before
            found = measured(rows, clean, group, seed)
            parts = (
                Part("copies", after_copies - before, n_copies),
                Part("mates", found["accuracy"].value - after_copies, uncopied.size - clean.size),
            )
            return found, "measured", parts
    column = evidence.columns["group"] if strongest is None and "group" in evidence.columns else None
    column = evidence.columns[strongest.name] if strongest is not None else column
    if column is None or group is None or not _is_enough(uncopied, group):
        return {}, "none", ()
    after_copies = _accuracy(rows, uncopied)
    found = estimated(rows, uncopied, column, group, seed)
    n_mates = int(where.has_mate[~where.has_copy].sum()) if rows.has_split else uncopied.size
    return (
        found,
        "estimated",
        (
            Part("copies", after_copies - before, n_copies),
            Part("neighbours", found["accuracy"].value - after_copies, n_mates),
        ),
    )


def _is_enough(index: NDArray[np.intp], group: NDArray[np.intp] | None) -> bool:
    return index.size >= MIN_CLEAN and (group is None or np.unique(group[index]).size >= MIN_CLEAN_GROUPS)


def _accuracy(rows: Rows, index: NDArray[np.intp]) -> float:
    return accuracy(rows.label[index] == rows.predicted[index]).value


def _after_choosing(surviving: Mapping[str, Estimate], tried: int) -> tuple[dict[str, Estimate], Part]:
    """The best of several on one test set looks better than it is, by chance alone."""
    first = surviving["accuracy"]
    share = min(max(first.value, 0.01), 0.99)
    optimism = winners_curse(tried, max(round(first.effective_n), 1), share, _RHO)
    lowered = {name: shifted(estimate, -optimism) for name, estimate in surviving.items()}
    return lowered, Part("tried", lowered["accuracy"].value - first.value, first.n)


def _word(surviving: Estimate | None, claimed: float, margin: float) -> Word:
    """FALLS: the claim lies above the interval. STANDS: the interval lies above the claim less the margin."""
    if surviving is None:
        return "CANNOT TELL"
    if surviving.interval.high < claimed:
        return "FALLS"
    return "STANDS" if surviving.interval.low >= claimed - margin else "CANNOT TELL"


def _renumbered(
    pairs: tuple[tuple[int, int, float, int], ...], kept: NDArray[np.intp]
) -> tuple[tuple[int, int, float, int], ...]:
    place = {int(old): new for new, old in enumerate(kept)}
    return tuple((place[i], place[j], cosine, bits) for i, j, cosine, bits in pairs if i in place and j in place)


def _spread(group: NDArray[np.intp], known: NDArray[np.intp], n: int) -> NDArray[np.intp]:
    """(n,) groups of the labelled rows carried over to all; an unlabelled row is one of its own."""
    full = int(group.max()) + 1 + np.arange(n)
    full[known] = group
    return full
