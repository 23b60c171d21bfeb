"""What a tuned rung learned is kept: the second climb takes it, and nothing that decides it may differ."""

from __future__ import annotations

import dataclasses
import os
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from anmok.ladder import Plan
from anmok.ladder.evaluate import Evaluated
from anmok.ladder.measure import measure
from anmok.ladder.tuning import kept, recipes, rung
from anmok.ladder.tuning.ground import Ground
from anmok.ladder.zero_shot import text_side
from anmok.load import tiny
from tuned_ground import ground_of

PLAN = Plan("efficientnet-lite2")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    return ground_of(tmp_path_factory.mktemp("kept"), PLAN)


@pytest.fixture
def ground(prepared: Ground) -> Ground:
    """With nothing remembered of another test's cache."""
    return dataclasses.replace(prepared)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The keys of rungs that were really trained, in a cache of its own."""
    monkeypatch.setenv("ANMOK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(recipes, "_STEPS", (4, 4))
    monkeypatch.setattr(recipes, "FEWEST_PASSES", 0)
    monkeypatch.setattr(rung, "FEWEST_PASSES", 0)
    trained: list[str] = []
    fitted = rung.fitted

    def counted(key, ground, recipe):  # type: ignore[no-untyped-def]
        trained.append(key)
        return fitted(key, ground, recipe)

    monkeypatch.setattr(rung, "fitted", counted)
    return trained


def climbed(ground: Ground, seconds: float = 600.0) -> Evaluated:
    found = rung.climb_one("5", ground, seconds)
    assert isinstance(found, Evaluated)
    return found


def files(folder: Path) -> list[Path]:
    return sorted((folder / "cache" / "tuned").glob("*"))


def test_a_second_climb_takes_what_the_first_one_learned(ground: Ground, runs: list[str], tmp_path: Path) -> None:
    one, other = climbed(ground), climbed(ground, seconds=0.0)
    assert runs == ["5"]
    assert one.step == other.step
    assert other.step.seconds > 0  # what it cost to learn, not to read
    np.testing.assert_array_equal(one.logits, other.logits)
    np.testing.assert_array_equal(one.predicted, other.predicted)
    assert (one.change is None) == (other.change is None)
    for name, array in (one.change or {}).items():
        np.testing.assert_array_equal(array, (other.change or {})[name])
    assert one.chosen_from == other.chosen_from == 5
    assert len(files(tmp_path)) == 1


def test_what_is_kept_answers_as_whoever_loads_it_will_see(ground: Ground, runs: list[str]) -> None:
    from anmok.ladder.tuning.ground import seen, with_learned

    climbed(ground)
    found = climbed(ground)
    assert runs == ["5"]
    assert found.head is not None
    model = with_learned(ground.model, 3, found.head, found.change)
    np.testing.assert_allclose(found.head.logits(seen(model, ground.tested)), found.logits, atol=1e-4)


def test_fresh_learns_anew_and_is_the_same_opening(ground: Ground, runs: list[str]) -> None:
    fresh = dataclasses.replace(PLAN, is_fresh=True)
    climbed(ground)
    climbed(dataclasses.replace(ground, plan=fresh))
    assert runs == ["5", "5"]
    assert fresh.digest("data", "split") == PLAN.digest("data", "split")


def test_whatever_decides_it_is_in_the_name(
    ground: Ground, runs: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    climbed(ground)
    recipe = recipes.recipe_of("5", len(ground.teaching), 0)

    def name(ground: Ground, key: str = "5", recipe=recipe) -> Path:  # type: ignore[no-untyped-def]
        return kept.place_of(key, ground, recipes.how_of(key), recipe)

    assert name(ground) == files(tmp_path)[0]
    assert name(ground, recipe=dataclasses.replace(recipe, steps=2, check_every=1)) == name(ground)
    labels = ground.material.labels.copy()
    labels[[0, -1]] = labels[[-1, 0]]
    scene = ground.scene
    others = [
        name(ground, "4b"),
        name(ground, recipe=dataclasses.replace(recipe, rate=recipe.rate * 2)),
        name(ground, recipe=dataclasses.replace(recipe, seed=1)),
        name(dataclasses.replace(ground, plan=dataclasses.replace(PLAN, seed=1))),  # other pictures judge
        name(dataclasses.replace(ground, material=dataclasses.replace(ground.material, labels=labels))),
        name(dataclasses.replace(ground, scene=dataclasses.replace(scene, test=scene.test[1:]))),
        name(dataclasses.replace(ground, scene=dataclasses.replace(scene, pool=scene.pool[::-1]))),
        name(dataclasses.replace(ground, model=tiny("efficientnet-lite0"))),
    ]
    monkeypatch.setattr(kept, "_code", lambda: "tomorrow's")
    others.append(name(ground))
    assert len({*others, name(ground)} - {files(tmp_path)[0]}) == len(others)


def test_a_run_cut_short_is_taken_where_the_time_reaches_no_further(
    ground: Ground, runs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rung, "affordable", lambda *_: (2, 60.0))
    short = climbed(ground).step
    assert short.variant.endswith(("2 steps", "better, 2 steps"))
    monkeypatch.setattr(rung, "affordable", lambda *_: (1, 60.0))
    assert climbed(ground).step == short
    assert runs == ["5"]
    monkeypatch.setattr(rung, "affordable", lambda *_: (4, 60.0))
    assert climbed(ground).step.variant.endswith("4 steps")
    assert runs == ["5", "5"]


def test_a_checkpoint_of_another_number_of_steps_is_no_obstacle(ground: Ground, runs: list[str]) -> None:
    """A climb that was killed, on a machine that was busier than it is now."""
    recipe = recipes.recipe_of("5", len(ground.teaching), 0)
    killed = rung.fitted("5", ground, recipes.shortened(recipe, 2))
    assert (ground.checkpoints / "5.safetensors").is_file()
    assert len(killed.curve.losses) == 2
    found = rung.fitted("5", ground, recipe)
    assert (found.curve.resumed, len(found.curve.losses)) == (0, 4)


def test_a_damaged_file_is_learned_anew(ground: Ground, runs: list[str], tmp_path: Path) -> None:
    climbed(ground)
    [path] = files(tmp_path)
    path.write_bytes(path.read_bytes()[:100])
    climbed(ground)
    assert runs == ["5", "5"]
    assert kept.read(files(tmp_path)[0]) is not None


def test_one_changed_byte_is_damage(ground: Ground, runs: list[str], tmp_path: Path) -> None:
    """The format itself takes any numbers of the right length, such as a page that a disk lost."""
    right = climbed(ground)
    [path] = files(tmp_path)
    content = bytearray(path.read_bytes())
    content[-2] ^= 0x40
    path.write_bytes(content)
    np.testing.assert_array_equal(climbed(ground).logits, right.logits)
    assert runs == ["5", "5"]
    told = path.read_bytes()
    assert told.count(b'\\"asked\\": 4') == 1
    path.write_bytes(told.replace(b'\\"asked\\": 4', b'\\"asked\\": 9'))
    assert kept.read(path) is None
    assert files(tmp_path) == []


def test_the_code_that_trains_is_all_of_it() -> None:
    names = {package: set(kept._sources(resources.files(package))) for package in kept._CODE}
    assert {"tuning.py", "losses/tiles.py"} <= names["anmok.train"]
    assert {"trunk.py", "eyes/qwen.py"} <= names["anmok.nets"]
    assert {"backbone.py", "mini.py"} <= names["anmok.models"]  # how pictures are prepared, which trunk is taken
    assert not any(name.endswith(".pyc") for found in names.values() for name in found)


def test_fresh_goes_on_with_no_run_that_was_killed(
    ground: Ground, runs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = dataclasses.replace(PLAN, rungs=("5",))
    resumed: list[int] = []
    trained = rung._trained

    def watched(*given):  # type: ignore[no-untyped-def]
        tuned = trained(*given)
        resumed.append(tuned.curve.resumed)
        return tuned

    monkeypatch.setattr(rung, "_trained", watched)
    monkeypatch.setattr(rung, "affordable", lambda *_: (4, 60.0))
    recipe = recipes.recipe_of("5", len(ground.teaching), 0)
    for is_fresh in (False, True):
        again = dataclasses.replace(ground, plan=dataclasses.replace(plan, is_fresh=is_fresh))
        rung.fitted("5", again, recipe)  # killed before anything was kept
        assert again.checkpoints.is_dir()
        measure(ground.scene, ground.model, text_side(ground.model, ("a", "b", "c"), plan), again.plan)
        for path in kept.cache_dir().glob("tuned/*"):
            path.unlink()
    assert resumed == [0, 4, 0, 0]


def test_a_folder_that_cannot_be_written_costs_nothing(ground: Ground, runs: list[str], tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "tuned").write_text("in the way")
    assert climbed(ground).step.accuracy.n == len(ground.tested)
    assert runs == ["5"]


def test_the_oldest_go_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = kept.Told(6, 6, 1.0, 5, 2.0)
    array = np.zeros((10, 100), np.float32)
    one = kept.Kept(told, {"a": array}, array, array[0], array)
    paths = [tmp_path / f"5-{name}.safetensors" for name in "abcd"]
    kept.write(paths[0], one)
    size = paths[0].stat().st_size
    monkeypatch.setattr(kept, "MOST_BYTES", int(2.5 * size))
    for age, path in enumerate(paths[1:], start=1):
        kept.write(path, one)
        os.utime(path, (age, age))
        if path == paths[1]:
            os.utime(paths[0], (0, 0))
            assert kept.read(paths[0]) is not None  # used now: it is the newest
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["5-a.safetensors", "5-d.safetensors"]
    kept.write(tmp_path / "6-e.safetensors", dataclasses.replace(one, change={"a": np.zeros((70, 100), np.float32)}))
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["5-a.safetensors", "5-d.safetensors"]


def test_arrays_and_figures_come_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=shape).astype(np.float32) for shape in ((3, 4), (2, 4), (2,), (5, 2))]
    told = kept.Told(60, 31, 0.75, 5, 12.5)
    kept.write(tmp_path / "x.safetensors", kept.Kept(told, {"w": arrays[0]}, *arrays[1:]))
    found = kept.read(tmp_path / "x.safetensors")
    assert found is not None
    assert found.told == told
    np.testing.assert_array_equal(found.change["w"], arrays[0])
    np.testing.assert_array_equal(found.logits, arrays[3])
    assert kept.read(tmp_path / "y.safetensors") is None
