"""Makes one text of the agent's modules for pods, where nothing but the standard library can be imported."""

from __future__ import annotations

import ast
from functools import cache
from graphlib import TopologicalSorter
from itertools import chain
from pathlib import Path

PACKAGE = "probes.agent."
FOLDER = Path(__file__).parent / "agent"


@cache
def agent_source() -> str:
    """All modules of the agent, each behind those that it imports. Raises CycleError when they go round in a circle."""
    modules = {path.stem: Module(path.read_text("utf-8")) for path in sorted(FOLDER.glob("*.py"))}
    order = list(TopologicalSorter({name: module.needs for name, module in modules.items()}).static_order())
    imports = dict.fromkeys(chain.from_iterable(modules[name].imports for name in order))
    bodies = [f"# --- {name} ---\n\n{modules[name].body}\n" for name in order if modules[name].body]
    return "\n\n".join(["\n".join(["from __future__ import annotations\n", *imports, ""]), *bodies])


class Module:
    """A module in its parts.

    Attributes:
        needs: names of the modules of the agent that it imports.
        imports: its imports of the standard library. Those of `typing` are left out: only annotations need them, and
            nothing evaluates those.
        body: everything else, without the module's docstring.
    """

    def __init__(self, text: str) -> None:
        self.needs: list[str] = []
        self.imports: list[str] = []
        # All imports stand before the first two empty lines; the rest is not read, which would take ten times as long.
        head, gap, rest = text.partition("\n\n\n")
        left_out: set[int] = set()
        for statement in ast.parse(head).body:
            if self._leaves_out(statement):
                left_out.update(range(statement.lineno, (statement.end_lineno or statement.lineno) + 1))
        kept = (line for number, line in enumerate(head.split("\n"), 1) if number not in left_out)
        self.body = ("\n".join(kept) + gap + rest).strip("\n")

    def _leaves_out(self, statement: ast.stmt) -> bool:
        """Whether it is no part of the body; what it imports is noted."""
        match statement:
            case ast.Expr(value=ast.Constant(value=str())):
                return statement.lineno == 1
            case ast.ImportFrom(module="__future__" | "typing"):
                return True
            case ast.ImportFrom(module=str(module)) if module.startswith(PACKAGE):
                self.needs.append(module.removeprefix(PACKAGE))
                return True
            case ast.Import() | ast.ImportFrom():
                self.imports.append(ast.unparse(statement))
                return True
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                return all(self._leaves_out(otherwise) for otherwise in statement.orelse)
        return False
