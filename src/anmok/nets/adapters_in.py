"""Adapters that belong to a checkpoint: added to its weights once, while it is read; ``adapters_beside`` is for those
of which now one is wanted and now another.

Phi-4-multimodal sees through one: its weights alone answer about pictures poorly, and nothing says so. A low-rank
adapter (Hu et al., "LoRA", ICLR 2022, arXiv:2106.09685) is two matrices beside a linear layer; W + B A * alpha / r is
the same layer without them. Its two files, ``adapter_config.json`` and ``adapter_model.safetensors``, are as
huggingface/peft writes them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from torch import Tensor, float32

from anmok.errors import BadWeights

State = dict[str, Tensor]

_PREFIX: Final = "base_model.model."
# ``layer.lora_A.weight``, or ``layer.lora_A.NAME.weight`` where several adapters lie in one file.
_NAME: Final = re.compile(r"(?P<layer>.+)\.lora_(?P<side>[AB])(?:\.(?P<adapter>\w+))?\.weight")
_BASE: Final = ".base_layer."
# Each changes what the two matrices mean, and none is in the adapters that are known.
_OTHER_WAYS: Final = ("use_dora", "fan_in_fan_out", "rank_pattern", "alpha_pattern", "modules_to_save", "lora_bias")


def folded(
    state: Mapping[str, Tensor], adapter: Mapping[str, Tensor] | None, config: Mapping[str, Any], name: str
) -> State:
    """A checkpoint with its adapter added to its weights.

    Args:
        state: the checkpoint; its tensors are not changed, and those without an adapter are handed on as they are.
        adapter: ``layer.lora_A.weight`` (r, in) and ``layer.lora_B.weight`` (out, r) for every layer that it changes.
        config: ``adapter_config.json``: r, lora_alpha, use_rslora.
        name: of the card, for messages.

    Raises:
        BadWeights: there is no adapter, half of one, one of another sort, or one that does not fit the weights.
    """
    pairs, scale = paired(state, adapter, config, name)
    whole = dict(state)
    for layer, (down, up) in pairs.items():
        weight = whole[f"{layer}.weight"]
        change = up.to(float32) @ down.to(float32) * scale  # (out, in)
        whole[f"{layer}.weight"] = (weight.to(float32) + change).to(weight.dtype)
    return whole


def paired(
    state: Mapping[str, Tensor], adapter: Mapping[str, Tensor] | None, config: Mapping[str, Any], name: str
) -> tuple[dict[str, tuple[Tensor, Tensor]], float]:
    """Both matrices of each layer, A (r, in) and B (out, r), and what their product is multiplied by; arguments and
    errors as of ``folded``."""
    if not adapter:
        raise BadWeights(f"{name}: the adapter that belongs to these weights is missing: fetch its folder as well")
    scale = _scale(config, name)
    pairs = _pairs(adapter, name)
    for layer, (down, up) in pairs.items():
        weight = state.get(f"{layer}.weight")
        if weight is None:
            raise BadWeights(f"{name}: the adapter changes {layer}, which these weights do not have")
        if down.shape != (config["r"], weight.shape[1]) or up.shape != (weight.shape[0], config["r"]):
            shapes = f"{tuple(up.shape)} and {tuple(down.shape)}"
            raise BadWeights(f"{name}: {layer}: an adapter of {shapes} does not fit weights {tuple(weight.shape)}")
    return pairs, scale


def parted(state: Mapping[str, Tensor], wanted: str) -> tuple[State, State]:
    """A checkpoint that holds its adapters itself, as microsoft/Phi-4-multimodal-instruct does
    (``layer.base_layer.weight``, ``layer.lora_A.vision.weight``): the weights without them, and the adapter of that
    name. Other adapters are left out."""
    weights: State = {}
    adapter: State = {}
    for key, tensor in state.items():
        found = _NAME.fullmatch(key)
        if found is None:
            weights[key.replace(_BASE, ".")] = tensor
        elif found["adapter"] == wanted:
            adapter[key] = tensor
    return weights, adapter


def _scale(config: Mapping[str, Any], name: str) -> float:
    others = [key for key in _OTHER_WAYS if config.get(key)]
    if config.get("peft_type", "LORA") != "LORA" or others or config.get("bias", "none") != "none":
        said = ", ".join(others) or f"{config.get('peft_type')}, bias {config.get('bias')}"
        raise BadWeights(f"{name}: adapter_config.json describes another sort of adapter ({said}); want a plain LoRA")
    if not isinstance(config.get("r"), int) or config["r"] < 1 or "lora_alpha" not in config:
        raise BadWeights(f"{name}: adapter_config.json has no r or no lora_alpha")
    rank = config["r"] ** 0.5 if config.get("use_rslora") else config["r"]
    return float(config["lora_alpha"]) / float(rank)


def _pairs(adapter: Mapping[str, Tensor], name: str) -> dict[str, tuple[Tensor, Tensor]]:
    """Both matrices of each layer, A (r, in) first."""
    sides: dict[str, State] = {}
    for key, tensor in adapter.items():
        found = _NAME.fullmatch(key.removeprefix(_PREFIX))
        if found is None:
            raise BadWeights(f"{name}: the adapter has {key}, which is no matrix of a LoRA")
        sides.setdefault(found["layer"], {})[found["side"]] = tensor
    halves = [layer for layer, both in sides.items() if len(both) < 2]
    if halves:
        raise BadWeights(f"{name}: the adapter has half of what it does to {halves[0]}")
    return {layer: (both["A"], both["B"]) for layer, both in sides.items()}
