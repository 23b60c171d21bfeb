"""Names of rungs, controls and verdicts in the reader's language.

The ladder writes English: an outcome is data, and one language keeps it comparable. What the Korean page has
no words for stays English and is marked as English; it is never dropped.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from anmok.evidence import audit_text_en, audit_text_ko
from anmok.ladder.outcome import Outcome, Step
from anmok.ladder.report.figures import Lang
from anmok.ladder.rungs.order import RUNGS

Table = dict[str, dict[str, str]]

_COLUMNS = {
    "en": {**audit_text_en.COLUMNS, "together": "all metadata together"},
    "ko": {**audit_text_ko.COLUMNS, "bytes": "파일 크기", "order": "목록 순서", "together": "메타데이터 전체"},
}
_NESTED = re.compile("<<(.+?)>>", re.DOTALL)  # marks a part of a phrase that is a phrase itself


@cache
def texts(lang: Lang) -> Table:
    """Headings, captions and labels of the page by section: ``texts("en")["ladder"]["title"]``."""
    return _read(f"{lang}.toml")


@dataclass(frozen=True, slots=True)
class Phrase:
    """What to show for something that the ladder says, and whether it is in the reader's language."""

    text: str
    is_translated: bool


def phrase(text: str, lang: Lang) -> Phrase:
    """``text``, a phrase of the ladder's in English or the name of a metadata column, in ``lang``."""
    if text in _COLUMNS[lang]:
        return Phrase(_COLUMNS[lang][text], True)
    table = _read(f"phrases_{lang}.toml")
    if text in table["exact"]:
        return Phrase(table["exact"][text], True)
    for pattern, replacement in table["patterns"].items():
        match = re.fullmatch(pattern, text, re.DOTALL)
        if match:
            expanded = match.expand(replacement)
            return Phrase(_NESTED.sub(lambda found: spoken(found[1], lang), expanded), True)
    return Phrase(text, lang == "en")


def spoken(text: str, lang: Lang) -> str:
    """The text of :func:`phrase` alone, for the middle of a sentence."""
    return phrase(text, lang).text


def rung_name(step: Step, lang: Lang) -> str:
    """``zero-shot, templates``; in Korean ``제로샷(문장 틀)``."""
    if lang == "en":
        return step.rung
    return _read("phrases_ko.toml")["rungs"].get(step.key) or spoken(step.rung, lang)


def rung_word(key: str, lang: Lang) -> str:
    """As `rung_name`, of a rung that has not answered yet; the key itself where it is none of the learned ones."""
    if key not in RUNGS:
        return key
    return RUNGS[key].name if lang == "en" else str(_read("phrases_ko.toml")["rungs"].get(key, RUNGS[key].name))


def rung_called(outcome: Outcome, key_or_name: str, lang: Lang) -> str:
    """``rung 2 (linear head)`` by its key or its name; ``선형 분류기`` in Korean, since a bracket before a
    particle reads badly; ``key_or_name`` as it stands where it is none of the ladder's."""
    for step in outcome.steps:
        if key_or_name in (step.key, step.rung):
            return f"rung {step.key} ({step.rung})" if lang == "en" else rung_name(step, lang)
    return spoken(key_or_name, lang)


@cache
def _read(name: str) -> Table:
    return tomllib.loads(files("anmok.ladder.report").joinpath("texts", name).read_text(encoding="utf-8"))
