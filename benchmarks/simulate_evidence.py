"""Do the statistics of `anmok.evidence` keep their promises? Simulated data, where the truth is known.

Run ``python benchmarks/simulate_evidence.py`` for the full sizes (half an hour on one core); the test suite
runs the same functions at a small size.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import special

from anmok.evidence.compare import paired
from anmok.evidence.draws import support_draws
from anmok.evidence.intervals import accuracy, balanced_accuracy, metric_interval, wilson
from anmok.evidence.power import images_to_settle
from anmok.evidence.splits import seal
from anmok.evidence.verdict import Candidate, Word, judge, recommend

Answers = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Images:
    """How the images hang together: ``groups`` of ``size``, answers correlated by ``icc`` within a group.

    is_uneven: sizes are geometric with mean ``size`` instead of equal.
    """

    groups: int
    size: int = 1
    icc: float = 0.0
    is_uneven: bool = False

    def group(self, rng: np.random.Generator) -> NDArray[np.intp]:
        """(n,) the group of each image."""
        sizes = np.full(self.groups, self.size)
        if self.is_uneven:
            sizes = rng.geometric(1 / self.size, self.groups)
        return np.repeat(np.arange(self.groups), sizes)

    def rates(self, rng: np.random.Generator, p: float) -> Answers:
        """(G,) accuracy of each group: beta-distributed around ``p`` with intra-group correlation ``icc``."""
        if self.icc == 0:
            return np.full(self.groups, p)
        weight = (1 - self.icc) / self.icc
        return rng.beta(p * weight, (1 - p) * weight, self.groups)


@dataclass(frozen=True, slots=True)
class Coverage:
    """Share of intervals that held the truth, their mean width, and that of the binomial Wilson interval."""

    share: float
    width: float
    binomial_width: float


def accuracy_coverage(images: Images, p: float, repeats: int, seed: int = 0, draws: int = 1) -> Coverage:
    """`accuracy` on beta-binomial groups.

    With ``draws`` > 1 every support draw moves the logit by sd 0.2, and half of the images answer alike in
    all.
    """
    rng = np.random.default_rng(seed)
    hits, widths, binomial = 0, 0.0, 0.0
    shift = 0.2 if draws > 1 else 0.0
    truth = _mean_shifted(images, p, shift) if draws > 1 else p
    for _ in range(repeats):
        group = images.group(rng)
        moved = shift * rng.standard_normal((draws, 1))
        rates = _shifted(images.rates(rng, p)[group], moved)  # (S, n)
        is_stable, stable = rng.random(group.size) < 0.5, rng.random(group.size)  # (n,), (n,)
        correct = np.where(is_stable, stable, rng.random(rates.shape)) < rates  # (S, n)
        interval = accuracy(correct, group).interval
        hits += interval.low <= truth <= interval.high
        widths += 2 * interval.half_width
        binomial += 2 * wilson(p * group.size, group.size).half_width
    return Coverage(hits / repeats, widths / repeats, binomial / repeats)


def wilson_coverage(n: int, p: float, repeats: int, seed: int = 0) -> tuple[float, float]:
    """Coverage of `wilson` and of the textbook p +- 1.96 s for ``n`` independent images."""
    right = np.random.default_rng(seed).binomial(n, p, repeats)  # (R,)
    table = [wilson(k, n) for k in range(n + 1)]
    held = np.array([interval.low <= p <= interval.high for interval in table])  # (n + 1,)
    share = np.arange(n + 1) / n
    textbook = np.abs(share - p) <= 1.96 * np.sqrt(share * (1 - share) / n)  # (n + 1,)
    return float(held[right].mean()), float(textbook[right].mean())


def metric_coverage(images: Images, p: float, repeats: int, seed: int = 0) -> float:
    """Coverage of `metric_interval` for the balanced accuracy of two classes, three to one."""
    rng, hits = np.random.default_rng(seed), 0
    for _ in range(repeats):
        group = images.group(rng)
        truth = (rng.random(group.size) < 0.25).astype(int)  # (n,)
        correct = rng.random(group.size) < images.rates(rng, p)[group]
        interval = metric_interval(balanced_accuracy, truth, np.where(correct, truth, 1 - truth), group, resamples=200)
        hits += interval.low <= p <= interval.high
    return hits / repeats


@dataclass(frozen=True, slots=True)
class Pair:
    """Two models: B gains ``gain`` over A and they differ on a share ``disagreement`` of the images.

    draw_sd: standard deviation of the gain over support draws. icc of ``images``: how often the images of a
    group differ in one and the same way.
    """

    gain: float
    disagreement: float
    images: Images
    draws: int = 1
    draw_sd: float = 0.0

    def answers(self, rng: np.random.Generator) -> tuple[Answers, Answers, NDArray[np.intp]]:
        """(S, n) correct of A, of B, and the groups (n,)."""
        group = self.images.group(rng)
        shape = (self.draws, group.size)
        own, common = rng.random(shape), rng.random((self.draws, self.images.groups))[:, group]  # (S, n) both
        u = np.where(rng.random(group.size) < np.sqrt(self.images.icc), common, own)  # (S, n)
        gain = self.gain + self.draw_sd * rng.standard_normal((self.draws, 1))  # (S, 1)
        gain = np.clip(gain, -self.disagreement, self.disagreement)
        only_b = u < (self.disagreement + gain) / 2  # (S, n)
        only_a = ~only_b & (u < self.disagreement)  # (S, n)
        both = ~only_a & ~only_b & (rng.random(shape) < 0.8)  # (S, n)
        return (only_a | both).astype(float), (only_b | both).astype(float), group


def words(pair: Pair, repeats: int, seed: int = 0, margin: float = 0.01, resamples: int = 1_000) -> dict[Word, float]:
    """How often each `Word` is said of a `Pair`."""
    rng, said = np.random.default_rng(seed), Counter[Word]()
    for i in range(repeats):
        a, b, group = pair.answers(rng)
        said[judge(paired(a, b, group, seed=i, resamples=1_000), margin).word] += 1
    return {word: said[word] / repeats for word in Word}


@dataclass(frozen=True, slots=True)
class Choice:
    """What `recommend` does.

    decided: how often. wrong: how often decided for a rung worse by more than the margin. regret: mean loss.
    better: share of ladders in which any rung was called BETTER than one that is truly as good.
    """

    decided: float
    wrong: float
    regret: float
    better: float


def choices(truths: Sequence[float], n: int, repeats: int, seed: int = 0, margin: float = 0.01) -> Choice:
    """`recommend` among rungs of accuracies ``truths``, the cheapest first, answers alike by 0.7 (latent)."""
    rng = np.random.default_rng(seed)
    accuracies = dict(enumerate(truths))
    decided, wrong, regret, better = 0, 0, 0.0, 0
    for i in range(repeats):
        table = _ladder(truths, n, rng)  # (K, n)
        found = recommend([Candidate(str(k), k, row) for k, row in enumerate(table)], None, margin, seed=i)
        loss = max(truths) - accuracies[int(found.name)]
        decided += found.is_decided
        wrong += found.is_decided and loss > margin + 1e-9
        regret += loss / repeats
        better += any(
            v.word is Word.BETTER and truths[int(v.contrast.name_b)] <= truths[int(v.contrast.name_a)]
            for v in found.verdicts
        )
    return Choice(decided / repeats, wrong / repeats, regret, better / repeats)


def noise_labels(n: int, repeats: int, seed: int = 0) -> tuple[float, float]:
    """Labels without meaning: how often a nearest-mean classifier beats guessing, and covers one half.

    The whole way: seal a test set, draw supports from the pool, fit, judge against a constant answer.
    """
    rng, better, covered = np.random.default_rng(seed), 0, 0
    for i in range(repeats):
        x, y = rng.standard_normal((n, 16)), rng.integers(0, 2, n)
        split = seal(y, seed=i)
        truth = y[split.test]
        rows = []
        for support in support_draws(y[split.pool], (8,), 5, seed=i)[8]:
            chosen = split.pool[support]
            means = np.stack([x[chosen[y[chosen] == c]].mean(axis=0) for c in (0, 1)])  # (2, 16)
            rows.append((x[split.test] @ (means[1] - means[0]) > np.diff((means**2).sum(1) / 2)) == truth)
        fitted = np.stack(rows)  # (S, m)
        better += judge(paired(truth == 0, fitted, None, seed=i, resamples=1_000)).word is Word.BETTER
        interval = accuracy(fitted).interval
        covered += interval.low <= 0.5 <= interval.high
    return better / repeats, covered / repeats


def _ladder(truths: Sequence[float], n: int, rng: np.random.Generator) -> Answers:
    """(K, n) answers of models that share the difficulty of the images; each keeps its accuracy."""
    own, shared = rng.standard_normal((len(truths), n)), rng.standard_normal(n)  # (K, n), (n,)
    cuts = special.ndtri(np.asarray(truths))[:, None]  # (K, 1)
    answers: Answers = (np.sqrt(0.7) * shared + np.sqrt(0.3) * own < cuts).astype(np.float64)
    return answers


def _shifted(rate: Answers, by: Answers) -> Answers:
    """Rates moved by ``by`` on the logit scale; certain ones stay."""
    odds = np.exp(by) * rate / np.maximum(1 - rate, 1e-12)
    moved: Answers = odds / (1 + odds)
    return moved


def _mean_shifted(images: Images, p: float, sd: float) -> float:
    rng = np.random.default_rng(12345)
    rate = replace(images, groups=20_000).rates(rng, p)
    return float(_shifted(rate, sd * rng.standard_normal((50, 1))).mean())


def _print_coverage(repeats: int) -> None:
    print("Coverage of accuracy() and mean width (binomial width)")
    shapes = [
        Images(40),
        Images(200),
        Images(1000),
        *(Images(g, 5, icc) for g in (8, 20, 44) for icc in (0, 0.2, 0.4)),
    ]
    shapes += [Images(g, 50, icc) for g in (8, 20, 44) for icc in (0, 0.05, 0.2, 0.4)]
    shapes += [Images(g, 15, icc, is_uneven=True) for g in (8, 20, 44) for icc in (0, 0.2, 0.4)]
    for images in shapes:
        cells = [accuracy_coverage(images, p, repeats) for p in (0.5, 0.8, 0.95, 0.99)]
        print(images, *(f"{c.share:.3f} {c.width:.3f} ({c.binomial_width:.3f})" for c in cells), sep=" | ")
    for draws in (3, 5, 10):
        cells = [accuracy_coverage(Images(300), p, repeats, draws=draws) for p in (0.5, 0.8, 0.95)]
        print(f"{draws} draws, 300 images", *(f"{c.share:.3f} {c.width:.3f}" for c in cells), sep=" | ")
    for n, p in ((50, 0.99), (20, 0.95), (200, 0.8)):
        print(f"n={n} p={p}: Wilson, textbook", wilson_coverage(n, p, 100 * repeats))
    for images in (Images(200), Images(44, 10, 0.2), Images(12, 20, 0.1)):
        print("balanced accuracy", images, [metric_coverage(images, p, repeats // 4) for p in (0.7, 0.95)])


def _print_words(repeats: int) -> None:
    print("A against an equal A: better, worse, same, cannot tell")
    shapes = (
        Images(50),
        Images(200),
        Images(1000),
        Images(10, 30, 0.2),
        Images(44, 50, 0.1),
        Images(44, 50, 0.4),
    )
    for images in shapes:
        for draws, sd in ((1, 0.0), (3, 0.02), (10, 0.02)):
            pair = Pair(0.0, 0.1, images, draws, sd)
            print(pair, *(f"{share:.3f}" for share in words(pair, repeats).values()), sep=" | ")
    print("Planted gains at the tabled number of images: power 0.8 wanted")
    for gain, q in ((0.05, 0.05), (0.05, 0.1), (0.05, 0.2), (0.03, 0.1), (0.02, 0.05)):
        n = images_to_settle(gain, q)
        print(gain, q, n, words(Pair(gain, q, Images(n)), repeats)[Word.BETTER])
    print("True gain = margin: SAME is an error")
    for n in (300, 3000):
        print("SAME at the margin", n, words(Pair(0.01, 0.02, Images(n)), repeats)[Word.SAME])


def _print_choices(repeats: int) -> None:
    print("Recommendations: decided, decided wrongly, mean regret, any false BETTER")
    ladders = {
        "flat": [0.8] * 6,
        "rising": [0.70, 0.74, 0.77, 0.79, 0.80, 0.805],
        "one jump": [0.6, 0.8, 0.8, 0.8, 0.8, 0.8],
        "last pays": [0.75] * 5 + [0.82],
        "harmful": [0.8, 0.8, 0.78, 0.76, 0.74, 0.70],
    }
    for n in (50, 200, 1000, 5000):
        for name, truths in ladders.items():
            print(n, name, choices(truths, n, max(repeats // 10, 20)))
    print("Noise labels: better than guessing, 1/2 covered", noise_labels(300, repeats))


def main() -> None:
    """Print every table; ``--repeats`` simulations per cell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=1_000)
    repeats = parser.parse_args().repeats
    _print_coverage(repeats)
    _print_words(repeats)
    _print_choices(repeats)


if __name__ == "__main__":
    main()
