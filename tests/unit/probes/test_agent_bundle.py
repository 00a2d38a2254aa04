"""The agent's modules, and the one text that is made of them."""

import ast
import builtins
import dis
from collections import Counter
from graphlib import CycleError
from pathlib import Path
from types import CodeType

import pytest

from probes import agent_bundle
from probes.agent_bundle import FOLDER, PACKAGE, agent_source

MODULES = {path.stem: path.read_text() for path in sorted(FOLDER.glob("*.py"))}


def defined(text):
    """The names that the statements of a module define, without those that it imports."""
    for statement in ast.parse(text).body:
        if isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
            yield statement.name
        else:
            for node in ast.walk(statement):
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                    yield node.id


def global_names(code):
    """The names that functions look up when they run, long after the text was read."""
    for instruction in dis.get_instructions(code):
        if instruction.opname == "LOAD_GLOBAL":
            yield instruction.argval
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from global_names(constant)


def test_no_name_is_defined_in_two_modules():
    times = Counter(name for text in MODULES.values() for name in set(defined(text)))
    assert [name for name, number in times.items() if number > 1] == []


def test_every_module_is_in_the_text():
    assert set(defined(agent_source())) == {name for text in MODULES.values() for name in defined(text)}


def test_modules_import_each_other_by_names_that_stay_the_same():
    for module, text in MODULES.items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith(PACKAGE):
                assert node.module.removeprefix(PACKAGE) in MODULES
                assert [name.asname for name in node.names if name.asname] == [], module


def test_everything_that_is_used_in_the_text_is_defined_there():
    code = compile(agent_source(), "<agent>", "exec")
    known = {"__name__": "agent"}
    exec(code, known)
    assert set(global_names(code)) - {*known, *vars(builtins)} == set()


def test_the_text_imports_each_module_once():
    imports = [
        name.asname or name.name
        for statement in ast.parse(agent_source()).body
        if isinstance(statement, (ast.Import, ast.ImportFrom))
        for name in statement.names
    ]
    assert len(imports) == len(set(imports))
    assert imports[0] == "annotations"


def test_modules_that_import_each_other_are_not_put_together(tmp_path: Path, monkeypatch):
    (tmp_path / "one.py").write_text("from probes.agent.other import b\n\na = 1\n")
    (tmp_path / "other.py").write_text("from probes.agent.one import a\n\nb = 2\n")
    monkeypatch.setattr(agent_bundle, "FOLDER", tmp_path)
    with pytest.raises(CycleError):
        agent_source.__wrapped__()


def test_only_what_the_pod_needs_is_left_of_a_module(tmp_path: Path, monkeypatch):
    (tmp_path / "first.py").write_text('"""Gone."""\n\nimport os\n\nONE = 1  # stays\n"""Stays."""\n')
    (tmp_path / "second.py").write_text(
        "from __future__ import annotations\n\nimport os\nfrom typing import TYPE_CHECKING, Any\n\n"
        "from probes.agent.first import (\n    ONE,\n)\n\n"
        "if TYPE_CHECKING:\n    import signal\nelse:\n    import _signal as signal\n\n\n"
        "def two() -> Any:\n    return ONE, signal\n"
    )
    monkeypatch.setattr(agent_bundle, "FOLDER", tmp_path)
    assert agent_source.__wrapped__() == (
        "from __future__ import annotations\n\nimport os\nimport _signal as signal\n\n\n"
        '# --- first ---\n\nONE = 1  # stays\n"""Stays."""\n\n\n'
        "# --- second ---\n\ndef two() -> Any:\n    return ONE, signal\n"
    )
