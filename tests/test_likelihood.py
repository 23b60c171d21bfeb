"""How likely labels are as answers: against the plain sum over whole prompts, against transformers, and by hand."""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from transformers import DynamicCache

import anmok
from anmok import Classify, Conversation, Model, choosing
from anmok.catalogue import card
from anmok.errors import BadRequest, Unsupported
from anmok.load import tiny
from anmok.nets import likelihood
from anmok.nets.families import FAMILIES
from anmok.nets.likelihood import log_likelihoods
from anmok.nets.speaking import Batch, Script, Speaker
from anmok.wording import Reader, Template
from anmok.wording.answering import answer_ids
from toy_talkers import FIRST, LOOK, READ, SECOND, inputs, model, script

LABELS = ("cat", "개", "cat food", "c", "고양이")  # some begin alike; Hangul is three tokens of bytes a letter
TOLERANCE = 1e-4
RED = np.full((30, 40, 3), (255, 0, 0), np.uint8)
BLUE = np.full((9, 70, 3), (0, 0, 255), np.uint8)

Array = NDArray[np.float64]


@cache
def chooser(kind: str) -> Model:
    """The toy of a family, that chats and classifies."""
    talker: Any = model(kind)
    one = dataclasses.replace(card("fake-talk"), tasks=("chat", "classify"))
    return Model(one, talker.kind, talker._setup)


def weighed(kind: str, said: Conversation, labels: tuple[str, ...] = LABELS) -> Array:
    """Ours of the whole conversation (K,)."""
    talker: Any = chooser(kind)
    ids = answer_ids(talker.kind._parts.reader, talker.kind._parts.template, labels)
    run = talker.kind._speaker.begin([script(talker, said)])
    return log_likelihoods(run, ids, sorted(talker.kind._parts.ends))


def log_softmax(row: NDArray[Any]) -> Array:
    shifted = row.astype(np.float64) - row.max()
    return np.asarray(shifted - np.log(np.exp(shifted).sum()))


@pytest.mark.parametrize("kind", LOOK)
def test_an_answer_is_as_likely_as_its_tokens_one_after_the_other(kind: str) -> None:
    """Each token by a whole reading of all before it: no tree, no batch, no memory."""
    talker: Any = chooser(kind)
    said = Conversation.about(FIRST, question="Q? 뭐?")
    prompt = script(talker, said)
    reader, ends = talker.kind._parts.reader, sorted(talker.kind._parts.ends)
    found = weighed(kind, said, LABELS[:3])
    for label, ours in zip(LABELS[:3], found, strict=True):
        total = 0.0
        [tokens] = answer_ids(reader, talker.kind._parts.template, (label,))
        assert b"".join(reader.bytes_of(one) for one in tokens) == b"\n" + label.encode()  # as the toys' turns begin
        for i in range(len(tokens) + 1):
            whole = Script((*prompt.ids, *tokens[:i]), prompt.seen, prompt.image_ids)
            chances = log_softmax(talker.kind._speaker.begin([whole]).logits[0])
            total += chances[tokens[i]] if i < len(tokens) else np.logaddexp.reduce(chances[ends])
        assert ours == pytest.approx(total, rel=TOLERANCE, abs=TOLERANCE)


@pytest.mark.parametrize("kind", ["llava", "llava_next", "internvl", "gemma3"])
def test_as_transformers_has_it(kind: str) -> None:
    """One forward pass of the published class over prompt, answer and end."""
    talker: Any = chooser(kind)
    said = Conversation.about(FIRST, question="Q?")
    prompt, [end] = script(talker, said), sorted(talker.kind._parts.ends)
    made = [torch.from_numpy(talker.kind.prepare(FIRST).pixels)]
    told = inputs(talker.kind, made, [FIRST.shape[:2]], is_clip=False)
    ours = weighed(kind, said)
    for label, value in zip(LABELS, ours, strict=True):
        [tokens] = answer_ids(talker.kind._parts.reader, talker.kind._parts.template, (label,))
        ids = torch.tensor([[*prompt.ids, *tokens, end]])  # (1, S)
        if kind == "gemma3":
            marks = torch.isin(ids, torch.tensor(sorted(talker.kind._marks), dtype=torch.long)).long()
            told["token_type_ids"] = marks
        with torch.inference_mode():
            rows = talker.kind._net(ids, **told, attention_mask=torch.ones_like(ids)).logits[0].double()  # (S, V)
        chances = rows.log_softmax(-1)
        at = range(len(prompt.ids), ids.shape[1])
        theirs = sum(float(chances[i - 1, ids[0, i]]) for i in at)
        assert value == pytest.approx(theirs, rel=TOLERANCE, abs=TOLERANCE)


