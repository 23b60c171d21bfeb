"""An audit of what a visitor brought: his predictions, and his pictures where they are at hand."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from anmok.errors import BadRequest
from anmok.evidence.audit import Audit, audit
from anmok.evidence.audit_gate import Gate, parse_gate
from anmok.evidence.audit_rows import read_groups
from anmok.evidence.readers import read_predictions
from anmok.ui.host import Host
from anmok.ui.sources import Source, allowance_of, fresh, opened
from anmok.ui.unpacking import remove, unpack

KINDS: Final = (".csv", ".tsv", ".json", ".parquet", ".npz", ".txt", ".zip")  # of predictions
_TOLD: Final = frozenset(KINDS) - {".zip"}  # in the folder that a tool wrote


@dataclass(frozen=True, slots=True)
class Question:
    """What the form says. Shares are between 0 and 1; ``claimed`` None is what the file itself gives."""

    folder: str | None
    zipped: str | None
    predictions: str
    claimed: float | None
    tried: int
    margin: float
    classes: tuple[str, ...]
    groups: str | None
    required: tuple[str, ...]
    seed: int

    @property
    def gates(self) -> tuple[Gate, ...]:
        """Raises `BadRequest` for one that cannot be read."""
        return tuple(parse_gate(text) for text in self.required)


@dataclass(frozen=True, slots=True)
class Answer:
    """The audit, and what the pictures were called; "" where there were none. The pictures are still there."""

    audit: Audit
    called: str


@contextlib.contextmanager
def answered(host: Host, question: Question, progress: Callable[[int, int], None] | None) -> Iterator[Answer]:
    """The audit, with its pictures for as long as the block takes.

    Raises:
        BadRequest, BadData, BadMedia: as ``anmok.evidence.audit``.
        TooMuch: a zip that brings more than is let in.
    """
    question.gates  # noqa: B018 - a misspelt requirement is refused before thousands of pictures are read
    with contextlib.ExitStack() as stack:
        source: Source | None = None
        if question.zipped or question.folder:
            source = stack.enter_context(opened(host, question.folder, question.zipped))
        file = stack.enter_context(_told(host, Path(question.predictions)))
        predictions = read_predictions(file, question.classes or None)
        if question.claimed is not None:
            predictions = replace(predictions, claimed=question.claimed)
        own = read_groups(Path(question.groups)) if question.groups else None
        found = audit(
            None if source is None else source.folder,
            predictions,
            margin=question.margin,
            tried=question.tried,
            seed=question.seed,
            groups=own,
            progress=progress,
        )
        yield Answer(found, "" if source is None else source.called)


@contextlib.contextmanager
def _told(host: Host, file: Path) -> Iterator[Path]:
    """The predictions: a file as it is, a zip of the folder that a tool wrote unpacked."""
    if file.suffix.lower() not in KINDS:
        raise BadRequest(f"{file.name}: want predictions as {', '.join(KINDS)}")
    if file.suffix.lower() != ".zip":
        yield file
        return
    beside = fresh("opened")
    try:
        yield unpack(file, beside / file.stem, _TOLD, allowance_of(host))
    finally:
        remove(beside)
