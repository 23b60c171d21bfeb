"""RT-DETR v2, D-FINE and RF-DETR: boxes around the classes that a detector was trained on.

Source: Lv et al., "RT-DETRv2: Improved Baseline with Bag-of-Freebies for Real-Time Detection Transformer" (2024,
arXiv:2407.17140); Peng et al., "D-FINE: Redefine Regression Task of DETRs as Fine-grained Distribution Refinement"
(ICLR 2025, arXiv:2410.13842); Robinson et al., "RF-DETR: Neural Architecture Search for Real-Time Detection
Transformers" (ICLR 2026, arXiv:2511.09554).

None of the three needs its boxes thinned out: they are trained to find each thing once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import nn
from transformers import (
    DFineConfig,
    DFineForObjectDetection,
    PreTrainedConfig,
    PreTrainedModel,
    RfDetrConfig,
    RfDetrForObjectDetection,
    RTDetrV2Config,
    RTDetrV2ForObjectDetection,
)

from anmok import geometry
from anmok.inputs import Encoded
from anmok.nets.pretrained import configured, filled
from anmok.results import Detections
from anmok.tasks import Detect, Setup
from anmok.words import naming

Array = NDArray[np.float32]

# By the first word of a card's kind, which is the ``model_type`` of its config.json.
NETS: Mapping[str, tuple[type[PreTrainedConfig], type[PreTrainedModel]]] = {
    "rt_detr_v2": (RTDetrV2Config, RTDetrV2ForObjectDetection),
    "d_fine": (DFineConfig, DFineForObjectDetection),
    "rf_detr": (RfDetrConfig, RfDetrForObjectDetection),
}
THRESHOLD = 0.5  # of the published post-processing, and in the readers' guides of all three
_LEAST = 1e-3  # pixels of a box's side, under which nothing of it lies in the picture
_NAMELESS = ("", "n/a")  # what some configurations put where COCO's numbers have a gap

_COCO = (
    "person/bicycle/car/motorcycle/airplane/bus/train/truck/boat/traffic light/fire hydrant/stop sign/parking meter/"
    "bench/bird/cat/dog/horse/sheep/cow/elephant/bear/zebra/giraffe/backpack/umbrella/handbag/tie/suitcase/frisbee/"
    "skis/snowboard/sports ball/kite/baseball bat/baseball glove/skateboard/surfboard/tennis racket/bottle/wine glass/"
    "cup/fork/knife/spoon/bowl/banana/apple/sandwich/orange/broccoli/carrot/hot dog/pizza/donut/cake/chair/couch/"
    "potted plant/bed/dining table/toilet/tv/laptop/mouse/remote/keyboard/cell phone/microwave/oven/toaster/sink/"
    "refrigerator/book/clock/vase/scissors/teddy bear/hair drier/toothbrush"
)
COCO = tuple(_COCO.split("/"))

_HYBRID: Mapping[str, Any] = {  # the encoder and decoder of RT-DETR, which D-FINE has kept
    "encoder_hidden_dim": 32,
    "encoder_ffn_dim": 32,
    "encoder_attention_heads": 2,
    "d_model": 32,
    "num_queries": 30,
    "decoder_in_channels": [32, 32, 32],
    "decoder_ffn_dim": 32,
    "decoder_layers": 2,
    "decoder_attention_heads": 2,
    "hidden_expansion": 0.5,
}
_RESNET = {"embedding_size": 8, "hidden_sizes": [8, 16, 16, 16], "depths": [1, 1, 1, 1], "layer_type": "basic"}
_HGNET = {
    "stem_channels": [3, 8, 8],
    "stage_in_channels": [8, 16, 16, 16],
    "stage_mid_channels": [8, 8, 8, 8],
    "stage_out_channels": [16, 16, 16, 16],
    "stage_num_blocks": [1, 1, 1, 1],
    "stage_numb_of_layers": [1, 1, 1, 1],
    "hidden_sizes": [16, 16, 16, 16],
    "depths": [1, 1, 1, 1],
    "embedding_size": 8,
}
_WINDOWED = {
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "image_size": 64,
    "patch_size": 16,
    "num_windows": 2,
    "out_indices": [2, 4],
}
TINY: Mapping[str, Mapping[str, Any]] = {
    "rt_detr_v2": {
        **_HYBRID,
        "encoder_in_channels": [16, 16, 16],
        "backbone_config": {"model_type": "rt_detr_resnet", "out_indices": [2, 3, 4], **_RESNET},
    },
    "d_fine": {
        **_HYBRID,
        "encoder_in_channels": [16, 16, 16],
        "backbone_config": {"model_type": "hgnet_v2", "out_indices": [2, 3, 4], **_HGNET},
    },
    "rf_detr": {
        "backbone_config": {"model_type": "rf_detr_dinov2", **_WINDOWED},
        "d_model": 32,
        "num_queries": 12,
        "decoder_layers": 2,
        "decoder_ffn_dim": 32,
        "decoder_self_attention_heads": 2,
        "decoder_cross_attention_heads": 2,
        "group_detr": 2,
        "c2f_num_blocks": 1,
    },
}
_TINY_SIZE = 64  # pixels


class Detr:
    """The question comes after the net: a state holds the scores of all classes, float32 (Q, C), and boxes (Q, 4),
    centre and size relative to the picture."""

    def __init__(self, setup: Setup, net: nn.Module) -> None:
        self._setup = setup
        self._device = torch.device(setup.device)
        self._dtype = getattr(torch, setup.dtype)
        self._net = net.eval().to(self._device, self._dtype)
        config: Any = net.config
        names = {int(i): str(name).strip() for i, name in config.id2label.items()}
        self._columns = tuple(i for i in sorted(names) if names[i].lower() not in _NAMELESS)
        self._vocabulary = tuple(names[i] for i in self._columns)

    @classmethod
    def from_files(cls, setup: Setup) -> Detr:
        config, net = NETS[_architecture(setup)]
        content = json.loads(setup.files["config.json"].read_text(encoding="utf-8"))
        published = configured(config, content, setup.name)
        state = load_file(setup.files["model.safetensors"])
        return cls(setup, filled(net, published, state, getattr(torch, setup.dtype), setup.name))

    @classmethod
    def tiny(cls, setup: Setup, seed: int) -> Detr:
        torch.manual_seed(seed)
        config, kind = NETS[_architecture(setup)]
        net: Any = kind(config(**TINY[_architecture(setup)], id2label=dict(enumerate(COCO))))
        with torch.no_grad():  # as built, every class scores one in a hundred, and every place of a picture the same
            for name, parameter in net.named_parameters():
                if "class_embed" in name or "score_head" in name:
                    parameter.normal_(0.0, 0.2 if parameter.dim() > 1 else 0.0)
                elif parameter.dim() == 4:  # a convolution that keeps the size of its numbers
                    parameter.normal_(0.0, (2.0 / parameter[0].numel()) ** 0.5)
        return cls(replace(setup, pixels=replace(setup.pixels, size=_TINY_SIZE)), net)

    @property
    def nbytes(self) -> int:
        return sum(tensor.numel() * tensor.element_size() for tensor in self._net.state_dict().values())

    @property
    def vocabulary(self) -> tuple[str, ...]:
        return self._vocabulary

    def prepare(self, image: NDArray[np.uint8]) -> geometry.View:
        return geometry.view(image, self._setup.pixels)

    def encode(self, batch: Array) -> dict[str, Array]:
        """(B, 3, h, w) to ``scores`` (B, Q, C) and ``boxes`` (B, Q, 4)."""
        with torch.inference_mode():
            found = self._net(pixel_values=torch.from_numpy(batch).to(self._device, self._dtype))
            scores: Array = found.logits.float().sigmoid().cpu().numpy()  # (B, Q, C)
            boxes: Array = found.pred_boxes.float().cpu().numpy()  # (B, Q, 4)
        return {"scores": scores, "boxes": boxes}

    def detect(self, states: Sequence[Encoded], ask: Detect) -> list[Detections]:
        """Raises:
        BadRequest: a label that is none of the classes; the message offers the nearest.
        Untranslatable: a Korean label that no table holds.
        """
        if ask.labels is None:
            groups: tuple[tuple[int, ...], ...] = tuple((column,) for column in self._columns)
            return [self._found(state, ask, groups, self._vocabulary, ()) for state in states]
        sought = naming.wanted(ask.labels, ask.phrases, self._setup.languages)
        places = naming.chosen(self._vocabulary, sought, ask.labels)
        groups = tuple(tuple(self._columns[i] for i in group) for group in places)
        return [self._found(state, ask, groups, ask.labels, sought.read_as) for state in states]

    def _found(
        self,
        state: Encoded,
        ask: Detect,
        groups: Sequence[Sequence[int]],
        labels: tuple[str, ...],
        read_as: tuple[str, ...],
    ) -> Detections:
        """The best pairs of query and label, as many as there are queries: one query may stand for two labels."""
        scores = naming.by_label(np.asarray(state.maps["scores"], np.float32), groups)  # (Q, K)
        queries = len(scores)
        order = np.argsort(-scores.ravel(), kind="stable")[:queries]  # (N,)
        best, class_ids = scores.ravel()[order], order % len(labels)
        height, width = state.place.size_hw
        relative = geometry.from_cxcywh(np.asarray(state.maps["boxes"], np.float32)[order // len(labels)])  # (N, 4)
        xyxy = geometry.clipped(relative * np.asarray((width, height) * 2, np.float32), (height, width))
        threshold = THRESHOLD if ask.threshold is None else ask.threshold
        index = np.flatnonzero((best > threshold) & ((xyxy[:, 2:] - xyxy[:, :2]).min(1) > _LEAST))
        if ask.nms is not None:
            index = index[geometry.nms(xyxy[index], best[index], ask.nms, class_ids[index])]
        index = index[: ask.top_k]
        return Detections(xyxy[index], best[index], class_ids[index], labels, (height, width), read_as)


def _architecture(setup: Setup) -> str:
    return setup.kind.partition("-")[0]
