"""How likely a language model holds given answers to be: each answer's tokens, and the token that ends it.

With its end an answer is a whole one. Otherwise "cat" could never be less likely than "cat food", which begins like it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from anmok.nets.speaking import Reading, Run, Script, Speaker

Array = NDArray[np.float64]
Answer = tuple[int, ...]

_MOST: Final = 2**30  # bytes of the prompt's memory over all the answers that are read beside each other
_LEAST: Final = -1e4  # logarithm of the chance of a token that a net rules out
_KEPT: Final = 8  # prompts without a picture


class Likelihood:
    """Of one model. What it says of a prompt without any picture is kept, since it is wanted again and again."""

    def __init__(self, reading: Reading, config: Any, device: str, ends: Collection[int]) -> None:
        self._reading, self._config, self._device = reading, config, device
        self._ends = sorted(ends)
        self._known: OrderedDict[tuple[Answer, tuple[Answer, ...]], Array] = OrderedDict()

    def weighed(self, blind: Script, said: Script, answers: Sequence[Answer]) -> tuple[Array, Array]:
        """Logarithms (A,) and (A,) of how likely the answers are after either prompt. Where both begin with the same
        pictures, these are read once."""
        speaker = Speaker(self._reading, self._config, self._device)  # remembers nothing of earlier questions
        without = self._blind(speaker, blind, tuple(answers))
        return without, log_likelihoods(speaker.begin([said]), answers, self._ends)

    def _blind(self, speaker: Speaker, script: Script, answers: tuple[Answer, ...]) -> Array:
        key = script.keys, answers
        if not script.seen and key in self._known:
            self._known.move_to_end(key)
            return self._known[key]
        run = speaker.begin([script])
        found = log_likelihoods(run, answers, self._ends)
        if script.seen:
            speaker.remember(run)
            return found
        self._known[key] = found
        while len(self._known) > _KEPT:
            self._known.popitem(last=False)
        return found


def log_likelihoods(run: Run, answers: Sequence[Answer], ends: Sequence[int]) -> Array:
    """float64 (A,): of each answer after the one prompt that was read, with its end. Whichever of ``ends`` it is.

    The prompt is read once. Answers are read beside each other, what several begin with once, and as many at a time as
    there is memory for.
    """
    found = np.zeros(len(answers), np.float64)
    order = sorted(range(len(answers)), key=lambda i: answers[i])  # like beginnings lie together
    size = max(1, _MOST // max(run.nbytes, 1))
    for start in range(0, len(order), size):
        _follow(run, {i: answers[i] for i in order[start : start + size]}, ends, found)
    return found


def _follow(run: Run, answers: dict[int, Answer], ends: Sequence[int], found: Array) -> None:
    """Adds to ``found`` (A,). One row of the batch for each beginning that some answer has."""
    beginnings: list[Answer] = [()]
    depth = 0
    while True:
        chances = _log_softmax(run.logits)  # (beginnings, V)
        row_of = {beginning: row for row, beginning in enumerate(beginnings)}
        for i, answer in answers.items():
            row = chances[row_of[answer[:depth]]]  # (V,)
            found[i] += np.logaddexp.reduce(row[ends]) if len(answer) == depth else row[answer[depth]]
        answers = {i: answer for i, answer in answers.items() if len(answer) > depth}
        if not answers:
            return
        depth += 1
        beginnings = list(dict.fromkeys(answer[:depth] for answer in answers.values()))
        rows = [row_of[beginning[:-1]] for beginning in beginnings]
        if depth == 1:
            run = run.apart(rows)
        else:
            run.only(rows)
        run.step([beginning[-1] for beginning in beginnings])


def _log_softmax(logits: NDArray[np.float32]) -> Array:
    """(B, V) to (B, V)."""
    rows = logits.astype(np.float64)
    rows -= rows.max(1, keepdims=True)
    return np.asarray(np.maximum(rows - np.log(np.exp(rows).sum(1, keepdims=True)), _LEAST))
