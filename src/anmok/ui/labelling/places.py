"""What is labelled: a folder below the server's root, or the pictures of a zip that somebody sent."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from anmok import media
from anmok.errors import BadRequest, CannotWrite
from anmok.files import cannot_write, write_beside
from anmok.ui.climbing.places import Places as Folders
from anmok.ui.climbing.zipped import Room as Let
from anmok.ui.climbing.zipped import unpack
from anmok.weights.cache import cache_dir, sha256_of

HIDDEN: Final = ".anmok"  # in the folder itself; whatever looks for pictures passes it by
UPLOADED: Final = "zip:"
_DIGEST: Final = 32  # hexadecimal digits: nobody guesses the name of another's upload
_SPARE: Final = 512 * 2**20  # bytes that stay free on the disk, for everybody's strokes


@dataclass(frozen=True, slots=True)
class Place:
    """``name`` is how the browser calls it: a path below the root, or ``zip:`` and a digest. ``photos`` has the
    pictures, ``stores`` a folder per set of labels. ``called`` is what the folder is called in a command that is
    typed beside the root, or beside the unpacked zip; never a path of this machine."""

    name: str
    photos: Path
    stores: Path
    called: str

    @property
    def is_upload(self) -> bool:
        return self.name.startswith(UPLOADED)

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
    let: what a zip may bring.
    """

    def __init__(self, root: Path | None, let: Let) -> None:
        self._root = None if root is None else root.resolve()
        self._let = let

    def names(self) -> list[str]:
        """The folders to choose from, the root itself first as ``.``; nothing where there is no root."""
        return [] if self._root is None else Folders(self._root).names()

    def find(self, name: str) -> Place:
        """The place of that name.

        Raises:
            BadRequest: there is none, or it lies elsewhere.
        """
        if name.startswith(UPLOADED):
            return _upload(name.removeprefix(UPLOADED))
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
        digest = sha256_of(archive)[:_DIGEST]
        folder = _uploads() / digest
        if not (folder / "photos").is_dir():
            with cannot_write(folder):
                folder.mkdir(parents=True, exist_ok=True)
            if shutil.disk_usage(folder).free < self._let.all_bytes + _SPARE:
                raise CannotWrite(f"{folder}: the disk has no room for another upload; free some space")
            with write_beside(folder / "photos", is_folder=True, keeps_first=True) as beside:
                unpack(archive, beside, media.SUFFIXES, self._let)
        return _upload(digest)


def _upload(digest: str) -> Place:
    folder = _uploads() / digest
    is_digest = len(digest) == _DIGEST and not set(digest) - set("0123456789abcdef")
    if not is_digest or not (folder / "photos").is_dir():
        raise BadRequest("that zip is not here any more; send it again")
    return Place(f"{UPLOADED}{digest}", folder / "photos", folder / "labels", "photos")


def _uploads() -> Path:
    return cache_dir() / "labelling"


def _labels_in(file: Path) -> tuple[str, ...]:
    """The labels that a file of strokes was begun with; none where it is damaged."""
    try:
        with file.open(encoding="utf-8") as lines:
            labels = json.loads(lines.readline())["labels"]
    except (OSError, ValueError, LookupError, TypeError):
        return ()
    return tuple(str(one) for one in labels) if isinstance(labels, list) else ()
