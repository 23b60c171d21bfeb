"""The battery of all cards that chat, at toy size; and models, engine and processes around them."""

from __future__ import annotations

import contextlib
import itertools
import threading
import unicodedata
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from anmok import Chat, Classify, Conversation, Embed, Failure, Model, Piece, Reply, Text, Track, Turn, cards
from anmok.catalogue import Card
from anmok.engine import Closing, Engine, Limits
from anmok.errors import BadMedia, BadRequest, ModelFailed, Unsupported, WrongState
from anmok.inputs import Clip, Encoded, Item
from anmok.isolation import Apart
from anmok.load import load, tiny
from anmok.tasks import Chats, Encoder, Watches
from battery import architecture, odd_pictures, picture
from serving import RED_BOX, png

ALL = sorted((one for one in cards("chat", is_hidden=True)), key=architecture)
FIRST = [next(group) for _, group in itertools.groupby(ALL, architecture)]
TALKERS = [pytest.param(one, id=one.name) for one in FIRST]
SHORT = Chat(12)
RED, BLUE = np.full((30, 40, 3), (255, 0, 0), np.uint8), np.full((9, 70, 3), (0, 0, 255), np.uint8)
PLENTY = 2**30


@cache
def model(name: str) -> Model:
    return tiny(name)


def most(one: Card) -> int:
    kind = model(one.name).kind
    assert isinstance(kind, Chats)
    return kind.most_pictures


def conversations(one: Card) -> list[Conversation]:
    """Five that differ in length, turns and pictures, as far as the model takes them."""
    first: list[NDArray[np.uint8]] = [picture((61, 83), 1)] if most(one) else []
    second = [picture((40, 30), 2)] if most(one) > 1 else []
    return [
        Conversation.about(*first, question="What is it?"),
        Conversation.about(question="안녕하세요? 🌈"),
        Conversation.about(*first, *second, question="Which one is larger, and why?", system="Be short."),
        Conversation.about(*first, question="What is it?").then("A cat.", "Sure?", *second),
        Conversation.about(question="x" * 50),
    ]


def facts(reply: Reply) -> tuple[Any, ...]:
    """All of it but the time it took."""
    return reply.text, reply.finish, reply.tokens_in, reply.tokens_out, reply.image_tokens


@pytest.mark.parametrize("one", TALKERS)
@pytest.mark.parametrize("ask", [SHORT, Chat(12, temperature=1.0, top_p=0.9, seed=5)], ids=["greedy", "drawn"])
def test_a_batch_equals_its_parts_in_any_order(one: Card, ask: Chat) -> None:
    five = conversations(one)
    alone = [model(one.name).run([said], ask)[0] for said in five]
    assert len({reply.tokens_in for reply in alone}) > 2
    for order in ([0, 1, 2, 3, 4], [3, 1, 4, 0, 2]):
        together = model(one.name).run([five[i] for i in order], ask)
        assert [facts(reply) for reply in together] == [facts(alone[i]) for i in order]


@pytest.mark.parametrize("one", TALKERS)
def test_a_stream_says_what_the_whole_answer_says(one: Card) -> None:
    for said in conversations(one):
        [reply] = model(one.name).run([said], SHORT)
        pieces = list(model(one.name).stream(said, SHORT))
        assert "".join(piece.text for piece in pieces) == reply.text
        assert [piece.reply is None for piece in pieces] == [True] * (len(pieces) - 1) + [False]
        last = pieces[-1].reply
        assert last is not None
        assert facts(last) == facts(reply)
        assert 0 < reply.tokens_out <= SHORT.max_tokens
        assert (reply.image_tokens > 0) == bool(said.pictures)


@pytest.mark.parametrize("one", TALKERS)
def test_odd_pictures_and_texts_are_answered(one: Card) -> None:
    if most(one):
        asked: list[Item] = [Conversation.about(data, question="?") for data in odd_pictures().values()]
        assert len(model(one.name).run(asked, SHORT)) == len(odd_pictures())
    odd = ["שלום עולם", "مرحبا", "👩‍👩‍👧", "\x00\x07", "<image> <|im_end|> </s> [INST]", "\ud7ff\ue000", "a\u0301" * 20]
    for text in odd:
        [reply] = model(one.name).run([Conversation.about(question=text)], SHORT)
        assert reply.image_tokens == 0  # a word that looks like a mark of the template is a word
    apart, whole = (unicodedata.normalize(form, "이게 뭐예요?") for form in ("NFD", "NFC"))
    first, second = model(one.name).run([Conversation.about(question=text) for text in (apart, whole)], SHORT)
    assert facts(first) == facts(second)


