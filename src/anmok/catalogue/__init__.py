"""The catalogue: one TOML file per family, one row per set of weights. Data only; reading it imports no model.

A file has a ``[family]`` table, whose values are the defaults of its rows, and ``[[model]]`` rows. Packages add
their own files through the entry point group ``anmok.models``: each entry names a module that holds TOML files.
The user's own cards (``local``) come last, and are looked for anew each time.
"""

from __future__ import annotations

import logging
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any, Final, Literal

from anmok.catalogue import local
from anmok.catalogue.sources import (
    LICENCES,
    ClosedSource,
    FolderSource,
    HubSource,
    Licence,
    NoSource,
    PackageFile,
    PackageSource,
    RemoteSource,
    Source,
)
from anmok.errors import AnmokError, BadData, UnknownModel
from anmok.geometry import Pixels
from anmok.tasks import TextRules

__all__ = ["Card", "Verified", "card", "cards"]

log: Final = logging.getLogger("anmok")

GRADES = ("parity", "golden", "tiny", "real")


@dataclass(frozen=True, slots=True)
class Verified:
    """What was checked of a card, and nothing that was not.

    ``parity``: the net equals the reference implementation on shared random weights. ``golden``: the published
    weights give recorded numbers. ``tiny``: the battery passes on a small random configuration. ``real``: the
    published weights were run on real pictures and measured.
    """

    parity: bool = False
    golden: bool = False
    tiny: bool = False
    real: bool = False

    def __str__(self) -> str:
        return " ".join(grade for grade in GRADES if getattr(self, grade)) or "nothing yet"


@dataclass(frozen=True, slots=True)
class Card:
    """One set of weights, its preprocessing, its licence and what is claimed of it."""

    name: str
    family: str
    kind: str  # which of the family's configurations
    code: str  # "module:Class" under anmok.models, or "package.module:Class" of a plug-in
    tasks: tuple[str, ...]
    source: Source
    pixels: Pixels
    licence: Licence
    summary: str
    languages: tuple[str, ...] = ()  # that the text tower reads
    text: TextRules = field(default_factory=TextRules)
    scoring: Literal["softmax", "sigmoid"] = "softmax"
    params: int = 0  # of the whole model; 0 where it was not counted
    parts: Mapping[str, str] = field(default_factory=dict)
    verified: Verified = field(default_factory=Verified)
    year: int = 0
    cite: str = ""
    successor: str = ""
    is_retired: bool = False
    is_hidden: bool = False
    has_eyes: bool = True  # looks at pictures, in a conversation
    has_clips: bool = False  # takes clips, in a conversation
    has_ears: bool = False  # hears sounds, in a conversation

    @property
    def memory_bytes(self) -> int:
        """Of the weights in float32."""
        return self.params * 4

    @property
    def revision(self) -> str:
        """What tells these weights from any other under the same name; empty where the hub repo is not pinned."""
        return self.source.revision_key

    @property
    def is_billed(self) -> bool:
        """Whether somebody else answers, who may want to be paid for every question: of the model or of a part."""
        return isinstance(self.source, RemoteSource) or any(card(part).is_billed for part in self.parts.values())


def cards(task: str | None = None, *, is_hidden: bool = False) -> tuple[Card, ...]:
    """Every card, by family and then size; ``task`` keeps those that claim it."""
    found = (one for one in _all().values() if is_hidden or not one.is_hidden)
    return tuple(one for one in found if task is None or task in one.tasks)


def card(name: str) -> Card:
    """The card of that name.

    Raises:
        UnknownModel: there is none; the message offers the nearest names.
    """
    known = _all()
    if name in known:
        return known[name]
    import difflib

    near = difflib.get_close_matches(name, [one for one in known if not known[one].is_hidden], n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(near)}?" if near else "`anmok models` lists them"
    raise UnknownModel(f"no model is called {name!r}; {hint}")


def _all() -> Mapping[str, Card]:
    return _with_own(local.seen())


@lru_cache(maxsize=1)
def _with_own(seen: tuple[local.Seen, ...]) -> Mapping[str, Card]:
    """The published cards and the user's own. A file that is no card, takes a published name, or stands on a model
    that is not there, is left out with a warning."""
    own: dict[str, Card] = {}
    for path in (one.path for one in seen):
        try:
            one = _card(local.row(path), str(path))
            if one.name in _published():
                raise BadData(f"{path}: a model called {one.name!r} stands in the catalogue; rename yours")
            own[one.name] = one
        except AnmokError as error:
            log.warning("a card of yours is left out (%s): %s", path.name, error)
    whole = {**_published(), **{name: one for name, one in own.items() if not one.parts}}
    for name, one in own.items():
        missing = [part for part in one.parts.values() if part not in whole]
        if missing:
            log.warning(
                "a card of yours is left out (%s.toml): it stands on %r, and there is no such model", name, missing[0]
            )
        elif one.parts:
            whole[name] = one
    return whole


@cache
def _published() -> dict[str, Card]:
    found: dict[str, Card] = {}
    for file in _files():
        for row in _rows(file):
            one = _card(row, file.name)
            if one.name in found:
                raise BadData(f"{file.name}: a model called {one.name!r} stands in the catalogue already")
            found[one.name] = one
    return found


def _files() -> Iterator[Traversable]:
    from importlib.metadata import entry_points  # slow to import, and only a listing needs it

    homes = [resources.files("anmok.catalogue")]
    homes += [resources.files(entry.value) for entry in entry_points(group="anmok.models")]
    for home in homes:
        yield from sorted((f for f in home.iterdir() if f.name.endswith(".toml")), key=lambda f: f.name)


def _rows(file: Traversable) -> Iterator[dict[str, Any]]:
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise BadData(f"{file.name} is not TOML ({error})") from error
    family = content.get("family", {})
    for row in content.get("model", []):
        yield {**family, **row}


def _card(row: dict[str, Any], file: str) -> Card:
    values = dict(row)
    try:
        values["pixels"] = Pixels(**_tuples(values["pixels"]))
        values["text"] = TextRules(**_tuples(values.get("text", {})))
        values["verified"] = Verified(**dict.fromkeys(values.get("verified", []), True))
        values["licence"] = {**LICENCES, local.OWN.id: local.OWN}[values["licence"]]
        values["source"] = _source(values["source"])
        return Card(**_tuples(values))
    except (KeyError, TypeError) as error:
        raise BadData(f"{file}: the row of {row.get('name', '?')!r} is not a card ({error})") from error


def _source(table: dict[str, Any]) -> Source:
    values = _tuples(table)
    if "repo" in values:
        beside = values.get("beside")
        return HubSource(**{**values, "beside": None if beside is None else HubSource(**_tuples(beside))})
    if "distribution" in values:
        values["files"] = tuple(PackageFile(**one) for one in values.get("files", ()))
        return PackageSource(**values)
    if "revision" in values:
        return local.OwnSource(**values)
    if "remote" in values or "closed" in values:
        return RemoteSource(**values) if "remote" in values else ClosedSource(**values)
    return FolderSource(**values) if "path" in values else NoSource()


def _tuples(table: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}
