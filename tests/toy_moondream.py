"""Moondream at toy size: one model a session, its mind, and the states of pictures."""

from __future__ import annotations

import functools

import torch

from anmok import Model
from anmok.inputs import Encoded
from anmok.load import tiny
from anmok.models.moondream import Moondream
from anmok.nets import moondream as net
from anmok.nets import moondream_toy
from anmok.nets.moondream_mind import TorchMind
from battery import picture

PHRASES = moondream_toy.PHRASES
GRID = net.TINY.sight.cutting.grid**2  # rows of a picture
NAMES = ("moondream2", "moondream-0.5b-int8")


@functools.cache
def model(name: str = "moondream2") -> Model:
    return tiny(name)


def kind(name: str = "moondream2") -> Moondream:
    found = model(name).kind
    assert isinstance(found, Moondream)
    return found


@functools.cache
def mind() -> TorchMind:
    torch.manual_seed(3)
    return TorchMind(net.Moondream(net.TINY), "cpu", torch.float32)


def state_of(size_hw: tuple[int, int], seed: int = 1, name: str = "moondream2") -> Encoded:
    [state] = model(name).encode([picture(size_hw, seed)])
    return state
