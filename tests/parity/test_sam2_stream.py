"""The stream against transformers' sessions on shared random weights; that it forgets what it may; that each object is
by itself."""

from __future__ import annotations

import functools
import gc
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    EdgeTamVideoModel,
    Sam2VideoModel,
    Sam3TrackerVideoModel,
)
from transformers.models.edgetam_video.modeling_edgetam_video import EdgeTamVideoInferenceSession
from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession
from transformers.models.sam3_tracker_video.modeling_sam3_tracker_video import Sam3TrackerVideoInferenceSession

from anmok.errors import BadRequest
from anmok.nets import sam2_frame
from anmok.nets.sam2_stream import CONDITIONING, Cue, Followed, Stream
from anmok.nets.samurai import Rules, Samurai
from parity.streamed_nets import SIDE, configured

FRAMES = 40
FEW = 24  # frames, and still more than the 16 that are looked back on
KINDS = ("sam2", "edgetam", "sam3")
SESSIONS = {
    "sam2": Sam2VideoInferenceSession,
    "edgetam": EdgeTamVideoInferenceSession,
    "sam3": Sam3TrackerVideoInferenceSession,
}

# Parts of the weights drawn larger, so that memories, their order and pointers weigh something in the answers.
LOUD = {
    "cross_attn_image.v_proj": 3.6,
    "cross_attn_image.o_proj": 3.6,
    "cross_attn_image.k_proj": 2.4,
    "object_pointer_proj.proj_out": 4.5,
    "memory_temporal_positional_encoding": 5.0,
    "temporal_positional_encoding_projection": 6.0,
}


@functools.cache
def drawn(kind: str) -> Any:
    """A net with random weights, such that signals keep their size and objects are out of sight now and then."""
    net = {"sam2": Sam2VideoModel, "edgetam": EdgeTamVideoModel, "sam3": Sam3TrackerVideoModel}[kind](configured(kind))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in net.named_parameters():
            if tensor.ndim == 1:
                tensor.normal_(1.0 if name.endswith(("weight", "scale")) else 0.0, 0.3, generator=generator)
            else:
                fan = tensor[0].numel() if tensor.shape[0] > 1 else tensor.numel()
                gain = next((gain for part, gain in LOUD.items() if part in name), 1.2)
                tensor.normal_(0.0, gain / fan**0.5, generator=generator)
        net.shared_image_embedding.positional_embedding.normal_(0.0, 1.0, generator=generator)
        waves = net.shared_image_embedding.positional_embedding
        net.prompt_encoder.shared_embedding.positional_embedding.copy_(waves)
        answers = shown(Stream(net.eval()), clip(net.image_size)[:20], {0: [point(1, 20, 30)]})
        net.mask_decoder.pred_obj_score_head.proj_out.bias -= torch.stack([one.scores for one in answers]).median()
    return net


@functools.cache
def clip(side: int, frames: int = FRAMES) -> Tensor:
    return torch.randn(frames, 3, side, side, generator=torch.Generator().manual_seed(1))


def point(key: int, x: float, y: float) -> Cue:
    return Cue(key, points=torch.tensor([[x, y]]), labels=torch.tensor([1]))


def boxed(key: int) -> Cue:
    return Cue(
        key,
        points=torch.tensor([[20.0, 30.0], [40.0, 8.0]]),
        labels=torch.tensor([1, 0]),
        box=torch.tensor([10.0, 12.0, 44.0, 50.0]),
    )


def shown(stream: Stream, video: Tensor, cues: Mapping[int, Sequence[Cue]]) -> list[Followed]:
    return [stream.step(frame[None], cues.get(index, ())) for index, frame in enumerate(video)]


def session(kind: str, video: Tensor) -> Any:
    side = video.shape[-1]
    return SESSIONS[kind](video=video, video_height=side, video_width=side, dtype=torch.float32)


def say(theirs: Any, frame: int, cues: Sequence[Cue]) -> None:
    for cue in cues:
        marks = cue.marks(torch.zeros(1))
        assert marks is not None
        inputs = {"point_coords": marks.places, "point_labels": marks.labels}
        theirs.add_point_inputs(theirs.obj_id_to_idx(cue.key), frame, inputs)
    theirs.obj_with_new_inputs = [cue.key for cue in cues]


