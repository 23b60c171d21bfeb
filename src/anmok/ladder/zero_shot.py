"""Rungs 0a to 0e: the text tower alone, on cached features."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from anmok.errors import AnmokError, Unsupported, Untranslatable
from anmok.ladder.plan import Plan
from anmok.ladder.rungs.fitting import Towers
from anmok.load import Head, Model
from anmok.tasks import Classify, Projects, WordVectors

Array = NDArray[np.float32]

NAME_ONLY = ("{}",)
_WORDS_PER_CLASS, _WORD_LENGTHS = 2, (4, 9)
_CONSONANTS, _VOWELS = "bcdfghjklmnprstvw", "aeiou"


@dataclass(frozen=True, slots=True, eq=False)
class ZeroShot:
    """One way to ask the text tower. ``head`` works on features, or with ``embed`` on vectors made from them.

    ``ask`` is the same question for ``Model.run``; none where the model itself would go another way.
    """

    key: str
    rung: str
    head: Head
    ask: Classify | None
    embed: WordVectors | None = None  # 0d: features to vectors by the class probabilities, not by a matrix
    variant: str = ""  # who wrote the sentences, and what that took

    def logits(self, features: Array) -> Array:
        """(n, F) to (n, K)."""
        return self.head.logits(features if self.embed is None else self.embed.word_vectors(features))


@dataclass(frozen=True, slots=True, eq=False)
class TextSide:
    """What the model's text tower makes of the user's classes; nothing, with the reason, where it cannot."""

    rungs: tuple[ZeroShot, ...]
    towers: Towers | None
    reason: str  # why there are no rungs; empty otherwise


def text_side(model: Model, classes: tuple[str, ...], plan: Plan) -> TextSide:
    """Zero-shot heads for the classes, or why there are none (no text tower, labels it cannot read)."""
    try:
        projects = model.towers
        asks = _asks(classes, plan)
        heads = [(key, rung, ask, head_of(projects, projects.text_vectors(ask))) for key, rung, ask in asks]
    except (Unsupported, Untranslatable) as error:
        return TextSide((), None, str(error))
    rungs = [ZeroShot(key, rung, head, ask, variant=_told(key, plan)) for key, rung, ask, head in heads]
    if isinstance(projects, WordVectors):
        rungs = [replace(rung, ask=None) for rung in rungs]
        ask = Classify(classes)
        texts = projects.text_vectors(ask)
        head = Head(texts * projects.temperature, np.zeros(len(classes), np.float32), is_normalised=True)
        rungs.append(ZeroShot("0d", "word vectors (ConSE)", head, ask, projects))
    towers = _towers(projects, classes)
    return TextSide(tuple(rung for rung in rungs if rung.key in plan.rungs), towers, "")


def random_words(model: Model, classes: tuple[str, ...], seed: int) -> Head | None:
    """The null control: each class is called by words that mean nothing, of the length of words that do.

    After Roth et al., "Waffling around for Performance" (ICCV 2023), which adds such words to the names.
    """
    rng = np.random.default_rng(seed)
    descriptions = tuple((" ".join(_word(rng) for _ in range(_WORDS_PER_CLASS)),) for _ in classes)
    try:
        projects = model.towers
        placeholders = tuple(f"class {i}" for i in range(len(classes)))
        return head_of(projects, projects.text_vectors(Classify(placeholders, descriptions=descriptions)))
    except AnmokError:
        return None


def _asks(classes: tuple[str, ...], plan: Plan) -> list[tuple[str, str, Classify]]:
    asks = [
        ("0a", "zero-shot, name", Classify(classes, templates=NAME_ONLY)),
        ("0b", "zero-shot, templates", Classify(classes)),
    ]
    described = plan.described(classes)
    if described is not None:
        asks.append(("0c", "zero-shot, descriptions", Classify(classes, descriptions=described)))
    if plan.written is not None:
        written = plan.written.of(classes)
        asks.append(("0e", "zero-shot, written descriptions", Classify(classes, descriptions=written)))
    return asks


def _told(key: str, plan: Plan) -> str:
    """What the descriptions of a language model took."""
    if key != "0e" or plan.written is None:
        return ""
    lines = sum(len(group) for _, group in plan.written.sentences)
    return f"{lines} sentences by {plan.written.writer}, {plan.written.calls} calls, {plan.written.tokens} tokens"


def _towers(projects: Projects, classes: tuple[str, ...]) -> Towers:
    texts = projects.text_vectors(Classify(classes))
    is_makeshift = isinstance(projects, WordVectors)
    return Towers(texts, projects.projection, projects.temperature, projects.bias, is_makeshift)


def head_of(projects: Projects, texts: Array) -> Head:
    """A head on features out of unit rows (K, D), one per class."""
    bias = np.full(len(texts), projects.bias, np.float32)
    return Head(texts * projects.temperature, bias, projection=projects.projection, is_normalised=True)


def _word(rng: np.random.Generator) -> str:
    length = int(rng.integers(*_WORD_LENGTHS))
    letters = [str(rng.choice(list(_CONSONANTS if i % 2 == 0 else _VOWELS))) for i in range(length)]
    return "".join(letters)
