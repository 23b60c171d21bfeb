"""Which weights of a trunk may move: the last blocks, all of them, or a few that are put beside them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from anmok.errors import BadRequest, MissingDependency
from anmok.nets.change import Bottleneck, Change, difference, insert
from anmok.nets.trunk import Trunk

Kind = Literal["last", "full", "lora", "dora", "bottleneck"]
_BLOCKS = 12  # of a ViT-B, for which the usual factors are meant
_IDLE = "mask_token"  # of DINO: for pre-training alone, no picture flows through it
KINDS: tuple[Kind, ...] = ("last", "full", "lora", "dora", "bottleneck")


@dataclass(frozen=True, slots=True)
class How:
    """``last``: blocks that move, with the readout. ``rank``, ``strength`` (alpha) and ``dropout`` are LoRA's, and
    DoRA's. ``narrow`` is a bottleneck's width. ``decay`` is the factor on the learning rate from one block to the one
    before it, for ``last`` and ``full``, of a tower of twelve blocks; in another it falls as far in all."""

    kind: Kind
    last: int = 2
    rank: int = 2
    strength: float = 1.0
    dropout: float = 0.25
    narrow: int = 64
    decay: float = 0.7

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise BadRequest(f"way to tune {self.kind!r}: want one of {', '.join(KINDS)}")
        if min(self.last, self.rank, self.narrow) < 1 or not 0 < self.decay <= 1 or not 0 <= self.dropout < 1:
            raise BadRequest(f"way to tune: last, rank and narrow from 1, decay in (0, 1], dropout below 1: {self}")


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """A trunk some of whose weights require a gradient, and the way back to what happened to them."""

    trunk: Trunk
    how: How
    boundary: int  # first stage that anything in moves
    rates: Mapping[str, float]  # of stages, by prefix
    before: Mapping[str, Tensor]

    def change(self) -> Change:
        """What training did so far."""
        if self.how.kind == "bottleneck":
            return Change(bottlenecks=_bottlenecks(self.trunk))
        if self.how.kind == "lora":
            return Change(factors=_factors(self.trunk))
        if self.how.kind == "dora":
            return Change(dense=_differences(self.trunk))
        return difference(self.before, self.trunk)


def opened(trunk: Trunk, how: How) -> Opened:
    """Opens the trunk, in place.

    LoRA and DoRA are peft's (Hu et al., ICLR 2022; Liu et al., ICML 2024); the rest is ours. Learning rates that fall
    towards the input are those of Clark et al., "ELECTRA" (ICLR 2020), usual in fine-tuning since.

    Raises:
        BadRequest: no layer of the trunk can be tuned this way.
        MissingDependency: peft is not installed, for LoRA and DoRA.
    """
    trunk.requires_grad_(False)
    if how.kind in ("lora", "dora"):
        _low_rank(trunk, how)
        return Opened(trunk, how, 0, {}, {})
    if how.kind == "bottleneck":
        names = _named(trunk, trunk.behind, "bottlenecks")
        for name in names:
            bottleneck = insert(trunk, name, how.narrow)
            bottleneck.narrow.requires_grad_(True)
            bottleneck.widen.requires_grad_(True)
        return Opened(trunk, how, 0, {}, {})
    boundary = trunk.boundary(how.last) if how.kind == "last" else 0
    stages = list(trunk.stages.named_children())
    for _, stage in stages[boundary:]:
        for name, parameter in stage.named_parameters():
            parameter.requires_grad_(not name.endswith(_IDLE))
    step = how.decay ** (_BLOCKS / trunk.blocks)
    rates = {f"stages.{name}.": step ** (len(stages) - 1 - i) for i, (name, _) in enumerate(stages)}
    before = {name: p.detach().clone() for name, p in trunk.named_parameters() if p.requires_grad}
    return Opened(trunk, how, boundary, rates, before)


def _named(trunk: Trunk, pattern: str, what: str) -> list[str]:
    names = [name for name, _ in trunk.named_modules() if re.fullmatch(pattern, name)]
    if not names:
        raise BadRequest(f"this model has no layers that {what} go on; tune its last blocks instead")
    return names


def _low_rank(trunk: Trunk, how: How) -> None:
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ModuleNotFoundError:
        raise MissingDependency("LoRA and DoRA need peft: pip install 'anmok[tune]'") from None
    names = _named(trunk, trunk.low_rank, "LoRA")
    # Whole names, not suffixes: a suffix also hits layers that no gradient reaches, such as SigLIP's pooling head.
    config = LoraConfig(
        r=how.rank,
        lora_alpha=how.strength,  # type: ignore[arg-type]  # any number does
        lora_dropout=how.dropout,
        use_dora=how.kind == "dora",
        target_modules=names,
    )
    inject_adapter_in_model(config, trunk)


def _lora_layers(trunk: Trunk) -> list[tuple[str, Any]]:
    return [(name, module) for name, module in trunk.named_modules() if hasattr(module, "lora_A")]


def _factors(trunk: Trunk) -> dict[str, tuple[Tensor, Tensor]]:
    factors = {}
    for name, layer in _lora_layers(trunk):
        up, down = layer.lora_B["default"].weight, layer.lora_A["default"].weight  # (O, r, ...), (r, I, ...)
        scale = layer.scaling["default"]
        factors[f"{name}.weight"] = ((up.flatten(1) * scale).detach().clone(), down.flatten(1).detach().clone())
    return factors


def _differences(trunk: Trunk) -> dict[str, Tensor]:
    """DoRA's weight is (W + BA) brought to a length of its own per output, which no two factors give."""
    dense = {}
    for name, layer in _lora_layers(trunk):
        before = layer.base_layer.weight.detach()
        with torch.no_grad():
            added = layer.get_delta_weight("default").reshape(before.shape)
            moved = before + added
            length = moved.flatten(1).norm(dim=1)  # (O,)
            magnitude = layer.lora_magnitude_vector["default"].weight.flatten()  # (O,)
            whole = moved * (magnitude / length).reshape(-1, *[1] * (moved.ndim - 1))
        dense[f"{name}.weight"] = (whole - before).clone()
    return dense


def _bottlenecks(trunk: Trunk) -> dict[str, dict[str, Tensor]]:
    found = {name: module for name, module in trunk.named_modules() if isinstance(module, Bottleneck)}
    return {name: {part: tensor.detach().clone() for part, tensor in _own(one).items()} for name, one in found.items()}


def _own(bottleneck: nn.Module) -> dict[str, Tensor]:
    return {name: p for name, p in bottleneck.named_parameters() if name.split(".")[0] in ("narrow", "widen")}
