"""What a plan reads and writes: rates, measurements, a serve.toml per device and a router; and the measuring itself."""

from __future__ import annotations

import gc
import io
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as pillow

from anmok.catalogue import card, cards
from anmok.engine import Limits
from anmok.errors import BadData, BadRequest, UnknownModel, Unsupported
from anmok.inputs import Prompted
from anmok.load import load, tiny
from anmok.placement import (
    Device,
    Measured,
    Offer,
    Plan,
    Rate,
    Settings,
    Timing,
    devices,
    known,
    measure,
    plan,
    read_measured,
    read_rates,
    resolved,
    router,
    to_dict,
    write_measured,
    write_plan,
)
from anmok.placement.measuring import picture, question
from anmok.placement.memory import Watermark
from anmok.placement.writing import toml
from anmok.server.settings import read_settings
from anmok.tasks import Classify, Detect, Segment

MODELS = ("mini", "siglip2-b16-256")


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


# Rates -----------------------------------------------------------------------------------------------------


def test_rates_with_all_columns_and_with_few(tmp_path: Path) -> None:
    text = "model, task, rate_per_second, p99_seconds, pixels\nmini,embed,2.5,0.3,1280x720\n\nmini,classify,0,,\n"
    assert read_rates(written(tmp_path, "rates.csv", "﻿" + text), MODELS) == (
        Rate("mini", "embed", 2.5, 0.3, (1280, 720)),
        Rate("mini", "classify", 0.0, 1.0, (640, 480)),
    )
    few = written(tmp_path, "few.csv", "task,rate_per_second,model\nembed,1,mini\n")
    assert read_rates(few, MODELS, wanted=0.2) == (Rate("mini", "embed", 1.0, 0.2),)


@pytest.mark.parametrize(
    ("rows", "line", "says"),
    [
        ("model,task\n", 1, "no column 'rate_per_second'"),
        ("model,task,rate_per_second,colour\n", 1, "unknown column 'colour'"),
        ("model,task,rate_per_second,task\n", 1, "a column twice"),
        ("model,task,rate_per_second\nmini,embed\n", 2, "2 cells; the header has 3"),
        ("model,task,rate_per_second\nmini,embed,1\nmini,classify,many\n", 3, "rate_per_second 'many'"),
        ("model,task,rate_per_second\nmini,embed,-1\n", 2, "rate_per_second '-1'"),
        ("model,task,rate_per_second\nmini,embed,inf\n", 2, "rate_per_second 'inf'"),
        ("model,task,rate_per_second\nmini,embed,1\nmini,embed,2\n", 3, "a second row for mini, embed"),
        ("model,task,rate_per_second,p99_seconds\nmini,embed,1,0\n", 2, "p99_seconds 0: must be above 0"),
        ("model,task,rate_per_second,pixels\nmini,embed,1,0x4\n", 2, "pixels '0x4': want width and height"),
        ("model,task,rate_per_second,pixels\nmini,embed,1,large\n", 2, "pixels 'large'"),
    ],
)
def test_a_bad_row_of_rates_is_named(tmp_path: Path, rows: str, line: int, says: str) -> None:
    file = written(tmp_path, "rates.csv", rows)
    with pytest.raises(BadData, match=re.escape(f"{file}:{line}: {says}")):
        read_rates(file, MODELS)


def test_rates_that_are_no_text_or_have_no_rows(tmp_path: Path) -> None:
    with pytest.raises(BadData, match="cannot be read as UTF-8 text"):
        read_rates(tmp_path / "none.csv", MODELS)
    with pytest.raises(BadData, match="no rows below the header"):
        read_rates(written(tmp_path, "rates.csv", "model,task,rate_per_second\n"), MODELS)


def test_a_misspelt_model_is_told_its_nearest(tmp_path: Path) -> None:
    file = written(tmp_path, "rates.csv", "model,task,rate_per_second\nsiglip2-b16,embed,1\n")
    with pytest.raises(UnknownModel, match=r"rates.csv:2: .*'siglip2-b16'; did you mean siglip2-b16-256\?"):
        read_rates(file, MODELS)
    file = written(tmp_path, "rates.csv", "model,task,rate_per_second\nzzz,embed,1\n")
    with pytest.raises(UnknownModel, match="it serves mini, siglip2-b16-256"):
        read_rates(file, MODELS)


# Measurements ----------------------------------------------------------------------------------------------


