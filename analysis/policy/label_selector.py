"""Label selectors as the Kubernetes API writes them: `matchLabels` and `matchExpressions`, all of which must hold.

A label that is absent satisfies `NotIn` and `DoesNotExist`; `In` with an empty value needs the label to be there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeAlias

from analysis.words import listed


class Operator(str, Enum):
    """Of a requirement, as the API spells it."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    ABSENT = "DoesNotExist"


_OPPOSITES = {
    Operator.IN: Operator.NOT_IN,
    Operator.NOT_IN: Operator.IN,
    Operator.EXISTS: Operator.ABSENT,
    Operator.ABSENT: Operator.EXISTS,
}


@dataclass(frozen=True)
class Requirement:
    """What one label must be like."""

    key: str
    operator: Operator
    values: frozenset[str] = frozenset()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether labels satisfy it."""
        value = labels.get(self.key)
        if self.operator is Operator.IN:
            return value in self.values
        if self.operator is Operator.NOT_IN:
            return value is None or value not in self.values
        return (value is None) is (self.operator is Operator.ABSENT)

    @property
    def negation(self) -> Requirement:
        """What holds exactly where it does not."""
        return Requirement(self.key, _OPPOSITES[self.operator], self.values)

    def __str__(self) -> str:
        values = ", ".join(sorted(self.values))
        if self.operator in (Operator.IN, Operator.NOT_IN):
            return f"{self.key} {'in' if self.operator is Operator.IN else 'not in'} ({values})"
        return f"{self.key} {'exists' if self.operator is Operator.EXISTS else 'does not exist'}"


Selector: TypeAlias = tuple[Requirement, ...]
"""Requirements that must all hold; the empty one selects everything."""


def equals(key: str, *values: str) -> Requirement:
    """The label has one of these values."""
    return Requirement(key, Operator.IN, frozenset(values))


def exists(key: str) -> Requirement:
    """The label is there, whatever its value."""
    return Requirement(key, Operator.EXISTS)


def read_selector(document: Mapping[str, Any] | None, prefix: str = "") -> Selector:
    """A selector of the API; `prefix` is put before every key (labels of namespaces have one).

    Raises:
        ValueError: an operator that there is not.
    """
    document = document or {}
    equal = (equals(prefix + key, str(value)) for key, value in (document.get("matchLabels") or {}).items())
    expressions = (
        Requirement(
            prefix + each["key"],
            Operator(each["operator"]),
            frozenset(str(value) for value in each.get("values") or ()),
        )
        for each in document.get("matchExpressions") or ()
    )
    return (*equal, *expressions)


def matches(selector: Selector, labels: Mapping[str, str]) -> bool:
    """Whether labels satisfy all of it."""
    return all(requirement.matches(labels) for requirement in selector)


def conflict(selector: Selector) -> str:
    """Why no labels whatever can satisfy it, in words; "" when some can.

    Keys are independent of each other, and of each key a handful of sets says all, so this is exact.
    """
    for key in dict.fromkeys(requirement.key for requirement in selector):
        of_key = [requirement for requirement in selector if requirement.key == key]
        by = {operator: [each for each in of_key if each.operator is operator] for operator in Operator}
        present = by[Operator.IN] or by[Operator.EXISTS]
        if present and by[Operator.ABSENT]:
            return f'the label "{key}" would have to be there and be absent at once'
        if not by[Operator.IN]:
            continue
        allowed = frozenset.intersection(*(each.values for each in by[Operator.IN]))
        if not allowed:
            sides = listed([_choice(each.values) for each in by[Operator.IN]])
            return f'the label "{key}" cannot be {sides} at once: a label has one value'
        refused = frozenset().union(*(each.values for each in by[Operator.NOT_IN]))
        if allowed <= refused:
            return f'the label "{key}" would have to be {_choice(allowed)} and must not be'
    return ""


def implies(left: Selector, right: Selector) -> bool:
    """Whether all labels that satisfy `left` satisfy `right`."""
    return all(_settles(left, requirement) for requirement in right) or bool(conflict(left))


def _settles(selector: Selector, requirement: Requirement) -> bool:
    """Whether what a selector says of that very label leaves nothing but what is required."""
    of_key = [each for each in selector if each.key == requirement.key]
    return requirement in of_key or bool(conflict((*of_key, requirement.negation)))


def _choice(values: Iterable[str]) -> str:
    return " or ".join(f'"{value}"' for value in sorted(values)) or "a value out of none"
