"""A memory of good pictures behind a server: the same answers as in Python, its own task and no other, its tab."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from anmok.engine import Engine
from anmok.errors import BadData, Unsupported
from anmok.ladder.inspecting.banking import bank_of
from anmok.load import card_of, load
from anmok.results import AnomalyMap
from anmok.server.settings import Served, Settings
from anmok.tasks import Classify, Inspect
from anmok.ui.texts import Words
from anmok.ui.trying.commands import Act, Thing, commands
from anmok.wire import Call, answers_from_json, call_to_json, result_to_json
from browser.chromium import choose_tab, chromium, faults, opened, overflow
from browser.served import shown
from command_line import anmok
from drawn_parts import plain_folder
from serving import Running

pytestmark = pytest.mark.filterwarnings("ignore:'future.no_silent_downcasting'")


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``parts/`` and the memory ``bank/`` of the good ones."""
    folder = tmp_path_factory.mktemp("here")
    plain_folder(folder / "parts", good=8, each=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ANMOK_CACHE", str(folder / "cache"))
        bank_of(load("fake"), sorted((folder / "parts" / "good").iterdir())).write(folder / "bank")
    return folder


@pytest.fixture(scope="module")
def server(here: Path) -> Iterator[Running]:
    with shown(settings=Settings(models=(Served.of("fake"), Served.of(f"{here}/bank")))) as found:
        yield found


def test_a_memory_answers_over_http_as_in_python(server: Running, here: Path) -> None:
    pictures = [(here / "parts" / name).read_bytes() for name in ("good/000.png", "blob/000.png")]
    expected = load(str(here / "bank")).run(pictures, Inspect())
    asked = call_to_json(Call(Inspect(), tuple(pictures)))  # the only model that inspects need not be named
    reply = server.post("/run/inspect", asked)
    assert (reply.status, reply.json["model"]) == (200, "bank")
    found = answers_from_json("inspect", reply.json)
    assert [result_to_json(one) for one in found] == [result_to_json(one) for one in expected]
    good, bad = found
    assert isinstance(good, AnomalyMap)
    assert isinstance(bad, AnomalyMap)
    assert bad.score > 2 * good.score
    assert bad.is_strange
    strict = server.post("/run/inspect", {"model": "bank", **call_to_json(Call(Inspect(0.0), (pictures[1],)))})
    assert strict.json["answers"][0]["threshold"] == 0.0
    odd = server.post("/run/inspect", {"model": "bank", "ask": {"threshold": -1}, "items": asked["items"]})
    assert (odd.status, "threshold -1" in odd.json["error"]["message"]) == (422, True)


def test_it_has_one_task_and_so_says_the_engine(server: Running, here: Path) -> None:
    assert card_of(str(here / "bank")).tasks == ("inspect",)
    assert card_of("fake").tasks == load("fake").card.tasks
    items = call_to_json(Call(Inspect(), ((here / "parts/good/000.png").read_bytes(),)))["items"]
    refused = server.post("/run/classify", {"model": "bank", "ask": {"labels": ["a", "b"]}, "items": items})
    assert "does not classify; it can inspect" in refused.json["error"]["message"]
    with Engine(10**9, names={"bank": str(here / "bank")}) as engine, pytest.raises(Unsupported, match="classify"):
        engine.submit("bank", [], Classify(("a", "b")))


def test_a_damaged_memory_is_told_before_the_server_starts(here: Path, tmp_path: Path) -> None:
    broken = tmp_path / "bank"
    shutil.copytree(here / "bank", broken)
    (broken / "memory.safetensors").unlink()
    with pytest.raises(BadData, match=r"without its memory\.safetensors"):
        Engine(10**9, names={"bank": str(broken)})
    (broken / "anmok.toml").write_text('kind = "memory"\nformat = 1\n')
    with pytest.raises(BadData, match="not a memory"):
        card_of(str(broken))


def test_the_commands_to_copy_give_the_page_s_answer(
    server: Running, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(here)
    act = Act("bank", "./bank", card_of("./bank"), Inspect(), (Thing("parts/blob/000.png"),), server.address)
    found = commands(act)
    assert "anmok.load('./bank')" in found.python
    done = subprocess.run(["sh", "-c", found.curl], capture_output=True, text=True, timeout=60, check=True)
    ran = anmok(*shlex.split(found.shell)[1:], "--json")
    assert ran.code == 0, ran.err
    [by_curl] = json.loads(done.stdout)["answers"]
    assert by_curl["score"] == json.loads(ran.out)[0]["score"]


@pytest.mark.browser
@pytest.mark.parametrize(("language", "width"), [("en", 1440), ("ko", 390)])
def test_the_tab_shows_the_map_the_score_and_the_threshold(
    server: Running, here: Path, language: str, width: int
) -> None:
    words, bank = Words(language), load(str(here / "bank"))
    with chromium() as browser, opened(browser, f"{server.address}/ui/{language}/", width=width) as (page, seen):
        page.set_default_timeout(60_000)
        choose_tab(page, "#try-tasks", "inspect", words("try.tasks.inspect"))
        panel = page.locator("#task-inspect")
        for name, key in (("blob/000.png", "try.said.strange"), ("good/003.png", "try.said.good")):
            path = here / "parts" / name
            answer = bank.inspect(path)
            assert answer.threshold is not None
            if panel.locator("input[type=file]").count() == 0:  # the picture before is still there
                panel.get_by_role("button", name="Clear" if language == "en" else "지우기").first.click()
            panel.locator("input[type=file]").first.set_input_files(path)
            said = words(key, answer.score, answer.threshold)
            expect(page.locator("#said-inspect")).to_contain_text(said, timeout=60_000)
        shown_map = panel.get_by_role("img", name=words("try.answer")).first
        expect(shown_map).to_be_visible()
        assert overflow(page) == 0
        assert faults(page) == []
    assert seen.complaints == []
