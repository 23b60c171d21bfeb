"""Records what the published code of Sapiens answers: ``python tests/golden/record_sapiens.py CHECKOUT``.

CHECKOUT is github.com/facebookresearch/sapiens; the golden was made at 3e829ac27476e4a70b6a01f85e487492afe02df1. Its
code needs addict, termcolor, yapf, opencv-python-headless and importlib_metadata beside the project's own packages,
in an environment of their own. Weights and pictures come from fixed seeds, so the golden holds numbers alone, and
``tests/parity/test_sapiens.py`` draws the same ones.
"""

from __future__ import annotations

import importlib
import json
import sys
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

HERE = Path(__file__).parent
KEPT = 48  # values of each answer
Floats = NDArray[np.float32]

# Toy sizes under the published names of the parameters: pictures of 64 x 48 pixels, 2 layers, 2 heads, 32 wide.
SIZE_HW, PATCH, DEPTH, HEADS, WIDTH, NARROW = (64, 48), 16, 2, 2, 32, 16
# By head: zeros around the picture, layers that double the map, 1 x 1 layers, outputs.
LAYERS: Mapping[str, tuple[int, int, int, int]] = {
    "pose17": (2, 2, 2, 17),
    "pose308": (2, 2, 2, 308),
    "parts": (0, 3, 3, 28),
    "depth": (0, 4, 2, 1),
    "normals": (2, 3, 3, 3),
}


