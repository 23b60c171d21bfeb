"""Asks and results <-> what goes over a wire, one module per dialect. Pure functions: no socket, no model."""

from __future__ import annotations

from anmok.wire.answers import answers_from_json, answers_to_json, result_from_json, result_to_json
from anmok.wire.intake import Intake
from anmok.wire.own import (
    ASKS,
    Call,
    Part,
    ask_from_json,
    ask_to_json,
    call_from_json,
    call_from_parts,
    call_to_json,
    error_to_json,
    item_from_json,
    item_to_json,
    lines,
)
from anmok.wire.refusals import NotYet, WrongField

__all__ = [
    "ASKS",
    "Call",
    "Intake",
    "NotYet",
    "Part",
    "WrongField",
    "answers_from_json",
    "answers_to_json",
    "ask_from_json",
    "ask_to_json",
    "call_from_json",
    "call_from_parts",
    "call_to_json",
    "error_to_json",
    "item_from_json",
    "item_to_json",
    "lines",
    "result_from_json",
    "result_to_json",
]
