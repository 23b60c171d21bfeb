"""The head of a classifier for another set of labels: what it learned of those that stay, texts for those that come."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from anmok.errors import BadRequest

Array = NDArray[np.floating]


def swap_head(weight: Array, old_labels: Sequence[str], new_labels: Sequence[str], texts: Array) -> Array:
    """The rows (K', D) of a linear head for ``new_labels``, of the weight's dtype.

    A label of both sets, spelled alike, keeps its row. Another one gets its text vector at the mean length of the old
    rows, so that its logits are of the same size: a start by zero-shot, not a trained class. A head with biases can
    carry them as a last column, with zeros in that of the texts.

    Args:
        weight: of the old head (K, D).
        old_labels: K of them.
        new_labels: K' of them, in the order of the new rows.
        texts: vectors (K', D) of the new labels, of any length but zero where they are needed.

    Raises:
        BadRequest: counts or widths that do not belong together, a label twice, or a text vector of zeros.
    """
    for name, labels, rows in (("old", old_labels, weight), ("new", new_labels, texts)):
        if rows.ndim != 2 or len(labels) != len(rows):
            raise BadRequest(f"{len(labels)} {name} labels and rows {rows.shape}: give one row for each label")
        if twice := [label for label in dict.fromkeys(labels) if list(labels).count(label) > 1]:
            raise BadRequest(f"the {name} labels have {twice[0]!r} more than once")
    if not old_labels or weight.shape[1] != texts.shape[1]:
        raise BadRequest(f"a head {weight.shape} and text vectors {texts.shape}: both must be D wide, of one space")
    place = {label: row for row, label in enumerate(old_labels)}
    length = float(np.linalg.norm(weight.astype(np.float64), axis=1).mean())
    rows = np.empty(texts.shape, weight.dtype)
    for row, label in enumerate(new_labels):
        if label in place:
            rows[row] = weight[place[label]]
            continue
        text = texts[row].astype(np.float64)
        if not (norm := float(np.linalg.norm(text))) > 0:
            raise BadRequest(f"the text vector of the new label {label!r} is zero or not a number")
        rows[row] = text * (length / norm)
    return rows
