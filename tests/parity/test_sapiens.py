"""Sapiens against what the published code answers on the same random weights, recorded in a golden.

The model file reads the checkpoints that the makers publish: one table of tensors under the names of their training
code, here at toy size.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch.nn import functional

from anmok import people
from anmok.errors import BadRequest, BadWeights
from anmok.geometry import Frame, Pixels, View
from anmok.inputs import Encoded, Prompted
from anmok.models.sapiens import SapiensMaps, SapiensPose
from anmok.nets import heatmaps, sapiens
from anmok.results import Detections
from anmok.tasks import Depth, Detect, Normals, Parse, Pose, Setup, TextRules
from golden import record_sapiens as record

GOLDEN: dict[str, Any] = json.loads((record.HERE / "sapiens.json").read_text(encoding="utf-8"))
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BOX = (10.0, 5.0, 40.0, 90.0)


def state_dict(head: str) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(values) for name, values in record.weights(head).items()}


def filled(head: str) -> sapiens.Sapiens:
    net = sapiens.Sapiens(sapiens.toy(head)).eval()
    net.load_state_dict(sapiens.rename(state_dict(head)), strict=True)
    return net


class Finder:
    """A detector that finds as many people as it is told, each in the middle of the picture."""

    vocabulary = ("person",)

    def __init__(self, count: int) -> None:
        self.count = count
        self.asked: list[Detect] = []

    def prepare(self, image: NDArray[np.uint8]) -> View:
        size = (int(image.shape[0]), int(image.shape[1]))
        return View(np.zeros((3, 2, 2), np.float32), Frame((2 / size[1], 2 / size[0]), (0.0, 0.0), size))

    def encode(self, batch: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        return {"pixels": batch}

    def detect(self, states: list[Encoded], ask: Detect) -> list[Detections]:
        self.asked.append(ask)
        [state] = states
        size = state.place.size_hw
        boxes = np.tile(np.asarray(BOX, np.float32), (self.count, 1))
        sure = np.linspace(0.9, 0.8, self.count, dtype=np.float32)
        return [Detections(boxes, sure, np.zeros(self.count, np.int64), ("person",), size)]


def setup(kind: str, path: Path | None = None, finder: Finder | None = None) -> Setup:
    files = {"weights.safetensors": path} if path is not None else {}
    pixels = Pixels(1024, "squash", "bilinear", MEAN, STD)
    parts = {"detector": finder} if finder is not None else {}
    return Setup("sapiens-test", kind, pixels, TextRules(), "softmax", (), files=files, parts=parts)


def loaded(monkeypatch: pytest.MonkeyPatch, folder: Path, head: str, finder: Finder | None = None) -> Any:
    """The model file on a published checkpoint of toy size."""
    monkeypatch.setattr(sapiens, "published", lambda head, size: sapiens.toy(head))
    save_file(state_dict(head), folder / "weights.safetensors")
    kind = SapiensPose if head.startswith("pose") else SapiensMaps
    return kind.from_files(setup(f"{head}-1b", folder / "weights.safetensors", finder))


def state_of(model: SapiensPose | SapiensMaps, image: NDArray[np.uint8]) -> Encoded:
    view = model.prepare(image)
    maps = {name: array[0] for name, array in model.encode(view.pixels[None]).items()}
    for array in maps.values():
        array.flags.writeable = False
    return Encoded("", maps, view.frame)


@pytest.mark.parametrize("head", list(record.LAYERS))
def test_transformer_and_head_equal_the_published_code(head: str) -> None:
    net, wanted = filled(head), GOLDEN[head]
    with torch.inference_mode():
        maps = net.backbone(torch.from_numpy(record.pictures()))
        answer = net(torch.from_numpy(record.pictures())).numpy()
    assert list(answer.shape) == wanted["shape"]
    assert np.ptp(wanted["answer"]) > 1  # the weights do tell the places apart
    # The golden keeps six decimals; a sum of 512 products in another order moves the sixth.
    np.testing.assert_allclose(record.kept(maps.numpy()), wanted["map"], rtol=0, atol=2e-5)
    np.testing.assert_allclose(record.kept(answer), wanted["answer"], rtol=0, atol=5e-5)


def test_zeros_around_the_picture_would_be_seen() -> None:
    """Parts and depth were trained without them: the same weights under the padding of pose give another map."""
    config = sapiens.toy("parts")
    moved = sapiens.Sapiens(sapiens.Config(**{**vars(config), "padding": 2})).eval()
    moved.load_state_dict(sapiens.rename(state_dict("parts")), strict=True)
    with torch.inference_mode():
        maps = moved.backbone(torch.from_numpy(record.pictures()))
    assert np.abs(np.asarray(record.kept(maps.numpy())) - GOLDEN["parts"]["map"]).max() > 0.5


def test_peaks_equal_the_published_decoding() -> None:
    wanted = np.asarray(GOLDEN["peaks"])  # (24, 3)
    places, heights = heatmaps.peaks(torch.from_numpy(record.heat_maps())[None])
    # float32 logarithms of a blurred map, times an inverse Hessian of up to 200.
    np.testing.assert_allclose(places[0], wanted[:, :2], rtol=0, atol=2e-3)
    np.testing.assert_allclose(heights[0], wanted[:, 2], rtol=0, atol=1e-6)


@pytest.mark.parametrize("i", range(len(record.BOXES)))
def test_cuts_equal_the_published_ones(i: int) -> None:
    cut = heatmaps.cut_around(np.asarray(record.BOXES[i]), record.SIZE_HW)
    # The published matrix is float32.
    wanted = np.asarray(GOLDEN["cuts"][i]["matrix"]).reshape(2, 3)
    np.testing.assert_allclose(cut.matrix(record.SIZE_HW), wanted, rtol=1e-5, atol=1e-5)
    seen = heatmaps.sampled(record.photo(), cut, record.SIZE_HW)
    # OpenCV rounds places to a 32nd of a pixel; the steepest slope of the photo, its border to black, is 248.
    np.testing.assert_allclose(record.kept(seen), GOLDEN["cuts"][i]["seen"], rtol=0, atol=248 / 64 * 1.01)


def test_a_whole_picture_is_squashed_as_published(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    view = loaded(monkeypatch, tmp_path, "depth").prepare(record.photo())
    assert view.pixels.dtype == np.float32
    steps = (view.pixels * np.asarray(STD)[:, None, None] + np.asarray(MEAN)[:, None, None]) * 255  # (3, h, w)
    # OpenCV rounds in fixed point: one step of 255 at the most.
    np.testing.assert_allclose(record.kept(steps.transpose(1, 2, 0)), GOLDEN["whole"], rtol=0, atol=1.001)
    np.testing.assert_allclose(view.frame.to_image(np.asarray([(48, 64)])), [(83, 101)], atol=1e-3)


def test_parts_depth_and_normals_are_read_as_published(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """lite/demo/vis_seg.py lines 72 to 80, vis_depth.py lines 72 to 76, vis_normal.py lines 63 to 84."""
    photo = record.photo()
    answers = {}
    for head in ("parts", "depth", "normals"):
        model = loaded(monkeypatch, tmp_path, head)
        state = state_of(model, photo)
        with torch.inference_mode():
            raw = filled(head)(torch.from_numpy(model.prepare(photo).pixels)[None])
        large = functional.interpolate(raw, photo.shape[:2], mode="bilinear")[0].numpy()  # (C, H, W)
        answers[head] = (model, state, large)
    model, state, large = answers["parts"]
    [parts] = model.parse([state], Parse())
    assert parts.names == people.PARTS_28
    np.testing.assert_array_equal(parts.parts, large.argmax(0))
    assert len(np.unique(parts.parts)) > 5
    model, state, large = answers["depth"]
    [depth] = model.depth([state], Depth())
    assert depth.kind == "depth"
    np.testing.assert_allclose(depth.depth, large[0], rtol=0, atol=1e-5)
    model, state, large = answers["normals"]
    [normals] = model.normals([state], Normals())
    wanted = np.moveaxis(large / (np.linalg.norm(large, axis=0) + 1e-5), 0, -1)
    # The published code adds 1e-5 to the length before it divides.
    np.testing.assert_allclose(normals.normals, wanted, rtol=0, atol=1e-3)


def test_points_are_found_as_published(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The parts of the chain equal the published ones above; here they are put together step by step: the cut, the
    net, the peaks, and the way back as in lite/demo/vis_pose.py line 108."""
    model = loaded(monkeypatch, tmp_path, "pose17", Finder(0))
    photo = record.photo()
    [found] = model.pose([Prompted(state_of(model, photo), boxes=(BOX,))], Pose(threshold=0.2))
    cut = heatmaps.cut_around(np.asarray(BOX), record.SIZE_HW)
    seen = np.round(heatmaps.sampled(photo, cut, record.SIZE_HW)) / 255  # (h, w, 3)
    pixels = torch.from_numpy(((seen - MEAN) / STD).astype(np.float32)).permute(2, 0, 1)[None]
    with torch.inference_mode():
        places, heights = heatmaps.peaks(filled("pose17")(pixels))
    centre, scale = np.asarray((25.0, 47.5)), np.asarray((106.25 * 48 / 64, 106.25))
    wanted = places[0] / (11, 15) * scale + centre - scale / 2
    np.testing.assert_allclose(found.xy[0], np.clip(wanted, 0, (83, 101)), rtol=0, atol=1e-3)
    np.testing.assert_allclose(found.scores[0], np.clip(heights[0], 0, 1), rtol=0, atol=1e-5)
    assert found.names == people.COCO.names
    assert found.threshold == 0.2
    np.testing.assert_allclose(found.xyxy, [BOX])
    assert found.box_scores.tolist() == [1.0]


