"""Cards of the user's own: written, listed, used by every command, and harmless where they are broken."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from anmok import catalogue
from anmok.catalogue import local
from anmok.cli.card import read_pixels
from anmok.engine import Engine
from anmok.errors import BadData, BadRequest, BadWeights, UnknownModel, Unsupported, WeightsUnavailable, WrongState
from anmok.geometry import Pixels, normalise
from anmok.load import Adapter, Head, load
from anmok.tasks import Classify
from battery import picture
from command_line import RED, anmok, answered, fine, stand, write
from conftest import write_photos
from toy_onnx import LABELS, PIXELS, SIZE, graph

NEW = ("card", "new", "--onnx", "screws.onnx", "--labels", "labels.txt", "--pixels", f"{SIZE},bilinear,half,squash")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = stand(tmp_path, monkeypatch)
    monkeypatch.setenv("ANMOK_CARDS", str(tmp_path / "cards"))
    graph(folder / "screws.onnx")
    write(folder, {"labels.txt": "\n".join(LABELS) + "\n", "x.png": RED[0]})
    return folder


@pytest.fixture(scope="session")
def best(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a climb on colours leaves behind."""
    root = tmp_path_factory.mktemp("climb")
    write_photos(root / "photos", 30, ("red", "blue"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ANMOK_CACHE", str(root / "cache"))
        patch.chdir(root)
        fine("ladder", "photos", "--model", "fake")
    return root / "report" / "best"


# A card from a graph -----------------------------------------------------------------------------------------


def test_a_card_is_written_and_every_listing_has_it(here: Path) -> None:
    ran = fine(*NEW)
    path = Path(ran.out.strip())
    assert path == local.file_of("screws")
    assert "3 labels (나사, nut, washer)" in ran.err
    assert "its outputs are logits, scored by softmax; features are what goes into its last layer, 'flat'" in ran.err
    assert "be sure it was so in training" in ran.err
    assert [one["name"] for one in answered("card", "list")] == ["screws"]
    assert "screws" in {one["name"] for one in answered("models")}
    assert "screws" in {one["name"] for one in answered("models", "--task", "classify")}
    facts = answered("info", "screws")
    assert (facts["family"], facts["tasks"], facts["is_here"]) == ("own", ["embed", "classify"], True)
    assert facts["params"] == 5 * 27 + 5 + 3 * 5 + 3
    assert facts["licence"]["id"] == "own"
    assert facts["revision"] == answered("card", "show", "screws")["revision"] != ""
    assert "screws" in fine("models").out
    assert "nothing yet" in fine("info", "screws").out
    assert path.read_text(encoding="utf-8") == fine("card", "show", "screws").out


def test_it_answers_in_python_on_a_server_s_engine_and_in_the_ladder(here: Path) -> None:
    """`anmok classify` goes the same way: Model.run with labels=None."""
    fine(*NEW)
    image = picture((20, 30), 1)
    model = load("screws")
    alone = model.classify(image)
    assert alone.labels == LABELS
    with Engine(10**9) as engine:
        [served] = engine.run("screws", [image], Classify())
        np.testing.assert_array_equal(served.scores, alone.scores)  # type: ignore[union-attr]
    photos = write_photos(here / "photos", 10, ("red", "blue"))
    outcome = answered("ladder", photos, "--model", "screws")
    assert "no text tower" in json.dumps(outcome)
    head = load("./report/best")
    assert head.classify(image).labels == ("blue", "red")


def test_all_that_is_said_of_pixels() -> None:
    plain = read_pixels("224,bicubic,imagenet")
    assert plain == Pixels(224, "crop", "bicubic", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert read_pixels("imagenet, CROP, 0.875, bilinear, 224").crop == 0.875
    assert read_pixels("64,nearest,pad", "0.1,0.2,0.3", "1,2,3").std == (1.0, 2.0, 3.0)
    image = np.asarray([[[0, 128, 255]]], np.uint8)
    assert normalise(image, read_pixels("8,bilinear,bytes")).ravel() == pytest.approx([0, 128, 255], abs=1e-4)
    assert normalise(image, read_pixels("8,bilinear,half")).ravel()[[0, 2]].tolist() == pytest.approx([-1, 1], abs=1e-6)
    for wrong in ("", "224", "224,bicubic", "224,bicubic,imagenet,clip", "224,225,bicubic,imagenet", "224,cubic,half"):
        with pytest.raises(BadRequest, match="want a size, a filter"):
            read_pixels(wrong)
    for wrong in ("224,bicubic,half,pad,0.8", "224,bicubic,half,pad,crop", "0,bicubic,half", "9999,bicubic,half"):
        with pytest.raises(BadRequest, match="--pixels"):
            read_pixels(wrong)
    with pytest.raises(BadRequest, match="three numbers"):
        read_pixels("224,bicubic", "1,2", "1,2,3")
    with pytest.raises(BadRequest, match="std above 0"):
        read_pixels("224,bicubic", "0,0,0", "0,0,0")


@pytest.mark.parametrize(
    ("name", "content", "wanted"),
    [
        ("a.txt", "고양이\n개 \n\n", ("고양이", "개")),
        ("bom.txt", "\ufeffcat\r\ndog\r\n", ("cat", "dog")),
        ("list.json", '["고양이", "개"]', ("고양이", "개")),
        ("numbers.json", '{"1": "dog", "0": "cat", "2": "cow"}', ("cat", "dog", "cow")),
        ("turned.json", '{"dog": 1, "cat": 0}', ("cat", "dog")),
    ],
)
def test_labels_in_all_their_forms(name: str, content: str, wanted: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content.encode())
    assert local.read_labels(tmp_path / name) == wanted


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"0": "cat", "2": "dog"}', "no label has the number 1; want 0 to 1"),
        (b'{"a": "cat"}', "a table of number and label"),
        (b"[1, 2]", "want texts as labels"),
        (b'{"0": "cat"', "the labels are no JSON"),
        (b"\xff\xfe", "cannot be read"),
    ],
)
def test_labels_that_say_too_little(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "labels").write_bytes(content)
    with pytest.raises(BadData, match=said):
        local.read_labels(tmp_path / "labels")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("card", "new"), 2, "give --onnx graph.onnx, or --folder report/best"),
        ((*NEW[:4], "--pixels", "8,bilinear,half", "--task", "classify"), 2, "give --labels labels.txt"),
        ((*NEW, "--task", "embed"), 2, "--labels does not go with --task embed"),
        ((*NEW, "--task", "detect"), 2, "can classify or embed"),
        ((*NEW, "--scoring", "max"), 2, "want softmax or sigmoid"),
        ((*NEW, "--name", "Screws!"), 2, "want small letters and numbers"),
        ((*NEW, "--name", "../screws"), 2, "want small letters and numbers"),
        ((*NEW, "--name", "mini"), 2, "the catalogue has a model of that name"),
        ((*NEW, "--name", "fake"), 2, "the catalogue has a model of that name"),
        ((*NEW, "--licence", "mine"), 2, "licence 'mine': want one of own, apache-2.0"),
        ((*NEW, "--features", "nothing"), 2, "has no tensor 'nothing'"),
        ((*NEW, "--features", "lit"), 2, "'lit' is not one row of numbers per picture"),
        (("card", "new", "--onnx", "gone.onnx", "--pixels", "8,bilinear,half"), 7, "no such file"),
        (("card", "new", "--folder", "photos", "--name", "a"), 3, "no anmok.toml in it"),
        (("card", "new", "--folder", "photos", "--name", "a", "--link"), 2, "--link does not go with --folder"),
        (("card", "new", "--folder", "photos"), 2, "give the card a --name"),
        (("card", "remove", "mini"), 2, "mini is the catalogue's"),
        (("card", "remove", "nothing"), 4, "you have no card called 'nothing'"),
        (("card", "show", "mini"), 2, "anmok info mini"),
    ],
)
def test_what_makes_no_card(words: tuple[str, ...], code: int, said: str, here: Path, tmp_path: Path) -> None:
    ran = anmok(*words)
    assert (ran.code, said in ran.err) == (code, True), ran.err
    assert not list((tmp_path / "cards").rglob("*")) if (tmp_path / "cards").exists() else True


