"""How an artefact settles on one label: the cheapest by its costs, or an alarm above a threshold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from anmok.results import Scores

Rows = NDArray[np.float64]

_TIE = 1e-9  # of the largest cost: answers as cheap as that are equally cheap
_LEAST = 1e-45  # of a score that was too small for its type


@dataclass(frozen=True, slots=True)
class Decision:
    """What is answered to logits at the artefact's temperature, where that is not simply the likeliest label.

    ``costs``: the answer with the least expected cost by ``matrix`` (K, K), truth by answer; the chances are weighted
    by ``weights`` (K,) first, which is how much more often a class comes than it was learned from. ``overkill``: the
    label number ``good``, unless the log-odds against it lie above ``alarm_above``; then the likeliest other.
    """

    kind: Literal["costs", "overkill"]
    matrix: tuple[tuple[float, ...], ...] = ()
    weights: tuple[float, ...] = ()
    good: int = 0
    alarm_above: float = 0.0

    def answers(self, logits: Rows) -> NDArray[np.int64]:
        """(n, K) logits to (n,) label numbers."""
        if self.kind == "overkill":
            is_alarm = odds_against(logits, self.good) > self.alarm_above  # (n,)
            others = logits.copy()
            others[:, self.good] = -np.inf
            return np.asarray(np.where(is_alarm, others.argmax(1), self.good), np.int64)
        chance = np.exp(logits - logits.max(1, keepdims=True)) * np.asarray(self.weights)  # (n, K)
        chance = chance / np.maximum(chance.sum(1, keepdims=True), 1e-300)
        matrix = np.asarray(self.matrix)
        expected = chance @ matrix  # (n, K)
        tie = _TIE * float(np.ptp(matrix, axis=1).max())
        is_cheapest = expected <= expected.min(1, keepdims=True) + tie
        return np.asarray(np.where(is_cheapest, chance, -1.0).argmax(1), np.int64)

    def settings(self, labels: Sequence[str]) -> dict[str, Any]:
        """For ``anmok.toml``."""
        if self.kind == "overkill":
            return {"kind": self.kind, "good": labels[self.good], "alarm_above": self.alarm_above}
        return {"kind": self.kind, "matrix": [list(row) for row in self.matrix], "weights": list(self.weights)}

    @classmethod
    def built(cls, settings: Mapping[str, Any], labels: Sequence[str]) -> Decision:
        """From what ``settings`` gave.

        Raises:
            KeyError, ValueError, TypeError: they are not of that form, or not of these labels.
        """
        if settings["kind"] == "overkill":
            return cls("overkill", good=labels.index(settings["good"]), alarm_above=float(settings["alarm_above"]))
        if settings["kind"] != "costs":
            raise ValueError(f"a decision of kind {settings['kind']!r}")
        matrix = tuple(tuple(float(cost) for cost in row) for row in settings["matrix"])
        weights = tuple(float(weight) for weight in settings["weights"])
        if {len(row) for row in (matrix, weights, *matrix)} != {len(labels)}:
            raise ValueError(f"a decision that is not about {len(labels)} labels")
        return cls("costs", matrix, weights)


def odds_against(logits: Rows, good: int) -> Rows:
    """(n, K) to (n,) the logarithm of the odds that it is any label but number ``good``."""
    others = np.delete(logits, good, axis=1)  # (n, K - 1)
    top = others.max(1)
    return np.asarray(top + np.log(np.exp(others - top[:, None]).sum(1)) - logits[:, good])


def logits_of(scores: Scores) -> Rows:
    """(K,) logits, but for a constant, that gave the scores."""
    values = np.maximum(scores.scores.astype(np.float64), _LEAST)  # (K,)
    if scores.scoring == "softmax":
        return np.asarray(np.log(values))
    return np.asarray(np.log(values) - np.log(np.maximum(1.0 - values, 1e-8)))
