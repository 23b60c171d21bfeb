"""How many made pictures go with the real ones, and how much they weigh. Pure data: what trains does the rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anmok.errors import BadRequest
from anmok.synth.pictures import Provenance

MAX_RATIO = 10.0  # made pictures for each real one; more has not been seen to help
WEIGHT = 0.5  # of all made pictures of a class together, against all real ones of it
RATIOS: tuple[float, ...] = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0)  # what a sweep inside the development pool tries


@dataclass(frozen=True, slots=True, eq=False)
class Mix:
    """``indices`` int64 (k,): which of the made pictures are used, in order. ``real_weights`` float64 (n,) and
    ``made_weights`` float64 (k,): what each picture's loss is multiplied with; they average 1 over all of them."""

    ratio: float
    indices: NDArray[np.int64]
    real_weights: NDArray[np.float64]
    made_weights: NDArray[np.float64]


def usable(made: Sequence[Provenance], held_out: Collection[str]) -> NDArray[np.int64]:
    """Which made pictures may be learned from, int64 (k,): those that no held-out picture is in.

    ``held_out``: the SHA-256 (``Facts.sha256``) of every real picture that tests or calibrates. A made picture is its
    source but for one spot, so it must not be learned from where its source is tested on. Made pictures themselves
    are never held out.
    """
    kept = [i for i, one in enumerate(made) if not any(sha in held_out for sha in (one.group, *one.also))]
    return np.asarray(kept, np.int64)


def balance(real_labels: Sequence[str], made_labels: Sequence[str], ratio: float, weight: float = WEIGHT) -> Mix:
    """For each class up to ``ratio`` made pictures for every real one, which together weigh ``weight`` times what the
    real ones of that class weigh: more made pictures do not drown the real ones.

    The first pictures of a class are taken, so that a larger ratio holds all that a smaller one does. A class without
    real pictures is counted as if it had the median number of the others. Classes keep the weights that their numbers
    of real pictures give them.

    Raises:
        BadRequest: no real pictures, a ratio outside 0..10, or a weight outside 0..1.
    """
    if not real_labels:
        raise BadRequest("no real pictures: made ones alone show nothing that could be measured")
    if not (0 <= ratio <= MAX_RATIO and 0 <= weight <= 1):
        raise BadRequest(f"ratio {ratio} and weight {weight}: want 0..{MAX_RATIO:g} and 0..1")
    counts = Counter(real_labels)
    usual = float(np.median(list(counts.values())))
    taken: dict[str, list[int]] = {}
    for index, label in enumerate(made_labels):
        of_class = taken.setdefault(label, [])
        if len(of_class) < int(ratio * (counts[label] or usual) + 0.5):
            of_class.append(index)
    each = {label: weight * (counts[label] or usual) / len(rows) for label, rows in taken.items() if rows}
    indices = np.asarray(sorted(index for rows in taken.values() for index in rows), np.int64)  # (k,)
    made = np.asarray([each[made_labels[int(index)]] for index in indices], np.float64)  # (k,)
    scale = (len(real_labels) + len(made)) / (len(real_labels) + float(made.sum()))
    return Mix(ratio, indices, np.full(len(real_labels), scale), made * scale)
