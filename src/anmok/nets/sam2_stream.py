"""Objects followed through a video, frame by frame, in memory that does not grow with its length.

Works on transformers' video nets of SAM 2, EdgeTAM and SAM 3's tracker. Source: N. Ravi et al., "SAM 2: Segment
Anything in Images and Videos" (arXiv:2408.00714), as coded in github.com/facebookresearch/sam2. The session of
transformers keeps what it computed for every frame; this stream keeps what a later frame can still look at, and
answers the same. Where the two codes differ, this one goes with the authors' own, whose weights these are:

- the pointer of a mask cue comes from the decoder's single-mask token, not from the best of three;
- of conditioning frames that attention leaves out, pointers are left out too;
- a frame's memory of one object does not depend on whether another object got a cue there;
- a correction sees the mask that it corrects.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from anmok.errors import BadRequest
from anmok.nets import sam2_frame
from anmok.nets.sam2_frame import Cue, Guess, Net, View

SURE = 32.0  # logits of a mask that is corrected are clamped to this
CONDITIONING = 16  # frames with cues that are looked at, where a configuration sets no limit


@dataclass(frozen=True, eq=False, slots=True)
class Followed:
    """The answer for one frame: rows in the order of ``keys``.

    ``masks`` float32 (N, s, s) are logits at a quarter of the net's picture, above 0 on the object; ``scores``
    float32 (N,) are logits of the object being in sight; ``ious`` float32 (N,) is how well the net thinks that
    each mask fits, 1 for a given mask.
    """

    frame: int
    keys: tuple[int, ...]
    masks: Tensor
    scores: Tensor
    ious: Tensor


class Selector(Protocol):
    """Which of several masks is the object, and which frames the next one looks at."""

    @property
    def visible(self) -> float:
        """An object whose score is above this counts as in sight."""
        ...

    def choose(self, key: int, masks: Tensor, ious: Tensor) -> int:
        """The mask to take, of logits (M, S, S) with predicted IoUs (M,). Once per object and frame."""
        ...

    def note(self, key: int, frame: int, score: float, iou: float) -> None:
        """A frame without a first cue was answered, with this object score and predicted IoU."""
        ...

    def recall(self, key: int, frame: int, slots: int) -> Sequence[tuple[int, int]]:
        """Earlier frames to look at from ``frame``, as (slot, frame); slot 1 is the nearest, ``slots`` the last.

        What was left out once and is older than the frame before is never asked for again.
        """
        ...

    def restart(self, key: int, frame: int) -> None:
        """The object got a cue on this frame: what was believed about its motion is void."""
        ...

    def forget(self, key: int) -> None:
        """The object is gone."""
        ...


class Best:
    """SAM 2's own rule: the mask with the highest predicted IoU, and the frames just before."""

    visible = 0.0

    def choose(self, key: int, masks: Tensor, ious: Tensor) -> int:
        return int(ious.argmax())

    def note(self, key: int, frame: int, score: float, iou: float) -> None:
        pass

    def recall(self, key: int, frame: int, slots: int) -> Sequence[tuple[int, int]]:
        return [(back, frame - back) for back in range(slots, 0, -1)]

    def restart(self, key: int, frame: int) -> None:
        pass

    def forget(self, key: int) -> None:
        pass


@dataclass(frozen=True, eq=False, slots=True)
class Memory:
    """What is kept of one object on one frame. ``features`` are dropped before the pointer is."""

    features: Tensor | None  # (T, 1, D), or (1, T, D) of EdgeTAM
    pointer: Tensor  # (1, 1, C)


@dataclass(eq=False, slots=True)
class Object:
    """The memories of one object by frame, and its mask on the last frame."""

    prompted: dict[int, Memory] = field(default_factory=dict)
    tracked: dict[int, Memory] = field(default_factory=dict)
    last: Guess | None = None


