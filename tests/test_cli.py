"""The commands as they are typed: what they print, write and return, with the model that needs no weights."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.main import get_command

import anmok as library
from anmok.cli import app, doctor
from anmok.draw import hangul_font
from command_line import PHOTOS, RED, anmok, answered, fine, stand, typed, write

COMMANDS: dict[str, Any] = vars(get_command(app))["commands"]
NAMES = sorted(name.removeprefix("photos/") for name in PHOTOS)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = stand(tmp_path, monkeypatch)
    write(folder, PHOTOS)
    return folder


# Help ------------------------------------------------------------------------------------------------------


def test_without_a_command_the_help_tells_where_to_start() -> None:
    ran = anmok()
    assert ran.code in (0, 2)
    assert "anmok ladder photos/" in ran.out + ran.err


def test_the_version_is_the_package_s() -> None:
    assert fine("--version").out == f"{library.__version__}\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_an_example_that_parses(name: str) -> None:
    text = fine(name, "--help").out
    example = " ".join(text.partition("Example: ")[2].split())
    words = shlex.split(example)
    assert words[:2] == ["anmok", name]
    COMMANDS[name].make_context(name, words[2:])  # raises for an unknown option or a value of another type


@pytest.mark.parametrize("name", ["models", "info", "doctor", "classify", "embed", "ladder", "audit"])
def test_examples_run(name: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All but `pull`, as they stand in the help, with another model than `mini` by the environment."""
    rows = [f"{name},{name.split('/')[0]},{name.split('/')[0]}" for name in NAMES]
    write(here, {"cat.jpg": RED[0], "predictions.csv": "\n".join(["image,label,pred", *rows])})
    for command in ("classify", "embed", "ladder"):
        monkeypatch.setenv(f"ANMOK_{command.upper()}_MODEL", "fake")
    example = COMMANDS[name].epilog.removeprefix("Example: ")
    ran = fine(*shlex.split(example)[1:])
    assert "error" not in ran.err


# The catalogue ---------------------------------------------------------------------------------------------


def test_models_lists_what_the_catalogue_has(here: Path) -> None:
    names = [card.name for card in library.cards()]
    shown = fine("models").out
    assert [name for name in names if name not in shown] == []
    rows = answered("models")
    assert [row["name"] for row in rows] == names
    assert "fake" not in names
    classifying = [row["name"] for row in answered("models", "--task", "classify")]
    assert classifying == [card.name for card in library.cards("classify")]
    assert 0 < len(classifying) < len(names)


def test_info_tells_licence_source_and_whether_it_is_here(here: Path) -> None:
    card = library.card("siglip2-b16-256")
    shown = fine("info", card.name).out
    for part in (card.name, card.licence.name, "anmok pull siglip2-b16-256", f"{card.params:,}"):
        assert part in " ".join(shown.split())
    row = answered("info", card.name)
    assert (row["name"], row["params"], row["is_here"]) == (card.name, card.params, False)
    assert answered("info", "fake")["is_here"] is True


