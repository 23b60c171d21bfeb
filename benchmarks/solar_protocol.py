"""The solar cells as their paper splits and weighs them: all 2,624, three quarters to learn from.

``python -m benchmarks.solar_protocol --accept-licence elpv [--draws 5] [--tune]``

Every cell counts: the doubtful thirds are called defective and weigh as much as their chance of being so, both in
learning and in the answer; the split is random within kind of module and label. Source: Deitsch et al., "Automatic
classification of defective photovoltaic module cells in electroluminescence images", Solar Energy 185 (2019), which
reports 82.4 % for an SVM and 88.4 % for a fine-tuned VGG19 on one such split. A random split flatters: the cells come
from 44 modules, and near cells are near neighbours. ``anmok ladder --demo solar`` shows by how much.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from threadpoolctl import threadpool_limits

import anmok
from anmok.catalogue.sources import LICENCES
from anmok.evidence.intervals import wilson
from anmok.ladder.demos import SOLAR
from anmok.ladder.features import look
from anmok.load import Model
from anmok.weights import fetch

STRENGTH = 1e-2
PUBLISHED = {"SVM on features (Deitsch et al.)": 0.824, "VGG19, fine-tuned (Deitsch et al.)": 0.884}


@dataclass(frozen=True, eq=False)
class Cells:
    """``labels`` (n,) 1: defective; ``weights`` (n,); ``strata`` (n,): kind of module and chance together."""

    paths: list[Path]
    labels: NDArray[np.int64]
    weights: NDArray[np.float32]
    strata: list[str]


def cells(accept: tuple[str, ...]) -> Cells:
    files = fetch(SOLAR, licence=LICENCES["elpv"], accept=accept)
    rows = [line.split() for line in files["labels.csv"].read_text(encoding="utf-8").splitlines()]
    chances = np.asarray([float(chance) for _, chance, _ in rows])
    root = files["images"].parent
    weights = np.where(chances == 0, 1.0, chances).astype(np.float32)
    strata = [f"{kind} {chance}" for _, chance, kind in rows]
    return Cells([root / name for name, _, _ in rows], (chances > 0).astype(np.int64), weights, strata)


def compare(found: Cells, model: Model, draws: int, is_tuned: bool) -> None:
    features = look(found.paths, model).features  # (n, F)
    scores: dict[str, list[float]] = {}
    for seed in range(draws):
        train, test = train_test_split(
            np.arange(len(found.labels)), test_size=0.25, stratify=found.strata, random_state=seed
        )
        mean, scale = features[train].mean(0), features[train].std(0) + 1e-6
        rows = (features - mean) / scale  # (n, F)
        fit = LogisticRegression(C=STRENGTH, max_iter=1000)
        fit.fit(rows[train], found.labels[train], sample_weight=found.weights[train])
        _add(scores, "linear head", fit.predict(rows[test]), found, test)
        if is_tuned:
            start = time.perf_counter()
            said = tuned(found, model, features, (train, test), seed)
            _add(scores, "last blocks", said, found, test)
            print(f"draw {seed}: last blocks in {time.perf_counter() - start:.0f} s", flush=True)
    for name, values in scores.items():
        middle, half = np.mean(values), wilson(round(np.mean(values) * 656), 656)
        low, high, least, most = (100 * one for one in (min(values), max(values), half.low, half.high))
        told = f"draws {low:.1f} to {high:.1f} %; 95 % of 656 cells: {least:.1f} to {most:.1f} %"
        print(f"{name:40} {100 * middle:5.1f} %  ({told})")
    for name, value in PUBLISHED.items():
        print(f"{name:40} {100 * value:5.1f} %  (their split, as printed)")


def _add(scores: dict[str, list[float]], name: str, said: NDArray[np.int64], found: Cells, test: Any) -> None:
    right = said == found.labels[test]
    scores.setdefault(name, []).append(float(right.mean()))
    scores.setdefault(f"{name}, cells weighed", []).append(float(np.average(right, weights=found.weights[test])))


def tuned(found: Cells, model: Model, features: NDArray[np.float32], split: Any, seed: int) -> NDArray[np.int64]:
    """The ladder's rung 5 on this split, a fifth of the training cells kept from all learning, the head's too, to end
    the run."""
    import torch

    from anmok.ladder.tuning.recipes import how_of, recipe_of
    from anmok.train.tuning import Lesson, tune

    train, test = split
    order = np.random.default_rng(seed).permutation(train)
    judging, teaching = order[: len(order) // 5], order[len(order) // 5 :]
    start = _start(found, features, teaching)
    how, trunk = how_of("5"), model.kind.trunk()
    boundary = trunk.boundary(how.last)
    inputs = activations(found, model, trunk, boundary)
    lesson = Lesson(inputs, found.labels, teaching, judging, boundary, weights=found.weights)
    one = tune(trunk, start, lesson, how, recipe_of("5", len(teaching), seed))
    fresh = model.kind.trunk()
    one.change.apply(fresh)
    logits = []
    with torch.inference_mode():
        for rows in np.array_split(test, len(test) // 32):
            seen = fresh.after(inputs.at(rows, None), boundary).numpy()  # (b, F)
            logits.append(((seen - start.mean) / start.scale) @ one.weight.T + one.bias)
    return np.concatenate(logits).argmax(1)


def _start(found: Cells, features: NDArray[np.float32], teaching: NDArray[np.int64]) -> Any:
    """The linear head of those that teach, as two rows of weights."""
    from anmok.train.tuning import Start

    mean, scale = features[teaching].mean(0), features[teaching].std(0) + 1e-6
    fit = LogisticRegression(C=STRENGTH, max_iter=1000)
    fit.fit((features[teaching] - mean) / scale, found.labels[teaching], sample_weight=found.weights[teaching])
    weight, bias = fit.coef_.astype(np.float32) / 2, fit.intercept_.astype(np.float32) / 2  # (1, F) and (1,)
    return Start(
        np.concatenate([-weight, weight]), np.concatenate([-bias, bias]), mean.astype(np.float32), scale.astype("f4")
    )


_KEPT: dict[str, Any] = {}


def activations(found: Cells, model: Model, trunk: Any, boundary: int) -> Any:
    """The same for every draw."""
    from anmok.train.examples import Activations

    if "views" not in _KEPT:
        _KEPT["views"] = Activations(trunk, boundary, found.paths, model.kind.prepare)
    return _KEPT["views"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--accept-licence", action="append", default=[])
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--tune", action="store_true", help="also rung 5, the last blocks: minutes a draw")
    given = parser.parse_args()
    with threadpool_limits(1, user_api="blas"):
        compare(cells(tuple(given.accept_licence)), anmok.load("mini"), given.draws, given.tune)


if __name__ == "__main__":
    main()
