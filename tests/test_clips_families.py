"""Clips of the families that see frames together, and of Gemma: sizes, words and numbers of tokens as the published
processors have them, and answers as transformers' ``generate`` gives them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor
from transformers.models.gemma4.processing_gemma4 import Gemma4Processor
from transformers.models.qwen3_vl.processing_qwen3_vl import Qwen3VLProcessor
from transformers.models.video_llama_3.processing_video_llama_3 import VideoLlama3Processor
from transformers.video_utils import VideoMetadata

import published_videos
from anmok import Chat, Conversation, Model, Turn
from anmok.errors import BadMedia, BadWeights
from anmok.inputs import Frames, Text
from anmok.nets.eyes import Grid
from anmok.nets.eyes.levels import HALF, Levels
from anmok.nets.eyes.qwen import QWEN2, QWEN3, QwenRules, patched, smart_size
from anmok.nets.eyes.qwen_frames import frame_rules, middles
from anmok.nets.eyes.videollama3 import CLIPS, PICTURES, VideoLlama3Rules
from anmok.nets.videollama3_names import videollama3_facts
from battery import picture
from shown_clips import FILM, TIMES, TOGETHER, film
from toy_talkers import about, checkpoint, loaded, model, script, written

STILL = picture((37, 61), 11)
SIZES = [(37, 61), (480, 640), (1080, 1920), (2160, 3840), (9, 700), (700, 9), (1, 1), (224, 224), (333, 500)]


def looks(kind: str) -> Any:
    return model(kind).kind


def native(talker: Model, said: Conversation, told: dict[str, Tensor], most: int = 6) -> tuple[list[int], NDArray[Any]]:
    """By transformers' ``generate``, greedily: tokens and their logits."""
    kind: Any = talker.kind
    ids = torch.tensor([script(talker, said).ids])  # (1, S)
    if kind._net.config.model_type.startswith("qwen"):
        types = (ids == kind._net.config.image_token_id).int() + 2 * (ids == kind._net.config.video_token_id).int()
        told = {**told, "mm_token_type_ids": types}
        kind._net.model.rope_deltas = None
    with torch.inference_mode():
        found = kind._net.generate(
            ids,
            **told,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=most,
            pad_token_id=0,
            output_logits=True,
            return_dict_in_generate=True,
        )
    return found.sequences[0, ids.shape[1] :].tolist(), torch.cat(found.logits).numpy()


