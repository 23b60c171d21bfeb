"""Records what the reference implementation of Depth Anything 3 answers: on drawn weights, drawn images, tiny nets.

    PYTHONPATH=tests python -m golden.record_depth_anything3 CHECKOUT

``CHECKOUT`` is a copy of github.com/ByteDance-Seed/Depth-Anything-3, of commit ``COMMIT``. Its nets need addict,
einops and omegaconf, its preprocessing OpenCV; torchvision, of which it takes three lines of arithmetic, and the
reader of videos are stood in for here. What is drawn comes from numpy's seeds, so that the test draws it again.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
import types
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

COMMIT = "2c21ea849ceec7b469a3e62ea0c0e270afc3281a"
FILE = Path(__file__).with_name("depth_anything3.npz")
KEPT = 160  # values of each answer
PATCH = 14
GRID = 5  # the side of the table of positions, patches

# The transformers of the tiny nets, in the reference's words.
WIDTH, HEADS, DEPTH = 32, 2, 8
LEVELS, FUSED = (8, 12, 16, 20), 24
CAMERA_HEADS = 4
BACKBONES: Mapping[str, Mapping[str, Any]] = {
    "plain": {"out_layers": [3, 4, 6, 7], "starts": 4, "ffn_layer": "mlp"},
    "gated": {"out_layers": [2, 3, 5, 7], "starts": 3, "ffn_layer": "swiglu"},
    "alone": {"out_layers": [0, 2, 5, 7], "starts": -1, "ffn_layer": "mlp"},
}
PUBLISHED: Mapping[str, str] = {
    "anyview-s": "da3-small",
    "anyview-b": "da3-base",
    "anyview-l": "da3-large",
    "anyview-g": "da3-giant",
    "mono-l": "da3mono-large",
    "metric-l": "da3metric-large",
}
# Of pictures, (height, width): enlarged, reduced, by two exactly, of the right size, half a patch beside it, 1 : 20,
# and a single pixel.
PICTURES = (
    *((61, 83), (720, 1280), (1008, 756), (504, 378), (504, 371)),
    *((90, 1800), (333, 500), (1, 1), (1080, 1000), (2016, 1000)),
)


@dataclass(frozen=True)
class Case:
    """Images (scenes, views, 3, height, width) for one of ``BACKBONES``."""

    backbone: str
    scenes: int
    views: int
    height: int
    width: int
    has_cameras: bool = False

    @property
    def size_hw(self) -> tuple[int, int]:
        return self.height, self.width


# Of those with three views or more and no cameras, all but one scene have another reference than their first view.
CASES: Mapping[str, Case] = {
    "one view": Case("plain", 1, 1, 70, 98),
    "one view on the grid of the table": Case("plain", 1, 1, 70, 70),
    "two views": Case("plain", 1, 2, 42, 84),
    "three views": Case("plain", 1, 3, 56, 42),
    "three views of two scenes": Case("plain", 2, 3, 42, 56),
    "nine views": Case("plain", 1, 9, 28, 56),
    "three views with cameras": Case("plain", 1, 3, 56, 70, has_cameras=True),
    "gated, three views": Case("gated", 1, 3, 56, 42),
    "alone": Case("alone", 1, 1, 84, 112),
    "alone and narrow": Case("alone", 1, 1, 14, 126),
}


def drawn(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Array]:
    """Weights of a net by their names: each tensor's own seed is a checksum of its name, so no order matters."""
    return {name: _tensor(name, shape) for name, shape in shapes.items()}


def _tensor(name: str, shape: tuple[int, ...]) -> Array:
    # One norm serves all four levels of the ray branch, under four names.
    for level in "012":
        name = name.replace(f"output_conv2_aux.{level}.2.", "output_conv2_aux.3.2.")
    noise = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape).astype(np.float32)
    if name.endswith(("cls_token", "camera_token", "pos_embed")):
        return noise
    if "fc_fov" in name:  # radians, around 1.2: 0 would be no field of view
        return noise * np.float32(0.02) + np.float32(1.2 if name.endswith("bias") else 0.0)
    if name.endswith("gamma") or (name.endswith("weight") and noise.ndim == 1):
        return np.float32(0.8) + noise * np.float32(0.2)
    if name.endswith("bias"):
        return noise * np.float32(0.2)
    return noise / np.float32(np.sqrt(noise[0].size))


