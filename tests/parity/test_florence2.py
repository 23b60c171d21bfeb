"""Florence-2 against transformers: pixels, prompts, rows, what is written and where the boxes lie, weights shared."""

from __future__ import annotations

import codecs
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import CLIPImageProcessorPil, Florence2ForConditionalGeneration, Florence2Processor
from transformers import PreTrainedTokenizerFast as Fast

from anmok.errors import BadRequest, BadWeights, Unsupported, Untranslatable
from anmok.geometry import Pixels
from anmok.inputs import Conversation, Encoded, Turn
from anmok.models import florence2
from anmok.models.florence2 import Florence2, tiny_tokenizer
from anmok.nets.florence2 import TASKS, Find, Token, finds
from anmok.tasks import Chat, Detect, Setup, TextRules
from anmok.wording import Span
from battery import picture

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PIXELS = Pixels(768, "squash", "bicubic", MEAN, STD)
KINDS = ("pure_text", "ocr", "phrase_grounding", "description_with_bboxes", "description_with_polygons", "polygons")
PARSED: dict[str, dict[str, Any]] = {kind: {} for kind in (*KINDS, "bboxes", "description_with_bboxes_or_polygons")}
SIZES = [(61, 83), (40, 200), (300, 120)]


@cache
def model(seed: int = 0) -> Florence2:
    return Florence2.tiny(Setup("florence2-test", "davit-test", PIXELS, TextRules(), "softmax", ("en",)), seed)


def net(seed: int = 0) -> Any:
    return model(seed)._net


@cache
def published(size: int = florence2.TINY_SIZE) -> Florence2Processor:
    marks = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    tokenizer = Fast(tokenizer_object=tiny_tokenizer(), extra_special_tokens={"image_token": "<image>"}, **marks)
    side = {"height": size, "width": size}
    images = CLIPImageProcessorPil(size=side, do_center_crop=False, image_mean=MEAN, image_std=STD, resample=3)
    images.image_seq_length = 5  # of 64 x 64 pixels: four patches and their mean
    return Florence2Processor(image_processor=images, tokenizer=tokenizer, post_processor_config=PARSED)


def encoded(image: NDArray[np.uint8], seed: int = 0) -> Encoded:
    view = model(seed).prepare(image)
    maps = model(seed).encode(view.pixels[None])
    return Encoded("", {name: array[0] for name, array in maps.items()}, view.frame)


def written(image: NDArray[np.uint8] | None, text: str, tokens: int, seed: int = 0) -> list[int]:
    """The published way, greedily: their prompt, their generate."""
    processor = published()
    told = processor(text=[text], images=None if image is None else [image], return_tensors="pt")
    if image is None:  # their processor leaves the ends out then, and tokenizers of the repositories add them
        ids = [0, *told["input_ids"][0].tolist(), 2]
        told = {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids), dtype=torch.long)}
    with torch.inference_mode():
        ids = (
            net(seed)
            .generate(
                **told,
                max_new_tokens=tokens + 1,  # ``<s>`` is one of theirs
                do_sample=False,
                num_beams=1,
                no_repeat_ngram_size=3,
                forced_bos_token_id=0,
                forced_eos_token_id=None,
            )[0]
            .tolist()
        )
    assert ids[:2] == [2, 0]
    return list(ids[2:])


def text_of(ids: list[int], seed: int = 0) -> str:
    """Of an answer that ends there; half a character at an end that was none is left out."""
    data = b"".join(model(seed)._bytes(token) for token in ids)
    return codecs.getincrementaldecoder("utf-8")("replace").decode(data, final=ids[-1] == 2)


# Pixels and prompts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size_hw", [(61, 83), (480, 640), (1300, 700), (7, 301), (768, 768)])
def test_pixels_equal_the_published_processor(size_hw: tuple[int, int]) -> None:
    image = picture(size_hw, 1)
    wanted = published(768).image_processor(images=image, return_tensors="np")["pixel_values"][0]
    real = Florence2(Setup("t", "t", PIXELS, TextRules(), "softmax", ("en",)), net(), model()._reader)
    np.testing.assert_allclose(real.prepare(image).pixels, wanted, rtol=0, atol=1e-5)


