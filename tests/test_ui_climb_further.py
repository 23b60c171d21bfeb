"""The further fields of the tab ``Climb``: what they make of a plan, what the copied command is, what is shown."""

from __future__ import annotations

import contextlib
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gradio_client import Client

from anmok.cli import ladder as command
from anmok.engine import Engine
from anmok.errors import BadRequest
from anmok.ladder import Plan, climb
from anmok.ladder.dataset import read
from anmok.ladder.plan import BRIEF, DEFAULT_BUDGET, EVERY
from anmok.ladder.rungs.order import ASKED
from anmok.ladder.stakes import Stakes
from anmok.load import tiny
from anmok.ui.climbing import ascending, commands, showing
from anmok.ui.climbing.ascending import Companions, talkers, work
from anmok.ui.climbing.commands import Wanted
from anmok.ui.climbing.further import Wishes, planned
from anmok.ui.climbing.jobs import Job, Jobs
from anmok.ui.sources import Folders
from anmok.ui.texts import LANGUAGES, Spoken, Words
from conftest import write_photos
from ui_page import GRADIO, host_of, shown

pytestmark = GRADIO

CLASSES = ("bad", "good")
USUAL = Plan("fake", margin=0.02, seed=3)


def plan(wishes: Wishes, how_far: str = "all", cards: tuple[Any, Any] = (None, None), language: str = "en") -> Plan:
    return planned(Words(language), USUAL, how_far, wishes, cards, CLASSES)


def test_nothing_said_is_the_usual_plan() -> None:
    nothing = Wishes.of([0, "", "", 0, "good", ""])
    assert plan(nothing) == USUAL
    assert Wishes.of([None, None, None, None, None, None]) == Wishes()
    assert plan(nothing, "linear").rungs[-1] == "2"


def test_minutes_a_student_and_a_talker_open_the_upper_rungs() -> None:
    timed = plan(Wishes(minutes=90))
    assert (timed.budget, timed.rungs) == (5400.0, EVERY)
    with Engine(2**30) as engine:
        card = host_of(engine, None).models["fake"]
    taught = plan(Wishes(student="small", vlm="talks"), cards=(card, replace(card, name="talker")))
    assert (taught.student, taught.vlm) == ("fake", "talker")
    assert taught.rungs == (*BRIEF, "S", *ASKED)
    assert taught.budget == DEFAULT_BUDGET


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("wishes", [Wishes(minutes=5), Wishes(student="fake"), Wishes(vlm="fake")])
def test_they_do_not_go_with_fewer_rungs(wishes: Wishes, language: str) -> None:
    with pytest.raises(Spoken, match=Words(language)("climb.budget.all").split("(")[0]):
        plan(wishes, "linear", language=language)


def test_korean_particles_fit_what_is_put_before_them() -> None:
    with pytest.raises(Spoken) as said:
        plan(Wishes(minutes=5), "linear", language="ko")
    assert str(said.value).endswith("까지)’를 골라 주세요.")


def test_what_errors_cost_is_said_in_two_ways_and_not_in_both() -> None:
    assert plan(Wishes(overkill=1.0, good="good")).stakes == Stakes(max_overkill=0.01, good="good")
    shares = Wishes(prevalence="bad=2%,good=98%", good="good")
    assert plan(shares, "few").stakes == Stakes(prevalence=(("bad", 0.02), ("good", 0.98)), good="good")
    assert plan(replace(shares, good="fine")).stakes == Stakes(prevalence=(("bad", 0.02), ("good", 0.98)))
    with pytest.raises(Spoken, match="one of both"):
        plan(replace(shares, overkill=1.0))


@pytest.mark.parametrize(
    ("wishes", "said"),
    [
        (Wishes(overkill=1.0, good="fine"), "no class “fine” in this folder; its classes are bad, good"),
        (Wishes(prevalence="bad=1,odd=1"), "no class “odd”"),
        (Wishes(prevalence="bad=1"), "Nothing is said of “good”"),
    ],
)
def test_classes_that_there_are_not_are_told_before_a_climb_begins(wishes: Wishes, said: str) -> None:
    with pytest.raises(Spoken, match=said):
        plan(wishes)


@pytest.mark.parametrize(
    "values",
    [
        [-1, "", "", 0, "", ""],
        [1e9, "", "", 0, "", ""],
        [0, "", "", 100, "", ""],
        [float("nan"), "", "", 0, "", ""],
        [0, "", "", float("nan"), "", ""],
    ],
)
def test_numbers_that_no_field_lets_through_are_refused(values: list[Any]) -> None:
    with pytest.raises(BadRequest, match="240 minutes"):
        Wishes.of(values)


@pytest.mark.parametrize(
    ("wishes", "flags"),
    [
        (Wishes(minutes=90), ["--budget", "5400s"]),
        (Wishes(minutes=2), ["--budget", "120s"]),  # as long as usual, but with every rung
        (Wishes(overkill=2.5, good="good"), ["--max-overkill", "0.025", "--good", "good"]),
        (Wishes(prevalence="bad=0.02,good=98%"), ["--prevalence", "bad=0.02,good=0.98"]),
    ],
)
def test_the_copied_command_says_the_same(wishes: Wishes, flags: list[str]) -> None:
    with Engine(2**30) as engine:
        card = host_of(engine, None).models["fake"]
    asked = Wanted("photos", "", "fake", card, plan(wishes), "en")
    line = shlex.split(commands.shell(asked))
    start = line.index(flags[0])
    assert line[start : start + len(flags)] == flags
    if "--budget" in line:
        assert command._seconds(flags[1]) == asked.plan.budget
    script = commands.python(asked)
    made = next(text for text in script.splitlines() if text.startswith("plan = "))
    scope: dict[str, Any] = {"Plan": Plan, "Stakes": Stakes}
    exec(made, scope)
    assert scope["plan"] == asked.plan
    assert ("import Stakes" in script) == (asked.plan.stakes is not None)


