"""Where a question brings sounds along: two fields that are there for a model that hears, and for no other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from anmok.clips import SOUND_SUFFIXES
from anmok.ui.chatting import showing
from anmok.ui.host import Host
from anmok.ui.page import Page


@dataclass(frozen=True, slots=True)
class Ears:
    """The files of sounds, and whether videos are played with theirs."""

    sounds: Any
    has_sound: Any

    def follow(self, host: Host, model: Any, pictures: Any, seen: Any) -> None:
        """Shows the fields where the chosen model hears, and hides them, emptied, where it does not: a sound that
        nobody sees would go along with the next question."""

        def chosen(name: str, shown: Sequence[str] | None, heard: Sequence[str] | None) -> list[Any]:
            if hears(host, name):
                return [gr.update(visible=True), gr.update(visible=True), showing.brought(shown, heard)]
            return [
                gr.update(visible=False, value=None),
                gr.update(visible=False, value=False),
                showing.brought(shown, None),
            ]

        given, told = [model, pictures, self.sounds], [self.sounds, self.has_sound, seen]
        model.change(chosen, given, told, api_visibility="private", show_progress="hidden")
        for field in (pictures, self.sounds):
            field.change(
                showing.brought, [pictures, self.sounds], [seen], api_visibility="private", show_progress="hidden"
            )


def fields(page: Page) -> Ears:
    """As they are for the model that is chosen first."""
    words = page.words
    is_shown = hears(page.host, page.host.doing("chat")[0])
    sounds = gr.File(
        label=words("chat.sounds"),
        file_count="multiple",
        file_types=sorted(SOUND_SUFFIXES),
        height=120,
        visible=is_shown,
        elem_id="chat-sounds",
    )
    has_sound = gr.Checkbox(False, label=words("chat.has_sound"), visible=is_shown, elem_id="chat-has-sound")
    return Ears(sounds, has_sound)


def hears(host: Host, name: str) -> bool:
    """Whether that is a model of this server that hears."""
    return name in host.models and host.models[name].has_ears
