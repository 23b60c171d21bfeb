"""A run in one file: weights, the optimiser's averages, the curve so far. Written whole or not at all, without pickle,
so that a run that is killed at any moment goes on where its last checkpoint stands, to the same curve."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from anmok.errors import BadData, WrongState
from anmok.files import write_beside

_KEY = "anmok.checkpoint"
_WEIGHT, _BEST, _AVERAGE = "weight.", "best.", "average."


@dataclass(slots=True)
class Progress:
    """Where a run stands."""

    step: int = 0  # updates made
    losses: list[float] = field(default_factory=list)  # one per step
    checks: list[tuple[int, float]] = field(default_factory=list)  # step, what the judge said
    best: tuple[int, float] | None = None
    is_over: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """``weights`` and ``best`` by parameter name; ``averages`` as AdamW keeps them, by parameter and kind."""

    digest: str
    progress: Progress
    weights: Mapping[str, Tensor]
    best: Mapping[str, Tensor]
    averages: Mapping[str, Tensor]

    def write(self, path: Path) -> None:
        """Raises:
        CannotWrite: the disk is full, or the folder not to be written to.
        """
        flat = {_WEIGHT + name: tensor for name, tensor in self.weights.items()}
        flat |= {_BEST + name: tensor for name, tensor in self.best.items()}
        flat |= {_AVERAGE + name: tensor for name, tensor in self.averages.items()}
        told = json.dumps({"digest": self.digest, **asdict(self.progress)})
        # Two names may share one memory, which the format refuses.
        kept = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in flat.items()}
        with write_beside(path) as beside:
            save_file(kept, beside, metadata={_KEY: told})

    @classmethod
    def read(cls, path: Path, digest: str) -> Checkpoint:
        """Raises:
        BadData: the file is damaged or none of ours.
        WrongState: it is of another recipe, other pictures, or another net.
        """
        try:
            with safe_open(path, framework="pt") as file:
                told: dict[str, Any] = json.loads((file.metadata() or {})[_KEY])
                flat = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
            found = told.pop("digest")
            progress = Progress(**told)
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise BadData(f"{path} is no checkpoint that can be read ({error}); delete it to begin anew") from None
        if found != digest:
            raise WrongState(f"{path} is of another run (other pictures, model or settings); delete it to begin anew")
        progress.checks = [(int(step), float(value)) for step, value in progress.checks]
        progress.best = None if progress.best is None else (int(progress.best[0]), float(progress.best[1]))
        return cls(digest, progress, _of(flat, _WEIGHT), _of(flat, _BEST), _of(flat, _AVERAGE))


def averages(optimizer: torch.optim.Optimizer, names: Sequence[str]) -> dict[str, Tensor]:
    """What the optimiser remembers of each parameter, by ``name/kind``."""
    state = optimizer.state_dict()["state"]
    return {f"{names[index]}/{kind}": tensor for index, kinds in state.items() for kind, tensor in kinds.items()}


def restore(optimizer: torch.optim.Optimizer, names: Sequence[str], found: Mapping[str, Tensor]) -> None:
    """The reverse of ``averages``."""
    whole = optimizer.state_dict()
    whole["state"] = {}
    for key, tensor in found.items():
        name, _, kind = key.rpartition("/")
        whole["state"].setdefault(names.index(name), {})[kind] = tensor
    optimizer.load_state_dict(whole)


def _of(flat: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in flat.items() if name.startswith(prefix)}
