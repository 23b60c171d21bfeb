"""Something to copy: the same action in Python, curl or on the command line."""

from __future__ import annotations

from typing import Any

import gradio as gr


def code_tab(label: str, language: Any, value: str | None = None) -> gr.Code:
    """A tab with a box of code, which can be copied and not changed."""
    with gr.Tab(label):
        return gr.Code(
            value,
            language=language,
            label=label,
            interactive=False,
            wrap_lines=True,
            show_line_numbers=False,
            buttons=["copy"],
            lines=3,
        )
