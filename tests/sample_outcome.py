"""Outcomes as climbs on the solar cells would give them, and small pictures made of numbers."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
from PIL import Image

from anmok.catalogue import card
from anmok.evidence.intervals import Estimate, wilson
from anmok.ladder.outcome import (
    ClassRow,
    Comparison,
    Confusion,
    Control,
    Data,
    DuplicatePair,
    Honesty,
    Leak,
    NotTried,
    Outcome,
    Recommendation,
    Step,
    Suspect,
)

NOTE = card("mini").summary
REASON = "2 is the cheapest shown to lack at most 1 points (here 0.9 at most)"
TESTED, WORTH = 667, 212.4
CLASSES = ("functional", "defective")


def estimate(value: float, n: int = TESTED, effective_n: float = WORTH) -> Estimate:
    """``value`` with Wilson's interval at the effective size."""
    return Estimate(value, wilson(value * effective_n, effective_n), n, effective_n)


def step(key: str, rung: str, accuracy: float, labels: int, shots: int | None, variant: str = "") -> Step:
    """A rung; its cost follows from its key and labels."""
    seconds = 0.0 if labels == 0 else {"1": 0.02, "2": 2.6, "3": 14.8}[key] * (0.1 + labels / 1556)
    head = {"0": 0.01, "1": 4.2, "2": 0.012, "3": 0.59}[key[0]]
    return Step(
        key=key,
        rung=rung,
        variant=variant,
        shots=shots,
        labels=labels,
        draws=10 if shots else 1,
        accuracy=estimate(accuracy),
        balanced_accuracy=accuracy - 0.031,
        macro_f1=accuracy - 0.024,
        seconds=seconds,
        cold_seconds=seconds + labels * 0.0964,
        ms_per_image=96.4,
        megabytes=111.3 + head,
        head_megabytes=head,
    )


def steps() -> tuple[Step, ...]:
    """The ladder with all labels of the pool."""
    return (
        step("0a", "zero-shot, name", 0.412, 0, 0),
        step("0b", "zero-shot, templates", 0.447, 0, 0),
        step("0d", "word vectors (ConSE)", 0.386, 0, 0),
        step("1", "training-free", 0.724, 1556, None, "Gaussian discriminant"),
        step("2", "linear head", 0.803, 1556, None, "logistic regression, C = 0.01"),
        step("3", "tuned projection", 0.805, 1556, None, "lambda = 1 / shots"),
    )


def curve() -> tuple[Step, ...]:
    """The learned rungs at 1 to 16 labels a class."""
    found = {
        "1": ("training-free", (0.531, 0.552, 0.601, 0.634, 0.671)),
        "2": ("linear head", (0.526, 0.561, 0.617, 0.668, 0.722)),
        "3": ("tuned projection", (0.487, 0.538, 0.611, 0.677, 0.731)),
    }
    return tuple(
        step(key, rung, value, shots * len(CLASSES), shots)
        for key, (rung, values) in found.items()
        for shots, value in zip((1, 2, 4, 8, 16), values, strict=True)
    )


def leak() -> Leak:
    """What the row number gives away."""
    return Leak(
        control="number",
        control_random=estimate(0.831, 1556, 1556),
        control_grouped=estimate(0.583, 1556, 240),
        majority=0.678,
        scheme="runs of 64 consecutive files",
        groups=35,
        rung="training-free",
        random_split=estimate(0.803, 1556, 1556),
        group_split=estimate(0.729, 1556, 240),
    )


def data() -> Data:
    """2,223 cells."""
    return Data(
        title="solar cells (electroluminescence photos)",
        names=tuple(f"cell{number:04d}.png" for number in range(2223)),
        classes=CLASSES,
        counts=(1508, 715),
        pool=1556,
        test=TESTED,
        groups=35,
        grouping="runs of 64, and near-duplicates",
        licence="CC BY-NC-SA 4.0 (ELPV solar cells)",
        data_hash="9f2c61d0a3b87e15",
        warnings=(),
    )


def honesty() -> Honesty:
    """One opening, with a development figure beside it."""
    return Honesty(
        openings=1,
        is_replay=False,
        labels_to_choose=1556,
        development=estimate(0.788, 1556, 240),
        not_tried=(
            NotTried("rung 0c, own descriptions", "none were given: --descriptions FILE"),
            NotTried("rung 5 (last blocks)", "it would take about 4 minutes: --budget 6m"),
        ),
        assumptions=(
            "the images to come are like these: same camera, same things, same shares of the classes",
            "the labels are right",
            "images stand alone but for these groups: runs of 64, and near-duplicates",
        ),
        licences=(
            ("mini", "Apache License 2.0"),
            ("solar cells (electroluminescence photos)", "CC BY-NC-SA 4.0 (ELPV solar cells)"),
        ),
    )


def _comparisons() -> tuple[Comparison, ...]:
    return (
        Comparison("0b", "0a", "CANNOT TELL", 0.035, -0.011, 0.081, 0.131, 0.171, 1093),
        Comparison("0d", "0a", "WORSE", -0.026, -0.047, -0.005, 0.018, 0.088, None),
        Comparison("1", "0a", "BETTER", 0.312, 0.243, 0.379, 0.0004, 0.452, None),
        Comparison("2", "1", "BETTER", 0.079, 0.034, 0.124, 0.0008, 0.166, None),
        Comparison("3", "2", "SAME", 0.002, -0.006, 0.009, 0.571, 0.008, None),
    )


