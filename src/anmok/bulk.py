"""The one pipeline over many files: read ahead, infer, write; a bad file is a ``Failure``, not the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from anmok.errors import BadRequest
from anmok.files import write_beside
from anmok.load import Model
from anmok.results import Failure
from anmok.tasks import Embed

_ROW_GROUP = 1024


def embed_files(
    model: Model,
    paths: Sequence[Path],
    output: Path,
    *,
    space: Literal["image", "features"] = "image",
    progress: Callable[[int, int], None] | None = None,
) -> list[Failure]:
    """A Parquet file with the columns ``image`` (string) and ``vector`` (float32 list), and the model's maker in its
    metadata. Returns what could not be read.

    Raises:
        CannotWrite: nothing half-written is left.
        BadMedia: not one file could be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if output.suffix != ".parquet":
        raise BadRequest(f"{output}: the file must end in .parquet")
    names: list[str] = []
    vectors: list[np.ndarray] = []
    failures: list[Failure] = []
    answers = model.map(paths, Embed(space=space))
    for done, (path, answer) in enumerate(zip(paths, answers, strict=True), start=1):
        if isinstance(answer, Failure):
            failures.append(answer)
        else:
            names.append(str(path))
            vectors.append(answer.vector)
        if progress is not None:
            progress(done, len(paths))
    if not vectors:
        raise failures[0].error
    table = pa.table({"image": names, "vector": pa.array(vectors, pa.list_(pa.float32()))})
    table = table.replace_schema_metadata({"anmok.maker": model.maker, "anmok.space": space})
    with write_beside(output) as beside:
        pq.write_table(table, beside, row_group_size=_ROW_GROUP)
    return failures
