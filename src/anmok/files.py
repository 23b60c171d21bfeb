"""Writing such that a file is there and whole, or not there at all.

Everything in anmok that writes a file goes through :func:`write_beside`: the bytes go to a hidden neighbour
of the target, are flushed to the disk, and take the target's name in one step. A process that is killed in
between leaves the old content as it was.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from anmok.errors import CannotWrite

TEMPORARY = ".part"  # stands in the name of every temporary file that this module makes

_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
_DISK = (*_FULL, errno.EROFS, errno.EFBIG)
_OCCUPIED = (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR, errno.EISDIR)
_ATTEMPTS = 8


@contextlib.contextmanager
def write_beside(path: Path, *, is_folder: bool = False, keeps_first: bool = False, remedy: str = "") -> Iterator[Path]:
    """A temporary path in ``path``'s folder that becomes ``path`` when the block ends without an exception.

    Missing parent folders are made. The temporary name is hidden, unique and keeps the suffix, since some
    writers choose their format by it. A file does not exist yet: the block creates, writes and closes it.
    A folder is there and empty.

    Args:
        path: what shall be there in the end.
        is_folder: a whole folder is written; an older one of that name goes away.
        keeps_first: where another process was quicker, its result stays and ours is dropped. For content that
            is the same whoever writes it, so that nobody loses a file while reading it.
        remedy: what the user can do when the disk refuses, put at the end of the message.

    Raises:
        CannotWrite: the disk is full or read-only, or a parent is no folder. Nothing half-written is left.
    """
    beside = path.with_name(_temporary_name(path))
    try:
        with cannot_write(path, remedy):
            path.parent.mkdir(parents=True, exist_ok=True)
            if is_folder:
                beside.mkdir()
        try:
            yield beside
        except OSError as error:
            if not _is_ours(error, beside):
                raise
            raise _refused(path, error, remedy) from error
        with cannot_write(path, remedy):
            _publish_folder(beside, path, keeps_first) if is_folder else _publish_file(beside, path, keeps_first)
            _flush_folder(path.parent)
    finally:
        remove(beside)


def write_text(path: Path, text: str, *, remedy: str = "") -> None:
    """Write ``text`` as UTF-8 with ``\\n`` line ends, whole or not at all.

    Raises:
        CannotWrite: as :func:`write_beside`.
    """
    with write_beside(path, remedy=remedy) as beside:
        beside.write_text(text, encoding="utf-8", newline="\n")


@contextlib.contextmanager
def cannot_write(path: Path, remedy: str = "") -> Iterator[None]:
    """Every ``OSError`` of the block becomes a :class:`CannotWrite` that names ``path`` and the remedy."""
    try:
        yield
    except OSError as error:
        raise _refused(path, error, remedy) from error


def remove(path: Path) -> None:
    """Remove a file or a folder with all it holds, as far as the disk lets us; never raises."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        return
    with contextlib.suppress(OSError):  # a leftover is a hidden file, no reason to hide the error that led here
        path.unlink()


def _temporary_name(path: Path) -> str:
    # 255 bytes is the usual limit of a name; a Korean character takes three.
    return f".{path.stem[:50]}.{secrets.token_hex(6)}{TEMPORARY}{path.suffix[:15]}"


def _publish_file(beside: Path, path: Path, keeps_first: bool) -> None:
    if keeps_first and path.exists():
        return
    descriptor = os.open(beside, os.O_RDWR | getattr(os, "O_BINARY", 0))
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    beside.replace(path)


def _publish_folder(beside: Path, path: Path, keeps_first: bool) -> None:
    """A folder cannot be replaced in one step: the old one moves aside first, as often as one appears."""
    for attempt in range(_ATTEMPTS):
        try:
            beside.rename(path)
        except OSError as error:
            if error.errno not in _OCCUPIED or attempt == _ATTEMPTS - 1:
                raise
        else:
            return
        if keeps_first and path.is_dir():
            return
        discard(path)


def discard(path: Path) -> None:
    """Take ``path`` out of sight in one step, then remove it. It may be absent.

    Raises:
        OSError: the folder refuses the renaming.
    """
    aside = path.with_name(_temporary_name(path))
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):  # never was there, or another process was quicker
        path.rename(aside)
    remove(aside)


def _flush_folder(folder: Path) -> None:
    if os.name != "posix":
        return  # Windows has no such call
    with contextlib.suppress(OSError):  # some network disks refuse it, and the content itself is safe already
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _is_ours(error: OSError, beside: Path) -> bool:
    """Did the disk refuse our writing, or did the block fail at something else, such as reading its input?"""
    return error.errno in _DISK or str(error.filename or "").startswith(str(beside))


def _refused(path: Path, error: OSError, remedy: str) -> CannotWrite:
    reason = error.strerror or str(error)
    advice = remedy or ("free some space" if error.errno in _FULL else "choose a folder that you may write to")
    return CannotWrite(f"cannot write {path}: {reason}; {advice}")