@pytest.mark.parametrize("kind", ["llava", "qwen2_5_vl", "smolvlm", "gemma3"])
def test_the_score_is_what_the_picture_adds(kind: str) -> None:
    """From likelihoods with and without the picture, by hand; with examples before the question as well."""
    talker = chooser(kind)
    for said in (
        choosing.asked(FIRST, LABELS, ("en",)),
        choosing.asked(FIRST, LABELS, ("en",), [(SECOND, "개")]),
    ):
        [scores] = talker.run([said], Classify(LABELS))
        gain = weighed(kind, said) - weighed(kind, choosing.blind(said))
        wanted = np.exp(gain - gain.max()) / np.exp(gain - gain.max()).sum()
        np.testing.assert_allclose(scores.scores, wanted, atol=1e-5)
        assert scores.labels == LABELS
    [alone] = talker.run([FIRST], Classify(LABELS))
    [as_told] = talker.run([choosing.asked(FIRST, LABELS, ("en",))], Classify(LABELS))
    np.testing.assert_array_equal(alone.scores, as_told.scores)
    assert np.abs(alone.scores - scores.scores).max() > 1e-3  # the example is read


def test_an_example_is_looked_at_alike_with_the_picture_and_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """LLaVA-OneVision looks at one picture in tiles, and at several in one tile each; beside the picture that is asked
    about the example is one of two, and so it stays where that one is left out."""
    talker: Any = chooser("llava_onevision")
    read: list[Script] = []
    plain = talker.kind._likelihood.weighed

    def told(blind: Script, said: Script, answers: Any) -> Any:
        read.extend((blind, said))
        return plain(blind, said, answers)

    monkeypatch.setattr(talker.kind._likelihood, "weighed", told)
    [scores] = talker.run([choosing.asked(FIRST, LABELS, ("en",), [(SECOND, "개")])], Classify(LABELS))
    blind, said = read
    assert [len(one.seen) for one in read] == [1, 2]
    assert torch.equal(blind.seen[0].rows, said.seen[0].rows)
    assert float(scores.scores.sum()) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("kind", ["llava_onevision", "qwen2_vl", "idefics3", "gemma4", "phi4_multimodal"])
def test_alone_in_a_batch_and_again_it_says_the_same(kind: str) -> None:
    talker = chooser(kind)
    shown = choosing.asked(SECOND, LABELS, ("en",), [(FIRST, "cat")])
    items: list[Any] = [FIRST, shown, SECOND]
    together = talker.run(items, Classify(LABELS))
    for item, one in zip(items, together, strict=True):
        [alone] = talker.run([item], Classify(LABELS))
        np.testing.assert_array_equal(alone.scores, one.scores)
    back = Classify(LABELS[::-1], descriptions=tuple((label,) for label in LABELS[::-1]))
    [turned] = talker.run([shown], back)  # the order of what is weighed changes nothing
    np.testing.assert_allclose(turned.scores[::-1], together[1].scores, atol=1e-5)