def test_a_name_is_taken_only_by_asking_and_given_back(here: Path, tmp_path: Path) -> None:
    fine(*NEW)
    assert "you have a card of that name" in anmok(*NEW).err
    before = catalogue.card("screws").revision
    graph(here / "screws.onnx", seed=3)
    fine(*NEW, "--replace")
    assert catalogue.card("screws").revision != before
    load("screws").classify(picture((9, 9), 0))
    fine("card", "remove", "screws")
    assert not (tmp_path / "cards" / "screws").exists()
    with pytest.raises(UnknownModel):
        catalogue.card("screws")
    assert "no cards of your own" in fine("card", "list").err


def test_a_folder_that_is_not_ours_is_neither_written_over_nor_removed(here: Path, tmp_path: Path) -> None:
    write(tmp_path / "cards", {"screws/thesis.txt": "mine"})
    ran = anmok(*NEW)
    assert (ran.code, "was not made by anmok; move it away" in ran.err) == (9, True)
    local.file_of("screws").write_text("by hand")
    fine("card", "remove", "screws")
    assert (tmp_path / "cards" / "screws" / "thesis.txt").read_text() == "mine"


def test_linked_weights_stay_where_they_are_and_must_not_change(here: Path, tmp_path: Path) -> None:
    fine(*NEW, "--link")
    assert [path.name for path in (tmp_path / "cards" / "screws").iterdir()] == ["own.json"]
    load("screws").classify(picture((9, 9), 0))
    graph(here / "screws.onnx", seed=3)
    with pytest.raises(BadWeights, match=r"screws.onnx is not what its card was made of"):
        load("screws")
    (here / "screws.onnx").unlink()
    with pytest.raises(WeightsUnavailable, match="put it back"):
        load("screws")
    fine("card", "remove", "screws")
    assert list((tmp_path / "cards").iterdir()) == []


