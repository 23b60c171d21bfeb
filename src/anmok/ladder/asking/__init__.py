"""Rungs V0 and V: a vision-language model that is asked about each picture, alone or behind labelled examples."""

from __future__ import annotations
