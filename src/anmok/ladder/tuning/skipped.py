"""A rung that was not begun."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Skipped:
    """``why``: in words for the report."""

    key: str
    why: str
