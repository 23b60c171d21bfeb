"""The word tables of this package, read on first use.

- `imagenet.tsv`, ``index<TAB>english<TAB>korean``: the ImageNet-1k classes in their order.
- `nouns.tsv`, ``korean<TAB>english``: everything else that people call their photos; it wins
  where both have a word.
- `senses.tsv`, ``korean<TAB>english<TAB>companions``: a second sense of a word, and the labels that
  call for it.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from importlib.resources import files
from typing import Final

# Jamo, compatibility jamo, both extensions, syllables, half-width forms: file names from macOS hold jamo.
HANGUL: Final = "\u1100-\u11ff\u3130-\u318f\ua960-\ua97f\uac00-\ud7ff\uffa0-\uffdc"
_KOREAN: Final = re.compile(f"[{HANGUL}]")


def is_korean(text: str) -> bool:
    """Whether `text` holds any Hangul, whole syllables or single jamo, composed or not."""
    return _KOREAN.search(text) is not None


def clean(text: str) -> str:
    """`text` as the tables spell it: NFC, single spaces, and the ``_`` of folder names as a space."""
    return " ".join(unicodedata.normalize("NFC", text).replace("_", " ").split())


@cache
def rows(name: str) -> tuple[tuple[str, ...], ...]:
    """The cells of one table, a tuple for each line."""
    text = files("anmok.words").joinpath(name).read_text(encoding="utf-8")
    return tuple(tuple(line.split("\t")) for line in text.splitlines())


def lookup(text: str) -> str | None:
    """The English of one entry, spelled with or without its spaces; None where no table has it.

    `text` is as `clean` leaves it.
    """
    folded = text.casefold()
    return _spaced().get(folded) or _joined().get(_unspaced(folded))


def sense(word: str, beside: frozenset[str]) -> str | None:
    """The second sense of `word` that the labels `beside` it call for, None where the usual one stands."""
    for korean, english, companions in rows("senses.tsv"):
        if korean == word and not beside.isdisjoint(companions.split(" ")):
            return english
    return None


@cache
def _spaced() -> dict[str, str]:
    imagenet = {korean.casefold(): english for _, english, korean in rows("imagenet.tsv")}
    return imagenet | {korean.casefold(): english for korean, english in rows("nouns.tsv")}


@cache
def _joined() -> dict[str, str]:
    # Entries written without a space come last, so that 새 집 (new house) does not take 새집 (birdhouse).
    spaced_first = sorted(_spaced().items(), key=lambda entry: " " not in entry[0])
    return {_unspaced(korean): english for korean, english in spaced_first}


def _unspaced(text: str) -> str:
    return text.replace(" ", "").replace("-", "")
