"""OWLv2 against transformers' own processor, tokenizer, net and post-processing on shared weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image as pillow
from tokenizers import pre_tokenizers
from transformers import CLIPTokenizer, Owlv2Config, Owlv2ForObjectDetection, Owlv2Processor
from transformers.models.owlv2.image_processing_pil_owlv2 import Owlv2ImageProcessorPil

from anmok import geometry
from anmok.errors import BadRequest, BadWeights, Untranslatable
from anmok.geometry import Pixels
from anmok.inputs import Encoded
from anmok.models import owlv2
from anmok.models.owlv2 import Owlv2
from anmok.results import Detections
from anmok.tasks import Detect, Setup, TextRules

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
PIXELS = Pixels(960, "pad", "bilinear", MEAN, STD)
SMALL = Pixels(96, "pad", "bilinear", MEAN, STD)
TEMPLATE = TextRules(("a photo of a {}",))
MERGES = [("c", "a"), ("ca", "t</w>"), ("p", "h"), ("ph", "o"), ("o", "f</w>"), ("l", "i"), ("li", "g"), ("h", "t</w>")]
LABELS = ("Cat", "traffic light", "cat's tail")


def picture(size_hw: tuple[int, int], seed: int) -> NDArray[np.uint8]:
    """Smooth and noisy, so that a resize has something to keep and something to lose."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 216, (7, 9, 3), dtype=np.uint8)
    smooth = pillow.fromarray(coarse).resize((size_hw[1], size_hw[0]), pillow.Resampling.BICUBIC)
    return np.asarray(smooth) // 2 + rng.integers(0, 100, (*size_hw, 3), dtype=np.uint8)


