"""Does the metadata give the label away, and which groups put an end to it?

Images that lie together were often made together: cells of one module, frames of one film, one patient's
slides. Their labels go together too, so under a random split a model is asked about things whose neighbours
it has seen. The audit and the ladder find this by controls that never see a pixel, propose groups, and hold
whole groups out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from anmok.evidence.controls import ALPHA, Control, beating, control, fold_table, metadata_controls
from anmok.evidence.intervals import design_effect
from anmok.evidence.leaks_groups import Candidate, candidates
from anmok.evidence.metadata import Column, Metadata, is_sorted_by

MIN_GROUPS = 20  # below, an interval by groups is too wide to be of use
FEW_GROUPS = 8  # below, it is no interval
GROUPS_PER_CLASS = 5  # so that each of five folds can see each class
LEFT = 1 / 3  # share of a control's random-split excess that may be left where groups are called enough


@dataclass(frozen=True, slots=True, eq=False)
class GroupScheme:
    """A proposal, with what the strongest leaking control reaches when split at random and when split by it.

    ``is_enough``: with these groups held out, every leaking control is back at the majority within its noise
    and has lost two thirds of its excess at least, which a mere lack of groups would not bring about.
    """

    family: str  # originals, sessions, jumps, runs, folders, cameras
    name: str
    group: NDArray[np.intp]  # (n,)
    description_en: str
    description_ko: str
    control_accuracy_random: float
    control_accuracy_grouped: float
    p_grouped: float
    n_groups: int
    effective_groups: float  # n^2 / sum of squared sizes: equal groups of this number are worth as much
    single_class: float  # share of the groups that hold one class only; near 1, class-stratified splits are hard
    is_enough: bool


@dataclass(frozen=True, slots=True, eq=False)
class LeakReport:
    """``leaking``: names of the controls that beat the majority under a random split, the strongest first.

    ``curable``: those of them that groups can silence. ``naming``: those by which a file's name spells its
    label: no matter of groups, harmless to a model that sees pixels alone. ``class_ordered``: columns along
    which the images come class by class: they are the label, and nobody can tell from them what was made
    together. ``grouped``: all controls with groups held out, the user's where there are any, else the
    recommended ones; () without either. ``still_leaking``: the curable ones that the user's groups do not
    silence; groups are then proposed all the same.
    """

    random: tuple[Control, ...]
    grouped: tuple[Control, ...]
    leaking: tuple[str, ...]
    curable: tuple[str, ...]
    naming: tuple[str, ...]
    class_ordered: tuple[str, ...]
    still_leaking: tuple[str, ...]
    schemes: tuple[GroupScheme, ...]
    recommended: GroupScheme | None

    @property
    def strongest(self) -> Control | None:
        """The best of the leaking controls that groups can cure."""
        return next((one for one in self.random if self.curable[:1] == (one.name,)), None)


def find_leaks(metadata: Metadata, labels: ArrayLike, groups: ArrayLike | None, *, seed: int) -> LeakReport:
    """Run every control; where one beats the majority, look for the groups that stop it.

    labels: (n,) int. groups: (n,) int, the user's own, or None.
    """
    truth = np.asarray(labels, dtype=np.intp)
    random = metadata_controls(metadata, truth, None, seed=seed)
    leaking = tuple(one.name for one in beating(random))
    ordered = tuple(
        column.name
        for column in metadata.columns
        if column.kind == "sequence" and is_sorted_by(truth, column.values[:, 0])
    )
    found = [column for name in leaking if (column := metadata.column(name)) is not None]
    naming = tuple(column.name for column in found if column.kind == "naming")
    cure = [c for c in found if c.kind in ("sequence", "category") and c.name not in ordered]
    curable = tuple(column.name for column in cure)
    grouped = () if groups is None else metadata_controls(metadata, truth, groups, seed=seed)
    still = tuple(one.name for one in beating(grouped) if one.name in curable)
    schemes = propose_groups(metadata, truth, cure, random, seed=seed) if groups is None or still else ()
    recommended = recommend(schemes)
    if groups is None and recommended is not None:
        grouped = metadata_controls(metadata, truth, recommended.group, seed=seed)
    return LeakReport(random, grouped, leaking, curable, naming, ordered, still, schemes, recommended)


def propose_groups(
    metadata: Metadata, labels: ArrayLike, leaking: Sequence[Column], random: Sequence[Control], *, seed: int
) -> tuple[GroupScheme, ...]:
    """From every family of groups the finest that is enough, or the coarsest if none is.

    labels: (n,) int. leaking: the columns to be silenced, the strongest first; without any there is nothing
    to propose, but that augmented copies of one original always belong together. random: their controls under
    a random split. A run is as short as the data allow: the shortest of 8, 16, 32 ... files after which the
    controls know no more than the majority. Longer would waste data (fewer groups, wider intervals), shorter
    would leave neighbours on both sides. At least 20 groups must remain, and 5 with each class.
    """
    truth = np.asarray(labels, dtype=np.intp)
    series = next((column.values[:, 0] for column in leaking if column.kind == "sequence"), None)
    before = {one.name: one for one in random}
    found: list[GroupScheme] = []
    for family, members in groupby(candidates(metadata, series), key=lambda one: one.family):
        best: GroupScheme | None = None
        for candidate in members:
            if (not leaking and family != "originals") or not _is_usable(candidate, truth):
                continue
            best = _judged(candidate, truth, leaking, before, seed)
            if best.is_enough:
                break
        found += [best] if best is not None else []
    return tuple(found)


def recommend(schemes: Sequence[GroupScheme]) -> GroupScheme | None:
    """Of those that are enough the one worth the most groups; but 20 groups before fewer, and groups with a cause
    (sessions, folders, jumps) before runs of some length, which cut through what was made together."""
    enough = [one for one in schemes if one.is_enough]
    return max(
        enough,
        key=lambda one: (one.n_groups >= MIN_GROUPS, one.family != "runs", one.effective_groups),
        default=None,
    )


def _is_usable(candidate: Candidate, labels: NDArray[np.intp]) -> bool:
    n_groups = np.unique(candidate.group).size
    least = FEW_GROUPS if candidate.family in ("folders", "cameras", "sessions") else MIN_GROUPS
    pairs = np.unique(np.stack([labels, candidate.group]), axis=1)  # (2, P) every class with every group it is in
    per_class = np.unique(pairs[0], return_counts=True)[1]  # (C,)
    return n_groups >= least and int(per_class.min()) >= GROUPS_PER_CLASS


def _judged(
    candidate: Candidate,
    labels: NDArray[np.intp],
    leaking: Sequence[Column],
    before: dict[str, Control],
    seed: int,
) -> GroupScheme:
    outcomes = [_held_out(candidate, column, labels, seed) for column in leaking]
    is_enough = all(
        p >= ALPHA and value - before[column.name].majority <= LEFT * before[column.name].excess
        for column, (value, p) in zip(leaking, outcomes, strict=True)
    )
    sizes = np.unique(candidate.group, return_counts=True)[1].astype(np.float64)  # (G,)
    pairs = np.unique(np.stack([candidate.group, labels]), axis=1)  # (2, P) every group with every class in it
    classes = np.unique(pairs[0], return_counts=True)[1]  # (G,)
    majority = float(np.unique(labels, return_counts=True)[1].max()) / labels.size
    return GroupScheme(
        candidate.family,
        candidate.name,
        candidate.group,
        candidate.description_en,
        candidate.description_ko,
        before[leaking[0].name].accuracy.value if leaking else majority,
        outcomes[0][0] if outcomes else majority,
        min((p for _, p in outcomes), default=1.0),
        sizes.size,
        float(sizes.sum() ** 2 / (sizes @ sizes)),
        float((classes == 1).mean()),
        is_enough,
    )


def _held_out(candidate: Candidate, column: Column, labels: NDArray[np.intp], seed: int) -> tuple[float, float]:
    """Accuracy of the control and its one-sided p against the majority, averaged over the alignments."""
    values, errors, freedom = [], [], []
    for shift, group in enumerate(candidate.alignments):
        fold = fold_table(labels, group, seed=seed + shift, repeats=1 if len(candidate.alignments) > 1 else 2)
        if fold is None:
            continue
        one = control(column, labels, fold, group)
        difference = one.correct - (labels == np.bincount(labels).argmax())  # (n,)
        values.append(one.accuracy.value)
        errors.append(np.sqrt(difference.var(ddof=1) / labels.size * design_effect(difference, group)))
        freedom.append(np.unique(group).size - 1)
    if not values:
        return 1.0, 0.0
    excess = float(np.mean(values)) - one.majority
    # The alignments share their images: their mean is hardly surer than one of them.
    p = float(stats.t.sf(excess / max(float(np.mean(errors)), 1e-12), min(freedom)))
    return float(np.mean(values)), p
