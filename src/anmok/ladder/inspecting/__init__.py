"""The anomaly ladder: good pictures are known, and strange ones are to be found. The same sealed test set, ledger and
verdicts as of the ladder for classes; AUROC stands where accuracy stands there."""

from __future__ import annotations

from anmok.ladder.inspecting.climb import Inspected, climb_parts
from anmok.ladder.inspecting.outcome import InspectOutcome
from anmok.ladder.inspecting.parts import Parts, read_parts
from anmok.ladder.inspecting.plan import InspectPlan

__all__ = ["InspectOutcome", "InspectPlan", "Inspected", "Parts", "climb_parts", "read_parts"]
