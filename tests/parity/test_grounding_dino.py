"""Grounding DINO and MM-Grounding-DINO on shared weights: against transformers' own processor, tokenizer and net, and
the former against what its authors' code answers, recorded in a golden."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image as pillow
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import BertTokenizer, GroundingDinoProcessor
from transformers.models.grounding_dino.image_processing_pil_grounding_dino import GroundingDinoImageProcessorPil
from transformers.models.grounding_dino.modeling_grounding_dino import (
    generate_masks_with_special_tokens_and_transfer_map,
)

from anmok import geometry
from anmok.errors import BadRequest, BadWeights, Untranslatable
from anmok.geometry import Pixels, View
from anmok.inputs import Encoded
from anmok.models import grounding_dino
from anmok.models.grounding_dino import GroundingDino
from anmok.nets.grounding_dino import Grounding
from anmok.results import Detections
from anmok.tasks import Detect, Setup, TextRules
from anmok.words import naming
from golden import record_grounding_dino as record

PIXELS = Pixels(800, "short", "bilinear", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), longest=1333)
SMALL = Pixels(96, "short", "bilinear", PIXELS.mean, PIXELS.std, longest=160)
KINDS = list(grounding_dino.NETS)
SIZES: dict[str, Any] = {**grounding_dino.TINY, "encoder_layers": 2, "decoder_layers": 3, "num_queries": 20}
LABELS = ("Traffic Light", "light", "a dog's ball")


def picture(size_hw: tuple[int, int], seed: int) -> NDArray[np.uint8]:
    """Smooth, so that a resize has something to keep."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (7, 9, 3), dtype=np.uint8)
    return np.asarray(pillow.fromarray(coarse).resize((size_hw[1], size_hw[0]), pillow.Resampling.BICUBIC))


def vocabulary() -> dict[str, int]:
    """A few WordPieces, one word among them in two pieces, with BERT's special ids where BERT has them."""
    special = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, "[MASK]": 103, ".": 1012, "?": 1029}
    letters = "abcdefghijklmnopqrstuvwxyz0123456789'-"
    pieces = ["tra", "##ffic", "light", "dog", "ball", "two", "cat", "##s", "cafe", "red", "car", "thing"]
    pieces += [one for one in (*letters, *(f"##{letter}" for letter in letters)) if one != "##s"]
    return special | {piece: 200 + i for i, piece in enumerate(pieces)}


def reference(kind: str) -> Any:
    config, net_kind = grounding_dino.NETS[kind]
    net: Any = net_kind(config(**SIZES)).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            mean = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            parameter.normal_(mean, 0.1, generator=generator)
    return net


def write(folder: Path, kind: str, net: Any) -> Setup:
    """As the hub has it: names of the published checkpoints, which ``save_pretrained`` writes."""
    net.save_pretrained(folder)
    BertTokenizer(vocab=vocabulary()).save_pretrained(folder)
    files = {path.name: path for path in folder.iterdir()}
    return Setup("gdino-test", f"{kind}-tiny", SMALL, TextRules(), "sigmoid", ("en",), files=files)


def processor(folder: Path) -> GroundingDinoProcessor:
    size = {"shortest_edge": SMALL.size, "longest_edge": SMALL.longest}
    return GroundingDinoProcessor(GroundingDinoImageProcessorPil(size=size), BertTokenizer.from_pretrained(folder))


def encoded(model: GroundingDino, image: NDArray[np.uint8]) -> Encoded:
    view = model.prepare(image)
    return Encoded("", {name: array[0] for name, array in model.encode(view.pixels[None]).items()}, view.frame)


def found(model: GroundingDino, image: NDArray[np.uint8], ask: Detect) -> Detections:
    return model.detect([encoded(model, image)], ask)[0]


