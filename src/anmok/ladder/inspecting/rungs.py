"""The rungs of the anomaly ladder: scores of held-out pictures from what the pool holds. Nothing here knows which of
the held-out pictures are defects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from anmok.evidence.draws import support_draws
from anmok.evidence.splits import folds
from anmok.inspecting import Foreground, Memory, Method, foreground, remember, top_mean
from anmok.inspecting.memory import LARGEST, as_rows
from anmok.ladder.inspecting.sight import Sight
from anmok.ladder.rungs.linear import logistic, standardise
from anmok.pairing import product

Array = NDArray[np.float32]
Double = NDArray[np.float64]
Labels = NDArray[np.int64]
Tick = Callable[[], None]

FOLDS, LEAVE_ONE_OUT = 5, 20  # good pictures up to which each is judged by all the others
JUDGED = 60  # good pictures at most that a threshold is set on
TURNED = 16  # references that are turned, at most, where all are used
TURNED_SHOTS = 4  # references up to which A2 is tried at few: each costs eight looks
GROUND_FROM = 50  # good pictures that the ground is told from
COMPONENTS = 16  # of the pooled features, beside the patch score: few, since the defects are few
STRENGTH = 0.1  # C of the logistic regression
_AT_ONCE = 4  # references in one product


@dataclass(frozen=True, slots=True, eq=False)
class Bench:
    """What a fold may use: indices into the data set. ``groups`` are of all pictures."""

    sight: Sight
    features: Array  # (n, F) of all pictures
    groups: Labels  # (n,)
    good: Labels  # of the pool
    defects: Labels  # of the pool
    test: Labels
    seed: int


@dataclass(frozen=True, slots=True, eq=False)
class Answered:
    """Scores (S, m) of the test pictures, and ``normals`` (n,) of the good pictures ``judged`` (n,) of the pool, none
    of which the memory held when it judged them. ``maps``: the patches' distances of each test picture, where the rung
    has them."""

    scores: Double
    normals: Double
    judged: Labels
    good: int
    defects: int = 0
    memory: Memory | None = None
    maps: Sequence[Array] = field(default_factory=tuple)
    megabytes: float = 0.0


def few(bench: Bench, shots: Sequence[int], draws: int, tick: Tick, is_turned: bool = False) -> dict[int, Answered]:
    """A1, or A2 with ``is_turned``, at few references: each draw's picture score is the mean of the top 1 % of the
    distances to the nearest patch among its references. One table of distances serves all draws."""
    usable = [n for n in shots if n < len(bench.good)]
    if not usable:
        return {}
    labels = np.zeros(len(bench.good), np.int64)
    drawn = support_draws(labels, usable, draws, seed=bench.seed, groups=bench.groups[bench.good])
    union = np.unique(np.concatenate([rows.ravel() for rows in drawn.values()]))
    column = {int(place): i for i, place in enumerate(union)}
    sight = bench.sight
    references = [sight.turned(int(bench.good[i])) if is_turned else [sight.rows(int(bench.good[i]))] for i in union]
    tables = [[as_rows(view, "nearest") for view in views] for views in references]
    scores = {n: np.zeros((draws, len(bench.test))) for n in usable}
    for place, index in enumerate(bench.test):
        away = _table(as_rows(sight.rows(int(index)), "nearest"), tables)  # (P, R)
        for n, rows in drawn.items():
            for draw, row in enumerate(rows):
                scores[n][draw, place] = top_mean(away[:, [column[int(i)] for i in row]].min(1))
        tick()
    nobody = np.zeros(0, np.int64)
    return {n: Answered(found, np.zeros(0), nobody, n) for n, found in scores.items()}


def _table(queries: Array, references: Sequence[Sequence[Array]]) -> Array:
    """1 - cosine of each patch (P, D) to the nearest one of each reference, which may have several views: (P, R)."""
    found = np.empty((len(queries), len(references)), np.float32)
    for start in range(0, len(references), _AT_ONCE):
        views = [view for several in references[start : start + _AT_ONCE] for view in several]
        best = product(queries, np.concatenate(views).T).reshape(len(queries), len(views), -1).max(2)  # (P, v)
        each = best.reshape(len(queries), -1, len(references[start])).max(2)  # (P, r)
        found[:, start : start + each.shape[1]] = 1.0 - each
    return np.maximum(found, 0.0)


def all_good(bench: Bench, method: Method, tick: Tick, is_turned: bool = False) -> Answered:
    """A1, A2 (``is_turned``: with turned references and without the ground) or PatchCore on all good pictures."""
    ground = ground_of(bench.sight, bench.good) if is_turned else None
    memory = _memory(bench, bench.good, method, is_turned, ground)
    judged = []
    for index in bench.test:
        judged.append(memory.judge(bench.sight.rows(int(index))))
        tick()
    judged_good, normals = held_out(
        bench, lambda rows: _memory(bench, rows, method, is_turned, ground), tick, is_turned
    )
    return Answered(
        np.asarray([[one.score for one in judged]]),
        normals,
        judged_good,
        len(bench.good),
        memory=memory,
        maps=[one.distances for one in judged],
        megabytes=memory.rows.nbytes / 2e6,  # kept in half precision
    )


def ground_of(sight: Sight, good: Labels) -> Foreground | None:
    return foreground([sight.rows(int(i)) for i in good[:GROUND_FROM]])


def _memory(bench: Bench, good: Labels, method: Method, is_turned: bool, ground: Foreground | None) -> Memory:
    pictures = [bench.sight.rows(int(i)) for i in good]
    if is_turned:
        pictures += [view for i in good[:TURNED] for view in bench.sight.turned(int(i))[1:]]
    return remember(pictures, method, seed=bench.seed, largest=LARGEST, ground=ground)


def held_out(
    bench: Bench, made: Callable[[Labels], Memory], tick: Tick, is_dear: bool = False
) -> tuple[Labels, Double]:
    """Good pictures (n,) of the pool and their scores (n,), each by a memory of the others alone: one left out where
    there are up to 20; else, or where a memory ``is_dear`` to make, in five parts. Group-mates of a picture are never
    in the memory that judges it. At most 60 are judged."""
    chosen, fold = _parts(bench, FOLDS if is_dear else LEAVE_ONE_OUT)
    scores = np.zeros(len(chosen))
    for k in np.unique(fold[chosen]):
        memory = made(bench.good[fold != k])
        for place in np.flatnonzero(fold[chosen] == k):
            scores[place] = memory.judge(bench.sight.rows(int(bench.good[chosen[place]]))).score
            tick()
    return bench.good[chosen], scores


def _parts(bench: Bench, alone: int) -> tuple[Labels, Labels]:
    """Which good pictures (n,) of the pool are judged, as places among them, and the part (g,) that each of all is in;
    none where they all belong together.

    One of each group, drawn at random: group-mates are no new evidence, and a limit that counted each of twenty shots
    of one piece would promise what one piece cannot (Dunn, Wasserman and Ramdas, "Distribution-free prediction sets
    for two-layer hierarchical models", JASA 2023).
    """
    groups = bench.groups[bench.good]
    count = len(np.unique(groups))
    if count < 2:
        return np.zeros(0, np.int64), np.zeros(len(bench.good), np.int64)
    parts = count if count <= alone else FOLDS
    fold = folds(np.zeros(len(bench.good), np.int64), groups, parts, bench.seed)
    order = np.random.default_rng(bench.seed).permutation(len(bench.good))
    firsts = order[np.sort(np.unique(groups[order], return_index=True)[1])]  # in the order that was drawn
    return np.sort(firsts[:JUDGED]), fold.astype(np.int64)


def defect_scores(bench: Bench, memory: Memory) -> Double:
    """(d,) patch scores of the pool's defects by A1's ``memory``; where that holds good group-mates of a defect, by one
    without their part, as a defect of the test is judged without its own."""
    groups = bench.groups[bench.good]
    _, fold = _parts(bench, LEAVE_ONE_OUT)
    part_of = dict(zip(groups.tolist(), fold.tolist(), strict=True))
    part = np.asarray([part_of.get(int(group), -1) for group in bench.groups[bench.defects]], np.int64)
    scores = np.zeros(len(part))
    for k in np.unique(part):
        others = bench.good[fold != k]
        judging = memory if k < 0 or len(others) == 0 else _memory(bench, others, memory.method, False, None)
        for place in np.flatnonzero(part == k):
            scores[place] = judging.judge(bench.sight.rows(int(bench.defects[place]))).score
    return scores


def with_defects(bench: Bench, patchwise: Answered, scores: Double, shots: int | None, draws: int) -> Answered:
    """A4: logistic regression on the patch score of ``patchwise`` (A1 on all good pictures) and the pooled features in
    16 components, from the judged good pictures and ``shots`` labelled defects (``None``: all of them), whose patch
    ``scores`` (d,) are those of `defect_scores`.

    A good picture of the pool enters with a score that it did not help to make, or it would look too good.
    """
    defects = bench.defects
    good = _table_of(bench.features[patchwise.judged], patchwise.normals)
    bad, asked = _table_of(bench.features[defects], scores), _table_of(bench.features[bench.test], patchwise.scores[0])
    supports = [np.arange(len(defects))]
    if shots is not None:
        labels = np.zeros(len(defects), np.int64)
        supports = list(support_draws(labels, [shots], draws, seed=bench.seed, groups=bench.groups[defects])[shots])
    found = [_fitted(good, bad[support])(asked) for support in supports]
    normals = _cross_fitted(good, bad[supports[0]], bench.groups[patchwise.judged], bench.seed)
    size = len(supports[0])
    answered = Answered(np.stack(found), normals, patchwise.judged, len(bench.good), size)
    return replace(answered, memory=patchwise.memory, megabytes=patchwise.megabytes)


def _table_of(features: Array, scores: Double) -> Array:
    """Patch scores (n,) before features (n, F): (n, 1 + F)."""
    return np.concatenate([scores[:, None], features], 1).astype(np.float32)


def _cross_fitted(good: Array, bad: Array, groups: Labels, seed: int) -> Double:
    """Of each good picture (n, 1 + F) its score (n,) by a regression on the others and all defects."""
    parts = max(2, min(FOLDS, len(np.unique(groups))))
    fold = folds(np.zeros(len(good), np.int64), groups, parts, seed)
    scores = np.zeros(len(good))
    for k in np.unique(fold):
        scores[fold == k] = _fitted(good[fold != k], bad)(good[fold == k])
    return scores


def _fitted(good: Array, bad: Array) -> Callable[[Array], Double]:
    """From rows (n, 1 + F) and (d, 1 + F) to what gives each row (m, 1 + F) its log-odds (m,) of being a defect. The
    components are those of these rows alone: a defect whose label is not used is not looked at either."""
    both = np.concatenate([good, bad])  # (n + d, 1 + F)
    centre = both[:, 1:].mean(0)
    _, _, directions = np.linalg.svd(both[:, 1:] - centre, full_matrices=False)
    axes = np.ascontiguousarray(directions[: min(COMPONENTS, len(both) - 1)].T, np.float32)  # (F, c)

    def columns(rows: Array) -> Array:
        return np.concatenate([rows[:, :1], product(rows[:, 1:] - centre, axes)], 1)  # (m, 1 + c)

    labels = np.repeat(np.arange(2), [len(good), len(bad)])
    head = logistic(standardise(columns(both)), labels, 2, STRENGTH)

    def odds(rows: Array) -> Double:
        logits = head.logits(columns(rows)).astype(np.float64)  # (m, 2)
        return np.asarray(logits[:, 1] - logits[:, 0])

    return odds


def worded(bench: Bench) -> Answered:
    """A0: words alone. The threshold still needs good pictures."""
    assert bench.sight.worded is not None
    said = bench.sight.worded
    return Answered(said[bench.test][None], said[bench.good], bench.good, 0)
