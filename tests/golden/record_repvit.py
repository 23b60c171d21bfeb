"""Records the maps that timm's RepViT-M1 makes of a drawn picture with drawn weights.

    PYTHONPATH=tests python -m golden.record_repvit

in an environment with timm (here: 1.0.31) and what it needs. What is drawn comes from numpy's seeds, so that the test
draws it again.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FILE = Path(__file__).with_name("repvit.npz")
SIZE_HW = (96, 64)
KEPT = 40  # values of each map


def drawn(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, NDArray[Any]]:
    """Weights by name and shape, each from a seed of its own, such that a signal keeps its size through the blocks."""
    weights: dict[str, NDArray[Any]] = {}
    for name, shape in shapes.items():
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        if name.endswith("num_batches_tracked"):
            weights[name] = np.array(1, np.int64)
        elif name.endswith("running_var"):
            weights[name] = rng.uniform(0.5, 1.5, shape).astype(np.float32)
        elif name.endswith("bn.weight"):
            weights[name] = rng.uniform(0.2, 0.6, shape).astype(np.float32)
        elif len(shape) == 1:
            weights[name] = rng.normal(0, 0.1, shape).astype(np.float32)
        else:
            weights[name] = rng.normal(0, 1 / np.sqrt(np.prod(shape[1:])), shape).astype(np.float32)
    return weights


def picture() -> NDArray[np.float32]:
    """(2, 3, H, W)."""
    return np.random.default_rng(7).normal(0, 1, (2, 3, *SIZE_HW)).astype(np.float32)


def spread(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """``KEPT`` values from all over a map."""
    flat = values.ravel()
    return flat[np.linspace(0, flat.size - 1, KEPT).astype(int)]


def main() -> None:
    import timm  # type: ignore[import-not-found]
    import torch

    net = timm.create_model("repvit_m1", features_only=True, out_indices=[0, 1, 2, 3]).eval()
    shapes = {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}
    net.load_state_dict({name: torch.from_numpy(array) for name, array in drawn(shapes).items()})
    with torch.inference_mode():
        maps = [one.numpy() for one in net(torch.from_numpy(picture()))]
    kept = {f"map-{index}": spread(one) for index, one in enumerate(maps)}
    sizes = {f"size-{index}": np.array(one.shape) for index, one in enumerate(maps)}
    np.savez_compressed(FILE, timm=timm.__version__, names=json.dumps(shapes), **kept, **sizes)


if __name__ == "__main__":
    main()
