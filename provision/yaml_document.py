"""A YAML file as plain data that still knows on which line each value was written."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from provision.environment_errors import EnvironmentFileError, Location, Problem, shown

MERGE_KEY = "<<"

_SECRET_KEY = re.compile(
    r"^(.*[-_])?(token|password|passwd|passphrase|secret|secret[-_]?key|access[-_]?key|api[-_]?key|private[-_]?key"
    r"|client[-_]key[-_]data|client[-_]certificate[-_]data|credentials?)$",
    re.IGNORECASE,
)
_SECRET_VALUES = (
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"), "a private key"),
    (re.compile(r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]{8,}"), "a token (JWT)"),
    (re.compile(r"\b(AKIA|ASIA)[A-Z0-9]{16}\b"), "an AWS access key"),
    (re.compile(r"\w+://[^/\s:@]+:[^/\s@]+@"), "a password in a URL"),
)
_NOT_SECRET = frozenset({"pull_secret", "node_secret", "client_secret"})


@dataclass(frozen=True)
class YamlDocument:
    """One YAML file, read.

    Attributes:
        path: the file.
        data: its content as dicts, lists and scalars.
        root: its node tree, for line numbers.
    """

    path: Path
    data: dict[Any, Any]
    root: yaml.MappingNode

    def line(self, location: Location) -> int:
        """The line, from 1, of the value at that location, or of the nearest part of the way that is there."""
        node: yaml.Node = self.root
        line = node.start_mark.line
        for part in location:
            step = _step(node, part)
            if step is None:
                break
            mark, node = step
            line = mark.start_mark.line
        return line + 1


def read_yaml(path: Path) -> YamlDocument:
    """Read a YAML file that holds one mapping.

    Raises:
        EnvironmentFileError: it cannot be read, is not YAML, says a key twice, or holds a secret.
    """
    text = _read_text(path)
    loader = yaml.SafeLoader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            raise EnvironmentFileError(path, [Problem((), "is empty", "an environment; copy one of environments/")])
        if not isinstance(root, yaml.MappingNode):
            raise EnvironmentFileError(
                path,
                [Problem((), "is not a mapping", "keys with values, beginning with name:", shown(text[:40]), 1)],
            )
        # Secrets first: nothing else that is said about the file may then quote one.
        if problems := list(_secrets(root)) or list(_doubled_keys(root)):
            raise EnvironmentFileError(path, problems)
        return YamlDocument(path, loader.construct_document(root), root)
    except yaml.YAMLError as error:
        raise EnvironmentFileError(path, [_syntax(error, text)]) from None
    finally:
        loader.dispose()


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise EnvironmentFileError(
            path, [Problem((), "is not UTF-8 text", "a YAML file saved as UTF-8", line=line)]
        ) from None
    except OSError as error:
        raise EnvironmentFileError(
            path, [Problem((), f"cannot be read: {error.strerror}", "a YAML file that you may read")]
        ) from None


def _syntax(error: yaml.YAMLError, text: str) -> Problem:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    number = mark.line if mark else 0
    written = text.splitlines()[number : number + 1]
    line = written[0] if written else ""
    if "\t" in line[: len(line) - len(line.lstrip())]:
        return Problem((), "is indented with a tab", "spaces; YAML allows no tabs there", shown(line), number + 1)
    if "single document" in (getattr(error, "context", None) or ""):
        return Problem((), "holds more than one document", "one, without a line of ---", shown(line), number + 1)
    if "could not determine a constructor" in problem:
        return Problem((), "has a YAML tag", "plain text, numbers, lists and mappings", shown(line), number + 1)
    hint = "YAML: keys with a colon and a space, items with a hyphen and a space, indented alike"
    return Problem((), f"is not YAML: {problem}", hint, shown(line), number + 1)


def _step(node: yaml.Node, part: str | int) -> tuple[yaml.Node, yaml.Node] | None:
    """From a node down to one of its parts: the node that marks the line, and the part."""
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part], node.value[part]
    if isinstance(node, yaml.MappingNode):
        # Merged keys (<<) come first in the list, so the last one of a name is the one that counts.
        for key, value in reversed(node.value):
            if isinstance(key, yaml.ScalarNode) and key.value == str(part):
                return key, value
    return None


def _walk(root: yaml.MappingNode) -> Iterator[tuple[Location, yaml.Node, yaml.Node]]:
    """Every (location, node that marks it, node) below the root; a node that is referred to often, once."""
    seen: set[int] = set()
    waiting: list[tuple[Location, yaml.Node, yaml.Node]] = [((), root, root)]
    while waiting:
        location, mark, node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        yield location, mark, node
        if isinstance(node, yaml.MappingNode):
            waiting += [((*location, str(key.value)), key, value) for key, value in node.value]
        elif isinstance(node, yaml.SequenceNode):
            waiting += [((*location, index), value, value) for index, value in enumerate(node.value)]


def _secrets(root: yaml.MappingNode) -> Iterator[Problem]:
    advice = "no secret: credentials belong in the kubeconfig; replace this one if others have seen the file"
    for location, mark, node in _walk(root):
        if not isinstance(node, yaml.ScalarNode):
            continue
        hidden = f"(hidden, {len(node.value)} characters)"
        line = mark.start_mark.line + 1
        named = next((what for pattern, what in _SECRET_VALUES if pattern.search(node.value)), None)
        if named:
            yield Problem(location, f"holds {named}", advice, hidden, line)
        elif location and str(location[-1]) not in _NOT_SECRET and _SECRET_KEY.match(str(location[-1])):
            yield Problem(location, "is a secret", advice, hidden, line)


def _doubled_keys(root: yaml.MappingNode) -> Iterator[Problem]:
    for location, _, node in _walk(root):
        if not isinstance(node, yaml.MappingNode):
            continue
        lines: dict[str, int] = {}
        for key, value in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            if name in lines and name != MERGE_KEY:
                written = value.value if isinstance(value, yaml.ScalarNode) else None
                yield Problem(
                    (*location, name), "is there twice", f"once; the first is on line {lines[name]}", written, line
                )
            lines.setdefault(name, line)
