"""An answer held to a JSON Schema: at each token, which may come next.

What may follow is worked out by llguidance (https://github.com/guidance-ai/llguidance) on the bytes of tokens, so it
holds for every tokenizer that a ``Reader`` reads. The model still chooses; it only cannot choose what would leave the
schema.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from anmok.errors import BadRequest, MissingDependency, TooMuch, Unsupported
from anmok.wording.reader import Reader, Span

_LONGEST: Final = 2**16  # letters of a schema
_DEEPEST: Final = 64  # objects and lists within each other
_MOST_SYMBOLS: Final = 100_000  # of the grammar that is made of it: some 100 ms
_MOST_PATTERNS: Final = 300_000  # steps of reading all patterns: 200 ms
_MOST_STATES: Final = 50_000  # of the lexer, of 1 to 2 kB each

# All of them, so that a schema cannot set them for itself (``x-guidance``). Blanks are bounded: a model that likes them
# would otherwise write nothing else until its tokens are used up.
_RULES: Final = {
    "coerce_one_of": False,
    "lenient": False,
    "item_separator": ",",
    "key_separator": ":",
    "whitespace_flexible": True,
    "whitespace_pattern": r" ?|\n {0,24}",
}
_JSON: Final = frozenset(bytes([letter]) for letter in range(0x20, 0x7F))  # all others can be written with these

# How the library says that it does not know something, rather than that it makes no sense.
_BEYOND: Final = re.compile(r"unimplemented|not supported|unknown format|not fetch|too (big|large|complex|many)|limit")


class Guide:
    """Of one tokenizer. Building it is cheap; the first schema costs a pass over the vocabulary.

    Args:
        reader: the tokenizer.
        ends: tokens that end an answer.
        size: how many logits the net gives, which may be more than the tokenizer has tokens.
    """

    def __init__(self, reader: Reader, ends: Collection[int], size: int) -> None:
        self._reader = reader
        self._ends = sorted(one for one in ends if 0 <= one < size)
        self._size = size

    def start(self, schema: str) -> Held:
        """An answer that has not begun.

        Raises:
            BadRequest: no JSON Schema, or one that nothing can follow.
            TooMuch: more than 65,536 letters, or more than 64 levels.
            Unsupported: it asks for something that the library cannot hold an answer to (``not``, ``uniqueItems``), or
                the tokenizer has not all letters of JSON.
            MissingDependency: llguidance is not installed.
        """
        _check(schema)
        library = _library()
        try:
            grammar = library.LLMatcher.grammar_from_json_schema(schema, overrides=_RULES)
        except ValueError as error:
            raise BadRequest(f"schema: no JSON Schema ({_short(str(error))})") from None
        limits = library.LLParserLimits(
            max_grammar_size=_MOST_SYMBOLS,
            max_lexer_states=_MOST_STATES,
            initial_lexer_fuel=_MOST_PATTERNS,
            verbose_errors=False,
        )
        matcher = library.LLMatcher(self._tokens, grammar, log_level=0, limits=limits)
        held = Held(matcher, self._words, self._is_end)
        if matcher.is_error():
            raise _refused(matcher.get_error())
        held.mask()
        return held

    @cached_property
    def _table(self) -> list[bytes]:
        """What each token adds to an answer; nothing for those that may not stand in one."""
        reader = self._reader
        return [b"" if one in self._ends or reader.is_mark(one) else reader.bytes_of(one) for one in range(self._size)]

    @cached_property
    def _words(self) -> NDArray[np.bool_]:
        """bool (V,): the token adds something, so that no answer stands still."""
        return np.array([bool(one) for one in self._table], np.bool_)

    @cached_property
    def _is_end(self) -> NDArray[np.bool_]:
        """bool (V,)."""
        is_end = np.zeros(self._size, np.bool_)
        is_end[self._ends] = True
        return is_end

    @cached_property
    def _tokens(self) -> Any:
        library = _library()
        if missing := _JSON - set(self._table):
            raise Unsupported(
                f"schema: the model has no token for {min(missing).decode()!r}, so it cannot write all JSON"
            )
        # The library wants one end at least. Where there is none, any token without bytes does: it is never allowed.
        ends = self._ends or [self._size]
        table = [*self._table, b""]
        words = library.TokenizerWrapper(_Words(self._reader, table, ends[0]))
        return library.LLTokenizer(words, eos_token=ends)


class Held:
    """One answer, token by token. It has one caller."""

    def __init__(self, matcher: Any, words: NDArray[np.bool_], is_end: NDArray[np.bool_]) -> None:
        self._matcher, self._words, self._is_end = matcher, words, is_end
        self._allowed: NDArray[np.bool_] | None = None  # where it was worked out for the next token
        self._has_ended = False

    @property
    def is_over(self) -> bool:
        """The JSON is whole, and nothing but an end can follow it."""
        return self._has_ended or (bool(self._matcher.is_stopped()) and not self._matcher.is_error())

    def mask(self) -> NDArray[np.bool_]:
        """bool (V,), read-only: the tokens that may come next, ends among them only where the JSON may end here.

        Raises:
            Unsupported: what may come next is more than can be worked out in a moment.
        """
        if self._allowed is None:
            self._allowed = self._worked_out()
            self._allowed.setflags(write=False)
        return self._allowed

    def take(self, token: int) -> None:
        """The token that was chosen.

        Raises:
            ValueError: one that the mask does not allow.
            Unsupported: as of ``mask``.
        """
        if self._has_ended or not 0 <= token < len(self._words) or not self.mask()[token]:
            raise ValueError(f"token {token}: not one that may come here")
        self._allowed = None
        if self._is_end[token]:
            self._has_ended = True
        elif not self._matcher.consume_token(token):
            raise self._too_much()

    def _worked_out(self) -> NDArray[np.bool_]:
        if self.is_over:
            return self._is_end.copy()
        given = np.frombuffer(self._matcher.compute_logit_bias(), np.uint8)[: len(self._words)]  # (V,)
        if self._matcher.is_error():
            raise self._too_much()
        allowed: NDArray[np.bool_] = (given != 0) & self._words
        if self._matcher.is_accepting():
            return allowed | self._is_end
        if not allowed.any():
            raise Unsupported("schema: the model has no token for what must come next; ask without one")
        return allowed

    def _too_much(self) -> Unsupported:
        told = _short(self._matcher.get_error().removesuffix("<non-verbose/>"))
        return Unsupported(f"schema: too much may come next to work it out ({told}); ask for less")


class _Words:
    """A vocabulary as llguidance asks for it."""

    bos_token_id = None
    special_token_ids: tuple[int, ...] = ()

    def __init__(self, reader: Reader, tokens: list[bytes], end: int) -> None:
        self._reader = reader
        self.tokens = tokens
        self.eos_token_id = end
        self._numbers = {token: i for i, token in enumerate(tokens) if token}
        self._most = max(map(len, tokens))

    def __call__(self, text: str | bytes) -> list[int]:
        """The tokens of what must come next, which say neither more nor less: tokenizers that begin a text with a
        blank are asked in the middle of one."""
        data = text.encode() if isinstance(text, str) else text
        for before in ("", "\n"):
            ids = self._reader.ids([Span(before + data.decode(errors="replace"), is_said=True)])
            for start in range(3):
                if b"".join(self.tokens[one] for one in ids[start:] if one < len(self.tokens)) == data:
                    return ids[start:]
        return self._longest_first(data)

    def _longest_first(self, data: bytes) -> list[int]:
        ids, at = [], 0
        while at < len(data):
            sizes = range(min(self._most, len(data) - at), 0, -1)
            size = next((size for size in sizes if data[at : at + size] in self._numbers), 0)
            if size == 0:
                break  # it has no token for this
            ids.append(self._numbers[data[at : at + size]])
            at += size
        return ids


def _check(schema: str) -> None:
    if len(schema) > _LONGEST:
        raise TooMuch(f"schema: {len(schema):,} letters; {_LONGEST:,} are the most")
    try:
        rows: list[Any] = [json.loads(schema)]
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"schema: no JSON ({_short(str(error))})") from None
    if not isinstance(rows[0], dict):
        raise BadRequest("schema: want a JSON Schema, an object")
    for _ in range(_DEEPEST):  # level by level
        inner = [one.values() if isinstance(one, dict) else one for one in rows]
        rows = [one for level in inner for one in level if isinstance(one, dict | list)]
        if not rows:
            return
    raise TooMuch(f"schema: more than {_DEEPEST} levels of objects and lists within each other")


def _refused(message: str) -> BadRequest:
    told = _short(message.removesuffix("<non-verbose/>"))
    if _BEYOND.search(message.lower()):
        return Unsupported(f"schema: an answer cannot be held to it ({told}); ask for less")
    return BadRequest(f"schema: no JSON Schema that can be followed ({told})")


def _short(message: str) -> str:
    return " ".join(message.split())[:160]


def _library() -> Any:
    try:
        import llguidance  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise MissingDependency("an answer held to a schema needs llguidance: pip install 'anmok[models]'") from None
    return llguidance
