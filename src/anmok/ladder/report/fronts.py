"""Four small charts: accuracy against labels, seconds, milliseconds and megabytes; no blended score."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from anmok.ladder.outcome import Outcome, Step
from anmok.ladder.report.curves import Look
from anmok.ladder.report.svg import Drawing, Point, Scale, log_ticks, ticks

_WIDTH, _HEIGHT = 440.0, 270.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 48.0, 22.0, 10.0, 50.0
_ZERO_SLOT = 58.0  # room at the left for a cost of 0, which has no logarithm
_LETTER = 8.0  # width of one letter of a name
_PLACES = ((1, 0), (-1, 0), (1, -11), (1, 11), (-1, -11), (-1, 11), (1, 22), (-1, 22))  # side, shift downwards

Box = tuple[float, float, float, float]  # left, top, right, bottom


@dataclass(frozen=True, slots=True)
class Dot:
    """One rung at a price.

    ``cheaper``: the price with cached features, where that differs. ``is_small``: a point of the learning
    curve, which carries no name.
    """

    key: str
    price: float
    accuracy: float
    cheaper: float | None = None
    is_small: bool = False


@dataclass(frozen=True, slots=True)
class Prices:
    """From a price to a place: a logarithm, and a slot of its own for 0."""

    log: Scale
    zero: float | None

    def __call__(self, price: float) -> float:
        return self.log(math.log10(price)) if price > 0 else self.zero or self.log.start


def fronts(outcome: Outcome, look: Look) -> dict[str, Markup]:
    """The charts by what they count: labels, seconds, milliseconds, megabytes. A price that is the same for every
    rung has no chart: it would show a single column."""
    curve = [Dot(step.key, step.labels, step.accuracy.value, is_small=True) for step in outcome.curve]
    seconds = [
        Dot(step.key, step.cold_seconds, step.accuracy.value, step.seconds if step.seconds else None)
        for step in outcome.steps
    ]
    dots = {
        "labels": [*curve, *_dots(outcome.steps, lambda step: step.labels)],
        "seconds": seconds,
        "milliseconds": _dots(outcome.steps, lambda step: step.ms_per_image),
        "megabytes": _dots(outcome.steps, lambda step: step.megabytes),
    }
    charts = {key: scatter(them, look, look.words[f"{key}_title"], look.words[key]) for key, them in dots.items()}
    return {key: chart for key, chart in charts.items() if chart}


def front(dots: Sequence[Dot]) -> list[Dot]:
    """Those that nothing cheaper or equally cheap beats, from cheap to dear."""
    kept: list[Dot] = []
    for dot in sorted(dots, key=lambda dot: (dot.price, -dot.accuracy)):
        if not kept or dot.accuracy > kept[-1].accuracy:
            kept.append(dot)
    return kept


def scatter(dots: Sequence[Dot], look: Look, title: str, price: str) -> Markup:
    """Accuracy (up) against a price (across, logarithmic); nothing where no two prices differ as they are written."""
    dots = [dot for dot in dots if math.isfinite(dot.price)]
    if len({_short(dot.price) for dot in dots}) < 2:
        return Markup("")
    named = [dot for dot in dots if not dot.is_small]
    about = "; ".join(f"{dot.key}: {_short(dot.price)}, {look.figures.percent(dot.accuracy)}" for dot in named)
    drawing = Drawing(_WIDTH, _HEIGHT, "chart front", title=title, about=about)
    across, up = _prices(dots), _accuracies(dots)
    _axes(drawing, across, up, look)
    drawing.text(((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 8), price, "label", "middle")
    _stairs(drawing, [(across(dot.price), up(dot.accuracy)) for dot in front(dots)], _WIDTH - _RIGHT)
    for dot in dots:
        _dot(drawing, dot, across, up, look)
    _names(drawing, named, across, up, look)
    return drawing.markup()


def _dots(steps: Sequence[Step], price: Callable[[Step], float]) -> list[Dot]:
    return [Dot(step.key, price(step), step.accuracy.value) for step in steps]


def _prices(dots: Sequence[Dot]) -> Prices:
    every = [dot.price for dot in dots] + [dot.cheaper for dot in dots if dot.cheaper is not None]
    real = [price for price in every if price > 0] or [1.0]
    low, high = math.log10(min(real)), math.log10(max(real))
    room = max(0.08 * (high - low), 0.2 if high - low > 0.1 else 0.35)
    has_zero = len(real) < len(every)
    start = _LEFT + (_ZERO_SLOT if has_zero else 0)
    scale = Scale(low - room, high + room, start, _WIDTH - _RIGHT)
    return Prices(scale, _LEFT + _ZERO_SLOT / 2 if has_zero else None)


def _accuracies(dots: Sequence[Dot]) -> Scale:
    values = [dot.accuracy for dot in dots]
    low, high = math.floor(min(values) * 20 - 0.5) / 20, math.ceil(max(values) * 20 + 0.5) / 20
    return Scale(max(low, 0.0), min(high, 1.0), _HEIGHT - _BOTTOM, _TOP)


def _axes(drawing: Drawing, across: Prices, up: Scale, look: Look) -> None:
    for value in ticks(up.low, up.high, 5):
        drawing.line((_LEFT, up(value)), (_WIDTH - _RIGHT, up(value)), "grid")
        drawing.text((_LEFT - 8, up(value) + 4), look.figures.percent(value, 0), "tick", "end")
    drawing.line((_LEFT, up.start), (_WIDTH - _RIGHT, up.start), "axis")
    if across.zero is not None:
        drawing.text((across.zero, up.start + 19), "0", "tick", "middle")
    for value in log_ticks(10**across.log.low, 10**across.log.high, 6):
        x = across(value)
        drawing.line((x, up.start), (x, up.start + 4), "axis")
        drawing.text((x, up.start + 19), _short(value), "tick", "middle")


def _stairs(drawing: Drawing, corners: Sequence[Point], right: float) -> None:
    path: list[Point] = []
    for x, y in corners:
        if path:
            path.append((x, path[-1][1]))
        path.append((x, y))
    path.append((right, path[-1][1]))
    drawing.path(path, "stairs")


def _dot(drawing: Drawing, dot: Dot, across: Prices, up: Scale, look: Look) -> None:
    series, centre = look.series[dot.key], (across(dot.price), up(dot.accuracy))
    if dot.cheaper is not None:
        hollow = (across(dot.cheaper), up(dot.accuracy))
        drawing.line(hollow, centre, f"leader s{series}")
        drawing.marker(series, hollow, 4.5, f"point hollow s{series}")
    drawing.marker(series, centre, 3 if dot.is_small else 5.5, f"point f{series}{' small' * dot.is_small}")


def _names(drawing: Drawing, dots: Sequence[Dot], across: Prices, up: Scale, look: Look) -> None:
    """The key beside each dot, at the first place where it covers no other name and no other dot."""
    centres = {dot: (across(dot.price), up(dot.accuracy)) for dot in dots}
    taken: list[Box] = []
    for dot in sorted(dots, key=lambda dot: -dot.accuracy):
        x, y = centres[dot]
        others = [_box(centre, 9, 9) for other, centre in centres.items() if other is not dot]
        width = _LETTER * len(dot.key)
        boxes = [_box((x + side * (9 + width / 2), y + down), width, 12) for side, down in _PLACES]
        free = [box for box in boxes if not any(_overlap(box, other) for other in (*taken, *others))]
        apart = [box for box in boxes if not any(_overlap(box, other) for other in taken)]
        box = (free or apart or boxes)[0]
        taken.append(box)
        left, _, right, bottom = box
        drawing.text(((left + right) / 2, bottom - 2), dot.key, f"name t{look.series[dot.key]}", "middle")


def _box(centre: Point, width: float, height: float) -> Box:
    x, y = centre
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _short(value: float) -> str:
    return f"{value / 1000:g}k" if value >= 1000 else f"{value:.3g}"
