"""A folder of answers: pictures, crops, a contact sheet, and files that other tools read."""

from __future__ import annotations

from anmok.gallery.folder import FORMS, Gallery, Kept
from anmok.gallery.summary import summary

__all__ = ["FORMS", "Gallery", "Kept", "summary"]
