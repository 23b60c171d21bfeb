"""LitServe: decoding in ``decode_request``, batches in ``predict``, as its README has them. Port is the argument.

``BENCH_WORKERS`` is ``workers_per_device``; the threads of torch are shared out among them.
"""

import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import litserve
import numpy as np
from fastapi import Body

from benchmarks.serve import nets


class Embed(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.net = nets.net(nets.THREADS // int(os.environ["BENCH_WORKERS"]))

    # The annotation makes FastAPI hand over the raw body, which saves LitServe the parsing of a form.
    def decode_request(self, request: Annotated[bytes, Body()]) -> nets.Array:
        return self.net.prepare(request)

    def batch(self, inputs: Sequence[nets.Array]) -> Sequence[nets.Array]:
        return inputs

    def predict(self, batch: Sequence[nets.Array]) -> nets.Array:
        return self.net.vectors(batch)

    def unbatch(self, output: nets.Array) -> list[nets.Array]:
        return list(output)

    def encode_response(self, output: np.ndarray) -> Any:
        return output.tolist()


def main() -> None:
    api = Embed(max_batch_size=nets.BATCH, batch_timeout=float(os.environ["BENCH_WAIT"]))
    workers = int(os.environ["BENCH_WORKERS"])
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=workers, fast_queue=True, timeout=60)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", generate_client_file=False)


if __name__ == "__main__":
    main()