@pytest.mark.parametrize("size_hw", [(61, 83), (480, 640), (640, 480), (50, 83), (30, 29), (800, 900)])
def test_pixels_equal_the_published_processor(size_hw: tuple[int, int]) -> None:
    image = picture(size_hw, 1)
    wanted = GroundingDinoImageProcessorPil()(images=image, return_tensors="np")["pixel_values"][0]
    model = GroundingDino.tiny(Setup("t", "grounding_dino-t", PIXELS, TextRules(), "sigmoid", ("en",)), 0)
    model._setup = Setup("t", "grounding_dino-t", PIXELS, TextRules(), "sigmoid", ("en",))
    got = model.prepare(image).pixels
    assert got.shape == wanted.shape
    # One grey level after normalising is at most 1 / 255 / 0.224.
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-5 + 1 / 255 / 0.224)
    assert np.abs(got - wanted).mean() < 1e-3


def test_tokens_masks_and_places_equal_the_published_ones(tmp_path: Path) -> None:
    theirs = BertTokenizer(vocab=vocabulary())
    theirs.save_pretrained(tmp_path)
    ours = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    sought = naming.wanted(["Traffic Light", "a dog's ball", "Two  Cats", "café"], None, ("en",))
    tokens = [one.ids for one in ours.encode_batch(list(sought.phrases), add_special_tokens=False)]
    got = naming.prompt(tokens, 101, 1012, 102)
    text = ". ".join(sought.phrases) + "."
    wanted = theirs(text, return_tensors="pt")["input_ids"]
    assert got.ids.tolist() == wanted[0].tolist()
    together, places = generate_masks_with_special_tokens_and_transfer_map(
        wanted, special_tokens=torch.tensor([101, 102, 1012, 1029])
    )
    np.testing.assert_array_equal(got.together, together[0].numpy())
    np.testing.assert_array_equal(got.places, places[0].numpy())
    assert [theirs.decode(wanted[0, first:last]) for first, last in got.spans] == [
        "a dog ' s ball",
        "cafe",
        "traffic light",
        "two cats",
    ]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size_hw", [(61, 83), (200, 121)])
def test_boxes_and_scores_equal_transformers(kind: str, size_hw: tuple[int, int], tmp_path: Path) -> None:
    net, image = reference(kind), picture(size_hw, 2)
    model = GroundingDino.from_files(write(tmp_path, kind, net))
    theirs = processor(tmp_path)
    inputs = theirs(images=image, text=[sorted(label.lower() for label in LABELS)], return_tensors="pt")
    with torch.inference_mode():
        outputs = net(**inputs)
    [wanted] = theirs.post_process_grounded_object_detection(outputs, threshold=0.0, target_sizes=[size_hw])
    spans = [(1, 6), (7, 8), (9, 12)]  # a dog ' s ball . light . tra ##ffic light .
    probabilities = outputs.logits[0].sigmoid().numpy()  # (Q, 256)
    assert np.isneginf(outputs.logits[0, :, 14:].numpy()).all()
    phrases = np.stack([probabilities[:, first:last].max(1) for first, last in spans], 1)  # (Q, 3)
    by_label = phrases[:, [2, 1, 0]]  # in the caller's order
    order = np.argsort(-by_label.max(1), kind="stable")
    got = found(model, image, Detect(LABELS, threshold=0.0, nms=1.0))
    assert np.std(by_label) > 0.01  # the weights do tell queries and labels apart
    boxes = np.clip(wanted["boxes"].numpy()[order], 0, [size_hw[1], size_hw[0]] * 2)
    has_area = (boxes[:, 2:] - boxes[:, :2]).min(1) > 1e-3
    assert has_area.sum() > 10
    np.testing.assert_allclose(got.scores, by_label.max(1)[order][has_area], rtol=0, atol=1e-5)
    np.testing.assert_array_equal(got.class_ids, by_label.argmax(1)[order][has_area])
    np.testing.assert_allclose(got.xyxy, boxes[has_area], rtol=0, atol=1e-5 * max(size_hw))


