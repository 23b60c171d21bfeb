"""Do costs, thresholds, calibration, sets and abstention keep what they promise? Simulated, so that the truth is known.

Run ``python benchmarks/simulate_trust.py`` for the full sizes (some minutes on one core); the test suite runs the same
functions at a small size.
"""

from __future__ import annotations

import argparse
from collections import Counter

import numpy as np
from numpy.typing import NDArray
from scipy import special

from anmok.evidence import abstain, calibration, choosing, conformal, overkill
from anmok.evidence.costs import Costs
from anmok.evidence.ranking import auroc
from anmok.evidence.verdict import Word

Array = NDArray[np.float64]
Labels = NDArray[np.intp]

MATRIX, PREVALENCE = np.array([[0.0, 1.0], [50.0, 0.0]]), np.array([0.98, 0.02])


def _inspected(
    rng: np.random.Generator, defects: int, good: int, missed: float, alarmed: float
) -> tuple[Labels, Labels]:
    """(n,) truth (1 = defect) and answers of a detector with these error rates."""
    truth = np.repeat([1, 0], [defects, good])
    is_wrong = rng.random(truth.size) < np.where(truth == 1, missed, alarmed)
    return truth, np.where(is_wrong, 1 - truth, truth)


def cost_coverage(defects: int, good: int, missed: float, alarmed: float, repeats: int) -> float:
    """Share of intervals that hold the true cost, defects 2 % of what comes, a miss 50 times a false alarm."""
    costs, held = Costs(MATRIX, PREVALENCE), 0
    true = PREVALENCE[0] * alarmed + PREVALENCE[1] * missed * 50
    for seed in range(repeats):
        truth, answer = _inspected(np.random.default_rng(seed), defects, good, missed, alarmed)
        found = costs.expected(truth, answer, seed=seed, resamples=1_000).cost.interval
        held += found.low <= true <= found.high
    return held / repeats


def cost_words(defects: int, good: int, missed: float, alarmed: float, repeats: int) -> dict[Word, float]:
    """How often each word is said of two equally good detectors, at a margin of 0.05 per image."""
    costs, said = Costs(MATRIX, PREVALENCE), Counter[Word]()
    for seed in range(repeats):
        truth, first = _inspected(np.random.default_rng(seed), defects, good, missed, alarmed)
        _, second = _inspected(np.random.default_rng(1_000_000 + seed), defects, good, missed, alarmed)
        saving = costs.compare(truth, (first, second), margin=0.05, seed=seed, resamples=1_000)
        said[saving.verdict.word] += 1
    return {word: said[word] / repeats for word in Word}


def overkill_kept(groups: int, size: int, icc: float, confidence: float | None, repeats: int) -> tuple[float, float]:
    """Where 5 % overkill was promised: how often it is kept, and the mean overkill. Scores are normal."""
    real, ids = [], np.repeat(np.arange(groups), size)
    for seed in range(repeats):
        rng = np.random.default_rng(seed)
        scores = icc**0.5 * rng.standard_normal(groups)[ids] + (1 - icc) ** 0.5 * rng.standard_normal(ids.size)
        found = overkill.threshold(scores, np.zeros(ids.size, dtype=bool), 0.05, confidence, ids)
        if found.promise != "none":
            real.append(float(special.ndtr(-found.value)))
    return float(np.mean(np.array(real) <= 0.05)), float(np.mean(real))


def classified(rng: np.random.Generator, n: int, heat: float, sharpness: float = 2.0) -> tuple[Array, Labels]:
    """(n, 5) logits that are right at temperature ``heat``, and (n,) labels."""
    logits = sharpness * rng.standard_normal((n, 5))
    below = special.softmax(logits, axis=1).cumsum(axis=1)
    return heat * logits, np.minimum((rng.random((n, 1)) > below).sum(axis=1), 4)


def ece_coverage(n: int, heat: float, repeats: int) -> tuple[float, float]:
    """Share of intervals that hold the true ECE, and how often "wrong" is shown."""
    logits, _ = classified(np.random.default_rng(10_000_000), 150_000, heat)
    claimed, real = special.softmax(logits, axis=1).max(axis=1), special.softmax(logits / heat, axis=1).max(axis=1)
    gap = (claimed - real)[np.argsort(claimed)].reshape(calibration.BINS, -1)  # (15, n / 15)
    true, held, shown = float(np.abs(gap.mean(axis=1)).mean()), 0, 0
    for seed in range(repeats):
        logits, labels = classified(np.random.default_rng(seed), n, heat)
        found = calibration.reliability(special.softmax(logits, axis=1), labels, seed=seed)
        held += found.ece_interval.low <= true <= found.ece_interval.high
        shown += found.is_shown_wrong
    return held / repeats, shown / repeats


def set_coverage(kind: conformal.Kind, n: int, miss: float, repeats: int) -> tuple[float, float, float]:
    """Mean share covered, how often it lies in the 90 % range that was printed, mean size of the sets."""
    logits, labels = classified(np.random.default_rng(10_000_000), 20_000, 1.5)
    chance, covered, inside, size = special.softmax(logits, axis=1), [], 0, []
    for seed in range(repeats):
        few, known = classified(np.random.default_rng(seed), n, 1.5)
        found = conformal.calibrate(special.softmax(few, axis=1), known, miss, kind, seed=seed)
        sets = found.sets(chance)
        covered.append(float(sets[np.arange(labels.size), labels].mean()))
        inside += found.coverage.low <= covered[-1] <= found.coverage.high
        size.append(float(sets.sum(axis=1).mean()))
    return float(np.mean(covered)), inside / repeats, float(np.mean(size))