def unpruned(kind: str, video: Tensor, cues: Mapping[int, Sequence[Cue]]) -> list[tuple[Tensor, Tensor]]:
    """Masks (N, s, s) and scores (N,) of a session of transformers', from the first cue on."""
    theirs, answers = session(kind, video), []
    if len(cues) == 1:
        [(start, said)] = cues.items()
        say(theirs, start, said)
        found = drawn(kind).propagate_in_video_iterator(theirs, start_frame_idx=start)
        return [(output.pred_masks[:, 0], output.object_score_logits.flatten()) for output in found]
    for frame in range(min(cues), len(video)):
        if frame in cues:
            say(theirs, frame, cues[frame])
        output = drawn(kind)(theirs, frame_idx=frame)
        answers.append((output.pred_masks[:, 0], output.object_score_logits.flatten()))
    return answers


def compare(ours: Sequence[Followed], theirs: Sequence[tuple[Tensor, Tensor]], key: int, atol: float = 1e-5) -> None:
    for one, (masks, scores) in zip(ours, theirs, strict=True):
        row = one.keys.index(key)
        torch.testing.assert_close(one.masks[row], masks[0], rtol=0, atol=atol)
        torch.testing.assert_close(one.scores[row], scores[0], rtol=0, atol=atol)


@pytest.mark.parametrize("kind", KINDS)
def test_the_pruned_stream_answers_as_the_unpruned_session(kind: str) -> None:
    net = drawn(kind)
    video, cues = clip(net.image_size), {1: [point(1, 20, 30)], 2: [boxed(2)]}
    ours = shown(Stream(net), video, {0: [*cues[1], *cues[2]]})
    for key, said in cues.items():
        compare(ours, unpruned(kind, video, {0: said}), key)
    # It does track: the object comes and goes, and its mask depends on the memories.
    masks, scores = torch.stack([one.masks for one in ours]), torch.stack([one.scores for one in ours])
    assert 3 < (scores[1:, 0] > 0).sum() < FRAMES - 3
    is_seen = (scores[1:] > 0).all(1)
    assert (masks[1:, 0] - masks[1:, 1])[is_seen].abs().max() > 0.01
    assert all((one.ious >= 0).all() and (one.ious <= 1).all() for one in ours)


@pytest.mark.parametrize("kind", KINDS)
def test_two_objects_in_one_session_answer_alike(kind: str) -> None:
    """transformers makes the memories of all objects in one batch, which shifts a number by 1e-7 and so, where it
    is rounded to half precision, by 1e-3 of itself: hence the tolerance, a thousandth of the answers' range."""
    net = drawn(kind)
    video, both = clip(net.image_size)[:FEW], [point(1, 20, 30), boxed(2)]
    ours, theirs = shown(Stream(net), video, {0: both}), unpruned(kind, video, {0: both})
    for one, (masks, scores) in zip(ours, theirs, strict=True):
        is_seen = one.scores > 0
        torch.testing.assert_close(one.scores, scores, rtol=0, atol=1e-3)
        if is_seen.any():
            span = float(masks[is_seen].max() - masks[is_seen].min())
            torch.testing.assert_close(one.masks, masks, rtol=0, atol=1e-3 * span)


@pytest.mark.parametrize("kind", KINDS)
def test_an_object_may_start_later_and_be_cued_again(kind: str) -> None:
    net = drawn(kind)
    video = clip(net.image_size)[:FEW]
    first, second = {0: [point(1, 20, 30)], 15: [boxed(1)]}, {6: [point(2, 40, 40)]}
    stream = Stream(net)
    ours = shown(stream, video, {**first, **second})
    assert [one.keys for one in ours[5:7]] == [(1,), (1, 2)]
    compare(ours, unpruned(kind, video, first), 1)
    compare(ours[6:], unpruned(kind, video, second), 2)


def test_objects_do_not_know_each_other() -> None:
    net = drawn("sam2")
    video, cues = clip(SIDE)[:FEW], {0: [point(1, 20, 30)], 5: [boxed(2)]}
    both = shown(Stream(net), video, cues)
    alone = shown(Stream(net), video, {0: cues[0]})
    for one, other in zip(both, alone, strict=True):
        torch.testing.assert_close(one.masks[0], other.masks[0], rtol=0, atol=0)
    stream = Stream(net)
    shown(stream, video[:15], cues)
    stream.remove(2)
    for frame, wanted in zip(video[15:], alone[15:], strict=True):
        got = stream.step(frame[None])
        assert got.keys == (1,)
        torch.testing.assert_close(got.masks, wanted.masks, rtol=0, atol=0)


