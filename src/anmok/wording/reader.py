"""A ``tokenizer.json``: text to ids, and an id to the bytes that it stands for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from anmok.errors import BadWeights

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of a prompt: the template's own words, or what somebody ``said``, in which nothing is special."""

    text: str
    is_said: bool = False


class Reader:
    """Ids of texts and bytes of ids.

    Args:
        content: what ``tokenizer.json`` holds.
        name: of the card, for messages.

    Raises:
        BadWeights: it is no tokenizer.
    """

    def __init__(self, content: str, name: str) -> None:
        try:
            facts = json.loads(content)
            self._whole = Tokenizer.from_str(content)
            # The same without special tokens: for what somebody said.
            self._plain = Tokenizer.from_str(json.dumps({**facts, "added_tokens": [], "post_processor": None}))
        # The library raises a bare Exception for whatever it cannot read.
        except Exception as error:  # noqa: BLE001
            raise BadWeights(f"{name}: tokenizer.json is no tokenizer ({str(error)[:80]})") from None
        for one in (self._whole, self._plain):
            one.no_truncation()
            one.no_padding()
        self.content = content
        added: list[dict[str, Any]] = facts.get("added_tokens") or []
        self._added: dict[str, int] = {str(one["content"]): int(one["id"]) for one in added}
        self._special = frozenset(int(one["id"]) for one in added if one.get("special"))
        longest_first = sorted(self._added, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None
        parts = _parts(facts.get("decoder"))
        self._is_of_bytes = any(part["type"] == "ByteLevel" for part in parts)
        self._strips_first = any(part["type"] == "Strip" and part.get("start") for part in parts) or any(
            part["type"] == "Metaspace" and part.get("prepend_scheme", "always") != "never" for part in parts
        )

    @classmethod
    def from_file(cls, path: Path, name: str) -> Reader:
        try:
            return cls(path.read_text(encoding="utf-8"), name)
        except (OSError, UnicodeError) as error:
            raise BadWeights(f"{name}: {path.name} cannot be read ({error})") from None

    @property
    def size(self) -> int:
        """Entries of the vocabulary, added ones included."""
        return int(self._whole.get_vocab_size())

    def id_of(self, token: str) -> int | None:
        """The id of one token as it is written; ``None`` where it is none."""
        found: int | None = self._whole.token_to_id(token)
        return found

    def ids(self, spans: Iterable[Span | str]) -> list[int]:
        """The ids of a prompt, as the tokenizer makes them of the whole text; but where something somebody said reads
        like a special token, it is taken by its letters."""
        given = [Span(one) if isinstance(one, str) else one for one in spans]
        text = "".join(one.text for one in given)
        literal = _literal(given)
        matches = [] if self._pattern is None else list(self._pattern.finditer(text))
        if all(_lies_in(match.span(), literal) for match in matches):
            found: list[int] = self._whole.encode(text, add_special_tokens=False).ids
            return found
        ids, at = [], 0
        for match in matches:
            if _lies_in(match.span(), literal):
                ids += [*self._letters(text[at : match.start()]), self._added[match.group()]]
                at = match.end()
        return [*ids, *self._letters(text[at:])]

    def bytes_of(self, token: int, *, is_first: bool = False) -> bytes:
        """What an id adds to the text; nothing for a special one. ``is_first`` of an answer: some tokenizers begin
        every word with a space, and drop it there."""
        if token in self._special:
            return b""
        text = self._whole.id_to_token(token)
        if text is None:  # a row of the net's table that no token has
            return b""
        if text in self._added:
            return str(text).encode()
        if self._is_of_bytes:
            return bytes(_BYTES.get(letter, 32) for letter in text)
        if (found := _BYTE.fullmatch(text)) is not None:
            return bytes([int(found[1], 16)])
        spaced = text.replace("▁", " ")
        return (spaced.removeprefix(" ") if is_first and self._strips_first else spaced).encode()

    def _letters(self, text: str) -> list[int]:
        found: list[int] = self._plain.encode(text, add_special_tokens=False).ids if text else []
        return found


def _literal(spans: Sequence[Span]) -> list[tuple[int, int]]:
    """Where the template's own words lie in the joined text; neighbours are one."""
    ranges: list[tuple[int, int]] = []
    at = 0
    for span in spans:
        end = at + len(span.text)
        if not span.is_said and span.text:
            start = ranges.pop()[0] if ranges and ranges[-1][1] == at else at
            ranges.append((start, end))
        at = end
    return ranges


def _lies_in(one: tuple[int, int], ranges: Sequence[tuple[int, int]]) -> bool:
    return any(start <= one[0] and one[1] <= end for start, end in ranges)


def _parts(decoder: dict[str, Any] | None) -> list[dict[str, Any]]:
    if decoder is None:
        return []
    return list(decoder["decoders"]) if decoder["type"] == "Sequence" else [decoder]


def _letters_of_bytes() -> dict[str, int]:
    """How byte-level BPE writes bytes: those that print as themselves, the others from U+0100 on.

    Source: Radford et al., "Language Models are Unsupervised Multitask Learners" (2019), openai/gpt-2 ``encoder.py``.
    """
    printed = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printed]
    return {chr(byte): byte for byte in printed} | {chr(256 + i): byte for i, byte in enumerate(others)}


_BYTES = _letters_of_bytes()
