"""Zips that are kept for as long as people work on them: unpacked once, and found again by what was in them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from anmok import media
from anmok.errors import BadRequest, CannotWrite
from anmok.files import cannot_write, write_beside
from anmok.ui.unpacking import Allowance, unpack
from anmok.weights.cache import cache_dir, sha256_of

PHOTOS: Final = "photos"  # the pictures of a kept zip, in its folder; what is made of them lies beside
_KEPT: Final = "zip:"
_DIGEST: Final = 32  # hexadecimal digits: nobody guesses the name of another's upload
_SPARE: Final = 512 * 2**20  # bytes that stay free on the disk, for everybody's strokes


def is_kept(name: str) -> bool:
    """Whether that is the name of a zip, and not of a folder of the server's."""
    return name.startswith(_KEPT)


def keep(archive: Path, allowance: Allowance) -> str:
    """Unpacks a zip of pictures, and returns the name by which `kept` finds it. The same zip again is the same place.

    Raises:
        BadData: no zip, damaged, encrypted, or without pictures.
        TooMuch: more than is let in.
        CannotWrite: the disk refuses, or has no room for it.
    """
    digest = sha256_of(archive)[:_DIGEST]
    folder = _all() / digest
    if not (folder / PHOTOS).is_dir():
        with cannot_write(folder):
            folder.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(folder).free < allowance.all_bytes + _SPARE:
            raise CannotWrite(f"{folder}: the disk has no room for another upload; free some space")
        with write_beside(folder / PHOTOS, is_folder=True, keeps_first=True) as beside:
            unpack(archive, beside, media.SUFFIXES, allowance)
    return f"{_KEPT}{digest}"


def kept(name: str) -> Path:
    """The folder of the zip that has that name.

    Raises:
        BadRequest: it is not here, or not any more.
    """
    digest = name.removeprefix(_KEPT)
    folder = _all() / digest
    is_digest = len(digest) == _DIGEST and not set(digest) - set("0123456789abcdef")
    if not is_digest or not (folder / PHOTOS).is_dir():
        raise BadRequest("that zip is not here any more; send it again")
    return folder


def _all() -> Path:
    return cache_dir() / "labelling"
