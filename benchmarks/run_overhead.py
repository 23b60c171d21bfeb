"""What `Model.run` costs over the bare net: decoded pictures at the size that needs no resizing, one and 16.

    python benchmarks/run_overhead.py            # the weights of `mini`
    python benchmarks/run_overhead.py dinov2-s14 # a random net of that card at toy size: the fixed cost alone

Pairs of the two are timed in turn, so that a machine that drifts drifts for both; the median of the ratios is
printed with its quartiles. Decoding is left out on both sides; the bare net gets the array that `prepare` made.
"""

from __future__ import annotations

import sys
import time

import numpy as np

import anmok
from anmok.load import tiny
from anmok.tasks import Embed

ROUNDS = 40


def seconds(action: object) -> float:
    start = time.perf_counter()
    action()  # type: ignore[operator]
    return time.perf_counter() - start


def main() -> None:
    name = sys.argv[1] if len(sys.argv) > 1 else "mini"
    model = anmok.load(name) if name == "mini" else tiny(name)
    size = round(model.card.pixels.size / model.card.pixels.crop)  # of which the middle is cut out
    rng = np.random.default_rng(0)
    for count in (1, 16):
        pictures = list(rng.integers(0, 256, (count, size, size, 3), dtype=np.uint8))
        ready = np.stack([np.asarray(model.kind.prepare(picture).pixels) for picture in pictures])
        ask = Embed(space="features")
        pairs = []
        for _ in range(ROUNDS):
            bare = seconds(lambda ready=ready: model.kind.encode(ready))
            pairs.append((seconds(lambda pictures=pictures, ask=ask: model.run(pictures, ask)), bare))
        ratios = np.array([whole / bare - 1 for whole, bare in pairs[3:]])
        low, middle, high = 100 * np.percentile(ratios, [25, 50, 75])
        bare_ms = 1000 * float(np.median([bare for _, bare in pairs[3:]]))
        print(f"{count:3d} pictures: net {bare_ms:.1f} ms, run adds {middle:.1f} % ({low:.1f} to {high:.1f} %)")


if __name__ == "__main__":
    main()
