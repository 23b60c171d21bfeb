"""Moondream 2: questions about a picture, captions, boxes around and points on whatever a text names, and where people
look; small, for any machine.

Source: M87 Labs, repository vikhyat/moondream (Apache-2.0) at 44146f1.

A question that is ``caption``, ``caption short``, ``caption normal`` or ``caption long`` asks for a description of
that length as the published ``caption`` does. The published ``query`` answers one question; here questions and answers
before it stand in front of it, and what the model was told to be in front of the first.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, cast

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from anmok import choosing, geometry, utterance
from anmok.bodies import FACE, encoded, looking, middles
from anmok.errors import BadRequest, BadWeights, Unsupported
from anmok.geometry import Frame, View
from anmok.inputs import Conversation, Encoded, Prompted
from anmok.nets import moondream as net
from anmok.nets import moondream_bundle, moondream_names, moondream_toy
from anmok.nets.moondream_choice import log_likelihoods
from anmok.nets.moondream_mind import CODEGEN, STARMIE, Ids, Mind, Phrases, Place, TorchMind, place, places
from anmok.nets.moondream_onnx import OnnxMind
from anmok.results import Detections, Gazes, Piece, Points, Reply, Scores
from anmok.tasks import Chat, Classify, Detect, Gaze, Pointing, Setup
from anmok.utterance import Length, Utterance
from anmok.wording import Reader, Span
from anmok.words import english

Array = NDArray[np.float32]

_END: Final = "<|endoftext|>"  # begins and ends every text
MOST: Final = 50  # things that are looked for, as published
_SAME: Final = 0.5  # IoU from which what two phrases of one label find is one thing
_LEAST: Final = 1e-3  # pixels of a box's side, under which nothing of it lies in the picture
_KEPT: Final = 2  # pictures whose memory is kept: of 2B in float32 each takes 290 MB
_STEP: Final = 256  # tokens that room is made for at once
_BUNDLE: Final = "bundle"  # the first word of a card's kind: graphs in one file


class Moondream:
    """A state holds ``rows`` float32 (N, D), what the picture is to the language model; the frame leads from 0..1."""

    most_pictures = 1

    def __init__(self, setup: Setup, mind: Mind, reader: Reader, phrases: Phrases) -> None:
        self._setup = setup
        self._mind = mind
        self._reader = reader
        self._phrases = phrases
        self._memories: OrderedDict[bytes, Any] = OrderedDict()
        if reader.id_of(_END) != phrases.bos:
            raise BadWeights(
                f"{setup.name}: tokenizer.json is not the one that the weights go with: {_END} is "
                f"{reader.id_of(_END)} in it, not {phrases.bos}; fetch the files again"
            )

    @classmethod
    def from_files(cls, setup: Setup) -> Moondream:
        if _is_bundle(setup):
            if setup.dtype != "float32":
                raise Unsupported(f"{setup.name}: its graphs compute as they were published: leave dtype at float32")
            [path] = setup.files.values()
            return cls._of(setup, moondream_bundle.read(path))
        content = json.loads(setup.files["config.json"].read_text(encoding="utf-8"))
        state = load_file(setup.files["model.safetensors"])
        config = moondream_names.configured(net.PUBLISHED[setup.kind], content.get("config", {}), setup.name)
        dtype = getattr(torch, setup.dtype)
        filled = moondream_names.filled(config, state, dtype, setup.name)
        reader = Reader.from_file(setup.files["tokenizer.json"], setup.name)
        phrases = CODEGEN if moondream_names.is_older(state) else STARMIE
        return cls(setup, TorchMind(filled, setup.device, dtype), reader, phrases)

    @classmethod
    def tiny(cls, setup: Setup, seed: int) -> Moondream:
        torch.manual_seed(seed)
        is_bundle = _is_bundle(setup)
        small = net.Moondream(moondream_toy.CONFIG if is_bundle else net.TINY)
        _shaken(small)
        if is_bundle:
            data = moondream_toy.bundle(small)
            return cls._of(setup, moondream_bundle.opened(io.BytesIO(data), setup.name))
        reader = Reader(moondream_toy.tokenizer(), setup.name)
        return cls(setup, TorchMind(small, setup.device, torch.float32), reader, moondream_toy.PHRASES)

    @classmethod
    def _of(cls, setup: Setup, bundle: moondream_bundle.Bundle) -> Moondream:
        reader = Reader(bundle.tokenizer, setup.name)
        return cls(setup, OnnxMind(bundle, setup.device), reader, bundle.phrases)

    @property
    def nbytes(self) -> int:
        return self._mind.nbytes

    @property
    def vocabulary(self) -> tuple[str, ...]:
        return ()

    def prepare(self, image: NDArray[np.uint8]) -> View:
        """The canvas of the picture, (3, h, w), of a size that its own size fixes; the frame leads from 0..1."""
        height, width = image.shape[:2]
        pixels = geometry.normalise(self._mind.canvas(image), self._setup.pixels)  # (3, h, w)
        return View(pixels, Frame((1 / width, 1 / height), (0.0, 0.0), (height, width)))

    def encode(self, batch: Array) -> dict[str, Array]:
        """(B, 3, h, w) to ``rows`` (B, N, D)."""
        return {"rows": self._mind.see(batch)}

    def chat(self, states: Sequence[Conversation], ask: Chat) -> list[Reply]:
        return [utterance.whole(self.talk(state, ask)) for state in states]

    def talk(self, state: Conversation, ask: Chat) -> Iterator[Piece]:
        """Raises:
        BadRequest: a prompt that is longer than the context.
        Unsupported: a schema.
        """
        if ask.schema is not None:
            raise Unsupported(f"{self._setup.name} cannot be held to a schema: ask without one")
        [picture] = cast("Sequence[Encoded]", state.pictures) or (None,)
        prompt = self._prompt(state)
        seen = 0 if picture is None else len(picture.maps["rows"])
        writing = Utterance(ask, Length(1 + seen + len(prompt), seen, self._mind.context))
        return utterance.pieces(writing, self._speaking(picture, prompt, ask))

    def classify(self, states: Sequence[Encoded | Conversation], ask: Classify) -> list[Scores]:
        """By how likely each label is as the answer to a question about the picture, or to a conversation. As
        published it does not do this.

        Raises:
            BadRequest: it does not fit the context, or the last turn of a conversation shows no picture.
        """
        return [choosing.chosen(state, ask, self._setup, self._weighed) for state in states]

    def _weighed(
        self, blind: Conversation, said: Conversation, answers: tuple[str, ...]
    ) -> tuple[choosing.Array, choosing.Array]:
        """An answer may begin with a blank or not; it is as likely as both together."""
        ids = [tuple(self._ids(f"{blank}{answer}")) for blank in ("", " ") for answer in answers]
        found = []
        for one in (blind, said):
            [picture] = cast("Sequence[Encoded]", one.pictures) or (None,)
            memory, prompt = self._memory(picture), self._prompt(one)
            seen = 0 if picture is None else len(picture.maps["rows"])
            longest = max(len(answer) for answer in ids)
            Length(1 + seen + len(prompt) + longest, seen, self._mind.context).room(Chat())
            each = log_likelihoods(self._mind, memory, prompt, ids, self._phrases.eos).reshape(2, -1)  # (2, A)
            found.append(np.logaddexp(each[0], each[1]))
        return found[0], found[1]

    def detect(self, states: Sequence[Encoded], ask: Detect) -> list[Detections]:
        """Each label by itself, so the order of labels changes nothing. The published model gives no scores: here it is
        the chance that it gave to there being one (more) of them.

        Raises:
            BadRequest: no labels, or one that is longer than the context.
            Untranslatable: a label in a language that the model does not read and that no table holds.
        """
        if ask.labels is None:
            raise BadRequest(f"{self._setup.name} finds what a text names: give labels, --labels cat,dog")
        groups = _phrases(ask, self._setup.languages)
        return [self._found(state, ask, groups) for state in states]

    def point(self, states: Sequence[Encoded], ask: Pointing) -> list[Points]:
        """Each label by itself, and scores, as in ``detect``. As published no more than 50 of one label.

        Raises:
            BadRequest: a label that is longer than the context.
            Unsupported: a model that was published before it could point.
            Untranslatable: a label in a language that the model does not read and that no table holds.
        """
        read_as = tuple(english(ask.labels, self._setup.languages))
        return [self._pointed(state, ask, read_as) for state in states]

    def gaze(self, states: Sequence[Encoded | Prompted], ask: Gaze) -> list[Gazes]:
        """The published ``detect_gaze`` without its averaging over turned pictures. Faces are what ``detect`` finds
        under that name, as in the authors' recipes/gaze-detection-video; a score is the chance that the model gave to
        the gaze ending in the picture.

        Raises:
            BadRequest: a prompt with anything but faces or an eye.
        """
        return [self._gazed(state, ask) for state in states]

    def _prompt(self, state: Conversation) -> Ids:
        phrases, turns = self._phrases, [turn for turn in state.turns if turn.role != "system"]
        caption = _caption(turns[-1].text)
        if len(turns) == 1 and not state.system and state.pictures and caption in phrases.captions:
            return phrases.captions[caption]
        self._reader.check_letters(len(state.system) + sum(len(turn.text) for turn in turns), self._mind.context)
        ids: list[int] = []
        for number, turn in enumerate(turns):
            if turn.role == "assistant":
                ids += self._ids(turn.text)
                continue
            text = f"{state.system}\n\n{turn.text}" if number == 0 and state.system else turn.text
            ids += (*phrases.query[0], *self._ids(text), *phrases.query[1])
        return tuple(ids)

    def _ids(self, text: str) -> list[int]:
        """Of the caller's words, in which nothing is a mark."""
        self._reader.check_letters(len(text), self._mind.context, "text")
        return self._reader.ids([Span(text, is_said=True)])

    def _speaking(self, picture: Encoded | None, prompt: Ids, ask: Chat) -> Callable[[], bytes | None]:
        """Gives the next token's bytes, call by call; the first one reads the prompt."""
        rng = np.random.default_rng(ask.seed)
        mind, phrases = self._mind, self._phrases
        memory: Any = None
        coming: Ids = prompt

        def step() -> bytes | None:
            nonlocal memory, coming
            is_first = memory is None
            if is_first:
                memory = mind.copied(self._memory(picture), len(prompt) + min(ask.max_tokens, _STEP))
            logits, _ = mind.read(memory, mind.words(coming))
            if phrases.answer is not None and not is_first:  # as published: of the first token nothing is barred
                logits[phrases.answer] = -np.inf
            token = utterance.drawn(logits, ask, rng)
            coming = (token,)
            return None if token == phrases.eos else self._reader.bytes_of(token)

        return step

    def _memory(self, picture: Encoded | None) -> Any:
        """Of a picture, which is read once while several things are asked about it. Not to be written to."""
        if picture is None:
            return self._mind.begin(self._phrases.bos, None)
        rows = cast(Array, picture.maps["rows"])
        key = hashlib.blake2b(rows.tobytes(), digest_size=16).digest()
        if key not in self._memories:
            self._memories[key] = self._mind.begin(self._phrases.bos, rows)
            if len(self._memories) > _KEPT:
                self._memories.popitem(last=False)
        self._memories.move_to_end(key)
        return self._memories[key]

    def _walked(self, state: Encoded, text: str, around: tuple[Ids, Ids] | None, *, has_size: bool) -> list[Place]:
        if around is None:
            raise Unsupported(f"{self._setup.name} was published before it could do that; ask it questions")
        prompt = (*around[0], *self._ids(f" {text}"), *around[1])
        memory = self._memory(state)
        room = self._mind.context - self._mind.length(memory) - len(prompt)
        if room < 0:
            raise BadRequest(
                f"label {text[:40]!r} has {len(prompt)} tokens, more than {self._setup.name} reads: shorten it"
            )
        mine = self._mind.copied(memory, len(prompt) + min(room, _STEP))
        rows = self._mind.words(prompt)
        return places(self._mind, mine, rows, self._phrases.eos, most=MOST, has_size=has_size)

    def _found(self, state: Encoded, ask: Detect, groups: Sequence[Sequence[str]]) -> Detections:
        assert ask.labels is not None
        found = [
            (one, number)
            for number, group in enumerate(groups)
            for phrase in group
            for one in self._walked(state, phrase, self._phrases.detect, has_size=True)
        ]
        shares = np.asarray([_box(one) for one, _ in found], np.float32).reshape(-1, 4)  # (N, 4)
        xyxy = state.place.boxes_to_image(shares)  # (N, 4)
        scores = np.asarray([one.score for one, _ in found], np.float32)
        class_ids = np.asarray([number for _, number in found], np.int64)
        index = np.flatnonzero((scores >= (ask.threshold or 0.0)) & ((xyxy[:, 2:] - xyxy[:, :2]).min(1) > _LEAST))
        index = index[np.argsort(-scores[index], kind="stable")]
        overlap = _SAME if ask.nms is None and any(len(group) > 1 for group in groups) else ask.nms
        if overlap is not None:  # the published model thins out nothing
            index = index[geometry.nms(xyxy[index], scores[index], overlap, class_ids[index])]
        index = index[: ask.top_k]
        read_as = () if ask.phrases is not None else tuple(group[0] for group in groups)
        return Detections(xyxy[index], scores[index], class_ids[index], ask.labels, state.place.size_hw, read_as)

    def _pointed(self, state: Encoded, ask: Pointing, read_as: tuple[str, ...]) -> Points:
        walks = [self._walked(state, text, self._phrases.point, has_size=False) for text in read_as]
        found = [(one, number) for number, walk in enumerate(walks) for one in walk]
        shares = np.asarray([(one.x, one.y) for one, _ in found], np.float32).reshape(-1, 2)  # (N, 2)
        scores = np.asarray([one.score for one, _ in found], np.float32)
        class_ids = np.asarray([number for _, number in found], np.int64)
        index = np.flatnonzero(scores >= (ask.threshold or 0.0))
        index = index[np.argsort(-scores[index], kind="stable")][: ask.top_k]
        xy = state.place.to_image(shares)  # (N, 2)
        return Points(xy[index], scores[index], class_ids[index], ask.labels, state.place.size_hw, read_as)

    def _gazed(self, given: Encoded | Prompted, ask: Gaze) -> Gazes:
        state, people = encoded(given), looking(given)
        if people is None:
            faces = self.detect([state], Detect((FACE,), threshold=ask.face))[0].xyxy
            people = middles(faces), faces
        eyes, faces = people
        found = [self._looked(state, eye) for eye in eyes]
        shares = np.asarray([(0.0, 0.0) if one is None else (one.x, one.y) for one, _ in found], np.float32)
        is_inside = np.asarray([one is not None for one, _ in found], np.bool_)
        scores = np.asarray([score for _, score in found], np.float32)
        targets = state.place.to_image(shares.reshape(-1, 2))  # (N, 2)
        return Gazes(eyes, targets, is_inside, scores, faces, state.place.size_hw)

    def _looked(self, state: Encoded, eye: Array) -> tuple[Place | None, float]:
        """Where the gaze of an eye (2,) ends, in shares of the picture; and the chance that it does so in there."""
        x, y = (float(one) for one in state.place.to_canvas(eye))
        mind = self._mind
        before, after = (mind.words(self._ids(text)) for text in ("\n\nPoint:", " gaze\n\n"))
        rows = mind.together([before, mind.of_coordinate(x), mind.of_coordinate(y), after])
        memory = mind.copied(self._memory(state), len(rows) + 3)
        return place(mind, memory, rows, self._phrases.eos)


