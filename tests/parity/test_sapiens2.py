"""The sapiens2 model file: nets from published names equal transformers' own, pixels and answers equal its processor.

The processor cannot be loaded in this environment; what it made of the same inputs is recorded in a golden.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from anmok import bodies, people
from anmok.errors import BadWeights
from anmok.geometry import Frame, Pixels
from anmok.inputs import Encoded, Prompted
from anmok.models import sapiens2
from anmok.models.sapiens2 import Sapiens2Maps, Sapiens2Pose
from anmok.nets import heatmaps
from anmok.tasks import Depth, Matting, Normals, Parse, Pose, Setup, TextRules
from golden import record_sapiens2 as record

GOLDEN: dict[str, Any] = json.loads((record.HERE / "sapiens2.json").read_text(encoding="utf-8"))
PIXELS = Pixels(1024, "squash", "bilinear", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
# One step of a picture of 256, normalised: torchvision and Pillow round halves of it in different ways.
STEP = 1 / 255 / 0.224 * 1.01
# From names in the net to names in the files, which are those of the makers' own code.
_SPELLED = (
    (r"^embeddings\.register_tokens", "storage_tokens"),
    (r"^embeddings\.patch_embeddings\.", "patch_embed.projection."),
    (r"^embeddings\.cls_token", "cls_token"),
    (r"^model\.layer\.", "blocks."),
    (r"^norm\.", "ln1."),
    (r"\.attention\.o_proj\.", ".attn.proj."),
    (r"\.attention\.([qkv])_proj\.", r".attn.w\1."),
    (r"\.attention\.([qk])_norm\.", r".attn.\1_norm."),
    (r"\.layer_scale1\.lambda1", ".attn.gamma.weight"),
    (r"\.mlp\.down_proj\.", ".ffn.w3."),
    (r"\.norm([12])\.", r".ln\1."),
)
_LAST = {"pose": "conv_pose", "parts": "conv_seg", "normals": "conv_normal", "pointmap": "conv_pointmap"}


def setup(kind: str, folder: Path | None = None) -> Setup:
    files = {path.name: path for path in folder.iterdir()} if folder is not None else {}
    return Setup("sapiens2-test", kind, PIXELS, TextRules(), "softmax", (), files=files, parts={"detector": None})


def spelled(state: dict[str, Tensor], kind: str) -> dict[str, Tensor]:
    named: dict[str, Tensor] = {}
    for key, tensor in state.items():
        if not key.startswith("model."):
            named[_of_head(key, kind)] = tensor.contiguous()
            continue
        key = key.removeprefix("model.")
        for now, then in _SPELLED:
            key = re.sub(now, then, key)
        named[f"backbone.{key}"] = tensor.contiguous()
    for key in [key for key in named if ".mlp.gate_proj." in key]:
        both = named.pop(key), named.pop(key.replace("gate_proj", "up_proj"))
        named[key.replace("mlp.gate_proj", "ffn.w12")] = torch.cat(both)
    return {**named, "backbone.rope_embed.periods": torch.ones(2)}  # stored, and computed again by the library


def _of_head(key: str, kind: str) -> str:
    if key.startswith("decode_head.predictor."):
        return key.replace("predictor", _LAST[kind])
    shuffled = "upsample_blocks" if kind in ("normals", "pointmap") else "deconv_layers"
    for pattern, name, step in (
        (r"decode_head\.upsample_layers\.(\d)\.convolution\.", f"decode_head.{shuffled}", 1 if "b" in shuffled else 3),
        (r"decode_head\.conv_layers\.(\d)\.convolution\.", "decode_head.conv_layers", 3),
        (r"scale_head\.conv_layers\.(\d)\.convolution\.", "decode_head.scale_conv_layers", 3),
    ):
        if match := re.match(pattern, key):
            middle = ".0" if name.endswith("upsample_blocks") else ""
            return f"{name}.{step * int(match[1])}{middle}.{key[match.end() :]}"
    return key.replace("input_conv.convolution", "input_conv.0")


def reference(kind: str) -> Any:
    net: Any = sapiens2.NETS[kind](sapiens2.Sapiens2Config(**sapiens2.TINY[kind]))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_(0.5 if parameter.dim() == 1 else 0.0, 0.3, generator=generator)
    return net.eval()


def written(folder: Path, kind: str, net: Any, state: dict[str, Tensor]) -> Setup:
    save_file(state, folder / "model.safetensors")
    content = {"model_type": "sapiens2", **net.config.to_dict()}
    (folder / "config.json").write_text(json.dumps(content))
    return setup(f"{kind}-0.4b", folder)


def whole(size_hw: tuple[int, int]) -> Frame:
    return Frame((48 / size_hw[1], 64 / size_hw[0]), (0.0, 0.0), size_hw)


def toy(kind: str) -> Sapiens2Maps:
    return Sapiens2Maps.tiny(setup(f"{kind}-1b"), 0)


@pytest.mark.parametrize("kind", ["pose", "parts", "normals"])
def test_published_names_fill_the_net(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sapiens2, "SIZE_HW", sapiens2.TINY_HW)
    net = reference(kind)
    model = (Sapiens2Pose if kind == "pose" else Sapiens2Maps).from_files(
        written(tmp_path, kind, net, spelled(net.state_dict(), kind))
    )
    batch = np.random.default_rng(1).standard_normal((2, 3, 64, 48)).astype(np.float32)
    with torch.inference_mode():
        wanted = net(pixel_values=torch.from_numpy(batch))
    if isinstance(model, Sapiens2Pose):
        np.testing.assert_allclose(model._net(batch).heatmaps, wanted.heatmaps, rtol=0, atol=1e-5)
        return
    raw = wanted.logits if kind == "parts" else torch.nn.functional.normalize(wanted.normals, dim=1)
    assert raw.std() > 0.1
    np.testing.assert_allclose(model.encode(batch)["map"], raw, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["pointmap", "matting"])
def test_names_of_the_library_fill_the_net(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sapiens2, "SIZE_HW", sapiens2.TINY_HW)
    net = reference(kind)
    state = {name: tensor.contiguous() for name, tensor in net.state_dict().items()}
    model = Sapiens2Maps.from_files(written(tmp_path, kind, net, state))
    batch = np.random.default_rng(1).standard_normal((2, 3, 64, 48)).astype(np.float32)
    with torch.inference_mode():
        wanted = net(pixel_values=torch.from_numpy(batch))
    raw = wanted.pointmaps / wanted.scales[:, :, None, None] if kind == "pointmap" else wanted.alphas
    np.testing.assert_allclose(model.encode(batch)["map"], raw, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", list(record.PHOTOS))
def test_pictures_are_squashed_as_the_processor_does(name: str) -> None:
    view = toy("parts").prepare(record.photo(record.PHOTOS[name]))
    np.testing.assert_allclose(record.kept(view.pixels), GOLDEN[f"squashed {name}"], rtol=0, atol=STEP)
    assert view.frame == whole(record.PHOTOS[name])


@pytest.mark.parametrize("name", list(record.PHOTOS))
def test_pictures_are_padded_as_the_processor_does(name: str) -> None:
    view = toy("normals").prepare(record.photo(record.PHOTOS[name]))
    np.testing.assert_allclose(record.kept(view.pixels), GOLDEN[f"padded {name}"], rtol=0, atol=STEP)


@pytest.mark.parametrize("name", list(record.PHOTOS))
def test_maps_come_back_as_the_processor_brings_them(name: str) -> None:
    size = record.PHOTOS[name]
    image = record.photo(size)
    squashed, padded = whole(size), toy("normals").prepare(image).frame
    alpha = 1 / (1 + np.exp(-record.raw(4)[3:]))
    states = {
        "normals": Encoded("", {"map": _unit(record.raw(3))}, padded),
        "points": Encoded("", {"map": record.raw(3) / np.float32(0.5)}, padded),
        "parts": Encoded("", {"map": record.raw(29)}, squashed),
        "alpha": Encoded("", {"map": alpha}, squashed),
    }
    [normals] = toy("normals").normals([states["normals"]], Normals())
    # The processor lets lengths shrink between two directions; here they are brought back to 1.
    got, wanted = np.moveaxis(normals.normals, -1, 0), np.asarray(GOLDEN[f"normals {name}"])
    large = torch.nn.functional.interpolate(sapiens2._cropped(states["normals"])[None], size, mode="bilinear")[0]
    np.testing.assert_allclose(record.kept(large), wanted, rtol=0, atol=1e-5)
    np.testing.assert_allclose(got, _unit(large.numpy()), rtol=0, atol=1e-5)
    [depth] = toy("pointmap").depth([states["points"]], Depth())
    assert depth.points is not None
    np.testing.assert_allclose(record.kept(np.moveaxis(depth.points, -1, 0)), GOLDEN[f"points {name}"], atol=1e-5)
    np.testing.assert_array_equal(depth.depth, depth.points[..., 2])
    assert (depth.kind, depth.unit) == ("metric", "m")
    [parts] = toy("parts").parse([states["parts"]], Parse())
    assert record.kept(parts.parts) == GOLDEN[f"parts {name}"]
    assert parts.names == people.PARTS_29
    [matte] = toy("matting").matte([states["alpha"]], Matting())
    np.testing.assert_allclose(record.kept(matte.alpha), GOLDEN[f"alpha {name}"], rtol=0, atol=1e-5)


def test_people_are_cut_out_as_the_processor_does() -> None:
    style = heatmaps.Style((64, 48), PIXELS.mean, PIXELS.std, kernel=None, is_whole=False)
    cuts = [heatmaps.cut_around(np.asarray(box), (64, 48)) for box in record.BOXES]
    assert [heatmaps.kernel_for(cut, (64, 48)) for cut in cuts] == ["linear", "linear", "cubic"]
    for cut, wanted in zip(cuts, GOLDEN["cuts"], strict=True):
        seen = heatmaps.seen_by(record.photo((101, 83)), cut, style)
        # Places are float32 in [-1, 1] there: 1e-5 of a pixel.
        np.testing.assert_allclose(record.kept(seen), wanted, rtol=0, atol=1e-4)


def test_points_are_read_as_the_processor_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its heat maps in place of the net's, all the way to points of the picture."""
    model = Sapiens2Pose.tiny(setup("pose-1b"), 0)
    five = people.Skeleton(people.SAPIENS.names[:5], (), tuple(range(5)))
    maps = torch.from_numpy(record.heat_maps())
    monkeypatch.setattr(people, "SAPIENS", five)
    monkeypatch.setattr(model, "_net", lambda batch: type("Answer", (), {"heatmaps": maps}))
    state = Encoded("", {"picture": record.photo((101, 83))}, Frame((1.0, 1.0), (0.0, 0.0), (101, 83)))
    [found] = model.pose([Prompted(state, boxes=record.BOXES)], Pose())
    for i, wanted in enumerate(GOLDEN["points of people"]):
        inside = np.clip(np.reshape(wanted, (5, 2)), 0, (83, 101))
        # float32 there; cells of the map are up to 9 pixels large.
        np.testing.assert_allclose(found.xy[i], inside, rtol=0, atol=1e-3)
        np.testing.assert_allclose(found.scores[i], np.clip(GOLDEN["scores of people"][i], 0, 1), atol=1e-5)


def test_weights_of_another_task_are_refused(tmp_path: Path) -> None:
    net = reference("parts")
    files = written(tmp_path, "parts", net, spelled(net.state_dict(), "parts"))
    with pytest.raises(BadWeights, match="the weights do not fit the net"):
        Sapiens2Maps.from_files(Setup(**{**_fields(files), "kind": "normals-0.4b"}))


def test_a_picture_is_kept_as_it_is_until_it_is_asked_about() -> None:
    image = record.photo((30, 21))
    view = bodies.pictured(image)
    assert view.pixels.shape == (3, 30, 21)
    np.testing.assert_array_equal(bodies.kept(view.pixels[None])["picture"][0], image)


def _fields(one: Setup) -> dict[str, Any]:
    return {name: getattr(one, name) for name in one.__dataclass_fields__}


def _unit(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return values / np.linalg.norm(values, axis=0, keepdims=True)