def test_a_reset_stream_is_a_new_one() -> None:
    net = drawn("sam2")
    video = clip(SIDE)[:12]
    for selector in (None, Samurai()):
        stream = Stream(net, selector=selector)
        first = shown(stream, video, {0: [boxed(2)], 3: [point(1, 9, 9)]})
        stream.reset()
        assert (stream.frame, stream.keys) == (-1, ())
        again = shown(stream, video, {0: [boxed(2)], 3: [point(1, 9, 9)]})
        for one, other in zip(first, again, strict=True):
            torch.testing.assert_close(one.masks, other.masks, rtol=0, atol=0)


def alive() -> tuple[int, int]:
    """How many dense tensors there are, and their bytes. Other tests of this process leave sparse ones behind."""
    gc.collect()
    found = [thing for thing in gc.get_objects() if issubclass(type(thing), Tensor)]
    found = [thing for thing in found if thing.layout == torch.strided]
    return len(found), sum(tensor.nbytes for tensor in found)


@pytest.mark.parametrize(("is_samurai", "length"), [(False, 500), (True, 150)])
def test_a_long_clip_takes_the_memory_of_a_short_one(is_samurai: bool, length: int) -> None:
    """50 frames and 500: as many tensors, as many bytes, in the stream and in the whole process."""
    net, video = drawn("sam2"), clip(SIDE)
    stream = Stream(net, selector=Samurai(Rules(memory_iou=0.0)) if is_samurai else None)
    marks: dict[int, tuple[int, int, int]] = {}
    for frame in range(length):
        stream.step(video[frame % FRAMES][None], [point(1, 20, 30)] if frame == 0 else ())
        if frame + 1 in (50, length):
            marks[frame + 1] = (stream.nbytes, *alive())
    assert marks[50] == marks[length]
    assert marks[length][0] < 300_000


def test_cued_frames_are_bounded_as_well() -> None:
    """A cue on every frame: the newest ones count, of older ones nothing is left."""
    stream, video = Stream(drawn("sam2")), clip(SIDE)
    sizes = []
    for frame in range(60):
        stream.step(video[frame % FRAMES][None], [point(1, 20, 30)])
        sizes.append(stream.nbytes)
    assert len(set(sizes[CONDITIONING + 17 :])) == 1


def test_a_short_clip_of_known_length_scales_time_by_it() -> None:
    video, said = clip(SIDE)[:6], [point(1, 20, 30)]
    known, unknown = Stream(drawn("sam2"), frames=6), Stream(drawn("sam2"))
    theirs = unpruned("sam2", video, {0: said})
    compare(shown(known, video, {0: said}), theirs, 1)
    assert (shown(unknown, video, {0: said})[5].scores - theirs[5][1]).abs().max() > 1e-4


class Remembers:
    """Forwards to a selector and keeps what was asked of it."""

    def __init__(self) -> None:
        self.inner, self.asked = Samurai(Rules(stable_frames=3, memory_iou=0.0, stable_iou=0.0)), []

    visible = -1.0

    def choose(self, key: int, masks: Tensor, ious: Tensor) -> int:
        assert masks.shape == (3, SIDE, SIDE)
        index = self.inner.choose(key, masks, ious)
        self.asked.append((index, self.inner.track(key).stable))
        return index

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def test_samurai_chooses_on_every_followed_frame() -> None:
    """A box does not touch the filter; each frame after it does. Dropped memories are none that it asks for."""
    selector, kept = Remembers(), Remembers()
    stream, all_kept = Stream(drawn("sam2"), selector=selector), Stream(drawn("sam2"), selector=kept)
    all_kept._prune = lambda key, one: None  # type: ignore[method-assign]
    video = clip(SIDE)
    box = Cue(4, box=torch.tensor([10.0, 12.0, 44.0, 50.0]))
    ours = shown(stream, video, {0: [box]})
    wanted = shown(all_kept, video, {0: [box]})
    assert len(selector.asked) == FRAMES - 1
    assert [stable for _, stable in selector.asked[:4]] == [1, 2, 3, 3]
    for one, other in zip(ours, wanted, strict=True):
        torch.testing.assert_close(one.masks, other.masks, rtol=0, atol=0)
        assert ((one.masks > sam2_frame.ABSENT).any()) == bool(one.scores[0] > -1)


# What may go wrong.


