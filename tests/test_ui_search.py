"""The tab Search: where it stands, folders that are looked through behind it, what is copied, and models that come
later."""

from __future__ import annotations

import contextlib
import io
import json
import shlex
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from gradio_client import Client, handle_file
from PIL import Image as pillow

from anmok import catalogue
from anmok.engine import Engine
from anmok.errors import AnmokError, BadRequest, Busy
from anmok.server.settings import Served, Settings
from anmok.ui import tabs
from anmok.ui.host import Host
from anmok.ui.searching import commands
from anmok.ui.searching.commands import Wanted
from anmok.ui.searching.shelves import Shelf, Shelves
from anmok.ui.sources import Folders, Source
from browser import served
from command_line import fine, stand
from conftest import write_photos
from serving import RED_BOX
from ui_page import GRADIO, Shown, host_of, shown, zip_of

pytestmark = GRADIO

SOON = 60.0
FAKE = catalogue.card("fake")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("root")
    write_photos(folder / "parts", 20)
    (folder / "empty").mkdir()
    outside = tmp_path_factory.mktemp("outside")
    (outside / "secret.png").write_bytes(RED_BOX)
    (folder / "leads").mkdir()
    (folder / "leads" / "out.png").symlink_to(outside / "secret.png")
    return folder


@pytest.fixture(scope="module")
def page(root: Path) -> Iterator[Shown]:
    with shown(root) as found:
        yield found


@pytest.fixture(scope="module")
def client(page: Shown, tmp_path_factory: pytest.TempPathFactory) -> Client:
    return Client(f"{page.address}en/", verbose=False, download_files=str(tmp_path_factory.mktemp("got")))


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """With a cache that knows no picture yet."""
    monkeypatch.setenv("ANMOK_CACHE", str(tmp_path / "cache"))
    with Engine(2**30) as found:
        yield found


# Tabs


def test_a_tab_stands_where_a_model_has_its_task(engine: Engine) -> None:
    def names(*models: str) -> list[str]:
        host = Host(engine, {name: catalogue.card(name) for name in models})
        return [tab.make.__module__.rpartition(".")[2] for tab in tabs.shown(host) if tab.task == "embed"]

    assert names("fake", "fake-places") == ["searching"]
    assert names("fake-places") == []


@pytest.mark.parametrize(("models", "is_there"), [(("fake",), True), (("fake-places",), False)])
def test_the_page_has_the_tab_or_not(models: tuple[str, ...], is_there: bool) -> None:
    settings = Settings(models=tuple(Served.of(name) for name in models))
    with served.shown(settings=settings) as found:
        config = found.get("/ui/en/config").json
        names = {one["api_name"] for one in config["dependencies"] if isinstance(one["api_name"], str)}
        ids = {one["props"].get("elem_id") for one in config["components"]}
    assert ("search" in names, "search-tab" in ids) == (is_there, is_there)


# Shelves


def opened(shelves: Shelves, root: Path, name: str) -> Shelf:
    shelf = shelves.open(Folders(root).source(name), "fake", FAKE)
    assert shelf.ended.wait(SOON)
    return shelf


