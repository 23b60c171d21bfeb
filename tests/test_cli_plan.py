"""``anmok plan`` as it is typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from anmok.server.settings import read_settings
from command_line import Ran, anmok, answered, fine, stand, write

SERVE = '[limits]\nbatch_items = 2\n[[model]]\nname = "fake"\nas = "colours"\n[[model]]\nname = "fake-sigmoid"\n'
RATES = "model,task,rate_per_second,p99_seconds,pixels\ncolours,embed,10,0.5,\nfake-sigmoid,classify,10,0.5,\n"
MEASURED = (
    "model,task,items,seconds,weights_bytes,working_bytes,device\n"
    "colours,embed,1,0.030,3000000000,100000000,an H100\ncolours,embed,2,0.040,3000000000,200000000,an H100\n"
    "fake-sigmoid,classify,1,0.015,1000000000,0,an H100\nfake-sigmoid,classify,2,0.020,1000000000,0,an H100\n"
)
USUAL = ("plan", "--models", "serve.toml", "--rates", "rates.csv", "--measured", "measured.csv")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = stand(tmp_path, monkeypatch)
    write(folder, {"serve.toml": SERVE, "rates.csv": RATES, "measured.csv": MEASURED})
    return folder


def refused(*words: object) -> Ran:
    ran = anmok(*words)
    assert ran.code != 0
    assert len(ran.lines) == 1, ran.err
    return ran


def test_the_table_says_where_everything_goes(here: Path) -> None:
    ran = fine(*USUAL, "--gpus", "2x24GB")
    assert "gpu0" in ran.out
    assert "21.60 GB" in ran.out  # what the reserve leaves
    assert "3.00 GB" in ran.out
    assert ran.out.count("500 ms") == 2
    assert ran.lines[0].startswith("note: the times are of an H100; taken as they are")


def test_json_has_the_whole_plan(here: Path) -> None:
    said = answered(*USUAL, "--gpus", "2x24GB")
    assert [[one["name"] for one in device["models"]] for device in said["devices"]] == [["colours"], ["fake-sigmoid"]]
    [row] = said["devices"][0]["expected"]
    assert 0.03 <= row["p50"] < row["p99"] < 0.5
    assert said["devices"][0]["headroom"] > 1
    assert said["ratio"] == pytest.approx(row["p99"] / 0.5, rel=1e-3)
    assert answered(*USUAL, "--gpus", "2x24GB") == said
    assert answered(*USUAL, "--gpus", "2x24GB", "--seed", "1") != said


def test_a_scale_makes_everything_as_much_slower(here: Path) -> None:
    usual = answered(*USUAL, "--gpus", "24GB")["devices"][0]
    twice = answered(*USUAL, "--gpus", "24GB", "--scale", "24GB=2")["devices"][0]
    assert twice["load"] == pytest.approx(2 * usual["load"], rel=1e-3)
    assert twice["expected"][0]["p50"] > 1.9 * usual["expected"][0]["p50"]


def test_what_is_written_is_what_a_server_starts_from(here: Path) -> None:
    ran = fine(*USUAL, "--gpus", "2x24GB", "--out", "plan")
    assert ran.lines[-1].endswith("gpu0.toml, gpu1.toml, nginx.conf, plan.json; anmok serve --config plan/gpu0.toml")
    server = read_settings(here / "plan" / "gpu0.toml")
    assert (server.device, server.memory_bytes) == ("cuda:0", 21_400_000_000)
    assert [(one.target, one.name, one.is_pinned) for one in server.models] == [("fake", "colours", True)]


def test_what_does_not_fit_is_said_and_is_no_failure(here: Path) -> None:
    ran = fine(*USUAL, "--gpus", "3GB,1GB")
    assert "warning: colours is on no device: needs 3.00 GB and 0.20 GB for its batches" in ran.err
    assert "What would help: a device of 3.6 GB" in ran.err
    assert "fake-sigmoid" in ran.out


def test_the_processor_with_its_memory(here: Path) -> None:
    assert "--gpus cpu needs --memory 12GB" in refused(*USUAL, "--gpus", "cpu").err
    [one] = answered(*USUAL, "--gpus", "cpu", "--memory", "12GB")["devices"]
    assert (one["device"], one["memory_bytes"]) == ("cpu", 12 * 10**9)
    write(here, {"serve.toml": 'memory = "6GB"\n' + SERVE})
    assert answered(*USUAL, "--gpus", "cpu")["devices"][0]["memory_bytes"] == 6 * 10**9


def test_what_lacks_is_measured_once_and_kept(here: Path) -> None:
    write(here, {"rates.csv": "model,task,rate_per_second,pixels\ncolours,embed,1,64x48\n"})
    words = ("plan", "--models", "serve.toml", "--rates", "rates.csv", "--gpus", "24GB", "--device", "cpu")
    first = fine(*words)
    kept = (here / "measured.json").read_bytes()
    models = json.loads(kept)["models"]
    assert [(one["model"], one["task"], one["pixels"]) for one in models] == [
        ("fake", "embed", [64, 48]),
        ("fake-sigmoid", "embed", [640, 480]),
    ]
    assert first.lines[0].startswith("note: measured on cpu: ")
    assert "note: fake-sigmoid: no rate is given; placed by memory alone" in first.err
    second = fine(*words)
    assert "measured on" not in second.err
    assert (here / "measured.json").read_bytes() == kept


def test_a_table_of_measurements_is_not_added_to(here: Path) -> None:
    write(here, {"rates.csv": RATES.replace("colours,embed", "colours,classify")})
    said = refused(*USUAL, "--gpus", "24GB").err
    assert "measured.csv lacks colours classify 640x480; add rows, or let it be measured" in said


@pytest.mark.parametrize(
    ("files", "words", "code", "says"),
    [
        ({"rates.csv": "model,task,rate_per_second\ncolors,embed,1\n"}, (), 4, "rates.csv:2: no model of serve.toml"),
        ({"rates.csv": "model,task,rate_per_second\ncolours,embed,x\n"}, (), 3, "rates.csv:2: rate_per_second 'x'"),
        ({"rates.csv": "model,task,rate_per_second\ncolours,depth,1\n"}, (), 3, "colours, depth: a plan is for tasks"),
        ({"serve.toml": '[[model]]\nname = "fak"\n'}, (), 4, "no model is called 'fak'"),
        ({"serve.toml": "port = 8000\n"}, (), 2, "has no [[model]]"),
        ({"serve.toml": "prot = 8000\n"}, (), 3, "did you mean 'port'?"),
        ({}, ("--gpus", "3x"), 2, "want a size as 24GB"),
        ({}, ("--p99", "0"), 2, "--p99 0: must be above 0 seconds"),
        ({}, ("--reserve", "1"), 2, "--reserve 1: want a share"),
        ({}, ("--out", "rates.csv"), 9, "--out rates.csv: is a file"),
        ({}, ("--scale", "80GB=2"), 2, "--scale 80GB: no such device"),
        ({}, ("--measured", "none.csv"), 3, "none.csv: cannot be read"),
    ],
)
def test_what_is_wrong_is_one_line(
    here: Path, files: dict[str, str], words: tuple[str, ...], code: int, says: str
) -> None:
    write(here, dict(files))
    ran = refused(*USUAL, "--gpus", "24GB", *words)
    assert ran.code == code
    assert says in ran.err
