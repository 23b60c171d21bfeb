"""Prompt tuning: the words before a class's name become vectors that are learned, through the frozen text tower.

CoOp learns them from the labelled images alone, KgCoOp holds the text rows to those of the written prompt. Sources:
Zhou et al., "Learning to Prompt for Vision-Language Models" (IJCV 2022, arXiv:2109.01134), repository
KaiyangZhou/CoOp; Yao et al., "Visual-Language Prompt Tuning with Knowledge-guided Context Optimization" (CVPR 2023,
arXiv:2303.13283). Plain CoOp loses eleven points on classes that it has not seen (74 to 63 %, in the tables of
PromptSRC), which is why the penalty is on by default. For a fixed set of labels it can cost accuracy: on `mini` and
ten kinds of clothes 0.55 with a hold of 2, 0.63 without, at 4 shots; at 1 shot it helps (0.49 with 8, 0.43 without).

Ours differs in one thing. The pictures are cached rows, so a step costs the reading of K prompts whatever the number
of pictures: every step takes all of them, with Adam, where CoOp takes 32 with SGD.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from anmok.errors import BadRequest, Unsupported
from anmok.load import Head, Model, Prompt
from anmok.pairing import product, unit
from anmok.tasks import Projects

Array = NDArray[np.float32]

_PLACEHOLDER = "a"  # stands where the context goes; a token of its own in every vocabulary
_NAMES = 64  # read at once; more are read in turns, and once again for the gradient


@runtime_checkable
class ReadsSoftly(Protocol):
    """A text tower that reads token embeddings. ``soft_start`` tokens open every text before its words."""

    @property
    def soft_start(self) -> int: ...

    def tokens(self, texts: Sequence[str], room: int = 0) -> tuple[Tensor, Tensor]:
        """Ids int64 (N, T), and bool (N, T) where the tower sees a token; ``room`` places of the context stay free."""
        ...

    def token_vectors(self, ids: Tensor) -> Tensor:
        """(N, T) to embeddings (N, T, W), places not yet added."""
        ...

    def read_vectors(self, vectors: Tensor, is_token: Tensor) -> Tensor:
        """(N, T, W) to float32 unit rows (N, D), differentiable."""
        ...


class SoftTowers(Projects, ReadsSoftly, Protocol):
    """Both towers, the text tower open for embeddings."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """``words`` are where the context starts; ``length`` random vectors where they are empty. ``rate`` is Adam's
    step as a share of the spread of the tower's own embeddings, ``hold`` KgCoOp's factor (0: CoOp)."""

    words: str = "a photo of a"
    length: int = 16
    steps: int = 100
    rate: float = 0.2
    hold: float = 8.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 0 or self.rate <= 0 or self.hold < 0 or (not self.words.strip() and self.length < 1):
            raise BadRequest(f"{self}: want steps and hold from 0, a rate above 0, and words or a length from 1")


@dataclass(frozen=True, slots=True, eq=False)
class Tuned:
    """``losses`` (steps,) are those before each step: cross-entropy and penalty."""

    prompt: Prompt
    losses: tuple[float, ...]


def soft_towers(model: Model) -> SoftTowers:
    """Raises:
    Unsupported: no text tower, or one that reads ids only.
    """
    towers = model.towers
    if not isinstance(towers, ReadsSoftly):
        raise Unsupported(f"{model.card.name}: its text tower takes no token embeddings, so no prompt can be learned")
    return towers


def tune(
    towers: SoftTowers,
    names: Sequence[str],
    features: Array,
    labels: NDArray[np.int64],
    anchors: Array,
    recipe: Recipe,
) -> Tuned:
    """Learns the context on cached features (n, F) with labels (n,) below K.

    ``names`` (K) are in a language that the tower reads. ``anchors`` (K, D) are the unit text rows that the penalty
    hold * mean_k ||t_k - anchor_k||^2 holds to: those of the written prompt.

    Raises:
        BadRequest: a context that leaves no room for the names.
    """
    context = _start(towers, recipe).requires_grad_()  # (M, W)
    device, spread = context.device, float(context.detach().std())
    images = torch.from_numpy(unit(product(features, towers.projection))).to(device)  # (n, D)
    wanted, held = torch.tensor(labels, device=device), torch.tensor(anchors, device=device)  # (n,), (K, D)
    sentences = _Sentences(towers, names, len(context))
    optimizer = torch.optim.Adam([context], lr=recipe.rate * spread)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(recipe.steps, 1))
    losses = []
    for _ in range(recipe.steps):
        rows = sentences.rows(context)  # (K, D)
        logits = towers.temperature * images @ rows.T  # (n, K); an offset that all share moves no softmax
        loss = functional.cross_entropy(logits, wanted) + recipe.hold * (rows - held).square().sum(1).mean()
        # The gradient for the context alone: nothing is left at the weights of the tower.
        (context.grad,) = torch.autograd.grad(loss, [context])
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))
    with torch.no_grad():
        texts = sentences.rows(context).cpu().numpy()  # (K, D)
    return Tuned(_prompt(towers, texts, context.detach().cpu().numpy()), tuple(losses))


def extended(towers: SoftTowers, names: Sequence[str], context: Array) -> Prompt:
    """A learned context (M, W) before other names: classes can be added without another image."""
    where = towers.token_vectors(towers.tokens([_PLACEHOLDER])[0])
    vectors = torch.tensor(context, device=where.device)
    with torch.no_grad():
        texts = _Sentences(towers, names, len(context)).rows(vectors).cpu().numpy()  # (K, D)
    return _prompt(towers, texts, context)


def _prompt(towers: SoftTowers, texts: Array, context: Array) -> Prompt:
    bias = np.full(len(texts), towers.bias, np.float32)
    head = Head(texts * towers.temperature, bias, projection=towers.projection, is_normalised=True)
    return Prompt(head, context)


def _start(towers: SoftTowers, recipe: Recipe) -> Tensor:
    """The context before the first step (M, W) float32: the words' own embeddings, or random ones as spread out."""
    words = recipe.words.strip() or _PLACEHOLDER
    ids, _ = towers.tokens([words])
    with torch.no_grad():
        first = towers.soft_start
        vectors = towers.token_vectors(ids)[0, first : first + _shared(towers, words, [f"{words} {_PLACEHOLDER}"])]
    vectors = vectors.float().clone()  # (M, W)
    if recipe.words.strip():
        return vectors
    generator = torch.Generator().manual_seed(recipe.seed)
    noise = torch.randn(recipe.length, vectors.shape[1], generator=generator)  # (M, W)
    return noise.to(vectors.device) * vectors.std()