def test_people_come_from_the_detector_or_from_the_prompt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    finder = Finder(2)
    model = loaded(monkeypatch, tmp_path, "pose17", finder)
    state = state_of(model, record.photo())
    prompted = Prompted(state, boxes=(BOX, (-9.0, 50.0, 30.0, 140.0), (1.0, 2.0, 80.0, 99.0)))
    two, three, asked = model.pose([state, prompted, Prompted(state)], Pose(person=0.7))
    assert [len(one) for one in (two, three, asked)] == [2, 3, 2]
    assert [ask.labels for ask in finder.asked] == [("person",)] * 2
    assert [ask.threshold for ask in finder.asked] == [0.7] * 2
    np.testing.assert_allclose(two.box_scores, [0.9, 0.8])
    np.testing.assert_allclose(two.xy[0], three.xy[0], rtol=0, atol=1e-4)  # the same box
    np.testing.assert_allclose(three.xyxy[1], (0, 50, 30, 101))  # shown inside the picture, cut as it was given
    assert not np.allclose(three.xy[0], three.xy[2])


def test_nobody_in_the_picture_is_an_empty_answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model = loaded(monkeypatch, tmp_path, "pose308", Finder(0))
    [nobody] = model.pose([state_of(model, record.photo())], Pose())
    assert len(nobody) == 0
    assert nobody.xy.shape == (0, 308, 2)
    assert nobody.names == people.SAPIENS.names
    assert nobody.to_dict()["people"] == []