@pytest.mark.parametrize("one", TALKERS)
def test_pictures_that_are_encoded_already_answer_alike_and_only_their_maker(one: Card) -> None:
    if not most(one):
        return
    assert isinstance(model(one.name).kind, Encoder)
    image = picture((61, 83), 3)
    [state] = model(one.name).encode([image])
    asked = [Conversation.about(shown, question="What is it?") for shown in (image, state)]
    first, second = model(one.name).run(asked, SHORT)
    assert facts(first) == facts(second)
    with pytest.raises(WrongState, match="this state was made by somebody"):
        model(one.name).run([Conversation.about(Encoded("somebody", state.maps), question="?")], SHORT)


@pytest.mark.parametrize("one", TALKERS)
def test_clips_answer_alike_alone_in_a_batch_and_watched_before(one: Card) -> None:
    kind = model(one.name).kind
    most = kind.most_clips if isinstance(kind, Watches) else 0
    gone = [Clip("no such file.mp4")] * (most + 1)
    with pytest.raises(BadRequest, match=f"{most + 1} clips? for {one.name}, which takes {most or 'none'}"):
        model(one.name).run([Conversation.about(*gone, question="?")], SHORT)  # before one is opened
    if not most:
        return
    moving = [picture((61, 83), seed) for seed in range(4)]
    films = [Clip(moving), Clip(moving[:1]), Clip([picture((1, 1), 9)] * 3), Clip(moving, fps=2.0, start=0.5)]
    asked = [Conversation.about(film, question="What happens?") for film in films]
    asked.append(Conversation.about(*films[:most], question="And?", system="Be short.").then("A cat.", "Sure?"))
    alone = [model(one.name).run([said], SHORT)[0] for said in asked]
    assert [[len(clip) for clip in reply.frames] for reply in alone[:4]] == [[4], [1], [3], [3]]
    assert all(reply.image_tokens > 0 for reply in alone)
    for order in ([0, 1, 2, 3, 4], [3, 1, 4, 0, 2]):
        together = model(one.name).run([asked[i] for i in order], SHORT)
        assert [(facts(reply), reply.frames) for reply in together] == [
            (facts(alone[i]), alone[i].frames) for i in order
        ]
    watched = model(one.name).watch(films[0])
    [again] = model(one.name).run([Conversation.about(watched, question="What happens?")], SHORT)
    assert (facts(again), again.frames) == (facts(alone[0]), alone[0].frames)
    *_, last = model(one.name).stream(asked[4], SHORT)
    assert last.reply is not None
    assert (facts(last.reply), last.reply.frames) == (facts(alone[4]), alone[4].frames)


@pytest.mark.parametrize("one", TALKERS)
def test_what_cannot_be_answered_is_refused(one: Card) -> None:
    talker, count = model(one.name), most(one) + 1
    takes = f"takes {most(one)} in a conversation" if most(one) else r"takes none: it only reads( and hears)?"
    with pytest.raises(BadRequest, match=f"{count} pictures? for {one.name}, which {takes}"):
        talker.run([Conversation.about(*["no such file.png"] * count, question="?")], SHORT)  # before one is opened
    with pytest.raises(
        BadRequest, match=r"the conversation has (over )?[\d,]+ tokens and the model reads [\d,]+; shorten it"
    ):
        talker.run([Conversation.about(question="word " * 1_000_000)], SHORT)
    if most(one):
        with pytest.raises(BadMedia, match="no such file"):
            talker.run([Conversation.about("no such file.png", question="?")], SHORT)
    for item in (Text("hello"), RED, RED_BOX, Clip([RED])):
        with pytest.raises((BadRequest, Unsupported)):
            talker.run([item], SHORT)
    with pytest.raises(BadRequest, match="chat takes conversations: anmok.Conversation.about"):
        list(talker.stream(Clip([RED]), SHORT))
    with pytest.raises(BadRequest, match="chat takes conversations: anmok.Conversation.about"):
        talker.run([Conversation.about(question="a"), Text("b")], SHORT)


@pytest.mark.parametrize("one", TALKERS)
def test_a_stop_text_ends_the_answer(one: Card) -> None:
    said = conversations(one)[0]
    [whole] = model(one.name).run([said], Chat(40))
    stop = whole.text[3:5]
    [reply] = model(one.name).run([said], Chat(40, stop=(stop,)))
    assert reply.text == whole.text[: whole.text.index(stop)]
    assert reply.finish == "stop"
    assert reply.tokens_out <= whole.tokens_out


