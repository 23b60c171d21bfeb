"""Made defects: exact masks, sizes and contrasts as asked, and the same pixels from the same seed."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as pillow

from anmok import media
from anmok.errors import BadData, BadMedia, BadRequest
from anmok.synth import KINDS, SURFACES, Camera, Good, Kind, Made, Maker, Recipe, drawn, make, surface
from anmok.synth.scenes import foreground, look

SIDE = 192
GROUNDS: dict[Kind, tuple[str, ...]] = {"missing": ("parts",), "extra": ("parts",), "chip": ("parts", "cap")}


def sources(*kinds: str, seeds: int = 1) -> list[Good]:
    return [Good(surface(kind, (SIDE, SIDE), seed)) for kind in kinds or SURFACES for seed in range(seeds)]  # type: ignore[arg-type]


def pixels(good: Good) -> NDArray[np.uint8]:
    assert isinstance(good.image, np.ndarray)
    return good.image


def union(made: Made) -> NDArray[np.bool_]:
    return np.asarray(made.masks.dense().any(axis=0))


def strength(made: Made, before: NDArray[np.uint8]) -> float:
    """Mean change under the mask, of the channel that changes most."""
    change = np.abs(made.image.astype(int) - before)[union(made)]
    return float(change.max(axis=1).mean()) / 255


def same(a: Made, b: Made) -> bool:
    return (
        np.array_equal(a.image, b.image)
        and a.masks.rles == b.masks.rles
        and (a.label, a.source_index, a.provenance) == (b.label, b.source_index, b.provenance)
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_mask_is_exactly_what_changed_and_as_large_as_asked(kind: Kind) -> None:
    goods = sources(*GROUNDS.get(kind, ()))
    recipe = Recipe(kinds=(kind,), area=(0.002, 0.03), contrast=(0.08, 0.35))
    for made in make(goods, recipe, 2 * len(goods), 3):
        before = pixels(goods[made.source_index])
        changed = (made.image != before).any(axis=2)
        assert np.array_equal(changed, union(made))
        assert made.label == kind
        assert made.masks.names == (kind,)
        assert 0.002 <= changed.mean() <= 0.03
        rows, columns = np.nonzero(changed)
        tight = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert made.boxes.tolist() == [tight]
        assert strength(made, before) >= 0.08 - 1e-6


@pytest.mark.parametrize("kind", ["scratch", "crack", "dent", "stain", "print"])
@pytest.mark.parametrize("contrast", [(0.05, 0.06), (0.2, 0.22)])
def test_the_contrast_is_the_one_asked_for(kind: Kind, contrast: tuple[float, float]) -> None:
    goods = sources("plastic", "brushed")
    for made in make(goods, Recipe(kinds=(kind,), area=(0.005, 0.02), contrast=contrast), 4, 1):
        found = strength(made, pixels(goods[made.source_index]))
        assert contrast[0] <= found <= contrast[1] + 0.01  # rounding, and the pixels that rounding left as they were


def test_several_defects_lie_apart_and_each_has_its_mask() -> None:
    goods = sources("speckle", "wood")
    recipe = Recipe(kinds=("stain", "hole"), area=(0.002, 0.01), defects=(3, 3))
    for made in make(goods, recipe, 6, 0):
        dense = made.masks.dense()
        assert len(dense) == 3
        assert dense.sum(axis=0).max() == 1
        assert len(set(made.masks.names)) == 1
        changed = (made.image != pixels(goods[made.source_index])).any(axis=2)
        assert np.array_equal(changed, dense.any(axis=0))


def test_without_defects_and_camera_a_picture_stays_as_it_was() -> None:
    goods = sources("fabric", "cap")
    for made in make(goods, Recipe(defects=(0, 0)), 4, 0):
        assert np.array_equal(made.image, pixels(goods[made.source_index]))
        assert (made.label, len(made.masks), made.boxes.shape) == ("good", 0, (0, 4))
        assert made.provenance.is_synthetic


def test_any_order_and_any_start_give_the_same_pictures() -> None:
    goods = sources(seeds=2)
    recipe = Recipe(controls=0.2, camera=Camera(occlusion=0.5), defects=(1, 3))
    straight = list(make(goods, recipe, 12, 7))
    backwards = Maker(goods, recipe, 7)
    for index in reversed(range(12)):
        assert same(backwards(index), straight[index])
    other = list(make(goods, recipe, 12, 8))
    assert sum(same(a, b) for a, b in zip(straight, other, strict=True)) == 0


@pytest.mark.slow
def test_any_number_of_workers_gives_the_same_pictures() -> None:
    goods, recipe = sources(), Recipe(camera=Camera(), controls=0.2)
    alone = list(make(goods, recipe, 20, 5))
    for workers in (2, 3):
        together = list(make(goods, recipe, 20, 5, workers=workers))
        assert all(same(a, b) for a, b in zip(alone, together, strict=True))


def test_no_two_pictures_of_one_source_are_alike() -> None:
    made = list(make(sources("wood"), Recipe(kinds=("stain",), controls=0.0), 12, 0))
    assert len({one.masks.rles for one in made}) == 12
    assert len({one.image.tobytes() for one in made}) == 12


def test_sources_and_kinds_take_turns() -> None:
    goods = sources("wood", "plastic", "speckle")
    made = list(make(goods, Recipe(kinds=("scratch", "dent", "stain")), 18, 0))
    assert np.bincount([one.source_index for one in made]).tolist() == [6, 6, 6]
    assert [sum(one.label == kind for one in made) for kind in ("scratch", "dent", "stain")] == [6, 6, 6]


def test_controls_get_no_defect_but_the_same_camera() -> None:
    goods = sources("wood", "plastic")
    made = list(make(goods, Recipe(kinds=("stain",), controls=0.5, label="bad", camera=Camera()), 60, 0))
    controls = [one for one in made if one.label == "good"]
    assert 18 <= len(controls) <= 42  # 30 expected; p < 0.002 outside
    assert {one.label for one in made} == {"good", "bad"}
    assert all(len(one.masks) == (one.label == "bad") for one in made)
    assert all((one.image != pixels(goods[one.source_index])).any() for one in controls)


def test_a_grey_picture_stays_grey() -> None:
    grey = np.repeat(surface("brushed", (SIDE, SIDE), 0)[..., :1], 3, axis=2)
    for made in make([Good(grey)], Recipe(kinds=("stain", "thread", "scratch", "dent", "hole", "print")), 12, 0):
        assert np.ptp(made.image.astype(int), axis=2).max() == 0


def test_what_hides_a_defect_is_taken_from_its_mask() -> None:
    goods = sources("plastic", seeds=4)
    still = Camera(light=(0, 0), exposure=(1, 1), blur=(0, 0), noise=(0, 0), jpeg=None, occlusion=1.0)
    recipe = Recipe(kinds=("stain",), area=(0.02, 0.1))
    covered = 0
    for index in range(16):
        plain = Maker(goods, recipe, 2)(index)
        hidden = Maker(goods, dataclasses.replace(recipe, camera=still), 2)(index)
        whole, seen = union(plain), union(hidden)
        assert not (seen & ~whole).any()
        assert seen.sum() >= 0.5 * whole.sum()
        assert np.array_equal(hidden.image[seen], plain.image[seen]) or seen.sum() == whole.sum()
        covered += int(seen.sum() < whole.sum())
    assert covered >= 1


def test_the_part_is_found_on_its_background_without_its_shadow() -> None:
    for seed in range(6):
        image = surface("cap", (256, 256), seed)
        found = foreground(image)
        y, x = np.nonzero(found)
        across, down = np.ptp(x) + 1, np.ptp(y) + 1
        assert abs(across / down - 1) < 0.05  # round; with its shadow it would be longer to the lower right
        assert abs(found.sum() / (np.pi / 4 * across * down) - 1) < 0.06
    for kind in ("brushed", "fabric", "speckle", "wood"):
        assert foreground(surface(kind, (256, 256), 0)).all()  # type: ignore[arg-type]


def test_defects_stay_on_the_part_and_on_a_given_mask() -> None:
    image = surface("cap", (SIDE, SIDE), 1)
    part = foreground(image)
    kinds: tuple[Kind, ...] = ("scratch", "crack", "dent", "stain", "hole", "print", "chip")
    for made in make([Good(image)], Recipe(kinds=kinds), 14, 0):
        assert not (union(made) & ~part).any()
    corner = np.zeros((SIDE, SIDE), np.bool_)
    corner[:60, :60] = True
    for made in make([Good(image, corner)], Recipe(kinds=("stain", "scratch"), area=(0.0005, 0.01)), 8, 0):
        assert not (union(made) & ~corner).any()
    outside = make([Good(image)], Recipe(kinds=("stain",), inside="everywhere"), 30, 0)
    assert any((union(made) & ~part).any() for made in outside)


def test_a_missing_part_was_one_and_an_extra_one_looks_like_the_rest() -> None:
    goods = sources("parts")
    count = filled_places(pixels(goods[0]))
    assert count >= 25
    gone = next(make(goods, Recipe(kinds=("missing",), area=(0.001, 0.05)), 1, 0))
    assert filled_places(gone.image) == count - 1


def test_a_texture_has_no_parts_that_could_be_missing() -> None:
    for kind in ("fabric", "speckle", "brushed", "wood", "plastic"):
        assert look(surface(kind, (512, 512), 0), None, False).details == ()  # type: ignore[arg-type]


def filled_places(image: NDArray[np.uint8]) -> int:
    return len(look(image, None, False).details)


def test_kinds_that_a_source_cannot_have_are_passed_over_or_refused_by_name(tmp_path: Path) -> None:
    goods = sources("plastic")
    made = list(make(goods, Recipe(kinds=("chip", "stain")), 4, 0))
    assert {one.label for one in made} == {"stain"}
    path = tmp_path / "flat.png"
    pillow.fromarray(pixels(goods[0])).save(path)
    with pytest.raises(BadData, match=r"flat\.png: no room for chip"):
        next(make([path], Recipe(kinds=("chip",)), 1, 0))


def odd_files(folder: Path) -> list[Path]:
    """The same upright picture as grey, 16-bit grey, RGBA, CMYK and turned by EXIF."""
    image = pillow.fromarray(surface("wood", (96, 128), 0))
    wide = np.asarray(image.convert("L"), np.uint16) * 257
    exif = pillow.Exif()
    exif[0x0112] = 6
    image.convert("L").save(folder / "grey.png")
    pillow.fromarray(wide).save(folder / "deep.png")
    image.convert("RGBA").save(folder / "clear.png")
    image.convert("CMYK").save(folder / "press.jpg")
    image.transpose(pillow.Transpose.ROTATE_90).save(folder / "turned.jpg", exif=exif, quality=95)
    return sorted(folder.iterdir())


def test_odd_files_are_read_as_everywhere_and_carry_their_group(tmp_path: Path) -> None:
    paths = odd_files(tmp_path)
    for made in make(paths, Recipe(kinds=("stain", "scratch")), 10, 0):
        path = paths[made.source_index]
        assert made.image.shape == (96, 128, 3)
        changed = (made.image != media.read(path)).any(axis=2)
        assert np.array_equal(changed, union(made))
        assert made.provenance.source == path.name
        assert made.provenance.group == media.facts(path).sha256


def test_what_cannot_be_read_or_asked_is_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(BadMedia, match=r"broken\.png"):
        next(make([tmp_path / "broken.png"], Recipe(), 1, 0))
    with pytest.raises(BadMedia, match="absent"):
        next(make([tmp_path / "absent.png"], Recipe(), 1, 0))
    small = Good(surface("wood", (64, 64), 0), np.ones((32, 64), np.bool_))
    with pytest.raises(BadData, match="want a mask of 64 x 64"):
        next(make([small], Recipe(), 1, 0))
    for wrong in (
        {"kinds": ("dent", "dent")},
        {"kinds": ("rust",)},
        {"kinds": ()},
        {"area": (0.0, 0.1)},
        {"area": (0.1, 0.01)},
        {"contrast": (0.1, 1.5)},
        {"defects": (2, 1)},
        {"controls": -0.1},
        {"label": "../x"},
        {"label": "a/b"},
        {"good_label": ""},
        {"inside": "nowhere"},
    ):
        with pytest.raises(BadRequest):
            Recipe(**wrong)  # type: ignore[arg-type]
    for camera in ({"blur": (-1, 0)}, {"jpeg": (0, 101)}, {"occlusion": 2}):
        with pytest.raises(BadRequest):
            Camera(**camera)  # type: ignore[arg-type]
    for count, seed in ((-1, 0), (1, -1)):
        with pytest.raises(BadRequest):
            make(sources("wood"), Recipe(), count, seed)
    with pytest.raises(BadRequest, match="no good pictures"):
        make([], Recipe(), 1, 0)


def test_a_recipe_has_a_name_of_its_own() -> None:
    assert Recipe().digest == Recipe(kinds=KINDS).digest
    variants = [
        Recipe(),
        Recipe(kinds=("dent",)),
        Recipe(area=(0.001, 0.03)),
        Recipe(camera=Camera()),
        Recipe(label="x"),
    ]
    assert len({recipe.digest for recipe in variants}) == 5


def test_surfaces_are_seeded_and_of_any_size() -> None:
    assert get_args(Kind) == KINDS
    for kind in SURFACES:
        image = surface(kind, (41, 67), 3)
        assert (image.shape, image.dtype) == ((41, 67, 3), np.uint8)
        assert np.array_equal(image, surface(kind, (41, 67), 3))
        assert not np.array_equal(image, surface(kind, (41, 67), 4))
        assert 3 < image.std() < 110
    made = list(drawn("wood", (32, 32), 3, 0))
    assert [one.label for one in made] == ["good"] * 3
    assert not np.array_equal(made[0].image, made[1].image)
    with pytest.raises(BadRequest, match="want one of brushed"):
        surface("glass", (64, 64), 0)  # type: ignore[arg-type]
    with pytest.raises(BadRequest, match="at least 16"):
        surface("wood", (8, 64), 0)


@pytest.mark.parametrize("size", [(24, 24), (31, 400), (17, 16)])
def test_small_and_narrow_pictures_work(size: tuple[int, int]) -> None:
    good = Good(surface("wood", size, 0))
    for made in make([good], Recipe(kinds=("stain", "scratch", "hole"), area=(0.01, 0.1)), 6, 0):
        changed = (made.image != pixels(good)).any(axis=2)
        assert np.array_equal(changed, union(made))
        assert 0.01 <= changed.mean() <= 0.1
