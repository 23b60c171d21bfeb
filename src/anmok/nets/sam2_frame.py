"""One frame through a SAM 2 net: what it sees, the masks it offers for a cue, the memory it makes of the one taken.

Works on transformers' video nets of SAM 2, EdgeTAM and SAM 3's tracker. Source: N. Ravi et al., "SAM 2: Segment
Anything in Images and Videos" (arXiv:2408.00714), as coded in github.com/facebookresearch/sam2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from anmok.errors import BadRequest

ABSENT = -1024.0  # the logit of every pixel of an object that is out of sight
GAIN, SHIFT = 20.0, -10.0  # a given mask as logits: 10 on the object, -10 beside it
BOX = (2, 3)  # the labels of a box's corners

Net = Any  # Sam2VideoModel, EdgeTamVideoModel or Sam3TrackerVideoModel, which are not typed


@dataclass(frozen=True, eq=False, slots=True)
class Cue:
    """What a caller says about object ``key`` on one frame, in pixels of the net's picture (S, S).

    ``points`` are float (P, 2) as (x, y), with ``labels`` (P,): 1 on the object, 0 beside it. ``box`` is float (4,),
    xyxy. ``mask`` is (S, S), nonzero on the object, and comes alone.
    """

    key: int
    points: Tensor | None = None
    labels: Tensor | None = None
    box: Tensor | None = None
    mask: Tensor | None = None

    def __post_init__(self) -> None:
        marks = [tensor for tensor in (self.points, self.box) if tensor is not None]
        if (self.mask is None) == (not marks):
            raise BadRequest(f"object {self.key}: a cue is a mask, or points, or a box, or points and a box")
        if (self.points is None) != (self.labels is None):
            raise BadRequest(f"object {self.key}: points come with one label each")
        if self.points is not None and self.labels is not None:
            if not len(self.labels) or self.points.shape != (len(self.labels), 2):
                raise BadRequest(f"object {self.key}: want points (P, 2) and labels (P,), one at least")
            if not all(label in (0, 1) for label in self.labels.tolist()):
                raise BadRequest(f"object {self.key}: a label is 1 (on the object) or 0 (beside it)")
        if self.box is not None and self.box.shape != (4,):
            raise BadRequest(f"object {self.key}: want a box (4,), got {tuple(self.box.shape)}")
        if not all(bool(torch.isfinite(tensor).all()) for tensor in marks):
            raise BadRequest(f"object {self.key}: a coordinate is not a number")

    def marks(self, like: Tensor) -> Marks | None:
        """Points and box as the prompt encoder reads them, with the device and dtype of ``like``; ``None`` for a
        mask. A box is its two corners, before the points."""
        places, labels = [], []
        if self.box is not None:
            places.append(self.box.reshape(2, 2))
            labels.append(torch.tensor(BOX))
        if self.points is not None and self.labels is not None:
            places.append(self.points)
            labels.append(self.labels)
        if not places:
            return None
        return Marks(
            torch.cat([part.to(like) for part in places])[None, None],  # (1, 1, P, 2)
            torch.cat([part.to(like.device, torch.int32) for part in labels])[None, None],  # (1, 1, P)
        )


class Marks(NamedTuple):
    """Points of N objects on one frame: ``places`` (1, N, P, 2) as (x, y), ``labels`` int32 (1, N, P)."""

    places: Tensor
    labels: Tensor


class View(NamedTuple):
    """One frame as the net sees it."""

    tokens: Tensor  # (h*w, 1, C), of stride 16
    places: Tensor  # (h*w, 1, C), their position encoding
    fine: list[Tensor]  # (1, C/8, 4h, 4w) and (1, C/4, 2h, 2w)
    wide: Tensor  # (1, C, h, w), the position encoding that the decoder adds


class Offers(NamedTuple):
    """What the decoder offers for N objects on one frame, M masks each."""

    masks: Tensor  # logits (1, N, M, s, s)
    ious: Tensor  # predicted, (1, N, M)
    tokens: Tensor  # (1, N, M, C), or one for all masks (1, N, 1, C)
    scores: Tensor  # logits of being in sight (1, N, 1)


class Guess(NamedTuple):
    """One object on one frame, one mask taken."""

    mask: Tensor  # logits (1, 1, s, s)
    large: Tensor  # logits (1, 1, S, S)
    pointer: Tensor  # (1, 1, C)
    score: Tensor  # logit (1, 1, 1)
    iou: Tensor  # ()


def seen(net: Net, pixels: Tensor) -> View:
    """Prepared pixels (1, 3, S, S) through the image encoder."""
    output = net.get_image_features(pixels.to(net.no_memory_embedding), return_dict=True)
    *fine, tokens = output.fpn_hidden_states  # each (h*w, 1, C)
    sizes = net.backbone_feature_sizes
    maps = [x.permute(1, 2, 0).unflatten(-1, tuple(size)) for x, size in zip(fine, sizes[:-1], strict=True)]
    return View(tokens, output.fpn_position_encoding[-1], maps, net.get_image_wide_positional_embeddings())


def narrow(net: Net, dtype: torch.dtype) -> None:
    """The image encoder alone in another dtype, in place: the rest of the net still gets float32."""
    if dtype == torch.float32:
        return

    def lower(encoder: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(tensor.to(dtype) for tensor in given)

    def raised(encoder: nn.Module, given: tuple[Tensor, ...], output: Any) -> Any:
        output.fpn_hidden_states = tuple(tensor.float() for tensor in output.fpn_hidden_states)
        output.fpn_position_encoding = tuple(tensor.float() for tensor in output.fpn_position_encoding)
        return output

    net.vision_encoder.to(dtype)
    net.vision_encoder.register_forward_pre_hook(lower)
    net.vision_encoder.register_forward_hook(raised)


def stir(net: Net, gain: float = 1.2) -> None:
    """Random weights for a net at toy size, in place, from torch's own generator: such that a signal keeps its size
    and masks have both sides. Fresh nets of the library start at nearly nothing."""
    with torch.no_grad():
        for name, tensor in net.named_parameters():
            if tensor.ndim == 1:
                tensor.normal_(float(name.endswith(("weight", "scale"))), 0.3)
            else:
                tensor.normal_(0.0, gain / (tensor[0] if len(tensor) > 1 else tensor).numel() ** 0.5)
        waves = net.shared_image_embedding.positional_embedding
        net.prompt_encoder.shared_embedding.positional_embedding.copy_(waves.normal_())


def offered(
    net: Net, view: View, tokens: Tensor, marks: Marks | None, prior: Tensor | None, is_ambiguous: bool
) -> Offers:
    """The decoder's masks. ``tokens`` (h*w, 1, C) are the view's after they saw memories, or with the net's
    ``no_memory_embedding`` added; ``prior`` are logits (N, 1, s, s) of a mask to start from. ``is_ambiguous`` asks
    for three masks rather than one."""
    height, width = net.backbone_feature_sizes[-1]
    if marks is None:
        empty = tokens.new_zeros(1, 1, 1, 2)
        marks = Marks(empty, torch.full((1, 1, 1), -1, dtype=torch.int32, device=tokens.device))
    size = net.prompt_encoder.mask_input_size
    if prior is not None and prior.shape[-2:] != tuple(size):
        prior = functional.interpolate(prior, size, mode="bilinear", align_corners=False, antialias=True)
    sparse, dense = net.prompt_encoder(
        input_points=marks.places, input_labels=marks.labels, input_boxes=None, input_masks=prior
    )
    masks, ious, chosen, scores = net.mask_decoder(
        image_embeddings=tokens.permute(1, 2, 0).reshape(1, -1, height, width),  # (1, C, h, w)
        image_positional_embeddings=view.wide,
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=is_ambiguous,
        high_resolution_features=view.fine,
    )
    return Offers(masks, ious, chosen, scores)


def taken(net: Net, offers: Offers, visible: float, choose: Callable[[Tensor, Tensor], int]) -> Guess:
    """One mask of the offers for a single object. ``choose`` is asked where there are several, with logits
    (M, S, S) and IoUs (M,); an object with a score of ``visible`` or less is out of sight."""
    is_seen = offers.scores > visible  # (1, 1, 1)
    masks = torch.where(is_seen[..., None, None], offers.masks, ABSENT)[0]  # (1, M, s, s)
    side = net.image_size
    large = functional.interpolate(masks.float(), (side, side), mode="bilinear", align_corners=False)  # (1, M, S, S)
    index = choose(large[0], offers.ious[0, 0]) if masks.shape[1] > 1 else 0
    token = offers.tokens[:, :, min(index, offers.tokens.shape[2] - 1)]  # (1, 1, C)
    pointer = _with_absence(net, net.object_pointer_proj(token), is_seen)
    return Guess(
        masks[:, index : index + 1],
        large[:, index : index + 1].to(masks),
        pointer,
        offers.scores,
        offers.ious[0, 0, index],
    )


def given(net: Net, view: View, mask: Tensor, visible: float) -> Guess:
    """A mask (S, S) as it stands; the decoder only makes the pointer."""
    tokens = view.tokens  # (h*w, 1, C), without memories
    flat = (mask != 0).to(tokens)[None, None]  # (1, 1, S, S)
    large = flat * GAIN + SHIFT
    size = net.prompt_encoder.mask_input_size
    small = functional.interpolate(large.float(), size, mode="bilinear", align_corners=False, antialias=True)
    offers = offered(net, view, tokens, None, net.mask_downsample(flat), is_ambiguous=False)
    pointer = taken(net, offers, visible, lambda masks, ious: 0).pointer
    is_seen = flat.any().reshape(1, 1, 1)
    return Guess(
        small.to(flat),
        large,
        _with_absence(net, pointer, is_seen),
        is_seen.to(flat) * GAIN + SHIFT,
        flat.new_ones(()),
    )


def remembered(net: Net, view: View, guess: Guess, is_cued: bool) -> tuple[Tensor, Tensor]:
    """The frame with the object's mask as a memory: features and their places, as the net's attention reads them.
    The mask of a cued frame is made hard first."""
    features, places = net._encode_new_memory(
        current_vision_feats=view.tokens,
        pred_masks_high_res=guess.large,
        object_score_logits=guess.score,
        is_mask_from_pts=is_cued,
    )
    return features, places


def _with_absence(net: Net, pointer: Tensor, is_seen: Tensor) -> Tensor:
    """The pointer (1, 1, C), or the one that stands for nothing."""
    weight = is_seen.to(pointer)
    absent: Tensor = weight * pointer + (1 - weight) * net.no_object_pointer
    return absent
