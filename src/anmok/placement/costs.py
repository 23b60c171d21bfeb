"""What a model was measured to cost, and the line through it: a batch of ``b`` items takes ``a + c * b`` seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anmok.engine import Limits
from anmok.errors import BadData

LOOSE = 0.2  # a line that misses a measured batch by more than this share is told of


@dataclass(frozen=True, slots=True)
class Timing:
    """Batches of one size. ``seconds`` is the median over ``runs``; ``spread`` is the robust standard deviation of
    the logarithm of the seconds, about the share by which one run differs from another; ``working_bytes`` is what
    the batch needed beside the weights, None where that could not be told."""

    items: int
    seconds: float
    spread: float = 0.0
    runs: int = 1
    working_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """One model at one task on one device. ``pixels`` is width and height of the pictures that it was asked about."""

    model: str
    task: str
    device: str  # in words: "cpu: 8 cores of ..."
    weights_bytes: int
    timings: tuple[Timing, ...]  # by items
    pixels: tuple[int, int] = (640, 480)
    load_seconds: float = 0.0

    def working_bytes(self, items: int) -> int:
        """The most that batches of up to so many items needed beside the weights; unknown counts as 0."""
        return max((one.working_bytes or 0 for one in self.timings if one.items <= items), default=0)


@dataclass(frozen=True, slots=True)
class Cost:
    """A batch takes ``fixed + each * items`` seconds, alone on its device. ``residual`` is the largest share by which
    that misses a measured median, ``spread`` as in ``Timing``, ``largest`` the most items that were measured."""

    fixed: float
    each: float
    spread: float = 0.0
    residual: float = 0.0
    largest: int = 32

    def seconds(self, items: int) -> float:
        return self.fixed + self.each * items

    def scaled(self, factor: float) -> Cost:
        """On a device where everything takes ``factor`` times as long."""
        return Cost(self.fixed * factor, self.each * factor, self.spread, self.residual, self.largest)

    def batch(self, limits: Limits) -> int:
        """Items in the largest batch that the engine takes: ``batch_items``, or what fits into ``batch_seconds``."""
        if self.seconds(limits.batch_items) <= limits.batch_seconds:
            return limits.batch_items
        # Here ``each`` is above 0, or one item alone takes longer than a batch may.
        fitting = int((limits.batch_seconds - self.fixed) / self.each) if self.each else 1
        return max(1, min(limits.batch_items, fitting))

    def capacity(self, limits: Limits) -> float:
        """Items per second, with full batches and nobody else on the device."""
        items = self.batch(limits)
        return items / self.seconds(items)


def fitted(one: Measured) -> Cost:
    """The line with the smallest squared relative errors, neither part of it below 0.

    Raises:
        BadData: there is nothing to draw it through.
    """
    from scipy.optimize import nnls

    if not one.timings:
        raise BadData(f"{one.model}, {one.task}: no batch was measured")
    items = np.array([timing.items for timing in one.timings], float)  # (T,)
    seconds = np.array([timing.seconds for timing in one.timings], float)  # (T,)
    spread = float(np.median([timing.spread for timing in one.timings]))
    largest = int(items.max())
    if len(items) == 1:  # a line through one point: every item costs the same
        return Cost(0.0, float(seconds[0] / items[0]), spread, 0.0, largest)
    design = np.stack([1 / seconds, items / seconds], 1)  # (T, 2)
    fixed, each = (float(value) for value in nnls(design, np.ones(len(items)))[0])
    residual = float(np.abs((fixed + each * items) / seconds - 1).max())
    return Cost(fixed, each, spread, residual, largest)


def spread_of(seconds: Sequence[float]) -> float:
    """1.4826 times the median distance of the logarithms from their median: one slow run in five changes nothing."""
    logs: NDArray[np.float64] = np.log(np.asarray(seconds, float))
    return float(1.4826 * np.median(np.abs(logs - np.median(logs))))


def check_reach(one: Measured, cost: Cost, limits: Limits) -> None:
    """Nothing is said of batches larger than those that were measured.

    Raises:
        BadData: the engine would take larger ones.
    """
    wanted = cost.batch(limits)
    if wanted > cost.largest:
        raise BadData(
            f"{one.model}, {one.task}: measured up to {cost.largest} items, and the engine would take {wanted} at a "
            "time; measure larger batches, or set [limits] batch_items"
        )
