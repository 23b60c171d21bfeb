"""Records what the image processor of Sapiens 2 makes of pictures and raw answers: ``python record_sapiens2.py``.

It is the one of transformers 5.23.0 and needs torchvision, which has no build beside a CPU torch: install
``torchvision==0.28.0`` without its dependencies into an environment of its own. Two operators of it are declared here
before it is imported; none of its compiled ones is used. ``tests/parity/test_sapiens2.py`` draws the same inputs.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

HERE = Path(__file__).parent
KEPT = 48
SIZE_HW = (64, 48)
BOXES = ((10.0, 5.0, 40.0, 90.0), (-20.5, 3.0, 60.25, 30.0), (60.0, 70.0, 72.0, 88.0))  # xyxy; the last one grows
# Wide, tall and larger than the canvas, and smaller than it.
PHOTOS = {"wide": (60, 150), "tall": (211, 80), "small": (30, 21)}
Floats = NDArray[np.float32]


def photo(size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """(H, W, 3): waves and some noise."""
    y, x = np.mgrid[0 : size_hw[0], 0 : size_hw[1]]
    waves = np.stack([np.sin(x / 9 + y / 14), np.cos(x / 11 - y / 8), np.sin(y / 7)], -1)
    noise = np.random.default_rng(3).uniform(-20, 20, waves.shape)
    return np.round(127.5 + 100 * waves + noise).clip(0, 255).astype(np.uint8)


def raw(channels: int) -> Floats:
    """What a net may answer: (channels, 64, 48)."""
    return np.random.default_rng(channels).standard_normal((channels, *SIZE_HW)).astype(np.float32)


def heat_maps() -> Floats:
    """(3, 5, 16, 12), one row for each box: bumps between pixels, and noise under some."""
    rng = np.random.default_rng(11)
    y, x = np.mgrid[0:16, 0:12].astype(np.float64)
    maps = []
    for i in range(15):
        at = rng.uniform((2, 2), (9, 13))
        bump = rng.uniform(0.3, 1.0) * np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / (2 * (1.5 + i % 2) ** 2))
        maps.append(bump + rng.uniform(0, 0.02, bump.shape) * (i % 3))
    return np.stack(maps).reshape(3, 5, 16, 12).astype(np.float32)


def kept(values: Any) -> list[float]:
    """So many of them, evenly spread."""
    flat = np.asarray(values, np.float64).ravel()
    picked = np.linspace(0, flat.size - 1, min(KEPT, flat.size)).astype(int)
    return [round(float(value), 6) for value in flat[picked]]


def main() -> None:
    import torch

    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    from transformers import Sapiens2ImageProcessor

    size = {"height": SIZE_HW[0], "width": SIZE_HW[1]}
    plain, padding = (Sapiens2ImageProcessor(size=size, do_pad=does) for does in (False, True))
    golden: dict[str, Any] = {"transformers": "5.23.0", "torchvision": "0.28.0"}
    for name, size_hw in PHOTOS.items():
        image = photo(size_hw)
        for how, processor in (("squashed", plain), ("padded", padding)):
            golden[f"{how} {name}"] = kept(processor(images=image, return_tensors="np")["pixel_values"])
        sizes = [size_hw]
        answer = SimpleNamespace(normals=torch.from_numpy(raw(3))[None])
        golden[f"normals {name}"] = kept(padding.post_process_normal_estimation(answer, sizes)[0]["normals"])
        answer = SimpleNamespace(pointmaps=torch.from_numpy(raw(3))[None], scales=torch.tensor([[0.5]]))
        golden[f"points {name}"] = kept(padding.post_process_pointmap_estimation(answer, sizes)[0]["pointmap"])
        answer = SimpleNamespace(logits=torch.from_numpy(raw(29))[None])
        golden[f"parts {name}"] = kept(plain.post_process_semantic_segmentation(answer, sizes)[0])
        opacity = torch.from_numpy(raw(4)).sigmoid()[None]
        answer = SimpleNamespace(foregrounds=opacity[:, :3], alphas=opacity[:, 3:])
        golden[f"alpha {name}"] = kept(plain.post_process_image_matting(answer, sizes)[0]["alpha"])
    xywh = [[left, top, right - left, bottom - top] for left, top, right, bottom in BOXES]
    seen = plain(images=photo((101, 83)), boxes=[xywh], return_tensors="np")["pixel_values"]
    golden["cuts"] = [kept(one) for one in seen]
    answer = SimpleNamespace(heatmaps=torch.from_numpy(heat_maps()))
    [people] = plain.post_process_pose_estimation(answer, [xywh])
    golden["points of people"] = [kept(person["keypoints"]) for person in people]
    golden["scores of people"] = [kept(person["scores"]) for person in people]
    (HERE / "sapiens2.json").write_text(json.dumps(golden, indent=0) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
