"""How likely Moondream holds given answers to be: token by token through its memory, shared beginnings read once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from anmok.nets.moondream_mind import Ids, Mind

Array = NDArray[np.float64]

_LEAST: Final = -1e4  # logarithm of the chance of a token that a net rules out


def log_likelihoods(mind: Mind, memory: Any, prompt: Ids, answers: Sequence[Ids], eos: int) -> Array:
    """float64 (A,): of each answer behind the prompt, with the token that ends it. ``memory`` is not written to."""
    longest = max(len(answer) for answer in answers)
    mine = mind.copied(memory, len(prompt) + longest)
    logits, _ = mind.read(mine, mind.words(prompt))
    found = np.zeros(len(answers), np.float64)
    _follow(mind, (mine, logits), dict(enumerate(answers)), eos, found)
    return found


def _follow(
    mind: Mind, read: tuple[Any, NDArray[np.float32]], answers: Mapping[int, Ids], eos: int, found: Array
) -> None:
    """Adds to ``found`` (A,) what is left of the answers behind what was ``read``, with its logits (V,)."""
    memory, logits = read
    row = logits.astype(np.float64) - float(logits.max())  # (V,)
    row = np.maximum(row - np.log(np.exp(row).sum()), _LEAST)
    coming: dict[int, dict[int, Ids]] = {}
    for i, answer in answers.items():
        found[i] += row[answer[0] if answer else eos]
        if answer:
            coming.setdefault(answer[0], {})[i] = answer[1:]
    for token, rest in coming.items():
        mine = mind.copied(memory, 1 + max(len(answer) for answer in rest.values()))
        after, _ = mind.read(mine, mind.words((token,)))
        _follow(mind, (mine, after), rest, eos, found)
