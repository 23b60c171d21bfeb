"""A ``.pth`` becomes safetensors, once. It is a pickle, and a pickle is a program: none is run here."""

from __future__ import annotations

import hashlib
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anmok.errors import BadWeights, MissingDependency
from anmok.files import cannot_write, discard, write_beside
from anmok.weights.cache import RECORD, REMEDY, Record, cache_dir, measure, sha256_of, verified, write_record

if TYPE_CHECKING:
    import torch

# What torch's restricted reader raises on a damaged checkpoint; which one depends on where the damage is.
_DAMAGED = (
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    AttributeError,
    TypeError,
    AssertionError,
    OSError,
)


def to_safetensors(path: Path, *, key: str = "") -> Path:
    """The same tensors as a safetensors file in the cache, made on the first call.

    ``provenance.json`` beside it names the checkpoint and its sha256. Tensors that share memory are stored
    one by one, so tied weights come back equal but apart.

    Args:
        path: a checkpoint that ``torch.save`` wrote.
        key: where the state dict is nested, under which key: ``"state_dict"``, ``"model"``. Without it the only
            table of tensors among the values is taken.

    Raises:
        BadWeights: it holds anything but named dense tensors, is TorchScript, or is damaged.
        MissingDependency: torch is not installed.
        CannotWrite: the cache folder is full or read-only.
    """
    origin = sha256_of(path)
    tag = hashlib.sha256(f"{origin} {key}".encode()).hexdigest()[:16]
    shelf = cache_dir() / "converted" / f"{path.stem}-{tag}"
    name = f"{path.stem}.safetensors"
    record = verified(shelf)
    if record is None or record.revision != origin:
        tensors = _tensors(_open(path), path, key)
        with cannot_write(shelf, REMEDY):
            discard(shelf)
        with write_beside(shelf, is_folder=True, keeps_first=True, remedy=REMEDY) as folder:
            _save(tensors, folder / name, path)
            write_record(folder / RECORD, Record(path.name, origin, {name: measure(folder / name)}))
    return shelf / name


def _open(path: Path) -> object:
    """Read the checkpoint with a reader that builds tensors and plain containers and calls nothing else."""
    try:
        import torch
    except ImportError as error:
        raise MissingDependency(f"{path.name} is a torch checkpoint: pip install torch") from error
    if _is_torchscript(path):
        raise BadWeights(
            f"{path} is a TorchScript archive: it holds program code, which runs when it is opened, and not"
            " weights alone; ask for its state dict as safetensors"
        )
    try:
        content: object = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        raise BadWeights(
            f"{path} is a pickle with {named[1] if named else 'more than tensors'} in it: to open it could"
            " run any program; ask for its state dict as safetensors"
        ) from error
    except _DAMAGED as error:
        reason = f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')[:160]}"
        raise BadWeights(f"{path} is no torch checkpoint, or a damaged one ({reason})") from error
    return content


def _is_torchscript(path: Path) -> bool:
    try:
        if not zipfile.is_zipfile(path):
            return False
        with zipfile.ZipFile(path) as archive:
            inside = [name.partition("/")[2] for name in archive.namelist()]
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError):
        return False  # torch says what is wrong with it
    return any(name == "constants.pkl" or name.startswith("code/") for name in inside)


def _tensors(content: object, path: Path, key: str) -> dict[str, torch.Tensor]:
    import torch

    if key:
        if not isinstance(content, Mapping) or key not in content:
            raise BadWeights(f"{path} has no {key!r} in it")
        content = content[key]
    elif isinstance(content, Mapping):
        # Training code saves the tensors beside its own state. One table of tensors is the one; of two nobody knows.
        tables = [value for value in content.values() if isinstance(value, Mapping) and _is_table(value)]
        content = tables[0] if len(tables) == 1 else content
    if not isinstance(content, Mapping) or not content:
        raise BadWeights(f"{path} holds a {type(content).__name__}, not a table of named tensors")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise BadWeights(
                f"{path}: {name!r} is a {type(value).__name__}, not a tensor; if the state dict is nested"
                f" under one of {', '.join(map(str, list(content)[:5]))}, the card must say so"
            )
        if value.layout != torch.strided or value.is_quantized or value.is_meta:
            raise BadWeights(f"{path}: {name!r} is a sparse, quantised or empty tensor; want a dense one")
    return dict(content)


def _is_table(content: Mapping[Any, Any]) -> bool:
    """Named tensors and nothing else."""
    import torch

    return bool(content) and all(isinstance(value, torch.Tensor) for value in content.values())


def _save(tensors: dict[str, torch.Tensor], target: Path, path: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    # safetensors stores no views: a tensor that shares memory, or is a part of a larger one, gets its own.
    own = {name: value.detach().clone().contiguous() for name, value in tensors.items()}
    try:
        save_file(own, target)
    except (SafetensorError, KeyError) as error:  # a type of number that the format does not have
        raise BadWeights(f"{path}: cannot be written as safetensors ({error})") from error