def test_cues_that_say_nothing_or_too_much_are_refused() -> None:
    ones, mask = torch.ones(1), torch.ones(SIDE, SIDE)
    for said, message in (
        ({}, "object 3: a cue is a mask, or points"),
        ({"mask": mask, "box": torch.zeros(4)}, "object 3: a cue is a mask, or points"),
        ({"points": torch.ones(1, 2)}, "points come with one label each"),
        ({"points": torch.ones(2, 2), "labels": ones}, r"want points \(P, 2\) and labels \(P,\)"),
        ({"points": torch.ones(0, 2), "labels": torch.ones(0)}, "one at least"),
        ({"points": torch.ones(1, 2), "labels": ones * 5}, "a label is 1"),
        ({"points": torch.full((1, 2), torch.nan), "labels": ones}, "a coordinate is not a number"),
        ({"box": torch.ones(2)}, r"want a box \(4,\), got \(2,\)"),
    ):
        with pytest.raises(BadRequest, match=message):
            Cue(3, **said)  # type: ignore[arg-type]


def test_frames_and_moments_that_do_not_fit_are_refused() -> None:
    stream, video = Stream(drawn("sam2")), clip(SIDE)
    with pytest.raises(BadRequest, match="none was shown yet"):
        stream.correct([point(1, 2, 2)])
    with pytest.raises(BadRequest, match=r"a frame of shape \(1, 3, 32, 32\): this net wants \(1, 3, 64, 64\)"):
        stream.step(torch.zeros(1, 3, 32, 32))
    with pytest.raises(BadRequest, match="two cues for one object"):
        stream.step(video[:1], [point(1, 2, 2), boxed(1)])
    with pytest.raises(BadRequest, match=r"object 1: want a mask \(64, 64\), got \(8, 8\)"):
        stream.step(video[:1], [Cue(1, mask=torch.ones(8, 8))])
    with pytest.raises(BadRequest, match="no object 5 is followed: there are"):
        stream.remove(5)
    with pytest.raises(BadRequest, match="a clip of 0 frames"):
        Stream(drawn("sam2"), frames=0)
    assert (stream.frame, stream.keys) == (-1, ())  # a refused frame was not counted
    shown(stream, video[:3], {0: [point(1, 2, 2)]})
    with pytest.raises(BadRequest, match=r"only the last frame shown can be corrected: that is frame 2, not 1"):
        stream.correct([point(1, 2, 2)], frame=1)
    assert stream.correct([point(1, 2, 2)], frame=2).frame == 2


def test_frames_without_objects_are_counted_and_not_looked_at() -> None:
    net, video = drawn("sam2"), clip(SIDE)
    stream = Stream(net)
    for frame in video[:3]:
        answer = stream.step(frame[None])
    assert (answer.frame, answer.keys, answer.masks.shape) == (2, (), (0, 16, 16))
    assert stream._view is None
    started = stream.correct([point(1, 20, 30)])  # an object may start on the frame just shown
    wanted = Stream(net).step(video[2:3], [point(1, 20, 30)])
    torch.testing.assert_close(started.masks, wanted.masks, rtol=0, atol=0)


def test_an_empty_mask_is_an_object_out_of_sight() -> None:
    stream, video = Stream(drawn("sam2")), clip(SIDE)
    answer = stream.step(video[:1], [Cue(1, mask=torch.zeros(SIDE, SIDE))])
    assert answer.scores.tolist() == [-10]
    assert (answer.masks < 0).all()
    assert torch.isfinite(stream.step(video[1:2]).masks).all()


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_used_of_transformers_is_still_there(kind: str) -> None:
    """Private methods and parts, with the parameters that the stream gives them."""
    net = drawn(kind)
    for name, parameters in {
        "_build_memory_attention_inputs": ("temporal_positions_and_previous_outputs", "device"),
        "_process_object_pointers": (
            "temporal_offsets",
            "pointer_tokens",
            "max_object_pointers_to_use",
            "batch_size",
            "num_channels",
            "device",
        ),
        "_encode_new_memory": (
            "current_vision_feats",
            "pred_masks_high_res",
            "object_score_logits",
            "is_mask_from_pts",
        ),
        "get_image_wide_positional_embeddings": (),
    }.items():
        assert tuple(inspect.signature(getattr(net, name)).parameters) == parameters, name
    attention = {
        "current_vision_features",
        "memory",
        "current_vision_position_embeddings",
        "memory_posision_embeddings",
        "num_object_pointer_tokens",
    }
    if kind == "edgetam":
        attention.add("num_spatial_memory_tokens")
    assert set(inspect.signature(net.memory_attention.forward).parameters) == attention
    assert set(inspect.signature(net.prompt_encoder.forward).parameters) == {
        "input_points",
        "input_labels",
        "input_boxes",
        "input_masks",
    }
    for part in ("mask_downsample", "object_pointer_proj", "no_object_pointer", "no_memory_embedding", "num_maskmem"):
        assert getattr(net, part) is not None
