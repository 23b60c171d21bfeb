"""A graph of a few nodes, made here, and its numbers once more in numpy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from anmok import geometry
from anmok.geometry import Pixels
from anmok.load import Model, load, own
from battery import picture

Array = NDArray[np.float32]

SIZE, LABELS = 8, ("나사", "nut", "washer")
PIXELS = Pixels(SIZE, "squash", "bilinear", (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
FLOAT = TensorProto.FLOAT
# Two computations of a sum of 64 products in float32, in another order.
SAME = 2e-6


def weights(seed: int = 0, classes: int = len(LABELS)) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    drawn = {
        "filters": rng.normal(0, 0.4, (5, 3, 3, 3)),
        "shift": rng.normal(0, 0.4, 5),
        "matrix": rng.normal(0, 1.0, (classes, 5)),
        "bias": rng.normal(0, 0.3, classes),
    }
    return {name: array.astype(np.float32) for name, array in drawn.items()}


def graph(
    path: Path,
    *,
    shape: Sequence[int | str] = ("n", 3, SIZE, SIZE),
    last: str = "",
    outputs: Sequence[str] = ("scores",),
    seed: int = 0,
    classes: int = len(LABELS),
    nodes: Sequence[onnx.NodeProto] = (),
) -> Path:
    """Convolution, mean over the picture, matrix: a classifier as small as one can be. ``last`` is a step after it."""
    is_last = shape[-1] == 3
    first = [helper.make_node("Transpose", ["pixels"], ["turned"], perm=[0, 3, 1, 2])] if is_last else []
    steps = [
        *first,
        helper.make_node("Conv", ["turned" if is_last else "pixels", "filters", "shift"], ["maps"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["maps"], ["lit"]),
        helper.make_node("GlobalAveragePool", ["lit"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "matrix", "bias"], ["logits" if last else "scores"], transB=1),
        *([helper.make_node(last, ["logits"], ["scores"])] if last else []),
        *nodes,
    ]
    values = [helper.make_tensor_value_info(name, FLOAT, None) for name in outputs]
    stored = [numpy_helper.from_array(array, name) for name, array in weights(seed, classes).items()]
    made = helper.make_graph(steps, "g", [helper.make_tensor_value_info("pixels", FLOAT, shape)], values, stored)
    return saved(path, made)


def saved(path: Path, made: onnx.GraphProto, **more: Any) -> Path:
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.example", 1)]
    path.write_bytes(helper.make_model(made, opset_imports=opsets, ir_version=8, **more).SerializeToString())
    return path


def by_hand(batch: Array, seed: int = 0) -> tuple[Array, Array]:
    """(B, 3, 8, 8) to features (B, 5) and logits (B, 3), in double precision."""
    w = {name: array.astype(np.float64) for name, array in weights(seed).items()}
    padded = np.pad(batch.astype(np.float64), ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))  # (B, 3, 8, 8, 3, 3)
    maps = np.einsum("bchwij,kcij->bkhw", windows, w["filters"]) + w["shift"][:, None, None]
    features = np.maximum(maps, 0).mean((2, 3))  # (B, 5)
    return features.astype(np.float32), (features @ w["matrix"].T + w["bias"]).astype(np.float32)


def softmax(logits: Array) -> Array:
    raised = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(raised / raised.sum(1, keepdims=True), np.float32)


@pytest.fixture(name="cards", autouse=True)
def cards_fixture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ANMOK_CARDS", str(tmp_path / "cards"))
    return tmp_path / "cards"


@pytest.fixture(name="screws")
def screws_fixture(tmp_path: Path) -> Model:
    own.from_onnx(graph(tmp_path / "screws.onnx"), PIXELS, LABELS, own.Naming("screws"))
    return load("screws")


def pictures() -> list[NDArray[np.uint8]]:
    return [picture(size, seed) for seed, size in enumerate(((61, 83), (8, 8), (40, 30), (1, 1), (90, 31)))]


def canvases() -> Array:
    return np.stack([geometry.prepare(image, PIXELS) for image in pictures()])
