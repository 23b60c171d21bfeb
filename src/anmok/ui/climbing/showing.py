"""A climb as HTML: how far it is, its rungs with their intervals, the verdict, and the report in a frame of its own."""

from __future__ import annotations

import html
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Final, Literal, cast

from anmok.ladder.outcome import Outcome, Step
from anmok.ladder.report import answers, verdict
from anmok.ladder.report.bars import axis, interval_bar
from anmok.ladder.report.curves import Look, learning_curves
from anmok.ladder.report.facts import facts
from anmok.ladder.report.figures import Figures, tied
from anmok.ladder.report.phrases import rung_name, rung_word, spoken, texts
from anmok.ladder.report.svg import MARKERS
from anmok.ladder.rungs.order import RUNGS
from anmok.ladder.tally import RUNG
from anmok.ui.climbing.ascending import REPORT, Counted
from anmok.ui.climbing.jobs import Job
from anmok.ui.texts import Words

Lang = Literal["en", "ko"]

_STYLE: Final = "climb.css"  # beside this module


def lang_of(words: Words) -> Lang:
    """The language of the ladder's own sentences."""
    return cast(Lang, words.language)


def classes(words: Words, found: Counted) -> str:
    """Classes and counts of a folder, with what is odd about it."""
    lang = lang_of(words)
    most = max(found.counts, default=1)
    rows = "".join(
        f'<tr><th scope="row"><bdi>{html.escape(name)}</bdi></th><td class="number">{count:,}</td>'
        f'<td style="width:50%" aria-hidden="true"><div style="height:10px;width:{100 * count / max(most, 1):.1f}%;'
        'background:var(--climb-bar);border-radius:2px"></div></td></tr>'
        for name, count in zip(found.classes, found.counts, strict=True)
    )
    warned = "".join(f'<p class="soft">{html.escape(spoken(text, lang))}</p>' for text in found.warnings)
    total = words("climb.counted", f"{sum(found.counts):,}", len(found.classes))
    heads = f'<th scope="col">{words("climb.class")}</th><th scope="col" class="number">{words("climb.images")}</th>'
    return _framed(
        f"<p><b>{html.escape(found.title)}</b>: {total}</p>"
        f"<table><thead><tr>{heads}<td></td></tr></thead><tbody>{rows}</tbody></table>{warned}"
    )


def state(words: Words, job: Job, *, can_serve: bool, trouble: str = "") -> str:
    """Where a climb is, and every rung that has answered. Where the page cannot serve the winner, the command does.
    ``trouble`` is what is said of a climb that failed."""
    told = [f"<p><b><bdi>{html.escape(job.called)}</bdi></b> · {html.escape(job.model)}</p>"]
    match job.state:
        case "waiting":
            told.append(_live(words("climb.state.waiting")))
        case "running":
            told.append(_running(words, job))
        case "stopped":
            told.append(_live(words("climb.state.stopped")))
        case "failed":
            told.append(_live(trouble))
        case "done":
            told.append(_verdict(words, job))
    if job.steps:
        told.append(_rungs(words, job.steps, job.outcome))
    if job.outcome is not None:
        told += [_curves(words, job.outcome), _answers(words, job.outcome)]
        told.append("" if can_serve else f"<p>{words('climb.serve_yourself')} <code>anmok serve ./best</code></p>")
    return _framed("".join(told))


def report(words: Words, job: Job) -> str:
    """The report's page in a frame that may do nothing; empty where there is none."""
    if job.state != "done":
        return ""
    page = (job.folder / words.language / REPORT).read_text(encoding="utf-8")
    title = html.escape(words("climb.report"))
    return f'<iframe class="anmok-report" sandbox="" title="{title}" srcdoc="{html.escape(page)}"></iframe>'


def _framed(inner: str) -> str:
    return f'{_style()}<div class="anmok-climb">{inner}</div>'


def _live(text: str) -> str:
    return f'<p role="status" class="lead">{html.escape(text)}</p>'