def _shared(towers: SoftTowers, opening: str, sentences: Sequence[str]) -> int:
    """How many tokens of ``opening`` stand at the start of every sentence, after those that open every text."""
    alone, together = towers.tokens([opening])[0][0], towers.tokens(sentences)[0]  # (t,), (N, T)
    length = min(len(alone), together.shape[1])
    is_same = (together[:, :length] == alone[:length]).all(0)[towers.soft_start :]  # (length - start,)
    return int(is_same.int().cumprod(0).sum())


class _Sentences:
    """The names as token embeddings, with a place for the context before each."""

    def __init__(self, towers: SoftTowers, names: Sequence[str], length: int) -> None:
        sentences = [f"{_PLACEHOLDER} {name}" for name in names]
        replaced = _shared(towers, _PLACEHOLDER, sentences)  # tokens that the context takes the place of
        ids, is_token = towers.tokens(sentences, max(length - replaced, 0))  # (K, T)
        if ids.shape[1] <= towers.soft_start + replaced + 1:
            raise BadRequest(f"a context of {length} tokens leaves no room for the names")
        first, after = towers.soft_start, towers.soft_start + replaced
        with torch.no_grad():
            vectors = towers.token_vectors(ids)  # (K, T, W)
        self._towers = towers
        self._before, self._after = vectors[:, :first], vectors[:, after:]
        opened = torch.ones(len(ids), length, dtype=torch.bool, device=ids.device)  # (K, M)
        self._is_token = torch.cat([is_token[:, :first], opened, is_token[:, after:]], 1)  # (K, T - replaced + M)

    def rows(self, context: Tensor) -> Tensor:
        """(M, W) to unit rows (K, D)."""
        count = len(self._before)
        if count <= _NAMES or not torch.is_grad_enabled():
            parts = [self._part(context, start) for start in range(0, count, _NAMES)]
        else:
            parts = [checkpoint(self._part, context, start, use_reentrant=False) for start in range(0, count, _NAMES)]
        return torch.cat(parts)  # (K, D)

    def _part(self, context: Tensor, start: int) -> Tensor:
        some = slice(start, start + _NAMES)
        before, after = self._before[some], self._after[some]
        spread = context.to(before.dtype).expand(len(before), -1, -1)  # (k, M, W)
        return self._towers.read_vectors(torch.cat([before, spread, after], 1), self._is_token[some])  # (k, D)
