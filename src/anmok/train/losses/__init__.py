"""Losses over pairs of pictures and texts, in memory that grows with the batch, not with its square."""

from __future__ import annotations

from anmok.train.losses.across import clip_loss_across, siglip_loss_across
from anmok.train.losses.contrastive import clip_loss, siglip_loss
from anmok.train.losses.matching import Matching
from anmok.train.losses.tiles import CHUNK

__all__ = ["CHUNK", "Matching", "clip_loss", "clip_loss_across", "siglip_loss", "siglip_loss_across"]
