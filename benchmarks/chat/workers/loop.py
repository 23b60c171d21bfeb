"""What all workers do alike. Imports nothing that a peer's environment may lack."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

Told = Callable[[object], None]  # called with each token, or piece of text, the moment that it is there
Answer = Callable[[dict[str, object], Told], "int | None"]  # gives how many tokens its runtime says that it has read


def run(answer: Answer) -> None:
    """Says ``ready``; then for each question ``{"ids": [...], "new": 64}`` seconds to the first token, seconds of the
    rest, processor seconds of both, the tokens or the text, and how many tokens were read."""
    print("ready", flush=True)
    for line in sys.stdin:
        pieces: list[object] = []
        clocks: list[tuple[float, float]] = [(time.perf_counter(), time.process_time())]

        def told(piece: object, pieces: list[object] = pieces, clocks: list[tuple[float, float]] = clocks) -> None:
            clocks.append((time.perf_counter(), time.process_time()))
            pieces.append(piece)

        read = answer(json.loads(line), told)
        (start, busy), (first, first_busy), (end, end_busy) = clocks[0], clocks[1], clocks[-1]
        print(
            json.dumps(
                {
                    "first": first - start,
                    "rest": end - first,
                    "first_cpu": first_busy - busy,
                    "rest_cpu": end_busy - first_busy,
                    "pieces": pieces,
                    "read": read,
                }
            ),
            flush=True,
        )


def texts(question: dict[str, object], own: int) -> tuple[str, str]:
    """The text before a picture and after it, less as many words as the runtime adds tokens of its own."""
    before, after = str(question["before"]), str(question["after"])
    return before, after.rsplit(" ", own)[0]
