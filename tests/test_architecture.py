"""The budgets of the code, and the rules that no linter knows. A budget is raised only by a commit of its own."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "anmok"
FILES = sorted(SOURCE.rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))

MAX_FILE, MAX_FUNCTION, MAX_PARAMETERS = 400, 40, 7
# A command's parameters are its flags: typer builds the command line from them.
FLAGS = SOURCE / "cli"
FORBIDDEN_NAMES = {"utils", "util", "helpers", "common", "base", "core", "misc", "manager"}
TORCH_HOMES = ("nets", "models", "train")


def functions(file: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def code_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of the body without the docstring."""
    body = node.body[1:] if ast.get_docstring(node) is not None else node.body
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0  # type: ignore[operator]


def parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    arguments = node.args
    return len(arguments.posonlyargs) + len(arguments.args) + len(arguments.kwonlyargs)


def name(file: Path) -> str:
    return file.relative_to(SOURCE).as_posix()


def test_files_are_short() -> None:
    every = [*FILES, *TESTS]
    long = {str(f.relative_to(ROOT)): n for f in every if (n := len(f.read_text("utf-8").splitlines())) > MAX_FILE}
    assert long == {}


def test_functions_are_short() -> None:
    long = {
        f"{name(file)}:{node.name}": n
        for file in FILES
        for node in functions(file)
        if (n := code_lines(node)) > MAX_FUNCTION
    }
    assert long == {}


def test_functions_take_few_parameters() -> None:
    many = {
        f"{name(file)}:{node.name}": n
        for file in FILES
        if FLAGS not in file.parents and SOURCE / "nets" not in file.parents
        for node in functions(file)
        if (n := parameters(node)) > MAX_PARAMETERS
    }
    assert many == {}


def test_public_functions_take_no_kwargs() -> None:
    loose = [
        f"{name(file)}:{node.name}"
        for file in FILES
        for node in functions(file)
        if node.args.kwarg is not None and not node.name.startswith("_")
    ]
    assert loose == []


def test_everything_is_annotated() -> None:
    bare = []
    for file in FILES:
        for node in functions(file):
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            untyped = [a.arg for a in arguments if a.annotation is None and a.arg not in ("self", "cls")]
            if node.returns is None or untyped:
                bare.append(f"{name(file)}:{node.name}")
    assert bare == []


def test_modules_have_honest_names() -> None:
    assert [name(f) for f in FILES if f.stem in FORBIDDEN_NAMES] == []


def test_modules_and_public_functions_have_docstrings() -> None:
    silent = [name(f) for f in FILES if ast.get_docstring(ast.parse(f.read_text(encoding="utf-8"))) is None]
    assert silent == []


@pytest.mark.parametrize("file", [f for f in FILES if name(f).split("/")[0] not in TORCH_HOMES], ids=name)
def test_torch_is_imported_at_module_level_only_where_it_belongs(file: Path) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    imported = set()
    for node in tree.body:
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported.add(node.module.split(".")[0])
    assert imported.isdisjoint({"torch", "transformers"})


def test_no_except_swallows_everything() -> None:
    broad = []
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ExceptHandler):
                kind = node.type
                if kind is None or (isinstance(kind, ast.Name) and kind.id in ("Exception", "BaseException")):
                    broad.append(f"{name(file)}:{node.lineno}")
    assert broad == []


def test_only_one_module_imports_by_string() -> None:
    dynamic = [name(f) for f in FILES if "import_module(" in f.read_text(encoding="utf-8")]
    assert dynamic == ["load/loading.py"]


def test_no_code_is_trusted_from_a_checkpoint() -> None:
    for file in FILES:
        text = file.read_text(encoding="utf-8")
        assert "trust_remote_code=True" not in text, name(file)
        assert "pickle.load" not in text, name(file)
        assert "weights_only=False" not in text, name(file)


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, encoding="utf-8", timeout=60, check=True
    )
    return done.stdout.strip()


def test_importing_and_listing_is_light() -> None:
    heavy = "{'torch', 'transformers', 'sklearn', 'scipy', 'pyarrow', 'huggingface_hub'}"
    assert run(f"import sys, anmok; anmok.cards(); print(sorted({heavy} & set(sys.modules)))") == "[]"


def test_public_names_are_a_tested_list() -> None:
    import anmok

    assert anmok.__all__ == sorted(anmok.__all__)
    for public in anmok.__all__:
        assert getattr(anmok, public) is not None
