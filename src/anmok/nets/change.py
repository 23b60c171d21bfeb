"""What training did to a trunk, apart from the trunk: small enough to ship, and to be taken back in part.

Three forms, by layer: a difference of weights; the two factors of such a difference (LoRA); and a bottleneck behind
the layer. ``scaled`` goes from the weights before training (0) to those after it (1) on a straight line, which is what
WiSE-FT does: Wortsman et al., "Robust Fine-Tuning of Zero-Shot Models" (CVPR 2022).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from anmok.errors import BadWeights
from anmok.nets.trunk import Trunk

_DENSE, _UP, _DOWN = "difference:", "up:", "down:"
_PARTS = ("narrow.weight", "narrow.bias", "widen.weight", "widen.bias")


class Bottleneck(nn.Module):
    """What a layer gives, plus what a narrow net of two layers makes of it; at first, nothing.

    Source: Houlsby et al., "Parameter-Efficient Transfer Learning for NLP" (ICML 2019). On tokens (B, T, D) or maps
    (B, C, H, W), each place by itself.
    """

    def __init__(self, layer: nn.Module, width: int, narrow: int, *, is_map: bool) -> None:
        super().__init__()
        self.layer = layer
        self.is_map = is_map  # channels in the second place
        self.narrow = nn.Linear(width, narrow)
        self.widen = nn.Linear(narrow, width)
        nn.init.zeros_(self.widen.weight)
        nn.init.zeros_(self.widen.bias)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x)
        places = y.movedim(1, -1) if self.is_map else y  # (B, H, W, C) or (B, T, D)
        added = self.widen(functional.gelu(self.narrow(places)))
        joined: Tensor = y + (added.movedim(-1, 1) if self.is_map else added)
        return joined


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """``dense``: parameter name to what was added to it. ``factors``: name of a weight (O, I, 1 ...) to up (O, r) and
    down (r, I). ``bottlenecks``: name of a layer to the tensors of the ``Bottleneck`` behind it."""

    dense: Mapping[str, Tensor] = field(default_factory=dict)
    factors: Mapping[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    bottlenecks: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)

    def scaled(self, share: float) -> Change:
        """``share`` of the way from the weights before training to those after."""
        return Change(
            {name: difference * share for name, difference in self.dense.items()},
            {name: (up * share, down) for name, (up, down) in self.factors.items()},
            {
                name: {part: tensor * share if part.startswith("widen") else tensor for part, tensor in parts.items()}
                for name, parts in self.bottlenecks.items()
            },
        )

    def apply(self, trunk: Trunk) -> None:
        """Changes the trunk in place.

        Raises:
            BadWeights: it is not of the trunk that was trained.
        """
        try:
            with torch.no_grad():
                parameters = dict(trunk.named_parameters())
                for name, difference in self.dense.items():
                    parameters[name].add_(difference.to(parameters[name]))
                for name, (up, down) in self.factors.items():
                    weight = parameters[name]
                    weight.add_((up @ down).reshape(weight.shape).to(weight))  # (O, I, 1, 1) or (O, I)
            for name, parts in self.bottlenecks.items():
                insert(trunk, name, parts["narrow.weight"].shape[0]).load_state_dict(dict(parts), strict=False)
        except (KeyError, AttributeError, RuntimeError) as error:
            raise BadWeights(f"what was trained does not fit this model ({error}); train it again") from None
        trunk.requires_grad_(False)

    def tensors(self) -> dict[str, Tensor]:
        """Flat, as a safetensors file wants them."""
        flat = {_DENSE + name: tensor for name, tensor in self.dense.items()}
        for name, (up, down) in self.factors.items():
            flat[_UP + name], flat[_DOWN + name] = up, down
        for name, parts in self.bottlenecks.items():
            flat |= {f"{part}:{name}": tensor for part, tensor in parts.items()}
        return {name: tensor.detach().float().contiguous() for name, tensor in flat.items()}

    @classmethod
    def from_tensors(cls, flat: Mapping[str, Tensor]) -> Change:
        """Back from ``tensors``.

        Raises:
            BadWeights: a tensor without its other half, or of no form known here.
        """
        dense, factors, bottlenecks = {}, {}, cast("dict[str, dict[str, Tensor]]", {})
        for key, tensor in flat.items():
            form, _, name = key.partition(":")
            if form in _PARTS:
                bottlenecks.setdefault(name, {})[form] = tensor
            elif form + ":" == _DENSE:
                dense[name] = tensor
            elif form + ":" == _UP and _DOWN + name in flat:
                factors[name] = (tensor, flat[_DOWN + name])
            elif not (form + ":" == _DOWN and _UP + name in flat):
                raise BadWeights(f"{key}: not a tensor of a tuned model; write it again with `anmok ladder`")
        if any(set(parts) != set(_PARTS) for parts in bottlenecks.values()):
            raise BadWeights("a bottleneck lacks some of its tensors; write it again with `anmok ladder`")
        return cls(dense, factors, bottlenecks)

    @property
    def nbytes(self) -> int:
        return sum(tensor.numel() * 4 for tensor in self.tensors().values())


def insert(trunk: Trunk, name: str, narrow: int) -> Bottleneck:
    """Puts a fresh bottleneck behind a layer of the trunk, and returns it."""
    layer = trunk.get_submodule(name)
    last = [unit for unit in layer.modules() if isinstance(unit, nn.Linear | nn.Conv2d)][-1]
    width = last.out_features if isinstance(last, nn.Linear) else last.out_channels
    bottleneck = Bottleneck(layer, width, narrow, is_map=isinstance(last, nn.Conv2d)).to(last.weight)
    parent, _, child = name.rpartition(".")
    setattr(trunk.get_submodule(parent), child, bottleneck)
    return bottleneck


def difference(before: Mapping[str, Tensor], trunk: Trunk) -> Change:
    """What was added to those parameters that changed."""
    changed = {
        name: (after.detach() - before[name]).clone()
        for name, after in trunk.named_parameters()
        if name in before and not torch.equal(after, before[name])
    }
    return Change(dense=changed)
