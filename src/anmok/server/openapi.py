"""The OpenAPI of a server, as ``/openapi.json`` serves it and ``docs/openapi.json`` keeps it:

python -m anmok.server.openapi > docs/openapi.json
"""

from __future__ import annotations

import json
import sys
from typing import Any

JSON = "application/json"


def refused(schema: dict[str, Any]) -> dict[int | str, dict[str, Any]]:
    """What OpenAPI says of the errors of a dialect, whose bodies are of this form."""
    content = {JSON: {"schema": schema}}
    return {
        "4XX": {"description": "The request is not answered as it is", "content": content},
        "5XX": {"description": "Not now, not yet, or not by this server", "content": content},
    }


def path_version() -> dict[str, Any]:
    """A part of the address that is read and means nothing."""
    return {"parameters": [{"name": "version", "in": "path", "required": True, "schema": {"type": "string"}}]}


def text() -> str:
    """The document of a server without models: the routes are the same for all."""
    from anmok.server.app import build  # it imports the dialects, which import this
    from anmok.server.settings import Settings

    return json.dumps(build(Settings()).api.openapi(), ensure_ascii=False, indent=1) + "\n"


if __name__ == "__main__":
    sys.stdout.write(text())