def test_the_battery_has_every_architecture() -> None:
    assert {"/".join(architecture(one)) for one in FIRST} >= {
        "fake/fake_talk:FakeTalk/looks",
        "fake/fake_talk:FakeTalk/reads",
        "fake/fake_talk:FakeTalk/watches",
    }
    assert all(one.verified.tiny for one in ALL)


# The fake, and what stands around every model -------------------------------------------------------------


def test_the_fake_says_what_it_says() -> None:
    fake = load("fake-talk", device="cpu")
    said = Conversation.about(RED, BLUE, question="뭐예요? 🌈", system="Be kind.").then("x", "Sure?", RED_BOX)
    [reply] = fake.run([said], Chat())
    assert reply.text == "Be kind. I see red, blue, black. Question 2: Sure?"
    # Texts of 8, 15, 1 and 5 bytes in threes; four turns of 2; three pictures of 16.
    assert (reply.tokens_in, reply.image_tokens) == (3 + 5 + 1 + 2 + 8 + 48, 48)
    assert (reply.tokens_out, reply.finish) == (18, "stop")  # 50 bytes, and the end
    assert fake.chat(RED, "Hm?").text == "I see red. Question 1: Hm?"
    assert fake.chat("Hm?", max_tokens=2).text == "Questi"
    with pytest.raises(BadRequest, match="chat: the last value is the question"):
        fake.chat(RED)  # type: ignore[arg-type]
    drawn = {fake.run([Conversation.about(RED, question="?")], Chat(3, 2.0, seed=seed))[0].text for seed in range(20)}
    assert len(drawn) > 1
    with pytest.raises(Unsupported, match="fake-talk cannot be held to a schema"):
        fake.run([said], Chat(schema="{}"))


def test_a_conversation_is_for_chat_alone() -> None:
    said = Conversation.about(RED, question="?")
    with pytest.raises(BadRequest, match="classify takes no conversations; chat does"):
        load("fake").run([RED, said], Classify(("a", "b")))
    with pytest.raises(BadRequest, match="embed takes no conversations"):
        load("fake").run([said], Embed())
    with pytest.raises(Unsupported, match=r"fake does not chat; it can embed, classify"):
        load("fake").run([said], Chat())
    with pytest.raises(BadRequest, match="stream: want a clip"):
        load("fake-places").stream(said, Track(("red",)))


def test_map_goes_on_after_what_cannot_be_read() -> None:
    items: list[Item] = [Conversation.about(source, question="?") for source in (RED, "gone.png", BLUE)]
    found = list(load("fake-talk").map(items, Chat()))
    assert [type(one) for one in found] == [Reply, Failure, Reply]
    assert isinstance(found[1], Failure)
    assert (found[1].source, type(found[1].error)) == ("conversation", BadMedia)


def test_the_net_is_free_between_two_pieces() -> None:
    fake = load("fake-talk")
    pieces = fake.stream(Conversation.about(question="a long story"), Chat())
    assert next(pieces).text == "Que"
    done = threading.Event()
    thread = threading.Thread(target=lambda: (fake.chat("Hello"), done.set()))
    thread.start()
    assert done.wait(5)
    thread.join()
    assert next(pieces).text == "sti"
    pieces.close()  # type: ignore[attr-defined]


def test_the_engine_answers_as_the_model_does_whole_and_in_pieces() -> None:
    said = [Conversation.about(png(image), question="?") for image in (RED, BLUE)]
    with Engine(PLENTY, limits=Limits(cache_bytes=2**20)) as engine:
        here = load("fake-talk").run(said, Chat())
        there = engine.run("fake-talk", said, Chat())
        assert [facts(one) for one in there if isinstance(one, Reply)] == [facts(one) for one in here]
        assert (engine.status().cache_hits, engine.status().cache_misses) == (0, 2)
        pieces = list(engine.stream("fake-talk", said[0], Chat()))
        assert "".join(piece.text for piece in pieces) == here[0].text
        assert (engine.status().cache_hits, engine.status().cache_misses) == (1, 2)
        [again] = engine.run("fake-talk", [said[0].then("a", "And?", png(RED))], Chat())
        assert isinstance(again, Reply)
        assert again.text == "I see red, red. Question 2: And?"
        assert engine.status().cache_hits == 3
        [bad, good] = engine.run("fake-talk", [Conversation.about(b"no picture", question="?"), said[0]], Chat())
        assert isinstance(bad, Failure)
        assert (bad.source, type(bad.error)) == ("conversation", BadMedia)
        assert isinstance(good, Reply)


