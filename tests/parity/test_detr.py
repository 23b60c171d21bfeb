"""RT-DETR v2, D-FINE and RF-DETR against transformers' own processing and nets on shared weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image as pillow
from torch.nn import functional
from transformers.models.rt_detr.image_processing_pil_rt_detr import RTDetrImageProcessorPil

from anmok.errors import BadRequest, BadWeights, Untranslatable
from anmok.geometry import Pixels
from anmok.inputs import Encoded
from anmok.models import detr
from anmok.models.detr import COCO, Detr
from anmok.results import Detections
from anmok.tasks import Detect, Setup, TextRules

PLAIN = Pixels(640, "squash", "bilinear", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
IMAGENET = Pixels(560, "squash", "bilinear", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
PIXELS = {"rt_detr_v2": PLAIN, "d_fine": PLAIN, "rf_detr": IMAGENET}
KINDS = list(detr.NETS)
# As COCO's own numbers have it: there is no class 0, and some further on are missing.
GAPPED = {0: "N/A", 1: "person", 2: "bicycle", 3: "N/A", 4: "motorbike", 5: "sofa", 6: "traffic light"}


def picture(size_hw: tuple[int, int], seed: int) -> NDArray[np.uint8]:
    """Smooth, so that a resize has something to keep."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (7, 9, 3), dtype=np.uint8)
    return np.asarray(pillow.fromarray(coarse).resize((size_hw[1], size_hw[0]), pillow.Resampling.BICUBIC))


def setup_of(kind: str, size: int = 64, files: Mapping[str, Path] | None = None) -> Setup:
    pixels = Pixels(size, "squash", "bilinear", PIXELS[kind].mean, PIXELS[kind].std)
    return Setup("detr-test", f"{kind}-test", pixels, TextRules(), "sigmoid", (), files=files or {})


def reference(kind: str, names: Mapping[int, str]) -> Any:
    config, net_kind = detr.NETS[kind]
    net: Any = net_kind(config(**detr.TINY[kind], id2label=dict(names))).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.endswith(("up", "reg_scale")):  # D-FINE's constants
                continue
            is_scale = parameter.dim() == 1 and name.endswith("weight")
            parameter.normal_(1.0 if is_scale else 0.0, 0.15, generator=generator)
    return net


def loaded(folder: Path, kind: str, net: Any) -> Detr:
    """Through files as the hub has them."""
    net.save_pretrained(folder)
    return Detr.from_files(setup_of(kind, files={path.name: path for path in folder.iterdir()}))


def encoded(model: Detr, image: NDArray[np.uint8]) -> Encoded:
    view = model.prepare(image)
    return Encoded("", {name: array[0] for name, array in model.encode(view.pixels[None]).items()}, view.frame)


def found(model: Detr, image: NDArray[np.uint8], ask: Detect) -> Detections:
    return model.detect([encoded(model, image)], ask)[0]


@pytest.mark.parametrize("size_hw", [(61, 83), (480, 640), (900, 700)])
@pytest.mark.parametrize("kind", ["rt_detr_v2", "d_fine"])
def test_pixels_equal_the_published_processor(kind: str, size_hw: tuple[int, int]) -> None:
    image = picture(size_hw, 1)
    wanted = RTDetrImageProcessorPil()(images=image, return_tensors="np")["pixel_values"][0]
    net = reference(kind, {0: "thing"})
    got = Detr(setup_of(kind, 640), net).prepare(image).pixels
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-6 + 1 / 255)
    assert np.abs(got - wanted).mean() < 1e-3