def images(case: Case) -> Array:
    """(scenes, views, 3, H, W): smooth waves, others in every view, and noise."""
    rng = np.random.default_rng([case.scenes, case.views, case.height, case.width])
    shape = (case.scenes, case.views, 3)
    y, x = np.mgrid[0 : case.height, 0 : case.width] / PATCH
    speeds, starts = rng.uniform(-2, 2, (2, *shape, 1, 1)), rng.uniform(0, 6, (*shape, 1, 1))
    waves = np.sin(speeds[0] * y + speeds[1] * x + starts)
    return (waves + rng.normal(0, 0.3, waves.shape)).astype(np.float32)


def cameras(case: Case) -> tuple[Array, Array]:
    """Extrinsics (scenes, views, 4, 4), rotated by up to half a turn about any axis, and intrinsics (.., 3, 3)."""
    rng = np.random.default_rng(case.views)
    shape = (case.scenes, case.views)
    orthogonal, _ = np.linalg.qr(rng.normal(size=(*shape, 3, 3)))
    rotations = orthogonal * np.sign(np.linalg.det(orthogonal))[..., None, None]
    extrinsics = np.tile(np.eye(4), (*shape, 1, 1))
    extrinsics[..., :3, :3] = rotations
    extrinsics[..., :3, 3] = rng.normal(size=(*shape, 3))
    intrinsics = np.tile(np.eye(3), (*shape, 1, 1))
    intrinsics[..., 0, 0], intrinsics[..., 1, 1] = rng.uniform(30, 90, (2, *shape))
    intrinsics[..., 0, 2], intrinsics[..., 1, 2] = case.width / 2, case.height / 2
    return extrinsics.astype(np.float32), intrinsics.astype(np.float32)


