"""The outcome in words: a verdict of two sentences and five plain questions with their answers.

Every branch is chosen by the facts: a verdict that rests on little says so in its first words.
"""

from __future__ import annotations

from anmok.ladder.outcome import Outcome
from anmok.ladder.report.commands import Action
from anmok.ladder.report.facts import facts
from anmok.ladder.report.figures import Lang
from anmok.ladder.report.priced_words import Pricing
from anmok.ladder.report.remedies_en import EnglishRemedies
from anmok.ladder.report.remedies_ko import KoreanRemedies
from anmok.ladder.report.sentences_en import English
from anmok.ladder.report.sentences_ko import Korean

Answers = tuple[tuple[str, str], ...]


def verdict(outcome: Outcome, lang: Lang = "en") -> tuple[str, str]:
    """What to do, and how sure that is: one sentence each, plain text."""
    priced = pricing(outcome, lang)
    if priced is not None:
        return priced.advice(), priced.certainty()
    voice = _voice(outcome, lang)
    return voice.advice(), voice.certainty()


def weak_spot(outcome: Outcome, lang: Lang = "en") -> str:
    """The class that the accuracy of the verdict hides; empty where there is none."""
    return _voice(outcome, lang).weak_spot()


def answers(outcome: Outcome, lang: Lang = "en") -> Answers:
    """Five (question, answer): good enough? how sure? what did it cost? what is wrong with my data? next?"""
    voice, priced = _voice(outcome, lang), pricing(outcome, lang)
    enough, sure = voice.enough, voice.sure
    if priced is not None:
        enough, sure = priced.advice, lambda: f"{priced.rests()} {priced.certainty()}"
    following = " ".join(f"{step.words} {step.command}".strip() for step in next_steps(outcome, lang))
    return tuple(
        zip(
            voice.questions,
            (enough(), sure(), voice.cost(), _remedies(outcome, lang).wrong(), following),
            strict=True,
        )
    )


def next_steps(outcome: Outcome, lang: Lang = "en") -> tuple[Action, ...]:
    """The last of the five answers, one thing to do at a time."""
    return _remedies(outcome, lang).next_steps()


def leak(outcome: Outcome, lang: Lang = "en") -> str:
    """What gives the label away, and both accuracies; empty where nothing does."""
    return _remedies(outcome, lang).leak()


def doubling(outcome: Outcome, lang: Lang = "en") -> str:
    """What twice the labels would buy; empty where the curve does not tell."""
    return _remedies(outcome, lang).doubling()


def pricing(outcome: Outcome, lang: Lang = "en") -> Pricing | None:
    """What errors cost, in words; None where nobody said what they do."""
    if outcome.priced is None:
        return None
    return Pricing(outcome, outcome.priced, facts(outcome).standing, lang)


def _voice(outcome: Outcome, lang: Lang) -> English | Korean:
    known = facts(outcome)
    return English(known) if lang == "en" else Korean(known)


def _remedies(outcome: Outcome, lang: Lang) -> EnglishRemedies | KoreanRemedies:
    known = facts(outcome)
    return EnglishRemedies(known) if lang == "en" else KoreanRemedies(known)
