"""Jobs, costs and devices that a placement is asked about."""

from __future__ import annotations

from anmok.engine import Limits
from anmok.placement import Cost, Device
from anmok.placement.jobs import Job, Load

LIMITS = Limits()
GIGA = 10**9


def job(name: str, rate: float, cost: Cost, *, wanted: float = 1.0, gigabytes: float = 1.0) -> Job:
    return Job(name, int(gigabytes * GIGA), 0, (Load("embed", rate, wanted, cost),))


def gpus(*gigabytes: float, slowness: float = 1.0) -> list[Device]:
    return [Device(f"gpu{n}", f"cuda:{n}", f"{g}GB", int(g * GIGA), slowness) for n, g in enumerate(gigabytes)]
