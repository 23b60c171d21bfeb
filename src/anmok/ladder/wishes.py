"""What a user may add to the ladder: made pictures to learn from, and descriptions that a language model wrote."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from anmok.errors import BadData, BadRequest
from anmok.synth import KINDS, read_table


@dataclass(frozen=True, slots=True)
class MadeWish:
    """Which made pictures are wanted: those of a folder, or ``count`` made of the pool's ``good`` pictures.

    ``digest`` is that of the folder's table. ``kinds``: pairs of a kind of defect and the class that it stands for.
    """

    folder: str = ""
    digest: str = ""
    kinds: tuple[tuple[str, str], ...] = ()
    good: str = "good"
    count: int = 300

    def __post_init__(self) -> None:
        unknown = [kind for kind, _ in self.kinds if kind not in KINDS]
        if len({kind for kind, _ in self.kinds}) < len(self.kinds):
            raise BadRequest("a kind of defect stands for one class; it was given twice")
        if unknown:
            raise BadRequest(f"no such kind of defect: {', '.join(unknown)}; there are {', '.join(KINDS)}")
        if bool(self.folder) == bool(self.kinds):
            raise BadRequest("made pictures: give a folder (--synthetic) or kinds to make now (--synthesise), not both")
        if self.count < 1:
            raise BadRequest(f"{self.count} made pictures: want 1 or more")


@dataclass(frozen=True, slots=True)
class Writing:
    """What a language model wrote on each class, who it was, and what it took."""

    writer: str
    sentences: tuple[tuple[str, tuple[str, ...]], ...]
    calls: int = 0
    tokens: int = 0

    def of(self, classes: Sequence[str]) -> tuple[tuple[str, ...], ...]:
        """In the order of the classes; the bare name where nothing was written."""
        known = dict(self.sentences)
        return tuple(known.get(name, (name,)) for name in classes)


def from_folder(folder: Path) -> MadeWish:
    """The pictures of a folder that ``anmok synth`` wrote.

    Raises:
        BadData: it has no table, or no line in it.
    """
    entries = read_table(folder)
    if not entries:
        raise BadData(f"{folder}: its table names no picture; let anmok synth write it anew")
    told = sorted(repr(entry) for entry in entries)
    return MadeWish(str(folder), hashlib.sha256("\n".join(told).encode()).hexdigest()[:16])


def to_make(text: str, good: str, classes: Sequence[str], count: int) -> MadeWish:
    """``scratch,dent`` or ``scratch=bad,dent=bad``: kinds, and the classes of the real pictures that they stand for.
    A kind that bears no class's name is the class beside the good one, where there is only one.

    Raises:
        BadRequest: no such kind or class, or nobody can tell which class a kind stands for.
    """
    if good not in classes:
        raise BadRequest(f"--good {good}: no such class; there are {', '.join(classes[:5])}")
    others = [name for name in classes if name != good]
    pairs = []
    for word in (one.strip() for one in text.split(",")):
        kind, _, named = (part.strip() for part in word.partition("="))
        label = named or (kind if kind in classes else others[0] if len(others) == 1 else "")
        if label not in others:
            raise BadRequest(
                f"--synthesise {word}: want a class for it beside {good}, as in {kind or 'scratch'}={others[0]}"
            )
        pairs.append((kind, label))
    return MadeWish(kinds=tuple(dict.fromkeys(pairs)), good=good, count=count)
