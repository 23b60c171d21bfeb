"""Small bars: an accuracy with its interval in a table row, and the two bars of the leak."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from markupsafe import Markup

from anmok.evidence.intervals import Estimate
from anmok.ladder.report.figures import Figures
from anmok.ladder.report.svg import Drawing, Scale

_WIDTH, _HEIGHT, _INSET = 148.0, 20.0, 5.0


@dataclass(frozen=True, slots=True)
class Claim:
    """One bar of the leak: what it says, how sure, and how it is painted (``claimed`` or ``survives``)."""

    words: str
    estimate: Estimate
    style: str


def axis(estimates: Iterable[Estimate], marks: Iterable[float]) -> Scale:
    """The scale that all bars of a table share: tenths around everything that is drawn on it."""
    found = list(estimates)
    ends = [one.interval.low for one in found] + [one.interval.high for one in found] + list(marks)
    low = math.floor(min(ends, default=0.0) * 10 + 1e-9) / 10
    high = math.ceil(max(ends, default=1.0) * 10 - 1e-9) / 10
    return Scale(max(low, 0.0), min(max(high, low + 0.1), 1.0), _INSET, _WIDTH - _INSET)


def interval_bar(estimate: Estimate, scale: Scale, mark: float | None, style: str = "") -> Markup:
    """An interval as a bar, the value as a dot, ``mark`` as a dotted line; the numbers stand beside it."""
    drawing = Drawing(_WIDTH, _HEIGHT, f"bar {style}".strip())
    middle = _HEIGHT / 2
    drawing.line((scale.start, middle), (scale.end, middle), "track")
    if mark is not None:
        drawing.line((scale(mark), 1), (scale(mark), _HEIGHT - 1), "mark")
    low, high = scale(estimate.interval.low), scale(estimate.interval.high)
    drawing.rectangle((low, middle - 3.5), max(high - low, 2), 7, "range", 3.5)
    drawing.marker(0, (scale(estimate.value), middle), 4, "dot")
    return drawing.markup()


def leak_bars(claims: Iterable[Claim], majority: tuple[float, str], figures: Figures, title: str) -> Markup:
    """Two bars from 0 to 100 %, whiskers for the intervals, the majority class as a dotted line."""
    shown = list(claims)
    width, pitch, top = 400.0, 62.0, 12.0
    height = top + pitch * len(shown) + 26
    about = "; ".join(f"{claim.words}: {figures.estimate(claim.estimate)}" for claim in shown)
    drawing = Drawing(width, height, "chart leak", title=title, about=about)
    scale = Scale(0, 1, 1, width - 1)
    for k, claim in enumerate(shown):
        y = top + k * pitch
        drawing.text((scale.start, y + 10), claim.words, "label")
        drawing.text((scale.end, y + 10), figures.percent(claim.estimate.value), "value", "end")
        drawing.rectangle((scale.start, y + 20), scale.end - scale.start, 22, "track-bar")
        drawing.rectangle((scale.start, y + 20), scale(claim.estimate.value) - scale.start, 22, claim.style)
        _whisker(drawing, claim.estimate, scale, y + 31)
    share, words = majority
    bottom = top + pitch * len(shown) - 8
    drawing.line((scale(share), top + 16), (scale(share), bottom), "mark")
    anchor = "end" if share > 0.5 else "start"
    drawing.text((scale(share), bottom + 18), f"{words} {figures.percent(share)}", "label muted", anchor)
    return drawing.markup()


def _whisker(drawing: Drawing, estimate: Estimate, scale: Scale, y: float) -> None:
    low, high = scale(estimate.interval.low), scale(estimate.interval.high)
    drawing.line((low, y), (high, y), "whisker")
    for x in (low, high):
        drawing.line((x, y - 4), (x, y + 4), "whisker")
