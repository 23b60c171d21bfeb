"""What the page gives to copy is run: Python by Python, the command line by ours, curl by curl against a server."""

from __future__ import annotations

import contextlib
import io
import json
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anmok import catalogue, clips, wire
from anmok.inputs import Cue
from anmok.tasks import (
    Ask,
    Classify,
    Depth,
    Detect,
    Embed,
    Gaze,
    Matting,
    Normals,
    Parse,
    Pointing,
    Pose,
    Segment,
    Track,
)
from anmok.ui.trying.commands import Act, Thing, commands
from command_line import anmok
from serving import Running, png, running, scene

PHOTO, OTHER, CLIP = "my photo.png", "other.png", "clip.webm"
LABELS = ("red", "it's blue")

CASES: dict[str, tuple[str, Ask[Any, Any], tuple[Thing, ...]]] = {
    "classify": ("fake", Classify(LABELS, threshold=0.2), (Thing(PHOTO),)),
    "detect": ("fake-places", Detect(LABELS, threshold=0.25), (Thing(PHOTO),)),
    "point": ("fake-places", Pointing(LABELS, threshold=0.25), (Thing(PHOTO),)),
    "gaze": ("fake-places", Gaze(0.25), (Thing(PHOTO),)),
    "gaze of faces": ("fake-places", Gaze(), (Thing(PHOTO, (), ((20, 10, 50, 30),)),)),
    "segment by points": ("fake-places", Segment(), (Thing(PHOTO, ((25.5, 15, 1), (2, 2, 0))),)),
    "segment by boxes": ("fake-places", Segment(), (Thing(PHOTO, (), ((20, 10, 50, 30), (60, 40, 75, 55))),)),
    "segment by labels": ("fake-places", Segment(("red",)), (Thing(PHOTO),)),
    "segment everything": ("fake-places", Segment(threshold=0.5), (Thing(PHOTO),)),
    "track by points": ("fake-places", Track(), (Thing(CLIP, cues=(Cue(0, 1, ((25, 15, 1),)),)),)),
    "track by labels": ("fake-places", Track(("red",)), (Thing(CLIP),)),
    "track a box": ("fake-places", Track(), (Thing(CLIP, cues=(Cue(0, 2, (), (20.0, 10.0, 50.0, 30.0)),)),)),
    "depth": ("fake-places", Depth(), (Thing(PHOTO),)),
    "pose": ("fake-places", Pose(0.4, 0.6), (Thing(PHOTO),)),
    "parse": ("fake-places", Parse(), (Thing(PHOTO),)),
    "normals": ("fake-places", Normals(), (Thing(PHOTO),)),
    "matte": ("fake-places", Matting(), (Thing(PHOTO),)),
    "embed": ("fake", Embed(), (Thing(PHOTO), Thing(OTHER))),
    "embed a text": ("fake", Embed(), (Thing(PHOTO), Thing(text="it's red"))),
    "both": ("fake-places", Segment(), (Thing(PHOTO, ((25, 15, 1),)), Thing(PHOTO, (), ((60, 40, 75, 55),)))),
}


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("here")
    image = scene({"red": (20, 10, 50, 30), "blue": (60, 40, 75, 55)})
    (folder / PHOTO).write_bytes(png(image))
    (folder / OTHER).write_bytes(png(scene({"green": (5, 5, 70, 50)})))
    with clips.Writer(folder / CLIP, (60, 80), 10) as writer:
        for _ in range(3):
            writer.write(image)
    return folder


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running() as found:
        yield found


def act(name: str, address: str = "http://127.0.0.1:9") -> Act:
    model, ask, things = CASES[name]
    return Act(model, model, catalogue.card(model), ask, things, address)


def by_python(name: str) -> list[Any]:
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(compile(commands(act(name)).python, name, "exec"), {})
    return [json.loads(line) for line in said.getvalue().splitlines()]


@pytest.mark.parametrize("name", CASES)
def test_python_and_curl_run_and_agree(name: str, here: Path, server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)
    line = commands(act(name, server.address)).curl
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=60, check=True, cwd=here)
    answer = json.loads(done.stdout)
    assert "error" not in answer, answer
    results = [wire.result_from_json(CASES[name][1].task, one).to_dict() for one in answer["answers"]]
    said = by_python(name)
    if name.startswith("embed"):
        first, second = (np.asarray(one["vector"]) for one in results)  # (D,)
        # Both are float32 of the same net; the cosine is rounded once more.
        assert said[0] == pytest.approx(first @ second / np.linalg.norm(first) / np.linalg.norm(second), abs=1e-5)
    elif name.startswith("track"):
        assert results[0]["frames"] == said
    else:
        assert results == said


@pytest.mark.parametrize("name", CASES)
def test_the_command_line_takes_it(name: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = commands(act(name)).shell
    if name in ("embed a text", "both"):
        assert line == ""
        return
    monkeypatch.chdir(here)
    words = shlex.split(line)
    assert words[0] == "anmok"
    ran = anmok(*words[1:])
    assert ran.code == 0, ran.err


def test_a_licence_that_has_to_be_accepted_is_in_every_command() -> None:
    card = next(one for one in catalogue.cards("depth") if not one.licence.is_accepted_by_default)
    found = commands(Act(card.name, card.name, card, Depth(), (Thing(PHOTO),)))
    assert f"accept_licences={(card.licence.id,)!r}" in found.python
    assert f"--accept-licence {card.licence.id}" in found.shell


def test_a_key_is_named_and_not_shown() -> None:
    model, ask, things = CASES["depth"]
    found = commands(Act(model, model, catalogue.card(model), ask, things, needs_key=True))
    assert '-H "Authorization: Bearer $ANMOK_API_KEY"' in found.curl
