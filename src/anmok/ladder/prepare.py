"""Look at everything once, decide what belongs together, and seal the test set, before anything is fitted."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from anmok.errors import BadData
from anmok.evidence.groups import straddling
from anmok.evidence.splits import seal
from anmok.ladder.dataset import Dataset
from anmok.ladder.evaluate import Held
from anmok.ladder.features import Looked, look
from anmok.ladder.grouping import Grouping, conflicting, grouping
from anmok.ladder.outcome import Data
from anmok.ladder.plan import Plan
from anmok.load import Model

if TYPE_CHECKING:
    from anmok.ladder.made import MadePictures

Labels = NDArray[np.int64]
Progress = Callable[[int, int], None]

FEW_GROUPS = 100  # below this, a third of the groups is too few to say anything
TINY = 100  # labelled images below which sealing a test set would leave too little on both sides


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """Everything that is known before the first fit. With ``is_development`` there is no sealed test set: pool and
    test are all the images, and every figure is cross-validated. ``made``: made pictures, to learn from alone."""

    dataset: Dataset
    looked: Looked
    grouping: Grouping
    labels: Labels  # (n,)
    pool: Labels  # (k,) indices
    test: Labels  # (m,) indices
    is_development: bool
    data_hash: str
    split_hash: str
    warnings: tuple[str, ...]
    made: MadePictures | None = None

    def held(self) -> Held:
        """The images that answer."""
        return Held(self.looked.features[self.test], self.labels[self.test], self.grouping.groups[self.test])


def prepare(dataset: Dataset, model: Model, plan: Plan, progress: Progress | None = None) -> Scene:
    """From paths to a split.

    Raises:
        BadData: too few usable images.
    """
    if dataset.labels is None:
        raise BadData(f"{dataset.title}: no labels; the ladder needs some, `anmok classify` needs none")
    looked = look(dataset.paths, model, progress=progress)
    dataset, looked = _usable(dataset, looked)
    assert dataset.labels is not None
    if len(dataset.classes) < 2:
        why = "".join(f"; {warning}" for warning in dataset.warnings)
        raise BadData(f"{dataset.title}: a comparison needs two classes with usable images{why}")
    labels = dataset.labels
    found = grouping(dataset, looked, plan.groups, plan.seed)
    warnings: tuple[str, ...] = ()
    is_development = dataset.is_test is None and len(labels) < TINY
    if is_development:
        pool = test = np.arange(len(labels))
        warnings = (f"{len(labels)} labelled images are too few to seal a test set: development estimates only",)
    elif dataset.is_test is not None:
        pool, test, warnings = _own_test(dataset.is_test, found)
    else:
        share, warnings = _share(found, plan)
        split = seal(labels, found.groups, share=share, seed=plan.seed)
        pool, test, warnings = split.pool, split.test, (*warnings, *split.warnings)
    lonely = [name for i, name in enumerate(dataset.classes) if (labels[pool] == i).sum() == 1]
    if lonely:
        warnings = (*warnings, f"one image only to learn from: {', '.join(lonely[:5])}")
    data_hash = digest([facts.sha256 for facts in looked.facts], [dataset.classes[i] for i in labels])
    split_hash = digest([looked.facts[i].sha256 for i in test], [])
    every = (*dataset.warnings, *warnings)
    return Scene(dataset, looked, found, labels, pool, test, is_development, data_hash, split_hash, every)


def told(scene: Scene) -> Data:
    """The images as the outcome holds them."""
    dataset = scene.dataset
    return Data(
        title=dataset.title,
        names=dataset.names,
        classes=dataset.classes,
        counts=tuple(int(count) for count in np.bincount(scene.labels, minlength=len(dataset.classes))),
        pool=len(scene.pool),
        test=len(scene.test),
        groups=len(np.unique(scene.grouping.groups)),
        grouping=scene.grouping.description,
        licence=dataset.licence,
        data_hash=scene.data_hash,
        warnings=scene.warnings,
    )


def _usable(dataset: Dataset, looked: Looked) -> tuple[Dataset, Looked]:
    """Without the files that cannot be read, and without those whose very bytes stand under two labels."""
    warnings = []
    if looked.failures:
        first = looked.failures[0][1]
        warnings.append(f"{len(looked.failures)} images cannot be read and are left out; the first: {first}")
    if len(looked.indices) == 0:
        raise BadData(f"{dataset.title}: not one image can be read; {looked.failures[0][1]}")
    readable = dataset.keep(looked.indices, warnings)
    assert readable.labels is not None
    twice = conflicting(looked, readable.labels)
    if not twice:
        return readable, looked
    names = readable.names
    warning = f"the same image under two labels, left out: {', '.join(names[i] for i in twice[:4])}"
    keep = np.setdiff1d(np.arange(len(names)), twice)
    kept = Looked(
        np.arange(len(keep)),
        looked.features[keep],
        tuple(looked.facts[i] for i in keep),
        looked.dhash[keep],
        looked.failures,
        looked.computed,
    )
    return readable.keep(keep, [warning]), kept


def _share(found: Grouping, plan: Plan) -> tuple[float, tuple[str, ...]]:
    """What is asked for; half where the images come in few groups, since an interval rests on groups, not images."""
    groups = len(np.unique(found.groups))
    if groups >= FEW_GROUPS or plan.test_share == 0.5:
        return plan.test_share, ()
    return 0.5, (f"the images come in {groups} groups only: half of them are kept for the test",)


def _own_test(is_test: NDArray[np.bool_], found: Grouping) -> tuple[Labels, Labels, tuple[str, ...]]:
    """The user's test folder stays whole; images of the pool that it already holds leave the pool."""
    shared = np.isin(found.groups, straddling(found.groups, is_test)) & ~is_test
    warnings: tuple[str, ...] = ()
    if shared.any():
        warnings = (f"{int(shared.sum())} training images have a copy or group-mate in the test folder: left out",)
    pool = np.flatnonzero(~is_test & ~shared)
    if len(pool) == 0:
        raise BadData("--test: every training image has a copy in the test folder; nothing is left to learn from")
    return pool, np.flatnonzero(is_test), warnings


def digest(hashes: list[str], labels: list[str]) -> str:
    """Of a set of images with their labels, in whatever order or folder they lie."""
    rows = sorted(zip(hashes, labels, strict=True)) if labels else sorted(hashes)
    return hashlib.sha256(repr(rows).encode()).hexdigest()[:32]
