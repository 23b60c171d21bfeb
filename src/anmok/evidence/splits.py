"""The sealed test set and the folds: whole groups, every class on both sides, the same for the same seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from anmok.errors import BadData, BadRequest
from anmok.evidence.intervals import group_numbers

_LARGEST_SHARE = 0.5
_SWEEPS = 4
_TRIES = 10
_FAR = 0.05  # difference of shares worth a warning


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Image numbers of the ``test`` set (m,) and of the ``pool`` (k,), ascending; no group is in both.

    warnings: what could not be kept. share: the share of images that was asked for the test set after the
    limits; the split comes as near as whole groups allow.
    """

    test: NDArray[np.intp]
    pool: NDArray[np.intp]
    share: float
    warnings: tuple[str, ...]


def seal(
    labels: ArrayLike, groups: ArrayLike | None = None, *, share: float = 0.3, images: int = 0, seed: int
) -> Split:
    """Draw the test set, once, before anything else looks at the data.

    labels: (n,) classes. groups: (n,) int or None. share: of every class that goes to the test set. images:
    how many test images the asked margin needs (see `anmok.evidence.power`); they raise the share, up to one
    half. Groups are drawn at random, large ones first so that small ones can even out, then single groups
    change sides while that brings the classes nearer to the share. A class in one single group stays in the
    pool where it can. Raises `BadData` for fewer than two classes or groups, `BadRequest` for a share outside
    (0, 0.5].
    """
    if not 0 < share <= _LARGEST_SHARE or images < 0:
        raise BadRequest(f"a test share of {share}, {images} images: want a share in (0, 0.5], images >= 0")
    counts, group = _counted(labels, groups)
    if counts.size.size < 2 or counts.n_groups < 2:
        classes = counts.size.size
        raise BadData(f"{classes} classes in {counts.n_groups} groups: testing needs two of both")
    if counts.is_single().all():
        raise BadData("every class lies in one group only, none can be learnt and tested: give finer groups")
    asked = max(share, images / group.size)
    used = min(asked, _LARGEST_SHARE)
    rng = np.random.default_rng(seed)
    is_test = _chosen(counts, used, rng)  # (G,)
    side = is_test[group]  # (n,)
    warnings = _warnings(counts, is_test)
    if asked > _LARGEST_SHARE:
        warnings = (f"the margin asks for {images} test images, half of all are {group.size // 2}", *warnings)
    got = float(side.mean())
    if abs(got - used) > _FAR:
        warnings = (f"the groups are so large that testing got {100 * got:.0f} %, not {100 * used:.0f} %", *warnings)
    return Split(np.flatnonzero(side), np.flatnonzero(~side), used, warnings)


def folds(labels: ArrayLike, groups: ArrayLike | None, k: int, seed: int) -> NDArray[np.intp]:
    """(n,) fold 0..k-1 of each image: whole groups, every class spread as evenly as the groups allow.

    Groups go one by one, large ones first, equal ones in random order, to the fold that has least of their
    classes. Raises `BadRequest` for k < 2, `BadData` for fewer than k groups.
    """
    if k < 2:
        raise BadRequest(f"{k} folds: cross-validation needs at least 2")
    counts, group = _counted(labels, groups)
    if counts.n_groups < k:
        raise BadData(f"{counts.n_groups} groups of images cannot fill {k} folds: ask for fewer folds")
    rng = np.random.default_rng(seed)
    have, total = np.zeros((counts.size.size, k)), np.zeros(k)  # (C, k), (k,)
    fold = np.empty(counts.n_groups, dtype=np.intp)
    for g in counts.large_first(rng):
        classes, count = counts.row(g)
        crowding = (count / counts.size[classes]) @ (2 * have[classes] + count[:, None])  # (k,)
        fold[g] = np.lexsort((rng.random(k), total, crowding.round(9)))[0]
        have[classes, fold[g]] += count
        total[fold[g]] += count.sum()
    return fold[group]  # (n,)


@dataclass(frozen=True, slots=True, eq=False)
class _Counts:
    """How many images of each class every group has: the pairs (group, class) that have any.

    names: (C,) of the classes. size: (C,) images of each class. group, classes, count: (P,) per pair, by
    group. start: (G + 1,) where the pairs of each group begin.
    """

    names: NDArray[np.generic]
    size: NDArray[np.float64]
    group: NDArray[np.intp]
    classes: NDArray[np.intp]
    count: NDArray[np.float64]
    start: NDArray[np.intp]

    @property
    def n_groups(self) -> int:
        return self.start.size - 1

    def row(self, g: int) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """The classes of group ``g`` and how many images it has of each."""
        part = slice(int(self.start[g]), int(self.start[g + 1]))
        return self.classes[part], self.count[part]

    def images(self, is_in: NDArray[np.bool_]) -> NDArray[np.float64]:
        """(C,) images of each class in the groups marked (G,)."""
        held = np.bincount(self.classes, weights=self.count * is_in[self.group], minlength=self.size.size)
        return held.astype(np.float64)

    def is_single(self) -> NDArray[np.bool_]:
        """(C,) whether a class lies in one group only."""
        return np.equal(np.bincount(self.classes, minlength=self.size.size), 1)

    def large_first(self, rng: np.random.Generator) -> list[int]:
        """The groups, those with more images first, equal ones in random order."""
        total = np.bincount(self.group, weights=self.count)  # (G,)
        return [int(g) for g in np.lexsort((rng.random(total.size), -total))]