def abstention_kept(n: int, at_most: float, repeats: int) -> tuple[float, float, float]:
    """How often the errors promised are kept, how often something is promised, mean share then answered."""
    logits, labels = classified(np.random.default_rng(10_000_000), 50_000, 1.0, 6.0)
    chance = special.softmax(logits, axis=1)
    sure, right = chance.max(axis=1), chance.argmax(axis=1) == labels
    kept, promised, answered = 0, 0, []
    for seed in range(repeats):
        few, known = classified(np.random.default_rng(seed), n, 1.0, 6.0)
        own = special.softmax(few, axis=1)
        found = abstain.threshold(own.max(axis=1), own.argmax(axis=1) == known, at_most)
        is_answered = sure >= found.threshold
        kept += not is_answered.any() or float((~right[is_answered]).mean()) <= at_most
        promised += found.is_promised
        answered.append(float(is_answered.mean()))
    return kept / repeats, promised / repeats, float(np.mean(answered))


def auroc_coverage(sizes: tuple[int, int], shift: float, repeats: int, per_group: int = 1, icc: float = 0.0) -> float:
    """Share of intervals that hold the true area between two normal distributions ``shift`` apart."""
    true, held = float(special.ndtr(shift / 2**0.5)), 0
    ids = [np.arange(n) // per_group for n in sizes]
    for seed in range(repeats):
        rng = np.random.default_rng(seed)
        known, strange = (
            icc**0.5 * rng.standard_normal(n)[own] + (1 - icc) ** 0.5 * rng.standard_normal(n)
            for n, own in zip(sizes, ids, strict=True)
        )
        groups = (None, None) if per_group == 1 else (ids[0], ids[1] + sizes[0])
        found = auroc(known, strange + shift, groups).interval
        held += found.low <= true <= found.high
    return held / repeats


def chosen_accuracy(seed: int, is_random: bool, rounds: int = 2) -> float:
    """Balanced accuracy of nearest means on 1,500 fresh images after ``rounds`` of 20 labels; four of eight classes
    have 1 to 5 % of the images.
    """
    rng = np.random.default_rng(seed)
    share = np.array([0.4, 0.25, 0.15, 0.1, 0.05, 0.02, 0.02, 0.01])
    labels = rng.choice(8, 2_100, p=share)
    labels[-8:] = np.arange(8)
    features = (0.9 * rng.standard_normal((8, 32))[labels] + rng.standard_normal((2_100, 32))).astype(np.float32)
    pool, fresh, done, chance = features[:600], features[600:], np.zeros(600, dtype=bool), None
    for _ in range(rounds):
        if is_random:
            new = rng.permutation(np.flatnonzero(~done))[:20]
        else:
            new = choosing.next_to_label(pool, chance, done, 20, seed=seed)
        done[new] = True
        met = np.unique(labels[:600][done])
        means = np.stack([pool[done & (labels[:600] == k)].mean(axis=0) for k in met])  # (k, F)
        chance = special.softmax(pool @ means.T - (means**2).sum(axis=1) / 2, axis=1)
    guess = met[(fresh @ means.T - (means**2).sum(axis=1) / 2).argmax(axis=1)]
    return float(np.mean([(guess == k)[labels[600:] == k].mean() for k in range(8)]))


def main() -> None:
    """Print every table; ``--repeats`` simulations per cell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=400)
    repeats = parser.parse_args().repeats
    print("Cost per image: defects, good, missed, alarmed | coverage | better, worse, same, cannot tell of equals")
    for shape in ((16, 784, 0.1, 0.02), (16, 784, 0.02, 0.01), (50, 500, 0.1, 0.05), (200, 200, 0.2, 0.2)):
        words = cost_words(*shape, repeats // 2)
        print(shape, f"{cost_coverage(*shape, repeats):.3f}", *(f"{x:.3f}" for x in words.values()), sep=" | ")
    print("5 % overkill: groups, size, icc, confidence | kept, mean overkill")
    for groups, size, icc in ((150, 1, 0.0), (1000, 1, 0.0), (60, 10, 0.4), (100, 50, 0.2)):
        for confidence in (None, 0.95):
            print((groups, size, icc), confidence, overkill_kept(groups, size, icc, confidence, repeats), sep=" | ")
    print("ECE: images, heat | coverage, shown wrong")
    for n in (100, 400, 2000):
        print(n, *(ece_coverage(n, heat, repeats // 4) for heat in (1.0, 1.3, 2.0)), sep=" | ")
    print("Sets: score, images | mean covered, within the printed range (0.9), mean size")
    kinds: tuple[conformal.Kind, ...] = ("lac", "aps", "raps")
    for kind in kinds:
        for n in (20, 100, 500):
            print(kind, n, set_coverage(kind, n, 0.1, repeats), sep=" | ")
    print("Abstention: images, at most | kept, promised, answered")
    for n in (100, 400, 1000):
        print(n, *(abstention_kept(n, share, repeats) for share in (0.02, 0.05, 0.1)), sep=" | ")
    print("AUROC: sizes, shift | coverage")
    for sizes, shift in (((10, 10), 1.0), ((200, 16), 2.0), ((20, 200), 4.0), ((500, 500), 1.0)):
        print(sizes, shift, auroc_coverage(sizes, shift, repeats), sep=" | ")
    print("grouped", auroc_coverage((200, 200), 1.0, repeats, 10, 0.4), sep=" | ")
    for rounds in (1, 2, 3):
        both = [[chosen_accuracy(seed, is_random, rounds) for seed in range(20)] for is_random in (True, False)]
        print(f"{20 * rounds} labels at random, chosen: balanced accuracy", *np.mean(both, axis=1).round(3))


if __name__ == "__main__":
    main()
