"""Making cards of the user's own models: an ONNX graph, or a head that `anmok ladder` trained."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from anmok import catalogue
from anmok.catalogue import Card, local
from anmok.catalogue.local import MANIFEST
from anmok.catalogue.sources import LICENCES
from anmok.errors import BadRequest, UnknownModel, WeightsUnavailable
from anmok.files import write_beside
from anmok.geometry import Pixels
from anmok.load.adapted import BASE
from anmok.load.adapter import CHANGE, TENSORS, Adapter
from anmok.load.adapter import MANIFEST as TOML
from anmok.nets.onnx_graph import read
from anmok.nets.onnx_probe import Probed, probe
from anmok.tasks import check_labels
from anmok.weights.cache import sha256_of

_FORMAT = 1
_SHOWN = 6  # labels on a card
_REVISION = 16  # hexadecimal digits


@dataclass(frozen=True, slots=True)
class Naming:
    """What a card is called, under which licence it goes, and whether it may take the place of one of that name."""

    name: str
    licence: str = local.OWN.id
    is_replacing: bool = False

    def check(self) -> None:
        """Raises:
        BadRequest: no name, or one that is taken; no licence.
        """
        local.check_name(self.name)
        taken = {one.name: one for one in catalogue.cards(is_hidden=True)}.get(self.name)
        if taken is not None and taken.family != local.FAMILY:
            raise BadRequest(f"name {self.name!r}: the catalogue has a model of that name; give another")
        if not self.is_replacing and (taken is not None or local.file_of(self.name).exists()):
            raise BadRequest(f"name {self.name!r}: you have a card of that name; give another, or replace it")
        if self.licence not in (*LICENCES, local.OWN.id):
            raise BadRequest(f"licence {self.licence!r}: want one of {', '.join((local.OWN.id, *LICENCES))}")


@dataclass(frozen=True, slots=True)
class Reading:
    """How an ONNX graph is read where that does not show by itself: see ``nets.onnx_probe.probe``."""

    scoring: Literal["softmax", "sigmoid"] | None = None
    features: str = ""
    scores: str = ""


def from_onnx(
    graph: Path,
    pixels: Pixels,
    labels: Sequence[str],
    naming: Naming,
    reading: Reading | None = None,
    *,
    is_linked: bool = False,
) -> Card:
    """A card for an ONNX graph, which is run on three pictures of no meaning first.

    Args:
        graph: the ``.onnx`` file; files that it keeps weights in lie beside it.
        pixels: what the graph was trained with. Nothing in the file says so, and nothing here can check it but the
            size.
        labels: one per output, in their order; none for a graph that embeds only.
        naming: the card's name and licence.
        reading: what the graph does not show by itself.
        is_linked: leave the weights where they are, and refuse them later where they have changed.

    Raises:
        BadRequest: name, licence, labels or pixels do not fit.
        WeightsUnavailable: there is no such file.
        BadWeights: it is no ONNX graph that can be run, or reaches for files outside its folder.
        Unsupported: it takes something else than pictures.
        MissingDependency: onnxruntime is not installed.
        CannotWrite: no room, or no right to write there.
    """
    naming.check()
    if not graph.is_file():
        raise WeightsUnavailable(f"{graph}: no such file; give the .onnx file that was exported")
    names = check_labels(labels) if labels else ()
    how = reading or Reading()
    found = probe(graph, pixels.size, len(names), scoring=how.scoring, features=how.features, scores=how.scores)
    source = graph.resolve()
    files = {file.relative_to(source.parent).as_posix(): file for file in (source, *read(source).external)}
    digests = {name: sha256_of(file) for name, file in files.items()}
    plan = asdict(found.plan)
    manifest = {"graph": str(source) if is_linked else source.name, "plan": plan, "labels": names, "sha256": digests}
    folder = _filled(naming.name, manifest, {} if is_linked else files)
    return _written(
        naming,
        kind="onnx",
        tasks=["embed", *(["classify"] if names else [])],
        summary=_summary(f"Your own ONNX graph {graph.name}", names, found),
        scoring=found.scoring,
        params=found.parameters,
        pixels=asdict(pixels),
        source={"path": folder, "files": [MANIFEST], "revision": _digest([digests, plan])},
    )


def from_folder(folder: Path, naming: Naming) -> Card:
    """A card for what `anmok ladder` wrote (``report/best``): a copy of it, under a name.

    Raises:
        BadRequest: name or licence do not fit, or it stands on another named head.
        BadData: the folder is none of ours.
        UnknownModel: the model that it stands on is not in the catalogue.
        CannotWrite: no room, or no right to write there.
    """
    naming.check()
    adapter = Adapter.read(folder)
    base = catalogue.card(adapter.base)
    if BASE in base.parts:
        raise BadRequest(f"{folder} stands on {base.name}, which is a head itself; climb on {base.parts[BASE]} instead")
    files = {name: folder / name for name in (TOML, TENSORS, CHANGE) if (folder / name).is_file()}
    home = _filled(naming.name, {"sha256": {name: sha256_of(file) for name, file in files.items()}}, files)
    return _written(
        naming,
        kind="adapter",
        tasks=list(local.TASKS),
        summary=f"Your own head on {base.name} ({adapter.rung}), {_counted(adapter.labels)}{_terms(adapter)}.",
        scoring=base.scoring if adapter.head is None and adapter.is_plain else "softmax",
        languages=list(base.languages),
        params=base.params,
        pixels=asdict(base.pixels),
        source={"path": home, "files": [MANIFEST, *files]},
        parts={BASE: base.name},
    )


def remove(name: str) -> None:
    """Takes a card of the user's away, with the weights that were copied for it.

    Raises:
        UnknownModel: no card of that name; a file that is no card is removed all the same.
        BadRequest: it is the catalogue's, or another card of the user's stands on it.
    """
    local.check_name(name)
    known = {one.name: one for one in catalogue.cards(is_hidden=True)}
    if name in known and known[name].family != local.FAMILY:
        raise BadRequest(f"{name} is the catalogue's; only cards of your own can be removed")
    if not local.file_of(name).exists():
        raise UnknownModel(f"you have no card called {name!r}; `anmok card list` shows yours")
    above = [one.name for one in known.values() if name in one.parts.values()]
    if above:
        raise BadRequest(f"{above[0]} stands on {name}; remove that first")
    local.remove(name)


def _filled(name: str, manifest: Mapping[str, Any], files: Mapping[str, Path]) -> str:
    """Writes the folder of a card's weights; returns its path, as it is said in the card."""
    folder = local.weights_folder(name)
    local.check_free(folder)
    with write_beside(folder, is_folder=True, remedy=f"set {local.VARIABLE} to a folder with room") as beside:
        for file, source in files.items():
            (beside / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, beside / file)
        text = json.dumps({"format": _FORMAT, **manifest}, ensure_ascii=False, indent=1)
        (beside / MANIFEST).write_text(text + "\n", encoding="utf-8")
    return name if folder.parent == local.cards_folder() else str(folder)


def _written(naming: Naming, **fields: Any) -> Card:
    local.write({"name": naming.name, "licence": naming.licence, **fields})
    return catalogue.card(naming.name)


def _summary(what: str, labels: Sequence[str], found: Probed) -> str:
    has = f" with {_counted(labels)}" if labels else ", which embeds only"
    return f"{what}{has}: {'; '.join(found.notes)}; {found.width} features."


def _counted(labels: Sequence[str]) -> str:
    shown = ", ".join(labels[:_SHOWN]) + (" ..." if len(labels) > _SHOWN else "")
    return f"{len(labels)} label{'s' if len(labels) != 1 else ''} ({shown})"


def _terms(adapter: Adapter) -> str:
    """What the card says of the images that the head learned from, where their licence is not just anybody's."""
    terms = LICENCES.get(adapter.licences.get("images", ""))
    return "" if terms is None else f"; learned from images under {terms.name}: {terms.summary}"


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:_REVISION]
