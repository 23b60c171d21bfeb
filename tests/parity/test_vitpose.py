"""The vitpose model file against transformers: the nets on shared random weights, and its image processor."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from transformers import VitPoseConfig, VitPoseForPoseEstimation
from transformers.models.vitpose.image_processing_pil_vitpose import VitPoseImageProcessorPil

from anmok import people
from anmok.errors import BadWeights
from anmok.geometry import Frame, Pixels
from anmok.inputs import Encoded, Prompted
from anmok.models import vitpose
from anmok.models.vitpose import VitPose
from anmok.nets import heatmaps
from anmok.tasks import Pose, Setup, TextRules

PIXELS = Pixels(256, "squash", "bilinear", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
STEP = 1 / 255 / 0.224 * 1.01  # of a picture of 256 steps, normalised
BOXES = ((10.0, 5.0, 40.0, 90.0), (20.5, 3.0, 80.25, 30.0), (60.0, 70.0, 72.0, 88.0))  # xyxy
SIZE_HW = (64, 48)


def xywh() -> list[list[list[float]]]:
    return [[[left, top, right - left, bottom - top] for left, top, right, bottom in BOXES]]


def photo() -> NDArray[np.uint8]:
    y, x = np.mgrid[0:101, 0:83]
    waves = np.stack([np.sin(x / 9 + y / 14), np.cos(x / 11 - y / 8), np.sin(y / 7)], -1)
    return np.round(127.5 + 110 * waves).astype(np.uint8)


def processor() -> Any:
    return VitPoseImageProcessorPil(size={"height": SIZE_HW[0], "width": SIZE_HW[1]})


def setup(kind: str, folder: Path | None = None) -> Setup:
    files = {path.name: path for path in folder.iterdir()} if folder is not None else {}
    return Setup("vitpose-test", kind, PIXELS, TextRules(), "softmax", (), files=files, parts={"detector": None})


def reference(kind: str) -> Any:
    net: Any = VitPoseForPoseEstimation(VitPoseConfig(**vitpose.TINY[kind]))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_(0.5 if parameter.dim() == 1 else 0.0, 0.3, generator=generator)
        for name, buffer in net.named_buffers():
            if name.endswith("running_var"):
                buffer.uniform_(0.5, 2.0, generator=generator)
        net.head.conv.weight.mul_(0.01)  # heat maps are small: above 50 they are cut off
    return net.eval()


def loaded(kind: str, folder: Path) -> tuple[VitPose, Any]:
    net = reference(kind)
    save_file({name: tensor.contiguous() for name, tensor in net.state_dict().items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({**net.config.to_dict(), "model_type": "vitpose"}))
    return VitPose.from_files(setup(f"{kind}-b", folder)), net


def state() -> Encoded:
    return Encoded("", {"picture": photo()}, Frame((1.0, 1.0), (0.0, 0.0), (101, 83)))


def cut_out() -> NDArray[np.float32]:
    style = heatmaps.Style(SIZE_HW, PIXELS.mean, PIXELS.std, edge="cut")
    cuts = [heatmaps.cut_around(np.asarray(box), SIZE_HW) for box in BOXES]
    return np.stack([heatmaps.seen_by(photo(), cut, style) for cut in cuts])


def test_people_are_cut_out_as_the_processor_does() -> None:
    wanted = processor()(images=photo(), boxes=xywh(), return_tensors="np")["pixel_values"]
    got = cut_out()
    assert got.shape == wanted.shape
    # Its matrix is float32: a value that lies between two steps of 255 may be rounded to the other one.
    assert (np.abs(got - wanted) > 1e-5).mean() < 0.001
    np.testing.assert_allclose(got, wanted, rtol=0, atol=STEP)


@pytest.mark.parametrize("kind", list(vitpose.TINY))
def test_points_equal_those_of_transformers(kind: str, tmp_path: Path) -> None:
    """The library's net on the same pixels, and its way back to the picture."""
    model, net = loaded(kind, tmp_path)
    pixels = torch.from_numpy(cut_out())
    with torch.inference_mode():
        experts = torch.zeros(len(BOXES), dtype=torch.int64) if kind == "plus" else None
        maps = net(pixels, dataset_index=experts).heatmaps
    assert maps.std() > 0.01
    np.testing.assert_allclose(model._maps(cut_out()), maps, rtol=0, atol=1e-5)
    [found] = model.pose([Prompted(state(), boxes=BOXES)], Pose())
    assert found.names == people.COCO.names
    wanted = processor().post_process_pose_estimation(SimpleNamespace(heatmaps=maps), boxes=xywh())[0]
    agreeing = 0
    for i, person in enumerate(wanted):
        inside = np.clip(person["keypoints"].numpy(), 0, (83, 101))
        np.testing.assert_allclose(found.scores[i], np.clip(person["scores"].numpy(), 0, 1), rtol=0, atol=1e-5)
        agreeing += int((np.abs(found.xy[i] - inside).max(-1) < 1e-3).sum())
    # Maps of random nets have no peaks; where the library's parabola opens upwards, our point stays on its pixel.
    assert agreeing > 0.9 * 3 * 17


def test_peaks_between_pixels_are_those_of_the_processor() -> None:
    rng = np.random.default_rng(2)
    y, x = np.mgrid[0:16, 0:12]
    maps = np.zeros((3, 17, 16, 12), np.float32)
    for i, k in np.ndindex(3, 17):
        at = rng.uniform((1, 1), (10, 14))
        maps[i, k] = rng.uniform(0.2, 1) * np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / (2 * (1 + k % 3) ** 2))
        maps[i, k] += rng.uniform(0, 0.01, (16, 12))
    wanted = processor().post_process_pose_estimation(SimpleNamespace(heatmaps=torch.from_numpy(maps)), boxes=xywh())[0]
    places, _ = heatmaps.peaks(torch.from_numpy(maps), sigma=0.8)
    for box, tops, person in zip(BOXES, places, wanted, strict=True):
        got = heatmaps.cut_around(np.asarray(box), SIZE_HW).to_image(tops, (16, 12))
        # Its scale is float32 and divided by 200 and multiplied again: 1e-5 of up to 110 pixels.
        np.testing.assert_allclose(got, person["keypoints"], rtol=0, atol=2e-3)


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    loaded("simple", tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**content, "use_simple_decoder": False}))
    with pytest.raises(BadWeights, match="vitpose-test: the weights do not fit the net"):
        VitPose.from_files(setup("classic-b", tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({**content, "model_type": "vit"}))
    with pytest.raises(BadWeights, match="config.json is of a 'vit', not of a vitpose"):
        VitPose.from_files(setup("simple-b", tmp_path))
