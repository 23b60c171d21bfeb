"""The page: what the templates need, worked out from the outcome. Nothing is fetched or measured anew."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from anmok.errors import BadMedia
from anmok.ladder.outcome import ClassRow, Comparison, Control, Outcome, Step
from anmok.ladder.outcome_trust import Saving
from anmok.ladder.report.bars import Claim, axis, interval_bar, leak_bars
from anmok.ladder.report.curves import Look, learning_curves
from anmok.ladder.report.facts import (
    MAJORITY,
    METADATA,
    SHOWN_PAIRS,
    SHOWN_SUSPECTS,
    Facts,
    claim,
    contrast,
    facts,
    gain,
)
from anmok.ladder.report.figures import Figures, Lang, tied
from anmok.ladder.report.fronts import fronts
from anmok.ladder.report.josa import with_particle
from anmok.ladder.report.phrases import phrase, rung_called, rung_name, texts
from anmok.ladder.report.sentences import answers, doubling, next_steps, pricing, verdict, weak_spot
from anmok.ladder.report.svg import MARKERS, Drawing
from anmok.ladder.report.trust_charts import trust_charts
from anmok.ladder.report.trust_words import Answering
from anmok.ladder.settling import MOST

SHOWN_CLASSES = 25
SHOWN_CONFUSIONS, EXAMPLES = 12, 6
SECTIONS = ("verdict", "ladder", "trust", "curves", "fronts", "classes", "images", "controls", "honesty", "reproduce")

_MAGIC = ((b"\xff\xd8\xff", "jpeg"), (b"\x89PNG\r\n\x1a\n", "png"), (b"RIFF", "webp"))
_GLYPHS = {"BETTER": "▲", "WORSE": "▼", "SAME": "=", "CANNOT TELL": "?"}


@dataclass(frozen=True, slots=True)
class Rung:
    """A row of the ladder table."""

    step: Step
    name: str
    bar: Markup
    series: int
    comparison: Comparison | None
    is_recommended: bool
    is_highest: bool


@dataclass(frozen=True, slots=True)
class Word:
    """A verdict of a comparison or of a control: never told by colour alone."""

    text: str
    glyph: str
    style: str


def render_page(
    outcome: Outcome, thumbnails: Mapping[int, bytes], lang: Lang = "en", *, has_predictions: bool = False
) -> str:
    """The whole report as one HTML document. Raises `BadMedia` for a thumbnail that no browser would show."""
    known = facts(outcome)
    context = {
        "lang": lang,
        "t": texts(lang),
        "outcome": outcome,
        "facts": known,
        "sections": SECTIONS,
        "style": Markup(files("anmok.ladder.report").joinpath("style.css").read_text(encoding="utf-8")),
        "verdict": verdict(outcome, lang),
        "weak_spot": weak_spot(outcome, lang),
        "answers": answers(outcome, lang),
        "next_steps": next_steps(outcome, lang),
        "has_predictions": has_predictions,
        "doubling": doubling(outcome, lang),
        "majority_label": _majority_label(known, lang),
        "choice": texts(lang)["choice"][known.standing],
        "rungs": _rungs(known, lang),
        "word": lambda found: _word(outcome, found, lang),
        "gain": lambda found: gain(outcome, found),
        "finding": lambda control: _finding(outcome, control, lang),
        "labelled": lambda index: "" if index is None else outcome.data.classes[index],
        "grouped": lambda control: known.keeps_groups and control.name.startswith(METADATA),
        "leaking": _leaking(outcome),
        **_draws(outcome),
        "unlisted": known.mistakes - sum(one.count for one in outcome.confusions[:SHOWN_CONFUSIONS]),
        "called": lambda key: rung_called(outcome, key, lang),
        "thumbnail": {index: data_uri(index, picture) for index, picture in thumbnails.items()},
        "most": MOST,
        "shots": sorted({step.shots for step in outcome.curve if step.shots}),
        "limits": {
            "confusions": SHOWN_CONFUSIONS,
            "examples": EXAMPLES,
            "suspects": SHOWN_SUSPECTS,
            "pairs": SHOWN_PAIRS,
        },
        **_charts(known, lang),
        **_classes(known),
        **_trusted(outcome, lang),
    }
    return environment(lang).get_template("page.html.j2").render(context)


def _draws(outcome: Outcome) -> dict[str, Any]:
    """Over how many draws a point of the curves is averaged; tuned rungs have fewer."""
    draws = max((step.draws for step in outcome.curve), default=1)
    few = [step for step in outcome.curve if step.draws < draws]
    keys = tuple(dict.fromkeys(step.key for step in few))
    return {"draws": draws, "fewer": keys, "fewer_draws": max((step.draws for step in few), default=draws)}


def _trusted(outcome: Outcome, lang: Lang) -> dict[str, Any]:
    """About single answers, and about what errors cost."""
    return {
        "trust": Answering(outcome, lang),
        "trust_charts": trust_charts(outcome, lang),
        "pricing": pricing(outcome, lang),
        "rung_names": {step.key: rung_name(step, lang) for step in outcome.steps},
    }


@cache
def environment(lang: Lang) -> Environment:
    """Where the templates are, with figures written in ``lang``."""
    made = Environment(
        loader=PackageLoader("anmok.ladder.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    figures = Figures(lang)
    numbers: dict[str, Callable[..., str]] = {
        "count": figures.count,
        "found": figures.found,
        "percent": figures.percent,
        "confidence": figures.confidence,
        "span": figures.span,
        "estimate": figures.estimate,
        "points": figures.points,
        "width": figures.width,
        "duration": figures.duration,
        "milliseconds": figures.milliseconds,
        "megabytes": figures.megabytes,
        "ratio": figures.ratio,
        "p_value": figures.p_value,
    }
    made.filters |= {name: _tying(written) for name, written in numbers.items()}
    made.filters |= {
        "tied": tied,
        "said": lambda text: _said(text, lang),
        "name": lambda text: Markup("<bdi>{}</bdi>").format(text),
        "file_name": lambda text: Markup("<bdi>{}</bdi>").format(_breakable(text)),
        "gain_span": lambda found: tied(figures.points_span(found.low, found.high)),
    }
    return made


def _tying(written: Callable[..., str]) -> Callable[..., str]:
    return lambda value: tied(written(value))


def _said(text: str, lang: Lang) -> Markup:
    found = phrase(text, lang)
    is_plain = found.is_translated or re.search("[가-힣]", text) is not None
    return escape(found.text) if is_plain else Markup('<span lang="en">{}</span>').format(found.text)


def _breakable(name: str) -> Markup:
    """A file name that may go on in the next line after a slash or an underscore, before it is cut anywhere else."""
    return Markup(re.sub("(?<=[/_])(?=.)", "<wbr>", str(escape(name))))


def _rungs(known: Facts, lang: Lang) -> list[Rung]:
    outcome = known.outcome
    majority = None if known.majority is None else known.majority.accuracy.value
    scale = axis([step.accuracy for step in outcome.steps], [] if majority is None else [majority])
    return [
        Rung(
            step=step,
            name=rung_name(step, lang),
            bar=interval_bar(step.accuracy, scale, majority),
            series=k % MARKERS,
            comparison=contrast(outcome, step.key),
            is_recommended=step.key == known.chosen.key,
            is_highest=step.key == known.best.key,
        )
        for k, step in enumerate(outcome.steps)
    ]


def _majority_label(known: Facts, lang: Lang) -> str:
    name = known.majority_class
    particle = with_particle(name, "이라").removeprefix(name)
    return texts(lang)["verdict"]["majority"].format(name=name, particle=particle)


def _word(outcome: Outcome, found: Comparison | Saving, lang: Lang) -> Word:
    word = claim(outcome, found)
    return Word(texts(lang)["words"][word], _GLYPHS[word], word.lower().replace(" ", "-"))


def _finding(outcome: Outcome, control: Control, lang: Lang) -> Word:
    """Whether a control beats the largest class. One that is far below it knows nothing, which is no merit."""
    words = texts(lang)["controls"]
    if control.against is not None:
        found = _word(outcome, control.against, lang)
        return Word(words["against"].format(key=control.against.key, word=found.text), found.glyph, found.style)
    if control.is_suspicious:
        return Word(words["suspicious"], "!", "worse")
    if control.name == MAJORITY:
        return Word(words["reference"], "·", "same")
    if control.accuracy.interval.high < control.expected:
        return Word(words["below"], "·", "same")
    return Word(words["fine"], "✓", "same")


def _leaking(outcome: Outcome) -> Step | None:
    """The rung that shows what the leak does, on the sealed test."""
    rung = None if outcome.leak is None else outcome.leak.rung
    return next((step for step in outcome.steps if rung in (step.key, step.rung)), None)


def _classes(known: Facts) -> dict[str, Any]:
    rows = sorted(known.outcome.per_class, key=lambda row: row.recall.value if row.tested else 2.0)
    scale = axis([row.recall for row in rows if row.tested], [])
    drawn: Sequence[tuple[ClassRow, Markup]] = [
        (row, interval_bar(row.recall, scale, None) if row.tested else Markup("")) for row in rows
    ]
    return {"class_rows": drawn[:SHOWN_CLASSES], "class_rest": drawn[SHOWN_CLASSES:], "class_ends": scale}


def _charts(known: Facts, lang: Lang) -> dict[str, Any]:
    outcome, words = known.outcome, texts(lang)
    accuracy = words["curves"]["y"]
    if outcome.is_development:
        accuracy += f" ({words['page']['development']})"
    look = Look(
        figures=Figures(lang),
        words=words["curves"],
        series={step.key: k % MARKERS for k, step in enumerate(outcome.steps)},
        names={step.key: rung_name(step, lang) for step in outcome.steps},
        accuracy=accuracy,
    )
    majority = None if known.majority is None else known.majority.accuracy.value
    sizes = (True, False) if any(step.shots for step in outcome.curve) else ()
    return {
        "curves": [learning_curves(outcome.curve, outcome.steps, majority, look, is_wide=wide) for wide in sizes],
        "fronts": fronts(outcome, replace(look, words=words["fronts"])),
        "swatches": {step.key: _swatch(look.series[step.key]) for step in outcome.steps},
        "leak_chart": _leak_chart(outcome, lang),
        "bar_ends": axis([step.accuracy for step in outcome.steps], [] if majority is None else [majority]),
    }


def _swatch(series: int) -> Markup:
    drawing = Drawing(14, 14, "swatch")
    drawing.marker(series, (7, 7), 4.6, f"point f{series}")
    return drawing.markup()


def _leak_chart(outcome: Outcome, lang: Lang) -> Markup:
    leak, words = outcome.leak, texts(lang)["controls"]
    if leak is None:
        return Markup("")
    claims = (
        Claim(words["claimed"], leak.random_split, "claimed"),
        Claim(words["survives"], leak.group_split, "survives"),
    )
    title = words["leak_chart"].format(rung=rung_called(outcome, leak.rung, lang))
    return leak_bars(claims, (leak.majority, words["majority"]), Figures(lang), title)


def data_uri(index: int, picture: bytes) -> str:
    """A picture inside the page. Raises `BadMedia` for one that no browser would show."""
    for magic, kind in _MAGIC:
        if picture.startswith(magic):
            return f"data:image/{kind};base64,{base64.b64encode(picture).decode('ascii')}"
    raise BadMedia(f"thumbnail of image {index}: neither JPEG, PNG nor WEBP; make it with Pillow's JPEG writer")
