"""Every word that a person reads on the page, by language. A tab has two files of its own: ``label.en.toml`` and
``label.ko.toml``; a key is the file's name and the way into it: ``label.keys.undo``.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib import resources
from string import Formatter
from typing import Any, Final

from anmok.errors import AnmokError, BadRequest, Refused
from anmok.wire import refusals

LANGUAGES: Final = ("en", "ko")

_GAPS: Final = {"en": "\u00a0", "ko": ""}  # before a per cent sign, which never begins a line


class Spoken(BadRequest):
    """What a visitor has to do first, in words of the page and in its language."""


class _Filling(Formatter):
    """As ``str.format``, with ``{0:.0%}`` as a language writes it: ``87 %`` in English, ``87%`` in Korean."""

    def __init__(self, language: str) -> None:
        self._gap = _GAPS[language]

    def format_field(self, value: Any, format_spec: str) -> str:
        written = format(value, format_spec)
        return f"{written[:-1]}{self._gap}%" if format_spec.endswith("%") else written


class Words:
    """The texts of one language.

    >>> Words("ko")("try.found", 3)
    '3개를 찾았습니다.'
    """

    def __init__(self, language: str) -> None:
        self.language = language
        self._filling = _Filling(language)
        self._table = table(language)

    def __call__(self, key: str, *values: object) -> str:
        """The text of that key, with ``{0}``, ``{1}`` ... filled in; a share by ``{0:.0%}``.

        Raises:
            KeyError: there is none: a fault of the page, which its tests find.
        """
        text = self._table[key]
        return self._filling.format(text, *values) if values else text

    def below(self, place: str) -> dict[str, str]:
        """All texts whose keys begin with that place, by the rest of their keys."""
        start = f"{place}."
        return {key.removeprefix(start): text for key, text in self._table.items() if key.startswith(start)}

    def has(self, key: str) -> bool:
        return key in self._table

    def tongues(self, codes: Iterable[str]) -> str:
        """Languages by their names, with commas between them; one that has no name here by its code.

        Args:
            codes: as a card has them, ``("en", "ko")``.
        """
        keys = {code: f"page.tongue.{code}" for code in codes}
        return ", ".join(self(key) if self.has(key) else code for code, key in keys.items())

    def error(self, error: AnmokError, message: str = "") -> str:
        """One line: what is wrong in this language where it is another one than the message's, and the message.

        Args:
            error: whatever it is.
            message: what of it may be told; by default as ``anmok.wire.refusals`` says.
        """
        message = message or refusals.public_message(error)
        if isinstance(error, Spoken):
            return message
        key = f"page.errors.{refusals.code(error)}"
        if not self.has(key):
            return message
        after = max(1, round(error.retry_after)) if isinstance(error, Refused) else 0
        return f"{self(key, after)} ({message})"


@cache
def table(language: str) -> Mapping[str, str]:
    """All texts of a language, by their keys."""
    found: dict[str, str] = {}
    ending = f".{language}.toml"
    for file in sorted(resources.files(__name__).iterdir(), key=lambda file: file.name):
        if file.name.endswith(ending):
            content = tomllib.loads(file.read_text(encoding="utf-8"))
            found.update(_flat(content, file.name.removesuffix(ending)))
    return found


def _flat(content: Mapping[str, Any], place: str) -> Iterator[tuple[str, str]]:
    for key, value in content.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{place}.{key}")
        else:
            yield f"{place}.{key}", str(value)
