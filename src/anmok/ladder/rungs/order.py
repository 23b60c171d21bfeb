"""Every rung that there is: its key, its name, and its place on the way up."""

from __future__ import annotations

from typing import Final, NamedTuple


class Rung(NamedTuple):
    """``fewest``: labelled images that the rarest class needs before the rung is worth its time."""

    name: str
    fewest: int = 1


FIXED: Final = ("0a", "0b", "0c", "0d", "0e")  # learn nothing
LEARNED: Final = ("1", "2", "3", "3a", "3b", "3c", "3d")  # from features that are kept
MADE: Final = ("R",)  # from features that are kept, of made pictures too
CLOSER: Final = ("T",)  # from features of tiles, which take several looks at a photo
TUNED: Final = ("5", "3e", "3f", "4", "6", "4a", "4b", "7", "S")  # change a tower; the cheapest first
ASKED: Final = ("V0", "V")  # of a model that talks; only where one is named
RUNGS: Final = {
    "V0": Rung("VLM, zero-shot"),
    "1": Rung("training-free"),
    "2": Rung("linear head"),
    "3": Rung("tuned projection"),
    "3a": Rung("CLIP-Adapter"),
    "3b": Rung("Tip-Adapter"),
    "3c": Rung("Tip-Adapter-F"),
    "3d": Rung("CLAP"),
    "3e": Rung("prompt tuning (CoOp)"),
    "3f": Rung("prompt tuning (KgCoOp)"),
    "R": Rung("real + synthetic"),
    "4": Rung("LoRA", 4),
    "4a": Rung("DoRA", 4),
    "4b": Rung("bottleneck adapters", 4),
    "5": Rung("last blocks", 8),
    "6": Rung("full fine-tuning", 50),
    "T": Rung("tiles"),
    "7": Rung("eye adapted first, then last blocks", 8),
    "S": Rung("distilled student"),
    "V": Rung("VLM, examples shown"),
}
_PLACES: Final = (*FIXED, *RUNGS)


def place(key: str) -> int:
    """Where a rung stands from below: among rungs on the same labels, the lower is the cheaper."""
    return _PLACES.index(key)
