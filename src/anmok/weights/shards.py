"""Large weights come in pieces: an index, and the shards that it names, stand for ``model.safetensors``."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Final

from anmok.errors import BadWeights

WHOLE: Final = "model.safetensors"
INDEX: Final = "model.safetensors.index.json"

_MOST_SHARDS: Final = 1000  # the largest open models have less than 200
_MOST_BYTES: Final = 64 * 2**20  # of an index; one of 90,000 tensors has 9 MB
_NAME: Final = re.compile(r"\w[\w.-]*\.safetensors", re.ASCII)


def shards_of(index: Path) -> tuple[str, ...]:
    """The names of the shards, in order. All of them lie beside the index.

    The form of the index is that of transformers: ``{"weight_map": {tensor: file}}``.

    Raises:
        BadWeights: it is no such index, too large, or names something that is no file of safetensors beside it.
    """
    size = index.stat().st_size
    if size > _MOST_BYTES:
        raise BadWeights(f"{index} has {size} bytes; an index of shards has at most {_MOST_BYTES}")
    try:
        named = set(json.loads(index.read_bytes())["weight_map"].values())
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise BadWeights(f"{index} is no index of shards ({error!r}); delete it and pull again") from error
    for name in named:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise BadWeights(f"{index} names {str(name)[:80]!r}, which is no .safetensors file beside it")
    if not 0 < len(named) <= _MOST_SHARDS:
        raise BadWeights(f"{index} names {len(named)} shards; want 1 to {_MOST_SHARDS}")
    return tuple(sorted(named))
