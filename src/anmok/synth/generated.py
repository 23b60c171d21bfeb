"""Pictures of any model that draws from words: what it needs to be, and the provenance that its pictures carry."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol, runtime_checkable

from anmok import media
from anmok.errors import BadData, BadRequest
from anmok.media import Source
from anmok.results import Masks
from anmok.synth.pictures import Made, Provenance
from anmok.synth.recipes import check_label


@runtime_checkable
class Generates(Protocol):
    """From a prompt and a seed to a picture. ``Given`` makes one of any iterable of pictures."""

    def __call__(self, prompt: str, seed: int) -> Source: ...


class Given:
    """Pictures that are there already, handed out one after another whatever the prompt is."""

    def __init__(self, pictures: Iterable[Source]) -> None:
        self._pictures = iter(pictures)

    def __call__(self, prompt: str, seed: int) -> Source:
        """The next picture.

        Raises:
            BadData: there are no more.
        """
        try:
            return next(self._pictures)
        except StopIteration:
            raise BadData(f"no picture left for {prompt!r} (number {seed}): give more, or ask for fewer") from None


def generated(
    generator: Generates | Iterable[Source],
    prompts: Mapping[str, Sequence[str]],
    count: int,
    seed: int,
    *,
    name: str,
    licence: str,
) -> Iterator[Made]:
    """``count`` pictures, labels and their prompts in turn. Picture ``index`` is asked for with ``seed + index``.

    Nothing says where in such a picture anything is, so it has no masks, and its label is what was asked for, not
    what was checked. ``name`` and ``licence`` are those of the generator's weights; both must be told.

    Raises:
        BadRequest: no prompts, or no name or licence.
        BadMedia: the generator's picture is none.
        BadData: an iterable ran out of pictures.
    """
    if not prompts or not all(prompts.values()):
        raise BadRequest("no prompts: give at least one for each label")
    if not name or not licence:
        raise BadRequest("a generator's name and licence go into the table: give both")
    for label in prompts:
        check_label("label", label)
    draw = generator if isinstance(generator, Generates) else Given(generator)
    text = json.dumps([name, {label: list(lines) for label, lines in prompts.items()}], ensure_ascii=False)
    recipe = hashlib.sha256(text.encode()).hexdigest()[:12]
    told = (Provenance(recipe, seed, index, generator=name, licence=licence) for index in range(count))
    return (_one(draw, prompts, one) for one in told)


def _one(draw: Generates, prompts: Mapping[str, Sequence[str]], provenance: Provenance) -> Made:
    turn, number = divmod(provenance.index, len(prompts))
    label = list(prompts)[number]
    lines = prompts[label]
    image = media.read(draw(lines[turn % len(lines)], provenance.seed + provenance.index))
    return Made(image, Masks.none((label,), (image.shape[0], image.shape[1])), label, -1, provenance)
