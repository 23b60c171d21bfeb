"""The page: where people who would rather look than type do the whole job. Thin over ``engine`` and ``evidence``.

``mount`` puts it into a server. One tab is one module with ``tab(page)``; its words stand in ``texts``.
"""

from __future__ import annotations

from anmok.ui.host import Host
from anmok.ui.mounting import mount
from anmok.ui.page import Page

__all__ = ["Host", "Page", "mount"]
