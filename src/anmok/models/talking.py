"""Every language model that transformers runs, with eyes or without: one file, and a table of what differs.

A picture is seen once and kept as rows; a conversation is rendered by the model's own template, in which what was
typed stays letters; how many tokens a picture takes is known before the net runs, and checked. What a family needs is
in ``nets.families``; how its tower looks, in ``nets.eyes``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

from anmok import utterance
from anmok.errors import BadWeights, Unsupported
from anmok.geometry import Frame, View
from anmok.inputs import Conversation, Encoded, Frames
from anmok.nets import toys
from anmok.nets.eyes import Size
from anmok.nets.families import Family, Watching, family_of
from anmok.nets.pretrained import configured, filled
from anmok.nets.speaking import Script, Seen, Speaker
from anmok.results import Piece, Reply
from anmok.tasks import Chat, Setup
from anmok.utterance import Length, Utterance
from anmok.wording import Reader, Template

Array = NDArray[np.float32]

_FEWEST = 2048  # tokens of a context that says nothing of itself


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """What is read out of a checkpoint's files. ``facts`` are those of its preprocessor."""

    family: Family
    net: nn.Module
    reader: Reader
    template: Template
    ends: frozenset[int]
    facts: Mapping[str, Any]


class Talks:
    """A model that reads text alone."""

    most_pictures = 0

    def __init__(self, setup: Setup, parts: Parts) -> None:
        self._setup, self._parts = setup, parts
        net: Any = parts.net.eval().to(setup.device, getattr(torch, setup.dtype))
        self._net = net
        self._eyes: Any = parts.family.eyes(net, parts.facts) if parts.family.eyes is not None else None
        text = net.config.get_text_config()
        self._context = int(getattr(text, "max_position_embeddings", None) or _FEWEST)
        self._speaker = Speaker(parts.family.reading(net, self._eyes), text, setup.device)
        self._marks = frozenset(found for mark in parts.family.marks if (found := parts.reader.id_of(mark)) is not None)

    @classmethod
    def from_files(cls, setup: Setup) -> Talks:
        return _made(setup, _read(setup))

    @classmethod
    def tiny(cls, setup: Setup, seed: int) -> Talks:
        family = family_of(setup.kind, setup.name)
        toy = toys.toy(setup.kind, family, seed)
        template = Template(toy.template, family.content, family.slots, {}, setup.name)
        reader = Reader(toy.tokenizer, setup.name)
        return _made(setup, Parts(family, toy.net, reader, template, toy.ends, toy.facts))

    @property
    def nbytes(self) -> int:
        return sum(tensor.numel() * tensor.element_size() for tensor in self._net.state_dict().values())

    def chat(self, states: Sequence[Conversation], ask: Chat) -> list[Reply]:
        if ask.schema is not None:
            raise Unsupported(f"{self._setup.name} cannot be held to a schema: ask without one")
        if len(states) == 1:
            return [utterance.whole(self.talk(states[0], ask))]
        scripts = [self._script(state) for state in states]
        writing = [Utterance(ask, self._length(script)) for script in scripts]
        run = self._speaker.begin(scripts)
        draws = [np.random.default_rng(ask.seed) for _ in scripts]
        left = list(range(len(scripts)))
        while left:
            tokens = [utterance.drawn(run.logits[i], ask, draws[one]) for i, one in enumerate(left)]
            for one, token in zip(left, tokens, strict=True):
                self._add(writing[one], token)
            going = [i for i, one in enumerate(left) if not writing[one].is_over]
            if going and len(going) < len(left):
                run.only(going)
            left, tokens = [left[i] for i in going], [tokens[i] for i in going]
            if left:
                run.step(tokens)
        return [cast(Reply, one.last().reply) for one in writing]

    def talk(self, state: Conversation, ask: Chat) -> Iterator[Piece]:
        if ask.schema is not None:
            raise Unsupported(f"{self._setup.name} cannot be held to a schema: ask without one")
        script = self._script(state)
        return self._pieces(script, Utterance(ask, self._length(script)), ask)

    def _pieces(self, script: Script, writing: Utterance, ask: Chat) -> Iterator[Piece]:
        run = self._speaker.begin([script])
        rng = np.random.default_rng(ask.seed)
        try:
            while True:
                token = utterance.drawn(run.logits[0], ask, rng)
                text = self._add(writing, token)
                if writing.is_over:
                    break
                if text:
                    yield Piece(text)
                run.step([token])
        finally:  # what was read is worth keeping also where nobody waits for the rest
            self._speaker.remember(run)
        yield Piece(text) if text else Piece("")
        yield writing.last()

    def _add(self, writing: Utterance, token: int) -> str:
        """One token more, or the end; the text that can be shown."""
        if token in self._parts.ends:
            writing.end()
            return ""
        return writing.add(self._parts.reader.bytes_of(token, is_first=not writing.has_begun))

    def _length(self, script: Script) -> Length:
        images = int(script.is_picture.sum())
        return Length(len(script.ids), images, self._context)

    def _script(self, state: Conversation) -> Script:
        """As the net reads it.

        Raises:
            BadRequest: the template refuses it.
            BadWeights: tokenizer or template do not fit the net: other image tokens than were foretold.
        """
        shown = [self._shown(one) for one in state.shown]
        spans = self._parts.template.spans(state, [text for text, _ in shown])
        ids = self._parts.reader.ids(spans)
        script = Script(tuple(ids), tuple(seen for _, rows in shown for seen in rows), self._marks)
        wanted = sum(len(one.rows) for one in script.seen)
        if (found := int(script.is_picture.sum())) != wanted:
            raise BadWeights(f"{self._setup.name}: {found} image tokens in the prompt, and {wanted} rows for them")
        return script

    def _shown(self, one: object) -> tuple[str, tuple[Seen, ...]]:
        raise AssertionError("checked before: it only reads")


