"""The sam2 and samurai model files: preprocessing as published, files in both layouts, answers in the caller's
pixels, and clips followed as the stream follows them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch.nn import functional
from transformers import Sam2VideoConfig, Sam2VideoModel

from anmok.catalogue import card, cards
from anmok.errors import BadRequest, BadWeights, Unsupported
from anmok.geometry import Frame, Pixels, Rle
from anmok.inputs import Cue, Encoded, Prompted
from anmok.load import tiny
from anmok.models import sam2, samurai
from anmok.nets import sam2_frame
from anmok.nets.samurai import Samurai as Choice
from anmok.results import Masks, Tracked
from anmok.tasks import Everything, Segment, Setup, TextRules, Track
from golden import record_sam2 as record

SIZE_HW = (45, 90)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
WANTED = np.load(record.FILE)


def setup(kind: str = "sam2.1-tiny", size: int = sam2.TINY_SIZE, **changes: Any) -> Setup:
    pixels = Pixels(size, "squash", "bilinear", MEAN, STD)
    return Setup("sam2-test", kind, pixels, TextRules(), "softmax", (), **changes)


def model(**changes: Any) -> sam2.Sam2:
    return sam2.Sam2.tiny(setup(**changes), seed=0)


def picture(seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (*SIZE_HW, 3), dtype=np.uint8)


def state(one: sam2.Sam2, image: NDArray[np.uint8]) -> Encoded:
    view = one.prepare(image)
    return Encoded("", {name: rows[0] for name, rows in one.encode(view.pixels[None]).items()}, view.frame)


def net_of(one: sam2.Sam2) -> Any:
    return one._net


# Preprocessing.


def test_the_card_says_what_the_published_processor_does() -> None:
    """``Sam2ImageProcessor`` of transformers: 1024 x 1024 bilinear whatever the shape, ImageNet's mean and deviation
    (models/sam2/image_processing_sam2.py, ``size``, ``image_mean``); its corners are stretched with the picture."""
    for one in (*cards("segment"), *cards("track")):
        if one.family in ("sam2", "samurai", "edgetam"):
            assert one.pixels == Pixels(1024, "squash", "bilinear", MEAN, STD)


def test_pixels_are_resized_scaled_and_normalised() -> None:
    image = picture()
    view = model().prepare(image)
    floats = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    small = functional.interpolate(floats, (64, 64), mode="bilinear", align_corners=False, antialias=True)[0]
    wanted = (small / 255 - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    # Ours is rounded to whole bytes on the way, as the processor's own bytes are: half of 1 / (255 * 0.224), and a
    # little for arithmetic in whole numbers.
    np.testing.assert_allclose(view.pixels, wanted.numpy(), rtol=0, atol=0.02)
    np.testing.assert_allclose(view.frame.to_canvas(np.array([[45.0, 22.5]])), [[32, 32]])


# Files.


def test_published_files_are_read(tmp_path: Path) -> None:
    net = net_of(model())
    net.config.to_json_file(tmp_path / "config.json")
    save_file(net.state_dict(), tmp_path / "model.safetensors")
    files = {path.name: path for path in tmp_path.iterdir()}
    loaded = sam2.Sam2.from_files(setup(files=files))
    first, second = (one.encode(model().prepare(picture()).pixels[None]) for one in (model(), loaded))
    for name, rows in first.items():
        # Weights out of a file lie elsewhere in memory, which may turn a last digit; values are of about 1 to 10.
        np.testing.assert_allclose(rows, second[name], rtol=0, atol=1e-4)
    with pytest.raises(BadWeights, match="looks at 64 pixels, the card says 1024"):
        sam2.Sam2.from_files(setup(size=1024, files=files))
    content = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**content, "model_type": "sam3_tracker_video"}))
    with pytest.raises(BadWeights, match="config.json is of a 'sam3_tracker_video', not of a sam2_video"):
        sam2.Sam2.from_files(setup(files=files))


def test_the_authors_files_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = json.loads(str(WANTED["names"]))
    state = {name: torch.from_numpy(array) for name, array in record.drawn(names).items()}
    heads = {"hidden_size": 128, "mlp_dim": 2048, "num_attention_heads": 8, "iou_head_hidden_dim": 256}
    changes = {"memory_attention_num_layers": 2, "memory_fuser_num_layers": 2, "memory_fuser_intermediate_dim": 512}
    config = Sam2VideoConfig(**{**sam2.TINY, **changes, "mask_decoder_config": heads})
    monkeypatch.setattr(sam2, "authored", lambda kind: config)
    path = tmp_path / "sam2.1_hiera_tiny.safetensors"
    save_file(state, path)
    loaded = sam2.Sam2.from_files(setup(files={path.name: path}))
    # The recorded picture's own pixels, so that nothing of preprocessing stands between.
    maps = {name: rows[0] for name, rows in loaded.encode(record.clip()[:1]).items()}
    whole = Frame((1.0, 1.0), (0.0, 0.0), (64, 64))
    [found] = loaded.segment([Prompted(Encoded("", maps, whole), points=((18.0, 30.0, 1),))], Segment(candidates=3))
    ious = np.sort(WANTED["picture-point-ious"])[::-1]
    np.testing.assert_allclose(found.scores, ious, rtol=0, atol=1e-5)
    order = np.argsort(-WANTED["picture-point-ious"])
    masks = torch.from_numpy(WANTED["picture-point-masks"][order])[:, None]
    large = functional.interpolate(masks, (64, 64), mode="bilinear", align_corners=False)[:, 0] > 0
    # A pixel whose logit is 0 but for the last digits may fall either way.
    assert (found.dense() != large.numpy()).sum() <= 2
    del state["no_mem_embed"]
    save_file(state, path)
    with pytest.raises(BadWeights, match="1 missing .no_memory_embedding"):
        sam2.Sam2.from_files(setup(files={path.name: path}))


@pytest.mark.parametrize("kind", record.PUBLISHED)
def test_the_sizes_are_those_of_the_authors_configurations(kind: str) -> None:
    with torch.device("meta"):
        net = Sam2VideoModel(sam2.authored(kind))
    shapes = {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}
    assert record.digest(shapes) == str(WANTED[f"digest-{kind}"])
    [one] = [one for one in cards() if one.family == "sam2" and one.kind == kind]
    assert one.params == sum(parameter.numel() for parameter in net.parameters())


# Pictures.


def test_prompts_reach_the_net_as_its_own_pixels() -> None:
    """Points, a box and a box with a point, against the net's own way of answering for a picture."""
    one, image = model(), picture()
    net, seen, frame = net_of(one), state(one, image), one.prepare(image).frame
    scale = torch.tensor([64 / 90, 64 / 45])
    box = torch.tensor([[10.0, 5.0], [60.0, 40.0]]) * scale
    spot = torch.tensor([[30.0, 20.0]]) * scale
    for prompt, places, labels in (
        (Prompted(seen, points=((30.0, 20.0, 1),)), spot, [1]),
        (Prompted(seen, boxes=((10.0, 5.0, 60.0, 40.0),)), box, [2, 3]),
        (
            Prompted(seen, points=((30.0, 20.0, 0),), boxes=((10.0, 5.0, 60.0, 40.0),)),
            torch.cat([box, spot]),
            [2, 3, 0],
        ),
    ):
        [found] = one.segment([prompt], Segment(candidates=3))
        with torch.inference_mode():
            wanted = net._single_frame_forward(
                pixel_values=torch.from_numpy(one.prepare(image).pixels)[None],
                input_points=places[None, None],
                input_labels=torch.tensor([[labels]], dtype=torch.int32),
                multimask_output=True,
            ).iou_scores[0, 0]
        np.testing.assert_allclose(found.scores, wanted.sort(descending=True)[0], rtol=0, atol=1e-5)
        assert found.size_hw == frame.size_hw == SIZE_HW


