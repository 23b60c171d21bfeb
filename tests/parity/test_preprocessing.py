"""What every hub family does to a picture, against transformers' own processors with the published settings.

The settings are those of each repository's preprocessor_config.json, written down here a second time: a card
that disagrees with them fails. Pixels are compared before mean and std, where 1/255 is one level.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image as pillow
from torch.nn import functional
from transformers import BitImageProcessorPil, CLIPImageProcessorPil, SiglipImageProcessorPil

from anmok import geometry, media
from anmok.catalogue import Card, cards

Array = NDArray[np.float32]
LEVEL = 1 / 255
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5)
SIZES_HW = ((224, 224), (61, 83), (500, 375), (333, 1000), (901, 223), (30, 400), (1, 1), (2, 3), (7, 1))


def square(size: int) -> dict[str, int]:
    return {"height": size, "width": size}


def by_processor(processor: object, image: pillow.Image) -> Array:
    return np.asarray(processor(image, return_tensors="np")["pixel_values"][0], np.float32)  # type: ignore[operator]


def clip_like(size: int, image: pillow.Image) -> Array:
    """openai/clip-*, laion/CLIP-*: the short side, then the middle."""
    processor = CLIPImageProcessorPil(
        size={"shortest_edge": size}, crop_size=square(size), resample=3, image_mean=CLIP_MEAN, image_std=CLIP_STD
    )
    return by_processor(processor, image)


def siglip_like(size: int, image: pillow.Image) -> Array:
    """google/siglip-*, google/siglip2-*: squashed to a square."""
    processor = SiglipImageProcessorPil(size=square(size), resample=3, image_mean=HALF, image_std=HALF)
    return by_processor(processor, image)


def dinov2_like(size: int, image: pillow.Image) -> Array:
    """facebook/dinov2-*: the short side to 256, of which the middle 224."""
    assert size == 224
    processor = BitImageProcessorPil(
        size={"shortest_edge": 256},
        crop_size=square(224),
        resample=3,
        image_mean=IMAGENET_MEAN,
        image_std=IMAGENET_STD,
    )
    return by_processor(processor, image)


def dinov3_like(size: int, image: pillow.Image) -> Array:
    """facebook/dinov3-*: floats first, then squashed. Its processor wants torchvision, whose antialiased resizing
    of a tensor is torch's own."""
    floats = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255  # (1, 3, H, W)
    resized = functional.interpolate(floats, (size, size), mode="bilinear", antialias=True)[0].numpy()
    mean, std = (np.asarray(values, np.float32)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    return np.asarray((resized - mean) / std, np.float32)


PUBLISHED: dict[str, Callable[[int, pillow.Image], Array]] = {
    "clip": clip_like,
    "openclip": clip_like,
    "siglip": siglip_like,
    "siglip2": siglip_like,
    "dinov2": dinov2_like,
    "dinov3": dinov3_like,
}


# Pillow resizes in two passes and rounds to whole levels after each; DINOv3's own resizing keeps fractions.
TOLERANCE = dict.fromkeys(PUBLISHED, 1e-6) | {"dinov3": LEVEL}


def native_size(one: Card) -> int:
    """The resolution that the name or the family states."""
    last = one.kind.rpartition("-")[2]
    return int(last) if last.isdecimal() and int(last) > 200 else 224


def distinct() -> list[Card]:
    """One card for each family and way of preparing pictures."""
    found: dict[tuple[str, str], Card] = {}
    for one in cards():
        if one.family in PUBLISHED:
            found.setdefault((one.family, repr(one.pixels)), one)
    return list(found.values())


@functools.cache
def picture(size_hw: tuple[int, int], kind: str) -> pillow.Image:
    """Hard edges, ramps and noise: what resizing filters disagree on."""
    rng = np.random.default_rng(sum(size_hw))
    height, width = size_hw
    ramp = np.add.outer(np.arange(height) * 3, np.arange(width) * 2) % 256
    noise = rng.integers(0, 256, (height, width))
    bars = np.where(np.arange(width) // 5 % 2 == 0, 255, 0)[None].repeat(height, 0)
    planes = [ramp, noise, bars] if kind == "RGB" else [noise]
    image = np.stack(planes, -1).astype(np.uint8)  # (H, W, 3 or 1)
    return pillow.fromarray(image if kind == "RGB" else image[:, :, 0])


@pytest.mark.parametrize("kind", ["RGB", "L"])
@pytest.mark.parametrize("one", distinct(), ids=lambda one: one.name)
def test_pixels_equal_transformers(one: Card, kind: str) -> None:
    mean, std = (np.asarray(v, np.float32)[:, None, None] for v in (one.pixels.mean, one.pixels.std))
    worst = 0.0
    for size_hw in SIZES_HW:
        image = picture(size_hw, kind)
        wanted = PUBLISHED[one.family](native_size(one), image.convert("RGB"))
        got = geometry.prepare(media.read(image), one.pixels)
        assert got.shape == wanted.shape == (3, native_size(one), native_size(one))
        assert got.dtype == np.float32
        worst = max(worst, float(np.abs((got * std + mean) - (wanted * std + mean)).max()))
    assert worst <= TOLERANCE[one.family]


# Families that prepare pictures in a way of their own, and what proves it: module, from this folder, and test in it.
ELSEWHERE = {
    "depth-anything-v2": ("test_depth_anything", "test_answers_are_those_of_processor_and_net"),
    "depth-anything-3": ("test_depth_anything3", "test_preprocessing_equals_the_reference"),
    "dfine": ("test_detr", "test_pixels_equal_the_published_processor"),
    "edgetam": ("test_sam2", "test_pixels_are_resized_scaled_and_normalised"),
    "grounding-dino": ("test_grounding_dino", "test_pixels_equal_the_published_processor"),
    "mobilevit": ("test_backbone", "test_pixels_equal_what_transformers_prepares"),
    "resnet": ("test_backbone", "test_pixels_equal_what_transformers_prepares"),
    "vit": ("test_backbone", "test_pixels_equal_what_transformers_prepares"),
    "mm-grounding-dino": ("test_grounding_dino", "test_pixels_equal_the_published_processor"),
    "owlv2": ("test_owlv2", "test_pixels_equal_the_published_processor"),
    "rfdetr": ("test_detr", "test_pixels_of_rf_detr_equal_its_own_arithmetic"),
    "rtdetr": ("test_detr", "test_pixels_equal_the_published_processor"),
    "sam": ("test_sam", "test_a_picture_is_encoded_as_published"),
    "sam2": ("test_sam2", "test_pixels_are_resized_scaled_and_normalised"),
    "sam3": ("test_sam3", "test_preprocessing_equals_the_processors"),
    "sapiens": ("test_sapiens", "test_a_whole_picture_is_squashed_as_published"),
    "florence2": ("test_florence2", "test_pixels_equal_the_published_processor"),
    "moondream": ("test_moondream", "test_pictures_are_cut_as_published"),
    "sapiens2": ("test_sapiens2", "test_people_are_cut_out_as_the_processor_does"),
    "vitpose": ("test_vitpose", "test_people_are_cut_out_as_the_processor_does"),
    "llava": ("../test_eyes_anyres", "test_tiles_of_next_are_those_of_transformers"),
    "smolvlm": ("../test_eyes_idefics", "test_tiles_are_those_of_transformers"),
    "internvl": ("../test_eyes_internvl", "test_tiles_are_those_of_transformers"),
    **dict.fromkeys(("qwen", "exaone", "hyperclovax"), ("../test_eyes_qwen", "test_patches_are_those_of_transformers")),
    "gemma": ("../test_eyes_gemma", "test_pixels_of_gemma4_equal_the_published_processor"),
    "phi": ("../test_eyes_phi4", "test_pixels_are_those_of_the_published_arithmetic"),
    "videollama2": ("../test_eyes_videollama2", "test_pixels_are_transformers_of_the_padded_picture"),
    "videollama3": ("../test_eyes_videollama3", "test_pixels_of_pictures_equal_the_published_processor"),
}
BLIND = {"smollm2", "solar"}  # they are shown no pictures


def test_every_family_of_the_hub_is_compared() -> None:
    from anmok.catalogue.sources import HubSource

    families = {one.family for one in cards() if isinstance(one.source, HubSource)}
    assert families == set(PUBLISHED) | set(ELSEWHERE) | BLIND
    for module, test in ELSEWHERE.values():
        assert f"def {test}(" in (Path(__file__).parent / f"{module}.py").read_text(encoding="utf-8")