def test_measurements_come_back_as_they_were_written(tmp_path: Path) -> None:
    one = Measured("미니", "embed", "cpu: 2 cores", 5, (Timing(1, 0.1, 0.01, 9, 7), Timing(2, 0.2)), (320, 240), 1.5)
    write_measured(tmp_path / "measured.json", [one])
    assert read_measured(tmp_path / "measured.json") == (one,)


def test_measurements_as_csv(tmp_path: Path) -> None:
    text = (
        "model,task,items,seconds,spread,weights_bytes,working_bytes,pixels,device\n"
        "mini,embed,8,0.4,0.02,2000,300,,an H100\nmini,embed,1,0.1,,2000,100,,an H100\nmini,embed,1,0.2,,,,64x48,\n"
    )
    large, small = read_measured(written(tmp_path, "measured.csv", text))
    timings = (Timing(1, 0.1, 0.0, 1, 100), Timing(8, 0.4, 0.02, 1, 300))
    assert large == Measured("mini", "embed", "an H100", 2000, timings)
    assert large.working_bytes(4) == 100
    assert small == Measured("mini", "embed", "as measured.csv says", 0, (Timing(1, 0.2),), (64, 48))


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("m.json", "{", "cannot be read as JSON"),
        ("m.json", '{"format": 2, "models": []}', "want an object with format 1"),
        ("m.json", '{"format": 1, "models": [3]}', "models[0]: want an object"),
        ("m.json", '{"format": 1, "models": [{"model": "mini"}]}', "models[0]: not a measurement of this version"),
        ("m.csv", "model,task,items,seconds\nmini,embed,1.5,1\n", "m.csv:2: want a whole number of items"),
        ("m.csv", "model,task,items,seconds\nmini,embed,1,0\n", "m.csv:2: want a whole number of items"),
        ("m.csv", "model,task,items,seconds\nm,e,1,1\nm,e,1,1\n", "m.csv:3: a second row for 1 items of m, e"),
    ],
)
def test_a_bad_measurement_is_named(tmp_path: Path, name: str, text: str, says: str) -> None:
    with pytest.raises(BadData, match=re.escape(says)):
        read_measured(written(tmp_path, name, text))


@pytest.mark.parametrize(("field", "value"), [("seconds", 0), ("items", 0), ("spread", -1), ("seconds", "1")])
def test_a_measurement_that_makes_no_sense_is_refused(tmp_path: Path, field: str, value: object) -> None:
    write_measured(tmp_path / "m.json", [Measured("a", "embed", "cpu", 1, (Timing(1, 1.0),))])
    content = json.loads((tmp_path / "m.json").read_text(encoding="utf-8"))
    content["models"][0]["timings"][0][field] = value
    written(tmp_path, "m.json", json.dumps(content))
    with pytest.raises(BadData, match=r"models\[0\]: not a measurement"):
        read_measured(tmp_path / "m.json")


def test_a_measurement_is_known_by_the_served_name_or_the_card() -> None:
    offer = Offer("parts", "mini", card("mini"))
    other, own = (Measured(name, "embed", "cpu", 1, ()) for name in ("mini", "parts"))
    assert known(offer, Rate("parts", "embed", 1, 1), [other, own]) is own
    assert known(offer, Rate("parts", "embed", 1, 1), [other]) is other
    assert known(offer, Rate("parts", "embed", 1, 1, (64, 48)), [other]) is None
    assert known(offer, Rate("parts", "classify", 1, 1), [other]) is None


# Measuring -------------------------------------------------------------------------------------------------


def test_a_model_is_measured_in_the_batches_that_the_engine_makes() -> None:
    one = measure("colours", "embed", lambda: load("fake", device="cpu"), Limits(batch_items=6), seconds=0.0)
    assert (one.model, one.task, one.weights_bytes) == ("colours", "embed", 48 * 3 * 4)
    assert [timing.items for timing in one.timings] == [1, 2, 4, 6]
    assert all(timing.runs == 3 and timing.seconds > 0 for timing in one.timings)
    assert one.device.startswith("cpu: ")
    assert one.load_seconds > 0


def test_sizes_that_take_too_long_are_left_out() -> None:
    one = measure("a", "embed", lambda: load("fake", device="cpu"), Limits(batch_seconds=1e-9), seconds=0.0)
    assert [timing.items for timing in one.timings] == [1, 2]


def test_only_tasks_of_single_pictures_are_measured() -> None:
    with pytest.raises(Unsupported, match="fake-places, track: a plan is for tasks of single pictures; here these"):
        question(card("fake-places"), "track", (64, 48), 1)
    with pytest.raises(Unsupported, match="fake, depth"):
        question(card("fake"), "depth", (64, 48), 1)


