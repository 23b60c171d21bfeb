"""RepViT against timm's, as recorded with ``tests/golden/record_repvit.py``; EdgeTAM's clips against the authors' code,
as recorded with ``record_edgetam.py``; its files and their refusals."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import EdgeTamVideoConfig, EdgeTamVideoModel

from anmok.catalogue import card
from anmok.errors import BadWeights
from anmok.geometry import Pixels
from anmok.inputs import Encoded, Prompted
from anmok.models import sam2
from anmok.nets import edgetam
from anmok.nets.repvit import M1, RepVit
from anmok.nets.sam2_names import rename
from anmok.nets.sam2_stream import Stream
from anmok.tasks import Segment, Setup, TextRules
from golden import record_edgetam, record_sam2
from golden import record_repvit as record
from parity.streamed_nets import as_cue

WANTED = np.load(record.FILE)
CLIPS = np.load(record_edgetam.FILE)


def setup(files: dict[str, Path] | None = None, size: int = edgetam.TINY_SIZE) -> Setup:
    pixels = Pixels(size, "squash", "bilinear", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    return Setup("edgetam-test", "edgetam-m1", pixels, TextRules(), "softmax", (), files=files or {})


def test_repvit_is_timms() -> None:
    names = json.loads(str(WANTED["names"]))
    net = RepVit(M1).eval()
    assert {name: list(tensor.shape) for name, tensor in net.state_dict().items()} == names
    net.load_state_dict({name: torch.from_numpy(array) for name, array in record.drawn(names).items()})
    with torch.inference_mode():
        maps = [one.numpy() for one in net(torch.from_numpy(record.picture()))]
    assert len(maps) == 4
    for index, one in enumerate(maps):
        assert one.shape == tuple(WANTED[f"size-{index}"])
        # Values are of about 1 to 10.
        np.testing.assert_allclose(record.spread(one), WANTED[f"map-{index}"], rtol=1e-4, atol=1e-4)
        assert np.std(WANTED[f"map-{index}"]) > 0.1


def test_the_published_net_has_the_published_size() -> None:
    """13.9 million parameters; nothing that its authors' configuration leaves out."""
    with torch.device("meta"):
        net = edgetam.EdgeTam(edgetam.configured({}, "x"))
    assert isinstance(net, EdgeTamVideoModel)
    assert sum(parameter.numel() for parameter in net.parameters()) == card("edgetam").params == 13_895_794
    names = set(net.state_dict())
    assert "vision_encoder.backbone.timm_model.stages_2.blocks.13.se.fc1.weight" not in names  # every other has one
    assert "vision_encoder.backbone.timm_model.stages_2.blocks.12.se.fc1.weight" in names
    assert not any(name.startswith(("temporal_positional", "occlusion")) for name in names)


def test_published_files_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At toy size; what the file says of the backbone is checked and then built by us."""
    first = sam2.Sam2.tiny(setup(), seed=0)
    save_file(first._net.state_dict(), tmp_path / "model.safetensors")
    said: dict[str, Any] = {
        "model_type": "edgetam_video",
        **edgetam._TINY,
        **edgetam.PUBLISHED,
        "vision_config": {
            "model_type": "edgetam_vision_model",
            "backbone_config": {"model_type": "timm_wrapper", "architecture": "repvit_m1.dist_in1k"},
        },
    }
    (tmp_path / "config.json").write_text(json.dumps(said))
    files = {path.name: path for path in tmp_path.iterdir()}
    small = edgetam._vision(edgetam.TINY, 128, edgetam.TINY_SIZE)
    monkeypatch.setattr(edgetam, "_vision", lambda config, width, side: small)
    second = sam2.Sam2.from_files(setup(files))
    image = np.random.default_rng(0).integers(0, 256, (45, 90, 3), dtype=np.uint8)
    view = first.prepare(image)
    answers = []
    for one in (first, second):
        maps = {name: rows[0] for name, rows in one.encode(view.pixels[None]).items()}
        prompt = Prompted(Encoded("", maps, view.frame), points=((30.0, 20.0, 1),))
        answers += one.segment([prompt], Segment(candidates=3))
    # Weights out of a file lie elsewhere in memory, which may turn a last digit.
    np.testing.assert_allclose(answers[0].scores, answers[1].scores, rtol=0, atol=1e-5)
    assert all(one.iou(other) > 0.99 for one, other in zip(answers[0].rles, answers[1].rles, strict=True))


def test_another_net_or_backbone_is_refused() -> None:
    with pytest.raises(BadWeights, match="x: config.json is of a 'sam2_video', not of an edgetam_video"):
        edgetam.configured({"model_type": "sam2_video"}, "x")
    other = {"backbone_config": {"architecture": "repvit_m2.dist_in1k"}}
    with pytest.raises(BadWeights, match="x: the backbone is 'repvit_m2.dist_in1k'; this version has repvit_m1 alone"):
        edgetam.configured({"model_type": "edgetam_video", "vision_config": other}, "x")


@functools.cache
def authors() -> Any:
    """transformers' net on SAM 2's image encoder, with the recorded weights, renamed."""
    names = json.loads(str(CLIPS["names"]))
    drawn = record_sam2.drawn(names, record_edgetam.HIDDEN)
    state = rename({name: torch.from_numpy(array) for name, array in drawn.items()})
    heads = {"hidden_size": 128, "mlp_dim": 2048, "num_attention_heads": 8, "iou_head_hidden_dim": 256}
    changes = {"memory_attention_num_layers": 2, "memory_fuser_num_layers": 2, "memory_fuser_intermediate_dim": 512}
    vision = sam2.TINY["vision_config"]
    parts = {**edgetam._TINY, **edgetam.PUBLISHED, **changes, "vision_config": vision, "mask_decoder_config": heads}
    net = EdgeTamVideoModel(EdgeTamVideoConfig(**parts))
    assert set(state) == set(net.state_dict())
    net.load_state_dict(state)
    return net.eval()


@pytest.mark.parametrize("name", record_sam2.CLIPS)
def test_a_clip_is_followed_as_by_the_authors(name: str) -> None:
    stream, masks, scores = Stream(authors()), [], []
    for frame, picture in enumerate(record_sam2.clip()):
        said = [(manner, as_cue(cue)) for at, manner, cue in record_sam2.CLIPS[name] if at == frame]
        answer = stream.step(torch.from_numpy(picture)[None], [cue for manner, cue in said if manner != "correct"])
        for cue in (cue for manner, cue in said if manner == "correct"):
            answer = stream.correct([cue])
        masks.append(answer.masks[0].numpy())
        scores.append(float(answer.scores[0]))
    stacked = np.array(masks)
    means = np.stack([stacked.mean((1, 2)), stacked.std((1, 2)), scores])
    # Logits are up to 42, and 22 frames hand on what they rounded.
    np.testing.assert_allclose(means, CLIPS[f"clip-{name}-means"], rtol=0, atol=3e-4)
    np.testing.assert_allclose(stacked[[0, 4, 21]], CLIPS[f"clip-{name}-masks"], rtol=0, atol=3e-4)


def test_the_authors_files_are_read(tmp_path: Path) -> None:
    """Names and shapes of their checkpoint, at its own size, lead to every tensor of ours."""
    with torch.device("meta"):
        net = edgetam.EdgeTam(edgetam.configured({}, "x"))
    wanted = {name for name in net.state_dict() if name.startswith("vision_encoder.backbone.")}
    theirs = {f"image_encoder.trunk.body.{name}": torch.zeros(1) for name in json.loads(str(WANTED["names"]))}
    assert set(rename(theirs)) == wanted
