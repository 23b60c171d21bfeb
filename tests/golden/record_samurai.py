"""Records what the authors' SAMURAI does: its filter, its choice among masks and its choice of memories.

    PYTHONPATH=tests python -m golden.record_samurai CHECKOUT

``CHECKOUT`` is a copy of github.com/yangchris11/samurai, of commit ``COMMIT``. Their methods run on a stand-in for
the net that hands out drawn masks, scores and histories; what is drawn comes from numpy's seeds, so that the test
draws it again.
"""

from __future__ import annotations

import importlib
import sys
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]

COMMIT = "76ba195984892b0d1e3db5d9c9f90bb62175680a"
FILE = Path(__file__).with_name("samurai.npz")
STEPS = 200  # of the filter
SIDE, SMALL = 64, 16  # of the net's picture and of its masks, pixels
FRAMES = 120
ALPHAS = (0.15, 0.25)
HISTORIES = 6
LENGTH = 45  # frames of a history
SLOTS = 6


def drifting(seed: int = 0) -> Array:
    """Boxes (STEPS, 4) xyxy of something that moves, grows and trembles."""
    rng = np.random.default_rng(seed)
    time = np.arange(STEPS)
    centre = np.stack([300 + 2.5 * time + 40 * np.sin(time / 9), 500 - 1.2 * time + 30 * np.cos(time / 7)], axis=1)
    size = np.stack([80 + 0.4 * time, 140 + 20 * np.sin(time / 15)], axis=1)
    noise = rng.normal(0, 3, (STEPS, 4))
    return np.round(np.concatenate([centre - size / 2, centre + size / 2], axis=1) + noise)


@dataclass(frozen=True)
class Offer:
    """What a decoder says of one frame: logits (3, s, s), predicted IoUs (3,), a logit of being in sight."""

    masks: NDArray[np.float32]
    ious: NDArray[np.float32]
    score: float


def offers(seed: int = 1) -> list[Offer]:
    """A target that moves to the right, a look-alike that stays, and a scrap or nothing. For long stretches all is
    well; then the look-alike scores higher for a while, the target is lost, and it comes back."""
    rng = np.random.default_rng(seed)
    drawn = []
    for frame in range(FRAMES):
        masks = rng.uniform(-6, -1, (3, SMALL, SMALL)).astype(np.float32)
        left = 1 + frame * 9 // FRAMES
        masks[0, 3 : 8 + frame % 2, left : left + 4] = rng.uniform(1, 6)
        masks[1, 10:14, 2:6] = rng.uniform(1, 6)
        if frame % 3:
            masks[2, 1:3, 12 : 13 + frame % 4] = 2
        ious = rng.uniform((0.6, 0.35, 0.1), (0.95, 0.62, 0.5))
        score = rng.uniform(-0.6, 4)
        if 40 <= frame < 52:  # the look-alike tempts
            ious[1] = ious[0] + 0.02 + 0.025 * (frame - 40)
        if 60 <= frame < 66 or frame in (5, 80, 83):  # lost
            ious, score = rng.uniform(0.02, 0.29, 3), rng.uniform(-3, 0.5)
        if frame == 90:  # nothing at all is found, with confidence
            masks[:] = -3
        drawn.append(Offer(masks, np.minimum(ious, 0.99).astype(np.float32), float(np.float32(score))))
    return drawn


@dataclass(frozen=True)
class Past:
    """One frame of a history: predicted IoU, object score and, where the filter had a say, overlap."""

    iou: float
    score: float
    overlap: float | None


def history(seed: int) -> list[Past]:
    """Frames 1 to LENGTH - 1 after a first one; the higher the seed, the rarer the good ones."""
    rng = np.random.default_rng(100 + seed)
    badness = seed / HISTORIES
    drawn = []
    for frame in range(1, LENGTH):
        iou = rng.uniform(0.0, 0.5) if rng.random() < badness else rng.uniform(0.5, 1.0)
        score = rng.uniform(-4, 0) if rng.random() < badness / 2 else rng.uniform(0, 4)
        overlap = None if frame < 16 else 0.0 if rng.random() < badness / 2 else rng.uniform(0.01, 1)
        iou, score = float(np.float32(iou)), float(np.float32(score))
        drawn.append(Past(iou, score, None if overlap is None else float(np.float32(overlap))))
    return drawn


def is_measured(step: int) -> bool:
    """Now and then nothing is measured, and the prediction stands."""
    return step % 17 != 16


def filtered(kalman: Any) -> tuple[Array, Array]:
    """After each step, the mean (STEPS, 8); after every tenth, the covariance (STEPS / 10, 8, 8)."""
    boxes, means, covariances = drifting(), [], []
    mean, covariance = kalman.initiate(kalman.xyxy_to_xyah(boxes[0]))
    for step, box in enumerate(boxes):
        mean, covariance = kalman.predict(mean, covariance)
        if is_measured(step):
            mean, covariance = kalman.update(mean, covariance, kalman.xyxy_to_xyah(box))
        means.append(mean)
        covariances.append(covariance)
    return np.array(means), np.array(covariances[::10])


