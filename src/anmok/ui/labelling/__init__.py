"""The tab ``Label``: pictures answered by keystroke, and at any moment how far the result can be trusted.

``tab`` is the form and the end; what happens between them is ``desk.js`` over the addresses of ``routes``.
"""

from __future__ import annotations

from anmok.ui.labelling.routes import routes
from anmok.ui.labelling.tab import tab

__all__ = ["routes", "tab"]
