"""Synthetic pictures with exact labels: defects on the user's own good images, pasted objects, swapped backgrounds."""

from __future__ import annotations

from anmok.synth.generated import Generates, Given, generated
from anmok.synth.making import Maker, drawn, make
from anmok.synth.mixing import MAX_RATIO, RATIOS, WEIGHT, Mix, balance, usable
from anmok.synth.pasting import Cutout, cut, paste, swap_background
from anmok.synth.pictures import Good, Made, Provenance
from anmok.synth.recipes import KINDS, Camera, Kind, Pasting, Recipe
from anmok.synth.surfaces import SURFACES, Surface, surface
from anmok.synth.tables import Entry, read_table, write

__all__ = [
    "KINDS",
    "MAX_RATIO",
    "RATIOS",
    "SURFACES",
    "WEIGHT",
    "Camera",
    "Cutout",
    "Entry",
    "Generates",
    "Given",
    "Good",
    "Kind",
    "Made",
    "Maker",
    "Mix",
    "Pasting",
    "Provenance",
    "Recipe",
    "Surface",
    "balance",
    "cut",
    "drawn",
    "generated",
    "make",
    "paste",
    "read_table",
    "surface",
    "swap_background",
    "usable",
    "write",
]
