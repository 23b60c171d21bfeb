"""Which images belong together: copies, the user's groups, and those that the metadata give away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anmok.evidence.groups import DuplicateGroups, duplicate_groups, merge_groups
from anmok.evidence.leaks import LeakReport, find_leaks
from anmok.evidence.metadata import collect
from anmok.ladder.dataset import Dataset
from anmok.ladder.features import Looked
from anmok.pairing import unit

Labels = NDArray[np.int64]

_NOTHING = 1e-6  # of the features' length: far below any difference between two pictures, above rounding


@dataclass(frozen=True, slots=True, eq=False)
class Grouping:
    """``groups`` (n,): no split may divide one. ``copies`` (n,): the same without the proposed groups, for the
    number that a random split would have claimed."""

    groups: Labels
    copies: Labels
    duplicates: DuplicateGroups
    leaks: LeakReport
    description: str


def grouping(dataset: Dataset, looked: Looked, policy: str, seed: int) -> Grouping:
    """``policy`` as in ``Plan.groups``: auto, duplicates or none."""
    assert dataset.labels is not None
    duplicates = near_duplicates(looked)
    classes = [dataset.classes[label] for label in dataset.labels]
    metadata = collect(dataset.names, classes, looked.facts)
    leaks = find_leaks(metadata, dataset.labels, dataset.groups, seed=seed)
    alone = np.arange(len(dataset.paths))
    if policy == "none":
        return Grouping(alone, alone, duplicates, leaks, "none, as asked")
    copies = duplicates.group.astype(np.int64)
    if dataset.groups is not None:
        groups = merge_groups(copies, dataset.groups).astype(np.int64)
        return Grouping(groups, copies, duplicates, leaks, "yours, and near-duplicates")
    if policy == "duplicates" or leaks.recommended is None:
        return Grouping(copies, copies, duplicates, leaks, "near-duplicates")
    groups = merge_groups(copies, leaks.recommended.group).astype(np.int64)
    return Grouping(groups, copies, duplicates, leaks, f"{leaks.recommended.name}, and near-duplicates")


def near_duplicates(looked: Looked) -> DuplicateGroups:
    """Which of the images that were looked at are near-copies of one another."""
    # Centred, since pooled features are all positive and any two pictures of one kind would look alike.
    mean = looked.features.mean(0)  # (F,)
    # A picture that is the mean itself has no direction left: all such share one of their own.
    own = np.full((len(looked.features), 1), _NOTHING * (1 + np.linalg.norm(mean)), np.float32)
    rows = unit(np.hstack([looked.features - mean, own]))  # (n, F + 1)
    return duplicate_groups(rows, looked.dhash, sha=[facts.sha256 for facts in looked.facts])


def near_copies(known: Looked, rows: Labels, found: Looked) -> NDArray[np.bool_]:
    """Which of the found pictures, bool (s,), are near-copies of those rows of the known ones."""
    both = Looked(
        np.arange(len(rows) + len(found.indices)),
        np.concatenate([known.features[rows], found.features]),
        (*(known.facts[i] for i in rows), *found.facts),
        np.concatenate([known.dhash[rows], found.dhash]),
        (),
        0,
    )
    group = near_duplicates(both).group  # (m + s,)
    return np.asarray(np.isin(group[len(rows) :], group[: len(rows)]))


def conflicting(looked: Looked, labels: Labels) -> Sequence[int]:
    """Images whose very bytes stand under two labels."""
    by_hash: dict[str, list[int]] = {}
    for index, facts in enumerate(looked.facts):
        by_hash.setdefault(facts.sha256, []).append(index)
    twice = (rows for rows in by_hash.values() if len({int(labels[i]) for i in rows}) > 1)
    return sorted(index for rows in twice for index in rows)