def test_several_boxes_are_objects_of_their_own() -> None:
    one, seen = model(), state(model(), picture())
    boxes = ((10.0, 5.0, 60.0, 40.0), (0.0, 0.0, 20.0, 20.0), (50.5, 10.0, 90.0, 45.0))
    [together] = one.segment([Prompted(seen, boxes=boxes)], Segment())
    alone = [one.segment([Prompted(seen, boxes=(box,))], Segment())[0] for box in boxes]
    assert [len(found) for found in alone] == [1, 1, 1]
    np.testing.assert_allclose(together.scores, [found.scores[0] for found in alone], rtol=0, atol=1e-5)


def test_a_mask_is_a_first_guess() -> None:
    one, seen = model(), state(model(), picture())
    guess = Rle.of(np.arange(90)[None] < np.full((45, 1), 40))
    [found] = one.segment([Prompted(seen, mask=guess)], Segment())
    [other] = one.segment([Prompted(seen, mask=Rle.of(~guess.mask()))], Segment())
    assert len(found) == len(other) == 1
    assert abs(found.scores[0] - other.scores[0]) > 1e-5


def test_everything_is_a_grid_of_points() -> None:
    one, seen = model(), state(model(), picture())
    rules = Everything(points_per_side=3, predicted_iou=0.0, stability=0.0)
    [found] = one.segment([seen], Segment(everything=rules))
    assert isinstance(found, Masks)
    assert 0 < len(found) <= 27
    assert (np.diff(found.scores) <= 0).all()
    [few] = one.segment([seen], Segment(everything=rules, threshold=float(found.scores[0])))
    assert len(few) >= 1


