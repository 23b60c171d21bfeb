"""How the nets of each family are called, so that all of them can be read through ``speaking``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor, nn

from anmok.nets.adapters_beside import choice_of
from anmok.nets.eyes.reading import Language
from anmok.nets.lean import Lean, unfit
from anmok.nets.lean_memory import Memory
from anmok.nets.speaking import Batch, Reading, Script

if TYPE_CHECKING:
    from anmok.nets.eyes.qwen import Prompt, Qwen

_ALIKE: Final = ("llama", "mistral", "qwen2")  # language parts that the lean reader has the sums of
_MOST: Final = 2**31  # weights in layers of a lean copy beside the net, of 2 to 3 bytes each; or bytes of an exact one


def _memory(config: Any) -> Any:
    from transformers import DynamicCache  # not wanted where a lean net reads

    return DynamicCache(config=config)


class Whole:
    """A net that takes rows as they are: those that only read, LLaVA's kin, InternVL."""

    bound = 0

    def cache(self, config: Any, count: int) -> Any:
        return _memory(config)

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
        from anmok.nets.eyes import phi4

        self.bound = phi4.with_row_places(net)
        super().__init__(net)


class Switched(Stretched):
    """Phi-4 with its adapters beside it: each row by the one that its conversation is read by."""

    def __init__(self, net: Any) -> None:
        super().__init__(net)
        self._choice = choice_of(net)

    def read(self, batch: Batch, rows: Tensor, cache: Any) -> Tensor:
        with self._choice.of([one.way for one in batch.scripts]):
            return super().read(batch, rows, cache)


class Gemma(Whole):
    """Gemma 3 and 4, which have to be told which tokens are pictures, or see backwards alone."""

    def _more(self, batch: Batch, fresh: int) -> dict[str, Any]:
        from anmok.nets.eyes import gemma

        return gemma.arguments(self._net, batch.ids, batch.ids.shape[1] - fresh)


class Packed(nn.Module):
    """A lean net that was packed, with the configuration of the whole one, which it stands for."""

    def __init__(self, lean: Lean, config: Any) -> None:
        super().__init__()
        self.lean, self.config = lean, config


class Alone:
    """A lean net, for one conversation at a time."""

    bound = 0

    def __init__(self, lean: Lean) -> None:
        self._lean = lean

    def cache(self, config: Any, count: int) -> Any:
        return self._lean.memory()

    def embedded(self, ids: Tensor) -> Tensor:
        return self._lean.embedded(ids.flatten()).reshape(*ids.shape, -1)  # (..., T, W)

    def read(self, batch: Batch, rows: Tensor, cache: Any) -> Tensor:
        return self._lean.read(rows[0], cache)[None]  # (1, V)


class Beside:
    """Conversations that are alone by a lean copy of the net, with the same sums and fewer steps;
    batches by the net itself. The copy is made for the first that is alone."""

    def __init__(self, net: nn.Module, inner: Reading) -> None:
        self._net, self._inner = net, inner
        self.bound = inner.bound

    @cached_property
    def _lean(self) -> Lean:
        return Lean.of(self._net)

    def cache(self, config: Any, count: int) -> Any:
        return self._lean.memory() if count == 1 else self._inner.cache(config, count)

    def embedded(self, ids: Tensor) -> Tensor:
        return self._inner.embedded(ids)

    def read(self, batch: Batch, rows: Tensor, cache: Any) -> Tensor:
        if isinstance(cache, Memory):
            return self._lean.read(rows[0], cache)[None]  # (1, V)
        return self._inner.read(batch, rows, cache)


def reading_of(net: Any, made: Callable[[nn.Module, Any], Reading], eyes: Any, *, is_fastest: bool) -> Reading:
    """How a net is read: as its family is, but by a lean copy where the net allows it: on the processor, of Llama's
    kind, and so small that a copy beside it does no harm. The copy is exact, for conversations that are alone; or, the
    fastest, of eight bits, for all of them one by one."""
    if isinstance(net, Packed):
        return Alone(net.lean)
    reading = made(net, eyes)
    text, some = net.config.get_text_config(), next(iter(net.parameters()))
    if some.device.type != "cpu" or text.model_type not in _ALIKE or unfit(net):
        return reading
    layers = sum(one.numel() for name, one in net.named_parameters() if ".layers." in name)
    if is_fastest and layers <= _MOST:
        return Alone(Lean.of(net, "int8"))
    is_exact = some.dtype == torch.float32 and 4 * layers <= _MOST
    return Beside(net, reading) if is_exact else reading


class Part:
    """The language part of a net that, as a whole, wants pixels: SmolVLM, Idefics3, EXAONE, HyperCLOVA X."""

    bound = 0

    def __init__(self, net: nn.Module) -> None:
        self._language = Language.of(net)

    def cache(self, config: Any, count: int) -> Any:
        return _memory(config)

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

    def __init__(self, net: nn.Module, eyes: Qwen) -> None:
        super().__init__(net)
        self._eyes = eyes

    def _more(self, batch: Batch, fresh: int) -> dict[str, Any]:
        from anmok.nets.eyes import qwen

        prompts = [_prompt(one, batch.ids.device) for one in batch.scripts]
        if batch.steps:
            after = [self._eyes.next_position(prompt) + batch.steps - 1 for prompt in prompts]
            return {"position_ids": torch.tensor(after, device=batch.ids.device).expand(3, -1)[..., None]}  # (3, B, 1)
        longest = batch.ids.shape[1]
        kept = longest - fresh  # only a script by itself has some
        return qwen.together([self._eyes.extras(prompt, kept) for prompt in prompts], fresh)


def _prompt(script: Script, device: torch.device) -> Prompt:
    from anmok.nets.eyes.qwen import Prompt

    rows = torch.zeros(0, 0) if script.rows is None else script.rows
    sizes: Sequence[Any] = [one.size_hw for one in script.seen]
    return Prompt(script.is_picture.to(device), tuple(sizes), rows.to(device))
