"""Image search: the photos of a folder that fit some words or another photo best, exactly, on this machine.

model = anmok.load("mini")
photos = index.build(Path("photos"), model)
for hit in photos.search(index.by_words(model, "a red car"), 24):
    print(hit.path, hit.cosine)
"""

from __future__ import annotations

from anmok.index.building import MOST, Progress, build
from anmok.index.embedding import Embedder, Loaded, Served, by_photo, by_words
from anmok.index.searching import Hit, Index

__all__ = ["MOST", "Embedder", "Hit", "Index", "Loaded", "Progress", "Served", "build", "by_photo", "by_words"]