def test_what_it_cannot_read_is_refused() -> None:
    one, seen = model(), state(model(), picture())
    with pytest.raises(Unsupported, match="sam2-test reads no labels: point at things"):
        one.segment([seen], Segment(labels=("cat",)))
    with pytest.raises(Unsupported, match="takes no exemplars"):
        one.segment([Prompted(seen, exemplars=(((0.0, 0.0, 5.0, 5.0), 1),))], Segment())
    with pytest.raises(BadRequest, match="give points, boxes or a mask"):
        one.segment([Prompted(seen)], Segment())
    with pytest.raises(Unsupported, match="reads no labels: give the clip cues"):
        one.follow(Track(labels=("cat",)))


def test_half_precision_stays_in_the_image_encoder() -> None:
    one, full = model(dtype="bfloat16"), model()
    assert net_of(one).vision_encoder.backbone.patch_embed.projection.weight.dtype == torch.bfloat16
    assert net_of(one).memory_attention.layers[0].linear1.weight.dtype == torch.float32
    seen = [each.encode(each.prepare(picture()).pixels[None])["embedding"] for each in (one, full)]
    assert seen[0].dtype == np.float32
    cosine = float((seen[0] * seen[1]).sum() / np.sqrt((seen[0] ** 2).sum() * (seen[1] ** 2).sum()))
    assert 0.99 < cosine < 1 - 1e-7


# Clips.


def clip(count: int = 6) -> list[NDArray[np.uint8]]:
    return [picture(seed) for seed in range(count)]


def followed(one: Any, cues: list[Cue], ask: Track | None = None, count: int = 6) -> list[Tracked]:
    session = one.follow(ask or Track())
    return [
        session.step(index, index / 25, image, [cue for cue in cues if cue.frame == index])
        for index, image in enumerate(clip(count))
    ]


