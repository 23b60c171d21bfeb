"""The upper rungs: those that change the picture tower, within a budget of seconds, on the development pool alone."""

from __future__ import annotations
