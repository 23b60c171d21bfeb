"""How much may pass to an engine and come back, and how long it may take."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 2**20


@dataclass(frozen=True, slots=True)
class Caps:
    """Bytes, counts and seconds of one request to an engine.

    ``read_seconds`` is the longest silence: until an answer starts, and between two pieces of it. A whole answer comes
    only when its last word is there, so it is long. ``total_seconds`` is for all of it, ``None`` for no end.
    ``in_flight`` is the number of requests that one engine is given at a time.
    """

    body_bytes: int = 64 * MIB
    image_bytes: int = 32 * MIB
    images: int = 32
    choices: int = 8
    answer_bytes: int = 32 * MIB
    event_bytes: int = 4 * MIB
    connect_seconds: float = 3.0
    read_seconds: float = 300.0
    write_seconds: float = 60.0
    total_seconds: float | None = None
    in_flight: int = 256
