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
from importlib.resources import files
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
_CHANGE: Final = "change."
_CODE: Final = ("anmok.train", "anmok.nets", "anmok.ladder.tuning")  # packages that decide what comes out


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
    """What lies there; nothing where there is no such file, or one that cannot be read, which then goes."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="numpy") as file:
            told = Told(**json.loads((file.metadata() or {})[_TOLD]))
            arrays: dict[str, Array] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        change = {name.removeprefix(_CHANGE): one for name, one in arrays.items() if name.startswith(_CHANGE)}
        found = Kept(told, change, arrays["weight"], arrays["bias"], arrays["logits"])
        path.touch()  # used now: others go before it
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        remove(path)
        return None
    return found


def write(path: Path, kept: Kept) -> None:
    """Keeps it, and lets go of the oldest beyond ``MOST_BYTES``. A disk that refuses costs the next run its time and
    this one nothing."""
    from safetensors.numpy import save_file

    arrays = {_CHANGE + name: np.ascontiguousarray(one) for name, one in kept.change.items()}
    arrays |= {name: np.ascontiguousarray(getattr(kept, name)) for name in ("weight", "bias", "logits")}
    with contextlib.suppress(CannotWrite):
        with write_beside(path) as beside:
            save_file(arrays, beside, metadata={_TOLD: json.dumps(asdict(kept.told))})
        _tidy(path)


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
    import torch

    digest = hashlib.sha256(f"{__version__} {torch.__version__}".encode())
    for package in _CODE:
        sources = {one.name: one for one in files(package).iterdir() if one.name.endswith(".py")}
        for name in sorted(sources):
            digest.update(name.encode() + sources[name].read_bytes())
    return digest.hexdigest()
