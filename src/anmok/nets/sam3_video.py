"""SAM 3 through a clip: things that phrases name are found in every frame and followed, in memory that does not grow.

transformers' net, session and rules, but for what they leave out where a compiled operator cannot be fetched: of
detections whose masks overlap the best stays, and small holes and specks go. Its session keeps what it computed for
every frame; what no later frame looks at is dropped here.

Source: N. Carion et al., "SAM 3: Segment Anything with Concepts" (arXiv:2511.16719), github.com/facebookresearch/sam3.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn
from transformers import Sam3VideoConfig, Sam3VideoModel
from transformers.models.sam3_video.modeling_sam3_video import Sam3VideoInferenceSession

from anmok.nets import sam3

HOLE, SPECK = 0.1, -0.1  # logits of what was filled, and of what was taken away
TINY_SIZE, _TINY_WIDTH = 56, 128  # twice the width of a memory, which is fixed
_NARROW = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
_WIDE = {**_NARROW, "hidden_size": _TINY_WIDTH}
_TINY_VISION: Mapping[str, Any] = {
    "model_type": "sam3_vision_model",
    "backbone_config": {
        **_NARROW,
        "model_type": "sam3_vit_model",
        "num_hidden_layers": 2,
        "image_size": TINY_SIZE,
        "pretrain_image_size": TINY_SIZE // 2,
        "patch_size": 14,
        "window_size": 2,
        "global_attn_indexes": [1],
    },
    "fpn_hidden_size": _TINY_WIDTH,
}
TINY: Mapping[str, Any] = {
    "vision_config": _TINY_VISION,
    "geometry_encoder_config": {**_WIDE, "num_layers": 1},
    "detr_encoder_config": {**_WIDE, "num_layers": 1},
    "detr_decoder_config": {**_WIDE, "num_layers": 2, "num_queries": 8},
    "mask_decoder_config": {"hidden_size": _TINY_WIDTH, "num_attention_heads": 2},
}
TINY_TEXT = {**_NARROW, "num_hidden_layers": 1, "projection_dim": 16, "max_position_embeddings": 32}
TINY_TRACKER: Mapping[str, Any] = {
    "model_type": "sam3_tracker_video",
    "vision_config": _TINY_VISION,
    "prompt_encoder_config": {"hidden_size": _TINY_WIDTH, "image_size": TINY_SIZE, "patch_size": 14},
    "mask_decoder_config": {
        "hidden_size": _TINY_WIDTH,
        "mlp_dim": 64,
        "num_attention_heads": 2,
        "iou_head_hidden_dim": 32,
    },
    "image_size": TINY_SIZE,
    "memory_attention_hidden_size": _TINY_WIDTH,
    "memory_attention_num_layers": 1,
    "memory_attention_rope_feat_sizes": [4, 4],
    "memory_attention_feed_forward_hidden_size": 64,
    "memory_encoder_hidden_size": _TINY_WIDTH,
    "mask_downsampler_embed_dim": _TINY_WIDTH,
    "memory_fuser_num_layers": 1,
    "memory_fuser_embed_dim": _TINY_WIDTH,
    "memory_fuser_intermediate_dim": 64,
}

FORGOTTEN = 300  # frames without a single cell, after which an object is let go
_AROUND = np.ones((3, 3))  # cells that touch at a corner are connected
_KEPT = ("maskmem_features", "maskmem_pos_enc", "object_pointer")


class Net(Sam3VideoModel):  # type: ignore[no-untyped-call]
    """``Sam3VideoModel`` without torchvision and without operators from the hub."""

    def __init__(self, config: Sam3VideoConfig) -> None:
        super().__init__(config)
        finder: Any = self.config.detector_config
        self.detector_model = sam3.Net(finder)
        self.holes, self.fill_hole_area = self.config.fill_hole_area, 0  # filled here
        self.post_init()  # type: ignore[no-untyped-call]

    def run_detection(self, inference_session: Any, vision_embeds: Any) -> dict[int, dict[str, Tensor]]:
        """By label: boxes, mask logits and scores of what is above the session's threshold. What several phrases of
        one label found is one set, in which the best of overlapping masks stays."""
        hits = {}
        for number, texts in inference_session.prompt_embeddings.items():
            seen = [sam3.found(self.detector_model, vision_embeds, text) for text in texts]
            scores, xyxy, masks = (torch.cat(parts) for parts in zip(*seen, strict=True))
            keep = torch.nonzero(scores > inference_session.threshold)[:, 0]  # (N,)
            if self.det_nms_thresh > 0:
                keep = keep[best_masks(masks[keep] > 0, scores[keep], self.det_nms_thresh)]
            hits[number] = {"bbox": xyxy[keep], "mask": masks[keep], "scores": scores[keep]}
        return hits

    def run_tracker_propagation(self, inference_session: Any, frame_idx: int, reverse: bool) -> tuple[Tensor, Tensor]:
        masks, scores = super().run_tracker_propagation(inference_session, frame_idx, reverse)
        return cleaned(masks, self.holes), scores

    def build_outputs(
        self,
        inference_session: Any,
        det_out: Any,
        tracker_low_res_masks_global: Tensor,
        tracker_update_plan: Any,
        reconditioned_obj_ids: Any = None,
    ) -> dict[int, Tensor]:
        by_object: dict[int, Tensor] = super().build_outputs(
            inference_session, det_out, tracker_low_res_masks_global, tracker_update_plan, reconditioned_obj_ids
        )
        for key in tracker_update_plan["new_det_obj_ids"]:
            by_object[key] = cleaned(by_object[key], self.holes)
        return by_object


class Pointed:
    """The tracker with the detector's eye, as ``sam2_stream`` wants it."""

    def __init__(self, net: Net) -> None:
        self._net: Any = net

    def __getattr__(self, name: str) -> Any:
        return getattr(self._net.tracker_model, name)

    def get_image_features(self, pixels: Tensor, return_dict: bool = True) -> Any:
        tokens = self._net.detector_model.vision_encoder.backbone(pixels).last_hidden_state.float()
        seen = SimpleNamespace(last_hidden_state=tokens)
        maps, places = self._net.get_vision_features_for_tracker(seen)
        return SimpleNamespace(fpn_hidden_states=maps, fpn_position_encoding=places)


