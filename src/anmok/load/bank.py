"""A memory of good pictures as a folder: ``anmok.toml``, and the patches in a safetensors file."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from anmok.catalogue import Card
from anmok.errors import BadData, BadWeights, WrongState
from anmok.files import write_beside
from anmok.inspecting import Foreground, Limit, Memory
from anmok.tasks import Inspect

FORMAT: Final = 1
KIND: Final = "memory"
MANIFEST, TENSORS = "anmok.toml", "memory.safetensors"
_AGAIN = "make it again with `anmok inspect --good good/ --memory FOLDER`"


@dataclass(frozen=True, slots=True, eq=False)
class Bank:
    """A memory, and whose patches it holds.

    ``size``: the side in pixels of the canvas that pictures are brought to. ``normals`` float64 (n,): scores of good
    pictures that the memory did not hold when it judged them, ascending; empty where there were too few pictures.
    """

    base: str
    maker: str  # card, revision, preprocessing and dtype of the patches
    size: int
    memory: Memory
    pictures: int  # good ones that it remembers
    limit: Limit | None = None
    normals: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    licences: Mapping[str, str] = field(default_factory=dict)
    ledger: Mapping[str, str] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        return int(self.memory.rows.nbytes)

    def check(self, maker: str) -> None:
        """Refuses a base other than the one whose patches it holds.

        Raises:
            WrongState: another card, revision, preprocessing or dtype.
        """
        if maker != self.maker:
            raise WrongState(f"this memory holds patches of {self.maker}, not of {maker}; {_AGAIN}")

    def write(self, folder: Path) -> None:
        """The folder as a whole or not at all."""
        from safetensors.numpy import save_file

        ground = self.memory.foreground
        tensors: dict[str, NDArray[Any]] = {"rows": self.memory.rows.astype(np.float16), "normals": self.normals}
        if ground is not None:
            tensors |= {"ground_centre": ground.centre, "ground_axis": ground.axis}
        with write_beside(folder, is_folder=True) as beside:
            (beside / MANIFEST).write_text(_to_toml(self), encoding="utf-8")
            save_file({name: np.ascontiguousarray(array) for name, array in tensors.items()}, beside / TENSORS)

    @classmethod
    def read(cls, folder: Path) -> Bank:
        """From its folder.

        Raises:
            BadData: no such folder, or it is not a memory.
            BadWeights: its tensors are missing, or do not fit each other.
        """
        path = folder / MANIFEST
        try:
            content = tomllib.loads(path.read_text(encoding="utf-8"))
            if (content["kind"], content["format"]) != (KIND, FORMAT):
                raise BadData(f"{path}: want a {KIND} of format {FORMAT}; {_AGAIN}")
            return _from_content(content, folder / TENSORS)
        except OSError as error:
            raise BadData(f"{folder}: no memory in it ({error.strerror}); {_AGAIN}") from None
        except (KeyError, TypeError, AttributeError, ValueError) as error:  # ValueError: no UTF-8, no TOML, no number
            raise BadData(f"{path}: not a memory of anmok ({error}); {_AGAIN}") from None


def is_bank(folder: Path) -> bool:
    """Whether ``load`` finds a memory there, and not a head."""
    try:
        return bool(tomllib.loads((folder / MANIFEST).read_text(encoding="utf-8")).get("kind") == KIND)
    except (OSError, ValueError):  # whoever reads it next says what is wrong
        return False


def base_of(folder: Path) -> str:
    """The name of the model that a memory is for; its patches are not read.

    Raises:
        BadData: it is not a memory, or its patches are missing.
    """
    path = folder / MANIFEST
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadData(f"{path}: not a memory of anmok ({error}); {_AGAIN}") from None
    if content.get("kind") != KIND or not isinstance(content.get("base"), str) or not (folder / TENSORS).is_file():
        raise BadData(f"{path}: not a memory of anmok, or without its {TENSORS}; {_AGAIN}")
    return str(content["base"])


def inspecting(base: Card) -> Card:
    """The card of a model that has a memory: it inspects, and does nothing else."""
    return replace(base, tasks=(Inspect.task,))


def _from_content(content: Mapping[str, Any], path: Path) -> Bank:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        tensors = load_file(path)
        rows, normals = tensors["rows"].astype(np.float32), tensors["normals"].astype(np.float64)
        ground = None
        if "ground" in content:
            centre, axis = tensors["ground_centre"], tensors["ground_axis"]
            ground = Foreground(centre, axis, float(content["ground"]["cut"]))
    except (OSError, SafetensorError, KeyError) as error:
        raise BadWeights(f"{path}: the memory cannot be read ({error}); {_AGAIN}") from None
    is_fitting = rows.ndim == 2 and (ground is None or ground.axis.shape == ground.centre.shape == rows.shape[1:])
    if not is_fitting or not np.isfinite(rows).all():
        raise BadWeights(f"{path}: the tensors do not fit each other, or hold what is no number; {_AGAIN}")
    return Bank(
        base=str(content["base"]),
        maker=str(content["maker"]),
        size=int(content["size"]),
        memory=Memory(content["method"], rows, int(content["seen"]), ground),
        pictures=int(content["pictures"]),
        limit=Limit(**content["limit"]) if "limit" in content else None,
        normals=normals,
        licences=content.get("licences", {}),
        ledger=content.get("ledger", {}),
    )


def _to_toml(bank: Bank) -> str:
    """JSON strings, numbers and arrays of them are valid TOML as they stand."""
    plain: dict[str, Any] = {
        "format": FORMAT,
        "kind": KIND,
        "base": bank.base,
        "maker": bank.maker,
        "size": bank.size,
        "method": bank.memory.method,
        "seen": bank.memory.seen,
        "pictures": bank.pictures,
    }
    tables: dict[str, Mapping[str, Any]] = {"licences": bank.licences, "ledger": bank.ledger}
    if bank.limit is not None:
        one = bank.limit
        tables["limit"] = {name: getattr(one, name) for name in one.__dataclass_fields__}
    if bank.memory.foreground is not None:
        tables["ground"] = {"cut": bank.memory.foreground.cut}
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in plain.items()]
    for name, table in tables.items():
        lines += ["", f"[{name}]"]
        lines += [f"{json.dumps(key)} = {json.dumps(value, ensure_ascii=False)}" for key, value in table.items()]
    return "\n".join(lines) + "\n"
