"""What a tokenizer does to a text, whatever library it comes from: where each token begins and ends."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Spans = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Cut:
    """The tokens of one text, without special ones.

    Args:
        spans: int64 (T, 2), first character and one past the last. Two tokens that share a character have cut it;
            a token that stands for no character, such as a prefix, is empty.
        is_unknown: bool (T,), the token stands for whatever is not in the vocabulary.
        is_bytes: bool (T,), the token is a piece of a character's bytes.
    """

    spans: Spans
    is_unknown: NDArray[np.bool_]
    is_bytes: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.spans)


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """A tokenizer that can be compared.

    Args:
        name: as it was asked for.
        kind: what it is: ``bytes``, ``BPE``, ``byte-level BPE``, ``WordPiece``, ``Unigram``, ``characters``.
        cuts: one `Cut` for each text.
        vocabulary: tokens that it knows; 0 where there is no table.
        specials: tokens that a text gets beside its own.
        is_lowercasing: capitals are lost.
        source: where it came from, in words.
    """

    name: str
    kind: str
    cuts: Callable[[Sequence[str]], list[Cut]]
    vocabulary: int = 0
    specials: int = 0
    is_lowercasing: bool = False
    source: str = "built in"


@dataclass(frozen=True, slots=True, eq=False)
class Joined:
    """The cuts of n texts one after another, as if these were one: ``spans`` int64 (T, 2), ``is_unknown`` and
    ``is_bytes`` bool (T,), ``per_text`` int64 (n,)."""

    spans: Spans
    is_unknown: NDArray[np.bool_]
    is_bytes: NDArray[np.bool_]
    per_text: NDArray[np.int64]

    @property
    def overlaps(self) -> NDArray[np.bool_]:
        """(T - 1,) for each pair of neighbours, whether they have cut a character between them."""
        return self.spans[1:, 0] < self.spans[:-1, 1]


def joined(cuts: Sequence[Cut], lengths: Iterable[int]) -> Joined:
    """``lengths`` are those of the texts, in characters."""
    starts = np.cumsum([0, *lengths])  # (n + 1,)
    spans = [cut.spans + start for cut, start in zip(cuts, starts, strict=False)]
    return Joined(
        np.concatenate([np.empty((0, 2), np.int64), *spans]),  # (T, 2)
        np.concatenate([np.empty(0, np.bool_), *(cut.is_unknown for cut in cuts)]),  # (T,)
        np.concatenate([np.empty(0, np.bool_), *(cut.is_bytes for cut in cuts)]),  # (T,)
        np.array([len(cut) for cut in cuts], np.int64),
    )


def by_width(widths: NDArray[np.int64]) -> Cut:
    """Of a text whose characters take ``widths`` (n,) tokens each."""
    first = np.repeat(np.arange(len(widths)), widths)  # (T,)
    spans = np.stack([first, first + 1], axis=1).astype(np.int64)  # (T, 2)
    return Cut(spans, np.zeros(len(first), np.bool_), np.repeat(widths > 1, widths))


def by_bytes(text: str, lengths: Sequence[int]) -> Cut:
    """Of a text whose tokens take ``lengths`` (T,) bytes of its UTF-8, one after another and all of it."""
    widths = utf8_widths(text)  # (n,)
    of_byte = np.append(np.repeat(np.arange(len(widths)), widths), len(widths))  # (B + 1,) which character it is of
    inside = np.append(np.concatenate([np.arange(width) for width in widths] or [np.empty(0, np.int64)]), 0) > 0
    ends = np.cumsum(np.asarray(lengths, np.int64))  # (T,)
    starts = ends - np.asarray(lengths, np.int64)
    spans = np.stack([of_byte[starts], of_byte[ends - 1] + 1], axis=1).astype(np.int64)  # (T, 2)
    return Cut(spans, np.zeros(len(ends), np.bool_), inside[starts] | inside[ends])


def utf8_widths(text: str) -> NDArray[np.int64]:
    """(n,) bytes of each character."""
    codes = np.frombuffer(text.encode("utf-32-le"), "<u4")  # (n,)
    return 1 + (codes > 0x7F).astype(np.int64) + (codes > 0x7FF) + (codes > 0xFFFF)


def utf16_widths(text: str) -> NDArray[np.int64]:
    """(n,) code units of two bytes of each character."""
    return 1 + (np.frombuffer(text.encode("utf-32-le"), "<u4") > 0xFFFF).astype(np.int64)
