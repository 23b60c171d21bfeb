"""From a conversation to the tokens that a language model reads, and from its tokens back to bytes.

Templates and tokenizers come with a model's files. What the user typed is never taken for a special token of theirs,
and what a template may do is bounded by a sandbox. Needs tokenizers and jinja2, not torch.
"""

from __future__ import annotations

from anmok.wording.guide import Guide, Held
from anmok.wording.reader import Reader, Span
from anmok.wording.template import Template

__all__ = ["Guide", "Held", "Reader", "Span", "Template"]
