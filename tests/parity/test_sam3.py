"""The sam3 model file against transformers' net and the arithmetic of its processor, which needs torchvision and is
restated here with the lines that it comes from (transformers 5.24)."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional
from transformers import Sam3Model
from transformers.models.sam3 import modeling_sam3

from anmok import geometry
from anmok.errors import BadRequest, BadWeights, Unsupported, Untranslatable
from anmok.geometry import Pixels, Rle
from anmok.inputs import Encoded, Prompted
from anmok.models import sam3 as family
from anmok.nets import sam3, sam3_video
from anmok.results import Detections, Masks
from anmok.tasks import Detect, Segment, Setup, TextRules, Track

HALF = (0.5, 0.5, 0.5)
PUBLISHED = Pixels(1008, "squash", "bilinear", HALF, HALF)
TOY = Pixels(sam3_video.TINY_SIZE, "squash", "bilinear", HALF, HALF)
SETUP = Setup("sam3-test", "sam3", TOY, TextRules(context=32), "sigmoid", ("en",))
# Boxes in a picture of 90 x 60 pixels: inside, over an edge, thinner than a cell of the net's map.
EXEMPLARS: Any = (((10.0, 5.0, 60.0, 40.0), 1), ((50.0, -8.0, 95.0, 30.0), 0), ((3.0, 3.0, 4.0, 5.0), 1))


@pytest.fixture(scope="module")
def model() -> family.Sam3:
    return family.Sam3.tiny(SETUP, 0)


@pytest.fixture(scope="module")
def reference(model: family.Sam3) -> Any:
    tokenizer = family.tiny_tokenizer()
    net = Sam3Model(sam3_video.tiny_config(tokenizer.get_vocab_size()).detector_config)
    net.load_state_dict(model._net.state_dict(), strict=True)
    return net.eval()


def picture(size_hw: tuple[int, int] = (60, 90), seed: int = 0) -> NDArray[np.uint8]:
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return np.ascontiguousarray(np.kron(coarse, np.ones((-(-size_hw[0] // 5), -(-size_hw[1] // 6), 1), np.uint8)))[
        : size_hw[0], : size_hw[1]
    ]


def encoded(model: family.Sam3, image: NDArray[np.uint8]) -> Encoded:
    view = model.prepare(image)
    array = model.encode(view.pixels[None])["tokens"][0]
    array.flags.writeable = False
    return Encoded("sam3-test", {"tokens": array}, view.frame)


def padded(phrase: str) -> dict[str, Tensor]:
    """As Sam3Processor makes its text (processing_sam3.py:149): 32 tokens, padded, with a mask of those that are."""
    tokenizer = family.tiny_tokenizer()
    start, end = (tokenizer.token_to_id(token) for token in (family.START, family.END))
    ids = [start, *tokenizer.encode(phrase, add_special_tokens=False).ids, end]
    mask = [1] * len(ids) + [0] * (32 - len(ids))
    return {
        "input_ids": torch.tensor([ids + [end] * (32 - len(ids))]),
        "attention_mask": torch.tensor([mask]),
    }


def boxed(size_hw: tuple[int, int]) -> dict[str, Tensor]:
    """As Sam3Processor makes its boxes (processing_sam3.py:185-196), of exemplars that lie in the picture: divided by
    its sides, centre and size."""
    height, width = size_hw
    rows = torch.tensor([geometry.clipped(np.asarray(box), size_hw).tolist() for box, _ in EXEMPLARS])
    rows = rows / torch.tensor([width, height, width, height])
    centred = torch.cat([(rows[:, :2] + rows[:, 2:]) / 2, rows[:, 2:] - rows[:, :2]], 1)
    return {"input_boxes": centred[None], "input_boxes_labels": torch.tensor([[sign for _, sign in EXEMPLARS]])}


def slow_roi_align(features: Tensor, boxes: tuple[Tensor, ...], bins: int) -> Tensor:
    """torchvision's, restated from torchvision/csrc/ops/cpu/roi_align_kernel.cpp:8-115 and roi_align_common.h:22-128
    with its defaults: spatial_scale 1, sampling_ratio -1, aligned False."""
    height, width = features.shape[-2:]
    answers = []
    for picture, rows in zip(features, boxes, strict=True):
        for x1, y1, x2, y2 in rows.tolist():
            wide, high = max(x2 - x1, 1.0), max(y2 - y1, 1.0)
            across, down = math.ceil(wide / bins), math.ceil(high / bins)
            answer = torch.zeros(len(picture), bins, bins, dtype=torch.float64)
            for i in range(bins):
                for j in range(bins):
                    for a in range(down):
                        for b in range(across):
                            y = y1 + i * high / bins + (a + 0.5) * high / bins / down
                            x = x1 + j * wide / bins + (b + 0.5) * wide / bins / across
                            if not (-1.0 <= y <= height and -1.0 <= x <= width):
                                continue
                            y, x = max(y, 0.0), max(x, 0.0)
                            top, left = min(int(y), height - 1), min(int(x), width - 1)
                            bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
                            dy, dx = (0.0 if top == height - 1 else y - top), (0.0 if left == width - 1 else x - left)
                            upper = picture[:, top, left] * (1 - dx) + picture[:, top, right] * dx
                            lower = picture[:, bottom, left] * (1 - dx) + picture[:, bottom, right] * dx
                            answer[:, i, j] += upper * (1 - dy) + lower * dy
            answers.append(answer / (across * down))
    return torch.stack(answers).to(features)


def test_pooling_equals_torchvisions_arithmetic() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(5, 9, 12, generator=generator)
    low = torch.rand(20, 2, generator=generator) * torch.tensor([14.0, 11.0]) - 2
    boxes = torch.cat([low, low + torch.rand(20, 2, generator=generator) * 9], 1)
    edges = torch.tensor(
        [[0.0, 0, 12, 9], [3, 3, 3, 3], [-4, -4, -2, -2], [11, 8, 12, 9], [0, 0, 7, 7], [13, 10, 15, 11]]
    )
    boxes = torch.cat([boxes, edges])
    wanted = slow_roi_align(features[None], (boxes,), 7)
    torch.testing.assert_close(sam3.roi_align(features, boxes, 7), wanted, rtol=1e-5, atol=1e-5)
    assert sam3.roi_align(features, boxes[:0], 7).shape == (0, 5, 7, 7)


@pytest.mark.parametrize("phrase", ["cat", "a small red car", "x"])
@pytest.mark.parametrize("has_boxes", [False, True], ids=["words", "words and exemplars"])
def test_finds_equal_transformers(
    model: family.Sam3, reference: Any, phrase: str, has_boxes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Encoded once, without padded text and with pooling of our own, against the whole net on padded text."""
    stub = SimpleNamespace(ops=SimpleNamespace(roi_align=slow_roi_align))
    monkeypatch.setattr(modeling_sam3, "torchvision", stub, raising=False)
    image = picture()
    state, view = encoded(model, image), model.prepare(image)
    boxes = boxed((60, 90)) if has_boxes else {}
    with torch.inference_mode():
        wanted = reference(pixel_values=torch.from_numpy(view.pixels)[None], **padded(phrase), **boxes)
        seen = sam3.seen(model._net, torch.tensor(state.maps["tokens"])[None])
        mine = model._exemplars(EXEMPLARS if has_boxes else (), state.place)
        found = sam3.found(model._net, seen, model._read(phrase), *mine)
    scores = wanted.pred_logits[0].sigmoid() * wanted.presence_logits[0].sigmoid()
    assert float(np.ptp(wanted.pred_masks.numpy())) > 1  # the weights do tell the places apart
    torch.testing.assert_close(found.scores, scores, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.xyxy, wanted.pred_boxes[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.masks, wanted.pred_masks[0], rtol=1e-4, atol=1e-4)


def test_words_and_exemplars_are_read(model: family.Sam3) -> None:
    state = encoded(model, picture())
    answers = [
        model.segment([Prompted(state, exemplars=boxes)], Segment(labels, threshold=0.0))[0]
        for boxes in ((), EXEMPLARS[:1], EXEMPLARS[1:2])
        for labels in (("cat",), ("dog",))
    ]
    assert len({round(float(one.scores[0]), 7) for one in answers}) == len(answers)


def processed(outputs: Any, threshold: float, size_hw: tuple[int, int]) -> dict[str, Tensor]:
    """post_process_instance_segmentation, restated from image_processing_sam3.py:887-939 and its _scale_boxes."""
    scores = outputs.pred_logits.sigmoid() * outputs.presence_logits.sigmoid()
    height, width = size_hw
    boxes = outputs.pred_boxes * torch.tensor([width, height, width, height])
    keep = scores[0] > threshold
    grids = outputs.pred_masks.sigmoid()[0][keep]
    whole = functional.interpolate(grids[None], size=size_hw, mode="bilinear", align_corners=False)[0]
    return {
        "scores": scores[0][keep],
        "boxes": boxes[0][keep],
        "masks": whole > 0.5,
        "sure": (whole - 0.5).abs() > 1e-4,
    }


@pytest.mark.parametrize("size_hw", [(60, 90), (200, 11), (33, 300), (1, 1)])
def test_answers_equal_the_processors(model: family.Sam3, reference: Any, size_hw: tuple[int, int]) -> None:
    image = picture(size_hw, 3)
    state, view = encoded(model, image), model.prepare(image)
    with torch.inference_mode():
        outputs = reference(pixel_values=torch.from_numpy(view.pixels)[None], **padded("cat"))
    scores = (outputs.pred_logits.sigmoid() * outputs.presence_logits.sigmoid())[0]
    threshold = float(scores.sort().values[2:4].mean())  # between two of the eight
    wanted = processed(outputs, threshold, size_hw)
    order = wanted["scores"].argsort(descending=True, stable=True)
    [boxes] = model.detect([state], Detect(("cat",), threshold=threshold))
    assert isinstance(boxes, Detections)
    assert len(boxes) == len(order) == 5
    # Sides of up to 300 pixels.
    clipped = geometry.clipped(wanted["boxes"][order].numpy(), size_hw)
    np.testing.assert_allclose(boxes.xyxy, clipped, rtol=1e-4, atol=3e-3)
    np.testing.assert_allclose(boxes.scores, wanted["scores"][order], rtol=1e-4)
    [found] = model.segment([state], Segment(("cat",), threshold=threshold))
    assert isinstance(found, Masks)
    drawn = [
        (mask.numpy(), sure.numpy()) for mask, sure in zip(wanted["masks"][order], wanted["sure"][order], strict=True)
    ]
    drawn = [(mask, sure) for mask, sure in drawn if mask.any()]  # we leave empty masks out
    assert len(found) == len(drawn)
    for rle, (mask, sure) in zip(found.rles, drawn, strict=True):
        assert (rle.mask() == mask)[sure].all()


@pytest.mark.parametrize("size_hw", [(61, 83), (1080, 1920), (5, 203), (301, 7), (1, 1), (1008, 1008), (1500, 100)])
def test_preprocessing_equals_the_processors(size_hw: tuple[int, int]) -> None:
    """Sam3ImageProcessor (image_processing_sam3.py:402-412): a resize of bytes by torchvision, which on a processor is
    torch's own, then by 255, less 0.5, by 0.5."""
    image = np.random.default_rng(1).integers(0, 256, (*size_hw, 3), dtype=np.uint8)
    small = torch.from_numpy(image.transpose(2, 0, 1).copy())[None]
    small = functional.interpolate(small, (1008, 1008), mode="bilinear", align_corners=False, antialias=True)
    wanted = (small[0].float() / 255 - 0.5) / 0.5
    view = geometry.view(image, PUBLISHED)
    np.testing.assert_allclose(view.pixels, wanted, rtol=0, atol=1.001 / 255 / 0.5)


def test_labels_are_the_callers_own(model: family.Sam3) -> None:
    state = encoded(model, picture())
    [both] = model.detect([state], Detect(("cat", "dog"), threshold=0.0))
    [cat] = model.detect([state], Detect(("cat",), threshold=0.0))
    [dog] = model.detect([state], Detect(("dog",), threshold=0.0))
    assert both.labels == ("cat", "dog")
    assert both.read_as == ("cat", "dog")
    assert (np.diff(both.scores) <= 0).all()
    for index, alone in enumerate((cat, dog)):
        np.testing.assert_array_equal(both[both.class_ids == index].xyxy, alone.xyxy)
    [swapped] = model.detect([state], Detect(("dog", "cat"), threshold=0.0))
    np.testing.assert_array_equal(swapped[swapped.class_ids == 1].scores, cat.scores)
    [few] = model.detect([state], Detect(("cat", "dog"), threshold=0.0, top_k=3))
    np.testing.assert_array_equal(few.scores, both.scores[:3])


def test_korean_labels_are_read_in_english(model: family.Sam3) -> None:
    state = encoded(model, picture())
    [korean], [english] = (model.segment([state], Segment((label,), threshold=0.0)) for label in ("고양이", "cat"))
    assert korean.labels == ("고양이",)
    assert korean.read_as == ("cat",)
    assert korean.rles == english.rles
    with pytest.raises(Untranslatable):
        model.detect([state], Detect(("꽹과리",)))


def test_phrases_of_one_label_find_a_thing_once(model: family.Sam3) -> None:
    state = encoded(model, picture())
    [one] = model.detect([state], Detect(("animal",), phrases=(("cat",),), threshold=0.0))
    [two] = model.detect([state], Detect(("animal",), phrases=(("cat", "dog"),), threshold=0.0))
    [apart] = model.detect([state], Detect(("animal",), phrases=(("cat", "dog"),), threshold=0.0, nms=1.0))
    assert set(two.names) == {"animal"}
    assert len(apart) == 2 * len(one) == 16
    assert len(two) < len(apart)
    overlaps = geometry.iou(two.xyxy, two.xyxy) - np.eye(len(two))
    assert overlaps.max() <= family.SAME


def test_exemplars_without_a_label_have_no_name(model: family.Sam3) -> None:
    state = encoded(model, picture())
    [found] = model.segment([Prompted(state, exemplars=EXEMPLARS)], Segment(threshold=0.0))
    assert len(found) > 0
    assert found.labels == ()
    [named] = model.segment([Prompted(state, exemplars=EXEMPLARS)], Segment(("visual",), threshold=0.0))
    assert named.rles == found.rles  # "visual" is what the net reads where there are no words


def test_what_it_does_not_do_is_refused(model: family.Sam3) -> None:
    state = encoded(model, picture())
    with pytest.raises(Unsupported, match="does not segment everything"):
        model.segment([state], Segment())
    with pytest.raises(BadRequest, match="sam3-test needs labels"):
        model.detect([state], Detect())
    with pytest.raises(Unsupported, match="finds all of a kind"):
        model.segment([Prompted(state, points=((1, 1, 1),))], Segment())
    with pytest.raises(Unsupported, match="finds all of a kind"):
        model.segment([Prompted(state, mask=Rle.of(np.ones((60, 90), bool)))], Segment(("cat",)))
    with pytest.raises(BadRequest, match="give exemplars, labels, or both"):
        model.segment([Prompted(state)], Segment())
    with pytest.raises(BadRequest, match="one label, not for 2"):
        model.segment([Prompted(state, exemplars=EXEMPLARS)], Segment(("cat", "dog")))
    with pytest.raises(BadRequest, match="has 40 tokens; sam3-test reads 30: shorten it"):
        model.detect([state], Detect(("x" * 40,)))


@pytest.mark.parametrize("layout", ["sam3", "sam3_video"])
def test_hub_files_load(model: family.Sam3, tmp_path: Path, layout: str) -> None:
    """The published file, detector and tracker under one configuration; and one of the detector alone."""
    net: Any = model._whole if layout == "sam3_video" else model._net
    state = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    save_file(state, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(net.config.to_dict()))
    family.tiny_tokenizer().save(str(tmp_path / "tokenizer.json"))
    files = {path.name: path for path in tmp_path.iterdir()}
    setup = Setup("sam3-test", "sam3", TOY, SETUP.text, "sigmoid", ("en",), files=files)
    again = family.Sam3.from_files(setup)
    mine, its = encoded(model, picture()), encoded(again, picture())
    np.testing.assert_array_equal(mine.maps["tokens"], its.maps["tokens"])
    [first], [second] = (one.detect([mine], Detect(("cat",), threshold=0.0)) for one in (model, again))
    np.testing.assert_array_equal(first.xyxy, second.xyxy)
    if layout == "sam3_video":
        ask, image = Track(("cat",), threshold=0.0), picture()
        pieces = [one.follow(ask).step(0, 0.0, image, ()) for one in (model, again)]
        assert pieces[0].masks.rles == pieces[1].masks.rles
    else:
        with pytest.raises(Unsupported, match="holds no tracker, only the detector"):
            again.follow(Track(("cat",)))
    save_file(dict(list(state.items())[1:]), tmp_path / "model.safetensors")
    with pytest.raises(BadWeights, match="1 missing"):
        family.Sam3.from_files(setup)


def test_half_precision_is_for_the_picture_alone() -> None:
    setup = Setup("sam3-test", "sam3", TOY, SETUP.text, "sigmoid", ("en",), dtype="bfloat16")
    small = family.Sam3.tiny(setup, 0)
    assert next(small._net.vision_encoder.backbone.parameters()).dtype == torch.bfloat16
    assert next(small._net.detr_decoder.parameters()).dtype == torch.float32
    [found] = small.detect([encoded(small, picture())], Detect(("cat",), threshold=0.0))
    assert len(found) == 8