class Stream:
    """One video, one caller: show it frame after frame with ``step``. Not safe to share between threads.

    Args:
        net: ``Sam2VideoModel``, ``EdgeTamVideoModel`` or ``Sam3TrackerVideoModel``, in eval mode.
        selector: chooses masks and memories; SAM 2's own rule where none is given. It belongs to this stream.
        frames: length of the clip where it is known. Clips shorter than the net's 16 pointers scale time by it.
    """

    def __init__(self, net: Net, selector: Selector | None = None, frames: int | None = None) -> None:
        if frames is not None and frames < 1:
            raise BadRequest(f"a clip of {frames} frames: want 1 or more")
        self._net = net
        self._selector: Selector = Best() if selector is None else selector
        limit = net.config.max_object_pointers_in_encoder
        # Time is counted in units of pointers - 1: a clip of one frame, which has no time, may not divide by 0.
        self._pointers = limit if frames is None else max(2, min(frames, limit))
        self._slots = net.num_maskmem - 1
        self._most = net.config.max_cond_frame_num if net.config.max_cond_frame_num > 0 else CONDITIONING
        self._objects: dict[int, Object] = {}
        self._frame = -1
        self._view: View | None = None
        self._pixels: Tensor | None = None
        self._places: Tensor | None = None  # of a memory's features: the same for all

    @property
    def frame(self) -> int:
        """Number of the last frame shown, from 0; -1 before the first."""
        return self._frame

    @property
    def keys(self) -> tuple[int, ...]:
        """The objects followed, in the order of their first cue."""
        return tuple(self._objects)

    @property
    def nbytes(self) -> int:
        """Bytes of the tensors that are kept between frames, without the net."""
        return sum(tensor.nbytes for tensor in {id(tensor): tensor for tensor in self._kept()}.values())

    @torch.inference_mode()
    def step(self, pixels: Tensor, cues: Sequence[Cue] = ()) -> Followed:
        """The next frame: prepared pixels float (1, 3, S, S), and what the caller says about objects on it.

        An object starts with its first cue. A later cue says anew where it is, as the first did. Without any
        object the answer has no rows.

        Raises:
            BadRequest: pixels or a mask of another size, or two cues for one object.
        """
        side = self._net.image_size
        if pixels.shape != (1, 3, side, side):
            raise BadRequest(f"a frame of shape {tuple(pixels.shape)}: this net wants (1, 3, {side}, {side})")
        self._check(cues)
        self._frame += 1
        self._pixels, self._view = pixels, None
        for key, one in self._objects.items():
            self._prune(key, one)
        said = {cue.key: cue for cue in cues}
        for key in said:
            self._objects.setdefault(key, Object())
        for key, one in self._objects.items():
            self._answer(key, one, said.get(key), is_first=key in said)
        return self._followed()

    @torch.inference_mode()
    def correct(self, cues: Sequence[Cue], frame: int | None = None) -> Followed:
        """The last frame again, with cues that replace those given for it before; objects may be new.

        An object that was followed to this frame keeps its memories, and the decoder sees the mask that it
        corrects. Objects without a cue keep their answer.

        Raises:
            BadRequest: as ``step`` does; or another frame than the last one is named, or none was shown.
        """
        if self._frame < 0 or frame not in (None, self._frame):
            shown = "none was shown yet" if self._frame < 0 else f"that is frame {self._frame}, not {frame}"
            raise BadRequest(f"only the last frame shown can be corrected: {shown}")
        self._check(cues)
        for cue in cues:
            one = self._objects.setdefault(cue.key, Object())
            is_first = self._frame not in one.tracked  # a cue started or renewed it here, or starts it now
            self._answer(cue.key, one, cue, is_first)
        return self._followed()

    def remove(self, key: int) -> None:
        """Stop following an object.

        Raises:
            BadRequest: no such object.
        """
        if key not in self._objects:
            raise BadRequest(f"no object {key} is followed: there are {list(self._objects)}")
        del self._objects[key]
        self._selector.forget(key)

    def reset(self) -> None:
        """Forget all objects and frames: the next ``step`` is frame 0."""
        for key in self.keys:
            self.remove(key)
        self._frame, self._view, self._pixels = -1, None, None

    def _check(self, cues: Sequence[Cue]) -> None:
        side = self._net.image_size
        if len({cue.key for cue in cues}) < len(cues):
            raise BadRequest("two cues for one object on one frame: put its points and box into one")
        for cue in cues:
            if cue.mask is not None and cue.mask.shape != (side, side):
                raise BadRequest(f"object {cue.key}: want a mask ({side}, {side}), got {tuple(cue.mask.shape)}")

    def _seen(self) -> View:
        """The last frame through the image encoder, once."""
        if self._view is None:
            assert self._pixels is not None
            self._view, self._pixels = sam2_frame.seen(self._net, self._pixels), None
        return self._view

    def _answer(self, key: int, one: Object, cue: Cue | None, is_first: bool) -> None:
        """Find the object on the frame, and store what later frames will look at."""
        view, now = self._seen(), self._frame
        if cue is not None:
            self._selector.restart(key, now)
        if cue is not None and cue.mask is not None:
            guess = sam2_frame.given(self._net, view, cue.mask.to(view.tokens.device), self._selector.visible)
        else:
            guess = self._decoded(key, one, view, cue, is_first)
        features, places = sam2_frame.remembered(self._net, view, guess, is_cued=cue is not None)
        if self._places is None:
            self._places = places
        stored = one.prompted if is_first else one.tracked
        stored[now] = Memory(features, guess.pointer)
        mask = guess.mask.clone()  # alone, where it was one of three
        one.last = guess._replace(mask=mask, large=mask)  # the large one was for the memory
        if not is_first:
            self._selector.note(key, now, float(guess.score), float(guess.iou))

    def _decoded(self, key: int, one: Object, view: View, cue: Cue | None, is_first: bool) -> Guess:
        net = self._net
        tokens = view.tokens + net.no_memory_embedding if is_first else self._recalled(key, one, view)  # (h*w, 1, C)
        marks = None if cue is None else cue.marks(tokens)
        is_corrected = cue is not None and (self._frame in one.prompted or self._frame in one.tracked)
        prior = one.last.mask.clamp(-SURE, SURE) if is_corrected and one.last is not None else None
        count = 0 if marks is None else marks.labels.shape[-1]
        offers = sam2_frame.offered(net, view, tokens, marks, prior, self._is_ambiguous(is_first, count))
        return sam2_frame.taken(net, offers, self._selector.visible, partial(self._selector.choose, key))

    def _is_ambiguous(self, is_first: bool, count: int) -> bool:
        """Whether the decoder is asked for several masks, given ``count`` points."""
        config = self._net.config
        return bool(
            config.multimask_output_in_sam
            and (is_first or config.multimask_output_for_tracking)
            and config.multimask_min_pt_num <= count <= config.multimask_max_pt_num
        )

    def _recalled(self, key: int, one: Object, view: View) -> Tensor:
        """The frame's tokens (h*w, 1, C) after they looked at the object's memories."""
        net, now, device = self._net, self._frame, view.tokens.device
        memories = [(0, memory) for memory in one.prompted.values()]
        recalled = self._selector.recall(key, now, self._slots)
        memories += [(slot, one.tracked[frame]) for slot, frame in recalled if frame in one.tracked]
        parts, places = net._build_memory_attention_inputs(
            [
                (slot, {"maskmem_features": memory.features, "maskmem_pos_enc": self._places})
                for slot, memory in memories
            ],
            device,
        )
        pointers = [(now - frame, memory.pointer) for frame, memory in one.prompted.items()]
        backs = [back for back in range(1, self._pointers) if now - back in one.tracked]
        pointers += [(back, one.tracked[now - back].pointer) for back in backs]
        tokens, token_places = net._process_object_pointers(
            [back for back, _ in pointers],
            [pointer for _, pointer in pointers],
            self._pointers,
            1,
            net.hidden_dim,
            device,
        )
        # EdgeTAM's attention wants to know how many memories there are: its places repeat with each.
        counted = {"num_spatial_memory_tokens": len(parts)} if hasattr(net, "spatial_perceiver") else {}
        output: Tensor = net.memory_attention(
            current_vision_features=view.tokens,
            current_vision_position_embeddings=view.places,
            memory=torch.cat([*parts, tokens]).to(view.tokens.dtype),
            memory_posision_embeddings=torch.cat([*places, token_places]),
            num_object_pointer_tokens=len(tokens),
            **counted,
        )  # (1, 1, h*w, C)
        return output.reshape(view.tokens.shape)  # (h*w, 1, C)

    def _prune(self, key: int, one: Object) -> None:
        """Drop what the coming frame and those after it cannot look at."""
        while len(one.prompted) > self._most:
            oldest = min(one.prompted)
            one.tracked[oldest] = one.prompted.pop(oldest)
        recalled = {frame for _, frame in self._selector.recall(key, self._frame, self._slots)}
        for frame in [frame for frame in one.tracked if frame not in recalled]:
            if self._frame - frame < self._pointers:
                one.tracked[frame] = replace(one.tracked[frame], features=None)
            else:
                del one.tracked[frame]

    def _followed(self) -> Followed:
        side = self._net.prompt_encoder.mask_input_size
        guesses = [one.last for one in self._objects.values() if one.last is not None]
        if not guesses:
            return Followed(self._frame, (), torch.zeros(0, *side), torch.zeros(0), torch.zeros(0))
        return Followed(
            self._frame,
            self.keys,
            torch.cat([guess.mask[:, 0] for guess in guesses]).float(),  # (N, s, s)
            torch.cat([guess.score.reshape(1) for guess in guesses]).float(),  # (N,)
            torch.stack([guess.iou for guess in guesses]).float(),  # (N,)
        )

    def _kept(self) -> Iterator[Tensor]:
        """Every tensor that is held, some more than once."""
        if self._view is not None:
            yield from (self._view.tokens, self._view.places, self._view.wide, *self._view.fine)
        yield from (tensor for tensor in (self._pixels, self._places) if tensor is not None)
        for one in self._objects.values():
            if one.last is not None:
                yield from one.last
            for memory in (*one.prompted.values(), *one.tracked.values()):
                yield memory.pointer
                if memory.features is not None:
                    yield memory.features