def test_doctor_offline_has_a_remedy_for_what_is_missing(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    checks = {check["what"]: check for check in answered("doctor")}
    assert checks["torch"]["is_ok"]
    assert checks["cache"]["is_ok"]
    assert not checks["mini"]["is_ok"]
    assert checks["mini"]["remedy"] == "anmok pull mini"
    assert not checks["hub"]["is_ok"]
    assert "HF_ENDPOINT" in checks["hub"]["remedy"]
    assert [what for what, check in checks.items() if not check["is_ok"] and not check["remedy"]] == []
    shown = fine("doctor").out
    assert "--  mini: not here yet\n      anmok pull mini\n" in shown


def test_doctor_prints_a_command_as_it_must_be_typed(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(doctor.PACKAGES, "no-such-package", "pip install 'anmok[models]'")
    shown = fine("doctor").out
    assert "--  no-such-package: not installed\n      pip install 'anmok[models]'\n" in shown


def test_doctor_tells_of_an_environment_that_cannot_work(
    here: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    write(here, {"file": "mine"})
    monkeypatch.setenv("ANMOK_CACHE", str(here / "file" / "cache"))
    monkeypatch.setenv("ANMOK_FONT", str(here / "absent.ttf"))
    hangul_font.cache_clear()
    request.addfinalizer(hangul_font.cache_clear)
    monkeypatch.setenv("HF_ENDPOINT", "hub.example")
    monkeypatch.setenv("ANMOK_ACCEPT_LICENCES", "elpv, clip")
    checks = {check["what"]: check for check in answered("doctor")}
    assert [what for what in ("cache", "Hangul font", "hub") if checks[what]["is_ok"]] == []
    assert "ANMOK_CACHE" in checks["cache"]["remedy"]
    assert str(here / "absent.ttf") in checks["Hangul font"]["found"]
    assert "https://" in checks["hub"]["remedy"]
    assert checks["licences accepted"]["found"] == "clip, elpv"


# Classify --------------------------------------------------------------------------------------------------


def test_classify_prints_a_line_per_image(here: Path) -> None:
    lines = fine(*typed("classify photos --labels red,blue")).out.splitlines()
    assert [line.split()[:2] for line in lines] == [[f"photos/{name}", name.split("/")[0]] for name in NAMES]
    assert [len(line.split()) for line in lines] == [6] * 8


def test_classify_json_is_what_python_says(here: Path) -> None:
    path = here / "photos" / NAMES[0]
    [row] = answered("classify", path, "--labels", "red, blue", "--model", "fake-sigmoid")
    scores = library.load("fake-sigmoid").classify(path, ["red", "blue"])
    assert row == {"image": str(path), **scores.to_dict()}
    assert row["scoring"] == "sigmoid"
    assert row["label"] == "blue"


def test_classify_shows_as_many_labels_as_asked_for(here: Path) -> None:
    line = "classify photos/red/05.png --labels blue,red,green,white"
    [every], [best] = answered(*typed(line)), answered(*typed(f"{line} --top-k 2"))
    assert every["scores"][0]["label"] == "red"
    assert best["scores"] == every["scores"][:2]
    assert len(fine(*typed(f"{line} --top-k 1")).out.split()) == 2 + 2


def test_classify_abstains_below_the_threshold(here: Path) -> None:
    ran = fine(*typed("classify photos/red/05.png --labels red,red-blue --threshold 0.999"))
    assert "(no label fits)" in ran.out
    [row] = answered(*typed("classify photos/red/05.png --labels red,red-blue --threshold 0.999"))
    assert row["label"] is None


def test_classify_takes_korean_labels(here: Path) -> None:
    ran = fine(*typed("classify photos/red/05.png --labels 고양이,개"))
    assert {"고양이", "개"} & set(ran.out.split())
    [row] = answered(*typed("classify photos/red/05.png --labels 고양이,개"))
    assert {score["label"] for score in row["scores"]} == {"고양이", "개"}
    assert sum(score["score"] for score in row["scores"]) == pytest.approx(1, abs=1e-6)


def test_classify_takes_sentences(here: Path) -> None:
    plain, told = (
        answered(*typed(f"classify photos/red/05.png --labels a,b {more}"))[0]["scores"]
        for more in ("", "--template 'a red {}' --template 'the {}'")
    )
    assert plain != told


def test_classify_goes_on_after_a_bad_image(here: Path) -> None:
    write(here, {"bad.png": b"no"})
    ran = fine("classify", "bad.png", "photos/red/05.png", "--labels", "red,blue", "--model", "fake", "--json")
    first, second = json.loads(ran.out)
    assert (first["image"], first["error"]) == ("bad.png", "BadMedia")
    assert second["label"] == "red"
    assert ran.lines == [f"warning: {first['message']}"]


# Embed -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("space", "size"), [("image", 3), ("features", 48)])
def test_embed_writes_vectors_that_are_python_s(here: Path, space: str, size: int) -> None:
    write(here, {"photos/bad.png": b"no"})
    ran = fine(*typed(f"embed photos -o out/v.parquet --space {space}"))
    assert ran.lines[-1] == "note: 8 vectors in out/v.parquet"
    assert ran.lines[0].startswith("warning: photos/bad.png: not an image")
    table = pq.read_table(here / "out" / "v.parquet")
    assert table.column("image").to_pylist() == [f"photos/{name}" for name in NAMES]
    vectors = np.asarray(table.column("vector").to_pylist(), np.float32)
    assert vectors.shape == (8, size)
    norms = np.linalg.norm(vectors, axis=1)
    assert np.allclose(norms, 1, atol=1e-6) is (space == "image")
    model = library.load("fake")
    own = model.run([here / "photos" / NAMES[3]], library.Embed("image" if space == "image" else "features"))
    np.testing.assert_allclose(vectors[3], own[0].vector, atol=1e-6)
    assert table.schema.metadata[b"anmok.maker"].decode() == model.maker
    assert list((here / "out").iterdir()) == [here / "out" / "v.parquet"]


def test_doctor_names_a_torchvision_that_does_not_load(
    tmp_path: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As PyPI's build does beside the CPU build of torch, and then transformers with it."""
    facts = tmp_path / "torchvision-0.28.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: torchvision\nVersion: 0.28.0\n")
    (tmp_path / "torchvision.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')\n")
    monkeypatch.syspath_prepend(tmp_path)
    checks = {check["what"]: check for check in answered("doctor")}
    assert checks["torchvision"]["found"].startswith("0.28.0 does not load (operator torchvision::nms")
    assert "pip uninstall torchvision" in checks["torchvision"]["remedy"]