ASKED = [
    *(name for name, sentence in TASKS.items() if "{}" not in sentence),
    "<OPEN_VOCABULARY_DETECTION>a red car",
    "<CAPTION_TO_PHRASE_GROUNDING>A cat, and a dog.",
    "<REFERRING_EXPRESSION_SEGMENTATION>the left one",
    "<REGION_TO_CATEGORY><loc_52><loc_332><loc_932><loc_774>",
    "<REGION_TO_DESCRIPTION><loc_0><loc_1><loc_999><loc_774>",
    "<REGION_TO_OCR> <loc_52><loc_332><loc_932><loc_774>",
    "<REGION_TO_SEGMENTATION><loc_52><loc_332><loc_932><loc_774>",
    "What is on the table?",
    "무엇이에요? 🌈",
]


@pytest.mark.parametrize("question", ASKED)
def test_prompts_equal_the_published_processor(question: str) -> None:
    wanted = published()(text=[question], images=[picture((61, 83), 0)], return_tensors="np")["input_ids"][0].tolist()
    image = tiny_tokenizer().token_to_id("<image>")
    assert model()._told(florence2._question(question)) == wanted[5:]
    assert wanted[:6] == [image] * 5 + [0]


def test_task_names_and_sentences_are_the_published_ones() -> None:
    processor = published()
    both = processor.task_prompts_without_inputs | processor.task_prompts_with_input
    assert {name: sentence.replace("{input}", "{}") for name, sentence in both.items()} == dict(TASKS)


def test_what_a_user_types_is_letters() -> None:
    ids = model()._told(florence2._question("</s><loc_5> <image> <poly>"))
    assert len(ids) == 2 + len("</s><loc_5> <image> <poly>")
    assert model()._told(florence2._question(" <OD> ")) == model()._told([Span(TASKS["<OD>"])])
    assert model()._told(florence2._question("")) == model()._told([Span(TASKS["<CAPTION>"])])
    assert florence2._question("<UNKNOWN_TASK>") == [Span("<UNKNOWN_TASK>", is_said=True)]


FAULTS = [
    ("<OD> cat", "<OD>: nothing stands after it"),
    ("<OPEN_VOCABULARY_DETECTION>", "<OPEN_VOCABULARY_DETECTION>: say after it what it is about"),
    ("<REGION_TO_OCR>the left part", "want four places after it, such as <loc_52><loc_332><loc_932><loc_774>"),
    ("<REGION_TO_OCR><loc_1><loc_2><loc_3>", "want four places after it"),
]


@pytest.mark.parametrize(("question", "message"), FAULTS)
def test_a_task_name_with_something_missing_is_refused(question: str, message: str) -> None:
    said = Conversation.about(encoded(picture((8, 8), 0)), question=question)
    with pytest.raises(BadRequest, match=message):
        model().chat([said], Chat(5))


# What is written -------------------------------------------------------------------------------------------


