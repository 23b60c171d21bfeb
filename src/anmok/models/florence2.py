"""Florence-2: captions, text in pictures, boxes, all by one small net that writes.

Source: Xiao et al., "Florence-2: Advancing a Unified Representation for a Variety of Vision Tasks" (CVPR 2024,
arXiv:2311.06242), microsoft/Florence-2-base as transformers reads it (florence-community/Florence-2-base).

It was taught single questions, so of a conversation it is asked the last one, about the picture. A published task name
as the question, ``<DETAILED_CAPTION>`` or ``<REGION_TO_OCR><loc_10><loc_20><loc_500><loc_600>``, is the sentence that
it stands for. Answers are the likeliest token each time, where the published examples search with three beams.

``detect`` asks for one label at a time, and all boxes of the answer are of that label; without labels it is asked for
everything that it knows, and names it itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, cast

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import Florence2Config, Florence2ForConditionalGeneration

from anmok import geometry, utterance
from anmok.errors import BadRequest, BadWeights, Unsupported
from anmok.inputs import Conversation, Encoded
from anmok.nets.florence2 import BINS, TASKS, Find, Token, Writer, Written, finds
from anmok.nets.pretrained import configured, filled
from anmok.results import Detections, Piece, Reply
from anmok.tasks import Chat, Detect, Setup
from anmok.utterance import Length, Utterance
from anmok.wording import Reader, Span
from anmok.words import naming

Array = NDArray[np.float32]

NMS: Final = 0.9  # IoU of boxes of one label; the published code thins out nothing, and the net says some twice
_AT_ONCE: Final = 8  # answers that are written together
_LONGEST: Final = 1024  # tokens of an answer with boxes, as in the published examples
_LEAST: Final = 1e-3  # pixels of a box's side, under which nothing of it lies in the picture
_START, _PAD, _END, _IMAGE = "<s>", "<pad>", "</s>", "<image>"
_SHOWN: Final = ("<sep>", "<poly>", "</poly>")  # marks that belong to an answer, as places do
_TASK: Final = re.compile(r"\s*(<[A-Z_]+>)(.*)", re.DOTALL)
_PLACE: Final = re.compile(r"<loc_(\d{1,3})>")

_NARROW = {"encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
TINY_TEXT = {**_NARROW, "d_model": 32, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "max_position_embeddings": 128}
TINY_VISION = {
    "embed_dim": [8, 16, 16, 32],
    "depths": [1, 1, 1, 1],
    "num_heads": [1, 2, 2, 4],
    "num_groups": [1, 2, 2, 4],
    "window_size": 3,
    "projection_dim": 32,
}
TINY_SIZE: Final = 64


@dataclass(frozen=True, slots=True)
class _Ids:
    """Of tokens that are no words."""

    start: int
    pad: int
    end: int
    places: int  # of ``<loc_0>``; the others follow


class Florence2:
    """A state holds ``rows`` (N, D): the picture as the encoder reads it before the question."""

    most_pictures = 1

    def __init__(self, setup: Setup, net: Florence2ForConditionalGeneration, reader: Reader) -> None:
        self._setup = setup
        self._device = torch.device(setup.device)
        config: Any = net.config
        self._context: int = config.text_config.max_position_embeddings
        loaded: Any = net
        self._net: Any = loaded.eval().to(self._device, getattr(torch, setup.dtype))
        self._reader = reader
        self._ids = _ids(reader, config.text_config, setup.name)
        marks = {reader.id_of(mark): mark for mark in _SHOWN}
        self._marks = {number: mark for number, mark in marks.items() if number is not None}

    @classmethod
    def from_files(cls, setup: Setup) -> Florence2:
        content = json.loads(setup.files["config.json"].read_text(encoding="utf-8"))
        config = configured(Florence2Config, content, setup.name)
        state = load_file(setup.files["model.safetensors"])
        net = filled(Florence2ForConditionalGeneration, config, state, getattr(torch, setup.dtype), setup.name)
        return cls(setup, net, Reader.from_file(setup.files["tokenizer.json"], setup.name))

    @classmethod
    def tiny(cls, setup: Setup, seed: int) -> Florence2:
        torch.manual_seed(seed)
        tokenizer = tiny_tokenizer()
        count = tokenizer.get_vocab_size()
        text = {**TINY_TEXT, "model_type": "bart", "vocab_size": count, **_ends(tokenizer)}
        config = Florence2Config(text_config=text, vision_config=TINY_VISION, image_token_id=count - 1)
        net = Florence2ForConditionalGeneration(config)
        with torch.no_grad():  # as built, the same token is the likeliest whatever came before
            for name, parameter in net.named_parameters():
                parameter.normal_(1.0 if "norm" in name and name.endswith("weight") else 0.0, 0.3)
        small = replace(setup, pixels=replace(setup.pixels, size=TINY_SIZE))
        return cls(small, net, Reader(tokenizer.to_str(), setup.name))

    @property
    def nbytes(self) -> int:
        return sum(parameter.numel() * parameter.element_size() for parameter in self._net.parameters())

    @property
    def vocabulary(self) -> tuple[str, ...]:
        return ()

    def prepare(self, image: NDArray[np.uint8]) -> geometry.View:
        return geometry.view(image, self._setup.pixels)

    def encode(self, batch: Array) -> dict[str, Array]:
        """(B, 3, h, w) to ``rows`` float32 (B, N, D)."""
        with torch.inference_mode():
            pixels = torch.from_numpy(batch).to(self._device, self._net.dtype)
            rows: Tensor = self._net.get_image_features(pixels).pooler_output  # (B, N, D)
        return {"rows": rows.float().cpu().numpy()}

    def chat(self, states: Sequence[Conversation], ask: Chat) -> list[Reply]:
        replies: list[Reply] = []
        for start in range(0, len(states), _AT_ONCE):
            some = [self._asked(state, ask) for state in states[start : start + _AT_ONCE]]
            pens = [_Pen(np.random.default_rng(ask.seed), ask) for _ in some]
            rows = self._rows([prompt for prompt, _ in some], pens)
            for number, token in rows:
                writing = some[number][1]
                self._tell(writing, token)
                pens[number].is_over = writing.is_over
            replies += [cast(Reply, writing.last().reply) for _, writing in some]
        return replies

    def talk(self, state: Conversation, ask: Chat) -> Iterator[Piece]:
        prompt, writing = self._asked(state, ask)
        pen = _Pen(np.random.default_rng(ask.seed), ask)
        rows = self._rows([prompt], [pen])

        def step() -> bytes | None:
            _, token = next(rows)
            return None if token == self._ids.end else self._bytes(token)

        return utterance.pieces(writing, step)

    def detect(self, states: Sequence[Encoded], ask: Detect) -> list[Detections]:
        """Raises:
        Untranslatable: a label in a language that the model does not read and that no table holds.
        BadRequest: a label that is too long.
        """
        if ask.labels is None:
            everything = self._said(states, [self._told([Span(TASKS["<OD>"])])] * len(states))
            return [self._named(state, ask, said) for state, said in zip(states, everything, strict=True)]
        wanted = naming.wanted(ask.labels, ask.phrases, self._setup.languages)
        sentences = [self._told(_filled(TASKS["<OPEN_VOCABULARY_DETECTION>"], one)) for one in wanted.phrases]
        pairs = [(state, ids) for state in states for ids in sentences]
        answers = self._said([state for state, _ in pairs], [ids for _, ids in pairs])
        owners = {place: label for label, group in reversed(list(enumerate(wanted.owners))) for place in group}
        results = []
        for number, state in enumerate(states):
            mine = answers[number * len(sentences) : (number + 1) * len(sentences)]
            found = [(owners[place], one) for place, answer in enumerate(mine) for one in finds(answer)]
            results.append(self._detections(state, ask, found, ask.labels, wanted.read_as))
        return results

    def _named(self, state: Encoded, ask: Detect, said: Sequence[Token]) -> Detections:
        """Boxes by the names that the model gave them; one without a name is left out."""
        found = [one for one in finds(said) if one.name]
        labels = tuple(dict.fromkeys(one.name for one in found))
        return self._detections(state, ask, [(labels.index(one.name), one) for one in found], labels, labels)

    def _detections(
        self,
        state: Encoded,
        ask: Detect,
        found: Sequence[tuple[int, Find]],
        labels: tuple[str, ...],
        read_as: tuple[str, ...],
    ) -> Detections:
        size_hw = state.place.size_hw
        xyxy = np.asarray([one.xyxy(size_hw) for _, one in found], np.float32).reshape(-1, 4)  # (N, 4)
        scores = np.asarray([one.score for _, one in found], np.float32)  # (N,)
        class_ids = np.asarray([label for label, _ in found], np.int64)  # (N,)
        threshold = 0.0 if ask.threshold is None else ask.threshold
        order = np.argsort(-scores, kind="stable")
        sides = (xyxy[order, 2:] - xyxy[order, :2]).min(1, initial=np.inf)
        index = order[(sides > _LEAST) & (scores[order] >= threshold)]
        overlap = NMS if ask.nms is None else ask.nms
        index = index[geometry.nms(xyxy[index], scores[index], overlap, class_ids[index])][: ask.top_k]
        return Detections(xyxy[index], scores[index], class_ids[index], labels, size_hw, read_as)

    def _said(self, states: Sequence[Encoded], asked: Sequence[Sequence[int]]) -> list[list[Token]]:
        """Whole answers to questions about one picture each."""
        lengths = [len(state.maps["rows"]) + len(ids) for state, ids in zip(states, asked, strict=True)]
        longest, most = max(lengths, default=0), self._context
        if longest > most:
            raise BadRequest(f"a label makes a prompt of {longest} tokens, where {self._setup.name} reads {most}")
        ask = Chat(min(_LONGEST, self._context - 2))
        answers: list[list[Token]] = [[] for _ in states]
        for start in range(0, len(states), _AT_ONCE):
            numbers = range(start, min(start + _AT_ONCE, len(states)))
            pens = [_Pen(np.random.default_rng(0), ask) for _ in numbers]
            prompts = [self._prompt(states[number], asked[number]) for number in numbers]
            for row, token in self._rows(prompts, pens):
                answer = answers[start + row]
                answer.append(self._token(token, pens[row].share))
                pens[row].is_over = token == self._ids.end or len(answer) >= ask.max_tokens
        return answers

    def _rows(self, prompts: Sequence[Tensor], pens: Sequence[_Pen]) -> Iterator[tuple[int, int]]:
        """Row and token, one for each answer that is not over, again and again; for the caller to say which are."""
        begin = [self._ids.end, self._ids.start]  # the decoder starts with the end of nothing, and then ``<s>``
        written = [Written(begin) for _ in prompts]
        tokens = torch.tensor([begin] * len(prompts), device=self._device)  # (B, 2)
        with torch.inference_mode():
            writer = Writer(self._net, prompts)
        while not all(pen.is_over for pen in pens):
            with torch.inference_mode():
                logits = writer.logits(tokens).cpu().numpy()  # (B, V)
            chosen = [self._ids.pad] * len(prompts)
            for row, pen in enumerate(pens):
                if not pen.is_over:
                    chosen[row] = pen.chosen(logits[row], written[row].banned)
                    written[row].add(chosen[row])
                    yield row, chosen[row]
            tokens = torch.tensor(chosen, device=self._device)[:, None]  # (B, 1)

    def _asked(self, state: Conversation, ask: Chat) -> tuple[Tensor, Utterance]:
        """The prompt (S, D), and the answer that is to be written.

        Raises:
            BadRequest: it is longer than the context, or a task name with something missing.
            Unsupported: a schema.
        """
        if ask.schema is not None:
            raise Unsupported(f"{self._setup.name} cannot be held to a schema: ask without one")
        picture = cast(Encoded, state.pictures[-1]) if state.pictures else None
        ids = self._told(_question(state.turns[-1].text), "conversation")
        rows = 0 if picture is None else len(picture.maps["rows"])
        count = rows + len(ids)
        # Prompt and answer have a context each.
        context = count + self._context - 2 if count <= self._context else self._context
        writing = Utterance(ask, Length(count, rows, context))
        return self._prompt(picture, ids), writing

    def _told(self, spans: Sequence[Span], what: str = "text") -> list[int]:
        """A sentence as the encoder reads it, ``<s>`` and ``</s>`` around it; ``what`` errors call it.

        Raises:
            BadRequest: one that is far too long.
        """
        self._reader.check_letters(sum(len(span.text) for span in spans), self._context, what)
        return [self._ids.start, *self._reader.ids(spans), self._ids.end]

    def _prompt(self, picture: Encoded | None, ids: Sequence[int]) -> Tensor:
        """The picture's rows and the words', (S, D)."""
        with torch.inference_mode():
            words: Tensor = self._net.get_input_embeddings()(torch.tensor(ids, device=self._device))  # (T, D)
            if picture is None:
                return words
            rows = torch.from_numpy(np.array(picture.maps["rows"], np.float32)).to(words.device, words.dtype)
            return torch.cat([rows, words])  # (N + T, D)

    def _tell(self, writing: Utterance, token: int) -> None:
        if token == self._ids.end:
            writing.end()
        else:
            writing.add(self._bytes(token))

    def _token(self, token: int, share: float) -> Token:
        if self._ids.places <= token < self._ids.places + BINS:
            return Token(bin=token - self._ids.places, share=share)
        if token in self._marks:
            return Token(mark=self._marks[token], share=share)
        return Token(self._reader.bytes_of(token), share=share)

    def _bytes(self, token: int) -> bytes:
        """Of a token: places and marks such as ``<poly>`` as they are written, nothing for ``<s>`` and its like."""
        if self._ids.places <= token < self._ids.places + BINS:
            return f"<loc_{token - self._ids.places}>".encode()
        return self._marks[token].encode() if token in self._marks else self._reader.bytes_of(token)


class _Pen:
    """How one answer goes on."""

    def __init__(self, rng: np.random.Generator, ask: Chat) -> None:
        self._rng, self._ask = rng, ask
        self.share = 1.0  # the model's own probability of the last token
        self.is_over = False

    def chosen(self, logits: Array, banned: Sequence[int]) -> int:
        """The next token, of those that are not banned. (V,)."""
        allowed = logits.copy()
        allowed[list(banned)] = -np.inf
        token = utterance.drawn(allowed, self._ask, self._rng)
        raised = np.exp(logits.astype(np.float64) - logits.max())
        self.share = float(raised[token] / raised.sum())
        return token


def tiny_tokenizer() -> Tokenizer:
    """One token per byte, with the family's marks; ``<image>`` last."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = [_START, _PAD, _END, "<unk>", *alphabet]
    tokenizer = Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    marks = [*pieces[:4], *(f"<loc_{number}>" for number in range(BINS)), "<sep>", "<poly>", "</poly>", _IMAGE]
    tokenizer.add_special_tokens([AddedToken(mark, special=True, normalized=False) for mark in marks])
    return tokenizer


