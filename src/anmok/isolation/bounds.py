"""The numbers that processes are kept to. Seconds and bytes throughout."""

from __future__ import annotations

import os
from dataclasses import dataclass

from anmok.errors import BadRequest

WORKER = "anmok.isolation.worker"
OUT_OF_MEMORY = 112  # the exit code of a process that could not have the memory it asked for


@dataclass(frozen=True, slots=True)
class Bounds:
    """Bounds of every process.

    ``threads`` of each one's nets; None shares the cores among ``processes``, which is how many there will be.
    ``memory_bytes`` is the most that one process may hold (resident, all its models together): one that holds more is
    killed and started again; 0 sets no bound. After a death the next process waits for ``first_pause``, doubled with
    each further death up to ``longest_pause``; one that lived for ``healthy_seconds`` starts the row anew. A caller
    waits for a pause of up to ``patience_seconds`` and is refused where it is longer. ``program`` is the module that
    a process runs: one that calls ``anmok.isolation.worker.main``.
    """

    threads: int | None = None
    processes: int = 1
    memory_bytes: int = 0
    first_pause: float = 0.1
    longest_pause: float = 30.0
    healthy_seconds: float = 60.0
    patience_seconds: float = 5.0
    program: str = WORKER

    def __post_init__(self) -> None:
        if self.processes < 1 or (self.threads is not None and self.threads < 1):
            raise BadRequest(f"threads {self.threads} and processes {self.processes}: must be at least 1")
        if self.memory_bytes < 0 or min(self.healthy_seconds, self.patience_seconds) < 0:
            raise BadRequest("memory_bytes, healthy_seconds and patience_seconds must not be negative")
        if not 0 < self.first_pause <= self.longest_pause:
            raise BadRequest(f"pauses of {self.first_pause} to {self.longest_pause} s: want above 0, and in order")

    def pause(self, deaths: int) -> float:
        """Seconds before the next process, after so many deaths in a row."""
        return float(min(self.longest_pause, self.first_pause * 2.0 ** min(deaths - 1, 60)))

    def environment(self) -> dict[str, str]:
        """What the libraries of a process read their number of threads from; the user's own word stands."""
        if self.threads is None and "OMP_NUM_THREADS" in os.environ:
            return dict(os.environ)
        count = self.threads or max(1, _cores() // self.processes)
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        return dict(os.environ) | dict.fromkeys(names, str(count))


def _cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
