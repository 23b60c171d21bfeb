"""Adapters of which one conversation is read by one, and the next by another or by none: they stay beside the weights.

Phi-4-multimodal reads by one adapter what shows a picture, by another what is only heard, and plain text by neither
(microsoft/Phi-4-multimodal-instruct, ``modeling_phi4mm.py``: the input mode). Each row of a batch goes by its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, float32, nn
from torch.nn import functional

from anmok.nets.adapters_in import paired

Given = Mapping[str, tuple[Mapping[str, Tensor], Mapping[str, Any]]]  # by name: its tensors and its configuration


class Choice:
    """By which adapter each row of the batch is read; an empty name is none, and no rows at all are none for all."""

    def __init__(self) -> None:
        self.names: tuple[str, ...] = ()

    @contextmanager
    def of(self, names: Sequence[str]) -> Iterator[None]:
        """One name a row, while it lasts. Not for several threads at a time, no more than the net is."""
        self.names = tuple(names)
        try:
            yield
        finally:
            self.names = ()


class Adapted(nn.Module):
    """A linear layer with what its adapters add: of each A (r, in), and B (out, r) times its scale."""

    def __init__(self, linear: nn.Linear, choice: Choice) -> None:
        super().__init__()
        self.linear, self.choice = linear, choice
        self._low, self._high = nn.ParameterDict(), nn.ParameterDict()

    def add(self, name: str, low: Tensor, high: Tensor) -> None:
        self._low[name] = nn.Parameter(low, requires_grad=False)
        self._high[name] = nn.Parameter(high, requires_grad=False)

    def forward(self, rows: Tensor) -> Tensor:
        """(B, T, in) to (B, T, out)."""
        told: Tensor = self.linear(rows)
        names = self.choice.names
        for name in self._low:
            picked = [i for i, one in enumerate(names) if one == name]
            if not picked:
                continue
            low = functional.linear(rows[picked], self._low[name])  # (b, T, r)
            told[picked] += functional.linear(low, self._high[name])
        return told


def put_beside(net: nn.Module, adapters: Given, name: str) -> None:
    """Each adapter beside the layers that it changes, in place.

    Raises:
        BadWeights: one of them is missing, half of one, of another sort, or does not fit the weights.
    """
    weights, choice = net.state_dict(), Choice()  # before the first layer is another
    for called, (tensors, config) in adapters.items():
        pairs, scale = paired(weights, tensors, config, f"{name}: {called}")
        for layer, (low, high) in pairs.items():
            dtype = weights[f"{layer}.weight"].dtype
            _adapted(net, layer, choice).add(called, low.to(dtype), (high.to(float32) * scale).to(dtype))


def choice_of(net: nn.Module) -> Choice:
    """What its adapters go by; of a net that has none, one that nothing follows."""
    return next((one.choice for one in net.modules() if isinstance(one, Adapted)), Choice())


def _adapted(net: nn.Module, layer: str, choice: Choice) -> Adapted:
    found = net.get_submodule(layer)
    if not isinstance(found, Adapted):
        above, _, last = layer.rpartition(".")
        found = Adapted(found, choice)  # type: ignore[arg-type]  # it has a weight of two sides
        setattr(net.get_submodule(above), last, found)
    return found
