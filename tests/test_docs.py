"""The documents do not lie: their commands parse, their links lead somewhere, their generated parts are fresh."""

from __future__ import annotations

import importlib.util
import re
import shlex
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from typer.main import get_command

from anmok.cli import app

ROOT = Path(__file__).parent.parent
README, README_KO = ROOT / "README.md", ROOT / "README.ko.md"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
_INLINE = re.compile(r"`(anmok [^`]+)`")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def shell_lines(page: Path) -> list[list[str]]:
    """The words of every line in the shell blocks of a page, comments left out."""
    blocks = (body for language, body in _FENCE.findall(text(page)) if language == "sh")
    lines = (shlex.split(line, comments=True) for block in blocks for line in block.splitlines())
    return [words for words in lines if words]


@cache
def commands() -> dict[str, Any]:
    found: dict[str, Any] = vars(get_command(app))["commands"]
    return found


def inline(page: Path) -> Iterator[list[str]]:
    """Commands that a sentence mentions, as far as the shell would split them."""
    for mention in _INLINE.findall(_FENCE.sub("", text(page))):
        yield shlex.split(mention)[1:]


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["generate"] = module
    spec.loader.exec_module(module)
    return module


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings: lower case, spaces to hyphens, punctuation dropped."""
    headings = _HEADING.findall(_FENCE.sub("", text(page)))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_generated_parts_are_fresh() -> None:
    assert [path.relative_to(ROOT).as_posix() for path in generator().stale()] == []


def test_a_stale_page_is_noticed_and_mended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = generator()
    page = tmp_path / "docs" / "models" / "index.md"
    page.parent.mkdir(parents=True)
    page.write_text("before\n<!-- generated: models -->\nold\n<!-- /generated -->\nafter\n", encoding="utf-8")
    gone = page.parent / "gone.md"
    gone.write_text("a family that was dropped\n", encoding="utf-8")
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "DOCS", tmp_path / "docs")
    monkeypatch.setattr(module, "WITH_PARTS", (page,))
    assert module.main(["--check"]) == 1
    assert page.read_text(encoding="utf-8").count("old") == 1  # a check writes nothing
    assert module.main([]) == 0
    assert module.main(["--check"]) == 0
    assert not gone.exists()
    assert page.read_text(encoding="utf-8").startswith("before\n<!-- generated: models -->\n| model |")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_parse(page: Path) -> None:
    for words in shell_lines(page):
        if words[0] == "anmok":
            command, rest = commands()[words[1]], words[2:]
            inner = vars(command).get("commands", {})
            if rest and rest[0] in inner:  # `anmok card new ...`
                command, rest = inner[rest[0]], rest[1:]
            command.make_context(words[1], rest)  # raises for an unknown option or a value of another type
    for words in inline(page):
        if words[0].startswith("-") or words[0].isupper():  # `anmok --debug COMMAND`, `anmok COMMAND --help`
            continue
        command = commands()[words[0]]
        command = vars(command).get("commands", {}).get((words[1:] or [""])[0], command)  # `anmok card new ...`
        known = {name for parameter in command.params for name in parameter.opts} | {"--help"}
        assert {word for word in words[1:] if word.startswith("-")} <= known


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", text(ROOT / "Makefile"), re.MULTILINE))
    mentioned = set(re.findall(r"(?:^|`)make ([a-z-]+)", text(page), re.MULTILINE))
    assert mentioned <= targets


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    for link in _LINK.findall(_FENCE.sub("", text(page))):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_both_readmes_have_the_same_commands() -> None:
    assert shell_lines(README_KO) == shell_lines(README)


def test_the_first_two_commands_are_demo_and_test() -> None:
    assert shell_lines(README)[:2] == [["make", "demo"], ["make", "test"]]


def test_python_of_the_readme_compiles_and_names_what_there_is() -> None:
    import anmok

    for page in (README, README_KO):
        [block] = [body for language, body in _FENCE.findall(text(page)) if language == "python"]
        compile(block, str(page), "exec")
        assert len(block.strip().splitlines()) == 10
        assert set(re.findall(r"\banmok\.(\w+)", block)) <= set(anmok.__all__)


def test_the_site_loads_nothing_from_elsewhere() -> None:
    settings = text(ROOT / "mkdocs.yml")
    assert "font: false" in settings
    assert "repo_url" not in settings  # the theme would ask its host for stars
    assert "://" not in settings
