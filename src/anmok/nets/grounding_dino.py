"""Grounding DINO in three parts: what a picture gives, what a text gives, and where the two meet.

The modules are transformers' own; here they are called in such an order that one picture serves many texts and one
text many pictures, which their single ``forward`` does not allow. Architecture: Liu et al., "Grounding DINO: Marrying
DINO with Grounded Pre-Training for Open-Set Object Detection" (ECCV 2024, arXiv:2303.05499), repository
IDEA-Research/GroundingDINO; Zhao et al., "An Open and Comprehensive Pipeline for Unified Object Grounding and
Detection" (2024, arXiv:2401.02361) for MM-Grounding-DINO. Inference only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class Words:
    """A prompt of T tokens as the text tower left it: ``states`` (1, T, D), ``together`` bool (1, T, T) for tokens
    that see each other, ``places`` int64 (1, T) within their phrases."""

    states: Tensor
    together: Tensor
    places: Tensor


@dataclass(frozen=True, eq=False)
class _Field:
    """Maps of all levels in one row of S places: ``states``, ``positions`` (1, S, D), ``is_seen`` bool (1, S), and
    the keywords about the shapes of the levels that encoder and decoder both take."""

    states: Tensor
    positions: Tensor
    is_seen: Tensor
    shapes: dict[str, Any]


class Grounding(nn.Module):
    """``net`` is transformers' GroundingDinoForObjectDetection or MMGroundingDinoForObjectDetection."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net: Any = net
        self.config: Any = net.config

    def see(self, pixels: Tensor) -> list[Tensor]:
        """(B, 3, h, w) to maps of all levels, each (B, D, h / stride, w / stride) with strides 8, 16, 32, 64, ..."""
        model = self.net.model
        raw = model.backbone.conv_encoder.model(pixels, return_dict=True).feature_maps
        maps = [project(one) for project, one in zip(model.input_proj_vision, raw, strict=False)]
        source = raw[-1]
        for project in model.input_proj_vision[len(raw) :]:
            source = project(source)  # (B, D, h / 2, w / 2)
            maps.append(source)
        return maps

    def read(self, ids: Tensor, together: Tensor, places: Tensor) -> Words:
        """One prompt: int64 (T,), bool (T, T), int64 (T,)."""
        model = self.net.model
        states = model.text_backbone(
            ids[None], together[None, None], torch.zeros_like(ids)[None], places[None]
        ).last_hidden_state  # (1, T, Dt)
        return Words(model.text_projection(states), together[None], places[None])

    def meet(
        self, maps: Sequence[Tensor], words: Words, canvas_hw: tuple[int, int], seen_hw: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """One picture and one prompt to logits (Q, T) of every query and token, and boxes (Q, 4): centre and size
        relative to what is picture.

        ``maps`` are those of ``see`` without the batch axis. Of the canvas, ``seen_hw`` pixels from its top left
        corner are picture, and the rest is padding.
        """
        model = self.net.model
        field = self._field(maps, canvas_hw, seen_hw)
        unread = torch.zeros(words.places.shape, dtype=torch.bool, device=words.places.device)  # (1, T): no padding
        joined = model.encoder(
            vision_features=field.states,
            vision_attention_mask=~field.is_seen,
            vision_position_embedding=field.positions,
            text_features=words.states,
            text_attention_mask=unread,
            text_position_embedding=None,
            text_self_attention_masks=~words.together,
            text_position_ids=words.places,
            **field.shapes,
        )
        image, text = joined.last_hidden_state_vision, joined.last_hidden_state_text  # (1, S, D), (1, T, D)
        start = self._proposals(image, text, field)  # (1, Q, 4)
        queries = model.query_position_embeddings.weight[None]  # (1, Q, D)
        decoded = model.decoder(
            inputs_embeds=queries,
            vision_encoder_hidden_states=image,
            vision_encoder_attention_mask=field.is_seen,
            text_encoder_hidden_states=text,
            text_encoder_attention_mask=unread,
            reference_points=start,
            **field.shapes,
        )
        last = decoded.last_hidden_state  # (1, Q, D)
        reached = decoded.intermediate_reference_points  # (1, layers, Q, 4)
        before = reached[:, -2] if reached.shape[1] > 1 else start
        logits = self.net.class_embed[-1](last, text, ~unread)[0, :, : text.shape[1]]  # (Q, T)
        boxes = (self.net.bbox_embed[-1](last) + torch.special.logit(before, eps=1e-5)).sigmoid()[0]  # (Q, 4)
        return logits, boxes

    def _field(self, maps: Sequence[Tensor], canvas_hw: tuple[int, int], seen_hw: tuple[int, int]) -> _Field:
        model = self.net.model
        seen = [_seen(one, canvas_hw, seen_hw) for one in maps]  # each bool (1, h, w)
        positions = [
            model.backbone.position_embedding(one[None], mask).to(one.dtype) + level[:, None, None]  # (1, D, h, w)
            for one, mask, level in zip(maps, seen, model.level_embed, strict=True)
        ]
        sizes = [(one.shape[-2], one.shape[-1]) for one in maps]
        spatial = torch.tensor(sizes, device=maps[0].device)  # (L, 2)
        starts = torch.cat([spatial.new_zeros(1), spatial.prod(1).cumsum(0)[:-1]])  # (L,)
        ratios = torch.stack([model.get_valid_ratio(mask, dtype=maps[0].dtype) for mask in seen], 1)  # (1, L, 2)
        return _Field(
            states=torch.cat([one.flatten(1).T for one in maps])[None],  # (1, S, D)
            positions=torch.cat([one[0].flatten(1).T for one in positions])[None],  # (1, S, D)
            is_seen=torch.cat([mask.flatten() for mask in seen])[None],  # (1, S)
            shapes={
                "spatial_shapes": spatial,
                "spatial_shapes_list": sizes,
                "level_start_index": starts,
                "valid_ratios": ratios,
            },
        )

    def _proposals(self, image: Tensor, text: Tensor, field: _Field) -> Tensor:
        """The places that fit the text best, as boxes (1, Q, 4) from which the decoder starts."""
        model = self.net.model
        states, anchors = model.generate_encoder_output_proposals(
            image, ~field.is_seen, field.shapes["spatial_shapes_list"]
        )  # (1, S, D), (1, S, 4)
        is_token = torch.ones(text.shape[:2], dtype=torch.bool, device=text.device)  # (1, T)
        fit = model.encoder_output_class_embed(states, text, is_token).max(-1)[0]  # (1, S)
        best = fit.topk(self.config.num_queries, dim=1)[1]  # (1, Q)
        boxes: Tensor = model.encoder_output_bbox_embed(states) + anchors  # (1, S, 4)
        return boxes.gather(1, best[..., None].expand(-1, -1, 4)).sigmoid()  # (1, Q, 4)


def _seen(one: Tensor, canvas_hw: tuple[int, int], seen_hw: tuple[int, int]) -> Tensor:
    """bool (1, h, w): which places of a map (D, h, w) are picture, as the nearest pixel of the canvas says."""
    height, width = one.shape[-2:]
    rows = torch.arange(height, device=one.device) * canvas_hw[0] < seen_hw[0] * height
    columns = torch.arange(width, device=one.device) * canvas_hw[1] < seen_hw[1] * width
    return (rows[:, None] & columns[None, :])[None]
