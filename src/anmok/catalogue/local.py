"""Cards of the user's own: one TOML file each, read beside the catalogue's and as light.

They lie in ``ANMOK_CARDS``, or in ``cards`` of the user's configuration folder; the weights that were copied lie in a
folder of the card's name, in ``ANMOK_CARDS`` too or in ``own`` of the user's data folder. A card names no code: its
kind is one of those below. One that cannot be read is left out with a warning, and breaks nothing.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from anmok.catalogue.sources import FolderSource, Licence
from anmok.errors import BadData, BadRequest, CannotWrite
from anmok.files import discard, write_text

log: Final = logging.getLogger("anmok")

VARIABLE = "ANMOK_CARDS"
FAMILY = "own"
CODE: Mapping[str, str] = MappingProxyType({"onnx": "onnx:Onnx", "adapter": "anmok.load.adapted:Adapted"})
OWN = Licence("own", "your own model", "", True, "what you allow")

FORMAT = 1
MANIFEST = "own.json"  # in every folder of weights, and what tells that it is ours
NAME = re.compile(r"[a-z0-9]+([-.][a-z0-9]+)*")
_FIELDS: Mapping[str, type] = MappingProxyType(
    {
        **dict.fromkeys(("name", "kind", "summary", "licence", "scoring"), str),
        **dict.fromkeys(("pixels", "source", "parts"), dict),
        **dict.fromkeys(("tasks", "languages"), list),
        "params": int,
    }
)
TASKS = ("embed", "classify")
SCORINGS = ("softmax", "sigmoid")
_REMEDY = f"set {VARIABLE} to a folder that you may write to"


@dataclass(frozen=True, slots=True)
class OwnSource(FolderSource):
    """A folder of ``anmok card new``. ``revision`` is the digest of what the features depend on, so that those of an
    older model of the same name are not taken for this one's."""

    revision: str = ""

    @property
    def revision_key(self) -> str:
        return self.revision


@dataclass(frozen=True, slots=True)
class Seen:
    """A card's file as the disk shows it: another size or time is another content."""

    path: Path
    size: int
    modified_ns: int


def cards_folder() -> Path:
    """Where the cards lie. It may not be there yet."""
    chosen = os.environ.get(VARIABLE, "")
    if chosen:
        return Path(chosen).expanduser().absolute()
    import platformdirs  # slow to import, and `import anmok` lists nothing

    return Path(platformdirs.user_config_dir("anmok", appauthor=False)) / "cards"


def weights_folder(name: str) -> Path:
    """Where the copied weights of a card of that name lie."""
    chosen = os.environ.get(VARIABLE, "")
    if chosen:
        return cards_folder() / name
    import platformdirs

    return Path(platformdirs.user_data_dir("anmok", appauthor=False)) / "own" / name


def check_free(folder: Path) -> None:
    """Nothing of the user's stands where a card's weights go, or would go with them.

    Raises:
        CannotWrite: something does.
    """
    if folder.exists() and not (folder / MANIFEST).is_file():
        raise CannotWrite(f"{folder} is there and was not made by anmok; move it away, or give another name")


def file_of(name: str) -> Path:
    """The card's file."""
    return cards_folder() / f"{name}.toml"


def seen() -> tuple[Seen, ...]:
    """All files of cards, by name. Cheap: nothing is opened."""
    try:
        return tuple(sorted(_listed(cards_folder()), key=lambda one: one.path.name))
    except (FileNotFoundError, NotADirectoryError):
        return ()
    except OSError as error:
        log.warning("%s: your own models are left out: %s", cards_folder(), error.strerror)
        return ()


def _listed(folder: Path) -> Iterator[Seen]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(".toml") and not entry.name.startswith(".") and entry.is_file():
                with contextlib.suppress(FileNotFoundError):  # removed while we look
                    status = entry.stat()
                    yield Seen(Path(entry.path), status.st_size, status.st_mtime_ns)