def vocabulary() -> dict[str, int]:
    """Bytes, bytes at the end of a word, the merges, and start and end last, as in CLIP's; ``!`` is 0."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = [*alphabet, *(f"{letter}</w>" for letter in alphabet), *(first + second for first, second in MERGES)]
    assert pieces[0] == "!"
    return {piece: i for i, piece in enumerate([*dict.fromkeys(pieces), owlv2.START, owlv2.END])}


def reference() -> Any:
    count = len(vocabulary())
    text = {**owlv2.TINY_TEXT, "max_position_embeddings": 24, "vocab_size": count}
    text |= {"bos_token_id": count - 2, "eos_token_id": count - 1}
    net: Any = Owlv2ForObjectDetection(
        Owlv2Config(text_config=text, vision_config=owlv2.TINY_VISION, projection_dim=32)
    ).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            mean = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            parameter.normal_(mean, 0.12, generator=generator)
    return net


def write(folder: Path, net: Any) -> Setup:
    net.save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps(vocabulary()), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in MERGES)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    files = {path.name: path for path in folder.iterdir()}
    return Setup("owl-test", "vit-test", SMALL, TEMPLATE, "sigmoid", ("en",), files=files)


def processor() -> Owlv2Processor:
    tokenizer = CLIPTokenizer(vocab=vocabulary(), merges=MERGES, pad_token="!", model_max_length=24)
    return Owlv2Processor(Owlv2ImageProcessorPil(size={"height": 96, "width": 96}), tokenizer)


def encoded(model: Owlv2, image: NDArray[np.uint8]) -> Encoded:
    view = model.prepare(image)
    return Encoded("", {name: array[0] for name, array in model.encode(view.pixels[None]).items()}, view.frame)


def found(model: Owlv2, image: NDArray[np.uint8], ask: Detect) -> Detections:
    return model.detect([encoded(model, image)], ask)[0]


def tiny(templates: tuple[str, ...] = TEMPLATE.templates, pixels: Pixels = PIXELS) -> Owlv2:
    return Owlv2.tiny(Setup("owl-tiny", "vit-x", pixels, TextRules(templates), "sigmoid", ("en",)), 0)


@pytest.mark.parametrize("size_hw", [(61, 83), (480, 640), (1300, 700), (7, 301), (5, 2000), (960, 960), (2, 1)])
def test_pixels_equal_the_published_processor(size_hw: tuple[int, int]) -> None:
    image = picture(size_hw, 1)
    wanted = Owlv2ImageProcessorPil()(images=image, return_tensors="np")["pixel_values"][0]
    model = tiny()
    model._setup = Setup("t", "vit-x", PIXELS, TEMPLATE, "sigmoid", ("en",))
    view = model.prepare(image)
    assert view.pixels.dtype == np.float32
    np.testing.assert_allclose(view.pixels, wanted, rtol=0, atol=2e-5)  # sums of float32 in another order
    side = max(size_hw)
    np.testing.assert_allclose(view.frame.to_image(np.asarray([[960.0, 960.0]])), [[size_hw[1], size_hw[0]]])
    np.testing.assert_allclose(view.frame.scale_xy, (960 / side, 960 / side))


@pytest.mark.parametrize("size_hw", [(61, 83), (700, 1300), (40, 800), (33, 21)])
def test_a_shape_stands_where_the_frame_says(size_hw: tuple[int, int]) -> None:
    """A white box on black: its centre of mass on the canvas, led back, is its centre within half a pixel."""
    height, width = size_hw
    image = np.zeros((height, width, 3), np.uint8)
    box = np.asarray([width * 5 // 8, height // 4, width * 7 // 8, height * 3 // 4])
    image[box[1] : box[3], box[0] : box[2]] = 255
    model = tiny()
    model._setup = Setup("t", "vit-x", PIXELS, TEMPLATE, "sigmoid", ("en",))
    view = model.prepare(image)
    light = view.pixels[0] - view.pixels[0].min()
    rows, columns = (np.arange(side) + 0.5 for side in light.shape)
    centre = np.asarray([(light.sum(0) * columns).sum(), (light.sum(1) * rows).sum()]) / light.sum()
    np.testing.assert_allclose(view.frame.to_image(centre), (box[:2] + box[2:]) / 2, rtol=0, atol=0.5)


def test_tokens_equal_the_published_tokenizer(tmp_path: Path) -> None:
    model = Owlv2.from_files(write(tmp_path, reference()))
    theirs = processor().tokenizer
    for text in ("A photo of a Cat", "the cat's  tail, 42?", "naïve CAFÉ", "light"):
        assert model._tokens([text])[0] == theirs(text)["input_ids"]
    # An exclamation mark is what theirs pads with, and so it never comes through as the sign that CLIP was taught.
    assert theirs("light!")["input_ids"][-2] == 0
    assert model._tokens(["light!"])[0][-2] == vocabulary()["!</w>"]


@pytest.mark.parametrize("size_hw", [(61, 83), (150, 90)])
def test_boxes_scores_and_labels_equal_transformers(size_hw: tuple[int, int], tmp_path: Path) -> None:
    """End to end: their pixels, their tokens, their net, their post-processing."""
    net, image, theirs = reference(), picture(size_hw, 2), processor()
    model = Owlv2.from_files(write(tmp_path, net))
    texts = [[f"a photo of a {label.lower()}" for label in LABELS]]
    inputs = theirs(images=image, text=texts, return_tensors="pt")
    with torch.inference_mode():
        outputs = net(**inputs)
    [wanted] = theirs.post_process_grounded_object_detection(outputs, threshold=0.0, target_sizes=[size_hw])
    scores, boxes = wanted["scores"].numpy(), wanted["boxes"].numpy()
    assert outputs.logits.std() > 0.1  # the weights do tell patches and labels apart
    assert len(set(wanted["labels"].tolist())) > 1
    order = np.argsort(-scores, kind="stable")
    boxes = np.clip(boxes[order], 0, [size_hw[1], size_hw[0]] * 2)
    has_area = (boxes[:, 2:] - boxes[:, :2]).min(1) > 1e-3
    assert has_area.sum() > 10
    got = found(model, image, Detect(LABELS, threshold=0.0, nms=1.0))
    np.testing.assert_allclose(got.scores, scores[order][has_area], rtol=0, atol=1e-5)
    np.testing.assert_array_equal(got.class_ids, wanted["labels"].numpy()[order][has_area])
    np.testing.assert_allclose(got.xyxy, boxes[has_area], rtol=0, atol=2e-5 * max(size_hw))


def test_labels_do_not_compete() -> None:
    """500 labels in one pass, and each scores as it does alone."""
    model, image = tiny(), picture((61, 83), 3)
    labels = tuple(f"thing {number}" for number in range(500))
    together = found(model, image, Detect(labels, threshold=0.0))
    assert len(together) > 5
    for i in range(3):
        alone = found(model, image, Detect((together.names[i],), threshold=0.0, nms=1.0))
        place = np.abs(alone.xyxy - together.xyxy[i]).sum(1).argmin()
        assert alone.scores[place] == pytest.approx(together.scores[i], abs=1e-6)


def test_several_phrases_of_a_label_and_korean_labels() -> None:
    model, image = tiny(), picture((61, 83), 3)
    english = found(model, image, Detect(("cat", "dog"), threshold=0.0))
    korean = found(model, image, Detect(("고양이", "개"), threshold=0.0))
    assert korean.read_as == ("cat", "dog")
    np.testing.assert_array_equal(korean.xyxy, english.xyxy)
    groups = found(model, image, Detect(("animal",), phrases=(("cat", "dog"),), threshold=0.0, nms=1.0))
    apart = found(model, image, Detect(("cat", "dog"), threshold=0.0, nms=1.0))
    np.testing.assert_array_equal(groups.scores, apart.scores)
    with pytest.raises(Untranslatable, match="꽹과리"):
        found(model, image, Detect(("꽹과리",)))


def test_templates_are_averaged() -> None:
    one, twice = tiny(("a {}",)), tiny(("a {}", "a {}"))
    np.testing.assert_allclose(one._vectors(("cat", "dog")), twice._vectors(("cat", "dog")), rtol=0, atol=1e-6)
    mixed = tiny(("a {}", "the {} in art"))._vectors(("cat", "dog"))
    np.testing.assert_allclose(np.linalg.norm(mixed, axis=1), 1.0, rtol=0, atol=1e-5)
    assert np.abs(mixed - one._vectors(("cat", "dog"))).max() > 1e-3


def test_boxes_of_one_class_are_thinned_out_and_the_best_few_kept() -> None:
    model, image = tiny(), picture((61, 83), 3)
    everything = found(model, image, Detect(("cat", "dog"), threshold=0.0, nms=1.0))
    apart = found(model, image, Detect(("cat", "dog"), threshold=0.0, nms=0.0))
    assert 0 < len(apart) < len(everything)
    overlap = geometry.iou(apart.xyxy, apart.xyxy) - np.eye(len(apart))
    assert overlap[apart.class_ids[:, None] == apart.class_ids].max() < 1e-6
    three = found(model, image, Detect(("cat", "dog"), threshold=0.0, nms=1.0, top_k=3))
    np.testing.assert_array_equal(three.xyxy, everything.xyxy[:3])
    assert (found(model, image, Detect(("cat", "dog"))).scores > owlv2.THRESHOLD).all()
    assert len(found(model, image, Detect(("cat", "dog"), threshold=1.0))) == 0


REFUSED: list[tuple[Callable[[], Detect], str]] = [
    (lambda: Detect(), "owl-tiny finds what a text names: give labels, --labels cat,dog"),
    (lambda: Detect(("x" * 70,)), "is 81 tokens, where this model reads 64: shorten the label"),
    (lambda: Detect(("cat", "...")), "there is no word in it to look for"),
]


@pytest.mark.parametrize(("ask", "message"), REFUSED, ids=["no labels", "too long", "separators"])
def test_questions_that_make_no_sense_are_refused_in_one_line(ask: Callable[[], Detect], message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        found(tiny(), picture((8, 8), 0), ask())


def test_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    setup = write(tmp_path, reference())
    (tmp_path / "vocab.json").write_text(json.dumps({"a": 0, owlv2.END: 1}), encoding="utf-8")
    (tmp_path / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    with pytest.raises(BadWeights, match="vocab.json has no <|startoftext|>"):
        Owlv2.from_files(setup)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    (tmp_path / "config.json").write_text(json.dumps({**config, "projection_dim": 48}), encoding="utf-8")
    with pytest.raises(BadWeights, match="of another shape"):
        Owlv2.from_files(setup)
