"""How the nets of each family are called, so that all of them can be read through ``speaking``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from anmok.nets.eyes import gemma, phi4, qwen
from anmok.nets.eyes.reading import Language
from anmok.nets.speaking import Batch, Script


class Whole:
    """A net that takes rows as they are: those that only read, LLaVA's kin, InternVL."""

    bound = 0

    def __init__(self, net: nn.Module) -> None:
        self._net: Any = net

    def embedded(self, ids: Tensor) -> Tensor:
        rows: Tensor = self._net.get_input_embeddings()(ids)
        return rows

    def read(self, batch: Batch, rows: Tensor, cache: Any) -> Tensor:
        told = self._net(
            inputs_embeds=rows,
            attention_mask=batch.is_there,
            position_ids=batch.positions[:, -rows.shape[1] :],
            cache=cache,
            use_cache=True,
            logits_to_keep=1,
            **self._more(batch, rows.shape[1]),
        )
        logits: Tensor = told.logits[:, -1]  # (B, V)
        return logits

    def _more(self, batch: Batch, fresh: int) -> dict[str, Any]:
        return {}


class Stretched(Whole):
    """Phi-3 and Phi-4, whose positions turn by other angles in long conversations: each row by its own length."""

    def __init__(self, net: Any) -> None:
        self.bound = phi4.with_row_places(net)
        super().__init__(net)


class Gemma(Whole):
    """Gemma 3 and 4, which have to be told which tokens are pictures, or see backwards alone."""

    def _more(self, batch: Batch, fresh: int) -> dict[str, Any]:
        return gemma.arguments(self._net, batch.ids, batch.ids.shape[1] - fresh)


class Part:
    """The language part of a net that, as a whole, wants pixels: SmolVLM, Idefics3, EXAONE, HyperCLOVA X."""

    bound = 0

    def __init__(self, net: nn.Module) -> None:
        self._language = Language.of(net)

    def embedded(self, ids: Tensor) -> Tensor:
        return self._language.embedded(ids)

    def read(self, batch: Batch, rows: Tensor, cache: Any) -> Tensor:
        told = {"position_ids": batch.positions[:, -rows.shape[1] :], **self._more(batch, rows.shape[1])}
        states = self._language.model(
            inputs_embeds=rows, attention_mask=batch.is_there, cache=cache, use_cache=True, **told
        ).last_hidden_state  # (B, n, D)
        return self._language.logits(states[:, -1])  # (B, V)

    def _more(self, batch: Batch, fresh: int) -> dict[str, Any]:
        return {}


class Gridded(Part):
    """Qwen's nets, whose positions have three parts: in a picture the line and the column count."""

    def __init__(self, net: nn.Module, eyes: qwen.Qwen) -> None:
        super().__init__(net)
        self._eyes = eyes

    def _more(self, batch: Batch, fresh: int) -> dict[str, Any]:
        prompts = [_prompt(one, batch.ids.device) for one in batch.scripts]
        if batch.steps:
            after = [self._eyes.next_position(prompt) + batch.steps - 1 for prompt in prompts]
            return {"position_ids": torch.tensor(after, device=batch.ids.device).expand(3, -1)[..., None]}  # (3, B, 1)
        longest = batch.ids.shape[1]
        kept = longest - fresh  # only a script by itself has some
        return qwen.together([self._eyes.extras(prompt, kept) for prompt in prompts], fresh)


def _prompt(script: Script, device: torch.device) -> qwen.Prompt:
    rows = torch.zeros(0, 0) if script.rows is None else script.rows
    sizes: Sequence[Any] = [one.size_hw for one in script.seen]
    return qwen.Prompt(script.is_picture.to(device), tuple(sizes), rows.to(device))
