"""The servers: what is installed for each, how it is started, how it is asked, where the vector is in its answer."""

from __future__ import annotations

import base64
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.serve import weights
from benchmarks.serve.nets import BATCH, THREADS

Body = tuple[str, bytes]  # content type, bytes
ROOT = Path(__file__).parents[2]
WAIT_SECONDS = 0.01  # that a peer's batch may wait for company, where it can be said

_SHORT = Path(tempfile.gettempdir()) / "bench-ray"  # the path of a socket has 107 letters at most
_BOUNDARY = "bench-0f1d5c2a"
_OURS = {"mini": "mini", "vit-b32": weights.NAME, "fake": "fake"}


@dataclass(frozen=True, slots=True)
class Peer:
    """One server. ``command`` gets the interpreter of its environment, the port and the model.

    ``workers`` are the numbers of processes among which the threads may be shared out: the better one is kept.
    ``shares_torch`` says that it runs on the torch of the interpreter that measures. ``path`` gets the model.
    """

    name: str
    models: tuple[str, ...]
    requirements: tuple[str, ...]
    command: Callable[[Path, int, str], list[str]]
    path: Callable[[str], str]
    body: Callable[[bytes], Body]
    vector: Callable[[Any], Any]
    workers: tuple[int, ...] = (1,)
    shares_torch: bool = True
    environment: Mapping[str, str] = field(default_factory=dict)
    note: str = ""

    def request(self, model: str, picture: bytes) -> bytes:
        """A whole HTTP request."""
        kind, body = self.body(picture)
        head = (
            f"POST {self.path(model)} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: */*\r\n"
            f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    def read(self, body: bytes) -> NDArray[np.float64]:
        """The vector (D,) in an answer."""
        return np.asarray(self.vector(json.loads(body)), np.float64).reshape(-1)


def _raw(picture: bytes) -> Body:
    return "image/jpeg", picture


def _form(picture: bytes) -> Body:
    head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="images"; filename="a.jpg"\r\n'
    body = f"{head}Content-Type: image/jpeg\r\n\r\n".encode() + picture + f"\r\n--{_BOUNDARY}--\r\n".encode()
    return f"multipart/form-data; boundary={_BOUNDARY}", body


def _openai(picture: bytes) -> Body:
    image = f"data:image/jpeg;base64,{base64.b64encode(picture).decode()}"
    return "application/json", json.dumps({"model": "bench", "modality": "image", "input": [image]}).encode()


def _roboflow(picture: bytes) -> Body:
    image = {"type": "base64", "value": base64.b64encode(picture).decode()}
    return "application/json", json.dumps({"clip_version_id": "ViT-B-32", "image": image}).encode()


def _app(name: str) -> Callable[[Path, int, str], list[str]]:
    return lambda python, port, model: [str(python), "-m", f"benchmarks.serve.apps.{name}_app", str(port)]


def _ours(python: Path, port: int, model: str) -> list[str]:
    # 128 clients that ask again at once wait for longer than the 5 s after which the server would say 429. Where the
    # overload is measured, its own flags come behind and hold.
    patience = ["--max-wait", "60"]
    return [str(python), "-m", "anmok", "serve", _OURS[model], "--port", str(port), "--device", "cpu", *patience]


def _bentoml(python: Path, port: int, model: str) -> list[str]:
    app = "benchmarks.serve.apps.bentoml_app:Embed"
    where = ["--host", "127.0.0.1", "--port", str(port), "--working-dir", str(ROOT)]
    return [str(python), "-m", "bentoml", "serve", app, *where]


def _infinity(python: Path, port: int, model: str) -> list[str]:
    served = ["--model-id", str(weights.folder(ROOT / ".bench")), "--served-model-name", "bench"]
    how = ["--engine", "torch", "--device", "cpu", "--dtype", "float32", "--batch-size", str(BATCH)]
    quiet = ["--no-bettertransformer", "--no-compile", "--no-model-warmup", "--log-level", "warning"]
    where = ["--host", "127.0.0.1", "--port", str(port)]
    return [str(python.with_name("infinity_emb")), "v2", *served, *how, *quiet, *where]


OURS = Peer(
    "anmok",
    ("mini", "vit-b32", "fake"),
    (),
    _ours,
    lambda model: f"/models/{_OURS[model]}/feature-extraction",
    _raw,
    lambda answer: answer,
    note="--max-wait 60: 128 clients at once wait for longer than the 5 s after which it says 429 by default",
)
PEERS: Sequence[Peer] = (
    Peer(
        "litserve",
        ("mini", "vit-b32"),
        ("litserve",),
        _app("litserve"),
        lambda model: "/predict",
        _raw,
        lambda answer: answer,
        workers=(1, 2),
    ),
    Peer(
        "bentoml",
        ("mini", "vit-b32"),
        ("bentoml",),
        _bentoml,
        lambda model: "/embed",
        _form,
        lambda answer: answer[0],
        workers=(1, 2),
        environment={"BENTOML_DO_NOT_TRACK": "True"},
    ),
    Peer(
        "ray",
        ("mini", "vit-b32"),
        ("ray[serve]",),
        _app("ray"),
        lambda model: "/",
        _raw,
        lambda answer: answer,
        workers=(1, 2),
        environment={"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled", "RAY_TMPDIR": str(_SHORT)},
    ),
    Peer(
        "roboflow",
        ("vit-b32",),
        ("inference-cpu[http]>=1.8",),
        _app("roboflow"),
        lambda model: "/clip/embed_image",
        _roboflow,
        lambda answer: answer["embeddings"],
        shares_torch=False,
        environment={
            "MODEL_CACHE_DIR": str(ROOT / ".bench" / "roboflow-cache"),
            "OFFLINE_MODE": "True",
            "USE_INFERENCE_MODELS": "False",
            "TELEMETRY_OPT_OUT": "True",
            "METRICS_ENABLED": "False",
        },
        note="ONNX Runtime, not torch; no batches across requests; `mini` is no model that it takes",
    ),
    Peer(
        "infinity",
        ("vit-b32",),
        ("infinity-emb[server,torch,vision]", "aiohttp"),
        _infinity,
        lambda model: "/embeddings",
        _openai,
        lambda answer: answer["data"][0]["embedding"],
        shares_torch=False,
        environment={"DO_NOT_TRACK": "1"},
        note="its own, older torch and transformers, as it demands; `mini` is no model that it takes",
    ),
)


def settings(model: str, workers: int, home: Path) -> dict[str, str]:
    """What every server's environment says, ours too."""
    return {
        "HOME": str(home / "home"),
        "BENCH_MODEL": model,
        "BENCH_HOME": str(home),
        "BENCH_WORKERS": str(workers),
        "BENCH_WAIT": str(WAIT_SECONDS),
        "OMP_NUM_THREADS": str(THREADS // workers),
        "MKL_NUM_THREADS": str(THREADS // workers),
        "HF_HUB_OFFLINE": "1",
        "PYTHONUNBUFFERED": "1",
    }
