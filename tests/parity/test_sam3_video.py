"""SAM 3 through a clip: a stream that forgets against transformers' session that keeps all, and its own parts."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from transformers import Sam3TrackerVideoConfig, Sam3TrackerVideoModel, Sam3VideoModel
from transformers.models.sam3.modeling_sam3 import Sam3GeometryEncoder
from transformers.models.sam3_video import modeling_sam3_video
from transformers.models.sam3_video.modeling_sam3_video import Sam3VideoInferenceSession

from anmok.errors import BadRequest
from anmok.geometry import Pixels, Rle
from anmok.inputs import Cue
from anmok.models.sam3 import Sam3
from anmok.nets import sam2_stream, sam3, sam3_video
from anmok.results import Tracked
from anmok.tasks import Setup, TextRules, Track

HALF = (0.5, 0.5, 0.5)
TOY = Pixels(sam3_video.TINY_SIZE, "squash", "bilinear", HALF, HALF)
SETUP = Setup("sam3-test", "sam3", TOY, TextRules(context=32), "sigmoid", ("en",))
FRAMES = 18  # more than the 16 that are looked back on


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library would fetch an operator from the hub, and go on without where it cannot."""

    def fetch() -> None:
        raise AssertionError("an operator was fetched")

    monkeypatch.setattr(modeling_sam3_video, "_load_cv_utils_kernel_once", fetch)


@pytest.fixture(scope="module")
def model() -> Sam3:
    return Sam3.tiny(SETUP, 0)


@pytest.fixture
def busy(model: Sam3, monkeypatch: pytest.MonkeyPatch) -> Sam3:
    """Rules by which the like masks of random weights are several objects, of which some come later, and which the
    detector confirms now and then."""
    rules = {"det_nms_thresh": 0.8, "assoc_iou_thresh": 0.1, "new_det_thresh": 0.0, "max_num_objects": 4}
    rules |= {"high_conf_thresh": -99.0, "high_iou_thresh": 0.0, "recondition_every_nth_frame": 7}
    for name, value in rules.items():
        monkeypatch.setattr(model._whole, name, value)
    return model


def still(step: int) -> NDArray[np.uint8]:
    """uint8 (48, 64, 3): two squares that walk apart."""
    image = np.full((48, 64, 3), 90, np.uint8)
    x = step % 12
    image[10:24, 28 - 2 * x : 42 - 2 * x] = (255, 40, 0)
    image[28:42, 16 + 3 * x : 30 + 3 * x] = (0, 220, 60)
    return image


def texts(model: Sam3) -> list[list[Tensor]]:
    return [[model._words("cat")], [model._words("dog"), model._words("a small dog")]]


def threshold(model: Sam3) -> float:
    """Such that some are found and some are not."""
    with torch.inference_mode():
        seen = model._net.vision_encoder(pixels(model, 0))
        return float(sam3.found(model._net, seen, model._words("cat")).scores.median())


def pixels(model: Sam3, step: int) -> Tensor:
    return torch.from_numpy(model.prepare(still(step)).pixels)[None]


def test_a_stream_that_forgets_answers_as_a_session_that_does_not(busy: Sam3) -> None:
    net, least, model = busy._whole, threshold(busy), busy
    stream = sam3_video.Concepts(net, texts(model), least)
    session: Any = Sam3VideoInferenceSession(dtype=torch.float32)
    session.threshold = least
    session.prompt_embeddings = {number: tuple(phrases) for number, phrases in enumerate(texts(model))}
    first = set[int]()
    for step in range(FRAMES):
        found = stream.step(pixels(model, step))
        wanted = net(inference_session=session, frame=pixels(model, step))
        assert found.keys == tuple(sorted(wanted.obj_id_to_mask))
        for row, key in enumerate(found.keys):
            torch.testing.assert_close(found.masks[row], wanted.obj_id_to_mask[key][0], rtol=1e-4, atol=1e-4)
            assert found.labels[row] == session.obj_id_to_prompt_id[key]
            assert found.scores[row] == pytest.approx(wanted.obj_id_to_score[key], abs=1e-6)
            assert found.trust[row] == pytest.approx(wanted.obj_id_to_tracker_score[key], abs=1e-5)
        first = first or set(found.keys)
    assert set(found.labels) == {0, 1}
    assert 1 <= len(first) < len(found.keys) == 4  # some came later
    assert any(len(records["cond_frame_outputs"]) > 1 for records in session.output_dict_per_obj.values())
    assert len(session.processed_frames) == FRAMES


