"""What the processes of ``test_isolation_crashes`` run (``Bounds.program``): fakes that do as a picture of one pixel
tells them. By itself, so that a process starts as fast as a real one."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from anmok.inputs import Item
from anmok.isolation.worker import main
from anmok.load import Model, load

# What the one pixel says, as its red value.
KILL, SEGFAULT, NO_MEMORY, HOARD, RAISE, SLEEP, KILL_ONCE, HANG = range(8)
HOARDED = 300 * 2**20  # bytes
MARK = "ANMOK_TEST_MARK"  # a file that is there after the first time
FATAL = "fake-grounded"  # ends the process that loads it


class Obedient(Model):
    """A fake that does what a picture of one pixel says, and answers all others."""

    def __init__(self, model: Model) -> None:
        super().__init__(model.card, model.kind, model._setup)

    def run(self, items: Sequence[Item], ask: Any) -> Any:
        for item in items:
            if isinstance(item, np.ndarray) and item.size == 3:
                obey(int(item.flat[0]))
        return super().run(items, ask)


def obey(what: int) -> None:
    mark = Path(os.environ[MARK])
    if what == KILL or (what == KILL_ONCE and not mark.exists()):
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if what == SEGFAULT:
        ctypes.string_at(0)
    if what == NO_MEMORY:
        raise MemoryError
    if what == HOARD:
        hoard = np.ones(HOARDED, np.uint8)
        time.sleep(20)
        del hoard
    if what == RAISE:
        raise ZeroDivisionError("of the model")
    if what in (SLEEP, HANG):
        time.sleep(0.3 if what == SLEEP else 60)


def obedient(name: str, **settings: Any) -> Model:
    if name == FATAL:
        os._exit(3)
    return Obedient(load(name, **settings))


if __name__ == "__main__":
    main(obedient)
