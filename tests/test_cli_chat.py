"""``anmok chat`` as it is typed."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from command_line import anmok, fine
from serving import RED_BOX, png, scene

RED = png(scene({"red": (0, 0, 80, 60)}))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "red.png").write_bytes(RED)
    (tmp_path / "box.png").write_bytes(RED_BOX)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_question_about_photos(here: Path) -> None:
    done = fine("chat", "fake-talk", "red.png", "box.png", "뭐예요? 🌈")
    assert done.out == "I see red, black. Question 1: 뭐예요? 🌈\n"
    # 15 bytes in threes, a turn of 2, two photos of 16; 45 bytes in threes and the end.
    assert "note: 39 tokens in (32 for pictures), 16 out, " in done.err
    assert fine("chat", "fake-talk-text", "Hello").out == "Question 1: Hello\n"


def test_what_is_asked_for_is_done(here: Path) -> None:
    done = fine("chat", "fake-talk", "red.png", "Hm?", "--system", "Be short.", "--max-tokens", "4")
    assert done.out == "Be short. I \n"
    assert done.err.rstrip().endswith("cut off at the most that it may have")
    assert fine("chat", "fake-talk", "red.png", "Hm?", "--stop", "on", "--stop", "red").out == "I see \n"
    drawn = [
        fine("chat", "fake-talk", "red.png", "?", "--temperature", "2", "--seed", str(seed)).out
        for seed in (0, 0, 1, 2, 3)
    ]
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) > 1


def test_json(here: Path) -> None:
    answer = json.loads(fine("chat", "fake-talk", "red.png", "Hm?", "--json").out)
    assert (answer["text"], answer["finish"]) == ("I see red. Question 1: Hm?", "stop")
    assert (answer["tokens_in"], answer["image_tokens"], answer["tokens_out"]) == (19, 16, 10)


def test_a_question_that_is_piped_in_or_begins_with_a_dash(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("From a file:\nwhat is it?\n"))
    assert fine("chat", "fake-talk", "-").out == "Question 1: From a file:\nwhat is it?\n"
    assert fine("chat", "fake-talk", "--", "-x").out == "Question 1: -x\n"
    assert fine("chat", "fake-talk", "q" * 600).out == f"Question 1: {'q' * 600}\n"  # no name of a file is so long


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (
            ("fake-talk", "red.png"),
            2,
            'red.png is a file: end with the question, anmok chat fake-talk red.png "What',
        ),
        (("fake-talk", "gone.png", "Hm?"), 3, "gone.png: no such file; the question is one word to the shell"),
        (
            ("fake-talk", "what", "is", "it?"),
            3,
            "what: no such file; the question is one word to the shell: put it",
        ),
        (("fake-talk-text", "red.png", "Hm?"), 2, "1 picture for fake-talk-text, which takes none: it only reads"),
        (("fake", "Hm?"), 2, "fake does not chat; it can embed, classify"),
        (("fake-tolk", "Hm?"), 4, "no model is called 'fake-tolk'"),
        (("fake-talk", " "), 2, "user's turn: nothing is said in it"),
        (("fake-talk", "Hm?", "--temperature", "3"), 2, "temperature 3.0: must lie between 0 and 2"),
        (("fake-talk", "Hm?", "--schema", "gone.json"), 2, "--schema gone.json: cannot be read"),
        (("fake-talk", "Hm?", "--schema", "list.json"), 2, "schema: want a JSON Schema, an object, as text"),
        (("fake-talk", "Hm?", "--schema", "any.json"), 2, "fake-talk cannot be held to a schema: ask without one"),
        (("fake-talk", "broken.png", "Hm?"), 3, "broken.png"),
    ],
)
def test_what_cannot_be_answered_is_one_line(here: Path, words: tuple[str, ...], code: int, message: str) -> None:
    (here / "list.json").write_text("[]")
    (here / "any.json").write_text('{"type": "object"}')
    (here / "broken.png").write_bytes(RED[:60])
    done = anmok("chat", *words)
    assert (done.code, done.out) == (code, "")
    assert done.err.startswith("error: ")
    assert message in done.err
    assert len(done.err.splitlines()) == 1


def test_words_of_a_model_command_no_terminal(here: Path) -> None:
    assert fine("chat", "fake-talk", "a\x1b[31m\x07\tb\nc").out == "Question 1: a\\x1b[31m\\x07\tb\nc\n"


def test_it_prints_while_the_model_writes(here: Path) -> None:
    """A reader sees the first words before the last are made."""
    code = (
        "import sys\nfrom anmok.models.fake_talk import FakeTalk\ntalk = FakeTalk.talk\n"
        "def slow(self, state, ask):\n"
        "    for piece in talk(self, state, ask):\n        yield piece\n        sys.stdin.readline()\n"
        "FakeTalk.talk = slow\nfrom anmok.cli import main\nsys.argv = ['anmok', 'chat', 'fake-talk', 'Hm?']\nmain()\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.read(3) == b"Que"
        process.stdin.write(b"\n")
        process.stdin.flush()
        assert process.stdout.read(3) == b"sti"
        process.stdin.close()
        assert process.stdout.read() == b"on 1: Hm?\n"
    assert process.returncode == 0
