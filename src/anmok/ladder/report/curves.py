"""The learning curves: accuracy against labels per class, with bands, and zero-shot as level lines."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from anmok.evidence.intervals import Estimate
from anmok.ladder.outcome import Step
from anmok.ladder.report.figures import Figures
from anmok.ladder.report.svg import Drawing, Point, Scale, spaced, ticks

_LABEL_GAP = 17.0
_BREAK = 1.6  # between the last number of labels and "all", in doublings


@dataclass(frozen=True, slots=True)
class Look:
    """Everything a chart needs besides the data.

    ``series``: position of a rung's key in the ladder, which fixes its colour and marker on the whole page.
    ``names``: by key. ``accuracy``: the words on the upright axis.
    """

    figures: Figures
    words: Mapping[str, str]
    series: Mapping[str, int]
    names: Mapping[str, str]
    accuracy: str


@dataclass(frozen=True, slots=True)
class _Frame:
    drawing: Drawing
    across: Scale
    up: Scale
    look: Look
    is_wide: bool


@dataclass(frozen=True, slots=True)
class _Label:
    words: str
    y: float
    style: str


def learning_curves(
    curve: Sequence[Step], steps: Sequence[Step], majority: float | None, look: Look, *, is_wide: bool
) -> Markup:
    """``curve``: few-shot steps. ``steps``: the ladder. Two sizes, for a desk and for a telephone."""
    width, height = (900.0, 440.0) if is_wide else (400.0, 340.0)
    shots = sorted({step.shots for step in curve if step.shots})
    learned = [step for step in steps if step.labels]
    level = [step for step in steps if not step.labels]
    end = math.log2(shots[-1]) + (_BREAK if learned else 0.3)
    title, about = look.words["title"], look.words["about"]
    drawing = Drawing(width, height, "chart " + ("wide" if is_wide else "narrow"), title=title, about=about)
    across = Scale(math.log2(shots[0]) - 0.25, end + 0.15, 48, width - (200 if is_wide else 44))
    up = _accuracies([step.accuracy for step in (*curve, *steps)], majority, height - 50, 26)
    frame = _Frame(drawing, across, up, look, is_wide)
    _axes(frame, shots, end if learned else None)
    labels = [_level(frame, step) for step in level]
    if majority is not None:
        labels.extend(_majority(frame, majority))
    for key in dict.fromkeys(step.key for step in curve):
        points = sorted((step for step in curve if step.key == key), key=lambda step: step.shots or 0)
        everything = next((step for step in learned if step.key == key), None)
        labels.append(_series(frame, points, everything, end))
    _write(frame, labels)
    return drawing.markup()


def _accuracies(estimates: Sequence[Estimate], majority: float | None, bottom: float, top: float) -> Scale:
    ends = [bound for one in estimates for bound in (one.interval.low, one.interval.high)]
    ends += [] if majority is None else [majority]
    low, high = math.floor(min(ends) * 20 + 1e-9) / 20, math.ceil(max(ends) * 20 - 1e-9) / 20
    return Scale(max(low, 0.0), min(max(high, low + 0.1), 1.0), bottom, top)


def _axes(frame: _Frame, shots: Sequence[int], everything: float | None) -> None:
    drawing, across, up, words = frame.drawing, frame.across, frame.up, frame.look.words
    for value in ticks(up.low, up.high, 7):
        drawing.line((across.start, up(value)), (across.end, up(value)), "grid")
        percent = frame.look.figures.percent(value, 0)
        drawing.text((across.start - 8, up(value) + 4), percent, "tick", "end")
    for count in shots:
        drawing.text((across(math.log2(count)), up.start + 20), str(count), "tick", "middle")
    if everything is not None:
        drawing.text((across(everything), up.start + 20), words["all"], "tick", "middle")
        for shift in (-4, 2):  # the axis is broken here: "all" is not a doubling
            x = across(everything - _BREAK / 2) + shift
            drawing.line((x - 2, up.start + 5), (x + 4, up.start - 5), "axis")
    drawing.line((across.start, up.start), (across.end, up.start), "axis")
    drawing.text(((across.start + across.end) / 2, up.start + 42), words["x"], "label", "middle")
    drawing.text((2, 12), frame.look.accuracy, "label")


def _level(frame: _Frame, step: Step) -> _Label:
    series, y = frame.look.series[step.key], frame.up(step.accuracy.value)
    frame.drawing.line((frame.across.start, y), (frame.across.end, y), f"level s{series}")
    return _Label(_called(frame, step.key), y, f"name t{series}")


def _majority(frame: _Frame, share: float) -> list[_Label]:
    """Its name stands at the right end; where the margin is for keys only, the legend below has it."""
    y, words = frame.up(share), frame.look.words["majority"]
    frame.drawing.line((frame.across.start, y), (frame.across.end, y), "mark")
    return [_Label(words, y, "name muted")] if frame.is_wide else []


def _series(frame: _Frame, points: Sequence[Step], everything: Step | None, end: float) -> _Label:
    drawing, series = frame.drawing, frame.look.series[points[0].key]
    at = [(math.log2(step.shots or 1), step.accuracy) for step in points]
    if everything is not None:
        at.append((end, everything.accuracy))
    upper = [(frame.across(x), frame.up(one.interval.high)) for x, one in at]
    lower = [(frame.across(x), frame.up(one.interval.low)) for x, one in at]
    drawing.path([*upper, *reversed(lower)], f"band f{series} s{series}", is_closed=True)
    middle: list[Point] = [(frame.across(x), frame.up(one.value)) for x, one in at]
    solid = middle if everything is None else middle[:-1]
    drawing.path(solid, f"curve s{series}")
    if everything is not None:
        drawing.path(middle[-2:], f"curve gap s{series}")
    for centre in middle:
        drawing.marker(series, centre, 4.2, f"point f{series}")
    return _Label(_called(frame, points[0].key), middle[-1][1], f"name t{series}")


def _called(frame: _Frame, key: str) -> str:
    return f"{key}  {frame.look.names[key]}" if frame.is_wide else key


def _write(frame: _Frame, labels: Sequence[_Label]) -> None:
    """Names at the right end, apart from each other, with a hair line to where they belong."""
    x = frame.across.end
    heights = spaced([label.y for label in labels], _LABEL_GAP, frame.up.end, frame.up.start)
    for label, y in zip(labels, heights, strict=True):
        frame.drawing.line((x + 2, label.y), (x + 12, y), "leader")
        frame.drawing.text((x + 16, y + 4), label.words, label.style)
