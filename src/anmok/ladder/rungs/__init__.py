"""The rungs. Each turns cached features and a support set into a ``Head``; nothing here sees a test image."""

from __future__ import annotations
