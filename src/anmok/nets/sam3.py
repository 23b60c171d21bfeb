"""SAM 3 on pictures: what a phrase or exemplar boxes mean, found in a picture that was encoded once.

transformers' net, but for its pooling of exemplars, for which it needs torchvision; that is here in plain torch.
Source: N. Carion et al., "SAM 3: Segment Anything with Concepts" (arXiv:2511.16719), github.com/facebookresearch/sam3;
K. He et al., "Mask R-CNN" (ICCV 2017, arXiv:1703.06870) for the pooling, as torchvision has it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import Sam3Config, Sam3Model
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.sam3.modeling_sam3 import Sam3GeometryEncoder, Sam3VisionEncoderOutput

Seen = Sam3VisionEncoderOutput


class Found(NamedTuple):
    """What the Q queries found, in no order."""

    scores: Tensor  # float32 (Q,) in [0, 1]
    xyxy: Tensor  # float32 (Q, 4), in shares of the picture's sides
    masks: Tensor  # logits float32 (Q, h, w), on a grid over the whole picture


class Net(Sam3Model):  # type: ignore[no-untyped-call]
    """``Sam3Model`` that pools exemplars without torchvision."""

    def __init__(self, config: Sam3Config) -> None:
        super().__init__(config)
        prompts: Any = self.config.geometry_encoder_config
        self.geometry_encoder = GeometryEncoder(prompts)
        self.post_init()  # type: ignore[no-untyped-call]


class GeometryEncoder(Sam3GeometryEncoder):
    """Exemplar boxes to prompt tokens: where each is, how large, what is in it, and whether it is meant or not."""

    def _encode_boxes(
        self, boxes: Tensor, boxes_mask: Tensor, boxes_labels: Tensor, vision_features: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Boxes (B, K, 4) as centre and size in shares of the picture, with a mask of those that are real (B, K),
        signs (B, K), and features (B, C, h, w), to tokens (B, K, C)."""
        count, each = boxes.shape[:2]
        height, width = vision_features.shape[-2:]
        middle, size = boxes[..., :2], boxes[..., 2:]
        corners = torch.cat([middle - size / 2, middle + size / 2], -1)  # (B, K, 4)
        cells = corners * corners.new_tensor([width, height, width, height])
        inside = torch.stack(
            [roi_align(features, rows, self.roi_size) for features, rows in zip(vision_features, cells, strict=True)]
        )  # (B, K, C, r, r)
        pooled = self.boxes_pool_project(inside.flatten(0, 1)).view(count, each, -1)  # (B, K, C)
        x, y, wide, high = boxes.flatten(0, 1).unbind(-1)  # (B * K,) each
        place = self._encode_box_coordinates(x, y, wide, high).view(count, each, -1)  # (B, K, C + 2)
        tokens = self.boxes_direct_project(boxes) + pooled + self.boxes_pos_enc_project(place)
        return tokens + self.label_embed(boxes_labels.long()), boxes_mask


def roi_align(features: Tensor, xyxy: Tensor, bins: int) -> Tensor:
    """Features (C, h, w) inside boxes (K, 4), in cells, averaged over ``bins`` x ``bins`` parts: (K, C, bins, bins).

    As ``torchvision.ops.roi_align`` with its defaults: the middle of the first cell is at 0, a box narrower than a
    cell is taken as one cell wide, and a part is sampled at as many points as it has cells, rounded up.
    """
    height, width = features.shape[-2:]
    pooled = []
    for left, top, right, bottom in xyxy.tolist():
        rows = _shares(top, bottom, bins, height).to(features)  # (bins, h)
        columns = _shares(left, right, bins, width).to(features)  # (bins, w)
        pooled.append(rows @ features @ columns.T)  # (C, bins, bins)
    return torch.stack(pooled) if pooled else features.new_zeros(0, features.shape[0], bins, bins)


def _shares(start: float, end: float, bins: int, cells: int) -> Tensor:
    """What each cell of a side gives to each part of a box, (bins, cells)."""
    length = max(end - start, 1.0)
    samples = -int(-length / bins // 1)  # of each part, rounded up
    places = start + (torch.arange(bins * samples, dtype=torch.float64) + 0.5) * length / (bins * samples)
    is_inside = (places >= -1) & (places <= cells)
    places = places.clamp(0, cells - 1)
    low = places.floor().long()
    part = places - low
    shares = torch.zeros(bins * samples, cells, dtype=torch.float64)
    shares.scatter_add_(1, low[:, None], (1 - part)[:, None])
    shares.scatter_add_(1, (low + 1).clamp(max=cells - 1)[:, None], part[:, None])
    shares[~is_inside] = 0
    return shares.view(bins, samples, cells).mean(1)


def seen(net: Any, tokens: Tensor) -> Seen:
    """The maps that phrases are looked up in, from the tokens (1, T, D) that the transformer made of a picture."""
    side = round(tokens.shape[1] ** 0.5)
    square = tokens.view(1, side, side, -1).permute(0, 3, 1, 2)  # (1, D, h, w)
    maps, places = net.vision_encoder.neck(square)
    return Seen(last_hidden_state=tokens, fpn_hidden_states=maps, fpn_position_encoding=places)


def found(net: Any, view: Seen, text: Tensor, boxes: Tensor | None = None, signs: Tensor | None = None) -> Found:
    """What one phrase means in the picture, given as its tokens' vectors (1, T, C).

    ``boxes`` (1, K, 4), centre and size in shares of the picture, are exemplars of it; ``signs`` int64 (1, K) are 1,
    or 0 for what is not meant. A score is the query's own, times that of the phrase being in the picture at all.
    """
    output = net(
        vision_embeds=view,
        text_embeds=BaseModelOutputWithPooling(pooler_output=text),
        attention_mask=torch.ones(text.shape[:2], dtype=torch.long, device=text.device),
        input_boxes=boxes,
        input_boxes_labels=signs,
    )
    scores = output.pred_logits[0].float().sigmoid() * output.presence_logits[0].float().sigmoid()  # (Q,)
    return Found(scores, output.pred_boxes[0].float(), output.pred_masks[0].float())