def _question(text: str) -> list[Span]:
    """What the encoder is asked.

    Raises:
        BadRequest: a task name that wants something and has nothing, or has something that it does not want.
    """
    found = _TASK.fullmatch(text)
    if found is None or found[1] not in TASKS:
        return [Span(text.strip(), is_said=True)] if text.strip() else [Span(TASKS["<CAPTION>"])]
    name, about = found[1], found[2].strip()
    sentence = TASKS[name]
    if ("{}" in sentence) != bool(about):
        raise BadRequest(f"{name}: {'say after it what it is about' if not about else 'nothing stands after it'}")
    if not name.startswith("<REGION_TO_"):
        return _filled(sentence, about)
    if len(_PLACE.findall(about)) < 4 or _PLACE.sub("", about).strip():
        raise BadRequest(f"{name}: want four places after it, such as <loc_52><loc_332><loc_932><loc_774>")
    return [Span(sentence.replace("{}", about))]


def _filled(sentence: str, about: str) -> list[Span]:
    """The family's sentence with the user's words in their place."""
    before, has_place, after = sentence.partition("{}")
    return [Span(before), Span(about, is_said=True), Span(after)] if has_place else [Span(sentence)]


def _ids(reader: Reader, config: Any, name: str) -> _Ids:
    found: list[int] = []
    for mark in (_START, _PAD, _END, "<loc_0>", f"<loc_{BINS - 1}>"):
        number = reader.id_of(mark)
        if number is None:
            raise BadWeights(f"{name}: tokenizer.json has no {mark}: not Florence-2's")
        found.append(number)
    start, pad, end, first, last = found
    if last - first != BINS - 1 or config.decoder_start_token_id != end:
        raise BadWeights(f"{name}: tokenizer.json and config.json number their tokens differently")
    return _Ids(start, pad, end, first)


def _ends(tokenizer: Tokenizer) -> dict[str, int | None]:
    start, pad, end = (tokenizer.token_to_id(mark) for mark in (_START, _PAD, _END))
    return {"bos_token_id": start, "pad_token_id": pad, "eos_token_id": end, "decoder_start_token_id": end}
