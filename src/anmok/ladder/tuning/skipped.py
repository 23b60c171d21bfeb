"""A rung that was not begun."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Skipped:
    """``why``: in words for the report."""

    key: str
    why: str


def too_long(seconds: float, share: float = 1.0) -> str:
    """Why a rung that takes so long was not begun, and a budget, a little more than is needed, that would do. ``share``
    of a budget is what the rung may have."""
    spoken = f"{seconds:.0f} seconds" if seconds < 90 else f"{seconds / 60:.0f} minutes"
    return f"it would take about {spoken}: --budget {max(1, int(seconds / share * 1.3 / 60) + 1)}m"