class Looks(Talks):
    """A model with eyes."""

    def __init__(self, setup: Setup, parts: Parts) -> None:
        super().__init__(setup, parts)
        self.most_pictures = parts.family.most_pictures

    def prepare(self, image: NDArray[np.uint8]) -> View:
        return View(self._eyes.prepare(image), Frame((1.0, 1.0), (0.0, 0.0), image.shape[:2]))

    def encode(self, batch: Array) -> dict[str, Array]:
        """(B, T, 3, h, w) to ``rows`` (B, N, W)."""
        return {"rows": self._rows(self._eyes, batch)}

    def _rows(self, eyes: Any, batch: Array) -> Array:
        with torch.inference_mode():
            rows: Tensor = eyes.encode(torch.from_numpy(batch).to(self._setup.device))
        plain: Array = rows.float().cpu().numpy()
        return plain

    def _shown(self, one: object) -> tuple[str, tuple[Seen, ...]]:
        return self._picture(self._eyes, cast(Encoded, one))

    def _picture(self, eyes: Any, state: Encoded) -> tuple[str, tuple[Seen, ...]]:
        size: Size = state.place.size_hw
        rows = torch.from_numpy(np.array(state.maps["rows"])).to(self._setup.device, getattr(torch, self._setup.dtype))
        with torch.inference_mode():
            return eyes.slot(size), (Seen(eyes.packed(rows, size), size),)


class LooksAndWatches(Looks):
    """A model that takes clips as well."""

    most_clips = 1

    def __init__(self, setup: Setup, parts: Parts) -> None:
        super().__init__(setup, parts)
        self._watching = cast(Watching, parts.family.watching)
        self.most_frames, self.usual_fps = self._watching.most_frames, self._watching.fps
        made = self._watching.eyes
        self._frames: Any = self._eyes if made is None else made(self._net, parts.facts)

    def encode(self, batch: Array) -> dict[str, Array]:
        """Pictures (B, T, 3, h, w); or frames (B, 3, h, w), of families that look at these in another way."""
        is_film = batch.ndim == 4 and hasattr(self._frames, "film")
        return {"rows": self._rows(self._frames if is_film else self._eyes, batch)}

    def prepare_frame(self, image: NDArray[np.uint8]) -> View:
        return View(self._frames.prepare(image), Frame((1.0, 1.0), (0.0, 0.0), image.shape[:2]))

    def _shown(self, one: object) -> tuple[str, tuple[Seen, ...]]:
        if not isinstance(one, Frames):
            return super()._shown(one)
        found = [self._picture(self._frames, cast(Encoded, picture)) for picture in one.pictures]
        if hasattr(self._frames, "film"):
            return self._film([seen for _, (seen,) in found])
        texts = [self._before(number, seconds) for number, seconds in enumerate(one.seconds, 1)]
        slots = [f"{text}{slot}{self._watching.after}" for text, (slot, _) in zip(texts, found, strict=True)]
        return "".join(slots), tuple(seen for _, rows in found for seen in rows)

    def _film(self, frames: Sequence[Seen]) -> tuple[str, tuple[Seen, ...]]:
        """Of a family that makes one thing of all frames."""
        with torch.inference_mode():
            rows = self._frames.film(torch.stack([one.rows for one in frames]))  # (M, W)
        return self._frames.film_slot(len(frames)), (Seen(rows, frames[0].size_hw),)

    def _before(self, number: int, seconds: float) -> str:
        whole = int(seconds)
        clock = f"{whole // 60:02d}:{whole % 60:02d}"
        return self._watching.before.format(number=number, seconds=seconds, clock=clock)


