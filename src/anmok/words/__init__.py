"""Words for labels: the names of the ImageNet classes, and Korean labels for models that read English only.

Nothing is guessed. A Korean label becomes English through tables that ship with the package, the change is
shown (`Reading.note`), and a label that the tables do not know is named together with the remedy: write its
English after a ``=``, as in ``꽹과리=gong``, or take a model whose text tower reads Korean.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from anmok.errors import Untranslatable
from anmok.words.phrases import translate
from anmok.words.tables import clean, is_korean, rows, sense

__all__ = ["Reading", "english", "imagenet_names", "is_korean", "needs_translation", "read"]


@dataclass(frozen=True, slots=True)
class Reading:
    """Labels as they are shown beside the words that the text tower gets, one for one."""

    labels: tuple[str, ...]  # as the caller wrote them, without ``=english``
    read_as: tuple[str, ...]  # NFC; an unknown label stands for itself
    unknown: tuple[str, ...]  # the labels that the tower cannot read and the tables do not know

    @property
    def is_translated(self) -> bool:
        """Whether any label is read as another word than itself."""
        return bool(self._changes())

    def note(self) -> str:
        """The changed labels in one line, ``고양이 → cat, 개 → dog``; empty when nothing changed."""
        return ", ".join(f"{label} → {word}" for label, word in self._changes())

    def _changes(self) -> list[tuple[str, str]]:
        shown = (unicodedata.normalize("NFC", label) for label in self.labels)
        return [(label, word) for label, word in zip(shown, self.read_as, strict=True) if label != word]


def imagenet_names(language: Literal["en", "ko"] = "en") -> tuple[str, ...]:
    """The 1,000 class names of ImageNet-1k in the order of the class indices.

    The order is that of the WordNet synset identifiers (Russakovsky et al., 2015, "ImageNet Large Scale
    Visual Recognition Challenge"). The names are our own choice among WordNet's lemmas, unique within each
    language and told apart where the lemma is shared (crane bird, construction crane).
    """
    column = {"en": 1, "ko": 2}[language]
    return tuple(row[column] for row in rows("imagenet.tsv"))


def needs_translation(text: str, languages: tuple[str, ...]) -> bool:
    """Whether `text` holds Hangul that a text tower of these `languages` (``("en",)``) cannot read."""
    return "ko" not in languages and is_korean(text)


def read(labels: Sequence[str], languages: tuple[str, ...]) -> Reading:
    """What a text tower that reads `languages` gets for each of `labels`; raises nothing.

    Labels in a language of the tower stay as they are. ``꽹과리=gong`` is shown as 꽹과리 and read as gong by
    every tower. A word with two senses follows the other labels: 눈 beside 비 is snow, beside 코 an eye.
    """
    spelled = [_spelling(label) for label in labels]
    beside = frozenset(clean(shown) for shown, _ in spelled)
    readings = [_reading(spelling, languages, beside) for _, spelling in spelled]
    shown = tuple(label for label, _ in spelled)
    return Reading(
        labels=shown,
        read_as=tuple(
            unicodedata.normalize("NFC", label) if word is None else word
            for label, word in zip(shown, readings, strict=True)
        ),
        unknown=tuple(label for label, word in zip(shown, readings, strict=True) if word is None),
    )


def english(labels: Sequence[str], languages: tuple[str, ...]) -> tuple[str, ...]:
    """`Reading.read_as` of `labels`, for callers that need every label to be readable.

    Raises:
        Untranslatable: names every label that is not, and the two ways out.
    """
    reading = read(labels, languages)
    if not reading.unknown:
        return reading.read_as
    names = ", ".join(clean(label) for label in reading.unknown)
    raise Untranslatable(
        f"this model reads no Korean and no table holds {names}: write the English after a '=', as in "
        "꽹과리=gong, or use a model that reads Korean, such as siglip2-b16-256 "
        "(한국어 이름 뒤에 '=영어'를 붙이거나 한국어를 읽는 모델을 쓰세요)"
    )


def _spelling(label: str) -> tuple[str, str]:
    """The label as it is shown and the text to be read for it: two sides of a ``=`` after a Korean name."""
    shown, sign, spelling = label.partition("=")
    if sign and is_korean(shown):
        return shown.strip(), spelling.strip() or shown.strip()
    return label, label


def _reading(spelling: str, languages: tuple[str, ...], beside: frozenset[str]) -> str | None:
    """The text for the tower, or None where it is Korean that the tables do not know."""
    if needs_translation(spelling, languages):
        return sense(clean(spelling), beside) or translate(spelling)
    return unicodedata.normalize("NFC", spelling)
