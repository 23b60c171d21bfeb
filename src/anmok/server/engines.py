"""The engine of a server, with its models in this process or each in one of its own."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from anmok.engine import Batched, Engine, Named
from anmok.isolation import Apart, Bounds, ProcessStatus
from anmok.load import load
from anmok.server.settings import Settings


class Engines:
    """The engine, and the processes behind it where there are any. ``close`` ends both, in their order."""

    def __init__(self, settings: Settings, observe: Callable[[Batched], None]) -> None:
        self.apart = _apart(settings) if settings.workers == "process" else None
        loader: Any = self.apart or functools.partial(
            load, device=settings.device, dtype=settings.dtype, accept_licences=settings.accept_licences
        )
        names = {one.name: Named(one.target, one.share) for one in settings.models}
        self.engine = Engine(settings.memory_bytes, loader, limits=settings.limits, names=names, observe=observe)

    def workers(self) -> tuple[ProcessStatus, ...]:
        """The processes, at this moment; none where models run in this one."""
        return () if self.apart is None else self.apart.status()

    def close(self, *, seconds: float) -> None:
        self.engine.close(drain=False, seconds=seconds)
        if self.apart is not None:
            self.apart.close()


def _apart(settings: Settings) -> Apart:
    alone = sum(not one.group for one in settings.models)
    groups = {one.target: one.group for one in settings.models if one.group}
    processes = max(1, alone + len(set(groups.values())))
    return Apart(
        device=settings.device,
        dtype=settings.dtype,
        accept_licences=settings.accept_licences,
        groups=groups,
        bounds=Bounds(processes=processes, memory_bytes=settings.worker_bytes),
    )
