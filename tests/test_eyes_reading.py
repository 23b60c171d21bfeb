"""From a picture to logits by our parts, for each family of tiles, against transformers' whole net."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import tiny_eyes
from anmok.nets.eyes import Eyes
from anmok.nets.eyes.anyres import AnyRes, AnyResRules
from anmok.nets.eyes.idefics import Idefics
from anmok.nets.eyes.internvl import InternVL
from anmok.nets.eyes.reading import Language
from anmok.nets.eyes.square import Square
from test_eyes_anyres import tiny_next, tiny_onevision
from test_eyes_idefics import TINY as IDEFICS
from test_eyes_idefics import tiny_net as tiny_idefics
from test_eyes_internvl import TINY as INTERN
from test_eyes_internvl import tiny_net as tiny_internvl
from test_eyes_square import TINY as SQUARE
from test_eyes_square import tiny_net as tiny_llava

IMAGE = 300
SIZE_HW = (9, 31)

Pixels = dict[str, Any]


def any_res(net: Any, tile: int) -> AnyRes:
    return AnyRes(net, AnyResRules.of({"size": {"height": tile, "width": tile}}, net.config))


def one_of_a_batch(tiles: torch.Tensor) -> Pixels:
    return {"pixel_values": tiles[None]}


def sized(tiles: torch.Tensor) -> Pixels:
    return {"pixel_values": tiles[None], "image_sizes": torch.tensor([SIZE_HW])}


FAMILIES: dict[str, tuple[Callable[[], Any], Callable[[Any], Eyes], Callable[[torch.Tensor], Pixels]]] = {
    "llava": (tiny_llava, lambda net: Square(net, SQUARE), one_of_a_batch),
    "idefics3": (lambda: tiny_idefics("idefics3"), lambda net: Idefics(net, IDEFICS), one_of_a_batch),
    "smolvlm": (tiny_idefics, lambda net: Idefics(net, IDEFICS), one_of_a_batch),
    "internvl": (tiny_internvl, lambda net: InternVL(net, INTERN), lambda tiles: {"pixel_values": tiles}),
    "next": (tiny_next, lambda net: any_res(net, 16), sized),
    "next video": (lambda: tiny_next("video"), lambda net: any_res(net, 16), sized),
    "onevision": (tiny_onevision, lambda net: any_res(net, 20), sized),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_those_of_the_whole_net(family: str) -> None:
    make, look, given = FAMILIES[family]
    net = make()
    eyes, language = look(net), Language.of(net)
    slot = eyes.slot(SIZE_HW)
    images = slot.count("<image>") + slot.count("<IMG_CONTEXT>")
    ids = torch.tensor([[5, 6, 7, *([IMAGE] * images), 8, 9, 10]])
    tiles = torch.from_numpy(eyes.prepare(tiny_eyes.picture(SIZE_HW)))
    with torch.inference_mode():
        rows = language.embedded(ids).clone()
        rows[0, 3 : 3 + images] = eyes.packed(eyes.encode(tiles[None])[0], SIZE_HW)
        ours = language.logits(language.model(inputs_embeds=rows).last_hidden_state)
        theirs = net(input_ids=ids, **given(tiles)).logits
    assert theirs.std() > 0.1
    assert torch.allclose(ours, theirs, atol=1e-4 * float(theirs.abs().max()))
