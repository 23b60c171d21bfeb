"""What every upper rung stands on: the pool's pictures, which of them judge, and the linear head to begin with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from anmok.evidence.splits import folds
from anmok.ladder.evaluate import Held, Price
from anmok.ladder.plan import Plan
from anmok.ladder.prepare import Scene
from anmok.ladder.rungs.fitting import Fitted, Material, plain_linear
from anmok.load import Adapter, Answerer, Head, Model
from anmok.tasks import Embed, Tunes
from anmok.weights import cache_dir

if TYPE_CHECKING:
    from anmok.train.tuning import Start

Array = NDArray[np.float32]
Labels = NDArray[np.int64]
Progress = Callable[[str, int, int], None]

JUDGES = 5  # one in so many groups of the pool judges


@dataclass(frozen=True, eq=False)
class Ground:
    """Rows are those of the pool. ``progress`` is told (what, done, in all)."""

    model: Model
    scene: Scene
    material: Material
    held: Held
    price: Price
    plan: Plan
    progress: Progress | None = None
    student: Model | str | None = None  # already loaded, instead of the plan's; or why it could not be

    @property
    def kind(self) -> Any:
        """What the model file made."""
        return self.model.kind

    @property
    def is_tunable(self) -> bool:
        return isinstance(self.model.kind, Tunes)

    @cached_property
    def paths(self) -> list[Path]:
        """Of the pool, in its order."""
        return [self.scene.dataset.paths[i] for i in self.scene.pool]

    @cached_property
    def tested(self) -> list[Path]:
        """Of the held-out pictures."""
        return [self.scene.dataset.paths[i] for i in self.scene.test]

    @cached_property
    def _fold(self) -> Labels:
        return folds(self.material.labels, self.material.groups, JUDGES, self.plan.seed)

    @cached_property
    def judging(self) -> Labels:
        """Rows that end a run and choose how far to go; no group is on both sides."""
        return np.flatnonzero(self._fold == 0)

    @cached_property
    def teaching(self) -> Labels:
        return np.flatnonzero(self._fold != 0)

    @cached_property
    def linear(self) -> Fitted:
        """The linear head on the teaching rows' features."""
        return plain_linear(self.material, self.teaching)

    @cached_property
    def start(self) -> Start:
        """The same, for a net to begin with."""
        from anmok.train.tuning import Start

        head = self.linear.head
        assert isinstance(head, Head)
        assert head.mean is not None
        assert head.scale is not None
        return Start(head.weight, head.bias, head.mean, head.scale)

    @cached_property
    def rarest(self) -> int:
        """Images of the rarest class among those that teach."""
        return int(np.bincount(self.material.labels[self.teaching], minlength=self.material.classes).min())

    @cached_property
    def checkpoints(self) -> Path:
        """A folder for runs under way: of this plan, these pictures and this model, so that a killed climb goes on."""
        digest = self.plan.digest(self.scene.data_hash, self.scene.split_hash)
        return cache_dir() / "training" / digest

    def told(self, what: str) -> Callable[[int, int], None] | None:
        """The progress of one piece of work."""
        progress = self.progress
        return None if progress is None else lambda done, total: progress(what, done, total)


def with_learned(model: Model, classes: int, head: Answerer, change: Mapping[str, Array] | None) -> Model:
    """The model with what was learned on it, as whoever loads the result will have it."""
    labels = tuple(str(i) for i in range(classes))
    return model.with_adapter(Adapter(model.card.name, model.maker, labels, "", head=head, change=change))


def seen(model: Model, paths: Sequence[Path]) -> Array:
    """Features (n, F) of pictures; (0, 0) of none."""
    rows = [one.vector for one in model.run(list(paths), Embed("features"))]
    return np.stack(rows) if rows else np.zeros((0, 0), np.float32)