def shown(kind: str, clip: Frames, stills: Sequence[NDArray[np.uint8]] = ()) -> dict[str, Tensor]:
    """A clip, and pictures beside it, as the net of the family takes them."""
    talks, frames = looks(kind), [np.asarray(one) for one in clip.pictures]
    rules = talks._eyes._rules
    if kind == "video_llama_3":
        told = published_videos.videollama3(frames, talks._frames._rules)
    else:
        told = published_videos.qwen(frames, rules)
    if kind == "qwen2_5_vl":
        told["second_per_grid_ts"] = torch.tensor([2 * (clip.seconds[1] - clip.seconds[0])])
    if not stills:
        return told
    made = [torch.from_numpy(talks.prepare(one).pixels)[None, None] for one in stills]  # (1, 1, 3, h, w) each
    flat = [patched(one.expand(-1, rules.times, -1, -1, -1), rules) for one in made]
    told["pixel_values"] = torch.cat(flat)
    grids = [[1, one.shape[3] // rules.patch, one.shape[4] // rules.patch] for one in made]
    told["image_grid_thw"] = torch.tensor(grids)
    if kind == "video_llama_3":
        told["image_merge_sizes"] = torch.ones(len(made), dtype=torch.long)
    return told


def same(talker: Model, said: Conversation, told: dict[str, Tensor]) -> None:
    ours = written(talker, said, 6)
    tokens, logits = native(talker, said, told)
    assert ours.tokens == tokens
    assert np.abs(ours.logits - logits).max() <= 1e-4 * np.abs(logits).max()
    assert logits.std() > 0.01


# Answers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", TOGETHER)
@pytest.mark.parametrize("count", [1, 2, 4, 5])
def test_a_clip_of_so_many_frames_is_answered_as_transformers_does(kind: str, count: int) -> None:
    clip = film(max(count, 2)) if kind == "qwen2_5_vl" else film(count)  # which cannot say how far one is apart
    same(model(kind), about(clip), shown(kind, clip))


@pytest.mark.parametrize("kind", TOGETHER)
def test_frames_of_several_shapes_are_answered_as_transformers_does(kind: str) -> None:
    """The last is larger than all that the toy of VideoLLaMA3 looks at of a clip."""
    clip = Frames((FILM[0], picture((52, 30), 2), np.zeros((1, 1, 3), np.uint8), picture((90, 160), 4)), TIMES[:4])
    same(model(kind), about(clip), shown(kind, clip))


@pytest.mark.parametrize("kind", TOGETHER)
def test_a_clip_between_pictures_is_answered_as_transformers_does(kind: str) -> None:
    other = picture((52, 30), 2)
    clip = film(4)
    said = Conversation(
        (
            Turn("user", (STILL, Text("Before."), clip, Text("Then?"))),
            Turn("assistant", (Text("A cat."),)),
            Turn("user", (other, Text("And after?"))),
        )
    )
    same(model(kind), said, shown(kind, clip, (STILL, other)))


@pytest.mark.parametrize("seconds", [(0.0, 0.3, 0.6, 0.9), (3.0, 9.0, 15.0, 21.0)], ids=["quick", "slow"])
@pytest.mark.parametrize("kind", ["qwen2_vl", "qwen2_5_vl"])
def test_places_in_time_are_those_of_transformers(kind: str, seconds: tuple[float, ...]) -> None:
    clip = film(4, seconds)
    same(model(kind), about(clip), shown(kind, clip))
    [part] = script(model(kind), about(clip)).seen
    pace = 1.0 if kind == "qwen2_vl" else 4 * 2 * (seconds[1] - seconds[0])
    assert part.size_hw == Grid(2, 9, 15, pytest.approx(pace))


@pytest.mark.parametrize("kind", [*TOGETHER, "gemma3", "gemma4"])
def test_the_order_of_frames_counts_and_so_does_the_time_where_a_family_knows_it(kind: str) -> None:
    talker = model(kind)
    turned = Frames(FILM[3::-1], TIMES[:4])
    slow = film(4, (0.0, 60.0, 120.0, 180.0))
    first, other, late = (written(talker, about(one), 1).logits for one in (film(4), turned, slow))
    size = np.abs(first).max()
    assert np.abs(first - other).max() > 1e-3 * size
    knows = kind not in ("qwen2_vl", "exaone4_5", "gemma3")
    assert (np.abs(first - late).max() > 1e-4 * size) == knows


def test_gemma4_reads_tokens_of_pictures_as_those_of_a_clip() -> None:
    """What transformers' own clips stand at is another token; its answers are the same."""
    talker = model("gemma4")
    kind: Any = talker.kind
    clip = film(3)
    ids = torch.tensor([script(talker, about(clip)).ids])
    is_frame = ids == kind._net.config.image_token_id
    levels = [kind.prepare_frame(one).pixels for one in clip.pictures]  # float32 (3, h, w) each
    patch = kind._eyes._rules.patch
    flat, places = [], []
    for one in map(torch.from_numpy, levels):
        flat.append(
            one.reshape(3, one.shape[1] // patch, patch, -1, patch).permute(1, 3, 2, 4, 0).flatten(2).flatten(0, 1)
        )
        y, x = torch.meshgrid(torch.arange(one.shape[1] // patch), torch.arange(one.shape[2] // patch), indexing="ij")
        places.append(torch.stack([x, y], -1).flatten(0, 1))
    with torch.inference_mode():
        theirs = kind._net(
            ids.masked_fill(is_frame, kind._net.config.video_token_id),
            pixel_values_videos=torch.stack(flat),
            video_position_ids=torch.stack(places),
            num_frames_per_video=torch.tensor([3]),
            mm_token_type_ids=2 * is_frame.int(),
        ).logits[0, -1]
    ours = written(talker, about(clip), 1).logits[0]
    assert np.abs(ours - theirs.numpy()).max() <= 1e-4 * np.abs(ours).max()
    assert int(is_frame.sum()) == 3 * 60  # of the 70 that a frame may have


# Sizes and patches -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size_hw", SIZES, ids=str)
def test_frames_of_qwen_are_as_large_as_published(size_hw: tuple[int, int]) -> None:
    """As transformers has it for Qwen2-VL; and for Qwen3-VL with the cap of ``qwen-vl-utils``, but that small frames
    stay small there, which in ``qwen-vl-utils`` itself they do not."""
    theirs = published_videos.taken(published_videos.QWEN2).smart_resize
    assert smart_size(size_hw, frame_rules(QWEN2)) == theirs(*size_hw, 28, 128 * 28**2, 768 * 28**2)
    ours = smart_size(size_hw, frame_rules(QWEN3))
    assert ours == theirs(*size_hw, 32, 128 * 32**2, 768 * 32**2)
    if size_hw[0] * size_hw[1] > 128 * 32**2:
        third = published_videos.taken("qwen3_vl.video_processing_qwen3_vl").smart_resize
        for count in (2, 8, 32):
            budget = min(768 * 32**2, 25_165_824 // count) * count
            assert ours == third(count, *size_hw, 2, 32, 4096, budget)


def test_frames_that_are_strips_are_refused() -> None:
    for kind in ("qwen2_vl", "video_llama_3"):
        with pytest.raises(BadMedia, match=r"2001 x 10 pixels.*200 times"):
            looks(kind).prepare_frame(np.zeros((10, 2001, 3), np.uint8))


@pytest.mark.parametrize(("module", "times"), [(published_videos.QWEN2, 2), (published_videos.VIDEOLLAMA3, 1)])
def test_patches_are_cut_as_published(module: str, times: int) -> None:
    video = torch.rand(1, 4, 3, 24, 40)
    rules = QwenRules(4, Levels(HALF, HALF), 0, 10**6, 2, times)
    theirs, grid = published_videos.patches(module, video, 4, 2, times)
    assert torch.equal(patched(video.reshape(4 // times, times, 3, 24, 40), rules), theirs)
    assert grid.tolist() == [[4 // times, 6, 10]]


@pytest.mark.parametrize("size_hw", SIZES, ids=str)
@pytest.mark.parametrize("count", [1, 2, 7, 128])
def test_frames_of_videollama3_share_their_pixels_as_published(size_hw: tuple[int, int], count: int) -> None:
    module = published_videos.taken(published_videos.VIDEOLLAMA3)
    facts = {"size": {"shortest_edge": CLIPS.fewest, "longest_edge": CLIPS.most}}
    told = SimpleNamespace(patch_size=14, merge_size=2, temporal_patch_size=1, **facts)
    patches = module.get_num_of_video_patches(told, count, *size_hw, {})
    high, wide = (
        looks("video_llama_3")._frames.__class__(looks("video_llama_3")._net, VideoLlama3Rules()).size(size_hw, count)
    )
    assert count * (high // 14) * (wide // 14) == patches
    assert patches // 4 <= 16_384 or count * 16 > 16_384


def test_rules_of_videollama3_are_what_the_files_say() -> None:
    assert VideoLlama3Rules.of({}) == VideoLlama3Rules(PICTURES, CLIPS)
    told = {"min_pixels": 3136, "max_pixels": 10**6, "merge_size": 1}
    clips = {"size": {"shortest_edge": 100_352, "longest_edge": 602_112}, "use_token_compression": False}
    found = VideoLlama3Rules.of({**told, "video_processor": clips})
    assert (found.pictures.most, found.pictures.merge, found.pictures.levels.mean) == (10**6, 1, HALF)
    assert (found.clips.fewest, found.clips.most, found.clips.merge, found.has_all) == (100_352, 602_112, 2, True)


def test_a_large_frame_of_videollama3_is_kept_no_larger_than_it_can_be_shown() -> None:
    frames = looks("video_llama_3")._frames.__class__(looks("video_llama_3")._net, VideoLlama3Rules())
    assert frames.prepare(np.zeros((1080, 1920, 3), np.uint8)).shape == (3, 1080, 1920)
    assert frames.prepare(np.zeros((4320, 7680, 3), np.uint8)).shape == (3, 2688, 4760)


# Words and numbers of tokens -------------------------------------------------------------------------------


def test_qwen3_is_told_the_seconds_as_its_processor_tells_them() -> None:
    processor = Qwen3VLProcessor.__new__(Qwen3VLProcessor)  # without its part for videos, which wants torchvision
    processor.video_processor = SimpleNamespace(merge_size=2, temporal_patch_size=2)
    processor.video_token = "<|video_pad|>"
    processor.vision_start_token, processor.vision_end_token = "<|vision_start|>", "<|vision_end|>"
    metadata = VideoMetadata(total_num_frames=90, fps=30.0, frames_indices=[0, 10, 29, 61, 88])
    seconds = tuple(one / 30 for one in (0, 10, 29, 61, 88))
    grid = torch.tensor([[3, 18, 30]])
    theirs = processor.replace_video_token({"video_grid_thw": grid, "video_metadata": [metadata]}, 0)
    levels = [looks("qwen3_vl").prepare_frame(one).pixels for one in FILM]
    text, parts = looks("qwen3_vl")._frames.reel(levels, seconds, (37, 61))
    assert text == theirs
    assert text.startswith("<0.2 seconds><|vision_start|>")
    assert [len(rows) for rows, _ in parts] == [9 * 15] * 3
    assert [place for _, place in parts] == [Grid(1, 9, 15)] * 3
    assert middles(seconds, 2) == pytest.approx([1 / 6, 1.5, 88 / 30])


def test_videollama3_is_told_the_seconds_and_what_changed_as_its_processor_tells_them() -> None:
    processor = VideoLlama3Processor.__new__(VideoLlama3Processor)
    processor.video_token = "<|video_pad|>"
    moving = STILL.copy()
    moving[:12, :20] = 255 - moving[:12, :20]
    frames, seconds = [STILL, STILL, moving, moving], (0.0, 1.0, 2.0, 61.5)
    eyes = looks("video_llama_3")._frames
    told = published_videos.videollama3(frames, eyes._rules)
    metadata = VideoMetadata(total_num_frames=130, fps=2.0, frames_indices=[0, 2, 4, 123])
    theirs = processor.replace_video_token({**told, "video_metadata": [metadata]}, 0)
    text, parts = eyes.reel([eyes.prepare(one) for one in frames], seconds, (37, 61))
    assert text == theirs
    counts = [len(rows) for rows, _ in parts]
    assert counts[1] == counts[3] == 1  # they show what the one before shows
    assert 1 < counts[2] < counts[0]
    clip = Frames(tuple(frames), seconds)
    same(model("video_llama_3"), about(clip), told)


def test_a_clip_of_videollama3_is_shown_whole_where_its_files_say_so() -> None:
    net = looks("video_llama_3")._net
    facts = {**looks("video_llama_3")._parts.facts}
    facts["video_processor"] = {**facts["video_processor"], "use_token_compression": False}
    eyes = looks("video_llama_3")._frames.__class__(net, VideoLlama3Rules.of(facts))
    with torch.inference_mode():
        _, parts = eyes.reel([eyes.prepare(STILL)] * 3, (0.0, 1.0, 2.0), (37, 61))
    assert [len(rows) for rows, _ in parts] == [3 * 5] * 3


def test_gemma4_is_told_the_seconds_as_its_processor_tells_them() -> None:
    processor = Gemma4Processor.__new__(Gemma4Processor)
    processor.boi_token, processor.eoi_token, processor.video_token = "<|image>", "<image|>", "<|image|>"
    metadata = VideoMetadata(total_num_frames=4000, fps=25.0, frames_indices=[0, 1600, 3999])
    told = {"num_soft_tokens_per_video": [60], "video_metadata": [metadata]}
    theirs = processor.replace_video_token(told, 0)
    said = about(Frames(FILM[:3], (0.0, 64.0, 3999 / 25)), question="What?")
    kind: Any = looks("gemma4")
    wanted = kind._parts.reader.ids([f"<|im_start|>user\n{theirs}What?<|im_end|>\n<|im_start|>assistant"])
    assert list(script(model("gemma4"), said).ids) == wanted
    assert theirs.startswith("00:00 <|image>")
    assert " 02:39 <|image>" in theirs


@pytest.mark.parametrize("rules", [QWEN2, QWEN3], ids=["2", "3"])
def test_a_moment_of_720_lines_is_720_tokens(rules: QwenRules) -> None:
    height, width = smart_size((720, 1280), frame_rules(rules))
    assert (height // rules.patch // 2, width // rules.patch // 2) == (20, 36)


# From files ------------------------------------------------------------------------------------------------


def test_what_the_files_say_of_clips_is_followed(tmp_path: Path) -> None:
    """In a file of its own, as transformers wrote it once, or in that of the whole processor, as it does now."""
    files = checkpoint("video_llama_3", tmp_path)
    facts = json.loads(files["preprocessor_config.json"].read_text())
    clips = facts.pop("video_processor")
    files["preprocessor_config.json"].write_text(json.dumps(facts))
    (tmp_path / "video_preprocessor_config.json").write_text(json.dumps(clips))
    files["video_preprocessor_config.json"] = tmp_path / "video_preprocessor_config.json"
    wanted = written(model("video_llama_3"), about(film(3)))
    assert written(loaded(files, "video_llama_3"), about(film(3))).tokens == wanted.tokens
    del files["video_preprocessor_config.json"], files["preprocessor_config.json"]
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": facts, "video_processor": clips}))
    files["processor_config.json"] = tmp_path / "processor_config.json"
    assert written(loaded(files, "video_llama_3"), about(film(3))).tokens == wanted.tokens


def original(folder: Path, prefix: str = "model.vision_encoder.") -> dict[str, Path]:
    """The toy as the authors of VideoLLaMA3 publish it."""
    files = checkpoint("video_llama_3", folder)
    net: Any = looks("video_llama_3")._net
    back = {"model.vision_model.": prefix, "model.projector.": "model.mm_projector.", "model.language_model.": "model."}
    state: dict[str, Tensor] = {}
    for name, tensor in net.state_dict().items():
        for theirs, ours in back.items():
            name = name.replace(theirs, ours, 1) if name.startswith(theirs) else name
        state[name] = tensor.contiguous()
    save_file(state, folder / "model.safetensors")
    text, vision = net.config.text_config.to_dict(), net.config.vision_config.to_dict()
    kept = {key: value for key, value in vision.items() if key not in ("model_type", "rope_parameters")}
    config = {**text, "model_type": "videollama3_qwen2", "vision_encoder_config": kept, "use_token_compression": True}
    files["config.json"].write_text(json.dumps(config))
    facts = {"min_tokens": 16, "max_tokens": 16_384, "patch_size": 4}
    files["preprocessor_config.json"].write_text(json.dumps(facts))
    del files["chat_template.jinja"]
    return files


@pytest.mark.parametrize("prefix", ["model.vision_encoder.", "model.vision_encoder.vision_encoder."])
def test_videollama3_as_its_authors_publish_it_answers_alike(prefix: str, tmp_path: Path) -> None:
    talker = loaded(original(tmp_path, prefix), "videollama3_qwen2")
    ours: Any = talker.kind
    theirs: Any = looks("video_llama_3")
    told, wanted = ours._net.state_dict(), theirs._net.state_dict()
    assert set(told) == set(wanted)
    assert all(torch.equal(told[name], wanted[name]) for name in wanted)
    said = about(film(2), question="What?")
    assert ours._eyes._rules.most == 16_384 * 4**2
    assert ours._frames._rules.most == 16_384 * 8**2
    _, parts = ours._frames.reel([ours.prepare_frame(one).pixels for one in FILM[:2]], TIMES[:2], (37, 61))
    first, second = ("<|video_pad|>" * len(rows) for rows, _ in parts)
    prompt = (
        "<|im_start|>system\nYou are VideoLLaMA3 created by Alibaba DAMO Academy, a helpful assistant to help people "
        "understand images and videos.<|im_end|>\n"
        f"<|im_start|>user\nTime 0.0s:{first},Time 0.5s:{second}\nWhat?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert list(script(talker, said).ids) == ours._parts.reader.ids([prompt])
    gentle = ours._parts.reader.ids(["<|im_start|>system\nBe kind.<|im_end|>"])
    asked = script(talker, Conversation.about(STILL, question="?", system="Be kind."))
    assert list(asked.ids[: len(gentle)]) == gentle


def test_videollama3_without_a_tower_is_refused(tmp_path: Path) -> None:
    files = original(tmp_path)
    config = json.loads(files["config.json"].read_text())
    del config["vision_encoder_config"]
    files["config.json"].write_text(json.dumps(config))
    with pytest.raises(BadWeights, match="videollama3_qwen2: config.json lacks 'vision_encoder_config'"):
        loaded(files, "videollama3_qwen2")
    assert videollama3_facts({})["size"] == {"shortest_edge": 16 * 196, "longest_edge": 16_384 * 196}


def test_an_answer_about_a_clip_streams() -> None:
    for kind in TOGETHER:
        [reply] = model(kind).run([about(film(3))], Chat(8))
        pieces = list(model(kind).stream(about(film(3)), Chat(8)))
        assert "".join(piece.text for piece in pieces) == reply.text
