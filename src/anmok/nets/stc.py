"""VideoLLaMA2's connectors: the frames of a clip, or one picture many times, to the tokens of a language model.

Architecture: Z. Cheng et al., "VideoLLaMA 2: Advancing Spatial-Temporal Modeling and Audio Understanding in Video-LLMs"
(2024, arXiv:2406.07476; github.com/DAMO-NLP-SG/VideoLLaMA2, ``model/projector.py``), the spatial-temporal convolution
(STC) and what it was compared with. Modules carry the names of the published checkpoints.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from anmok.errors import BadWeights
from anmok.nets.projectors import as_map, as_rows, mlp, projector
from anmok.nets.regstage import RegStage

_LAYERS = 2  # of the readout


@dataclass(frozen=True)
class Kind:
    """``step``: how many frames, rows and columns become one. ``padding`` is put around all three, and is what makes
    the first STC connector give a frame, a row and a column more than half."""

    step: tuple[int, int, int]
    depth: int
    padding: int
    is_pooled: bool = False


KINDS = {
    "stc_connector": Kind((2, 2, 2), depth=4, padding=1),
    "stc_connector_v35": Kind((2, 2, 2), depth=4, padding=0),
    "stp_connector": Kind((2, 2, 2), depth=4, padding=0, is_pooled=True),
    "spatial_conv": Kind((1, 2, 2), depth=0, padding=1),
    "spatial_pool": Kind((1, 2, 2), depth=0, padding=0, is_pooled=True),
}


class Connector(nn.Module):
    """``inputs`` is the tower's width, ``outputs`` the language model's.

    Raises:
        BadWeights: no such kind; or a kind without stages between two widths, which upstream cannot build either.
    """

    def __init__(self, name: str, inputs: int, outputs: int) -> None:
        super().__init__()
        if (kind := KINDS.get(name)) is None:
            raise BadWeights(f"mm_projector_type {name!r}: want {', '.join(KINDS)}, or one that averages the frames")
        if not kind.depth and inputs != outputs:
            raise BadWeights(f"mm_projector_type {name!r}: the widths {inputs} and {outputs} are not the same")
        self.kind = kind
        self.s1 = _stage(kind.depth, inputs, outputs)
        step = (
            nn.AvgPool3d(kind.step)
            if kind.is_pooled
            else nn.Conv3d(outputs, outputs, kind.step, kind.step, padding=kind.padding)
        )
        self.sampler = nn.Sequential(step, nn.SiLU())
        self.s2 = _stage(kind.depth, outputs, outputs)
        self.readout = mlp(_LAYERS, outputs, outputs, nn.GELU)

    def forward(self, frames: Tensor) -> Tensor:
        """Tokens (B, T, N, C) of T frames with N, a square number, each: (B, t h w, D), frame by frame."""
        x: Tensor = self.s1(as_map(frames.flatten(0, 1)))  # (B T, D, H, W)
        return self._folded(x.reshape(len(frames), -1, *x.shape[1:]).transpose(1, 2))

    def still(self, rows: Tensor, frames: int) -> Tensor:
        """One frame (B, N, C) so many times: what ``forward`` gives, but the first stage sees it once."""
        x: Tensor = self.s1(as_map(rows))  # (B, D, H, W)
        return self._folded(x[:, :, None].expand(-1, -1, frames, -1, -1))

    def _folded(self, x: Tensor) -> Tensor:
        """(B, D, T, H, W) to (B, t h w, D)."""
        folded = self.sampler(x).transpose(1, 2)  # (B, t, D, h, w)
        rows = as_rows(self.s2(folded.flatten(0, 1)))  # (B t, h w, D)
        told: Tensor = self.readout(rows.reshape(len(x), -1, rows.shape[-1]))  # (B, t h w, D)
        return told


class Averaged(nn.Sequential):
    """A projector of LLaVA on the mean of all frames: (B, T, N, C) to (B, N, D)."""

    def forward(self, frames: Tensor) -> Tensor:
        rows = frames.mean(1)  # (B, N, C)
        for layer in self:
            rows = layer(rows)  # (B, N, D)
        return rows

    def still(self, rows: Tensor, frames: int) -> Tensor:
        """One frame (B, N, C), which is its own mean."""
        return self.forward(rows[:, None])


class AveragedLinear(nn.Linear):
    """The same with one layer, whose weights have no number in their names."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.mean(1))  # (B, N, D)

    def still(self, rows: Tensor, frames: int) -> Tensor:
        """One frame (B, N, C), which is its own mean."""
        return self.forward(rows[:, None])


def connector(name: str, inputs: int, outputs: int) -> Connector | Averaged | AveragedLinear:
    """What ``mm_projector_type`` names: frames (B, T, N, inputs) to tokens (B, M, outputs). All have ``still``, for a
    picture that is shown as a clip.

    Raises:
        BadWeights: no such kind, or widths that it cannot connect.
    """
    if name == "linear":
        return AveragedLinear(inputs, outputs)
    if name == "mlp2x_gelu":
        layers = projector(name, inputs, outputs)
        return Averaged(*layers.children())
    return Connector(name, inputs, outputs)


def tokens(name: str, frames: int, side: int) -> int:
    """How many tokens ``connector`` makes of that many frames of ``side`` x ``side`` tokens."""
    if (kind := KINDS.get(name)) is None:
        return side**2
    padding = 2 * kind.padding
    deep, high = ((size + padding - step) // step + 1 for size, step in zip((frames, side), kind.step[:2], strict=True))
    return deep * high**2


def _stage(depth: int, inputs: int, outputs: int) -> nn.Module:
    return RegStage(depth, inputs, outputs) if depth else nn.Identity()