def test_a_stream_that_is_left_lets_go_of_the_model() -> None:
    with Engine(PLENTY) as engine:
        with contextlib.closing(engine.stream("fake-talk", Conversation.about(question="a"), Chat())) as pieces:
            assert next(pieces).text == "Que"
            assert engine.status().items == 1
        assert engine.status().items == 0
        status = engine.status().models[0]
        assert (status.running_items, status.cancelled) == (0, 1)
        left = engine.stream("fake-talk", Conversation.about(question="a"), Chat())
        next(left)
        engine.close(drain=False, seconds=1)
        with pytest.raises(Closing, match="the engine shut down before the stream's end"):
            next(left)


def test_what_goes_wrong_in_a_stream_is_told() -> None:
    with Engine(PLENTY) as engine:
        with pytest.raises(BadMedia):
            next(engine.stream("fake-talk", Conversation.about(b"no picture", question="a"), Chat()))
        with pytest.raises(BadRequest, match="for fake-talk-text, which takes none"):
            next(engine.stream("fake-talk-text", Conversation.about(png(RED), question="a"), Chat()))
        with pytest.raises(BadRequest, match="stream: want a clip or a conversation"):
            engine.stream("fake-talk", Text("a"), Chat())  # type: ignore[arg-type]
        assert engine.status().items == 0

    def broken(name: str) -> Model:
        model = load(name)
        model.kind.talk = _breaking
        return model

    with Engine(PLENTY, loader=broken) as engine:
        pieces = engine.stream("fake-talk", Conversation.about(question="a"), Chat())
        assert next(pieces).text == "a"
        with pytest.raises(ModelFailed, match="the model failed in a stream"):
            next(pieces)
        assert engine.status().items == 0


def _breaking(state: Conversation, ask: Chat) -> Iterator[Piece]:
    yield Piece("a")
    raise RuntimeError("out of luck")


def test_open_files_wait_as_bytes(tmp_path: Path) -> None:
    (tmp_path / "red.png").write_bytes(png(RED))
    with Engine(PLENTY) as engine, (tmp_path / "red.png").open("rb") as file:
        future = engine.submit("fake-talk", [Conversation.about(file, BLUE, question="?")], Chat())
        [reply] = future.result(20)
    assert isinstance(reply, Reply)
    assert reply.text == "I see red, blue. Question 1: ?"


def test_a_conversation_counts_by_its_words_and_pictures() -> None:
    with Engine(PLENTY, limits=Limits(queue_bytes=5000)) as engine, pytest.raises(BadRequest, match="bytes"):
        engine.submit("fake-talk", [Conversation.about(question="word " * 2000)], Chat())


def test_in_another_process_it_says_the_same(tmp_path: Path) -> None:
    (tmp_path / "red.png").write_bytes(png(RED))
    here = load("fake-talk", device="cpu")
    with Apart(device="cpu") as apart, apart("fake-talk") as there:
        said = Conversation.about(tmp_path / "red.png", BLUE, png(RED), question="뭐예요?", system="s").then("", "b")
        ask = Chat(30, stop=("zz",), seed=3)
        assert [facts(one) for one in there.run([said], ask)] == [facts(one) for one in here.run([said], ask)]
        ours, theirs = (list(one.stream(said, ask)) for one in (here, there))
        assert [piece.text for piece in ours] == [piece.text for piece in theirs]
        assert theirs[-1].reply is not None
        [state] = here.encode([BLUE])
        [reply] = there.run([Conversation.about(state, question="?")], ask)
        assert reply.text == "I see blue. Question 1: ?"
        with pytest.raises(BadRequest, match="5 pictures for fake-talk, which takes 4"):
            there.run([Conversation.about(*[RED] * 5, question="?")], ask)
        with contextlib.closing(there.stream(said, ask)) as pieces:  # type: ignore[type-var]
            assert next(pieces).text == "s I"


def test_turns_of_the_same_side_read_as_one() -> None:
    fake = load("fake-talk")
    apart = Conversation((Turn("user", (Text("a"), RED)), Turn("user", (Text("b"),))))
    whole = Conversation((Turn("user", (Text("a"), RED, Text("b"))),))
    first, second = fake.run([apart, whole], Chat())
    assert facts(first) == facts(second)
