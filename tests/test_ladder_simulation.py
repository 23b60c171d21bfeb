"""What the ladder promises of its verdicts, on many small data sets drawn from a large made-up one.

``benchmarks/simulate_ladder.py`` does the same with real pictures.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anmok.evidence.groups import DuplicateGroups
from anmok.evidence.leaks import LeakReport
from anmok.ladder.dataset import Dataset
from anmok.ladder.features import Looked
from anmok.ladder.grouping import Grouping
from anmok.ladder.plan import Plan
from anmok.ladder.zero_shot import TextSide, ZeroShot
from anmok.load import Head
from anmok.tasks import Classify
from benchmark_code import benchmark

simulate = benchmark("simulate_ladder")
CLASSES = ("a", "b", "c", "d")
WIDTH, IMAGES = 16, 6000


def made(noise_of_names: float) -> Any:
    """6,000 images: four overlapping blobs; the zero-shot head knows their middles, blurred by ``noise_of_names``."""
    rng = np.random.default_rng(0)
    middles = rng.normal(0, 0.55, (len(CLASSES), WIDTH))
    labels = rng.integers(0, len(CLASSES), IMAGES)
    features = (middles[labels] + rng.normal(0, 1, (IMAGES, WIDTH))).astype(np.float32)
    names = (middles + rng.normal(0, noise_of_names, middles.shape)).astype(np.float32)
    head = Head(names, np.zeros(len(CLASSES), np.float32))
    alone = np.arange(IMAGES)
    dataset = Dataset("blobs", Path(), tuple(Path(f"{i}.png") for i in alone), CLASSES, labels)
    copies = DuplicateGroups(alone, (), 0)
    leaks = LeakReport((), (), (), (), (), (), (), (), None)
    return simulate.Source(
        dataset,
        labels,
        Looked(alone, features, (), np.zeros(IMAGES, np.uint64), (), 0),
        Grouping(alone, alone, copies, leaks, "none"),
        TextSide((ZeroShot("0a", "name", head, Classify(CLASSES)),), None, ""),
        Plan("fake", groups="none"),
    )


@pytest.fixture(scope="module")
def found() -> list[Any]:
    return list(simulate.cases(made(0.4), (160, 800), 80))


def test_the_recommended_rung_lacks_little_to_the_best(found: list[Any]) -> None:
    assert np.mean([one.regret for one in found]) <= 0.015


def test_intervals_hold_the_truth_and_are_not_wider_than_they_must_be(found: list[Any]) -> None:
    # 80 cases at a true 95 %: fewer than 70 hits has a chance below 1 in 200
    assert sum(one.is_covered for one in found) >= 70
    assert max(one.width for one in found) <= 1.3


def test_at_800_images_a_three_point_difference_is_mostly_told(found: list[Any]) -> None:
    real = [word for one in found for word, true in one.contrasts if abs(true) >= 0.03]
    assert len(real) >= 80
    assert real.count("CANNOT TELL") <= 0.3 * len(real)


def test_words_never_point_the_wrong_way(found: list[Any]) -> None:
    pairs = [pair for one in found for pair in one.contrasts]
    assert not [true for word, true in pairs if word == "BETTER" and true < 0]
    assert not [true for word, true in pairs if word == "WORSE" and true > 0]


def test_where_names_say_it_all_zero_shot_is_recommended() -> None:
    cases = list(simulate.cases(made(0.0), (40, 800), 10))
    assert np.mean([one.regret for one in cases]) <= 0.01
    assert all(word != "BETTER" for one in cases for word, _ in one.contrasts)
