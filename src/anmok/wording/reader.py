"""A ``tokenizer.json``: text to ids, and an id to the bytes that it stands for."""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from anmok.errors import BadRequest, BadWeights

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_HALVES = re.compile("[\ud800-\udfff]")  # of surrogate pairs: names of files hold them, UTF-8 does not


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of a prompt: the template's own words, or what somebody ``said``, in which nothing is special."""

    text: str
    is_said: bool = False


class Reader:
    """Ids of texts and bytes of ids.

    A *mark* is a token that stands for something beside words: a special one, or an added one with signs in it
    (``<tool_call>``; some checkpoints do not call ``<image>`` special). Added tokens of letters, digits or blanks alone
    are words like others. Inside, marks have names that nobody can know, so nobody can type one: whatever a text
    spells out, or becomes when it is normalised, is no mark.

    Args:
        content: what ``tokenizer.json`` holds; how it ends a text (``post_processor``) is left out.
        name: of the card, for messages.

    Raises:
        BadWeights: it is no tokenizer.
    """

    def __init__(self, content: str, name: str) -> None:
        facts = _facts(content)
        if facts is None:
            raise BadWeights(f"{name}: not a tokenizer.json (its model or its added tokens); is it damaged?")
        added = facts["added_tokens"]
        secret = secrets.token_hex(8)
        self._hidden = {one["content"]: f"\ue0f2{secret}{i}\ue0f3" for i, one in enumerate(added) if _is_mark(one)}
        backend = _made(facts, self._hidden)
        if backend is None:
            raise BadWeights(f"{name}: not a tokenizer.json that this version of tokenizers reads; is it damaged?")
        self.content = content
        self._backend = backend
        self._marks = {hidden: mark for mark, hidden in self._hidden.items()}
        self._added = frozenset(one["content"] for one in added)
        self._special = frozenset(one["content"] for one in added if one.get("special"))
        self._pattern = _pattern([one for one in added if one["content"] in self._hidden])
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
        return int(self._backend.get_vocab_size())

    @cached_property
    def longest(self) -> int | None:
        """How many letters one token stands for at most; ``None`` where all that is unknown may become a single one.
        So nobody has to wait for the ids of a text that is far too long."""
        model = json.loads(self.content)["model"]
        if not (self._is_of_bytes or model.get("byte_fallback")):
            return None
        return max(len(token) for token in self._backend.get_vocab() if token not in self._marks)

    def check_letters(self, letters: int, context: int, what: str = "conversation") -> None:
        """Refuses what is far too long before it becomes ids, which takes seconds.

        Raises:
            BadRequest: so many letters of a ``what`` are more tokens than ``context``, however they are cut.
        """
        longest = self.longest if letters > context else None
        if longest and (least := letters // longest) > context:
            raise BadRequest(f"the {what} has over {least:,} tokens and the model reads {context:,}; shorten it")

    def id_of(self, token: str) -> int | None:
        """The id of one token as it is written; ``None`` where it is none."""
        found: int | None = self._backend.token_to_id(self._hidden.get(token, token))
        return found

    def is_mark(self, token: int) -> bool:
        """Whether an id is a mark's."""
        return self._backend.id_to_token(token) in self._marks

    def ids(self, spans: Iterable[Span | str]) -> list[int]:
        """The ids of a prompt, as the tokenizer makes them of the whole text; but where something somebody said reads
        like a mark, or makes one together with what stands beside it, it is taken by its letters."""
        given = [Span(one) if isinstance(one, str) else one for one in spans]
        runs = [(is_said, "".join(one.text for one in run)) for is_said, run in groupby(given, lambda one: one.is_said)]
        text = "".join(run if is_said else self._marked(run) for is_said, run in runs)
        text = _HALVES.sub("\ufffd", text)
        found: list[int] = self._backend.encode(text, add_special_tokens=False).ids
        return found

    def bytes_of(self, token: int, *, is_first: bool = False) -> bytes:
        """What an id adds to the text; nothing for a special one. ``is_first`` of an answer: some tokenizers begin
        every word with a space, and drop it there."""
        found = self._backend.id_to_token(token)
        if found is None:  # a row of the net's table that no token has
            return b""
        text: str = self._marks.get(found, found)
        if text in self._special:
            return b""
        if self._is_of_bytes:
            is_bytes = text not in self._added and all(letter in _BYTES for letter in text)
            return bytes(_BYTES[letter] for letter in text) if is_bytes else text.encode()
        if (byte := _BYTE.fullmatch(text)) is not None:
            return bytes([int(byte[1], 16)])
        spaced = text.replace("▁", " ")
        return (spaced.removeprefix(" ") if is_first and self._strips_first else spaced).encode()

    def _marked(self, text: str) -> str:
        """The template's own words with marks by their names inside."""
        return text if self._pattern is None else self._pattern.sub(lambda match: self._hidden[match.group()], text)


def backend_of(content: str) -> Tokenizer | None:
    """What the ``tokenizers`` library makes of a file, without padding and truncation; nothing where it refuses it."""
    with contextlib.suppress(Exception):  # the library raises the bare class for whatever it does not like
        backend = Tokenizer.from_str(content)
        backend.no_truncation()
        backend.no_padding()
        return backend
    return None


def _facts(content: str) -> dict[str, Any] | None:
    """The parts of the file that are looked into have their forms; otherwise nothing."""
    try:
        facts = json.loads(content)
    except (ValueError, RecursionError):
        return None
    if not isinstance(facts, dict):
        return None
    added = facts.setdefault("added_tokens", []) or []
    facts["added_tokens"] = added
    model = facts.get("model")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    has_forms = (
        isinstance(vocabulary, dict | list)
        and (isinstance(vocabulary, dict) or all(isinstance(row, list) and len(row) == 2 for row in vocabulary))
        and isinstance(added, list)
        and all(isinstance(one, dict) and isinstance(one.get("content"), str) and one["content"] for one in added)
    )
    return facts if has_forms else None


def _is_mark(added: Mapping[str, Any]) -> bool:
    """``▁``, which stands for a blank, is no sign; neither are the names of bytes, which spell text."""
    content = added["content"]
    has_signs = any(unicodedata.category(letter)[0] in "PSC" for letter in content if letter not in "▁\n\t\r")
    return bool(added.get("special")) or (has_signs and _BYTE.fullmatch(content) is None)


def _made(facts: Mapping[str, Any], hidden: Mapping[str, str]) -> Tokenizer | None:
    """The tokenizer with marks by their names inside. Their ids stay."""
    marks = [{**one, "single_word": False} if one["content"] in hidden else one for one in facts["added_tokens"]]
    added = [{**one, "content": hidden.get(one["content"], one["content"])} for one in marks]
    changed = {**facts, "model": _renamed(facts["model"], hidden), "added_tokens": added, "post_processor": None}
    backend = backend_of(json.dumps(changed))
    # Of a normaliser that puts something before a text, a mark that is looked for in normalised text has it too, and
    # would be found at the beginning alone.
    names = frozenset(hidden.values())
    lost = [one for one in added if backend is not None and one.get("normalized") and one["content"] in names]
    lost = [one for one in lost if not _finds(backend, one["content"])]
    if not lost:
        return backend
    return backend_of(json.dumps({**changed, "added_tokens": [{**one, "normalized": False} for one in added]}))


def _finds(backend: Any, name: str) -> bool:
    return backend.token_to_id(name) in backend.encode(f".{name}.", add_special_tokens=False).ids


def _renamed(model: Mapping[str, Any], hidden: Mapping[str, str]) -> dict[str, Any]:
    """The model without words that are marks, where its vocabulary has some."""
    vocabulary = model["vocab"]
    if isinstance(vocabulary, dict):
        changed: Any = {hidden.get(token, token): number for token, number in vocabulary.items()}
    else:
        changed = [[hidden.get(str(piece), piece), score] for piece, score in vocabulary]
    renamed = {**model, "vocab": changed}
    if isinstance(model.get("unk_token"), str):
        renamed["unk_token"] = hidden.get(model["unk_token"], model["unk_token"])
    if (
        isinstance(model.get("merges"), list)
        and isinstance(vocabulary, dict)
        and not hidden.keys().isdisjoint(vocabulary)
    ):
        renamed["merges"] = [one for one in model["merges"] if hidden.keys().isdisjoint(_joined(one))]
    return renamed


def _joined(merge: str | list[str]) -> tuple[str, ...]:
    """Two tokens, which older files have in one text, and that which becomes of them."""
    pair = merge.split(" ", 1) if isinstance(merge, str) else merge
    return *pair, "".join(pair)


def _pattern(marks: Iterable[Mapping[str, Any]]) -> re.Pattern[str] | None:
    """Finds them as the library does: the first, and of those the longest."""
    longest_first = sorted(marks, key=lambda one: len(one["content"]), reverse=True)
    escaped = [(re.escape(one["content"]), bool(one.get("single_word"))) for one in longest_first]
    return re.compile("|".join(rf"(?<!\w){one}(?!\w)" if alone else one for one, alone in escaped)) if escaped else None


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
