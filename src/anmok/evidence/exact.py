"""Exact bounds of a share, and how many images it takes before one can be claimed. Sizes may be effective ones."""

from __future__ import annotations

import math
from functools import cache

from scipy import special

from anmok.errors import BadRequest

_MOST_EVENTS = 20_000


def exact_upper(events: float, n: float, confidence: float = 0.95) -> float:
    """One-sided upper bound of a share after ``events`` of ``n``, Clopper & Pearson (1934).

    Too low in at most 1 - ``confidence`` of all repetitions. Raises `BadRequest` unless 0 <= events <= n, n > 0.
    """
    _check(events, n, confidence)
    return 1.0 if events >= n else float(special.betaincinv(events + 1, n - events, confidence))


def exact_lower(events: float, n: float, confidence: float = 0.95) -> float:
    """One-sided lower bound of a share after ``events`` of ``n``. Raises `BadRequest`."""
    _check(events, n, confidence)
    return 0.0 if events <= 0 else float(special.betaincinv(events, n - events + 1, 1 - confidence))


def rule_of_three(n: float, confidence: float = 0.95) -> float:
    """What no event among ``n`` images leaves possible: about 3 / n at 95 %. Hanley & Lippman-Hand (1983), "If
    nothing goes wrong, is everything all right?". Raises `BadRequest` unless n > 0.
    """
    return exact_upper(0, n, confidence)


@cache
def least_images(events: int, below: float, confidence: float = 0.95) -> int:
    """Fewest images that show a share below ``below`` when ``events`` of them are seen: 59 for 0 and 5 %.

    Raises `BadRequest` unless 0 < below < 1 and events >= 0.
    """
    if events < 0 or not (0 < below < 1 and 0 < confidence < 1):
        raise BadRequest(f"{events} events, a share below {below}: want events >= 0 and shares between 0 and 1")
    low, high = events, events + 1
    while special.betainc(events + 1, high - events, below) < confidence:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        is_shown = special.betainc(events + 1, middle - events, below) >= confidence
        low, high = (low, middle) if is_shown else (middle, high)
    return high


def images_to_claim(true_share: float, below: float, power: float = 0.8, confidence: float = 0.95) -> int | None:
    """Images that show a share below ``below`` with probability ``power``, were it ``true_share``.

    None where it is not below, or so near that more than 20,000 events would have to be seen. Raises `BadRequest`.
    """
    if not (0 <= true_share <= 1 and 0 < power < 1):
        raise BadRequest(f"a share of {true_share}, power {power}: both lie between 0 and 1")
    if true_share >= below:
        return None
    z = float(special.ndtri(power)) + float(special.ndtri(confidence))
    near = (z / (below - true_share)) ** 2 * below * (1 - below)  # as the normal distribution has it
    if near * true_share > _MOST_EVENTS:
        return None
    for events in range(_MOST_EVENTS):
        n = least_images(events, below, confidence)
        if special.bdtr(events, n, true_share) >= power:
            return n
    return None


def _check(events: float, n: float, confidence: float) -> None:
    if not (0 < n < math.inf and 0 <= events <= n and 0 < confidence < 1):
        raise BadRequest(
            f"{events} of {n} at confidence {confidence}: want 0 <= events <= n, n > 0, 0 < confidence < 1"
        )
