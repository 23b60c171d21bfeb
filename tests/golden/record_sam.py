"""Records what the published code of Segment Anything answers: ``python tests/golden/record_sam.py CHECKOUT``.

CHECKOUT is github.com/facebookresearch/segment-anything; the golden was made at
dca509fe793f601edb92606367a655c15ac00fdf. Of torchvision, which its code wants, three functions stand here: resizing
with Pillow, turning into a Pillow picture, and greedy suppression. Weights and pictures come from fixed seeds, so the
golden holds numbers and the names of the weights alone, and ``tests/parity/test_sam.py`` draws the same ones.
"""

from __future__ import annotations

import importlib
import json
import sys
import types
import zlib
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as pillow
from torch import Tensor, nn

HERE = Path(__file__).parent
KEPT = 64  # values of each answer
Floats = NDArray[np.float32]

# Toy sizes: pictures of 128 pixels, 8 x 8 patches in windows of 3, 2 layers, 2 heads, 32 wide.
# Of the heads' last layers: scale, and what is added to the biases.
LAST = {"output_hypernetworks_mlps": (6.0, -3.0), "iou_prediction_head": (0.3, 0.4)}
SIZE, PATCH, WIDTH, HEADS, WINDOW = 128, 16, 32, 2, 3
# A picture that is enlarged, one that is reduced, and one of the canvas's width, whose mask prompt is not resampled.
PICTURES = {"small": (75, 118), "large": (211, 160), "even": (96, 128)}
# By name: picture, points with signs, box, rectangle of the mask prompt (left, top, right, bottom), three masks?
CASES: Mapping[str, tuple[str, Sequence[Sequence[float]], Sequence[float], Sequence[int], bool]] = {
    "one point": ("small", [[40.0, 31.5, 1]], [], [], True),
    "one point, one mask": ("small", [[40.0, 31.5, 1]], [], [], False),
    "points": ("large", [[60, 100, 1], [20, 30, 0], [150.5, 200, 1]], [], [], False),
    "box": ("large", [], [20.0, 33.0, 120.0, 180.5], [], False),
    "box, three masks": ("small", [], [5.0, 3.0, 60.0, 70.0], [], True),
    "box and points": ("small", [[40, 30, 1], [10, 60, 0]], [5.0, 3.0, 60.0, 70.0], [], False),
    "mask": ("even", [], [], [16, 8, 64, 80], False),
    "mask and point": ("even", [[30, 20, 1]], [], [16, 8, 64, 80], True),
}
# Of the automatic mode: some masks go by each rule, and none lies at a threshold. The masks of random weights nearly
# all have the picture for their box.
AUTOMATIC = {"points_per_side": 12, "predicted_iou": 0.19, "stability": 0.55}
OVERLAPS = (0.97, 1.0)  # the second lets all boxes stay


def drawn(name: str, shape: Sequence[int]) -> Floats:
    """One tensor of the net, from its published name: large enough that every layer matters, and such that masks are
    patches with steep edges and predicted IoUs lie about 0.5."""
    values = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(tuple(shape))
    scale, shift = LAST.get(name.split(".")[1], (1.0, 0.0)) if ".layers.2." in name else (1.0, 0.0)
    if len(shape) == 1:
        return np.asarray(scale * 0.3 * values + shift + name.endswith("weight"), np.float32)
    if "gaussian" in name or "pos_embed" in name or "embed" in name.split(".")[-2]:
        return np.asarray(values, np.float32)
    inputs = shape[0] if "upscaling" in name else int(np.prod(shape[1:]))  # transposed convolutions come turned
    return np.asarray(1.4 * scale * values / np.sqrt(inputs), np.float32)


def picture(name: str) -> NDArray[np.uint8]:
    """uint8 (H, W, 3): patches of colour with noise."""
    height, width = PICTURES[name]
    rng = np.random.default_rng(len(name))
    coarse = rng.integers(0, 256, (6, 7, 3), dtype=np.uint8)
    smooth = np.asarray(pillow.fromarray(coarse).resize((width, height), pillow.Resampling.NEAREST))
    return np.clip(smooth + rng.normal(0, 12, smooth.shape), 0, 255).astype(np.uint8)


def prompt_mask(corners: Sequence[int], size_hw: tuple[int, int]) -> NDArray[np.bool_]:
    """bool (H, W): a rectangle."""
    mask = np.zeros(size_hw, np.bool_)
    mask[corners[1] : corners[3], corners[0] : corners[2]] = True
    return mask


def kept(values: NDArray[np.floating]) -> list[float]:
    """So many of them, evenly spread."""
    flat = values.ravel()
    return [round(float(one), 6) for one in flat[np.linspace(0, flat.size - 1, KEPT).astype(int)]]


