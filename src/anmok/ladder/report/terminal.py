"""The verdict and the ladder in a terminal of 80 columns."""

from __future__ import annotations

import math

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from anmok.ladder.outcome import Comparison, Outcome, Step
from anmok.ladder.outcome_trust import Saving
from anmok.ladder.report.facts import CANNOT_TELL, claim, contrast, facts
from anmok.ladder.report.figures import ABSENT, Figures, Lang
from anmok.ladder.report.phrases import rung_name, texts
from anmok.ladder.report.sentences import leak, pricing, verdict, weak_spot
from anmok.ladder.report.trust_words import Answering
from anmok.ladder.settling import MOST

_WIDTH = 80
_STYLES = {"BETTER": "green", "WORSE": "red", "SAME": "default", CANNOT_TELL: "yellow"}


def render(outcome: Outcome, console: Console, lang: Lang = "en") -> None:
    """Print the verdict's two sentences, the ladder table and what would settle what is open."""
    width = min(console.width, _WIDTH)
    first, second = verdict(outcome, lang)
    words = texts(lang)["terminal"]
    console.print(_plain(first, "bold"), width=width)
    console.print(_plain(second), width=width)
    if hidden := weak_spot(outcome, lang):
        console.print(_plain(hidden, "yellow"), width=width)
    console.print(_table(outcome, lang), width=width)
    choice = texts(lang)["choice"][facts(outcome).standing]
    console.print(Text(words["choice"].format(choice=choice), "dim"), width=width)
    if given_away := leak(outcome, lang):
        console.print(_plain(given_away, "yellow"), width=width)
    _told(outcome, console, width, lang)
    if outcome.priced is not None:
        return
    asked = (outcome.recommendation.key, outcome.recommendation.best)
    for comparison in outcome.comparisons:
        if claim(outcome, comparison) != CANNOT_TELL or comparison.key not in asked:
            continue
        figures, pair = Figures(lang), {"key": comparison.key, "against": comparison.against}
        if comparison.is_out_of_reach:
            line = words["out_of_reach"].format(**pair, most=figures.count(MOST))
        elif comparison.images_needed is not None:
            line = words["settle"].format(**pair, count=figures.count(comparison.images_needed))
        else:
            continue
        console.print(_plain(line, "dim"), width=width)


def _told(outcome: Outcome, console: Console, width: int, lang: Lang) -> None:
    """What errors cost, where that was said, and how far to trust one answer."""
    priced = pricing(outcome, lang)
    if priced is not None and outcome.priced is not None:
        words, kind = texts(lang)["priced"], outcome.priced.kind
        table = Table(title=words["title"], box=SIMPLE_HEAD, pad_edge=False, title_justify="left", padding=(0, 1, 0, 0))
        table.add_column(texts(lang)["terminal"]["rung"])
        for name in (words[f"value_{kind}"], words[f"saved_{kind}"], texts(lang)["terminal"]["verdict"]):
            table.add_column(name, overflow="fold")
        for one in outcome.priced.rungs:
            saving = next((saving for saving in outcome.priced.savings if saving.key == one.key), None)
            mark = "*" if one.key == outcome.recommendation.key else " "
            told = (f"{mark}{one.key}", f"{priced.value(one.value)} ({priced.span(one.value)})")
            saved = "" if saving is None else priced.saved(saving)
            table.add_row(*(_plain(cell) for cell in (*told, saved)), _gain(outcome, saving, lang))
        console.print(table, width=width)
    if line := Answering(outcome, lang).line():
        console.print(_plain(line, "dim"), width=width)


def _table(outcome: Outcome, lang: Lang) -> Table:
    words, known = texts(lang)["terminal"], facts(outcome)
    title = words["table"]
    if outcome.is_development:
        title += f" ({texts(lang)['page']['development']})"
    table = Table(title=title, box=SIMPLE_HEAD, pad_edge=False, title_justify="left", padding=(0, 1, 0, 0))
    table.add_column(words["rung"], overflow="fold", ratio=1)
    for name in ("labels", "accuracy", "interval"):
        table.add_column(words[name], justify="right", no_wrap=True)
    table.add_column(words["verdict"], no_wrap=True)
    for name in ("seconds", "milliseconds", "megabytes"):
        table.add_column(words[name], justify="right", no_wrap=True)
    for step in outcome.steps:
        is_chosen = step.key == known.chosen.key
        table.add_row(*_row(outcome, step, lang, is_chosen), style="bold" if is_chosen else "")
    if known.majority is not None:
        share = Figures(lang).percent(known.majority.accuracy.value)
        table.add_row(Text(f"    {texts(lang)['curves']['majority']}", "dim"), "", Text(share, "dim"))
    return table


def _row(outcome: Outcome, step: Step, lang: Lang, is_chosen: bool) -> list[Text]:
    figures, interval = Figures(lang), step.accuracy.interval
    mark = "*" if is_chosen else " "
    return [
        _plain(f"{mark}{step.key:<3}{rung_name(step, lang)}"),
        Text(figures.count(step.labels)),
        Text(figures.percent(step.accuracy.value)),
        Text(f"{interval.low * 100:.0f}-{interval.high * 100:.0f}"),
        _gain(outcome, contrast(outcome, step.key), lang),
        *(Text(_brief(cost)) for cost in (step.cold_seconds, step.ms_per_image, step.megabytes)),
    ]


def _gain(outcome: Outcome, found: Comparison | Saving | None, lang: Lang) -> Text:
    if found is None:
        return Text("")
    word = claim(outcome, found)
    return Text(texts(lang)["words"][word], _STYLES[word])


def _brief(cost: float) -> str:
    if not math.isfinite(cost):
        return ABSENT
    if 0 < cost < 0.095:
        return "<0.1"
    return f"{cost:.1f}" if 0 < cost < 9.95 else f"{cost:,.0f}"


def _plain(text: str, style: str = "") -> Text:
    """Names come from the user: nothing in them may steer the terminal."""
    return Text("".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text), style)
