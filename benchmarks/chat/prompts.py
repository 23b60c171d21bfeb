"""What is asked: our own README, moved on a little each round, so that no cache of prompts helps."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.chat import shapes
from benchmarks.chat.files import vocabulary
from benchmarks.chat.peers import VLM

_SHIFT = 37  # tokens by which each round's prompt is moved on
_BEFORE = 8  # tokens ahead of a picture
_FIRST = "The"
_WORD = re.compile(r" [A-Za-z]{2,}")


@dataclass(frozen=True, slots=True)
class Prompt:
    """Tokens, and for runtimes that take a picture with text alone, the text before and after it.

    Each word of these texts is one token, so that a runtime that adds tokens of its own can leave out as many words.
    """

    ids: tuple[int, ...]
    before: str = ""
    after: str = ""
    tiles: int = 0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class Prompts:
    """Of any length, for each round another."""

    def __init__(self, tokenizer: Any) -> None:
        text = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
        self._ids: list[int] = tokenizer(text)["input_ids"]
        pieces = ((token, tokenizer.decode([token])) for token in self._ids)
        # A word that was one token here is one token wherever a space goes before it. None goes before the first.
        self._words = [(token, piece) for token, piece in pieces if _WORD.fullmatch(piece)]
        [first] = tokenizer(_FIRST)["input_ids"]
        self._first = (first, _FIRST)

    def one(self, model: str, length: int, turn: int, tiles: int) -> Prompt:
        """``length`` tokens of text; for the model that sees, a picture of ``tiles`` tiles behind the first eight."""
        if model != VLM:
            return Prompt(tuple(_from(self._ids, turn * _SHIFT, length)))
        words = [self._first, *_from(self._words, turn * _SHIFT, length - 1)]
        ids = [token for token, _ in words]
        picture = [shapes.IMAGE] * (shapes.ROWS * tiles)
        before, after = ("".join(piece for _, piece in some) for some in (words[:_BEFORE], words[_BEFORE:]))
        return Prompt((*ids[:_BEFORE], *picture, *ids[_BEFORE:]), before, after, tiles)


def tokenizer() -> Any:
    """SmolLM2's, as transformers reads it out of the GGUF."""
    from transformers import AutoTokenizer

    path = vocabulary()
    return AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name, local_files_only=True)


def _from(some: Sequence[Any], start: int, length: int) -> list[Any]:
    """So many from there on, round the end."""
    return [some[(start + i) % len(some)] for i in range(length)]
