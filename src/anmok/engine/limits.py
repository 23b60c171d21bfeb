"""The numbers that an engine keeps to. Seconds, bytes and items throughout."""

from __future__ import annotations

from dataclasses import dataclass, fields

from anmok.errors import BadRequest


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds, with what each one bounds.

    Queue: ``queue_items`` and ``queue_bytes`` hold over all models together, and count what is in work as well. Where
    a batch is waiting for a model already, and what waits will take ``queue_seconds`` by what was measured, the next
    request is refused rather than kept waiting for longer.
    Batches: never more than ``batch_items``; ``batch_seconds`` is how long one batch may keep a worker, by what was
    measured; a request waits for company no longer than ``wait_share`` of the time that a batch takes, and never
    longer than ``wait_seconds``. ``lanes`` is the number of threads that serve one model: with two, pictures of the
    next batch are decoded while the net works on this one. Priorities: one level is worth ``level_seconds`` of
    waiting. Models: ``loaders`` load at a time; a model stays for ``stay_seconds`` at least; a load waits for room
    for ``room_seconds`` at most; after a failed load the same error is the answer for ``retry_seconds``.
    ``parameter_bytes`` tells how large a model will be before it is loaded: 4 in float32, 2 in bfloat16.
    ``cache_bytes`` is for the encodings of pictures that were asked about before; 0 keeps none.
    """

    queue_items: int = 1024
    queue_bytes: int = 512 * 2**20
    queue_seconds: float = 5.0
    batch_items: int = 32
    batch_seconds: float = 0.5
    wait_share: float = 0.2
    wait_seconds: float = 0.02
    lanes: int = 1
    level_seconds: float = 1.0
    loaders: int = 2
    stay_seconds: float = 10.0
    room_seconds: float = 30.0
    retry_seconds: float = 5.0
    parameter_bytes: int = 4
    cache_bytes: int = 0

    def __post_init__(self) -> None:
        for name in ("queue_items", "queue_bytes", "batch_items", "lanes", "loaders"):
            if getattr(self, name) < 1:
                raise BadRequest(f"{name} is {getattr(self, name)}: must be at least 1")
        for field in fields(self):
            if not getattr(self, field.name) >= 0:
                raise BadRequest(f"{field.name} is {getattr(self, field.name)}: must not be negative")
        if self.batch_seconds == 0 or self.level_seconds == 0:
            raise BadRequest("batch_seconds and level_seconds must be above 0")
