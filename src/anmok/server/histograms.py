"""Histograms that are written out fast: a server of twenty models has thousands of their lines, for which
``prometheus_client`` takes thirty milliseconds, too much for the loop that answers requests.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

_ESCAPES: Final = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


class Histograms:
    """One metric with a histogram for each tuple of labels. Safe to share between threads.

    ``bounds`` are the upper ends of the buckets, ascending and finite; a last one for all that is larger is added.
    """

    def __init__(self, name: str, text: str, labels: Sequence[str], bounds: Sequence[float]) -> None:
        self.name = name
        self._text = text
        self._labels = tuple(labels)
        self._bounds = tuple(float(bound) for bound in bounds)
        self._ends = (*(repr(bound) for bound in self._bounds), "+Inf")
        self._lock = threading.Lock()
        self._rows: dict[tuple[str, ...], _Row] = {}

    def observe(self, labels: tuple[str, ...], values: Sequence[float]) -> None:
        """Counts all of the values."""
        with self._lock:
            row = self._rows.get(labels)
            if row is None:
                row = self._rows[labels] = _Row(self._prefixes(labels), [0] * len(self._ends))
            for value in values:
                row.counts[bisect_left(self._bounds, value)] += 1
                row.total += value

    def written(self) -> str:
        """As text, which is the same in Prometheus' format and in OpenMetrics."""
        lines = [f"# HELP {self.name} {self._text}\n# TYPE {self.name} histogram\n"]
        for prefixes, counts, total in self._taken():
            values = (*counts, counts[-1], total)
            lines += [f"{prefix}{float(value)!r}\n" for prefix, value in zip(prefixes, values, strict=True)]
        return "".join(lines)

    def _taken(self) -> list[tuple[tuple[str, ...], list[int], float]]:
        """Prefixes, cumulated counts and sum of each row, all of one moment."""
        with self._lock:
            return [(row.prefixes, list(accumulate(row.counts)), row.total) for row in self._rows.values()]

    def _prefixes(self, labels: tuple[str, ...]) -> tuple[str, ...]:
        """All of a row's lines up to their values: the buckets, the count and the sum."""
        pairs = [f'{name}="{value.translate(_ESCAPES)}"' for name, value in zip(self._labels, labels, strict=True)]
        buckets = [",".join(sorted([*pairs, f'le="{end}"'])) for end in self._ends]
        plain = ",".join(sorted(pairs))
        ends = (f"{self.name}_count{{{plain}}} ", f"{self.name}_sum{{{plain}}} ")
        return (*(f"{self.name}_bucket{{{bucket}}} " for bucket in buckets), *ends)


@dataclass(slots=True, eq=False)
class _Row:
    """One tuple of labels: its lines up to their values, the count of each bucket alone, and the sum."""

    prefixes: tuple[str, ...]
    counts: list[int]
    total: float = 0.0