@pytest.mark.parametrize("name", ["moondream2", "moondream-0.5b-int8"])
def test_moondream_weighs_token_by_token_too(name: str) -> None:
    """Against whole readings without a shared memory; an answer may begin with a blank."""
    talker: Any = tiny(name)
    kind = talker.kind
    labels = LABELS[:3]
    [state] = talker.encode([FIRST])
    said = choosing.asked(state, labels, ("en",))

    def whole(conversation: Conversation, shown: Any, ids: list[int]) -> float:
        total = 0.0
        for i in range(len(ids) + 1):
            prompt = (*kind._prompt(conversation), *ids[:i])
            memory = kind._mind.copied(kind._memory(shown), len(prompt))
            chances = log_softmax(kind._mind.read(memory, kind._mind.words(prompt))[0])
            total += chances[ids[i] if i < len(ids) else kind._phrases.eos]
        return total

    gain = []
    for label in labels:
        spelt = [kind._ids(label), kind._ids(" " + label)]
        seen, unseen = (
            np.logaddexp.reduce([whole(one, shown, ids) for ids in spelt])
            for one, shown in ((said, state), (choosing.blind(said), None))
        )
        gain.append(seen - unseen)
    wanted = np.exp(np.subtract(gain, max(gain)))
    [scores] = talker.run([FIRST], Classify(labels))
    np.testing.assert_allclose(scores.scores, wanted / wanted.sum(), atol=TOLERANCE)
    assert np.ptp(scores.scores) > 1e-3
    two = talker.run([SECOND, FIRST], Classify(labels))
    np.testing.assert_array_equal(two[1].scores, scores.scores)
    with pytest.raises(BadRequest, match="2 pictures for"):
        talker.run([choosing.asked(SECOND, labels, ("en",), [(FIRST, "cat")])], Classify(labels))


def test_little_memory_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    said = Conversation.about(FIRST, question="Q?")
    whole = weighed("qwen2_5_vl", said)
    monkeypatch.setattr(likelihood, "_MOST", 1)  # one answer at a time
    np.testing.assert_allclose(weighed("qwen2_5_vl", said), whole, atol=1e-5)


class Pairs:
    """A net that looks at the last token alone: 0 is the prompt, 1 and 2 are letters, 3 and 4 end an answer."""

    bound = 0
    table = np.log([[0.1, 0.5, 0.2, 0.1, 0.1], [0.1, 0.1, 0.7, 0.06, 0.04], [0.05, 0.05, 0.1, 0.5, 0.3]])

    def cache(self, config: Any, count: int) -> DynamicCache:
        return DynamicCache()

    def embedded(self, ids: Tensor) -> Tensor:
        return functional.one_hot(ids, 5).float()  # (..., T, 5)

    def read(self, batch: Batch, rows: Tensor, cache: Any) -> Tensor:
        table = torch.from_numpy(np.vstack([self.table, self.table[:2]])).float()
        return rows[:, -1] @ table  # (B, 5)


def test_an_answer_that_begins_another_may_be_the_less_likely() -> None:
    """Two ends; their chances add up. By the sum without an end, 1 could never be less likely than 1, 2."""
    run = Speaker(Pairs(), None, "cpu").begin([Script((0,))])
    found = np.exp(log_likelihoods(run, [(1,), (1, 2), (2,), (1, 2, 2), ()], [3, 4]))
    wanted = [0.5 * 0.1, 0.5 * 0.7 * 0.8, 0.2 * 0.8, 0.5 * 0.7 * 0.1 * 0.8, 0.2]
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    assert found[1] > found[0]


def test_templates_and_descriptions_are_what_is_answered() -> None:
    fake = anmok.load("fake-choose")
    colours = {"red": (255, 0, 0), "blue": (0, 0, 255)}
    away = {name: -np.abs(np.subtract((255, 0, 0), colour)).mean() / 32 for name, colour in colours.items()}
    wanted = np.exp([away["red"], away["blue"], -8.0])
    scores = fake.classify(RED, ("red", "blue", "nothing of the kind"))
    np.testing.assert_allclose(scores.scores, wanted / wanted.sum(), rtol=1e-4)  # half a nat a letter cancels
    [told] = fake.run([RED], Classify(("a", "b"), descriptions=(("red", "blue"), ("blue",))))
    pair = np.exp([(away["red"] + away["blue"]) / 2, away["blue"]])
    np.testing.assert_allclose(told.scores, pair / pair.sum(), rtol=1e-4)
    [framed] = fake.run([RED], Classify(("red", "blue"), templates=("something {}", "{}")))
    both = np.exp([away["red"], away["blue"]])
    np.testing.assert_allclose(framed.scores, both / both.sum(), rtol=1e-4)


def test_examples_teach_what_names_do_not_say() -> None:
    fake = anmok.load("fake-choose")
    said = choosing.asked(RED, ("갑", "을"), ("en", "ko"), [(BLUE, "갑"), (RED, "을")])
    [scores] = fake.run([said], Classify(("갑", "을")))
    wanted = np.exp([-170 / 32, 0.0])  # mean of 255, 0 and 255
    np.testing.assert_allclose(scores.scores, wanted / wanted.sum(), rtol=1e-4)
    assert scores.label == "을"
    assert fake.classify(RED, ("갑", "을")).scores.tolist() == [0.5, 0.5]


