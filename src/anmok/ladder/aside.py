"""What a rung says of labelled images that it did not learn from: what calibrates it, and sets its thresholds.

The sealed test is not among them. Where there is none, the images that answer are their own: cross-fitted, as the rungs
are.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from anmok.evidence.splits import folds
from anmok.ladder.asking.rung import ALONE, zero_shot_logits
from anmok.ladder.evaluate import Evaluated, Price
from anmok.ladder.measure import Measured, outer_folds
from anmok.ladder.plan import DEFAULT_BUDGET, Plan
from anmok.ladder.prepare import Scene
from anmok.ladder.rungs.fitting import fit
from anmok.ladder.rungs.order import CLOSER, FIXED, LEARNED, MADE
from anmok.ladder.tuning.ground import Ground
from anmok.ladder.zero_shot import TextSide
from anmok.load import Adapter, Head, Model
from anmok.tasks import Embed

Array = NDArray[np.float32]
Labels = NDArray[np.int64]
Source = Literal["cross-fitted", "nothing learned", "kept aside"]

FEWEST = 30  # images kept aside below which nothing is said of a tuned rung
_PATIENCE = 5.0  # seconds for looking at them again through a tuned tower, where no budget was given
_FITTED = (*LEARNED, *MADE, *CLOSER)
_STRAIGHT = ("4", "4a", "4b", "5", "6", "S")  # tuned rungs that keep some of the pool aside to judge by


@dataclass(frozen=True, slots=True, eq=False)
class Aside:
    """``logits`` (n, K) at temperature 1 for ``labels`` (n,) in ``groups`` (n,)."""

    logits: Array
    labels: Labels
    groups: Labels
    source: Source


@dataclass(frozen=True, slots=True, eq=False)
class Asides:
    """By rung, each worked out once and when it is asked for."""

    scene: Scene
    model: Model
    text: TextSide
    plan: Plan
    measured: Measured
    _known: dict[str, Aside | str] = field(default_factory=dict)

    def of(self, key: str) -> Aside | str:
        """Of the rung ``key``, or why there is nothing."""
        if key not in self._known:
            self._known[key] = self._of(key)
        return self._known[key]

    def _of(self, key: str) -> Aside | str:
        material, chosen = self.measured.material_of(key), self.measured.final[key]
        if len(np.unique(material.groups)) < 2:
            return "the images to learn from are one single group"
        if key in FIXED:
            rung = next(rung for rung in self.text.rungs if rung.key == key)
            return Aside(rung.logits(material.features), material.labels, material.groups, "nothing learned")
        if key == ALONE:
            return self._asked(chosen)
        if self.scene.is_development and chosen.logits is not None and key in (*LEARNED, *MADE, *CLOSER):
            return Aside(chosen.logits, material.labels, material.groups, "cross-fitted")
        if key in (*LEARNED, *MADE, *CLOSER):
            return self._cross_fitted(key)
        if key in _STRAIGHT:
            return self._judged(chosen)
        return "what it says of images that it did not learn from is not known"

    def _cross_fitted(self, key: str) -> Aside:
        """Each image by a rung fitted, choices included, on the folds without it."""
        material = replace(self.measured.material_of(key), flipped=None)
        fold = folds(material.labels, material.groups, outer_folds(material), material.seed)
        logits = np.zeros((len(material.labels), material.classes), np.float32)
        for k in np.unique(fold):
            rows = np.flatnonzero(fold == k)
            logits[rows] = fit(key, material, np.flatnonzero(fold != k)).head.logits(material.features[rows])
        return Aside(logits, material.labels, material.groups, "cross-fitted")

    def _asked(self, chosen: Evaluated) -> Aside | str:
        """What a vision-language model says of pictures of the pool, as many as there is time for."""
        material = self.measured.material
        if self.scene.is_development:
            assert chosen.logits is not None
            return Aside(chosen.logits, material.labels, material.groups, "nothing learned")
        rows = self._patiently(np.arange(len(material.labels)), chosen)
        if len(rows) < FEWEST:
            return f"to ask it about {FEWEST} more images takes too long"
        assert chosen.student is not None
        logits = zero_shot_logits(chosen.student, self._ground(chosen), rows)
        return Aside(logits, material.labels[rows], material.groups[rows], "nothing learned")

    def _ground(self, chosen: Evaluated) -> Ground:
        price = Price(chosen.step.ms_per_image, 0.0)
        return Ground(self.model, self.scene, self.measured.material, self.scene.held(), price, self.plan)

    def _patiently(self, rows: Labels, chosen: Evaluated) -> Labels:
        """Some of the rows, where no budget was given."""
        if self.plan.budget > DEFAULT_BUDGET:
            return rows
        most = int(_PATIENCE * 1e3 / max(chosen.step.ms_per_image, 1e-3))
        return np.sort(np.random.default_rng(self.plan.seed).permutation(rows)[:most])

    def _judged(self, chosen: Evaluated) -> Aside | str:
        """The pictures that judged a tuned rung, as many as there is time for: they ended its training, and taught it
        nothing else."""
        material, head, ground = self.measured.material, chosen.head, self._ground(chosen)
        rows = ground.judging
        is_seen_anew = chosen.change is not None or chosen.student is not None
        if is_seen_anew:
            rows = self._patiently(rows, chosen)
        if len(rows) < FEWEST:
            return f"{len(rows)} images were kept aside from its training, and {FEWEST} at least would be needed"
        assert isinstance(head, Head)
        features = material.features[rows]
        if is_seen_anew:
            labels, model = self.scene.dataset.classes, chosen.student or self.model
            tuned = model.with_adapter(
                Adapter(model.card.name, model.maker, labels, "", head=head, change=chosen.change)
            )
            paths = [ground.paths[i] for i in rows]
            features = np.stack([one.vector for one in tuned.run(paths, Embed("features"))])  # (n, F)
        return Aside(head.logits(features), material.labels[rows], material.groups[rows], "kept aside")
