"""Weights in a folder of the user's."""

from __future__ import annotations

from pathlib import Path

from anmok.catalogue.sources import FolderSource, needs, suffix
from anmok.errors import BadWeights, WeightsUnavailable
from anmok.weights.shards import INDEX, WHOLE, shards_of

SAFE = frozenset(
    (".safetensors", ".gguf", ".onnx", ".mf.gz", ".json", ".txt", ".model", ".tiktoken", ".spm", ".jinja", ".toml")
)
UNSAFE = "may run code when it is opened; want safetensors, GGUF or ONNX"


def from_folder(source: FolderSource) -> dict[str, Path]:
    """Every file of a safe kind below the folder, by its path there. Hidden files are passed over.

    Raises:
        WeightsUnavailable: no such folder, or a named file, or a shard of it, is not in it.
        BadWeights: a named file is of a kind that may run code, its index of shards is none, or there is nothing of a
            safe kind.
    """
    root = Path(source.path).expanduser()
    if not root.is_dir():
        raise WeightsUnavailable(f"{root} is no folder; give the path of the one with the weights")
    for name, is_needed in needs(source.files).items():
        if suffix(name) not in SAFE:
            raise BadWeights(f"{root / name} {UNSAFE}")
        if is_needed:
            _check_there(root, name)
    inside = {path.relative_to(root).as_posix(): path for path in sorted(root.rglob("*")) if path.is_file()}
    found = {name: path for name, path in inside.items() if suffix(name) in SAFE and not _is_hidden(name)}
    if not found:
        raise BadWeights(f"{root} holds no weights of a safe kind; want safetensors, GGUF or ONNX")
    return found


def _check_there(root: Path, name: str) -> None:
    if (root / name).is_file():
        return
    if name != WHOLE or not (root / INDEX).is_file():
        raise WeightsUnavailable(f"{root} holds no {name}")
    for shard in shards_of(root / INDEX):
        if not (root / shard).is_file():
            raise WeightsUnavailable(f"{root} holds no {shard}, which {INDEX} names")


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))