def test_a_clip_is_followed_in_the_callers_pixels() -> None:
    """The session against the stream that it is made of, with everything scaled by hand."""
    one = model()
    box = (10.0, 5.0, 60.0, 40.0)
    pieces = followed(one, [Cue(0, 3, points=((30.0, 20.0, 1),)), Cue(2, 8, box=box)])
    assert [piece.ids.tolist() for piece in pieces] == [[3], [3], [3, 8], [3, 8], [3, 8], [3, 8]]
    assert [piece.seconds for piece in pieces[:3]] == [0, 0.04, 0.08]
    stream = sam2.Stream(net_of(one))
    scale = torch.tensor([64 / 90, 64 / 45])
    said = {
        0: [sam2_frame.Cue(3, points=torch.tensor([[30.0, 20.0]]) * scale, labels=torch.tensor([1]))],
        2: [sam2_frame.Cue(8, box=torch.tensor(box) * scale.repeat(2))],
    }
    for index, (image, piece) in enumerate(zip(clip(), pieces, strict=True)):
        answer = stream.step(torch.from_numpy(one.prepare(image).pixels)[None], said.get(index, ()))
        large = functional.interpolate(answer.masks[None], SIZE_HW, mode="bilinear", align_corners=False)[0] > 0
        # A pixel whose logit is 0 but for the last digits may fall either way.
        assert (piece.masks.dense() != large.numpy()).sum() <= 4
        is_seen = large.flatten(1).any(1).numpy()
        np.testing.assert_allclose(piece.masks.scores, answer.ious.numpy() * is_seen, rtol=0, atol=1e-5)


@pytest.mark.parametrize("size_hw", [(1, 1), (7, 301), (203, 5), (1080, 1920)])
def test_clips_of_any_shape_are_followed(size_hw: tuple[int, int]) -> None:
    height, width = size_hw
    session, rng = model().follow(Track()), np.random.default_rng(0)
    cues = [Cue(0, 1, points=((width / 2, height / 2, 1),)), Cue(0, 2, box=(-3.0, -2.0, width + 9.0, height + 1.0))]
    for index in range(3):
        image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        piece = session.step(index, index / 25, image, cues if index == 0 else [])
        assert piece.masks.size_hw == size_hw
        assert piece.ids.tolist() == [1, 2]
        assert np.isfinite(piece.masks.scores).all()


def test_a_given_shape_comes_back_where_it_was() -> None:
    """From the caller's pixels to the net's and back: the middle of a shape is kept within half a cell of the net's
    masks, which have 16 x 16 cells here."""
    rng = np.random.default_rng(1)
    for size_hw in ((61, 83), (300, 120), (45, 900)):
        height, width = size_hw
        left, top = rng.uniform(0, 0.4, 2) * (width, height)
        right, bottom = (left, top) + rng.uniform(0.4, 0.6, 2) * (width, height)
        shape = np.zeros(size_hw, np.bool_)
        shape[int(top) : int(bottom), int(left) : int(right)] = True
        piece = model().follow(Track()).step(0, 0.0, np.zeros((*size_hw, 3), np.uint8), [Cue(0, 1, mask=Rle.of(shape))])
        found, given = np.argwhere(piece.masks.dense()[0]).mean(0), np.argwhere(shape).mean(0)
        assert (np.abs(found - given) < (height / 32, width / 32)).all()


def test_points_correct_and_a_box_says_anew() -> None:
    one = model()
    start = Cue(0, 1, points=((30.0, 20.0, 1),))
    plain = followed(one, [start])
    corrected = followed(one, [start, Cue(3, 1, points=((70.0, 30.0, 0),))])
    renewed = followed(one, [start, Cue(3, 1, box=(40.0, 10.0, 80.0, 40.0))])
    anew = followed(one, [Cue(3, 1, box=(40.0, 10.0, 80.0, 40.0))])
    for piece, other, third in zip(plain[:3], corrected[:3], renewed[:3], strict=True):
        assert piece.masks.rles == other.masks.rles == third.masks.rles
    assert not np.array_equal(plain[3].masks.scores, corrected[3].masks.scores)
    # Said anew, the object is what it would be in a clip that starts there.
    assert renewed[3].masks.rles == anew[3].masks.rles
    assert [len(piece.masks) for piece in anew] == [0, 0, 0, 1, 1, 1]


