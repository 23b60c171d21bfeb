"""A checkpoint's small files: its chat template, its special tokens, what ends an answer."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from anmok.errors import BadWeights
from anmok.wording.reader import Reader, backend_of

_NAMED: Final = ("bos_token", "eos_token", "pad_token", "unk_token")


@dataclass(frozen=True, slots=True)
class Files:
    """By their names in the repository. ``card`` is named in messages."""

    paths: Mapping[str, Path]
    card: str

    def within(self, folder: str, ending: str) -> list[Path]:
        """Those that lie in a folder, "" for the repository itself."""
        return [
            path for name, path in self.paths.items() if name.rpartition("/")[0] == folder and name.endswith(ending)
        ]

    def text(self, name: str) -> str:
        """Raises:
        BadWeights: the file is not there, or holds no text."""
        if name not in self.paths:
            raise BadWeights(f"{self.card}: {name} is missing")
        try:
            return self.paths[name].read_text(encoding="utf-8")
        except (OSError, UnicodeError) as error:
            raise BadWeights(f"{self.card}: {name} cannot be read ({error})") from None

    def json(self, name: str) -> dict[str, Any]:
        """What a file holds; nothing where the checkpoint has none.

        Raises:
            BadWeights: it holds no JSON object."""
        if name not in self.paths:
            return {}
        try:
            found = json.loads(self.text(name))
        except ValueError as error:
            raise BadWeights(f"{self.card}: {name} is no JSON ({error})") from None
        if not isinstance(found, dict):
            raise BadWeights(f"{self.card}: {name} holds no object")
        return found

    def template(self, otherwise: str) -> str:
        """The chat template, wherever it lies; ``otherwise`` where there is none.

        Raises:
            BadWeights: nor that."""
        if "chat_template.jinja" in self.paths:
            return self.text("chat_template.jinja")
        found = self.json("chat_template.json").get("chat_template")
        found = found or self.json("tokenizer_config.json").get("chat_template") or otherwise
        if isinstance(found, list):  # several, by name
            found = next((one.get("template") for one in found if one.get("name") == "default"), None)
        if not isinstance(found, str) or not found:
            raise BadWeights(f"{self.card}: no chat template, so it was not made to chat")
        return found

    def special(self) -> dict[str, str]:
        """Texts of tokens that templates ask for by name."""
        settings = self.json("tokenizer_config.json")
        values = {key: settings.get(key) for key in _NAMED}
        return {
            key: str(value.get("content", "")) if isinstance(value, dict) else str(value or "")
            for key, value in values.items()
        }

    def ends(self, reader: Reader, usual: Collection[str]) -> frozenset[int]:
        """Tokens that end an answer, by number and by name; ``usual`` are those of the family.

        Raises:
            BadWeights: none, so that no answer would end."""
        numbers: set[int] = set()
        for source in (self.json("generation_config.json"), self.json("config.json")):
            for part in (source, source.get("text_config")):
                given = part.get("eos_token_id") if isinstance(part, dict) else None
                numbers |= {int(one) for one in (given if isinstance(given, list) else [given]) if one is not None}
        named = {self.special()["eos_token"], *usual}
        numbers |= {found for one in named if one and (found := reader.id_of(one)) is not None}
        if not numbers:
            raise BadWeights(f"{self.card}: no token ends its answers: eos_token_id is missing")
        return frozenset(numbers)


def opening(reader: Reader, begin: str) -> str:
    """``begin``, where it is the tokenizer's work to put it before a text. Templates of models with eyes are written
    for processors, which leave that to it (LLaVA's, for one); templates of other models say all themselves."""
    backend = backend_of(reader.content) if begin else None
    if backend is None:
        return ""
    return begin if backend.encode("").ids[:1] == [reader.id_of(begin)] else ""
