"""SAM 2 against the answers of its authors' own code, on pictures and on clips, as recorded with
``tests/golden/record_sam2.py``."""

from __future__ import annotations

import functools
import json
from typing import Any

import numpy as np
import pytest
import torch
from transformers import Sam2VideoModel

from anmok.nets import sam2_frame
from anmok.nets.sam2_names import rename
from anmok.nets.sam2_stream import Stream
from golden import record_sam2 as record
from parity.streamed_nets import HEADS, as_cue, configured

WANTED = np.load(record.FILE)


@functools.cache
def authors(most: int = -1) -> Any:
    """transformers' net with the recorded weights, renamed."""
    names = json.loads(str(WANTED["names"]))
    state = rename({name: torch.from_numpy(array) for name, array in record.drawn(names).items()})
    heads = {**HEADS, "mlp_dim": 2048, "num_attention_heads": 8, "iou_head_hidden_dim": 256}
    net = Sam2VideoModel(
        configured(
            "sam2",
            mask_decoder_config=heads,
            max_cond_frame_num=most,
            memory_attention_num_layers=2,
            memory_fuser_num_layers=2,
            memory_fuser_intermediate_dim=512,
        )
    )
    assert set(state) == set(net.state_dict())
    net.load_state_dict(state)
    return net.eval()


@pytest.mark.parametrize("name", record.PICTURES)
def test_a_picture_is_segmented_as_by_the_authors(name: str) -> None:
    said, is_ambiguous = record.PICTURES[name]
    net = authors()
    with torch.inference_mode():
        view = sam2_frame.seen(net, torch.from_numpy(record.clip()[:1]))
        tokens = view.tokens + net.no_memory_embedding
        offers = sam2_frame.offered(net, view, tokens, as_cue(said).marks(tokens), None, is_ambiguous)
    # Logits are up to 34.
    np.testing.assert_allclose(offers.masks[0, 0], WANTED[f"picture-{name}-masks"], rtol=0, atol=1e-4)
    np.testing.assert_allclose(offers.ious[0, 0], WANTED[f"picture-{name}-ious"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", [*record.CLIPS, "many"])
def test_a_clip_is_followed_as_by_the_authors(name: str) -> None:
    """Memories are kept in half precision by both, so a last digit may fall either way and is handed on: hence the
    tolerance, a ten-thousandth of the logits' range of 45."""
    cues, most = (record.MANY, record.MOST) if name == "many" else (record.CLIPS[name], -1)
    stream, masks, scores = Stream(authors(most)), [], []
    for frame, picture in enumerate(record.clip()):
        said = [(manner, as_cue(cue)) for at, manner, cue in cues if at == frame]
        started = [cue for manner, cue in said if manner != "correct"]
        answer = stream.step(torch.from_numpy(picture)[None], started)
        for cue in (cue for manner, cue in said if manner == "correct"):
            answer = stream.correct([cue])
        masks.append(answer.masks[0].numpy())
        scores.append(float(answer.scores[0]))
    stacked = np.array(masks)
    means = np.stack([stacked.mean((1, 2)), stacked.std((1, 2)), scores])
    np.testing.assert_allclose(means, WANTED[f"clip-{name}-means"], rtol=0, atol=0.005)
    np.testing.assert_allclose(stacked[[0, 4, 21]], WANTED[f"clip-{name}-masks"], rtol=0, atol=0.005)


def test_the_cues_of_the_recorded_clips_do_matter() -> None:
    plain = WANTED["clip-point-means"]
    for name in ("corrected", "again", "twice", "mask", "box", "many"):
        assert np.abs(WANTED[f"clip-{name}-means"] - plain).max() > 0.3, name


def test_names_of_other_checkpoints_are_left_alone() -> None:
    state = {"vision_encoder.neck.convs.0.weight": torch.zeros(1), "mask_decoder.x": torch.zeros(1)}
    assert rename(state) == state
    odd = rename({"image_encoder.trunk.pos_embed": torch.zeros(1), "surprise": torch.ones(1)})
    assert set(odd) == {"vision_encoder.backbone.pos_embed", "surprise"}