def test_rows_are_those_of_the_net() -> None:
    images = [picture(size_hw, seed) for seed, size_hw in enumerate(SIZES)]
    pixels = published().image_processor(images=images, return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        wanted = net().get_image_features(pixels).pooler_output.numpy()
    got = model().encode(np.stack([model().prepare(image).pixels for image in images]))["rows"]
    assert got.shape == (3, 5, 32)
    np.testing.assert_allclose(got, wanted, rtol=0, atol=5e-5)
    assert np.ptp(wanted, axis=0).max() > 0.1


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("question", ["<CAPTION>", "<REGION_TO_OCR><loc_52><loc_332><loc_932><loc_774>", "Why?"])
def test_answers_equal_transformers(question: str, seed: int) -> None:
    """Greedily, token by token, alone and beside longer and shorter ones."""
    tokens, images = 30, [picture(size_hw, number) for number, size_hw in enumerate(SIZES)]
    wanted = [written(image, question, tokens, seed) for image in images]
    assert len({tuple(one) for one in wanted}) > 1
    states = [encoded(image, seed) for image in images]
    talks = [Conversation.about(state, question=question) for state in states]
    mixed = [Conversation.about(question="x" * 40), *talks, Conversation.about(states[0], question="?")]
    together = model(seed).chat(mixed, Chat(tokens))[1:4]
    for said, ids, reply in zip(talks, wanted, together, strict=True):
        [alone] = model(seed).chat([said], Chat(tokens))
        text = text_of(ids, seed)
        is_ended = ids[-1] == 2
        assert (alone.text, alone.tokens_out) == (reply.text, reply.tokens_out) == (text, len(ids))
        assert alone.finish == reply.finish == ("stop" if is_ended else "length")
        assert (alone.image_tokens, alone.tokens_in) == (5, 5 + len(model(seed)._told(florence2._question(question))))
        pieces = list(model(seed).talk(said, Chat(tokens)))
        assert "".join(piece.text for piece in pieces) == text


def test_an_answer_without_a_picture_equals_transformers() -> None:
    ids = written(None, "Hello?", 20)
    [reply] = model().chat([Conversation.about(question="Hello?")], Chat(20))
    assert reply.text == text_of(ids)
    assert reply.image_tokens == 0


def test_the_last_question_alone_is_asked() -> None:
    state = encoded(picture((61, 83), 1))
    first = Conversation.about(state, question="What is it?", system="Be short.")
    [alone] = model().chat([Conversation.about(state, question="<OD>")], Chat(9))
    [later] = model().chat([first.then("A cat.", "<OD>")], Chat(9))
    assert (later.text, later.tokens_in) == (alone.text, alone.tokens_in)
    [caption] = model().chat([Conversation((Turn("user", (state,)),))], Chat(9))
    [asked] = model().chat([Conversation.about(state, question="<CAPTION>")], Chat(9))
    assert caption.text == asked.text


def test_bounds_of_an_answer() -> None:
    state = encoded(picture((61, 83), 1))
    [longest] = model().chat([Conversation.about(state, question="<OD>")], Chat(5000))
    assert longest.tokens_out <= 126  # 128 places, of which two begin
    drawn = {
        model().chat([Conversation.about(state, question="?")], Chat(9, 1.0, seed=seed))[0].text for seed in range(4)
    }
    assert len(drawn) == 4
    with pytest.raises(
        BadRequest, match="the conversation has 130 tokens, 5 of them for pictures, and the model reads"
    ):
        model().chat([Conversation.about(state, question="x" * 123)], Chat(5))
    with pytest.raises(Unsupported, match="cannot be held to a schema"):
        model().chat([Conversation.about(state, question="?")], Chat(5, schema="{}"))


def test_tokens_become_the_bytes_that_they_stand_for() -> None:
    tokenizer = tiny_tokenizer()
    for text in ("naïve 고양이 🌈\n\ttab", "".join(map(chr, range(32, 127)))):
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        assert b"".join(model()._bytes(token) for token in ids) == text.encode()
    marks = ["<s>", "</s>", "<pad>", "<image>", "<loc_7>", "<poly>"]
    assert [model()._bytes(tokenizer.token_to_id(mark)) for mark in marks] == [b""] * 4 + [b"<loc_7>", b"<poly>"]
    assert model()._bytes(10**6) == b""


# Boxes -----------------------------------------------------------------------------------------------------


def tokens(text: str, share: float = 0.5) -> list[Token]:
    """As the model hands them over: letters, places and marks."""
    ids = published().tokenizer(text, add_special_tokens=False)["input_ids"]
    return [model()._token(token, share) for token in ids]


ANSWERS = [
    "car<loc_52><loc_332><loc_932><loc_774>door handle<loc_425><loc_504><loc_474><loc_516>",
    "wheel<loc_710><loc_276><loc_908><loc_537><loc_1><loc_2><loc_3><loc_4>",
    "b c<loc_0><loc_0><loc_999><loc_999><loc_5>",
    "",
    "nothing to see",
    "<loc_1><loc_2><loc_3><loc_4>",
]


@pytest.mark.parametrize("answer", ANSWERS)
def test_boxes_of_an_answer_are_the_published_ones(answer: str) -> None:
    size_hw = (600, 800)
    told = published().post_process_generation(f"</s><s>{answer}</s>", task="<OD>", image_size=size_hw[::-1])["<OD>"]
    named = [one for one in finds(tokens(answer)) if one.name]
    assert [one.name for one in named] == told["labels"]
    boxes = [[int(side) for side in one.xyxy(size_hw)] for one in named]  # theirs are cut to whole pixels
    assert boxes == [list(box) for box in told["bboxes"]]


def test_too_few_places_are_no_box() -> None:
    """The published code would take them into the next name."""
    [found] = finds(tokens("a<loc_1><loc_2><loc_3>b c<loc_10><loc_20><loc_30><loc_40>"))
    assert (found.name, found.bins) == ("b c", (10, 20, 30, 40))


POLYGONS = [
    "cat<poly><loc_10><loc_20><loc_30><loc_5><loc_20><loc_40></poly>dog<poly><loc_1><loc_2><loc_3><loc_4></poly>",
    "cat<poly><loc_10><loc_20><loc_30><loc_5><sep><loc_500><loc_600><loc_700><loc_650></poly>",
]


@pytest.mark.parametrize("answer", POLYGONS)
def test_a_polygon_is_the_box_around_it(answer: str) -> None:
    task, size = "<OPEN_VOCABULARY_DETECTION>", (1000, 1000)
    told = published().post_process_generation(f"</s><s>{answer}</s>", task=task, image_size=size)[task]
    wanted = []
    for parts in told["polygons"]:
        points = np.asarray([value for part in parts for value in part]).reshape(-1, 2)
        wanted.append([*points.min(0).tolist(), *points.max(0).tolist()])
    found = finds(tokens(answer))
    assert [one.name for one in found] == told["polygons_labels"]
    assert [[int(side) for side in one.xyxy(size)] for one in found] == wanted


def test_scores_are_the_mean_share_of_the_places() -> None:
    shares = [0.9, 0.1, 0.8, 0.4, 0.2]
    said = [Token(b"cat", share=shares[0]), *(Token(bin=9, share=share) for share in shares[1:])]
    [found] = finds(said)
    assert found.score == pytest.approx((0.1 * 0.8 * 0.4 * 0.2) ** 0.25)
    swapped = Find("cat", (700, 20, 30, 900), 1.0)
    np.testing.assert_allclose(swapped.xyxy((500, 1000)), (30.5, 10.25, 700.5, 450.25))


def test_detect_finds_what_transformers_finds() -> None:
    """Without labels by ``<OD>``: their prompt, their generate, their boxes."""
    compared = 0
    for seed in range(3):
        for number, size_hw in enumerate(SIZES):
            image = picture(size_hw, number)
            text = published().tokenizer.decode(written(image, "<OD>", 126, seed), skip_special_tokens=False)
            told = published().post_process_generation(text, task="<OD>", image_size=size_hw[::-1])["<OD>"]
            [got] = model(seed).detect([encoded(image, seed)], Detect(nms=1.0))
            boxes = zip(got.names, got.xyxy.astype(int).tolist(), strict=True)
            mine = {(name.encode("ascii", "ignore").decode(), *box) for name, box in boxes}
            for name, (left, top, right, bottom) in zip(told["labels"], told["bboxes"], strict=True):
                # Theirs leaves out letters beyond ASCII, and takes places without a box into the next name.
                plain = name.rpartition(">")[2]
                if plain and left != right and top != bottom:
                    ordered = (min(left, right), min(top, bottom), max(left, right), max(top, bottom))
                    assert (plain, *ordered) in mine
                    compared += 1
            assert len(mine) <= len(told["bboxes"])
            assert (np.diff(got.scores) <= 0).all()
    assert compared > 2


def test_each_label_is_asked_for_by_itself() -> None:
    states = [encoded(picture(size_hw, number)) for number, size_hw in enumerate(SIZES)]
    labels = ("red car", "cat", "dog")  # nine answers, of which eight are written together
    both = model().detect(states, Detect(labels, nms=1.0))
    for state, together in zip(states, both, strict=True):
        assert together.labels == together.read_as == labels
        for place, label in enumerate(labels):
            [alone] = model().detect([state], Detect((label,), nms=1.0))
            mine = together[together.class_ids == place]
            np.testing.assert_allclose(mine.xyxy, alone.xyxy, rtol=0, atol=1e-4)
            np.testing.assert_allclose(mine.scores, alone.scores, rtol=1e-4, atol=0)
    assert sum(map(len, both)) > 6


def test_phrases_threshold_thinning_and_the_best_few() -> None:
    state = encoded(picture((61, 83), 1))
    [every] = model().detect([state], Detect(("cat", "dog"), nms=1.0))
    [korean] = model().detect([state], Detect(("고양이", "개"), nms=1.0))
    np.testing.assert_array_equal(korean.xyxy, every.xyxy)
    assert korean.read_as == ("cat", "dog")
    [group] = model().detect([state], Detect(("animal",), phrases=(("cat", "dog"),), nms=1.0))
    np.testing.assert_array_equal(group.xyxy, every.xyxy)
    middle = float(np.median(every.scores))
    [better] = model().detect([state], Detect(("cat", "dog"), threshold=middle, nms=1.0))
    assert 0 < len(better) == (every.scores >= middle).sum() < len(every)
    [best] = model().detect([state], Detect(("cat", "dog"), nms=1.0, top_k=2))
    np.testing.assert_array_equal(best.xyxy, every.xyxy[:2])
    [apart] = model().detect([state], Detect(("cat", "dog"), nms=0.0))
    assert len(apart) < len(every)
    with pytest.raises(Untranslatable, match="꽹과리"):
        model().detect([state], Detect(("꽹과리",)))
    with pytest.raises(BadRequest, match=r"a label makes a prompt of \d+ tokens, where florence2-test reads 128"):
        model().detect([state], Detect(("é" * 60,)))  # of two bytes, and so of two tokens, each
    with pytest.raises(BadRequest, match="the text has over 141 tokens and the model reads 128; shorten it"):
        model().detect([state], Detect(("x" * 120,)))
    assert model().detect([], Detect(("cat",))) == []


# Files -----------------------------------------------------------------------------------------------------


def saved(folder: Path) -> Setup:
    net().save_pretrained(folder)
    tiny_tokenizer().save(str(folder / "tokenizer.json"))
    files = {path.name: path for path in folder.iterdir()}
    small = Pixels(florence2.TINY_SIZE, "squash", "bicubic", MEAN, STD)
    return Setup("florence2-test", "davit-test", small, TextRules(), "softmax", ("en",), files=files)


def test_files_give_the_same_model(tmp_path: Path) -> None:
    again, image = Florence2.from_files(saved(tmp_path)), picture((61, 83), 1)
    said = Conversation.about(encoded(image), question="<CAPTION>")
    assert again.chat([said], Chat(20))[0].text == model().chat([said], Chat(20))[0].text
    np.testing.assert_array_equal(
        again.encode(again.prepare(image).pixels[None])["rows"][0], encoded(image).maps["rows"]
    )
    assert isinstance(again._net, Florence2ForConditionalGeneration)
    assert again.nbytes == sum(parameter.numel() * 4 for parameter in net().parameters())


def test_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    setup = saved(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    tokenizer = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    other = {**config, "text_config": {**config["text_config"], "decoder_start_token_id": 0}}
    (tmp_path / "config.json").write_text(json.dumps(other), encoding="utf-8")
    with pytest.raises(BadWeights, match="number their tokens differently"):
        Florence2.from_files(setup)
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": "blip"}), encoding="utf-8")
    with pytest.raises(BadWeights, match="config.json is of a 'blip'"):
        Florence2.from_files(setup)
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    tokenizer["added_tokens"] = [one for one in tokenizer["added_tokens"] if one["content"] != "<loc_999>"]
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    with pytest.raises(BadWeights, match="tokenizer.json has no <loc_999>: not Florence-2's"):
        Florence2.from_files(setup)