def sample() -> Outcome:
    """A decided outcome with a leak, suspects and duplicates."""
    return Outcome(
        model="mini",
        model_note=NOTE,
        data=data(),
        recommendation=Recommendation(
            "2",
            "3",
            True,
            True,
            None,
            0.014,
            "2 is the cheapest shown to lack at most 1 points (here 0.9 at most)",
        ),
        steps=steps(),
        curve=curve(),
        comparisons=_comparisons(),
        controls=(
            Control("majority", estimate(0.678), 0.678, False),
            Control("shuffled labels", estimate(0.644), 0.678, False),
            Control("random words", estimate(0.521), 0.5, False),
            Control("grey image", estimate(0.678), 0.678, False),
            Control("metadata: number", estimate(0.831, 1556, 1556), 0.678, True),
            Control("metadata: bytes", estimate(0.681, 1556, 240), 0.678, False),
        ),
        leak=leak(),
        per_class=(
            ClassRow("functional", 1508, 452, estimate(0.883, 452, 151), 0.834),
            ClassRow("defective", 715, 215, estimate(0.637, 215, 74.5), 0.722),
        ),
        confusions=(
            Confusion("defective", "functional", 78, (3, 17, 41, 60)),
            Confusion("functional", "defective", 53, (5, 99, 120)),
        ),
        suspects=tuple(
            Suspect(index, *(CLASSES if index % 3 else CLASSES[::-1]), 0.98 - index / 4000) for index in range(200, 212)
        ),
        duplicates=(
            DuplicatePair(300, 301, 0.9991, False),
            DuplicatePair(310, 388, 0.9934, True),
            DuplicatePair(402, 403, 0.9871, False),
        ),
        honesty=honesty(),
        margin=0.01,
        seed=0,
        plan_hash="41d7be90c2f35a68",
        reproduce="anmok ladder --demo solar --accept-licence elpv --seed 0",
        follow_up="anmok classify new.jpg --head report/best",
        seconds=243.7,
        is_development=False,
        version="0.1.0",
    )


def undecided() -> Outcome:
    """The same, but nobody can say whether rung 3 is ahead."""
    made = sample()
    unclear = Comparison("3", "2", "CANNOT TELL", 0.012, -0.008, 0.031, 0.171, 0.062, 3364)
    return replace(
        made,
        comparisons=(*made.comparisons[:-1], unclear),
        recommendation=replace(made.recommendation, is_decided=False),
    )


def useless() -> Outcome:
    """The recommended rung is not shown to beat the majority class."""
    made = sample()
    weak = tuple(replace(one, accuracy=estimate(0.691)) if one.key == "2" else one for one in made.steps)
    return replace(made, steps=weak, recommendation=replace(made.recommendation, is_useful=False, is_decided=False))


def development() -> Outcome:
    """88 labels: no sealed test; as the ladder has it, all of them are the pool and the test."""
    made = sample()
    return replace(
        made,
        data=replace(made.data, pool=88, test=88, counts=(50, 38), names=made.data.names[:500]),
        steps=tuple(
            replace(
                one,
                labels=min(one.labels, 88),
                accuracy=estimate(one.accuracy.value, 88, 80.0),
            )
            for one in made.steps
        ),
        curve=made.curve[:3],
        leak=None,
        controls=made.controls[:4],
        honesty=replace(made.honesty, openings=0, labels_to_choose=88),
        is_development=True,
    )


def clean() -> Outcome:
    """Zero-shot is enough, and nothing is wrong with the data."""
    made = sample()
    found = (
        replace(step("0b", "zero-shot, templates", 0.962, 0, 0), accuracy=estimate(0.962, 4000, 4000)),
        replace(step("2", "linear head", 0.964, 1556, None), accuracy=estimate(0.964, 4000, 4000)),
    )
    return replace(
        made,
        data=replace(made.data, classes=("고양이", "개"), licence=""),
        steps=found,
        curve=(),
        comparisons=(Comparison("2", "0b", "SAME", 0.002, -0.004, 0.008, 0.41, 0.012, None),),
        recommendation=Recommendation("0b", "2", True, True, None, None, "not worse than the best"),
        controls=made.controls[:4],
        leak=None,
        per_class=(
            ClassRow("고양이", 1508, 2000, estimate(0.97, 2000, 2000), 0.955),
            ClassRow("개", 715, 2000, estimate(0.954, 2000, 2000), None),
        ),
        confusions=(),
        suspects=(),
        duplicates=(),
        honesty=replace(made.honesty, development=None, not_tried=(), labels_to_choose=0),
    )


def thumbnail(number: int, size: int = 128) -> bytes:
    """A JPEG that looks like a cell: bus bars, fingers, and now and then a crack."""
    rng = np.random.default_rng(number)
    rows, columns = np.mgrid[:size, :size]
    cell = 150 + 14 * np.sin(columns / 2) + rng.normal(0, 7, (size, size))
    cell -= 50 * (np.abs(rows % (size // 3) - size // 6) < 3)
    cell -= 70 * (np.hypot(rows - size / 2, columns - size / 2) > size * 0.66)
    if number % 2:
        slope, start = rng.uniform(-1.2, 1.2), rng.uniform(0.2, 0.8) * size
        cell -= 85 * (np.abs(rows - start - slope * (columns - size / 2)) < 1.6)
    stream = io.BytesIO()
    Image.fromarray(np.clip(cell, 0, 255).astype(np.uint8)).save(stream, "JPEG", quality=80)
    return stream.getvalue()


def thumbnails(outcome: Outcome) -> dict[int, bytes]:
    """Of every image that the report may show."""
    wanted = {index for confusion in outcome.confusions for index in confusion.examples}
    wanted |= {suspect.index for suspect in outcome.suspects}
    wanted |= {index for pair in outcome.duplicates for index in (pair.first, pair.second)}
    return {index: thumbnail(index) for index in sorted(wanted)}
