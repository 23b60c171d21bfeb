"""How far a climb is: which rung is being worked on, and how many pieces of the work are done before it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from anmok.ladder.plan import DEFAULT_BUDGET, Plan
from anmok.ladder.rungs.order import ASKED, CLOSER, MADE, TUNED

Progress = Callable[[str, int, int], None]

RUNG = "rung "  # before a key: the stage in which that rung is worked on
FEW = "few labels"  # what few labels do to the tuned rungs
VERDICT = "verdict"  # all rungs have answered; they are compared


@dataclass(slots=True)
class Tally:
    """``done`` never reaches ``total`` while something is still worked on."""

    progress: Progress | None
    total: int
    done: int = 0

    @classmethod
    def of(cls, progress: Progress | None, plan: Plan, learned: int, supports: int) -> Tally:
        """``learned``: rungs on kept features, each once for every number of labels and once with all; the others are a
        piece each, and so is what few labels do to tuned ones."""
        others = sum(key in plan.rungs for key in (*CLOSER, *ASKED, *TUNED))
        others += plan.synthetic is not None and any(key in plan.rungs for key in MADE)
        others += plan.budget > DEFAULT_BUDGET and supports > 0
        return cls(progress, learned * (supports + 1) + others)

    def begins(self, key: str) -> None:
        """A piece of the rung's work."""
        self._tells(f"{RUNG}{key}")

    def begins_few(self) -> None:
        """The tuned rungs at few labels, all of them one piece."""
        self._tells(FEW)

    def ends(self) -> None:
        """It is done, or was left out."""
        self.done += 1

    def _tells(self, stage: str) -> None:
        if self.progress is not None:
            self.progress(stage, self.done, max(self.total, self.done + 1))

    def compares(self) -> None:
        """Every rung has answered."""
        if self.progress is not None:
            self.progress(VERDICT, 0, 1)