@pytest.mark.parametrize("name", list(record.SHAPES))
def test_the_net_is_that_of_the_authors(name: str) -> None:
    """Against IDEA-Research/GroundingDINO at 856dde2, recorded: logits of every query and token, and boxes."""
    config, kind = grounding_dino.NETS["grounding_dino"]
    net: Any = kind(config(**record.SIZES)).eval()
    for key, tensor in net.state_dict().items():
        tensor.copy_(torch.from_numpy(record.drawn(record._first(key), tuple(tensor.shape))))
    halves = Grounding(net)
    prompt = naming.prompt([(200, 201, 202), (202,), (206,)], 101, 1012, 102)
    assert tuple(prompt.ids) == record.TOKENS
    with torch.inference_mode():
        maps = [one[0] for one in halves.see(torch.from_numpy(record.canvas(record.SHAPES[name])))]
        words = halves.read(*(torch.from_numpy(array) for array in (prompt.ids, prompt.together, prompt.places)))
        logits, boxes = halves.meet(maps, words, record.SHAPES[name], record.SHAPES[name])
    with np.load(Path(record.__file__).parent / "grounding_dino.npz") as golden:
        wanted_logits, wanted_boxes = golden[f"{name}_logits"], golden[f"{name}_boxes"]
    assert np.std(wanted_logits) > 0.1
    assert np.std(wanted_boxes, axis=0).min() > 0.02
    np.testing.assert_allclose(logits.numpy(), wanted_logits, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(boxes.numpy(), wanted_boxes, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_thin_strip_is_padded_and_masked_as_a_batch_would_be(kind: str, tmp_path: Path) -> None:
    net, image = reference(kind), picture((7, 301), 3)
    model = GroundingDino.from_files(write(tmp_path, kind, net))
    view = model.prepare(image)
    assert view.pixels.shape == (3, 64, 160)
    assert (view.pixels[:, 4:] == 0).all()
    mask = torch.zeros(1, 64, 160, dtype=torch.long)
    mask[:, :4] = 1
    text = BertTokenizer(vocab=vocabulary())("red car.", return_tensors="pt")
    with torch.inference_mode():
        outputs = net(pixel_values=torch.from_numpy(view.pixels[None]), pixel_mask=mask, **text)
    logits, boxes = outputs.logits[0].numpy(), outputs.pred_boxes[0].numpy()
    scores, got = model._looked_up(encoded(model, image), model._question(("red car",), None))
    wanted = 1 / (1 + np.exp(-logits[:, 1 : text["input_ids"].shape[1] - 2].max(1)))
    np.testing.assert_allclose(scores[0, :, 0], wanted, rtol=0, atol=1e-5)
    np.testing.assert_allclose(got[0], boxes, rtol=0, atol=1e-5)
    answer = found(model, image, Detect(("red car",), threshold=0.0))
    assert answer.size_hw == (7, 301)
    assert len(answer) > 0


def tiny(languages: tuple[str, ...] = ("en",), kind: str = KINDS[0]) -> GroundingDino:
    return GroundingDino.tiny(Setup("gdino-tiny", f"{kind}-x", PIXELS, TextRules(), "sigmoid", languages), 0)


@pytest.mark.parametrize("size_hw", [(61, 83), (700, 1300), (40, 800), (33, 21)])
def test_a_shape_stands_where_the_frame_says(size_hw: tuple[int, int]) -> None:
    """A white box on black: its centre of mass on the canvas, led back, is its centre within half a pixel."""
    height, width = size_hw
    image = np.zeros((height, width, 3), np.uint8)
    box = np.asarray([width * 5 // 8, height // 4, width * 7 // 8, height * 3 // 4])
    image[box[1] : box[3], box[0] : box[2]] = 255
    view = tiny().prepare(image)
    light = np.maximum(view.pixels[0], 0)  # what is padded is grey, and black lies below it
    rows, columns = (np.arange(side) + 0.5 for side in light.shape)
    centre = np.asarray([(light.sum(0) * columns).sum(), (light.sum(1) * rows).sum()]) / light.sum()
    np.testing.assert_allclose(view.frame.to_image(centre), (box[:2] + box[2:]) / 2, rtol=0, atol=0.5)


def test_the_order_of_the_labels_changes_nothing_but_their_numbers() -> None:
    model, image = tiny(), picture((61, 83), 4)
    base = found(model, image, Detect(LABELS, threshold=0.0))
    for order in itertools.permutations(range(3)):
        got = found(model, image, Detect(tuple(LABELS[i] for i in order), threshold=0.0))
        np.testing.assert_array_equal(got.xyxy, base.xyxy)
        np.testing.assert_array_equal(got.scores, base.scores)
        assert got.names == base.names


def test_labels_that_share_words_come_back_whole() -> None:
    model, image = tiny(), picture((61, 83), 4)
    got = found(model, image, Detect(("traffic light", "light"), threshold=0.0, nms=1.0))
    assert set(got.names) <= {"traffic light", "light"}
    [scores], _ = model._looked_up(encoded(model, image), model._question(("traffic light", "light"), None))
    assert sorted(np.float32(scores.max(1)).tolist(), reverse=True)[: len(got)] == got.scores.tolist()


def test_several_phrases_of_a_label_and_korean_labels() -> None:
    model, image = tiny(), picture((61, 83), 4)
    english = found(model, image, Detect(("cat", "dog"), threshold=0.0))
    korean = found(model, image, Detect(("고양이", "개"), threshold=0.0))
    assert korean.read_as == ("cat", "dog")
    assert korean.labels == ("고양이", "개")
    np.testing.assert_array_equal(korean.xyxy, english.xyxy)
    groups = found(model, image, Detect(("animal",), phrases=(("cat", "dog"),), threshold=0.0, nms=1.0))
    apart = found(model, image, Detect(("cat", "dog"), threshold=0.0, nms=1.0))
    assert set(groups.names) == {"animal"}
    np.testing.assert_array_equal(groups.scores, apart.scores)
    with pytest.raises(Untranslatable, match="꽹과리"):
        found(model, image, Detect(("꽹과리",)))


def test_five_hundred_classes_are_spread_over_several_prompts() -> None:
    model, image = tiny(), picture((61, 83), 4)
    labels = tuple(f"thing {number}" for number in range(60))
    question = model._question(labels, None)
    assert len(question.passes) == 9  # 7 or 8 letters and a stop each, 62 tokens a prompt
    assert sorted(i for one in question.passes for i in one.phrases) == list(range(60))
    state = encoded(model, image)
    scores, boxes = model._looked_up(state, question)
    for number, one in enumerate(question.passes):  # each prompt answers as if it had been asked alone
        own = tuple(question.wanted.phrases[i] for i in one.phrases)
        [alone], [places] = model._looked_up(state, model._question(own, None))
        np.testing.assert_array_equal(scores[number][:, one.phrases], alone)
        np.testing.assert_array_equal(boxes[number], places)
    got = found(model, image, Detect(labels, threshold=0.0))
    assert got.class_ids.max() > 20
    shuffled = tuple(labels[i] for i in np.random.default_rng(0).permutation(60))
    again = found(model, image, Detect(shuffled, threshold=0.0))
    assert again.names == got.names
    np.testing.assert_array_equal(again.xyxy, got.xyxy)


def test_what_two_prompts_find_in_one_place_is_one_find() -> None:
    xyxy = np.asarray([[0, 0, 10, 10], [0, 0, 10, 5], [0, 0, 10, 10.2], [20, 0, 30, 9]], np.float32)
    scores = np.asarray([0.5, 0.4, 0.9, 0.8], np.float32)
    kept = grounding_dino._one_per_place(xyxy, scores, np.asarray([0, 0, 1, 1]))
    assert sorted(kept.tolist()) == [1, 2, 3]
    # In one prompt two queries stay two, as with the published code.
    kept = grounding_dino._one_per_place(xyxy, scores, np.zeros(4, np.int64))
    assert kept.tolist() == [0, 1, 2, 3]


def test_boxes_of_one_class_are_thinned_out_and_the_best_few_kept() -> None:
    model, image = tiny(), picture((61, 83), 4)
    everything = found(model, image, Detect(("cat", "dog"), threshold=0.0, nms=1.0))
    apart = found(model, image, Detect(("cat", "dog"), threshold=0.0, nms=0.0))
    assert 0 < len(apart) < len(everything)
    overlap = geometry.iou(apart.xyxy, apart.xyxy) - np.eye(len(apart))
    assert overlap[apart.class_ids[:, None] == apart.class_ids].max() == 0
    assert (np.diff(everything.scores) <= 0).all()
    three = found(model, image, Detect(("cat", "dog"), threshold=0.0, nms=1.0, top_k=3))
    np.testing.assert_array_equal(three.xyxy, everything.xyxy[:3])
    above = float(everything.scores[2])
    strict = found(model, image, Detect(("cat", "dog"), threshold=above, nms=1.0))
    assert len(strict) == 2
    assert len(found(model, image, Detect(("cat", "dog"), threshold=1.0))) == 0


REFUSED: list[tuple[Callable[[], Detect], str]] = [
    (lambda: Detect(), "gdino-tiny finds what a text names: give labels, --labels cat,dog"),
    (lambda: Detect(("x" * 70,)), "a label of 71 tokens, where one prompt has room for 62: shorten it"),
    (lambda: Detect(("狗",)), "label '狗': gdino-tiny knows none of its characters"),
    (lambda: Detect(("cat", "?!".strip("!"))), "there is no word in it to look for"),
]


@pytest.mark.parametrize(("ask", "message"), REFUSED, ids=["no labels", "too long", "unknown", "separators"])
def test_questions_that_make_no_sense_are_refused_in_one_line(ask: Callable[[], Detect], message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        found(tiny(), picture((8, 8), 0), ask())


def test_many_questions_share_one_picture() -> None:
    model, image = tiny(), picture((61, 83), 4)
    state = encoded(model, image)
    assert sorted(state.maps) == ["map0", "map1", "map2", "map3"]
    asks: Sequence[Detect] = [Detect(("cat",), threshold=0.0), Detect(("dog",), threshold=0.0)]
    for ask in asks:
        np.testing.assert_array_equal(model.detect([state], ask)[0].scores, found(model, image, ask).scores)


def test_a_tokenizer_with_other_ids_is_refused(tmp_path: Path) -> None:
    setup = write(tmp_path, KINDS[0], reference(KINDS[0]))
    content = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    content["model"]["vocab"]["."] = 1013
    (tmp_path / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(BadWeights, match="where the net is built for"):
        GroundingDino.from_files(setup)


@pytest.mark.parametrize("kind", KINDS)
def test_what_old_files_hold_beside_the_weights_is_no_fault(kind: str, tmp_path: Path) -> None:
    """Tables of indices, a norm that nobody asks for or that is missing, and shared heads under their second names."""
    net = reference(kind)
    setup = write(tmp_path, kind, net)
    state = load_file(setup.files["model.safetensors"])
    block = "model.backbone.conv_encoder.model.encoder.layers.0.blocks.0.attention.self"
    assert f"{block}.query.weight" in state  # the names are the old ones
    state[f"{block}.relative_position_index"] = torch.zeros(16, 16, dtype=torch.long)
    unread = [key for key in state if ".swin.layernorm." in key]
    assert len(unread) == 2
    state = {key: tensor for key, tensor in state.items() if key not in unread}
    state |= {f"model.decoder.{key}": tensor.clone() for key, tensor in state.items() if key.startswith("bbox_embed.")}
    save_file(state, setup.files["model.safetensors"])
    image, ask = picture((61, 83), 2), Detect(LABELS, threshold=0.0)
    got = found(GroundingDino.from_files(setup), image, ask)
    wanted = found(GroundingDino(setup, net, Tokenizer.from_file(str(setup.files["tokenizer.json"]))), image, ask)
    np.testing.assert_array_equal(got.scores, wanted.scores)


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    setup = write(tmp_path, KINDS[0], reference(KINDS[0]))
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    (tmp_path / "config.json").write_text(json.dumps({**config, "num_queries": 21}), encoding="utf-8")
    with pytest.raises(BadWeights, match="1 of another shape .model.query_position_embeddings.weight"):
        GroundingDino.from_files(setup)


def test_views_are_views() -> None:
    assert isinstance(tiny().prepare(picture((1, 1), 0)), View)
