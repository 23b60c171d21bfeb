"""Synthetic pictures with exact labels: defects on the user's own good images, pasted objects, swapped backgrounds."""

from __future__ import annotations
