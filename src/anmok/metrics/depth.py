"""Depth maps against measured depth, with the alignments that relative depth needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from anmok.errors import BadRequest

Floats = NDArray[np.float64]
Align = Literal["none", "median", "depth", "disparity"]
_RATIO = 1.25


@dataclass(frozen=True, slots=True)
class DepthScores:
    """Errors of one picture, or the mean of several. d is the aligned depth, t the true one, both of a valid pixel.

    ``abs_rel``: mean of |d - t| / t. ``sq_rel``: mean of (d - t)^2 / t, in the unit of depth. ``rmse``: in the unit of
    depth. ``rmse_log``: of the natural logarithms. ``log10``: mean of |log10 d - log10 t|. ``si_log``: 100 times the
    standard deviation of ln d - ln t, as KITTI has it; others take only half of the squared mean off, and no 100.
    ``delta1`` .. ``delta3``: share of pixels where max(d / t, t / d) is below 1.25, 1.25^2, 1.25^3. ``scale`` and
    ``shift`` are those of the alignment; ``None`` in a mean.
    """

    abs_rel: float
    sq_rel: float
    rmse: float
    rmse_log: float
    log10: float
    si_log: float
    delta1: float
    delta2: float
    delta3: float
    pixels: int
    scale: float | None
    shift: float | None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def depth_scores(
    found: NDArray[np.floating],
    truth: NDArray[np.floating],
    *,
    valid: NDArray[np.bool_] | None = None,
    align: Align = "none",
    min_depth: float = 1e-3,
    max_depth: float | None = None,
) -> DepthScores:
    """How far a depth map is off.

    A pixel is valid where ``valid`` says so and the true depth is finite, above ``min_depth`` and below
    ``max_depth``. The aligned prediction is clipped to the same range, as the published protocols do.

    Args:
        found: depth (H, W), or disparity (the larger the nearer) with ``align="disparity"``: ``DepthMap.kind`` says
            which.
        truth: measured depth (H, W).
        valid: pixels that have a measurement.
        align: ``none`` for metric depth; ``median`` scales by the ratio of the medians (depth of unknown scale);
            ``depth`` fits scale and shift by least squares (depth of unknown scale and shift); ``disparity`` fits
            them to 1 / truth and turns the result over (what Depth Anything V2 and MiDaS give).
        min_depth: above 0.
        max_depth: ``None`` for no limit. A fitted disparity of 0 or less means endless depth: it comes out at
            ``max_depth``, without one at the greatest true depth.

    Raises:
        BadRequest: maps of two sizes, no valid pixel, or a prediction that is not finite there.

    Source: Eigen et al., "Depth Map Prediction from a Single Image using a Multi-Scale Deep Network" (NeurIPS 2014),
    the measures; Zhou et al., "Unsupervised Learning of Depth and Ego-Motion from Video" (CVPR 2017), the median;
    Ranftl et al., "Towards Robust Monocular Depth Estimation" (TPAMI 2022), the fit in disparity.
    """
    if min_depth <= 0 or (max_depth is not None and max_depth <= min_depth):
        raise BadRequest(f"depth range {min_depth} to {max_depth}: want 0 < min_depth < max_depth")
    t, d = _valid_pixels(found, truth, valid, (min_depth, np.inf if max_depth is None else max_depth))
    scale, shift = _alignment(d, t, align)
    d = d * scale + shift
    top = max_depth
    if align == "disparity":
        top = float(t.max()) if max_depth is None else max_depth
        d = 1 / np.clip(d, 1 / top, 1 / min_depth)
    return _measures(np.clip(d, min_depth, top), t, scale, shift)


def mean_depth_scores(scores: Sequence[DepthScores]) -> DepthScores:
    """The mean over pictures, each with the same weight whatever its valid pixels; ``pixels`` are summed.

    Raises:
        BadRequest: no picture.
    """
    if not scores:
        raise BadRequest("depth: no picture to take the mean of")
    names = [one.name for one in fields(DepthScores) if one.name not in ("pixels", "scale", "shift")]
    means: dict[str, Any] = {name: float(np.mean([getattr(one, name) for one in scores])) for name in names}
    return DepthScores(**means, pixels=sum(one.pixels for one in scores), scale=None, shift=None)


def _valid_pixels(
    found: NDArray[np.floating],
    truth: NDArray[np.floating],
    valid: NDArray[np.bool_] | None,
    limits: tuple[float, float],
) -> tuple[Floats, Floats]:
    """True and found values of the valid pixels (P,)."""
    if found.shape != truth.shape or (valid is not None and valid.shape != truth.shape):
        raise BadRequest(f"depth: prediction {found.shape}, truth {truth.shape}; want the same size, and of valid too")
    where = np.isfinite(truth) & (truth > limits[0]) & (truth < limits[1])
    if valid is not None:
        where &= valid.astype(np.bool_)
    if not where.any():
        raise BadRequest("depth: no valid pixel; look at valid, min_depth, max_depth and the unit of the truth")
    d = found[where].astype(np.float64)
    if not np.isfinite(d).all():
        raise BadRequest("depth: the prediction is not finite at a valid pixel")
    return truth[where].astype(np.float64), d


def _alignment(d: Floats, t: Floats, align: Align) -> tuple[float, float]:
    """Scale and shift for the prediction (P,)."""
    if align == "none":
        return 1.0, 0.0
    if align == "median":
        middle = float(np.median(d))
        if middle <= 0:
            raise BadRequest(f"depth: the median of the prediction is {middle:g}, which no scale makes a depth")
        return float(np.median(t)) / middle, 0.0
    if align not in ("depth", "disparity"):
        raise BadRequest(f"align {align!r}: want none, median, depth or disparity")
    goal = t if align == "depth" else 1 / t
    centred = d - d.mean()
    spread = float(centred @ centred)
    scale = float(centred @ (goal - goal.mean())) / spread if spread > 0 else 0.0
    return scale, float(goal.mean() - scale * d.mean())


def _measures(d: Floats, t: Floats, scale: float, shift: float) -> DepthScores:
    error, logs = d - t, np.log(d) - np.log(t)
    ratio = np.maximum(d / t, t / d)
    return DepthScores(
        abs_rel=float((np.abs(error) / t).mean()),
        sq_rel=float((error**2 / t).mean()),
        rmse=float(np.sqrt((error**2).mean())),
        rmse_log=float(np.sqrt((logs**2).mean())),
        log10=float(np.abs(logs).mean() / np.log(10)),
        si_log=float(100 * logs.std()),
        delta1=float((ratio < _RATIO).mean()),
        delta2=float((ratio < _RATIO**2).mean()),
        delta3=float((ratio < _RATIO**3).mean()),
        pixels=d.size,
        scale=scale,
        shift=shift,
    )