def _counted(labels: ArrayLike, groups: ArrayLike | None) -> tuple[_Counts, NDArray[np.intp]]:
    """`_Counts`, and the group 0..G-1 of every image (n,)."""
    if np.ndim(labels) != 1 or np.size(labels) == 0:
        raise BadData(f"labels have shape {np.shape(labels)}: want one class per image, and at least one image")
    names, code = np.unique(np.asarray(labels), return_inverse=True)  # (C,), (n,)
    group = group_numbers(groups, code.size)
    pair, count = np.unique(group * names.size + code, return_counts=True)  # (P,), (P,)
    of_group, of_class = np.divmod(pair, names.size)  # (P,), (P,)
    start = np.searchsorted(of_group, np.arange(int(group.max()) + 2))  # (G + 1,)
    size = np.bincount(code).astype(np.float64)  # (C,)
    return _Counts(names, size, of_group, of_class, count.astype(np.float64), start), group


def _chosen(counts: _Counts, share: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """(G,) which groups are for testing: the first try that is near enough, or the best of a few."""
    tries = []
    for _ in range(_TRIES):
        is_test = _polished(counts, share * counts.size, _drawn(counts, share, rng), rng)
        held = counts.images(is_test)  # (C,)
        n_missing = int(np.sum(~counts.is_single() & ((held == 0) | (held == counts.size))))
        off = abs(float(held.sum() / counts.size.sum()) - share)
        tries.append((n_missing, off, is_test))
        if n_missing == 0 and off <= _FAR:
            break
    return min(tries, key=lambda tried: tried[:2])[2]


def _drawn(counts: _Counts, share: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """(G,) which groups are for testing, by selection sampling (Fan, Muller & Rezucha 1962).

    A group is taken with the probability "still needed / still to come" of its classes: each has the same
    chance, and single images hit the share exactly.
    """
    to_come, needed, is_single = counts.size.copy(), share * counts.size, counts.is_single()  # (C,) each
    is_test = np.zeros(counts.n_groups, dtype=bool)
    for g in counts.large_first(rng):
        classes, count = counts.row(g)
        chance = float(count @ (needed[classes] / to_come[classes])) / float(count.sum())
        is_test[g] = rng.random() < chance and not is_single[classes].any()
        to_come[classes] -= count
        needed[classes] -= count * is_test[g]
    return is_test


def _polished(
    counts: _Counts, wanted: NDArray[np.float64], is_test: NDArray[np.bool_], rng: np.random.Generator
) -> NDArray[np.bool_]:
    """(G,) sides after single groups changed theirs while that brings classes nearer to ``wanted`` (C,).

    Missing on one side counts far more than any number of images too many; so, less, does testing on a class
    that lies in a single group and could then not be learnt.
    """
    size, is_single = counts.size, counts.is_single()  # (C,), (C,)
    is_test, have, dear = is_test.copy(), counts.images(is_test), float(counts.size.sum())

    def cost(classes: NDArray[np.intp], held: NDArray[np.float64]) -> float:
        """What it costs that the test set holds ``held`` images of these classes."""
        total = size[classes]
        is_missing = np.where(is_single[classes], held > 0, dear * ((held <= 0) | (held >= total)))
        return float(np.sum((held - wanted[classes]) ** 2 / total + dear * is_missing))

    for _ in range(_SWEEPS):
        before = is_test.copy()
        for g in rng.permutation(is_test.size).tolist():
            classes, count = counts.row(g)
            other = have[classes] + (-count if is_test[g] else count)
            if cost(classes, other) < cost(classes, have[classes]) - 1e-9:
                have[classes] = other
                is_test[g] = not is_test[g]
        if (before == is_test).all():
            break
    return is_test


def _warnings(counts: _Counts, is_test: NDArray[np.bool_]) -> tuple[str, ...]:
    tested = counts.images(is_test)  # (C,)
    found = []
    for lacking, side, loss in (
        (tested == 0, "the test set", "nothing will be known about them"),
        (tested == counts.size, "the pool", "they cannot be learnt"),
    ):
        if lacking.any():
            listed = ", ".join(map(str, counts.names[lacking][:10])) + (", ..." if lacking.sum() > 10 else "")
            found.append(f"classes not in {side}: {listed}; they have too few groups, and {loss}")
    return tuple(found)