def test_memory_does_not_grow_with_the_clip(model: Sam3) -> None:
    stream = sam3_video.Concepts(model._whole, texts(model), threshold(model))
    sizes = []
    for step in range(2 * FRAMES):
        found = stream.step(pixels(model, step))
        sizes.append((len(found.keys), stream.nbytes))
    session = stream._session
    assert len(set(sizes[FRAMES:])) == 1  # nobody came, nothing grew
    assert list(session.processed_frames) == [2 * FRAMES - 1]
    for records in session.output_dict_per_obj.values():
        assert len(records["non_cond_frame_outputs"]) <= 15
        assert len(records["cond_frame_outputs"]) <= 4
    kept = (
        *(session.unmatched_frame_inds, session.overlap_pair_to_frame_inds, session.suppressed_obj_ids),
        *session.mask_inputs_per_obj.values(),
        *session.frames_tracked_per_obj.values(),
    )
    assert not any(kept)


def test_what_was_not_seen_for_long_is_let_go(busy: Sam3, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what is left goes on as before."""
    model = busy
    stream = sam3_video.Concepts(model._whole, texts(model), threshold(model))
    first = [stream.step(pixels(model, step)) for step in range(3)][-1]
    assert len(first.keys) >= 2
    lost, *rest = first.keys
    monkeypatch.setattr(sam3_video, "FORGOTTEN", 3)
    stream._seen[lost] = -9
    hidden = first.masks.clone()
    hidden[0] = -9.0
    stream._prune(2, first._replace(masks=hidden))
    second = stream.step(pixels(model, 3))
    assert lost not in second.keys
    assert set(rest) <= set(second.keys)
    assert lost not in stream._session.trk_keep_alive


def test_the_tracker_sees_with_the_detectors_eye(model: Sam3) -> None:
    """As the tracker alone does, with an encoder of its own made of the same weights."""
    whole: Any = model._whole
    alone: Any = Sam3TrackerVideoModel(Sam3TrackerVideoConfig(**sam3_video.TINY_TRACKER))
    state = dict(whole.tracker_model.state_dict())
    eye = {"backbone": whole.detector_model.vision_encoder.backbone, "neck": whole.tracker_neck}
    for name, part in eye.items():
        state |= {f"vision_encoder.{name}.{key}": tensor for key, tensor in part.state_dict().items()}
    alone.load_state_dict(state, strict=True)
    cue = sam2_stream.Cue(5, points=torch.tensor([[20.0, 30.0]]), labels=torch.tensor([1]))
    streams = [sam2_stream.Stream(net) for net in (alone.eval(), sam3_video.Pointed(whole))]
    for step in range(5):
        wanted, found = (stream.step(pixels(model, step), [cue] if step == 0 else []) for stream in streams)
        torch.testing.assert_close(found.masks, wanted.masks, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(found.ious, wanted.ious, rtol=1e-5, atol=1e-5)


def followed(model: Sam3, ask: Track, cues: dict[int, tuple[Cue, ...]], frames: int = 4) -> list[Tracked]:
    session = model.follow(ask)
    return [session.step(step, step / 10, still(step), cues.get(step, ())) for step in range(frames)]


def test_named_things_are_the_callers_labels_and_do_not_overlap(busy: Sam3) -> None:
    model = busy
    pieces = followed(model, Track(("고양이", "dog"), threshold=threshold(model)), {})
    for piece in pieces:
        assert piece.masks.labels == ("고양이", "dog")
        assert piece.masks.read_as == ("cat", "dog")
        assert piece.masks.size_hw == (48, 64)
        for label in (0, 1):
            dense = piece.masks[piece.masks.class_ids == label].dense()
            assert dense.sum(0).max(initial=0) <= 1
    assert set(pieces[0].ids.tolist()) <= set(pieces[-1].ids.tolist())
    assert pieces[0].ids.min() == 1
    assert [piece.frame for piece in pieces] == [0, 1, 2, 3]


def test_cues_are_followed_and_corrected(model: Sam3) -> None:
    mask = np.zeros((48, 64), bool)
    mask[28:42, 16:30] = True
    cues = {
        0: (Cue(0, 3, points=((30.0, 15.0, 1),)), Cue(0, 3, points=((2.0, 2.0, 0),))),
        1: (Cue(1, 8, mask=Rle.of(mask)), Cue(1, 3, points=((26.0, 15.0, 1),))),
        2: (Cue(2, 9, box=(-5.0, 20.0, 40.0, 60.0)),),
    }
    pieces = followed(model, Track(), cues)
    assert [piece.ids.tolist() for piece in pieces] == [[3], [3, 8], [3, 8, 9], [3, 8, 9]]
    assert pieces[1].masks.rles[1].iou(Rle.of(mask)) > 0.7  # of cells four pixels wide
    assert pieces[1].masks.scores[1] == 1.0
    speck = np.zeros((48, 64), bool)
    speck[5, 5] = True
    [piece] = followed(model, Track(), {0: (Cue(0, 1, mask=Rle.of(speck)),)}, 1)
    assert piece.ids.tolist() == [1]


def test_what_cannot_be_followed_is_refused(model: Sam3) -> None:
    point = Cue(0, 1, points=((3.0, 3.0, 1),))
    with pytest.raises(BadRequest, match="labels or cues"):
        followed(model, Track(("cat",)), {0: (point,)})
    with pytest.raises(BadRequest, match=r"mask of size \(5, 5\): want one of \(48, 64\)"):
        followed(model, Track(), {0: (Cue(0, 1, mask=Rle.of(np.ones((5, 5), bool))),)})
    with pytest.raises(BadRequest, match="with something in it"):
        followed(model, Track(), {0: (Cue(0, 1, mask=Rle.of(np.zeros((48, 64), bool))),)})


def test_the_librarys_inner_parts_are_what_was_built_upon() -> None:
    """Overridden or called here; another version of transformers that changes them fails with their names."""
    wanted = {
        Sam3GeometryEncoder._encode_boxes: "self boxes boxes_mask boxes_labels vision_features",
        Sam3GeometryEncoder._encode_box_coordinates: "self center_x center_y width height",
        Sam3VideoModel.run_detection: "self inference_session vision_embeds",
        Sam3VideoModel.run_tracker_propagation: "self inference_session frame_idx reverse",
        Sam3VideoModel.build_outputs: "self inference_session det_out tracker_low_res_masks_global "
        "tracker_update_plan reconditioned_obj_ids",
        Sam3VideoModel.get_vision_features_for_tracker: "self vision_embeds",
        Sam3VideoInferenceSession.remove_object: "self obj_id strict",
        Sam3VideoInferenceSession.add_new_frame: "self pixel_values frame_idx",
        modeling_sam3_video.fill_holes_in_mask_scores: "mask max_area fill_holes remove_sprinkles",
    }
    found = {part.__qualname__: " ".join(inspect.signature(part).parameters) for part in wanted}
    assert found == {part.__qualname__: names for part, names in wanted.items()}


def test_of_overlapping_masks_the_best_stays() -> None:
    masks = torch.zeros(4, 10, 10, dtype=torch.bool)
    masks[0, :5], masks[1, :6], masks[2, 5:], masks[3, 9:] = True, True, True, True
    scores = torch.tensor([0.6, 0.9, 0.8, 0.95])
    # 1 holds 0 (IoU 0.83) and shares a row with 2 (IoU 0.1); 3 is a fifth of 2.
    assert sam3_video.best_masks(masks, scores, 0.1).tolist() == [3, 1]
    assert sam3_video.best_masks(masks, scores, 0.15).tolist() == [3, 1]
    assert sam3_video.best_masks(masks, scores, 0.5).tolist() == [3, 1, 2]
    assert sam3_video.best_masks(masks[:0], scores[:0], 0.5).tolist() == []


def test_holes_and_specks_go() -> None:
    """fill_holes_in_mask_scores, restated from modeling_sam3_video.py:1939-1975: holes of up to so many cells become
    0.1; then specks of as many, but not of more than half of the mask, become -0.1."""
    logits = torch.full((2, 20, 20), -3.0)
    logits[0, 2:16, 2:16] = 4.0
    logits[0, 5:7, 5:7] = -2.0  # a hole of 4
    logits[0, 9:14, 9:14] = -2.0  # one of 25
    logits[0, 18, 18] = 1.0  # a speck
    logits[1, 4:6, 4:7] = 2.0  # a mask of 6, of which one half may go
    got = sam3_video.cleaned(logits, 16)
    wanted = logits.clone()
    wanted[0, 5:7, 5:7] = 0.1
    wanted[0, 18, 18] = -0.1
    torch.testing.assert_close(got, wanted)
    assert ndimage.label(got[0].numpy() > 0)[1] == 1
    assert sam3_video.cleaned(logits, 0) is logits
    assert sam3_video.cleaned(logits[:0], 16).shape == (0, 20, 20)
