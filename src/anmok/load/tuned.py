"""A model whose picture tower was tuned: the weights of the card, and what training did to them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anmok.errors import WrongState
from anmok.tasks import Tunes

Array = NDArray[np.float32]


def tuned(kind: Any, name: str, change: Mapping[str, Array]) -> Any:
    """What a model file made, with the change as ``nets.change.Change.tensors`` gives it.

    Raises:
        WrongState: the model has no tower that can be tuned.
        BadWeights: the change is of another tower.
    """
    import torch

    from anmok.nets.change import Change

    if not isinstance(kind, Tunes):
        raise WrongState(f"{name} has no weights that can be tuned; climb again on a model that has")
    whole = Change.from_tensors({key: torch.from_numpy(np.array(tensor)) for key, tensor in change.items()})
    return kind.tuned(whole.apply)


def mark(change: Mapping[str, Array]) -> str:
    """What tells its features from those of the untuned model, in the name of their maker."""
    digest = hashlib.sha256()
    for key in sorted(change):
        digest.update(key.encode() + np.ascontiguousarray(change[key]).tobytes())
    return f"+{digest.hexdigest()[:12]}"
