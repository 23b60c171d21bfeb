"""What is going to be measured, fixed before the test set is opened."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

from anmok.errors import BadRequest
from anmok.ladder.rungs.order import ASKED, FIXED, RUNGS
from anmok.ladder.stakes import Stakes
from anmok.ladder.wishes import MadeWish, Writing

BRIEF = (*FIXED, "1", "2", "3", "R", "T", "5")  # a minute or two beyond looking at the pictures
EVERY = (*FIXED, *(key for key in RUNGS if key not in ASKED))
DEFAULT_BUDGET = 120.0  # seconds


def rungs_for(*, has_budget: bool, has_student: bool, has_vlm: bool) -> tuple[str, ...]:
    """What may be climbed: all of it where there is a budget; what needs a model by name where it is named."""
    rungs = EVERY if has_budget else (*BRIEF, *(("S",) if has_student else ()))
    return (*rungs, *(ASKED if has_vlm else ()))


@dataclass(frozen=True, slots=True)
class Plan:
    """Equal plans on equal data and split are one opening of the test set; any change is another.

    ``groups``: ``auto`` finds near-duplicates and, where the file order or the metadata give the label away, proposes
    groups; ``duplicates`` leaves the proposals out; ``none`` trusts every image to stand alone. ``budget``: seconds
    for the rungs that tune the tower; one that would take longer is left out, or cut short by no more than to two
    passes over the pictures. ``written``: what a language model wrote on the classes. ``synthetic``: made pictures to
    learn from. ``stakes``: what errors cost. ``student``: the card that is distilled into; empty: the usual
    one, where its weights are here. ``vlm``: the card of the vision-language model that rungs V0 and V ask.
    ``is_fresh``: tuned rungs are learned anew, also where an earlier run kept what it learned.
    """

    model: str
    shots: tuple[int, ...] = (1, 2, 4, 8, 16)
    draws: int = 10
    margin: float = 0.01
    test_share: float = 0.3
    seed: int = 0
    groups: str = "auto"
    descriptions: tuple[tuple[str, tuple[str, ...]], ...] = ()
    rungs: tuple[str, ...] = BRIEF
    budget: float = DEFAULT_BUDGET
    written: Writing | None = None
    synthetic: MadeWish | None = None
    stakes: Stakes | None = None
    student: str = ""
    vlm: str = ""
    is_fresh: bool = False

    def __post_init__(self) -> None:
        if not self.shots or min(self.shots) < 1 or list(self.shots) != sorted(set(self.shots)):
            raise BadRequest(f"shots {self.shots}: want increasing whole numbers from 1")
        if not 0 < self.margin < 0.5:
            raise BadRequest(f"margin {self.margin}: want a share between 0 and 0.5, such as 0.01")
        if self.draws < 1 or not 0 < self.test_share <= 0.5:
            raise BadRequest(f"draws {self.draws}, test share {self.test_share}: want 1 or more, and 0 to 0.5")
        unknown = set(self.rungs) - {*FIXED, *RUNGS}
        if unknown or self.budget < 0:
            raise BadRequest(f"rungs {sorted(unknown)}, budget {self.budget}: there are {', '.join((*FIXED, *RUNGS))}")
        if not self.vlm and set(self.rungs) & set(ASKED):
            raise BadRequest(f"rungs {', '.join(ASKED)}: name a vision-language model, --vlm")
        if self.groups not in ("auto", "duplicates", "none"):
            raise BadRequest(f"groups {self.groups!r}: want auto, duplicates or none")

    def described(self, classes: tuple[str, ...]) -> tuple[tuple[str, ...], ...] | None:
        """The user's own sentences for each class, its name where it has none; nothing where no class has any."""
        own = dict(self.descriptions)
        return tuple(own.get(name, (name,)) for name in classes) if own else None

    def digest(self, data_hash: str, split_hash: str) -> str:
        """The key of an opening. Where a folder of made pictures lies is no part of it."""
        content = asdict(self)
        del content["is_fresh"]  # what is measured is the same
        if self.synthetic is not None:
            del content["synthetic"]["folder"]
        if self.stakes is None:
            del content["stakes"]  # the books of earlier versions know plans without
        if not self.vlm:
            del content["vlm"]
        text = json.dumps([content, data_hash, split_hash], sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]
