"""What is labelled: a folder below the server's root, or the pictures of a zip that somebody sent."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from anmok.errors import BadRequest
from anmok.ui.keeping import PHOTOS, Kept, is_kept, keep, kept
from anmok.ui.unpacking import Allowance

HIDDEN: Final = ".anmok"  # in the folder itself; whatever looks for pictures passes it by


@dataclass(frozen=True, slots=True)
class Place:
    """``name`` is how the browser calls it: a path below the root, or ``zip:`` and a digest. ``photos`` has the
    pictures, ``stores`` a folder per set of labels. ``called`` is what the folder is called in a command that is
    typed beside the root, or beside the unpacked zip; never a path of this machine. A zip stays for as long as the
    place is held."""

    name: str
    photos: Path
    stores: Path
    called: str
    held: Kept | None = field(default=None, compare=False)

    @property
    def is_upload(self) -> bool:
        return is_kept(self.name)

    def store(self, own: Sequence[str]) -> Path:
        """Where the strokes of a session are. ``own``: its kind, and what else no other session has."""
        digest = hashlib.sha256(json.dumps(list(own), ensure_ascii=False).encode()).hexdigest()[:8]
        return self.stores / f"{own[0]}-{digest}"

    def begun(self, kind: str) -> list[tuple[str, ...]]:
        """The labels of sessions of that kind that were begun here, the latest first."""
        files = sorted(self.stores.glob(f"{kind}-*/*.jsonl"), key=lambda file: -file.stat().st_mtime_ns)
        return [labels for file in files if (labels := _labels_in(file))]


class Places:
    """Args:
    root: the folder that may be read; None: uploads alone.
    allowance: what a zip may bring.
    """

    def __init__(self, root: Path | None, allowance: Allowance) -> None:
        self._root = None if root is None else root.resolve()
        self._allowance = allowance

    def find(self, name: str) -> Place:
        """The place of that name.

        Raises:
            BadRequest: there is none, or it lies elsewhere.
        """
        if is_kept(name):
            return _upload(kept(name))
        if self._root is None:
            raise BadRequest("this server shows no folder of its own; send a zip")
        wanted = Path(name)
        is_odd = not name or "\0" in name or wanted.is_absolute() or ".." in wanted.parts
        folder = self._root if is_odd else (self._root / wanted).resolve()
        if is_odd or not folder.is_relative_to(self._root) or not folder.is_dir():
            raise BadRequest("there is no such folder here; choose one of the list")
        return Place(name, folder, folder / HIDDEN, (Path(self._root.name) / wanted).as_posix())

    def take(self, archive: Path) -> Place:
        """Unpacks a zip. The same zip again is the same place, with whatever was labelled in it.

        Raises:
            BadData: no zip, damaged, encrypted, or without pictures.
            TooMuch: more than is let in.
            CannotWrite: the disk refuses.
        """
        return _upload(keep(archive, self._allowance))


def _upload(found: Kept) -> Place:
    return Place(found.name, found.photos, found.folder / "labels", PHOTOS, found)


def _labels_in(file: Path) -> tuple[str, ...]:
    """The labels that a file of strokes was begun with; none where it is damaged."""
    try:
        with file.open(encoding="utf-8") as lines:
            labels = json.loads(lines.readline())["labels"]
    except (OSError, ValueError, LookupError, TypeError):
        return ()
    return tuple(str(one) for one in labels) if isinstance(labels, list) else ()