def test_the_question() -> None:
    assert choosing.question(("cat", "dog"), ("en",)) == (
        "What does the picture show? Answer with one of these, and nothing else: cat, dog."
    )
    assert choosing.question(("고양이", "dog"), ("en", "ko")).startswith("사진에 보이는 것은")
    assert choosing.question(("고양이", "dog"), ("en",)).startswith("What")
    many = tuple(f"class {i}" for i in range(choosing.LISTED + 1))
    assert choosing.question(many, ("en",)) == "What does the picture show? Answer with its name, and nothing else."
    said = choosing.asked(RED, ("cat", "dog"), ("en",), [(BLUE, "dog")])
    assert [turn.role for turn in said.turns] == ["user", "assistant", "user"]
    assert said.turns[1].text == "dog"
    assert [len(turn.shown) for turn in choosing.blind(said).turns] == [1, 0, 0]


def test_what_the_template_writes_before_an_answer_belongs_to_it() -> None:
    reader = model("llava").kind._parts.reader
    vicuna = Template(FAMILIES["llava"].template, "parts", {"image": "<image>"}, {}, "vicuna")
    turns = "{% for m in messages %}{{ m['role'] }}>{{ m['content'] }};{% endfor %}assistant>"
    plain = Template(turns, "text", {}, {}, "plain")
    for template, wanted in ((vicuna, [b" cat", " 개".encode()]), (plain, [b"cat", "개".encode()])):
        found = answer_ids(reader, template, ("cat", "개"))
        assert [b"".join(reader.bytes_of(one) for one in ids) for ids in found] == wanted


def test_a_label_that_reads_like_a_mark_is_taken_by_its_letters() -> None:
    parts = model("llava").kind._parts
    [ids] = answer_ids(parts.reader, parts.template, ("<image>",))
    assert b"".join(parts.reader.bytes_of(one) for one in ids) == b"\n<image>"
    assert not any(parts.reader.is_mark(one) for one in ids)


def test_letters_that_would_join_the_prompt_are_read_apart() -> None:
    """A tokenizer that makes one token of the prompt's last letter and the answer's first."""
    from tokenizers import Tokenizer, models

    words = {letter: i for i, letter in enumerate("us er>at:cd;?xyn")} | {":c": 40}
    made = Tokenizer(models.BPE(words, [(":", "c")]))
    reader = Reader(made.to_str(), "joins")
    template = Template("{% for m in messages %}{{ m['content'] }};{% endfor %}a:", "text", {}, {}, "joins")
    [first, second] = answer_ids(reader, template, ("cat", "d"))
    assert first == (words["c"], words["a"], words["t"])
    assert second == (words["d"],)


def test_what_cannot_be_weighed_is_refused() -> None:
    fake = anmok.load("fake-choose")
    with pytest.raises(BadRequest, match="the last turn of the conversation wants a picture"):
        fake.run([Conversation.about(question="What?")], Classify(("a", "b")))
    with pytest.raises(BadRequest, match="the last turn of the conversation wants a picture"):
        fake.run([Conversation.about(RED, question="")], Classify(("a", "b")))
    with pytest.raises(BadRequest, match="classify takes no conversations; chat does"):
        anmok.load("fake").run([Conversation.about(RED, question="What?")], Classify(("a", "b")))
    with pytest.raises(BadRequest, match="5 pictures for fake-choose, which takes 4"):
        fake.run([choosing.asked(RED, ("a",), ("en",), [(BLUE, "a")] * 4)], Classify(("a",)))
    with pytest.raises(BadRequest, match="the model reads 4,096"):
        fake.run([RED], Classify(("a", "b" * 20_000)))
    with pytest.raises(Unsupported, match="does not classify"):
        anmok.load("fake-talk").run([RED], Classify(("a", "b")))
    with pytest.raises(BadRequest, match="the model reads"):
        chooser("llava").run([FIRST], Classify(("a", "b" * 5000)))
    assert not any(hasattr(model(kind).kind, "classify") for kind in READ)
