"""What `python -m benchmarks chat` asks, what it makes for its peers to read, and what it says of the numbers."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

sys.path.append(str(Path(__file__).parents[1]))  # benchmarks/ is not installed

from benchmarks.chat import files, gguf_shape, shapes, whole
from benchmarks.chat.asking import Answer, Silent, Worker, started
from benchmarks.chat.comparing import Results, _shared
from benchmarks.chat.peers import GGUF, RUNTIMES, VLM, Runtime
from benchmarks.chat.prompts import Prompt, Prompts
from benchmarks.chat.tables import claims, printed
from benchmarks.chat.workers import loop


class Letters:
    """A tokenizer: a word with the space before it is a token, its number that of its first letters."""

    def __call__(self, text: str) -> dict[str, list[int]]:
        return {"input_ids": [int.from_bytes(word.encode()[:6], "big") for word in text.split(" ")]}

    def decode(self, ids: list[int]) -> str:
        return "".join(" " + one.to_bytes(6, "big").lstrip(b"\0").decode("utf-8", "replace") for one in ids)


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
    assert "| anmok | 64 | 110.0 (105.0 to 115.0) | 100 (100 to 100) | 10.0 (10.0 to 10.0) | 50 % |" in text
    assert "no evidence" not in text
    assert "whole command" not in text
    assert "other work (load 9.0): these numbers are no evidence" in printed(results(100.0, 80.0, load=9.0))


def test_the_whole_command_has_a_table_of_its_own() -> None:
    out = results(100.0, 80.0)
    out.commands["fastest"] = [whole.Whole(2.0, 2.5, 38, 64), whole.Whole(4.0, 4.5, 38, 64)]
    assert "| fastest | 38 | 64 | 3.00 (2.50 to 3.50) | 3.50 (3.00 to 4.00) |" in printed(out)


def test_each_round_asks_another_prompt_and_a_picture_stands_behind_its_beginning() -> None:
    prompts = Prompts(Letters())
    ids = prompts.one(GGUF, 400, 0, 2).ids
    assert prompts.one(GGUF, 64, 0, 2) == Prompt(ids[:64])
    assert prompts.one(GGUF, 64, 2, 2).ids == ids[74:138]
    seen = prompts.one(VLM, 20, 0, 2)
    assert seen.ids[8:136] == (shapes.IMAGE,) * 128
    assert (len(seen.ids), seen.tiles) == (148, 2)
    # The texts are the same tokens: one a word.
    assert (len(seen.before.split(" ")), len(seen.after.split(" ")[1:])) == (8, 12)
    words = Letters()(seen.before)["input_ids"] + Letters()(seen.after)["input_ids"][1:]
    assert words == [*seen.ids[:8], *seen.ids[136:]]
    assert seen.before.startswith("The ")


def test_a_prompt_longer_than_the_text_goes_round() -> None:
    prompts = Prompts(Letters())
    long = prompts.one(VLM, 4000, 3, 1)
    assert len(long.ids) == 4064
    assert set(long.ids[2000:]) <= set(long.ids[:2000])


def test_a_runtime_with_tokens_of_its_own_is_given_as_many_words_less() -> None:
    question: dict[str, object] = {"before": "one two", "after": " three four five"}
    assert loop.texts(question, own=2) == ("one two", " three")
    assert loop.texts(question, own=0)[1].split() == ["three", "four", "five"]


def test_the_same_text_is_counted_in_letters_from_the_start() -> None:
    assert (_shared("a cat sat", "a cat ran"), _shared("a", "a cat"), _shared("b", "a")) == (6, 1, 0)


def test_the_first_of_ours_for_a_model_is_the_one_that_claims_are_of() -> None:
    first = {model: next(one.name for one in RUNTIMES if model in one.models) for model in (GGUF, VLM)}
    assert first == {GGUF: "anmok", VLM: "anmok int8"}


def test_all_four_read_both_models() -> None:
    kinds = {model: {one.worker for one in RUNTIMES if model in one.models} for model in (GGUF, VLM)}
    assert kinds == {model: {"anmok", "transformers", "openvino", "llamacpp"} for model in (GGUF, VLM)}
    # A comma would part a name on the command line.
    assert not [one.name for one in RUNTIMES if "," in one.name]


def test_a_worker_tells_times_pieces_and_what_it_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO('{"ids": [1], "new": 3}\n'))

    def answer(question: dict[str, object], told: loop.Told) -> int:
        for piece in range(int(str(question["new"]))):
            told(piece)
        return 7

    loop.run(answer)
    ready, line = capsys.readouterr().out.splitlines()
    told = json.loads(line)
    assert (ready, told["pieces"], told["read"]) == ("ready", [0, 1, 2], 7)
    assert 0 < told["first"] < 1
    assert 0 < told["rest"] < 1


def answering(code: str) -> Worker:
    import subprocess

    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = subprocess.Popen([sys.executable, "-c", code], text=True, encoding="utf-8", **pipes)
    return Worker(Runtime("one", "one", "", (GGUF,)), process, Path(os.devnull))


def test_a_runtime_that_reads_another_number_of_tokens_is_no_row() -> None:
    line = '{"first": 0.5, "rest": 2.0, "rest_cpu": 4.0, "pieces": [1, 2, 3], "read": 5}'
    worker = answering(f"for _ in range(2): input(); print('a log'); print('{line}', flush=True)")
    answer = worker.ask(Prompt((1, 2, 3, 4, 5)), 3)
    assert (answer.first, answer.rate, answer.cpu) == (0.5, 1.0, 2.0)
    with pytest.raises(Silent, match="it read 5 tokens where the others read 4"):
        worker.ask(Prompt((1, 2, 3, 4)), 3)
    worker.end()
    assert worker.process.returncode == 0


def test_a_command_is_timed_from_its_start_to_its_first_letter_and_its_last() -> None:
    code = (
        "import sys, time; time.sleep(0.3); print('On', end='', flush=True); time.sleep(0.2); print('ce');"
        "print('note: 9 tokens in (3 for pictures), 4 out, 0.1 s', file=sys.stderr)"
    )
    told = whole.timed([sys.executable, "-c", code], dict(os.environ), 4)
    assert (told.tokens_in, told.tokens_out) == (9, 4)
    assert told.first >= 0.3
    assert told.last >= told.first + 0.2
    with pytest.raises(Silent, match="ended after 4 tokens, before the 5"):
        whole.timed([sys.executable, "-c", code], dict(os.environ), 5)
    with pytest.raises(Silent, match="no such model"):
        whole.timed([sys.executable, "-c", "raise SystemExit('no such model')"], dict(os.environ), 4)


def test_a_command_that_says_much_on_the_way_is_timed_all_the_same() -> None:
    """Ten times what a pipe holds, before the first letter of the answer."""
    code = (
        "import sys; print('note: ' + 'x' * 10**6, file=sys.stderr); print('Once');"
        "print('note: 9 tokens in (3 for pictures), 4 out, 0.1 s', file=sys.stderr)"
    )
    told = whole.timed([sys.executable, "-c", code], dict(os.environ), 4)
    assert (told.tokens_in, told.tokens_out) == (9, 4)
    assert 0 < told.first <= told.last


def test_heads_are_turned_to_the_order_of_llama_cpp() -> None:
    rows = torch.arange(16.0).reshape(16, 1)  # two heads of eight
    assert gguf_shape._turned(rows, 8).flatten().tolist()[:8] == [0, 4, 1, 5, 2, 6, 3, 7]
    assert gguf_shape._turned(rows, 8).flatten().tolist()[8:] == [8, 12, 9, 13, 10, 14, 11, 15]


def small() -> object:
    """As :func:`shapes.smolvlm`, of two narrow layers."""
    from transformers import SmolVLMConfig, SmolVLMForConditionalGeneration

    text = {
        "model_type": "llama",
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "vocab_size": 40,
        "rope_parameters": {"rope_type": "default", "rope_theta": 100_000.0},
    }
    vision = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 64,
        "patch_size": 16,
    }
    torch.manual_seed(0)
    config = SmolVLMConfig(text_config=text, vision_config=vision, scale_factor=4, image_token_id=34)
    return SmolVLMForConditionalGeneration(config).eval()


def test_the_files_for_llama_cpp_hold_the_net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gguf import GGUFReader, GGUFWriter, quants

    words = GGUFWriter(tmp_path / "words.gguf", "llama")
    words.add_token_list([f"t{i}" for i in range(30)])
    words.add_token_types([1] * 30)
    words.add_token_merges(["t 0"])
    gguf_shape._finish(words)
    net: object = small()
    monkeypatch.setattr(shapes, "smolvlm", lambda: net)
    monkeypatch.setattr(gguf_shape, "NAMED", {33: "<row_1_col_1>", 34: "<image>"})
    gguf_shape.write(tmp_path / "words.gguf", tmp_path / "made")

    text, tower = (GGUFReader(tmp_path / "made" / name) for name in (gguf_shape.TEXT, gguf_shape.TOWER))
    tokens = text.fields["tokenizer.ggml.tokens"].contents()
    kinds = text.fields["tokenizer.ggml.token_type"].contents()
    assert (len(tokens), tokens[29], tokens[34], kinds[34]) == (40, "t29", "<image>", 3)
    assert (tokens[33], tokens[35], kinds[35]) == ("<row_1_col_1>", "<|unused_35|>", 5)
    assert tower.fields["clip.projector_type"].contents() == "idefics3"
    assert tower.fields["clip.vision.projector.scale_factor"].contents() == 4

    # Eight bits are within a hundredth of the widest weight, and within each head the halves lie side by side.
    right = net.state_dict()  # type: ignore[attr-defined]
    rows = {one.name: quants.dequantize(one.data, one.tensor_type) for one in (*text.tensors, *tower.tensors)}
    for name, there in (
        ("blk.1.ffn_down.weight", "model.text_model.layers.1.mlp.down_proj.weight"),
        ("output.weight", "lm_head.weight"),
        ("v.blk.0.ffn_up.weight", "model.vision_model.encoder.layers.0.mlp.fc1.weight"),
        ("mm.model.fc.weight", "model.connector.modality_projection.proj.weight"),
    ):
        exact = right[there].numpy()
        assert np.abs(rows[name] - exact).max() < 0.01 * np.abs(exact).max()
        assert np.abs(rows[name] - exact).max() > 0
    query = right["model.text_model.layers.0.self_attn.q_proj.weight"].numpy()
    np.testing.assert_allclose(rows["blk.0.attn_q.weight"][1], query[8], atol=0.01 * np.abs(query).max())
    position = right["model.vision_model.embeddings.position_embedding.weight"].numpy()
    np.testing.assert_array_equal(rows["v.position_embd.weight"], position)
    assert len(text.tensors) == 3 + 2 * 9
    assert len(tower.tensors) == 3 + 2 + 2 * 2 * 8 + 1


def test_files_are_made_once_and_anew_by_another_version(tmp_path: Path) -> None:
    made = tmp_path / "made"
    code = "import pathlib, sys; p = pathlib.Path(sys.argv[1]); p.mkdir(); (p / 'it').write_text(sys.argv[2])"
    for version, content, expected in (("1", "a", "a"), ("1", "b", "a"), ("2", "c", "c")):
        files._make(made, version, [sys.executable, "-c", code, str(made), content])
        assert (made / "it").read_text() == expected
    with pytest.raises(files.NotInstalled, match="no wheel"):
        files._make(made, "3", [sys.executable, "-c", "raise SystemExit('no wheel')"])


def test_the_picture_that_llama_cpp_is_shown_is_a_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    import types

    monkeypatch.setitem(sys.modules, "xllamacpp", types.ModuleType("xllamacpp"))
    from benchmarks.chat.workers.llamacpp_worker import bitmap

    with Image.open(io.BytesIO(bitmap(8))) as picture:
        pixels = np.asarray(picture)
    assert (picture.format, pixels.shape) == ("BMP", (8, 8, 3))
    assert pixels.std() > 50


def test_a_runtime_that_cannot_start_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("benchmarks.chat.asking.home", lambda: tmp_path)
    with pytest.raises(Silent, match="No module named benchmarks.chat.workers.nobody_worker"):
        started(Runtime("no body", "nobody", "", (GGUF,)), "model", 1)