def test_cards_and_weights_move_together(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fine(*NEW)
    (tmp_path / "cards").rename(tmp_path / "elsewhere")
    with pytest.raises(UnknownModel):
        catalogue.card("screws")
    monkeypatch.setenv("ANMOK_CARDS", str(tmp_path / "elsewhere"))
    assert load("screws").classify(picture((9, 9), 0)).labels == LABELS


def test_without_the_variable_cards_are_configuration_and_weights_data(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ANMOK_CARDS")
    for name in ("config", "data"):
        monkeypatch.setattr(f"platformdirs.user_{name}_dir", lambda app, appauthor, n=name: str(tmp_path / n / app))
    fine(*NEW)
    assert (tmp_path / "config" / "anmok" / "cards" / "screws.toml").is_file()
    assert (tmp_path / "data" / "anmok" / "own" / "screws" / "screws.onnx").is_file()
    assert load("screws").classify(picture((9, 9), 0)).labels == LABELS
    fine("card", "remove", "screws")
    assert not list((tmp_path / "data" / "anmok" / "own").iterdir())


# A card from a head ------------------------------------------------------------------------------------------


def test_what_a_climb_left_gets_a_name_and_answers_as_its_folder_does(here: Path, best: Path) -> None:
    """Here the text tower won, so there are labels and prompts and no head."""
    fine("card", "new", "--folder", best, "--name", "inspector")
    one = catalogue.card("inspector")
    assert (one.parts, one.scoring, one.tasks) == ({"base": "fake"}, "softmax", ("embed", "classify"))
    assert "Your own head on fake" in one.summary
    assert answered("info", "inspector")["is_here"]
    same_as_the_folder("inspector", best, ("blue", "red"))


def test_a_head_gets_a_name_and_answers_as_its_folder_does(here: Path) -> None:
    folder = trained(here / "head", ("금", "fine", "dent"))
    fine("card", "new", "--folder", folder, "--name", "inspector")
    same_as_the_folder("inspector", folder, ("금", "fine", "dent"))
    named, base, image = load("inspector"), load("fake"), picture((20, 30), 1)
    assert named.memory_bytes == base.memory_bytes + 4 * (3 * 48 + 3)
    every = dict(named.classify(image).top())
    some = named.classify(image, ["dent", "금"])  # of its own labels the head answers
    np.testing.assert_allclose(some.scores[0] / some.scores[1], every["dent"] / every["금"], rtol=1e-5)  # float32
    others = ["green", "fine"]  # one of them is not the head's: the text tower answers
    np.testing.assert_array_equal(named.classify(image, others).scores, base.classify(image, others).scores)


def trained(folder: Path, labels: tuple[str, ...]) -> Path:
    rng = np.random.default_rng(0)
    weight, bias = (rng.normal(0, 1, shape).astype(np.float32) for shape in ((len(labels), 48), len(labels)))
    Adapter("fake", load("fake").maker, labels, "linear", threshold=0.1, head=Head(weight, bias)).write(folder)
    return folder


def same_as_the_folder(name: str, folder: Path, labels: tuple[str, ...]) -> None:
    named, plain = load(name), load(str(folder))
    images = [picture((20, 30), seed) for seed in range(5)]
    mine, theirs = (model.run(images, Classify()) for model in (named, plain))
    assert mine[0].labels == labels
    assert mine[0].threshold == theirs[0].threshold
    np.testing.assert_array_equal([a.scores for a in mine], [a.scores for a in theirs])
    alone = [named.run([image], Classify())[0].scores for image in images]
    np.testing.assert_allclose([a.scores for a in mine], alone, rtol=0, atol=1e-5)  # the battery's promise
    np.testing.assert_array_equal(named.embed(images[0]).vector, plain.embed(images[0]).vector)


def test_a_damaged_or_strange_head_is_refused(here: Path, best: Path, tmp_path: Path) -> None:
    fine("card", "new", "--folder", best, "--name", "inspector")
    home = tmp_path / "cards" / "inspector"
    with pytest.raises(WrongState, match="was trained on fake@"):
        load("inspector", dtype="bfloat16")
    (home / "anmok.toml").write_text((home / "anmok.toml").read_text() + "\n")
    with pytest.raises(BadWeights, match="is not what its card was made of"):
        load("inspector")
    (home / "own.json").write_text("[]")
    with pytest.raises(BadWeights, match="is damaged"):
        load("inspector")


def test_a_head_on_a_graph_of_one_s_own(here: Path, tmp_path: Path) -> None:
    fine(*NEW)
    photos = write_photos(here / "photos", 10, ("red", "blue"))
    fine("ladder", photos, "--model", "screws")
    fine("card", "new", "--folder", "report/best", "--name", "inspector")
    model = load("inspector")
    assert model.classify(picture((9, 9), 0)).labels == ("blue", "red")
    with pytest.raises(Unsupported):
        model.classify(picture((9, 9), 0), ["green"])
    assert "inspector stands on screws; remove that first" in anmok("card", "remove", "screws").err
    fine("card", "remove", "inspector")
    fine("card", "remove", "screws")


# Broken cards ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("format = 1", "format = 2", "want format = 1"),
        ('name = "screws"', 'name = "bolts"', "the file of 'bolts' wants that name"),
        ('kind = "onnx"', 'kind = "os:system"', "is no card ('os:system')"),
        ('kind = "onnx"', 'code = "os:system"', "is no card ('kind')"),
        ('kind = "onnx"', 'kind = "onnx"\ncode = "os:system"', "'code' is missing, not known"),
        ("params = ", "params = 'many' # ", "'params'"),
        ('["embed", "classify"]', '["paint"]', "tasks are embed and classify"),
        ('["embed", "classify"]', "[{}]", "tasks are embed and classify"),
        ('scoring = "softmax"', 'scoring = "max"', "scoring is softmax or sigmoid"),
        ('licence = "own"', 'licence = "mine"', "is not a card ('mine')"),
        ('filter = "bilinear"', 'filter = "cubic"', "unknown fit 'squash' or filter 'cubic'"),
        ("size = 8", "size = 'big'", "is not a card"),
        ("[source]", "[sources]", "is no card ('source')"),
        ("[pixels]", "[pixels", "is no card"),
        ("[source]", '[parts]\nbase = "nothing"\n[source]', "it stands on 'nothing', and there is no"),
        ("[source]", '[parts]\nbase = "screws"\n[source]', "it stands on 'screws', and there is no"),
    ],
)
def test_a_broken_card_is_named_and_breaks_nothing(
    old: str, new: str, said: str, here: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fine(*NEW)
    path = local.file_of("screws")
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    with caplog.at_level(logging.WARNING):
        names = {one["name"] for one in answered("models")}
    assert "mini" in names
    assert "screws" not in names
    assert "screws.toml" in caplog.text
    assert said in caplog.text
    assert caplog.text.count("is left out") == 1  # said once, however often the catalogue is read
    path.write_text(text, encoding="utf-8")
    assert catalogue.card("screws").name == "screws"
    fine("card", "remove", "screws")


def test_a_card_that_takes_a_published_name_is_left_out(here: Path, caplog: pytest.LogCaptureFixture) -> None:
    fine(*NEW)
    path = local.file_of("screws")
    path.with_name("mini.toml").write_text(path.read_text("utf-8").replace('"screws"', '"mini"'), encoding="utf-8")
    assert catalogue.card("mini").family == "mini"
    assert "a model called 'mini' stands in the catalogue; rename yours" in caplog.text


def test_a_broken_file_can_be_removed_and_bytes_are_no_card(here: Path, tmp_path: Path) -> None:
    (tmp_path / "cards").mkdir()
    local.file_of("broken").write_bytes(b"\xff\x00")
    (tmp_path / "cards" / "notes.txt").write_text("not a card")
    (tmp_path / "cards" / ".hidden.toml").write_text("not a card")
    (tmp_path / "cards" / "folder.toml").mkdir()
    assert catalogue.card("mini").name == "mini"
    fine("card", "remove", "broken")
    assert not local.file_of("broken").exists()


def test_listing_stays_light(here: Path, tmp_path: Path) -> None:
    fine(*NEW)
    code = (
        "import sys, anmok; assert 'screws' in {one.name for one in anmok.cards()};"
        "print(sorted({'torch', 'onnxruntime', 'onnx', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"ANMOK_CARDS": str(tmp_path / "cards")},
    )
    assert done.stdout == "[]\n"
    assert PIXELS.size == SIZE


def test_classify_needs_no_labels_where_the_model_has_its_own(here: Path) -> None:
    fine(*NEW)
    [row] = answered("classify", "x.png", "--model", "screws")
    assert {entry["label"] for entry in row["scores"]} == set(LABELS)
    [some] = answered("classify", "x.png", "--model", "screws", "--labels", "나사,nut")
    assert len(some["scores"]) == 2
    assert anmok("classify", "x.png", "--model", "screws", "--labels", "bolt").code == 2
    assert "give --labels" in anmok("classify", "x.png", "--model", "fake").err
