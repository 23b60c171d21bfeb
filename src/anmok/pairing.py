"""What every model with a picture tower and a text tower does alike: prompts averaged, cosines scored."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from anmok import words
from anmok.errors import BadRequest
from anmok.inputs import Encoded, Text
from anmok.results import Embedding, Scores
from anmok.tasks import Classify, Embed, Projects, TextRules, WordVectors

Array = NDArray[np.float32]
Reader = Callable[[Sequence[str]], Array]  # sentences to unit rows (N, D)


_one_at_a_time = threading.Lock()


@cache
def _pools() -> Any:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()  # of the libraries that are loaded by now, numpy's among them


def product(rows: Array, columns: Array) -> Array:
    """The product (N, D) of matrices (N, F) and (F, D), on one thread of numpy's BLAS.

    These are thin: a second thread brings nothing, and waits afterwards for more work at full speed, beside the net
    that needs the cores.
    """
    with _one_at_a_time, _pools().limit(limits=1, user_api="blas"):
        return np.asarray(rows @ columns)


def unit(rows: Array) -> Array:
    """Rows (..., D) brought to length 1; a zero row stays zero."""
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12), np.float32)


def text_vectors(ask: Classify, rules: TextRules, languages: tuple[str, ...], reader: Reader) -> Array:
    """One unit row per label (K, D): the mean of its prompts' unit vectors, normalised again.

    Source: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision" (ICML 2021),
    prompt ensembling in embedding space.

    Raises:
        Untranslatable: a label in a language that the tower does not read.
    """
    groups = _prompts(ask, rules, languages)
    rows = reader([prompt for group in groups for prompt in group])  # (N, D), all prompts in one go
    ends = np.cumsum([len(group) for group in groups])
    return unit(np.stack([part.mean(0) for part in np.split(rows, ends[:-1])]))  # (K, D)


def image_vectors(features: Array, towers: Projects) -> Array:
    """(B, F) to unit rows (B, D): by the model's word vectors where it prefers them, otherwise by its projection."""
    if isinstance(towers, WordVectors):
        return towers.word_vectors(features)
    return unit(product(features, towers.projection))


def classified(
    states: Sequence[Encoded],
    ask: Classify,
    towers: Projects,
    scoring: Literal["softmax", "sigmoid"],
    languages: tuple[str, ...],
) -> list[Scores]:
    """Cosines of pictures and labels, scaled as the family demands, to scores."""
    assert ask.labels is not None
    texts = towers.text_vectors(ask)  # (K, D)
    images = image_vectors(np.stack([state.features for state in states]), towers)  # (B, D)
    logits = towers.temperature * product(images, texts.T) + towers.bias  # (B, K)
    read_as = () if ask.descriptions is not None else words.english(ask.labels, languages)
    return [score_row(row, ask, scoring, read_as) for row in logits]


def embedded(states: Sequence[Encoded | Text], ask: Embed, towers: Projects, reader: Reader) -> list[Embedding]:
    """Pictures into the shared space or as features; texts into the shared space."""
    answers: list[Embedding] = []
    for state in states:
        if isinstance(state, Encoded) and ask.space == "features":
            answers.append(Embedding(state.features, "features"))
        elif isinstance(state, Encoded):
            answers.append(Embedding(image_vectors(state.features[None], towers)[0], "image"))
        elif ask.space == "features":
            raise BadRequest("a text has no features: ask for space='image'")
        else:
            answers.append(Embedding(reader([state.text])[0], "text"))
    return answers


def score_row(
    logits: NDArray[np.floating],
    ask: Classify,
    scoring: Literal["softmax", "sigmoid"],
    read_as: Sequence[str] = (),
) -> Scores:
    """One row of logits (K,) to a result, in double precision so that batch-mates cannot shift the last digit."""
    assert ask.labels is not None
    row = logits.astype(np.float64)  # (K,)
    if scoring == "softmax":
        raised = np.exp(row - row.max())
        values = raised / raised.sum()
    else:
        values = 0.5 * (1.0 + np.tanh(0.5 * row))  # the sigmoid, without overflow
    return Scores(ask.labels, values.astype(np.float32), scoring, ask.threshold, ask.top_k, tuple(read_as))


def _prompts(ask: Classify, rules: TextRules, languages: tuple[str, ...]) -> list[list[str]]:
    if ask.descriptions is not None:
        return [list(words.english(group, languages)) for group in ask.descriptions]
    assert ask.labels is not None
    templates = ask.templates if ask.templates is not None else rules.templates
    names = words.english(ask.labels, languages)
    return [[template.replace("{}", name) for template in templates] for name in names]
