"""Frames of VideoLLaMA3 share one budget of pixels: they are kept in the size in which they are shown, which changes
nothing of what is seen, and no clip takes more memory than the net looks at."""

from __future__ import annotations

import contextlib
import io
import math
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image as pillow
from torch import Tensor

import published_videos
from anmok import Clip, clips
from anmok.inputs import Encoded, Frames
from anmok.nets.eyes import Grid
from anmok.nets.eyes.levels import HALF, Levels
from anmok.nets.eyes.qwen import QwenRules
from anmok.nets.eyes.videollama3 import CLIPS, VideoLlama3Frames, VideoLlama3Rules
from anmok.tasks import SizesFrames
from asked_clips import filmed
from battery import picture
from shown_clips import FILM
from toy_talkers import SHORT, about, model

KIND = "video_llama_3"
TOY = QwenRules(4, Levels(HALF, HALF), 64, 4096, 2, 1)  # the toy's own, less than some of the frames below
SOME = QwenRules(4, Levels(HALF, HALF), 64, 128 * 32 * 56, 2, 1)  # 32 x 56 of each of 128 frames
WIDE = QwenRules(4, Levels(HALF, HALF), 16 * 64, 16_384 * 64, 2, 1)  # as many tokens as the authors have
SHAPES = [(37, 61), (90, 160), (160, 90), (4, 700), (9, 9), (240, 320)]