def _made(setup: Setup, parts: Parts) -> Talks:
    if parts.family.eyes is None:
        return Talks(setup, parts)
    return Looks(setup, parts) if parts.family.watching is None else LooksAndWatches(setup, parts)


def _read(setup: Setup) -> Parts:
    content = _json(setup, "config.json")
    family = family_of(content.get("model_type"), setup.name)
    kind: Any = family.made()
    config = configured(kind.config_class, content, setup.name)
    state = {
        key: tensor
        for name, path in setup.files.items()
        if name.endswith(".safetensors")
        for key, tensor in load_file(path).items()
    }
    net = filled(kind, config, state, getattr(torch, setup.dtype), setup.name)
    reader = Reader.from_file(setup.files["tokenizer.json"], setup.name)
    settings = _json(setup, "tokenizer_config.json")
    template = Template(
        _template(setup, settings, family), family.content, family.slots, _special(settings), setup.name
    )
    generation = _json(setup, "generation_config.json")
    facts = _json(setup, "preprocessor_config.json") or _json(setup, "processor_config.json").get("image_processor", {})
    return Parts(family, net, reader, template, _ends(setup, reader, family, (generation, content, settings)), facts)


def _json(setup: Setup, name: str) -> dict[str, Any]:
    """What a file holds; nothing where the checkpoint has none."""
    if name not in setup.files:
        return {}
    try:
        found = json.loads(setup.files[name].read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadWeights(f"{setup.name}: {name} is no JSON ({error})") from None
    if not isinstance(found, dict):
        raise BadWeights(f"{setup.name}: {name} holds no object")
    return found


def _template(setup: Setup, settings: Mapping[str, Any], family: Family) -> str:
    if "chat_template.jinja" in setup.files:
        return setup.files["chat_template.jinja"].read_text(encoding="utf-8")
    found = _json(setup, "chat_template.json").get("chat_template") or settings.get("chat_template") or family.template
    if isinstance(found, list):  # several, by name
        found = next((one.get("template") for one in found if one.get("name") == "default"), None)
    if not isinstance(found, str) or not found:
        raise BadWeights(f"{setup.name}: no chat template, so it was not made to chat")
    return found


def _special(settings: Mapping[str, Any]) -> dict[str, str]:
    """Texts of tokens that templates ask for by name."""
    found = {}
    for key in ("bos_token", "eos_token", "pad_token", "unk_token"):
        value = settings.get(key)
        found[key] = str(value.get("content", "")) if isinstance(value, dict) else str(value or "")
    return found


def _ends(setup: Setup, reader: Reader, family: Family, sources: Sequence[Mapping[str, Any]]) -> frozenset[int]:
    """Tokens that end an answer, by number and by name.

    Raises:
        BadWeights: none, so that no answer would end."""
    numbers: set[int] = set()
    for source in sources:
        given = source.get("eos_token_id")
        numbers |= {int(one) for one in (given if isinstance(given, list) else [given]) if one is not None}
    named = {_special(sources[-1])["eos_token"], *family.ends}
    numbers |= {found for one in named if one and (found := reader.id_of(one)) is not None}
    if not numbers:
        raise BadWeights(f"{setup.name}: no token ends its answers: eos_token_id is missing")
    return frozenset(numbers)
