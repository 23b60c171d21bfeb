"""What errors cost, as it is typed: ``--costs``, ``--prevalence``, ``--max-overkill`` and ``--good``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anmok.ladder.stakes import Stakes

GOOD = "good"  # what the class of good ones is called unless it is told


@dataclass(frozen=True, slots=True)
class Typed:
    """The flags, empty where they were not given; ``good`` is `GOOD` then."""

    costs: Path | None
    prevalence: str
    max_overkill: str
    good: str

    def stakes(self, classes: Sequence[str]) -> Stakes | None:
        """None where nothing was said of costs.

        Raises:
            BadRequest: the flags contradict each other, or cannot be read.
            BadData: the table of costs cannot be read.
        """
        from anmok.ladder.stakes import Stakes, read_costs, read_prevalence, read_share

        if self.costs is None and not self.prevalence and not self.max_overkill:
            return None
        return Stakes(
            costs=() if self.costs is None else read_costs(self.costs),
            prevalence=read_prevalence(self.prevalence) if self.prevalence else (),
            max_overkill=read_share(self.max_overkill, "--max-overkill") if self.max_overkill else None,
            good=self.good if self.max_overkill or self.good != GOOD or GOOD in classes else "",
        )
