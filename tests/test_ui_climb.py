"""The tab ``Climb``: jobs that outlive their visitors, the files that they leave, and the commands that do it again."""

from __future__ import annotations

import contextlib
import io
import json
import shlex
import shutil
import threading
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from gradio_client import Client, handle_file

from anmok.engine import Engine
from anmok.errors import BadData, BadRequest, Busy, ModelFailed
from anmok.ladder import Plan
from anmok.ladder.outcome import Step
from anmok.load import Adapter
from anmok.ui.climbing import commands, served_name, showing
from anmok.ui.climbing.ascending import BUDGETS, counted, lent, models, work
from anmok.ui.climbing.commands import Wanted
from anmok.ui.climbing.jobs import Job, Jobs, key_of_folder, key_of_zip
from anmok.ui.host import Host, Scope
from anmok.ui.sources import Folders, Source
from anmok.ui.texts import LANGUAGES, Words
from command_line import answered, fine, stand
from conftest import write_photos
from ui_page import GRADIO, Shown, host_of, shown, until, zip_of

pytestmark = GRADIO

SOON = 60.0  # seconds that no climb on toy pictures takes, on however busy a machine


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("root")
    write_photos(folder / "parts", 52, ("red", "blue"))  # enough for a sealed test set
    write_photos(folder / "few", 6)
    return folder


@pytest.fixture(scope="module")
def page(root: Path) -> Iterator[Shown]:
    with shown(root) as found:
        yield found


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine(2**30) as found:
        yield found


def wanted(host: Host, name: str, budget: str = "all", **named: Any) -> Wanted:
    plan = Plan("fake", rungs=BUDGETS[budget], **named)
    return Wanted(name, "", "fake", host.models["fake"], plan, "en")


def climbed(host: Host, root: Path, name: str, place: Path, budget: str = "all") -> Job:
    place.mkdir()
    source = Folders(root).source(name)
    asked = wanted(host, source.called, budget)
    job = Jobs().start(key_of_folder(name), source.called, "fake", place, work(host, source, None, asked, asked.plan))
    assert job.wait(SOON)
    return job


# Jobs


def folder(path: Path) -> Path:
    path.mkdir()
    return path


def test_two_climbs_at_a_time_and_the_third_waits_its_turn(tmp_path: Path) -> None:
    jobs, gate, running = Jobs(at_once=2, waiting=2), threading.Event(), threading.Semaphore(0)

    def hold(job: Job) -> None:
        running.release()
        gate.wait(SOON)
        job.state = "done"

    found = [jobs.start(f"folder:{i}", str(i), "fake", folder(tmp_path / str(i)), hold) for i in range(4)]
    assert running.acquire(timeout=SOON)
    assert running.acquire(timeout=SOON)
    assert not running.acquire(timeout=0.3)
    assert sorted(job.state for job in found) == ["running", "running", "waiting", "waiting"]
    with pytest.raises(Busy):
        jobs.start("folder:4", "4", "fake", folder(tmp_path / "4"), hold)
    assert not (tmp_path / "4").exists()
    waiting = next(job for job in found if job.state == "waiting")
    waiting.stop()
    assert waiting.wait(SOON)
    assert waiting.state == "stopped"
    gate.set()
    assert all(job.wait(SOON) for job in found)
    assert sorted(job.state for job in found) == ["done", "done", "done", "stopped"]


def test_who_comes_to_a_folder_that_is_climbed_on_joins(tmp_path: Path) -> None:
    jobs, gate = Jobs(), threading.Event()
    first = jobs.start("folder:a", "a", "fake", folder(tmp_path / "1"), lambda job: gate.wait(SOON) and None)
    second = jobs.start("folder:a", "a", "fake", folder(tmp_path / "2"), lambda job: None)
    assert second is first
    assert [one.name for one in tmp_path.iterdir()] == ["1"]
    gate.set()
    assert first.wait(SOON)
    first.state = "done"
    third = jobs.start("folder:a", "a", "fake", folder(tmp_path / "3"), lambda job: None)
    assert third is not first
    assert third.wait(SOON)
    assert [one.name for one in tmp_path.iterdir()] == ["3"]


