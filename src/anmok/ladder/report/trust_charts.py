"""Two small charts about single answers: what a score means, and how many errors are left where only sure ones are
given."""

from __future__ import annotations

from markupsafe import Markup

from anmok.ladder.outcome import Outcome
from anmok.ladder.outcome_trust import Abstaining, Calibrated
from anmok.ladder.report.figures import Figures, Lang
from anmok.ladder.report.phrases import texts
from anmok.ladder.report.svg import Drawing, Scale, ticks

_WIDTH, _HEIGHT = 440.0, 300.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 52.0, 18.0, 26.0, 50.0


def trust_charts(outcome: Outcome, lang: Lang) -> dict[str, Markup]:
    """By name: ``reliability``, ``risk``; those for which there are figures."""
    trust = outcome.trust
    found: dict[str, Markup] = {}
    if trust is not None and trust.calibration is not None:
        found["reliability"] = reliability(trust.calibration, lang)
    abstaining = None if trust is None or outcome.priced is not None else trust.abstaining
    if abstaining is not None and len(abstaining.curve) > 1:
        found["risk"] = risk(abstaining, lang)
    return found


def reliability(found: Calibrated, lang: Lang) -> Markup:
    """Accuracy (up) against confidence (across), after the correction; on the dotted line a score means what it
    says. Hollow: before."""
    words, figures = texts(lang)["trust"], Figures(lang)
    bars = found.after.bars
    about = "; ".join(f"{figures.percent(one.confidence, 0)}: {figures.percent(one.accuracy, 0)}" for one in bars)
    drawing = Drawing(_WIDTH, _HEIGHT, "chart", title=words["reliability_title"], about=about)
    low = min(one.confidence for one in (*bars, *found.before.bars))
    across, up = _scales(max(int(low * 10) / 10, 0.0), (0.0, 1.0))
    _axes(drawing, across, up, (words["confidence"], words["accuracy"]), figures)
    drawing.line((across(across.low), up(across.low)), (across(1.0), up(1.0)), "mark")
    if found.is_fitted:
        for one in found.before.bars:
            drawing.marker(3, (across(one.confidence), up(one.accuracy)), 3.6, "hollow s3")
    drawing.path([(across(one.confidence), up(one.accuracy)) for one in bars], "curve s4")
    for one in bars:
        drawing.marker(0, (across(one.confidence), up(one.accuracy)), 4.2, "point f4")
    return drawing.markup()


def risk(found: Abstaining, lang: Lang) -> Markup:
    """Errors among the answered (up) against the share answered (across). Dotted: the errors that were asked for."""
    words, figures = texts(lang)["trust"], Figures(lang)
    top = max(max(point.risk for point in found.curve), found.at_most * 1.5)
    last = found.curve[-1]
    about = f"{figures.percent(last.coverage, 0)}: {figures.percent(last.risk)}"
    drawing = Drawing(_WIDTH, _HEIGHT, "chart", title=words["risk_title"], about=about)
    across, up = _scales(0.0, (0.0, min(top * 1.05, 1.0)))
    _axes(drawing, across, up, (words["answered"], words["errors"]), figures)
    drawing.line((across.start, up(found.at_most)), (across.end, up(found.at_most)), "mark")
    drawing.path([(across(point.coverage), up(point.risk)) for point in found.curve], "curve s4")
    if found.answered is not None:
        wrong = 0.0 if found.errors is None else found.errors.value
        drawing.marker(0, (across(found.answered.value), up(wrong)), 5, "point f4")
    return drawing.markup()


def _scales(low: float, span: tuple[float, float]) -> tuple[Scale, Scale]:
    return Scale(low, 1.0, _LEFT, _WIDTH - _RIGHT), Scale(*span, _HEIGHT - _BOTTOM, _TOP)


def _axes(drawing: Drawing, across: Scale, up: Scale, names: tuple[str, str], figures: Figures) -> None:
    for value in ticks(up.low, up.high, 6):
        drawing.line((across.start, up(value)), (across.end, up(value)), "grid")
        drawing.text((across.start - 8, up(value) + 4), figures.percent(value, 0), "tick", "end")
    for value in ticks(across.low, across.high, 6):
        drawing.text((across(value), up.start + 20), figures.percent(value, 0), "tick", "middle")
    drawing.line((across.start, up.start), (across.end, up.start), "axis")
    drawing.text(((across.start + across.end) / 2, up.start + 42), names[0], "label", "middle")
    drawing.text((2, 14), names[1], "label")
