"""Where a command is going to write: refused before the work, not after it."""

from __future__ import annotations

import tempfile
from pathlib import Path

from anmok.errors import BadRequest
from anmok.files import cannot_write


def check_folder(folder: Path, remedy: str = "") -> None:
    """Try out whether files can be made in ``folder``, or where it would have to be made. Nothing stays behind.

    Raises:
        CannotWrite: with ``remedy``, or the usual one.
    """
    with cannot_write(folder, remedy):
        standing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
        with tempfile.TemporaryFile(dir=standing):
            pass


def check_file(file: Path, example: str) -> None:
    """The same for a file.

    Raises:
        BadRequest: it is a folder; ``example`` is a name that the file in it could have.
        CannotWrite: as :func:`check_folder`.
    """
    if file.is_dir():
        raise BadRequest(f"{file} is a folder; give the file to write, such as {file / example}")
    check_folder(file.parent)
