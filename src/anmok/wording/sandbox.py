"""Where chat templates are rendered: they see messages and nothing of Python, and their work is bounded.

The language is that of transformers' chat templates (its documentation, "Chat templates"), which they were written
for: Jinja with ``break`` and ``continue``, ``generation`` blocks, ``tojson``, ``raise_exception``, ``strftime_now``.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Final

from jinja2 import nodes
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedFormatter
from jinja2.utils import Namespace

LONGEST: Final = 2**20  # letters of a template, of what it makes, and of any text on the way
_MOST_TURNS: Final = 50_000  # of all its loops and macros together
_MOST_SECONDS: Final = 5  # of work
_MOST_ROWS: Final = 10_000  # of a range
_ENTRY: Final = 16  # letters that an entry of a list counts for

# Methods and filters that make much out of little, and that no template needs.
_FILLERS: Final = frozenset(["center", "ljust", "rjust", "zfill", "expandtabs", "format_map", "translate"])
_FILLING: Final = ("center", "format", "indent", "wordwrap", "batch", "slice", "pprint", "urlize", "xmlattr", "round")
_GLOBALS: Final = ("lipsum", "cycler", "joiner")
# Widths in texts that are filled in by ``%`` and by ``format``.
_WIDTHS: Final = re.compile(r"%[^a-zA-Z%]*([0-9]{4,}|\*)")
_FORMATS: Final = re.compile(r"[0-9]{4,}|\{[^}]*\{")


class Refusal(TemplateError):
    """What a template says by ``raise_exception``: that the conversation is not one for it."""


class Sandbox(ImmutableSandboxedEnvironment):
    """Compiles one template. Before each rendering, ``begin``: it counts, for each thread by itself."""

    intercepted_binops = frozenset(("+", "*", "**", "%"))

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _Generation])
        self._work = threading.local()
        for name in _FILLING:
            del self.filters[name]
        for name in _GLOBALS:
            del self.globals[name]
        self.filters["tojson"] = _as_json
        self.filters["replace"] = _replaced
        self.filters["join"] = _joined
        self.globals["range"] = _rows
        self.globals["dict"] = _table
        self.globals["namespace"] = _Names
        self.globals["raise_exception"] = _refuse
        self.globals["strftime_now"] = _now

    @staticmethod
    def concat(pieces: Iterable[str]) -> str:  # what templates, macros and blocks put their pieces together with
        return _joined(pieces)

    def begin(self) -> None:
        self._work.turns, self._work.until = 0, time.thread_time() + _MOST_SECONDS

    def compiled(self, source: str) -> Any:
        """The template, in which loops and macros count their turns, and what it puts together is bounded.

        Raises:
            TemplateError, and whatever Python raises where it compiles what Jinja made of it.
        """
        tree = self.parse(source)
        _change(tree)
        for node in list(tree.find_all((nodes.For, nodes.Macro, nodes.CallBlock))):
            counting = nodes.ExprStmt(_call("count", [], node.lineno), lineno=node.lineno)
            node.body.insert(0, counting)  # type: ignore[attr-defined]
        self.begin()  # some of it is worked out when it is compiled
        return self.from_string(tree)

    def count(self) -> None:
        self._work.turns += 1
        is_late = self._work.turns % 64 == 0 and time.thread_time() > self._work.until
        if self._work.turns > _MOST_TURNS or is_late:
            raise SecurityError(f"more than {_MOST_TURNS:,} turns of its loops, or than {_MOST_SECONDS} s of work")

    def concatenated(self, *values: Any) -> str:
        return _joined(values)

    def weighed(self, made: Any) -> Any:
        """A list or a table that the template made. One in another counts whole, however often it is there."""
        _weigh(made, LONGEST)
        return made

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "*":
            _check_product(left, right)
        elif operator == "**" and (abs(left) > 2**31 or abs(right) > 31):
            raise SecurityError("a power that is too large")
        elif operator == "%" and isinstance(left, str):
            _check_filling(left.count("%"), right)
            if _WIDTHS.search(left):
                raise SecurityError("a width that is too large")
        found = super().call_binop(context, operator, left, right)
        return self.weighed(found)

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Jinja's, but that methods of texts make no more than they may."""
        if isinstance(obj, str) and attribute in _METHODS:
            return partial(_METHODS[attribute], obj)
        return super().getattr(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        if isinstance(obj, str) and isinstance(argument, str):  # x['upper'] is x.upper
            return self.getattr(obj, argument)
        return super().getitem(obj, argument)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        is_filler = isinstance(obj, str) and attr in _FILLERS
        return not is_filler and super().is_safe_attribute(obj, attr, value)


class _Names(Namespace):
    """What ``set ns.x`` writes into. Shown, it says nothing of what may stand in it."""

    def __repr__(self) -> str:
        return "<namespace>"


class _Generation(Extension):
    """``{% generation %}`` marks what a model is trained on; here it is what stands in it."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _call(name: str, arguments: list[nodes.Expr], line: int) -> nodes.Call:
    return nodes.Call(nodes.EnvironmentAttribute(name, lineno=line), arguments, [], None, None, lineno=line)


def _change(node: nodes.Node) -> None:
    """Bounds ``~``, lists and tables, here and within."""
    for name, value in list(node.iter_fields()):
        if isinstance(value, list):
            setattr(node, name, [_changed(one) for one in value])
        elif isinstance(value, nodes.Node):
            setattr(node, name, _changed(value))


def _changed(value: Any) -> Any:
    if not isinstance(value, nodes.Node):
        return value
    _change(value)
    if isinstance(value, nodes.Concat):
        return _call("concatenated", value.nodes, value.lineno)
    is_made = isinstance(value, nodes.List | nodes.Dict) or (isinstance(value, nodes.Tuple) and value.ctx == "load")
    return _call("weighed", [value], value.lineno) if is_made else value  # type: ignore[list-item]


def _weigh(value: Any, left: int) -> int:
    """What is left after letters and entries of it, and of what stands in it."""
    if isinstance(value, str):
        left -= len(value)
    elif isinstance(value, list | tuple | dict):
        left -= _ENTRY * len(value)
    if isinstance(value, dict):
        value = [*value.keys(), *value.values()]
    if left < 0:
        raise SecurityError(f"more than {LONGEST:,} letters or entries")
    if isinstance(value, list | tuple):
        for one in value:
            left = _weigh(one, left)
    return left


def _check_product(left: Any, right: Any) -> None:
    for text, times in ((left, right), (right, left)):
        if isinstance(text, str | list | tuple) and isinstance(times, int) and len(text) * times > LONGEST:
            raise SecurityError(f"more than {LONGEST:,} letters")
    if isinstance(left, int) and isinstance(right, int) and left.bit_length() + right.bit_length() > 256:
        raise SecurityError("a number that is too large")


def _check_filling(places: int, values: Any) -> None:
    if places * (LONGEST - _weigh(values, LONGEST)) > LONGEST:
        raise SecurityError(f"more than {LONGEST:,} letters")


def _replaced(text: Any, old: str, new: str, count: int | None = None) -> str:
    whole, old, new = str(text), str(old), str(new)
    times = whole.count(old) if count is None or count < 0 else min(count, whole.count(old))
    if len(whole) + times * len(new) > LONGEST:
        raise SecurityError(f"more than {LONGEST:,} letters")
    return whole.replace(old, new, times)


def _joined(values: Iterable[Any], d: str = "", attribute: str | None = None) -> str:
    pieces: list[str] = []
    length = 0
    for value in values:
        piece = str(value if attribute is None else value[attribute])
        length += len(piece) + len(d)
        if length > LONGEST:
            raise SecurityError(f"more than {LONGEST:,} letters")
        pieces.append(piece)
    return d.join(pieces)


def _formatted(text: str, *args: Any, **kwargs: Any) -> str:
    """``'{}'.format`` of a text, by Jinja's own formatter, which keeps away from attributes."""
    if _FORMATS.search(text):
        raise SecurityError("a width that is too large")
    _check_filling(text.count("{"), [*args, *kwargs.values()])
    return SandboxedFormatter(_PLAIN).vformat(text, args, kwargs)


def _table(*args: Any, **kwargs: Any) -> dict[Any, Any]:
    made = dict(*args, **kwargs)
    _weigh(made, LONGEST)
    return made


def _rows(*bounds: int) -> range:
    found = range(*bounds)
    if len(found) > _MOST_ROWS:
        raise SecurityError(f"a range of more than {_MOST_ROWS:,}")
    return found


def _as_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: Sequence[str] | None = None,
    sort_keys: bool = False,
) -> str:
    """As transformers has it: not for HTML, so ``<`` stays ``<``."""
    spaces = None if indent is None else min(int(indent), 8)
    pair = None if separators is None else (str(separators[0]), str(separators[1]))
    made: str = json.dumps(value, ensure_ascii=ensure_ascii, indent=spaces, separators=pair, sort_keys=sort_keys)
    return _joined([made])


def _now(form: str) -> str:
    return datetime.now().strftime(str(form)[:100])


def _refuse(message: object) -> None:
    raise Refusal(str(message))


_PLAIN: Final = ImmutableSandboxedEnvironment()
_METHODS: Final[dict[str, Callable[..., str]]] = {
    "format": _formatted,
    "join": lambda text, values: _joined(values, text),
    "replace": _replaced,
}
