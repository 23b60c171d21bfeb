"""A memory ready to be written: every good picture at hand, and a threshold from the same ones, each judged by a memory
of the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from anmok.errors import BadData
from anmok.inspecting import Method, limit
from anmok.ladder.features import Looked, look
from anmok.ladder.grouping import near_duplicates
from anmok.ladder.inspecting import rungs
from anmok.ladder.inspecting.rungs import Bench
from anmok.ladder.inspecting.sight import Progress, Sight, see
from anmok.load import Bank, Model

Labels = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Recipe:
    """``is_turned``: with turned references, and without the ground around the thing where there is some."""

    method: Method = "nearest"
    is_turned: bool = False
    overkill: float = 0.05
    seed: int = 0


PLAIN = Recipe()


def banked(
    model: Model, sight: Sight, good: Labels, groups: Labels, recipe: Recipe, ledger: dict[str, str] | None = None
) -> Bank:
    """A bank of the pictures ``good`` (indices into those of ``sight``); ``groups`` are of all of these. A picture's
    group-mates never judge it. Without two groups there is no threshold."""
    nothing = np.zeros(0, np.int64)
    bench = Bench(sight, np.zeros((0, 0), np.float32), groups, good, nothing, nothing, recipe.seed)
    answered = rungs.all_good(bench, recipe.method, lambda: None, recipe.is_turned)
    assert answered.memory is not None
    return Bank(
        base=model.card.name,
        maker=model.maker,
        size=sight.model.card.pixels.size,
        memory=answered.memory,
        pictures=len(good),
        limit=limit(answered.normals, recipe.overkill) if len(answered.normals) else None,
        normals=np.sort(answered.normals),
        licences={"weights": model.card.licence.id},
        ledger=ledger or {},
    )


def bank_of(
    model: Model,
    paths: Sequence[Path],
    *,
    size: int = 0,
    recipe: Recipe = PLAIN,
    progress: Progress | None = None,
) -> Bank:
    """From the files of good pictures. Those that cannot be read are left out.

    Raises:
        BadData: not one can be read.
        Unsupported: a model that shows no patches.
        CannotWrite: the cache cannot be written.
    """
    looked = readable(paths, model)
    kept = [paths[i] for i in looked.indices]
    with threadpool_limits(1, user_api="blas"):
        sight = see(kept, model, size, "", progress)
        return banked(model, sight, np.arange(len(kept)), copies(looked), recipe)


def readable(paths: Sequence[Path], model: Model) -> Looked:
    """Features of those that can be read.

    Raises:
        BadData: there are none.
    """
    looked = look(paths, model)
    if len(looked.indices) == 0:
        why = looked.failures[0][1] if looked.failures else "there are none"
        raise BadData(f"not one good picture can be read: {why}")
    return looked


def copies(looked: Looked) -> Labels:
    """(n,) groups of near-duplicates."""
    return near_duplicates(looked).group.astype(np.int64)
