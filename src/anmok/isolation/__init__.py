"""Models in processes of their own, behind the same face: one that crashes or runs out of memory takes nobody along.

>>> from anmok.engine import Engine
>>> from anmok.isolation import Apart
>>> with Apart(groups={"mini": "small", "fake": "small"}) as apart, Engine(4 * 2**30, loader=apart) as engine:
...     [answer] = engine.run("mini", ["cat.jpg"], Classify(labels=("cat", "dog")))

Each process has a Unix socket for words and anonymous shared memory for arrays and files. Nothing is pickled, no
segment has a name, and whatever way a process ends, the kernel takes its memory back.
"""

from __future__ import annotations

from anmok.isolation.apart import Apart
from anmok.isolation.bounds import Bounds
from anmok.isolation.supervising import ProcessStatus

__all__ = ["Apart", "Bounds", "ProcessStatus"]
