"""The sam model file against the published code's answers on the same random weights, recorded in a golden, and its
preprocessing and masks against transformers' processor."""

from __future__ import annotations

import functools
import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from transformers import SamConfig, SamModel
from transformers.models.sam.image_processing_pil_sam import SamImageProcessorPil

from anmok import geometry
from anmok.errors import BadRequest, BadWeights, Unsupported
from anmok.geometry import Pixels, Rle
from anmok.inputs import Encoded, Prompted
from anmok.models import sam
from anmok.nets import masks
from anmok.tasks import Everything, Segment, Setup, TextRules
from golden import record_sam as record

GOLDEN: dict[str, Any] = json.loads(Path(record.HERE / "sam.json").read_text(encoding="utf-8"))
PUBLISHED = Pixels(1024, "pad", "bilinear", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
TOY = Pixels(record.SIZE, "pad", "bilinear", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def checkpoint() -> dict[str, torch.Tensor]:
    """Under the authors' names."""
    return {name: torch.from_numpy(record.drawn(name, shape)) for name, shape in GOLDEN["names"].items()}


@pytest.fixture(scope="module")
def model() -> sam.Sam:
    config: dict[str, Any] = {name: dict(part) for name, part in sam.TINY.items()}
    config["vision_config"]["image_size"] = config["prompt_encoder_config"]["image_size"] = record.SIZE
    config["mask_decoder_config"] |= sam.AUTHORS
    net = SamModel(SamConfig(**config))
    state = sam.renamed(checkpoint(), "sam-test")
    state["prompt_encoder.shared_embedding.positional_embedding"] = state["shared_image_embedding.positional_embedding"]
    net.load_state_dict(state, strict=True)
    return sam.Sam(Setup("sam-test", "vit-tiny", TOY, TextRules(), "softmax", ()), net)


def encoded(model: sam.Sam, image: NDArray[np.uint8]) -> Encoded:
    view = model.prepare(image)
    array = model.encode(view.pixels[None])["embedding"][0]
    array.flags.writeable = False
    return Encoded("sam-test", {"embedding": array}, view.frame)


def prompted(model: sam.Sam, case: str) -> Prompted:
    name, points, box, corners, _ = record.CASES[case]
    image = record.picture(name)
    mask = Rle.of(record.prompt_mask(corners, (image.shape[0], image.shape[1]))) if corners else None
    marks: Any = tuple(tuple(point) for point in points)
    boxes: Any = (tuple(box),) if box else ()
    return Prompted(encoded(model, image), marks, boxes, mask)


@pytest.mark.parametrize("name", list(record.PICTURES))
def test_a_picture_is_encoded_as_published(model: sam.Sam, name: str) -> None:
    view = model.prepare(record.picture(name))
    np.testing.assert_allclose(record.kept(view.pixels), GOLDEN[name]["pixels"], rtol=0, atol=2e-6)
    [got] = model.encode(view.pixels[None])["embedding"]
    wanted = GOLDEN[name]["embedding"]
    assert np.ptp(wanted) > 3  # the weights do tell the places apart
    # Two layers in another order of sums, on values of about 2; the golden keeps six decimals.
    np.testing.assert_allclose(record.kept(got), wanted, rtol=0, atol=2e-5)


@pytest.mark.parametrize("case", list(record.CASES))
def test_prompts_are_read_as_published(model: sam.Sam, case: str) -> None:
    prompt, wanted, is_ambiguous = prompted(model, case), GOLDEN[case], record.CASES[case][-1]
    assert isinstance(prompt.image, Encoded)
    with torch.inference_mode():
        logits, ious = model._read(prompt, prompt.image, is_ambiguous)
        rles = masks.rles(logits[0], model._enlarger(prompt.image.place))
    np.testing.assert_allclose(ious[0].numpy(), wanted["ious"], rtol=0, atol=1e-5)
    # Logits reach 100: the last digits of float32 through the decoder.
    np.testing.assert_allclose(record.kept(logits[0].numpy()), wanted["logits"], rtol=1e-5, atol=2e-4)
    areas = [rle.area for rle in rles]
    np.testing.assert_allclose(areas, wanted["areas"], rtol=0, atol=1)  # a pixel that lies at the threshold


@pytest.mark.parametrize("i", range(len(record.OVERLAPS)))
def test_everything_is_what_the_automatic_mode_keeps(model: sam.Sam, i: int) -> None:
    wanted = GOLDEN["automatic"][i]
    rules: dict[str, Any] = dict(record.AUTOMATIC)
    ask = Segment(everything=Everything(**rules, nms=record.OVERLAPS[i]))
    [found] = model.segment([encoded(model, record.picture("small"))], ask)
    assert len(found) == len(wanted["ious"])
    clipped = np.clip(wanted["ious"], 0, 1)
    np.testing.assert_allclose(found.scores, clipped, rtol=0, atol=1e-5)
    order = np.lexsort((wanted["areas"], np.round(clipped, 4)))
    mine = np.lexsort(([rle.area for rle in found.rles], np.round(found.scores, 4)))
    boxes = np.asarray(wanted["boxes"])[order] + (0, 0, 1, 1)  # the published width is the last pixel less the first
    np.testing.assert_array_equal(np.asarray([found.rles[j].box_xywh for j in mine]), boxes)
    areas = [found.rles[j].area for j in mine]
    np.testing.assert_allclose(areas, np.asarray(wanted["areas"])[order], rtol=0, atol=1)


def test_small_masks_go(model: sam.Sam) -> None:
    state = encoded(model, record.picture("small"))
    rules: dict[str, Any] = dict(record.AUTOMATIC)
    every, some = (
        model.segment([state], Segment(everything=Everything(**rules, nms=1.0, min_area=area)))[0] for area in (0, 500)
    )
    assert 0 < len(some) < len(every)
    assert {rle.counts for rle in some.rles} == {rle.counts for rle in every.rles if rle.area >= 500}


@pytest.mark.parametrize("size_hw", [(61, 83), (1080, 1920), (5, 203), (301, 7), (7, 1), (1024, 1024), (1500, 100)])
def test_preprocessing_equals_transformers(size_hw: tuple[int, int]) -> None:
    image = np.random.default_rng(1).integers(0, 256, (*size_hw, 3), dtype=np.uint8)
    theirs = SamImageProcessorPil()(image, return_tensors="np")
    view = geometry.view(image, PUBLISHED)
    assert view.pixels.shape == (3, 1024, 1024)
    # One step of 255 in the narrowest channel.
    np.testing.assert_allclose(view.pixels, theirs["pixel_values"][0], rtol=0, atol=1 / 255 / 0.224)
    reached = np.round(np.asarray(view.frame.scale_xy[::-1]) * size_hw)
    assert tuple(reached) == tuple(theirs["reshaped_input_sizes"][0])


@pytest.mark.parametrize("size_hw", [(61, 83), (270, 480), (5, 203)])
def test_masks_equal_those_of_transformers_processor(size_hw: tuple[int, int]) -> None:
    view = geometry.view(np.zeros((*size_hw, 3), np.uint8), PUBLISHED)
    logits = torch.nn.functional.avg_pool2d(torch.randn(4, 1, 256, 256, generator=torch.Generator().manual_seed(0)), 9)
    logits = torch.nn.functional.interpolate(logits, (256, 256), mode="bilinear")  # (4, 1, 256, 256)
    reached = tuple(int(side) for side in np.round(np.asarray(view.frame.scale_xy[::-1]) * size_hw))
    [theirs] = SamImageProcessorPil().post_process_masks([logits], [size_hw], [reached])  # (4, 1, H, W)
    ours = masks.rles(logits[:, 0], masks.Enlarger.padded((256, 256), (1024, 1024), view.frame))
    for rle, wanted in zip(ours, theirs[:, 0].numpy(), strict=True):
        assert 0 < rle.area < size_hw[0] * size_hw[1]
        assert np.count_nonzero(rle.mask() != wanted) <= 1  # a pixel within rounding of zero


def test_hub_files_and_the_authors_give_one_net(tmp_path: Path, model: sam.Sam) -> None:
    """transformers' layout loads what it saved; the authors' file needs the published sizes, so only its names."""
    net: Any = model._net
    state = {name: tensor.contiguous() for name, tensor in net.state_dict().items()}
    state.pop("prompt_encoder.shared_embedding.positional_embedding")  # tied: published once
    save_file(state, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(net.config.to_dict()))
    files = {path.name: path for path in tmp_path.iterdir()}
    setup = Setup("sam-test", "vit-tiny", TOY, TextRules(), "softmax", (), files=files)
    again = sam.Sam.from_files(setup)
    prompt = prompted(model, "box")
    first, second = (one.segment([prompt], Segment())[0] for one in (model, again))
    assert first.rles == second.rles
    wrong = Setup("sam-test", "vit-tiny", PUBLISHED, TextRules(), "softmax", (), files=files)
    with pytest.raises(BadWeights, match="looks at 128 pixels, the card says 1024"):
        sam.Sam.from_files(wrong)


@pytest.mark.parametrize("kind", list(sam.VISION))
def test_the_authors_names_are_all_known(kind: str) -> None:
    """Of a whole published checkpoint, whose layers are those of the toy, repeated."""
    with torch.device("meta"):
        net = SamModel(SamConfig(vision_config=dict(sam.VISION[kind])))
    names = [name for name in GOLDEN["names"] if ".blocks." not in name]
    layer = [name for name in GOLDEN["names"] if ".blocks.1." in name]
    names += [name.replace(".1.", f".{i}.", 1) for name in layer for i in range(sam.VISION[kind]["num_hidden_layers"])]
    found = sam.renamed({name: torch.empty(0) for name in names}, "sam-test")
    tied = {"prompt_encoder.shared_embedding.positional_embedding"}
    assert found.keys() == net.state_dict().keys() - tied
    assert len(found) == len(names)


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadWeights, match="its authors' names, and this has others"):
        sam.renamed({"model.weight": torch.empty(0)}, "sam-test")
    save_file({**checkpoint()}, tmp_path / "sam_vit_b_01ec64.safetensors")
    files = {path.name: path for path in tmp_path.iterdir()}
    with pytest.raises(BadWeights, match="sam-test: the weights do not fit the net"):  # it has toy sizes
        sam.Sam.from_files(Setup("sam-test", "vit-b", PUBLISHED, TextRules(), "softmax", (), files=files))


def test_candidates_come_best_first_and_boxes_in_order(model: sam.Sam) -> None:
    state = encoded(model, record.picture("large"))
    point, boxes = (60.0, 100.0, 1), ((20.0, 33.0, 120.0, 180.5), (0.0, 0.0, 50.0, 50.0), (-9.0, 100.0, 400.0, 300.0))
    [lone] = model.segment([Prompted(state, points=(point,))], Segment())
    [three] = model.segment([Prompted(state, points=(point,))], Segment(candidates=3))
    assert len(three) == 3
    assert (np.diff(three.scores) <= 0).all()
    assert lone.rles == three.rles[:1]  # a lone point may mean three things: the best of them
    [together] = model.segment([Prompted(state, boxes=boxes)], Segment())
    alone = [model.segment([Prompted(state, boxes=(box,))], Segment())[0] for box in boxes]
    assert len({rle.counts for rle in together.rles}) == 3
    for one, rle, score in zip(alone, together.rles, together.scores, strict=True):
        assert rle.iou(one.rles[0]) > 0.99  # a pixel that lies at the threshold
        assert score == pytest.approx(one.scores[0], abs=1e-5)
    [nine] = model.segment([Prompted(state, boxes=boxes)], Segment(candidates=3))
    assert len(nine) == 9
    assert (np.diff(nine.scores.reshape(3, 3)) <= 0).all()
    [clipped] = model.segment([Prompted(state, boxes=((0.0, 100.0, 160.0, 211.0),))], Segment())
    assert clipped.rles[0].iou(together.rles[2]) > 0.99  # what a box has beside the picture does not count


def test_more_boxes_than_one_pass_takes(model: sam.Sam) -> None:
    state = encoded(model, record.picture("small"))
    boxes = tuple((float(i), 2.0, float(i) + 30.0, 40.0) for i in range(sam.PROMPTS + 6))
    [found] = model.segment([Prompted(state, boxes=boxes)], Segment())
    assert len(found) == len(boxes)
    [last] = model.segment([Prompted(state, boxes=boxes[-1:])], Segment())
    assert found.scores[-1] == pytest.approx(last.scores[0], abs=1e-5)


def test_a_threshold_drops_what_the_net_does_not_trust(model: sam.Sam) -> None:
    prompt = prompted(model, "one point")
    [every] = model.segment([prompt], Segment(candidates=3))
    middle = float(every.scores[1])
    [some] = model.segment([prompt], Segment(candidates=3, threshold=middle))
    assert some.rles == every.rles[:2]


def test_what_it_does_not_read_is_refused(model: sam.Sam) -> None:
    state = encoded(model, record.picture("small"))
    with pytest.raises(Unsupported, match="sam-test reads no labels"):
        model.segment([state], Segment(labels=("cat",)))
    with pytest.raises(Unsupported, match="takes no exemplars"):
        model.segment([Prompted(state, exemplars=(((0, 0, 9, 9), 1),))], Segment())
    with pytest.raises(BadRequest, match="give points, boxes or a mask"):
        model.segment([Prompted(state)], Segment())


def test_two_callers_of_one_state_do_not_meet(model: sam.Sam) -> None:
    """Four threads ask different things of one picture, over and over: each has the answer that it has alone."""
    state = encoded(model, record.picture("large"))
    before = np.array(state.maps["embedding"])
    prompts = [Prompted(state, points=((20.0 * i + 5, 30.0 * i + 9, 1),)) for i in range(4)]
    wanted = [model.segment([prompt], Segment(candidates=3))[0] for prompt in prompts]
    faults = list[int]()

    def ask(i: int) -> None:
        for _ in range(10):
            [found] = model.segment([prompts[i]], Segment(candidates=3))
            if found.rles != wanted[i].rles or not np.array_equal(found.scores, wanted[i].scores):
                faults.append(i)

    threads = [threading.Thread(target=functools.partial(ask, i)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert len({one.rles[0].counts for one in wanted}) == 4
    np.testing.assert_array_equal(state.maps["embedding"], before)


def test_half_precision_keeps_the_places(model: sam.Sam) -> None:
    """Only the picture's encoder is made small: a point's place would be pixels off in bfloat16."""
    setup = Setup("sam-test", "vit-b", TOY, TextRules(), "softmax", (), dtype="bfloat16")
    small = sam.Sam.tiny(setup, 0)
    assert small._net.vision_encoder.pos_embed.dtype == torch.bfloat16
    assert small._net.shared_image_embedding.positional_embedding.dtype == torch.float32
    full = sam.Sam.tiny(Setup("sam-test", "vit-b", TOY, TextRules(), "softmax", ()), 0)
    image = record.picture("even")
    one, other = (model.encode(model.prepare(image).pixels[None])["embedding"] for model in (small, full))
    assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.99
    assert small.nbytes < full.nbytes
    [found] = small.segment([Prompted(encoded(small, image), points=((9.0, 9.0, 1),))], Segment())
    assert len(found) == 1
