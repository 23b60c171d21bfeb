"""Weights on the hub, through huggingface_hub: its cache, token, mirror and offline settings hold.

huggingface_hub tries a dead connection again for minutes. So each missing file is asked for once, with a
short limit, before its download is handed over.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from anmok.catalogue.sources import HubSource, needs, suffix
from anmok.errors import AnmokError, BadWeights, CannotWrite, LicenceRequired, WeightsUnavailable
from anmok.weights.cache import (
    Progress,
    Record,
    cache_dir,
    measure,
    read_record,
    recheck,
    refresh_record,
    write_record,
)
from anmok.weights.folder import SAFE, UNSAFE
from anmok.weights.shards import INDEX, WHOLE, shards_of

_ABSENT: Final = "absent"
_ANSWER_WITHIN = 5.0  # seconds
_SHA256 = re.compile(r"[0-9a-f]{64}")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class _Found:
    path: Path
    stated_sha256: str = ""  # by the hub, of a large file that has just come


def from_hub(source: HubSource, progress: Progress | None = None) -> dict[str, Path]:
    """The files of a hub repository, from huggingface_hub's cache or over the network.

    The first pull writes commit, sizes and digests into ``locks/`` in the cache folder; from then on the same
    commit is used and every file must be the recorded one.

    Returns:
        A path for each of ``source.files``, all of one commit and so in one folder; then those beside it. Files that
        need not be there may be left out, and ``model.safetensors`` may come as an index and its shards.

    Raises:
        WeightsUnavailable: a file is not here, and the hub cannot be reached or does not have it.
        BadWeights: a file is of a kind that may run code, or is not the one that was locked, or an index of shards is
            none.
        LicenceRequired: the repository is gated and this user has no access.
        CannotWrite: a cache folder is full or read-only.
    """
    for file in needs(source.files):
        if suffix(file) not in SAFE:
            raise BadWeights(f"{source.repo}: {file} {UNSAFE}")
    lock_file = _lock_file(source)
    lock = read_record(lock_file)
    found = _gather(source, _wanted(source, lock), progress)
    _check_lock(source, lock_file, lock, found)
    paths = {file: one.path for file, one in found.items()}
    return paths if source.beside is None else {**paths, **from_hub(source.beside, progress)}


def is_hub_here(source: HubSource) -> bool:
    """Would :func:`from_hub` need no network? Contents are not read."""
    if source.beside is not None and not is_hub_here(source.beside):
        return False
    if not _repo_cache(source).is_dir():
        return False  # the usual case when listing models, without the half second that the import takes
    try:
        revision = _wanted(source, read_record(_lock_file(source)))
        return all(_held(source, name, revision) is not None for name in needs(source.files))
    except BadWeights:
        return False  # a damaged lock or index: from_hub says so


def _hub_cache() -> Path:
    """Where huggingface_hub keeps its files, by its own rules, without importing it."""
    loaded = sys.modules.get("huggingface_hub.constants")
    if loaded is not None:
        return Path(loaded.HF_HUB_CACHE)
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    home = os.environ.get("HF_HOME") or caches / "huggingface"
    return Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub").expanduser()


def _repo_cache(source: HubSource) -> Path:
    return _hub_cache() / f"models--{source.repo.replace('/', '--')}"


def _lock_file(source: HubSource) -> Path:
    pin = f"@{source.revision}" if source.revision else ""
    return cache_dir() / "locks" / f"{source.repo}{pin}.json".replace("/", "--")


def _wanted(source: HubSource, lock: Record | None) -> str:
    if source.is_commit:
        return source.revision
    return lock.revision if lock is not None else source.revision or "main"


def _gather(source: HubSource, revision: str, progress: Progress | None) -> dict[str, _Found]:
    """Every file at one commit: what the cache holds, and the rest from the hub."""
    asked = needs(source.files)
    here = {name: _held(source, name, revision) for name in asked}
    if not _COMMIT.fullmatch(revision):
        # The branch may have moved since the cached files came: all of them must be of the same commit.
        needed = [name for name, is_needed in asked.items() if is_needed]
        anchor = next((name for name in needed if here[name] is None), needed[0])
        first = here[anchor] or _fetched(source, anchor, revision, progress)
        revision = commit_of({name: one.path for name, one in first.items()})
        here = {name: _held(source, name, revision) for name in asked} | {anchor: first}
    found: dict[str, _Found] = {}
    for name, held in here.items():
        found |= _fetched(source, name, revision, progress) if held is None else held
    return found


def _held(source: HubSource, name: str, revision: str) -> dict[str, _Found] | None:
    """What the cache has for a name: the file, its index and shards, or nothing where it may lack and is known to.
    None where only the hub can tell."""
    one = _cached(source, name, revision)
    if isinstance(one, _Found):
        return {name: one}
    if name == WHOLE and isinstance(index := _cached(source, INDEX, revision), _Found):
        shards = {shard: _cached(source, shard, revision) for shard in shards_of(index.path)}
        whole = {shard: one for shard, one in shards.items() if isinstance(one, _Found)}
        return {INDEX: index, **whole} if len(whole) == len(shards) else None
    is_known_to_lack = one == _ABSENT and not needs(source.files)[name]
    return {} if is_known_to_lack else None


def _fetched(source: HubSource, name: str, revision: str, progress: Progress | None) -> dict[str, _Found]:
    """The same from the hub. Shards that are here already are not fetched again."""
    one = _download(source, name, revision, progress)
    if one is not None:
        return {name: one}
    index = _here_or_fetched(source, INDEX, revision, progress) if name == WHOLE else None
    if index is not None:
        found = {INDEX: index}
        commit = _commit_of(index.path, INDEX)
        for shard in shards_of(index.path):
            piece = _here_or_fetched(source, shard, commit, progress)
            if piece is None:
                raise WeightsUnavailable(f"{_endpoint()}/{source.repo} has no {shard}, which its {INDEX} names")
            found[shard] = piece
        return found
    if needs(source.files)[name]:
        raise _lacks(source, name)
    # In huggingface_hub's own way, so that a copy of its cache needs no network either.
    mark = _repo_cache(source) / ".no_exist" / revision / name
    with contextlib.suppress(OSError):  # a cache that cannot be written is asked again
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
    return {}


def _here_or_fetched(source: HubSource, file: str, revision: str, progress: Progress | None) -> _Found | None:
    one = _cached(source, file, revision)
    return one if isinstance(one, _Found) else _download(source, file, revision, progress)


def _cached(source: HubSource, file: str, revision: str) -> _Found | Literal["absent"] | None:
    """The file, or that the hub is known not to have it at that commit. None where the cache knows nothing of it."""
    from huggingface_hub import constants, try_to_load_from_cache

    found = try_to_load_from_cache(source.repo, file, cache_dir=constants.HF_HUB_CACHE, revision=revision)
    if isinstance(found, str):
        return _Found(Path(found))
    return None if found is None else _ABSENT


def commit_of(files: Mapping[str, Path]) -> str:
    """The commit that files of ``from_hub`` are of, whatever branch or tag was asked for."""
    return next((_commit_of(path, file) for file, path in files.items()), "")


def _commit_of(path: Path, file: str) -> str:
    return path.parents[file.count("/")].name  # .../snapshots/<commit>/<file>


def _ask(source: HubSource, file: str, revision: str) -> str | None:
    """The tag that the hub gives a file, asked once. None where the commit has no such file."""
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import HTTPError, RemoteEntryNotFoundError  # type: ignore[attr-defined]

    is_set = constants.HF_HUB_ETAG_TIMEOUT != constants.DEFAULT_ETAG_TIMEOUT  # by the user
    limit = constants.HF_HUB_ETAG_TIMEOUT if is_set else _ANSWER_WITHIN
    url = hf_hub_url(source.repo, file, revision=revision, endpoint=constants.ENDPOINT)
    try:
        answer = get_hf_file_metadata(url, timeout=limit)
    except RemoteEntryNotFoundError:
        return None
    except (OSError, HTTPError) as error:
        raise _failed(source, file, error) from error
    if answer.commit_hash is None or answer.etag is None:
        raise WeightsUnavailable(f"{_endpoint()} does not answer like a hub; check HF_ENDPOINT and proxy")
    return answer.etag


def _download(source: HubSource, file: str, revision: str, progress: Progress | None) -> _Found | None:
    """A file from the hub. None where the commit has no such file."""
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]

    tag = _ask(source, file, revision)
    if tag is None:
        return None
    try:
        path = hf_hub_download(
            source.repo,
            file,
            revision=revision,
            cache_dir=constants.HF_HUB_CACHE,
            endpoint=constants.ENDPOINT,
            tqdm_class=_bar(file, progress),
        )
    except (OSError, HTTPError) as error:
        raise _failed(source, file, error) from error
    return _Found(Path(path), tag if _SHA256.fullmatch(tag) else "")


def _bar(file: str, progress: Progress | None) -> Any:
    """A progress bar that prints nothing and tells ``progress`` instead."""
    from huggingface_hub.utils import tqdm  # type: ignore[attr-defined]

    class Bar(tqdm):
        def __init__(self, *args: Any, **settings: Any) -> None:
            super().__init__(*args, **{**settings, "disable": True})  # type: ignore[no-untyped-call]

        def update(self, n: float | None = 1) -> None:
            self.n += n or 0
            if progress is not None:
                progress(file, int(self.n), int(self.total or 0))

    return Bar


def _check_lock(source: HubSource, lock_file: Path, lock: Record | None, found: Mapping[str, _Found]) -> None:
    old = dict(lock.entries) if lock is not None else {}
    gone = next((name for name in needs(source.files) if name in old and name not in found), None)
    if gone is not None:
        raise _lacks(source, gone)
    entries = dict(old)
    for file, one in found.items():
        try:
            entries[file] = recheck(one.path, old[file]) if file in old else measure(one.path)
        except BadWeights as error:
            raise BadWeights(
                f"{source.repo}: not the file of the first pull: {error}; delete the file to fetch it again,"
                f" or {lock_file} to accept it"
            ) from error
        # huggingface_hub itself compares sizes only.
        if one.stated_sha256 not in ("", entries[file].sha256):
            one.path.resolve().unlink()
            raise BadWeights(f"{source.repo}: {file} came damaged; pull again")
    if lock is None or entries.keys() != old.keys():
        file, first = next(iter(found.items()))
        write_record(lock_file, Record(source.repo, _commit_of(first.path, file), entries))
    else:
        refresh_record(lock_file, lock, entries)


def _endpoint() -> str:
    from huggingface_hub import constants

    return re.sub(r"//[^/@]*@", "//", constants.ENDPOINT)  # a mirror's address may hold a password


def _lacks(source: HubSource, file: str) -> WeightsUnavailable:
    page = f"{_endpoint()}/{source.repo}"
    return WeightsUnavailable(
        f"{page} has no {file} at the wanted revision; if {_lock_file(source)} is there, delete it"
    )


def _failed(source: HubSource, file: str, error: Exception) -> AnmokError:
    """What huggingface_hub, its HTTP client or the disk said, as one line of ours."""
    from huggingface_hub import constants, errors

    page = f"{_endpoint()}/{source.repo}"
    match error:
        case errors.GatedRepoError():
            return LicenceRequired(f"{source.repo} is gated: ask for access at {page}, then set HF_TOKEN")
        case errors.RepositoryNotFoundError():
            return WeightsUnavailable(f"there is no {page}, or it is private; check the name, and HF_TOKEN")
        case errors.RevisionNotFoundError() | errors.RemoteEntryNotFoundError():
            return _lacks(source, file)
        case errors.HfHubHTTPError():
            reason = f"{_endpoint()} answers {error.response.status_code}"
        case errors.OfflineModeIsEnabled():
            reason = "HF_HUB_OFFLINE is set"
        case OSError(errno=int(), strerror=str(said)) if not isinstance(error, ConnectionError):
            return CannotWrite(
                f"cannot write {constants.HF_HUB_CACHE}: {said}; set HF_HOME to a folder with space that you"
                " may write to"
            )
        case _:
            said = next(iter(str(error).splitlines()), type(error).__name__)
            reason = f"{_endpoint()} cannot be reached ({said[:160]})"
    return WeightsUnavailable(
        f"{source.repo}: {file} is not on this machine and {reason}; run `anmok pull` where the hub can be"
        f" reached and copy {constants.HF_HUB_CACHE}, set HF_ENDPOINT to a mirror, or use `mini`, which needs"
        " no hub, to embed and classify"
    )
