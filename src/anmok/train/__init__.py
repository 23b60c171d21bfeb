"""Training: losses, one trainer, and the ways to change a few weights or many of a model that is loaded."""

from __future__ import annotations
