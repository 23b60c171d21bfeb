"""What a server's name stands for: a card, or the folder of an adapter or a memory on top of one."""

from __future__ import annotations

from pathlib import Path

from anmok.catalogue import Card, card
from anmok.load.adapter import MANIFEST, Adapter
from anmok.load.bank import base_of, inspecting, is_bank


def card_of(target: str) -> Card:
    """Of a card's name, or of the model in that folder, with the tasks that it has there. Nothing is loaded.

    Raises:
        UnknownModel: no such name.
        BadData: the folder of an adapter or a memory that is damaged.
    """
    folder = Path(target).expanduser()
    if not (folder / MANIFEST).is_file():
        return card(target)
    if is_bank(folder):
        return inspecting(card(base_of(folder)))
    adapter = Adapter.read(folder)
    return adapter.card_on(card(adapter.base))
