"""YAML and JSON files as Kubernetes objects that remember the line of every field."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import yaml
from yaml.constructor import SafeConstructor

from analysis.policy.lint.findings import Finding, finding
from analysis.policy.read import ApiObject

FieldPath: TypeAlias = tuple[str | int, ...]
"""How a field is reached: ("spec", "ingress", 0, "source")."""


@dataclass(frozen=True)
class Manifest:
    """An object of a file.

    Attributes:
        lines: of its fields, counted from 1; those of a list's entries too.
        twice: fields that are written twice in the same place, of which readers keep the last.
    """

    file: str
    document: Mapping[str, Any]
    lines: Mapping[FieldPath, int]
    twice: tuple[FieldPath, ...] = ()

    @property
    def object(self) -> ApiObject:
        """It as an object of an API."""
        return ApiObject("", self.document, f"{self.file}:{self.line()}")

    @property
    def title(self) -> str:
        """Its kind and name, as a reader knows it."""
        read = self.object
        namespace = read.metadata.get("namespace")
        return f"{read.kind or 'object'} {f'{namespace}/' if namespace else ''}{read.name or '(no name)'}"

    def line(self, *path: str | int) -> int:
        """The line of a field, or of the nearest one around it."""
        for length in range(len(path), -1, -1):
            if (line := self.lines.get(path[:length])) is not None:
                return line
        return 1


@dataclass
class _Marks:
    """What a walk over the nodes of a document collects."""

    lines: dict[FieldPath, int] = field(default_factory=dict)
    twice: list[FieldPath] = field(default_factory=list)

    def walk(self, node: yaml.Node, path: FieldPath) -> None:
        self.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            seen = set()
            for key, value in node.value:
                inner = (*path, str(key.value))
                self.lines[inner] = key.start_mark.line + 1
                if key.value in seen:
                    self.twice.append(inner)
                seen.add(key.value)
                self.walk(value, inner)
        elif isinstance(node, yaml.SequenceNode):
            for number, value in enumerate(node.value):
                self.walk(value, (*path, number))


def read_manifests(file: str, text: str) -> Iterator[Manifest | Finding]:
    """The objects of a file, those in Lists one by one; a finding for what is no object.

    Args:
        file: its name, for findings.
        text: what is in it: YAML of one or many documents, or JSON.
    """
    try:
        for node in yaml.compose_all(text, yaml.SafeLoader):
            marks = _Marks()
            marks.walk(node, ())
            yield from _objects(file, SafeConstructor().construct_document(node), marks)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        yield finding("not-yaml", file, line, "", f"this cannot be read as YAML: {error.problem or error}")
    except yaml.YAMLError as error:
        yield finding("not-yaml", file, 1, "", f"this cannot be read as YAML: {error}")


def _objects(file: str, document: Any, marks: _Marks) -> Iterator[Manifest | Finding]:
    if document is None:
        return
    if not isinstance(document, Mapping):
        yield finding("no-object", file, marks.lines[()], "", "this is no Kubernetes object: no apiVersion, no kind")
        return
    items = document.get("items")
    if not (str(document.get("kind", "")).endswith("List") and isinstance(items, list)):
        yield Manifest(file, document, marks.lines, tuple(marks.twice))
        return
    for number, item in enumerate(items):
        prefix = ("items", number)
        inner = _Marks(
            {path[2:]: line for path, line in marks.lines.items() if path[:2] == prefix},
            [path[2:] for path in marks.twice if path[:2] == prefix],
        )
        yield from _objects(file, item, inner)