class Followed(NamedTuple):
    """The answer for one frame: rows in the order of ``keys``.

    ``labels`` (N) are numbers of those that each was found by; ``scores`` (N) how sure the detector was when it was
    found, ``trust`` (N) how sure the tracker is here; ``masks`` float32 (N, h, w) are logits, above 0 on the object.
    """

    keys: tuple[int, ...]
    labels: tuple[int, ...]
    scores: tuple[float, ...]
    trust: tuple[float, ...]
    masks: Tensor


class Concepts:
    """One clip, one caller: show it frame after frame with ``step``. Not safe to share between threads.

    Args:
        net: in eval mode.
        texts: of each label its phrases, of each phrase its tokens' vectors (1, T, C).
        threshold: a detection's score; the net's own where ``None``.

    As in any stream, objects that the detector does not confirm in their first frames are not taken back: they were
    shown already.
    """

    def __init__(self, net: Net, texts: Sequence[Sequence[Tensor]], threshold: float | None = None) -> None:
        self._net: Any = net
        session: Any = Sam3VideoInferenceSession(inference_device=net.device, inference_state_device=net.device)
        session.dtype = torch.float32
        session.processed_frames = _Latest()
        session.threshold = net.score_threshold_detection if threshold is None else threshold
        session.prompt_embeddings = {number: tuple(phrases) for number, phrases in enumerate(texts)}
        self._session = session
        self._seen: dict[int, int] = {}  # the frame on which each object was last in sight
        tracker = net.tracker_model.config
        self._pointers = tracker.max_object_pointers_in_encoder
        self._slots = tracker.num_maskmem - 1
        self._most = tracker.max_cond_frame_num

    @property
    def nbytes(self) -> int:
        """Bytes of the tensors that are kept between frames, without the net."""
        return sum(tensor.nbytes for tensor in {id(tensor): tensor for tensor in self._kept()}.values())

    @torch.inference_mode()
    def step(self, pixels: Tensor) -> Followed:
        """The next frame: prepared pixels float (1, 3, S, S)."""
        session = self._session
        output = self._net(inference_session=session, frame=pixels)
        keys = tuple(sorted(output.obj_id_to_mask))
        side = self._net.low_res_mask_size
        masks = [output.obj_id_to_mask[key].float() for key in keys]  # each (1, h, w)
        answer = Followed(
            keys,
            tuple(session.obj_id_to_prompt_id[key] for key in keys),
            tuple(float(output.obj_id_to_score[key]) for key in keys),
            tuple(float(output.obj_id_to_tracker_score.get(key, 0.0)) for key in keys),
            torch.cat(masks) if masks else torch.zeros(0, side, side, device=pixels.device),
        )
        self._prune(output.frame_idx, answer)
        return answer

    def _prune(self, now: int, answer: Followed) -> None:
        """Drop what the coming frame and those after it cannot look at."""
        session = self._session
        for records in session.output_dict_per_obj.values():
            asked, tracked = records["cond_frame_outputs"], records["non_cond_frame_outputs"]
            for frame in sorted(asked)[: -self._most]:
                del asked[frame]
            for frame in [frame for frame in tracked if now - frame >= self._pointers - 1]:
                del tracked[frame]
            for frame, record in [*asked.items(), *tracked.items()]:
                is_near = frame in asked or now - frame < self._slots
                for name in [name for name in record if name not in (_KEPT if is_near else _KEPT[2:])]:
                    del record[name]
        for number in session.mask_inputs_per_obj:
            session.mask_inputs_per_obj[number].clear()
            session.frames_tracked_per_obj[number].clear()
        session.obj_id_to_tracker_score_frame_wise = defaultdict(dict)
        session.unmatched_frame_inds = defaultdict(list)
        session.overlap_pair_to_frame_inds = defaultdict(list)
        session.suppressed_obj_ids = defaultdict(set)
        in_sight = (answer.masks > 0).flatten(1).any(1).tolist()
        self._seen.update((key, now) for key, is_seen in zip(answer.keys, in_sight, strict=True) if is_seen)
        for key in [key for key in answer.keys if now - self._seen.setdefault(key, now) >= FORGOTTEN]:
            self._forget(key)

    def _forget(self, key: int) -> None:
        session = self._session
        session.remove_object(key)
        for records in (session.obj_id_to_score, session.obj_id_to_last_occluded, session.obj_first_frame_idx):
            records.pop(key, None)
        session.trk_keep_alive.pop(key, None)
        del self._seen[key]

    def _kept(self) -> Iterator[Tensor]:
        session = self._session
        yield from session.processed_frames.values()
        for features in session.cache._vision_features.values():
            yield from (tensor for tensors in features.values() for tensor in tensors)
        for records in session.output_dict_per_obj.values():
            for record in [one for frames in records.values() for one in frames.values()]:
                yield from (value for value in record.values() if isinstance(value, Tensor))
        for inputs in session.mask_inputs_per_obj.values():
            yield from inputs.values()


