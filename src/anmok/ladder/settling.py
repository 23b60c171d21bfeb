"""How many images would settle an open question, as far as a number is worth telling.

Two rungs that lie very near each other, or one that lacks almost the whole margin, want millions by the formula. Nobody
labels so many, and a number that hangs on so small a difference is not known to its first digit.
"""

from __future__ import annotations

from typing import Final, NamedTuple

MOST: Final = 100_000  # images beyond which labelling more is no answer


class Settling(NamedTuple):
    """``images``: None where no number can be named. ``is_out_of_reach``: it would be more than ``MOST``."""

    images: int | None
    is_out_of_reach: bool


def settling(images: int | None) -> Settling:
    """What may be told of a number by the formula."""
    is_beyond = images is not None and images > MOST
    return Settling(None if is_beyond else images, is_beyond)
