"""roboflow's inference server: its own CLIP route, with our random weights where it keeps what it has downloaded.

It runs CLIP through ONNX Runtime, not torch, and does not batch requests of different callers. Port is the argument.
Its wheel lacks the landing page that it wants below the working directory: an empty one does.
"""

import os
import sys
from pathlib import Path

import onnxruntime
import uvicorn

from benchmarks.serve import nets, weights

_MODEL = "clip/ViT-B-32"

_session = onnxruntime.InferenceSession


class _Bounded(_session):  # type: ignore[misc, valid-type]
    """A session with as many threads as every other server gets: inference has no setting for it."""

    def __init__(self, path: str, providers: list[str]) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = nets.THREADS
        super().__init__(path, options, providers=["CPUExecutionProvider"])


def main() -> None:
    onnxruntime.InferenceSession = _Bounded
    _lay_weights()
    from inference.core.interfaces.http.http_api import HttpInterface
    from inference.core.managers.base import ModelManager
    from inference.core.registries.roboflow import RoboflowModelRegistry
    from inference.models.utils import ROBOFLOW_MODEL_TYPES

    for page in ("static", "_next/static"):
        Path("inference/landing/out", page).mkdir(parents=True, exist_ok=True)
    manager = ModelManager(model_registry=RoboflowModelRegistry(ROBOFLOW_MODEL_TYPES))
    app = HttpInterface(manager).app
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", access_log=False)


def _lay_weights() -> None:
    """Hard links to the exported net where the server looks for what it has downloaded before."""
    from inference.core.cache.model_artifacts import get_cache_dir

    there = Path(get_cache_dir(model_id=_MODEL))
    there.mkdir(parents=True, exist_ok=True)
    for file in weights.onnx_folder(Path(os.environ["BENCH_HOME"])).glob("*.onnx"):
        if not (there / file.name).exists():
            os.link(file, there / file.name)


if __name__ == "__main__":
    main()