@pytest.mark.parametrize("size_hw", [(61, 83), (480, 640), (900, 700)])
def test_pixels_of_rf_detr_equal_its_own_arithmetic(size_hw: tuple[int, int]) -> None:
    """roboflow/rf-detr at 35ac6ab, rfdetr/detr.py lines 316 to 335: to [0, 1], ImageNet statistics, then torchvision's
    resize of a tensor, which is torch's with antialiasing. (transformers 5.24 leaves the antialiasing out.)"""
    image = picture(size_hw, 1)
    mean, std = (torch.tensor(row)[:, None, None] for row in (IMAGENET.mean, IMAGENET.std))
    unit = (torch.tensor(image).permute(2, 0, 1) / 255 - mean) / std
    wanted = functional.interpolate(unit[None], (560, 560), mode="bilinear", antialias=True)[0].numpy()
    got = Detr(setup_of("rf_detr", 560), reference("rf_detr", {0: "thing"})).prepare(image).pixels
    # Ours is rounded to whole grey levels in both directions of the resize.
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1.5 / 255 / 0.224)
    assert np.abs(got - wanted).mean() < 0.5 / 255 / 0.224


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size_hw", [(61, 83), (40, 200)])
def test_boxes_scores_and_names_equal_transformers(kind: str, size_hw: tuple[int, int], tmp_path: Path) -> None:
    """End to end: their pixels (ours, where their processor needs torchvision), their net, their post-processing."""
    net, image = reference(kind, dict(enumerate(COCO))), picture(size_hw, 2)
    model = loaded(tmp_path, kind, net)
    theirs = RTDetrImageProcessorPil(size={"height": 64, "width": 64})
    pixels = model.prepare(image).pixels[None]
    if kind != "rf_detr":
        pixels = theirs(images=image, return_tensors="np")["pixel_values"]
    with torch.inference_mode():
        outputs = net(pixel_values=torch.from_numpy(pixels))
    [wanted] = theirs.post_process_object_detection(outputs, threshold=0.0, target_sizes=[size_hw])
    got = found(model, image, Detect(threshold=0.0))
    assert outputs.logits.std() > 0.05  # the weights do tell queries and classes apart
    boxes = np.clip(wanted["boxes"].numpy(), 0, [size_hw[1], size_hw[0]] * 2)
    has_area = (boxes[:, 2:] - boxes[:, :2]).min(1) > 1e-3
    assert has_area.sum() > 5
    # 2e-5: our pixels are the processor's to the last bit of a float, and the sigmoid flattens what that moves.
    np.testing.assert_allclose(got.scores, wanted["scores"].numpy()[has_area], rtol=0, atol=2e-5)
    np.testing.assert_array_equal(got.class_ids, wanted["labels"].numpy()[has_area])
    np.testing.assert_allclose(got.xyxy, boxes[has_area], rtol=0, atol=2e-5 * max(size_hw))
    assert got.labels == model.vocabulary == COCO


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_without_a_class_are_never_found(kind: str, tmp_path: Path) -> None:
    model = loaded(tmp_path, kind, reference(kind, GAPPED))
    assert model.vocabulary == ("person", "bicycle", "motorbike", "sofa", "traffic light")
    image = picture((61, 83), 3)
    got = found(model, image, Detect(threshold=0.0))
    scores = np.asarray(encoded(model, image).maps["scores"])[:, [1, 2, 4, 5, 6]]  # (Q, 5)
    best = np.sort(scores.ravel())[::-1][: len(scores)]
    assert set(got.scores.tolist()) <= set(best.tolist())
    assert got.labels == model.vocabulary


@pytest.mark.parametrize("kind", KINDS)
def test_a_subset_counts_in_the_callers_labels(kind: str) -> None:
    model, image = Detr.tiny(setup_of(kind), 0), picture((61, 83), 4)
    scores = np.asarray(encoded(model, image).maps["scores"])  # (Q, 80)
    labels = ("Traffic Light", "고양이", "sofa")
    got = found(model, image, Detect(labels, threshold=0.0))
    columns = [COCO.index("traffic light"), COCO.index("cat"), COCO.index("couch")]
    best = np.sort(scores[:, columns].ravel())[::-1][: len(scores)]
    assert got.labels == labels
    assert got.read_as == ("Traffic Light", "cat", "sofa")
    assert len(got) > 3
    np.testing.assert_array_equal(got.scores, best[: len(got)])
    pets = found(model, image, Detect(("pet",), phrases=(("cat", "dog"),), threshold=0.0))
    both = scores[:, [COCO.index("cat"), COCO.index("dog")]].max(1)
    np.testing.assert_array_equal(pets.scores, np.sort(both)[::-1])
    assert set(pets.names) == {"pet"}


def test_unknown_names_are_refused_with_the_nearest() -> None:
    model, image = Detr.tiny(setup_of("d_fine"), 0), picture((8, 8), 0)
    with pytest.raises(BadRequest, match="trafic light is none of the 80 classes of this model; did you mean traffic "):
        found(model, image, Detect(("trafic light",)))
    with pytest.raises(BadRequest, match="호랑이 .tiger. is none of the 80 classes"):
        found(model, image, Detect(("호랑이",)))
    with pytest.raises(Untranslatable, match="꽹과리"):
        found(model, image, Detect(("꽹과리",)))


def test_threshold_top_k_and_thinning_on_request() -> None:
    model, image = Detr.tiny(setup_of("rt_detr_v2"), 0), picture((61, 83), 4)
    everything = found(model, image, Detect(threshold=0.0))
    assert len(everything) == 30
    assert (np.diff(everything.scores) <= 0).all()
    np.testing.assert_array_equal(found(model, image, Detect(threshold=0.0, top_k=4)).xyxy, everything.xyxy[:4])
    assert (found(model, image, Detect()).scores > detr.THRESHOLD).all()
    assert len(found(model, image, Detect(threshold=1.0))) == 0
    apart = found(model, image, Detect(("person",), threshold=0.0, nms=0.0))
    assert 0 < len(apart) < 30


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    net = reference("rt_detr_v2", dict(enumerate(COCO)))
    net.save_pretrained(tmp_path)
    content = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    (tmp_path / "config.json").write_text(json.dumps({**content, "model_type": "detr"}), encoding="utf-8")
    with pytest.raises(BadWeights, match="config.json is of a 'detr', not of a rt_detr_v2"):
        Detr.from_files(setup_of("rt_detr_v2", files={path.name: path for path in tmp_path.iterdir()}))
