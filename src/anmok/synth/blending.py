"""Filling in what was taken away, and putting a change into a picture with an exact mask."""

from __future__ import annotations

import numpy as np

from anmok.media import Image
from anmok.synth import filters
from anmok.synth.filters import Mask
from anmok.synth.noise import Floats, enlarged

_LEAST_GAIN, _MOST_GAIN = 0.1, 4.0  # more would show the noise of a plain surface as if it were a defect


def membrane(values: Floats, is_known: Mask) -> Floats:
    """Values (h, w, C) at the known pixels, carried smoothly over the others: float32 (h, w, C).

    A quick stand-in for the harmonic membrane that Poisson blending solves for (Perez et al. 2003): means of ever
    coarser grids fill what the finer ones do not know (the pull-push of Gortler et al. 1996).
    """
    weight = is_known.astype(np.float32)[..., None]  # (h, w, 1)
    return _pull_push(np.asarray(values * weight, np.float32), weight)


def _pull_push(total: Floats, weight: Floats) -> Floats:
    known = np.asarray(np.minimum(weight, 1), np.float32)
    own = np.asarray(total / np.maximum(weight, 1e-6), np.float32)
    height, width = total.shape[:2]
    if max(height, width) <= 1 or float(known.min()) == 1:
        return np.asarray(own, np.float32)
    coarse = _pull_push(_halved(np.asarray(own * known, np.float32)), _halved(known))
    planes = [enlarged(np.ascontiguousarray(coarse[..., c]), (height, width)) for c in range(coarse.shape[2])]
    return np.asarray(known * own + (1 - known) * np.stack(planes, axis=-1), np.float32)


def _halved(values: Floats) -> Floats:
    """Sums of two by two, (ceil h/2, ceil w/2, C)."""
    height, width = values.shape[:2]
    even = np.pad(values, ((0, height % 2), (0, width % 2), (0, 0)))
    return np.asarray(even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2], np.float32)


def erased(before: Floats, gone: Mask, rng: np.random.Generator) -> Floats:
    """The window (h, w, 3) as if nothing had been in ``gone``: its surroundings carried over, with their grain."""
    smooth = membrane(before, ~gone)
    around = np.flatnonzero(~gone.ravel())
    if not around.size:
        return smooth
    grain = (before - filters.mean_around(before, 5)).reshape(-1, 3)  # (h * w, 3)
    rough = np.abs(grain).max(axis=1)  # (h * w,)
    # Without the edges that lie around: they would come out as specks.
    around = around[rough[around] <= 2.5 * np.median(rough[around])]
    drawn = grain[rng.choice(around, gone.size)].reshape(before.shape)  # (h, w, 3)
    return np.asarray(np.where(gone[..., None], smooth + drawn, before), np.float32)


def settle(before: Image, wanted: Floats, cover: Floats, contrast: float | None, least: float) -> Image | None:
    """``wanted`` (h, w, 3) put over ``before`` where ``cover`` (h, w) is above 0, as uint8.

    With ``contrast`` the change is scaled until its mean is that share of full scale; a change that the end of the
    scale cuts off below ``least`` is turned about (a dark scratch on black becomes a bright one). Every pixel under
    the cover differs from before by one level at least, and no other pixel does: the mask is exact. None where the
    change stays below ``least``.
    """
    is_under = cover > 0  # (h, w)
    ground = before.astype(np.float32)
    change = (wanted - ground) * cover[..., None]  # (h, w, 3)
    ways = [change] if contrast is None else [_scaled(one, ground, is_under, contrast) for one in (change, -change)]
    for way in ways:
        rounded = np.asarray(np.clip(np.round(ground + way), 0, 255), np.float32)
        after = _visible(ground, rounded, np.asarray(way, np.float32), is_under)
        if _strength(after - ground, is_under) >= least:
            return after.astype(np.uint8)
    return None


def _scaled(change: Floats, ground: Floats, is_under: Mask, contrast: float) -> Floats:
    """Again where the ends of the scale cut some of it off."""
    gain = 1.0
    for _ in range(3):
        held = np.clip(ground + gain * change, 0, 255) - ground
        strength = _strength(np.asarray(held, np.float32), is_under)
        gain = float(np.clip(gain * contrast / max(strength, 1e-6), _LEAST_GAIN, _MOST_GAIN))
    return np.asarray(gain * change, np.float32)


def _strength(change: Floats, is_under: Mask) -> float:
    return float(np.abs(change[is_under]).max(axis=1).mean()) / 255


def _visible(ground: Floats, after: Floats, change: Floats, is_under: Mask) -> Floats:
    """Pixels that rounding left as they were move by one level, all channels alike."""
    still = is_under & (after == ground).all(axis=2)  # (h, w)
    way = np.where(change.sum(axis=2) > 0, 1.0, -1.0)[still, None]  # (n, 1)
    old = ground[still]  # (n, 3)
    moved = np.where(((old + way < 0) | (old + way > 255)).any(axis=1, keepdims=True), old - way, old + way)
    after[still] = np.clip(moved, 0, 255)
    return np.asarray(np.where(is_under[..., None], after, ground), np.float32)
