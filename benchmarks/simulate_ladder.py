"""Does the ladder keep its promises on real pictures? Many small data sets drawn from a large labelled one.

``python benchmarks/simulate_ladder.py SOURCE... --resamples 500``: each SOURCE is a folder of classes or the name of
a demo (licences accepted through ANMOK_ACCEPT_LICENCES). Each time a pool to learn from and a test set are drawn at
random; every rung is fitted on the pool and judged on the test set just as ``anmok ladder`` does, images standing
alone. The truth of a rung is its accuracy on all the images outside the pool. Printed for each size:

- regret: what the recommended rung truly lacks to the truly best one;
- cover: how often the 95 % interval of the recommended rung holds its truth, and its width over a Wilson interval's;
- told: of the planned comparisons whose rungs truly differ by 3 points or more, how many are CANNOT TELL, and how
  many name the wrong one; of those that truly differ by less than 1 point, how many are called BETTER or WORSE.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

import anmok
from anmok.evidence.intervals import wilson
from anmok.ladder import demos, verdicts
from anmok.ladder.dataset import Dataset, read
from anmok.ladder.evaluate import Evaluated, Price, fixed, learned
from anmok.ladder.features import Looked, look
from anmok.ladder.grouping import Grouping, grouping
from anmok.ladder.measure import Measured
from anmok.ladder.outcome import Comparison
from anmok.ladder.plan import Plan
from anmok.ladder.prepare import Scene
from anmok.ladder.rungs.fitting import Material, available, predict
from anmok.ladder.zero_shot import TextSide, text_side

Rows = NDArray[np.int64]
SIZES = ((210, 90), (560, 240), (400, 800))  # pool, test
REAL, NONE = 0.03, 0.01  # differences that exist, differences that hardly do


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """Every picture of a large labelled set, looked at once."""

    dataset: Dataset
    labels: Rows
    looked: Looked
    whole: Grouping
    text: TextSide
    plan: Plan


@dataclass(frozen=True, slots=True)
class Case:
    """One drawn data set: what the ladder said, and what was true."""

    regret: float
    is_covered: bool
    width: float  # of the interval, over Wilson's
    contrasts: tuple[tuple[str, float], ...]  # word, true gain


def source(name: str, model: anmok.Model) -> Source:
    folder = Path(name)
    dataset = read(folder) if folder.is_dir() else demos.demo(name)
    plan = Plan(model.card.name, groups="none")
    looked = look(dataset.paths, model)
    assert dataset.labels is not None
    assert len(looked.indices) == len(dataset.paths), "a picture cannot be read"
    whole = grouping(dataset, looked, "none", 0)
    return Source(dataset, dataset.labels, looked, whole, text_side(model, dataset.classes, plan), plan)


def drawn(source: Source, pool: Rows, test: Rows) -> Scene:
    """A data set of these images, as ``prepare`` would hand it to the rungs."""
    return Scene(source.dataset, source.looked, source.whole, source.labels, pool, test, False, "", "", ())


def case(source: Source, pool: Rows, test: Rows, seed: int) -> Case:
    scene, free = drawn(source, pool, test), Price(0.0, 0.0)
    held, plan = scene.held(), replace(source.plan, seed=seed)
    features = source.looked.features
    classes = len(source.dataset.classes)
    material = Material(
        features[pool], source.labels[pool], np.arange(len(pool)), classes, source.text.towers, None, seed
    )
    final = {
        one.key: fixed(one.key, one.rung, one.logits(held.features), one.head, held, free) for one in source.text.rungs
    }
    everything = [np.arange(len(pool))]
    for key in available(source.text.towers):
        final[key] = learned(key, None, material, everything, held, free)
    judged = verdicts.recommendation(Measured(material, final, ()), scene, plan)
    outside = np.setdiff1d(np.arange(len(source.labels)), pool)
    truth = {key: true_accuracy(source, key, one, outside) for key, one in final.items()}
    chosen = final[judged.recommendation.key].step.accuracy
    usual = wilson(chosen.value * len(test), len(test))
    return Case(
        regret=max(truth.values()) - truth[judged.recommendation.key],
        is_covered=chosen.interval.low <= truth[judged.recommendation.key] <= chosen.interval.high,
        width=chosen.interval.half_width / usual.half_width,
        contrasts=tuple((one.word, gain(one, truth)) for one in judged.comparisons),
    )


def true_accuracy(source: Source, key: str, one: Evaluated, rows: Rows) -> float:
    features = source.looked.features[rows]
    asked = next((rung for rung in source.text.rungs if rung.key == key), None)
    if asked is not None:
        answers = asked.logits(features).argmax(1)
    else:
        assert one.head is not None
        answers = predict(one.head, features)
    return float((answers == source.labels[rows]).mean())


def gain(one: Comparison, truth: dict[str, float]) -> float:
    return truth[one.key] - truth[one.against]


def cases(source: Source, size: tuple[int, int], resamples: int) -> Iterator[Case]:
    with threadpool_limits(1, user_api="blas"):
        for seed in range(resamples):
            order = np.random.default_rng(seed).permutation(len(source.labels))
            yield case(source, order[: size[0]], order[size[0] : sum(size)], seed)


def summary(found: Sequence[Case]) -> str:
    regret = np.array([one.regret for one in found])
    contrasts = [pair for one in found for pair in one.contrasts]
    real = [(word, true) for word, true in contrasts if abs(true) >= REAL]
    same = [word for word, true in contrasts if abs(true) < NONE]
    mute = sum(word == "CANNOT TELL" for word, _ in real)
    wrong = sum(word == ("WORSE" if true > 0 else "BETTER") for word, true in real)
    false = sum(word in ("BETTER", "WORSE") for word in same)
    cover, width = 100 * np.mean([one.is_covered for one in found]), np.mean([one.width for one in found])
    parts = [
        f"regret mean {100 * regret.mean():.2f}, 95 % under {100 * np.quantile(regret, 0.95):.1f} points",
        f"cover {cover:.1f} %, width x{width:.2f}",
        f"of {len(real)} real differences CANNOT TELL {share(mute, real)}, wrong way {share(wrong, real)}",
        f"of {len(same)} without, told {share(false, same)}",
    ]
    return "; ".join(parts)


def share(part: int, whole: Sequence[object]) -> str:
    return f"{100 * part / len(whole):.1f} %" if whole else "-"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+")
    parser.add_argument("--model", default="mini")
    parser.add_argument("--resamples", type=int, default=500)
    asked = parser.parse_args()
    model = anmok.load(asked.model)
    for name in asked.sources:
        large = source(name, model)
        for size in SIZES:
            if sum(size) > 0.75 * len(large.labels):
                print(f"{name}: {sum(size)} images of {len(large.labels)} leave too few for the truth")
                continue
            found = list(cases(large, size, asked.resamples))
            print(f"{name}, pool {size[0]}, test {size[1]}, {len(found)} times: {summary(found)}", flush=True)


if __name__ == "__main__":
    main()
