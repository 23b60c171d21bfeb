"""What the anomaly ladder found, in sentences: for the page and the terminal, in English and Korean."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files

from anmok.evidence.intervals import Interval
from anmok.ladder.inspecting.outcome import InspectOutcome, InspectStep
from anmok.ladder.report.figures import Figures, Lang
from anmok.ladder.report.phrases import Table
from anmok.ladder.settling import MOST


@cache
def texts(lang: Lang) -> Table:
    """Headings and sentences by section: ``texts("en")["ladder"]["title"]``."""
    name = f"inspect_{lang}.toml"
    return tomllib.loads(files("anmok.ladder.report").joinpath("texts", name).read_text(encoding="utf-8"))


def standing(outcome: InspectOutcome) -> str:
    """decided, open, useless; development where no test set was sealed."""
    if outcome.advice is None or outcome.is_development:
        return "development"
    if not outcome.advice.is_useful:
        return "useless"
    return "decided" if outcome.advice.is_decided else "open"


def auroc(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def auroc_span(interval: Interval | None) -> str:
    """Rounded outwards is not needed at three digits: the intervals are some hundredths wide."""
    return "–" if interval is None else f"{interval.low:.3f}–{interval.high:.3f}"


def sentences(outcome: InspectOutcome, lang: Lang) -> tuple[str, ...]:
    """The verdict: what to use, what it rests on, what its threshold does, and what would settle what is open."""
    words = texts(lang)["verdict"]
    if outcome.advice is None:
        return (words["only_good"], *_limits(outcome, lang))
    step, figures = outcome.step(outcome.advice.key), Figures(lang)
    key = "useless" if not outcome.advice.is_useful else "decided" if outcome.advice.is_decided else "open"
    said = [
        words[key].format(
            rung=f"{step.key}{'' if lang == 'ko' else ' '}({texts(lang)['rungs'][step.key]})",
            auroc=auroc(step.auroc.value),
            span=auroc_span(step.auroc.interval),
        ),
        _labels(step, lang),
    ]
    if step.rates is not None:
        rates = step.rates
        said.append(
            words["rates"].format(
                asked=figures.percent(rates.asked),
                overkill=figures.percent(rates.overkill.value),
                overkill_span=figures.span(rates.overkill.interval),
                miss=figures.percent(rates.miss.value),
                miss_span=figures.span(rates.miss.interval),
            )
        )
        said.append(words["surest"].format(defects=rates.miss.n, surest=figures.percent(outcome.honesty.surest_miss)))
        if not rates.is_reachable:
            said.append(_unreachable(rates.normals, rates.asked, rates.smallest, lang))
    if outcome.advice.good_enough is not None:
        said.append(words["few"].format(count=outcome.advice.good_enough, margin=f"{outcome.margin:g}"))
    if not outcome.advice.is_decided and outcome.advice.images_needed is not None:
        said.append(words["needed"].format(count=figures.count(outcome.advice.images_needed)))
    if not outcome.advice.is_decided and outcome.advice.is_out_of_reach:
        said.append(words["out_of_reach"].format(most=figures.count(MOST)))
    return tuple(said)


def facts(outcome: InspectOutcome, lang: Lang) -> str:
    """How many pictures of which kind."""
    words, figures, data = texts(lang)["page"], Figures(lang), outcome.data
    pictures = sum(data.counts)
    if outcome.advice is None:
        return words["facts_good"].format(pictures=figures.count(pictures))
    good = data.counts[data.classes.index(outcome.good)]
    return words["facts"].format(
        pictures=figures.count(pictures),
        good=figures.count(good),
        defects=figures.count(pictures - good),
        kinds=len(data.classes) - 1,
    )


def tested(outcome: InspectOutcome, lang: Lang) -> str:
    """On what the figures were found."""
    words, figures = texts(lang)["page"], Figures(lang)
    if outcome.is_development:
        return words["development"]
    bad = sum(kind.tested for kind in outcome.kinds)
    return words["tested"].format(good=figures.count(outcome.data.test - bad), defects=figures.count(bad))


def _labels(step: InspectStep, lang: Lang) -> str:
    words, figures = texts(lang)["verdict"], Figures(lang)
    key = "labels" if step.defects else "labels_good" if step.good else "labels_none"
    return words[key].format(good=figures.count(step.good), defects=figures.count(step.defects))


def _limits(outcome: InspectOutcome, lang: Lang) -> list[str]:
    words, figures, bound = texts(lang)["verdict"], Figures(lang), outcome.limit
    good = figures.count(sum(outcome.data.counts))
    if bound is None:
        return [words["remembered_bare"].format(good=good)]
    asked = figures.percent(bound.overkill)
    said = [words["remembered"].format(good=good, threshold=f"{bound.threshold:.3g}", asked=asked)]
    if not bound.is_reachable:
        said.append(_unreachable(bound.normals, bound.overkill, bound.smallest, lang))
    return said


def _unreachable(normals: int, asked: float, smallest: float, lang: Lang) -> str:
    figures = Figures(lang)
    return texts(lang)["verdict"]["unreachable"].format(
        normals=figures.count(normals), asked=figures.percent(asked), smallest=figures.percent(smallest)
    )