def test_a_climb_that_fails_says_why_and_no_more_than_that(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def fail(job: Job) -> None:
        raise ZeroDivisionError("/home/secret")

    job = Jobs().start("zip:1", "a", "fake", folder(tmp_path / "1"), fail)
    assert job.wait(SOON)
    assert job.state == "failed"
    assert isinstance(job.error, ModelFailed)
    assert "secret" not in showing.state(Words("en"), job, can_serve=False)
    assert "the climb failed" in caplog.text


def test_old_climbs_are_forgotten_with_their_files(tmp_path: Path) -> None:
    jobs = Jobs(kept=2)

    def finish(job: Job) -> None:
        job.state = "done"

    for i in range(5):
        assert jobs.start(f"folder:{i}", str(i), "fake", folder(tmp_path / str(i)), finish).wait(SOON)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["2", "3", "4"]
    with pytest.raises(BadRequest, match="not known here any more"):
        jobs.get("folder:0")
    assert [job.key for job in jobs.shared()] == ["folder:4", "folder:3", "folder:2"]


def test_climbs_on_a_visitors_own_zip_are_in_no_list(tmp_path: Path) -> None:
    jobs = Jobs()
    keys = {key_of_zip() for _ in range(100)}
    assert len(keys) == 100
    key = keys.pop()
    job = jobs.start(key, "a", "fake", folder(tmp_path / "1"), lambda job: None)
    assert jobs.get(key) is job
    assert jobs.shared() == []


# What a climb does


def test_a_climb_leaves_reports_in_both_languages_and_a_winner_that_runs(
    root: Path, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = stand(tmp_path, monkeypatch)
    host = host_of(engine, root)
    job = climbed(host, root, "parts", tmp_path / "job")
    assert job.state == "done", job.error
    assert job.outcome is not None
    assert job.outcome.honesty.openings == 1
    for language, word in (("en", "Ladder report"), ("ko", "보고서")):
        assert word in (job.folder / language / "index.html").read_text(encoding="utf-8")
        assert str(tmp_path) not in (job.folder / language / "report.json").read_text(encoding="utf-8")
    with zipfile.ZipFile(job.folder / "best.zip") as archive:
        assert "best/anmok.toml" in archive.namelist()
        archive.extractall(here)
    picture = next((root / "parts" / "red").iterdir())
    shutil.copy(picture, here / "new.jpg")
    [row] = answered(*shlex.split(commands.follow_up(wanted(host, "parts")))[1:])
    assert row["label"] == "red"


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_is_shown_are_the_rungs_with_their_intervals_and_the_report(
    root: Path, engine: Engine, tmp_path: Path, language: str
) -> None:
    job = climbed(host_of(engine, root), root, "parts", tmp_path / "job", "linear")
    words = Words(language)
    made = showing.state(words, job, can_serve=False)
    assert [step.key for step in job.steps] == ["0a", "0b", "1", "2"]
    assert made.count('class="bar"') == 4
    assert made.count('class="chart ') == 2
    assert "anmok serve ./best" in made
    assert "anmok serve ./best" not in showing.state(words, job, can_serve=True)
    frame = showing.report(words, job)
    assert 'sandbox=""' in frame
    assert frame.count("<") == 2, "the report is escaped: it cannot leave its frame"


def test_the_commands_climb_to_the_same_outcome(
    root: Path, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = stand(tmp_path, monkeypatch)
    host = host_of(engine, root)
    (here / "root").symlink_to(root)
    for budget in ("all", "few"):
        asked = wanted(host, "root/parts", budget, seed=3, margin=0.02)
        line = commands.shell(asked)
        assert (line == "") == (budget == "few")
        if line:
            fine(*shlex.split(line)[1:])
            told = json.loads((here / "report" / "report.json").read_text(encoding="utf-8"))
            shutil.rmtree(here / "report")
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile(commands.python(asked), "copied", "exec"), {})
        again = json.loads((here / "report" / "report.json").read_text(encoding="utf-8"))
        assert (here / "report" / "best" / "anmok.toml").is_file()
        if line:
            assert again["plan_hash"] == told["plan_hash"]
            assert [step["accuracy"] for step in again["steps"]] == [step["accuracy"] for step in told["steps"]]
        else:
            assert [step["key"] for step in again["steps"]] == ["0a", "0b", "1"]


def test_a_stopped_climb_opens_no_test_set(
    root: Path, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand(tmp_path, monkeypatch)
    host, source = host_of(engine, root), Folders(root).source("parts")
    asked = wanted(host, source.called)
    climb = work(host, source, None, asked, asked.plan)

    def impatient(job: Job) -> None:
        job.stop()
        climb(job)

    job = Jobs().start("folder:parts", "parts", "fake", folder(tmp_path / "1"), impatient)
    assert job.wait(SOON)
    assert job.state == "stopped"
    assert job.outcome is None
    assert not (tmp_path / "cache" / "ledger").exists()


def test_whoever_has_seen_enough_keeps_the_rungs_that_stood(
    root: Path, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand(tmp_path, monkeypatch)
    host, source = host_of(engine, root), Folders(root).source("parts")
    asked = wanted(host, source.called)
    climb = work(host, source, None, asked, asked.plan)
    seen: list[tuple[str, int]] = []
    arrived = Job.arrived

    def watched(job: Job, step: Step) -> None:
        arrived(job, step)
        seen.append((step.key, len(list((tmp_path / "cache" / "ledger").iterdir()))))
        if step.key == "1":
            job.stop()

    monkeypatch.setattr(Job, "arrived", watched)
    job = Jobs().start("folder:parts", "parts", "fake", folder(tmp_path / "1"), climb)
    assert job.wait(SOON)
    assert seen == [("0a", 1), ("0b", 1), ("1", 1)], "the books say so before the first rung is shown"
    assert job.state == "done"
    assert job.outcome is not None
    assert [step.key for step in job.outcome.steps] == ["0a", "0b", "1"]
    assert job.outcome.honesty.openings == 1
    assert [(one.what, one.why) for one in job.outcome.honesty.not_tried[:2]] == [
        ("rung 2", "stopped before it"),
        ("rung 3", "stopped before it"),
    ]


def test_a_second_copy_of_a_model_has_to_fit(root: Path) -> None:
    with Engine(1000) as small:
        host = host_of(small, root)
        card = host.models["fake"]
        if card.memory_bytes > 1000:
            with pytest.raises(Busy), lent(host, "fake"):
                pass
        else:
            with lent(host, "fake") as model:
                assert model.card.name == "fake"


def test_models_without_features_are_not_offered(engine: Engine, root: Path) -> None:
    assert models(host_of(engine, root)) == ("fake",)
    assert models(host_of(engine, root, targets={"fake": "./report/best"})) == ()


def test_classes_are_counted_before_anything_is_climbed(root: Path, tmp_path: Path) -> None:
    found = counted(Folders(root).source("few"), None)
    assert (found.classes, found.counts) == (("blue", "green", "red"), (6, 6, 6))
    made = showing.classes(Words("ko"), found)
    assert "이미지 18장, 클래스 3개" in made
    (tmp_path / "plain").mkdir()
    with pytest.raises(BadData):
        counted(Source(tmp_path / "plain", "plain"), None)


# Through the page


def test_a_program_climbs_by_name(page: Shown, tmp_path: Path) -> None:
    client = Client(f"{page.address}en/", verbose=False, download_files=str(tmp_path))
    assert "104 images in 2 classes" in client.predict("parts", None, None, api_name="/climb_look")
    key = _started(client, folder="parts")
    assert key == "folder:parts"
    other = Client(f"{page.address}ko/", verbose=False, download_files=str(tmp_path))
    told = _watched(other, key)
    assert told["state"] == "done"
    assert {step["key"] for step in told["steps"]} == {"0a", "0b", "1", "2", "3"}
    assert told["recommended"] in {"0a", "0b", "1", "2", "3"}
    with pytest.raises(Exception, match="takes on no models"):
        client.predict(key, "mine", api_name="/climb_serve")
    stopped = client.predict(key, api_name="/climb_stop")
    assert stopped[0] == key, "one that is over stays as it is"


def test_eight_visitors_climb_on_their_own(page: Shown, tmp_path: Path) -> None:
    colours = (("red", "blue"), ("red", "green"), ("blue", "green"), ("blue", "green", "red"))

    def visit(number: int) -> tuple[int, str, str]:
        place = tmp_path / str(number)
        place.mkdir()
        write_photos(place / f"set{number}", 3 + number, colours[number % 4])
        packed = zip_of(place / f"set{number}", place / f"set{number}.zip")
        client = Client(f"{page.address}en/", verbose=False, download_files=str(place / "got"))
        seen = client.predict(None, handle_file(str(packed)), None, api_name="/climb_look")
        assert f"<b>set{number}</b>: {(3 + number) * len(colours[number % 4])} images" in seen
        key = _started(client, zipped=packed, budget="zero_shot")
        return number, key, _watched(client, key)["state"]

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(visit, range(8)))
    assert [state for _, _, state in found] == ["done"] * 8
    assert len({key for _, key, _ in found}) == 8


def test_the_winner_is_handed_to_a_server_that_takes_it(root: Path, tmp_path: Path) -> None:
    taken: list[tuple[str, str]] = []

    def serve(scope: Scope, name: str, folder: Path) -> None:
        taken.append((name, Adapter.read(folder).base))

    with shown(root, lambda host: replace(host, serve=serve)) as taking:
        client = Client(f"{taking.address}ko/", verbose=False, download_files=str(tmp_path))
        key = _started(client, folder="parts", budget="zero_shot")
        assert _watched(client, key)["state"] == "done"
        assert client.predict(key, " Parts of July! ", api_name="/climb_serve") == "Parts-of-July"
        assert taken == [("Parts-of-July", "fake")]
    assert served_name("../..") == "best"
    assert served_name("부품") == "부품"


def test_who_may_not_use_the_model_sees_nothing_of_its_climbs(root: Path, tmp_path: Path) -> None:
    def may_use(scope: Scope, model: str) -> bool:
        return (b"x-key", b"right") in scope["headers"]

    with shown(root, lambda host: replace(host, may_use=may_use)) as guarded:
        right = Client(f"{guarded.address}en/", verbose=False, headers={"x-key": "right"}, download_files=str(tmp_path))
        wrong = Client(f"{guarded.address}en/", verbose=False, download_files=str(tmp_path))
        key = _started(right, folder="few")
        for ask in ("/climb_watch", "/climb_stop"):
            with pytest.raises(Exception, match="no model called"):
                wrong.predict(key, api_name=ask)
        with pytest.raises(Exception, match="no model called"):
            _started(wrong, folder="few")
        assert _watched(right, key)["state"] == "done"


def _started(client: Client, folder: str | None = None, zipped: Path | None = None, budget: str = "all") -> str:
    sent = None if zipped is None else handle_file(str(zipped))
    values = client.predict(folder, sent, None, "fake", budget, 1.0, 0, api_name="/climb_start")
    return str(values[0])


def _watched(client: Client, key: str) -> dict[str, Any]:
    told: dict[str, Any] = {}

    def is_over() -> bool:
        told.update(client.predict(key, api_name="/climb_watch"))
        return told["state"] in ("done", "failed", "stopped")

    until(is_over, time.sleep, 600)
    return told
