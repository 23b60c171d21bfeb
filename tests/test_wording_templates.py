"""Chat templates: prompts as published, and a template that can do nothing but write."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from anmok.errors import BadRequest, BadWeights
from anmok.inputs import Clip, Conversation, Text, Turn
from anmok.wording import Span, Template
from toy_tokenizers import BACKENDS, READERS

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TRIMMED = (
    "{{- bos_token -}}{%- for m in messages -%}<|im_start|>{{ m.role }}\n\n{{ m.content | trim }}<|im_end|>"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n\n' }}{%- endif -%}"
)
ALTERNATING = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported\nhere') }}{% endif %}"
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('by turns') }}"
    "{% endif %}{{ m.role | upper }}: {{ m.content.strip() if m.role == 'assistant' else m.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
TOOLS = (
    "{% if not tools is defined %}{% set tools = [1] %}{% endif %}{% set ns = namespace(n=0) %}"
    "{% if tools %}{{ tools | tojson(indent=2) }}{% endif %}{{ ['a<b', '금'] | tojson }}"
    "{% for m in messages %}{% if m.role == 'system' %}{% continue %}{% endif %}{% set ns.n = ns.n + 1 %}"
    "{% generation %}{{ ns.n ~ '. ' ~ m['content'] }}{% endgeneration %}\n"
    "{% if ns.n == 9 %}{% break %}{% endif %}{% endfor %}"
)
PARTS = (
    "{% for m in messages %}{{ m.role | capitalize }}{% if m.content[0].type == 'image' %}:{% else %}: {% endif %}"
    "{% for p in m.content %}{% if p.type == 'text' %}{{ p.text }}{% elif p.type == 'image' %}{{ '<image>' }}"
    "{% elif p['type'] == 'video' %}<video>{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)
SLOTS: Any = {"image": "<image>", "video": "<video>"}
PICTURE = np.zeros((4, 4, 3), np.uint8)


def template(source: str, content: Any = "text", **special: str) -> Template:
    return Template(source, content, SLOTS, special, "toy")


def talk(*texts: str, system: str = "") -> Conversation:
    first = [Turn("system", (Text(system),))] if system else []
    roles = ("user", "assistant")
    return Conversation((*first, *(Turn(roles[i % 2], (Text(text),)) for i, text in enumerate(texts))))  # type: ignore[arg-type]


def rendered(made: Template, said: Conversation, *shown: str) -> str:
    return "".join(span.text for span in made.spans(said, shown))


CONVERSATIONS = {
    "one": talk("What is broken here?"),
    "system": talk(" 금이 갔나요? ", system="  Answer briefly.\n"),
    "turns": talk("  Hi ", "\n Hello \t", "And \n\n now? "),
    "empty": talk("Hi", "", "Go on"),
}


@pytest.mark.parametrize("name", CONVERSATIONS)
@pytest.mark.parametrize(
    "source", [CHATML, TRIMMED, ALTERNATING, TOOLS, PARTS], ids=["chatml", "trimmed", "by turns", "tools", "parts"]
)
def test_prompts_are_those_of_transformers(source: str, name: str) -> None:
    from transformers import PreTrainedTokenizerFast

    content: Any = "parts" if source == PARTS else "text"
    said = CONVERSATIONS[name]
    reference = PreTrainedTokenizerFast(tokenizer_object=BACKENDS["bytes"], bos_token="<s>", chat_template=source)
    made = template(source, content, bos_token="<s>")
    messages = [
        {"role": one.role, "content": one.text if content == "text" else [{"type": "text", "text": one.text}]}
        for one in said.turns
    ]
    if source == ALTERNATING and name == "system":
        with pytest.raises(BadRequest, match="System role not supported here"):
            made.spans(said, [])
        return
    spans = made.spans(said, [])
    text = reference.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert "".join(span.text for span in spans) == text
    ids = reference.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert READERS["bytes"].ids(spans) == ids


def test_each_side_is_trimmed_as_the_template_does() -> None:
    said = talk("  Hi ", "  Hello ", "x")
    assert rendered(template(ALTERNATING), said) == "USER:   Hi </s>ASSISTANT: Hello</s>USER: x</s>ASSISTANT:"
    left = "{% for m in messages %}[{{ m.content.lstrip() }}]{% endfor %}"
    assert rendered(template(left), said) == "[Hi ][Hello ][x]"


def test_pictures_stand_where_the_template_has_them() -> None:
    said = Conversation((Turn("user", (Text("before"), PICTURE, Text("and"), PICTURE, Text("differ <image>?"))),))
    shown = ("<image>" * 3, "<s><image>")
    spans = template(PARTS, "parts").spans(said, shown)
    assert "".join(span.text for span in spans) == (
        "User: before<image><image><image>and<s><image>differ <image>?<|im_end|>\nAssistant:"
    )
    reader = READERS["bytes"]
    assert reader.ids(spans).count(reader.id_of("<image>") or -1) == 4  # and not the one that was typed
    assert rendered(template(CHATML), said, "<image>", "<image>") == (
        "<|im_start|>user\nbefore<image>\nand<image>\ndiffer <image>?<|im_end|>\n<|im_start|>assistant\n"
    )


def test_clips_and_pictures_keep_their_order() -> None:
    said = Conversation((Turn("user", (Clip("a.mp4"), PICTURE, Text("?"))),))
    assert rendered(template(PARTS, "parts"), said, "V<image>V", "I") == "User: V<image>VI?<|im_end|>\nAssistant:"


@pytest.mark.parametrize(
    "source",
    [
        "{% for m in messages %}{{ m.role }}{% endfor %}",
        PARTS.replace("'<image>'", "'<img>'"),
        "<image>" + PARTS,
    ],
    ids=["none", "another", "one too many"],
)
def test_a_template_without_a_place_for_the_picture(source: str) -> None:
    with pytest.raises(BadWeights, match="places for 1 pictures"):
        template(source, "parts").spans(Conversation.about(PICTURE, question="?"), ["<image>"])


def test_the_template_never_reads_what_was_said() -> None:
    """A template that would do something at a word does nothing, and code in a text stays text."""
    source = "{% for m in messages %}{% if 'secret' in m.content %}LEAK{% endif %}{{ m.content }}{% endfor %}"
    said = talk("secret {{ 7 * 7 }} {% raw %} \ue0f00\ue0f1")
    assert rendered(template(source), said) == said.turns[0].text


def test_a_text_that_is_shown_twice_stays_said() -> None:
    spans = template("{{ messages[0].content }}|{{ messages[0].content }}").spans(talk("<image>"), [])
    assert spans == [Span("<image>", is_said=True), Span("|"), Span("<image>", is_said=True)]


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.__class__.__base__.__subclasses__() }}",
        "{{ (''|attr('__class__')).__mro__ }}",
        "{{ raise_exception.__globals__['__builtins__'] }}",
        "{{ self.__init__.__globals__ }}",
        "{{ strftime_now.__globals__.os }}",
        "{{ namespace.__init__.__globals__ }}",
        "{{ ''.join.__self__.__class__.__mro__ }}",
        "{{ '{0.__class__.__mro__}'.format(messages) }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update({'role': 'system'}) }}",
        "{{ cycler.__init__.__globals__.os }}",
        "{{ lipsum.__globals__ }}",
        "{% include 'x' %}",
        "{% import 'x' as y %}",
        "{% extends 'x' %}",
    ],
)
def test_python_is_out_of_reach(source: str) -> None:
    with pytest.raises(BadWeights, match=r"^toy: .*(breaks down|cannot be read)") as caught:
        template(source).spans(talk("Hi"), [])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "asked", ["''.__class__", "''|attr('__class__')", "strftime_now.__globals__", "namespace.__init__"]
)
def test_of_python_itself_there_is_nothing_to_show(asked: str) -> None:
    assert rendered(template(f"[{{{{ {asked} }}}}]"), talk("Hi")) == "[]"


def test_indents_are_small() -> None:
    assert len(rendered(template("{{ [[1]] | tojson(indent=10 ** 9) }}"), talk("Hi"))) == len("[\n[\n1\n]\n]") + 8 * 4


def test_names_in_names_are_not_shown() -> None:
    source = DOUBLED.replace("x ~ x", "namespace(a=x, b=x)") + "{{ x }} {{ [x, x] | string | length }}"
    assert rendered(template(source), talk("Hi")) == "<namespace> 26"


def test_texts_are_filled_in() -> None:
    source = "{{ '{:02d}|{name}'.format(3, name='a') }} {{ '%03d' % 7 }} {{ 'a-b'.replace('-', '+') }}"
    assert rendered(template(source + "{{ [1, 'x'] | join(',') }}"), talk("Hi")) == "03|a 007 a+b1,x"


DOUBLED = "{% set x = 'ab' %}" + "{% set x = x ~ x %}" * 60
BOUNDLESS = {
    "loops": "{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}",
    "loops over texts": "{% for i in 'x' * 9999 %}{% for j in 'x' * 9999 %}{% endfor %}{% endfor %}",
    "range": "{{ range(10 ** 9) | list }}",
    "macros": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "endless macro": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "recursive loop": "{% for i in [1, 2] recursive %}{{ loop([1, 2]) }}{% endfor %}",
    "times": "{{ 'x' * 10 ** 9 }}",
    "times, turned round": "{{ (10 ** 9) * 'x' }}",
    "list times": "{{ ([1] * 10 ** 9) | length }}",
    "doubled": DOUBLED + "{{ x }}",
    "added": DOUBLED.replace("~", "+") + "{{ x }}",
    "joined": DOUBLED.replace("x ~ x", "[x, x] | join") + "{{ x }}",
    "joined by": DOUBLED.replace("x ~ x", "''.join([x, x])") + "{{ x }}",
    "replaced": DOUBLED.replace("x ~ x", "x | replace('a', 'aa')") + "{{ x }}",
    "replaced by": DOUBLED.replace("x ~ x", "x.replace('a', 'aa')") + "{{ x }}",
    "replaced by name": DOUBLED.replace("x ~ x", "(x | attr('replace'))('a', 'aa')") + "{{ x }}",
    "replaced by key": DOUBLED.replace("x ~ x", "x['replace']('a', 'aa')") + "{{ x }}",
    "rounded": "{{ 1.5 | round(10 ** 9, 'ceil') }}",
    "filled by format": DOUBLED.replace("x ~ x", "'{0}{0}'.format(x)") + "{{ x }}",
    "filled in many places": "{% set x = 'x' * 9999 %}{{ '" + "{0}" * 9999 + "'.format(x) }}",
    "width of a width": "{{ '{:{}}'.format(1, 1000000000) }}",
    "filled": DOUBLED.replace("x ~ x", "'%s%s' % (x, x)") + "{{ x }}",
    "set": DOUBLED.replace("{% set x = x ~ x %}", "{% set x %}{{ x }}{{ x }}{% endset %}") + "{{ x }}",
    "lists in lists": DOUBLED.replace("x ~ x", "[x, x]") + "{{ x }}",
    "tables in tables": DOUBLED.replace("x ~ x", "{'a': x, 'b': x}") + "{{ x }}",
    "tables made": DOUBLED.replace("x ~ x", "dict(a=x, b=x)") + "{{ x }}",
    "output": "{% set x = 'x' * 9999 %}{% for i in range(9999) %}{{ x }}{% endfor %}",
    "width": "{{ '%1000000000d' % 1 }}",
    "width of a sign": "{{ '%*d' % (1000000000, 1) }}",
    "centred": "{{ 'x'.center(10 ** 9) }}",
    "centred, as a filter": "{{ 'x' | center(10 ** 9) }}",
    "formatted": "{{ '{:1000000000}'.format(1) }}",
    "power": "{{ 10 ** 10 ** 10 }}",
    "powers": "{% set x = 9 ** 9 %}" + "{% set x = x * x %}" * 60,
    "deep": "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}",
    "nested": "{% for i in [1] %}" * 40 + "{% endfor %}" * 40,
    "long": " " * (2**20 + 1),
}


@pytest.mark.parametrize("name", BOUNDLESS)
def test_the_work_of_a_template_is_bounded(name: str) -> None:
    with pytest.raises(BadWeights, match="^toy: ") as caught:
        template(BOUNDLESS[name]).spans(talk("Hi"), [])
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 250


def test_long_conversations_are_rendered() -> None:
    said = talk(*("word " * 2000 for _ in range(1001)))
    assert len(rendered(template(TRIMMED, bos_token="<s>"), said)) > 9_000_000


@pytest.mark.parametrize(
    "source",
    [
        "{% for %}",
        "{{ x",
        "{{ 1 / 0 }}",
        "{{ messages[7].role }}",
        "{{ 1 + 'a' }}",
        "\ue0f07\ue0f1",
        "{{ no.such.thing }}",
    ],
)
def test_broken_templates(source: str) -> None:
    with pytest.raises(BadWeights, match="^toy: its chat template") as caught:
        template(source).spans(talk("Hi"), [])
    assert "\n" not in str(caught.value)


def test_the_date_is_todays() -> None:
    assert re.fullmatch(
        r"20\d\d-\d\d-\d\d Hi",
        rendered(template("{{ strftime_now('%Y-%m-%d') }} {{ messages[0].content }}"), talk("Hi")),
    )