def picture(size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """Noise of whole numbers, (H, W, 3): the hardest thing to resample."""
    return np.random.default_rng(size_hw).integers(0, 256, (*size_hw, 3), dtype=np.uint8)


def kept(answer: NDArray[Any]) -> NDArray[Any]:
    """At most ``KEPT`` of the values, at places that share no period with rows or columns."""
    flat = answer.ravel()
    if flat.size <= KEPT:
        return flat
    return flat[np.sort(np.random.default_rng(flat.size).choice(flat.size, KEPT, replace=False))]


def digest(names: list[str]) -> str:
    """Of names in sorted order, one a line."""
    return hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()


@dataclass(frozen=True)
class Answer:
    """What the reference answered: some of the values, the shape they are from, and the largest of all of them."""

    values: Array
    shape: tuple[int, ...]
    largest: float


def recorded() -> tuple[dict[str, Answer], dict[str, tuple[int, str, str]]]:
    """The answers by name, and of each published size the number of tensors with the digest of their names and
    shapes, and that of the epsilons of its layer norms."""
    with np.load(FILE) as file:
        values, index = file["values"], json.loads(str(file["index"]))
    answers, start = {}, 0
    for name, (shape, largest) in index["answers"].items():
        stop = start + min(KEPT, math.prod(shape))
        answers[name] = Answer(values[start:stop], tuple(shape), largest)
        start = stop
    return answers, {kind: tuple(facts) for kind, facts in index["sizes"].items()}


def main(checkout: Path) -> None:
    sys.path.insert(0, str(checkout / "src"))
    _stand_in()
    answers = _nets() | _preprocessing()
    shapes = {name: (answer.shape, float(np.abs(answer).max())) for name, answer in answers.items()}
    index = {"commit": COMMIT, "answers": shapes, "sizes": _sizes(checkout)}
    values = np.concatenate([kept(answer) for answer in answers.values()])
    np.savez_compressed(FILE, values=values, index=np.asarray(json.dumps(index)))
    print(f"{FILE.name}: {len(answers)} answers, {FILE.stat().st_size} bytes")


def _stand_in() -> None:
    """torchvision and imageio, as far as the reference's preprocessing goes."""
    import torch

    class ToTensor:
        def __call__(self, image: Any) -> Any:
            return torch.from_numpy(np.asarray(image).transpose(2, 0, 1).copy()).float().div(255)

    class Normalize:
        def __init__(self, mean: list[float], std: list[float]) -> None:
            self.mean, self.std = (torch.tensor(values)[:, None, None] for values in (mean, std))

        def __call__(self, x: Any) -> Any:
            return (x - self.mean) / self.std

    transforms = types.ModuleType("torchvision.transforms")
    transforms.ToTensor, transforms.Normalize = ToTensor, Normalize  # type: ignore[attr-defined]
    package = types.ModuleType("torchvision")
    package.transforms = transforms  # type: ignore[attr-defined]
    sys.modules |= {
        "torchvision": package,
        "torchvision.transforms": transforms,
        "imageio": types.ModuleType("imageio"),
    }


def _nets() -> dict[str, Array]:
    import torch

    answers: dict[str, Array] = {}
    for name, case in CASES.items():
        net = _reference(case.backbone).eval()
        shapes = {key: tuple(tensor.shape) for key, tensor in net.state_dict().items()}
        net.load_state_dict({key: torch.from_numpy(value) for key, value in drawn(shapes).items()})
        x = torch.from_numpy(images(case))
        known = [torch.from_numpy(part) for part in cameras(case)] if case.has_cameras else [None, None]
        with torch.inference_mode():
            out = net(x, *known)
            # Without the poses, which remove the rays from what the whole net answers.
            tokens = net.cam_enc(*known, x.shape[-2:]) if case.has_cameras else None
            dense = net.head(net.backbone(x, cam_token=tokens)[0], *case.size_hw, patch_start_idx=0)
        # The reference puts the sky far away in the depth that it answers; the head's own is another part here.
        parts = {**out, **{f"head {part}": value for part, value in dense.items()}}
        del parts["aux"]
        answers |= {f"{name}: {part}": value.numpy() for part, value in parts.items()}
    return answers


def _reference(backbone: str) -> Any:
    from depth_anything_3.model.cam_dec import CameraDec
    from depth_anything_3.model.cam_enc import CameraEnc
    from depth_anything_3.model.da3 import DepthAnything3Net
    from depth_anything_3.model.dinov2.vision_transformer import DinoVisionTransformer
    from depth_anything_3.model.dpt import DPT
    from depth_anything_3.model.dualdpt import DualDPT
    from torch import nn

    facts = BACKBONES[backbone]

    class Tapped(nn.Module):
        """The reference's own wrapper, which knows the published sizes only."""

        def __init__(self) -> None:
            super().__init__()
            start = facts["starts"]
            self.pretrained = DinoVisionTransformer(
                img_size=GRID * PATCH,
                patch_size=PATCH,
                embed_dim=WIDTH,
                depth=DEPTH,
                num_heads=HEADS,
                ffn_layer=facts["ffn_layer"],
                alt_start=start,
                qknorm_start=start,
                rope_start=start,
                cat_token=start != -1,
            )

        def forward(self, x: Any, **settings: Any) -> Any:
            return self.pretrained.get_intermediate_layers(x, facts["out_layers"], **settings)

    head = {"features": FUSED, "out_channels": LEVELS}
    if facts["starts"] == -1:
        return DepthAnything3Net(Tapped(), DPT(WIDTH, output_dim=1, **head))
    encoder = CameraEnc(dim_out=WIDTH, num_heads=CAMERA_HEADS)
    return DepthAnything3Net(Tapped(), DualDPT(2 * WIDTH, output_dim=2, **head), CameraDec(2 * WIDTH), encoder)


def epsilons(net: Any) -> str:
    """The digest of the names of all layer norms with what each adds to a variance."""
    from torch import nn

    norms = {name: module.eps for name, module in net.named_modules() if isinstance(module, nn.LayerNorm)}
    # The norm of all four levels goes by the name of the first in the reference, of the last in what reads one.
    return digest([f"{name.replace('conv2_aux.0.', 'conv2_aux.3.')} {eps}" for name, eps in norms.items()])


def _sizes(checkout: Path) -> dict[str, tuple[int, str, str]]:
    """What ``recorded`` says of each published size; of the giant without its head for Gaussians."""
    from depth_anything_3.cfg import create_object, load_config

    facts = {}
    for kind, published in PUBLISHED.items():
        config = load_config(str(checkout / "src" / "depth_anything_3" / "configs" / f"{published}.yaml"))
        for gaussian in ("gs_head", "gs_adapter"):
            config.pop(gaussian, None)
        net = create_object(config)
        names = [f"{key} {tuple(value.shape)}" for key, value in net.state_dict().items()]
        facts[kind] = (len(names), digest(names), epsilons(net))
    return facts


def _preprocessing() -> dict[str, Array]:
    from depth_anything_3.utils.io.input_processor import InputProcessor

    process = InputProcessor()
    return {f"picture {size}": process([picture(size)], sequential=True)[0][0].numpy() for size in PICTURES}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