def chosen(base: Any, kalman: Any, alpha: float) -> Array:
    """(FRAMES, 12): index, stable frames, IoU, overlap (-1 where there is none) and the filter's mean."""
    net = types.SimpleNamespace(
        sam_prompt_embed_dim=1,
        sam_image_embedding_size=1,
        sam_prompt_encoder=_Prompts(),
        pred_obj_scores=True,
        min_obj_score_logits=-1,
        image_size=SIDE,
        samurai_mode=True,
        kf=kalman,
        kf_mean=None,
        kf_covariance=None,
        stable_frames=0,
        stable_frames_threshold=15,
        stable_ious_threshold=0.3,
        kf_score_weight=alpha,
        frame_cnt=0,
        history={},
        obj_ptr_proj=lambda token: token,
        soft_no_obj_ptr=False,
        fixed_no_obj_ptr=True,
        no_obj_ptr=torch.full((1, 1), -1.0),
    )
    rows = []
    for offer in offers():
        masks, ious = torch.from_numpy(offer.masks)[None], torch.from_numpy(offer.ious)[None]
        tokens, score = torch.arange(3.0).reshape(1, 3, 1), torch.tensor([[offer.score]])
        net.sam_mask_decoder = lambda answer=(masks, ious, tokens, score), **_: answer
        answer = base._forward_sam_heads(net, torch.zeros(1, 1, 1, 1), multimask_output=True)
        pointer, iou, overlap = float(answer[5]), float(answer[7]), answer[8]
        # Out of sight the pointer is replaced, and the index shows only in the IoU.
        index = int(pointer) if pointer >= 0 else offer.ious.tolist().index(iou)
        rows.append([index, net.stable_frames, iou, -1 if overlap is None else float(overlap), *net.kf_mean])
    return np.array(rows)


def recalled(base: Any, past: list[Past]) -> NDArray[np.int64]:
    """For each frame from 1: what fills the slots, the nearest first, (LENGTH - 1, SLOTS); -1 for nothing."""
    rows = []
    for now in range(1, len(past) + 2):
        outputs = {frame: _stored(frame, past[frame - 1]) for frame in range(1, now)}
        seen: dict[str, Tensor] = {}
        net = types.SimpleNamespace(
            hidden_dim=1,
            num_maskmem=SLOTS + 1,
            max_cond_frames_in_attn=-1,
            training=False,
            memory_temporal_stride_for_eval=1,
            samurai_mode=True,
            memory_bank_iou_threshold=0.5,
            memory_bank_obj_score_threshold=0.0,
            memory_bank_kf_score_threshold=0.0,
            max_obj_ptrs_in_encoder=16,
            use_obj_ptrs_in_encoder=False,
            # The place of a memory shows its slot: the table is read from the end, as slot - 1.
            maskmem_tpos_enc=torch.arange(float(SLOTS + 1)).reshape(-1, 1, 1, 1),
            memory_attention=lambda seen=seen, **given: seen.update(given) or torch.zeros(1, 1, 1),
        )
        base._prepare_memory_conditioned_features(
            net,
            frame_idx=now,
            is_init_cond_frame=False,
            current_vision_feats=[torch.zeros(1, 1, 1)],
            current_vision_pos_embeds=[torch.zeros(1, 1, 1)],
            feat_sizes=[(1, 1)],
            output_dict={"cond_frame_outputs": {0: _stored(0, Past(1, 1, None))}, "non_cond_frame_outputs": outputs},
            num_frames=LENGTH,
        )
        row = [-1] * SLOTS
        for frame, slot in zip(seen["memory"].ravel().tolist(), seen["memory_pos"].ravel().tolist(), strict=True):
            if slot < SLOTS:  # the last place of the table is the first frame's
                row[int(slot)] = int(frame)
        rows.append(row)
    return np.array(rows)


def _stored(frame: int, past: Past) -> dict[str, Any]:
    return {
        "best_iou_score": torch.tensor(past.iou),
        "object_score_logits": torch.tensor(past.score),
        "kf_score": None if past.overlap is None else torch.tensor(past.overlap),
        "maskmem_features": torch.full((1, 1, 1, 1), float(frame)),
        "maskmem_pos_enc": [torch.zeros(1, 1, 1, 1)],
    }


class _Prompts:
    mask_input_size = (SMALL, SMALL)

    def __call__(self, **_: Any) -> tuple[None, None]:
        return None, None

    def get_dense_pe(self) -> None:
        return None


def main(checkout: str) -> None:
    root = Path(checkout) / "sam2" / "sam2"
    package = types.ModuleType("sam2")  # without its __init__, which wants hydra
    package.__path__ = [str(root)]
    sys.modules["sam2"] = package
    sys.modules["loguru"] = types.ModuleType("loguru")  # imported there, and not used
    sys.modules["loguru"].logger = None  # type: ignore[attr-defined]
    base = importlib.import_module("sam2.modeling.sam2_base").SAM2Base
    kalman = importlib.import_module("sam2.utils.kalman_filter").KalmanFilter
    means, covariances = filtered(kalman())
    np.savez_compressed(
        FILE,
        commit=COMMIT,
        means=means,
        covariances=covariances,
        **{f"chosen-{alpha}": chosen(base, kalman(), alpha) for alpha in ALPHAS},
        **{f"recalled-{seed}": recalled(base, history(seed)) for seed in range(HISTORIES)},
    )


if __name__ == "__main__":
    main(sys.argv[1])