@pytest.mark.parametrize(
    ("stage", "said"),
    [
        (("rung 2", 10, 12), {"en": "Rung 2 linear head: 10 of 12", "ko": "2 선형"}),
        (("rung 5", 11, 12), {"en": "Rung 5 last blocks: 11 of 12", "ko": "5 마지막"}),
        (("last blocks", 30, 60), {"en": "Rung 5 last blocks: step 30 of 60", "ko": "60단계 중 30단계"}),
        (("activations", 3, 9), {"en": "Keeping what the lower blocks see: 3 of 9", "ko": "9장 중 3장"}),
        (("few labels", 9, 10), {"en": "with fewer labels: 9 of 10", "ko": "전체 10단계 중 9단계"}),
        (("verdict", 0, 1), {"en": "they are being compared", "ko": "비교하는 중"}),
    ],
)
@pytest.mark.parametrize("language", LANGUAGES)
def test_what_is_running_is_named(
    stage: tuple[str, int, int], said: dict[str, str], language: str, tmp_path: Path
) -> None:
    job = Job("folder:a", "a", "fake", tmp_path, state="running")
    job.progressed(*stage)
    made = showing.state(Words(language), job, can_serve=False)
    assert said[language] in made
    assert ("<progress value=" in made) == (stage[2] > 1)


def test_every_stage_of_a_climb_has_words_and_none_says_that_all_is_done(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write_photos(root / "parts", 52, ("red", "blue"))
    told: list[tuple[str, int, int]] = []
    with Engine(2**30) as engine:
        host, source = host_of(engine, root), Folders(root).source("parts")
        asked = Wanted(source.called, "", "fake", host.models["fake"], Plan("fake", shots=(1,), draws=1), "en")
        ascend = work(host, source, None, asked, asked.plan, Companions())

        def watched(job: Job) -> None:
            progressed = Job.progressed

            class Listening(Job):
                __slots__ = ()

                def progressed(self, stage: str, done: int, total: int) -> None:
                    told.append((stage, done, total))
                    progressed(self, stage, done, total)

            job.__class__ = Listening
            ascend(job)

        (tmp_path / "job").mkdir()
        job = Jobs().start("folder:parts", "parts", "fake", tmp_path / "job", watched)
        assert job.wait(120)
    assert job.state == "done", job.error
    rungs = [one for one in told if one[0].startswith("rung ")]
    assert [key for key, _, _ in rungs] == [*["rung 1"] * 2, *["rung 2"] * 2, *["rung 3"] * 2, "rung T", "rung 5"]
    assert all(done < total for _, done, total in rungs)
    assert np.all(np.diff([done for _, done, _ in rungs]) == 1)
    words = Words("ko")
    for stage in {stage for stage, _, _ in told}:
        shown_job = Job("folder:a", "a", "fake", tmp_path, state="running", stage=stage, done=1, total=3)
        assert stage not in showing.state(words, shown_job, can_serve=False)


def test_a_program_says_it_by_the_same_fields(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write_photos(root / "few", 6, ("red", "blue"))
    with shown(root) as page:
        client = Client(f"{page.address}en/", verbose=False, download_files=str(tmp_path))
        told = ("few", None, None, "fake", "linear", 1.0, 0)
        with pytest.raises(Exception, match="belong to the upper rungs"):
            client.predict(*told, 5, "", "", 0, "good", "", api_name="/climb_start")
        with pytest.raises(Exception, match="no class “good”"):
            client.predict(*told, 0, "", "", 1, "good", "", api_name="/climb_start")
        with pytest.raises(Exception, match="not distilled into itself"):
            client.predict(*told[:4], "all", 1.0, 0, 0, "fake", "", 0, "good", "", api_name="/climb_start")
        with pytest.raises(Exception, match="no model called"):
            client.predict(*told, 0, "stranger", "", 0, "good", "", api_name="/climb_start")
        values = client.predict(*told, 0, "", "", 0, "good", "red=10%,blue=90%", api_name="/climb_start")
        copied = "\n".join(str(value) for value in values)
        assert "stakes=Stakes(" in copied
        assert "--prevalence" not in copied  # the command line cannot stop at a rung


def test_a_student_without_room_is_left_out_with_the_reason(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANMOK_CACHE", str(tmp_path))
    with Engine(1) as engine, contextlib.ExitStack() as stack:
        beside = ascending._beside(host_of(engine, None), Companions("fake", ""), stack)
    assert beside.student == "fake needs 576 bytes; the budget for models is 1"
    assert beside.vlm is None
    climbed = climb(read(photos), tiny("fake"), Plan("fake", rungs=("1",), shots=(1,), draws=1), beside=beside)
    assert [step.key for step in climbed.outcome.steps] == ["1"]


def test_a_student_whose_weights_are_not_here_is_left_out_and_no_visitor_reads_where_they_were_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub of the tests is an address where nobody listens."""
    monkeypatch.setenv("ANMOK_CACHE", str(tmp_path))
    with Engine(2**30) as engine, contextlib.ExitStack() as stack:
        beside = ascending._beside(host_of(engine, None), Companions("resnet-18", ""), stack)
    assert beside.student == "the model's weights cannot be fetched now; try again later"


def test_models_that_talk_are_offered_where_they_can_say_how_likely_a_label_is() -> None:
    with Engine(2**30) as engine:
        host = host_of(engine, None)
        assert talkers(host) == ()
        speaks = replace(host.models["fake"], tasks=("chat", "classify"))
        served = {"fake": speaks, "mute": replace(speaks, name="mute", tasks=("chat",))}
        assert talkers(replace(host, models=served)) == ("fake",)
