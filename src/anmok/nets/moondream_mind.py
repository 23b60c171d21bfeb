"""What Moondream does with a picture, whoever runs its net: reading a prompt, and walking to the places of things.

``Mind`` is what both runners offer (torch here, graphs in ``moondream_onnx``). Rows and hidden states go from one of
its methods into another and are not looked into.

Source: vikhyat/moondream (Apache-2.0) at 44146f1, moondream/torch/moondream.py and config.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from anmok.nets import moondream_tiles
from anmok.nets.moondream import Memory, Moondream

Array = NDArray[np.float32]
Ids = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Phrases:
    """The ids around what is asked. ``answer`` begins an answer and is never said within one; None where there is
    none. ``captions`` are whole prompts by their length; what a model cannot do is None."""

    bos: int
    eos: int
    answer: int | None
    query: tuple[Ids, Ids]
    captions: Mapping[str, Ids]
    detect: tuple[Ids, Ids] | None
    point: tuple[Ids, Ids] | None


# Tokenizer moondream/starmie-v1, revision 2025-06-21. A question ends with its mark twice: the published code does so.
STARMIE = Phrases(
    bos=0,
    eos=0,
    answer=3,
    query=((1, 15381, 2), (3, 3)),
    captions={"short": (1, 32708, 2, 12492, 3), "normal": (1, 32708, 2, 6382, 3), "long": (1, 32708, 2, 4059, 3)},
    detect=((1, 7235, 476, 2), (3,)),
    point=((1, 2581, 2), (3,)),
)
# CodeGen's tokenizer, before that: "\n\nQuestion:" ... "\n\nAnswer:", "\n\nShort caption:", "\n\nCaption:",
# "\n\nDetect:" and "\n\nPoint:" ... "\n\n".
CODEGEN = Phrases(
    bos=50256,
    eos=50256,
    answer=None,
    query=((198, 198, 24361, 25), (198, 198, 33706, 25)),
    captions={"short": (198, 198, 16438, 8305, 25), "normal": (198, 198, 24334, 1159, 25)},
    detect=((198, 198, 47504, 25), (628,)),
    point=((198, 198, 12727, 25), (628,)),
)


class Mind(Protocol):
    """A net and what it needs to run. Without state: what was read lies in a memory, which is the caller's."""

    @property
    def context(self) -> int:
        """Tokens that a memory can hold."""
        ...

    @property
    def nbytes(self) -> int: ...

    def canvas(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A picture (H, W, 3) as the eye wants it, (h, w, 3)."""
        ...

    def see(self, canvases: Array) -> Array:
        """Normalised canvases (B, 3, h, w) of one shape to rows float32 (B, N, D)."""
        ...

    def begin(self, bos: int, rows: Array | None) -> Any:
        """A memory of the beginning: that token, and the rows (N, D) of a picture. It is not to be written to."""
        ...

    def copied(self, memory: Any, room: int) -> Any:
        """One of its own, with room for so many tokens more. More of them than that cost time, no more."""
        ...

    def length(self, memory: Any) -> int: ...

    def words(self, ids: Sequence[int]) -> Any:
        """Their rows."""
        ...

    def read(self, memory: Any, rows: Any) -> tuple[Array, Any]:
        """Rows behind what the memory holds; the logits float32 (V,) and the hidden state of the last one."""
        ...

    def coordinate(self, hidden: Any) -> float: ...

    def size(self, hidden: Any) -> tuple[float, float]: ...

    def of_coordinate(self, value: float) -> Any: ...

    def of_size(self, width: float, height: float) -> Any: ...

    def together(self, rows: Sequence[Any]) -> Any:
        """Rows behind one another."""
        ...


class TorchMind:
    """The net itself."""

    def __init__(self, net: Moondream, device: str, dtype: torch.dtype) -> None:
        self._net = net.eval().to(torch.device(device), dtype)
        self._device, self._dtype = torch.device(device), dtype
        self.context = net.config.speech.context

    @property
    def nbytes(self) -> int:
        return sum(tensor.numel() * tensor.element_size() for tensor in self._net.state_dict().values())

    def canvas(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return moondream_tiles.canvas(image, self._net.config.sight.cutting)

    @torch.inference_mode()
    def see(self, canvases: Array) -> Array:
        pixels = torch.from_numpy(canvases).to(self._device, self._dtype)
        rows: Array = self._net.vision(pixels).float().cpu().numpy()  # (B, N, D)
        return rows

    @torch.inference_mode()
    def begin(self, bos: int, rows: Array | None) -> Memory:
        parts = [self.words((bos,))]
        if rows is not None:
            parts.append(torch.tensor(rows).to(self._device, self._dtype))
        memory = self._net.text.blank()
        self._net.text(torch.cat(parts), memory, True)  # (1 + N, D)
        return memory

    def copied(self, memory: Memory, room: int) -> Memory:
        return memory.copy(room)

    def length(self, memory: Memory) -> int:
        return memory.length

    @torch.inference_mode()
    def words(self, ids: Sequence[int]) -> torch.Tensor:
        return self._net.text.wte[torch.tensor(ids, device=self._device)]  # (T, D)

    @torch.inference_mode()
    def read(self, memory: Memory, rows: torch.Tensor) -> tuple[Array, torch.Tensor]:
        hidden = self._net.text(rows, memory, False)[-1]  # (D,)
        logits: Array = self._net.text.logits(hidden).float().cpu().numpy()  # (V,)
        return logits, hidden

    @torch.inference_mode()
    def coordinate(self, hidden: torch.Tensor) -> float:
        return self._net.region.coordinate(hidden)

    @torch.inference_mode()
    def size(self, hidden: torch.Tensor) -> tuple[float, float]:
        return self._net.region.size(hidden)

    @torch.inference_mode()
    def of_coordinate(self, value: float) -> torch.Tensor:
        return self._net.region.of_coordinate(value)

    @torch.inference_mode()
    def of_size(self, width: float, height: float) -> torch.Tensor:
        return self._net.region.of_size(width, height)

    def together(self, rows: Sequence[torch.Tensor]) -> torch.Tensor:
        return torch.cat(list(rows))


@dataclass(frozen=True, slots=True)
class Place:
    """The middle of a thing and its size, in shares of the picture; a size of 0 where none was asked for. ``score`` is
    the chance that the net gave to there being a thing (more), not to its being there."""

    x: float
    y: float
    width: float
    height: float
    score: float


def places(mind: Mind, memory: Any, prompt: Any, eos: int, most: int, has_size: bool) -> list[Place]:
    """Where the things are that a prompt (rows) asks for: the net says of each where it is, until it says that there
    are no more. Writes to the memory. Ends early where the context does."""
    return _walked(mind, memory, mind.read(memory, prompt), eos, most, has_size)


def place(mind: Mind, memory: Any, prompt: Any, eos: int) -> tuple[Place | None, float]:
    """The one place that a prompt (rows) asks for, None where the net says that there is none; and the chance that it
    gave to there being one. Writes to the memory."""
    read = mind.read(memory, prompt)
    found = _walked(mind, memory, read, eos, 1, False)
    return (found[0] if found else None), 1.0 - _share(read[0], eos)


def _walked(mind: Mind, memory: Any, read: tuple[Array, Any], eos: int, most: int, has_size: bool) -> list[Place]:
    """From what was read last: its logits and hidden state."""
    found: list[Place] = []
    logits, hidden = read
    steps = 2 + has_size
    while len(found) < most and int(logits.argmax()) != eos and mind.length(memory) + steps <= mind.context:
        score = 1.0 - _share(logits, eos)
        x = mind.coordinate(hidden)
        _, hidden = mind.read(memory, mind.of_coordinate(x))
        y = mind.coordinate(hidden)
        logits, hidden = mind.read(memory, mind.of_coordinate(y))
        width = height = 0.0
        if has_size:
            width, height = mind.size(hidden)
            logits, hidden = mind.read(memory, mind.of_size(width, height))
        found.append(Place(x, y, width, height, score))
    return found


def _share(logits: Array, token: int) -> float:
    raised = np.exp(logits.astype(np.float64) - logits.max())  # (V,)
    return float(raised[token] / raised.sum())
