"""A Korean label in English: one entry of the tables, or a phrase made of several.

Korean puts an adjective before its noun and strings nouns together as English does, so a phrase is read word
by word in its own order. Particles and verb endings change that order; a label that carries one is unknown.
A wrong word in a prompt costs accuracy in silence, an unknown one costs the user one ``=``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from anmok.words.tables import HANGUL, clean, is_korean, lookup

# A syllable after a number is a counter, part of the number: 사과 3개 holds no 개 (dog).
_RUN: Final = re.compile(f"\\d+(?: ?[{HANGUL}](?![{HANGUL}])|[{HANGUL}]+)|[{HANGUL}]+|[^\\s{HANGUL}]+")
_PUNCTUATION: Final = "-()[]{},.;:·'\""
# One of a thing is the thing; two are not, and 고양이 두 마리 stays unknown.
_ENDING: Final = re.compile(r"(?<=\S)(들| 하나| (한|1) ?(마리|명|개|대|송이|그루|장|권|켤레|자루|채|척|벌))$")
_LONGEST: Final = 16  # runs or syllables: no entry of the tables has more

# Read only as whole labels: inside a phrase they are as often another word (일 "work", 이 "this"), or a coin
# toss between two senses (고양이 다리 is no bridge).
_ALONE: Final = frozenset("영일이삼사오육칠구눈배밤들둘셋넷열").union(
    ("다리", "하나", "다섯", "여섯", "일곱", "여덟", "아홉")
)
# In front of another word they are 새 "new", 전 "all, former", 무 "without", 비 "non-", 기타 "other".
_LAST: Final = frozenset(("새", "전", "무", "비", "기타"))
# The only single syllables that may end an unspaced compound (호박꽃). Others split real words apart: 사과문
# is a written apology, no apple door.
_HEADS: Final = frozenset("꽃밭숲빵떡국")


def translate(text: str) -> str | None:
    """The English of a Korean label, or None where any part of it is not in the tables.

    Whole entries come first, then entries under a plural 들 or a "one of" counter, then phrases: neighbouring
    runs joined where a table has them together, compounds split into the fewest known words, Latin kept.
    """
    label = clean(text)
    forms = dict.fromkeys((label, _ENDING.sub("", label)))
    for read in (lookup, _phrase):
        for form in forms:
            if (english := read(form)) is not None:
                return english
    return None


def _phrase(text: str) -> str | None:
    runs = [run for match in _RUN.findall(text) if (run := match.strip(_PUNCTUATION))]

    def piece(start: int, end: int) -> str | None:
        span = " ".join(runs[start:end])
        is_run, is_last = end - start == 1, end == len(runs)
        if is_run and not is_korean(span):
            return span
        return _part(span, is_last) or (_compound(span, is_last) if is_run else None)

    return _fewest(len(runs), piece)


def _compound(word: str, is_last: bool) -> str | None:
    """An unspaced compound, read as words of two syllables or more and perhaps one of `_HEADS` at its end."""

    def piece(start: int, end: int) -> str | None:
        part, ends_word = word[start:end], end == len(word)
        if len(part) == 1 and not (part in _HEADS and ends_word):
            return None
        return _part(part, is_last and ends_word)

    return _fewest(len(word), piece)


def _part(text: str, is_last: bool) -> str | None:
    """The English of an entry that stands inside a phrase, at its end or before another word."""
    if text in _ALONE or (text in _LAST and not is_last):
        return None
    return lookup(text)


def _fewest(length: int, piece: Callable[[int, int], str | None]) -> str | None:
    """The fewest pieces that cover ``range(length)``, the longest first piece on a tie; None without a cover.

    Filled from the right and never searched back, so a label takes linear time however long it is.
    """
    # start -> (how many pieces from here on, the English of the first, where the next one starts)
    steps: dict[int, tuple[int, str, int]] = {length: (0, "", length)}
    for start in reversed(range(length)):
        for end in range(min(length, start + _LONGEST), start, -1):
            if end not in steps:
                continue
            pieces = steps[end][0] + 1
            if start in steps and steps[start][0] <= pieces:
                continue
            if (english := piece(start, end)) is not None:
                steps[start] = (pieces, english, end)
    if 0 not in steps:
        return None
    words, at = list[str](), 0
    while at < length:
        _, english, at = steps[at]
        words.append(english)
    return " ".join(words)
