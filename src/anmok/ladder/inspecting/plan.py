"""What is going to be measured on the anomaly ladder, fixed before the test set is opened."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

from anmok.errors import BadRequest
from anmok.ladder.plan import Plan

RUNGS = ("A0", "A1", "A2", "P", "A4")


@dataclass(frozen=True, slots=True)
class InspectPlan:
    """Equal plans on equal data and split are one opening of the test set; any change is another.

    ``thing`` is what the pictures show, for the text tower. ``size``: the canvas in pixels, 0 for the card's own.
    ``shots``: numbers of good references for A1 and of labelled defects for A4. ``overkill``: the share of good
    pictures that may be called strange. ``groups`` as in ``Plan``.
    """

    model: str
    thing: str = "object"
    size: int = 0
    shots: tuple[int, ...] = (1, 2, 4, 8, 16)
    draws: int = 5
    margin: float = 0.02
    overkill: float = 0.05
    test_share: float = 0.3
    seed: int = 0
    groups: str = "auto"
    rungs: tuple[str, ...] = RUNGS

    def __post_init__(self) -> None:
        unknown = sorted(set(self.rungs) - set(RUNGS))
        if unknown or not self.rungs:
            raise BadRequest(f"rungs {', '.join(unknown) or 'none'}: want some of {', '.join(RUNGS)}")
        if not 0 < self.overkill < 0.5:
            raise BadRequest(f"overkill {self.overkill}: want a share between 0 and 0.5, such as 0.05")
        if not self.thing.strip():
            raise BadRequest("thing: say what the pictures show, such as bottle; `object` where you have no word")
        self.split()  # checks what it shares with the other ladder

    def split(self) -> Plan:
        """How the test set is sealed: as on the ladder for classes."""
        return Plan(
            model=self.model,
            shots=self.shots,
            draws=self.draws,
            margin=self.margin,
            test_share=self.test_share,
            seed=self.seed,
            groups=self.groups,
        )

    def digest(self, data_hash: str, split_hash: str) -> str:
        """The key of an opening."""
        text = json.dumps(["inspect", asdict(self), data_hash, split_hash], sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]
