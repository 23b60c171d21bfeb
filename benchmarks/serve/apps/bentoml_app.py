"""BentoML: adaptive batching over ``batchable=True``. Started by ``bentoml serve``.

A request is a form with one file, for BentoML batches only what comes as a list. ``BENCH_WORKERS`` is the number of
its workers; the threads of torch are shared out among them.
"""

import os
from pathlib import Path

import bentoml

from benchmarks.serve import nets

WORKERS = int(os.environ["BENCH_WORKERS"])
LATENCY_MS = 60_000  # what its batching may spend on a request: it sheds load above, and nothing is to be shed here


@bentoml.service(
    workers=WORKERS, traffic={"timeout": 60, "max_concurrency": 1024}, logging={"access": {"enabled": False}}
)
class Embed:
    def __init__(self) -> None:
        self.net = nets.net(nets.THREADS // WORKERS)

    @bentoml.api(batchable=True, max_batch_size=nets.BATCH, max_latency_ms=LATENCY_MS)
    def embed(self, images: list[Path]) -> list[list[float]]:
        pixels = [self.net.prepare(image.read_bytes()) for image in images]
        return self.net.vectors(pixels).tolist()  # type: ignore[no-any-return]
