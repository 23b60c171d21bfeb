"""Every language model that transformers runs, with eyes and ears or without: one file, and a table of what differs.

A picture is seen once and kept as rows, and a sound heard once; a conversation is rendered by the model's own template,
in which what was typed stays letters; how many tokens a picture takes is known before the net runs, and checked. What a
family needs is in ``nets.families``; how its tower looks, in ``nets.eyes``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anmok import choosing, utterance
from anmok.errors import BadWeights, WrongState
from anmok.geometry import Frame, View
from anmok.inputs import Conversation, Encoded, Frames, Sound
from anmok.nets import talker_files
from anmok.nets.answers import Answer
from anmok.nets.eyes import Size
from anmok.nets.families import Listening
from anmok.nets.lean import lay_out_senses, nearness
from anmok.nets.lean_weights import laid_nbytes
from anmok.nets.likelihood import Likelihood
from anmok.nets.readings import Alone, Packed, reading_of
from anmok.nets.speaking import Script, Seen, Speaker
from anmok.nets.talker_files import Parts
from anmok.nets.watching import Watching
from anmok.results import Piece, Reply, Scores
from anmok.tasks import Chat, Classify, Setup
from anmok.utterance import Length, Utterance
from anmok.wording import Guide, Span
from anmok.wording.answering import answer_ids

Array = NDArray[np.float32]

_FEWEST = 2048  # tokens of a context that says nothing of itself
_NOWHERE = (0, 0)  # the size of a sound
_OF_FRAME = "this state is of a frame, to be seen beside the others of its clip: encode the picture"
_OF_PICTURE = "a state among these frames is of a picture by itself: watch the clip, or show pictures"


class Talks:
    """A model that reads text alone."""

    most_pictures = 0

    def __init__(self, setup: Setup, parts: Parts) -> None:
        self._setup, self._parts = setup, parts
        net: Any = parts.net.eval().to(setup.device)
        self._net = net
        is_near = setup.runtime == "fastest" and setup.device == "cpu" and lay_out_senses(net, parts.family.senses) > 0
        self.mark = nearness() if is_near else ""  # of states, in the name of their maker
        self._eyes: Any = parts.family.eyes(net, parts.facts) if parts.family.eyes is not None else None
        text = net.config.get_text_config()
        self._context = int(getattr(text, "max_position_embeddings", None) or _FEWEST)
        reading = reading_of(net, parts.family.reading, self._eyes, is_fastest=setup.runtime == "fastest")
        self._is_alone = isinstance(reading, Alone)
        self._speaker = Speaker(reading, text, setup.device)
        weighing = reading if isinstance(net, Packed) else parts.family.reading(net, self._eyes)
        self._likelihood = Likelihood(weighing, text, setup.device, parts.ends)
        listening = parts.family.hearing
        self._sound = None if listening is None else parts.reader.id_of(listening.sound)
        self._marks = frozenset(found for mark in parts.family.marks if (found := parts.reader.id_of(mark)) is not None)

    @classmethod
    def from_files(cls, setup: Setup) -> Talks:
        return _made(setup, talker_files.read(setup))

    @classmethod
    def tiny(cls, setup: Setup, seed: int) -> Talks:
        return _made(setup, talker_files.toy(setup, seed))

    @property
    def nbytes(self) -> int:
        if isinstance(self._net, Packed):
            return self._net.lean.nbytes
        plain: int = sum(tensor.numel() * tensor.element_size() for tensor in self._net.state_dict().values())
        return plain + laid_nbytes(self._net)

    def tokens_of(self, text: str) -> int:
        """How many a text is by itself, for whoever writes into a prompt."""
        return len(self._parts.reader.ids([Span(text, is_said=True)]))

    def chat(self, states: Sequence[Conversation], ask: Chat) -> list[Reply]:
        if len(states) == 1 or self._is_alone:
            return [utterance.whole(self.talk(state, ask)) for state in states]
        scripts = [self._script(state) for state in states]
        writing = [self._answer(script, ask) for script in scripts]
        run = self._speaker.begin(scripts)
        left = list(range(len(scripts)))
        while left:
            tokens = [writing[one].drawn(run.logits[i]) for i, one in enumerate(left)]
            going = [i for i, one in enumerate(left) if not writing[one].is_over]
            if going and len(going) < len(left):
                run.only(going)
            left, tokens = [left[i] for i in going], [tokens[i] for i in going]
            if left:
                run.step(tokens)
        return [cast(Reply, one.last().reply) for one in writing]

    def talk(self, state: Conversation, ask: Chat) -> Iterator[Piece]:
        script = self._script(state)
        return self._pieces(script, self._answer(script, ask))

    def _pieces(self, script: Script, writing: Answer) -> Iterator[Piece]:
        run = self._speaker.begin([script])
        try:
            while True:
                token = writing.drawn(run.logits[0])
                if writing.is_over:
                    break
                if writing.text:
                    yield Piece(writing.text)
                run.step([token])
        finally:  # what was read is worth keeping also where nobody waits for the rest
            self._speaker.remember(run)
        yield Piece(writing.text)
        yield writing.last()

    @cached_property
    def _guide(self) -> Guide:
        text = self._net.config.get_text_config()
        return Guide(self._parts.reader, self._parts.ends, int(text.vocab_size))

    def _answer(self, script: Script, ask: Chat) -> Answer:
        held = None if ask.schema is None else self._guide.start(ask.schema)
        return Answer(self._parts.reader, self._parts.ends, Utterance(ask, self._length(script)), ask, held)

    def _length(self, script: Script) -> Length:
        sounds = sum(one == self._sound for one in script.ids)
        return Length(len(script.ids), int(script.is_picture.sum()) - sounds, self._context, sounds)

    def _script(self, state: Conversation, whole: Conversation | None = None) -> Script:
        """As the net reads it; or as it reads the ``whole``, of which it is all but what the last turn shows.

        Raises:
            BadRequest: the template refuses it, or it is longer than all that the model reads.
            BadWeights: tokenizer or template do not fit the net: other image tokens than were foretold.
        """
        pictures = len((whole or state).pictures)
        shown = [self._shown(one, pictures) for one in state.shown]
        spans = self._parts.template.spans(state, [text for text, _ in shown])
        opening = self._parts.opening
        if opening and (not spans or spans[0].is_said or not spans[0].text.startswith(opening)):
            spans = [Span(opening), *spans]
        self._parts.reader.check_letters(sum(len(span.text) for span in spans if span.is_said), self._context)
        ids = self._parts.reader.ids(spans)
        way = self._parts.family.way(pictures, len((whole or state).sounds))
        script = Script(tuple(ids), tuple(seen for _, rows in shown for seen in rows), self._marks, way)
        wanted = sum(len(one.rows) for one in script.seen)
        if (found := int(script.is_picture.sum())) != wanted:
            raise BadWeights(f"{self._setup.name}: {found} image tokens in the prompt, and {wanted} rows for them")
        return script

    def _shown(self, one: object, pictures: int) -> tuple[str, tuple[Seen, ...]]:
        raise AssertionError("checked before: it only reads")

    def _rows(self, senses: Any, batch: Array) -> Array:
        with torch.inference_mode():
            rows: Tensor = senses.encode(torch.from_numpy(batch).to(self._setup.device))
        plain: Array = rows.float().cpu().numpy()
        return plain


class Looks(Talks):
    """A model with eyes."""

    def __init__(self, setup: Setup, parts: Parts) -> None:
        super().__init__(setup, parts)
        self.most_pictures = parts.family.most_pictures

    def classify(self, states: Sequence[Encoded | Conversation], ask: Classify) -> list[Scores]:
        """By how likely each label is as the answer to a question about the picture, or to a conversation.

        Raises:
            BadRequest: it does not fit the context, or its last turn shows no picture.
        """
        return [choosing.chosen(state, ask, self._setup, self._weighed) for state in states]

    def _weighed(
        self, blind: Conversation, said: Conversation, answers: tuple[str, ...]
    ) -> tuple[choosing.Array, choosing.Array]:
        script = self._script(said)
        ids = answer_ids(self._parts.reader, self._parts.template, answers)
        longest = max(len(one) for one in ids)
        replace(self._length(script), tokens=len(script.ids) + longest).room(Chat())
        return self._likelihood.weighed(self._script(blind, said), script, ids)

    def prepare(self, image: NDArray[np.uint8]) -> View:
        return View(self._eyes.prepare(image), Frame((1.0, 1.0), (0.0, 0.0), image.shape[:2]))

    def encode(self, batch: Array) -> dict[str, Array]:
        """(B, T, 3, h, w) to ``rows`` (B, N, W)."""
        return {"rows": self._rows(self._eyes, batch)}

    def _shown(self, one: object, pictures: int) -> tuple[str, tuple[Seen, ...]]:
        eyes = self._eyes if pictures < 2 else getattr(self._eyes, "among", self._eyes)  # another way for several
        return self._picture(eyes, cast(Encoded, one), "rows", _OF_FRAME)

    def _picture(self, eyes: Any, state: Encoded, key: str, wrong: str) -> tuple[str, tuple[Seen]]:
        """``wrong`` is said, as ``WrongState``, of one that was looked at in another way."""
        size: Size = state.place.size_hw
        if key not in state.maps:
            raise WrongState(wrong)
        rows = torch.from_numpy(np.array(state.maps[key])).to(self._setup.device, getattr(torch, self._setup.dtype))
        with torch.inference_mode():
            slot, seen = eyes.slot(size), Seen(eyes.packed(rows, size), size)
        is_apart = key == "rows" and getattr(self, "_frames", self._eyes) is not self._eyes  # frames are seen otherwise
        if is_apart and sum(slot.count(mark) for mark in self._parts.family.marks) != len(seen.rows):
            raise WrongState(wrong)
        return slot, (seen,)


class LooksAndWatches(Looks):
    """A model that takes clips as well."""

    most_clips = 1

    def __init__(self, setup: Setup, parts: Parts) -> None:
        super().__init__(setup, parts)
        self._watching = cast(Watching, parts.family.watching)
        made, self.usual_fps = self._watching.eyes, self._watching.fps
        self._frames: Any = self._eyes if made is None else made(self._net, parts.facts)
        self.most_frames = getattr(self._frames, "most", self._watching.most_frames)  # where the checkpoint says it

    def encode(self, batch: Array) -> dict[str, Array]:
        """Pictures (B, T, 3, h, w); or frames (B, 3, h, w), of families that look at these in another way. Levels uint8
        are those of frames that are seen together, and kept until then."""
        if batch.dtype == np.uint8:
            return {"levels": batch}
        is_film = batch.ndim == 4 and hasattr(self._frames, "film")
        return {"look": self._rows(self._frames, batch)} if is_film else super().encode(batch)

    def frame_size(self, first_hw: Size, count: int) -> Size | None:
        """Of families that see frames together and show many of them smaller."""
        return self._frames.size(first_hw, count) if hasattr(self._frames, "size") else None

    def prepare_frame(self, image: NDArray[np.uint8], size_hw: Size | None = None) -> View:
        told = () if size_hw is None else (size_hw,)
        return View(self._frames.prepare(image, *told), Frame((1.0, 1.0), (0.0, 0.0), image.shape[:2]))

    def _shown(self, one: object, pictures: int) -> tuple[str, tuple[Seen, ...]]:
        if not isinstance(one, Frames):
            return super()._shown(one, pictures)
        if hasattr(self._frames, "reel"):
            return self._reel(one)
        is_film = hasattr(self._frames, "film")
        key = "look" if is_film else "rows"
        found = [self._picture(self._frames, cast(Encoded, state), key, _OF_PICTURE) for state in one.pictures]
        if is_film:
            return self._film([seen for _, (seen,) in found])
        whole = self._watching.around([slot for slot, _ in found], one.seconds)
        return whole, tuple(seen for _, rows in found for seen in rows)

    def _film(self, frames: Sequence[Seen]) -> tuple[str, tuple[Seen, ...]]:
        """Of a family that makes one thing of all frames."""
        with torch.inference_mode():
            rows = self._frames.film(torch.stack([one.rows for one in frames]))  # (M, W)
        return self._frames.film_slot(len(frames)), (Seen(rows, frames[0].size_hw),)

    def _reel(self, one: Frames) -> tuple[str, tuple[Seen, ...]]:
        """Of a family that sees all frames together."""
        states = [cast(Encoded, picture) for picture in one.pictures]
        if not all("levels" in state.maps for state in states):
            raise WrongState(_OF_PICTURE)
        levels = [np.asarray(state.maps["levels"]) for state in states]  # each (3, h, w)
        with torch.inference_mode():
            text, parts = self._frames.reel(levels, one.seconds, states[0].place.size_hw)
        return text, tuple(Seen(rows, place) for rows, place in parts)


class Hears(Talks):
    """What a model with ears has beside."""

    def __init__(self, setup: Setup, parts: Parts) -> None:
        super().__init__(setup, parts)
        listening = cast(Listening, parts.family.hearing)
        self._ears: Any = listening.ears(self._net, parts.facts)
        self.most_sounds = listening.most_sounds
        self.sound_rate, self.most_seconds = self._ears.rate, float(self._ears.seconds)

    def prepare_sound(self, samples: Array, *, is_of_clip: bool) -> Array:
        prepared: Array = (self._ears.prepare_track if is_of_clip else self._ears.prepare)(samples)
        return prepared

    def encode_sound(self, prepared: Array) -> dict[str, Array]:
        """One sound to ``rows`` (N, W)."""
        return {"rows": self._rows(self._ears, prepared[None])[0]}

    def _shown(self, one: object, pictures: int) -> tuple[str, tuple[Seen, ...]]:
        if isinstance(one, Sound):
            return self._heard(one, pictures)
        text, seen = super()._shown(one, pictures)
        if not isinstance(one, Frames) or one.sound is None:
            return text, seen
        heard, rows = self._heard(one.sound, pictures)
        return text + heard, (*seen, *rows)

    def _heard(self, sound: Sound, pictures: int) -> tuple[str, tuple[Seen, ...]]:
        state = cast(Encoded, sound.source)
        rows = torch.from_numpy(np.array(state.maps["rows"])).to(self._setup.device, getattr(torch, self._setup.dtype))
        if hasattr(self._ears, "packed"):  # of a family that hears in another way what it sees something beside
            rows = self._ears.packed(rows, is_beside_picture=pictures > 0)
        return self._ears.slot(len(rows)), (Seen(rows, _NOWHERE),)


class LooksAndHears(Hears, Looks):
    """One that takes pictures and sounds, and no clips."""


class LooksWatchesAndHears(Hears, LooksAndWatches):
    """One that takes clips as well, with their sound or without."""


def _made(setup: Setup, parts: Parts) -> Talks:
    family = parts.family
    if family.eyes is None:
        return (Talks if family.hearing is None else Hears)(setup, parts)
    if family.watching is None:
        return (Looks if family.hearing is None else LooksAndHears)(setup, parts)
    return (LooksAndWatches if family.hearing is None else LooksWatchesAndHears)(setup, parts)
