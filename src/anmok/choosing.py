"""Labels as answers: a picture is classified by how likely a model that talks holds each label to be what it says.

The score of a label is what the picture adds to its likelihood: log p(label | question, picture) - log p(label |
question). Words that are common, or short, are likely without any picture; the difference takes that away, while the
mean over a label's tokens, the usual other way, favours long words whose ends follow from their beginnings. With a
softmax over the labels it is both the pointwise mutual information of Holtzman et al., "Surface Form Competition: Why
the Highest Probability Answer Isn't Always Right" (EMNLP 2021, arXiv:2104.08315) and, with the missing picture as the
input that says nothing, the contextual calibration of Zhao et al., "Calibrate Before Use: Improving Few-Shot
Performance of Language Models" (ICML 2021, arXiv:2102.09690). Examples shown before the question stand in both terms,
so that what they say about all pictures alike cancels as well.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from anmok.errors import BadRequest
from anmok.inputs import Conversation, Encoded, Source, Text, Turn
from anmok.pairing import score_row
from anmok.results import Scores
from anmok.tasks import Classify, Setup

Array = NDArray[np.float64]

# A conversation without its last pictures, the whole one, and answers: logarithms (A,) of how likely these are in each.
Weigh: TypeAlias = Callable[[Conversation, Conversation, tuple[str, ...]], tuple[Array, Array]]

LISTED: Final = 50  # labels that the question names; more would crowd out the picture
_ASKED: Final = {
    "en": (
        "What does the picture show? Answer with one of these, and nothing else: {}.",
        "What does the picture show? Answer with its name, and nothing else.",
    ),
    "ko": (
        "사진에 보이는 것은 무엇입니까? 다음 가운데 하나로만 답하십시오: {}.",
        "사진에 보이는 것은 무엇입니까? 이름으로만 답하십시오.",
    ),
}


def question(labels: Sequence[str], languages: Sequence[str]) -> str:
    """What is asked about a picture: in Korean where a label is and the model reads it."""
    is_korean = "ko" in languages and any(_is_hangul(letter) for label in labels for letter in label)
    named, open_ = _ASKED["ko" if is_korean else "en"]
    return named.replace("{}", ", ".join(labels)) if len(labels) <= LISTED else open_


def asked(
    picture: Source | Encoded,
    labels: Sequence[str],
    languages: Sequence[str],
    examples: Sequence[tuple[Source | Encoded, str]] = (),
) -> Conversation:
    """The question about ``picture``, behind the same question about each of the ``examples`` and its label as the
    answer."""
    text = Text(question(labels, languages))
    told = [turn for shown, label in examples for turn in (_user(shown, text), Turn("assistant", (Text(label),)))]
    return Conversation((*told, _user(picture, text)))


def blind(said: Conversation) -> Conversation:
    """The same without what its last turn shows.

    Raises:
        BadRequest: it shows nothing, or has no words beside.
    """
    last = said.turns[-1]
    if not last.shown or not last.text.strip():
        raise BadRequest("classify: the last turn of the conversation wants a picture and a question about it")
    return Conversation((*said.turns[:-1], Turn("user", (Text(last.text),))))


def chosen(state: Encoded | Conversation, ask: Classify, setup: Setup, weigh: Weigh) -> Scores:
    """One answer. A conversation is asked as it stands; its last turn shows what is to be classified.

    ``templates`` (those of the ask, or of the card) and ``descriptions`` are what is answered instead of the bare
    labels; several for one label count by their mean.

    Raises:
        BadRequest: the last turn of a conversation shows no picture, or asks nothing.
    """
    assert ask.labels is not None
    said = state if isinstance(state, Conversation) else asked(state, ask.labels, setup.languages)
    groups = _answers(ask, setup.text.templates)
    answers = tuple(dict.fromkeys(text for group in groups for text in group))
    without, seen = weigh(blind(said), said, answers)
    gain = dict(zip(answers, (seen - without).tolist(), strict=True))
    return score_row(np.asarray([np.mean([gain[text] for text in group]) for group in groups]), ask, "softmax")


def _answers(ask: Classify, usual: Sequence[str]) -> list[tuple[str, ...]]:
    """What would say each label, composed as ``Text`` of a turn is."""
    assert ask.labels is not None
    templates = ask.templates or usual
    groups = ask.descriptions or [tuple(one.replace("{}", label) for one in templates) for label in ask.labels]
    return [tuple(unicodedata.normalize("NFC", text) for text in group) for group in groups]


def _user(shown: Source | Encoded, text: Text) -> Turn:
    return Turn("user", (shown, text))


def _is_hangul(letter: str) -> bool:
    return "\uac00" <= letter <= "\ud7a3" or "\u1100" <= letter <= "\u11ff"
