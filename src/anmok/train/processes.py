"""One process or several: each takes its share of a batch, and their gradients are added up.

Several are started by ``accelerate launch`` (or ``torchrun``), which sets ``WORLD_SIZE``; the accelerate library then
chooses device and backend. The sum over shares is that of the whole batch, whatever their number.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import distributed, nn

from anmok.errors import MissingDependency

_FAREWELL = timedelta(seconds=10)


class Processes:
    """This process among those that train together."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._accelerator: Any = None
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            try:
                from accelerate import Accelerator
            except ModuleNotFoundError:
                raise MissingDependency("several processes need accelerate: pip install 'anmok[tune]'") from None
            self._accelerator = Accelerator(cpu=device.type == "cpu")
            self.device = self._accelerator.device
            # A group that outlives its interpreter has threads at work, and the process is then aborted at its end.
            atexit.unregister(_part)
            atexit.register(_part)
        self.count: int = 1 if self._accelerator is None else self._accelerator.num_processes
        self.rank: int = 0 if self._accelerator is None else self._accelerator.process_index

    def share(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Of a batch, what this process looks at."""
        return rows[self.rank :: self.count]

    def add(self, parameters: Iterable[nn.Parameter]) -> None:
        """Every process gets the sum of all gradients; one that had no share has none."""
        if self._accelerator is None:
            return
        for parameter in parameters:
            gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            parameter.grad = self._accelerator.reduce(gradient, "sum")

    def total(self, value: float) -> float:
        """The sum of a number over all processes."""
        if self._accelerator is None:
            return value
        added = self._accelerator.reduce(torch.tensor(value, dtype=torch.float64, device=self.device), "sum")
        return float(added)


def _part() -> None:
    """Waits for the others, since one that leaves first breaks the threads of those still at it; not for long, since
    one that broke down does not come."""
    if not distributed.is_initialized():
        return
    if distributed.get_backend() == "gloo":
        with contextlib.suppress(RuntimeError):
            distributed.monitored_barrier(timeout=_FAREWELL)
    distributed.destroy_process_group()
    gc.collect()
