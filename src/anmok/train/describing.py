"""Descriptions of the classes by a language model, and the random words beside which they have to prove themselves.

Sources: Pratt et al., "What does a platypus look like? Generating customized prompts for zero-shot image
classification" (CuPL, ICCV 2023, arXiv:2209.03320): the mean of many described sentences stands for a class. Roth et
al., "Waffling around for Performance: Visual Classification with Random Words and Broad Concepts" (ICCV 2023,
arXiv:2306.07282): over eight data sets random words do as well (58.58 % against 58.55 %), so only what sentences gain
over ``waffle`` is the language model's doing.

The writers are in ``writers``; nothing here needs a net.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from anmok.errors import BadData, BadRequest

_MOST = 50  # sentences of one class, as many as CuPL's
_LONGEST = 300  # characters: more is no sentence about a picture
_WORD_LENGTHS = (4, 9)
_CONSONANTS, _VOWELS = "bcdfghjklmnprstvw", "aeiou"
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class Written:
    """What a writer gave for one class. ``tokens`` read and written, as far as it counts them."""

    sentences: tuple[str, ...]
    calls: int
    tokens: int


class Writer(Protocol):
    """Somebody who writes ``count`` sentences on what a thing looks like."""

    @property
    def name(self) -> str:
        """For the ledger, with no secret in it."""
        ...

    @property
    def at_once(self) -> int:
        """How many classes may be asked for at the same time."""
        ...

    def write(self, thing: str, count: int) -> Written: ...


@dataclass(frozen=True, slots=True)
class Described:
    """``sentences`` of each class in order, every one with the class's name in it; ``calls`` and ``tokens`` for the
    ledger. Fit for ``Classify(labels, descriptions=...)``."""

    sentences: tuple[tuple[str, ...], ...]
    calls: int
    tokens: int
    writer: str


def describe(classes: Sequence[str], writer: Writer, count: int) -> Described:
    """``count`` sentences on each class, or fewer where the writer repeats itself.

    Raises:
        BadRequest: no classes, the same twice, or a count that is not from 1 to 50.
        BadData: not one usable sentence for a class.
    """
    if not classes or len(set(classes)) < len(classes) or not all(name.strip() for name in classes):
        raise BadRequest("descriptions need class names, each once and none empty")
    if not 1 <= count <= _MOST:
        raise BadRequest(f"{count} descriptions: want 1 to {_MOST} for each class")
    with ThreadPoolExecutor(max(1, writer.at_once)) as pool:
        written = list(pool.map(lambda name: writer.write(name, count), classes))
    sentences = tuple(_usable(name, one.sentences, count) for name, one in zip(classes, written, strict=True))
    calls, tokens = sum(one.calls for one in written), sum(one.tokens for one in written)
    return Described(sentences, calls, tokens, writer.name)


def waffle(classes: Sequence[str], like: Sequence[Sequence[str]], seed: int) -> tuple[tuple[str, ...], ...]:
    """The control for sentences ``like`` these: the class's name, then what means nothing, up to as many words.

    Made-up words and random letters take turns, so 30 sentences are the paper's 15 pairs. The filling of the i-th
    sentence is the same for all classes, but for its length: it cannot tell them apart.

    Raises:
        BadRequest: not one group of sentences for each class.
    """
    if len(like) != len(classes):
        raise BadRequest(f"{len(like)} groups of sentences for {len(classes)} classes")
    most = max((len(sentence.split()) for group in like for sentence in group), default=0)
    number = max((len(group) for group in like), default=0)
    rng = np.random.default_rng(seed)
    fillings = [[_word(rng, is_pronounceable=i % 2 == 0) for _ in range(max(most, 1))] for i in range(number)]
    return tuple(
        tuple(_filled(name, len(sentence.split()), fillings[i]) for i, sentence in enumerate(group))
        for name, group in zip(classes, like, strict=True)
    )


def _filled(name: str, length: int, filling: Sequence[str]) -> str:
    return f"{name}, {' '.join(filling[: max(length - len(name.split()), 1)])}"


def _word(rng: np.random.Generator, *, is_pronounceable: bool) -> str:
    length = int(rng.integers(*_WORD_LENGTHS))
    if not is_pronounceable:
        return "".join(rng.choice(list(_LETTERS), length))
    return "".join(str(rng.choice(list(_CONSONANTS if i % 2 == 0 else _VOWELS))) for i in range(length))


def _usable(name: str, sentences: Sequence[str], count: int) -> tuple[str, ...]:
    """On one line, not too long, each once, and with the name: a text tower would not guess what it is about."""
    lines = (re.sub(r"\s+", " ", sentence).strip() for sentence in sentences)
    fine = dict.fromkeys(line for line in lines if line and len(line) <= _LONGEST and any(map(str.isalpha, line)))
    if not fine:
        raise BadData(f"no usable description of {name!r} came; ask again, or another language model")
    return tuple(line if name.lower() in line.lower() else f"{name}: {line}" for line in fine)[:count]