def shapes(head: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Every tensor of a published checkpoint at toy size."""
    _, ups, mixes, outputs = LAYERS[head]
    grid = (SIZE_HW[0] // PATCH) * (SIZE_HW[1] // PATCH)
    yield "backbone.pos_embed", (1, grid, WIDTH)
    yield "backbone.patch_embed.projection.weight", (WIDTH, 3, PATCH, PATCH)
    yield "backbone.patch_embed.projection.bias", (WIDTH,)
    for i in range(DEPTH):
        layer = f"backbone.layers.{i}."
        for norm in ("ln1", "ln2"):
            yield f"{layer}{norm}.weight", (WIDTH,)
            yield f"{layer}{norm}.bias", (WIDTH,)
        linears = {"attn.qkv": (3, 1), "attn.proj": (1, 1), "ffn.layers.0.0": (4, 1), "ffn.layers.1": (1, 4)}
        for name, (out, into) in linears.items():
            yield f"{layer}{name}.weight", (out * WIDTH, into * WIDTH)
            yield f"{layer}{name}.bias", (out * WIDTH,)
    yield "backbone.ln1.weight", (WIDTH,)
    yield "backbone.ln1.bias", (WIDTH,)
    prefix = "head." if head.startswith("pose") else "decode_head."
    for i in range(ups):
        yield f"{prefix}deconv_layers.{3 * i}.weight", (WIDTH if i == 0 else NARROW, NARROW, 4, 4)
    for i in range(mixes):
        yield f"{prefix}conv_layers.{3 * i}.weight", (NARROW, NARROW, 1, 1)
        yield f"{prefix}conv_layers.{3 * i}.bias", (NARROW,)
    last = "head.final_layer" if head.startswith("pose") else "decode_head.conv_seg"
    yield f"{last}.weight", (outputs, NARROW, 1, 1)
    yield f"{last}.bias", (outputs,)


def weights(head: str) -> dict[str, Floats]:
    """Random ones, large enough that every layer matters."""
    rng = np.random.default_rng(len(head))
    drawn = {name: 0.3 * rng.standard_normal(shape) for name, shape in shapes(head)}
    return {name: (values + ("ln" in name and "weight" in name)).astype(np.float32) for name, values in drawn.items()}


def pictures() -> Floats:
    """(2, 3, H, W), normalised."""
    return np.random.default_rng(7).standard_normal((2, 3, *SIZE_HW)).astype(np.float32)


def kept(values: NDArray[np.floating]) -> list[float]:
    """So many of them, evenly spread."""
    picked = np.linspace(0, values.size - 1, min(KEPT, values.size)).astype(int)
    return [round(float(value), 6) for value in values.ravel()[picked]]


def heat_maps() -> Floats:
    """(24, 64, 48): broad and narrow bumps at places between pixels, some at the edge or under noise."""
    rng = np.random.default_rng(11)
    y, x = np.mgrid[0:64, 0:48].astype(np.float64)
    maps = []
    for i in range(24):
        at = rng.uniform((0, 0), (47, 63))
        bump = rng.uniform(0.2, 1.0) * np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / (2 * (1.5 + i % 4) ** 2))
        maps.append(bump + rng.uniform(0, 0.02, bump.shape) * (i % 3))
    return np.stack(maps).astype(np.float32)


BOXES = ((10.0, 5.0, 40.0, 90.0), (-20.5, 3.0, 60.25, 30.0), (70.0, 80.0, 120.0, 100.0))


def photo() -> NDArray[np.uint8]:
    """(101, 83, 3), smooth: a resampling that is off by a fraction of a pixel shows in proportion."""
    y, x = np.mgrid[0:101, 0:83]
    waves = [np.sin(x / 9 + y / 14), np.cos(x / 11 - y / 8), np.sin(y / 7)]
    return np.round(127.5 + 120 * np.stack(waves, -1)).astype(np.uint8)


def main(checkout: Path) -> None:
    import torch

    reference = _Reference(checkout)
    golden: dict[str, Any] = {"repository": "facebookresearch/sapiens", "commit": "3e829ac27476"}
    for head in LAYERS:
        backbone, decoder = reference.nets(head)
        state = {name: torch.from_numpy(values) for name, values in weights(head).items()}
        for part, prefix in ((backbone, "backbone."), (decoder, "head."), (decoder, "decode_head.")):
            own = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
            if own:
                part.load_state_dict(own, strict=True)
        for part in (backbone, decoder):
            part.eval()
        with torch.inference_mode():
            (maps,) = backbone(torch.from_numpy(pictures()))
            answer = decoder((maps,)).numpy()
        golden[head] = {"shape": list(answer.shape), "map": kept(maps.numpy()), "answer": kept(answer)}
    golden["peaks"] = reference.peaks()
    golden["cuts"] = reference.cuts()
    golden["whole"] = reference.whole()
    (HERE / "sapiens.json").write_text(json.dumps(golden, indent=0) + "\n", encoding="utf-8")


class _Reference:
    """The published modules without the packages around them, which want compiled operators and dictionaries."""

    def __init__(self, checkout: Path) -> None:
        self._homes = {"mmpretrain": checkout / "pretrain", "mmseg": checkout / "seg", "mmpose": checkout / "pose"}
        sys.path[:0] = [str(checkout / "engine"), str(checkout / "cv"), *map(str, self._homes.values())]
        sys.modules["transformers"] = None  # type: ignore[assignment]  # an optimiser of its name is registered twice
        importlib.import_module("mmengine.optim")
        del sys.modules["transformers"]
        for name in ("mmpretrain", "mmpretrain.models", "mmpretrain.models.backbones"):
            self._hollow(name)
        for name in ("mmseg", "mmseg.models", "mmseg.models.decode_heads"):
            self._hollow(name)
        for name in ("mmpose", "mmpose.codecs", "mmpose.evaluation", "mmpose.datasets", "mmpose.models"):
            self._hollow(name)
        for name in ("mmpose.models.heads", "mmpose.models.heads.heatmap_heads", "mmpose.models.losses"):
            self._hollow(name)
        self._pretend("mmseg.utils.tokenizer")
        self._pretend("mmcv.ops").__path__ = []

    def nets(self, head: str) -> tuple[Any, Any]:
        """The published transformer and head at toy size."""
        padding, ups, mixes, outputs = LAYERS[head]
        vit = importlib.import_module("mmpretrain.models.backbones.vision_transformer")
        arch = {"embed_dims": WIDTH, "num_layers": DEPTH, "num_heads": HEADS, "feedforward_channels": 4 * WIDTH}
        backbone = vit.VisionTransformer(
            arch=arch,
            img_size=SIZE_HW,
            patch_size=PATCH,
            with_cls_token=False,
            out_type="featmap",
            patch_cfg={"padding": padding} if padding else {},
        )
        layers = {
            "in_channels": WIDTH,
            "deconv_out_channels": (NARROW,) * ups,
            "deconv_kernel_sizes": (4,) * ups,
            "conv_out_channels": (NARROW,) * mixes,
            "conv_kernel_sizes": (1,) * mixes,
        }
        if head.startswith("pose"):
            importlib.import_module("mmpose.models.losses.heatmap_loss")
            home = importlib.import_module("mmpose.models.heads.heatmap_heads.heatmap_head")
            return backbone, home.HeatmapHead(out_channels=outputs, loss={"type": "KeypointMSELoss"}, **layers)
        kind = {"parts": "vit_head.VitHead", "depth": "vit_depth_head.VitDepthHead"}
        module, name = kind.get(head, "vit_normal_head.VitNormalHead").split(".")
        home = importlib.import_module(f"mmseg.models.decode_heads.{module}")
        return backbone, getattr(home, name)(channels=NARROW, num_classes=outputs, **layers)

    def peaks(self) -> list[list[float]]:
        """(x, y, height) of every heat map, as the UDP codec decodes them."""
        codec = importlib.import_module("mmpose.codecs.utils")
        maps = heat_maps()
        places, heights = codec.get_heatmap_maximum(maps)
        places = codec.refine_keypoints_dark_udp(places[None].astype(np.float64), maps.copy(), 11)[0]
        rows = np.concatenate([places, heights[:, None]], axis=1)
        return [[round(float(value), 6) for value in row] for row in rows]

    def cuts(self) -> list[dict[str, list[float]]]:
        """The matrix of every box, and some of what OpenCV cuts out with it."""
        import cv2

        boxes = importlib.import_module("mmpose.structures.bbox.transforms")
        found = []
        for box in BOXES:
            centre, scale = boxes.bbox_xyxy2cs(np.asarray(box), padding=1.25)
            ratio = SIZE_HW[1] / SIZE_HW[0]
            wide = scale[0] > scale[1] * ratio
            scale = np.asarray((scale[0], scale[0] / ratio) if wide else (scale[1] * ratio, scale[1]))
            matrix = boxes.get_udp_warp_matrix(centre, scale, 0.0, output_size=SIZE_HW[::-1])
            seen = cv2.warpAffine(photo().astype(np.float32), matrix, SIZE_HW[::-1], flags=cv2.INTER_LINEAR)
            found.append({"matrix": [round(float(one), 6) for one in matrix.ravel()], "seen": kept(seen)})
        return found

    def whole(self) -> list[float]:
        """The photo resized onto the canvas, as the pipelines for parts, depth and normals do it."""
        image = importlib.import_module("mmcv.image")
        return kept(image.imresize(photo(), SIZE_HW[::-1], interpolation="bilinear").astype(np.float64))

    def _hollow(self, name: str) -> None:
        """A package whose modules can be imported while its ``__init__`` is never run."""
        self._pretend(name).__path__ = [str(self._homes[name.split(".")[0]] / Path(*name.split(".")))]

    def _pretend(self, name: str) -> Any:
        def missing(attribute: str) -> Any:
            if attribute.startswith("__"):
                raise AttributeError(attribute)
            return type(attribute, (), {})

        module: Any = types.ModuleType(name)
        module.__getattr__ = missing
        sys.modules[name] = module
        return module


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
