"""What the pages about costs and trust print is what their examples print."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

_PAIR = re.compile(r"^```python\n(.*?)^```\n\n```text\n(.*?)^```", re.DOTALL | re.MULTILINE)
DOCS = Path(__file__).parent.parent / "docs"


@pytest.mark.parametrize("page", ["costs.md", "trust.md"])
def test_examples_print_what_the_page_says(page: str) -> None:
    pairs = _PAIR.findall((DOCS / page).read_text(encoding="utf-8"))
    assert len(pairs) >= 4
    names: dict[str, object] = {}
    for code, printed in pairs:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(code, page, "exec"), names)
        assert out.getvalue() == printed
