"""Answers held to a schema: whatever is drawn under the mask is JSON that follows it."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Sequence
from typing import Any

import jsonschema_rs
import numpy as np
import pytest

from anmok import utterance
from anmok.errors import BadRequest, TooMuch, Unsupported
from anmok.results import Reply
from anmok.tasks import Chat
from anmok.utterance import Length, Utterance
from anmok.wording import Guide, Held, Reader, Span
from toy_tokenizers import BACKENDS, MARKS

READER = Reader(BACKENDS["bytes"].to_str(), "toy")
ENDS = [READER.id_of(mark) or 0 for mark in ("</s>", "<|im_end|>")]
SIZE = READER.size + 13  # the net's table has rows that no token has
GUIDE = Guide(READER, ENDS, SIZE)

KIND = {"enum": ["금", "긁힘", "🙂 fine"]}
SCHEMAS: dict[str, dict[str, Any]] = {
    "object": {
        "type": "object",
        "properties": {
            "kind": KIND,
            "where": {"type": "string", "maxLength": 12},
            "score": {"type": "number", "minimum": 0, "maximum": 1},
            "count": {"type": "integer", "minimum": -3, "maximum": 40},
            "is_broken": {"type": "boolean"},
        },
        "required": ["kind", "where", "score", "count", "is_broken"],
        "additionalProperties": False,
    },
    "nested": {
        "type": "array",
        "minItems": 1,
        "maxItems": 3,
        "items": {
            "type": "array",
            "minItems": 2,
            "maxItems": 2,
            "items": {"type": "integer", "minimum": 0, "maximum": 999},
        },
    },
    "strings": {
        "type": "array",
        "minItems": 2,
        "maxItems": 4,
        "items": {"type": "string", "minLength": 1, "maxLength": 9},
    },
    "choice": {"anyOf": [{"type": "null"}, {"const": {"금": [1, 2]}}, {"type": "string", "pattern": "^[가-힣]{2,5}$"}]},
    "recursive": {
        "$defs": {
            "node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}, "additionalProperties": False}
        },
        "$ref": "#/$defs/node",
    },
    "numbers": {
        "type": "array",
        "minItems": 3,
        "maxItems": 3,
        "items": {"type": "number", "minimum": -9.5, "maximum": 9.5},
    },
}


def drawn(held: Held, seed: int, most: int = 400) -> list[int]:
    """Tokens by random logits, until an end was among them or nothing else may follow."""
    rng = np.random.default_rng(seed)
    ids: list[int] = []
    while len(ids) < most and not held.is_over:
        logits = np.where(held.mask(), rng.normal(0, 2, len(held.mask())), -np.inf).astype(np.float32)
        assert np.isfinite(logits).any()
        token = utterance.drawn(logits, Chat(temperature=1.0), rng)
        held.take(token)
        ids.append(token)
    return ids


def text_of(ids: Sequence[int]) -> str:
    return b"".join(READER.bytes_of(one) for one in ids).decode("utf-8")


@pytest.mark.parametrize("name", SCHEMAS)
def test_whatever_is_drawn_follows_the_schema(name: str) -> None:
    validator = jsonschema_rs.validator_for(SCHEMAS[name])
    answers = [text_of(drawn(GUIDE.start(json.dumps(SCHEMAS[name])), seed)) for seed in range(12)]
    for answer in answers:
        assert validator.is_valid(json.loads(answer)), answer
    assert len(set(answers)) > 1


@pytest.mark.parametrize("kind", ["fallback", "legacy"])
def test_tokenizers_that_spell_in_bytes_are_held_as_well(kind: str) -> None:
    reader = Reader(BACKENDS[kind].to_str(), "toy")
    end = reader.id_of("</s>") or 0
    guide = Guide(reader, [end], reader.size)
    for name in ("object", "strings"):
        validator = jsonschema_rs.validator_for(SCHEMAS[name])
        for seed in range(8):
            ids = drawn(guide.start(json.dumps(SCHEMAS[name])), seed)
            data = b"".join(reader.bytes_of(one, is_first=i == 0) for i, one in enumerate(ids))
            assert validator.is_valid(json.loads(data)), data


def test_a_tokenizer_without_letters_for_json_is_not_held() -> None:
    reader = Reader(BACKENDS["unigram"].to_str(), "toy")
    with pytest.raises(Unsupported, match="no token for '!'"):
        Guide(reader, [reader.id_of("</s>") or 0], reader.size).start(json.dumps(SCHEMAS["object"]))


def test_letters_of_several_bytes_come_whole() -> None:
    answers = [json.loads(text_of(drawn(GUIDE.start(json.dumps(KIND)), seed))) for seed in range(30)]
    assert set(answers) == set(KIND["enum"])
    schema = json.dumps({"type": "string", "minLength": 4, "maxLength": 4})
    texts = [json.loads(text_of(drawn(GUIDE.start(schema), seed))) for seed in range(40)]
    assert {len(text) for text in texts} == {4}
    assert max(ord(letter) for text in texts for letter in text) > 0xFFFF
    for text in texts:
        text.encode()  # no halves of surrogate pairs


def test_an_answer_can_be_written_as_the_tokenizer_would() -> None:
    answer = '{"kind": "긁힘", "where": "왼쪽 🙂", "score": 0.25, "count": 3, "is_broken": true}'
    ids = READER.ids([Span(answer, is_said=True)])
    assert len(ids) < len(answer.encode())
    held = GUIDE.start(json.dumps(SCHEMAS["object"]))
    for number, token in enumerate(ids):
        mask = held.mask()
        assert mask[token], text_of(ids[:number])
        assert not mask[ENDS].any()
        held.take(token)
    assert held.is_over
    assert np.flatnonzero(held.mask()).tolist() == ENDS


def test_a_mask_has_one_row_a_logit_and_no_marks() -> None:
    mask = GUIDE.start('{"type": "string"}').mask()
    assert mask.shape == (SIZE,)
    assert mask.dtype == np.bool_
    assert {READER.bytes_of(int(one))[:1] for one in np.flatnonzero(mask)} == {b'"'}
    held = GUIDE.start('{"type": "string"}')
    held.take(READER.ids(['"'])[0])
    inside = held.mask()
    assert inside.sum() > 100
    assert not inside[READER.size :].any()
    assert not inside[[READER.id_of(mark) or 0 for mark in (*MARKS, "<tool_call>")]].any()


def test_ends_may_come_only_where_the_json_is_whole() -> None:
    held = GUIDE.start('{"type": "integer"}')
    assert not held.mask()[ENDS].any()
    with pytest.raises(ValueError, match=f"token {ENDS[0]}"):
        held.take(ENDS[0])
    held.take(READER.ids(["7"])[0])
    assert held.mask()[ENDS].all()
    assert not held.is_over  # another digit may follow
    assert held.mask()[READER.ids(["7"])[0]]
    held.take(ENDS[1])
    assert held.is_over
    with pytest.raises(ValueError, match="may come here"):
        held.take(ENDS[1])


@pytest.mark.parametrize("token", [-1, SIZE, SIZE - 1, 2])
def test_tokens_that_are_not_allowed_are_refused(token: int) -> None:
    held = GUIDE.start('{"type": "integer"}')
    with pytest.raises(ValueError, match=f"token {token}"):
        held.take(token)


def test_without_an_end_among_the_logits_the_json_still_ends() -> None:
    held = Guide(READER, [], SIZE).start('{"const": [1]}')
    for token in READER.ids(["[1]"]):
        assert held.mask()[token]
        held.take(token)
    assert held.is_over
    assert not held.mask().any()


def test_two_answers_do_not_know_of_each_other() -> None:
    first, second = GUIDE.start('{"enum": ["a", "b"]}'), GUIDE.start('{"enum": ["a", "b"]}')
    opening = int(np.flatnonzero(first.mask())[0])
    first.take(opening)
    assert second.mask()[opening]
    assert np.flatnonzero(first.mask()).tolist() != np.flatnonzero(second.mask()).tolist()


def test_blanks_do_not_fill_an_answer() -> None:
    """A model that likes nothing but blanks still comes to the end of its JSON."""
    held = GUIDE.start(json.dumps(SCHEMAS["nested"]))
    blanks = np.array([bool(data) and not data.strip() for data in (READER.bytes_of(one) for one in range(SIZE))])
    ids: list[int] = []
    for _ in range(400):
        allowed = held.mask()
        if allowed[ENDS[0]]:
            break
        token = int(np.flatnonzero(allowed & blanks if (allowed & blanks).any() else allowed)[-1])
        held.take(token)
        ids.append(token)
    else:
        pytest.fail(text_of(ids)[-80:])
    assert np.shape(json.loads(text_of(ids))) == (1, 2) or len(json.loads(text_of(ids))) <= 3


@pytest.mark.parametrize(
    ("schema", "error", "said"),
    [
        ('{"type": "strng"}', BadRequest, "strng"),
        ('{"type": 5}', BadRequest, "type must be"),
        ('{"properties": []}', BadRequest, "properties must be an object"),
        ('{"$ref": "#/nowhere"}', BadRequest, "nowhere"),
        ('{"pattern": "("}', BadRequest, "unclosed group"),
        ('{"enum": []}', BadRequest, "empty"),
        ('{"type": "integer", "minimum": 5, "maximum": 2}', BadRequest, "minimum"),
        ("[1]", BadRequest, "an object"),
        ('{"type"', BadRequest, "no JSON"),
        ('{"not": {"type": "string"}}', Unsupported, "not"),
        ('{"type": "array", "uniqueItems": true}', Unsupported, "uniqueItems"),
        ('{"type": "array", "uniqueItems": true, "x-guidance": {"lenient": true}}', Unsupported, "uniqueItems"),
        ('{"if": {}, "then": {}}', Unsupported, "if"),
        ('{"type": "string", "format": "shoe-size"}', Unsupported, "shoe-size"),
        ('{"type": "string", "pattern": "(?=a)b"}', Unsupported, "look-around"),
        ('{"oneOf": [{"type": "number"}, {"type": "integer"}]}', Unsupported, "oneOf"),
        ('{"$ref": "https://example.org/schema.json"}', Unsupported, "example.org"),
        ("[" * 70 + "]" * 70, BadRequest, "an object"),
        ('{"items": ' * 70 + "{}" + "}" * 70, TooMuch, "64 levels"),
        ('{"items": ' * 5000 + "{}" + "}" * 5000, BadRequest, "schema"),
        ('{"const": "' + "x" * 2**16 + '"}', TooMuch, "65,5"),
    ],
    ids=lambda value: value[:44] if isinstance(value, str) else None,
)
def test_schemas_that_cannot_be_followed(schema: str, error: type[BadRequest], said: str) -> None:
    with pytest.raises(BadRequest) as caught:
        GUIDE.start(schema)
    assert type(caught.value) is error
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_schema_of_its_own_nesting_is_refused_or_followed() -> None:
    with pytest.raises(BadRequest, match="schema"):
        GUIDE.start('{"$ref": "#"}')


def test_schemas_that_cost_too_much_end_soon() -> None:
    costly: list[dict[str, Any]] = [
        {"type": "object", "properties": {f"k{i}": {"type": "string"} for i in range(1000)}},
        {"type": "string", "pattern": "^((a{100}){100}){100}$"},
        {"type": "string", "pattern": "^(a|b)*a(a|b){400}$"},
        {"type": "array", "minItems": 10**9},
        {"enum": [str(random.Random(i).random()) for i in range(2000)]},
    ]
    began = time.thread_time()
    for schema in costly[:2]:
        with pytest.raises(Unsupported, match="too m|max is") as caught:
            drawn(GUIDE.start(json.dumps(schema)), 0, 30)
        assert "\n" not in str(caught.value)
    for schema in costly[2:]:
        assert len(drawn(GUIDE.start(json.dumps(schema)), 0, 10)) == 10
    assert time.thread_time() - began < 20  # seconds of work; 0.4 where this was written


def answered(schema: str | None, logits: Sequence[int], ask: Chat) -> Reply:
    """A model that would say ``logits`` token by token, held or not."""
    writing = Utterance(ask, Length(3, 0, 1000))
    held = None if schema is None else GUIDE.start(schema)
    wanted = iter(logits)

    def step() -> bytes | None:
        token = next(wanted)
        if held is not None:
            assert held.mask()[token]
            held.take(token)
        return None if token in ENDS else READER.bytes_of(token)

    return utterance.whole(utterance.pieces(writing, step))


def test_too_few_tokens_cut_the_json_off() -> None:
    ids = READER.ids([Span('["왼쪽 위", "b"]', is_said=True)])
    reply = answered(json.dumps(SCHEMAS["strings"]), [*ids, ENDS[0]], Chat(max_tokens=len(ids) - 2))
    assert reply.finish == "length"
    with pytest.raises(ValueError):
        json.loads(reply.text)
    whole = answered(json.dumps(SCHEMAS["strings"]), [*ids, ENDS[0]], Chat())
    assert (whole.finish, json.loads(whole.text)) == ("stop", ["왼쪽 위", "b"])


def test_a_stop_text_ends_a_held_answer_in_its_middle() -> None:
    ids = READER.ids([Span('["one", "two"]', is_said=True)])
    reply = answered(json.dumps(SCHEMAS["strings"]), [*ids, ENDS[0]], Chat(stop=('", "',)))
    assert (reply.text, reply.finish) == ('["one', "stop")


def test_a_stop_text_never_matches_within_a_mark() -> None:
    image = READER.id_of("<image>")
    assert image is not None
    assert READER.bytes_of(image) == b""
    said = [*READER.ids(["a "]), image, *READER.ids([" b"]), ENDS[0]]
    reply = answered(None, said, Chat(stop=("mage>",)))
    assert (reply.text, reply.finish) == ("a  b", "stop")
    assert reply.tokens_out == len(said)
    spelt = [*READER.ids([Span("a <image> b", is_said=True)]), ENDS[0]]
    assert answered(None, spelt, Chat(stop=("mage>",))).text == "a <i"
