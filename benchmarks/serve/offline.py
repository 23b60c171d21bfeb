"""What the same machine does without a server, in a process of its own. Prints JSON.

python -m benchmarks.serve.offline rate mini SECONDS VECTORS.npy    # Model.run over the pictures, 32 at a time
python -m benchmarks.serve.offline engine SECONDS                   # Engine.run of `fake`, one at a time
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np

import anmok
from anmok.engine import Engine
from anmok.tasks import Embed
from benchmarks.serve import pictures, weights
from benchmarks.serve.nets import BATCH, THREADS


def rate(model: str, seconds: float, vectors: Path) -> dict[str, float]:
    """Pictures per second of ``Model.run``, and of ``Model.map``, which decodes ahead."""
    import torch

    torch.set_num_threads(THREADS)
    files = pictures.jpegs()
    with anmok.load(weights.NAME if model == "vit-b32" else model, device="cpu") as loaded:
        answers = loaded.run(files, Embed())  # warm, and what every server must answer
        np.save(vectors, np.stack([answer.vector for answer in answers]))
        rates = {"run": 0.0, "map": 0.0}
        for name in rates:
            start, count = time.perf_counter(), 0
            while (taken := time.perf_counter() - start) < seconds:
                batch = [files[(count + i) % len(files)] for i in range(BATCH)]
                if name == "run":
                    count += len(loaded.run(batch, Embed()))
                else:
                    count += sum(1 for _ in loaded.map(batch, Embed()))
            rates[name] = count / taken
    return rates


def engine(seconds: float) -> dict[str, float]:
    """Median seconds of one ``Engine.run`` of ``fake``."""
    body = pictures.small_jpeg()
    took = []
    with Engine(10**9) as one:
        one.load("fake").result()
        start = time.perf_counter()
        while time.perf_counter() - start < seconds:
            began = time.perf_counter()
            one.run("fake", [body], Embed())
            took.append(time.perf_counter() - began)
    return {"p50": float(np.median(took[len(took) // 10 :]))}


def main() -> None:
    what, *rest = sys.argv[1:]
    print(json.dumps(rate(rest[0], float(rest[1]), Path(rest[2])) if what == "rate" else engine(float(rest[0]))))


if __name__ == "__main__":
    main()
