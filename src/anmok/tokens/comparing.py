"""The comparison: what each tokenizer makes of each language, and what that costs beside English."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from anmok.errors import BadRequest
from anmok.evidence.intervals import Interval
from anmok.evidence.resampling import resampled_sums
from anmok.tokens.corpus import Corpus
from anmok.tokens.counting import Count, count
from anmok.tokens.cutting import Tokenizer

Progress = Callable[[int, int], None]

_RESAMPLES: Final = 2_000
_FEWEST: Final = 10  # sentences that an interval needs
_MILLION: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Premium:
    """How many tokens a language takes for what the reference says in one.

    Args:
        value: all tokens over all of the reference's: what a bill goes by. Petrov et al., NeurIPS 2023, call it
            parity or premium.
        interval: 95 % of a bootstrap of sentences; None for fewer than ten.
        median: of the sentences' own ratios.
        median_interval: likewise.
    """

    value: float
    interval: Interval | None
    median: float
    median_interval: Interval | None


@dataclass(frozen=True, slots=True)
class Context:
    """A model that takes ``size`` tokens, special ones included: how many of the sentences are longer, and what share
    of the context an average one takes."""

    size: int
    overflowing: int
    mean_share: float


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One tokenizer on one language. ``cost_of_thousand`` sentences is in the currency of the price. A premium is
    meaningless where the tokenizer cannot read all of this language or of the reference: what is lost costs nothing."""

    count: Count
    premium: Premium | None
    is_meaningful: bool
    contexts: tuple[Context, ...]
    cost_of_thousand: float | None


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """Rows by tokenizer, then by language; ``reference`` is the language that premiums are over, where there is one;
    ``morphemes`` says who has found those of Korean, empty where nobody has."""

    corpus: Corpus
    tokenizers: tuple[Tokenizer, ...]
    reference: str | None
    rows: tuple[Row, ...]
    morphemes: str = ""

    def of(self, tokenizer: str) -> tuple[Row, ...]:
        """The rows of one tokenizer."""
        return tuple(row for row in self.rows if row.count.tokenizer == tokenizer)


@dataclass(frozen=True, slots=True)
class Terms:
    """What beside the counts is asked: contexts, a price for a million tokens by tokenizer (``""`` for all), and the
    seed of the bootstrap.

    Raises:
        BadRequest: a context below one, a price below zero.
    """

    contexts: tuple[int, ...] = ()
    prices: Mapping[str, float] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if any(size < 1 for size in self.contexts):
            raise BadRequest(f"context {min(self.contexts)}: want one token or more")
        if any(not 0 <= price < float("inf") for price in (self.prices or {}).values()):
            raise BadRequest("price: want what a million tokens cost, 0 or more")

    def price(self, tokenizer: str) -> float | None:
        """Of a million tokens."""
        prices = self.prices or {}
        return prices.get(tokenizer, prices.get(""))


def compare(
    tokenizers: Sequence[Tokenizer],
    corpus: Corpus,
    reference: str = "en",
    terms: Terms | None = None,
    progress: Progress | None = None,
    morphemes: str = "",
) -> Comparison:
    """Every tokenizer on every language of a corpus.

    Args:
        tokenizers: each with a name of its own.
        corpus: the texts; premiums need parallel ones.
        reference: the language that counts as one; without it in the corpus there are no premiums.
        terms: see `Terms`.
        progress: called with rows done and rows in all.
        morphemes: who found those that the corpus has.

    Raises:
        BadRequest: no tokenizer, two of one name, or a price for one that is not there.
    """
    terms = terms or Terms()
    names = [one.name for one in tokenizers]
    if not names or len(set(names)) < len(names):
        raise BadRequest(f"want one or more tokenizers, each once: {', '.join(names) or 'none'}")
    unknown = [name for name in (terms.prices or {}) if name not in ("", *names)]
    if unknown:
        raise BadRequest(f"price of {unknown[0]!r}: no such tokenizer in {', '.join(names)}")
    base = corpus.code_of(reference) if corpus.is_parallel else None
    rows: list[Row] = []
    total = len(tokenizers) * len(corpus.languages)
    for tokenizer in tokenizers:
        counts = []
        for language in corpus.languages:
            counts.append(count(tokenizer, language))
            if progress is not None:
                progress(len(rows) + len(counts), total)
        over = next((one for one in counts if one.language == base), None)
        rows += [_row(one, over, tokenizer, terms) for one in counts]
    return Comparison(corpus, tuple(tokenizers), base, tuple(rows), morphemes)


def _row(one: Count, over: Count | None, tokenizer: Tokenizer, terms: Terms) -> Row:
    price = terms.price(tokenizer.name)
    long = one.per_sentence + tokenizer.specials  # (n,)
    contexts = tuple(Context(size, int((long > size).sum()), float(long.mean()) / size) for size in terms.contexts)
    cost = None if price is None else one.tokens / one.sentences * 1_000 * price / _MILLION
    above = None if over is None else premium(one.per_sentence, over.per_sentence, terms.seed)
    return Row(one, above, not one.lost and (over is None or not over.lost), contexts, cost)


def premium(tokens: NDArray[np.int64], over: NDArray[np.int64], seed: int = 0) -> Premium | None:
    """Of ``tokens`` (n,) per sentence over those of the reference (n,); None where that has none at all."""
    if not over.sum():
        return None
    has_any = over > 0
    ratios = tokens[has_any] / over[has_any]  # (m,)
    value = float(tokens.sum() / over.sum())
    if len(tokens) < _FEWEST:
        return Premium(value, None, float(np.median(ratios)), None)
    totals = np.stack([tokens, over], axis=1).astype(np.float32)  # (n, 2)
    drawn = resampled_sums(totals, _RESAMPLES, np.random.default_rng(seed))  # (B, 2)
    drawn = drawn[drawn[:, 1] > 0]
    low, high = np.quantile(drawn[:, 0] / drawn[:, 1], [0.025, 0.975])
    return Premium(value, Interval(float(low), float(high)), float(np.median(ratios)), median_interval(ratios))


def median_interval(values: NDArray[np.float64], level: float = 0.95) -> Interval:
    """Percentile interval of the bootstrapped median of ``values`` (n,), computed instead of drawn.

    The r-th smallest of n draws is at most the k-th smallest value where r or more of the draws are: a binomial
    probability. Source: Efron, "Bootstrap methods: another look at the jackknife", Annals of Statistics 7 (1979).
    An even n has two middle values: the lower one gives the low end, the upper one the high end.
    """
    ordered = np.sort(values)
    n = len(ordered)
    share = np.arange(1, n + 1) / n  # (n,)
    below_low = stats.binom.sf((n + 1) // 2 - 1, n, share)  # (n,) that the median is at most each value
    below_high = stats.binom.sf(n // 2, n, share)  # (n,)
    tail = (1 - level) / 2
    low = int(np.searchsorted(below_low, tail))
    high = int(np.searchsorted(below_high, 1 - tail))
    return Interval(float(ordered[min(low, n - 1)]), float(ordered[min(high, n - 1)]), level)