class _Latest(dict[int, Tensor]):
    """Frames by number, of which only the last is kept; its length counts all that were shown."""

    def __init__(self) -> None:
        super().__init__()
        self._count = 0

    def __setitem__(self, frame: int, pixels: Tensor) -> None:
        self.clear()
        self._count += 1
        super().__setitem__(frame, pixels)

    def __len__(self) -> int:
        return self._count


def best_masks(masks: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """Of masks bool (N, h, w) the indices (K,) that stay, best score first: none that overlaps a better one by more
    than ``threshold`` (IoU)."""
    flat = masks.flatten(1).float()  # (N, h * w)
    shared = flat @ flat.T  # (N, N)
    areas = flat.sum(1)
    overlap = shared / (areas[:, None] + areas[None] - shared).clamp(min=1)
    kept: list[int] = []
    for i in scores.argsort(descending=True, stable=True).tolist():
        if not kept or float(overlap[i, kept].max()) <= threshold:
            kept.append(i)
    return torch.tensor(kept, dtype=torch.long, device=masks.device)


def cleaned(masks: Tensor, area: int) -> Tensor:
    """Mask logits (N, h, w) without holes of up to ``area`` cells, and without specks of up to as many, as long as
    these are not the larger half of a mask."""
    if area <= 0 or not len(masks):
        return masks
    out = []
    for one in masks:
        is_on = (one > 0).cpu().numpy()
        holes = _small(~is_on, area)
        is_on = is_on | holes
        specks = _small(is_on, min(area, int(is_on.sum()) // 2))
        filled = one.masked_fill(torch.from_numpy(holes).to(one.device), HOLE)
        out.append(filled.masked_fill(torch.from_numpy(specks).to(one.device), SPECK))
    return torch.stack(out)


def _small(mask: Any, area: int) -> Any:
    """The connected patches of a mask bool (h, w) that have ``area`` cells or fewer."""
    labelled: Any = ndimage.label(mask, structure=_AROUND)
    marks = labelled[0]  # (h, w), 0 beside the mask
    is_small = np.bincount(marks.ravel()) <= area
    is_small[0] = False
    return is_small[marks]


def tiny_config(words: int) -> Sam3VideoConfig:
    """The architecture at toy size, for a vocabulary of so many words of which the last two are start and end."""
    text = {**TINY_TEXT, "vocab_size": words, "bos_token_id": words - 2, "eos_token_id": words - 1}
    finder = {"model_type": "sam3", **TINY, "text_config": {"model_type": "clip_text_model", **text}}
    return Sam3VideoConfig(detector_config=finder, tracker_config=dict(TINY_TRACKER), low_res_mask_size=16)


def roughened(net: nn.Module) -> None:
    """Random weights that tell pictures and phrases apart; those that a net starts with hardly do."""
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if parameter.dim() == 1:
                parameter.normal_(float(name.endswith(("weight", "scale"))), 0.3)
            else:
                fan = (parameter[0] if len(parameter) > 1 else parameter).numel()
                parameter.normal_(0.0, 1.2 / fan**0.5)
