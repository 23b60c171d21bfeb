"""Depth Anything V2 against its authors' net on the same drawn weights, and against transformers' processor."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation
from transformers.models.dpt.image_processing_pil_dpt import DPTImageProcessorPil

from anmok.load import tiny
from anmok.models.depth_anything import canvas_size
from anmok.results import DepthMap
from battery import picture
from golden import record_depth_anything as recorded

SIZES = ((480, 640), (61, 83), (1080, 1920), (518, 518), (400, 300), (700, 1400), (30, 600))


def config(kind: str) -> DepthAnythingConfig:
    backbone = {
        "model_type": "dinov2",
        "image_size": recorded.SIZE,
        "patch_size": 14,
        "hidden_size": recorded.WIDTH,
        "num_hidden_layers": recorded.DEPTH,
        "num_attention_heads": recorded.HEADS,
        "out_indices": [1, 2, 3, 4],
        "reshape_hidden_states": False,
        "apply_layernorm": True,
    }
    return DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=recorded.WIDTH,
        neck_hidden_sizes=list(recorded.LEVELS),
        fusion_hidden_size=recorded.FUSED,
        head_hidden_size=recorded.LAST,
        depth_estimation_type=kind,
        max_depth=int(recorded.MAX_DEPTH) if kind == "metric" else 1,  # transformers multiplies both kinds by it
    )


def processor(size: int = 518) -> DPTImageProcessorPil:
    """As the published preprocessor_config.json has it."""
    return DPTImageProcessorPil(
        size={"height": size, "width": size},
        keep_aspect_ratio=True,
        ensure_multiple_of=14,
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
    )


@pytest.mark.parametrize("kind", ["relative", "metric"])
def test_the_net_is_that_of_the_authors(kind: str) -> None:
    net = DepthAnythingForDepthEstimation(config(kind)).eval()
    net.load_state_dict(recorded.drawn({name: tuple(t.shape) for name, t in net.state_dict().items()}))
    with torch.inference_mode():
        depth = net(pixel_values=torch.from_numpy(recorded.picture())).predicted_depth[0].numpy()
    wanted = json.loads(recorded.FILE.read_text(encoding="utf-8"))[kind]
    got = depth.ravel()[:: depth.size // recorded.KEPT][: recorded.KEPT]
    assert np.ptp(wanted["sample"]) > 0.1  # the drawn net does not answer with a constant
    np.testing.assert_allclose(got, wanted["sample"], rtol=1e-4, atol=1e-4)
    assert float(depth.mean()) == pytest.approx(wanted["mean"], rel=1e-4)


@pytest.mark.parametrize("size_hw", SIZES)
def test_canvases_are_those_of_the_processor(size_hw: tuple[int, int]) -> None:
    image = picture(size_hw, 3)
    wanted = processor()(image, return_tensors="np")["pixel_values"][0]
    assert canvas_size(*size_hw, 518) == wanted.shape[1:]


@pytest.mark.parametrize("size_hw", [(61, 83), (90, 31)])
def test_answers_are_those_of_processor_and_net(size_hw: tuple[int, int]) -> None:
    model, image = tiny("depth-anything-v2-s"), picture(size_hw, 3)
    theirs = processor(70)
    pixels = theirs(image, return_tensors="pt")["pixel_values"]
    # The same filter and order of roundings; 1e-6 is float32.
    np.testing.assert_allclose(model.kind.prepare(image).pixels, pixels[0].numpy(), rtol=0, atol=1e-6)
    with torch.inference_mode():
        outputs = model.kind._net(pixel_values=pixels)
    [wanted] = theirs.post_process_depth_estimation(outputs, target_sizes=[size_hw])
    answer = model.depth(image)
    assert isinstance(answer, DepthMap)
    assert answer.kind == "disparity"
    np.testing.assert_allclose(answer.depth, wanted["predicted_depth"].clamp(min=0).numpy(), rtol=0, atol=1e-5)


def test_metres_stay_below_the_longest() -> None:
    answer = tiny("depth-anything-v2-s-indoor").depth(picture((61, 83), 3))
    assert (answer.kind, answer.unit) == ("metric", "m")
    assert 0 <= answer.depth.min() <= answer.depth.max() <= 20.5  # bicubic interpolation overshoots a little


def test_a_strip_keeps_a_patch() -> None:
    assert canvas_size(1, 2000, 518) == (14, 518)
    assert canvas_size(1, 1, 518) == (518, 518)
