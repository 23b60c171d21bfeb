"""Where token borders fall in Korean: inside a syllable, inside a morpheme, or between two morphemes.

Only borders within a word (eojeol) are counted: those at spaces fall between morphemes whatever the tokenizer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from anmok.errors import MissingDependency
from anmok.tokens.corpus import Language
from anmok.tokens.cutting import Joined
from anmok.words.tables import is_korean


@dataclass(frozen=True, slots=True)
class Borders:
    """Counts of token borders within words that have Hangul.

    Args:
        in_bytes: inside a syllable, between its bytes: no reader could name the pieces.
        in_jamo: inside a syllable, between its letters.
        in_morpheme: between two syllables of one morpheme; None where nobody has said where morphemes begin.
        on_morpheme: where a morpheme begins; None likewise.
        between_syllables: the last two together.
    """

    in_bytes: int
    in_jamo: int
    between_syllables: int
    in_morpheme: int | None = None
    on_morpheme: int | None = None

    @property
    def total(self) -> int:
        return self.in_bytes + self.in_jamo + self.between_syllables

    def share(self, number: int | None) -> float | None:
        """Of all borders; None for what is not known, or where there is no border."""
        return None if number is None or not self.total else number / self.total


def borders(found: Joined, language: Language) -> Borders:
    """What the borders of ``found`` fall on in ``language``."""
    words = np.array([one for one in language.words if is_korean(language.whole[one[0] : one[1]])], np.int64)
    words = words.reshape(-1, 2)  # (W, 2)
    places = found.spans[1:, 0]  # (T - 1,)
    shared = found.overlaps & _inside(places, words[:, 0], words[:, 1])
    by_bytes = shared & found.is_bytes[1:] & found.is_bytes[:-1]
    apart = places[~found.overlaps & _inside(places, words[:, 0] + 1, words[:, 1])]  # (B,)
    in_bytes, in_jamo = int(by_bytes.sum()), int((shared & ~by_bytes).sum())
    if language.morphemes is None:
        return Borders(in_bytes, in_jamo, len(apart))
    starts = np.cumsum([0, *language.lengths])  # (n + 1,)
    begins = [start + one for start, row in zip(starts, language.morphemes, strict=False) for one in sorted(row)]
    on = int(np.isin(apart, np.array(begins, np.int64)).sum())
    return Borders(in_bytes, in_jamo, len(apart), len(apart) - on, on)


def _inside(places: NDArray[np.int64], first: NDArray[np.int64], last: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(P,) whether each place lies in one of the sorted ranges first <= place < last."""
    if not len(first):
        return np.zeros(len(places), np.bool_)
    word = np.searchsorted(first, places, side="right") - 1  # (P,) the last one that begins before or there
    return (word >= 0) & (places < last[word])


def has_analyser() -> bool:
    """Whether kiwipiepy and its model are installed."""
    return all(find_spec(name) is not None for name in ("kiwipiepy", "kiwipiepy_model"))


def with_morphemes(language: Language) -> Language:
    """The same sentences, with the morphemes that Kiwi finds in them.

    Source: Lee, "Kiwi: Developing a Korean morphological analyzer", Korean Journal of Digital Humanities 1 (2024);
    https://github.com/bab2min/kiwipiepy.

    Raises:
        MissingDependency: it is not installed.
    """
    return replace(language, morphemes=_analysed(language.sentences))


def _analysed(sentences: Sequence[str]) -> tuple[frozenset[int], ...]:
    try:
        from kiwipiepy import Kiwi  # pyright: ignore[reportMissingImports]

        kiwi = Kiwi(num_workers=1)  # looks for its model, a package of its own
    except ImportError:
        raise MissingDependency("morphemes need kiwipiepy: pip install kiwipiepy") from None
    return tuple(_starts([(one.start, one.start + one.len) for one in row]) for row in kiwi.tokenize(list(sentences)))


def _starts(spans: Sequence[tuple[int, int]]) -> frozenset[int]:
    """Where morphemes begin, but for those that begin inside the last syllable of another: 갔 is 가 and 았."""
    found, reached = [], 0
    for start, end in spans:
        if start >= reached:
            found.append(start)
        reached = max(reached, end)
    return frozenset(found)
