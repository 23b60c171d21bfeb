"""A first look in words: what was done, why no accuracy is stated, and how to get one. English and Korean."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

from anmok.ladder.glance import FIRST, Glance, Prospect
from anmok.ladder.report.figures import Figures, Lang
from anmok.ladder.report.josa import with_particle
from anmok.ladder.report.phrases import Table

LABEL_ME, LABEL_MORE = "label_me.csv", "label_more.csv"
_LISTED = 12  # names of classes in a sentence
_LEAST_SURE = 5  # names of images in the terminal


@cache
def texts(lang: Lang) -> Table:
    """What the page of a first look says by section, beside what all reports say."""
    name = f"glance_{lang}.toml"
    return tomllib.loads(files("anmok.ladder.report").joinpath("texts", name).read_text(encoding="utf-8"))


def answer(glance: Glance, lang: Lang) -> tuple[str, str]:
    """What was done, and that no accuracy can be stated: one sentence each, plain text."""
    words, figures = texts(lang)["answer"], Figures(lang)
    first = words["did_abstaining" if glance.abstained else "did"].format(
        model=glance.model,
        model_i=with_particle(glance.model, "이"),
        images=images(glance.images, lang),
        count=figures.count(glance.images),
        answered=figures.count(glance.images - glance.abstained),
        classes=figures.count(len(glance.classes)),
        by=words["by_descriptions" if glance.is_described else "by_names"],
    )
    return first, words["unknown"]


def questions(glance: Glance, lang: Lang) -> tuple[tuple[str, str], ...]:
    """The five questions of every report, with what can be said without labels."""
    words, figures = texts(lang)["questions"], Figures(lang)
    first = min(FIRST, len(glance.sample))
    following = words["next_text"].format(labels=images(first, lang), count=figures.count(first))
    return (
        (words["enough"], words["enough_text"]),
        (words["sure"], words["sure_text"]),
        (words["cost"], words["cost_text"].format(duration=figures.duration(glance.seconds))),
        (words["wrong"], _wrong(glance, lang)),
        (words["next"], following),
    )


def prospect(glance: Glance) -> Prospect | None:
    """Of the first labels, at the middle one of the accuracies; none where there is nothing to label."""
    first = [one for one in glance.prospects if one.labels == min(FIRST, len(glance.sample))]
    return first[len(first) // 2] if first else None


def summary(glance: Glance, lang: Lang, path: str) -> str:
    """For the terminal; ``path`` is that of the images to label."""
    words, figures = texts(lang)["terminal"], Figures(lang)
    shown, rest = glance.shares[:_LISTED], len(glance.shares[_LISTED:])
    shares = [f"{row.name} {figures.count(row.images)}" for row in shown]
    if rest:
        shares.append(words["others"].format(count=figures.count(rest)))
    if glance.abstained:
        shares.append(f"{texts(lang)['shares']['abstained']} {figures.count(glance.abstained)}")
    names = [glance.predictions[index].image for index in glance.least_sure[:_LEAST_SURE]]
    lines = [" ".join(answer(glance, lang)), ", ".join(shares), words["least"].format(names=", ".join(names))]
    expected = prospect(glance)
    if expected is not None:
        lines.append(
            words["labels"].format(
                labels=figures.count(expected.labels),
                count=figures.count(expected.labels),
                accuracy=figures.percent(expected.accuracy, 0),
                span=figures.span(expected.interval),
            )
        )
        lines.append(words["how"].format(path=path, command=glance.follow_up))
    return "\n".join(lines)


def images(count: int, lang: Lang) -> str:
    """``1 image``, ``320 images``, ``320장``."""
    if lang == "ko":
        return f"{count:,}장"
    return f"{count:,} image{'' if count == 1 else 's'}"


def listed(names: Sequence[str], lang: Lang) -> str:
    """Names in a sentence; their number where they are too many for one."""
    if len(names) <= _LISTED:
        return ", ".join(names)
    return texts(lang)["labels"]["many"].format(count=Figures(lang).count(len(names)))


def _wrong(glance: Glance, lang: Lang) -> str:
    words, figures = texts(lang)["questions"], Figures(lang)
    parts = []
    if glance.unread:
        unread = len(glance.unread)
        parts.append(
            words["wrong_unread"].format(
                images=images(unread, lang), count=figures.count(unread), name=glance.unread[0]
            )
        )
    if glance.copies:
        copies = images(glance.copies, lang)
        parts.append(words["wrong_copies"].format(images=copies, count=figures.count(glance.copies)))
    conflicts = sum(pair.is_conflict for pair in glance.duplicates)
    if conflicts:
        parts.append(words["wrong_conflicts"].format(count=figures.count(conflicts)))
    never = [row.name for row in glance.shares if row.images == 0]
    if never:
        parts.append(words["wrong_never"].format(names=listed(never, lang)))
    return " ".join(parts) or words["wrong_none"]