def _shaken(toy: net.Moondream) -> None:
    """So that answers depend on picture and question, and end now and then."""
    with torch.no_grad():
        for layer in toy.modules():
            if isinstance(layer, torch.nn.Linear):
                layer.weight.normal_(0.0, 2.0 * layer.in_features**-0.5)
        toy.text.wte.normal_(0.0, 1.0)
        toy.text.lm_head.bias[moondream_toy.PHRASES.eos] += 1.0


def _phrases(ask: Detect, languages: tuple[str, ...]) -> list[tuple[str, ...]]:
    """For each label what is looked for, in words that the model reads."""
    assert ask.labels is not None
    if ask.phrases is not None:
        return [tuple(dict.fromkeys(english(group, languages))) for group in ask.phrases]
    return [(one,) for one in english(ask.labels, languages)]


def _box(place: Place) -> tuple[float, float, float, float]:
    half_width, half_height = place.width / 2, place.height / 2
    return place.x - half_width, place.y - half_height, place.x + half_width, place.y + half_height


def _caption(question: str) -> str:
    """The length of the caption that is asked for; empty where none is."""
    first, _, rest = " ".join(question.lower().split()).partition(" ")
    return (rest or "normal") if first == "caption" else ""


def _is_bundle(setup: Setup) -> bool:
    return setup.kind.partition("-")[0] == _BUNDLE
