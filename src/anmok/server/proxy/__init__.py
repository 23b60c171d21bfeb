"""Chat for models that another engine runs: what may pass to it, what may come back, and which engine is asked."""

from __future__ import annotations

from anmok.server.proxy.address import Upstream
from anmok.server.proxy.answers import EngineFailed, EngineSilent, Reply
from anmok.server.proxy.engine import Condition
from anmok.server.proxy.limits import Caps

__all__ = ["Caps", "Condition", "EngineFailed", "EngineSilent", "Reply", "Upstream"]