def test_those_who_come_while_a_folder_is_looked_through_wait_for_the_same(
    engine: Engine, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, run = threading.Event(), engine.run

    def held(*given: Any, **named: Any) -> Any:
        assert gate.wait(SOON)
        assert named["priority"] < 0, "those who ask at this moment go first"
        return run(*given, **named)

    monkeypatch.setattr(engine, "run", held)
    shelves, source = Shelves(engine), Folders(root).source("parts")
    first = shelves.open(source, "fake", FAKE)
    assert shelves.open(source, "fake", FAKE) is first
    assert not first.ended.is_set()
    gate.set()
    assert first.ended.wait(SOON)
    assert (len(first.found()), first.done, first.total) == (60, 60, 60)
    assert shelves.open(source, "fake", FAKE) is first


def test_a_folder_is_looked_through_again_when_it_may_have_changed(engine: Engine, tmp_path: Path) -> None:
    write_photos(tmp_path / "parts", 2)
    shelves = Shelves(engine, fresh=0.0)
    before = opened(shelves, tmp_path, "parts")
    write_photos(tmp_path / "parts", 3, ("red",))
    after = opened(shelves, tmp_path, "parts")
    assert after is not before
    assert len(after.found()) == len(list((tmp_path / "parts").rglob("*.png"))) == 7
    assert after.found().computed == 1


def test_few_folders_stay_in_memory(engine: Engine, tmp_path: Path) -> None:
    for number in range(6):
        write_photos(tmp_path / str(number), 1)
    shelves = Shelves(engine, kept=2)
    found = [opened(shelves, tmp_path, str(number)) for number in range(6)]
    assert len(shelves) == 2
    assert opened(shelves, tmp_path, "5") is found[5]
    assert opened(shelves, tmp_path, "0") is not found[0]


def test_a_queue_of_folders_has_an_end(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()
    monkeypatch.setattr(engine, "run", lambda *given, **named: gate.wait(SOON) and [])
    for number in range(9):
        write_photos(tmp_path / str(number), 1)
    shelves = Shelves(engine)
    begun = [shelves.open(Folders(tmp_path).source(str(number)), "fake", FAKE) for number in range(8)]
    with pytest.raises(Busy, match="being looked through"):
        shelves.open(Folders(tmp_path).source("8"), "fake", FAKE)
    gate.set()
    assert all(shelf.ended.wait(SOON) for shelf in begun)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_what_goes_wrong_is_told_and_tried_again(engine: Engine, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*given: Any, **named: Any) -> Any:
        raise RuntimeError("a fault")

    shelves = Shelves(engine)
    with monkeypatch.context() as patch:
        patch.setattr(engine, "run", broken)
        shelf = shelves.open(Source(write_photos(root / "fault", 1), "fault"), "fake", FAKE)
        assert shelf.ended.wait(SOON)
        with pytest.raises(AnmokError, match="could not be looked through"):
            shelf.found()
    again = shelves.open(Source(root / "fault", "fault"), "fake", FAKE)
    assert again.ended.wait(SOON)
    assert len(again.found()) == 3


def test_a_folder_without_photos_names_no_place_of_this_machine(engine: Engine, root: Path) -> None:
    with pytest.raises(BadRequest, match="empty: there are no photos") as caught:
        opened(Shelves(engine), root, "empty").found()
    assert str(root.parent) not in str(caught.value)


# Commands


@pytest.mark.parametrize("asked", [("it's red", ""), ("", "my photo.png")])
def test_what_is_copied_runs_and_agrees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: tuple[str, str]
) -> None:
    here = stand(tmp_path, monkeypatch)
    write_photos(here / "my photos", 4)
    (here / "my photo.png").write_bytes(RED_BOX)
    wanted = Wanted("my photos", *asked, "fake", FAKE, 5)
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(compile(commands.python(wanted), "copied", "exec"), {})
    line = shlex.split(commands.shell(wanted))
    assert line[0] == "anmok"
    by_shell = fine(*line[1:]).out.splitlines()
    assert [one.split() for one in said.getvalue().splitlines()] == [one.split() for one in by_shell]
    assert len(by_shell) == 5
    if asked[0]:
        assert all("/red/" in one for one in by_shell[:4])


def test_a_licence_is_named_in_both() -> None:
    card = next(one for one in catalogue.cards("embed") if not one.licence.is_accepted_by_default)
    wanted = Wanted("photos", "red", "", card.name, card, 24)
    assert f"accept_licences={(card.licence.id,)!r}" in commands.python(wanted)
    assert f"--accept-licence {card.licence.id}" in commands.shell(wanted)


# Through the page


def test_words_find_their_photos(client: Client) -> None:
    said, gallery, table, python, shell = client.predict("parts", None, "fake", "red", None, api_name="/search")
    assert "Of 60 photos the best 24" in said
    content = json.loads(Path(value_of(table)).read_text(encoding="utf-8"))
    assert (content["folder"], content["asked"]) == (f"{Path(content['folder']).parent}/parts", "red")
    names = [one["image"] for one in content["photos"]]
    assert [name.partition("/")[0] for name in names[:20]] == ["red"] * 20
    cosines = [one["cosine"] for one in content["photos"]]
    assert cosines == sorted(cosines, reverse=True)
    assert cosines[19] > 0.9 > 0.3 > cosines[20]
    captions = [one["caption"] for one in gallery_of(gallery)]
    assert captions == [f"{name} ({cosine:.3f})" for cosine, name in zip(cosines, names, strict=True)]
    assert "by_words(model, 'red')" in python
    assert shell.split()[-4:] == ["--count", "24", "--model", "fake"]


def test_a_photo_finds_its_like(client: Client, root: Path) -> None:
    photo = sorted((root / "parts" / "blue").iterdir())[0]
    said, gallery, *_, shell = client.predict("parts", None, "fake", "", handle_file(str(photo)), api_name="/search")
    assert gallery_of(gallery)[0]["caption"] == f"blue/{photo.name} (1.000)"
    assert "to 1" not in said
    assert f"--image {photo.name}" in shell
    with pillow.open(file_of(gallery_of(gallery)[0])) as picture:
        assert (picture.format, picture.size) == ("WEBP", (28, 24))


def test_a_zip_is_searched(client: Client, tmp_path: Path) -> None:
    packed = zip_of(write_photos(tmp_path / "mine", 2), tmp_path / "mine.zip")
    sent = handle_file(str(packed))
    said, gallery, *_ = client.predict(None, sent, "fake", "green", None, api_name="/search")
    assert "Of 6 photos the best 6" in said
    assert all("/green/" in one["caption"] for one in gallery_of(gallery)[:2])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("parts", None, "fake", " ", None), "Say what to look for"),
        (("..", None, "fake", "red", None), "no such folder"),
        (("/etc", None, "fake", "red", None), "no such folder"),
        (("leads", None, "fake", "red", None), "a link that leads out of the folder"),
        (("empty", None, "fake", "red", None), "no photos in it"),
        ((None, None, "fake", "red", None), "Choose a folder, or send a zip"),
        (("parts", None, "nobody", "red", None), "no model called"),
        (("parts", None, "fake-places", "red", None), "does not embed"),
    ],
)
def test_what_cannot_be_searched_is_said_in_one_line(client: Client, given: tuple[Any, ...], said: str) -> None:
    with pytest.raises(Exception, match=said) as caught:
        client.predict(*given, api_name="/search")
    assert "/tmp" not in str(caught.value)


