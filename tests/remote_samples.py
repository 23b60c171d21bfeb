"""A picture and a conversation that go out to vendors, and what is compared of what comes back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from anmok import Conversation
from anmok.models.remote import places
from anmok.results import Reply
from remote_vendor import DOORS

RED = np.full((30, 40, 3), (255, 0, 0), np.uint8)
SAID = Conversation.about(RED, question="뭐예요?", system="Be short.").then("A box.", "Sure? 🌈")
ALL_DOORS = pytest.mark.parametrize("door", DOORS)


def facts(reply: Reply) -> tuple[Any, ...]:
    return reply.tokens_in, reply.tokens_out, reply.image_tokens, reply.unknown


def forget_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """What this machine's environment has for vendors."""
    for names in (one.keys for one in places.VENDORS.values()):
        for name in names:
            monkeypatch.delenv(name, raising=False)
