"""Families that talk, at toy size: batches, what is remembered of conversations, how answers are drawn and end."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from anmok import Chat, Conversation, Model, Reply
from anmok.errors import BadRequest
from anmok.inputs import Frames, Text, Turn
from anmok.models.talking import Talks
from anmok.nets import speaking
from anmok.nets.families import FAMILIES
from battery import picture
from toy_talkers import (
    FIRST,
    LOOK,
    SECOND,
    SHORT,
    WATCH,
    about,
    between,
    checkpoint,
    loaded,
    model,
    model_of,
    script,
    setup,
    stretched,
    written,
)

SLIDING = ("gemma2", "gemma3_text", "exaone4", "gemma3", "gemma4", "exaone4_5")  # a part of their layers
OTHER = picture((37, 61), 8)  # of FIRST's size


def facts(reply: Reply) -> tuple[Any, ...]:
    return reply.text, reply.finish, reply.tokens_in, reply.tokens_out, reply.image_tokens


def forget(talker: Model) -> None:
    talker.kind._speaker._memory.clear()  # type: ignore[attr-defined]


def fresh(talker: Model, said: Conversation, ask: Chat = SHORT) -> tuple[Any, ...]:
    """Read from its first token on."""
    forget(talker)
    [reply] = talker.run([said], ask)
    forget(talker)
    return facts(reply)


@contextlib.contextmanager
def counted(talker: Model) -> Iterator[list[int]]:
    """How many rows are read at each call."""
    reading: Any = talker.kind._speaker._reading  # type: ignore[attr-defined]
    read = reading.read
    counts: list[int] = []

    def counting(batch: Any, rows: Any, cache: Any) -> Any:
        counts.append(rows.shape[1])
        return read(batch, rows, cache)

    reading.read = counting
    try:
        yield counts
    finally:
        del reading.read


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_batch_of_many_lengths_equals_each_alone(kind: str) -> None:
    talker = model(kind)
    said = [about(question="Hi"), about(question="안녕하세요? " * 6), about(question="x").then("So.", "And?")]
    if kind in LOOK:
        said += [about(FIRST), about(SECOND, question="?"), between(SECOND, FIRST)]
    if kind in WATCH:
        said.append(about(Frames((FIRST, SECOND), (0.0, 1.5))))
    alone = [fresh(talker, one) for one in said]
    for order in (range(len(said)), reversed(range(len(said)))):
        picked = list(order)
        assert [facts(one) for one in talker.run([said[i] for i in picked], SHORT)] == [alone[i] for i in picked]


@pytest.mark.parametrize("kind", FAMILIES)
def test_what_is_recalled_reads_as_what_is_fresh(kind: str) -> None:
    """Cut within words, before a picture and after one; and where a conversation goes on."""
    talker = model(kind)
    first = about(*([FIRST] if kind in LOOK else []), question="What is it?")
    others = [about(*([FIRST] if kind in LOOK else []), question="What else?"), first.then("A cat.", "Sure?")]
    if kind in LOOK:
        others += [about(OTHER, question="What is it?"), between(FIRST, SECOND), first.then("A cat.", "And?", SECOND)]
    wanted = [fresh(talker, one) for one in others]
    for said, answer in zip(others, wanted, strict=True):
        forget(talker)
        talker.run([first], SHORT)
        assert bool(talker.kind._speaker._memory) == (kind not in SLIDING)  # type: ignore[attr-defined]
        assert facts(talker.run([said], SHORT)[0]) == answer
        assert facts(talker.run([said], SHORT)[0]) == answer  # and all of it


@pytest.mark.parametrize("kind", ["llama", "llava", "qwen3_vl", "phi4_multimodal"])
def test_no_more_is_read_than_has_to_be(kind: str) -> None:
    talker = model(kind)
    shown = [FIRST] if kind in LOOK else []
    first = about(*shown, question="What is it? Tell me.")
    length = talker.run([first], SHORT)[0].tokens_in
    forget(talker)
    with counted(talker) as read:
        talker.run([first], SHORT)
        assert read == [length] + [1] * (SHORT.max_tokens - 1)
        del read[:]
        talker.run([first], SHORT)
        assert read[0] == 1  # for its logits
        del read[:]
        other = about(*shown, question="What is it? Show me.")
        talker.run([other], SHORT)
        assert read[0] == len("Show me.$\n^assistant")  # its last line, each mark one token
        if shown:
            del read[:]
            total = talker.run([about(OTHER, question="What is it? Show me.")], SHORT)[0].tokens_in
            assert total - 13 < read[0] <= total  # another picture: only what stands before it is known


def test_pictures_of_one_colour_and_other_shapes_are_told_apart() -> None:
    """Their rows are the same; where Qwen puts them is not."""
    talker = model("qwen2_vl")
    wide, high = np.full((16, 64, 3), 255, np.uint8), np.full((64, 16, 3), 255, np.uint8)
    said = about(high, question="What is it?")
    wanted = fresh(talker, said)
    talker.run([about(wide, question="What is it?")], SHORT)
    assert facts(talker.run([said], SHORT)[0]) == wanted
    first, second = (script(talker, about(one)) for one in (wide, high))
    assert torch.allclose(first.rows, second.rows, atol=1e-4)
    assert first.ids == second.ids
    rows = first.rows
    assert speaking.Seen(rows, (16, 64)).mark == speaking.Seen(rows.clone(), (16, 64)).mark
    assert speaking.Seen(rows, (16, 64)).mark != speaking.Seen(rows, (64, 16)).mark


def test_little_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    talker = model("phi3")
    forget(talker)
    for number in range(8):
        talker.run([about(question=f"{number}" * 40)], SHORT)
    kind: Any = talker.kind
    assert len(kind._speaker._memory) == 4
    for keys, cache in kind._speaker._memory:
        tensors = [one for layer in cache.layers for one in (layer.keys, layer.values)]
        assert sum(one.untyped_storage().nbytes() for one in tensors) == speaking._nbytes(cache)  # no view of more
        assert speaking._nbytes(cache) == len(keys) * 2 * 2 * 2 * 8 * 4  # layers, keys and values, heads, width, bytes
    monkeypatch.setattr(speaking, "_MOST_KEPT", 2 * speaking._nbytes(cache) + 1)
    talker.run([about(question="y" * 40)], SHORT)
    assert len(kind._speaker._memory) == 2
    monkeypatch.setattr(speaking, "_MOST_KEPT", 1)
    talker.run([about(question="z" * 40)], SHORT)
    assert len(kind._speaker._memory) == 1


def test_who_comes_back_to_another_conversation_is_remembered() -> None:
    """All begin alike, as templates do; that one goes on from there does not spoil the others."""
    talker = model("llava")
    said = [about(one, question="What is it?") for one in (FIRST, SECOND, OTHER)]
    forget(talker)
    wanted = [fresh(talker, one.then("So.", "And?")) for one in said]
    for one in said:
        talker.run([one], SHORT)
    with counted(talker) as read:
        for one, answer in zip(said, wanted, strict=True):
            del read[:]
            assert facts(talker.run([one.then("So.", "And?")], SHORT)[0]) == answer
            assert read[0] == len("\nSo.$\n^user\nAnd?$\n^assistant")


@pytest.mark.parametrize("kind", ["gemma3", "gemma4", "exaone4_5"])
def test_windows_that_are_not_full_yet_are_gone_back_to(kind: str, tmp_path: Path) -> None:
    files = checkpoint(kind, tmp_path)
    config = json.loads(files["config.json"].read_text())
    config["text_config"]["sliding_window"] = 400
    files["config.json"].write_text(json.dumps(config))
    talker = loaded(files, kind)
    first = about(FIRST, question="What is it?")
    others = [
        about(FIRST, question="What else?"),
        about(OTHER, question="What is it?"),
        first.then("So.", "And?", SECOND),
    ]
    wanted = [fresh(talker, one) for one in others]
    for said, answer in zip(others, wanted, strict=True):
        forget(talker)
        talker.run([first], SHORT)
        assert len(talker.kind._speaker._memory) == 1  # type: ignore[attr-defined]
        assert facts(talker.run([said], SHORT)[0]) == answer
    forget(talker)
    talker.run([about(FIRST, question="x" * 400)], SHORT)
    assert talker.kind._speaker._memory == []  # type: ignore[attr-defined]


def test_a_stream_that_is_left_is_remembered() -> None:
    talker = model("llava")
    said = about(FIRST, question="What is it?")
    ask = Chat(40)
    wanted = fresh(talker, said, ask)
    pieces = talker.stream(said, ask)
    next(pieces)
    assert talker.kind._speaker._memory == []  # type: ignore[attr-defined]
    pieces.close()  # type: ignore[attr-defined]
    assert len(talker.kind._speaker._memory) == 1  # type: ignore[attr-defined]
    with counted(talker) as read:
        assert facts(talker.run([said], ask)[0]) == wanted
    assert read[0] == 1


def test_two_streams_and_a_batch_beside_each_other_do_not_meddle() -> None:
    talker = model("qwen2_5_vl")
    first, second = about(FIRST, question="What is it?"), about(FIRST, question="What is that?")
    wanted = [fresh(talker, one) for one in (first, second)]
    streams = [talker.stream(one, SHORT) for one in (first, second, first)]
    last: list[Any] = [None] * 3
    for _ in range(SHORT.max_tokens + 2):
        for i, stream in enumerate(streams):
            last[i] = next(stream, last[i])
        assert [facts(one) for one in talker.run([second, first], SHORT)] == wanted[::-1]
    assert [facts(one.reply) for one in last] == [*wanted, wanted[0]]


# Long conversations of Phi's kin -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["phi3", "phi4_multimodal"])
def test_long_and_short_conversations_share_a_batch_and_no_memory(kind: str, tmp_path: Path) -> None:
    """One that is long already, one that becomes so within its answer, one that stays short."""
    bound = 90
    talker = loaded(stretched(kind, tmp_path, bound), kind)
    shown = [FIRST] if kind in LOOK else []
    start = about(*shown, question="a")
    length = talker.run([start], Chat(1))[0].tokens_in
    said = [about(*shown, question="a" * (n - length + 1)) for n in (bound + 30, bound - 4, bound - 25)]
    ask = Chat(12)
    alone = [fresh(talker, one, ask) for one in said]
    assert [one[2] for one in alone] == [bound + 30, bound - 4, bound - 25]
    for order in ([0, 1, 2], [2, 1, 0], [1, 2]):
        assert [facts(one) for one in talker.run([said[i] for i in order], ask)] == [alone[i] for i in order]
    for before in range(3):
        for after in range(3):
            forget(talker)
            talker.run([said[before]], ask)
            assert facts(talker.run([said[after]], ask)[0]) == alone[after]


# How an answer is drawn, and ends ----------------------------------------------------------------------------


def test_answers_are_drawn_as_they_are_asked_for() -> None:
    talker, said = model("smolvlm"), about(FIRST)
    [greedy] = talker.run([said], SHORT)
    drawn = [talker.run([said], Chat(6, 1.5, 0.95, seed=seed))[0].text for seed in range(6)]
    assert len(set(drawn)) > 3
    assert drawn == [talker.run([said], Chat(6, 1.5, 0.95, seed=seed))[0].text for seed in range(6)]
    assert {talker.run([said], Chat(6, 1.5, 1e-6, seed=seed))[0].text for seed in range(3)} == {greedy.text}
    assert talker.run([said], Chat(6, 0.01, seed=3))[0].text == greedy.text


def test_an_answer_ends_where_it_was_asked_to() -> None:
    talker, said = model("llava"), about(FIRST)
    [long] = talker.run([said], Chat(30))
    assert (long.finish, long.tokens_out) == ("length", 30)
    [short] = talker.run([said], Chat(4))
    assert (short.finish, short.tokens_out) == ("length", 4)
    assert long.text.startswith(short.text)
    stop = long.text[6:8]
    [stopped] = talker.run([said], Chat(30, stop=(stop,)))
    assert (stopped.finish, stopped.text) == ("stop", long.text[: long.text.index(stop)])


def test_a_token_that_ends_answers_ends_them() -> None:
    """Whichever it is: here one that this toy says early."""
    talker, said = model("llama"), about()
    told = written(talker, said, 8).tokens
    kind: Any = talker.kind
    other = Talks(setup("llama"), type(kind._parts)(**{**_fields(kind._parts), "ends": frozenset({told[3]})}))
    [reply] = model_of(other, "llama").run([said], Chat(8))
    assert (reply.finish, reply.tokens_out) == ("stop", told.index(told[3]) + 1)
    together = model_of(other, "llama").run([said, about(question="Hi")], Chat(8))
    assert facts(together[0]) == facts(reply)


def _fields(parts: Any) -> dict[str, Any]:
    return {name: getattr(parts, name) for name in type(parts).__slots__}


@pytest.mark.parametrize("kind", ["llama", "llava"])
def test_what_is_too_long_is_refused_in_one_line(kind: str) -> None:
    talker = model(kind)
    shown = [FIRST] if kind in LOOK else []
    with pytest.raises(
        BadRequest, match=r"the conversation has 4,1\d\d tokens.* and the model reads 4,096; shorten"
    ) as told:
        talker.run([about(*shown, question="x" * 4090)], SHORT)
    assert "\n" not in str(told.value)
    room = 4096 - talker.run([about(*shown, question="x")], Chat(1))[0].tokens_in + 1
    [reply] = talker.run([about(*shown, question="x" * (room - 3))], SHORT)
    assert (reply.finish, reply.tokens_out) == ("length", 3)


def test_what_is_far_too_long_is_refused_at_once() -> None:
    """What has more letters than the context has room for, at the longest token's, is not made into ids at all."""
    talker = model("llama")
    kind: Any = talker.kind
    assert kind._parts.reader.longest == 1
    began = time.perf_counter()
    with pytest.raises(BadRequest, match="has over 50,000,000 tokens and the model reads 4,096; shorten it"):
        talker.run([about(question="x" * 50_000_000)], SHORT)
    assert time.perf_counter() - began < 20  # its ids would take minutes


@pytest.mark.parametrize("kind", FAMILIES)
def test_two_toys_of_one_seed_agree_and_others_differ(kind: str) -> None:
    said = about(*([FIRST] if kind in LOOK else []))
    again, other = (model_of(Talks.tiny(setup(kind), seed), kind) for seed in (0, 1))
    forget(model(kind))
    first = written(model(kind), said)
    assert np.allclose(first.logits, written(again, said).logits, atol=1e-6)
    assert np.abs(first.logits[0] - written(other, said).logits[0]).max() > 0.01


def test_what_was_typed_is_no_picture() -> None:
    talker = model("llava")
    said = Conversation((Turn("user", (Text("<image>"), FIRST, Text("<image><|im_end|>"))),))
    [reply] = talker.run([said], SHORT)
    assert reply.image_tokens == 16
    assert reply.tokens_in == talker.run([about(FIRST, question="x")], SHORT)[0].tokens_in + 2 * 7 + 10 - 1
