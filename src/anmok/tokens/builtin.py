"""Tokenizers that need no file: bytes, code units, code points, and what a reader calls a character."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from anmok.tokens.cutting import Cut, Tokenizer, by_width, utf8_widths, utf16_widths


def _widths(of: Callable[[str], NDArray[np.int64]]) -> Callable[[Sequence[str]], list[Cut]]:
    return lambda texts: [by_width(of(text)) for text in texts]


def _readers_characters(texts: Sequence[str]) -> list[Cut]:
    from tokenizers import Regex, pre_tokenizers

    # Extended grapheme clusters: a letter with its accents, an emoji with all that is joined to it.
    splitter: Any = pre_tokenizers.Split(Regex(r"\X"), "isolated")
    return [_of(splitter.pre_tokenize_str(text)) for text in texts]


def _of(pieces: Sequence[tuple[str, tuple[int, int]]]) -> Cut:
    spans = np.array([span for _, span in pieces], np.int64).reshape(-1, 2)  # (T, 2)
    none = np.zeros(len(spans), np.bool_)
    return Cut(spans, none, none)


def _ones(text: str) -> NDArray[np.int64]:
    return np.ones(len(text), np.int64)


# ByT5 (Xue et al., TACL 2022) is one token for each byte and one at the end; CANINE (Clark et al., TACL 2022) one for
# each code point and two around them.
BUILT_IN: Final = {
    "utf-8": Tokenizer("utf-8", "bytes", _widths(utf8_widths), 256),
    "byt5": Tokenizer("byt5", "bytes", _widths(utf8_widths), 256, specials=1),
    "utf-16": Tokenizer("utf-16", "units of two bytes", _widths(utf16_widths), 65_536),
    "utf-32": Tokenizer("utf-32", "code points", _widths(_ones)),
    "canine": Tokenizer("canine", "code points", _widths(_ones), specials=2),
    "characters": Tokenizer("characters", "a reader's characters", _readers_characters),
}
