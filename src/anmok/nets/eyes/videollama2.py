"""How VideoLLaMA2 looks: at a clip of 8 or 16 frames, whose tokens a connector folds in space and time; a picture is a
clip in which nothing happens.

Source: Z. Cheng et al., "VideoLLaMA 2" (2024, arXiv:2406.07476), github.com/DAMO-NLP-SG/VideoLLaMA2. The towers are
CLIP (2.0) or SigLIP (2.1); the connectors are in ``nets.stc``.

The weights were trained on frames padded to a square with the mean colour (``--image_aspect_ratio pad``). The authors'
``mm_infer`` leaves that out, so that CLIP's processor cuts the middle out and SigLIP's squeezes; ``rules_of`` takes
either way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from anmok.errors import BadWeights
from anmok.nets import stc
from anmok.nets.cut_tower import Tower, TowerConfig, cut_config, cut_state, patches, tower_class
from anmok.nets.eyes import Size
from anmok.nets.eyes.levels import CLIP_MEAN, CLIP_STD, HALF, Levels
from anmok.nets.eyes.square import SquareRules, squared
from anmok.nets.pretrained import fill, filled
from anmok.nets.tower_shapes import CLIP_L14_336, SO400M

IMAGE_TOKEN: Final = "<image>"
VIDEO_TOKEN: Final = "<video>"
LAYER: Final = -2  # of the tower, where config.json does not say
FRAMES: Final = 8  # likewise
_TOWER, _PROJECTOR = "vision_tower.vision_tower.", "mm_projector."
_NUDGE: Final = 1e-6  # of the authors, against halves that are rounded down

# The checkpoints have the towers' tensors, but only their names on the hub, in place of configurations.
TOWERS: Final[Mapping[str, Mapping[str, Any]]] = {
    "openai/clip-vit-large-patch14-336": CLIP_L14_336,
    "google/siglip-so400m-patch14-384": SO400M,
}


@dataclass(frozen=True, slots=True)
class VideoLlama2Rules:
    """``frames`` is how many a picture is shown as; ``square`` how one becomes a square; ``connector`` the kind that
    ``nets.stc`` knows; ``side`` the patches along a frame."""

    frames: int
    square: SquareRules
    connector: str
    side: int


class Sight(nn.Module):
    """What lies before the language model. Its parts are called as in ``renamed``."""

    def __init__(self, tower: Tower, projector: stc.Connector | stc.Averaged | stc.AveragedLinear) -> None:
        super().__init__()
        self.vision_tower = tower
        self.mm_projector = projector

    @classmethod
    def filled(cls, config: Mapping[str, Any], state: Mapping[str, Tensor], dtype: torch.dtype, name: str) -> Sight:
        """With the tensors of a checkpoint, those of the language model left out (``parted``).

        Raises:
            BadWeights: a tensor is missing, left over, or of another shape.
        """
        known = tower_config(config, name)
        whole = {key.removeprefix(_TOWER): tensor for key, tensor in state.items() if key.startswith(_TOWER)}
        tower = filled(tower_class(known), known, cut_state(whole, known), dtype, name)
        with torch.device("meta"):
            sight = cls(tower, connector_of(config, known.hidden_size))
        rest = {key: tensor for key, tensor in state.items() if not key.startswith(_TOWER)}
        own = {f"vision_tower.{key}": tensor for key, tensor in tower.state_dict().items()}
        return fill(sight, rest | own, dtype, name)


class VideoLlama2:
    """Eyes for pictures; ``image_token`` is the token's text."""

    def __init__(self, net: Sight, rules: VideoLlama2Rules, image_token: str = IMAGE_TOKEN) -> None:
        self._net, self._rules, self._image_token = net, rules, image_token

    def prepare(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """One picture uint8 (H, W, 3) to float32 (1, 3, size, size), a clip of one frame."""
        return self._rules.square.levels.numbers(squared(image, self._rules.square)[None])

    def encode(self, batch: Tensor) -> Tensor:
        """(B, 1, 3, size, size) to rows (B, M, D). A picture is seen once, however many frames it stands for."""
        seen = patches(self._net.vision_tower, batch[:, 0])  # (B, N, C)
        return self._net.mm_projector.still(seen, self._rules.frames)  # (B, M, D)

    def slot(self, size_hw: Size) -> str:
        return self._image_token * stc.tokens(self._rules.connector, self._rules.frames, self._rules.side)

    def packed(self, rows: Tensor, size_hw: Size) -> Tensor:
        return rows


class VideoLlama2Frames:
    """Eyes for single frames of a video; ``video_token`` is the token's text.

    Frames are kept as the tower sees them, since the connector needs them together: ``film`` connects them. Of a clip
    that has fewer than the weights were trained with some are shown twice, as the authors do it.
    """

    def __init__(self, net: Sight, rules: VideoLlama2Rules, video_token: str = VIDEO_TOKEN) -> None:
        self._net, self._rules, self._video_token = net, rules, video_token
        self.most = rules.frames

    def prepare(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """One frame uint8 (H, W, 3) to float32 (3, size, size)."""
        return self._rules.square.levels.numbers(squared(image, self._rules.square))

    def encode(self, batch: Tensor) -> Tensor:
        """(B, 3, size, size) to rows (B, N, C) of the *tower's* width."""
        return patches(self._net.vision_tower, batch)

    def slot(self, size_hw: Size) -> str:
        return self.film_slot(self._rules.frames)

    def packed(self, rows: Tensor, size_hw: Size) -> Tensor:
        """As they are: ``film`` connects them."""
        return rows

    def film_slot(self, count: int) -> str:
        """The text that stands for a film of so many frames."""
        shown = max(count, self._rules.frames)
        return self._video_token * stc.tokens(self._rules.connector, shown, self._rules.side)

    def film(self, frames: Tensor) -> Tensor:
        """All frames (F, N, C) as they stand in a prompt, (M, D)."""
        if (count := len(frames)) < self._rules.frames:
            frames = frames[list(frame_numbers(count, self._rules.frames))]  # (F', N, C)
        rows: Tensor = self._net.mm_projector(frames[None])[0]  # (M, D)
        return rows


def rules_of(config: Mapping[str, Any], name: str, is_padded: bool = True) -> VideoLlama2Rules:
    """What a ``config.json`` says; ``is_padded=False`` looks as the authors' ``mm_infer`` does.

    Raises:
        BadWeights: another tower or connector than the published ones.
    """
    known = tower_config(config, name)
    is_clip = known.model_type == "clip_vision_model"
    levels = Levels(CLIP_MEAN, CLIP_STD) if is_clip else Levels(HALF, HALF)
    size, patch = cast(int, known.image_size), cast(int, known.patch_size)
    if is_padded:
        square = SquareRules(size, "pad", levels)
    else:
        square = SquareRules(size, "crop", levels, size) if is_clip else SquareRules(size, "squash", levels)
    frames, kind = int(config.get("num_frames", FRAMES)), str(config.get("mm_projector_type"))
    return VideoLlama2Rules(frames, square, kind, size // patch)


def tower_config(config: Mapping[str, Any], name: str) -> TowerConfig:
    """Of the tower that ``config.json`` names. A dict in the place of the name is taken as its configuration.

    Raises:
        BadWeights: a tower that is not known.
    """
    wanted = config.get("mm_vision_tower")
    content = wanted if isinstance(wanted, Mapping) else TOWERS.get(str(wanted))
    if content is None:
        raise BadWeights(f"{name}: mm_vision_tower {wanted!r}: want one of {', '.join(TOWERS)}")
    return cut_config(content, int(config.get("mm_vision_select_layer", LAYER)), name)


def connector_of(config: Mapping[str, Any], width: int) -> stc.Connector | stc.Averaged | stc.AveragedLinear:
    """The connector that ``config.json`` names, behind a tower of that width."""
    return stc.connector(str(config.get("mm_projector_type")), width, int(config["hidden_size"]))


def parted(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A published checkpoint in two: what ``Sight`` is filled with, without ``model.``, and the language model under
    the names of transformers."""
    prefixes = tuple(f"model.{part}" for part in ("vision_tower.", _PROJECTOR))
    sight = {key.removeprefix("model."): one for key, one in state.items() if key.startswith(prefixes)}
    return sight, {key: one for key, one in state.items() if not key.startswith(prefixes)}


def frame_numbers(count: int, wanted: int) -> tuple[int, ...]:
    """Which of ``count`` frames are shown: the middles of ``wanted`` equal parts. A short clip shows some twice."""
    part = (count - 1) / wanted
    middles = np.asarray([(part * number + part * (number + 1)) / 2 for number in range(wanted)])  # (F,)
    return tuple(int(place) for place in np.round(middles + _NUDGE))
