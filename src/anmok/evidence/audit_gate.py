"""``--require "accuracy>=0.90"``: a condition on what survives, turned into an exit code."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from anmok.errors import BadRequest, GateFailed
from anmok.evidence.audit_surviving import METRICS
from anmok.evidence.intervals import Estimate

_FORM = re.compile(
    r"(?:(?P<bound>lower)\((?P<inner>\w+)\)|(?P<plain>\w+))(?P<sign>>=|>)(?P<number>[0-9.]+)(?P<percent>%?)"
)


@dataclass(frozen=True, slots=True)
class Gate:
    """``metric`` of the surviving answers, or the lower end of its 95 % interval, against ``threshold``."""

    text: str
    metric: str
    is_lower: bool
    is_strict: bool
    threshold: float

    def value(self, surviving: Mapping[str, Estimate]) -> float | None:
        """What is compared; None where nothing survives to be measured."""
        estimate = surviving.get(self.metric)
        if estimate is None:
            return None
        return estimate.interval.low if self.is_lower else estimate.value

    def is_met(self, surviving: Mapping[str, Estimate]) -> bool:
        """An accuracy that cannot be told meets nothing."""
        value = self.value(surviving)
        if value is None:
            return False
        return value > self.threshold if self.is_strict else value >= self.threshold


def parse_gate(text: str) -> Gate:
    """``accuracy>=0.90``, ``lower(balanced_accuracy) > 85%``. Raises `BadRequest` for anything else."""
    match = _FORM.fullmatch(re.sub(r"\s+", "", text))
    if match is None:
        raise BadRequest(f"--require {text!r}: want `accuracy>=0.90` or `lower(accuracy)>=0.85`")
    metric = match["inner"] or match["plain"]
    if metric not in METRICS:
        raise BadRequest(f"--require {text!r}: unknown metric {metric}; there are {', '.join(METRICS)}")
    try:
        threshold = float(match["number"]) / (100 if match["percent"] else 1)
    except ValueError:
        raise BadRequest(f"--require {text!r}: {match['number']} is no number") from None
    if not 0 <= threshold <= 1:
        raise BadRequest(f"--require {text!r}: give the threshold as a share, 0.90, or in percent, 90%")
    return Gate(text.strip(), metric, match["bound"] is not None, match["sign"] == ">", threshold)


def check(gates: Sequence[Gate], surviving: Mapping[str, Estimate]) -> None:
    """Raises `GateFailed` that says what was found, for the gates that are not met."""
    failed = [gate for gate in gates if not gate.is_met(surviving)]
    if failed:
        raise GateFailed("; ".join(_said(gate, surviving) for gate in failed))


def _said(gate: Gate, surviving: Mapping[str, Estimate]) -> str:
    value = gate.value(surviving)
    found = (
        "nothing survives to be measured, split by groups and predict again"
        if value is None
        else f"{value:.3f} survives"
    )
    return f"required {gate.text}: {found}"