def watching(rules: QwenRules, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The toy with eyes for clips by other rules."""
    talker = model(KIND)
    talks: Any = talker.kind
    monkeypatch.setattr(talks, "_frames", VideoLlama3Frames(talks._net, VideoLlama3Rules(clips=rules)))
    return talker


def kept(frames: Frames) -> list[NDArray[np.uint8]]:
    """The levels (3, h, w) of states."""
    found = [np.asarray(one.maps["levels"]) for one in frames.pictures if isinstance(one, Encoded)]
    assert len(found) == len(frames.pictures)
    return found


def parts(talker: Any, frames: Frames) -> tuple[str, list[tuple[Tensor, Any]]]:
    text, seen = talker.kind._shown(frames, 0)
    return text, [(one.rows, one.size_hw) for one in seen]


def at_full_size(rules: QwenRules, images: list[NDArray[np.uint8]], seconds: tuple[float, ...]) -> Any:
    """Seen with every frame as it comes until all are there."""
    eyes = VideoLlama3Frames(model(KIND).kind._net, VideoLlama3Rules(clips=rules))
    size_hw = (images[0].shape[0], images[0].shape[1])
    with torch.inference_mode():
        return eyes.reel([one.transpose(2, 0, 1) for one in images], seconds, size_hw)


@contextlib.contextmanager
def counted(talks: Any) -> Iterator[list[Any]]:
    """The sizes in which frames are to be kept, as they are prepared."""
    prepared: list[Any] = []
    prepare = talks.prepare_frame

    def prepare_frame(image: NDArray[np.uint8], size_hw: tuple[int, int]) -> Any:
        prepared.append(size_hw)
        return prepare(image, size_hw)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(talks, "prepare_frame", prepare_frame)
        yield prepared


def png(image: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    pillow.fromarray(image).save(file, "PNG", compress_level=1)
    return file.getvalue()


def same_rows(found: tuple[str, Any], wanted: tuple[str, Any]) -> None:
    assert found[0] == wanted[0]
    for (rows, place), (other, there) in zip(found[1], wanted[1], strict=True):
        assert place == there
        assert torch.equal(rows, other)


# --- what is seen ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 9, 70])
@pytest.mark.parametrize("size_hw", SHAPES, ids=str)
@pytest.mark.parametrize("rules", [TOY, WIDE], ids=["toy", "wide"])
def test_frames_are_kept_as_they_are_shown(
    rules: QwenRules, size_hw: tuple[int, int], count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the published processor resizes them, once; or as they came, where that is less."""
    talker = watching(rules, monkeypatch)
    images = [picture(size_hw, seed) for seed in range(3)]
    size = published_videos.taken(published_videos.VIDEOLLAMA3).smart_resize(
        *size_hw, 8, rules.fewest, rules.most // count
    )
    assert talker.kind.frame_size(size_hw, count) == size
    chosen = [images[number % 3] for number in range(count)]
    watched = talker.watch(Frames(tuple(chosen), tuple(map(float, range(count)))))
    for levels, image in zip(kept(watched), chosen, strict=True):
        is_large = image.shape[0] * image.shape[1] > math.prod(size)
        wanted = published_videos.resized(image, size) if is_large else image
        assert np.array_equal(levels.transpose(1, 2, 0), wanted)


@pytest.mark.parametrize("rules", [TOY, SOME], ids=["toy", "some"])
@pytest.mark.parametrize(("size_hw", "count"), [((90, 160), 9), ((4, 700), 70), ((9, 9), 70), ((240, 320), 5)], ids=str)
def test_what_is_seen_is_the_same_bit_for_bit(
    rules: QwenRules, size_hw: tuple[int, int], count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    talker = watching(rules, monkeypatch)
    images = [picture(size_hw, seed // 2) for seed in range(count)]
    seconds = tuple(map(float, range(count)))
    found = parts(talker, talker.watch(Frames(tuple(images), seconds)))
    same_rows(found, at_full_size(rules, images, seconds))
    counts = [len(rows) for rows, _ in found[1]]
    assert counts[1] == 1 < counts[0] or counts[0] == 1  # every second frame is the one before


def test_what_stays_of_many_frames_is_what_the_published_processor_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where eight of them are looked at, a frame is compared with the one before it all the same."""
    talker = watching(SOME, monkeypatch)
    images = [picture((90, 160), seed // 3) for seed in range(20)]
    images[16] = images[16].copy()
    images[16][:40, :40] = 0
    told = published_videos.videollama3(images, SOME)
    is_new = told["video_compression_mask"].reshape(20, -1)  # (F, N)
    _, seen = parts(talker, talker.watch(Clip(images, fps=1.0)))
    assert [len(rows) for rows, _ in seen] == is_new.sum(1).tolist()
    assert 1 == len(seen[8][0]) < len(seen[16][0]) < len(seen[0][0])


def test_a_frame_larger_than_all_that_is_looked_at_is_resized_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes to the net is what the published processor makes of the picture itself."""
    talker = watching(TOY, monkeypatch)
    images = [picture((240, 320), seed) for seed in range(3)]
    told = published_videos.videollama3(images, TOY)
    wanted = told["pixel_values_videos"]  # (P, 3 * patch * patch)
    seen: list[Tensor] = []
    tower = talker.kind._net.model.vision_model
    hook = tower.register_forward_pre_hook(lambda _, args, given: seen.append(given["pixel_values"]), with_kwargs=True)
    try:
        parts(talker, talker.watch(Clip(images, fps=1.0)))
    finally:
        hook.remove()
    assert torch.equal(torch.cat(seen), wanted)


def test_frames_of_other_shapes_are_kept_in_that_of_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    talker = watching(WIDE, monkeypatch)
    images = [picture((900, 1600), 1), picture((1600, 900), 2), picture((37, 61), 3), picture((1000, 1000), 4)]
    watched = talker.watch(Frames(tuple(images), (0.0, 1.0, 2.0, 3.0)))
    assert talker.kind.frame_size((900, 1600), 4) == (384, 680)
    assert [one.shape for one in kept(watched)] == [(3, 384, 680), (3, 384, 680), (3, 37, 61), (3, 384, 680)]
    assert np.array_equal(kept(watched)[1].transpose(1, 2, 0), published_videos.resized(images[1], (384, 680)))


# --- how many there are ----------------------------------------------------------------------------------------


@pytest.fixture(name="film", scope="module")
def film_fixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight seconds at 5 frames a second, each the same for a second."""
    return filmed(
        tmp_path_factory.mktemp("films") / "a.mp4", *(picture((96, 160), seed) for seed in range(8)), each=5, fps=5
    )


def test_it_is_told_how_many_frames_are_looked_for(film: Path) -> None:
    assert clips.sampled(film, 128, usual=1.0).count == 8
    assert clips.sampled(film, 128, fps=12.0).count == 96
    assert clips.sampled(film, 16, fps=12.0).count == 16
    assert clips.sampled(film, 16, start=7.5).count == 16
    assert clips.sampled([FILM[0]] * 40, 128).count == 40
    assert clips.sampled([FILM[0]] * 40, 16).count == 16
    assert clips.sampled([FILM[0]] * 40, 128, fps=10.0, start=1.0, end=3.0).count == 20


@pytest.mark.parametrize(
    ("fps", "count", "reads"),
    [(None, 8, 8), (5.0, 40, 40), (12.0, 40, 80)],  # of 96 that are looked for at the last, each comes once
)
def test_a_clip_of_fewer_frames_is_read_again(
    fps: float | None, count: int, reads: int, film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    talker = watching(WIDE, monkeypatch)
    talks = talker.kind
    with counted(talks) as prepared:
        watched = talker.watch(Clip(film, fps=fps))
    assert len(watched.pictures) == count
    assert len(prepared) == reads
    size = talks._frames.size((96, 160), count)
    assert {one.shape for one in kept(watched)} == {(3, *size)}
    if reads > count:
        assert prepared[0] == talks._frames.size((96, 160), 96) != size
    images = [still.image for still in clips.sampled(film, 128, fps=fps or 1.0)]
    found = parts(talker, watched)
    same_rows(found, at_full_size(WIDE, images, watched.seconds))


def test_it_is_not_read_again_where_that_makes_no_difference(film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    talker = watching(WIDE, monkeypatch)
    assert talker.kind.frame_size((37, 61), 3) == talker.kind.frame_size((37, 61), 5)
    assert talker.kind.frame_size((700, 900), 3) != talker.kind.frame_size((700, 900), 5)
    for size_hw, reads in (((37, 61), 3), ((700, 900), 6)):
        good = [png(picture(size_hw, seed)) for seed in range(3)]
        with counted(talker.kind) as prepared:
            watched = talker.watch(Clip([good[0], b"none", good[1], b"nor this", good[2]], fps=1.0))
        assert watched.seconds == (0.0, 2.0, 4.0)
        assert len(prepared) == reads


def test_frames_of_one_clip_among_fewer_are_shown_as_large_as_these_are(monkeypatch: pytest.MonkeyPatch) -> None:
    talker = watching(TOY, monkeypatch)
    watched = talker.watch(Frames(tuple(picture((90, 160), seed) for seed in range(9)), tuple(map(float, range(9)))))
    _, (first, *_) = parts(talker, Frames(watched.pictures[:2], watched.seconds[:2]))
    assert kept(watched)[0].shape == (3, 8, 24)
    assert first[1] == Grid(1, 4, 7) == Grid(1, *(side // 8 for side in talker.kind.frame_size((90, 160), 2)))
    [reply] = talker.run([about(Frames((watched.pictures[0], picture((90, 160), 1)), (0.0, 1.0)))], SHORT)
    assert reply.image_tokens == 2 * 4 * 7


def test_the_same_levels_of_another_picture_are_seen_anew() -> None:
    eyes = VideoLlama3Frames(model(KIND).kind._net, VideoLlama3Rules(clips=TOY))
    levels = [np.zeros((3, 16, 16), np.uint8)]
    with torch.inference_mode():
        places = [eyes.reel(levels, (0.0,), size)[1][0][1] for size in ((16, 64), (64, 16), (16, 64))]
    assert places == [Grid(1, 2, 8), Grid(1, 8, 2), Grid(1, 2, 8)]


@pytest.mark.parametrize("kind", ["qwen2_vl", "qwen3_vl", "exaone4_5", "gemma3", "internvl"])
def test_of_other_families_each_frame_goes_by_itself(kind: str) -> None:
    talks: Any = model(kind).kind
    assert isinstance(talks, SizesFrames)
    assert [talks.frame_size((720, 1280), count) for count in (1, 64)] == [None, None]


# --- what it takes ---------------------------------------------------------------------------------------------


def test_a_long_clip_is_kept_as_small_as_it_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """128 frames of 720 lines would be 354 MB; 36 MB of them are looked at."""
    talker = watching(CLIPS, monkeypatch)
    stills = [png(np.full((720, 1280, 3), level, np.uint8)) for level in (10, 200)]
    talker.watch(Clip(stills, fps=1.0))
    tracemalloc.start()
    try:
        watched = talker.watch(Clip(stills * 64, fps=1.0))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(watched.pictures) == 128
    assert watched.nbytes == 128 * 3 * 224 * 420 <= 3 * CLIPS.most
    assert peak < watched.nbytes + 25e6


def test_the_first_question_takes_no_numbers_of_the_whole_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight frames, and the one before them, at a time: float32, in place of all 128."""
    talker = watching(SOME, monkeypatch)
    watched = talker.watch(Clip([picture((90, 160), seed % 5) for seed in range(128)], fps=1.0))
    parts(talker, Frames(watched.pictures[:9], watched.seconds[:9]))
    tracemalloc.start()
    try:
        _, seen = parts(talker, watched)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(seen) == 128
    assert peak < watched.nbytes * 4  # bytes of all numbers
