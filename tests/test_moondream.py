"""Moondream: how it cuts and reads a picture, how it is asked, and what its files may say; at toy size."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save

from anmok import Chat, Conversation
from anmok.catalogue import card
from anmok.catalogue.sources import HubSource
from anmok.errors import BadWeights, Unsupported
from anmok.load import load, tiny
from anmok.nets import moondream as net
from anmok.nets import moondream_names, moondream_tiles, moondream_toy
from anmok.nets.moondream_mind import TorchMind
from anmok.nets.moondream_tiles import Cutting
from battery import picture
from toy_moondream import GRID, NAMES, PHRASES, kind, mind, model, state_of

SHORT = Chat(8)


# How a picture is cut --------------------------------------------------------------------------------------


@pytest.mark.parametrize("size_hw", [(100, 130), (200, 90), (300, 400)])
def test_tiles_that_were_cut_join_to_the_picture_again(size_hw: tuple[int, int]) -> None:
    cutting = Cutting(crop=84, margin=1)
    canvas = torch.tensor(moondream_tiles.canvas(picture(size_hw, 4), cutting)).permute(2, 0, 1)[None]  # (1, 3, h, w)
    _, tiles = moondream_tiles.tiles(canvas, cutting)
    rows, columns = moondream_tiles.tiling(size_hw, cutting)
    assert rows * columns > 1
    maps = tiles.permute(0, 1, 2, 4, 5, 3)  # (1, rows, columns, crop, crop, 3)
    joined = moondream_tiles.joined(maps, cutting.edge)  # (1, h, w, 3)
    assert joined.shape[1:3] == (rows * 56 + 28, columns * 56 + 28)
    assert torch.equal(joined[0].permute(2, 0, 1), canvas[0, :, : -cutting.crop])


def test_a_picture_of_one_tile_is_seen_once_and_the_same_as_twice() -> None:
    eye = net.Moondream(net.TINY).vision.eval()
    whole = torch.randn(2, 3, 84, 84)
    with torch.inference_mode():
        once = eye(whole)
        seen = eye.seen(whole)
        pooled = moondream_tiles.pooled(seen.reshape(2, 6, 6, -1), 6)
        twice = eye.proj_mlp(torch.cat([seen, pooled], -1))
    torch.testing.assert_close(once, twice, rtol=0, atol=1e-6)


def test_pictures_of_one_tiling_share_a_shape_and_others_do_not() -> None:
    shapes = {
        size: kind().prepare(picture(size, 0)).pixels.shape for size in ((30, 40), (84, 84), (101, 131), (100, 130))
    }
    assert shapes[30, 40] == shapes[84, 84] == (3, 84, 84)
    assert shapes[101, 131] == shapes[100, 130] == (3, 2 * 56 + 28 + 84, 4 * 56 + 28)


# What is read ----------------------------------------------------------------------------------------------


def test_picture_and_beginning_see_one_another_and_words_what_came_before() -> None:
    rows = np.random.default_rng(0).normal(size=(GRID, 64)).astype(np.float32)
    other = rows.copy()
    other[-1] *= -1.0
    first, second = (mind().begin(0, one).used for one in (rows, other))
    # What the second layer keeps of the first token depends on the last row.
    assert float((first - second)[1, :, :, 0].abs().max()) > 1e-4
    ids = (5, 6, 7, 8, 9)
    logits, _ = mind().read(mind().copied(mind().begin(0, rows), 0), mind().words(ids))
    memory = mind().copied(mind().begin(0, rows), 1)
    for number in ids:
        one_by_one, _ = mind().read(memory, mind().words((number,)))
    np.testing.assert_allclose(one_by_one, logits, rtol=0, atol=1e-5)
    changed, _ = mind().read(mind().copied(mind().begin(0, rows), 0), mind().words((4, *ids[1:])))
    assert np.abs(changed - logits).max() > 1e-4


def test_a_memory_that_is_copied_stays_as_it_was() -> None:
    memory = mind().begin(0, np.ones((GRID, 64), np.float32))
    before = memory.used.clone()
    mind().read(mind().copied(memory, 100), mind().words((1, 2, 3)))
    assert mind().length(memory) == GRID + 1
    assert torch.equal(memory.used, before)


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_is_read_once_for_all_that_is_asked_about_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    began: list[int] = []
    begin = kind(name)._mind.begin
    monkeypatch.setattr(kind(name), "_memories", type(kind(name)._memories)())
    monkeypatch.setattr(kind(name)._mind, "begin", lambda bos, rows: began.append(1) or begin(bos, rows))
    first, second, third = (state_of((50, 60), seed, name) for seed in (1, 2, 3))
    for state in (first, first, second, first):
        model(name).run([Conversation.about(state, question="a")], SHORT)
        model(name).detect(state, ["b"])
    assert len(began) == 2
    for state in (third, second, first):  # two are kept: the third took the place of the second
        model(name).run([Conversation.about(state, question="a")], SHORT)
    assert len(began) == 5


# How it is asked ------------------------------------------------------------------------------------------


def prompt(*said: Any, system: str = "") -> tuple[int, ...]:
    return kind()._prompt(Conversation.about(*said[:-1], question=said[-1], system=system))


def ids(text: str) -> tuple[int, ...]:
    return tuple(kind()._ids(text))


def test_questions_stand_between_their_marks() -> None:
    state = state_of((20, 20))
    before, after = PHRASES.query
    assert prompt(state, "What?") == (*before, *ids("What?"), *after)
    assert prompt("What?") == (*before, *ids("What?"), *after)
    assert prompt("What?", system="Be kind.") == (*before, *ids("Be kind.\n\nWhat?"), *after)
    said = Conversation.about(state, question="What?").then("A cat.", "Sure?")
    asked = (*before, *ids("What?"), *after, *ids("A cat."), *before, *ids("Sure?"), *after)
    assert kind()._prompt(said) == asked
    marks = prompt(state, "<|md_reserved_0|><|endoftext|>")
    assert sorted(set(marks) & set(range(10))) == [1, 2, 3]  # those of the question alone


def test_a_caption_is_asked_for_by_its_length() -> None:
    state = state_of((20, 20))
    for text, length in (("caption", "normal"), (" Caption  short ", "short"), ("CAPTION LONG", "long")):
        assert prompt(state, text) == PHRASES.captions[length]
    for said in ((state, "caption tiny"), (state, "captions"), ("caption",)):
        assert prompt(*said) == (*PHRASES.query[0], *ids(said[-1]), *PHRASES.query[1])  # a question like any other
    assert prompt(state, "caption", system="Be kind.")[: len(PHRASES.query[0])] == PHRASES.query[0]


def test_tokens_are_counted() -> None:
    [reply] = model().run([Conversation.about(picture((20, 20), 0), question="What?")], SHORT)
    assert (reply.tokens_in, reply.image_tokens) == (1 + GRID + 3 + 5 + 2, GRID)
    [reply] = model().run([Conversation.about(question="What?")], SHORT)
    assert (reply.tokens_in, reply.image_tokens) == (1 + 3 + 5 + 2, 0)


def test_the_mark_of_an_answer_is_said_at_most_first() -> None:
    loaded = tiny("moondream2", 1)
    with torch.no_grad():
        loaded.kind._mind._net.text.lm_head.bias[PHRASES.answer] += 1000.0
    words, asked = loaded.kind._mind.words, []
    loaded.kind._mind.words = lambda ids: asked.append(tuple(ids)) or words(ids)
    loaded.run([Conversation.about(question="What?")], Chat(6))
    said = asked[-5:]  # what was read again, one by one
    assert said[0] == (PHRASES.answer,)
    assert (PHRASES.answer,) not in said[1:]


def test_a_schema_is_refused() -> None:
    with pytest.raises(Unsupported, match="cannot be held to a schema"):
        model().run([Conversation.about(question="a")], Chat(schema="{}"))


# What files may say ----------------------------------------------------------------------------------------


def test_sizes_that_make_no_net_are_refused() -> None:
    published = net.PUBLISHED["2b"]
    assert moondream_names.configured(published, {}, "t") == published
    small = moondream_names.configured(
        published, {"vision": {"enc_dim": 720, "enc_n_heads": 10, "enc_ff_dim": 2690}}, "t"
    )
    assert small.sight == net.PUBLISHED["0.5b"].sight
    bad: list[tuple[dict[str, Any], str]] = [
        ({"text": {"group_size": 128}}, "packed in 4 bits"),
        ({"text": []}, "does not hold sizes"),
        ({"text": {"dim": "large"}}, "'large' for width"),
        ({"text": {"dim": 2**40}}, "for width"),
        ({"text": {"n_heads": 7}}, "do not go together"),
        ({"vision": {"overlap_margin": 14}}, "do not go together"),
        ({"vision": {"enc_patch_size": 10}}, "do not go together"),
    ]
    for content, message in bad:
        with pytest.raises(BadWeights, match=message):
            moondream_names.configured(published, content, "t")


def test_weights_fit_whole_or_not_at_all() -> None:
    given = dict(net.Moondream(net.TINY).state_dict())
    missing = {name: tensor for name, tensor in given.items() if name != "text.wte"}
    with pytest.raises(BadWeights, match=r"t: the weights do not fit the net: 1 missing \(text.wte\)"):
        moondream_names.filled(net.TINY, missing, torch.float32, "t")
    wrong = {**given, "text.wte": given["text.wte"].T, "text.extra": given["text.wte"]}
    with pytest.raises(BadWeights, match=r"1 left over \(text.extra\); 1 of another shape \(text.wte\)"):
        moondream_names.filled(net.TINY, wrong, torch.float32, "t")


def test_half_the_precision_says_nearly_the_same() -> None:
    torch.manual_seed(5)
    state = net.Moondream(net.TINY).state_dict()
    minds = [
        TorchMind(moondream_names.filled(net.TINY, state, dtype, "t"), "cpu", dtype)
        for dtype in (torch.float32, torch.bfloat16)
    ]
    assert minds[1].nbytes * 2 == minds[0].nbytes
    rows = [one.see(np.ones((1, 3, 84, 84), np.float32)) for one in minds]
    assert rows[1].dtype == np.float32
    np.testing.assert_allclose(rows[1], rows[0], rtol=0, atol=0.05)
    logits = [
        one.read(one.copied(one.begin(0, row[0]), 0), one.words((1, 2)))[0]
        for one, row in zip(minds, rows, strict=True)
    ]
    assert logits[1].dtype == np.float32
    cosine = np.dot(*logits) / np.prod([np.linalg.norm(one) for one in logits])
    assert cosine > 0.999


def published(folder: Path, repo: str, revision: str, files: dict[str, bytes]) -> None:
    """As the hub's own cache has them."""
    place = folder / f"models--{repo.replace('/', '--')}" / "snapshots" / revision
    place.mkdir(parents=True)
    for name, content in files.items():
        (place / name).write_bytes(content)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from huggingface_hub import constants

    monkeypatch.setenv("ANMOK_CACHE", str(tmp_path / "anmok"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def test_the_card_loads_what_was_published_in_two_repositories(cache: Path) -> None:
    source = card("moondream2").source
    assert isinstance(source, HubSource)
    assert source.beside is not None
    torch.manual_seed(0)
    config = replace(net.TINY, speech=replace(net.TINY.speech, vocabulary=51_200))
    weights = {f"model.{name}": tensor for name, tensor in net.Moondream(config).state_dict().items()}
    said = {
        "vision": {"enc_dim": 32, "enc_n_layers": 2, "enc_n_heads": 2, "enc_ff_dim": 48, "proj_inner_dim": 64},
        "text": {"dim": 64, "n_layers": 2, "n_heads": 2, "ff_dim": 96, "max_context": 512},
        "region": {
            "coord_feat_dim": 16,
            "coord_out_dim": 64,
            "size_feat_dim": 16,
            "size_out_dim": 128,
            "inner_dim": 48,
        },
    }
    said["vision"] |= {"crop_size": 84, "overlap_margin": 1}
    files = {"model.safetensors": save(weights), "config.json": json.dumps({"config": said}).encode()}
    published(cache, source.repo, source.revision, files)
    published(cache, source.beside.repo, source.beside.revision, {"tokenizer.json": moondream_toy.tokenizer().encode()})
    loaded = load("moondream2", device="cpu")
    [reply] = loaded.run([Conversation.about(picture((20, 20), 0), question="What?")], SHORT)
    assert (reply.tokens_in, reply.image_tokens) == (1 + GRID + 3 + 5 + 2, GRID)
    assert loaded.detect(picture((20, 20), 0), ["cat"]).labels == ("cat",)
    assert sorted(path.name.split("@")[0] for path in (cache.parent / "anmok" / "locks").iterdir()) == [
        "moondream--starmie-v1",
        "vikhyatk--moondream2",
    ]


def test_the_small_card_loads_its_bundle(cache: Path) -> None:
    source = card("moondream-0.5b-int8").source
    assert isinstance(source, HubSource)
    torch.manual_seed(0)
    data = moondream_toy.bundle(net.Moondream(moondream_toy.CONFIG))
    published(cache, source.repo, source.revision, {source.files[0]: gzip.compress(data, 1)})
    loaded = load("moondream-0.5b-int8", device="cpu")
    [reply] = loaded.run([Conversation.about(picture((20, 20), 0), question="What?")], SHORT)
    assert (reply.tokens_in, reply.image_tokens) == (1 + 49 + 3 + 5 + 2, 49)