def row(path: Path) -> dict[str, Any]:
    """The row that the catalogue makes a card of.

    Raises:
        BadData: the file is no card of ours.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        if content.pop("format", None) != FORMAT:
            raise BadData(f"{path}: want format = {FORMAT}, as `anmok card new` writes it")
        values = {"family": FAMILY, "code": CODE[content["kind"]], **content}
        # A relative path starts at the card's file, so that both can move together.
        values["source"] = {"revision": "", **content["source"], "path": str(path.parent / content["source"]["path"])}
    except OSError as error:
        raise BadData(f"{path} cannot be read ({error.strerror})") from None
    except (KeyError, TypeError, AttributeError, ValueError) as error:  # ValueError: no UTF-8, no TOML
        raise BadData(f"{path} is no card ({error})") from None
    wrong = [key for key, value in content.items() if not isinstance(value, _FIELDS.get(key, ()))]
    wrong += [key for key in ("name", "tasks", "summary", "licence", "pixels") if key not in content]
    if wrong:
        raise BadData(f"{path}: the field {wrong[0]!r} is missing, not known, or of another kind than it has to be")
    texts = (*values.get("languages", ()), *values.get("parts", {}).values())
    if not all(task in TASKS for task in values["tasks"]) or not all(isinstance(text, str) for text in texts):
        raise BadData(f"{path}: tasks are {' and '.join(TASKS)}; languages and parts are texts")
    if values.get("scoring", SCORINGS[0]) not in SCORINGS:
        raise BadData(f"{path}: scoring is {' or '.join(SCORINGS)}")
    if values["name"] != path.stem or not NAME.fullmatch(path.stem):
        raise BadData(f"{path}: the file of {values['name']!r} wants that name, in small letters, numbers, dashes")
    return values


def check_name(name: str) -> None:
    """Is it a name as the catalogue has them?

    Raises:
        BadRequest: it is not.
    """
    if not NAME.fullmatch(name):
        raise BadRequest(f"name {name!r}: want small letters and numbers with dashes between: part-classifier")


def write(values: Mapping[str, Any]) -> Path:
    """Writes a card, whole or not at all; one of that name is replaced. Returns its file.

    Raises:
        CannotWrite: a full or read-only disk.
    """
    plain = {key: value for key, value in values.items() if not isinstance(value, Mapping)}
    tables = {key: value for key, value in values.items() if isinstance(value, Mapping)}
    lines = ["# Written by `anmok card new`.", f"format = {FORMAT}", *_assigned(plain)]
    for name, table in tables.items():
        lines += ["", f"[{name}]", *_assigned(table)]
    path = file_of(values["name"])
    write_text(path, "\n".join(lines) + "\n", remedy=_REMEDY)
    return path


def remove(name: str) -> None:
    """Takes away the card's file, then the weights that were copied for it. What was linked to stays.

    Raises:
        CannotWrite: the folder refuses it.
    """
    folder = weights_folder(name)
    try:
        file_of(name).unlink(missing_ok=True)
        if (folder / MANIFEST).is_file():
            discard(folder)
    except OSError as error:
        raise CannotWrite(f"{error.filename}: cannot be removed ({error.strerror}); {_REMEDY}") from None


def _assigned(values: Mapping[str, Any]) -> list[str]:
    """JSON's strings, numbers, booleans and arrays are TOML's too, but for one character that TOML wants escaped."""
    return [
        f"{key} = {json.dumps(value, ensure_ascii=False)}".replace("\x7f", "\\u007f") for key, value in values.items()
    ]


def read_labels(path: Path) -> tuple[str, ...]:
    """Labels in the order of the outputs: one a line, or JSON: a list, ``{"0": "cat"}`` or ``{"cat": 0}``.

    Raises:
        BadData: the file cannot be read, or says nothing of some output.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadData(f"{path}: the labels cannot be read ({error})") from None
    if not text.lstrip().startswith(("{", "[")):
        return tuple(line.strip() for line in text.strip().splitlines())
    try:
        content = json.loads(text)
    except ValueError as error:
        raise BadData(f"{path}: the labels are no JSON ({error})") from None
    if isinstance(content, dict):
        content = _numbered(path, content)
    if not all(isinstance(label, str) for label in content):
        raise BadData(f"{path}: want texts as labels, or a table of number and label")
    return tuple(content)


def _numbered(path: Path, content: dict[str, Any]) -> list[Any]:
    """The labels of a table in the order of their numbers, which are 0, 1, 2 and so on."""
    pairs = content.items()
    turned = [(number, label) for label, number in pairs] if all(type(n) is int for n in content.values()) else pairs
    try:
        table = {int(number): label for number, label in turned}
    except (ValueError, TypeError):
        raise BadData(f'{path}: want a table of number and label: {{"0": "cat", "1": "dog"}}') from None
    missing = sorted(set(range(len(content))) - set(table))
    if missing:
        raise BadData(f"{path}: no label has the number {missing[0]}; want 0 to {len(content) - 1}, each once")
    return [table[number] for number in range(len(content))]