def test_cues_for_one_object_on_one_frame_belong_together() -> None:
    one = model()
    apart = [Cue(0, 1, points=((30.0, 20.0, 1),)), Cue(0, 1, points=((70.0, 30.0, 0),)), Cue(0, 1, box=(10, 5, 60, 40))]
    whole = Cue(0, 1, points=((30.0, 20.0, 1), (70.0, 30.0, 0)), box=(10, 5, 60, 40))
    for piece, other in zip(followed(one, apart), followed(one, [whole]), strict=True):
        assert piece.masks.rles == other.masks.rles
    mask = Rle.of(np.ones(SIZE_HW, np.bool_))
    with pytest.raises(BadRequest, match="a mask says all"):
        followed(one, [Cue(0, 1, mask=mask), Cue(0, 1, points=((3.0, 3.0, 1),))])


def test_masks_are_cues_whatever_their_size() -> None:
    one = model()
    half = np.zeros(SIZE_HW, np.bool_)
    half[10:30, 20:70] = True
    [piece] = followed(one, [Cue(0, 1, mask=Rle.of(half))], count=1)
    # A given mask comes back, but for its rim: the net's own masks have 16 x 16 cells here.
    assert piece.masks.rles[0].iou(Rle.of(half)) > 0.85
    assert piece.masks.scores.tolist() == [1]
    dot = np.zeros(SIZE_HW, np.bool_)
    dot[20, 40] = True
    [piece] = followed(one, [Cue(0, 1, mask=Rle.of(dot))], count=1)
    assert np.isfinite(piece.masks.scores).all()
    with pytest.raises(BadRequest, match="it is empty, so there is nothing to follow"):
        followed(one, [Cue(0, 1, mask=Rle.of(np.zeros(SIZE_HW, np.bool_)))])
    with pytest.raises(BadRequest, match=r"mask of size \(9, 9\): the frame has \(45, 90\)"):
        followed(one, [Cue(0, 1, mask=Rle.of(np.ones((9, 9), np.bool_)))])


def test_an_object_can_be_let_go() -> None:
    session = model().follow(Track())
    session.step(0, 0.0, picture(), [Cue(0, 1, box=(10, 5, 60, 40)), Cue(0, 2, box=(1, 1, 30, 30))])
    session.remove(1)
    assert session.step(1, 0.04, picture(1), []).ids.tolist() == [2]
    with pytest.raises(BadRequest, match="no object 1 is followed"):
        session.remove(1)


# SAMURAI.


def test_samurai_is_sam2_with_another_choice() -> None:
    """Its answers are those of the stream with its selector, and differ from SAM 2's where the rules do."""
    part = model()
    one = samurai.Samurai.from_files(setup("motion-small", parts={"segmenter": part}))
    assert one.nbytes == part.nbytes
    cues = [Cue(0, 1, box=(10, 5, 60, 40)), Cue(0, 2, box=(1, 1, 30, 30))]
    pieces, plain = followed(one, cues, count=24), followed(part, cues, count=24)
    session = part.session(Track(), Choice(samurai.Rules(alpha=0.25)))
    for index, image in enumerate(clip(24)):
        wanted = session.step(index, index / 25, image, cues if index == 0 else [])
        assert pieces[index].masks.rles == wanted.masks.rles
    assert any(a.masks.rles != b.masks.rles for a, b in zip(pieces, plain, strict=True))
    with pytest.raises(Unsupported, match="reads no labels"):
        one.follow(Track(labels=("cat",)))


def test_the_weight_of_the_filter_goes_by_size() -> None:
    assert {one.name: samurai.ALPHA[one.kind] for one in cards("track") if one.family == "samurai"} == {
        "samurai-tiny": 0.25,
        "samurai-small": 0.25,
        "samurai-base-plus": 0.25,
        "samurai-large": 0.15,
    }
    for one in (one for one in cards() if one.family == "samurai"):
        assert one.params == card(one.parts["segmenter"]).params
        assert one.pixels == card(one.parts["segmenter"]).pixels


def test_samurai_sessions_do_not_share_a_filter() -> None:
    one = tiny("samurai-large").kind
    cues = [Cue(0, 1, box=(10, 5, 60, 40))]
    first, second = followed(one, cues, count=10), followed(one, cues, count=10)
    for piece, other in zip(first, second, strict=True):
        assert piece.masks.rles == other.masks.rles