@pytest.mark.parametrize("task", ["detect", "point", "segment", "depth", "pose", "gaze", "parse", "normals", "matte"])
def test_there_is_a_question_for_every_task(task: str) -> None:
    items, ask = question(card("fake-places"), task, (64, 48), 2)
    assert len(tiny("fake-places").run(items, ask)) == 2


def test_words_are_asked_of_models_that_read_and_boxes_of_those_that_do_not() -> None:
    assert question(card("grounding-dino-tiny"), "detect", (64, 48), 1)[1] == Detect(
        ("cat", "dog", "car", "tree", "house", "person", "boat", "bird", "chair", "bottle")
    )
    closed = next(one for one in cards("detect") if not one.languages)
    assert question(closed, "detect", (64, 48), 1)[1] == Detect()
    items, ask = question(card("sam2.1-tiny"), "segment", (64, 48), 1)
    assert ask == Segment()
    assert isinstance(items[0], Prompted)
    assert items[0].boxes == ((16.0, 12.0, 48.0, 36.0),)
    assert question(card("fake"), "classify", (64, 48), 1, is_adapted=True)[1] == Classify()


def test_pictures_are_of_the_size_that_was_asked_for_and_differ() -> None:
    one, other = picture((64, 48), 1), picture((64, 48), 2)
    assert one != other
    with pillow.open(io.BytesIO(one)) as opened:
        assert (opened.format, opened.size) == ("JPEG", (64, 48))


def test_the_watermark_rises_by_what_was_taken_and_given_back() -> None:
    gc.collect()  # what earlier tests left is not given back meanwhile
    mark = Watermark("cpu")
    mark.start()
    np.ones(32 * 10**6).sum()  # 256 MB, freed at once
    above = mark.above()
    assert above is not None
    assert 200 * 10**6 < above < 320 * 10**6  # the rest of the process breathes as well


def test_a_watermark_that_was_not_started_says_nothing() -> None:
    assert Watermark("cpu").above() is None


def test_a_device_that_is_named_stays_as_it_is() -> None:
    assert resolved("cuda:1") == "cuda:1"
    assert resolved("auto") in ("cpu", "cuda:0", "mps")


# Writing ---------------------------------------------------------------------------------------------------

SERVE = """
port = 9000
control_port = 9001
memory = "2GB"
accept_licences = ["apache-2.0"]
[limits]
batch_items = 2
batch_seconds = 0.25
[[key]]
name = "team-a"
sha256 = "{digest}"
models = ["colours"]
[[model]]
name = "fake"
as = "colours"
share = 0.5
[[model]]
name = "fake-places"
[[model]]
name = "fake-sigmoid"
priority = -2
""".replace("{digest}", "0" * 64)


def made(tmp_path: Path, on: tuple[Device, ...], rate: float = 20.0) -> tuple[Plan, dict[str, Any]]:
    """A plan for ``SERVE``: colours alone takes a device and a half at 20 a second."""
    content = tomllib.loads(SERVE)
    content["model"][1]["as"], content["model"][2]["as"] = "fake-places", "fake-sigmoid"
    names = {"colours": "fake", "fake-places": "fake-places", "fake-sigmoid": "fake-sigmoid"}
    offers = [Offer(name, target, card(target)) for name, target in names.items()]
    rates = [
        Rate("colours", "embed", rate, 1),
        Rate("fake-places", "depth", 0.5, 1),
        Rate("fake-sigmoid", "embed", 0.5, 1),
    ]
    slow = (Timing(1, 0.075, working_bytes=10**8), Timing(2, 0.15, working_bytes=2 * 10**8))
    costs = [
        Measured(names[one.model], one.task, "cpu", 10**9, slow if one.model == "colours" else (Timing(2, 0.01),))
        for one in rates
    ]
    settings = read_settings(written(tmp_path, "serve.toml", SERVE))
    return plan(offers, rates, costs, on, Settings(settings.limits, requests=500)), content


