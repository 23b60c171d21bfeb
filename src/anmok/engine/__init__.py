"""What a server keeps: loaded models within a budget, a queue and micro-batches per model, and one door for all.

>>> from anmok.engine import Engine
>>> with Engine(budget_bytes=4 * 2**30) as engine:
...     [answer] = engine.run("mini", ["cat.jpg"], Classify(labels=("cat", "dog")))
"""

from __future__ import annotations

from anmok.engine.limits import Limits
from anmok.engine.lines import EngineStatus, ModelStatus, Named
from anmok.engine.serving import Engine
from anmok.engine.working import Batched
from anmok.errors import Busy, Closing, DoesNotFit, Expired, Loading, ModelFailed, Refused, TooMuch

__all__ = [
    "Batched",
    "Busy",
    "Closing",
    "DoesNotFit",
    "Engine",
    "EngineStatus",
    "Expired",
    "Limits",
    "Loading",
    "ModelFailed",
    "ModelStatus",
    "Named",
    "Refused",
    "TooMuch",
]
