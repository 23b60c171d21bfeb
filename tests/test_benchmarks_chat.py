"""What `python -m benchmarks chat` asks, and what it says of the numbers."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))  # benchmarks/ is not installed

from benchmarks.chat import shapes
from benchmarks.chat.asking import Answer
from benchmarks.chat.comparing import Results, _prompt, _shared
from benchmarks.chat.peers import GGUF, RUNTIMES, VLM
from benchmarks.chat.tables import claims, printed
from benchmarks.chat.workers import loop


def results(ours: float, theirs: float, load: float = 1.0) -> Results:
    rows = {
        "anmok": {64: [Answer(0.1, ours, 0.01, [1]), Answer(0.1, 1.2 * ours, 0.01, [1])]},
        "llama.cpp": {64: [Answer(0.2, theirs, 0.02, ["a"]), Answer(0.2, 1.2 * theirs, 0.02, ["a"])]},
    }
    return Results("a machine", 2, 8, answers={GGUF: rows}, agreement={GGUF: {"anmok": 0.5}}, load_average=[load])


@pytest.mark.parametrize(
    ("ours", "word"), [(100.0, "level with"), (96.0, "level with"), (94.0, "behind"), (106.0, "ahead of")]
)
def test_level_is_within_a_twentieth(ours: float, word: str) -> None:
    [claim] = claims(results(ours, 100.0), GGUF)
    assert claim.startswith(f"{GGUF}, 64 tokens: {word} llama.cpp in tokens a second, {ours / 100:.2f} (")
    assert claim.endswith("ahead of it to the first token, 2.00 (2.00 to 2.00) times as fast")


def test_the_table_has_medians_and_quartiles_and_owns_up_to_other_work() -> None:
    text = printed(results(100.0, 80.0))
    assert "| anmok | 64 | 110.0 (105.0 to 115.0) | 100 (100 to 100) | 10.0 (10.0 to 10.0) | 50% |" in text
    assert "no evidence" not in text
    assert "other work (load 9.0): these numbers are no evidence" in printed(results(100.0, 80.0, load=9.0))


def test_each_round_asks_another_prompt_and_a_picture_stands_behind_its_beginning() -> None:
    ids = list(range(1000))
    assert _prompt(GGUF, ids, 64, 0, 1) == ids[:64]
    assert _prompt(GGUF, ids, 64, 2, 1) == ids[74:138]
    seen = _prompt(VLM, ids, 20, 0, 2)
    assert (seen[:8], seen[8:136], seen[136:]) == (ids[:8], [shapes.IMAGE] * 128, ids[8:20])


def test_the_same_text_is_counted_in_letters_from_the_start() -> None:
    assert (_shared("a cat sat", "a cat ran"), _shared("a", "a cat"), _shared("b", "a")) == (6, 1, 0)


def test_the_first_of_ours_for_a_model_is_the_one_that_claims_are_of() -> None:
    first = {model: next(one.name for one in RUNTIMES if model in one.models) for model in (GGUF, VLM)}
    assert first == {GGUF: "anmok", VLM: "anmok int8"}


def test_a_worker_tells_times_and_pieces(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO('{"ids": [1], "new": 3}\n'))

    def answer(question: dict[str, object], told: loop.Told) -> None:
        for piece in range(int(str(question["new"]))):
            told(piece)

    loop.run(answer)
    ready, line = capsys.readouterr().out.splitlines()
    told = json.loads(line)
    assert (ready, told["pieces"]) == ("ready", [0, 1, 2])
    assert 0 < told["first"] < 1
    assert 0 < told["rest"] < 1