def test_a_server_per_device_starts_from_what_was_written(tmp_path: Path) -> None:
    found, content = made(tmp_path, devices("2x24GB"))
    names = write_plan(tmp_path / "plan", found, content, tmp_path)
    assert names == ["gpu0.toml", "gpu1.toml", "nginx.conf", "plan.json"]
    servers = [read_settings(tmp_path / "plan" / name) for name in names[:2]]
    before = read_settings(tmp_path / "serve.toml")
    held = [[share.job.name for share in one.held] for one in found.planned]
    for number, server in enumerate(servers):
        assert (server.device, server.port, server.control_port) == (f"cuda:{number}", 9000 + number, 9002 + number)
        assert [one.name for one in server.models] == held[number]
        assert all(one.is_pinned for one in server.models)
        assert server.memory_bytes == 21_600_000_000 - 200_000_000
        assert (server.limits, server.keys, server.accept_licences) == (before.limits, before.keys, ("apache-2.0",))
    assert "colours" in held[0]
    assert "colours" in held[1]
    colours = servers[0].models[held[0].index("colours")]
    assert (colours.target, colours.share) == ("fake", 0.5)
    assert {name for names in held for name in names} == {"colours", "fake-places", "fake-sigmoid"}


def test_plan_json_says_what_the_table_says(tmp_path: Path) -> None:
    found, content = made(tmp_path, devices("2x24GB"))
    write_plan(tmp_path / "plan", found, content, tmp_path)
    said = json.loads((tmp_path / "plan" / "plan.json").read_text(encoding="utf-8"))
    assert said == json.loads(json.dumps(to_dict(found)))
    assert [one["name"] for one in said["devices"]] == ["gpu0", "gpu1"]
    assert said["devices"][0]["expected"][0]["p99"] == pytest.approx(found.planned[0].expected[0].p99, rel=1e-3)


def test_an_older_plan_goes_and_anything_else_stays(tmp_path: Path) -> None:
    found, content = made(tmp_path, devices("2x24GB"))
    write_plan(tmp_path / "plan", found, content, tmp_path)
    written(tmp_path / "plan", "gpu7.toml", "old")
    write_plan(tmp_path / "plan", found, content, tmp_path)
    assert not (tmp_path / "plan" / "gpu7.toml").exists()
    (tmp_path / "photos").mkdir()
    written(tmp_path / "photos", "cat.txt", "mine")
    with pytest.raises(BadRequest, match="is there already and holds no plan"):
        write_plan(tmp_path / "photos", found, content, tmp_path)
    assert (tmp_path / "photos" / "cat.txt").read_text(encoding="utf-8") == "mine"


def test_paths_of_adapters_still_lead_where_they_led(tmp_path: Path) -> None:
    found, content = made(tmp_path, devices("1x24GB,1x24GB"))
    content["model"][0]["name"] = "./best"
    write_plan(tmp_path / "out" / "plan", found, content, tmp_path)
    row = tomllib.loads((tmp_path / "out" / "plan" / "gpu0.toml").read_text(encoding="utf-8"))["model"][0]
    assert (row["name"], row["as"]) == ("../../best", "colours")
    beside = tmp_path / "here"
    beside.mkdir()
    content["model"][0]["name"] = "./here2/best"
    write_plan(beside, found, content, beside)
    row = tomllib.loads((beside / "gpu0.toml").read_text(encoding="utf-8"))["model"][0]
    assert row["name"] == "./here2/best"


def test_the_router_finds_every_model_by_its_path(tmp_path: Path) -> None:
    found, content = made(tmp_path, devices("2x24GB"))
    text = router(found, content)
    assert text.count("{") == text.count("}")
    upstreams = dict(re.findall(r"upstream (\w+) \{  # ([\w.-]+)", text))
    ways = re.findall(r'^    "~(\^.+)" (\w+);$', text, re.MULTILINE)
    assert sorted(upstreams.values()) == ["colours", "fake-places", "fake-sigmoid"]
    for path, name in (
        ("/models/colours", "colours"),
        ("/v2/models/fake-places/infer", "fake-places"),
        ("/models/fake-sigmoid/", "fake-sigmoid"),
    ):
        assert [upstreams[to] for way, to in ways if re.search(way, path)] == [name]
    assert [to for way, to in ways if re.search(way, "/models/fake") or re.search(way, "/x/models/colours")] == []
    for name, upstream in ((name, upstream) for upstream, name in upstreams.items()):
        assert f'    "{name}" {upstream};' in text
    [colours] = re.findall(r"# colours\n(.+?)\n\}", text, re.DOTALL)
    assert re.findall(r"server (\S+) weight=(\d+);", colours) == [("127.0.0.1:9000", "50"), ("127.0.0.1:9001", "50")]


def test_toml_that_is_written_reads_back() -> None:
    content = {
        "a": 'quote " back \\ \x7f 안목 \n tab\t',
        "b": [1, 2.5, True],
        "c": {"x": 1e-7, "y": []},
        "d": [{"n": 1}, {"n": 2, "s": ["a"]}],
        "e": False,
    }
    assert tomllib.loads(toml(content)) == content
