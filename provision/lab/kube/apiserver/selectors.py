"""Label and field selectors: parsed once, asked often."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from provision.lab.kube.apiserver.errors import bad_request

_REQUIREMENT = re.compile(
    r"""\s*(?:
        (?P<absent>!)\s*(?P<absent_key>[\w./-]+)
      | (?P<key>[\w./-]+)\s*(?:
            (?P<operator>==|=|!=)\s*(?P<value>[\w.-]*)
          | (?P<set>in|notin)\s*\((?P<values>[^()]*)\)
        )?
    )\s*""",
    re.VERBOSE,
)
_COMMAS_OUTSIDE_SETS = re.compile(r",(?![^(]*\))")
_FIELD = re.compile(r"\s*(?P<path>[\w.]+?)\s*(?P<operator>!=|==|=)(?P<value>.*)")


@dataclass(frozen=True, slots=True)
class LabelRequirement:
    """One term: the value of `key` must be among `values`, or, when `negated`, must not be.

    Without `values` the term asks for the key alone. An absent label has no value, so it fulfils every negated term.
    """

    key: str
    negated: bool
    values: frozenset[str] | None

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether the labels fulfil this term."""
        if self.values is None:
            return (self.key in labels) != self.negated
        return (labels.get(self.key) in self.values) != self.negated


@dataclass(frozen=True, slots=True)
class LabelSelector:
    """All terms must hold; without terms everything matches."""

    requirements: tuple[LabelRequirement, ...] = ()

    @classmethod
    def parse(cls, text: str) -> LabelSelector:
        """Read a selector such as "app=db,tier in (a,b),!legacy".

        Raises:
            ApiError: 400, the text is not a selector.
        """
        terms = [term for term in _COMMAS_OUTSIDE_SETS.split(text) if term.strip()]
        return cls(tuple(_label_requirement(term, text) for term in terms))

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether an object with these labels is selected."""
        return all(requirement.matches(labels) for requirement in self.requirements)


def _label_requirement(term: str, text: str) -> LabelRequirement:
    found = _REQUIREMENT.fullmatch(term)
    if found is None:
        raise bad_request(f"unable to parse requirement {term.strip()!r} of label selector {text!r}")
    if found["absent"]:
        return LabelRequirement(found["absent_key"], negated=True, values=None)
    if found["operator"]:
        return LabelRequirement(found["key"], found["operator"] == "!=", frozenset([found["value"]]))
    if found["set"]:
        values = frozenset(value.strip() for value in found["values"].split(","))
        return LabelRequirement(found["key"], found["set"] == "notin", values)
    return LabelRequirement(found["key"], negated=False, values=None)


@dataclass(frozen=True, slots=True)
class FieldRequirement:
    """One term: the field at `path` must (or, `negated`, must not) read `value`; an absent field reads ""."""

    path: tuple[str, ...]
    negated: bool
    value: str

    def matches(self, obj: Mapping[str, Any]) -> bool:
        """Whether the object fulfils this term."""
        value: Any = obj
        for name in self.path:
            value = value.get(name) if isinstance(value, dict) else None
        return (_as_text(value) == self.value) != self.negated


def _as_text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


@dataclass(frozen=True, slots=True)
class FieldSelector:
    """All terms must hold; without terms everything matches."""

    requirements: tuple[FieldRequirement, ...] = ()

    @classmethod
    def parse(cls, text: str) -> FieldSelector:
        """Read a selector such as "spec.nodeName=node-1,status.phase!=Failed".

        Raises:
            ApiError: 400, the text is not a selector.
        """
        requirements = []
        for term in filter(str.strip, text.split(",")):
            found = _FIELD.fullmatch(term)
            if found is None:
                raise bad_request(f"invalid field selector {text!r}: can't understand {term.strip()!r}")
            negated = found["operator"] == "!="
            requirements.append(FieldRequirement(tuple(found["path"].split(".")), negated, found["value"].strip()))
        return cls(tuple(requirements))

    def limited_to(self, selectable: Collection[str]) -> FieldSelector:
        """This selector, provided that it asks for such fields only.

        A real API server knows a few for each kind, and to accept more would hide a mistake of the client.

        Raises:
            ApiError: 400, it names another field.
        """
        for requirement in self.requirements:
            path = ".".join(requirement.path)
            if path not in selectable:
                raise bad_request(f"field label not supported: {path}")
        return self

    @property
    def name(self) -> str:
        """The object name that "metadata.name=NAME" asks for, else ""."""
        for requirement in self.requirements:
            if requirement.path == ("metadata", "name") and not requirement.negated:
                return requirement.value
        return ""

    def matches(self, obj: Mapping[str, Any]) -> bool:
        """Whether the object is selected."""
        return all(requirement.matches(obj) for requirement in self.requirements)


@dataclass(frozen=True, slots=True)
class Selection:
    """What a list or a watch asks for within one kind."""

    namespace: str | None = None
    labels: LabelSelector = LabelSelector()
    fields: FieldSelector = FieldSelector()

    def matches(self, obj: Mapping[str, Any]) -> bool:
        """Whether the object is among those asked for."""
        metadata = obj["metadata"]
        return (
            (self.namespace is None or metadata.get("namespace") == self.namespace)
            and self.fields.matches(obj)
            and self.labels.matches(metadata.get("labels") or {})
        )