def _running(words: Words, job: Job) -> str:
    text = html.escape(_stage(words, job))
    bar = f' value="{job.done}" max="{job.total}"' if job.total > 1 else ""
    stopping = f"<p>{words('climb.state.stopping')}</p>" if job.is_enough() else ""
    return f'<p role="status">{text}</p><progress{bar} aria-label="{text}"></progress>{stopping}'


def _stage(words: Words, job: Job) -> str:
    """What is going on: of a rung its name, since only it can say how much of it is left."""
    lang, stage = lang_of(words), job.stage or "beginning"
    done, total = f"{job.done:,}", f"{job.total:,}"
    if stage.startswith(RUNG):
        key = stage.removeprefix(RUNG)
        return words("climb.stage.rung", f"{key} {rung_word(key, lang)}", done, total)
    trained = next((key for key, rung in RUNGS.items() if rung.name == stage), None)
    if trained is not None:
        return words("climb.stage.steps", f"{trained} {rung_word(trained, lang)}", done, total)
    key = f"climb.stage.{stage.replace(' ', '_')}"
    return words(key, done, total) if words.has(key) else stage


def _verdict(words: Words, job: Job) -> str:
    assert job.outcome is not None
    first, second = verdict(job.outcome, lang_of(words))
    return f"{_live(tied(first))}<p>{html.escape(tied(second))}</p>"


def _rungs(words: Words, steps: Sequence[Step], outcome: Outcome | None) -> str:
    lang = lang_of(words)
    figures, table = Figures(lang), texts(lang)["ladder"]
    majority = None if outcome is None else _majority(outcome)
    chosen = "" if outcome is None else outcome.recommendation.key
    scale = axis([step.accuracy for step in steps], [] if majority is None else [majority])
    rows = "".join(
        f'<tr{" class=chosen" if step.key == chosen else ""}><th scope="row"><span class="key">{step.key}</span>'
        f'{html.escape(rung_name(step, lang))}</th><td class="number labels">{figures.count(step.labels)}</td>'
        f"<td>{interval_bar(step.accuracy, scale, majority)}</td>"
        f"<td><b>{tied(figures.percent(step.accuracy.value))}</b> "
        f"<small>{tied(figures.span(step.accuracy.interval))}</small></td></tr>"
        for step in steps
    )
    heads = (
        f'<th scope="col">{table["rung"]}</th><th scope="col" class="number labels">{table["labels"]}</th>'
        f'<td></td><th scope="col">{table["accuracy"]}</th>'
    )
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"


def _majority(outcome: Outcome) -> float | None:
    known = facts(outcome).majority
    return None if known is None else known.accuracy.value


def _curves(words: Words, outcome: Outcome) -> str:
    """The learning curves, as in the report: one for a desk and one for a telephone."""
    lang = lang_of(words)
    if not any(step.shots for step in outcome.curve):
        return ""
    told = texts(lang)["curves"]
    look = Look(
        figures=Figures(lang),
        words=told,
        series={step.key: place % MARKERS for place, step in enumerate(outcome.steps)},
        names={step.key: rung_name(step, lang) for step in outcome.steps},
        accuracy=told["y"],
    )
    charts = [
        learning_curves(outcome.curve, outcome.steps, _majority(outcome), look, is_wide=wide) for wide in (True, False)
    ]
    return f"<h3>{html.escape(told['title'])}</h3>{''.join(charts)}"


def _answers(words: Words, outcome: Outcome) -> str:
    rows = "".join(
        f"<dt>{html.escape(question)}</dt><dd>{html.escape(tied(answer))}</dd>"
        for question, answer in answers(outcome, lang_of(words))
    )
    return f"<dl>{rows}</dl>"


@cache
def _style() -> str:
    sheet = resources.files("anmok.ui.climbing").joinpath(_STYLE).read_text(encoding="utf-8")
    return f"<style>{sheet}</style>"