def test_a_prompt_that_is_no_box_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model = loaded(monkeypatch, tmp_path, "pose17", Finder(0))
    with pytest.raises(BadRequest, match="pose takes boxes around people, no points"):
        model.pose([Prompted(state_of(model, record.photo()), points=((3.0, 4.0, 1),))], Pose())


@pytest.mark.parametrize("size", list(sapiens.SIZES))
@pytest.mark.parametrize("head", list(sapiens.HEADS))
def test_published_sizes(size: str, head: str) -> None:
    with torch.device("meta"):
        net = sapiens.Sapiens(sapiens.published(head, size))
    width, depth, _ = sapiens.SIZES[size]
    counted = sum(parameter.numel() for parameter in net.backbone.parameters())
    # 12 D^2 + 13 D a layer, 769 D of patches, 3072 D of places, 2 D of the last norm.
    assert counted == depth * (12 * width**2 + 13 * width) + 769 * width + 3072 * width + 2 * width
    assert net.backbone.config.grid_hw == (64, 48)
    maps = {"pose": (256, 192), "part": (512, 384), "norm": (512, 384), "dept": (1024, 768)}[head[:4]]
    outputs = {"parts": 28, "depth": 1, "normals": 3}.get(head) or int(head.removeprefix("pose"))
    assert net.head(torch.zeros(1, width, 64, 48, device="meta")).shape == (1, outputs, *maps)


def test_weights_that_do_not_fit_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sapiens, "published", lambda head, size: sapiens.toy(head))
    file = tmp_path / "weights.safetensors"
    save_file({**state_dict("parts"), "backbone.cls_token": torch.zeros(1)}, file)
    with pytest.raises(BadWeights, match=r"sapiens-test: the weights do not fit the net: .*backbone\.cls_token"):
        SapiensMaps.from_files(setup("parts-1b", file))
    save_file({name: tensor for name, tensor in state_dict("parts").items() if "pos_embed" not in name}, file)
    with pytest.raises(BadWeights, match="pos_embed"):
        SapiensMaps.from_files(setup("parts-1b", file))
    save_file(state_dict("normals"), file)
    with pytest.raises(BadWeights, match="final_layer"):
        SapiensMaps.from_files(setup("parts-1b", file))


def test_another_size_is_refused() -> None:
    with pytest.raises(BadRequest, match=r"pictures of \(64, 48\), not of \(48, 64\)"):
        sapiens.Sapiens(sapiens.toy("depth"))(torch.zeros(1, 3, 48, 64))
