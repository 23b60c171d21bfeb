"""Pictures in the one folder that a page may read. Nothing outside it can be named: no ``..``, no absolute path, no
link that leads out."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Final

from anmok import media
from anmok.errors import BadRequest

_MOST: Final = 5000  # names in a list


class Folder:
    """Args: root: the folder. Links inside it are followed as long as they stay in it."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()

    def names(self) -> list[str]:
        """The pictures below, relative, sorted; of very many the first."""
        found = (path for path in media.find(self._root) if self._is_inside(path))
        return [path.relative_to(self._root).as_posix() for path in islice(found, _MOST)]

    def path(self, name: str) -> Path:
        """The file of that name.

        Raises:
            BadRequest: there is no such picture in the folder.
        """
        wanted = Path(name)
        if not name or "\0" in name or wanted.is_absolute() or ".." in wanted.parts:
            raise BadRequest("there is no such picture in the folder")
        file = self._root / wanted
        is_picture = wanted.suffix.lower() in media.SUFFIXES
        if not is_picture or not self._is_inside(file) or not file.is_file():
            raise BadRequest("there is no such picture in the folder")
        return file

    def read(self, name: str) -> bytes:
        """The bytes of the picture of that name; see ``path``."""
        return self.path(name).read_bytes()

    def _is_inside(self, file: Path) -> bool:
        return file.resolve().is_relative_to(self._root)
