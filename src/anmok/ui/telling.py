"""What a visitor is told of an error: as much as helps, and no path of this machine."""

from __future__ import annotations

import html
import logging
import re
from pathlib import Path
from typing import Any, Final

import gradio as gr

from anmok.errors import AnmokError, BadData
from anmok.ui.sessions import uploads
from anmok.ui.texts import Words
from anmok.weights.cache import cache_dir

_LOG: Final = logging.getLogger("anmok.ui")
_LONGEST: Final = 500  # letters
# Below our own folders: names that nobody but us has given.
_MADE_UP: Final = re.compile(r"(?:(?:opened|climbs|labelling|answers)/[\w-]+/|[0-9a-f]{32,64}/)+(?:photos(?:/|(?=:)))?")
_PATH: Final = re.compile(r"(?:^|[\s'\"(=])(?:/[^\s/]|[A-Za-z]:[\\/])")


def told(words: Words, error: AnmokError, root: Path | None) -> str:
    """One line in the page's language. The log has the whole of what is kept back.

    Args:
        words: of the page.
        error: whatever it is.
        root: the folder of this server's that visitors may see; it is called by its name.
    """
    if not isinstance(error, BadData):
        return words.error(error)
    message = _without_places(" ".join(str(error).split()), root)
    if _PATH.search(message):
        _LOG.warning("not told on the page: %s", error)
        message = ""
    return words.error(error, message[:_LONGEST])


def shown(line: str) -> Any:
    """What was told, as gradio shows it."""
    return gr.Error(html.escape(line), print_exception=False)


def _without_places(message: str, root: Path | None) -> str:
    for folder in (uploads(), cache_dir()):
        for place in {str(folder), str(folder.resolve())}:
            start = re.escape(place.rstrip("/") + "/")
            message = re.sub(f"{start}(?:{_MADE_UP.pattern})?", "", message)
    for place in () if root is None else {str(root), str(root.resolve())}:
        message = message.replace(place.rstrip("/"), root.resolve().name if root is not None else "")
    return message
