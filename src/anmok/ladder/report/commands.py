"""What to type next, from what was typed: ``anmok ladder`` again with other options."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass

_SHORT = {"-m": "--model"}
_FLAGS = ("--json", "--fresh")  # options that take no value
_OWN = "photos/"  # stands for the reader's folder where the command names none


@dataclass(frozen=True, slots=True)
class Action:
    """One thing to do: whole sentences, and the command that does it, "" where there is none."""

    words: str
    command: str = ""


def again(typed: str, options: Mapping[str, str]) -> str:
    """``typed`` with ``options`` instead of its own of these names; a plain command where ``typed`` is none."""
    words = _words(typed)
    if not _is_ladder(words):
        words = ["anmok", "ladder", _OWN]
    return shlex.join([*_without(words, tuple(options)), *(word for pair in options.items() for word in pair)])


def with_table(typed: str, table: str) -> str:
    """``typed`` on the reader's folder with the labels in ``table``. A demo and a data set bring their own labels:
    for them ``photos/`` stands for the folder."""
    words = _words(typed)
    is_folder = _is_ladder(words) and not words[2].startswith(("-", "hf:"))
    return again(typed if is_folder else "", {"--labels": table})


def _words(typed: str) -> list[str]:
    try:
        return shlex.split(typed)
    except ValueError:  # quotes that do not close: nothing that a shell would run
        return []


def _is_ladder(words: list[str]) -> bool:
    return words[:2] == ["anmok", "ladder"] and len(words) > 2


def _without(words: list[str], names: tuple[str, ...]) -> list[str]:
    kept: list[str] = []
    is_value = False
    for word in words:
        option, equals, _ = word.partition("=")
        is_named = not is_value and _SHORT.get(option, option) in names
        if not (is_named or is_value):
            kept.append(word)
        is_value = is_named and not equals and option not in _FLAGS
    return kept
