"""Which models go on which devices, at which rates, and what p99 to expect of that.

>>> from anmok.placement import Offer, Settings, devices, plan, read_measured, read_rates
>>> found = plan(offers, read_rates(Path("rates.csv"), names), read_measured(Path("measured.json")),
...              devices("3x24GB"), Settings())
>>> found.planned[0].expected[0].p99
"""

from __future__ import annotations

from anmok.placement.advice import Unplaced
from anmok.placement.costs import Cost, Measured, Timing, fitted
from anmok.placement.devices import Device, devices, nbytes, scales
from anmok.placement.measuring import measure
from anmok.placement.memory import resolved
from anmok.placement.planning import Expected, Offer, Plan, Planned, Settings, known, plan, wishes
from anmok.placement.reading import Rate, read_measured, read_rates, write_measured
from anmok.placement.simulating import Simulated, Stream, Waits, simulate
from anmok.placement.writing import router, to_dict, write_plan

__all__ = [
    "Cost",
    "Device",
    "Expected",
    "Measured",
    "Offer",
    "Plan",
    "Planned",
    "Rate",
    "Settings",
    "Simulated",
    "Stream",
    "Timing",
    "Unplaced",
    "Waits",
    "devices",
    "fitted",
    "known",
    "measure",
    "nbytes",
    "plan",
    "read_measured",
    "read_rates",
    "resolved",
    "router",
    "scales",
    "simulate",
    "to_dict",
    "wishes",
    "write_measured",
    "write_plan",
]
