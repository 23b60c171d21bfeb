"""How numbers are written: the same figure reads the same in the page, in a chart and in the terminal."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

from anmok.evidence.intervals import Estimate, Interval
from anmok.ladder.outcome import LISTED

Lang = Literal["en", "ko"]

ABSENT = "–"  # stands for a figure that does not exist, such as the precision of a class nobody predicted

_NO_BREAK = "\u00a0"
_UNIT = re.compile(r"(?<=\d) (?=(?:%|ms|s|min|h|MB|kB|points?)(?![\w]))")
_MINUS = re.compile(r"(?<![\w.)\]-])-(?=\d)")
_PARTICLE = re.compile("(?<=[%)’”])(?=[가-힣])")
_JOINER = "\u2060"


@dataclass(frozen=True, slots=True)
class Figures:
    """Numbers in one language. English sets a space before a unit, Korean does not."""

    lang: Lang

    def count(self, number: float) -> str:
        """``1,556``; shares of an image are rounded away."""
        return f"{round(number):,}" if math.isfinite(number) else ABSENT

    def found(self, number: int) -> str:
        """``91``; ``200+`` where the ladder lists no more than that."""
        return self.count(number) + "+" * (number >= LISTED)

    def percent(self, share: float, digits: int = 1) -> str:
        """``80.3 %`` of 0.803; never 100.0 where something is missing, never 0.0 where there is something."""
        if not math.isfinite(share):
            return ABSENT
        return self._with_unit(_share(share, digits), "%", "%")

    def confidence(self, share: float) -> str:
        """``93.0 %``; from 99 % up only ``> 99 %``: no model is as sure as its softmax says."""
        return f"> {self.percent(0.99, 0)}" if share > 0.99 else self.percent(share)

    def span(self, interval: Interval) -> str:
        """``74.1 to 85.4 %``."""
        low, high = _share(interval.low, 1), _share(interval.high, 1)
        return f"{low} to {high} %" if self.lang == "en" else f"{low}~{high}%"

    def estimate(self, estimate: Estimate) -> str:
        """``80.3 % (74.1 to 85.4 %)``."""
        gap = " " if self.lang == "en" else ""
        return f"{self.percent(estimate.value)}{gap}({self.span(estimate.interval)})"

    def points(self, gain: float) -> str:
        """``+3.2 points``: a difference of two shares, always signed."""
        if not math.isfinite(gain):
            return ABSENT
        return self._with_unit(_signed(gain), "points", "%p")

    def points_span(self, low: float, high: float, *, is_signed: bool = True) -> str:
        """``-1.0 to +7.4`` without the unit, in Korean ``-1.0 ~ +7.4%p``; signs may go where both are positive."""
        if not (math.isfinite(low) and math.isfinite(high)):
            return ABSENT
        first, last = _signed(low), _signed(high)
        if not is_signed:
            first, last = first.removeprefix("+"), last.removeprefix("+")
        return f"{first} to {last}" if self.lang == "en" else f"{first} ~ {last}%p"

    def width(self, gain: float) -> str:
        """``1 point``, ``2.5 points``: an unsigned difference, such as the margin."""
        text = f"{abs(gain) * 100:.1f}".removesuffix(".0")
        return self._with_unit(text, "point" if text == "1" else "points", "%p")

    def duration(self, seconds: float) -> str:
        """``0.04 s``, ``41 s``, ``3 min 20 s``, ``1 h 5 min``."""
        if not math.isfinite(seconds):
            return ABSENT
        if seconds < 99.5:
            digits = 0 if seconds == 0 else 2 if seconds < 0.095 else 1 if seconds < 9.95 else 0
            return self._with_unit(f"{seconds:.{digits}f}", "s", "초")
        if seconds < 3570:
            minutes, rest = divmod(round(seconds), 60)
            return self._pair(minutes, "min", "분", rest, "s", "초")
        hours, rest = divmod(round(seconds / 60), 60)
        return self._pair(hours, "h", "시간", rest, "min", "분")

    def milliseconds(self, milliseconds: float) -> str:
        """``8.4 ms``, ``96 ms``."""
        if not math.isfinite(milliseconds):
            return ABSENT
        digits = 2 if milliseconds < 0.995 else 1 if milliseconds < 9.95 else 0
        return self._with_unit(f"{milliseconds:,.{digits}f}", "ms", "ms")

    def megabytes(self, megabytes: float) -> str:
        """``123 MB``, ``45.2 MB``, ``12 kB``."""
        if not math.isfinite(megabytes):
            return ABSENT
        if megabytes >= 0.9995:
            return self._with_unit(f"{megabytes:,.{0 if megabytes >= 99.95 else 1}f}", "MB", "MB")
        return self._with_unit(f"{megabytes * 1000:.{1 if 0 < megabytes < 0.00995 else 0}f}", "kB", "kB")

    def ratio(self, number: float) -> str:
        """``0.831``: an F1 score, a cosine."""
        return f"{number:.3f}" if math.isfinite(number) else ABSENT

    def p_value(self, p: float) -> str:
        """``0.031`` or ``< 0.001``."""
        if not math.isfinite(p):
            return ABSENT
        return "< 0.001" if p < 0.001 else f"{p:.3f}"

    def _with_unit(self, number: str, english: str, korean: str) -> str:
        return f"{number} {english}" if self.lang == "en" else f"{number}{korean}"

    def _pair(self, large: int, en: str, ko: str, small: int, small_en: str, small_ko: str) -> str:
        first = self._with_unit(str(large), en, ko)
        return f"{first} {self._with_unit(str(small), small_en, small_ko)}" if small else first


def difference(share: float, other: float) -> float:
    """``share`` less ``other`` as they are printed: a reader who subtracts one figure from the other gets this."""
    if not (math.isfinite(share) and math.isfinite(other)):
        return float("nan")
    return round(float(_share(share, 1)) - float(_share(other, 1)), 1) / 100


def tied(text: str) -> str:
    """For the page: a number never parts from its unit or its particle at the end of a line, and a minus is a minus
    sign."""
    return _MINUS.sub("−", _PARTICLE.sub(_JOINER, _UNIT.sub(_NO_BREAK, text)))


def _share(share: float, digits: int) -> str:
    if not math.isfinite(share):
        return ABSENT
    text, step = f"{share * 100:.{digits}f}", 10.0**-digits
    if share < 1 and float(text) == 100:
        return f"{100 - step:.{digits}f}"
    return f"{step:.{digits}f}" if share > 0 and float(text) == 0 else text


def _signed(gain: float) -> str:
    text = f"{gain * 100:+.1f}"
    return "0.0" if float(text) == 0 else text
