"""From a name to a model: card, licence, files, parts, and the single dynamic import."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, cast

from anmok.catalogue import Card, card
from anmok.catalogue.sources import RemoteSource
from anmok.errors import BadRequest, MissingDependency, UnknownModel, Unsupported
from anmok.load.adapter import Adapter
from anmok.load.bank import Bank, is_bank
from anmok.load.model import Model
from anmok.tasks import Setup
from anmok.weights import fetch, revision_of, to_safetensors

DTYPES = ("float32", "bfloat16")
RUNTIMES = ("torch", "fastest")


def load(
    name: str,
    *,
    device: str = "auto",
    dtype: str = "float32",
    runtime: str = "torch",
    revision: str | None = None,
    accept_licences: Collection[str] = (),
    parts: Mapping[str, str] | None = None,
) -> Model:
    """A model by its card's name, or an adapted one by the path of its folder (with ``./``, ``/`` or ``~``).

    Args:
        name: ``"mini"``, ``"siglip2-b16-256"``, ``"./report/best"``.
        device: ``auto`` takes a GPU where there is one; ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        dtype: ``float32`` (exact) or ``bfloat16``.
        runtime: ``torch`` (exact) or ``fastest``: the quickest way that the model has here, where that costs some
            digits. A model that has no other way runs as ever.
        revision: of a hub repository, instead of the card's.
        accept_licences: names of licences that you accept, beside those in ``ANMOK_ACCEPT_LICENCES``.
        parts: other models for the parts that a composed model is made of: ``{"detector": "owlv2-b16"}``.

    Raises:
        UnknownModel: no card of that name; the message offers the nearest.
        LicenceRequired: its licence was not accepted.
        WeightsUnavailable: hub or package index cannot be reached, or lack the files.
        BadWeights: a file is not the pinned one, or does not fit the net.
        MissingDependency: a package that this family needs is not installed.
        Unsupported: a device, dtype or runtime that is not to be had here, or a model that only its maker can run.
        Unauthorized: no key for whoever runs it.
        BadRequest: a part that the model does not have, or revision or parts for an adapted model.
        BadData: the folder of an adapted model is not one, or damaged.
    """
    if _is_path(name):
        if revision is not None or parts:
            raise BadRequest(f"{name}: an adapted model brings its own base: leave revision and parts out")
        folder = Path(name).expanduser()
        if is_bank(folder):
            bank = Bank.read(folder)
            base = load(bank.base, device=device, dtype=dtype, runtime=runtime, accept_licences=accept_licences)
            return base.inspector(bank=bank)
        adapter = Adapter.read(folder)
        base = load(adapter.base, device=device, dtype=dtype, runtime=runtime, accept_licences=accept_licences)
        return base.with_adapter(adapter)
    if runtime not in RUNTIMES:
        raise Unsupported(f"runtime {runtime!r}: want one of {', '.join(RUNTIMES)}")
    if dtype not in DTYPES:
        raise Unsupported(f"dtype {dtype!r}: want one of {', '.join(DTYPES)}")
    one = card(name)
    if one.is_retired:
        raise UnknownModel(f"{name} was withdrawn by its vendor; use {one.successor} instead")
    if revision is not None:
        one = _pinned(one, revision)
    if parts:
        one = _composed(one, parts)
    files = fetch(one.source, licence=one.licence, accept=accept_licences)
    loaded = {
        role: load(part, device=device, dtype=dtype, runtime=runtime, accept_licences=accept_licences)
        for role, part in one.parts.items()
    }
    is_remote = isinstance(one.source, RemoteSource)
    setup = _setup(one, "cpu" if is_remote else device, dtype, loaded)
    # A branch can move: what was computed is kept under the commit that it was computed with.
    commit = revision_of(one.source, files)
    setup = dataclasses.replace(setup, files=_readable(files), revision=commit or setup.revision)
    if runtime == "fastest":
        setup = dataclasses.replace(setup, runtime="fastest")
    # Whoever runs it answers many at a time: nobody waits for another's answer.
    lock = cast(Any, contextlib.nullcontext()) if is_remote else None
    kind = _kind(one).from_files(setup)
    return Model(one, kind, setup, lock=lock, mark=getattr(kind, "mark", ""))


def tiny(name: str, seed: int = 0, parts: Mapping[str, str] | None = None) -> Model:
    """The card's architecture at toy size with random weights: offline, in well under a second. For tests."""
    one = _composed(card(name), parts) if parts else card(name)
    setup = _setup(one, "cpu", "float32", {role: tiny(part, seed) for role, part in one.parts.items()})
    return Model(one, _kind(one).tiny(setup, seed), setup)


def _readable(files: Mapping[str, Path]) -> dict[str, Path]:
    """Checkpoints of torch are converted once; model files see safetensors alone."""
    readable = {}
    for name, path in files.items():
        is_checkpoint = path.suffix in (".pth", ".pt")
        readable[name.removesuffix(path.suffix) + ".safetensors" if is_checkpoint else name] = (
            to_safetensors(path) if is_checkpoint else path
        )
    return readable


def _setup(one: Card, device: str, dtype: str, parts: Mapping[str, Model]) -> Setup:
    """The parts go to the constructor as what their model files made of them, without the wrapping."""
    return Setup(
        name=one.name,
        kind=one.kind,
        pixels=one.pixels,
        text=one.text,
        scoring=one.scoring,
        languages=one.languages,
        revision=one.revision or "+".join(part.maker for part in parts.values()),
        device=_device(device),
        dtype=dtype,
        parts={role: part.kind for role, part in parts.items()},
    )


def _kind(one: Card) -> Any:
    module, _, name = one.code.partition(":")
    path = module if "." in module else f"anmok.models.{module}"
    try:
        return getattr(importlib.import_module(path), name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("anmok"):
            raise
        raise MissingDependency(f"{one.name} needs the package {error.name}: pip install 'anmok[models]'") from None


def _device(name: str) -> str:
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", name):
        raise Unsupported(f"device {name!r}: want auto, cpu, cuda, cuda:1 or mps")
    if name == "cpu":
        return name
    try:
        import torch
    except ModuleNotFoundError:
        return "cpu"  # whoever needs torch says so on import

    cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    here = {"cuda": cuda, "mps": int(torch.backends.mps.is_available())}
    if name == "auto":
        return next((kind for kind, count in here.items() if count), "cpu")
    kind, _, index = name.partition(":")
    if int(index or 0) >= here[kind]:
        raise Unsupported(f"device {name!r}: torch finds {here[kind]} such devices on this machine; use auto or cpu")
    return name


def _pinned(one: Card, revision: str) -> Card:
    from anmok.catalogue.sources import HubSource

    if not isinstance(one.source, HubSource):
        raise BadRequest(f"{one.name} does not come from a hub repository, so it has no revisions")
    return dataclasses.replace(one, source=dataclasses.replace(one.source, revision=revision))


def _composed(one: Card, parts: Mapping[str, str]) -> Card:
    """The card with other parts.

    Raises:
        BadRequest: it has no such part.
        UnknownModel: no card of that name.
    """
    unknown = [role for role in parts if role not in one.parts]
    if unknown:
        has = f"its parts are {', '.join(one.parts)}" if one.parts else "it is not made of parts"
        raise BadRequest(f"{one.name} has no part {unknown[0]!r}: {has}")
    for name in parts.values():
        card(name)
    return dataclasses.replace(one, parts={**one.parts, **parts})


def _is_path(name: str) -> bool:
    starts = ("./", "../", "/", "~", f".{os.sep}", f"..{os.sep}")
    return name.startswith(starts) or (Path(name) / "anmok.toml").is_file()
