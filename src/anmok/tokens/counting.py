"""What one tokenizer makes of one language, in whole numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anmok.tokens.corpus import Language
from anmok.tokens.cutting import Joined, Tokenizer, joined
from anmok.tokens.korean import Borders, borders


@dataclass(frozen=True, slots=True, eq=False)
class Count:
    """Tokens and what they fall on.

    Args:
        tokenizer, language: names.
        per_sentence: int64 (n,) tokens, without special ones.
        characters, nbytes: of the text, in code points and in UTF-8.
        words: between spaces, with a letter, digit or sign in them; 0 where the script has no spaces.
        split_words: those that a token border falls into.
        byte_tokens: tokens that are a piece of a character's bytes.
        unknown: tokens that stand for anything that the vocabulary lacks.
        lost: visible characters within those, and those that no token stands for.
        borders: of Korean.
    """

    tokenizer: str
    language: str
    per_sentence: NDArray[np.int64]
    characters: int
    nbytes: int
    words: int
    split_words: int
    byte_tokens: int
    unknown: int
    lost: int
    borders: Borders | None = None

    @property
    def tokens(self) -> int:
        return int(self.per_sentence.sum())

    @property
    def sentences(self) -> int:
        return len(self.per_sentence)

    @property
    def per_word(self) -> float | None:
        """Fertility; None where the script has no spaces."""
        return self.tokens / self.words if self.words else None

    @property
    def split_share(self) -> float | None:
        return self.split_words / self.words if self.words else None

    @property
    def unknown_share(self) -> float:
        return self.unknown / self.tokens if self.tokens else 0.0

    @property
    def byte_share(self) -> float:
        return self.byte_tokens / self.tokens if self.tokens else 0.0

    @property
    def lost_share(self) -> float:
        """Of all characters."""
        return self.lost / self.characters


def count(tokenizer: Tokenizer, language: Language) -> Count:
    """Cut all sentences of a language and count."""
    found = joined(tokenizer.cuts(language.sentences), language.lengths)
    words = language.words if language.has_spaces else np.empty((0, 2), np.int64)  # (W, 2)
    return Count(
        tokenizer.name,
        language.code,
        found.per_text,
        len(language.whole),
        language.nbytes,
        len(words),
        _split(found, words),
        int(found.is_bytes.sum()),
        int(found.is_unknown.sum()),
        _lost(found, language.is_visible),
        borders(found, language) if language.is_korean else None,
    )


def _split(found: Joined, words: NDArray[np.int64]) -> int:
    """How many words a border falls into: between two of their characters, or through one."""
    between = found.spans[1:, 0]  # (T - 1,)
    first, last = words[:, 0], words[:, 1]
    apart = _within(between[~found.overlaps], first + 1, last)  # (W,)
    through = _within(between[found.overlaps], first, last)  # (W,)
    return int((apart | through).sum())


def _within(places: NDArray[np.int64], first: NDArray[np.int64], last: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(W,) whether any of the sorted places lies in first <= place < last."""
    return np.searchsorted(places, last) > np.searchsorted(places, first)


def _lost(found: Joined, is_visible: NDArray[np.bool_]) -> int:
    known = found.spans[~found.is_unknown]  # (K, 2)
    steps = np.zeros(len(is_visible) + 1, np.int64)  # (characters + 1,)
    np.add.at(steps, known[:, 0], 1)
    np.add.at(steps, known[:, 1], -1)
    return int((is_visible & (np.cumsum(steps[:-1]) == 0)).sum())
