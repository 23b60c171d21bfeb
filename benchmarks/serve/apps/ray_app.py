"""Ray Serve, bare: one deployment with ``serve.batch``. Port is the argument.

Decoding happens in threads, as its documentation asks for work that would block the replica's event loop.
``BENCH_WORKERS`` is the number of replicas; the threads of torch are shared out among them.
"""

import asyncio
import os
import signal
import sys
import threading
from typing import Any

import ray
from ray import serve
from ray.serve.schema import LoggingConfig
from starlette.requests import Request

from benchmarks.serve import nets

WAIT_SECONDS = float(os.environ["BENCH_WAIT"])
WORKERS = int(os.environ["BENCH_WORKERS"])
MORE_THAN_CLIENTS = 1024  # requests that a replica takes before the proxy holds them back


@serve.deployment(num_replicas=WORKERS, max_ongoing_requests=MORE_THAN_CLIENTS, ray_actor_options={"num_cpus": 0.1})
class Embed:
    def __init__(self) -> None:
        self.net = nets.net(nets.THREADS // WORKERS)

    async def __call__(self, request: Request) -> Any:
        pixels = await asyncio.to_thread(self.net.prepare, await request.body())
        return await self.vector(pixels)

    @serve.batch(max_batch_size=nets.BATCH, batch_wait_timeout_s=WAIT_SECONDS)
    async def vector(self, batch: list[nets.Array]) -> list[Any]:
        rows = await asyncio.to_thread(self.net.vectors, batch)
        return [row.tolist() for row in rows]


def main() -> None:
    ray.init(include_dashboard=False, log_to_driver=False, num_cpus=2, object_store_memory=200 * 2**20)
    quiet = LoggingConfig(enable_access_log=False, log_level="ERROR")
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])}, logging_config=quiet)
    serve.run(Embed.bind())
    leaves = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: leaves.set())
    leaves.wait()
    ray.shutdown()


if __name__ == "__main__":
    main()