def test_eight_visitors_get_their_own_answers(page: Shown, tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def visit(number: int) -> set[str]:
        mine = Client(
            f"{page.address}ko/",
            verbose=False,
            download_files=str(tmp_path / str(number)),
            httpx_kwargs={"timeout": SOON},
        )
        colour = ("red", "green", "blue")[number % 3]
        tables = [mine.predict("parts", None, "fake", colour, None, api_name="/search")[2] for _ in range(3)]
        contents = [json.loads(Path(value_of(table)).read_text(encoding="utf-8")) for table in tables]
        return {one["photos"][0]["image"].partition("/")[0] for one in contents}

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(visit, range(8)))
    assert found == [{("red", "green", "blue")[number % 3]} for number in range(8)]


# Models that come later


def test_a_winner_that_is_served_answers_on_the_page_at_once(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platformdirs.user_data_dir", lambda *given, **named: str(tmp_path / "data"))
    with shown(root, lambda host: host) as found:
        client = Client(f"{found.address}en/", verbose=False, download_files=str(tmp_path / "got"))
        key = client.predict("parts", None, None, "fake", "zero_shot", 1.0, 0, api_name="/climb_start")[0]
        ends = time.monotonic() + SOON
        while client.predict(key, api_name="/climb_watch")["state"] != "done":
            assert time.monotonic() < ends
            time.sleep(0.2)
        assert client.predict(key, "winner", api_name="/climb_serve") == "winner"
        red = handle_file(str(sorted((root / "parts" / "red").iterdir())[0]))
        answer = client.predict(red, "winner", "red, blue, green", 0.0, api_name="/try_classify")
        assert "red" in answer[0]
        assert str(tmp_path / "data" / "served" / "winner") in str(answer)
        said = client.predict("parts", None, "winner", "blue", None, api_name="/search")[0]
        assert "Of 60 photos" in said


def value_of(update: Any) -> str:
    return str(update["value"] if isinstance(update, dict) else update)


def gallery_of(update: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = update["value"] if isinstance(update, dict) else update
    return found


def file_of(entry: dict[str, Any]) -> str:
    image = entry["image"]
    return str(image["path"] if isinstance(image, dict) else image)


def test_a_key_that_may_not_use_a_model_is_not_offered_it(engine: Engine, root: Path) -> None:
    from anmok.ui.picking import Picker, Pickers, doing

    host = host_of(engine, root, may_use=lambda scope, model: model == "fake")
    told: list[Any] = []

    class Blocks:
        def load(self, event: Any, inputs: Any, outputs: Any, **named: Any) -> None:
            class Request:
                request = type("R", (), {"scope": {}})()

            assert inputs == outputs
            told.append(event(Request(), "fake-places", "fake"))
            told.append(event(Request(), "", ""))

    @dataclass
    class Field:
        choices: list[tuple[str, str]]
        preprocess: Any = None

    made = [("fake", "fake"), ("nobody", "")]  # the page, before this visitor came to it
    pickers = Pickers()
    pickers.add(Picker(Field(made), doing("embed"), "nobody"))
    pickers.add(Picker(Field([("nobody", ""), *made]), doing("detect"), "nobody", is_first=True, least=2))
    pickers.wire(Blocks(), host)
    [[embedding, detecting], [nobody, _]] = told
    assert embedding["value"] == "fake"
    assert "choices" not in embedding  # another model than the one that is clicked would be taken meanwhile
    assert (detecting["choices"], detecting["value"], detecting["visible"]) == ([("nobody", "")], "", False)
    assert "value" not in nobody  # that may be chosen, and is left to whoever has chosen another one meanwhile
