"""What ``anmok ladder`` may add: made pictures to learn from, descriptions that a language model writes."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from anmok.cli.console import err, note
from anmok.errors import BadRequest, UnknownModel

if TYPE_CHECKING:
    from anmok.ladder import Dataset, Plan
    from anmok.ladder.wishes import MadeWish, Writing
    from anmok.train.describing import Writer

SMOLLM2 = "smollm2"
DESCRIPTIONS = "descriptions.csv"  # what was written, in the folder of the report


@dataclass(frozen=True, slots=True)
class Pictures:
    """Of the command line: a folder of made pictures, or kinds to make of the good ones."""

    folder: Path | None
    kinds: str
    good: str
    count: int


@dataclass(frozen=True, slots=True)
class Words:
    """Of the command line: who describes the classes, in how many sentences, with which key."""

    writer: str
    count: int
    key_variable: str


def with_wishes(plan: Plan, dataset: Dataset, pictures: Pictures, words: Words) -> Plan:
    """The plan with what was wished for. Asks the language model, where one is named.

    Raises:
        BadRequest: flags that do not go together, or a word that means nothing.
        AnmokError: as the language model and the table of the made pictures.
    """
    given = [pictures.folder is not None, bool(pictures.kinds), bool(words.writer)]
    flags = ("--synthetic", "--synthesise", "--describe")
    if dataset.labels is None and any(given):
        raise BadRequest(f"{flags[given.index(True)]} is for labelled images; drop it, or give labels")
    if given[0] and given[1]:
        raise BadRequest("--synthetic takes made pictures and --synthesise makes some: give one of the two")
    return replace(plan, synthetic=_made(pictures, dataset), written=_written(plan.model, words, dataset))


def _made(pictures: Pictures, dataset: Dataset) -> MadeWish | None:
    from anmok.ladder.wishes import from_folder, to_make

    if pictures.folder is not None:
        return from_folder(pictures.folder)
    if pictures.kinds:
        return to_make(pictures.kinds, pictures.good, dataset.classes, pictures.count)
    return None


def _written(model: str, words: Words, dataset: Dataset) -> Writing | None:
    if not words.writer:
        return None
    from anmok.ladder.described import written

    languages = _languages(model)
    writer = _writer(words)
    with err.status(f"{writer.name} describes {len(dataset.classes)} classes"):
        found = written(dataset.classes, languages, writer, words.count)
    lines = sum(len(group) for _, group in found.sentences)
    note(f"{found.writer} wrote {lines} sentences in {found.calls} calls ({found.tokens:,} tokens)")
    return found


def _languages(model: str) -> tuple[str, ...]:
    """That the text tower reads.

    Raises:
        BadRequest: there is none.
    """
    from anmok.catalogue import card

    try:
        languages = card(model.partition(":")[0]).languages
    except UnknownModel:  # a folder; its own card says more when it is loaded
        return ("en",)
    if not languages:
        raise BadRequest(f"--describe: {model} has no text tower, so sentences say nothing to it; take mini or siglip2")
    return languages


def _writer(words: Words) -> Writer:
    from anmok.train.writers import Endpoint, Local

    if words.writer == SMOLLM2:
        return Local()
    address, _, name = words.writer.partition("#")
    if not name:
        raise BadRequest(f"--describe {words.writer}: want {SMOLLM2}, or an address and a model: http://host/v1#model")
    return Endpoint(address, name, words.key_variable)


def write_descriptions(written: Writing | None, folder: Path) -> None:
    """As ``--descriptions`` reads them, so that they can be mended by hand.

    Raises:
        CannotWrite: the disk refuses.
    """
    if written is None:
        return
    from anmok import files

    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("label", "sentence"))
    table.writerows((label, line) for label, lines in written.sentences for line in lines)
    files.write_text(folder / DESCRIPTIONS, text.getvalue())