def main(checkout: Path) -> None:
    _stand_in()
    sys.path.insert(0, str(checkout))
    net = _net(importlib.import_module("segment_anything.modeling"))
    names = {name: list(tensor.shape) for name, tensor in net.state_dict().items()}
    net.load_state_dict({name: torch.from_numpy(drawn(name, shape)) for name, shape in names.items()})
    golden: dict[str, Any] = {"names": names}
    predictor = importlib.import_module("segment_anything").SamPredictor(net)
    for name in PICTURES:
        predictor.set_image(picture(name))
        golden[name] = {"embedding": kept(predictor.get_image_embedding().numpy())}
        seen = predictor.transform.apply_image(picture(name))
        pixels = net.preprocess(torch.from_numpy(seen.transpose(2, 0, 1).astype(np.float32)))
        golden[name]["pixels"] = kept(pixels.numpy())
    for case, question in CASES.items():
        golden[case] = _asked(predictor, *question)
    golden["automatic"] = [_everything(net, overlap) for overlap in OVERLAPS]
    (HERE / "sam.json").write_text(json.dumps(golden, indent=0) + "\n", encoding="utf-8")


def _asked(
    predictor: Any,
    name: str,
    points: Sequence[Sequence[float]],
    box: Sequence[float],
    corners: Sequence[int],
    is_ambiguous: bool,
) -> dict[str, Any]:
    predictor.set_image(picture(name))
    prior = None
    if corners:
        quarter = prompt_mask([side // 4 for side in corners], (SIZE // 4, SIZE // 4))
        prior = np.where(quarter, 10.0, -10.0)[None]  # logits (1, 32, 32)
    masks, ious, logits = predictor.predict(
        point_coords=np.asarray([one[:2] for one in points]) if points else None,
        point_labels=np.asarray([one[2] for one in points]) if points else None,
        box=np.asarray(box) if box else None,
        mask_input=prior,
        multimask_output=is_ambiguous,
    )
    return {
        "ious": [round(float(one), 6) for one in ious],
        "areas": [int(one.sum()) for one in masks],
        "logits": kept(logits),
    }


def _everything(net: nn.Module, overlap: float) -> dict[str, Any]:
    generator = importlib.import_module("segment_anything").SamAutomaticMaskGenerator(
        net,
        points_per_side=AUTOMATIC["points_per_side"],
        pred_iou_thresh=AUTOMATIC["predicted_iou"],
        stability_score_thresh=AUTOMATIC["stability"],
        box_nms_thresh=overlap,
        output_mode="uncompressed_rle",
    )
    found = generator.generate(picture("small"))
    return {
        "ious": [round(one["predicted_iou"], 6) for one in found],
        "stabilities": [round(one["stability_score"], 6) for one in found],
        "areas": [one["area"] for one in found],
        "boxes": [[int(side) for side in one["bbox"]] for one in found],  # left, top, and the last pixel less the first
    }


def _net(modeling: Any) -> nn.Module:
    """The published modules at toy size."""
    grid = (SIZE // PATCH, SIZE // PATCH)
    net: nn.Module = modeling.Sam(
        image_encoder=modeling.ImageEncoderViT(
            img_size=SIZE,
            patch_size=PATCH,
            embed_dim=WIDTH,
            depth=2,
            num_heads=HEADS,
            mlp_ratio=4,
            out_chans=WIDTH,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            use_rel_pos=True,
            window_size=WINDOW,
            global_attn_indexes=(1,),
        ),
        prompt_encoder=modeling.PromptEncoder(WIDTH, grid, (SIZE, SIZE), 16),
        mask_decoder=modeling.MaskDecoder(
            transformer_dim=WIDTH,
            transformer=modeling.TwoWayTransformer(2, WIDTH, HEADS, 64),
            iou_head_hidden_dim=WIDTH,
        ),
    )
    return net.eval()


def _stand_in() -> None:
    """What the published code takes from torchvision."""
    functional, boxes = types.ModuleType("torchvision.transforms.functional"), types.ModuleType("torchvision.ops.boxes")
    functional.to_pil_image = pillow.fromarray  # type: ignore[attr-defined]
    functional.resize = lambda image, size: image.resize(size[::-1], pillow.Resampling.BILINEAR)  # type: ignore[attr-defined]
    boxes.box_area = _area  # type: ignore[attr-defined]
    boxes.batched_nms = lambda xyxy, scores, idxs, iou_threshold: _suppressed(xyxy, scores, iou_threshold)  # type: ignore[attr-defined]
    for module in (functional, boxes):
        sys.modules[module.__name__] = module
    for name in ("torchvision", "torchvision.transforms", "torchvision.ops"):
        sys.modules[name] = types.ModuleType(name)


def _area(xyxy: Tensor) -> Tensor:
    return (xyxy[:, 2] - xyxy[:, 0]) * (xyxy[:, 3] - xyxy[:, 1])


def _suppressed(xyxy: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """Indices of what stays, best first: no box that overlaps a better one that stays by more than the threshold."""
    areas, stay = _area(xyxy), list[int]()
    for i in scores.argsort(descending=True).tolist():
        low = torch.maximum(xyxy[i, :2], xyxy[stay, :2])
        high = torch.minimum(xyxy[i, 2:], xyxy[stay, 2:])
        shared = (high - low).clamp(min=0).prod(1)
        if bool((shared <= threshold * (areas[i] + areas[stay] - shared)).all()):
            stay.append(i)
    return torch.tensor(stay, dtype=torch.long)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
