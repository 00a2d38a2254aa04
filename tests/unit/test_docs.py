"""What the documentation tells people to do can be done."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z-]+):.*## ", MAKEFILE, flags=re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_make_targets_that_are_named_exist(page: Path) -> None:
    named = set(re.findall(r"(?:`|^|: )make ([a-z-]+)", page.read_text(), flags=re.MULTILINE))
    assert named <= TARGETS


def test_readme_names_the_two_commands() -> None:
    assert {"verify", "test"} <= set(re.findall(r"^make ([a-z-]+)", (ROOT / "README.md").read_text(), re.MULTILINE))


def test_every_target_has_its_line_of_help_and_is_phony() -> None:
    rules = set(re.findall(r"^([a-z-]+):", MAKEFILE, flags=re.MULTILINE))
    phony = set(re.search(r"^\.PHONY: (.*)$", MAKEFILE, flags=re.MULTILINE)[1].split())
    assert rules == TARGETS == phony


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_options_that_are_named_exist(page: Path, pytestconfig: pytest.Config) -> None:
    """Every `--option` given to pytest in a command line is one that pytest knows here."""
    commands = re.findall(r"pytest suites/[^\n`]*", page.read_text())
    named = {option for command in commands for option in re.findall(r"(?<=\s)--[a-z-]+", command.partition("$(")[0])}
    known = {name for option in pytestconfig._parser._anonymous.options for name in option.names()}
    known |= {name for group in pytestconfig._parser._groups for option in group.options for name in option.names()}
    assert named <= known


def test_the_example_of_contributing_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """The judge and its tests are run as they are printed; the check is compiled."""
    judge, tests, check, *_ = re.findall(r"^```python\n(.*?)^```", (ROOT / "CONTRIBUTING.md").read_text(), re.M | re.S)
    module = ModuleType("analysis.mtu")
    exec(judge, module.__dict__)
    monkeypatch.setitem(sys.modules, "analysis.mtu", module)
    names: dict[str, object] = {}
    exec(tests, names)
    printed = [value for name, value in names.items() if name.startswith("test_") and callable(value)]
    assert len(printed) == 3
    for test in printed:
        test()
    compile(check, "CONTRIBUTING.md", "exec")
