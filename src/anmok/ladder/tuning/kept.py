"""What a tuned rung learned and answered, kept in the cache, so that the same climb takes it instead of learning anew.

A file's name is the digest of all that decides what is in it: the pictures with their labels and their parts in the
training, the tested pictures, the model with its revision and preprocessing, the head that was begun with, the recipe
with its seed, and the code that trains. Nothing else is looked at, so a change of any of them is another file.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from anmok import __version__
from anmok.errors import CannotWrite
from anmok.files import remove, write_beside
from anmok.ladder.tuning.ground import Ground
from anmok.weights import cache_dir

if TYPE_CHECKING:
    from anmok.train.opening import How
    from anmok.train.recipe import Recipe

Array = NDArray[np.float32]

MOST_BYTES: Final = 256_000_000  # of all such files; the one that was not used for longest goes first
_FOLDER: Final = "tuned"
_ENDING: Final = ".safetensors"
_TOLD: Final = "anmok.tuned"
_DIGEST: Final = "anmok.sha256"  # of all that is told and learned
_CHANGE: Final = "change."
# Packages that decide what comes out, with all that is below them, and those of others that may be absent.
_CODE: Final = ("anmok.train", "anmok.nets", "anmok.models", "anmok.ladder.tuning")
_OTHERS: Final = ("torch", "transformers", "peft")


@dataclass(frozen=True, slots=True)
class Told:
    """``asked``: steps of the recipe; ``steps``: made, for the judging pictures may have ended it before. ``seconds``:
    that it took. ``compared``: shares of the way that were tried."""

    asked: int
    steps: int
    share: float
    compared: int
    seconds: float


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """``change`` by name, head ``weight`` (K, F) and ``bias`` (K,), and ``logits`` (m, K) for the tested pictures."""

    told: Told
    change: Mapping[str, Array]
    weight: Array
    bias: Array
    logits: Array


def place_of(key: str, ground: Ground, how: How, recipe: Recipe) -> Path:
    """Where the rung's file lies, whether it is there or not. How many steps a budget had room for is no part of its
    name, for that depends on how busy the machine was; ``Told.asked`` says it."""
    recipe_told = {name: value for name, value in asdict(recipe).items() if name not in ("steps", "check_every")}
    facts, scene, start = ground.scene.looked.facts, ground.scene, ground.start
    parts: list[Any] = [key, str(how), recipe_told, ground.model.maker, ground.material.classes, _code()]
    parts.append([facts[i].sha256 for i in scene.pool])
    parts.append([facts[i].sha256 for i in scene.test])
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode())
    for rows in (ground.material.labels, ground.teaching, ground.judging):
        digest.update(np.ascontiguousarray(rows, np.int64).tobytes())
    for array in (start.weight, start.bias, start.mean, start.scale):
        digest.update(np.ascontiguousarray(array, np.float32).tobytes())
    return cache_dir() / _FOLDER / f"{key}-{digest.hexdigest()[:32]}{_ENDING}"


def read(path: Path) -> Kept | None:
    """What lies there; nothing where there is no such file, or one that is damaged, which then goes."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="numpy") as file:
            noted = file.metadata() or {}
            arrays: dict[str, Array] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        if noted[_DIGEST] != _digest(noted[_TOLD], arrays):  # the format itself notices a wrong length and no more
            raise ValueError(f"{path} is not what was written")
        told = Told(**json.loads(noted[_TOLD]))
        change = {name.removeprefix(_CHANGE): one for name, one in arrays.items() if name.startswith(_CHANGE)}
        found = Kept(told, change, arrays["weight"], arrays["bias"], arrays["logits"])
        path.touch()  # used now: others go before it
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        remove(path)
        return None
    return found


def write(path: Path, kept: Kept) -> None:
    """Keeps it, and lets go of the oldest beyond ``MOST_BYTES``; what is larger by itself is not kept. A disk that
    refuses costs the next run its time and this one nothing."""
    from safetensors.numpy import save_file

    arrays = {_CHANGE + name: np.ascontiguousarray(one) for name, one in kept.change.items()}
    arrays |= {name: np.ascontiguousarray(getattr(kept, name)) for name in ("weight", "bias", "logits")}
    if sum(one.nbytes for one in arrays.values()) > MOST_BYTES:
        return
    told = json.dumps(asdict(kept.told))
    with contextlib.suppress(CannotWrite):
        with write_beside(path) as beside:
            save_file(arrays, beside, metadata={_TOLD: told, _DIGEST: _digest(told, arrays)})
        _tidy(path)


def _digest(told: str, arrays: Mapping[str, Array]) -> str:
    digest = hashlib.sha256(told.encode())
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].dtype} {arrays[name].shape}".encode())
        digest.update(np.ascontiguousarray(arrays[name]).tobytes())
    return digest.hexdigest()


def _tidy(newest: Path) -> None:
    with contextlib.suppress(OSError):  # another process may tidy as well
        stats = {path: path.stat() for path in newest.parent.glob(f"*{_ENDING}") if path != newest}
        room = MOST_BYTES - newest.stat().st_size
        for path in sorted(stats, key=lambda one: -stats[one].st_mtime):
            room -= stats[path].st_size
            if room < 0:
                remove(path)


@cache
def _code() -> str:
    """Of the sources that train, and the versions of what they stand on."""
    digest = hashlib.sha256(__version__.encode())
    for other in _OTHERS:
        with contextlib.suppress(PackageNotFoundError):
            digest.update(f"{other} {version(other)}".encode())
    for package in _CODE:
        for name, source in sorted(_sources(files(package)).items()):
            digest.update(name.encode() + source.read_bytes())
    return digest.hexdigest()


def _sources(folder: Traversable, above: str = "") -> dict[str, Traversable]:
    """By their names below the package."""
    found: dict[str, Traversable] = {}
    for one in folder.iterdir():
        if one.is_dir():
            found |= _sources(one, f"{above}{one.name}/")
        elif one.name.endswith(".py"):
            found[above + one.name] = one
    return found
